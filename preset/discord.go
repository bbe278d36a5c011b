package preset

import (
	"time"

	"github.com/presence-go/presence"
)

// Discord is the policy of Discord: one choice for all devices, and idle once
// all devices are idle. To others, an invisible subject looks like one that is
// not connected.
func Discord() presence.Policy {
	p := common("discord")
	p.Statuses = []presence.Status{
		{ID: "online", Label: "Online", Color: "#23a55a", Class: presence.ClassAvailable},
		{ID: "idle", Label: "Idle", Color: "#f0b232", Class: presence.ClassAway},
		{ID: "dnd", Label: "Do Not Disturb", Color: "#f23f43", Class: presence.ClassDND},
		invisible("Invisible"),
		offline("Offline"),
	}
	p.Default, p.Disconnected = "online", "offline"
	p.ClaimScope = "subject"
	p.Heartbeat, p.Lease = 41250*time.Millisecond, 90*time.Second
	p.Idle = []presence.IdleStage{{After: inactivity, To: "idle", On: []string{"online"}}}
	p.Gate = map[string]presence.GateRow{"push": elsewhere}
	return p
}
