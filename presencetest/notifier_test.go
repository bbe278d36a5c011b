package presencetest_test

import (
	"context"
	"encoding/json"
	"errors"
	"runtime"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/presence-go/presence"
	"github.com/presence-go/presence/adapters/memory"
	"github.com/presence-go/presence/presencetest"
)

func delivered(n *memory.Notifier) func(context.Context) (presence.Notification, error) {
	return func(ctx context.Context) (presence.Notification, error) {
		notifications, err := n.Wait(ctx, 1)
		if err != nil {
			return presence.Notification{}, err
		}
		return notifications[0], nil
	}
}

func TestNotifierSuitePasses(t *testing.T) {
	t.Parallel()
	open := func(context.Context) (presencetest.NotifierCase, error) {
		m, err := memory.NewNotifier(nil)
		return presencetest.NotifierCase{Notifier: m, Receive: delivered(m)}, err
	}
	require.NoError(t, presencetest.CheckNotifier(t.Context(), open))
	presencetest.RunNotifier(t, open)

	// A notifier that waits for a receiver and hands the notification over.
	open = func(context.Context) (presencetest.NotifierCase, error) {
		handed := make(chan presence.Notification)
		return presencetest.NotifierCase{
			Notifier: notify(func(ctx context.Context, n presence.Notification) error {
				if ctx.Err() != nil {
					return ctx.Err()
				}
				n.Payload = append(json.RawMessage(nil), n.Payload...)
				select {
				case handed <- n:
					return nil
				case <-ctx.Done():
					return ctx.Err()
				}
			}),
			Receive: func(ctx context.Context) (presence.Notification, error) {
				select {
				case n := <-handed:
					return n, nil
				case <-ctx.Done():
					return presence.Notification{}, ctx.Err()
				}
			},
		}, nil
	}
	presencetest.RunNotifier(t, open)
}

// notify is a function as a notifier.
type notify func(ctx context.Context, n presence.Notification) error

func (f notify) Notify(ctx context.Context, n presence.Notification) error { return f(ctx, n) }

func TestNotifierSuiteCatches(t *testing.T) {
	t.Parallel()
	// of makes a case of a notifier that passes notifications to memory by f.
	of := func(f func(ctx context.Context, to *memory.Notifier, n presence.Notification) error) func(<-chan struct{}) presencetest.NotifierCase {
		return func(<-chan struct{}) presencetest.NotifierCase {
			m, err := memory.NewNotifier(nil)
			if err != nil {
				panic(err)
			}
			return presencetest.NotifierCase{
				Notifier: notify(func(ctx context.Context, n presence.Notification) error { return f(ctx, m, n) }),
				Receive:  delivered(m),
			}
		}
	}
	changing := func(change func(*presence.Notification)) func(<-chan struct{}) presencetest.NotifierCase {
		return of(func(ctx context.Context, to *memory.Notifier, n presence.Notification) error {
			change(&n)
			return to.Notify(ctx, n)
		})
	}
	caught(t, presencetest.CheckNotifier, []mutant[presencetest.NotifierCase]{
		{"the channel is not told", "whole", changing(func(n *presence.Notification) { n.Channel = "" })},
		{"the tenant is not told", "whole", changing(func(n *presence.Notification) { n.Subject.Tenant = "" })},
		{"instants in seconds", "whole", changing(func(n *presence.Notification) { n.At -= n.At % 1e9 })},
		{"numbers are floating", "whole", changing(func(n *presence.Notification) {
			var v any
			if json.Unmarshal(n.Payload, &v) == nil {
				n.Payload, _ = json.Marshal(v)
			}
		})},
		{"long payloads are left out", "whole", changing(func(n *presence.Notification) {
			if len(n.Payload) > 1000 {
				n.Payload = nil
			}
		})},
		{"one for each subject", "each", func(<-chan struct{}) presencetest.NotifierCase {
			var mu sync.Mutex
			told := make(map[presence.Ref]bool)
			return of(func(ctx context.Context, to *memory.Notifier, n presence.Notification) error {
				mu.Lock()
				defer mu.Unlock()
				if told[n.Subject] {
					return ctx.Err()
				}
				told[n.Subject] = true
				return to.Notify(ctx, n)
			})(nil)
		}},
		{"one buffer for all", "concurrent", func(<-chan struct{}) presencetest.NotifierCase {
			var mu sync.Mutex
			var buffer json.RawMessage
			return of(func(ctx context.Context, to *memory.Notifier, n presence.Notification) error {
				mu.Lock()
				buffer = append(buffer[:0], n.Payload...)
				mu.Unlock()
				for range 100 {
					runtime.Gosched()
				}
				mu.Lock()
				defer mu.Unlock()
				n.Payload = buffer
				return to.Notify(ctx, n)
			})(nil)
		}},
		{"one at a time, the others fail", "concurrent", func(<-chan struct{}) presencetest.NotifierCase {
			var turn sync.Mutex
			return of(func(ctx context.Context, to *memory.Notifier, n presence.Notification) error {
				if !turn.TryLock() {
					return errors.New("too many requests")
				}
				defer turn.Unlock()
				for range 100 {
					runtime.Gosched()
				}
				return to.Notify(ctx, n)
			})(nil)
		}},
		{"a done context is not looked at", "done-context", of(func(ctx context.Context, to *memory.Notifier, n presence.Notification) error {
			return to.Notify(context.WithoutCancel(ctx), n)
		})},
		{"a done context means done", "done-context", of(func(ctx context.Context, to *memory.Notifier, n presence.Notification) error {
			if ctx.Err() != nil {
				return nil
			}
			return to.Notify(ctx, n)
		})},
		{"a done context by another name", "done-context", of(func(ctx context.Context, to *memory.Notifier, n presence.Notification) error {
			if ctx.Err() != nil {
				return presence.ErrUnavailable
			}
			return to.Notify(ctx, n)
		})},
		{"it waits for whoever receives", "done-context", func(release <-chan struct{}) presencetest.NotifierCase {
			handed := make(chan presence.Notification)
			return presencetest.NotifierCase{
				Notifier: notify(func(ctx context.Context, n presence.Notification) error {
					if ctx.Err() != nil {
						return ctx.Err()
					}
					n.Payload = append(json.RawMessage(nil), n.Payload...)
					select {
					case handed <- n:
					case <-release:
					}
					return nil
				}),
				Receive: func(ctx context.Context) (presence.Notification, error) {
					select {
					case n := <-handed:
						return n, nil
					case <-ctx.Done():
						return presence.Notification{}, ctx.Err()
					}
				},
			}
		}},
		{"the payload is kept", "payload", func(<-chan struct{}) presencetest.NotifierCase {
			handed := make(chan presence.Notification, 100)
			return presencetest.NotifierCase{
				Notifier: notify(func(ctx context.Context, n presence.Notification) error {
					if ctx.Err() == nil {
						handed <- n
					}
					return ctx.Err()
				}),
				Receive: func(ctx context.Context) (presence.Notification, error) {
					select {
					case n := <-handed:
						return n, nil
					case <-ctx.Done():
						return presence.Notification{}, ctx.Err()
					}
				},
			}
		}},
		{"the payload is used up", "payload", of(func(ctx context.Context, to *memory.Notifier, n presence.Notification) error {
			err := to.Notify(ctx, n)
			clear(n.Payload)
			return err
		})},
	})
}
