package presence_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/presence-go/presence"
)

// The tables of this file state rules of states and events one by one.

// The cause of a status is the source of its claim.
func TestCausesOfClaims(t *testing.T) {
	p := presence.DefaultPolicy()
	p.Sources = append([][]presence.Source{{"moon"}}, presence.DefaultSources()...)
	for source, want := range map[presence.Source]presence.Cause{
		presence.SourceSystem: presence.CauseSystem, presence.SourceCall: presence.CauseCall, presence.SourceSupervisor: presence.CauseSupervisor,
		presence.SourceManual: presence.CauseManual, presence.SourceCalendar: presence.CauseCalendar, presence.SourceApp: presence.CauseApp,
		presence.SourceLoginDefault: presence.CauseLogin, "moon": presence.CauseApp, "": presence.CauseApp,
	} {
		x := newSubject(t, p)
		x.login(0, "tab")
		out := x.do(1, presence.Event{Kind: presence.EventSetClaim, Actor: presence.System(presence.ID("host")), Claim: presence.Claim{Source: source, Status: "busy"}})
		i := slices.IndexFunc(out, func(o presence.Output) bool { return o.Kind == presence.OutputTransition })
		require.GreaterOrEqual(t, i, 0, source)
		require.Equal(t, [2]presence.Cause{want, want}, [2]presence.Cause{out[i].Trigger, x.s.Current.Cause}, source)
	}
}

// An output list that is used again has the same outputs.
func TestOutputsInAUsedList(t *testing.T) {
	fresh, used := newSubject(t, drainingPolicy()), newSubject(t, drainingPolicy())
	list := make([]presence.Output, 64)
	for i := range list {
		list[i] = presence.Output{Kind: presence.OutputRequeue, ID: "old", Prev: "old", Reason: "old", Load: 7, Claim: presence.Claim{ID: "old"}}
	}
	for i, e := range []presence.Event{
		{Kind: presence.EventLogin, Conn: "tab", Age: presence.NoAge},
		{Kind: presence.EventSetClaim, Actor: presence.Agent(ann), Claim: presence.Claim{Status: "busy", Reason: "why", For: 30 * time.Second}},
		{Kind: presence.EventLoad, Load: presence.Load{N: 1}},
		{Kind: presence.EventTick}, {Kind: presence.EventChallenge},
		{Kind: presence.EventLogout}, {Kind: presence.EventDisable},
	} {
		at := second(float64(10 * i))
		e.Subject = ann
		want, next, err := fresh.m.Step(&fresh.s, &e, at, nil)
		require.NoError(t, err)
		got, again, err := used.m.Step(&used.s, &e, at, list[:i%3])
		require.NoError(t, err)
		require.Equal(t, want, append([]presence.Output(nil), got[i%3:]...))
		require.Equal(t, next, again)
	}
}

// An instant before an earlier one is taken as the earlier one.
func TestTimeDoesNotGoBack(t *testing.T) {
	x := newSubject(t, presence.DefaultPolicy())
	x.login(10, "tab")
	x.claim(5, presence.Claim{Status: "busy"})
	require.Equal(t, second(10), x.s.Now)
	require.Equal(t, second(10), x.s.Claims[0].SetAt)
	require.Equal(t, second(10), x.s.Current.Since)
}

// An epoch is the number of connects: the next one opens a connection, the present one
// repeats that, and any other is stale. A close of an older epoch is late, and of a
// newer one wrong. Numbers are decimal.
func TestEpochs(t *testing.T) {
	x := newSubject(t, presence.DefaultPolicy())
	for range 12 {
		x.login(0, "tab")
	}
	x.login(0, "other")
	require.Equal(t, uint32(13), x.s.Epoch)
	for _, tt := range []struct {
		kind  presence.EventKind
		conn  string
		epoch uint32
		stale bool
	}{
		{presence.EventConnect, "tab", 12, false}, {presence.EventConnect, "tab", 13, true}, {presence.EventConnect, "new", 12, true},
		{presence.EventConnect, "tab", 1, true}, {presence.EventConnect, "tab", 30, true}, {presence.EventLogin, "other", 13, false},
		{presence.EventHeartbeat, "tab", 0, false}, {presence.EventHeartbeat, "tab", 12, false}, {presence.EventHeartbeat, "tab", 11, true},
		{presence.EventHeartbeat, "tab", 13, true}, {presence.EventHeartbeat, "tab", 1, true},
		{presence.EventDisconnect, "tab", 1, false}, {presence.EventDisconnect, "tab", 11, false}, {presence.EventDisconnect, "tab", 13, true},
	} {
		before := x.s.Clone()
		out, err := x.try(0, presence.Event{Kind: tt.kind, Conn: tt.conn, Epoch: tt.epoch, Age: presence.NoAge, Cause: presence.CauseClosed})
		require.Equal(t, tt.stale, err != nil, "%+v: %v", tt, err)
		require.Empty(t, out)
		require.Equal(t, before, x.s, "%+v", tt)
		if tt.stale {
			require.ErrorIs(t, err, presence.ErrStale)
			var refusal *presence.Error
			require.True(t, errors.As(err, &refusal))
			require.Equal(t, [2]string{"epoch", fmt.Sprint(tt.epoch)}, [2]string{refusal.What, refusal.Given})
		}
	}
	x.do(1, presence.Event{Kind: presence.EventConnect, Conn: "new", Epoch: 14, Age: presence.NoAge})
	require.Equal(t, uint32(14), x.s.Epoch)
	for _, epoch := range []uint32{0, 14} {
		x.do(2, presence.Event{Kind: presence.EventDisconnect, Conn: "new", Epoch: epoch, Cause: presence.CauseLost})
		require.Equal(t, presence.ReachLive, x.s.Current.Reach)
		require.Equal(t, second(2), x.s.Conns[0].Left, "of new, before other and tab")
	}
	for _, kind := range []presence.EventKind{presence.EventDisconnect, presence.EventHeartbeat, presence.EventLogout} {
		_, err := x.try(3, presence.Event{Kind: kind, Conn: "none", Age: presence.NoAge, Cause: presence.CauseClosed})
		require.ErrorIs(t, err, presence.ErrUnknown)
	}
}

// A subject has at most so many connections and endpoints. One that is there already
// needs no place.
func TestConnectionsAndEndpointsHaveLimits(t *testing.T) {
	x := newSubject(t, presence.DefaultPolicy())
	for i := range presence.MaxConnections {
		x.login(0, fmt.Sprint("tab", i))
	}
	x.login(1, "tab7")
	_, err := x.try(1, presence.Event{Kind: presence.EventConnect, Conn: "more", Age: presence.NoAge})
	require.ErrorIs(t, err, presence.ErrLimit)
	point := func(id string) presence.Event {
		return presence.Event{Kind: presence.EventEndpoint, Endpoint: presence.Endpoint{ID: id, Kind: presence.EndpointPush}}
	}
	for i := range presence.MaxEndpoints {
		x.do(2, point(fmt.Sprint("p", i)))
	}
	x.do(3, point("p7"))
	_, err = x.try(3, point("more"))
	require.ErrorIs(t, err, presence.ErrLimit)
}

// What an event about an endpoint stores: a new one begins now, and so does one of
// another kind. Another end keeps its begin, and the same again changes nothing.
func TestEndpoints(t *testing.T) {
	put := func(id string, kind presence.EndpointKind, until float64) presence.Event {
		e := presence.Event{Kind: presence.EventEndpoint, Endpoint: presence.Endpoint{ID: id, Kind: kind}}
		if until > 0 {
			e.Endpoint.Until = second(until)
		}
		return e
	}
	x := newSubject(t, presence.DefaultPolicy())
	since := func(id string) (at presence.Instant) {
		for _, p := range x.s.Endpoints {
			if p.ID == id {
				at = p.Since
			}
		}
		return at
	}
	stored := func(out []presence.Output) bool { return len(out) > 0 && out[0].Kind == presence.OutputPersist }
	for _, id := range []string{"b", "a", "c"} {
		require.True(t, stored(x.do(1, put(id, presence.EndpointPush, 0))))
	}
	require.Empty(t, x.do(2, put("b", presence.EndpointPush, 0)))
	require.Equal(t, second(1), x.s.ChangedAt)
	require.True(t, stored(x.do(3, put("b", presence.EndpointPush, 50))))
	require.Equal(t, second(1), since("b"))
	require.Equal(t, second(3), x.s.ChangedAt)
	require.True(t, stored(x.do(4, put("b", presence.EndpointBot, 50))))
	require.Equal(t, second(4), since("b"))
	_, err := x.try(5, put("b", presence.EndpointBot, 5))
	require.ErrorIs(t, err, presence.ErrInvalid, "it ends now")
	e := put("a", presence.EndpointPush, 0)
	e.SubjectKind = presence.KindBot
	require.True(t, stored(x.do(6, e)))
	require.Equal(t, presence.KindBot, x.s.Current.Kind)
	require.Empty(t, x.do(7, e))
	gone := presence.Event{Kind: presence.EventEndpoint, Endpoint: presence.Endpoint{ID: "b"}, Remove: true}
	require.True(t, stored(x.do(8, gone)))
	require.Equal(t, second(8), x.s.ChangedAt)
	require.Empty(t, x.do(9, gone))
	require.Equal(t, []string{"a", "c"}, []string{x.s.Endpoints[0].ID, x.s.Endpoints[1].ID})
	require.Len(t, x.s.Endpoints, 2)
}

// Of heartbeats with a number, a repeated or late one reports no input. A heartbeat
// without an age reports none either.
func TestHeartbeatsWithNumbers(t *testing.T) {
	x := newSubject(t, presence.DefaultPolicy())
	x.login(0, "tab")
	for _, tt := range []struct {
		seq   uint64
		age   time.Duration
		input float64 // of the connection, after the heartbeat at each second from 1
	}{
		{1, 0, 1}, {1, 0, 1}, {2, 0, 3}, {1, 0, 3}, {2, 0, 3}, {0, 0, 6}, {2, 0, 6}, {5, presence.NoAge, 6}, {4, 0, 6}, {5, 0, 6}, {6, time.Second, 10}, {0, presence.NoAge, 10},
	} {
		at := x.s.Now.Add(time.Second)
		_, _, err := x.m.Step(&x.s, &presence.Event{Kind: presence.EventHeartbeat, Conn: "tab", Seq: tt.seq, Age: tt.age}, at, nil)
		require.NoError(t, err)
		require.Equal(t, second(tt.input), x.s.Conns[0].Input, "%+v", tt)
		require.Equal(t, at, x.s.Conns[0].Heard)
	}
	x.do(20, presence.Event{Kind: presence.EventConnect, Conn: "tab", Age: 1})
	require.Equal(t, second(10), x.s.Conns[0].Input, "an age counts only if it is older")
	y := newSubject(t, presence.DefaultPolicy())
	y.do(20, presence.Event{Kind: presence.EventConnect, Conn: "tab", Age: 1})
	require.Equal(t, second(20)-1, y.s.Conns[0].Input)
}

// Which key a claim has, by its source and end, and when its end has passed.
func TestKeysAndEndsOfClaims(t *testing.T) {
	host := presence.System(presence.ID("host"))
	for _, tt := range []struct {
		actor presence.Actor
		claim presence.Claim
		key   string  // empty if it is refused
		until float64 // 0 for none
	}{
		{presence.Agent(ann), presence.Claim{}, "base", 0},
		{presence.Agent(ann), presence.Claim{For: time.Second}, "timed", 11},
		{presence.Agent(ann), presence.Claim{For: 1}, "timed", 10.000000001},
		{presence.Agent(ann), presence.Claim{Until: second(12)}, "timed", 12},
		{presence.Agent(ann), presence.Claim{Until: second(10)}, "", 0},
		{presence.Agent(ann), presence.Claim{Until: second(10) + 1}, "timed", 10.000000001},
		{presence.Agent(ann), presence.Claim{Until: 1}, "", 0},
		{presence.Agent(ann), presence.Claim{Key: "base"}, "base", 0},
		{presence.Agent(ann), presence.Claim{Key: "base", For: time.Second}, "", 0},
		{presence.Agent(ann), presence.Claim{Key: "timed"}, "", 0},
		{presence.Agent(ann), presence.Claim{Key: "timed", For: time.Second}, "timed", 11},
		{presence.Agent(ann), presence.Claim{Key: "other"}, "", 0},
		{presence.Agent(ann), presence.Claim{Key: "other", For: time.Second}, "", 0},
		{host, presence.Claim{Key: "other"}, "other", 0},
		{host, presence.Claim{Key: "base", For: time.Second}, "base", 11},
		{host, presence.Claim{Key: "timed"}, "timed", 0},
		{host, presence.Claim{For: time.Second}, "timed", 11},
		{boss, presence.Claim{Key: "base", For: time.Second}, "base", 11},
	} {
		for _, limit := range []time.Duration{0, 20 * time.Second} {
			p := presence.DefaultPolicy()
			p.Idle = nil
			for i := range p.Statuses {
				if p.Statuses[i].ID == "busy" {
					p.Statuses[i].For = limit
				}
			}
			want, until := tt.key, tt.until
			if limit > 0 && until == 0 && tt.claim.Until == 0 && tt.claim.For == 0 { // the status ends the claim
				until = 30
				if tt.claim.Key == "" {
					want = "timed"
				} else if tt.actor.Role == presence.RoleAgent {
					want = map[string]string{"timed": "timed"}[tt.claim.Key]
				}
			}
			x := newSubject(t, p)
			x.login(10, "tab")
			tt.claim.Status = "busy"
			_, err := x.try(10, presence.Event{Kind: presence.EventSetClaim, Actor: tt.actor, Claim: tt.claim})
			require.Equal(t, want != "", err == nil, "%+v: %v", tt.claim, err)
			if err != nil {
				require.ErrorIs(t, err, presence.ErrInvalid)
				continue
			}
			require.Equal(t, want, x.s.Claims[0].Key)
			end := presence.Instant(0)
			if until > 0 {
				end = second(until)
			}
			require.Equal(t, end, x.s.Claims[0].Until, "%+v", tt.claim)
			require.Zero(t, x.s.Claims[0].For)
		}
	}
}

// Which claims of connections end with a logout: those of the connections that it
// logs out. The same logout again keeps its instant.
func TestClaimsThatEndWithALogout(t *testing.T) {
	for _, scope := range []string{"", presence.ScopeAccount} {
		for _, conn := range []string{"", "a"} {
			p := presence.DefaultPolicy()
			p.LogoutScope, p.Grace.Logout = scope, 20*time.Second
			x := newSubject(t, p)
			for _, id := range []string{"a", "b"} {
				x.login(0, id)
				x.claim(1, presence.Claim{Status: "busy", Conn: id})
			}
			x.claim(1, presence.Claim{Status: "busy"})
			all := conn == "" || x.m.Policy().LogoutScope == presence.ScopeAccount
			for _, at := range []float64{2, 3} {
				x.do(at, presence.Event{Kind: presence.EventLogout, Conn: conn})
				var left []string
				for _, c := range x.s.Claims {
					left = append(left, c.Conn)
				}
				want := []string{"", "b"}
				if all {
					want = []string{""}
				}
				require.Equal(t, want, left, "%q %q", scope, conn)
				require.Equal(t, second(2), x.s.Conns[0].Left)
				require.Equal(t, all, x.s.Conns[1].Left == second(2))
				require.Equal(t, second(2), x.s.ChangedAt)
			}
		}
	}
}

// A subject that has left by a close or a loss leaves for good by a logout. Of one
// that is unknown nothing is noted.
func TestLogoutAfterLeaving(t *testing.T) {
	x := newSubject(t, presence.DefaultPolicy())
	x.do(0, presence.Event{Kind: presence.EventLogout})
	require.Empty(t, x.s.LeftCause)
	x.login(1, "tab")
	x.do(2, presence.Event{Kind: presence.EventDisconnect, Conn: "tab", Cause: presence.CauseClosed})
	require.Equal(t, presence.CauseClosed, x.tick(100).Cause)
	x.do(101, presence.Event{Kind: presence.EventLogout})
	require.Equal(t, presence.CauseLogout, x.s.Current.Cause)
}

// A node that is gone takes its connections along, up to its incarnation, or all of
// them. One that is back ends those of earlier incarnations, at the instant at which
// the last of them left.
func TestConnectionsOfNodes(t *testing.T) {
	for _, tt := range []struct {
		kind        presence.EventKind
		incarnation uint64
		gone        []string
	}{
		{presence.EventNodeDown, 0, []string{"one", "three", "two"}}, {presence.EventNodeDown, 1, []string{"one"}},
		{presence.EventNodeDown, 2, []string{"one", "two"}}, {presence.EventNodeDown, 3, []string{"one", "three", "two"}},
		{presence.EventNodeUp, 1, nil}, {presence.EventNodeUp, 2, []string{"one"}}, {presence.EventNodeUp, 3, []string{"one", "two"}},
		{presence.EventNodeUp, 4, []string{"one", "three", "two"}},
	} {
		x := newSubject(t, presence.DefaultPolicy())
		for i, id := range []string{"one", "two", "three"} {
			x.do(0, presence.Event{Kind: presence.EventConnect, Conn: id, Node: "n", Incarnation: uint64(i + 1), Age: presence.NoAge})
		}
		x.do(0, presence.Event{Kind: presence.EventConnect, Conn: "else", Node: "m", Incarnation: 1, Age: presence.NoAge})
		x.do(1, presence.Event{Kind: tt.kind, Node: "n", Incarnation: tt.incarnation})
		var gone []string
		for _, id := range []string{"one", "three", "two"} {
			i := slices.IndexFunc(x.s.Conns, func(c presence.ConnState) bool { return c.ID == id })
			if i < 0 || x.s.Conns[i].Left != 0 {
				gone = append(gone, id)
				require.Equal(t, tt.kind == presence.EventNodeUp, i < 0, "a node that is back ends them at once")
			}
		}
		require.Equal(t, tt.gone, gone, "%s %d", tt.kind, tt.incarnation)
		require.Equal(t, presence.ReachLive, x.s.Current.Reach)
	}
	x := newSubject(t, presence.DefaultPolicy())
	for i, id := range []string{"a", "b"} {
		x.do(0, presence.Event{Kind: presence.EventConnect, Conn: id, Node: "n", Incarnation: 1, Age: presence.NoAge})
		x.do(float64(i+1), presence.Event{Kind: presence.EventDisconnect, Conn: id, Cause: presence.CauseClosed})
	}
	x.do(3, presence.Event{Kind: presence.EventNodeUp, Node: "n", Incarnation: 2})
	require.Equal(t, presence.ReachNone, x.s.Current.Reach)
	require.Equal(t, second(2), x.s.Current.Since, "when the last of them left")
}

// Enabling and disabling are stored, once each.
func TestDisabledOnce(t *testing.T) {
	x := newSubject(t, presence.DefaultPolicy())
	x.login(0, "tab")
	for i, tt := range []struct {
		kind    presence.EventKind
		changes bool
	}{
		{presence.EventEnable, false}, {presence.EventDisable, true}, {presence.EventDisable, false}, {presence.EventEnable, true}, {presence.EventEnable, false},
	} {
		before := x.s.ChangedAt
		out := x.do(float64(i+1), presence.Event{Kind: tt.kind})
		require.Equal(t, tt.changes, len(out) > 0 && out[0].Kind == presence.OutputPersist, "%d", i)
		require.Equal(t, tt.changes, x.s.ChangedAt != before)
		require.Equal(t, tt.kind == presence.EventDisable, x.s.Disabled)
	}
}

// A restart lets those linger who were reachable, unless a connection is there already.
func TestRestartLingersOnce(t *testing.T) {
	for _, conns := range []int{0, 1, 2} {
		x := newSubject(t, presence.DefaultPolicy())
		x.login(0, "tab")
		record, err := x.m.Record(&x.s, 1)
		require.NoError(t, err)
		x.s, err = record.State(0, 0)
		require.NoError(t, err)
		for i := range conns {
			x.do(1, presence.Event{Kind: presence.EventConnect, Conn: fmt.Sprint("tab", i), Age: presence.NoAge})
		}
		x.do(2, presence.Event{Kind: presence.EventRestart})
		require.Len(t, x.s.Conns, max(conns, 1))
	}
}

// A clock that is set moves no end that is shown, since that is what the clock will
// show. The claim ends when it does.
func TestClockMovesNoShownEnd(t *testing.T) {
	x := newSubject(t, presence.DefaultPolicy())
	x.login(0, "tab")
	x.claim(1, presence.Claim{Status: "busy", Until: second(30)})
	require.Empty(t, x.do(2, presence.Event{Kind: presence.EventClock, From: second(5), To: second(0)}))
	require.Equal(t, second(30), x.s.Current.Until)
	require.Equal(t, "busy", x.tick(34.9).Status)
	require.Equal(t, "available", x.tick(35).Status)
}

// A choice of the subject itself answers a challenge. One of a supervisor does not.
func TestChoiceAnswersAChallenge(t *testing.T) {
	for _, actor := range []presence.Actor{presence.Agent(ann), boss} {
		x := newSubject(t, presence.DefaultPolicy())
		x.login(0, "tab")
		x.do(1, presence.Event{Kind: presence.EventChallenge})
		x.do(2, presence.Event{Kind: presence.EventSetClaim, Actor: actor, Claim: presence.Claim{Status: "busy"}})
		own := actor.Subject == ann
		require.Equal(t, own, x.s.Work.Challenge == "")
		require.Equal(t, own, x.s.Work.Deadline == 0)
	}
}

// Every event has its trigger, also where it changes no status.
func TestTriggersOfEvents(t *testing.T) {
	p := drainingPolicy()
	host := presence.System(presence.ID("host"))
	login := presence.Event{Kind: presence.EventLogin, Conn: "tab", Node: "n", Incarnation: 1, Age: presence.NoAge}
	for name, c := range map[string]struct {
		before []presence.Event
		e      presence.Event
		want   presence.Cause
	}{
		"login":        {nil, login, presence.CauseLogin},
		"connect":      {nil, presence.Event{Kind: presence.EventConnect, Conn: "tab", Age: presence.NoAge}, presence.TriggerConnect},
		"disconnect":   {[]presence.Event{login}, presence.Event{Kind: presence.EventDisconnect, Conn: "tab", Cause: presence.CauseClosed}, presence.CauseClosed},
		"logout":       {[]presence.Event{login}, presence.Event{Kind: presence.EventLogout, Conn: "tab"}, presence.CauseLogout},
		"node":         {[]presence.Event{login}, presence.Event{Kind: presence.EventNodeDown, Node: "n"}, presence.CauseNode},
		"drained node": {[]presence.Event{login}, presence.Event{Kind: presence.EventNodeDown, Node: "n", Cause: presence.CauseDrain}, presence.CauseDrain},
		"node again":   {[]presence.Event{login}, presence.Event{Kind: presence.EventNodeUp, Node: "n", Incarnation: 2}, presence.CauseNode},
		"grant":        {nil, presence.Event{Kind: presence.EventGrant}, presence.TriggerGrant},
		"switched off": {[]presence.Event{login}, presence.Event{Kind: presence.EventDisable}, presence.CauseDisabled},
		"switched on":  {[]presence.Event{login, {Kind: presence.EventDisable}}, presence.Event{Kind: presence.EventEnable}, presence.CauseDisabled},
		"load":         {[]presence.Event{login}, presence.Event{Kind: presence.EventLoad, Load: presence.Load{N: 1}}, presence.TriggerLoad},
		"claim":        {[]presence.Event{login}, presence.Event{Kind: presence.EventSetClaim, Actor: host, Claim: presence.Claim{Source: presence.SourceCalendar, Status: "busy"}}, presence.CauseCalendar},
		"clock":        {[]presence.Event{login, {Kind: presence.EventSetClaim, Actor: presence.Agent(ann), Claim: presence.Claim{Status: "busy", Until: second(60)}}}, presence.Event{Kind: presence.EventClock, From: second(10), To: second(70)}, presence.TriggerUntil},
	} {
		x := newSubject(t, p)
		for i, e := range c.before {
			x.do(float64(i), e)
		}
		var got []presence.Cause
		for _, o := range x.do(10, c.e) {
			if o.Kind == presence.OutputTransition || o.Kind == presence.OutputUpdated {
				got = append(got, o.Trigger)
			}
		}
		require.Equal(t, []presence.Cause{c.want}, got, name)
	}
}

// A login ends the default that lay over nothing but what it ends.
func TestLoginsEndDefaults(t *testing.T) {
	for _, more := range []bool{false, true} {
		x := newSubject(t, presence.DefaultPolicy())
		x.login(0, "tab")
		host := func(source presence.Source, drop bool) {
			x.do(1, presence.Event{Kind: presence.EventSetClaim, Actor: presence.System(presence.ID("host")), Claim: presence.Claim{Source: source, Status: "busy", DropOnLogin: drop}})
		}
		host(presence.SourceCalendar, true)
		if more {
			host(presence.SourceApp, false)
		}
		x.claim(2, presence.Claim{Status: "available"})
		require.Equal(t, "available", x.s.Current.Status)
		x.login(3, "phone")
		left := map[presence.Source]int{}
		for _, c := range x.s.Claims {
			left[c.Source]++
		}
		if more {
			require.Equal(t, map[presence.Source]int{presence.SourceManual: 1, presence.SourceApp: 1}, left)
		} else {
			require.Empty(t, left)
		}
		require.Equal(t, "available", x.s.Current.Status)
	}
}

// An act is an input where the policy lists it. Otherwise an input or a focus is a look.
func TestActsOfPolicies(t *testing.T) {
	const input, looked, nothing = "input", "looked", ""
	for _, tt := range []struct {
		e    presence.Event
		acts [4]string // where the policy lists input, login, focus, show
	}{
		{presence.Event{Kind: presence.EventInput}, [4]string{input, looked, looked, looked}},
		{presence.Event{Kind: presence.EventFocus, Channel: "room"}, [4]string{looked, looked, input, looked}},
		{presence.Event{Kind: presence.EventFocus}, [4]string{looked, looked, looked, looked}},
		{presence.Event{Kind: presence.EventVisible}, [4]string{nothing, nothing, nothing, input}},
		{presence.Event{Kind: presence.EventVisible, Hidden: true}, [4]string{nothing, nothing, nothing, nothing}},
		{presence.Event{Kind: presence.EventLogin, Age: presence.NoAge}, [4]string{nothing, input, nothing, nothing}},
		{presence.Event{Kind: presence.EventConnect, Age: presence.NoAge}, [4]string{nothing, nothing, nothing, nothing}},
	} {
		for i, activity := range []string{presence.ActivityInput, presence.ActivityLogin, presence.ActivityFocus, presence.ActivityShow} {
			p := presence.DefaultPolicy()
			p.Activity = []string{activity}
			x := newSubject(t, p)
			x.login(0, "tab")
			before := x.s.Conns[0]
			tt.e.Conn = "tab"
			x.do(9, tt.e)
			c, want := x.s.Conns[0], before
			switch tt.acts[i] {
			case input:
				want.Input = second(9)
			case looked:
				want.Looked = second(9)
			}
			require.Equal(t, [2]presence.Instant{want.Input, want.Looked}, [2]presence.Instant{c.Input, c.Looked}, "%s counts: %s %+v", activity, tt.e.Kind, tt.e)
			require.Equal(t, [2]any{tt.e.Channel, tt.e.Hidden}, [2]any{c.Focus, c.Hidden})
		}
	}
}

// The time of a status ends its claim, unless the claim has an end. The shortest is one
// nanosecond.
func TestTimesOfStatuses(t *testing.T) {
	p := presence.DefaultPolicy()
	for id, d := range map[string]time.Duration{"blink": 1, "nap": time.Minute, "rest": 0} {
		p.AddStatus(presence.Status{ID: id, Class: presence.ClassAway, For: d, SelectableBy: []string{presence.BySelf}})
	}
	for _, tt := range []struct {
		c    presence.Claim
		want presence.Instant
		key  string
	}{
		{presence.Claim{Status: "blink"}, second(5) + 1, presence.KeyTimed},
		{presence.Claim{Status: "nap"}, second(65), presence.KeyTimed},
		{presence.Claim{Status: "rest"}, 0, presence.KeyBase},
		{presence.Claim{Status: "nap", For: 1}, second(5) + 1, presence.KeyTimed},
		{presence.Claim{Status: "nap", For: time.Hour}, second(3605), presence.KeyTimed},
		{presence.Claim{Status: "nap", Until: second(5) + 1}, second(5) + 1, presence.KeyTimed},
		{presence.Claim{Status: "rest", Until: second(90)}, second(90), presence.KeyTimed},
	} {
		x := newSubject(t, p)
		x.login(0, "tab")
		x.claim(5, tt.c)
		require.Len(t, x.s.Claims, 1)
		require.Equal(t, tt.want, x.s.Claims[0].Until, "%+v", tt.c)
		require.Equal(t, tt.key, x.s.Claims[0].Key, "%+v", tt.c)
	}
}

// What is switched off with work in hand loses it by an output. Without work it has
// none, and no id is used up for one.
func TestWorkOfTheSwitchedOff(t *testing.T) {
	for _, tt := range []struct {
		before  []presence.Event
		requeue []int
	}{
		{nil, nil},
		{[]presence.Event{{Kind: presence.EventChallenge, ID: "q"}}, nil},
		{[]presence.Event{{Kind: presence.EventLoad, Load: presence.Load{N: 1}}, {Kind: presence.EventLoad}}, nil},
		{[]presence.Event{{Kind: presence.EventLoad, Load: presence.Load{N: 1}}}, []int{1}},
		{[]presence.Event{{Kind: presence.EventLoad, Load: presence.Load{N: 3}}, {Kind: presence.EventChallenge, ID: "q"}}, []int{3}},
	} {
		x := newSubject(t, presence.DefaultPolicy())
		x.login(0, "tab")
		for _, e := range tt.before {
			x.do(1, e)
		}
		serial := x.s.Serial
		var got []int
		for _, o := range x.do(2, presence.Event{Kind: presence.EventDisable}) {
			if o.Kind == presence.OutputRequeue {
				got = append(got, o.Load)
				serial++
				require.Equal(t, presence.EndDisabled, o.Reason)
			}
		}
		require.Equal(t, tt.requeue, got)
		require.Equal(t, serial+1, x.s.Serial, "one for the transition, %+v", tt.before)
		require.Zero(t, x.s.Work.Total())
	}
}

// A standstill extends the grace of a connection that left before it, unless that is
// zero: a new policy without a grace ends the connection at once.
func TestStandstillExtendsNoGraceOfZero(t *testing.T) {
	for grace, left := range map[time.Duration]int{0: 0, 1: 1, 5 * time.Second: 1} {
		x := newSubject(t, presence.DefaultPolicy())
		x.login(0, "tab")
		x.do(10, presence.Event{Kind: presence.EventDisconnect, Conn: "tab", Cause: presence.CauseClosed})
		x.do(40, presence.Event{Kind: presence.EventSuspended, From: second(11), To: second(40)})
		require.Len(t, x.s.Conns, 1)
		p := presence.DefaultPolicy()
		p.Grace.Close = grace
		m, err := presence.Compile(p)
		require.NoError(t, err)
		x.m = m
		x.do(41, presence.Event{Kind: presence.EventPolicy})
		require.Len(t, x.s.Conns, left, "%v", grace)
		x.tick(70)
		require.Empty(t, x.s.Conns)
	}
}

// What ends by its time while it waits has that as its trigger: a request, a choice that
// waits for the work, and both at once.
func TestTriggersOfWhatWaits(t *testing.T) {
	for _, tt := range []struct{ asks, chooses bool }{{true, false}, {false, true}, {true, true}} {
		p := drainingPolicy()
		p.Work.RequestFor = 20 * time.Second
		x := newSubject(t, p)
		x.login(0, "tab")
		x.do(1, presence.Event{Kind: presence.EventLoad, Load: presence.Load{N: 1}})
		if tt.asks {
			x.do(2, presence.Event{Kind: presence.EventRequest, ID: "r", Actor: presence.Agent(ann), Claim: presence.Claim{Status: "busy"}})
		}
		if tt.chooses {
			x.claim(2, presence.Claim{Status: "lunch", Until: second(22)})
			require.Equal(t, "lunch", x.s.Current.Pending)
		}
		var got []presence.Cause
		for _, o := range x.do(22, presence.Event{Kind: presence.EventTick}) {
			if o.Kind == presence.OutputUpdated {
				got = append(got, o.Trigger)
			}
		}
		require.Equal(t, []presence.Cause{presence.TriggerUntil}, got, "%+v", tt)
	}
}

// An endpoint that is reported again keeps its beginning and gets its new end. One of
// another kind gets both.
func TestEndpointsAreReportedAgain(t *testing.T) {
	x := newSubject(t, presence.DefaultPolicy())
	report := func(at float64, kind presence.EndpointKind, until float64) {
		x.do(at, presence.Event{Kind: presence.EventEndpoint, Endpoint: presence.Endpoint{ID: "p", Kind: kind, Until: second(until)}})
	}
	report(1, presence.EndpointPush, 20)
	report(2, presence.EndpointPush, 40)
	require.Equal(t, []presence.Endpoint{{ID: "p", Kind: presence.EndpointPush, Since: second(1), Until: second(40)}}, x.s.Endpoints)
	x.tick(39)
	report(39, "bot", 60)
	require.Equal(t, []presence.Endpoint{{ID: "p", Kind: "bot", Since: second(39), Until: second(60)}}, x.s.Endpoints)
	x.tick(60)
	require.Empty(t, x.s.Endpoints)
}

// A clone shares no ends that wait for their starts with its original.
func TestClonesShareNoEnds(t *testing.T) {
	x := newSubject(t, presence.DefaultPolicy())
	x.login(0, "tab")
	end := func(at float64, id string) {
		x.do(at, presence.Event{Kind: presence.EventEndClaim, Actor: presence.System(presence.ID("host")), Claim: presence.Claim{ID: id, Source: presence.SourceCalendar, Key: id}})
	}
	end(1, "first")
	end(31, "second")
	clone := x.s.Clone()
	x.tick(62) // the first is forgotten, and the second takes its place
	other := *x
	other.s = clone
	out := other.do(40, presence.Event{Kind: presence.EventSetClaim, Actor: presence.System(presence.ID("host")), Claim: presence.Claim{ID: "first", Source: presence.SourceCalendar, Key: "first", Status: "busy"}})
	require.Empty(t, out, "the start comes after its end")
}

// A restart without a subject is for the subject of the state.
func TestRestartNamesNoSubject(t *testing.T) {
	for _, subject := range []presence.Ref{{}, ann} {
		x := newSubject(t, presence.DefaultPolicy())
		x.login(0, "tab")
		x.s = restored(x.m, &x.s)
		_, _, err := x.m.Step(&x.s, &presence.Event{Kind: presence.EventRestart, Subject: subject}, second(5), nil)
		require.NoError(t, err)
		require.Equal(t, presence.ReachLingering, x.s.Current.Reach, "%v", subject)
	}
}
