package presence_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/benbjohnson/clock"
	"github.com/stretchr/testify/require"

	"github.com/presence-go/presence"
	"github.com/presence-go/presence/presencetest"
	"github.com/presence-go/presence/preset"
)

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

func TestWatchersFollowADay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t, nil)
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

func TestReloadIsNotSeen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t, nil)
		require.NoError(t, d.AddMember(t.Context(), sales, ann))
		old := d.login(ann, "tab")
		w := d.watch(visitor, sales)
		require.Equal(t, []string{"snapshot ann=available"}, seen(t, w))

		require.NoError(t, old.Close())
		time.Sleep(2 * time.Second)
		fresh, err := d.Connect(t.Context(), ann, presence.ConnectOptions{ID: "tab"})
		require.NoError(t, err)
		beat(t, fresh)
		time.Sleep(time.Minute)
		require.Empty(t, seen(t, w))
		require.Greater(t, fresh.Epoch(), old.Epoch())
	})
}

func TestOldSocketsCloseComesTooLate(t *testing.T) {
	for name, leave := range map[string]func(*presence.Conn) error{"close": (*presence.Conn).Close, "lost": func(c *presence.Conn) error { return c.Leave(presence.CauseLost) }, "logout": (*presence.Conn).Logout} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := newDesk(t, nil)
				old := d.login(ann, "tab")
				fresh, err := old.Resume(t.Context())
				require.NoError(t, err)
				beat(t, fresh)

				require.ErrorIs(t, old.Heartbeat(), presence.ErrStale)
				require.NoError(t, leave(old), "what a replaced socket does is no news")
				time.Sleep(time.Minute)
				require.Equal(t, "available", d.status(ann))
			})
		})
	}
}

func TestLeaseAndGraceToTheInstant(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t, nil)
		start := time.Now()
		c := d.login(ann, "tab")
		time.Sleep(75*time.Second - time.Nanosecond)
		require.Equal(t, "available", d.status(ann))
		time.Sleep(time.Nanosecond)
		v, err := d.GetAs(t.Context(), presence.AudienceAdmin, ann)
		require.NoError(t, err)
		require.Equal(t, "offline", v.Status)
		require.Equal(t, presence.CauseLost, v.Cause)
		require.Equal(t, presence.At(start.Add(60*time.Second)), v.Since, "it is gone since its lease ran out")
		require.ErrorIs(t, c.Heartbeat(), presence.ErrUnknown, "nothing resurrects it")
	})
}

// However many are due together, each is told of once, in the order of time and
// as if there were no others.
func TestManyWhoAreDueTogetherAllExpire(t *testing.T) {
	const many = 1000
	gone := make(map[presence.Ref]presence.Output)
	var order []presence.Instant
	now := clock.NewMock()
	now.Set(time.Date(2026, 5, 4, 9, 0, 0, 0, time.UTC))
	d, err := presence.New(&presence.Options{Clock: now})
	require.NoError(t, err)
	d.Observe(func(who presence.Ref, o *presence.Output) {
		if o.Kind == presence.OutputTransition && o.Presence.Status == "offline" {
			require.NotContains(t, gone, who)
			gone[who] = *o
			order = append(order, o.Noticed)
		}
	})
	opened := make([]presence.Instant, many)
	for i := range many {
		if i == many/2 {
			now.Add(300 * time.Microsecond) // within the same tick
		}
		opened[i] = presence.At(now.Now())
		_, err := d.Connect(t.Context(), presence.ID(fmt.Sprint("u", i)), presence.ConnectOptions{ID: "tab"})
		require.NoError(t, err)
	}
	now.Add(2 * time.Minute)
	_, err = d.Sweep(t.Context())
	require.NoError(t, err)
	require.Len(t, gone, many)
	require.IsNonDecreasing(t, order)
	for i, at := range opened {
		o := gone[presence.ID(fmt.Sprint("u", i))]
		require.Equal(t, at.Add(time.Minute), o.At)
		require.Equal(t, fmt.Sprintf("grace@%d", at.Add(75*time.Second)), o.ID)
		require.Equal(t, presence.CauseLost, o.Presence.Cause)
	}
	require.NoError(t, d.Close())
}

func TestSilentConnectionComesBackByBeingHeard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t, nil)
		c := d.login(ann, "tab")
		time.Sleep(70 * time.Second) // the lease is over, the grace is not
		s, err := d.State(t.Context(), ann)
		require.NoError(t, err)
		require.Equal(t, presence.ReachLingering, s.Current.Reach)
		require.False(t, s.Current.Routable)
		require.NoError(t, c.Heartbeat())
		time.Sleep(59 * time.Second)
		require.Equal(t, "available", d.status(ann))
	})
}

// A heartbeat or an input that is merely noted must end in the same state as one
// that is stepped through the machine.
func TestNotedReportsEqualStepped(t *testing.T) {
	for seed := range uint64(16) {
		rng := rand.New(rand.NewPCG(seed, 7))
		mock := clock.NewMock()
		noted, err := presence.New(&presence.Options{Clock: mock})
		require.NoError(t, err)
		m, err := presence.Compile(presence.DefaultPolicy())
		require.NoError(t, err)
		var stepped presence.State
		step := func(e presence.Event) error {
			e.Subject, e.Age = ann, presence.NoAge
			_, _, err := m.Step(&stepped, &e, presence.At(mock.Now()), nil)
			return err
		}
		conns := map[string]*presence.Conn{}
		for range 120 {
			mock.Add(time.Duration(rng.IntN(40)) * time.Second)
			if seed%2 == 0 { // not only whole ticks
				mock.Add(time.Duration(rng.IntN(3)) * 333 * time.Microsecond)
			}
			id := fmt.Sprintf("c%d", rng.IntN(1+int(seed/2)%2))
			c := conns[id]
			var got, want error
			switch what := rng.IntN(8); {
			case c == nil:
				conns[id], got = noted.Connect(t.Context(), ann, presence.ConnectOptions{ID: id})
				want = step(presence.Event{Kind: presence.EventConnect, Conn: id, Node: "local"})
			case what < 2:
				got = noted.Heartbeat(ann, id)
				want = step(presence.Event{Kind: presence.EventHeartbeat, Conn: id})
			case what < 5:
				got = c.Heartbeat()
				want = step(presence.Event{Kind: presence.EventHeartbeat, Conn: id, Epoch: c.Epoch()})
			case what < 7:
				got = c.Input()
				want = step(presence.Event{Kind: presence.EventInput, Conn: id, Epoch: c.Epoch()})
			default:
				_, got = noted.Sweep(t.Context())
			}
			if want != nil {
				require.ErrorContains(t, got, want.Error(), "seed %d", seed)
				delete(conns, id)
			} else {
				require.NoError(t, got, "seed %d", seed)
			}
			if rng.IntN(3) == 0 && stepped.Subject == ann {
				require.NoError(t, step(presence.Event{Kind: presence.EventTick}))
				s, err := noted.State(t.Context(), ann)
				require.NoError(t, err)
				require.Equal(t, stepped.Current, s.Current, "seed %d", seed)
				require.ElementsMatch(t, stepped.Conns, s.Conns, "seed %d", seed)
			}
		}
		require.NoError(t, noted.Close())
	}
}

func TestX43SlowWatcherIsResyncedAndNobodyWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t, &presence.Options{WatchBuffer: 4})
		require.NoError(t, d.AddMember(t.Context(), sales, ann))
		slow, quick := d.watch(visitor, sales), d.watch(visitor, sales)
		require.Equal(t, []string{"snapshot ann=offline"}, seen(t, slow))
		require.Equal(t, []string{"snapshot ann=offline"}, seen(t, quick))
		c := d.login(ann, "tab")
		beat(t, c)
		for i := range 6 {
			time.Sleep(10 * time.Second)
			_, err := c.Claim(t.Context(), presence.Claim{Status: []string{"busy", "away"}[i%2]})
			require.NoError(t, err)
			require.NotEmpty(t, seen(t, quick))
		}
		require.Equal(t, []string{"lagged ann=away"}, seen(t, slow))
		_, err := c.Claim(t.Context(), presence.Claim{Status: "busy"})
		require.NoError(t, err)
		require.Equal(t, []string{"updated ann busy"}, seen(t, slow))
	})
}

func TestSequenceHasNoGaps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t, nil)
		require.NoError(t, d.AddMember(t.Context(), sales, ann))
		require.NoError(t, d.AddMember(t.Context(), sales, bob))
		w := d.watch(visitor, sales)
		f, err := w.Next(t.Context())
		require.NoError(t, err)
		seq, epoch := f.Seq, f.Epoch
		for _, ref := range []presence.Ref{ann, bob} {
			c := d.login(ref, "tab")
			_, err := c.Claim(t.Context(), presence.Claim{Status: "busy", Reason: "not for visitors"})
			require.NoError(t, err)
			_, err = c.Claim(t.Context(), presence.Claim{Status: "busy", Reason: "another that they do not see"})
			require.NoError(t, err)
			require.NoError(t, c.Logout())
		}
		frames := 0
		for f, err = w.Poll(); f != nil; f, err = w.Poll() {
			seq++
			require.Equal(t, seq, f.Seq)
			require.Equal(t, epoch, f.Epoch)
			frames++
		}
		require.NoError(t, err)
		require.Equal(t, 6, frames, "online, busy and gone, for each")
	})
}

func TestRevokedWatcherIsEvictedInTheSameStep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t, nil)
		for _, ref := range []presence.Ref{ann, bob} {
			require.NoError(t, d.AddMember(t.Context(), sales, ref))
			d.login(ref, "tab")
		}
		own, others := d.watch(presence.Agent(ann), sales), d.watch(presence.Agent(bob), sales)
		require.NotEmpty(t, seen(t, own))
		require.NotEmpty(t, seen(t, others))

		require.NoError(t, d.RemoveMember(t.Context(), sales, ann))
		require.Equal(t, []string{"removed", "ended"}, seen(t, own))
		require.Equal(t, []string{"left ann"}, seen(t, others))
		_, err := own.Next(t.Context())
		require.ErrorIs(t, err, presence.ErrNotAllowed)
		require.Equal(t, "available", d.status(ann), "her presence elsewhere is unaffected")

		_, err = d.Watch(t.Context(), presence.Agent(ann), sales, presence.WatchOptions{})
		require.ErrorIs(t, err, presence.ErrNotAllowed)
		require.ErrorIs(t, d.Join(t.Context(), presence.Agent(ann), sales), presence.ErrNotAllowed)
		require.NoError(t, d.AddMember(t.Context(), sales, ann))
		require.NoError(t, d.Join(t.Context(), presence.Agent(ann), sales))
		require.Equal(t, []string{"joined ann available"}, seen(t, others))
	})
}

func TestLinkingAgainMovesTheMembers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t, nil)
		widget, inboxA, inboxB := presence.ChannelID("widget"), presence.ChannelID("inbox-a"), presence.ChannelID("inbox-b")
		require.NoError(t, d.AddMember(t.Context(), inboxA, ann))
		require.NoError(t, d.AddMember(t.Context(), inboxB, bob))
		d.login(ann, "tab")
		d.login(bob, "tab")
		require.NoError(t, d.Link(t.Context(), widget, inboxA))
		w := d.watch(visitor, widget)
		require.Equal(t, []string{"snapshot ann=available"}, seen(t, w))
		require.NoError(t, d.Link(t.Context(), widget, inboxB))
		require.Equal(t, []string{"left ann", "joined bob available"}, seen(t, w))
	})
}

func TestHiddenSubjectLeavesLikeOneWhoLogsOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		policy := preset.TawkTo()
		d := newDesk(t, &presence.Options{Policy: &policy})
		require.NoError(t, d.AddMember(t.Context(), sales, ann))
		require.NoError(t, d.AddMember(t.Context(), sales, bob))
		c, other := d.login(ann, "tab"), d.login(bob, "tab")
		beat(t, c)
		w, team := d.watch(visitor, sales), d.watch(presence.Agent(bob), sales)
		seen(t, w)
		seen(t, team)
		_, err := c.Claim(t.Context(), presence.Claim{Status: "invisible"})
		require.NoError(t, err)
		require.Equal(t, []string{"left ann offline"}, seen(t, w))
		require.NoError(t, other.Logout())
		require.Equal(t, []string{"left bob offline"}, seen(t, w))
		require.Equal(t, []string{"updated ann invisible", "left bob offline"}, seen(t, team))
		may, err := d.MayReveal(t.Context(), presence.AudienceVisitor, ann)
		require.NoError(t, err)
		require.False(t, may)
	})
}

func TestNotifierIsBoundedAndGated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &gatedNotifier{release: make(chan struct{})}
		policy := preset.ThriveDesk()
		d := newDesk(t, &presence.Options{Policy: &policy, Notifier: n, NotifyWorkers: 2})
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
		d := newDesk(t, nil)
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

func TestX42AuthorizerIsAskedAgainAndFailsClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var answer error
		d := newDesk(t, &presence.Options{Authorizer: authorizerFunc(func() error { return answer }), AuthorizeEvery: 5 * time.Minute})
		require.NoError(t, d.AddMember(t.Context(), sales, ann))
		c := d.login(ann, "tab")
		beat(t, c)
		w, other := d.watch(visitor, sales), d.watch(visitor, sales)
		require.Len(t, seen(t, w), 1)
		require.Len(t, seen(t, other), 1)
		change := func(status string) {
			_, err := d.SetClaim(t.Context(), presence.Agent(ann), ann, presence.Claim{Status: status})
			require.NoError(t, err)
		}

		change("busy")
		answer = errors.New("the directory is down")
		_, err := d.Watch(t.Context(), visitor, sales, presence.WatchOptions{})
		require.ErrorIs(t, err, presence.ErrUnavailable)
		time.Sleep(15*time.Minute - time.Second)
		require.Equal(t, []string{"updated ann busy"}, seen(t, w), "who watches already goes on for a while")
		answer = nil
		change("away")
		answer = errors.New("the directory is down")
		time.Sleep(time.Minute)
		require.Empty(t, seen(t, w), "and then sees nothing")
		answer = nil
		time.Sleep(5 * time.Second)
		require.Equal(t, []string{"snapshot ann=away"}, seen(t, w))

		answer = fmt.Errorf("no longer: %w", presence.ErrNotAllowed)
		time.Sleep(5 * time.Minute)
		require.NoError(t, c.Logout())
		require.Equal(t, []string{"removed", "ended"}, seen(t, w))
	})
}

func watchAs(d desk, actor presence.Actor, a presence.Audience) error {
	_, err := d.Watch(d.t.Context(), actor, sales, presence.WatchOptions{Audience: a})
	return err
}

func TestClaimsAreThrottledPerConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t, nil)
		c := d.login(ann, "tab")
		beat(t, c)
		for i := range 10 {
			_, err := c.Claim(t.Context(), presence.Claim{Status: []string{"busy", "away"}[i%2]})
			require.NoError(t, err)
		}
		_, err := c.Claim(t.Context(), presence.Claim{Status: "busy"})
		require.ErrorIs(t, err, presence.ErrLimit)
		require.Equal(t, "away", d.status(ann))
		time.Sleep(time.Minute)
		_, err = c.Claim(t.Context(), presence.Claim{Status: "busy"})
		require.NoError(t, err)
	})
}

func TestLimitsHold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t, &presence.Options{MaxSubjects: 2, MaxWatches: 1, MaxChannels: 2})
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
// requests of one say nothing about the other, and nobody acts across.
func TestX48TenantsDoNotMeet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t, nil)
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
		d := newDesk(t, &presence.Options{Policy: &policy})
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
		d := newDesk(t, nil)
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

func TestStandstillGivesConnectionsAnotherChance(t *testing.T) {
	// The bubble's clock cannot stand still, but one whose readings jump can be
	// had: a clock that is moved while nobody looks.
	synctest.Test(t, func(t *testing.T) {
		jump := &jumpingClock{Clock: clock.New()}
		d := newDesk(t, &presence.Options{Clock: jump})
		c := d.login(ann, "tab")
		time.Sleep(20 * time.Second)
		jump.ahead.Store(int64(5 * time.Minute)) // the process was stopped; heartbeats wait in buffers
		require.NoError(t, c.Heartbeat(), "the first thing heard afterwards")
		require.NotEqual(t, "offline", d.status(ann))
		time.Sleep(59 * time.Second)
		require.NotEqual(t, "offline", d.status(ann))
	})
}

// No notification begins once the tracker is closed, though its subject was
// asked about before.
func TestNotifyWhileClosing(t *testing.T) {
	t.Parallel()
	storage := presencetest.NewFaultyStorage(inMemory(0))
	before, err := presence.New(&presence.Options{Storage: storage})
	require.NoError(t, err)
	_, err = before.Connect(t.Context(), ann, presence.ConnectOptions{})
	require.NoError(t, err)
	require.NoError(t, before.Close())

	n := &gatedNotifier{release: make(chan struct{})}
	close(n.release)
	tracker, err := presence.New(&presence.Options{Notifier: n, Storage: storage})
	require.NoError(t, err)
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

// A heartbeat after Close is refused, and so is the one after that.
func TestHeartbeatsAfterClose(t *testing.T) {
	for range 50 {
		synctest.Test(t, func(t *testing.T) {
			d := newDesk(t, nil)
			c := d.login(ann, "tab")
			require.NoError(t, d.Close())
			for range 3 { // while Run comes to its end
				require.ErrorIs(t, c.Heartbeat(), presence.ErrClosed)
				require.ErrorIs(t, d.Heartbeat(ann, "tab"), presence.ErrClosed)
			}
		})
	}
}

// A link is refused that would put somebody into too many channels.
func TestLinksAreBounded(t *testing.T) {
	t.Parallel()
	tracker, err := presence.New(nil)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, tracker.Close()) })
	crew, more := presence.ChannelID("crew"), presence.ChannelID("more")
	require.NoError(t, tracker.AddMember(t.Context(), crew, ann))
	for i := range presence.MaxChannels - 1 {
		require.NoError(t, tracker.Link(t.Context(), presence.ChannelID(fmt.Sprint("inbox", i)), crew))
	}
	require.ErrorIs(t, tracker.Link(t.Context(), more, crew), presence.ErrLimit)
	members, err := tracker.Members(more)
	require.NoError(t, err)
	require.Empty(t, members)
	require.NoError(t, tracker.Link(t.Context(), presence.ChannelID("inbox0"), presence.ChannelID("other")))
	require.NoError(t, tracker.Link(t.Context(), more, crew))
	require.NoError(t, tracker.Link(t.Context(), more, crew), "it is linked so already")
}
