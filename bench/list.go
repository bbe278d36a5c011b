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

// repeated makes a case of something done over and over by one goroutine.
func repeated(o options, name string, role role, build func() (func() error, error)) benchCase {
	return benchCase{name: name, role: role, setup: func() (func() (sample, error), error) {
		do, err := build()
		if err != nil {
			return nil, err
		}
		began := time.Now()
		if err := do(); err != nil {
			return nil, err
		}
		b := newBeater(options{quick: o.quick}, visits)
		b.chunk = int(max(1, min(visits, time.Millisecond/(time.Since(began)+1))))
		return func() (sample, error) {
			return b.run(1, func(from, to int) error {
				for range to - from {
					if err := do(); err != nil {
						return err
					}
				}
				return nil
			})
		}, nil
	}}
}

func listOf(r *runner, n int) error {
	p := newPopulation(n)
	everyone := oneChannel(p)
	var running stopper
	tracker := sync.OnceValues(func() (*tracked, error) {
		t, err := newTracked(presence.Options{Policy: calm()}, true)
		if err != nil {
			return nil, err
		}
		running.add(t.stop)
		p := *p
		p.rooms = everyone
		return t, t.fill(&p, 1)
	})
	type listed struct {
		id     string
		status uint32
	}
	ctx := context.Background()
	return errors.Join(r.measure(experiment{
		id: fmt.Sprintf("list/%d", n), goals: []string{"G9"}, size: n,
		title: fmt.Sprintf("listing the %s members of a channel", count(n)),
		columns: []column{
			{metric: wall, header: "ns", ratio: true}, {metric: cpu, header: "cpu ns"}, {metric: allocs, header: "allocs"},
		},
		cases: []benchCase{
			repeated(r.options, "copy into a buffer", floor, func() (func() error, error) {
				var mu sync.RWMutex
				rows := make([]listed, n)
				for i, id := range p.ids {
					rows[i] = listed{id, 1}
				}
				buffer := make([]listed, n)
				return func() error {
					mu.RLock()
					defer mu.RUnlock()
					copy(buffer, rows)
					return nil
				}, nil
			}),
			repeated(r.options, "immutable snapshot", floor, func() (func() error, error) {
				var current atomic.Pointer[[]listed]
				current.Store(new([]listed))
				return func() error {
					if current.Load() == nil {
						return errUnknown
					}
					return nil
				}, nil
			}),
			repeated(r.options, "ours", ours, func() (func() error, error) {
				t, err := tracker()
				if err != nil {
					return nil, err
				}
				var views []presence.View
				return func() error {
					var err error
					views, _, err = t.AppendList(ctx, views[:0], presence.ChannelID(listedChannel), presence.AudienceTeam, presence.Ref{})
					return expect(len(views), n, err)
				}, nil
			}),
			{name: "ours, snapshot encoded before", role: ours, setup: func() (func() (sample, error), error) {
				t, err := tracker()
				if err != nil {
					return nil, err
				}
				return func() (sample, error) { return readSnapshots(t.Tracker, n) }, nil
			}},
			repeated(r.options, "Centrifuge", peer, func() (func() error, error) {
				c, err := newCentrifuge(p)
				if err != nil {
					return nil, err
				}
				return func() error {
					m, err := c.Presence(listedChannel)
					return expect(len(m), n, err)
				}, c.fill(everyone)
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
		},
	}), running.stop())
}

func expect(got, want int, err error) error {
	if err == nil && got != want {
		err = fmt.Errorf("%d members were listed, there are %d", got, want)
	}
	return err
}

// readSnapshots measures what the next watcher's first frame costs, encoded,
// once another has had it.
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

// supervisor may watch what it likes.
var supervisor = presence.Actor{Subject: presence.ID("supervisor"), Role: presence.RoleSupervisor}
