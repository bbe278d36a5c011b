package schedule

import (
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// MaxText is the length in bytes of the longest text that [Parse] reads.
const MaxText = 64 << 10

const (
	closedWord = "closed"
	zoneWord   = "zone"
	wantSpan   = "want hours such as 09:00-12:00"
	wantDate   = "want a date such as 2026-12-25, or 12-25 of each year"
	wantDays   = "want a day of the week such as mon, a range such as mon-fri, or a date such as 2026-12-25, 12-25 or 2026-12-24..2027-01-01"
)

// Parse reads a plan from text. The text has rules separated by semicolons:
// each for days of the week or for dates, and one for the zone.
//
//	mon-fri 09:00-12:00,13:00-17:00; sat 22:00-06:00; 2026-12-31 09:00-12:00; zone Europe/Berlin
//	12-25,12-26 closed; 2026-12-28..2027-01-03 closed
//
// A date without a year is of each year. Two dates with dots between them are all dates
// from the one to the other. Of several rules for one date the last counts.
//
// Days without a rule are closed. The text "closed" is a week without hours. A
// time of day may be written without its leading zero. 24:00 may be written as
// 00:00 at an end. Parse returns all faults joined. [Plan.Validate] and [New]
// check whether the zone exists and the hours do not overlap.
func Parse(text string) (Plan, error) {
	if len(text) > MaxText {
		return Plan{}, fault("%d bytes of text, allowed are %d", len(text), MaxText)
	}
	if !utf8.ValidString(text) {
		return Plan{}, fault("want UTF-8 text, got other bytes")
	}
	p := parser{}
	if rules := strings.TrimSpace(text); rules != closedWord {
		for rule := range strings.SplitSeq(strings.TrimSuffix(rules, ";"), ";") {
			p.rule(rule)
		}
	}
	if len(p.faults) > maxFaults {
		p.faults = append(p.faults[:maxFaults], fault("%d more faults", len(p.faults)-maxFaults))
	}
	if err := errors.Join(p.faults...); err != nil {
		return Plan{}, err
	}
	return p.plan, nil
}

// maxFaults is the number of faults of one text that are listed.
const maxFaults = 20

type parser struct {
	plan   Plan
	given  [7]bool // weekdays with a rule
	faults []error
}

func (p *parser) fault(format string, args ...any) {
	p.faults = append(p.faults, fault(format, args...))
}

func (p *parser) rule(rule string) {
	words := strings.Fields(closeUp(rule))
	if len(words) != 2 {
		p.fault(`%.64q: want days and their hours, as in "mon-fri 09:00-12:00,13:00-17:00", or closed`, rule)
		return
	}
	if words[0] == zoneWord {
		if p.plan.Zone != "" {
			p.fault("zone %.64s: the zone is already %.64s", words[1], p.plan.Zone)
		}
		p.plan.Zone = words[1]
		return
	}
	hours := p.hours(words[1])
	for days := range strings.SplitSeq(words[0], ",") {
		if strings.ContainsAny(days, "0123456789") {
			p.dates(days, hours)
			continue
		}
		from, to, isRange := strings.Cut(strings.ToLower(days), "-")
		if !isRange {
			to = from
		}
		a, b := slices.Index(dayNames[:], from), slices.Index(dayNames[:], to)
		if a < 0 || b < 0 {
			p.fault("%.32q: %s", days, wantDays)
			continue
		}
		for day := a; ; day = (day + 1) % 7 {
			if p.given[day] {
				p.fault("%s has two rules; want all its hours in one, separated by commas", dayNames[day])
			}
			p.given[day] = true
			p.plan.Week[day] = slices.Clone(hours)
			if day == b {
				break
			}
		}
	}
}

// dates reads a date, or two with dots between them.
func (p *parser) dates(text string, hours Day) {
	from, to, isRange := strings.Cut(text, "..")
	e := Exception{Hours: slices.Clone(hours)}
	var ok bool
	if e.Date, ok = parseDate(from); !ok && !isRange {
		p.fault("%.32q: %s", from, wantDays)
		return
	}
	if !ok {
		p.fault("%.32q: %s", from, wantDate)
		return
	}
	if isRange {
		if e.To, ok = parseDate(to); !ok {
			p.fault("%.32q: %s", to, wantDate)
			return
		}
	}
	if text := e.datesFault(); text != "" {
		p.fault("%s", text)
		return
	}
	p.plan.Exceptions = append(p.plan.Exceptions, e)
}

func (p *parser) hours(text string) (hours Day) {
	if text == closedWord {
		return nil
	}
	for item := range strings.SplitSeq(text, ",") {
		span, ok := parseSpan(item)
		if !ok {
			p.fault("%.32q: %s, or closed", item, wantSpan)
		}
		hours = append(hours, span)
	}
	return hours
}

// closeUp removes the spaces around commas.
func closeUp(s string) string {
	parts := strings.Split(s, ",")
	for i := range parts {
		parts[i] = strings.TrimSpace(parts[i])
	}
	return strings.Join(parts, ",")
}

// parseDate reads a date, or one of each year.
func parseDate(s string) (Date, bool) {
	yearly := len(s) == len("01-02")
	if yearly {
		s = "2000-" + s // a leap year
	}
	t, err := time.Parse(time.DateOnly, s)
	if err != nil || t.Year() < 1 {
		return Date{}, false
	}
	if yearly {
		return Date{0, t.Month(), t.Day()}, true
	}
	return Date{t.Year(), t.Month(), t.Day()}, true
}

func parseSpan(s string) (Span, bool) {
	from, to, ok := strings.Cut(s, "-")
	a, okA := parseTime(from)
	b, okB := parseTime(to)
	if b == 0 {
		b = endOfDay // midnight at an end is the end of the day
	}
	return Span{a, b}, ok && okA && okB && a < endOfDay
}

func parseTime(s string) (TimeOfDay, bool) {
	hour, minute, ok := strings.Cut(s, ":")
	h, okH := digits(hour)
	m, okM := digits(minute)
	t := TimeOfDay(h*60 + m)
	return t, ok && okH && okM && len(minute) == 2 && m < 60 && t <= endOfDay
}

// digits reads a number of one or two digits.
func digits(s string) (int, bool) {
	if len(s) > 2 || strings.ContainsFunc(s, func(r rune) bool { return r < '0' || r > '9' }) {
		return 0, false
	}
	n, err := strconv.Atoi(s)
	return n, err == nil
}

// String returns a plan in the form that [Parse] reads. It groups days with
// equal hours, and leaves out the names of exceptions.
func (p Plan) String() string {
	var rules []string
	if week := p.Week.String(); week != closedWord {
		rules = append(rules, week)
	}
	for _, e := range p.Exceptions {
		rules = append(rules, e.dates()+" "+e.Hours.String())
	}
	if p.Zone != "" {
		rules = append(rules, zoneWord+" "+p.Zone)
	}
	if len(rules) == 0 {
		return closedWord
	}
	return strings.Join(rules, "; ")
}

// String returns a week in the form mon-fri 09:00-12:00,13:00-17:00; sat
// 10:00-14:00, or closed.
func (w Week) String() string {
	var rules []string
	for i, day := range weekdays {
		hours := w[day]
		same := func(d time.Weekday) bool { return slices.Equal(w[d], hours) }
		if len(hours) == 0 || slices.ContainsFunc(weekdays[:i], same) {
			continue // closed, or written already
		}
		var days []string
		for j := i; j < len(weekdays); j++ {
			if !same(weekdays[j]) {
				continue
			}
			end := j
			for end+1 < len(weekdays) && same(weekdays[end+1]) {
				end++
			}
			if end >= j+2 {
				days = append(days, dayNames[weekdays[j]]+"-"+dayNames[weekdays[end]])
				j = end
			} else {
				days = append(days, dayNames[weekdays[j]])
			}
		}
		rules = append(rules, strings.Join(days, ",")+" "+hours.String())
	}
	if len(rules) == 0 {
		return closedWord
	}
	return strings.Join(rules, "; ")
}
