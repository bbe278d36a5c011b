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

func exceptions(t *testing.T, p schedule.Plan, from, to string, text string) []string {
	t.Helper()
	var a, b schedule.Date
	require.NoError(t, a.UnmarshalText([]byte(from)))
	require.NoError(t, b.UnmarshalText([]byte(to)))
	list, err := ical.Exceptions(t.Context(), strings.NewReader(text), p, a, b, nil)
	require.NoError(t, err)
	var written []string
	for _, e := range list {
		written = append(written, strings.TrimSuffix(fmt.Sprintf("%s %s (%s)", e.Date, e.Hours, e.Name), " ()"))
	}
	p.Exceptions = append(p.Exceptions, list...)
	require.NoError(t, p.Validate())
	return written
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
			require.Equal(t, tt.want, exceptions(t, plan(t, tt.plan), tt.from, tt.to, calendar(tt.events...)))
		})
	}
}

func TestFaults(t *testing.T) {
	for text, want := range map[string]string{
		"":      "",
		"hello": "calendar",
		"BEGIN:VCALENDAR\n" + strings.Repeat("BEGIN:X\n", 120_000):                                                 "calendar",
		"BEGIN:VCALENDAR\n" + strings.Repeat("X"+strings.Repeat(";A=1", 4_000)+":1\n", 6) + "END:":                 "calendar",
		"BEGIN:VCALENDAR\nBEGIN:VEVENT\n":                                                                          "",
		calendar("SUMMARY:No time"):                                                                                `DTSTART is missing (event "No time")`,
		calendar("DTSTART:tomorrow"):                                                                               `DTSTART: "tomorrow": want a date such as 20261225`,
		calendar("DTSTART;VALUE=DATE:20260230"):                                                                    `want a date such as`,
		calendar("DTSTART;TZID=W. Europe Standard Time:20260105T090000"):                                           `zone "W. Europe Standard Time": want an IANA name`,
		calendar("DTSTART;TZID=Local:20260105T090000"):                                                             `zone "Local": want an IANA name`,
		calendar("DTSTART:20260105T090000|DTEND:20260105T080000"):                                                  "DTEND is before DTSTART",
		calendar("DTSTART:20260105T090000|DTEND:21260105T080000"):                                                  "lasts more than 3660 days",
		calendar("DTSTART:20260105T090000|DURATION:1H"):                                                            `DURATION "1H"`,
		calendar("DTSTART:20260105T090000|DURATION:PT1D"):                                                          `DURATION "PT1D"`,
		calendar("DTSTART:20260105T090000|DURATION:P999999W"):                                                      `DURATION "P999999W"`,
		calendar("DTSTART:20260105T090000|RRULE:FREQ=SECONDLY"):                                                    "want one that recurs by days, weeks, months or years",
		calendar("DTSTART:20260105T090000|RRULE:FREQ=DAILY;BYHOUR=1,2"):                                            "want one that recurs by days",
		calendar("DTSTART:20260105T090000|RRULE:FREQ=DAILY;INTERVAL=4000"):                                         "an interval of 4000, allowed are 1000",
		calendar("DTSTART:20260105T090000|RRULE:FREQ=NEVER"):                                                       "undefined frequency",
		calendar("DTSTART:20260105T090000|RRULE:FREQ=DAILY|RRULE:FREQ=WEEKLY"):                                     "2 rules of recurrence, allowed is one",
		calendar("DTSTART:19690105T090000|RRULE:FREQ=DAILY"):                                                       "RRULE: begins in 1969, read are those from 1970 on",
		calendar("DTSTART:20260105T090000|RRULE:FREQ=DAILY;BYMONTHDAY=" + strings.Repeat("1,", 300) + "1"):         "RRULE of 623 bytes, allowed are 512",
		calendar("DTSTART:20260105T090000|EXDATE:never"):                                                           `EXDATE: "never"`,
		calendar("DTSTART:20260105T090000|RDATE;VALUE=PERIOD:20260105T090000/PT1H"):                                `RDATE: "20260105T090000/PT1H"`,
		calendar("DTSTART:20260105T090000|SUMMARY:" + strings.Repeat("x", 20_000)):                                 "a line has more than 16384 bytes",
		strings.Repeat("\n", ical.MaxSize+1):                                                                       "more than 1048576 bytes",
		calendar(strings.Split(strings.Repeat("DTSTART:20260105T090000|RRULE:FREQ=YEARLY\n", 501), "\n")[:501]...): "more than 500 rules",
		calendar("DTSTART;VALUE=DATE:20260105|DURATION:P3650D|RRULE:FREQ=DAILY"):                                   "happen on more than 100000 days",
		calendar(meetings(25)...):                                                                                  "26 times of being open are left, allowed are 24",
	} {
		list, err := ical.Exceptions(t.Context(), strings.NewReader(text), plan(t, "mon-sun 00:00-24:00"), date(2026, 1, 1), date(2035, 12, 31), nil)
		if want == "" {
			require.True(t, err == nil || strings.Contains(err.Error(), "calendar"), text)
			continue
		}
		require.ErrorIs(t, err, presence.ErrInvalid, want)
		require.ErrorContains(t, err, want)
		require.Nil(t, list)
	}
	_, err := ical.Exceptions(t.Context(), strings.NewReader(calendar()), plan(t, "mon 09:00-17:00"), date(2026, 1, 2), date(2026, 1, 1), nil)
	require.ErrorContains(t, err, "allowed are 1 to 3660 days")
	_, err = ical.Exceptions(t.Context(), strings.NewReader(calendar()), plan(t, "mon 09:00-17:00"), date(2026, 1, 2), date(2126, 1, 1), nil)
	require.ErrorContains(t, err, "allowed are 1 to 3660 days")
	_, err = ical.Exceptions(t.Context(), strings.NewReader(calendar()), schedule.Plan{Zone: "Mars/Dust"}, date(2026, 1, 2), date(2026, 1, 3), nil)
	require.ErrorContains(t, err, "Mars/Dust")
}

func meetings(n int) (list []string) {
	for i := range n {
		list = append(list, fmt.Sprintf("DTSTART:20260105T%02d%02d00|DURATION:PT5M", i/2, 10+i%2*30))
	}
	return list
}

func date(year int, month time.Month, day int) schedule.Date {
	return schedule.Date{Year: year, Month: month, Day: day}
}

// Names are texts of strangers: characters that people cannot read are left
// out.
func TestNames(t *testing.T) {
	long := strings.Repeat("ü", 100)
	got := exceptions(t, plan(t, "mon 09:00-17:00"), "2026-01-01", "2026-01-31",
		calendar("DTSTART;VALUE=DATE:20260105|SUMMARY:a\\nb \x7f c", "DTSTART;VALUE=DATE:20260106|SUMMARY:"+long, "DTSTART;VALUE=DATE:20260107|SUMMARY:x\xffy"))
	require.Equal(t, []string{"2026-01-05 closed (a b c)", "2026-01-06 closed (" + strings.Repeat("ü", 64) + ")", "2026-01-07 closed (xy)"}, got)
}

// What is imported closes what the hours had open.
func TestImportedHours(t *testing.T) {
	p := plan(t, "mon-fri 09:00-17:00; zone Europe/Berlin")
	list, err := ical.Exceptions(t.Context(), strings.NewReader(calendar("DTSTART;VALUE=DATE:20260106|SUMMARY:Epiphany")), p, date(2026, 1, 1), date(2026, 12, 31), nil)
	require.NoError(t, err)
	p.Exceptions = append(p.Exceptions, list...)
	hours, err := schedule.New(p, nil)
	require.NoError(t, err)
	open, why := hours.Open(time.Date(2026, 1, 6, 11, 0, 0, 0, time.UTC))
	require.False(t, open)
	require.Equal(t, "closed: tue 2026-01-06 is closed (Epiphany)", why.String())
}

// No file panics or takes for ever, and what is read makes valid hours.
func FuzzExceptions(f *testing.F) {
	f.Add(calendar("DTSTART;VALUE=DATE:20261225|DTEND;VALUE=DATE:20261226|SUMMARY:Christmas\\, first day"))
	f.Add(calendar("UID:x|DTSTART;TZID=America/New_York:20260302T090000|DURATION:PT1H|RRULE:FREQ=WEEKLY;BYDAY=MO,-1FR;UNTIL=20270101T000000Z|EXDATE:20260302T090000,20260309T090000"))
	f.Add(calendar("DTSTART:20260105T080000Z|DTEND:20260109T160000Z|RRULE:FREQ=MONTHLY;BYSETPOS=-1;BYDAY=MO,TU|STATUS:CANCELLED|RECURRENCE-ID:20260105T080000Z"))
	f.Add("BEGIN:VCALENDAR\nX;A=\"b\nEND:VCALENDAR")
	f.Fuzz(func(t *testing.T, text string) {
		p := plan(t, "mon-fri 09:00-12:00,13:00-17:00; sat 22:00-06:00; 2026-01-06 20:00-19:00; zone Europe/Berlin")
		list, err := ical.Exceptions(t.Context(), strings.NewReader(text), p, date(2026, 1, 1), date(2026, 12, 31), nil)
		if err != nil {
			require.ErrorIs(t, err, presence.ErrInvalid)
			return
		}
		p.Exceptions = append(p.Exceptions, list...)
		require.NoError(t, p.Validate())
	})
}

// The zone of a place that has no name is an option. It is that of times without
// a zone as well.
func TestExceptionsLocation(t *testing.T) {
	p := plan(t, "mon-fri 09:00-17:00")
	p.Zone = ""
	text := calendar("DTSTART:20260105T110000Z|DURATION:PT1H", "DTSTART:20260105T160000|DURATION:PT1H")
	at := &ical.Options{Location: time.FixedZone("", 3*3600)}
	list, err := ical.Exceptions(t.Context(), strings.NewReader(text), p, date(2026, 1, 5), date(2026, 1, 5), at)
	require.NoError(t, err)
	require.Len(t, list, 1)
	require.Equal(t, "09:00-14:00,15:00-16:00", list[0].Hours.String())
}

func TestExceptionsEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("the file is too old")
	cancel(why)
	list, err := ical.Exceptions(ctx, strings.NewReader(calendar("DTSTART;VALUE=DATE:20260106")), plan(t, "mon 09:00-17:00"), date(2026, 1, 1), date(2026, 1, 9), nil)
	require.Equal(t, why, err)
	require.Nil(t, list)
}

func TestExceptionsReportsFaultsTogether(t *testing.T) {
	_, err := ical.Exceptions(t.Context(), strings.NewReader(calendar()), schedule.Plan{Zone: "Mars/Dust"}, date(2026, 1, 2), date(2026, 1, 1), nil)
	require.ErrorContains(t, err, "Mars/Dust")
	require.ErrorContains(t, err, "allowed are 1 to 3660 days")
}
