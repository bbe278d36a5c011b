package presence

import (
	"hash/maphash"
	"slices"
	"sync/atomic"
	"time"

	"github.com/presence-go/presence/internal/timeline"
)

// noteHeartbeat notes a heartbeat without a lock. It returns false if a step is
// needed.
func (t *Tracker) noteHeartbeat(subject Ref, conn string, tick uint64) bool {
	tn, ok := t.tenants.find(subject.Tenant)
	if !ok {
		return false
	}
	hash := t.hash(tn.id, subject.ID)
	_, sub := t.shards[hash%shardCount].view.Load().find(hash, subject.ID, tn.id)
	if sub == nil {
		return false
	}
	mark := sub.pulse.heard.Load() &^ tickMask
	if mark&pulsing == 0 || sub.pulse.input.Load()&^tickMask != t.connMark(conn) {
		return false
	}
	return note(&sub.pulse.heard, mark, tick, tn.inForce.Load().terms.lease)
}

// extraPulse is the pulse of a further connection of a subject.
type extraPulse struct {
	epoch  uint32
	folded uint64
	*pulse
}

// A pulse notes heartbeats and inputs of one connection without a lock. It is two
// words, each a mark (24 bits) and a tick (40 bits):
//
//	heard  the connection's mark, with a bit for live; the last sign of life
//	input  the hash of the connection's id; the last input
//
// Every step folds the pulse into the state first. That is correct for five reasons.
//
//  1. A note changes only a time, and puts a deadline off. It is allowed only if the
//     last sign of life is younger than the lease and than the last standstill, or
//     the last input younger than the first idle stage. So no deadline lies between
//     the two, and a step would set Heard or Input and return no output. In every
//     other case a step is made.
//  2. No note reaches another connection. A connection that is replaced, leaves or
//     gives up its pulse changes the mark (set, stop). A note compares and swaps
//     mark and tick as one word. A mark repeats after 2^23 changes of one pulse.
//  3. A handle never pairs a new mark with an old pulse. bind writes the mark last,
//     and a handle reads it first. A heartbeat by name reads the mark, then the id;
//     set writes the id, then the mark.
//  4. No note is lost while the mark stays, since set and fold only move ticks
//     forward. A note between fold and a new mark is lost. The time in the state is
//     then too old by less than the length of one step.
//  5. No deadline is met too early. A note does not move the subject's entry in the
//     wheel. When the entry is due, the sweep folds or reads the pulse first.
//
// A new policy changes the marks of all pulses, so that each handle makes one step
// and gets the new terms. Until all subjects follow the policy, the shorter terms of
// both policies count.
//
// BenchmarkHeartbeat: about 5 ns. BenchmarkStep, without a pulse: about 60 ns.
type pulse struct{ heard, input atomic.Uint64 }

const (
	tickBits = 40 // 34 years
	tickMask = 1<<tickBits - 1
	markOne  = 1 << tickBits // added to a mark, makes a new mark
	pulsing  = 1 << 63       // set in the mark of a live connection
)

// note stores a tick in a word that has the mark and whose tick is less than
// patience old. It returns false if a step is needed.
func note(word *atomic.Uint64, mark, tick, patience uint64) bool {
	for {
		w := word.Load()
		if w == mark|tick {
			return true
		}
		if w&^tickMask != mark || w&tickMask == 0 || tick-w&tickMask >= patience {
			return false // tick 0 means an instant before the first tick
		}
		if word.CompareAndSwap(w, mark|tick) {
			return true
		}
	}
}

// fold folds the pulses of all connections into the state.
func (h *loaded) fold() {
	for i := range h.state.Conns {
		c := &h.state.Conns[i]
		if p, folded := h.pulse(c.Epoch); p != nil {
			*folded = fold(h.t.time, p, c)
		}
	}
}

// pulse returns the pulse of a connection, or nil. folded is the input word as it
// was last folded.
func (h *loaded) pulse(epoch uint32) (p *pulse, folded *uint64) {
	if h.owner == epoch {
		return &h.sub.pulse, &h.folded
	}
	if h.extra != nil {
		for i := range h.extra.pulses {
			if b := &h.extra.pulses[i]; b.epoch == epoch {
				return b.pulse, &b.folded
			}
		}
	}
	return nil, nil
}

// syncPulses makes the pulses match the state. Every connection has a pulse. The
// slot has room for one of them, and extra has the others.
func (h *loaded) syncPulses() {
	conns := h.state.Conns
	if h.extra == nil && len(conns) == 1 && h.owner == conns[0].Epoch {
		h.set(&h.sub.pulse, h.folded, &conns[0], h.anew)
		h.anew = false
		return
	}
	find := func(epoch uint32) *ConnState {
		if i := slices.IndexFunc(conns, func(c ConnState) bool { return c.Epoch == epoch }); i >= 0 {
			return &conns[i]
		}
		return nil
	}
	if h.owner != 0 && find(h.owner) == nil {
		h.sub.pulse.stop(h.t.time, nil)
		h.owner = 0
	}
	if h.extra != nil && len(h.extra.pulses) > 0 {
		h.extra.pulses = slices.DeleteFunc(h.extra.pulses, func(b extraPulse) bool {
			c := find(b.epoch)
			if c != nil && (len(conns) > 1 || h.owner == b.epoch) {
				return false
			}
			b.stop(h.t.time, c) // the connection ended, or the slot has room for its pulse
			return true
		})
	}
	for i := range conns {
		c := &conns[i]
		p, folded := h.pulse(c.Epoch)
		fresh := p == nil
		if fresh {
			if h.owner == 0 {
				h.owner = c.Epoch
			} else {
				m := h.need()
				m.pulses = append(m.pulses, extraPulse{epoch: c.Epoch, pulse: new(pulse)})
			}
			p, folded = h.pulse(c.Epoch)
		}
		h.set(p, *folded, c, fresh || h.anew)
	}
	h.anew = false
}

// stop ends a pulse, so that no later note succeeds. If c is given, the connection
// continues, and stop folds the pulse into c.
func (p *pulse) stop(t *timeline.Timeline[Instant], c *ConnState) {
	heard := p.heard.Swap((p.heard.Load() + markOne) &^ tickMask &^ pulsing)
	input := p.input.Swap(0)
	if c != nil {
		c.Heard = max(c.Heard, t.Instant(heard&tickMask))
		if input&tickMask > t.Tick(c.Input) {
			c.Input = t.Instant(input & tickMask)
		}
	}
}

// silence stops every pulse of the subject.
func (h *loaded) silence() {
	h.sub.pulse.stop(h.t.time, nil)
	if h.extra != nil {
		for _, b := range h.extra.pulses {
			b.stop(h.t.time, nil)
		}
	}
}

// fold folds the pulse of a connection into the connection. It returns the input
// word.
func fold(t *timeline.Timeline[Instant], p *pulse, c *ConnState) uint64 {
	if w := p.heard.Load(); c.Heard == 0 || w&pulsing != 0 && w&tickMask > t.Tick(c.Heard) {
		c.Heard = t.Instant(w & tickMask)
	}
	w := p.input.Load()
	if c.Input == 0 || w&tickMask > t.Tick(c.Input) {
		c.Input = t.Instant(w & tickMask)
	}
	return w
}

// set makes a pulse match its connection. A fresh pulse gets a new mark, so that
// handles make a step before they note anything. So does one that was last heard
// before a standstill, by its tick 0: what is heard next ends the extension of its
// lease, after which the subject is due earlier than the wheel has it.
func (h *loaded) set(p *pulse, folded uint64, c *ConnState, fresh bool) {
	t := h.t
	old := p.heard.Load()
	live := uint64(0)
	if c.Left == 0 {
		live = pulsing
	}
	tick := t.time.Tick(c.Heard)
	extended := c.Heard < h.state.SuspendedUntil
	if extended {
		tick = 0
	}
	mark := old &^ tickMask
	if fresh || mark&pulsing != live || extended {
		mark = (mark+markOne)&^pulsing | live
		p.input.Store(t.connMark(c.ID) | t.time.Tick(c.Input))
		p.heard.Store(mark | tick)
		return
	}
	for ; old&tickMask < tick; old = p.heard.Load() {
		if p.heard.CompareAndSwap(old, mark|tick) {
			break
		}
	}
	if now := folded&^tickMask | t.time.Tick(c.Input); now != folded {
		p.input.CompareAndSwap(folded, now) // fails if a later input was noted
	}
}

// holds reports whether the word of a pulse has an instant.
func holds(t *timeline.Timeline[Instant], word *atomic.Uint64, at Instant) bool {
	tick := word.Load() & tickMask
	return tick > 0 && t.Instant(tick) == at
}

// connMark returns the mark of a connection's id: a hash that no client can
// predict.
func (t *Tracker) connMark(id string) uint64 { return maphash.String(t.seed, id) &^ tickMask }

// ticks returns a duration in ticks, rounded down.
func ticks(d time.Duration) uint64 { return uint64(max(0, d) / timeline.Tick) }
