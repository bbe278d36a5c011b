package preset

import (
	"time"

	"github.com/presence-go/presence"
)

// Teams is the policy of Microsoft Teams. What a person prefers ranks above the
// statuses of application sessions. A system claims those for its connection,
// with an end. Among them, do not disturb wins over busy over available over
// away. Available can be preferred too, and then no lower claim shows. A
// preference ends by itself: do not disturb and busy after a day, the others
// after a week. Available fades in two idle stages, unless it was preferred.
//
// Unlike the original, an ended application session has no effect, and does not
// count as offline.
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
		{After: 5 * time.Minute, To: "inactive", On: []string{"available"}, Of: presence.OfUnchosen},
		{After: 10 * time.Minute, To: "away", On: []string{"available"}, Of: presence.OfUnchosen},
	}
	return p
}
