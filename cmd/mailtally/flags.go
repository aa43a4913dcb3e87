package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
)

// errHelpShown says that the user asked for help and got it.
var errHelpShown = flag.ErrHelp

// parseFlags parses a command's flags; nothing may follow them.
func parseFlags(flags *flag.FlagSet, args []string, stdout io.Writer) error {
	flags.SetOutput(io.Discard)
	err := flags.Parse(args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		fmt.Fprintf(stdout, "Flags of mailtally %s:\n", flags.Name())
		flags.SetOutput(stdout)
		flags.PrintDefaults()
		return errHelpShown
	case err != nil:
		return usageError{err}
	}
	return noArguments(flags.Args())
}

func noArguments(args []string) error {
	if len(args) > 0 {
		return usageError{fmt.Errorf("takes no argument, got %q; everything is set by environment variables", args)}
	}
	return nil
}
