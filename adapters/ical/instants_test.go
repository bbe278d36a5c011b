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

// places have days on which clocks are set: by an hour, by half an hour, at
// midnight, by a whole day.
var places = []struct{ zone, day string }{
	{"Europe/Berlin", "2026-03-29"}, {"Europe/Berlin", "2026-10-25"}, {"America/New_York", "2026-11-01"},
	{"Australia/Lord_Howe", "2026-04-05"}, {"Australia/Lord_Howe", "2026-10-04"}, {"America/Havana", "2026-03-08"},
	{"America/Santiago", "2026-04-04"}, {"Asia/Kolkata", "2026-05-05"}, {"Pacific/Apia", "2011-12-30"}, {"UTC", "2026-02-28"},
}

func randomPlan(r *rand.Rand, zone string) string {
	rules := []string{"mon-sun 00:00-24:00", "mon-sun 09:00-12:00,13:00-17:00", "mon-sun 22:00-06:00", "mon-fri 00:30-03:15,20:00-02:30; sat,sun 01:15-01:00",
		"mon,wed,fri 23:00-22:00; tue,thu 05:00-24:00"}
	return rules[r.IntN(len(rules))] + "; zone " + zone
}

// Exceptions close what events close, to the second, and never open more. They
// close nothing else, but on days on which clocks are set and for seconds.
func TestCalendarInstants(t *testing.T) {
	looked := 0
	for seed := range seeds.Range(t, 60) {
		r := rand.New(rand.NewPCG(seed, 26))
		place := places[r.IntN(len(places))]
		zone, err := time.LoadLocation(place.zone)
		require.NoError(t, err)
		middle, err := time.ParseInLocation(time.DateOnly, place.day, zone)
		require.NoError(t, err)
		from, to := middle.AddDate(0, 0, -2), middle.AddDate(0, 0, 2)
		var events []string
		var shut [][2]time.Time
		whole := make(map[schedule.Date]bool)
		for range 1 + r.IntN(4) {
			if r.IntN(4) == 0 {
				day, n := from.AddDate(0, 0, r.IntN(6)-1), 1+r.IntN(2)
				events = append(events, fmt.Sprintf("DTSTART;VALUE=DATE:%s|DURATION:P%dD", day.Format("20060102"), n))
				for i := range n {
					d := day.AddDate(0, 0, i)
					whole[schedule.DateIn(zone, d)] = true
				}
				continue
			}
			start := from.Add(time.Duration(r.IntN(5*24*60)) * time.Minute)
			length := time.Duration(1+r.IntN(600)) * time.Minute
			if r.IntN(3) == 0 {
				start, length = start.Add(time.Duration(r.IntN(60))*time.Second), length+time.Duration(r.IntN(60))*time.Second
			}
			shut = append(shut, [2]time.Time{start, start.Add(length)})
			events = append(events, "DTSTART:"+start.UTC().Format("20060102T150405Z")+"|DTEND:"+start.Add(length).UTC().Format("20060102T150405Z"))
		}
		p := plan(t, randomPlan(r, place.zone))
		first, last := schedule.DateIn(zone, from), schedule.DateIn(zone, to)
		list, skipped, err := ical.Exceptions(t.Context(), strings.NewReader(calendar(events...)), p, first, last, nil)
		require.NoError(t, err)
		require.Empty(t, skipped)
		base, err := schedule.New(p, nil)
		require.NoError(t, err)
		p.Exceptions = append(p.Exceptions, list...)
		hours, err := schedule.New(p, nil)
		require.NoError(t, err)
		number := func(d schedule.Date) int { return d.Year*10_000 + int(d.Month)*100 + d.Day }
		closed := func(at time.Time) bool {
			d := schedule.DateIn(zone, at)
			return number(first) <= number(d) && number(d) <= number(last) && (whole[d] || slices.ContainsFunc(shut, func(s [2]time.Time) bool { return !at.Before(s[0]) && at.Before(s[1]) }))
		}
		set := func(at time.Time) bool {
			_, a := at.AddDate(0, 0, -2).Zone()
			_, b := at.AddDate(0, 0, 2).Zone()
			return a != b
		}
		begin, end := from.AddDate(0, 0, -2), to.AddDate(0, 0, 3)
		openBefore, openNow := minutes(base, begin, end), minutes(hours, begin, end)
		for i, at := 0, begin; at.Before(end); i, at = i+1, at.Add(time.Minute) {
			before, open := openBefore[i], openNow[i]
			if !before && !open {
				continue
			}
			looked++
			fail := func(what string) {
				require.Fail(t, what, "%s, %s\n%s\n%v", at, p.Week, strings.Join(events, "\n"), list)
			}
			switch {
			case open && !before:
				fail("it opens more")
			case open && (closed(at) || closed(at.Add(59*time.Second))):
				fail("it is not closed")
			case before && !open && !set(at) && !closed(at) && !closed(at.Add(59*time.Second)) && !wholly(base, zone, at, closed):
				fail("it is closed")
			}
		}
	}
	seeds.Count(t, "minutes", looked)
}

// minutes reports for each minute between two instants whether it is open.
func minutes(s *schedule.Schedule, from, to time.Time) []bool {
	list := make([]bool, int(to.Sub(from)/time.Minute))
	for i := range s.Intervals(from, to) {
		for at := i.From; at.Before(i.To); at = at.Add(time.Minute) {
			list[int(at.Sub(from)/time.Minute)] = true
		}
	}
	return list
}

// wholly reports whether the date whose hours are open at an instant is closed from its first minute to its last: it
// begins no hours then, also none that go on after midnight.
func wholly(s *schedule.Schedule, zone *time.Location, at time.Time, closed func(time.Time) bool) bool {
	_, why := s.Open(at)
	d := why.Date
	at = time.Date(d.Year, d.Month, d.Day, 0, 0, 0, 0, zone)
	for ; schedule.DateIn(zone, at) == d; at = at.Add(time.Minute) {
		if !closed(at) {
			return false
		}
	}
	return true
}

// A zone that a calendar defines is the one that it defines, at each instant of
// the years asked for.
func TestCalendarOwnZones(t *testing.T) {
	for _, tt := range []struct{ name, rules string }{
		{"Europe/Berlin", "STANDARD 19961027T030000 +0200 +0100 RRULE:FREQ=YEARLY;BYMONTH=10;BYDAY=-1SU|DAYLIGHT 19810329T020000 +0100 +0200 RRULE:FREQ=YEARLY;BYMONTH=3;BYDAY=-1SU"},
		{"America/New_York", "DAYLIGHT 19870405T020000 -0500 -0400 RRULE:FREQ=YEARLY;BYMONTH=4;BYDAY=1SU;UNTIL=20060402T070000Z|STANDARD 19671029T020000 -0400 -0500 RRULE:FREQ=YEARLY;BYMONTH=10;BYDAY=-1SU;UNTIL=20061029T060000Z|" +
			"DAYLIGHT 20070311T020000 -0500 -0400 RRULE:FREQ=YEARLY;BYMONTH=3;BYDAY=2SU|STANDARD 20071104T020000 -0400 -0500 RRULE:FREQ=YEARLY;BYMONTH=11;BYDAY=1SU"},
		{"Australia/Lord_Howe", "STANDARD 20080406T020000 +1100 +1030 RRULE:FREQ=YEARLY;BYMONTH=4;BYDAY=1SU|DAYLIGHT 20081005T020000 +1030 +1100 RRULE:FREQ=YEARLY;BYMONTH=10;BYDAY=1SU"},
		{"America/Santiago", "STANDARD 20230402T000000 -0300 -0400 RRULE:FREQ=YEARLY;BYMONTH=4;BYDAY=SU;BYMONTHDAY=2,3,4,5,6,7,8|DAYLIGHT 20230903T000000 -0400 -0300 RRULE:FREQ=YEARLY;BYMONTH=9;BYDAY=SU;BYMONTHDAY=2,3,4,5,6,7,8"},
		{"Europe/Istanbul", "DAYLIGHT 20070325T030000 +0200 +0300 RRULE:FREQ=YEARLY;BYMONTH=3;BYDAY=-1SU;COUNT=4|STANDARD 20071028T040000 +0300 +0200 RRULE:FREQ=YEARLY;BYMONTH=10;BYDAY=-1SU;COUNT=8|" +
			"DAYLIGHT 20110328T030000 +0200 +0300 X:|DAYLIGHT 20120325T030000 +0200 +0300 RRULE:FREQ=YEARLY;BYMONTH=3;BYDAY=-1SU;COUNT=2|DAYLIGHT 20140331T030000 +0200 +0300 X:|DAYLIGHT 20150329T030000 +0200 +0300 X:|" +
			"STANDARD 20151108T040000 +0300 +0200 X:|DAYLIGHT 20160327T030000 +0200 +0300 X:"},
		{"Asia/Kathmandu", "STANDARD 19860101T000000 +0530 +0545 X:"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var head strings.Builder
			head.WriteString("BEGIN:VTIMEZONE\nTZID:My Place\n")
			for part := range strings.SplitSeq(tt.rules, "|") {
				f := strings.Fields(part)
				fmt.Fprintf(&head, "BEGIN:%s\nDTSTART:%s\nTZOFFSETFROM:%s\nTZOFFSETTO:%s\n%s\nEND:%[1]s\n", f[0], f[1], f[2], f[3], f[4])
			}
			text := func(id string) string {
				return "BEGIN:VCALENDAR\n" + head.String() + "END:VTIMEZONE\nBEGIN:VEVENT\nUID:1\nDTSTART;TZID=" + id + ":20080101T020000\nDURATION:PT1M\nRRULE:FREQ=DAILY\nEND:VEVENT\n" +
					"BEGIN:VEVENT\nUID:2\nDTSTART;TZID=" + id + ":20080101T233000\nDURATION:PT1M\nRRULE:FREQ=DAILY\nEND:VEVENT\nEND:VCALENDAR\n"
			}
			const utc = "mon-sun 00:00-24:00; zone UTC"
			for _, years := range [][2]string{{"2024-01-01", "2032-12-31"}, {"2015-01-01", "2018-12-31"}, {"2008-01-01", "2011-12-31"}} {
				if tt.name == "America/Santiago" && years[0] != "2024-01-01" || tt.name == "Australia/Lord_Howe" && years[0] == "2008-01-01" {
					continue // its rules begin later
				}
				want, none := read(t, utc, years[0], years[1], text(tt.name), nil)
				require.Empty(t, none)
				got, none := read(t, utc, years[0], years[1], text("My Place"), nil)
				require.Empty(t, none)
				require.Equal(t, want, got)
			}
		})
	}
}
