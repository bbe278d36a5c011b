package presence_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/presence-go/presence"
)

// wholePolicy has each part of a policy, with every word and duration that a machine
// takes for an empty one.
func wholePolicy() presence.Policy {
	p := presence.DefaultPolicy()
	p.Statuses[1].RoutingOn = map[string]presence.Routing{"calls": presence.RouteSticky}
	p.Activity = []string{"input"}
	p.Devices = map[string]presence.DeviceRule{"kiosk": {}}
	p.Virtual = map[string]presence.VirtualRule{"push": {}}
	p.Sources, p.SourceFor = presence.DefaultSources(), map[presence.Source]time.Duration{"call": time.Hour}
	p.Gate, p.GateHere = map[string]presence.GateRow{"push": {}}, time.Minute
	return mustCompile(p).Policy()
}

// set returns a policy with another value at a path.
func set(t *testing.T, p presence.Policy, path, value string) presence.Policy {
	t.Helper()
	require.NoError(t, p.Set(path, value), "%s = %q", path, value)
	return p
}

// A word of a policy is one of those that are allowed, of which an empty one means the
// first. The fault of any other lists them.
func TestWordsOfPolicies(t *testing.T) {
	t.Parallel()
	whole := wholePolicy()
	for path, allowed := range map[string]string{
		"claimScope":                   "subject connection",
		"logoutScope":                  "session account",
		"supervisorWhenOffline":        "mask refuse",
		"scheduleOpenEmpty":            "offline visible",
		"widget.list":                  "all online none",
		"group.available":              "available away offline",
		"group.away":                   "away available offline",
		"group.busy":                   "away available offline",
		"group.dnd":                    "away available offline",
		"grace.lossFrom":               "report lease",
		"gate.push.here":               "deliver skip defer",
		"gate.push.available":          "deliver skip defer",
		"gate.push.away":               "deliver skip defer",
		"gate.push.busy":               "deliver skip defer",
		"gate.push.dnd":                "deliver skip defer",
		"gate.push.disconnected":       "deliver skip defer",
		"work.supervisorDrain":         "drain requeue",
		"work.withdrawOn":              "logout closed never",
		"work.returns":                 "over capacity",
		"work.order":                   "least-loaded longest-idle round-robin",
		"devices.kiosk.grace.lossFrom": "report lease",
	} {
		words := strings.Fields(allowed)
		for _, word := range words {
			p := set(t, whole, path, word)
			require.Equal(t, p, mustCompile(p).Policy(), "%s = %s", path, word)
		}
		require.Equal(t, set(t, whole, path, words[0]), mustCompile(set(t, whole, path, "")).Policy(), "%s is empty", path)
		_, err := presence.Compile(set(t, whole, path, "moon"))
		require.EqualError(t, err, fmt.Sprintf(`presence: invalid policy %q: "moon" is not allowed; allowed: %s`, path, strings.Join(words, ", ")))
	}
}

// No duration of a policy is negative. Some have a default for 0.
func TestDurationsOfPolicies(t *testing.T) {
	t.Parallel()
	whole := wholePolicy()
	for path, byDefault := range map[string]string{
		"heartbeat": "25s", "startupGrace": "30s", "work.challenge": "1m", "publish": "0", "batch": "0", "gateHere": "0",
		"statuses.busy.for": "0", "statuses.busy.keeps": "0",
		"grace.logout": "0", "grace.close": "0", "grace.loss": "0", "grace.node": "0", "grace.drain": "0",
		"devices.kiosk.grace.logout": "0", "devices.kiosk.grace.drain": "0",
		"work.requeueAfter": "0", "work.settle": "0", "work.wrapUp": "0", "work.requestFor": "0", "work.affinity": "0", "work.acceptWithin": "0",
	} {
		p := set(t, whole, path, "1ns")
		require.Equal(t, p, mustCompile(p).Policy(), path)
		require.Equal(t, set(t, whole, path, byDefault), mustCompile(set(t, whole, path, "0")).Policy(), path)
		_, err := presence.Compile(set(t, whole, path, "-1ns"))
		require.EqualError(t, err, fmt.Sprintf("presence: invalid policy %q: must not be negative, got -1ns", path))
	}
	require.Equal(t, time.Minute, mustCompile(set(t, whole, "lease", "0")).Policy().Lease)
}

// Each value of a policy that is outside what is allowed has a fault with its place, and
// with what is allowed. The value beside it, just inside, has none.
func TestValuesOfPolicies(t *testing.T) {
	t.Parallel()
	const (
		ids     = "allowed: available, away, busy, offline"
		sources = "allowed: system, call, supervisor, manual, calendar, app, login-default"
		fields  = "allowed: since, setAt, until, reason, text, cause, masked, lastSeen, lastLogin, routable, routableOn, work, threads, pinned, pending, request, devices"
		others  = "allowed: team, supervisor, admin, visitor, router"
	)
	whole := wholePolicy()
	for _, tt := range []struct{ path, bad, fault, good string }{
		{"version", "2", `"version": 2 is not supported, this package reads version 1`, "0"},
		{"lease", "25s", `"lease": 25s must be longer than the heartbeat of 25s`, "25000000001ns"},
		{"default", "moon", `"default": "moon" is not a status of this policy; ` + ids, "busy"},
		{"disconnected", "moon", `"disconnected": "moon" is not a status of this policy; ` + ids, "busy"},
		{"fold", "busy,moon", `"fold[1]": "moon" is not a status of this policy; ` + ids, "busy,away"},
		{"activity", "login,moon", `"activity[1]": "moon" is not allowed; allowed: input, login, claim, focus, show`, "login,focus,show,claim,input"},
		{"login.status", "busy", `"login.status": "busy" is set, but login.mode is not reset: set login.mode to reset, or login.status to nothing`, ""},
		{"login.mode", "moon", `"login.mode": "moon" is not allowed; allowed: keep, reset`, "keep"},
		{"login.mode", "reset", `"login.status": "" is not a status of this policy; ` + ids, ""},
		{"statuses.busy.class", "moon", `"statuses.busy.class": "moon" is not a class; allowed: available, busy, away, dnd, offline`, "dnd"},
		{"statuses.busy.id", "away", `"statuses.away": is defined twice`, "bust"},
		{"statuses.busy.id", "unknown", `"statuses.unknown": the id is reserved`, "unknowable"},
		{"statuses.busy.id", "disabled", `"statuses.disabled": the id is reserved`, "disable"},
		{"statuses.busy.id", "", `"statuses[2].id": the id is empty`, "b"},
		{"statuses.busy.routing", "moon", `"statuses.busy.routing": "moon" is not allowed; allowed: all, last, sticky, transfer, none`, "last"},
		{"statuses.busy.routingOn.calls", "moon", `"statuses.busy.routingOn.calls": "moon" is not allowed; allowed: all, last, sticky, transfer, none`, "transfer"},
		{"statuses.busy.selectableBy", "self,moon", `"statuses.busy.selectableBy[1]": "moon" is not allowed; allowed: self, supervisor, system, nobody`, "self,supervisor,system"},
		{"statuses.busy.selectableBy", "system,nobody", `"statuses.busy.selectableBy": "nobody" excludes every other entry`, "nobody"},
		{"statuses.busy.hiddenFrom", "team,self", `"statuses.busy.hiddenFrom[1]": "self" is not allowed; ` + others, "team,router"},
		{"statuses.busy.hiddenFrom", "moon", `"statuses.busy.hiddenFrom[0]": "moon" is not allowed; ` + others, "admin"},
		{"statuses.offline.hiddenFrom", "team", `"disconnected": "offline" is hidden from the audience "team", and so is every status of class offline: leave one in which it sees that a subject left`, "none"},
		{"statuses.busy.omits", "since,moon", `"statuses.busy.omits[1]": "moon" is not a field of views; ` + fields, "since,devices"},
		{"hideable", "visitor,self", `"hideable[1]": "self" is not allowed; ` + others, "visitor,visitor,team"},
		{"disconnectProof", "manual,moon", `"disconnectProof[1]": "moon" is not a source of this policy; ` + sources, "manual,call"},
		{"sourceFor.moon", "1s", `"sourceFor.moon": "moon" is not a source of this policy; ` + sources, ""},
		{"sourceFor.call", "0", `"sourceFor.call": must be positive, got 0s`, "1ns"},
		{"devices.kiosk.ceiling", "moon", `"devices.kiosk.ceiling": "moon" is not a status of this policy; ` + ids, "busy"},
		{"devices.kiosk.ceiling", "available", `"devices.kiosk.ceiling": "available" is of class available, which a ceiling replaces; allowed: away, busy, offline`, "away"},
		{"idle.0.after", "0", `"idle[0].after": must be positive, got 0s`, "1ns"},
		{"idle.0.to", "moon", `"idle[0].to": "moon" is not a status of this policy; ` + ids, "busy"},
		{"idle.0.to", "available", `"idle[0].on[0]": "available" must be more available than "available", since an idle stage only lowers availability`, "offline"},
		{"idle.0.on", "available,moon", `"idle[0].on[1]": "moon" is not a status of this policy; ` + ids, "available,busy"},
		{"idle.0.on", "available,offline", `"idle[0].on[1]": "offline" must be more available than "away", since an idle stage only lowers availability`, "busy"},
		{"idle.0.on", "none", `"idle[0].on": lists no status to mask`, "available"},
		{"idle.0.of", "moon", `"idle[0].of": "moon" is not allowed; allowed: any, unchosen`, "unchosen"},
		{"virtual.fax.show", "ignore", `"virtual.fax": "fax" is not allowed; allowed: push, bot, service`, ""},
		{"virtual.push.show", "moon", `"virtual.push.show": "moon" is not a status of this policy; ` + ids, "busy"},
		{"virtual.bot.show", "moon", `"virtual.bot.show": "moon" is not a status of this policy; ` + ids, "top"},
		{"virtual.service.show", "moon", `"virtual.service.show": "moon" is not a status of this policy; ` + ids, "ignore"},
		{"views.moon", "since", `"views": "moon" is not an audience; allowed: self, team, supervisor, admin, visitor, router`, ""},
		{"views.team", "since,moon", `"views.team[1]": "moon" is not a field of views; ` + fields, "devices,since"},
		{"work.capacity", "-1", `"work.capacity": -1 is not from 0 to 1000000`, "0"},
		{"work.capacity", "1000001", `"work.capacity": 1000001 is not from 0 to 1000000`, "1000000"},
		{"work.total", "-1", `"work.total": -1 is not from 0 to 1000000`, "0"},
		{"work.total", "1000001", `"work.total": 1000001 is not from 0 to 1000000`, "1000000"},
		{"work.kickedOut", "moon", `"work.kickedOut": "moon" is not a status of this policy; ` + ids, "busy"},
		{"retired.busy", "away", `"retired.busy": is still a status of this policy`, ""},
		{"retired.lunch", "moon", `"retired.lunch": "moon" is not a status of this policy; ` + ids, "away"},
	} {
		_, err := presence.Compile(set(t, whole, tt.path, tt.bad))
		require.EqualError(t, err, "presence: invalid policy "+tt.fault)
		if tt.good != "" {
			_, err = presence.Compile(set(t, whole, tt.path, tt.good))
			require.NoError(t, err, "%s = %s", tt.path, tt.good)
		}
	}
}

// Faults that no single value makes.
func TestFaultsOfSeveralValues(t *testing.T) {
	t.Parallel()
	in, out := presence.Status{ID: "in", Class: presence.ClassAvailable}, presence.Status{ID: "out", Class: presence.ClassOffline}
	statuses := func(n int) presence.Policy {
		p := presence.Policy{Statuses: []presence.Status{out}}
		for i := range n - 1 {
			p.Statuses = append(p.Statuses, presence.Status{ID: fmt.Sprint("s", i), Class: presence.ClassAway})
		}
		return p
	}
	proof := []presence.Source{presence.SourceSystem, presence.SourceSupervisor, presence.SourceManual, presence.SourceLoginDefault}
	for _, tt := range []struct {
		policy presence.Policy
		faults []string // none if the policy is valid
	}{
		{statuses(presence.MaxStatuses), nil},
		{statuses(presence.MaxStatuses + 1), []string{`"statuses": 257 are defined, at most 256 are allowed`}},
		{presence.Policy{}, []string{`"statuses": a policy needs at least one status`}},
		{presence.Policy{Statuses: []presence.Status{out}}, nil},
		{presence.Policy{Statuses: []presence.Status{in}}, []string{`"disconnected": is empty, and no status can be the default`}},
		{presence.Policy{Default: "moon", Statuses: []presence.Status{out}}, []string{`"default": "moon" is not a status of this policy; allowed: out`}},
		{presence.Policy{Default: "moon"}, []string{`"statuses": a policy needs at least one status`}},
		{presence.Policy{Statuses: []presence.Status{out}, Sources: [][]presence.Source{proof}}, nil},
		{presence.Policy{Statuses: []presence.Status{out}, Sources: [][]presence.Source{{"manual", "a\x00"}, {"manual"}}}, []string{
			`"sources[0]": the id has a control character`, `"sources[1]": "manual" is ranked twice`,
			`"sources": "system" must be ranked`, `"sources": "supervisor" must be ranked`, `"sources": "login-default" must be ranked`,
		}},
		{presence.Policy{Statuses: []presence.Status{in}, Hideable: []presence.Audience{"team"}}, []string{`"disconnected": is empty, and no status can be the default`}},
		{presence.Policy{Statuses: []presence.Status{out}, Hideable: []presence.Audience{"team"}, Views: map[presence.Audience][]string{"team": {"devices"}, "admin": {"devices"}}}, []string{
			`"views.team": "devices" is not for an audience that can be hidden from`,
		}},
		{presence.Policy{Statuses: []presence.Status{out}, Lease: -1}, []string{`"lease": must not be negative, got -1ns`, `"lease": -1ns must be longer than the heartbeat of 25s`}},
		{presence.Policy{Statuses: []presence.Status{in, out}, Idle: []presence.IdleStage{{After: 1, To: "moon", On: []string{"in", "sun"}}}}, []string{
			`"idle[0].to": "moon" is not a status of this policy; allowed: in, out`, `"idle[0].on[1]": "sun" is not a status of this policy; allowed: in, out`,
		}},
	} {
		_, err := presence.Compile(tt.policy)
		if tt.faults == nil {
			require.NoError(t, err)
			continue
		}
		require.EqualError(t, err, "presence: invalid policy "+strings.Join(tt.faults, "\npresence: invalid policy "))
	}
}

// What a policy leaves out for a status: its label, its routing by its class, and who
// selects it.
func TestDefaultsOfStatuses(t *testing.T) {
	t.Parallel()
	m := mustCompile(presence.Policy{Statuses: []presence.Status{
		{ID: "in", Class: presence.ClassAvailable}, {ID: "lunch", Class: presence.ClassAway, SelectableBy: []string{"self"}},
		{ID: "out", Label: "Out", Class: presence.ClassOffline, Routing: presence.RouteLast, SelectableBy: []string{"nobody"}},
	}})
	require.Equal(t, []presence.Status{
		{ID: "in", Label: "in", Class: presence.ClassAvailable, Routing: presence.RouteAll, SelectableBy: []string{"self", "supervisor", "system"}},
		{ID: "lunch", Label: "lunch", Class: presence.ClassAway, Routing: presence.RouteNone, SelectableBy: []string{"self"}},
		{ID: "out", Label: "Out", Class: presence.ClassOffline, Routing: presence.RouteLast, SelectableBy: []string{"nobody"}},
	}, m.Policy().Statuses)
	for by, want := range map[string][]string{"self": {"in", "lunch"}, "supervisor": {"in"}, "system": {"in"}, "nobody": {"out"}, "moon": nil} {
		require.Equal(t, want, m.Selectable(by), by)
	}
	def, ok := m.Status("lunch")
	require.True(t, ok)
	require.Equal(t, m.Policy().Statuses[1], def)
	def, ok = m.Status("moon")
	require.False(t, ok)
	require.Zero(t, def)
	require.Equal(t, []string{"input", "login", "claim"}, m.Policy().Activity)
	require.Equal(t, 60*time.Second, m.Policy().Lease)
}

// A policy and its machine share no memory.
func TestMachinesKeepTheirPolicy(t *testing.T) {
	t.Parallel()
	given := wholePolicy()
	m := mustCompile(given)
	given.Statuses[0].Label = "changed"
	m.Policy().Statuses[0].Label = "changed"
	require.Equal(t, wholePolicy(), m.Policy())
}

// StatusOrder sorts by class, and puts a status that the policy lacks last.
func TestStatusOrder(t *testing.T) {
	t.Parallel()
	m := mustCompile(presence.DefaultPolicy())
	ids := []string{"moon", "offline", "available", "away", "busy"}
	slices.SortFunc(ids, func(a, b string) int { return m.StatusOrder(a) - m.StatusOrder(b) })
	require.Equal(t, []string{"available", "busy", "away", "offline", "moon"}, ids)
}

// A claim may hide from the audiences that the policy and its statuses list, each once.
func TestHideableAudiences(t *testing.T) {
	t.Parallel()
	p := presence.DefaultPolicy()
	p.Hideable, p.Statuses[2].HiddenFrom = []presence.Audience{"visitor", "team", "visitor"}, []presence.Audience{"router", "team"}
	x := newSubject(t, p)
	x.login(0, "tab")
	_, err := x.try(1, presence.Event{Kind: presence.EventSetClaim, Actor: presence.Agent(ann), Claim: presence.Claim{Status: "away", HidesFrom: []presence.Audience{"admin"}}})
	require.EqualError(t, err, `presence: invalid audience "admin": the policy does not let a claim hide from it; allowed: router, team, visitor`)
}

// Without a status of class away, who does not answer a challenge shows as disconnected.
func TestKickOutWithoutAnAwayStatus(t *testing.T) {
	t.Parallel()
	x := newSubject(t, presence.Policy{Statuses: []presence.Status{{ID: "in", Class: presence.ClassAvailable}, {ID: "out", Class: presence.ClassOffline}}})
	x.login(0, "tab")
	x.do(1, presence.Event{Kind: presence.EventChallenge, Claim: presence.Claim{For: time.Second}})
	require.Equal(t, "out", x.tick(2).Status)
	require.Equal(t, presence.CauseSystem, x.s.Current.Cause)
}

// Only a claim of a source that is proof against disconnection shows without one.
func TestProofAgainstDisconnection(t *testing.T) {
	t.Parallel()
	p := presence.DefaultPolicy()
	p.DisconnectProof = []presence.Source{"calendar"}
	for source, want := range map[presence.Source]string{"calendar": "busy", "call": "offline"} {
		x := newSubject(t, p)
		x.do(0, presence.Event{Kind: presence.EventSetClaim, Actor: presence.System(bob), Claim: presence.Claim{Status: "busy", Source: source}})
		require.Equal(t, want, x.s.Current.Status, source)
	}
}

// Of the statuses that connections claim, the first in Fold wins, and those that Fold
// leaves out follow in the order of the policy.
func TestFoldOrdersStatuses(t *testing.T) {
	t.Parallel()
	p := presence.DefaultPolicy()
	p.ClaimScope, p.Fold, p.KeepExplicit = presence.ScopeConnection, []string{"offline", "busy"}, true
	p.Statuses[3].SelectableBy = nil
	for _, tt := range [][3]string{{"busy", "away", "busy"}, {"busy", "available", "busy"}, {"offline", "busy", "offline"}, {"away", "available", "available"}} {
		x := newSubject(t, p)
		for i, status := range tt[:2] {
			x.login(0, status)
			x.do(float64(1+i), presence.Event{Kind: presence.EventSetClaim, Actor: presence.Agent(ann), Conn: status, Claim: presence.Claim{Status: status}})
		}
		require.Equal(t, tt[2], x.s.Current.Status, "%v", tt)
	}
}
