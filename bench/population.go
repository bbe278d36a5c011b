package main

import (
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// population is the users of a measurement. Their ids have 16 to 36 bytes, and
// lie in memory in the order of visits, as in a receive buffer. Records are
// made in a random order, so that a visit finds its record in a random place of
// memory.
type population struct {
	ids   []string
	order []int // in the order in which records are made
	rooms []string
}

// roomSize is the number of users that share a channel.
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

// siblings returns each user's n-th channel; number 0 is the room. Members of
// one channel share its string.
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

// beater visits a population in several goroutines, each with a part of its
// own. It continues after the last visit, so that the next user is no longer in
// the caches.
type beater struct {
	n         int
	length    time.Duration
	readClock bool
	next      []int // where each goroutine continues
	chunk     int   // visits between two readings of the clock
}

func newBeater(o options, n int) *beater {
	return &beater{n: n, length: o.length(200*time.Millisecond, 40*time.Millisecond), readClock: o.readClock, next: make([]int, 2), chunk: visits}
}

// visits is the usual number of visits between two readings of the clock.
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

// visit visits the users from one index to another.
type visit = func(from, to int) error

// visiting makes a case of visits to n users by a number of goroutines.
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

// readingClock reads the real clock before every visit. The reading waits for
// running instructions of the processor, so that visits do not overlap.
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
