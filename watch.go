package presence

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/benbjohnson/clock"
)

// WatchOptions are the options of a watch.
type WatchOptions struct {
	// Audience is the audience to watch as. Empty means the actor's own. Agents may
	// watch as self or team, visitors only as visitor. Supervisors, admins and
	// systems may watch as any audience.
	Audience Audience
	// Epoch and Seq are those of the last frame that the watcher has, from a watch
	// that ended. If the channel keeps every frame since then, the watch begins
	// with those frames instead of a snapshot. The audience must be the same. A
	// watch of a single subject always begins with a snapshot.
	Epoch string
	Seq   uint64
	// Notify, if set, is called when [Watch.Poll] may have a frame or an error: for
	// the first snapshot, after frames arrive, and at the end. The first call may
	// precede the return of Watch. Call Poll until it returns nil or an error,
	// since several frames can share one call. No lock is held. One goroutine calls
	// the functions of all watches, one after the other. Notify must not block, and
	// must not close the tracker, which waits for it. Hand the watch to the
	// goroutine that reads it, so that one goroutine can serve many watches.
	Notify func()
}

// Watch is a stream of frames for one watcher: a snapshot, then diffs.
type Watch struct {
	// The fields that a new frame needs are first, since a change reads them for
	// every watch.
	mu     sync.Mutex // guards the fields up to reason that change; locked after the hub
	ended  bool
	stale  bool        // the next frame must be a snapshot
	lagged bool        // the queue overflowed
	told   atomic.Bool // a call of notify is scheduled
	queue  []*Frame
	notify func()
	ready  chan struct{} // made by the first call of Next
	hub    *channelHub
	from   *stream
	actor  Actor
	member bool  // the watch depends on the actor's grant and ends with it; never changes
	reason error // why the watch ended

	// Used by the reader, or by ask while the reader waits:
	trusted Instant // when the authorizer last allowed the watch
	asked   Instant // when the authorizer was asked since then without an answer; 0 means not
	asking  atomic.Bool
}

// Watch starts watching a channel. An agent must be a member, and its watch ends
// when it is removed. Visitors, supervisors, admins and systems need not be
// members. A watch does not make its actor a member, and no view shows the watch.
// It returns [ErrNotAllowed] if the authorizer refuses, and [ErrLimit] at
// [Options].MaxWatches.
func (t *Tracker) Watch(ctx context.Context, by Actor, channel Channel, opts WatchOptions) (*Watch, error) {
	if err := checkRef("channel", Ref(channel)); err != nil {
		return nil, err
	}
	a, err := t.audience(ctx, Question{Actor: by, Action: ActionSee, Channel: channel}, opts, by.Audience())
	if err != nil {
		return nil, err
	}
	member := a == AudienceTeam || a == AudienceSelf
	member = member && by.Audience() == AudienceTeam
	if member {
		if err := t.mustBelong(by, channel); err != nil {
			return nil, err
		}
	}
	return t.watch(func() (*channelHub, error) { return t.lookAt(channel) }, by, a, member, opts)
}

// WatchSubject starts watching a single subject without a channel. It returns
// [ErrUnknown] if the subject is unknown.
func (t *Tracker) WatchSubject(ctx context.Context, by Actor, subject Ref, opts WatchOptions) (*Watch, error) {
	a, err := t.audience(ctx, Question{Actor: by, Action: ActionSee, Subject: subject}, opts, audienceFor(by, subject))
	if err != nil {
		return nil, err
	}
	if a == AudienceSelf && by.Subject != subject && by.Audience() == AudienceTeam {
		return nil, refuse(ErrNotAllowed, "audience", string(a), "%s may see %s as a teammate, not as %s itself", by.Subject, subject, subject).allow(string(AudienceTeam))
	}
	who, err := t.known(ctx, subject)
	if err != nil {
		return nil, err
	}
	if a == AudienceSelf {
		by.Subject = subject
	}
	return t.watch(func() (*channelHub, error) { return t.lookAtSubject(who) }, by, a, false, opts)
}

// audience returns the audience of a watch. It returns ErrNotAllowed if the actor
// may not watch as that audience.
func (t *Tracker) audience(ctx context.Context, q Question, opts WatchOptions, own Audience) (Audience, error) {
	a, actor := own, q.Actor
	if opts.Audience != "" {
		a = opts.Audience
	}
	if err := checkAudience(a); err != nil {
		return "", err
	}
	free := actor.Role == RoleSupervisor || actor.Role == RoleAdmin || actor.Role == RoleSystem
	if a != own && !free && (a != AudienceSelf || actor.Role == RoleVisitor) && a != actor.Audience() {
		return "", refuse(ErrNotAllowed, "audience", string(a), "%s cannot watch as it", actor.Subject).allow(string(actor.Audience()))
	}
	if err := checkRef("actor", actor.Subject); err != nil {
		return "", err
	}
	return a, t.allow(ctx, q)
}

// watch adds a watch to the hub that find returns.
func (t *Tracker) watch(find func() (*channelHub, error), actor Actor, a Audience, member bool, opts WatchOptions) (*Watch, error) {
	if t.watches.Add(1) > int64(t.opts.MaxWatches) {
		t.watches.Add(-1)
		return nil, refuse(ErrLimit, "watch", "", "%d watches are open, the most allowed", t.opts.MaxWatches)
	}
	w := &Watch{actor: actor, member: member, notify: opts.Notify, stale: true, trusted: t.time.Now()}
	err := t.useHub(find, func(hub *channelHub) (open bool, err error) {
		w.hub = hub
		t.mu.RLock() // so that no grant is removed in between
		defer t.mu.RUnlock()
		if member && !t.may(actor.Subject, hub.ref()) {
			return true, noGrant(actor.Subject, hub.ref())
		}
		return hub.use(func(r *Roster) {
			missed, known := r.resume(a, actor.Subject, opts.Epoch, opts.Seq)
			if known && len(missed) <= t.opts.WatchBuffer {
				w.queue, w.stale = missed, false
				t.counts.frames.Add(uint64(len(missed)))
			}
			w.from = hub.open(a, actor.Subject, w.trusted) // the stream's frames reach the watch from here on
			attach(w.from, w)
			w.signal()
		}), nil
	})
	if err != nil {
		t.watches.Add(-1)
		return nil, err
	}
	return w, nil
}

// push queues a frame without waiting. It returns false if the watch has ended or
// is going to get a snapshot.
func (w *Watch) push(f *Frame) (queued bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.ended || w.stale:
		return false
	case len(w.queue) >= w.hub.t.opts.WatchBuffer:
		clear(w.queue)
		w.queue = w.queue[:0]
		w.stale, w.lagged = true, true
		w.hub.t.counts.lagged.Add(1)
	default:
		w.queue = append(w.queue, f)
		queued = true
	}
	w.signal()
	return queued
}

// signal wakes the reader. The watch is locked, or not yet attached.
func (w *Watch) signal() {
	if w.notify != nil {
		w.hub.t.ready.add(w)
	}
	if w.ready != nil {
		signal(w.ready)
	}
}

// end ends the watch. It drops the queued frames, which the watcher may no longer
// see, and queues the last frame if one is given. It returns false if the watch has
// ended before.
func (w *Watch) end(last *Frame, reason error) (now bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ended {
		return false
	}
	w.ended, w.reason, w.queue = true, reason, nil
	if last != nil {
		w.queue = []*Frame{last}
		w.hub.t.counts.frames.Add(1)
	}
	w.hub.t.watches.Add(-1)
	w.signal()
	return true
}

// Next returns the next frame. It waits for a frame until ctx is done. The first
// frame is a snapshot. After the watch has ended, Next returns an error that wraps
// [ErrClosed], or [ErrNotAllowed] if access was removed. One goroutine at a time
// may read.
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
		var fired <-chan time.Time
		if again > 0 {
			retry = w.hub.t.opts.Clock.Timer(again)
			fired = retry.C
		}
		select {
		case <-fired:
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

// Poll returns the next frame, or nil if none is ready. With a Notify, Poll does
// not wait for the authorizer: a goroutine asks it, and Notify is called after the
// answer.
func (w *Watch) Poll() (*Frame, error) {
	f, _, err := w.poll(w.hub.t.stopped, w.notify == nil)
	return f, err
}

// ask asks the authorizer. It wakes the reader when the reader may continue or must
// ask again.
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
// Watches are added under the locks of a change. A goroutine calls the functions
// without a lock, and ends when no watch waits.
type readiness struct {
	mu      sync.Mutex
	waiting []*Watch
	calling bool
}

// add schedules a call of the watch's function. A watch that waits for its call is
// not added again.
func (r *readiness) add(w *Watch) {
	if w.told.Swap(true) {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.waiting = append(r.waiting, w)
	if !r.calling {
		r.calling = w.hub.t.tasks.run(r.call) // refused only after every watch has ended
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
			w.told.Store(false) // a frame after this adds the watch again
			w.notify()
		}
	}
}

// poll returns the next frame, or nil if none is ready. again is how long to wait
// before the authorizer can be asked again, or 0 to wait for a frame. With here,
// poll itself asks the authorizer; else a goroutine asks it.
func (w *Watch) poll(ctx context.Context, here bool) (f *Frame, again time.Duration, err error) {
	for {
		trusting := w.hub.t.opts.AuthorizeEvery < 0 // the authorizer is not asked again
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
			if w.hub.t.tasks.run(w.ask) {
				return nil, 0, nil
			}
			w.asking.Store(false)
			continue // the tracker is closed, and has ended the watch
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

// take removes and returns the first frame of the queue, or nil if the queue is
// empty.
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
		w.queue = w.queue[:0] // keeps its memory
	} else {
		w.queue = w.queue[1:]
	}
	return f
}

const (
	// authorizeTimeout is how long an authorizer may take to answer.
	authorizeTimeout = 5 * time.Second
	// authorizeRetry is how soon an authorizer that failed is asked again.
	authorizeRetry = 5 * time.Second
)

// authorize asks the authorizer again if that is due. It returns how long to wait
// if no frame may be read before the answer.
func (w *Watch) authorize(ctx context.Context) (suspended time.Duration) {
	every := w.hub.t.opts.AuthorizeEvery
	if every < 0 {
		return 0
	}
	now := w.hub.t.time.Now()
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
	switch err := w.hub.t.allow(ctx, w.question()); {
	case err == nil:
		w.trusted, w.asked = now, 0
		return 0
	case errors.Is(err, ErrNotAllowed):
		w.end(w.hub.removed(), err)
		w.hub.forget()
		w.detach()
		return 0
	case late:
		// The queued frames are dropped, since they would be too old when they are
		// read.
		w.mu.Lock()
		w.queue, w.stale = nil, true
		w.mu.Unlock()
		return authorizeRetry
	}
	return 0
}

// question returns the question to the authorizer about the watch.
func (w *Watch) question() Question {
	q := Question{Actor: w.actor, Action: ActionSee}
	if w.hub.ch == nil {
		q.Subject = Ref(w.hub.ref())
	} else {
		q.Channel = w.hub.ref()
	}
	return q
}

// doubtful reports whether authorize would ask the authorizer or suspend the watch.
func (w *Watch) doubtful() bool {
	every := w.hub.t.opts.AuthorizeEvery
	if every < 0 {
		return false
	}
	now := w.hub.t.time.Now()
	if now < w.trusted.Add(every) {
		return false
	}
	return w.asked == 0 || now >= w.asked.Add(authorizeRetry) || now >= w.trusted.Add(3*every)
}

// detach removes the watch from its hub.
func (w *Watch) detach() {
	w.hub.mu.Lock()
	w.hub.detach(w.from, func(o *Watch) bool { return o == w })
	w.hub.mu.Unlock()
	w.hub.t.forgetUnused(w.hub)
}

// Stream sends frames over a transport until the watch ends, ctx is done or the
// transport fails. Then it closes both and returns the reason.
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

// Close ends the watch. A second Close changes nothing and returns [ErrClosed].
func (w *Watch) Close() error {
	closed := refuse(ErrClosed, "watch", w.hub.ref().String(), "it is closed")
	if !w.end(nil, closed) {
		return closed
	}
	w.detach()
	return nil
}
