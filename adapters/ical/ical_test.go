package ical_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/presence-go/presence"
	"github.com/presence-go/presence/adapters/ical"
	"github.com/presence-go/presence/schedule"
)

// calendar writes events, each given as lines separated by bars.
func calendar(events ...string) string {
	lines := []string{"BEGIN:VCALENDAR", "VERSION:2.0", "PRODID:-//test//EN"}
	for i, e := range events {
		lines = append(lines, "BEGIN:VEVENT", "DTSTAMP:20260101T000000Z")
		if !strings.HasPrefix(e, "UID:") {
			lines = append(lines, fmt.Sprintf("UID:%d@test", i))
		}
		lines = append(lines, strings.Split(e, "|")...)
		lines = append(lines, "END:VEVENT")
	}
	return strings.Join(append(lines, "END:VCALENDAR", ""), "\r\n")
}

func plan(t testing.TB, text string) schedule.Plan {
	t.Helper()
	p, err := schedule.Parse(text)
	require.NoError(t, err)
	return p
}

func TestExceptions(t *testing.T) {
	const office = "mon-fri 09:00-12:00,13:00-17:00; zone Europe/Berlin"
	for _, tt := range []struct {
		name, plan, from, to string
		events               []string
		want                 []string
	}{
		{"a holiday", office, "2026-12-01", "2026-12-31", []string{"DTSTART;VALUE=DATE:20261225|DTEND;VALUE=DATE:20261226|SUMMARY:Christmas\\, first day"},
			[]string{"2026-12-25 closed (Christmas, first day)"}},
		{"without an end", office, "2026-12-01", "2026-12-31", []string{"DTSTART;VALUE=DATE:20261225"}, []string{"2026-12-25 closed"}},
		{"ending when it begins", office, "2026-12-01", "2026-12-31", []string{"DTSTART;VALUE=DATE:20261225|DTEND;VALUE=DATE:20261225"}, []string{"2026-12-25 closed"}},
		{"days off, in part outside", office, "2026-12-28", "2026-12-31", []string{"DTSTART;VALUE=DATE:20261227|DURATION:P1W|SUMMARY:Away"},
			[]string{"2026-12-28 closed (Away)", "2026-12-29 closed (Away)", "2026-12-30 closed (Away)", "2026-12-31 closed (Away)"}},
		{"every year", office, "2026-01-01", "2028-12-31", []string{"DTSTART;VALUE=DATE:20200101|RRULE:FREQ=YEARLY|SUMMARY:New Year"},
			[]string{"2026-01-01 closed (New Year)", "2027-01-01 closed (New Year)", "2028-01-01 closed (New Year)"}},
		{"the fourth Thursday of November", office, "2026-01-01", "2027-12-31", []string{"DTSTART;VALUE=DATE:20201126|RRULE:FREQ=YEARLY;BYMONTH=11;BYDAY=4TH"},
			[]string{"2026-11-26 closed", "2027-11-25 closed"}},
		{"until", office, "2026-01-01", "2026-01-31", []string{"DTSTART;VALUE=DATE:20260105|RRULE:FREQ=WEEKLY;UNTIL=20260119"},
			[]string{"2026-01-05 closed", "2026-01-12 closed", "2026-01-19 closed"}},
		{"but not then, and then too", office, "2026-01-01", "2026-01-31", []string{"DTSTART;VALUE=DATE:20260105|RRULE:FREQ=WEEKLY;COUNT=3|EXDATE;VALUE=DATE:20260112,20260105|RDATE;VALUE=DATE:20260121"},
			[]string{"2026-01-19 closed", "2026-01-21 closed"}},
		{"hours of a date of each year", "mon-sun 09:00-17:00; 12-24 09:00-12:00; 2026-12-30..2027-01-02 10:00-14:00", "2026-12-01", "2026-12-31",
			[]string{"DTSTART:20261224T110000Z|DTEND:20261224T150000Z", "DTSTART:20261231T120000Z|DTEND:20261231T150000Z"},
			[]string{"2026-12-24 09:00-11:00", "2026-12-31 10:00-12:00"}},
		{"a part of a day", office, "2026-01-01", "2026-01-31", []string{"DTSTART;TZID=Europe/Berlin:20260105T110000|DTEND;TZID=Europe/Berlin:20260105T140000|SUMMARY:Staff meeting"},
			[]string{"2026-01-05 09:00-11:00,14:00-17:00 (Staff meeting)"}},
		{"from the middle", office, "2026-01-01", "2026-01-31", []string{"DTSTART:20260105T090030|DURATION:PT1H"}, []string{"2026-01-05 10:01-12:00,13:00-17:00"}},
		{"in UTC", office, "2026-01-01", "2026-07-31", []string{"DTSTART:20260105T080000Z|DTEND:20260105T160000Z", "DTSTART:20260706T080000Z|DTEND:20260706T150000Z"},
			[]string{"2026-01-05 closed", "2026-07-06 09:00-10:00"}},
		{"elsewhere, and there it stays nine o'clock", office, "2026-03-23", "2026-04-05", []string{"DTSTART;TZID=America/New_York:20260302T090000|DURATION:PT1H|RRULE:FREQ=WEEKLY"},
			[]string{"2026-03-23 09:00-12:00,13:00-14:00,15:00-17:00", "2026-03-30 09:00-12:00,13:00-15:00,16:00-17:00"}},
		{"until an instant in UTC", office, "2026-01-01", "2026-01-31", []string{"DTSTART;TZID=Europe/Berlin:20260105T090000|DURATION:PT3H|RRULE:FREQ=WEEKLY;UNTIL=20260112T080000Z"},
			[]string{"2026-01-05 13:00-17:00", "2026-01-12 13:00-17:00"}},
		{"outside the hours", office, "2026-01-01", "2026-01-31", []string{"DTSTART:20260105T180000|DURATION:PT3H", "DTSTART:20260103T100000|DURATION:PT3H"}, nil},
		{"two at once", office, "2026-01-01", "2026-01-31", []string{"DTSTART:20260105T090000|DURATION:PT1H|SUMMARY:One", "DTSTART:20260105T160000|DURATION:PT5H|SUMMARY:Two"},
			[]string{"2026-01-05 10:00-12:00,13:00-16:00 (One)"}},
		{"the first name of each day", office, "2026-01-01", "2026-01-31", []string{"DTSTART;VALUE=DATE:20260105|SUMMARY:One", "DTSTART;VALUE=DATE:20260105|DURATION:P2D|SUMMARY:Two"},
			[]string{"2026-01-05 closed (One)", "2026-01-06 closed (Two)"}},
		{"cancelled", office, "2026-01-01", "2026-01-31", []string{"DTSTART;VALUE=DATE:20260105|STATUS:CANCELLED"}, nil},
		{"one of them moved and one called off", office, "2026-01-01", "2026-01-31", []string{
			"UID:x|DTSTART;VALUE=DATE:20260105|RRULE:FREQ=WEEKLY;COUNT=3",
			"UID:x|RECURRENCE-ID;VALUE=DATE:20260112|DTSTART;VALUE=DATE:20260114",
			"UID:x|RECURRENCE-ID;VALUE=DATE:20260119|DTSTART;VALUE=DATE:20260119|STATUS:CANCELLED"},
			[]string{"2026-01-05 closed", "2026-01-14 closed"}},
		{"a date that is an exception already", office + "; 2026-01-05 10:00-11:00", "2026-01-01", "2026-01-31", []string{"DTSTART:20260105T103000|DURATION:PT5H"},
			[]string{"2026-01-05 10:00-10:30"}},
		{"a moment", office, "2026-01-01", "2026-01-31", []string{"DTSTART:20260105T103000"}, nil},

		{"a night goes on", "mon-sun 22:00-06:00", "2026-01-05", "2026-01-06", []string{"DTSTART:20260105T020000|DURATION:PT2H"},
			[]string{"2026-01-05 00:00-02:00,04:00-06:00,22:00-06:00"}},
		{"a night opens again", "mon 22:00-06:00; tue 09:00-12:00", "2026-01-05", "2026-01-06", []string{"DTSTART:20260105T210000|DURATION:PT3H"},
			[]string{"2026-01-05 closed", "2026-01-06 00:00-06:00,09:00-12:00"}},
		{"a night that does not begin", "mon 22:00-06:00; tue 05:00-12:00", "2026-01-05", "2026-01-06", []string{"DTSTART;VALUE=DATE:20260105", "DTSTART:20260106T100000|DURATION:PT1H"},
			[]string{"2026-01-05 closed", "2026-01-06 05:00-10:00,11:00-12:00"}},
		{"day and night", "mon-sun 09:00-08:59", "2026-01-05", "2026-01-05", []string{"DTSTART:20260105T084000|DURATION:PT20M"},
			[]string{"2026-01-05 00:00-08:40,09:00-08:59"}},
		{"all of a night and more", "sun 22:00-10:00; mon 09:00-08:00", "2026-01-05", "2026-01-05", []string{"DTSTART:20260105T000000|DURATION:PT10M"},
			[]string{"2026-01-05 00:10-08:01,08:01-08:00"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, skipped := read(t, tt.plan, tt.from, tt.to, calendar(tt.events...), nil)
			require.Equal(t, tt.want, got)
			require.Empty(t, skipped)
		})
	}
}

// What is no calendar, is too large or takes too much work is refused as a whole.
func TestCalendarsRefused(t *testing.T) {
	var never, old, often []string // the last has more times than it has days
	for i := range 40 {
		never = append(never, fmt.Sprintf("UID:never%d|DTSTART;VALUE=DATE:00010101|RRULE:FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30;COUNT=1", i))
		old = append(old, fmt.Sprintf("UID:old%d|DTSTART:00010101T090000|DURATION:PT1H|RRULE:FREQ=DAILY;COUNT=1000000000", i))
	}
	for i := range 288 {
		often = append(often, fmt.Sprintf("UID:often%d|DTSTART:20260101T%02d%02d00Z|DURATION:PT1M|RRULE:FREQ=DAILY", i, i/12, i%12*5))
	}
	for text, want := range map[string]string{
		"":                                   "BEGIN:VCALENDAR is missing",
		"hello":                              "BEGIN:VCALENDAR is missing",
		"<html>\n</html>":                    "BEGIN:VCALENDAR is missing",
		"BEGIN:VEVENT\nUID:":                 "BEGIN:VCALENDAR is missing",
		strings.Repeat("\n", ical.MaxSize+1): "more than 8388608 bytes",
		calendar(never...):                   `more than 20000000 days have to be looked at (event "never`,
		calendar(old...):                     `more than 20000000 days have to be looked at (event "old`,
		calendar(often...):                   `more than 20000000 days have to be looked at (event "often`,
	} {
		list, skipped, err := ical.Exceptions(t.Context(), strings.NewReader(text), plan(t, "mon-sun 00:00-24:00"), date(2026, 1, 1), date(2035, 12, 31), nil)
		require.ErrorIs(t, err, presence.ErrInvalid, want)
		require.ErrorContains(t, err, want)
		require.Nil(t, list)
		require.Nil(t, skipped)
	}
	_, _, err := ical.Exceptions(t.Context(), strings.NewReader(calendar()), plan(t, "mon 09:00-17:00"), date(2026, 1, 2), date(2026, 1, 1), nil)
	require.ErrorContains(t, err, "allowed are 1 to 3660 days")
	_, _, err = ical.Exceptions(t.Context(), strings.NewReader(calendar()), plan(t, "mon 09:00-17:00"), date(2026, 1, 2), date(2126, 1, 1), nil)
	require.ErrorContains(t, err, "allowed are 1 to 3660 days")
	_, _, err = ical.Exceptions(t.Context(), strings.NewReader(calendar()), schedule.Plan{Zone: "Mars/Dust"}, date(2026, 1, 2), date(2026, 1, 3), nil)
	require.ErrorContains(t, err, "Mars/Dust")
}

// Only what falls into the days asked for counts for limits, and what is long or
// old costs its neighbours nothing.
func TestLongCalendars(t *testing.T) {
	var series, busy, zoned []string
	for i := range 500 {
		series = append(series, fmt.Sprintf("DTSTART;TZID=Europe/Berlin:19900101T%02d%02d00|DURATION:PT1M|RRULE:FREQ=WEEKLY;BYDAY=MO,TU,WE,TH,FR", 18+i%5, i%60))
		busy = append(busy, fmt.Sprintf("DTSTART:20240106T%02d0000|DURATION:P400D|RRULE:FREQ=DAILY", i%24))
		zoned = append(zoned, fmt.Sprintf("DTSTART;TZID=Nowhere/%d:20260106T100000|DURATION:PT1H", i))
	}
	epiphany := "DTSTART;VALUE=DATE:20260106|SUMMARY:Epiphany"
	for name, tt := range map[string]struct {
		events  []string
		skipped int
		want    []string
	}{
		"a long description": {[]string{epiphany + "|DESCRIPTION:" + strings.Repeat("x", 3_000_000)}, 0, []string{"2026-01-06 closed (Epiphany)"}},
		"a long folded line": {[]string{"ATTACH:" + strings.Repeat("0123456789\r\n ", 100_000), epiphany}, 1, []string{"2026-01-06 closed (Epiphany)"}},
		"many old series":    {append(series, epiphany), 0, []string{"2026-01-06 closed (Epiphany)"}},
		"a rule of 4 KiB":    {[]string{epiphany + "|RRULE:FREQ=DAILY;COUNT=1;BYMONTHDAY=" + strings.Repeat("6,", 2_000) + "6"}, 0, []string{"2026-01-06 closed (Epiphany)"}},
		"a century":          {[]string{"DTSTART;VALUE=DATE:19500101|DTEND;VALUE=DATE:20260108|SUMMARY:Closed"}, 0, []string{"2026-01-05 closed (Closed)", "2026-01-06 closed (Closed)", "2026-01-07 closed (Closed)"}},
		"long and daily":     {busy, 0, []string{"2026-01-05 closed", "2026-01-06 closed", "2026-01-07 closed", "2026-01-08 closed", "2026-01-09 closed"}},
		"many zones":         {append(zoned, epiphany), 500, []string{"2026-01-06 closed (Epiphany)"}},
	} {
		t.Run(name, func(t *testing.T) {
			got, skipped := read(t, office, "2026-01-05", "2026-01-09", calendar(tt.events...), nil)
			require.Equal(t, tt.want, got)
			require.Len(t, skipped, tt.skipped)
		})
	}
}

// A day cannot have more hours than a plan may. The shortest open times are
// closed too, and the list of what was skipped has that.
func TestCalendarManyOpenTimes(t *testing.T) {
	got, skipped := read(t, "mon-sun 00:00-24:00", "2026-01-05", "2026-01-05", calendar(meetings(25)...), nil)
	require.Len(t, got, 1)
	require.Equal(t, schedule.MaxSpans, strings.Count(got[0], "-")-2)
	require.Contains(t, got[0], " 00:15-00:40,00:45-01:10,")
	require.Equal(t, []string{`line 4: 2026-01-05: 26 open times are left, allowed are 24; the shortest are closed too (event "0@test")`}, skipped)
}

func meetings(n int) (list []string) {
	for i := range n {
		list = append(list, fmt.Sprintf("DTSTART:20260105T%02d%02d00|DURATION:PT5M", i/2, 10+i%2*30))
	}
	return list
}

func day(t testing.TB, text string) (d schedule.Date) {
	t.Helper()
	require.NoError(t, d.UnmarshalText([]byte(text)))
	return d
}

func date(year int, month time.Month, day int) schedule.Date {
	return schedule.Date{Year: year, Month: month, Day: day}
}

// Names are texts of strangers: characters that people cannot read are left
// out.
func TestNames(t *testing.T) {
	long := strings.Repeat("ü", 100)
	got, _ := read(t, "mon 09:00-17:00", "2026-01-01", "2026-01-31", calendar("DTSTART;VALUE=DATE:20260105|SUMMARY:a\\nb \x7f c", "DTSTART;VALUE=DATE:20260106|SUMMARY:"+long, "DTSTART;VALUE=DATE:20260107|SUMMARY:x\xffy"), nil)
	require.Equal(t, []string{"2026-01-05 closed (a b c)", "2026-01-06 closed (" + strings.Repeat("ü", 64) + ")", "2026-01-07 closed (xy)"}, got)
}

// What is imported closes what the hours had open.
func TestImportedHours(t *testing.T) {
	p := plan(t, "mon-fri 09:00-17:00; zone Europe/Berlin")
	list, _, err := ical.Exceptions(t.Context(), strings.NewReader(calendar("DTSTART;VALUE=DATE:20260106|SUMMARY:Epiphany")), p, date(2026, 1, 1), date(2026, 12, 31), nil)
	require.NoError(t, err)
	p.Exceptions = append(p.Exceptions, list...)
	hours, err := schedule.New(p, nil)
	require.NoError(t, err)
	open, why := hours.Open(time.Date(2026, 1, 6, 11, 0, 0, 0, time.UTC))
	require.False(t, open)
	require.Equal(t, "closed: tue 2026-01-06 is closed (Epiphany)", why.String())
}

// The zone of a place that has no name is an option. It is that of times without
// a zone as well.
func TestExceptionsLocation(t *testing.T) {
	p := plan(t, "mon-fri 09:00-17:00")
	p.Zone = ""
	text := calendar("DTSTART:20260105T110000Z|DURATION:PT1H", "DTSTART:20260105T160000|DURATION:PT1H")
	at := &ical.Options{Location: time.FixedZone("", 3*3600)}
	list, _, err := ical.Exceptions(t.Context(), strings.NewReader(text), p, date(2026, 1, 5), date(2026, 1, 5), at)
	require.NoError(t, err)
	require.Len(t, list, 1)
	require.Equal(t, "09:00-14:00,15:00-16:00", list[0].Hours.String())
}

func TestExceptionsEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("the file is too old")
	cancel(why)
	list, _, err := ical.Exceptions(ctx, strings.NewReader(calendar("DTSTART;VALUE=DATE:20260106")), plan(t, "mon 09:00-17:00"), date(2026, 1, 1), date(2026, 1, 9), nil)
	require.Equal(t, why, err)
	require.Nil(t, list)
}

// A context that ends while days are looked at ends the work.
func TestExceptionsAsksItsContext(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("the person left")
	keep := func(ical.Event) bool {
		cancel(why)
		return true
	}
	text := calendar("DTSTART;VALUE=DATE:00010101|RRULE:FREQ=DAILY;COUNT=1000000")
	list, _, err := ical.Exceptions(ctx, strings.NewReader(text), plan(t, "mon 09:00-17:00"), date(2026, 1, 1), date(2026, 1, 9), &ical.Options{Keep: keep})
	require.Equal(t, why, err)
	require.Nil(t, list)
}

// Keep sees each event and each changed time, and decides for both.
func TestCalendarKeep(t *testing.T) {
	text := calendar(
		"UID:a|SUMMARY:Week|CATEGORIES:x\\,y,z|CLASS:private|STATUS:tentative|DTSTART;VALUE=DATE:20260105|RRULE:FREQ=WEEKLY;COUNT=3|X-MICROSOFT-CDO-BUSYSTATUS:FREE",
		"UID:a|SUMMARY:Moved|RECURRENCE-ID;VALUE=DATE:20260112|DTSTART:20260113T100000|DURATION:PT1H|TRANSP:OPAQUE",
		"UID:b|SUMMARY:Off|DTSTART;VALUE=DATE:20260106|STATUS:CANCELLED")
	var seen []string
	keep := func(without string) *ical.Options {
		seen = nil
		return &ical.Options{Keep: func(e ical.Event) bool {
			seen = append(seen, fmt.Sprintf("%d %s %s %q %s %s %t %t %q", e.Line, e.UID, e.Summary, e.Categories, e.Status, e.Class, e.Transparent, e.AllDay, e.Property("x-microsoft-cdo-busystatus")))
			return e.Summary != without
		}}
	}
	got, _ := read(t, office, "2026-01-01", "2026-01-31", text, keep("Moved"))
	require.Equal(t, []string{"2026-01-05 closed (Week)", "2026-01-19 closed (Week)"}, got)
	require.Equal(t, []string{`4 a Week ["x,y" "z"] TENTATIVE PRIVATE true true ["FREE"]`, `15 a Moved []  PUBLIC false false []`}, seen)
	got, _ = read(t, office, "2026-01-01", "2026-01-31", text, keep("Week"))
	require.Equal(t, []string{"2026-01-13 09:00-10:00,11:00-17:00 (Moved)"}, got)
	require.Nil(t, ical.Event{}.Property("UID"))
}

func TestExceptionsReportsFaultsTogether(t *testing.T) {
	_, _, err := ical.Exceptions(t.Context(), strings.NewReader(calendar()), schedule.Plan{Zone: "Mars/Dust"}, date(2026, 1, 2), date(2026, 1, 1), nil)
	require.ErrorContains(t, err, "Mars/Dust")
	require.ErrorContains(t, err, "allowed are 1 to 3660 days")
}
