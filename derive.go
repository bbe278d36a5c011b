package presence

import (
	"cmp"
	"iter"
	"slices"
	"strconv"
	"strings"
)

// isLeaving reports whether a cause is a way of leaving.
func (c Cause) isLeaving() bool {
	switch c {
	case CauseLogout, CauseClosed, CauseLost, CauseNode, CauseDrain:
		return true
	}
	return false
}

// note records what each audience that can be hidden from is shown: the subject as
// present or as left, and since when. The instants are those at which the change
// becomes visible. So a leaving delayed by a grace and a hiding look alike.
//
// A policy that no longer hides exposes no subject: an audience from which a claim
// hid it still sees that it left, until an act decides otherwise. An audience that
// the policy cannot hide from needs no notes of subjects that never hid from it.
func (st *stepper) note(prev, next *Presence, trigger Cause) {
	m := st.m // derive has set next.seen to prev.seen
	if len(prev.seen) == 0 && len(m.hideable) == 0 {
		return
	}
	var room [6]seen
	list := room[:0]
	for i := range prev.seen {
		if n, noted := st.noteAgain(&prev.seen[i], prev, next, trigger); noted {
			list = append(list, n)
		}
	}
	for _, a := range m.hideable {
		if _, noted := prev.note(a); !noted {
			list = append(list, st.noteFirst(a, prev, next))
		}
	}
	if !slices.Equal(list, prev.seen) {
		next.seen = append([]seen(nil), list...)
	}
}

// noteFirst returns the first note for an audience that can be hidden from.
func (st *stepper) noteFirst(a Audience, prev, next *Presence) seen {
	hidden := slices.Contains(next.HiddenFrom, a)
	n := seen{Audience: a, Left: hidden || next.left(), Since: next.Since, By: st.m.hiders(st.s, a, nil)}
	switch {
	case hidden && prev.Known && !prev.Cause.isLeaving():
		n.Since, n.LastSeen = st.s.Now, st.s.Now
	case n.Left:
		n.LastSeen = next.LastSeen
	}
	return n
}

// noteAgain returns the note that follows an old one, or false if the audience needs
// none any more.
func (st *stepper) noteAgain(old *seen, prev, next *Presence, trigger Cause) (n seen, noted bool) {
	s, m, a := st.s, st.m, old.Audience
	hideable := slices.Contains(m.hideable, a)
	if !hideable && old.By == "" {
		return n, false
	}
	hidden, left := slices.Contains(next.HiddenFrom, a), next.left()
	n = *old
	if hidden {
		var held []string
		if old.Left {
			held = strings.Fields(old.By)
		}
		n.By = cmp.Or(m.hiders(s, a, held), n.By)
	}
	if !hidden && st.hidesStill(&n, prev, next, trigger) {
		next.HiddenFrom, hidden = union(next.HiddenFrom, []Audience{a}), true
	}
	switch n.Left = hidden || left; {
	case n.Left == old.Left:
	case !n.Left:
		n.Since, n.LastSeen = s.Now, 0
	case !hideable:
		return n, false
	default:
		n.Since, n.LastSeen = s.Now, s.Now
		if !hidden {
			n.By = ""
		}
	}
	return n, true
}

// hidesStill reports whether a subject still looks as if it had left although the
// policy does not hide it: a claim by which it hid speaks, and the subject has not
// been away since. Another policy may rank that claim lower, which is no act either.
// From then on the claim that speaks instead must stay.
func (st *stepper) hidesStill(n *seen, prev, next *Presence, trigger Cause) bool {
	arrived := prev.left() && !next.left() || prev.Reach < ReachLingering && next.Reach >= ReachLingering
	if !n.Left || n.By == "" || arrived && (trigger == TriggerConnect || trigger == CauseLogin) {
		return false
	}
	last := ""
	for _, c := range st.m.voices(st.s) {
		if last = voiceOf(c); n.names(last) {
			return c != nil || trigger != CauseManual && trigger != CauseSupervisor
		}
	}
	if trigger == TriggerPolicy && slices.Contains(prev.HiddenFrom, n.Audience) {
		n.By = last
		return true
	}
	return false
}

// hiders returns the claims by which a subject hides from an audience, as the note has
// them: the lowest that speaks, since that is the subject's own choice, and those of
// its source that hide the subject as well, since one of them speaks when the lowest has
// ended with its connection or its time. Those that the note held stay while they last.
func (m *Machine) hiders(s *State, a Audience, held []string) string {
	var lowest *Claim
	for def, c := range m.voices(s) {
		if c != nil && c.hides(def, a) {
			lowest = c
		}
	}
	var list []string
	if slices.Contains(held, voiceOf(nil)) {
		list = append(list, voiceOf(nil))
	}
	for i := range s.Claims {
		c := &s.Claims[i]
		voice := voiceOf(c)
		if slices.Contains(held, voice) || lowest != nil && c.Source == lowest.Source && c.hides(m.resolved(c), a) {
			list = append(list, voice)
		}
	}
	return strings.Join(list, " ")
}

// hides reports whether a claim to a status hides from an audience.
func (c *Claim) hides(def *definition, a Audience) bool {
	return slices.Contains(def.HiddenFrom, a) || slices.Contains(c.HidesFrom, a)
}

// voiceOf names a claim that speaks by its serial, since a caller may use an id again
// for another claim.
func voiceOf(c *Claim) string {
	if c == nil {
		return "default"
	}
	return strconv.FormatUint(c.Serial, 10)
}

// left reports whether a subject left, or is shown to no audience.
func (p *Presence) left() bool { return p.Cause.isLeaving() || p.Disabled }

// note returns what an audience was last shown, or false without a note.
func (p *Presence) note(a Audience) (n seen, noted bool) {
	if i := slices.IndexFunc(p.seen, func(s seen) bool { return s.Audience == a }); i >= 0 {
		return p.seen[i], true
	}
	return n, false
}

// Cause is why a status is shown, or what triggered a transition. A status has a
// cause of the first group. A trigger may be of either group.
type Cause string

// The causes of a status.
const (
	CauseDefault    Cause = "default"    // connected, without a claim
	CauseLogin      Cause = "login"      // a claim, by its source; so are those that follow
	CauseManual     Cause = "manual"     // the subject itself
	CauseSupervisor Cause = "supervisor" // a supervisor or admin
	CauseCall       Cause = "call"
	CauseCalendar   Cause = "calendar"
	CauseApp        Cause = "app" // also sources that only this policy ranks
	CauseSystem     Cause = "system"
	CauseIdle       Cause = "idle"   // without input for the time of an idle stage, or only at devices with a ceiling
	CauseLogout     Cause = "logout" // left for good, or was never connected; the causes that follow also mean unreachable
	CauseClosed     Cause = "closed" // closed cleanly
	CauseLost       Cause = "lost"   // silent for the lease, or reported broken
	CauseNode       Cause = "node"   // the node that held the connection died
	CauseDrain      Cause = "drain"  // the node that held the connection was shut down
	CauseDisabled   Cause = "disabled"
	CauseLeft       Cause = "left" // replaces every way of leaving, and hiding, for audiences that can be hidden from
)

// The triggers of a transition that are not causes of a status.
const (
	TriggerInput   Cause = "input"   // an input ended an idle stage
	TriggerConnect Cause = "connect" // a connection opened or was heard again, or an endpoint changed
	TriggerUntil   Cause = "until"   // a claim ended by its time
	TriggerPolicy  Cause = "policy"  // another policy took effect
	TriggerGrant   Cause = "grant"   // a grant made the subject known

	TriggerLoad      Cause = "load"      // work was given, ended or was counted
	TriggerChallenge Cause = "challenge" // a challenge was answered or not
	TriggerRequest   Cause = "request"   // a request was made, decided or withdrawn
)

// Reach is how a subject can be reached. It does not depend on the status shown.
type Reach uint8

// The kinds of reach, from none to full.
const (
	ReachNone      Reach = iota
	ReachVirtual         // only by an endpoint that Policy.Virtual counts
	ReachLingering       // a connection left and its grace has not ended
	ReachLive            // at least one connection is live
)

// String returns none, virtual, lingering or live.
func (r Reach) String() string {
	return [...]string{"none", "virtual", "lingering", "live"}[min(r, ReachLive)]
}

// The words shown instead of a status of the policy.
const (
	StatusUnknown  = "unknown"  // the subject is unknown, or presence is disabled
	StatusDisabled = "disabled" // presence is disabled; shown to the subject itself and to admins
)

// Presence is what the inputs of one subject add up to. It is always derived from
// them. [Machine.View] turns it into what one audience may see.
type Presence struct {
	Subject Ref
	Kind    SubjectKind

	Status string
	Class  Class
	Reason string
	Text   string
	Since  Instant // when the present status began
	SetAt  Instant // when the winning claim was set
	Until  Instant // when the winning claim ends; zero means never
	Cause  Cause
	Masked string // the chosen status, if idleness or disconnection masks it

	Reach    Reach
	Known    bool
	Disabled bool
	Routable bool // Routing is RouteAll
	// RoutableOn has the named work channels in which the subject may be given new
	// work. Routable is the answer for the channel without a name.
	RoutableOn WorkChannels

	// Routing is which new work reaches the subject in the work channel without a
	// name. Revision rises when Routing changes, and when work is taken
	// away. An offer made at an older revision is refused.
	Routing  Routing
	Revision Instant
	Label    string // finishing, not-receiving, free or active; empty unless available
	Load     Count  // pieces of work; absent if no load is reported
	Pinned   Count
	Pending  string // the status that follows when the load is 0
	Request  string // the status that is requested

	LastSeen  Instant // when the last connection ended; zero while the subject has one
	LastLogin Instant
	Devices   int // the number of connections, if a view of the policy shows it; else 0
	// HiddenFrom lists the audiences to which the subject looks as if it had left.
	// seen is what each audience that can be hidden from was last shown. No step
	// changes seen in place.
	HiddenFrom []Audience
	seen       []seen

	// absent is the status shown of a subject that left, if an endpoint replaces
	// the policy's disconnected status.
	absent string
}

// seen is what one audience that can be hidden from was last shown: the subject as
// present or as left, and since when.
type seen struct {
	Audience Audience `json:"audience"`
	Left     bool     `json:"left"`
	Since    Instant  `json:"since"`
	LastSeen Instant  `json:"lastSeen,omitzero"`
	// By has the serials of the claims by which the subject hid from the audience since
	// it was last seen to leave, with a space between two. It is empty if none did.
	By string `json:"by,omitzero"`
}

// names reports whether a claim, as voiceOf names it, is one of those in By.
func (n *seen) names(voice string) bool {
	return slices.Contains(strings.Fields(n.By), voice)
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

// endpointRule returns the rule of the first endpoint that is not ignored. A
// routable endpoint precedes others.
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

// lastInput returns the newest input over the connections that count. Without such
// a connection it returns what was stored when the last of them left, or a later
// login or own claim over one that does not count.
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
		return max(s.Input, s.Acted)
	}
	return last
}

func (m *Machine) rankOf(s Source) int {
	if r, ok := m.rank[s]; ok {
		return r
	}
	return m.rankOfApp()
}

// rankOfApp returns the rank of claims whose source the policy does not rank.
func (m *Machine) rankOfApp() int {
	if r, ok := m.rank[SourceApp]; ok {
		return r
	}
	return m.rank[SourceLoginDefault]
}

// resolved returns the definition of a claim's status. A status that the policy no
// longer has becomes the first of its class. It never becomes an available one,
// since it may have been chosen to hide or to keep work away.
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

// top returns the winning claim among the unexpired ones that keep allows, in the
// order of before. The claims of connections are first folded into one vote, which
// has the best rank among them. It returns false if no claim wins, so that the
// policy default holds. It returns nil and true if the vote wins and is for the
// default.
//
// While a break waits for the work to end, the choice in which it was made holds in
// the place of none, although that choice has ended.
func (m *Machine) top(s *State, now Instant, keep func(*Claim) bool) (*Claim, bool) {
	best, rank, some := m.topOf(s, now, keep)
	if w := s.Work; w != nil && w.Pending != nil && w.meanwhile != nil && (!some || rank > m.manual) && (keep == nil || keep(w.meanwhile)) {
		return w.meanwhile, true
	}
	return best, some
}

// topOf is top among the claims that have not ended. rank is that of the winner.
func (m *Machine) topOf(s *State, now Instant, keep func(*Claim) bool) (top *Claim, rank int, some bool) {
	var best *Claim
	scoped := Source("") // the source of the best claim of a connection
	for i := range s.Claims {
		c := &s.Claims[i]
		if !m.holds(s, c, now) || keep != nil && !keep(c) {
			continue
		}
		if c.Conn != "" {
			if i, connected := s.conn(c.Conn); connected && m.speaks(s, i) && (scoped == "" || m.rankOf(c.Source) < m.rankOf(scoped)) {
				scoped = c.Source
			}
			continue
		}
		if best == nil || m.before(c, best) {
			best = c
		}
	}
	if scoped == "" {
		if best == nil {
			return nil, 0, false
		}
		return best, m.rankOf(best.Source), true
	}
	vote, at, serial := m.foldConns(s, now, keep)
	competing := Claim{Source: scoped, SetAt: at, Serial: serial}
	if best != nil && m.before(best, &competing) {
		return best, m.rankOf(best.Source), true
	}
	return vote, m.rankOf(scoped), true
}

// before reports whether a wins over b: by the rank of its source, then by the
// later SetAt, then by the higher serial.
func (m *Machine) before(a, b *Claim) bool {
	if ra, rb := m.rankOf(a.Source), m.rankOf(b.Source); ra != rb {
		return ra < rb
	}
	if a.SetAt != b.SetAt {
		return a.SetAt > b.SetAt
	}
	return a.Serial > b.Serial
}

// speaks reports whether a connection is of the greatest rank of those connected.
func (m *Machine) speaks(s *State, i int) bool {
	rank := m.policy.Devices[s.Conns[i].Device].Rank
	for j := range s.Conns {
		if m.policy.Devices[s.Conns[j].Device].Rank > rank {
			return false
		}
	}
	return true
}

// foldConns folds the votes of the connections that speak by the policy's Fold. Each
// votes with the best of its own claims, or with the policy default. It returns the
// winning claim, or nil for the default. at and serial are the newest among the
// votes for the winner.
func (m *Machine) foldConns(s *State, now Instant, keep func(*Claim) bool) (winner *Claim, at Instant, serial uint64) {
	var won *definition
	for i := range s.Conns {
		if !m.speaks(s, i) {
			continue
		}
		vote := m.vote(s, s.Conns[i].ID, now, keep)
		status := m.byDefault
		var set Instant // a connection without a claim must not outdo a later choice
		var issue uint64
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

// vote returns the best of the claims of a connection, or nil.
func (m *Machine) vote(s *State, conn string, now Instant, keep func(*Claim) bool) (vote *Claim) {
	for i := range s.Claims {
		c := &s.Claims[i]
		if c.Conn != conn {
			continue
		}
		if !m.holds(s, c, now) || keep != nil && !keep(c) {
			continue
		}
		if vote == nil || m.before(c, vote) {
			vote = c
		}
	}
	return vote
}

// chosen reports whether a claim, which may be nil, is of the manual rank.
func (m *Machine) chosen(c *Claim) bool { return c != nil && m.rankOf(c.Source) == m.manual }

// base returns the status before idleness, and its claim, or nil for the policy
// default. gone is the status shown instead if the subject is unreachable, or nil.
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

// virtual returns the status shown instead of the chosen one for a subject that has
// only endpoints, or nil.
func (m *Machine) virtual(s *State) *definition {
	if rule, ok := m.endpointRule(s); ok && rule.Show != ShowTop {
		return m.status(rule.Show)
	}
	return nil
}

// derive completes a zero presence with what holds at s.Now. The idle stages are
// those reached by idle, which is s.Now or just before. logical is the instant of
// the event. derive returns the instant at which the status began.
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
		p.SetAt, p.Reason, p.Text, p.Cause = c.SetAt, c.Reason, c.Text, c.Source.cause()
		if w := s.Work; w == nil || c != w.meanwhile { // which has ended, and holds until the work is done
			p.Until = m.endOf(s, c)
		}
	}
	since = logical
	mask := func(to *definition, cause Cause) {
		shown, p.Masked, p.Cause = to, def.ID, cause
		p.Reason, p.Text, p.Until = "", "", 0
	}
	if v := m.virtual(s); v != nil {
		p.absent = v.ID
	}
	if gone != nil {
		mask(gone, cmp.Or(s.LeftCause, CauseLogout))
	} else if to, at := m.masks(s, def, c, idle); to != nil {
		mask(to, CauseIdle)
		since = cmp.Or(at, since)
	}
	p.Status, p.Class = shown.ID, shown.Class
	p.HiddenFrom = union(m.hiddenFrom(s), shown.HiddenFrom)
	m.occupy(s, p, shown)
	return since
}

// shown returns the status that derive would show, with the idle stages reached by
// idle.
func (m *Machine) shown(s *State, idle Instant) string {
	if s.Disabled || m.policy.Disabled {
		return StatusDisabled
	}
	def, c, gone := m.base(s)
	if gone != nil {
		return gone.ID
	}
	if to, _ := m.masks(s, def, c, idle); to != nil {
		return to.ID
	}
	return def.ID
}

// hiddenFrom lists the audiences from which a claim that speaks hides the subject.
func (m *Machine) hiddenFrom(s *State) (hidden []Audience) {
	for def, c := range m.voices(s) {
		if hidden == nil {
			hidden = def.HiddenFrom
		} else {
			hidden = union(hidden, def.HiddenFrom)
		}
		if c == nil {
			continue
		}
		for _, a := range c.HidesFrom {
			if slices.Contains(m.hideable, a) { // not only under an earlier policy
				hidden = union(hidden, []Audience{a})
			}
		}
	}
	return hidden
}

// voices yields the claims that speak, each with its status: from the top down in
// rank, up to and including the first of manual rank or below. A call does not take
// back what the person chose beneath it. The claim is nil for the policy default.
func (m *Machine) voices(s *State) iter.Seq2[*definition, *Claim] {
	return func(yield func(*definition, *Claim) bool) {
		var last *Claim // the last of the claims above manual that are left out
		for {
			c, _ := m.top(s, s.Now, func(o *Claim) bool { return last == nil || m.before(last, o) })
			def := m.byDefault
			if c != nil {
				def = m.resolved(c)
			}
			if !yield(def, c) {
				return
			}
			if last = m.nextAbove(s, last); last == nil {
				return
			}
		}
	}
}

// nextAbove returns the first claim after last that ranks above manual, or nil.
func (m *Machine) nextAbove(s *State, last *Claim) (next *Claim) {
	for i := range s.Claims {
		c := &s.Claims[i]
		if m.rankOf(c.Source) < m.manual && (last == nil || m.before(last, c)) && (next == nil || m.before(c, next)) {
			next = c
		}
	}
	return next
}

// masks returns the status shown instead of def while the subject is connected:
// because of idleness, or because every connection is of a device with a ceiling. Of
// both, the less available counts. Only idleness has an instant at which it began.
// masks returns nil if def shows.
func (m *Machine) masks(s *State, def *definition, c *Claim, now Instant) (to *definition, at Instant) {
	to, at = m.idleMask(s, def, c, now)
	if top := m.ceiling(s); top != nil && def.Class == ClassAvailable && (to == nil || to.order <= top.order) {
		return top, 0
	}
	return to, at
}

// ceiling returns the most available ceiling of the connected devices, or nil if one
// has none or no connection counts.
func (m *Machine) ceiling(s *State) (best *definition) {
	for i := range s.Conns {
		top := m.ceilings[s.Conns[i].Device]
		if top == nil {
			return nil
		}
		if best == nil || top.order < best.order {
			best = top
		}
	}
	return best
}

// idleMask returns the status that idleness shows instead of def, and the instant
// at which its stage was reached. It returns nil if no stage was reached. c is the
// claim on top, or nil.
func (m *Machine) idleMask(s *State, def *definition, c *Claim, now Instant) (to *definition, at Instant) {
	last, ages := m.idleFrom(s)
	for _, st := range def.stages {
		if reached := last.Add(st.after); ages && reached <= now && !(st.unchosen && m.chosen(c)) {
			to, at = st.to, reached
		}
	}
	return to, at
}

// idleFrom returns the instant from which idleness counts, or false if the subject
// cannot be idle. A bot or service without a connection that counts is never idle. A
// person who never connected has no age.
func (m *Machine) idleFrom(s *State) (Instant, bool) {
	if s.Kind == KindBot || s.Kind == KindService {
		if !slices.ContainsFunc(s.Conns, func(c ConnState) bool { return m.counts(&c) }) {
			return 0, false
		}
	}
	last := m.lastInput(s)
	return last, last != 0
}

// settle derives the presence again and reports what changed. A new status begins
// at the logical instant, but not before the previous one began or the inputs last
// changed. A new reason under the same status begins at that instant too. Its output
// has an id, and so a row of the journal, but the status continues.
func (st *stepper) settle(logical Instant, trigger Cause, id string) {
	s, m := st.s, st.m
	prev := &s.Current
	var next Presence
	since := m.derive(&next, s, logical, s.Now)
	since = max(since, prev.Since, s.ChangedAt, st.ended)
	next.Since = prev.Since
	transition := !prev.Known || next.Status != prev.Status
	if transition {
		next.Since = since
	}
	st.note(prev, &next, trigger)
	if next.Routing != prev.Routing {
		st.revise()
		next.Revision = prev.Revision
	}
	if !transition && !st.room && samePresence(prev, &next) {
		return
	}
	st.room = false
	o := st.output(OutputUpdated)
	o.Prev, o.Trigger, o.Presence = prev.Status, trigger, next
	if transition {
		o.Kind = OutputTransition
	} else if next.Reason != prev.Reason {
		s.ChangedAt = since // no later row of the journal is of an earlier instant
	}
	if transition || next.Reason != prev.Reason {
		o.At, o.ID = since, id
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
		a.RoutableOn == b.RoutableOn && slices.Equal(a.HiddenFrom, b.HiddenFrom) && slices.Equal(a.seen, b.seen)
}
