package presence_test

import (
	"encoding/json"
	"fmt"
	"slices"
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

// An audience sees exactly the fields that the policy grants it, without those that the
// status omits, which only the subject itself and admins then see.
func TestViewsShowWhatIsGranted(t *testing.T) {
	t.Parallel()
	fields := strings.Fields("since setAt until reason text cause masked lastSeen lastLogin routable routableOn work threads pinned pending request devices")
	p := presence.Presence{
		Subject: ann, Kind: presence.KindBot, Known: true, Status: "busy", Class: presence.ClassBusy, Since: second(1), SetAt: second(2), Until: second(3),
		Reason: "why", Text: "back soon", Cause: presence.CauseManual, Masked: "away", LastSeen: second(4), LastLogin: second(5), Routable: true,
		RoutableOn: presence.NewWorkChannels("calls"), Label: "free", Load: presence.NewCount(0), Pinned: presence.NewCount(1), Pending: "away", Request: "offline", Devices: 2,
	}
	keys := func(m *presence.Machine, a presence.Audience) (list []string) {
		data, err := json.Marshal(m.View(&p, a))
		require.NoError(t, err)
		var object map[string]any
		require.NoError(t, json.Unmarshal(data, &object))
		for key := range strings.FieldsSeq("id kind status class label color") {
			require.Contains(t, object, key)
			delete(object, key)
		}
		for key := range object {
			list = append(list, key)
		}
		return list
	}
	for i, field := range fields {
		policy := presence.DefaultPolicy()
		policy.Views = map[presence.Audience][]string{"team": {field}, "self": fields, "admin": fields, "supervisor": fields}
		require.Equal(t, []string{field}, keys(mustCompile(policy), presence.AudienceTeam))
		policy.Statuses[2].Omits = []string{field}
		m := mustCompile(policy)
		require.Empty(t, keys(m, presence.AudienceTeam), field)
		require.ElementsMatch(t, fields, keys(m, presence.AudienceSelf), field)
		require.ElementsMatch(t, fields, keys(m, presence.AudienceAdmin), field)
		require.ElementsMatch(t, append(append([]string(nil), fields[:i]...), fields[i+1:]...), keys(m, presence.AudienceSupervisor), field)
	}
	m := mustCompile(presence.DefaultPolicy())
	require.Equal(t, presence.View{Subject: ann, Kind: presence.KindBot, Status: "busy", Class: presence.ClassBusy, Label: "Busy", Color: "#d04437"}, m.View(&p, presence.AudienceVisitor))
	p.Kind, p.Status = presence.KindHuman, "retired"
	require.Equal(t, presence.View{Subject: ann, Status: "retired", Class: presence.ClassBusy, Label: "retired"}, m.View(&p, presence.AudienceVisitor))
	policy := presence.DefaultPolicy()
	policy.Views = map[presence.Audience][]string{"visitor": {"cause"}}
	for cause, want := range map[presence.Cause]presence.Cause{presence.CauseManual: "", presence.CauseLeft: presence.CauseLeft} {
		p.Cause = cause
		require.Equal(t, want, mustCompile(policy).View(&p, presence.AudienceVisitor).Cause)
	}
	for _, a := range []presence.Audience{"self", "team", "supervisor", "admin", "visitor", "router"} {
		require.Equal(t, presence.View{Subject: ann, Status: "unknown"}, m.View(&presence.Presence{Subject: ann, Kind: presence.KindBot, Disabled: true}, a))
		want := presence.View{Subject: ann, Status: "unknown"}
		if a == presence.AudienceSelf || a == presence.AudienceAdmin {
			want.Status = "disabled"
		}
		p.Disabled = true
		require.Equal(t, want, m.View(&p, a))
	}
}

// Explain lists the claims from the highest rank, within it from the latest, and of one
// instant from the last that was set.
func TestExplainedInOrder(t *testing.T) {
	t.Parallel()
	p := presence.DefaultPolicy()
	p.Sources = [][]presence.Source{{presence.SourceSystem}, {presence.SourceCall, presence.SourceCalendar, presence.SourceApp}, {presence.SourceSupervisor, presence.SourceManual}, {presence.SourceLoginDefault}}
	x := newSubject(t, p)
	x.login(0, "tab")
	for _, c := range []struct {
		at     float64
		source presence.Source
	}{{1, presence.SourceCall}, {1, presence.SourceCalendar}, {2, presence.SourceApp}, {3, presence.SourceManual}} {
		x.do(c.at, presence.Event{Kind: presence.EventSetClaim, Actor: presence.System(presence.ID("host")), Claim: presence.Claim{Status: "busy", Source: c.source}})
	}
	lines := slices.DeleteFunc(x.m.Explain(&x.s, presence.AudienceSelf), func(line string) bool { return !strings.HasPrefix(line, "claim ") })
	claim := func(source string, seconds float64) string {
		return "claim busy (" + source + ") set by host at " + second(seconds).String()
	}
	require.Equal(t, []string{claim("app", 2), claim("calendar", 1), claim("call", 1), claim("manual", 3)}, lines)
}
