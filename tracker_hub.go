package presence

import (
	"slices"
	"strconv"
	"sync"
	"time"
)

// channelHub is a roster with its watches. A channel has a hub while it is watched,
// listed or has hours. A subject has a hub while it is watched without a channel.
type channelHub struct {
	t      *Tracker
	ch     *channelEntry // nil for a single subject
	name   Channel       // of the channel, or of the single subject
	owner  uint32        // the number of the single subject
	epochs *epochs
	filled sync.Once

	mu     sync.Mutex // guards the fields below; locked after the shard of a subject
	roster *Roster
	listed Instant // when a list was last read
	armed  Instant // when openings has the channel's next entry
	late   bool    // holds changes back
	closed bool
}

// epochs counts the streams opened for each audience.
type epochs []epochCount

type epochCount struct {
	audience Audience
	n        uint32
}

// next returns the number of the audience's next stream, beginning with 1.
func (e *epochs) next(a Audience) uint32 {
	i := slices.IndexFunc(*e, func(c epochCount) bool { return c.audience == a })
	if i < 0 {
		i = len(*e)
		*e = append(*e, epochCount{audience: a})
	}
	(*e)[i].n++
	return (*e)[i].n
}

// watchList is what is attached to a stream with more than one watch. To a stream
// with one watch, the usual case, the *Watch itself is attached.
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

// detach removes the watches of a stream that match. It closes the stream if no
// watch remains. The hub is locked.
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

// push queues a frame for all watches of a stream.
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
		(*to)[0].hub.t.counts.frames.Add(queued) // a list has at least two watches
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

// update calls f with the roster. The frames that f makes are queued for the
// watches.
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

// use is update, but returns false without a call if the hub is closed. A hub made
// after Tracker.Close began counts as closed, since Close does not end its watches.
func (hub *channelHub) use(f func(*Roster)) (open bool) {
	hub.mu.Lock()
	defer hub.mu.Unlock()
	if hub.closed || hub.t.closed.Load() {
		return false
	}
	hub.updateLocked(f)
	return true
}

// useHub calls f with the hub that find returns. If f reports that the hub was
// closed before the call, useHub finds the next hub. It does nothing if find
// returns nil.
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

// lookAtSubject returns the hub of a single subject. It makes the hub if the
// subject has none.
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

// put sets the presence of a member.
func (hub *channelHub) put(p *Presence, now Instant) {
	hub.update(func(r *Roster) { r.Put(p, now) })
}

// tell sends a change to the watches of its own subject.
func (hub *channelHub) tell(c Change) {
	hub.update(func(r *Roster) { r.Tell(c) })
}

// remove removes a member and ends its own watches in one step.
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
		r.forget() // the member must not learn what happens from here on
	})
}

// removed returns the last frame of a watch that lost its access.
func (hub *channelHub) removed() *Frame {
	return &Frame{Kind: FrameRemoved, Version: FrameVersion, Channel: hub.ref()}
}

// forget makes a watch that resumes begin with a snapshot.
func (hub *channelHub) forget() { hub.update((*Roster).forget) }

func (hub *channelHub) setMachine(m *Machine) {
	hub.update(func(r *Roster) { r.SetMachine(m) })
}

func (hub *channelHub) refresh(now Instant) {
	hub.update(func(r *Roster) { r.Republish(now) })
}

// flush sends the held-back changes that are due. It returns when the next one is
// due, or false if none is.
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

// snapshot returns the snapshot of a watch, whose queue receives every change after
// it. It returns nil if the watch has ended or needs no snapshot.
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
// that of other audiences, of a forgotten channel of the same name, and of an
// earlier process. It depends only on what the audience itself did, so that it
// reveals nothing of other audiences.
func (hub *channelHub) open(a Audience, viewer Ref, now Instant) *stream {
	return hub.roster.open(a, viewer, func() string {
		return strconv.FormatInt(int64(now), 36) + "." + string(a[:2]) + strconv.FormatUint(uint64(hub.epochs.next(a)), 36)
	})
}

// listedFor is how long a channel keeps a list after it was last read.
const listedFor = time.Minute

// idle closes the hub if it is not used, and reports whether it closed the hub. The
// hub of a channel counts as used for a minute after it was listed, unless it is
// empty.
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

// hubLocked returns the hub of a channel, which may not be filled yet. The caller
// holds t.mu.
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

// fill puts the members of a channel into its new hub. Changes of members since
// hubLocked have reached the hub already.
func (t *Tracker) fill(hub *channelHub) {
	hub.filled.Do(func() {
		t.mu.RLock()
		members := hub.ch.members()
		t.mu.RUnlock()
		now := t.time.Now()
		for _, n := range members {
			if h := t.lockByNumber(n); h != nil {
				if h.member(hub.ch) { // false if it left after members
					hub.put(h.current(), now)
				}
				h.unlock()
			}
		}
	})
}

// eachHub calls f for every hub that the subject is in.
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

// subjectHub returns the hub of the single subject, or nil if the subject is not
// watched without a channel.
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

// current returns a copy of the presence that never changes. It returns the copy
// that a hub already has, if that is equal.
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

// forgetUnused removes a hub that is not used. It also forgets the channel if that
// is unused, so that a read of an unknown channel takes no memory.
func (t *Tracker) forgetUnused(hub *channelHub) {
	now := t.time.Now()
	if hub.ch == nil {
		h := t.lock(hub.owner, Ref(hub.ref()))
		if h == nil || h.subjectHub() != hub {
			hub.idle(now, true) // the subject was erased
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
