// Package presence derives each subject's status from what happens, and shows
// each watcher what its audience may see. It also decides who may get work, and
// which notifications are delivered.
//
//	tracker, err := presence.New(nil)
//	go tracker.Run(ctx)
//	conn, err := tracker.Connect(ctx, presence.ID("ann"), presence.ConnectOptions{Login: true})
//	conn.Heartbeat()                                             // every 25 seconds
//	conn.Claim(ctx, presence.Claim{Status: "busy"})              // what ann chose
//	view, err := tracker.Get(ctx, presence.Agent(presence.ID("bob")), presence.ID("ann"))
//
// # Map: use
//
// An application needs these names.
//
//   - [New]: makes a [Tracker].
//   - [Tracker.Run], [Tracker.Sweep], [Tracker.Close]: meet deadlines, by the clock or by hand, and end.
//   - [Tracker.Connect]: opens a [Conn], the handle of one connection.
//   - [Tracker.Heartbeat]: a sign of life without a handle.
//   - [Tracker.SetClaim], [Tracker.EndClaim]: what an [Actor] wants a subject's status to be.
//   - [Tracker.Request], [Tracker.Withdraw], [Tracker.DecideRequest]: a status that needs approval.
//   - [Tracker.Get], [Tracker.GetMany], [Tracker.List], [Tracker.Explain]: what an actor sees, as a [View].
//   - [Tracker.GetAs], [Tracker.ListAs], [Tracker.ExplainAs]: what an [Audience] sees; for the host only.
//   - [Tracker.MayReveal]: whether typing or reading may be shown.
//   - [Tracker.Watch], [Tracker.WatchSubject]: open a [Watch], a stream of [Frame] values.
//   - [Tracker.AddMember], [Tracker.RemoveMember], [Tracker.SetMembers], [Tracker.Members], [Tracker.Belongs]: who belongs to a [Channel].
//   - [Tracker.Link], [Tracker.Join]: members by way of another channel; whether an actor is one.
//   - [Tracker.SetHours]: when a channel is open.
//   - [Tracker.SetLoad]: how much work a subject has.
//   - [Tracker.SetEndpoint], [Tracker.RemoveEndpoint]: reach without a connection.
//   - [Tracker.Logout], [Tracker.Disable], [Tracker.Enable], [Tracker.Erase]: end connections, presence, records.
//   - [Tracker.Notify], [Tracker.Gate]: deliver a [Notification], or ask whether it would be delivered.
//   - [Tracker.SetPolicy], [Tracker.Policy], [Tracker.AddStatus], [Tracker.RemoveStatus]: the rules of a tenant.
//   - [Tracker.Journal]: what happened, as [JournalRow] values.
//   - [Tracker.Stats], [Tracker.StatusCounts]: metrics.
//   - [Tracker.Now], [Tracker.Clock]: the time that the tracker uses.
//   - [Ref], [ID], [ChannelID]: names of subjects and channels.
//   - [Agent], [Supervisor], [Admin], [Visitor], [System]: actors by role.
//   - [Identity]: what authentication found; adapters ask for it.
//   - [Error]: a refusal, with what was given and what is allowed.
//   - [Instant], [At], [Count], [NewCount]: values in views.
//
// # Map: configure
//
//   - [Options]: what a tracker is made of; [Clock] is its time.
//   - [Policy], [DefaultPolicy], [ParsePolicy]: all rules of one product, as data.
//   - [Status], [IdleStage], [Grace], [LoginRule]: statuses, and what time and login do to them.
//   - [DeviceRule], [VirtualRule]: what counts as being there.
//   - [GroupRule], [WidgetRule], [DefaultViews]: what others see.
//   - [GateRow]: which notifications pass.
//   - [WorkRule], [Routing]: who gets work.
//   - [Class], [Source], [DefaultSources]: what a status means, and which claim wins.
//
// # Map: extend or drive
//
//   - [Storage], [JournalReader], [Record], [Write]: keep claims and the journal.
//   - [Authorizer], [Question], [RoleAuthorizer]: decide what actors may do.
//   - [Notifier], [Transport], [Hours]: deliver notifications and frames; open channels.
//   - [Tracker.Apply]: an [Event] that has no method.
//   - [Tracker.State], [Tracker.Machine]: all that is known of a subject; the rules in force.
//   - [Tracker.Observe]: every [Output], as it happens.
//   - [Tracker.Reload]: takes over what other processes stored.
//   - [Compile], [Machine], [State], [Presence]: the rules without a tracker.
//   - [NewRoster], [Roster]: the list of a channel without a tracker.
//
// # Inputs are stored, the status is derived
//
// No status is stored as truth. Idleness and disconnection mask the chosen
// status and never change it. So the choice returns when the mask ends, also if
// the choice changed meanwhile. The rules are a pure state machine: [Machine.Step]
// takes a subject's state, an event and the time. The tracker owns the clock, the
// locks and the timers around it.
//
// # Order and delivery
//
// The tracker applies the calls for one subject in the order in which they
// return. A [Watch] gets a snapshot, then every change in order. A watch that does
// not keep up gets a new snapshot instead of the changes it missed. No other call
// waits for it.
//
// # Time
//
// [Tracker.Run] meets the deadlines. Reads are right even without it, because
// every read first meets the deadlines that are due. With clock.NewMock, drive the
// tracker by hand: move the clock and call [Tracker.Sweep]. Prefer the real clock
// in a testing/synctest bubble where you can.
//
// # What outlives the process
//
// With [Options.Storage], choices and the journal are stored. A choice is stored
// before any watcher gets it. Connections are never stored.
package presence

import (
	"cmp"
	"context"
	"errors"
	"hash/maphash"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/benbjohnson/clock"
	"golang.org/x/sync/errgroup"

	"github.com/presence-go/presence/internal/ring"
	"github.com/presence-go/presence/internal/timeline"
)

// Options configures a [Tracker]. The zero value works.
type Options struct {
	// Policy is the policy of each tenant without its own; see [Tracker.SetPolicy].
	// Nil means [DefaultPolicy].
	Policy *Policy
	// Storage keeps claims and the journal. Nil keeps them in this process only.
	Storage Storage
	// Authorizer decides what actors may do; nil means [RoleAuthorizer].
	Authorizer Authorizer
	// AuthorizeEvery is the time after which the tracker asks the authorizer about an
	// open watch again. If the authorizer fails, the watch continues for two more
	// such times, and is then suspended until the authorizer answers. 0 means 5
	// minutes, negative never. Without an Authorizer the tracker never asks again.
	AuthorizeEvery time.Duration
	// Notifier delivers the notifications that pass the gate. Nil makes
	// [Tracker.Notify] return [ErrInvalid].
	Notifier Notifier
	// Clock is the source of time; nil means the real one.
	Clock Clock
	// Logger gets the errors of background work; nil discards them.
	Logger *slog.Logger
	// Node names this process in the connections it holds. Empty means "local".
	Node string

	// StorageTimeout limits one call of storage, and so the time that Connect waits
	// for earlier choices, or that a claim waits to be stored. Erase may take twelve
	// times as long, since storage may rewrite a file. 0 means 5s.
	StorageTimeout time.Duration
	// WatchBuffer is the number of frames that wait for one watch. One more, and the
	// watch gets a snapshot instead. 0 means 64.
	WatchBuffer int
	// ReplayFrames is the number of frames kept per channel and audience while it is
	// watched. A watcher that reconnects gets the frames it missed instead of a
	// snapshot. 0 means 32, negative none.
	ReplayFrames int
	// NotifyWorkers limits the calls of the notifier at one time. 0 means 16.
	NotifyWorkers int
	// JournalRows is the number of transitions per subject kept in memory without
	// storage, and of other journal rows. 0 means 1,000, negative none.
	JournalRows int
	// MaxSubjects, MaxChannels and MaxWatches limit what callers can make the
	// tracker remember. A call that would exceed one returns [ErrLimit]. 0 means
	// 4,000,000, 1,000,000 and 1,000,000.
	MaxSubjects int
	MaxChannels int
	MaxWatches  int
}

// Clock is a source of time. The clocks of github.com/benbjohnson/clock have its
// methods. A fake embeds a *clock.Mock and can override Now. Call [Tracker.Sweep]
// after moving it.
type Clock interface {
	Now() time.Time
	// Timer returns a timer that fires once, when d has passed. The tracker makes
	// a new timer for each wait, stops it, and never resets it.
	Timer(d time.Duration) *clock.Timer
}

// The locks of a tracker. A goroutine takes a lock before those to its right:
//
//	defining -> policing           -> mu -> shard -> hub -> watch
//	sweeping                       -> mu -> shard -> hub -> watch
//	flushing -> a write lock       -> mu -> shard -> hub -> watch
//
//	lock                guards
//	defining            AddStatus and RemoveStatus: reading a policy until the changed one is in force
//	policing            putting a policy in force: subjects know of two policies at most
//	sweeping            meeting deadlines in the order of time, and Tracker.sweep
//	journal.flushing    writing the backlog and the rows: one call at a time; Erase takes it as well
//	extra.writing       a subject's write lock: only its holder stores the subject's record
//	mu                  channels, members, links
//	shard.mu            the subjects of a shard: records, index, the loaded subject
//	channelHub.mu       a roster, its watchers, its hours
//	Watch.mu            the frames that wait for one watcher
//
// A goroutine holds one shard, one hub and one watch at a time. It waits for
// storage, an authorizer or a notifier only with defining, flushing and write
// locks. It waits for flushing and write locks without mu and without a shard: the
// backlog only tries the write locks of loaded subjects. Every other lock is a
// leaf: its holder takes no lock. Heartbeats take none, see pulse.

// Tracker drives the state machines of many subjects. It owns their locks and
// timers. All methods are safe for concurrent use. After Close, a method that
// would change, wait or ask returns [ErrClosed].
type Tracker struct {
	opts      Options
	log       *slog.Logger
	time      *timeline.Timeline[Instant]
	compact   *compactor
	deadlines deadlines
	journal   journal
	health    health
	counts    trackerCounts
	observers observers
	openings  openings
	ready     readiness

	sweeping sync.Mutex
	sweep    struct { // room for what is being processed
		numbers []uint32
		due     []due
		tidied  Instant
	}

	seed         maphash.Seed
	shards       [shardCount]shard
	count        atomic.Int64 // subjects
	tenants      tenants
	erased       erasures
	channelTable channelTable
	watches      atomic.Int64

	history    bool        // rows are kept or stored
	coalescing atomic.Bool // some policy that is or was in force holds changes back

	policing sync.Mutex
	mu       sync.RWMutex
	fallback *Machine
	channels map[Channel]*channelEntry
	defining sync.Mutex

	notifying notifying
	tasks     tasks
	stop      context.CancelFunc
	stopped   context.Context
	closed    atomic.Bool
	running   atomic.Bool
	warned    atomic.Bool // that deadlines are met late
}

// New returns a tracker; nil options mean the zero options. Run [Tracker.Run]
// beside it. New returns every fault of the options and of their policy together.
func New(opts *Options) (*Tracker, error) {
	var o Options
	if opts != nil {
		o = *opts
	}
	m, err := o.complete()
	if err != nil {
		return nil, err
	}
	t := &Tracker{
		opts: o, log: o.Logger, seed: maphash.MakeSeed(), time: timeline.New(o.Clock, At),
		fallback: m, channels: make(map[Channel]*channelEntry),
	}
	t.coalescing.Store(m.coalesces() > 0)
	t.history = o.Storage != nil || o.JournalRows >= 0
	t.compact = newCompactor(t.time.Origin())
	t.tenants.byName = make(map[string]*tenantEntry)
	t.tenants.add("", m)
	t.sweep.numbers = make([]uint32, 0, 128)
	t.deadlines.wake = make(chan struct{}, 1)
	t.journal.flushing, t.journal.begun, t.journal.full = make(chan struct{}, 1), make(chan struct{}, 1), make(chan struct{}, 1)
	t.journal.recent = ring.New[Ref, JournalRow](max(o.JournalRows, 0), 1_000_000)
	for i := range t.shards {
		sh := &t.shards[i]
		sh.view.Store(new(shardView))
		sh.loaded.t, sh.loaded.sh = t, sh
	}
	t.stopped, t.stop = context.WithCancel(context.Background())
	return t, nil
}

// complete sets the defaults and compiles the policy. It returns all faults.
func (o *Options) complete() (*Machine, error) {
	var faults []error
	fault := func(name string, cause error, format string, args ...any) {
		faults = append(faults, refuse(ErrInvalid, "option", name, format, args...).because(cause))
	}
	for _, option := range []struct {
		name      string
		value     *int
		byDefault int
		negative  bool // is allowed
	}{
		{"WatchBuffer", &o.WatchBuffer, 64, false},
		{"NotifyWorkers", &o.NotifyWorkers, 16, false},
		{"MaxSubjects", &o.MaxSubjects, 4_000_000, false},
		{"MaxChannels", &o.MaxChannels, 1_000_000, false},
		{"MaxWatches", &o.MaxWatches, 1_000_000, false},
		{"JournalRows", &o.JournalRows, 1000, true},
		{"ReplayFrames", &o.ReplayFrames, 32, true},
	} {
		if *option.value < 0 && !option.negative {
			fault(option.name, nil, "%d is less than 0", *option.value)
		}
		*option.value = cmp.Or(*option.value, option.byDefault)
	}
	if o.StorageTimeout < 0 {
		fault("StorageTimeout", nil, "%v is negative", o.StorageTimeout)
	}
	o.StorageTimeout = cmp.Or(o.StorageTimeout, 5*time.Second)
	o.Node = cmp.Or(o.Node, "local")
	if err := checkID("node", o.Node); err != nil {
		fault("Node", err, "it is no id")
	}
	if o.Authorizer == nil {
		o.Authorizer = RoleAuthorizer()
		o.AuthorizeEvery = -1 // its answers never change
	}
	o.AuthorizeEvery = cmp.Or(o.AuthorizeEvery, 5*time.Minute)
	if o.Clock == nil {
		o.Clock = clock.New()
	}
	o.Logger = cmp.Or(o.Logger, slog.New(slog.DiscardHandler))
	policy := DefaultPolicy()
	if o.Policy != nil {
		policy = *o.Policy
	}
	m, err := Compile(policy)
	return m, errors.Join(append(faults, err)...)
}

// Now returns the time by the tracker's clock. It does not go back when the wall
// clock is set back. While many heartbeats arrive it is exact to a millisecond.
func (t *Tracker) Now() Instant {
	if tick := t.time.Coarse(); tick != 0 {
		return t.time.Instant(tick)
	}
	return t.time.Now()
}

// Run meets deadlines when they are due, and writes to storage what was not
// written at once. It returns the cause of ctx when ctx is done, and nil after
// Close. End ctx after the connections have left, so that their leaving is stored.
// It returns [ErrInvalid] while another Run is active.
func (t *Tracker) Run(ctx context.Context) error {
	if t.closed.Load() {
		return t.closedError()
	}
	if t.running.Swap(true) {
		return refuse(ErrInvalid, "tracker", "", "it runs already")
	}
	t.time.Expect(3 * t.fallback.heartbeat)
	flush := make(chan struct{}, 1)
	ctx, cancel := context.WithCancelCause(ctx)
	var flushing sync.WaitGroup
	defer func() {
		cancel(nil)
		flushing.Wait()
		t.time.Expect(0)
		t.running.Store(false)
	}()
	flushing.Go(func() { t.flushWhenAsked(ctx, flush) })
	flushing.Go(func() { t.time.Advance(ctx.Done()) })
	for {
		next := t.meetDeadlines()
		select {
		case flush <- struct{}{}:
		default: // it has not got to the last one yet
		}
		wait := t.fallback.heartbeat
		if next != 0 {
			wait = min(wait, next.Sub(t.time.Now()))
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

// Sweep meets every deadline that is due, in the order of time, and writes to
// storage what was not written at once. It returns the next deadline, or 0 for
// none. Call it in a test that moves a mock clock; otherwise use Run. It returns
// [ErrUnavailable] if storage is behind: the deadlines have been met.
func (t *Tracker) Sweep(ctx context.Context) (next Instant, err error) {
	if t.closed.Load() {
		return 0, t.closedError()
	}
	next = t.meetDeadlines()
	return next, t.flushStorage(ctx)
}

// Close ends every watch, cancels the calls of the notifier and waits for them. It
// then writes what is left to storage, for at most [Options].StorageTimeout. It
// does not close storage. Close returns [ErrUnavailable] if something could not be
// written, and [ErrClosed] if the tracker is closed already.
func (t *Tracker) Close() error {
	if t.closed.Swap(true) {
		return t.closedError()
	}
	t.time.Stop() // heartbeats are refused
	t.stop()
	for _, hub := range t.channelTable.allHubs() {
		hub.endAll(t.closedError())
	}
	t.tasks.close()
	if t.opts.Storage != nil {
		t.eachSubject(nil, t.noteInput)
	}
	ctx, cancel := context.WithTimeout(context.Background(), t.opts.StorageTimeout)
	defer cancel()
	return t.flushStorage(ctx)
}

// Clock returns the clock of the tracker.
func (t *Tracker) Clock() Clock { return t.opts.Clock }

func (t *Tracker) closedError() error {
	return refuse(ErrClosed, "tracker", "", "")
}

// SetClaim sets what an actor wants a subject's status to be. The source of the
// claim follows from the actor. With storage, SetClaim returns once the claim is
// stored. It returns what the actor then sees. That is another status than the
// claimed one if a higher claim is on top or the subject is not connected.
//
// It returns [ErrUnknown] for an unknown subject or status, and [ErrNotAllowed],
// [ErrInvalid], [ErrDisabled], [ErrOffline] (see [Policy].SupervisorWhenOffline),
// [ErrLimit] or [ErrUnavailable]. Nothing has changed then.
func (t *Tracker) SetClaim(ctx context.Context, by Actor, subject Ref, c Claim) (View, error) {
	return t.claim(ctx, Question{Action: claimAction(by, subject), Status: c.Status}, Event{Kind: EventSetClaim, Actor: by, Subject: subject, Claim: c})
}

// EndClaim ends the claims of the actor's source. Key, Conn and ID of c, if given,
// restrict it to the claims of that key, connection or id. A pending claim ends if it
// is one of them. Requests stay open. EndClaim changes nothing if no
// claim matches. It returns the errors of [Tracker.SetClaim].
func (t *Tracker) EndClaim(ctx context.Context, by Actor, subject Ref, c Claim) (View, error) {
	return t.claim(ctx, Question{Action: claimAction(by, subject)}, Event{Kind: EventEndClaim, Actor: by, Subject: subject, Claim: c})
}

func claimAction(by Actor, subject Ref) Action {
	if by.Subject == subject {
		return ActionClaim
	}
	return ActionClaimOther
}

// claim asks a question about the subject of an event and applies the event.
func (t *Tracker) claim(ctx context.Context, q Question, e Event) (View, error) {
	q.Actor, q.Subject = e.Actor, e.Subject
	if err := t.allow(ctx, q); err != nil {
		return View{}, err
	}
	who, err := t.known(ctx, e.Subject)
	if err != nil {
		return View{}, err
	}
	var v View
	err = t.apply(ctx, who, &e, func(h *loaded) { v = h.m.View(&h.state.Current, audienceFor(q.Actor, q.Subject)) })
	return v, err
}

// audienceFor is the audience that an actor belongs to when looking at a subject.
func audienceFor(by Actor, subject Ref) Audience {
	if by.Subject == subject && by.Role != RoleVisitor {
		return AudienceSelf
	}
	return by.Audience()
}

// Get returns what an actor sees of a subject now. The status is [StatusUnknown]
// if nothing is known of the subject, and if the authorizer refuses, so that a
// refusal does not reveal whether the subject exists. It returns [ErrNotAllowed]
// to an actor of another tenant, [ErrInvalid] for a faulty id or role, and
// [ErrUnavailable] if the authorizer or storage fails.
func (t *Tracker) Get(ctx context.Context, by Actor, subject Ref) (View, error) {
	refused, err := t.maySee(ctx, by, subject)
	if err != nil {
		return unknownView(subject), err
	}
	v, err := t.GetAs(ctx, audienceFor(by, subject), subject)
	if refused {
		v = unknownView(subject)
	}
	return v, err
}

// maxMany is how many subjects GetMany takes.
const maxMany = 500

// GetMany returns what an actor sees of several subjects, 500 at most, in the
// order given. It answers for each as [Tracker.Get] does, and loads what is
// missing with one call of storage. It returns [ErrLimit] for more subjects, and
// [ErrUnavailable] and no view if the authorizer fails for one of them.
func (t *Tracker) GetMany(ctx context.Context, by Actor, subjects ...Ref) ([]View, error) {
	if len(subjects) > maxMany {
		return nil, refuse(ErrLimit, "subject", "", "%d are given, at most %d are allowed", len(subjects), maxMany)
	}
	refused := make([]bool, len(subjects))
	for i, subject := range subjects {
		var err error
		if refused[i], err = t.maySee(ctx, by, subject); err != nil {
			return nil, err
		}
	}
	if err := t.loadMissing(ctx, subjects); err != nil {
		return nil, err
	}
	views := make([]View, len(subjects))
	for i, subject := range subjects {
		views[i] = unknownView(subject)
		if who, flags := t.find(subject); flags&flagLoaded != 0 && !refused[i] {
			t.readLoaded(who, func(m *Machine, s *State) { views[i] = m.View(&s.Current, audienceFor(by, subject)) })
		}
	}
	return views, nil
}

// GetAs returns what an audience sees of a subject now. The status is
// [StatusUnknown], which is not offline, if nothing is known of the subject.
// GetAs asks no authorizer: it is for the host. It returns [ErrInvalid] for an
// audience or id that is none, and [ErrUnavailable] if storage fails.
func (t *Tracker) GetAs(ctx context.Context, a Audience, subject Ref) (View, error) {
	v := unknownView(subject)
	err := t.read(ctx, a, subject, func(m *Machine, s *State) { v = m.View(&s.Current, a) })
	return v, err
}

func unknownView(subject Ref) View { return View{Subject: subject, Status: StatusUnknown} }

// Explain returns sentences why a subject has the status that an actor sees. It
// returns [ErrUnknown] if nothing is known of the subject, and if the authorizer
// refuses. An actor of another tenant is refused with [ErrNotAllowed].
func (t *Tracker) Explain(ctx context.Context, by Actor, subject Ref) ([]string, error) {
	refused, err := t.maySee(ctx, by, subject)
	if err != nil {
		return nil, err
	}
	var lines []string
	a := audienceFor(by, subject)
	err = t.read(ctx, a, subject, func(m *Machine, s *State) {
		if s.Current.Known {
			lines = m.Explain(s, a)
		}
	})
	if err != nil {
		return nil, err
	}
	if refused || lines == nil {
		return nil, refuse(ErrUnknown, "subject", subject.String(), "nothing is known of it")
	}
	return lines, nil
}

// ExplainAs returns sentences why a subject has the status that an audience sees.
// It asks no authorizer: it is for the host. It returns the errors of
// [Tracker.GetAs].
func (t *Tracker) ExplainAs(ctx context.Context, a Audience, subject Ref) ([]string, error) {
	lines := []string{StatusUnknown + ": nobody has heard of " + subject.String()}
	err := t.read(ctx, a, subject, func(m *Machine, s *State) { lines = m.Explain(s, a) })
	return lines, err
}

// MayReveal reports whether something that a subject does, such as typing or
// reading, may be shown to an audience. Ask before showing it: it would reveal a
// hidden subject. MayReveal asks no authorizer: it is for the host.
func (t *Tracker) MayReveal(ctx context.Context, a Audience, subject Ref) (may bool, err error) {
	err = t.read(ctx, a, subject, func(m *Machine, s *State) { may = m.mayReveal(&s.Current, a) })
	return may, err
}

// State returns a copy of all that is known of a subject now. Lists without
// elements are nil. It asks no authorizer: it is for the host. It returns
// [ErrUnknown] if nothing is known of the subject.
func (t *Tracker) State(ctx context.Context, subject Ref) (State, error) {
	var state State
	err := t.read(ctx, AudienceSelf, subject, func(_ *Machine, s *State) { state = s.own() })
	if err == nil && !state.Current.Known {
		err = refuse(ErrUnknown, "subject", subject.String(), "nothing is known of it")
	}
	return state, err
}

// maySee reports whether the authorizer refuses an actor to see a subject. An
// error means that it is not known, or that the question was not asked.
func (t *Tracker) maySee(ctx context.Context, by Actor, subject Ref) (refused bool, err error) {
	q := Question{Actor: by, Action: ActionSee, Subject: subject}
	if err := t.checkQuestion(q); err != nil {
		return false, err
	}
	err = t.ask(ctx, q)
	if errors.Is(err, ErrNotAllowed) {
		return true, nil
	}
	return false, err
}

// read calls f with the state of a subject as of now, if the subject is known.
func (t *Tracker) read(ctx context.Context, a Audience, subject Ref, f func(*Machine, *State)) error {
	if err := checkAudience(a); err != nil {
		return err
	}
	who, err := t.known(ctx, subject)
	if errors.Is(err, ErrUnknown) {
		return nil
	}
	if err != nil {
		return err
	}
	t.readLoaded(who, f)
	return nil
}

// readLoaded calls f with the state of a subject in memory as of now.
func (t *Tracker) readLoaded(who handle, f func(*Machine, *State)) {
	h := t.lock(who.n, who.ref)
	if h == nil {
		return
	}
	defer h.unlock()
	h.catchUp(t.time.Now())
	f(h.m, h.state)
}

// loadMissing loads the subjects that storage may have and memory has not, with
// one call.
func (t *Tracker) loadMissing(ctx context.Context, subjects []Ref) error {
	if t.opts.Storage == nil {
		return nil
	}
	var missing []Ref
	for _, subject := range subjects {
		if _, flags := t.find(subject); flags&flagLoaded == 0 && !slices.Contains(missing, subject) {
			missing = append(missing, subject)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	records, err := t.loadRecords(ctx, missing...)
	if err != nil {
		return err
	}
	for _, record := range records {
		who, err := t.admit(record.Subject)
		if err != nil {
			return err
		}
		if err := t.restore(ctx, who, []Record{record}); err != nil {
			return err
		}
	}
	return nil
}

// Erase forgets a subject: it deletes the record and the journal, removes the
// subject from its channels, and ends its connections. For a day the tracker
// refuses the id, so that no other person takes it over by accident; it keeps
// only a hash of it for that. Erase returns nil if the subject is unknown, and
// refuses the id all the same.
func (t *Tracker) Erase(ctx context.Context, ref Ref) error {
	_, err := t.known(ctx, ref)
	if errors.Is(err, ErrUnknown) {
		t.erased.add(ref, t.time.Now()) // so that it stays unknown
	} else if err != nil {
		return err
	}
	who, _ := t.find(ref)
	// A write that is under way must not arrive after the deletion.
	if err := t.journal.lockFlush(ctx); err != nil {
		return err
	}
	defer t.journal.unlockFlush()
	if err := who.lockWrite(ctx); err != nil {
		return err
	}
	defer who.unlockWrite()
	if t.opts.Storage != nil {
		err := t.callStorage(ctx, 12*t.opts.StorageTimeout, func(ctx context.Context, s Storage) error { return s.Delete(ctx, ref) })
		if err != nil {
			return refuse(ErrUnavailable, "storage", "", "it cannot delete %s", ref).because(err)
		}
	}
	now := t.time.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	t.erased.add(ref, now)
	h := t.lock(who.n, ref)
	if h == nil { // it is not in memory
		t.report(ref, OutputErased, Channel{}, now)
		return nil
	}
	h.eachHub(func(hub *channelHub) {
		hub.remove(ref, now, refuse(ErrNotAllowed, "subject", ref.String(), "it has been erased"))
	})
	t.sendHeldBack(h.m, now)
	for _, room := range h.grants() {
		t.channelTable.at(room).revoke(h.n)
	}
	t.journal.forget(ref)
	t.report(ref, OutputErased, Channel{}, now)
	h.drop()
	h.unlock()
	t.count.Add(-1)
	return nil
}

// Gate decides whether a notification would be delivered now, and returns the
// reason. The decision can reveal a hidden subject: keep it from senders. ID,
// Payload and At of the notification do not matter. It returns [ErrInvalid] for a
// faulty kind or subject.
func (t *Tracker) Gate(ctx context.Context, n Notification) (Decision, error) {
	d := Decision{Verdict: Skip, Kind: n.Kind, Reason: "nothing is known of the subject"}
	if err := checkID("kind", n.Kind); err != nil {
		return d, err
	}
	d.Gated = t.machine(n.Subject.Tenant).Gate(new(State), n).Gated
	err := t.read(ctx, AudienceSelf, n.Subject, func(m *Machine, s *State) { d = m.Gate(s, n) })
	return d, err
}

// Notify asks the gate and hands the notification to the notifier if it is to be
// delivered now. It does not wait for the delivery. It answers alike whether the
// notification is delivered or not, so that a sender does not learn who is
// present. It sets At. A deferred notification is not kept: the host asks again.
//
// It returns [ErrInvalid] without Options.Notifier, and [ErrLimit] while
// Options.NotifyWorkers calls are under way.
func (t *Tracker) Notify(ctx context.Context, n Notification) error {
	if t.opts.Notifier == nil {
		return refuse(ErrInvalid, "option", "Notifier", "without it nothing is delivered")
	}
	d, err := t.Gate(ctx, n)
	if err != nil {
		return err
	}
	n.At = t.time.Now()
	n.Payload = slices.Clone(n.Payload)
	t.notifying.mu.Lock()
	defer t.notifying.mu.Unlock()
	switch {
	case t.closed.Load():
		return t.closedError()
	case t.notifying.calls >= t.opts.NotifyWorkers: // also for what the gate holds back
		return refuse(ErrLimit, "notification", n.ID, "%d are under way", t.opts.NotifyWorkers)
	case d.Verdict != Deliver:
		return nil
	}
	t.notifying.calls++
	begun := t.tasks.run(func() {
		defer t.notifying.done()
		ctx, cancel := context.WithTimeout(t.stopped, notifyTimeout)
		defer cancel()
		if err := t.opts.Notifier.Notify(ctx, n); err == nil {
			t.counts.notified.Add(1)
		} else {
			t.counts.notDelivered.Add(1)
			t.log.Warn("presence: notification", "id", n.ID, "subject", n.Subject, "error", err)
		}
	})
	if !begun {
		return t.closedError()
	}
	return nil
}

// tasks are the goroutines that Close waits for.
type tasks struct {
	mu     sync.Mutex // a leaf: nothing is locked under it
	closed bool
	group  errgroup.Group
}

// run calls f in a goroutine. It reports false if the tracker is closed.
func (k *tasks) run(f func()) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.closed {
		k.group.Go(func() error {
			f()
			return nil
		})
	}
	return !k.closed
}

// close refuses further goroutines and waits for those that run.
func (k *tasks) close() {
	k.mu.Lock()
	k.closed = true
	k.mu.Unlock()
	_ = k.group.Wait()
}

// notifyTimeout limits one call of the notifier.
const notifyTimeout = 10 * time.Second

// notifying counts the calls of the notifier that are under way.
type notifying struct {
	mu    sync.Mutex // tasks are run under it
	calls int
}

func (n *notifying) done() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.calls--
}

// allow asks the authorizer. It refuses if the authorizer refuses or fails.
func (t *Tracker) allow(ctx context.Context, q Question) error {
	if err := t.checkQuestion(q); err != nil {
		return err
	}
	return t.ask(ctx, q)
}

// checkQuestion refuses what no authorizer is asked.
func (t *Tracker) checkQuestion(q Question) error {
	if t.closed.Load() {
		return t.closedError()
	}
	return q.check()
}

// ask asks the authorizer a checked question.
func (t *Tracker) ask(ctx context.Context, q Question) error {
	asked, cancel := context.WithTimeout(ctx, authorizeTimeout)
	defer cancel()
	err := t.opts.Authorizer.Allow(asked, q)
	if err == nil {
		return nil
	}
	if errors.Is(err, ErrNotAllowed) {
		if _, ok := errors.AsType[*Error](err); ok {
			return err
		}
		return refuse(ErrNotAllowed, "actor", q.Actor.Subject.String(), "the authorizer refuses").because(err)
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return refuse(ErrUnavailable, "authorizer", "", "it does not answer: %s", q).because(err)
}

// Request asks for a status that the subject may not choose by itself. The view of
// the subject shows the request to supervisors and admins; see
// [Tracker.DecideRequest]. A new request for the same status replaces the earlier
// one. It returns the errors of [Tracker.SetClaim].
func (t *Tracker) Request(ctx context.Context, by Actor, subject Ref, c Claim) (View, error) {
	return t.claim(ctx, Question{Action: ActionClaim, Status: c.Status}, Event{Kind: EventRequest, Actor: by, Subject: subject, Claim: c})
}

// Withdraw withdraws a request of a subject: the oldest open one if id is empty. It
// returns [ErrUnknown] or [ErrStale] if the request is not open.
func (t *Tracker) Withdraw(ctx context.Context, by Actor, subject Ref, id string) (View, error) {
	return t.claim(ctx, Question{Action: ActionClaim}, Event{Kind: EventWithdraw, Actor: by, Subject: subject, ID: id})
}

// DecideRequest accepts or rejects a request of a subject: the oldest open one if
// id is empty. It returns [ErrUnknown] for an unknown request, and [ErrStale] for
// one that was decided, withdrawn or replaced before: the first decision stands.
func (t *Tracker) DecideRequest(ctx context.Context, by Actor, subject Ref, id string, accept bool) (View, error) {
	return t.claim(ctx, Question{Action: ActionDecide, Request: id}, Event{Kind: EventDecide, Actor: by, Subject: subject, ID: id, Reject: !accept})
}
