package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/presence-go/presence"
	"github.com/presence-go/presence/internal/packing"
)

// recordRoom is what a packed state has room in.
const recordRoom = 64

func recordAt(records []byte, place int) []byte {
	return records[place*recordRoom : (place+1)*recordRoom : (place+1)*recordRoom]
}

// steps measures the state machine by itself: a heartbeat fed to the states of
// many subjects, which lie anywhere in memory, and to one. A tracker keeps states
// packed; the last cases unpack, step and pack as it does, without its locks,
// index and deadlines.
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
	codec := packing.New(int64(start))
	records := make([]byte, n*recordRoom)
	for k, i := range p.order {
		places[i] = k
		if states[k], err = connected(p.ids[i]); err != nil {
			return err
		}
		if b, ok := codec.Pack(recordAt(records, k)[:0], &states[k]); !ok || len(b) > recordRoom {
			return fmt.Errorf("the state of a user takes %d bytes, or cannot be packed", len(b))
		}
	}
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
	packed := func(name string, place func(i int) int) benchCase {
		return benchCase{name: name, role: ours, setup: func() (func() (sample, error), error) {
			b := newBeater(options{quick: r.quick}, n)
			now := start
			var out []presence.Output
			var s presence.State
			return func() (sample, error) {
				return b.run(1, func(from, to int) error {
					now = now.Add(time.Millisecond)
					for i := from; i < to; i++ {
						record := recordAt(records, place(i))
						codec.Unpack(record, &s)
						s.Subject = presence.ID(p.ids[i])
						s.Current.Subject = s.Subject
						var err error
						out, _, err = machine.Step(&s, &presence.Event{Kind: presence.EventHeartbeat, Subject: s.Subject, Conn: connID, Age: presence.NoAge}, now, out[:0])
						if err != nil || len(out) > 0 {
							return errors.Join(err, fmt.Errorf("a heartbeat had %d outputs", len(out)))
						}
						if again, ok := codec.Pack(record[:0], &s); !ok || len(again) > recordRoom {
							return fmt.Errorf("a state that was packed takes %d bytes, or cannot be packed", len(again))
						}
					}
					return nil
				})
			}, nil
		}}
	}
	return r.measure(experiment{
		id: "core", goals: []string{"CORE"}, size: n,
		title: fmt.Sprintf("the state machine by itself: a heartbeat to each of %s states", count(n)),
		columns: []column{
			{metric: wall, header: "ns"}, {metric: cpu, header: "cpu ns"}, {metric: allocs, header: "allocs"},
		},
		cases: []benchCase{
			stepping("ours, step, one state", func(int) int { return 0 }),
			stepping("ours, step, cold states", func(i int) int { return places[i] }),
			packed("ours, unpack, step, pack, one record", func(int) int { return 0 }),
			packed("ours, unpack, step, pack, cold records", func(i int) int { return places[i] }),
		},
	})
}
