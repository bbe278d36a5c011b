// Package timeline turns a clock into instants that never decrease.
package timeline

import (
	"reflect"
	"sync"
	"sync/atomic"
	"time"

	"github.com/benbjohnson/clock"
)

// Clock is the clock that a timeline reads.
type Clock interface{ Now() time.Time }

// Timeline counts from the wall time at its start, by the clock's monotonic time.
// It absorbs a wall clock that is set back. It reports a standstill if the wall
// clock is set forward or the process did not run. Both are breaks of time.
//
// A timeline also numbers ticks. While many heartbeats are noted by the real
// clock, Advance keeps a coarse tick, so that noting one needs no reading of the
// clock. An instant I is a number of nanoseconds. All methods are safe for
// concurrent use.
type Timeline[I ~int64] struct {
	clock    Clock
	start    time.Time
	origin   I
	absolute bool // the clock is a mock, which a test moves: a move is no standstill
	coarsens bool // ticks may be coarse

	coarse atomic.Uint64            // the present tick while Advance keeps it, otherwise 0
	count  atomic.Uint32            // of the breaks
	latest atomic.Pointer[lateness] // as of the last break; nil before the first
	ask    chan struct{}            // asks Advance to keep the coarse tick

	mu        sync.Mutex
	last      I
	read      time.Time     // the clock's time at the last reading
	shift     time.Duration // added to absorb steps of the clock
	threshold time.Duration // the longest time between two readings; 0 for any
	busy      uint64        // the last tick in which a heartbeat needed a reading
	asked     int           // how often in that tick
	history   []breaks[I]
}

// breaks are the sums of all breaks until one of them, and the last standstill.
type breaks[I ~int64] struct {
	stood    uint32 // how often the process did not run
	from, to I
	behind   time.Duration // by how much the wall clock was set back
	set      I             // when it was set back last
}

// lateness is by how much the wall clock was set back in a number of breaks.
type lateness struct {
	breaks uint16
	behind time.Duration
}

// Tick is the length of a tick: how finely the time of a heartbeat is noted.
const Tick = time.Millisecond

const (
	// maxBreaks is the number of breaks that are remembered.
	maxBreaks = 1 << 16
	// clockStep is the least difference between wall and monotonic time that counts
	// as a set wall clock.
	clockStep = time.Second
	// coarsePays is how often the time has to be read within one tick before Advance
	// keeps a coarse one: to wake it takes as long as that many readings.
	coarsePays = 32
	// coarseTicks is the number of ticks for which Advance keeps the coarse tick
	// before it waits to be asked again.
	coarseTicks = 64
)

// New returns a timeline that starts now. at converts a time.
func New[I ~int64](c Clock, at func(time.Time) I) *Timeline[I] {
	now := c.Now()
	_, mock := c.(*clock.Mock)
	return &Timeline[I]{
		clock: c, start: now, origin: at(now), absolute: mock, read: now, last: at(now), ask: make(chan struct{}, 1), history: make([]breaks[I], 1),
		coarsens: reflect.TypeOf(c) == reflect.TypeOf(clock.New()),
	}
}

// Origin returns the instant of the start.
func (t *Timeline[I]) Origin() I { return t.origin }

// Coarse returns the present tick while Advance keeps it, otherwise 0.
func (t *Timeline[I]) Coarse() uint64 { return t.coarse.Load() }

// Expect sets the longest time between two readings. A longer time counts as a
// standstill of the process. 0 means that readings may stop.
func (t *Timeline[I]) Expect(threshold time.Duration) {
	t.Now()
	t.setThreshold(threshold)
}

// Stop expects no more readings and ends the coarse tick. It reads no clock.
func (t *Timeline[I]) Stop() { t.setThreshold(0) }

// setThreshold also ends the coarse tick. Advance is asked again only while there
// is a threshold.
func (t *Timeline[I]) setThreshold(threshold time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.threshold = threshold
	t.coarse.Store(0)
}

// Breaks returns the number of breaks until time was last read. It wraps at 65,536.
func (t *Timeline[I]) Breaks() uint16 { return uint16(t.count.Load()) }

// Since reads the breaks after the given number of breaks. It returns the last
// standstill among them, if stood, by how much the wall clock was set back, and when
// it was set back last.
func (t *Timeline[I]) Since(told uint16) (now uint16, stood bool, from, to I, behind time.Duration, set I) {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := t.count.Load()
	last, then := t.history[n%maxBreaks], breaks[I]{}
	if int(told) < len(t.history) {
		then = t.history[told]
	}
	return uint16(n), last.stood != then.stood, last.from, last.to, last.behind - then.behind, last.set
}

// Behind returns by how much the wall clock was set back until time was last read.
func (t *Timeline[I]) Behind() time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.history[t.count.Load()%maxBreaks].behind
}

// BehindAt returns by how much the wall clock was set back in the given number of
// breaks.
func (t *Timeline[I]) BehindAt(told uint16) time.Duration {
	switch l := t.latest.Load(); {
	case l == nil:
		return 0
	case l.breaks == told:
		return l.behind
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if int(told) >= len(t.history) {
		return 0
	}
	return t.history[told].behind
}

// Tick returns the number of the tick of an instant, counted from 1. An instant
// before the start has 0.
func (t *Timeline[I]) Tick(at I) uint64 {
	if at < t.origin {
		return 0
	}
	return uint64(at-t.origin)/uint64(Tick) + 1
}

// Instant returns the instant at which a tick begins, 0 for tick 0.
func (t *Timeline[I]) Instant(tick uint64) I {
	if tick == 0 {
		return 0
	}
	return t.origin + I(tick-1)*I(Tick)
}

// Whole returns the present tick. ok reports whether it can be noted as the time:
// by the real clock, or if it begins at this very instant.
func (t *Timeline[I]) Whole() (tick uint64, ok bool) {
	now := t.Now()
	tick = t.Tick(now)
	if t.coarsens {
		t.mu.Lock()
		if t.threshold > 0 { // Advance runs
			if tick != t.busy {
				t.busy, t.asked = tick, 0
			}
			if t.asked++; t.asked > coarsePays && t.coarse.Load() == 0 {
				select {
				case t.ask <- struct{}{}:
				default: // it has been asked already
				}
				t.coarse.Store(t.Tick(t.last))
			}
		}
		t.mu.Unlock()
	}
	return tick, t.coarsens || t.Instant(tick) == now
}

// Advance keeps the coarse tick while Whole asks for it, until done.
func (t *Timeline[I]) Advance(done <-chan struct{}) {
	for {
		select {
		case <-t.ask:
		case <-done:
			return
		}
		ticker := time.NewTicker(Tick)
		for range coarseTicks {
			select {
			case <-ticker.C:
			case <-done:
				ticker.Stop()
				return
			}
			t.Now()
		}
		ticker.Stop()
		t.mu.Lock()
		t.coarse.Store(0)
		t.mu.Unlock()
	}
}

// Now reads the time.
func (t *Timeline[I]) Now() I {
	t.mu.Lock()
	defer t.mu.Unlock()
	at := t.clock.Now()
	passed := at.Sub(t.read)
	step := at.Round(0).Sub(t.read.Round(0)) - passed // of the wall clock against the monotonic one
	t.read = at
	now := t.origin + I(at.Sub(t.start)) + I(t.shift)
	stood := t.threshold > 0 && !t.absolute && time.Duration(now-t.last) > t.threshold
	var behind time.Duration
	switch {
	case now < t.last: // a clock without a monotonic reading
		behind = time.Duration(t.last - now)
		t.shift += behind
		now = t.last
	case step < -clockStep:
		behind = -step
	case step > clockStep: // set forward, or the machine slept
		t.shift += step
		now += I(step)
		stood = true
	}
	if stood || behind > 0 {
		t.note(stood, now, behind)
	}
	t.last = now
	if t.coarse.Load() != 0 {
		t.coarse.Store(t.Tick(now))
	}
	return now
}

// note records a break. The lock is held.
func (t *Timeline[I]) note(stood bool, now I, behind time.Duration) {
	n := t.count.Load()
	next := t.history[n%maxBreaks]
	if behind > 0 {
		next.behind, next.set = next.behind+behind, now
	}
	if stood {
		next.stood++
		next.from, next.to = t.last, now
	}
	n++
	if len(t.history) < maxBreaks {
		t.history = append(t.history, next)
	} else {
		t.history[n%maxBreaks] = next
	}
	t.latest.Store(&lateness{uint16(n), next.behind})
	t.count.Store(n)
}
