package presence_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/presence-go/presence"
)

func TestConnectionLeavesOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newRunning(t, nil)
		for _, cause := range []presence.Cause{presence.CauseClosed, presence.CauseLost, presence.CauseLogout, presence.CauseDrain} {
			c := d.login(ann, "tab")
			require.NoError(t, c.Leave(cause))
			time.Sleep(time.Hour) // longer than any grace
			state, err := d.State(t.Context(), ann)
			require.NoError(t, err)
			require.Equal(t, cause, state.Current.Cause)
			for _, again := range []func() error{c.Close, c.Logout, func() error { return c.Leave(presence.CauseLost) }} {
				require.ErrorIs(t, again(), presence.ErrClosed)
			}
			require.ErrorIs(t, c.Heartbeat(), presence.ErrClosed)
		}
	})
}

func TestConnectionRefusesOtherCauses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newRunning(t, nil)
		c := d.login(ann, "tab")
		for _, cause := range []presence.Cause{"", presence.CauseNode, "bored"} {
			err := c.Leave(cause)
			require.ErrorIs(t, err, presence.ErrInvalid)
			require.ErrorContains(t, err, "allowed: closed, lost, logout, drain")
			require.NoError(t, c.Heartbeat(), "the handle lives")
		}
		require.NoError(t, c.Close())
	})
}

func TestReloadIsNotSeen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newRunning(t, nil)
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
				d := newRunning(t, nil)
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

func TestSilentConnectionComesBackByBeingHeard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newRunning(t, nil)
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

func TestClaimsAreThrottledPerConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newRunning(t, nil)
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

// Each heartbeat after Close is refused.
func TestHeartbeatsAfterClose(t *testing.T) {
	for range 50 {
		synctest.Test(t, func(t *testing.T) {
			d := newRunning(t, nil)
			c := d.login(ann, "tab")
			require.NoError(t, d.Close())
			for range 3 { // while Run ends
				require.ErrorIs(t, c.Heartbeat(), presence.ErrClosed)
				require.ErrorIs(t, d.Heartbeat(ann, "tab"), presence.ErrClosed)
			}
		})
	}
}

// A report ages the last input. A late report, and an age below 0,
// change nothing.
func TestReports(t *testing.T) {
	t.Parallel()
	d := newTracker(t, nil)
	c := d.connect(ann, "tab")
	require.Equal(t, "tab", c.ID())
	require.Equal(t, ann, c.Subject())
	require.NoError(t, c.Report(2, 10*time.Minute))
	require.Equal(t, "away", d.status(ann))
	require.NoError(t, c.Report(1, 0))
	require.Equal(t, "away", d.status(ann), "a report that comes late")
	require.NoError(t, c.Report(3, -time.Second))
	require.Equal(t, "available", d.status(ann), "an age below 0 is an input of now")
	require.NoError(t, c.Close())
	require.ErrorIs(t, c.Report(4, 0), presence.ErrClosed)
}

// A connection keeps its device and node when it is resumed.
func TestResumeKeepsDeviceAndNode(t *testing.T) {
	t.Parallel()
	d := newTracker(t, nil)
	old, err := d.Connect(t.Context(), ann, presence.ConnectOptions{ID: "tab", Device: "web", Node: "n2", IdleFor: 10 * time.Minute})
	require.NoError(t, err)
	require.Equal(t, "away", d.status(ann), "it opens with the age of the last input")
	require.NoError(t, old.Close())
	fresh, err := old.Resume(t.Context())
	require.NoError(t, err)
	require.Equal(t, old.ID(), fresh.ID())
	conn := d.state(ann).Conns[0]
	require.Equal(t, []string{"web", "n2"}, []string{conn.Device, conn.Node})
}

// A choice that the authorizer refuses changes nothing, and neither does one more
// choice than a connection may make in a minute.
func TestChoicesThatAreRefused(t *testing.T) {
	t.Parallel()
	var answer error
	d := newTracker(t, &presence.Options{Authorizer: authorizerFunc(func() error { return answer })})
	c := d.connect(ann, "tab")
	_, err := c.Claim(t.Context(), presence.Claim{Status: "busy"})
	require.NoError(t, err)
	answer = presence.ErrNotAllowed
	_, err = c.Claim(t.Context(), presence.Claim{Status: "away"})
	require.ErrorIs(t, err, presence.ErrNotAllowed)
	_, err = c.EndClaim(t.Context(), "")
	require.ErrorIs(t, err, presence.ErrNotAllowed)
	require.Equal(t, "busy", d.status(ann))
	answer = nil
	for range 7 {
		_, err = c.EndClaim(t.Context(), presence.KeyTimed)
		require.NoError(t, err)
	}
	_, err = c.EndClaim(t.Context(), "")
	require.ErrorIs(t, err, presence.ErrLimit)
	require.Equal(t, "busy", d.status(ann))
	d.clock.Add(time.Minute)
	require.NoError(t, c.Heartbeat())
	_, err = c.EndClaim(t.Context(), "")
	require.NoError(t, err)
	require.Equal(t, "available", d.status(ann))
}
