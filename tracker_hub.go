package presence

import (
	"slices"
	"strconv"
	"sync"
	"time"
)

// channelHub is a roster with its watchers: what a channel, or a subject that is
// watched alone, has while somebody looks at it.
type channelHub struct {
	t      *Tracker
	ch     *channelEntry // nil for those who watch one subject alone
	owner  uint32        // the number of the subject then
	epochs *epochs
	filled sync.Once

	mu     sync.Mutex
	roster Roster
	listed Instant // when somebody last asked for a list
	armed  Instant // when the openings look at it
	late   bool    // holds changes back
	closed bool
}

// epochs is how many streams have been opened so far, by audience.
type epochs [6]uint32

// newHub returns a hub whose streams remember so many frames.
func (t *Tracker) newHub(ref Ref, m *Machine, recall int, epochs *epochs) *channelHub {
	return &channelHub{t: t, epochs: epochs, roster: Roster{channel: ref, m: m, recall: recall}}
}

func (hub *channelHub) ref() Ref { return hub.roster.channel }

// put takes over a member's presence and tells the watchers.
func (hub *channelHub) put(p *Presence, now Instant) {
	hub.mu.Lock()
	defer hub.mu.Unlock()
	hub.deliver(hub.roster.put(p, now))
}

// tell says something to a member itself.
func (hub *channelHub) tell(c Change) {
	hub.mu.Lock()
	defer hub.mu.Unlock()
	hub.deliver(hub.roster.Tell(c))
}

// remove takes a member out and ends its own watches in the same step.
func (hub *channelHub) remove(subject Ref, now Instant, reason error) {
	hub.mu.Lock()
	defer hub.mu.Unlock()
	for _, s := range slices.Clone(hub.roster.streams) {
		s.watches = slices.DeleteFunc(s.watches, func(w *Watch) bool {
			evicted := w.actor.Subject == subject && w.member
			if evicted {
				w.end(&Frame{Kind: FrameRemoved, Version: FrameVersion, Channel: hub.ref()}, reason)
			}
			return evicted
		})
		hub.forgetIdle(s)
	}
	hub.deliver(hub.roster.Remove(subject, now))
	hub.roster.forget() // what happens until it is let in again is not for it to know
}

// forget makes those who come back begin with a snapshot.
func (hub *channelHub) forget() {
	hub.mu.Lock()
	defer hub.mu.Unlock()
	hub.roster.forget()
}

func (hub *channelHub) setMachine(m *Machine) {
	hub.mu.Lock()
	defer hub.mu.Unlock()
	hub.roster.SetMachine(m)
}

func (hub *channelHub) refresh(now Instant) {
	hub.mu.Lock()
	defer hub.mu.Unlock()
	hub.deliver(hub.roster.Republish(now))
}

func (hub *channelHub) flush(now Instant) (next Instant, ok bool) {
	hub.mu.Lock()
	defer hub.mu.Unlock()
	hub.deliver(hub.roster.Flush(now))
	return hub.roster.heldBack()
}

// deliver hands frames to those who watch, and sees to what is held back.
func (hub *channelHub) deliver(frames []*Frame) {
	if late := hub.roster.holdsBack(); late != hub.late {
		hub.late = late
		hub.t.channelTable.holdsBack(hub, late)
	}
	for _, f := range frames {
		to := f.stream
		f.stream = nil // whoever keeps the frame does not keep all that
		for _, w := range to.watches {
			w.push(f)
		}
	}
}

func (hub *channelHub) endAll(reason error) {
	hub.mu.Lock()
	defer hub.mu.Unlock()
	hub.closed = true
	for _, s := range hub.roster.streams {
		for _, w := range s.watches {
			w.end(nil, reason)
		}
		s.watches = nil
	}
}

// forgetIdle drops a stream that nobody watches any more.
func (hub *channelHub) forgetIdle(s *stream) {
	if len(s.watches) == 0 {
		hub.roster.Close(s.key.audience, s.key.viewer)
	}
}

// snapshot returns the present list for a watcher, after which its queue is
// empty and receives every change.
func (hub *channelHub) snapshot(w *Watch) *Frame {
	hub.mu.Lock()
	defer hub.mu.Unlock()
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ended || !w.stale {
		return nil
	}
	f := hub.roster.snapshot(w.from)
	if w.lagged {
		lagged := *f
		lagged.Lagged = true
		lagged.encoded = nil
		f = &lagged
	}
	w.stale, w.lagged = false, false
	return f
}

// open returns a stream. The epoch of a new one is that of no
// other: not of another audience, of a channel of this name that was forgotten,
// or of the process that ran here before. It is made of what the audience itself
// did, so that it tells nothing about anybody else.
func (hub *channelHub) open(key streamKey, now Instant) *stream {
	return hub.roster.open(key, func() string {
		n := &hub.epochs[slices.Index(audiences, key.audience)]
		*n++
		return strconv.FormatInt(int64(now), 36) + "." + string(key.audience[:2]) + strconv.FormatUint(uint64(*n), 36)
	})
}

// listedFor is how long a channel keeps its list at hand after somebody asked
// for it.
const listedFor = time.Minute

// idle closes the hub if nobody looks at it any more, and reports whether it did.
func (hub *channelHub) idle(now Instant) bool {
	hub.mu.Lock()
	defer hub.mu.Unlock()
	if hub.closed || len(hub.roster.streams) > 0 || hub.roster.hasHours() ||
		hub.listed != 0 && hub.roster.Len() > 0 && now < hub.listed.Add(listedFor) {
		return false
	}
	hub.closed = true
	return true
}

// hubLocked returns the hub of a channel, under t.mu. It may have to be filled.
func (t *Tracker) hubLocked(ch *channelEntry) *channelHub {
	if hub := ch.hub.Load(); hub != nil {
		return hub
	}
	if ch.epochs == nil {
		ch.epochs = new(epochs)
	}
	hub := t.newHub(ch.ref, t.machine(ch.ref.Tenant), t.opts.ReplayFrames, ch.epochs)
	hub.ch = ch
	t.channelTable.addHub(hub)
	ch.hub.Store(hub)
	return hub
}

// fill puts the members of a channel into its new hub, to which whatever
// happens to them is told from now on.
func (t *Tracker) fill(hub *channelHub) {
	hub.filled.Do(func() {
		t.mu.RLock()
		members := hub.ch.members()
		t.mu.RUnlock()
		now := t.time.now()
		for _, n := range members {
			if h := t.lockByNumber(n); h != nil {
				if h.member(hub.ch) { // still
					hub.put(h.current(), now)
				}
				h.unlock()
			}
		}
	})
}

// eachHub calls f for whatever looks at a subject.
func (h *loaded) eachHub(f func(*channelHub)) {
	visit := func(ch *channelEntry) {
		if hub := ch.hub.Load(); hub != nil {
			f(hub)
		}
	}
	switch {
	case h.extra != nil:
		for _, n := range h.extra.grants {
			h.t.channelTable.at(n).eachLinked(visit)
		}
	case h.sub.grant != 0:
		h.t.channelTable.at(h.sub.grant - 1).eachLinked(visit)
	}
	if alone := h.subjectHub(); alone != nil {
		f(alone)
	}
}

// subjectHub returns the hub of those who watch the subject alone, if anybody does.
func (h *loaded) subjectHub() *channelHub {
	_, place := h.t.shardOf(h.n)
	return h.sh.subjectHubs[place]
}

// show tells those who look at a subject of its presence, of which they share a
// copy.
func (h *loaded) show(p *Presence, now Instant) {
	var shared *Presence
	h.eachHub(func(hub *channelHub) {
		if shared == nil {
			shared = new(Presence)
			*shared = *p
		}
		hub.put(shared, now)
	})
}

// current is the subject's presence for those who keep it, one copy for all of
// them as far as possible.
func (h *loaded) current() (p *Presence) {
	now := &h.state.Current
	h.eachHub(func(hub *channelHub) {
		if p == nil {
			p = hub.member(h.ref)
		}
	})
	if p == nil || p.Since != now.Since || !samePresence(p, now) {
		p = new(Presence)
		*p = *now
	}
	return p
}

func (h *loaded) setAlone(alone *channelHub) {
	_, place := h.t.shardOf(h.n)
	if alone == nil {
		delete(h.sh.subjectHubs, place)
		return
	}
	if h.sh.subjectHubs == nil {
		h.sh.subjectHubs = make(map[uint32]*channelHub)
	}
	h.sh.subjectHubs[place] = alone
}

func (hub *channelHub) member(subject Ref) *Presence {
	hub.mu.Lock()
	defer hub.mu.Unlock()
	return hub.roster.members.get(subject)
}

// forgetUnused drops a hub that nobody looks at, and its channel if it has
// neither members nor links, so that asking for channels nobody uses costs
// nothing.
func (t *Tracker) forgetUnused(hub *channelHub) {
	now := t.time.now()
	if hub.ch == nil {
		h := t.lock(hub.owner, hub.ref())
		if h == nil || h.subjectHub() != hub {
			hub.idle(now) // its subject has been erased
			t.channelTable.removeHub(hub)
		} else if hub.idle(now) {
			h.setAlone(nil)
			t.channelTable.removeHub(hub)
		}
		if h != nil {
			h.unlock()
		}
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if hub.idle(now) {
		hub.ch.hub.Store(nil)
		t.channelTable.removeHub(hub)
		t.forgetLocked(hub.ch)
	}
}

// list appends the list of an audience, unless the hub is closed.
func (hub *channelHub) list(views []View, a Audience, viewer Ref, now Instant) ([]View, Group, bool) {
	hub.mu.Lock()
	defer hub.mu.Unlock()
	if hub.closed {
		return views, Group{}, false
	}
	hub.listed = now
	l := hub.roster.list(a, viewer)
	return append(views, l.views...), hub.roster.gate(a, l.group), true
}
