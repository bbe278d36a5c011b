package presence_test

import (
	"fmt"
	"math"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/presence-go/presence"
)

func TestLeaseAndGraceToTheInstant(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newRunning(t, nil)
		start := time.Now()
		c := d.login(ann, "tab")
		time.Sleep(75*time.Second - time.Nanosecond)
		require.Equal(t, "available", d.status(ann))
		time.Sleep(time.Nanosecond)
		v, err := d.GetAs(t.Context(), presence.AudienceAdmin, ann)
		require.NoError(t, err)
		require.Equal(t, "offline", v.Status)
		require.Equal(t, presence.CauseLost, v.Cause)
		require.Equal(t, presence.At(start.Add(60*time.Second)), v.Since, "it is gone since its lease ran out")
		require.ErrorIs(t, c.Heartbeat(), presence.ErrUnknown, "nothing resurrects it")
	})
}

// L17, fault 45: an end is an instant of the wall clock. When that was set back, the end
// stays as it was given and is met when the clock shows it, whether it was given before
// or after, and whatever it ends. A duration is such an end from the moment it is set.
func TestEndsFollowTheWallClock(t *testing.T) {
	host := presence.Actor{Role: presence.RoleSystem}
	until := func(s float64, back bool) presence.Instant {
		if back {
			s -= 100 // what the wall clock shows then
		}
		return second(s)
	}
	claims := func(x *subject) bool { return len(x.s.Claims) > 0 }
	for _, tt := range []struct {
		name string
		set  func(x *subject, at float64, until presence.Instant)
		held func(x *subject) bool
		find func(x *subject) presence.Instant // the end that is kept
		far  float64                           // when it is met if nothing is set back after it was set
	}{
		{"a claim", func(x *subject, at float64, until presence.Instant) {
			x.do(at, presence.Event{Kind: presence.EventSetClaim, Actor: host, Claim: presence.Claim{Status: "busy", Source: presence.SourceCalendar, Until: until}})
		}, claims, func(x *subject) presence.Instant { return x.s.Claims[0].Until }, 1000},
		{"a choice for a time", func(x *subject, at float64, _ presence.Instant) {
			x.claim(at, presence.Claim{Status: "busy", For: time.Duration(1000-at) * time.Second})
		}, claims, func(x *subject) presence.Instant { return x.s.Claims[0].Until }, 1000},
		{"a claim of a connection", func(x *subject, at float64, until presence.Instant) {
			x.claim(at, presence.Claim{Status: "busy", Conn: "tab", Until: until})
		}, claims, func(x *subject) presence.Instant { return x.s.Claims[0].Until }, 1000},
		{"an endpoint", func(x *subject, at float64, until presence.Instant) {
			x.do(at, presence.Event{Kind: presence.EventEndpoint, Endpoint: presence.Endpoint{ID: "phone", Kind: presence.EndpointPush, Until: until}})
		}, func(x *subject) bool { return len(x.s.Endpoints) > 0 }, func(x *subject) presence.Instant { return x.s.Endpoints[0].Until }, 1000},
		{"what waits for the end of work", func(x *subject, at float64, until presence.Instant) {
			x.do(at, presence.Event{Kind: presence.EventLoad, Load: presence.Load{N: 1}})
			x.claim(at, presence.Claim{Status: "away", Until: until})
		}, func(x *subject) bool { return x.s.Work.Pending != nil }, func(x *subject) presence.Instant { return x.s.Work.Pending.Until }, 1000},
		{"an open request", func(x *subject, at float64, _ presence.Instant) {
			x.do(at, presence.Event{Kind: presence.EventRequest, Actor: presence.Agent(ann), Claim: presence.Claim{Status: "busy"}})
		}, func(x *subject) bool { return len(x.s.Work.Requests) > 0 }, func(x *subject) presence.Instant { return x.s.Work.Requests[0].Until }, 0},
		{"a choice that was asked for", func(x *subject, at float64, until presence.Instant) {
			x.do(at, presence.Event{Kind: presence.EventRequest, Actor: presence.Agent(ann), Claim: presence.Claim{Status: "busy", Until: until}})
			require.Equal(x.t, until, x.s.Work.Requests[0].Claim.Until)
			x.do(at, presence.Event{Kind: presence.EventDecide, Actor: boss})
		}, claims, func(x *subject) presence.Instant { return x.s.Claims[0].Until }, 1000},
	} {
		for _, first := range []bool{true, false} { // set before the clock is
			t.Run(fmt.Sprintf("%s, set first: %t", tt.name, first), func(t *testing.T) {
				p := presence.DefaultPolicy()
				p.Lease, p.Work.RequestFor, p.Idle = time.Hour, 800*time.Second, nil
				require.NoError(t, p.Set("statuses.away.drainsFirst", "true"))
				x := newSubject(t, p)
				x.login(0, "tab")
				back := presence.Event{Kind: presence.EventClock, From: second(50), To: second(-50)}
				far := tt.far
				if far == 0 {
					far = 850
				}
				if first {
					tt.set(x, 50, until(1000, false))
					kept := tt.find(x)
					require.Equal(t, second(far), kept)
					for _, out := range x.do(50, back) {
						require.Equal(t, presence.OutputPersist, out.Kind, "nothing is shown otherwise")
					}
					require.Equal(t, kept, tt.find(x))
					far += 100
				} else {
					x.do(50, back)
					tt.set(x, 50, until(1000, true))
					require.Equal(t, second(far-100), tt.find(x))
				}
				require.Equal(t, 100*time.Second, x.s.Behind)
				next, ok := x.m.Next(&x.s)
				require.True(t, ok)
				require.Equal(t, second(far), next)
				x.tick(far - 1)
				require.True(t, tt.held(x))
				if p := &x.s.Current; p.Until != 0 {
					require.Equal(t, tt.find(x), p.Until, "what is shown is what the clock will show")
					require.Equal(t, p.Until, x.m.View(p, presence.AudienceSelf).Until)
				}
				x.tick(far)
				require.False(t, tt.held(x))
			})
		}
	}
}

// L17: what the wall clock has still to show is accepted, and what it has shown is not.
func TestEndsAreCheckedByTheWallClock(t *testing.T) {
	x := newSubject(t, presence.DefaultPolicy())
	x.login(0, "tab")
	x.do(0, presence.Event{Kind: presence.EventClock, From: second(0), To: second(-3600)})
	calendar := func(until float64) presence.Event {
		return presence.Event{Kind: presence.EventSetClaim, Actor: presence.Actor{Role: presence.RoleSystem}, Claim: presence.Claim{Status: "busy", Until: second(until)}}
	}
	phone := func(until float64) presence.Event {
		return presence.Event{Kind: presence.EventEndpoint, Endpoint: presence.Endpoint{ID: "phone", Kind: presence.EndpointPush, Until: second(until)}}
	}
	for _, e := range []func(float64) presence.Event{calendar, phone} {
		_, err := x.try(10, e(-3590))
		require.ErrorIs(t, err, presence.ErrInvalid)
		x.do(10, e(-3589))
	}
	_, err := x.try(10, calendar(-3590))
	require.ErrorContains(t, err, second(-3590).String()+`"`)
	require.ErrorContains(t, err, "it is not after now, "+second(-3590).String())
	require.Len(t, x.s.Claims, 1)
	require.Equal(t, "available", x.tick(11).Status)
	require.Empty(t, x.s.Endpoints)
}

// A claim that its source may hold for a time only ends after that time, however the
// clock is set. Its end is shown as the clock will show it.
func TestLimitOfASourceIsNoEndOfTheWallClock(t *testing.T) {
	p := presence.DefaultPolicy()
	p.Lease, p.Idle, p.SourceFor = time.Hour, nil, map[presence.Source]time.Duration{presence.SourceCall: 5 * time.Minute}
	x := newSubject(t, p)
	x.login(0, "tab")
	x.do(0, presence.Event{Kind: presence.EventSetClaim, Actor: presence.Actor{Role: presence.RoleSystem}, Claim: presence.Claim{Status: "busy", Source: presence.SourceCall}})
	require.Equal(t, second(300), x.s.Current.Until)
	x.do(100, presence.Event{Kind: presence.EventClock, From: second(100), To: second(40)})
	require.Equal(t, second(240), x.s.Current.Until)
	require.Equal(t, "busy", x.tick(299).Status)
	require.Equal(t, "available", x.tick(300).Status)
}

// An end beyond the last instant stays beyond it.
func TestFarthestEndAfterTheClockWasSetBack(t *testing.T) {
	x := newSubject(t, presence.DefaultPolicy())
	x.login(0, "tab")
	x.do(2, presence.Event{Kind: presence.EventSetClaim, Actor: presence.Actor{Role: presence.RoleSystem}, Claim: presence.Claim{Status: "busy", For: math.MaxInt64}})
	x.do(3, presence.Event{Kind: presence.EventClock, From: second(103), To: second(3)})
	require.Equal(t, presence.Instant(math.MaxInt64), x.s.Claims[0].Until)
	for range 3 {
		x.do(4, presence.Event{Kind: presence.EventClock, From: math.MaxInt64, To: 0})
	}
	require.Equal(t, time.Duration(math.MaxInt64), x.s.Behind)
	require.Equal(t, "busy", x.tick(5).Status)
}

// nextAt returns the next deadline.
func (x *subject) nextAt() presence.Instant {
	x.t.Helper()
	at, ok := x.m.Next(&x.s)
	require.True(x.t, ok)
	return at
}

// A lease that ran during a standstill ends no earlier than the start-up grace after
// it, and a grace likewise. What began at its end is not extended.
func TestStandstillExtendsWhatRan(t *testing.T) {
	p := presence.DefaultPolicy()
	p.Heartbeat, p.Lease, p.StartupGrace, p.Idle = 5*time.Second, 20*time.Second, 30*time.Second, nil
	p.Grace = presence.Grace{Close: 7 * time.Second, Loss: 9 * time.Second}
	stood := func(before func(x *subject)) *subject {
		x := newSubject(t, p)
		x.login(0, "tab")
		before(x)
		x.do(40, presence.Event{Kind: presence.EventSuspended, From: second(10), To: second(40)})
		require.Equal(t, second(40), x.s.Now)
		return x
	}
	nothing := func(*subject) {}
	require.Equal(t, second(70), stood(nothing).nextAt(), "the lease ran")
	x := stood(nothing)
	x.beat(40, "tab")
	require.Equal(t, second(60), x.nextAt(), "the lease began after it")
	require.Equal(t, second(70), stood(func(x *subject) { x.leave(9, "tab", presence.CauseClosed) }).nextAt(), "the grace ran")
	x = stood(nothing)
	x.leave(40, "tab", presence.CauseClosed)
	require.Equal(t, second(47), x.nextAt(), "the grace began after it")
	x = stood(nothing)
	require.Equal(t, presence.ReachLingering, x.tick(70).Reach)
	require.Equal(t, second(79), x.nextAt(), "the loss counts from the end of the lease")

	p.Grace.Node = 0
	x = newSubject(t, p)
	x.login(0, "tab")
	record, err := x.m.Record(&x.s, 1)
	require.NoError(t, err)
	x.s, err = record.State(0, 0)
	require.NoError(t, err)
	x.do(10, presence.Event{Kind: presence.EventRestart})
	require.Equal(t, presence.ReachLingering, x.s.Current.Reach, "X34: a restart, whatever the grace")
	require.Equal(t, second(40), x.nextAt())
}

// The grace is that of the way in which a connection left, by the policy or by the rule
// of its device. That of a loss begins when it is reported, or when the lease ends.
func TestGraceOfEachWayOfLeaving(t *testing.T) {
	p := presence.DefaultPolicy()
	p.Idle, p.Lease = nil, time.Minute
	p.Grace = presence.Grace{Logout: 1 * time.Second, Close: 2 * time.Second, Loss: 3 * time.Second, Node: 4 * time.Second, Drain: 5 * time.Second}
	p.Devices = map[string]presence.DeviceRule{
		"own":    {OwnGrace: true, Grace: presence.Grace{Close: 20 * time.Second, Loss: 30 * time.Second, LossFrom: presence.LossFromLease}},
		"policy": {Grace: presence.Grace{Close: 20 * time.Second}},
	}
	for _, tt := range []struct {
		device string
		cause  presence.Cause
		ends   float64
	}{
		{"", presence.CauseLogout, 11}, {"", presence.CauseClosed, 12}, {"", presence.CauseLost, 13}, {"", presence.CauseNode, 14}, {"", presence.CauseDrain, 15},
		{"policy", presence.CauseClosed, 12}, {"own", presence.CauseClosed, 30}, {"own", presence.CauseLost, 90},
	} {
		x := newSubject(t, p)
		x.do(0, presence.Event{Kind: presence.EventLogin, Conn: "tab", Device: tt.device, Age: presence.NoAge})
		x.leave(10, "tab", tt.cause)
		require.Equal(t, second(tt.ends), x.nextAt(), "%s, %s", tt.device, tt.cause)
		require.Equal(t, presence.ReachLingering, x.tick(tt.ends-0.001).Reach)
		require.Equal(t, presence.ReachNone, x.tick(tt.ends).Reach)
		_, ok := x.m.Next(&x.s)
		require.False(t, ok, "an unreachable subject has no deadline")
	}
	p.Grace.LossFrom = presence.LossFromLease
	x := newSubject(t, p)
	x.login(0, "tab")
	x.do(50, presence.Event{Kind: presence.EventSuspended, From: second(20), To: second(50)})
	x.tick(80)
	require.Equal(t, second(83), x.nextAt(), "the lease ended at 80, after the standstill")
}

// Of connections that end at one instant, the one that left last is the cause, and of
// those that left at one instant the last by id.
func TestLastOfSeveralThatLeft(t *testing.T) {
	p := presence.DefaultPolicy()
	p.Grace = presence.Grace{Close: 5 * time.Second, Loss: 10 * time.Second, Drain: 5 * time.Second}
	for _, tt := range []struct {
		a, b   presence.Cause
		at, bt float64
		cause  presence.Cause
		since  float64
	}{
		{presence.CauseLost, presence.CauseClosed, 5, 10, presence.CauseClosed, 10},
		{presence.CauseClosed, presence.CauseLost, 10, 5, presence.CauseClosed, 10},
		{presence.CauseDrain, presence.CauseClosed, 10, 10, presence.CauseClosed, 10},
		{presence.CauseClosed, presence.CauseDrain, 10, 10, presence.CauseDrain, 10},
	} {
		x := newSubject(t, p)
		x.login(0, "a")
		x.login(0, "b")
		if tt.bt < tt.at {
			x.leave(tt.bt, "b", tt.b)
		}
		x.leave(tt.at, "a", tt.a)
		if tt.bt >= tt.at {
			x.leave(tt.bt, "b", tt.b)
		}
		out := x.do(15, presence.Event{Kind: presence.EventTick})
		require.Len(t, out, 1)
		require.Equal(t, presence.OutputTransition, out[0].Kind)
		require.Equal(t, tt.cause, out[0].Trigger)
		require.Equal(t, tt.cause, x.s.Current.Cause)
		require.Equal(t, second(tt.since), out[0].At)
		require.Equal(t, second(tt.since), x.s.Current.LastSeen)
		require.Equal(t, fmt.Sprint("grace@", int64(second(15))), out[0].ID)
	}
}

// A claim that ends with its connection ends with that one. Without a connection it ends
// with the last one.
func TestClaimsEndWithTheirConnection(t *testing.T) {
	p := presence.DefaultPolicy()
	p.Grace = presence.Grace{}
	x := newSubject(t, p)
	x.login(0, "a")
	x.login(0, "b")
	for _, conn := range []string{"", "a", "b"} {
		for _, drops := range []bool{true, false} {
			x.do(1, presence.Event{Kind: presence.EventSetClaim, Actor: switchboard, Claim: presence.Claim{
				Source: presence.SourceCall, Status: "busy", Conn: conn, Key: fmt.Sprint(drops), ID: fmt.Sprint(conn, drops), DropOnDisconnect: drops}})
		}
	}
	left := func() (ids []string) {
		for _, c := range x.s.Claims {
			ids = append(ids, c.ID)
		}
		return ids
	}
	x.leave(2, "a", presence.CauseClosed)
	require.ElementsMatch(t, []string{"true", "false", "afalse", "btrue", "bfalse"}, left())
	x.leave(3, "b", presence.CauseClosed)
	require.ElementsMatch(t, []string{"false", "afalse", "bfalse"}, left())
}

// Work is given to others a time after the last connection left: of a subject that was
// connected, has left and has work.
func TestRequeueAfterLeaving(t *testing.T) {
	for name, tt := range map[string]struct {
		after time.Duration
		load  int
		never bool // connected
		back  bool
		want  int
	}{
		"left with one piece": {time.Minute, 1, false, false, 1},
		"left with two":       {time.Minute, 2, false, false, 2},
		"left without":        {time.Minute, 0, false, false, 0},
		"never there":         {time.Minute, 1, true, false, 0},
		"back again":          {time.Minute, 1, false, true, 0},
		"not by this policy":  {0, 1, false, false, 0},
	} {
		p := presence.DefaultPolicy()
		p.Work.RequeueAfter, p.Grace, p.Lease = tt.after, presence.Grace{}, time.Hour
		x := newSubject(t, p)
		if !tt.never {
			x.login(0, "tab")
		}
		x.do(1, presence.Event{Kind: presence.EventLoad, Load: presence.Load{N: tt.load}})
		if !tt.never {
			x.leave(10, "tab", presence.CauseClosed)
		}
		if tt.back {
			x.login(20, "tab")
		}
		require.Empty(t, requeues(x.do(69.999, presence.Event{Kind: presence.EventTick})), name)
		require.Equal(t, tt.load, x.s.Work.Total(), "%s: nothing was taken before", name)
		out := x.do(70, presence.Event{Kind: presence.EventTick})
		taken := requeues(out)
		if tt.want == 0 {
			require.Empty(t, taken, name)
			continue
		}
		require.Len(t, taken, 1, name)
		require.Equal(t, tt.want, taken[0].Load)
		require.Equal(t, presence.EndReason("closed"), taken[0].Reason)
		require.Equal(t, fmt.Sprint("requeue@", int64(second(70))), taken[0].ID)
		last := out[len(out)-1]
		require.Equal(t, presence.OutputUpdated, last.Kind)
		require.Equal(t, presence.TriggerLoad, last.Trigger)
	}
}

func requeues(out []presence.Output) (list []presence.Output) {
	for _, o := range out {
		if o.Kind == presence.OutputRequeue {
			list = append(list, o)
		}
	}
	return list
}

// The ends of settling and wrapping up are reported although the presence is the same,
// since they can make room in some work channel. Other deadlines are not.
func TestRoomIsReported(t *testing.T) {
	p := presence.DefaultPolicy()
	p.Idle, p.Lease = nil, time.Hour
	p.Work.Settle, p.Work.WrapUp = 30*time.Second, 20*time.Second
	p.Statuses[0].Routing = presence.RouteSticky // settling changes nothing of it
	host := presence.System(presence.ID("host"))
	for name, tt := range map[string]struct {
		before func(x *subject)
		kinds  []presence.OutputKind
	}{
		"settled": {func(x *subject) {
			x.leave(1, "tab", presence.CauseLost)
			x.do(10, presence.Event{Kind: presence.EventConnect, Conn: "tab", Age: presence.NoAge})
		}, []presence.OutputKind{presence.OutputUpdated}},
		"wrapped up": {func(x *subject) {
			x.do(1, presence.Event{Kind: presence.EventLoad, Load: presence.Load{N: 1}})
			x.do(20, presence.Event{Kind: presence.EventDone})
		}, []presence.OutputKind{presence.OutputUpdated}},
		"a claim that decides nothing": {func(x *subject) {
			x.do(1, presence.Event{Kind: presence.EventLoad, Load: presence.Load{N: 1}})
			x.do(1, presence.Event{Kind: presence.EventSetClaim, Actor: host, Claim: presence.Claim{Source: presence.SourceApp, Status: "busy", Until: second(40)}})
			x.claim(2, presence.Claim{Status: "available", Text: "here"})
		}, []presence.OutputKind{presence.OutputClaimEnded}},
	} {
		x := newSubject(t, p)
		x.login(0, "tab")
		tt.before(x)
		x.do(20, setsOf(presence.EventEndClaim, presence.Claim{Key: "none"})) // which is forgotten at 80
		late := &subject{t: t, m: x.m, s: x.s.Clone()}
		require.Empty(t, x.do(39.999, presence.Event{Kind: presence.EventTick}), name)
		for x, at := range map[*subject]float64{x: 40, late: 100} {
			var kinds []presence.OutputKind
			for _, o := range x.do(at, presence.Event{Kind: presence.EventTick}) {
				kinds = append(kinds, o.Kind)
			}
			require.Equal(t, tt.kinds, kinds, "%s, at %v", name, at)
		}
	}
}

// Of deadlines at one instant that change no status, the first by kind is the trigger.
// An idle stage that was reached before is no part of that instant.
func TestTriggerWithoutAChangeOfStatus(t *testing.T) {
	host := presence.System(presence.ID("host"))
	p := presence.DefaultPolicy()
	p.Lease, p.Disabled, p.Grace = time.Minute, true, presence.Grace{}
	x := newSubject(t, p)
	x.login(0, "tab")
	x.do(1, presence.Event{Kind: presence.EventSetClaim, Actor: host, Claim: presence.Claim{Source: presence.SourceCall, Status: "busy", Until: second(60)}})
	out := x.do(60, presence.Event{Kind: presence.EventTick})
	last := out[len(out)-1]
	require.Equal(t, presence.OutputUpdated, last.Kind)
	require.Equal(t, presence.ReachNone, last.Presence.Reach)
	require.Equal(t, presence.TriggerUntil, last.Trigger)

	p = presence.DefaultPolicy()
	p.Lease = time.Hour
	p.Idle = []presence.IdleStage{{After: time.Minute, To: "away", On: []string{"available"}}, {After: 2 * time.Minute, To: "offline", On: []string{"available"}}}
	x = newSubject(t, p)
	x.login(0, "tab")
	x.do(1, presence.Event{Kind: presence.EventSetClaim, Actor: host, Claim: presence.Claim{Source: presence.SourceApp, Status: "available", Until: second(120)}})
	require.Equal(t, "away", x.tick(119).Status)
	out = x.do(120, presence.Event{Kind: presence.EventTick})
	require.Equal(t, presence.CauseIdle, out[len(out)-1].Trigger, "the second stage changed the status")

	p = presence.DefaultPolicy()
	p.Lease = p.Idle[0].After + 1
	x = newSubject(t, p)
	x.login(0, "tab")
	require.Equal(t, "away", x.tick(p.Idle[0].After.Seconds()).Status)
	out, _, err := x.m.Step(&x.s, &presence.Event{}, second(0).Add(p.Lease), nil)
	require.NoError(t, err)
	require.Len(t, out, 1)
	require.Equal(t, presence.CauseLost, out[0].Trigger)
}

// While presence is switched off no idle stage is a deadline.
func TestSwitchedOffIsNotIdle(t *testing.T) {
	p := presence.DefaultPolicy()
	p.Lease, p.Disabled = time.Hour, true
	x := newSubject(t, p)
	x.login(0, "tab")
	require.Equal(t, second(3600), x.nextAt())
}

// One late tick gives the transitions of several, also where the end of a claim that
// changed no status lies between a leaving and its grace.
func TestLateTickDatesBack(t *testing.T) {
	host := presence.System(presence.ID("host"))
	p := presence.DefaultPolicy()
	p.Grace = presence.Grace{Close: 10 * time.Second}
	x := newSubject(t, p)
	x.login(0, "tab")
	x.do(1, presence.Event{Kind: presence.EventSetClaim, Actor: host, Claim: presence.Claim{Source: presence.SourceApp, Status: "available", Until: second(20)}})
	x.leave(15, "tab", presence.CauseClosed)
	ticked := &subject{t: t, m: x.m, s: x.s.Clone()}
	ticked.tick(20)
	require.Equal(t, x.tick(30), ticked.tick(30))
	require.Equal(t, second(15), x.s.Current.Since)
}

// A pending status that expires is stored as gone, and a request closes at its end.
func TestPlansExpireAtTheirInstant(t *testing.T) {
	p := drainingPolicy()
	p.Work.RequestFor = 20 * time.Second
	x := newSubject(t, p)
	x.login(0, "tab")
	x.do(1, presence.Event{Kind: presence.EventLoad, Load: presence.Load{N: 1}})
	x.claim(2, presence.Claim{Status: "lunch", Until: second(30)})
	x.do(10, presence.Event{Kind: presence.EventRequest, Actor: presence.Agent(ann), Claim: presence.Claim{Status: "busy"}})
	require.Empty(t, x.do(29.999, presence.Event{Kind: presence.EventTick}))
	out := x.do(30, presence.Event{Kind: presence.EventTick})
	require.Equal(t, presence.OutputPersist, out[0].Kind)
	require.Equal(t, presence.OutputRequestClosed, out[1].Kind)
	require.Equal(t, presence.EndExpired, out[1].Reason)
	require.Equal(t, presence.TriggerUntil, out[2].Trigger)

	x = newSubject(t, drainingPolicy())
	x.login(0, "tab")
	x.do(1, presence.Event{Kind: presence.EventLoad, Load: presence.Load{N: 1}})
	x.claim(2, presence.Claim{Status: "lunch", Until: second(30)})
	x.do(10, presence.Event{Kind: presence.EventRequest, Actor: presence.Agent(ann), Claim: presence.Claim{Status: "busy"}})
	out = x.do(30, presence.Event{Kind: presence.EventTick})
	require.Equal(t, presence.OutputPersist, out[0].Kind, "without a request that closes")
	require.Len(t, x.s.Work.Requests, 1, "without an end it stays open")
}

// The subject's own choice counts as input where the policy has it as an activity: over
// the connection that made it, or over every live one. Elsewhere it is only a look.
func TestChoiceIsAnActivity(t *testing.T) {
	type marks struct{ input, acted, looked float64 }
	for _, tt := range []struct {
		activity []string
		over     string
		a, b, c  marks // c lingers
	}{
		{[]string{presence.ActivityInput, presence.ActivityClaim}, "", marks{0, 9, 0}, marks{0, 9, 0}, marks{0, 0, 0}},
		{[]string{presence.ActivityInput, presence.ActivityClaim}, "a", marks{9, 0, 0}, marks{}, marks{}},
		{[]string{presence.ActivityInput}, "a", marks{0, 0, 9}, marks{}, marks{}},
		{[]string{presence.ActivityInput}, "", marks{}, marks{}, marks{}},
	} {
		p := presence.DefaultPolicy()
		p.Activity = tt.activity
		x := newSubject(t, p)
		for _, conn := range []string{"a", "b", "c"} {
			x.do(0, presence.Event{Kind: presence.EventConnect, Conn: conn, Age: presence.NoAge})
		}
		x.leave(8, "c", presence.CauseClosed)
		x.do(9, presence.Event{Kind: presence.EventSetClaim, Actor: presence.Agent(ann), Conn: tt.over, Claim: presence.Claim{Status: "busy"}})
		for i, want := range []marks{tt.a, tt.b, tt.c} {
			c := x.s.Conns[i]
			at := func(seconds float64) presence.Instant {
				if seconds == 0 {
					return 0
				}
				return second(seconds)
			}
			require.Equal(t, max(second(0), at(want.input)), c.Input, "%v over %q: %s", tt.activity, tt.over, c.ID)
			require.Equal(t, at(want.acted), c.ActedAt, "%v over %q: %s", tt.activity, tt.over, c.ID)
			require.Equal(t, at(want.looked), c.Looked, "%v over %q: %s", tt.activity, tt.over, c.ID)
		}
	}
}

// The last input is kept when connections that count are gone: the newest of those that
// left at one instant, and with what was done over one that does not count.
func TestLastInputIsKept(t *testing.T) {
	p := presence.DefaultPolicy()
	p.Lease, p.Grace = time.Hour, presence.Grace{}
	p.Devices = map[string]presence.DeviceRule{"wall": {IgnoreInput: true}}
	for _, first := range []string{"a", "b"} {
		x := newSubject(t, p)
		x.login(0, "a")
		x.login(0, "b")
		x.do(5, presence.Event{Kind: presence.EventInput, Conn: first})
		x.claim(7, presence.Claim{Status: "busy"})
		x.do(8, presence.Event{Kind: presence.EventInput, Conn: first})
		x.do(9, presence.Event{Kind: presence.EventLogout})
		require.Equal(t, second(8), x.s.Input, first)
		require.Equal(t, second(9), x.s.InputKept)
		require.Zero(t, x.s.Acted)
	}
	x := newSubject(t, p)
	x.login(0, "a")
	x.do(1, presence.Event{Kind: presence.EventConnect, Conn: "wall", Device: "wall", Age: presence.NoAge})
	x.claim(7, presence.Claim{Status: "busy"})
	require.Equal(t, second(7), x.s.Acted, "over the wall, too")
	x.do(8, presence.Event{Kind: presence.EventInput, Conn: "a"})
	x.leave(9, "a", presence.CauseClosed)
	require.Equal(t, second(8), x.s.Input)
	require.Equal(t, second(7), x.s.Acted, "the wall is still there")
	x.claim(12, presence.Claim{Status: "away"})
	require.Equal(t, second(8), x.s.Input)
	x.leave(20, "wall", presence.CauseClosed)
	require.Equal(t, second(12), x.s.Input)
	require.Zero(t, x.s.Acted)
}

// When a policy takes effect under which no connection counts any more, the newest input
// over those that did is kept.
func TestInputOfDevicesThatCountNoMore(t *testing.T) {
	all, none := presence.DefaultPolicy(), presence.DefaultPolicy()
	all.Lease = time.Hour
	none.Lease = time.Hour
	none.Devices = map[string]presence.DeviceRule{"wall": {IgnoreInput: true}}
	for _, counts := range []bool{false, true} {
		x := newSubject(t, all)
		for _, conn := range []string{"a", "b", "c"} {
			device := "wall"
			if counts && conn == "b" {
				device = "web"
			}
			x.do(0, presence.Event{Kind: presence.EventConnect, Conn: conn, Device: device, Age: presence.NoAge})
		}
		x.do(5, presence.Event{Kind: presence.EventInput, Conn: "a"})
		x.do(9, presence.Event{Kind: presence.EventInput, Conn: "b"})
		x.do(9, presence.Event{Kind: presence.EventHeartbeat, Conn: "c", Age: 2 * time.Second})
		kept := x.s.Input
		x.follow(20, none)
		if counts {
			require.Equal(t, kept, x.s.Input, "one counts still")
			continue
		}
		require.Equal(t, second(9), x.s.Input)
		require.Equal(t, second(20), x.s.InputKept)
		x.follow(30, none)
		require.Equal(t, second(20), x.s.InputKept, "none counted before")
		x.follow(40, all)
		x.follow(50, none)
		require.Equal(t, second(50), x.s.InputKept)
	}
}

// A choice that holds until a pending status follows, although its source's limit has
// passed, shows no end.
func TestHeldChoiceShowsNoEnd(t *testing.T) {
	p := drainingPolicy()
	p.Lease, p.Idle = time.Hour, nil
	p.KeepExplicit = true
	p.SourceFor = map[presence.Source]time.Duration{presence.SourceManual: time.Minute}
	x := newSubject(t, p)
	x.login(0, "tab")
	x.do(1, presence.Event{Kind: presence.EventLoad, Load: presence.Load{N: 1}})
	x.claim(2, presence.Claim{Status: "available", Text: "here"})
	require.Equal(t, second(62), x.s.Current.Until)
	x.claim(3, presence.Claim{Status: "lunch"})
	for _, at := range []float64{62, 63} {
		require.Equal(t, "available", x.tick(at).Status)
		require.Zero(t, x.s.Current.Until, at)
	}
}

// The rows of a subject never go back in time: a leaving that is due after a change of
// the reason is dated no earlier than that change.
func TestRowsAreInTheOrderOfTime(t *testing.T) {
	p := presence.DefaultPolicy()
	p.Grace = presence.Grace{Close: 10 * time.Second}
	x := newSubject(t, p)
	x.login(0, "tab")
	x.claim(1, presence.Claim{Status: "busy", Reason: "by hand"})
	x.do(2, presence.Event{Kind: presence.EventSetClaim, Actor: switchboard, Claim: presence.Claim{Source: presence.SourceCall, Status: "busy", Reason: "call", Until: second(20)}})
	x.leave(15, "tab", presence.CauseClosed)
	var rows []presence.JournalRow
	for _, o := range x.do(30, presence.Event{Kind: presence.EventTick}) {
		if row, ok := o.Row(); ok && o.Kind != presence.OutputClaimEnded {
			rows = append(rows, row)
		}
	}
	require.Len(t, rows, 2)
	require.Equal(t, []presence.Instant{second(20), second(20)}, []presence.Instant{rows[0].At, rows[1].At})
	require.Equal(t, "offline", rows[1].To)
}
