package presence_test

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/benbjohnson/clock"
	"github.com/stretchr/testify/require"

	"github.com/presence-go/presence"
	"github.com/presence-go/presence/preset"
)

// The verbs of a host do what their events do.
func TestVerbs(t *testing.T) {
	t.Parallel()
	policy := presence.DefaultPolicy()
	policy.Virtual = map[string]presence.VirtualRule{"push": {Show: "top"}}
	mock := clock.NewMock()
	tracker := newTracker(t, &presence.Options{Policy: &policy, Clock: mock})
	ctx := t.Context()
	state := func() presence.State {
		t.Helper()
		s, err := tracker.State(ctx, ann)
		require.NoError(t, err)
		return s
	}
	phone := presence.Endpoint{ID: "phone", Kind: presence.EndpointPush}

	require.NoError(t, tracker.SetEndpoint(ctx, ann, phone))
	require.Equal(t, presence.ReachVirtual, state().Current.Reach)
	require.NoError(t, tracker.RemoveEndpoint(ctx, ann, "tablet"), "ann has none of that id")
	require.Len(t, state().Endpoints, 1)
	require.NoError(t, tracker.RemoveEndpoint(ctx, ann, phone.ID))
	require.Empty(t, state().Endpoints)
	require.Equal(t, presence.ReachNone, state().Current.Reach)
	require.ErrorIs(t, tracker.SetEndpoint(ctx, ann, presence.Endpoint{ID: "fax", Kind: "fax"}), presence.ErrInvalid)

	require.NoError(t, tracker.SetLoad(ctx, ann, presence.Load{On: "chat", N: 2}))
	require.NoError(t, tracker.SetLoad(ctx, ann, presence.Load{On: "calls", N: 1}))
	require.NoError(t, tracker.SetLoad(ctx, ann, presence.Load{On: "chat", N: 3}))
	require.Equal(t, 4, state().Work.Total())
	require.ErrorIs(t, tracker.SetLoad(ctx, ann, presence.Load{N: -1}), presence.ErrInvalid)

	for _, id := range []string{"tab", "mobile"} {
		_, err := tracker.Connect(ctx, ann, presence.ConnectOptions{ID: id})
		require.NoError(t, err)
	}
	require.NoError(t, tracker.Logout(ctx, ann))
	mock.Add(time.Millisecond)
	require.Empty(t, state().Conns)
	require.Equal(t, presence.CauseLogout, state().Current.Cause)

	conn, err := tracker.Connect(ctx, ann, presence.ConnectOptions{})
	require.NoError(t, err)
	require.NoError(t, tracker.Disable(ctx, ann))
	require.Equal(t, presence.StatusDisabled, state().Current.Status)
	require.ErrorIs(t, conn.Heartbeat(), presence.ErrUnknown)
	_, err = tracker.Connect(ctx, ann, presence.ConnectOptions{})
	require.ErrorIs(t, err, presence.ErrDisabled)
	require.ErrorIs(t, tracker.SetEndpoint(ctx, ann, phone), presence.ErrDisabled)
	require.NoError(t, tracker.Enable(ctx, ann))
	_, err = tracker.Connect(ctx, ann, presence.ConnectOptions{})
	require.NoError(t, err)
}

// Removing an endpoint of an unknown subject makes no room for the subject.
func TestRemoveEndpointOfTheUnknown(t *testing.T) {
	t.Parallel()
	tracker := newTracker(t, &presence.Options{MaxSubjects: 1})
	require.NoError(t, tracker.RemoveEndpoint(t.Context(), bob, "phone"))
	require.ErrorIs(t, tracker.RemoveEndpoint(t.Context(), bob, ""), presence.ErrInvalid)
	_, err := tracker.Connect(t.Context(), ann, presence.ConnectOptions{})
	require.NoError(t, err, "there is room for one subject")
	require.NoError(t, tracker.Close())
	require.ErrorIs(t, tracker.RemoveEndpoint(t.Context(), bob, "phone"), presence.ErrClosed)
}

// Claims made at once are all stored, one after the other.
func TestClaimsAtOnce(t *testing.T) {
	t.Parallel()
	o := newStored(t)
	o.connect(ann, "tab")
	const count = 20
	var wg sync.WaitGroup
	errs := make([]error, count)
	system := presence.Actor{Subject: presence.ID("phone"), Role: presence.RoleSystem}
	for i := range count {
		wg.Go(func() {
			_, errs[i] = o.SetClaim(t.Context(), system, ann, presence.Claim{Status: "busy", Source: presence.SourceApp, Key: fmt.Sprintf("call-%02d", i)})
		})
	}
	wg.Wait()
	for _, err := range errs {
		require.NoError(t, err)
	}
	claims := o.state(ann).Claims
	require.Len(t, claims, count)
	serials := make(map[uint64]bool)
	for _, c := range claims {
		serials[c.Serial] = true
	}
	require.Len(t, serials, count)
	o.restart()
	o.connect(ann, "tab")
	require.Equal(t, claims, o.state(ann).Claims)
	require.False(t, slices.Contains(o.statuses(ann), "available"))
}

// Only Connect opens a connection.
func TestEventsThatApplyRefuses(t *testing.T) {
	t.Parallel()
	d := newTracker(t, nil)
	for _, kind := range []presence.EventKind{presence.EventConnect, presence.EventLogin} {
		require.ErrorIs(t, d.Apply(t.Context(), presence.Event{Kind: kind, Subject: ann, Conn: "tab"}), presence.ErrInvalid)
	}
	_, err := d.State(t.Context(), ann)
	require.ErrorIs(t, err, presence.ErrUnknown)
}

// L17: an end that the clock had shown before it was set back is met at its instant, also
// if the subject was not read since.
func TestEndBeforeTheClockWasSetBack(t *testing.T) {
	p := presence.DefaultPolicy()
	p.Lease, p.Idle = 12*time.Hour, nil
	d := newTracker(t, &presence.Options{Policy: &p})
	nine := presence.At(d.clock.Now())
	c := d.login(ann, "tab")
	_, err := c.Claim(t.Context(), presence.Claim{Status: "busy", Until: nine.Add(10 * time.Minute)})
	require.NoError(t, err)
	d.clock.Add(20 * time.Minute)
	require.Equal(t, nine.Add(20*time.Minute), d.Now())
	d.clock.Add(-time.Hour)
	require.Equal(t, nine.Add(20*time.Minute), d.Now(), "it does not go back")
	require.Equal(t, "available", d.status(ann))
	require.Equal(t, nine.Add(10*time.Minute), d.state(ann).Current.Since)
	require.Equal(t, time.Hour, d.state(ann).Behind)
}

// L17: every subject knows the wall clock, however often it was set back: one that is
// packed, one that is not, and one that was unknown then. So does the refusal of a
// connection that changes its claims too often.
func TestEverySubjectKnowsTheWallClock(t *testing.T) {
	p := presence.DefaultPolicy()
	p.Lease, p.Idle = 12*time.Hour, nil
	d := newTracker(t, &presence.Options{Policy: &p})
	plain := d.login(ann, "tab")
	kept := d.login(bob, "tab")
	_, err := kept.Claim(t.Context(), presence.Claim{Status: "away"})
	require.NoError(t, err)
	for i := range 3 {
		d.clock.Add(-10 * time.Minute)
		fresh := d.login(presence.ID(fmt.Sprint("new", i)), "tab")
		until := presence.At(d.clock.Now()).Add(5 * time.Minute)
		for _, c := range []*presence.Conn{plain, kept, fresh} {
			v, err := c.Claim(t.Context(), presence.Claim{Status: "busy", For: 5 * time.Minute})
			require.NoError(t, err)
			require.Equal(t, until, v.Until)
			_, err = c.EndClaim(t.Context(), presence.KeyTimed)
			require.NoError(t, err)
		}
		require.Equal(t, time.Duration(i+1)*10*time.Minute, d.state(ann).Behind)
	}
	for range 4 {
		_, err = plain.Claim(t.Context(), presence.Claim{Status: "away"})
		require.NoError(t, err)
	}
	_, err = plain.Claim(t.Context(), presence.Claim{Status: "busy"})
	var refused *presence.Error
	require.ErrorAs(t, err, &refused)
	require.Equal(t, presence.At(d.clock.Now()).Add(time.Minute), refused.Until)
}

// L17: what a subject or a caller is shown as an end is of the wall clock, also if it is
// no end that was given: until when a challenge must be answered, and until when an
// erased id is refused.
func TestShownEndsAreOfTheWallClock(t *testing.T) {
	p := preset.Threads()
	p.Lease, p.Idle = 12*time.Hour, nil
	d := newTracker(t, &presence.Options{Policy: &p})
	d.login(ann, "tab")
	d.login(bob, "tab")
	asked := make(chan presence.Output, 1)
	d.Observe(func(_ presence.Ref, o *presence.Output) {
		if o.Kind == presence.OutputChallenge {
			asked <- *o
		}
	})
	d.clock.Add(-time.Hour)
	wall := presence.At(d.clock.Now())
	require.NoError(t, d.Apply(t.Context(), presence.Event{Kind: presence.EventChallenge, Subject: ann, Claim: presence.Claim{For: time.Minute}}))
	require.Equal(t, wall.Add(time.Minute), (<-asked).At)
	d.clock.Add(time.Minute - time.Second)
	require.NotEqual(t, "kicked-out", d.status(ann))
	d.clock.Add(time.Second)
	require.Equal(t, "kicked-out", d.status(ann))

	require.NoError(t, d.Erase(t.Context(), bob))
	_, err := d.Connect(t.Context(), bob, presence.ConnectOptions{ID: "tab"})
	var refused *presence.Error
	require.ErrorAs(t, err, &refused)
	require.Equal(t, presence.At(d.clock.Now()).Add(24*time.Hour), refused.Until)
}
