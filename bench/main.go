// Command bench measures presence beside other libraries, beside code without a
// library, and beside the minimum that the machine allows. It reports which of
// the project's goals are reached.
//
//	go run ./bench             # everything, at full size: about an hour
//	go run ./bench -quick      # everything, at a tenth of the size: two minutes
//	go run ./bench -only G1,G7 -json figures.json
//	go run ./bench -curves DIR # how costs grow, with pictures
//	go run ./bench -million    # an hour of a million users
//
// README.md describes the experiments and how to read the figures.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
)

// families run one after the other. The memory of a family is freed before the
// next.
var families = []struct {
	goals []string
	run   func(*runner) error
}{
	{[]string{"G1", "G2", "G3"}, heartbeats},
	{[]string{"G2"}, channelHeartbeats},
	{[]string{"G4"}, paced},
	{[]string{"G5"}, sweeps},
	{[]string{"G6"}, expiries},
	{[]string{"G7"}, memories},
	{[]string{"G8"}, churns},
	{[]string{"G9"}, lists},
	{[]string{"G10"}, fanouts},
	{[]string{"G11", "G12", "G13", "G15", "G16"}, webSockets},
	{[]string{"G14"}, eventStreams},
	{[]string{"G16", "G18"}, beats},
	{[]string{"G18"}, encodings},
	{[]string{"CORE"}, steps},
}

func main() {
	if err := start(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func start() error {
	var o options
	var only, jsonFile, curvesDir string
	flag.BoolVar(&o.quick, "quick", false, "a tenth of the size and few rounds, within two minutes; only the full run decides")
	flag.StringVar(&only, "only", "", "the goals to measure, as in G1,G3; CORE is the state machine by itself")
	flag.StringVar(&jsonFile, "json", "", "write everything measured to this file")
	flag.StringVar(&curvesDir, "curves", "", "instead of the goals, measure how costs grow; write curves.json and a picture of each to this directory")
	million := flag.Bool("million", false, "instead of the goals, run a million users for an hour of virtual time, and compare some with a naive model")
	flag.Uint64Var(&o.seed, "seed", 1, "of what the million do")
	flag.IntVar(&o.rounds, "rounds", 0, "rounds of every case; 0 means 7, or 3 with -quick; of curves 5 or 2")
	flag.BoolVar(&o.readClock, "readclock", false, "read the real clock before every heartbeat of G1 to G3, which gives the latency of a single one")
	flag.StringVar(&o.profile, "cpuprofile", "", "write a CPU profile, labelled by case; fresh processes append their case to the name")
	flag.StringVar(&o.child, "child", "", "for the program itself: run this case, and write its figures to standard output")
	flag.StringVar(&o.server, "serve", "", "for the program itself: be this server, obey standard input")
	flag.Parse()
	if err := o.check(flag.Args(), only, curvesDir != ""); err != nil {
		return fmt.Errorf("bench: %w", err)
	}
	runtime.GOMAXPROCS(min(2, runtime.NumCPU())) // the figures are for two cores
	r := newRunner(o)
	switch {
	case o.server != "":
		return profiled(o.profile, func() error { return runService(o.server, o, os.Stdin, os.Stdout) })
	case o.child != "":
		return runChild(o)
	case curvesDir != "":
		return profiled(o.profile, func() error { return runCurves(r, curvesDir) })
	case *million:
		err := profiled(o.profile, func() error { return runMillion(r, nil) })
		return errors.Join(err, (&report{Quick: o.quick, Machine: thisMachine(), Results: r.results}).publish(jsonFile))
	default:
		err := profiled(o.profile, r.runFamilies)
		return errors.Join(err, r.report().publish(jsonFile))
	}
}

// check reports wrong flags. It sets the number of rounds unless it is given.
func (o *options) check(rest []string, only string, curves bool) error {
	if len(rest) > 0 {
		return fmt.Errorf("unexpected argument %q", rest[0])
	}
	if o.rounds < 0 {
		return fmt.Errorf("-rounds is %d, at least 1 is needed", o.rounds)
	}
	if o.rounds == 0 {
		o.rounds = 7
		switch {
		case o.quick && curves:
			o.rounds = 2
		case o.quick:
			o.rounds = 3
		case curves:
			o.rounds = 5
		}
	}
	if only != "" {
		o.only = strings.Split(strings.ToUpper(only), ",")
	}
	for _, id := range o.only {
		if !slices.ContainsFunc(goals, func(g goal) bool { return g.id == id }) {
			return fmt.Errorf("unknown goal %q", id)
		}
	}
	return nil
}

// runFamilies runs the families that have a wanted goal.
func (r *runner) runFamilies() error {
	for _, f := range families {
		if !r.wants(f.goals) {
			continue
		}
		if err := f.run(r); err != nil {
			return err
		}
		freeMemory()
	}
	return nil
}

// publish prints a report, and writes it to file unless that is empty.
func (rep *report) publish(file string) error {
	rep.print(os.Stdout)
	if file == "" {
		return nil
	}
	return rep.write(file)
}
