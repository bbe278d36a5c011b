package routing_test

import (
	"cmp"
	"maps"
	"slices"

	"github.com/stretchr/testify/require"

	"github.com/presence-go/presence"
	"github.com/presence-go/presence/routing"
)

// model is the queue as its documentation states it, without an index: one list of
// all work, which it reads from the front for every answer. It has a tracker of its
// own.
type model struct {
	t       require.TestingT
	desk    *presence.Tracker
	open    func(presence.Channel, presence.Instant) (bool, presence.Instant)
	closing routing.Closing
	maxDone int

	all      []*modelPiece // in order of arrival
	moves    int
	affinity map[string]bond // by client
	turn     map[presence.Channel]presence.Ref
	taken    map[presence.Ref][]string
}

type modelPiece struct {
	routing.Work
	moved    int // counts the changes of places
	begun    bool
	answer   presence.Instant
	declined map[presence.Ref]presence.Instant
}

// bond is the agent that had the work of a client that ended last.
type bond struct {
	agent presence.Ref
	until presence.Instant
}

func newModel(t require.TestingT, desk *presence.Tracker, opts routing.Options) *model {
	return &model{
		t: t, desk: desk, open: opts.Open, closing: opts.Closing, maxDone: opts.MaxDone,
		affinity: make(map[string]bond), turn: make(map[presence.Channel]presence.Ref), taken: make(map[presence.Ref][]string),
	}
}

func (m *model) rule() presence.WorkRule { return m.desk.Machine("").Policy().Work }

func (m *model) state(ref presence.Ref) presence.State {
	s, _ := m.desk.State(ctx, ref) // zero for the unknown
	return s
}

func (m *model) find(id string) *modelPiece {
	for _, w := range m.all {
		if w.ID == id {
			return w
		}
	}
	return nil
}

// in returns the work in a place that fits, in the order in which it came there.
func (m *model) in(place routing.Place, fits func(*modelPiece) bool) (list []*modelPiece) {
	for _, w := range m.all {
		if w.Place == place && fits(w) {
			list = append(list, w)
		}
	}
	if place != routing.Waiting {
		slices.SortFunc(list, func(a, b *modelPiece) int { return a.moved - b.moved })
	}
	return list
}

func every(*modelPiece) bool { return true }

func of(client string) func(*modelPiece) bool {
	return func(w *modelPiece) bool { return w.Client == client }
}

func (m *model) move(w *modelPiece, place routing.Place) {
	m.moves++
	w.Place, w.moved, w.Since, w.answer = place, m.moves, m.desk.Now(), 0
}

// serve gives the oldest piece that an agent takes, again and again.
func (m *model) serve() {
	for slices.ContainsFunc(m.in(routing.Waiting, every), m.place) {
	}
}

// place gives a piece to an agent, or reports false.
func (m *model) place(w *modelPiece) bool {
	if m.open != nil && m.closing != routing.ClosingServe {
		if open, _ := m.open(w.Channel, m.desk.Now()); !open {
			return false
		}
	}
	if m.takes(w, w.To) && m.give(w, w.To, presence.RouteAll, false) {
		return true
	}
	if agent := m.agentOf(w.Client); m.keeps(w, agent) && m.give(w, agent, presence.RouteSticky, false) {
		return true
	}
	var best presence.Ref
	members, err := m.desk.Members(w.Channel)
	require.NoError(m.t, err)
	for _, ref := range members {
		if m.takes(w, ref) && (best == presence.Ref{} || m.before(ref, best, w)) {
			best = ref
		}
	}
	if best == (presence.Ref{}) {
		return false
	}
	m.turn[w.Channel] = best
	return m.give(w, best, presence.RouteAll, false)
}

// mayHave reports whether an agent belongs to the channel of a piece and has not
// declined it at its present revision.
func (m *model) mayHave(w *modelPiece, ref presence.Ref) bool {
	members, err := m.desk.Members(w.Channel)
	require.NoError(m.t, err)
	declined, ever := w.declined[ref]
	return slices.Contains(members, ref) && !(ever && declined == m.state(ref).Current.Revision)
}

// takes reports whether an agent takes a piece as new work.
func (m *model) takes(w *modelPiece, ref presence.Ref) bool {
	if ref == (presence.Ref{}) || !m.mayHave(w, ref) {
		return false
	}
	s := m.state(ref)
	r, room, limited := m.desk.Machine("").Receives(&s, w.On)
	return (r == presence.RouteAll || r == presence.RouteLast) && (!limited || room >= w.Weight)
}

// keeps reports whether an agent takes a piece as work of its client.
func (m *model) keeps(w *modelPiece, ref presence.Ref) bool {
	if ref == (presence.Ref{}) || !m.mayHave(w, ref) {
		return false
	}
	s := m.state(ref)
	r, room, limited := m.desk.Machine("").Receives(&s, w.On)
	return (r == presence.RouteAll || r == presence.RouteLast || r == presence.RouteSticky) &&
		(m.rule().Returns != presence.ReturnsCapacity || !limited || room >= w.Weight)
}

// agentOf returns the agent that a client belongs to.
func (m *model) agentOf(client string) presence.Ref {
	if client == "" {
		return presence.Ref{}
	}
	if given := m.in(routing.Given, of(client)); len(given) > 0 {
		return given[len(given)-1].Agent
	}
	if b := m.affinity[client]; m.desk.Now() < b.until {
		return b.agent
	}
	return presence.Ref{}
}

// before reports whether an agent precedes another for a piece.
func (m *model) before(a, b presence.Ref, w *modelPiece) bool {
	key := func(ref presence.Ref) (keys [4]int64) {
		s := m.state(ref)
		r, _, _ := m.desk.Machine("").Receives(&s, w.On)
		if r == presence.RouteLast {
			keys[0] = 1
		}
		keys[1] = int64(m.desk.Machine("").StatusOrder(s.Current.Status))
		idle := s.Current.Revision // takes new work since then
		if s.Work != nil {
			idle = max(idle, s.Work.Given)
		}
		switch m.rule().Order {
		case presence.OrderRoundRobin:
			if ref.ID <= m.turn[w.Channel].ID {
				keys[2] = 1
			}
		case presence.OrderLongestIdle:
			keys[2] = int64(idle)
		default:
			keys[2], keys[3] = int64(s.Work.Total()), int64(idle)
		}
		return keys
	}
	x, y := key(a), key(b)
	return cmp.Or(slices.Compare(x[:], y[:]), cmp.Compare(a.ID, b.ID)) < 0
}

// give gives a piece to an agent, if the agent's state machine accepts it.
func (m *model) give(w *modelPiece, agent presence.Ref, how presence.Routing, chosen bool) bool {
	revision := m.state(agent).Current.Revision
	err := m.desk.Apply(ctx, presence.Event{Kind: presence.EventOffer, Subject: agent, Load: presence.Load{On: w.On, N: w.Weight}, Routing: how})
	if chosen && err != nil {
		return false
	}
	require.NoError(m.t, err, "%s for %s", w.ID, agent)
	w.Agent, w.Revision = agent, revision
	within := m.rule().AcceptWithin
	w.Started = chosen || w.To == presence.Ref{} && within == 0
	w.begun = chosen
	if w.To != (presence.Ref{}) {
		w.To = agent
	}
	m.move(w, routing.Given)
	if !w.Started && within > 0 {
		w.answer = w.Since.Add(within)
	}
	if chosen {
		w.declined = nil
	}
	return true
}

// unload takes a piece off the load of its agent.
func (m *model) unload(w routing.Work, ended bool) {
	err := m.desk.Apply(ctx, presence.Event{
		Kind: presence.EventDone, Subject: w.Agent, Load: presence.Load{On: w.On, N: w.Weight}, Revision: w.Revision, Reject: !ended,
	})
	if err != nil {
		require.ErrorIs(m.t, err, presence.ErrUnknown)
	}
}

// back returns a piece that an agent has to the line.
func (m *model) back(w *modelPiece) {
	if m.affinity[w.Client].agent == w.Agent {
		delete(m.affinity, w.Client)
	}
	w.Started, w.begun = false, false
	m.move(w, routing.Waiting)
}

func (m *model) pass(w *modelPiece) {
	m.unload(w.Work, false)
	if w.declined == nil {
		w.declined = make(map[presence.Ref]presence.Instant)
	}
	w.declined[w.Agent] = m.state(w.Agent).Current.Revision
	m.back(w)
}

// step looks at every offer and at every agent, whether it has changed or not.
func (m *model) step() {
	due := m.in(routing.Given, func(w *modelPiece) bool { return w.answer != 0 && w.answer <= m.desk.Now() })
	slices.SortStableFunc(due, func(a, b *modelPiece) int { return cmp.Compare(a.answer, b.answer) })
	for _, w := range due {
		m.pass(w)
	}
	agents := make(map[presence.Ref]bool)
	for _, w := range m.in(routing.Given, every) {
		agents[w.Agent] = true
	}
	for _, agent := range slices.SortedFunc(maps.Keys(agents), func(a, b presence.Ref) int { return cmp.Compare(a.ID, b.ID) }) {
		m.settle(agent)
	}
	m.serve()
}

func (m *model) settle(agent presence.Ref) {
	s, err := m.desk.State(ctx, agent)
	var lost []string
	for _, w := range m.in(routing.Given, func(w *modelPiece) bool { return w.Agent == agent }) {
		members, _ := m.desk.Members(w.Channel)
		requeued := err == nil && s.Work != nil && w.Revision < s.Work.Requeued
		r, _, _ := m.desk.Machine("").Receives(&s, w.On)
		switch {
		case err != nil, requeued, !slices.Contains(members, agent):
			m.unload(w.Work, false) // the state machine ignores it after a requeue
			lost = append(lost, w.ID)
			w.To, w.declined = presence.Ref{}, nil
			m.back(w)
		case !w.Started && s.Current.Label == "" && (r == presence.RouteNone || r == presence.RouteTransfer):
			m.unload(w.Work, false)
			m.back(w)
		}
	}
	switch {
	case err != nil:
		delete(m.taken, agent)
	case len(lost) > 0:
		m.taken[agent] = lost
	}
}

// answerBy returns when the first offer must be started, or 0.
func (m *model) answerBy() (at presence.Instant) {
	for _, w := range m.in(routing.Given, every) {
		if w.answer != 0 && (at == 0 || w.answer < at) {
			at = w.answer
		}
	}
	return at
}

// The calls follow. Each returns whether the queue must accept it.

func (m *model) refuses(channel presence.Channel) bool {
	open, _ := m.open(channel, m.desk.Now())
	return !open && m.closing != routing.ClosingHold
}

func (m *model) add(w routing.Work) bool {
	if m.find(w.ID) != nil {
		return true
	}
	if m.refuses(w.Channel) {
		return false
	}
	w.Weight, w.Arrived = max(w.Weight, 1), m.desk.Now()
	fresh := &modelPiece{Work: w}
	m.all = append(m.all, fresh)
	m.move(fresh, routing.Waiting)
	m.serve()
	return true
}

func (m *model) start(id string) bool {
	w := m.find(id)
	if w == nil || w.Place != routing.Given {
		return false
	}
	w.Started, w.begun, w.answer, w.declined = true, true, 0, nil
	return true
}

func (m *model) finish(id string) bool {
	w := m.find(id)
	switch {
	case w == nil:
		return false
	case w.Place == routing.Done:
		return true
	case w.Place == routing.Given:
		m.unload(w.Work, true)
		m.affinity[w.Client] = bond{w.Agent, m.desk.Now().Add(m.rule().Affinity)}
	}
	m.move(w, routing.Done)
	for done := m.in(routing.Done, every); len(done) > m.maxDone; done = done[1:] {
		m.all = slices.DeleteFunc(m.all, func(o *modelPiece) bool { return o == done[0] })
		if !slices.ContainsFunc(m.all, of(done[0].Client)) {
			delete(m.affinity, done[0].Client)
		}
	}
	m.serve()
	return true
}

func (m *model) message(client string) bool {
	if client == "" || !slices.ContainsFunc(m.all, of(client)) {
		return false
	}
	if given := m.in(routing.Given, of(client)); len(given) > 0 {
		if newest := given[len(given)-1]; newest.answer == 0 {
			m.start(newest.ID)
		}
		return true
	}
	if len(m.in(routing.Waiting, of(client))) == 0 {
		done := m.in(routing.Done, of(client))
		w := done[len(done)-1]
		if m.refuses(w.Channel) {
			return false
		}
		w.To, w.Started, w.begun, w.declined, w.Arrived = presence.Ref{}, false, false, nil, m.desk.Now()
		m.all = append(slices.DeleteFunc(m.all, func(o *modelPiece) bool { return o == w }), w)
		m.move(w, routing.Waiting)
	}
	m.serve()
	return true
}

func (m *model) assign(id string, to presence.Ref) bool {
	w := m.find(id)
	if w == nil {
		return false
	}
	if w.Place == routing.Given && w.Agent == to {
		return true
	}
	members, _ := m.desk.Members(w.Channel)
	had := w.Work
	if !slices.Contains(members, to) || !m.give(w, to, presence.RouteNone, true) {
		return false
	}
	if had.Place == routing.Given {
		m.unload(had, false)
	}
	m.serve()
	return true
}

func (m *model) decline(id string, agent presence.Ref) bool {
	w := m.find(id)
	if w == nil || w.Place != routing.Given || w.Agent != agent || w.begun {
		return false
	}
	m.pass(w)
	m.serve()
	return true
}

func (m *model) transfer(id string, to presence.Channel) bool {
	w := m.find(id)
	switch {
	case w == nil || w.Place == routing.Done:
		return false
	case w.Channel == to:
		return true
	case m.refuses(to):
		return false
	}
	w.Channel, w.To = to, presence.Ref{}
	if w.Place == routing.Given {
		m.unload(w.Work, false)
		m.back(w)
	} else {
		m.move(w, routing.Waiting)
	}
	m.serve()
	return true
}
