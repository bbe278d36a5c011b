package presence_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/presence-go/presence"
	"github.com/presence-go/presence/internal/naive"
	"github.com/presence-go/presence/internal/seeds"
	"github.com/presence-go/presence/preset"
)

// everyField is every field of a view that an audience may have that can be hidden
// from.
var everyField = []string{
	"since", "setAt", "until", "reason", "text", "cause", "masked", "lastSeen", "lastLogin", "routable", "work", "threads", "pinned", "pending", "request",
}

// theHidden are the audiences from which the policies of the tests below hide. The
// router is none of them, so that its view is the whole one.
var theHidden = []presence.Audience{presence.AudienceTeam, presence.AudienceSupervisor, presence.AudienceVisitor}

// hidingRuling is three random policies under which people can hide. The second is
// mostly the first, which hides less. With chosen, no policy shows by itself a status
// that is hidden: only claims hide.
func hidingRuling(seed uint64, chosen bool) ruling {
	r := rand.New(rand.NewPCG(seed, 31))
	policies := []presence.Policy{hidingPolicy(r, chosen), hidingPolicy(r, chosen), hidingPolicy(r, chosen)}
	if r.IntN(3) > 0 {
		less := policies[0].Clone()
		less.Name += "+less"
		for i := len(less.Statuses) - 1; i >= 0; i-- {
			s := &less.Statuses[i]
			switch {
			case len(s.HiddenFrom) == 0:
			case chosen && r.IntN(3) == 0:
				_ = less.RemoveStatus(s.ID, "")
			default:
				s.HiddenFrom = nil
			}
		}
		less.Hideable = nil
		if _, err := presence.Compile(less); err == nil {
			policies[1] = less
		}
	}
	return newRuling(policies...)
}

// hidingPolicy is a random policy under which people can hide, and which shows every
// audience the same fields.
func hidingPolicy(r *rand.Rand, chosen bool) presence.Policy {
	p := randomPolicy(r)
	p.Work.KickedOut = ""
	p.Views = make(map[presence.Audience][]string)
	for _, a := range []presence.Audience{presence.AudienceSelf, presence.AudienceTeam, presence.AudienceSupervisor, presence.AudienceAdmin, presence.AudienceVisitor, presence.AudienceRouter} {
		p.Views[a] = everyField
	}
	from := func() []presence.Audience {
		list := slices.Clone(theHidden)
		r.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
		return list[:1+r.IntN(len(list))]
	}
	for i := range p.Statuses {
		if p.Statuses[i].Omits = nil; len(p.Statuses[i].HiddenFrom) > 0 {
			p.Statuses[i].HiddenFrom = from()
		}
	}
	if len(p.Hideable) > 0 {
		p.Hideable = from()
	}
	for range 1 + r.IntN(3) {
		varied := p.Clone()
		switch s := &varied.Statuses[r.IntN(len(varied.Statuses))]; r.IntN(6) {
		case 0, 1:
			s.HiddenFrom = from()
		case 2:
			varied.Hideable = from()
		case 3:
			varied.Statuses = append(varied.Statuses, presence.Status{ID: "ghost", Class: presence.ClassBusy, HiddenFrom: from()})
		case 4:
			varied.Virtual = map[string]presence.VirtualRule{"push": {Show: s.ID}, "bot": {Show: "top"}}
		case 5:
			s.NeedsApproval, s.DrainsFirst = s.ID != "" && r.IntN(2) == 0, r.IntN(2) == 0
		}
		if _, err := presence.Compile(varied); err == nil && (!chosen || !showsHidden(&varied)) {
			p = varied
		}
	}
	if chosen && showsHidden(&p) {
		return hidingPolicy(r, chosen)
	}
	return p
}

// showsHidden reports whether a policy can show a hidden status that no claim is to.
func showsHidden(p *presence.Policy) bool {
	ids := []string{naive.DefaultIn(p).ID, naive.DisconnectedIn(p).ID}
	for _, stage := range p.Idle {
		ids = append(ids, stage.To)
	}
	for _, rule := range p.Virtual {
		ids = append(ids, rule.Show)
	}
	return slices.ContainsFunc(ids, func(id string) bool {
		s := naive.StatusOf(p, id)
		return s != nil && len(s.HiddenFrom) > 0
	})
}

// hidingHistory is a history in which peter often hides and policies often change.
func hidingHistory(seed uint64, policies ruling, claims bool) *history {
	g := newGenerator(seed, policies, peter, quinn)
	for range 8 + g.IntN(30) {
		h := g.event()
		switch n := g.IntN(10); {
		case n < 2:
			h = happened{event: presence.Event{Kind: presence.EventPolicy}, policy: g.IntN(len(policies.policies))}
		case n < 4:
			h = happened{event: presence.Event{Kind: presence.EventSetClaim, Subject: peter, Actor: presence.Agent(peter), Claim: g.hides()}}
		}
		if !claims && h.event.Subject == peter && h.event.Kind == presence.EventSetClaim {
			continue
		}
		g.add(h)
		g.pass()
	}
	g.add(happened{})
	return &g.h
}

// hides is a claim that hides, if the policy in force has one.
func (g *generator) hides() presence.Claim {
	var list []presence.Claim
	for _, s := range g.policy().Statuses {
		if len(s.HiddenFrom) > 0 {
			list = append(list, presence.Claim{Status: s.ID})
		} else if h := g.policy().Hideable; len(h) > 0 {
			list = append(list, presence.Claim{Status: s.ID, HidesFrom: h[:1]})
		}
	}
	if len(list) == 0 {
		return presence.Claim{Status: g.status()}
	}
	return pickOne(g, list...)
}

func policyHides(p *presence.Policy, id string, a presence.Audience) bool {
	s := naive.StatusOf(p, id)
	return s != nil && slices.Contains(s.HiddenFrom, a)
}

// leftStatus is the status of a subject that left or hides, by the rule: of what its
// endpoints show, the disconnected status and those of class offline, the first that
// is not hidden.
func leftStatus(p *presence.Policy, s *presence.State, a presence.Audience) string {
	var list []string
	for _, routable := range []bool{true, false} {
		for _, e := range s.Endpoints {
			if rule := p.Virtual[string(e.Kind)]; rule.Show != "" && rule.Show != "ignore" && rule.Routable == routable {
				list = append(list, rule.Show)
			}
		}
	}
	list = append(list[:min(1, len(list))], naive.DisconnectedIn(p).ID)
	for _, o := range p.Statuses {
		if o.Class == presence.ClassOffline {
			list = append(list, o.ID)
		}
	}
	for _, id := range list {
		if id != "top" && !policyHides(p, id, a) {
			return id
		}
	}
	return ""
}

// hidingCheck follows the streams of a room, and what each audience may know.
type hidingCheck struct {
	*room
	read map[viewer]int
	hid  map[presence.Audience]bool // peter looked absent to it at some time
	// chosen means that only claims hide; claimed, that peter had one at some time.
	chosen, claimed bool
	at              struct{ hidden, kept, same, words int }
}

func newHidingCheck(h *history, chosen bool) *hidingCheck {
	return &hidingCheck{room: newRoom(h), read: make(map[viewer]int), hid: make(map[presence.Audience]bool), chosen: chosen}
}

func (c *hidingCheck) policy() *presence.Policy {
	return &c.h.policies[slices.Index(c.h.machines, c.m)]
}

func (c *hidingCheck) view(a presence.Audience) presence.View {
	p := c.states[peter].Current
	p.Subject = peter
	return c.m.View(&p, a)
}

// frames returns the new frames of a stream.
func (c *hidingCheck) frames(v viewer) (list []*presence.Frame) {
	for _, sent := range c.sent[v][c.read[v]:] {
		list = append(list, sent.frame)
	}
	c.read[v] = len(c.sent[v])
	return list
}

// run feeds a history and returns the first thing that reveals too much.
func (c *hidingCheck) run() error {
	for i, e := range c.h.events {
		c.feed(happened{at: e.at}) // so that the event's frames are those of its policy
		for v := range c.sent {
			c.read[v] = len(c.sent[v])
		}
		before, views := c.states[peter].Clone(), make(map[presence.Audience]presence.View)
		for _, a := range theHidden {
			views[a] = c.view(a)
		}
		policy := c.policy()
		c.feed(e)
		err := c.words(policy)
		c.claimed = c.claimed || len(c.states[peter].Claims) > 0
		for _, a := range theHidden {
			p := &c.states[peter].Current
			c.hid[a] = c.hid[a] || slices.Contains(p.HiddenFrom, a)
			if err == nil && policyHides(c.policy(), p.Status, a) && !slices.Contains(p.HiddenFrom, a) {
				err = fmt.Errorf("%s is hidden from %s, and peter is not", p.Status, a)
			}
			if err == nil && c.chosen && e.event.Kind == presence.EventPolicy {
				err = c.exposes(&before, views[a], a)
			}
			if err == nil && (!c.claimed || c.chosen && !c.hid[a]) {
				err = c.differs(a)
			}
			if err == nil && c.chosen {
				err = c.conceals(a)
			}
		}
		if err != nil {
			return fmt.Errorf("event %d (%s): %w", i, e.text(), err)
		}
	}
	return nil
}

// words checks that no frame names a status that is hidden from its audience. While
// a policy takes effect, the rows that follow the one before are still sent by it.
func (c *hidingCheck) words(before *presence.Policy) error {
	for v := range c.sent {
		last := make(map[presence.Ref]presence.View)
		for _, f := range c.sent[v][c.read[v]:] {
			views := slices.Clone(f.frame.Members)
			for _, change := range f.frame.Changes {
				if change.View != nil {
					views = append(views, *change.View)
				}
			}
			for _, view := range views {
				last[view.Subject] = view
				if id := c.names(before, v, view); id != "" && c.names(c.policy(), v, view) != "" {
					return fmt.Errorf("%s is told of %s, which is hidden from it: %+v", v.audience, id, view)
				}
			}
		}
		for _, view := range last {
			if id := c.names(c.policy(), v, view); id != "" {
				return fmt.Errorf("%s is told of %s, which is hidden from it: %+v", v.audience, id, view)
			}
		}
	}
	return nil
}

// names returns a status that a view names and that a policy hides from the viewer,
// or "".
func (c *hidingCheck) names(p *presence.Policy, v viewer, view presence.View) string {
	a := v.audience
	if a == presence.AudienceSelf {
		if a = presence.AudienceTeam; view.Subject == v.subject {
			return ""
		}
	}
	for _, id := range []string{view.Status, view.Masked, view.Pending, view.Request} {
		if c.at.words++; policyHides(p, id, a) {
			return id
		}
	}
	return ""
}

// exposes checks that a policy change reveals nothing of peter to an audience that he
// hid from, beyond the word for a subject that left.
func (c *hidingCheck) exposes(before *presence.State, was presence.View, a presence.Audience) error {
	s := c.states[peter]
	if !slices.Contains(before.Current.HiddenFrom, a) || s.Disabled || before.Current.Disabled || s.Current.Disabled {
		return nil
	}
	c.at.hidden++
	if n := len(s.Conns); 0 < n && n < len(before.Conns) {
		return nil // the shorter lease of a policy has ended a connection, and what was chosen on another counts
	}
	want := was
	want.Status = leftStatus(c.policy(), s, a)
	def := naive.StatusOf(c.policy(), want.Status)
	want.Class, want.Label, want.Color = def.Class, def.Label, def.Color
	if got := c.view(a); got != want {
		return fmt.Errorf("%s saw %+v, and now %+v", a, was, got)
	}
	if s.Current.Reach > presence.ReachNone && !slices.Contains(s.Current.HiddenFrom, a) { // the shorter lease of a policy can end the last connection
		return fmt.Errorf("%s may be told what peter does", a)
	}
	if was != want {
		return nil
	}
	c.at.kept++
	for v := range c.sent {
		if v.audience != a {
			continue
		}
		for _, f := range c.frames(v) {
			for _, change := range f.Changes {
				if change.Subject == peter {
					return fmt.Errorf("%s is sent %s: %+v", a, change.Op, change.View)
				}
			}
		}
	}
	return nil
}

// differs checks that an audience from which peter never hid, and cannot hide now,
// sees what an audience sees that no subject can hide from.
func (c *hidingCheck) differs(a presence.Audience) error {
	p := c.policy()
	if slices.Contains(p.Hideable, a) || slices.ContainsFunc(p.Statuses, func(s presence.Status) bool { return slices.Contains(s.HiddenFrom, a) }) {
		return nil
	}
	c.at.same++
	want := c.view(presence.AudienceRouter)
	if a == presence.AudienceVisitor {
		want.Cause = "" // visitors see no cause
	}
	if got := c.view(a); got != want {
		return fmt.Errorf("%s, from which peter never hid, sees\n %+v, the router\n %+v", a, got, want)
	}
	return nil
}

// conceals checks that peter looks absent to an audience exactly while he is hidden
// from it.
func (c *hidingCheck) conceals(a presence.Audience) error {
	s := c.states[peter]
	p := &s.Current
	if p.Disabled || !p.Known {
		return nil
	}
	view := c.view(a)
	if hidden := slices.Contains(p.HiddenFrom, a); hidden && (view.Cause != presence.CauseLeft || view.Status != leftStatus(c.policy(), s, a)) {
		return fmt.Errorf("peter hides from %s, which sees %+v", a, view)
	} else if whole := c.view(presence.AudienceRouter); !hidden && p.Reach >= presence.ReachLingering && view.Status != whole.Status {
		return fmt.Errorf("peter does not hide from %s, which sees %+v of %+v", a, view, whole)
	}
	return nil
}

// Faults 8, 9 and 10, over random policies that follow each other and random
// histories: a policy change reveals nothing of a subject to an audience that it hid
// from. All audiences see the same of a subject that never hid. No frame names a
// status that is hidden from its audience. Where policies themselves show hidden
// statuses, the third is checked, and the second for subjects without a claim.
func TestPoliciesExposeNobody(t *testing.T) {
	t.Parallel()
	var hidden, kept, same, words int
	eachSeed(t, 300, func(t *testing.T, seed uint64) {
		chosen := seed%3 > 0
		h := hidingHistory(seed, hidingRuling(seed, chosen), chosen || seed%2 == 0)
		requireAlways(t, h, func(h *history) error {
			c := newHidingCheck(h, chosen)
			err := c.run()
			hidden, kept, same, words = hidden+c.at.hidden, kept+c.at.kept, same+c.at.same, words+c.at.words
			return err
		})
	})
	seeds.Count(t, "policy changes while hidden", hidden)
	seeds.Count(t, "without another word for it", kept)
	seeds.Count(t, "views of those who never hid", same)
	seeds.Count(t, "words told", words)
	if !seeds.Single() {
		require.Greater(t, min(hidden, kept, same), 100)
	}
}

// Fault 8: once a policy no longer hides, only an act ends hiding: a change of the
// claim that decides, or a return.
func TestOnlyAnActEndsHiding(t *testing.T) {
	t.Parallel()
	from := []presence.Audience{presence.AudienceTeam}
	hides := presence.DefaultPolicy()
	hides.Statuses = append(hides.Statuses, presence.Status{ID: "invisible", Class: presence.ClassAvailable, HiddenFrom: from})
	hides.Hideable = from
	hides.Virtual = map[string]presence.VirtualRule{"push": {Show: presence.ShowTop}}
	shows := hides.Clone()
	require.NoError(t, shows.RemoveStatus("invisible", "available"))
	shows.Hideable = nil
	resets := shows.Clone()
	resets.Login = presence.LoginRule{Mode: presence.LoginReset, Status: "available"}
	agent, host := presence.Agent(ann), presence.System(presence.ID("host"))
	tab := func(kind presence.EventKind) presence.Event {
		return presence.Event{Kind: kind, Conn: "tab", Age: presence.NoAge}
	}
	claim := func(by presence.Actor, c presence.Claim) presence.Event {
		return presence.Event{Kind: presence.EventSetClaim, Actor: by, Claim: c}
	}
	push := presence.Event{Kind: presence.EventEndpoint, Endpoint: presence.Endpoint{ID: "p", Kind: presence.EndpointPush}}
	phone := presence.Event{Kind: presence.EventLogin, Conn: "phone", Age: presence.NoAge}
	for name, tt := range map[string]struct {
		after  presence.Policy
		events []presence.Event
		ends   bool
	}{
		"a choice":                      {shows, []presence.Event{claim(agent, presence.Claim{Status: "busy"})}, true},
		"the choice of the default":     {shows, []presence.Event{claim(agent, presence.Claim{Status: "available"})}, true},
		"a timed choice":                {shows, []presence.Event{claim(agent, presence.Claim{Status: "busy", For: 5})}, true},
		"a release":                     {shows, []presence.Event{{Kind: presence.EventEndClaim, Actor: agent}}, true},
		"a supervisor":                  {shows, []presence.Event{claim(boss, presence.Claim{Status: "away"})}, true},
		"a login that resets":           {resets, []presence.Event{phone}, true},
		"a return":                      {shows, []presence.Event{{Kind: presence.EventLogout}, tab(presence.EventConnect)}, true},
		"a return by an endpoint":       {shows, []presence.Event{{Kind: presence.EventLogout}, push}, true},
		"input":                         {shows, []presence.Event{tab(presence.EventInput), tab(presence.EventHeartbeat), tab(presence.EventFocus), tab(presence.EventVisible)}, false},
		"another device":                {shows, []presence.Event{phone, {Kind: presence.EventDisconnect, Conn: "tab", Cause: presence.CauseClosed}}, false},
		"a reconnect":                   {shows, []presence.Event{{Kind: presence.EventDisconnect, Conn: "tab", Cause: presence.CauseClosed}, tab(presence.EventConnect)}, false},
		"an endpoint":                   {shows, []presence.Event{push}, false},
		"a call":                        {shows, []presence.Event{claim(host, presence.Claim{Status: "busy", Source: presence.SourceCall}), {Kind: presence.EventEndClaim, Actor: host, Claim: presence.Claim{Source: presence.SourceCall}}}, false},
		"a meeting":                     {shows, []presence.Event{claim(host, presence.Claim{Status: "busy", Source: presence.SourceCalendar})}, false},
		"a release of something else":   {shows, []presence.Event{{Kind: presence.EventEndClaim, Actor: agent, Claim: presence.Claim{Key: presence.KeyTimed}}}, false},
		"a logout, seen by nobody":      {shows, []presence.Event{{Kind: presence.EventLogout}}, false},
		"a supervisor who ends nothing": {shows, []presence.Event{{Kind: presence.EventEndClaim, Actor: boss}}, false},
	} {
		t.Run(name, func(t *testing.T) {
			for way, c := range map[string]presence.Claim{"by a status": {Status: "invisible"}, "by a claim": {Status: "busy", HidesFrom: from}} {
				x := newSubject(t, hides)
				x.login(0, "tab")
				x.claim(10, c)
				was := x.m.View(&x.s.Current, presence.AudienceTeam)
				require.Equal(t, "offline", was.Status)
				x.m = mustCompile(tt.after)
				x.do(20, presence.Event{Kind: presence.EventPolicy})
				require.Equal(t, was, x.m.View(&x.s.Current, presence.AudienceTeam), way)
				require.Equal(t, from, x.s.Current.HiddenFrom)
				for i, e := range tt.events {
					x.do(float64(30+i), e)
				}
				got := x.m.View(&x.s.Current, presence.AudienceTeam)
				if !tt.ends {
					require.Equal(t, was, got, way)
					continue
				}
				require.Equal(t, x.s.Current.Status, got.Status, way)
				require.Equal(t, x.s.Now, got.Since, "nothing of before is told")
				require.Empty(t, x.s.Current.HiddenFrom)
			}
		})
	}
}

// Fault 8: a restart with another policy exposes no subject either.
func TestRestartsExposeNobody(t *testing.T) {
	t.Parallel()
	hides := presence.DefaultPolicy()
	hides.Statuses = append(hides.Statuses, presence.Status{ID: "invisible", Class: presence.ClassAvailable, HiddenFrom: []presence.Audience{presence.AudienceTeam}})
	shows := hides.Clone()
	require.NoError(t, shows.RemoveStatus("invisible", ""))
	x := newSubject(t, hides)
	x.login(0, "tab")
	x.claim(10, presence.Claim{Status: "invisible"})
	was := x.m.View(&x.s.Current, presence.AudienceTeam)
	record, err := x.m.Record(&x.s, 1)
	require.NoError(t, err)
	x.s, err = record.State(0, 0)
	require.NoError(t, err)
	x.m = mustCompile(shows)
	x.do(20, presence.Event{Kind: presence.EventRestart})
	require.Equal(t, was, x.m.View(&x.s.Current, presence.AudienceTeam))
	x.do(21, presence.Event{Kind: presence.EventConnect, Conn: "tab", Age: presence.NoAge})
	require.Equal(t, was, x.m.View(&x.s.Current, presence.AudienceTeam), "back within the start-up grace")
	require.Equal(t, presence.ClassAway, x.s.Current.Class, "what the status stands for now")
}

// Fault 8: a policy that ranks the hiding claim below another exposes no subject.
// From then on a change of the claim that it ranks first ends the hiding.
func TestOtherRanksExposeNobody(t *testing.T) {
	t.Parallel()
	hides := presence.DefaultPolicy()
	hides.Statuses = append(hides.Statuses, presence.Status{ID: "invisible", Class: presence.ClassAvailable, HiddenFrom: []presence.Audience{presence.AudienceTeam}})
	hides.ClaimScope, hides.Fold = presence.ScopeConnection, []string{"invisible"}
	shows := hides.Clone()
	shows.Fold = []string{"busy", "available"}
	require.NoError(t, shows.Set("statuses.invisible.hiddenFrom", "none"))
	for name, other := range map[string]presence.Claim{"a claim": {Status: "busy"}, "the default": {Status: "available"}} {
		x := newSubject(t, hides)
		x.login(0, "tab")
		x.login(0, "phone")
		over := func(at float64, conn string, c presence.Claim) {
			x.do(at, presence.Event{Kind: presence.EventSetClaim, Actor: presence.Agent(ann), Conn: conn, Claim: c})
		}
		over(10, "phone", other)
		over(10, "tab", presence.Claim{Status: "invisible"})
		was := x.m.View(&x.s.Current, presence.AudienceTeam)
		require.Equal(t, "offline", was.Status)
		x.m = mustCompile(shows)
		x.do(20, presence.Event{Kind: presence.EventPolicy})
		require.Equal(t, other.Status, x.s.Current.Status)
		x.do(21, presence.Event{Kind: presence.EventInput, Conn: "phone"})
		require.Equal(t, was, x.m.View(&x.s.Current, presence.AudienceTeam), name)
		over(30, "phone", presence.Claim{Status: "available"})
		require.Equal(t, x.s.Current.Status, x.m.View(&x.s.Current, presence.AudienceTeam).Status, name)
	}
}

// Fault 10: a policy must leave each audience a status of subjects that left.
func TestPolicyWithoutAWordForLeaving(t *testing.T) {
	t.Parallel()
	p := presence.DefaultPolicy()
	require.NoError(t, p.Set("statuses.offline.hiddenFrom", "team,visitor"))
	_, err := presence.Compile(p)
	require.ErrorIs(t, err, presence.ErrInvalid)
	for _, a := range []string{"team", "visitor"} {
		require.ErrorContains(t, err, `"disconnected": "offline" is hidden from the audience "`+a+`"`)
	}
	p.Statuses = append(p.Statuses, presence.Status{ID: "elsewhere", Class: presence.ClassOffline})
	x := newSubject(t, p)
	x.login(0, "tab")
	x.do(10, presence.Event{Kind: presence.EventLogout})
	require.Equal(t, "offline", x.m.View(&x.s.Current, presence.AudienceAdmin).Status)
	require.Equal(t, "elsewhere", x.m.View(&x.s.Current, presence.AudienceTeam).Status)

	p.Disconnected = "away"
	p.Statuses = slices.DeleteFunc(p.Statuses, func(s presence.Status) bool { return s.ID == "elsewhere" })
	_, err = presence.Compile(p)
	require.NoError(t, err, "away is such a word")
}

// Fault 10: a waiting or requested status is not named to an audience that it is
// hidden from, and an admin from whom a subject can hide gets no inputs explained.
func TestPlansToHideAreNotTold(t *testing.T) {
	t.Parallel()
	p := presence.DefaultPolicy()
	p.Statuses = append(p.Statuses,
		presence.Status{ID: "ghost", Class: presence.ClassAway, DrainsFirst: true, HiddenFrom: []presence.Audience{presence.AudienceSupervisor}},
		presence.Status{ID: "cloak", Class: presence.ClassAway, NeedsApproval: true, HiddenFrom: []presence.Audience{presence.AudienceSupervisor, presence.AudienceAdmin}})
	plans, asks := newSubject(t, p), newSubject(t, p)
	for _, x := range []*subject{plans, asks} {
		x.login(0, "tab")
		x.do(1, presence.Event{Kind: presence.EventLoad, Load: presence.Load{N: 1}})
	}
	plans.claim(2, presence.Claim{Status: "ghost"})
	asks.do(2, presence.Event{Kind: presence.EventRequest, Actor: presence.Agent(ann), Claim: presence.Claim{Status: "cloak"}})
	for a, want := range map[presence.Audience][2]string{
		presence.AudienceSelf: {"ghost", "cloak"}, presence.AudienceSupervisor: {}, presence.AudienceAdmin: {"ghost", ""},
	} {
		require.Equal(t, want, [2]string{plans.m.View(&plans.s.Current, a).Pending, asks.m.View(&asks.s.Current, a).Request}, a)
	}
	require.Contains(t, strings.Join(asks.m.Explain(&asks.s, presence.AudienceSelf), "\n"), "cloak")
	require.NotContains(t, strings.Join(asks.m.Explain(&asks.s, presence.AudienceAdmin), "\n"), "cloak")
}

// Faults 8 and 9 through a tracker: frames, lists, counts and resumed watches reveal
// nothing of a hidden subject when its status is removed.
func TestRemovedStatusTellsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := preset.Discord()
		d := newRunning(t, &presence.Options{Policy: &p})
		cyd := presence.ID("cyd")
		for _, ref := range []presence.Ref{ann, bob, cyd} {
			require.NoError(t, d.AddMember(t.Context(), sales, ref))
			beat(t, d.login(ref, "tab"))
		}
		time.Sleep(time.Minute)
		require.NoError(t, d.claim(ann, presence.Claim{Status: "invisible"}))
		require.NoError(t, d.Logout(t.Context(), bob))
		team := d.watch(presence.Agent(cyd), sales)
		others := d.watch(visitor, sales)
		at, _ := read(t, team)
		read(t, others)
		list := func() (v []presence.View, g presence.Group) {
			v, g, err := d.ListAs(t.Context(), presence.AudienceTeam, sales, nil)
			require.NoError(t, err)
			return v, g
		}
		views, group := list()
		require.NoError(t, d.RemoveStatus(t.Context(), presence.System(presence.ID("host")), "invisible", "online"))
		require.Empty(t, seen(t, team))
		require.Empty(t, seen(t, others))
		again, gone := list()
		require.Equal(t, views, again)
		require.Equal(t, group, gone)
		for _, ref := range []presence.Ref{ann, bob} {
			v, err := d.GetAs(t.Context(), presence.AudienceTeam, ref)
			require.NoError(t, err)
			require.Equal(t, "offline", v.Status)
		}
		may, err := d.MayReveal(t.Context(), presence.AudienceTeam, ann)
		require.NoError(t, err)
		require.False(t, may)
		resumed, err := d.Watch(t.Context(), presence.Agent(cyd), sales, presence.WatchOptions{Epoch: at.epoch, Seq: at.seq})
		require.NoError(t, err)
		_, frames := read(t, resumed)
		for _, f := range frames {
			for _, v := range f.Members {
				require.Equal(t, v.Subject == cyd, v.Present(), v)
			}
		}
		require.Equal(t, "online", d.status(ann), "those see it from whom nobody hides")
		require.NoError(t, d.claim(ann, presence.Claim{Status: "online"}))
		require.Equal(t, []string{"joined ann online"}, seen(t, team))
	})
}
