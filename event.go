package presence

import (
	"slices"
	"strconv"
	"time"
)

// EventKind is the kind of an event.
type EventKind uint8

// The kinds of event. Beside each stand the fields that it reads.
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
	EventEndpoint                    // Endpoint, Remove, SubjectKind
	EventSetClaim                    // Actor, Conn, Epoch, Claim
	EventEndClaim                    // Actor, Conn, Epoch, Claim (ID, Source, Key and Conn; an empty Key means every key)
	EventNodeDown                    // Node, Incarnation, Cause
	EventNodeUp                      // Node, Incarnation
	EventPolicy                      // none; tick the old machine to now, then step the new one with this
	EventGrant                       // none; makes the subject known
	EventDisable                     // none
	EventEnable                      // none
	EventSuspended                   // From, To: this process stood still from one to the other
	EventClock                       // From, To: the wall clock was set from one to the other
	EventRestart                     // none; the state was restored from its record in a new process
	EventRecord                      // Record: another process changed what is stored

	EventLoad      // Load, Revision: the load, as the host counted it at that revision
	EventOffer     // Load (On; N, 0 means 1), Routing, Revision: gives the subject work
	EventDone      // Load (On; N, 0 means 1), Revision: work has ended
	EventChallenge // ID, Claim.For: asks "still there?"
	EventAck       // ID; an empty ID answers the open challenge
	EventRequest   // Actor, ID, Claim: asks for a status
	EventWithdraw  // Actor, ID; an empty ID means the oldest open request
	EventDecide    // Actor, ID, Reject: accepts or rejects a request; an empty ID means the oldest open one
)

// eventKinds has a row for each kind of event.
var eventKinds = [...]struct {
	name        string
	creates     bool // may make an unknown subject known
	storedFirst bool // may change what must be stored before it is reported
	forAll      bool // without a subject, is for every subject
}{
	EventTick:       {name: "tick", creates: true},
	EventConnect:    {name: "connect", creates: true},
	EventLogin:      {name: "login", creates: true, storedFirst: true},
	EventHeartbeat:  {name: "heartbeat"},
	EventInput:      {name: "input"},
	EventFocus:      {name: "focus"},
	EventVisible:    {name: "visible"},
	EventDisconnect: {name: "disconnect"},
	EventLogout:     {name: "logout", creates: true, storedFirst: true},
	EventEndpoint:   {name: "endpoint", creates: true, storedFirst: true},
	EventSetClaim:   {name: "set-claim", creates: true, storedFirst: true},
	EventEndClaim:   {name: "end-claim", storedFirst: true},
	EventNodeDown:   {name: "node-down", creates: true, forAll: true},
	EventNodeUp:     {name: "node-up", creates: true, forAll: true},
	EventPolicy:     {name: "policy", creates: true},
	EventGrant:      {name: "grant", creates: true},
	EventDisable:    {name: "disable", creates: true, storedFirst: true},
	EventEnable:     {name: "enable", creates: true, storedFirst: true},
	EventSuspended:  {name: "suspended", creates: true, forAll: true},
	EventClock:      {name: "clock", creates: true},
	EventRestart:    {name: "restart", creates: true},
	EventRecord:     {name: "record", creates: true},
	EventLoad:       {name: "load", creates: true},
	EventOffer:      {name: "offer"},
	EventDone:       {name: "done"},
	EventChallenge:  {name: "challenge"},
	EventAck:        {name: "ack"},
	EventRequest:    {name: "request", storedFirst: true},
	EventWithdraw:   {name: "withdraw", storedFirst: true},
	EventDecide:     {name: "decide", storedFirst: true},
}

// String returns the name of the kind, such as "set-claim".
func (k EventKind) String() string {
	if int(k) < len(eventKinds) {
		return eventKinds[k].name
	}
	return strconv.Itoa(int(k))
}

// NoAge is the Age of an event that reports no input.
const NoAge time.Duration = -1

// Event is something that happened to one subject. Each kind lists the fields
// that it reads besides Kind and Subject.
type Event struct {
	Kind        EventKind
	Subject     Ref
	SubjectKind SubjectKind
	Actor       Actor
	Conn        string
	Epoch       uint32 // of the connection; 0 means the present epoch, or on connect the next
	Device      string
	Node        string
	Incarnation uint64
	Seq         uint64        // of a report; 0 means unnumbered
	Age         time.Duration // time since the last input, as the client knows it; NoAge reports none
	Cause       Cause
	Channel     string
	Hidden      bool
	Remove      bool // of EventEndpoint: the endpoint ends
	// Reject is of EventDecide: the request is rejected. Of EventDone it means that
	// the work is given to another subject, and has not ended.
	Reject   bool
	Endpoint Endpoint
	Claim    Claim
	Record   *Record
	From, To Instant
	ID       string // of a challenge or request
	Load     Load
	Routing  Routing // how work is given: all (new work), sticky, transfer, last or none (by hand)
	Revision Instant // [Presence.Revision] as the host knows it; 0 means any

	// lastName holds the name of the last transition, so that the subjects that
	// expire at one instant share it. Without it a sweep of 100,000 expiries makes
	// 100,000 more allocations and takes 8 % longer (BenchmarkExpire). Nil shares none.
	lastName *transitionName
}

// validate checks the form of an event: ids, texts, words, durations, numbers and
// the record. It needs no state, so that a refusal reveals nothing. Step checks the
// subject.
func (e *Event) validate() error {
	switch e.Kind {
	case EventHeartbeat, EventInput, EventFocus, EventVisible:
		return e.validateReport()
	case EventConnect, EventLogin, EventDisconnect, EventLogout:
		return e.validateConn()
	case EventEndpoint:
		return e.validateEndpoint()
	case EventSetClaim, EventEndClaim, EventRequest, EventWithdraw, EventDecide:
		return e.validateIntent()
	case EventNodeDown, EventNodeUp:
		if err := checkID("node", e.Node); err != nil || e.Kind == EventNodeUp {
			return err
		}
		return e.oneOfCauses("a node cannot leave by this cause", "", CauseNode, CauseDrain)
	case EventSuspended:
		if e.To < e.From {
			return refuse(ErrInvalid, "event", e.Kind.String(), "it ends before it begins")
		}
	case EventRecord:
		if e.Record == nil {
			return refuse(ErrInvalid, "record", "", "the event has none")
		}
		_, err := e.Record.State(0, 0)
		return err
	case EventLoad, EventOffer, EventDone, EventChallenge, EventAck:
		return e.validateWork()
	case EventTick, EventPolicy, EventGrant, EventDisable, EventEnable, EventClock, EventRestart:
	default:
		return refuse(ErrInvalid, "event", e.Kind.String(), "it is not a kind of event")
	}
	return nil
}

// validateReport checks what a client sends over a connection.
func (e *Event) validateReport() error {
	if err := checkID("connection", e.Conn); err != nil {
		return err
	}
	switch e.Kind {
	case EventHeartbeat:
		return e.checkAge()
	case EventFocus:
		return checkOptionalID("channel", e.Channel)
	}
	return nil
}

// validateConn checks an event by which a connection opens or leaves.
func (e *Event) validateConn() error {
	if e.Kind == EventLogout {
		return checkOptionalID("connection", e.Conn)
	}
	if err := checkID("connection", e.Conn); err != nil {
		return err
	}
	if e.Kind == EventDisconnect {
		return e.oneOfCauses("a connection cannot leave by this cause", CauseLogout, CauseClosed, CauseLost, CauseNode, CauseDrain)
	}
	if err := checkOptionalID("device", e.Device); err != nil {
		return err
	}
	if err := checkOptionalID("node", e.Node); err != nil {
		return err
	}
	if err := e.checkAge(); err != nil {
		return err
	}
	return e.checkSubjectKind()
}

func (e *Event) validateEndpoint() error {
	if err := checkID("endpoint", e.Endpoint.ID); err != nil || e.Remove {
		return err
	}
	switch e.Endpoint.Kind {
	case EndpointPush, EndpointBot, EndpointService:
	default:
		return refuse(ErrInvalid, "kind", string(e.Endpoint.Kind), "endpoint %s has an unknown kind", e.Endpoint.ID).
			allow(string(EndpointPush), string(EndpointBot), string(EndpointService))
	}
	return e.checkSubjectKind()
}

// validateIntent checks an event by which an actor chooses, requests or decides.
func (e *Event) validateIntent() error {
	if err := e.Actor.checkRole(); err != nil {
		return err
	}
	if err := checkOptionalID("actor", e.Actor.Subject.ID); err != nil {
		return err
	}
	switch e.Kind {
	case EventWithdraw, EventDecide:
		return checkOptionalID("request", e.ID)
	case EventRequest:
		if err := checkOptionalID("request", e.ID); err != nil {
			return err
		}
	default:
		if err := checkOptionalID("connection", e.Conn); err != nil {
			return err
		}
	}
	c := &e.Claim
	if err := c.validate(); err != nil {
		return err
	}
	if e.Kind == EventSetClaim && e.Conn != "" && c.Conn != "" && e.Conn != c.Conn {
		return refuse(ErrInvalid, "connection", c.Conn, "a claim over connection %q cannot be for another", e.Conn)
	}
	return nil
}

// validate checks the form of a claim. The policy decides on its status, source
// and key.
func (c *Claim) validate() error {
	for _, id := range [...]struct{ what, id string }{{"claim", c.ID}, {"key", c.Key}, {"connection", c.Conn}} {
		if err := checkOptionalID(id.what, id.id); err != nil {
			return err
		}
	}
	if c.For < 0 {
		return refuse(ErrInvalid, "until", c.For.String(), "a duration must not be negative")
	}
	if c.For > 0 && c.Until != 0 {
		return refuse(ErrInvalid, "until", c.Until.String(), "a claim has either an end or a duration")
	}
	if err := checkText("reason", c.Reason, MaxReason); err != nil {
		return err
	}
	if err := checkText("text", c.Text, MaxText); err != nil {
		return err
	}
	for _, a := range c.HidesFrom {
		if !slices.Contains(audiences, a) {
			return refuse(ErrInvalid, "audience", string(a), "it is not an audience").allow(wordsOf(audiences)...)
		}
	}
	return nil
}

// validateWork checks an event about the work of a subject.
func (e *Event) validateWork() error {
	switch e.Kind {
	case EventAck:
		return checkOptionalID("challenge", e.ID)
	case EventChallenge:
		if e.Claim.For < 0 {
			return refuse(ErrInvalid, "until", e.Claim.For.String(), "a duration must not be negative")
		}
		return checkOptionalID("challenge", e.ID)
	}
	if err := checkOptionalID("work", e.Load.On); err != nil {
		return err
	}
	if n := e.Load.N; n < 0 || n > maxLoad && e.Kind != EventDone {
		return refuse(ErrInvalid, "work", strconv.Itoa(n), "a subject has from 0 to %d pieces of work", maxLoad)
	}
	if e.Kind != EventOffer {
		return nil
	}
	switch e.Routing {
	case "", RouteAll, RouteLast, RouteSticky, RouteTransfer, RouteNone:
		return nil
	}
	return refuse(ErrInvalid, "work", string(e.Routing), "it is not a way to give work").allow(routings...)
}

func (e *Event) oneOfCauses(text string, allowed ...Cause) error {
	if slices.Contains(allowed, e.Cause) {
		return nil
	}
	return refuse(ErrInvalid, "event", string(e.Cause), "%s", text).
		allow(wordsOf(slices.DeleteFunc(slices.Clone(allowed), func(c Cause) bool { return c == "" }))...)
}

func (e *Event) checkAge() error {
	if e.Age < NoAge {
		return refuse(ErrInvalid, "event", e.Age.String(), "the age of an input is not negative")
	}
	return nil
}

func (e *Event) checkSubjectKind() error {
	switch e.SubjectKind {
	case "", KindHuman, KindBot, KindService:
		return nil
	}
	return refuse(ErrInvalid, "kind", string(e.SubjectKind), "it is not a kind of subject").
		allow(string(KindHuman), string(KindBot), string(KindService))
}
