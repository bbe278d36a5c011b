package main

import (
	"errors"
	"fmt"
	"runtime"
	"time"

	"github.com/presence-go/presence"
)

// The metrics of memory.
const (
	bytesUser   = "bytes"   // of heap a user
	objectsUser = "objects" // on the heap a user
	residentMem = "rss"     // resident bytes a user
	gcCPU       = "gc"      // milliseconds of processors for a full collection, for a million users
)

func memorySize(o options) int { return o.size(1_000_000, 50_000) }

// memories is G7: a user with one connection and one channel, with copied ids.
func memories(r *runner) error {
	n := memorySize(r.options)
	return r.measure(experiment{
		id: "memory", goals: []string{"G7"}, size: n,
		title: fmt.Sprintf("memory of %s users, each in a fresh process", count(n)),
		columns: []column{
			{metric: bytesUser, header: "bytes", ratio: true}, {metric: objectsUser, header: "objects"},
			{metric: residentMem, header: "resident"}, {metric: gcCPU, header: "full GC, cpu ms a million"},
		},
		cases: []benchCase{
			{name: "compact records", role: floor, fresh: "memory/compact"},
			{name: "ours, rooms of 50", role: ours, fresh: "memory/ours"},
			{name: "Centrifuge, rooms of 50", role: peer, fresh: "memory/centrifuge-rooms"},
			{name: "Centrifuge, one channel", role: peer, fresh: "memory/centrifuge-one"},
			{name: "Redis SET EX", role: peer, fresh: "memory/redis"},
			{name: "map + struct", role: byHand, fresh: "memory/map"},
			{name: "map + struct + AfterFunc", role: byHand, fresh: "memory/afterfunc"},
		},
	})
}

var memoryCases = map[string]freshCase{
	"memory/compact": func(o options) (sample, error) {
		return inMemory(newPopulation(memorySize(o)), func(p *population) (any, error) {
			c := newCompact()
			for _, i := range p.order {
				c.add(p.ids[i])
			}
			return c, nil
		})
	},
	"memory/ours":             func(o options) (sample, error) { return oursInMemory(memorySize(o)) },
	"memory/centrifuge-rooms": func(o options) (sample, error) { return centrifugeInMemory(o, ownRoom) },
	"memory/centrifuge-one":   func(o options) (sample, error) { return centrifugeInMemory(o, oneChannel) },
	"memory/redis":            redisInMemory,
	"memory/map": func(o options) (sample, error) {
		return inMemory(newPopulation(memorySize(o)), func(p *population) (any, error) { return newHandTimers(p, 0), nil })
	},
	"memory/afterfunc": func(o options) (sample, error) {
		return inMemory(newPopulation(memorySize(o)), func(p *population) (any, error) { return newHandTimers(p, 24*time.Hour), nil })
	},
}

func oursInMemory(n int) (sample, error) {
	return inMemory(newPopulation(n), func(p *population) (any, error) {
		t, err := newTracked(presence.Options{}, false)
		if err != nil {
			return nil, err
		}
		t.ownIDs = true
		if err := t.fill(p.copied(), 1); err != nil {
			return nil, err
		}
		t.people, t.conns = nil, nil // the memory of handles is their owner's
		return t, nil
	})
}

func centrifugeInMemory(o options, channels func(*population) []string) (sample, error) {
	return inMemory(newPopulation(memorySize(o)), func(p *population) (any, error) {
		c, err := newCentrifuge(p.copied())
		if err != nil {
			return nil, err
		}
		c.clients = make([]string, p.size())
		for i := range c.clients {
			c.clients[i] = fmt.Sprintf("%016d", i)
		}
		if err := c.fill(channels(c.people)); err != nil {
			return nil, err
		}
		return c.MemoryPresenceManager, nil
	})
}

// copied returns a population with each id in a string of its own, like ids
// that arrive over a connection: one kept id keeps no other memory.
func (p *population) copied() *population {
	c := *p
	c.ids = make([]string, p.size())
	for i, id := range p.ids {
		c.ids[i] = string([]byte(id))
	}
	return &c
}

// inMemory measures the additional memory of a built structure.
func inMemory(p *population, build func(p *population) (any, error)) (sample, error) {
	n := float64(p.size())
	use := func() (heap, objects, resident float64, err error) {
		freeMemory()
		freeMemory()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		resident, err = memoryStatus("VmRSS")
		return float64(m.HeapAlloc), float64(m.HeapObjects), resident * 1024, err
	}
	heap, objects, resident, err := use()
	if err != nil {
		return nil, err
	}
	built, err := build(p)
	if err != nil {
		return nil, err
	}
	heap2, objects2, resident2, err := use()
	if err != nil {
		return nil, err
	}
	runtime.KeepAlive(p) // it was allocated before, and must not be freed earlier
	full := collection()
	runtime.KeepAlive(built)
	return sample{
		bytesUser: (heap2 - heap) / n, objectsUser: (objects2 - objects) / n, residentMem: (resident2 - resident) / n,
		gcCPU: ms(full) * 1e6 / n,
	}, nil
}

// collection is the processor time of a full garbage collection, the least of three.
func collection() time.Duration {
	runtime.GC()
	least := time.Hour
	for range 3 {
		before := processCPU()
		runtime.GC()
		least = min(least, processCPU()-before)
	}
	return least
}

func redisInMemory(o options) (_ sample, err error) {
	s, err := startRedis()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.stop()) }()
	empty, err := s.memory()
	if err != nil {
		return nil, err
	}
	p := newPopulation(memorySize(o))
	if err := s.expiring(p.ids); err != nil {
		return nil, err
	}
	full, err := s.memory()
	if err != nil {
		return nil, err
	}
	return sample{bytesUser: (full - empty) / float64(p.size())}, nil
}
