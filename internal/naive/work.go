package naive

import (
	"cmp"
	"slices"
	"time"

	"github.com/presence-go/presence"
)

// Desk is the model of the work of one subject. It keeps what the host reported,
// and reads all of it again for every answer.
type Desk struct{ past []delivery }

// delivery is one event about work that was accepted, or the taking away of all work.
type delivery struct {
	at     presence.Instant
	event  presence.Event
	wrapUp time.Duration // of the policy at that instant
	taken  bool
}

// Feed adds an accepted event about work.
func (d *Desk) Feed(at presence.Instant, e presence.Event, p *presence.Policy) {
	d.past = append(d.past, delivery{at: at, event: e, wrapUp: p.Work.WrapUp})
}

// Take records that all work was taken away.
func (d *Desk) Take(at presence.Instant) { d.past = append(d.past, delivery{at: at, taken: true}) }

// Standing is what a subject has in one work channel.
type Standing struct {
	N        int
	Capacity presence.Count // the last that the host reported
	Reported bool
}

func (s *Standing) pass(h *delivery) {
	many := max(h.event.Load.N, 1)
	switch {
	case h.taken:
		s.N = 0
	case h.event.Kind == presence.EventLoad:
		s.N, s.Reported = h.event.Load.N, true
		if h.event.Load.Capacity != (presence.Count{}) {
			s.Capacity = h.event.Load.Capacity
		}
	case h.event.Kind == presence.EventOffer:
		s.N, s.Reported = min(s.N+many, 1_000_000), true
	case h.event.Kind == presence.EventDone:
		s.N = max(s.N-many, 0)
	}
}

// In returns what the subject has in one work channel.
func (d *Desk) In(on string) (s Standing) {
	for i := range d.past {
		if h := &d.past[i]; h.taken || h.event.Load.On == on {
			s.pass(h)
		}
	}
	return s
}

// Names lists the work channels without the one that has no name: those that the
// host reported, and those that a status of the policy has a rule for.
func (d *Desk) Names(p *presence.Policy) (names []string) {
	for i := range d.past {
		if on := d.past[i].event.Load.On; d.In(on).Reported {
			names = append(names, on)
		}
	}
	for i := range p.Statuses {
		for on := range p.Statuses[i].RoutingOn {
			names = append(names, on)
		}
	}
	slices.Sort(names)
	return slices.DeleteFunc(slices.Compact(names), func(on string) bool { return on == "" })
}

// Sum returns the load over all work channels.
func (d *Desk) Sum() (n int) {
	counted := make(map[string]bool)
	for i := range d.past {
		if on := d.past[i].event.Load.On; !counted[on] {
			counted[on] = true
			n += d.In(on).N
		}
	}
	return n
}

// wraps reports whether work has ended so recently that the subject gets none.
func (d *Desk) wraps(now presence.Instant) bool {
	all := make(map[string]*Standing)
	until := presence.Instant(0)
	for i := range d.past {
		h := &d.past[i]
		if h.taken {
			clear(all)
			continue
		}
		s := all[h.event.Load.On]
		if s == nil {
			s = new(Standing)
			all[h.event.Load.On] = s
		}
		before := s.N
		passedOn := h.event.Kind == presence.EventDone && h.event.Reject
		if s.pass(h); s.N < before && h.wrapUp > 0 && !passedOn {
			until = h.at.Add(h.wrapUp)
		}
	}
	return until > now
}

// Facts are what else decides whether a subject gets work.
type Facts struct {
	Status    *presence.Status // that shows
	Reach     presence.Reach
	Routable  bool // the endpoints by which it is reached may get work
	Waits     bool // for the end of its work
	KickedOut bool
	Settles   presence.Instant // until then its connection was lost too recently
}

// Rule returns the routing of a status in one work channel.
func Rule(s *presence.Status, on string) presence.Routing {
	byClass := presence.RouteNone
	if s.Class == presence.ClassAvailable {
		byClass = presence.RouteAll
	}
	return cmp.Or(s.RoutingOn[on], s.Routing, byClass)
}

// Room returns how many pieces fit into one work channel, or false if any number does.
func (d *Desk) Room(p *presence.Policy, on string) (n int, limited bool) {
	s := d.In(on)
	if capacity, given := s.Capacity.Get(); given {
		n, limited = capacity-s.N, true
	} else if p.Work.Capacity > 0 {
		n, limited = p.Work.Capacity-s.N, true
	}
	if p.Work.Total > 0 {
		rest := p.Work.Total - d.Sum()
		if !limited {
			n = rest
		}
		n, limited = min(n, rest), true
	}
	return n, limited
}

// Takes reports whether any new work of one work channel may be given to the
// subject: its status lets all work through, it is reached over a connection that
// is live and steady or over an endpoint for work, nothing waits for the end of its
// work, no work has just ended, it was not kicked out, and it has room for one more.
func (d *Desk) Takes(p *presence.Policy, on string, now presence.Instant, f Facts) bool {
	reached := f.Reach == presence.ReachLive || f.Reach == presence.ReachVirtual && f.Routable
	room, limited := d.Room(p, on)
	return Rule(f.Status, on) == presence.RouteAll && reached && f.Settles <= now && !d.wraps(now) && !f.Waits && !f.KickedOut && (!limited || room >= 1)
}
