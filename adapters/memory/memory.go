// Package memory implements presence's interfaces within one process: storage
// that is gone with it, a transport whose frames a reader takes out, and a
// notifier whose notifications one takes out. They suit tests, examples, and
// programs whose presence need not outlive them.
//
//	storage, err := memory.NewStorage(nil)
//	tracker, err := presence.New(&presence.Options{Storage: storage})
//
// Everything in this package is bounded, safe for concurrent use, and returns
// errors wrapping [presence.ErrClosed] once it is closed.
package memory

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/presence-go/presence"
)

// byDefault returns a bound as an option gives it: n if it is 0.
func byDefault(bound, n int) int {
	if bound == 0 {
		return n
	}
	return bound
}

// queue holds up to bound values between those who put them in and the one who
// takes them out.
type queue[T any] struct {
	what  string
	bound int

	mu      sync.Mutex
	values  []T
	dropped int
	closed  bool
	reason  error
	changed chan struct{} // closed and replaced at every change
}

func newQueue[T any](what string, bound int) queue[T] {
	return queue[T]{what: what, bound: bound, changed: make(chan struct{})}
}

// wake tells everyone who waits that something changed. The queue is locked.
func (q *queue[T]) wake() {
	close(q.changed)
	q.changed = make(chan struct{})
}

// put appends a value, waiting for room.
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

// push appends a value, in place of the oldest where there is no room.
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

// take removes and returns the n oldest values, waiting for them. With an error
// it returns those there were.
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

// close refuses everything but what waits to be taken.
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

// closedError says that the queue is closed, and why. The queue is locked.
func (q *queue[T]) closedError() error {
	if q.reason != nil {
		return fmt.Errorf("memory: %w %s: %w", presence.ErrClosed, q.what, q.reason)
	}
	return fmt.Errorf("memory: %w %s", presence.ErrClosed, q.what)
}

// TransportOptions configures a [Transport]. The zero value works.
type TransportOptions struct {
	// Bound is how many frames may wait to be taken; Send blocks beyond it. 0 or
	// less means 1,024.
	Bound int
}

// Transport is a presence.Transport whose frames are taken out within the
// process, by one reader at a time.
type Transport struct{ frames queue[*presence.Frame] }

// NewTransport returns an open transport.
func NewTransport(opts TransportOptions) *Transport {
	return &Transport{frames: newQueue[*presence.Frame]("transport", byDefault(max(opts.Bound, 0), 1024))}
}

// Send appends a frame, waiting for room until ctx is done or the transport
// closed.
func (t *Transport) Send(ctx context.Context, f *presence.Frame) error { return t.frames.put(ctx, f) }

// Close ends the transport. The frames that wait can still be taken. A second
// Close changes nothing and says so.
func (t *Transport) Close(reason error) error { return t.frames.close(reason) }

// Wait takes the next n frames, in order, waiting for them until ctx is done or
// the transport is closed and empty. With an error, it returns those there were.
func (t *Transport) Wait(ctx context.Context, n int) ([]*presence.Frame, error) {
	return t.frames.take(ctx, n)
}

// Frames returns the frames that wait to be taken, without taking them.
func (t *Transport) Frames() []*presence.Frame { return t.frames.list() }

// NotifierOptions configures a [Notifier]. The zero value works.
type NotifierOptions struct {
	// Bound is how many notifications may wait to be taken; the oldest make room
	// for more. 0 or less means 1,024.
	Bound int
}

// Notifier is a presence.Notifier whose notifications are taken out within the
// process, by one reader at a time.
type Notifier struct {
	notifications queue[presence.Notification]
}

// NewNotifier returns an open notifier.
func NewNotifier(opts NotifierOptions) *Notifier {
	return &Notifier{notifications: newQueue[presence.Notification]("notifier", byDefault(max(opts.Bound, 0), 1024))}
}

// Notify appends a notification, in place of the oldest where there is no room.
// It never waits.
func (n *Notifier) Notify(ctx context.Context, notification presence.Notification) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	notification.Payload = slices.Clone(notification.Payload)
	return n.notifications.push(notification)
}

// Wait takes the next count notifications, oldest first, waiting for them until
// ctx is done or the notifier is closed and empty. With an error, it returns
// those there were.
func (n *Notifier) Wait(ctx context.Context, count int) ([]presence.Notification, error) {
	return n.notifications.take(ctx, count)
}

// Notifications returns the notifications that wait to be taken, oldest first,
// without taking them. Their payloads must not be changed.
func (n *Notifier) Notifications() []presence.Notification { return n.notifications.list() }

// Dropped returns how many notifications had to make room for others.
func (n *Notifier) Dropped() int {
	n.notifications.mu.Lock()
	defer n.notifications.mu.Unlock()
	return n.notifications.dropped
}

// Close refuses further notifications. Those that wait can still be taken. A
// second Close changes nothing and says so.
func (n *Notifier) Close() error { return n.notifications.close(nil) }
