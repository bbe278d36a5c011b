package schedule_test

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/presence-go/presence"
	"github.com/presence-go/presence/schedule"
)

func parse(t testing.TB, text string) schedule.Plan {
	t.Helper()
	p, err := schedule.Parse(text)
	require.NoError(t, err)
	return p
}

func hours(t testing.TB, text string) *schedule.Schedule {
	t.Helper()
	s, err := schedule.New(parse(t, text), nil)
	require.NoError(t, err)
	return s
}

func at(t testing.TB, text string) time.Time {
	t.Helper()
	for _, layout := range []string{"2006-01-02 15:04", time.RFC3339} {
		if instant, err := time.Parse(layout, text); err == nil {
			return instant
		}
	}
	require.Fail(t, "not a time", text)
	return time.Time{}
}

// intervals writes the open times between two instants in UTC, or in the zone
// of the schedule.
func intervals(s *schedule.Schedule, from, to time.Time) (list []string) {
	const layout = "Mon 02 15:04 -0700"
	for i := range s.Intervals(from, to) {
		list = append(list, i.From.Format(layout)+" to "+i.To.Format(layout))
	}
	return list
}

func TestIntervals(t *testing.T) {
	for _, tt := range []struct {
		name, plan, from, to string
		want                 []string
	}{
		{"several a day", "mon-fri 09:00-12:00,13:00-17:00", "2026-01-05 00:00", "2026-01-06 00:00", []string{
			"Mon 05 09:00 +0000 to Mon 05 12:00 +0000", "Mon 05 13:00 +0000 to Mon 05 17:00 +0000"}},
		{"days that are off", "mon,wed 09:00-17:00", "2026-01-05 00:00", "2026-01-12 00:00", []string{
			"Mon 05 09:00 +0000 to Mon 05 17:00 +0000", "Wed 07 09:00 +0000 to Wed 07 17:00 +0000"}},
		{"clipped", "mon-sun 09:00-17:00", "2026-01-05 10:00", "2026-01-06 09:30", []string{
			"Mon 05 10:00 +0000 to Mon 05 17:00 +0000", "Tue 06 09:00 +0000 to Tue 06 09:30 +0000"}},
		{"past midnight", "fri 22:00-06:00", "2026-01-05 00:00", "2026-01-12 00:00", []string{
			"Fri 09 22:00 +0000 to Sat 10 06:00 +0000"}},
		{"past midnight, from within", "fri 22:00-06:00", "2026-01-10 01:00", "2026-01-12 00:00", []string{
			"Sat 10 01:00 +0000 to Sat 10 06:00 +0000"}},
		{"past midnight into the next week", "sun 22:00-06:00", "2026-01-11 00:00", "2026-01-13 00:00", []string{
			"Sun 11 22:00 +0000 to Mon 12 06:00 +0000"}},
		{"24:00", "sat 20:00-24:00", "2026-01-05 00:00", "2026-01-12 00:00", []string{
			"Sat 10 20:00 +0000 to Sun 11 00:00 +0000"}},
		{"all day", "sat 00:00-24:00", "2026-01-05 00:00", "2026-01-12 00:00", []string{
			"Sat 10 00:00 +0000 to Sun 11 00:00 +0000"}},
		{"days that touch are one", "sat,sun 00:00-24:00; mon 00:00-06:00", "2026-01-05 12:00", "2026-01-14 00:00", []string{
			"Sat 10 00:00 +0000 to Mon 12 06:00 +0000"}},
		{"hours that touch are one", "mon 09:00-12:00,12:00-15:00", "2026-01-05 00:00", "2026-01-06 00:00", []string{
			"Mon 05 09:00 +0000 to Mon 05 15:00 +0000"}},
		{"a night into a day that has begun", "mon 22:00-10:00; tue 09:00-17:00", "2026-01-05 00:00", "2026-01-12 00:00", []string{
			"Mon 05 22:00 +0000 to Tue 06 17:00 +0000"}},
		{"never", "closed", "2026-01-05 00:00", "2036-01-05 00:00", nil},
		{"backwards", "mon-sun 00:00-24:00", "2026-01-06 00:00", "2026-01-05 00:00", nil},
		{"nothing", "mon-sun 00:00-24:00", "2026-01-06 00:00", "2026-01-06 00:00", nil},

		{"an exception", "mon-fri 09:00-17:00; 2026-01-06 closed; 2026-01-07 10:00-11:00,14:00-15:00; 2026-01-10 09:00-12:00",
			"2026-01-05 00:00", "2026-01-11 00:00", []string{
				"Mon 05 09:00 +0000 to Mon 05 17:00 +0000",
				"Wed 07 10:00 +0000 to Wed 07 11:00 +0000", "Wed 07 14:00 +0000 to Wed 07 15:00 +0000",
				"Thu 08 09:00 +0000 to Thu 08 17:00 +0000", "Fri 09 09:00 +0000 to Fri 09 17:00 +0000",
				"Sat 10 09:00 +0000 to Sat 10 12:00 +0000"}},
		{"the last exception of a date counts", "2026-01-06 closed; 2026-01-06 10:00-11:00", "2026-01-05 00:00", "2026-01-11 00:00", []string{
			"Tue 06 10:00 +0000 to Tue 06 11:00 +0000"}},
		{"an exception ends the night before", "mon-sun 22:00-06:00; 2026-01-07 closed", "2026-01-06 12:00", "2026-01-09 00:00", []string{
			"Tue 06 22:00 +0000 to Wed 07 00:00 +0000", "Thu 08 22:00 +0000 to Fri 09 00:00 +0000"}},
		{"an exception past midnight", "wed-thu 09:00-17:00; 2026-01-07 20:00-02:00", "2026-01-06 12:00", "2026-01-09 00:00", []string{
			"Wed 07 20:00 +0000 to Thu 08 02:00 +0000", "Thu 08 09:00 +0000 to Thu 08 17:00 +0000"}},
		{"an exception at the end of all days", "mon-sun 00:00-24:00; 2026-01-07 closed", "2026-01-06 12:00", "2026-01-09 00:00", []string{
			"Tue 06 12:00 +0000 to Wed 07 00:00 +0000", "Thu 08 00:00 +0000 to Fri 09 00:00 +0000"}},
		{"29 February", "2028-02-29 09:00-12:00", "2028-02-01 00:00", "2028-04-01 00:00", []string{
			"Tue 29 09:00 +0000 to Tue 29 12:00 +0000"}},

		{"a zone", "mon 09:00-17:00; zone America/New_York", "2026-01-05 00:00", "2026-01-06 00:00", []string{
			"Mon 05 09:00 -0500 to Mon 05 17:00 -0500"}},
		{"the days of a zone", "mon 00:00-24:00; zone Pacific/Kiritimati", "2026-01-04 00:00", "2026-01-06 00:00", []string{
			"Mon 05 00:00 +1400 to Tue 06 00:00 +1400"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			require.Equal(t, tt.want, intervals(hours(t, tt.plan), at(t, tt.from), at(t, tt.to)))
		})
	}
}

// X39: where clocks are set. The times are those of the zone.
func TestX39ClocksAreSet(t *testing.T) {
	for _, tt := range []struct {
		name, plan, from, to string
		want                 []string
	}{
		{"opening in the gap", "sun 02:30-05:00; zone Europe/Berlin", "2027-03-27 12:00", "2027-03-29 00:00", []string{
			"Sun 28 03:00 +0200 to Sun 28 05:00 +0200"}},
		{"closing in the gap", "sun 01:00-02:30; zone Europe/Berlin", "2027-03-27 12:00", "2027-03-29 00:00", []string{
			"Sun 28 01:00 +0100 to Sun 28 03:00 +0200"}},
		{"closing where the gap begins", "sun 01:00-02:00; zone Europe/Berlin", "2027-03-27 12:00", "2027-03-29 00:00", []string{
			"Sun 28 01:00 +0100 to Sun 28 03:00 +0200"}},
		{"all within the gap", "sun 02:10-02:50; zone Europe/Berlin", "2027-03-27 12:00", "2027-03-29 00:00", nil},
		{"over the gap", "sun 00:00-24:00; zone Europe/Berlin", "2027-03-27 12:00", "2027-03-29 00:00", []string{
			"Sun 28 00:00 +0100 to Mon 29 00:00 +0200"}},
		{"opening in the repeated hour", "sun 02:30-05:00; zone Europe/Berlin", "2026-10-24 12:00", "2026-10-26 00:00", []string{
			"Sun 25 02:30 +0200 to Sun 25 05:00 +0100"}},
		{"closing in the repeated hour", "sun 01:00-02:30; zone Europe/Berlin", "2026-10-24 12:00", "2026-10-26 00:00", []string{
			"Sun 25 01:00 +0200 to Sun 25 02:30 +0100"}},
		{"all within the repeated hour", "sun 02:10-02:20; zone Europe/Berlin", "2026-10-24 12:00", "2026-10-26 00:00", []string{
			"Sun 25 02:10 +0200 to Sun 25 02:20 +0100"}},
		{"a break within the repeated hour", "sun 01:00-02:15,02:45-05:00; zone Europe/Berlin", "2026-10-24 12:00", "2026-10-26 00:00", []string{
			"Sun 25 01:00 +0200 to Sun 25 05:00 +0100"}},
		{"at its two ends", "sun 02:00-03:00; zone Europe/Berlin", "2026-10-24 12:00", "2026-10-26 00:00", []string{
			"Sun 25 02:00 +0200 to Sun 25 03:00 +0100"}},
		{"closing where it begins", "sun 01:00-02:00; zone Europe/Berlin", "2026-10-24 12:00", "2026-10-26 00:00", []string{
			"Sun 25 01:00 +0200 to Sun 25 02:00 +0100"}},
		{"opening where it ends", "sun 03:00-04:00; zone Europe/Berlin", "2026-10-24 12:00", "2026-10-26 00:00", []string{
			"Sun 25 03:00 +0100 to Sun 25 04:00 +0100"}},
		{"half an hour forward", "sun 02:15-03:00; zone Australia/Lord_Howe", "2026-10-03 00:00", "2026-10-05 00:00", []string{
			"Sun 04 02:30 +1100 to Sun 04 03:00 +1100"}},
		{"half an hour back", "sun 01:45-01:50; zone Australia/Lord_Howe", "2026-04-03 00:00", "2026-04-06 00:00", []string{
			"Sun 05 01:45 +1100 to Sun 05 01:50 +1030"}},
		{"midnight does not exist in Cairo", "fri 00:00-02:00; zone Africa/Cairo", "2027-04-29 00:00", "2027-05-01 00:00", []string{
			"Fri 30 01:00 +0300 to Fri 30 02:00 +0300"}},
		{"midnight does not exist in Santiago", "sat 20:00-24:00; sun 00:00-02:00; zone America/Santiago", "2026-09-05 12:00", "2026-09-07 00:00", []string{
			"Sat 05 20:00 -0400 to Sun 06 02:00 -0300"}},
		{"Santiago's Saturday of 25 hours", "sat 23:30-24:00; zone America/Santiago", "2026-04-03 12:00", "2026-04-07 00:00", []string{
			"Sat 04 23:30 -0300 to Sun 05 00:00 -0400"}},
		{"midnight does not exist in Beirut", "sun 00:00-01:30; zone Asia/Beirut", "2027-03-27 12:00", "2027-03-29 00:00", []string{
			"Sun 28 01:00 +0300 to Sun 28 01:30 +0300"}},
		{"midnight comes twice in Havana", "sun 00:00-02:00; zone America/Havana", "2026-10-31 12:00", "2026-11-02 00:00", []string{
			"Sun 01 00:00 -0400 to Sun 01 02:00 -0500"}},
		{"an exception begins with its date in Havana", "sat 09:00-24:00; 2026-11-01 closed; zone America/Havana", "2026-10-31 00:00", "2026-11-03 00:00", []string{
			"Sat 31 09:00 -0400 to Sun 01 00:00 -0400"}},
		{"a night shift in spring", "sat 22:00-06:00; zone Europe/Berlin", "2027-03-27 12:00", "2027-03-29 00:00", []string{
			"Sat 27 22:00 +0100 to Sun 28 06:00 +0200"}},
		{"Samoa skipped a Friday", "thu,fri,sat 09:00-17:00; zone Pacific/Apia", "2011-12-29 00:00", "2012-01-01 00:00", []string{
			"Thu 29 09:00 -1000 to Thu 29 17:00 -1000", "Sat 31 09:00 +1400 to Sat 31 17:00 +1400"}},
		{"a night into the day that Samoa skipped", "thu 22:00-06:00; zone Pacific/Apia", "2011-12-29 00:00", "2012-01-01 00:00", []string{
			"Thu 29 22:00 -1000 to Sat 31 00:00 +1400"}},
		{"a night out of the day that Samoa skipped", "fri 22:00-06:00; zone Pacific/Apia", "2011-12-29 00:00", "2012-01-01 00:00", []string{
			"Sat 31 00:00 +1400 to Sat 31 06:00 +1400"}},
		{"Manila had the thirtieth and no thirty-first", "mon-sun 12:00-13:00; zone Asia/Manila", "1844-12-30 12:00", "1845-01-02 00:00", []string{
			"Mon 30 12:00 -1556 to Mon 30 13:00 -1556", "Wed 01 12:00 +0803 to Wed 01 13:00 +0803"}},
		{"Alaska had a day twice", "fri 20:00-21:00; zone America/Juneau", "1867-10-16 00:00", "1867-10-20 00:00", []string{
			"Fri 18 20:00 +1502 to Fri 18 21:00 -0857"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			require.Equal(t, tt.want, intervals(hours(t, tt.plan), at(t, tt.from), at(t, tt.to)))
		})
	}
}

func TestOpen(t *testing.T) {
	s, err := schedule.New(schedule.Plan{
		Zone: "Europe/Berlin",
		Week: parse(t, "mon-fri 09:00-12:00,13:00-17:00; sat 22:00-06:00").Week,
		Exceptions: []schedule.Exception{
			{Date: schedule.Date{Year: 2026, Month: 12, Day: 24}, Hours: schedule.Day{{From: 9 * 60, To: 12 * 60}}, Name: "Christmas Eve"},
			{Date: schedule.Date{Year: 2026, Month: 12, Day: 25}, Name: "Christmas"},
			{Date: schedule.Date{Year: 2026, Month: 12, Day: 26}},
		},
	}, &schedule.Options{Holidays: func(d schedule.Date) (string, bool) {
		return "New Year", d.Month == time.January && d.Day == 1
	}})
	require.NoError(t, err)
	for _, tt := range []struct {
		now, why, next string
	}{
		{"2026-12-21T07:59:59Z", "closed: mon 2026-12-21 has 09:00-12:00,13:00-17:00", "2026-12-21T08:00:00Z"},
		{"2026-12-21T08:00:00Z", "open: mon 2026-12-21 has 09:00-12:00,13:00-17:00", "2026-12-21T11:00:00Z"},
		{"2026-12-21T10:59:59.999999999Z", "open: mon 2026-12-21 has 09:00-12:00,13:00-17:00", "2026-12-21T11:00:00Z"},
		{"2026-12-21T11:00:00Z", "closed: mon 2026-12-21 has 09:00-12:00,13:00-17:00", "2026-12-21T12:00:00Z"},
		{"2026-12-20T03:00:00Z", "open: sat 2026-12-19 has 22:00-06:00", "2026-12-20T05:00:00Z"},
		{"2026-12-20T06:00:00Z", "closed: sun 2026-12-20 is closed", "2026-12-21T08:00:00Z"},
		{"2026-12-24T09:00:00Z", "open: thu 2026-12-24 has 09:00-12:00 (Christmas Eve)", "2026-12-24T11:00:00Z"},
		{"2026-12-24T13:00:00Z", "closed: thu 2026-12-24 has 09:00-12:00 (Christmas Eve)", "2026-12-28T08:00:00Z"},
		{"2026-12-25T09:00:00Z", "closed: fri 2026-12-25 is closed (Christmas)", "2026-12-28T08:00:00Z"},
		{"2026-12-26T22:00:00Z", "closed: sat 2026-12-26 is closed (exception)", "2026-12-28T08:00:00Z"},
		{"2027-01-01T09:00:00Z", "closed: fri 2027-01-01 is closed (New Year)", "2027-01-02T21:00:00Z"},
	} {
		now, next := at(t, tt.now), at(t, tt.next)
		open, why := s.Open(now)
		require.Equal(t, tt.why, why.String(), tt.now)
		require.Equal(t, strings.HasPrefix(tt.why, "open"), open, tt.now)
		require.Equal(t, open, why.Open)
		require.Equal(t, open, why.Span != schedule.Span{}, tt.now)
		change, ok := s.NextChange(now)
		require.True(t, ok)
		require.Equal(t, next, change.UTC(), tt.now)
		opens, ok := s.NextOpen(now)
		require.True(t, ok)
		if open {
			next = now
		}
		require.Equal(t, next, opens.UTC(), tt.now)
		atInstant, nextInstant := s.OpenAt(presence.At(now))
		require.Equal(t, open, atInstant)
		require.Equal(t, presence.At(change), nextInstant)
		require.Equal(t, s.Location(), change.Location())
	}
}

// Schedules that never change, and changes beyond the horizon.
func TestNoChange(t *testing.T) {
	now := at(t, "2026-01-05 10:00")
	for text, open := range map[string]bool{
		"closed":                 false,
		"mon-sun 00:00-24:00":    true,
		"2040-01-01 09:00-17:00": false,
		"2026-01-04 00:00-24:00": false,
	} {
		s := hours(t, text)
		is, _ := s.Open(now)
		require.Equal(t, open, is, text)
		_, ok := s.NextChange(now)
		require.False(t, ok, text)
		_, ok = s.NextOpen(now)
		require.Equal(t, open, ok, text)
		is, next := s.OpenAt(presence.At(now))
		require.Equal(t, open, is, text)
		require.Zero(t, next, text)
	}
	next, ok := hours(t, "mon-sun 00:00-24:00; 2030-01-01 closed").NextChange(now)
	require.True(t, ok)
	require.Equal(t, at(t, "2030-01-01 00:00"), next)
}

// Instants beyond every calendar have answers too.
func TestFarInstants(t *testing.T) {
	always, night := hours(t, "mon-sun 00:00-24:00"), hours(t, "mon-sun 22:00-06:00; zone America/Santiago")
	far := []time.Time{{}, time.Unix(math.MinInt64, 0), time.Unix(math.MaxInt64, 999_999_999), time.Unix(1<<40, 0), presence.Instant(math.MinInt64).Time(), presence.Instant(math.MaxInt64).Time()}
	for _, now := range far {
		open, why := always.Open(now)
		require.True(t, open, now)
		require.NotEmpty(t, why.String())
		night.Open(now)
		night.NextChange(now)
		night.NextOpen(now)
		for range night.Intervals(now, now.Add(48*time.Hour)) {
		}
		for range night.Intervals(now, far[2]) {
			break
		}
		night.EndOfDay(now)
		schedule.DateIn(nil, now)
	}
	for _, now := range []presence.Instant{math.MinInt64, -1, 0, 1, math.MaxInt64} {
		open, _ := always.OpenAt(now)
		require.True(t, open)
		night.OpenAt(now)
	}
}

func TestLocation(t *testing.T) {
	plan := parse(t, "mon 09:00-17:00; zone Europe/Berlin")
	for _, zone := range []*time.Location{time.FixedZone("", -(3*3600 + 1800)), time.FixedZone("office", -(3*3600 + 1800))} {
		s, err := schedule.New(plan, &schedule.Options{Location: zone})
		require.NoError(t, err)
		require.Equal(t, []string{"Mon 05 09:00 -0330 to Mon 05 17:00 -0330"}, intervals(s, at(t, "2026-01-05 00:00"), at(t, "2026-01-06 00:00")))
	}
	// America/Sao_Paulo has no names for its times, only numbers.
	s := hours(t, "sat 09:00-17:00; zone America/Sao_Paulo")
	require.Equal(t, []string{"Sat 10 09:00 -0300 to Sat 10 17:00 -0300"}, intervals(s, at(t, "2026-01-05 00:00"), at(t, "2026-01-11 00:00")))

	_, err := schedule.New(plan, &schedule.Options{Location: time.FixedZone("far", math.MaxInt64)})
	require.ErrorContains(t, err, "want less than a day")
}

// A schedule does not share memory with its plan.
func TestScheduleIsImmutable(t *testing.T) {
	plan := parse(t, "mon 09:00-17:00; 2026-01-06 09:00-12:00")
	s, err := schedule.New(plan, nil)
	require.NoError(t, err)
	want := s.String()
	plan.Week[time.Monday][0].To = 23 * 60
	plan.Exceptions[0].Hours[0].To = 23 * 60
	s.Plan().Week[time.Monday][0].To = 23 * 60
	_, why := s.Open(at(t, "2026-01-05 10:00"))
	why.Hours[0].To = 23 * 60
	require.Equal(t, want, s.String())
	require.Equal(t, want, s.Plan().String())
}

func TestEndOfDay(t *testing.T) {
	for _, tt := range []struct{ name, zone, now, want string }{
		{"a plain day", "Europe/Berlin", "2026-01-05T10:00:00+01:00", "2026-01-06T00:00:00+01:00"},
		{"its first instant", "Europe/Berlin", "2026-01-05T00:00:00+01:00", "2026-01-06T00:00:00+01:00"},
		{"its last second", "Europe/Berlin", "2026-01-05T23:59:59+01:00", "2026-01-06T00:00:00+01:00"},
		{"another date than in UTC", "Pacific/Auckland", "2026-01-05T12:00:00Z", "2026-01-07T00:00:00+13:00"},
		{"23 hours", "Europe/Berlin", "2027-03-28T00:00:00+01:00", "2027-03-29T00:00:00+02:00"},
		{"25 hours", "Europe/Berlin", "2026-10-25T00:00:00+02:00", "2026-10-26T00:00:00+01:00"},
		{"before a midnight that does not exist", "Asia/Beirut", "2027-03-27T10:00:00+02:00", "2027-03-28T01:00:00+03:00"},
		{"before a midnight that comes twice", "America/Havana", "2026-10-31T10:00:00-04:00", "2026-11-01T00:00:00-04:00"},
		{"between the two", "America/Havana", "2026-11-01T00:30:00-04:00", "2026-11-02T00:00:00-05:00"},
		{"of the 25th hour in Santiago", "America/Santiago", "2026-04-04T23:30:00-03:00", "2026-04-05T00:00:00-04:00"},
		{"a day that comes back for an hour", "America/St_Johns", "2010-11-06T12:00:00-02:30", "2010-11-07T00:00:00-03:30"},
		{"the minute of the day before that", "America/St_Johns", "2010-11-07T00:00:30-02:30", "2010-11-08T00:00:00-03:30"},
		{"before a day that was skipped", "Pacific/Apia", "2011-12-29T12:00:00-10:00", "2011-12-31T00:00:00+14:00"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			zone, err := time.LoadLocation(tt.zone)
			require.NoError(t, err)
			end := schedule.EndOfDay(zone, at(t, tt.now))
			require.Equal(t, tt.want, end.Format(time.RFC3339))
		})
	}
	require.Equal(t, at(t, "2026-01-06 00:00"), schedule.EndOfDay(nil, at(t, "2026-01-05 10:00")))
	require.Equal(t, "2026-01-06", schedule.DateIn(time.FixedZone("", 3600), at(t, "2026-01-05 23:30")).String())
	require.Equal(t, "2026-01-05", schedule.DateIn(nil, at(t, "2026-01-05 23:30")).String())
}

func TestValidate(t *testing.T) {
	day := func(spans ...schedule.Span) schedule.Day { return spans }
	bad := schedule.Plan{
		Zone: "Europe/Atlantis",
		Week: schedule.Week{
			time.Monday:    day(schedule.Span{From: 9 * 60, To: 12 * 60}, schedule.Span{From: 11 * 60, To: 15 * 60}),
			time.Tuesday:   day(schedule.Span{From: 9 * 60, To: 9 * 60}),
			time.Wednesday: day(schedule.Span{From: -1, To: 9 * 60}, schedule.Span{From: 24 * 60, To: 9 * 60}, schedule.Span{From: 9 * 60, To: 24*60 + 1}),
			time.Thursday:  day(schedule.Span{From: 22 * 60, To: 6 * 60}, schedule.Span{From: 23 * 60, To: 24 * 60}),
			time.Friday:    slices.Repeat(day(schedule.Span{From: 0, To: 60}), schedule.MaxSpans+1),
		},
		Exceptions: []schedule.Exception{
			{Date: schedule.Date{Year: 2026, Month: 2, Day: 30}},
			{Date: schedule.Date{Year: 2026, Month: 2, Day: 3}, Name: "two\nlines"},
			{Date: schedule.Date{Year: 2026, Month: 2, Day: 4}, Hours: day(schedule.Span{From: 5, To: 5})},
			{},
		},
	}
	err := bad.Validate()
	require.ErrorIs(t, err, presence.ErrInvalid)
	for _, want := range []string{
		`zone "Europe/Atlantis"`, "mon: 11:00-15:00 begins before 09:00-12:00 has ended", "tue: 09:00-09:00: opens and closes at the same time",
		"wed: -1 minutes-09:00", "wed: 24:00-09:00", "wed: 09:00-24:01", "thu: 23:00-24:00 begins before 22:00-06:00", "fri: 25 times of being open, allowed are 24",
		"exception 1: 2026-02-30 is no date", "exception 2: name", "2026-02-04: 00:05-00:05", "exception 4: 0000-00-00 is no date",
	} {
		require.ErrorContains(t, err, want)
	}
	_, made := schedule.New(bad, nil)
	require.Equal(t, err, made)

	require.NoError(t, schedule.Plan{}.Validate())
	for _, zone := range []string{"Local", "../../etc/passwd", "/etc/localtime", strings.Repeat("x", 1<<16), "Europe/Berlin\x00"} {
		require.ErrorIs(t, schedule.Plan{Zone: zone}.Validate(), presence.ErrInvalid, zone)
	}
	many := schedule.Plan{Exceptions: slices.Repeat([]schedule.Exception{{Date: schedule.Date{Year: 2026, Month: 1, Day: 1}}}, schedule.MaxExceptions)}
	require.NoError(t, many.Validate())
	many.Exceptions = append(many.Exceptions, many.Exceptions[0])
	require.ErrorContains(t, many.Validate(), "10001 exceptions, allowed are 10000")
}

func TestParse(t *testing.T) {
	for text, want := range map[string]string{
		"mon-fri 09:00-12:00,13:00-17:00":                       "",
		"mon-fri 9:00-12:00 , 13:00-17:00 ;":                    "mon-fri 09:00-12:00,13:00-17:00",
		"  MON , Wed-fri   09:00-17:00;sat  closed":             "mon,wed-fri 09:00-17:00",
		"fri-mon 22:00-00:00":                                   "mon,fri-sun 22:00-24:00",
		"sat 10:00-14:00; mon-fri 09:00-17:00":                  "mon-fri 09:00-17:00; sat 10:00-14:00",
		"tue 09:00-17:00; mon 09:00-17:00; wed 09:00-17:00":     "mon-wed 09:00-17:00",
		"mon-sun 00:00-24:00":                                   "",
		"mon 22:00-06:00":                                       "",
		"closed":                                                "",
		" closed ":                                              "closed",
		"mon-sun closed":                                        "closed",
		"zone Asia/Tokyo; mon 09:00-17:00":                      "mon 09:00-17:00; zone Asia/Tokyo",
		"mon 09:00-17:00; 2026-12-25,2026-12-26 closed":         "mon 09:00-17:00; 2026-12-25 closed; 2026-12-26 closed",
		"2026-12-24,mon 09:00-12:00":                            "mon 09:00-12:00; 2026-12-24 09:00-12:00",
		"mon,tue,thu 09:00-17:00; sat,sun 10:00-14:00":          "",
		"mon-wed 09:00-17:00; thu,fri 09:00-18:00; zone Asia/X": "",
	} {
		p, err := schedule.Parse(text)
		require.NoError(t, err, text)
		if want == "" {
			want = text
		}
		require.Equal(t, want, p.String(), text)
	}
	for text, wants := range map[string][]string{
		"":                                 {`"": want days and their hours`},
		"mon":                              {`"mon": want days and their hours`},
		"mon-fri 09:00-17:00 18:00-19:00":  {"want days and their hours"},
		"mon-fri 09:00-17:00;; sat closed": {`"": want days and their hours`},
		"mo 09:00-17:00":                   {`"mo": want a day of the week`},
		"mon-fry 09:00-17:00":              {`"mon-fry": want a day of the week`},
		"2026-02-30 closed":                {`"2026-02-30": want a day of the week`},
		"0000-02-03 closed":                {`"0000-02-03": want a day of the week`},
		"mon 09:00":                        {`"09:00": want hours such as 09:00-12:00, or closed`},
		"mon 09:00-25:00,9-17,24:00-05:00,09:0-10:00,009:00-10:00,09:60-10:00,+9:00-10:00,24:01-01:00,٠9:00-10:00": {
			`"09:00-25:00"`, `"9-17"`, `"24:00-05:00"`, `"09:0-10:00"`, `"009:00-10:00"`, `"09:60-10:00"`, `"+9:00-10:00"`, `"24:01-01:00"`, `"٠9:00-10:00"`,
		},
		"mon 09:00-12:00; mon-tue 13:00-17:00": {"mon has two rules"},
		"zone Asia/Tokyo; zone Asia/Seoul":     {"zone Asia/Seoul: the zone is already Asia/Tokyo"},
		strings.Repeat("x;", 1000):             {"980 more faults"},
		"zone \xff":                            {"want UTF-8 text"},
		strings.Repeat(" ", 70_000):            {"70000 bytes of text, allowed are 65536"},
	} {
		_, err := schedule.Parse(text)
		require.ErrorIs(t, err, presence.ErrInvalid, text)
		for _, want := range wants {
			require.ErrorContains(t, err, want)
		}
	}
}

func TestJSON(t *testing.T) {
	want := `{"zone":"Europe/Berlin","week":{"mon":["09:00-12:00","13:00-17:00"],"sat":["22:00-06:00"]},` +
		`"exceptions":[{"date":"2026-12-24","hours":["09:00-12:00"]},{"date":"2026-12-25","name":"Christmas"}]}`
	var p schedule.Plan
	require.NoError(t, json.Unmarshal([]byte(want), &p))
	require.NoError(t, p.Validate())
	require.Equal(t, "mon 09:00-12:00,13:00-17:00; sat 22:00-06:00; 2026-12-24 09:00-12:00; 2026-12-25 closed; zone Europe/Berlin", p.String())
	got, err := json.Marshal(p)
	require.NoError(t, err)
	require.Equal(t, want, string(got))
	for _, data := range []string{
		`{"week":{"mon":["9-12"]}}`, `{"week":{"monday":[]}}`, `{"week":{"mon":"09:00-12:00"}}`, `{"exceptions":[{"date":"25.12.2026"}]}`, `{"week":[]}`,
	} {
		require.Error(t, json.Unmarshal([]byte(data), &p), data)
	}
}

func Example() {
	plan, err := schedule.Parse("mon-fri 09:00-12:00,13:00-17:00; 2026-12-24 09:00-12:00; 2026-12-25 closed; zone Europe/Berlin")
	if err != nil {
		fmt.Println(err)
		return
	}
	hours, err := schedule.New(plan, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	now := time.Date(2026, 12, 24, 12, 30, 0, 0, time.UTC)
	_, why := hours.Open(now)
	next, _ := hours.NextOpen(now)
	fmt.Println(why)
	fmt.Println("opens", next)
	// Output:
	// closed: thu 2026-12-24 has 09:00-12:00 (exception)
	// opens 2026-12-28 09:00:00 +0100 CET
}

// On the last day of a leap year [time.Time.ZoneBounds] can be wrong.
func TestEndOfLeapYears(t *testing.T) {
	for _, p := range allPlaces(t) {
		s, err := schedule.New(parse(t, "mon-sun 09:00-17:00"), &schedule.Options{Location: p.zone})
		require.NoError(t, err)
		for _, year := range []int{2024, 2028} {
			from := time.Date(year, 12, 28, 0, 0, 0, 0, p.zone)
			days := 0
			for i := range s.Intervals(from, from.AddDate(0, 0, 8)) {
				require.Equal(t, 8*time.Hour, i.To.Sub(i.From), p.names[0])
				require.Equal(t, 9, i.From.Hour(), p.names[0])
				days++
			}
			require.Equal(t, 8, days, p.names[0])
		}
	}
}
