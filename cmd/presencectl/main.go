// Command presencectl tries out policies and scenarios without an application,
// reads and erases what a file of adapters/sqlite holds, and puts load on a server.
//
//	presencectl simulate lunch.txt              run a scenario on the pure core
//	presencectl simulate -live lunch.txt        the same through a whole tracker
//	presencectl simulate -svg lunch.svg lunch.txt
//	presencectl policy                          list the presets
//	presencectl policy respondio                print one as JSON
//	presencectl policy ./lunch.json             print a policy with its defaults
//	presencectl policy -check ./lunch.json      check a policy
//	presencectl policy -diff slack ./lunch.json list the paths at which two policies differ
//	presencectl grammar                         print the language of scenarios
//	presencectl journal presence.db ann         print the journal, as JSON
//	presencectl report -from 2026-01-05T00:00:00Z -to 2026-01-06T00:00:00Z presence.db
//	presencectl explain presence.db ann         print why a subject has its status
//	presencectl erase presence.db ann           delete all that is stored of a subject
//	presencectl drill                           route work through a bad day, and check every step
//	presencectl load                            put load on a server over WebSockets, and check every client's list
//	presencectl version                         print the version
//
// "presencectl COMMAND -h" lists the flags of a command. The command exits with 1
// if an expectation fails, if two policies differ, or if a drill or a load finds a
// fault. It exits with 2 if it cannot do what the arguments ask for.
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	_ "time/tzdata" // for opening hours in scenarios, on systems without time zones

	"github.com/presence-go/presence/cmd/presencectl/internal/load"
	"github.com/presence-go/presence/presencetest/scenario"
)

// The exit codes.
const (
	exitFine   = 0
	exitFailed = 1 // an expectation did not hold
	exitWrong  = 2 // the command cannot do what the arguments ask for
)

// command is one of the commands.
type command struct {
	name, args string
	about      string // one line
	// prepare declares the flags. It returns the function that runs the command
	// with the remaining arguments.
	prepare func(*flag.FlagSet) action
}

type action func(ctx context.Context, args []string, stdout, stderr io.Writer) error

var commands = []command{
	{"simulate", "[FLAGS] FILE...", "run scenario files", simulate},
	{"policy", "[FLAGS] [NAME | FILE.json]...", "list the presets; print, check or compare policies", policy},
	{"grammar", "", "print the language of scenario files", grammar},
	{"journal", "[FLAGS] FILE [SUBJECT]", "print the journal, one row a line as JSON, from a file of adapters/sqlite", journal},
	{"report", "-from T -to T [FLAGS] FILE [SUBJECT...]", "print how long each subject had each status, from a file of adapters/sqlite", reports},
	{"explain", "[FLAGS] FILE SUBJECT", "print why a server that starts now with a file of adapters/sqlite shows a subject's status", explain},
	{"erase", "[FLAGS] FILE SUBJECT...", "delete the records and journals of subjects from a file of adapters/sqlite that no server has open", erase},
	{"drill", "[FLAGS]", "route work through a bad day in virtual time, and check every step", drill},
	{"load", "[FLAGS]", "put load on a server over WebSockets, and check every client's list", nil},
	{"version", "", "print the version", version},
}

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

func run(args []string, stdout, stderr io.Writer) int {
	if len(args) == 0 {
		usage(stderr)
		return exitWrong
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	context.AfterFunc(ctx, stop) // a second interrupt ends the process at once
	err := execute(ctx, args[0], args[1:], stdout, stderr)
	if err == nil {
		return exitFine
	}
	fmt.Fprintln(stderr, "presencectl:", err)
	_, failed := errors.AsType[*scenario.Failure](err)
	if failed || errors.Is(err, errDrill) || errors.Is(err, errDiffer) || errors.Is(err, load.ErrFaults) {
		return exitFailed
	}
	return exitWrong
}

func execute(ctx context.Context, name string, args []string, stdout, stderr io.Writer) error {
	switch name {
	case "load": // it reads its own flags, and reports all errors in them
		err := load.Command(ctx, args, stdout, stderr)
		if errors.Is(err, flag.ErrHelp) {
			return nil
		}
		return err
	case load.ServerCommand:
		return load.Serve(args, os.Stdin, stdout)
	case "help", "-h", "-help", "--help":
		usage(stdout)
		return nil
	}
	var names []string
	for _, c := range commands {
		if c.name == name {
			return c.execute(ctx, args, stdout, stderr)
		}
		names = append(names, c.name)
	}
	return fmt.Errorf("unknown command %q; allowed: %s", name, strings.Join(names, ", "))
}

// execute reads the flags, which may be anywhere between the arguments, and
// runs the command.
func (c *command) execute(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	flags := flag.NewFlagSet(c.name, flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	act := c.prepare(flags)
	var rest []string
	for {
		err := flags.Parse(args)
		switch {
		case errors.Is(err, flag.ErrHelp):
			c.help(flags, stdout)
			return nil
		case err != nil:
			return fmt.Errorf("%s: %w", c.name, err)
		}
		if flags.NArg() == 0 {
			break
		}
		rest = append(rest, flags.Arg(0))
		args = flags.Args()[1:]
	}
	err := act(ctx, rest, stdout, stderr)
	if errors.Is(err, errUsage) {
		return fmt.Errorf("%w; want %s", err, c.synopsis())
	}
	return err
}

// errUsage is wrapped by errors about the number of arguments.
var errUsage = errors.New("wrong arguments")

func (c *command) synopsis() string {
	return strings.TrimSuffix("presencectl "+c.name+" "+c.args, " ")
}

func (c *command) help(flags *flag.FlagSet, out io.Writer) {
	fmt.Fprintf(out, "usage: %s\n\n%s%s.\n", c.synopsis(), strings.ToUpper(c.about[:1]), c.about[1:])
	var list strings.Builder
	flags.SetOutput(&list)
	flags.PrintDefaults()
	if list.Len() > 0 {
		fmt.Fprintf(out, "\nflags:\n%s", &list)
	}
}

func usage(out io.Writer) {
	fmt.Fprintln(out, "usage:")
	for _, c := range commands {
		fmt.Fprintf(out, "  %s\n        %s\n", c.synopsis(), c.about)
	}
	fmt.Fprintln(out, "\n\"presencectl COMMAND -h\" lists the flags of a command.")
}

// none is the action of a command without arguments.
func none(name string, do func(stdout io.Writer) error) action {
	return func(_ context.Context, args []string, stdout, _ io.Writer) error {
		if len(args) > 0 {
			return fmt.Errorf("%s: %w: it takes none, got %q", name, errUsage, args)
		}
		return do(stdout)
	}
}

func grammar(*flag.FlagSet) action {
	return none("grammar", func(stdout io.Writer) error {
		_, err := fmt.Fprint(stdout, scenario.Grammar())
		return err
	})
}

func version(*flag.FlagSet) action {
	return none("version", func(stdout io.Writer) error {
		info, ok := debug.ReadBuildInfo()
		if !ok {
			info = &debug.BuildInfo{}
		}
		_, err := fmt.Fprintln(stdout, "presencectl", versionOf(info))
		return err
	})
}

// versionOf is the version of a build, with the revision of the source if the
// build has it.
func versionOf(info *debug.BuildInfo) string {
	text := info.Main.Version
	if text == "" {
		text = "(devel)"
	}
	vcs := make(map[string]string)
	for _, s := range info.Settings {
		vcs[s.Key] = s.Value
	}
	for _, key := range []string{"vcs.revision", "vcs.time"} {
		if vcs[key] != "" {
			text += " " + vcs[key]
		}
	}
	if vcs["vcs.modified"] == "true" {
		text += " modified"
	}
	return text
}

// simulate runs files one after the other, and stops at the first failure. The
// picture shows the files that ran.
func simulate(flags *flag.FlagSet) action {
	live := flags.Bool("live", false, "run through a whole tracker instead of the pure core")
	svg := flags.String("svg", "", "draw the statuses of all subjects into this `file`")
	return func(ctx context.Context, files []string, stdout, stderr io.Writer) error {
		if len(files) == 0 {
			return fmt.Errorf("simulate: %w: no file is given", errUsage)
		}
		var results []*scenario.Result
		var failed error
		for _, name := range files {
			result, err := scenario.RunFile(ctx, name, scenario.Options{Live: *live})
			if result != nil {
				results = append(results, result)
				for _, w := range result.Warnings {
					fmt.Fprintln(stderr, "presencectl: warning:", w.Error())
				}
			}
			if err != nil {
				failed = err
				break
			}
			fmt.Fprintf(stdout, "ok  %s  %d expectations\n", name, result.Held)
		}
		if *svg != "" && len(results) > 0 {
			var drawing bytes.Buffer
			if err := scenario.WriteSVG(&drawing, results...); err != nil {
				return errors.Join(failed, err)
			}
			if err := os.WriteFile(*svg, drawing.Bytes(), 0o644); err != nil {
				return errors.Join(failed, err)
			}
		}
		return failed
	}
}
