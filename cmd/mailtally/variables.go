package main

import (
	"reflect"
	"regexp"
	"slices"
	"strings"
)

// variable is an environment variable, as config's tags describe it.
type variable struct {
	name, preset, help string
	readers            []string // commands; dev, which reads all, is not listed
}

func (v variable) readBy(command string) bool {
	return command == "dev" || slices.Contains(v.readers, command)
}

func variables() (list []variable) {
	for _, field := range reflect.VisibleFields(reflect.TypeFor[config]()) {
		if name := field.Tag.Get("env"); name != "" {
			list = append(list, variable{
				name: name, preset: field.Tag.Get("envDefault"), help: field.Tag.Get("help"),
				readers: strings.Fields(field.Tag.Get("for")),
			})
		}
	}
	return list
}

// everyday are first words of our variables that other programs use too. A variable
// that begins with one is reported only if it is nearly one of ours.
var everyday = []string{"ADMIN", "DATABASE", "HTTP", "LOG", "MIGRATE"}

// foreign matches names that begin as ours do and belong to something else: what
// Kubernetes and Docker set for a service called kafka, the options of Kafka's own
// tools, and the key with which an application sends.
var foreign = regexp.MustCompile(`_SERVICE_(HOST|PORT)(_|$)|_PORT(_\d+_(TCP|UDP|SCTP)(_|$)|$)|_OPTS$|_API_KEY$|_TOKEN$`)

// unknownVariables lists the variables that begin as ours do and are not ours, each
// with the closest of ours. Another program's variable costs one log line, which is
// cheaper than a misspelling that nobody hears of.
func unknownVariables(environ map[string]string) (unknown []string) {
	for name := range environ {
		if strings.HasPrefix(name, byteOrderMark) {
			unknown = append(unknown, strings.TrimPrefix(name, byteOrderMark)+": its name begins with a byte order mark, which cannot be seen")
			continue
		}
		word, _, hasMore := strings.Cut(name, "_")
		ours := slices.DeleteFunc(variables(), func(v variable) bool { return !strings.HasPrefix(v.name, word+"_") })
		if !hasMore || len(ours) == 0 || foreign.MatchString(name) {
			continue
		}
		distance := func(v variable) int { return editDistance(name, v.name) }
		nearest := slices.MinFunc(ours, func(a, b variable) int { return distance(a) - distance(b) })
		if d := distance(nearest); d > 2 && slices.Contains(everyday, word) || d == 0 {
			continue
		}
		unknown = append(unknown, name+": the nearest known is "+nearest.name)
	}
	slices.Sort(unknown)
	return unknown
}

// editDistance is the Levenshtein distance: how many letters to insert, remove or
// replace.
func editDistance(a, b string) int {
	row := make([]int, len(b)+1) // distances from a prefix of a to each prefix of b
	for j := range row {
		row[j] = j
	}
	for i := range a {
		diagonal := row[0]
		row[0] = i + 1
		for j := range b {
			replaced := diagonal
			if a[i] != b[j] {
				replaced++
			}
			diagonal, row[j+1] = row[j+1], min(replaced, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
