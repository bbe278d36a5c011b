package presence

import (
	"cmp"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Source is where a claim comes from. It follows from the actor: a subject's
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

// UnmarshalJSON reads a claim. For is nanoseconds, as it is written, or a duration
// such as "5m".
func (c *Claim) UnmarshalJSON(data []byte) error {
	type plain Claim
	read := struct {
		*plain
		For json.RawMessage `json:"for"`
	}{plain: (*plain)(c)}
	if err := json.Unmarshal(data, &read); err != nil {
		return err
	}
	if len(read.For) == 0 {
		return nil
	}
	if read.For[0] != '"' {
		return json.Unmarshal(read.For, &c.For)
	}
	text, err := strconv.Unquote(string(read.For))
	if err == nil {
		c.For, err = time.ParseDuration(text)
	}
	if err != nil {
		return refuse(ErrInvalid, "until", string(read.For), "a duration is written as \"5m\", or in nanoseconds").because(err)
	}
	return nil
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

// EndpointKind is what can be reached without a connection.
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
// answer for comparison. The zero State is a subject that is not known. Only
// Step changes it; its slices belong to it.
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

// OutputKind is what an Output reports or asks for.
type OutputKind uint8

// The outputs. Beside each, what it carries.
const (
	// OutputPersist asks that the state's record be stored; every later output
	// of the step must wait until it is.
	OutputPersist OutputKind = iota
	// OutputTransition reports that the status changed: Prev and Presence, Trigger,
	// At, Noticed and ID.
	OutputTransition
	// OutputUpdated reports that something else of the presence changed, such as
	// its reason, cause or reach.
	OutputUpdated
	OutputClaimSet   // Claim
	OutputClaimEnded // Claim, Why

	OutputRequeue       // ID, Load, Why: all work of the subject goes to others
	OutputChallenge     // ID, At: asks for an answer before then
	OutputRequestOpened // Request
	OutputRequestClosed // Request, Why
)

var outputKinds = [...]string{
	OutputPersist: "persist", OutputTransition: "transition", OutputUpdated: "updated", OutputClaimSet: "claim-set", OutputClaimEnded: "claim-ended",
	OutputRequeue: "requeue", OutputChallenge: "challenge", OutputRequestOpened: "request-opened", OutputRequestClosed: "request-closed",
}

// String returns the name of the kind, such as "claim-ended".
func (k OutputKind) String() string {
	if int(k) < len(outputKinds) {
		return outputKinds[k]
	}
	return strconv.Itoa(int(k))
}

// Output is something that a step reports to its driver or asks of it.
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
	Reason   EndReason
	Request  Request
	Load     int // pieces of work taken away
}

// EndReason is why a claim ended, how a request was closed, or why work was
// taken away. Work is also taken away for the cause by which its subject left.
type EndReason string

// The reasons.
const (
	EndUntil        EndReason = "until"        // a claim's time was over
	EndReplaced     EndReason = "replaced"     // another claim took its place
	EndReleased     EndReason = "ended"        // an actor ended the claim
	EndLogin        EndReason = "login"        // a claim ended with the login
	EndLogout       EndReason = "logout"       // a claim ended with its connection's logout
	EndDisconnected EndReason = "disconnected" // a claim ended with its connection, or the last one
	EndDisabled     EndReason = "disabled"     // presence was switched off: claims end, work is taken away
	EndLimit        EndReason = "limit"        // a claim of a gone connection made room for another
	EndSystem       EndReason = "system"       // another process ended the claim
	EndChallenge    EndReason = "challenge"    // work is taken away: a challenge was not answered
	EndSupervisor   EndReason = "supervisor"   // work is taken away: a supervisor's choice

	EndAccepted  EndReason = "accepted"  // a request's status was claimed
	EndRejected  EndReason = "rejected"  // a request was refused
	EndWithdrawn EndReason = "withdrawn" // the subject took a request back, or left
	EndExpired   EndReason = "expired"   // a request's time was over, or the subject chose something else
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
	st := stepper{m: m, s: s, out: out, lastName: e.lastName}
	err = st.step(e, now)
	return st.out, st.next, err
}

func (st *stepper) step(e *Event, now Instant) error {
	s := st.s
	now = max(now, s.Now)
	fault := e.validate()
	if e.Kind == EventSuspended && fault == nil {
		st.suspend(e, now)
		return nil
	}
	if e.Kind != EventPolicy { // the old machine has processed the time until now
		st.tick(now)
	}
	s.Now = now
	if e.Kind == EventTick || fault != nil {
		return fault
	}
	named := s.Subject
	trigger, err := st.apply(e)
	if err != nil {
		s.Subject = named
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
func (st *stepper) suspend(e *Event, now Instant) {
	st.tick(min(e.From, now))
	st.s.SuspendedUntil, st.s.LeaseFloor = e.To, e.To.Add(st.m.startup)
	st.tick(now)
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
	touched   bool    // something changed, so that the presence must be derived again
	logical   Instant // from when what the event brings about holds, if not from now
	ended     Instant // when a claim's time ran out, if that is what is being settled
	persisted bool
	next      Instant // no deadline after what was processed lies before it; 0 for none
	lastName  *transitionName
}

// check refuses an event of another subject, and what a disabled subject cannot do.
func (st *stepper) check(e *Event) error {
	s := st.s
	switch {
	case s.Subject == (Ref{}):
		if e.Subject == (Ref{}) {
			return refuse(ErrInvalid, "subject", "", "neither the event nor the state has one")
		}
		if err := checkRef("subject", e.Subject); err != nil {
			return err
		}
		s.Subject = e.Subject
	case e.Subject != s.Subject && e.Subject != (Ref{}):
		return refuse(ErrInvalid, "subject", e.Subject.String(), "the state is of %s", s.Subject)
	}
	if !s.Disabled {
		return nil
	}
	switch e.Kind {
	case EventConnect, EventLogin, EventEndpoint, EventLoad, EventChallenge:
		return s.switchedOff()
	}
	return nil
}

func (s *State) switchedOff() error {
	return refuse(ErrDisabled, "subject", s.Subject.String(), "presence is switched off")
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
		cause := cmp.Or(e.Cause, CauseNode)
		st.nodeGone(e.Node, e.Incarnation, cause)
		return cause, nil
	case EventNodeUp:
		st.nodeBack(e.Node, e.Incarnation)
		return CauseNode, nil
	case EventPolicy:
		st.change()
		return TriggerPolicy, nil
	case EventDisable:
		st.disable()
		return CauseDisabled, nil
	case EventEnable:
		st.enable()
		return CauseDisabled, nil
	case EventClock:
		st.setClock(e.From.Sub(e.To))
		return TriggerUntil, nil
	case EventRestart:
		st.restart()
		return CauseNode, nil
	case EventRecord:
		st.takeOver(e.Record)
		return CauseSystem, nil
	case EventGrant:
		st.touched = !s.Current.Known
		return TriggerGrant, nil
	}
	return st.applyWork(e)
}

// applyWork changes a subject's work and requests according to e.
func (st *stepper) applyWork(e *Event) (trigger Cause, err error) {
	switch e.Kind {
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
	}
	return "", nil
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
// follows is reported.
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

// takeOver replaces what is durable by a record that another process wrote.
func (st *stepper) takeOver(r *Record) {
	stored, _ := r.State() // validate has read it
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
			st.out = append(st.out, Output{Kind: OutputClaimEnded, At: s.Now, Noticed: s.Now, Claim: before[i], Reason: EndSystem})
		}
	}
	for i := range s.Claims {
		if !known(before, &s.Claims[i]) {
			st.out = append(st.out, Output{Kind: OutputClaimSet, At: s.Claims[i].SetAt, Noticed: s.Now, Claim: s.Claims[i]})
		}
	}
	st.change()
}

func (st *stepper) connect(e *Event) (Cause, error) {
	s := st.s
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
		return "", refuse(ErrStale, "epoch", strconv.FormatUint(uint64(e.Epoch), 10), "the next epoch of connection %q is %d", e.Conn, epoch)
	}
	if !found && len(s.Conns) >= MaxConnections {
		return "", refuse(ErrLimit, "connection", e.Conn, "%s has %d, at most %d are allowed", s.Subject, len(s.Conns), MaxConnections)
	}
	c := ConnState{ID: e.Conn, Epoch: epoch, Device: e.Device, Node: e.Node, Incarnation: e.Incarnation, Opened: s.Now, Heard: s.Now}
	if found {
		st.reopen(e, &c, &s.Conns[i])
	} else {
		st.open(e, &c)
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
		if st.m.activity[ActivityLogin] {
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

// open fills in a connection of an id that none has.
func (st *stepper) open(e *Event, c *ConnState) {
	s := st.s
	if e.Kind != EventLogin && len(s.Conns) == 0 && s.LeftCause == CauseLost {
		st.startSettling()
	}
	c.Input = cmp.Or(st.m.lastInput(s), s.Now) // now for a subject never seen before
	st.change()
}

// reopen fills in a connection that takes the place of an older one.
func (st *stepper) reopen(e *Event, c, old *ConnState) {
	c.Opened, c.Input, c.ActedAt = old.Opened, old.Input, old.ActedAt
	c.Focus, c.Hidden = old.Focus, old.Hidden
	c.Device = cmp.Or(e.Device, old.Device)
	if e.Node == "" {
		c.Node, c.Incarnation = old.Node, old.Incarnation
	}
	if old.Left == 0 {
		return
	}
	st.change()
	if e.Kind != EventLogin && old.Cause == CauseLost {
		st.startSettling()
	}
}

// login applies the policy's rule for entering with credentials.
func (st *stepper) login(conn string) {
	s, m := st.s, st.m
	reset := m.policy.Login.Mode == LoginReset
	st.drop(EndLogin, func(c *Claim) bool {
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

// drop ends the claims for which gone returns true. That a claim's time is over need
// not be stored: its end was known when it was.
func (st *stepper) drop(why EndReason, gone func(*Claim) bool) (dropped bool) {
	s := st.s
	if len(s.Claims) == 0 {
		return false
	}
	s.Claims = slices.DeleteFunc(s.Claims, func(c Claim) bool {
		if !gone(&c) {
			return false
		}
		if why != EndUntil {
			st.persist()
		}
		st.out = append(st.out, Output{Kind: OutputClaimEnded, At: s.Now, Noticed: s.Now, Claim: c, Reason: why})
		dropped = true
		return true
	})
	switch {
	case !dropped:
	case why == EndUntil || why == EndDisconnected:
		st.touched = true // brought about by time, whose instants are their own
	default:
		st.change()
	}
	return dropped
}

// report handles what a client sends over a connection, all of which proves that
// it lives.
func (st *stepper) report(e *Event) (Cause, error) {
	s := st.s
	c, err := st.find(e)
	if err != nil {
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
		input = ActivityInput
	case EventFocus:
		c.Focus = e.Channel
		if e.Channel != "" {
			input = ActivityFocus
		}
	case EventVisible:
		c.Hidden = e.Hidden
		if !e.Hidden {
			input = ActivityShow
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
		return nil, refuse(ErrUnknown, "connection", e.Conn, "%s has none of that id; connect again", s.Subject)
	}
	c := &s.Conns[i]
	if e.Epoch != 0 && e.Epoch != c.Epoch {
		return nil, refuse(ErrStale, "epoch", strconv.FormatUint(uint64(e.Epoch), 10), "the present epoch of connection %q is %d", e.Conn, c.Epoch)
	}
	if c.Left != 0 && c.Reported {
		return nil, refuse(ErrStale, "connection", e.Conn, "it has left (%s); connect again", c.Cause)
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
	i, found := s.conn(e.Conn)
	if !found {
		return refuse(ErrUnknown, "connection", e.Conn, "%s has none of that id", s.Subject)
	}
	c := &s.Conns[i]
	if e.Epoch > c.Epoch {
		return refuse(ErrStale, "epoch", strconv.FormatUint(uint64(e.Epoch), 10), "connection %q never had it", e.Conn)
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
	all := e.Conn == "" || st.m.policy.LogoutScope == ScopeAccount
	if e.Conn != "" {
		if _, found := s.conn(e.Conn); !found {
			return refuse(ErrUnknown, "connection", e.Conn, "%s has none of that id", s.Subject)
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
	st.drop(EndLogout, func(c *Claim) bool { return c.Conn != "" && (all || c.Conn == e.Conn) })
	st.touched = true
	return nil
}

func (st *stepper) endpoint(e *Event) error {
	s := st.s
	i, found := slices.BinarySearchFunc(s.Endpoints, e.Endpoint.ID, func(p Endpoint, id string) int { return strings.Compare(p.ID, id) })
	if e.Remove {
		if found {
			s.Endpoints = slices.Delete(s.Endpoints, i, i+1)
			st.change()
			st.persist()
		}
		return nil
	}
	if e.Endpoint.Until != 0 && e.Endpoint.Until <= s.Now {
		return refuse(ErrInvalid, "until", e.Endpoint.Until.String(), "it has passed")
	}
	if !found && len(s.Endpoints) >= MaxEndpoints {
		return refuse(ErrLimit, "endpoint", e.Endpoint.ID, "%s has %d, at most %d are allowed", s.Subject, len(s.Endpoints), MaxEndpoints)
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
		return "", refuse(ErrNotAllowed, "status", c.Status, "it needs approval; ask for it with a request")
	}
	if c.ID != "" {
		if i, found := slices.BinarySearchFunc(s.Claims, c, compareClaims); found && s.Claims[i].ID == c.ID {
			return c.Source.cause(), nil // the same event again
		}
	}
	var over *ConnState
	if conn := cmp.Or(e.Conn, c.Conn); conn != "" {
		if over, err = st.find(&Event{Conn: conn, Epoch: e.Epoch}); err != nil {
			return "", err
		}
	}
	if len(s.Claims) >= MaxClaims {
		if _, found := slices.BinarySearchFunc(s.Claims, c, compareClaims); !found && !st.dropOrphan() {
			return "", refuse(ErrLimit, "claim", c.Key, "%s has %d, at most %d are allowed", s.Subject, len(s.Claims), MaxClaims)
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
		s.Work.Challenge, s.Work.Deadline = "", 0 // a choice answers a challenge
	}
	if own && m.policy.Work.SelfReady && def.Class == ClassAvailable {
		st.drop(EndReplaced, func(o *Claim) bool { return o.Source == SourceSystem && o.Key == KeyKickedOut })
	}
	if c.Source == SourceSupervisor {
		// A supervisor lifts what the system imposed, but not a lock.
		st.drop(EndReplaced, func(o *Claim) bool { return o.Source == SourceSystem && o.Key != KeyLock })
	}
	if own && m.activity[ActivityClaim] {
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

// resolve checks the claim of an event against the policy, and fills in what
// follows from the actor and the policy.
func (m *Machine) resolve(s *State, e *Event) (c Claim, own bool, err error) {
	c = e.Claim
	if s.Disabled {
		return c, false, s.switchedOff()
	}
	if c.Source, err = e.Actor.source(s.Subject, c.Source, m); err != nil {
		return c, false, err
	}
	own = e.Actor.owns(s)
	c.Conn = m.binds(s, e)
	def, err := m.selectable(&c)
	if err != nil {
		return c, false, err
	}
	if c.For == 0 && c.Until == 0 && def.For > 0 {
		c.For = def.For
	}
	if c.For > 0 {
		c.Until = s.Now.Add(c.For)
	}
	if c.Until != 0 && c.Until <= s.Now {
		return c, false, refuse(ErrInvalid, "until", c.Until.String(), "it is not after now, %s", s.Now)
	}
	if c.Key == "" {
		c.Key = KeyBase
		if c.Until != 0 {
			c.Key = KeyTimed
		}
	}
	if c.Source == SourceManual && (c.Key != KeyBase || c.Until != 0) && (c.Key != KeyTimed || c.Until == 0) {
		return c, false, refuse(ErrInvalid, "key", c.Key, "a manual claim has key %s without an end, and %s with one", KeyBase, KeyTimed)
	}
	for _, a := range c.HidesFrom {
		if !slices.Contains(m.hideable, a) {
			return c, false, refuse(ErrInvalid, "audience", string(a), "the policy lets no claim hide from it").allow(wordsOf(m.hideable)...)
		}
	}
	if c.Source == SourceSupervisor && m.policy.SupervisorWhenOffline == OfflineRefuse && m.leftFor(s, e.Actor) {
		return c, false, refuse(ErrOffline, "subject", s.Subject.String(), "a supervisor cannot set the status of a subject that is not connected")
	}
	c.By = e.Actor.Subject.ID
	c.HidesFrom = union(nil, c.HidesFrom)
	return c, own, nil
}

// selectable returns the definition of a claim's status, if its source may claim it.
func (m *Machine) selectable(c *Claim) (*definition, error) {
	def := m.status(c.Status)
	if def == nil {
		return nil, refuse(ErrUnknown, "status", c.Status, "the policy does not have it").allow(m.statusIDs(nil)...)
	}
	by := BySystem
	switch c.Source {
	case SourceManual:
		by = BySelf
	case SourceSupervisor:
		by = BySupervisor
	}
	if !slices.Contains(def.SelectableBy, by) {
		return nil, refuse(ErrNotAllowed, "status", c.Status, "it is not selectable by %s", by).allow(m.Selectable(by)...)
	}
	return def, nil
}

// binds returns the connection that the claim of an event binds. A subject's own
// claim over a connection binds it under a policy with claimScope connection.
func (m *Machine) binds(s *State, e *Event) string {
	if e.Claim.Conn == "" && m.policy.ClaimScope == ScopeConnection && e.Actor.owns(s) {
		return e.Conn
	}
	return e.Claim.Conn
}

// owns reports whether an actor acts for itself, as the subject of s.
func (a Actor) owns(s *State) bool { return a.Subject == s.Subject && a.Role != RoleSystem }

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
	conn := st.m.binds(s, e)
	ends := func(c *Claim) bool {
		return c.Source == source && (e.Claim.Key == "" || c.Key == e.Claim.Key) && c.Conn == conn &&
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

// nodeBack removes the connections of earlier incarnations of a node.
func (st *stepper) nodeBack(node string, incarnation uint64) {
	s := st.s
	var gone Instant
	for i := 0; i < len(s.Conns); {
		c := &s.Conns[i]
		if c.Node != node || c.Incarnation >= incarnation {
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
}

func (st *stepper) enable() {
	if s := st.s; s.Disabled {
		s.Disabled = false
		st.change()
		st.persist()
	}
}

func (st *stepper) disable() {
	s := st.s
	if s.Disabled {
		return
	}
	st.persist()
	s.Endpoints = nil
	st.drop(EndDisabled, func(*Claim) bool { return true })
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
			st.requeue(eventID('q', s.Serial, s.Now), EndDisabled)
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
