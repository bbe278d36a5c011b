package naive

import (
	"slices"
	"time"

	"github.com/presence-go/presence"
)

// fields has the fields that an audience sees by default, beside status, class, label
// and colour. Devices are in no list.
var fields = map[presence.Audience][]string{
	presence.AudienceTeam:    {"since", "reason", "text"},
	presence.AudienceVisitor: {},
	presence.AudienceRouter:  {"since", "routable", "routableOn", "work", "threads"},
}

// sees reports whether an audience sees a field of a subject with a status.
func sees(p *presence.Policy, a presence.Audience, s *presence.Status, field string) bool {
	if a != presence.AudienceSelf && a != presence.AudienceAdmin && s != nil && slices.Contains(s.Omits, field) {
		return false
	}
	if list, ok := p.Views[a]; ok {
		return slices.Contains(list, field)
	}
	list, ok := fields[a]
	return !ok && field != "devices" || slices.Contains(list, field) // self, supervisors and admins see all others
}

// Hides reports whether a policy of the model lets a subject hide from an audience.
func (n *Model) Hides(a presence.Audience) bool {
	return slices.ContainsFunc(n.Policies, func(p presence.Policy) bool {
		return slices.Contains(p.Hideable, a) || slices.ContainsFunc(p.Statuses, func(s presence.Status) bool { return slices.Contains(s.HiddenFrom, a) })
	})
}

// View returns what an audience from which nothing is hidden sees at an instant after
// all past events. since is when the status began.
func (n *Model) View(a presence.Audience, since, at presence.Instant) presence.View {
	l := n.lookAt(at)
	x := l.answer()
	v := presence.View{Subject: n.Subject, Status: presence.StatusUnknown}
	switch {
	case !x.Known:
		return v
	case x.Disabled:
		if a == presence.AudienceSelf || a == presence.AudienceAdmin {
			v.Status = presence.StatusDisabled
		}
		return v
	}
	def := StatusOf(l.p, x.Status)
	v.Status, v.Class, v.Label, v.Color = x.Status, def.Class, def.Label, def.Color
	if x.Kind != presence.KindHuman {
		v.Kind = x.Kind
	}
	for field, set := range map[string]func(){
		"since": func() { v.Since = since }, "setAt": func() { v.SetAt = x.SetAt }, "until": func() { v.Until = x.Until },
		"reason": func() { v.Reason = x.Reason }, "text": func() { v.Text = x.Text },
		"masked": func() { v.Masked = x.Masked }, "lastSeen": func() { v.LastSeen = x.LastSeen }, "lastLogin": func() { v.LastLogin = x.LastLogin },
		"routable": func() { v.Routable = x.Routable }, "routableOn": func() { v.RoutableOn = x.RoutableOn },
		"devices": func() { v.Devices = len(l.there) }, "work": func() { v.Work = x.Label }, "threads": func() { v.Load = x.Load },
		"pinned": func() { v.Pinned = x.Pinned }, "pending": func() { v.Pending = x.Pending }, "request": func() { v.Request = x.Request },
		"cause": func() {
			if a != presence.AudienceVisitor { // strangers do not see why
				v.Cause = x.Cause
			}
		},
	} {
		if sees(l.p, a, def, field) {
			set()
		}
	}
	return v
}

// Gate returns the verdict on a notification at an instant after all past events, and
// the column that gives it. The column is empty if none does.
func (n *Model) Gate(kind, channel string, at presence.Instant) (v presence.Verdict, column string) {
	l := n.lookAt(at)
	row, gated := l.p.Gate[kind]
	switch {
	case !gated:
		return presence.Deliver, ""
	case !l.known():
		return presence.Skip, ""
	case l.p.Disabled:
		return presence.Deliver, ""
	}
	column = l.column()
	verdict := map[string]presence.Verdict{
		"here": row.Here, "available": row.Available, "away": row.Away, "busy": row.Busy, "dnd": row.DND, "disconnected": row.Disconnected,
	}
	if l.looksAt(channel) {
		holds := []presence.Verdict{presence.Deliver, presence.Defer, presence.Skip}
		stricter := slices.Index(holds, verdict["here"]) > slices.Index(holds, verdict["busy"])
		if column == "available" || column == "busy" && stricter {
			column = "here"
		}
	}
	return verdict[column], column
}

// column returns the column of the gate, whatever the subject looks at.
func (l *look) column() string {
	dnd := slices.ContainsFunc(l.voices(), func(v vote) bool { return StatusOf(l.p, v.status).Class == presence.ClassDND })
	x := l.answer()
	switch {
	case dnd:
		return "dnd"
	case x.Reach == presence.ReachNone || x.Reach == presence.ReachVirtual:
		return "disconnected"
	case x.Cause == presence.CauseIdle || x.Class == presence.ClassAway || x.Class == presence.ClassOffline:
		return "away"
	case x.Class == presence.ClassDND || x.Class == presence.ClassBusy:
		return string(x.Class)
	}
	return "available"
}

// looksAt reports whether the person has a channel before them: on a live, visible
// connection over which a sign of a person was young enough.
func (l *look) looksAt(channel string) bool {
	within := l.p.GateHere
	if within == 0 {
		within = time.Minute
	}
	return channel != "" && slices.ContainsFunc(l.there, func(c stay) bool {
		return c.left == 0 && !c.hidden && c.focus == channel && l.w.at.Sub(max(c.input, c.looked)) < within
	})
}
