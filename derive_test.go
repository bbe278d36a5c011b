package presence_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/presence-go/presence"
	"github.com/presence-go/presence/preset"
)

// A claim that a system puts above a choice to hide does not betray it.
func TestCallDoesNotBetrayTheInvisible(t *testing.T) {
	x := newSubject(t, preset.TawkTo())
	pbx := presence.Actor{Subject: presence.ID("pbx"), Role: presence.RoleSystem}
	x.login(0, "tab")
	x.claim(10, presence.Claim{Status: "invisible"})
	before := x.m.View(&x.s.Current, presence.AudienceVisitor)
	x.do(20, presence.Event{Kind: presence.EventSetClaim, Actor: pbx, Claim: presence.Claim{Status: "away", Source: presence.SourceCall}})
	require.Equal(t, "away", x.s.Current.Status)
	require.Equal(t, before, x.m.View(&x.s.Current, presence.AudienceVisitor))
	x.claim(30, presence.Claim{Status: "online"})
	require.Equal(t, "away", x.m.View(&x.s.Current, presence.AudienceVisitor).Status, "her own choice ends it")
}

// A status that a changed policy no longer has never becomes an available one.
func TestStatusGoneFromThePolicy(t *testing.T) {
	x := newSubject(t, preset.Threads())
	x.login(0, "tab")
	x.claim(1, presence.Claim{Status: "lunch"})
	next, err := presence.Compile(preset.RespondIO()) // has no status of class away at all
	require.NoError(t, err)
	x.m = next
	x.do(2, presence.Event{Kind: presence.EventPolicy})
	require.Equal(t, "busy", x.s.Current.Status)
	require.False(t, x.s.Current.Routable)
}
