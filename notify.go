package presence

import (
	"context"
	"encoding/json"
	"slices"
)

// Verdict is what the gate says about a notification.
type Verdict string

// The verdicts. An empty one in a policy means Deliver.
const (
	Deliver Verdict = "deliver"
	Skip    Verdict = "skip"  // not now and not later
	Defer   Verdict = "defer" // ask again when the subject is idle or has left, unless it was read
)

// Decision is the gate's verdict and why.
type Decision struct {
	Verdict Verdict `json:"verdict"`
	Kind    string  `json:"kind"`
	// Column is the state of the receiver that decided: here, available, away,
	// busy, dnd, disconnected; empty for a kind the policy does not gate.
	Column string `json:"column,omitzero"`
	Reason string `json:"reason"`
	Gated  bool   `json:"gated"` // the policy has a row for this kind; without one all is delivered
}

// Notification is something to be told to a subject outside the application.
type Notification struct {
	ID      string          `json:"id"`      // the caller's; notifiers pass it on as idempotency key
	Subject Ref             `json:"subject"` // the receiver
	Kind    string          `json:"kind"`    // push, mobile, inapp, email, call, or one of the policy's own
	Channel string          `json:"channel,omitzero"`
	Payload json.RawMessage `json:"payload,omitempty"`
	At      Instant         `json:"at"` // when the tracker handed it on; set by it
}

// Notifier delivers notifications: a push service, a webhook, a test.
type Notifier interface {
	// Notify delivers one notification. It may block until ctx is done, is called
	// concurrently within the tracker's bound, and must not keep n's payload. It
	// is not called again for the same notification: retrying is its own affair,
	// under n.ID as the idempotency key.
	Notify(ctx context.Context, n Notification) error
}

var gateColumns = []string{"here", "available", "away", "busy", "dnd", "disconnected"}

func (g *GateRow) column(name string) *Verdict {
	return [...]*Verdict{&g.Here, &g.Available, &g.Away, &g.Busy, &g.DND, &g.Disconnected}[slices.Index(gateColumns, name)]
}

// Gate decides whether a notification is delivered to a subject now. The channel
// of the notification is the one that it concerns: the subject may be looking at
// it. The decision can reveal a hidden subject: keep it from senders.
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
	d.Column = m.gateColumn(s, n.Channel)
	d.Verdict = *row.column(d.Column)
	p := &s.Current
	d.Reason = "the subject is " + p.Status + ": " + causeText[p.Cause]
	if d.Column == string(ClassDND) && p.Masked != "" {
		d.Reason = "the subject chose " + p.Masked
	}
	return d
}

func (m *Machine) gateColumn(s *State, channel string) string {
	p := &s.Current
	def, _, _ := m.base(s)
	switch {
	case def.Class == ClassDND:
		return "dnd"
	case p.Reach < ReachLingering:
		return "disconnected"
	case p.Class == ClassAway || p.Class == ClassOffline || p.Cause == CauseIdle:
		return "away"
	case p.Class == ClassDND:
		return "dnd"
	case p.Class == ClassBusy:
		return "busy"
	}
	for i := range s.Conns {
		if c := &s.Conns[i]; channel != "" && c.Left == 0 && !c.Hidden && c.Focus == channel {
			return "here"
		}
	}
	return "available"
}
