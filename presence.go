// Package presence decides who is there, who is idle, who wants to be left
// alone, who may see it, who may be given work, and whom a notification reaches.
//
// A [Tracker] is told what happens: connections open, are heard from and go;
// people touch the keyboard, choose a status, lose the network. From these
// inputs it derives each subject's status under a [Policy], and tells every
// watcher what its audience may see.
//
//	tracker, err := presence.New(nil)
//	go tracker.Run(ctx)
//	conn, err := tracker.Connect(ctx, presence.ID("ann"), presence.ConnectOptions{Login: true})
//	conn.Heartbeat()                                             // every 25 seconds
//	conn.Claim(ctx, presence.Claim{Status: "busy"})              // what ann chose
//	view, err := tracker.Get(ctx, presence.ID("ann"), presence.AudienceTeam)
//
// # Inputs are stored, the answer is derived
//
// Nothing stores a status as truth. Idleness and disconnection mask what was
// chosen and never change it, so that what comes back is what was chosen, also
// if that was changed meanwhile. The rules are a pure state machine, [Machine],
// whose [Machine.Step] takes a subject's state, an event and the time; the
// tracker owns the clock, the locks and the timers around it.
//
// # Order and delivery
//
// What one subject does is applied in the order in which the calls return. A
// [Watch] receives a snapshot and then every change in order. One that does not
// keep up is sent a new snapshot instead of what it missed; nobody waits for it.
//
// # Time
//
// Deadlines are met by [Tracker.Run]; reads are right even without it, because
// every read first processes what is due. With clock.NewMock, drive the tracker
// by hand: move the clock and call [Tracker.Sweep]. Prefer the real clock in a
// testing/synctest bubble where you can.
//
// # What outlives the process
//
// With [Options.Storage], what people chose and the journal of what happened
// are stored, and a choice is told to nobody before storage has it. Connections
// are never stored.
package presence

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"hash/maphash"
	"iter"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/benbjohnson/clock"
	"golang.org/x/sync/errgroup"

	"github.com/presence-go/presence/internal/ring"
)

// Options configures a [Tracker]. The zero value works.
type Options struct {
	// Policy is the policy of every tenant that has none of its own; nil means
	// [DefaultPolicy]. See [Tracker.SetPolicy].
	Policy *Policy
	// Storage keeps claims and the journal; nil keeps them in this process only.
	Storage Storage
	// Authorizer decides what actors may do; nil means [RoleAuthorizer].
	Authorizer Authorizer
	// AuthorizeEvery is how long an open watch may go on before the authorizer is
	// asked again. If it cannot tell, the watch goes on for two more such times and
	// is then suspended until it can. 0 means 5 minutes, negative never. Without an
	// Authorizer nobody is asked again, since its answers do not change.
	AuthorizeEvery time.Duration
	// Notifier delivers what passes the gate; nil delivers nothing.
	Notifier Notifier
	// Clock is the source of time; nil means the real one. The tracker calls
	// Now and Timer only.
	Clock clock.Clock
	// Logger receives what goes wrong in the background; nil discards it.
	Logger *slog.Logger
	// Observe is told every output of every subject, in the order of the
	// subject. It is called while the subject is locked: it must be quick and
	// must not call the tracker.
	Observe func(Ref, Output)
	// Node names this process in the connections it holds. Empty means "local".
	Node string

	// StorageTimeout bounds one call of storage, and so how long Connect waits for
	// what was chosen before and a claim for being stored. Erasing may take twelve
	// times as long, since a file may have to be written anew. 0 means 5s.
	StorageTimeout time.Duration
	// WatchBuffer is how many frames a watcher may lag before it is sent a
	// snapshot instead. 0 means 64.
	WatchBuffer int
	// Recall is how many frames each audience's stream of a channel is kept for,
	// while anybody watches it, so that watchers who come back are sent what they
	// missed and no snapshot. 0 means 32, negative none.
	Recall int
	// NotifyWorkers bounds the calls of the notifier under way at once. 0 means 16.
	NotifyWorkers int
	// JournalRows is how many rows of a subject's journal are kept in memory
	// where there is no storage. 0 means 1,000, negative none.
	JournalRows int
	// MaxSubjects, MaxChannels and MaxWatches bound what callers can make the
	// tracker remember. 0 means 4,000,000, 1,000,000 and 1,000,000.
	MaxSubjects int
	MaxChannels int
	MaxWatches  int
}

// Tracker drives the state machines of many subjects: it owns the clock, the
// locks, the timers and the storage. All its methods are safe for concurrent
// use and return an error wrapping [ErrClosed] after Close.
type Tracker struct {
	opts      Options
	log       *slog.Logger
	time      *timeline
	compact   *compactor
	deadlines deadlines
	journal   journal
	health    health
	openings  openings
	ready     readiness

	sweeping sync.Mutex // held while deadlines are processed; taken first
	sweep    struct {   // room for what is being processed
		numbers []uint32
		due     []due
		tidied  Instant
	}

	seed    maphash.Seed
	shards  [shardCount]shard
	count   atomic.Int64 // subjects
	tenants tenants
	erased  erasures
	rooms   rooms
	watches atomic.Int64

	history    bool        // rows are kept or stored
	nameless   bool        // nobody learns the names of transitions
	coalescing atomic.Bool // some policy that is or was in force holds changes back

	policing sync.Mutex   // held while a policy is put in force; taken before mu
	mu       sync.RWMutex // channels and grants; taken before a shard
	fallback *Machine
	channels map[Ref]*channel
	defining sync.Mutex // held while a policy is read and changed; taken first

	notifying notifying
	stop      context.CancelFunc
	stopped   context.Context
	closed    atomic.Bool
	running   atomic.Bool
}

// New returns a tracker. It reports every fault of the options together.
func New(opts *Options) (*Tracker, error) {
	var o Options
	if opts != nil {
		o = *opts
	}
	var faults []error
	atLeast := func(name string, v *int, byDefault, least int) {
		if *v < least {
			faults = append(faults, fmt.Errorf("presence: %w option %s: %d, at least %d is needed", ErrInvalid, name, *v, least))
		}
		if *v == 0 {
			*v = byDefault
		}
	}
	atLeast("WatchBuffer", &o.WatchBuffer, 64, 0)
	atLeast("NotifyWorkers", &o.NotifyWorkers, 16, 0)
	atLeast("MaxSubjects", &o.MaxSubjects, 4_000_000, 0)
	atLeast("MaxChannels", &o.MaxChannels, 1_000_000, 0)
	atLeast("MaxWatches", &o.MaxWatches, 1_000_000, 0)
	if o.JournalRows == 0 {
		o.JournalRows = 1000
	}
	if o.Recall == 0 {
		o.Recall = 32
	}
	if o.StorageTimeout < 0 {
		faults = append(faults, fmt.Errorf("presence: %w option StorageTimeout: %v is negative", ErrInvalid, o.StorageTimeout))
	}
	if o.StorageTimeout == 0 {
		o.StorageTimeout = 5 * time.Second
	}
	if o.Node == "" {
		o.Node = "local"
	} else if err := checkID(o.Node); err != nil {
		faults = append(faults, fmt.Errorf("presence: option Node: %w", err))
	}
	policy := DefaultPolicy()
	if o.Policy != nil {
		policy = *o.Policy
	}
	m, err := Compile(policy)
	if err != nil {
		faults = append(faults, err)
	}
	if err := errors.Join(faults...); err != nil {
		return nil, err
	}
	if o.Authorizer == nil {
		o.Authorizer = roleAuthorizer{}
		o.AuthorizeEvery = -1 // its answers never change
	}
	if o.AuthorizeEvery == 0 {
		o.AuthorizeEvery = 5 * time.Minute
	}
	if o.Clock == nil {
		o.Clock = clock.New()
	}
	t := &Tracker{
		opts: o, log: o.Logger, seed: maphash.MakeSeed(), time: newTimeline(o.Clock),
		fallback: m, channels: make(map[Ref]*channel),
	}
	t.coalescing.Store(m.holdsBack() > 0)
	t.history = o.Storage != nil || o.JournalRows >= 0
	t.nameless = o.Observe == nil && !t.history
	t.compact = newCompactor(t.time.origin)
	t.tenants.byName = make(map[string]*tenant)
	t.tenants.add("", m)
	t.sweep.numbers = make([]uint32, 0, 128)
	if t.log == nil {
		t.log = slog.New(slog.DiscardHandler)
	}
	t.deadlines.wake = make(chan struct{}, 1)
	t.journal.flushing, t.journal.begun, t.journal.full = make(chan struct{}, 1), make(chan struct{}, 1), make(chan struct{}, 1)
	t.journal.recent = ring.New[Ref, JournalRow](max(o.JournalRows, 0), 1_000_000)
	for i := range t.shards {
		sh := &t.shards[i]
		sh.view.Store(new(view))
		sh.held.t, sh.held.sh = t, sh
	}
	t.stopped, t.stop = context.WithCancel(context.Background())
	return t, nil
}

// Run meets deadlines as they fall due and writes to storage what was not
// written at once, until ctx is done or the tracker is closed. It returns the
// cause of the context's end, or nil after Close. A second Run beside it is
// refused.
func (t *Tracker) Run(ctx context.Context) error {
	if t.closed.Load() {
		return t.closedError()
	}
	if t.running.Swap(true) {
		return fmt.Errorf("presence: %w: Run is running already", ErrInvalid)
	}
	t.time.expect(3 * t.fallback.heartbeat)
	flush := make(chan struct{}, 1)
	ctx, cancel := context.WithCancelCause(ctx)
	var flushing sync.WaitGroup
	defer func() {
		cancel(nil)
		flushing.Wait()
		t.time.expect(0)
		t.running.Store(false)
	}()
	flushing.Go(func() { t.flushWhenTold(ctx, flush) })
	flushing.Go(func() { t.time.advance(ctx.Done()) })
	for {
		next := t.meetDeadlines()
		select {
		case flush <- struct{}{}:
		default: // it has not got to the last one yet
		}
		wait := t.fallback.heartbeat
		if next != 0 {
			wait = min(wait, next.Sub(t.time.now()))
		}
		if wait <= 0 {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			continue
		}
		timer := t.opts.Clock.Timer(wait)
		select {
		case <-timer.C:
		case <-t.deadlines.wake:
		case <-ctx.Done():
			timer.Stop()
			return context.Cause(ctx)
		case <-t.stopped.Done():
			timer.Stop()
			return nil
		}
		timer.Stop()
	}
}

// flushWhenTold writes to storage beside the deadlines, which must not wait for
// it: when it is told, when many rows wait, and a while after one began to.
func (t *Tracker) flushWhenTold(ctx context.Context, told <-chan struct{}) {
	timer := t.opts.Clock.Timer(flushWithin)
	defer timer.Stop()
	for {
		select {
		case <-t.journal.begun:
			timer.Reset(flushWithin)
			continue
		case <-timer.C:
		case <-t.journal.full:
		case <-told:
		case <-ctx.Done():
			return
		case <-t.stopped.Done():
			return
		}
		if err := t.flushStorage(ctx); err != nil && ctx.Err() == nil {
			t.log.Warn("presence: storage is behind", "error", err)
		}
	}
}

// Sweep processes every deadline that is due, in the order of time, and writes
// to storage what was not written at once. It returns the next deadline, or 0
// for none. Run calls it; a test that moves a mock clock calls it by hand. An
// error says that storage is behind: the deadlines have been processed.
func (t *Tracker) Sweep(ctx context.Context) (next Instant, err error) {
	if t.closed.Load() {
		return 0, t.closedError()
	}
	next = t.meetDeadlines()
	return next, t.flushStorage(ctx)
}

// Close ends every watch, cancels the notifications under way and waits for
// them to return, and writes what is left to storage, which it does not close.
// An error says what could not be written. A second Close changes nothing and
// says so with [ErrClosed].
func (t *Tracker) Close() error {
	t.notifying.mu.Lock() // no notification begins from then on
	before := t.closed.Swap(true)
	t.notifying.mu.Unlock()
	if before {
		return fmt.Errorf("presence: %w: the tracker has been closed before", ErrClosed)
	}
	t.time.setThreshold(0) // heartbeats are refused
	t.stop()
	for _, hub := range t.rooms.allHubs() {
		hub.endAll(t.closedError())
	}
	_ = t.notifying.group.Wait()
	if t.opts.Storage != nil {
		t.eachSubject(nil, t.noteInput)
	}
	ctx, cancel := context.WithTimeout(context.Background(), t.opts.StorageTimeout)
	defer cancel()
	return t.flushStorage(ctx)
}

func (t *Tracker) closedError() error {
	return fmt.Errorf("presence: %w: the tracker is closed", ErrClosed)
}

// ConnectOptions says how a connection is.
type ConnectOptions struct {
	// ID names the connection within its subject; empty means a new one. A
	// connection of the same id is replaced silently: that is how a client
	// resumes on a new socket.
	ID     string
	Device string // a class of device that the policy may have rules for, such as "mobile"
	Login  bool   // the person entered credentials: that is input, and policies may reset choices
	// IdleFor is how long ago the last input was, as the client knows it; 0 says
	// nothing. It counts only if it is longer ago than what is known here.
	IdleFor time.Duration
	Kind    Kind // of the subject; empty leaves it as it is, human at first
	// Node is the node that holds the connection; empty means Options.Node.
	Node string
}

// Connect notes a connection of a subject and returns the handle for what comes
// over it. Connecting is not input: a subject that was idle stays so. Where
// there is storage, it first loads what the subject chose before, and fails with
// [ErrUnavailable] if that cannot be done. Other errors wrap [ErrInvalid] (an
// id), [ErrDisabled], [ErrNotAllowed] (an id that has been erased) or [ErrLimit].
func (t *Tracker) Connect(ctx context.Context, subject Ref, opts ConnectOptions) (*Conn, error) {
	if opts.ID == "" {
		opts.ID = rand.Text()[:16]
	}
	e := Event{Kind: EventConnect, Subject: subject, Conn: opts.ID, Device: opts.Device, Node: cmp.Or(opts.Node, t.opts.Node), Age: NoAge, SubjectKind: opts.Kind}
	if opts.Login {
		e.Kind = EventLogin
	}
	if opts.IdleFor > 0 {
		e.Age = opts.IdleFor
	}
	who, err := t.subject(ctx, subject)
	if err != nil {
		return nil, err
	}
	var c *Conn
	err = t.apply(ctx, who, &e, func(h *held) {
		c = &Conn{t: t, who: who, id: opts.ID, from: originOf(opts.Device, opts.Node), epoch: h.state.Epoch}
		c.bind(h)
	})
	if err != nil {
		return nil, err
	}
	return c, nil
}

// Apply feeds an event to the state machine of its subject: what a handle does
// not say, such as a logout everywhere, an endpoint, or a subject disabled. An
// event of kind EventNodeDown, EventNodeUp or EventSuspended without a subject
// goes to every subject. It asks no authorizer: it is for the host.
func (t *Tracker) Apply(ctx context.Context, e Event) error {
	if t.closed.Load() {
		return t.closedError()
	}
	if e.Subject == (Ref{}) {
		switch e.Kind {
		case EventNodeDown, EventNodeUp, EventSuspended:
		default:
			return fmt.Errorf("presence: %w event: it names no subject, and is not one for all of them", ErrInvalid)
		}
		now := t.time.now()
		if e.Kind == EventSuspended && e.To < e.From {
			return fmt.Errorf("presence: %w suspension: it ends before it begins", ErrInvalid)
		}
		t.eachSubject(nil, func(h *held) {
			if err := h.step(&e, now); err != nil {
				t.log.Warn("presence: event for all", "subject", h.ref, "error", err)
			}
		})
		return nil
	}
	if e.Kind == EventConnect || e.Kind == EventLogin {
		return fmt.Errorf("presence: %w event: connections are made with Connect", ErrInvalid)
	}
	find := t.subject
	switch e.Kind {
	case EventHeartbeat, EventInput, EventFocus, EventVisible, EventDisconnect, EventEndClaim, EventOffer, EventDone, EventChallenge, EventAck,
		EventRequest, EventWithdraw, EventDecide: // nobody is remembered for having been refused
		find = t.known
	}
	who, err := find(ctx, e.Subject)
	if err != nil {
		return err
	}
	return t.apply(ctx, who, &e, nil)
}

// Heartbeat notes a sign of life of a subject over one of its connections, for
// those who have no handle of it. It is the same as [Conn.Heartbeat].
func (t *Tracker) Heartbeat(subject Ref, conn string) error {
	if tick := t.time.coarse.Load(); tick != 0 && t.noteHeartbeat(subject, conn, tick) {
		return nil
	}
	if tick, whole := t.time.whole(); whole && !t.closed.Load() && t.noteHeartbeat(subject, conn, tick) {
		return nil
	}
	return t.Apply(context.Background(), Event{Kind: EventHeartbeat, Subject: subject, Conn: conn, Age: NoAge})
}

// noteHeartbeat notes a heartbeat without a lock. It reports false where the
// state machine has to be asked.
func (t *Tracker) noteHeartbeat(subject Ref, conn string, tick uint64) bool {
	tn, ok := t.tenants.find(subject.Tenant)
	if !ok {
		return false
	}
	hash := t.hash(tn.id, subject.ID)
	_, sub := t.shards[hash%shardCount].view.Load().find(hash, subject.ID, tn.id)
	if sub == nil {
		return false
	}
	mark := sub.pulse.heard.Load() &^ tickMask
	if mark&pulsing == 0 || sub.pulse.input.Load()&^tickMask != t.connMark(conn) {
		return false
	}
	return note(&sub.pulse.heard, mark, tick, tn.force.Load().terms.lease)
}

// SetClaim sets what an actor wants a subject's status to be. The claim's
// source follows from the actor. With storage, it returns once the claim is
// stored. It returns what the actor then sees, which need not be the status
// claimed: a higher claim may be on top, or the subject not connected.
//
// Errors wrap [ErrUnknown] (a subject that nobody has heard of, a status that the
// policy does not have), [ErrNotAllowed], [ErrInvalid], [ErrDisabled], [ErrOffline]
// (see [Policy].SupervisorWhenOffline), [ErrLimit] or [ErrUnavailable]; nothing has
// changed then.
func (t *Tracker) SetClaim(ctx context.Context, actor Actor, subject Ref, c Claim) (View, error) {
	return t.claim(ctx, actor, subject, Event{Kind: EventSetClaim, Actor: actor, Claim: c}, claimAction(actor, subject), c.Status)
}

// EndClaim ends the claims of the actor's source, those of c.Key if it is
// given, on connection c.Conn if that is given. Ending what is not there
// changes nothing.
func (t *Tracker) EndClaim(ctx context.Context, actor Actor, subject Ref, c Claim) (View, error) {
	return t.claim(ctx, actor, subject, Event{Kind: EventEndClaim, Actor: actor, Claim: c}, claimAction(actor, subject), "")
}

func claimAction(actor Actor, subject Ref) Action {
	if actor.Ref == subject {
		return ActionClaim
	}
	return ActionClaimOther
}

func (t *Tracker) claim(ctx context.Context, actor Actor, subject Ref, e Event, action Action, detail string) (View, error) {
	if err := t.allow(ctx, actor, action, subject, detail); err != nil {
		return View{}, err
	}
	who, err := t.known(ctx, subject)
	if err != nil {
		return View{}, err
	}
	var view View
	err = t.apply(ctx, who, &e, func(h *held) { view = h.m.View(&h.state.Current, audienceFor(actor, subject)) })
	return view, err
}

// audienceFor is the audience that an actor belongs to when looking at a subject.
func audienceFor(actor Actor, subject Ref) Audience {
	if actor.Ref == subject && actor.Role != RoleVisitor {
		return AudienceSelf
	}
	return actor.Audience()
}

// Get returns what an audience sees of a subject now. One nobody has heard of
// is [StatusUnknown], which is not offline.
func (t *Tracker) Get(ctx context.Context, subject Ref, a Audience) (View, error) {
	view := View{Ref: subject, Status: StatusUnknown}
	err := t.read(ctx, subject, a, func(m *Machine, s *State) { view = m.View(&s.Current, a) })
	return view, err
}

// Explain says in sentences why a subject has the status that an audience sees.
func (t *Tracker) Explain(ctx context.Context, subject Ref, a Audience) ([]string, error) {
	lines := []string{StatusUnknown + ": nobody has heard of " + subject.String()}
	err := t.read(ctx, subject, a, func(m *Machine, s *State) { lines = m.Explain(s, a) })
	return lines, err
}

// MayReveal reports whether something that a subject does, such as typing or
// reading, may be shown to an audience. Ask before showing it: it would betray
// someone who hides. See [Machine.MayReveal].
func (t *Tracker) MayReveal(ctx context.Context, subject Ref, a Audience) (may bool, err error) {
	err = t.read(ctx, subject, a, func(m *Machine, s *State) { may = m.MayReveal(&s.Current, a) })
	return may, err
}

// State returns a copy of all that is known of a subject now, in which lists
// without elements are nil, or an error wrapping [ErrUnknown].
func (t *Tracker) State(ctx context.Context, subject Ref) (State, error) {
	var state State
	err := t.read(ctx, subject, AudienceSelf, func(_ *Machine, s *State) { state = s.own() })
	if err == nil && !state.Current.Known {
		err = fmt.Errorf("presence: %w subject %s", ErrUnknown, subject)
	}
	return state, err
}

// read calls f with the state of a subject as of now, if it is known.
func (t *Tracker) read(ctx context.Context, ref Ref, a Audience, f func(*Machine, *State)) error {
	if err := checkAudience(a); err != nil {
		return err
	}
	who, err := t.known(ctx, ref)
	if errors.Is(err, ErrUnknown) {
		return nil
	}
	if err != nil {
		return err
	}
	h := t.hold(who.n, ref)
	if h == nil {
		return nil
	}
	defer h.release()
	h.step(&Event{Kind: EventTick}, t.time.now())
	f(h.m, h.state)
	return nil
}

// Journal returns the rows of a subject's journal that q selects, in the order
// in which they were noted, fetching further pages as the caller goes on. After
// an error it ends. Without storage there are those in memory, see
// [Options].JournalRows; storage must be a [JournalReader]. A Limit of 0 is none.
func (t *Tracker) Journal(ctx context.Context, q JournalQuery) iter.Seq2[JournalRow, error] {
	return func(yield func(JournalRow, error) bool) {
		limit := q.Limit
		for n := 0; limit <= 0 || n < limit; {
			page := q
			page.Limit = 1000
			if limit > 0 {
				page.Limit = min(1000, limit-n)
			}
			rows, err := t.journalPage(ctx, page)
			if err != nil {
				yield(JournalRow{}, err)
				return
			}
			for _, row := range rows {
				if !yield(row, nil) {
					return
				}
			}
			n += len(rows)
			if len(rows) < page.Limit {
				return
			}
			q.After = rows[len(rows)-1].ID
		}
	}
}

func (t *Tracker) journalPage(ctx context.Context, q JournalQuery) ([]JournalRow, error) {
	if err := checkRef("subject", q.Subject); err != nil {
		return nil, err
	}
	if t.opts.Storage == nil {
		return q.Select(t.journal.rows(q.Subject)), nil
	}
	reader, ok := t.opts.Storage.(JournalReader)
	if !ok {
		return nil, fmt.Errorf("presence: %w: this storage cannot read its journal back", ErrUnavailable)
	}
	if err := t.flushStorage(ctx); err != nil {
		return nil, err
	}
	var rows []JournalRow
	err := t.callStorage(ctx, t.opts.StorageTimeout, func(ctx context.Context, _ Storage) (err error) {
		rows, err = reader.Journal(ctx, q)
		return err
	})
	return rows, err
}

// SetPolicy puts a policy in force for one tenant, from now on: nothing is
// changed back in time. The actor must be of that tenant. Policies are not
// stored: set them again when the process starts.
func (t *Tracker) SetPolicy(ctx context.Context, actor Actor, tenant string, p Policy) error {
	return t.setPolicy(ctx, actor, tenant, p, ActionPolicy, p.Name)
}

func (t *Tracker) setPolicy(ctx context.Context, actor Actor, tenant string, p Policy, action Action, detail string) error {
	m, err := Compile(p)
	if err != nil {
		return err
	}
	if tenant != "" {
		if err := checkID(tenant); err != nil {
			return fmt.Errorf("presence: tenant %w", err)
		}
	}
	if actor.Tenant != tenant {
		return fmt.Errorf("presence: %w: %s acts for another tenant", ErrNotAllowed, actor.Ref)
	}
	if err := t.allow(ctx, actor, action, Ref{Tenant: tenant}, detail); err != nil {
		return err
	}
	t.policing.Lock()
	defer t.policing.Unlock()
	tn, ok := t.tenants.need(tenant, t.fallback)
	if !ok {
		return fmt.Errorf("presence: %w: %d tenants are known already", ErrLimit, maxTenants)
	}
	before := tn.force.Load()
	if m.holdsBack() > 0 {
		t.coalescing.Store(true)
	}
	tn.force.Store(newForce(m, !before.parity, before.m, t.time.now()))
	t.eachSubject(tn, func(*held) {}) // whoever is held is told
	tn.force.Store(newForce(m, !before.parity, nil, 0))
	now := t.time.now()
	for _, hub := range t.rooms.allHubs() {
		if hub.ref().Tenant == tenant {
			hub.setMachine(m)
			hub.refresh(now)
		}
	}
	t.sendHeldBack(m, now)
	return nil
}

// Policy returns the policy in force for a tenant.
func (t *Tracker) Policy(tenant string) Policy { return t.machine(tenant).Policy() }

func (t *Tracker) machine(tenant string) *Machine {
	if tn, ok := t.tenants.find(tenant); ok {
		return tn.force.Load().m
	}
	return t.fallback
}

// Erase forgets a subject: its record and journal are deleted, watchers see it
// leave, its connections end. Its id is refused for a day, so that nobody takes
// it over by accident; only a hash is kept for that.
func (t *Tracker) Erase(ctx context.Context, ref Ref) error {
	who, err := t.known(ctx, ref)
	if err != nil {
		return err
	}
	// What is being written of it must not arrive after it has been deleted.
	if err := t.journal.lockFlush(ctx); err != nil {
		return err
	}
	defer t.journal.unlockFlush()
	if err := who.lockIntent(ctx); err != nil {
		return err
	}
	defer who.unlockIntent()
	if t.opts.Storage != nil {
		err := t.callStorage(ctx, 12*t.opts.StorageTimeout, func(ctx context.Context, s Storage) error { return s.Delete(ctx, ref) })
		if err != nil {
			return fmt.Errorf("presence: %w: erasing %s: %w", ErrUnavailable, ref, err)
		}
	}
	now := t.time.now()
	t.mu.Lock()
	defer t.mu.Unlock()
	t.erased.add(ref, now)
	h := t.hold(who.n, ref)
	if h == nil {
		return nil // somebody else was quicker
	}
	h.eachHub(func(hub *hub) {
		hub.remove(ref, now, fmt.Errorf("presence: %w: %s has been erased", ErrNotAllowed, ref))
	})
	t.sendHeldBack(h.m, now)
	for _, room := range h.grants() {
		t.rooms.at(room).revoke(h.n)
	}
	t.journal.forget(ref)
	h.drop()
	h.release()
	t.count.Add(-1)
	return nil
}

// erasures are the hashes of erased subjects, and until when they are refused.
type erasures struct {
	any  atomic.Bool
	mu   sync.Mutex // a leaf: nothing is locked under it
	seed maphash.Seed
	ends map[uint64]Instant
}

func (e *erasures) add(ref Ref, now Instant) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.ends == nil {
		e.seed, e.ends = maphash.MakeSeed(), make(map[uint64]Instant)
	}
	for hash, until := range e.ends {
		if until <= now {
			delete(e.ends, hash)
		}
	}
	e.ends[maphash.Comparable(e.seed, ref)] = now.Add(24 * time.Hour)
	e.any.Store(true)
}

// until returns until when a subject is refused, or 0.
func (e *erasures) until(ref Ref) Instant {
	if !e.any.Load() {
		return 0
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.ends[maphash.Comparable(e.seed, ref)]
}

// Gate decides whether a notification of one kind would reach a subject now,
// and says why. The channel is the one it concerns, empty for none. The decision
// can tell that someone hidden is there: it is for whoever delivers, never to be
// shown to a sender.
func (t *Tracker) Gate(ctx context.Context, subject Ref, kind, channel string) (Decision, error) {
	d := Decision{Verdict: Skip, Kind: kind, Reason: "nothing is known of the subject"}
	if err := checkID(kind); err != nil {
		return d, fmt.Errorf("presence: notification kind %w", err)
	}
	err := t.read(ctx, subject, AudienceSelf, func(m *Machine, s *State) { d = m.Gate(s, kind, channel) })
	return d, err
}

// Notify asks the gate and, if the notification reaches its subject now, hands
// it to the notifier without waiting for the delivery. It answers alike whether
// or not it does: what a sender is told must not betray who is there. At is set
// to the present instant. What is deferred is not kept: the host asks again. While
// Options.NotifyWorkers calls are under way it fails with [ErrLimit].
func (t *Tracker) Notify(ctx context.Context, n Notification) error {
	d, err := t.Gate(ctx, n.Subject, n.Kind, n.Channel)
	if err != nil || t.opts.Notifier == nil {
		return err
	}
	n.At = t.time.now()
	n.Payload = slices.Clone(n.Payload)
	t.notifying.mu.Lock()
	defer t.notifying.mu.Unlock()
	switch {
	case t.closed.Load():
		return t.closedError()
	case t.notifying.calls >= t.opts.NotifyWorkers: // said of what the gate holds back as well
		return fmt.Errorf("presence: %w: %d notifications are under way already; try again", ErrLimit, t.opts.NotifyWorkers)
	case d.Verdict != Deliver:
		return nil
	}
	t.notifying.calls++
	t.notifying.group.Go(func() error {
		defer t.notifying.done()
		ctx, cancel := context.WithTimeout(t.stopped, notifyTimeout)
		defer cancel()
		if err := t.opts.Notifier.Notify(ctx, n); err != nil {
			t.log.Warn("presence: notification", "id", n.ID, "subject", n.Subject, "error", err)
		}
		return nil
	})
	return nil
}

// notifying counts the calls of the notifier that are under way.
type notifying struct {
	mu    sync.Mutex // a leaf: nothing is locked under it
	calls int
	group errgroup.Group
}

func (n *notifying) done() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.calls--
}

// allow asks the authorizer, failing closed.
func (t *Tracker) allow(ctx context.Context, actor Actor, action Action, subject Ref, detail string) error {
	if t.closed.Load() {
		return t.closedError()
	}
	if actor.Role != "" && !slices.Contains(roles, actor.Role) {
		return fmt.Errorf("presence: %w role %q: allowed are %s", ErrInvalid, actor.Role, join(roles))
	}
	if actor.Tenant != subject.Tenant {
		return fmt.Errorf("presence: %w: %s acts for another tenant than that of %s", ErrNotAllowed, actor.Ref, subject)
	}
	asked, cancel := context.WithTimeout(ctx, authorizeTimeout)
	defer cancel()
	err := t.opts.Authorizer.Allow(asked, actor, action, subject, detail)
	if err == nil || errors.Is(err, ErrNotAllowed) {
		return err
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return fmt.Errorf("presence: %w: whether %s may %s cannot be told: %w", ErrUnavailable, actor.Ref, action, err)
}

// who names a subject in memory, whether or not it is held. Its record may be
// given up meanwhile.
type who struct {
	n      uint32
	ref    Ref
	intent chan struct{} // held by whoever has something stored, if there is storage
}

func (w who) lockIntent(ctx context.Context) error {
	if w.intent == nil {
		return nil
	}
	select {
	case w.intent <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (w who) unlockIntent() {
	if w.intent != nil {
		<-w.intent
	}
}

func (w who) gone() error {
	return fmt.Errorf("presence: %w subject %s: it has been erased", ErrUnknown, w.ref)
}

func (h *held) who() who {
	w := who{n: h.n, ref: h.ref}
	if h.more != nil {
		w.intent = h.more.intent
	}
	return w
}

// ref returns the name of the subject that has a number.
func (t *Tracker) ref(n uint32) Ref {
	sh, place := t.shardOf(n)
	v := sh.view.Load()
	name := v.seat(place).name.Load()
	return Ref{t.tenants.at(uint32(name >> 40)).name, v.id(name)}
}

// subject returns a subject, with what storage has of it, making room for it if
// nobody has heard of it.
func (t *Tracker) subject(ctx context.Context, ref Ref) (who, error) {
	return t.resident(ctx, ref, true)
}

// known returns a subject somebody has heard of, or an error wrapping ErrUnknown.
func (t *Tracker) known(ctx context.Context, ref Ref) (who, error) {
	return t.resident(ctx, ref, false)
}

func (t *Tracker) resident(ctx context.Context, ref Ref, create bool) (who, error) {
	if t.closed.Load() {
		return who{}, t.closedError()
	}
	if err := checkRef("subject", ref); err != nil {
		return who{}, err
	}
	if create && t.opts.Storage == nil {
		return t.admit(ref)
	}
	w, flags := t.find(ref)
	if flags&flagLoaded != 0 {
		if !create && flags&flagKnown == 0 {
			return who{}, fmt.Errorf("presence: %w subject %s", ErrUnknown, ref)
		}
		return w, nil
	}
	var records []Record
	if t.opts.Storage != nil {
		var err error
		if records, err = t.loadRecords(ctx, ref); err != nil {
			return who{}, err
		}
	}
	if !create && len(records) == 0 {
		// Asking for made-up ids must not make anybody remember them.
		return who{}, fmt.Errorf("presence: %w subject %s", ErrUnknown, ref)
	}
	w, err := t.admit(ref)
	if err != nil || t.opts.Storage == nil {
		return w, err
	}
	return w, t.restore(ctx, w, records)
}

// find returns a subject in memory and its flags, none where there is none.
func (t *Tracker) find(ref Ref) (who, uint8) {
	tn, ok := t.tenants.find(ref.Tenant)
	if !ok {
		return who{}, 0
	}
	hash := t.hash(tn.id, ref.ID)
	sh := &t.shards[hash%shardCount]
	sh.mu.Lock()
	defer sh.mu.Unlock()
	place, sub := sh.view.Load().find(hash, ref.ID, tn.id)
	if sub == nil {
		return who{}, 0
	}
	return sh.who(hash, place, sub, ref), sub.flags
}

func (sh *shard) who(hash uint64, place uint32, sub *subject, ref Ref) who {
	w := who{n: number(hash, place), ref: ref}
	if sub.flags&flagMore != 0 {
		w.intent = sh.more[place].intent
	}
	return w
}

// admit makes room for a subject.
func (t *Tracker) admit(ref Ref) (who, error) {
	full := func() error {
		if t.count.Load() < int64(t.opts.MaxSubjects) {
			return nil
		}
		return fmt.Errorf("presence: %w: %d subjects are known already", ErrLimit, t.opts.MaxSubjects)
	}
	tn, ok := t.tenants.find(ref.Tenant)
	if !ok {
		if err := full(); err != nil {
			return who{}, err
		}
		if tn, ok = t.tenants.need(ref.Tenant, t.fallback); !ok {
			return who{}, fmt.Errorf("presence: %w: %d tenants are known already", ErrLimit, maxTenants)
		}
	}
	hash := t.hash(tn.id, ref.ID)
	sh := &t.shards[hash%shardCount]
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if place, sub := sh.view.Load().find(hash, ref.ID, tn.id); sub != nil {
		return sh.who(hash, place, sub, ref), nil
	}
	if until := t.erased.until(ref); until != 0 && t.time.now() < until {
		return who{}, fmt.Errorf("presence: %w: %s has been erased; the id is free again at %s", ErrNotAllowed, ref, until)
	}
	if err := full(); err != nil {
		return who{}, err
	}
	place, sub, ok := t.add(sh, hash, tn, ref.ID)
	if !ok {
		return who{}, fmt.Errorf("presence: %w: too many subjects are known already", ErrLimit)
	}
	return sh.who(hash, place, sub, ref), nil
}

// loadRecords reads what is stored of subjects, where anything is.
func (t *Tracker) loadRecords(ctx context.Context, refs ...Ref) ([]Record, error) {
	var records []Record
	err := t.callStorage(ctx, t.opts.StorageTimeout, func(ctx context.Context, s Storage) (err error) {
		records, err = s.Load(ctx, refs...)
		return err
	})
	if err != nil {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		return nil, fmt.Errorf("presence: %w: what is stored of %s cannot be loaded: %w", ErrUnavailable, refs[0], err)
	}
	return slices.DeleteFunc(records, func(r Record) bool { return !slices.Contains(refs, r.Subject) }), nil
}

// restore takes over what was loaded of a subject, unless somebody else was
// quicker.
func (t *Tracker) restore(ctx context.Context, w who, records []Record) error {
	if err := w.lockIntent(ctx); err != nil {
		return err
	}
	defer w.unlockIntent()
	h := t.hold(w.n, w.ref)
	if h == nil {
		return w.gone()
	}
	defer h.release()
	if h.sub.flags&flagLoaded != 0 {
		return nil
	}
	for _, r := range records {
		state, err := r.State()
		if err != nil {
			return err
		}
		*h.state, h.more.stored, h.more.input = state, r.Revision, state.Input
		if err := h.step(&Event{Kind: EventRestart, Subject: h.ref}, t.time.now()); err != nil {
			return err
		}
	}
	h.sub.flags |= flagLoaded
	return nil
}

// apply feeds an event to a subject. What must be stored first is stored first:
// the event is tried on a copy, the copy's record is written, and only then does
// the copy become the state, so that storage is never waited for under the lock.
// If the event was accepted, it calls done while the subject is still held.
func (t *Tracker) apply(ctx context.Context, w who, e *Event, done func(*held)) error {
	now := t.time.now()
	e.Subject = w.ref
	var tried *trial
	if t.opts.Storage != nil {
		switch e.Kind {
		case EventSetClaim, EventEndClaim, EventLogin, EventLogout, EventEndpoint, EventDisable, EventEnable,
			EventRequest, EventWithdraw, EventDecide:
			if err := w.lockIntent(ctx); err != nil {
				return err
			}
			defer w.unlockIntent()
			var err error
			if tried, err = t.storeFirst(ctx, w, e, now); err != nil {
				return err
			}
		}
	}
	h := t.hold(w.n, w.ref)
	if h == nil {
		return w.gone()
	}
	defer h.release()
	if tried != nil && tried.steps == h.more.steps {
		*h.state = tried.state
		h.fold() // what was noted while it was being stored
		h.more.steps++
		h.stepped = true
		h.due, _ = h.m.Next(h.state)
		h.carryOut(tried.out)
		h.more.dirty = false // it has just been written
	} else {
		err := h.step(e, now)
		if tried != nil {
			h.markDirty() // something came in between; what was written is not quite what holds
		}
		if err != nil {
			return err
		}
	}
	if done != nil {
		done(h)
	}
	return nil
}

// trial is what an event did to a copy of a state.
type trial struct {
	steps uint64 // of the subject when the copy was taken
	state State
	out   []Output
}

// maxConflicts is how often in a row others may be quicker before a change is
// refused. It is not small: who has just written knows the revision and writes
// again sooner than who has to load it first, so that a burst of changes by
// another process can win many times in a row.
const maxConflicts = 64

// storeFirst tries an event on a copy of a subject's state and writes the
// record. It returns nil if there is nothing to be stored first. A conflict is
// settled by taking over what storage has and trying again.
func (t *Tracker) storeFirst(ctx context.Context, w who, e *Event, now Instant) (*trial, error) {
	for attempt := 0; ; attempt++ {
		h := t.hold(w.n, w.ref)
		if h == nil {
			return nil, w.gone()
		}
		h.tellBreaks()
		tried := &trial{steps: h.more.steps, state: h.state.own()}
		m, stored, dirty := h.m, h.more.stored, h.more.dirty
		h.release()
		var err error
		if tried.out, err = m.Step(&tried.state, *e, now, nil); err != nil {
			return nil, err
		}
		behind := dirty && e.Kind != EventLogin && e.Kind != EventLogout // who comes or goes waits for no arrears
		if !behind && !slices.ContainsFunc(tried.out, func(o Output) bool { return o.Kind == OutputPersist }) {
			return nil, nil
		}
		record, err := m.Record(&tried.state, stored+1)
		if err != nil {
			return nil, err
		}
		err = t.save(ctx, w, Write{Record: record, Expect: stored}, m.lastInput(&tried.state))
		switch {
		case err == nil:
			return tried, nil
		case errors.Is(err, ErrConflict) && attempt < maxConflicts:
			if err := t.takeOver(ctx, w); err != nil {
				return nil, err
			}
		default:
			return nil, fmt.Errorf("presence: %w: the change to %s cannot be stored: %w", ErrUnavailable, w.ref, err)
		}
	}
}

// save writes a record. The subject's intent is held.
func (t *Tracker) save(ctx context.Context, w who, write Write, input Instant) error {
	if err := t.callStorage(ctx, t.opts.StorageTimeout, func(ctx context.Context, s Storage) error { return s.Save(ctx, write) }); err != nil {
		if errors.Is(err, ErrConflict) {
			return err
		}
		if h := t.hold(w.n, w.ref); h != nil { // it may be stored all the same: what is known here is not to be relied on
			h.markDirty()
			h.release()
		}
		return err
	}
	if h := t.hold(w.n, w.ref); h != nil {
		h.more.stored, h.more.input, h.more.dirty = write.Record.Revision, input, false
		h.release()
	}
	return nil
}

// takeOver makes what storage has the truth after somebody else wrote it, or
// after a write of our own whose answer was lost. The intent is held.
func (t *Tracker) takeOver(ctx context.Context, w who) error {
	records, err := t.loadRecords(ctx, w.ref)
	if err != nil {
		return err
	}
	h := t.hold(w.n, w.ref)
	if h == nil {
		return w.gone()
	}
	defer h.release()
	r, revision := Record{Subject: w.ref, Data: emptyRecord}, uint64(0)
	if len(records) > 0 {
		r, revision = records[0], records[0].Revision
	} // otherwise it was erased elsewhere: what was chosen is not to be written anew
	if revision == h.more.stored {
		return nil
	}
	if err := h.step(&Event{Kind: EventRecord, Subject: w.ref, Record: &r}, t.time.now()); err != nil {
		return err
	}
	h.more.stored = revision
	return nil
}

// step runs the state machine and carries out what it says.
func (h *held) step(e *Event, now Instant) error {
	h.tellBreaks()
	if h.more != nil {
		h.more.steps++
	}
	h.stepped = true
	st := stepper{m: h.m, s: h.state, out: h.out[:0], nameless: h.t.nameless, timed: &h.timed}
	err := st.step(e, now)
	h.due = st.due
	h.carryOut(st.out)
	clear(st.out)
	h.out = st.out[:0]
	return err
}

// tellBreaks tells a subject how time was broken since it was last looked at:
// before anything else, since what was sent meanwhile has not been read yet.
func (h *held) tellBreaks() {
	if h.sub.told == h.t.time.breaks() {
		return
	}
	now, stood, from, to, behind := h.t.time.since(h.sub.told)
	h.sub.told = now
	if !h.state.Current.Known {
		return
	}
	if stood && h.state.Now <= from {
		h.step(&Event{Kind: EventSuspended, From: from, To: to}, to)
	}
	if behind > 0 {
		h.step(&Event{Kind: EventClock, Subject: h.ref, From: h.state.Now.Add(behind), To: h.state.Now}, h.state.Now)
	}
}

// follow tells a subject that another policy is in force.
func (h *held) follow(f *force) {
	h.sub.flags ^= flagParity
	h.m = f.before
	h.step(&Event{Kind: EventTick}, f.since)
	h.m, h.anew = f.m, true
	h.eachHub(func(hub *hub) { hub.setMachine(f.m) }) // said to watchers with what follows from it
	if h.state.Current.Known {
		h.step(&Event{Kind: EventPolicy, Subject: h.ref}, f.since)
	}
	if alone := h.alone(); alone != nil {
		alone.refresh(f.since)
	}
}

// carryOut does what the outputs of a step ask for.
func (h *held) carryOut(out []Output) {
	t := h.t
	for i := range out {
		o := &out[i]
		if t.opts.Observe != nil {
			t.opts.Observe(h.ref, *o)
		}
		switch o.Kind {
		case OutputPersist:
			h.markDirty()
		case OutputTransition, OutputUpdated:
			h.markDirty() // written with the next batch
			h.show(&o.Presence, o.Noticed)
			t.sendHeldBack(h.m, o.Noticed)
		}
		if c, ok := o.Told(h.ref); ok {
			h.eachHub(func(hub *hub) { hub.tell(c) })
		}
		if !t.history {
			continue
		}
		if row, ok := o.Row(); ok {
			row.Subject = h.ref
			t.journal.add(row, t.opts.Storage != nil)
		}
	}
}

// markDirty notes that storage is behind with a subject.
func (h *held) markDirty() {
	if h.t.opts.Storage != nil && !h.more.dirty {
		h.more.dirty = true
		h.t.journal.addDirty(h.n)
	}
}

// noteInput marks a subject whose last input storage does not have yet: without
// it, everybody who is idle would come back fresh after a restart.
func (t *Tracker) noteInput(h *held) {
	if h.m.lastInput(h.state) != h.more.input {
		h.markDirty()
	}
}
