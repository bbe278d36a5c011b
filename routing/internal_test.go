package routing

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/presence-go/presence"
)

// A queue keeps nothing of work that it has forgotten, nor of agents without work. Its
// options have the defaults that they state.
func TestNothingIsKept(t *testing.T) {
	tracker, err := presence.New(nil)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, tracker.Close()) })
	desk, ann := presence.ChannelID("desk"), presence.ID("ann")
	require.NoError(t, tracker.AddMember(t.Context(), desk, ann))
	_, err = tracker.Connect(t.Context(), ann, presence.ConnectOptions{Login: true})
	require.NoError(t, err)
	q, err := New(tracker, nil)
	require.NoError(t, err)
	require.Equal(t, [2]int{1_000_000, 10_000}, [2]int{q.opts.MaxWork, q.opts.MaxDone})
	q.opts.MaxDone = 1
	for _, w := range []Work{{ID: "1", Client: "kim"}, {ID: "2", Client: "kim", To: ann}, {ID: "3", Client: "lee"}, {ID: "4"}} {
		w.Channel = desk
		given, err := q.Add(t.Context(), w)
		require.NoError(t, err)
		require.Equal(t, Given, given.Place)
	}
	waits, err := q.Add(t.Context(), Work{ID: "5", Client: "kim", Channel: presence.ChannelID("nobody")})
	require.NoError(t, err)
	require.Equal(t, Waiting, waits.Place)
	for _, id := range []string{"5", "1", "2", "3", "4"} {
		_, err = q.Finish(t.Context(), id)
		require.NoError(t, err)
	}
	require.Len(t, q.work, 1, "what is done last")
	require.Len(t, q.done, 1)
	require.Empty(t, q.lines)
	require.Empty(t, q.heads)
	require.Empty(t, q.given)
	require.Empty(t, q.offers)
	require.Empty(t, q.clients)
}
