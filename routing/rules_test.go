package routing_test

import (
	"testing"
	"testing/synctest"

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
