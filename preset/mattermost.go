package preset

import (
	"time"

	"github.com/presence-go/presence"
)

// Mattermost is the policy of Mattermost: online becomes away after five idle
// minutes, and do not disturb has an end. A choice shows with and without a
// connection. The host claims out of office with the source "ooo". Invisible is
// its "offline" chosen by hand.
//
// Unlike the original, a choice that ends without a connection shows offline,
// connecting is not input, and an extended do not disturb ends in the status
// before the first.
func Mattermost() presence.Policy {
	p := common("mattermost")
	p.Statuses = []presence.Status{
		{ID: "online", Label: "Online", Color: "#3db887", Class: presence.ClassAvailable},
		{ID: "away", Label: "Away", Color: "#ffbc1f", Class: presence.ClassAway},
		{ID: "dnd", Label: "Do not disturb", Color: "#d24b4e", Class: presence.ClassDND},
		{ID: "ooo", Label: "Out of office", Color: "#8a8f98", Class: presence.ClassDND, SelectableBy: []string{presence.BySystem}},
		invisible("Offline"),
		offline("Offline"),
	}
	p.Default, p.Disconnected = "online", "offline"
	p.Sources = [][]presence.Source{
		{presence.SourceSystem}, {presence.SourceCall}, {"ooo"}, {presence.SourceSupervisor, presence.SourceManual},
		{presence.SourceCalendar}, {presence.SourceApp}, {presence.SourceLoginDefault},
	}
	p.DisconnectProof = []presence.Source{presence.SourceManual, presence.SourceSupervisor, "ooo"}
	p.Heartbeat, p.Lease = 60*time.Second, 100*time.Second
	p.Grace = presence.Grace{Close: 500 * time.Millisecond}
	p.Idle = []presence.IdleStage{{After: 5 * time.Minute, To: "away", On: []string{"online"}}}
	p.Gate = map[string]presence.GateRow{"push": {
		Here: presence.Skip, Available: presence.Deliver, Away: presence.Deliver, Busy: presence.Deliver, DND: presence.Skip, Disconnected: presence.Deliver,
	}}
	return p
}
