package presence_test

import (
	"math"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/presence-go/presence"
)

func TestLeaseAndGraceToTheInstant(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newRunning(t, nil)
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

// A wall clock that is set back moves whatever ends by it, chosen already or
// not, and nothing beyond the last instant.
func TestEndsFollowTheWallClock(t *testing.T) {
	p := presence.DefaultPolicy()
	require.NoError(t, p.Set("statuses.away.drainsFirst", "true"))
	x := newSubject(t, p)
	x.login(0, "tab")
	x.do(1, presence.Event{Kind: presence.EventEndpoint, Endpoint: presence.Endpoint{ID: "phone", Kind: presence.EndpointPush, Until: second(900)}})
	x.do(1, presence.Event{Kind: presence.EventLoad, Load: presence.Load{N: 1}})
	x.do(2, presence.Event{Kind: presence.EventSetClaim, Actor: presence.Actor{Role: presence.RoleSystem}, Claim: presence.Claim{Status: "available", For: math.MaxInt64}})
	x.claim(2, presence.Claim{Status: "away", Until: second(1000)})
	x.do(2, presence.Event{Kind: presence.EventRequest, Actor: presence.Agent(ann), Claim: presence.Claim{Status: "busy", Until: second(1100)}})
	x.do(3, presence.Event{Kind: presence.EventClock, From: second(103), To: second(3)})
	require.Len(t, x.s.Claims, 1)
	require.Equal(t, presence.Instant(math.MaxInt64), x.s.Claims[0].Until)
	require.Equal(t, second(1000), x.s.Endpoints[0].Until)
	require.Equal(t, second(1100), x.s.Work.Pending.Until)
	require.Equal(t, second(1200), x.s.Work.Requests[0].Claim.Until)
}
