package routing

import (
	"container/heap"
	"context"
	"errors"
	"maps"
	"slices"

	"github.com/presence-go/presence"
)

// serve hands out waiting work. It is the only place where work is given by
// itself, and the last step of every call that changes something: of the pieces
// that an agent takes, the one that arrived first is given, until no piece has an
// agent. The pieces of a line wait for the same agents, so that serve leaves a
// line at its first piece without one. Agents only get fuller meanwhile: an agent
// that becomes available is reported, and the next step serves again.
func (q *Queue) serve(ctx context.Context) error {
	v := q.view()
	q.last = nil
	q.heads = q.heads[:0]
	for _, l := range q.lines {
		q.heads = append(q.heads, head{l.pieces[0].order, l})
	}
	heap.Init(&q.heads)
	for len(q.heads) > 0 {
		h := heap.Pop(&q.heads).(head)
		pieces := h.line.pieces
		if len(pieces) == 0 || pieces[0].order != h.order {
			continue // it has left the line, and the one behind it has an entry
		}
		if err := v.place(ctx, pieces[0]); err != nil {
			return err
		}
	}
	v.states = nil
	q.last = v
	return nil
}

// handOut is serve for a call that is no step. It makes Run try again what failed,
// and wait for what is due.
func (q *Queue) handOut(ctx context.Context) error {
	err := q.serve(ctx)
	if err != nil || q.due() != 0 {
		q.rouse()
	}
	return err
}

// view is what one serve knows of the desk. It asks once for the members of each
// channel and once for each agent, and again only for agents that it offers work.
type view struct {
	q        *Queue
	channels map[presence.Channel][]presence.Ref
	states   map[presence.Ref]*presence.State // nil for the unknown
	seen     map[presence.Ref][]seen
	lists    map[lane][]Member // by channel and work channel
	belongs  map[pair]bool
	machines map[string]*presence.Machine // by tenant
	full     map[lane]bool                // no candidate takes work of the weight
	shut     map[presence.Channel]bool
	held     bool             // work is held since its channel is closed
	opens    presence.Instant // when the first of these channels opens, if known
}

// seen is how an agent looked for one work channel.
type seen struct {
	on     string
	member Member
}

type pair struct {
	subject presence.Ref
	channel presence.Channel
}

func (q *Queue) view() *view {
	return &view{
		q: q, channels: make(map[presence.Channel][]presence.Ref), states: make(map[presence.Ref]*presence.State), seen: make(map[presence.Ref][]seen),
		lists: make(map[lane][]Member), belongs: make(map[pair]bool), machines: make(map[string]*presence.Machine), full: make(map[lane]bool),
		shut: make(map[presence.Channel]bool),
	}
}

// ruleOf is the work rule of a machine.
type ruleOf struct {
	machine *presence.Machine
	rule    presence.WorkRule
}

// rule returns the rule of work that is in force for a tenant.
func (q *Queue) rule(tenant string) presence.WorkRule {
	m := q.desk.Machine(tenant)
	if known := q.rules[tenant]; known.machine == m {
		return known.rule
	}
	rule := m.Policy().Work
	q.rules[tenant] = ruleOf{m, rule}
	return rule
}

func (q *Queue) member(s *presence.State, on string) Member {
	return MemberOf(q.desk.Machine(s.Subject.Tenant), s, on)
}

// member returns an agent as it looks for one work channel, or false if nothing is
// known of it.
func (v *view) member(ctx context.Context, agent presence.Ref, on string) (Member, bool, error) {
	for _, s := range v.seen[agent] {
		if s.on == on {
			return s.member, true, nil
		}
	}
	s, asked := v.states[agent]
	if !asked {
		state, err := v.q.desk.State(ctx, agent)
		if err != nil && !errors.Is(err, presence.ErrUnknown) {
			return Member{}, false, err
		}
		if err == nil {
			s = &state
		}
		v.states[agent] = s
		v.machines[agent.Tenant] = v.q.desk.Machine(agent.Tenant)
	}
	if s == nil {
		return Member{}, false, nil
	}
	m := v.q.member(s, on)
	v.seen[agent] = append(v.seen[agent], seen{on, m})
	return m, true, nil
}

// list returns the known members of a channel as they look for one work channel.
func (v *view) list(ctx context.Context, of lane) ([]Member, error) {
	of.weight = 0 // the same members for every weight
	if members, there := v.lists[of]; there {
		return members, nil
	}
	refs, there := v.channels[of.channel]
	if !there {
		var err error
		if refs, err = v.q.desk.Members(of.channel); err != nil {
			return nil, err
		}
		v.channels[of.channel] = refs
	}
	members := make([]Member, 0, len(refs))
	for _, ref := range refs {
		m, known, err := v.member(ctx, ref, of.on)
		if err != nil {
			return nil, err
		}
		if known {
			members = append(members, m)
		}
	}
	v.lists[of] = members
	return members, nil
}

// one returns an agent if it belongs to the channel of a lane.
func (v *view) one(ctx context.Context, agent presence.Ref, of lane) (m Member, ok bool, err error) {
	at := pair{agent, of.channel}
	member, asked := v.belongs[at]
	if !asked {
		if agent.Tenant == of.channel.Tenant { // a client may have work of several tenants
			if member, err = v.q.desk.Belongs(ctx, agent, of.channel); err != nil {
				return Member{}, false, err
			}
		}
		v.belongs[at] = member
	}
	if !member {
		return Member{}, false, nil
	}
	return v.member(ctx, agent, of.on)
}

// lookAgain replaces all that is known of an agent.
func (v *view) lookAgain(ctx context.Context, agent presence.Ref) error {
	old := v.seen[agent]
	delete(v.states, agent)
	delete(v.seen, agent)
	for _, s := range old {
		m, _, err := v.member(ctx, agent, s.on) // the zero one takes nothing
		if err != nil {
			return err
		}
		for of, list := range v.lists {
			if i := slices.IndexFunc(list, func(o Member) bool { return o.Subject == agent }); i >= 0 && of.on == s.on {
				list[i] = m
			}
		}
	}
	return nil
}

// closed reports whether work of a channel is held.
func (v *view) closed(channel presence.Channel) bool {
	if v.q.opts.Open == nil || v.q.opts.Closing == ClosingServe {
		return false
	}
	shut, asked := v.shut[channel]
	if !asked {
		wall := v.q.wall()
		open, next := v.q.opts.Open(channel, wall)
		shut = !open
		v.shut[channel] = shut
		if at := v.q.desk.Now().Add(next.Sub(wall)); shut && next > wall && (v.opens == 0 || at < v.opens) {
			v.opens = at
		}
	}
	v.held = v.held || shut
	return shut
}

// outdated reports whether another policy is in force by now. It may change what an
// agent takes without a change that the desk reports.
func (v *view) outdated() bool {
	for tenant, m := range v.machines {
		if v.q.desk.Machine(tenant) != m {
			return true
		}
	}
	return false
}

// place gives a piece of work to an agent that takes it, if any: to the one it is
// meant for, to the one of its client, or to the first that takes it. An
// agent that has become unavailable since the lookup refuses, and place tries the
// next one.
func (v *view) place(ctx context.Context, w *piece) error {
	if v.closed(w.Channel) {
		return nil
	}
	l, rule := w.line.need, v.q.rule(w.Channel.Tenant)
	if l.to != (presence.Ref{}) {
		m, ok, err := v.one(ctx, l.to, l.lane)
		if err != nil {
			return err
		}
		if ok && m.takes() && m.fits(w.Weight) {
			if given, err := v.try(ctx, w, m, presence.RouteAll); given || err != nil {
				return err
			}
		}
	}
	if l.agent != (presence.Ref{}) && v.q.desk.Now() < l.until {
		m, ok, err := v.one(ctx, l.agent, l.lane)
		if err != nil {
			return err
		}
		if ok && m.receives() && (rule.Returns != presence.ReturnsCapacity || m.fits(w.Weight)) {
			if given, err := v.try(ctx, w, m, presence.RouteSticky); given || err != nil {
				return err
			}
		}
	}
	if v.full[l.lane] {
		return nil
	}
	members, err := v.list(ctx, l.lane)
	if err != nil {
		return err
	}
	for _, m := range slices.Clone(Candidates(members, rule.Order, v.q.turn[w.Channel])) {
		if !m.fits(w.Weight) {
			continue
		}
		given, err := v.try(ctx, w, m, presence.RouteAll)
		if err != nil {
			return err
		}
		if given {
			v.q.turn[w.Channel] = m.Subject
			return nil
		}
	}
	v.full[l.lane] = l.own == ""
	return nil
}

// try offers a piece of work to an agent, unless the agent has declined it. It
// reports whether the agent has it now.
func (v *view) try(ctx context.Context, w *piece, m Member, how presence.Routing) (given bool, err error) {
	if at, declined := w.declined[m.Subject]; declined && at == m.Revision {
		return false, nil
	}
	given, err = v.q.offer(ctx, w, m, how)
	if err != nil {
		return false, err
	}
	if given {
		v.q.give(w, m.Subject, m.Revision, false)
	}
	if err := v.lookAgain(ctx, m.Subject); err != nil {
		return given, err
	}
	if now, known, _ := v.member(ctx, m.Subject, w.On); known && now.Revision != m.Revision { // what it declined it may take now
		for _, l := range v.q.lines {
			if l.own != "" {
				heap.Push(&v.q.heads, head{l.pieces[0].order, l})
			}
		}
	}
	return given, nil
}

// offer asks the state machine of a member to take work, at the revision of the
// lookup.
func (q *Queue) offer(ctx context.Context, w *piece, to Member, how presence.Routing) (taken bool, err error) {
	err = q.desk.Apply(ctx, presence.Event{
		Kind: presence.EventOffer, Subject: to.Subject, Load: presence.Load{On: w.On, N: w.Weight}, Routing: how, Revision: to.Revision,
	})
	switch {
	case err == nil:
		return true, nil
	case errors.Is(err, presence.ErrStale), errors.Is(err, presence.ErrNotAllowed), errors.Is(err, presence.ErrUnknown),
		errors.Is(err, presence.ErrDisabled), errors.Is(err, presence.ErrLimit):
		return false, nil // the desk reports that change too
	}
	return false, err
}

// give records that an agent has taken work, as an offer or by an actor's choice.
func (q *Queue) give(w *piece, agent presence.Ref, revision presence.Instant, chosen bool) {
	w.Revision = revision
	w.Started = chosen || w.To == presence.Ref{} && q.rule(w.Channel.Tenant).AcceptWithin == 0
	w.begun = chosen
	if chosen {
		w.declined = nil
	}
	if w.To != (presence.Ref{}) {
		w.To = agent
	}
	q.move(w, Given, agent)
}

// unload takes work off the load of its agent: because it has ended, or because
// another agent is to have it.
func (q *Queue) unload(ctx context.Context, w *Work, ended bool) error {
	err := q.desk.Apply(ctx, presence.Event{
		Kind: presence.EventDone, Subject: w.Agent, Load: presence.Load{On: w.On, N: w.Weight}, Revision: w.Revision, Reject: !ended,
	})
	if errors.Is(err, presence.ErrUnknown) {
		return nil
	}
	return err
}

// release returns work that no agent has started to the line.
func (q *Queue) release(w *piece) {
	w.Started = false
	q.move(w, Waiting, w.Agent)
}

// pass returns an offer to the line. Its agent is passed over while it receives
// what it receives now.
func (q *Queue) pass(ctx context.Context, w *piece) error {
	if err := q.unload(ctx, &w.Work, false); err != nil {
		return err
	}
	if s, err := q.desk.State(ctx, w.Agent); err == nil { // else the next serve finds out
		if w.declined == nil {
			w.declined = make(map[presence.Ref]presence.Instant)
		}
		w.declined[w.Agent] = s.Current.Revision
	}
	q.release(w)
	return nil
}

// sync processes changes and what is due, and reports whether there was any.
func (q *Queue) sync(ctx context.Context, changed map[presence.Ref]bool) (acted bool, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := q.desk.Now()
	at := q.due()
	serve := q.last == nil || q.last.outdated() || at != 0 && at <= now
	if !serve && len(changed) == 0 {
		return false, nil
	}
	defer func() {
		if err != nil {
			q.last = nil // work may have returned to the line
		}
	}()
	for len(q.offers) > 0 && q.offers[0].answer <= now {
		if err := q.pass(ctx, q.offers[0]); err != nil {
			return true, err
		}
	}
	subjects := slices.SortedFunc(maps.Keys(changed), compareRefs)
	for _, subject := range subjects {
		needed, err := q.settle(ctx, subject)
		if err != nil {
			return true, err
		}
		serve = serve || needed || changed[subject]
	}
	if serve {
		err = q.serve(ctx)
	}
	return true, err
}

// settle compares the work of a changed agent with the agent's state, and takes
// back what the agent must not have. It reports whether waiting work may find an
// agent now that it did not find at the last serve.
func (q *Queue) settle(ctx context.Context, agent presence.Ref) (serve bool, err error) {
	mine := slices.Clone(q.given[agent])
	if len(mine) == 0 && q.last != nil && len(q.last.seen[agent]) == 0 {
		return q.last.held, nil
	}
	s, err := q.desk.State(ctx, agent)
	unknown := errors.Is(err, presence.ErrUnknown)
	if err != nil && !unknown {
		return false, err
	}
	if unknown {
		delete(q.took, agent)
		for _, w := range mine {
			q.lose(w)
		}
		return len(mine) > 0, nil
	}
	taken := presence.Instant(0)
	if s.Work != nil {
		taken = s.Work.Requeued
	}
	var lost []string
	for _, w := range mine {
		member, err := q.desk.Belongs(ctx, agent, w.Channel)
		if err != nil {
			return false, err
		}
		switch {
		case w.Revision < taken:
			lost = append(lost, w.ID)
			q.lose(w)
		case !member:
			if err := q.unload(ctx, &w.Work, false); err != nil {
				return false, err
			}
			lost = append(lost, w.ID)
			q.lose(w)
		case !w.Started && s.Current.Label == "":
			m := q.member(&s, w.On)
			if m.receives() {
				continue
			}
			if err := q.unload(ctx, &w.Work, false); err != nil {
				return false, err
			}
			q.release(w)
			serve = true
		}
	}
	if len(lost) > 0 {
		q.took[agent] = lost
	}
	return serve || len(lost) > 0 || q.differs(&s), nil
}

// lose returns work that was taken from its agent to the line, for any agent.
func (q *Queue) lose(w *piece) {
	w.To, w.declined = presence.Ref{}, nil
	q.release(w)
}

// differs reports whether an agent looks otherwise than at the last serve, so that
// it may take work that found no agent then. The changes that the queue made itself
// are no difference.
func (q *Queue) differs(s *presence.State) bool {
	if q.last == nil || q.last.held {
		return true
	}
	return slices.ContainsFunc(q.last.seen[s.Subject], func(o seen) bool { return q.member(s, o.on) != o.member })
}
