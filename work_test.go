package presence_test

import (
	"cmp"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/presence-go/presence"
	"github.com/presence-go/presence/internal/seeds"
	"github.com/presence-go/presence/preset"
)

// workPolicy is the threads preset with every rule of work in play.
func workPolicy(r *rand.Rand) presence.Policy {
	p := preset.Threads()
	p.Work.Capacity = r.IntN(4)
	p.Work.SelfReady = r.IntN(2) == 0
	p.Work.RequeueAfter = time.Duration(r.IntN(3)) * 3 * time.Minute
	p.Work.Settle = time.Duration(r.IntN(2)) * 20 * time.Second
	p.Work.RequestFor = time.Duration(r.IntN(2)) * 2 * time.Minute
	p.Work.SupervisorDrain = []string{"drain", "requeue"}[r.IntN(2)]
	p.Work.WithdrawOn = []string{"logout", "closed", "never"}[r.IntN(3)]
	p.AddStatus(presence.Status{ID: "sticky", Class: presence.ClassAvailable, Routing: presence.RouteSticky})
	p.AddStatus(presence.Status{ID: "asked", Class: presence.ClassAway, NeedsApproval: true, DrainsFirst: true})
	return p
}

// workEvent is something that may happen to ann, most of it about work.
func workEvent(r *rand.Rand, s *presence.State) presence.Event {
	pick := func(list ...string) string { return list[r.IntN(len(list))] }
	revision := func() presence.Instant {
		switch r.IntN(4) {
		case 0:
			return s.Current.Revision - presence.Instant(r.IntN(3))*presence.Instant(time.Second)
		case 1:
			return 0
		}
		return s.Current.Revision
	}
	e := presence.Event{Subject: ann, Actor: presence.Agent(ann), Age: presence.NoAge}
	if r.IntN(3) == 0 {
		e.Actor = boss
	}
	if s.Current.Reach == presence.ReachNone || s.Current.Class != presence.ClassAvailable && r.IntN(4) == 0 {
		if e.Kind, e.Conn = presence.EventConnect, "a"; s.Current.Reach == presence.ReachLive {
			e.Kind, e.Conn, e.Actor, e.Claim.Status = presence.EventSetClaim, "", boss, "active"
		}
		return e
	}
	switch r.IntN(16) {
	case 0, 1:
		e.Kind, e.Conn = presence.EventConnect, pick("a", "b")
	case 2:
		e.Kind, e.Conn = presence.EventLogin, pick("a", "b")
	case 3:
		e.Kind, e.Conn, e.Cause = presence.EventDisconnect, pick("a", "b"), presence.Cause(pick("closed", "lost"))
	case 4:
		e.Kind, e.Conn = presence.EventHeartbeat, pick("a", "b")
	case 5, 6:
		e.Kind = presence.EventSetClaim
		e.Claim.Status = pick("active", "lunch", "short", "not-ready", "sticky", "asked")
		if r.IntN(4) == 0 {
			e.Claim.For = time.Minute
		}
	case 7:
		e.Kind, e.Load, e.Revision = presence.EventLoad, presence.Load{On: pick("", "", "calls"), N: r.IntN(3)}, revision()
	case 8, 9:
		e.Kind, e.Load.On, e.Revision = presence.EventOffer, pick("", "", "calls"), revision()
		e.Routing = presence.Routing(pick("all", "sticky", "none", "transfer"))
	case 10:
		e.Kind, e.Load.On, e.Revision = presence.EventDone, pick("", "", "calls"), revision()
	case 11:
		e.Kind, e.Claim.For = presence.EventChallenge, time.Duration(1+r.IntN(60))*time.Second
	case 12:
		e.Kind, e.ID = presence.EventAck, pick("", "", "other")
	case 13:
		e.Kind, e.Claim.Status, e.Actor = presence.EventRequest, pick("asked", "lunch"), presence.Agent(ann)
	case 14:
		e.Kind, e.Reject = presence.EventDecide, r.IntN(2) == 0
	case 15:
		e.Kind = presence.EventKind(pick(string(rune(presence.EventWithdraw)), string(rune(presence.EventLogout)), string(rune(presence.EventEndClaim)))[0])
	}
	return e
}

// TestWorkInvariants: over random histories, who is routable can be given work
// (invariant 9), each kick-out takes the work away exactly once, after which
// nothing that was counted before counts (invariant 10), and ticking more or
// less often changes nothing.
func TestWorkInvariants(t *testing.T) {
	kicked, requeued, drained, decided, stale := 0, 0, 0, 0, 0
	for seed := range seeds.Range(t, 1500) {
		r := rand.New(rand.NewPCG(seed, 9))
		m := mustCompile(workPolicy(r))
		var s, often presence.State
		now := presence.At(time.Date(2026, 1, 5, 9, 0, 0, 0, time.UTC))
		ids := make(map[string]bool)
		var told, toldOften []string
		for step := range 60 {
			from := now
			now = now.Add(time.Duration(r.IntN(40)) * time.Second)
			e := workEvent(r, &s)
			label := fmt.Sprintf("seed %d step %d %+v", seed, step, e)
			before := s.Clone()
			_, _, _ = m.Step(&before, &presence.Event{Kind: presence.EventTick}, now, nil)
			out, _, err := m.Step(&s, &e, now, nil)
			if e.Kind == presence.EventOffer && e.Revision != 0 && e.Revision != before.Current.Revision {
				require.ErrorIs(t, err, presence.ErrStale, label)
				stale++
			}
			var ticks []presence.Output
			for at := from; at < now; at = at.Add(7 * time.Second) {
				ticks, _, _ = m.Step(&often, &presence.Event{Kind: presence.EventTick}, at, ticks)
			}
			ticks, _, errOften := m.Step(&often, &e, now, ticks)
			require.Equal(t, err == nil, errOften == nil, label)
			told, toldOften = append(told, essence(out)...), append(toldOften, essence(ticks)...)
			require.Equal(t, told, toldOften, label)

			p := &s.Current
			if p.Routable {
				require.True(t, p.Reach == presence.ReachLive || p.Reach == presence.ReachVirtual, label)
				require.Equal(t, presence.ClassAvailable, p.Class, label)
				require.Empty(t, p.Pending, label)
				require.False(t, slices.ContainsFunc(s.Claims, func(c presence.Claim) bool { return c.Key == presence.KeyKickedOut }), label)
				_, n, bounded := m.Receives(&s, "")
				require.True(t, !bounded || n > 0, label)
			}
			if err == nil && e.Kind == presence.EventOffer && e.Routing != presence.RouteNone && e.Revision != 0 {
				require.Greater(t, s.Work.Total(), 0, label)
			}
			for i, o := range out {
				switch {
				case o.Kind == presence.OutputRequeue:
					require.False(t, ids[o.ID], "%s: %s was told twice", label, o.ID)
					ids[o.ID] = true
					requeued++
				case o.Kind == presence.OutputClaimSet && o.Claim.Key == presence.KeyKickedOut:
					kicked++
					rest := slices.IndexFunc(out[i:], func(o presence.Output) bool { return o.Kind == presence.OutputRequeue })
					require.Equal(t, 1, rest, "%s: a kick-out without its requeue", label)
				case o.Kind == presence.OutputTransition && o.Trigger == presence.TriggerLoad && o.Presence.Class == presence.ClassAway:
					drained++
				case o.Kind == presence.OutputRequestClosed:
					decided++
				}
			}
			if s.Work != nil && before.Work != nil && s.Work.Requeued > before.Work.Requeued {
				stale := presence.Event{Kind: presence.EventLoad, Subject: ann, Load: presence.Load{N: 3}, Revision: s.Work.Requeued - 1}
				copied := s.Clone()
				_, _, err := m.Step(&copied, &stale, now, nil)
				require.NoError(t, err)
				require.Equal(t, s.Work.Total(), copied.Work.Total(), label)
			}
			if s.Work != nil && s.Work.Pending != nil {
				require.Positive(t, s.Work.Total(), "%s: pending without work", label)
			}
		}
		record, err := m.Record(&s, 1)
		require.NoError(t, err)
		back, err := record.State(0, 0)
		require.NoError(t, err)
		if s.Work != nil {
			if s.Work.Pending != nil || len(s.Work.Requests) > 0 {
				require.Equal(t, s.Work.Pending, back.Work.Pending)
				require.Len(t, back.Work.Requests, len(s.Work.Requests))
				if len(s.Work.Requests) > 0 {
					require.Equal(t, s.Work.Requests, back.Work.Requests)
				}
			}
			if back.Work != nil {
				require.Equal(t, s.Work.Requeued, back.Work.Requeued)
			}
		}
		require.Equal(t, s.Current.Revision, back.Current.Revision)
	}
	if seeds.Single() {
		return
	}
	for what, n := range map[string]int{"kick-outs": kicked, "requeues": requeued, "drained": drained, "decided": decided, "stale offers": stale} {
		require.Greater(t, n, 50, "too few %s for this to mean anything", what)
	}
}

// essence is what two runs that tick differently must agree on.
func essence(out []presence.Output) (list []string) {
	for _, o := range out {
		switch o.Kind {
		case presence.OutputTransition:
			list = append(list, fmt.Sprint("to ", o.Presence.Status, o.At, o.Trigger))
		case presence.OutputRequeue:
			list = append(list, fmt.Sprint("requeue ", o.ID, o.At, o.Load))
		case presence.OutputRequestClosed:
			list = append(list, fmt.Sprint("closed ", o.Request.ID, o.At, o.Reason))
		case presence.OutputClaimSet:
			list = append(list, fmt.Sprint("set ", o.Claim.Status, o.Claim.Source, o.At))
		}
	}
	return list
}

// TestStatementD9: whatever happens, everybody known falls under exactly one of
// the labels offered, and an available one under the label of its work.
func TestStatementD9(t *testing.T) {
	met := make(map[string]int)
	for seed := range seeds.Range(t, 300) {
		r := rand.New(rand.NewPCG(seed, 11))
		m := mustCompile(workPolicy(r))
		labels := m.Labels()
		require.Len(t, slices.Compact(slices.Sorted(slices.Values(labels))), len(labels), "no label twice")
		var s presence.State
		now := presence.At(time.Date(2026, 1, 5, 9, 0, 0, 0, time.UTC))
		for range 60 {
			now = now.Add(time.Duration(r.IntN(40)) * time.Second)
			e := workEvent(r, &s)
			_, _, _ = m.Step(&s, &e, now, nil) // refused or not
			p := &s.Current
			if !p.Known {
				continue
			}
			label := cmp.Or(p.Label, p.Status)
			require.Contains(t, labels, label)
			met[label]++
			threads, known := p.Load.Get()
			switch p.Label {
			case "":
				require.NotEqual(t, presence.ClassAvailable, p.Class)
			case presence.LabelFinishing:
				require.NotNil(t, s.Work.Pending)
				require.Positive(t, threads)
			case presence.LabelFree:
				require.Zero(t, threads)
				require.True(t, known)
				require.Empty(t, p.Pending)
			case presence.LabelActive:
				require.Positive(t, threads)
			}
		}
	}
	if seeds.Single() {
		return
	}
	for _, label := range []string{presence.LabelFree, presence.LabelActive, presence.LabelFinishing, presence.LabelNotReceiving, "lunch", "kicked-out", "offline"} {
		require.Positive(t, met[label], label)
	}
}

// Ending an unknown claim changes neither pending statuses nor requests.
func TestEndingNothingChangesNothing(t *testing.T) {
	p := presence.DefaultPolicy()
	require.NoError(t, p.Set("statuses.away.drainsFirst", "true"))
	x := newSubject(t, p)
	agent := presence.Agent(ann)
	x.login(0, "tab")
	x.do(1, presence.Event{Kind: presence.EventLoad, Load: presence.Load{N: 1}})
	x.claim(2, presence.Claim{ID: "new", Status: "away"})
	x.do(2, presence.Event{Kind: presence.EventRequest, Actor: agent, Claim: presence.Claim{Status: "busy"}})
	before := x.s.Clone()
	for _, c := range []presence.Claim{{ID: "old"}, {Key: presence.KeyTimed}, {Conn: "other"}} {
		require.Empty(t, x.do(2, presence.Event{Kind: presence.EventEndClaim, Actor: agent, Claim: c}))
		require.Equal(t, before, x.s)
	}
	x.do(3, presence.Event{Kind: presence.EventEndClaim, Actor: agent, Claim: presence.Claim{ID: "new"}})
	require.Nil(t, x.s.Work.Pending, "what waits can be ended as well")
}

// Fault 6: of any four messages in any order, an end drops the break that waits only
// if it names it, and closes no request. A plain model follows the statement.
func TestEndsDropOnlyWhatTheyName(t *testing.T) {
	t.Parallel()
	p := presence.DefaultPolicy()
	p.AddStatus(presence.Status{ID: "desk", Class: presence.ClassAvailable})
	p.AddStatus(presence.Status{ID: "lunch", Class: presence.ClassAway, DrainsFirst: true})
	p.AddStatus(presence.Status{ID: "asked", Class: presence.ClassAway, NeedsApproval: true})
	m := mustCompile(p)
	type message struct {
		kind  presence.EventKind
		actor presence.Actor
		claim presence.Claim
	}
	own, host := presence.Agent(ann), presence.System(presence.ID("host"))
	messages := []message{
		{presence.EventSetClaim, own, presence.Claim{Status: "desk"}},
		{presence.EventSetClaim, own, presence.Claim{Status: "desk", For: time.Hour}},
		{presence.EventSetClaim, own, presence.Claim{Status: "lunch"}},
		{presence.EventSetClaim, own, presence.Claim{Status: "lunch", For: time.Hour, ID: "x"}},
		{presence.EventSetClaim, boss, presence.Claim{Status: "desk"}},
		{presence.EventSetClaim, boss, presence.Claim{Status: "lunch"}},
		{presence.EventSetClaim, host, presence.Claim{Status: "desk", Source: presence.SourceCalendar, Key: "base"}},
		{presence.EventRequest, own, presence.Claim{Status: "asked"}},
		{presence.EventEndClaim, own, presence.Claim{}},
		{presence.EventEndClaim, own, presence.Claim{Key: "base"}},
		{presence.EventEndClaim, own, presence.Claim{Key: "timed"}},
		{presence.EventEndClaim, own, presence.Claim{ID: "x"}},
		{presence.EventEndClaim, own, presence.Claim{Conn: "tab"}},
		{presence.EventEndClaim, boss, presence.Claim{}},
		{presence.EventEndClaim, boss, presence.Claim{Key: "timed"}},
		{presence.EventEndClaim, host, presence.Claim{Source: presence.SourceCalendar}},
		{presence.EventEndClaim, host, presence.Claim{Source: presence.SourceSupervisor, Key: "base"}},
	}
	source := func(msg message) presence.Source {
		switch msg.actor.Role {
		case presence.RoleSupervisor:
			return presence.SourceSupervisor
		case presence.RoleSystem:
			return msg.claim.Source
		}
		return presence.SourceManual
	}
	start := newSubject(t, p)
	start.login(0, "tab")
	start.do(1, presence.Event{Kind: presence.EventLoad, Load: presence.Load{N: 1}})
	var dropped, kept int
	var follow func(s *presence.State, waits *message, asked bool, said []message)
	follow = func(s *presence.State, waits *message, asked bool, said []message) {
		if len(said) == 4 {
			return
		}
		for _, msg := range messages {
			x := &subject{t: t, m: m, s: s.Clone()}
			x.do(float64(2+len(said)), presence.Event{Kind: msg.kind, Actor: msg.actor, Claim: msg.claim})
			next, open := waits, asked
			switch {
			case msg.kind == presence.EventRequest:
				open = true
			case msg.kind == presence.EventSetClaim && msg.claim.ID != "" && waits != nil && waits.claim.ID == msg.claim.ID:
				// The same message again changes nothing.
			case msg.kind == presence.EventSetClaim && source(msg) != presence.SourceCalendar:
				next, open = nil, false
				if msg.claim.Status == "lunch" {
					next = &msg
				}
			case msg.kind == presence.EventEndClaim && waits != nil:
				key := "base"
				if waits.claim.For > 0 {
					key = "timed"
				}
				named := source(msg) == source(*waits) && msg.claim.Conn == "" && (msg.claim.Key == "" || msg.claim.Key == key) && (msg.claim.ID == "" || msg.claim.ID == waits.claim.ID)
				if named {
					next = nil
					dropped++
				} else {
					kept++
				}
			}
			list := append(slices.Clone(said), msg)
			var pending *presence.Claim
			if w := x.s.Work; w != nil {
				pending = w.Pending
			}
			if (pending != nil) != (next != nil) || pending != nil && pending.Source != source(*next) || (len(x.s.Work.Requests) > 0) != open {
				require.Fail(t, "differs", "%+v: waits %+v, asked %t, want %+v, %t", list, pending, len(x.s.Work.Requests) > 0, next, open)
			}
			follow(&x.s, next, open, list)
		}
	}
	follow(&start.s, nil, false, nil)
	require.Greater(t, dropped, 1000)
	require.Greater(t, kept, 1000)
}

// Fault 6: a choice that has ended holds until its break begins, also over a restart.
func TestChoiceHoldsUntilItsBreakOverARestart(t *testing.T) {
	t.Parallel()
	x := newSubject(t, preset.Threads())
	x.login(0, "tab")
	x.claim(1, presence.Claim{Status: "active", For: time.Minute})
	x.do(2, presence.Event{Kind: presence.EventLoad, Load: presence.Load{N: 1}})
	x.claim(3, presence.Claim{Status: "lunch"})
	x.do(4, presence.Event{Kind: presence.EventEndClaim, Actor: presence.Agent(ann), Claim: presence.Claim{Key: presence.KeyTimed}})
	require.Equal(t, "active", x.s.Current.Status)
	require.Equal(t, presence.LabelFinishing, x.s.Current.Label)
	record, err := x.m.Record(&x.s, 1)
	require.NoError(t, err)
	x.s, err = record.State(0, 0)
	require.NoError(t, err)
	x.do(5, presence.Event{Kind: presence.EventRestart})
	require.Equal(t, "active", x.s.Current.Status)
	x.do(6, presence.Event{Kind: presence.EventConnect, Conn: "tab", Age: presence.NoAge})
	require.Equal(t, presence.LabelFinishing, x.s.Current.Label)
	x.do(7, presence.Event{Kind: presence.EventEndClaim, Actor: presence.Agent(ann)})
	require.Equal(t, "not-ready", x.s.Current.Status, "the break that held it is taken back")
}

// No number of pieces makes a load wrong.
func TestOffersAreBounded(t *testing.T) {
	x := newSubject(t, presence.DefaultPolicy())
	x.login(0, "tab")
	for _, how := range []presence.Routing{presence.RouteNone, presence.RouteSticky, presence.RouteTransfer, presence.RouteAll} {
		x.do(1, presence.Event{Kind: presence.EventOffer, Routing: how, Load: presence.Load{N: 1_000_000}})
		_, err := x.try(1, presence.Event{Kind: presence.EventOffer, Routing: how, Load: presence.Load{N: math.MaxInt}})
		require.ErrorIs(t, err, presence.ErrInvalid)
		require.Equal(t, 1_000_000, x.s.Work.Total())
	}
	x.do(1, presence.Event{Kind: presence.EventDone, Load: presence.Load{N: math.MaxInt}})
	require.Zero(t, x.s.Work.Total())
}

// Who was kicked out, or takes a break once the work is done, is given none
// either where the policy gives work to subjects that left.
func TestNoWorkForThoseWhoLeftKickedOut(t *testing.T) {
	p := presence.DefaultPolicy()
	require.NoError(t, p.Set("statuses.offline.routing", "last"))
	require.NoError(t, p.Set("statuses.away.drainsFirst", "true"))
	x := newSubject(t, p)
	receives := func() presence.Routing {
		r, _, _ := x.m.Receives(&x.s, "")
		require.Equal(t, r, x.s.Current.Routing)
		return r
	}
	x.login(0, "tab")
	x.do(1, presence.Event{Kind: presence.EventLogout})
	require.Equal(t, presence.RouteLast, receives())

	x.login(2, "tab")
	x.do(2, presence.Event{Kind: presence.EventLoad, Load: presence.Load{N: 1}})
	x.claim(2, presence.Claim{Status: "away"})
	x.do(3, presence.Event{Kind: presence.EventLogout})
	require.Equal(t, presence.RouteNone, receives())
	x.do(4, presence.Event{Kind: presence.EventEndClaim, Actor: presence.Agent(ann)})
	require.Equal(t, presence.RouteLast, receives())

	x.login(5, "tab")
	x.do(5, presence.Event{Kind: presence.EventChallenge})
	x.do(6, presence.Event{Kind: presence.EventLogout})
	x.tick(100)
	require.Equal(t, "offline", x.s.Current.Status)
	require.Equal(t, presence.RouteNone, receives())
}
