package ical

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/presence-go/presence/internal/wallclock"
)

// rule is a rule of recurrence: a predicate over days, and one time of day.
type rule struct {
	line     *line
	freq     freq
	interval int
	count    int // 0 is none
	start    date
	wkst     time.Weekday
	clock    wallclock.Time // the time of day, in seconds

	months    uint16
	weeks     []int
	yearDays  []int
	monthDays [2]uint32 // from the beginning, and from the end
	weekdays  uint8     // every one in the period
	nth       [7][]int  // of weekdays the first, the last and so on
	byMonth   bool      // nth counts within months
	places    []int     // BYSETPOS

	// until is the end: a day, a time on the clock or an instant.
	until      *moment
	untilDay   int
	finer      string // why it has several times a day
	timeOfRule [3][]int
}

type freq int

const (
	daily freq = iota
	weekly
	monthly
	yearly
)

var freqs = map[string]freq{"DAILY": daily, "WEEKLY": weekly, "MONTHLY": monthly, "YEARLY": yearly}

var weekdays = []string{"SU", "MO", "TU", "WE", "TH", "FR", "SA"}

// date is a day of the calendar.
type date struct {
	day               int // its number
	year, month, of   int // of is the day of the month
	weekday           time.Weekday
	yearDay           int
	monthLen, yearLen int
}

func dateOf(day int) date {
	t := time.Unix(int64(day)*wallclock.DaySeconds, 0).UTC()
	y, m, d := t.Date()
	return date{day, y, int(m), d, t.Weekday(), t.YearDay(), monthLen(y, int(m)), yearLen(y)}
}

func monthLen(year, month int) int {
	return time.Date(year, time.Month(month)+1, 0, 0, 0, 0, 0, time.UTC).Day()
}

func yearLen(year int) int {
	if year%4 == 0 && (year%100 != 0 || year%400 == 0) {
		return 366
	}
	return 365
}

// next is the day after.
func (d date) next() date {
	d.day, d.of, d.yearDay, d.weekday = d.day+1, d.of+1, d.yearDay+1, (d.weekday+1)%7
	if d.of > d.monthLen {
		d.of, d.month = 1, d.month+1
		if d.month > 12 {
			d.month, d.year, d.yearDay = 1, d.year+1, 1
			d.yearLen = yearLen(d.year)
		}
		d.monthLen = monthLen(d.year, d.month)
	}
	return d
}

// week returns the number of a day's week, and how many weeks its year has. The
// first week is the first with four days in the year.
func (d date) week(wkst time.Weekday) (n, of int) {
	fourth, length := d.yearDay-int(d.weekday-wkst+7)%7+3, d.yearLen
	switch {
	case fourth < 1:
		length = yearLen(d.year - 1)
		fourth += length
	case fourth > length:
		fourth -= length
		length = yearLen(d.year + 1)
	}
	n = (fourth-1)/7 + 1
	return n, n + (length-fourth)/7
}

// period returns the number of the day, week, month or year that a date is in.
func (r *rule) period(d date) int {
	switch r.freq {
	case weekly:
		return floorDiv(d.day+4-int(r.wkst), 7) // day -4 was a Sunday
	case monthly:
		return d.year*12 + d.month
	case yearly:
		return d.year
	}
	return d.day
}

// begins returns the first day of a date's period.
func (r *rule) begins(d date) int {
	switch r.freq {
	case weekly:
		return d.day - int(d.weekday-r.wkst+7)%7
	case monthly:
		return d.day - d.of + 1
	case yearly:
		return d.day - d.yearDay + 1
	}
	return d.day
}

// matches reports whether the rule names a day. Its period and BYSETPOS are not
// looked at.
func (r *rule) matches(d date) bool {
	if r.months != 0 && r.months>>d.month&1 == 0 {
		return false
	}
	if r.monthDays != [2]uint32{} && r.monthDays[0]>>d.of&1 == 0 && r.monthDays[1]>>(d.monthLen-d.of+1)&1 == 0 {
		return false
	}
	if r.yearDays != nil && !has(r.yearDays, d.yearDay) && !has(r.yearDays, d.yearDay-d.yearLen-1) {
		return false
	}
	if r.weeks != nil {
		if n, of := d.week(r.wkst); !has(r.weeks, n) && !has(r.weeks, n-of-1) {
			return false
		}
	}
	return r.weekdays == 0 && !r.counted() || r.weekdays>>d.weekday&1 == 1 || r.isNth(d)
}

// has reports whether a sorted list has a number.
func has(list []int, n int) bool {
	_, ok := slices.BinarySearch(list, n)
	return ok
}

// counted reports whether the rule has numbers in BYDAY.
func (r *rule) counted() bool {
	return slices.ContainsFunc(r.nth[:], func(list []int) bool { return list != nil })
}

// isNth reports whether a day is the nth of its weekday in the month, or in the
// year if the rule names no months.
func (r *rule) isNth(d date) bool {
	of, length := d.yearDay, d.yearLen
	if r.byMonth {
		of, length = d.of, d.monthLen
	}
	return has(r.nth[d.weekday], (of-1)/7+1) || has(r.nth[d.weekday], -((length-of)/7+1))
}

// budget is how many days of a calendar are looked at.
type budget struct {
	ctx  context.Context
	left int
}

// maxLooks is the number of days that are looked at for one calendar.
const maxLooks = 20_000_000

// timeCost is what one time of an event costs, in days.
const timeCost = 10

// look counts days that are looked at. It returns the cause of the context's end
// at times.
func (b *budget) look(days int) error {
	if before := b.left; before>>12 != (before-days)>>12 && b.ctx.Err() != nil {
		return end{context.Cause(b.ctx)}
	}
	if b.left -= days; b.left < 0 {
		return end{fault("more than %d days have to be looked at", maxLooks)}
	}
	return nil
}

// days calls yield for the days of the rule from one to another, in order. All
// that the rule names count, but those before its start are not yielded. A rule
// without a count begins at the first day asked for.
func (r *rule) days(b *budget, from, to int, yield func(day int) (more bool)) error {
	if r.count > 0 || from < r.start.day {
		from = r.start.day
	}
	to = min(to, r.untilDay)
	if from > to {
		return nil
	}
	d := dateOf(from)
	if r.places != nil {
		d = dateOf(r.begins(d))
	}
	origin := r.period(r.start)
	var named []int // of the period, for BYSETPOS
	for ; d.day <= to || len(named) > 0; d = d.next() {
		if err := b.look(1); err != nil {
			return err
		}
		if (r.period(d)-origin)%r.interval == 0 && r.matches(d) {
			if r.places == nil {
				if !yield(d.day) {
					return nil
				}
				continue
			}
			named = append(named, d.day)
		}
		if len(named) > 0 && r.period(d.next()) != r.period(d) {
			for _, day := range r.placed(named) {
				if day > to || day >= r.start.day && !yield(day) {
					return nil
				}
			}
			named = named[:0]
		}
	}
	return nil
}

// placed returns those of a period's days that BYSETPOS names.
func (r *rule) placed(named []int) (list []int) {
	for i, day := range named {
		if has(r.places, i+1) || has(r.places, i-len(named)) {
			list = append(list, day)
		}
	}
	return list
}

// parseRule reads RRULE or EXRULE.
func parseRule(l *line) (*rule, error) {
	r := &rule{line: l, freq: -1, interval: 1, wkst: time.Monday, untilDay: maxDay}
	seen := make(map[string]bool)
	for part := range strings.SplitSeq(l.value, ";") {
		if part = strings.TrimSpace(part); part == "" {
			continue // often written at the end
		}
		name, value, _ := strings.Cut(part, "=")
		name, value = strings.ToUpper(strings.TrimSpace(name)), strings.ToUpper(strings.TrimSpace(value))
		if seen[name] {
			return nil, at(l, "%s occurs twice", name)
		}
		seen[name] = true
		if err := r.part(name, value); err != nil {
			return nil, err
		}
	}
	if err := r.check(seen); err != nil {
		return nil, err
	}
	return r, nil
}

// part reads one part of a rule.
func (r *rule) part(name, value string) (err error) {
	switch name {
	case "FREQ":
		f, ok := freqs[value]
		switch {
		case ok:
			r.freq = f
		case value == "HOURLY" || value == "MINUTELY" || value == "SECONDLY":
			r.finer = "FREQ=" + value
		default:
			return at(r.line, "FREQ=%.40s is unknown", value)
		}
	case "INTERVAL":
		r.interval, err = r.positive(name, value)
	case "COUNT":
		r.count, err = r.positive(name, value)
	case "UNTIL":
		r.until, err = parseMoment(r.line, value)
	case "WKST":
		if i := slices.Index(weekdays, value); i >= 0 {
			r.wkst = time.Weekday(i)
		} else {
			err = at(r.line, "WKST=%.40s is no day of the week", value)
		}
	case "BYDAY":
		err = r.parseDays(value)
	case "RSCALE":
		if value != "GREGORIAN" {
			err = at(r.line, "RSCALE=%.40s is another calendar", value)
		}
	case "SKIP":
		if value != "OMIT" {
			err = at(r.line, "SKIP=%.40s is not read", value)
		}
	default:
		err = r.numbers(name, value)
	}
	return err
}

func (r *rule) positive(name, value string) (int, error) {
	n, err := strconv.Atoi(value)
	if err != nil || n < 1 || n > 1_000_000_000 {
		return 0, at(r.line, "%s=%.40s is not a number from 1 to 1000000000", name, value)
	}
	return n, nil
}

// ranges are the parts that are lists of numbers, with the largest of each.
// Those in signed count from the end if they are negative.
var (
	ranges = map[string]int{"BYMONTH": 12, "BYMONTHDAY": 31, "BYYEARDAY": 366, "BYWEEKNO": 53, "BYSETPOS": 366, "BYHOUR": 23, "BYMINUTE": 59, "BYSECOND": 60}
	signed = map[string]bool{"BYMONTHDAY": true, "BYYEARDAY": true, "BYWEEKNO": true, "BYSETPOS": true}
)

func (r *rule) numbers(name, value string) error {
	largest, ok := ranges[name]
	if !ok {
		return at(r.line, "the part %.40s is unknown", name)
	}
	smallest := 0
	if name == "BYMONTH" || signed[name] {
		smallest = 1
	}
	var list []int
	for text := range strings.SplitSeq(value, ",") {
		if text = strings.TrimSpace(text); text == "" {
			continue
		}
		n, err := strconv.Atoi(text)
		size := n
		if signed[name] {
			size = max(n, -n)
		}
		if err != nil || size < smallest || size > largest {
			return at(r.line, "%s=%.40s is not from %d to %d", name, text, smallest, largest)
		}
		list = append(list, n)
	}
	if list == nil {
		return at(r.line, "%s is empty", name)
	}
	slices.Sort(list)
	list = slices.Compact(list)
	switch name {
	case "BYMONTH":
		for _, n := range list {
			r.months |= 1 << n
		}
	case "BYMONTHDAY":
		for _, n := range list {
			r.monthDays[min(1, max(0, -n))] |= 1 << max(n, -n)
		}
	case "BYYEARDAY":
		r.yearDays = list
	case "BYWEEKNO":
		r.weeks = list
	case "BYSETPOS":
		r.places = list
	case "BYHOUR":
		r.timeOfRule[0] = list
	case "BYMINUTE":
		r.timeOfRule[1] = list
	case "BYSECOND":
		r.timeOfRule[2] = list
	}
	return nil
}

func (r *rule) parseDays(value string) error {
	for text := range strings.SplitSeq(value, ",") {
		if text = strings.TrimSpace(text); text == "" {
			continue
		}
		number := strings.TrimRight(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZ")
		day := slices.Index(weekdays, text[len(number):])
		if day < 0 {
			return at(r.line, "BYDAY=%.40s is no day of the week", text)
		}
		if number == "" {
			r.weekdays |= 1 << day
			continue
		}
		n, err := strconv.Atoi(number)
		if err != nil || n == 0 || max(n, -n) > 53 {
			return at(r.line, "BYDAY=%.40s is not from 1 to 53", text)
		}
		if i, ok := slices.BinarySearch(r.nth[day], n); !ok {
			r.nth[day] = slices.Insert(r.nth[day], i, n)
		}
	}
	if r.weekdays == 0 && !r.counted() {
		return at(r.line, "BYDAY is empty")
	}
	return nil
}

// check refuses rules that have no meaning, and finds those with several times
// a day.
func (r *rule) check(seen map[string]bool) error {
	switch {
	case r.finer != "":
		return at(r.line, "%s has several times a day, read is one", r.finer)
	case r.freq < 0:
		return at(r.line, "FREQ is missing")
	case r.count > 0 && r.until != nil:
		return at(r.line, "it has COUNT and UNTIL")
	case r.weeks != nil && r.freq != yearly:
		return at(r.line, "BYWEEKNO is for FREQ=YEARLY")
	case r.counted() && r.freq < monthly:
		return at(r.line, "a number in BYDAY is for FREQ=MONTHLY and FREQ=YEARLY")
	case r.counted() && r.weeks != nil:
		return at(r.line, "a number in BYDAY has no meaning beside BYWEEKNO")
	case seen["SKIP"] && !seen["RSCALE"]:
		return at(r.line, "SKIP is for rules with RSCALE")
	}
	r.byMonth = r.freq == monthly || r.months != 0
	for i, name := range []string{"BYHOUR", "BYMINUTE", "BYSECOND"} {
		if len(r.timeOfRule[i]) > 1 {
			r.finer = fmt.Sprintf("%s with %d values", name, len(r.timeOfRule[i]))
		}
	}
	return nil
}

// begin completes a rule by the start of its event: what the rule leaves open
// is as it is there. Times of day have no meaning for whole days.
func (r *rule) begin(start wallclock.Time, allDay bool) error {
	r.start = dateOf(start.Day())
	if !allDay {
		if r.finer != "" {
			return at(r.line, "%s has several times a day, read is one", r.finer)
		}
		clock := int(start - wallclock.Midnight(r.start.day))
		parts := [3]int{clock / 3600, clock / 60 % 60, clock % 60}
		for i, list := range r.timeOfRule {
			if len(list) == 1 {
				parts[i] = list[0]
			}
		}
		r.clock = wallclock.Time(parts[0]*3600 + parts[1]*60 + min(parts[2], 59))
	}
	days := r.monthDays != [2]uint32{} || r.yearDays != nil || r.weekdays != 0 || r.counted()
	switch {
	case r.yearDays != nil:
	case r.freq == weekly && !days, r.freq == yearly && r.weeks != nil && !days:
		r.weekdays = 1 << r.start.weekday
	case r.freq == monthly && !days:
		r.monthDays[0] = 1 << r.start.of
	case r.freq == yearly:
		if r.months == 0 && r.weeks == nil && (r.monthDays != [2]uint32{} || !days) {
			r.months = 1 << r.start.month
		}
		if !days {
			r.monthDays[0] = 1 << r.start.of
		}
	}
	return nil
}

// floorDiv divides and rounds down.
func floorDiv(a, b int) int {
	q := a / b
	if a%b != 0 && (a < 0) != (b < 0) {
		q--
	}
	return q
}
