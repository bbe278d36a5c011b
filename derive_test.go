package presence_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/presence-go/presence"
	"github.com/presence-go/presence/preset"
)

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

// ghostly returns a policy without graces in which a ghost is busy, and a policy in
// which it is hidden from visitors as well.
func ghostly() (shows, hides presence.Policy) {
	shows = presence.DefaultPolicy()
	shows.Grace, shows.Idle = presence.Grace{}, nil
	shows.Views = map[presence.Audience][]string{presence.AudienceVisitor: everyField}
	shows.AddStatus(presence.Status{ID: "ghost", Class: presence.ClassBusy})
	shows.Virtual = map[string]presence.VirtualRule{"push": {Show: presence.ShowTop}, "bot": {Show: "away"}}
	hides = shows.Clone()
	hides.AddStatus(presence.Status{ID: "ghost", Class: presence.ClassBusy, HiddenFrom: []presence.Audience{presence.AudienceVisitor}})
	return shows, hides
}

func (x *subject) toVisitors() presence.View { return x.m.View(&x.s.Current, presence.AudienceVisitor) }

func (x *subject) leave(at float64, conn string, cause presence.Cause) {
	x.t.Helper()
	x.do(at, presence.Event{Kind: presence.EventDisconnect, Conn: conn, Cause: cause})
}

func (x *subject) follow(at float64, p presence.Policy) {
	x.t.Helper()
	x.m = mustCompile(p)
	x.do(at, presence.Event{Kind: presence.EventPolicy})
}

func (x *subject) endpoint(at float64, id string, kind presence.EndpointKind) {
	x.t.Helper()
	x.do(at, presence.Event{Kind: presence.EventEndpoint, Endpoint: presence.Endpoint{ID: id, Kind: kind}})
}

// An audience that can be hidden from cannot distinguish hiding from any way of leaving.
func TestLeavingLooksLikeHiding(t *testing.T) {
	_, hides := ghostly()
	hidden := newSubject(t, hides)
	hidden.login(0, "tab")
	hidden.claim(10, presence.Claim{Status: "ghost"})
	require.Equal(t, second(10), hidden.toVisitors().LastSeen)
	for _, cause := range []presence.Cause{presence.CauseLogout, presence.CauseClosed, presence.CauseLost, presence.CauseNode, presence.CauseDrain} {
		x := newSubject(t, hides)
		x.login(0, "tab")
		x.leave(10, "tab", cause)
		require.Equal(t, hidden.toVisitors(), x.toVisitors(), cause)
	}
}

// When a policy that hides takes effect, an audience sees that a subject left at that
// instant if it could see the subject until then, and else when it really left.
func TestFirstNoteOfAnAudience(t *testing.T) {
	shows, hides := ghostly()
	for _, tt := range []struct {
		name            string
		before          func(x *subject)
		status          string
		since, lastSeen presence.Instant
	}{
		{"present", func(x *subject) { x.login(0, "tab") }, "available", second(0), 0},
		{"hides from now on", func(x *subject) { x.login(0, "tab"); x.claim(5, presence.Claim{Status: "ghost"}) }, "offline", second(50), second(50)},
		{"left", func(x *subject) { x.login(0, "tab"); x.leave(10, "tab", presence.CauseClosed) }, "offline", second(10), second(10)},
		{"left before it hid", func(x *subject) {
			x.login(0, "tab")
			x.leave(10, "tab", presence.CauseClosed)
			x.claim(20, presence.Claim{Status: "ghost"})
		}, "offline", second(10), second(10)},
		{"never came", func(x *subject) { x.do(3, presence.Event{Kind: presence.EventGrant}) }, "offline", second(3), 0},
		{"by an endpoint, after it left", func(x *subject) {
			x.login(0, "tab")
			x.leave(10, "tab", presence.CauseClosed)
			x.endpoint(20, "p", presence.EndpointPush)
		}, "available", second(20), 0},
	} {
		x := newSubject(t, shows)
		tt.before(x)
		x.follow(50, hides)
		v := x.toVisitors()
		require.Equal(t, []any{tt.status, tt.since, tt.lastSeen}, []any{v.Status, v.Since, v.LastSeen}, tt.name)
	}
	unknown := newSubject(t, hides)
	unknown.claim(5, presence.Claim{Status: "ghost"})
	require.Equal(t, second(5), unknown.toVisitors().Since)
	require.Zero(t, unknown.toVisitors().LastSeen, "no audience ever saw it")
}

// Fault 8: a subject that hid shows again when it connects, also if an endpoint made it
// present before, and not when its endpoints change.
func TestHidingLastsUntilAConnection(t *testing.T) {
	shows, hides := ghostly()
	for _, login := range []bool{true, false} {
		x := newSubject(t, hides)
		x.login(0, "tab")
		x.claim(1, presence.Claim{Status: "ghost"})
		x.endpoint(2, "p", presence.EndpointPush)
		x.leave(3, "tab", presence.CauseClosed)
		x.follow(10, shows)
		hidden := x.toVisitors()
		require.Equal(t, "offline", hidden.Status)
		x.endpoint(11, "q", presence.EndpointPush)
		x.endpoint(12, "r", presence.EndpointBot)
		require.Equal(t, presence.ReachVirtual, x.s.Current.Reach)
		require.Equal(t, hidden, x.toVisitors())
		kind := presence.EventConnect
		if login {
			kind = presence.EventLogin
		}
		x.do(20, presence.Event{Kind: kind, Conn: "tab", Age: presence.NoAge})
		require.Equal(t, "ghost", x.toVisitors().Status)
		require.Equal(t, second(20), x.toVisitors().Since)
	}
}

// A claim to a status that the policy removed counts as one to its replacement, or else
// to the first status of its class, the first away, busy or do-not-disturb one, or the
// disconnected status. Only a claim to an available status becomes an available one.
func TestRemovedStatusIsReplaced(t *testing.T) {
	status := func(id string, class presence.Class) presence.Status { return presence.Status{ID: id, Class: class} }
	in, out := status("in", presence.ClassAvailable), status("out", presence.ClassOffline)
	lunch, meal := status("lunch", presence.ClassAway), status("meal", presence.ClassAway)
	call, talk := status("call", presence.ClassBusy), status("talk", presence.ClassBusy)
	hush, gone := status("hush", presence.ClassDND), status("gone", presence.ClassOffline)
	for _, tt := range []struct {
		of      presence.Class
		retired string
		left    []presence.Status
		want    string
	}{
		{presence.ClassAvailable, "in", []presence.Status{in, out}, "in"},
		{presence.ClassAvailable, "lunch", []presence.Status{in, meal, lunch, out}, "lunch"},
		{presence.ClassAvailable, "", []presence.Status{in, call, lunch, out}, "lunch"},
		{presence.ClassAvailable, "", []presence.Status{in, hush, call, out}, "call"},
		{presence.ClassAvailable, "", []presence.Status{in, hush, out}, "hush"},
		{presence.ClassAvailable, "", []presence.Status{in, out, gone}, "out"},
		{presence.ClassAway, "in", []presence.Status{in, call, lunch, out}, "lunch"},
		{presence.ClassAway, "call", []presence.Status{in, call, lunch, out}, "call"},
		{presence.ClassBusy, "", []presence.Status{in, lunch, call, talk, out}, "call"},
		{presence.ClassBusy, "", []presence.Status{in, hush, lunch, out}, "lunch"},
		{presence.ClassDND, "", []presence.Status{in, lunch, hush, out}, "hush"},
		{presence.ClassOffline, "", []presence.Status{in, lunch, gone, out}, "gone"},
	} {
		before := presence.Policy{Statuses: []presence.Status{in, out, status("old", tt.of)}}
		after := presence.Policy{Statuses: tt.left}
		if tt.retired != "" {
			after.Retired = map[string]string{"old": tt.retired}
		}
		x := newSubject(t, before)
		x.login(0, "tab")
		x.claim(1, presence.Claim{Status: "old"})
		x.follow(2, after)
		require.Equal(t, tt.want, x.s.Current.Status, "%s, retired to %q, of %v", tt.of, tt.retired, after.Statuses)
	}
}

// "top" is no status id where a rule of an endpoint names it.
func TestTopIsTheChosenStatus(t *testing.T) {
	p, _ := ghostly()
	p.AddStatus(presence.Status{ID: presence.ShowTop, Class: presence.ClassDND})
	x := newSubject(t, p)
	x.endpoint(1, "p", presence.EndpointPush)
	require.Equal(t, "available", x.s.Current.Status)
	x.claim(2, presence.Claim{Status: "ghost"})
	require.Equal(t, "ghost", x.s.Current.Status)
}

// Views count connections, live or lingering, but not the one that stands for those
// before a restart.
func TestDevicesAreConnections(t *testing.T) {
	p := presence.DefaultPolicy()
	p.Views = map[presence.Audience][]string{presence.AudienceTeam: {"devices"}}
	x := newSubject(t, p)
	devices := func() int { return x.m.View(&x.s.Current, presence.AudienceTeam).Devices }
	x.login(0, "a")
	x.login(0, "b")
	require.Equal(t, 2, devices())
	x.leave(1, "b", presence.CauseClosed)
	require.Equal(t, 2, devices(), "it lingers")
	x.tick(10)
	require.Equal(t, 1, devices())
	record, err := x.m.Record(&x.s, 1)
	require.NoError(t, err)
	x.s, err = record.State(0, 0)
	require.NoError(t, err)
	x.do(20, presence.Event{Kind: presence.EventRestart})
	require.Equal(t, presence.ReachLingering, x.s.Current.Reach)
	require.Zero(t, devices())
	x.do(21, presence.Event{Kind: presence.EventConnect, Conn: "a", Age: presence.NoAge})
	require.Equal(t, 1, devices())
	x.tick(60)
	require.Equal(t, 1, devices())
}

// A ceiling that shows after an idle stage that showed less begins with the input.
func TestCeilingAfterIdleness(t *testing.T) {
	p := presence.DefaultPolicy()
	p.Lease = time.Hour
	p.Idle = []presence.IdleStage{{After: time.Minute, To: "offline", On: []string{"available"}}}
	p.Devices = map[string]presence.DeviceRule{"phone": {Ceiling: "away"}}
	x := newSubject(t, p)
	x.do(0, presence.Event{Kind: presence.EventLogin, Conn: "tab", Device: "phone", Age: presence.NoAge})
	require.Equal(t, "away", x.s.Current.Status)
	require.Equal(t, "offline", x.tick(70).Status)
	require.Equal(t, second(60), x.s.Current.Since)
	x.do(80, presence.Event{Kind: presence.EventInput, Conn: "tab"})
	require.Equal(t, "away", x.s.Current.Status)
	require.Equal(t, second(80), x.s.Current.Since)
	require.Equal(t, presence.CauseIdle, x.s.Current.Cause)
}

// A claim whose source no policy ranks any more has the rank of an app, or else the
// lowest.
func TestSourceThatIsNotRanked(t *testing.T) {
	ranked := presence.DefaultPolicy()
	ranked.Sources = append([][]presence.Source{{"robot"}}, presence.DefaultSources()...)
	for _, tt := range []struct {
		sources [][]presence.Source
		want    string
	}{
		{[][]presence.Source{{presence.SourceSystem}, {presence.SourceApp}, {presence.SourceSupervisor, presence.SourceManual}, {presence.SourceCalendar}, {presence.SourceLoginDefault}}, "busy"},
		{[][]presence.Source{{presence.SourceSystem}, {presence.SourceSupervisor, presence.SourceManual}, {presence.SourceApp}, {presence.SourceCalendar}, {presence.SourceLoginDefault}}, "away"},
		{[][]presence.Source{{presence.SourceSystem}, {presence.SourceSupervisor, presence.SourceManual}, {presence.SourceLoginDefault}}, "away"},
	} {
		x := newSubject(t, ranked)
		x.login(0, "tab")
		x.do(1, presence.Event{Kind: presence.EventSetClaim, Actor: switchboard, Claim: presence.Claim{Source: "robot", Status: "busy"}})
		x.claim(2, presence.Claim{Status: "away"})
		require.Equal(t, "busy", x.s.Current.Status)
		other := ranked.Clone()
		other.Sources = tt.sources
		x.follow(3, other)
		require.Equal(t, tt.want, x.s.Current.Status, "%v", tt.sources)
		x.do(4, presence.Event{Kind: presence.EventEndClaim, Actor: presence.Agent(ann)})
		require.Equal(t, "busy", x.s.Current.Status, "above no claim")
	}
}

// Connections vote by the fold. Of votes for one status the newest wins, and of those set
// at one instant the last. A connection without a claim votes for the default. The best
// rank among the votes competes with the other claims.
func TestVotesOfConnections(t *testing.T) {
	p := presence.DefaultPolicy()
	p.ClaimScope, p.Fold = presence.ScopeConnection, []string{"busy", "available", "away"}
	over := func(x *subject, at float64, conn, status, text string) {
		x.do(at, presence.Event{Kind: presence.EventSetClaim, Actor: presence.Agent(ann), Conn: conn, Claim: presence.Claim{Status: status, Text: text}})
	}
	for name, tt := range map[string]struct {
		claims       func(x *subject)
		status, text string
	}{
		"the newest, over the first":      {func(x *subject) { over(x, 1, "b", "busy", "b"); over(x, 2, "a", "busy", "a") }, "busy", "a"},
		"the newest, over the last":       {func(x *subject) { over(x, 1, "a", "busy", "a"); over(x, 2, "b", "busy", "b") }, "busy", "b"},
		"at one instant, over the first":  {func(x *subject) { over(x, 1, "b", "busy", "b"); over(x, 1, "a", "busy", "a") }, "busy", "a"},
		"at one instant, over the last":   {func(x *subject) { over(x, 1, "a", "busy", "a"); over(x, 1, "b", "busy", "b") }, "busy", "b"},
		"the first by the fold":           {func(x *subject) { over(x, 1, "b", "busy", "b"); over(x, 2, "a", "away", "a") }, "busy", "b"},
		"the default of the other":        {func(x *subject) { over(x, 1, "a", "away", "a") }, "available", ""},
		"a choice of the default is said": {func(x *subject) { over(x, 1, "a", "available", "a") }, "available", "a"},
		"by the best rank": {func(x *subject) {
			over(x, 1, "", "away", "all")
			for i, source := range []presence.Source{presence.SourceApp, presence.SourceCall} {
				x.do(float64(2+i), presence.Event{Kind: presence.EventSetClaim, Actor: switchboard, Claim: presence.Claim{Source: source, Conn: "a", Status: "busy", Text: string(source)}})
			}
		}, "busy", "call"},
		"below a choice for all": {func(x *subject) {
			over(x, 1, "", "away", "all")
			x.do(2, presence.Event{Kind: presence.EventSetClaim, Actor: switchboard, Claim: presence.Claim{Source: presence.SourceApp, Conn: "a", Status: "busy"}})
		}, "away", "all"},
		"until it ends": {func(x *subject) {
			x.do(1, presence.Event{Kind: presence.EventSetClaim, Actor: presence.Agent(ann), Conn: "a", Claim: presence.Claim{Status: "busy", Until: second(9)}})
			x.tick(9)
		}, "available", ""},
		"not of a connection that ended": {func(x *subject) {
			over(x, 1, "a", "busy", "a")
			x.leave(2, "a", presence.CauseClosed)
			x.tick(8)
		}, "available", ""},
	} {
		x := newSubject(t, p)
		x.login(0, "a")
		x.login(0, "b")
		tt.claims(x)
		require.Equal(t, []string{tt.status, tt.text}, []string{x.s.Current.Status, x.s.Current.Text}, name)
	}
}

// The claims above manual and the first at manual or below it hide together, each from
// its own audiences. A claim further below does not.
func TestVoicesHideTogether(t *testing.T) {
	p := presence.DefaultPolicy()
	for id, from := range map[string]presence.Audience{"sys": presence.AudienceRouter, "one": presence.AudienceSupervisor, "two": presence.AudienceAdmin, "own": presence.AudienceVisitor, "app": presence.AudienceTeam} {
		p.AddStatus(presence.Status{ID: id, Class: presence.ClassBusy, HiddenFrom: []presence.Audience{from}})
	}
	p.Hideable = []presence.Audience{presence.AudienceVisitor}
	set := func(x *subject, at float64, source presence.Source, status string) {
		x.do(at, presence.Event{Kind: presence.EventSetClaim, Actor: switchboard, Claim: presence.Claim{Source: source, Key: status, Status: status}})
	}
	x := newSubject(t, p)
	x.login(0, "tab")
	for _, tt := range []struct {
		act  func(at float64)
		from []presence.Audience
	}{
		{func(at float64) { set(x, at, presence.SourceApp, "app") }, []presence.Audience{presence.AudienceTeam}},
		{func(at float64) { x.claim(at, presence.Claim{Status: "own"}) }, []presence.Audience{presence.AudienceVisitor}},
		{func(at float64) { set(x, at, presence.SourceCall, "one") }, []presence.Audience{presence.AudienceSupervisor, presence.AudienceVisitor}},
		{func(at float64) { set(x, at, presence.SourceCall, "two") }, []presence.Audience{presence.AudienceSupervisor, presence.AudienceAdmin, presence.AudienceVisitor}},
		{func(at float64) { set(x, at, presence.SourceSystem, "sys") }, []presence.Audience{presence.AudienceSupervisor, presence.AudienceAdmin, presence.AudienceVisitor, presence.AudienceRouter}},
		{func(at float64) { x.claim(at, presence.Claim{Status: "away", HidesFrom: p.Hideable}) }, []presence.Audience{presence.AudienceSupervisor, presence.AudienceAdmin, presence.AudienceVisitor, presence.AudienceRouter}},
		{func(at float64) {
			x.do(at, presence.Event{Kind: presence.EventSetClaim, Actor: presence.Supervisor(presence.ID("kim")), Claim: presence.Claim{Status: "away"}})
		}, []presence.Audience{presence.AudienceSupervisor, presence.AudienceAdmin}},
	} {
		tt.act(float64(x.s.Now.Sub(second(0))/time.Second) + 1)
		require.ElementsMatch(t, tt.from, x.s.Current.HiddenFrom, "%+v", x.s.Claims)
	}
}

// A person who never connected, and a bot or service without a connection that counts,
// are never idle.
func TestWithoutAnAge(t *testing.T) {
	p := presence.DefaultPolicy()
	p.Virtual = map[string]presence.VirtualRule{"push": {Show: presence.ShowTop}}
	p.Devices = map[string]presence.DeviceRule{"wall": {IgnoreInput: true}}
	p.Lease = time.Hour
	for _, kind := range []presence.SubjectKind{presence.KindHuman, presence.KindBot, presence.KindService} {
		for _, device := range []string{"", "wall", "web"} {
			x := newSubject(t, p)
			x.do(0, presence.Event{Kind: presence.EventEndpoint, SubjectKind: kind, Endpoint: presence.Endpoint{ID: "p", Kind: presence.EndpointPush}})
			if device != "" {
				x.do(1, presence.Event{Kind: presence.EventConnect, Conn: "tab", Device: device, Age: presence.NoAge})
			}
			ages := device == "web" || device == "wall" && kind == presence.KindHuman
			at, ok := x.m.Next(&x.s)
			switch {
			case ages:
				require.Equal(t, second(301), at)
			case device == "":
				require.False(t, ok)
			default:
				require.Equal(t, second(3601), at)
			}
			require.Equal(t, ages, x.tick(400).Status == "away", "%s at %q", kind, device)
		}
	}
}

// What a record holds of an audience names the claim that hid from it, and when the
// subject was last seen only while it looks absent.
func TestNotesAsTheyAreStored(t *testing.T) {
	_, hides := ghostly()
	x := newSubject(t, hides)
	seen := func() string {
		record, err := x.m.Record(&x.s, 1)
		require.NoError(t, err)
		_, rest, _ := strings.Cut(string(record.Data), `"seen":[`)
		list, _, _ := strings.Cut(rest, "]")
		return strings.NewReplacer(`"audience":"visitor",`, "", `"`+second(0).String()+`"`, "0s", `"`+second(10).String()+`"`, "10s", `"`+second(20).String()+`"`, "20s", `"`+second(30).String()+`"`, "30s").Replace(list)
	}
	x.login(0, "tab")
	x.claim(0, presence.Claim{Status: "busy"})
	require.Equal(t, `{"left":false,"since":0s}`, seen())
	x.claim(10, presence.Claim{Status: "ghost"})
	require.Equal(t, fmt.Sprintf(`{"left":true,"since":10s,"lastSeen":10s,"by":"%d"}`, x.s.Claims[0].Serial), seen())
	by := x.s.Claims[0].Serial
	x.claim(20, presence.Claim{Status: "busy"})
	require.Equal(t, fmt.Sprintf(`{"left":false,"since":20s,"by":"%d"}`, by), seen())
	x.leave(30, "tab", presence.CauseClosed)
	require.Equal(t, `{"left":true,"since":30s,"lastSeen":30s}`, seen(), "it was seen to leave")
}

// While a break waits for the work to end, the choice in which it was made holds after
// its end: in the place of none or of a lower claim, below a call, and not over another
// choice. It holds no longer than the break waits.
func TestChoiceHoldsInThePlaceOfNone(t *testing.T) {
	system := func(source presence.Source, status string, until float64) presence.Event {
		return presence.Event{Kind: presence.EventSetClaim, Actor: switchboard, Claim: presence.Claim{Source: source, Status: status, Text: string(source), Until: second(until)}}
	}
	for name, tt := range map[string]struct {
		base   string // the text of a choice below the timed one
		breaks presence.Claim
		events []presence.Event // at 20
		at     map[float64]string
	}{
		"none":              {"", presence.Claim{}, nil, map[float64]string{29: "timed", 30: "timed", 100: "timed"}},
		"a lower claim":     {"", presence.Claim{}, []presence.Event{system(presence.SourceApp, "busy", 500)}, map[float64]string{29: "timed", 30: "timed"}},
		"a call":            {"", presence.Claim{}, []presence.Event{system(presence.SourceCall, "busy", 90)}, map[float64]string{29: "call", 30: "call", 90: "timed"}},
		"another choice":    {"base", presence.Claim{}, nil, map[float64]string{29: "timed", 30: "base", 100: "base"}},
		"the break expires": {"", presence.Claim{Until: second(50)}, nil, map[float64]string{30: "timed", 49: "timed", 50: ""}},
		"the break is withdrawn": {"", presence.Claim{}, []presence.Event{{Kind: presence.EventEndClaim, Actor: presence.Agent(ann), Claim: presence.Claim{Key: presence.KeyBase}}},
			map[float64]string{29: "timed", 30: ""}},
	} {
		p := drainingPolicy()
		p.Lease, p.Idle = time.Hour, nil
		x := newSubject(t, p)
		x.login(0, "tab")
		x.do(1, presence.Event{Kind: presence.EventLoad, Load: presence.Load{N: 1}})
		if tt.base != "" {
			x.claim(2, presence.Claim{Status: "available", Text: tt.base})
		}
		x.claim(3, presence.Claim{Status: "available", Text: "timed", Until: second(30)})
		tt.breaks.Status = "lunch"
		x.claim(10, tt.breaks)
		for _, e := range tt.events {
			x.do(20, e)
		}
		for _, at := range slices.Sorted(maps.Keys(tt.at)) {
			require.Equal(t, tt.at[at], x.tick(at).Text, "%s, at %v", name, at)
		}
	}
}

// Claims of one connection speak together as well: the call for it, and the choice over it.
func TestVoicesOfAConnection(t *testing.T) {
	p := presence.DefaultPolicy()
	p.ClaimScope = presence.ScopeConnection
	p.AddStatus(presence.Status{ID: "own", Class: presence.ClassBusy, HiddenFrom: []presence.Audience{presence.AudienceVisitor}})
	p.AddStatus(presence.Status{ID: "call", Class: presence.ClassBusy, HiddenFrom: []presence.Audience{presence.AudienceTeam}})
	x := newSubject(t, p)
	x.login(0, "tab")
	x.do(1, presence.Event{Kind: presence.EventSetClaim, Actor: presence.Agent(ann), Conn: "tab", Claim: presence.Claim{Status: "own"}})
	x.do(2, presence.Event{Kind: presence.EventSetClaim, Actor: switchboard, Claim: presence.Claim{Source: presence.SourceCall, Conn: "tab", Status: "call"}})
	require.Equal(t, "call", x.s.Current.Status)
	require.ElementsMatch(t, []presence.Audience{presence.AudienceTeam, presence.AudienceVisitor}, x.s.Current.HiddenFrom)
}

// A claim that ended before another process's record is taken over never shows.
func TestEndedClaimsOfARecordNeverShow(t *testing.T) {
	for _, conn := range []string{"", "tab"} {
		here, there := newSubject(t, presence.DefaultPolicy()), newSubject(t, presence.DefaultPolicy())
		for _, x := range []*subject{here, there} {
			x.login(0, "tab")
		}
		there.do(1, presence.Event{Kind: presence.EventSetClaim, Actor: switchboard, Claim: presence.Claim{Source: presence.SourceCall, Conn: conn, Status: "busy", Until: second(30)}})
		record, err := there.m.Record(&there.s, 1)
		require.NoError(t, err)
		for _, o := range here.do(30, presence.Event{Kind: presence.EventRecord, Record: &record}) {
			require.NotEqual(t, presence.OutputTransition, o.Kind, "over %q", conn)
		}
		require.Equal(t, "available", here.s.Current.Status)
		require.Empty(t, here.s.Claims)
	}
}

// A change of the routing raises the revision to its instant.
func TestRevisionRisesWithTheRouting(t *testing.T) {
	x := newSubject(t, presence.DefaultPolicy())
	x.login(5, "tab")
	require.Equal(t, second(5), x.s.Current.Revision)
	x.claim(6, presence.Claim{Status: "available", Text: "here"})
	require.Equal(t, second(5), x.s.Current.Revision)
	x.claim(7, presence.Claim{Status: "away"})
	require.Equal(t, second(7), x.s.Current.Revision)
	x.claim(7, presence.Claim{Status: "available"})
	require.Equal(t, second(7)+1, x.s.Current.Revision)
}
