package edge

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/presence-go/presence"
)

// Bucket limits how often something happens. The caller gives times relative to
// one instant. It is not safe for concurrent use.
type Bucket struct {
	tokens float64
	filled time.Duration
}

// NewBucket returns a full bucket.
func NewBucket(at time.Duration, burst int) Bucket { return Bucket{float64(burst), at} }

// Take takes a token, or returns false if the bucket is empty.
func (b *Bucket) Take(at time.Duration, perSecond float64, burst int) bool {
	b.fill(at, perSecond, burst)
	if b.tokens < 1 {
		return false
	}
	b.tokens--
	return true
}

// Borrow takes a token even from an empty bucket, and returns how long to wait
// for it.
func (b *Bucket) Borrow(at time.Duration, perSecond float64, burst int) time.Duration {
	b.fill(at, perSecond, burst)
	if b.tokens--; b.tokens >= 0 {
		return 0
	}
	return time.Duration(-b.tokens / perSecond * float64(time.Second))
}

func (b *Bucket) fill(at time.Duration, perSecond float64, burst int) {
	if passed := at - b.filled; passed > 0 {
		b.tokens = min(b.tokens+passed.Seconds()*perSecond, float64(burst))
	}
	b.filled = at
}

// MaxStrikes is the number of faults within a minute that ends a session.
const MaxStrikes = 20

// Strikes are the times of a client's faults within the last minute, relative
// to one instant of the caller. They are not safe for concurrent use.
type Strikes []time.Duration

// Add notes a fault, and reports whether the client has reached MaxStrikes.
func (s *Strikes) Add(at time.Duration) (out bool) {
	*s = append(slices.DeleteFunc(*s, func(old time.Duration) bool { return at-old >= time.Minute }), at)
	return len(*s) >= MaxStrikes
}

// Seats counts open sessions, in all and by subject, those that are about to
// open included. It is safe for concurrent use.
type Seats struct {
	pkg, what       string
	max, perSubject int

	mu        sync.Mutex
	taken     int
	bySubject map[presence.Ref]int
	closed    bool
}

// ShuttingDown is the reason that clients get from a server that shuts down.
const ShuttingDown = "the server is shutting down"

// Await waits for what an adapter ends when it shuts down. When ctx is done before, it
// calls cut, which must make wait return, and returns the cause of ctx's end.
func Await(ctx context.Context, wait, cut func()) error {
	done := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(done)
		cut()
	})
	wait()
	if stop() {
		return nil
	}
	<-done
	return context.Cause(ctx)
}

// Close shuts an adapter down with a limit of CloseTimeout. It returns an error only
// if that was done before.
func Close(shutdown func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), CloseTimeout)
	defer cancel()
	if err := shutdown(ctx); errors.Is(err, presence.ErrClosed) {
		return err
	}
	return nil
}

// NewSeats returns seats for what an adapter opens, such as "sessions". A
// perSubject of 0 means no limit by subject.
func NewSeats(pkg, what string, most, perSubject int) *Seats {
	return &Seats{pkg: pkg, what: what, max: most, perSubject: perSubject, bySubject: make(map[presence.Ref]int)}
}

// Take takes a seat for a subject, or returns why none is free.
func (s *Seats) Take(subject presence.Ref) *Refusal {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed:
		return &Refusal{http.StatusServiceUnavailable, s.pkg + ": " + ShuttingDown}
	case s.taken >= s.max:
		return &Refusal{http.StatusServiceUnavailable, fmt.Sprintf("%s: limit %s: %d are open, no more are allowed", s.pkg, s.what, s.taken)}
	}
	if full := s.fullLocked(subject); full != nil {
		return full
	}
	s.taken++
	s.bySubject[subject]++
	return nil
}

func (s *Seats) fullLocked(subject presence.Ref) *Refusal {
	if s.perSubject == 0 || s.bySubject[subject] < s.perSubject {
		return nil
	}
	return &Refusal{http.StatusTooManyRequests, fmt.Sprintf("%s: limit %s: %s has %d open, no more are allowed", s.pkg, s.what, subject, s.bySubject[subject])}
}

// Give gives a seat of a subject back.
func (s *Seats) Give(subject presence.Ref) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.taken--
	s.giveLocked(subject)
}

func (s *Seats) giveLocked(subject presence.Ref) {
	if s.bySubject[subject]--; s.bySubject[subject] == 0 {
		delete(s.bySubject, subject)
	}
}

// Move moves a seat from one subject to another, or returns why the other has
// none free.
func (s *Seats) Move(from, to presence.Ref) *Refusal {
	if from == to {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if full := s.fullLocked(to); full != nil {
		return full
	}
	s.bySubject[to]++
	s.giveLocked(from)
	return nil
}

// Close makes Take refuse from now on.
func (s *Seats) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
}
