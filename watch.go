package presence

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// channel is a roster with its watchers.
type channel struct {
	ref   Ref
	owner *subject // of a channel for those who watch one subject alone

	mu      sync.Mutex
	roster  *Roster
	watches map[streamKey][]*Watch
	epochs  []uint64 // opened so far, by audience
	closed  bool
	armed   Instant // when the openings look at it
}

// newChannel returns a channel whose streams remember so many frames.
func newChannel(ref Ref, m *Machine, recall int) *channel {
	ch := &channel{ref: ref, roster: NewRoster(ref, m), watches: make(map[streamKey][]*Watch)}
	ch.roster.recall = recall
	return ch
}

// put takes over a member's presence and tells the watchers.
func (ch *channel) put(p Presence, now Instant) {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	ch.deliver(ch.roster.Put(p, now))
}

// tell says something to a member itself.
func (ch *channel) tell(c Change) {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	ch.deliver(ch.roster.Tell(c))
}

// remove takes a member out and ends its own watches in the same step.
func (ch *channel) remove(subject Ref, now Instant, reason error) {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	for key, list := range ch.watches {
		ch.watches[key] = slices.DeleteFunc(list, func(w *Watch) bool {
			evicted := w.actor.Ref == subject && w.member
			if evicted {
				w.end(&Frame{Kind: FrameRemoved, Version: FrameVersion, Channel: ch.ref}, reason)
			}
			return evicted
		})
		ch.forgetIdle(key)
	}
	ch.deliver(ch.roster.Remove(subject, now))
	ch.roster.forget() // what happens until it is let in again is not for it to know
}

// forget makes those who come back begin with a snapshot.
func (ch *channel) forget() {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	ch.roster.forget()
}

func (ch *channel) setMachine(m *Machine) {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	ch.roster.SetMachine(m)
}

func (ch *channel) refresh(now Instant) {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	ch.deliver(ch.roster.Refresh(now))
}

func (ch *channel) flush(now Instant) (next Instant, ok bool) {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	ch.deliver(ch.roster.Flush(now))
	return ch.roster.Next()
}

func (ch *channel) deliver(frames []*Frame) {
	for _, f := range frames {
		for _, w := range ch.watches[f.stream] {
			w.push(f)
		}
	}
}

func (ch *channel) endAll(reason error) {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	ch.closed = true
	for key, list := range ch.watches {
		for _, w := range list {
			w.end(nil, reason)
		}
		delete(ch.watches, key)
	}
}

// forgetIdle drops a stream that nobody watches any more.
func (ch *channel) forgetIdle(key streamKey) {
	if len(ch.watches[key]) == 0 {
		delete(ch.watches, key)
		ch.roster.Close(key.audience, key.viewer)
	}
}

// snapshot returns the present list for a watcher, after which its queue is
// empty and receives every change.
func (ch *channel) snapshot(w *Watch) *Frame {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ended || !w.stale {
		return nil
	}
	f := ch.open(w.key, w.t.time.now())
	if w.lagged {
		lagged := *f
		lagged.Lagged = true
		lagged.encoded = nil
		f = &lagged
	}
	w.stale, w.lagged = false, false
	return f
}

// open returns the snapshot of a stream. The epoch of a new one is that of no
// other: not of another audience, of a channel of this name that was forgotten,
// or of the process that ran here before. It is made of what the audience itself
// did, so that it tells nothing about anybody else.
func (ch *channel) open(key streamKey, now Instant) *Frame {
	return ch.roster.Open(key.audience, key.viewer, func() string {
		if ch.epochs == nil {
			ch.epochs = make([]uint64, len(audiences))
		}
		i := slices.Index(audiences, key.audience)
		ch.epochs[i]++
		return strconv.FormatInt(int64(now), 36) + "." + string(key.audience[:2]) + strconv.FormatUint(ch.epochs[i], 36)
	})
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
	t      *Tracker
	ch     *channel
	actor  Actor
	key    streamKey
	member bool // watches by right of its grant, and is evicted with it
	ready  chan struct{}
	notify func()
	told   atomic.Bool // notify is about to be called

	mu     sync.Mutex
	queue  []*Frame
	stale  bool // the next frame must be a snapshot
	lagged bool // because the queue overflowed
	ended  bool
	reason error

	// Of the reader alone.
	trusted  Instant // when the authorizer last agreed
	asked    Instant // when it was last asked
	retrying atomic.Bool
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
	t.mu.Lock()
	defer t.mu.Unlock()
	member := a == AudienceTeam || a == AudienceSelf
	member = member && actor.Audience() == AudienceTeam
	if member && !t.grants.May(actor.Ref, channel) {
		return nil, fmt.Errorf("presence: %w: %s has no grant of channel %s", ErrNotAllowed, actor.Ref, channel)
	}
	ch, err := t.channelLocked(channel)
	if err != nil {
		return nil, err
	}
	return t.watch(ch, actor, a, member, opts)
}

// WatchSubject starts watching one subject, without any channel.
func (t *Tracker) WatchSubject(ctx context.Context, actor Actor, subject Ref, opts WatchOptions) (*Watch, error) {
	a, err := t.audience(ctx, actor, subject, opts, audienceFor(actor, subject))
	if err != nil {
		return nil, err
	}
	if a == AudienceSelf && actor.Ref != subject && actor.Audience() == AudienceTeam {
		return nil, fmt.Errorf("presence: %w: %s may look at %s as a teammate, not as %s itself", ErrNotAllowed, actor.Ref, subject, subject)
	}
	sub, err := t.known(ctx, subject)
	if err != nil {
		return nil, err
	}
	sub.mu.Lock()
	defer sub.mu.Unlock()
	i := slices.IndexFunc(sub.channels, func(ch *channel) bool { return ch.owner != nil })
	if i < 0 {
		ch := newChannel(subject, sub.m, 0)
		ch.owner = sub
		ch.put(sub.state.Current, t.time.now())
		sub.channels = append(sub.channels, ch)
		i = len(sub.channels) - 1
	}
	if a == AudienceSelf {
		actor.Ref = subject
	}
	return t.watch(sub.channels[i], actor, a, false, opts)
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

// watch adds a watcher to a channel.
func (t *Tracker) watch(ch *channel, actor Actor, a Audience, member bool, opts WatchOptions) (*Watch, error) {
	if t.watches.Add(1) > int64(t.opts.MaxWatches) {
		t.watches.Add(-1)
		return nil, fmt.Errorf("presence: %w: %d watches are open already", ErrLimit, t.opts.MaxWatches)
	}
	w := &Watch{t: t, ch: ch, actor: actor, key: newStreamKey(a, actor.Ref), member: member, ready: make(chan struct{}, 1), notify: opts.Notify, stale: true, trusted: t.time.now()}
	ch.mu.Lock()
	defer ch.mu.Unlock()
	if ch.closed {
		t.watches.Add(-1)
		return nil, t.closedError()
	}
	missed, known := ch.roster.after(w.key, opts.Epoch, opts.Seq)
	if known && len(missed) <= t.opts.WatchBuffer {
		w.queue, w.stale = slices.Clone(missed), false
	} else {
		ch.open(w.key, w.trusted) // so that changes from now on are counted
	}
	ch.watches[w.key] = append(ch.watches[w.key], w)
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
	case len(w.queue) >= w.t.opts.WatchBuffer:
		clear(w.queue)
		w.queue = w.queue[:0]
		w.stale, w.lagged = true, true
	default:
		w.queue = append(w.queue, f)
	}
	w.signal()
}

// signal says that there may be something to read.
func (w *Watch) signal() {
	if w.notify != nil {
		w.t.ready.add(w)
	}
	select {
	case w.ready <- struct{}{}:
	default:
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
	w.t.watches.Add(-1)
	w.signal()
	return true
}

// Next returns the next frame, waiting for it until ctx is done. The first is a
// snapshot. After the watch has ended it returns an error wrapping [ErrClosed],
// or [ErrNotAllowed] if access was removed. One goroutine at a time may read.
func (w *Watch) Next(ctx context.Context) (*Frame, error) {
	for {
		f, again, err := w.poll(ctx)
		if f != nil || err != nil {
			return f, err
		}
		if again == 0 {
			select {
			case <-w.ready:
			case <-ctx.Done():
				return nil, context.Cause(ctx)
			}
			continue
		}
		retry := w.t.opts.Clock.Timer(again)
		select {
		case <-retry.C:
		case <-ctx.Done():
			retry.Stop()
			return nil, context.Cause(ctx)
		}
	}
}

// Poll returns the next frame if there is one now, and nil otherwise.
func (w *Watch) Poll() (*Frame, error) {
	f, again, err := w.poll(context.Background())
	if again > 0 && w.notify != nil && !w.retrying.Swap(true) {
		go w.signalAfter(again)
	}
	return f, err
}

// signalAfter has the reader ask again once the authorizer may answer.
func (w *Watch) signalAfter(d time.Duration) {
	timer := w.t.opts.Clock.Timer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-w.t.stopped.Done():
	}
	w.retrying.Store(false)
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
// asking again where that is not until something happens.
func (w *Watch) poll(ctx context.Context) (f *Frame, again time.Duration, err error) {
	for {
		w.mu.Lock()
		waiting, stale, ended, reason := len(w.queue) > 0, w.stale, w.ended, w.reason
		w.mu.Unlock()
		if ended {
			if last := w.take(); last != nil {
				return last, 0, nil
			}
			return nil, 0, reason
		}
		if !waiting && !stale {
			return nil, 0, nil
		}
		if again := w.authorize(ctx); again > 0 {
			return nil, again, nil
		}
		if stale {
			f = w.ch.snapshot(w)
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
	if len(w.queue) == 0 {
		return nil
	}
	f := w.queue[0]
	w.queue[0] = nil
	w.queue = w.queue[1:]
	return f
}

// authorizeRetry is how soon an authorizer that could not tell is asked again.
const authorizeRetry = 5 * time.Second

// authorize asks the authorizer again when it is time to. It returns how long to
// wait where nothing may be shown until it answers.
func (w *Watch) authorize(ctx context.Context) (suspended time.Duration) {
	every := w.t.opts.AuthorizeEvery
	if every < 0 {
		return 0
	}
	now := w.t.time.now()
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
	switch err := w.t.allow(ctx, w.actor, ActionSee, w.ch.ref, w.ch.ref.ID); {
	case err == nil:
		w.trusted, w.asked = now, 0
		return 0
	case errors.Is(err, ErrNotAllowed):
		w.end(&Frame{Kind: FrameRemoved, Version: FrameVersion, Channel: w.ch.ref}, err)
		w.ch.forget()
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

// detach takes the watch out of its channel.
func (w *Watch) detach() {
	w.ch.mu.Lock()
	w.ch.watches[w.key] = slices.DeleteFunc(w.ch.watches[w.key], func(o *Watch) bool { return o == w })
	w.ch.forgetIdle(w.key)
	w.ch.mu.Unlock()
	w.t.forgetUnused(w.ch)
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
	closed := fmt.Errorf("presence: %w: the watch of %s", ErrClosed, w.ch.ref)
	if !w.end(nil, closed) {
		return closed
	}
	w.detach()
	return nil
}

// forgetUnused drops a channel that has neither members nor watchers nor links,
// so that asking for channels nobody uses costs nothing.
func (t *Tracker) forgetUnused(ch *channel) {
	if sub := ch.owner; sub != nil {
		sub.mu.Lock()
		defer sub.mu.Unlock()
		if ch.close(true) {
			sub.channels = slices.DeleteFunc(sub.channels, func(o *channel) bool { return o == ch })
		}
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.grants.linkedTo(ch.ref) && ch.close(false) && t.channels[ch.ref] == ch {
		delete(t.channels, ch.ref)
	}
}

// close marks a channel as gone if nobody uses it.
func (ch *channel) close(members bool) bool {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	if len(ch.watches) > 0 || !members && ch.roster.Len() > 0 || ch.roster.hours.hours != nil {
		return false
	}
	ch.closed = true
	return true
}

// channelLocked returns a channel with its members, under t.mu.
func (t *Tracker) channelLocked(ref Ref) (*channel, error) {
	if ch := t.channels[ref]; ch != nil {
		return ch, nil
	}
	if len(t.channels) >= t.opts.MaxChannels {
		return nil, fmt.Errorf("presence: %w: %d channels are known already", ErrLimit, t.opts.MaxChannels)
	}
	ch := newChannel(ref, t.machineLocked(ref.Tenant), t.opts.Recall)
	t.channels[ref] = ch
	return ch, nil
}

// Grant gives a subject access to something: a channel, or what channels are
// linked to, such as an inbox. The subject becomes a member of those channels,
// connected or not.
func (t *Tracker) Grant(ctx context.Context, subject, to Ref) error {
	if err := checkPair(subject, to); err != nil {
		return err
	}
	sub, err := t.subject(ctx, subject)
	if err != nil {
		return err
	}
	now := t.time.now()
	t.mu.Lock()
	defer t.mu.Unlock()
	sub.mu.Lock()
	defer sub.mu.Unlock()
	var joining []*channel
	for _, ref := range t.grants.Channels(to) {
		if t.grants.May(subject, ref) {
			continue
		}
		ch, err := t.channelLocked(ref)
		if err != nil {
			return err
		}
		joining = append(joining, ch)
	}
	if len(sub.channels)+len(joining) > MaxChannels {
		return fmt.Errorf("presence: %w: %s would be in more than %d channels", ErrLimit, subject, MaxChannels)
	}
	if err := t.stepLocked(sub, Event{Kind: EventGrant, Subject: subject}, now); err != nil {
		return err
	}
	t.grants.Grant(subject, to)
	for _, ch := range joining {
		t.enter(sub, ch, now)
	}
	return nil
}

// Revoke takes access away again. The subject leaves the channels it no longer
// belongs to in the same step, and its own watches of them end.
func (t *Tracker) Revoke(ctx context.Context, subject, to Ref) error {
	if err := checkPair(subject, to); err != nil {
		return err
	}
	sub, err := t.known(ctx, subject)
	if err != nil {
		return err
	}
	now := t.time.now()
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.grants.Revoke(subject, to) {
		return nil
	}
	sub.mu.Lock()
	defer sub.mu.Unlock()
	t.stepLocked(sub, Event{Kind: EventTick}, now)
	for _, ref := range t.grants.Channels(to) {
		if ch := t.channels[ref]; ch != nil && !t.grants.May(subject, ref) {
			t.exit(sub, ch, now)
		}
	}
	return nil
}

// Link makes a channel's members those who are granted to, instead of those of
// what it was linked to before.
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
	before := t.grants.Members(channel)
	t.grants.Link(channel, to)
	after := t.grants.Members(channel)
	move := func(members, others []Ref, do func(*subject, Instant)) {
		for _, ref := range members {
			if sub := t.find(ref); sub != nil && !slices.Contains(others, ref) {
				sub.mu.Lock()
				t.stepLocked(sub, Event{Kind: EventTick}, now)
				do(sub, now)
				sub.mu.Unlock()
			}
		}
	}
	move(before, after, func(sub *subject, now Instant) { t.exit(sub, ch, now) })
	move(after, before, func(sub *subject, now Instant) { t.enter(sub, ch, now) })
	return nil
}

func (t *Tracker) enter(sub *subject, ch *channel, now Instant) {
	sub.channels = append(sub.channels, ch)
	ch.put(sub.state.Current, now)
}

func (t *Tracker) exit(sub *subject, ch *channel, now Instant) {
	sub.channels = slices.DeleteFunc(sub.channels, func(o *channel) bool { return o == ch })
	ch.remove(sub.ref, now, fmt.Errorf("presence: %w: the access of %s to channel %s has been removed", ErrNotAllowed, sub.ref, ch.ref))
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
	t.mu.RLock()
	defer t.mu.RUnlock()
	if !t.grants.May(actor.Ref, channel) {
		return fmt.Errorf("presence: %w: %s has no grant of channel %s", ErrNotAllowed, actor.Ref, channel)
	}
	return nil
}

// List returns the members of a channel that an audience may list, by id, and
// the group they add up to. The viewer matters for the audience self alone.
func (t *Tracker) List(ctx context.Context, channel Ref, a Audience, viewer Ref) ([]View, Group, error) {
	if err := checkRef("channel", channel); err != nil {
		return nil, Group{}, err
	}
	if err := checkAudience(a); err != nil {
		return nil, Group{}, err
	}
	if t.closed.Load() {
		return nil, Group{}, t.closedError()
	}
	t.meetDeadlines()
	t.mu.RLock()
	ch := t.channels[channel]
	t.mu.RUnlock()
	if ch == nil {
		return nil, Group{Rung: RungOffline}, nil
	}
	ch.mu.Lock()
	defer ch.mu.Unlock()
	views, group := ch.roster.look(a, viewer)
	return views, group, nil
}

func (t *Tracker) flushChannels(now Instant) (next Instant, ok bool) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if !t.coalesces() {
		return 0, false
	}
	for _, ch := range t.channels {
		if at, waits := ch.flush(now); waits && (!ok || at < next) {
			next, ok = at, true
		}
	}
	return next, ok
}

// coalesces reports whether any policy in force holds changes back.
func (t *Tracker) coalesces() bool {
	if t.fallback.policy.Publish > 0 {
		return true
	}
	for _, m := range t.byTenant {
		if m.policy.Publish > 0 {
			return true
		}
	}
	return false
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
