package presence

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A stream keeps nothing of members who have gone: when they were last spoken of
// can be seen from within only.
func TestStreamsForgetThoseWhoLeft(t *testing.T) {
	t.Parallel()
	policy := DefaultPolicy()
	policy.Publish = time.Second
	m, err := Compile(policy)
	require.NoError(t, err)
	r := NewRoster(ID("sales"), m)
	r.Open(AudienceTeam, Ref{}, func() string { return "1" })
	s := r.streams[newStreamKey(AudienceTeam, Ref{})]
	now := Instant(1)
	for i := range 100 {
		p := Presence{Subject: ID(fmt.Sprint(i)), Known: true, Status: "available", Class: ClassAvailable}
		r.Put(p, now)
		if i%2 == 0 {
			now = now.Add(policy.Publish) // otherwise it has gone before it may be said
		}
		r.Remove(p.Subject, now)
		if i%3 == 0 {
			r.Put(p, now)
			r.Remove(p.Subject, now)
		}
	}
	for at, ok := r.Next(); ok; at, ok = r.Next() {
		r.Flush(at)
	}
	require.Empty(t, s.rows)
	require.Empty(t, s.sent)
	require.Empty(t, s.pending)
}

// Nobody who is refused leaves a tenant behind.
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
