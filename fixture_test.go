package presence_test

import (
	"context"
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

// desk is a tracker with its loop running in a bubble.
type desk struct {
	*presence.Tracker
	t *testing.T
}

// newDesk starts a tracker on the bubble's clock and stops it with the test.
func newDesk(t *testing.T, opts *presence.Options) desk {
	t.Helper()
	tracker, err := presence.New(opts)
	require.NoError(t, err)
	ended := make(chan error, 1)
	go func() { ended <- tracker.Run(context.Background()) }()
	t.Cleanup(func() {
		_ = tracker.Close()
		require.NoError(t, <-ended)
	})
	synctest.Wait()
	return desk{tracker, t}
}

func (d desk) login(ref presence.Ref, conn string) *presence.Conn {
	d.t.Helper()
	c, err := d.Connect(d.t.Context(), ref, presence.ConnectOptions{ID: conn, Login: true})
	require.NoError(d.t, err)
	return c
}

func (d desk) watch(actor presence.Actor, channel presence.Channel) *presence.Watch {
	d.t.Helper()
	w, err := d.Watch(d.t.Context(), actor, channel, presence.WatchOptions{})
	require.NoError(d.t, err)
	return w
}

func (d desk) status(ref presence.Ref) string {
	d.t.Helper()
	v, err := d.GetAs(d.t.Context(), presence.AudienceAdmin, ref)
	require.NoError(d.t, err)
	return v.Status
}

// beat keeps a connection alive for as long as the test goes on.
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

// seen returns what a watch has to tell, in words.
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

// office is a tracker over storage with faults, on a clock moved by hand.
type office struct {
	*presence.Tracker
	t       *testing.T
	clock   *clock.Mock
	memory  *memory.Storage
	storage *presencetest.FaultyStorage

	mu  sync.Mutex
	out map[presence.Ref][]presence.Output // everything that was told
}

// newOffice opens storage and a tracker over it.
func newOffice(t *testing.T) *office {
	t.Helper()
	m := inMemory(100_000)
	o := &office{t: t, clock: clock.NewMock(), memory: m, storage: presencetest.NewFaultyStorage(m)}
	o.clock.Set(time.Date(2026, 1, 5, 9, 0, 0, 0, time.UTC))
	o.Tracker = o.open()
	return o
}

// open starts another tracker over the same storage. What it tells is noted.
func (o *office) open() *presence.Tracker {
	o.t.Helper()
	o.out = make(map[presence.Ref][]presence.Output)
	tracker, err := presence.New(&presence.Options{Storage: o.storage, Clock: o.clock})
	require.NoError(o.t, err)
	tracker.Observe(func(ref presence.Ref, out *presence.Output) {
		o.mu.Lock()
		defer o.mu.Unlock()
		o.out[ref] = append(o.out[ref], *out)
	})
	return tracker
}

// restart closes the tracker and opens another one in its place.
func (o *office) restart() {
	o.t.Helper()
	require.NoError(o.t, o.Close())
	o.Tracker = o.open()
}

// crash leaves the tracker as it is and opens another one in its place.
func (o *office) crash() { o.Tracker = o.open() }

func (o *office) connect(ref presence.Ref, conn string) *presence.Conn {
	o.t.Helper()
	c, err := o.Connect(o.t.Context(), ref, presence.ConnectOptions{ID: conn})
	require.NoError(o.t, err)
	return c
}

func (o *office) claim(ref presence.Ref, c presence.Claim) error {
	_, err := o.SetClaim(o.t.Context(), presence.Agent(ref), ref, c)
	return err
}

func (o *office) status(ref presence.Ref) string {
	o.t.Helper()
	v, err := o.GetAs(o.t.Context(), presence.AudienceAdmin, ref)
	require.NoError(o.t, err)
	return v.Status
}

func (o *office) sweep() {
	o.t.Helper()
	_, err := o.Sweep(o.t.Context())
	require.NoError(o.t, err)
}

// statuses returns every status of a subject that was told since the tracker
// was opened.
func (o *office) statuses(ref presence.Ref) (list []string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, out := range o.out[ref] {
		if out.Kind == presence.OutputTransition || out.Kind == presence.OutputUpdated {
			list = append(list, out.Presence.Status)
		}
	}
	return list
}

// told returns the rows of a subject's journal as the outputs had them.
func (o *office) told(ref presence.Ref) (rows []presence.JournalRow) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, out := range o.out[ref] {
		if row, ok := out.Row(); ok {
			row.Subject = ref
			rows = append(rows, row)
		}
	}
	return rows
}

// rows returns the rows of a subject's journal that are stored.
func (o *office) rows(ref presence.Ref) []presence.JournalRow {
	o.t.Helper()
	rows, err := o.memory.Journal(o.t.Context(), presence.JournalQuery{Subject: ref, Limit: 100_000})
	require.NoError(o.t, err)
	return rows
}

// stored returns what storage has of a subject.
func (o *office) stored(ref presence.Ref) (presence.State, bool) {
	o.t.Helper()
	records, err := o.memory.Load(o.t.Context(), ref)
	require.NoError(o.t, err)
	if len(records) == 0 {
		return presence.State{}, false
	}
	state, err := records[0].State()
	require.NoError(o.t, err)
	return state, true
}

// state returns all that is known of a subject.
func (o *office) state(ref presence.Ref) presence.State {
	o.t.Helper()
	state, err := o.State(o.t.Context(), ref)
	require.NoError(o.t, err)
	return state
}
