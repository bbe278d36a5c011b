package preset

import (
	"time"

	"github.com/presence-go/presence"
)

// Slack is the policy of Slack: a subject is active or away, and away without a
// connection. Active becomes away after ten idle minutes. Do not disturb defers
// notifications. Others see only the status.
func Slack() presence.Policy {
	p := common("slack")
	p.Statuses = []presence.Status{
		{ID: "active", Label: "Active", Color: "#2bac76", Class: presence.ClassAvailable},
		{ID: "away", Label: "Away", Color: "#ffffff", Class: presence.ClassAway},
		{ID: "dnd", Label: "Notifications paused", Color: "#2bac76", Class: presence.ClassDND, For: time.Hour},
	}
	p.Default, p.Disconnected = "active", "away"
	p.Idle = []presence.IdleStage{{After: inactivity, To: "away", On: []string{"active"}}}
	p.Views = map[presence.Audience][]string{presence.AudienceTeam: {"text", "until"}}
	p.Gate = map[string]presence.GateRow{"push": elsewhere}
	return p
}
