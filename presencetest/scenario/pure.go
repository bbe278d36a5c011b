package scenario

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/presence-go/presence"
	"github.com/presence-go/presence/internal/timeline"
	"github.com/presence-go/presence/routing"
)

// pure runs a file on the core without a tracker. It holds the states, rosters
// and grants, and leaves every decision to [presence.Machine.Step] and to the
// rosters.
type pure struct {
	now      presence.Instant
	behind   time.Duration // how far the wall clock was set back
	machine  *presence.Machine
	states   map[presence.Ref]*presence.State
	rows     map[presence.Ref][]presence.JournalRow
	allowed  presence.Authorizer
	grants   *grants
	channels map[presence.Channel]*pureChannel
	observe  func(presence.Ref, *presence.Output)
}

// pureChannel is a roster with its watchers.
type pureChannel struct {
	roster *presence.Roster
	feeds  []*pureFeed
}

// pureFeed is one watcher of one channel.
type pureFeed struct {
	ch       *pureChannel
	epoch    string // of its stream
	audience presence.Audience
	viewer   presence.Ref
	member   bool // watches because of its grant
	frames   []*presence.Frame
}

func newPure(start presence.Instant, m *presence.Machine, observe func(presence.Ref, *presence.Output)) *pure {
	return &pure{
		now: start, machine: m, observe: observe, allowed: presence.RoleAuthorizer(), grants: newGrants(),
		states: make(map[presence.Ref]*presence.State), rows: make(map[presence.Ref][]presence.JournalRow),
		channels: make(map[presence.Channel]*pureChannel),
	}
}

func (p *pure) set(now presence.Instant) { p.now = now }

// stepWall sends the step of the clock to every subject and to every channel,
// because opening hours follow the wall clock. Nothing else in the core depends
// on it.
func (p *pure) stepWall(ctx context.Context, now presence.Instant, by time.Duration, _ []string) error {
	p.behind -= by
	for _, ch := range p.channels {
		ch.deliver(ch.roster.SetClock(p.behind, p.now))
	}
	return p.apply(ctx, presence.Event{Kind: presence.EventClock, From: now, To: now.Add(by)})
}

func (p *pure) close() error { return nil }

// sweep steps the subjects in order, so that ties have a fixed result.
func (p *pure) sweep(context.Context) (next presence.Instant, err error) {
	consider := func(at presence.Instant) {
		if next == 0 || at < next {
			next = at
		}
	}
	for _, ref := range p.subjects() {
		s := p.states[ref]
		at, ok := p.machine.Next(s)
		if ok && at <= p.now {
			if err := p.step(ref, presence.Event{Kind: presence.EventTick}); err != nil {
				return 0, err
			}
			at, ok = p.machine.Next(s)
		}
		if ok {
			consider(at)
		}
	}
	for _, ch := range p.channels {
		ch.deliver(ch.roster.Flush(p.now))
		if at, ok := ch.roster.Next(); ok {
			consider(at)
		}
	}
	return next, nil
}

func (p *pure) subjects() []presence.Ref {
	return slices.SortedFunc(maps.Keys(p.states), func(a, b presence.Ref) int { return cmp.Compare(a.ID, b.ID) })
}

// step applies an event to one subject and carries out its outputs.
func (p *pure) step(ref presence.Ref, e presence.Event) error {
	s := p.states[ref]
	if s == nil {
		s = new(presence.State)
		p.states[ref] = s
	}
	out, _, err := p.machine.Step(s, &e, p.now, nil)
	for i := range out {
		o := &out[i]
		p.observe(ref, o)
		if o.Kind == presence.OutputTransition || o.Kind == presence.OutputUpdated {
			for _, ch := range p.channels {
				if ch.roster.Has(ref) {
					ch.deliver(ch.roster.Put(&o.Presence, o.Noticed))
				}
			}
		}
		if c, ok := o.Notice(ref); ok {
			for _, ch := range p.channels {
				if ch.roster.Has(ref) {
					ch.deliver(ch.roster.Tell(c))
				}
			}
		}
		if row, ok := o.Row(); ok {
			row.Subject = ref
			p.rows[ref] = append(p.rows[ref], row)
		}
	}
	return err
}

func (p *pure) apply(ctx context.Context, e presence.Event) error {
	switch e.Kind {
	case presence.EventNodeDown, presence.EventNodeUp, presence.EventSuspended, presence.EventClock:
		for _, ref := range p.subjects() {
			if err := p.step(ref, e); err != nil {
				return err
			}
		}
		return nil
	case presence.EventSetClaim, presence.EventEndClaim:
		action := presence.ActionClaimOther
		if e.Actor.Subject == e.Subject {
			action = presence.ActionClaim
		}
		if err := p.allowed.Allow(ctx, presence.Question{Actor: e.Actor, Action: action, Subject: e.Subject, Status: e.Claim.Status}); err != nil {
			return err
		}
	case presence.EventRequest, presence.EventWithdraw:
		if err := p.allowed.Allow(ctx, presence.Question{Actor: e.Actor, Action: presence.ActionClaim, Subject: e.Subject, Status: e.Claim.Status}); err != nil {
			return err
		}
	case presence.EventDecide:
		if err := p.allowed.Allow(ctx, presence.Question{Actor: e.Actor, Action: presence.ActionDecide, Subject: e.Subject, Request: e.ID}); err != nil {
			return err
		}
	case presence.EventConnect, presence.EventLogin:
		e.Node = cmp.Or(e.Node, "local")
	}
	return p.step(e.Subject, e)
}

func (p *pure) policy(ctx context.Context, actor presence.Actor, policy presence.Policy) error {
	m, err := presence.Compile(policy)
	if err != nil {
		return err
	}
	if err := p.allowed.Allow(ctx, presence.Question{Actor: actor, Action: presence.ActionPolicy, Policy: policy.Name}); err != nil {
		return err
	}
	return p.install(m)
}

func (p *pure) define(ctx context.Context, actor presence.Actor, s presence.Status) error {
	policy := p.machine.Policy()
	policy.AddStatus(s)
	return p.redefine(ctx, actor, s.ID, policy)
}

func (p *pure) undefine(ctx context.Context, actor presence.Actor, id, fallback string) error {
	policy := p.machine.Policy()
	if err := policy.RemoveStatus(id, fallback); err != nil {
		return err
	}
	return p.redefine(ctx, actor, id, policy)
}

func (p *pure) redefine(ctx context.Context, actor presence.Actor, id string, policy presence.Policy) error {
	m, err := presence.Compile(policy)
	if err != nil {
		return err
	}
	if err := p.allowed.Allow(ctx, presence.Question{Actor: actor, Action: presence.ActionDefine, Status: id}); err != nil {
		return err
	}
	return p.install(m)
}

// install puts a policy in force.
func (p *pure) install(m *presence.Machine) error {
	p.machine = m
	for _, ch := range p.channels {
		ch.roster.SetMachine(m)
	}
	for _, ref := range p.subjects() {
		if err := p.step(ref, presence.Event{Kind: presence.EventPolicy}); err != nil {
			return err
		}
	}
	for _, ch := range p.channels {
		ch.deliver(ch.roster.Republish(p.now))
	}
	return nil
}

func (p *pure) grant(_ context.Context, channel presence.Channel, subject presence.Ref) error {
	var joining []presence.Channel
	for _, ref := range p.grants.channels(channel) {
		if !p.grants.may(subject, ref) {
			joining = append(joining, ref)
		}
	}
	p.grants.grant(subject, channel)
	for _, ref := range joining {
		p.enter(subject, ref)
	}
	return nil
}

func (p *pure) revoke(_ context.Context, channel presence.Channel, subject presence.Ref) error {
	if !p.grants.granted[channel][subject] {
		return nil
	}
	p.grants.revoke(subject, channel)
	for _, ref := range p.grants.channels(channel) {
		if !p.grants.may(subject, ref) {
			p.exit(subject, ref)
		}
	}
	return nil
}

func (p *pure) link(_ context.Context, channel, group presence.Channel) error {
	before := p.grants.members(channel)
	p.grants.linkTo(channel, group)
	after := p.grants.members(channel)
	for _, subject := range before {
		if !slices.Contains(after, subject) {
			p.exit(subject, channel)
		}
	}
	for _, subject := range after {
		if !slices.Contains(before, subject) {
			p.enter(subject, channel)
		}
	}
	return nil
}

func (p *pure) enter(subject presence.Ref, channel presence.Channel) {
	p.observe(subject, &presence.Output{Kind: presence.OutputGranted, At: p.now, Noticed: p.now, Channel: channel})
	ch, current := p.channel(channel), p.states[subject].Current
	ch.deliver(ch.roster.Put(&current, p.now))
}

// exit removes a subject from a channel. It ends the subject's watches that
// need the grant.
func (p *pure) exit(subject presence.Ref, channel presence.Channel) {
	p.observe(subject, &presence.Output{Kind: presence.OutputRevoked, At: p.now, Noticed: p.now, Channel: channel})
	ch := p.channel(channel)
	ch.feeds = slices.DeleteFunc(ch.feeds, func(f *pureFeed) bool {
		evicted := f.member && f.viewer == subject
		if evicted {
			f.frames = []*presence.Frame{{Kind: presence.FrameRemoved, Version: presence.FrameVersion}}
		}
		return evicted
	})
	ch.deliver(ch.roster.Remove(subject, p.now))
}

func (p *pure) hours(_ context.Context, channel presence.Channel, h presence.Hours) error {
	ch := p.channel(channel)
	ch.deliver(ch.roster.SetHours(h, p.now))
	return nil
}

func (p *pure) join(ctx context.Context, actor presence.Actor, channel presence.Channel) error {
	if err := p.allowed.Allow(ctx, presence.Question{Actor: actor, Action: presence.ActionJoin, Channel: channel}); err != nil {
		return err
	}
	return p.granted(actor, channel)
}

func (p *pure) granted(actor presence.Actor, channel presence.Channel) error {
	if !p.grants.may(actor.Subject, channel) {
		return &presence.Error{Err: presence.ErrNotAllowed, What: "actor", Given: actor.Subject.String(), Text: "it has no grant of channel " + channel.String()}
	}
	return nil
}

// watch allows the same actors as [presence.Tracker.Watch].
func (p *pure) watch(ctx context.Context, actor presence.Actor, channel presence.Channel, a presence.Audience) (feed, error) {
	own := actor.Audience()
	a = cmp.Or(a, own)
	switch actor.Role {
	case presence.RoleSupervisor, presence.RoleAdmin, presence.RoleSystem:
	default:
		if a != own && (a != presence.AudienceSelf || actor.Role == presence.RoleVisitor) {
			return nil, &presence.Error{
				Err: presence.ErrNotAllowed, What: "audience", Given: string(a), Text: actor.Subject.String() + " cannot watch as it", Allowed: []string{string(own)},
			}
		}
	}
	if err := p.allowed.Allow(ctx, presence.Question{Actor: actor, Action: presence.ActionSee, Channel: channel}); err != nil {
		return nil, err
	}
	member := own == presence.AudienceTeam
	if member {
		if err := p.granted(actor, channel); err != nil {
			return nil, err
		}
	}
	f := &pureFeed{ch: p.channel(channel), audience: a, epoch: string(a), member: member, viewer: actor.Subject}
	if a == presence.AudienceSelf {
		f.epoch += "/" + actor.Subject.ID
	}
	f.frames = append(f.frames, f.ch.roster.Open(a, actor.Subject, func() string { return f.epoch }))
	f.ch.feeds = append(f.ch.feeds, f)
	return f, nil
}

func (p *pure) channel(ref presence.Channel) *pureChannel {
	ch := p.channels[ref]
	if ch == nil {
		ch = &pureChannel{roster: presence.NewRoster(ref, p.machine)}
		ch.roster.SetClock(p.behind, p.now)
		p.channels[ref] = ch
	}
	return ch
}

func (ch *pureChannel) deliver(frames []*presence.Frame) {
	for _, frame := range frames {
		for _, f := range ch.feeds {
			if f.epoch == frame.Epoch {
				f.frames = append(f.frames, frame)
			}
		}
	}
}

func (f *pureFeed) poll() *presence.Frame {
	if len(f.frames) == 0 {
		return nil
	}
	frame := f.frames[0]
	f.frames = f.frames[1:]
	return frame
}

func (f *pureFeed) close() {
	f.frames = nil
	f.ch.feeds = slices.DeleteFunc(f.ch.feeds, func(o *pureFeed) bool { return o == f })
	if !slices.ContainsFunc(f.ch.feeds, func(o *pureFeed) bool { return o.epoch == f.epoch }) {
		f.ch.roster.Close(f.audience, f.viewer)
	}
}

func (p *pure) gate(_ context.Context, subject presence.Ref, kind, channel string) (presence.Decision, error) {
	if p.states[subject] != nil { // how old a look is depends on the time
		if err := p.step(subject, presence.Event{Kind: presence.EventTick}); err != nil {
			return presence.Decision{}, err
		}
	}
	return p.machine.Gate(p.states[subject], presence.Notification{Kind: kind, Channel: channel}), nil
}

func (p *pure) state(_ context.Context, subject presence.Ref) (presence.State, error) {
	s := p.states[subject]
	if s == nil {
		return presence.State{}, fmt.Errorf("presence: %w subject %s", presence.ErrUnknown, subject)
	}
	err := p.step(subject, presence.Event{Kind: presence.EventTick})
	state := s.Clone()
	// A tracker returns nil for an empty list too.
	if len(state.Conns) == 0 {
		state.Conns = nil
	}
	if len(state.Endpoints) == 0 {
		state.Endpoints = nil
	}
	if len(state.Claims) == 0 {
		state.Claims = nil
	}
	return state, err
}

func (p *pure) view(_ context.Context, subject presence.Ref, a presence.Audience) (presence.View, error) {
	current := presence.Presence{Subject: subject}
	if s := p.states[subject]; s != nil {
		current = s.Current
	}
	return p.machine.View(&current, a), nil
}

func (p *pure) explain(_ context.Context, subject presence.Ref, a presence.Audience) ([]string, error) {
	s := p.states[subject]
	if s == nil {
		return []string{presence.StatusUnknown + ": nobody has heard of " + subject.String()}, nil
	}
	return p.machine.Explain(s, a), nil
}

func (p *pure) list(_ context.Context, channel presence.Channel, a presence.Audience) ([]presence.View, presence.Group, error) {
	ch := p.channels[channel]
	if ch == nil {
		return nil, presence.Group{Status: presence.GroupOffline}, nil
	}
	return ch.roster.List(a, presence.Ref{}), ch.roster.Group(a, presence.Ref{}), nil
}

func (p *pure) journal(_ context.Context, subject presence.Ref) ([]presence.JournalRow, error) {
	return p.rows[subject], nil
}

func (p *pure) desk(machine func() *presence.Machine, now func() presence.Instant) routing.Desk {
	return pureDesk{p, machine, now}
}

// pureDesk is the desk of a queue over a pure engine.
type pureDesk struct {
	*pure
	machine func() *presence.Machine
	now     func() presence.Instant
}

func (d pureDesk) Machine(string) *presence.Machine { return d.machine() }

func (d pureDesk) Now() presence.Instant { return d.now() }

func (d pureDesk) State(ctx context.Context, subject presence.Ref) (presence.State, error) {
	return d.state(ctx, subject)
}

func (d pureDesk) Apply(ctx context.Context, e presence.Event) error { return d.apply(ctx, e) }

func (d pureDesk) Belongs(_ context.Context, subject presence.Ref, channel presence.Channel) (bool, error) {
	return d.grants.may(subject, channel), nil
}

// Clock shows the wall clock, which hours follow. No file runs Run, which waits by it.
func (d pureDesk) Clock() presence.Clock { return timeline.NewStill(d.now().Add(-d.behind).Time()) }

func (d pureDesk) Members(channel presence.Channel) ([]presence.Ref, error) {
	return d.grants.members(channel), nil
}

// Observe calls f after the observers before it.
func (d pureDesk) Observe(f func(presence.Ref, *presence.Output)) (stop func()) {
	before := d.pure.observe
	d.pure.observe = func(ref presence.Ref, o *presence.Output) {
		before(ref, o)
		f(ref, o)
	}
	return func() { d.pure.observe = before }
}
