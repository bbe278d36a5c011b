package presence

import (
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/presence-go/presence/internal/conf"
)

// PolicyVersion is the version of the policy format that this package writes. It
// reads a policy of a newer minor version, and reports unknown keys as warnings.
// It refuses a newer major version.
const PolicyVersion = 1

// Class is what a status means to code that does not know the status itself.
// The set is closed.
type Class string

// The classes, from the most to the least available.
const (
	ClassAvailable Class = "available"
	ClassBusy      Class = "busy"
	ClassAway      Class = "away"
	ClassDND       Class = "dnd"
	ClassOffline   Class = "offline"
)

var classes = []Class{ClassAvailable, ClassBusy, ClassAway, ClassDND, ClassOffline}

// Routing is which new work a status lets through.
type Routing string

// The routing rules. The zero value means RouteAll for a status of class
// available, and RouteNone for any other.
const (
	RouteAll      Routing = "all"      // any work
	RouteSticky   Routing = "sticky"   // only work of clients that are assigned to the subject already
	RouteTransfer Routing = "transfer" // only work that a colleague hands over
	RouteLast     Routing = "last"     // any work that no subject with RouteAll can take; the only rule that needs no connection
	RouteNone     Routing = "none"     // no new work
)

// The words of [Status.SelectableBy]: who may select a status.
const (
	BySelf       = "self"
	BySupervisor = "supervisor"
	BySystem     = "system"
	ByNobody     = "nobody"
)

// Words of policies. A word that is the default has no name: leave its field empty.
const (
	OfUnchosen      = "unchosen"   // IdleStage.Of: only what no person chose is masked
	ScopeConnection = "connection" // Policy.ClaimScope: a choice binds the connection it was made over
	ScopeAccount    = "account"    // Policy.LogoutScope: a logout ends every connection
	LoginReset      = "reset"      // LoginRule.Mode: a login ends earlier choices
	OfflineRefuse   = "refuse"     // Policy.SupervisorWhenOffline: a supervisor may not set the status then
	LossFromLease   = "lease"      // Grace.LossFrom: the grace of a loss begins when the lease ends
	ShowTop         = "top"        // VirtualRule.Show: what a connected subject would show
	EmptyVisible    = "visible"    // Policy.ScheduleOpenEmpty: visitors see an open channel without members
	ListOnline      = "online"     // WidgetRule.List: only available members
	ListNone        = "none"       // WidgetRule.List: no member
	DrainRequeue    = "requeue"    // WorkRule.SupervisorDrain: the work is given to others at once
	WithdrawClosed  = "closed"     // WorkRule.WithdrawOn: a closed connection withdraws requests, as a logout does
	WithdrawNever   = "never"      // WorkRule.WithdrawOn: leaving withdraws no request
	ReturnsCapacity = "capacity"   // WorkRule.Returns: a client's new work counts against the capacity of its subject
)

// What may count as input; see Policy.Activity.
const (
	ActivityInput = "input"
	ActivityLogin = "login"
	ActivityClaim = "claim"
	ActivityFocus = "focus" // looking at a channel
	ActivityShow  = "show"  // making the application visible
)

// The words that are the default.
const (
	scopeSubject   = "subject"
	scopeSession   = "session"
	loginKeep      = "keep"
	ofAny          = "any"
	offlineMask    = "mask"
	lossFromReport = "report"
	showIgnore     = "ignore"
	emptyOffline   = "offline"
	listAll        = "all"
	drainFirst     = "drain"
	withdrawLogout = "logout"
	returnsOver    = "over"
)

// Status defines one status that a subject can have.
type Status struct {
	ID    string `json:"id"`             // at most [MaxID] bytes; claims and frames carry it
	Label string `json:"label,omitzero"` // for people; empty means the id
	Color string `json:"color,omitzero"` // a CSS colour for indicators
	Class Class  `json:"class"`          // available, busy, away, dnd or offline
	// Routing is which new work reaches a subject in this status: all, sticky,
	// transfer, last or none. Empty means all for class available, else none.
	Routing Routing `json:"routing,omitzero"`
	// RoutingOn replaces Routing for single work channels.
	RoutingOn map[string]Routing `json:"routingOn,omitzero"`
	// DrainsFirst makes the choice of this status wait until the load is 0.
	// Meanwhile the subject gets no new work.
	DrainsFirst bool `json:"drainsFirst,omitzero"`
	// NeedsApproval makes a subject request this status instead of choosing it.
	NeedsApproval bool `json:"needsApproval,omitzero"`
	// Omits lists fields of views that are left out while this status shows. The
	// subject itself and admins still see them. The fields are those of Views.
	Omits []string `json:"omits,omitzero"`
	// SelectableBy lists self, supervisor and system, or only nobody. Empty means
	// all three.
	SelectableBy []string `json:"selectableBy,omitzero"`
	// HiddenFrom lists the audiences to which a subject in this status looks as if
	// it had logged out at the instant the status began. The policy must have a
	// status that they can be shown instead: the disconnected one, or one of class
	// offline. Another policy does not end the hiding.
	HiddenFrom []Audience `json:"hiddenFrom,omitzero"`
	// For is how long a claim to this status lasts if the claim names no end. Zero
	// means until it is changed.
	For time.Duration `json:"for,omitzero"`
	// Keeps is how long a connection that left otherwise than by a logout lingers at
	// least, while the best of its own claims is to this status. Zero means that only
	// the grace counts.
	Keeps time.Duration `json:"keeps,omitzero"`
}

// IdleStage masks a status after a time without input over a counting
// connection. A stage only lowers availability, and never changes what was chosen.
type IdleStage struct {
	After time.Duration `json:"after"` // since the last input; the stage begins at that instant
	To    string        `json:"to"`    // the status shown
	On    []string      `json:"on"`    // the statuses that the stage masks
	// Of is "any" (the default) or "unchosen": a stage of what is unchosen does not
	// mask while a claim of the manual rank is on top.
	Of string `json:"of,omitzero"`
}

// Grace is how long a connection that left still counts, by the cause of its
// leaving. Zero means not at all.
type Grace struct {
	Logout time.Duration `json:"logout"` // after a logout
	Close  time.Duration `json:"close"`  // after a clean close: a reload returns within it
	Loss   time.Duration `json:"loss"`   // after the lease ran out, or after a reported loss
	Node   time.Duration `json:"node"`   // after the node that held it died
	Drain  time.Duration `json:"drain"`  // after the node that held it was shut down
	// LossFrom is "report" (the default) or "lease". A loss that is reported before
	// the lease ran out counts its grace from the report, or from the end of the
	// lease. An unreported loss always counts from the end of the lease.
	LossFrom string `json:"lossFrom,omitzero"`
}

// DeviceRule is how connections of one class of device differ from others.
type DeviceRule struct {
	// IgnoreInput makes these connections count for reachability only. A kiosk or a
	// wall display then keeps no subject from being idle. A person who is only at such
	// devices is idle from the last login or own claim there.
	IgnoreInput bool `json:"ignoreInput,omitzero"`
	// OwnGrace makes Grace replace the policy's grace for these connections.
	OwnGrace bool  `json:"ownGrace,omitzero"`
	Grace    Grace `json:"grace,omitzero"` // as the policy's grace; counts only with OwnGrace
	// Rank decides which connections speak where connections have claims of their own,
	// as under claimScope connection: those of the greatest rank, live or lingering.
	// Fold decides among them. A negative rank is below that of other devices.
	Rank int `json:"rank,omitzero"`
	// Ceiling is the status shown instead of one of class available while every
	// connection is of a device with a ceiling. Of several ceilings the most available
	// one counts. An idle stage that shows less still does. Empty means none.
	Ceiling string `json:"ceiling,omitzero"`
}

// VirtualRule is what an endpoint without a connection counts for.
type VirtualRule struct {
	// Show is "ignore" (the default), "top" to show what a connected subject would
	// show, or the id of the status to show instead.
	Show     string `json:"show"`
	Routable bool   `json:"routable,omitzero"` // new work may be routed to the endpoint
}

// LoginRule is what a login does to earlier choices.
type LoginRule struct {
	// Mode is "keep" (the default) or "reset". A reset ends the claims of the
	// manual rank and claims Status instead.
	Mode   string `json:"mode"`
	Status string `json:"status,omitzero"` // claimed by a reset; empty otherwise
}

// GroupRule maps the class of a member to the group status that it counts for:
// "available", "away" or "offline". The group has the best of its members.
type GroupRule struct {
	Available string `json:"available,omitzero"` // empty means available
	Away      string `json:"away,omitzero"`      // empty means away
	Busy      string `json:"busy,omitzero"`      // empty means away
	DND       string `json:"dnd,omitzero"`       // empty means away
}

// WidgetRule is which members of a channel a visitor may list. Every visitor sees
// the group status.
type WidgetRule struct {
	List string `json:"list"` // "all" (the default), "online" for members of class available, or "none"
}

// GateRow is the verdict on one kind of notification for each state of its
// receiver: deliver, skip or defer. An empty verdict means deliver. The first
// column that fits counts, in the order DND, Disconnected, Away, Busy, then Here
// or Available. While the subject is busy and looks at the channel, the stricter
// of Here and Busy counts: skip, then defer, then deliver. GateHere is how long a
// look lasts.
type GateRow struct {
	Here         Verdict `json:"here,omitzero"`         // available, and looks at the notification's channel
	Available    Verdict `json:"available,omitzero"`    // available, and looks elsewhere
	Away         Verdict `json:"away,omitzero"`         // away, or idle
	Busy         Verdict `json:"busy,omitzero"`         // of class busy
	DND          Verdict `json:"dnd,omitzero"`          // a choice of class dnd is in force, also beneath a call
	Disconnected Verdict `json:"disconnected,omitzero"` // not connected
}

// Policy is all rules of one product, as data. Start from [DefaultPolicy] or a
// preset, and change what differs. The JSON form has the keys of the field tags
// and durations as strings such as "5m". [ParsePolicy] reads it.
type Policy struct {
	Version float64 `json:"version"`          // [PolicyVersion]; 0 means that version
	Name    string  `json:"name,omitzero"`    // for people and messages
	Extends string  `json:"extends,omitzero"` // in a file: the policy to start from

	// Disabled switches presence off. The subject itself and admins then see
	// "disabled". All other audiences see "unknown", which is not offline.
	Disabled bool `json:"disabled,omitzero"`

	Statuses []Status `json:"statuses"` // at least one, at most [MaxStatuses]
	// Default is the status of a connected subject without a claim. Empty means
	// the first of Statuses.
	Default string `json:"default,omitzero"`
	// Disconnected is the status of a subject that cannot be reached. Empty means
	// the first status of class offline.
	Disconnected string `json:"disconnected,omitzero"`
	// DisconnectProof lists the sources whose claims show without a connection.
	DisconnectProof []Source `json:"disconnectProof,omitzero"`
	// Sources lists the sources of claims, the highest rank first. Sources in one
	// inner list share a rank, within which the later claim wins. Empty means
	// [DefaultSources].
	Sources [][]Source `json:"sources,omitzero"`
	// SourceFor limits how long a claim of a source holds, from when it begins: the
	// end of a call may never arrive. A source without an entry has no limit.
	SourceFor map[Source]time.Duration `json:"sourceFor,omitzero"`
	// KeepExplicit stores a choice of the default status as a claim, which then
	// lies over lower sources. Otherwise such a choice only ends other choices.
	KeepExplicit bool `json:"keepExplicit,omitzero"`
	// ClaimScope is "subject" (the default) or "connection": what a choice made
	// over a connection binds.
	ClaimScope string `json:"claimScope,omitzero"`
	// Fold orders the statuses for connections that claim different ones: the first
	// status that any connection claims wins. Statuses left out follow in the order
	// of Statuses.
	Fold []string `json:"fold,omitzero"`

	Login LoginRule `json:"login"` // what a login does to earlier choices
	// LogoutScope is "session" (the default) or "account": what a logout over one
	// connection ends.
	LogoutScope string `json:"logoutScope,omitzero"`
	// SupervisorWhenOffline is "mask" (the default) or "refuse": what happens to a
	// supervisor's claim for a subject that is not connected.
	SupervisorWhenOffline string `json:"supervisorWhenOffline,omitzero"`

	Heartbeat    time.Duration `json:"heartbeat"`    // interval at which clients report; 0 means 25s
	Lease        time.Duration `json:"lease"`        // silence after which a connection is lost, longer than Heartbeat; 0 means 60s
	StartupGrace time.Duration `json:"startupGrace"` // extends leases after this process stood still; 0 means 30s
	Grace        Grace         `json:"grace"`        // how long a connection that left still counts

	Idle []IdleStage `json:"idle"` // empty means that no subject is ever idle
	// Activity lists what counts as input: "input", "login", "claim", "focus",
	// "show". Empty means the first three. Connecting never counts.
	Activity []string               `json:"activity,omitzero"`
	Devices  map[string]DeviceRule  `json:"devices,omitzero"` // by the class of device that a connection names
	Virtual  map[string]VirtualRule `json:"virtual,omitzero"` // by kind of endpoint: push, bot, service

	Work WorkRule `json:"work,omitzero"` // how work is handed out
	// Retired maps a removed status to its replacement: claims to the one count as
	// claims to the other. A removed status without an entry counts as the first
	// status of its class that is not available. An available replacement does not
	// count for a status of another class.
	Retired map[string]string `json:"retired,omitzero"`

	Group GroupRule `json:"group"` // which group status the members of each class count for
	// ScheduleOpenEmpty is "offline" (the default) or "visible": what visitors see
	// of an open channel without a present member. Visible means the group status
	// away.
	ScheduleOpenEmpty string `json:"scheduleOpenEmpty,omitzero"`
	// AssumeStaffed makes a channel available to visitors during its hours, with or
	// without present members.
	AssumeStaffed bool       `json:"assumeStaffed,omitzero"`
	Widget        WidgetRule `json:"widget"` // which members a visitor may list
	// Views lists the fields that an audience sees beside status, class, label and
	// color: since, setAt, until, reason, text, cause, masked, lastSeen, lastLogin,
	// routable, routableOn, work, threads, pinned, pending, request, devices. An
	// audience without an entry has that of [DefaultViews]. An audience that can be
	// hidden from may not have devices, since a count shows a hidden connection.
	Views map[Audience][]string `json:"views,omitzero"`
	// Hideable lists audiences that single claims may hide from, beside those that
	// the status is hidden from.
	Hideable []Audience `json:"hideable,omitzero"`
	// Gate has the verdicts on notifications, by kind. A kind without a row is
	// delivered.
	Gate map[string]GateRow `json:"gate,omitzero"`
	// GateHere is how long the last sign of a person over a connection lets its
	// focus count as a look: an input, an own claim over the connection, or the focus
	// itself. So the focus of an unattended device does not count. 0 means 60s.
	GateHere time.Duration `json:"gateHere,omitzero"`
	// CoalesceSubject is the shortest time between two changes of one subject in one
	// stream. The newest state is always sent. 0 sends every change at once.
	CoalesceSubject time.Duration `json:"publish,omitzero"`
	// CoalesceChannel is the shortest time between two diffs of one channel to one
	// audience. A diff has the newest state of everything that changed meanwhile.
	// Set it where many members connect at once, such as after a deploy. 0 sends
	// every change in a diff of its own.
	CoalesceChannel time.Duration `json:"batch,omitzero"`
}

// DefaultSources returns the order of sources of a policy that names none.
func DefaultSources() [][]Source {
	return [][]Source{{SourceSystem}, {SourceCall}, {SourceSupervisor, SourceManual}, {SourceCalendar}, {SourceApp}, {SourceLoginDefault}}
}

// DefaultViews returns the fields that an audience sees if the policy has no entry
// for it.
func DefaultViews() map[Audience][]string {
	all := slices.DeleteFunc(slices.Clone(viewFields), func(field string) bool { return field == fieldNameDevices })
	return map[Audience][]string{
		AudienceSelf:       all,
		AudienceSupervisor: all,
		AudienceAdmin:      all,
		AudienceTeam:       {"since", "reason", "text"},
		AudienceVisitor:    {},
		AudienceRouter:     {"since", "routable", "routableOn", "work", "threads"},
	}
}

// DefaultPolicy returns the policy of a tracker that is given none. Its statuses
// are available, away, busy and offline. An available subject is idle after five
// minutes. A login keeps choices. A closed connection counts for 5 s, a lost one
// for 15 s.
func DefaultPolicy() Policy {
	return Policy{
		Version: PolicyVersion,
		Name:    "default",
		Statuses: []Status{
			{ID: "available", Label: "Available", Color: "#2e9e5b", Class: ClassAvailable},
			{ID: "away", Label: "Away", Color: "#e0a100", Class: ClassAway},
			{ID: "busy", Label: "Busy", Color: "#d04437", Class: ClassBusy},
			{ID: "offline", Label: "Offline", Color: "#8a8f98", Class: ClassOffline, SelectableBy: []string{ByNobody}},
		},
		Default:      "available",
		Disconnected: "offline",
		Login:        LoginRule{Mode: loginKeep},
		Heartbeat:    25 * time.Second,
		Lease:        60 * time.Second,
		StartupGrace: 30 * time.Second,
		Grace:        Grace{Close: 5 * time.Second, Loss: 15 * time.Second, Node: 15 * time.Second, Drain: 60 * time.Second},
		Idle:         []IdleStage{{After: 5 * time.Minute, To: "away", On: []string{"available"}}},
		Group:        GroupRule{Available: GroupAvailable, Away: GroupAway, Busy: GroupAway, DND: GroupAway},
		Widget:       WidgetRule{List: listAll},
		Gate: map[string]GateRow{
			"push":   {Here: Skip, Available: Deliver, Away: Deliver, Busy: Deliver, DND: Skip, Disconnected: Deliver},
			"mobile": {Here: Skip, Available: Deliver, Away: Deliver, Busy: Deliver, DND: Skip, Disconnected: Deliver},
			"inapp":  {Here: Deliver, Available: Deliver, Away: Deliver, Busy: Deliver, DND: Deliver, Disconnected: Skip},
			"call":   {Here: Deliver, Available: Deliver, Away: Deliver, Busy: Skip, DND: Skip, Disconnected: Skip},
		},
	}
}

// Clone returns a copy that shares nothing with p.
func (p Policy) Clone() Policy { return conf.Clone(p) }

// Set changes one value, given its path of JSON keys such as "grace.close" or
// "statuses.busy.color". A step through a list is an index or an id. A path that
// skips that step sets every element ("idle.after"). The value of a list is
// separated by commas, and "none" empties it ("idle"). On an error p is unchanged.
func (p *Policy) Set(path, value string) error {
	return policyFaults(conf.Set(p, path, value))
}

// AddStatus adds a status, or replaces the one of the same id.
func (p *Policy) AddStatus(s Status) {
	p.Retired = maps.Clone(p.Retired)
	delete(p.Retired, s.ID)
	p.Statuses = slices.Clone(p.Statuses)
	if i := slices.IndexFunc(p.Statuses, func(o Status) bool { return o.ID == s.ID }); i >= 0 {
		p.Statuses[i] = s
		return
	}
	p.Statuses = append(p.Statuses, s)
}

// RemoveStatus removes a status. Claims to it stay. They count as claims to the
// fallback, or without one to the first status of its class that is not available.
// It returns ErrUnknown if the policy has no status of that id.
func (p *Policy) RemoveStatus(id, fallback string) error {
	i := slices.IndexFunc(p.Statuses, func(o Status) bool { return o.ID == id })
	if i < 0 {
		return refuse(ErrUnknown, "status", id, "the policy has none of that id")
	}
	p.Statuses = slices.Delete(slices.Clone(p.Statuses), i, i+1)
	if fallback != "" {
		p.Retired = maps.Clone(p.Retired)
		if p.Retired == nil {
			p.Retired = make(map[string]string)
		}
		p.Retired[id] = fallback
	}
	return nil
}

// JSON returns the policy in the form that [ParsePolicy] reads.
func (p Policy) JSON() ([]byte, error) {
	p.Version = PolicyVersion
	p.Extends = ""
	return conf.Encode(p)
}

// ParsePolicy reads a policy from JSON. If the document has "extends", base returns
// the policy of that name to start from. Otherwise the document starts without a
// status, and with graces of zero. The error joins all faults in the form, or
// without one all faults in the meaning. A warning is the path of a key that a
// newer minor version of the format added.
func ParsePolicy(data []byte, base func(name string) (Policy, bool)) (p Policy, warnings []string, err error) {
	var head struct {
		Version float64 `json:"version"`
		Extends string  `json:"extends"`
	}
	if _, err := conf.Decode(data, &head); err != nil {
		return p, nil, policyFaults(err)
	}
	if head.Version < PolicyVersion || head.Version >= PolicyVersion+1 {
		return p, nil, refuse(ErrInvalid, "policy", "version", "%v is not supported, this package reads version %d", head.Version, PolicyVersion)
	}
	if head.Extends != "" {
		found := false
		if base != nil {
			p, found = base(head.Extends)
		}
		if !found {
			return Policy{}, nil, refuse(ErrInvalid, "policy", "extends", "no policy is named %q", head.Extends)
		}
	}
	unknown, err := conf.Decode(data, &p)
	err = policyFaults(err)
	if head.Version == PolicyVersion {
		for _, key := range unknown {
			err = errors.Join(err, refuse(ErrInvalid, "policy", key.Path, "unknown key").allow(key.Allowed...))
		}
	}
	if err != nil {
		return Policy{}, nil, err
	}
	p.Version, p.Extends = PolicyVersion, ""
	if _, err := Compile(p); err != nil {
		return Policy{}, nil, err
	}
	for _, key := range unknown {
		warnings = append(warnings, key.Path)
	}
	return p, warnings, nil
}

// policyFaults turns faults of a document or of a value into refusals.
func policyFaults(err error) error {
	if err == nil {
		return nil
	}
	list := []error{err}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		list = joined.Unwrap()
	}
	for i, fault := range list {
		if f, ok := errors.AsType[*conf.Fault](fault); ok {
			list[i] = refuse(ErrInvalid, "policy", f.Path, "%s", f.Text)
		} else {
			list[i] = refuse(ErrInvalid, "policy", "", "it cannot be read").because(fault)
		}
	}
	if len(list) == 1 {
		return list[0]
	}
	return errors.Join(list...)
}

// MarshalJSON returns what [Policy.JSON] returns. json.Marshal removes the white space.
func (p Policy) MarshalJSON() ([]byte, error) { return p.JSON() }

// UnmarshalJSON reads a policy as [ParsePolicy] does, without a base. It refuses a
// document with "extends".
func (p *Policy) UnmarshalJSON(data []byte) error {
	read, _, err := ParsePolicy(data, nil)
	if err == nil {
		*p = read
	}
	return err
}

// WorkRule is the part of a policy about work.
type WorkRule struct {
	// Capacity is how much work of one work channel a subject takes if the host
	// reports no capacity. 0 means any amount.
	Capacity int `json:"capacity,omitzero"`
	// Total is how much work a subject takes over all its work channels together,
	// beside the capacity of each. 0 means any amount.
	Total int `json:"total,omitzero"`
	// Challenge is how long the question "still there?" waits for an answer. 0 means
	// 60s.
	Challenge time.Duration `json:"challenge,omitzero"`
	// KickedOut is the status of a subject that does not answer. Empty means the
	// first status of class away.
	KickedOut string `json:"kickedOut,omitzero"`
	// SelfReady lets a subject end its kick-out by choosing an available status.
	// Otherwise only a supervisor can end it.
	SelfReady bool `json:"selfReady,omitzero"`
	// SupervisorDrain is "drain" (the default) or "requeue": whether a subject that a
	// supervisor sends on a break finishes its work first, or loses it at once.
	SupervisorDrain string `json:"supervisorDrain,omitzero"`
	// RequeueAfter is how long after its last connection ended the work of a
	// subject is given to others. A change of its load meanwhile, such as by work that
	// an actor assigns, starts that time again. 0 means never.
	RequeueAfter time.Duration `json:"requeueAfter,omitzero"`
	// Settle is how long a connection that was lost must be live again before its
	// subject gets new work. 0 means not at all.
	Settle time.Duration `json:"settle,omitzero"`
	// WrapUp is how long a subject gets no new work after a piece of its work has
	// ended, or the host has reported a lower load. 0 means not at all.
	WrapUp time.Duration `json:"wrapUp,omitzero"`
	// RequestFor is how long a request stays open. 0 means until it is closed.
	RequestFor time.Duration `json:"requestFor,omitzero"`
	// WithdrawOn is "logout" (the default), "closed" or "never": which way of
	// leaving closes the requests of a subject. A lost connection closes none.
	WithdrawOn string `json:"withdrawOn,omitzero"`
	// Order is "least-loaded" (the default), "longest-idle" or "round-robin": which of
	// several equally available subjects gets a piece of work.
	Order string `json:"order,omitzero"`
	// Affinity is how long a client still belongs to the subject that did its work,
	// if that subject receives sticky work. 0 means not at all.
	Affinity time.Duration `json:"affinity,omitzero"`
	// Returns is "over" (the default) or "capacity": whether a subject gets the new
	// work of its clients beyond its capacity, or only while it has room. Otherwise
	// that work waits in the line.
	Returns string `json:"returns,omitzero"`
	// AcceptWithin is how long a subject has to start work that a queue offers it.
	// Then the queue offers it to the next subject. 0 means that work counts as
	// started once it is given, unless it was meant for its subject.
	AcceptWithin time.Duration `json:"acceptWithin,omitzero"`
}

// The words of [WorkRule.Order].
const (
	OrderLeastLoaded = "least-loaded"
	OrderLongestIdle = "longest-idle"
	OrderRoundRobin  = "round-robin"
)
