package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"runtime/pprof"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// options are the flags.
type options struct {
	quick     bool
	tiny      bool // for tests: too small for useful figures, all in one process
	rounds    int
	readClock bool
	only      []string
	profile   string
	seed      uint64 // of the million
	child     string
	server    string
}

// size returns the size of a case.
func (o options) size(full, quick int) int {
	switch {
	case o.tiny:
		return min(quick, 500)
	case o.quick:
		return quick
	}
	return full
}

// length returns the duration of a run.
func (o options) length(full, quick time.Duration) time.Duration {
	switch {
	case o.tiny:
		return quick / 4
	case o.quick:
		return quick
	}
	return full
}

// role is the kind of a case.
type role string

const (
	floor  role = "floor"   // the minimum on this machine: own code without features
	ours   role = "ours"    // the library
	peer   role = "peer"    // another library or server
	byHand role = "by hand" // code as people write it without a library
)

// The metrics of most cases.
const (
	wall   = "wall"   // nanoseconds an operation
	cpu    = "cpu"    // nanoseconds of this process's processors an operation
	cores  = "cores"  // processors in use on average
	others = "others" // processors that other processes used meanwhile
	allocs = "allocs" // allocations an operation
)

// sample is what one run of a case measured, by metric.
type sample map[string]float64

// run measures once.
type run = func() (sample, error)

// freshCase measures once, in a process of its own.
type freshCase = func(options) (sample, error)

// benchCase is one line of an experiment's table. It has either a setup or the
// name of a fresh case. A setup is called once and returns the function for
// each round. Each round of a fresh case is a process of its own.
type benchCase struct {
	name  string
	role  role
	setup func() (run, error)
	fresh string
	x     float64 // the place on the axis, of a point of a curve
}

// experiment is a table of cases. They run in turn, round by round, so that
// other load on the machine affects all of them.
type experiment struct {
	id      string
	goals   []string
	title   string
	size    int
	columns []column // the first one that a case has decides whether the case is noisy
	cases   []benchCase
	derive  func(*result) // adds figures that follow from several cases
	once    bool          // noisy cases are not run again
}

// column is the display of a metric.
type column struct {
	metric, header string
	ratio          bool // shows the multiple of ours beside it
	unit           string
}

func (c column) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Metric string `json:"metric"`
		Header string `json:"header"`
		Ratio  bool   `json:"ratio,omitempty"`
		Unit   string `json:"unit,omitempty"`
	}{c.metric, c.header, c.ratio, c.unit})
}

// operationColumns are the columns of an operation.
var operationColumns = []column{{metric: wall, header: "ns", ratio: true}, {metric: cpu, header: "cpu ns"}, {metric: allocs, header: "allocs"}}

// errNotAvailable reports that a case cannot run on this machine. It is no
// failure.
var errNotAvailable = errors.New("not available")

// errBusy reports that the machine was too busy for a case. The case is run
// again.
var errBusy = fmt.Errorf("%w: this machine is too busy", errNotAvailable)

// series is the figures of all rounds of one case.
type series struct {
	Name    string               `json:"name"`
	Role    role                 `json:"role"`
	Missing string               `json:"missing,omitempty"` // why it did not run
	Rounds  map[string][]float64 `json:"rounds,omitempty"`  // by metric
	Spread  float64              `json:"spread,omitempty"`  // of the rounds, the worst against the best
	Noisy   bool                 `json:"noisy,omitempty"`   // the spread is too large for conclusions
	Starved bool                 `json:"starved,omitempty"` // two goroutines did not have two cores
	X       float64              `json:"x,omitempty"`       // of a point of a curve
}

// result is the figures of an experiment.
type result struct {
	ID      string    `json:"id"`
	Title   string    `json:"title"`
	Size    int       `json:"size"`
	Cases   []*series `json:"cases"`
	Columns []column  `json:"columns,omitempty"`
}

// runner runs experiments and keeps their results.
type runner struct {
	options
	started time.Time
	results []*result
	unknown []string // figures that goals need and no case measured
}

func newRunner(o options) *runner { return &runner{options: o, started: time.Now()} }

// wants reports whether any of the goals is to be measured.
func (r *runner) wants(goals []string) bool {
	return len(r.only) == 0 || slices.ContainsFunc(goals, func(g string) bool { return slices.Contains(r.only, g) })
}

// noisySpread is the ratio of the worst to the best round from which a case is
// noisy and is run again.
const noisySpread = 1.5

// measure runs an experiment. If a case is noisy, it runs all rounds again, up
// to twice, and keeps the quietest attempt. A quick run that is late runs one
// round of the remaining cases, and marks it as noisy.
func (r *runner) measure(x experiment) error {
	if !r.wants(x.goals) {
		return nil
	}
	runs := make([]run, len(x.cases))
	missing := make([]string, len(x.cases))
	for i, c := range x.cases {
		var err error
		labelled(x.id, c, func() { runs[i], err = r.prepare(c) })
		if errors.Is(err, errNotAvailable) {
			missing[i] = err.Error()
		} else if err != nil {
			return fmt.Errorf("%s, %s: %w", x.id, c.name, err)
		}
	}
	runtime.GC() // so that no collection runs when the first case starts
	var best *result
	for range 3 {
		began := time.Now()
		fmt.Fprintf(os.Stderr, "%6.1fs  %s\n", time.Since(r.started).Seconds(), x.title)
		res, err := r.attempt(x, runs, missing)
		if err != nil {
			return err
		}
		if best == nil || res.spread() < best.spread() {
			best = res
		}
		if x.once || best.spread() <= noisySpread || r.quick && (time.Since(began) > 2*time.Second || r.late(40*time.Second)) {
			break
		}
	}
	for _, c := range best.Cases {
		c.Spread = best.spreadOf(c)
		c.Noisy = c.Spread > noisySpread || r.rounds == 1 || r.late(80*time.Second)
		c.Starved = strings.HasSuffix(c.Name, ", 2g") && median(c.Rounds[cores]) < 1.6 && median(c.Rounds[others]) > 0.3
	}
	if x.derive != nil {
		x.derive(best)
	}
	r.results = append(r.results, best)
	return nil
}

// late reports whether a quick run must save time to end within two minutes.
func (r *runner) late(after time.Duration) bool {
	return r.quick && time.Since(r.started) > after
}

func (r *runner) prepare(c benchCase) (func() (sample, error), error) {
	if c.fresh != "" {
		if r.tiny {
			return func() (sample, error) { return freshCases()[c.fresh](r.options) }, nil
		}
		return func() (sample, error) { return r.spawn(c.fresh) }, nil
	}
	return c.setup()
}

func (r *runner) attempt(x experiment, runs []run, missing []string) (*result, error) {
	res := &result{ID: x.id, Title: x.title, Size: x.size, Columns: x.columns}
	for i, c := range x.cases {
		res.Cases = append(res.Cases, &series{Name: c.name, Role: c.role, Missing: missing[i], Rounds: make(map[string][]float64), X: c.x})
	}
	for round := range r.rounds {
		if round > 0 && r.late(80*time.Second) {
			break
		}
		for i, c := range x.cases {
			if missing[i] != "" {
				continue
			}
			var s sample
			var err error
			for range 3 {
				labelled(x.id, c, func() { s, err = runs[i]() })
				if !errors.Is(err, errBusy) {
					break
				}
			}
			if errors.Is(err, errNotAvailable) {
				missing[i], res.Cases[i].Missing = err.Error(), err.Error()
				continue
			}
			if err != nil {
				return nil, fmt.Errorf("%s, %s: %w", x.id, c.name, err)
			}
			for metric, v := range s {
				res.Cases[i].Rounds[metric] = append(res.Cases[i].Rounds[metric], v)
			}
		}
	}
	return res, nil
}

// spread is the spread of the noisiest case, of all roles.
func (res *result) spread() float64 {
	worst := 1.0
	for _, c := range res.Cases {
		worst = max(worst, res.spreadOf(c))
	}
	return worst
}

// spreadOf is the spread of the first metric that a case has.
func (res *result) spreadOf(c *series) float64 {
	for _, col := range res.Columns {
		if rounds := c.Rounds[col.metric]; len(rounds) > 0 {
			return spread(rounds)
		}
	}
	return 1
}

// find returns the result of an experiment, or nil.
func (r *runner) find(experiment string) *result {
	i := slices.IndexFunc(r.results, func(res *result) bool { return res.ID == experiment })
	if i < 0 {
		return nil
	}
	return r.results[i]
}

// find returns the series of a case, or nil.
func (res *result) find(name string) *series {
	if res == nil {
		return nil
	}
	i := slices.IndexFunc(res.Cases, func(s *series) bool { return s.Name == name })
	if i < 0 {
		return nil
	}
	return res.Cases[i]
}

// labelled runs f under a profile label with the case's name.
func labelled(experiment string, c benchCase, f func()) {
	pprof.Do(context.Background(), pprof.Labels("experiment", experiment, "case", c.name, "role", string(c.role)), func(context.Context) { f() })
}

// profiled runs f, under a CPU profile if file is not empty.
func profiled(file string, f func() error) (err error) {
	if file == "" {
		return f()
	}
	out, err := os.Create(file)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	if err := pprof.StartCPUProfile(out); err != nil {
		return err
	}
	defer pprof.StopCPUProfile()
	return f()
}

// freshCases are the cases with a process of their own, by name.
func freshCases() map[string]freshCase {
	all := make(map[string]freshCase)
	for _, family := range []map[string]freshCase{pacedCases, sweepCases, expiryCases, memoryCases, churnCases, socketCases, curveCases()} {
		maps.Copy(all, family)
	}
	return all
}

// spawn runs a case in a fresh process and returns its sample.
func (r *runner) spawn(name string) (sample, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	args := []string{"-child", name, fmt.Sprintf("-quick=%t", r.quick)}
	if r.profile != "" {
		args = append(args, "-cpuprofile", r.profile+"."+strings.ReplaceAll(name, "/", "-"))
	}
	cmd := exec.Command(self, args...)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("the process of %s: %w", name, err)
	}
	for _, why := range []error{errBusy, errNotAvailable} {
		if reason, said := strings.CutPrefix(string(out), why.Error()+": "); said {
			return nil, fmt.Errorf("%w: %s", why, strings.TrimSpace(reason))
		}
	}
	var s sample
	if err := json.Unmarshal(out, &s); err != nil {
		return nil, fmt.Errorf("what the process of %s wrote: %w", name, err)
	}
	return s, nil
}

// runChild is the child's end of spawn.
func runChild(o options) error {
	run := freshCases()[o.child]
	if run == nil {
		return fmt.Errorf("bench: unknown case %q", o.child)
	}
	var s sample
	err := profiled(o.profile, func() (err error) { s, err = run(o); return err })
	for _, why := range []error{errBusy, errNotAvailable} {
		if errors.Is(err, why) { // spawn looks for it at the start of the line
			_, err = fmt.Printf("%v: %s\n", why, strings.TrimPrefix(err.Error(), why.Error()+": "))
			return err
		}
	}
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(s)
}

// stopper is the functions that stop what experiments started.
type stopper []func() error

func (s *stopper) add(stop func() error) { *s = append(*s, stop) }

// stop calls all functions and returns their errors.
func (s *stopper) stop() error {
	var faults []error
	for _, stop := range *s {
		faults = append(faults, stop())
	}
	return errors.Join(faults...)
}

// meter measures wall time, processor time and allocations.
type meter struct {
	start   time.Time
	cpu     time.Duration
	busy    time.Duration
	mallocs uint64
}

func startMeter() meter {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return meter{mallocs: m.Mallocs, busy: machineCPU(), cpu: processCPU(), start: time.Now()}
}

// per returns the use since the start, divided by n operations.
func (m meter) per(n int) sample {
	elapsed, used := time.Since(m.start), processCPU()-m.cpu
	busy := machineCPU() - m.busy
	var now runtime.MemStats
	runtime.ReadMemStats(&now)
	return sample{
		wall:   float64(elapsed) / float64(n),
		cpu:    float64(used) / float64(n),
		cores:  float64(used) / float64(elapsed),
		others: max(0, float64(busy-used)/float64(elapsed)),
		allocs: math.Round(1000*float64(now.Mallocs-m.mallocs)/float64(n)) / 1000, // smaller fractions are from other goroutines
	}
}

// machineCPU is the processor time of all processes, in steps of 10 ms, with
// that of other machines on the same processors. It is 0 if unknown.
func machineCPU() time.Duration {
	stat, _ := os.ReadFile("/proc/stat")
	line, _, _ := strings.Cut(string(stat), "\n")
	var busy time.Duration
	for i, field := range strings.Fields(line) {
		ticks, err := strconv.ParseInt(field, 10, 64)
		if idle := i == 4 || i == 5; err != nil || idle || i > 8 { // later fields are included in earlier ones
			continue
		}
		busy += time.Duration(ticks) * 10 * time.Millisecond
	}
	return busy
}

// processCPU is the processor time of this process.
func processCPU() time.Duration { return usedCPU(unix.RUSAGE_SELF) }

// threadCPU is the processor time of the calling thread.
func threadCPU() time.Duration { return usedCPU(unix.RUSAGE_THREAD) }

func usedCPU(who int) time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(who, &u); err != nil {
		panic(err) // it fails only for arguments that are not used here
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// freeMemory collects all garbage, and returns free memory to the system.
func freeMemory() {
	runtime.GC()
	debug.FreeOSMemory()
}

// median returns the middle of a list.
func median(list []float64) float64 {
	if len(list) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(list))
	if n := len(sorted); n%2 == 0 {
		return (sorted[n/2-1] + sorted[n/2]) / 2
	}
	return sorted[len(sorted)/2]
}

// spread is the ratio of the largest to the smallest of a list.
func spread(list []float64) float64 {
	if len(list) == 0 || slices.Min(list) <= 0 {
		return 1
	}
	return slices.Max(list) / slices.Min(list)
}

// quantile returns the element of a sorted list at the part p.
func quantile[T cmp.Ordered](sorted []T, p float64) T {
	return sorted[min(len(sorted)-1, int(p*float64(len(sorted))))]
}
