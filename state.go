package presence

import (
	"cmp"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Source is where a claim comes from. It follows from the actor: a subject's own
// claim is manual, a supervisor's claim for another subject is supervisor. Only a
// system actor names a source itself. A policy may rank sources of its own.
type Source string

// The sources that every policy knows.
const (
	SourceSystem       Source = "system"
	SourceCall         Source = "call"
	SourceSupervisor   Source = "supervisor"
	SourceManual       Source = "manual"
	SourceCalendar     Source = "calendar"
	SourceApp          Source = "app"
	SourceLoginDefault Source = "login-default"
)

// cause returns the word that reports a source.
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

// The keys of claims that the core itself uses.
const (
	KeyBase  = "base"  // the choice that lasts until it is changed
	KeyTimed = "timed" // the choice with an end, which lies over the base
	KeyLock  = "lock"  // a supervisor's lock, which is a system claim
)

// Claim is a wish that a subject have a status: the choice of a person, or the
// report of a system. A subject has one claim for each source, key and connection.
// The policy ranks them.
type Claim struct {
	// ID names the claim, so that a repeated call changes nothing. The caller may
	// choose it; else the core does.
	ID     string `json:"id,omitzero"`
	Serial uint64 `json:"serial"` // set by the core: the order in which claims were set
	Status string `json:"status"`
	Class  Class  `json:"class,omitzero"` // set by the core: the class of the status when it was claimed
	Source Source `json:"source"`         // follows from the actor; a system actor may name one, or else it is app
	// Key distinguishes the claims of one source. Empty means KeyTimed for a claim
	// with an end and KeyBase for one without.
	Key string `json:"key,omitzero"`
	// Conn limits the claim to one connection. The claim counts while that
	// connection counts, together with the claims of the subject's other
	// connections.
	Conn   string  `json:"conn,omitzero"`
	Reason string  `json:"reason,omitzero"` // a short code, at most MaxReason bytes
	Text   string  `json:"text,omitzero"`   // for people, at most MaxText bytes
	SetAt  Instant `json:"setAt"`           // set by the core
	By     string  `json:"by,omitzero"`     // set by the core: the actor's id
	Until  Instant `json:"until,omitzero"`  // the claim has ended when the wall clock shows that instant; zero means never
	// For sets Until to a time after the claim is set. A claim may have only one of
	// the two. With neither, Status.For decides.
	For              time.Duration `json:"for,omitzero"`
	DropOnDisconnect bool          `json:"dropOnDisconnect,omitzero"` // the claim ends when its connection, or without Conn the subject's last connection, has ended
	DropOnLogin      bool          `json:"dropOnLogin,omitzero"`      // the claim ends with the next login
	HidesFrom        []Audience    `json:"hidesFrom,omitzero"`        // hides also from these audiences, which Policy.Hideable must list
	// Over is set by the core on a choice of the default status: the source and key
	// of each claim that it was chosen over. It ends once none of them is left.
	Over [][2]string `json:"over,omitempty"`
}

// UnmarshalJSON reads a claim. For is a number of nanoseconds, as
// [json.Marshal] writes it, or a duration such as "5m".
func (c *Claim) UnmarshalJSON(data []byte) error {
	type plain Claim
	read := struct {
		*plain
		For json.RawMessage `json:"for"`
	}{plain: (*plain)(c)}
	if err := json.Unmarshal(data, &read); err != nil {
		return refuse(ErrInvalid, "claim", "", "it cannot be decoded").because(err)
	}
	if len(read.For) == 0 {
		return nil
	}
	var err error
	if read.For[0] != '"' {
		err = json.Unmarshal(read.For, &c.For)
	} else if text, fault := strconv.Unquote(string(read.For)); fault != nil {
		err = fault
	} else {
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
	Epoch       uint32 // issued by the core; rises with every connect under the same id
	Device      string
	Node        string
	Incarnation uint64
	Opened      Instant
	Heard       Instant // the last sign of life
	Input       Instant // the last input over the connection, or that its client reported
	ActedAt     Instant // the subject's last own claim set elsewhere while the connection was live
	Looked      Instant // the last sign of a person over the connection that is no input, such as a focus
	Seq         uint64  // of the newest report; 0 means none
	Focus       string  // the channel that the client looks at
	Hidden      bool    // the application is not visible
	Aside       bool    // the policy in force at the last step does not count its input
	// Left and Cause are when and how the connection left. It lingers until its
	// grace has passed. Zero Left means live.
	Left  Instant
	Cause Cause
	// Reported means that the leaving was reported, not inferred from silence. A
	// connection that was only silent is revived by its next sign of life.
	Reported bool
}

// EndpointKind is the kind of an endpoint.
type EndpointKind string

// The kinds of endpoint.
const (
	EndpointPush    EndpointKind = "push"
	EndpointBot     EndpointKind = "bot"
	EndpointService EndpointKind = "service"
)

// Endpoint makes a subject reachable without a connection. It ends at Until; zero
// means never.
type Endpoint struct {
	ID    string       `json:"id"`
	Kind  EndpointKind `json:"kind"`
	Since Instant      `json:"since"`
	Until Instant      `json:"until,omitzero"`
}

// State is all that the core knows of one subject: the inputs, and the last
// presence for comparison. The zero State is an unknown subject. Only Step changes
// a State, and its slices belong to it.
type State struct {
	Subject   Ref
	Kind      SubjectKind
	Conns     []ConnState // by id
	Endpoints []Endpoint  // by id
	Claims    []Claim     // by source, key, connection
	Work      *Work       // nil means that none is known
	Input     Instant     // the last input as of when the last counting connection left
	InputKept Instant     // when Input was stored
	Acted     Instant     // the last login, own claim, first connect or earlier input over a connection that does not count; part of Input once all are gone
	LeftCause Cause       // how the last connection left
	LeftAt    Instant     // when the last connection left
	LoggedIn  Instant     // the last login
	Disabled  bool
	ends      []claimEnd // the ends of claims in the last minute, the oldest first; not stored

	Now Instant // the latest instant processed; it never decreases
	// Behind is by how much the wall clock lags Now, since Now did not go back when the
	// clock was set back. Every Until is an instant of the wall clock: it has passed
	// once Until + Behind is not after Now. The other instants are of the time of Now.
	Behind         time.Duration
	ChangedAt      Instant // when the live connections, endpoints, claims or the policy last changed
	SuspendedUntil Instant // the end of the last standstill
	LeaseFloor     Instant // no lease or grace that was running at the last standstill ends before it
	Epoch          uint32  // the last one issued
	Serial         uint64  // rises with every claim and transition

	Current Presence // as of Now
}

// Clone returns a copy that shares nothing that Step changes.
func (s *State) Clone() State {
	c := *s
	c.Conns = slices.Clone(s.Conns)
	c.Endpoints = slices.Clone(s.Endpoints)
	c.Claims = slices.Clone(s.Claims)
	c.ends = slices.Clone(s.ends)
	c.Work = s.Work.clone()
	return c
}

// OutputKind is the kind of an output.
type OutputKind uint8

// The kinds of output. Beside each stand the fields that it carries.
const (
	// OutputPersist asks that the record of the state be stored. Every later output
	// of the step must wait for that.
	OutputPersist OutputKind = iota
	// OutputTransition reports that the status changed. It carries Prev, Presence,
	// Trigger, At, Noticed and ID.
	OutputTransition
	// OutputUpdated reports another change of the presence, such as of its cause or
	// reach. It carries what OutputTransition does. It has an ID only if the reason
	// changed, since reports list reasons. A report of another capacity for work is
	// such a change, whether the presence shows it or not.
	OutputUpdated
	OutputClaimSet   // Claim
	OutputClaimEnded // Claim, Reason

	OutputRequeue       // ID, Load, Reason: all work of the subject is taken away
	OutputChallenge     // ID, At: asks for an answer before the wall clock shows At
	OutputRequestOpened // Request
	OutputRequestClosed // Request, Reason

	// A tracker reports these. No step has them as outputs.
	OutputGranted // Channel: the subject has become a member of it
	OutputRevoked // Channel: the subject is no member of it any more
	OutputErased  // the subject is forgotten, and is a member of no channel
)

var outputKinds = [...]string{
	OutputPersist: "persist", OutputTransition: "transition", OutputUpdated: "updated", OutputClaimSet: "claim-set", OutputClaimEnded: "claim-ended",
	OutputRequeue: "requeue", OutputChallenge: "challenge", OutputRequestOpened: "request-opened", OutputRequestClosed: "request-closed",
	OutputGranted: "granted", OutputRevoked: "revoked", OutputErased: "erased",
}

// String returns the name of the kind, such as "claim-ended".
func (k OutputKind) String() string {
	if int(k) < len(outputKinds) {
		return outputKinds[k]
	}
	return strconv.Itoa(int(k))
}

// Output is what a step reports to its driver or asks of it.
type Output struct {
	Kind OutputKind
	// ID names a transition, or a change of the reason. Every computation of one
	// transition gives it the same id, so that effects that must happen once can be
	// keyed by it.
	ID       string
	At       Instant // when it happened; of a transition, the new status's since
	Noticed  Instant // when the machine processed it; never before At
	Prev     string  // the status before; empty for the first transition
	Trigger  Cause
	Presence Presence
	Claim    Claim
	Reason   EndReason
	Request  Request
	Load     int // pieces of work taken away
	Channel  Channel
}

// EndReason is why a claim ended, a request was closed, or work was taken away.
// Work that is taken away because its subject left has the cause of leaving
// instead.
type EndReason string

// The reasons.
const (
	EndUntil        EndReason = "until"        // a claim's end was reached
	EndReplaced     EndReason = "replaced"     // another claim replaced it
	EndReleased     EndReason = "ended"        // an actor ended the claim
	EndLogin        EndReason = "login"        // a claim ended with the login
	EndLogout       EndReason = "logout"       // a claim ended with its connection's logout
	EndDisconnected EndReason = "disconnected" // a claim ended with its connection, or the last one
	EndDisabled     EndReason = "disabled"     // presence was disabled: claims end, work is taken away
	EndLimit        EndReason = "limit"        // a claim of an ended connection made room for another
	EndOver         EndReason = "over"         // the claims that a default was chosen over have ended
	EndSystem       EndReason = "system"       // another process ended the claim
	EndChallenge    EndReason = "challenge"    // work is taken away: a challenge was not answered
	EndSupervisor   EndReason = "supervisor"   // work is taken away: a supervisor chose a status

	EndAccepted  EndReason = "accepted"  // a request's status was claimed
	EndRejected  EndReason = "rejected"  // an actor rejected a request
	EndWithdrawn EndReason = "withdrawn" // the subject withdrew a request, or left
	EndExpired   EndReason = "expired"   // a request's time ran out, or the subject chose another status
)

// Step applies one event to the state of a subject and appends the outputs to out.
// It first processes every deadline up to now, each at its own instant. So an event
// at the instant of a deadline follows that deadline. An error refuses the event:
// the deadlines have been processed, and nothing else has changed. Time enters only
// as now; Step takes an instant before an earlier one as the earlier one. The same
// state, event and now always give the same result.
//
// Step neither keeps nor changes e. An event without a subject is for the subject
// of the state. No deadline of s lies before next, which is 0 if s has none. After
// a heartbeat, next may be the deadline that the heartbeat put off. [Machine.Next]
// is exact.
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
	switch e.Kind {
	case EventPolicy: // the old machine has processed the time until now
	case EventRestart:
		if len(s.Conns) == 0 && (e.Subject == s.Subject || e.Subject == (Ref{})) {
			st.restart(now)
			break
		}
		fallthrough
	default:
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
	if e.Kind == EventHeartbeat && !st.touched && s.LeaseFloor <= now {
		return nil // without a standstill before, the heartbeat can only have put a deadline off
	}
	st.expire(now)
	if st.touched {
		st.settle(cmp.Or(st.logical, now), trigger, "")
	}
	st.tick(now)
	return nil
}

// suspend processes the time in which this process stood still. First it processes
// the deadlines before the standstill. Then leases and graces are extended by the
// start-up grace, since unread heartbeats and reconnects wait in buffers.
func (st *stepper) suspend(e *Event, now Instant) {
	st.tick(min(e.From, now))
	st.s.SuspendedUntil, st.s.LeaseFloor = e.To, e.To.Add(st.m.startup)
	st.tick(now)
}

// Next returns the earliest deadline of s, or false if s has none. A later tick
// gives the same transitions at the same instants; only Noticed differs.
func (m *Machine) Next(s *State) (Instant, bool) {
	d := m.next(s)
	return d.at, d.ok
}

// stepper is the work of one step.
type stepper struct {
	m         *Machine
	s         *State
	out       []Output
	touched   bool    // the presence must be derived again
	room      bool    // the room for work has changed, which may be no part of the presence
	logical   Instant // the instant of the changes that the event makes, if it is not now
	ended     Instant // when what is being settled ended: a claim, or a connection that left; 0 if neither did
	persisted bool
	next      Instant // no deadline after now lies before it; 0 means none
	lastName  *transitionName
}

// check refuses an event of another subject, and one that a disabled subject cannot
// have.
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

// apply changes the inputs of the state by the event.
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
		st.recount()
		st.change()
		if st.expireClaims(s.Now) { // by the new policy's limits
			st.ended = s.Now
		}
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
		if st.touched = true; len(s.Conns) > 0 {
			st.change()
		}
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

// applyWork changes a subject's work and requests by the event.
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

// setClock processes that the wall clock was set back by a duration, or forward by a
// negative one. What measures elapsed time stays, such as a lease.
func (st *stepper) setClock(back time.Duration) {
	s := st.s
	s.Behind = time.Duration(Instant(s.Behind).Add(back)) // which does not overflow
	st.touched = s.Current.Known
	st.tick(s.Now) // an end that the clock has passed is an end by time
}

// change records that the live connections, endpoints, claims or the policy change
// now.
func (st *stepper) change() {
	st.s.ChangedAt = st.s.Now
	st.touched = true
}

// persist asks once per step that the record be stored before the outputs that
// follow are reported.
func (st *stepper) persist() {
	if st.persisted {
		return
	}
	st.persisted = true
	st.out = append(st.out, Output{Kind: OutputPersist})
}

// restartConn is the id of a connection that stands for those that a restarted
// process lost. No client can use it.
const restartConn = "\x00restart"

// restart makes a subject that was reachable when its record was written linger for
// the start-up grace. So clients can reconnect without a change of status. The
// lingering connection keeps the last input. Claims and endpoints that ended since
// then end at their instants. Idleness has no instant before now: an older record does
// not have the instant up to which its stages had been processed.
func (st *stepper) restart(now Instant) {
	s, m := st.s, st.m
	if s.Current.Reach >= ReachLingering {
		s.SuspendedUntil, s.LeaseFloor = now+1, now.Add(m.startup)
		c := ConnState{ID: restartConn, Opened: now, Heard: now, Input: s.Input, Left: now, Cause: CauseNode, Reported: true}
		c.Aside = !m.counts(&c)
		s.Conns = []ConnState{c}
	}
	for {
		d := m.next(&State{Behind: s.Behind, Claims: s.Claims, Endpoints: s.Endpoints, Work: s.Work})
		if !d.ok || d.at > now {
			return
		}
		s.Now = max(s.Now, d.at)
		st.settleAt(s.Now)
	}
}

// takeOver replaces the stored part of the state by a record that another process
// wrote.
func (st *stepper) takeOver(r *Record) {
	s := st.s
	stored, _ := r.State(s.Now, s.Behind) // validate has read it
	known := func(list []Claim, c *Claim) bool {
		return slices.ContainsFunc(list, func(o Claim) bool { return o.ID == c.ID && compareClaims(o, *c) == 0 })
	}
	before := s.Claims
	if stored.Work != nil {
		w := st.work()
		w.Pending, w.meanwhile, w.Requests = stored.Work.Pending, stored.Work.meanwhile, stored.Work.Requests
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
		c.Aside = !st.m.counts(&c)
		st.open(e, &c)
	}
	if e.Age > 0 { // an age counts only if it is older than the known input
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
			st.noteAct(&c)
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

// open completes a new connection whose id no other has.
func (st *stepper) open(e *Event, c *ConnState) {
	s := st.s
	if e.Kind != EventLogin && len(s.Conns) == 0 && s.LeftCause == CauseLost {
		st.startSettling()
	}
	if c.Input = st.m.lastInput(s); c.Input == 0 { // a subject without earlier input
		c.Input = s.Now
		st.noteAct(c)
	}
	st.change()
}

// reopen completes a connection that replaces an older one of its id.
func (st *stepper) reopen(e *Event, c, old *ConnState) {
	c.Opened, c.Input, c.ActedAt, c.Looked = old.Opened, old.Input, old.ActedAt, old.Looked
	c.Focus, c.Hidden = old.Focus, old.Hidden
	c.Device = cmp.Or(e.Device, old.Device)
	if e.Node == "" {
		c.Node, c.Incarnation = old.Node, old.Incarnation
	}
	if c.Aside = !st.m.counts(c); c.Aside && !old.Aside { // another device
		st.s.Acted = max(st.s.Acted, old.Input, old.ActedAt)
	}
	if old.Left == 0 {
		return
	}
	st.change()
	if e.Kind != EventLogin && old.Cause == CauseLost {
		st.startSettling()
	}
}

// login applies the login rule of the policy.
func (st *stepper) login(conn string) {
	s, m := st.s, st.m
	reset := m.policy.Login.Mode == LoginReset
	st.dropOnly(EndLogin, func(c *Claim) bool { // what the login sets again below is the same claim
		if c.Conn != "" && c.Conn != conn {
			return false
		}
		return c.DropOnLogin || reset && (m.rankOf(c.Source) == m.manual || c.Source == SourceLoginDefault)
	})
	if reset {
		st.cancelPlans()
		st.insert(Claim{Status: m.policy.Login.Status, Source: SourceLoginDefault, Key: KeyBase, By: s.Subject.ID})
	}
	st.endDefaults()
}

// insert adds a checked claim. It replaces the claim of the same source, key and
// connection.
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

// drop ends the claims for which gone returns true, and a default that was chosen
// over none but these. It reports whether it ended a claim.
func (st *stepper) drop(why EndReason, gone func(*Claim) bool) bool {
	dropped := st.dropOnly(why, gone)
	if dropped {
		st.endDefaults()
	}
	return dropped
}

// dropOnly ends the claims for which gone returns true. An end by time is not
// stored, since the record has Until.
func (st *stepper) dropOnly(why EndReason, gone func(*Claim) bool) (dropped bool) {
	s := st.s
	if len(s.Claims) == 0 {
		return false
	}
	s.Claims = slices.DeleteFunc(s.Claims, func(c Claim) bool {
		if !gone(&c) {
			return false
		}
		if why != EndUntil && why != EndOver {
			st.persist()
		}
		if why == EndUntil || why == EndReleased {
			st.holdUntilDrained(&c)
		}
		st.out = append(st.out, Output{Kind: OutputClaimEnded, At: s.Now, Noticed: s.Now, Claim: c, Reason: why})
		dropped = true
		return true
	})
	if !dropped {
		return false
	}
	switch why {
	case EndUntil, EndDisconnected, EndOver:
		st.touched = true // caused by time, whose changes have instants of their own
	default:
		st.change()
	}
	return true
}

// report applies what a client sends over a connection. Each report is a sign of
// life.
func (st *stepper) report(e *Event) (Cause, error) {
	s := st.s
	c, err := st.find(e)
	if err != nil {
		return "", err
	}
	st.noteAlive(c)
	trigger := TriggerConnect // a connection that was silent for too long is revived
	input := ""               // the activity, if it is one
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
	switch {
	case input != "" && st.m.activity[input]:
		c.Input = s.Now
		trigger = TriggerInput
		st.touched = true
	case e.Kind == EventInput || e.Kind == EventFocus:
		c.Looked = s.Now
	}
	return trigger, nil
}

// find returns the connection of an event. It returns ErrUnknown without one, and
// ErrStale for an old epoch or a connection that was reported to have left.
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
	if c.Reported {
		return nil, refuse(ErrStale, "connection", e.Conn, "it has left (%s); connect again", c.Cause)
	}
	return c, nil
}

// noteAlive records a sign of life. It revives a connection that was only silent
// for too long.
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

// leave makes a live connection linger from at. A connection that lingers already
// keeps its instant, but a report confirms what silence had only suggested.
func (st *stepper) leave(c *ConnState, cause Cause, at Instant, reported bool) {
	if c.Left == 0 {
		c.Left, c.Cause = at, cause
		st.change()
	}
	c.Reported = c.Reported || reported
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
		if c.Cause == CauseLogout {
			continue // the same logout again
		}
		if c.Left == 0 {
			st.change()
		}
		c.Left, c.Cause, c.Reported = s.Now, CauseLogout, true
	}
	if all && len(s.Conns) == 0 && s.Current.Known {
		s.LeftCause = CauseLogout // the subject leaves for good after its last connection ended
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
	if s.past(e.Endpoint.Until, s.Now) {
		return refuse(ErrInvalid, "until", e.Endpoint.Until.String(), "it has passed")
	}
	if !found && len(s.Endpoints) >= MaxEndpoints {
		return refuse(ErrLimit, "endpoint", e.Endpoint.ID, "%s has %d, at most %d are allowed", s.Subject, len(s.Endpoints), MaxEndpoints)
	}
	if e.SubjectKind != "" && e.SubjectKind != s.Kind {
		s.Kind = e.SubjectKind
		st.touched = true // also for an endpoint that is there already
		st.persist()
	}
	p := e.Endpoint
	p.Since = s.Now
	if found {
		if old := &s.Endpoints[i]; old.Kind == p.Kind {
			if old.Until == p.Until {
				return nil
			}
			p.Since = old.Since
		}
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
		if w := s.Work; w != nil && w.Pending != nil && w.Pending.ID == c.ID && compareClaims(*w.Pending, c) == 0 {
			return c.Source.cause(), nil // the same event again, while it waits
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
	if e.Actor.Role == RoleSystem && st.startsTooLate(&c) {
		return c.Source.cause(), nil
	}
	if over != nil {
		st.noteAlive(over)
	}
	if c.Source == SourceManual || c.Source == SourceSupervisor {
		st.applyOrDrain(c)
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
		// A supervisor's claim ends the claims of the system, except a lock.
		st.drop(EndReplaced, func(o *Claim) bool { return o.Source == SourceSystem && o.Key != KeyLock })
	}
	if own {
		st.noteChoice(over)
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

// resolve checks the claim of an event against the policy. It fills in the fields
// that follow from the actor and the policy.
func (m *Machine) resolve(s *State, e *Event) (c Claim, own bool, err error) {
	c = e.Claim
	if s.Disabled {
		return c, false, s.switchedOff()
	}
	if c.Source, err = e.Actor.source(s.Subject, c.Source, m); err != nil {
		return c, false, err
	}
	own = e.Actor.owns(s)
	c.Conn, c.Over = m.binds(s, e), nil
	def, err := m.selectable(&c)
	if err != nil {
		return c, false, err
	}
	if c.For == 0 && c.Until == 0 && def.For > 0 {
		c.For = def.For
	}
	if c.For > 0 {
		c.Until = s.wall(s.Now.Add(c.For))
	}
	if s.past(c.Until, s.Now) {
		return c, false, refuse(ErrInvalid, "until", c.Until.String(), "it is not after now, %s", s.wall(s.Now))
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
			return c, false, refuse(ErrInvalid, "audience", string(a), "the policy does not let a claim hide from it").allow(wordsOf(m.hideable)...)
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

// binds returns the connection that the claim of an event is for. Under claimScope
// connection, a subject's own claim over a connection is for that connection.
func (m *Machine) binds(s *State, e *Event) string {
	if e.Claim.Conn == "" && m.policy.ClaimScope == ScopeConnection && e.Actor.owns(s) {
		return e.Conn
	}
	return e.Claim.Conn
}

// owns reports whether an actor acts as the subject of s.
func (a Actor) owns(s *State) bool { return a.Subject == s.Subject && a.Role != RoleSystem }

// leftFor reports whether a subject is unreachable as far as an actor may know. A
// subject that hides from the actor counts as unreachable.
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
	waited := st.dropPending(ends)
	met := st.drop(EndReleased, ends) || waited
	if c := &e.Claim; s.Current.Known && e.Actor.Role == RoleSystem && source != SourceManual && (c.Key != "" || c.ID != "") {
		st.noteEnd(claimEnd{source: source, conn: conn, key: c.Key, id: c.ID, met: met})
	}
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

// nodeBack removes the connections of earlier incarnations of a node, except those
// that a status keeps.
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
		if st.m.keptUntil(s, c) > s.Now {
			i++
			continue
		}
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

// switchOff disables a subject: it ends the connections and takes the work away.
func (st *stepper) switchOff() {
	s := st.s
	s.Disabled = true
	for i := range s.Conns {
		if left := cmp.Or(s.Conns[i].Left, s.Now); left >= s.LeftAt {
			s.LeftAt, s.LeftCause = left, CauseLogout
		}
	}
	if len(s.Conns) > 0 {
		st.keepInput(max(st.m.lastInput(s), s.Acted))
	}
	s.Conns, s.Acted = nil, 0
	if w := s.Work; w != nil {
		w.Challenge, w.Deadline = "", 0
		if w.Total() > 0 {
			s.Serial++
			st.requeue(eventID('q', s.Serial, s.Now), EndDisabled)
		}
	}
}

// conn returns the index of a connection, or false and the index at which to insert
// it.
func (s *State) conn(id string) (int, bool) {
	for i := range s.Conns { // a loop, since most subjects have one
		if c := &s.Conns[i]; c.ID == id {
			return i, true
		} else if c.ID > id {
			return i, false
		}
	}
	return len(s.Conns), false
}

// output appends an output of now, for the caller to complete. An Output is too
// large to copy.
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

// eventID returns an id for what an event caused. The instant keeps it unique even
// if not all serials of an earlier process were stored.
func eventID(kind byte, serial uint64, at Instant) string {
	id := strconv.AppendUint(append(make([]byte, 0, 48), kind), serial, 10)
	return string(strconv.AppendInt(append(id, '@'), int64(at), 10))
}
