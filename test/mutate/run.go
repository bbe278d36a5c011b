package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// binary is the compiled tests of one package.
type binary struct {
	name  string // the folder from the root
	dir   string
	file  string
	draws bool // it has random tests, whose number of seeds can be chosen
}

// stage is a part of the tests that run together.
type stage struct {
	*binary
	run   string // matches the tests
	times string // of the seeds of random tests
	// took is the processor time of the stage without a mutant. A mutant that takes
	// much more is in a loop without an end.
	took time.Duration
}

// own lists the tests that read the sources or run the go command. No mutant changes
// what they find.
var own = regexp.MustCompile(`^(TestHouse.*|TestDocs.*|TestDependencies|TestSwapped.*|TestCoverage.*|TestFaults|TestChannelsAreNoSubjects|Benchmark.*|Fuzz.*)$`)

type timed struct {
	name  string
	took  time.Duration
	draws bool
}

// The parts of their usual seeds with which random tests run at first, and in the end.
const (
	few  = "0.05"
	more = "0.3"
)

// arrange runs all tests of a binary without a mutant. It returns the stages in which
// they run with one: quick tests first, random tests with more seeds last. It returns
// the tests that fail without a mutant, which no stage has. quick leaves out all but the
// quick tests.
func (b *binary) arrange(seed uint64, quick bool) (stages []stage, failing []string, err error) {
	all := stage{binary: b, run: ".", times: few}
	out, _, err := all.test(0, time.Hour, seed, "-test.v")
	tests := parse(out)
	if len(tests) == 0 {
		return nil, nil, fmt.Errorf("the tests in %s do not run: %w\n%s", b.dir, err, out)
	}
	for _, name := range regexp.MustCompile(`(?m)^--- FAIL: (\S+)`).FindAllStringSubmatch(string(out), -1) {
		failing = append(failing, name[1])
	}
	var groups [3][]string // by what they take; the last has random tests with more seeds
	for _, test := range tests {
		if own.MatchString(test.name) || slices.Contains(failing, test.name) {
			continue
		}
		n := 0
		if test.took > 30*time.Millisecond {
			n = 1
		}
		groups[n] = append(groups[n], test.name)
		if test.draws {
			groups[2] = append(groups[2], test.name)
		}
	}
	for i, group := range groups {
		if len(group) == 0 || quick && i > 0 {
			continue
		}
		st := stage{binary: b, run: "^(" + strings.Join(group, "|") + ")$", times: few}
		if i == 2 {
			st.times = more
		}
		out, took, err := st.test(0, time.Hour, seed)
		if err != nil {
			return nil, nil, fmt.Errorf("the tests in %s passed once, but not twice: %w\n%s", b.dir, err, out)
		}
		st.took = took
		stages = append(stages, st)
	}
	return stages, failing, nil
}

var (
	verdict = regexp.MustCompile(`^--- (?:PASS|FAIL): (\S+) \(([0-9.]+)s\)`)
	begins  = regexp.MustCompile(`^=== (?:RUN|CONT)\s+([^\s/]+)`)
)

// parse returns the tests in the output of -test.v.
func parse(out []byte) (tests []timed) {
	draws := make(map[string]bool)
	running := ""
	for line := range strings.Lines(string(out)) {
		if m := begins.FindStringSubmatch(line); m != nil {
			running = m[1]
		}
		if strings.Contains(line, ": seeds from ") {
			draws[running] = true
		}
		if m := verdict.FindStringSubmatch(line); m != nil {
			seconds, _ := strconv.ParseFloat(m[2], 64)
			tests = append(tests, timed{m[1], time.Duration(seconds * float64(time.Second)), draws[m[1]]})
		}
	}
	return tests
}

// memory limits what a mutant can allocate, in KiB, and so ends one that fills lists
// without end.
const memory = 6_000_000

// errSlow means that a mutant used much more time than the tests need without one.
var errSlow = errors.New("time limit")

// test runs tests with one mutant, on one processor. limit is for processor time, so
// that a busy machine ends no mutant. Tests that wait have ten times as long.
func (st *stage) test(mutant int, limit time.Duration, seed uint64, flags ...string) (out []byte, took time.Duration, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*limit)
	defer cancel()
	limits := fmt.Sprintf("ulimit -v %d; ulimit -t %d; exec \"$@\"", memory, int(limit.Seconds())+1)
	args := []string{"-c", limits, "sh", st.file, "-test.run", st.run, "-test.failfast", "-test.timeout", "0", "-test.shuffle", strconv.FormatUint(seed, 10)}
	if st.draws {
		args = append(args, "-times", st.times, "-first", strconv.FormatUint(seed, 10))
	}
	cmd := exec.CommandContext(ctx, "sh", append(args, flags...)...)
	cmd.Dir = st.dir
	cmd.Env = append(os.Environ(), variable+"="+strconv.Itoa(mutant), "GOMAXPROCS=1")
	cmd.WaitDelay = time.Second
	var text bytes.Buffer
	cmd.Stdout, cmd.Stderr = &text, &text
	err = cmd.Run()
	if s := cmd.ProcessState; s != nil {
		took = s.UserTime() + s.SystemTime()
	}
	if err != nil && (took > limit || ctx.Err() != nil) {
		err = errSlow
	}
	return text.Bytes(), took, err
}

// result is what became of one mutant.
type result struct {
	site *site
	by   string // the test that failed; empty if none did
	took time.Duration
}

// try runs the stages with one mutant until a test fails. It leaves out the stages for
// which the budget of processor time does not suffice.
func try(s *site, stages []stage, budget time.Duration, seed uint64) result {
	r := result{site: s}
	for _, st := range stages {
		if r.took+st.took > budget {
			continue
		}
		out, took, err := st.test(s.id, 2*time.Second+5*st.took, seed)
		r.took += took
		if err != nil {
			r.by = cause(out, err)
			break
		}
	}
	return r
}

var (
	fails  = regexp.MustCompile(`(?m)^\s*--- FAIL: (\S+)`)
	panics = regexp.MustCompile(`(?m)^(?:panic|fatal error): (.*)`)
)

// cause returns the test that failed, or what else ended the tests.
func cause(out []byte, err error) string {
	if errors.Is(err, errSlow) {
		return err.Error()
	}
	if m := fails.FindSubmatch(out); m != nil {
		return string(m[1])
	}
	if m := panics.FindSubmatch(out); m != nil {
		return "panic: " + string(m[1])
	}
	return err.Error()
}

// tryAll tries mutants on some processors at once. It calls done with each result, in
// any order.
func tryAll(sites []*site, stages []stage, workers int, budget time.Duration, seed uint64, done func(result)) {
	queue := make(chan *site)
	var working sync.WaitGroup
	var mu sync.Mutex
	for range workers {
		working.Go(func() {
			for s := range queue {
				r := try(s, stages, budget, seed)
				mu.Lock()
				done(r)
				mu.Unlock()
			}
		})
	}
	for _, s := range sites {
		queue <- s
	}
	close(queue)
	working.Wait()
}
