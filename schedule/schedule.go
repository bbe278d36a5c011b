package schedule

import (
	"fmt"
	"iter"
	"time"

	"github.com/presence-go/presence"
	"github.com/presence-go/presence/internal/wallclock"
)

// Options are the settings of a schedule that are not data.
type Options struct {
	// Location replaces the zone that the plan names, for zones without a name,
	// such as one of [time.FixedZone].
	Location *time.Location
	// Holidays reports whether a date is closed as a holiday, and its name. It is
	// called for dates without an exception. It must be a pure function and fast.
	// Nil means no holidays.
	Holidays func(Date) (name string, closed bool)
}

// Schedule is a validated plan with its zone's data. It is immutable and safe
// for concurrent use.
type Schedule struct {
	plan     Plan
	loc      *time.Location
	dates    []segment // by their beginnings, without overlaps
	yearly   *yearly   // nil if no exception is of each year
	holidays func(Date) (string, bool)
}

// A Schedule can be the hours of a tracker's channel.
var _ presence.Hours = (*Schedule)(nil)

// New makes a schedule of a plan; opts may be nil. It returns all faults of the
// plan joined.
func New(plan Plan, opts *Options) (*Schedule, error) {
	s := &Schedule{plan: plan.clone()}
	var zone error
	if opts != nil {
		s.loc, s.holidays = opts.Location, opts.Holidays
	}
	if s.loc == nil {
		s.loc, zone = plan.zone()
	} else if _, offset := (time.Time{}).In(s.loc).Zone(); max(offset, -offset) >= wallclock.DaySeconds {
		zone = fault("zone %q: an offset of %d seconds; want less than a day", s.loc, offset)
	}
	if err := plan.validate(zone); err != nil {
		return nil, err
	}
	s.dates, s.yearly = segments(s.plan.Exceptions), years(s.plan.Exceptions)
	return s, nil
}

// Plan returns a copy of the plan of s.
func (s *Schedule) Plan() Plan { return s.plan.clone() }

// Location returns the zone of the hours.
func (s *Schedule) Location() *time.Location { return s.loc }

// String returns the plan as text.
func (s *Schedule) String() string { return s.plan.String() }

// hours returns the hours of a day, and the name of an exception or a holiday
// that replaces those of the week.
func (s *Schedule) hours(day int64) (hours Day, name string, special bool) {
	if i := s.exception(day); i >= 0 {
		e := &s.plan.Exceptions[i]
		return e.Hours, e.Name, true
	}
	if s.holidays != nil {
		if name, closed := s.holidays(dateOf(day)); closed {
			return nil, name, true
		}
	}
	return s.plan.Week[weekdayOf(day)], "", false
}

// stretch is an open time of one span of one day, in times on a clock.
type stretch struct {
	from, to wallclock.Time
	cut      bool // an exception of the next date ends it
	day      int64
	span     Span
}

// instants returns a stretch in Unix seconds; to is not included.
func (s *Schedule) instants(st stretch) (from, to int64) {
	if st.cut {
		return wallclock.First(s.loc, st.from), wallclock.First(s.loc, st.to)
	}
	return wallclock.First(s.loc, st.from), wallclock.Last(s.loc, st.to)
}

// reach is the number of days before a day on which an open time of that day
// may have begun: one for midnight, and the rest for set clocks.
const reach = 3

// stretches yields all possible open times between two instants, ordered by
// their beginnings.
func (s *Schedule) stretches(after, until int64) iter.Seq[stretch] {
	return func(yield func(stretch) bool) {
		ends := int64(wallclock.Shown(s.loc, until).Day()) + reach
		for day := int64(wallclock.Shown(s.loc, after).Day()) - reach; day <= ends; day++ {
			hours, _, _ := s.hours(day)
			for _, span := range hours {
				st := stretch{from: on(day, span.From), to: on(day, span.To), day: day, span: span}
				if span.wraps() {
					st.to += wallclock.DaySeconds
				}
				if midnight := on(day+1, 0); st.to >= midnight {
					if _, _, special := s.hours(day + 1); special {
						st.to, st.cut = midnight, true
					}
				}
				if !yield(st) {
					return
				}
			}
		}
	}
}

// joined yields the stretches, joining those that touch on the clock. They
// touch for any setting of clocks, so no lookup is needed.
func (s *Schedule) joined(after, until int64) iter.Seq[stretch] {
	return func(yield func(stretch) bool) {
		var whole stretch
		some := false
		for next := range s.stretches(after, until) {
			switch {
			case some && next.from <= whole.to:
				if next.to > whole.to {
					whole.to, whole.cut = next.to, next.cut
				}
				continue
			case some && !yield(whole):
				return
			}
			whole, some = next, true
		}
		if some {
			yield(whole)
		}
	}
}

// opened yields the open times between two instants in order, with a gap
// between each two. The first may have begun before, and the last may end
// after.
func (s *Schedule) opened(after, until int64) iter.Seq2[int64, int64] {
	return func(yield func(from, to int64) bool) {
		var from, to int64
		some := false
		for st := range s.joined(after, until) {
			opens, closes := s.instants(st)
			if opens >= until {
				break
			}
			switch {
			case closes <= max(opens, after):
				continue
			case some && opens <= to: // in a repeated hour
				to = max(to, closes)
				continue
			case some && !yield(from, to):
				return
			}
			from, to, some = opens, closes, true
		}
		if some {
			yield(from, to)
		}
	}
}

// Horizon is how far into the future a schedule looks for changes.
const Horizon = 5 * 366 * 24 * time.Hour

// change returns whether it is open, and the next change in Unix seconds.
func (s *Schedule) change(now time.Time) (open bool, next int64, ok bool) {
	now = within(now)
	at, until := now.Unix(), within(now.Add(Horizon)).Unix()
	for from, to := range s.opened(at, until) {
		if from > at {
			return false, from, true
		}
		return true, to, to < until
	}
	return false, 0, false
}

// Why is the reason for being open or closed.
type Why struct {
	Open bool `json:"open"`
	// Date is the deciding date: the one on which the hours began, or the current
	// one.
	Date Date `json:"date"`
	// Span is the current hours; zero if closed.
	Span Span `json:"span,omitzero"`
	// Hours are all hours of the date.
	Hours Day `json:"hours,omitzero"`
	// Exception reports whether an exception or a holiday decides in place of the
	// week, and Name is its name.
	Exception bool   `json:"exception,omitzero"`
	Name      string `json:"name,omitzero"`
}

// String returns the reason in one line, such as "closed: fri 2026-12-25 is
// closed (Christmas)".
func (w Why) String() string {
	day := dayNames[weekdayOf(w.Date.number())] + " " + w.Date.String()
	text := "closed: " + day + " has " + w.Hours.String()
	switch {
	case w.Open:
		text = "open: " + day + " has " + w.Hours.String()
	case len(w.Hours) == 0:
		text = "closed: " + day + " is closed"
	}
	switch {
	case w.Name != "":
		text += " (" + w.Name + ")"
	case w.Exception:
		text += " (exception)"
	}
	return text
}

// Open reports whether it is open at an instant, and the reason.
func (s *Schedule) Open(now time.Time) (open bool, why Why) {
	at := within(now).Unix()
	day := int64(wallclock.Shown(s.loc, at).Day())
	for st := range s.stretches(at, at) {
		if opens, closes := s.instants(st); opens <= at && at < closes {
			open, day, why.Span = true, st.day, st.span
			break
		}
	}
	why.Open, why.Date = open, dateOf(day)
	hours, name, special := s.hours(day)
	why.Hours, why.Name, why.Exception = append(Day(nil), hours...), name, special
	return open, why
}

// NextChange returns the first instant after now at which it opens or closes.
// Without a change within [Horizon], ok is false.
func (s *Schedule) NextChange(now time.Time) (at time.Time, ok bool) {
	_, next, ok := s.change(now)
	if !ok {
		return time.Time{}, false
	}
	return s.time(next), true
}

// NextOpen returns now if it is open, and else the next opening. Without one
// within [Horizon], ok is false.
func (s *Schedule) NextOpen(now time.Time) (at time.Time, ok bool) {
	open, next, ok := s.change(now)
	switch {
	case open:
		return now.In(s.loc), true
	case !ok:
		return time.Time{}, false
	}
	return s.time(next), true
}

// Interval is an open time.
type Interval struct {
	From time.Time `json:"from"`
	To   time.Time `json:"to"` // not included
}

// String returns the interval in RFC 3339.
func (i Interval) String() string {
	return fmt.Sprintf("%s/%s", i.From.Format(time.RFC3339), i.To.Format(time.RFC3339))
}

// Intervals returns the open times between two instants, in order and with a
// gap between each two. It cuts them at these instants, and computes them
// during the iteration.
func (s *Schedule) Intervals(from, to time.Time) iter.Seq[Interval] {
	return func(yield func(Interval) bool) {
		from, to := within(from).In(s.loc), within(to).In(s.loc)
		if !from.Before(to) {
			return
		}
		for opens, closes := range s.opened(from.Unix(), to.Unix()+1) {
			i := Interval{s.time(opens), s.time(closes)}
			if i.From.Before(from) {
				i.From = from
			}
			if i.To.After(to) {
				i.To = to
			}
			if i.From.Before(i.To) && !yield(i) {
				return
			}
		}
	}
}

// EndOfDay returns the end of the current day in the zone of the hours. See
// [EndOfDay].
func (s *Schedule) EndOfDay(now time.Time) time.Time { return EndOfDay(s.loc, now) }

// OpenAt reports whether it is open at an instant, and the next change, or 0
// without one within [Horizon]. It makes a schedule the [presence.Hours] of a
// channel.
func (s *Schedule) OpenAt(now presence.Instant) (open bool, next presence.Instant) {
	open, at, ok := s.change(now.Time())
	if ok {
		next = presence.At(time.Unix(at, 0))
	}
	return open, next
}

func (s *Schedule) time(unix int64) time.Time { return time.Unix(unix, 0).In(s.loc) }
