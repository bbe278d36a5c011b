package presence_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/presence-go/presence"
	"github.com/presence-go/presence/preset"
)

// H11: a printed value shows what it is.
func TestValuesPrint(t *testing.T) {
	until := presence.At(time.Date(2026, 1, 5, 9, 30, 0, 0, time.UTC))
	for want, value := range map[string]any{
		"ann: busy until 2026-01-05T09:30:00Z": presence.View{Subject: ann, Status: "busy", Until: until},
		"acme/ann: unknown":                    presence.View{Subject: presence.Ref{Tenant: "acme", ID: "ann"}, Status: presence.StatusUnknown},
		"5":                                    presence.NewCount(5),
		"0":                                    presence.NewCount(0),
		"":                                     presence.Count{},
		"supervisor kim":                       presence.Supervisor(presence.ID("kim")),
		"agent ann":                            presence.Actor{Subject: ann},
		"acme/sales":                           presence.Channel{Tenant: "acme", ID: "sales"},
	} {
		require.Equal(t, want, fmt.Sprint(value))
	}
	for n, want := range map[presence.Count]string{{}: "null", presence.NewCount(0): "0", presence.NewCount(5): "5"} {
		data, err := json.Marshal(n)
		require.NoError(t, err)
		require.Equal(t, want, string(data))
		back := presence.NewCount(7)
		require.NoError(t, json.Unmarshal(data, &back))
		require.Equal(t, n, back)
	}
}

// TestPresent: a view is present where the group counts it.
func TestPresent(t *testing.T) {
	tracker := crowd(t, presence.Options{})
	for _, by := range readers() {
		views, group, err := tracker.ListAs(t.Context(), by.Audience(), sales, nil)
		require.NoError(t, err)
		n := 0
		for _, v := range views {
			if v.Present() {
				n++
			}
		}
		require.Equal(t, group.Count, n, by.String())
	}
	require.False(t, presence.View{Status: presence.StatusUnknown}.Present())
	require.False(t, presence.View{Status: presence.StatusDisabled}.Present())
}

// An audience that is shown devices sees each connect and, after its grace, leave.
// No other audience notices. A policy cannot show devices to an audience that can
// be hidden from.
func TestDevicesAreCountedForThoseWhoAreShownThem(t *testing.T) {
	policy := presence.DefaultPolicy()
	policy.Views = map[presence.Audience][]string{presence.AudienceTeam: {"devices"}}
	x := newSubject(t, policy)
	r := presence.NewRoster(sales, x.m)
	for _, a := range []presence.Audience{presence.AudienceTeam, presence.AudienceVisitor} {
		r.Open(a, presence.Ref{}, func() string { return "1" })
	}
	put := func(at float64, e presence.Event) (frames []*presence.Frame) {
		for _, o := range x.do(at, e) {
			if o.Kind == presence.OutputTransition || o.Kind == presence.OutputUpdated {
				frames = append(frames, r.Put(&o.Presence, o.Noticed)...)
			}
		}
		return frames
	}
	connect := presence.Event{Kind: presence.EventConnect, Conn: "tab", Age: presence.NoAge}
	require.Len(t, put(0, connect), 2)
	connect.Conn = "phone"
	frames := put(1, connect)
	require.Len(t, frames, 1, "the visitor sees no difference")
	require.Equal(t, presence.OpUpdated, frames[0].Changes[0].Op)
	require.Equal(t, 2, frames[0].Changes[0].View.Devices)
	require.Empty(t, put(2, connect), "resumed")
	require.Empty(t, put(3, presence.Event{Kind: presence.EventDisconnect, Conn: "phone", Cause: presence.CauseClosed}))
	require.Empty(t, put(7.9, presence.Event{Kind: presence.EventTick}))
	frames = put(8, presence.Event{Kind: presence.EventTick})
	require.Len(t, frames, 1)
	require.Equal(t, 1, frames[0].Changes[0].View.Devices)

	policy = preset.TawkTo()
	policy.Views = map[presence.Audience][]string{presence.AudienceVisitor: {"devices"}}
	_, err := presence.Compile(policy)
	require.ErrorContains(t, err, `invalid policy "views.visitor": "devices" is not for an audience that can be hidden from`)
}

// Explain names the connections, the claims, the highest first, and the work.
func TestExplainedClaimsAndWork(t *testing.T) {
	t.Parallel()
	p := presence.DefaultPolicy()
	p.ClaimScope, p.Work.Capacity = presence.ScopeConnection, 3
	x := newSubject(t, p)
	x.login(0, "tab")
	x.login(0, "phone")
	at := func(seconds float64) string { return second(seconds).String() }
	x.do(1, presence.Event{Kind: presence.EventSetClaim, Conn: "tab", Actor: presence.Agent(ann), Claim: presence.Claim{Status: "busy", Until: second(600)}})
	x.do(2, presence.Event{Kind: presence.EventSetClaim, Actor: boss, Claim: presence.Claim{Status: "busy"}})
	x.do(3, presence.Event{Kind: presence.EventLoad, Load: presence.Load{On: "chat", N: 2}})
	x.do(4, presence.Event{Kind: presence.EventSetClaim, Conn: "phone", Actor: presence.Agent(ann), Claim: presence.Claim{Status: "away"}})
	x.do(5, presence.Event{Kind: presence.EventDisconnect, Conn: "phone", Cause: presence.CauseClosed})
	lines := x.m.Explain(&x.s, presence.AudienceAdmin)
	for _, want := range []string{
		"1 of 2 connections live",
		"connection phone left (closed) at " + at(5) + ", counts until " + at(10),
		"claim busy (supervisor) set by boss at " + at(2),
		"claim busy (manual) set by ann at " + at(1) + " on connection tab, until " + at(600),
		"2 pieces of work in chat, room for 1 more",
	} {
		require.Contains(t, lines, want)
	}
	require.NotContains(t, strings.Join(x.m.Explain(&x.s, presence.AudienceTeam), ""), "connection ")
}
