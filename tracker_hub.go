package presence

import (
	"slices"
	"strconv"
	"sync"
	"time"
)

// channelHub is a roster with its watchers. A channel has one while it is
// watched, listed or has hours, a subject while it is watched by itself.
type channelHub struct {
	t      *Tracker
	ch     *channelEntry // nil for a single subject
	name   Channel       // of the channel; of the subject where one is watched by itself
	owner  uint32        // the number of the single subject
	epochs *epochs
	filled sync.Once

	mu     sync.Mutex
	roster *Roster
	listed Instant // when a list was last asked for
	armed  Instant // when the openings look at it
	late   bool    // holds changes back
	closed bool
}

// epochs counts the streams that were opened, by audience.
type epochs []epochCount

type epochCount struct {
	audience Audience
	n        uint32
}

// next returns the number of an audience's next stream, from 1.
func (e *epochs) next(a Audience) uint32 {
	i := slices.IndexFunc(*e, func(c epochCount) bool { return c.audience == a })
	if i < 0 {
		i = len(*e)
		*e = append(*e, epochCount{audience: a})
	}
	(*e)[i].n++
	return (*e)[i].n
}

// watchList is what a stream with more than one watch has attached. A stream
// with one has the *Watch itself, since most have one.
type watchList []*Watch

// attach adds a watch to a stream.
func attach(s *stream, w *Watch) {
	switch old := s.attached.(type) {
	case nil:
		s.attached = w
	case *Watch:
		s.attached = &watchList{old, w}
	case *watchList:
		*old = append(*old, w)
	}
}

// detach removes the watches of a stream that match. The hub is locked.
func (hub *channelHub) detach(s *stream, match func(*Watch) bool) {
	switch old := s.attached.(type) {
	case *Watch:
		if match(old) {
			s.attached = nil
		}
	case *watchList:
		if *old = slices.DeleteFunc(*old, match); len(*old) == 0 {
			s.attached = nil
		}
	}
	if s.attached == nil {
		hub.roster.closeStream(s)
	}
}

// push queues a frame for the watches of a stream.
func push(s *stream, f *Frame) {
	switch to := s.attached.(type) {
	case *Watch:
		if to.push(f) {
			to.hub.t.counts.frames.Add(1)
		}
	case *watchList:
		queued := uint64(0)
		for _, w := range *to {
			if w.push(f) {
				queued++
			}
		}
		(*to)[0].hub.t.counts.frames.Add(queued) // a list has two watches at least
	}
}

// newHub returns an empty hub. ch is nil for a single subject.
func (t *Tracker) newHub(ch *channelEntry, name Channel, m *Machine, opened *epochs) *channelHub {
	recall := t.opts.ReplayFrames
	if ch == nil {
		recall = 0
	}
	return &channelHub{t: t, ch: ch, name: name, epochs: opened, roster: newRoster(name, m, recall, ch == nil, push)}
}

func (hub *channelHub) ref() Channel { return hub.name }

// update calls f with the roster, whose frames go to the watches.
func (hub *channelHub) update(f func(*Roster)) {
	hub.mu.Lock()
	defer hub.mu.Unlock()
	hub.updateLocked(f)
}

func (hub *channelHub) updateLocked(f func(*Roster)) {
	f(hub.roster)
	if late := hub.roster.waits(); late != hub.late {
		hub.late = late
		hub.t.channelTable.holdsBack(hub, late)
	}
}

// use is update unless the hub is closed, which it reports as false. A hub that
// was made after Close began counts as closed, since Close does not end it.
func (hub *channelHub) use(f func(*Roster)) (open bool) {
	hub.mu.Lock()
	defer hub.mu.Unlock()
	if hub.closed || hub.t.closed.Load() {
		return false
	}
	hub.updateLocked(f)
	return true
}

// useHub calls f with the hub that find returns, and again with the next one if f
// reports that the hub has just been closed. It does nothing if find returns none.
func (t *Tracker) useHub(find func() (*channelHub, error), f func(*channelHub) (open bool, err error)) error {
	for !t.closed.Load() {
		hub, err := find()
		if hub == nil || err != nil {
			return err
		}
		open, err := f(hub)
		if err != nil {
			t.forgetUnused(hub)
		}
		if open || err != nil {
			return err
		}
	}
	return t.closedError()
}

// lookAtSubject returns the hub of a subject by itself.
func (t *Tracker) lookAtSubject(who handle) (*channelHub, error) {
	h := t.lock(who.n, who.ref)
	if h == nil {
		return nil, who.gone()
	}
	defer h.unlock()
	alone := h.subjectHub()
	if alone == nil {
		alone = t.newHub(nil, Channel(who.ref), h.m, new(epochs))
		alone.owner = who.n
		alone.put(h.current(), t.time.Now())
		h.setAlone(alone)
		t.channelTable.addHub(alone)
	}
	return alone, nil
}

// put takes over a member's presence.
func (hub *channelHub) put(p *Presence, now Instant) {
	hub.update(func(r *Roster) { r.Put(p, now) })
}

// tell sends a change to the member that it is about.
func (hub *channelHub) tell(c Change) {
	hub.update(func(r *Roster) { r.Tell(c) })
}

// remove takes a member out and ends its own watches in the same step.
func (hub *channelHub) remove(subject Ref, now Instant, reason error) {
	hub.update(func(r *Roster) {
		r.eachStream(func(s *stream) {
			hub.detach(s, func(w *Watch) bool {
				evicted := w.actor.Subject == subject && w.member
				if evicted {
					w.end(hub.removed(), reason)
				}
				return evicted
			})
		})
		r.Remove(subject, now)
		r.forget() // the member must not learn later what happens from now on
	})
}

// removed returns the last frame of a watch whose access has ended.
func (hub *channelHub) removed() *Frame {
	return &Frame{Kind: FrameRemoved, Version: FrameVersion, Channel: hub.ref()}
}

// forget makes watches that resume begin with a snapshot.
func (hub *channelHub) forget() { hub.update((*Roster).forget) }

func (hub *channelHub) setMachine(m *Machine) {
	hub.update(func(r *Roster) { r.SetMachine(m) })
}

func (hub *channelHub) refresh(now Instant) {
	hub.update(func(r *Roster) { r.Republish(now) })
}

// flush sends the held-back changes that are due, and returns when to look again.
func (hub *channelHub) flush(now Instant) (next Instant, ok bool) {
	hub.update(func(r *Roster) {
		r.Flush(now)
		next, ok = r.Next()
	})
	return next, ok
}

// endAll ends every watch and closes the hub.
func (hub *channelHub) endAll(reason error) {
	hub.mu.Lock()
	defer hub.mu.Unlock()
	hub.closed = true
	hub.roster.eachStream(func(s *stream) {
		hub.detach(s, func(w *Watch) bool {
			w.end(nil, reason)
			return true
		})
	})
}

// snapshot returns the snapshot for a watch. From then on its queue receives
// every change. It returns nil if the watch has ended or needs no snapshot.
func (hub *channelHub) snapshot(w *Watch) *Frame {
	hub.mu.Lock()
	defer hub.mu.Unlock()
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ended || !w.stale {
		return nil
	}
	f := hub.roster.snapshot(w.from, w.lagged)
	w.stale, w.lagged = false, false
	hub.t.counts.frames.Add(1)
	return f
}

// open returns the stream of an audience. The epoch of a new stream differs from
// those of other audiences, of a forgotten channel of this name, and of the
// process that ran here before. It depends on what the audience itself did, so
// that it reveals nothing about other audiences.
func (hub *channelHub) open(a Audience, viewer Ref, now Instant) *stream {
	return hub.roster.open(a, viewer, func() string {
		return strconv.FormatInt(int64(now), 36) + "." + string(a[:2]) + strconv.FormatUint(uint64(hub.epochs.next(a)), 36)
	})
}

// listedFor is how long a channel keeps its lists after one was asked for.
const listedFor = time.Minute

// idle closes the hub if it is not in use, and reports whether it did. A hub of a
// channel is in use for a minute after it was listed, unless it is empty.
func (hub *channelHub) idle(now Instant, empty bool) bool {
	hub.mu.Lock()
	defer hub.mu.Unlock()
	used := hub.listed != 0 && !empty && now < hub.listed.Add(listedFor)
	hub.roster.eachStream(func(*stream) { used = true })
	if _, hours := hub.roster.hours(); hub.closed || used || hours {
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
	hub := t.newHub(ch, ch.ref, t.machine(ch.ref.Tenant), ch.epochs)
	t.channelTable.addHub(hub)
	ch.hub.Store(hub)
	return hub
}

// fill puts the members of a channel into its new hub. Their changes have reached
// the hub since hubLocked returned it.
func (t *Tracker) fill(hub *channelHub) {
	hub.filled.Do(func() {
		t.mu.RLock()
		members := hub.ch.members()
		t.mu.RUnlock()
		now := t.time.Now()
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

// eachHub calls f for every hub that has a subject.
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

// subjectHub returns the hub of the subject by itself, or nil if it is not watched.
func (h *loaded) subjectHub() *channelHub {
	_, place := h.t.shardOf(h.n)
	return h.sh.subjectHubs[place]
}

// show puts a presence into every hub of its subject. The hubs share one copy.
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

// current returns the subject's presence as something that never changes. It is
// the copy of another hub if that is the same.
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
	return hub.roster.member(subject)
}

// forgetUnused drops a hub that is not in use, and its channel if that has neither
// members nor links, so that reading unused channels takes no room.
func (t *Tracker) forgetUnused(hub *channelHub) {
	now := t.time.Now()
	if hub.ch == nil {
		h := t.lock(hub.owner, Ref(hub.ref()))
		if h == nil || h.subjectHub() != hub {
			hub.idle(now, true) // its subject has been erased
			t.channelTable.removeHub(hub)
		} else if hub.idle(now, true) {
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
	if hub.idle(now, hub.ch.empty()) {
		hub.ch.hub.Store(nil)
		t.channelTable.removeHub(hub)
		t.forgetLocked(hub.ch)
	}
}
