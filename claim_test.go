package presence_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/presence-go/presence"
	"github.com/presence-go/presence/internal/naive"
	"github.com/presence-go/presence/internal/seeds"
	"github.com/presence-go/presence/preset"
)

var switchboard = presence.System(presence.ID("pbx"))

// setsOf returns an event by which the switchboard sets a claim, or ends one.
func setsOf(kind presence.EventKind, c presence.Claim) presence.Event {
	c.Source = presence.SourceCall
	if kind == presence.EventSetClaim {
		c.Status = "busy"
	}
	return presence.Event{Kind: kind, Actor: switchboard, Claim: c}
}

// Fault 5: starts and ends of calls arrive in any order. Each sequence of three
// messages, with several times between them, agrees with the naive model.
func TestStartsAndEndsInAnyOrder(t *testing.T) {
	t.Parallel()
	messages := []presence.Event{
		setsOf(presence.EventSetClaim, presence.Claim{Key: "c1"}),
		setsOf(presence.EventSetClaim, presence.Claim{Key: "c1", ID: "x"}),
		setsOf(presence.EventSetClaim, presence.Claim{Key: "c1", ID: "y", Until: nineSharp.Add(time.Hour)}),
		setsOf(presence.EventSetClaim, presence.Claim{Key: "c2"}),
		setsOf(presence.EventSetClaim, presence.Claim{Key: "c1", Conn: "tab"}),
		setsOf(presence.EventEndClaim, presence.Claim{Key: "c1"}),
		setsOf(presence.EventEndClaim, presence.Claim{Key: "c1", ID: "x"}),
		setsOf(presence.EventEndClaim, presence.Claim{ID: "x"}),
		setsOf(presence.EventEndClaim, presence.Claim{Key: "c1", Conn: "tab"}),
		setsOf(presence.EventEndClaim, presence.Claim{}),
	}
	p := presence.DefaultPolicy()
	p.Lease, p.Idle = time.Hour, nil
	rules := newRuling(p)
	gaps := []time.Duration{time.Second, time.Minute - 1, time.Minute}
	none := 0
	sequence := make([]int, 3)
	var try func(at int)
	try = func(at int) {
		if at < len(sequence) {
			for i := range messages {
				sequence[at] = i
				try(at + 1)
			}
			return
		}
		for i := range len(gaps) * len(gaps) {
			h := &history{subjects: []presence.Ref{peter}, ruling: rules}
			now := nineSharp
			h.events = append(h.events, happened{at: now, event: presence.Event{Kind: presence.EventLogin, Conn: "tab", Age: presence.NoAge}})
			for j, k := range sequence {
				now = now.Add([]time.Duration{time.Second, gaps[i%len(gaps)], gaps[i/len(gaps)]}[j])
				h.events = append(h.events, happened{at: now, event: messages[k]})
			}
			f := follow(h)
			n := &naive.Model{Subject: peter, Policies: h.policies}
			for _, e := range h.events {
				accepted := f.feed(e) == nil
				require.True(t, accepted, "no order is refused")
				require.True(t, n.Feed(e.at, e.event, 0))
				if err := n.Compare(&f.s, e.at); err != nil {
					require.NoError(t, err, "%s", h)
				}
			}
			if len(f.s.Claims) == 0 {
				none++
			}
		}
	}
	try(0)
	require.Greater(t, none, 2000)
}

// Fault 5 in the words of the statement: what becomes of one start.
func TestStartAfterItsEnd(t *testing.T) {
	t.Parallel()
	set, end := presence.EventSetClaim, presence.EventEndClaim
	type message struct {
		at   float64
		kind presence.EventKind
		c    presence.Claim
	}
	key := func(at float64, kind presence.EventKind, key string) message {
		return message{at, kind, presence.Claim{Key: key}}
	}
	named := func(at float64, kind presence.EventKind, id string) message {
		return message{at, kind, presence.Claim{Key: "c", ID: id}}
	}
	for _, tt := range []struct {
		name     string
		messages []message
		busy     bool
	}{
		{"in order", []message{key(1, set, "c"), key(2, end, "c")}, false},
		{"reversed", []message{key(1, end, "c"), key(2, set, "c")}, false},
		{"reversed, at the last moment", []message{key(1, end, "c"), key(60.999, set, "c")}, false},
		{"reversed, too late", []message{key(1, end, "c"), key(61, set, "c")}, true},
		{"another call", []message{key(1, end, "c"), key(2, set, "d")}, true},
		{"only one start", []message{key(1, end, "c"), key(2, set, "c"), key(3, set, "c")}, true},
		{"the end twice, then the start", []message{key(1, end, "c"), key(50, end, "c"), key(100, set, "c")}, false},
		{"the end twice keeps one start", []message{key(1, end, "c"), key(2, end, "c"), key(3, set, "c"), key(4, set, "c")}, true},
		{"a repeated end", []message{key(1, set, "c"), key(2, end, "c"), key(3, end, "c"), key(4, set, "c")}, true},
		{"an end long after its repetition", []message{key(1, set, "c"), key(2, end, "c"), key(62, end, "c"), key(63, set, "c")}, false},
		{"after the start that was kept", []message{key(1, end, "c"), key(2, set, "c"), key(3, end, "c"), key(4, set, "c")}, true},
		{"without a name", []message{{1, end, presence.Claim{}}, key(2, set, "c")}, true},
		{"by id", []message{{1, end, presence.Claim{ID: "x"}}, {2, set, presence.Claim{Key: "c", ID: "x"}}}, false},
		{"by id, a start without one", []message{{1, end, presence.Claim{ID: "x"}}, key(2, set, "c")}, true},
		{"another id", []message{{1, end, presence.Claim{Key: "c", ID: "x"}}, {2, set, presence.Claim{Key: "c", ID: "y"}}}, true},
		{"an id on one side", []message{{1, end, presence.Claim{Key: "c", ID: "x"}}, key(2, set, "c")}, false},
		{"after the end of another call", []message{key(1, set, "d"), key(2, end, "d"), key(3, end, "c"), key(4, set, "c")}, false},
		{"the end of an id twice keeps one start", []message{named(1, end, "x"), named(2, end, "x"), named(3, set, "x"), key(4, set, "c")}, true},
		{"ends of two ids", []message{named(1, end, "x"), named(2, end, "y"), named(3, set, "x"), named(4, set, "y")}, false},
		{"ends of two ids, without the key", []message{{1, end, presence.Claim{ID: "x"}}, {2, end, presence.Claim{ID: "y"}}, named(3, set, "x"), named(4, set, "y")}, false},
		{"an end without the id of the other", []message{named(1, end, "x"), key(2, end, "c"), named(3, set, "x"), named(4, set, "y")}, true},
		{"the same start again", []message{key(1, end, "c"), {2, set, presence.Claim{Key: "c", ID: "x"}}, {3, set, presence.Claim{Key: "c", ID: "x"}}}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			x := newSubject(t, presence.DefaultPolicy())
			x.login(0, "tab")
			for _, m := range tt.messages {
				x.do(m.at, setsOf(m.kind, m.c))
			}
			require.Equal(t, tt.busy, x.s.Current.Status == "busy", "%+v", x.s.Claims)
		})
	}
}

// Fault 5: a subject remembers 32 ends, the newest, and forgets them after a minute.
func TestEndsAreBounded(t *testing.T) {
	t.Parallel()
	x := newSubject(t, presence.DefaultPolicy())
	x.login(0, "tab")
	plain := x.s.Clone()
	for i := range 33 {
		x.do(1, setsOf(presence.EventEndClaim, presence.Claim{Key: fmt.Sprint("c", i)}))
	}
	at, ok := x.m.Next(&x.s)
	require.True(t, ok)
	require.Equal(t, second(60), at, "the lease")
	for i := range 33 {
		x.do(2, setsOf(presence.EventSetClaim, presence.Claim{Key: fmt.Sprint("c", i)}))
	}
	require.Len(t, x.s.Claims, 1, "the first end was forgotten for the last")
	require.Equal(t, "c0", x.s.Claims[0].Key)
	x.do(3, setsOf(presence.EventEndClaim, presence.Claim{}))
	x.beat(40, "tab")
	x.tick(62)
	require.Empty(t, x.s.Claims)
	plain.Now, plain.Conns[0].Heard, plain.ChangedAt = x.s.Now, x.s.Conns[0].Heard, x.s.ChangedAt
	plain.Serial, plain.Current = x.s.Serial, x.s.Current
	x.s.Claims = nil
	require.Equal(t, plain, x.s, "nothing is left of them")
}

// Fault 5: a limit of a source holds for every source and moment, and follows the
// policy. The faults of the key name what is allowed.
func TestSourceForLimitsClaims(t *testing.T) {
	t.Parallel()
	p := presence.DefaultPolicy()
	p.Idle = nil
	p.SourceFor = map[presence.Source]time.Duration{presence.SourceCall: time.Minute, presence.SourceManual: 2 * time.Minute}
	for _, until := range []float64{0, 30, 90} {
		x := newSubject(t, p)
		x.login(0, "tab")
		c := presence.Claim{Key: "c"}
		end := 61.0
		if until > 0 {
			c.Until = second(until)
			end = min(end, until)
		}
		x.do(1, setsOf(presence.EventSetClaim, c))
		require.Equal(t, second(end), x.s.Current.Until)
		x.keep(25, 60, "tab")
		require.Equal(t, end > 60, x.tick(60).Status == "busy")
		require.Equal(t, "available", x.tick(61).Status)
		require.Equal(t, second(end), x.s.Current.Since)
	}
	x := newSubject(t, p)
	x.login(0, "tab")
	x.claim(1, presence.Claim{Status: "busy"})
	require.Equal(t, second(121), x.s.Current.Until)
	require.ErrorContains(t, presenceFault(func(p *presence.Policy) { p.SourceFor = map[presence.Source]time.Duration{"fax": time.Hour} }),
		`invalid policy "sourceFor.fax": "fax" is not a source of this policy; allowed: system, call, supervisor, manual, calendar, app, login-default`)
	require.ErrorContains(t, presenceFault(func(p *presence.Policy) { p.SourceFor = map[presence.Source]time.Duration{"call": -1} }),
		`invalid policy "sourceFor.call": must be positive, got -1ns`)
	require.NoError(t, presenceFault(func(p *presence.Policy) { require.NoError(t, p.Set("sourceFor.call", "4h")) }))
}

// Fault 4: a default chosen over something lower follows the naive model, over random
// histories of meetings, applications, choices and logins under many policies.
func TestDefaultsOverLowerClaims(t *testing.T) {
	t.Parallel()
	over, kept, ended := 0, 0, 0
	eachSeed(t, 600, func(t *testing.T, seed uint64) {
		r := rand.New(rand.NewPCG(seed, 4))
		p := [...]func() presence.Policy{presence.DefaultPolicy, preset.RocketChat, preset.TawkTo, preset.Threads, preset.Teams}[r.IntN(5)]()
		p.Lease = 4 * time.Hour
		if r.IntN(3) == 0 {
			p.Login = presence.LoginRule{Mode: presence.LoginReset, Status: p.Statuses[r.IntN(2)].ID}
		}
		if r.IntN(4) == 0 {
			p.SourceFor = map[presence.Source]time.Duration{presence.SourceCalendar: 5 * time.Minute}
		}
		h := &history{seed: seed, subjects: []presence.Ref{peter}, ruling: newRuling(p)}
		now := nineSharp
		for range 4 + r.IntN(20) {
			e := defaultEvent(r, &p, now)
			e.Subject = peter
			h.events = append(h.events, happened{at: now, event: e})
			now = now.Add(time.Duration(r.IntN(4)) * time.Minute)
		}
		h.events = append(h.events, happened{at: now.Add(30 * time.Minute)})
		requireAlways(t, h, func(h *history) error { return compareWithNaive(h, h.policies) })
		for _, o := range h.run().out {
			switch {
			case o.Kind == presence.OutputClaimSet && len(o.Claim.Over) > 0:
				over++
			case o.Kind == presence.OutputClaimSet && o.Claim.Source == presence.SourceManual:
				kept++
			case o.Kind == presence.OutputClaimEnded && o.Reason == presence.EndOver:
				ended++
			}
		}
	})
	if !seeds.Single() {
		require.Greater(t, over, 100)
		require.Greater(t, kept, 100)
		require.Greater(t, ended, 10)
	}
}

// defaultEvent is something that may happen around a choice of the default.
func defaultEvent(r *rand.Rand, p *presence.Policy, now presence.Instant) presence.Event {
	pick := func(list ...string) string { return list[r.IntN(len(list))] }
	e := presence.Event{Actor: presence.Agent(peter), Conn: pick("", "a", "b"), Age: presence.NoAge}
	byDefault := naive.DefaultIn(p).ID
	switch r.IntN(10) {
	case 0:
		e.Kind, e.Conn = presence.EventLogin, pick("a", "b")
	case 1, 2, 3:
		e.Kind, e.Claim.Status = presence.EventSetClaim, byDefault
		if r.IntN(4) == 0 {
			e.Claim.Text = pick("", "here")
		}
		if r.IntN(5) == 0 {
			e.Claim.For = time.Duration(1+r.IntN(6)) * time.Minute
		}
	case 4:
		e.Kind, e.Claim.Status = presence.EventSetClaim, p.Statuses[r.IntN(len(p.Statuses))].ID
	case 5:
		e.Kind, e.Claim.Key = presence.EventEndClaim, pick("", presence.KeyBase)
	case 6:
		e.Kind, e.Actor, e.Conn, e.Claim.Status = presence.EventSetClaim, boss, "", p.Statuses[r.IntN(len(p.Statuses))].ID
	default:
		e.Kind, e.Actor, e.Conn = presence.EventSetClaim, switchboard, ""
		e.Claim = presence.Claim{Source: presence.Source(pick("calendar", "app", "call")), Key: pick("m1", "m2"), Status: p.Statuses[r.IntN(len(p.Statuses))].ID}
		switch r.IntN(4) {
		case 0:
			e.Kind, e.Claim.Status = presence.EventEndClaim, ""
		case 1:
			e.Claim.Until = now.Add(time.Duration(1+r.IntN(8)) * time.Minute)
		case 2:
			e.Claim.Conn, e.Claim.DropOnDisconnect = pick("", "a"), r.IntN(2) == 0
		}
	}
	return e
}

// Fault 4: what a default lies over is stored with it, and a stored one ends with it.
func TestDefaultOverAMeetingSurvivesARestart(t *testing.T) {
	t.Parallel()
	o := newStored(t)
	o.connect(ann, "tab")
	meets := func(key string, d time.Duration) {
		_, err := o.SetClaim(t.Context(), presence.System(presence.ID("cal")), ann, presence.Claim{Source: presence.SourceCalendar, Key: key, Status: "busy", For: d})
		require.NoError(t, err)
	}
	meets("m1", time.Hour)
	require.NoError(t, o.claim(ann, presence.Claim{Status: "available", Over: [][2]string{{"call", "mine"}}}))
	require.Equal(t, "available", o.status(ann))
	o.restart()
	o.connect(ann, "tab")
	claims := o.state(ann).Claims
	require.Len(t, claims, 2)
	require.Equal(t, [][2]string{{"calendar", "m1"}}, claims[1].Over, "a client does not set it")
	require.Contains(t, fmt.Sprint(o.ExplainAs(t.Context(), presence.AudienceSelf, ann)), ", over calendar m1")
	o.restart()
	o.clock.Add(time.Hour)
	o.connect(ann, "tab")
	require.Empty(t, o.state(ann).Claims)
	meets("m2", time.Hour)
	require.Equal(t, "busy", o.status(ann))
}

// Fault 12: a stage of what is unchosen masks exactly when no claim of the manual rank
// is on top, for every claim on top and policy.
func TestStageOfWhatIsUnchosen(t *testing.T) {
	t.Parallel()
	for _, of := range []string{"", "any", presence.OfUnchosen} {
		for _, order := range [][][]presence.Source{
			presence.DefaultSources(),
			{{presence.SourceSystem}, {presence.SourceSupervisor}, {presence.SourceManual}, {presence.SourceCall, presence.SourceCalendar}, {presence.SourceApp}, {presence.SourceLoginDefault}},
		} {
			for _, source := range append([]presence.Source{""}, gateSources...) {
				for _, upper := range append([]presence.Source{""}, gateSources[:2]...) {
					p := presence.DefaultPolicy()
					p.Statuses = append(p.Statuses, presence.Status{ID: "free", Class: presence.ClassAvailable})
					p.Idle = []presence.IdleStage{{After: time.Minute, To: "away", On: []string{"available", "free"}, Of: of}}
					p.Sources, p.KeepExplicit, p.Activity = order, true, []string{presence.ActivityInput}
					x := newSubject(t, p)
					x.do(0, presence.Event{Kind: presence.EventConnect, Conn: "tab", Age: presence.NoAge})
					for at, s := range []presence.Source{source, upper} {
						if s != "" {
							x.set(float64(at+1), spoken{s, "free"}, "k")
						}
					}
					rank := func(s presence.Source) int {
						return slices.IndexFunc(order, func(group []presence.Source) bool { return slices.Contains(group, s) })
					}
					top := source
					if upper != "" && (source == "" || rank(upper) <= rank(source)) {
						top = upper
					}
					byHand := top != "" && rank(top) == rank(presence.SourceManual)
					x.keep(25, 75, "tab")
					want := "away"
					if of == presence.OfUnchosen && byHand {
						want = x.s.Current.Status
						require.NotEqual(t, "away", want)
					}
					require.Equal(t, want, x.tick(80).Status, "of %q, %s under %q, %v", of, source, upper, order)
					if want == "away" {
						require.Equal(t, second(60), x.s.Current.Since)
						continue
					}
					x.do(81, presence.Event{Kind: presence.EventEndClaim, Actor: presence.System(presence.ID("host")), Claim: presence.Claim{Source: top}})
					require.Equal(t, "away", x.s.Current.Status, "the age counts at once")
					require.Equal(t, second(81), x.s.Current.Since)
				}
			}
		}
	}
	require.ErrorContains(t, presenceFault(func(p *presence.Policy) { p.Idle[0].Of = "none" }),
		`invalid policy "idle[0].of": "none" is not allowed; allowed: any, unchosen`)
}

// Fault 13: a connection whose best own claim is to a status that keeps lingers for
// the longer of its grace and of what the status keeps, for every way of leaving and
// every end of the claim.
func TestStatusKeepsItsConnection(t *testing.T) {
	t.Parallel()
	const keeps = 100.0
	for _, cause := range []presence.Cause{presence.CauseClosed, presence.CauseLost, presence.CauseNode, presence.CauseDrain, presence.CauseLogout} {
		for _, grace := range []time.Duration{0, 10 * time.Second, 200 * time.Second} {
			for _, own := range []presence.Claim{
				{Status: "busy", Conn: "tab"}, {Status: "away", Conn: "tab"}, {Status: "busy"}, {Status: "busy", Conn: "other"}, {Status: "busy", Conn: "tab", For: 50 * time.Second},
			} {
				for _, over := range []presence.Source{"", presence.SourceCall, presence.SourceApp} { // a second claim of the connection
					p := presence.DefaultPolicy()
					p.Idle, p.Lease = nil, time.Hour
					p.Grace = presence.Grace{Logout: grace, Close: grace, Loss: grace, Node: grace, Drain: grace}
					require.NoError(t, p.Set("statuses.busy.keeps", "100s"))
					x := newSubject(t, p)
					x.login(0, "other")
					x.do(0, presence.Event{Kind: presence.EventLogin, Conn: "tab", Node: "n", Incarnation: 1, Age: presence.NoAge})
					x.claim(1, own)
					if over != "" {
						x.do(2, presence.Event{Kind: presence.EventSetClaim, Actor: switchboard, Claim: presence.Claim{Source: over, Status: "away", Conn: "tab"}})
					}
					x.do(10, presence.Event{Kind: presence.EventDisconnect, Conn: "tab", Cause: cause})
					ends := 10 + grace.Seconds()
					if cause != presence.CauseLogout && own.Status == "busy" && own.Conn == "tab" && over != presence.SourceCall {
						ends = max(ends, min(10+keeps, map[bool]float64{true: 51, false: 10 + keeps}[own.For > 0]))
					}
					name := fmt.Sprintf("%s, grace %v, %+v, under %q", cause, grace, own, over)
					lingers := func(at float64) bool {
						x.tick(at)
						return slices.ContainsFunc(x.s.Conns, func(c presence.ConnState) bool { return c.ID == "tab" })
					}
					if ends > 10 {
						require.True(t, lingers(ends-0.001), name)
					}
					require.False(t, lingers(ends), name)
				}
			}
		}
	}
	require.ErrorContains(t, presenceFault(func(p *presence.Policy) { p.Statuses[2].Keeps = -1 }), `invalid policy "statuses.busy.keeps": must not be negative`)
}

// Fault 13: what keeps a connection may end early, and another process of its node
// does not end it.
func TestKeptConnectionEndsWithItsClaim(t *testing.T) {
	t.Parallel()
	for _, end := range []presence.Event{
		{Kind: presence.EventEndClaim, Actor: presence.Agent(ann), Claim: presence.Claim{Conn: "tab"}},
		{Kind: presence.EventSetClaim, Actor: presence.Agent(ann), Claim: presence.Claim{Status: "away"}},
		{Kind: presence.EventLogout},
		{Kind: presence.EventNodeUp, Node: "n", Incarnation: 2},
		{Kind: presence.EventConnect, Conn: "tab", Age: presence.NoAge},
	} {
		p := presence.DefaultPolicy()
		require.NoError(t, p.Set("statuses.busy.keeps", "1h"))
		x := newSubject(t, p)
		x.do(0, presence.Event{Kind: presence.EventLogin, Conn: "tab", Node: "n", Incarnation: 1, Age: presence.NoAge})
		x.claim(1, presence.Claim{Status: "busy", Conn: "tab"})
		x.do(10, presence.Event{Kind: presence.EventNodeDown, Node: "n", Incarnation: 1})
		require.Equal(t, presence.ReachLingering, x.tick(600).Reach)
		require.Equal(t, "busy", x.s.Current.Status)
		x.do(600, end)
		switch end.Kind {
		case presence.EventEndClaim, presence.EventLogout:
			require.Equal(t, presence.ReachNone, x.s.Current.Reach)
			require.Equal(t, "offline", x.s.Current.Status)
		case presence.EventConnect:
			require.Equal(t, presence.ReachLive, x.s.Current.Reach)
		default:
			require.Equal(t, presence.ReachLingering, x.s.Current.Reach)
			require.Equal(t, presence.ReachNone, x.tick(3610).Reach)
		}
	}
}

// A plain choice of the default status ends the choices before it and is no claim. A
// choice with more than that is one.
func TestPlainDefaultIsNoClaim(t *testing.T) {
	team := []presence.Audience{presence.AudienceTeam}
	agent, host := presence.Agent(ann), presence.System(presence.ID("host"))
	for name, tt := range map[string]struct {
		by     presence.Actor
		claim  presence.Claim
		keep   bool
		stored bool
	}{
		"plain":               {agent, presence.Claim{}, false, false},
		"kept by the policy":  {agent, presence.Claim{}, true, true},
		"with a text":         {agent, presence.Claim{Text: "here"}, false, true},
		"with a reason":       {agent, presence.Claim{Reason: "r"}, false, true},
		"with an end":         {agent, presence.Claim{For: time.Hour}, false, true},
		"hides":               {agent, presence.Claim{HidesFrom: team}, false, true},
		"of a system":         {host, presence.Claim{Source: presence.SourceApp}, false, true},
		"another status":      {agent, presence.Claim{Status: "busy"}, false, true},
		"of a supervisor":     {boss, presence.Claim{}, false, true},
		"of a system by hand": {host, presence.Claim{Source: presence.SourceManual}, false, false},
	} {
		p := presence.DefaultPolicy()
		p.KeepExplicit, p.Hideable = tt.keep, team
		x := newSubject(t, p)
		x.login(0, "tab")
		x.claim(1, presence.Claim{Status: "away"})
		if tt.claim.Status == "" {
			tt.claim.Status = "available"
		}
		x.do(2, presence.Event{Kind: presence.EventSetClaim, Actor: tt.by, Claim: tt.claim})
		require.Equal(t, tt.stored, slices.ContainsFunc(x.s.Claims, func(c presence.Claim) bool { return c.SetAt == second(2) }), name)
	}
}

// Fault 4: over one connection, the choice of the default ends the choices for that
// connection. It is stored if a choice of the manual rank or below would else show, and
// then lasts as long as the claims below manual that it lies over.
func TestDefaultOverOneConnection(t *testing.T) {
	type claims map[string][]string
	type step func(x *subject)
	over := func(conn, status string) step {
		return func(x *subject) {
			x.do(2, presence.Event{Kind: presence.EventSetClaim, Actor: presence.Agent(ann), Conn: conn, Claim: presence.Claim{Status: status}})
		}
	}
	system := func(source presence.Source, conn, status string) step {
		return func(x *subject) {
			x.do(2, presence.Event{Kind: presence.EventSetClaim, Actor: switchboard, Claim: presence.Claim{Source: source, Conn: conn, Status: status, Key: "m"}})
		}
	}
	supervises := func(x *subject) {
		x.do(2, presence.Event{Kind: presence.EventSetClaim, Actor: boss, Claim: presence.Claim{Status: "away"}})
	}
	for name, tt := range map[string]struct {
		login  string // what a login sets, if it resets
		before []step
		stored bool
		over   [][2]string
		others claims // the claims that are left, by source
	}{
		"nothing before":      {},
		"its own choice":      {before: []step{over("tab", "busy")}},
		"that of a phone":     {before: []step{over("phone", "busy")}, stored: false, others: claims{"manual": {"phone"}}},
		"a supervisor's":      {before: []step{supervises}, stored: true, others: claims{"supervisor": {""}}},
		"a call":              {before: []step{system(presence.SourceCall, "", "busy")}, others: claims{"call": {""}}},
		"a call for the tab":  {before: []step{system(presence.SourceCall, "tab", "busy")}, others: claims{"call": {"tab"}}},
		"a meeting":           {before: []step{system(presence.SourceCalendar, "", "busy")}, stored: true, over: [][2]string{{"calendar", "m"}}, others: claims{"calendar": {""}}},
		"a login to away":     {login: "away", stored: true, over: [][2]string{{"login-default", "base"}}, others: claims{"login-default": {""}}},
		"a login to the same": {login: "available", before: []step{system(presence.SourceCalendar, "", "busy")}, stored: true, over: [][2]string{{"calendar", "m"}}, others: claims{"calendar": {""}, "login-default": {""}}},
		"meetings of both": {before: []step{system(presence.SourceCalendar, "tab", "busy"), system(presence.SourceCalendar, "phone", "busy")},
			stored: true, over: [][2]string{{"calendar", "m"}}, others: claims{"calendar": {"phone", "tab"}}},
	} {
		p := presence.DefaultPolicy()
		p.ClaimScope, p.Fold = presence.ScopeConnection, []string{"available", "busy", "away"}
		if tt.login != "" {
			p.Login = presence.LoginRule{Mode: presence.LoginReset, Status: tt.login}
		}
		x := newSubject(t, p)
		x.login(0, "phone")
		x.login(0, "tab")
		for _, step := range tt.before {
			step(x)
		}
		x.do(3, presence.Event{Kind: presence.EventSetClaim, Actor: presence.Agent(ann), Conn: "tab", Claim: presence.Claim{Status: "available"}})
		others, stored := claims{}, false
		for _, c := range x.s.Claims {
			if c.Source == presence.SourceManual && c.Conn == "tab" {
				stored = true
				require.Equal(t, tt.over, c.Over, name)
				continue
			}
			others[string(c.Source)] = append(others[string(c.Source)], c.Conn)
		}
		require.Equal(t, tt.stored, stored, name)
		if len(tt.others)+len(others) > 0 {
			require.Equal(t, tt.others, others, name)
		}
	}
}

// Fault 5: a source can be limited to the shortest time, and at the limit both ends are one.
func TestShortestLimitOfASource(t *testing.T) {
	p := presence.DefaultPolicy()
	p.SourceFor = map[presence.Source]time.Duration{presence.SourceCall: 1, presence.SourceManual: time.Minute}
	x := newSubject(t, p)
	x.login(0, "tab")
	x.do(1, setsOf(presence.EventSetClaim, presence.Claim{}))
	require.Equal(t, second(1)+1, x.s.Current.Until)
	x.claim(2, presence.Claim{Status: "away", For: time.Minute})
	require.Equal(t, second(62), x.s.Current.Until)
}

// Fault 5: an end is forgotten when its own minute is over, and not with another deadline.
func TestEndsOutlastOtherDeadlines(t *testing.T) {
	x := newSubject(t, presence.DefaultPolicy())
	x.login(0, "tab")
	x.do(1, setsOf(presence.EventEndClaim, presence.Claim{Key: "c"}))
	x.do(1, presence.Event{Kind: presence.EventEndpoint, Endpoint: presence.Endpoint{ID: "p", Kind: presence.EndpointPush, Until: second(20)}})
	x.tick(30)
	require.Empty(t, x.s.Endpoints)
	x.do(31, setsOf(presence.EventSetClaim, presence.Claim{Key: "c"}))
	require.Empty(t, x.s.Claims)
}

// Fault 4: with the claims below it only the default ends, and no other claim.
func TestOnlyTheDefaultEndsWithWhatIsBelow(t *testing.T) {
	x := newSubject(t, presence.DefaultPolicy())
	x.login(0, "tab")
	meeting := presence.Claim{Source: presence.SourceCalendar, Key: "m", Status: "busy"}
	x.do(1, presence.Event{Kind: presence.EventSetClaim, Actor: switchboard, Claim: meeting})
	x.claim(2, presence.Claim{Status: "available"})
	x.do(3, setsOf(presence.EventSetClaim, presence.Claim{Key: "c"}))
	require.Len(t, x.s.Claims, 3)
	x.do(4, presence.Event{Kind: presence.EventEndClaim, Actor: switchboard, Claim: meeting})
	require.Len(t, x.s.Claims, 1)
	require.Equal(t, presence.SourceCall, x.s.Claims[0].Source)
}
