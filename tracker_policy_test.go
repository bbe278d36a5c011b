package presence

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
)

// A refused connection leaves no tenant behind.
func TestRefusedTenantsTakeNoRoom(t *testing.T) {
	t.Parallel()
	tracker, err := New(&Options{MaxSubjects: 1})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, tracker.Close()) })
	connect := func(ref Ref) error {
		_, err := tracker.Connect(t.Context(), ref, ConnectOptions{})
		return err
	}
	require.NoError(t, connect(ID("ann")))
	for i := range 100 {
		require.ErrorIs(t, connect(Ref{fmt.Sprint("t", i), "ann"}), ErrLimit)
	}
	require.Len(t, *tracker.tenants.list.Load(), 1)
}
