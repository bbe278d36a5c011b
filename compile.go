package presence

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"
)

// Machine is a compiled policy. It is immutable and safe for concurrent use. The
// result of a method depends only on its arguments and the policy.
type Machine struct {
	policy       Policy
	statuses     []definition // policy order
	byDefault    *definition
	disconnected *definition
	kickedOut    *definition
	firstIdle    time.Duration // the shortest time without input after which a status is masked
	rank         map[Source]int
	manual       int // the rank of SourceManual
	activity     map[string]bool
	proof        map[Source]bool
	hideable     []Audience
	views        map[Audience]fieldSet
	ceilings     map[string]*definition // by device
	devices      bool                   // a view shows the number of connections
	workChannels []string               // that routing rules of statuses name, in order
	heartbeat    time.Duration
	lease        time.Duration
	startup      time.Duration
	gateHere     time.Duration
}

// A definition is a status with what the rest of the policy rules for it.
type definition struct {
	Status
	omits  fieldSet
	order  int     // from the most available status
	fold   int     // in which order it wins among claims of connections
	stages []stage // the idle stages that mask it, the earliest first
}

// A stage is an IdleStage with its status looked up.
type stage struct {
	after    time.Duration
	to       *definition
	unchosen bool // it masks no choice
}

// Policy returns a copy of the policy that m was compiled from.
func (m *Machine) Policy() Policy { return m.policy.Clone() }

// Compile validates p and prepares it for use. It reports every fault of the
// policy as an [*Error] whose Given is the path, joined into one error.
func Compile(p Policy) (*Machine, error) {
	c := compiler{p: p.Clone()}
	m := c.compile()
	if err := errors.Join(c.faults...); err != nil {
		return nil, err
	}
	return m, nil
}

type compiler struct {
	p      Policy
	faults []error
}

func (c *compiler) fault(path, format string, args ...any) *Error {
	f := refuse(ErrInvalid, "policy", path, format, args...)
	c.faults = append(c.faults, f)
	return f
}

// oneOf checks a word against the allowed ones. An empty word means the first of
// them.
func (c *compiler) oneOf(path, given string, allowed ...string) string {
	if given == "" {
		return allowed[0]
	}
	if !slices.Contains(allowed, given) {
		c.fault(path, "%q is not allowed", given).allow(allowed...)
	}
	return given
}

// notNegative checks a duration.
func (c *compiler) notNegative(path string, d time.Duration) {
	if d < 0 {
		c.fault(path, "must not be negative, got %v", d)
	}
}

// duration checks a duration, and sets its default for 0.
func (c *compiler) duration(path string, d *time.Duration, byDefault time.Duration) time.Duration {
	c.notNegative(path, *d)
	*d = cmp.Or(*d, byDefault)
	return *d
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
			def.fold = i - len(p.Fold) // before the statuses left out
		}
	}
	c.words(m)
	m.heartbeat = c.duration("heartbeat", &p.Heartbeat, 25*time.Second)
	m.lease = c.duration("lease", &p.Lease, 60*time.Second)
	m.startup = c.duration("startupGrace", &p.StartupGrace, 30*time.Second)
	if m.lease <= m.heartbeat {
		c.fault("lease", "%v must be longer than the heartbeat of %v", m.lease, m.heartbeat)
	}
	c.notNegative("publish", p.CoalesceSubject)
	c.notNegative("batch", p.CoalesceChannel)
	c.grace("grace", &p.Grace)
	for _, name := range sortedKeys(p.Devices) {
		rule := p.Devices[name]
		c.grace("devices."+name+".grace", &rule.Grace)
		p.Devices[name] = rule
		c.ceiling(m, name, rule.Ceiling)
	}
	c.idle(m)
	c.virtual(m)
	c.work(m)

	c.views(m)
	c.gate(m)
	m.policy = *p
	return m
}

// words checks the settings that are words, and sets their defaults.
func (c *compiler) words(m *Machine) {
	p := &c.p
	p.ClaimScope = c.oneOf("claimScope", p.ClaimScope, scopeSubject, ScopeConnection)
	p.LogoutScope = c.oneOf("logoutScope", p.LogoutScope, scopeSession, ScopeAccount)
	p.SupervisorWhenOffline = c.oneOf("supervisorWhenOffline", p.SupervisorWhenOffline, offlineMask, OfflineRefuse)
	p.Login.Mode = c.oneOf("login.mode", p.Login.Mode, loginKeep, LoginReset)
	if p.Login.Mode == LoginReset {
		c.status(m, "login.status", p.Login.Status, nil)
	} else if p.Login.Status != "" {
		c.fault("login.status", "%q is set, but login.mode is not reset: set login.mode to reset, or login.status to nothing", p.Login.Status)
	}
	p.ScheduleOpenEmpty = c.oneOf("scheduleOpenEmpty", p.ScheduleOpenEmpty, emptyOffline, EmptyVisible)
	p.Widget.List = c.oneOf("widget.list", p.Widget.List, listAll, ListOnline, ListNone)
	m.activity = make(map[string]bool)
	if len(p.Activity) == 0 {
		p.Activity = []string{ActivityInput, ActivityLogin, ActivityClaim}
	}
	for i, input := range p.Activity {
		path := fmt.Sprintf("activity[%d]", i)
		m.activity[c.oneOf(path, input, ActivityInput, ActivityLogin, ActivityClaim, ActivityFocus, ActivityShow)] = true
	}
	group := &p.Group
	group.Available = c.oneOf("group.available", group.Available, GroupAvailable, GroupAway, GroupOffline)
	for _, class := range []struct {
		path   string
		status *string
	}{{"away", &group.Away}, {"busy", &group.Busy}, {"dnd", &group.DND}} {
		*class.status = c.oneOf("group."+class.path, *class.status, GroupAway, GroupAvailable, GroupOffline)
	}
}

// gate checks the rules about notifications.
func (c *compiler) gate(m *Machine) {
	c.notNegative("gateHere", c.p.GateHere)
	m.gateHere = cmp.Or(c.p.GateHere, time.Minute)
	for _, kind := range sortedKeys(c.p.Gate) {
		verdicts := c.p.Gate[kind]
		for _, col := range gateColumns {
			verdict := verdicts.column(col)
			*verdict = Verdict(c.oneOf("gate."+kind+"."+col, string(*verdict), string(Deliver), string(Skip), string(Defer)))
		}
		c.p.Gate[kind] = verdicts
	}
}

var routings = []string{string(RouteAll), string(RouteLast), string(RouteSticky), string(RouteTransfer), string(RouteNone)}

func (c *compiler) statuses(m *Machine) {
	p := &c.p
	if len(p.Statuses) > MaxStatuses {
		c.fault("statuses", "%d are defined, at most %d are allowed", len(p.Statuses), MaxStatuses)
	}
	if len(p.Statuses) == 0 {
		c.fault("statuses", "a policy needs at least one status")
	}
	defined := make(map[string]bool)
	for i := range p.Statuses {
		s := &p.Statuses[i]
		path := fmt.Sprintf("statuses[%d]", i)
		if fault := idFault(s.ID); fault != "" {
			c.fault(path+".id", "%s", fault)
		} else {
			path = "statuses." + s.ID
		}
		if defined[s.ID] {
			c.fault(path, "is defined twice")
		}
		if s.ID == StatusUnknown || s.ID == StatusDisabled {
			c.fault(path, "the id is reserved")
		}
		defined[s.ID] = true
		if !slices.Contains(classes, s.Class) {
			c.fault(path+".class", "%q is not a class", s.Class).allow(wordsOf(classes)...)
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
		c.routing(m, path, s)
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
		c.notNegative(path+".for", s.For)
		c.notNegative(path+".keeps", s.Keeps)
	}
	for i, s := range p.Statuses {
		order := i + len(p.Statuses)*slices.Index(classes, s.Class)
		m.statuses = append(m.statuses, definition{Status: s, omits: c.fields("statuses."+s.ID+".omits", s.Omits), order: order, fold: i})
	}
}

// routing checks the routing rules of a status, and notes the work channels that they
// name.
func (c *compiler) routing(m *Machine, path string, s *Status) {
	c.oneOf(path+".routing", string(s.Routing), routings...)
	for _, on := range sortedKeys(s.RoutingOn) {
		c.oneOf(path+".routingOn."+on, string(s.RoutingOn[on]), routings...)
		if idFault(on) == "" { // no work has another name
			m.workChannels = NewWorkChannels(append(m.workChannels, on)...).List()
		}
	}
}

func (c *compiler) audiences(path string, list []Audience) {
	for i, a := range list {
		if a == AudienceSelf || !slices.Contains(audiences, a) {
			c.fault(fmt.Sprintf("%s[%d]", path, i), "%q is not allowed", a).allow(wordsOf(audiences[1:])...)
		}
	}
}

// status looks up an id. An empty id means the first status that fits.
func (c *compiler) status(m *Machine, path, id string, fits func(Status) bool) *definition {
	if id == "" && fits != nil {
		if i := slices.IndexFunc(m.statuses, func(d definition) bool { return fits(d.Status) }); i >= 0 {
			return &m.statuses[i]
		}
		if len(m.statuses) > 0 {
			c.fault(path, "is empty, and no status can be the default")
		}
		return nil
	}
	if s := m.status(id); s != nil {
		return s
	}
	if len(m.statuses) > 0 {
		c.fault(path, "%q is not a status of this policy", id).allow(m.statusIDs(nil)...)
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
			if fault := idFault(string(source)); fault != "" {
				c.fault(fmt.Sprintf("sources[%d]", i), "%s", fault)
			}
			if _, twice := m.rank[source]; twice {
				c.fault(fmt.Sprintf("sources[%d]", i), "%q is ranked twice", source)
			}
			m.rank[source] = i
		}
	}
	for _, needed := range []Source{SourceSystem, SourceSupervisor, SourceManual, SourceLoginDefault} {
		if _, ok := m.rank[needed]; !ok {
			c.fault("sources", "%q must be ranked", needed)
		}
	}
	m.manual = m.rank[SourceManual]
	m.proof = make(map[Source]bool)
	for i, source := range p.DisconnectProof {
		if _, ok := m.rank[source]; !ok {
			c.fault(fmt.Sprintf("disconnectProof[%d]", i), "%q is not a source of this policy", source).allow(p.sourceNames()...)
		}
		m.proof[source] = true
	}
	for _, source := range sortedKeys(p.SourceFor) {
		path := "sourceFor." + string(source)
		if _, ok := m.rank[source]; !ok {
			c.fault(path, "%q is not a source of this policy", source).allow(p.sourceNames()...)
		}
		if d := p.SourceFor[source]; d <= 0 {
			c.fault(path, "must be positive, got %v", d)
		}
	}
}

func (c *compiler) grace(path string, g *Grace) {
	for _, d := range []struct {
		key string
		d   time.Duration
	}{{"logout", g.Logout}, {"close", g.Close}, {"loss", g.Loss}, {"node", g.Node}, {"drain", g.Drain}} {
		c.notNegative(path+"."+d.key, d.d)
	}
	g.LossFrom = c.oneOf(path+".lossFrom", g.LossFrom, lossFromReport, LossFromLease)
}

// ceiling looks up the status that a device shows at most.
func (c *compiler) ceiling(m *Machine, device, id string) {
	if id == "" {
		return
	}
	path := "devices." + device + ".ceiling"
	def := c.status(m, path, id, nil)
	if def == nil {
		return
	}
	if def.Class == ClassAvailable {
		c.fault(path, "%q is of class available, which a ceiling replaces", id).allow(m.statusIDs(func(s Status) bool { return s.Class != ClassAvailable })...)
	}
	if m.ceilings == nil {
		m.ceilings = make(map[string]*definition)
	}
	m.ceilings[device] = def
}

func (c *compiler) idle(m *Machine) {
	m.firstIdle = math.MaxInt64
	for i, rule := range c.p.Idle {
		path := fmt.Sprintf("idle[%d]", i)
		if rule.After <= 0 {
			c.fault(path+".after", "must be positive, got %v", rule.After)
		}
		to := c.status(m, path+".to", rule.To, nil)
		of := c.oneOf(path+".of", rule.Of, ofAny, OfUnchosen)
		if len(rule.On) == 0 {
			c.fault(path+".on", "lists no status to mask")
		}
		for j, id := range rule.On {
			on := c.status(m, fmt.Sprintf("%s.on[%d]", path, j), id, nil)
			if on == nil || to == nil {
				continue
			}
			if to.order <= on.order {
				c.fault(fmt.Sprintf("%s.on[%d]", path, j), "%q must be more available than %q, since an idle stage only lowers availability", id, rule.To)
			}
			m.firstIdle = min(m.firstIdle, rule.After)
			on.stages = append(on.stages, stage{rule.After, to, of == OfUnchosen})
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
		if rule.Show != showIgnore && rule.Show != ShowTop {
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
			c.fault("views", "%q is not an audience", a).allow(wordsOf(audiences)...)
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
	for _, a := range m.hideable {
		if m.disconnected != nil && m.absent(&Presence{}, a) == nil {
			c.fault("disconnected", "%q is hidden from the audience %q, and so is every status of class offline: leave one in which it sees that a subject left", m.disconnected.ID, a)
		}
	}
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

// fields looks up the names of fields of views.
func (c *compiler) fields(path string, names []string) (set fieldSet) {
	for i, name := range names {
		at := slices.Index(viewFields, name)
		if at < 0 {
			c.fault(fmt.Sprintf("%s[%d]", path, i), "%q is not a field of views", name).allow(viewFields...)
			continue
		}
		set |= 1 << at
	}
	return set
}

// status returns the definition of a status, or nil if the policy has none.
func (m *Machine) status(id string) *definition {
	for i := range m.statuses {
		if m.statuses[i].ID == id {
			return &m.statuses[i]
		}
	}
	return nil
}

// Status returns the definition of a status, or false if the policy has none.
func (m *Machine) Status(id string) (Status, bool) {
	if def := m.status(id); def != nil {
		return def.Status, true
	}
	return Status{}, false
}

// StatusOrder returns the place of a status from the most to the least available:
// by class, then by the order of the policy. A status that the policy does not have
// is last.
func (m *Machine) StatusOrder(id string) int {
	if def := m.status(id); def != nil {
		return def.order
	}
	return len(classes) * len(m.statuses)
}

// Selectable lists the statuses that by may select: BySelf, BySupervisor or
// BySystem. They are in the order of the policy.
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

// sourceNames returns the sources, the highest rank first.
func (p *Policy) sourceNames() []string { return wordsOf(slices.Concat(p.Sources...)) }

func (c *compiler) work(m *Machine) {
	w := &c.p.Work
	if w.Capacity < 0 || w.Capacity > maxLoad {
		c.fault("work.capacity", "%d is not from 0 to %d", w.Capacity, maxLoad)
	}
	if w.Total < 0 || w.Total > maxLoad {
		c.fault("work.total", "%d is not from 0 to %d", w.Total, maxLoad)
	}
	c.duration("work.challenge", &w.Challenge, time.Minute)
	c.notNegative("work.requeueAfter", w.RequeueAfter)
	c.notNegative("work.settle", w.Settle)
	c.notNegative("work.wrapUp", w.WrapUp)
	c.notNegative("work.requestFor", w.RequestFor)
	c.notNegative("work.affinity", w.Affinity)
	c.notNegative("work.acceptWithin", w.AcceptWithin)
	w.SupervisorDrain = c.oneOf("work.supervisorDrain", w.SupervisorDrain, drainFirst, DrainRequeue)
	w.WithdrawOn = c.oneOf("work.withdrawOn", w.WithdrawOn, withdrawLogout, WithdrawClosed, WithdrawNever)
	w.Returns = c.oneOf("work.returns", w.Returns, returnsOver, ReturnsCapacity)
	w.Order = c.oneOf("work.order", w.Order, OrderLeastLoaded, OrderLongestIdle, OrderRoundRobin)
	m.kickedOut = m.disconnected
	if w.KickedOut != "" {
		m.kickedOut = c.status(m, "work.kickedOut", w.KickedOut, nil)
	} else if i := slices.IndexFunc(m.statuses, func(d definition) bool { return d.Class == ClassAway }); i >= 0 {
		m.kickedOut = &m.statuses[i]
	}
	for _, id := range sortedKeys(c.p.Retired) {
		path := "retired." + id
		if m.status(id) != nil {
			c.fault(path, "is still a status of this policy")
		}
		c.status(m, path, c.p.Retired[id], nil)
	}
}
