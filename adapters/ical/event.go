package ical

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/presence-go/presence/internal/wallclock"
	"github.com/presence-go/presence/schedule"
)

// Event is what [Options.Keep] decides by. Changed times of a recurring event
// are events of their own.
type Event struct {
	Line       int // of the file, from 1
	UID        string
	Calendar   string // its name
	Summary    string // without characters that people cannot read
	Categories []string
	Status     string // CONFIRMED or TENTATIVE; mostly empty
	Class      string // PUBLIC without a class
	// Transparent means that the event leaves people free: TRANSP:TRANSPARENT, or
	// the busy status FREE of Outlook.
	Transparent bool
	AllDay      bool

	component *component
}

// Property returns the values of a property as the calendar writes them, such as
// those of X-MICROSOFT-CDO-BUSYSTATUS.
func (e Event) Property(name string) (values []string) {
	if e.component == nil {
		return nil
	}
	for _, l := range e.component.find(strings.ToUpper(name)) {
		values = append(values, l.value)
	}
	return values
}

// event is an event of a calendar.
type event struct {
	*Event
	kept      bool
	cancelled bool // it takes away
	broken    bool // it cannot be read
	added     bool // it is no revision of another event, such as with METHOD:ADD
	revision  revision
	replaces  *moment // RECURRENCE-ID
	ranged    int     // 1 is the time that it replaces and all later ones, -1 all earlier ones

	plan            *time.Location // the zone of the hours
	zone            *time.Location // of start, and of what names no other
	start           wallclock.Time
	length          length
	rules, exrules  []*rule
	dates, not      []*moment
	periods         []extent
	allDay, written bool // written: start has a zone of its own
}

// extent is a time of an event with a length of its own.
type extent struct {
	from *moment
	to   *moment // or else
	length
}

// revision orders the events with one UID.
type revision struct {
	sequence        int
	stamp, modified string
}

func (r revision) compare(o revision) int {
	return cmp.Or(cmp.Compare(r.sequence, o.sequence), cmp.Compare(r.stamp, o.stamp), cmp.Compare(r.modified, o.modified))
}

// before reports whether a revision is known to be older than another one.
func (r revision) before(o revision) bool {
	return r.sequence < o.sequence || r.sequence == o.sequence && r.stamp != "" && r.stamp < o.stamp
}

// reader reads the calendars of a stream.
type reader struct {
	Options
	zone        *time.Location
	first, last int // days asked for
	budget      *budget
	skipped     []Skipped
}

func (r *reader) skip(line int, uid, why string) {
	r.skipped = append(r.skipped, Skipped{Line: line, UID: uid, Why: why})
}

// read returns the events that close.
func (r *reader) read(data []byte) ([]*series, error) {
	calendars, stray := structure(data, r.Keep != nil)
	if len(calendars) == 0 {
		return nil, fault("BEGIN:VCALENDAR is missing")
	}
	for _, c := range stray {
		r.skip(c.line, c.text("UID"), "VEVENT: "+c.wrong)
	}
	var list []*event
	for _, c := range calendars {
		more, err := r.calendar(c)
		if err != nil {
			return nil, err
		}
		list = append(list, more...)
	}
	return r.series(list)
}

func (r *reader) calendar(c *component) (list []*event, err error) {
	z := &zones{given: r.Zones, budget: r.budget, found: make(map[string]*time.Location), why: make(map[string]error)}
	z.years = [2]int{min(1970, dateOf(r.first).year-1), dateOf(r.last).year + 1}
	z.own = make(map[string][]*component)
	for _, part := range c.parts {
		if part.kind == "VTIMEZONE" {
			id := strings.ToLower(strings.Trim(unescaped(part.text("TZID")), ` "`))
			z.own[id] = append(z.own[id], part)
		}
	}
	if c.wrong != "" {
		r.skip(c.line, "", c.wrong+"; what follows is lost")
	}
	name := clean(cmp.Or(c.text("X-WR-CALNAME"), c.text("NAME")))
	for _, part := range c.parts {
		if part.kind != "VEVENT" {
			continue
		}
		e := &event{plan: r.zone, Event: &Event{Line: part.line, UID: part.text("UID"), component: part, Calendar: name}}
		err := e.read(c, part, z)
		switch p, ok := err.(*problem); {
		case err == nil:
		case ok:
			e.broken = true
			r.skip(p.line, e.UID, p.text)
		default:
			return nil, ended(err, e.Event)
		}
		list = append(list, e)
	}
	return list, nil
}

// clean returns a text without characters that people cannot read.
func clean(value string) string {
	name := strings.Join(strings.FieldsFunc(strings.ToValidUTF8(unescaped(value), ""), func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) }), " ")
	if len(name) > schedule.MaxName {
		name = strings.ToValidUTF8(name[:schedule.MaxName], "")
	}
	return name
}

// read reads an event. It begins with what decides which revision counts, so
// that an event that cannot be read still takes the place of older ones.
func (e *event) read(calendar, c *component, z *zones) error {
	if c.wrong != "" {
		e.added = true // its UID may be lost
		return &problem{c.line, "VEVENT: " + c.wrong}
	}
	e.describe(c)
	if err := e.revise(calendar, c, z); err != nil || e.cancelled {
		return err
	}
	if l, err := calendar.one("CALSCALE"); err != nil {
		return err
	} else if l != nil && !strings.EqualFold(cmp.Or(strings.TrimSpace(l.value), "GREGORIAN"), "GREGORIAN") {
		return &problem{c.line, fmt.Sprintf("CALSCALE: %.40s is another calendar", l.value)}
	}
	l, err := c.one("DTSTART")
	if err != nil {
		return err
	}
	if l == nil {
		return &problem{c.line, "VEVENT: DTSTART is missing"}
	}
	start, err := z.moment(l, l.value)
	if err != nil {
		return err
	}
	e.zone, e.written = cmp.Or(start.zone, e.plan), start.zone != nil
	e.start, e.allDay = start.wall, start.allDay
	if err := e.readLength(c, z); err != nil {
		return err
	}
	e.wholeDays(c)
	e.AllDay = e.allDay
	return e.recur(c, z)
}

// describe reads what changes no times.
func (e *event) describe(c *component) {
	e.Summary = clean(c.text("SUMMARY"))
	for _, l := range c.find("CATEGORIES") {
		e.Categories = append(e.Categories, items(l.value)...)
	}
	e.Status = strings.ToUpper(c.text("STATUS"))
	e.Class = strings.ToUpper(cmp.Or(c.text("CLASS"), "PUBLIC"))
	e.Transparent = strings.EqualFold(cmp.Or(c.text("TRANSP"), c.text("X-MICROSOFT-CDO-BUSYSTATUS")), "TRANSPARENT") ||
		c.text("TRANSP") == "" && strings.EqualFold(c.text("X-MICROSOFT-CDO-BUSYSTATUS"), "FREE")
}

// methods are the calls for meetings. Those that set no times have a reason.
var methods = map[string]string{
	"": "", "PUBLISH": "", "REQUEST": "", "ADD": "", "CANCEL": "",
	"REPLY": "it is an answer to an invitation", "REFRESH": "it asks for an event",
	"COUNTER": "it proposes another time", "DECLINECOUNTER": "it declines another time",
}

// revise reads which event and which of its times this is about, and whether it
// takes them away.
func (e *event) revise(calendar, c *component, z *zones) error {
	var method string
	if l, err := calendar.one("METHOD"); err != nil {
		return err
	} else if l != nil {
		method = strings.ToUpper(strings.TrimSpace(l.value))
		if why, ok := methods[method]; why != "" || !ok {
			e.added = true // it is no revision
			return &problem{c.line, fmt.Sprintf("METHOD: %.40s: %s", method, cmp.Or(why, "it is unknown"))}
		}
	}
	for _, name := range []string{"UID", "STATUS", "DTSTAMP", "LAST-MODIFIED"} {
		if _, err := c.one(name); err != nil {
			return err
		}
	}
	e.added = method == "ADD"
	e.revision = revision{stamp: strings.ToUpper(c.text("DTSTAMP")), modified: strings.ToUpper(c.text("LAST-MODIFIED"))}
	e.cancelled = method == "CANCEL" || e.Status == "CANCELLED" || e.Status == "CANCELED"
	if l, err := c.one("SEQUENCE"); err != nil {
		return err
	} else if l != nil && strings.TrimSpace(l.value) != "" {
		n, ok := digits(strings.TrimSpace(l.value))
		if !ok {
			return at(l, "%.40q is no number", l.value)
		}
		e.revision.sequence = n
	}
	l, err := c.one("RECURRENCE-ID")
	if err != nil || l == nil || strings.TrimSpace(l.value) == "" {
		return err
	}
	m, err := z.moment(l, l.value)
	if err != nil {
		e.added = true // it replaces an unknown time
		return err
	}
	e.replaces = m
	switch value := strings.ToUpper(l.param("RANGE")); value {
	case "":
	case "THISANDFUTURE":
		e.ranged = 1
	case "THISANDPRIOR":
		e.ranged = -1
	default:
		return at(l, "RANGE=%.40s is unknown", value)
	}
	return nil
}

// moment reads a date or time with the parameters of its line.
func (z *zones) moment(l *line, text string) (*moment, error) {
	m, err := parseMoment(l, text)
	if err != nil {
		return nil, err
	}
	switch l.kind {
	case "", "DATE-TIME", "PERIOD":
	case "DATE":
		m.wall, m.allDay = wallclock.Midnight(m.wall.Day()), true
	default:
		return nil, at(l, "VALUE=%.40s is unknown", l.kind)
	}
	if l.zone != "" && m.zone == nil && !m.allDay {
		if m.zone, err = z.named(l, l.zone); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// readLength reads DTEND and DURATION.
func (e *event) readLength(c *component, z *zones) error {
	if e.allDay {
		e.length.days = 1
	}
	ends, err := c.one("DTEND")
	if err != nil {
		return err
	}
	lasts, err := c.one("DURATION")
	switch {
	case err != nil:
		return err
	case ends != nil && strings.TrimSpace(ends.value) != "":
		if err := e.until(ends, z); err != nil {
			return err
		}
	case lasts == nil || strings.TrimSpace(lasts.value) == "":
		return nil
	}
	if lasts == nil || strings.TrimSpace(lasts.value) == "" {
		return nil
	}
	d, err := parseLength(lasts, lasts.value)
	switch {
	case err != nil:
		return err
	case e.allDay && d.seconds%wallclock.DaySeconds != 0:
		return at(lasts, "%.40q is not in days, as the start is", lasts.value)
	case e.allDay:
		d = length{days: max(1, d.days+int(d.seconds/wallclock.DaySeconds))}
	}
	if ends != nil && d.end(e.zone, e.start) != e.length.end(e.zone, e.start) {
		return at(lasts, "DTEND says something else")
	}
	e.length = d
	return nil
}

// until reads DTEND. An end that is not after its start is often written for one
// day.
func (e *event) until(l *line, z *zones) error {
	m, err := z.moment(l, l.value)
	if err != nil {
		return err
	}
	if m.allDay != e.allDay {
		if !e.allDay || m.wall != wallclock.Midnight(m.wall.Day()) {
			return at(l, "it is not of the same kind as DTSTART: a date, or a time")
		}
	}
	if e.allDay {
		e.length.days = max(1, m.wall.Day()-e.start.Day())
		return nil
	}
	e.length.seconds = m.unix(e.zone) - wallclock.Instant(e.zone, e.start)
	if e.length.seconds < 0 {
		return at(l, "it is before DTSTART")
	}
	return nil
}

// wholeDays turns an event that Outlook or Exchange mark as one of whole days,
// and that begins and ends at midnight, into one. Times in UTC are midnight in
// the zone of the hours.
func (e *event) wholeDays(c *component) {
	marked := slices.ContainsFunc([]string{"X-MICROSOFT-CDO-ALLDAYEVENT", "X-MICROSOFT-MSNCALENDAR-ALLDAYEVENT"}, func(name string) bool {
		return strings.EqualFold(c.text(name), "TRUE")
	})
	if !marked || e.allDay {
		return
	}
	zone := e.zone
	if zone == time.UTC && e.start != wallclock.Midnight(e.start.Day()) {
		zone = e.plan
	}
	start := wallclock.Instant(e.zone, e.start)
	from, to := wallclock.Shown(zone, start), wallclock.Shown(zone, e.length.end(e.zone, e.start))
	if from == wallclock.Midnight(from.Day()) && to == wallclock.Midnight(to.Day()) {
		e.allDay, e.start, e.length = true, from, length{days: max(1, to.Day()-from.Day())}
		e.zone = zone
	}
}

// recur reads what makes an event happen more than once.
func (e *event) recur(c *component, z *zones) error {
	for _, l := range slices.Concat(c.find("RRULE"), c.find("EXRULE"), c.find("RDATE"), c.find("EXDATE")) {
		if l.broken {
			return at(l, "it has no value")
		}
		if strings.Trim(l.value, " ,;") == "" {
			continue // some makers write it empty
		}
		var err error
		switch l.name {
		case "RRULE":
			err = e.rule(l, &e.rules)
		case "EXRULE":
			err = e.rule(l, &e.exrules)
		case "EXDATE":
			err = each(l.value, func(text string) error {
				m, err := z.moment(l, text)
				e.not = append(e.not, m)
				return err
			})
		case "RDATE":
			err = each(l.value, func(text string) error { return e.date(l, text, z) })
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func each(value string, f func(string) error) error {
	for text := range strings.SplitSeq(value, ",") {
		if strings.TrimSpace(text) == "" {
			continue
		}
		if err := f(text); err != nil {
			return err
		}
	}
	return nil
}

func (e *event) rule(l *line, to *[]*rule) error {
	r, err := parseRule(l)
	if err != nil {
		return err
	}
	if err := r.begin(e.start, e.allDay); err != nil {
		return err
	}
	if u := r.until; u != nil {
		switch {
		case e.allDay:
			r.untilDay = u.day(e.plan)
		case u.allDay:
			r.untilDay = u.wall.Day()
		default:
			r.untilDay = wallclock.Shown(e.zone, u.unix(e.zone)).Day()
		}
	}
	*to = append(*to, r)
	return nil
}

// ends reports whether a time is after the end of a rule.
func (r *rule) ends(e *event, w wallclock.Time, unix int64) bool {
	switch u := r.until; {
	case u == nil || u.allDay || e.allDay:
		return w.Day() > r.untilDay
	case u.zone == nil:
		return w > u.wall
	default:
		return unix > int64(u.wall)
	}
}

// date reads one value of RDATE: a date, a time, or a period.
func (e *event) date(l *line, text string, z *zones) error {
	from, to, period := strings.Cut(text, "/")
	m, err := z.moment(l, from)
	if err != nil {
		return err
	}
	if !period {
		e.dates = append(e.dates, m)
		return nil
	}
	if m.allDay {
		return at(l, "%.40q begins with a date, want a time", l.value)
	}
	x := extent{from: m}
	if strings.ContainsAny(to, "pP") {
		x.length, err = parseLength(l, to)
	} else if x.to, err = z.moment(l, to); err == nil && x.to.unix(e.zone) < m.unix(e.zone) {
		err = at(l, "%.40q ends before it begins", l.value)
	}
	e.periods = append(e.periods, x)
	return err
}
