package presence_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/benbjohnson/clock"
	"github.com/stretchr/testify/require"

	"github.com/presence-go/presence"
	"github.com/presence-go/presence/internal/seeds"
	"github.com/presence-go/presence/presencetest"
	"github.com/presence-go/presence/routing"
)

// spiedTracker is a tracker that notes what it gives the observer of a queue.
type spiedTracker struct {
	*presence.Tracker
	seen *[]string
}

func (d spiedTracker) Observe(f func(presence.Ref, *presence.Output)) (stop func()) {
	return d.Tracker.Observe(func(ref presence.Ref, o *presence.Output) {
		*d.seen = append(*d.seen, outputLine(ref, o))
		f(ref, o)
	})
}

func outputLine(ref presence.Ref, o *presence.Output) string {
	return fmt.Sprint(ref, " ", o.Kind, " ", o.ID, " ", o.Prev, " ", o.Presence.Status, " ", o.Noticed)
}

// H16: a queue and two observers made after the tracker get the same outputs in
// the same order, until stop is called.
func TestObserversGetTheSameInOrder(t *testing.T) {
	t.Parallel()
	seed := seeds.List(t, 1)[0]
	rnd := rand.New(rand.NewPCG(seed, 0))
	mock := clock.NewMock()
	policy := presence.DefaultPolicy()
	policy.Work.Capacity = 2
	tracker := newTracker(t, &presence.Options{Policy: &policy, Clock: mock})
	ctx := t.Context()
	ids := []string{"ann", "bob", "cyd"}
	for _, id := range ids {
		require.NoError(t, tracker.AddMember(ctx, sales, presence.ID(id)))
	}
	_, err := tracker.Connect(ctx, ann, presence.ConnectOptions{ID: "before"})
	require.NoError(t, err)

	var first, queued, last []string
	stopFirst := tracker.Observe(func(ref presence.Ref, o *presence.Output) { first = append(first, outputLine(ref, o)) })
	queue, err := routing.New(spiedTracker{tracker.Tracker, &queued}, nil)
	require.NoError(t, err)
	stopLast := tracker.Observe(func(ref presence.Ref, o *presence.Output) { last = append(last, outputLine(ref, o)) })
	act := func(steps int) {
		for i := range steps {
			ref := presence.ID(ids[rnd.IntN(len(ids))])
			switch rnd.IntN(6) {
			case 0:
				_, err = tracker.Connect(ctx, ref, presence.ConnectOptions{ID: "tab", Login: true})
			case 1:
				err = tracker.Logout(ctx, ref)
			case 2:
				_, err = tracker.SetClaim(ctx, presence.Agent(ref), ref, presence.Claim{Status: []string{"available", "busy"}[rnd.IntN(2)]})
			case 3:
				_, err = queue.Add(ctx, routing.Work{ID: fmt.Sprint(steps, "-", i), Channel: sales})
			case 4:
				err = queue.Step(ctx)
			default:
				mock.Add(time.Duration(rnd.IntN(90)) * time.Second)
				_, err = tracker.Sweep(ctx)
			}
			if err != nil {
				require.ErrorIs(t, err, presence.ErrUnknown, "before a subject connects first")
			}
		}
	}
	act(250)
	require.Greater(t, len(first), 100)
	require.Equal(t, first, queued)
	require.Equal(t, first, last)

	stopFirst()
	stopFirst()
	before := len(first)
	act(50)
	require.Len(t, first, before, "it has been stopped")
	require.Greater(t, len(last), before)
	require.Equal(t, queued, last)

	stopLast()
	before = len(last)
	act(50)
	require.Len(t, last, before)
	require.Greater(t, len(queued), before, "the queue goes on")
}

// An observer that stops itself gets nothing after the output at hand, and the
// observers after it miss none.
func TestObserverStopsItself(t *testing.T) {
	t.Parallel()
	tracker := newTracker(t, nil)
	var own, others []string
	var stop func()
	stop = tracker.Observe(func(ref presence.Ref, o *presence.Output) {
		own = append(own, outputLine(ref, o))
		stop()
	})
	tracker.Observe(func(ref presence.Ref, o *presence.Output) { others = append(others, outputLine(ref, o)) })
	for _, ref := range []presence.Ref{ann, bob} {
		_, err := tracker.Connect(t.Context(), ref, presence.ConnectOptions{Login: true})
		require.NoError(t, err)
	}
	require.Len(t, own, 1)
	require.Greater(t, len(others), 1)
	require.Equal(t, own[0], others[0])
}

// Observers start and stop while subjects change.
func TestObserversComeAndGo(t *testing.T) {
	t.Parallel()
	tracker := newTracker(t, nil)
	var mu sync.Mutex
	var all []string
	tracker.Observe(func(ref presence.Ref, _ *presence.Output) {
		mu.Lock()
		defer mu.Unlock()
		all = append(all, ref.ID)
	})
	var group sync.WaitGroup
	for i := range 4 {
		group.Go(func() {
			for n := range 50 {
				stop := tracker.Observe(func(presence.Ref, *presence.Output) {})
				_, err := tracker.Connect(context.Background(), presence.ID(fmt.Sprint(i, "-", n)), presence.ConnectOptions{Login: true})
				stop()
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
	slices.Sort(all)
	require.Len(t, slices.Compact(all), 200, "the first observer missed none")
}

// H12: StatusCounts equals a recount by State after random histories, with
// storage and without.
func TestStatusCountsEqualARecount(t *testing.T) {
	t.Parallel()
	for _, seed := range seeds.List(t, 40) {
		t.Run(fmt.Sprint("seed-", seed), func(t *testing.T) {
			t.Parallel()
			newCensus(t, seed).run()
		})
	}
}

// census is a tracker with subjects of three tenants and what can happen to them.
type census struct {
	*testTracker // without storage in half of the histories
	rnd          *rand.Rand
	conns        []*presence.Conn
}

var (
	censusTenants  = []string{"", "north", "south"}
	censusSubjects = []string{"ann", "bob", "cyd", "dan", "eve"}
)

func newCensus(t *testing.T, seed uint64) *census {
	var opts presence.Options
	if seed%2 == 0 {
		opts.Storage = inMemory(0)
	}
	return &census{testTracker: newTracker(t, &opts), rnd: rand.New(rand.NewPCG(seed, 12))}
}

func (c *census) run() {
	for range 25 {
		for range 20 {
			c.act(presence.Ref{Tenant: censusTenants[c.rnd.IntN(3)], ID: censusSubjects[c.rnd.IntN(5)]})
		}
		c.compare()
	}
}

// act does something. Refusals are expected, such as of a subject that is unknown,
// erased or disabled.
func (c *census) act(ref presence.Ref) {
	ctx, by := c.t.Context(), presence.Actor{Subject: presence.Ref{Tenant: ref.Tenant, ID: "root"}, Role: presence.RoleAdmin}
	switch c.rnd.IntN(16) {
	case 0, 1, 2, 3:
		conn, err := c.Connect(ctx, ref, presence.ConnectOptions{ID: fmt.Sprint("conn", c.rnd.IntN(3)), Login: c.rnd.IntN(2) == 0})
		if err == nil {
			c.conns = append(c.conns, conn)
		}
	case 4:
		if len(c.conns) > 0 {
			_ = c.conns[c.rnd.IntN(len(c.conns))].Close()
		}
	case 5:
		if len(c.conns) > 0 {
			_ = c.conns[c.rnd.IntN(len(c.conns))].Heartbeat()
		}
	case 6, 7:
		_, _ = c.SetClaim(ctx, presence.Agent(ref), ref, presence.Claim{Status: []string{"available", "busy", "away", "tea"}[c.rnd.IntN(4)]})
	case 8:
		_ = c.Logout(ctx, ref)
	case 9:
		_ = c.Disable(ctx, ref)
	case 10:
		_ = c.Enable(ctx, ref)
	case 11:
		_ = c.Erase(ctx, ref)
	case 12:
		if c.rnd.IntN(2) == 0 {
			_ = c.AddStatus(ctx, by, presence.Status{ID: "tea", Class: presence.ClassAway})
		} else {
			_ = c.RemoveStatus(ctx, by, "tea", "available")
		}
	case 13:
		c.elsewhere(ref)
	case 14:
		if c.opts.Storage != nil && c.rnd.IntN(10) == 0 { // all are restored
			c.restart()
		}
	default:
		c.clock.Add([]time.Duration{time.Second, time.Minute, 10 * time.Minute, 13 * time.Hour}[c.rnd.IntN(4)])
		c.sweep()
	}
}

// elsewhere has another process change a subject, which the tracker takes over.
func (c *census) elsewhere(ref presence.Ref) {
	if c.opts.Storage == nil {
		return
	}
	c.sweep()
	other := c.open()
	switch c.rnd.IntN(3) {
	case 0:
		_ = other.Disable(c.t.Context(), ref)
	case 1:
		_ = other.Erase(c.t.Context(), ref)
	default:
		_, _ = other.SetClaim(c.t.Context(), presence.Agent(ref), ref, presence.Claim{Status: "busy"})
	}
	require.NoError(c.t, other.Close())
	require.NoError(c.t, c.Reload(c.t.Context()))
}

func (c *census) compare() {
	c.t.Helper()
	open := 0
	for _, tenant := range censusTenants {
		counts := make(map[string]int)
		for _, id := range censusSubjects {
			s, err := c.State(c.t.Context(), presence.Ref{Tenant: tenant, ID: id})
			if errors.Is(err, presence.ErrUnknown) || errors.Is(err, presence.ErrNotAllowed) {
				continue // the latter: erased here, and stored again elsewhere
			}
			require.NoError(c.t, err)
			counts[s.Current.Status]++
			for i := range s.Conns {
				if s.Conns[i].Left == 0 {
					open++
				}
			}
		}
		require.Equal(c.t, counts, c.StatusCounts(tenant))
	}
	require.Equal(c.t, open, c.Stats().Connections)
	require.Empty(c.t, c.StatusCounts("west"), "there is no such tenant")
}

// What a tracker has and did is counted.
func TestStats(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		notifier := new(presencetest.RecordingNotifier)
		tracker, err := presence.New(&presence.Options{WatchBuffer: 2, Notifier: notifier})
		require.NoError(t, err)
		require.Equal(t, presence.Stats{}, tracker.Stats())
		require.NoError(t, tracker.AddMember(ctx, sales, ann))
		conn, err := tracker.Connect(ctx, ann, presence.ConnectOptions{ID: "tab"})
		require.NoError(t, err)
		_, err = tracker.Connect(ctx, ann, presence.ConnectOptions{ID: "mobile"})
		require.NoError(t, err)
		w, err := tracker.Watch(ctx, boss, sales, presence.WatchOptions{})
		require.NoError(t, err)
		require.Equal(t, presence.Stats{Subjects: 1, Connections: 2, Channels: 1, Watches: 1}, tracker.Stats())
		_, err = w.Poll()
		require.NoError(t, err)
		require.EqualValues(t, 1, tracker.Stats().Frames, "the snapshot")
		for _, status := range []string{"busy", "away", "busy"} {
			_, err := conn.Claim(ctx, presence.Claim{Status: status})
			require.NoError(t, err)
		}
		require.EqualValues(t, 3, tracker.Stats().Frames, "two had room")
		require.EqualValues(t, 1, tracker.Stats().Lagged)
		require.NoError(t, w.Close())
		require.NoError(t, conn.Close())
		require.Equal(t, 1, tracker.Stats().Connections, "one lingers")
		require.Zero(t, tracker.Stats().Watches)
		require.Equal(t, map[string]int{"busy": 1}, tracker.StatusCounts(""))

		require.NoError(t, tracker.Notify(ctx, presence.Notification{ID: "one", Subject: ann, Kind: "email"}))
		synctest.Wait()
		notifier.Fail(presencetest.ErrFault)
		require.NoError(t, tracker.Notify(ctx, presence.Notification{ID: "two", Subject: ann, Kind: "email"}))
		synctest.Wait()
		require.EqualValues(t, 1, tracker.Stats().Notified)
		require.EqualValues(t, 1, tracker.Stats().NotDelivered)

		ran := make(chan error)
		go func() { ran <- tracker.Run(ctx) }()
		synctest.Wait()
		require.True(t, tracker.Stats().Running)
		require.NoError(t, tracker.Close())
		require.NoError(t, <-ran)
		require.False(t, tracker.Stats().Running)
	})
}

// Without Run, the first deadline that a read or Sweep meets more than three
// heartbeats late logs a warning, and no later one does.
func TestLateDeadlinesWarnOnce(t *testing.T) {
	t.Parallel()
	read := func(ctx context.Context, tracker *presence.Tracker) error {
		_, err := tracker.State(ctx, ann)
		return err
	}
	sweep := func(ctx context.Context, tracker *presence.Tracker) error {
		_, err := tracker.Sweep(ctx)
		return err
	}
	for _, tt := range []struct {
		name string
		late time.Duration // after the lease of ann's connection
		meet func(context.Context, *presence.Tracker) error
		run  bool
		want int
	}{
		{"read in time", 0, read, false, 0},
		{"read three heartbeats late", 75 * time.Second, read, false, 0},
		{"read later", 76 * time.Second, read, false, 1},
		{"sweep three heartbeats late", 75 * time.Second, sweep, false, 0},
		{"sweep later", 76 * time.Second, sweep, false, 1},
		{"read with Run", time.Hour, read, true, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var logged strings.Builder
				policy := presence.DefaultPolicy()
				policy.Heartbeat, policy.Lease, policy.Grace.Loss = 25*time.Second, time.Minute, 10*time.Minute
				tracker, err := presence.New(&presence.Options{Policy: &policy, Logger: slog.New(slog.NewTextHandler(&logged, nil))})
				require.NoError(t, err)
				ran := make(chan error, 1)
				if tt.run {
					go func() { ran <- tracker.Run(t.Context()) }()
				} else {
					ran <- nil
				}
				for range 2 {
					_, err := tracker.Connect(t.Context(), ann, presence.ConnectOptions{ID: "tab"})
					require.NoError(t, err)
					time.Sleep(policy.Lease + tt.late)
					require.NoError(t, tt.meet(t.Context(), tracker))
				}
				require.NoError(t, tracker.Close())
				require.NoError(t, <-ran)
				require.Equal(t, tt.want, strings.Count(logged.String(), "a deadline was met late"), logged.String())
			})
		})
	}
}

// storageStats are the statistics of storage.
func storageStats(o *testTracker) presence.Stats {
	s := o.Stats()
	return presence.Stats{
		StorageErr: s.StorageErr, StorageSince: s.StorageSince, RecordsBehind: s.RecordsBehind, RowsBehind: s.RowsBehind, RowsDropped: s.RowsDropped,
	}
}

func TestStatsOfStorage(t *testing.T) {
	t.Parallel()
	o := newStored(t)
	c := o.connect(ann, "tab")
	o.sweep()
	require.Equal(t, presence.Stats{}, storageStats(o))

	o.storage.Down()
	began := presence.At(o.clock.Now())
	require.ErrorIs(t, o.claim(ann, presence.Claim{Status: "busy"}), presence.ErrUnavailable)
	h := storageStats(o)
	require.ErrorIs(t, h.StorageErr, presencetest.ErrFault)
	require.Equal(t, presence.Stats{StorageErr: h.StorageErr, StorageSince: began, RecordsBehind: 1}, h, "what was refused may be stored all the same, and is looked at again")

	o.clock.Add(time.Second)
	require.NoError(t, c.Logout())
	_, err := o.Sweep(t.Context())
	require.ErrorIs(t, err, presence.ErrUnavailable)
	h = storageStats(o)
	require.Equal(t, presence.Stats{StorageErr: h.StorageErr, StorageSince: began, RecordsBehind: 1, RowsBehind: 1}, h)

	o.storage.Up()
	o.sweep()
	require.Equal(t, presence.Stats{}, storageStats(o))

	for range 3 { // behind, stored with the next choice, and behind again
		o.storage.Down()
		require.Error(t, o.claim(ann, presence.Claim{Status: "busy"}))
		require.Equal(t, 1, o.Stats().RecordsBehind)
		o.storage.Up()
		require.NoError(t, o.claim(ann, presence.Claim{Status: "away"}))
	}
}

// A caller that gives up is no error of storage. Storage that does not answer in
// time is one.
func TestStatsOfStorageThatHangs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		storage := presencetest.NewFaultyStorage(inMemory(0))
		tracker, err := presence.New(&presence.Options{Storage: storage})
		require.NoError(t, err)
		_, release := storage.Hold(presencetest.Load)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err = tracker.Connect(ctx, ann, presence.ConnectOptions{})
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.NoError(t, tracker.Stats().StorageErr)
		_, err = tracker.Connect(t.Context(), ann, presence.ConnectOptions{})
		require.ErrorIs(t, err, presence.ErrUnavailable)
		require.ErrorIs(t, tracker.Stats().StorageErr, context.DeadlineExceeded)
		release()
		_, err = tracker.Connect(t.Context(), ann, presence.ConnectOptions{})
		require.NoError(t, err)
		require.NoError(t, tracker.Stats().StorageErr)
		require.NoError(t, tracker.Close())
	})
}
