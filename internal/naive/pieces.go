package naive

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/presence-go/presence"
)

// work is what is known of a subject's work after an event.
type work struct {
	loads     []presence.Load // by work channel
	pending   *presence.Claim // follows when no work is left
	pendingBy int             // the event that made it wait
	heldFrom  int             // from which event on a choice that ends holds until then
	requests  []ask
	challenge string
	deadline  presence.Instant
	requeued  presence.Instant // when work was last taken away
	changed   presence.Instant // when a load last changed
	desk      Desk             // what the host reported
	settles   presence.Instant // until then a connection that was lost is back too recently
}

// ask is an open request, with the event that made it.
type ask struct {
	presence.Request
	by int
}

func (w work) total() (n int) {
	for _, l := range w.loads {
		n += l.N
	}
	return n
}

func (w work) load(on string) presence.Load {
	for _, l := range w.loads {
		if l.On == on {
			return l
		}
	}
	return presence.Load{On: on}
}

// with returns w with another load from an instant on, and shares nothing that changes
// with w.
func (w work) with(l presence.Load, at presence.Instant) work {
	if w.load(l.On).N != l.N {
		w.changed = at
	}
	i := slices.IndexFunc(w.loads, func(o presence.Load) bool { return o.On == l.On })
	w.loads = slices.Clone(w.loads)
	if i >= 0 {
		w.loads[i] = l
	} else {
		w.loads = append(w.loads, l)
	}
	return w
}

// counted returns w with an event about work that counts.
func (w work) counted(h *happened, p *presence.Policy) work {
	w.desk.past = slices.Clone(w.desk.past)
	w.desk.Feed(h.at, h.event, p)
	return w
}

// taken returns w after all work was taken away.
func (w work) taken(at presence.Instant) work {
	w.loads = slices.Clone(w.loads)
	for i := range w.loads {
		w.loads[i].N = 0
	}
	w.requeued = max(at, w.requeued+1) // a revision, which rises
	w.desk.past = slices.Clone(w.desk.past)
	w.desk.Take(at)
	return w
}

// dropped returns w after an actor chose another status.
func (w work) dropped() work {
	w.pending, w.requests = nil, nil
	return w
}

// work returns what is known of the work at the moment: the ends of what waits and
// of requests apply.
func (l *look) work() (w work) {
	if l.w.n == 0 {
		return w
	}
	w = l.n.past[l.w.n-1].work
	if p := w.pending; p != nil && p.Until != 0 && l.w.due(p.Until.Add(l.lag), dueUntil) {
		w.pending = nil
	}
	w.requests = slices.Clone(w.requests)
	w.requests = slices.DeleteFunc(w.requests, func(r ask) bool {
		return r.Until != 0 && l.w.due(r.Until.Add(l.lag), dueUntil) || l.withdrawn(r)
	})
	return w
}

// withdrawn reports whether the subject left after a request in a way that withdraws it.
func (l *look) withdrawn(r ask) bool {
	return slices.ContainsFunc(l.stays, func(x stay) bool {
		if x.gone == 0 || x.goneBy <= r.by || l.othersThan(x) {
			return false
		}
		switch l.n.policyAt(x.goneBy).Work.WithdrawOn {
		case "never":
			return false
		case "closed":
			return x.cause == presence.CauseLogout || x.cause == presence.CauseClosed
		}
		return x.cause == presence.CauseLogout
	})
}

// receives returns which new work of a channel reaches the subject by its status, and
// the room for it. It reports false for a channel without a limit.
func (l *look) receives(on string) (r presence.Routing, room int, limited bool) {
	w := l.work()
	room, limited = w.desk.Room(l.p, on)
	if !l.known() || l.disabled() || l.p.Disabled {
		return presence.RouteNone, 0, true
	}
	shown := StatusOf(l.p, l.shown().Status)
	r = shown.Routing
	if own, ok := shown.RoutingOn[on]; ok {
		r = own
	}
	kicked := slices.ContainsFunc(l.wishes, func(c wish) bool {
		return c.Source == presence.SourceSystem && c.Key == presence.KeyKickedOut
	})
	rule, _ := l.virtual()
	reach := l.reach()
	unsteady := reach == presence.ReachLingering || w.desk.wraps(l.w.at) || w.settles > l.w.at && reach != presence.ReachNone
	switch {
	case w.pending != nil || kicked:
		r = presence.RouteNone
	case reach == presence.ReachNone && r != presence.RouteLast, reach == presence.ReachVirtual && !rule.Routable:
		r = presence.RouteNone
	case unsteady && (r == presence.RouteAll || r == presence.RouteLast):
		r = presence.RouteSticky
	}
	return r, room, limited
}

// routableOn lists the named work channels in which the subject gets new work: of those
// that the policy or a load names.
func (l *look) routableOn() (names []string) {
	for _, load := range l.work().loads {
		names = append(names, load.On)
	}
	for i := range l.p.Statuses {
		names = slices.AppendSeq(names, maps.Keys(l.p.Statuses[i].RoutingOn))
	}
	return slices.DeleteFunc(names, func(on string) bool {
		r, room, limited := l.receives(on)
		return r != presence.RouteAll || limited && room <= 0
	})
}

// occupy completes an answer with the work.
func (l *look) occupy(a *Answer) {
	w := l.work()
	r, room, limited := l.receives("")
	full := limited && room <= 0
	if full && (r == presence.RouteAll || r == presence.RouteLast) {
		r = presence.RouteSticky
	}
	a.Routing, a.Routable, a.RoutableOn = r, r == presence.RouteAll, presence.NewWorkChannels(l.routableOn()...)
	shown := StatusOf(l.p, a.Status)
	switch {
	case shown.Class != presence.ClassAvailable:
	case w.pending != nil:
		a.Label = presence.LabelFinishing
	case !a.Routable:
		a.Label = presence.LabelNotReceiving
	case w.total() == 0:
		a.Label = presence.LabelFree
	default:
		a.Label = presence.LabelActive
	}
	if a.Label != "" || len(w.loads) > 0 {
		a.Load = presence.NewCount(w.total())
	}
	pinned, some := 0, false
	for _, load := range w.loads {
		if n, ok := load.Pinned.Get(); ok {
			pinned, some = pinned+n, true
		}
	}
	if some {
		a.Pinned = presence.NewCount(pinned)
	}
	if w.pending != nil {
		a.Pending = w.pending.Status
	}
	if len(w.requests) > 0 {
		a.Request = w.requests[0].Claim.Status
	}
}

// settles returns until when a subject gets no new work after an event, since a
// connection that was lost is back: by a sign of life, or opened again without a login.
func (l *look) settles(h *happened) presence.Instant {
	e, over, lost := &h.event, h.event.Conn, false
	switch e.Kind {
	case presence.EventConnect:
		lost = len(l.there) == 0 && l.departure() == presence.CauseLost
	case presence.EventHeartbeat, presence.EventInput, presence.EventFocus, presence.EventVisible, presence.EventEndClaim:
	case presence.EventSetClaim:
		over = cmp.Or(e.Conn, h.claim.Conn)
	default:
		return h.work.settles
	}
	lost = lost || slices.ContainsFunc(l.there, func(c stay) bool {
		return c.id == over && c.left != 0 && c.cause == presence.CauseLost
	})
	if d := l.p.Work.Settle; lost && d > 0 && !h.void && !h.silent {
		return h.at.Add(d)
	}
	return h.work.settles
}

// passWork adds what time does to work up to an instant: a kick-out and the
// work of a subject that left being given to others.
func (n *Model) passWork(to presence.Instant) {
	for len(n.past) > 0 {
		last := n.past[len(n.past)-1]
		w := last.work
		at, kick := presence.Instant(0), false
		if w.challenge != "" {
			at, kick = w.deadline, true
		}
		if left := n.requeueAt(to); left != 0 && (at == 0 || left < at) {
			at, kick = left, false
		}
		if at == 0 || at > to {
			return
		}
		at = max(at, last.at)
		l := n.look(moment{n: len(n.past), at: at, upto: dueAll})
		h := happened{at: at, work: l.work().taken(at), silent: true, byTime: true}
		if kick {
			h.work.challenge, h.work.deadline = "", 0
			def := l.kickedOut()
			h.event = presence.Event{Kind: presence.EventSetClaim}
			h.claim = presence.Claim{Source: presence.SourceSystem, Key: presence.KeyKickedOut, Status: def.ID, Class: def.Class, SetAt: at}
		}
		n.past = append(n.past, h)
		n.drain(at)
	}
}

// requeueAt returns when the work of a subject that left is given to others, if that
// is due until an instant.
func (n *Model) requeueAt(to presence.Instant) presence.Instant {
	l := n.look(moment{n: len(n.past), at: to, upto: dueAll})
	after := l.p.Work.RequeueAfter
	if after == 0 || len(l.there) > 0 || l.work().total() == 0 {
		return 0
	}
	left := l.lastLeft()
	if due := max(left, l.work().changed).Add(after); left != 0 && due <= to {
		return due
	}
	return 0
}

// lastLeft returns when the last connection left.
func (l *look) lastLeft() (left presence.Instant) {
	for _, c := range l.stays {
		if c.gone != 0 {
			left = max(left, c.left)
		}
	}
	return left
}

func (l *look) kickedOut() *presence.Status {
	if id := l.p.Work.KickedOut; id != "" {
		return StatusOf(l.p, id)
	}
	for i := range l.p.Statuses {
		if l.p.Statuses[i].Class == presence.ClassAway {
			return &l.p.Statuses[i]
		}
	}
	return DisconnectedIn(l.p)
}

// drain lets the pending status follow if no work is left.
func (n *Model) drain(at presence.Instant) {
	l := n.look(moment{n: len(n.past), at: at, upto: dueAll})
	w := l.work()
	if w.pending == nil || w.total() > 0 {
		return
	}
	c := *w.pending
	if c.For > 0 {
		c.Until = at.Add(c.For - l.lag)
	}
	c.For = 0
	w.pending = nil
	h := happened{at: at, work: w, claim: c, silent: true, event: presence.Event{Kind: presence.EventSetClaim}}
	l.place(&h, false)
	n.past = append(n.past, h)
}

// settleWork decides the meaning of an event about work. It reports false if the event
// must be refused, and whether work may have ended.
func (l *look) settleWork(h *happened) (accepted, ends bool) {
	e, w := &h.event, l.work()
	own := w.load(e.Load.On)
	stale := e.Revision != 0 && e.Revision < w.requeued
	switch e.Kind {
	case presence.EventLoad:
		if l.disabled() {
			return false, false
		}
		if stale {
			return true, false
		}
		own.N, own.Capacity, own.Pinned = e.Load.N, cmp.Or(e.Load.Capacity, own.Capacity), cmp.Or(e.Load.Pinned, own.Pinned)
		h.work = w.with(own, h.at).counted(h, l.p)
		return true, true
	case presence.EventOffer:
		if !l.fits(e) {
			return false, false
		}
		own.N += max(e.Load.N, 1)
		h.work = w.with(own, h.at).counted(h, l.p)
	case presence.EventDone:
		if !stale && own.N > 0 {
			own.N = max(0, own.N-max(e.Load.N, 1))
			h.work = w.with(own, h.at).counted(h, l.p)
			return true, true
		}
	case presence.EventChallenge:
		if l.disabled() || l.reach() == presence.ReachNone {
			return false, false
		}
		if w.challenge == "" {
			h.work.challenge, h.work.deadline = e.ID, h.at.Add(cmp.Or(e.Claim.For, l.p.Work.Challenge, time.Minute))
		}
	case presence.EventAck:
		if w.challenge == "" || e.ID != "" && e.ID != w.challenge {
			return false, false
		}
		h.work.challenge, h.work.deadline = "", 0
	}
	return true, false
}

// fits reports whether the subject receives work that is offered.
func (l *look) fits(e *presence.Event) bool {
	r, room, limited := l.receives(e.Load.On)
	all, fits := r == presence.RouteAll || r == presence.RouteLast, !limited || room >= max(e.Load.N, 1)
	switch e.Routing {
	case presence.RouteNone:
		return l.known() && !l.disabled() && !l.p.Disabled
	case presence.RouteSticky:
		return (all || r == presence.RouteSticky) && (l.p.Work.Returns != "capacity" || fits)
	case presence.RouteTransfer:
		return all || r == presence.RouteTransfer
	}
	return all && fits
}

// settleRequest decides the meaning of a request, or of what becomes of one.
func (l *look) settleRequest(h *happened) (accepted bool) {
	e, w := &h.event, l.work()
	find := func() int {
		return slices.IndexFunc(w.requests, func(r ask) bool { return e.ID == "" || r.ID == e.ID })
	}
	switch e.Kind {
	case presence.EventRequest:
		if !l.resolve(h) || !h.own || h.claim.Source != presence.SourceManual || l.reach() == presence.ReachNone {
			return false
		}
		c := h.claim
		c.Key = "" // which follows when it is accepted, as does an end by For
		if c.For > 0 {
			c.Until = 0
		}
		h.claim, h.own = presence.Claim{}, false // it claims nothing yet
		if e.ID != "" && slices.ContainsFunc(w.requests, func(r ask) bool { return r.ID == e.ID }) {
			return true
		}
		w.requests = slices.DeleteFunc(w.requests, func(r ask) bool { return r.Claim.Status == c.Status })
		r := ask{presence.Request{ID: e.ID, Claim: c, At: h.at}, len(l.n.past)}
		if d := l.p.Work.RequestFor; d > 0 {
			r.Until = h.at.Add(d - l.lag)
		}
		h.work.requests = append(w.requests, r)
	case presence.EventWithdraw:
		i := find()
		if e.Actor.Subject != l.n.Subject || e.Actor.Role == presence.RoleVisitor || i < 0 {
			return false
		}
		h.work.requests = slices.Delete(w.requests, i, i+1)
	case presence.EventDecide:
		i := find()
		decides := e.Actor.Role == presence.RoleSystem ||
			(e.Actor.Role == presence.RoleSupervisor || e.Actor.Role == presence.RoleAdmin) && e.Actor.Subject != l.n.Subject
		if !decides || i < 0 {
			return false
		}
		r := w.requests[i]
		if e.Reject {
			h.work.requests = slices.Delete(w.requests, i, i+1)
			return true
		}
		if l.leftFor(e.Actor) {
			return false
		}
		claim := happened{at: h.at, work: w, event: presence.Event{Kind: presence.EventSetClaim, Actor: presence.Agent(l.n.Subject), Claim: r.Claim}}
		if !l.resolve(&claim) {
			return false
		}
		h.event, h.claim, h.work = claim.event, claim.claim, w.dropped()
		h.silent, h.own = true, false
		l.place(h, true)
	}
	return true
}
