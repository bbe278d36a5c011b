package ical

import (
	"cmp"
	"fmt"
	"slices"
	"sort"
	"time"

	"github.com/presence-go/presence/internal/wallclock"
	"github.com/presence-go/presence/schedule"
)

// span is a time between two instants in Unix seconds; to is not included.
type span struct{ from, to int64 }

// joined sorts spans, and joins those that touch.
func joined(list []span) (whole []span) {
	slices.SortFunc(list, func(a, b span) int { return cmp.Or(cmp.Compare(a.from, b.from), cmp.Compare(a.to, b.to)) })
	for _, s := range list {
		if n := len(whole); n > 0 && s.from <= whole[n-1].to {
			whole[n-1].to = max(whole[n-1].to, s.to)
		} else {
			whole = append(whole, s)
		}
	}
	return whole
}

// closures are the times that events close in the days asked for.
type closures struct {
	zone        *time.Location
	first, last int // days
	from, until int64
	spans       []span
	owners      []*event // of each day, the first event that closes some of it
	unowned     []int    // of each day, the first from it on that may have no owner
	skipped     []Skipped
}

func newClosures(zone *time.Location, begin, finish int) *closures {
	c := &closures{zone: zone, first: begin, last: finish, from: wallclock.First(zone, wallclock.Midnight(begin)), until: wallclock.First(zone, wallclock.Midnight(finish+1))}
	c.owners, c.unowned = make([]*event, finish-begin+1), make([]int, finish-begin+2)
	for i := range c.unowned {
		c.unowned[i] = i
	}
	return c
}

// add closes the times of an event.
func (c *closures) add(e *event, list []span, b *budget) error {
	list = slices.DeleteFunc(list, func(s span) bool { return s.from >= s.to || s.to <= c.from || s.from >= c.until })
	for _, s := range joined(list) {
		s.from, s.to = max(s.from, c.from), min(s.to, c.until)
		if err := c.own(e, s, b); err != nil {
			return err
		}
		c.spans = append(c.spans, s)
	}
	return nil
}

// own notes who closes the days of a span.
func (c *closures) own(e *event, s span, b *budget) error {
	from, to := wallclock.Shown(c.zone, s.from).Day()-c.first, wallclock.Shown(c.zone, s.to-1).Day()-c.first
	for day := c.free(max(from, 0)); day <= min(to, c.last-c.first); day = c.free(day) {
		if err := b.look(1); err != nil {
			return err
		}
		if c.owners[day] == nil || e.Summary != "" {
			c.owners[day] = e
		}
		if e.Summary != "" { // else a later event can have the name
			c.unowned[day] = day + 1
		}
		day++
	}
	return nil
}

// free returns the first day from one on that may have no owner.
func (c *closures) free(day int) int {
	root := day
	for c.unowned[root] != root {
		root = c.unowned[root]
	}
	for c.unowned[day] != day {
		day, c.unowned[day] = c.unowned[day], root
	}
	return root
}

// day is a day of the plan with what events close of it.
type day struct {
	number    int
	from, to  int64
	shut      []span
	whole     bool // all of it is shut
	hours     schedule.Day
	dated     bool // by an exception of the plan
	over      bool // its hours go on past midnight, but its exception cannot have that
	open      []span
	remaining []span
}

// exceptions returns the exceptions of a plan.
func (c *closures) exceptions(plan schedule.Plan) (list []schedule.Exception) {
	shut := joined(c.spans)
	look := func(number int) day {
		d := day{number: number, from: wallclock.First(c.zone, wallclock.Midnight(number)), to: wallclock.First(c.zone, wallclock.Midnight(number+1))}
		of := dateOf(number)
		d.hours, d.dated = plan.On(schedule.Date{Year: of.year, Month: time.Month(of.month), Day: of.of})
		i := sort.Search(len(shut), func(i int) bool { return shut[i].to > d.from })
		for ; i < len(shut) && shut[i].from < d.to; i++ {
			d.shut = append(d.shut, span{max(shut[i].from, d.from), min(shut[i].to, d.to)})
		}
		d.whole = d.from < d.to && len(d.shut) == 1 && d.shut[0] == span{d.from, d.to}
		return d
	}
	before := look(c.first - 1)
	// The hours of the last day may have to go on after it.
	for number := c.first; number <= c.last+1; number++ {
		d := look(number)
		if d.shut != nil || before.over && !d.dated {
			if e, ok := c.exception(&d, &before); ok {
				list = append(list, e)
			}
		}
		before = d
	}
	return list
}

// exception returns the exception of a day, if it needs one.
func (c *closures) exception(d, before *day) (e schedule.Exception, needed bool) {
	var owner *event
	if i := d.number - c.first; i < len(c.owners) {
		owner = c.owners[i]
	}
	if owner == nil && d.number > c.first {
		owner = c.owners[d.number-1-c.first] // whose closing ends before midnight
	}
	e.Date = named(d.number)
	if owner != nil {
		e.Name = owner.Summary
	}
	if d.whole {
		return e, true
	}
	past := c.open(d, before)
	d.remaining = subtract(d.open, d.shut)
	e.Hours = c.hours(d, past)
	if n := len(e.Hours); n > schedule.MaxSpans {
		e.Hours = longest(e.Hours)
		why := fmt.Sprintf("%s: %d open times are left, allowed are %d; the shortest are closed too", e.Date, n, schedule.MaxSpans)
		skip := Skipped{Why: why}
		if owner != nil {
			skip.Line, skip.UID = owner.Line, owner.UID
		}
		c.skipped = append(c.skipped, skip)
	}
	d.over = past > 0 && !slices.ContainsFunc(e.Hours, wraps)
	return e, before.over && !d.dated || !slices.Equal(d.open, d.remaining)
}

// open finds the open times of a day, also those that began the day before. A
// closed day begins none. past is the latest end of those that go on after
// midnight.
func (c *closures) open(d, before *day) (past schedule.TimeOfDay) {
	at := func(number int, t schedule.TimeOfDay) wallclock.Time {
		return wallclock.Midnight(number) + wallclock.Time(t)*60
	}
	if !d.dated && !before.whole {
		for _, s := range before.hours {
			if wraps(s) {
				d.open = append(d.open, span{d.from, min(wallclock.Last(c.zone, at(d.number, s.To)), d.to)})
			}
		}
	}
	for _, s := range d.hours {
		to := d.to
		if wraps(s) {
			past = max(past, s.To)
		} else if s.To < 24*60 {
			to = min(wallclock.Last(c.zone, at(d.number, s.To)), d.to)
		}
		d.open = append(d.open, span{wallclock.First(c.zone, at(d.number, s.From)), to})
	}
	d.open = joined(slices.DeleteFunc(d.open, func(s span) bool { return s.from >= s.to }))
	return past
}

func wraps(s schedule.Span) bool { return s.To <= s.From }

// subtract returns what is in one list of spans and not in another. Both are
// joined.
func subtract(list, less []span) (rest []span) {
	for _, s := range list {
		for _, l := range less {
			if l.to <= s.from || l.from >= s.to {
				continue
			}
			if s.from < l.from {
				rest = append(rest, span{s.from, l.from})
			}
			s.from = l.to
		}
		if s.from < s.to {
			rest = append(rest, s)
		}
	}
	return rest
}

// hours returns the hours that are open in the remaining times, and in no
// others. Those that go on after midnight end at past.
func (c *closures) hours(d *day, past schedule.TimeOfDay) (left schedule.Day) {
	at := func(m int) wallclock.Time { return wallclock.Midnight(d.number) + wallclock.Time(m)*60 }
	for _, s := range d.remaining {
		from, to := int(s.from-d.from+59)/60, int(s.to-d.from)/60
		if d.to-d.from != wallclock.DaySeconds || wallclock.Offset(c.zone, d.from) != wallclock.Offset(c.zone, d.to) { // clocks are set
			from = sort.Search(24*60, func(m int) bool { return wallclock.First(c.zone, at(m)) >= s.from })
			to = sort.Search(24*60+1, func(m int) bool { return wallclock.Last(c.zone, at(m)) > s.to }) - 1
		}
		one := schedule.Span{From: schedule.TimeOfDay(from), To: schedule.TimeOfDay(to)}
		switch {
		case s.to == d.to && past > 0 && from < 24*60:
			if past >= one.From { // in two parts, since a span is at most a day long
				left = append(left, schedule.Span{From: one.From, To: past + 1})
				one.From = past + 1
			}
			one.To = past
		case s.to == d.to:
			one.To = 24 * 60
			fallthrough
		default:
			if one.To <= one.From {
				continue
			}
		}
		left = append(left, one)
	}
	return left
}

// longest returns as many of a day's hours as a day may have.
func longest(hours schedule.Day) schedule.Day {
	size := func(s schedule.Span) int { return (int(s.To-s.From) + 24*60 - 1) % (24 * 60) }
	sizes := make([]int, 0, len(hours))
	for _, s := range hours {
		sizes = append(sizes, size(s))
	}
	slices.Sort(sizes)
	least, more := sizes[len(sizes)-schedule.MaxSpans], 0
	for _, n := range sizes[len(sizes)-schedule.MaxSpans:] {
		if n == least {
			more++
		}
	}
	return slices.DeleteFunc(hours, func(s schedule.Span) bool {
		n := size(s)
		if n == least {
			more--
			return more < 0
		}
		return n < least
	})
}

func named(number int) schedule.Date {
	d := dateOf(number)
	return schedule.Date{Year: d.year, Month: time.Month(d.month), Day: d.of}
}
