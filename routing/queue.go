package routing

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"

	"github.com/presence-go/presence"
)

// Desk is the part of a [presence.Tracker], or of a fake, that a queue uses to
// look up agents and give them work. Methods may block. A queue calls one at a
// time. They must not call the queue, but Observe may call f at any time.
type Desk interface {
	// Members returns the members of a channel.
	Members(channel presence.Channel) ([]presence.Ref, error)
	// State returns the current state of a subject, or an error wrapping
	// [presence.ErrUnknown]. The queue does not change the state.
	State(ctx context.Context, subject presence.Ref) (presence.State, error)
	// Apply applies an EventOffer or EventDone to its subject.
	Apply(ctx context.Context, e presence.Event) error
	// Machine returns the policy in force for a tenant.
	Machine(tenant string) *presence.Machine
	// Now returns the current instant.
	Now() presence.Instant
	// Observe calls f with every output of the agents' state machines, until stop
	// is called.
	Observe(f func(presence.Ref, *presence.Output)) (stop func())
}

// Place is the place of a piece of work.
type Place string

// The places.
const (
	Waiting Place = "queued"
	Given   Place = "given"
	Done    Place = "done"
)

// Work is one piece of work: a conversation, a call, a task.
type Work struct {
	ID      string
	Channel presence.Channel // the work is for its members
	On      string           // the work channel whose capacity it takes; empty for the one without a name
	Client  string           // the client that it belongs to; empty for none
	// To is the subject that the work is meant for. While that subject takes work,
	// no other gets it. If the subject stops taking work before the work has
	// started, another subject gets it and becomes To.
	To presence.Ref

	Place    Place
	Agent    presence.Ref     // the current or the last agent
	Started  bool             // it stays with its agent in any status
	Arrived  presence.Instant // at the queue, first or again
	Since    presence.Instant // in its place
	Revision presence.Instant // at which it was given
	order    uint64
}

// Options configures a Queue. The zero value works.
type Options struct {
	// Open reports whether a channel takes new work now; nil means always. Work
	// that an agent has continues to its end.
	Open func(channel presence.Channel, now presence.Instant) (open bool, next presence.Instant)
	// Observe is called with every piece of work whose place has changed. It is
	// called in order, with the queue locked, and must not call the queue.
	Observe func(Work)
	// MaxWork limits the pieces of work that are not done. MaxDone limits the done
	// pieces that are kept. 0 means 1,000,000 and 10,000.
	MaxWork, MaxDone int
}

// Queue hands out work by presence. It records the agent of each piece, so that
// no work is lost or given twice. The agent's state machine decides whether the
// agent may have the work, at the instant of giving. Its methods are safe for
// concurrent use.
type Queue struct {
	desk Desk
	opts Options

	mu      sync.Mutex
	work    map[string]*Work
	waiting map[presence.Channel][]*Work // by channel, in order of arrival
	given   map[presence.Ref][]*Work     // by agent
	done    []string                     // the ids of done work, oldest first
	last    map[string]affinity          // by client
	latest  map[string]*Work             // by client
	turn    map[presence.Channel]presence.Ref
	took    map[presence.Ref][]string // the work last taken from each agent
	serial  uint64

	dirtyMu sync.Mutex
	dirty   map[presence.Ref]bool
	wake    chan struct{}
}

// affinity is the agent of a client's last work, and until when the client
// stays with that agent. It stays while the work is open, and then for the time
// of the policy.
type affinity struct {
	agent presence.Ref
	work  string
	until presence.Instant
}

// New returns an empty queue over a desk. The queue observes the desk, whose
// clock it uses. Run [Queue.Run] beside the queue, or call [Queue.Step]. New
// returns all faults of its arguments joined.
func New(desk Desk, opts *Options) (*Queue, error) {
	var o Options
	if opts != nil {
		o = *opts
	}
	var faults []error
	fault := func(option, format string, args ...any) {
		faults = append(faults, refuse(presence.ErrInvalid, "option", option, format, args...))
	}
	if desk == nil {
		fault("desk", "it is nil")
	}
	if o.MaxWork < 0 {
		fault("MaxWork", "%d is negative", o.MaxWork)
	}
	if o.MaxDone < 0 {
		fault("MaxDone", "%d is negative", o.MaxDone)
	}
	if err := errors.Join(faults...); err != nil {
		return nil, err
	}
	o.MaxWork, o.MaxDone = cmp.Or(o.MaxWork, 1_000_000), cmp.Or(o.MaxDone, 10_000)
	q := &Queue{
		desk: desk, opts: o, work: make(map[string]*Work), waiting: make(map[presence.Channel][]*Work), given: make(map[presence.Ref][]*Work),
		last: make(map[string]affinity), latest: make(map[string]*Work), turn: make(map[presence.Channel]presence.Ref), took: make(map[presence.Ref][]string),
		dirty: make(map[presence.Ref]bool), wake: make(chan struct{}, 1),
	}
	desk.Observe(q.changed)
	return q, nil
}

// refuse returns the error of a refusal. It cuts what was given to 128 bytes.
func refuse(sentinel error, what, given, format string, args ...any) *presence.Error {
	given = strings.ToValidUTF8(given[:min(len(given), presence.MaxID)], "")
	return &presence.Error{Err: sentinel, What: what, Given: given, Text: fmt.Sprintf(format, args...)}
}

// changed records that a subject has changed. It does not call the desk, which
// may hold the subject's lock.
func (q *Queue) changed(subject presence.Ref, o *presence.Output) {
	switch o.Kind {
	case presence.OutputTransition, presence.OutputUpdated, presence.OutputRequeue:
	default:
		return
	}
	q.dirtyMu.Lock()
	q.dirty[subject] = true
	q.dirtyMu.Unlock()
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// Run runs the steps that follow from changes until ctx is done, and returns
// its cause. It tries a step that failed because of the desk again at the next
// change.
func (q *Queue) Run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-q.wake:
			_ = q.Step(ctx) // the desk is unavailable: the change stays recorded
		}
	}
}

// Step processes the changes so far. It takes work from agents that were kicked
// out, passes on work that was meant for agents that stopped taking work, and
// hands out waiting work.
func (q *Queue) Step(ctx context.Context) error {
	for {
		q.dirtyMu.Lock()
		changed := q.dirty
		q.dirty = make(map[presence.Ref]bool)
		q.dirtyMu.Unlock()
		if len(changed) == 0 {
			return nil
		}
		if err := q.sync(ctx, changed); err != nil {
			q.dirtyMu.Lock()
			for subject := range changed {
				q.dirty[subject] = true
			}
			q.dirtyMu.Unlock()
			return err
		}
	}
}

func (q *Queue) sync(ctx context.Context, changed map[presence.Ref]bool) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	subjects := make([]presence.Ref, 0, len(changed))
	for subject := range changed {
		subjects = append(subjects, subject)
	}
	slices.SortFunc(subjects, compareRefs)
	for _, subject := range subjects {
		if err := q.settle(ctx, subject); err != nil {
			return err
		}
	}
	channels := make([]presence.Channel, 0, len(q.waiting))
	for channel := range q.waiting {
		channels = append(channels, channel)
	}
	slices.SortFunc(channels, func(a, b presence.Channel) int { return compareRefs(presence.Ref(a), presence.Ref(b)) })
	for _, channel := range channels {
		if err := q.hand(ctx, channel); err != nil {
			return err
		}
	}
	return nil
}

// settle compares the work of an agent with the agent's state. Work that was
// given before the state machine took it away returns to the queue, also after
// later changes: its revision is older.
func (q *Queue) settle(ctx context.Context, agent presence.Ref) error {
	mine := q.given[agent]
	if len(mine) == 0 {
		return nil
	}
	s, err := q.desk.State(ctx, agent)
	if err != nil && !errors.Is(err, presence.ErrUnknown) {
		return err
	}
	taken := presence.Instant(0)
	if s.Work != nil {
		taken = s.Work.Requeued
	}
	var back, moved []*Work
	for _, w := range mine {
		switch {
		case err != nil || w.Revision < taken:
			back = append(back, w)
		case !w.Started && w.To == agent && s.Current.Label == "" && !q.member(&s, w).receives():
			moved = append(moved, w)
		}
	}
	if len(back) > 0 {
		q.took[agent] = nil
	}
	for _, w := range back {
		q.took[agent] = append(q.took[agent], w.ID)
		w.Started, w.To = false, presence.Ref{} // for any agent
		q.unbind(w)
		q.wait(w)
	}
	for _, w := range moved {
		if err := q.desk.Apply(ctx, presence.Event{Kind: presence.EventDone, Subject: agent, Load: presence.Load{On: w.On, N: 1}, Revision: w.Revision}); err != nil {
			return err
		}
		q.unbind(w)
		q.wait(w)
	}
	return nil
}

// members returns the states of a channel's known members.
func (q *Queue) members(ctx context.Context, channel presence.Channel) ([]presence.State, error) {
	refs, err := q.desk.Members(channel)
	if err != nil {
		return nil, err
	}
	states := make([]presence.State, 0, len(refs))
	for _, ref := range refs {
		s, err := q.desk.State(ctx, ref)
		if errors.Is(err, presence.ErrUnknown) {
			continue
		}
		if err != nil {
			return nil, err
		}
		states = append(states, s)
	}
	return states, nil
}

func (q *Queue) member(s *presence.State, w *Work) Member {
	return MemberOf(q.desk.Machine(s.Subject.Tenant), s, w.On)
}

// unbind ends the affinity of a client to the agent of this work.
func (q *Queue) unbind(w *Work) {
	if a, ok := q.last[w.Client]; ok && a.work == w.ID {
		delete(q.last, w.Client)
	}
}

// wait returns work to its channel's line, in the place of its first arrival.
func (q *Queue) wait(w *Work) {
	q.release(w)
	w.Place, w.Since = Waiting, q.desk.Now()
	line := q.waiting[w.Channel]
	at, _ := slices.BinarySearchFunc(line, w, func(a, b *Work) int { return int(a.order) - int(b.order) })
	q.waiting[w.Channel] = slices.Insert(line, at, w)
	q.tell(w)
}

// release removes work from its place.
func (q *Queue) release(w *Work) {
	switch w.Place {
	case Waiting:
		drop(q.waiting, w.Channel, w)
	case Given:
		drop(q.given, w.Agent, w)
	}
}

// drop removes a piece of work from a list of an index.
func drop[K comparable](index map[K][]*Work, at K, w *Work) {
	if list := slices.DeleteFunc(index[at], func(o *Work) bool { return o == w }); len(list) > 0 {
		index[at] = list
	} else {
		delete(index, at)
	}
}

func (q *Queue) tell(w *Work) {
	if q.opts.Observe != nil {
		q.opts.Observe(*w)
	}
}

// hand gives the waiting work of a channel to members that take it, in order of
// arrival. Work that no member takes continues to wait, and is no error.
func (q *Queue) hand(ctx context.Context, channel presence.Channel) error {
	for _, w := range slices.Clone(q.waiting[channel]) {
		if err := q.place(ctx, w); err != nil {
			return err
		}
	}
	return nil
}

// place tries to give a piece of work to an agent: to the one it is meant for,
// to the one of its client, or to the first that takes it. An agent that has
// become unavailable since the lookup refuses. place then tries the next one.
func (q *Queue) place(ctx context.Context, w *Work) error {
	states, err := q.members(ctx, w.Channel)
	if err != nil {
		return err
	}
	m := q.desk.Machine(w.Channel.Tenant)
	members := make([]Member, len(states))
	for i := range states {
		members[i] = MemberOf(m, &states[i], w.On)
	}
	rule := m.Policy().Work
	offer := func(member Member, how presence.Routing) (bool, error) {
		return q.offer(ctx, w, member, how)
	}
	if w.To != (presence.Ref{}) {
		i := slices.IndexFunc(members, func(o Member) bool { return o.Subject == w.To })
		if i >= 0 && members[i].takes() {
			if ok, err := offer(members[i], presence.RouteAll); ok || err != nil {
				return err
			}
		}
	}
	if a, ok := q.last[w.Client]; ok && w.Client != "" && q.desk.Now() < a.until {
		i := slices.IndexFunc(members, func(o Member) bool { return o.Subject == a.agent })
		if i >= 0 && members[i].receives() {
			if ok, err := offer(members[i], presence.RouteSticky); ok || err != nil {
				return err
			}
		}
	}
	for _, member := range Candidates(members, rule.Order, q.turn[w.Channel]) {
		if ok, err := offer(member, presence.RouteAll); ok || err != nil {
			return err
		}
	}
	return nil
}

// offer gives work to a member at the revision of the lookup.
func (q *Queue) offer(ctx context.Context, w *Work, to Member, how presence.Routing) (bool, error) {
	err := q.desk.Apply(ctx, presence.Event{
		Kind: presence.EventOffer, Subject: to.Subject, Load: presence.Load{On: w.On, N: 1}, Routing: how, Revision: to.Revision,
	})
	switch {
	case err == nil:
	case errors.Is(err, presence.ErrStale), errors.Is(err, presence.ErrNotAllowed), errors.Is(err, presence.ErrUnknown),
		errors.Is(err, presence.ErrDisabled), errors.Is(err, presence.ErrLimit):
		return false, nil // the desk reports that change too
	default:
		return false, err
	}
	q.release(w)
	w.Place, w.Agent, w.Revision, w.Since = Given, to.Subject, to.Revision, q.desk.Now()
	w.Started = w.To == presence.Ref{}
	if !w.Started {
		w.To = to.Subject
	}
	q.given[w.Agent] = append(q.given[w.Agent], w)
	q.turn[w.Channel] = w.Agent
	if w.Client != "" {
		q.last[w.Client] = affinity{agent: w.Agent, work: w.ID, until: math.MaxInt64}
	}
	q.tell(w)
	return true, nil
}

// Add adds a piece of work and tries to place it. It returns the work with its
// place: an agent, or waiting if none is available. Adding work of a known id
// changes nothing.
func (q *Queue) Add(ctx context.Context, w Work) (Work, error) {
	if err := w.check(); err != nil {
		return Work{}, err
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if old, there := q.work[w.ID]; there {
		return *old, nil
	}
	if err := q.open(w.Channel); err != nil {
		return Work{}, err
	}
	if len(q.work)-len(q.done) >= q.opts.MaxWork {
		return Work{}, refuse(presence.ErrLimit, "work", w.ID, "%d pieces of work are not done yet", q.opts.MaxWork)
	}
	q.serial++
	fresh := &Work{ID: w.ID, Channel: w.Channel, On: w.On, Client: w.Client, To: w.To, order: q.serial, Arrived: q.desk.Now()}
	q.work[w.ID] = fresh
	if w.Client != "" {
		q.latest[w.Client] = fresh
	}
	q.wait(fresh)
	err := q.place(ctx, fresh)
	return *fresh, err
}

// check refuses work that no desk can place, because it would block all other
// work.
func (w *Work) check() error {
	for _, id := range []struct {
		what, id string
		needed   bool
	}{
		{"work", w.ID, true}, {"channel", w.Channel.ID, true}, {"tenant", w.Channel.Tenant, false},
		{"channel", w.On, false}, {"client", w.Client, false}, {"subject", w.To.ID, false},
	} {
		if id.needed && id.id == "" || len(id.id) > presence.MaxID || !utf8.ValidString(id.id) || strings.ContainsFunc(id.id, unicode.IsControl) {
			return refuse(presence.ErrInvalid, id.what, id.id, "an id has 1 to %d bytes of UTF-8 without control characters", presence.MaxID)
		}
	}
	if w.To != (presence.Ref{}) && w.To.Tenant != w.Channel.Tenant {
		return refuse(presence.ErrInvalid, "tenant", w.To.Tenant, "work of channel %s cannot be meant for %s", w.Channel, w.To)
	}
	return nil
}

func (q *Queue) open(channel presence.Channel) error {
	if q.opts.Open == nil {
		return nil
	}
	open, next := q.opts.Open(channel, q.desk.Now())
	if open {
		return nil
	}
	closed := refuse(presence.ErrNotAllowed, "channel", channel.String(), "it is closed")
	closed.Until = next
	return closed
}

// Assign gives a piece of work to a subject by an actor's choice. The subject's
// status does not prevent it. It returns [presence.ErrNotAllowed] for a
// visitor.
func (q *Queue) Assign(ctx context.Context, by presence.Actor, id string, to presence.Ref) (Work, error) {
	if by.Role == presence.RoleVisitor {
		return Work{}, refuse(presence.ErrNotAllowed, "role", string(by.Role), "%s may not assign work", by)
	}
	if by.Subject.Tenant != to.Tenant {
		return Work{}, refuse(presence.ErrNotAllowed, "tenant", to.Tenant, "%s may not assign work to %s", by, to)
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	w, err := q.find(id)
	if err != nil {
		return Work{}, err
	}
	if w.Channel.Tenant != to.Tenant {
		return Work{}, refuse(presence.ErrNotAllowed, "tenant", to.Tenant, "work of channel %s cannot be assigned to %s", w.Channel, to)
	}
	if w.Place == Given && w.Agent == to {
		return *w, nil
	}
	for range 3 { // the receiver may change at the same time
		s, err := q.desk.State(ctx, to)
		if err != nil {
			return *w, err
		}
		had, place, revision := w.Agent, w.Place, w.Revision
		ok, err := q.offer(ctx, w, q.member(&s, w), presence.RouteNone)
		if err != nil {
			return *w, err
		}
		if ok {
			w.Started = true
			if place == Given {
				err = q.finish(ctx, had, w.On, revision)
			}
			return *w, err
		}
	}
	return *w, refuse(presence.ErrNotAllowed, "subject", to.String(), "it takes no work %s now", id)
}

func (q *Queue) find(id string) (*Work, error) {
	w := q.work[id]
	if w == nil {
		return nil, refuse(presence.ErrUnknown, "work", id, "the queue has none of that id")
	}
	return w, nil
}

func (q *Queue) finish(ctx context.Context, agent presence.Ref, on string, revision presence.Instant) error {
	return q.desk.Apply(ctx, presence.Event{Kind: presence.EventDone, Subject: agent, Load: presence.Load{On: on, N: 1}, Revision: revision})
}

// Start records that the agent has started: the work no longer moves to another
// agent by itself.
func (q *Queue) Start(id string) (Work, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	w, err := q.find(id)
	if err != nil {
		return Work{}, err
	}
	if w.Place != Given {
		return *w, refuse(presence.ErrInvalid, "work", id, "no agent has it")
	}
	w.Started = true
	return *w, nil
}

// Finish ends a piece of work. Its client stays with the agent for the time of
// the policy.
func (q *Queue) Finish(ctx context.Context, id string) (Work, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	w, err := q.find(id)
	if err != nil {
		return Work{}, err
	}
	if w.Place == Done {
		return *w, nil
	}
	if w.Place == Given {
		if err := q.finish(ctx, w.Agent, w.On, w.Revision); err != nil && !errors.Is(err, presence.ErrUnknown) {
			return *w, err
		}
	}
	q.release(w)
	w.Place, w.Since = Done, q.desk.Now()
	if a, ok := q.last[w.Client]; ok && a.work == w.ID {
		a.until = w.Since.Add(q.desk.Machine(w.Channel.Tenant).Policy().Work.Affinity)
		q.last[w.Client] = a
	}
	q.done = append(q.done, w.ID)
	for len(q.done) > q.opts.MaxDone {
		q.forget(q.done[0])
		q.done = q.done[1:]
	}
	q.tell(w)
	return *w, nil
}

// forget drops done work, and the affinity of its client if that has ended.
func (q *Queue) forget(id string) {
	if w := q.work[id]; w != nil {
		q.unbind(w)
		if q.latest[w.Client] == w {
			delete(q.latest, w.Client)
		}
		delete(q.work, id)
	}
}

// Message records that a client has written again. The client's open work stays
// with its agent. Done work is opened again, for the same agent while the
// client's affinity lasts.
func (q *Queue) Message(ctx context.Context, client string) (Work, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	latest := q.latest[client]
	switch {
	case latest == nil:
		return Work{}, refuse(presence.ErrUnknown, "client", client, "the queue has no work of it")
	case latest.Place == Given:
		latest.Started = true
		return *latest, nil
	case latest.Place == Waiting:
		return *latest, q.place(ctx, latest)
	}
	if err := q.open(latest.Channel); err != nil {
		return *latest, err
	}
	q.done = slices.DeleteFunc(q.done, func(id string) bool { return id == latest.ID })
	q.serial++
	latest.order, latest.Arrived, latest.Started, latest.To = q.serial, q.desk.Now(), false, presence.Ref{}
	q.wait(latest)
	err := q.place(ctx, latest)
	return *latest, err
}

// Get returns a piece of work.
func (q *Queue) Get(id string) (Work, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if w := q.work[id]; w != nil {
		return *w, true
	}
	return Work{}, false
}

// List returns the waiting work of a channel, in order of arrival.
func (q *Queue) List(channel presence.Channel) []Work { return copies(q, q.waiting, channel) }

// Of returns the work of an agent, in the order of giving.
func (q *Queue) Of(agent presence.Ref) []Work { return copies(q, q.given, agent) }

// copies returns copies of the work in a list of an index, which q guards.
func copies[K comparable](q *Queue, index map[K][]*Work, at K) []Work {
	q.mu.Lock()
	defer q.mu.Unlock()
	var list []Work
	for _, w := range index[at] {
		list = append(list, *w)
	}
	return list
}

// Taken returns the ids of the work that was last taken from an agent because
// the agent was kicked out or left.
func (q *Queue) Taken(agent presence.Ref) []string {
	q.mu.Lock()
	defer q.mu.Unlock()
	return slices.Clone(q.took[agent])
}

// Ranked returns the members of a channel in the order for offers of new work.
// The first n of them take work.
func (q *Queue) Ranked(ctx context.Context, channel presence.Channel, on string) (members []Member, n int, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	states, err := q.members(ctx, channel)
	if err != nil {
		return nil, 0, err
	}
	m := q.desk.Machine(channel.Tenant)
	for i := range states {
		members = append(members, MemberOf(m, &states[i], on))
	}
	return members, len(Candidates(members, m.Policy().Work.Order, q.turn[channel])), nil
}
