package presence

import (
	"context"
	"encoding/json"
	"slices"
)

// Verdict is the answer of the gate to a notification.
type Verdict string

// The verdicts. An empty one in a policy means Deliver.
const (
	Deliver Verdict = "deliver"
	Skip    Verdict = "skip"  // deliver neither now nor later
	Defer   Verdict = "defer" // ask again when the subject is idle or has left, unless it read the message
)

// stricter reports whether v holds back more than o: skip more than defer, and
// defer more than deliver.
func (v Verdict) stricter(o Verdict) bool {
	order := []Verdict{Deliver, Defer, Skip}
	return slices.Index(order, v) > slices.Index(order, o)
}

// Decision is the verdict of the gate with its reason.
type Decision struct {
	Verdict Verdict `json:"verdict"`
	Kind    string  `json:"kind"`
	// Column is the state of the receiver that decided: here, available, away,
	// busy, dnd or disconnected. It is empty for a kind that the policy does not gate.
	Column string `json:"column,omitzero"`
	Reason string `json:"reason"`
	Gated  bool   `json:"gated"` // the policy has a row for this kind; without a row the verdict is Deliver
}

// Notification is a message for a subject that may not be looking at the application.
type Notification struct {
	ID      string          `json:"id"`      // of the caller; notifiers use it as idempotency key
	Subject Ref             `json:"subject"` // the receiver
	Kind    string          `json:"kind"`    // push, mobile, inapp, email, call, or a kind of the policy
	Channel string          `json:"channel,omitzero"`
	Payload json.RawMessage `json:"payload,omitempty"`
	At      Instant         `json:"at"` // when the tracker passed it to the notifier; set by the tracker
}

// Notifier delivers notifications, such as a client of a push service.
type Notifier interface {
	// Notify delivers one notification. It may block until ctx is done, at most 10s.
	// It may be called concurrently, [Options].NotifyWorkers times. It must not keep
	// the payload. The tracker logs an error and does not call again: a notifier
	// retries by itself, with n.ID as idempotency key.
	Notify(ctx context.Context, n Notification) error
}

// gateHere is the column of a subject that looks at the channel.
const gateHere = "here"

var gateColumns = []string{gateHere, "available", "away", "busy", "dnd", "disconnected"}

func (g *GateRow) column(name string) *Verdict {
	return [...]*Verdict{&g.Here, &g.Available, &g.Away, &g.Busy, &g.DND, &g.Disconnected}[slices.Index(gateColumns, name)]
}

// Gate decides whether a notification is delivered to a subject at s.Now. Step s
// with a tick first, since a look at a channel ends by time. The channel of the
// notification is the one that it concerns: the subject may be looking at it. The
// decision can reveal a hidden subject: keep it from senders.
func (m *Machine) Gate(s *State, n Notification) Decision {
	row, gated := m.policy.Gate[n.Kind]
	d := Decision{Verdict: Deliver, Kind: n.Kind, Gated: gated}
	switch {
	case !gated:
		d.Reason = "the policy does not gate this kind"
		return d
	case !s.Current.Known:
		d.Verdict, d.Reason = Skip, "nothing is known of the subject"
		return d
	case m.policy.Disabled:
		d.Reason = "presence is switched off and decides nothing"
		return d
	}
	p := &s.Current
	d.Reason = "the subject is " + p.Status + ": " + causeText[p.Cause]
	d.Column = m.gateColumn(s)
	for def := range m.voices(s) {
		if def.Class == ClassDND {
			d.Column = string(ClassDND)
			if def.ID != p.Status {
				d.Reason = "the subject chose " + def.ID
			}
			break
		}
	}
	sees := d.Column == string(ClassAvailable) || d.Column == string(ClassBusy) && row.Here.stricter(row.Busy)
	if sees && m.looksAt(s, n.Channel) {
		d.Column = gateHere
		d.Reason += "; it looks at the channel"
	}
	d.Verdict = *row.column(d.Column)
	return d
}

// gateColumn returns the column of the status shown.
func (m *Machine) gateColumn(s *State) string {
	p := &s.Current
	switch {
	case p.Reach < ReachLingering:
		return "disconnected"
	case p.Class == ClassAway || p.Class == ClassOffline || p.Cause == CauseIdle:
		return "away"
	case p.Class == ClassDND:
		return "dnd"
	case p.Class == ClassBusy:
		return "busy"
	}
	return "available"
}

// looksAt reports whether the person looks at a channel: over a live and visible
// connection whose own last sign of a person is younger than Policy.GateHere. The
// focus of an unattended device is not a look.
func (m *Machine) looksAt(s *State, channel string) bool {
	return channel != "" && slices.ContainsFunc(s.Conns, func(c ConnState) bool {
		return c.Left == 0 && !c.Hidden && c.Focus == channel && s.Now.Sub(max(c.Input, c.Looked)) < m.gateHere
	})
}
