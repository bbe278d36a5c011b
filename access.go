package presence

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Role says in which capacity an actor acts. The zero Role means agent.
type Role string

// The roles.
const (
	RoleAgent      Role = "agent"
	RoleSupervisor Role = "supervisor"
	RoleAdmin      Role = "admin"
	RoleVisitor    Role = "visitor"
	RoleSystem     Role = "system" // a backend: it names the source of its claims itself
)

var roles = []Role{RoleAgent, RoleSupervisor, RoleAdmin, RoleVisitor, RoleSystem}

// Actor is who does something, as authentication has established it.
type Actor struct {
	Ref
	Role Role `json:"role,omitzero"`
}

// Agent returns an actor who acts for the subject of the same name.
func Agent(subject Ref) Actor { return Actor{Ref: subject, Role: RoleAgent} }

// Audience returns the audience an actor belongs to.
func (a Actor) Audience() Audience {
	switch a.Role {
	case RoleSupervisor:
		return AudienceSupervisor
	case RoleAdmin:
		return AudienceAdmin
	case RoleVisitor:
		return AudienceVisitor
	case RoleSystem:
		return AudienceRouter
	default:
		return AudienceTeam
	}
}

// source derives the source of what a does to a subject's claims.
func (a Actor) source(subject Ref, named Source, m *Machine) (Source, error) {
	if a.Role != "" && !slices.Contains(roles, a.Role) {
		return "", fmt.Errorf("presence: %w role %q: allowed are %s", ErrInvalid, a.Role, join(roles))
	}
	if err := a.checkFor(subject); err != nil {
		return "", err
	}
	source := Source("")
	switch {
	case a.Role == RoleSystem:
		source = cmp.Or(named, SourceApp)
		if _, ranked := m.rank[source]; !ranked {
			return "", fmt.Errorf("presence: %w source %q: the policy ranks %s", ErrUnknown, source, join(m.sourceNames()))
		}
		return source, nil
	case a.Ref == subject && a.Role != RoleVisitor:
		source = SourceManual
	case a.Role == RoleSupervisor || a.Role == RoleAdmin:
		source = SourceSupervisor
	default:
		return "", fmt.Errorf("presence: %w: %s may not change the status of %s; the subject itself, a supervisor, an admin or a system may", ErrNotAllowed, a.Ref, subject)
	}
	if named != "" && named != source {
		return "", fmt.Errorf("presence: %w: %s cannot claim as %q, which follows from who acts; only a system names a source", ErrNotAllowed, a.Ref, named)
	}
	return source, nil
}

// checkFor checks the name of an actor, which stays with what it does to a
// subject. A system needs none.
func (a Actor) checkFor(subject Ref) error {
	if a.Tenant != subject.Tenant {
		return fmt.Errorf("presence: %w: %s acts for another tenant than that of %s", ErrNotAllowed, a.Ref, subject)
	}
	return checkGiven("actor", a.ID)
}

// Audience is a class of viewers who see the same.
type Audience string

// The audiences.
const (
	AudienceSelf       Audience = "self"
	AudienceTeam       Audience = "team"
	AudienceSupervisor Audience = "supervisor"
	AudienceAdmin      Audience = "admin"
	AudienceVisitor    Audience = "visitor"
	AudienceRouter     Audience = "router" // whatever hands out work
)

var audiences = []Audience{AudienceSelf, AudienceTeam, AudienceSupervisor, AudienceAdmin, AudienceVisitor, AudienceRouter}

// Action is what an actor asks to do.
type Action string

// The actions. Beside each, what the detail of the question is.
const (
	ActionSee        Action = "see"         // the channel, or empty for a single subject
	ActionJoin       Action = "join"        // the channel
	ActionClaim      Action = "claim"       // the status, for oneself
	ActionClaimOther Action = "claim-other" // the status, for another
	ActionDecide     Action = "decide"      // the id of the request, or empty
	ActionDefine     Action = "define"      // the status that is added or removed
	ActionPolicy     Action = "policy"      // the policy's name
)

// Authorizer decides what actors may do. It is asked before anything changes
// and never about what stays within the core: that an agent must hold a grant
// to watch a channel, that a status is not selectable, that nothing crosses a
// tenant.
type Authorizer interface {
	// Allow returns nil if the actor may, an error wrapping [ErrNotAllowed] that
	// says why if not, and any other error if it cannot tell, which refuses the
	// call as [ErrUnavailable]. It may block until ctx is done, which is 5s after
	// the question at the latest, and may be called concurrently.
	Allow(ctx context.Context, actor Actor, action Action, subject Ref, detail string) error
}

// roleAuthorizer is the Authorizer of a tracker that is given none.
type roleAuthorizer struct{}

func (roleAuthorizer) Allow(_ context.Context, actor Actor, action Action, subject Ref, detail string) error {
	needs := []Role{RoleAgent, RoleSupervisor, RoleAdmin, RoleSystem}
	switch action {
	case ActionSee:
		return nil
	case ActionClaimOther, ActionDecide:
		needs = []Role{RoleSupervisor, RoleAdmin, RoleSystem}
	case ActionPolicy, ActionDefine:
		needs = []Role{RoleAdmin, RoleSystem}
	}
	if !slices.Contains(needs, cmp.Or(actor.Role, RoleAgent)) {
		return fmt.Errorf("presence: %w: %s in the role of %s may not %s %s; needed is one of %s",
			ErrNotAllowed, actor.Ref, cmp.Or(actor.Role, RoleAgent), action, cmp.Or(detail, subject.String()), join(needs))
	}
	return nil
}

// RoleAuthorizer returns the Authorizer that a tracker uses when it is given
// none: everybody sees, agents act for themselves, supervisors, admins and
// systems for others, admins and systems change the policy.
func RoleAuthorizer() Authorizer { return roleAuthorizer{} }

// Grants says which subjects belong to which channels. A subject is granted
// something, say an inbox; a channel is linked to one thing, and has as members
// those who are granted it or the channel itself. Grants is pure and for one
// goroutine at a time.
type Grants struct {
	granted map[Ref]map[Ref]bool // by what is granted, the subjects
	link    map[Ref]Ref          // by channel, what it is linked to
	linked  map[Ref]map[Ref]bool // by what they are linked to, the channels
}

// NewGrants returns no grants.
func NewGrants() *Grants {
	return &Grants{granted: make(map[Ref]map[Ref]bool), link: make(map[Ref]Ref), linked: make(map[Ref]map[Ref]bool)}
}

// Grant gives a subject something and reports whether that is new.
func (g *Grants) Grant(subject, to Ref) bool {
	if g.granted[to][subject] {
		return false
	}
	if g.granted[to] == nil {
		g.granted[to] = make(map[Ref]bool)
	}
	g.granted[to][subject] = true
	return true
}

// Revoke takes it away and reports whether it was there.
func (g *Grants) Revoke(subject, to Ref) bool {
	if !g.granted[to][subject] {
		return false
	}
	if delete(g.granted[to], subject); len(g.granted[to]) == 0 {
		delete(g.granted, to)
	}
	return true
}

// Forget takes everything from a subject.
func (g *Grants) Forget(subject Ref) {
	for to := range g.granted {
		g.Revoke(subject, to)
	}
}

// Link makes a channel's members those who are granted to, instead of those
// granted what it was linked to before. A channel of the same name as to is
// linked to it already.
func (g *Grants) Link(channel, to Ref) {
	if old, had := g.link[channel]; had {
		delete(g.linked[old], channel)
	}
	g.link[channel] = to
	if g.linked[to] == nil {
		g.linked[to] = make(map[Ref]bool)
	}
	g.linked[to][channel] = true
}

// May reports whether a subject belongs to a channel.
func (g *Grants) May(subject, channel Ref) bool {
	if g.granted[channel][subject] {
		return true
	}
	to, linked := g.link[channel]
	return linked && g.granted[to][subject]
}

// Members returns the members of a channel in order.
func (g *Grants) Members(channel Ref) []Ref {
	members := slices.Collect(maps.Keys(g.granted[channel]))
	if to, linked := g.link[channel]; linked {
		members = slices.AppendSeq(members, maps.Keys(g.granted[to]))
	}
	slices.SortFunc(members, compareRefs)
	return slices.Compact(members)
}

// Channels returns the channels that a grant of to gives membership of, to
// itself among them, in order.
func (g *Grants) Channels(to Ref) []Ref {
	channels := append(slices.Collect(maps.Keys(g.linked[to])), to)
	slices.SortFunc(channels, compareRefs)
	return slices.Compact(channels)
}

// View is what one audience sees of a subject. Fields the audience is not shown
// are zero.
type View struct {
	Ref
	Kind      Kind    `json:"kind,omitzero"` // empty for humans
	Status    string  `json:"status"`
	Class     Class   `json:"class,omitzero"` // empty where the status is unknown or disabled
	Label     string  `json:"label,omitzero"`
	Color     string  `json:"color,omitzero"`
	Reason    string  `json:"reason,omitzero"`
	Text      string  `json:"text,omitzero"`
	Since     Instant `json:"since,omitzero"`
	SetAt     Instant `json:"setAt,omitzero"`
	Until     Instant `json:"until,omitzero"`
	Cause     Cause   `json:"cause,omitzero"`
	Masked    string  `json:"masked,omitzero"`
	LastSeen  Instant `json:"lastSeen,omitzero"`
	LastLogin Instant `json:"lastLogin,omitzero"`
	Routable  bool    `json:"routable,omitzero"`
	Work      string  `json:"work,omitzero"` // finishing, not-receiving, free or active
	Threads   Count   `json:"threads,omitzero"`
	Pinned    Count   `json:"pinned,omitzero"`
	Pending   string  `json:"pending,omitzero"` // the status that follows once the work is done
	Request   string  `json:"request,omitzero"` // the status that has been asked for
	Devices   int     `json:"devices,omitzero"` // connections, live or lingering
}

// viewFields are the fields that a policy grants to audiences.
var viewFields = []string{"since", "setAt", "until", "reason", "text", "cause", "masked", "lastSeen", "lastLogin", "routable", "work", "threads", "pinned", "pending", "request", fieldNameDevices}

// fieldNameDevices is the one field that no audience is shown by default: every
// tab that somebody opens or closes is then a change.
const fieldNameDevices = "devices"

type fieldSet uint16

const (
	fieldSince fieldSet = 1 << iota
	fieldSetAt
	fieldUntil
	fieldReason
	fieldText
	fieldCause
	fieldMasked
	fieldLastSeen
	fieldLastLogin
	fieldRoutable
	fieldWork
	fieldThreads
	fieldPinned
	fieldPending
	fieldRequest
	fieldDevices
)

// View projects a presence for one audience. A subject hidden from it, and one
// that left where hiding is possible, take the same path: what is shown then
// depends on nothing but when the audience last saw a difference.
func (m *Machine) View(p *Presence, a Audience) View {
	v := View{Ref: p.Subject, Status: StatusUnknown}
	if !p.Known {
		return v
	}
	if p.Disabled {
		if a == AudienceSelf || a == AudienceAdmin {
			v.Status = StatusDisabled
		}
		return v
	}
	if p.Kind != KindHuman {
		v.Kind = p.Kind
	}
	full := View{
		Status: p.Status, Class: p.Class, Reason: p.Reason, Text: p.Text, Since: p.Since, SetAt: p.SetAt, Until: p.Until,
		Cause: p.Cause, Masked: p.Masked, LastSeen: p.LastSeen, LastLogin: p.LastLogin, Routable: p.Routable,
		Work: p.Label, Threads: p.Threads, Pinned: p.Pinned, Pending: p.Pending, Request: p.Request, Devices: p.Devices,
	}
	if i := slices.IndexFunc(p.Seen, func(s Seen) bool { return s.Audience == a }); i >= 0 {
		if seen := &p.Seen[i]; seen.Left {
			def := m.disconnected
			if v := m.status(p.absent); v != nil {
				def = v
			}
			full = View{Status: def.ID, Class: def.Class, Cause: CauseLeft, Since: seen.Since, LastSeen: seen.LastSeen}
		} else {
			// It came into sight then; nothing from before is told.
			full.Since = max(full.Since, seen.Since)
			full.LastSeen, full.LastLogin = 0, 0
			if full.SetAt < seen.Since {
				full.SetAt = 0
			}
		}
	}
	if a == AudienceVisitor && full.Cause != CauseLeft {
		full.Cause = "" // why someone is there is not for strangers
	}
	v.Status, v.Class, v.Label, v.Color = full.Status, full.Class, full.Status, ""
	if def := m.status(full.Status); def != nil {
		v.Label, v.Color = def.Label, def.Color
	}
	shown := m.views[a]
	if def := m.status(full.Status); def != nil && a != AudienceSelf && a != AudienceAdmin {
		shown &^= def.omits
	}
	show(shown, fieldSince, &v.Since, full.Since)
	show(shown, fieldSetAt, &v.SetAt, full.SetAt)
	show(shown, fieldUntil, &v.Until, full.Until)
	show(shown, fieldReason, &v.Reason, full.Reason)
	show(shown, fieldText, &v.Text, full.Text)
	show(shown, fieldCause, &v.Cause, full.Cause)
	show(shown, fieldMasked, &v.Masked, full.Masked)
	show(shown, fieldLastSeen, &v.LastSeen, full.LastSeen)
	show(shown, fieldLastLogin, &v.LastLogin, full.LastLogin)
	show(shown, fieldRoutable, &v.Routable, full.Routable)
	show(shown, fieldWork, &v.Work, full.Work)
	show(shown, fieldThreads, &v.Threads, full.Threads)
	show(shown, fieldPinned, &v.Pinned, full.Pinned)
	show(shown, fieldPending, &v.Pending, full.Pending)
	show(shown, fieldRequest, &v.Request, full.Request)
	show(shown, fieldDevices, &v.Devices, full.Devices)
	return v
}

func show[T any](shown, field fieldSet, dst *T, value T) {
	if shown&field != 0 {
		*dst = value
	}
}

// left reports whether a cause says that the subject cannot be reached.
func (c Cause) left() bool {
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
func (m *Machine) seen(prev, next *Presence, now Instant) []Seen {
	list, own := prev.Seen, false
	change := func() {
		if !own {
			list, own = slices.Clone(list), true
		}
	}
	left := next.Cause.left() || next.Disabled
	for _, a := range m.hideable {
		hidden := slices.Contains(next.HiddenFrom, a)
		entry := Seen{Audience: a, Left: hidden || left, Since: next.Since}
		i := slices.IndexFunc(list, func(s Seen) bool { return s.Audience == a })
		switch {
		case i >= 0 && list[i].Left == entry.Left:
			continue
		case i >= 0 || hidden && prev.Known && !prev.Cause.left():
			entry.Since = now
			if entry.Left {
				entry.LastSeen = now
			}
		case entry.Left:
			entry.LastSeen = next.LastSeen
		}
		change()
		if i >= 0 {
			list[i] = entry
		} else {
			list = append(list, entry)
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
			list[i] = Seen{Audience: old.Audience, Since: now}
		}
	}
	if len(list) == 0 {
		return nil
	}
	return list
}

// MayReveal reports whether something that a subject does, such as typing,
// reading or reacting, may be shown to an audience: not while it is hidden from
// it. What a subject sends is its own disclosure and needs no asking.
func (m *Machine) MayReveal(p *Presence, a Audience) bool {
	return p.Known && !p.Disabled && !slices.Contains(p.HiddenFrom, a)
}

// Explain says in sentences why a subject has the status that an audience sees,
// from the same inputs as the status itself. An audience is told no more than
// its view shows.
func (m *Machine) Explain(s *State, a Audience) []string {
	p := s.Current
	p.Subject = s.Subject
	v := m.View(&p, a)
	head := v.Status
	if v.Cause != "" {
		head += ": " + causeText[v.Cause]
	}
	lines := []string{head}
	add := func(format string, args ...any) { lines = append(lines, fmt.Sprintf(format, args...)) }
	if v.Since != 0 {
		add("since %s", v.Since)
	}
	if v.Masked != "" {
		add("masked: %s", v.Masked)
	}
	if v.SetAt != 0 {
		add("set at %s", v.SetAt)
	}
	if v.Until != 0 {
		add("until %s", v.Until)
	}
	if v.Reason != "" {
		add("reason: %s", v.Reason)
	}
	if v.LastSeen != 0 {
		add("last seen %s", v.LastSeen)
	}
	if a != AudienceSelf && a != AudienceAdmin || !p.Known {
		return lines
	}
	live, all := 0, len(s.Conns)
	for _, c := range s.Conns {
		switch {
		case c.Left == 0:
			live++
		case c.ID == restartConn:
			all--
		}
	}
	add("%d of %d connections live", live, all)
	for _, c := range s.Conns {
		if c.ID == restartConn {
			add("the connections from before a restart at %s count until %s", c.Left, m.graceEnd(s, &c))
		} else if c.Left != 0 {
			add("connection %s left (%s) at %s, counts until %s", c.ID, c.Cause, c.Left, m.graceEnd(s, &c))
		} else {
			add("connection %s heard at %s, last input at %s", c.ID, c.Heard, max(c.Input, c.Acted))
		}
	}
	for _, c := range slices.SortedFunc(slices.Values(s.Claims), func(x, y Claim) int {
		return cmp.Or(m.rankOf(x.Source)-m.rankOf(y.Source), cmp.Compare(y.SetAt, x.SetAt), cmp.Compare(y.Serial, x.Serial))
	}) {
		text := fmt.Sprintf("claim %s (%s) set by %s at %s", c.Status, c.Source, cmp.Or(c.By, "nobody"), c.SetAt)
		if c.Conn != "" {
			text += " on connection " + c.Conn
		}
		if c.Until != 0 {
			text += ", until " + c.Until.String()
		}
		lines = append(lines, text)
	}
	if w := s.Work; w != nil {
		for _, l := range w.Loads {
			room, bounded := m.room(&l)
			text := fmt.Sprintf("%d pieces of work", l.N)
			if l.On != "" {
				text += " in " + l.On
			}
			if bounded {
				text += fmt.Sprintf(", room for %d more", max(room, 0))
			}
			lines = append(lines, text)
		}
		if w.Pending != nil {
			add("%s follows when the work is done", w.Pending.Status)
		}
		for _, r := range w.Requests {
			add("asked for %s at %s", r.Claim.Status, r.At)
		}
		if w.Challenge != "" {
			add("asked to answer before %s", w.Deadline)
		}
		if w.Settles > s.Now {
			add("given no new work before %s, until the connection has proved steady", w.Settles)
		}
	}
	if len(p.HiddenFrom) > 0 {
		add("hidden from: %s", join(p.HiddenFrom))
	}
	if s.Floor > s.Now {
		add("leases are extended to %s after a standstill", s.Floor)
	}
	if at, ok := m.Next(s); ok {
		add("next deadline %s", at)
	}
	return lines
}

var causeText = map[Cause]string{
	CauseDefault:    "connected, and nothing else was chosen",
	CauseLogin:      "set by the login",
	CauseManual:     "chosen by hand",
	CauseSupervisor: "set by a supervisor",
	CauseCall:       "in a call",
	CauseCalendar:   "by the calendar",
	CauseApp:        "set by an application",
	CauseSystem:     "imposed by the system",
	CauseIdle:       "idle, no input for too long",
	CauseLogout:     "not connected, after a logout or never",
	CauseClosed:     "not connected, the last connection was closed",
	CauseLost:       "not connected, the last connection was lost",
	CauseNode:       "not connected, the node of the last connection died",
	CauseDrain:      "not connected, the node of the last connection was shut down",
	CauseDisabled:   "presence is switched off",
	CauseLeft:       "left",
}

// join lists words for a message.
func join[T ~string](words []T) string {
	list := make([]string, len(words))
	for i, w := range words {
		list[i] = string(w)
	}
	return strings.Join(list, ", ")
}

func orNone(list string) string { return cmp.Or(list, "no audience") }

func sortedKeys[K cmp.Ordered, V any](m map[K]V) []K { return slices.Sorted(maps.Keys(m)) }

// union returns a list with the elements of both, sorted. It changes neither.
func union(a, b []Audience) []Audience {
	if len(b) == 0 {
		return a
	}
	list := slices.Concat(a, b)
	slices.Sort(list)
	return slices.Compact(list)
}
