package presence_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/presence-go/presence"
)

// Reads of unknown ids take no room from subjects that connect.
func TestReadsOfUnknownIDsTakeNoRoom(t *testing.T) {
	t.Parallel()
	tracker := newTracker(t, &presence.Options{Storage: inMemory(0), MaxSubjects: 2})
	for i := range 10 {
		ref := presence.ID(fmt.Sprint("nobody-", i))
		v, err := tracker.GetAs(t.Context(), presence.AudienceTeam, ref)
		require.NoError(t, err)
		require.Equal(t, presence.StatusUnknown, v.Status)
		_, err = tracker.SetClaim(t.Context(), presence.Agent(ref), ref, presence.Claim{Status: "busy"})
		require.ErrorIs(t, err, presence.ErrUnknown)
	}
	for _, ref := range []presence.Ref{ann, bob} {
		_, err := tracker.Connect(t.Context(), ref, presence.ConnectOptions{})
		require.NoError(t, err)
	}
}

// An event that is refused for an unknown subject takes no room.
func TestRefusedEventsOfUnknownIDsTakeNoRoom(t *testing.T) {
	t.Parallel()
	tracker := newTracker(t, &presence.Options{MaxSubjects: 1})
	for i := range 100 {
		stranger := presence.Ref{Tenant: fmt.Sprint("tenant", i%2), ID: fmt.Sprint("made-up-", i)}
		require.ErrorIs(t, tracker.Heartbeat(stranger, "tab"), presence.ErrUnknown)
		for _, e := range []presence.Event{
			{Kind: presence.EventInput, Conn: "tab"},
			{Kind: presence.EventFocus, Conn: "tab"},
			{Kind: presence.EventVisible, Conn: "tab"},
			{Kind: presence.EventDisconnect, Conn: "tab", Cause: presence.CauseClosed},
			{Kind: presence.EventEndClaim, Actor: presence.Agent(stranger)},
			{Kind: presence.EventOffer},
			{Kind: presence.EventDone},
			{Kind: presence.EventChallenge},
			{Kind: presence.EventAck},
			{Kind: presence.EventRequest, Actor: presence.Agent(stranger), Claim: presence.Claim{Status: "busy"}},
			{Kind: presence.EventWithdraw, Actor: presence.Agent(stranger)},
			{Kind: presence.EventDecide, Actor: presence.Actor{Subject: presence.Ref{Tenant: stranger.Tenant, ID: "boss"}, Role: presence.RoleSupervisor}},
		} {
			e.Subject = stranger
			require.ErrorIs(t, tracker.Apply(t.Context(), e), presence.ErrUnknown, "%d", e.Kind)
		}
	}
	_, err := tracker.Connect(t.Context(), ann, presence.ConnectOptions{})
	require.NoError(t, err)
}

// The place of an erased subject serves another one. Handles of the erased subject
// change nothing for it.
func TestErasedSubjectsHandlesReachNobodyElse(t *testing.T) {
	tracker := newTracker(t, nil)
	ctx := t.Context()
	for i := range 2000 { // so that names and records are used again
		who := presence.ID(fmt.Sprintf("%0100d", i))
		require.NoError(t, tracker.AddMember(ctx, sales, who))
		c, err := tracker.Connect(ctx, who, presence.ConnectOptions{ID: "tab"})
		require.NoError(t, err)
		require.NoError(t, c.Heartbeat())
		require.NoError(t, tracker.Erase(ctx, who))
		require.ErrorIs(t, c.Heartbeat(), presence.ErrUnknown)
		require.ErrorIs(t, tracker.Heartbeat(who, "tab"), presence.ErrUnknown)
	}
	views, _, err := tracker.ListAs(ctx, presence.AudienceTeam, sales, nil)
	require.NoError(t, err)
	require.Empty(t, views)
	c, err := tracker.Connect(ctx, ann, presence.ConnectOptions{ID: "tab"})
	require.NoError(t, err)
	require.NoError(t, c.Heartbeat())
	v, err := tracker.GetAs(ctx, presence.AudienceTeam, ann)
	require.NoError(t, err)
	require.Equal(t, "available", v.Status)
}
