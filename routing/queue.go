package routing

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
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
	// Belongs reports whether a subject is a member of a channel.
	Belongs(ctx context.Context, subject presence.Ref, channel presence.Channel) (bool, error)
	// State returns the current state of a subject, or an error wrapping
	// [presence.ErrUnknown]. The queue does not change the state.
	State(ctx context.Context, subject presence.Ref) (presence.State, error)
	// Apply applies an EventOffer or EventDone to its subject.
	Apply(ctx context.Context, e presence.Event) error
	// Machine returns the policy in force for a tenant.
	Machine(tenant string) *presence.Machine
	// Now returns the current instant. Clock returns the clock, by whose timers
	// [Queue.Run] waits.
	Now() presence.Instant
	Clock() presence.Clock
	// Observe calls f with every output about the agents, until stop is called:
	// those of their state machines, and OutputGranted, OutputRevoked and
	// OutputErased.
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
	// Weight is how much of an agent's capacity it takes: the N of the load that
	// the queue reports. 0 means 1.
	Weight int

	Place    Place
	Agent    presence.Ref     // the current or the last agent
	Started  bool             // it stays with its agent in any status
	Arrived  presence.Instant // at the queue, first or again
	Since    presence.Instant // in its place
	Revision presence.Instant // at which it was given
}

// Closing is what happens to work while its channel is closed.
type Closing string

// The rules for closing time. ClosingServe is the default.
const (
	ClosingServe  Closing = "serve"  // new work is refused; work that waits is handed out
	ClosingHold   Closing = "hold"   // new work is accepted; all that waits is held until the channel opens
	ClosingRefuse Closing = "refuse" // new work is refused; all that waits is held until the channel opens
)

// Options configures a Queue. The zero value works.
type Options struct {
	// Open reports whether a channel is open now; nil means always. next is when that
	// changes, or 0 if it is not known. Both are instants of the wall clock. Work that
	// an agent has continues to its end.
	Open func(channel presence.Channel, now presence.Instant) (open bool, next presence.Instant)
	// Closing rules what happens to other work while a channel is closed: to new
	// work, to done work whose client writes again, and to work that waits. Empty
	// means ClosingServe.
	Closing Closing
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
	serial  uint64
	work    map[string]*piece
	lines   map[need]*line // of waiting work
	heads   heads
	given   map[presence.Ref][]*piece // by agent, in order of giving
	offers  []*piece                  // given work that must be started in time, the most urgent first
	done    []*piece                  // in order of ending
	clients map[string]*clientWork
	turn    map[presence.Channel]presence.Ref
	took    map[presence.Ref][]string // the work last taken from each agent
	rules   map[string]ruleOf         // by tenant
	last    *view                     // what the last serve looked at; nil if it failed

	dirtyMu sync.Mutex
	dirty   map[presence.Ref]bool // the agents that have changed, and whether one has a new channel
	wake    chan struct{}
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
	o.Closing = cmp.Or(o.Closing, ClosingServe)
	if words := []string{string(ClosingServe), string(ClosingHold), string(ClosingRefuse)}; !slices.Contains(words, string(o.Closing)) {
		unknown := refuse(presence.ErrInvalid, "option", "Closing", "%q is no rule for closing time", string(o.Closing))
		unknown.Allowed = words
		faults = append(faults, unknown)
	}
	if err := errors.Join(faults...); err != nil {
		return nil, err
	}
	o.MaxWork, o.MaxDone = cmp.Or(o.MaxWork, 1_000_000), cmp.Or(o.MaxDone, 10_000)
	q := &Queue{
		desk: desk, opts: o, work: make(map[string]*piece), lines: make(map[need]*line), given: make(map[presence.Ref][]*piece),
		clients: make(map[string]*clientWork), turn: make(map[presence.Channel]presence.Ref), took: make(map[presence.Ref][]string),
		rules: make(map[string]ruleOf), last: new(view), dirty: make(map[presence.Ref]bool), wake: make(chan struct{}, 1),
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
	case presence.OutputTransition, presence.OutputUpdated, presence.OutputRequeue,
		presence.OutputGranted, presence.OutputRevoked, presence.OutputErased:
	default:
		return
	}
	q.dirtyMu.Lock()
	q.dirty[subject] = q.dirty[subject] || o.Kind == presence.OutputGranted
	q.dirtyMu.Unlock()
	q.rouse()
}

// rouse makes Run run a step.
func (q *Queue) rouse() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// retryAfter is how long Run waits after a step that failed.
const retryAfter = time.Second

// Run runs the steps that follow from changes and from time until ctx is done, and
// returns its cause. It tries a step that failed because of the desk again after a
// second, or at the next change.
func (q *Queue) Run(ctx context.Context) error {
	clock := q.desk.Clock()
	var failed error
	for {
		var due <-chan time.Time
		stop := func() {}
		wait, timed := retryAfter, true
		if failed == nil {
			wait, timed = q.wait()
		}
		if timed {
			timer := clock.Timer(wait)
			due, stop = timer.C, func() { timer.Stop() }
		}
		select {
		case <-ctx.Done():
			stop()
			return context.Cause(ctx)
		case <-q.wake:
		case <-due:
		}
		stop()
		failed = q.Step(ctx) // the changes stay recorded
	}
}

// wait returns the time until Next.
func (q *Queue) wait() (time.Duration, bool) {
	at, ok := q.Next()
	return at.Sub(q.desk.Now()), ok // a timer of the past ends at once
}

// Next returns the next instant at which Step has something to do if no agent
// changes, or false if no such instant is known. Then work that is offered must be
// started, or a channel opens whose work is held.
func (q *Queue) Next() (at presence.Instant, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	at = q.due()
	return at, at != 0
}

// due returns the instant of Next, or 0.
func (q *Queue) due() (at presence.Instant) {
	if q.last != nil {
		at = q.last.opens
	}
	if len(q.offers) > 0 && (at == 0 || q.offers[0].answer < at) {
		at = q.offers[0].answer
	}
	return at
}

// Step processes the changes so far, and what is due. It takes work from agents
// that were kicked out or have lost its channel. It passes on work that was meant
// for agents that stopped taking work, and offers that were not taken up. Then it
// hands out waiting work.
func (q *Queue) Step(ctx context.Context) error {
	for {
		q.dirtyMu.Lock()
		changed := q.dirty
		q.dirty = make(map[presence.Ref]bool)
		q.dirtyMu.Unlock()
		again, err := q.sync(ctx, changed)
		if err != nil {
			q.dirtyMu.Lock()
			for subject := range changed {
				q.dirty[subject] = true
			}
			q.dirtyMu.Unlock()
			return err
		}
		if !again {
			return nil
		}
	}
}

// Add adds a piece of work and hands out what waits. It returns the work with its
// place: an agent, or waiting if none is available. Adding work of a known id
// changes nothing. While the channel is closed it returns [presence.ErrNotAllowed],
// or with ClosingHold the work waits.
//
// Like the other calls that hand out work, Add returns the error of a desk that
// fails meanwhile. The call itself has been carried out then, and Run tries again.
func (q *Queue) Add(ctx context.Context, w Work) (Work, error) {
	w.Weight = cmp.Or(w.Weight, 1)
	if err := w.check(); err != nil {
		return Work{}, err
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if old, there := q.work[w.ID]; there {
		return old.Work, nil
	}
	if err := q.open(w.Channel); err != nil {
		return Work{}, err
	}
	if len(q.work)-len(q.done) >= q.opts.MaxWork {
		return Work{}, refuse(presence.ErrLimit, "work", w.ID, "%d pieces of work are not done yet", q.opts.MaxWork)
	}
	fresh := &piece{Work: Work{ID: w.ID, Channel: w.Channel, On: w.On, Client: w.Client, To: w.To, Weight: w.Weight}}
	q.work[w.ID] = fresh
	q.arrive(fresh)
	err := q.handOut(ctx)
	return fresh.Work, err
}

// arrive puts a piece at the end of the line.
func (q *Queue) arrive(w *piece) {
	q.serial++
	w.order, w.Arrived = q.serial, q.desk.Now()
	q.move(w, Waiting, w.Agent)
}

// maxWeight is the most work that a load counts.
const maxWeight = 1_000_000

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
	if w.Weight < 1 || w.Weight > maxWeight {
		return refuse(presence.ErrInvalid, "work", w.ID, "a weight is from 1 to %d, not %d", maxWeight, w.Weight)
	}
	if w.To != (presence.Ref{}) && w.To.Tenant != w.Channel.Tenant {
		return refuse(presence.ErrInvalid, "tenant", w.To.Tenant, "work of channel %s cannot be meant for %s", w.Channel, w.To)
	}
	return nil
}

// wall returns what the wall clock shows, which hours follow. The time of the desk is
// ahead of it once the clock was set back.
func (q *Queue) wall() presence.Instant { return presence.At(q.desk.Clock().Now()) }

// open returns ErrNotAllowed if a channel takes no new work now.
func (q *Queue) open(channel presence.Channel) error {
	if q.opts.Open == nil || q.opts.Closing == ClosingHold {
		return nil
	}
	open, next := q.opts.Open(channel, q.wall())
	if open {
		return nil
	}
	closed := refuse(presence.ErrNotAllowed, "channel", channel.String(), "it is closed")
	closed.Until = next
	return closed
}

// checkActor returns ErrNotAllowed if an actor may not decide about the work of a
// tenant.
func checkActor(by presence.Actor, tenant, what string) error {
	if by.Role == presence.RoleVisitor {
		return refuse(presence.ErrNotAllowed, "role", string(by.Role), "%s may not %s work", by, what)
	}
	if by.Subject.Tenant != tenant {
		return refuse(presence.ErrNotAllowed, "tenant", tenant, "%s may not %s work there", by, what)
	}
	return nil
}

// Assign gives a piece of work to a subject by an actor's choice. The subject's
// status does not prevent it, and the work counts as started. Assign returns
// [presence.ErrNotAllowed] for a visitor, for a subject that is no member of the
// work's channel, and for one that changes three times meanwhile.
func (q *Queue) Assign(ctx context.Context, by presence.Actor, id string, to presence.Ref) (Work, error) {
	if err := checkActor(by, to.Tenant, "assign"); err != nil {
		return Work{}, err
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
		return w.Work, nil
	}
	had := w.Work
	for range 3 { // the receiver may change at the same time
		s, err := q.desk.State(ctx, to)
		if err != nil {
			return w.Work, err
		}
		member, err := q.desk.Belongs(ctx, to, w.Channel)
		if err != nil {
			return w.Work, err
		}
		if !member {
			return w.Work, refuse(presence.ErrNotAllowed, "subject", to.String(), "it is no member of channel %s", w.Channel)
		}
		ok, err := q.offer(ctx, w, q.member(&s, w.On), presence.RouteNone)
		if err != nil {
			return w.Work, err
		}
		if !ok {
			continue
		}
		q.give(w, to, s.Current.Revision, true)
		if had.Place == Given {
			err = q.unload(ctx, &had, false)
		}
		err = errors.Join(err, q.handOut(ctx))
		return w.Work, err
	}
	return w.Work, refuse(presence.ErrNotAllowed, "subject", to.String(), "it takes no work %s now", id)
}

func (q *Queue) find(id string) (*piece, error) {
	w := q.work[id]
	if w == nil {
		return nil, refuse(presence.ErrUnknown, "work", id, "the queue has none of that id")
	}
	return w, nil
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
		return w.Work, refuse(presence.ErrInvalid, "work", id, "no agent has it")
	}
	q.begin(w)
	return w.Work, nil
}

// begin makes given work started.
func (q *Queue) begin(w *piece) {
	q.answered(w)
	w.Started, w.begun, w.declined = true, true, nil
}

// Decline passes work that an agent was given and has not started to the next
// agent. The queue passes over the agent until what that agent receives has
// changed, so that the work waits if no other agent takes it. Decline returns
// [presence.ErrStale] if another agent has the work by now, and
// [presence.ErrInvalid] if the agent has started it.
func (q *Queue) Decline(ctx context.Context, id string, agent presence.Ref) (Work, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	w, err := q.find(id)
	if err != nil {
		return Work{}, err
	}
	if w.Place != Given || w.Agent != agent {
		return w.Work, refuse(presence.ErrStale, "work", id, "%s does not have it", agent)
	}
	if w.begun {
		return w.Work, refuse(presence.ErrInvalid, "work", id, "%s has started it", agent)
	}
	if err := q.pass(ctx, w); err != nil {
		return w.Work, err
	}
	err = q.handOut(ctx)
	return w.Work, err
}

// Transfer moves work that is not done to another channel, by an actor's choice. An
// agent that has it loses it. The work keeps the place of its first arrival in the
// line, and is meant for no single subject any more. Transfer returns
// [presence.ErrNotAllowed] for a visitor, and while the other channel is closed,
// unless Options.Closing is ClosingHold.
func (q *Queue) Transfer(ctx context.Context, by presence.Actor, id string, to presence.Channel) (Work, error) {
	if err := checkActor(by, to.Tenant, "transfer"); err != nil {
		return Work{}, err
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	w, err := q.find(id)
	if err != nil {
		return Work{}, err
	}
	moved := w.Work
	moved.Channel, moved.To = to, presence.Ref{}
	if err := moved.check(); err != nil {
		return w.Work, err
	}
	switch {
	case w.Channel.Tenant != to.Tenant:
		return w.Work, refuse(presence.ErrNotAllowed, "tenant", to.Tenant, "work of channel %s cannot be transferred to %s", w.Channel, to)
	case w.Place == Done:
		return w.Work, refuse(presence.ErrInvalid, "work", id, "it is done")
	case w.Channel == to:
		return w.Work, nil
	}
	if err := q.open(to); err != nil {
		return w.Work, err
	}
	if w.Place == Given {
		if err := q.unload(ctx, &w.Work, false); err != nil {
			return w.Work, err
		}
	}
	w.Channel, w.To = to, presence.Ref{}
	q.release(w)
	err = q.handOut(ctx)
	return w.Work, err
}

// Finish ends a piece of work and hands out what waits. Its client stays with the
// agent for the time of the policy.
func (q *Queue) Finish(ctx context.Context, id string) (Work, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	w, err := q.find(id)
	if err != nil {
		return Work{}, err
	}
	if w.Place == Done {
		return w.Work, nil
	}
	if w.Place == Given {
		if err := q.unload(ctx, &w.Work, true); err != nil {
			return w.Work, err
		}
	}
	q.move(w, Done, w.Agent)
	for len(q.done) > q.opts.MaxDone {
		q.forget(q.done[0])
	}
	err = q.handOut(ctx)
	return w.Work, err
}

// Message records that a client has written again. It concerns one piece of the
// client's work: the one given last if an agent has some, else the one that has
// waited longest, else the one that ended last. Work that an agent has stays with
// that agent. Work that is done is opened again, for the same agent while the
// client's affinity lasts.
func (q *Queue) Message(ctx context.Context, client string) (Work, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	c := q.clients[client]
	if c == nil {
		return Work{}, refuse(presence.ErrUnknown, "client", client, "the queue has no work of it")
	}
	var w *piece
	switch {
	case len(c.given) > 0:
		w = c.given[len(c.given)-1]
		if w.answer == 0 { // a client does not answer for the agent
			q.begin(w)
		}
		return w.Work, nil
	case len(c.waiting) > 0:
		w = c.waiting[0]
	default:
		w = c.done[len(c.done)-1]
		if err := q.open(w.Channel); err != nil {
			return w.Work, err
		}
		w.To = presence.Ref{}
		w.Started, w.begun, w.declined = false, false, nil
		q.arrive(w)
	}
	err := q.handOut(ctx)
	return w.Work, err
}

// Get returns a piece of work.
func (q *Queue) Get(id string) (Work, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if w := q.work[id]; w != nil {
		return w.Work, true
	}
	return Work{}, false
}

// List returns the waiting work of a channel, in order of arrival.
func (q *Queue) List(channel presence.Channel) []Work {
	q.mu.Lock()
	defer q.mu.Unlock()
	var list []*piece
	for _, l := range q.lines {
		if l.channel == channel {
			list = append(list, l.pieces...)
		}
	}
	slices.SortFunc(list, byArrival)
	return copies(list)
}

// Of returns the work of an agent, in the order of giving.
func (q *Queue) Of(agent presence.Ref) []Work {
	q.mu.Lock()
	defer q.mu.Unlock()
	return copies(q.given[agent])
}

func copies(pieces []*piece) (list []Work) {
	for _, w := range pieces {
		list = append(list, w.Work)
	}
	return list
}

// Taken returns the ids of the work that was last taken from an agent because
// the agent was kicked out, left or lost the channel.
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
	members, err = q.view().list(ctx, lane{channel: channel, on: on})
	if err != nil {
		return nil, 0, err
	}
	return members, len(Candidates(members, q.rule(channel.Tenant).Order, q.turn[channel])), nil
}
