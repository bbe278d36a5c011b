package schedule_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/presence-go/presence"
	"github.com/presence-go/presence/internal/seeds"
	"github.com/presence-go/presence/schedule"
)

// Dates of each year, ranges of dates and nights, written and read again.
func TestDatesInText(t *testing.T) {
	for text, want := range map[string]string{
		"mon-fri 09:00-17:00; 12-25 closed":                            "",
		"mon-fri 09:00-17:00; 12-24,12-25 closed":                      "mon-fri 09:00-17:00; 12-24 closed; 12-25 closed",
		"mon 09:00-17:00; 2026-12-24..2027-01-01 closed":               "",
		"mon 09:00-17:00; 12-24..01-06 10:00-12:00":                    "",
		"mon 09:00-17:00; 2026-12-24..2026-12-24 closed":               "",
		"mon 09:00-17:00; 02-29 closed":                                "",
		"mon-fri 22:00-06:00":                                          "",
		"mon-fri 22:00-06:00; 12-31 22:00-02:00":                       "",
		"12-24 , 2026-12-31..2027-01-01,mon   9:00-12:00":              "mon 09:00-12:00; 12-24 09:00-12:00; 2026-12-31..2027-01-01 09:00-12:00",
		"0001-01-01..9999-12-31 closed":                                "",
		"12-25 closed; 2026-12-25 09:00-12:00":                         "",
		"sun-thu 22:00-06:00; fri,sat 23:00-07:00; zone Europe/Berlin": "",
	} {
		p := parse(t, text)
		if want == "" {
			want = text
		}
		again := parse(t, p.String())
		require.Equal(t, p, again, text)
		require.Equal(t, parse(t, want), p, text)
		data, err := json.Marshal(p)
		require.NoError(t, err)
		var back schedule.Plan
		require.NoError(t, json.Unmarshal(data, &back))
		require.Equal(t, p, back, text)
		require.NoError(t, p.Validate(), text)
	}
	require.Equal(t, "mon 09:00-12:00; 12-24 closed; 12-28..01-03 closed; 2026-12-31..2027-01-01 09:00-12:00",
		parse(t, "mon 9:00-12:00; 12-24,12-28..01-03 closed; 2026-12-31..2027-01-01 9:00-12:00").String())
	data, err := json.Marshal(parse(t, "12-25,2026-12-24..2027-01-01 closed"))
	require.NoError(t, err)
	require.Equal(t, `{"week":{},"exceptions":[{"date":"12-25"},{"date":"2026-12-24","to":"2027-01-01"}]}`, string(data))
}

func TestFaultsOfDates(t *testing.T) {
	for text, want := range map[string]string{
		"12-32 closed":                   `"12-32": want a day of the week such as mon, a range such as mon-fri, or a date such as 2026-12-25, 12-25 or 2026-12-24..2027-01-01`,
		"02-30 closed":                   `"02-30": want`,
		"13-01 closed":                   `"13-01": want`,
		"1-05 closed":                    `"1-05": want`,
		"2027-02-29 closed":              `"2027-02-29": want`,
		"2026-12-24..mon closed":         `"mon": want a date such as 2026-12-25, or 12-25 of each year`,
		"mon..2026-12-24 closed":         `"mon": want a date such as`,
		"2026-12-24.. closed":            `"": want a date such as`,
		"..2026-12-24 closed":            `"": want a date such as`,
		"2026-12-24...2026-12-26 closed": `".2026-12-26": want a date such as`,
		"2026-12-24..12-31 closed":       "2026-12-24..12-31: want a year in both dates, or in none",
		"12-24..2026-12-31 closed":       "12-24..2026-12-31: want a year in both dates, or in none",
		"2026-12-24..2026-12-23 closed":  "2026-12-24..2026-12-23 ends before it begins",
		"2026-12-24..2027-02-29 closed":  `"2027-02-29": want a date such as`,
		"12-25 9-17":                     `"9-17": want hours`,
	} {
		_, err := schedule.Parse(text)
		require.ErrorIs(t, err, presence.ErrInvalid, text)
		require.ErrorContains(t, err, want, text)
	}
	day := func(y, m, d int) schedule.Date { return schedule.Date{Year: y, Month: time.Month(m), Day: d} }
	for want, e := range map[string]schedule.Exception{
		"exception 1: 02-30 is no date":                                {Date: day(0, 2, 30)},
		"exception 1: 2026-02-30 is no date":                           {Date: day(2026, 1, 1), To: day(2026, 2, 30)},
		"exception 1: 13-01 is no date":                                {Date: day(0, 13, 1)},
		"exception 1: 10000-01-01 is no date":                          {Date: day(2026, 1, 1), To: day(10000, 1, 1)},
		"exception 1: 2026-01-02..2026-01-01 ends before it begins":    {Date: day(2026, 1, 2), To: day(2026, 1, 1)},
		"exception 1: 2026-01-02..01-01: want a year in both dates":    {Date: day(2026, 1, 2), To: day(0, 1, 1)},
		"exception 1: 0000-00-00 is no date":                           {},
		"12-24..12-26: 00:05-00:05: opens and closes at the same time": {Date: day(0, 12, 24), To: day(0, 12, 26), Hours: schedule.Day{{From: 5, To: 5}}},
	} {
		require.ErrorContains(t, schedule.Plan{Exceptions: []schedule.Exception{e}}.Validate(), want)
	}
	for _, text := range []string{`"12-25"`, `"2026-12-25"`} {
		var d schedule.Date
		require.NoError(t, json.Unmarshal([]byte(text), &d))
		require.Equal(t, strings.Trim(text, `"`), d.String())
	}
}

// When it is open around dates of each year, ranges and nights, also in leap years and
// where clocks are set within a night.
func TestOpenAroundDates(t *testing.T) {
	for _, tt := range []struct {
		name, plan, from, to string
		want                 []string
	}{
		{"closed on Christmas of each year", "mon-sun 09:00-10:00; 12-25 closed", "2026-12-24 00:00", "2026-12-27 00:00", []string{
			"Thu 24 09:00 +0000 to Thu 24 10:00 +0000", "Sat 26 09:00 +0000 to Sat 26 10:00 +0000"}},
		{"also thirty years later", "mon-sun 09:00-10:00; 12-25 closed", "2056-12-24 00:00", "2056-12-27 00:00", []string{
			"Sun 24 09:00 +0000 to Sun 24 10:00 +0000", "Tue 26 09:00 +0000 to Tue 26 10:00 +0000"}},
		{"closed over the end of a year", "mon-sun 09:00-10:00; 2026-12-24..2027-01-01 closed", "2026-12-23 00:00", "2027-01-03 00:00", []string{
			"Wed 23 09:00 +0000 to Wed 23 10:00 +0000", "Sat 02 09:00 +0000 to Sat 02 10:00 +0000"}},
		{"but not in the next year", "mon-sun 09:00-10:00; 2026-12-24..2027-01-01 closed", "2027-12-31 00:00", "2028-01-01 00:00", []string{
			"Fri 31 09:00 +0000 to Fri 31 10:00 +0000"}},
		{"closed over the end of each year", "mon-sun 09:00-10:00; 12-24..01-01 closed", "2030-12-23 00:00", "2031-01-03 00:00", []string{
			"Mon 23 09:00 +0000 to Mon 23 10:00 +0000", "Thu 02 09:00 +0000 to Thu 02 10:00 +0000"}},
		{"29 February of a leap year", "02-29 09:00-10:00", "2028-02-28 00:00", "2028-03-02 00:00", []string{"Tue 29 09:00 +0000 to Tue 29 10:00 +0000"}},
		{"no 29 February in another", "mon-sun 09:00-10:00; 02-29 closed", "2027-02-28 00:00", "2027-03-02 00:00", []string{
			"Sun 28 09:00 +0000 to Sun 28 10:00 +0000", "Mon 01 09:00 +0000 to Mon 01 10:00 +0000"}},
		{"around 29 February", "mon-sun 09:00-10:00; 02-28..03-01 closed", "2027-02-27 00:00", "2027-03-03 00:00", []string{
			"Sat 27 09:00 +0000 to Sat 27 10:00 +0000", "Tue 02 09:00 +0000 to Tue 02 10:00 +0000"}},
		{"the last rule counts", "12-25 closed; 2026-12-25 09:00-10:00", "2026-12-25 00:00", "2028-01-01 00:00", []string{"Fri 25 09:00 +0000 to Fri 25 10:00 +0000"}},
		{"the last rule counts, turned round", "2026-12-25 09:00-10:00; 12-25 closed", "2026-12-25 00:00", "2028-01-01 00:00", nil},
		{"a day within a range", "2026-12-24..2026-12-26 closed; 2026-12-25 09:00-10:00", "2026-12-24 00:00", "2026-12-27 00:00", []string{
			"Fri 25 09:00 +0000 to Fri 25 10:00 +0000"}},
		{"nights of the week", "mon-fri 22:00-06:00", "2026-01-09 12:00", "2026-01-13 12:00", []string{
			"Fri 09 22:00 +0000 to Sat 10 06:00 +0000", "Mon 12 22:00 +0000 to Tue 13 06:00 +0000"}},
		{"a night into a closed day", "mon-sun 22:00-06:00; 12-25 closed", "2026-12-24 12:00", "2026-12-27 00:00", []string{
			"Thu 24 22:00 +0000 to Fri 25 00:00 +0000", "Sat 26 22:00 +0000 to Sun 27 00:00 +0000"}},
		{"a night in which clocks are set forward", "mon-sun 22:00-06:00; zone Europe/Berlin", "2027-03-27T12:00:00+01:00", "2027-03-28T12:00:00+02:00", []string{
			"Sat 27 22:00 +0100 to Sun 28 06:00 +0200"}},
		{"a night in which clocks are set back", "mon-sun 22:00-06:00; zone Europe/Berlin", "2026-10-24T12:00:00+02:00", "2026-10-25T12:00:00+01:00", []string{
			"Sat 24 22:00 +0200 to Sun 25 06:00 +0100"}},
		{"a night that ends in a missing hour", "sat 22:00-02:30; zone Europe/Berlin", "2027-03-27T12:00:00+01:00", "2027-03-28T12:00:00+02:00", []string{
			"Sat 27 22:00 +0100 to Sun 28 03:00 +0200"}},
		{"a night that ends in a repeated hour", "sat 22:00-02:30; zone Europe/Berlin", "2026-10-24T12:00:00+02:00", "2026-10-25T12:00:00+01:00", []string{
			"Sat 24 22:00 +0200 to Sun 25 02:30 +0100"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			require.Equal(t, tt.want, intervals(hours(t, tt.plan), at(t, tt.from), at(t, tt.to)))
		})
	}
	s := hours(t, "mon-sun 00:00-24:00; 12-25 closed")
	next, ok := s.NextChange(at(t, "2026-12-26 10:00"))
	require.True(t, ok)
	require.Equal(t, at(t, "2027-12-25 00:00"), next)
	_, why := hours(t, "mon-sun 09:00-17:00; 12-24..01-06 closed").Open(at(t, "2027-01-02 10:00"))
	require.Equal(t, "closed: sat 2027-01-02 is closed (exception)", why.String())
}

// A schedule finds the exception of a date as looking through them does, over random
// dates and ranges, of one year or of each.
func TestEveryDateHasItsException(t *testing.T) {
	t.Parallel()
	for seed := range seeds.Range(t, 150) {
		r := rand.New(rand.NewPCG(seed, 29))
		around := time.Date(2023+r.IntN(3), time.Month(1+r.IntN(12)), 1+r.IntN(28), 0, 0, 0, 0, time.UTC)
		if r.IntN(3) == 0 {
			around = time.Date(2024, 2, 29, 0, 0, 0, 0, time.UTC)
		}
		var p schedule.Plan
		for i := range r.IntN(12) {
			e := randomDates(r, around.AddDate(0, 0, r.IntN(40)-20))
			e.Hours = schedule.Day{{From: schedule.TimeOfDay(i), To: schedule.TimeOfDay(i + 1)}}
			p.Exceptions = append(p.Exceptions, e)
		}
		s, err := schedule.New(p, nil)
		require.NoError(t, err)
		require.Equal(t, p, parse(t, p.String()), "seed %d", seed)
		for day := -400; day < 800; day++ {
			now := around.AddDate(0, 0, day)
			date := schedule.DateIn(nil, now)
			var want schedule.Day
			for _, e := range p.Exceptions {
				if within(e.Date, e.To, date) {
					want = e.Hours
				}
			}
			_, why := s.Open(now)
			require.Equal(t, want, why.Hours, "seed %d: %s by %s", seed, date, p)
			require.Equal(t, want != nil, why.Exception)
			on, exception := p.On(date)
			require.Equal(t, [2]any{want, want != nil}, [2]any{on, exception})
		}
	}
}

// The largest plan is made in a moment, and asked in one.
func TestManyRanges(t *testing.T) {
	var p schedule.Plan
	first := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	date := func(days int) schedule.Date { return schedule.DateIn(nil, first.AddDate(0, 0, days)) }
	for i := range schedule.MaxExceptions {
		p.Exceptions = append(p.Exceptions, schedule.Exception{Date: date(i % 700), To: date(i%700 + 1 + i/7), Name: fmt.Sprint(i)})
	}
	s, err := schedule.New(p, nil)
	require.NoError(t, err)
	for day := 0; day < 2200; day += 31 {
		_, why := s.Open(first.AddDate(0, 0, day))
		last := -1
		for i, e := range slices.Backward(p.Exceptions) {
			if within(e.Date, e.To, date(day)) {
				last = i
				break
			}
		}
		if last < 0 {
			require.Empty(t, why.Name)
			continue
		}
		require.Equal(t, fmt.Sprint(last), why.Name, date(day))
	}
	_, ok := s.NextChange(first)
	require.False(t, ok)
}
