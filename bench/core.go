package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/presence-go/presence"
	"github.com/presence-go/presence/internal/timeline"
)

// steps measures the state machine by itself: a heartbeat fed to the states of
// many subjects, which lie anywhere in memory, and to one. The last cases report
// over connections of a tracker, which finds, unpacks, steps and packs the state.
func steps(r *runner) error {
	n := r.size(200_000, 50_000)
	p := newPopulation(n)
	machine, err := presence.Compile(*calm())
	if err != nil {
		return err
	}
	start := presence.At(time.Date(2026, 1, 1, 9, 0, 0, 0, time.UTC))
	connected := func(id string) (s presence.State, err error) {
		_, _, err = machine.Step(&s, &presence.Event{Kind: presence.EventConnect, Subject: presence.ID(id), Conn: connID, Age: presence.NoAge}, start, nil)
		return s, err
	}
	states := make([]presence.State, n)
	places := make([]int, n) // of each user's state
	for k, i := range p.order {
		places[i] = k
		if states[k], err = connected(p.ids[i]); err != nil {
			return err
		}
	}
	var tracking stopper
	stepping := func(name string, place func(i int) int) benchCase {
		return benchCase{name: name, role: ours, setup: func() (func() (sample, error), error) {
			b := newBeater(options{quick: r.quick}, n)
			now := start
			var out []presence.Output
			return func() (sample, error) {
				return b.run(1, func(from, to int) error {
					now = now.Add(time.Millisecond)
					for i := from; i < to; i++ {
						var err error
						s := &states[place(i)]
						out, _, err = machine.Step(s, &presence.Event{Kind: presence.EventHeartbeat, Subject: s.Subject, Conn: connID, Age: presence.NoAge}, now, out[:0])
						if err != nil || len(out) > 0 {
							return errors.Join(err, fmt.Errorf("a heartbeat had %d outputs", len(out)))
						}
					}
					return nil
				})
			}, nil
		}}
	}
	reporting := func(name string, size int) benchCase {
		return benchCase{name: name, role: ours, setup: func() (func() (sample, error), error) {
			shown := timeline.NewStill(start.Time())
			t, err := newTracked(presence.Options{Policy: calm(), Clock: shown}, false)
			if err != nil {
				return nil, err
			}
			tracking.add(t.stop)
			if err := t.fill(newPopulation(size), 1); err != nil {
				return nil, err
			}
			b := newBeater(options{quick: r.quick}, size)
			return func() (sample, error) {
				return b.run(1, func(from, to int) error {
					idle := shown.Add(time.Millisecond).Sub(start.Time())
					for _, c := range t.conns[from:to] {
						if err := c.Report(0, idle); err != nil {
							return err
						}
					}
					return nil
				})
			}, nil
		}}
	}
	return errors.Join(r.measure(experiment{
		id: "core", goals: []string{"CORE"}, size: n,
		title: fmt.Sprintf("the state machine by itself: a heartbeat to each of %s states", count(n)),
		columns: []column{
			{metric: wall, header: "ns"}, {metric: cpu, header: "cpu ns"}, {metric: allocs, header: "allocs"},
		},
		cases: []benchCase{
			stepping("ours, step, one state", func(int) int { return 0 }),
			stepping("ours, step, cold states", func(i int) int { return places[i] }),
			reporting("ours, a tracker's step, one record", 1),
			reporting("ours, a tracker's step, cold records", n),
		},
	}), tracking.stop())
}
