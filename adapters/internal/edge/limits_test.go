package edge_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/presence-go/presence"
	"github.com/presence-go/presence/adapters/internal/edge"
)

func TestBucketTakes(t *testing.T) {
	b := edge.NewBucket(time.Hour, 3)
	take := func(at time.Duration) bool { return b.Take(time.Hour+at, 2, 3) }
	for range 3 {
		require.True(t, take(0))
	}
	require.False(t, take(0))
	require.False(t, take(499*time.Millisecond))
	require.True(t, take(500*time.Millisecond), "what was refused took nothing")
	require.False(t, take(-time.Hour), "time that goes back gives nothing")
	require.True(t, take(0))
	for range 3 {
		require.True(t, take(time.Hour), "no more than the burst is kept")
	}
	require.False(t, take(time.Hour))
}

func TestBucketLends(t *testing.T) {
	b := edge.NewBucket(0, 1)
	require.Zero(t, b.Borrow(0, 4, 1))
	require.Equal(t, 250*time.Millisecond, b.Borrow(0, 4, 1))
	require.Equal(t, 500*time.Millisecond, b.Borrow(0, 4, 1))
	require.Zero(t, b.Borrow(time.Second, 4, 1))
}

func TestStrikesOfOneMinute(t *testing.T) {
	var s edge.Strikes
	for i := range 10 * edge.MaxStrikes {
		require.False(t, s.Add(time.Duration(i)*time.Minute/(edge.MaxStrikes-1)), "19 a minute are forgiven")
	}
	s = nil
	for i := range edge.MaxStrikes {
		require.Equal(t, i == edge.MaxStrikes-1, s.Add(time.Duration(i)*time.Second))
	}
}

func TestSeats(t *testing.T) {
	ann, bob := presence.ID("ann"), presence.ID("bob")
	s := edge.NewSeats("wire", "sessions", 3, 2)
	require.Nil(t, s.Take(ann))
	require.Nil(t, s.Take(ann))
	require.Equal(t, &edge.Refusal{Status: http.StatusTooManyRequests, Text: "wire: limit sessions: ann has 2 open, no more are allowed"}, s.Take(ann))
	require.Nil(t, s.Take(bob))
	require.Equal(t, &edge.Refusal{Status: http.StatusServiceUnavailable, Text: "wire: limit sessions: 3 are open, no more are allowed"}, s.Take(bob))
	require.NotNil(t, s.Move(bob, ann), "ann has all she may have")
	require.Nil(t, s.Move(ann, ann))
	require.Nil(t, s.Move(ann, bob))
	require.NotNil(t, s.Move(ann, bob))
	s.Give(ann)
	require.Nil(t, s.Take(ann))
	s.Give(bob)
	s.Close()
	require.Equal(t, &edge.Refusal{Status: http.StatusServiceUnavailable, Text: "wire: the server is shutting down"}, s.Take(bob))
}

func TestSeatsOfOneTenantAreItsOwn(t *testing.T) {
	s := edge.NewSeats("wire", "sessions", 3, 1)
	require.Nil(t, s.Take(presence.Ref{Tenant: "a", ID: "ann"}))
	require.Nil(t, s.Take(presence.Ref{Tenant: "b", ID: "ann"}))
	require.NotNil(t, s.Take(presence.Ref{Tenant: "b", ID: "ann"}))
	all := edge.NewSeats("pusher", "sockets", 2, 0)
	require.Nil(t, all.Take(presence.Ref{}))
	require.Nil(t, all.Take(presence.Ref{}), "no limit by subject")
	require.NotNil(t, all.Take(presence.Ref{}))
}
