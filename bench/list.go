package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/presence-go/presence"
)

// listedChannel is the channel whose members are listed.
const listedChannel = "everyone"

// lists is G9.
func lists(r *runner) error {
	for _, n := range []int{10, 1_000, 10_000} {
		if err := listOf(r, n); err != nil {
			return err
		}
	}
	return nil
}

// repeated makes a case of an operation that one goroutine repeats.
func repeated(o options, name string, role role, build func() (func() error, error)) benchCase {
	return benchCase{name: name, role: role, setup: func() (run, error) {
		do, err := build()
		if err != nil {
			return nil, err
		}
		began := time.Now()
		if err := do(); err != nil {
			return nil, err
		}
		chunk := int(max(1, min(visits, time.Millisecond/(time.Since(began)+1))))
		return visiting(options{quick: o.quick}, name, role, visits, 1, chunk, func() (visit, error) {
			return func(from, to int) error {
				for range to - from {
					if err := do(); err != nil {
						return err
					}
				}
				return nil
			}, nil
		}).setup()
	}}
}

func listOf(r *runner, n int) error {
	p := newPopulation(n)
	everyone := *p
	everyone.rooms = oneChannel(p)
	var running stopper
	tracker := running.filled(&everyone, 1)
	ctx := context.Background()
	return errors.Join(r.measure(experiment{
		id: fmt.Sprintf("list/%d", n), goals: []string{"G9"}, size: n,
		title:   fmt.Sprintf("listing the %s members of a channel", count(n)),
		columns: operationColumns,
		cases: append(listFloors(r.options, p), []benchCase{
			repeated(r.options, "ours", ours, func() (func() error, error) {
				t, err := tracker()
				return func() error { return t.list(n) }, err
			}),
			{name: "ours, snapshot encoded before", role: ours, setup: func() (run, error) {
				t, err := tracker()
				return func() (sample, error) { return readSnapshots(t.Tracker, n) }, err
			}},
			repeated(r.options, "Centrifuge", peer, func() (func() error, error) {
				c, err := newCentrifuge(p)
				if err != nil {
					return nil, err
				}
				return func() error {
					m, err := c.Presence(listedChannel)
					return expect(len(m), n, err)
				}, c.fill(everyone.rooms)
			}),
			repeated(r.options, "Redis ZRANGE BYSCORE", peer, func() (func() error, error) {
				s, err := startRedis()
				if err != nil {
					return nil, err
				}
				running.add(s.stop)
				return func() error {
					list, err := s.ZRangeArgs(ctx, redis.ZRangeArgs{Key: "heard", Start: "0", Stop: "+inf", ByScore: true}).Result()
					return expect(len(list), n, err)
				}, s.heartbeats(p.ids)
			}),
		}...),
	}), running.stop())
}

// listFloors are the floors of a list.
func listFloors(o options, p *population) []benchCase {
	type listed struct {
		id     string
		status uint32
	}
	return []benchCase{
		repeated(o, "copy into a buffer", floor, func() (func() error, error) {
			var mu sync.RWMutex
			rows, buffer := make([]listed, p.size()), make([]listed, p.size())
			for i, id := range p.ids {
				rows[i] = listed{id, 1}
			}
			return func() error {
				mu.RLock()
				defer mu.RUnlock()
				copy(buffer, rows)
				return nil
			}, nil
		}),
		repeated(o, "immutable snapshot", floor, func() (func() error, error) {
			var current atomic.Pointer[[]listed]
			current.Store(new([]listed))
			return func() error {
				if current.Load() == nil {
					return errUnknown
				}
				return nil
			}, nil
		}),
	}
}

// list lists the members of the channel, into the memory of the previous call.
func (t *tracked) list(n int) (err error) {
	t.views, _, err = t.ListAs(context.Background(), presence.AudienceTeam, presence.ChannelID(listedChannel), t.views[:0])
	return expect(len(t.views), n, err)
}

func expect(got, want int, err error) error {
	if err == nil && got != want {
		err = fmt.Errorf("%d members were listed, want %d", got, want)
	}
	return err
}

// readSnapshots measures the first frame of a watcher, encoded, after another
// watcher had the same.
func readSnapshots(t *presence.Tracker, n int) (sample, error) {
	const watchers = 1000
	watches := make([]*presence.Watch, watchers)
	for i := range watches {
		w, err := t.Watch(context.Background(), supervisor, presence.ChannelID(listedChannel), presence.WatchOptions{Audience: presence.AudienceTeam})
		if err != nil {
			return nil, err
		}
		watches[i] = w
	}
	read := func(w *presence.Watch) error {
		f, err := w.Poll()
		if err != nil {
			return err
		}
		if err := expect(len(f.Members), n, nil); err != nil {
			return err
		}
		_, err = f.JSON()
		return err
	}
	if err := read(watches[0]); err != nil {
		return nil, err
	}
	m := startMeter()
	for _, w := range watches[1:] {
		if err := read(w); err != nil {
			return nil, err
		}
	}
	s := m.per(watchers - 1)
	for _, w := range watches {
		if err := w.Close(); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// supervisor may watch every channel.
var supervisor = presence.Actor{Subject: presence.ID("supervisor"), Role: presence.RoleSupervisor}
