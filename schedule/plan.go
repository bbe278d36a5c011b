// Package schedule decides when something is open: weekly hours in a time zone,
// with exceptions by date.
//
//	plan, err := schedule.Parse("mon-fri 09:00-12:00,13:00-17:00; 2026-12-24 09:00-12:00; 2026-12-25 closed")
//	plan.Zone = "Europe/Berlin"
//	hours, err := schedule.New(plan, nil)
//	open, why := hours.Open(time.Now())
//	next, ok := hours.NextChange(time.Now())
//	err = tracker.SetHours(ctx, presence.ID("site"), hours) // closes the channel for visitors outside the hours
//
// # What hours mean
//
// Hours belong to the date on which they begin. Hours whose end is not after
// their beginning continue past midnight: "fri 22:00-06:00" ends on Saturday.
// "24:00" is the end of a day, so "00:00-24:00" is the whole day. Hours without
// a gap between them, also those of two days, are one open time.
//
// An exception replaces the hours of its date, of the date in each year, or of each
// date from one to another. The hours of the week do not hold on it, and hours that
// began the day before end with that day. 02-29 is a date of leap years only.
//
// # Where clocks are set
//
// Hours open at the first instant at which a clock in the zone shows their
// beginning or later. They close at the last instant at which it shows their
// end or earlier. A time of day that a clock skips when it is set forward is
// the end of the gap. Of a time that a clock shows twice when it is set back,
// the first counts for opening and the second for closing. Hours do not close
// and open again within a repeated hour. A day has as many hours as its clocks
// show. A day that a place skipped has none.
//
// All functions here are pure functions of their arguments and of the zone's
// data. [New] reads that data: after an update of it, make the schedule again
// and set it again.
package schedule

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/presence-go/presence"
	"github.com/presence-go/presence/internal/wallclock"
)

// The limits of a plan.
const (
	MaxSpans      = 24     // hours of one day
	MaxExceptions = 10_000 // of one plan
	MaxName       = 128    // bytes of an exception's name
)

// Plan is opening hours as data. Its JSON form is
//
//	{
//	  "zone": "Europe/Berlin",
//	  "week": {"mon": ["09:00-12:00", "13:00-17:00"], "sat": ["10:00-14:00"]},
//	  "exceptions": [{"date": "12-25", "name": "Christmas"}, {"date": "2026-12-24", "hours": ["09:00-12:00"]},
//	    {"date": "2026-12-28", "to": "2027-01-03"}]
//	}
//
// and its text form is that of [Parse].
type Plan struct {
	// Zone is the time zone of all hours by its IANA name, such as "Europe/Berlin";
	// empty means UTC.
	Zone string `json:"zone,omitzero"`
	Week Week   `json:"week"`
	// Exceptions are dates with other hours than those of the week. Of several for
	// one date the last counts.
	Exceptions []Exception `json:"exceptions,omitzero"`
}

// Week has the hours of each day, by [time.Weekday].
type Week [7]Day

// Day has the hours of one day, in order and without overlaps. A day without
// hours is closed.
type Day []Span

// Span is a time between two times of day. If To is not after From, it ends on
// the next day.
type Span struct {
	From TimeOfDay // 00:00 to 23:59
	To   TimeOfDay // 00:01 to 24:00
}

// TimeOfDay is the time on a clock, in minutes after midnight; 1,440 is the end
// of the day.
type TimeOfDay int16

const endOfDay TimeOfDay = 24 * 60

// Date is a day of the calendar, or of each year.
type Date struct {
	Year  int // 0 means each year
	Month time.Month
	Day   int
}

// Exception has the hours of one date, or of each date from one to another, in place
// of those of the week. Without hours the dates are closed.
type Exception struct {
	Date Date `json:"date"`
	// To is the last date of a range; zero means only Date. It has a year if Date has
	// one. A range without years may pass the end of the year, as 12-24..01-06.
	To    Date   `json:"to,omitzero"`
	Hours Day    `json:"hours,omitzero"`
	Name  string `json:"name,omitzero"` // the reason, for people
}

// wraps reports whether a span continues past midnight.
func (s Span) wraps() bool { return s.To <= s.From }

// Validate returns all faults of a plan joined, or nil.
func (p Plan) Validate() error {
	_, err := p.zone()
	return p.validate(err)
}

// validate returns the faults of a plan, with the given fault of its zone.
func (p Plan) validate(zone error) error {
	faults := []error{zone}
	for _, day := range weekdays {
		faults = append(faults, p.Week[day].validate(dayNames[day])...)
	}
	if len(p.Exceptions) > MaxExceptions {
		faults = append(faults, fault("%d exceptions, allowed are %d", len(p.Exceptions), MaxExceptions))
	} else {
		for i, e := range p.Exceptions {
			faults = append(faults, e.validate(i)...)
		}
	}
	return errors.Join(faults...)
}

// zone loads the zone of a plan.
func (p Plan) zone() (*time.Location, error) {
	if p.Zone == "Local" {
		return nil, fault("zone %q is wherever this process runs; want the name of a place such as Europe/Berlin", p.Zone)
	}
	loc, err := time.LoadLocation(p.Zone)
	if err != nil {
		return nil, fault("zone %.64q: %v; want an IANA name such as Europe/Berlin, and its data on this machine or by importing time/tzdata", p.Zone, err)
	}
	return loc, nil
}

func (d Day) validate(name string) (faults []error) {
	if len(d) > MaxSpans {
		return []error{fault("%s: %d times of being open, allowed are %d", name, len(d), MaxSpans)}
	}
	for i, s := range d {
		switch {
		case s.From < 0 || s.From >= endOfDay || s.To <= 0 || s.To > endOfDay:
			faults = append(faults, fault("%s: %s: want times from 00:00 to 24:00, and 24:00 only as an end", name, s))
		case s.From == s.To:
			faults = append(faults, fault("%s: %s: opens and closes at the same time; all day is 00:00-24:00", name, s))
		case i > 0 && (d[i-1].wraps() || s.From < d[i-1].To):
			faults = append(faults, fault("%s: %s begins before %s has ended; want them in order, without overlaps", name, s, d[i-1]))
		}
	}
	return faults
}

func (e Exception) validate(i int) (faults []error) {
	if text := e.datesFault(); text != "" {
		faults = append(faults, fault("exception %d: %s", i+1, text))
	}
	if len(e.Name) > MaxName || !utf8.ValidString(e.Name) || strings.ContainsFunc(e.Name, unicode.IsControl) {
		faults = append(faults, fault("exception %d: name %.32q: want at most %d bytes of UTF-8 without control characters", i+1, e.Name, MaxName))
	}
	return append(faults, e.Hours.validate(e.dates())...)
}

// On returns the hours of a date, and whether an exception has them.
func (p Plan) On(date Date) (hours Day, exception bool) {
	for _, e := range slices.Backward(p.Exceptions) {
		if e.covers(date) {
			return e.Hours, true
		}
	}
	return p.Week[weekdayOf(date.number())], false
}

// covers reports whether an exception is of a date. It compares what a calendar shows.
func (e Exception) covers(date Date) bool {
	if e.Date.Year == 0 {
		date.Year = 0
	}
	from, at, to := e.Date.number(), date.number(), e.To.number()
	if e.To == (Date{}) {
		to = from
	}
	if from <= to {
		return from <= at && at <= to
	}
	return from <= at || at <= to // over the end of each year
}

// dates returns the dates as 2026-12-25, 12-25 or 2026-12-24..2027-01-01.
func (e Exception) dates() string {
	if e.To == (Date{}) {
		return e.Date.String()
	}
	return e.Date.String() + ".." + e.To.String()
}

// datesFault returns what is wrong with the dates, or nothing.
func (e Exception) datesFault() string {
	switch {
	case !e.Date.exists():
		return e.Date.String() + " is no date"
	case e.To == (Date{}):
		return ""
	case !e.To.exists():
		return e.To.String() + " is no date"
	case (e.Date.Year == 0) != (e.To.Year == 0):
		return e.dates() + ": want a year in both dates, or in none"
	case e.Date.Year != 0 && e.To.number() < e.Date.number():
		return e.dates() + " ends before it begins"
	}
	return ""
}

// exists reports whether the calendar has a date, or a leap year has it if it is of
// each year.
func (d Date) exists() bool {
	if d.Year == 0 {
		d.Year = 2000
	}
	return d.Year >= 1 && d.Year <= 9999 && dateOf(d.number()) == d
}

// fault returns an error about a plan.
func fault(format string, args ...any) error {
	return &presence.Error{Err: presence.ErrInvalid, What: "plan", Text: fmt.Sprintf(format, args...)}
}

// clone returns a copy of a plan that shares no memory with it.
func (p Plan) clone() Plan {
	for day := range p.Week {
		p.Week[day] = slices.Clone(p.Week[day])
	}
	p.Exceptions = slices.Clone(p.Exceptions)
	for i := range p.Exceptions {
		p.Exceptions[i].Hours = slices.Clone(p.Exceptions[i].Hours)
	}
	return p
}

// number counts the days since 1 January 1970.
func (d Date) number() int64 {
	return int64(wallclock.Time(time.Date(d.Year, d.Month, d.Day, 0, 0, 0, 0, time.UTC).Unix()).Day())
}

// dateOf returns the date of a day by its number.
func dateOf(day int64) Date {
	year, month, dom := time.Unix(day*wallclock.DaySeconds, 0).UTC().Date()
	return Date{year, month, dom}
}

// weekdayOf returns the weekday of a day by its number. Day 0 was a Thursday.
func weekdayOf(day int64) time.Weekday { return time.Weekday(((day+4)%7 + 7) % 7) }

// DateIn returns the date of an instant in a zone; nil means UTC.
func DateIn(zone *time.Location, now time.Time) Date {
	if zone == nil {
		zone = time.UTC
	}
	return dateOf(int64(wallclock.Shown(zone, within(now).Unix()).Day()))
}

// The weekdays and their names, Monday first as in texts of hours.
var (
	weekdays = []time.Weekday{time.Monday, time.Tuesday, time.Wednesday, time.Thursday, time.Friday, time.Saturday, time.Sunday}
	dayNames = [7]string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"}
)

// String returns a date as 2026-12-25, or as 12-25 if it is of each year.
func (d Date) String() string {
	if d.Year == 0 && d != (Date{}) {
		return fmt.Sprintf("%02d-%02d", d.Month, d.Day)
	}
	return fmt.Sprintf("%04d-%02d-%02d", d.Year, d.Month, d.Day)
}

// MarshalText encodes a date like String.
func (d Date) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText decodes a date such as 2026-12-25, or 12-25 of each year.
func (d *Date) UnmarshalText(text []byte) error {
	date, ok := parseDate(string(text))
	if !ok {
		return fault("%.32q: %s", text, wantDate)
	}
	*d = date
	return nil
}

// String returns a time of day as 09:30.
func (t TimeOfDay) String() string {
	if t < 0 {
		return fmt.Sprintf("%d minutes", int16(t))
	}
	return fmt.Sprintf("%02d:%02d", t/60, t%60)
}

// String returns a span as 09:00-12:00.
func (s Span) String() string { return s.From.String() + "-" + s.To.String() }

// MarshalText encodes a span like String.
func (s Span) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText decodes a span such as 09:00-12:00.
func (s *Span) UnmarshalText(text []byte) error {
	span, ok := parseSpan(string(text))
	if !ok {
		return fault("%.32q: %s", text, wantSpan)
	}
	*s = span
	return nil
}

// String returns the hours of a day as 09:00-12:00,13:00-17:00, or closed.
func (d Day) String() string {
	if len(d) == 0 {
		return closedWord
	}
	spans := make([]string, len(d))
	for i, s := range d {
		spans[i] = s.String()
	}
	return strings.Join(spans, ",")
}

// MarshalJSON encodes a week as an object with the days that have hours, by the
// keys mon to sun.
func (w Week) MarshalJSON() ([]byte, error) {
	days := make(map[string]Day)
	for day, hours := range w {
		if len(hours) > 0 {
			days[dayNames[day]] = hours
		}
	}
	return json.Marshal(days)
}

// UnmarshalJSON decodes the form of MarshalJSON. Days without a key are closed.
func (w *Week) UnmarshalJSON(data []byte) error {
	var days map[string]Day
	if err := json.Unmarshal(data, &days); err != nil {
		if _, ok := errors.AsType[*presence.Error](err); ok {
			return err // from a span
		}
		return &presence.Error{Err: presence.ErrInvalid, What: "plan", Text: "the week is no object of days", Cause: err}
	}
	*w = Week{}
	for name, hours := range days {
		day := slices.Index(dayNames[:], name)
		if day < 0 {
			return fault("week: %.32q: want one of mon, tue, wed, thu, fri, sat, sun", name)
		}
		if len(hours) > 0 {
			w[day] = hours
		}
	}
	return nil
}
