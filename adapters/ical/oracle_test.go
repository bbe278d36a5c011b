package ical_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/presence-go/presence/adapters/ical"
	"github.com/presence-go/presence/internal/seeds"
	"github.com/presence-go/presence/schedule"
)

// The oracle reads a rule as the table of RFC 5545, 3.3.10 does. It lists the
// days of one period after the other, keeps those that each part names, by
// listing what the part counts in, and takes the places of BYSETPOS last. It
// knows no numbers of days and no masks.
type recurrence struct {
	freq                                      string
	interval, count                           int
	until                                     time.Time
	wkst                                      time.Weekday
	months, weeks, yearDays, monthDays, place []int
	days                                      []numbered

	lists map[string][]time.Time // that were made before
}

type numbered struct {
	n   int
	day time.Weekday
}

func (p *recurrence) text(r *rand.Rand) string {
	names := []string{"SU", "MO", "TU", "WE", "TH", "FR", "SA"}
	parts := []string{"FREQ=" + p.freq}
	add := func(name string, list []int) {
		if list != nil {
			parts = append(parts, name+"="+strings.Trim(strings.Join(strings.Fields(fmt.Sprint(list)), ","), "[]"))
		}
	}
	if p.interval > 1 || r.IntN(2) == 0 {
		add("INTERVAL", []int{p.interval})
	}
	if p.count > 0 {
		add("COUNT", []int{p.count})
	}
	if !p.until.IsZero() {
		parts = append(parts, "UNTIL="+p.until.Format("20060102"))
	}
	if p.wkst != time.Monday || r.IntN(2) == 0 {
		parts = append(parts, "WKST="+names[p.wkst])
	}
	add("BYMONTH", p.months)
	add("BYWEEKNO", p.weeks)
	add("BYYEARDAY", p.yearDays)
	add("BYMONTHDAY", p.monthDays)
	add("BYSETPOS", p.place)
	var days []string
	for _, d := range p.days {
		number := ""
		if d.n != 0 {
			number = fmt.Sprintf([]string{"%d", "%+d"}[r.IntN(2)], d.n)
		}
		days = append(days, number+names[d.day])
	}
	if days != nil {
		parts = append(parts, "BYDAY="+strings.Join(days, ","))
	}
	r.Shuffle(len(parts), func(i, j int) { parts[i], parts[j] = parts[j], parts[i] })
	text := strings.Join(parts, ";") + strings.Repeat(";", r.IntN(2))
	if r.IntN(4) == 0 {
		text = strings.ToLower(text)
	}
	return text
}

// at returns the day a number counts to in a list, from its beginning or end.
func at(list []time.Time, n int) time.Time {
	switch {
	case n > 0 && n <= len(list):
		return list[n-1]
	case n < 0 && -n <= len(list):
		return list[len(list)+n]
	}
	return time.Time{}
}

func among(list []time.Time, numbers []int, day time.Time) bool {
	return slices.ContainsFunc(numbers, func(n int) bool { return at(list, n).Equal(day) })
}

// once returns a list that is made once.
func (p *recurrence) once(name string, of time.Time, list func() []time.Time) []time.Time {
	if p.lists == nil {
		p.lists = make(map[string][]time.Time)
	}
	key := name + of.Format(time.DateOnly)
	if p.lists[key] == nil {
		p.lists[key] = list()
	}
	return p.lists[key]
}

// listed returns the days from one on to before another.
func listed(from, until time.Time) (list []time.Time) {
	for ; from.Before(until); from = from.AddDate(0, 0, 1) {
		list = append(list, from)
	}
	return list
}

func yearOf(day time.Time) time.Time {
	return time.Date(day.Year(), 1, 1, 0, 0, 0, 0, time.UTC)
}

func monthOf(day time.Time) time.Time {
	return time.Date(day.Year(), day.Month(), 1, 0, 0, 0, 0, time.UTC)
}

func (p *recurrence) weekOf(day time.Time) time.Time {
	for day.Weekday() != p.wkst {
		day = day.AddDate(0, 0, -1)
	}
	return day
}

// weeksOf returns the first days of a year's weeks: of those with at least four
// days in it.
func (p *recurrence) weeksOf(year time.Time) (list []time.Time) {
	for week := p.weekOf(year); week.Before(year.AddDate(1, 0, 0)); week = week.AddDate(0, 0, 7) {
		in := 0
		for _, day := range listed(week, week.AddDate(0, 0, 7)) {
			if day.Year() == year.Year() {
				in++
			}
		}
		if in >= 4 {
			list = append(list, week)
		}
	}
	return list
}

// names reports whether each part names a day. What the rule leaves open is as
// at its start.
func (p *recurrence) names(day, start time.Time) bool {
	year := p.once("year", yearOf(day), func() []time.Time { return listed(yearOf(day), yearOf(day).AddDate(1, 0, 0)) })
	month := p.once("month", monthOf(day), func() []time.Time { return listed(monthOf(day), monthOf(day).AddDate(0, 1, 0)) })
	months, monthDays, days := p.months, p.monthDays, p.days
	if p.yearDays == nil {
		open := monthDays == nil && days == nil
		switch {
		case p.freq == "WEEKLY" && open, p.freq == "YEARLY" && p.weeks != nil && open:
			days = []numbered{{0, start.Weekday()}}
		case p.freq == "MONTHLY" && open:
			monthDays = []int{start.Day()}
		case p.freq == "YEARLY" && p.weeks == nil:
			if months == nil && (open || monthDays != nil) {
				months = []int{int(start.Month())}
			}
			if open {
				monthDays = []int{start.Day()}
			}
		}
	}
	if months != nil && !slices.Contains(months, int(day.Month())) {
		return false
	}
	if p.weeks != nil && !slices.ContainsFunc([]time.Time{yearOf(day).AddDate(-1, 0, 0), yearOf(day), yearOf(day).AddDate(1, 0, 0)}, func(year time.Time) bool {
		return among(p.once("weeks", year, func() []time.Time { return p.weeksOf(year) }), p.weeks, p.weekOf(day))
	}) {
		return false
	}
	if p.yearDays != nil && !among(year, p.yearDays, day) || monthDays != nil && !among(month, monthDays, day) {
		return false
	}
	if days == nil {
		return true
	}
	in, name, of := year, "year", yearOf(day)
	if p.freq == "MONTHLY" || p.months != nil {
		in, name, of = month, "month", monthOf(day)
	}
	in = p.once(name+day.Weekday().String(), of, func() []time.Time {
		return slices.DeleteFunc(slices.Clone(in), func(d time.Time) bool { return d.Weekday() != day.Weekday() })
	})
	return slices.ContainsFunc(days, func(d numbered) bool {
		return d.day == day.Weekday() && (d.n == 0 || at(in, d.n).Equal(day))
	})
}

// dates returns the days of the rule after its start, up to the last.
func (p *recurrence) dates(start, last time.Time, count int) (list []time.Time) {
	begin, years, months, days := start, 0, 0, 0
	switch p.freq {
	case "DAILY":
		days = p.interval
	case "WEEKLY":
		begin, days = p.weekOf(start), 7*p.interval
	case "MONTHLY":
		begin, months = monthOf(start), p.interval
	case "YEARLY":
		begin, years = yearOf(start), p.interval
	}
	next := func(t time.Time, n int) time.Time { return t.AddDate(n*years, n*months, n*days) }
	for ; !begin.After(last); begin = next(begin, 1) {
		until := map[string]time.Time{"DAILY": begin.AddDate(0, 0, 1), "WEEKLY": begin.AddDate(0, 0, 7), "MONTHLY": begin.AddDate(0, 1, 0), "YEARLY": begin.AddDate(1, 0, 0)}[p.freq]
		set := slices.DeleteFunc(listed(begin, until), func(day time.Time) bool { return !p.names(day, start) })
		for i, day := range set {
			if p.place != nil && !slices.Contains(p.place, i+1) && !slices.Contains(p.place, i-len(set)) {
				continue
			}
			if day.Before(start) || day.After(last) || !p.until.IsZero() && day.After(p.until) {
				continue
			}
			if count > 0 && len(list) == count {
				return list
			}
			list = append(list, day)
		}
	}
	return list
}

func some(r *rand.Rand, n, largest int, signed bool) (list []int) {
	for range 1 + r.IntN(n) {
		k := 1 + r.IntN(largest)
		if signed && r.IntN(3) == 0 {
			k = -k
		}
		list = append(list, k)
	}
	return list
}

func randomRule(r *rand.Rand, start time.Time) *recurrence {
	p := &recurrence{freq: []string{"DAILY", "WEEKLY", "MONTHLY", "YEARLY"}[r.IntN(4)], interval: 1, wkst: time.Monday}
	if r.IntN(2) == 0 {
		p.interval = 1 + r.IntN(5)
	}
	if r.IntN(2) == 0 {
		p.wkst = time.Weekday(r.IntN(7))
	}
	switch r.IntN(3) {
	case 0:
		p.count = 1 + r.IntN(30)
	case 1:
		p.until = start.AddDate(0, 0, r.IntN(2000)-20)
	}
	if r.IntN(3) == 0 {
		p.months = some(r, 4, 12, false)
	}
	if r.IntN(3) == 0 && p.freq != "WEEKLY" {
		p.monthDays = some(r, 5, 31, true)
	}
	if p.freq == "YEARLY" && r.IntN(3) == 0 {
		p.weeks = some(r, 5, 53, true)
	}
	if p.freq == "YEARLY" && r.IntN(4) == 0 {
		p.yearDays = some(r, 20, 366, true)
	}
	if r.IntN(2) == 0 {
		for range 1 + r.IntN(4) {
			d := numbered{day: time.Weekday(r.IntN(7))}
			if r.IntN(2) == 0 && p.weeks == nil {
				switch p.freq {
				case "MONTHLY":
					d.n = some(r, 1, 5, true)[0]
				case "YEARLY":
					d.n = some(r, 1, []int{5, 53}[r.IntN(2)], true)[0]
				}
			}
			p.days = append(p.days, d)
		}
	}
	if r.IntN(3) == 0 {
		p.place = some(r, 3, []int{4, 30}[r.IntN(2)], true)
	}
	return p
}

// Rules, extra dates and excepted ones are those of the oracle, for whatever
// days are asked for.
func TestCalendarRules(t *testing.T) {
	everyDay := plan(t, "mon-sun 00:00-24:00")
	closed := 0
	for seed := range seeds.Range(t, 600) {
		r := rand.New(rand.NewPCG(seed, 25))
		start := time.Date(2010+r.IntN(16), 1, 1+r.IntN(366), 0, 0, 0, 0, time.UTC)
		from := start.AddDate(0, 0, r.IntN(4000)-1000)
		if r.IntN(2) == 0 {
			from = start
		}
		to := from.AddDate(0, 0, r.IntN(1500))
		day := func(d time.Time) string { return d.Format("20060102") }
		lines := []string{"DTSTART;VALUE=DATE:" + day(start)}
		in := map[string]bool{day(start): true}
		for range 1 + r.IntN(2) {
			p := randomRule(r, start)
			list := p.dates(start, to, 0)
			// The start is the first time, whether or not the rule names it.
			list = slices.DeleteFunc(list, start.Equal)
			if p.count > 0 {
				list = list[:min(len(list), p.count-1)]
			}
			for _, d := range list {
				in[day(d)] = true
			}
			lines = append(lines, "RRULE:"+p.text(r))
		}
		for range r.IntN(4) {
			d := day(from.AddDate(0, 0, r.IntN(100)))
			in[d] = true
			lines = append(lines, "RDATE;VALUE=DATE:"+d)
		}
		for range r.IntN(4) {
			d := day(from.AddDate(0, 0, r.IntN(100)))
			in[d] = false
			lines = append(lines, "EXDATE;VALUE=DATE:"+d)
		}
		if r.IntN(3) == 0 {
			p := randomRule(r, start)
			for _, d := range p.dates(start, to, p.count) {
				in[day(d)] = false
			}
			lines = append(lines, "EXRULE:"+p.text(r))
		}
		var want, got []string
		for _, d := range listed(from, to.AddDate(0, 0, 1)) {
			if in[day(d)] {
				want = append(want, d.Format(time.DateOnly))
			}
		}
		text := calendar(strings.Join(lines, "|"))
		list, skipped, err := ical.Exceptions(t.Context(), strings.NewReader(text), everyDay, schedule.DateIn(nil, from), schedule.DateIn(nil, to), nil)
		require.NoError(t, err)
		require.Empty(t, skipped, text)
		for _, e := range list {
			got = append(got, e.Date.String())
		}
		require.Equal(t, want, got, "from %s to %s\n%s", from.Format(time.DateOnly), to.Format(time.DateOnly), text)
		closed += len(got)
	}
	seeds.Count(t, "days closed", closed)
}
