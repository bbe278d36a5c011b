package presence_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/presence-go/presence"
	"github.com/presence-go/presence/presencetest"
	"github.com/presence-go/presence/preset"
)

func TestWatchersFollowADay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newRunning(t, nil)
		require.NoError(t, d.AddMember(t.Context(), sales, ann))
		w := d.watch(visitor, sales)
		require.Equal(t, []string{"snapshot ann=offline"}, seen(t, w))

		c := d.login(ann, "tab")
		beat(t, c)
		require.Equal(t, []string{"joined ann available"}, seen(t, w))

		_, err := c.Claim(t.Context(), presence.Claim{Status: "busy", For: 10 * time.Minute})
		require.NoError(t, err)
		require.Equal(t, []string{"updated ann busy"}, seen(t, w))

		time.Sleep(10*time.Minute - time.Nanosecond)
		require.Empty(t, seen(t, w))
		time.Sleep(time.Nanosecond)
		require.Equal(t, []string{"updated ann away"}, seen(t, w), "busy has ended and she has been idle meanwhile")

		require.NoError(t, c.Input())
		require.Equal(t, []string{"updated ann available"}, seen(t, w))

		require.NoError(t, c.Close())
		time.Sleep(5*time.Second - time.Nanosecond)
		require.Empty(t, seen(t, w), "a reload may still come back")
		time.Sleep(time.Nanosecond)
		require.Equal(t, []string{"left ann offline"}, seen(t, w))
		require.NoError(t, w.Close())
	})
}

func TestNotifierIsBoundedAndGated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &gatedNotifier{release: make(chan struct{})}
		policy := preset.ThriveDesk()
		d := newRunning(t, &presence.Options{Policy: &policy, Notifier: n, NotifyWorkers: 2})
		c := d.login(ann, "tab")
		notify := func() error {
			return d.Notify(t.Context(), presence.Notification{ID: "n", Subject: ann, Kind: "push"})
		}
		for range 2 {
			require.NoError(t, notify())
		}
		require.ErrorIs(t, notify(), presence.ErrLimit)
		other := d.login(bob, "tab")
		_, err := other.Claim(t.Context(), presence.Claim{Status: "away"})
		require.NoError(t, err)
		for _, subject := range []presence.Ref{bob, presence.ID("nobody")} {
			err := d.Notify(t.Context(), presence.Notification{ID: "n", Subject: subject, Kind: "push"})
			require.ErrorIs(t, err, presence.ErrLimit, "the bound does not tell who would be reached")
		}
		close(n.release)
		synctest.Wait()
		_, err = c.Claim(t.Context(), presence.Claim{Status: "away"})
		require.NoError(t, err)
		require.NoError(t, notify(), "a sender is told the same")
		decision, err := d.Gate(t.Context(), presence.Notification{Subject: ann, Kind: "push"})
		require.NoError(t, err)
		require.Equal(t, presence.Skip, decision.Verdict)
		require.Contains(t, decision.Reason, "away")
		require.Len(t, n.got(), 2, "what is skipped is not queued")
	})
}

func TestBadInputIsRefusedAndChangesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newRunning(t, nil)
		c := d.login(ann, "tab")
		beat(t, c)
		ctx := t.Context()
		_, err := c.Claim(ctx, presence.Claim{Status: "busy"})
		require.NoError(t, err)
		before, err := d.State(ctx, ann)
		require.NoError(t, err)
		claim := func(actor presence.Actor, ref presence.Ref, c presence.Claim) error {
			_, err := d.SetClaim(ctx, actor, ref, c)
			return err
		}
		self := presence.Agent(ann)
		long := strings.Repeat("x", presence.MaxID+1)
		for name, test := range map[string]struct {
			err  error
			is   error
			says string
		}{
			"unknown status":          {claim(self, ann, presence.Claim{Status: "bussy"}), presence.ErrUnknown, `available, away, busy, offline`},
			"unknown subject":         {claim(presence.Agent(bob), bob, presence.Claim{Status: "busy"}), presence.ErrUnknown, `subject "bob"`},
			"until in the past":       {claim(self, ann, presence.Claim{Status: "away", Until: presence.At(time.Now())}), presence.ErrInvalid, "not after now"},
			"not selectable":          {claim(self, ann, presence.Claim{Status: "offline"}), presence.ErrNotAllowed, "allowed: available, away, busy"},
			"another's status":        {claim(presence.Agent(bob), ann, presence.Claim{Status: "away"}), presence.ErrNotAllowed, "supervisor"},
			"a visitor's claim":       {claim(visitor, ann, presence.Claim{Status: "away"}), presence.ErrNotAllowed, "visitor"},
			"a source not one's own":  {claim(self, ann, presence.Claim{Status: "away", Source: presence.SourceSystem}), presence.ErrNotAllowed, "only a system names a source"},
			"another tenant":          {claim(presence.Actor{Subject: presence.Ref{Tenant: "t", ID: "x"}, Role: presence.RoleAdmin}, ann, presence.Claim{Status: "away"}), presence.ErrNotAllowed, "tenant"},
			"an unknown role":         {claim(presence.Actor{Subject: ann, Role: "king"}, ann, presence.Claim{Status: "away"}), presence.ErrInvalid, "agent, supervisor, admin, visitor, system"},
			"an oversized reason":     {claim(self, ann, presence.Claim{Status: "away", Reason: strings.Repeat("x", 65)}), presence.ErrInvalid, "at most 64"},
			"an unknown connection":   {claim(self, ann, presence.Claim{Status: "away", Conn: "other"}), presence.ErrUnknown, `"other"`},
			"an empty id":             {d.AddMember(ctx, sales, presence.Ref{}), presence.ErrInvalid, "empty"},
			"an oversized id":         {d.AddMember(ctx, presence.ChannelID(long), ann), presence.ErrInvalid, "at most 128"},
			"a control character":     {d.AddMember(ctx, presence.ChannelID("a\nb"), ann), presence.ErrInvalid, "control character"},
			"an unknown event":        {d.Apply(ctx, presence.Event{Kind: 99, Subject: ann}), presence.ErrInvalid, `event "99"`},
			"an event for nobody":     {d.Apply(ctx, presence.Event{Kind: presence.EventLogout}), presence.ErrInvalid, "an event of kind logout needs one"},
			"a policy by an agent":    {d.SetPolicy(ctx, self, preset.TawkTo()), presence.ErrNotAllowed, "admin"},
			"a policy with faults":    {d.SetPolicy(ctx, admin, presence.Policy{}), nil, "at least one status"},
			"an agent's foreign eyes": {watchAs(d, self, presence.AudienceAdmin), presence.ErrNotAllowed, "allowed: team"},
			"an unknown audience":     {watchAs(d, boss, "everybody"), presence.ErrInvalid, "self, team, supervisor, admin, visitor, router"},
		} {
			require.Error(t, test.err, name)
			if test.is != nil {
				require.ErrorIs(t, test.err, test.is, name)
			}
			require.ErrorContains(t, test.err, test.says, name)
			require.True(t, strings.HasPrefix(test.err.Error(), "presence: "), test.err.Error())
		}
		after, err := d.State(ctx, ann)
		require.NoError(t, err)
		require.Equal(t, before.Claims, after.Claims)
		require.Equal(t, before.Current, after.Current)
		v, err := d.GetAs(ctx, presence.AudienceTeam, bob)
		require.NoError(t, err)
		require.Equal(t, presence.StatusUnknown, v.Status, "what was refused made nobody known")
	})
}

func TestLimitsHold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newRunning(t, &presence.Options{MaxSubjects: 2, MaxWatches: 1, MaxChannels: 2})
		for i := range presence.MaxConnections {
			d.login(ann, fmt.Sprint("c", i))
		}
		_, err := d.Connect(t.Context(), ann, presence.ConnectOptions{})
		require.ErrorIs(t, err, presence.ErrLimit)
		_, err = d.Connect(t.Context(), ann, presence.ConnectOptions{ID: "c0"})
		require.NoError(t, err, "one that is there may be replaced")
		d.login(bob, "c")
		_, err = d.Connect(t.Context(), presence.ID("cyd"), presence.ConnectOptions{})
		require.ErrorIs(t, err, presence.ErrLimit)
		w := d.watch(visitor, sales)
		_, err = d.Watch(t.Context(), visitor, sales, presence.WatchOptions{})
		require.ErrorIs(t, err, presence.ErrLimit)
		require.NoError(t, w.Close())
		for i := range 10 {
			w := d.watch(visitor, presence.ChannelID(fmt.Sprint("made-up-", i)))
			require.NoError(t, w.Close(), "a channel nobody uses is forgotten")
		}
	})
}

// X48: the same person in two tenants is two subjects: claims, policies, work and
// requests of one show nothing of the other, and no actor acts across.
func TestX48TenantsDoNotMeet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newRunning(t, nil)
		there := presence.Ref{Tenant: "acme", ID: "ann"}
		d.login(ann, "tab")
		c, err := d.Connect(t.Context(), there, presence.ConnectOptions{Login: true})
		require.NoError(t, err)
		_, err = c.Claim(t.Context(), presence.Claim{Status: "busy"})
		require.NoError(t, err)
		require.Equal(t, "available", d.status(ann))
		require.Equal(t, "busy", d.status(there))
		require.ErrorIs(t, d.AddMember(t.Context(), sales, there), presence.ErrNotAllowed)
		_, err = d.WatchSubject(t.Context(), presence.Agent(ann), there, presence.WatchOptions{})
		require.ErrorIs(t, err, presence.ErrNotAllowed)

		acme := presence.Actor{Subject: presence.Ref{Tenant: "acme", ID: "root"}, Role: presence.RoleAdmin}
		require.NoError(t, d.SetPolicy(t.Context(), acme, preset.TawkTo()))
		require.Equal(t, "default", d.Policy("").Name)
		require.Equal(t, "tawkto", d.Policy("acme").Name)
		require.Equal(t, "available", d.status(ann))

		require.NoError(t, d.SetLoad(t.Context(), there, presence.Load{N: 3}))
		_, err = d.Request(t.Context(), presence.Agent(there), there, presence.Claim{Status: "away"})
		require.NoError(t, err)
		s, err := d.State(t.Context(), ann)
		require.NoError(t, err)
		require.Zero(t, s.Work.Total())
		require.Empty(t, s.Current.Request)
		_, err = d.DecideRequest(t.Context(), boss, there, "", true)
		require.ErrorIs(t, err, presence.ErrNotAllowed)
		_, err = d.Request(t.Context(), presence.Agent(ann), there, presence.Claim{Status: "away"})
		require.ErrorIs(t, err, presence.ErrNotAllowed)
		require.NoError(t, d.AddStatus(t.Context(), acme, presence.Status{ID: "lunch", Class: presence.ClassAway}))
		require.Len(t, d.Policy("").Statuses, 4)
	})
}

func TestPolicyChangeIsNotBackDated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		policy := preset.RespondIO()
		d := newRunning(t, &presence.Options{Policy: &policy})
		c := d.login(ann, "tab")
		beat(t, c)
		require.NoError(t, d.AddMember(t.Context(), sales, ann))
		w := d.watch(visitor, sales)
		seen(t, w)
		time.Sleep(8 * time.Minute)
		require.NoError(t, policy.Set("idle.after", "5m"))
		require.NoError(t, d.SetPolicy(t.Context(), admin, policy))
		v, err := d.GetAs(t.Context(), presence.AudienceAdmin, ann)
		require.NoError(t, err)
		require.Equal(t, "offline", v.Status)
		require.Equal(t, presence.CauseIdle, v.Cause)
		require.Equal(t, presence.At(time.Now()), v.Since)
		require.Equal(t, []string{"left ann offline"}, seen(t, w))
	})
}

func TestCloseEndsEverythingAndIsIdempotent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tracker, err := presence.New(nil)
		require.NoError(t, err)
		ran := make(chan error, 1)
		go func() { ran <- tracker.Run(context.Background()) }()
		c, err := tracker.Connect(t.Context(), ann, presence.ConnectOptions{})
		require.NoError(t, err)
		w, err := tracker.WatchSubject(t.Context(), visitor, ann, presence.WatchOptions{})
		require.NoError(t, err)
		waiting := make(chan error, 1)
		go func() {
			for {
				if _, err := w.Next(context.Background()); err != nil {
					waiting <- err
					return
				}
			}
		}()
		synctest.Wait()
		require.NoError(t, tracker.Close())
		require.NoError(t, <-ran)
		require.ErrorIs(t, <-waiting, presence.ErrClosed)
		require.ErrorIs(t, tracker.Close(), presence.ErrClosed)
		require.ErrorIs(t, c.Heartbeat(), presence.ErrClosed)
		require.ErrorIs(t, w.Close(), presence.ErrClosed)
		_, err = tracker.Connect(t.Context(), ann, presence.ConnectOptions{})
		require.ErrorIs(t, err, presence.ErrClosed)
		_, err = tracker.Sweep(t.Context())
		require.ErrorIs(t, err, presence.ErrClosed)
		require.ErrorIs(t, tracker.Run(t.Context()), presence.ErrClosed)
	})
}

func TestRunReturnsTheCause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tracker, err := presence.New(nil)
		require.NoError(t, err)
		cause := errors.New("shutting down")
		ctx, cancel := context.WithCancelCause(t.Context())
		ran := make(chan error, 1)
		go func() { ran <- tracker.Run(ctx) }()
		synctest.Wait()
		require.ErrorIs(t, tracker.Run(ctx), presence.ErrInvalid, "only one at a time")
		cancel(cause)
		require.ErrorIs(t, <-ran, cause)
		require.NoError(t, tracker.Close())
	})
}

func TestOptionsAreReportedTogether(t *testing.T) {
	_, err := presence.New(&presence.Options{WatchBuffer: -1, Node: "a\x00", StorageTimeout: -1, Policy: &presence.Policy{}})
	for _, says := range []string{"WatchBuffer", "Node", "StorageTimeout", "at least one status"} {
		require.ErrorContains(t, err, says)
	}
}

func TestEraseForgetsAndTellsWatchers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newRunning(t, nil)
		require.NoError(t, d.AddMember(t.Context(), sales, ann))
		c := d.login(ann, "tab")
		w := d.watch(visitor, sales)
		seen(t, w)
		require.NoError(t, d.Erase(t.Context(), ann))
		require.Equal(t, []string{"left ann"}, seen(t, w))
		require.Equal(t, presence.StatusUnknown, d.status(ann))
		require.ErrorIs(t, c.Heartbeat(), presence.ErrUnknown)
		for range d.Journal(t.Context(), presence.JournalQuery{Subject: ann}) {
			t.Fatal("the journal is not empty")
		}
		_, err := d.Connect(t.Context(), ann, presence.ConnectOptions{})
		require.ErrorIs(t, err, presence.ErrNotAllowed)
		time.Sleep(24 * time.Hour)
		d.login(ann, "tab")
	})
}

// No notification begins once the tracker is closed, though its subject was
// asked about before.
func TestNotifyWhileClosing(t *testing.T) {
	t.Parallel()
	storage := presencetest.NewFaultyStorage(inMemory(0))
	before := newTracker(t, &presence.Options{Storage: storage})
	_, err := before.Connect(t.Context(), ann, presence.ConnectOptions{})
	require.NoError(t, err)
	require.NoError(t, before.Close())

	n := &gatedNotifier{release: make(chan struct{})}
	close(n.release)
	tracker := newTracker(t, &presence.Options{Notifier: n, Storage: storage})
	held, release := storage.Hold(presencetest.Load)
	notified := make(chan error)
	go func() {
		notified <- tracker.Notify(context.Background(), presence.Notification{ID: "n", Subject: ann, Kind: "push"})
	}()
	<-held
	require.NoError(t, tracker.Close())
	release()
	require.ErrorIs(t, <-notified, presence.ErrClosed)
	require.Empty(t, n.got())
}

// readers are actors of every role, and ann herself.
func readers() []presence.Actor {
	return []presence.Actor{
		presence.Agent(ann), presence.Agent(bob), presence.Supervisor(presence.ID("kim")), presence.Admin(presence.ID("root")),
		presence.Visitor(presence.ID("vic")), presence.Visitor(ann), presence.System(presence.ID("pbx")),
	}
}

// crowd returns a tracker in which ann is available, bob is hidden, cyd has left
// and nothing is known of eve. All but eve are members of sales.
func crowd(t *testing.T, opts presence.Options) *testTracker {
	t.Helper()
	policy := preset.TawkTo()
	opts.Policy = &policy
	tracker := newTracker(t, &opts)
	ctx := t.Context()
	for _, subject := range []presence.Ref{ann, bob, presence.ID("cyd")} {
		_, err := tracker.Connect(ctx, subject, presence.ConnectOptions{Login: true})
		require.NoError(t, err)
		require.NoError(t, tracker.AddMember(ctx, sales, subject))
	}
	_, err := tracker.SetClaim(ctx, presence.System(presence.ID("pbx")), bob, presence.Claim{Status: "invisible", Source: presence.SourceSystem})
	require.NoError(t, err)
	require.NoError(t, tracker.Logout(ctx, presence.ID("cyd")))
	return tracker
}

// H8: a read by an actor returns what the read by its
// audience returns.
func TestReadsEqualTheirSisters(t *testing.T) {
	tracker := crowd(t, presence.Options{})
	ctx := t.Context()
	subjects := []presence.Ref{ann, bob, presence.ID("cyd"), presence.ID("eve")}
	for _, by := range readers() {
		many, err := tracker.GetMany(ctx, by, subjects...)
		require.NoError(t, err)
		for i, subject := range subjects {
			a := by.Audience()
			if by.Subject == subject && by.Role != presence.RoleVisitor {
				a = presence.AudienceSelf
			}
			want, err := tracker.GetAs(ctx, a, subject)
			require.NoError(t, err)
			have, err := tracker.Get(ctx, by, subject)
			require.NoError(t, err)
			require.Equal(t, want, have, "%s looks at %s", by, subject)
			require.Equal(t, want, many[i], "%s looks at %s", by, subject)
			lines, err := tracker.ExplainAs(ctx, a, subject)
			require.NoError(t, err)
			explained, err := tracker.Explain(ctx, by, subject)
			if want.Status == presence.StatusUnknown {
				require.ErrorIs(t, err, presence.ErrUnknown)
				continue
			}
			require.NoError(t, err)
			require.Equal(t, lines, explained, "%s asks about %s", by, subject)
		}
		want, group, err := tracker.ListAs(ctx, by.Audience(), sales, nil)
		require.NoError(t, err)
		have, sum, err := tracker.List(ctx, by, sales)
		require.NoError(t, err)
		require.Equal(t, want, have, by.String())
		require.Equal(t, group, sum)
	}
	_, _, err := tracker.List(ctx, presence.Agent(presence.ID("eve")), sales)
	require.ErrorIs(t, err, presence.ErrNotAllowed)
	_, _, err = tracker.ListAs(ctx, presence.AudienceSelf, sales, nil)
	require.ErrorIs(t, err, presence.ErrInvalid)
}

// H8: a refused read of a known, hidden or left subject
// equals that of an unknown one, and loads it all the same.
func TestRefusedReadsRevealNothing(t *testing.T) {
	ctx := t.Context()
	storage := inMemory(0)
	first := crowd(t, presence.Options{Storage: storage})
	require.NoError(t, first.Close())
	why := errors.New("database is down")
	for name, answer := range map[string]error{"refused": presence.ErrNotAllowed, "not known": why} {
		loads := &countingStorage{Storage: storage}
		tracker := newTracker(t, &presence.Options{Storage: loads, Authorizer: presencetest.StaticAuthorizer(func(presence.Question) error { return answer })})
		for _, by := range readers() {
			var views []presence.View
			var refusals []presence.Error
			for _, id := range []string{"eve", "ann", "bob", "cyd"} {
				subject := presence.ID(id)
				v, err := tracker.Get(ctx, by, subject)
				_, why := tracker.Explain(ctx, by, subject)
				if answer == presence.ErrNotAllowed {
					require.NoError(t, err)
					require.ErrorIs(t, why, presence.ErrUnknown)
				} else {
					require.ErrorIs(t, err, presence.ErrUnavailable)
					require.ErrorIs(t, why, presence.ErrUnavailable)
				}
				require.Equal(t, subject, v.Subject)
				v.Subject = presence.Ref{}
				views, refusals = append(views, v), append(refusals, nameless(t, why, subject, by.Subject))
				require.Equal(t, views[0], v, "%s looks at %s", by, id)
				require.Equal(t, refusals[0], refusals[len(refusals)-1], "%s asks about %s", by, id)
			}
			many, err := tracker.GetMany(ctx, by, ann, bob, presence.ID("eve"))
			if answer != presence.ErrNotAllowed {
				require.ErrorIs(t, err, presence.ErrUnavailable)
				require.Nil(t, many)
				continue
			}
			for _, v := range many {
				require.Equal(t, presence.View{Subject: v.Subject, Status: presence.StatusUnknown}, v)
			}
			var lists []presence.Error // of a channel with members, and of an unknown one
			for _, channel := range []presence.Channel{sales, presence.ChannelID("attic")} {
				list, group, err := tracker.List(ctx, by, channel)
				require.ErrorIs(t, err, presence.ErrNotAllowed)
				require.Empty(t, list)
				require.Zero(t, group)
				lists = append(lists, nameless(t, err, presence.Ref(channel)))
			}
			require.Equal(t, lists[0], lists[1], by.String())
			_, err = tracker.Get(ctx, by, presence.Ref{Tenant: "acme", ID: "ann"})
			require.ErrorIs(t, err, presence.ErrNotAllowed)
		}
		if answer == presence.ErrNotAllowed {
			require.Positive(t, loads.loads, name)
			_, err := tracker.State(ctx, ann) // a refused read has loaded her
			require.NoError(t, err)
		} else {
			require.Zero(t, loads.loads, name)
		}
		require.NoError(t, tracker.Close())
	}
}

// TestGetManyLoadsOnce: one call of storage loads all that memory does not have.
func TestGetManyLoadsOnce(t *testing.T) {
	ctx := t.Context()
	storage := inMemory(0)
	require.NoError(t, crowd(t, presence.Options{Storage: storage}).Close())
	loads := &countingStorage{Storage: storage}
	tracker := newTracker(t, &presence.Options{Storage: loads})
	by := presence.Admin(presence.ID("root"))
	views, err := tracker.GetMany(ctx, by, presence.ID("cyd"), ann, presence.ID("eve"), ann, bob)
	require.NoError(t, err)
	require.Equal(t, 1, loads.loads)
	for i, id := range []string{"cyd", "ann", "eve", "ann", "bob"} {
		require.Equal(t, presence.ID(id), views[i].Subject)
		require.Equal(t, id == "eve", views[i].Status == presence.StatusUnknown, id)
	}
	_, err = tracker.GetMany(ctx, by, make([]presence.Ref, 501)...)
	require.ErrorIs(t, err, presence.ErrLimit)
}

// countingStorage counts the calls of Load.
type countingStorage struct {
	presence.Storage
	loads int
}

func (s *countingStorage) Load(ctx context.Context, subjects ...presence.Ref) ([]presence.Record, error) {
	s.loads++
	return s.Storage.Load(ctx, subjects...)
}

func TestNowFollowsTheClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newRunning(t, nil)
		require.Equal(t, presence.At(time.Now()), d.Now())
		time.Sleep(time.Minute)
		require.Equal(t, presence.At(time.Now()), d.Now())
	})
}

// Erasing does not wait for what is to be deleted to be written first.
func TestEraseOfWhatIsBehind(t *testing.T) {
	t.Parallel()
	o := newStored(t)
	c := o.connect(ann, "tab")
	require.NoError(t, o.claim(ann, presence.Claim{Status: "busy", DropOnDisconnect: true}))
	require.NoError(t, c.Logout())
	require.NoError(t, o.Erase(t.Context(), ann))
	o.sweep()
	_, found := o.stored(ann)
	require.False(t, found)
	require.Empty(t, o.rows(ann))
}

// TestEraseOfAnUnknownSubject deletes what storage has, and refuses the id.
func TestEraseOfAnUnknownSubject(t *testing.T) {
	t.Parallel()
	o := newStored(t)
	require.NoError(t, o.memory.Append(t.Context(), presence.JournalRow{ID: "r1", Subject: ann, Kind: "transition"}))
	for range 2 {
		require.NoError(t, o.Erase(t.Context(), ann))
		require.Empty(t, o.rows(ann))
		_, err := o.Connect(t.Context(), ann, presence.ConnectOptions{})
		require.ErrorIs(t, err, presence.ErrNotAllowed)
		o.clock.Add(time.Hour)
	}
	o.clock.Add(24 * time.Hour)
	o.connect(ann, "tab")

	tracker := newTracker(t, nil)
	require.NoError(t, tracker.Erase(t.Context(), ann))
	require.ErrorIs(t, tracker.AddMember(t.Context(), sales, ann), presence.ErrNotAllowed)
	require.ErrorIs(t, tracker.Erase(t.Context(), presence.Ref{}), presence.ErrInvalid)
}

// Erasing and writing at the same time neither wait for each other nor leave
// anything behind, whichever subject is being written.
func TestEraseWhileRecordsAreWritten(t *testing.T) {
	t.Parallel()
	for _, order := range [][]presence.Ref{{ann, bob}, {bob, ann}} {
		synctest.Test(t, func(t *testing.T) {
			o := newStored(t)
			for _, ref := range order {
				c := o.connect(ref, "tab")
				require.NoError(t, o.claim(ref, presence.Claim{Status: "busy", DropOnDisconnect: true}))
				require.NoError(t, c.Logout())
			}
			held, release := o.storage.Hold(presencetest.Save, presencetest.Append)
			done := make(chan error, 2)
			go func() {
				_, err := o.Sweep(t.Context())
				done <- err
			}()
			<-held
			go func() { done <- o.Erase(t.Context(), ann) }()
			synctest.Wait()
			release()
			require.NoError(t, <-done)
			require.NoError(t, <-done)
			o.sweep()
			_, found := o.stored(ann)
			require.False(t, found)
			require.Empty(t, o.rows(ann))
			state, _ := o.stored(bob)
			require.Empty(t, state.Claims)
			require.Equal(t, o.told(bob), o.rows(bob))
		})
	}
}

func TestEraseLeavesNothingInStorage(t *testing.T) {
	t.Parallel()
	other := presence.Ref{Tenant: "acme", ID: "ann"}
	o := newStored(t)
	for _, ref := range []presence.Ref{ann, bob, other} {
		o.connect(ref, "tab")
		require.NoError(t, o.claim(ref, presence.Claim{Status: "busy"}))
	}
	o.sweep()
	require.NoError(t, o.claim(ann, presence.Claim{Status: "away", Text: "not stored yet as a row"}))

	o.storage.Fail(1, presencetest.Delete)
	require.ErrorIs(t, o.Erase(t.Context(), ann), presence.ErrUnavailable)
	require.Equal(t, "away", o.status(ann), "what could not be erased is as it was")

	require.NoError(t, o.Erase(t.Context(), ann))
	o.sweep()
	_, found := o.stored(ann)
	require.False(t, found)
	require.Empty(t, o.rows(ann))
	for _, ref := range []presence.Ref{bob, other} {
		require.Equal(t, "busy", o.status(ref))
		_, found := o.stored(ref)
		require.True(t, found)
		require.Equal(t, o.told(ref), o.rows(ref))
	}

	refused := func() {
		_, err := o.Connect(t.Context(), ann, presence.ConnectOptions{ID: "tab"})
		require.ErrorIs(t, err, presence.ErrNotAllowed, "the id is refused")
		require.ErrorIs(t, o.claim(ann, presence.Claim{Status: "busy"}), presence.ErrUnknown)
	}
	refused()
	o.clock.Add(24*time.Hour - 1)
	refused()
	o.clock.Add(1)
	o.sweep()
	_, found = o.stored(ann)
	require.False(t, found)
	require.Empty(t, o.rows(ann))
	o.connect(ann, "tab")
	require.Equal(t, "available", o.status(ann), "nothing of before is left")
	require.NoError(t, o.claim(ann, presence.Claim{Status: "busy"}))
}

// Notify needs a notifier.
func TestNotifyWithoutANotifier(t *testing.T) {
	t.Parallel()
	d := newTracker(t, nil)
	d.connect(ann, "tab")
	require.ErrorIs(t, d.Notify(t.Context(), presence.Notification{ID: "n", Subject: ann, Kind: "push"}), presence.ErrInvalid)
	require.Equal(t, d.opts.Clock, d.Clock())
}
