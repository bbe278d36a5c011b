package edge_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/presence-go/presence"
	"github.com/presence-go/presence/adapters/internal/edge"
)

func TestFaultsAreReportedTogether(t *testing.T) {
	f := edge.NewFaults("wire")
	require.NoError(t, f.Err())
	f.Tracker(nil)
	f.Add("Burst", "%d is odd", 3)
	err := f.Err()
	require.ErrorIs(t, err, presence.ErrInvalid)
	require.EqualError(t, err, "wire: invalid tracker: it is nil\nwire: invalid option \"Burst\": 3 is odd")
}

func TestAtLeast(t *testing.T) {
	f := edge.NewFaults("wire")
	zero, low, exact := 0, 1, 2
	edge.AtLeast(f, "Zero", &zero, 7, 2)
	edge.AtLeast(f, "Exact", &exact, 7, 2)
	require.NoError(t, f.Err())
	require.Equal(t, []int{7, 2}, []int{zero, exact})
	edge.AtLeast(f, "Low", &low, 7, 2)
	wait := -time.Second
	edge.AtLeast(f, "Wait", &wait, time.Second, time.Millisecond)
	require.EqualError(t, f.Err(), "wire: invalid option \"Low\": 1 is too small, at least 2 is needed\nwire: invalid option \"Wait\": -1s is too small, at least 1ms is needed")
}

func TestWord(t *testing.T) {
	for word, sentinel := range map[string]error{
		"invalid": presence.ErrInvalid, "unknown": presence.ErrUnknown, "not-allowed": presence.ErrNotAllowed, "limit": presence.ErrLimit, "stale": presence.ErrStale,
		"offline": presence.ErrOffline, "disabled": presence.ErrDisabled, "closed": presence.ErrClosed, "unavailable": presence.ErrUnavailable,
	} {
		require.Equal(t, word, edge.Word(fmt.Errorf("presence: %w", sentinel)))
		require.Equal(t, "unavailable", edge.Word(fmt.Errorf("presence: %w: %w", presence.ErrUnavailable, sentinel)), "what storage says is not for clients")
	}
	require.Equal(t, "unavailable", edge.Word(presence.ErrConflict))
	require.Equal(t, "unavailable", edge.Word(errors.New("disk full")))
}

func TestAllowed(t *testing.T) {
	err := fmt.Errorf("tracker: %w", &presence.Error{Err: presence.ErrUnknown, What: "status", Allowed: []string{"away", "busy"}})
	require.Equal(t, []string{"away", "busy"}, edge.Allowed(err))
	require.Nil(t, edge.Allowed(presence.ErrUnknown))
}
