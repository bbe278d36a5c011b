package preset

import "github.com/presence-go/presence"

// ONPortal is the policy of ON Portal's presence setting: available while
// logged in, away only by choice, offline when not logged in. Idle time has no
// effect. The product does not define whether a choice survives the next login.
// Here it does; login.mode=reset gives the other reading.
func ONPortal() presence.Policy {
	p := common("onportal")
	p.Statuses = []presence.Status{
		{ID: "available", Label: "Available", Color: "#2e9e5b", Class: presence.ClassAvailable},
		{ID: "away", Label: "Away", Color: "#e0a100", Class: presence.ClassAway},
		{ID: "offline", Label: "Offline", Color: "#8a8f98", Class: presence.ClassOffline, SelectableBy: []string{presence.ByNobody}},
	}
	p.Default, p.Disconnected = "available", "offline"
	return p
}
