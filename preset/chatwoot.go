package preset

import (
	"time"

	"github.com/presence-go/presence"
)

// Chatwoot is the policy of Chatwoot: agents choose online, busy or offline,
// and an agent not heard of for a minute is offline. For agents that must stay
// online, the host sets a claim with the source "always". New conversations are
// given to agents that are online.
func Chatwoot() presence.Policy {
	p := common("chatwoot")
	p.Statuses = []presence.Status{
		{ID: "online", Label: "Online", Color: "#44ce4b", Class: presence.ClassAvailable},
		{ID: "busy", Label: "Busy", Color: "#ffc532", Class: presence.ClassBusy},
		{ID: "offline", Label: "Offline", Color: "#8a8f98", Class: presence.ClassOffline},
	}
	p.Default, p.Disconnected = "online", "offline"
	p.Sources = [][]presence.Source{
		{presence.SourceSystem}, {presence.SourceCall}, {presence.SourceSupervisor, presence.SourceManual, "always"},
		{presence.SourceCalendar}, {presence.SourceApp}, {presence.SourceLoginDefault},
	}
	p.DisconnectProof = []presence.Source{"always"}
	p.Heartbeat, p.Lease = 20*time.Second, 60*time.Second
	p.Grace = presence.Grace{Close: 60 * time.Second, Node: 60 * time.Second, Drain: 60 * time.Second}
	p.Work.Order = presence.OrderRoundRobin
	return p
}
