package presence

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/benbjohnson/clock"
)

// channel is something that subjects are granted, and those who watch it.
type channel struct {
	ref     Ref
	n       uint32                     // its number
	granted []uint32                   // the subjects that have a grant; under the tracker's lock
	link    atomic.Pointer[channel]    // what it is linked to; changed under the tracker's lock
	linked  atomic.Pointer[[]*channel] // what is linked to it, in order; likewise
	hub     atomic.Pointer[hub]        // once somebody looks at it
	epochs  *epochs                    // of its streams
}

// eachThing calls f for the channels of which a grant of ch gives membership, ch
// last.
func (ch *channel) eachThing(f func(*channel)) {
	if l := ch.linked.Load(); l != nil {
		for _, o := range *l {
			f(o)
		}
	}
	f(ch)
}

// members are the subjects that belong to the channel, under the tracker's lock.
func (ch *channel) members() []uint32 {
	link := ch.link.Load()
	if link == nil || link == ch {
		return slices.Clone(ch.granted)
	}
	list := slices.Concat(ch.granted, link.granted)
	slices.Sort(list)
	return slices.Compact(list)
}

func (ch *channel) revoke(n uint32) {
	if i := slices.Index(ch.granted, n); i >= 0 {
		last := len(ch.granted) - 1
		ch.granted[i] = ch.granted[last]
		ch.granted = ch.granted[:last]
	}
}

// linkTo links the channel to something else than before.
func (ch *channel) linkTo(to *channel) {
	replace := func(of *channel, change func([]*channel) []*channel) {
		var list []*channel
		if l := of.linked.Load(); l != nil {
			list = *l
		}
		list = change(slices.Clone(list))
		of.linked.Store(&list)
	}
	if old := ch.link.Load(); old != nil {
		replace(old, func(list []*channel) []*channel {
			return slices.DeleteFunc(list, func(o *channel) bool { return o == ch })
		})
	}
	ch.link.Store(to)
	if to != ch {
		replace(to, func(list []*channel) []*channel {
			list = append(list, ch)
			slices.SortFunc(list, func(a, b *channel) int { return compareRefs(a.ref, b.ref) })
			return list
		})
	}
}

// unused reports whether forgetting the channel loses nothing.
func (ch *channel) unused() bool {
	linked := ch.linked.Load()
	return len(ch.granted) == 0 && ch.hub.Load() == nil && ch.link.Load() == nil && (linked == nil || len(*linked) == 0)
}

// rooms numbers channels, and knows those that somebody looks at.
type rooms struct {
	mu   sync.RWMutex // a leaf: nothing is locked under it
	list []*channel
	free []uint32
	hubs map[*hub]struct{}
	late map[*hub]struct{} // those that hold changes back
}

func (r *rooms) at(n uint32) *channel {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.list[n]
}

func (r *rooms) add(ch *channel) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if last := len(r.free) - 1; last >= 0 {
		ch.n = r.free[last]
		r.free = r.free[:last]
		r.list[ch.n] = ch
		return
	}
	ch.n = uint32(len(r.list))
	r.list = append(r.list, ch)
}

func (r *rooms) remove(ch *channel) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.list[ch.n] = nil
	r.free = append(r.free, ch.n)
}

func (r *rooms) addHub(h *hub) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.hubs == nil {
		r.hubs = make(map[*hub]struct{})
	}
	r.hubs[h] = struct{}{}
}

func (r *rooms) removeHub(h *hub) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.hubs, h)
	delete(r.late, h)
}

// holdsBack notes whether a hub, which is locked, holds changes back.
func (r *rooms) holdsBack(h *hub, late bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !late {
		delete(r.late, h)
		return
	}
	if r.late == nil {
		r.late = make(map[*hub]struct{})
	}
	r.late[h] = struct{}{}
}

// allHubs returns all hubs, in the order of their channels.
func (r *rooms) allHubs() []*hub {
	return r.inOrder(&r.hubs)
}

// lateHubs returns those that hold changes back, in the same order.
func (r *rooms) lateHubs() []*hub { return r.inOrder(&r.late) }

func (r *rooms) inOrder(hubs *map[*hub]struct{}) []*hub {
	r.mu.RLock()
	list := slices.Collect(maps.Keys(*hubs))
	r.mu.RUnlock()
	slices.SortFunc(list, func(a, b *hub) int { return compareRefs(a.ref(), b.ref()) })
	return list
}

// hub is a roster with its watchers: what a channel, or a subject that is
// watched alone, has while somebody looks at it.
type hub struct {
	t      *Tracker
	ch     *channel // nil for those who watch one subject alone
	owner  uint32   // the number of the subject then
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
func (t *Tracker) newHub(ref Ref, m *Machine, recall int, epochs *epochs) *hub {
	return &hub{t: t, epochs: epochs, roster: Roster{channel: ref, m: m, recall: recall}}
}

func (hub *hub) ref() Ref { return hub.roster.channel }

// put takes over a member's presence and tells the watchers.
func (hub *hub) put(p *Presence, now Instant) {
	hub.mu.Lock()
	defer hub.mu.Unlock()
	hub.deliver(hub.roster.put(p, now))
}

// tell says something to a member itself.
func (hub *hub) tell(c Change) {
	hub.mu.Lock()
	defer hub.mu.Unlock()
	hub.deliver(hub.roster.Tell(c))
}

// remove takes a member out and ends its own watches in the same step.
func (hub *hub) remove(subject Ref, now Instant, reason error) {
	hub.mu.Lock()
	defer hub.mu.Unlock()
	for _, s := range slices.Clone(hub.roster.streams) {
		s.watches = slices.DeleteFunc(s.watches, func(w *Watch) bool {
			evicted := w.actor.Ref == subject && w.member
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
func (hub *hub) forget() {
	hub.mu.Lock()
	defer hub.mu.Unlock()
	hub.roster.forget()
}

func (hub *hub) setMachine(m *Machine) {
	hub.mu.Lock()
	defer hub.mu.Unlock()
	hub.roster.SetMachine(m)
}

func (hub *hub) refresh(now Instant) {
	hub.mu.Lock()
	defer hub.mu.Unlock()
	hub.deliver(hub.roster.Refresh(now))
}

func (hub *hub) flush(now Instant) (next Instant, ok bool) {
	hub.mu.Lock()
	defer hub.mu.Unlock()
	hub.deliver(hub.roster.Flush(now))
	return hub.roster.heldBack()
}

// deliver hands frames to those who watch, and sees to what is held back.
func (hub *hub) deliver(frames []*Frame) {
	if late := hub.roster.holdsBack(); late != hub.late {
		hub.late = late
		hub.t.rooms.holdsBack(hub, late)
	}
	for _, f := range frames {
		to := f.stream
		f.stream = nil // whoever keeps the frame does not keep all that
		for _, w := range to.watches {
			w.push(f)
		}
	}
}

func (hub *hub) endAll(reason error) {
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
func (hub *hub) forgetIdle(s *stream) {
	if len(s.watches) == 0 {
		hub.roster.Close(s.key.audience, s.key.viewer)
	}
}

// snapshot returns the present list for a watcher, after which its queue is
// empty and receives every change.
func (hub *hub) snapshot(w *Watch) *Frame {
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
func (hub *hub) open(key streamKey, now Instant) *stream {
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
func (hub *hub) idle(now Instant) bool {
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
func (t *Tracker) hubLocked(ch *channel) *hub {
	if hub := ch.hub.Load(); hub != nil {
		return hub
	}
	if ch.epochs == nil {
		ch.epochs = new(epochs)
	}
	hub := t.newHub(ch.ref, t.machine(ch.ref.Tenant), t.opts.Recall, ch.epochs)
	hub.ch = ch
	t.rooms.addHub(hub)
	ch.hub.Store(hub)
	return hub
}

// fill puts the members of a channel into its new hub, to which whatever
// happens to them is told from now on.
func (t *Tracker) fill(hub *hub) {
	hub.filled.Do(func() {
		t.mu.RLock()
		members := hub.ch.members()
		t.mu.RUnlock()
		now := t.time.now()
		for _, n := range members {
			if h := t.holdAny(n); h != nil {
				if h.member(hub.ch) { // still
					hub.put(h.current(), now)
				}
				h.release()
			}
		}
	})
}

// grants returns the channels that a subject has grants of.
func (h *held) grants() []uint32 {
	switch {
	case h.more != nil:
		return h.more.grants
	case h.sub.grant != 0:
		return []uint32{h.sub.grant - 1}
	}
	return nil
}

func (h *held) has(ch *channel) bool {
	if h.more != nil {
		return slices.Contains(h.more.grants, ch.n)
	}
	return h.sub.grant == ch.n+1
}

// member reports whether a subject belongs to a channel.
func (h *held) member(ch *channel) bool {
	if h.has(ch) {
		return true
	}
	link := ch.link.Load()
	return link != nil && h.has(link)
}

// grant notes a grant that is new.
func (h *held) grant(ch *channel) {
	if h.more == nil && h.sub.grant == 0 {
		h.sub.grant = ch.n + 1
	} else {
		m := h.need()
		m.grants = append(m.grants, ch.n)
	}
	ch.granted = append(ch.granted, h.n)
}

// revoke takes a grant away.
func (h *held) revoke(ch *channel) {
	ch.revoke(h.n)
	if h.more == nil {
		h.sub.grant = 0
		return
	}
	h.more.grants = slices.DeleteFunc(h.more.grants, func(n uint32) bool { return n == ch.n })
	h.spare()
}

// eachHub calls f for whatever looks at a subject.
func (h *held) eachHub(f func(*hub)) {
	visit := func(ch *channel) {
		if hub := ch.hub.Load(); hub != nil {
			f(hub)
		}
	}
	switch {
	case h.more != nil:
		for _, n := range h.more.grants {
			h.t.rooms.at(n).eachThing(visit)
		}
	case h.sub.grant != 0:
		h.t.rooms.at(h.sub.grant - 1).eachThing(visit)
	}
	if alone := h.alone(); alone != nil {
		f(alone)
	}
}

// alone returns the hub of those who watch the subject alone, if anybody does.
func (h *held) alone() *hub {
	_, place := h.t.shardOf(h.n)
	return h.sh.alone[place]
}

// show tells those who look at a subject of its presence, of which they share a
// copy.
func (h *held) show(p *Presence, now Instant) {
	var shared *Presence
	h.eachHub(func(hub *hub) {
		if shared == nil {
			shared = new(Presence)
			*shared = *p
		}
		hub.put(shared, now)
	})
}

// current is the subject's presence for those who keep it, one copy for all of
// them as far as possible.
func (h *held) current() (p *Presence) {
	now := &h.state.Current
	h.eachHub(func(hub *hub) {
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

func (h *held) setAlone(alone *hub) {
	_, place := h.t.shardOf(h.n)
	if alone == nil {
		delete(h.sh.alone, place)
		return
	}
	if h.sh.alone == nil {
		h.sh.alone = make(map[uint32]*hub)
	}
	h.sh.alone[place] = alone
}

func (hub *hub) member(subject Ref) *Presence {
	hub.mu.Lock()
	defer hub.mu.Unlock()
	return hub.roster.members.get(subject)
}

// encoded is a frame's JSON form once somebody asked for it.
type encoded struct {
	once sync.Once
	data []byte
}

// scratch is what frames are encoded into: what is kept is no larger than it
// has to be.
var scratch = sync.Pool{New: func() any { return new([]byte) }}

// JSON returns the frame encoded. It is encoded once however many watchers
// there are; the bytes must not be changed. The error is always nil.
func (f *Frame) JSON() ([]byte, error) {
	e := f.encoded
	if e == nil {
		e = new(encoded)
	}
	e.once.Do(func() {
		room := scratch.Get().(*[]byte)
		*room = f.AppendJSON((*room)[:0])
		e.data = bytes.Clone(*room)
		scratch.Put(room)
	})
	return e.data, nil
}

// WatchOptions says how to watch.
type WatchOptions struct {
	// Audience is whose eyes to look through. Empty means the one the actor
	// belongs to. Agents may look as self or team, visitors as visitor only;
	// supervisors, admins and systems as whom they like.
	Audience Audience
	// Epoch and Seq are those of the last frame that the watcher knows, from a
	// watch that has ended. If the channel remembers every frame since then, the
	// watch goes on with those; otherwise it begins with a snapshot as ever. It
	// does so for the same audience only, and not for one subject by itself.
	Epoch string
	Seq   uint64
	// Notify, if given, is called whenever [Watch.Poll] may have something to
	// return: for the first snapshot, which may be before the call that opens the
	// watch has returned, after frames have arrived, and at the end. Read with Poll
	// until it returns nil or an error; several changes can share one call. It is
	// called with no lock held, by one goroutine at a time for all watches of the
	// tracker, and must not block: hand the watch to whoever reads it. So one
	// goroutine can serve many watches.
	Notify func()
}

// Watch is one watcher's stream of frames: a snapshot, then diffs.
type Watch struct {
	// What a new frame needs comes first: it is fetched for each of those whom a
	// change goes to.
	mu     sync.Mutex
	ended  bool
	stale  bool        // the next frame must be a snapshot
	lagged bool        // because the queue overflowed
	told   atomic.Bool // notify is about to be called
	queue  []*Frame
	notify func()
	ready  chan struct{} // once somebody waits in Next
	hub    *hub
	from   *stream
	actor  Actor
	member bool  // watches by right of its grant, and is evicted with it; never changes
	reason error // under mu

	// Of the reader alone, or of whoever asks in its stead.
	trusted Instant // when the authorizer last agreed
	asked   Instant // when it was last asked
	asking  atomic.Bool
}

// Watch starts watching a channel. An agent needs a grant of the channel and is
// evicted when it is revoked; visitors, supervisors, admins and systems do not.
// The watcher is no member: nobody sees it.
func (t *Tracker) Watch(ctx context.Context, actor Actor, channel Ref, opts WatchOptions) (*Watch, error) {
	if err := checkRef("channel", channel); err != nil {
		return nil, err
	}
	a, err := t.audience(ctx, actor, channel, opts, actor.Audience())
	if err != nil {
		return nil, err
	}
	member := a == AudienceTeam || a == AudienceSelf
	member = member && actor.Audience() == AudienceTeam
	if member {
		if err := t.mustBelong(actor, channel); err != nil {
			return nil, err
		}
	}
	for {
		hub, err := t.lookAt(channel)
		if err != nil {
			return nil, err
		}
		w, err := t.watch(hub, actor, a, member, opts)
		if err != nil {
			t.forgetUnused(hub)
			return nil, err
		}
		if w != nil {
			return w, nil
		} // otherwise it has just been closed, because nobody watched it
	}
}

// mustBelong refuses an actor who does not belong to a channel.
func (t *Tracker) mustBelong(actor Actor, channel Ref) error {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if !t.may(actor.Ref, channel) {
		return fmt.Errorf("presence: %w: %s has no grant of channel %s", ErrNotAllowed, actor.Ref, channel)
	}
	return nil
}

// lookAt returns the hub of a channel with its members in it.
func (t *Tracker) lookAt(channel Ref) (*hub, error) {
	t.mu.Lock()
	ch, err := t.channelLocked(channel)
	if err != nil {
		t.mu.Unlock()
		return nil, err
	}
	hub := t.hubLocked(ch)
	t.mu.Unlock()
	t.fill(hub)
	return hub, nil
}

// may reports whether a subject belongs to a channel, under t.mu.
func (t *Tracker) may(subject, channel Ref) bool {
	ch := t.channels[channel]
	if ch == nil {
		return false
	}
	w, flags := t.find(subject)
	if flags&flagUsed == 0 {
		return false // nobody has heard of it
	}
	h := t.hold(w.n, subject)
	if h == nil {
		return false
	}
	defer h.release()
	return h.member(ch)
}

// WatchSubject starts watching one subject, without any channel. One that nobody
// has heard of is refused with [ErrUnknown].
func (t *Tracker) WatchSubject(ctx context.Context, actor Actor, subject Ref, opts WatchOptions) (*Watch, error) {
	a, err := t.audience(ctx, actor, subject, opts, audienceFor(actor, subject))
	if err != nil {
		return nil, err
	}
	if a == AudienceSelf && actor.Ref != subject && actor.Audience() == AudienceTeam {
		return nil, fmt.Errorf("presence: %w: %s may look at %s as a teammate, not as %s itself", ErrNotAllowed, actor.Ref, subject, subject)
	}
	who, err := t.known(ctx, subject)
	if err != nil {
		return nil, err
	}
	if a == AudienceSelf {
		actor.Ref = subject
	}
	for {
		h := t.hold(who.n, subject)
		if h == nil {
			return nil, who.gone()
		}
		alone := h.alone()
		if alone == nil {
			alone = t.newHub(who.ref, h.m, 0, new(epochs))
			alone.roster.alone = true
			alone.owner = who.n
			alone.put(h.current(), t.time.now())
			h.setAlone(alone)
			t.rooms.addHub(alone)
		}
		h.release()
		w, err := t.watch(alone, actor, a, false, opts)
		if err != nil {
			t.forgetUnused(alone)
			return nil, err
		}
		if w != nil {
			return w, nil
		}
	}
}

// audience checks whose eyes an actor may look through.
func (t *Tracker) audience(ctx context.Context, actor Actor, at Ref, opts WatchOptions, own Audience) (Audience, error) {
	a := own
	if opts.Audience != "" {
		a = opts.Audience
	}
	if err := checkAudience(a); err != nil {
		return "", err
	}
	free := actor.Role == RoleSupervisor || actor.Role == RoleAdmin || actor.Role == RoleSystem
	if a != own && !free && (a != AudienceSelf || actor.Role == RoleVisitor) && a != actor.Audience() {
		return "", fmt.Errorf("presence: %w: %s may look as %s, not as %s", ErrNotAllowed, actor.Ref, actor.Audience(), a)
	}
	if err := checkRef("actor", actor.Ref); err != nil {
		return "", err
	}
	return a, t.allow(ctx, actor, ActionSee, at, at.ID)
}

// watch adds a watcher to a hub. It returns nil if the hub has been closed.
func (t *Tracker) watch(hub *hub, actor Actor, a Audience, member bool, opts WatchOptions) (*Watch, error) {
	if t.watches.Add(1) > int64(t.opts.MaxWatches) {
		t.watches.Add(-1)
		return nil, fmt.Errorf("presence: %w: %d watches are open already", ErrLimit, t.opts.MaxWatches)
	}
	w := &Watch{hub: hub, actor: actor, member: member, notify: opts.Notify, stale: true, trusted: t.time.now()}
	t.mu.RLock()
	defer t.mu.RUnlock()
	if member && !t.may(actor.Ref, hub.ref()) {
		t.watches.Add(-1)
		return nil, fmt.Errorf("presence: %w: %s has no grant of channel %s", ErrNotAllowed, actor.Ref, hub.ref())
	}
	hub.mu.Lock()
	defer hub.mu.Unlock()
	if closed := t.closed.Load(); closed || hub.closed { // a hub made since Close began is not ended by it
		t.watches.Add(-1)
		if closed {
			return nil, t.closedError()
		}
		return nil, nil
	}
	key := newStreamKey(a, actor.Ref)
	missed, known := hub.roster.after(key, opts.Epoch, opts.Seq)
	if known && len(missed) <= t.opts.WatchBuffer {
		w.queue, w.stale = missed, false
	}
	w.from = hub.open(key, w.trusted) // so that changes from now on are counted
	w.from.watches = append(w.from.watches, w)
	w.signal()
	return w, nil
}

// push queues a frame without ever waiting.
func (w *Watch) push(f *Frame) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.ended || w.stale:
		return
	case len(w.queue) >= w.hub.t.opts.WatchBuffer:
		clear(w.queue)
		w.queue = w.queue[:0]
		w.stale, w.lagged = true, true
	default:
		w.queue = append(w.queue, f)
	}
	w.signal()
}

// signal says that there may be something to read. The watch is locked, or known
// to nobody yet.
func (w *Watch) signal() {
	if w.notify != nil {
		w.hub.t.ready.add(w)
	}
	if w.ready != nil {
		signal(w.ready)
	}
}

// end stops the stream after a last frame, if there is one. Frames before it
// are dropped: they are no longer the watcher's to see. It reports false where
// the watch had ended before.
func (w *Watch) end(last *Frame, reason error) (now bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ended {
		return false
	}
	w.ended, w.reason, w.queue = true, reason, nil
	if last != nil {
		w.queue = []*Frame{last}
	}
	w.hub.t.watches.Add(-1)
	w.signal()
	return true
}

// Next returns the next frame, waiting for it until ctx is done. The first is a
// snapshot. After the watch has ended it returns an error wrapping [ErrClosed],
// or [ErrNotAllowed] if access was removed. One goroutine at a time may read.
func (w *Watch) Next(ctx context.Context) (*Frame, error) {
	w.mu.Lock()
	if w.ready == nil {
		w.ready = make(chan struct{}, 1)
	}
	ready := w.ready
	w.mu.Unlock()
	for {
		f, again, err := w.poll(ctx, true)
		if f != nil || err != nil {
			return f, err
		}
		var retry *clock.Timer
		var due <-chan time.Time
		if again > 0 {
			retry = w.hub.t.opts.Clock.Timer(again)
			due = retry.C
		}
		select {
		case <-due:
		case <-ready:
		case <-ctx.Done():
			err = context.Cause(ctx)
		}
		if retry != nil {
			retry.Stop()
		}
		if err != nil {
			return nil, err
		}
	}
}

// Poll returns the next frame if there is one now, and nil otherwise. Where there
// is a Notify it does not wait for the authorizer: who has to be asked is asked
// meanwhile, and Notify called after that.
func (w *Watch) Poll() (*Frame, error) {
	f, _, err := w.poll(w.hub.t.stopped, w.notify == nil)
	return f, err
}

// ask asks the authorizer, and has the reader look again once it may go on or
// ask once more.
func (w *Watch) ask() {
	if again := w.authorize(w.hub.t.stopped); again > 0 {
		timer := w.hub.t.opts.Clock.Timer(again)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-w.hub.t.stopped.Done():
		}
	}
	w.asking.Store(false)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.signal()
}

// readiness calls the Notify functions of watches that have something to read.
// Watches are added under the locks of what happened; a goroutine that lives
// only while there is something to do calls the functions without any.
type readiness struct {
	mu      sync.Mutex
	waiting []*Watch
	calling bool
}

// add has a watch's function called, once however often it is added before. The
// watch tells by itself whether it waits already.
func (r *readiness) add(w *Watch) {
	if w.told.Swap(true) {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.waiting = append(r.waiting, w)
	if !r.calling {
		r.calling = true
		go r.call()
	}
}

func (r *readiness) call() {
	var list []*Watch
	for {
		r.mu.Lock()
		clear(list)
		list, r.waiting = r.waiting, list[:0]
		if len(list) == 0 {
			r.calling = false
			r.waiting = nil
			r.mu.Unlock()
			return
		}
		r.mu.Unlock()
		for _, w := range list {
			w.told.Store(false) // what comes from now on is told anew
			w.notify()
		}
	}
}

// poll returns the next frame if there is one, and how long to wait before
// asking again where that is not until something happens. The authorizer is asked
// here, or else meanwhile.
func (w *Watch) poll(ctx context.Context, here bool) (f *Frame, again time.Duration, err error) {
	for {
		trusting := w.hub.t.opts.AuthorizeEvery < 0 // who is not asked does not have to agree
		w.mu.Lock()
		waiting, stale, ended, reason := len(w.queue) > 0, w.stale, w.ended, w.reason
		if waiting && (trusting || ended) {
			f = w.takeLocked()
		}
		w.mu.Unlock()
		switch {
		case f != nil:
			return f, 0, nil
		case ended:
			return nil, 0, reason
		case !waiting && !stale:
			return nil, 0, nil
		}
		switch {
		case w.asking.Load():
			return nil, 0, nil
		case here:
			if again = w.authorize(ctx); again > 0 {
				return nil, again, nil
			}
		case w.doubtful():
			w.asking.Store(true)
			go w.ask()
			return nil, 0, nil
		}
		if stale {
			f = w.hub.snapshot(w)
		} else {
			f = w.take()
		}
		if f != nil {
			return f, 0, nil
		}
	}
}

// take removes the first frame of the queue, if there is one.
func (w *Watch) take() *Frame {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.takeLocked()
}

func (w *Watch) takeLocked() *Frame {
	if len(w.queue) == 0 {
		return nil
	}
	f := w.queue[0]
	w.queue[0] = nil
	if len(w.queue) == 1 {
		w.queue = w.queue[:0] // there is room for the next
	} else {
		w.queue = w.queue[1:]
	}
	return f
}

const (
	// authorizeTimeout is how long an authorizer may take to answer.
	authorizeTimeout = 5 * time.Second
	// authorizeRetry is how soon one that could not tell is asked again.
	authorizeRetry = 5 * time.Second
)

// authorize asks the authorizer again when it is time to. It returns how long to
// wait where nothing may be shown until it answers.
func (w *Watch) authorize(ctx context.Context) (suspended time.Duration) {
	every := w.hub.t.opts.AuthorizeEvery
	if every < 0 {
		return 0
	}
	now := w.hub.t.time.now()
	if now < w.trusted.Add(every) {
		return 0
	}
	late := now >= w.trusted.Add(3*every)
	if wait := w.asked.Add(authorizeRetry).Sub(now); w.asked != 0 && wait > 0 {
		if late {
			return wait
		}
		return 0
	}
	w.asked = now
	switch err := w.hub.t.allow(ctx, w.actor, ActionSee, w.hub.ref(), w.hub.ref().ID); {
	case err == nil:
		w.trusted, w.asked = now, 0
		return 0
	case errors.Is(err, ErrNotAllowed):
		w.end(&Frame{Kind: FrameRemoved, Version: FrameVersion, Channel: w.hub.ref()}, err)
		w.hub.forget()
		w.detach()
		return 0
	case late:
		// What comes meanwhile is not kept; it would be told too late.
		w.mu.Lock()
		w.queue, w.stale = nil, true
		w.mu.Unlock()
		return authorizeRetry
	}
	return 0
}

// doubtful reports whether authorize would do anything but agree.
func (w *Watch) doubtful() bool {
	every := w.hub.t.opts.AuthorizeEvery
	if every < 0 {
		return false
	}
	now := w.hub.t.time.now()
	if now < w.trusted.Add(every) {
		return false
	}
	return w.asked == 0 || now >= w.asked.Add(authorizeRetry) || now >= w.trusted.Add(3*every)
}

// detach takes the watch out of its hub.
func (w *Watch) detach() {
	w.hub.mu.Lock()
	w.from.watches = slices.DeleteFunc(w.from.watches, func(o *Watch) bool { return o == w })
	w.hub.forgetIdle(w.from)
	w.hub.mu.Unlock()
	w.hub.t.forgetUnused(w.hub)
}

// Stream sends frames over a transport until the watch ends, ctx is done or the
// transport fails, and then closes both. It returns the reason.
func (w *Watch) Stream(ctx context.Context, to Transport) error {
	err := w.stream(ctx, to)
	_ = w.Close() // it may have ended by itself
	return errors.Join(err, to.Close(err))
}

func (w *Watch) stream(ctx context.Context, to Transport) error {
	for {
		f, err := w.Next(ctx)
		if err != nil {
			return err
		}
		if err := to.Send(ctx, f); err != nil {
			return err
		}
	}
}

// Close ends the watch. A second Close changes nothing and says so with
// [ErrClosed].
func (w *Watch) Close() error {
	closed := fmt.Errorf("presence: %w: the watch of %s", ErrClosed, w.hub.ref())
	if !w.end(nil, closed) {
		return closed
	}
	w.detach()
	return nil
}

// forgetUnused drops a hub that nobody looks at, and its channel if it has
// neither members nor links, so that asking for channels nobody uses costs
// nothing.
func (t *Tracker) forgetUnused(hub *hub) {
	now := t.time.now()
	if hub.ch == nil {
		h := t.hold(hub.owner, hub.ref())
		if h == nil || h.alone() != hub {
			hub.idle(now) // its subject has been erased
			t.rooms.removeHub(hub)
		} else if hub.idle(now) {
			h.setAlone(nil)
			t.rooms.removeHub(hub)
		}
		if h != nil {
			h.release()
		}
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if hub.idle(now) {
		hub.ch.hub.Store(nil)
		t.rooms.removeHub(hub)
		t.forgetLocked(hub.ch)
	}
}

// forgetLocked drops a channel that nobody uses, under t.mu.
func (t *Tracker) forgetLocked(ch *channel) {
	if ch.unused() && t.channels[ch.ref] == ch {
		delete(t.channels, ch.ref)
		t.rooms.remove(ch)
	}
}

// channelLocked returns a channel, made where there is none, under t.mu.
func (t *Tracker) channelLocked(ref Ref) (*channel, error) {
	if ch := t.channels[ref]; ch != nil {
		return ch, nil
	}
	if len(t.channels) >= t.opts.MaxChannels {
		return nil, fmt.Errorf("presence: %w: %d channels are known already", ErrLimit, t.opts.MaxChannels)
	}
	ch := &channel{ref: ref}
	t.rooms.add(ch)
	t.channels[ref] = ch
	return ch, nil
}

// Grant gives a subject access to something: a channel, or what channels are
// linked to, such as an inbox. The subject becomes a member of those channels,
// connected or not. Grants are not stored: say them again when the process
// starts. Granting again changes nothing.
func (t *Tracker) Grant(ctx context.Context, subject, to Ref) error {
	if err := checkPair(subject, to); err != nil {
		return err
	}
	who, err := t.subject(ctx, subject)
	if err != nil {
		return err
	}
	now := t.time.now()
	t.mu.Lock()
	defer t.mu.Unlock()
	ch, err := t.channelLocked(to)
	if err != nil {
		return err
	}
	defer t.forgetLocked(ch) // if nothing came of it
	h := t.hold(who.n, subject)
	if h == nil {
		return who.gone()
	}
	defer h.release()
	if len(h.grants()) > 0 || ch.linked.Load() != nil {
		in := h.channels()
		ch.eachThing(func(ch *channel) { in[ch] = struct{}{} })
		if len(in) > MaxChannels {
			return h.crowded()
		}
	}
	if err := h.step(&Event{Kind: EventGrant, Subject: subject}, now); err != nil {
		return err
	}
	if h.has(ch) {
		return nil
	}
	h.grant(ch)
	ch.eachThing(func(ch *channel) { h.enter(ch, now) })
	return nil
}

// channels returns the channels that a subject is in.
func (h *held) channels() map[*channel]struct{} {
	in := make(map[*channel]struct{})
	for _, n := range h.grants() {
		h.t.rooms.at(n).eachThing(func(ch *channel) { in[ch] = struct{}{} })
	}
	return in
}

func (h *held) crowded() error {
	return fmt.Errorf("presence: %w: %s would be in more than %d channels", ErrLimit, h.ref, MaxChannels)
}

// linkable refuses a link that would put somebody into too many channels, under
// t.mu.
func (t *Tracker) linkable(ch, to *channel) (err error) {
	for _, n := range to.granted {
		if h := t.holdAny(n); h != nil {
			if !h.member(ch) && len(h.channels()) >= MaxChannels {
				err = h.crowded()
			}
			h.release()
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// Revoke takes access away again. The subject leaves the channels it no longer
// belongs to in the same step, and its own watches of them end.
func (t *Tracker) Revoke(ctx context.Context, subject, to Ref) error {
	if err := checkPair(subject, to); err != nil {
		return err
	}
	who, err := t.known(ctx, subject)
	if err != nil {
		return err
	}
	now := t.time.now()
	t.mu.Lock()
	defer t.mu.Unlock()
	ch := t.channels[to]
	if ch == nil {
		return nil
	}
	defer t.forgetLocked(ch)
	h := t.hold(who.n, subject)
	if h == nil {
		return who.gone()
	}
	defer h.release()
	if !h.has(ch) {
		return nil
	}
	h.step(&Event{Kind: EventTick}, now)
	h.revoke(ch)
	ch.eachThing(func(ch *channel) {
		if !h.member(ch) {
			h.exit(ch, now)
		}
	})
	return nil
}

// Link makes a channel's members those who are granted to, instead of those of
// what it was linked to before. Links are not stored.
func (t *Tracker) Link(ctx context.Context, channel, to Ref) error {
	if err := checkPair(channel, to); err != nil {
		return err
	}
	if t.closed.Load() {
		return t.closedError()
	}
	now := t.time.now()
	t.mu.Lock()
	defer t.mu.Unlock()
	ch, err := t.channelLocked(channel)
	if err != nil {
		return err
	}
	other, err := t.channelLocked(to)
	if err != nil {
		t.forgetLocked(ch)
		return err
	}
	if err := t.linkable(ch, other); err != nil {
		t.forgetLocked(ch)
		t.forgetLocked(other)
		return err
	}
	old := ch.link.Load()
	before := ch.members()
	ch.linkTo(other)
	after := ch.members()
	if old != nil {
		defer t.forgetLocked(old)
	}
	move := func(members, others []uint32, do func(*held)) {
		inOthers := make(map[uint32]struct{}, len(others))
		for _, n := range others {
			inOthers[n] = struct{}{}
		}
		for _, n := range members {
			if _, there := inOthers[n]; there {
				continue
			}
			if h := t.holdAny(n); h != nil {
				h.step(&Event{Kind: EventTick}, now)
				do(h)
				h.release()
			}
		}
	}
	move(before, after, func(h *held) { h.exit(ch, now) })
	move(after, before, func(h *held) { h.enter(ch, now) })
	return nil
}

// enter shows a subject to those who look at a channel.
func (h *held) enter(ch *channel, now Instant) {
	if hub := ch.hub.Load(); hub != nil {
		hub.put(h.current(), now)
		h.t.sendHeldBack(h.m, now)
	}
}

// exit takes it away from them.
func (h *held) exit(ch *channel, now Instant) {
	if hub := ch.hub.Load(); hub != nil {
		hub.remove(h.ref, now, fmt.Errorf("presence: %w: the access of %s to channel %s has been removed", ErrNotAllowed, h.ref, ch.ref))
		h.t.sendHeldBack(h.m, now)
	}
}

// Join asks for membership of a channel. Membership follows grants by itself,
// so that asking only tells whether there is one.
func (t *Tracker) Join(ctx context.Context, actor Actor, channel Ref) error {
	if err := checkPair(actor.Ref, channel); err != nil {
		return err
	}
	if err := t.allow(ctx, actor, ActionJoin, actor.Ref, channel.ID); err != nil {
		return err
	}
	return t.mustBelong(actor, channel)
}

// List returns the members of a channel that an audience may list, by id, and
// the group they add up to; of a channel that nobody belongs to, none and the rung
// offline. The viewer, who sees its own row in full, matters for the audience self
// alone. It asks no authorizer: it is for the host.
func (t *Tracker) List(ctx context.Context, channel Ref, a Audience, viewer Ref) ([]View, Group, error) {
	return t.AppendList(ctx, nil, channel, a, viewer)
}

// AppendList is like List and appends the members to views, so that a caller who
// asks often can use the same memory again. A channel that is listed keeps its
// list at hand for a minute; while nothing changes, listing is copying.
func (t *Tracker) AppendList(_ context.Context, views []View, channel Ref, a Audience, viewer Ref) ([]View, Group, error) {
	if err := checkRef("channel", channel); err != nil {
		return views, Group{}, err
	}
	if err := checkAudience(a); err != nil {
		return views, Group{}, err
	}
	t.meetDeadlines()
	for !t.closed.Load() {
		t.mu.RLock()
		ch := t.channels[channel]
		var hub *hub
		if ch != nil {
			hub = ch.hub.Load()
		}
		t.mu.RUnlock()
		if ch == nil {
			return views, Group{Rung: RungOffline}, nil
		}
		if hub == nil {
			var err error
			if hub, err = t.lookAt(channel); err != nil {
				return views, Group{}, err
			}
		}
		t.fill(hub)
		if views, group, ok := hub.list(views, a, viewer, t.time.now()); ok {
			return views, group, nil
		} // otherwise it has just been closed
	}
	return views, Group{}, t.closedError()
}

// list appends the list of an audience, unless the hub is closed.
func (hub *hub) list(views []View, a Audience, viewer Ref, now Instant) ([]View, Group, bool) {
	hub.mu.Lock()
	defer hub.mu.Unlock()
	if hub.closed {
		return views, Group{}, false
	}
	hub.listed = now
	l := hub.roster.list(a, viewer)
	return append(views, l.views...), hub.roster.gate(a, l.group), true
}

// flushChannels sends what was held back and is due, and from time to time drops
// hubs that nobody looks at any more.
func (t *Tracker) flushChannels(now Instant) (next Instant, ok bool) {
	if now >= t.sweep.tidied.Add(listedFor) {
		t.sweep.tidied = now
		for _, hub := range t.rooms.allHubs() {
			t.forgetUnused(hub)
		}
	}
	if !t.coalescing.Load() {
		return 0, false
	}
	t.deadlines.mu.Lock()
	t.deadlines.held = 0 // what is held back from now on asks anew
	t.deadlines.mu.Unlock()
	for _, hub := range t.rooms.lateHubs() {
		if at, waits := hub.flush(now); waits && (!ok || at < next) {
			next, ok = at, true
		}
	}
	return next, ok
}

// checkPair checks two names that must belong to one tenant.
func checkPair(a, b Ref) error {
	if err := checkRef("subject", a); err != nil {
		return err
	}
	if err := checkRef("channel", b); err != nil {
		return err
	}
	if a.Tenant != b.Tenant {
		return fmt.Errorf("presence: %w: %s and %s are of different tenants", ErrNotAllowed, a, b)
	}
	return nil
}
