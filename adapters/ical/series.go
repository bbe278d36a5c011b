package ical

import (
	"cmp"
	"slices"
	"time"

	"github.com/presence-go/presence/internal/wallclock"
)

// series is an event with the changes of its times.
type series struct {
	*event
	single map[int64]bool // times that other events take the place of, by their keys
	dates  map[int]bool   // and those that are named by their dates
	ranges []change       // in order
}

// change is an event that changes a time and those after or before it.
type change struct {
	*event
	key int64
	was wallclock.Time // the time that it replaces
}

// series puts events together that are about the same, and leaves out those
// that do not count.
func (r *reader) series(list []*event) (all []*series, err error) {
	byUID := make(map[string][]*event)
	off := make(map[string]int) // the latest revision that calls off a whole series
	for _, e := range list {
		if e.UID == "" || e.added {
			continue
		}
		byUID[e.UID] = append(byUID[e.UID], e)
		if e.cancelled && e.replaces == nil {
			off[e.UID] = max(off[e.UID], e.revision.sequence+1)
		}
	}
	of := make(map[*event]*series) // the events that count
	for _, e := range list {
		switch same := byUID[e.UID]; {
		case e.UID == "" || e.added:
			if e.revision.sequence >= off[e.UID] {
				r.single(e, of)
			}
		case e == same[0]:
			if err := r.sort(same, off[e.UID], of); err != nil {
				return nil, ended(err, e.Event)
			}
		}
	}
	for _, e := range list {
		if s := of[e]; s != nil {
			e.kept = r.Keep == nil || r.Keep(*e.Event)
			all = append(all, s)
		}
	}
	return all, nil
}

// sort finds out which events with one UID count. Revisions before one may be
// called off.
func (r *reader) sort(same []*event, before int, of map[*event]*series) error {
	var masters, changes []*event
	for _, e := range same {
		if e.replaces == nil {
			masters = append(masters, e)
		} else {
			changes = append(changes, e)
		}
	}
	masters = newest(masters)
	off := slices.ContainsFunc(masters, func(e *event) bool { return e.cancelled })
	masters = slices.DeleteFunc(masters, func(e *event) bool { return e.broken || e.cancelled })
	if off {
		masters = nil
	}
	for _, m := range masters {
		of[m] = &series{event: m}
	}
	changes = slices.DeleteFunc(changes, func(e *event) bool { return off && e.revision.sequence < before })
	byTime := make(map[int64][]*event)
	for _, e := range changes {
		key := e.replaced(masters)
		byTime[key] = append(byTime[key], e)
	}
	for _, list := range byTime {
		for _, e := range newest(list) {
			if err := r.budget.look(timeCost * len(masters)); err != nil {
				return err
			}
			for _, m := range masters {
				of[m].change(e, m.keyOf(e.replaces))
			}
			switch {
			case len(masters) == 0:
				r.single(e, of)
			case !e.broken && !e.cancelled:
				of[e] = &series{event: e}
			}
		}
	}
	for _, m := range masters {
		slices.SortFunc(of[m].ranges, func(a, b change) int { return cmp.Or(cmp.Compare(a.key, b.key), cmp.Compare(a.Line, b.Line)) })
	}
	return nil
}

// single counts an event that belongs to no series.
func (r *reader) single(e *event, of map[*event]*series) {
	switch {
	case e.broken || e.cancelled:
	case e.ranged != 0 && !e.recurs():
		r.skip(e.Line, e.UID, "RECURRENCE-ID: RANGE changes a series that is not read")
	default:
		of[e] = &series{event: e}
	}
}

// newest returns the events with the highest revision. A cancelled one counts
// unless it is known to be older.
func newest(list []*event) []*event {
	if len(list) == 0 {
		return nil
	}
	top := slices.MaxFunc(list, func(a, b *event) int { return a.revision.compare(b.revision) }).revision
	if i := slices.IndexFunc(list, func(e *event) bool { return e.cancelled && !e.revision.before(top) }); i >= 0 {
		return list[i : i+1]
	}
	return slices.DeleteFunc(slices.Clone(list), func(e *event) bool { return e.revision != top })
}

// key returns what identifies a time of an event: the day, or the instant.
func (e *event) key(w wallclock.Time) int64 {
	if e.allDay {
		return int64(w.Day())
	}
	return wallclock.Instant(e.zone, w)
}

// keyOf returns the key of a date or time that a line names.
func (e *event) keyOf(m *moment) int64 {
	if e.allDay {
		return int64(m.day(e.plan))
	}
	return m.unix(e.zone)
}

// replaced returns the key of the time that an event takes the place of.
func (e *event) replaced(masters []*event) int64 {
	if len(masters) > 0 {
		return masters[0].keyOf(e.replaces)
	}
	return e.replaces.unix(cmp.Or(e.zone, e.plan))
}

func (e *event) recurs() bool {
	return len(e.rules)+len(e.dates)+len(e.periods) > 0
}

// change notes that another event takes the place of one of the times, or of
// several.
func (s *series) change(e *event, key int64) {
	if e.ranged != 0 {
		c := change{event: e, key: key, was: wallclock.Midnight(int(key))}
		if !s.allDay {
			c.was = wallclock.Shown(s.zone, key)
			if e.replaces.allDay { // a date is the time of the event on it
				c.was = wallclock.Midnight(e.replaces.wall.Day()) + s.start - wallclock.Midnight(s.start.Day())
				c.key = wallclock.Instant(s.zone, c.was)
			}
		}
		s.ranges = append(s.ranges, c)
	}
	if s.single == nil {
		s.single, s.dates = make(map[int64]bool), make(map[int]bool)
	}
	if e.replaces.allDay && !s.allDay {
		s.dates[e.replaces.wall.Day()] = true
		return
	}
	s.single[key] = true
}

// governs returns the change that a time is subject to, or nil.
func (s *series) governs(key int64) (found *change) {
	for i := range s.ranges {
		switch c := &s.ranges[i]; {
		case c.ranged > 0 && c.key <= key:
			found = c
		case c.ranged < 0 && c.key >= key && (found == nil || found.ranged < 0):
			return c
		}
	}
	return found
}

// occurrence is one time of an event.
type occurrence struct {
	key  int64
	wall wallclock.Time
	own  *extent // with a length of its own
}

// reach is how far from the days asked for a time of the series can begin, in
// seconds.
func (s *series) reach() (before, after int64) {
	size := func(l length) int64 { return int64(wallclock.Midnight(l.days)) + l.seconds }
	before = size(s.length)
	for i := range s.ranges {
		c := &s.ranges[i]
		if !c.kept || c.recurs() {
			continue
		}
		moved := int64(c.start - c.was)
		before, after = max(before, size(c.length)+max(moved, 0)), max(after, -moved)
	}
	return before + wallclock.Around, after + wallclock.Around
}

// close closes the times of a series.
func (s *series) close(c *closures, b *budget) error {
	if err := b.look(1); err != nil {
		return err
	}
	if !s.kept && len(s.ranges) == 0 {
		return nil
	}
	before, after := s.reach()
	list, err := s.times(b, c.from-before, c.until+after)
	if err != nil {
		return err
	}
	var spans []span
	for _, o := range list {
		if err := b.look(timeCost + len(s.ranges)); err != nil {
			return err
		}
		if s.single[o.key] || s.dates[o.wall.Day()] {
			continue
		}
		g := s.governs(o.key)
		switch {
		case g == nil && s.kept:
			spans = append(spans, s.span(s.zone, o))
		case g != nil && g.kept && !g.recurs():
			spans = append(spans, s.moved(g, o))
		}
	}
	return c.add(s.event, spans, b)
}

// moved returns a time that a change of an earlier or later one moves with it.
func (s *series) moved(g *change, o occurrence) span {
	zone := g.zone
	switch {
	case g.allDay:
		o.wall = wallclock.Midnight(o.wall.Day() + g.start.Day() - g.was.Day())
	case s.allDay:
		o.wall += g.start - g.was
	default:
		zone = s.zone
		o.wall += wallclock.Shown(zone, wallclock.Instant(g.zone, g.start)) - g.was
	}
	o.key, o.own = wallclock.Instant(zone, o.wall), nil
	return g.span(zone, o)
}

// span returns from when to when a time of an event lasts.
func (e *event) span(zone *time.Location, o occurrence) span {
	switch {
	case o.own != nil && o.own.to != nil:
		return span{o.own.from.unix(e.zone), o.own.to.unix(e.zone)}
	case o.own != nil:
		at := cmp.Or(o.own.from.zone, e.zone)
		return span{wallclock.Instant(at, o.own.from.wall), o.own.length.end(at, o.own.from.wall)}
	case e.allDay:
		day := o.wall.Day()
		return span{wallclock.First(e.plan, wallclock.Midnight(day)), wallclock.First(e.plan, wallclock.Midnight(day+e.length.days))}
	}
	if e.length.days == 0 { // the second of a repeated time has the face of the first
		return span{o.key, o.key + e.length.seconds}
	}
	return span{o.key, e.length.end(zone, o.wall)}
}

// times returns the times of an event that begin between two instants, as far as
// its rules and dates do.
func (e *event) times(b *budget, from, until int64) (list []occurrence, err error) {
	at := e.zone
	if e.allDay {
		at = e.plan
	}
	days := [2]int{max(wallclock.Shown(at, from).Day()-1, -maxDay), min(wallclock.Shown(at, until).Day()+1, maxDay)}
	list = append(list, occurrence{key: e.key(e.start), wall: e.start})
	for _, r := range e.rules {
		n, over := 1, error(nil) // DTSTART is the first
		err := r.days(b, days[0], days[1], func(day int) bool {
			w := wallclock.Midnight(day) + r.clock
			if w <= e.start {
				return true
			}
			if n++; r.count > 0 && n > r.count {
				return false
			}
			if day < days[0] {
				return true
			}
			key := e.key(w)
			if r.ends(e, w, key) {
				return false
			}
			list = append(list, occurrence{key: key, wall: w})
			over = b.look(timeCost)
			return over == nil
		})
		if err := cmp.Or(err, over); err != nil {
			return nil, err
		}
	}
	for _, m := range e.dates {
		w := m.wall
		switch {
		case e.allDay:
			w = wallclock.Midnight(m.day(e.plan))
		case m.allDay: // the time of the event on that day
			w = wallclock.Midnight(m.wall.Day()) + e.start - wallclock.Midnight(e.start.Day())
		case m.zone != nil:
			w = wallclock.Shown(e.zone, m.unix(e.zone))
		}
		o := occurrence{key: e.key(w), wall: w}
		if !e.allDay && !m.allDay {
			o.key = m.unix(e.zone)
		}
		list = append(list, o)
	}
	for i := range e.periods {
		x := &e.periods[i]
		list = append(list, occurrence{key: e.keyOf(x.from), wall: wallclock.Shown(at, x.from.unix(e.zone)), own: x})
	}
	return e.without(b, list, days)
}

// without leaves out the times that EXRULE and EXDATE name, and repeated ones.
func (e *event) without(b *budget, list []occurrence, days [2]int) ([]occurrence, error) {
	not, notDays := make(map[int64]bool), make(map[int]bool)
	for _, m := range e.not {
		if m.allDay && !e.allDay {
			notDays[m.wall.Day()] = true
		} else {
			not[e.keyOf(m)] = true
		}
	}
	for _, r := range e.exrules {
		n, over := 0, error(nil)
		err := r.days(b, days[0], days[1], func(day int) bool {
			w := wallclock.Midnight(day) + r.clock
			if w < e.start {
				return true
			}
			key := e.key(w)
			if n++; r.count > 0 && n > r.count || r.ends(e, w, key) {
				return false
			}
			not[key] = true
			over = b.look(timeCost)
			return over == nil
		})
		if err := cmp.Or(err, over); err != nil {
			return nil, err
		}
	}
	return slices.DeleteFunc(list, func(o occurrence) bool { return not[o.key] || notDays[o.wall.Day()] }), nil
}
