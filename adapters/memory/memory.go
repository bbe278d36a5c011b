// Package memory implements the interfaces of presence within one process: a
// storage, a transport and a notifier. They suit tests, examples, and programs
// whose presence need not outlive them.
//
//	storage, err := memory.NewStorage(nil)
//	tracker, err := presence.New(&presence.Options{Storage: storage})
//
// Each of them has a limit on what it holds, is safe for concurrent use, and
// returns errors that wrap [presence.ErrClosed] once it is closed.
package memory

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/presence-go/presence"
)

// defaultBound is the number of values that a queue holds by default.
const defaultBound = 1024

// queue holds up to bound values until its one reader takes them out. Any number
// of writers put values in.
type queue[T any] struct {
	what  string // the word of errors for the queue
	bound int

	mu      sync.Mutex
	values  []T
	dropped int
	closed  bool
	reason  error
	changed chan struct{} // closed and replaced at every change
}

// newQueue checks the option Bound and returns an open queue.
func newQueue[T any](what string, bound int) (*queue[T], error) {
	if bound < 0 {
		return nil, &presence.Error{Err: presence.ErrInvalid, What: "option", Given: "Bound", Text: fmt.Sprintf("%d is negative", bound)}
	}
	return &queue[T]{what: what, bound: cmp.Or(bound, defaultBound), changed: make(chan struct{})}, nil
}

// wake wakes all callers that wait for a change. The queue is locked.
func (q *queue[T]) wake() {
	close(q.changed)
	q.changed = make(chan struct{})
}

// put appends a value. It waits for room.
func (q *queue[T]) put(ctx context.Context, v T) error {
	for {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		q.mu.Lock()
		switch {
		case q.closed:
			defer q.mu.Unlock()
			return q.closedError()
		case len(q.values) < q.bound:
			defer q.mu.Unlock()
			q.values = append(q.values, v)
			q.wake()
			return nil
		}
		changed := q.changed
		q.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
		}
	}
}

// push appends a value. In a full queue it replaces the oldest value.
func (q *queue[T]) push(v T) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return q.closedError()
	}
	if len(q.values) >= q.bound {
		q.values = slices.Delete(q.values, 0, 1)
		q.dropped++
	}
	q.values = append(q.values, v)
	q.wake()
	return nil
}

// take waits for n values, removes the n oldest and returns them. With an error it
// returns the values that it found.
func (q *queue[T]) take(ctx context.Context, n int) ([]T, error) {
	var taken []T
	for {
		q.mu.Lock()
		if count := min(n-len(taken), len(q.values)); count > 0 {
			taken = append(taken, q.values[:count]...)
			q.values = slices.Delete(q.values, 0, count)
			q.wake()
		}
		switch {
		case len(taken) >= n:
			q.mu.Unlock()
			return taken, nil
		case q.closed:
			defer q.mu.Unlock()
			return taken, q.closedError()
		}
		changed := q.changed
		q.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return taken, context.Cause(ctx)
		}
	}
}

func (q *queue[T]) list() []T {
	q.mu.Lock()
	defer q.mu.Unlock()
	return slices.Clone(q.values)
}

// close refuses every later put. The values in the queue can still be taken.
func (q *queue[T]) close(reason error) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return q.closedError()
	}
	q.closed, q.reason = true, reason
	q.wake()
	return nil
}

// closedError returns an [presence.ErrClosed] that wraps the reason given to close.
// The queue is locked.
func (q *queue[T]) closedError() error {
	return &presence.Error{Err: presence.ErrClosed, What: q.what, Cause: q.reason}
}

// TransportOptions configures a [Transport]. The zero value works.
type TransportOptions struct {
	// Bound is the number of frames that the transport holds. Send to a full
	// transport blocks. 0 means 1,024.
	Bound int
}

// Transport is a presence.Transport within the process. One reader at a time takes
// its frames out.
type Transport struct{ frames *queue[*presence.Frame] }

// NewTransport returns an open transport; nil options mean zero ones. It returns
// [presence.ErrInvalid] if Bound is negative.
func NewTransport(opts *TransportOptions) (*Transport, error) {
	var o TransportOptions
	if opts != nil {
		o = *opts
	}
	frames, err := newQueue[*presence.Frame]("transport", o.Bound)
	if err != nil {
		return nil, err
	}
	return &Transport{frames}, nil
}

// Send appends a frame. It waits for room until ctx is done or the transport is
// closed.
func (t *Transport) Send(ctx context.Context, f *presence.Frame) error { return t.frames.put(ctx, f) }

// Close ends the transport. Its frames can still be taken. A second Close changes
// nothing and returns [presence.ErrClosed].
func (t *Transport) Close(reason error) error { return t.frames.close(reason) }

// Wait takes the next n frames, in order. It waits for them until ctx is done or
// the transport is closed and empty. With an error it returns the frames that it
// took.
func (t *Transport) Wait(ctx context.Context, n int) ([]*presence.Frame, error) {
	return t.frames.take(ctx, n)
}

// Frames returns the frames that the transport holds. It does not take them.
func (t *Transport) Frames() []*presence.Frame { return t.frames.list() }

// NotifierOptions configures a [Notifier]. The zero value works.
type NotifierOptions struct {
	// Bound is the number of notifications that the notifier holds. A full notifier
	// drops the oldest. 0 means 1,024.
	Bound int
}

// Notifier is a presence.Notifier within the process. One reader at a time takes
// its notifications out.
type Notifier struct {
	notifications *queue[presence.Notification]
}

// NewNotifier returns an open notifier; nil options mean zero ones. It returns
// [presence.ErrInvalid] if Bound is negative.
func NewNotifier(opts *NotifierOptions) (*Notifier, error) {
	var o NotifierOptions
	if opts != nil {
		o = *opts
	}
	notifications, err := newQueue[presence.Notification]("notifier", o.Bound)
	if err != nil {
		return nil, err
	}
	return &Notifier{notifications}, nil
}

// Notify appends a notification and never waits. In a full notifier the
// notification replaces the oldest.
func (n *Notifier) Notify(ctx context.Context, notification presence.Notification) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	notification.Payload = slices.Clone(notification.Payload)
	return n.notifications.push(notification)
}

// Wait takes the next count notifications, oldest first. It waits for them until
// ctx is done or the notifier is closed and empty. With an error it returns the
// notifications that it took.
func (n *Notifier) Wait(ctx context.Context, count int) ([]presence.Notification, error) {
	return n.notifications.take(ctx, count)
}

// Notifications returns the notifications that the notifier holds, oldest first. It
// does not take them. The caller must not change their payloads.
func (n *Notifier) Notifications() []presence.Notification { return n.notifications.list() }

// Dropped returns the number of notifications that newer ones replaced.
func (n *Notifier) Dropped() int {
	n.notifications.mu.Lock()
	defer n.notifications.mu.Unlock()
	return n.notifications.dropped
}

// Close refuses further notifications. The notifications held can still be taken. A
// second Close changes nothing and returns [presence.ErrClosed].
func (n *Notifier) Close() error { return n.notifications.close(nil) }
