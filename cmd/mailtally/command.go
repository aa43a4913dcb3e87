package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"strings"
	"text/tabwriter"
)

// command is one of those that the first argument names.
type command struct {
	name, about string
	run         func(context.Context, *invocation) error
	defaults    map[string]string // defaults of variables, where this command has its own
}

// invocation is one run of a command.
type invocation struct {
	command
	flags          *flag.FlagSet // defined by the command before it calls begin
	args           []string
	environ        map[string]string
	stdout, stderr io.Writer
}

// begin parses the flags, reads the configuration and opens the log. Call flush
// before the last line, and at the end in any case: it writes the lines that the log
// limiter holds back.
func (i *invocation) begin(needs int) (c config, log *slog.Logger, flush func(), err error) {
	if err := i.parse(); err != nil {
		return c, nil, nil, err
	}
	c, err = loadConfig(i.withDefaults(), needs)
	unknown := unknownVariables(i.environ)
	if err != nil {
		if len(unknown) > 0 { // one of them may be why
			err = usageError{fmt.Errorf("%w\nvariables that mailtally does not know:\n    %s", err, strings.Join(unknown, "\n    "))}
		}
		return c, nil, nil, err
	}
	log, flush = newLogger(c, i.stderr)
	if len(unknown) > 0 {
		log.Warn("environment variables that mailtally does not know: misspelt?", "variables", unknown)
	}
	return c, log, flush, nil
}

// report says why the command has failed, in the format of its log: what collects the
// log has to understand this line above all.
func (i *invocation) report(err error) {
	for _, v := range variables() {
		if v.name == "LOG_FORMAT" && v.readBy(i.name) && cmp.Or(i.withDefaults()[v.name], v.preset) == "json" {
			log := slog.New(slog.NewJSONHandler(i.stderr, &slog.HandlerOptions{ReplaceAttr: safeErrors}))
			log.Error("ended by an error", "component", i.name, "error", err)
			return
		}
	}
	fmt.Fprintf(i.stderr, "mailtally %s: %s\n", i.name, safeText(err))
}

// parse parses the flags; nothing may follow them. If help was asked for, it prints
// the help and returns [flag.ErrHelp].
func (i *invocation) parse() error {
	i.flags.SetOutput(io.Discard)
	err := i.flags.Parse(i.args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		i.help()
		return err
	case err != nil:
		return usageError{err}
	case i.flags.NArg() > 0:
		return usageError{errors.New("takes no arguments: the configuration is in environment variables")}
	}
	return nil
}

func (i *invocation) help() {
	fmt.Fprintf(i.stdout, "mailtally %s: %s\n", i.name, i.about)
	var flags strings.Builder
	i.flags.SetOutput(&flags)
	i.flags.PrintDefaults()
	if flags.Len() > 0 {
		fmt.Fprintf(i.stdout, "\nFlags:\n%s", flags.String())
	}
	var read []variable
	for _, v := range variables() {
		if v.readBy(i.name) {
			read = append(read, v)
		}
	}
	if len(read) == 0 {
		return
	}
	fmt.Fprint(i.stdout, "\nEnvironment variables:\n")
	table := tabwriter.NewWriter(i.stdout, 0, 0, 2, ' ', 0)
	defer table.Flush()
	for _, v := range read {
		preset := v.preset
		if other, differs := i.defaults[v.name]; differs {
			preset = other
		}
		if preset != "" {
			preset = " (default " + preset + ")"
		}
		fmt.Fprintf(table, "  %s\t%s%s\n", v.name, v.help, preset)
	}
}

// withDefaults adds the command's defaults to the variables that are set.
func (i *invocation) withDefaults() map[string]string {
	environ := set(i.defaults)
	maps.Copy(environ, set(i.environ))
	return environ
}
