package presence_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/benbjohnson/clock"
	"github.com/stretchr/testify/require"

	"github.com/presence-go/presence"
	"github.com/presence-go/presence/adapters/memory"
	"github.com/presence-go/presence/presencetest"
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

var (
	ann     = presence.ID("ann")
	bob     = presence.ID("bob")
	sales   = presence.ChannelID("sales")
	visitor = presence.Actor{Subject: presence.ID("v1"), Role: presence.RoleVisitor}
	boss    = presence.Actor{Subject: presence.ID("boss"), Role: presence.RoleSupervisor}
	admin   = presence.Actor{Subject: presence.ID("root"), Role: presence.RoleAdmin}
)

// beat keeps a connection alive until the test ends.
func beat(t *testing.T, c *presence.Conn) {
	ctx := t.Context()
	go func() {
		for c.Heartbeat() == nil {
			select {
			case <-time.After(25 * time.Second):
			case <-ctx.Done():
				return
			}
		}
	}()
}

// position is the last frame that a watcher has read.
type position struct {
	epoch string
	seq   uint64
}

// read returns the frames that wait for a watch, and the position after them.
func read(t *testing.T, w *presence.Watch) (at position, frames []*presence.Frame) {
	t.Helper()
	for {
		f, err := w.Poll()
		require.NoError(t, err)
		if f == nil {
			return at, frames
		}
		at = position{f.Epoch, f.Seq}
		frames = append(frames, f)
	}
}

// seen returns the frames that wait for a watch, in words.
func seen(t *testing.T, w *presence.Watch) []string {
	t.Helper()
	synctest.Wait()
	var words []string
	for {
		f, err := w.Poll()
		if err != nil {
			return append(words, "ended")
		}
		if f == nil {
			return words
		}
		switch f.Kind {
		case presence.FrameSnapshot:
			word := "snapshot"
			if f.Lagged {
				word = "lagged"
			}
			for _, v := range f.Members {
				word += " " + v.Subject.ID + "=" + v.Status
			}
			words = append(words, word)
		case presence.FrameDiff:
			for _, c := range f.Changes {
				word := string(c.Op) + " " + c.Subject.ID
				if c.View != nil {
					word += " " + c.View.Status
				}
				words = append(words, word)
			}
		default:
			words = append(words, string(f.Kind))
		}
	}
}

// subject drives one state by hand. Instants are seconds from its start.
type subject struct {
	t *testing.T
	m *presence.Machine
	s presence.State
}

func newSubject(t *testing.T, p presence.Policy) *subject {
	t.Helper()
	m, err := presence.Compile(p)
	require.NoError(t, err)
	return &subject{t: t, m: m}
}

const start = presence.Instant(1_000_000_000_000)

func second(at float64) presence.Instant {
	return start.Add(time.Duration(at * float64(time.Second)))
}

func (x *subject) try(at float64, e presence.Event) ([]presence.Output, error) {
	e.Subject = ann
	out, _, err := x.m.Step(&x.s, &e, second(at), nil)
	return out, err
}

func (x *subject) do(at float64, e presence.Event) []presence.Output {
	x.t.Helper()
	out, err := x.try(at, e)
	require.NoError(x.t, err)
	return out
}

func (x *subject) login(at float64, conn string) {
	x.t.Helper()
	x.do(at, presence.Event{Kind: presence.EventLogin, Conn: conn, Age: presence.NoAge})
}

func (x *subject) beat(at float64, conn string) {
	x.t.Helper()
	x.do(at, presence.Event{Kind: presence.EventHeartbeat, Conn: conn, Age: presence.NoAge})
}

func (x *subject) claim(at float64, c presence.Claim) []presence.Output {
	x.t.Helper()
	return x.do(at, presence.Event{Kind: presence.EventSetClaim, Actor: presence.Agent(ann), Claim: c})
}

func (x *subject) tick(at float64) presence.Presence {
	x.t.Helper()
	x.do(at, presence.Event{Kind: presence.EventTick})
	return x.s.Current
}

// keep sends heartbeats from one instant to another.
func (x *subject) keep(from, to float64, conn string) {
	x.t.Helper()
	for at := from; at <= to; at += 25 {
		x.beat(at, conn)
	}
}

// acceptingNotifier takes every notification.
type acceptingNotifier struct{}

func (acceptingNotifier) Notify(context.Context, presence.Notification) error { return nil }

// testTracker is a tracker that a test drives, with the things beside it.
type testTracker struct {
	*presence.Tracker
	t       *testing.T
	opts    presence.Options
	clock   *clock.Mock                 // moved by hand; nil with another clock
	memory  *memory.Storage             // set by newStored
	storage *presencetest.FaultyStorage // lies over memory

	mu  sync.Mutex
	out map[presence.Ref][]presence.Output // since the tracker was opened
}

// newTracker opens a tracker, which it closes with the test. Without a clock in
// the options the test moves the clock, which starts at nine.
func newTracker(t *testing.T, opts *presence.Options) *testTracker {
	t.Helper()
	d := &testTracker{t: t}
	if opts != nil {
		d.opts = *opts
	}
	if d.opts.Clock == nil {
		d.opts.Clock = clockAt(9)
	}
	d.clock, _ = d.opts.Clock.(*clock.Mock)
	d.Tracker = d.open()
	t.Cleanup(func() {
		err := d.Close()
		if d.opts.Storage == nil && !errors.Is(err, presence.ErrClosed) {
			require.NoError(t, err)
		}
	})
	return d
}

// newStored opens a tracker over storage with faults.
func newStored(t *testing.T) *testTracker {
	t.Helper()
	m := inMemory(100_000)
	storage := presencetest.NewFaultyStorage(m)
	d := newTracker(t, &presence.Options{Storage: storage})
	d.memory, d.storage = m, storage
	return d
}

// newRunning opens a tracker on the clock of a bubble and runs it.
func newRunning(t *testing.T, opts *presence.Options) *testTracker {
	t.Helper()
	var own presence.Options
	if opts != nil {
		own = *opts
	}
	if own.Clock == nil {
		own.Clock = clock.New()
	}
	d := newTracker(t, &own)
	ended := make(chan error, 1)
	go func() { ended <- d.Run(context.Background()) }()
	t.Cleanup(func() {
		_ = d.Close()
		require.NoError(t, <-ended)
	})
	synctest.Wait()
	return d
}

// clockAt returns a clock that stands at an hour of a Monday.
func clockAt(hour int) *clock.Mock {
	mock := clock.NewMock()
	mock.Set(time.Date(2026, 1, 5, hour, 0, 0, 0, time.UTC))
	return mock
}

// open opens a tracker with the options of d. From now on d notes the outputs of
// all trackers opened so.
func (d *testTracker) open() *presence.Tracker {
	d.t.Helper()
	tracker, err := presence.New(&d.opts)
	require.NoError(d.t, err)
	d.mu.Lock()
	d.out = make(map[presence.Ref][]presence.Output)
	d.mu.Unlock()
	tracker.Observe(func(ref presence.Ref, out *presence.Output) {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.out[ref] = append(d.out[ref], *out)
	})
	return tracker
}

func (d *testTracker) login(ref presence.Ref, conn string) *presence.Conn {
	d.t.Helper()
	c, err := d.Connect(d.t.Context(), ref, presence.ConnectOptions{ID: conn, Login: true})
	require.NoError(d.t, err)
	return c
}

func (d *testTracker) watch(actor presence.Actor, channel presence.Channel) *presence.Watch {
	d.t.Helper()
	w, err := d.Watch(d.t.Context(), actor, channel, presence.WatchOptions{})
	require.NoError(d.t, err)
	return w
}

// restart closes the tracker and opens another one in its place.
func (d *testTracker) restart() {
	d.t.Helper()
	require.NoError(d.t, d.Close())
	d.Tracker = d.open()
}

// crash leaves the tracker as it is and opens another one in its place.
func (d *testTracker) crash() { d.Tracker = d.open() }

func (d *testTracker) connect(ref presence.Ref, conn string) *presence.Conn {
	d.t.Helper()
	c, err := d.Connect(d.t.Context(), ref, presence.ConnectOptions{ID: conn})
	require.NoError(d.t, err)
	return c
}

func (d *testTracker) claim(ref presence.Ref, c presence.Claim) error {
	_, err := d.SetClaim(d.t.Context(), presence.Agent(ref), ref, c)
	return err
}

func (d *testTracker) status(ref presence.Ref) string {
	d.t.Helper()
	v, err := d.GetAs(d.t.Context(), presence.AudienceAdmin, ref)
	require.NoError(d.t, err)
	return v.Status
}

func (d *testTracker) sweep() {
	d.t.Helper()
	_, err := d.Sweep(d.t.Context())
	require.NoError(d.t, err)
}

// idle lets ann be away for want of input, with heartbeats over a connection.
func (d *testTracker) idle(c *presence.Conn) {
	d.t.Helper()
	for range 13 {
		d.clock.Add(25 * time.Second)
		require.NoError(d.t, c.Heartbeat())
		_, _ = d.Sweep(d.t.Context()) // storage may be down
	}
	require.Equal(d.t, "away", d.status(c.Subject()))
}

// statuses returns every status of a subject that was shown since the tracker
// was opened.
func (d *testTracker) statuses(ref presence.Ref) (list []string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, out := range d.out[ref] {
		if out.Kind == presence.OutputTransition || out.Kind == presence.OutputUpdated {
			list = append(list, out.Presence.Status)
		}
	}
	return list
}

// told has the rows of a subject's journal as the outputs had them.
func (d *testTracker) told(ref presence.Ref) (rows []presence.JournalRow) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, out := range d.out[ref] {
		if row, ok := out.Row(); ok {
			row.Subject = ref
			rows = append(rows, row)
		}
	}
	return rows
}

// rows returns the rows of a subject's journal that are stored.
func (d *testTracker) rows(ref presence.Ref) []presence.JournalRow {
	d.t.Helper()
	rows, err := d.memory.Journal(d.t.Context(), presence.JournalQuery{Subject: ref, Limit: 100_000})
	require.NoError(d.t, err)
	return rows
}

// stored returns what storage has of a subject.
func (d *testTracker) stored(ref presence.Ref) (presence.State, bool) {
	d.t.Helper()
	records, err := d.memory.Load(d.t.Context(), ref)
	require.NoError(d.t, err)
	if len(records) == 0 {
		return presence.State{}, false
	}
	state, err := records[0].State(0, 0)
	require.NoError(d.t, err)
	return state, true
}

// state returns all that is known of a subject.
func (d *testTracker) state(ref presence.Ref) presence.State {
	d.t.Helper()
	state, err := d.State(d.t.Context(), ref)
	require.NoError(d.t, err)
	return state
}
