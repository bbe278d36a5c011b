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
		d := newDesk(t, nil)
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
		d := newDesk(t, nil)
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

func TestNowFollowsTheClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t, nil)
		require.Equal(t, presence.At(time.Now()), d.Now())
		time.Sleep(time.Minute)
		require.Equal(t, presence.At(time.Now()), d.Now())
	})
}
