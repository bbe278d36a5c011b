package presence

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"math"
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
	// Publish is the shortest time between two changes of one subject on one
	// stream; the newest state is never lost. 0 sends every change at once.
	Publish time.Duration `json:"publish,omitzero"`
	// Batch is the shortest time between two diffs of one channel to one audience:
	// what changes in between goes out in one, in its newest state. With many
	// members it saves what storms cost, such as a deploy after which all come
	// back at once. 0 sends every change in a diff of its own.
	Batch time.Duration `json:"batch,omitzero"`
}

// DefaultSources is the order of sources of a policy that gives none.
func DefaultSources() [][]Source {
	return [][]Source{{SourceSystem}, {SourceCall}, {SourceSupervisor, SourceManual}, {SourceCalendar}, {SourceApp}, {SourceLogin}}
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

// Define adds a status, such as another reason for a break, or changes the one
// of the same id.
func (p *Policy) Define(s Status) {
	p.Retired = maps.Clone(p.Retired)
	delete(p.Retired, s.ID)
	p.Statuses = slices.Clone(p.Statuses)
	if i := slices.IndexFunc(p.Statuses, func(o Status) bool { return o.ID == s.ID }); i >= 0 {
		p.Statuses[i] = s
		return
	}
	p.Statuses = append(p.Statuses, s)
}

// Undefine removes a status. Claims to it stay and stand for the fallback, or
// without one for the first status of its class that is not available.
func (p *Policy) Undefine(id, fallback string) error {
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

// Machine is a policy, validated and compiled. It is immutable and safe for
// concurrent use; all its methods are pure functions of their arguments.
type Machine struct {
	policy       Policy
	statuses     []definition // policy order
	byDefault    *definition
	disconnected *definition
	kickedOut    *definition
	firstIdle    time.Duration // the shortest time without input after which any status is masked
	rank         map[Source]int
	manual       int // the rank of manual
	activity     map[string]bool
	proof        map[Source]bool
	hideable     []Audience
	views        map[Audience]fieldSet
	devices      bool // some audience is shown how many there are
	heartbeat    time.Duration
	lease        time.Duration
	startup      time.Duration
}

// A definition is a status with what the rest of the policy says about it.
type definition struct {
	Status
	omits  fieldSet
	order  int     // its place in the availability order, the most available first
	fold   int     // its place when connections claim different statuses
	stages []stage // what masks it when idle, in the order of after
}

// A stage is an IdleStage with its target looked up.
type stage struct {
	after time.Duration
	to    *definition
}

// Policy returns a copy of the policy that m was compiled from.
func (m *Machine) Policy() Policy { return m.policy.Clone() }

// Compile validates p and prepares it for use. It reports every fault of the
// policy, joined into one error.
func Compile(p Policy) (*Machine, error) {
	c := compiler{p: p.Clone()}
	m := c.compile()
	if err := errors.Join(c.faults...); err != nil {
		return nil, fmt.Errorf("presence: policy %q: %w", p.Name, err)
	}
	return m, nil
}

type compiler struct {
	p      Policy
	faults []error
}

func (c *compiler) fault(path, format string, args ...any) {
	c.faults = append(c.faults, fmt.Errorf(path+": "+format, args...))
}

// oneOf checks a word against the words allowed; the empty word stands for the
// first of them.
func (c *compiler) oneOf(path, word string, allowed ...string) string {
	if word == "" {
		return allowed[0]
	}
	if !slices.Contains(allowed, word) {
		c.fault(path, "%q is not one of %s", word, strings.Join(allowed, ", "))
	}
	return word
}

// positive checks a duration that must not be negative and fills in its default.
func (c *compiler) positive(path string, d, byDefault time.Duration) time.Duration {
	if d < 0 {
		c.fault(path, "must not be negative, got %v", d)
	}
	if d == 0 {
		return byDefault
	}
	return d
}

func (c *compiler) compile() *Machine {
	p := &c.p
	m := &Machine{}
	if p.Version != 0 && p.Version != PolicyVersion {
		c.fault("version", "%v is not supported, this package reads version %d", p.Version, PolicyVersion)
	}
	c.statuses(m)
	m.byDefault = c.status(m, "default", p.Default, func(Status) bool { return true })
	m.disconnected = c.status(m, "disconnected", p.Disconnected, func(s Status) bool { return s.Class == ClassOffline })
	c.sources(m)
	for i, id := range p.Fold {
		if def := c.status(m, fmt.Sprintf("fold[%d]", i), id, nil); def != nil {
			def.fold = i - len(p.Fold) // before those left out
		}
	}
	p.ClaimScope = c.oneOf("claimScope", p.ClaimScope, "subject", "connection")
	p.LogoutScope = c.oneOf("logoutScope", p.LogoutScope, "session", "account")
	p.SupervisorWhenOffline = c.oneOf("supervisorWhenOffline", p.SupervisorWhenOffline, "mask", "refuse")
	p.Login.Mode = c.oneOf("login.mode", p.Login.Mode, "keep", "reset")
	if p.Login.Mode == "reset" {
		c.status(m, "login.status", p.Login.Status, nil)
	} else if p.Login.Status != "" {
		c.fault("login.status", "is only used with login.mode reset")
	}

	m.heartbeat = c.positive("heartbeat", p.Heartbeat, 25*time.Second)
	m.lease = c.positive("lease", p.Lease, 60*time.Second)
	m.startup = c.positive("startupGrace", p.StartupGrace, 30*time.Second)
	p.Heartbeat, p.Lease, p.StartupGrace = m.heartbeat, m.lease, m.startup
	if m.lease <= m.heartbeat {
		c.fault("lease", "%v must be longer than the heartbeat of %v", m.lease, m.heartbeat)
	}
	c.positive("publish", p.Publish, 0)
	c.positive("batch", p.Batch, 0)
	c.grace("grace", &p.Grace)
	for _, name := range sortedKeys(p.Devices) {
		rule := p.Devices[name]
		c.grace("devices."+name+".grace", &rule.Grace)
		p.Devices[name] = rule
	}
	c.idle(m)
	c.virtual(m)
	c.work(m)

	m.activity = make(map[string]bool)
	if len(p.Activity) == 0 {
		p.Activity = []string{"input", "login", "claim"}
	}
	for i, word := range p.Activity {
		m.activity[c.oneOf(fmt.Sprintf("activity[%d]", i), word, "input", "login", "claim", "focus", "show")] = true
	}
	for _, rung := range []struct {
		path string
		word *string
	}{{"available", &p.Group.Available}, {"away", &p.Group.Away}, {"busy", &p.Group.Busy}, {"dnd", &p.Group.DND}} {
		byDefault := "away"
		if rung.path == "available" {
			byDefault = "available"
		}
		if *rung.word == "" {
			*rung.word = byDefault
		}
		*rung.word = c.oneOf("group."+rung.path, *rung.word, "available", "away", "offline")
	}
	p.ScheduleOpenEmpty = c.oneOf("scheduleOpenEmpty", p.ScheduleOpenEmpty, "offline", "visible")
	p.Widget.List = c.oneOf("widget.list", p.Widget.List, "all", "online", "none")
	c.views(m)
	for _, kind := range sortedKeys(p.Gate) {
		row := p.Gate[kind]
		for _, col := range gateColumns {
			verdict := row.column(col)
			*verdict = Verdict(c.oneOf("gate."+kind+"."+col, string(*verdict), string(Deliver), string(Skip), string(Defer)))
		}
		p.Gate[kind] = row
	}
	m.policy = *p
	return m
}

var routings = []string{string(RouteAll), string(RouteLast), string(RouteSticky), string(RouteTransfer), string(RouteNone)}

func (c *compiler) statuses(m *Machine) {
	p := &c.p
	if len(p.Statuses) > MaxStatuses {
		c.fault("statuses", "there are %d, at most %d are allowed", len(p.Statuses), MaxStatuses)
	}
	if len(p.Statuses) == 0 {
		c.fault("statuses", "a policy needs at least one status")
	}
	seen := make(map[string]bool)
	for i := range p.Statuses {
		s := &p.Statuses[i]
		path := fmt.Sprintf("statuses[%d]", i)
		if err := checkID(s.ID); err != nil {
			c.fault(path+".id", "%w", err)
		} else {
			path = "statuses." + s.ID
		}
		if seen[s.ID] {
			c.fault(path, "is defined twice")
		}
		if s.ID == StatusUnknown || s.ID == StatusDisabled {
			c.fault(path, "the id is reserved")
		}
		seen[s.ID] = true
		if !slices.Contains(classes, s.Class) {
			c.fault(path+".class", "%q is not one of %s", s.Class, join(classes))
		}
		if s.Label == "" {
			s.Label = s.ID
		}
		if s.Routing == "" {
			s.Routing = RouteNone
			if s.Class == ClassAvailable {
				s.Routing = RouteAll
			}
		}
		c.oneOf(path+".routing", string(s.Routing), routings...)
		for _, on := range sortedKeys(s.RoutingOn) {
			c.oneOf(path+".routingOn."+on, string(s.RoutingOn[on]), routings...)
		}
		if len(s.SelectableBy) == 0 {
			s.SelectableBy = []string{BySelf, BySupervisor, BySystem}
		}
		for j, who := range s.SelectableBy {
			c.oneOf(fmt.Sprintf("%s.selectableBy[%d]", path, j), who, BySelf, BySupervisor, BySystem, ByNobody)
		}
		if slices.Contains(s.SelectableBy, ByNobody) && len(s.SelectableBy) > 1 {
			c.fault(path+".selectableBy", "%q excludes every other entry", ByNobody)
		}
		c.audiences(path+".hiddenFrom", s.HiddenFrom)
		c.positive(path+".for", s.For, 0)
	}
	for i, s := range p.Statuses {
		order := i + len(p.Statuses)*slices.Index(classes, s.Class)
		m.statuses = append(m.statuses, definition{Status: s, omits: c.fields("statuses."+s.ID+".omits", s.Omits), order: order, fold: i})
	}
}

func (c *compiler) audiences(path string, list []Audience) {
	for i, a := range list {
		if a == AudienceSelf || !slices.Contains(audiences, a) {
			c.fault(fmt.Sprintf("%s[%d]", path, i), "%q is not one of %s", a, join(audiences[1:]))
		}
	}
}

// status looks up an id; an empty one means the first status that fits.
func (c *compiler) status(m *Machine, path, id string, fits func(Status) bool) *definition {
	if id == "" && fits != nil {
		if i := slices.IndexFunc(m.statuses, func(d definition) bool { return fits(d.Status) }); i >= 0 {
			return &m.statuses[i]
		}
		if len(m.statuses) > 0 {
			c.fault(path, "names no status, and none fits by itself")
		}
		return nil
	}
	if s := m.status(id); s != nil {
		return s
	}
	if len(m.statuses) > 0 {
		c.fault(path, "%q is not a status of this policy, which has %s", id, strings.Join(m.statusIDs(nil), ", "))
	}
	return nil
}

func (c *compiler) sources(m *Machine) {
	p := &c.p
	if len(p.Sources) == 0 {
		p.Sources = DefaultSources()
	}
	m.rank = make(map[Source]int)
	for i, group := range p.Sources {
		for _, source := range group {
			if err := checkID(string(source)); err != nil {
				c.fault(fmt.Sprintf("sources[%d]", i), "%w", err)
			}
			if _, twice := m.rank[source]; twice {
				c.fault(fmt.Sprintf("sources[%d]", i), "%q is ranked twice", source)
			}
			m.rank[source] = i
		}
	}
	for _, needed := range []Source{SourceSystem, SourceSupervisor, SourceManual, SourceLogin} {
		if _, ok := m.rank[needed]; !ok {
			c.fault("sources", "%q must be ranked", needed)
		}
	}
	m.manual = m.rank[SourceManual]
	m.proof = make(map[Source]bool)
	for i, source := range p.DisconnectProof {
		if _, ok := m.rank[source]; !ok {
			c.fault(fmt.Sprintf("disconnectProof[%d]", i), "%q is not one of the sources %s", source, join(m.sourceNames()))
		}
		m.proof[source] = true
	}
}

func (c *compiler) grace(path string, g *Grace) {
	for _, d := range []struct {
		key string
		d   time.Duration
	}{{"logout", g.Logout}, {"close", g.Close}, {"loss", g.Loss}, {"node", g.Node}, {"drain", g.Drain}} {
		c.positive(path+"."+d.key, d.d, 0)
	}
	g.LossFrom = c.oneOf(path+".lossFrom", g.LossFrom, "report", "lease")
}

func (c *compiler) idle(m *Machine) {
	m.firstIdle = math.MaxInt64
	for i, rule := range c.p.Idle {
		path := fmt.Sprintf("idle[%d]", i)
		if rule.After <= 0 {
			c.fault(path+".after", "must be positive, got %v", rule.After)
		}
		to := c.status(m, path+".to", rule.To, nil)
		if len(rule.On) == 0 {
			c.fault(path+".on", "lists no status to mask")
		}
		for j, id := range rule.On {
			on := c.status(m, fmt.Sprintf("%s.on[%d]", path, j), id, nil)
			if on == nil || to == nil {
				continue
			}
			if to.order <= on.order {
				c.fault(fmt.Sprintf("%s.on[%d]", path, j), "%q does not come before %q in availability; idleness only lowers it", id, rule.To)
				continue
			}
			m.firstIdle = min(m.firstIdle, rule.After)
			on.stages = append(on.stages, stage{after: rule.After, to: to})
		}
	}
	for _, def := range m.statuses {
		slices.SortStableFunc(def.stages, func(a, b stage) int { return cmp.Compare(a.after, b.after) })
	}
}

func (c *compiler) virtual(m *Machine) {
	for _, kind := range sortedKeys(c.p.Virtual) {
		path := "virtual." + kind
		c.oneOf(path, kind, string(EndpointPush), string(EndpointBot), string(EndpointService))
		rule := c.p.Virtual[kind]
		if rule.Show == "" {
			rule.Show = showIgnore
		}
		if rule.Show != showIgnore && rule.Show != showTop {
			c.status(m, path+".show", rule.Show, nil)
		}
		c.p.Virtual[kind] = rule
	}
}

func (c *compiler) views(m *Machine) {
	p := &c.p
	views := DefaultViews()
	for _, a := range sortedKeys(p.Views) {
		if !slices.Contains(audiences, a) {
			c.fault("views", "%q is not one of %s", a, join(audiences))
		}
		views[a] = p.Views[a]
	}
	m.views = make(map[Audience]fieldSet)
	for _, a := range sortedKeys(views) {
		m.views[a] = c.fields("views."+string(a), views[a])
	}
	c.audiences("hideable", p.Hideable)
	hideable := slices.Clone(p.Hideable)
	for _, s := range p.Statuses {
		hideable = append(hideable, s.HiddenFrom...)
	}
	slices.Sort(hideable)
	m.hideable = slices.Compact(hideable)
	for _, a := range sortedKeys(m.views) {
		if m.views[a]&fieldDevices == 0 {
			continue
		}
		m.devices = true
		if slices.Contains(m.hideable, a) {
			c.fault(fmt.Sprintf("views.%s", a), "%q is not for an audience that can be hidden from", fieldNameDevices)
		}
	}
}

// fields looks up names of fields of views.
func (c *compiler) fields(path string, names []string) (set fieldSet) {
	for i, name := range names {
		at := slices.Index(viewFields, name)
		if at < 0 {
			c.fault(fmt.Sprintf("%s[%d]", path, i), "%q is not one of %s", name, strings.Join(viewFields, ", "))
			continue
		}
		set |= 1 << at
	}
	return set
}

// status returns the definition of a status, or nil.
func (m *Machine) status(id string) *definition {
	for i := range m.statuses {
		if m.statuses[i].ID == id {
			return &m.statuses[i]
		}
	}
	return nil
}

// Status returns the definition of a status.
func (m *Machine) Status(id string) (Status, bool) {
	if def := m.status(id); def != nil {
		return def.Status, true
	}
	return Status{}, false
}

// Availability returns the place of a status from the most available to the
// least: by class, then by the order of the policy. What the policy does not
// have comes last.
func (m *Machine) Availability(id string) int {
	if def := m.status(id); def != nil {
		return def.order
	}
	return len(classes) * len(m.statuses)
}

// Selectable lists the statuses that someone (BySelf, BySupervisor, BySystem)
// may select, in the order of the policy.
func (m *Machine) Selectable(by string) []string {
	return m.statusIDs(func(s Status) bool { return slices.Contains(s.SelectableBy, by) })
}

func (m *Machine) statusIDs(keep func(Status) bool) []string {
	var ids []string
	for _, s := range m.statuses {
		if keep == nil || keep(s.Status) {
			ids = append(ids, s.ID)
		}
	}
	return ids
}

func (m *Machine) sourceNames() []Source {
	names := slices.Concat(m.policy.Sources...)
	if len(names) == 0 {
		names = sortedKeys(m.rank)
	}
	return names
}
