package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// logKeys lists the keys that a line may have beside time, level and msg.
var logKeys = []string{
	// Where: in Kafka, in PostgreSQL, in which part of the process.
	"topic", "partition", "offset", "next_offset", "records", "group", "partitions", "owned", "tables", "component", "member", "broker",
	// What and why.
	"reason", "type", "provider", "error", "other_errors", "differs", "kafka",
	// How often, how long.
	"repeated", "tries", "duration", "retry_in", "session_timeout",
	// The settings with which a process runs.
	"version", "schema_version", "variables", "brokers", "tls", "sasl", "dead_letter_topic", "database", "writers", "max_batch", "max_refused", "http_addr", "admin_addr",
}

// Every message that the product logs is constant, since repeats are recognized by it,
// and every key is on the list. All loggers are called log so that this test can find
// them; that is checked too.
func TestLogKeys(t *testing.T) {
	t.Parallel()
	used := map[string]bool{"repeated": true, "other_errors": true, "kafka": true} // by the limit, and by the Kafka client
	for _, dir := range []string{".", "../../consumer", "../../producer", "../../tracking"} {
		files, err := filepath.Glob(filepath.Join(dir, "*.go"))
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: %d files, %v", dir, len(files), err)
		}
		for _, name := range files {
			if strings.HasSuffix(name, "_test.go") {
				continue
			}
			source, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			set := token.NewFileSet()
			file, err := parser.ParseFile(set, name, source, parser.SkipObjectResolution)
			if err != nil {
				t.Fatal(err)
			}
			ast.Inspect(file, func(n ast.Node) bool {
				call, isCall := n.(*ast.CallExpr)
				if !isCall {
					return true
				}
				// (kafkalog.go passes on the Kafka client's lines.)
				if name := hiddenLogger(call); name != "" && (name != "Logger.Log" || filepath.Base(set.Position(call.Pos()).Filename) != "kafkalog.go") {
					t.Errorf("%s: %s is not a logger called log, whose keys can be checked", set.Position(call.Pos()), name)
				}
				method := loggerMethod(call)
				args := call.Args
				if method == "" || method == "Handler" {
					return true
				}
				at := set.Position(call.Pos())
				if method != "With" {
					if len(args) == 0 || literal(args[0]) == "" {
						t.Errorf("%s: the message is not constant", at)
						return true
					}
					args = args[1:]
				}
				if call.Ellipsis.IsValid() || len(args)%2 != 0 {
					t.Errorf("%s: keys and values cannot be told apart", at)
					return true
				}
				for i := 0; i < len(args); i += 2 {
					key := literal(args[i])
					used[key] = true
					if !slices.Contains(logKeys, key) {
						t.Errorf("%s: key %q is not in the list", at, key)
					}
				}
				return true
			})
		}
	}
	for _, key := range logKeys {
		if !used[key] {
			t.Errorf("key %q is in the list, but nothing uses it", key)
		}
	}
}

// loggerMethod is the name of the method called, if its receiver is called log, as all
// loggers here are.
func loggerMethod(call *ast.CallExpr) string {
	method, isMethod := call.Fun.(*ast.SelectorExpr)
	if !isMethod {
		return ""
	}
	switch of := method.X.(type) {
	case *ast.Ident:
		if of.Name != "log" {
			return ""
		}
	case *ast.SelectorExpr:
		if of.Sel.Name != "log" {
			return ""
		}
	case *ast.CallExpr: // log.With(…).Info(…), withSettings(log, c).Info(…)
		if f, isFunction := of.Fun.(*ast.Ident); loggerMethod(of) != "With" && (!isFunction || f.Name != "withSettings") {
			return ""
		}
	default:
		return ""
	}
	return method.Sel.Name
}

// logMethods write a line.
var logMethods = []string{"Debug", "Info", "Warn", "Error", "Log", "LogAttrs", "DebugContext", "InfoContext", "WarnContext", "ErrorContext"}

// hiddenLogger names a call that logs without loggerMethod seeing it: a function of
// package slog, a logger of another name, or LogAttrs and the like.
func hiddenLogger(call *ast.CallExpr) string {
	method, isMethod := call.Fun.(*ast.SelectorExpr)
	if !isMethod {
		return ""
	}
	of := ""
	switch x := method.X.(type) {
	case *ast.Ident:
		of = x.Name
	case *ast.SelectorExpr:
		of = x.Sel.Name
	}
	isSlog := of == "slog" && (slices.Contains(logMethods, method.Sel.Name) || method.Sel.Name == "With" || method.Sel.Name == "Default")
	isOther := strings.HasSuffix(strings.ToLower(of), "logger") && slices.Contains(append(logMethods, "With"), method.Sel.Name)
	isOdd := of == "log" && slices.Contains(logMethods[4:], method.Sel.Name)
	if isSlog || isOther || isOdd {
		return of + "." + method.Sel.Name
	}
	return ""
}

func literal(e ast.Expr) string {
	if l, isLiteral := e.(*ast.BasicLit); isLiteral && l.Kind == token.STRING {
		text, _ := strconv.Unquote(l.Value)
		return text
	}
	return ""
}
