// Command mutate serves scripts/mutate. It puts faults into the files that decide, one
// at a time, and reports those that no test notices. All mutants of a package are
// compiled into one binary, and the environment chooses one. It runs in the root of
// the repository.
//
//	go run ./test/mutate              try 600 mutants, drawn by a seed that it prints
//	go run ./test/mutate -all         try all
//	go run ./test/mutate -file a.go   try those of one file
//	go run ./test/mutate -match RE    try those whose line matches, as -list prints it
//	go run ./test/mutate -quick       run only tests of less than 30 ms, to find suspects
//	go run ./test/mutate -list        list them, and try none
//
// The file equivalents.txt lists mutants that change nothing, with the reason. They
// are not tried.
package main

import (
	"cmp"
	"flag"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"time"
)

// target is a package whose files are mutated, and the packages whose tests must
// notice, those with the quickest tests first.
type target struct {
	dir     string
	mutates func(file string) bool
	tests   []string
}

// targets are the deciding files of the root, and the packages for work and hours.
var targets = []target{
	{".", decides, []string{".", "presencetest/scenario", "routing"}},
	{"routing", always, []string{"routing"}},
	{"schedule", always, []string{"schedule"}},
}

func always(string) bool { return true }

// decides reports whether a file of the root is one of those that decide. The others
// own locks, timers or storage.
func decides(file string) bool {
	return !slices.Contains([]string{"presence.go", "conn.go", "watch.go"}, file) && !strings.HasPrefix(file, "tracker_")
}

type options struct {
	root    string
	targets []target
	list    string         // the file with the equivalents
	number  int            // of mutants to try; 0 means all
	file    string         // only mutants of this file
	match   *regexp.Regexp // only mutants whose line it matches; nil matches all
	quick   bool           // run only quick tests
	only    bool           // list the mutants, and try none
	seed    uint64
	workers int
	budget  time.Duration
	verbose bool
}

func main() {
	o := options{root: ".", targets: targets, list: "test/mutate/equivalents.txt"}
	all := flag.Bool("all", false, "try every mutant")
	flag.IntVar(&o.number, "n", 600, "try this `number` of mutants")
	flag.StringVar(&o.file, "file", "", "try the mutants of this `file` alone, such as state.go or routing/queue.go")
	match := flag.String("match", "", "try only mutants whose printed line matches this `regexp`")
	flag.BoolVar(&o.quick, "quick", false, "run only tests that take less than 30 ms")
	flag.BoolVar(&o.only, "list", false, "list the mutants and try none")
	flag.Uint64Var(&o.seed, "seed", 0, "draw mutants and seeds of random tests by this `number`; 0 draws it too")
	flag.IntVar(&o.workers, "j", runtime.NumCPU(), "try this `number` of mutants at once")
	flag.DurationVar(&o.budget, "budget", time.Minute, "give up on a mutant after this processor `time`")
	flag.BoolVar(&o.verbose, "v", false, "print every mutant")
	flag.Parse()
	if *all || o.file != "" || *match != "" {
		o.number = 0
	}
	root, err := filepath.Abs(o.root)
	if err == nil && *match != "" {
		o.match, err = regexp.Compile(*match)
	}
	if err == nil {
		o.root = root
		var survived int
		if survived, err = run(o, os.Stdout); err == nil && survived > 0 {
			os.Exit(1)
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "mutate:", err)
		os.Exit(2)
	}
}

// figures are the counts of one file.
type figures struct{ mutants, tried, caught, listed, survived int }

// run tries mutants and prints what became of them. It returns how many survived that
// are not listed.
func run(o options, out io.Writer) (survived int, err error) {
	if o.seed == 0 {
		o.seed = 1 + rand.Uint64N(1_000_000_000)
	}
	equivalents, err := readEquivalents(o.list)
	if err != nil {
		return 0, err
	}
	dir, err := os.MkdirTemp("", "mutate")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	begun := time.Now()
	fmt.Fprintf(out, "seed %d\n", o.seed)
	var programs []*program
	first, dropped := 0, 0
	for _, t := range o.targets {
		p, err := load(o.root, t, first)
		if err != nil {
			return 0, err
		}
		first += len(p.sites) + p.dropped
		dropped += p.dropped
		programs = append(programs, p)
	}
	table := make(map[string]*figures)
	for _, p := range programs {
		for _, s := range p.sites {
			f := table[s.key.file]
			if f == nil {
				f = new(figures)
				table[s.key.file] = f
			}
			f.mutants++
		}
	}
	chosen := choose(programs, o)
	for _, p := range programs {
		mine := chosen[p]
		var tried []*site
		for _, s := range mine {
			if e := equivalents[s.key.String()]; e != nil && !o.only {
				e.met = true
				table[s.key.file].listed++
				continue
			}
			tried = append(tried, s)
		}
		switch {
		case o.only:
			for _, s := range tried {
				fmt.Fprintln(out, s.listed())
			}
		case len(tried) > 0:
			if err := p.try(o, dir, tried, table, out); err != nil {
				return 0, err
			}
		}
	}
	if o.only {
		return 0, nil
	}
	if o.number == 0 && o.file == "" && o.match == nil {
		for _, text := range sorted(equivalents) {
			if !equivalents[text].met {
				fmt.Fprintf(out, "STALE   line %d of the list names no mutant: %s\n", equivalents[text].line, text)
				survived++
			}
		}
	}
	return survived + report(out, table, dropped, time.Since(begun)), nil
}

// choose draws the mutants to try, of each program in the order of their places.
func choose(programs []*program, o options) map[*program][]*site {
	type choice struct {
		p *program
		s *site
	}
	var all []choice
	for _, p := range programs {
		for _, s := range p.sites {
			if (o.file == "" || s.key.file == filepath.ToSlash(filepath.Clean(o.file))) && (o.match == nil || o.match.MatchString(s.listed())) {
				all = append(all, choice{p, s})
			}
		}
	}
	r := rand.New(rand.NewPCG(o.seed, 1))
	r.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	if o.number > 0 {
		all = all[:min(o.number, len(all))]
	}
	chosen := make(map[*program][]*site)
	for _, c := range all {
		chosen[c.p] = append(chosen[c.p], c.s)
	}
	for _, list := range chosen {
		slices.SortFunc(list, func(a, b *site) int { return a.id - b.id })
	}
	return chosen
}

// try compiles a program and tries some of its mutants.
func (p *program) try(o options, dir string, sites []*site, table map[string]*figures, out io.Writer) error {
	binaries, err := p.build(dir)
	if err != nil {
		return err
	}
	var stages []stage
	for _, b := range binaries {
		own, failing, err := b.arrange(o.seed, o.quick)
		if err != nil {
			return err
		}
		if len(failing) > 0 {
			fmt.Fprintf(out, "left out, since they fail without a mutant: %s\n", strings.Join(failing, ", "))
		}
		stages = append(stages, own...)
		for _, st := range own {
			fmt.Fprintf(out, "%s: %d tests with %s of their seeds take %v\n", b.name, strings.Count(st.run, "|")+1, st.times, st.took.Round(10*time.Millisecond))
		}
	}
	// Quick stages go first, whatever their package, and those with more seeds last.
	slices.SortStableFunc(stages, func(a, b stage) int { return cmp.Or(cmp.Compare(a.times, b.times), cmp.Compare(a.took, b.took)) })
	tryAll(sites, stages, o.workers, o.budget, o.seed, func(r result) {
		f := table[r.site.key.file]
		f.tried++
		switch {
		case r.by == "":
			f.survived++
			fmt.Fprintf(out, "ALIVE   %s:%d (%s)\n        %s\n", r.site.key.file, r.site.line, mutated(r.site), r.site.key)
		case o.verbose:
			f.caught++
			fmt.Fprintf(out, "caught  %s:%d (%s) by %s in %v\n", r.site.key.file, r.site.line, mutated(r.site), r.by, r.took.Round(time.Millisecond))
		default:
			f.caught++
		}
	})
	return nil
}

// listed is the line of a mutant in a list.
func (s *site) listed() string { return fmt.Sprintf("%s:%d: %s", s.key.file, s.line, s.key) }

func mutated(s *site) string {
	if s.shows == "" {
		return "removed"
	}
	return s.shows
}

// report prints the figures by file and returns how many mutants survived.
func report(out io.Writer, table map[string]*figures, dropped int, took time.Duration) int {
	var sum figures
	fmt.Fprintf(out, "%-28s %8s %6s %7s %7s %9s\n", "file", "mutants", "tried", "caught", "listed", "survived")
	row := func(name string, f *figures) {
		fmt.Fprintf(out, "%-28s %8d %6d %7d %7d %9d\n", name, f.mutants, f.tried, f.caught, f.listed, f.survived)
	}
	for _, name := range sorted(table) {
		f := table[name]
		if f.tried+f.listed == 0 {
			continue
		}
		row(name, f)
		sum.mutants, sum.tried, sum.caught = sum.mutants+f.mutants, sum.tried+f.tried, sum.caught+f.caught
		sum.listed, sum.survived = sum.listed+f.listed, sum.survived+f.survived
	}
	row("all", &sum)
	share := 0.0
	if n := sum.tried + sum.listed; n > 0 {
		share = 100 * float64(sum.survived) / float64(n)
	}
	fmt.Fprintf(out, "%.1f %% survived that are not listed; %d places do not compile; %v\n", share, dropped, took.Round(time.Second))
	return sum.survived
}

// equivalent is a line of the list of mutants that change nothing.
type equivalent struct {
	line int
	met  bool
}

// readEquivalents reads a list. A line is a mutant as mutate prints it, then " // " and
// the reason.
func readEquivalents(file string) (map[string]*equivalent, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	list := make(map[string]*equivalent)
	number := 0
	for line := range strings.Lines(string(data)) {
		number++
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		at := strings.LastIndex(line, " // ")
		if at < 0 || strings.TrimSpace(line[at+4:]) == "" || strings.Count(line[:at], " | ") < 3 {
			return nil, fmt.Errorf("%s:%d: a line is file | function | operator | text // reason", file, number)
		}
		text := strings.TrimSpace(line[:at])
		if list[text] != nil {
			return nil, fmt.Errorf("%s:%d: it repeats line %d", file, number, list[text].line)
		}
		list[text] = &equivalent{line: number}
	}
	return list, nil
}

func sorted[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
