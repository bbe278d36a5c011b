package preset

import (
	"time"

	"github.com/presence-go/presence"
)

// Zulip is the policy of Zulip: away cannot be chosen. A subject without input
// for five minutes is idle, and one that missed three pings is offline. A
// subject may be invisible. Notifications wait until the subject stops reading.
func Zulip() presence.Policy {
	p := common("zulip")
	p.Statuses = []presence.Status{
		{ID: "active", Label: "Active", Color: "#44c21d", Class: presence.ClassAvailable},
		{ID: "idle", Label: "Idle", Color: "#ffb84d", Class: presence.ClassAway, SelectableBy: []string{presence.ByNobody}},
		invisible("Invisible"),
		offline("Offline"),
	}
	p.Default, p.Disconnected = "active", "offline"
	p.Heartbeat, p.Lease = time.Minute, 200*time.Second
	p.Grace.Loss = 0
	p.Idle = []presence.IdleStage{{After: 5 * time.Minute, To: "idle", On: []string{"active"}}}
	p.Gate = map[string]presence.GateRow{"push": elsewhere, "email": elsewhere}
	return p
}
