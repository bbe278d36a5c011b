package preset

import (
	"time"

	"github.com/presence-go/presence"
)

// RocketChat is the policy of Rocket.Chat: a call ranks above the subject's own
// choice, and that above the calendar. A subject without a connection is
// offline at once, except bots. Clients send their idle time. Invisible is its
// "offline" chosen by hand.
//
// Unlike the original, any number of claims may overlap and end in any order.
func RocketChat() presence.Policy {
	p := common("rocketchat")
	p.Statuses = []presence.Status{
		{ID: "online", Label: "Online", Color: "#2de0a5", Class: presence.ClassAvailable},
		{ID: "away", Label: "Away", Color: "#ffd21f", Class: presence.ClassAway},
		{ID: "busy", Label: "Busy", Color: "#f5455c", Class: presence.ClassBusy},
		invisible("Offline"),
		offline("Offline"),
	}
	p.Default, p.Disconnected = "online", "offline"
	p.Heartbeat, p.Lease = time.Minute, 5*time.Minute
	p.Grace = presence.Grace{}
	p.Idle = []presence.IdleStage{{After: 5 * time.Minute, To: "away", On: []string{"online"}}}
	p.Virtual = map[string]presence.VirtualRule{"bot": {Show: presence.ShowTop, Routable: true}, "service": {Show: presence.ShowTop}}
	p.Gate = map[string]presence.GateRow{"push": {
		Here: presence.Skip, Available: presence.Skip, Away: presence.Deliver, Busy: presence.Deliver, DND: presence.Skip, Disconnected: presence.Deliver,
	}}
	return p
}
