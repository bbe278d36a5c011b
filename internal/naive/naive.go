// Package naive is a second implementation of the rules of presence. Tests
// compare the first with it. It is slow, and plain enough to read against the rules.
package naive

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/presence-go/presence"
)

// Model keeps only the events of one subject, and reads all of them again for
// every answer. From the events follow the times of each connection and claim, and
// from these, by the precedence of layers, the status. The implementation that it
// is compared with keeps a state and one deadline instead.
type Model struct {
	Subject  presence.Ref
	Policies []presence.Policy // by index; the first is in force from the beginning
	past     []happened
	seen     *witness
}

// happened is one event of the past, with the decisions made when it arrived.
type happened struct {
	at     presence.Instant
	event  presence.Event
	policy int // of EventPolicy: the policy in force from then on

	void   bool             // it was known or outdated, so that it changed nothing
	input  presence.Instant // of a connect: the last input that the connection starts with
	first  bool             // ... and there was none before
	claim  presence.Claim   // of EventSetClaim: as resolved
	own    bool             // ... and it was the subject's own
	clears bool             // ... and it only ended other claims
	waits  bool             // ... and it waits until no work is left
	silent bool             // ... and nothing was sent over a connection: it waited, or was decided on
	byTime bool             // ... and only by time
	work   work             // as of after the event
	plain  bool             // ... and it was the person's plain choice of the default
	over   []slot           // ... which lies over these claims
	ranout int              // with over: up to which event some of them is known to be left

	// Of EventEndClaim by a system: what became of it.
	end   ending
	metAt presence.Instant // when it met its claim or its start
	start string           // the id of the start that it kept from beginning
}

// slot is the place of a claim among those of all connections.
type slot struct {
	source presence.Source
	key    string
}

// ending is what became of the end of a claim.
type ending int

const (
	endForgotten ending = iota // nothing is known of it any more
	endWaits                   // it found nothing, and waits for the start
	endMet
)

// The kinds of deadlines of one instant, in the order in which they apply.
const (
	dueUntil = iota + 1
	dueLease
	dueGrace
	dueIdle
	dueAll = dueIdle
)

// moment is a point in a history: after the first n events, at an instant, with
// the deadlines of that instant up to a kind.
type moment struct {
	n    int
	at   presence.Instant
	upto int
	// fresh is the moment of an event itself, before the deadlines that it makes
	// overdue: a policy with a shorter lease applies first, then loses connections.
	fresh bool
}

func (w moment) due(at presence.Instant, kind int) bool {
	return at < w.at || at == w.at && kind <= w.upto
}

// stay is the time from the opening of a connection until it is gone, over any
// number of reconnects.
type stay struct {
	id, device, node string
	incarnation      uint64
	epoch, seq       uint64
	heard            presence.Instant
	input, acted     presence.Instant
	looked           presence.Instant // the last sign of a person that is no input
	focus            string
	hidden           bool
	extended         presence.Instant // no end before it, after a standstill
	left             presence.Instant // 0 while live
	cause            presence.Cause
	told             bool
	openedBy, goneBy int              // how many events had happened
	gone             presence.Instant // 0 while live or lingering
}

func (c *stay) lastInput() presence.Instant { return max(c.input, c.acted) }

func (n *Model) policyAt(count int) *presence.Policy {
	p := &n.Policies[0]
	for i := range n.past[:count] {
		if h := &n.past[i]; h.event.Kind == presence.EventPolicy {
			p = &n.Policies[h.policy]
		}
	}
	return p
}

// lag returns by how much the wall clock lags the time of the events after the first
// count of them: the sum of what it was set back.
func (n *Model) lag(count int) (d time.Duration) {
	for i := range n.past[:count] {
		if e := &n.past[i].event; e.Kind == presence.EventClock {
			d += e.From.Sub(e.To)
		}
	}
	return d
}

// look is the model's knowledge at one moment.
type look struct {
	n   *Model
	w   moment
	p   *presence.Policy
	lag time.Duration // of the wall clock

	stays     []stay // every stay of every connection, by id, with the stays that are over
	there     []stay // the connections that are live or lingering
	wishes    []wish // the claims that hold
	lapsed    []wish // those that ended by their time, or since an actor released them
	endpoints []presence.Endpoint
}

func (n *Model) look(w moment) *look {
	l := &look{n: n, w: w, p: n.policyAt(w.n), lag: n.lag(w.n), stays: n.stays(w)}
	for _, c := range l.stays {
		if c.gone == 0 {
			l.there = append(l.there, c)
		}
	}
	l.wishes = l.listWishes()
	l.endpoints = l.listEndpoints()
	return l
}

func (n *Model) stays(w moment) []stay {
	var ids []string
	for i := range n.past[:w.n] {
		e := &n.past[i].event
		if (e.Kind == presence.EventConnect || e.Kind == presence.EventLogin) && !slices.Contains(ids, e.Conn) {
			ids = append(ids, e.Conn)
		}
	}
	slices.Sort(ids)
	var list []stay
	for _, id := range ids {
		list = append(list, n.staysOf(id, w)...)
	}
	return list
}

func (n *Model) staysOf(id string, w moment) []stay {
	var over []stay
	var c *stay
	p := &n.Policies[0]
	var ruled presence.Instant // since when p is in force; nothing ends before it by p's rules
	epoch := uint64(0)
	own := ownClaims{id: id}
	var there presence.Instant // when it was last seen to linger
	end := func(at presence.Instant, by int) {
		c.gone, c.goneBy = at, by
		over = append(over, *c)
		c = nil
		own.drop(func(o *presence.Claim) bool { return o.DropOnDisconnect })
	}
	graceEnds := func(w moment, by int) {
		if c != nil && c.left != 0 {
			at := max(graceEnd(p, c), ruled, there)
			if graceEnd(p, c) > c.left { // a standstill extends a grace above 0
				at = max(at, c.extended)
			}
			for kept := own.keptUntil(p, c, at); kept > at; kept = own.keptUntil(p, c, at) {
				at = kept
			}
			if w.due(at, dueGrace) {
				end(at, by)
				return
			}
			there = w.at
		}
	}
	leaseEnds := func(w moment) {
		if c != nil && c.left == 0 {
			at := max(c.heard.Add(p.Lease), c.extended, ruled)
			if w.due(at, dueLease) {
				c.left, c.cause, c.told, c.extended = at, presence.CauseLost, false, 0
			}
		}
	}
	leave := func(at presence.Instant, cause presence.Cause) {
		if c.left == 0 {
			c.left, c.cause, c.extended = at, cause, 0
		}
		c.told = true
	}
	heard := func(at presence.Instant) {
		c.heard, c.extended = at, 0 // every message starts a lease
		c.left, c.cause = 0, ""
	}
	for i := range n.past[:w.n] {
		h := &n.past[i]
		e := &h.event
		before := moment{at: h.at, upto: dueAll}
		leaseEnds(before)
		graceEnds(before, i)
		if e.Kind == presence.EventPolicy {
			p, ruled = &n.Policies[h.policy], h.at
		}
		own.note(p, h)
		connecting := (e.Kind == presence.EventConnect || e.Kind == presence.EventLogin) && !h.void
		if connecting {
			epoch++
		}
		if connecting && e.Conn == id {
			if c == nil {
				c = &stay{id: id, openedBy: i, input: h.input}
			} else {
				heard(h.at)
			}
			c.heard, c.epoch, c.seq, c.device = h.at, epoch, 0, cmp.Or(e.Device, c.device)
			if e.Node != "" || c.openedBy == i {
				c.node, c.incarnation = e.Node, e.Incarnation
			}
			if e.Age > 0 {
				c.input, c.acted = min(c.input, h.at.Add(-e.Age)), min(c.acted, h.at.Add(-e.Age))
			}
			if e.Kind == presence.EventLogin && slices.Contains(p.Activity, "login") {
				c.input = h.at
			}
		}
		if c == nil || h.void {
			continue
		}
		mine := e.Conn == id
		active := func(what string) {
			if slices.Contains(p.Activity, what) {
				c.input = h.at
			}
		}
		signOf := func(what string) { // an age that the client reports later replaces an input
			if active(what); !slices.Contains(p.Activity, what) {
				c.looked = h.at
			}
		}
		switch e.Kind {
		case presence.EventHeartbeat:
			if mine {
				heard(h.at)
				if e.Seq == 0 || e.Seq > c.seq {
					c.seq = max(c.seq, e.Seq)
					if e.Age >= 0 {
						c.input = h.at.Add(-e.Age)
					}
				}
			}
		case presence.EventInput:
			if mine {
				heard(h.at)
				signOf("input")
			}
		case presence.EventFocus:
			if mine {
				heard(h.at)
				c.focus = e.Channel
				if e.Channel != "" {
					signOf("focus")
				} else {
					c.looked = h.at
				}
			}
		case presence.EventVisible:
			if mine {
				heard(h.at)
				c.hidden = e.Hidden
				if !e.Hidden {
					active("show")
				}
			}
		case presence.EventDisconnect:
			if mine {
				leave(h.at, e.Cause)
			}
		case presence.EventLogout:
			again := c.left != 0 && c.cause == presence.CauseLogout
			if !again && (mine || e.Conn == "" || p.LogoutScope == "account") {
				c.left, c.cause, c.told, c.extended = h.at, presence.CauseLogout, true, 0
			}
		case presence.EventNodeDown:
			if c.node == e.Node && c.left == 0 && (e.Incarnation == 0 || c.incarnation <= e.Incarnation) {
				leave(h.at, cmp.Or(e.Cause, presence.CauseNode))
			}
		case presence.EventNodeUp:
			if c.node == e.Node && c.incarnation < e.Incarnation {
				leave(h.at, presence.CauseNode)
				if own.keptUntil(p, c, h.at) <= h.at {
					end(h.at, i+1)
				}
			}
		case presence.EventDisable:
			c.left, c.cause, c.told = cmp.Or(c.left, h.at), presence.CauseLogout, true
			end(h.at, i+1)
		case presence.EventSuspended:
			c.extended = e.To.Add(p.StartupGrace)
		case presence.EventSetClaim, presence.EventEndClaim:
			if h.silent {
				break
			}
			over := cmp.Or(e.Conn, h.claim.Conn)
			if e.Kind == presence.EventEndClaim {
				over = e.Conn
			}
			if over == id {
				heard(h.at)
				if h.own && !slices.Contains(p.Activity, "claim") {
					c.looked = h.at
				}
			}
			if h.own && slices.Contains(p.Activity, "claim") {
				if over == id {
					c.input = h.at
				} else if over == "" && c.left == 0 {
					c.acted = h.at
				}
			}
		}
		graceEnds(before, i+1)
	}
	if !w.fresh {
		leaseEnds(w)
	}
	graceEnds(w, w.n)
	if c != nil {
		over = append(over, *c)
	}
	return over
}

// ownClaims are the claims that are for one connection. A default that ends with
// what it was chosen over is taken for one that stays.
type ownClaims struct {
	id     string
	claims []presence.Claim
	lag    time.Duration    // of the wall clock
	set    presence.Instant // when it was last set
}

// until returns when the wall clock shows the end of a claim, or was set past it.
func (l *ownClaims) until(c *presence.Claim) presence.Instant {
	if c.Until == 0 {
		return math.MaxInt64
	}
	return max(c.Until.Add(l.lag), l.set)
}

func (l *ownClaims) drop(gone func(*presence.Claim) bool) {
	l.claims = slices.DeleteFunc(l.claims, func(c presence.Claim) bool { return gone(&c) })
}

// note applies an event to the claims.
func (l *ownClaims) note(p *presence.Policy, h *happened) {
	l.drop(func(c *presence.Claim) bool {
		return l.until(c) <= h.at || limitIn(p, c) <= h.at || !h.void && h.ends(p, c)
	})
	switch e := &h.event; {
	case e.Kind == presence.EventClock:
		l.lag, l.set = l.lag+e.From.Sub(e.To), h.at
	case e.Kind == presence.EventSetClaim && !h.void && !h.clears && !h.waits && h.claim.Conn == l.id:
		l.claims = append(l.claims, h.claim)
	}
}

// keptUntil returns until when the best of the claims at an instant keeps its
// connection lingering, or 0.
func (l *ownClaims) keptUntil(p *presence.Policy, c *stay, at presence.Instant) presence.Instant {
	var best vote
	for i := range l.claims {
		o := &l.claims[i]
		if l.until(o) <= at || limitIn(p, o) <= at {
			continue
		}
		if v := (vote{o, "", rankIn(p, o.Source), o.SetAt, i}); best.claim == nil || v.above(best) {
			best = v
		}
	}
	if best.claim == nil || c.cause == presence.CauseLogout || meant(p, best.claim).Keeps == 0 {
		return 0
	}
	return min(max(c.left.Add(meant(p, best.claim).Keeps), c.extended), limitIn(p, best.claim), l.until(best.claim))
}

// graceEnd returns when a connection that left is gone by the rules of p.
func graceEnd(p *presence.Policy, c *stay) presence.Instant {
	g := p.Grace
	if rule := p.Devices[c.device]; rule.OwnGrace {
		g = rule.Grace
	}
	switch c.cause {
	case presence.CauseClosed:
		return c.left.Add(g.Close)
	case presence.CauseLost:
		if g.LossFrom == "lease" {
			return max(c.left, c.heard.Add(p.Lease)).Add(g.Loss)
		}
		return c.left.Add(g.Loss)
	case presence.CauseNode:
		return c.left.Add(g.Node)
	case presence.CauseDrain:
		return c.left.Add(g.Drain)
	default:
		return c.left.Add(g.Logout)
	}
}

// lastInput returns the last input over the connections that count. Without such a
// connection it returns what was known as the last of them ended or ceased to count,
// or a later act of the person over a device that does not count.
func (l *look) lastInput() presence.Instant {
	if present, counted := countedInput(l.there, l.p); counted {
		return present
	}
	return l.keptInput()
}

// countedInput returns the last input over those of some connections that are there
// and count under a policy, or false without such a connection.
func countedInput(stays []stay, p *presence.Policy) (last presence.Instant, counted bool) {
	for _, c := range stays {
		if c.gone == 0 && !p.Devices[c.device].IgnoreInput {
			last, counted = max(last, c.lastInput()), true
		}
	}
	return last, counted
}

// keeping is something that matters to the last input without a connection that
// counts: an end of a connection, or what an event does.
type keeping struct {
	by, at  int64
	ends    bool // a connection
	opens   bool
	counts  bool // input is known up to then, as of a connection that ends
	acts    bool // the person acted over a device that does not count
	last    presence.Instant
	instant presence.Instant
}

// keptInput follows the last input that was known without a connection that counts.
// Of several ends at one instant the newest input remains. Acts over devices that do
// not count are older than no end, until the last connection ends.
func (l *look) keptInput() presence.Instant {
	var kept, keptAt, acted presence.Instant
	connected := 0
	for _, k := range l.keepings() {
		if k.opens {
			connected++
		}
		if k.acts {
			acted = max(acted, cmp.Or(k.last, k.instant))
		}
		if k.counts {
			if keptAt == k.instant {
				kept = max(kept, k.last)
			} else {
				kept, keptAt = k.last, k.instant
			}
		}
		if k.ends {
			if connected--; connected == 0 {
				kept, acted = max(kept, acted), 0
			}
		}
	}
	return max(kept, acted)
}

// keepings lists what matters to the last input, in the order in which it happened.
func (l *look) keepings() (list []keeping) {
	n := l.n
	ignored := func(p *presence.Policy, device string) bool { return p.Devices[device].IgnoreInput }
	for _, c := range l.stays {
		first := &n.past[c.openedBy]
		list = append(list, keeping{by: int64(c.openedBy + 1), at: -1, opens: true, instant: first.at, acts: first.first && ignored(n.policyAt(c.openedBy+1), c.device)})
		if c.gone != 0 {
			counts := !ignored(n.policyAt(c.goneBy), c.device)
			list = append(list, keeping{by: int64(c.goneBy), at: int64(c.gone), ends: true, counts: counts, last: c.lastInput(), instant: c.gone})
		}
	}
	for i := range n.past[:l.w.n] {
		h := &n.past[i]
		e, p := &h.event, n.policyAt(i+1)
		if h.void {
			continue
		}
		event := keeping{by: int64(i + 1), instant: h.at}
		if e.Kind == presence.EventConnect || e.Kind == presence.EventLogin {
			for _, c := range n.stays(moment{n: i, at: h.at, upto: dueAll}) {
				if c.id == e.Conn && c.gone == 0 && !ignored(p, c.device) && ignored(p, cmp.Or(e.Device, c.device)) {
					event.acts, event.last = true, c.lastInput() // continues at a device that does not count
				}
			}
		}
		switch {
		case e.Kind == presence.EventPolicy:
			stays := n.stays(moment{n: i, at: h.at, upto: dueAll})
			_, still := countedInput(stays, p)
			if event.last, event.counts = countedInput(stays, n.policyAt(i)); still || !event.counts {
				continue
			}
		case e.Kind == presence.EventLogin && slices.Contains(p.Activity, "login"):
			for _, c := range n.stays(moment{n: i + 1, at: h.at, fresh: true}) {
				if c.id == e.Conn && c.gone == 0 && ignored(p, c.device) {
					event.acts, event.last = true, h.at
				}
			}
		case e.Kind == presence.EventSetClaim && h.own && slices.Contains(p.Activity, "claim"):
			over := cmp.Or(e.Conn, h.claim.Conn)
			for _, c := range n.stays(moment{n: i + 1, at: h.at, fresh: true}) {
				event.acts = event.acts || c.gone == 0 && ignored(p, c.device) && (c.id == over || over == "" && c.left == 0)
			}
		}
		if event.acts || event.counts {
			list = append(list, event)
		}
	}
	slices.SortStableFunc(list, func(a, b keeping) int {
		return cmp.Or(cmp.Compare(a.by, b.by), cmp.Compare(a.at, b.at))
	})
	return list
}

// wish is a claim that holds, with the event that set it.
type wish struct {
	presence.Claim
	by     int
	lapsed int // the number of events after which it lapsed; 0 if it did not
}

// listWishes lists all claims that were ever set and have not ended.
func (l *look) listWishes() (list []wish) {
	for _, c := range l.everSet() {
		if !l.ended(&c) {
			list = append(list, c)
		} else if c.lapsed > 0 {
			l.lapsed = append(l.lapsed, c)
		}
	}
	return list
}

// everSet lists all claims that were ever set.
func (l *look) everSet() (list []wish) {
	p := &l.n.Policies[0]
	for i := range l.n.past[:l.w.n] {
		h := &l.n.past[i]
		switch {
		case h.event.Kind == presence.EventPolicy:
			p = &l.n.Policies[h.policy]
		case h.void:
		case h.event.Kind == presence.EventSetClaim && !h.clears && !h.waits:
			list = append(list, wish{Claim: h.claim, by: i})
		case h.event.Kind == presence.EventLogin && p.Login.Mode == "reset":
			list = append(list, wish{by: i, Claim: presence.Claim{
				Status: p.Login.Status, Class: StatusOf(p, p.Login.Status).Class, Source: presence.SourceLoginDefault, Key: presence.KeyBase, SetAt: h.at,
			}})
		}
	}
	return list
}

// anyLeft reports whether a claim of one of the slots holds at a moment.
func (l *look) anyLeft(slots []slot) bool {
	for _, c := range l.everSet() {
		if slices.Contains(slots, slot{c.Source, c.Key}) && !l.ended(&c) {
			return true
		}
	}
	return false
}

// ranOut reports whether at some moment since a default was chosen none was left of
// the claims that it was chosen over. It notes up to which event one was.
func (l *look) ranOut(c *wish) bool {
	h := &l.n.past[c.by]
	if len(h.over) == 0 {
		return false
	}
	for i := max(c.by+1, h.ranout); i < l.w.n; i++ {
		w := moment{n: i, at: l.n.past[i].at, upto: dueAll}
		then := &look{n: l.n, w: w, p: l.n.policyAt(i), lag: l.n.lag(i), stays: l.n.stays(w)}
		if !then.anyLeft(h.over) {
			return true
		}
		h.ranout = i + 1
	}
	return !l.anyLeft(h.over)
}

// reached reports whether the wall clock has shown an instant by the moment. What it
// is set past at the moment of an event ends after the event.
func (l *look) reached(until presence.Instant) bool {
	return until != 0 && !l.w.fresh && l.w.due(until.Add(l.lag), dueUntil)
}

// ended reports whether a claim has ended since it was set.
func (l *look) ended(c *wish) bool {
	n := l.n
	p := n.policyAt(c.by + 1)
	lag := n.lag(c.by + 1)
	for i := c.by + 1; i < l.w.n; i++ {
		h := &n.past[i]
		e := &h.event
		if c.Until != 0 && c.Until.Add(lag) <= h.at || limitIn(p, &c.Claim) <= h.at {
			c.lapse(i, l)
			return true
		}
		switch {
		case e.Kind == presence.EventPolicy:
			p = &n.Policies[h.policy]
		case e.Kind == presence.EventClock:
			lag += e.From.Sub(e.To)
		}
		if !h.void && h.ends(p, &c.Claim) {
			if e.Kind == presence.EventEndClaim {
				c.lapse(i, l)
			}
			return true
		}
	}
	if l.reached(c.Until) {
		c.lapse(l.w.n, l)
		return true
	}
	if limit := limitIn(p, &c.Claim); l.w.fresh && limit <= l.w.at || l.w.due(limit, dueUntil) {
		c.lapse(l.w.n, l)
		return true
	}
	return l.dropped(c, l.w.n) || l.ranOut(c)
}

// limitIn returns when a claim ends because its source may hold it no longer.
func limitIn(p *presence.Policy, c *presence.Claim) presence.Instant {
	if d, limited := p.SourceFor[c.Source]; limited {
		return c.SetAt.Add(d)
	}
	return math.MaxInt64
}

// lapse notes that a claim ended, by its time or since an actor released it, after so
// many events. It does nothing if the claim had ended with a connection before.
func (c *wish) lapse(count int, l *look) {
	if !l.dropped(c, count-1) {
		c.lapsed = count
	}
}

// dropped reports whether a claim has ended with a connection that was gone after at
// most so many events.
func (l *look) dropped(c *wish, count int) bool {
	return c.DropOnDisconnect && slices.ContainsFunc(l.stays, func(x stay) bool {
		if x.gone == 0 || x.goneBy <= c.by || x.goneBy > count {
			return false // not gone, or gone before
		}
		return c.Conn == x.id || c.Conn == "" && !l.othersThan(x)
	})
}

// meanwhile returns the choice that holds while a status waits for the work to end,
// although the choice has ended since.
func (l *look) meanwhile() (best vote, ok bool) {
	w := l.work()
	if w.pending == nil {
		return best, false
	}
	var votes []vote
	for _, c := range l.lapsed {
		manual := rankIn(l.p, c.Source) == rankIn(l.p, presence.SourceManual)
		if def := meant(l.n.policyAt(c.lapsed), &c.Claim); manual && c.lapsed > w.heldFrom && def.Class == presence.ClassAvailable {
			c.Until = 0
			votes = append(votes, vote{&c.Claim, meant(l.p, &c.Claim).ID, rankIn(l.p, c.Source), c.SetAt, c.by + 1})
		}
	}
	return topVote(votes)
}

// othersThan reports whether another connection counted when one was gone.
func (l *look) othersThan(x stay) bool {
	return slices.ContainsFunc(l.stays, func(o stay) bool {
		return o.openedBy < x.goneBy && (o.gone == 0 || o.gone > x.gone || o.gone == x.gone && o.goneBy > x.goneBy)
	})
}

// ends reports whether an event ends a claim that was set before it.
func (h *happened) ends(p *presence.Policy, c *presence.Claim) bool {
	e := &h.event
	manual := rankIn(p, c.Source) == rankIn(p, presence.SourceManual)
	switch e.Kind {
	case presence.EventDisable:
		return true
	case presence.EventLogout:
		return c.Conn != "" && (e.Conn == "" || p.LogoutScope == "account" || c.Conn == e.Conn)
	case presence.EventLogin:
		reset := p.Login.Mode == "reset" && (manual || c.Source == presence.SourceLoginDefault)
		return (c.DropOnLogin || reset) && (c.Conn == "" || c.Conn == e.Conn)
	case presence.EventEndClaim:
		return c.Source == h.claim.Source && c.Conn == h.claim.Conn && (h.claim.Key == "" || h.claim.Key == c.Key) &&
			(h.claim.ID == "" || h.claim.ID == c.ID)
	case presence.EventSetClaim:
		s := &h.claim
		switch {
		case s.Source == presence.SourceSupervisor && !h.silent && c.Source == presence.SourceSystem && c.Key != presence.KeyLock:
			return true // a supervisor lifts the claims of the system
		case h.own && p.Work.SelfReady && s.Class == presence.ClassAvailable && c.Source == presence.SourceSystem && c.Key == presence.KeyKickedOut:
			return true
		case h.waits:
			return false
		case h.plain && s.Conn != "":
			return c.Source == presence.SourceManual && c.Conn == s.Conn
		case h.plain:
			return manual || c.Source == presence.SourceLoginDefault
		case c.Source != s.Source || c.Conn != s.Conn:
			return false
		}
		return c.Key == s.Key || manual && s.Key == presence.KeyBase && c.Key == presence.KeyTimed
	}
	return false
}

// listEndpoints lists the endpoints that the subject has.
func (l *look) listEndpoints() (list []presence.Endpoint) {
	for i := range l.n.past[:l.w.n] {
		h := &l.n.past[i]
		if h.event.Kind != presence.EventEndpoint || h.event.Remove {
			continue
		}
		point, lag, over := h.event.Endpoint, l.n.lag(i), false
		for j := i + 1; j < l.w.n && !over; j++ {
			later := &l.n.past[j]
			switch e := &later.event; {
			case point.Until != 0 && point.Until.Add(lag) <= later.at || e.Kind == presence.EventDisable:
				over = true
			case e.Kind == presence.EventEndpoint:
				over = e.Endpoint.ID == point.ID
			case e.Kind == presence.EventClock:
				lag += e.From.Sub(e.To)
			}
		}
		if !over && !l.reached(point.Until) {
			list = append(list, point)
		}
	}
	slices.SortFunc(list, func(a, b presence.Endpoint) int { return strings.Compare(a.ID, b.ID) })
	return list
}

// virtual returns the rule by which endpoints count. It reports false if none
// counts.
func (l *look) virtual() (rule presence.VirtualRule, ok bool) {
	for _, routable := range []bool{true, false} {
		for _, point := range l.endpoints {
			r := l.p.Virtual[string(point.Kind)]
			if r.Show != "" && r.Show != "ignore" && r.Routable == routable {
				return r, true
			}
		}
	}
	return rule, false
}

func (l *look) reach() presence.Reach {
	if slices.ContainsFunc(l.there, func(c stay) bool { return c.left == 0 }) {
		return presence.ReachLive
	}
	if len(l.there) > 0 {
		return presence.ReachLingering
	}
	if _, ok := l.virtual(); ok {
		return presence.ReachVirtual
	}
	return presence.ReachNone
}

// departure returns why the last connection left.
func (l *look) departure() presence.Cause {
	cause := presence.CauseLogout // also without any connection before
	var last stay
	for _, c := range l.stays {
		if c.gone != 0 && (c.left > last.left || c.left == last.left && (c.goneBy > last.goneBy || c.goneBy == last.goneBy && c.gone >= last.gone)) {
			last, cause = c, c.cause
		}
	}
	for i := range l.n.past[:l.w.n] {
		e := &l.n.past[i].event
		everywhere := e.Kind == presence.EventLogout && (e.Conn == "" || l.n.policyAt(i).LogoutScope == "account")
		if everywhere && i >= last.goneBy {
			cause = presence.CauseLogout // a logout after the last connection was gone
		}
	}
	return cause
}

func (l *look) disabled() bool {
	disabled := false
	for i := range l.n.past[:l.w.n] {
		switch l.n.past[i].event.Kind {
		case presence.EventDisable:
			disabled = true
		case presence.EventEnable:
			disabled = false
		}
	}
	return disabled
}

func (l *look) kind() presence.SubjectKind {
	kind := presence.KindHuman
	for i := range l.n.past[:l.w.n] {
		h := &l.n.past[i]
		switch h.event.Kind {
		case presence.EventConnect, presence.EventLogin, presence.EventEndpoint:
			if !h.void && !h.event.Remove {
				kind = cmp.Or(h.event.SubjectKind, kind)
			}
		}
	}
	return kind
}

func (l *look) known() bool {
	for i := range l.n.past[:l.w.n] {
		switch e := &l.n.past[i].event; e.Kind {
		case presence.EventSetClaim:
			if !l.n.past[i].void {
				return true
			}
		case presence.EventConnect, presence.EventLogin, presence.EventLogout, presence.EventDisable, presence.EventGrant, presence.EventLoad:
			return true
		case presence.EventEndpoint:
			if !e.Remove {
				return true
			}
		}
	}
	return false
}

// StatusOf returns a policy's definition of a status, or nil.
func StatusOf(p *presence.Policy, id string) *presence.Status {
	for i := range p.Statuses {
		if p.Statuses[i].ID == id {
			return &p.Statuses[i]
		}
	}
	return nil
}

// meant returns the definition of a claim's status, or of its replacement if the
// policy has removed the status.
func meant(p *presence.Policy, c *presence.Claim) *presence.Status {
	if s := StatusOf(p, c.Status); s != nil {
		return s
	}
	for _, class := range []presence.Class{c.Class, presence.ClassAway, presence.ClassBusy, presence.ClassDND} {
		for i := range p.Statuses {
			if class != presence.ClassAvailable && p.Statuses[i].Class == class {
				return &p.Statuses[i]
			}
		}
	}
	return DisconnectedIn(p)
}

// DefaultIn returns the status of a connected subject without a choice.
func DefaultIn(p *presence.Policy) *presence.Status {
	return StatusOf(p, cmp.Or(p.Default, p.Statuses[0].ID))
}

// DisconnectedIn returns the status of a disconnected subject, or nil.
func DisconnectedIn(p *presence.Policy) *presence.Status {
	if p.Disconnected != "" {
		return StatusOf(p, p.Disconnected)
	}
	for i := range p.Statuses {
		if p.Statuses[i].Class == presence.ClassOffline {
			return &p.Statuses[i]
		}
	}
	return nil
}

func rankIn(p *presence.Policy, source presence.Source) int {
	for _, name := range []presence.Source{source, presence.SourceApp, presence.SourceLoginDefault} {
		for i, group := range p.Sources {
			if slices.Contains(group, name) {
				return i
			}
		}
	}
	return len(p.Sources)
}

// foldIn returns the rank of a status among the votes of connections.
func foldIn(p *presence.Policy, status string) int {
	if i := slices.Index(p.Fold, status); i >= 0 {
		return i
	}
	return len(p.Fold) + slices.IndexFunc(p.Statuses, func(s presence.Status) bool { return s.ID == status })
}

// vote is a candidate for the top: a claim, or a connection's wish for the
// policy default, which is no claim.
type vote struct {
	claim  *presence.Claim
	status string
	rank   int
	setAt  presence.Instant
	order  int // of setting, among those of one instant
}

// above reports whether v precedes o: by rank, then the later one.
func (v vote) above(o vote) bool {
	return cmp.Or(cmp.Compare(v.rank, o.rank), cmp.Compare(o.setAt, v.setAt), cmp.Compare(o.order, v.order)) < 0
}

func topVote(votes []vote) (best vote, ok bool) {
	for i, v := range votes {
		if i == 0 || v.above(best) {
			best, ok = v, true
		}
	}
	return best, ok
}

// top returns the first of all claims that keep allows. It returns a vote without
// a claim if connections voted for the policy default. It reports false if nothing
// is claimed. A choice that holds meanwhile is before what ranks below it.
func (l *look) top(keep func(*presence.Claim) bool) (vote, bool) {
	best, some := l.topOfClaims(keep)
	if v, ok := l.meanwhile(); ok && keep(v.claim) && (!some || best.rank > v.rank) {
		return v, true
	}
	return best, some
}

func (l *look) topOfClaims(keep func(*presence.Claim) bool) (vote, bool) {
	var votes []vote
	scoped := make(map[string][]vote)
	for _, c := range l.wishes {
		if !keep(&c.Claim) {
			continue
		}
		v := vote{&c.Claim, meant(l.p, &c.Claim).ID, rankIn(l.p, c.Source), c.SetAt, c.by + 1}
		if c.Conn == "" {
			votes = append(votes, v)
		} else if slices.ContainsFunc(l.there, func(s stay) bool { return s.id == c.Conn && l.speaks(s) }) {
			scoped[c.Conn] = append(scoped[c.Conn], v)
		}
	}
	if len(scoped) > 0 {
		var fold []vote
		rank := len(l.p.Sources)
		for _, list := range scoped {
			for _, v := range list {
				rank = min(rank, v.rank)
			}
		}
		for _, s := range l.there {
			if !l.speaks(s) {
				continue
			}
			v, ok := topVote(scoped[s.id])
			if !ok {
				v = vote{status: DefaultIn(l.p).ID} // a connect is no choice, so it is never later than a choice
			}
			v.rank = rank
			fold = append(fold, v)
		}
		best := slices.MinFunc(fold, func(a, b vote) int { return foldIn(l.p, a.status) - foldIn(l.p, b.status) })
		winner, _ := topVote(slices.DeleteFunc(fold, func(v vote) bool { return v.status != best.status }))
		votes = append(votes, winner)
	}
	return topVote(votes)
}

func anyClaim(*presence.Claim) bool { return true }

// speaks reports whether no connection has a greater rank.
func (l *look) speaks(c stay) bool {
	return !slices.ContainsFunc(l.there, func(o stay) bool { return l.p.Devices[o.device].Rank > l.p.Devices[c.device].Rank })
}

// ceiling returns the most available of the ceilings, if every connection has one.
func (l *look) ceiling() (best *presence.Status) {
	for _, c := range l.there {
		s := StatusOf(l.p, l.p.Devices[c.device].Ceiling)
		if s == nil {
			return nil
		}
		if best == nil || l.availability(s) < l.availability(best) {
			best = s
		}
	}
	return best
}

// availability orders statuses from the most available one.
func (l *look) availability(s *presence.Status) int {
	order := []presence.Class{presence.ClassAvailable, presence.ClassBusy, presence.ClassAway, presence.ClassDND, presence.ClassOffline}
	place := slices.IndexFunc(l.p.Statuses, func(o presence.Status) bool { return o.ID == s.ID })
	return slices.Index(order, s.Class)*len(l.p.Statuses) + place
}

// voices lists the claims that speak: from the top down in rank, up to and including
// the first of manual rank or below. A vote without a claim is for the policy default.
func (l *look) voices() (list []vote) {
	var above []wish // what ranks above a person's choice, the highest first
	for _, c := range l.wishes {
		if rankIn(l.p, c.Source) < rankIn(l.p, presence.SourceManual) {
			above = append(above, c)
		}
	}
	asVote := func(c wish) vote { return vote{rank: rankIn(l.p, c.Source), setAt: c.SetAt, order: c.by + 1} }
	slices.SortFunc(above, func(a, b wish) int {
		if asVote(a).above(asVote(b)) {
			return -1
		}
		return 1
	})
	for n := 0; n <= len(above); n++ {
		v, ok := l.top(func(c *presence.Claim) bool {
			return !slices.ContainsFunc(above[:n], func(o wish) bool { return o.Source == c.Source && o.Key == c.Key && o.Conn == c.Conn })
		})
		if !ok {
			v = vote{status: DefaultIn(l.p).ID}
		}
		list = append(list, v)
	}
	return list
}

// hiders lists the audiences from which the policy in force hides the subject, each
// with the claims that do, as their events' numbers: the lowest that speaks and those of
// its source. Without one, only the status that the policy shows is hidden.
func (l *look) hiders() map[presence.Audience][]int {
	by := make(map[presence.Audience][]int)
	if !l.known() || l.disabled() || l.p.Disabled {
		return by
	}
	possible := slices.Clone(l.p.Hideable)
	for _, s := range l.p.Statuses {
		possible = append(possible, s.HiddenFrom...)
	}
	for _, a := range StatusOf(l.p, l.shown().Status).HiddenFrom {
		by[a] = nil
	}
	hides := func(s *presence.Status, c *presence.Claim, a presence.Audience) bool {
		return slices.Contains(s.HiddenFrom, a) || c != nil && slices.Contains(c.HidesFrom, a)
	}
	for _, a := range possible {
		var lowest *presence.Claim
		for _, v := range l.voices() {
			if hides(StatusOf(l.p, v.status), v.claim, a) {
				by[a] = nil
				if v.claim != nil {
					lowest = v.claim
				}
			}
		}
		for _, c := range l.wishes {
			if lowest != nil && c.Source == lowest.Source && hides(meant(l.p, &c.Claim), &c.Claim, a) {
				by[a] = append(by[a], c.by+1)
			}
		}
	}
	return by
}

// name identifies a vote by the event that set its claim. -1 is the policy default.
func (v vote) name() int {
	if v.claim == nil {
		return -1
	}
	return v.order
}

// gone reports whether the subject left, or is shown to no audience.
func (l *look) gone() bool {
	a := l.shown()
	switch a.Cause {
	case presence.CauseLogout, presence.CauseClosed, presence.CauseLost, presence.CauseNode, presence.CauseDrain, presence.CauseDisabled:
		return true
	}
	return false
}

// belief is what an audience thinks of a subject: that it left, and the claims by
// which it hid meanwhile.
type belief struct {
	left bool
	by   []int
}

// witness is what the audiences have seen of a subject, up to a number of events.
type witness struct {
	events int
	at     presence.Instant
	seen   map[presence.Audience]belief
	hidden map[presence.Audience]bool
	gone   bool // of the moment before
	reach  presence.Reach
	began  bool // there was a moment before
}

func (w *witness) clone() *witness {
	c := *w
	c.seen, c.hidden = maps.Clone(w.seen), maps.Clone(w.hidden)
	return &c
}

// see is what the audiences see next, and the event by which they do, if it is one.
// A claim by which the subject hid counts for as long as it lasts, even if another hides
// the subject as well.
func (w *witness) see(now *look, e *presence.Event) {
	hiders, gone, reach, was := now.hiders(), now.gone(), now.reach(), w.hidden
	source, _ := sourceOf(now.p, e.Actor, now.n.Subject, e.Claim.Source)
	chose := (e.Kind == presence.EventSetClaim || e.Kind == presence.EventEndClaim) && (source == presence.SourceManual || source == presence.SourceSupervisor)
	returned := false
	if w.began && (e.Kind == presence.EventConnect || e.Kind == presence.EventLogin || e.Kind == presence.EventEndpoint) {
		returned = w.gone && !gone || w.reach < presence.ReachLingering && reach >= presence.ReachLingering
	}
	var votes []vote
	if now.known() {
		votes = now.voices()
	}
	lasts := func(by int) bool {
		return by < 0 || slices.ContainsFunc(now.wishes, func(c wish) bool { return c.by+1 == by })
	}
	w.hidden = make(map[presence.Audience]bool)
	for _, a := range []presence.Audience{presence.AudienceTeam, presence.AudienceSupervisor, presence.AudienceAdmin, presence.AudienceVisitor, presence.AudienceRouter} {
		b := w.seen[a]
		by, hides := hiders[a]
		switch {
		case hides:
			for _, c := range b.by {
				if b.left && lasts(c) {
					by = append(by, c)
				}
			}
			if len(by) > 0 {
				b.by = by
			}
		case b.left && len(b.by) > 0 && !returned:
			for _, v := range votes {
				if hides = slices.Contains(b.by, v.name()) && (v.name() > 0 || !chose); hides {
					break
				}
			}
			if !hides && e.Kind == presence.EventPolicy && was[a] {
				b.by, hides = []int{votes[len(votes)-1].name()}, true
			}
		}
		if !hides && gone && !b.left {
			b.by = nil
		}
		b.left, w.hidden[a] = hides || gone, hides
		w.seen[a] = b
	}
	w.gone, w.reach, w.began = gone, reach, true
}

// pass is what the audiences see until an instant without another event.
func (w *witness) pass(n *Model, to presence.Instant) {
	none := presence.Event{}
	for _, at := range n.candidates(w.events, w.at, to, nil) {
		w.see(n.look(moment{n: w.events, at: at, upto: dueAll}), &none)
	}
	w.at = max(w.at, to)
}

// hiddenFrom lists the audiences to which the subject looks as if it had left. It
// follows what each audience saw from the first event on, at every instant at which
// something could happen. An audience from which a claim hid the subject sees nothing
// under a policy that hides nothing either, until another claim decides or the subject
// returns.
func (l *look) hiddenFrom() (list []presence.Audience) {
	n := l.n
	if n.seen == nil {
		n.seen = &witness{seen: make(map[presence.Audience]belief)}
	}
	w := n.seen // what the events until now show, which stays as it is
	for ; w.events < l.w.n; w.events++ {
		h := &n.past[w.events]
		w.pass(n, h.at)
		e := &h.event
		if h.void {
			e = &presence.Event{}
		}
		w.see(n.look(moment{n: w.events + 1, at: h.at, upto: dueAll, fresh: true}), e)
		w.see(n.look(moment{n: w.events + 1, at: h.at, upto: dueAll}), &presence.Event{}) // what it makes overdue
	}
	w = w.clone()
	w.pass(n, l.w.at)
	w.see(l, &presence.Event{})
	for a, hides := range w.hidden {
		if hides {
			list = append(list, a)
		}
	}
	return list
}

// leftFor reports whether a subject is unreachable as far as an actor may know.
func (l *look) leftFor(a presence.Actor) bool {
	return l.reach() == presence.ReachNone || a.Role != presence.RoleSystem && slices.Contains(l.hiddenFrom(), a.Audience())
}

// Answer is the model's answer about one moment.
type Answer struct {
	Known      bool
	Status     string
	Class      presence.Class
	Reason     string
	Text       string
	SetAt      presence.Instant
	Until      presence.Instant
	Masked     string
	Cause      presence.Cause
	Routable   bool
	Routing    presence.Routing
	RoutableOn presence.WorkChannels
	Label      string
	Load       presence.Count
	Pinned     presence.Count
	Pending    string
	Request    string
	Reach      presence.Reach
	Kind       presence.SubjectKind
	Disabled   bool
	LastSeen   presence.Instant
	LastLogin  presence.Instant

	idleAt presence.Instant // when the stage was reached that masks, if one does
}

// answer returns all that is known of the subject.
func (l *look) answer() Answer {
	a := l.shown()
	if !a.Known {
		return a
	}
	a.Kind, a.Routing = l.kind(), presence.RouteNone
	for i := range l.n.past[:l.w.n] {
		if h := &l.n.past[i]; h.event.Kind == presence.EventLogin && !h.void {
			a.LastLogin = h.at
		}
	}
	if len(l.there) == 0 {
		a.LastSeen = l.lastLeft()
	}
	if !a.Disabled {
		l.occupy(&a)
	}
	return a
}

// chosen returns the status that the claim on top, or else the policy, gives.
func (l *look) chosen() *presence.Status {
	if v, ok := l.top(anyClaim); ok && v.claim != nil {
		return StatusOf(l.p, v.status)
	}
	return DefaultIn(l.p)
}

// shown applies the precedence: disabled, the claim on top, out of reach, idle.
func (l *look) shown() Answer {
	if !l.known() {
		return Answer{}
	}
	a := Answer{Known: true, Reach: l.reach()}
	if l.disabled() || l.p.Disabled {
		a.Disabled, a.Status, a.Cause = true, presence.StatusDisabled, presence.CauseDisabled
		return a
	}
	chosen, source := l.chosen(), presence.Source("")
	a.Cause = presence.CauseDefault
	if v, ok := l.top(anyClaim); ok && v.claim != nil {
		c := v.claim
		source, a.Cause = c.Source, causeOf(c.Source)
		a.SetAt, a.Until, a.Reason, a.Text = c.SetAt, c.Until, c.Reason, c.Text
		if limit := limitIn(l.p, c); limit < math.MaxInt64 && (a.Until == 0 || limit.Add(-l.lag) < a.Until) {
			a.Until = limit.Add(-l.lag)
		}
		if held, ok := l.meanwhile(); ok && held.order == v.order {
			a.Until = 0 // it has ended, and holds until the work is done
		}
	}
	shown := chosen
	rule, _ := l.virtual()
	out := a.Reach == presence.ReachNone || a.Reach == presence.ReachVirtual && rule.Show != "top"
	if out && !slices.Contains(l.p.DisconnectProof, source) {
		shown = DisconnectedIn(l.p)
		if a.Reach == presence.ReachVirtual {
			shown = StatusOf(l.p, rule.Show)
		}
		a.Masked, a.Cause = chosen.ID, l.departure()
	} else {
		to, since := l.idle(chosen, source != "" && rankIn(l.p, source) == rankIn(l.p, presence.SourceManual))
		top := l.ceiling()
		if top != nil && chosen.Class == presence.ClassAvailable && (to == nil || l.availability(top) >= l.availability(to)) {
			shown, a.Masked, a.Cause = top, chosen.ID, presence.CauseIdle
		} else if to != nil {
			shown, a.Masked, a.Cause, a.idleAt = to, chosen.ID, presence.CauseIdle, since
		}
	}
	a.Status, a.Class = shown.ID, shown.Class
	if a.Masked != "" {
		a.Reason, a.Text, a.Until = "", "", 0 // of a status that does not show
	}
	return a
}

// idle returns the status that an idle stage puts in place of another, and since
// when.
func (l *look) idle(chosen *presence.Status, byHand bool) (to *presence.Status, since presence.Instant) {
	counts := func(c stay) bool { return !l.p.Devices[c.device].IgnoreInput }
	if l.kind() != presence.KindHuman && !slices.ContainsFunc(l.there, counts) {
		return nil, 0
	}
	last := l.lastInput()
	if last == 0 {
		return nil, 0
	}
	for _, stage := range l.p.Idle {
		at := last.Add(stage.After)
		if byHand && stage.Of == "unchosen" {
			continue
		}
		if slices.Contains(stage.On, chosen.ID) && l.w.due(at, dueIdle) && at >= since {
			to, since = StatusOf(l.p, stage.To), at
		}
	}
	return to, since
}

func causeOf(s presence.Source) presence.Cause {
	switch s {
	case presence.SourceLoginDefault:
		return presence.CauseLogin
	case presence.SourceSystem, presence.SourceCall, presence.SourceSupervisor, presence.SourceManual, presence.SourceCalendar:
		return presence.Cause(s)
	}
	return presence.CauseApp
}

// Feed adds an event to the past and reports whether it is accepted. The policy
// is the one in force from an EventPolicy on.
func (n *Model) Feed(at presence.Instant, e presence.Event, policy int) bool {
	h := happened{at: at, event: e, policy: policy}
	if len(n.past) > 0 {
		h.at = max(h.at, n.past[len(n.past)-1].at) // time does not go back
	}
	if h.event.Kind == presence.EventSuspended {
		// The standstill counts from its begin, and the time passes after it.
		passed := happened{at: h.at}
		if h.event.To < h.event.From {
			n.passWork(h.at)
			passed.work = n.look(moment{n: len(n.past), at: h.at, upto: dueAll}).work()
			n.past = append(n.past, passed)
			return false
		}
		h.at = min(h.event.From, h.at)
		if len(n.past) > 0 {
			h.at = max(h.at, n.past[len(n.past)-1].at)
		}
		n.passWork(h.at)
		h.work = n.look(moment{n: len(n.past), at: h.at, upto: dueAll}).work()
		n.past = append(n.past, h)
		n.passWork(passed.at)
		passed.work = n.look(moment{n: len(n.past), at: passed.at, upto: dueAll}).work()
		n.past = append(n.past, passed)
		return true
	}
	n.passWork(h.at)
	accepted, drains := n.settle(&h)
	if !accepted {
		l := n.look(moment{n: len(n.past), at: h.at, upto: dueAll})
		h = happened{at: h.at, work: l.work()} // a refused event has only a time
	}
	n.past = append(n.past, h)
	if drains {
		n.drain(h.at)
	}
	n.passWork(h.at)
	return accepted
}

// settle decides the meaning of an event when it arrives. It reports false if the
// event must be refused, and whether the work may have ended with it.
func (n *Model) settle(h *happened) (accepted, drains bool) {
	l := n.look(moment{n: len(n.past), at: h.at, upto: dueAll})
	h.work = l.work()
	switch h.event.Kind {
	case presence.EventLoad, presence.EventOffer, presence.EventDone, presence.EventChallenge, presence.EventAck:
		return l.settleWork(h)
	case presence.EventRequest, presence.EventWithdraw, presence.EventDecide:
		return l.settleRequest(h), false
	}
	accepted = l.settleEvent(h)
	h.work.settles = l.settles(h)
	return accepted, false
}

// settleEvent decides the meaning of an event that is not about work.
func (l *look) settleEvent(h *happened) bool {
	n, e := l.n, &h.event
	i := slices.IndexFunc(l.there, func(c stay) bool { return c.id == e.Conn })
	issued := uint64(0)
	for j := range n.past {
		if k := n.past[j].event.Kind; (k == presence.EventConnect || k == presence.EventLogin) && !n.past[j].void {
			issued++
		}
	}
	switch e.Kind {
	case presence.EventConnect, presence.EventLogin:
		if l.disabled() {
			return false
		}
		if e.Epoch != 0 && uint64(e.Epoch) != issued+1 {
			h.void = true
			return i >= 0 && l.there[i].epoch == uint64(e.Epoch) // a repetition
		}
		last := l.lastInput()
		h.input, h.first = cmp.Or(last, h.at), last == 0
		if e.Kind == presence.EventLogin && l.p.Login.Mode == "reset" {
			h.work = h.work.dropped()
		}
	case presence.EventHeartbeat, presence.EventInput, presence.EventFocus, presence.EventVisible:
		return l.heardFrom(e.Conn, e.Epoch)
	case presence.EventDisconnect:
		if i < 0 || uint64(e.Epoch) > l.there[i].epoch {
			return false
		}
		h.void = e.Epoch != 0 && uint64(e.Epoch) < l.there[i].epoch
	case presence.EventLogout:
		return e.Conn == "" || i >= 0
	case presence.EventDisable, presence.EventEnable:
		h.void = l.disabled() == (e.Kind == presence.EventDisable)
		if e.Kind == presence.EventDisable && !h.void {
			h.work = h.work.dropped()
			h.work.challenge, h.work.deadline = "", 0
			if h.work.total() > 0 {
				h.work = h.work.taken(h.at)
			}
		}
	case presence.EventEndpoint:
		return !l.disabled() && (e.Remove || e.Endpoint.Until == 0 || e.Endpoint.Until.Add(l.lag) > h.at)
	case presence.EventSetClaim:
		return l.settleClaim(h)
	case presence.EventEndClaim:
		h.claim = e.Claim
		var ok bool
		h.claim.Source, ok = sourceOf(l.p, e.Actor, n.Subject, e.Claim.Source)
		h.claim.Conn = l.binds(e)
		if !ok || e.Conn != "" && !l.heardFrom(e.Conn, e.Epoch) {
			return false
		}
		waited := h.work.pending != nil && h.ends(l.p, h.work.pending)
		if waited {
			h.work.pending = nil
		}
		l.settleEnd(h, waited)
	}
	return true
}

// heardFrom reports whether an event over a connection counts.
func (l *look) heardFrom(id string, epoch uint32) bool {
	i := slices.IndexFunc(l.there, func(c stay) bool { return c.id == id })
	return i >= 0 && (epoch == 0 || uint64(epoch) == l.there[i].epoch) && (l.there[i].left == 0 || !l.there[i].told)
}

// sourceOf returns the source of an actor's claims for a subject.
func sourceOf(p *presence.Policy, actor presence.Actor, subject presence.Ref, named presence.Source) (presence.Source, bool) {
	source := presence.SourceSupervisor
	switch {
	case actor.Role == presence.RoleSystem:
		source = cmp.Or(named, presence.SourceApp)
		return source, slices.ContainsFunc(p.Sources, func(group []presence.Source) bool { return slices.Contains(group, source) })
	case actor.Role == presence.RoleVisitor:
		return "", false
	case actor.Subject == subject:
		source = presence.SourceManual
	case actor.Role != presence.RoleSupervisor && actor.Role != presence.RoleAdmin:
		return "", false
	}
	return source, named == "" || named == source
}

// binds returns the connection that a claim is for, or "".
func (l *look) binds(e *presence.Event) string {
	own := e.Actor.Subject == l.n.Subject && e.Actor.Role != presence.RoleSystem
	if own && l.p.ClaimScope == "connection" && e.Claim.Conn == "" {
		return e.Conn
	}
	return e.Claim.Conn
}

// settleClaim decides the meaning of a claim that is set.
// settleEnd decides what becomes of the end of a claim. One by a system that names a
// key or an id and finds nothing waits for a minute for the start, unless the same
// end has met its claim in the last minute. waited means that it found a claim that
// waited for the work to end.
func (l *look) settleEnd(h *happened, waited bool) {
	c := &h.claim
	if !l.known() || h.event.Actor.Role != presence.RoleSystem || c.Source == presence.SourceManual || c.Key == "" && c.ID == "" {
		return
	}
	h.end = endWaits
	if waited || slices.ContainsFunc(l.wishes, func(o wish) bool { return h.ends(l.p, &o.Claim) }) {
		h.end, h.metAt = endMet, h.at
	}
	for i := range l.n.past {
		o := &l.n.past[i]
		same := o.end != endForgotten && o.claim.Source == c.Source && o.claim.Conn == c.Conn && o.claim.Key == c.Key &&
			(o.claim.ID == c.ID || c.Key != "" && (o.claim.ID == "" || c.ID == ""))
		switch {
		case !same:
		case h.end == endWaits && o.end == endMet && h.at < o.metAt.Add(time.Minute):
			h.end = endForgotten
			return
		case h.end == endWaits && o.end == endMet: // too long ago
		default:
			o.end = endForgotten // the newer one takes its place
		}
	}
}

// tooLate reports whether the end of a claim arrived before its start, or before the
// same start as now.
func (l *look) tooLate(h *happened) bool {
	c := &h.claim
	for i := range l.n.past {
		o := &l.n.past[i]
		if o.end == endForgotten || o.claim.Source != c.Source || o.claim.Conn != c.Conn || o.claim.ID != "" && c.ID != "" && o.claim.ID != c.ID {
			continue
		}
		if o.claim.Key != c.Key && (o.claim.Key != "" || o.claim.ID != c.ID) {
			continue
		}
		switch {
		case o.end == endWaits && h.at < o.at.Add(time.Minute):
			o.end, o.metAt, o.start = endMet, h.at, c.ID
			return true
		case o.end == endMet && o.start != "" && o.start == c.ID && h.at < o.metAt.Add(time.Minute):
			return true
		}
	}
	return false
}

func (l *look) settleClaim(h *happened) bool {
	if !l.resolve(h) {
		return false
	}
	c, e := &h.claim, &h.event
	def := StatusOf(l.p, c.Status)
	if h.own && def.NeedsApproval && c.Source == presence.SourceManual {
		return false
	}
	same := func(o wish) bool {
		return c.ID != "" && o.ID == c.ID && o.Source == c.Source && o.Key == c.Key && o.Conn == c.Conn
	}
	waits := h.work.pending != nil && same(wish{Claim: *h.work.pending})
	if over := cmp.Or(e.Conn, c.Conn); waits || slices.ContainsFunc(l.wishes, same) {
		h.void = true
		return true
	} else if over != "" && !l.heardFrom(over, e.Epoch) {
		return false
	}
	if e.Actor.Role == presence.RoleSystem && l.tooLate(h) {
		h.void = true
		return true
	}
	if c.Source == presence.SourceManual || c.Source == presence.SourceSupervisor {
		h.work = h.work.dropped()
	}
	l.place(h, true)
	return true
}

// place makes a checked claim take effect, at once or when no work is left.
func (l *look) place(h *happened, mayWait bool) {
	c, p := &h.claim, l.p
	c.SetAt = h.at
	def := StatusOf(p, c.Status)
	if def != nil {
		c.Class = def.Class
	}
	if mayWait && (c.Source == presence.SourceManual || c.Source == presence.SourceSupervisor) {
		requeues := c.Source == presence.SourceSupervisor && p.Work.SupervisorDrain == "requeue"
		switch drains := def.DrainsFirst && h.work.total() > 0; {
		case drains && !requeues && l.chosen().Class == presence.ClassAvailable:
			h.waits = true
			pending := *c
			if pending.For > 0 {
				pending.Until = 0
			}
			h.work.pending, h.work.pendingBy, h.work.heldFrom = &pending, len(l.n.past), len(l.n.past)
			if before := l.work(); before.pending != nil { // what it held holds on
				h.work.heldFrom = before.heldFrom
			}
		case drains && requeues:
			h.work = h.work.taken(h.at)
		}
	}
	if h.own {
		h.work.challenge, h.work.deadline = "", 0
	}
	plain := c.Reason == "" && c.Text == "" && len(c.HidesFrom) == 0
	if !h.waits && c.Source == presence.SourceManual && c.Key == presence.KeyBase && c.Status == DefaultIn(p).ID && plain && !p.KeepExplicit {
		// A plain claim to the default only ends the choice. The default must then be
		// on top of all claims that do not rank above a person's choice. Otherwise it
		// lasts as long as what it was chosen over.
		h.plain = true
		manual := rankIn(p, presence.SourceManual)
		top, some := l.top(func(o *presence.Claim) bool { return rankIn(p, o.Source) >= manual && !h.ends(p, o) })
		h.clears = !some || top.claim == nil
		for _, o := range l.wishes {
			said := o.Source == presence.SourceLoginDefault && o.Status == c.Status
			if !h.clears && rankIn(p, o.Source) > manual && !h.ends(p, &o.Claim) && !said {
				h.over = append(h.over, slot{o.Source, o.Key})
			}
		}
	}
}

// resolve completes the claim of an event. It reports false if the policy refuses it.
func (l *look) resolve(h *happened) bool {
	e, p, subject := &h.event, l.p, l.n.Subject
	c := e.Claim
	var ok bool
	if c.Source, ok = sourceOf(p, e.Actor, subject, c.Source); !ok || l.disabled() {
		return false
	}
	h.own = e.Actor.Subject == subject && e.Actor.Role != presence.RoleSystem
	c.Conn = l.binds(e)
	def := StatusOf(p, c.Status)
	if def == nil {
		return false
	}
	by := presence.BySystem
	switch c.Source {
	case presence.SourceManual:
		by = presence.BySelf
	case presence.SourceSupervisor:
		by = presence.BySupervisor
	}
	if len(def.SelectableBy) > 0 && !slices.Contains(def.SelectableBy, by) {
		return false
	}
	if c.For > 0 && c.Until != 0 || e.Conn != "" && e.Claim.Conn != "" && e.Conn != e.Claim.Conn {
		return false
	}
	if c.Until == 0 {
		if c.For = cmp.Or(c.For, def.For); c.For > 0 {
			c.Until = h.at.Add(c.For - l.lag)
		}
	} else if c.Until.Add(l.lag) <= h.at {
		return false
	}
	natural := presence.KeyBase
	if c.Until != 0 {
		natural = presence.KeyTimed
	}
	c.Key = cmp.Or(c.Key, natural)
	if c.Source == presence.SourceManual && c.Key != natural {
		return false
	}
	for _, a := range c.HidesFrom {
		hides := func(s presence.Status) bool { return slices.Contains(s.HiddenFrom, a) }
		if !slices.Contains(p.Hideable, a) && !slices.ContainsFunc(p.Statuses, hides) {
			return false
		}
	}
	if c.Source == presence.SourceSupervisor && p.SupervisorWhenOffline == "refuse" && l.leftFor(e.Actor) {
		return false
	}
	h.claim = c
	return true
}

// Turn is one transition of the status.
type Turn struct {
	Prev, Status string
	Since, Seen  presence.Instant // when it holds from, when it was noticed
}

// String returns a transition as text for a person.
func (t Turn) String() string {
	return fmt.Sprintf("%q to %q since %s, seen %s", t.Prev, t.Status, t.Since, t.Seen)
}

// Timeline lists every transition. It asks for the status at every instant at
// which something could happen, and at the extra instants.
func (n *Model) Timeline(extra []presence.Instant) []Turn {
	var list []Turn
	var last Answer
	var since, changed presence.Instant
	facts := ""
	see := func(a Answer, logical, at presence.Instant) {
		if a.Known && (!last.Known || a.Status != last.Status) {
			since = max(logical, since, changed)
			list = append(list, Turn{last.Status, a.Status, since, at})
		}
		last = a
	}
	deadlines := func(count int, at presence.Instant) {
		l := n.look(moment{n: count, at: at, upto: dueAll})
		a := l.answer()
		if f := l.facts(); a == last && f == facts {
			return
		}
		logical, status := at, last.Status
		for kind := dueUntil; kind <= dueIdle; kind++ {
			l := n.look(moment{n: count, at: at, upto: kind})
			if f := l.facts(); f != facts {
				facts = f
				if kind == dueLease {
					changed = at
				}
			}
			step := l.answer()
			if step.Status == status {
				continue
			}
			status, logical = step.Status, at
			switch kind {
			case dueGrace:
				logical = max(step.idleAt, l.leftBefore())
			case dueIdle:
				logical = step.idleAt
			}
		}
		see(a, logical, at)
	}
	for i := range n.past {
		h := &n.past[i]
		var from presence.Instant
		if i > 0 {
			from = n.past[i-1].at
		}
		for _, at := range n.candidates(i, from, h.at, extra) {
			if !h.byTime || at < h.at { // ends of one instant make one change
				deadlines(i, at)
			}
		}
		l := n.look(moment{n: i + 1, at: h.at, upto: dueAll, fresh: true})
		if f := l.facts(); f != facts {
			// Claims that end with the connections of a dead node are no act of an actor.
			if h.event.Kind != presence.EventNodeUp || liveFacts(f) != liveFacts(facts) {
				changed = h.at
			}
			facts = f
		}
		a := l.answer()
		logical := cmp.Or(a.idleAt, h.at)
		if left := l.leftBefore(); h.event.Kind == presence.EventNodeUp && left != 0 {
			logical = max(left, a.idleAt) // connections of a dead node have no grace left
		}
		see(a, logical, h.at)
		deadlines(i+1, h.at)
	}
	return list
}

// leftBefore returns when the connections left that are gone at this very moment.
func (l *look) leftBefore() (left presence.Instant) {
	for _, c := range l.stays {
		if c.gone == l.w.at && c.goneBy == l.w.n {
			left = max(left, c.left)
		}
	}
	return left
}

// facts lists the live connections, the endpoints, the claims and the policy.
func (l *look) facts() string {
	var b strings.Builder
	for _, c := range l.there {
		if c.left == 0 {
			fmt.Fprint(&b, "c", c.openedBy, " ")
		}
	}
	b.WriteString("; ")
	for _, p := range l.endpoints {
		fmt.Fprint(&b, "e", p.ID, p.Kind, p.Until, " ")
	}
	for _, c := range l.wishes {
		fmt.Fprint(&b, "w", c.by, " ")
	}
	for i := range l.n.past[:l.w.n] {
		h := &l.n.past[i]
		switch h.event.Kind {
		case presence.EventPolicy, presence.EventDisable, presence.EventEnable:
			if !h.void {
				fmt.Fprint(&b, "p", i, " ")
			}
		}
	}
	if w := l.work(); w.pending != nil {
		fmt.Fprint(&b, "d", w.pendingBy)
	}
	return b.String()
}

// lookAt looks at an instant after all events, with all deadlines that are due.
func (n *Model) lookAt(at presence.Instant) *look {
	if len(n.past) > 0 {
		at = max(at, n.past[len(n.past)-1].at)
	}
	return n.look(moment{n: len(n.past), at: at, upto: dueAll})
}

// Answer returns the answer at an instant after all past events.
func (n *Model) Answer(at presence.Instant) Answer {
	a := n.lookAt(at).answer()
	a.idleAt = 0
	return a
}

// Compare compares a state with the model at an instant: the connections, the
// claims and the answer. It returns the differences.
func (n *Model) Compare(s *presence.State, at presence.Instant) error {
	l := n.lookAt(at)
	var inputs []string
	for _, c := range s.Conns {
		inputs = append(inputs, describeConn(c.ID, uint64(c.Epoch), c.Heard, max(c.Input, c.ActedAt), c.Left, c.Cause))
	}
	for _, c := range s.Claims {
		inputs = append(inputs, describeClaim(&c))
	}
	slices.Sort(inputs)
	if want := l.inputs(); !slices.Equal(want, inputs) {
		return fmt.Errorf("want %s\n got  %s", want, inputs)
	}
	p := &s.Current
	got := Answer{
		Known: p.Known, Status: p.Status, Class: p.Class, Reason: p.Reason, Text: p.Text, SetAt: p.SetAt, Until: p.Until, Masked: p.Masked, Cause: p.Cause,
		Routable: p.Routable, Routing: p.Routing, RoutableOn: p.RoutableOn, Label: p.Label, Load: p.Load, Pinned: p.Pinned, Pending: p.Pending, Request: p.Request,
		Reach: p.Reach, Kind: p.Kind, Disabled: p.Disabled, LastSeen: p.LastSeen, LastLogin: p.LastLogin,
	}
	want := l.answer()
	want.idleAt = 0
	if got != want {
		return fmt.Errorf("want %+v\n got  %+v", want, got)
	}
	return nil
}

// CompareHidden compares the audiences from which a subject hides at an instant. It
// takes much longer than Compare.
func (n *Model) CompareHidden(s *presence.State, at presence.Instant) error {
	p := &s.Current
	if !p.Known || p.Disabled {
		return nil
	}
	got, want := slices.Clone(p.HiddenFrom), n.lookAt(at).hiddenFrom()
	slices.Sort(got)
	slices.Sort(want)
	if got = slices.Compact(got); !slices.Equal(got, want) {
		return fmt.Errorf("hidden from %q, want %q", got, want)
	}
	return nil
}

// inputs lists the connections and claims that the status is made of.
func (l *look) inputs() (list []string) {
	for _, c := range l.there {
		list = append(list, describeConn(c.id, c.epoch, c.heard, c.lastInput(), c.left, c.cause))
	}
	for _, c := range l.wishes {
		list = append(list, describeClaim(&c.Claim))
	}
	slices.Sort(list)
	return list
}

func describeConn(id string, epoch uint64, heard, input, left presence.Instant, cause presence.Cause) string {
	text := fmt.Sprintf("connection %s#%d heard %s input %s", id, epoch, heard, input)
	if left != 0 {
		text += fmt.Sprintf(" left %s %s", left, cause)
	}
	return text
}

func describeClaim(c *presence.Claim) string {
	return fmt.Sprintf("claim %s %s %s conn=%s set %s until %s", c.Status, c.Source, c.Key, c.Conn, c.SetAt, c.Until)
}

// liveFacts returns the part of the facts about connections.
func liveFacts(facts string) string {
	conns, _, _ := strings.Cut(facts, ";")
	return conns
}

// candidates lists the instants after one event and up to the next at which a
// deadline may lie. Many of them have no deadline.
func (n *Model) candidates(count int, from, to presence.Instant, extra []presence.Instant) []presence.Instant {
	if count == 0 {
		return nil
	}
	l := n.look(moment{n: count, at: from, upto: dueAll})
	list := append(slices.Clone(extra), to)
	for _, c := range l.stays {
		if c.gone == 0 {
			for _, end := range []presence.Instant{c.heard.Add(l.p.Lease), c.left, c.extended} {
				for _, g := range slices.Concat(gracesOf(l.p.Grace), gracesOf(l.p.Devices[c.device].Grace), keepsOf(l.p)) {
					list = append(list, end, end.Add(g))
				}
			}
		}
		for _, stage := range l.p.Idle {
			list = append(list, c.lastInput().Add(stage.After))
		}
	}
	for _, stage := range l.p.Idle {
		list = append(list, l.keptInput().Add(stage.After)) // what counts is in stays
	}
	for _, c := range l.wishes {
		list = append(list, c.Until.Add(l.lag), limitIn(l.p, &c.Claim))
	}
	for _, e := range l.endpoints {
		list = append(list, e.Until.Add(l.lag))
	}
	if waits := l.work().pending; waits != nil {
		list = append(list, waits.Until.Add(l.lag))
	}
	slices.Sort(list)
	return slices.DeleteFunc(slices.Compact(list), func(at presence.Instant) bool { return at <= from || at > to })
}

func keepsOf(p *presence.Policy) (list []time.Duration) {
	for _, s := range p.Statuses {
		list = append(list, s.Keeps)
	}
	return list
}

func gracesOf(g presence.Grace) []time.Duration {
	return []time.Duration{g.Logout, g.Close, g.Loss, g.Node, g.Drain}
}

var kindNames = [...]string{
	presence.EventTick: "tick", presence.EventConnect: "connect", presence.EventLogin: "login", presence.EventHeartbeat: "heartbeat",
	presence.EventInput: "input", presence.EventFocus: "focus", presence.EventVisible: "visible", presence.EventDisconnect: "disconnect",
	presence.EventLogout: "logout", presence.EventEndpoint: "endpoint", presence.EventSetClaim: "claim", presence.EventEndClaim: "end-claim",
	presence.EventNodeDown: "node-down", presence.EventNodeUp: "node-up", presence.EventPolicy: "policy", presence.EventGrant: "grant",
	presence.EventDisable: "disable", presence.EventEnable: "enable", presence.EventSuspended: "suspended",
	presence.EventClock: "clock", presence.EventRestart: "restart",
	presence.EventLoad: "load", presence.EventOffer: "offer", presence.EventDone: "done", presence.EventChallenge: "challenge", presence.EventAck: "ack",
	presence.EventRequest: "request", presence.EventWithdraw: "withdraw", presence.EventDecide: "decide",
}

// Text returns an event as text for a person, with instants as the time since the
// origin.
func Text(e *presence.Event, policy int, origin presence.Instant) string {
	words := []string{kindNames[e.Kind]}
	add := func(given bool, format string, args ...any) {
		if given {
			words = append(words, fmt.Sprintf(format, args...))
		}
	}
	add(e.Subject != presence.Ref{}, "%s", e.Subject)
	add(e.Kind == presence.EventPolicy, "%d", policy)
	add(e.Conn != "", "conn=%s", e.Conn)
	add(e.Epoch != 0, "epoch=%d", e.Epoch)
	add(e.SubjectKind != "", "kind=%s", e.SubjectKind)
	add(e.Device != "", "device=%s", e.Device)
	add(e.Node != "", "node=%s#%d", e.Node, e.Incarnation)
	add(e.Seq != 0, "seq=%d", e.Seq)
	switch e.Kind {
	case presence.EventConnect, presence.EventLogin, presence.EventHeartbeat:
		add(e.Age >= 0, "age=%v", e.Age)
	case presence.EventVisible:
		add(true, "hidden=%t", e.Hidden)
	}
	add(e.Cause != "", "cause=%s", e.Cause)
	add(e.Channel != "", "channel=%s", e.Channel)
	add(e.Endpoint.ID != "", "id=%s kind=%s off=%t", e.Endpoint.ID, e.Endpoint.Kind, e.Remove)
	add(e.Endpoint.Until != 0, "until=+%v", e.Endpoint.Until.Sub(origin))
	add(e.From != 0, "from=+%v to=+%v", e.From.Sub(origin), e.To.Sub(origin))
	add(e.ID != "", "id=%s", e.ID)
	add(e.Revision != 0, "revision=+%v", e.Revision.Sub(origin))
	switch e.Kind {
	case presence.EventLoad, presence.EventOffer, presence.EventDone:
		add(true, "on=%q n=%d capacity=%s pinned=%s %s", e.Load.On, e.Load.N, e.Load.Capacity, e.Load.Pinned, e.Routing)
	case presence.EventChallenge:
		add(true, "for=%v", e.Claim.For)
	case presence.EventWithdraw, presence.EventDecide:
		add(true, "by=%s/%s reject=%t", e.Actor.Subject, e.Actor.Role, e.Reject)
	case presence.EventSetClaim, presence.EventEndClaim, presence.EventRequest:
		c := &e.Claim
		add(true, "by=%s/%s", e.Actor.Subject, e.Actor.Role)
		add(c.ID != "", "id=%s", c.ID)
		add(c.Status != "", "status=%s", c.Status)
		add(c.Source != "", "source=%s", c.Source)
		add(c.Key != "", "key=%s", c.Key)
		add(c.Conn != "", "conn=%s", c.Conn)
		add(c.Until != 0, "until=+%v", c.Until.Sub(origin))
		add(c.For != 0, "for=%v", c.For)
		add(c.DropOnDisconnect, "drop-on-disconnect")
		add(c.DropOnLogin, "drop-on-login")
		add(len(c.HidesFrom) > 0, "hides-from=%v", c.HidesFrom)
	}
	return strings.Join(words, " ")
}
