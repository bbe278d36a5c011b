package presence

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// What can be wrong with a call. Errors of this package wrap one of these and
// say what was given and what is allowed.
var (
	ErrInvalid     = errors.New("invalid")     // an id, text, time or word outside its limits
	ErrUnknown     = errors.New("unknown")     // no such subject, connection, channel or status
	ErrNotAllowed  = errors.New("not allowed") // this actor may not do this
	ErrOffline     = errors.New("offline")     // not possible while the subject is not connected
	ErrDisabled    = errors.New("disabled")    // presence is switched off for the subject or tenant
	ErrLimit       = errors.New("limit")       // a bound on something that callers can grow
	ErrStale       = errors.New("stale")       // said for a connection that has been replaced or has left
	ErrClosed      = errors.New("closed")      // the tracker, connection or watch is closed
	ErrUnavailable = errors.New("unavailable") // storage or authorizer cannot answer now; nothing has changed
	ErrConflict    = errors.New("conflict")    // storage holds another revision than expected
)

// Limits on what callers can grow.
const (
	MaxID          = 128 // bytes of an id: subject, connection, channel, status, key
	MaxReason      = 64  // bytes of a claim's reason
	MaxText        = 512 // bytes of a claim's text
	MaxConnections = 32  // per subject
	MaxClaims      = 32  // per subject
	MaxEndpoints   = 16  // per subject
	MaxChannels    = 256 // per subject
	MaxStatuses    = 256 // per policy
)

// Instant is a point in time, to the nanosecond, from 1608 to 2192. Zero means
// none. Instants compare with the ordinary operators; [At] and [Instant.Time]
// convert. They count from 1900, so that a fake clock that starts at 1970 does
// not start at none.
type Instant int64

const epochSeconds = -2208988800 // 1900-01-01 in Unix time

// At returns the instant of t: none for the zero time, the nearest there is for
// one out of range.
func At(t time.Time) Instant {
	if t.IsZero() {
		return 0
	}
	sec := t.Unix() - epochSeconds
	switch limit := int64(math.MaxInt64 / time.Second); {
	case sec >= limit:
		return math.MaxInt64
	case sec <= -limit:
		return math.MinInt64
	}
	return Instant(sec*int64(time.Second) + int64(t.Nanosecond()))
}

// Time returns i in UTC, or the zero time for none.
func (i Instant) Time() time.Time {
	if i == 0 {
		return time.Time{}
	}
	return time.Unix(epochSeconds, int64(i)).UTC()
}

// Add returns the instant d after i, or the first or last there is.
func (i Instant) Add(d time.Duration) Instant {
	switch sum := i + Instant(d); {
	case d >= 0 && sum < i:
		return math.MaxInt64
	case d < 0 && sum > i:
		return math.MinInt64
	default:
		return sum
	}
}

// Sub returns the time from o to i, or the longest there is.
func (i Instant) Sub(o Instant) time.Duration {
	switch d := time.Duration(i - o); {
	case i >= o && d < 0:
		return math.MaxInt64
	case i < o && d > 0:
		return math.MinInt64
	default:
		return d
	}
}

// String returns i in RFC 3339, or "" for none.
func (i Instant) String() string {
	if i == 0 {
		return ""
	}
	return i.Time().Format(time.RFC3339Nano)
}

// MarshalText encodes i in RFC 3339.
func (i Instant) MarshalText() ([]byte, error) { return []byte(i.String()), nil }

// UnmarshalText decodes what MarshalText wrote.
func (i *Instant) UnmarshalText(text []byte) error {
	*i = 0
	if len(text) == 0 {
		return nil
	}
	t, err := time.Parse(time.RFC3339Nano, string(text))
	if err != nil {
		return fmt.Errorf("presence: %w instant: %w", ErrInvalid, err)
	}
	*i = At(t)
	return nil
}

// Ref names a subject or a channel within its tenant. The empty tenant is the
// default one. Ids are compared bytewise.
type Ref struct {
	Tenant string `json:"tenant,omitzero"`
	ID     string `json:"id"`
}

// ID returns a Ref in the default tenant.
func ID(id string) Ref { return Ref{ID: id} }

// String returns "id", or "tenant/id" outside the default tenant.
func (r Ref) String() string {
	if r.Tenant == "" {
		return r.ID
	}
	return r.Tenant + "/" + r.ID
}

func compareRefs(a, b Ref) int {
	if c := strings.Compare(a.Tenant, b.Tenant); c != 0 {
		return c
	}
	return strings.Compare(a.ID, b.ID)
}

// Kind says what a subject is.
type Kind string

// The kinds of subject. The zero Kind means human.
const (
	KindHuman   Kind = "human"
	KindBot     Kind = "bot"
	KindService Kind = "service"
)

// Cause says why something holds or happened. A status's cause is one of the
// first group; what triggered a transition may be of either.
type Cause string

// The causes of a status.
const (
	CauseDefault    Cause = "default"    // connected, and nothing is claimed
	CauseLogin      Cause = "login"      // the claims from here on, by their source
	CauseManual     Cause = "manual"     // the subject itself
	CauseSupervisor Cause = "supervisor" // a supervisor or admin
	CauseCall       Cause = "call"
	CauseCalendar   Cause = "calendar"
	CauseApp        Cause = "app" // and sources of the policy's own
	CauseSystem     Cause = "system"
	CauseIdle       Cause = "idle"   // no input for the time of a stage
	CauseLogout     Cause = "logout" // not reachable from here on: left for good, or never was there
	CauseClosed     Cause = "closed" // closed cleanly
	CauseLost       Cause = "lost"   // silent for the lease, or reported broken
	CauseNode       Cause = "node"   // the node that held the connection died
	CauseDrain      Cause = "drain"  // or was shut down as planned
	CauseDisabled   Cause = "disabled"
	CauseLeft       Cause = "left" // what audiences that can be hidden from see instead of the five ways of leaving, and of hiding
)

// Triggers of a transition that are not causes of a status.
const (
	TriggerInput   Cause = "input"   // after having been idle
	TriggerConnect Cause = "connect" // or a sign of life after silence, or an endpoint
	TriggerUntil   Cause = "until"   // the time of a claim was over
	TriggerPolicy  Cause = "policy"  // another one came into force
	TriggerGrant   Cause = "grant"   // the subject became known by it

	TriggerLoad      Cause = "load"      // work was given, has ended or was counted
	TriggerChallenge Cause = "challenge" // it was not answered, or was
	TriggerRequest   Cause = "request"   // it was made, decided or withdrawn
)

// Source says where a claim comes from. It follows from the actor: a subject's
// own claim is manual, a supervisor's on another is supervisor, and only a
// system actor names a source itself. Policies may rank sources of their own.
type Source string

// The sources every policy knows.
const (
	SourceSystem     Source = "system"
	SourceCall       Source = "call"
	SourceSupervisor Source = "supervisor"
	SourceManual     Source = "manual"
	SourceCalendar   Source = "calendar"
	SourceApp        Source = "app"
	SourceLogin      Source = "login-default"
)

// cause is the word that reports a source.
func (s Source) cause() Cause {
	switch s {
	case SourceSystem, SourceCall, SourceSupervisor, SourceManual, SourceCalendar:
		return Cause(s)
	case SourceLogin:
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

// Connection is one live or lingering connection of a subject.
type Connection struct {
	ID          string
	Epoch       uint32 // rises with every connect under the same id; issued by the core
	Device      string
	Node        string
	Incarnation uint64
	Opened      Instant
	Heard       Instant // the last sign of life
	Input       Instant // the last input over it, or that its client reported
	Acted       Instant // the subject's last own claim made elsewhere while it was live
	Seq         uint64  // of the newest report
	Focus       string  // the channel looked at
	Hidden      bool    // the tab is not visible
	// Left and Cause say when and how it left; a connection that left lingers
	// until its grace has passed. Zero Left means live.
	Left  Instant
	Cause Cause
	// Told is set where the leaving was reported rather than inferred from
	// silence. A connection that is merely silent comes back by being heard.
	Told bool
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

// Reach says whether a subject can be reached, whatever its status shows.
type Reach uint8

// The kinds of reach, from none to full.
const (
	ReachNone      Reach = iota
	ReachVirtual         // by an endpoint alone, as far as Policy.Virtual counts it
	ReachLingering       // a connection has left and its grace is not over
	ReachLive            // there is a live connection
)

// String returns none, virtual, lingering or live.
func (r Reach) String() string {
	return [...]string{"none", "virtual", "lingering", "live"}[min(r, ReachLive)]
}

// The words shown where there is no status of the policy to show.
const (
	StatusUnknown  = "unknown"  // nothing is known of the subject, or presence is disabled
	StatusDisabled = "disabled" // presence is disabled, to the subject itself and admins
)

// Presence is what the inputs of one subject add up to. It is derived, never
// the truth: [Machine.View] turns it into what one audience may see.
type Presence struct {
	Subject Ref
	Kind    Kind
	Known   bool

	Status string
	Class  Class
	Reason string
	Text   string
	Since  Instant // when the present status began
	SetAt  Instant // when the claim on top was set
	Until  Instant // when it ends
	Cause  Cause
	Masked string // the status chosen, where idleness or disconnection masks it

	Reach    Reach
	Routable bool // may be given new work: Routing is all
	Disabled bool

	// Routing is which work reaches the subject, of a work channel that has no
	// rule of its own. Revision rises whenever that changes, and whenever work is
	// taken away: an offer made under an older one is refused.
	Routing  Routing
	Revision Instant
	Label    string // finishing, not-receiving, free or active; empty unless available
	Threads  Count  // pieces of work; absent where nobody said
	Pinned   Count
	Pending  string // the status that follows once the work is done
	Request  string // the status that has been asked for

	LastSeen  Instant // when the last connection left; none while one is there
	LastLogin Instant
	Devices   int // connections, where the policy shows anybody how many
	// HiddenFrom lists the audiences that see the left view. Seen is what each
	// audience that can be hidden from has been shown; it is never changed in
	// place.
	HiddenFrom []Audience
	Seen       []Seen

	// absent is the status shown of one who left, where an endpoint makes it
	// another than the policy's disconnected one.
	absent string
}

// Seen is what one audience that may be hidden from was last shown: that the
// subject is there, or that it left, and since when.
type Seen struct {
	Audience Audience `json:"audience"`
	Left     bool     `json:"left"`
	Since    Instant  `json:"since"`
	LastSeen Instant  `json:"lastSeen,omitzero"`
}

// State is everything the core knows of one subject: the inputs, and the last
// answer for comparison. The zero State is a subject nobody has heard of. Step
// alone changes it; its slices belong to it.
type State struct {
	Subject   Ref
	Kind      Kind
	Conns     []Connection // by id
	Endpoints []Endpoint   // by id
	Claims    []Claim      // by source, key, connection
	Work      *Work        // nil where nothing is known of any
	Input     Instant      // the last input when the last counting connection left
	InputKept Instant      // when Input was stored
	Gone      Cause        // how the last connection left
	GoneAt    Instant      // when
	LoggedIn  Instant      // the last login
	Disabled  bool

	Now     Instant // the latest instant processed; time never goes back
	Changed Instant // when the set of live connections, endpoints, claims or the policy last changed
	Stood   Instant // the end of the last standstill
	Floor   Instant // no lease or grace that was running then ends before it
	Epoch   uint32  // the last issued
	Serial  uint64  // rises with every claim and transition

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
	SubjectKind Kind
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
	How         Routing // how work is given: all for new work, sticky, transfer, or none for by hand
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
	Why      Cause // until, replaced, ended, login, logout, disconnected, disabled, limit
	Request  Request
	Load     int // pieces of work taken away
}

// Why a claim ended, where no Cause says it.
const (
	WhyReplaced     Cause = "replaced"
	WhyEnded        Cause = "ended"
	WhyDisconnected Cause = "disconnected"
	WhyLimit        Cause = "limit"
)

// Step feeds one event to a subject's state and appends what follows to out.
// It first processes every deadline up to now, each at its own instant, so that
// an event at a deadline comes too late for it. An error refuses the event: the
// deadlines have been processed, nothing else has changed. Time only enters as
// now; one that lies before an earlier one counts as that. The same state,
// event and now always give the same result.
func (m *Machine) Step(s *State, e Event, now Instant, out []Output) ([]Output, error) {
	st := stepper{m: m, s: s, out: out}
	err := st.step(&e, now)
	return st.out, err
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
	if err := st.check(e); err != nil {
		return err
	}
	trigger, err := st.apply(e)
	if err != nil {
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
	st.s.Stood, st.s.Floor = e.To, e.To.Add(st.m.startup)
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
	nameless  bool       // transitions need no ids
	timed     *timedName // the last that was given, where that is kept
	due       Instant    // the next deadline after what was processed, or one that was; 0 for none
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
	st.s.Changed = st.s.Now
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
	s.Stood, s.Floor = s.Now+1, s.Now.Add(st.m.startup)
	s.Conns = []Connection{{ID: restartConn, Opened: s.Now, Heard: s.Now, Input: s.Input, Left: s.Now, Cause: CauseNode, Told: true}}
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
			st.out = append(st.out, Output{Kind: OutputClaimEnded, At: s.Now, Noticed: s.Now, Claim: before[i], Why: CauseSystem})
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

// emptyRecord is the record of a subject of which nothing is stored.
var emptyRecord = []byte(`{"version":1}`)

func (st *stepper) connect(e *Event) (Cause, error) {
	s := st.s
	if err := checkID(e.Conn); err != nil {
		return "", fmt.Errorf("presence: connection %w", err)
	}
	if err := cmp.Or(checkGiven("device", e.Device), checkGiven("node", e.Node)); err != nil {
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
	c := Connection{ID: e.Conn, Epoch: epoch, Device: e.Device, Node: e.Node, Incarnation: e.Incarnation, Opened: s.Now, Heard: s.Now}
	if found {
		old := &s.Conns[i]
		c.Opened, c.Input, c.Acted = old.Opened, old.Input, old.Acted
		c.Focus, c.Hidden = old.Focus, old.Hidden
		c.Device = cmp.Or(e.Device, old.Device)
		if e.Node == "" {
			c.Node, c.Incarnation = old.Node, old.Incarnation
		}
		if old.Left != 0 {
			st.change()
			if e.Kind != EventLogin && old.Cause == CauseLost {
				st.unsteady()
			}
		}
	} else {
		if e.Kind != EventLogin && len(s.Conns) == 0 && s.Gone == CauseLost {
			st.unsteady()
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
		c.Input, c.Acted = min(c.Input, reported), min(c.Acted, reported)
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
		return c.DropOnLogin || reset && (m.rankOf(c.Source) == m.manual || c.Source == SourceLogin)
	})
	if reset {
		st.chose()
		st.insert(Claim{Status: m.policy.Login.Status, Source: SourceLogin, Key: KeyBase, By: s.Subject.ID})
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
		st.out = append(st.out, Output{Kind: OutputClaimEnded, At: s.Now, Noticed: s.Now, Claim: s.Claims[i], Why: WhyReplaced})
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
		st.out = append(st.out, Output{Kind: OutputClaimEnded, At: s.Now, Noticed: s.Now, Claim: c, Why: why})
		dropped = true
		return true
	})
	switch {
	case !dropped:
	case why == TriggerUntil || why == WhyDisconnected:
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
	if err := checkGiven("channel", e.Channel); err != nil {
		return "", err
	}
	st.heard(c)
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
func (st *stepper) find(e *Event) (*Connection, error) {
	s := st.s
	i, found := s.conn(e.Conn)
	if !found {
		return nil, fmt.Errorf("presence: %w connection %q of %s: it has left or never was; connect again", ErrUnknown, e.Conn, s.Subject)
	}
	c := &s.Conns[i]
	if e.Epoch != 0 && e.Epoch != c.Epoch {
		return nil, fmt.Errorf("presence: %w epoch %d of connection %q: the present one is %d", ErrStale, e.Epoch, e.Conn, c.Epoch)
	}
	if c.Left != 0 && c.Told {
		return nil, fmt.Errorf("presence: %w connection %q of %s: it has left (%s); connect again", ErrStale, e.Conn, s.Subject, c.Cause)
	}
	return c, nil
}

// heard notes a sign of life, which brings back a connection that was merely
// silent for too long.
func (st *stepper) heard(c *Connection) {
	c.Heard = st.s.Now
	if c.Left != 0 {
		st.back(c)
	}
}

func (st *stepper) back(c *Connection) {
	if c.Cause == CauseLost {
		st.unsteady()
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
func (st *stepper) leave(c *Connection, cause Cause, at Instant, told bool) {
	if c.Left == 0 {
		c.Left, c.Cause = at, cause
		st.change()
	}
	c.Told = c.Told || told
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
		c.Left, c.Cause, c.Told = s.Now, CauseLogout, true
	}
	if all && len(s.Conns) == 0 && s.Current.Known {
		s.Gone = CauseLogout // leaving for good, after the connection was gone already
	}
	st.drop(CauseLogout, func(c *Claim) bool { return c.Conn != "" && (all || c.Conn == e.Conn) })
	st.touched = true
	return nil
}

func (st *stepper) endpoint(e *Event) error {
	s := st.s
	if err := checkID(e.Endpoint.ID); err != nil {
		return fmt.Errorf("presence: endpoint %w", err)
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
	var over *Connection
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
		st.heard(over)
	}
	if c.Source == SourceManual || c.Source == SourceSupervisor {
		st.chose()
		st.decided(c)
	} else {
		st.choose(c)
	}
	if own && s.Work != nil {
		s.Work.Challenge, s.Work.Deadline = "", 0 // whoever chooses is there
	}
	if own && m.policy.Work.SelfReady && def.Class == ClassAvailable {
		st.drop(WhyReplaced, func(o *Claim) bool { return o.Source == SourceSystem && o.Key == KeyKickedOut })
	}
	if c.Source == SourceSupervisor {
		// Whoever supervises lifts what the system imposed, but not a lock.
		st.drop(WhyReplaced, func(o *Claim) bool { return o.Source == SourceSystem && o.Key != KeyLock })
	}
	if own && m.activity["claim"] {
		for i := range s.Conns {
			if conn := &s.Conns[i]; over == nil && conn.Left == 0 {
				conn.Acted = s.Now
			}
		}
		if over != nil {
			over.Input = s.Now
		}
		st.touched = true
	}
	return c.Source.cause(), nil
}

// choose makes a checked claim take effect.
func (st *stepper) choose(c Claim) {
	m := st.m
	if m.plainDefault(&c) && st.clear(&c) {
		return
	}
	if c.Key == KeyBase && m.rankOf(c.Source) == m.manual {
		st.drop(WhyReplaced, func(o *Claim) bool { return o.Source == c.Source && o.Key == KeyTimed && o.Conn == c.Conn })
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
		return m.rankOf(o.Source) == m.manual || o.Source == SourceLogin
	}
	below, shows := m.top(s, s.Now, func(o *Claim) bool { return m.rankOf(o.Source) >= m.manual && !ends(o) })
	if shows && below != nil {
		return false
	}
	st.drop(WhyReplaced, ends)
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
	return st.drop(WhyLimit, func(c *Claim) bool { return c.Serial == serial })
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
	own = e.Actor.Ref == s.Subject && e.Actor.Role != RoleSystem
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
	if err := checkID(c.Key); err != nil {
		return c, false, fmt.Errorf("presence: claim key %w", err)
	}
	if err := checkGiven("claim", c.ID); err != nil {
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
	c.By = e.Actor.ID
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
		st.heard(over)
	}
	ends := func(c *Claim) bool {
		return c.Source == source && (e.Claim.Key == "" || c.Key == e.Claim.Key) && c.Conn == e.Claim.Conn &&
			(e.Claim.ID == "" || c.ID == e.Claim.ID)
	}
	if st.m.rankOf(source) == st.m.manual {
		waits := s.Work != nil && s.Work.Pending != nil && ends(s.Work.Pending)
		if waits || slices.ContainsFunc(s.Claims, func(c Claim) bool { return ends(&c) }) {
			st.chose()
		}
	}
	st.drop(WhyEnded, ends)
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
	st.chose()
	st.switchOff()
	st.change()
}

// switchOff ends the connections of a subject that is disabled, and takes its
// work away.
func (st *stepper) switchOff() {
	s := st.s
	s.Disabled = true
	for _, c := range s.Conns {
		s.GoneAt = max(s.GoneAt, c.Left)
		if c.Left == 0 {
			s.GoneAt = s.Now
		}
	}
	if len(s.Conns) > 0 {
		s.Input, s.Gone = st.m.lastInput(s), CauseLogout
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

// reach says how a subject can be reached.
func (m *Machine) reach(s *State) Reach {
	r := ReachNone
	for i := range s.Conns {
		if s.Conns[i].Left == 0 {
			return ReachLive
		}
		r = ReachLingering
	}
	if r == ReachNone {
		if _, ok := m.endpointRule(s); ok {
			return ReachVirtual
		}
	}
	return r
}

const (
	showIgnore = "ignore"
	showTop    = "top"
)

// endpointRule returns the rule of the first endpoint that is not ignored, one
// that is routable before one that is not.
func (m *Machine) endpointRule(s *State) (rule VirtualRule, ok bool) {
	for _, p := range s.Endpoints {
		r, given := m.policy.Virtual[string(p.Kind)]
		if given && r.Show != showIgnore && (!ok || r.Routable && !rule.Routable) {
			rule, ok = r, true
		}
	}
	return rule, ok
}

func (m *Machine) counts(c *Connection) bool {
	return len(m.policy.Devices) == 0 || !m.policy.Devices[c.Device].IgnoreInput
}

// lastInput is the youngest input over the connections that count, or what was
// stored when the last of them left.
func (m *Machine) lastInput(s *State) Instant {
	var last Instant
	counted := false
	for i := range s.Conns {
		if c := &s.Conns[i]; m.counts(c) {
			last = max(last, c.Input, c.Acted)
			counted = true
		}
	}
	if !counted {
		return s.Input
	}
	return last
}

func (m *Machine) rankOf(s Source) int {
	if r, ok := m.rank[s]; ok {
		return r
	}
	return m.rankOfApp()
}

// rankOfApp is where claims stand whose source a changed policy no longer ranks.
func (m *Machine) rankOfApp() int {
	if r, ok := m.rank[SourceApp]; ok {
		return r
	}
	return m.rank[SourceLogin]
}

// resolved returns the definition of a claim's status. A status that the policy
// no longer has becomes the first of its class, but never an available one: it
// may have been there to hide, or to keep work away.
func (m *Machine) resolved(c *Claim) *definition {
	if def := m.status(c.Status); def != nil {
		return def
	}
	if def := m.status(m.policy.Retired[c.Status]); def != nil && (def.Class != ClassAvailable || c.Class == ClassAvailable) {
		return def
	}
	for _, class := range []Class{c.Class, ClassAway, ClassBusy, ClassDND} {
		for i := range m.statuses {
			if m.statuses[i].Class == class && class != ClassAvailable {
				return &m.statuses[i]
			}
		}
	}
	return m.disconnected
}

// top returns the first unexpired claim in the order of rank, later setting and
// id, among those that keep allows. The claims of connections are first folded
// into one vote, of the best rank among them. It reports false if the policy default is
// on top, and a nil claim if it is so by the connections' vote.
func (m *Machine) top(s *State, now Instant, keep func(*Claim) bool) (*Claim, bool) {
	var best *Claim
	scoped := Source("") // the best that a connection claims by
	for i := range s.Claims {
		c := &s.Claims[i]
		if c.Until != 0 && c.Until <= now || keep != nil && !keep(c) {
			continue
		}
		if c.Conn != "" {
			if _, there := s.conn(c.Conn); there && (scoped == "" || m.rankOf(c.Source) < m.rankOf(scoped)) {
				scoped = c.Source
			}
			continue
		}
		if best == nil || m.before(c, best) {
			best = c
		}
	}
	if scoped == "" {
		return best, best != nil
	}
	vote, at, serial := m.foldConns(s, now, keep)
	competing := Claim{Source: scoped, SetAt: at, Serial: serial}
	if best != nil && m.before(best, &competing) {
		return best, true
	}
	return vote, true
}

// before reports whether a stands above b: by the rank of its source, then the
// later setting, then the order of arrival.
func (m *Machine) before(a, b *Claim) bool {
	if ra, rb := m.rankOf(a.Source), m.rankOf(b.Source); ra != rb {
		return ra < rb
	}
	if a.SetAt != b.SetAt {
		return a.SetAt > b.SetAt
	}
	return a.Serial > b.Serial
}

// foldConns lets every connection vote with the best of its own claims, or the
// policy default if it has none. It returns the winning claim, nil for the
// default, and the newest setting among the votes for the winner.
func (m *Machine) foldConns(s *State, now Instant, keep func(*Claim) bool) (winner *Claim, at Instant, serial uint64) {
	var won *definition
	for i := range s.Conns {
		conn := &s.Conns[i]
		var vote *Claim
		for j := range s.Claims {
			c := &s.Claims[j]
			if c.Conn != conn.ID || c.Until != 0 && c.Until <= now || keep != nil && !keep(c) {
				continue
			}
			if vote == nil || m.before(c, vote) {
				vote = c
			}
		}
		status, set, number := m.byDefault, Instant(0), uint64(0) // connecting is no choice that could overrule one
		if vote != nil {
			status, set, number = m.resolved(vote), vote.SetAt, vote.Serial
		}
		switch {
		case won == nil || status.fold < won.fold:
			won, winner, at, serial = status, vote, set, number
		case status == won && (set > at || set == at && number > serial):
			winner, at, serial = vote, set, number
		}
	}
	return winner, at, serial
}

// base returns the status that holds before idleness is considered and the claim
// behind it, nil for the policy default; and the status shown instead where the
// subject cannot be reached.
func (m *Machine) base(s *State) (def *definition, c *Claim, gone *definition) {
	def = m.byDefault
	if c, _ = m.top(s, s.Now, nil); c != nil {
		def = m.resolved(c)
	}
	switch m.reach(s) {
	case ReachNone:
		gone = m.disconnected
	case ReachVirtual:
		gone = m.virtual(s)
	}
	if c != nil && m.proof[c.Source] {
		gone = nil
	}
	return def, c, gone
}

// virtual is the status shown instead of the one chosen of a subject that only
// its endpoints make reachable, or nil.
func (m *Machine) virtual(s *State) *definition {
	if rule, ok := m.endpointRule(s); ok && rule.Show != showTop {
		return m.status(rule.Show)
	}
	return nil
}

// derive fills in a zero presence with what holds at s.Now, with the idle stages
// reached by then or a little earlier. It returns the instant from which the status
// logically holds, given that of what happened.
func (m *Machine) derive(p *Presence, s *State, logical, idle Instant) (since Instant) {
	p.Subject, p.Kind, p.Known, p.LastLogin, p.Seen = s.Subject, s.Kind, true, s.LoggedIn, s.Current.Seen
	p.Reach, p.Routing, p.Revision = m.reach(s), RouteNone, s.Current.Revision
	if p.Kind == "" {
		p.Kind = KindHuman
	}
	if len(s.Conns) == 0 {
		p.LastSeen = s.GoneAt
	}
	if m.devices {
		p.Devices = len(s.Conns)
		if _, restarted := s.conn(restartConn); restarted {
			p.Devices--
		}
	}
	if s.Disabled || m.policy.Disabled {
		p.Disabled, p.Status, p.Cause = true, StatusDisabled, CauseDisabled
		return logical
	}
	def, c, gone := m.base(s)
	shown := def
	p.Cause = CauseDefault
	if c != nil {
		p.SetAt, p.Until, p.Reason, p.Text, p.Cause = c.SetAt, c.Until, c.Reason, c.Text, c.Source.cause()
	}
	since = logical
	mask := func(to *definition, cause Cause) {
		shown, p.Masked, p.Cause = to, def.ID, cause
		p.Reason, p.Text, p.Until = "", "", 0
	}
	p.HiddenFrom = m.hiddenFrom(s, def, c)
	if len(m.hideable) > 0 {
		if v := m.virtual(s); v != nil {
			p.absent = v.ID
		}
	}
	if gone != nil {
		mask(gone, cmp.Or(s.Gone, CauseLogout))
	} else if to, at := m.idleMask(s, def, idle); to != nil {
		mask(to, CauseIdle)
		since = at
	}
	p.Status, p.Class = shown.ID, shown.Class
	m.occupy(s, p, shown)
	return since
}

// shown is the status that derive would show, with the idle stages reached by idle.
func (m *Machine) shown(s *State, idle Instant) string {
	if s.Disabled || m.policy.Disabled {
		return StatusDisabled
	}
	def, _, gone := m.base(s)
	if gone != nil {
		return gone.ID
	}
	if to, _ := m.idleMask(s, def, idle); to != nil {
		return to.ID
	}
	return def.ID
}

// hiddenFrom lists the audiences that the claim on top hides from. What a call
// or the system says above a person's choice must not betray one who chose to
// hide, so that the choice beneath hides as well.
func (m *Machine) hiddenFrom(s *State, def *definition, c *Claim) []Audience {
	hidden := def.HiddenFrom
	if c == nil {
		return hidden
	}
	hidden = union(hidden, c.HidesFrom)
	if m.rankOf(c.Source) < m.manual {
		beneath, _ := m.top(s, s.Now, func(o *Claim) bool { return m.rankOf(o.Source) >= m.manual })
		if beneath != nil {
			hidden = union(union(hidden, m.resolved(beneath).HiddenFrom), beneath.HidesFrom)
		}
	}
	return hidden
}

// idleMask returns the status that idleness shows instead of def and the
// instant at which its stage was reached, or nil.
func (m *Machine) idleMask(s *State, def *definition, now Instant) (to *definition, at Instant) {
	if len(def.stages) == 0 {
		return nil, 0
	}
	last, ages := m.idleFrom(s)
	if !ages {
		return nil, 0
	}
	for _, st := range def.stages {
		if due := last.Add(st.after); due <= now {
			to, at = st.to, due
		}
	}
	return to, at
}

// idleFrom is the instant from which idleness counts. A bot without a
// connection that counts is never idle.
func (m *Machine) idleFrom(s *State) (Instant, bool) {
	if s.Kind == KindBot || s.Kind == KindService {
		if !slices.ContainsFunc(s.Conns, func(c Connection) bool { return m.counts(&c) }) {
			return 0, false
		}
	}
	last := m.lastInput(s)
	return last, last != 0
}

// settle derives the presence anew and says what changed. The status's since is
// the logical instant, but neither before the one it follows nor before the
// inputs last changed.
func (st *stepper) settle(logical Instant, trigger Cause, id string) {
	s, m := st.s, st.m
	prev := &s.Current
	var next Presence
	since := m.derive(&next, s, logical, s.Now)
	next.Since = prev.Since
	transition := !prev.Known || next.Status != prev.Status
	if transition {
		next.Since = max(since, prev.Since, s.Changed, st.ended)
	}
	next.Seen = m.seen(prev, &next, s.Now)
	if next.Routing != prev.Routing {
		st.revise()
		next.Revision = prev.Revision
	}
	if !transition && samePresence(prev, &next) {
		return
	}
	o := st.output(OutputUpdated)
	o.Prev, o.Trigger, o.Presence = prev.Status, trigger, next
	if transition {
		o.Kind, o.At, o.ID = OutputTransition, next.Since, id
		if id == "" {
			s.Serial++
			if !st.nameless {
				o.ID = eventID('e', s.Serial, s.Now)
			}
		}
	}
	s.Current = next
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

func samePresence(a, b *Presence) bool {
	return a.Known == b.Known && a.Kind == b.Kind && a.Status == b.Status && a.Class == b.Class && a.Reason == b.Reason && a.Text == b.Text &&
		a.SetAt == b.SetAt && a.Until == b.Until && a.Cause == b.Cause && a.Masked == b.Masked &&
		a.Reach == b.Reach && a.Routing == b.Routing && a.Revision == b.Revision && a.Label == b.Label &&
		a.Threads == b.Threads && a.Pinned == b.Pinned && a.Pending == b.Pending && a.Request == b.Request && a.Disabled == b.Disabled && a.Devices == b.Devices &&
		a.absent == b.absent && a.LastSeen == b.LastSeen && a.LastLogin == b.LastLogin &&
		slices.Equal(a.HiddenFrom, b.HiddenFrom) && slices.Equal(a.Seen, b.Seen)
}

// Record is what must outlive the process of one subject. Data is its durable
// state as [Machine.Record] encodes it and [Record.State] decodes it, opaque to
// storage.
type Record struct {
	Subject  Ref
	Revision uint64
	Data     []byte
}

// StateVersion is the version of the encoded state.
const StateVersion = 1

// durable is what is stored of a State.
type durable struct {
	Version   int        `json:"version"`
	Kind      Kind       `json:"kind,omitzero"`
	Claims    []Claim    `json:"claims,omitempty"`
	Endpoints []Endpoint `json:"endpoints,omitempty"`
	Input     Instant    `json:"input,omitzero"`
	Gone      Cause      `json:"gone,omitzero"`
	GoneAt    Instant    `json:"goneAt,omitzero"`
	LoggedIn  Instant    `json:"loggedIn,omitzero"`
	Disabled  bool       `json:"disabled,omitzero"`
	Epoch     uint32     `json:"epoch"`
	Serial    uint64     `json:"serial"`
	Status    string     `json:"status,omitzero"`
	Class     Class      `json:"class,omitzero"`
	Cause     Cause      `json:"cause,omitzero"`
	Since     Instant    `json:"since,omitzero"`
	Reach     Reach      `json:"reach,omitzero"`
	Seen      []Seen     `json:"seen,omitempty"`
	Pending   *Claim     `json:"pending,omitzero"`
	Requests  []Request  `json:"requests,omitempty"`
	Revision  Instant    `json:"revision,omitzero"`
	Requeued  Instant    `json:"requeued,omitzero"`
}

// Record returns what must be stored of s: everything but its connections. The
// revision is for the caller to give.
func (m *Machine) Record(s *State, revision uint64) (Record, error) {
	d := durable{
		Version: StateVersion, Kind: s.Kind, Claims: s.Claims, Endpoints: s.Endpoints, Input: m.lastInput(s),
		Gone: s.Gone, GoneAt: s.GoneAt, LoggedIn: s.LoggedIn, Disabled: s.Disabled, Epoch: s.Epoch, Serial: s.Serial,
		Status: s.Current.Status, Class: s.Current.Class, Cause: s.Current.Cause, Since: s.Current.Since, Reach: s.Current.Reach, Seen: s.Current.Seen, Revision: s.Current.Revision,
	}
	if w := s.Work; w != nil {
		d.Pending, d.Requests, d.Requeued = w.Pending, w.Requests, w.Requeued
	}
	data, err := json.Marshal(d)
	if err != nil {
		return Record{}, fmt.Errorf("presence: encoding the state of %s: %w", s.Subject, err)
	}
	return Record{Subject: s.Subject, Revision: revision, Data: data}, nil
}

// State decodes a record. The subject has no connections then: feed EventRestart
// to the state to let those it had come back.
func (r Record) State() (State, error) {
	var d durable
	if err := json.Unmarshal(r.Data, &d); err != nil {
		return State{}, fmt.Errorf("presence: %w: the record of %s cannot be read: %w", ErrInvalid, r.Subject, err)
	}
	if d.Version != StateVersion {
		return State{}, fmt.Errorf("presence: %w: the record of %s has version %d, this package reads version %d", ErrInvalid, r.Subject, d.Version, StateVersion)
	}
	slices.SortFunc(d.Claims, compareClaims)
	var work *Work
	if d.Pending != nil || len(d.Requests) > 0 || d.Requeued != 0 {
		work = &Work{Pending: d.Pending, Requests: d.Requests, Requeued: d.Requeued}
	}
	return State{
		Subject: r.Subject, Kind: d.Kind, Work: work, Claims: d.Claims, Endpoints: d.Endpoints, Input: d.Input, Gone: d.Gone, GoneAt: d.GoneAt,
		LoggedIn: d.LoggedIn, Disabled: d.Disabled, Epoch: d.Epoch, Serial: d.Serial, Now: d.Since, Changed: d.Since,
		Current: Presence{Subject: r.Subject, Kind: cmp.Or(d.Kind, KindHuman), Known: d.Status != "", Status: d.Status, Class: d.Class, Cause: d.Cause, Since: d.Since, Reach: min(d.Reach, ReachLive), Revision: d.Revision, Seen: d.Seen},
	}, nil
}

// JournalRow is one row of the append-only history: a change of status, the
// beginning or end of a claim or request, or that work was taken away.
type JournalRow struct {
	ID       string  `json:"id"` // unique per subject, at most MaxID+16 bytes; storing a row again changes nothing
	Subject  Ref     `json:"subject"`
	Kind     string  `json:"kind"` // transition, claim-set, claim-ended, requeue, request-opened, request-closed
	From     string  `json:"from,omitzero"`
	To       string  `json:"to,omitzero"`
	Class    Class   `json:"class,omitzero"`
	Cause    Cause   `json:"cause,omitzero"`
	Trigger  Cause   `json:"trigger,omitzero"`
	Reach    string  `json:"reach,omitzero"`
	Source   Source  `json:"source,omitzero"`
	Key      string  `json:"key,omitzero"`
	Reason   string  `json:"reason,omitzero"`
	By       string  `json:"by,omitzero"`
	At       Instant `json:"at"`       // when it logically happened
	Recorded Instant `json:"recorded"` // when it was noticed
}

// Write is one record to be stored. Expect is the revision that storage must
// hold for it to be: 0 means that there is none yet.
type Write struct {
	Record Record
	Expect uint64
}

// Storage keeps what must outlive the process. Its methods may be called
// concurrently and must respect ctx; they must not retry by themselves, must
// not keep or change the slices they are given, and hand over ownership of what
// they return. A nil error means that the change is durable. An error that
// leaves the outcome unknown is allowed: calls are repeated, and repeating one
// is harmless. A call that fails, or whose context ends, harms no other. After
// Close of whatever opened it, every method returns an error wrapping
// [ErrClosed].
type Storage interface {
	// Load returns the records of the subjects that have one, each once and in
	// any order. Of what one Save stored it sees all or nothing.
	Load(ctx context.Context, subjects ...Ref) ([]Record, error)
	// Save stores all writes or none, of at most one record a subject. Where a
	// stored revision is not the one expected it returns an error wrapping
	// [ErrConflict], unless storage holds exactly the record to be written
	// already.
	Save(ctx context.Context, writes ...Write) error
	// Append adds rows to the journal in order, all or none. A row whose subject
	// and id are there already is skipped.
	Append(ctx context.Context, rows ...JournalRow) error
	// Delete removes the records and journals of subjects; unknown ones are skipped.
	Delete(ctx context.Context, subjects ...Ref) error
}

// JournalQuery selects rows of one subject's journal with From <= At < To (zero
// means unbounded), after the row with id After, at most Limit of them (0 means
// 1,000).
type JournalQuery struct {
	Subject  Ref
	From, To Instant
	After    string
	Limit    int
}

// Select returns the rows that q selects among all rows of its subject, which
// are in the order in which they were appended.
func (q JournalQuery) Select(rows []JournalRow) []JournalRow {
	limit := q.Limit
	if limit <= 0 {
		limit = 1000
	}
	if q.After != "" {
		i := slices.IndexFunc(rows, func(r JournalRow) bool { return r.ID == q.After })
		rows = rows[i+1:]
	}
	var selected []JournalRow
	for _, r := range rows {
		if q.From != 0 && r.At < q.From || q.To != 0 && r.At >= q.To {
			continue
		}
		if selected = append(selected, r); len(selected) == limit {
			break
		}
	}
	return selected
}

// Row returns the journal's row for an output, if it has one. Its subject is
// left for the caller to fill in.
func (o *Output) Row() (row JournalRow, ok bool) {
	switch o.Kind {
	case OutputTransition:
		p := &o.Presence
		return JournalRow{
			ID: o.ID, Kind: "transition", From: o.Prev, To: p.Status, Class: p.Class, Cause: p.Cause, Trigger: o.Trigger,
			Reach: p.Reach.String(), Reason: p.Reason, At: o.At, Recorded: o.Noticed,
		}, true
	case OutputClaimSet, OutputClaimEnded:
		c := &o.Claim
		row = JournalRow{
			ID: "claim-set/" + c.ID, Kind: "claim-set", To: c.Status, Class: c.Class, Source: c.Source, Key: c.Key, Reason: c.Reason, By: c.By,
			At: o.At, Recorded: o.Noticed,
		}
		if o.Kind == OutputClaimEnded {
			row.ID, row.Kind, row.From, row.To, row.Trigger = "claim-ended/"+c.ID, "claim-ended", c.Status, "", o.Why
		}
		return row, true
	case OutputRequeue:
		return JournalRow{ID: "requeue/" + o.ID, Kind: "requeue", Trigger: o.Why, At: o.At, Recorded: o.Noticed}, true
	case OutputRequestOpened, OutputRequestClosed:
		r := &o.Request
		row = JournalRow{
			ID: "request-opened/" + r.ID, Kind: "request-opened", To: r.Claim.Status, Class: r.Claim.Class, Reason: r.Claim.Reason, By: r.Claim.By,
			At: o.At, Recorded: o.Noticed,
		}
		if o.Kind == OutputRequestClosed {
			row.ID, row.Kind, row.By, row.Trigger = "request-closed/"+r.ID, "request-closed", r.By, r.How
		}
		return row, true
	}
	return row, false
}

// JournalReader is implemented by storages that can read their journal back.
type JournalReader interface {
	// Journal returns rows in the order in which they were appended.
	Journal(ctx context.Context, q JournalQuery) ([]JournalRow, error)
}

// JournalScan selects rows of all subjects of one tenant with From <= At < To
// (zero means unbounded), at most Limit of them (0 means 1,000), after the row
// After: the last one of the page before, or the zero row. If that row has been
// deleted meanwhile, the rows of its instant are selected anew.
type JournalScan struct {
	Tenant   string
	From, To Instant
	After    JournalRow // Subject, ID and At count
	Limit    int
}

// Select returns the rows that q selects among all rows, which are in the order
// in which they were appended. It returns them in the order of a scan: by the
// instant at which they happened, and within one as they were appended.
func (q JournalScan) Select(rows []JournalRow) []JournalRow {
	var selected []JournalRow
	for _, r := range rows {
		if r.Subject.Tenant != q.Tenant || q.From != 0 && r.At < q.From || q.To != 0 && r.At >= q.To || q.After.ID != "" && r.At < q.After.At {
			continue
		}
		selected = append(selected, r)
	}
	slices.SortStableFunc(selected, func(a, b JournalRow) int { return cmp.Compare(a.At, b.At) })
	i := slices.IndexFunc(selected, func(r JournalRow) bool { return r.Subject == q.After.Subject && r.ID == q.After.ID })
	selected = selected[i+1:]
	limit := q.Limit
	if limit <= 0 {
		limit = 1000
	}
	return selected[:min(limit, len(selected))]
}

// JournalScanner is implemented by storages that can read the journals of all
// subjects of a tenant together, as reports over a period do. What is appended
// while somebody pages through is seen if it comes after the page.
type JournalScanner interface {
	// ScanJournal returns rows by the instant at which they happened, and within
	// one as they were appended.
	ScanJournal(ctx context.Context, q JournalScan) ([]JournalRow, error)
}

// checkID checks an id of any kind. The error names what is wrong, for the
// caller to say what the id is of.
func checkID(id string) error {
	switch {
	case id != "" && len(id) <= MaxID && plainText(id):
		return nil // as nearly all are
	case id == "":
		return fmt.Errorf("id is %w: it is empty", ErrInvalid)
	case len(id) > MaxID:
		return fmt.Errorf("id is %w: %d bytes, at most %d are allowed", ErrInvalid, len(id), MaxID)
	case !utf8.ValidString(id):
		return fmt.Errorf("id %q is %w: it is not UTF-8", id, ErrInvalid)
	case strings.ContainsFunc(id, unicode.IsControl):
		return fmt.Errorf("id %q is %w: control characters are not allowed", id, ErrInvalid)
	}
	return nil
}

// plainText reports whether text has printable ASCII characters alone.
func plainText(text string) bool {
	for i := range len(text) {
		if c := text[i]; c < ' ' || c > '~' {
			return false
		}
	}
	return true
}

// checkGiven checks an id that callers may leave to the core.
func checkGiven(what, id string) error {
	if id == "" {
		return nil
	}
	return checkNamed(what, id)
}

func checkNamed(what, id string) error {
	if err := checkID(id); err != nil {
		return fmt.Errorf("presence: %s %w", what, err)
	}
	return nil
}

func checkRef(what string, r Ref) error {
	if err := checkID(r.ID); err != nil {
		return fmt.Errorf("presence: %s %w", what, err)
	}
	if r.Tenant != "" {
		if err := checkID(r.Tenant); err != nil {
			return fmt.Errorf("presence: tenant of %s %q: %w", what, r.ID, err)
		}
	}
	return nil
}

func checkText(what, text string, limit int) error {
	if len(text) > limit {
		return fmt.Errorf("presence: %w %s: %d bytes, at most %d are allowed", ErrInvalid, what, len(text), limit)
	}
	if !utf8.ValidString(text) {
		return fmt.Errorf("presence: %w %s: it is not UTF-8", ErrInvalid, what)
	}
	if strings.Contains(text, "\x00") { // some storages cannot keep it
		return fmt.Errorf("presence: %w %s: it contains a zero character", ErrInvalid, what)
	}
	return nil
}
