// Package preset has the policies of products whose presence rules are known,
// each in a file of its own, ready to be used or changed.
package preset

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/presence-go/presence"
)

var all = map[string]func() presence.Policy{
	"default":    presence.DefaultPolicy,
	"thrivedesk": ThriveDesk,
	"onportal":   ONPortal,
	"respondio":  RespondIO,
	"threads":    Threads,
	"tawkto":     TawkTo,

	"chatwoot":   Chatwoot,
	"discord":    Discord,
	"matrix":     Matrix,
	"mattermost": Mattermost,
	"rocketchat": RocketChat,
	"slack":      Slack,
	"teams":      Teams,
	"xmpp":       XMPP,
	"zulip":      Zulip,
}

// Names returns the names of the presets in alphabetical order.
func Names() []string { return slices.Sorted(maps.Keys(all)) }

// Lookup returns the preset of a name.
func Lookup(name string) (presence.Policy, bool) {
	if make := all[name]; make != nil {
		return make(), true
	}
	return presence.Policy{}, false
}

// Parse reads a policy from JSON in which "extends" may name a preset. See
// [presence.ParsePolicy].
func Parse(data []byte) (p presence.Policy, warnings []string, err error) {
	missing := false
	p, warnings, err = presence.ParsePolicy(data, func(name string) (presence.Policy, bool) {
		p, ok := Lookup(name)
		missing = !ok
		return p, ok
	})
	if missing {
		err = fmt.Errorf("%w; want one of %s", err, strings.Join(Names(), ", "))
	}
	return p, warnings, err
}

// common is what the presets have in common: the heartbeat, the lease, and the
// graces of a product that says nothing about them.
func common(name string) presence.Policy {
	p := presence.DefaultPolicy()
	p.Name, p.Statuses, p.Default, p.Disconnected = name, nil, "", ""
	p.Idle, p.Gate = nil, nil
	return p
}

// inactivity is the time without input after which products that name no other
// one take a person for inactive.
const inactivity = 10 * time.Minute

// resumption is for how long a stream that broke can be taken up again.
const resumption = time.Minute

// offline is the status of those who are not there, which nobody can choose.
func offline(label string) presence.Status {
	return presence.Status{ID: "offline", Label: label, Color: "#8a8f98", Class: presence.ClassOffline, SelectableBy: []string{presence.ByNobody}}
}

// invisible is the status of those who are there and seem not to be, to
// everybody but themselves and admins.
func invisible(label string) presence.Status {
	return presence.Status{
		ID: "invisible", Label: label, Color: "#8a8f98", Class: presence.ClassAvailable, Routing: presence.RouteNone,
		HiddenFrom: []presence.Audience{presence.AudienceTeam, presence.AudienceSupervisor, presence.AudienceVisitor, presence.AudienceRouter},
	}
}

// elsewhere is the gate of those who are told on another device only once they
// no longer look at this one.
var elsewhere = presence.GateRow{
	Here: presence.Skip, Available: presence.Defer, Away: presence.Deliver, Busy: presence.Deliver, DND: presence.Skip, Disconnected: presence.Deliver,
}
