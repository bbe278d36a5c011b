// Command presencectl tries out policies and scenarios without an application.
//
//	presencectl simulate lunch.txt              run a scenario on the pure core
//	presencectl simulate -live lunch.txt        the same through a whole tracker
//	presencectl simulate -svg lunch.svg lunch.txt
//	presencectl policy                          list the presets
//	presencectl policy respondio                print one as JSON
//	presencectl policy ./lunch.json             check a policy and print it whole
//	presencectl grammar                         print the language of scenarios
//	presencectl journal presence.db ann         print what happened, from a file of adapters/sqlite
//	presencectl drill                           route work through a bad day, and check every step
//	presencectl load                            put load on a server over WebSockets, and check what everybody saw
//
// It exits with 1 at the first expectation that fails and after a drill or a load
// that found a fault, and with 2 where a command, a file or a policy cannot be
// understood.
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
	"strings"
	_ "time/tzdata" // for the opening hours of scenarios, wherever this runs

	"github.com/presence-go/presence/cmd/presencectl/internal/load"
	"github.com/presence-go/presence/presencetest/scenario"
	"github.com/presence-go/presence/preset"
)

const usage = `usage:
  presencectl simulate [-live] [-svg OUT] FILE...   run scenario files
  presencectl policy [NAME | FILE.json]             list the presets, or print a policy
  presencectl grammar                               print the language of scenario files
  presencectl journal [-tenant T] [-from T] [-to T] FILE [SUBJECT]
                                                    print what happened, as JSON, from a file of adapters/sqlite
  presencectl drill [-agents N] [-work N] [-seed N] route work through a bad day, and check every step
  presencectl load [-serve] [-agents N] [-visitors N] [-for D] [-svg OUT] [-json OUT] ...
                                                    put load on a server over WebSockets; -h lists all flags
`

// What the command exits with.
const (
	exitFine   = 0
	exitFailed = 1 // an expectation did not hold
	exitWrong  = 2 // what was asked for cannot be done
)

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

func run(args []string, stdout, stderr io.Writer) int {
	if len(args) == 0 {
		fmt.Fprint(stderr, usage)
		return exitWrong
	}
	var err error
	switch command, args := args[0], args[1:]; command {
	case "simulate":
		err = simulate(args, stdout, stderr)
	case "policy":
		err = policy(args, stdout, stderr)
	case "grammar":
		if len(args) > 0 {
			err = fmt.Errorf("grammar takes no arguments, got %q", args)
			break
		}
		fmt.Fprint(stdout, scenario.Grammar())
	case "journal":
		err = journal(args, stdout)
	case "drill":
		err = drill(args, stdout)
	case "load":
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
		context.AfterFunc(ctx, stop) // the second time it ends at once
		err = load.Command(ctx, args, stdout, stderr)
		stop()
	case load.ServerCommand:
		err = load.Serve(args, os.Stdin, stdout)
	case "help", "-h", "-help", "--help":
		fmt.Fprint(stdout, usage)
	default:
		err = fmt.Errorf("unknown command %q; want simulate, policy, grammar, journal, drill or load", command)
	}
	if err == nil || errors.Is(err, flag.ErrHelp) {
		return exitFine
	}
	fmt.Fprintln(stderr, "presencectl:", err)
	if _, failed := errors.AsType[*scenario.Failure](err); failed || errors.Is(err, errDrill) || errors.Is(err, load.ErrFaults) {
		return exitFailed
	}
	return exitWrong
}

// simulate runs files one after the other and stops at the first that does not
// pass. What has happened until then is drawn all the same.
func simulate(args []string, stdout, stderr io.Writer) error {
	flags := flag.NewFlagSet("simulate", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	live := flags.Bool("live", false, "run through a whole tracker instead of the pure core")
	svg := flags.String("svg", "", "draw what happened into this file")
	files, err := parse(flags, args, stdout)
	if err != nil {
		return err
	}
	if len(files) == 0 {
		return errors.New("simulate: no file is given; want presencectl simulate [-live] [-svg OUT] FILE")
	}
	var results []*scenario.Result
	var failed error
	for _, name := range files {
		result, err := scenario.RunFile(context.Background(), name, scenario.Options{Live: *live})
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

// policy lists the presets, or prints one or what a file makes of one.
func policy(args []string, stdout, stderr io.Writer) error {
	flags := flag.NewFlagSet("policy", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	names, err := parse(flags, args, stdout)
	if err != nil {
		return err
	}
	if len(names) == 0 {
		for _, name := range preset.Names() {
			fmt.Fprintln(stdout, name)
		}
		return nil
	}
	if len(names) > 1 {
		return fmt.Errorf("policy: want one name or file, got %d", len(names))
	}
	name := names[0]
	p, found := preset.Lookup(name)
	if !found {
		if !strings.HasSuffix(name, ".json") {
			return fmt.Errorf("policy: there is no preset %q; want one of %s, or a file that ends in .json", name, strings.Join(preset.Names(), ", "))
		}
		data, err := os.ReadFile(name)
		if err != nil {
			return fmt.Errorf("policy: %w", err)
		}
		var unknown []string
		if p, unknown, err = preset.Parse(data); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		for _, key := range unknown {
			fmt.Fprintf(stderr, "presencectl: warning: %s: unknown key %s is ignored\n", name, key)
		}
	}
	data, err := p.JSON()
	if err != nil {
		return err
	}
	_, err = stdout.Write(data)
	return err
}

// parse reads flags, which may stand between and behind the other arguments,
// and returns those. Where help is asked for it prints the usage.
func parse(flags *flag.FlagSet, args []string, stdout io.Writer) (rest []string, err error) {
	for {
		err := flags.Parse(args)
		switch {
		case errors.Is(err, flag.ErrHelp):
			fmt.Fprint(stdout, usage)
			return nil, err
		case err != nil:
			return nil, fmt.Errorf("%s: %w", flags.Name(), err)
		case flags.NArg() == 0:
			return rest, nil
		}
		rest = append(rest, flags.Arg(0))
		args = flags.Args()[1:]
	}
}
