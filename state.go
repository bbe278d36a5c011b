package presence

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Source says where a claim comes from. It follows from the actor: a subject's
// own claim is manual, a supervisor's on another is supervisor, and only a
// system actor names a source itself. Policies may rank sources of their own.
type Source string

// The sources every policy knows.
const (
	SourceSystem       Source = "system"
	SourceCall         Source = "call"
	SourceSupervisor   Source = "supervisor"
	SourceManual       Source = "manual"
	SourceCalendar     Source = "calendar"
	SourceApp          Source = "app"
	SourceLoginDefault Source = "login-default"
)

// cause is the word that reports a source.
func (s Source) cause() Cause {
	switch s {
	case SourceSystem, SourceCall, SourceSupervisor, SourceManual, SourceCalendar:
		return Cause(s)
	case SourceLoginDefault:
		return CauseLogin
	default:
		return CauseApp
	}
}

// Keys of claims that the core itself uses.
const (
	KeyBase  = "base"  // the choice that lasts until it is changed
	KeyTimed = "timed" // the choice with an end, which lies over the base
	KeyLock  = "lock"  // a supervisor's lock, a system claim
)

// Claim is the wish that a subject have a status: what someone chose, or what a
// system says about them. A subject has a set of claims, one for each source,
// key and connection; the policy ranks them.
type Claim struct {
	// ID is the caller's, so that repeating a call changes nothing; the core
	// gives one to a claim that has none.
	ID     string `json:"id,omitzero"`
	Serial uint64 `json:"serial"` // given by the core: the order in which claims were set
	Status string `json:"status"`
	Class  Class  `json:"class,omitzero"` // given by the core: of the status when it was claimed
	Source Source `json:"source"`         // follows from the actor; a system may name one, or else is app
	// Key tells the claims of one source apart. Empty means KeyTimed for a claim
	// with an end and KeyBase for one without.
	Key string `json:"key,omitzero"`
	// Conn scopes the claim to one connection: it counts while that connection
	// does, together with what the subject's other connections claim.
	Conn   string  `json:"conn,omitzero"`
	Reason string  `json:"reason,omitzero"` // a short code, at most MaxReason bytes
	Text   string  `json:"text,omitzero"`   // for people, at most MaxText bytes
	SetAt  Instant `json:"setAt"`           // given by the core
	By     string  `json:"by,omitzero"`     // given by the core: the actor's id
	Until  Instant `json:"until,omitzero"`  // the claim ends then, that instant included; zero means never
	// For gives Until as a time from when the claim is set; only one of the two may
	// be given. With neither, Status.For decides.
	For              time.Duration `json:"for,omitzero"`
	DropOnDisconnect bool          `json:"dropOnDisconnect,omitzero"` // it ends when its connection, or the subject's last, is gone
	DropOnLogin      bool          `json:"dropOnLogin,omitzero"`      // it ends with the next login
	HidesFrom        []Audience    `json:"hidesFrom,omitzero"`        // besides those the status is hidden from, as far as Policy.Hideable has them
}

// ConnState is one live or lingering connection of a subject.
type ConnState struct {
	ID          string
	Epoch       uint32 // rises with every connect under the same id; issued by the core
	Device      string
	Node        string
	Incarnation uint64
	Opened      Instant
	Heard       Instant // the last sign of life
	Input       Instant // the last input over it, or that its client reported
	ActedAt     Instant // the subject's last own claim made elsewhere while it was live
	Seq         uint64  // of the newest report
	Focus       string  // the channel looked at
	Hidden      bool    // the tab is not visible
	// Left and Cause say when and how it left; a connection that left lingers
	// until its grace has passed. Zero Left means live.
	Left  Instant
	Cause Cause
	// Told is set where the leaving was reported rather than inferred from
	// silence. A connection that is merely silent comes back by being heard.
	Reported bool
}

// EndpointKind says what can be reached without a connection.
type EndpointKind string

// The kinds of endpoint.
const (
	EndpointPush    EndpointKind = "push"
	EndpointBot     EndpointKind = "bot"
	EndpointService EndpointKind = "service"
)

// Endpoint makes a subject reachable without a connection.
type Endpoint struct {
	ID    string       `json:"id"`
	Kind  EndpointKind `json:"kind"`
	Since Instant      `json:"since"`
	Until Instant      `json:"until,omitzero"`
}

// State is everything the core knows of one subject: the inputs, and the last
// answer for comparison. The zero State is a subject nobody has heard of. Step
// alone changes it; its slices belong to it.
type State struct {
	Subject   Ref
	Kind      SubjectKind
	Conns     []ConnState // by id
	Endpoints []Endpoint  // by id
	Claims    []Claim     // by source, key, connection
	Work      *Work       // nil where nothing is known of any
	Input     Instant     // the last input when the last counting connection left
	InputKept Instant     // when Input was stored
	LeftCause Cause       // how the last connection left
	LeftAt    Instant     // when
	LoggedIn  Instant     // the last login
	Disabled  bool

	Now            Instant // the latest instant processed; time never goes back
	ChangedAt      Instant // when the set of live connections, endpoints, claims or the policy last changed
	SuspendedUntil Instant // the end of the last standstill
	LeaseFloor     Instant // no lease or grace that was running then ends before it
	Epoch          uint32  // the last issued
	Serial         uint64  // rises with every claim and transition

	Current Presence // as of Now
}

// Clone returns a copy that shares nothing that Step changes.
func (s *State) Clone() State {
	c := *s
	c.Conns = slices.Clone(s.Conns)
	c.Endpoints = slices.Clone(s.Endpoints)
	c.Claims = slices.Clone(s.Claims)
	c.Work = s.Work.clone()
	return c
}

// EventKind says what an Event is.
type EventKind uint8

// The events of one subject. Beside each, the fields it reads.
const (
	EventTick       EventKind = iota // none
	EventConnect                     // Conn, Epoch, Device, Node, Incarnation, Age, SubjectKind
	EventLogin                       // as EventConnect
	EventHeartbeat                   // Conn, Epoch, Seq, Age
	EventInput                       // Conn, Epoch
	EventFocus                       // Conn, Epoch, Channel
	EventVisible                     // Conn, Epoch, Hidden
	EventDisconnect                  // Conn, Epoch, Cause
	EventLogout                      // Conn; empty means every connection
	EventEndpoint                    // Endpoint, Off, SubjectKind
	EventSetClaim                    // Actor, Claim
	EventEndClaim                    // Actor, Claim (Source, Key and Conn; an empty Key means every key)
	EventNodeDown                    // Node, Incarnation, Cause
	EventNodeUp                      // Node, Incarnation
	EventPolicy                      // none: step with the old machine to now, then feed this to the new one
	EventGrant                       // none; a subject that is granted something is known
	EventDisable                     // none
	EventEnable                      // none
	EventSuspended                   // From, To: this process stood still
	EventClock                       // From, To: the wall clock was set from one to the other
	EventRestart                     // none: the state was restored from its record in a new process
	EventRecord                      // Record: what is stored was changed elsewhere

	EventLoad      // Load, Revision: how much there is to do, as the host counted it under that revision
	EventOffer     // Load (On and N, at least 1), How, Revision: a piece of work is given
	EventDone      // Load (On and N, at least 1), Revision: work has ended
	EventChallenge // ID, Claim.For: "are you still there?"
	EventAck       // ID: the answer; empty is to what is open
	EventRequest   // Actor, ID, Claim: asks for a status
	EventWithdraw  // Actor, ID; empty is the oldest open one
	EventDecide    // Actor, ID, Off: accepts a request, or rejects it
)

// NoAge says that an event reports no input age.
const NoAge time.Duration = -1

// Event is something that happened to one subject. What it reads besides Kind
// stands beside the kind.
type Event struct {
	Kind        EventKind
	Subject     Ref
	SubjectKind SubjectKind
	Actor       Actor
	Conn        string
	Epoch       uint32 // the connection's; 0 means the present one, or on connect the next
	Device      string
	Node        string
	Incarnation uint64
	Seq         uint64        // of a report; 0 means unnumbered
	Age         time.Duration // since the last input as the client knows it; NoAge for none
	Cause       Cause
	Channel     string
	Hidden      bool
	Off         bool
	Endpoint    Endpoint
	Claim       Claim
	Record      *Record
	From, To    Instant
	ID          string // of a challenge or request
	Load        Load
	Routing     Routing // how work is given: all for new work, sticky, transfer, or none for by hand
	Revision    Instant // of what the subject receives; 0 asks for no particular one
}

// OutputKind says what an Output is.
type OutputKind uint8

// The outputs. Beside each, what it carries.
const (
	// OutputPersist asks that the state's record be stored; every later output
	// of the step must wait until it is.
	OutputPersist OutputKind = iota
	// OutputTransition says that the status changed: Prev and Presence, Trigger,
	// At, Noticed and ID.
	OutputTransition
	// OutputUpdated says that something else of the presence changed, such as
	// its reason, cause or reach.
	OutputUpdated
	OutputClaimSet   // Claim
	OutputClaimEnded // Claim, Why

	OutputRequeue       // ID, Load, Why: all work of the subject goes to others
	OutputChallenge     // ID, At: asks for an answer before then
	OutputRequestOpened // Request
	OutputRequestClosed // Request, Why
)

// Output is something that a step asks its driver to do or tells it.
type Output struct {
	Kind OutputKind
	// ID names a transition: every computation of the same one gives it the
	// same id, so that effects that must be single can be keyed by it.
	ID       string
	At       Instant // when it logically happened: the new status's since
	Noticed  Instant // when the machine processed it; never before At
	Prev     string  // the status before; empty for the first
	Trigger  Cause
	Presence Presence
	Claim    Claim
	Reason   Cause // until, replaced, ended, login, logout, disconnected, disabled, limit
	Request  Request
	Load     int // pieces of work taken away
}

// Why a claim ended, where no Cause says it.
const (
	EndReplaced     Cause = "replaced"
	EndReleased     Cause = "ended"
	EndDisconnected Cause = "disconnected"
	EndLimit        Cause = "limit"
)

// Step feeds one event to a subject's state and appends what follows to out.
// It first processes every deadline up to now, each at its own instant, so that
// an event at a deadline comes too late for it. An error refuses the event: the
// deadlines have been processed, nothing else has changed. Time only enters as
// now; one that lies before an earlier one counts as that. The same state,
// event and now always give the same result.
//
// Step neither keeps nor changes e. An event without a subject is for the one of
// the state. No deadline of s lies before next, which is 0 if there is none;
// after a heartbeat it may be the deadline that the heartbeat put off.
// [Machine.Next] is exact.
func (m *Machine) Step(s *State, e *Event, now Instant, out []Output) (outputs []Output, next Instant, err error) {
	st := stepper{m: m, s: s, out: out}
	err = st.step(e, now)
	return st.out, st.next, err
}

func (st *stepper) step(e *Event, now Instant) error {
	s := st.s
	now = max(now, s.Now)
	if e.Kind == EventSuspended {
		return st.suspend(e, now)
	}
	if e.Kind != EventPolicy { // the old machine has processed the time until now
		st.tick(now)
	}
	s.Now = now
	if e.Kind == EventTick {
		return nil
	}
	trigger, err := st.apply(e)
	if err != nil {
		if e.Kind == EventPolicy {
			st.next, _ = st.m.Next(s)
		}
		return err
	}
	if e.Kind == EventHeartbeat && !st.touched {
		return nil // it can only have put a deadline off
	}
	st.expire(now)
	if st.touched {
		st.settle(cmp.Or(st.logical, now), trigger, "")
	}
	st.tick(now)
	return nil
}

// suspend lets the time pass in which this process stood still: what had run
// out before it did so counts, then leases and graces get another chance, since
// unread heartbeats and reconnects sit in buffers.
func (st *stepper) suspend(e *Event, now Instant) error {
	if e.To < e.From {
		st.tick(now)
		return fmt.Errorf("presence: %w suspension: it ends before it begins", ErrInvalid)
	}
	st.tick(min(e.From, now))
	st.s.SuspendedUntil, st.s.LeaseFloor = e.To, e.To.Add(st.m.startup)
	st.tick(now)
	return nil
}

// Next returns the earliest deadline of s, if there is one. Ticking later than
// it gives the same transitions at the same instants, only noticed later.
func (m *Machine) Next(s *State) (Instant, bool) {
	d, ok := m.next(s)
	return d.at, ok
}

// stepper is one step under way.
type stepper struct {
	m         *Machine
	s         *State
	out       []Output
	touched   bool    // something changed, so that the presence must be derived anew
	logical   Instant // from when what the event brings about holds, if not from now
	ended     Instant // when a claim's time ran out, if that is what is being settled
	persisted bool
	next      Instant // no deadline after what was processed lies before it; 0 for none
}

func (st *stepper) check(e *Event) error {
	s := st.s
	if e.Subject != s.Subject || e.Subject.ID == "" {
		switch {
		case s.Subject == (Ref{}) && e.Subject == (Ref{}):
			return fmt.Errorf("presence: %w subject: the event names none", ErrInvalid)
		case s.Subject == (Ref{}):
			if err := checkRef("subject", e.Subject); err != nil {
				return err
			}
			s.Subject = e.Subject
		case e.Subject != (Ref{}) && e.Subject != s.Subject:
			return fmt.Errorf("presence: %w subject: event for %s fed to the state of %s", ErrInvalid, e.Subject, s.Subject)
		}
	}
	switch e.Kind {
	case EventConnect, EventLogin, EventEndpoint:
		if s.Disabled {
			return fmt.Errorf("presence: %w: presence of %s is switched off", ErrDisabled, s.Subject)
		}
		switch e.SubjectKind {
		case "", KindHuman, KindBot, KindService:
		default:
			return fmt.Errorf("presence: %w kind %q: allowed are human, bot, service", ErrInvalid, e.SubjectKind)
		}
	}
	return nil
}

// apply changes the inputs according to e.
func (st *stepper) apply(e *Event) (trigger Cause, err error) {
	s := st.s
	if err := st.check(e); err != nil {
		return "", err
	}
	switch e.Kind {
	case EventConnect, EventLogin:
		return st.connect(e)
	case EventHeartbeat, EventInput, EventFocus, EventVisible:
		return st.report(e)
	case EventDisconnect:
		return e.Cause, st.disconnect(e)
	case EventLogout:
		return CauseLogout, st.logout(e)
	case EventEndpoint:
		return TriggerConnect, st.endpoint(e)
	case EventSetClaim:
		return st.setClaim(e)
	case EventEndClaim:
		return st.endClaim(e)
	case EventNodeDown:
		cause := e.Cause
		if cause == "" {
			cause = CauseNode
		}
		if cause != CauseNode && cause != CauseDrain {
			return "", fmt.Errorf("presence: %w cause %q: a node goes by node or drain", ErrInvalid, cause)
		}
		st.nodeGone(e.Node, e.Incarnation, cause)
		return cause, nil
	case EventNodeUp:
		var gone Instant
		for i := 0; i < len(s.Conns); {
			c := &s.Conns[i]
			if c.Node != e.Node || c.Incarnation >= e.Incarnation {
				i++
				continue
			}
			st.leave(c, CauseNode, s.Now, true)
			gone = max(gone, c.Left)
			st.remove(i, c.Left)
		}
		if gone != 0 {
			st.logical = gone
		}
		return CauseNode, nil
	case EventPolicy:
		st.change()
		return TriggerPolicy, nil
	case EventDisable:
		st.disable()
		return CauseDisabled, nil
	case EventEnable:
		if s.Disabled {
			s.Disabled = false
			st.change()
			st.persist()
		}
		return CauseDisabled, nil
	case EventClock:
		st.setClock(e.From.Sub(e.To))
		return TriggerUntil, nil
	case EventRestart:
		st.restart()
		return CauseNode, nil
	case EventRecord:
		return CauseSystem, st.takeOver(e.Record)
	case EventGrant:
		st.touched = !s.Current.Known
		return TriggerGrant, nil
	case EventLoad:
		return TriggerLoad, st.reportLoad(e)
	case EventOffer:
		return TriggerLoad, st.offer(e)
	case EventDone:
		return TriggerLoad, st.done(e)
	case EventChallenge:
		return TriggerChallenge, st.challenge(e)
	case EventAck:
		return TriggerChallenge, st.ack(e)
	case EventRequest:
		return TriggerRequest, st.request(e)
	case EventWithdraw:
		return TriggerRequest, st.withdraw(e)
	case EventDecide:
		return TriggerRequest, st.decide(e)
	default:
		return "", fmt.Errorf("presence: %w event kind %d", ErrInvalid, e.Kind)
	}
}

// setClock moves what ends by the wall clock, which was set back. What merely
// passes stays.
func (st *stepper) setClock(back time.Duration) {
	s := st.s
	move := func(until *Instant) {
		if *until != 0 {
			*until = until.Add(back)
			st.touched = true
		}
	}
	for i := range s.Claims {
		move(&s.Claims[i].Until)
	}
	for i := range s.Endpoints {
		move(&s.Endpoints[i].Until)
	}
	if w := s.Work; w != nil {
		if w.Pending != nil {
			move(&w.Pending.Until)
		}
		for i := range w.Requests {
			move(&w.Requests[i].Claim.Until)
		}
	}
}

// change notes that the set of live connections, endpoints or claims, or the
// policy, is another one from now on.
func (st *stepper) change() {
	st.s.ChangedAt = st.s.Now
	st.touched = true
}

// persist asks once per step that the record be stored before anything that
// follows is told.
func (st *stepper) persist() {
	if st.persisted {
		return
	}
	st.persisted = true
	st.out = append(st.out, Output{Kind: OutputPersist})
}

// restartConn stands for the connections that a restarted process has lost. No
// connection can have its id.
const restartConn = "\x00restart"

// restart lets a subject that was reachable when its record was written linger
// for the start-up grace, so that clients can come back unnoticed. The last
// input survives with it.
func (st *stepper) restart() {
	s := st.s
	st.touched = true
	if s.Current.Reach < ReachLingering || len(s.Conns) > 0 {
		return
	}
	s.SuspendedUntil, s.LeaseFloor = s.Now+1, s.Now.Add(st.m.startup)
	s.Conns = []ConnState{{ID: restartConn, Opened: s.Now, Heard: s.Now, Input: s.Input, Left: s.Now, Cause: CauseNode, Reported: true}}
	st.change()
}

// takeOver replaces what is durable by a record that somebody else wrote.
func (st *stepper) takeOver(r *Record) error {
	if r == nil {
		return fmt.Errorf("presence: %w event: the record is missing", ErrInvalid)
	}
	stored, err := r.State()
	if err != nil {
		return err
	}
	s := st.s
	known := func(list []Claim, c *Claim) bool {
		return slices.ContainsFunc(list, func(o Claim) bool { return o.ID == c.ID && compareClaims(o, *c) == 0 })
	}
	before := s.Claims
	if stored.Work != nil {
		w := st.work()
		w.Pending, w.Requests = stored.Work.Pending, stored.Work.Requests
	} else if s.Work != nil {
		s.Work.Pending, s.Work.Requests = nil, nil
	}
	s.Claims, s.Endpoints = stored.Claims, stored.Endpoints
	if stored.Disabled && !s.Disabled {
		st.switchOff()
	}
	s.Disabled = stored.Disabled
	s.LoggedIn, s.Serial, s.Epoch = max(s.LoggedIn, stored.LoggedIn), max(s.Serial, stored.Serial), max(s.Epoch, stored.Epoch)
	for i := range before {
		if !known(s.Claims, &before[i]) {
			st.out = append(st.out, Output{Kind: OutputClaimEnded, At: s.Now, Noticed: s.Now, Claim: before[i], Reason: CauseSystem})
		}
	}
	for i := range s.Claims {
		if !known(before, &s.Claims[i]) {
			st.out = append(st.out, Output{Kind: OutputClaimSet, At: s.Claims[i].SetAt, Noticed: s.Now, Claim: s.Claims[i]})
		}
	}
	st.change()
	return nil
}

func (st *stepper) connect(e *Event) (Cause, error) {
	s := st.s
	if err := checkID("connection", e.Conn); err != nil {
		return "", err
	}
	if err := cmp.Or(checkOptionalID("device", e.Device), checkOptionalID("node", e.Node)); err != nil {
		return "", err
	}
	trigger := TriggerConnect
	if e.Kind == EventLogin {
		trigger = CauseLogin
	}
	i, found := s.conn(e.Conn)
	epoch := s.Epoch + 1
	if e.Epoch != 0 && e.Epoch != epoch {
		if found && e.Epoch == s.Conns[i].Epoch {
			return trigger, nil // the same event again
		}
		return "", fmt.Errorf("presence: %w epoch %d of connection %q: the next to be issued is %d", ErrStale, e.Epoch, e.Conn, epoch)
	}
	c := ConnState{ID: e.Conn, Epoch: epoch, Device: e.Device, Node: e.Node, Incarnation: e.Incarnation, Opened: s.Now, Heard: s.Now}
	if found {
		old := &s.Conns[i]
		c.Opened, c.Input, c.ActedAt = old.Opened, old.Input, old.ActedAt
		c.Focus, c.Hidden = old.Focus, old.Hidden
		c.Device = cmp.Or(e.Device, old.Device)
		if e.Node == "" {
			c.Node, c.Incarnation = old.Node, old.Incarnation
		}
		if old.Left != 0 {
			st.change()
			if e.Kind != EventLogin && old.Cause == CauseLost {
				st.startSettling()
			}
		}
	} else {
		if e.Kind != EventLogin && len(s.Conns) == 0 && s.LeftCause == CauseLost {
			st.startSettling()
		}
		if len(s.Conns) >= MaxConnections {
			return "", fmt.Errorf("presence: %w: %s has %d connections already, at most %d are allowed", ErrLimit, s.Subject, len(s.Conns), MaxConnections)
		}
		c.Input = st.m.lastInput(s)
		if c.Input == 0 {
			c.Input = s.Now // nothing is known of a subject never seen before
		}
		st.change()
	}
	if e.Age > 0 { // counts only if it is older than what is known
		reported := s.Now.Add(-e.Age)
		c.Input, c.ActedAt = min(c.Input, reported), min(c.ActedAt, reported)
	}
	s.Epoch = epoch
	if e.SubjectKind != "" {
		s.Kind = e.SubjectKind
	}
	if e.Kind == EventLogin {
		s.LoggedIn = s.Now
		if st.m.activity["login"] {
			c.Input = s.Now
		}
	}
	if found {
		s.Conns[i] = c
	} else {
		s.Conns = slices.Insert(s.Conns, i, c)
	}
	if e.Kind == EventLogin {
		st.login(e.Conn)
	}
	st.touched = true
	return trigger, nil
}

// login applies the policy's rule for entering with credentials.
func (st *stepper) login(conn string) {
	s, m := st.s, st.m
	reset := m.policy.Login.Mode == "reset"
	st.drop(CauseLogin, func(c *Claim) bool {
		if c.Conn != "" && c.Conn != conn {
			return false
		}
		return c.DropOnLogin || reset && (m.rankOf(c.Source) == m.manual || c.Source == SourceLoginDefault)
	})
	if reset {
		st.cancelPlans()
		st.insert(Claim{Status: m.policy.Login.Status, Source: SourceLoginDefault, Key: KeyBase, By: s.Subject.ID})
	}
}

// insert adds a claim that has been checked, replacing the one of its source,
// key and connection.
func (st *stepper) insert(c Claim) {
	s := st.s
	st.persist()
	st.change()
	s.Serial++
	c.Serial, c.SetAt, c.For = s.Serial, s.Now, 0
	if c.ID == "" {
		c.ID = eventID('c', c.Serial, s.Now)
	}
	if def := st.m.status(c.Status); def != nil {
		c.Class = def.Class
	}
	i, found := slices.BinarySearchFunc(s.Claims, c, compareClaims)
	if found {
		st.out = append(st.out, Output{Kind: OutputClaimEnded, At: s.Now, Noticed: s.Now, Claim: s.Claims[i], Reason: EndReplaced})
		s.Claims[i] = c
	} else {
		s.Claims = slices.Insert(s.Claims, i, c)
	}
	st.out = append(st.out, Output{Kind: OutputClaimSet, At: s.Now, Noticed: s.Now, Claim: c})
}

func compareClaims(a, b Claim) int {
	if c := strings.Compare(string(a.Source), string(b.Source)); c != 0 {
		return c
	}
	if c := strings.Compare(a.Key, b.Key); c != 0 {
		return c
	}
	return strings.Compare(a.Conn, b.Conn)
}

// drop ends the claims for which gone says so. That a claim's time is over need
// not be stored: its end was known when it was.
func (st *stepper) drop(why Cause, gone func(*Claim) bool) (dropped bool) {
	s := st.s
	if len(s.Claims) == 0 {
		return false
	}
	s.Claims = slices.DeleteFunc(s.Claims, func(c Claim) bool {
		if !gone(&c) {
			return false
		}
		if why != TriggerUntil {
			st.persist()
		}
		st.out = append(st.out, Output{Kind: OutputClaimEnded, At: s.Now, Noticed: s.Now, Claim: c, Reason: why})
		dropped = true
		return true
	})
	switch {
	case !dropped:
	case why == TriggerUntil || why == EndDisconnected:
		st.touched = true // brought about by time, whose instants are their own
	default:
		st.change()
	}
	return dropped
}

// report handles what a client says over a connection, all of which proves that
// it lives.
func (st *stepper) report(e *Event) (Cause, error) {
	s := st.s
	c, err := st.find(e)
	if err != nil {
		return "", err
	}
	if err := checkOptionalID("channel", e.Channel); err != nil {
		return "", err
	}
	st.noteAlive(c)
	trigger := TriggerConnect // if it had been silent for too long, it is back
	input := ""               // what may count as such
	switch e.Kind {
	case EventHeartbeat:
		if e.Seq != 0 && e.Seq <= c.Seq {
			break // late or repeated
		}
		if e.Seq != 0 {
			c.Seq = e.Seq
		}
		if e.Age >= 0 {
			if at := s.Now.Add(-e.Age); at != c.Input {
				c.Input = at
				trigger = TriggerInput
				st.touched = true
			}
		}
	case EventInput:
		input = "input"
	case EventFocus:
		c.Focus = e.Channel
		if e.Channel != "" {
			input = "focus"
		}
	case EventVisible:
		c.Hidden = e.Hidden
		if !e.Hidden {
			input = "show"
		}
	}
	if input != "" && st.m.activity[input] {
		c.Input = s.Now
		trigger = TriggerInput
		st.touched = true
	}
	return trigger, nil
}

// find returns the connection that an event came over, unless it has left.
func (st *stepper) find(e *Event) (*ConnState, error) {
	s := st.s
	i, found := s.conn(e.Conn)
	if !found {
		return nil, fmt.Errorf("presence: %w connection %q of %s: it has left or never was; connect again", ErrUnknown, e.Conn, s.Subject)
	}
	c := &s.Conns[i]
	if e.Epoch != 0 && e.Epoch != c.Epoch {
		return nil, fmt.Errorf("presence: %w epoch %d of connection %q: the present one is %d", ErrStale, e.Epoch, e.Conn, c.Epoch)
	}
	if c.Left != 0 && c.Reported {
		return nil, fmt.Errorf("presence: %w connection %q of %s: it has left (%s); connect again", ErrStale, e.Conn, s.Subject, c.Cause)
	}
	return c, nil
}

// noteAlive notes a sign of life, which brings back a connection that was merely
// silent for too long.
func (st *stepper) noteAlive(c *ConnState) {
	c.Heard = st.s.Now
	if c.Left != 0 {
		st.revive(c)
	}
}

func (st *stepper) revive(c *ConnState) {
	if c.Cause == CauseLost {
		st.startSettling()
	}
	c.Left, c.Cause = 0, ""
	st.change()
}

func (st *stepper) disconnect(e *Event) error {
	s := st.s
	switch e.Cause {
	case CauseLogout, CauseClosed, CauseLost, CauseNode, CauseDrain:
	default:
		return fmt.Errorf("presence: %w cause %q: a connection leaves by logout, closed, lost, node or drain", ErrInvalid, e.Cause)
	}
	i, found := s.conn(e.Conn)
	if !found {
		return fmt.Errorf("presence: %w connection %q of %s: it has left or never was", ErrUnknown, e.Conn, s.Subject)
	}
	c := &s.Conns[i]
	if e.Epoch > c.Epoch {
		return fmt.Errorf("presence: %w epoch %d of connection %q: it was never issued", ErrStale, e.Epoch, e.Conn)
	}
	if e.Epoch != 0 && e.Epoch < c.Epoch {
		return nil // the close of a socket that has been replaced
	}
	if e.Cause == CauseLogout {
		return st.logout(e)
	}
	st.leave(c, e.Cause, s.Now, true)
	return nil
}

// leave makes a live connection linger from at. One that lingers already keeps
// its instant, but a report settles what silence had only suggested.
func (st *stepper) leave(c *ConnState, cause Cause, at Instant, told bool) {
	if c.Left == 0 {
		c.Left, c.Cause = at, cause
		st.change()
	}
	c.Reported = c.Reported || told
	st.touched = true
}

func (st *stepper) logout(e *Event) error {
	s := st.s
	all := e.Conn == "" || st.m.policy.LogoutScope == "account"
	if e.Conn != "" {
		if _, found := s.conn(e.Conn); !found {
			return fmt.Errorf("presence: %w connection %q of %s: it has left or never was", ErrUnknown, e.Conn, s.Subject)
		}
	}
	for i := range s.Conns {
		c := &s.Conns[i]
		if !all && c.ID != e.Conn {
			continue
		}
		if c.Left == 0 {
			st.change()
		}
		c.Left, c.Cause, c.Reported = s.Now, CauseLogout, true
	}
	if all && len(s.Conns) == 0 && s.Current.Known {
		s.LeftCause = CauseLogout // leaving for good, after the connection was gone already
	}
	st.drop(CauseLogout, func(c *Claim) bool { return c.Conn != "" && (all || c.Conn == e.Conn) })
	st.touched = true
	return nil
}

func (st *stepper) endpoint(e *Event) error {
	s := st.s
	if err := checkID("endpoint", e.Endpoint.ID); err != nil {
		return err
	}
	i, found := slices.BinarySearchFunc(s.Endpoints, e.Endpoint.ID, func(p Endpoint, id string) int { return strings.Compare(p.ID, id) })
	if e.Off {
		if found {
			s.Endpoints = slices.Delete(s.Endpoints, i, i+1)
			st.change()
			st.persist()
		}
		return nil
	}
	switch e.Endpoint.Kind {
	case EndpointPush, EndpointBot, EndpointService:
	default:
		return fmt.Errorf("presence: %w endpoint kind %q: allowed are push, bot, service", ErrInvalid, e.Endpoint.Kind)
	}
	if e.Endpoint.Until != 0 && e.Endpoint.Until <= s.Now {
		return fmt.Errorf("presence: %w until %s: it has passed", ErrInvalid, e.Endpoint.Until)
	}
	if !found && len(s.Endpoints) >= MaxEndpoints {
		return fmt.Errorf("presence: %w: %s has %d endpoints already, at most %d are allowed", ErrLimit, s.Subject, len(s.Endpoints), MaxEndpoints)
	}
	if e.SubjectKind != "" {
		s.Kind = e.SubjectKind
	}
	p := e.Endpoint
	p.Since = s.Now
	if found && s.Endpoints[i].Kind == p.Kind {
		if s.Endpoints[i].Until == p.Until {
			return nil
		}
		p.Since = s.Endpoints[i].Since
		s.Endpoints[i] = p
	} else if found {
		s.Endpoints[i] = p
	} else {
		s.Endpoints = slices.Insert(s.Endpoints, i, p)
	}
	st.change()
	st.persist()
	return nil
}

func (st *stepper) setClaim(e *Event) (Cause, error) {
	s, m := st.s, st.m
	c, own, err := m.resolve(s, e)
	if err != nil {
		return "", err
	}
	def := m.status(c.Status)
	if own && def.NeedsApproval && c.Source == SourceManual {
		return "", fmt.Errorf("presence: %w: status %q needs approval; ask for it with a request", ErrNotAllowed, c.Status)
	}
	if c.ID != "" {
		if i, found := slices.BinarySearchFunc(s.Claims, c, compareClaims); found && s.Claims[i].ID == c.ID {
			return c.Source.cause(), nil // the same event again
		}
	}
	if e.Conn != "" && c.Conn != "" && e.Conn != c.Conn {
		return "", fmt.Errorf("presence: %w claim: it came over connection %q and cannot bind connection %q", ErrInvalid, e.Conn, c.Conn)
	}
	var over *ConnState
	if conn := cmp.Or(e.Conn, c.Conn); conn != "" {
		if over, err = st.find(&Event{Conn: conn, Epoch: e.Epoch}); err != nil {
			return "", err
		}
	}
	if len(s.Claims) >= MaxClaims {
		if _, found := slices.BinarySearchFunc(s.Claims, c, compareClaims); !found && !st.dropOrphan() {
			return "", fmt.Errorf("presence: %w: %s has %d claims already, at most %d are allowed", ErrLimit, s.Subject, len(s.Claims), MaxClaims)
		}
	}
	if over != nil {
		st.noteAlive(over)
	}
	if c.Source == SourceManual || c.Source == SourceSupervisor {
		st.cancelPlans()
		st.closeRequestsFor(c)
	} else {
		st.applyChoice(c)
	}
	if own && s.Work != nil {
		s.Work.Challenge, s.Work.Deadline = "", 0 // whoever chooses is there
	}
	if own && m.policy.Work.SelfReady && def.Class == ClassAvailable {
		st.drop(EndReplaced, func(o *Claim) bool { return o.Source == SourceSystem && o.Key == KeyKickedOut })
	}
	if c.Source == SourceSupervisor {
		// Whoever supervises lifts what the system imposed, but not a lock.
		st.drop(EndReplaced, func(o *Claim) bool { return o.Source == SourceSystem && o.Key != KeyLock })
	}
	if own && m.activity["claim"] {
		for i := range s.Conns {
			if conn := &s.Conns[i]; over == nil && conn.Left == 0 {
				conn.ActedAt = s.Now
			}
		}
		if over != nil {
			over.Input = s.Now
		}
		st.touched = true
	}
	return c.Source.cause(), nil
}

// applyChoice makes a checked claim take effect.
func (st *stepper) applyChoice(c Claim) {
	m := st.m
	if m.plainDefault(&c) && st.clear(&c) {
		return
	}
	if c.Key == KeyBase && m.rankOf(c.Source) == m.manual {
		st.drop(EndReplaced, func(o *Claim) bool { return o.Source == c.Source && o.Key == KeyTimed && o.Conn == c.Conn })
	}
	st.insert(c)
}

// plainDefault reports whether a claim is a person's choice of the default status
// that asks for nothing besides.
func (m *Machine) plainDefault(c *Claim) bool {
	return c.Source == SourceManual && c.Key == KeyBase && c.Status == m.byDefault.ID && !m.policy.KeepExplicit &&
		c.Reason == "" && c.Text == "" && len(c.HidesFrom) == 0
}

// clear handles the choice of the default status, which means "nothing special":
// it ends what was chosen before, by supervisors too. It reports false, having
// done nothing, where something else would then show through, so that the
// choice must be a claim of its own.
func (st *stepper) clear(c *Claim) bool {
	m, s := st.m, st.s
	ends := func(o *Claim) bool {
		if c.Conn != "" {
			return o.Source == SourceManual && o.Conn == c.Conn
		}
		return m.rankOf(o.Source) == m.manual || o.Source == SourceLoginDefault
	}
	below, shows := m.top(s, s.Now, func(o *Claim) bool { return m.rankOf(o.Source) >= m.manual && !ends(o) })
	if shows && below != nil {
		return false
	}
	st.drop(EndReplaced, ends)
	return true
}

// dropOrphan makes room by ending the oldest claim of a connection that is gone.
func (st *stepper) dropOrphan() bool {
	oldest := -1
	for i, c := range st.s.Claims {
		if c.Conn == "" {
			continue
		}
		if _, there := st.s.conn(c.Conn); !there && (oldest < 0 || c.Serial < st.s.Claims[oldest].Serial) {
			oldest = i
		}
	}
	if oldest < 0 {
		return false
	}
	serial := st.s.Claims[oldest].Serial
	return st.drop(EndLimit, func(c *Claim) bool { return c.Serial == serial })
}

// resolve checks the claim of an event and fills in what follows from the actor
// and the policy.
func (m *Machine) resolve(s *State, e *Event) (c Claim, own bool, err error) {
	c = e.Claim
	if s.Disabled {
		return c, false, fmt.Errorf("presence: %w: presence of %s is switched off", ErrDisabled, s.Subject)
	}
	if c.Source, err = e.Actor.source(s.Subject, c.Source, m); err != nil {
		return c, false, err
	}
	own = e.Actor.Subject == s.Subject && e.Actor.Role != RoleSystem
	def := m.status(c.Status)
	if def == nil {
		return c, false, fmt.Errorf("presence: %w status %q: the policy has %s", ErrUnknown, c.Status, strings.Join(m.statusIDs(nil), ", "))
	}
	by := BySystem
	switch c.Source {
	case SourceManual:
		by = BySelf
	case SourceSupervisor:
		by = BySupervisor
	}
	if !slices.Contains(def.SelectableBy, by) {
		return c, false, fmt.Errorf("presence: %w: status %q is not selectable by %s; selectable are %s", ErrNotAllowed, c.Status, by, strings.Join(m.Selectable(by), ", "))
	}
	if c.For < 0 {
		return c, false, fmt.Errorf("presence: %w duration %v: it must be positive", ErrInvalid, c.For)
	}
	if c.For > 0 && c.Until != 0 {
		return c, false, fmt.Errorf("presence: %w claim: both an end and a duration are given, one is allowed", ErrInvalid)
	}
	if c.For == 0 && c.Until == 0 && def.For > 0 {
		c.For = def.For
	}
	if c.For > 0 {
		c.Until = s.Now.Add(c.For)
	}
	if c.Until != 0 && c.Until <= s.Now {
		return c, false, fmt.Errorf("presence: %w until %s: it is not after now, %s", ErrInvalid, c.Until, s.Now)
	}
	if c.Key == "" {
		c.Key = KeyBase
		if c.Until != 0 {
			c.Key = KeyTimed
		}
	}
	if err := checkID("key", c.Key); err != nil {
		return c, false, err
	}
	if err := checkOptionalID("claim", c.ID); err != nil {
		return c, false, err
	}
	if c.Source == SourceManual && (c.Key != KeyBase || c.Until != 0) && (c.Key != KeyTimed || c.Until == 0) {
		return c, false, fmt.Errorf("presence: %w claim key %q: a manual claim is %q without an end or %q with one", ErrInvalid, c.Key, KeyBase, KeyTimed)
	}
	if err := checkText("reason", c.Reason, MaxReason); err != nil {
		return c, false, err
	}
	if err := checkText("text", c.Text, MaxText); err != nil {
		return c, false, err
	}
	for _, a := range c.HidesFrom {
		if !slices.Contains(m.hideable, a) {
			return c, false, fmt.Errorf("presence: %w audience %q: a claim may hide from %s under this policy", ErrInvalid, a, orNone(join(m.hideable)))
		}
	}
	if c.Source == SourceSupervisor && m.policy.SupervisorWhenOffline == "refuse" && m.leftFor(s, e.Actor) {
		return c, false, fmt.Errorf("presence: %w: the status of %s cannot be set by a supervisor while it is not connected", ErrOffline, s.Subject)
	}
	c.By = e.Actor.Subject.ID
	c.HidesFrom = union(nil, c.HidesFrom)
	return c, own, nil
}

// leftFor reports whether a subject cannot be reached as far as an actor may
// know: one who hides from it answers like one who is gone.
func (m *Machine) leftFor(s *State, a Actor) bool {
	return m.reach(s) == ReachNone || a.Role != RoleSystem && slices.Contains(s.Current.HiddenFrom, a.Audience())
}

func (st *stepper) endClaim(e *Event) (Cause, error) {
	s := st.s
	source, err := e.Actor.source(s.Subject, e.Claim.Source, st.m)
	if err != nil {
		return "", err
	}
	if e.Conn != "" {
		over, err := st.find(e)
		if err != nil {
			return "", err
		}
		st.noteAlive(over)
	}
	ends := func(c *Claim) bool {
		return c.Source == source && (e.Claim.Key == "" || c.Key == e.Claim.Key) && c.Conn == e.Claim.Conn &&
			(e.Claim.ID == "" || c.ID == e.Claim.ID)
	}
	if st.m.rankOf(source) == st.m.manual {
		waits := s.Work != nil && s.Work.Pending != nil && ends(s.Work.Pending)
		if waits || slices.ContainsFunc(s.Claims, func(c Claim) bool { return ends(&c) }) {
			st.cancelPlans()
		}
	}
	st.drop(EndReleased, ends)
	return source.cause(), nil
}

func (st *stepper) nodeGone(node string, incarnation uint64, cause Cause) {
	for i := range st.s.Conns {
		c := &st.s.Conns[i]
		if c.Node == node && c.Left == 0 && (incarnation == 0 || c.Incarnation <= incarnation) {
			st.leave(c, cause, st.s.Now, true)
		}
	}
}

func (st *stepper) disable() {
	s := st.s
	if s.Disabled {
		return
	}
	st.persist()
	s.Endpoints = nil
	st.drop(CauseDisabled, func(*Claim) bool { return true })
	st.cancelPlans()
	st.switchOff()
	st.change()
}

// switchOff ends the connections of a subject that is disabled, and takes its
// work away.
func (st *stepper) switchOff() {
	s := st.s
	s.Disabled = true
	for _, c := range s.Conns {
		s.LeftAt = max(s.LeftAt, c.Left)
		if c.Left == 0 {
			s.LeftAt = s.Now
		}
	}
	if len(s.Conns) > 0 {
		s.Input, s.LeftCause = st.m.lastInput(s), CauseLogout
	}
	s.Conns = nil
	if w := s.Work; w != nil {
		w.Challenge, w.Deadline = "", 0
		if w.Total() > 0 {
			s.Serial++
			st.requeue(eventID('q', s.Serial, s.Now), CauseDisabled)
		}
	}
}

// conn finds a connection, or where it would be.
func (s *State) conn(id string) (int, bool) {
	for i := range s.Conns { // mostly there is one
		if c := &s.Conns[i]; c.ID == id {
			return i, true
		} else if c.ID > id {
			return i, false
		}
	}
	return len(s.Conns), false
}

// output appends an output, of now, for the caller to fill in: it is too large to
// be made elsewhere first.
func (st *stepper) output(kind OutputKind) *Output {
	n := len(st.out)
	if n < cap(st.out) {
		st.out = st.out[:n+1]
		st.out[n] = Output{}
	} else {
		st.out = append(st.out, Output{})
	}
	o := &st.out[n]
	o.Kind, o.At, o.Noticed = kind, st.s.Now, st.s.Now
	return o
}

// eventID names what an event brought about. The instant keeps it unique even
// if the serials of an earlier process were not all stored.
func eventID(kind byte, serial uint64, at Instant) string {
	id := strconv.AppendUint(append(make([]byte, 0, 48), kind), serial, 10)
	return string(strconv.AppendInt(append(id, '@'), int64(at), 10))
}
