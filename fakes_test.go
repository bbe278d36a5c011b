package presence_test

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/benbjohnson/clock"

	"github.com/presence-go/presence"
	"github.com/presence-go/presence/adapters/memory"
)

// gatedNotifier holds every notification back until it is released.
type gatedNotifier struct {
	release chan struct{}

	mu   sync.Mutex
	list []presence.Notification
}

func (g *gatedNotifier) Notify(ctx context.Context, n presence.Notification) error {
	select {
	case <-g.release:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.list = append(g.list, n)
	return nil
}

func (g *gatedNotifier) got() []presence.Notification {
	g.mu.Lock()
	defer g.mu.Unlock()
	return append([]presence.Notification(nil), g.list...)
}

// jumpingClock is a real clock whose readings can be moved ahead, as they are
// after a process was stopped.
type jumpingClock struct {
	clock.Clock
	ahead atomic.Int64
}

func (j *jumpingClock) Now() time.Time { return j.Clock.Now().Add(time.Duration(j.ahead.Load())) }

// authorizerFunc is an authorizer that gives everybody the same answer.
type authorizerFunc func() error

func (f authorizerFunc) Allow(context.Context, presence.Question) error {
	return f()
}

// inMemory returns empty storage that keeps so many rows of each subject; 0 means
// 1,000.
func inMemory(rows int) *memory.Storage {
	s, err := memory.NewStorage(&memory.StorageOptions{JournalRows: rows})
	if err != nil {
		panic(err)
	}
	return s
}
