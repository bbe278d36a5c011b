package scenario

import (
	"cmp"
	"maps"
	"slices"

	"github.com/presence-go/presence"
)

// grants holds the subjects that belong to each channel. A subject has grants
// of channels and inboxes. A channel is linked to one inbox. Its members are
// the subjects with a grant of either.
type grants struct {
	granted map[presence.Channel]map[presence.Ref]bool     // subjects by granted channel or inbox
	link    map[presence.Channel]presence.Channel          // by channel, the inbox that it is linked to
	linked  map[presence.Channel]map[presence.Channel]bool // by inbox, the channels that are linked to it
}

func newGrants() *grants {
	return &grants{
		granted: make(map[presence.Channel]map[presence.Ref]bool),
		link:    make(map[presence.Channel]presence.Channel),
		linked:  make(map[presence.Channel]map[presence.Channel]bool),
	}
}

// grant adds a subject's grant of to.
func (g *grants) grant(subject presence.Ref, to presence.Channel) { addTo(g.granted, to, subject) }

// revoke removes a subject's grant of to.
func (g *grants) revoke(subject presence.Ref, to presence.Channel) { delete(g.granted[to], subject) }

// linkTo links a channel to an inbox, in place of the inbox that it was linked
// to before.
func (g *grants) linkTo(channel, to presence.Channel) {
	delete(g.linked[g.link[channel]], channel)
	g.link[channel] = to
	addTo(g.linked, to, channel)
}

// may reports whether a subject is a member of a channel.
func (g *grants) may(subject presence.Ref, channel presence.Channel) bool {
	to, linked := g.link[channel]
	return g.granted[channel][subject] || linked && g.granted[to][subject]
}

// members returns the members of a channel in order.
func (g *grants) members(channel presence.Channel) []presence.Ref {
	members := slices.Collect(maps.Keys(g.granted[channel]))
	if to, linked := g.link[channel]; linked {
		members = slices.AppendSeq(members, maps.Keys(g.granted[to]))
	}
	return sorted(members)
}

// channels returns the channels that a grant of to makes a subject a member of,
// in order: those linked to it, then to itself.
func (g *grants) channels(to presence.Channel) []presence.Channel {
	linked := slices.DeleteFunc(slices.Collect(maps.Keys(g.linked[to])), func(o presence.Channel) bool { return o == to })
	return append(sorted(linked), to)
}

func addTo[K comparable](sets map[presence.Channel]map[K]bool, key presence.Channel, value K) {
	if sets[key] == nil {
		sets[key] = make(map[K]bool)
	}
	sets[key][value] = true
}

// sorted returns a list sorted and without duplicates.
func sorted[R presence.Ref | presence.Channel](list []R) []R {
	slices.SortFunc(list, func(a, b R) int {
		x, y := presence.Ref(a), presence.Ref(b)
		return cmp.Or(cmp.Compare(x.Tenant, y.Tenant), cmp.Compare(x.ID, y.ID))
	})
	return slices.Compact(list)
}
