package presence_test

import (
	"testing"

	"github.com/presence-go/presence"
	"github.com/presence-go/presence/preset"
	"github.com/stretchr/testify/require"
)

// The gate decides by the column that fits the subject. A status that is chosen
// and masked decides before the status that is shown.
func TestGateColumns(t *testing.T) {
	t.Parallel()
	p := presence.DefaultPolicy()
	p.AddStatus(presence.Status{ID: "quiet", Class: presence.ClassDND})
	p.Gate = preset.ThriveDesk().Gate
	disabled := p.Clone()
	disabled.Disabled = true
	const kind = "push"
	require.Contains(t, p.Gate, kind)
	chooses := func(status string) func(*subject) {
		return func(x *subject) { x.claim(1, presence.Claim{Status: status}) }
	}
	for _, tt := range []struct {
		name   string
		policy presence.Policy
		kind   string
		do     func(*subject)
		column string
		reason string
	}{
		{"not gated", p, "letter", chooses("busy"), "", "the policy does not gate this kind"},
		{"switched off", disabled, kind, func(*subject) {}, "", "presence is switched off and decides nothing"},
		{"available", p, kind, func(*subject) {}, "available", "the subject is available: connected, and nothing else was chosen"},
		{"busy", p, kind, chooses("busy"), "busy", "the subject is busy: chosen by hand"},
		{"dnd", p, kind, chooses("quiet"), "dnd", "the subject is quiet: chosen by hand"},
		{"away", p, kind, chooses("away"), "away", "the subject is away: chosen by hand"},
		{"left", p, kind, func(x *subject) { x.do(1, presence.Event{Kind: presence.EventLogout}) }, "disconnected", "the subject is offline: not connected, after a logout or never"},
		{"dnd, left", p, kind, func(x *subject) {
			x.claim(1, presence.Claim{Status: "quiet"})
			x.do(2, presence.Event{Kind: presence.EventDisconnect, Conn: "tab", Cause: presence.CauseClosed})
			x.tick(60)
		}, "dnd", "the subject chose quiet"},
		{"looking", p, kind, func(x *subject) { x.do(1, presence.Event{Kind: presence.EventFocus, Conn: "tab", Channel: "sales"}) }, "here", "the subject is available: connected, and nothing else was chosen"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			x := newSubject(t, tt.policy)
			x.login(0, "tab")
			tt.do(x)
			d := x.m.Gate(&x.s, presence.Notification{Kind: tt.kind, Channel: "sales"})
			require.Equal(t, tt.column, d.Column)
			require.Equal(t, tt.reason, d.Reason)
		})
	}
	x := newSubject(t, p)
	d := x.m.Gate(&x.s, presence.Notification{Kind: kind})
	require.Equal(t, presence.Skip, d.Verdict)
	require.Equal(t, "nothing is known of the subject", d.Reason)
}
