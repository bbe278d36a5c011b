package main

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"
)

// beatColumns are the columns of heartbeats.
var beatColumns = []column{
	{metric: wall, header: "ns", ratio: true},
	{metric: cpu, header: "cpu ns"},
	{metric: cores, header: "cores"},
	{metric: allocs, header: "allocs"},
}

// heartbeats measures G1 to G3: with few users, which fit into the caches, and
// with many.
func heartbeats(r *runner) error {
	startCoarse()
	for _, crowd := range []struct {
		name string
		n    int
	}{{"hot", r.size(10_000, 10_000)}, {"large", r.size(1_000_000, 100_000)}} {
		w := newHeartbeatWorld(r.options, crowd.n, 1)
		err := errors.Join(
			r.measure(w.byHandle(crowd.name)),
			r.measure(w.againstCentrifuge(crowd.name)),
			r.measure(w.byID(crowd.name)),
			w.stop(),
		)
		if err != nil {
			return err
		}
		freeMemory()
	}
	return nil
}

// heartbeatWorld is shared by the experiments of one size. It builds each
// structure when the first case needs it.
type heartbeatWorld struct {
	options
	p       *population
	tracker func() (*tracked, error)
	stopper
}

func newHeartbeatWorld(o options, n, channels int) *heartbeatWorld {
	w := &heartbeatWorld{options: o, p: newPopulation(n)}
	w.tracker = w.filled(w.p, channels)
	return w
}

// visiting makes a case of visits by a number of goroutines.
func (w *heartbeatWorld) visiting(name string, role role, goroutines int, build func() (visit, error)) benchCase {
	return visiting(w.options, name, role, w.p.size(), goroutines, visits, build)
}

// twice makes two cases of one structure: visits by one and by two goroutines.
func (w *heartbeatWorld) twice(name string, role role, build func() (visit, error)) []benchCase {
	once := sync.OnceValues(build)
	return []benchCase{w.visiting(name+", 1g", role, 1, once), w.visiting(name+", 2g", role, 2, once)}
}

// byHandle is G1.
func (w *heartbeatWorld) byHandle(crowd string) experiment {
	store := sync.OnceValue(func() *handleStore { return newHandleStore(w.p) })
	// The cold cases visit the handles themselves in a random order.
	mixed := sync.OnceValue(func() []int { return rand.New(rand.NewPCG(2, 2)).Perm(w.p.size()) })
	cold := func() (visit, error) {
		handles, order := shuffled(store().handles, mixed()), mixed()
		return func(from, to int) error {
			for _, i := range order[from:to] {
				handles[i].heard.Store(coarse.Load())
			}
			return nil
		}, nil
	}
	coldOurs := func() (visit, error) {
		t, err := w.tracker()
		if err != nil {
			return nil, err
		}
		conns, order := shuffled(t.conns, mixed()), mixed()
		return func(from, to int) error {
			for _, i := range order[from:to] {
				if err := conns[i].Heartbeat(); err != nil {
					return err
				}
			}
			return nil
		}, nil
	}
	again := func() (visit, error) {
		t, err := w.tracker()
		if err != nil {
			return nil, err
		}
		return func(from, to int) error {
			c := t.conns[from]
			for range to - from {
				if err := c.Heartbeat(); err != nil {
					return err
				}
			}
			return nil
		}, nil
	}
	return experiment{
		id: "handle/" + crowd, goals: []string{"G1"}, size: w.p.size(), columns: beatColumns,
		title: fmt.Sprintf("heartbeat by handle, %s users", count(w.p.size())),
		cases: slices.Concat(
			w.twice("F1 store", floor, func() (visit, error) { return store().beat, nil }),
			w.twice("F1 store if changed", floor, func() (visit, error) { return store().beatOnce, nil }),
			w.twice("ours", ours, w.ours),
			[]benchCase{
				w.visiting("ours, same handle again", ours, 1, again),
				w.visiting("F1 store, handles cold", floor, 1, cold),
				w.visiting("ours, handles cold", ours, 1, coldOurs),
			},
		),
	}
}

// shuffled returns a list in another order.
func shuffled[T any](list []T, order []int) []T {
	out := make([]T, 0, len(list))
	for _, i := range order {
		out = append(out, list[i])
	}
	return out
}

func (w *heartbeatWorld) ours() (visit, error) {
	t, err := w.tracker()
	if err != nil {
		return nil, err
	}
	return t.beat, nil
}

func (w *heartbeatWorld) centrifuge(channels func(*population) []string) func() (visit, error) {
	return func() (visit, error) {
		c, err := newCentrifuge(w.p)
		if err != nil {
			return nil, err
		}
		list := channels(w.p)
		return c.refresh(list), c.fill(list)
	}
}

func ownRoom(p *population) []string { return p.rooms }

// againstCentrifuge is G2 with one channel a user.
func (w *heartbeatWorld) againstCentrifuge(crowd string) experiment {
	return experiment{
		id: "centrifuge/" + crowd, goals: []string{"G2"}, size: w.p.size(), columns: beatColumns,
		title: fmt.Sprintf("heartbeat by handle against Centrifuge's refresh, %s users, 1 channel each", count(w.p.size())),
		cases: slices.Concat(
			w.twice("ours", ours, w.ours),
			w.twice("Centrifuge, one channel", peer, w.centrifuge(oneChannel)),
			w.twice("Centrifuge, rooms of 50", peer, w.centrifuge(ownRoom)),
		),
	}
}

// byID is G3.
func (w *heartbeatWorld) byID(crowd string) experiment {
	hand := func(after time.Duration) func() (visit, error) {
		return func() (visit, error) { return newHandTimers(w.p, after).beat(w.p), nil }
	}
	return experiment{
		id: "id/" + crowd, goals: []string{"G3"}, size: w.p.size(), columns: beatColumns,
		title: fmt.Sprintf("heartbeat by user id, %s users", count(w.p.size())),
		cases: slices.Concat(
			w.twice("F2 sharded maps", floor, func() (visit, error) { return newShardedMap(w.p).beat(w.p), nil }),
			w.twice("F3 own table", floor, func() (visit, error) { return newFullTable(w.p).beat(w.p), nil }),
			w.twice("ours", ours, func() (visit, error) {
				t, err := w.tracker()
				if err != nil {
					return nil, err
				}
				return t.beatByID, nil
			}),
			w.twice("Centrifuge, one channel", peer, w.centrifuge(oneChannel)),
			w.twice("Centrifuge, rooms of 50", peer, w.centrifuge(ownRoom)),
			w.twice("mutex + map + AfterFunc", byHand, hand(24*time.Hour)),
			w.twice("mutex + map", byHand, hand(0)),
			w.twice("sync.Map", byHand, func() (visit, error) { return newSyncMap(w.p).beat(w.p), nil }),
			[]benchCase{w.visiting("Redis ZADD, 100 at a time", peer, 1, func() (visit, error) {
				s, err := startRedis()
				if err != nil {
					return nil, err
				}
				w.add(s.stop)
				return func(from, to int) error { return s.heartbeats(w.p.ids[from:to]) }, nil
			})},
		),
	}
}

// manyChannels is how many channels a user of the second half of G2 is in.
const manyChannels = 20

// channelHeartbeats is G2 with many channels a user. Centrifuge refreshes each
// channel; ours needs one heartbeat.
func channelHeartbeats(r *runner) error {
	w := newHeartbeatWorld(r.options, r.size(20_000, 4_000), manyChannels)
	siblings := func() (visit, error) {
		c, err := newCentrifuge(w.p)
		if err != nil {
			return nil, err
		}
		channels := make([][]string, manyChannels)
		for n := range channels {
			channels[n] = w.p.siblings(n)
			if err := c.fill(channels[n]); err != nil {
				return nil, err
			}
		}
		return func(from, to int) error {
			for i := from; i < to; i++ {
				for _, channel := range channels {
					if err := c.AddPresence(channel[i], w.p.ids[i], c.infos[i]); err != nil {
						return err
					}
				}
			}
			return nil
		}, nil
	}
	return errors.Join(r.measure(experiment{
		id: "centrifuge/channels", goals: []string{"G2"}, size: w.p.size(), columns: beatColumns,
		title: fmt.Sprintf("heartbeat of users in %d channels each, %s users", manyChannels, count(w.p.size())),
		cases: []benchCase{
			w.visiting("ours", ours, 1, w.ours),
			w.visiting("Centrifuge, every channel", peer, 1, siblings),
		},
	}), w.stop())
}
