// Package preset has the policies of products whose presence rules are known,
// each in a file of its own, ready to be used or changed.
package preset

import (
	"maps"
	"slices"
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
	return presence.ParsePolicy(data, Lookup)
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
