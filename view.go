package presence

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// View is what one audience sees of a subject. A field that the audience may not
// see is zero.
type View struct {
	Subject    Ref          `json:"-"`             // in JSON its tenant and id stand beside the other fields
	Kind       SubjectKind  `json:"kind,omitzero"` // empty for humans
	Status     string       `json:"status"`
	Class      Class        `json:"class,omitzero"`  // empty if the status is unknown or disabled
	Label      string       `json:"label,omitzero"`  // of the status, for people
	Color      string       `json:"color,omitzero"`  // of the status
	Reason     string       `json:"reason,omitzero"` // Reason, Text and Until are of the claim that shows
	Text       string       `json:"text,omitzero"`
	Since      Instant      `json:"since,omitzero"` // when the status began
	SetAt      Instant      `json:"setAt,omitzero"` // when the claim on top was set, masked or not
	Until      Instant      `json:"until,omitzero"`
	Cause      Cause        `json:"cause,omitzero"`
	Masked     string       `json:"masked,omitzero"`     // the status that would show without idleness and disconnection
	LastSeen   Instant      `json:"lastSeen,omitzero"`   // when the last connection left; zero while one is live
	LastLogin  Instant      `json:"lastLogin,omitzero"`  // the last one with credentials
	Routable   bool         `json:"routable,omitzero"`   // may be given new work in the work channel without a name
	RoutableOn WorkChannels `json:"routableOn,omitzero"` // the named work channels in which it may be given new work
	Work       string       `json:"work,omitzero"`       // finishing, not-receiving, free or active
	Load       Count        `json:"threads,omitzero"`    // pieces of work
	Pinned     Count        `json:"pinned,omitzero"`     // pieces that the host shows beside them
	Pending    string       `json:"pending,omitzero"`    // the status that follows once the work is done
	Request    string       `json:"request,omitzero"`    // the status of the open request
	Devices    int          `json:"devices,omitzero"`    // connections, live or lingering
}

// Present reports whether the view shows the subject as present: under a known
// status of a class other than offline.
func (v View) Present() bool { return v.Class != "" && v.Class != ClassOffline }

// String returns the subject, its status and the end of the claim, such as
// "ann: busy until 2026-01-05T09:30:00Z". Without an end it returns "ann: busy".
func (v View) String() string {
	text := v.Subject.String() + ": " + v.Status
	if v.Until != 0 {
		text += " until " + v.Until.String()
	}
	return text
}

// viewFields are the fields that a policy grants to audiences.
var viewFields = []string{"since", "setAt", "until", "reason", "text", "cause", "masked", "lastSeen", "lastLogin", "routable", "routableOn", "work", "threads", "pinned", "pending", "request", fieldNameDevices}

// fieldNameDevices is the one field that no audience sees by default, since each
// tab that opens or closes would be a change.
const fieldNameDevices = "devices"

type fieldSet uint32

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
	fieldRoutableOn
	fieldWork
	fieldThreads
	fieldPinned
	fieldPending
	fieldRequest
	fieldDevices
)

// View returns what one audience sees of a presence. A subject that is hidden from
// the audience gives the same view as one that left, so that the view reveals no
// hiding. Its times then are those at which the audience last saw a difference.
func (m *Machine) View(p *Presence, a Audience) View {
	v := View{Subject: p.Subject, Status: StatusUnknown}
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
		Cause: p.Cause, Masked: p.Masked, LastSeen: p.LastSeen, LastLogin: p.LastLogin, Routable: p.Routable, RoutableOn: p.RoutableOn,
		Work: p.Label, Load: p.Load, Pinned: p.Pinned, Pending: p.Pending, Request: p.Request, Devices: p.Devices,
	}
	m.conceal(&full, p, a)
	if a == AudienceVisitor && full.Cause != CauseLeft {
		full.Cause = "" // strangers do not see why a subject is present
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
	show(shown, fieldRoutableOn, &v.RoutableOn, full.RoutableOn)
	show(shown, fieldWork, &v.Work, full.Work)
	show(shown, fieldThreads, &v.Load, full.Load)
	show(shown, fieldPinned, &v.Pinned, full.Pinned)
	show(shown, fieldPending, &v.Pending, full.Pending)
	show(shown, fieldRequest, &v.Request, full.Request)
	show(shown, fieldDevices, &v.Devices, full.Devices)
	return v
}

// conceal replaces what an audience must not see because of hiding. An audience
// from which the subject is hidden sees that it left. An audience that sees it
// again sees nothing from before. No status hidden from an audience is named to it.
func (m *Machine) conceal(full *View, p *Presence, a Audience) {
	last, noted := p.note(a)
	if last.Left || m.hides(full.Status, a) { // the second while p follows another policy
		def := m.absent(p, a)
		*full = View{Status: def.ID, Class: def.Class, Cause: CauseLeft, Since: last.Since, LastSeen: last.LastSeen}
		return
	}
	for _, word := range []*string{&full.Masked, &full.Pending, &full.Request} {
		if m.hides(*word, a) {
			*word = ""
		}
	}
	if !noted {
		return
	}
	full.Since = max(full.Since, last.Since)
	full.LastSeen, full.LastLogin = 0, 0
	if full.SetAt < last.Since {
		full.SetAt = 0
	}
}

// hides reports whether a status is hidden from an audience.
func (m *Machine) hides(id string, a Audience) bool {
	if len(m.hideable) == 0 {
		return false
	}
	def := m.status(id)
	return def != nil && slices.Contains(def.HiddenFrom, a)
}

// absent returns the status that an audience sees of a subject that left or hides:
// the first that is not hidden from it, of the status that an endpoint shows, the
// disconnected one, and the others of class offline.
func (m *Machine) absent(p *Presence, a Audience) *definition {
	for _, def := range []*definition{m.status(p.absent), m.disconnected} {
		if def != nil && !slices.Contains(def.HiddenFrom, a) {
			return def
		}
	}
	for i := range m.statuses {
		if def := &m.statuses[i]; def.Class == ClassOffline && !slices.Contains(def.HiddenFrom, a) {
			return def
		}
	}
	return nil
}

func show[T any](shown, field fieldSet, dst *T, value T) {
	if shown&field != 0 {
		*dst = value
	}
}

// mayReveal reports whether an act of a subject, such as typing or reading, may be
// shown to an audience: not while the subject is hidden from it. A message that the
// subject sends needs no asking, since it discloses itself.
func (m *Machine) mayReveal(p *Presence, a Audience) bool {
	return p.Known && !p.Disabled && !slices.Contains(p.HiddenFrom, a)
}

// Explain returns sentences why a subject has the status that an audience sees,
// from the same inputs as the status itself. It reveals no more than the view of the
// audience shows. Only self and admins get the inputs: connections, claims, work.
func (m *Machine) Explain(s *State, a Audience) []string {
	p := s.Current
	p.Subject = s.Subject
	lines := explainView(m.View(&p, a))
	_, noted := p.note(a)
	if a != AudienceSelf && a != AudienceAdmin || noted || !p.Known {
		return lines
	}
	lines = append(lines, m.explainConns(s)...)
	lines = append(lines, m.explainClaims(s)...)
	lines = append(lines, m.explainWork(s)...)
	if len(p.HiddenFrom) > 0 {
		lines = append(lines, "hidden from: "+strings.Join(wordsOf(p.HiddenFrom), ", "))
	}
	if s.LeaseFloor > s.Now {
		lines = append(lines, fmt.Sprintf("leases are extended to %s after a standstill", s.LeaseFloor))
	}
	if at, ok := m.Next(s); ok {
		lines = append(lines, fmt.Sprintf("next deadline %s", at))
	}
	return lines
}

// explainView describes a view.
func explainView(v View) []string {
	head := v.Status
	if v.Cause != "" {
		head += ": " + causeText[v.Cause]
	}
	lines := []string{head}
	for _, field := range []struct{ before, value string }{
		{"since ", v.Since.String()}, {"masked: ", v.Masked}, {"set at ", v.SetAt.String()}, {"until ", v.Until.String()},
		{"reason: ", v.Reason}, {"last seen ", v.LastSeen.String()},
	} {
		if field.value != "" {
			lines = append(lines, field.before+field.value)
		}
	}
	return lines
}

// explainConns describes the connections and until when each counts.
func (m *Machine) explainConns(s *State) (lines []string) {
	live, all := 0, len(s.Conns)
	for _, c := range s.Conns {
		switch {
		case c.ID == restartConn:
			all--
			lines = append(lines, fmt.Sprintf("the connections from before a restart at %s count until %s", c.Left, m.graceEnd(s, &c)))
		case c.Left != 0:
			lines = append(lines, fmt.Sprintf("connection %s left (%s) at %s, counts until %s", c.ID, c.Cause, c.Left, m.graceEnd(s, &c)))
		default:
			live++
			lines = append(lines, fmt.Sprintf("connection %s heard at %s, last input at %s", c.ID, c.Heard, max(c.Input, c.ActedAt)))
		}
	}
	if top := m.ceiling(s); top != nil {
		lines = append(lines, "only devices are connected that show no more than "+top.ID)
	}
	return slices.Insert(lines, 0, fmt.Sprintf("%d of %d connections live", live, all))
}

// explainClaims describes the claims, the highest first.
func (m *Machine) explainClaims(s *State) (lines []string) {
	for _, c := range slices.SortedFunc(slices.Values(s.Claims), func(x, y Claim) int {
		return cmp.Or(m.rankOf(x.Source)-m.rankOf(y.Source), cmp.Compare(y.SetAt, x.SetAt), cmp.Compare(y.Serial, x.Serial))
	}) {
		var text strings.Builder
		fmt.Fprintf(&text, "claim %s (%s) set by %s at %s", c.Status, c.Source, cmp.Or(c.By, "nobody"), c.SetAt)
		if c.Conn != "" {
			text.WriteString(" on connection " + c.Conn)
		}
		if until := m.endOf(s, &c); until != 0 {
			text.WriteString(", until " + until.String())
		}
		for i, o := range c.Over {
			text.WriteString([]string{", over ", " and "}[min(i, 1)] + o[0] + " " + o[1])
		}
		lines = append(lines, text.String())
	}
	return lines
}

// explainWork describes the work, the requests and the challenge of a subject.
func (m *Machine) explainWork(s *State) (lines []string) {
	w := s.Work
	if w == nil {
		return nil
	}
	for _, l := range w.Loads {
		room, bounded := m.room(w, &l)
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
		lines = append(lines, w.Pending.Status+" follows when the work is done")
	}
	for _, r := range w.Requests {
		lines = append(lines, fmt.Sprintf("asked for %s at %s", r.Claim.Status, r.At))
	}
	if w.Challenge != "" {
		lines = append(lines, fmt.Sprintf("asked to answer before %s", w.Deadline))
	}
	if w.Settles > s.Now {
		lines = append(lines, fmt.Sprintf("given no new work before %s, until the connection has proved steady", w.Settles))
	}
	if w.WrapsUp > s.Now {
		lines = append(lines, fmt.Sprintf("given no new work before %s, to wrap up what has ended", w.WrapsUp))
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

// union returns a list with the elements of both, sorted. It changes neither.
func union(a, b []Audience) []Audience {
	if len(b) == 0 {
		return a
	}
	list := slices.Concat(a, b)
	slices.Sort(list)
	return slices.Compact(list)
}
