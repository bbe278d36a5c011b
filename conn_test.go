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

// A heartbeat after Close is refused, and so is the one after that.
func TestHeartbeatsAfterClose(t *testing.T) {
	for range 50 {
		synctest.Test(t, func(t *testing.T) {
			d := newRunning(t, nil)
			c := d.login(ann, "tab")
			require.NoError(t, d.Close())
			for range 3 { // while Run comes to its end
				require.ErrorIs(t, c.Heartbeat(), presence.ErrClosed)
				require.ErrorIs(t, d.Heartbeat(ann, "tab"), presence.ErrClosed)
			}
		})
	}
}
