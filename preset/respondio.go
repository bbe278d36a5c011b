package preset

import "github.com/presence-go/presence"

// RespondIO is the policy of respond.io's user activity status: online and busy
// are chosen and kept over logins; offline cannot be chosen. It masks either of
// them after ten minutes without interaction, connected or not, and the choice
// shows again with the next interaction.
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
