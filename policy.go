package presence

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/presence-go/presence/internal/conf"
)

// PolicyVersion is the version of the policy format this package writes. A
// policy of a newer minor version is read and its unknown keys are reported; a
// newer major version is refused.
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

// Routing says which new work a status lets through.
type Routing string

// The routing rules. The zero value means RouteAll for a status of class
// available and RouteNone for every other.
const (
	RouteAll      Routing = "all"      // any work
	RouteSticky   Routing = "sticky"   // only of clients already assigned to the subject
	RouteTransfer Routing = "transfer" // only what a colleague hands over
	RouteLast     Routing = "last"     // any work, once nobody who takes all can; the one rule that holds without a connection too
	RouteNone     Routing = "none"
)

// Who may select a status; see Status.SelectableBy.
const (
	BySelf       = "self"
	BySupervisor = "supervisor"
	BySystem     = "system"
	ByNobody     = "nobody"
)

// Status defines one status a subject can have.
type Status struct {
	ID    string `json:"id"`
	Label string `json:"label,omitzero"` // for people; empty means the id
	Color string `json:"color,omitzero"` // a CSS colour for indicators
	Class Class  `json:"class"`
	// Routing is which new work reaches a subject in this status.
	Routing Routing `json:"routing,omitzero"`
	// RoutingOn replaces Routing for single work channels.
	RoutingOn map[string]Routing `json:"routingOn,omitzero"`
	// DrainsFirst makes the choice of this status wait until the present work is
	// done, with no new work given meanwhile.
	DrainsFirst bool `json:"drainsFirst,omitzero"`
	// NeedsApproval makes subjects ask for this status instead of taking it.
	NeedsApproval bool `json:"needsApproval,omitzero"`
	// Omits lists fields of views (see Policy.Views) that are left out while this
	// status shows, except from the subject itself and admins.
	Omits []string `json:"omits,omitzero"`
	// SelectableBy lists BySelf, BySupervisor and BySystem, or only ByNobody.
	// Empty means all three.
	SelectableBy []string `json:"selectableBy,omitzero"`
	// HiddenFrom lists the audiences that see a subject in this status as one
	// who logged out at the instant the status was taken.
	HiddenFrom []Audience `json:"hiddenFrom,omitzero"`
	// For is how long a claim to this status lasts when it names no end; zero
	// means until it is changed.
	For time.Duration `json:"for,omitzero"`
}

// IdleStage masks a status once nobody has touched a counting connection for a
// while. Stages only ever lower availability and never change what was chosen.
type IdleStage struct {
	After time.Duration `json:"after"` // since the last input; the instant itself is included
	To    string        `json:"to"`    // the status shown
	On    []string      `json:"on"`    // the statuses it masks
}

// Grace is how long a connection that left still counts, by the cause of its
// leaving. Zero means that it is gone at once.
type Grace struct {
	Logout time.Duration `json:"logout"`
	Close  time.Duration `json:"close"` // closed cleanly: a reload comes back within it
	Loss   time.Duration `json:"loss"`  // silent until its lease ran out, or reported lost
	Node   time.Duration `json:"node"`  // the node that held it died
	Drain  time.Duration `json:"drain"` // the node that held it shuts down as planned
	// LossFrom is "report" (the default) or "lease": whether the grace of a loss
	// that was reported before the lease ran out counts from the report, or from
	// the end of the lease, as an unreported loss always does.
	LossFrom string `json:"lossFrom,omitzero"`
}

// DeviceRule says how connections from one class of device differ.
type DeviceRule struct {
	// IgnoreInput makes these connections count for reachability only: a kiosk
	// or a wall display never keeps anybody from being idle.
	IgnoreInput bool `json:"ignoreInput,omitzero"`
	// Grace replaces Policy.Grace for these connections where OwnGrace is set.
	OwnGrace bool  `json:"ownGrace,omitzero"`
	Grace    Grace `json:"grace,omitzero"`
}

// VirtualRule says what being reachable without a connection is worth.
type VirtualRule struct {
	// Show is "ignore" (the default), "top" to show what a connected subject
	// would show, or the id of the status to show instead.
	Show     string `json:"show"`
	Routable bool   `json:"routable,omitzero"` // may new work be routed there
}

// LoginRule says what entering with credentials does to earlier choices.
type LoginRule struct {
	// Mode is "keep" (the default) or "reset", which ends the choices of the
	// manual rank and claims Status instead.
	Mode   string `json:"mode"`
	Status string `json:"status,omitzero"`
}

// GroupRule is the ladder on which a group's members are summed up: for each
// class the rung it stands on, "available", "away" or "offline". Empty rungs
// mean available, away, away (busy), away (dnd).
type GroupRule struct {
	Available string `json:"available,omitzero"`
	Away      string `json:"away,omitzero"`
	Busy      string `json:"busy,omitzero"`
	DND       string `json:"dnd,omitzero"`
}

// WidgetRule is what a visitor may list of a channel's members: "all" (the
// default) with their state, only those "online" (class available), or "none".
// The group's own availability is shown in every case.
type WidgetRule struct {
	List string `json:"list"`
}

// GateRow is the verdict on one kind of notification for each state of its
// receiver; an empty verdict means Deliver. The first column that fits is
// taken: DND, Disconnected, Away (idle too), Busy, then Here or Available.
type GateRow struct {
	Here         Verdict `json:"here,omitzero"`      // available and looking at the channel concerned
	Available    Verdict `json:"available,omitzero"` // available, looking elsewhere
	Away         Verdict `json:"away,omitzero"`
	Busy         Verdict `json:"busy,omitzero"`
	DND          Verdict `json:"dnd,omitzero"`
	Disconnected Verdict `json:"disconnected,omitzero"`
}

// Policy is everything that makes presence mean what one product means by it.
// It is data: start from [DefaultPolicy] or one of the presets and change what
// differs. The JSON form has the keys given in the field tags, durations as
// strings such as "5m", and is read by [ParsePolicy].
type Policy struct {
	Version float64 `json:"version"` // PolicyVersion; 0 is taken as that
	Name    string  `json:"name,omitzero"`
	Extends string  `json:"extends,omitzero"` // in JSON: the policy whose values are the starting point

	// Disabled switches presence off: self and admin see "disabled", everybody
	// else "unknown", which is not offline.
	Disabled bool `json:"disabled,omitzero"`

	Statuses []Status `json:"statuses"`
	// Default is the status of a connected subject without any claim; empty
	// means the first of Statuses.
	Default string `json:"default,omitzero"`
	// Disconnected is the status of a subject that cannot be reached; empty
	// means the first status of class offline.
	Disconnected string `json:"disconnected,omitzero"`
	// DisconnectProof lists the sources whose claims show without a connection.
	DisconnectProof []Source `json:"disconnectProof,omitzero"`
	// Sources orders the sources of claims, highest rank first. Sources in one
	// list share a rank, in which the later claim wins. Empty means [DefaultSources].
	Sources [][]Source `json:"sources,omitzero"`
	// KeepExplicit stores a choice of the default status as a claim, so that it
	// stands above lower sources and is not merely the end of other choices.
	KeepExplicit bool `json:"keepExplicit,omitzero"`
	// ClaimScope is "subject" (the default) or "connection": whom a choice made
	// over a connection binds.
	ClaimScope string `json:"claimScope,omitzero"`
	// Fold orders the statuses when connections claim different ones: the first
	// that any connection claims wins. Statuses left out follow in the order of
	// Statuses.
	Fold []string `json:"fold,omitzero"`

	Login LoginRule `json:"login"`
	// LogoutScope is "session" (the default) or "account": what logging out on
	// one connection ends.
	LogoutScope string `json:"logoutScope,omitzero"`
	// SupervisorWhenOffline is "mask" (the default) or "refuse": whether a
	// supervisor may set the status of a subject that is not connected.
	SupervisorWhenOffline string `json:"supervisorWhenOffline,omitzero"`

	Heartbeat    time.Duration `json:"heartbeat"`    // interval at which clients report; 0 means 25s
	Lease        time.Duration `json:"lease"`        // silence after which a connection is lost, longer than Heartbeat; 0 means 60s
	StartupGrace time.Duration `json:"startupGrace"` // extension of leases after this process stood still; 0 means 30s
	Grace        Grace         `json:"grace"`

	Idle []IdleStage `json:"idle"`
	// Activity lists what counts as a person's input: "input", "login", "claim",
	// "focus", "show". Empty means the first three. Connecting never counts.
	Activity []string               `json:"activity,omitzero"`
	Devices  map[string]DeviceRule  `json:"devices,omitzero"`
	Virtual  map[string]VirtualRule `json:"virtual,omitzero"` // by kind of endpoint: push, bot, service

	Work WorkRule `json:"work,omitzero"`
	// Retired names for statuses that have been removed the one that claims to
	// them stand for. Without an entry, and where the class differs and the
	// other is available, they stand for the first status of their class that is
	// not available.
	Retired map[string]string `json:"retired,omitzero"`

	Group GroupRule `json:"group"`
	// ScheduleOpenEmpty is "offline" (the default) or "visible": what visitors see
	// of a channel within its hours while nobody is there. Visible stands on the
	// rung away: there is something to see, and nobody to talk to.
	ScheduleOpenEmpty string `json:"scheduleOpenEmpty,omitzero"`
	// AssumeStaffed makes a channel available to visitors whenever its hours say
	// that it is open, whoever is there.
	AssumeStaffed bool       `json:"assumeStaffed,omitzero"`
	Widget        WidgetRule `json:"widget"`
	// Views lists for an audience the fields that it sees beside status, class,
	// label and color: since, setAt, until, reason, text, cause, masked,
	// lastSeen, lastLogin, routable, work, threads, pinned, pending, request,
	// devices. An audience without an entry has the one of [DefaultViews]. Nobody
	// who can be hidden from may be shown devices: one that hides would be counted.
	Views map[Audience][]string `json:"views,omitzero"`
	// Hideable lists audiences from which single claims may hide, beyond those
	// that a status is hidden from.
	Hideable []Audience `json:"hideable,omitzero"`
	// Gate decides on notifications by kind; a kind without a row is delivered.
	Gate map[string]GateRow `json:"gate,omitzero"`
	// CoalesceSubject is the shortest time between two changes of one subject on one
	// stream; the newest state is never lost. 0 sends every change at once.
	CoalesceSubject time.Duration `json:"publish,omitzero"`
	// CoalesceChannel is the shortest time between two diffs of one channel to one audience:
	// what changes in between goes out in one, in its newest state. With many
	// members it saves what storms cost, such as a deploy after which all come
	// back at once. 0 sends every change in a diff of its own.
	CoalesceChannel time.Duration `json:"batch,omitzero"`
}

// DefaultSources is the order of sources of a policy that gives none.
func DefaultSources() [][]Source {
	return [][]Source{{SourceSystem}, {SourceCall}, {SourceSupervisor, SourceManual}, {SourceCalendar}, {SourceApp}, {SourceLoginDefault}}
}

// DefaultViews is what each audience sees under a policy that does not say.
func DefaultViews() map[Audience][]string {
	all := slices.DeleteFunc(slices.Clone(viewFields), func(field string) bool { return field == fieldNameDevices })
	return map[Audience][]string{
		AudienceSelf:       all,
		AudienceSupervisor: all,
		AudienceAdmin:      all,
		AudienceTeam:       {"since", "reason", "text"},
		AudienceVisitor:    {},
		AudienceRouter:     {"since", "routable", "work", "threads"},
	}
}

// DefaultPolicy is the policy in force when none is named: available, away,
// busy and offline; idle after five minutes, on available only; choices are
// kept over logins; a closed tab is given five seconds and a lost connection
// fifteen before it counts as gone.
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
		Login:        LoginRule{Mode: "keep"},
		Heartbeat:    25 * time.Second,
		Lease:        60 * time.Second,
		StartupGrace: 30 * time.Second,
		Grace:        Grace{Close: 5 * time.Second, Loss: 15 * time.Second, Node: 15 * time.Second, Drain: 60 * time.Second},
		Idle:         []IdleStage{{After: 5 * time.Minute, To: "away", On: []string{"available"}}},
		Group:        GroupRule{Available: "available", Away: "away", Busy: "away", DND: "away"},
		Widget:       WidgetRule{List: "all"},
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

// Set changes one value, named by its path of JSON keys: "grace.close",
// "statuses.busy.color". A step through a list may be an index or an id;
// without one, every element is set ("idle.after"). Lists are given separated
// by commas, and "none" empties one ("idle"). On an error p is unchanged.
func (p *Policy) Set(path, value string) error {
	if err := conf.Set(p, path, value); err != nil {
		return fmt.Errorf("presence: policy: %w", err)
	}
	return nil
}

// AddStatus adds a status, such as another reason for a break, or changes the one
// of the same id.
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

// RemoveStatus removes a status. Claims to it stay and stand for the fallback, or
// without one for the first status of its class that is not available.
func (p *Policy) RemoveStatus(id, fallback string) error {
	i := slices.IndexFunc(p.Statuses, func(o Status) bool { return o.ID == id })
	if i < 0 {
		return fmt.Errorf("presence: %w status %q: the policy has none of that id to remove", ErrUnknown, id)
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

// ParsePolicy reads a policy from JSON. Where the document says "extends",
// base supplies the policy of that name as the starting point; otherwise a
// document starts from nothing: no status, and graces of zero. All faults in the
// form are reported together, and where there are none, all faults in the
// meaning. The warnings name keys that a newer minor version of the format brought.
func ParsePolicy(data []byte, base func(name string) (Policy, bool)) (p Policy, warnings []string, err error) {
	var head struct {
		Version float64 `json:"version"`
		Extends string  `json:"extends"`
	}
	if _, err := conf.Decode(data, &head); err != nil {
		return p, nil, fmt.Errorf("presence: policy: %w", err)
	}
	if head.Version < PolicyVersion || head.Version >= PolicyVersion+1 {
		return p, nil, fmt.Errorf("presence: policy: version: %v is not supported, this package reads version %d", head.Version, PolicyVersion)
	}
	if head.Extends != "" {
		found := false
		if base != nil {
			p, found = base(head.Extends)
		}
		if !found {
			return p, nil, fmt.Errorf("presence: policy: extends: there is no policy %q", head.Extends)
		}
	}
	unknown, err := conf.Decode(data, &p)
	if head.Version == PolicyVersion {
		for _, key := range unknown {
			err = errors.Join(err, fmt.Errorf("%s: unknown key, allowed: %s", key.Path, strings.Join(key.Allowed, ", ")))
		}
	}
	if err != nil {
		return Policy{}, nil, fmt.Errorf("presence: policy: %w", err)
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

// WorkRule is what a policy says about work.
type WorkRule struct {
	// Capacity is how much work of one work channel a subject takes where
	// nothing else is reported; 0 means any amount.
	Capacity int `json:"capacity,omitzero"`
	// Challenge is how long the question "still there?" waits for its answer; 0
	// means 60s. KickedOut is the status of those who do not answer; empty means
	// the first of class away.
	Challenge time.Duration `json:"challenge,omitzero"`
	KickedOut string        `json:"kickedOut,omitzero"`
	// SelfReady lets those who were kicked out end that by choosing an available
	// status; otherwise only a supervisor can.
	SelfReady bool `json:"selfReady,omitzero"`
	// SupervisorDrain is "drain" (the default) or "requeue": whether one whom a
	// supervisor sends on a break finishes the present work first, or has it
	// taken away at once.
	SupervisorDrain string `json:"supervisorDrain,omitzero"`
	// RequeueAfter is how long after the last connection is gone its subject's
	// work goes to others; 0 means never.
	RequeueAfter time.Duration `json:"requeueAfter,omitzero"`
	// Settle is how long a connection must be there, after it was lost, before
	// its subject is given new work again.
	Settle time.Duration `json:"settle,omitzero"`
	// RequestFor is how long requests stay open; 0 means until they are closed.
	// WithdrawOn is "logout" (the default), "closed" or "never": which way of
	// leaving closes them. Losing the connection never does.
	RequestFor time.Duration `json:"requestFor,omitzero"`
	WithdrawOn string        `json:"withdrawOn,omitzero"`
	// Order is how those who may get a piece of work are put in order, after
	// their availability: "least-loaded" (the default), "longest-idle" or
	// "round-robin".
	Order string `json:"order,omitzero"`
	// Affinity is how long a client whose work has ended still belongs to the
	// subject that did it, if that receives sticky work; 0 means not at all.
	Affinity time.Duration `json:"affinity,omitzero"`
}

// How those who may get a piece of work are put in order; see WorkRule.Order.
const (
	OrderLeastLoaded = "least-loaded"
	OrderLongestIdle = "longest-idle"
	OrderRoundRobin  = "round-robin"
)
