package main

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/presence-go/presence"
	"github.com/presence-go/presence/internal/timeline"
)

// A sweep is measured in virtual time: 30 seconds in ticks of 100 ms. Each user
// sends three heartbeats, and no user expires.
const (
	sweepTick    = 100 * time.Millisecond
	sweepPeriod  = 30 * time.Second
	sweepTicks   = int(sweepPeriod / sweepTick)
	sweepTimeout = 30 * time.Second
	sweepBeats   = 3 // of each user in the period
)

// The metrics of sweeps.
const (
	share    = "share"    // percent of one core
	worst    = "worst"    // milliseconds of the longest tick
	waited   = "waited"   // milliseconds that a heartbeat by id waited for a tick, at most; absent if none waited
	hold     = "hold"     // milliseconds that a lock was held, at most, as far as known
	lateness = "lateness" // milliseconds from a deadline until it was processed, at most
)

// sweeps is G5.
func sweeps(r *runner) error {
	n := sweepSize(r.options)
	return r.measure(experiment{
		id: "sweep", goals: []string{"G5"}, size: n,
		title: fmt.Sprintf("looking for who is silent: %s users, nobody is, %v in ticks of %v", count(n), sweepPeriod, sweepTick),
		columns: []column{
			{metric: share, header: "% of a core", ratio: true}, {metric: worst, header: "longest tick ms"},
			{metric: waited, header: "longest wait ms"}, {metric: lateness, header: "lateness ms"},
		},
		cases: []benchCase{
			{name: "scan of all", role: floor, fresh: "sweep/scan"},
			{name: "lazy wheel", role: floor, fresh: "sweep/wheel"},
			{name: "ours", role: ours, fresh: "sweep/ours"},
			{name: "mutex + map, range", role: byHand, fresh: "sweep/map"},
		},
	})
}

var sweepCases = map[string]freshCase{
	"sweep/scan":  sweepScan,
	"sweep/wheel": sweepWheel,
	"sweep/ours":  func(o options) (sample, error) { return sweepOurs(sweepSize(o)) },
	"sweep/map":   sweepMap,
}

// runSweep runs the period. Before each tick it sends the heartbeats that are
// due. Then it runs another third of the period while another goroutine calls
// probe repeatedly, to measure how long a sweep delays callers.
func runSweep(n int, beat func(from, to int) error, tick func() error, probe func(i int) error) (sample, error) {
	freeMemory()
	var used, longest time.Duration
	const each = sweepTicks / sweepBeats // ticks between two heartbeats of one user
	period := func(ticks int, around func(func() error) error) error {
		for t := range ticks {
			turn := t % each
			if err := beat(n*turn/each, n*(turn+1)/each); err != nil {
				return err
			}
			if err := around(tick); err != nil {
				return err
			}
		}
		return nil
	}
	err := period(sweepTicks, func(tick func() error) error {
		before, began := processCPU(), time.Now()
		err := tick()
		longest = max(longest, time.Since(began))
		used += processCPU() - before
		return err
	})
	if err != nil {
		return nil, err
	}
	s := sample{share: 100 * used.Seconds() / sweepPeriod.Seconds(), worst: ms(longest), hold: ms(longest)}
	if probe == nil {
		return s, nil
	}
	var sweeping, over atomic.Bool
	type answer struct {
		longest time.Duration
		err     error
	}
	answers := make(chan answer)
	go func() {
		var a answer
		for i := 0; !over.Load() && a.err == nil; i = (i + 7919) % n {
			during, began := sweeping.Load(), time.Now()
			a.err = probe(i)
			if during || sweeping.Load() {
				a.longest = max(a.longest, time.Since(began))
			}
		}
		answers <- a
	}()
	err = period(each, func(tick func() error) error {
		sweeping.Store(true)
		defer sweeping.Store(false)
		return tick()
	})
	over.Store(true)
	a := <-answers
	if a.longest > 0 {
		s[waited] = ms(a.longest)
		s[hold] = min(s[hold], s[waited])
	}
	return s, errors.Join(err, a.err)
}

func ms(d time.Duration) float64 { return d.Seconds() * 1000 }

func sweepScan(o options) (sample, error) {
	heard := make([]uint32, sweepSize(o))
	now, lost := uint32(0), int64(0)
	s, err := runSweep(len(heard), func(from, to int) error {
		for i := range heard[from:to] {
			heard[from+i] = now
		}
		return nil
	}, func() error {
		now++
		for _, h := range heard {
			if now-h > uint32(sweepTimeout/sweepTick) {
				lost++
			}
		}
		return nil
	}, nil)
	return s, nobodyLost(err, lost)
}

func sweepWheel(o options) (sample, error) {
	w := newLazyWheel(sweepSize(o), uint32(sweepTimeout/sweepTick))
	lost := int64(0)
	s, err := runSweep(sweepSize(o), func(from, to int) error {
		for i := range w.heard[from:to] {
			w.heard[from+i].Store(w.now)
		}
		return nil
	}, func() error { lost += int64(w.advance()); return nil }, nil)
	return s, nobodyLost(err, lost)
}

// sweepMap scans a whole map under its lock. The measurement is far shorter
// than the timeout, so that no user is silent.
func sweepMap(o options) (sample, error) {
	p := newPopulation(sweepSize(o))
	h := newHandTimers(p, 0)
	lost := int64(0)
	s, err := runSweep(p.size(), h.beat(p),
		func() error { lost += int64(h.sweep(time.Now().Add(-time.Hour))); return nil },
		func(i int) error { return h.beat(p)(i, i+1) })
	return s, nobodyLost(err, lost)
}

// stragglers is a tenant with a few users that fall silent in the period, to
// measure the delay of their removal.
const stragglers = "stragglers"

func sweepOurs(n int) (sample, error) {
	mock := timeline.NewStill(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))
	policy := calm()
	policy.Lease, policy.Grace.Loss = sweepTimeout, 0
	var lost, late, latest atomic.Int64
	t, err := newTracked(presence.Options{Policy: policy, Clock: mock}, false)
	if err != nil {
		return nil, err
	}
	t.Observe(func(who presence.Ref, out *presence.Output) {
		switch {
		case out.Kind != presence.OutputTransition || out.Trigger != presence.CauseLost:
		case who.Tenant == stragglers:
			late.Add(1)
			latest.Store(max(latest.Load(), int64(presence.At(mock.Now()).Sub(out.At)))) // they fall silent one after the other
		default:
			lost.Add(1)
		}
	})
	p := newPopulation(n)
	t.beforeEach = func(k int) {
		if k%(p.size()/100) == 0 {
			mock.Add(sweepTick) // so that deadlines differ
		}
	}
	if err := t.fill(p, 1); err != nil {
		return nil, err
	}
	for i := range 100 {
		mock.Add(sweepTick/100 + time.Nanosecond)
		who := presence.Ref{Tenant: stragglers, ID: p.ids[i]}
		if _, err := t.Connect(context.Background(), who, presence.ConnectOptions{}); err != nil {
			return nil, err
		}
	}
	s, err := runSweep(p.size(), func(from, to int) error {
		mock.Add(sweepTick)
		return t.beat(from, to)
	}, func() error {
		_, err := t.Sweep(context.Background())
		return err
	}, func(i int) error { return t.beatByID(i, i+1) })
	if err == nil && late.Load() != 100 {
		err = fmt.Errorf("%d of 100 users who fell silent were noticed", late.Load())
	}
	if err != nil {
		return nil, err
	}
	s[lateness] = ms(time.Duration(latest.Load()))
	return s, errors.Join(nobodyLost(nil, lost.Load()), t.stop())
}

func sweepSize(o options) int { return o.size(1_000_000, 50_000) }
