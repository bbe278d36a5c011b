package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/presence-go/presence"
)

// watcherCount is the number of watchers of one channel.
func watcherCount(o options) int { return o.size(10_000, 10_000) }

// fanouts is G10: publishing within the process.
func fanouts(r *runner) error {
	return errors.Join(departures(r), publications(r), wakings(r))
}

// watching is a tracker with one channel, its members and its watchers.
type watching struct {
	*tracked
	watches []*presence.Watch
}

func newWatching(members, watchers int) (*watching, error) {
	t, err := newTracked(presence.Options{Policy: calm()}, true)
	if err != nil {
		return nil, err
	}
	p := newPopulation(members)
	p.rooms = oneChannel(p)
	if err := t.fill(p, 1); err != nil {
		return nil, err
	}
	w := &watching{tracked: t}
	for range watchers {
		watch, err := t.Watch(context.Background(), supervisor, presence.ChannelID(listedChannel), presence.WatchOptions{Audience: presence.AudienceTeam})
		if err != nil {
			return nil, err
		}
		w.watches = append(w.watches, watch)
	}
	return w, w.drain()
}

// drain reads all waiting frames of the watchers.
func (w *watching) drain() error {
	for _, watch := range w.watches {
		for {
			f, err := watch.Poll()
			if err != nil {
				return err
			}
			if f == nil {
				break
			}
			if f.Lagged {
				return errors.New("a watcher lagged behind, so that not every change was delivered")
			}
		}
	}
	return nil
}

// toggle disconnects a member or connects it again. Either is one change for
// all watchers.
func (w *watching) toggle(leave bool) error {
	if leave {
		return w.conns[0].Logout()
	}
	return w.connect(0)
}

// departures measures the time from a disconnection until a watcher reads it.
func departures(r *runner) error {
	rounds := r.size(20_000, 4_000)
	var running stopper
	return errors.Join(r.measure(experiment{
		id: "departure", goals: []string{"G10"}, size: roomSize,
		title:   fmt.Sprintf("from the disconnection of one of %d members until a goroutine that watches has read it", roomSize),
		columns: []column{{metric: p50, header: "p50 ns", ratio: true}, {metric: p99, header: "p99 ns"}},
		cases: []benchCase{
			{name: "channel to a goroutine", role: floor, setup: func() (run, error) {
				return func() (sample, error) {
					sent, read := make(chan time.Time), make(chan time.Duration)
					defer close(sent)
					go func() {
						for began := range sent {
							read <- time.Since(began)
						}
					}()
					return latencies(rounds, func() (time.Duration, error) {
						sent <- time.Now()
						return <-read, nil
					})
				}, nil
			}},
			{name: "ours", role: ours, setup: func() (run, error) {
				w, err := newWatching(roomSize, 1)
				if err != nil {
					return nil, err
				}
				running.add(w.stop)
				return w.departures(rounds), nil
			}},
		},
	}), running.stop())
}

// latencies measures an operation in many rounds.
func latencies(rounds int, do func() (time.Duration, error)) (sample, error) {
	took := make([]time.Duration, rounds)
	for i := range took {
		var err error
		if took[i], err = do(); err != nil {
			return nil, err
		}
	}
	slices.Sort(took)
	return sample{p50: float64(quantile(took, 0.5)), p99: float64(quantile(took, 0.99))}, nil
}

// departures disconnects and connects a member. It measures how long the
// goroutine of the first watcher takes to read that the member left.
func (w *watching) departures(rounds int) func() (sample, error) {
	type reading struct {
		at time.Time
		f  *presence.Frame
	}
	read := make(chan reading, 1)
	go func() {
		for {
			f, err := w.watches[0].Next(context.Background())
			if err != nil {
				return // the tracker is closed
			}
			read <- reading{time.Now(), f}
		}
	}()
	change := func(leave bool, op presence.Op) (time.Duration, error) {
		began := time.Now()
		if err := w.toggle(leave); err != nil {
			return 0, err
		}
		got := <-read
		if len(got.f.Changes) != 1 || got.f.Changes[0].Op != op {
			return 0, fmt.Errorf("a watcher read %+v where one change was due, %s", got.f.Changes, op)
		}
		return got.at.Sub(began), nil
	}
	return func() (sample, error) {
		return latencies(rounds, func() (time.Duration, error) {
			took, err := change(true, presence.OpLeft)
			if err != nil {
				return 0, err
			}
			_, err = change(false, presence.OpJoined)
			return took, err
		})
	}
}

// publishings is the number of publications in a round. It is below the number
// of changes that a watcher may lag behind.
const publishings = 40

// publishing measures the cost of publishing to many watchers, per watcher.
func publishing(watchers int, publish func(i int) error, after func() error) func() (sample, error) {
	return func() (sample, error) {
		m := startMeter()
		for i := range publishings {
			if err := publish(i); err != nil {
				return nil, err
			}
		}
		return m.per(publishings * watchers), after()
	}
}

// publications measures the publisher's cost of publishing to many watchers.
func publications(r *runner) error {
	watchers := watcherCount(r.options)
	var running stopper
	return errors.Join(r.measure(experiment{
		id: "publish", goals: []string{"G10"}, size: watchers,
		title:   fmt.Sprintf("publishing a change to %s watchers, none of whom waits for it", count(watchers)),
		columns: []column{{metric: wall, header: "ns a watcher", ratio: true}, {metric: cpu, header: "cpu ns"}, {metric: allocs, header: "allocs"}},
		cases: append(publishingFloors(watchers), benchCase{name: "ours", role: ours, setup: func() (run, error) {
			w, err := newWatching(2, watchers)
			if err != nil {
				return nil, err
			}
			running.add(w.stop)
			return publishing(watchers, func(i int) error { return w.toggle(i%2 == 0) }, w.drain), nil
		}}),
	}), running.stop())
}

// pending is a queue under a lock.
type pending struct {
	mu    sync.Mutex
	queue []*int
}

// publishingFloors publish to a list of callbacks, of queues, or of Go
// channels.
func publishingFloors(watchers int) []benchCase {
	to := func(name string, build func() (publish func(what *int), empty func())) benchCase {
		return benchCase{name: name, role: floor, setup: func() (run, error) {
			publish, empty := build()
			return publishing(watchers, func(i int) error { publish(&i); return nil }, func() error { empty(); return nil }), nil
		}}
	}
	return []benchCase{
		to("callback", func() (func(*int), func()) {
			seen := make([]uint32, watchers)
			calls := make([]func(*int), watchers)
			for i := range calls {
				calls[i] = func(*int) { seen[i]++ }
			}
			return func(what *int) {
				for _, call := range calls {
					call(what)
				}
			}, func() {}
		}),
		to("mutex and append", func() (func(*int), func()) {
			queues := make([]*pending, watchers)
			for i := range queues {
				queues[i] = &pending{queue: make([]*int, 0, publishings)}
			}
			return func(what *int) {
					for _, q := range queues {
						q.mu.Lock()
						q.queue = append(q.queue, what)
						q.mu.Unlock()
					}
				}, func() {
					for _, q := range queues {
						q.queue = q.queue[:0]
					}
				}
		}),
		to("buffered channel", func() (func(*int), func()) {
			queues := make([]chan *int, watchers)
			for i := range queues {
				queues[i] = make(chan *int, publishings)
			}
			return func(what *int) {
					for _, q := range queues {
						q <- what
					}
				}, func() {
					for _, q := range queues {
						for range publishings {
							<-q
						}
					}
				}
		}),
	}
}

// waking publishes ten times. After each it waits until all watchers have read.
func waking(watchers int, read *atomic.Int64, publish func(i int) error) run {
	const publishings = 10
	return func() (sample, error) {
		m := startMeter()
		for i := range publishings {
			read.Store(0)
			if err := publish(i); err != nil {
				return nil, err
			}
			for read.Load() < int64(watchers) {
				time.Sleep(20 * time.Microsecond)
			}
		}
		return m.per(publishings * watchers), nil
	}
}

// wakings measures publishing to watchers that wait in goroutines.
func wakings(r *runner) error {
	watchers := watcherCount(r.options)
	var running stopper
	waiting := func(name string, role role, build func(read *atomic.Int64) (publish func(i int) error, stop func() error, err error)) benchCase {
		return benchCase{name: name, role: role, setup: func() (run, error) {
			read := new(atomic.Int64)
			publish, stop, err := build(read)
			if err != nil {
				return nil, err
			}
			running.add(stop)
			return waking(watchers, read, publish), nil
		}}
	}
	return errors.Join(r.measure(experiment{
		id: "wake", goals: []string{"G10"}, size: watchers,
		title:   fmt.Sprintf("publishing a change to %s goroutines that wait for it, until all have read it", count(watchers)),
		columns: []column{{metric: wall, header: "ns a watcher", ratio: true}, {metric: cpu, header: "cpu ns"}, {metric: cores, header: "cores"}, {metric: allocs, header: "allocs"}},
		cases: []benchCase{
			waiting("goroutines at channels", floor, func(read *atomic.Int64) (func(int) error, func() error, error) {
				publish, stop := atChannels(watchers, read)
				return publish, stop, nil
			}),
			waiting("goroutines at a condition", floor, func(read *atomic.Int64) (func(int) error, func() error, error) {
				publish, stop := atCondition(watchers, read)
				return publish, stop, nil
			}),
			waiting("ours", ours, func(read *atomic.Int64) (func(int) error, func() error, error) {
				w, err := newWatching(2, watchers)
				if err != nil {
					return nil, nil, err
				}
				for _, watch := range w.watches {
					go func() {
						for {
							if _, err := watch.Next(context.Background()); err != nil {
								return // the tracker is closed
							}
							read.Add(1)
						}
					}()
				}
				return func(i int) error { return w.toggle(i%2 == 0) }, w.stop, nil
			}),
		},
	}), running.stop())
}

// atChannels starts a goroutine for each watcher, waiting at a Go channel.
func atChannels(watchers int, read *atomic.Int64) (publish func(i int) error, stop func() error) {
	queues := make([]chan *int, watchers)
	for i := range queues {
		queues[i] = make(chan *int, 1)
		go func() {
			for range queues[i] {
				read.Add(1)
			}
		}()
	}
	return func(i int) error {
			for _, q := range queues {
				q <- &i
			}
			return nil
		}, func() error {
			for _, q := range queues {
				close(q)
			}
			return nil
		}
}

// atCondition starts a goroutine for each watcher, all waiting at one
// condition.
func atCondition(watchers int, read *atomic.Int64) (publish func(i int) error, stop func() error) {
	var mu sync.Mutex
	current := 0
	changed := sync.NewCond(&mu)
	for range watchers {
		go func() {
			mu.Lock()
			defer mu.Unlock()
			for seen := 0; current >= 0; read.Add(1) {
				for seen == current {
					changed.Wait()
				}
				seen = current
			}
		}()
	}
	set := func(to int) error {
		mu.Lock()
		defer mu.Unlock()
		current = to
		changed.Broadcast()
		return nil
	}
	return func(int) error { return set(current + 1) }, func() error { return set(-1) }
}
