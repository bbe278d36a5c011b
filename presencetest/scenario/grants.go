package scenario

import (
	"cmp"
	"maps"
	"slices"

	"github.com/presence-go/presence"
)

// grants holds which subjects belong to which channels. A subject is granted a
// channel or an inbox. A channel is linked to one inbox. Its members are the
// subjects with a grant of either.
type grants struct {
	granted map[presence.Ref]map[presence.Ref]bool // by what is granted, the subjects
	link    map[presence.Ref]presence.Ref          // by channel, what it is linked to
	linked  map[presence.Ref]map[presence.Ref]bool // by what they are linked to, the channels
}

func newGrants() *grants {
	return &grants{
		granted: make(map[presence.Ref]map[presence.Ref]bool),
		link:    make(map[presence.Ref]presence.Ref),
		linked:  make(map[presence.Ref]map[presence.Ref]bool),
	}
}

// grant gives a subject a grant of to.
func (g *grants) grant(subject, to presence.Ref) { addTo(g.granted, to, subject) }

// revoke takes it away.
func (g *grants) revoke(subject, to presence.Ref) { delete(g.granted[to], subject) }

// linkTo makes the subjects with a grant of to members of a channel, in place of
// those of what the channel was linked to before.
func (g *grants) linkTo(channel, to presence.Ref) {
	delete(g.linked[g.link[channel]], channel)
	g.link[channel] = to
	addTo(g.linked, to, channel)
}

// may reports whether a subject belongs to a channel.
func (g *grants) may(subject, channel presence.Ref) bool {
	to, linked := g.link[channel]
	return g.granted[channel][subject] || linked && g.granted[to][subject]
}

// members returns the members of a channel in order.
func (g *grants) members(channel presence.Ref) []presence.Ref {
	members := slices.Collect(maps.Keys(g.granted[channel]))
	if to, linked := g.link[channel]; linked {
		members = slices.AppendSeq(members, maps.Keys(g.granted[to]))
	}
	return sorted(members)
}

// channels returns the channels that a grant of to makes a member of, to itself
// among them, in order.
func (g *grants) channels(to presence.Ref) []presence.Ref {
	return sorted(append(slices.Collect(maps.Keys(g.linked[to])), to))
}

func addTo(sets map[presence.Ref]map[presence.Ref]bool, key, value presence.Ref) {
	if sets[key] == nil {
		sets[key] = make(map[presence.Ref]bool)
	}
	sets[key][value] = true
}

// sorted returns a list sorted and without duplicates.
func sorted(list []presence.Ref) []presence.Ref {
	slices.SortFunc(list, func(a, b presence.Ref) int {
		return cmp.Or(cmp.Compare(a.Tenant, b.Tenant), cmp.Compare(a.ID, b.ID))
	})
	return slices.Compact(list)
}
