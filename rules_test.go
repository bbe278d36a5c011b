package presence_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/presence-go/presence"
	"github.com/presence-go/presence/preset"
)

// The tests of this file hold rules that no scenario and no random history noticed
// when they were broken.

// drainingPolicy has a status of class away that waits for the work to end.
func drainingPolicy() presence.Policy {
	p := presence.DefaultPolicy()
	p.AddStatus(presence.Status{ID: "lunch", Class: presence.ClassAway, DrainsFirst: true})
	return p
}

// A second challenge changes neither the id nor the deadline of an open one.
func TestSecondChallengeChangesNothing(t *testing.T) {
	x := newSubject(t, presence.DefaultPolicy())
	x.login(0, "tab")
	x.do(1, presence.Event{Kind: presence.EventChallenge, ID: "first"})
	before := x.s.Clone()
	require.Empty(t, x.do(1, presence.Event{Kind: presence.EventChallenge, ID: "second", Claim: presence.Claim{For: time.Second}}))
	require.Equal(t, before, x.s)
	require.Equal(t, "first", x.s.Work.Challenge)
	require.Equal(t, second(61), x.s.Work.Deadline, "60 s by default")
	_, err := x.try(2, presence.Event{Kind: presence.EventAck, ID: "second"})
	require.ErrorIs(t, err, presence.ErrStale)
	x.do(2, presence.Event{Kind: presence.EventAck, ID: "first"})
	require.Zero(t, x.s.Work.Deadline)
	_, err = x.try(3, presence.Event{Kind: presence.EventAck})
	require.ErrorIs(t, err, presence.ErrStale, "none is open")
}

// A load is from 0 to 1,000,000.
func TestLoadsHaveLimits(t *testing.T) {
	x := newSubject(t, presence.DefaultPolicy())
	for n, ok := range map[int]bool{-1: false, 0: true, 1_000_000: true, 1_000_001: false} {
		_, err := x.try(1, presence.Event{Kind: presence.EventLoad, Load: presence.Load{N: n}})
		require.Equal(t, ok, err == nil, "%d: %v", n, err)
		if !ok {
			require.ErrorIs(t, err, presence.ErrInvalid)
		}
	}
	for i := range presence.MaxLoads - 1 {
		x.do(2, presence.Event{Kind: presence.EventLoad, Load: presence.Load{On: fmt.Sprint("calls", i)}})
	}
	_, err := x.try(2, presence.Event{Kind: presence.EventLoad, Load: presence.Load{On: "one more"}})
	require.ErrorIs(t, err, presence.ErrLimit)
}

// A subject has at most MaxRequests open requests.
func TestRequestsHaveALimit(t *testing.T) {
	p := presence.DefaultPolicy()
	for i := range presence.MaxRequests + 1 {
		p.AddStatus(presence.Status{ID: fmt.Sprint("asked", i), Class: presence.ClassAway, NeedsApproval: true})
	}
	x := newSubject(t, p)
	x.login(0, "tab")
	ask := func(i int) error {
		_, err := x.try(1, presence.Event{Kind: presence.EventRequest, Actor: presence.Agent(ann), Claim: presence.Claim{Status: fmt.Sprint("asked", i)}})
		return err
	}
	for i := range presence.MaxRequests {
		require.NoError(t, ask(i))
	}
	require.ErrorIs(t, ask(presence.MaxRequests), presence.ErrLimit)
	require.NoError(t, ask(0), "another request for one status replaces it")
	require.Len(t, x.s.Work.Requests, presence.MaxRequests)
}

// A pending status whose end is reached follows no more, from that instant on.
func TestPendingStatusEndsAtItsInstant(t *testing.T) {
	x := newSubject(t, drainingPolicy())
	x.login(0, "tab")
	x.do(1, presence.Event{Kind: presence.EventLoad, Load: presence.Load{N: 1}})
	x.claim(2, presence.Claim{Status: "lunch", Until: second(30)})
	require.Equal(t, "lunch", x.tick(29.999).Pending)
	require.Empty(t, x.tick(30).Pending)
	x.do(31, presence.Event{Kind: presence.EventDone})
	require.Equal(t, "available", x.s.Current.Status)
}

// Who cannot be reached gets no work, whatever the status that shows lets through.
func TestUnreachableGetsNoWork(t *testing.T) {
	p := presence.DefaultPolicy()
	p.Disconnected = "available"
	x := newSubject(t, p)
	x.login(0, "tab")
	require.Equal(t, presence.RouteAll, x.s.Current.Routing)
	x.do(1, presence.Event{Kind: presence.EventLogout})
	require.Equal(t, "available", x.s.Current.Status)
	require.Equal(t, presence.RouteNone, x.s.Current.Routing)
	require.False(t, x.s.Current.Routable)
}

// Each fault of a policy is named by its path.
func TestRulesOfPoliciesAreChecked(t *testing.T) {
	for path, fault := range map[string]func(*presence.Policy){
		"retired.busy": func(p *presence.Policy) { p.Retired = map[string]string{"busy": "away"} },
		"retired.old":  func(p *presence.Policy) { p.Retired = map[string]string{"old": "none"} },
		"idle[0].after": func(p *presence.Policy) {
			p.Idle = []presence.IdleStage{{After: 0, To: "away", On: []string{"available"}}}
		},
		"lease":                      func(p *presence.Policy) { p.Lease = p.Heartbeat },
		"publish":                    func(p *presence.Policy) { p.CoalesceSubject = -1 },
		"batch":                      func(p *presence.Policy) { p.CoalesceChannel = -1 },
		"statuses.busy.selectableBy": func(p *presence.Policy) { p.Statuses[2].SelectableBy = []string{presence.ByNobody, presence.BySelf} },
		"statuses.busy":              func(p *presence.Policy) { p.Statuses = append(p.Statuses, p.Statuses[2]) },
		"statuses.busy.omits[0]":     func(p *presence.Policy) { p.Statuses[2].Omits = []string{"mood"} },
		"views.team[1]": func(p *presence.Policy) {
			p.Views = map[presence.Audience][]string{presence.AudienceTeam: {"since", "mood"}}
		},
		"virtual.fax": func(p *presence.Policy) { p.Virtual = map[string]presence.VirtualRule{"fax": {Show: "top"}} },
		"virtual.push.show": func(p *presence.Policy) {
			p.Virtual = map[string]presence.VirtualRule{"push": {Show: "nonsense"}}
		},
		"supervisorWhenOffline": func(p *presence.Policy) { p.SupervisorWhenOffline = "perhaps" },
		"widget.list":           func(p *presence.Policy) { p.Widget.List = "some" },
		"work.capacity":         func(p *presence.Policy) { p.Work.Capacity = -1 },
		"disconnected":          func(p *presence.Policy) { p.Disconnected, p.Statuses = "", p.Statuses[:3] },
		"version":               func(p *presence.Policy) { p.Version = 9 },
	} {
		p := presence.DefaultPolicy()
		fault(&p)
		_, err := presence.Compile(p)
		require.ErrorIs(t, err, presence.ErrInvalid, path)
		require.ErrorContains(t, err, fmt.Sprintf("policy %q", path))
	}
}

// A refusal lists the words that are allowed instead, in its fields and its text.
func TestRefusalsNameWhatIsAllowed(t *testing.T) {
	p := presence.DefaultPolicy()
	p.Disconnected = "gone"
	_, err := presence.Compile(p)
	var refusal *presence.Error
	require.True(t, errors.As(err, &refusal))
	require.Equal(t, []string{"available", "away", "busy", "offline"}, refusal.Allowed)
	require.ErrorContains(t, err, "; allowed: available, away, busy, offline")

	x := newSubject(t, presence.DefaultPolicy())
	_, err = x.try(0, presence.Event{Kind: presence.EventSetClaim, Actor: presence.System(presence.ID("host")), Claim: presence.Claim{Status: "away", Source: "moon"}})
	require.True(t, errors.As(err, &refusal))
	require.Equal(t, []string{"system", "call", "supervisor", "manual", "calendar", "app", "login-default"}, refusal.Allowed)
	_, err = x.try(0, presence.Event{Kind: presence.EventEndpoint, SubjectKind: "ghost", Endpoint: presence.Endpoint{ID: "p", Kind: presence.EndpointPush}})
	require.ErrorIs(t, err, presence.ErrInvalid)
	require.ErrorContains(t, err, "allowed: human, bot, service")
}

// Defaults of a policy: the first status, the first offline one, intervals and words.
func TestPoliciesHaveDefaults(t *testing.T) {
	p := presence.Policy{Statuses: []presence.Status{{ID: "in", Class: presence.ClassAvailable}, {ID: "out", Class: presence.ClassOffline}, {ID: "off", Class: presence.ClassOffline}}}
	x := newSubject(t, p)
	x.login(0, "tab")
	require.Equal(t, "in", x.s.Current.Status)
	x.do(1, presence.Event{Kind: presence.EventLogout})
	require.Equal(t, "out", x.s.Current.Status)
	full := x.m.Policy()
	require.Equal(t, 25*time.Second, full.Heartbeat)
	require.Equal(t, 60*time.Second, full.Lease)
	require.Equal(t, 30*time.Second, full.StartupGrace)
	require.Equal(t, "mask", full.SupervisorWhenOffline)
	require.Equal(t, "all", full.Widget.List)
	require.Equal(t, "in", full.Statuses[0].Label)
	require.Equal(t, presence.RouteAll, full.Statuses[0].Routing)
	require.Equal(t, presence.RouteNone, full.Statuses[1].Routing)
	require.Equal(t, time.Minute, full.Work.Challenge)
	require.Equal(t, presence.DefaultSources(), full.Sources)
	p.Virtual = map[string]presence.VirtualRule{"push": {}}
	require.Equal(t, "ignore", mustCompile(p).Policy().Virtual["push"].Show)
}

// Idle stages apply in the order of their times, however they are listed.
func TestIdleStagesAreOrderedByTime(t *testing.T) {
	p := presence.DefaultPolicy()
	p.Idle = []presence.IdleStage{
		{After: 2 * time.Minute, To: "offline", On: []string{"available"}}, {After: time.Minute, To: "away", On: []string{"available"}},
	}
	x := newSubject(t, p)
	x.login(0, "tab")
	x.keep(25, 125, "tab")
	require.Equal(t, "offline", x.tick(126).Status)
	require.Equal(t, second(120), x.s.Current.Since)
	x.do(126, presence.Event{Kind: presence.EventInput, Conn: "tab"})
	require.Equal(t, "away", x.tick(186).Status)
}

// A status that is added under an existing id replaces it at its place. Removing the
// first status leaves the others in their order.
func TestStatusesAreReplacedAndRemoved(t *testing.T) {
	p := presence.DefaultPolicy()
	ids := func() (list []string) {
		for _, s := range p.Statuses {
			list = append(list, s.ID)
		}
		return list
	}
	p.Retired = map[string]string{"busy": "away"}
	p.AddStatus(presence.Status{ID: "busy", Class: presence.ClassDND, Label: "Hush"})
	require.Equal(t, []string{"available", "away", "busy", "offline"}, ids())
	require.Equal(t, "Hush", p.Statuses[2].Label)
	require.Equal(t, presence.ClassDND, p.Statuses[2].Class)
	require.NotContains(t, p.Retired, "busy")
	require.NoError(t, p.RemoveStatus("available", "away"))
	require.Equal(t, []string{"away", "busy", "offline"}, ids())
	require.Equal(t, map[string]string{"available": "away"}, p.Retired)
	require.ErrorIs(t, p.RemoveStatus("available", ""), presence.ErrUnknown)
}

// A policy is written without what it extends, and read in its own version only.
func TestPoliciesAreWrittenWhole(t *testing.T) {
	p := presence.DefaultPolicy()
	p.Extends = "other"
	data, err := p.JSON()
	require.NoError(t, err)
	require.NotContains(t, string(data), "extends")
	for _, version := range []string{"0.9", "2"} {
		text := strings.Replace(string(data), `"version": 1`, `"version": `+version, 1)
		require.NotEqual(t, string(data), text)
		_, _, err := presence.ParsePolicy([]byte(text), nil)
		require.ErrorContains(t, err, version)
		require.ErrorIs(t, err, presence.ErrInvalid)
	}
}

// What another process stored replaces what is stored here. What only this process
// knows stays.
func TestRecordsOfOtherProcessesAreTakenOver(t *testing.T) {
	policy := drainingPolicy()
	here, there := newSubject(t, policy), newSubject(t, policy)
	host := presence.System(presence.ID("host"))
	set := func(x *subject, at float64, key, status string) []presence.Output {
		return x.do(at, presence.Event{Kind: presence.EventSetClaim, Actor: host, Claim: presence.Claim{ID: key, Key: key, Source: presence.SourceCalendar, Status: status}})
	}
	here.login(0, "tab")
	here.do(0, presence.Event{Kind: presence.EventLoad, Load: presence.Load{N: 1}})
	for _, x := range []*subject{here, there} {
		set(x, 1, "both", "available")
	}
	set(here, 2, "here", "available")
	for i := range 5 {
		there.login(float64(3+i), "other")
	}
	there.do(9, presence.Event{Kind: presence.EventLoad, Load: presence.Load{N: 2}})
	there.claim(9, presence.Claim{Status: "lunch"})
	there.do(9, presence.Event{Kind: presence.EventRequest, Actor: presence.Agent(ann), Claim: presence.Claim{Status: "away"}})
	set(there, 10, "there", "busy")
	there.do(10, presence.Event{Kind: presence.EventEndpoint, Endpoint: presence.Endpoint{ID: "p", Kind: presence.EndpointPush}})
	record, err := there.m.Record(&there.s, 7)
	require.NoError(t, err)

	var told []string
	for _, o := range here.do(20, presence.Event{Kind: presence.EventRecord, Record: &record}) {
		switch o.Kind {
		case presence.OutputClaimSet, presence.OutputClaimEnded:
			told = append(told, fmt.Sprint(o.Kind, " ", o.Claim.ID, " ", o.Reason))
		}
	}
	slices.Sort(told)
	require.Equal(t, []string{"claim-ended here system", "claim-set there "}, told, "the claim of both is no news")
	require.Equal(t, uint32(5), here.s.Epoch, "the highest")
	require.Equal(t, second(7), here.s.LoggedIn, "the latest")
	require.GreaterOrEqual(t, here.s.Serial, there.s.Serial)
	require.Equal(t, there.s.Work.Pending, here.s.Work.Pending)
	require.Equal(t, there.s.Work.Requests, here.s.Work.Requests)
	require.Equal(t, there.s.Endpoints, here.s.Endpoints)
	require.Equal(t, 1, here.s.Work.Total(), "the load is of this process")
	require.Len(t, here.s.Conns, 1)

	empty, err := presence.Record{Subject: ann, Data: []byte(`{"version":1}`)}.State(0, 0)
	require.NoError(t, err)
	without, err := here.m.Record(&empty, 8)
	require.NoError(t, err)
	here.do(21, presence.Event{Kind: presence.EventRecord, Record: &without})
	require.Nil(t, here.s.Work.Pending)
	require.Empty(t, here.s.Work.Requests)
	require.Equal(t, uint32(5), here.s.Epoch)

	there.do(22, presence.Event{Kind: presence.EventDisable})
	record, err = there.m.Record(&there.s, 9)
	require.NoError(t, err)
	out := here.do(23, presence.Event{Kind: presence.EventRecord, Record: &record})
	require.True(t, here.s.Disabled)
	require.Empty(t, here.s.Conns)
	require.Equal(t, second(23), here.s.LeftAt)
	require.Zero(t, here.s.Work.Total())
	require.True(t, slices.ContainsFunc(out, func(o presence.Output) bool { return o.Kind == presence.OutputRequeue && o.Load == 1 }))
}

// Texts and reasons have limits in bytes.
func TestTextsHaveLimits(t *testing.T) {
	x := newSubject(t, presence.DefaultPolicy())
	for _, tt := range []struct {
		claim presence.Claim
		ok    bool
	}{
		{presence.Claim{Text: strings.Repeat("x", presence.MaxText)}, true},
		{presence.Claim{Text: strings.Repeat("x", presence.MaxText+1)}, false},
		{presence.Claim{Text: strings.Repeat("é", presence.MaxText/2+1)}, false},
		{presence.Claim{Text: "a\xffb"}, false}, {presence.Claim{Text: "a\x00b"}, false}, {presence.Claim{Text: "a\nb"}, true},
		{presence.Claim{Reason: strings.Repeat("x", presence.MaxReason)}, true},
		{presence.Claim{Reason: strings.Repeat("x", presence.MaxReason+1)}, false},
	} {
		tt.claim.Status = "busy"
		_, err := x.try(1, presence.Event{Kind: presence.EventSetClaim, Actor: presence.Agent(ann), Claim: tt.claim})
		require.Equal(t, tt.ok, err == nil, "%.20q %.20q: %v", tt.claim.Text, tt.claim.Reason, err)
	}
}

// Of two endpoints with different rules, one that may be given work precedes, whatever
// their order.
func TestRoutableEndpointPrecedes(t *testing.T) {
	p := presence.DefaultPolicy()
	p.Virtual = map[string]presence.VirtualRule{"push": {Show: "away"}, "bot": {Show: "available", Routable: true}, "service": {Show: "ignore"}}
	for _, ids := range [][2]string{{"a", "b"}, {"b", "a"}} {
		x := newSubject(t, p)
		x.do(0, presence.Event{Kind: presence.EventEndpoint, Endpoint: presence.Endpoint{ID: "0", Kind: presence.EndpointService}})
		require.Equal(t, presence.ReachNone, x.s.Current.Reach)
		x.do(1, presence.Event{Kind: presence.EventEndpoint, Endpoint: presence.Endpoint{ID: ids[0], Kind: presence.EndpointPush}})
		require.Equal(t, "away", x.s.Current.Status)
		x.do(2, presence.Event{Kind: presence.EventEndpoint, Endpoint: presence.Endpoint{ID: ids[1], Kind: presence.EndpointBot}})
		require.Equal(t, "available", x.s.Current.Status, ids)
		require.True(t, x.s.Current.Routable)
	}
}

// A requeue has a row with its reason.
func TestRequeueHasARow(t *testing.T) {
	x := newSubject(t, presence.DefaultPolicy())
	x.login(0, "tab")
	x.do(1, presence.Event{Kind: presence.EventLoad, Load: presence.Load{N: 3}})
	x.do(2, presence.Event{Kind: presence.EventChallenge, ID: "there?"})
	out := x.do(70, presence.Event{Kind: presence.EventTick})
	kicked := slices.IndexFunc(out, func(o presence.Output) bool { return o.Presence.Status == "away" })
	require.Equal(t, presence.TriggerChallenge, out[kicked].Trigger)
	i := slices.IndexFunc(out, func(o presence.Output) bool { return o.Kind == presence.OutputRequeue })
	require.GreaterOrEqual(t, i, 0)
	require.Equal(t, 3, out[i].Load)
	row, ok := out[i].Row()
	require.True(t, ok)
	require.Equal(t, presence.JournalRow{ID: "requeue/there?", Kind: presence.RowRequeue, Trigger: "challenge", At: second(62), Recorded: second(62)}, row)
}

// Where idleness and another deadline fall on one instant, the trigger is the last one
// that changed the status.
func TestTriggerOfDeadlinesThatCoincide(t *testing.T) {
	host := presence.System(presence.ID("host"))
	p := presence.DefaultPolicy()
	p.Lease = time.Hour
	for _, tt := range []struct {
		until   float64
		trigger presence.Cause
	}{{300, presence.CauseIdle}, {299, presence.TriggerUntil}, {301, presence.TriggerUntil}} {
		x := newSubject(t, p)
		x.login(0, "tab")
		x.do(1, presence.Event{Kind: presence.EventSetClaim, Actor: host, Claim: presence.Claim{Source: presence.SourceCall, Status: "busy", Until: second(tt.until)}})
		out := x.do(tt.until, presence.Event{Kind: presence.EventTick})
		i := slices.IndexFunc(out, func(o presence.Output) bool { return o.Kind == presence.OutputTransition })
		require.GreaterOrEqual(t, i, 0)
		require.Equal(t, tt.trigger, out[i].Trigger, "until %v", tt.until)
		require.Equal(t, second(tt.until), out[i].At)
	}
}

// The gate's answer without a column: of a kind without a row, of the unknown, and while
// presence is switched off. With one it has the reason in words.
func TestGateWithoutAColumn(t *testing.T) {
	x := newSubject(t, presence.DefaultPolicy())
	push := presence.Notification{Subject: ann, Kind: "push"}
	require.Equal(t, presence.Decision{Verdict: presence.Skip, Kind: "push", Gated: true, Reason: "nothing is known of the subject"}, x.m.Gate(&x.s, push))
	x.login(0, "tab")
	require.Equal(t, presence.Decision{Verdict: presence.Deliver, Kind: "push", Gated: true, Column: "available", Reason: "the subject is available: connected, and nothing else was chosen"}, x.m.Gate(&x.s, push))
	push.Kind = "letter"
	require.Equal(t, presence.Decision{Verdict: presence.Deliver, Kind: "letter", Reason: "the policy does not gate this kind"}, x.m.Gate(&x.s, push))
	p := presence.DefaultPolicy()
	p.Disabled = true
	off := mustCompile(p)
	push.Kind = "push"
	require.Equal(t, presence.Decision{Verdict: presence.Deliver, Kind: "push", Gated: true, Reason: "presence is switched off and decides nothing"}, off.Gate(&x.s, push))
}

// X18: who shows again is seen since that instant, and nothing from before it is shown.
func TestShowingAgainRevealsNothingFromBefore(t *testing.T) {
	p := preset.TawkTo()
	all := []string{"since", "setAt", "lastSeen", "lastLogin", "cause"}
	p.Views = map[presence.Audience][]string{presence.AudienceVisitor: all, presence.AudienceAdmin: all}
	x := newSubject(t, p)
	visitor := func() presence.View { return x.m.View(&x.s.Current, presence.AudienceVisitor) }
	x.login(0, "tab")
	require.Zero(t, visitor().LastLogin, "an audience that can be hidden from never sees a login")
	require.Equal(t, second(0), visitor().Since, "the first note has the begin of the status")
	x.claim(10, presence.Claim{Status: "invisible"})
	require.Equal(t, second(10), visitor().LastSeen)
	require.Equal(t, second(10), visitor().Since)
	x.claim(30, presence.Claim{Status: "online"})
	v := visitor()
	require.Equal(t, second(30), v.Since)
	require.Zero(t, v.LastSeen)
	require.Zero(t, v.LastLogin)
	require.Equal(t, second(0), x.m.View(&x.s.Current, presence.AudienceAdmin).LastLogin)

	x.claim(40, presence.Claim{Status: "invisible"})
	x.claim(50, presence.Claim{Status: "away"})
	require.Equal(t, second(50), visitor().SetAt, "set at the instant since which it shows again")

	gone := newSubject(t, p)
	gone.do(0, presence.Event{Kind: presence.EventGrant})
	require.Zero(t, gone.m.View(&gone.s.Current, presence.AudienceVisitor).LastSeen, "never seen")
	require.Equal(t, presence.CauseLeft, gone.m.View(&gone.s.Current, presence.AudienceVisitor).Cause)
}

// Sentences of Explain about work, hiding, standstills and restarts.
func TestExplainedInEachSentence(t *testing.T) {
	p := drainingPolicy()
	p.Hideable = []presence.Audience{presence.AudienceVisitor}
	p.Work.Settle = time.Minute
	x := newSubject(t, p)
	at := func(seconds float64) string { return second(seconds).String() }
	x.login(0, "tab")
	x.do(1, presence.Event{Kind: presence.EventLoad, Load: presence.Load{N: 2}})
	x.claim(2, presence.Claim{Status: "available", HidesFrom: p.Hideable, Reason: "quiet", Until: second(50)})
	x.claim(3, presence.Claim{Status: "lunch"})
	x.do(4, presence.Event{Kind: presence.EventRequest, Actor: presence.Agent(ann), Claim: presence.Claim{Status: "busy"}})
	x.do(5, presence.Event{Kind: presence.EventChallenge})
	x.do(7, presence.Event{Kind: presence.EventSuspended, From: second(5), To: second(7)})
	lines := x.m.Explain(&x.s, presence.AudienceSelf)
	for _, want := range []string{
		"available: chosen by hand", "set at " + at(2), "until " + at(50), "reason: quiet",
		"2 pieces of work", "lunch follows when the work is done", "asked for busy at " + at(4), "asked to answer before " + at(65),
		"hidden from: visitor", "leases are extended to " + at(37) + " after a standstill", "next deadline " + at(50),
	} {
		require.Contains(t, lines, want)
	}
	require.NotContains(t, strings.Join(x.m.Explain(&x.s, presence.AudienceVisitor), "\n"), "work")

	record, err := x.m.Record(&x.s, 1)
	require.NoError(t, err)
	x.s, err = record.State(0, 0)
	require.NoError(t, err)
	x.do(10, presence.Event{Kind: presence.EventRestart})
	require.Contains(t, strings.Join(x.m.Explain(&x.s, presence.AudienceSelf), "\n"), "0 of 0 connections live\nthe connections from before a restart at "+at(10)+" count until ")

	lost := newSubject(t, p)
	lost.login(0, "tab")
	lost.do(1, presence.Event{Kind: presence.EventDisconnect, Conn: "tab", Cause: presence.CauseLost})
	lost.do(2, presence.Event{Kind: presence.EventConnect, Conn: "tab", Age: presence.NoAge})
	require.Contains(t, lost.m.Explain(&lost.s, presence.AudienceAdmin), "given no new work before "+at(62)+", until the connection has proved steady")

	stood := newSubject(t, p)
	stood.login(0, "tab")
	stood.do(7, presence.Event{Kind: presence.EventSuspended, From: second(5), To: second(7)})
	for seconds, extended := range map[float64]bool{36.9: true, 37: false} {
		y := subject{t: t, m: stood.m, s: stood.s.Clone()}
		y.tick(seconds)
		require.Equal(t, extended, slices.Contains(y.m.Explain(&y.s, presence.AudienceSelf), "leases are extended to "+at(37)+" after a standstill"), seconds)
	}
}

// No authorizer is asked about a name that cannot be one.
func TestAuthorizerIsNotAskedAboutFaultyNames(t *testing.T) {
	asked := 0
	d := newTracker(t, &presence.Options{Authorizer: authorizerFunc(func() error { asked++; return nil })})
	bad := presence.ID("a\x00b")
	_, err := d.SetClaim(t.Context(), boss, bad, presence.Claim{Status: "busy"})
	require.ErrorIs(t, err, presence.ErrInvalid)
	_, err = d.SetClaim(t.Context(), presence.Agent(bad), bad, presence.Claim{Status: "busy"})
	require.ErrorIs(t, err, presence.ErrInvalid)
	_, err = d.Get(t.Context(), boss, bad)
	require.ErrorIs(t, err, presence.ErrInvalid)
	require.Zero(t, asked)
}

// A policy without a status has one fault, and those of sources list the sources.
func TestFaultsOfEmptyPolicies(t *testing.T) {
	_, err := presence.Compile(presence.Policy{})
	require.EqualError(t, err, `presence: invalid policy "statuses": a policy needs at least one status`)
	p := presence.DefaultPolicy()
	p.Sources, p.DisconnectProof = nil, []presence.Source{"moon"}
	_, err = presence.Compile(p)
	require.ErrorContains(t, err, "allowed: system, call, supervisor, manual, calendar, app, login-default")
}

// The status of a kick-out is the first of class away, also if it is the first of all.
func TestKickOutToTheFirstStatus(t *testing.T) {
	p := presence.DefaultPolicy()
	p.Statuses[0], p.Statuses[1] = p.Statuses[1], p.Statuses[0]
	p.AddStatus(presence.Status{ID: "later", Class: presence.ClassAway})
	x := newSubject(t, p)
	x.login(0, "tab")
	x.do(1, presence.Event{Kind: presence.EventChallenge, Claim: presence.Claim{For: time.Second}})
	require.Equal(t, "away", x.tick(2).Status)
	require.Equal(t, presence.CauseSystem, x.s.Current.Cause)
}

// A duration in JSON that cannot be read is refused, and not taken for none.
func TestDurationsOfClaimsAreRead(t *testing.T) {
	for text, want := range map[string]time.Duration{`"5m"`: 5 * time.Minute, "1000": 1000} {
		var c presence.Claim
		require.NoError(t, c.UnmarshalJSON([]byte(`{"status":"busy","for":`+text+`}`)))
		require.Equal(t, want, c.For)
	}
	for _, text := range []string{`"5m\/"`, `"soon"`, `true`, `1.5`} {
		var c presence.Claim
		require.ErrorIs(t, c.UnmarshalJSON([]byte(`{"status":"busy","for":`+text+`}`)), presence.ErrInvalid, text)
	}
}

// A live connection that opens again changes no since: neither its own nor that of what
// another connection leaves behind.
func TestReopeningALiveConnectionIsNoChange(t *testing.T) {
	x := newSubject(t, presence.DefaultPolicy())
	x.login(0, "desk")
	x.keep(25, 400, "desk")
	x.do(400, presence.Event{Kind: presence.EventConnect, Conn: "phone", Age: presence.NoAge})
	x.do(410, presence.Event{Kind: presence.EventInput, Conn: "phone"})
	x.do(420, presence.Event{Kind: presence.EventDisconnect, Conn: "phone", Cause: presence.CauseClosed})
	x.do(422, presence.Event{Kind: presence.EventConnect, Conn: "desk", Age: presence.NoAge})
	require.Equal(t, "away", x.tick(425).Status)
	require.Equal(t, second(420), x.s.Current.Since)
}

// A subject that is disabled was last seen when its last connection left, or now if one
// is live.
func TestDisabledSubjectsWereLastSeen(t *testing.T) {
	x := newSubject(t, presence.DefaultPolicy())
	x.login(0, "a")
	x.login(0, "b")
	x.do(10, presence.Event{Kind: presence.EventDisconnect, Conn: "a", Cause: presence.CauseClosed})
	x.tick(16)
	x.do(20, presence.Event{Kind: presence.EventDisconnect, Conn: "b", Cause: presence.CauseClosed})
	live := x.s.Clone()
	x.do(22, presence.Event{Kind: presence.EventDisable})
	require.Equal(t, second(20), x.s.LeftAt)
	x.s = live
	x.login(23, "b")
	x.do(24, presence.Event{Kind: presence.EventDisable})
	require.Equal(t, second(24), x.s.LeftAt)
}

// The rows of one subject follow the row After as they were appended, whatever their
// instants. Those of a tenant follow its instant.
func TestRowsAfterARow(t *testing.T) {
	rows := []presence.JournalRow{{ID: "1", Subject: ann, At: 100}, {ID: "2", Subject: ann, At: 50}, {ID: "3", Subject: ann, At: 150}}
	names := func(q presence.JournalQuery) (list []string) {
		for _, row := range q.Select(rows) {
			list = append(list, row.ID)
		}
		return list
	}
	require.Equal(t, []string{"2", "3"}, names(presence.JournalQuery{Subject: ann, After: rows[0]}))
	require.Equal(t, []string{"3"}, names(presence.JournalQuery{After: rows[0]}))
	gone := presence.JournalRow{ID: "deleted", Subject: ann, At: 100}
	require.Equal(t, []string{"1", "2", "3"}, names(presence.JournalQuery{Subject: ann, After: gone}))
	require.Equal(t, []string{"1", "3"}, names(presence.JournalQuery{After: gone}))
	require.Equal(t, []string{"2", "1"}, names(presence.JournalQuery{From: 50, To: 150}))
	require.Equal(t, []string{"2"}, names(presence.JournalQuery{Limit: 1}))
}
