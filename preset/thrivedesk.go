package preset

import "github.com/presence-go/presence"

// ThriveDesk is the policy of ThriveDesk's user availability: agents are online
// or away only. An agent without a connection is away, with any choice. A
// choice survives logins. Idle time has no effect. Push and mobile
// notifications reach only agents that are shown online.
//
// A lost connection shows once its lease has ended, without a further grace,
// also if the loss was reported earlier.
func ThriveDesk() presence.Policy {
	p := common("thrivedesk")
	p.Statuses = []presence.Status{
		{ID: "online", Label: "Online", Color: "#2e9e5b", Class: presence.ClassAvailable},
		{ID: "away", Label: "Away", Color: "#e0a100", Class: presence.ClassAway},
	}
	p.Default, p.Disconnected = "online", "away"
	p.Grace.Loss, p.Grace.LossFrom = 0, presence.LossFromLease
	onlineOnly := presence.GateRow{
		Here: presence.Deliver, Available: presence.Deliver,
		Away: presence.Skip, Busy: presence.Skip, DND: presence.Skip, Disconnected: presence.Skip,
	}
	p.Gate = map[string]presence.GateRow{"push": onlineOnly, "mobile": onlineOnly}
	return p
}
