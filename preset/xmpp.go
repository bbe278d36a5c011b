package preset

import "github.com/presence-go/presence"

// XMPP is the policy of XMPP: every resource shows the status of its client,
// and the most available of them counts for the subject. Clients send their own
// idle statuses. A broken stream lingers for the time in which it can be
// resumed.
func XMPP() presence.Policy {
	p := common("xmpp")
	p.Statuses = []presence.Status{
		{ID: "available", Label: "Available", Color: "#2e9e5b", Class: presence.ClassAvailable},
		{ID: "chat", Label: "Free for chat", Color: "#2e9e5b", Class: presence.ClassAvailable},
		{ID: "away", Label: "Away", Color: "#e0a100", Class: presence.ClassAway},
		{ID: "xa", Label: "Not available", Color: "#b07c00", Class: presence.ClassAway},
		{ID: "dnd", Label: "Do not disturb", Color: "#d04437", Class: presence.ClassDND},
		invisible("Invisible"),
		{ID: "unavailable", Label: "Offline", Color: "#8a8f98", Class: presence.ClassOffline, SelectableBy: []string{presence.ByNobody}},
	}
	p.Default, p.Disconnected = "available", "unavailable"
	p.ClaimScope = presence.ScopeConnection
	p.Fold = []string{"chat", "available", "dnd", "away", "xa", "invisible"}
	p.Grace.Close, p.Grace.Loss = 0, resumption
	return p
}
