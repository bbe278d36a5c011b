package presence

import (
	"slices"
	"time"
)

// The limits on the ends that a subject remembers.
const (
	maxEnds = 32
	endKept = time.Minute
)

// claimEnd is an end of a claim by a system that names its key or id. A message can
// overtake another: an end that finds no claim waits for the start of that claim.
type claimEnd struct {
	source        Source
	conn, key, id string // as the end names them; an empty key means every key, and then it has an id
	at            Instant
	met           bool   // it has found its claim, or the start that it waited for
	start         string // the id of that start, if it had one
}

// isOf reports whether the end is of a claim.
func (e *claimEnd) isOf(c *Claim) bool {
	if e.source != c.Source || e.conn != c.Conn || e.id != "" && c.ID != "" && e.id != c.ID {
		return false
	}
	return e.key == c.Key || e.key == "" && e.id == c.ID
}

// repeats reports whether two ends name the same claim.
func (e *claimEnd) repeats(o *claimEnd) bool {
	return e.source == o.source && e.conn == o.conn && e.key == o.key && (e.id == o.id || e.id == "" || o.id == "")
}

// noteEnd remembers an end of a claim for a minute. An end that finds nothing after
// one that found its claim is a repetition, and waits for nothing.
func (st *stepper) noteEnd(e claimEnd) {
	s := st.s
	e.at = s.Now
	if !e.met && slices.ContainsFunc(s.ends, func(o claimEnd) bool { return o.met && e.repeats(&o) }) {
		return
	}
	s.ends = slices.DeleteFunc(s.ends, func(o claimEnd) bool { return e.repeats(&o) })
	if len(s.ends) >= maxEnds {
		s.ends = slices.Delete(s.ends, 0, len(s.ends)-maxEnds+1)
	}
	s.ends = append(s.ends, e)
}

// startsTooLate reports whether the end of a claim has already arrived. That end
// then waits for no other start.
func (st *stepper) startsTooLate(c *Claim) bool {
	for i := range st.s.ends {
		e := &st.s.ends[i]
		switch {
		case !e.isOf(c):
		case !e.met:
			e.met, e.start, e.at = true, c.ID, st.s.Now
			return true
		case e.start != "" && e.start == c.ID:
			return true // the same start again
		}
	}
	return false
}

// forgetEnds forgets the ends whose minute is over.
func (st *stepper) forgetEnds(at Instant) {
	if st.s.ends == nil {
		return // the usual case
	}
	st.s.ends = slices.DeleteFunc(st.s.ends, func(e claimEnd) bool { return e.at.Add(endKept) <= at })
	if len(st.s.ends) == 0 {
		st.s.ends = nil
	}
}

// endOf returns when a claim ends by time, as the wall clock shows it; zero means
// never. The policy may limit the claims of a source.
func (m *Machine) endOf(s *State, c *Claim) Instant {
	if d := m.policy.SourceFor[c.Source]; d > 0 {
		if end := s.wall(c.SetAt.Add(d)); c.Until == 0 || end < c.Until {
			return end
		}
	}
	return c.Until
}

// holds reports whether a claim has not ended by time at an instant.
func (m *Machine) holds(s *State, c *Claim, now Instant) bool { return !s.past(m.endOf(s, c), now) }

// over lists the sources and keys of the claims that a default chosen over a
// connection, or over none, is chosen over: those below manual. What the login set
// to the default itself is no such claim.
func (m *Machine) over(s *State) (list [][2]string) {
	for i := range s.Claims {
		c := &s.Claims[i]
		if m.rankOf(c.Source) > m.manual && (c.Source != SourceLoginDefault || c.Status != m.byDefault.ID) {
			list = append(list, [2]string{string(c.Source), c.Key})
		}
	}
	return slices.Compact(list) // claims are sorted by source and key
}

// endDefaults ends a default that was chosen over claims none of which is left.
func (st *stepper) endDefaults() {
	s := st.s
	left := func(o Claim) [2]string { return [2]string{string(o.Source), o.Key} }
	for _, c := range s.Claims {
		if len(c.Over) > 0 && !slices.ContainsFunc(s.Claims, func(o Claim) bool { return slices.Contains(c.Over, left(o)) }) {
			st.drop(EndOver, func(o *Claim) bool { return o.Serial == c.Serial })
			return
		}
	}
}

// plainDefault reports whether a claim is a manual choice of the default status
// without a reason, text or hiding.
func (m *Machine) plainDefault(c *Claim) bool {
	return c.Source == SourceManual && c.Key == KeyBase && c.Status == m.byDefault.ID && !m.policy.KeepExplicit &&
		c.Reason == "" && c.Text == "" && len(c.HidesFrom) == 0
}

// clear handles the choice of the default status: it ends earlier choices, also
// those of supervisors. If another claim would then show, clear returns false. The
// choice must then be stored as a claim, which lasts as long as what it lies over.
func (st *stepper) clear(c *Claim) bool {
	m, s := st.m, st.s
	ends := func(o *Claim) bool {
		if c.Conn != "" {
			return o.Source == SourceManual && o.Conn == c.Conn
		}
		return m.rankOf(o.Source) == m.manual || o.Source == SourceLoginDefault
	}
	below, shows := m.top(s, s.Now, func(o *Claim) bool { return m.rankOf(o.Source) >= m.manual && !ends(o) })
	cleared := !shows || below == nil
	st.drop(EndReplaced, ends)
	if !cleared {
		c.Over = m.over(s)
	}
	return cleared
}

// dropOrphan makes room by ending the oldest claim of an ended connection. It
// returns false if no claim is one.
func (st *stepper) dropOrphan() bool {
	var oldest *Claim
	for i := range st.s.Claims {
		c := &st.s.Claims[i]
		if c.Conn == "" {
			continue
		}
		if _, connected := st.s.conn(c.Conn); !connected && (oldest == nil || c.Serial < oldest.Serial) {
			oldest = c
		}
	}
	if oldest == nil {
		return false
	}
	serial := oldest.Serial
	return st.drop(EndLimit, func(c *Claim) bool { return c.Serial == serial })
}
