package presence

import (
	"cmp"
	"slices"
)

// isLeaving reports whether a cause says that the subject cannot be reached.
func (c Cause) isLeaving() bool {
	switch c {
	case CauseLogout, CauseClosed, CauseLost, CauseNode, CauseDrain:
		return true
	}
	return false
}

// seen notes for each audience that can be hidden from whether it now sees the
// subject come or leave. The instants are those at which that becomes visible,
// so that a leave that was delayed by a grace and one that hides look alike. For
// an audience that a policy no longer hides from, what was noted holds until it
// next sees the subject leave: when that was really heard from meanwhile stays
// untold.
func (m *Machine) seen(prev, next *Presence, now Instant) []seen {
	list, own := prev.seen, false
	change := func() {
		if !own {
			list, own = slices.Clone(list), true
		}
	}
	left := next.Cause.isLeaving() || next.Disabled
	for _, a := range m.hideable {
		hidden := slices.Contains(next.HiddenFrom, a)
		noted := seen{Audience: a, Left: hidden || left, Since: next.Since}
		i := slices.IndexFunc(list, func(s seen) bool { return s.Audience == a })
		switch {
		case i >= 0 && list[i].Left == noted.Left:
			continue
		case i >= 0 || hidden && prev.Known && !prev.Cause.isLeaving():
			noted.Since = now
			if noted.Left {
				noted.LastSeen = now
			}
		case noted.Left:
			noted.LastSeen = next.LastSeen
		}
		change()
		if i >= 0 {
			list[i] = noted
		} else {
			list = append(list, noted)
		}
	}
	for i := 0; i < len(list); i++ {
		old := list[i]
		if old.Left == left || slices.Contains(m.hideable, old.Audience) {
			continue
		}
		change()
		if left {
			list = slices.Delete(list, i, i+1)
			i--
		} else {
			list[i] = seen{Audience: old.Audience, Since: now}
		}
	}
	if len(list) == 0 {
		return nil
	}
	return list
}

// Cause is why something holds or happened. A status's cause is one of the
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

// Reach is how a subject can be reached, whatever its status shows.
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
	Kind    SubjectKind
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
	Load     Count  // pieces of work; absent where none is reported
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
	seen       []seen

	// absent is the status shown of one who left, where an endpoint makes it
	// another than the policy's disconnected one.
	absent string
}

// seen is what one audience that may be hidden from was last shown: that the
// subject is there, or that it left, and since when.
type seen struct {
	Audience Audience `json:"audience"`
	Left     bool     `json:"left"`
	Since    Instant  `json:"since"`
	LastSeen Instant  `json:"lastSeen,omitzero"`
}

// reach returns how a subject can be reached.
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

func (m *Machine) counts(c *ConnState) bool {
	return len(m.policy.Devices) == 0 || !m.policy.Devices[c.Device].IgnoreInput
}

// lastInput is the youngest input over the connections that count, or what was
// stored when the last of them left.
func (m *Machine) lastInput(s *State) Instant {
	var last Instant
	counted := false
	for i := range s.Conns {
		if c := &s.Conns[i]; m.counts(c) {
			last = max(last, c.Input, c.ActedAt)
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
	return m.rank[SourceLoginDefault]
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
		status, set, issue := m.byDefault, Instant(0), uint64(0) // connecting is no choice that could overrule one
		if vote != nil {
			status, set, issue = m.resolved(vote), vote.SetAt, vote.Serial
		}
		switch {
		case won == nil || status.fold < won.fold:
			won, winner, at, serial = status, vote, set, issue
		case status == won && (set > at || set == at && issue > serial):
			winner, at, serial = vote, set, issue
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
	if rule, ok := m.endpointRule(s); ok && rule.Show != ShowTop {
		return m.status(rule.Show)
	}
	return nil
}

// derive fills in a zero presence with what holds at s.Now, with the idle stages
// reached by then or a little earlier. It returns the instant from which the status
// logically holds, given that of what happened.
func (m *Machine) derive(p *Presence, s *State, logical, idle Instant) (since Instant) {
	p.Subject, p.Kind, p.Known, p.LastLogin, p.seen = s.Subject, s.Kind, true, s.LoggedIn, s.Current.seen
	p.Reach, p.Routing, p.Revision = m.reach(s), RouteNone, s.Current.Revision
	if p.Kind == "" {
		p.Kind = KindHuman
	}
	if len(s.Conns) == 0 {
		p.LastSeen = s.LeftAt
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
		mask(gone, cmp.Or(s.LeftCause, CauseLogout))
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
// or the system claims above a person's choice must not betray one who chose to
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
		if reached := last.Add(st.after); reached <= now {
			to, at = st.to, reached
		}
	}
	return to, at
}

// idleFrom is the instant from which idleness counts. A bot without a
// connection that counts is never idle.
func (m *Machine) idleFrom(s *State) (Instant, bool) {
	if s.Kind == KindBot || s.Kind == KindService {
		if !slices.ContainsFunc(s.Conns, func(c ConnState) bool { return m.counts(&c) }) {
			return 0, false
		}
	}
	last := m.lastInput(s)
	return last, last != 0
}

// settle derives the presence again and reports what changed. The status's since is
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
		next.Since = max(since, prev.Since, s.ChangedAt, st.ended)
	}
	next.seen = m.seen(prev, &next, s.Now)
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
			o.ID = eventID('e', s.Serial, s.Now)
		}
	}
	s.Current = next
}

func samePresence(a, b *Presence) bool {
	return a.Known == b.Known && a.Kind == b.Kind && a.Status == b.Status && a.Class == b.Class && a.Reason == b.Reason && a.Text == b.Text &&
		a.SetAt == b.SetAt && a.Until == b.Until && a.Cause == b.Cause && a.Masked == b.Masked &&
		a.Reach == b.Reach && a.Routing == b.Routing && a.Revision == b.Revision && a.Label == b.Label &&
		a.Load == b.Load && a.Pinned == b.Pinned && a.Pending == b.Pending && a.Request == b.Request && a.Disabled == b.Disabled && a.Devices == b.Devices &&
		a.absent == b.absent && a.LastSeen == b.LastSeen && a.LastLogin == b.LastLogin &&
		slices.Equal(a.HiddenFrom, b.HiddenFrom) && slices.Equal(a.seen, b.seen)
}
