package presence

import (
	"cmp"
	"math"
	"slices"
	"sync"

	"github.com/presence-go/presence/internal/wheel"
)

// deadlines has at most one wheel entry for each subject. A deadline that moves
// later leaves the entry: when the entry is due, the sweep adds the next one.
type deadlines struct {
	mu    sync.Mutex // guards the fields below; nothing is locked under it
	wheel wheel.Wheel
	next  Instant       // when the next sweep is due, or earlier; 0 means never
	held  Instant       // when held-back changes are to be sent; 0 means none
	wake  chan struct{} // signalled when the loop of Run must look again
}

// farTicks is how far ahead an entry lies at most. A later deadline is looked at
// again then.
const farTicks = 1 << 30

// sendHeldBack schedules a sweep for changes that the policy may hold back from an
// instant on.
func (t *Tracker) sendHeldBack(m *Machine, from Instant) {
	hold := m.coalesces()
	if hold == 0 {
		return
	}
	d, at := &t.deadlines, from.Add(hold)
	d.mu.Lock()
	sooner := d.held == 0 || at < d.held
	if sooner {
		d.held = at
	}
	d.mu.Unlock()
	if sooner {
		d.nudge()
	}
}

// nudge makes the loop of Run look again.
func (d *deadlines) nudge() { signal(d.wake) }

// arm makes sure that a loaded subject is looked at no later than at.
func (t *Tracker) arm(h *loaded, at Instant) {
	now := t.time.Tick(h.state.Now)
	tick := min(t.time.Tick(at), now+farTicks)
	if h.sub.flags&flagArmed != 0 && int32(h.sub.armed-uint32(tick)) <= 0 {
		return
	}
	h.sub.armed = uint32(tick)
	h.sub.flags |= flagArmed
	d := &t.deadlines
	d.mu.Lock()
	d.wheel.Add(tick, h.n)
	sooner := d.next == 0 || at < d.next
	if sooner {
		d.next = at
	}
	d.mu.Unlock()
	if sooner {
		d.nudge()
	}
}

// meetDeadlines meets the due deadlines in the order of time, and returns when it
// must be called again. It waits for a concurrent call, since what is due must be
// processed when it returns.
func (t *Tracker) meetDeadlines() (next Instant) {
	t.sweeping.Lock()
	defer t.sweeping.Unlock()
	now := t.time.Now()
	tick := t.time.Tick(now)
	var soon Instant
	d := &t.deadlines
	for {
		d.mu.Lock()
		taken, ok := d.wheel.Take(tick)
		d.mu.Unlock()
		if !ok {
			break
		}
		met, later := t.meetSlot(&taken, now)
		if later != 0 && (soon == 0 || later < soon) {
			soon = later
		}
		if !met && taken.Exact() && taken.From >= tick {
			break // the rest of this tick is not due yet
		}
	}
	next = t.nextDeadline(soon)
	if at := t.openAndClose(now); at != 0 && (next == 0 || at < next) {
		next = at
	}
	if at, ok := t.flushChannels(now); ok && (next == 0 || at < next) {
		next = at
	}
	return next
}

// due is a subject whose deadline is due.
type due struct {
	at Instant
	n  uint32
}

// meetSlot meets the due deadlines of a slot of the wheel, and enters the rest
// again. met reports whether any was due. soon is the next deadline within the
// present tick, or 0.
func (t *Tracker) meetSlot(taken *wheel.Slot, now Instant) (met bool, soon Instant) {
	d := &t.deadlines
	const atOnce = 4096
	numbers, list := t.sweep.numbers, t.sweep.due
	defer func() { t.sweep.numbers, t.sweep.due = numbers, list }()
	for more := true; more; {
		list = list[:0]
		for more && len(list) < atOnce {
			d.mu.Lock()
			numbers = d.wheel.Drain(taken, numbers[:0])
			d.mu.Unlock()
			more = len(numbers) > 0
			t.fetch(numbers)
			for _, n := range numbers {
				at, isDue, done := t.look(n, taken, now, len(list) > byName)
				switch {
				case done:
					met = true
				case isDue:
					list = append(list, due{at, n})
				case at != 0 && t.time.Tick(at) == t.time.Tick(now) && (soon == 0 || at < soon):
					soon = at
				}
			}
		}
		t.order(list)
		for _, next := range list {
			if h := t.lockByNumber(next.n); h != nil {
				h.meet(next.at, now)
				h.unlock()
				met = true
			}
		}
	}
	return met, soon
}

// fetch reads slots so that the processor has them in its cache. Here the processor
// fetches many at once. Between locks it would wait for each.
func (t *Tracker) fetch(numbers []uint32) {
	for _, n := range numbers {
		sh, place := t.shardOf(n)
		sub := sh.view.Load().seat(place)
		sub.pulse.heard.Load() // the first and the last part that is read
		sub.name.Load()
	}
}

// meet meets the deadline of a loaded subject.
func (h *loaded) meet(at, now Instant) {
	h.warnLate(at, now)
	h.sub.flags &^= flagArmed
	h.step(&Event{Kind: EventTick, lastName: &h.sh.lastName}, at)
}

// look returns the deadline of a subject of a wheel slot, and whether it is due. A
// subject that is not due is entered again. If many are due, look meets a deadline
// that none of the others can precede, and returns done.
func (t *Tracker) look(n uint32, taken *wheel.Slot, now Instant, many bool) (at Instant, isDue, done bool) {
	sh, place := t.shardOf(n)
	sh.mu.Lock()
	v := sh.view.Load()
	sub := v.seat(place)
	if sub.flags&flagArmed == 0 || uint64(sub.armed-uint32(taken.From)) >= taken.To-taken.From {
		sh.mu.Unlock()
		return 0, false, false // entered again, or erased
	}
	tick, ok := t.quiet(sub, taken.From)
	if ok && tick >= taken.To {
		t.enter(sub, n, tick, taken)
		sh.mu.Unlock()
		return 0, false, false
	}
	h := t.load(sh, v, n, sub)
	defer h.unlock()
	at, ok = h.m.Next(h.state)
	if !ok {
		sub.flags &^= flagArmed
		return 0, false, false
	}
	if tick = t.time.Tick(at); taken.Exact() && tick <= taken.From && at <= now {
		if many && at == t.time.Instant(taken.From) {
			h.meet(at, now)
			return 0, false, true
		}
		return at, true, false
	}
	t.enter(sub, n, tick, taken)
	return at, false, false
}

// enter enters a subject for a later tick, after its slot was taken. Its shard is
// locked.
func (t *Tracker) enter(sub *slot, n uint32, tick uint64, taken *wheel.Slot) {
	tick = min(tick, taken.From+farTicks)
	sub.armed = uint32(tick)
	d := &t.deadlines
	d.mu.Lock()
	d.wheel.Add(tick, n)
	d.mu.Unlock()
}

// quiet returns a tick before which no deadline of a subject lies. It reads only
// the pulse. It returns false if the subject has more than one connection, or the
// pulse does not suffice.
func (t *Tracker) quiet(sub *slot, now uint64) (tick uint64, ok bool) {
	force := t.tenants.at(uint32(sub.name.Load() >> 40)).inForce.Load()
	heard := sub.pulse.heard.Load()
	if sub.flags&(flagUnpacked|flagActed) != 0 || sub.class == 0 || heard&pulsing == 0 || force.ignores || force.before != nil {
		return 0, false
	}
	tick = heard&tickMask + force.terms.lease
	input := sub.pulse.input.Load() & tickMask
	for _, after := range force.stages {
		if reached := input + after; reached+1 >= now {
			tick = min(tick, reached)
			break
		}
	}
	return tick, input != 0
}

// byName is the largest number of due subjects that are ordered by name.
const byName = 256

// order sorts due subjects by time. Up to byName of them are also sorted by name
// within one instant.
func (t *Tracker) order(list []due) {
	slices.SortFunc(list, func(a, b due) int {
		if c := cmp.Compare(a.at, b.at); c != 0 || len(list) > byName {
			return c
		}
		return compareRefs(t.ref(a.n), t.ref(b.n))
	})
}

// nextDeadline returns the next deadline, or an earlier instant. It is exact if few
// subjects have the next tick. soon is a deadline that is known, or 0.
func (t *Tracker) nextDeadline(soon Instant) Instant {
	d := &t.deadlines
	d.mu.Lock()
	next, few, limit := soon, t.sweep.numbers[:0], uint64(0)
	tick, ok := d.wheel.Next()
	if ok && soon == 0 {
		next = t.time.Instant(tick)
		few, limit = d.wheel.Peek(few)
	}
	d.next = next
	d.mu.Unlock()
	for _, n := range few {
		sh, place := t.shardOf(n)
		sh.mu.Lock()
		if sub := sh.view.Load().seat(place); sub.flags&flagArmed != 0 && int32(sub.armed-uint32(tick)) >= 0 {
			limit = min(limit, tick+uint64(sub.armed-uint32(tick)))
		}
		sh.mu.Unlock()
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(few) > 0 && d.next == next { // a sooner one has been entered otherwise
		d.next = 0
		if limit != math.MaxUint64 {
			d.next = t.time.Instant(limit)
		}
	}
	return d.next
}

func signal(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default: // one signal is waiting
	}
}

// flushChannels sends the held-back changes that are due. Once a minute it also
// removes hubs that are not used.
func (t *Tracker) flushChannels(now Instant) (next Instant, ok bool) {
	if now >= t.sweep.tidied.Add(listedFor) {
		t.sweep.tidied = now
		for _, hub := range t.channelTable.allHubs() {
			t.forgetUnused(hub)
		}
	}
	if !t.coalescing.Load() {
		return 0, false
	}
	t.deadlines.mu.Lock()
	t.deadlines.held = 0 // changes held back from now on schedule a sweep again
	t.deadlines.mu.Unlock()
	for _, hub := range t.channelTable.lateHubs() {
		if at, waits := hub.flush(now); waits && (!ok || at < next) {
			next, ok = at, true
		}
	}
	return next, ok
}
