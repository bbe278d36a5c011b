package preset

import (
	"time"

	"github.com/presence-go/presence"
)

// Teams is the policy of Microsoft Teams: what somebody prefers stands above
// what the sessions of applications say, which a system claims for its
// connection with an end; of those, do not disturb wins over busy over available
// over away. Even available can be preferred, and then nothing below shows.
// Preferences end by themselves: do not disturb and busy after a day, the others
// after a week. Available fades in two stages.
//
// Different from the original, an application's session that has ended counts
// for nothing, and not as offline.
func Teams() presence.Policy {
	const day, week = 24 * time.Hour, 7 * 24 * time.Hour
	p := common("teams")
	p.Statuses = []presence.Status{
		{ID: "available", Label: "Available", Color: "#6bb700", Class: presence.ClassAvailable, For: week},
		{ID: "inactive", Label: "Available, inactive", Color: "#6bb700", Class: presence.ClassAvailable, SelectableBy: []string{presence.ByNobody}},
		{ID: "busy", Label: "Busy", Color: "#c4314b", Class: presence.ClassBusy, For: day},
		{ID: "brb", Label: "Be right back", Color: "#ffaa44", Class: presence.ClassAway, For: week},
		{ID: "away", Label: "Away", Color: "#ffaa44", Class: presence.ClassAway, For: week},
		{ID: "dnd", Label: "Do not disturb", Color: "#c4314b", Class: presence.ClassDND, For: day},
		invisible("Appear offline"),
		offline("Offline"),
	}
	p.Default, p.Disconnected = "available", "offline"
	p.KeepExplicit = true
	p.Sources = [][]presence.Source{
		{presence.SourceSystem}, {presence.SourceSupervisor, presence.SourceManual}, {presence.SourceCall},
		{presence.SourceApp}, {presence.SourceCalendar}, {presence.SourceLoginDefault},
	}
	p.Fold = []string{"dnd", "busy", "available", "brb", "away"}
	p.Lease = 5 * time.Minute
	p.Idle = []presence.IdleStage{
		{After: 5 * time.Minute, To: "inactive", On: []string{"available"}},
		{After: 10 * time.Minute, To: "away", On: []string{"available"}},
	}
	return p
}
