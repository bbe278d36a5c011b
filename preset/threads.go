package preset

import "github.com/presence-go/presence"

// Threads is the policy of the agent status widget of a threads and queues
// product. An agent logs in as not ready, becomes active, and takes breaks,
// with a status for each reason. A supervisor may change the status of every
// agent that is not offline. Only the system kicks an agent out.
func Threads() presence.Policy {
	p := common("threads")
	reason := func(id, label string) presence.Status {
		return presence.Status{ID: id, Label: label, Color: "#e0a100", Class: presence.ClassAway, DrainsFirst: true, Omits: []string{"threads"}}
	}
	p.Statuses = []presence.Status{
		{ID: "active", Label: "Active", Color: "#2e9e5b", Class: presence.ClassAvailable, Omits: []string{"since"}},
		reason("lunch", "Lunch break"),
		reason("short", "Short break"),
		reason("training", "Training"),
		reason("meeting", "Meeting"),
		reason("technical", "Technical break"),
		{ID: "not-ready", Label: "Not ready", Color: "#7c8798", Class: presence.ClassAway, Omits: []string{"threads"}},
		{ID: "kicked-out", Label: "Inactive (kicked out)", Color: "#d04437", Class: presence.ClassAway, SelectableBy: []string{presence.BySystem}, Omits: []string{"threads"}},
		{ID: "offline", Label: "Offline", Color: "#8a8f98", Class: presence.ClassOffline, SelectableBy: []string{presence.ByNobody}, Omits: []string{"threads"}},
	}
	p.Default, p.Disconnected = "active", "offline"
	p.Login = presence.LoginRule{Mode: presence.LoginReset, Status: "not-ready"}
	p.SupervisorWhenOffline = presence.OfflineRefuse
	p.Work = presence.WorkRule{KickedOut: "kicked-out"}
	p.Views = map[presence.Audience][]string{
		presence.AudienceTeam: {"since", "reason", "text", "lastSeen", "lastLogin", "work", "threads", "pinned", "pending"},
	}
	return p
}
