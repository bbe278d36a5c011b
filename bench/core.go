package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/presence-go/presence"
	"github.com/presence-go/presence/internal/timeline"
)

// steps measures the state machine without a tracker: heartbeats fed to the
// states of many subjects, in random places of memory, and to one state. Then
// it measures a tracker's step, which also reads the clock, locks, unpacks and
// packs.
func steps(r *runner) error {
	n := r.size(200_000, 50_000)
	core, err := newCore(n)
	if err != nil {
		return err
	}
	var tracking stopper
	stepping := func(name string, place func(i int) int) benchCase {
		return visiting(options{quick: r.quick}, name, ours, n, 1, visits, func() (visit, error) { return core.step(place), nil })
	}
	reporting := func(name string, size int) benchCase {
		return visiting(options{quick: r.quick}, name, ours, size, 1, visits, func() (visit, error) {
			shown := timeline.NewStill(core.start.Time())
			t, err := newTracked(presence.Options{Policy: calm(), Clock: shown}, false)
			if err != nil {
				return nil, err
			}
			tracking.add(t.stop)
			return func(from, to int) error {
				idle := shown.Add(time.Millisecond).Sub(core.start.Time())
				for _, c := range t.conns[from:to] {
					if err := c.Report(0, idle); err != nil {
						return err
					}
				}
				return nil
			}, t.fill(newPopulation(size), 1)
		})
	}
	return errors.Join(r.measure(experiment{
		id: "core", goals: []string{"CORE"}, size: n,
		title: fmt.Sprintf("the state machine by itself: a heartbeat to each of %s states", count(n)),
		columns: []column{
			{metric: wall, header: "ns"}, {metric: cpu, header: "cpu ns"}, {metric: allocs, header: "allocs"},
		},
		cases: []benchCase{
			stepping("ours, step, one state", func(int) int { return 0 }),
			stepping("ours, step, cold states", func(i int) int { return core.places[i] }),
			reporting("ours, a tracker's step, one record", 1),
			reporting("ours, a tracker's step, cold records", n),
		},
	}), tracking.stop())
}

// core is a machine and the states of many subjects.
type core struct {
	*presence.Machine
	start  presence.Instant
	states []presence.State
	places []int // of each user's state
}

func newCore(n int) (c *core, err error) {
	p := newPopulation(n)
	c = &core{start: presence.At(time.Date(2026, 1, 1, 9, 0, 0, 0, time.UTC)), states: make([]presence.State, n), places: make([]int, n)}
	if c.Machine, err = presence.Compile(*calm()); err != nil {
		return nil, err
	}
	for k, i := range p.order {
		c.places[i] = k
		if _, _, err := c.Step(&c.states[k], &presence.Event{Kind: presence.EventConnect, Subject: presence.ID(p.ids[i]), Conn: connID, Age: presence.NoAge}, c.start, nil); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// step feeds a heartbeat to the states at some places. Each visit is a
// millisecond later.
func (c *core) step(place func(i int) int) visit {
	now := c.start
	var out []presence.Output
	return func(from, to int) error {
		now = now.Add(time.Millisecond)
		for i := from; i < to; i++ {
			var err error
			s := &c.states[place(i)]
			out, _, err = c.Step(s, &presence.Event{Kind: presence.EventHeartbeat, Subject: s.Subject, Conn: connID, Age: presence.NoAge}, now, out[:0])
			if err != nil || len(out) > 0 {
				return errors.Join(err, fmt.Errorf("a heartbeat had %d outputs", len(out)))
			}
		}
		return nil
	}
}
