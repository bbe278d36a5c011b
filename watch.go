package presence

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/benbjohnson/clock"
)

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
	hub    *channelHub
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
	for {
		hub, err := t.lookAt(channel)
		if err != nil {
			return nil, err
		}
		w, err := t.watch(hub, by, a, member, opts)
		if err != nil {
			t.forgetUnused(hub)
			return nil, err
		}
		if w != nil {
			return w, nil
		} // otherwise it has just been closed, because nobody watched it
	}
}

// WatchSubject starts watching one subject, without any channel. One that nobody
// has heard of is refused with [ErrUnknown].
func (t *Tracker) WatchSubject(ctx context.Context, by Actor, subject Ref, opts WatchOptions) (*Watch, error) {
	a, err := t.audience(ctx, Question{Actor: by, Action: ActionSee, Subject: subject}, opts, audienceFor(by, subject))
	if err != nil {
		return nil, err
	}
	if a == AudienceSelf && by.Subject != subject && by.Audience() == AudienceTeam {
		return nil, fmt.Errorf("presence: %w: %s may look at %s as a teammate, not as %s itself", ErrNotAllowed, by.Subject, subject, subject)
	}
	who, err := t.known(ctx, subject)
	if err != nil {
		return nil, err
	}
	if a == AudienceSelf {
		by.Subject = subject
	}
	for {
		h := t.lock(who.n, subject)
		if h == nil {
			return nil, who.gone()
		}
		alone := h.subjectHub()
		if alone == nil {
			alone = t.newHub(nil, Channel(who.ref), h.m, new(epochs))
			alone.owner = who.n
			alone.put(h.current(), t.time.Now())
			h.setAlone(alone)
			t.channelTable.addHub(alone)
		}
		h.unlock()
		w, err := t.watch(alone, by, a, false, opts)
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
		return "", fmt.Errorf("presence: %w: %s may look as %s, not as %s", ErrNotAllowed, actor.Subject, actor.Audience(), a)
	}
	if err := checkRef("actor", actor.Subject); err != nil {
		return "", err
	}
	return a, t.allow(ctx, q)
}

// watch adds a watcher to a hub. It returns nil if the hub has been closed.
func (t *Tracker) watch(hub *channelHub, actor Actor, a Audience, member bool, opts WatchOptions) (*Watch, error) {
	if t.watches.Add(1) > int64(t.opts.MaxWatches) {
		t.watches.Add(-1)
		return nil, fmt.Errorf("presence: %w: %d watches are open already", ErrLimit, t.opts.MaxWatches)
	}
	w := &Watch{hub: hub, actor: actor, member: member, notify: opts.Notify, stale: true, trusted: t.time.Now()}
	t.mu.RLock()
	defer t.mu.RUnlock()
	if member && !t.may(actor.Subject, hub.ref()) {
		t.watches.Add(-1)
		return nil, fmt.Errorf("presence: %w: %s has no grant of channel %s", ErrNotAllowed, actor.Subject, hub.ref())
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
	missed, known := hub.roster.resume(a, actor.Subject, opts.Epoch, opts.Seq)
	if known && len(missed) <= t.opts.WatchBuffer {
		w.queue, w.stale = missed, false
		t.counts.frames.Add(uint64(len(missed)))
	}
	w.from = hub.open(a, actor.Subject, w.trusted) // so that changes from now on are counted
	attach(w.from, w)
	w.signal()
	return w, nil
}

// push queues a frame without waiting. It reports false if the watch has ended or
// gets a snapshot instead.
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
		w.hub.t.counts.frames.Add(1)
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
		// What comes meanwhile is not kept; it would be told too late.
		w.mu.Lock()
		w.queue, w.stale = nil, true
		w.mu.Unlock()
		return authorizeRetry
	}
	return 0
}

// question returns what the authorizer is asked about the watch.
func (w *Watch) question() Question {
	q := Question{Actor: w.actor, Action: ActionSee}
	if w.hub.ch == nil {
		q.Subject = Ref(w.hub.ref())
	} else {
		q.Channel = w.hub.ref()
	}
	return q
}

// doubtful reports whether authorize would do anything but agree.
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

// detach takes the watch out of its hub.
func (w *Watch) detach() {
	w.hub.mu.Lock()
	w.hub.detach(w.from, func(o *Watch) bool { return o == w })
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
