// Package ical turns iCalendar files into exceptions of opening hours: a
// calendar of public holidays, or of a team's days off.
//
//	plan, err := schedule.Parse("mon-fri 09:00-17:00; zone Europe/Berlin")
//	closed, skipped, err := ical.Exceptions(ctx, file, plan, schedule.DateIn(zone, now), schedule.DateIn(zone, now.AddDate(1, 0, 0)), nil)
//	for _, s := range skipped {
//		log.Print(s) // line 12: RRULE: FREQ=HOURLY has several times a day, read is one (event "standup")
//	}
//	plan.Exceptions = append(plan.Exceptions, closed...)
//	hours, err := schedule.New(plan, nil)
//
// # What is read
//
// The package reads how RFC 5545 and RFC 2445 define the times of events,
// and calls for meetings (RFC 5546):
//
//   - Dates and times with DTSTART, DTEND or DURATION. An event without an end
//     lasts a day if it has a date, and otherwise closes nothing.
//   - Recurrence with RRULE, EXRULE, RDATE and EXDATE, several of each. A rule has
//     one time a day. DTSTART is the first of the times, whether or not a rule
//     names it.
//   - Changed times with RECURRENCE-ID, also with RANGE. A changed time without
//     its series is an event of its own.
//   - Revisions: of the events with one UID the one with the highest SEQUENCE
//     counts, and of these the one with the latest DTSTAMP, then LAST-MODIFIED.
//     STATUS:CANCELLED and METHOD:CANCEL take times away. METHOD:ADD adds some.
//
// A length with DTEND is exact, so that a night shift ends an hour earlier or
// later on the clock when clocks are set. A length with DURATION counts days by
// the calendar.
//
// # Zones
//
// The zone of a time is looked for in this order: in [Options.Zones], in the IANA
// database, in the calendar's own VTIMEZONE, in the names and descriptions of
// Windows's zones as the Unicode CLDR lists them, and last as an offset such as
// UTC+03:00. A name may have something before it, as in
// /freeassociation.sourceforge.net/Tzfile/Europe/Berlin. A name without a slash,
// such as EST, is first what the calendar defines. Times without a zone are in that
// of the hours; X-WR-TIMEZONE is for showing a calendar.
//
// # What is not read
//
// Each event is read, or named in the list of [Skipped]. A skipped event closes
// nothing, and neither do its older revisions. Only an entry about too many open
// times is of an event that closes more. The list has events whose rule has several times a day, whose zone is unknown, whose
// calendar is not the Gregorian one, or which lack what they need. Tasks,
// alarms, free and busy times are not events.
package ical

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/presence-go/presence"
	"github.com/presence-go/presence/internal/wallclock"
	"github.com/presence-go/presence/schedule"
)

// Limits on a calendar.
const (
	MaxSize = 8 << 20 // bytes
	MaxDays = 3_660   // asked for at once
)

// Options configures [Exceptions]. The zero value works.
type Options struct {
	// Location is the zone of all hours, and of times without a zone. nil means
	// the zone of the plan. See [schedule.Options].
	Location *time.Location
	// Keep reports whether an event closes. nil means that every event does. It is
	// called once for each event and each changed time. A changed time that Keep
	// refuses closes neither where it was nor where it is now.
	Keep func(Event) bool
	// Zones are zones by the names that the calendar uses, such as "Head Office".
	Zones map[string]*time.Location
}

// Skipped is an event of a calendar that was not read.
type Skipped struct {
	Line int    // of the file, from 1
	UID  string // of the event; may be empty
	Why  string
}

// String returns the line, the reason and the UID.
func (s Skipped) String() string {
	if s.UID == "" {
		return fmt.Sprintf("line %d: %s", s.Line, s.Why)
	}
	return fmt.Sprintf("line %d: %s (event %q)", s.Line, s.Why, s.UID)
}

// Exceptions returns an exception for each date that an event closes, all day
// or in part. The exception has the rest of that day's hours. from and to are
// both included. The exceptions are in the order of their dates. Append them to
// the exceptions of the plan, which they take into account.
//
// Every event closes that Keep keeps, whether or not it is marked as busy. Where
// hours cannot name an instant, because a clock shows its time twice or never,
// the exception closes more, and not less. So it does for seconds, and if more
// than [schedule.MaxSpans] open times of a day would be left.
//
// Exceptions reads what it can, and returns the rest as a list in the order of
// the lines. It returns all faults of the plan and of the dates together. It
// returns [presence.ErrInvalid], and nothing else, if r is no calendar, is larger
// than [MaxSize], or has events for which more than 20,000,000 days have to be
// looked at. There a time of an event counts as 10 days, and a zone that has to be
// looked up as 10,000. It returns the cause of ctx's end if ctx ends first, but it cannot
// interrupt r.
func Exceptions(ctx context.Context, r io.Reader, plan schedule.Plan, from, to schedule.Date, opts *Options) ([]schedule.Exception, []Skipped, error) {
	var o Options
	if opts != nil {
		o = *opts
	}
	base, err := schedule.New(plan, &schedule.Options{Location: o.Location})
	first, last := dayOf(from), dayOf(to)
	if last < first || last-first >= MaxDays {
		err = errors.Join(err, fault("from %s to %s: allowed are 1 to %d days", from, to, MaxDays))
	}
	if err != nil {
		return nil, nil, err
	}
	data, err := io.ReadAll(io.LimitReader(r, MaxSize+1))
	switch {
	case err != nil:
		return nil, nil, fmt.Errorf("ical: %w", err)
	case len(data) > MaxSize:
		return nil, nil, fault("it has more than %d bytes", MaxSize)
	}
	look := &budget{ctx: ctx, left: maxLooks}
	if ctx.Err() != nil {
		return nil, nil, context.Cause(ctx)
	}
	reader := reader{Options: o, zone: base.Location(), first: first, last: last, budget: look}
	events, err := reader.read(data)
	if err != nil {
		return nil, nil, err
	}
	c := newClosures(base.Location(), first, last)
	for _, e := range events {
		if err := e.close(c, look); err != nil {
			return nil, nil, ended(err, e.Event)
		}
	}
	exceptions := c.exceptions(plan)
	skipped := append(reader.skipped, c.skipped...)
	slices.SortStableFunc(skipped, func(a, b Skipped) int { return cmp.Compare(a.Line, b.Line) })
	return exceptions, skipped, nil
}

func dayOf(d schedule.Date) int {
	return wallclock.Time(time.Date(d.Year, d.Month, d.Day, 0, 0, 0, 0, time.UTC).Unix()).Day()
}

func fault(format string, args ...any) error {
	return fmt.Errorf("ical: %w calendar: %w", presence.ErrInvalid, fmt.Errorf(format, args...))
}

// problem is why an event is not read.
type problem struct {
	line int
	text string
}

func (p *problem) Error() string { return fmt.Sprintf("line %d: %s", p.line, p.text) }

// at returns a problem with a line.
func at(l *line, format string, args ...any) error {
	return &problem{l.number, fmt.Sprintf("%.40s: %s", l.name, fmt.Sprintf(format, args...))}
}

// end is an error after which nothing is read: too much work, or the end of the
// context.
type end struct{ cause error }

func (e end) Error() string { return e.cause.Error() }

func isEnd(err error) bool {
	_, ok := errors.AsType[end](err)
	return ok
}

// ended returns the error of an end, with the event that takes too much work.
func ended(err error, e *Event) error {
	if over, ok := errors.AsType[end](err); ok {
		err = over.cause
	}
	if e == nil || !errors.Is(err, presence.ErrInvalid) {
		return err
	}
	return fmt.Errorf("%w (event %q, line %d)", err, cmp.Or(e.UID, e.Summary), e.Line)
}
