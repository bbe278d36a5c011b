package presence_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/presence-go/presence"
)

// The tables of this file state rules of work one by one.

// routes are all kinds of routing of a status.
var routes = []presence.Routing{presence.RouteAll, presence.RouteSticky, presence.RouteTransfer, presence.RouteLast, presence.RouteNone}

// routingPolicy has a status "on" that routes as given.
func routingPolicy(r presence.Routing, change func(*presence.Policy)) presence.Policy {
	p := presence.DefaultPolicy()
	p.Idle, p.Lease = nil, time.Hour
	p.Statuses[0].Routing = r
	if change != nil {
		change(&p)
	}
	return p
}

func (x *subject) load(at float64, l presence.Load) []presence.Output {
	x.t.Helper()
	return x.do(at, presence.Event{Kind: presence.EventLoad, Load: l})
}

// A Count is from 0 to 1,000,000 or absent, and is written as a number or null.
func TestCounts(t *testing.T) {
	for n, want := range map[int]int{-5: 0, -1: 0, 0: 0, 1: 1, 7: 7, 1_000_000: 1_000_000, 1_000_001: 1_000_000} {
		c := presence.NewCount(n)
		got, present := c.Get()
		require.True(t, present)
		require.Equal(t, want, got)
		require.Equal(t, fmt.Sprint(want), c.String())
		data, err := json.Marshal(c)
		require.NoError(t, err)
		require.Equal(t, fmt.Sprint(want), string(data))
		back := presence.NewCount(3)
		require.NoError(t, json.Unmarshal(data, &back))
		require.Equal(t, c, back)
	}
	none := presence.NewCount(3)
	require.NoError(t, json.Unmarshal([]byte("null"), &none))
	require.Zero(t, none)
	_, present := none.Get()
	require.False(t, present)
	require.Empty(t, none.String())
	data, err := json.Marshal(none)
	require.NoError(t, err)
	require.Equal(t, "null", string(data))
	err = none.UnmarshalJSON([]byte(`"many"`))
	require.ErrorIs(t, err, presence.ErrInvalid)
	require.ErrorContains(t, err, "it is no number")
	require.Zero(t, (*presence.Work)(nil).Total())
}

// What is pinned is summed over the work channels that report it, and absent if none
// does.
func TestPinnedIsSummed(t *testing.T) {
	for _, tt := range []struct {
		pinned []presence.Count
		want   presence.Count
	}{
		{[]presence.Count{{}, {}}, presence.Count{}},
		{[]presence.Count{presence.NewCount(0), {}}, presence.NewCount(0)},
		{[]presence.Count{{}, presence.NewCount(2)}, presence.NewCount(2)},
		{[]presence.Count{presence.NewCount(2), presence.NewCount(3), {}}, presence.NewCount(5)},
	} {
		x := newSubject(t, presence.DefaultPolicy())
		x.login(0, "tab")
		for i, pinned := range tt.pinned {
			x.load(1, presence.Load{On: fmt.Sprint("c", i), Pinned: pinned})
		}
		require.Equal(t, tt.want, x.s.Current.Pinned, "%v", tt.pinned)
		for i := range tt.pinned {
			x.load(2, presence.Load{On: fmt.Sprint("c", i)}) // without a count the old one stays
		}
		require.Equal(t, tt.want, x.s.Current.Pinned)
	}
}

// A count that was made before the last requeue changes nothing. One made at its
// revision or without one counts.
func TestCountsAfterARequeue(t *testing.T) {
	x := newSubject(t, presence.DefaultPolicy())
	x.login(0, "tab")
	for _, revision := range []presence.Instant{0, 1, x.s.Current.Revision} {
		x.do(1, presence.Event{Kind: presence.EventLoad, Load: presence.Load{N: 3}, Revision: revision})
		require.Equal(t, 3, x.s.Work.Total(), "nothing was taken away yet")
		x.do(1, presence.Event{Kind: presence.EventDone, Load: presence.Load{N: 2}, Revision: revision})
		require.Equal(t, 1, x.s.Work.Total())
	}
	x.do(2, presence.Event{Kind: presence.EventChallenge, ID: "h", Claim: presence.Claim{For: time.Second}})
	before := x.s.Current.Revision
	out := x.do(10, presence.Event{Kind: presence.EventTick})
	w := x.s.Work
	require.Zero(t, w.Total())
	require.Zero(t, w.Challenge)
	require.Zero(t, w.Deadline)
	require.Equal(t, second(3), w.Given)
	require.Greater(t, w.Requeued, before)
	i := slices.IndexFunc(out, func(o presence.Output) bool { return o.Kind == presence.OutputRequeue })
	require.Equal(t, presence.Output{Kind: presence.OutputRequeue, ID: "h", At: second(3), Noticed: second(3), Load: 1, Reason: presence.EndChallenge}, out[i])
	for _, tt := range []struct {
		revision presence.Instant
		counts   bool
	}{{w.Requeued - 1, false}, {w.Requeued, true}, {w.Requeued + 1, true}, {0, true}, {1, false}} {
		x.do(11, presence.Event{Kind: presence.EventLoad, Load: presence.Load{N: 5}, Revision: 0})
		x.do(11, presence.Event{Kind: presence.EventLoad, Load: presence.Load{N: 7}, Revision: tt.revision})
		require.Equal(t, map[bool]int{true: 7, false: 5}[tt.counts], x.s.Work.Total(), "a load at %d", tt.revision)
		x.do(11, presence.Event{Kind: presence.EventLoad, Load: presence.Load{N: 5}})
		x.do(11, presence.Event{Kind: presence.EventDone, Revision: tt.revision})
		require.Equal(t, map[bool]int{true: 4, false: 5}[tt.counts], x.s.Work.Total(), "done at %d", tt.revision)
	}
}

// The room of a work channel is what its capacity leaves, at most what the limit over
// all work channels leaves. The channel's own capacity precedes that of the policy.
func TestRoom(t *testing.T) {
	none := presence.Count{}
	for _, tt := range []struct {
		own             presence.Count
		capacity, total int
		load, elsewhere int
		room            int
		limited         bool
	}{
		{none, 0, 0, 2, 3, 0, false},
		{none, 1, 0, 0, 3, 1, true},
		{none, 1, 0, 1, 0, 0, true},
		{none, 3, 0, 1, 5, 2, true},
		{presence.NewCount(0), 3, 0, 0, 0, 0, true},
		{presence.NewCount(5), 3, 0, 1, 9, 4, true},
		{none, 0, 1, 0, 0, 1, true},
		{none, 0, 1, 0, 1, 0, true},
		{none, 0, 6, 2, 3, 1, true},
		{none, 3, 6, 1, 4, 1, true},
		{none, 3, 6, 1, 1, 2, true},
		{none, 3, 6, 1, 3, 2, true},
		{presence.NewCount(1), 3, 6, 2, 1, -1, true},
	} {
		x := newSubject(t, routingPolicy(presence.RouteAll, func(p *presence.Policy) { p.Work.Capacity, p.Work.Total = tt.capacity, tt.total }))
		x.login(0, "tab")
		x.load(1, presence.Load{N: tt.elsewhere, On: "else"})
		x.load(1, presence.Load{N: tt.load, On: "calls", Capacity: tt.own})
		r, room, limited := x.m.Receives(&x.s, "calls")
		require.Equal(t, presence.RouteAll, r)
		require.Equal(t, tt.limited, limited, "%+v", tt)
		if limited {
			require.Equal(t, tt.room, room, "%+v", tt)
		}
		require.Equal(t, !tt.limited || tt.room > 0, slices.Contains(x.s.Current.RoutableOn.List(), "calls"), "%+v", tt)
	}
}

// Nothing reaches a subject that is unknown, disabled or in a status that the policy
// does not have.
func TestReceivesNothing(t *testing.T) {
	x := newSubject(t, presence.DefaultPolicy())
	nothing := func(m *presence.Machine) {
		t.Helper()
		r, room, limited := m.Receives(&x.s, "")
		require.Equal(t, []any{presence.RouteNone, 0, true}, []any{r, room, limited})
	}
	nothing(x.m)
	x.login(0, "tab")
	r, _, limited := x.m.Receives(&x.s, "")
	require.Equal(t, presence.RouteAll, r)
	require.False(t, limited)
	p := presence.DefaultPolicy()
	p.Statuses[0].ID, p.Default, p.Idle = "on", "on", nil
	nothing(mustCompile(p))
	x.do(1, presence.Event{Kind: presence.EventDisable})
	nothing(x.m)
	_, err := x.try(1, presence.Event{Kind: presence.EventOffer, Routing: presence.RouteNone})
	require.Error(t, err, "not even an actor can give it work")
}

// What reaches a subject, by the routing of its status and by what else holds: work
// that waits to end and a kick-out keep everything away; who left gets only what is
// given to the last; who lingers, settles or wraps up keeps its clients, and so does
// who has no room.
func TestWhatReachesASubject(t *testing.T) {
	change := func(p *presence.Policy) {
		p.Work.WrapUp, p.Work.Settle = 30*time.Second, 20*time.Second
		p.AddStatus(presence.Status{ID: "lunch", Class: presence.ClassAway, DrainsFirst: true})
		p.Statuses[3].Routing = p.Statuses[0].Routing // offline
	}
	host := presence.System(presence.ID("host"))
	claim := func(x *subject, at float64, c presence.Claim) {
		x.do(at, presence.Event{Kind: presence.EventSetClaim, Actor: host, Claim: c})
	}
	lost := func(x *subject) {
		x.do(1, presence.Event{Kind: presence.EventDisconnect, Conn: "tab", Cause: presence.CauseLost})
		x.do(2, presence.Event{Kind: presence.EventConnect, Conn: "tab", Age: presence.NoAge})
	}
	same := func(r presence.Routing) presence.Routing { return r }
	none := func(presence.Routing) presence.Routing { return presence.RouteNone }
	keeps := func(r presence.Routing) presence.Routing {
		if r == presence.RouteAll || r == presence.RouteLast {
			return presence.RouteSticky
		}
		return r
	}
	left := func(r presence.Routing) presence.Routing {
		if r == presence.RouteLast {
			return r
		}
		return presence.RouteNone
	}
	for _, tt := range []struct {
		name string
		do   func(x *subject)
		want func(presence.Routing) presence.Routing
	}{
		{"live", func(*subject) {}, same},
		{"locked by a system", func(x *subject) {
			claim(x, 1, presence.Claim{Status: "available", Source: presence.SourceSystem, Key: presence.KeyLock})
		}, same},
		{"a key of another source", func(x *subject) {
			claim(x, 1, presence.Claim{Status: "available", Source: presence.SourceCall, Key: presence.KeyKickedOut})
		}, same},
		{"kicked out", func(x *subject) {
			claim(x, 1, presence.Claim{Status: "available", Source: presence.SourceSystem, Key: presence.KeyKickedOut})
		}, none},
		{"lunch waits", func(x *subject) {
			x.load(1, presence.Load{N: 1})
			x.claim(2, presence.Claim{Status: "lunch"})
			require.Equal(t, "lunch", x.s.Current.Pending)
		}, none},
		{"lingers", func(x *subject) {
			x.do(1, presence.Event{Kind: presence.EventDisconnect, Conn: "tab", Cause: presence.CauseLost})
		}, keeps},
		{"settles", func(x *subject) { lost(x); x.tick(21.999) }, keeps},
		{"has settled", func(x *subject) { lost(x); x.tick(22) }, same},
		{"wraps up", func(x *subject) { x.load(1, presence.Load{N: 1}); x.load(2, presence.Load{}); x.tick(31.999) }, keeps},
		{"has wrapped up", func(x *subject) { x.load(1, presence.Load{N: 1}); x.load(2, presence.Load{}); x.tick(32) }, same},
		{"left", func(x *subject) { x.do(1, presence.Event{Kind: presence.EventLogout}) }, left},
		{"left while it settles", func(x *subject) { lost(x); x.do(3, presence.Event{Kind: presence.EventLogout}) }, left},
		{"left while it wraps up", func(x *subject) {
			x.load(1, presence.Load{N: 1})
			x.load(2, presence.Load{})
			x.do(3, presence.Event{Kind: presence.EventLogout})
		}, func(r presence.Routing) presence.Routing { return keeps(left(r)) }},
		{"one piece of room", func(x *subject) { x.load(1, presence.Load{N: 1, Capacity: presence.NewCount(2)}) }, same},
		{"no room", func(x *subject) { x.load(1, presence.Load{N: 2, Capacity: presence.NewCount(2)}) }, keeps},
	} {
		for _, r := range routes {
			x := newSubject(t, routingPolicy(r, change))
			x.login(0, "tab")
			tt.do(x)
			require.Equal(t, tt.want(r), x.s.Current.Routing, "%s, %s", tt.name, r)
			require.Equal(t, tt.want(r) == presence.RouteAll, x.s.Current.Routable)
		}
	}
}

// Without the time for it nothing wraps up or settles, and nothing is noted of it.
func TestNothingWrapsUpOrSettles(t *testing.T) {
	x := newSubject(t, presence.DefaultPolicy())
	x.login(0, "tab")
	x.do(1, presence.Event{Kind: presence.EventDisconnect, Conn: "tab", Cause: presence.CauseLost})
	x.do(2, presence.Event{Kind: presence.EventConnect, Conn: "tab", Age: presence.NoAge})
	require.Nil(t, x.s.Work)
	x.load(3, presence.Load{N: 2})
	x.load(4, presence.Load{N: 1})
	x.do(5, presence.Event{Kind: presence.EventDone})
	require.Zero(t, x.s.Work.WrapsUp)
	require.True(t, x.s.Current.Routable)
}

// An offer is accepted by the routing of the status, the room and the kind of offer,
// and adds its pieces to the load. Nothing else changes by a refused one.
func TestOffersAreAcceptedByTheirKind(t *testing.T) {
	kinds := append([]presence.Routing{""}, routes...)
	for _, r := range routes {
		for _, returns := range []string{"", presence.ReturnsCapacity} {
			m := mustCompile(routingPolicy(r, func(p *presence.Policy) { p.Work.Returns = returns }))
			start := &subject{t: t, m: m}
			start.login(0, "tab")
			for room := -1; room <= 2; room++ { // -1 means without a limit
				full := &subject{t: t, m: m, s: start.s.Clone()}
				capacity := presence.Count{}
				if room >= 0 {
					capacity = presence.NewCount(3 + room)
				}
				full.load(1, presence.Load{N: 3, Capacity: capacity})
				for _, kind := range kinds {
					for n := range 3 {
						need := max(n, 1)
						fits := room < 0 || room >= need
						all := r == presence.RouteAll || r == presence.RouteLast
						want := map[presence.Routing]bool{
							"": all && fits, presence.RouteAll: all && fits, presence.RouteLast: all && fits,
							presence.RouteSticky:   (all || r == presence.RouteSticky) && (returns == "" || fits),
							presence.RouteTransfer: all || r == presence.RouteTransfer, presence.RouteNone: true,
						}[kind]
						x := &subject{t: t, m: m, s: full.s.Clone()}
						_, err := x.try(2, presence.Event{Kind: presence.EventOffer, Routing: kind, Load: presence.Load{N: n}, Revision: x.s.Current.Revision})
						name := fmt.Sprintf("status %s, room %d, offer %q of %d, returns %q", r, room, kind, n, returns)
						require.Equal(t, want, err == nil, "%s: %v", name, err)
						if want {
							require.Equal(t, 3+need, x.s.Work.Total(), name)
							require.Equal(t, second(2), x.s.Work.Given)
							continue
						}
						require.ErrorIs(t, err, presence.ErrNotAllowed)
						require.Equal(t, full.s.Work, x.s.Work, name)
					}
				}
			}
		}
	}
	x := newSubject(t, presence.DefaultPolicy())
	_, err := x.try(0, presence.Event{Kind: presence.EventOffer, Routing: presence.RouteNone})
	require.ErrorIs(t, err, presence.ErrNotAllowed, "nobody is known")
	x.login(0, "tab")
	for i := range presence.MaxLoads {
		x.load(1, presence.Load{On: fmt.Sprint("c", i)})
	}
	x.do(1, presence.Event{Kind: presence.EventOffer, Load: presence.Load{On: "c3"}})
	_, err = x.try(1, presence.Event{Kind: presence.EventOffer, Load: presence.Load{On: "more"}})
	require.ErrorIs(t, err, presence.ErrLimit)
	_, err = x.try(1, presence.Event{Kind: presence.EventOffer, Revision: x.s.Current.Revision - 1})
	require.ErrorIs(t, err, presence.ErrStale)
}

// Work that ends leaves no less than none. Where none was, nothing ends: no wrap-up
// begins.
func TestWorkThatEnds(t *testing.T) {
	p := presence.DefaultPolicy()
	p.Work.WrapUp = 30 * time.Second
	for _, tt := range []struct{ load, done, left int }{{0, 0, 0}, {0, 2, 0}, {1, 0, 0}, {1, 1, 0}, {2, 0, 1}, {2, 1, 1}, {5, 3, 2}, {2, 5, 0}} {
		x := newSubject(t, p)
		x.login(0, "tab")
		x.do(1, presence.Event{Kind: presence.EventDone, Load: presence.Load{N: tt.done}})
		require.Nil(t, x.s.Work)
		x.load(1, presence.Load{N: tt.load})
		x.do(2, presence.Event{Kind: presence.EventDone, Load: presence.Load{N: tt.done}})
		require.Equal(t, tt.left, x.s.Work.Total(), "%+v", tt)
		require.Equal(t, tt.load == 0, x.s.Current.Routable, "%+v", tt)
		given := x.s.Work.Given
		require.Equal(t, map[bool]presence.Instant{true: 0, false: second(2)}[tt.load == 0], given)
		require.Empty(t, x.load(3, presence.Load{N: tt.left}), "a report of the same load is no news")
		require.Equal(t, given, x.s.Work.Given)
	}
}

// The load is shown while available, and otherwise if one was ever reported.
func TestLoadThatIsShown(t *testing.T) {
	x := newSubject(t, presence.DefaultPolicy())
	x.login(0, "tab")
	require.Equal(t, presence.NewCount(0), x.s.Current.Load)
	x.claim(1, presence.Claim{Status: "away"})
	require.Zero(t, x.s.Current.Load)
	x.do(2, presence.Event{Kind: presence.EventRequest, Actor: presence.Agent(ann), Claim: presence.Claim{Status: "busy"}})
	require.NotNil(t, x.s.Work)
	require.Zero(t, x.s.Current.Load)
	require.Equal(t, "busy", x.s.Current.Request)
	x.load(3, presence.Load{})
	require.Equal(t, presence.NewCount(0), x.s.Current.Load)
}

// A subject that can be reached is challenged, once at a time. Each challenge, request
// and requeue of one instant has an id of its own, and each requeue a higher revision.
func TestChallengesAndRequeuesAreTold(t *testing.T) {
	p := presence.DefaultPolicy()
	p.Virtual = map[string]presence.VirtualRule{"push": {Show: "away"}}
	x := newSubject(t, p)
	_, err := x.try(0, presence.Event{Kind: presence.EventChallenge})
	require.ErrorIs(t, err, presence.ErrOffline)
	x.do(0, presence.Event{Kind: presence.EventEndpoint, Endpoint: presence.Endpoint{ID: "p", Kind: presence.EndpointPush}})
	x.do(0, presence.Event{Kind: presence.EventChallenge})
	x.do(0, presence.Event{Kind: presence.EventAck})
	x.login(1, "tab")
	x.load(1, presence.Load{})
	ids := make(map[string]bool)
	tell := func(id string) {
		require.NotEmpty(t, id)
		require.False(t, ids[id], id)
		ids[id] = true
	}
	for range 2 {
		out := x.do(2, presence.Event{Kind: presence.EventChallenge})
		require.Equal(t, []presence.Output{{Kind: presence.OutputChallenge, ID: x.s.Work.Challenge, At: second(62), Noticed: second(2)}}, out)
		tell(out[0].ID)
		next, ok := x.m.Next(&x.s)
		require.True(t, ok)
		require.LessOrEqual(t, next, second(62))
		x.do(2, presence.Event{Kind: presence.EventAck, ID: out[0].ID})
	}
	for _, status := range []string{"busy", "away"} {
		out := x.do(2, presence.Event{Kind: presence.EventRequest, Actor: presence.Agent(ann), Claim: presence.Claim{Status: status}})
		require.Equal(t, presence.OutputPersist, out[0].Kind)
		tell(x.s.Work.Requests[len(x.s.Work.Requests)-1].ID)
	}
	for range 2 {
		x.do(3, presence.Event{Kind: presence.EventOffer, Routing: presence.RouteNone})
		before := x.s.Current.Revision
		for _, o := range x.do(3, presence.Event{Kind: presence.EventDisable}) {
			if o.Kind == presence.OutputRequeue {
				tell(o.ID)
				require.Equal(t, 1, o.Load)
				require.Equal(t, presence.EndDisabled, o.Reason)
			}
		}
		require.Greater(t, x.s.Work.Requeued, before)
		require.LessOrEqual(t, x.s.Work.Requeued, x.s.Current.Revision)
		x.do(3, presence.Event{Kind: presence.EventEnable})
		x.login(3, "tab")
	}
	require.Len(t, ids, 6)
}

// Each change of what reaches a subject raises the revision, so that an offer of
// before is refused, also within one instant.
func TestRevisionsRise(t *testing.T) {
	x := newSubject(t, presence.DefaultPolicy())
	x.login(0, "tab")
	for i := range 6 {
		before := x.s.Current.Revision
		x.claim(1, presence.Claim{Status: []string{"away", "available"}[i%2]})
		require.Greater(t, x.s.Current.Revision, before)
		_, err := x.try(1, presence.Event{Kind: presence.EventOffer, Routing: presence.RouteNone, Revision: before})
		require.ErrorIs(t, err, presence.ErrStale)
	}
	require.Equal(t, second(1)+5, x.s.Current.Revision)
}

// A break waits for the work to end if it drains first, work is left and the subject is
// available, but not if a supervisor takes the work away.
func TestWhatWaitsForTheWork(t *testing.T) {
	for _, by := range []presence.Actor{presence.Agent(ann), boss} {
		for _, drain := range []string{"drain", presence.DrainRequeue} {
			for _, status := range []string{"lunch", "away"} {
				for load := range 3 {
					for _, from := range []string{"available", "busy"} {
						p := drainingPolicy()
						p.Work.SupervisorDrain = drain
						x := newSubject(t, p)
						x.login(0, "tab")
						if from == "busy" {
							x.claim(0, presence.Claim{Status: from})
						}
						x.load(1, presence.Load{N: load})
						out := x.do(2, presence.Event{Kind: presence.EventSetClaim, Actor: by, Claim: presence.Claim{Status: status, For: time.Minute}})
						require.Equal(t, presence.OutputPersist, out[0].Kind)
						takes := by.Role == presence.RoleSupervisor && drain == presence.DrainRequeue
						waits := status == "lunch" && load > 0 && from == "available" && !takes
						name := fmt.Sprintf("%s to %s, %s, load %d, from %s", by, status, drain, load, from)
						require.Equal(t, waits, x.s.Work.Pending != nil, name)
						requeued := slices.ContainsFunc(out, func(o presence.Output) bool { return o.Kind == presence.OutputRequeue })
						require.Equal(t, takes && status == "lunch" && load > 0, requeued, name)
						if waits {
							require.Equal(t, second(2), x.s.Work.Pending.SetAt)
							require.Zero(t, x.s.Work.Pending.Until, "the minute has not begun")
							require.Equal(t, second(2), x.s.ChangedAt)
							x.load(10, presence.Load{})
							require.Equal(t, second(70), x.s.Current.Until, name)
							continue
						}
						require.Equal(t, second(62), x.s.Current.Until, name)
						require.Equal(t, status, x.s.Current.Status)
					}
				}
			}
		}
	}
}

// Of two choices that end while a break waits, the one that showed holds.
func TestTheChoiceThatShowedHolds(t *testing.T) {
	p := drainingPolicy()
	p.AddStatus(presence.Status{ID: "desk", Class: presence.ClassAvailable})
	p.AddStatus(presence.Status{ID: "phone", Class: presence.ClassAvailable})
	for _, first := range []string{"desk", "phone"} {
		x := newSubject(t, p)
		x.login(0, "tab")
		x.load(0, presence.Load{N: 1})
		last := map[string]string{"desk": "phone", "phone": "desk"}[first]
		own := func(at float64) { x.claim(at, presence.Claim{Status: "desk", Until: second(30)}) }
		other := func(at float64) {
			x.do(at, presence.Event{Kind: presence.EventSetClaim, Actor: boss, Claim: presence.Claim{Status: "phone", Until: second(30)}})
		}
		if first == "desk" {
			own(1)
			other(2)
		} else {
			other(1)
			own(2)
		}
		x.claim(3, presence.Claim{Status: "lunch"})
		require.Equal(t, last, x.s.Current.Status)
		require.Equal(t, "lunch", x.s.Current.Pending)
		require.Equal(t, last, x.tick(31).Status)
		require.Zero(t, x.s.Current.Until)
	}
}

// Who may decide on a request: supervisors, admins and systems of the tenant, on
// others. Only the subject itself withdraws it.
func TestWhoDecidesOnRequests(t *testing.T) {
	self := func(role presence.Role) presence.Actor { return presence.Actor{Subject: ann, Role: role} }
	of := func(role presence.Role) presence.Actor { return presence.Actor{Subject: bob, Role: role} }
	foreign := presence.Actor{Subject: presence.Ref{Tenant: "acme", ID: "boss"}, Role: presence.RoleSupervisor}
	for _, tt := range []struct {
		actor             presence.Actor
		decides, withdraw bool
	}{
		{self(""), false, true}, {self(presence.RoleAgent), false, true}, {self(presence.RoleVisitor), false, false},
		{self(presence.RoleSupervisor), false, true}, {self(presence.RoleAdmin), false, true}, {self(presence.RoleSystem), true, true},
		{of(presence.RoleAgent), false, false}, {of(presence.RoleVisitor), false, false}, {of(presence.RoleSupervisor), true, false},
		{of(presence.RoleAdmin), true, false}, {of(presence.RoleSystem), true, false}, {foreign, false, false},
	} {
		for _, kind := range []presence.EventKind{presence.EventDecide, presence.EventWithdraw} {
			x := newSubject(t, presence.DefaultPolicy())
			x.login(0, "tab")
			for _, status := range []string{"away", "busy"} {
				x.do(1, presence.Event{Kind: presence.EventRequest, ID: status, Actor: presence.Agent(ann), Claim: presence.Claim{Status: status}})
			}
			before := x.s.Clone()
			out, err := x.try(1, presence.Event{Kind: kind, Actor: tt.actor, ID: "busy", Reject: true})
			want := tt.decides
			if kind == presence.EventWithdraw {
				want = tt.withdraw
			}
			require.Equal(t, want, err == nil, "%s %s: %v", tt.actor, kind, err)
			if !want {
				require.ErrorIs(t, err, presence.ErrNotAllowed)
				require.Equal(t, before, x.s)
				continue
			}
			require.Len(t, x.s.Work.Requests, 1)
			require.Equal(t, "away", x.s.Work.Requests[0].ID)
			require.Equal(t, tt.actor.Subject.ID, x.s.Work.Closed.By)
			require.Equal(t, presence.OutputPersist, out[0].Kind)
			_, err = x.try(2, presence.Event{Kind: kind, Actor: tt.actor, ID: "busy", Reject: true})
			require.ErrorIs(t, err, presence.ErrStale)
			require.ErrorContains(t, err, "already decided")
			_, err = x.try(2, presence.Event{Kind: kind, Actor: tt.actor, ID: "none", Reject: true})
			require.ErrorIs(t, err, presence.ErrUnknown)
			x.do(2, presence.Event{Kind: kind, Actor: tt.actor, Reject: true}) // the oldest
			_, err = x.try(2, presence.Event{Kind: kind, Actor: tt.actor, Reject: true})
			require.ErrorIs(t, err, presence.ErrStale)
		}
	}
	x := newSubject(t, presence.DefaultPolicy())
	x.login(0, "tab")
	for _, id := range []string{"", "none"} {
		_, err := x.try(1, presence.Event{Kind: presence.EventDecide, Actor: boss, ID: id})
		require.ErrorIs(t, err, presence.ErrUnknown)
	}
	_, err := x.try(1, presence.Event{Kind: presence.EventDecide, Actor: presence.Agent(bob)})
	var refusal *presence.Error
	require.True(t, errors.As(err, &refusal))
	require.Equal(t, []string{"supervisor", "admin", "system"}, refusal.Allowed)
}

// Only the subject itself requests a status, while it can be reached. The end of a
// request that is accepted counts from then, also if the policy gives the status an
// end meanwhile.
func TestRequestsAreAccepted(t *testing.T) {
	ended := presence.DefaultPolicy()
	require.NoError(t, ended.Set("statuses.away.for", "2m"))
	for _, tt := range []struct {
		claim  presence.Claim
		policy presence.Policy // when it is decided
		key    string
		until  float64
	}{
		{presence.Claim{Status: "away"}, presence.DefaultPolicy(), presence.KeyBase, 0},
		{presence.Claim{Status: "away", For: time.Minute}, presence.DefaultPolicy(), presence.KeyTimed, 70},
		{presence.Claim{Status: "away", Until: second(40)}, presence.DefaultPolicy(), presence.KeyTimed, 40},
		{presence.Claim{Status: "away"}, ended, presence.KeyTimed, 130},
		{presence.Claim{Status: "away", Key: presence.KeyBase}, ended, presence.KeyTimed, 130},
	} {
		x := newSubject(t, presence.DefaultPolicy())
		x.login(0, "tab")
		x.do(1, presence.Event{Kind: presence.EventRequest, Actor: presence.Agent(ann), Claim: tt.claim})
		open := x.s.Work.Requests[0]
		require.Equal(t, second(1), open.At)
		require.Zero(t, open.Until)
		require.Equal(t, "away", x.s.Current.Request)
		x.m = mustCompile(tt.policy)
		x.do(2, presence.Event{Kind: presence.EventPolicy})
		x.do(10, presence.Event{Kind: presence.EventDecide, Actor: boss})
		require.Len(t, x.s.Claims, 1)
		require.Equal(t, tt.key, x.s.Claims[0].Key)
		until := presence.Instant(0)
		if tt.until > 0 {
			until = second(tt.until)
		}
		require.Equal(t, until, x.s.Current.Until, "%+v", tt.claim)
		require.Equal(t, presence.EndAccepted, x.s.Work.Closed.Reason)
		require.Empty(t, x.s.Work.Requests)
	}
	x := newSubject(t, presence.DefaultPolicy())
	ask := presence.Event{Kind: presence.EventRequest, ID: "r", Actor: presence.Agent(ann), Claim: presence.Claim{Status: "away"}}
	_, err := x.try(0, ask)
	require.ErrorIs(t, err, presence.ErrOffline)
	x.login(0, "tab")
	for _, actor := range []presence.Actor{boss, presence.System(ann), presence.Agent(bob)} {
		other := ask
		other.Actor = actor
		_, err = x.try(1, other)
		require.ErrorIs(t, err, presence.ErrNotAllowed, "%s", actor)
	}
	x.do(1, ask)
	require.Empty(t, x.do(2, ask), "the same again")
	require.Equal(t, second(1), x.s.Work.Requests[0].At)
}

// The requests of a subject that left are withdrawn by the rule of the policy.
func TestLeavingWithdrawsRequests(t *testing.T) {
	for on, causes := range map[string][]presence.Cause{
		"": {presence.CauseLogout}, "logout": {presence.CauseLogout}, presence.WithdrawClosed: {presence.CauseLogout, presence.CauseClosed}, presence.WithdrawNever: nil,
	} {
		for _, cause := range []presence.Cause{presence.CauseLogout, presence.CauseClosed, presence.CauseLost} {
			p := presence.DefaultPolicy()
			p.Work.WithdrawOn = on
			x := newSubject(t, p)
			x.login(0, "tab")
			for _, status := range []string{"away", "busy"} {
				x.do(1, presence.Event{Kind: presence.EventRequest, Actor: presence.Agent(ann), Claim: presence.Claim{Status: status}})
			}
			x.do(2, presence.Event{Kind: presence.EventDisconnect, Conn: "tab", Cause: cause})
			x.tick(300)
			require.Equal(t, slices.Contains(causes, cause), len(x.s.Work.Requests) == 0, "%q, %s", on, cause)
			if closed := x.s.Work.Closed; closed != nil {
				require.Equal(t, presence.EndWithdrawn, closed.Reason)
				require.Equal(t, "ann", closed.By)
			}
		}
	}
}
