package presence

import (
	"hash/maphash"
	"slices"
	"sync/atomic"
	"time"
)

// noteHeartbeat notes a heartbeat without a lock. It reports false where the
// state machine has to be asked.
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

type extraPulse struct {
	epoch  uint32
	folded uint64
	*pulse
}

// A pulse takes what can be noted of a connection without any lock: that it was
// heard, and that there was input over it. Both are words of a mark and a tick
// of time. The mark of the first says whose pulse it is, and that it may be noted
// at present; that of the second is a hash of the connection's id. What was noted
// is folded into the state before the next step, with the same result as a step
// for each.
type pulse struct{ heard, input atomic.Uint64 }

const (
	tickBits = 40 // 34 years
	tickMask = 1<<tickBits - 1
	markOne  = 1 << tickBits // added to a mark it makes another
	pulsing  = 1 << 63       // set in the mark of a connection that is live
)

// note notes a tick in a word if it has the mark and its last tick is at most
// patience old. It reports false where the state machine has to be asked.
func note(word *atomic.Uint64, mark, tick, patience uint64) bool {
	for {
		w := word.Load()
		if w == mark|tick {
			return true
		}
		if w&^tickMask != mark || w&tickMask == 0 || tick-w&tickMask >= patience {
			return false // tick 0 is any time before the first
		}
		if word.CompareAndSwap(w, mark|tick) {
			return true
		}
	}
}

// fold takes over what has been noted of the connections.
func (h *loaded) fold() {
	for i := range h.state.Conns {
		c := &h.state.Conns[i]
		if p, folded := h.pulse(c.Epoch); p != nil {
			*folded = h.t.time.fold(p, c)
		}
	}
}

// pulse returns the pulse of a connection, if it has one, and where it is noted
// what of its input has been folded.
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

// syncPulses tells pulses what may be noted from now on. Every connection has
// one, of which the record has room for one.
func (h *loaded) syncPulses() {
	conns := h.state.Conns
	if h.extra == nil && len(conns) == 1 && h.owner == conns[0].Epoch {
		h.t.set(&h.sub.pulse, h.folded, &conns[0], h.anew)
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
			b.stop(h.t.time, c) // it goes, or the record has room for it
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
		h.t.set(p, *folded, c, fresh || h.anew)
	}
	h.anew = false
}

// stop refuses whatever would be noted. What has been noted of a connection that
// goes on is folded into it.
func (p *pulse) stop(t *timeline, c *ConnState) {
	heard := p.heard.Swap((p.heard.Load() + markOne) &^ tickMask &^ pulsing)
	input := p.input.Swap(0)
	if c != nil {
		c.Heard = max(c.Heard, t.instant(heard&tickMask))
		if input&tickMask > t.tick(c.Input) {
			c.Input = t.instant(input & tickMask)
		}
	}
}

// silence stops every pulse.
func (h *loaded) silence() {
	h.sub.pulse.stop(h.t.time, nil)
	if h.extra != nil {
		for _, b := range h.extra.pulses {
			b.stop(h.t.time, nil)
		}
	}
}

// fold takes over what was noted of a connection, and returns the word of its
// input.
func (t *timeline) fold(p *pulse, c *ConnState) uint64 {
	if w := p.heard.Load(); c.Heard == 0 || w&pulsing != 0 && w&tickMask > t.tick(c.Heard) {
		c.Heard = t.instant(w & tickMask)
	}
	w := p.input.Load()
	if c.Input == 0 || w&tickMask > t.tick(c.Input) {
		c.Input = t.instant(w & tickMask)
	}
	return w
}

// set has a pulse say what its connection does. A fresh one is marked anew, so
// that handles ask before they note anything.
func (t *Tracker) set(p *pulse, folded uint64, c *ConnState, fresh bool) {
	old := p.heard.Load()
	live := uint64(0)
	if c.Left == 0 {
		live = pulsing
	}
	mark := old &^ tickMask
	if fresh || mark&pulsing != live {
		mark = (mark+markOne)&^pulsing | live
		p.input.Store(t.connMark(c.ID) | t.time.tick(c.Input))
		p.heard.Store(mark | t.time.tick(c.Heard))
		return
	}
	for tick := t.time.tick(c.Heard); old&tickMask < tick; old = p.heard.Load() {
		if p.heard.CompareAndSwap(old, mark|tick) {
			break
		}
	}
	if now := folded&^tickMask | t.time.tick(c.Input); now != folded {
		p.input.CompareAndSwap(folded, now) // otherwise there was input since
	}
}

// says reports whether a word of a pulse alone says the instant.
func (t *timeline) says(word *atomic.Uint64, at Instant) bool {
	tick := word.Load() & tickMask
	return tick > 0 && t.instant(tick) == at
}

// connMark is a hash of a connection's id that no stranger can foresee, as a mark.
func (t *Tracker) connMark(id string) uint64 { return maphash.String(t.seed, id) &^ tickMask }

// ticks is a duration in ticks, the fraction left out.
func ticks(d time.Duration) uint64 { return uint64(max(0, d) / tickLength) }
