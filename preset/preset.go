// Package preset has the policies of products with known presence rules, each
// in a file of its own. Use them as they are or change them.
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

// common is the common part of the presets: the heartbeat, the lease, and the
// grace of products that do not define one.
func common(name string) presence.Policy {
	p := presence.DefaultPolicy()
	p.Name, p.Statuses, p.Default, p.Disconnected = name, nil, "", ""
	p.Idle, p.Gate = nil, nil
	return p
}

// inactivity is the time without input after which a person is inactive, for
// products that do not define one.
const inactivity = 10 * time.Minute

// resumption is how long a broken stream can be resumed.
const resumption = time.Minute

// offline is the status of disconnected subjects. A subject cannot choose it.
func offline(label string) presence.Status {
	return presence.Status{ID: "offline", Label: label, Color: "#8a8f98", Class: presence.ClassOffline, SelectableBy: []string{presence.ByNobody}}
}

// invisible is the status of connected subjects that look disconnected, except
// to themselves and to admins.
func invisible(label string) presence.Status {
	return presence.Status{
		ID: "invisible", Label: label, Color: "#8a8f98", Class: presence.ClassAvailable, Routing: presence.RouteNone,
		HiddenFrom: []presence.Audience{presence.AudienceTeam, presence.AudienceSupervisor, presence.AudienceVisitor, presence.AudienceRouter},
	}
}

// elsewhere is the gate of products that notify other devices only while the
// subject is not at this one.
var elsewhere = presence.GateRow{
	Here: presence.Skip, Available: presence.Defer, Away: presence.Deliver, Busy: presence.Deliver, DND: presence.Skip, Disconnected: presence.Deliver,
}
