package schedule_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/presence-go/presence"
	"github.com/presence-go/presence/schedule"
)

// A name has at most MaxName bytes, and a year four digits from 1.
func TestPlansHaveLimits(t *testing.T) {
	at := func(e schedule.Exception) error { return schedule.Plan{Exceptions: []schedule.Exception{e}}.Validate() }
	day := schedule.Date{Year: 2026, Month: 12, Day: 25}
	require.NoError(t, at(schedule.Exception{Date: day, Name: strings.Repeat("x", schedule.MaxName)}))
	require.Error(t, at(schedule.Exception{Date: day, Name: strings.Repeat("x", schedule.MaxName+1)}))
	for year, ok := range map[int]bool{1: true, 9999: true, 10000: false, -1: false} {
		day.Year = year
		require.Equal(t, ok, at(schedule.Exception{Date: day}) == nil, "%d", year)
	}
}

// A week that is read into a used one keeps nothing of it.
func TestWeeksAreReadWhole(t *testing.T) {
	plan, err := schedule.Parse("mon-fri 9:00-17:00")
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal([]byte(`{"tue":["10:00-11:00"]}`), &plan.Week))
	want, err := schedule.Parse("tue 10:00-11:00")
	require.NoError(t, err)
	require.Equal(t, want.Week, plan.Week)
	require.Error(t, json.Unmarshal([]byte(`{"someday":[]}`), &plan.Week))
}

// Days before 1970 have their weekday, and the end of a day is never before it.
func TestDaysBefore1970(t *testing.T) {
	plan, err := schedule.Parse("wed 9:00-17:00")
	require.NoError(t, err)
	s, err := schedule.New(plan, &schedule.Options{Location: time.UTC})
	require.NoError(t, err)
	wednesday := time.Date(1969, 12, 31, 12, 0, 0, 0, time.UTC)
	open, _ := s.Open(wednesday)
	require.True(t, open)
	open, _ = s.Open(wednesday.AddDate(0, 0, 1))
	require.False(t, open)
	open, _ = s.Open(wednesday.AddDate(0, 0, -7*1000))
	require.True(t, open)
	require.Equal(t, schedule.Date{Year: 1969, Month: 12, Day: 31}, schedule.DateIn(time.UTC, wednesday))
	require.Equal(t, time.Date(1970, 1, 1, 0, 0, 0, 0, time.UTC), schedule.EndOfDay(time.UTC, wednesday).UTC())
}

// A limit holds at its last value. What is one further has a fault with the limit.
func TestLimitsOfTexts(t *testing.T) {
	const want = "presence: invalid plan: "
	_, err := schedule.Parse("closed" + strings.Repeat(" ", schedule.MaxText-6))
	require.NoError(t, err)
	_, err = schedule.Parse("closed" + strings.Repeat(" ", schedule.MaxText-5))
	require.EqualError(t, err, want+"65537 bytes of text, allowed are 65536")
	fault := want + `"x": want days and their hours, as in "mon-fri 09:00-12:00,13:00-17:00", or closed`
	for n, more := range map[int]string{1: "", 20: "", 21: "\n" + want + "1 more faults", 22: "\n" + want + "2 more faults"} {
		_, err = schedule.Parse(strings.Repeat("x;", n))
		require.EqualError(t, err, strings.Repeat("\n"+fault, min(n, 20))[1:]+more)
	}

	span := schedule.Span{From: 0, To: 1}
	day := func(n int) (d schedule.Day) {
		for range n {
			d = append(d, span)
			span = schedule.Span{From: span.To, To: span.To + 1}
		}
		return d
	}
	require.NoError(t, schedule.Plan{Week: schedule.Week{time.Monday: day(schedule.MaxSpans)}}.Validate())
	require.EqualError(t, schedule.Plan{Week: schedule.Week{time.Monday: day(schedule.MaxSpans + 1)}}.Validate(), want+"mon: 25 times of being open, allowed are 24")
}

// Hours are from 00:00 to 24:00, which is only an end, and end at another time than
// they begin. The hours of a day are in order, and only the last pass midnight.
func TestHoursOfADay(t *testing.T) {
	const (
		want = "presence: invalid plan: mon: "
		out  = ": want times from 00:00 to 24:00, and 24:00 only as an end"
	)
	for _, tt := range []struct {
		spans  []int // beginnings and ends in minutes
		faults []string
	}{
		{[]int{0, 1440}, nil},
		{[]int{0, 1}, nil},
		{[]int{1439, 1440}, nil},
		{[]int{1439, 1}, nil},
		{[]int{540, 720, 720, 780}, nil},
		{[]int{540, 720, 1320, 360}, nil},
		{[]int{-1, 60}, []string{"-1 minutes-01:00" + out}},
		{[]int{1440, 60}, []string{"24:00-01:00" + out}},
		{[]int{60, 0}, []string{"01:00-00:00" + out}},
		{[]int{60, -1}, []string{"01:00--1 minutes" + out}},
		{[]int{60, 1441}, []string{"01:00-24:01" + out}},
		{[]int{60, 60}, []string{"01:00-01:00: opens and closes at the same time; all day is 00:00-24:00"}},
		{[]int{540, 720, 719, 780}, []string{"11:59-13:00 begins before 09:00-12:00 has ended; want them in order, without overlaps"}},
		{[]int{1320, 360, 1380, 1440}, []string{"23:00-24:00 begins before 22:00-06:00 has ended; want them in order, without overlaps"}},
		{[]int{60, 60, 120, 180}, []string{
			"01:00-01:00: opens and closes at the same time; all day is 00:00-24:00",
			"02:00-03:00 begins before 01:00-01:00 has ended; want them in order, without overlaps",
		}},
	} {
		var day schedule.Day
		for i := 0; i < len(tt.spans); i += 2 {
			day = append(day, schedule.Span{From: schedule.TimeOfDay(tt.spans[i]), To: schedule.TimeOfDay(tt.spans[i+1])})
		}
		err := schedule.Plan{Week: schedule.Week{time.Monday: day}}.Validate()
		if tt.faults == nil {
			require.NoError(t, err, day.String())
			continue
		}
		require.EqualError(t, err, want+strings.Join(tt.faults, "\n"+want))
	}
}

// Days, times of day and their separators are read in each form that a text may have.
func TestFormsOfRules(t *testing.T) {
	for text, want := range map[string]string{
		"mon 0:00-0:01":   "mon 00:00-00:01",
		"mon 23:59-24:00": "mon 23:59-24:00",
		"mon 23:59-00:00": "mon 23:59-24:00",
		"mon 9:59-10:00":  "mon 09:59-10:00",
		" mon\t,tue , wed\t9:00-10:00 , 11:00-12:00,13:00-14:00\t": "mon-wed 09:00-10:00,11:00-12:00,13:00-14:00",
		"sat-mon 9:00-10:00":         "mon,sat,sun 09:00-10:00",
		"sun-sun 9:00-10:00":         "sun 09:00-10:00",
		"tue-mon 9:00-10:00":         "mon-sun 09:00-10:00",
		"mon-tue,thu-sun 9:00-10:00": "mon,tue,thu-sun 09:00-10:00",
	} {
		p, err := schedule.Parse(text)
		require.NoError(t, err, text)
		require.Equal(t, want, p.String(), text)
	}
	const hours = "want hours such as 09:00-12:00"
	for text, fault := range map[string]string{
		"moon-fri 9:00-10:00":  `"moon-fri": want a day of the week`,
		"fri-moon 9:00-10:00":  `"fri-moon": want a day of the week`,
		"mon 9:60-10:00":       `"9:60-10:00": ` + hours,
		"mon 25:00-10:00":      `"25:00-10:00": ` + hours,
		"mon 24:00-10:00":      `"24:00-10:00": ` + hours,
		"mon 9:00-24:01":       `"9:00-24:01": ` + hours,
		"mon :30-10:00":        `":30-10:00": ` + hours,
		"mon 9:-10:00":         `"9:-10:00": ` + hours,
		"mon 9:000-10:00":      `"9:000-10:00": ` + hours,
		"mon 9-10:00":          `"9-10:00": ` + hours,
		"mon 9:00":             `"9:00": ` + hours,
		"mon 9:00-10:00,12:00": `"12:00": ` + hours,
		"mon 9:/0-10:00":       `"9:/0-10:00": ` + hours,
		"mon 9:0:-10:00":       `"9:0:-10:00": ` + hours,
		"mon":                  `"mon": want days and their hours`,
		"mon 9:00-10:00 x":     `"mon 9:00-10:00 x": want days and their hours`,
	} {
		_, err := schedule.Parse(text)
		require.ErrorContains(t, err, "presence: invalid plan: "+fault, text)
		require.NotContains(t, err.Error(), "\n", text)
	}
}

// Of several exceptions for a date the last decides: dates and ranges, of a year or of
// each, also over the end of a year. A plan gives the same hours as its schedule.
func TestHoursOfDates(t *testing.T) {
	plan := parse(t, "mon-sun 9:00-10:00; 12-24..01-06 1:00-2:00; 2026-12-31..2027-01-02 2:00-3:00; 2027-01-01 3:00-4:00; 02-29 4:00-5:00; 07-31 5:00-6:00; 12-31 6:00-7:00")
	s, err := schedule.New(plan, nil)
	require.NoError(t, err)
	for date, want := range map[string]string{
		"2026-12-23": "09:00-10:00", "2026-12-24": "01:00-02:00", "2026-12-30": "01:00-02:00", "2026-12-31": "06:00-07:00",
		"2027-01-01": "03:00-04:00", "2027-01-02": "02:00-03:00", "2027-01-03": "01:00-02:00", "2027-01-06": "01:00-02:00", "2027-01-07": "09:00-10:00",
		"2028-02-28": "09:00-10:00", "2028-02-29": "04:00-05:00", "2027-03-01": "09:00-10:00", "2027-07-30": "09:00-10:00", "2027-07-31": "05:00-06:00",
		"2027-08-01": "09:00-10:00", "1999-12-31": "06:00-07:00", "2025-01-01": "01:00-02:00",
	} {
		var d schedule.Date
		require.NoError(t, d.UnmarshalText([]byte(date)))
		hours, exception := plan.On(d)
		require.Equal(t, want, hours.String(), date)
		require.Equal(t, want != "09:00-10:00", exception, date)
		_, why := s.Open(time.Date(d.Year, d.Month, d.Day, 12, 0, 0, 0, time.UTC))
		require.Equal(t, schedule.Why{Date: d, Hours: hours, Exception: exception}, why, date)
	}
}

// Calendars reach from 0001-01-03 to 9999-12-29. What is further counts as their ends.
func TestEndsOfCalendars(t *testing.T) {
	s := hours(t, "mon-sun 00:00-24:00")
	first, last := time.Date(1, 1, 3, 0, 0, 0, 0, time.UTC), time.Date(9999, 12, 29, 0, 0, 0, 0, time.UTC)
	for _, tt := range [][4]time.Time{
		{first.AddDate(-5, 0, 0), first.Add(1), first, first.Add(1)},
		{first.Add(1), first.Add(2), first.Add(1), first.Add(2)},
		{last.Add(-1), last.AddDate(5, 0, 0), last.Add(-1), last},
		{last.Add(-2), last.Add(-1), last.Add(-2), last.Add(-1)},
	} {
		n := 0
		for i := range s.Intervals(tt[0], tt[1]) {
			require.True(t, i.From.Equal(tt[2]), "%s", i)
			require.True(t, i.To.Equal(tt[3]), "%s", i)
			n++
		}
		require.Equal(t, 1, n)
	}
	require.Equal(t, schedule.Date{Year: 1, Month: 1, Day: 3}, schedule.DateIn(nil, first.AddDate(-5, 0, 0)))
	require.Equal(t, schedule.Date{Year: 9999, Month: 12, Day: 29}, schedule.DateIn(nil, last.AddDate(5, 0, 0)))
	require.Equal(t, last.AddDate(0, 0, 1), schedule.EndOfDay(nil, last.AddDate(5, 0, 0)).UTC())
}

// A zone without a name is less than a day from UTC.
func TestOffsetsOfZones(t *testing.T) {
	for offset, ok := range map[int]bool{0: true, 86399: true, -86399: true, 86400: false, -86400: false, 90000: false} {
		s, err := schedule.New(schedule.Plan{}, &schedule.Options{Location: time.FixedZone("far", offset)})
		require.Equal(t, ok, err == nil, "%d: %v", offset, err)
		if ok {
			now := time.Date(2026, 1, 5, 12, 0, 0, 0, time.UTC)
			require.Equal(t, schedule.EndOfDay(s.Location(), now), s.EndOfDay(now))
		}
	}
}

// Faults of a week in JSON, and intervals as text.
func TestWeeksAndIntervalsInText(t *testing.T) {
	var w schedule.Week
	require.NoError(t, json.Unmarshal([]byte(`{"mon":[]}`), &w))
	require.Equal(t, schedule.Week{}, w)
	require.EqualError(t, w.UnmarshalJSON([]byte(`{"mon":["x"]}`)), `presence: invalid plan: "x": want hours such as 09:00-12:00`)
	require.ErrorContains(t, w.UnmarshalJSON([]byte(`[]`)), "presence: invalid plan: the week is no object of days: ")
	from := time.Date(2026, 1, 5, 12, 0, 0, 0, time.UTC)
	require.Equal(t, "2026-01-05T12:00:00Z/2026-01-05T13:00:00Z", schedule.Interval{From: from, To: from.Add(time.Hour)}.String())
}

// A change on the horizon is not within it, one a second before is.
func TestChangesOnTheHorizon(t *testing.T) {
	for text, open := range map[string]bool{"2031-01-10 00:00-12:00": false, "mon-sun 00:00-24:00; 2031-01-10 closed": true} {
		s, change := hours(t, text), at(t, "2031-01-10 00:00")
		now := change.Add(-schedule.Horizon)
		_, ok := s.NextChange(now)
		require.False(t, ok, text)
		opens, ok := s.NextOpen(now)
		require.Equal(t, open, ok, text)
		if open {
			require.True(t, opens.Equal(now), text)
		}
		is, next := s.OpenAt(presence.At(now))
		require.Equal(t, open, is, text)
		require.Zero(t, next, text)
		got, ok := s.NextChange(now.Add(time.Second))
		require.True(t, ok, text)
		require.True(t, got.Equal(change), text)
		_, next = s.OpenAt(presence.At(now.Add(time.Second)))
		require.Equal(t, presence.At(change), next, text)
	}
}

// Hours that end and begin in the same gap of a clock are one open time, as are those
// that touch on it. Hours within a gap are none.
func TestHoursThatMeetAreOne(t *testing.T) {
	for text, want := range map[string][]string{
		"sun 01:00-02:15,02:30-04:00":              {"Sun 29 01:00 +0100 to Sun 29 04:00 +0200"},
		"sun 01:00-03:00,03:00-04:00":              {"Sun 29 01:00 +0100 to Sun 29 04:00 +0200"},
		"sun 02:10-02:50":                          nil,
		"sun 02:10-02:30,02:40-04:00":              {"Sun 29 03:00 +0200 to Sun 29 04:00 +0200"},
		"sat 23:00-04:00; sun 03:30-05:00":         {"Sat 28 23:00 +0100 to Sun 29 05:00 +0200"},
		"sat 23:00-06:00; sun 03:30-05:00":         {"Sat 28 23:00 +0100 to Sun 29 06:00 +0200"},
		"sat 23:00-24:00; 2026-03-29 00:00-01:00":  {"Sat 28 23:00 +0100 to Sun 29 01:00 +0100"},
		"sat 23:00-24:00; 2026-03-29 00:30-01:00":  {"Sat 28 23:00 +0100 to Sun 29 00:00 +0100", "Sun 29 00:30 +0100 to Sun 29 01:00 +0100"},
		"sat 23:00-03:00; 2026-03-29 00:30-01:00":  {"Sat 28 23:00 +0100 to Sun 29 00:00 +0100", "Sun 29 00:30 +0100 to Sun 29 01:00 +0100"},
		"sat 23:00-03:00; 2026-03-29 closed":       {"Sat 28 23:00 +0100 to Sun 29 00:00 +0100"},
		"sat 12:00-13:00,23:00-22:00; sun closed ": {"Sat 28 12:00 +0100 to Sat 28 13:00 +0100", "Sat 28 23:00 +0100 to Sun 29 22:00 +0200"},
	} {
		plan := parse(t, text)
		plan.Zone = "Europe/Berlin"
		s, err := schedule.New(plan, nil)
		require.NoError(t, err)
		require.Equal(t, want, intervals(s, at(t, "2026-03-28 10:00"), at(t, "2026-03-30 10:00")), text)
	}
}

// Of hours that overlap, those that began first are the reason. Both ends of them count
// to the second.
func TestReasonsOfOverlaps(t *testing.T) {
	s := hours(t, "fri 22:00-06:00; sat 04:00-12:00")
	for text, want := range map[string]string{
		"2026-01-09 21:59": "closed: fri 2026-01-09 has 22:00-06:00", "2026-01-09 22:00": "open: fri 2026-01-09 has 22:00-06:00", "2026-01-10 03:59": "open: fri 2026-01-09 has 22:00-06:00",
		"2026-01-10 05:59": "open: fri 2026-01-09 has 22:00-06:00", "2026-01-10 06:00": "open: sat 2026-01-10 has 04:00-12:00", "2026-01-10 12:00": "closed: sat 2026-01-10 has 04:00-12:00", "2026-01-11 12:00": "closed: sun 2026-01-11 is closed",
	} {
		_, why := s.Open(at(t, text))
		require.Equal(t, want, why.String(), text)
	}
	_, why := s.Open(at(t, "2026-01-10 05:00"))
	require.Equal(t, "22:00-06:00", why.Span.String())
}

// Intervals are cut at their ends to the nanosecond.
func TestIntervalsAreCutExactly(t *testing.T) {
	s, nine := hours(t, "mon 09:00-10:00"), at(t, "2026-01-05 09:00")
	for _, tt := range []struct {
		from, to time.Duration // of the question
		opens    time.Duration
		closes   time.Duration
		n        int
	}{
		{-time.Hour, 0, 0, 0, 0},
		{-time.Hour, 1, 0, 1, 1},
		{-time.Hour, time.Second / 2, 0, time.Second / 2, 1},
		{1, 2, 1, 2, 1},
		{2, 1, 0, 0, 0},
		{1, 1, 0, 0, 0},
		{time.Hour - 1, time.Hour, time.Hour - 1, time.Hour, 1},
		{time.Hour, 2 * time.Hour, 0, 0, 0},
		{-time.Hour, 2 * time.Hour, 0, time.Hour, 1},
		{-time.Hour, -1, 0, 0, 0},
	} {
		n := 0
		for i := range s.Intervals(nine.Add(tt.from), nine.Add(tt.to)) {
			require.Equal(t, [2]time.Duration{tt.opens, tt.closes}, [2]time.Duration{i.From.Sub(nine), i.To.Sub(nine)}, "%v", tt)
			n++
		}
		require.Equal(t, tt.n, n, "%v", tt)
	}
}

// Hours up to midnight end before a date of an exception, also where clocks show its
// first hour twice. Otherwise they last until the second midnight.
func TestMidnightsThatAreShownTwice(t *testing.T) {
	for text, want := range map[string]string{
		"sat 22:00-24:00":                     "Sat 31 22:00 -0400 to Sun 01 00:00 -0500",
		"sat 22:00-24:00; 2026-11-01 closed":  "Sat 31 22:00 -0400 to Sun 01 00:00 -0400",
		"sat 22:00-02:00; 2026-11-01 closed":  "Sat 31 22:00 -0400 to Sun 01 00:00 -0400",
		"sat 22:00-02:00":                     "Sat 31 22:00 -0400 to Sun 01 02:00 -0500",
		"sat 22:00-23:59; 2026-11-01 closed ": "Sat 31 22:00 -0400 to Sat 31 23:59 -0400",
	} {
		plan := parse(t, text)
		plan.Zone = "America/Havana"
		s, err := schedule.New(plan, nil)
		require.NoError(t, err)
		require.Equal(t, []string{want}, intervals(s, at(t, "2026-10-30 10:00"), at(t, "2026-11-02 10:00")), text)
	}
}

// Before its beginning a calendar has the next change of its beginning, after its end
// none.
func TestChangesBeyondCalendars(t *testing.T) {
	s := hours(t, "mon-sun 09:00-10:00")
	got, ok := s.NextChange(time.Date(-20, 5, 5, 9, 30, 0, 0, time.UTC))
	require.True(t, ok)
	require.Equal(t, time.Date(1, 1, 3, 9, 0, 0, 0, time.UTC), got.UTC())
	_, ok = s.NextChange(time.Date(12000, 5, 5, 9, 30, 0, 0, time.UTC))
	require.False(t, ok)
}

// The faults of a plan name what they are about.
func TestFaultsOfPlans(t *testing.T) {
	const want = "presence: invalid plan: "
	day := schedule.Exception{Date: schedule.Date{Year: 2026, Month: 1, Day: 1}}
	odd := day
	odd.Name = "a\nb"
	fault := func(p schedule.Plan) string { return p.Validate().Error() }
	require.Equal(t, want+`exception 2: name "a\nb": want at most 128 bytes of UTF-8 without control characters`, fault(schedule.Plan{Exceptions: []schedule.Exception{day, odd}}))
	require.Equal(t, want+"exception 1: 0000-00-00 is no date", fault(schedule.Plan{Exceptions: make([]schedule.Exception, 1)}))
	require.Equal(t, want+`zone "Local" is wherever this process runs; want the name of a place such as Europe/Berlin`, fault(schedule.Plan{Zone: "Local"}))
	require.Contains(t, fault(schedule.Plan{Zone: "../x"}), want+`zone "../x": `)
}
