package ical_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/presence-go/presence/adapters/ical"
)

const office = "mon-fri 09:00-17:00; zone Europe/Berlin"

// asked is a calendar of testdata and what is expected of it.
type asked struct {
	name, plan, from, to string
	keep                 func(ical.Event) bool
	want                 []string
	skipped              []string
}

func (a asked) check(t *testing.T, folder string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", folder, a.name+".ics"))
	require.NoError(t, err)
	got, skipped := read(t, a.plan, a.from, a.to, string(text), &ical.Options{Keep: a.keep})
	require.Equal(t, a.want, got)
	require.Equal(t, a.skipped, skipped)
}

// read returns the exceptions and what was skipped, as text.
func read(t testing.TB, hours, from, to, text string, opts *ical.Options) (got, skipped []string) {
	t.Helper()
	p := plan(t, hours)
	list, rest, err := ical.Exceptions(t.Context(), strings.NewReader(text), p, day(t, from), day(t, to), opts)
	require.NoError(t, err)
	for _, e := range list {
		line := e.Date.String() + " " + e.Hours.String()
		if e.Name != "" {
			line += " (" + e.Name + ")"
		}
		got = append(got, line)
	}
	for _, s := range rest {
		skipped = append(skipped, s.String())
	}
	p.Exceptions = append(p.Exceptions, list...)
	require.NoError(t, p.Validate())
	return got, skipped
}

// Fault 25: a line that cannot be read costs only its own event. Fault 26: what
// is read closes the times that the calendar means.
func TestCalendarCases(t *testing.T) {
	afternoon := []string{"2026-09-17 09:00-13:00,14:00-17:00 (Fire inspection)"}
	for _, tt := range []asked{
		{"zone-by-description", office, "2026-09-14", "2026-09-18", nil, afternoon, nil},
		{"zone-of-windows", office, "2026-09-14", "2026-09-18", nil, afternoon, nil},
		{"zone-of-windows-alone", office, "2026-09-14", "2026-09-18", nil, afternoon, nil},
		{"zone-of-its-own", office, "2026-09-14", "2026-09-18", nil, afternoon, nil},
		{"zone-by-offset", office, "2026-01-05", "2026-01-09", nil, []string{"2026-01-05 09:00-10:00,11:00-17:00"}, nil},
		{"zone-empty", office, "2026-01-05", "2026-01-09", nil, []string{"2026-01-06 09:00-10:00,11:00-17:00"}, nil},
		{"zone-unknown", office, "2026-01-05", "2026-01-09", nil, []string{"2026-01-06 closed (Epiphany)"},
			[]string{`line 7: DTSTART: zone "Middle Earth" is unknown; Options.Zones can name it (event "lost")`}},
		{"rdate-period", office, "2026-01-05", "2026-01-16", nil, []string{
			"2026-01-05 09:00-10:00,11:00-17:00", "2026-01-07 09:00-12:00,14:00-17:00", "2026-01-08 09:30-17:00"}, nil},
		{"rule-by-hour", office, "2026-01-05", "2026-01-16", nil, []string{"2026-01-05 09:00-10:00,11:00-17:00", "2026-01-12 09:00-10:00,11:00-17:00"}, nil},
		{"two-calendars", office, "2026-01-05", "2026-01-16", nil, []string{"2026-01-06 closed", "2026-01-07 closed"}, nil},
		{"until-is-a-date", office, "2026-01-05", "2026-01-30", nil, []string{
			"2026-01-05 09:00-10:00,11:00-17:00", "2026-01-12 09:00-10:00,11:00-17:00", "2026-01-19 09:00-10:00,11:00-17:00"}, nil},
		{"exrule", office, "2026-01-05", "2026-01-23", nil, []string{"2026-01-12 closed (Cleaning)"}, nil},
		{"begun-in-1969", office, "2026-01-01", "2027-01-31", nil, []string{"2026-01-01 closed (New Year)", "2027-01-01 closed (New Year)"}, nil},
		{"event-without-start", office, "2026-01-01", "2026-01-31", nil, []string{"2026-01-06 closed (Epiphany)"},
			[]string{`line 4: VEVENT: DTSTART is missing (event "plan")`}},
		{"observances", office, "2026-05-01", "2026-05-31", nil, []string{"2026-05-14 closed (Ascension)", "2026-05-20 closed (World Bee Day)"}, nil},
		{"observances", office, "2026-05-01", "2026-05-31", func(e ical.Event) bool {
			return !e.Transparent || e.AllDay && e.Categories[0] != "Observance"
		}, []string{"2026-05-14 closed (Ascension)"}, nil},
		{"hour-across-the-autumn-change", "mon-sun 00:00-24:00; zone Europe/Berlin", "2026-10-25", "2026-10-25", nil, []string{"2026-10-25 00:00-01:59,03:00-24:00"}, nil},
		{"lower-case", office, "2026-01-05", "2026-01-09", nil, []string{"2026-01-06 closed (epiphany)"}, nil},
		{"method-cancel", office, "2026-01-05", "2026-01-16", nil, nil, nil},
		{"rule-ends-with-semicolon", office, "2026-01-05", "2026-01-20", nil, []string{"2026-01-06 closed"}, nil},
		{"two-rules", office, "2026-01-05", "2026-03-31", nil, []string{"2026-01-06 closed", "2026-01-13 closed", "2026-02-06 closed"}, nil},
		{"exdate-empty", office, "2026-01-05", "2026-01-09", nil, []string{"2026-01-06 closed"}, nil},
		{"end-before-start", office, "2026-01-05", "2026-01-09", nil, []string{"2026-01-06 closed"}, nil},
		{"hourly", office, "2026-01-05", "2026-01-09", nil, []string{"2026-01-06 closed (Epiphany)"},
			[]string{`line 9: RRULE: FREQ=HOURLY has several times a day, read is one (event "ping")`}},
	} {
		t.Run(tt.name, func(t *testing.T) { tt.check(t, "cases") })
	}
}

// The calendars of makers are read as the makers mean them.
func TestCalendarMakers(t *testing.T) {
	for _, tt := range []asked{
		// The rule ends at 11:00 of 13 April, in summer time. One time is excepted,
		// and one is moved to another day.
		{"outlook-desktop", office, "2026-03-01", "2026-04-30", func(e ical.Event) bool { return e.Class == "PUBLIC" }, []string{
			"2026-03-09 09:00-11:00,12:00-17:00 (Till count)",
			"2026-03-17 09:00-14:00,15:00-17:00 (Till count)",
			"2026-03-30 09:00-11:00,12:00-17:00 (Till count)",
			"2026-04-03 closed (Good Friday)",
			"2026-04-06 09:00-11:00,12:00-17:00 (Till count)",
			"2026-04-13 09:00-11:00,12:00-17:00 (Till count)",
		}, nil},
		// Whole days are written as midnights, in a zone or in UTC. Boston is six
		// hours behind.
		{"exchange", office, "2026-07-01", "2026-07-31", nil, []string{
			"2026-07-03 09:00-15:00,16:00-17:00 (Call with Boston)",
			"2026-07-10 09:00-14:00,14:30-17:00 (Call with Boston)",
			"2026-07-13 closed (Works holiday)",
			"2026-07-14 closed (Works holiday)",
			"2026-07-16 closed (Inventory)",
			"2026-07-24 09:00-15:00,16:00-17:00 (Call with Boston)",
			"2026-07-31 09:00-15:00,16:00-17:00 (Call with Boston)",
		}, nil},
		// A changed time stands before its series, which continues over the change of
		// the clocks.
		{"google", office, "2026-10-01", "2026-11-15", func(e ical.Event) bool {
			return !strings.HasPrefix(strings.Join(e.Property("Description"), ""), "Observance")
		}, []string{
			"2026-10-03 closed (Unity Day)",
			"2026-10-06 10:30-17:00 (Team breakfast)",
			"2026-10-21 09:00-15:00,16:30-17:00 (Team breakfast)",
			"2026-10-28 09:00-14:00,15:00-17:00 (Window cleaner)",
			"2026-11-03 10:30-17:00 (Team breakfast)",
		}, nil},
		// A flight ends in another zone. A time without a zone is in that of the
		// hours, whatever zone the calendar is shown in.
		{"apple", office, "2026-01-01", "2026-03-31", nil, []string{
			"2026-01-30 09:00-15:00 (Month’s end)",
			"2026-02-05 09:00-12:00,13:00-17:00 (Lunch, wherever)",
			"2026-02-10 09:00-13:00,15:30-17:00 (Flight)",
			"2026-02-16 closed (Carnival)",
			"2026-02-17 closed (Carnival)",
			"2026-02-27 09:00-10:00,11:00-17:00 (Month’s end)",
			"2026-03-31 09:00-15:00 (Month’s end)",
		}, nil},
		// Notes writes each time as a period, and calls one off in a message of its
		// own.
		{"domino", office, "2026-05-01", "2026-05-31", nil, []string{
			"2026-05-04 09:00-10:00,11:00-17:00 (Safety round)",
			"2026-05-18 09:00-10:00,12:00-17:00 (Safety round)",
			"2026-05-26 09:00-10:00,11:00-17:00 (Safety round)",
		}, []string{`line 63: METHOD: REPLY: it is an answer to an invitation (event "fire-drill-Lotus_Notes_Generated")`}},
		// Excepted and changed times are named in UTC. The count has the excepted
		// time and the weekend.
		{"thunderbird", office, "2026-03-20", "2026-04-10", nil, []string{
			"2026-03-23 09:30-17:00 (Stand-up)",
			"2026-03-24 09:00-16:00,16:30-17:00 (Stand-up)",
			"2026-03-26 09:30-17:00 (Stand-up)",
			"2026-03-27 09:30-17:00 (Stand-up)",
			"2026-04-01 09:00-14:00,14:30-17:00 (Stand-up)",
			"2026-04-03 10:00-17:00 (Night shift ends)",
		}, nil},
		// A zone is named by its places. A changed time moves all later ones.
		{"zimbra", office, "2026-06-01", "2026-07-05", nil, []string{
			"2026-06-03 09:00-15:00,16:00-17:00 (Reading hour)",
			"2026-06-09 closed (Outing)",
			"2026-06-10 09:00-15:00,16:00-17:00 (Reading hour)",
			"2026-06-18 09:00-10:00,10:30-17:00 (Reading hour)",
			"2026-06-25 09:00-10:00,10:30-17:00 (Reading hour)",
			"2026-07-02 09:00-10:00,10:30-17:00 (Reading hour)",
		}, []string{`line 78: RRULE: FREQ=MINUTELY has several times a day, read is one (event "5b8f1c90-3333-4a6b-a1c0-zimbra")`}},
		{"evolution", office, "2026-09-01", "2026-09-30", nil, []string{
			"2026-09-01 09:00-13:00,14:00-17:00 (Rehearsal)",
			"2026-09-04 closed (Kermis)",
			"2026-09-15 09:00-13:00,14:00-17:00 (Rehearsal)",
		}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) { tt.check(t, "makers") })
	}
}
