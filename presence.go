// Package presence decides who is there, who is idle, who wants to be left
// alone, who may see it, and whom a notification reaches.
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
	// asked again. If it cannot tell, the watch goes on for twice as long and is
	// then suspended until it can. 0 means 5 minutes, negative never.
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
	opts     Options
	log      *slog.Logger
	time     *timeline
	timers   timers
	journal  journal
	health   health
	ready    readiness
	openings openings

	sweeping sync.Mutex // held while deadlines are processed; taken first

	seed    maphash.Seed
	shards  [shardCount]shard
	count   atomic.Int64 // subjects
	watches atomic.Int64

	mu       sync.RWMutex // policies, grants, channels; taken before a subject's lock
	byTenant map[string]*Machine
	fallback *Machine
	grants   *Grants
	channels map[Ref]*channel
	defining sync.Mutex         // held while a policy is read and changed; taken first
	erased   map[uint64]Instant // hashes of erased subjects, and until when they are refused

	notifying *errgroup.Group
	stop      context.CancelFunc
	stopped   context.Context
	closed    atomic.Bool
	running   atomic.Bool
}

const shardCount = 64

type shard struct {
	mu       sync.RWMutex
	subjects map[Ref]*subject
}

// subject is one subject in memory.
type subject struct {
	ref    Ref
	intent chan struct{} // held by whoever has something stored; taken before mu
	loaded atomic.Bool

	mu       sync.Mutex
	m        *Machine
	state    State
	steps    uint64  // rises with every step
	stored   uint64  // the revision that storage holds
	input    Instant // the last input that storage holds
	dirty    bool    // storage is behind
	handles  []*Conn
	channels []*channel
	armed    Instant       // the deadline that the timers hold
	stood    uint32        // the breaks of time that have been told
	behind   time.Duration // of those, by how much the clock was set back
	erased   bool
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
		byTenant: make(map[string]*Machine), fallback: m, grants: NewGrants(), channels: make(map[Ref]*channel), erased: make(map[uint64]Instant),
		notifying: new(errgroup.Group),
	}
	if t.log == nil {
		t.log = slog.New(slog.DiscardHandler)
	}
	t.timers.wake = make(chan struct{}, 1)
	t.journal.flushing = make(chan struct{}, 1)
	t.journal.recent = ring.New[Ref, JournalRow](max(o.JournalRows, 0), 1_000_000)
	for i := range t.shards {
		t.shards[i].subjects = make(map[Ref]*subject)
	}
	t.notifying.SetLimit(o.NotifyWorkers)
	t.stopped, t.stop = context.WithCancel(context.Background())
	return t, nil
}

// Run meets deadlines as they fall due and writes to storage what was not
// written at once, until ctx is done or the tracker is closed. It returns the
// cause of the context's end, or nil after Close.
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
		case <-t.timers.wake:
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
// it.
func (t *Tracker) flushWhenTold(ctx context.Context, told <-chan struct{}) {
	for {
		select {
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

// meetDeadlines processes what is due, in the order of time. It waits for one
// that is doing so already: what is due must have been processed on return.
func (t *Tracker) meetDeadlines() (next Instant) {
	t.sweeping.Lock()
	defer t.sweeping.Unlock()
	now := t.time.now()
	for {
		sub, at, ok := t.timers.pop(now)
		if !ok {
			next = at
			break
		}
		sub.mu.Lock()
		if sub.armed == at {
			sub.armed = 0
			t.stepLocked(sub, Event{Kind: EventTick}, at)
		}
		sub.mu.Unlock()
	}
	if at := t.openAndClose(now); at != 0 && (next == 0 || at < next) {
		next = at
	}
	if at, ok := t.flushChannels(now); ok && (next == 0 || at < next) {
		next = at
	}
	return next
}

// Close ends every watch, waits for notifications under way and writes what is
// left to storage. A second Close changes nothing and says so with [ErrClosed].
func (t *Tracker) Close() error {
	if t.closed.Swap(true) {
		return fmt.Errorf("presence: %w: the tracker has been closed before", ErrClosed)
	}
	t.stop()
	t.mu.RLock()
	channels := make([]*channel, 0, len(t.channels))
	for _, ch := range t.channels {
		channels = append(channels, ch)
	}
	t.mu.RUnlock()
	t.eachSubject("", func(sub *subject) {
		sub.mu.Lock()
		channels = append(channels, sub.channels...)
		sub.mu.Unlock()
	})
	for _, ch := range channels {
		ch.endAll(t.closedError())
	}
	_ = t.notifying.Wait()
	if t.opts.Storage != nil {
		t.eachSubject("", t.noteInput)
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
	// IdleFor is how long ago the last input was, as the client knows it. It
	// counts only if it is longer ago than what is known here.
	IdleFor time.Duration
	Kind    Kind // of the subject; empty leaves it as it is, human at first
	// Node is the node that holds the connection; empty means Options.Node.
	Node string
}

// Connect notes a connection of a subject and returns the handle for what comes
// over it. Connecting is not input: a subject that was idle stays so. Where
// there is storage, it first loads what the subject chose before.
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
	sub, err := t.subject(ctx, subject)
	if err != nil {
		return nil, err
	}
	var c *Conn
	err = t.apply(ctx, sub, e, func() {
		c = &Conn{t: t, sub: sub, id: opts.ID, epoch: sub.state.Epoch}
		c.opts = ConnectOptions{ID: opts.ID, Device: opts.Device, Node: opts.Node}
		sub.handles = slices.DeleteFunc(sub.handles, func(h *Conn) bool {
			if h.id == c.id {
				h.live.Store(false)
				return true
			}
			return false
		})
		sub.handles = append(sub.handles, c)
		t.syncHandles(sub)
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
		t.eachSubject("", func(sub *subject) {
			sub.mu.Lock()
			defer sub.mu.Unlock()
			if err := t.stepLocked(sub, e, now); err != nil {
				t.log.Warn("presence: event for all", "subject", sub.ref, "error", err)
			}
		})
		return nil
	}
	if e.Kind == EventConnect || e.Kind == EventLogin {
		return fmt.Errorf("presence: %w event: connections are made with Connect", ErrInvalid)
	}
	sub, err := t.subject(ctx, e.Subject)
	if err != nil {
		return err
	}
	return t.apply(ctx, sub, e, nil)
}

// SetClaim sets what an actor wants a subject's status to be. The claim's
// source follows from the actor. With storage, it returns once the claim is
// stored. It returns what the actor then sees, which need not be the status
// claimed: a higher claim may be on top, or the subject not connected.
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
	sub, err := t.known(ctx, subject)
	if err != nil {
		return View{}, err
	}
	e.Subject = subject
	var view View
	err = t.apply(ctx, sub, e, func() { view = sub.m.View(&sub.state.Current, audienceFor(actor, subject)) })
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

// State returns a copy of all that is known of a subject now, or an error
// wrapping [ErrUnknown].
func (t *Tracker) State(ctx context.Context, subject Ref) (State, error) {
	var state State
	err := t.read(ctx, subject, AudienceSelf, func(_ *Machine, s *State) { state = s.Clone() })
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
	sub, err := t.known(ctx, ref)
	if errors.Is(err, ErrUnknown) {
		return nil
	}
	if err != nil {
		return err
	}
	sub.mu.Lock()
	defer sub.mu.Unlock()
	t.stepLocked(sub, Event{Kind: EventTick}, t.time.now())
	f(sub.m, &sub.state)
	return nil
}

// Journal returns the rows of a subject's journal that q selects, oldest first,
// fetching further pages as the caller goes on. After an error it ends.
func (t *Tracker) Journal(ctx context.Context, q JournalQuery) iter.Seq2[JournalRow, error] {
	return func(yield func(JournalRow, error) bool) {
		limit := q.Limit
		for n := 0; limit == 0 || n < limit; {
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
// changed back in time.
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
	now := t.time.now()
	t.mu.Lock()
	defer t.mu.Unlock()
	t.byTenant[tenant] = m
	t.eachSubject(tenant, func(sub *subject) {
		sub.mu.Lock()
		defer sub.mu.Unlock()
		if sub.ref.Tenant != tenant {
			return
		}
		t.stepLocked(sub, Event{Kind: EventTick}, now)
		sub.m = m
		for _, ch := range sub.channels {
			ch.setMachine(m) // said to watchers with what follows from it
		}
		if sub.state.Current.Known {
			t.stepLocked(sub, Event{Kind: EventPolicy, Subject: sub.ref}, now)
		}
		for _, ch := range sub.channels {
			if ch.owner != nil {
				ch.refresh(now)
			}
		}
	})
	for ref, ch := range t.channels {
		if ref.Tenant == tenant {
			ch.setMachine(m)
			ch.refresh(now)
		}
	}
	return nil
}

// Policy returns the policy in force for a tenant.
func (t *Tracker) Policy(tenant string) Policy { return t.machine(tenant).Policy() }

func (t *Tracker) machine(tenant string) *Machine {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.machineLocked(tenant)
}

func (t *Tracker) machineLocked(tenant string) *Machine {
	if m := t.byTenant[tenant]; m != nil {
		return m
	}
	return t.fallback
}

// Erase forgets a subject: its record and journal are deleted, watchers see it
// leave, its connections end. Its id is refused for a day, so that nobody takes
// it over by accident; only a hash is kept for that.
func (t *Tracker) Erase(ctx context.Context, ref Ref) error {
	sub, err := t.known(ctx, ref)
	if err != nil {
		return err
	}
	// What is being written of it must not arrive after it has been deleted.
	if err := t.journal.lockFlush(ctx); err != nil {
		return err
	}
	defer t.journal.unlockFlush()
	if err := sub.lockIntent(ctx); err != nil {
		return err
	}
	defer sub.unlockIntent()
	if t.opts.Storage != nil {
		err := t.callStorage(ctx, 12*t.opts.StorageTimeout, func(ctx context.Context, s Storage) error { return s.Delete(ctx, ref) })
		if err != nil {
			return fmt.Errorf("presence: %w: erasing %s: %w", ErrUnavailable, ref, err)
		}
	}
	now := t.time.now()
	t.mu.Lock()
	defer t.mu.Unlock()
	t.erased[maphash.Comparable(t.seed, ref)] = now.Add(24 * time.Hour)
	for hash, until := range t.erased {
		if until <= now {
			delete(t.erased, hash)
		}
	}
	t.grants.Forget(ref)
	sub.mu.Lock()
	defer sub.mu.Unlock()
	for _, ch := range sub.channels {
		ch.remove(ref, now, fmt.Errorf("presence: %w: %s has been erased", ErrNotAllowed, ref))
	}
	for _, h := range sub.handles {
		h.live.Store(false)
	}
	t.timers.disarm(sub)
	sub.erased = true
	sub.state, sub.handles, sub.channels, sub.dirty = State{}, nil, nil, false
	t.journal.forget(ref)
	sh := t.shard(ref)
	sh.mu.Lock()
	delete(sh.subjects, ref)
	sh.mu.Unlock()
	t.count.Add(-1)
	return nil
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
// or not it does: what a sender is told must not betray who is there.
func (t *Tracker) Notify(ctx context.Context, n Notification) error {
	d, err := t.Gate(ctx, n.Subject, n.Kind, n.Channel)
	if err != nil || d.Verdict != Deliver || t.opts.Notifier == nil {
		return err
	}
	n.At = t.time.now()
	n.Payload = slices.Clone(n.Payload)
	started := t.notifying.TryGo(func() error {
		ctx, cancel := context.WithTimeout(t.stopped, notifyTimeout)
		defer cancel()
		if err := t.opts.Notifier.Notify(ctx, n); err != nil {
			t.log.Warn("presence: notification", "id", n.ID, "subject", n.Subject, "error", err)
		}
		return nil
	})
	if !started {
		return fmt.Errorf("presence: %w: %d notifications are under way already; try again", ErrLimit, t.opts.NotifyWorkers)
	}
	return nil
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
	err := t.opts.Authorizer.Allow(ctx, actor, action, subject, detail)
	if err == nil || errors.Is(err, ErrNotAllowed) {
		return err
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return fmt.Errorf("presence: %w: whether %s may %s cannot be told: %w", ErrUnavailable, actor.Ref, action, err)
}

func (t *Tracker) shard(ref Ref) *shard {
	return &t.shards[maphash.Comparable(t.seed, ref)%shardCount]
}

func (t *Tracker) find(ref Ref) *subject {
	sh := t.shard(ref)
	sh.mu.RLock()
	defer sh.mu.RUnlock()
	return sh.subjects[ref]
}

// eachSubject calls f for the subjects in memory, of one tenant or, for "", of
// all, shard by shard, so that nobody waits for long.
func (t *Tracker) eachSubject(tenant string, f func(*subject)) {
	for i := range t.shards {
		sh := &t.shards[i]
		sh.mu.RLock()
		list := make([]*subject, 0, len(sh.subjects))
		for ref, sub := range sh.subjects {
			if tenant == "" || ref.Tenant == tenant {
				list = append(list, sub)
			}
		}
		sh.mu.RUnlock()
		for _, sub := range list {
			f(sub)
		}
	}
}

// subject returns a subject, with what storage has of it, making room for it if
// nobody has heard of it.
func (t *Tracker) subject(ctx context.Context, ref Ref) (*subject, error) {
	return t.resident(ctx, ref, true)
}

// known returns a subject somebody has heard of, or an error wrapping ErrUnknown.
func (t *Tracker) known(ctx context.Context, ref Ref) (*subject, error) {
	return t.resident(ctx, ref, false)
}

func (t *Tracker) resident(ctx context.Context, ref Ref, create bool) (*subject, error) {
	if t.closed.Load() {
		return nil, t.closedError()
	}
	if err := checkRef("subject", ref); err != nil {
		return nil, err
	}
	sub := t.find(ref)
	if sub != nil && sub.loaded.Load() {
		if !create && !sub.hasState() {
			return nil, fmt.Errorf("presence: %w subject %s", ErrUnknown, ref)
		}
		return sub, nil
	}
	var records []Record
	if t.opts.Storage != nil {
		var err error
		if records, err = t.loadRecords(ctx, ref); err != nil {
			return nil, err
		}
	}
	if !create && len(records) == 0 {
		// Asking for made-up ids must not make anybody remember them.
		return nil, fmt.Errorf("presence: %w subject %s", ErrUnknown, ref)
	}
	sub, err := t.admit(ref)
	if err != nil {
		return nil, err
	}
	return sub, t.restore(ctx, sub, records)
}

func (s *subject) hasState() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state.Current.Known
}

// admit makes room for a subject.
func (t *Tracker) admit(ref Ref) (*subject, error) {
	t.mu.RLock()
	m := t.machineLocked(ref.Tenant)
	until, erased := t.erased[maphash.Comparable(t.seed, ref)]
	t.mu.RUnlock()
	if erased && t.time.now() < until {
		return nil, fmt.Errorf("presence: %w: %s has been erased; the id is free again at %s", ErrNotAllowed, ref, until)
	}
	sh := t.shard(ref)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if sub := sh.subjects[ref]; sub != nil {
		return sub, nil
	}
	if t.count.Load() >= int64(t.opts.MaxSubjects) {
		return nil, fmt.Errorf("presence: %w: %d subjects are known already", ErrLimit, t.opts.MaxSubjects)
	}
	breaks := t.time.broken()
	sub := &subject{ref: ref, intent: make(chan struct{}, 1), m: m, stood: breaks.stood, behind: breaks.behind}
	sub.loaded.Store(t.opts.Storage == nil)
	sh.subjects[ref] = sub
	t.count.Add(1)
	return sub, nil
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
func (t *Tracker) restore(ctx context.Context, sub *subject, records []Record) error {
	if err := sub.lockIntent(ctx); err != nil {
		return err
	}
	defer sub.unlockIntent()
	sub.mu.Lock()
	defer sub.mu.Unlock()
	if sub.loaded.Load() {
		return nil
	}
	for _, r := range records {
		state, err := r.State()
		if err != nil {
			return err
		}
		sub.state, sub.stored, sub.input = state, r.Revision, state.Input
		if err := t.stepLocked(sub, Event{Kind: EventRestart, Subject: sub.ref}, t.time.now()); err != nil {
			return err
		}
	}
	sub.loaded.Store(true)
	return nil
}

func (s *subject) lockIntent(ctx context.Context) error {
	select {
	case s.intent <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (s *subject) unlockIntent() { <-s.intent }

// apply feeds an event to a subject. What must be stored first is stored first:
// the event is tried on a copy, the copy's record is written, and only then does
// the copy become the state, so that storage is never waited for under the lock.
// If the event was accepted, it calls done under the lock.
func (t *Tracker) apply(ctx context.Context, sub *subject, e Event, done func()) error {
	now := t.time.now()
	e.Subject = sub.ref
	var tried *trial
	if t.opts.Storage != nil {
		switch e.Kind {
		case EventSetClaim, EventEndClaim, EventLogin, EventLogout, EventEndpoint, EventDisable, EventEnable,
			EventRequest, EventWithdraw, EventDecide:
			if err := sub.lockIntent(ctx); err != nil {
				return err
			}
			defer sub.unlockIntent()
			var err error
			if tried, err = t.storeFirst(ctx, sub, e, now); err != nil {
				return err
			}
		}
	}
	sub.mu.Lock()
	defer sub.mu.Unlock()
	if sub.erased {
		return fmt.Errorf("presence: %w subject %s: it has been erased", ErrUnknown, sub.ref)
	}
	if tried != nil && tried.steps == sub.steps {
		sub.state = tried.state
		sub.steps++
		t.carryOutAll(sub, tried.out)
		sub.dirty = false // it has just been written
	} else {
		err := t.stepLocked(sub, e, now)
		if tried != nil {
			t.markDirty(sub) // something came in between; what was written is not quite what holds
		}
		if err != nil {
			return err
		}
	}
	if done != nil {
		done()
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
// refused.
const maxConflicts = 8

// storeFirst tries an event on a copy of a subject's state and writes the
// record. It returns nil if there is nothing to be stored first. A conflict is
// settled by taking over what storage has.
func (t *Tracker) storeFirst(ctx context.Context, sub *subject, e Event, now Instant) (*trial, error) {
	for attempt := 0; ; attempt++ {
		sub.mu.Lock()
		if sub.erased {
			sub.mu.Unlock()
			return nil, fmt.Errorf("presence: %w subject %s: it has been erased", ErrUnknown, sub.ref)
		}
		if breaks := t.time.broken(); breaks.stood != sub.stood || breaks.behind != sub.behind {
			t.tellBreaks(sub, breaks)
		}
		t.foldHandles(sub)
		tried := &trial{steps: sub.steps, state: sub.state.Clone()}
		m, stored, dirty := sub.m, sub.stored, sub.dirty
		sub.mu.Unlock()
		var err error
		if tried.out, err = m.Step(&tried.state, e, now, nil); err != nil {
			return nil, err
		}
		if !dirty && !slices.ContainsFunc(tried.out, func(o Output) bool { return o.Kind == OutputPersist }) {
			return nil, nil
		}
		record, err := m.Record(&tried.state, stored+1)
		if err != nil {
			return nil, err
		}
		err = t.save(ctx, sub, Write{Record: record, Expect: stored}, m.lastInput(&tried.state))
		switch {
		case err == nil:
			return tried, nil
		case errors.Is(err, ErrConflict) && attempt < maxConflicts:
			if err := t.takeOver(ctx, sub); err != nil {
				return nil, err
			}
		default:
			return nil, fmt.Errorf("presence: %w: the change to %s cannot be stored: %w", ErrUnavailable, sub.ref, err)
		}
	}
}

// save writes a record. The subject's intent is held.
func (t *Tracker) save(ctx context.Context, sub *subject, w Write, input Instant) error {
	if err := t.callStorage(ctx, t.opts.StorageTimeout, func(ctx context.Context, s Storage) error { return s.Save(ctx, w) }); err != nil {
		if !errors.Is(err, ErrConflict) { // it may be stored all the same: what is known here is not to be relied on
			sub.mu.Lock()
			t.markDirty(sub)
			sub.mu.Unlock()
		}
		return err
	}
	sub.mu.Lock()
	defer sub.mu.Unlock()
	sub.stored, sub.input, sub.dirty = w.Record.Revision, input, false
	return nil
}

// takeOver makes what storage has the truth after somebody else wrote it, or
// after a write of our own whose answer was lost. The intent is held.
func (t *Tracker) takeOver(ctx context.Context, sub *subject) error {
	records, err := t.loadRecords(ctx, sub.ref)
	if err != nil {
		return err
	}
	sub.mu.Lock()
	defer sub.mu.Unlock()
	r, revision := Record{Subject: sub.ref, Data: emptyRecord}, uint64(0)
	if len(records) > 0 {
		r, revision = records[0], records[0].Revision
	} // otherwise it was erased elsewhere: what was chosen is not to be written anew
	if revision == sub.stored || sub.erased {
		return nil
	}
	if err := t.stepLocked(sub, Event{Kind: EventRecord, Subject: sub.ref, Record: &r}, t.time.now()); err != nil {
		return err
	}
	sub.stored = revision
	return nil
}

// stepLocked runs the state machine and carries out what it says.
func (t *Tracker) stepLocked(sub *subject, e Event, now Instant) error {
	if breaks := t.time.broken(); breaks.stood != sub.stood || breaks.behind != sub.behind {
		t.tellBreaks(sub, breaks)
	}
	t.foldHandles(sub)
	sub.steps++
	buffer := outputs.Get().(*[]Output)
	out, err := sub.m.Step(&sub.state, e, now, (*buffer)[:0])
	t.carryOutAll(sub, out)
	clear(out)
	*buffer = out
	outputs.Put(buffer)
	return err
}

// outputs holds buffers for the outputs of one step.
var outputs = sync.Pool{New: func() any { return new([]Output) }}

// carryOutAll does what the outputs of a step ask for.
func (t *Tracker) carryOutAll(sub *subject, out []Output) {
	for i := range out {
		t.carryOut(sub, &out[i])
	}
	if len(sub.handles) > 0 {
		t.syncHandles(sub)
	}
	if at, ok := sub.m.Next(&sub.state); ok {
		t.timers.arm(sub, at)
	}
}

// tellBreaks tells a subject how time was broken since it was last looked at:
// before anything else, since what was sent meanwhile has not been read yet.
func (t *Tracker) tellBreaks(sub *subject, b breaks) {
	stood, behind := b.stood != sub.stood, b.behind-sub.behind
	sub.stood, sub.behind = b.stood, b.behind
	if !sub.state.Current.Known {
		return
	}
	if stood && sub.state.Now <= b.from {
		t.stepLocked(sub, Event{Kind: EventSuspended, From: b.from, To: b.to}, b.to)
	}
	if behind > 0 {
		t.stepLocked(sub, Event{Kind: EventClock, Subject: sub.ref, From: sub.state.Now.Add(behind), To: sub.state.Now}, sub.state.Now)
	}
}

// carryOut does what one output asks for.
func (t *Tracker) carryOut(sub *subject, o *Output) {
	if t.opts.Observe != nil {
		t.opts.Observe(sub.ref, *o)
	}
	switch o.Kind {
	case OutputPersist:
		t.markDirty(sub)
	case OutputTransition, OutputUpdated:
		t.markDirty(sub) // written with the next batch
		for _, ch := range sub.channels {
			ch.put(o.Presence, o.Noticed)
		}
	}
	if c, ok := o.Told(sub.ref); ok {
		for _, ch := range sub.channels {
			ch.tell(c)
		}
	}
	if row, ok := o.Row(); ok {
		row.Subject = sub.ref
		t.journal.add(row, t.opts.Storage != nil)
	}
}

// markDirty notes that storage is behind with a subject.
func (t *Tracker) markDirty(sub *subject) {
	if t.opts.Storage != nil && !sub.dirty && !sub.erased {
		sub.dirty = true
		t.journal.addDirty(sub)
	}
}

// noteInput marks a subject whose last input storage does not have yet: without
// it, everybody who is idle would come back fresh after a restart.
func (t *Tracker) noteInput(sub *subject) {
	sub.mu.Lock()
	defer sub.mu.Unlock()
	t.foldHandles(sub)
	if sub.m.lastInput(&sub.state) != sub.input {
		t.markDirty(sub)
	}
}

// foldHandles takes over what handles noted without the lock.
func (t *Tracker) foldHandles(sub *subject) {
	for _, h := range sub.handles {
		i, found := sub.state.conn(h.id)
		if !found {
			continue
		}
		c := &sub.state.Conns[i]
		if c.Epoch != h.epoch || c.Left != 0 {
			continue
		}
		c.Heard = max(c.Heard, Instant(h.heard.Load()))
		if input := h.input.Load(); input != h.folded {
			c.Input, h.folded = max(c.Input, Instant(input)), input
		}
	}
}

// syncHandles tells handles what they may note without the lock, and drops
// those whose connection is gone.
func (t *Tracker) syncHandles(sub *subject) {
	sub.handles = slices.DeleteFunc(sub.handles, func(h *Conn) bool {
		i, found := sub.state.conn(h.id)
		if !found || sub.state.Conns[i].Epoch != h.epoch {
			h.live.Store(false)
			return true
		}
		c := &sub.state.Conns[i]
		raise(&h.heard, int64(c.Heard))
		if h.input.CompareAndSwap(h.folded, int64(c.Input)) { // otherwise there was input since
			h.folded = int64(c.Input)
		}
		h.lease.Store(int64(sub.m.lease))
		h.patience.Store(int64(sub.m.patience()))
		h.live.Store(c.Left == 0)
		return false
	})
}
