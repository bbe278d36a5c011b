package main

import (
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// population is the users of a measurement. Their ids, 16 to 36 bytes long, lie
// one behind the other in the order in which users are visited, as in a buffer
// that was received. Records are made in a random order, so that a visit finds
// its record anywhere in memory.
type population struct {
	ids   []string
	order []int // the users in the order in which their records are made
	rooms []string
}

// roomSize is how many users share a channel.
const roomSize = 50

func newPopulation(n int) *population {
	const letters = "abcdefghijklmnopqrstuvwxyz234567"
	rnd := rand.New(rand.NewPCG(1, uint64(n)))
	var arena strings.Builder
	arena.Grow(n * 28)
	ends := make([]int, n)
	for i := range n {
		length := 16 + rnd.IntN(21)
		unique := strconv.Itoa(i)
		for range length - len(unique) {
			arena.WriteByte(letters[rnd.IntN(len(letters))])
		}
		arena.WriteString(unique)
		ends[i] = arena.Len()
	}
	p := &population{ids: make([]string, n), order: rnd.Perm(n), rooms: make([]string, n)}
	all, start := arena.String(), 0
	for i, end := range ends {
		p.ids[i], start = all[start:end], end
	}
	names := make([]string, (n+roomSize-1)/roomSize)
	for i := range names {
		names[i] = "room-" + strconv.Itoa(i)
	}
	for k, i := range p.order {
		p.rooms[i] = names[k/roomSize]
	}
	return p
}

// siblings returns for each user the n-th channel beside its room; the room
// itself is number 0. Members of one channel share its string.
func (p *population) siblings(n int) []string {
	if n == 0 {
		return p.rooms
	}
	names := make(map[string]string)
	list := make([]string, p.size())
	for i, room := range p.rooms {
		if names[room] == "" {
			names[room] = room + "-" + strconv.Itoa(n)
		}
		list[i] = names[room]
	}
	return list
}

func (p *population) size() int { return len(p.ids) }

// coarse is a clock for floors: milliseconds, advanced by a ticker.
var coarse atomic.Uint32

// startCoarse starts the coarse clock, once.
var startCoarse = sync.OnceFunc(func() {
	coarse.Store(1)
	go func() {
		for range time.Tick(time.Millisecond) {
			coarse.Add(1)
		}
	}()
})

// beater visits a population in several goroutines, each its own part, and goes
// on where it stopped the last time, so that what has not been visited for long
// has left the caches.
type beater struct {
	n         int
	length    time.Duration
	readClock bool
	next      []int // where each goroutine goes on
	chunk     int   // visits between two looks at the clock
}

func newBeater(o options, n int) *beater {
	return &beater{n: n, length: o.length(200*time.Millisecond, 40*time.Millisecond), readClock: o.readClock, next: make([]int, 2), chunk: visits}
}

// visits is how many users are usually visited between two looks at the clock.
const visits = 500

// run visits users for the beater's length. It returns the first error.
func (b *beater) run(goroutines int, do visit) (sample, error) {
	if b.readClock {
		do = readingClock(do)
	}
	var done atomic.Int64
	errs := make([]error, goroutines)
	m := startMeter()
	var all sync.WaitGroup
	for g := range goroutines {
		all.Go(func() {
			from, to := b.n*g/goroutines, b.n*(g+1)/goroutines
			at := max(from, b.next[g])
			count := 0
			for time.Since(m.start) < b.length && errs[g] == nil {
				if at >= to {
					at = from
				}
				end := min(at+b.chunk, to)
				errs[g] = do(at, end)
				count += end - at
				at = end
			}
			b.next[g] = at
			done.Add(int64(count))
		})
	}
	all.Wait()
	s := m.per(int(done.Load()))
	for _, err := range errs {
		if err != nil {
			return nil, err
		}
	}
	return s, nil
}

// visit visits users, from one to another.
type visit = func(from, to int) error

// visiting makes a case of visits to n users by some goroutines.
func visiting(o options, name string, role role, n, goroutines, chunk int, build func() (visit, error)) benchCase {
	return benchCase{name: name, role: role, setup: func() (run, error) {
		do, err := build()
		if err != nil {
			return nil, err
		}
		b := newBeater(o, n)
		b.chunk = chunk
		return func() (sample, error) { return b.run(goroutines, do) }, nil
	}}
}

// readingClock reads the real clock before every visit. Its reading waits for
// what is under way in the processor, so that visits no longer overlap.
func readingClock(do visit) visit {
	return func(from, to int) error {
		for i := from; i < to; i++ {
			if time.Now().IsZero() {
				return nil
			}
			if err := do(i, i+1); err != nil {
				return err
			}
		}
		return nil
	}
}
