package presence_test

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/presence-go/presence"
	"github.com/presence-go/presence/internal/naive"
	"github.com/presence-go/presence/internal/seeds"
	"github.com/presence-go/presence/preset"
)

func (f *follower) turns() (list []naive.Turn) {
	for _, o := range f.out {
		if o.Kind == presence.OutputTransition {
			list = append(list, naive.Turn{Prev: o.Prev, Status: o.Presence.Status, Since: o.At, Seen: o.Noticed})
		}
	}
	return list
}

// compareWithNaive runs one subject's history through the machine and through
// the naive model, under the policies given, and returns the first difference.
func compareWithNaive(h *history, policies []presence.Policy) error {
	f := follow(h)
	n := &naive.Model{Subject: h.subjects[0], Policies: policies}
	for i, e := range h.events {
		err := f.feed(e)
		if accepted := n.Feed(e.at, e.event, e.policy); accepted != (err == nil) {
			return fmt.Errorf("event %d (%s): accepted by the model: %t; the machine says: %v", i, e.text(), accepted, err)
		}
		if err := n.Compare(&f.s, e.at); err != nil {
			return fmt.Errorf("after event %d (%s):\n %w", i, e.text(), err)
		}
		if !slices.ContainsFunc(everyone, n.Hides) {
			continue
		}
		if err := n.CompareHidden(&f.s, e.at); err != nil {
			return fmt.Errorf("after event %d (%s):\n %w", i, e.text(), err)
		}
	}
	if len(h.events) == 0 {
		return nil
	}
	at := h.events[len(h.events)-1].at
	if err := sameViews(f, n, at); err != nil {
		return fmt.Errorf("in the end: %w", err)
	}
	want, got := n.Timeline(nil), f.turns()
	for i := range max(len(want), len(got)) {
		switch {
		case i >= len(got):
			return fmt.Errorf("transition %d is missing: want %v", i, want[i])
		case i >= len(want):
			return fmt.Errorf("transition %d is too many: got %v", i, got[i])
		case want[i] != got[i]:
			return fmt.Errorf("transition %d:\n want %v\n got  %v", i, want[i], got[i])
		}
	}
	return nil
}

// sameViews compares what each audience sees, and each verdict of the gate. Views of
// those from whom the subject can hide depend on what was shown before; other tests
// compare them.
func sameViews(f *follower, n *naive.Model, at presence.Instant) error {
	for _, a := range everyone {
		got := f.m.View(&f.s.Current, a)
		want := n.View(a, f.s.Current.Since, at)
		got.Subject = want.Subject
		if !n.Hides(a) && got != want {
			return fmt.Errorf("%s sees\n %+v, want\n %+v", a, got, want)
		}
	}
	for _, kind := range append(slices.Collect(maps.Keys(f.policy.Gate)), "carrier pigeon") {
		for _, channel := range []string{"", "desk", "elsewhere"} {
			d := f.m.Gate(&f.s, presence.Notification{Subject: n.Subject, Kind: kind, Channel: channel})
			if verdict, column := n.Gate(kind, channel, at); verdict != d.Verdict || column != d.Column || d.Reason == "" {
				return fmt.Errorf("%s about %q: %+v, want %s by %q", kind, channel, d, verdict, column)
			}
		}
	}
	return nil
}

func TestMachineAgreesWithNaiveModel(t *testing.T) {
	t.Parallel()
	eachSeed(t, 600, func(t *testing.T, seed uint64) {
		h := randomHistory(seed, []presence.Ref{peter, quinn})
		for _, subject := range h.subjects {
			requireAlways(t, h.of(subject), func(h *history) error { return compareWithNaive(h, h.policies) })
		}
	})
}

// The comparison can fail: whatever is changed in the policy that only the naive
// model is given shows within a few histories.
func TestComparisonNoticesWhatDiffers(t *testing.T) {
	p := presence.DefaultPolicy()
	p.Devices = map[string]presence.DeviceRule{
		"kiosk":  {IgnoreInput: true},
		"mobile": {OwnGrace: true, Grace: presence.Grace{Close: 30 * time.Second, Loss: 45 * time.Second}},
	}
	p.Virtual = map[string]presence.VirtualRule{"push": {Show: "top", Routable: true}}
	p.Work.Capacity, p.Work.Total, p.Work.WrapUp, p.Work.Settle = 2, 3, time.Minute, time.Minute
	rules := newRuling(p)
	policy := rules.policies[0]
	var histories []*history // all of them without any difference as long as the policy is the same
	from := seeds.List(t, 1)[0]
	agreeing := func(i int) *history {
		if i == len(histories) {
			g := newGenerator(from+uint64(i), rules, peter)
			g.work = i%2 == 1
			h := g.history()
			requireAlways(t, h, func(h *history) error { return compareWithNaive(h, h.policies) })
			histories = append(histories, h)
		}
		return histories[i]
	}
	idle := func(d time.Duration) func(*presence.Policy) {
		return func(p *presence.Policy) {
			for i := range p.Idle {
				p.Idle[i].After += d
			}
		}
	}
	for _, tt := range []struct {
		name   string
		mutate func(*presence.Policy)
	}{
		{"lease longer", func(p *presence.Policy) { p.Lease++ }},
		{"lease shorter", func(p *presence.Policy) { p.Lease-- }},
		{"close grace longer", func(p *presence.Policy) { p.Grace.Close++ }},
		{"loss grace longer", func(p *presence.Policy) { p.Grace.Loss++ }},
		{"node grace longer", func(p *presence.Policy) { p.Grace.Node++ }},
		{"drain grace longer", func(p *presence.Policy) { p.Grace.Drain++ }},
		{"logout grace", func(p *presence.Policy) { p.Grace.Logout++ }},
		{"loss counted from the lease", func(p *presence.Policy) { p.Grace.LossFrom = "lease" }},
		{"idle later", idle(1)},
		{"idle sooner", idle(-1)},
		{"startup grace longer", func(p *presence.Policy) { p.StartupGrace++ }},
		{"call below manual", func(p *presence.Policy) {
			p.Sources = [][]presence.Source{
				{presence.SourceSystem}, {presence.SourceSupervisor, presence.SourceManual}, {presence.SourceCall},
				{presence.SourceCalendar}, {presence.SourceApp}, {presence.SourceLoginDefault},
			}
		}},
		{"supervisor above manual", func(p *presence.Policy) {
			p.Sources = slices.Concat(p.Sources[:2], [][]presence.Source{{presence.SourceSupervisor}, {presence.SourceManual}}, p.Sources[3:])
		}},
		{"manual proof against disconnection", func(p *presence.Policy) { p.DisconnectProof = []presence.Source{presence.SourceManual} }},
		{"default choices kept", func(p *presence.Policy) { p.KeepExplicit = true }},
		{"logout of the account", func(p *presence.Policy) { p.LogoutScope = "account" }},
		{"supervisor refused", func(p *presence.Policy) { p.SupervisorWhenOffline = "refuse" }},
		{"claims are no input", func(p *presence.Policy) { p.Activity = []string{"input", "login"} }},
		{"logins are no input", func(p *presence.Policy) { p.Activity = []string{"input", "claim"} }},
		{"login resets", func(p *presence.Policy) { p.Login = presence.LoginRule{Mode: "reset", Status: "away"} }},
		{"kiosks count", func(p *presence.Policy) { delete(p.Devices, "kiosk") }},
		{"mobiles are like any device", func(p *presence.Policy) { delete(p.Devices, "mobile") }},
		{"mobiles speak first", func(p *presence.Policy) {
			p.Devices["mobile"] = presence.DeviceRule{OwnGrace: true, Grace: p.Devices["mobile"].Grace, Rank: 1}
		}},
		{"mobiles show less", func(p *presence.Policy) {
			p.Devices["mobile"] = presence.DeviceRule{OwnGrace: true, Grace: p.Devices["mobile"].Grace, Ceiling: "busy"}
		}},
		{"push is ignored", func(p *presence.Policy) { p.Virtual = nil }},
		{"a total above", func(p *presence.Policy) { p.Work.Total++ }},
		{"no total", func(p *presence.Policy) { p.Work.Total = 0 }},
		{"a longer wrap-up", func(p *presence.Policy) { p.Work.WrapUp += time.Minute }},
		{"no wrap-up", func(p *presence.Policy) { p.Work.WrapUp = 0 }},
		{"settling for longer", func(p *presence.Policy) { p.Work.Settle++ }},
		{"no settling", func(p *presence.Policy) { p.Work.Settle = 0 }},
		{"the least available vote wins", func(p *presence.Policy) { p.Fold = []string{"offline", "busy", "away", "available"} }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			mutated := policy.Clone()
			tt.mutate(&mutated)
			for seed := range 1000 {
				if compareWithNaive(agreeing(seed), []presence.Policy{mutated}) != nil {
					t.Logf("noticed by history %d", seed+1)
					return
				}
			}
			require.Fail(t, "not noticed")
		})
	}
}

// The model does not miss an instant either: asked at every second as well, it
// lists the same transitions.
func TestNaiveModelMissesNoInstant(t *testing.T) {
	eachSeed(t, 2, func(t *testing.T, seed uint64) {
		h := randomHistory(seed, []presence.Ref{peter})
		n := &naive.Model{Subject: peter, Policies: h.policies}
		var seconds []presence.Instant
		for _, e := range h.events {
			n.Feed(e.at, e.event, e.policy)
		}
		for at := nineSharp; at < h.events[len(h.events)-1].at; at = at.Add(time.Second) {
			seconds = append(seconds, at, at+1, at-1)
		}
		require.Equal(t, n.Timeline(nil), n.Timeline(seconds), "%s", h)
	})
}

// What once went wrong, each in the fewest events.
func TestHistoriesThatOnceDiffered(t *testing.T) {
	type event = presence.Event
	host := presence.Actor{Subject: presence.ID("host"), Role: presence.RoleSystem}
	after := func(d time.Duration, e event) happened {
		if e.Age == 0 {
			e.Age = presence.NoAge
		}
		e.Subject = peter
		return happened{at: nineSharp.Add(d), event: e}
	}
	login := func(d time.Duration, conn, device, node string) happened {
		return after(d, event{Kind: presence.EventLogin, Conn: conn, Device: device, Node: node, Incarnation: 1})
	}
	connect := func(d time.Duration, conn string, age time.Duration) happened {
		return after(d, event{Kind: presence.EventConnect, Conn: conn, Node: "n1", Incarnation: 1, Age: age})
	}
	claim := func(d time.Duration, actor presence.Actor, c presence.Claim) happened {
		return after(d, event{Kind: presence.EventSetClaim, Actor: actor, Claim: c})
	}
	tick := func(d time.Duration) happened { return after(d, event{}) }
	policy := func(d time.Duration) happened {
		h := after(d, event{Kind: presence.EventPolicy})
		h.policy = 1
		return h
	}
	hides := func(p *presence.Policy, ids ...string) {
		for _, id := range ids {
			p.Statuses = append(p.Statuses, presence.Status{ID: id, Class: presence.ClassBusy, HiddenFrom: []presence.Audience{presence.AudienceTeam}})
		}
	}
	const min, sec = time.Minute, time.Second
	for _, tt := range []struct {
		name   string
		vary   func(*presence.Policy)
		events []happened
		status string
		since  time.Duration
		next   func(*presence.Policy) // makes of the policy the one that the event policy puts in force
	}{
		{"a claim that ends with the connection", nil, []happened{
			claim(0, host, presence.Claim{Source: presence.SourceCalendar, Status: "busy", DropOnDisconnect: true}),
			connect(min, "a", 0), tick(5 * min),
		}, "offline", 2 * min, nil},
		{"a default choice that changes nothing", nil, []happened{
			login(0, "a", "", "n1"), claim(min+sec, presence.Agent(peter), presence.Claim{Status: "available"}), tick(5 * min),
		}, "offline", min, nil},
		{"grace before idleness at one instant", func(p *presence.Policy) {
			p.Idle = []presence.IdleStage{{After: min, To: "offline", On: []string{"available"}}}
		}, []happened{
			login(0, "a", "", "n1"), after(0, event{Kind: presence.EventDisconnect, Conn: "a", Cause: presence.CauseDrain}), tick(5 * min),
		}, "offline", 0, nil},
		{"the youngest input of those that left at once", nil, []happened{
			login(0, "b", "", "n1"), login(50*sec, "a", "", "n1"), after(50*sec, event{Kind: presence.EventLogout}), connect(5*min+30*sec, "c", 0),
		}, "available", 5*min + 30*sec, nil},
		{"a second logout of one connection", func(p *presence.Policy) { p.Lease, p.Grace.Logout = time.Hour, 3*sec }, []happened{
			login(0, "b", "", "n1"), login(5*min+15*sec, "a", "", "n1"), after(10*min, event{Kind: presence.EventLogout, Conn: "a"}),
			after(10*min+sec, event{Kind: presence.EventLogout, Conn: "a"}), tick(10*min + 5*sec),
		}, "away", 10 * min, nil},
		{"a logout of a connection that was lost", func(p *presence.Policy) { p.Grace.Logout = 3 * sec }, []happened{
			connect(0, "c", 30*sec), connect(2*sec, "b", 5*min), after(70*sec, event{Kind: presence.EventLogout, Conn: "c"}), tick(74 * sec),
		}, "away", 70 * sec, nil},
		{"a login over a connection that continues at a kiosk", func(p *presence.Policy) {
			p.Lease, p.Devices = 2*time.Hour, map[string]presence.DeviceRule{"kiosk": {IgnoreInput: true}}
		}, []happened{
			login(0, "b", "", "n1"), login(10*min, "a", "", "n1"), after(10*min, event{Kind: presence.EventConnect, Conn: "a", Device: "kiosk"}),
			after(10*min+30*sec, event{Kind: presence.EventLogout, Conn: "b"}), tick(11 * min),
		}, "available", 10*min + 30*sec, nil},
		{"an input that a heartbeat corrects as another connection ends", func(p *presence.Policy) {
			p.Devices = map[string]presence.DeviceRule{"mobile": {OwnGrace: true}}
		}, []happened{
			connect(0, "a", min), after(50*sec, event{Kind: presence.EventLogin, Conn: "c", Device: "mobile"}),
			after(75*sec, event{Kind: presence.EventHeartbeat, Conn: "c", Age: 10 * min}), after(75*sec, event{Kind: presence.EventDisconnect, Conn: "c", Cause: presence.CauseNode}),
			connect(76*sec, "a", 0), tick(4*min + 30*sec),
		}, "offline", 2*min + 16*sec, nil},
		{"a status that ends as its subject is kicked out to it", func(p *presence.Policy) {
			*p, _ = preset.Lookup("threads")
		}, []happened{
			login(0, "a", "", "n1"), after(12*sec, event{Kind: presence.EventChallenge, ID: "1", Claim: presence.Claim{For: min}}),
			claim(70*sec, presence.Actor{Subject: presence.ID("host"), Role: presence.RoleSystem}, presence.Claim{
				Source: presence.SourceSystem, Key: "meeting", Status: "kicked-out", Until: nineSharp.Add(72 * sec)}),
			tick(73 * sec),
		}, "kicked-out", 70 * sec, nil},
		{"a grace after a standstill", nil, []happened{
			login(0, "a", "", "n1"), after(15*sec, event{Kind: presence.EventSuspended, From: nineSharp.Add(5 * sec), To: nineSharp.Add(15 * sec)}),
			after(16*sec, event{Kind: presence.EventNodeDown, Node: "n1"}), connect(32*sec, "b", 0),
		}, "available", 32 * sec, nil},
		{"a connection that its claim keeps, at a node that is back after a standstill", func(p *presence.Policy) {
			p.ClaimScope, p.Lease = presence.ScopeConnection, min
			p.Statuses[slices.IndexFunc(p.Statuses, func(s presence.Status) bool { return s.ID == "away" })].Keeps = min
		}, []happened{
			login(0, "a", "", "n1"), after(sec, event{Kind: presence.EventSetClaim, Actor: presence.Agent(peter), Conn: "a", Claim: presence.Claim{Status: "away"}}),
			after(5*min, event{Kind: presence.EventSuspended, From: nineSharp.Add(min + sec), To: nineSharp.Add(5 * min)}),
			after(5*min, event{Kind: presence.EventNodeUp, Node: "n1", Incarnation: 2}), tick(5*min + sec),
		}, "away", sec, nil},
		{"a lease after a standstill", func(p *presence.Policy) { p.StartupGrace = 5 * min }, []happened{
			login(0, "a", "", "n1"), after(15*sec, event{Kind: presence.EventSuspended, From: nineSharp.Add(5 * sec), To: nineSharp.Add(15 * sec)}),
			after(16*sec, event{Kind: presence.EventHeartbeat, Conn: "a"}), tick(3 * min),
		}, "offline", 76 * sec, nil},
		{"an own claim, a report and a reconnect", func(p *presence.Policy) { p.Lease = time.Hour }, []happened{
			connect(0, "a", 0), claim(2*min, presence.Agent(peter), presence.Claim{Status: "available"}),
			after(2*min+sec, event{Kind: presence.EventHeartbeat, Conn: "a", Age: 10 * min}), connect(4*min, "a", min), tick(8 * min),
		}, "away", 7 * min, nil},
		{"a node purged after another connection left", nil, []happened{
			connect(0, "a", 0), login(50*sec, "b", "", "n2"), after(61*sec, event{Kind: presence.EventNodeDown, Node: "n2", Cause: presence.CauseDrain}),
			after(62*sec, event{Kind: presence.EventNodeUp, Node: "n1", Incarnation: 2}), tick(5 * min),
		}, "offline", 61 * sec, nil},
		{"a reconnect that does not name its node", nil, []happened{
			connect(0, "a", 0), after(sec, event{Kind: presence.EventConnect, Conn: "a"}), after(2*sec, event{Kind: presence.EventNodeUp, Node: "n1", Incarnation: 1}),
		}, "available", 0, nil},
		{"an endpoint's end that shows nothing", nil, []happened{
			connect(0, "a", 0), after(25*sec, event{Kind: presence.EventEndpoint, Endpoint: presence.Endpoint{ID: "p", Kind: presence.EndpointPush, Until: nineSharp.Add(70 * sec)}}),
			tick(5 * min),
		}, "offline", min, nil},
		{"an endpoint that makes a bot of the subject", nil, []happened{
			after(0, event{Kind: presence.EventEndpoint, Endpoint: presence.Endpoint{ID: "p", Kind: presence.EndpointPush}}),
			after(sec, event{Kind: presence.EventEndpoint, SubjectKind: presence.KindBot, Endpoint: presence.Endpoint{ID: "p", Kind: presence.EndpointPush}}),
		}, "offline", 0, nil},
		{"a clock set past the end of a claim", func(p *presence.Policy) { p.Lease = time.Hour }, []happened{
			connect(0, "a", 0), claim(10*min, host, presence.Claim{Source: presence.SourceCall, Status: "busy", For: 10 * sec}),
			after(10*min+5*sec, event{Kind: presence.EventClock, From: nineSharp, To: nineSharp.Add(min)}),
		}, "away", 10*min + 5*sec, nil},
		{"an id that two claims have, one of which hides", func(p *presence.Policy) {
			p.Statuses = append(p.Statuses, presence.Status{ID: "gone", Class: presence.ClassBusy, HiddenFrom: []presence.Audience{presence.AudienceTeam}})
		}, []happened{
			claim(0, presence.Agent(peter), presence.Claim{ID: "x", Status: "away"}), connect(10*sec, "b", 0),
			claim(20*sec, presence.Agent(peter), presence.Claim{ID: "x", Status: "gone", For: sec}), connect(40*sec, "c", 0),
		}, "away", 21 * sec, nil},
		{"a break chosen in place of one that waits", func(p *presence.Policy) {
			*p, _ = preset.Lookup("threads")
			p.Lease, p.Idle, p.SourceFor = time.Hour, nil, map[presence.Source]time.Duration{presence.SourceManual: 10 * min}
		}, []happened{
			login(0, "a", "", "n1"), after(0, event{Kind: presence.EventLoad, Load: presence.Load{N: 3}}),
			claim(24*sec, presence.Agent(peter), presence.Claim{Status: "active", For: 5 * min}), claim(44*sec, presence.Agent(peter), presence.Claim{Status: "technical"}),
			claim(6*min, host, presence.Claim{Source: presence.SourceManual, Status: "meeting"}), tick(12 * min),
		}, "active", 24 * sec, nil},
		{"a claim that is repeated while it waits", func(p *presence.Policy) { drains(p, 0) }, []happened{
			login(0, "a", "", "n1"), after(0, event{Kind: presence.EventLoad, Load: presence.Load{N: 1}}),
			claim(sec, presence.Agent(peter), presence.Claim{ID: "x", Status: "away"}), claim(2*sec, presence.Agent(peter), presence.Claim{ID: "x", Status: "away"}),
			after(3*sec, event{Kind: presence.EventDone}),
		}, "away", 3 * sec, nil},
		{"an end that brings out what was idle long ago", func(p *presence.Policy) { p.Lease = time.Hour }, []happened{
			login(0, "a", "", "n1"), claim(min, host, presence.Claim{Source: presence.SourceCall, Status: "busy", For: 9 * min}), tick(20 * min),
		}, "away", 10 * min, nil},
		{"a call that hides as well, after a policy by which the choice does not hide", func(p *presence.Policy) {
			p.Lease, p.Idle = time.Hour, nil
			hides(p, "gone", "ghost")
		}, []happened{
			login(0, "a", "", "n1"), claim(sec, presence.Agent(peter), presence.Claim{Status: "gone"}), policy(2 * sec),
			claim(3*sec, host, presence.Claim{Source: presence.SourceCall, Status: "ghost", For: 10 * sec}), tick(min),
		}, "gone", 13 * sec, func(p *presence.Policy) { p.Statuses[len(p.Statuses)-2].HiddenFrom = nil }},
		{"a claim of a device that speaks again, after a policy by which it does not", func(p *presence.Policy) {
			hides(p, "gone")
			p.Devices = map[string]presence.DeviceRule{"desk": {Rank: -1}}
		}, []happened{
			login(0, "a", "desk", "n1"), login(0, "b", "", "n1"),
			claim(sec, host, presence.Claim{Source: presence.SourceSystem, Status: "gone", Conn: "b", DropOnDisconnect: true}), policy(2 * sec),
			after(3*sec, event{Kind: presence.EventDisconnect, Conn: "a", Cause: presence.CauseClosed}), tick(5 * min),
		}, "offline", min + sec, func(p *presence.Policy) { p.Devices = map[string]presence.DeviceRule{"desk": {Rank: 1}} }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := presence.DefaultPolicy()
			if tt.vary != nil {
				tt.vary(&p)
			}
			policies := []presence.Policy{p}
			if tt.next != nil {
				policies = append(policies, p.Clone())
				tt.next(&policies[1])
			}
			h := &history{subjects: []presence.Ref{peter}, events: tt.events, ruling: newRuling(policies...)}
			require.NoError(t, compareWithNaive(h, h.policies), "%s", h)
			f := h.run()
			require.Equal(t, tt.status, f.s.Current.Status, "%s", h)
			require.Equal(t, nineSharp.Add(tt.since), f.s.Current.Since, "%s", h)
		})
	}
}
