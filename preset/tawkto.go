package preset

import "github.com/presence-go/presence"

// TawkTo is the policy of tawk.to's online, away and invisible: every login
// sets online, each device has its own choice, and the most available of them
// counts. The team sees the status invisible, while visitors see a subject that
// left. claimScope=subject gives the reading in which a choice is the
// account's.
func TawkTo() presence.Policy {
	p := common("tawkto")
	p.Statuses = []presence.Status{
		{ID: "online", Label: "Online", Color: "#2e9e5b", Class: presence.ClassAvailable},
		{ID: "away", Label: "Away", Color: "#e0a100", Class: presence.ClassAway},
		{
			ID: "invisible", Label: "Invisible", Color: "#6b7280", Class: presence.ClassAvailable, Routing: presence.RouteNone,
			HiddenFrom: []presence.Audience{presence.AudienceVisitor},
		},
		{ID: "offline", Label: "Offline", Color: "#8a8f98", Class: presence.ClassOffline, SelectableBy: []string{presence.ByNobody}},
	}
	p.Default, p.Disconnected = "online", "offline"
	p.Login = presence.LoginRule{Mode: presence.LoginReset, Status: "online"}
	p.ClaimScope = presence.ScopeConnection
	p.Fold = []string{"online", "away", "invisible"}
	// Visitors get the fields that could distinguish hiding from leaving. The test
	// checks that they do not.
	p.Views = map[presence.Audience][]string{presence.AudienceVisitor: {"since", "cause", "lastSeen"}}
	return p
}
