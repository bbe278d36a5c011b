package presence_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/presence-go/presence"
	"github.com/presence-go/presence/preset"
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
		{"dnd, in a call", p, kind, func(x *subject) {
			x.claim(1, presence.Claim{Status: "quiet"})
			x.do(2, presence.Event{Kind: presence.EventSetClaim, Actor: presence.System(presence.ID("pbx")), Claim: presence.Claim{Source: presence.SourceCall, Status: "busy"}})
		}, "dnd", "the subject chose quiet"},
		{"looking", p, kind, func(x *subject) { x.do(1, presence.Event{Kind: presence.EventFocus, Conn: "tab", Channel: "sales"}) }, "here", "the subject is available: connected, and nothing else was chosen; it looks at the channel"},
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

// spoken is a claim in the order of the table below: the highest rank first.
type spoken struct {
	source presence.Source
	status string
}

// gateSources are the sources of claims from the top down. The first two rank above
// a choice, and the next two share its rank.
var gateSources = []presence.Source{
	presence.SourceSystem, presence.SourceCall, presence.SourceManual, presence.SourceSupervisor,
	presence.SourceCalendar, presence.SourceApp, presence.SourceLoginDefault,
}

// speaking returns the claims that speak, by the statement: from the top down, up
// to and including the first of the rank of a choice or below. Later claims of one
// rank precede.
func speaking(set []spoken) (list []spoken) {
	rank := func(c spoken) int {
		at := slices.Index(gateSources, c.source)
		if at == 3 {
			at = 2
		}
		return at
	}
	set = slices.Clone(set)
	slices.Reverse(set)
	for _, once := range gateSources[:3] { // claims under one key: the later replaces the earlier
		if i := slices.IndexFunc(set, func(c spoken) bool { return c.source == once }); i >= 0 && once != presence.SourceCall {
			set = append(set[:i+1:i+1], slices.DeleteFunc(slices.Clone(set[i+1:]), func(c spoken) bool { return c.source == once })...)
		}
	}
	slices.SortStableFunc(set, func(a, b spoken) int { return rank(a) - rank(b) })
	for _, c := range append(set, spoken{status: "default"}) {
		list = append(list, c)
		if c.source == "" || rank(c) >= 2 {
			return list
		}
	}
	return list
}

// How a subject can be reached, and how its last connection left.
var gateReaches = []struct {
	name string
	do   func(*subject)
	here bool // it looks at the channel
	gone bool
}{
	{name: "live"},
	{name: "looks", here: true, do: func(x *subject) { x.do(9, presence.Event{Kind: presence.EventFocus, Conn: "tab", Channel: "sales"}) }},
	{name: "looks elsewhere", do: func(x *subject) { x.do(9, presence.Event{Kind: presence.EventFocus, Conn: "tab", Channel: "desk"}) }},
	{name: "lingers", do: func(x *subject) {
		x.do(8, presence.Event{Kind: presence.EventFocus, Conn: "tab", Channel: "sales"})
		x.do(9, presence.Event{Kind: presence.EventDisconnect, Conn: "tab", Cause: presence.CauseClosed})
	}},
	{name: "logged out", gone: true, do: func(x *subject) { x.do(9, presence.Event{Kind: presence.EventLogout}) }},
	{name: "lost", gone: true, do: func(x *subject) {
		x.do(9, presence.Event{Kind: presence.EventDisconnect, Conn: "tab", Cause: presence.CauseLost})
		x.tick(40)
	}},
	{name: "endpoint", gone: true, do: func(x *subject) {
		x.do(8, presence.Event{Kind: presence.EventEndpoint, Endpoint: presence.Endpoint{ID: "p", Kind: presence.EndpointPush}})
		x.do(9, presence.Event{Kind: presence.EventLogout})
	}},
	{name: "idle", do: func(x *subject) {
		x.do(9, presence.Event{Kind: presence.EventFocus, Conn: "tab", Channel: "sales"})
		x.keep(25, 400, "tab")
	}},
}

// gateClasses has a status of each class that a claim can have.
var gateClasses = []presence.Status{
	{ID: "on", Class: presence.ClassAvailable}, {ID: "busy", Class: presence.ClassBusy}, {ID: "out", Class: presence.ClassAway},
	{ID: "quiet", Class: presence.ClassDND, HiddenFrom: []presence.Audience{presence.AudienceTeam}}, {ID: "off", Class: presence.ClassOffline},
}

// Faults 1 and 2: the column of the gate, by a table of the claims that speak and of
// the reach, for three claims of every source and class, and every reach.
func TestGateHearsEveryClaimThatSpeaks(t *testing.T) {
	t.Parallel()
	p := presence.DefaultPolicy()
	p.Statuses = append([]presence.Status{{ID: "default", Class: presence.ClassAvailable}}, gateClasses...)
	p.Statuses = append(p.Statuses, presence.Status{ID: "gone", Class: presence.ClassOffline})
	p.Default, p.Disconnected = "default", "gone"
	p.Idle = []presence.IdleStage{{After: 5 * time.Minute, To: "out", On: []string{"default", "on", "busy"}}}
	p.Virtual = map[string]presence.VirtualRule{"push": {Show: presence.ShowTop}}
	p.Gate = map[string]presence.GateRow{"push": {Here: presence.Skip, Available: presence.Deliver, Away: presence.Defer, Busy: presence.Deliver, DND: presence.Skip, Disconnected: presence.Defer}}
	m := mustCompile(p)
	claims := []spoken{{}}
	for _, source := range gateSources {
		for _, status := range gateClasses {
			claims = append(claims, spoken{source, status.ID})
		}
	}
	tried := 0
	for _, a := range claims {
		for _, b := range claims {
			for _, c := range []spoken{{}, {presence.SourceCall, "quiet"}, {presence.SourceCall, "busy"}, {presence.SourceManual, "quiet"}, {presence.SourceManual, "on"}, {presence.SourceCalendar, "quiet"}} {
				set := slices.DeleteFunc([]spoken{a, b, c}, func(s spoken) bool { return s == spoken{} })
				base := &subject{t: t, m: m}
				base.login(0, "tab")
				for i, s := range set {
					base.set(float64(i+1), s, fmt.Sprint("k", i))
				}
				for _, reach := range gateReaches {
					x := &subject{t: t, m: m, s: base.s.Clone()}
					if reach.do != nil {
						reach.do(x)
					}
					tried++
					voices := speaking(set)
					name := fmt.Sprintf("%v, %s: %+v", set, reach.name, x.s.Current)
					d := m.Gate(&x.s, presence.Notification{Kind: "push", Channel: "sales"})
					if want := gateTable(voices, reach.name == "idle", reach.gone, reach.here); d.Column != want {
						require.Equal(t, want, d.Column, name)
					}
					if hides := slices.ContainsFunc(voices, func(c spoken) bool { return c.status == "quiet" }); hides != (len(x.s.Current.HiddenFrom) > 0) {
						require.Equal(t, hides, !hides, "hidden: %s", name)
					}
				}
			}
		}
	}
	require.Equal(t, 36*36*6*len(gateReaches), tried)
}

// set sets a claim of a source. Every claim has a key of its own, but for a choice.
func (x *subject) set(at float64, c spoken, key string) {
	x.t.Helper()
	e := presence.Event{Kind: presence.EventSetClaim, Actor: presence.System(presence.ID("host")), Claim: presence.Claim{Source: c.source, Status: c.status, Key: key}}
	switch c.source {
	case presence.SourceManual:
		e.Actor, e.Claim.Key = presence.Agent(ann), ""
	case presence.SourceSystem:
		e.Claim.Key = presence.KeyLock // which no supervisor ends
	}
	x.do(at, e)
}

// gateTable is the table of columns, by the statement.
func gateTable(voices []spoken, idle, gone, here bool) string {
	top := voices[0].status
	switch {
	case slices.ContainsFunc(voices, func(c spoken) bool { return c.status == "quiet" }):
		return "dnd"
	case gone:
		return "disconnected"
	case top == "out" || top == "off" || idle: // the stage masks what is left
		return "away"
	case here:
		return "here" // which is stricter than busy
	case top == "busy":
		return "busy"
	}
	return "available"
}

// Fault 2: of the verdicts for here and for busy the stricter counts, for every pair
// of them.
func TestGateWhileBusyAndLooking(t *testing.T) {
	t.Parallel()
	verdicts := []presence.Verdict{presence.Deliver, presence.Defer, presence.Skip} // from the least strict
	for i, here := range verdicts {
		for j, busy := range verdicts {
			p := presence.DefaultPolicy()
			p.Gate = map[string]presence.GateRow{"push": {Here: here, Busy: busy, Available: presence.Defer}}
			x := newSubject(t, p)
			x.login(0, "tab")
			x.claim(1, presence.Claim{Status: "busy"})
			x.do(2, presence.Event{Kind: presence.EventFocus, Conn: "tab", Channel: "sales"})
			d := x.m.Gate(&x.s, presence.Notification{Kind: "push", Channel: "sales"})
			require.Equal(t, verdicts[max(i, j)], d.Verdict, "here %s, busy %s", here, busy)
			require.Equal(t, map[bool]string{true: "here", false: "busy"}[i > j], d.Column)
			d = x.m.Gate(&x.s, presence.Notification{Kind: "push", Channel: "desk"})
			require.Equal(t, busy, d.Verdict)
		}
	}
}

// Fault 3: a focus counts while its own connection has a sign of a person that is
// young enough, for every sign, device and age.
func TestGateBelievesNoUnattendedFocus(t *testing.T) {
	t.Parallel()
	focus := presence.Event{Kind: presence.EventFocus, Conn: "tab", Channel: "sales"}
	over := presence.Event{Kind: presence.EventSetClaim, Actor: presence.Agent(ann), Conn: "tab", Claim: presence.Claim{Status: "free"}}
	for _, tt := range []struct {
		name  string
		event presence.Event
		sign  bool
	}{
		{"focus", focus, true},
		{"input", presence.Event{Kind: presence.EventInput, Conn: "tab"}, true},
		{"own claim over it", over, true},
		{"reported input", presence.Event{Kind: presence.EventHeartbeat, Conn: "tab"}, true},
		{"heartbeat", presence.Event{Kind: presence.EventHeartbeat, Conn: "tab", Age: presence.NoAge}, false},
		{"reconnect", presence.Event{Kind: presence.EventConnect, Conn: "tab", Age: presence.NoAge}, false},
		{"shown", presence.Event{Kind: presence.EventVisible, Conn: "tab"}, false},
		{"input elsewhere", presence.Event{Kind: presence.EventInput, Conn: "phone"}, false},
		{"claim elsewhere", presence.Event{Kind: presence.EventSetClaim, Actor: presence.Agent(ann), Conn: "phone", Claim: presence.Claim{Status: "free"}}, false},
		{"claim over none", presence.Event{Kind: presence.EventSetClaim, Actor: presence.Agent(ann), Claim: presence.Claim{Status: "free"}}, false},
		{"claim of a system over it", presence.Event{Kind: presence.EventSetClaim, Actor: presence.System(presence.ID("host")), Conn: "tab", Claim: presence.Claim{Status: "free"}}, false},
		{"focus elsewhere", presence.Event{Kind: presence.EventFocus, Conn: "phone", Channel: "lobby"}, false},
	} {
		for _, activity := range [][]string{nil, {"login"}, {"input", "login", "claim", "focus"}} {
			for _, limit := range []time.Duration{0, 10 * time.Second, 2 * time.Minute} {
				p := presence.DefaultPolicy()
				p.Statuses = append(p.Statuses, presence.Status{ID: "free", Class: presence.ClassAvailable})
				p.Activity, p.GateHere, p.Idle = activity, limit, nil
				x := newSubject(t, p)
				x.do(0, presence.Event{Kind: presence.EventConnect, Conn: "tab", Age: presence.NoAge})
				x.do(0, presence.Event{Kind: presence.EventConnect, Conn: "phone", Age: presence.NoAge})
				x.do(0, focus)
				looks := func(at float64) bool {
					x.tick(at)
					d := x.m.Gate(&x.s, presence.Notification{Kind: "push", Channel: "sales"})
					require.Contains(t, []string{"here", "available"}, d.Column)
					return d.Column == "here"
				}
				until := 60.0
				if limit > 0 {
					until = limit.Seconds()
				}
				event := tt.event
				for at := 25.0; at <= 200; at += 25 {
					x.beat(at, "tab")
					x.beat(at, "phone")
				}
				require.False(t, looks(200))
				x.do(200, event)
				require.Equal(t, tt.sign, looks(200), tt.name)
				for at := 220.0; at < 200+until; at += 20 { // still heard, without a sign
					x.beat(at, "tab")
				}
				require.Equal(t, tt.sign, looks(200+until-0.001), tt.name)
				require.False(t, looks(200+until), tt.name)
			}
		}
	}
	require.ErrorContains(t, presenceFault(func(p *presence.Policy) { p.GateHere = -1 }), `invalid policy "gateHere": must not be negative`)
}

// presenceFault returns why a changed default policy does not compile.
func presenceFault(change func(*presence.Policy)) error {
	p := presence.DefaultPolicy()
	change(&p)
	_, err := presence.Compile(p)
	return err
}

// Faults 1 and 2 with claims of connections: they are folded before they speak.
func TestGateHearsFoldedClaims(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		fold   []string
		claims map[string]string // by connection
		column string
	}{
		{[]string{"quiet", "busy", "available"}, map[string]string{"a": "quiet"}, "dnd"},
		{[]string{"quiet", "busy", "available"}, map[string]string{"a": "quiet", "b": "busy"}, "dnd"},
		{[]string{"available", "busy", "quiet"}, map[string]string{"a": "quiet"}, "busy"}, // the other device votes for the default
		{[]string{"available", "busy", "quiet"}, map[string]string{"a": "quiet", "b": "quiet"}, "dnd"},
		{[]string{"available", "busy", "quiet"}, map[string]string{"a": "quiet", "b": "busy"}, "busy"},
	} {
		p := presence.DefaultPolicy()
		p.AddStatus(presence.Status{ID: "quiet", Class: presence.ClassDND})
		p.Fold = tt.fold
		x := newSubject(t, p)
		for _, conn := range []string{"a", "b"} {
			x.login(0, conn)
			if status := tt.claims[conn]; status != "" {
				x.claim(1, presence.Claim{Status: status, Conn: conn})
			}
		}
		for i, call := range []presence.Claim{{Status: "busy"}, {Status: "busy", Conn: "a"}} {
			call.Source = presence.SourceCall
			x.do(2, presence.Event{Kind: presence.EventSetClaim, Actor: presence.System(presence.ID("pbx")), Claim: call})
			if i == 0 {
				d := x.m.Gate(&x.s, presence.Notification{Kind: "push"})
				require.Equal(t, tt.column, d.Column, "%v", tt)
			}
		}
	}
}
