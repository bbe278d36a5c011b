package presence_test

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/presence-go/presence"
	"github.com/presence-go/presence/preset"
)

// subject drives one state by hand. Instants are seconds from its start.
type subject struct {
	t *testing.T
	m *presence.Machine
	s presence.State
}

func newSubject(t *testing.T, p presence.Policy) *subject {
	t.Helper()
	m, err := presence.Compile(p)
	require.NoError(t, err)
	return &subject{t: t, m: m}
}

const start = presence.Instant(1_000_000_000_000)

func second(at float64) presence.Instant {
	return start.Add(time.Duration(at * float64(time.Second)))
}

func (x *subject) try(at float64, e presence.Event) ([]presence.Output, error) {
	e.Subject = ann
	out, _, err := x.m.Step(&x.s, &e, second(at), nil)
	return out, err
}

func (x *subject) do(at float64, e presence.Event) []presence.Output {
	x.t.Helper()
	out, err := x.try(at, e)
	require.NoError(x.t, err)
	return out
}

func (x *subject) login(at float64, conn string) {
	x.t.Helper()
	x.do(at, presence.Event{Kind: presence.EventLogin, Conn: conn, Age: presence.NoAge})
}

func (x *subject) beat(at float64, conn string) {
	x.t.Helper()
	x.do(at, presence.Event{Kind: presence.EventHeartbeat, Conn: conn, Age: presence.NoAge})
}

func (x *subject) claim(at float64, c presence.Claim) []presence.Output {
	x.t.Helper()
	return x.do(at, presence.Event{Kind: presence.EventSetClaim, Actor: presence.Agent(ann), Claim: c})
}

func (x *subject) tick(at float64) presence.Presence {
	x.t.Helper()
	x.do(at, presence.Event{Kind: presence.EventTick})
	return x.s.Current
}

// keep sends heartbeats from one instant to another.
func (x *subject) keep(from, to float64, conn string) {
	x.t.Helper()
	for at := from; at <= to; at += 25 {
		x.beat(at, conn)
	}
}

// X5: polling, an open tab and looking around are not input.
func TestX05OnlyInputIsInput(t *testing.T) {
	x := newSubject(t, presence.DefaultPolicy())
	x.login(0, "tab")
	x.keep(25, 275, "tab")
	require.Equal(t, "available", x.tick(299).Status)
	require.Equal(t, "away", x.tick(300).Status)
	for _, e := range []presence.Event{
		{Kind: presence.EventHeartbeat, Conn: "tab", Age: presence.NoAge},
		{Kind: presence.EventFocus, Conn: "tab", Channel: "sales"},
		{Kind: presence.EventVisible, Conn: "tab"},
		{Kind: presence.EventConnect, Conn: "tab", Age: presence.NoAge},
		{Kind: presence.EventConnect, Conn: "other", Age: presence.NoAge},
		{Kind: presence.EventSetClaim, Actor: presence.Actor{Subject: presence.ID("crm"), Role: presence.RoleSystem}, Claim: presence.Claim{Status: "available", Source: presence.SourceCalendar}},
	} {
		x.do(301, e)
		require.Equal(t, "away", x.s.Current.Status, "%+v", e)
		require.Equal(t, presence.CauseIdle, x.s.Current.Cause)
	}
	x.do(302, presence.Event{Kind: presence.EventInput, Conn: "other"})
	require.Equal(t, "available", x.s.Current.Status)
}

// X15: what someone hidden does changes nothing that others see, and the host can
// ask before it shows it.
func TestX15HiddenActivityRevealsNothing(t *testing.T) {
	x := newSubject(t, preset.TawkTo())
	x.login(0, "tab")
	require.NotContains(t, x.s.Current.HiddenFrom, presence.AudienceVisitor)
	x.claim(10, presence.Claim{Status: "invisible"})
	hidden := x.m.View(&x.s.Current, presence.AudienceVisitor)
	require.Equal(t, "offline", hidden.Status)
	x.do(20, presence.Event{Kind: presence.EventInput, Conn: "tab"})
	x.do(30, presence.Event{Kind: presence.EventFocus, Conn: "tab", Channel: "sales"})
	x.do(40, presence.Event{Kind: presence.EventLogout, Conn: "tab"})
	require.Contains(t, x.s.Current.HiddenFrom, presence.AudienceVisitor, "who hides does so without a connection as well")
	require.Equal(t, hidden, x.m.View(&x.s.Current, presence.AudienceVisitor))
	x.do(50, presence.Event{Kind: presence.EventConnect, Conn: "tab", Age: presence.NoAge})
	require.Equal(t, hidden, x.m.View(&x.s.Current, presence.AudienceVisitor))
	require.Contains(t, x.s.Current.HiddenFrom, presence.AudienceVisitor)
	require.NotContains(t, x.s.Current.HiddenFrom, presence.AudienceTeam)
}

// X16: counts, the group and sequence numbers know nothing of a hidden member.
func TestX16CountsAndSequencesAreTheAudiences(t *testing.T) {
	policy := preset.TawkTo()
	policy.Views = map[presence.Audience][]string{presence.AudienceVisitor: {"since", "lastSeen", "cause"}}
	run := func(leave presence.Event) (frames [][]byte) {
		x := newSubject(t, policy)
		r := presence.NewRoster(sales, x.m)
		keep := func(list []*presence.Frame) {
			for _, f := range list {
				data, err := f.JSON()
				require.NoError(t, err)
				frames = append(frames, data)
			}
		}
		keep([]*presence.Frame{r.Open(presence.AudienceVisitor, presence.Ref{}, func() string { return "1" })})
		put := func(at float64, e presence.Event) {
			for _, o := range x.do(at, e) {
				if o.Kind == presence.OutputTransition || o.Kind == presence.OutputUpdated {
					keep(r.Put(&o.Presence, o.Noticed))
				}
			}
		}
		put(0, presence.Event{Kind: presence.EventLogin, Conn: "tab", Age: presence.NoAge})
		put(10, leave)
		put(20, presence.Event{Kind: presence.EventTick})
		if leave.Kind == presence.EventSetClaim { // what the one who stayed does now is not seen
			put(20, presence.Event{Kind: presence.EventInput, Conn: "tab"})
			put(21, presence.Event{Kind: presence.EventSetClaim, Actor: presence.Agent(ann), Claim: presence.Claim{Status: "invisible", Text: "psst"}})
		}
		put(30, presence.Event{Kind: presence.EventLogin, Conn: "tab", Age: presence.NoAge})
		return frames
	}
	hidden := run(presence.Event{Kind: presence.EventSetClaim, Actor: presence.Agent(ann), Claim: presence.Claim{Status: "invisible"}})
	left := run(presence.Event{Kind: presence.EventLogout})
	require.Len(t, left, 4)
	require.Equal(t, left, hidden)
}

// Who is shown devices sees each come and, once its grace is over, go; nobody
// else notices, and nobody who can be hidden from may be shown them.
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

// X26: reports are ordered by epoch and sequence; nothing late undoes anything.
func TestX26LateAndRepeatedReports(t *testing.T) {
	x := newSubject(t, presence.DefaultPolicy())
	report := func(at float64, epoch uint32, seq uint64, age time.Duration) error {
		_, err := x.try(at, presence.Event{Kind: presence.EventHeartbeat, Conn: "tab", Epoch: epoch, Seq: seq, Age: age})
		return err
	}
	x.login(0, "tab")
	require.NoError(t, report(1, 1, 2, 10*time.Minute))
	require.Equal(t, "away", x.s.Current.Status)
	require.NoError(t, report(2, 1, 1, 0), "an earlier report that comes later")
	require.Equal(t, "away", x.s.Current.Status)
	require.NoError(t, report(3, 1, 3, 0))
	require.Equal(t, "available", x.s.Current.Status)

	require.Empty(t, x.do(4, presence.Event{Kind: presence.EventConnect, Conn: "tab", Epoch: 2, Age: presence.NoAge}), "a new socket is no news")
	require.Empty(t, x.do(5, presence.Event{Kind: presence.EventConnect, Conn: "tab", Epoch: 2, Age: presence.NoAge}), "nor is saying so twice")
	require.ErrorIs(t, report(6, 1, 4, 0), presence.ErrStale)
	require.Empty(t, x.do(7, presence.Event{Kind: presence.EventDisconnect, Conn: "tab", Epoch: 1, Cause: presence.CauseClosed}), "X27: the old socket's close")
	_, err := x.try(8, presence.Event{Kind: presence.EventConnect, Conn: "tab", Epoch: 9, Age: presence.NoAge})
	require.ErrorIs(t, err, presence.ErrStale, "an epoch that was never issued")
	_, err = x.try(8, presence.Event{Kind: presence.EventDisconnect, Conn: "tab", Epoch: 9, Cause: presence.CauseClosed})
	require.ErrorIs(t, err, presence.ErrStale)

	x.do(9, presence.Event{Kind: presence.EventDisconnect, Conn: "tab", Epoch: 2, Cause: presence.CauseClosed})
	require.ErrorIs(t, report(10, 2, 5, 0), presence.ErrStale, "a heartbeat after the disconnect")
	require.Equal(t, "offline", x.tick(14).Status)
	require.ErrorIs(t, report(15, 2, 6, 0), presence.ErrUnknown)
}

// A claim that a system puts above a choice to hide does not betray it.
func TestCallDoesNotBetrayTheInvisible(t *testing.T) {
	x := newSubject(t, preset.TawkTo())
	pbx := presence.Actor{Subject: presence.ID("pbx"), Role: presence.RoleSystem}
	x.login(0, "tab")
	x.claim(10, presence.Claim{Status: "invisible"})
	before := x.m.View(&x.s.Current, presence.AudienceVisitor)
	x.do(20, presence.Event{Kind: presence.EventSetClaim, Actor: pbx, Claim: presence.Claim{Status: "away", Source: presence.SourceCall}})
	require.Equal(t, "away", x.s.Current.Status)
	require.Equal(t, before, x.m.View(&x.s.Current, presence.AudienceVisitor))
	x.claim(30, presence.Claim{Status: "online"})
	require.Equal(t, "away", x.m.View(&x.s.Current, presence.AudienceVisitor).Status, "her own choice ends it")
}

// A status that a changed policy no longer has never becomes an available one.
func TestStatusGoneFromThePolicy(t *testing.T) {
	x := newSubject(t, preset.Threads())
	x.login(0, "tab")
	x.claim(1, presence.Claim{Status: "lunch"})
	next, err := presence.Compile(preset.RespondIO()) // has no status of class away at all
	require.NoError(t, err)
	x.m = next
	x.do(2, presence.Event{Kind: presence.EventPolicy})
	require.Equal(t, "busy", x.s.Current.Status)
	require.False(t, x.s.Current.Routable)
}

// The only active device goes: away at once when its grace is over, since the
// instant it went, and not a fresh idle period later.
func TestX02ActiveDeviceLeaves(t *testing.T) {
	x := newSubject(t, presence.DefaultPolicy())
	x.login(0, "desk")
	x.keep(25, 400, "desk")
	x.do(400, presence.Event{Kind: presence.EventConnect, Conn: "phone", Age: presence.NoAge})
	x.do(410, presence.Event{Kind: presence.EventInput, Conn: "phone"})
	require.Equal(t, "available", x.s.Current.Status)
	x.do(420, presence.Event{Kind: presence.EventDisconnect, Conn: "phone", Cause: presence.CauseClosed})
	require.Equal(t, "available", x.tick(424.999).Status)
	p := x.tick(425)
	require.Equal(t, "away", p.Status)
	require.Equal(t, presence.CauseIdle, p.Cause)
	require.Equal(t, second(420), p.Since)
}

// A node that dies takes its connections into a grace; one that comes back with a
// new incarnation takes the old ones away at once.
func TestX28X29Nodes(t *testing.T) {
	x := newSubject(t, presence.DefaultPolicy())
	on := func(at float64, conn, node string, incarnation uint64) {
		x.do(at, presence.Event{Kind: presence.EventConnect, Conn: conn, Node: node, Incarnation: incarnation, Age: presence.NoAge})
	}
	on(0, "a", "n1", 1)
	x.do(10, presence.Event{Kind: presence.EventNodeDown, Node: "n1", Incarnation: 1})
	require.Equal(t, presence.ReachLingering, x.s.Current.Reach)
	require.Equal(t, "available", x.tick(24.9).Status)
	require.Equal(t, "offline", x.tick(25).Status)
	require.Equal(t, second(10), x.s.Current.Since)
	require.Equal(t, presence.CauseNode, x.s.Current.Cause)

	on(30, "b", "n1", 2)
	x.do(40, presence.Event{Kind: presence.EventNodeDown, Node: "n1", Cause: presence.CauseDrain})
	require.Equal(t, "available", x.tick(99).Status, "a planned shutdown is given longer")
	x.do(99, presence.Event{Kind: presence.EventNodeUp, Node: "n1", Incarnation: 3})
	require.Equal(t, "offline", x.s.Current.Status)
}

// Whatever follows a change to be stored comes after the request to store it.
func TestStoredBeforeTold(t *testing.T) {
	x := newSubject(t, preset.Threads())
	x.login(0, "tab")
	for _, out := range [][]presence.Output{
		x.claim(1, presence.Claim{Status: "lunch"}),
		x.claim(2, presence.Claim{Status: "active"}),
		x.do(3, presence.Event{Kind: presence.EventLogin, Conn: "tab", Age: presence.NoAge}),
		x.do(4, presence.Event{Kind: presence.EventDisable}),
	} {
		require.NotEmpty(t, out)
		require.Equal(t, presence.OutputPersist, out[0].Kind)
		for _, o := range out[1:] {
			require.NotEqual(t, presence.OutputPersist, o.Kind)
		}
	}
}

// X17: whoever sends a notification is told the same about one who hides, one who
// is away and one who left.
func TestX17SendersAreToldTheSame(t *testing.T) {
	policy := preset.TawkTo()
	policy.Gate = preset.ThriveDesk().Gate
	tracker, err := presence.New(&presence.Options{Policy: &policy, Notifier: acceptingNotifier{}})
	require.NoError(t, err)
	defer tracker.Close()
	for _, status := range []string{"online", "away", "invisible", ""} {
		ref := presence.ID("s-" + status)
		conn, err := tracker.Connect(t.Context(), ref, presence.ConnectOptions{Login: true})
		require.NoError(t, err)
		if status == "" {
			require.NoError(t, conn.Logout())
		} else {
			_, err = conn.Claim(t.Context(), presence.Claim{Status: status})
			require.NoError(t, err)
		}
		require.NoError(t, tracker.Notify(t.Context(), presence.Notification{ID: "n", Subject: ref, Kind: "push"}))
		d, err := tracker.Gate(t.Context(), presence.Notification{Subject: ref, Kind: "push"})
		require.NoError(t, err)
		require.Equal(t, status == "online" || status == "invisible", d.Verdict == presence.Deliver, "who delivers knows better")
	}
}

// acceptingNotifier takes every notification.
type acceptingNotifier struct{}

func (acceptingNotifier) Notify(context.Context, presence.Notification) error { return nil }

// What is refused leaves no trace, and what stays of a call is within bounds.
func TestRefusalsLeaveNoTrace(t *testing.T) {
	p := presence.DefaultPolicy()
	p.Hideable = []presence.Audience{presence.AudienceVisitor}
	agent := presence.Agent(ann)
	refused := func(x *subject, e presence.Event, want error) {
		t.Helper()
		before := x.s.Clone()
		out, err := x.try(1, e)
		require.ErrorIs(t, err, want, "%+v", e)
		require.Empty(t, out)
		before.Now = x.s.Now
		require.Equal(t, before, x.s)
	}
	for _, id := range []string{strings.Repeat("x", presence.MaxID+1), "a\x00b", "a\xffb"} {
		x := newSubject(t, p)
		x.login(0, "tab")
		actor := presence.Actor{Subject: presence.ID(id), Role: presence.RoleSupervisor}
		refused(x, presence.Event{Kind: presence.EventSetClaim, Actor: agent, Claim: presence.Claim{ID: id, Status: "busy"}}, presence.ErrInvalid)
		refused(x, presence.Event{Kind: presence.EventSetClaim, Actor: actor, Claim: presence.Claim{Status: "busy"}}, presence.ErrInvalid)
		refused(x, presence.Event{Kind: presence.EventRequest, Actor: agent, ID: id, Claim: presence.Claim{Status: "busy"}}, presence.ErrInvalid)
		refused(x, presence.Event{Kind: presence.EventChallenge, ID: id}, presence.ErrInvalid)
		refused(x, presence.Event{Kind: presence.EventConnect, Conn: "other", Device: id}, presence.ErrInvalid)
		refused(x, presence.Event{Kind: presence.EventConnect, Conn: "other", Node: id}, presence.ErrInvalid)
		refused(x, presence.Event{Kind: presence.EventFocus, Conn: "tab", Channel: id}, presence.ErrInvalid)
		x.do(1, presence.Event{Kind: presence.EventRequest, Actor: agent, Claim: presence.Claim{Status: "busy"}})
		refused(x, presence.Event{Kind: presence.EventDecide, Actor: actor}, presence.ErrInvalid)
	}

	x := newSubject(t, p)
	x.do(0, presence.Event{Kind: presence.EventGrant})
	refused(x, presence.Event{Kind: presence.EventChallenge}, presence.ErrOffline)
	for i := range presence.MaxEndpoints {
		x.do(0, presence.Event{Kind: presence.EventEndpoint, Endpoint: presence.Endpoint{ID: fmt.Sprint(i), Kind: presence.EndpointPush}})
	}
	refused(x, presence.Event{Kind: presence.EventEndpoint, SubjectKind: presence.KindBot, Endpoint: presence.Endpoint{ID: "more", Kind: presence.EndpointPush}}, presence.ErrLimit)

	x.login(2, "tab")
	x.claim(3, presence.Claim{Status: "busy", HidesFrom: slices.Repeat([]presence.Audience{presence.AudienceVisitor}, 1000)})
	require.Equal(t, []presence.Audience{presence.AudienceVisitor}, x.s.Claims[0].HidesFrom)
}

// A wall clock that is set back moves whatever ends by it, chosen already or
// not, and nothing beyond the last instant there is.
func TestEndsFollowTheWallClock(t *testing.T) {
	p := presence.DefaultPolicy()
	require.NoError(t, p.Set("statuses.away.drainsFirst", "true"))
	x := newSubject(t, p)
	x.login(0, "tab")
	x.do(1, presence.Event{Kind: presence.EventEndpoint, Endpoint: presence.Endpoint{ID: "phone", Kind: presence.EndpointPush, Until: second(900)}})
	x.do(1, presence.Event{Kind: presence.EventLoad, Load: presence.Load{N: 1}})
	x.do(2, presence.Event{Kind: presence.EventSetClaim, Actor: presence.Actor{Role: presence.RoleSystem}, Claim: presence.Claim{Status: "available", For: math.MaxInt64}})
	x.claim(2, presence.Claim{Status: "away", Until: second(1000)})
	x.do(2, presence.Event{Kind: presence.EventRequest, Actor: presence.Agent(ann), Claim: presence.Claim{Status: "busy", Until: second(1100)}})
	x.do(3, presence.Event{Kind: presence.EventClock, From: second(103), To: second(3)})
	require.Len(t, x.s.Claims, 1)
	require.Equal(t, presence.Instant(math.MaxInt64), x.s.Claims[0].Until)
	require.Equal(t, second(1000), x.s.Endpoints[0].Until)
	require.Equal(t, second(1100), x.s.Work.Pending.Until)
	require.Equal(t, second(1200), x.s.Work.Requests[0].Claim.Until)
}

// X13: what was hidden stays so when a policy no longer hides.
func TestX13PolicyThatNoLongerHides(t *testing.T) {
	with := presence.DefaultPolicy()
	with.Statuses = append(with.Statuses, presence.Status{ID: "invisible", Class: presence.ClassAvailable, HiddenFrom: []presence.Audience{presence.AudienceTeam}})
	with.Views = map[presence.Audience][]string{presence.AudienceTeam: {"since", "lastSeen", "cause"}}
	without := with.Clone()
	require.NoError(t, without.RemoveStatus("invisible", ""))
	x := newSubject(t, with)
	seen := func() presence.View { return x.m.View(&x.s.Current, presence.AudienceTeam) }
	x.login(0, "tab")
	x.claim(10, presence.Claim{Status: "invisible"})
	x.do(40, presence.Event{Kind: presence.EventLogout})
	before := seen()
	require.Equal(t, second(10), before.LastSeen)

	m, err := presence.Compile(without)
	require.NoError(t, err)
	x.m = m
	x.do(50, presence.Event{Kind: presence.EventPolicy})
	require.Equal(t, before, seen())
	x.login(60, "tab")
	require.Equal(t, second(60), seen().Since)
	x.do(70, presence.Event{Kind: presence.EventLogout})
	require.Equal(t, second(70), seen().LastSeen)
	require.Equal(t, presence.CauseLogout, seen().Cause, "from then on nothing is hidden")
}

// X14: one who hides looks like one who left, also where an endpoint makes that
// another status than the disconnected one.
func TestX14HidingWithAnEndpoint(t *testing.T) {
	p := preset.TawkTo()
	p.Virtual = map[string]presence.VirtualRule{"push": {Show: "away"}}
	phone := presence.Endpoint{ID: "phone", Kind: presence.EndpointPush, Until: second(100)}
	run := func(leave func(*subject)) (views []presence.View) {
		x := newSubject(t, p)
		look := func() { views = append(views, x.m.View(&x.s.Current, presence.AudienceVisitor)) }
		x.login(0, "tab")
		x.do(1, presence.Event{Kind: presence.EventEndpoint, Endpoint: phone})
		leave(x)
		look()
		x.keep(25, 100, "tab")
		look()
		return views
	}
	hides := run(func(x *subject) { x.claim(10, presence.Claim{Status: "invisible"}) })
	require.Equal(t, "away", hides[0].Status)
	require.Equal(t, "offline", hides[1].Status, "the endpoint is gone as well")

	x := newSubject(t, p)
	x.login(0, "tab")
	x.do(1, presence.Event{Kind: presence.EventEndpoint, Endpoint: phone})
	x.do(10, presence.Event{Kind: presence.EventLogout})
	require.Equal(t, "away", x.s.Current.Status)
	require.Equal(t, hides[0], x.m.View(&x.s.Current, presence.AudienceVisitor))
	x.tick(100)
	require.Equal(t, hides[1], x.m.View(&x.s.Current, presence.AudienceVisitor))
}

// X16: one who hides answers with the same errors as one who left.
func TestX16RefusalsDoNotBetrayTheHidden(t *testing.T) {
	p := presence.DefaultPolicy()
	p.SupervisorWhenOffline = "refuse"
	p.Statuses = append(p.Statuses, presence.Status{ID: "invisible", Class: presence.ClassAvailable, HiddenFrom: []presence.Audience{presence.AudienceSupervisor}})
	require.NoError(t, p.Set("statuses.busy.needsApproval", "true"))
	asks := presence.Event{Kind: presence.EventRequest, Actor: presence.Agent(ann), Claim: presence.Claim{Status: "busy"}}
	refusals := func(x *subject, by presence.Actor) (list []error) {
		for _, e := range []presence.Event{
			{Kind: presence.EventSetClaim, Actor: by, Claim: presence.Claim{Status: "away"}},
			{Kind: presence.EventDecide, Actor: by},
		} {
			before := x.s.Clone()
			_, err := x.try(20, e)
			list = append(list, err)
			x.s = before
		}
		return list
	}
	hidden, gone := newSubject(t, p), newSubject(t, p)
	hidden.login(0, "tab")
	hidden.claim(5, presence.Claim{Status: "invisible"})
	hidden.do(6, asks)
	gone.login(0, "tab")
	gone.do(6, asks)
	gone.do(7, presence.Event{Kind: presence.EventDisconnect, Conn: "tab", Cause: presence.CauseClosed})
	require.Equal(t, refusals(gone, boss), refusals(hidden, boss))
	require.ErrorIs(t, refusals(hidden, boss)[0], presence.ErrOffline)
	require.ErrorIs(t, refusals(hidden, boss)[1], presence.ErrOffline)
	require.Equal(t, []error{nil, nil}, refusals(hidden, admin), "it does not hide from everybody")
}

// Whatever is wrong with a document is reported at once: values that do not fit
// their keys beside keys that there are not.
func TestPolicyFaultsOfEveryKindTogether(t *testing.T) {
	t.Parallel()
	_, _, err := presence.ParsePolicy([]byte(`{"version": 1, "moon": "full", "lease": "soon", "grace": {"closed": "5s"}}`), nil)
	require.ErrorContains(t, err, `invalid policy "moon": unknown key; allowed: version, `)
	require.ErrorContains(t, err, `invalid policy "grace.closed": unknown key; allowed: logout, close, loss`)
	require.ErrorContains(t, err, `invalid policy "lease": want a duration`)
}
