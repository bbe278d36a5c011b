package presence_test

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/presence-go/presence"
	"github.com/presence-go/presence/internal/naive"
	"github.com/presence-go/presence/preset"
)

// history is a script: policies and what happens, to one subject or more. It is
// made before anything runs, so that an event can be left out and the rest still
// means the same.
type history struct {
	seed     uint64
	subjects []presence.Ref
	events   []happened
	ruling
}

// happened is one event of a history.
type happened struct {
	at     presence.Instant
	event  presence.Event
	policy int  // of EventPolicy: the policy in force from then on
	rank   int  // what a property marks an event with
	keep   bool // it is not left out when a history is made smaller
}

func (h *happened) text() string { return naive.Text(&h.event, h.policy, nineSharp) }

// ruling is the policies of a history, by index. The first is in force from the
// beginning.
type ruling struct {
	machines []*presence.Machine
	policies []presence.Policy // what they were compiled from, nothing left out
}

func newRuling(policies ...presence.Policy) (list ruling) {
	for _, p := range policies {
		m := mustCompile(p)
		list.machines, list.policies = append(list.machines, m), append(list.policies, m.Policy())
	}
	return list
}

var (
	peter     = presence.ID("peter")
	quinn     = presence.ID("quinn")
	rosa      = presence.ID("rosa")
	nineSharp = presence.At(time.Date(2026, 1, 5, 9, 0, 0, 0, time.UTC))
)

// of restricts a history to what concerns one subject.
func (h *history) of(subject presence.Ref) *history {
	only := *h
	only.subjects = []presence.Ref{subject}
	only.events = nil
	for _, e := range h.events {
		switch e.event.Subject {
		case presence.Ref{}: // everybody's
			e.event.Subject = subject
		case subject:
		default:
			continue
		}
		only.events = append(only.events, e)
	}
	return &only
}

// with returns the same history with other events.
func (h *history) with(events []happened) *history {
	other := *h
	other.events = events
	return &other
}

// shrink leaves out events for as long as what is left still fails.
func (h *history) shrink(fails func(*history) bool) *history {
	for again := true; again; {
		again = false
		for i := len(h.events) - 1; i >= 0; i-- {
			if h.events[i].keep {
				continue
			}
			less := h.with(slices.Delete(slices.Clone(h.events), i, i+1))
			if fails(less) {
				h, again = less, true
			}
		}
	}
	return h
}

// String writes a history so that a person can follow it.
func (h *history) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "seed %d", h.seed)
	for i, p := range h.policies {
		if i == 0 || slices.ContainsFunc(h.events, func(e happened) bool { return e.event.Kind == presence.EventPolicy && e.policy == i }) {
			fmt.Fprintf(&b, "\npolicy %d: %s", i, p.Name)
		}
	}
	for _, e := range h.events {
		fmt.Fprintf(&b, "\n  +%-12v %s", e.at.Sub(nineSharp), e.text())
	}
	return b.String()
}

// variations are what distinguishes products beyond the presets.
var variations = []struct {
	name  string
	apply func(*presence.Policy)
}{
	{"no-grace", func(p *presence.Policy) { p.Grace = presence.Grace{} }},
	{"logout-grace", func(p *presence.Policy) { p.Grace.Logout = 3 * time.Second }},
	{"loss-from-lease", func(p *presence.Policy) { p.Grace.LossFrom = "lease" }},
	{"long-startup", func(p *presence.Policy) { p.StartupGrace = 3 * time.Minute }},
	{"long-lease", func(p *presence.Policy) { p.Lease = 2 * time.Minute }},
	{"idle-stages", func(p *presence.Policy) {
		away := cmp.Or(firstOf(p, presence.ClassAway), firstOf(p, presence.ClassBusy))
		p.Idle = []presence.IdleStage{
			{After: 4 * time.Minute, To: away, On: below(p, away)},
			{After: 10 * time.Minute, To: leastAvailable(p), On: below(p, leastAvailable(p))},
		}
	}},
	{"idle-soon", func(p *presence.Policy) {
		p.Idle = []presence.IdleStage{{After: time.Minute, To: leastAvailable(p), On: below(p, leastAvailable(p))}}
	}},
	{"idle-available", func(p *presence.Policy) {
		p.Statuses = slices.Insert(p.Statuses, 1, presence.Status{ID: "quiet", Class: presence.ClassAvailable})
		p.Idle = []presence.IdleStage{{After: 2 * time.Minute, To: "quiet", On: []string{p.Statuses[0].ID}}}
	}},
	{"never-idle", func(p *presence.Policy) { p.Idle = nil }},
	{"manual-proof", func(p *presence.Policy) {
		p.DisconnectProof = []presence.Source{presence.SourceManual, presence.SourceSupervisor}
	}},
	{"source-for", func(p *presence.Policy) {
		p.SourceFor = map[presence.Source]time.Duration{presence.SourceCall: 2 * time.Minute, presence.SourceApp: 30 * time.Second, presence.SourceManual: 10 * time.Minute}
	}},
	{"calendar-proof", func(p *presence.Policy) { p.DisconnectProof = []presence.Source{presence.SourceCalendar} }},
	{"explicit", func(p *presence.Policy) { p.KeepExplicit = true }},
	{"explicit-holds", func(p *presence.Policy) {
		p.KeepExplicit = true
		for i := range p.Idle {
			p.Idle[i].Of = presence.OfUnchosen
		}
	}},
	{"keeps", func(p *presence.Policy) {
		p.KeepExplicit, p.ClaimScope = true, presence.ScopeConnection
		for i := range p.Statuses {
			p.Statuses[i].Keeps = time.Duration(i%3) * 2 * time.Minute
		}
	}},
	{"manual-first", func(p *presence.Policy) {
		p.Sources = [][]presence.Source{
			{presence.SourceSystem}, {presence.SourceManual}, {presence.SourceSupervisor}, {presence.SourceCall},
			{presence.SourceCalendar, "ooo"}, {presence.SourceApp}, {presence.SourceLoginDefault},
		}
	}},
	{"login-resets", func(p *presence.Policy) { p.Login = presence.LoginRule{Mode: "reset", Status: p.Statuses[1].ID} }},
	{"account-logout", func(p *presence.Policy) { p.LogoutScope = "account" }},
	{"supervisor-refused", func(p *presence.Policy) { p.SupervisorWhenOffline = "refuse" }},
	{"all-activity", func(p *presence.Policy) { p.Activity = []string{"input", "login", "claim", "focus", "show"} }},
	{"input-only", func(p *presence.Policy) { p.Activity = []string{"input"} }},
	{"push-shows-top", func(p *presence.Policy) {
		p.Virtual = map[string]presence.VirtualRule{"push": {Show: "top", Routable: true}, "bot": {Show: "ignore"}}
	}},
	{"bot-shows-status", func(p *presence.Policy) {
		p.Virtual = map[string]presence.VirtualRule{"push": {Show: p.Statuses[1].ID}, "bot": {Show: p.Statuses[0].ID, Routable: true}}
	}},
	{"dnd", func(p *presence.Policy) {
		p.Statuses = append(p.Statuses, presence.Status{ID: "dnd", Class: presence.ClassDND, For: 5 * time.Minute})
	}},
	{"invisible", func(p *presence.Policy) {
		if firstOf(p, presence.ClassOffline) != "" && !slices.ContainsFunc(p.Statuses, func(s presence.Status) bool { return s.ID == "invisible" }) {
			p.Statuses = append(p.Statuses, presence.Status{
				ID: "invisible", Class: presence.ClassAvailable, Routing: presence.RouteNone,
				HiddenFrom: []presence.Audience{presence.AudienceTeam, presence.AudienceVisitor},
			})
		}
	}},
	{"shows-devices", func(p *presence.Policy) {
		p.Views = map[presence.Audience][]string{presence.AudienceTeam: {"since", "devices", "routableOn"}, presence.AudienceRouter: {"routableOn", "pinned"}}
	}},
	{"capacity", func(p *presence.Policy) { p.Work.Capacity = 2 }},
	{"total", func(p *presence.Policy) { p.Work.Total = 3 }},
	{"wraps-up", func(p *presence.Policy) { p.Work.WrapUp = 20 * time.Second }},
	{"settles", func(p *presence.Policy) { p.Work.Settle = 30 * time.Second }},
	{"returns", func(p *presence.Policy) { p.Work.Capacity, p.Work.Returns = 1, presence.ReturnsCapacity }},
	{"drains", func(p *presence.Policy) { p.Work.SelfReady = true; drains(p, 1) }},
	{"supervisor-requeues", func(p *presence.Policy) { p.Work.SupervisorDrain = "requeue"; drains(p, 0) }},
	{"asked", func(p *presence.Policy) {
		p.Work.RequestFor, p.Work.WithdrawOn = 2*time.Minute+13, "closed"
		p.Statuses[len(p.Statuses)-1].NeedsApproval = true
	}},
	{"requeue", func(p *presence.Policy) { p.Work.RequeueAfter, p.Work.WithdrawOn = 3*time.Minute+11, "never" }},
	{"sticky", func(p *presence.Policy) {
		p.Statuses[len(p.Statuses)-1].Routing = presence.RouteSticky
		p.Statuses[0].RoutingOn = map[string]presence.Routing{"calls": presence.RouteTransfer}
	}},
	{"hideable", func(p *presence.Policy) {
		p.Hideable = []presence.Audience{presence.AudienceTeam, presence.AudienceVisitor}
	}},
}

// drains makes all statuses drain first but the first ones, in which one works.
func drains(p *presence.Policy, except int) {
	for i := range p.Statuses {
		s := &p.Statuses[i]
		s.DrainsFirst = i > except && s.Class != presence.ClassAvailable
	}
}

func firstOf(p *presence.Policy, class presence.Class) string {
	for _, s := range p.Statuses {
		if s.Class == class {
			return s.ID
		}
	}
	return ""
}

// leastAvailable is the least available status.
func leastAvailable(p *presence.Policy) string {
	for _, class := range []presence.Class{presence.ClassOffline, presence.ClassDND, presence.ClassAway} {
		if id := firstOf(p, class); id != "" {
			return id
		}
	}
	return ""
}

// below lists what idleness may mask with a status: what is more available.
func below(p *presence.Policy, to string) (ids []string) {
	order := []presence.Class{presence.ClassAvailable, presence.ClassBusy, presence.ClassAway, presence.ClassDND, presence.ClassOffline}
	for _, s := range p.Statuses {
		if slices.Index(order, s.Class) < slices.Index(order, naive.StatusOf(p, to).Class) {
			ids = append(ids, s.ID)
		}
	}
	return ids
}

// randomPolicy is a preset, often with variations.
func randomPolicy(r *rand.Rand) presence.Policy {
	names := preset.Names()
	p, _ := preset.Lookup(names[r.IntN(len(names))])
	p.Devices = map[string]presence.DeviceRule{
		"kiosk":  {IgnoreInput: true},
		"mobile": {OwnGrace: true, Grace: presence.Grace{Close: 30 * time.Second, Loss: 45 * time.Second, Node: 15 * time.Second}},
	}
	if r.IntN(3) == 0 {
		p.Lease = time.Hour // much happens on few connections
	}
	for range max(0, r.IntN(5)-1) {
		v := variations[r.IntN(len(variations))]
		varied := p.Clone()
		v.apply(&varied)
		varied.Name += "+" + v.name
		if _, err := presence.Compile(varied); err == nil { // some do not go together
			p = varied
		}
	}
	return p
}

func mustCompile(p presence.Policy) *presence.Machine {
	m, err := presence.Compile(p)
	if err != nil {
		panic(err)
	}
	return m
}

// randomRuling is three random policies. The second often differs from the first in
// a detail only, as when a setting is changed.
func randomRuling(seed uint64) ruling {
	r := rand.New(rand.NewPCG(seed, 21))
	policies := []presence.Policy{randomPolicy(r), randomPolicy(r), randomPolicy(r)}
	varied := policies[0].Clone()
	v := variations[r.IntN(len(variations))]
	v.apply(&varied)
	varied.Name += "+" + v.name
	if _, err := presence.Compile(varied); err == nil {
		policies[1] = varied
	}
	return newRuling(policies...)
}

// generator makes random histories. It runs the machine beside, only to aim at
// the instants at which something is due.
type generator struct {
	*rand.Rand
	h      history
	states map[presence.Ref]*presence.State
	m      *presence.Machine
	now    presence.Instant
	serial int
	// A device does not turn into another under the same connection.
	devices map[string]string
	forward bool // time does not go back
	work    bool // things happen to the work, too
	lives   bool // the process stops and starts again, too
}

// randomHistory makes a history of 5 to 40 events, under the policies given or,
// if none is, under random ones.
func randomHistory(seed uint64, subjects []presence.Ref, policies ...presence.Policy) *history {
	if len(policies) == 0 {
		g := newGenerator(seed, randomRuling(seed), subjects...)
		g.work = true
		return g.history()
	}
	return ruledHistory(seed, newRuling(policies...), subjects...)
}

// livelyHistory is randomHistory of one subject whose process stops and starts again
// at times.
func livelyHistory(seed uint64, policies ruling) *history {
	g := newGenerator(seed, policies, peter)
	g.work, g.lives = true, true
	return g.history()
}

func ruledHistory(seed uint64, policies ruling, subjects ...presence.Ref) *history {
	return newGenerator(seed, policies, subjects...).history()
}

// history makes the events.
func (g *generator) history() *history {
	for range 5 + g.IntN(36) {
		g.add(g.event())
		g.pass()
	}
	g.now = g.now.Add(time.Duration(g.IntN(20)) * time.Minute)
	g.add(happened{}) // see the end of it all
	return &g.h
}

func newGenerator(seed uint64, policies ruling, subjects ...presence.Ref) *generator {
	g := &generator{
		Rand: rand.New(rand.NewPCG(seed, 1)), states: make(map[presence.Ref]*presence.State), now: nineSharp,
		h: history{seed: seed, subjects: subjects, ruling: policies}, m: policies.machines[0],
	}
	g.devices = map[string]string{"a": "web", "b": pickOne(g, "web", "mobile"), "c": pickOne(g, "web", "mobile", "kiosk")}
	for _, subject := range subjects {
		g.states[subject] = new(presence.State)
		if g.IntN(4) > 0 {
			g.add(happened{event: presence.Event{Kind: presence.EventLogin, Subject: subject, Conn: "a", Age: presence.NoAge, Device: "web", Node: "n1", Incarnation: 1}})
		} else {
			g.add(happened{event: presence.Event{Kind: presence.EventGrant, Subject: subject}})
		}
	}
	return g
}

// add appends an event at the present instant.
func (g *generator) add(h happened) {
	h.at = g.now
	g.h.events = append(g.h.events, h)
	if h.event.Kind == presence.EventPolicy {
		g.m = g.h.machines[h.policy]
	}
	for subject, s := range g.states {
		if h.event.Subject == (presence.Ref{}) || h.event.Subject == subject {
			feedMachine(g.m, s, h, subject, nil)
		}
	}
}

// feedMachine feeds one event of a history to a machine.
func feedMachine(m *presence.Machine, s *presence.State, h happened, subject presence.Ref, out []presence.Output) ([]presence.Output, error) {
	out, _, err := stepMachine(m, s, h, subject, out)
	return out, err
}

// stepMachine is feedMachine that returns the next deadline as well. Before a restart,
// the state becomes that of its record.
func stepMachine(m *presence.Machine, s *presence.State, h happened, subject presence.Ref, out []presence.Output) ([]presence.Output, presence.Instant, error) {
	h.event.Subject = subject
	if (h.event.Kind == presence.EventPolicy || h.event.Kind == presence.EventRestart) && !s.Current.Known {
		next, _ := m.Next(s)
		return out, next, nil
	}
	if h.event.Kind == presence.EventRestart {
		out, _, _ = m.Step(s, &presence.Event{}, h.at, out)
		h.at = s.Now // no clock was set back meanwhile
		*s = restored(m, s)
	}
	return m.Step(s, &h.event, h.at, out)
}

// restored returns the state that a new process reads of the record of a state.
func restored(m *presence.Machine, s *presence.State) presence.State {
	record, err := m.Record(s, 1)
	if err != nil {
		panic(err)
	}
	again, err := record.State(s.Now, s.Behind)
	if err != nil {
		panic(err)
	}
	return again
}

// pass lets time go by: not at all, a little, or to the next deadline exactly.
func (g *generator) pass() {
	due := presence.Instant(0)
	for _, subject := range g.h.subjects {
		if at, ok := g.m.Next(g.states[subject]); ok && (due == 0 || at < due) {
			due = at
		}
	}
	switch n := g.IntN(20); {
	case n < 5: // the same instant
	case n < 9 && due > g.now:
		g.now = due
	case n < 10 && due > g.now:
		g.now = due - 1
	case n < 11 && due > g.now:
		g.now = due + 1
	case n < 18:
		g.now = g.now.Add(pickOne(g, time.Second, 2*time.Second, 5*time.Second, 10*time.Second, 15*time.Second, 30*time.Second))
	case n < 19:
		g.now = g.now.Add(pickOne(g, time.Minute, 2*time.Minute, 4*time.Minute, 5*time.Minute, 10*time.Minute))
	default:
		if g.IntN(4) == 0 && !g.forward {
			g.now = g.now.Add(-time.Second) // a clock set back
		}
	}
}

// policy is the one in force.
func (g *generator) policy() *presence.Policy { return &g.h.policies[slices.Index(g.h.machines, g.m)] }

func pickOne[T any](g *generator, from ...T) T { return from[g.IntN(len(from))] }

// conn names a connection, most often one that is there.
func (g *generator) conn(s *presence.State) string {
	if len(s.Conns) > 0 && g.IntN(3) > 0 {
		return s.Conns[g.IntN(len(s.Conns))].ID
	}
	return pickOne(g, "a", "a", "b", "c")
}

func (g *generator) epoch(s *presence.State) uint32 {
	switch g.IntN(6) {
	case 0:
		return s.Epoch
	case 1:
		return uint32(g.IntN(int(s.Epoch) + 3))
	}
	return 0
}

func (g *generator) age() time.Duration {
	return pickOne(g, presence.NoAge, presence.NoAge, 0, 30*time.Second, time.Minute, 4*time.Minute, 5*time.Minute, 10*time.Minute, 20*time.Minute)
}

func (g *generator) status() string {
	if g.IntN(30) == 0 {
		return "nonsense"
	}
	return g.policy().Statuses[g.IntN(len(g.policy().Statuses))].ID
}

// event makes up an event of any kind.
func (g *generator) event() happened {
	subject := g.h.subjects[g.IntN(len(g.h.subjects))]
	s := g.states[subject]
	e := presence.Event{Subject: subject}
	h := happened{}
	if g.lives && g.IntN(20) == 0 {
		return happened{event: presence.Event{Kind: presence.EventRestart}} // of everybody
	}
	if g.work && g.IntN(4) == 0 {
		g.workEvent(&e, s)
		return happened{event: e}
	}
	switch n := g.IntN(100); {
	case n < 14:
		e.Kind = presence.EventConnect
		g.connect(&e, s)
	case n < 20:
		e.Kind = presence.EventLogin
		g.connect(&e, s)
	case n < 28:
		e.Kind, e.Conn, e.Age = presence.EventHeartbeat, g.conn(s), g.age()
		e.Seq = uint64(g.IntN(4))
		if g.IntN(6) == 0 {
			e.Epoch = g.epoch(s)
		}
	case n < 36:
		e.Kind, e.Conn = presence.EventInput, g.conn(s)
		if g.IntN(6) == 0 {
			e.Epoch = g.epoch(s)
		}
	case n < 38:
		e.Kind, e.Conn, e.Channel = presence.EventFocus, g.conn(s), pickOne(g, "", "desk")
	case n < 40:
		e.Kind, e.Conn, e.Hidden = presence.EventVisible, g.conn(s), g.IntN(2) == 0
	case n < 51:
		e.Kind, e.Conn = presence.EventDisconnect, g.conn(s)
		e.Epoch = g.epoch(s)
		e.Cause = pickOne(g, presence.CauseClosed, presence.CauseClosed, presence.CauseLost, presence.CauseLost, presence.CauseNode, presence.CauseDrain)
	case n < 56:
		e.Kind = presence.EventLogout
		if g.IntN(2) == 0 {
			e.Conn = g.conn(s)
		}
	case n < 60:
		e.Kind, e.Remove = presence.EventEndpoint, g.IntN(3) == 0
		e.Endpoint = presence.Endpoint{ID: pickOne(g, "p", "q"), Kind: pickOne(g, presence.EndpointPush, presence.EndpointBot)}
		if !e.Remove && g.IntN(2) == 0 {
			e.Endpoint.Until = g.now.Add(pickOne(g, 0, time.Second, 10*time.Second, 4*time.Minute) - s.Behind)
		}
		if g.IntN(5) == 0 {
			e.SubjectKind = presence.KindBot
		}
	case n < 80:
		e.Kind = presence.EventSetClaim
		g.claim(&e, s)
		g.over(&e, s)
	case n < 86:
		e.Kind = presence.EventEndClaim
		g.actor(&e)
		if g.IntN(3) == 0 {
			e.Claim.Key = pickOne(g, presence.KeyBase, presence.KeyBase, presence.KeyTimed, "kick", presence.KeyLock)
		}
		if g.IntN(4) == 0 {
			e.Claim.Conn = g.conn(s)
		}
		g.over(&e, s)
		if g.IntN(8) == 0 {
			e.Claim.ID = fmt.Sprint("given", g.IntN(g.serial+1))
		}
	case n < 88:
		e.Kind, e.Subject, e.Node = presence.EventNodeDown, presence.Ref{}, pickOne(g, "n1", "n2")
		e.Incarnation = uint64(g.IntN(3))
		e.Cause = pickOne(g, "", presence.CauseNode, presence.CauseDrain)
	case n < 90:
		e.Kind, e.Subject, e.Node = presence.EventNodeUp, presence.Ref{}, pickOne(g, "n1", "n2")
		e.Incarnation = uint64(1 + g.IntN(2))
	case n < 93:
		e.Kind, e.Subject = presence.EventPolicy, presence.Ref{}
		h.policy = g.IntN(len(g.h.machines))
	case n < 94:
		e.Kind = presence.EventDisable
	case n < 95:
		e.Kind = presence.EventEnable
	case n < 96:
		e.Kind = presence.EventGrant
	case n < 98:
		// The driver reports it once it runs again, before anything else.
		e.Kind, e.Subject, e.From = presence.EventSuspended, presence.Ref{}, g.now
		g.now = g.now.Add(pickOne(g, 10*time.Second, time.Minute, 4*time.Minute))
		e.To = g.now
	case n < 99 || g.IntN(2) == 0:
		e.Kind, e.Subject, e.From = presence.EventClock, presence.Ref{}, g.now
		e.To = g.now.Add(pickOne(g, -time.Hour, -5*time.Minute, -time.Second, time.Second, time.Minute))
	default: // a tick
		e.Subject = presence.Ref{}
	}
	h.event = e
	return h
}

func (g *generator) connect(e *presence.Event, s *presence.State) {
	e.Conn = pickOne(g, "a", "a", "b", "c")
	e.Device, e.Node, e.Incarnation = g.devices[e.Conn], pickOne(g, "n1", "n1", "n2"), uint64(1+g.IntN(2))
	e.Age = pickOne(g, presence.NoAge, presence.NoAge, g.age())
	switch g.IntN(8) {
	case 0:
		e.Epoch = s.Epoch + 1
	case 1:
		e.Epoch = g.epoch(s)
	}
	if there := slices.ContainsFunc(s.Conns, func(c presence.ConnState) bool { return c.ID == e.Conn }); there && g.IntN(3) == 0 {
		e.Device, e.Node, e.Incarnation = "", "", 0 // as before
	}
	if g.IntN(12) == 0 {
		e.SubjectKind = pickOne(g, presence.KindHuman, presence.KindBot, presence.KindService)
	}
}

func (g *generator) actor(e *presence.Event) {
	switch n := g.IntN(20); {
	case n < 9:
		e.Actor = presence.Agent(e.Subject)
	case n < 12:
		e.Actor = presence.Actor{Subject: presence.ID("sue"), Role: presence.RoleSupervisor}
	case n < 18:
		e.Actor = presence.Actor{Subject: presence.ID("host"), Role: presence.RoleSystem}
		e.Claim.Source = pickOne(g, presence.SourceSystem, presence.SourceCall, presence.SourceCalendar, presence.SourceApp, "", "ooo", presence.SourceManual)
		if e.Claim.Source == presence.SourceSystem {
			e.Claim.Key = pickOne(g, "kick", presence.KeyLock)
		}
	case n < 19:
		e.Actor = presence.Agent(presence.ID("stranger"))
	default:
		e.Actor = presence.Actor{Subject: e.Subject, Role: pickOne(g, presence.RoleVisitor, presence.RoleSupervisor)}
	}
}

// over makes some claims over a connection.
func (g *generator) over(e *presence.Event, s *presence.State) {
	if g.IntN(5) == 0 {
		e.Conn = g.conn(s)
		if g.IntN(3) > 0 {
			e.Conn = cmp.Or(e.Claim.Conn, e.Conn)
		}
		e.Epoch = pickOne(g, 0, g.epoch(s))
	}
}

func (g *generator) claim(e *presence.Event, s *presence.State) {
	g.actor(e)
	c := &e.Claim
	c.Status = g.status()
	if def := naive.StatusOf(g.policy(), c.Status); def != nil && slices.Contains(def.SelectableBy, presence.ByNobody) {
		c.Status = g.status() // more often one that can be had
	}
	switch g.IntN(6) {
	case 0:
		c.For = pickOne(g, time.Second, 10*time.Second, time.Minute, 10*time.Minute)
	case 1:
		c.Until = g.now.Add(pickOne(g, 0, 1, 5*time.Second, 4*time.Minute, 5*time.Minute) - s.Behind)
	}
	if g.IntN(4) == 0 {
		c.Conn = g.conn(s)
	}
	if g.IntN(3) == 0 {
		g.serial++
		c.ID = fmt.Sprint("given", g.serial-g.IntN(2))
	}
	if g.IntN(40) == 0 {
		c.Key = pickOne(g, presence.KeyBase, presence.KeyTimed, "meeting")
	}
	c.DropOnDisconnect = g.IntN(6) == 0
	c.DropOnLogin = g.IntN(8) == 0
	if hideable := len(g.policy().Hideable) > 0; hideable && g.IntN(6) == 0 || g.IntN(60) == 0 {
		c.HidesFrom = []presence.Audience{pickOne(g, presence.AudienceTeam, presence.AudienceVisitor)}
	}
}

// workEvent makes up an event about work. The times of challenges are such that nothing
// else is due at the same instant.
func (g *generator) workEvent(e *presence.Event, s *presence.State) {
	e.Load.On = pickOne(g, "", "", "", "calls")
	if g.IntN(4) == 0 && s.Work != nil && s.Work.Requeued > 0 {
		e.Revision = s.Work.Requeued.Add(-time.Duration(g.IntN(2)) * time.Second) // counted as of the last requeue, or before it
	}
	switch n := g.IntN(20); {
	case n < 4:
		e.Kind, e.Load.N = presence.EventLoad, g.IntN(4)
		if g.IntN(4) == 0 {
			e.Load.Capacity = presence.NewCount(g.IntN(4))
		}
		if g.IntN(6) == 0 {
			e.Load.Pinned = presence.NewCount(g.IntN(3))
		}
	case n < 9:
		e.Kind, e.Load.N, e.Revision = presence.EventOffer, g.IntN(3), 0
		e.Routing = pickOne(g, "", presence.RouteAll, presence.RouteSticky, presence.RouteTransfer, presence.RouteNone)
	case n < 13:
		e.Kind, e.Load.N, e.Reject = presence.EventDone, g.IntN(3), g.IntN(4) == 0
	case n < 14:
		g.serial++
		e.Kind, e.ID, e.Claim.For = presence.EventChallenge, fmt.Sprint("asked", g.serial), pickOne(g, time.Second, 10*time.Second, time.Minute)+17
	case n < 15:
		e.Kind, e.ID = presence.EventAck, pickOne(g, "", "", "other")
	case n < 17:
		g.serial++
		e.Kind = presence.EventRequest
		g.claim(e, s)
		if g.IntN(3) > 0 {
			e.Actor, e.Claim.Source, e.Claim.Key = presence.Agent(e.Subject), "", ""
		}
		e.ID = fmt.Sprint("request", g.serial-g.IntN(2))
	default:
		e.Kind = pickOne(g, presence.EventWithdraw, presence.EventDecide, presence.EventDecide)
		g.actor(e)
		e.Claim = presence.Claim{}
		e.Reject = g.IntN(3) == 0
		if g.IntN(3) == 0 {
			e.ID = fmt.Sprint("request", g.IntN(g.serial+1))
		}
	}
}
