package preset

import "github.com/presence-go/presence"

// RespondIO is the policy of respond.io's user activity status. Online and busy
// are chosen and survive logins; offline cannot be chosen. Offline masks the
// choice after ten minutes without interaction, with and without a connection.
// The choice shows again at the next interaction.
func RespondIO() presence.Policy {
	p := common("respondio")
	p.Statuses = []presence.Status{
		{ID: "online", Label: "Online", Color: "#2e9e5b", Class: presence.ClassAvailable},
		{ID: "busy", Label: "Busy", Color: "#e0a100", Class: presence.ClassBusy},
		{ID: "offline", Label: "Offline", Color: "#8a8f98", Class: presence.ClassOffline, SelectableBy: []string{presence.ByNobody}},
	}
	p.Default, p.Disconnected = "online", "offline"
	p.Idle = []presence.IdleStage{{After: inactivity, To: "offline", On: []string{"online", "busy"}}}
	return p
}
