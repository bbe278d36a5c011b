package presence

import (
	"slices"
	"strconv"
	"time"
)

// deadlineKind is a kind of deadline.
type deadlineKind uint8

const (
	deadlineUntil     deadlineKind = iota // a claim, endpoint, request or pending target ends
	deadlineChallenge                     // a challenge was not answered
	deadlineLease                         // a connection was silent for its lease
	deadlineGrace                         // a connection that left no longer counts
	deadlineRequeue                       // the work of a subject that left is given to others
	deadlineIdle                          // an idle stage is reached
	deadlineWrapUp                        // Policy.Work.WrapUp has passed since work ended
)

var deadlineNames = [...]string{"until", "challenge", "lease", "grace", "requeue", "idle", "wrap-up"}

// deadline is the earliest instant at which time alone changes something. At that
// instant it is due.
type deadline struct {
	at Instant
	ok bool // false means none
}

func (d *deadline) sooner(at Instant) {
	if !d.ok || at < d.at {
		*d = deadline{at, true}
	}
}

// wall returns what the wall clock shows at an instant; 0 stays 0.
func (s *State) wall(at Instant) Instant {
	if at == 0 {
		return 0
	}
	return at.Add(-s.Behind)
}

// due returns the instant at which the wall clock shows another one; 0 stays 0.
func (s *State) due(until Instant) Instant {
	if until == 0 {
		return 0
	}
	return until.Add(s.Behind)
}

// past reports whether the wall clock has reached an end at an instant. An end of 0
// is never reached.
func (s *State) past(until, now Instant) bool { return until != 0 && s.due(until) <= now }

// next returns the earliest deadline of s, or false if s has none.
func (m *Machine) next(s *State) (d deadline) {
	for i := range s.Claims {
		if until := m.endOf(s, &s.Claims[i]); until != 0 {
			d.sooner(s.due(until))
		}
	}
	for i := range s.ends {
		d.sooner(s.ends[i].at.Add(endKept))
	}
	for i := range s.Endpoints {
		if until := s.Endpoints[i].Until; until != 0 {
			d.sooner(s.due(until))
		}
	}
	for i := range s.Conns {
		c := &s.Conns[i]
		if c.Left == 0 {
			d.sooner(m.leaseEnd(s, c))
		} else {
			d.sooner(m.graceEnd(s, c))
		}
	}
	if s.Work != nil {
		m.workDeadlines(s, &d)
	}
	if d.ok && d.at < m.lastInput(s).Add(m.firstIdle) {
		return d // the usual case: no idle stage can be reached earlier
	}
	if at, found := m.nextIdle(s); found {
		d.sooner(at)
	}
	return d
}

// nextIdle returns when the chosen status reaches its next idle stage after s.Now.
// The presence already has the earlier stages.
func (m *Machine) nextIdle(s *State) (Instant, bool) {
	if s.Disabled || m.policy.Disabled || !s.Current.Known {
		return 0, false
	}
	def, c, gone := m.base(s)
	if gone != nil {
		return 0, false
	}
	last, ages := m.idleFrom(s)
	for _, st := range def.stages {
		if at := last.Add(st.after); ages && at > s.Now && !(st.unchosen && m.chosen(c)) {
			return at, true
		}
	}
	return 0, false
}

// leaseEnd returns when a connection that stays silent is lost.
func (m *Machine) leaseEnd(s *State, c *ConnState) Instant {
	return s.outlast(c.Heard, c.Heard.Add(m.lease))
}

// outlast returns an end whose time began at an instant. What was running at the last
// standstill does not end before the floor.
func (s *State) outlast(from, end Instant) Instant {
	if from < s.SuspendedUntil {
		return max(end, s.LeaseFloor)
	}
	return end
}

// keptUntil returns until when the best of a connection's own claims keeps the
// connection lingering. If none keeps it, that is the instant at which it left.
func (m *Machine) keptUntil(s *State, c *ConnState) Instant {
	end := c.Left
	if own := m.vote(s, c.ID, s.Now, nil); own != nil && c.Cause != CauseLogout {
		if keeps := m.resolved(own).Keeps; keeps > 0 {
			end = s.outlast(c.Left, end.Add(keeps))
		}
		if until := m.endOf(s, own); until != 0 {
			end = min(end, s.due(until))
		}
	}
	return end
}

// graceEnd returns when a lingering connection ends.
func (m *Machine) graceEnd(s *State, c *ConnState) Instant {
	g := &m.policy.Grace
	if rule := m.policy.Devices[c.Device]; rule.OwnGrace {
		g = &rule.Grace
	}
	from := c.Left
	var d time.Duration
	switch c.Cause {
	case CauseLogout:
		d = g.Logout
	case CauseClosed:
		d = g.Close
	case CauseLost:
		d = g.Loss
		if g.LossFrom == LossFromLease {
			from = max(from, c.Heard.Add(m.lease))
		}
	case CauseNode:
		d = g.Node
	case CauseDrain:
		d = g.Drain
	}
	end := max(from.Add(d), m.keptUntil(s, c))
	if end > c.Left || c.ID == restartConn {
		end = s.outlast(c.Left, end)
	}
	return end
}

// terms returns when a driver can note a heartbeat or an input without a step: if
// the last one is younger than lease, or patience. stages are the times without
// input after which an idle stage can be reached. ignores means that the input of
// some devices does not count.
func (m *Machine) terms() (lease, patience time.Duration, stages []time.Duration, ignores bool) {
	if m.activity[ActivityInput] {
		patience = m.firstIdle
	}
	for i := range m.statuses {
		for _, st := range m.statuses[i].stages {
			stages = append(stages, st.after)
		}
	}
	slices.Sort(stages)
	return m.lease, patience, slices.Compact(stages), len(m.policy.Devices) > 0
}

// tick processes every deadline up to now in the order of time. The deadlines of
// one instant make one change, so that no status is shown for no time.
func (st *stepper) tick(now Instant) {
	s, m := st.s, st.m
	for {
		d := m.next(s)
		if st.next = d.at; !d.ok || d.at > now {
			break
		}
		at := max(d.at, s.Now)
		s.Now = at
		st.settleAt(at)
	}
	s.Now = max(s.Now, now)
}

// settleAt processes the deadlines due at one instant. The cause of a change of
// status is the last deadline that changed the status.
func (st *stepper) settleAt(at Instant) {
	s, m := st.s, st.m
	var trigger Cause
	status, logical, kind := s.Current.Status, at, deadlineIdle
	idle := at - 1 // an idle stage that is reached now is attributed last
	attribute := func(cause Cause, when Instant, k deadlineKind) {
		if shown := m.shown(s, idle); shown != status || trigger == "" {
			status, trigger, logical, kind = shown, cause, when, k
		}
	}
	if w := s.Work; w != nil && (w.Settles == at || w.WrapsUp == at) {
		st.room = true // in some work channel, perhaps
	}
	work := st.expireWork(at)
	if st.expireClaims(at) || work {
		attribute(TriggerUntil, at, deadlineUntil)
	}
	if w := s.Work; w != nil && w.Challenge != "" && w.Deadline <= at {
		st.kickOut()
		attribute(TriggerChallenge, at, deadlineChallenge)
	}
	for i := range s.Conns {
		if c := &s.Conns[i]; c.Left == 0 && m.leaseEnd(s, c) <= at {
			st.leave(c, CauseLost, at, false)
			attribute(CauseLost, at, deadlineLease)
		}
	}
	st.expireConns(at, func(cause Cause, left Instant) { attribute(cause, left, deadlineGrace) })
	if from := m.requeueAt(s); from != 0 && from <= at {
		st.requeue("requeue@"+strconv.FormatInt(int64(at), 10), EndReason(s.LeftCause))
		attribute(TriggerLoad, at, deadlineRequeue)
	}
	if w := s.Work; w != nil && w.WrapsUp == at {
		attribute(TriggerLoad, at, deadlineWrapUp)
	}
	idle = at
	attribute(CauseIdle, at, deadlineIdle)
	if kind == deadlineUntil || kind == deadlineGrace {
		st.ended = logical
	}
	st.settle(logical, trigger, st.timedID(kind, at))
	st.ended = 0
}

// transitionName is the id of the transitions that a deadline causes at one
// instant. All subjects share it.
type transitionName struct {
	kind deadlineKind
	at   Instant
	id   string
}

// timedID returns the id of a transition that a deadline causes.
func (st *stepper) timedID(kind deadlineKind, at Instant) string {
	if n := st.lastName; n != nil && n.id != "" && n.kind == kind && n.at == at {
		return n.id
	}
	b := append(append(make([]byte, 0, 48), deadlineNames[kind]...), '@')
	id := string(strconv.AppendInt(b, int64(at), 10))
	if st.lastName != nil {
		*st.lastName = transitionName{kind, at, id}
	}
	return id
}

// expireClaims ends the claims and endpoints whose end is reached. It reports
// whether it ended one.
func (st *stepper) expireClaims(at Instant) bool {
	s := st.s
	st.forgetEnds(at)
	ended := st.drop(EndUntil, func(c *Claim) bool { return !st.m.holds(s, c, at) })
	n := len(s.Endpoints)
	s.Endpoints = slices.DeleteFunc(s.Endpoints, func(p Endpoint) bool { return s.past(p.Until, at) })
	return ended || len(s.Endpoints) < n
}

// expire ends the connections whose grace has passed, as part of an event.
func (st *stepper) expire(at Instant) { st.expireConns(at, nil) }

func (st *stepper) expireConns(at Instant, gone func(cause Cause, left Instant)) {
	for {
		first := -1
		for i := range st.s.Conns {
			c := &st.s.Conns[i]
			if c.Left == 0 || st.m.graceEnd(st.s, c) > at {
				continue
			}
			if first < 0 || c.Left < st.s.Conns[first].Left {
				first = i
			}
		}
		if first < 0 {
			return
		}
		cause, left := st.s.Conns[first].Cause, st.s.Conns[first].Left
		st.remove(first, left)
		if gone != nil {
			gone(cause, left)
		}
	}
}

// remove removes a connection and ends the claims that end with it.
func (st *stepper) remove(i int, left Instant) {
	s := st.s
	c := s.Conns[i]
	s.Conns = append(s.Conns[:i], s.Conns[i+1:]...)
	if st.m.counts(&c) {
		// Input is stored here while other connections count as well. It is read
		// when none does.
		st.keepInput(max(c.Input, c.ActedAt))
	}
	if len(s.Conns) == 0 {
		s.Input, s.Acted = max(s.Input, s.Acted), 0
	}
	if c.Left >= s.LeftAt {
		s.LeftAt, s.LeftCause = max(left, s.LeftAt), c.Cause
	}
	if len(s.Conns) == 0 {
		st.withdrawOnLeave(c.Cause)
	}
	st.drop(EndDisconnected, func(o *Claim) bool {
		return o.DropOnDisconnect && (o.Conn == c.ID || o.Conn == "" && len(s.Conns) == 0)
	})
}

// noteChoice records that the subject itself has just chosen a status, over a
// connection or over none.
func (st *stepper) noteChoice(over *ConnState) {
	s := st.s
	switch {
	case st.m.activity[ActivityClaim]:
		for i := range s.Conns {
			if conn := &s.Conns[i]; over == nil && conn.Left == 0 {
				conn.ActedAt = s.Now
				st.noteAct(conn)
			}
		}
		if over != nil {
			over.Input = s.Now
			st.noteAct(over)
		}
		st.touched = true
	case over != nil:
		over.Looked = s.Now
	}
}

// noteAct records that the person acted over a connection that does not count. The
// act counts while no connection does.
func (st *stepper) noteAct(c *ConnState) {
	if c.Aside {
		st.s.Acted = st.s.Now
	}
}

// keepInput stores the last input of connections that no longer count. Of several
// stored at one instant the newest stays.
func (st *stepper) keepInput(last Instant) {
	s := st.s
	if s.InputKept == s.Now {
		last = max(last, s.Input)
	}
	s.Input, s.InputKept = last, s.Now
}

// recount notes which connections count under a policy that takes effect. If none
// does any more, the last input over those that did is kept.
func (st *stepper) recount() {
	var last Instant
	counted, counts := false, false
	for i := range st.s.Conns {
		c := &st.s.Conns[i]
		if !c.Aside {
			last, counted = max(last, c.Input, c.ActedAt), true
		}
		c.Aside = !st.m.counts(c)
		counts = counts || !c.Aside
	}
	if counted && !counts {
		st.keepInput(last)
	}
}

// workDeadlines adds the deadlines of a subject's work.
func (m *Machine) workDeadlines(s *State, d *deadline) {
	w := s.Work
	if w.Pending != nil && w.Pending.Until != 0 {
		d.sooner(s.due(w.Pending.Until))
	}
	for i := range w.Requests {
		if until := w.Requests[i].Until; until != 0 {
			d.sooner(s.due(until))
		}
	}
	if w.Challenge != "" {
		d.sooner(w.Deadline)
	}
	if at := m.requeueAt(s); at != 0 {
		d.sooner(at)
	}
	if w.Settles > s.Now {
		d.sooner(w.Settles)
	}
	if w.WrapsUp > s.Now {
		d.sooner(w.WrapsUp)
	}
}

// requeueAt returns when the work of a subject that left is given to others, or 0. Work
// that it is given after that stays as long.
func (m *Machine) requeueAt(s *State) Instant {
	if m.policy.Work.RequeueAfter == 0 || len(s.Conns) > 0 || s.LeftAt == 0 || s.Work.Total() == 0 {
		return 0
	}
	return max(s.LeftAt, s.Work.Given).Add(m.policy.Work.RequeueAfter)
}

// expireWork ends the pending status and the requests whose end is reached. It
// reports whether it ended one.
func (st *stepper) expireWork(at Instant) bool {
	s, w := st.s, st.s.Work
	if w == nil {
		return false
	}
	ended := false
	if w.Pending != nil && s.past(w.Pending.Until, at) {
		w.Pending, ended = nil, true
		st.persist()
	}
	n := len(w.Requests)
	st.closeRequests(func(r *Request) bool { return s.past(r.Until, at) }, EndExpired, "")
	return ended || len(w.Requests) < n
}
