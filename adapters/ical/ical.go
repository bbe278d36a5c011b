// Package ical turns iCalendar files into exceptions of opening hours: a
// calendar of public holidays, or of a team's days off.
//
//	plan, err := schedule.Parse("mon-fri 09:00-17:00; zone Europe/Berlin")
//	closed, err := ical.Exceptions(ctx, file, plan, schedule.DateIn(zone, now), schedule.DateIn(zone, now.AddDate(1, 0, 0)), nil)
//	plan.Exceptions = append(plan.Exceptions, closed...)
//	hours, err := schedule.New(plan, nil)
//
// The package parses calendars with arran4/golang-ical and expands rules of
// recurrence with teambition/rrule-go. It expands them in the time that clocks
// show, so that changes of the clock do not move them.
package ical

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode"

	ics "github.com/arran4/golang-ical"
	"github.com/teambition/rrule-go"

	"github.com/presence-go/presence"
	"github.com/presence-go/presence/schedule"
)

// Limits on a calendar.
const (
	MaxSize  = 1 << 20  // bytes
	MaxLine  = 16 << 10 // bytes of one line, unfolded
	MaxRule  = 512      // bytes of one rule of recurrence
	MaxRules = 500      // rules of one calendar
	MaxDays  = 3_660    // asked for at once
	maxTimes = 100_000  // events and days of events, recurring ones counted each time
	maxStep  = 1_000    // interval of a rule
	earliest = 1970     // year in which something recurring begins
)

// Options configures [Exceptions]. The zero value works.
type Options struct {
	// Location is the zone of all hours, and of times without a zone. nil means
	// the zone of the plan. See [schedule.Options].
	Location *time.Location
}

// Exceptions returns an exception for each date that an event closes, all day
// or in part. The exception has the rest of that day's hours. from and to are
// both included. The exceptions are in the order of their dates. Append them to
// the exceptions of the plan, which they take into account.
//
// Every event closes, whether or not it is marked as busy. A cancelled event
// does not. Times without a zone are in the zone of the hours. A zone must have
// a name of the IANA database; other definitions are not read. Exceptions
// returns all faults of the plan and of the dates together. It returns
// [presence.ErrInvalid], and no exception, if it cannot read something. It
// returns the cause of ctx's end if ctx ends first, but it cannot interrupt r.
func Exceptions(ctx context.Context, r io.Reader, plan schedule.Plan, from, to schedule.Date, opts *Options) ([]schedule.Exception, error) {
	var o Options
	if opts != nil {
		o = *opts
	}
	base, err := schedule.New(plan, &schedule.Options{Location: o.Location})
	first, last := midnight(from), midnight(to)
	if days := last.Sub(first).Hours() / 24; days < 0 || days >= MaxDays {
		err = errors.Join(err, fault("from %s to %s: allowed are 1 to %d days", from, to, MaxDays))
	}
	if err != nil {
		return nil, err
	}
	events, err := read(r, base.Location())
	if err != nil {
		return nil, err
	}
	c := closures{zone: base.Location(), from: first, until: last.AddDate(0, 0, 1), days: make(map[time.Time]*closure)}
	for i := range events {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if err := c.add(&events[i]); err != nil {
			return nil, fmt.Errorf("%w (event %q)", err, events[i].name)
		}
	}
	return c.exceptions(plan)
}

func fault(format string, args ...any) error {
	return fmt.Errorf("ical: %w calendar: %w", presence.ErrInvalid, fmt.Errorf(format, args...))
}

// event is one event of a calendar. Its times are face values: the times that
// clocks in its zone show, written as UTC.
type event struct {
	zones     zones
	name      string
	uid       string
	zone      *time.Location
	allDay    bool
	cancelled bool
	start     time.Time
	length    time.Duration
	rule      *rrule.ROption
	more      []time.Time        // RDATE
	not       map[time.Time]bool // EXDATE, and times that another event replaces
	replaces  time.Time          // RECURRENCE-ID
}

func read(r io.Reader, zone *time.Location) ([]event, error) {
	data, err := io.ReadAll(io.LimitReader(r, MaxSize+1))
	if err != nil {
		return nil, fmt.Errorf("ical: %w", err)
	}
	if len(data) > MaxSize {
		return nil, fault("it has more than %d bytes", MaxSize)
	}
	length := 0
	for line := range bytes.Lines(data) {
		if line[0] != ' ' && line[0] != '\t' {
			length = 0
		}
		if length += len(line); length > MaxLine {
			return nil, fault("a line has more than %d bytes", MaxLine)
		}
	}
	var calendar *ics.Calendar
	if err := guarded(func() (err error) {
		calendar, err = ics.ParseCalendar(bytes.NewReader(data))
		return err
	}); err != nil {
		return nil, err
	}
	var list []event
	rules := 0
	zones := make(zones)
	for _, v := range calendar.Events() {
		e, err := readEvent(v, zone, zones)
		if err != nil {
			return nil, fmt.Errorf("%w (event %q)", err, summary(v))
		}
		if e.rule != nil {
			if rules++; rules > MaxRules {
				return nil, fault("it has more than %d rules of recurrence", MaxRules)
			}
		}
		list = append(list, e)
	}
	// An event that replaces one time of another takes its place.
	recurring := make(map[string]*event)
	for i := range list {
		if list[i].replaces.IsZero() && list[i].uid != "" {
			recurring[list[i].uid] = &list[i]
		}
	}
	for _, e := range list {
		if of := recurring[e.uid]; of != nil && !e.replaces.IsZero() {
			of.not[e.replaces] = true
		}
	}
	return slices.DeleteFunc(list, func(e event) bool { return e.cancelled }), nil
}

// guarded calls a library with text of strangers, and turns its errors and
// panics into faults.
func guarded(call func() error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fault("%v", r)
		}
	}()
	if err := call(); err != nil {
		return fault("%w", err)
	}
	return nil
}

func summary(v *ics.VEvent) string {
	p := v.GetProperty(ics.ComponentPropertySummary)
	if p == nil {
		return ""
	}
	name := strings.Join(strings.FieldsFunc(strings.ToValidUTF8(p.Value, ""), func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) }), " ")
	if len(name) > schedule.MaxName {
		name = strings.ToValidUTF8(name[:schedule.MaxName], "")
	}
	return name
}

func readEvent(v *ics.VEvent, zone *time.Location, zones zones) (e event, err error) {
	e = event{zones: zones, name: summary(v), zone: zone, not: make(map[time.Time]bool)}
	if p := v.GetProperty(ics.ComponentPropertyUniqueId); p != nil {
		e.uid = p.Value
	}
	if p := v.GetProperty(ics.ComponentPropertyStatus); p != nil {
		e.cancelled = strings.EqualFold(p.Value, "CANCELLED")
	}
	p := v.GetProperty(ics.ComponentPropertyDtStart)
	if p == nil {
		return e, fault("DTSTART is missing")
	}
	if e.start, e.zone, e.allDay, err = zones.moment(p, p.Value, zone); err != nil {
		return e, err
	}
	if e.length, err = length(v, &e); err != nil {
		return e, err
	}
	if p := v.GetProperty(ics.ComponentPropertyRecurrenceId); p != nil {
		if e.replaces, err = e.moment(p, p.Value); err != nil {
			return e, err
		}
	}
	for _, p := range v.GetProperties(ics.ComponentPropertyExdate) {
		for text := range strings.SplitSeq(p.Value, ",") {
			t, err := e.moment(p, text)
			if err != nil {
				return e, err
			}
			e.not[t] = true
		}
	}
	for _, p := range v.GetProperties(ics.ComponentPropertyRdate) {
		for text := range strings.SplitSeq(p.Value, ",") {
			t, err := e.moment(p, text)
			if err != nil {
				return e, err
			}
			e.more = append(e.more, t)
		}
	}
	switch rules := v.GetProperties(ics.ComponentPropertyRrule); {
	case len(rules) > 1:
		return e, fault("%d rules of recurrence, allowed is one", len(rules))
	case len(rules) == 1:
		e.rule, err = e.readRule(rules[0].Value)
	}
	return e, err
}

// zones are the zones of a calendar, by name.
type zones map[string]*time.Location

func (z zones) named(id string) (*time.Location, error) {
	if z[id] == nil {
		zone, err := time.LoadLocation(id)
		if err != nil || id == "" || id == "Local" {
			return nil, fault("zone %.64q: want an IANA name such as Europe/Berlin", id)
		}
		z[id] = zone
	}
	return z[id], nil
}

// moment reads a date or a time as a face value. Its zone is the one that the
// property names, UTC, or else the one given.
func (z zones) moment(p *ics.IANAProperty, text string, zone *time.Location) (face time.Time, in *time.Location, allDay bool, err error) {
	text = strings.TrimSpace(text)
	if ids := p.ICalParameters["TZID"]; len(ids) > 0 {
		if zone, err = z.named(ids[0]); err != nil {
			return face, zone, false, err
		}
	}
	for _, form := range []struct {
		layout string
		zone   *time.Location
		allDay bool
	}{{"20060102", zone, true}, {"20060102T150405", zone, false}, {"20060102T150405Z", time.UTC, false}} {
		if face, err = time.Parse(form.layout, text); err == nil {
			return face, form.zone, form.allDay, nil
		}
	}
	return face, zone, false, fault("%s: %.40q: want a date such as 20261225 or a time such as 20261224T120000Z", p.IANAToken, text)
}

// moment reads a time of the event as a face value in the event's zone.
func (e *event) moment(p *ics.IANAProperty, text string) (time.Time, error) {
	face, zone, allDay, err := e.zones.moment(p, text, e.zone)
	if err != nil {
		return face, err
	}
	if e.allDay {
		return face.Truncate(24 * time.Hour), nil
	}
	if allDay { // a date among times means the time of the event on that day
		return face.Add(e.start.Sub(e.start.Truncate(24 * time.Hour))), nil
	}
	return shown(face, zone, e.zone), nil
}

// shown turns the face value of one zone into that of another.
func shown(face time.Time, in, zone *time.Location) time.Time {
	if in.String() == zone.String() {
		return face
	}
	t := time.Date(face.Year(), face.Month(), face.Day(), face.Hour(), face.Minute(), face.Second(), 0, in).In(zone)
	return time.Date(t.Year(), t.Month(), t.Day(), t.Hour(), t.Minute(), t.Second(), 0, time.UTC)
}

// length returns how long an event lasts on the clock.
func length(v *ics.VEvent, e *event) (d time.Duration, err error) {
	if e.allDay {
		d = 24 * time.Hour
	}
	if p := v.GetProperty(ics.ComponentPropertyDtEnd); p != nil {
		end, err := e.moment(p, p.Value)
		if err != nil {
			return 0, err
		}
		if end.Before(e.start) {
			return 0, fault("DTEND is before DTSTART")
		}
		if end.Equal(e.start) && e.allDay {
			return d, nil // often written for one day
		}
		d = end.Sub(e.start)
	} else if p := v.GetProperty(ics.ComponentPropertyDuration); p != nil {
		if d, err = duration(p.Value); err != nil {
			return 0, err
		}
	}
	if d > MaxDays*24*time.Hour {
		return 0, fault("lasts more than %d days", MaxDays)
	}
	return d, nil
}

// duration reads a length such as P1DT2H.
func duration(text string) (d time.Duration, err error) {
	bad := fault("DURATION %.40q: want a length such as P1D or PT2H30M", text)
	rest, ok := strings.CutPrefix(strings.TrimPrefix(text, "+"), "P")
	if !ok || rest == "" {
		return 0, bad
	}
	units, clock := map[byte]time.Duration{'W': 7 * 24 * time.Hour, 'D': 24 * time.Hour}, false
	n, digits := time.Duration(0), 0
	for i := range len(rest) {
		c := rest[i]
		switch unit := units[c]; {
		case c >= '0' && c <= '9' && digits < 6:
			n, digits = n*10+time.Duration(c-'0'), digits+1
		case c == 'T' && digits == 0 && !clock:
			units, clock = map[byte]time.Duration{'H': time.Hour, 'M': time.Minute, 'S': time.Second}, true
		case unit != 0 && digits > 0:
			if n > MaxDays*24*time.Hour/unit || d > MaxDays*24*time.Hour {
				return 0, bad
			}
			d += n * unit
			n, digits = 0, 0
		default:
			return 0, bad
		}
	}
	if digits > 0 {
		return 0, bad
	}
	return d, nil
}

// readRule reads a rule of recurrence. It refuses rules with more than one time
// a day.
func (e *event) readRule(text string) (*rrule.ROption, error) {
	if len(text) > MaxRule {
		return nil, fault("RRULE of %d bytes, allowed are %d", len(text), MaxRule)
	}
	if e.start.Year() < earliest {
		return nil, fault("RRULE: begins in %d, read are those from %d on", e.start.Year(), earliest)
	}
	var o *rrule.ROption
	if err := guarded(func() (err error) {
		o, err = rrule.StrToROption(text)
		return err
	}); err != nil {
		return nil, err
	}
	switch {
	case o.Freq > rrule.DAILY || len(o.Byhour)+len(o.Byminute)+len(o.Bysecond) > 0:
		return nil, fault("RRULE %q: want one that recurs by days, weeks, months or years", text)
	case o.Interval > maxStep:
		return nil, fault("RRULE %q: an interval of %d, allowed are %d", text, o.Interval, maxStep)
	}
	if until := o.Until; !until.IsZero() && !e.allDay && strings.Contains(strings.ToUpper(text), until.Format("20060102T150405")+"Z") {
		o.Until = shown(until, time.UTC, e.zone)
	}
	o.Dtstart = e.start
	return o, nil
}

// closures are the times that events close between two days, as face values in
// the zone of the hours.
type closures struct {
	zone        *time.Location
	from, until time.Time
	days        map[time.Time]*closure // by midnight
	times       int
}

// closure is the times that events close of a day, in minutes.
type closure struct {
	name    string
	spans   []minutes
	resumes bool // no time is closed, but the end of the day before
}

type minutes struct{ from, to int }

const wholeDay = 24 * 60

func (c *closures) add(e *event) error {
	starts := append([]time.Time{e.start}, e.more...)
	if e.rule != nil {
		o := *e.rule
		// An event may begin before the first day, and in its own zone it may
		// be another day.
		end := c.until.Add(48 * time.Hour)
		if o.Until.IsZero() || o.Until.After(end) {
			o.Until = end
		}
		if err := guarded(func() error {
			rule, err := rrule.NewRRule(o)
			if err != nil {
				return err
			}
			next := rule.Iterator()
			for start, ok := next(); ok; start, ok = next() {
				if err := c.count(); err != nil {
					return err
				}
				starts = append(starts, start)
			}
			return nil
		}); err != nil {
			return err
		}
	}
	slices.SortFunc(starts, time.Time.Compare)
	for _, start := range slices.CompactFunc(starts, time.Time.Equal) {
		if e.not[start] {
			continue
		}
		end := start.Add(e.length)
		if !e.allDay {
			start, end = shown(start, e.zone, c.zone), shown(end, e.zone, c.zone)
		}
		if err := c.close(e, start, end); err != nil {
			return err
		}
	}
	return nil
}

// count counts the times of a calendar, and returns an error beyond maxTimes.
func (c *closures) count() error {
	if c.times++; c.times > maxTimes {
		return fault("its events happen on more than %d days", maxTimes)
	}
	return nil
}

// close notes that an event closes from one time to another.
func (c *closures) close(e *event, start, end time.Time) error {
	from, until := start, end
	if from.Before(c.from) {
		from = c.from
	}
	if until.After(c.until) {
		until = c.until
	}
	for day := from.Truncate(24 * time.Hour); day.Before(until); day = day.AddDate(0, 0, 1) {
		if err := c.count(); err != nil {
			return err
		}
		span := minutes{0, wholeDay}
		if from.After(day) {
			span.from = int(from.Sub(day) / time.Minute)
		}
		if rest := until.Sub(day); rest < 24*time.Hour {
			span.to = int((rest + time.Minute - 1) / time.Minute)
		}
		of := c.days[day]
		if of == nil {
			of = &closure{}
			c.days[day] = of
		}
		of.name = cmp.Or(of.name, e.name)
		of.spans = append(of.spans, span)
	}
	return nil
}

// whole reports whether all of a day is closed.
func (c *closures) whole(day time.Time) bool {
	of := c.days[day]
	return of != nil && slices.Contains(of.spans, minutes{0, wholeDay})
}

// exceptions returns the exceptions of a plan.
func (c *closures) exceptions(plan schedule.Plan) (list []schedule.Exception, err error) {
	dated := make(map[schedule.Date]schedule.Day)
	for _, e := range plan.Exceptions {
		dated[e.Date] = e.Hours
	}
	hours := func(day time.Time) (own schedule.Day, excepted bool) {
		if own, excepted = dated[dateOf(day)]; !excepted {
			own = plan.Week[day.Weekday()]
		}
		return own, excepted
	}
	// Hours that pass midnight and are closed before it open again after it,
	// which the next day's exception has to state. A closed day begins no
	// hours.
	for day, of := range maps.Clone(c.days) {
		next := day.AddDate(0, 0, 1)
		own, _ := hours(day)
		ends := slices.ContainsFunc(of.spans, func(s minutes) bool { return s.to == wholeDay })
		if ends && !c.whole(day) && slices.ContainsFunc(own, wraps) && c.days[next] == nil {
			c.days[next] = &closure{name: of.name, resumes: true}
		}
	}
	for _, day := range slices.SortedFunc(maps.Keys(c.days), time.Time.Compare) {
		of := c.days[day]
		open, excepted := hours(day)
		// An exception ends the hours of the day before. So it also has their
		// rest.
		if before := day.AddDate(0, 0, -1); !excepted && !c.whole(before) {
			spans, _ := hours(before)
			for _, s := range spans {
				if wraps(s) {
					open = slices.Insert(slices.Clone(open), 0, schedule.Span{From: 0, To: s.To})
				}
			}
		}
		left, less := of.leave(open)
		if len(left) > schedule.MaxSpans {
			return nil, fault("%s: %d times of being open are left, allowed are %d", dateOf(day), len(left), schedule.MaxSpans)
		}
		if less || of.resumes && !excepted || c.whole(day) {
			list = append(list, schedule.Exception{Date: dateOf(day), Hours: left, Name: of.name})
		}
	}
	return list, nil
}

func wraps(s schedule.Span) bool { return s.To <= s.From }

// leave returns a day's hours without the closed minutes, and whether that made
// a difference. Hours that pass midnight still do, unless the end of this day
// is closed.
func (c *closure) leave(open schedule.Day) (left schedule.Day, less bool) {
	var shut, runs [wholeDay]bool
	for _, s := range c.spans {
		for m := s.from; m < s.to; m++ {
			shut[m] = true
		}
	}
	var past schedule.TimeOfDay // the end on the next day of hours that pass midnight
	for _, s := range open {
		to := s.To
		if wraps(s) {
			to, past = wholeDay, s.To
		}
		for m := s.From; m < to; m++ {
			runs[m] = !shut[m]
			less = less || shut[m]
		}
	}
	for m := 0; m < wholeDay; m++ {
		if !runs[m] {
			continue
		}
		span := schedule.Span{From: schedule.TimeOfDay(m)}
		for m < wholeDay && runs[m] {
			m++
		}
		span.To = schedule.TimeOfDay(m)
		if m == wholeDay && past != 0 {
			if past >= span.From { // in two parts, since a span is at most a day long
				left = append(left, schedule.Span{From: span.From, To: past + 1})
				span.From = past + 1
			}
			span.To = past
		}
		left = append(left, span)
	}
	return left, less
}

func midnight(d schedule.Date) time.Time {
	return time.Date(d.Year, d.Month, d.Day, 0, 0, 0, 0, time.UTC)
}

func dateOf(day time.Time) schedule.Date {
	y, m, d := day.Date()
	return schedule.Date{Year: y, Month: m, Day: d}
}
