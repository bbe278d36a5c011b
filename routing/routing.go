// Package routing decides which agent gets the next piece of work. [Rank] and
// [Candidates] are pure functions over a snapshot of a channel's members. A
// [Queue] routes work on a tracker, while its agents connect, leave and are
// kicked out.
//
// # The line
//
// The work that waits for one channel is its line. A queue always gives the piece
// that arrived first, over all channels, of those that some agent takes. A piece
// that returns to the line keeps its place there. Three agents may take a piece,
// in this order:
//
//   - the agent that it is meant for ([Work.To]), if that agent takes new work;
//   - the agent of its client, if that agent receives sticky work: the one with
//     the newest piece of the client's work, or for [presence.WorkRule.Affinity]
//     the one that had the work that ended last;
//   - the first of the [Candidates] that has room for its [Work.Weight]. Only this
//     choice moves the turn of [presence.OrderRoundRobin].
//
// An agent that is no member of the channel takes none of its work. An agent that
// loses a channel loses the channel's work, started or not.
//
// # Offers
//
// With [presence.WorkRule.AcceptWithin], what a queue gives is an offer until
// [Queue.Start]. An offer that is declined ([Queue.Decline]) or not started in time
// is made to the next agent. The queue passes over an agent that did not take it up
// until what that agent receives has changed ([presence.Presence], Revision).
//
// # Closing time
//
// [Options.Closing] rules what happens to work while a channel is closed. Work that
// an agent has continues to its end in any case.
package routing

import (
	"cmp"
	"slices"

	"github.com/presence-go/presence"
)

// Member is what the choice of an agent depends on, for one member of a
// channel.
type Member struct {
	Subject presence.Ref
	// Routing is the work that reaches the member. If Bounded, Room is its
	// remaining capacity.
	Routing presence.Routing
	Room    int
	Bounded bool
	// Availability is the place of its status, from the most to the least
	// available.
	Availability int
	Load         int              // pieces of work over all work channels
	Given        presence.Instant // when work was last given or ended; 0 counts as the longest ago
	// Revision is for the offer. It is also the instant since which the member has
	// received what it receives now.
	Revision presence.Instant
}

// MemberOf returns the member for a subject, for one work channel.
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
	return (m.Routing == presence.RouteAll || m.Routing == presence.RouteLast) && m.fits(1)
}

// fits reports whether the member has room for work of a weight.
func (m *Member) fits(weight int) bool { return !m.Bounded || m.Room >= weight }

// idleSince returns when the member last had to do with work, or began to receive
// what it receives now.
func (m *Member) idleSince() presence.Instant { return max(m.Given, m.Revision) }

// receives reports whether the member may be given work that already belongs to
// it.
func (m Member) receives() bool {
	return m.Routing == presence.RouteAll || m.Routing == presence.RouteLast || m.Routing == presence.RouteSticky
}

// Rank sorts members in the order for offers of work. First are those that take
// work, then those that take it only if no other does, then those that take
// none. Within these groups, Rank sorts by availability, then by the order of
// the policy's [presence.WorkRule], then by id. A member has been idle since the
// later of Given and Revision, so the time in which it received no work does not
// count. For [presence.OrderRoundRobin], after is the last member that had a turn.
func Rank(members []Member, order string, after presence.Ref) {
	turn := func(m *Member) int { // members behind the last one precede the others
		if order == presence.OrderRoundRobin && compareRefs(m.Subject, after) <= 0 {
			return 1
		}
		return 0
	}
	slices.SortFunc(members, func(a, b Member) int {
		if c := cmp.Or(cmp.Compare(a.reluctance(), b.reluctance()), cmp.Compare(a.Availability, b.Availability)); c != 0 {
			return c
		}
		var rule int
		switch order {
		case presence.OrderRoundRobin:
			rule = turn(&a) - turn(&b)
		case presence.OrderLongestIdle:
			rule = cmp.Compare(a.idleSince(), b.idleSince())
		default:
			rule = cmp.Or(cmp.Compare(a.Load, b.Load), cmp.Compare(a.idleSince(), b.idleSince()))
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

// Candidates ranks members and returns those that may be given new work. An
// empty list is a valid answer.
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
