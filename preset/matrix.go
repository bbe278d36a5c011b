package preset

import (
	"time"

	"github.com/presence-go/presence"
)

// Matrix is the policy of Matrix as Synapse implements it: every device sends
// its status, and busy wins over online and unavailable. A busy device counts for
// an hour after it was last connected. Five idle minutes make online unavailable.
//
// Unlike the original, busy is a choice of its own that no sync can clear, and
// the acts of an offline subject do not show.
func Matrix() presence.Policy {
	p := common("matrix")
	p.Statuses = []presence.Status{
		{ID: "online", Label: "Online", Color: "#0dbd8b", Class: presence.ClassAvailable},
		{ID: "busy", Label: "Busy", Color: "#d24b4e", Class: presence.ClassBusy, Keeps: time.Hour},
		{ID: "unavailable", Label: "Away", Color: "#d9b072", Class: presence.ClassAway},
		invisible("Offline"),
		offline("Offline"),
	}
	p.Default, p.Disconnected = "online", "offline"
	p.ClaimScope = presence.ScopeConnection
	p.Fold = []string{"busy", "online", "unavailable", "invisible"}
	p.Heartbeat, p.Lease = 20*time.Second, 30*time.Second
	p.Grace = presence.Grace{Close: 10 * time.Second, Loss: 10 * time.Second, Node: 10 * time.Second, Drain: 30 * time.Second}
	p.Idle = []presence.IdleStage{{After: 5 * time.Minute, To: "unavailable", On: []string{"online"}}}
	return p
}
