package presencetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/presence-go/presence"
)

// ErrFault is the error of a call that a [FaultyStorage] lets fail.
var ErrFault = errors.New("injected fault")

// Method names a method of storage.
type Method string

// The methods of storage.
const (
	Load    Method = "Load"
	Save    Method = "Save"
	Append  Method = "Append"
	Delete  Method = "Delete"
	Journal Method = "Journal"
)

// FaultyStorage is storage with faults, for tests. Without faults it passes
// each call to the storage that it wraps. Methods that inject a fault take the
// methods of storage that fail; none means all. It reads the journal if the
// wrapped storage does.
type FaultyStorage struct {
	storage presence.Storage

	mu     sync.Mutex
	down   bool
	faults []*fault
	holds  []*hold
	calls  map[Method]int
}

type fault struct {
	left    int
	lost    bool // the call is carried out, but returns ErrFault
	methods []Method
}

type hold struct {
	held     chan Method
	released chan struct{}
	methods  []Method
}

var (
	_ presence.Storage       = (*FaultyStorage)(nil)
	_ presence.JournalReader = (*FaultyStorage)(nil)
)

// NewFaultyStorage wraps storage.
func NewFaultyStorage(storage presence.Storage) *FaultyStorage {
	return &FaultyStorage{storage: storage, calls: make(map[Method]int)}
}

// Down lets every call fail until Up.
func (s *FaultyStorage) Down() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.down = true
}

// Up ends Down, and removes the faults of Fail and LoseAnswers that have not
// occurred. Calls that Hold blocks stay blocked.
func (s *FaultyStorage) Up() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.down, s.faults = false, nil
}

// Fail lets the next n calls fail without carrying them out.
func (s *FaultyStorage) Fail(n int, methods ...Method) { s.inject(&fault{left: n, methods: methods}) }

// LoseAnswers lets the next n calls fail after carrying them out, as when a
// connection breaks before the answer arrives.
func (s *FaultyStorage) LoseAnswers(n int, methods ...Method) {
	s.inject(&fault{left: n, lost: true, methods: methods})
}

func (s *FaultyStorage) inject(f *fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = append(s.faults, f)
}

// Hold blocks calls before they are carried out, until release is called or
// their context is done. The Go channel held receives the method of each
// blocked call. It keeps 100 methods and drops more.
func (s *FaultyStorage) Hold(methods ...Method) (held <-chan Method, release func()) {
	h := &hold{held: make(chan Method, 100), released: make(chan struct{}), methods: methods}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.holds = append(s.holds, h)
	return h.held, sync.OnceFunc(func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.holds = slices.DeleteFunc(s.holds, func(o *hold) bool { return o == h })
		close(h.released)
	})
}

// Calls returns how often methods were called, with and without an error. No
// methods means all.
func (s *FaultyStorage) Calls(methods ...Method) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for m, calls := range s.calls {
		if concerns(methods, m) {
			n += calls
		}
	}
	return n
}

func concerns(methods []Method, m Method) bool {
	return len(methods) == 0 || slices.Contains(methods, m)
}

// do carries out a call, with the faults for it.
func (s *FaultyStorage) do(ctx context.Context, m Method, call func() error) error {
	s.mu.Lock()
	s.calls[m]++
	var waits *hold
	if i := slices.IndexFunc(s.holds, func(h *hold) bool { return concerns(h.methods, m) }); i >= 0 {
		waits = s.holds[i]
	}
	s.mu.Unlock()
	if waits != nil {
		select {
		case waits.held <- m:
		default:
		}
		select {
		case <-waits.released:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	fails, lost := s.next(m)
	if fails && !lost {
		return fmt.Errorf("presencetest: %w: %s was not carried out", ErrFault, m)
	}
	err := call()
	if lost {
		return fmt.Errorf("presencetest: %w: the answer of %s is lost", ErrFault, m)
	}
	return err
}

// next uses up the fault for a call, if one is left.
func (s *FaultyStorage) next(m Method) (fails, lost bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.down {
		return true, false
	}
	for _, f := range s.faults {
		if f.left > 0 && concerns(f.methods, m) {
			f.left--
			return true, f.lost
		}
	}
	return false, false
}

// Load implements [presence.Storage].
func (s *FaultyStorage) Load(ctx context.Context, subjects ...presence.Ref) (records []presence.Record, err error) {
	err = s.do(ctx, Load, func() (err error) {
		records, err = s.storage.Load(ctx, subjects...)
		return err
	})
	if err != nil {
		return nil, err
	}
	return records, nil
}

// Save implements [presence.Storage].
func (s *FaultyStorage) Save(ctx context.Context, writes ...presence.Write) error {
	return s.do(ctx, Save, func() error { return s.storage.Save(ctx, writes...) })
}

// Append implements [presence.Storage].
func (s *FaultyStorage) Append(ctx context.Context, rows ...presence.JournalRow) error {
	return s.do(ctx, Append, func() error { return s.storage.Append(ctx, rows...) })
}

// Delete implements [presence.Storage].
func (s *FaultyStorage) Delete(ctx context.Context, subjects ...presence.Ref) error {
	return s.do(ctx, Delete, func() error { return s.storage.Delete(ctx, subjects...) })
}

// Journal implements [presence.JournalReader]. It returns
// [presence.ErrUnavailable] if the wrapped storage does not implement it.
func (s *FaultyStorage) Journal(ctx context.Context, q presence.JournalQuery) (rows []presence.JournalRow, err error) {
	err = s.do(ctx, Journal, func() (err error) {
		reader, ok := s.storage.(presence.JournalReader)
		if !ok {
			return fmt.Errorf("presencetest: %w: the storage behind the faults does not read its journal", presence.ErrUnavailable)
		}
		rows, err = reader.Journal(ctx, q)
		return err
	})
	if err != nil {
		return nil, err
	}
	return rows, nil
}

// gate fails or blocks calls. The zero value lets every call through.
type gate struct {
	mu      sync.Mutex
	err     error
	stalled chan struct{}
}

func (g *gate) fail(err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.err = err
}

func (g *gate) stall() (release func()) {
	stalled := make(chan struct{})
	g.mu.Lock()
	defer g.mu.Unlock()
	g.stalled = stalled
	return sync.OnceFunc(func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		if g.stalled == stalled {
			g.stalled = nil
		}
		close(stalled)
	})
}

// pass waits while the gate is stalled, until ctx is done or closed is closed.
func (g *gate) pass(ctx context.Context, closed <-chan struct{}) error {
	g.mu.Lock()
	stalled := g.stalled
	g.mu.Unlock()
	if stalled != nil {
		select {
		case <-stalled:
		case <-closed:
		case <-ctx.Done():
		}
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.err
}

// RecordingNotifier is a presence.Notifier that records notifications. The zero
// value is ready for use.
type RecordingNotifier struct {
	gate gate

	mu            sync.Mutex
	notifications []presence.Notification
}

var _ presence.Notifier = (*RecordingNotifier)(nil)

// Notify records a notification. It returns the error of Fail, and then records
// nothing.
func (r *RecordingNotifier) Notify(ctx context.Context, n presence.Notification) error {
	if err := r.gate.pass(ctx, nil); err != nil {
		return err
	}
	n.Payload = slices.Clone(n.Payload)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.notifications = append(r.notifications, n)
	return nil
}

// Notifications returns the recorded notifications, in order.
func (r *RecordingNotifier) Notifications() []presence.Notification {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.notifications)
}

// Fail lets every later call return err. Nil lets calls succeed again.
func (r *RecordingNotifier) Fail(err error) { r.gate.fail(err) }

// Stall blocks calls until release is called or their context is done.
func (r *RecordingNotifier) Stall() (release func()) { return r.gate.stall() }

// RecordingTransport is a presence.Transport that records frames. The zero
// value is ready for use.
type RecordingTransport struct {
	gate gate

	mu     sync.Mutex
	frames []*presence.Frame
	ended  bool
	reason error
	closed chan struct{}
}

var _ presence.Transport = (*RecordingTransport)(nil)

// Send records a frame. It returns the error of Fail, or [presence.ErrClosed]
// after Close, and then records nothing.
func (r *RecordingTransport) Send(ctx context.Context, f *presence.Frame) error {
	if err := r.gate.pass(ctx, r.end()); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ended {
		return fmt.Errorf("presencetest: %w transport", presence.ErrClosed)
	}
	r.frames = append(r.frames, f)
	return nil
}

// end returns the Go channel that Close closes.
func (r *RecordingTransport) end() chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed == nil {
		r.closed = make(chan struct{})
	}
	return r.closed
}

// Close records the reason. A second Close changes nothing and returns
// [presence.ErrClosed].
func (r *RecordingTransport) Close(reason error) error {
	closed := r.end()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ended {
		return fmt.Errorf("presencetest: %w transport", presence.ErrClosed)
	}
	r.ended, r.reason = true, reason
	close(closed)
	return nil
}

// Frames returns the recorded frames, in order.
func (r *RecordingTransport) Frames() []*presence.Frame {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.frames)
}

// Closed reports whether the transport was closed, and the reason given.
func (r *RecordingTransport) Closed() (closed bool, reason error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.ended, r.reason
}

// Fail lets every later Send return err. Nil lets Send succeed again.
func (r *RecordingTransport) Fail(err error) { r.gate.fail(err) }

// Stall blocks every Send until release is called, its context is done or the
// transport is closed.
func (r *RecordingTransport) Stall() (release func()) { return r.gate.stall() }

// StaticAuthorizer is a function as a presence.Authorizer. The function decides
// by the question only.
type StaticAuthorizer func(q presence.Question) error

var _ presence.Authorizer = StaticAuthorizer(nil)

// Allow calls a.
func (a StaticAuthorizer) Allow(_ context.Context, q presence.Question) error { return a(q) }
