package routing_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/presence-go/presence"
	"github.com/presence-go/presence/preset"
	"github.com/presence-go/presence/routing"
)

// Start makes given work started. Work that no agent has cannot be started (B9).
func TestStartedWorkSaysSo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, preset.Threads(), routing.Options{})
		waits, err := h.queue.Add(t.Context(), routing.Work{ID: "w", Channel: desk, To: ann})
		require.NoError(t, err)
		require.Equal(t, routing.Waiting, waits.Place)
		_, err = h.queue.Start("w")
		require.ErrorIs(t, err, presence.ErrInvalid)
		_, err = h.queue.Start("none")
		require.ErrorIs(t, err, presence.ErrUnknown)

		h.employ(t, ann, "active")
		require.NoError(t, h.queue.Step(t.Context()))
		given, ok := h.queue.Get("w")
		require.True(t, ok)
		require.Equal(t, routing.Given, given.Place)
		require.False(t, given.Started)
		started, err := h.queue.Start("w")
		require.NoError(t, err)
		require.True(t, started.Started)
		again, err := h.queue.Assign(t.Context(), boss, "w", ann)
		require.NoError(t, err)
		require.Equal(t, started, again, "who has the work already keeps it as it is")
	})
}

// A message of an unknown client is refused, like one without a name.
func TestClientsWithoutAName(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, preset.Threads(), routing.Options{})
		_, err := h.queue.Message(t.Context(), "stranger")
		require.ErrorIs(t, err, presence.ErrUnknown)
		for _, id := range []string{"a", "b"} {
			_, err = h.queue.Add(t.Context(), routing.Work{ID: id, Channel: desk})
			require.NoError(t, err)
		}
		_, err = h.queue.Message(t.Context(), "")
		require.ErrorIs(t, err, presence.ErrUnknown)
		require.Len(t, h.queue.List(desk), 2)
	})
}

// A client stays with the agent that did its work, although another agent loses other
// work of it. It belongs to that agent no longer once that agent itself loses work of
// it.
func TestWhatUnbindsAClient(t *testing.T) {
	sales := presence.ChannelID("sales")
	begin := func(t *testing.T) *house {
		h := newHouse(t, chats(func(w *presence.WorkRule) { w.Affinity = time.Hour }), routing.Options{})
		h.employ(t, ann, "online")
		require.Equal(t, "ann", h.ask(t, "w1"))
		h.employ(t, bob, "online")
		for _, agent := range []presence.Ref{ann, bob} {
			require.NoError(t, h.AddMember(t.Context(), sales, agent))
		}
		h.finish(t, "w1")
		for _, id := range []string{"x", "y", "z"} { // bob has less to do
			h.add(t, id)
			_, err := h.queue.Assign(t.Context(), boss, id, ann)
			require.NoError(t, err)
		}
		require.Equal(t, "ann", h.ask(t, "w2"), "the client belongs to ann")
		return h
	}
	t.Run("another agent loses work", func(t *testing.T) {
		h := begin(t)
		h.finish(t, "w2")
		require.Equal(t, "ann", h.ask(t, "w3"))
		_, err := h.queue.Assign(t.Context(), boss, "w3", bob)
		require.NoError(t, err)
		_, err = h.queue.Transfer(t.Context(), boss, "w3", sales)
		require.NoError(t, err)
		require.Equal(t, "ann", h.place(t, "w3"))
	})
	t.Run("its agent loses work", func(t *testing.T) {
		h := begin(t)
		for _, agent := range []presence.Ref{ann, bob} {
			_, err := h.queue.Decline(t.Context(), "w2", agent)
			require.NoError(t, err)
		}
		require.Equal(t, "queued", h.place(t, "w2"))
		require.Equal(t, "bob", h.ask(t, "w3"))
	})
}

// ask adds a piece of work of one client and returns its place.
func (h *house) ask(t *testing.T, id string) string {
	t.Helper()
	_, err := h.queue.Add(t.Context(), routing.Work{ID: id, Channel: desk, Client: "kim"})
	require.NoError(t, err)
	return h.place(t, id)
}
