// Package routing decides who gets the next piece of work. [Rank] and
// [Candidates] are pure functions over a snapshot of a channel's members; a
// [Queue] does it live, on a tracker, and survives that its agents come, go and
// are kicked out meanwhile.
package routing

import (
	"cmp"
	"slices"

	"github.com/presence-go/presence"
)

// Member is what a choice goes by of one member of a channel.
type Member struct {
	Subject presence.Ref
	// Routing is which work reaches the member; Room is for how much more it has
	// capacity, where Bounded.
	Routing presence.Routing
	Room    int
	Bounded bool
	// Availability is the place of its status from the most to the least
	// available.
	Availability int
	Load         int              // pieces of work over all work channels
	Given        presence.Instant // when work was last given or ended; none is the longest ago
	Revision     presence.Instant // to be named in the offer
}

// MemberOf returns what a choice goes by of a subject, for one work channel.
func MemberOf(m *presence.Machine, s *presence.State, on string) Member {
	member := Member{Subject: s.Subject, Availability: m.StatusOrder(s.Current.Status), Load: s.Work.Total(), Revision: s.Current.Revision}
	member.Routing, member.Room, member.Bounded = m.Receives(s, on)
	if s.Work != nil {
		member.Given = s.Work.Given
	}
	return member
}

// takes reports whether the member may be given new work.
func (m *Member) takes() bool {
	return (m.Routing == presence.RouteAll || m.Routing == presence.RouteLast) && (!m.Bounded || m.Room > 0)
}

// receives reports whether the member may be given what already belongs to it.
func (m Member) receives() bool {
	return m.Routing == presence.RouteAll || m.Routing == presence.RouteLast || m.Routing == presence.RouteSticky
}

// Rank puts members in the order in which work should be offered to them: those
// who take it before those who do only if nobody else can, before those who do
// not; then by availability, then by the rule of the policy's [presence.WorkRule],
// then by id. For [presence.OrderRoundRobin], after is whose turn it was last.
func Rank(members []Member, order string, after presence.Ref) {
	turn := func(m *Member) int { // those after the last one come before the others
		if order == presence.OrderRoundRobin && compareRefs(m.Subject, after) <= 0 {
			return 1
		}
		return 0
	}
	slices.SortFunc(members, func(a, b Member) int {
		if c := cmp.Or(cmp.Compare(a.reluctance(), b.reluctance()), cmp.Compare(a.Availability, b.Availability)); c != 0 {
			return c
		}
		rule := 0
		switch order {
		case presence.OrderRoundRobin:
			rule = turn(&a) - turn(&b)
		case presence.OrderLongestIdle:
			rule = cmp.Compare(a.Given, b.Given)
		default:
			rule = cmp.Or(cmp.Compare(a.Load, b.Load), cmp.Compare(a.Given, b.Given))
		}
		return cmp.Or(rule, compareRefs(a.Subject, b.Subject))
	})
}

func (m *Member) reluctance() int {
	switch {
	case !m.takes():
		return 2
	case m.Routing == presence.RouteLast:
		return 1
	}
	return 0
}

// Candidates ranks members and returns those who may be given new work. There
// may be none, which is an answer.
func Candidates(members []Member, order string, after presence.Ref) []Member {
	Rank(members, order, after)
	n := slices.IndexFunc(members, func(m Member) bool { return !m.takes() })
	if n < 0 {
		n = len(members)
	}
	return members[:n]
}

func compareRefs(a, b presence.Ref) int {
	return cmp.Or(cmp.Compare(a.Tenant, b.Tenant), cmp.Compare(a.ID, b.ID))
}
