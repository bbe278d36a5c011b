package ical_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/presence-go/presence/adapters/ical"
	"github.com/presence-go/presence/schedule"
)

// An entry is one way in which RFC 5545 or RFC 2445 lets a calendar set when an
// event is: a property, a parameter or a form, with an example. The example is
// read exactly, or it is in the list of what was skipped, with the reason.
type entry struct {
	of     string // what the example shows
	head   string // lines of the calendar
	events string // lines of an event, separated by | and events by ||
	want   string // the closed times, in the zone of the hours
	why    string // of skipping
}

const (
	one   = "DTSTART:20260106T100000|DURATION:PT1H" // a plain event, closing a Tuesday's 10:00-11:00
	six   = "01-06 10:00-11:00"
	whole = "DTSTART;VALUE=DATE:20260106"
	week  = one + "|RRULE:FREQ=WEEKLY;COUNT=3"
	three = "01-06 10:00-11:00, 01-13 10:00-11:00, 01-20 10:00-11:00"
	lord  = "BEGIN:VTIMEZONE|TZID:Shop|BEGIN:STANDARD|DTSTART:20200101T000000|TZOFFSETFROM:+0300|TZOFFSETTO:+0300|END:STANDARD|END:VTIMEZONE|"
)

var inventory = []entry{
	// The calendar.
	{"BEGIN and END", "", one, six, ""},
	{"VERSION", "VERSION:1.0|", one, six, ""},
	{"PRODID", "PRODID;X-A=\"b:c\":-//x//EN|", one, six, ""},
	{"CALSCALE", "CALSCALE:gregorian|", one, six, ""},
	{"CALSCALE of other years", "CALSCALE:HEBREW|", one, "", "CALSCALE: HEBREW is another calendar"},
	{"METHOD:PUBLISH", "METHOD:PUBLISH|", one, six, ""},
	{"METHOD:REQUEST", "METHOD:request|", one, six, ""},
	{"METHOD without a value", "METHOD:|", one, six, ""},
	{"METHOD:ADD", "METHOD:ADD|", one, six, ""},
	{"METHOD:CANCEL", "METHOD:CANCEL|", one, "", ""},
	{"METHOD:CANCEL without DTSTART", "METHOD:CANCEL|", "UID:x", "", ""},
	{"METHOD:REPLY", "METHOD:REPLY|", one, "", "METHOD: REPLY: it is an answer to an invitation"},
	{"METHOD:REFRESH", "METHOD:REFRESH|", one, "", "METHOD: REFRESH: it asks for an event"},
	{"METHOD:COUNTER", "METHOD:COUNTER|", one, "", "METHOD: COUNTER: it proposes another time"},
	{"METHOD:DECLINECOUNTER", "METHOD:DECLINECOUNTER|", one, "", "METHOD: DECLINECOUNTER: it declines another time"},
	{"METHOD of others", "METHOD:X-SWAP|", one, "", "METHOD: X-SWAP: it is unknown"},
	{"X- of the calendar", "X-WR-TIMEZONE:Asia/Tokyo|X-WR-CALNAME:Shop|", one, six, ""},
	{"IANA property of the calendar", "REFRESH-INTERVAL;VALUE=DURATION:PT12H|", one, six, ""},

	// Beginnings.
	{"DTSTART with a date", "", whole, "01-06", ""},
	{"DTSTART without a zone", "", one, six, ""},
	{"DTSTART in UTC", "", "DTSTART:20260106T090000Z|DURATION:PT1H", six, ""},
	{"DTSTART in UTC with TZID", "", "DTSTART;TZID=Asia/Tokyo:20260106T090000Z|DURATION:PT1H", six, ""},
	{"DTSTART missing", "", "SUMMARY:Idea", "", "VEVENT: DTSTART is missing"},
	{"DTSTART without a value", "", "DTSTART", "", "DTSTART: it has no value"},
	{"DTSTART empty", "", "DTSTART:", "", `DTSTART: "" is no date such as 20261225`},
	{"DTSTART in words", "", "DTSTART:tomorrow", "", `DTSTART: "tomorrow" is no date such as 20261225`},
	{"DTSTART with an offset", "", "DTSTART:20260106T100000-0800", "", "is no date such as 20261225"},
	{"DTSTART on no day", "", "DTSTART;VALUE=DATE:20260230", "", `"20260230" does not exist`},
	{"DTSTART at no time", "", "DTSTART:20260106T250000", "", `"20260106T250000" does not exist`},
	{"DTSTART in a leap second", "", "DTSTART:20260106T095960|DURATION:PT1S", "01-06 09:59-10:00", ""},
	{"DTSTART twice", "", one + "|DTSTART:20260107T100000", "", "DTSTART: it occurs twice"},
	{"DTSTART twice the same", "", one + "|DTSTART:20260106T100000", six, ""},
	{"DTSTART before 1970", "", "DTSTART:19600105T100000|DURATION:PT1H|RRULE:FREQ=DAILY;INTERVAL=6;UNTIL=20260110", "01-06 10:00-11:00", ""},
	{"DTSTART in the year 9999", "", "DTSTART:99991231T100000|DURATION:P9999D|RRULE:FREQ=DAILY", "", ""},
	{"DTSTART in a skipped hour", "", "DTSTART:20260329T023000|DURATION:PT1H", "03-29 03:30-04:30", ""},
	{"DTSTART in a repeated hour", "", "DTSTART:20251026T023000|DURATION:PT30M", "10-26 01:59-03:00", ""},

	// Ends.
	{"DTEND with a date", "", whole + "|DTEND;VALUE=DATE:20260108", "01-06, 01-07", ""},
	{"DTEND equal to a date", "", whole + "|DTEND;VALUE=DATE:20260106", "01-06", ""},
	{"DTEND before a date", "", whole + "|DTEND;VALUE=DATE:20260105", "01-06", ""},
	{"DTEND with a time", "", "DTSTART:20260106T100000|DTEND:20260106T110000", six, ""},
	{"DTEND in another zone", "", "DTSTART:20260106T100000|DTEND;TZID=Asia/Tokyo:20260106T190000", six, ""},
	{"DTEND equal to a time", "", "DTSTART:20260106T100000|DTEND:20260106T100000", "", ""},
	{"DTEND before a time", "", "DTSTART:20260106T100000|DTEND:20260106T090000", "", "DTEND: it is before DTSTART"},
	{"DTEND missing for a time", "", "DTSTART:20260106T100000", "", ""},
	{"DTEND empty", "", whole + "|DTEND:", "01-06", ""},
	{"DTEND with a midnight for a date", "", whole + "|DTEND:20260108T000000", "01-06, 01-07", ""},
	{"DTEND with a time for a date", "", whole + "|DTEND:20260108T120000", "", "DTEND: it is not of the same kind as DTSTART"},
	{"DTEND with a date for a time", "", "DTSTART:20260106T100000|DTEND;VALUE=DATE:20260107", "", "DTEND: it is not of the same kind as DTSTART"},
	{"DTEND is exact for later times", "", "DTSTART;TZID=Europe/Berlin:20260321T220000|DTEND;TZID=Europe/Berlin:20260322T060000|RRULE:FREQ=WEEKLY;COUNT=2",
		"03-21 22:00-24:00, 03-22 00:00-06:00, 03-28 22:00-24:00, 03-29 00:00-07:00", ""},
	{"DURATION", "", one, six, ""},
	{"DURATION in days", "", whole + "|DURATION:P2D", "01-06, 01-07", ""},
	{"DURATION in weeks", "", whole + "|DURATION:+P1W", "01-06, 01-07, 01-08, 01-09, 01-10, 01-11, 01-12", ""},
	{"DURATION in hours for a date", "", whole + "|DURATION:PT48H", "01-06, 01-07", ""},
	{"DURATION in part of a day for a date", "", whole + "|DURATION:PT36H", "", "DURATION: \"PT36H\" is not in days"},
	{"DURATION of nothing for a date", "", whole + "|DURATION:P0D", "01-06", ""},
	{"DURATION of days and hours", "", "DTSTART:20260106T100000|DURATION:P1DT2H0M0S", "01-06 10:00-24:00, 01-07 00:00-12:00", ""},
	{"DURATION in seconds", "", "DTSTART:20260106T100010|DURATION:PT70S", "01-06 10:00-10:02", ""},
	{"DURATION below zero", "", "DTSTART:20260106T100000|DURATION:-PT1H", "", "is a length below zero"},
	{"DURATION in words", "", "DTSTART:20260106T100000|DURATION:1H", "", `DURATION: "1H" is no length such as P1D`},
	{"DURATION without a number", "", "DTSTART:20260106T100000|DURATION:PTH", "", `DURATION: "PTH" is no length such as P1D`},
	{"DURATION of nothing at all", "", "DTSTART:20260106T100000|DURATION:P", "", `DURATION: "P" is no length such as P1D`},
	{"DURATION empty", "", "DTSTART:20260106T100000|DURATION:", "", ""},
	{"DURATION beside an equal DTEND", "", one + "|DTEND:20260106T110000", six, ""},
	{"DURATION beside another DTEND", "", one + "|DTEND:20260106T120000", "", "DURATION: DTEND says something else"},
	{"DURATION counts days on the clock", "", "DTSTART;TZID=Europe/Berlin:20260328T120000|DURATION:P1D", "03-28 12:00-24:00, 03-29 00:00-12:00", ""},
	{"DURATION counts hours exactly", "", "DTSTART;TZID=Europe/Berlin:20260328T120000|DURATION:PT24H", "03-28 12:00-24:00, 03-29 00:00-13:00", ""},

	// Status, transparency and revisions.
	{"STATUS:CONFIRMED", "", one + "|STATUS:confirmed", six, ""},
	{"STATUS:TENTATIVE", "", one + "|STATUS:TENTATIVE", six, ""},
	{"STATUS:CANCELLED", "", one + "|STATUS:Cancelled", "", ""},
	{"STATUS of others", "", one + "|STATUS:X-MAYBE", six, ""},
	{"STATUS twice", "", one + "|STATUS:CONFIRMED|STATUS:CANCELLED", "", "STATUS: it occurs twice"},
	{"TRANSP:OPAQUE", "", one + "|TRANSP:OPAQUE", six, ""},
	{"TRANSP:TRANSPARENT", "", one + "|TRANSP:TRANSPARENT", six, ""},
	{"CLASS", "", one + "|CLASS:CONFIDENTIAL", six, ""},
	{"UID", "", "UID:a|" + one + " || UID:b|" + whole, "01-06", ""},
	{"UID missing", "", "UID:|" + one + " || UID:|DTSTART;VALUE=DATE:20260107", six + ", 01-07", ""},
	{"SEQUENCE", "", "UID:a|SEQUENCE:2|" + one + " || UID:a|SEQUENCE:1|" + whole, six, ""},
	{"SEQUENCE missing is 0", "", "UID:a|" + whole + " || UID:a|SEQUENCE:1|" + one, six, ""},
	{"SEQUENCE in words", "", one + "|SEQUENCE:first", "", `SEQUENCE: "first" is no number`},
	{"DTSTAMP", "", "UID:a|DTSTAMP:20260103T000000Z|" + one + " || UID:a|DTSTAMP:20260102T000000Z|" + whole, six, ""},
	{"LAST-MODIFIED", "", "UID:a|LAST-MODIFIED:20260102T000000Z|" + whole + " || UID:a|LAST-MODIFIED:20260103T000000Z|" + one, six, ""},
	{"CREATED", "", one + "|CREATED:20200101T000000Z", six, ""},
	{"a cancelled revision", "", "UID:a|SEQUENCE:1|" + one + " || UID:a|SEQUENCE:2|STATUS:CANCELLED", "", ""},
	{"an older cancelled revision", "", "UID:a|SEQUENCE:3|" + one + " || UID:a|SEQUENCE:2|STATUS:CANCELLED", six, ""},
	{"a cancelled revision of the same number", "", "UID:a|LAST-MODIFIED:20260105T000000Z|" + one + " || UID:a|STATUS:CANCELLED", "", ""},
	{"a cancelled revision of an earlier message", "", "UID:a|DTSTAMP:20260105T000000Z|" + one + " || UID:a|DTSTAMP:20260104T000000Z|STATUS:CANCELLED", six, ""},
	{"a revision that cannot be read", "", "UID:a|SEQUENCE:2|" + one + "|RRULE:FREQ=HOURLY || UID:a|SEQUENCE:1|" + whole, "", "FREQ=HOURLY has several times a day"},
	{"two revisions of which neither is newer", "", "UID:a|" + one + " || UID:a|DTSTART;VALUE=DATE:20260108", six + ", 01-08", ""},

	// Recurrence.
	{"RRULE", "", week, three, ""},
	{"RRULE twice", "", one + "|RRULE:FREQ=WEEKLY;COUNT=2|RRULE:FREQ=DAILY;COUNT=2", "01-06 10:00-11:00, 01-07 10:00-11:00, 01-13 10:00-11:00", ""},
	{"RRULE empty", "", one + "|RRULE:", six, ""},
	{"RRULE without a value", "", one + "|RRULE;FREQ=DAILY", "", "RRULE: it has no value"},
	{"RRULE with parameters", "", one + "|RRULE;X-MAKER=\"a;b\":FREQ=WEEKLY;COUNT=3", three, ""},
	{"RRULE that does not name DTSTART", "", one + "|RRULE:FREQ=WEEKLY;BYDAY=TH;COUNT=2", "01-06 10:00-11:00, 01-08 10:00-11:00", ""},
	{"RRULE of a later version", "", one + "|RRULE:FREQ=WEEKLY;BYEASTER=1", "", "RRULE: the part BYEASTER is unknown"},
	{"RRULE with a part of a maker", "", one + "|RRULE:FREQ=WEEKLY;X-PART=1", "", "RRULE: the part X-PART is unknown"},
	{"RRULE with a part twice", "", one + "|RRULE:FREQ=WEEKLY;COUNT=1;COUNT=2", "", "RRULE: COUNT occurs twice"},
	{"RRULE of vCalendar", "", one + "|RRULE:W1 TU #3", "", "RRULE: the part W1 TU #3 is unknown"},
	{"FREQ missing", "", one + "|RRULE:COUNT=2", "", "RRULE: FREQ is missing"},
	{"FREQ=SECONDLY", "", one + "|RRULE:FREQ=SECONDLY", "", "FREQ=SECONDLY has several times a day"},
	{"FREQ=MINUTELY", "", one + "|RRULE:FREQ=MINUTELY", "", "FREQ=MINUTELY has several times a day"},
	{"FREQ=HOURLY", "", one + "|RRULE:FREQ=HOURLY", "", "FREQ=HOURLY has several times a day"},
	{"FREQ=DAILY", "", one + "|RRULE:FREQ=DAILY;COUNT=2", "01-06 10:00-11:00, 01-07 10:00-11:00", ""},
	{"FREQ=WEEKLY", "", one + "|RRULE:FREQ=WEEKLY;COUNT=2", "01-06 10:00-11:00, 01-13 10:00-11:00", ""},
	{"FREQ=MONTHLY", "", one + "|RRULE:FREQ=MONTHLY;COUNT=2", "01-06 10:00-11:00, 02-06 10:00-11:00", ""},
	{"FREQ=MONTHLY on a day that some months lack", "", "DTSTART;VALUE=DATE:20260131|RRULE:FREQ=MONTHLY;COUNT=2", "01-31, 03-31", ""},
	{"FREQ=YEARLY", "", "DTSTART;VALUE=DATE:20200106|RRULE:FREQ=YEARLY", "01-06", ""},
	{"FREQ=YEARLY on a leap day", "", "DTSTART;VALUE=DATE:20240229|RRULE:FREQ=YEARLY", "", ""},
	{"FREQ unknown", "", one + "|RRULE:FREQ=NEVER", "", "FREQ=NEVER is unknown"},
	{"UNTIL with a date", "", one + "|RRULE:FREQ=WEEKLY;UNTIL=20260113", "01-06 10:00-11:00, 01-13 10:00-11:00", ""},
	{"UNTIL without a zone", "", one + "|RRULE:FREQ=WEEKLY;UNTIL=20260113T095959", six, ""},
	{"UNTIL in UTC", "", one + "|RRULE:FREQ=WEEKLY;UNTIL=20260113T090000Z", "01-06 10:00-11:00, 01-13 10:00-11:00", ""},
	{"UNTIL in UTC for a date", "", whole + "|RRULE:FREQ=WEEKLY;UNTIL=20260112T230000Z", "01-06, 01-13", ""},
	{"UNTIL at midnight in UTC for a date", "", whole + "|RRULE:FREQ=WEEKLY;UNTIL=20260113T000000Z", "01-06, 01-13", ""},
	{"UNTIL before DTSTART", "", one + "|RRULE:FREQ=WEEKLY;UNTIL=20250101", six, ""},
	{"UNTIL in words", "", one + "|RRULE:FREQ=WEEKLY;UNTIL=never", "", "is no date such as 20261225"},
	{"COUNT", "", week, three, ""},
	{"COUNT of nothing", "", one + "|RRULE:FREQ=WEEKLY;COUNT=0", "", "COUNT=0 is not a number from 1"},
	{"COUNT beside UNTIL", "", one + "|RRULE:FREQ=WEEKLY;COUNT=2;UNTIL=20260120", "", "it has COUNT and UNTIL"},
	{"COUNT begun long before", "", "DTSTART;VALUE=DATE:20250101|RRULE:FREQ=DAILY;COUNT=371", "01-05, 01-06", ""},
	{"INTERVAL", "", one + "|RRULE:FREQ=WEEKLY;INTERVAL=2;COUNT=2", "01-06 10:00-11:00, 01-20 10:00-11:00", ""},
	{"INTERVAL of nothing", "", one + "|RRULE:FREQ=WEEKLY;INTERVAL=0", "", "INTERVAL=0 is not a number from 1"},
	{"INTERVAL beyond calendars", "", one + "|RRULE:FREQ=YEARLY;INTERVAL=100000", six, ""},
	{"BYSECOND", "", one + "|RRULE:FREQ=DAILY;COUNT=2;BYSECOND=0", "01-06 10:00-11:00, 01-07 10:00-11:00", ""},
	{"BYSECOND with several", "", one + "|RRULE:FREQ=DAILY;BYSECOND=0,30", "", "BYSECOND with 2 values has several times a day"},
	{"BYMINUTE", "", one + "|RRULE:FREQ=DAILY;COUNT=2;BYMINUTE=30", "01-06 10:00-11:30", ""},
	{"BYMINUTE with several", "", one + "|RRULE:FREQ=DAILY;BYMINUTE=0,30", "", "BYMINUTE with 2 values has several times a day"},
	{"BYHOUR", "", one + "|RRULE:FREQ=DAILY;COUNT=2;BYHOUR=9", "01-06 10:00-11:00, 01-07 09:00-10:00", ""},
	{"BYHOUR with several", "", one + "|RRULE:FREQ=DAILY;BYHOUR=9,17", "", "BYHOUR with 2 values has several times a day"},
	{"BYHOUR twice the same", "", one + "|RRULE:FREQ=DAILY;COUNT=2;BYHOUR=10,10", "01-06 10:00-11:00, 01-07 10:00-11:00", ""},
	{"BYHOUR for a date", "", whole + "|RRULE:FREQ=DAILY;COUNT=2;BYHOUR=9,17", "01-06, 01-07", ""},
	{"BYHOUR beyond a day", "", one + "|RRULE:FREQ=DAILY;BYHOUR=24", "", "BYHOUR=24 is not from 0 to 23"},
	{"BYDAY", "", one + "|RRULE:FREQ=WEEKLY;BYDAY=TU,WE;COUNT=3", "01-06 10:00-11:00, 01-07 10:00-11:00, 01-13 10:00-11:00", ""},
	{"BYDAY with a number", "", whole + "|RRULE:FREQ=MONTHLY;BYDAY=-1FR,+2MO;COUNT=3", "01-06, 01-12, 01-30", ""},
	{"BYDAY with a number in a year", "", whole + "|RRULE:FREQ=YEARLY;BYDAY=2MO;COUNT=2", "01-06, 01-12", ""},
	{"BYDAY with a number in a week", "", whole + "|RRULE:FREQ=WEEKLY;BYDAY=2MO", "", "a number in BYDAY is for FREQ=MONTHLY"},
	{"BYDAY with a number beside BYWEEKNO", "", whole + "|RRULE:FREQ=YEARLY;BYWEEKNO=2;BYDAY=2MO", "", "a number in BYDAY has no meaning beside BYWEEKNO"},
	{"BYDAY in words", "", whole + "|RRULE:FREQ=WEEKLY;BYDAY=XX", "", "BYDAY=XX is no day of the week"},
	{"BYMONTHDAY", "", whole + "|RRULE:FREQ=MONTHLY;BYMONTHDAY=9,-1;COUNT=3", "01-06, 01-09, 01-31", ""},
	{"BYMONTHDAY of a year", "", whole + "|RRULE:FREQ=YEARLY;BYMONTHDAY=9;COUNT=2", "01-06, 01-09", ""},
	{"BYMONTHDAY in weeks, as in RFC 2445", "", whole + "|RRULE:FREQ=WEEKLY;BYMONTHDAY=9,20;COUNT=3", "01-06, 01-09, 01-20", ""},
	{"BYMONTHDAY of nothing", "", whole + "|RRULE:FREQ=MONTHLY;BYMONTHDAY=0", "", "BYMONTHDAY=0 is not from 1 to 31"},
	{"BYYEARDAY", "", whole + "|RRULE:FREQ=YEARLY;BYYEARDAY=8,-356;COUNT=3", "01-06, 01-08, 01-10", ""},
	{"BYWEEKNO", "", "DTSTART;VALUE=DATE:20260101|RRULE:FREQ=YEARLY;BYWEEKNO=2;BYDAY=MO,SU;COUNT=3", "01-05, 01-11", ""},
	{"BYWEEKNO on the weekday of DTSTART", "", "DTSTART;VALUE=DATE:20250107|RRULE:FREQ=YEARLY;BYWEEKNO=2", "01-06", ""},
	{"BYWEEKNO in months", "", whole + "|RRULE:FREQ=MONTHLY;BYWEEKNO=2", "", "BYWEEKNO is for FREQ=YEARLY"},
	{"BYMONTH", "", whole + "|RRULE:FREQ=YEARLY;BYMONTH=1,2;COUNT=2", "01-06, 02-06", ""},
	{"BYMONTH of other years", "", whole + "|RRULE:FREQ=YEARLY;BYMONTH=5L", "", "BYMONTH=5L is not from 1 to 12"},
	{"BYSETPOS", "", whole + "|RRULE:FREQ=MONTHLY;BYDAY=MO,TU,WE,TH,FR;BYSETPOS=4,-1;COUNT=2", "01-06, 01-30", ""},
	{"BYSETPOS of nothing", "", whole + "|RRULE:FREQ=MONTHLY;BYDAY=MO;BYSETPOS=0", "", "BYSETPOS=0 is not from 1 to 366"},
	{"BYSETPOS of one time of several", "", one + "|RRULE:FREQ=DAILY;BYHOUR=9,17;BYSETPOS=1", "", "BYHOUR with 2 values"},
	{"WKST", "", "DTSTART;VALUE=DATE:20251230|RRULE:FREQ=WEEKLY;INTERVAL=2;BYDAY=TU,SU;WKST=SU;COUNT=4", "01-11, 01-13, 01-25", ""},
	{"WKST in words", "", whole + "|RRULE:FREQ=WEEKLY;WKST=1", "", "WKST=1 is no day of the week"},
	{"RSCALE", "", whole + "|RRULE:RSCALE=GREGORIAN;FREQ=WEEKLY;SKIP=OMIT;COUNT=2", "01-06, 01-13", ""},
	{"RSCALE of other years", "", whole + "|RRULE:RSCALE=CHINESE;FREQ=YEARLY", "", "RSCALE=CHINESE is another calendar"},
	{"SKIP", "", whole + "|RRULE:RSCALE=GREGORIAN;FREQ=MONTHLY;SKIP=FORWARD", "", "SKIP=FORWARD is not read"},
	{"EXRULE", "", week + "|EXRULE:FREQ=WEEKLY;INTERVAL=2", "01-13 10:00-11:00", ""},
	{"EXRULE that cannot be read", "", week + "|EXRULE:FREQ=HOURLY", "", "EXRULE: FREQ=HOURLY has several times a day"},
	{"EXRULE at another time", "", week + "|EXRULE:FREQ=DAILY;BYHOUR=11", three, ""},
	{"RDATE with a time", "", one + "|RDATE:20260108T120000", six + ", 01-08 12:00-13:00", ""},
	{"RDATE in UTC", "", one + "|RDATE:20260108T110000Z", six + ", 01-08 12:00-13:00", ""},
	{"RDATE in a zone", "", one + "|RDATE;TZID=Asia/Tokyo:20260108T200000", six + ", 01-08 12:00-13:00", ""},
	{"RDATE in a repeated hour", "", "DTSTART;TZID=Europe/Berlin:20251021T100000|DURATION:PT10M|RDATE:20251026T013000Z", "10-21 10:00-10:10, 10-26 02:30-03:00", ""},
	{"RDATE with a date", "", one + "|RDATE;VALUE=DATE:20260108,20260109", six + ", 01-08 10:00-11:00, 01-09 10:00-11:00", ""},
	{"RDATE with a time for a date", "", whole + "|RDATE:20260108T120000", "01-06, 01-08", ""},
	{"RDATE with a period", "", one + "|RDATE;VALUE=PERIOD:20260108T120000/PT2H,20260109T120000Z/20260109T123000Z", six + ", 01-08 12:00-14:00, 01-09 13:00-13:30", ""},
	{"RDATE with a period at DTSTART", "", one + "|RDATE;VALUE=PERIOD:20260106T100000/PT2H", "01-06 10:00-12:00", ""},
	{"RDATE with a period for a date", "", whole + "|RDATE;VALUE=PERIOD:20260108T120000/PT2H", "01-06, 01-08 12:00-14:00", ""},
	{"RDATE with a period that ends before it begins", "", one + "|RDATE;VALUE=PERIOD:20260108T120000/20260108T110000", "", "ends before it begins"},
	{"RDATE in words", "", one + "|RDATE:soon", "", "RDATE: \"soon\" is no date"},
	{"RDATE empty", "", one + "|RDATE;VALUE=DATE:", six, ""},
	{"RDATE twice", "", one + "|RDATE:20260108T120000|RDATE:20260109T120000", six + ", 01-08 12:00-13:00, 01-09 12:00-13:00", ""},
	{"EXDATE with a time", "", week + "|EXDATE:20260113T100000", "01-06 10:00-11:00, 01-20 10:00-11:00", ""},
	{"EXDATE in UTC", "", week + "|EXDATE:20260113T090000Z", "01-06 10:00-11:00, 01-20 10:00-11:00", ""},
	{"EXDATE in a zone", "", week + "|EXDATE;TZID=Asia/Tokyo:20260113T180000", "01-06 10:00-11:00, 01-20 10:00-11:00", ""},
	{"EXDATE with a date", "", week + "|EXDATE;VALUE=DATE:20260113,20260120", six, ""},
	{"EXDATE with a time for a date", "", whole + "|RRULE:FREQ=WEEKLY;COUNT=3|EXDATE:20260112T230000Z,20260120T000000", "01-06", ""},
	{"EXDATE of DTSTART", "", week + "|EXDATE:20260106T100000", "01-13 10:00-11:00, 01-20 10:00-11:00", ""},
	{"EXDATE of an RDATE", "", one + "|RDATE:20260108T120000|EXDATE:20260108T120000", six, ""},
	{"EXDATE at another time", "", week + "|EXDATE:20260113T110000", three, ""},
	{"EXDATE with a period", "", week + "|EXDATE;VALUE=PERIOD:20260113T100000/PT1H", "", "EXDATE: \"20260113T100000/PT1H\" is no date"},
	{"EXDATE empty", "", one + "|EXDATE:|EXDATE;VALUE=DATE: ", six, ""},

	// Changed times.
	{"RECURRENCE-ID", "", "UID:a|" + week + " || UID:a|RECURRENCE-ID:20260113T100000|DTSTART;VALUE=DATE:20260114", "01-06 10:00-11:00, 01-14, 01-20 10:00-11:00", ""},
	{"RECURRENCE-ID in UTC", "", "UID:a|RECURRENCE-ID:20260113T090000Z|DTSTART;VALUE=DATE:20260114 || UID:a|" + week, "01-06 10:00-11:00, 01-14, 01-20 10:00-11:00", ""},
	{"RECURRENCE-ID with a date", "", "UID:a|" + week + " || UID:a|RECURRENCE-ID;VALUE=DATE:20260113|DTSTART;VALUE=DATE:20260114", "01-06 10:00-11:00, 01-14, 01-20 10:00-11:00", ""},
	{"RECURRENCE-ID with a time for a date", "", "UID:a|" + whole + "|RRULE:FREQ=WEEKLY;COUNT=2 || UID:a|RECURRENCE-ID:20260112T230000Z|DTSTART;VALUE=DATE:20260114", "01-06, 01-14", ""},
	{"RECURRENCE-ID of no time", "", "UID:a|" + week + " || UID:a|RECURRENCE-ID:20260115T100000|DTSTART;VALUE=DATE:20260114", six + ", 01-13 10:00-11:00, 01-14, 01-20 10:00-11:00", ""},
	{"RECURRENCE-ID without its series", "", "UID:a|RECURRENCE-ID:20260113T100000|DTSTART;VALUE=DATE:20260114", "01-14", ""},
	{"RECURRENCE-ID empty", "", one + "|RECURRENCE-ID:", six, ""},
	{"RECURRENCE-ID in words", "", "UID:a|" + week + " || UID:a|RECURRENCE-ID:next|DTSTART;VALUE=DATE:20260114", three, "RECURRENCE-ID: \"next\" is no date"},
	{"RECURRENCE-ID that is cancelled", "", "UID:a|" + week + " || UID:a|RECURRENCE-ID:20260113T100000|STATUS:CANCELLED", "01-06 10:00-11:00, 01-20 10:00-11:00", ""},
	{"RECURRENCE-ID in two revisions", "", "UID:a|" + week + " || UID:a|SEQUENCE:2|RECURRENCE-ID:20260113T100000|DTSTART;VALUE=DATE:20260114 || UID:a|SEQUENCE:1|RECURRENCE-ID:20260113T090000Z|DTSTART;VALUE=DATE:20260115", "01-06 10:00-11:00, 01-14, 01-20 10:00-11:00", ""},
	{"RECURRENCE-ID that cannot be read otherwise", "", "UID:a|" + week + " || UID:a|RECURRENCE-ID:20260113T100000|DTSTART:soon", "01-06 10:00-11:00, 01-20 10:00-11:00", "DTSTART: \"soon\""},
	{"RECURRENCE-ID of a cancelled series", "", "UID:a|SEQUENCE:3|STATUS:CANCELLED || UID:a|SEQUENCE:2|RECURRENCE-ID:20260113T100000|DTSTART;VALUE=DATE:20260114", "", ""},
	{"RECURRENCE-ID later than a cancelled series", "", "UID:a|SEQUENCE:3|STATUS:CANCELLED || UID:a|SEQUENCE:4|RECURRENCE-ID:20260113T100000|DTSTART;VALUE=DATE:20260114", "01-14", ""},
	{"RANGE=THISANDFUTURE", "", "UID:a|" + week + " || UID:a|RECURRENCE-ID;RANGE=THISANDFUTURE:20260113T100000|DTSTART:20260114T120000|DURATION:PT30M", "01-06 10:00-11:00, 01-14 12:00-12:30, 01-21 12:00-12:30", ""},
	{"RANGE=THISANDFUTURE twice", "", "UID:a|" + week + " || UID:a|RECURRENCE-ID;RANGE=THISANDFUTURE:20260113T100000|DTSTART:20260114T120000|DURATION:PT30M" +
		" || UID:a|RECURRENCE-ID;RANGE=THISANDFUTURE:20260120T100000|DTSTART:20260120T150000|DURATION:PT30M", "01-06 10:00-11:00, 01-14 12:00-12:30, 01-20 15:00-15:30", ""},
	{"RANGE=THISANDFUTURE cancelled", "", "UID:a|" + week + " || UID:a|RECURRENCE-ID;RANGE=THISANDFUTURE:20260113T100000|STATUS:CANCELLED", six, ""},
	{"RANGE=THISANDFUTURE for a date", "", "UID:a|" + whole + "|RRULE:FREQ=WEEKLY;COUNT=3 || UID:a|RECURRENCE-ID;VALUE=DATE;RANGE=THISANDFUTURE:20260113|DTSTART;VALUE=DATE:20260114", "01-06, 01-14, 01-21", ""},
	{"RANGE=THISANDFUTURE that recurs", "", "UID:a|" + week + " || UID:a|RECURRENCE-ID;RANGE=THISANDFUTURE:20260113T100000|DTSTART;VALUE=DATE:20260114|RRULE:FREQ=DAILY;COUNT=2", "01-06 10:00-11:00, 01-14, 01-15", ""},
	{"RANGE=THISANDFUTURE without its series", "", "UID:a|RECURRENCE-ID;RANGE=THISANDFUTURE:20260113T100000|DTSTART:20260114T120000|DURATION:PT30M", "", "RECURRENCE-ID: RANGE changes a series that is not read"},
	{"RANGE=THISANDPRIOR", "", "UID:a|" + week + " || UID:a|RECURRENCE-ID;RANGE=THISANDPRIOR:20260113T100000|DTSTART:20260113T120000|DURATION:PT30M", "01-06 12:00-12:30, 01-13 12:00-12:30, 01-20 10:00-11:00", ""},
	{"RANGE unknown", "", "UID:a|" + week + " || UID:a|RECURRENCE-ID;RANGE=ALL:20260113T100000|DTSTART:20260114T120000", "01-06 10:00-11:00, 01-20 10:00-11:00", "RANGE=ALL is unknown"},
	{"METHOD:CANCEL of one time", "METHOD:CANCEL|", "UID:a|RECURRENCE-ID:20260113T100000", "", ""},

	// Zones.
	{"TZID of IANA", "", "DTSTART;TZID=Asia/Tokyo:20260106T180000|DURATION:PT1H", six, ""},
	{"TZID in quotes", "", "DTSTART;TZID=\"Asia/Tokyo\":20260106T180000|DURATION:PT1H", six, ""},
	{"TZID of IANA in another case", "", "DTSTART;TZID=america/new_york:20260106T040000|DURATION:PT1H || DTSTART;TZID=cet:20260107T100000|DURATION:PT1H", six + ", 01-07 10:00-11:00", ""},
	{"TZID with something after", "", "DTSTART;TZID=\"(GMT+9) Asia/Tokyo (office)\":20260106T180000|DURATION:PT1H || DTSTART;TZID=Asia/Tokyo-2:20260107T180000|DURATION:PT1H", six + ", 01-07 10:00-11:00", ""},
	{"TZID empty", "", "DTSTART;TZID=:20260106T100000|DURATION:PT1H", six, ""},
	{"TZID with a place before", "", "DTSTART;TZID=/freeassociation.sourceforge.net/Tzfile/Asia/Tokyo:20260106T180000|DURATION:PT1H", six, ""},
	{"TZID with three parts", "", "DTSTART;TZID=/citadel.org/20260101_1/America/Argentina/Buenos_Aires:20260106T060000|DURATION:PT1H", six, ""},
	{"TZID of Windows", "", "DTSTART;TZID=Tokyo Standard Time:20260106T180000|DURATION:PT1H", six, ""},
	{"TZID of Windows with a number", "", "DTSTART;TZID=Tokyo Standard Time 1:20260106T180000|DURATION:PT1H", six, ""},
	{"TZID described by Windows", "", "DTSTART;TZID=\"(UTC+09:00) Osaka, Sapporo, Tokyo\":20260106T180000|DURATION:PT1H", six, ""},
	{"TZID described without quotes", "", "DTSTART;TZID=(UTC+09:00) Osaka, Sapporo, Tokyo:20260106T180000|DURATION:PT1H", six, ""},
	{"TZID that is an offset", "", "DTSTART;TZID=GMT-0500:20260106T040000|DURATION:PT1H || DTSTART;TZID=\"+05:30\":20260107T143000|DURATION:PT1H", six + ", 01-07 10:00-11:00", ""},
	{"TZID that is UTC", "", "DTSTART;TZID=UTC:20260106T090000|DURATION:PT1H || DTSTART;TZID=tzone://Microsoft/Utc:20260107T090000|DURATION:PT1H", six + ", 01-07 10:00-11:00", ""},
	{"TZID of the calendar", lord, "DTSTART;TZID=Shop:20260106T120000|DURATION:PT1H", six, ""},
	{"TZID in another case", lord, "DTSTART;TZID=SHOP:20260106T120000|DURATION:PT1H", six, ""},
	{"TZID unknown", "", "DTSTART;TZID=Shop:20260106T120000|DURATION:PT1H || " + one, six, `DTSTART: zone "Shop" is unknown`},
	{"TZID of the machine", "", "DTSTART;TZID=Local:20260106T120000|DURATION:PT1H", "", `zone "Local" is unknown`},
	{"TZID of a date", "", "DTSTART;VALUE=DATE;TZID=Shop:20260106", "01-06", ""},
	{"VTIMEZONE by its rules", "BEGIN:VTIMEZONE|TZID:EST|BEGIN:STANDARD|DTSTART:20071104T020000|TZOFFSETFROM:-0400|TZOFFSETTO:-0500|RRULE:FREQ=YEARLY;BYMONTH=11;BYDAY=1SU|END:STANDARD|" +
		"BEGIN:DAYLIGHT|DTSTART:20070311T020000|TZOFFSETFROM:-0500|TZOFFSETTO:-0400|RRULE:FREQ=YEARLY;BYMONTH=3;BYDAY=2SU|END:DAYLIGHT|END:VTIMEZONE|",
		"DTSTART;TZID=EST:20260301T040000|DURATION:PT1H|RRULE:FREQ=WEEKLY;COUNT=2 || DTSTART;TZID=EST:20260315T040000|DURATION:PT1H", "03-01 10:00-11:00, 03-08 09:00-10:00, 03-15 09:00-10:00", ""},
	{"VTIMEZONE with RDATE", "BEGIN:VTIMEZONE|TZID:Shop|BEGIN:STANDARD|DTSTART:20200101T000000|TZOFFSETFROM:+0100|TZOFFSETTO:+0100|END:STANDARD|" +
		"BEGIN:DAYLIGHT|DTSTART:20200601T000000|RDATE:20260107T000000|TZOFFSETFROM:+0100|TZOFFSETTO:+0300|END:DAYLIGHT|BEGIN:STANDARD|DTSTART:20200701T000000|TZOFFSETFROM:+0300|TZOFFSETTO:+0100|END:STANDARD|END:VTIMEZONE|",
		"DTSTART;TZID=Shop:20260106T100000|DURATION:PT1H|RRULE:FREQ=DAILY;COUNT=2", "01-06 10:00-11:00, 01-07 08:00-09:00", ""},
	{"VTIMEZONE with UNTIL", "BEGIN:VTIMEZONE|TZID:Shop|BEGIN:STANDARD|DTSTART:20200101T000000|TZOFFSETFROM:+0300|TZOFFSETTO:+0100|RRULE:FREQ=YEARLY;BYMONTH=1;BYMONTHDAY=1|END:STANDARD|" +
		"BEGIN:DAYLIGHT|DTSTART:20200107T000000|RRULE:FREQ=YEARLY;BYMONTH=1;BYMONTHDAY=7;UNTIL=20250106T230000Z|TZOFFSETFROM:+0100|TZOFFSETTO:+0300|END:DAYLIGHT|END:VTIMEZONE|",
		"DTSTART;TZID=Shop:20250106T100000|DURATION:PT1H|RRULE:FREQ=DAILY;BYMONTH=1;BYMONTHDAY=8", "01-08 10:00-11:00", ""},
	{"VTIMEZONE without offsets", "BEGIN:VTIMEZONE|TZID:Shop|BEGIN:STANDARD|DTSTART:20200101T000000|TZOFFSETFROM:+0100|END:STANDARD|END:VTIMEZONE|",
		"DTSTART;TZID=Shop:20260106T100000", "", "STANDARD has no TZOFFSETTO"},
	{"VTIMEZONE without times", "BEGIN:VTIMEZONE|TZID:Shop|TZURL:http://tz.example/shop|END:VTIMEZONE|", "DTSTART;TZID=Shop:20260106T100000", "", "VTIMEZONE has no times"},
	{"TZOFFSETTO with seconds", "BEGIN:VTIMEZONE|TZID:Shop|BEGIN:STANDARD|TZNAME:LMT|DTSTART:20200101T000000|TZOFFSETFROM:+005328|TZOFFSETTO:+005328|END:STANDARD|END:VTIMEZONE|",
		"DTSTART;TZID=Shop:20260106T095328|DURATION:PT1H", six, ""},

	// Parameters.
	{"VALUE=DATE", "", whole, "01-06", ""},
	{"VALUE=DATE for a time", "", "DTSTART;VALUE=DATE:20260106T100000", "01-06", ""},
	{"VALUE=DATE-TIME", "", "DTSTART;VALUE=date-time:20260106T100000|DURATION:PT1H", six, ""},
	{"VALUE=PERIOD", "", one + "|RDATE;VALUE=PERIOD:20260108T120000/PT1H", six + ", 01-08 12:00-13:00", ""},
	{"VALUE unknown", "", "DTSTART;VALUE=TEXT:20260106T100000", "", "VALUE=TEXT is unknown"},
	{"VALUE=DURATION", "", "DTSTART:20260106T100000|DURATION;VALUE=DURATION:PT1H", six, ""},
	{"X- and IANA parameters", "", "DTSTART;X-A=\"1;2:3\";NEW=a,b;VALUE=DATE:20260106", "01-06", ""},
	{"RELATED, RELTYPE", "", one + "|RELATED-TO;RELTYPE=PARENT:b", six, ""},
	{"ALTREP, LANGUAGE", "", one + "|SUMMARY;ALTREP=\"cid:a:b\";LANGUAGE=en:Talk", six, ""},
	{"CN, CUTYPE, DELEGATED-FROM, DELEGATED-TO, DIR, MEMBER, PARTSTAT, ROLE, RSVP, SENT-BY", "",
		one + "|ATTENDEE;CN=\"A: b\";CUTYPE=ROOM;DELEGATED-FROM=\"mailto:a@b\";DELEGATED-TO=\"mailto:c@d\";DIR=\"ldap://e\";MEMBER=\"mailto:f@g\";PARTSTAT=DECLINED;ROLE=CHAIR;RSVP=TRUE;SENT-BY=\"mailto:h@i\":mailto:j@k", six, ""},
	{"ENCODING, FMTTYPE, FBTYPE", "", one + "|ATTACH;FMTTYPE=image/png;ENCODING=BASE64;VALUE=BINARY:QUJD|X-A;FBTYPE=BUSY:b", six, ""},

	// Properties that change no times, and other components.
	{"ATTACH, COMMENT, DESCRIPTION, GEO, LOCATION, PRIORITY, RESOURCES, URL", "", one + "|ATTACH:cid:a|COMMENT:DTSTART:20260107|DESCRIPTION:RRULE:FREQ=DAILY|GEO:1;2|LOCATION:x|PRIORITY:1|RESOURCES:y|URL:http://z", six, ""},
	{"CONTACT, ORGANIZER, REQUEST-STATUS, CATEGORIES, PERCENT-COMPLETE", "", one + "|CONTACT:a|ORGANIZER:mailto:b|REQUEST-STATUS:2.0;ok|CATEGORIES:c,d|PERCENT-COMPLETE:50", six, ""},
	{"COMPLETED, DUE, FREEBUSY", "", one + "|COMPLETED:20260107T000000Z|DUE:20260108T000000Z|FREEBUSY:20260109T000000Z/PT1H", six, ""},
	{"VALARM with TRIGGER, DURATION, REPEAT, ACTION", "", one + "|BEGIN:VALARM|TRIGGER;RELATED=END:-PT5M|DURATION:PT3H|REPEAT:3|ACTION:AUDIO|DTSTART:20260110T000000|END:VALARM", six, ""},
	{"VTODO, VJOURNAL, VFREEBUSY", "BEGIN:VTODO|UID:t|" + whole + "|END:VTODO|BEGIN:VJOURNAL|" + whole + "|END:VJOURNAL|BEGIN:VFREEBUSY|FREEBUSY:20260106T000000Z/PT9H|END:VFREEBUSY|", one, six, ""},
	{"a component of a maker", "BEGIN:X-NOTE|DTSTART:20260107T000000|END:X-NOTE|", one, six, ""},
	{"a line without a colon", "", one + "|and more", six, ""},

	// Forms.
	{"lower case", "", strings.ToLower(week), three, ""},
	{"spaces around a value", "", "DTSTART: 20260106T100000 |DURATION: PT1H |RRULE: FREQ=WEEKLY; COUNT=3 ;", three, ""},
	{"a folded line", "", "DTS\r\n TART;VAL\r\n\tUE=DA\n TE:2026\r 0106", "01-06", ""},
	{"empty lines", "", one + "||", six, ""},
	{"an end that is missing", "", one + "|RRULE:FREQ=DAILY|BEGIN:VEVENT|" + whole, "01-06", "VEVENT: END:VEVENT is missing"},
	{"an end of an alarm that is missing", "", one + "|BEGIN:VALARM|TRIGGER:-PT5M|RRULE:FREQ=DAILY || " + whole, "01-06", "VEVENT: END:VALARM is missing"},
	{"an event inside another component", "BEGIN:VTODO|BEGIN:VEVENT|" + whole + "|END:VEVENT|END:VTODO|", one, six, "VEVENT: it is inside a VTODO"},
}

func TestCalendarInventory(t *testing.T) {
	from := map[string]string{"03": "2026-02-28", "10": "2025-10-20"}
	to := map[string]string{"03": "2026-03-31", "10": "2025-10-30"}
	for _, e := range inventory {
		t.Run(e.of, func(t *testing.T) {
			var text strings.Builder
			text.WriteString("BEGIN:VCALENDAR\n" + strings.ReplaceAll(e.head, "|", "\n"))
			for i, lines := range strings.Split(e.events, " || ") {
				if !strings.Contains(lines, "UID:") {
					lines = fmt.Sprintf("UID:%d|", i) + lines
				}
				text.WriteString("BEGIN:VEVENT\n" + strings.ReplaceAll(lines, "|", "\n") + "\nEND:VEVENT\n")
			}
			a, b := "2026-01-05", "2026-02-08"
			if m := e.want[:min(2, len(e.want))]; from[m] != "" {
				a, b = from[m], to[m]
			}
			p := plan(t, "mon-sun 00:00-24:00; zone Europe/Berlin")
			list, skipped, err := ical.Exceptions(t.Context(), strings.NewReader(text.String()+"END:VCALENDAR\n"), p, day(t, a), day(t, b), nil)
			require.NoError(t, err)
			if strings.HasSuffix(e.of, "on a day that some months lack") {
				list = append(list, march(t, text.String(), p)...)
			}
			require.Equal(t, e.want, closedTimes(list), text.String())
			if e.why == "" {
				require.Empty(t, skipped, text.String())
				return
			}
			require.Len(t, skipped, 1, text.String())
			require.Contains(t, skipped[0].Why, e.why)
			require.Positive(t, skipped[0].Line)
		})
	}
}

func march(t *testing.T, text string, p schedule.Plan) []schedule.Exception {
	t.Helper()
	list, _, err := ical.Exceptions(t.Context(), strings.NewReader(text+"END:VCALENDAR\n"), p, date(2026, 2, 9), date(2026, 3, 31), nil)
	require.NoError(t, err)
	return list
}

// closedTimes writes what exceptions of a plan that is always open close.
func closedTimes(list []schedule.Exception) string {
	var all []string
	for _, e := range list {
		name := e.Date.String()[len("2026-"):]
		from := schedule.TimeOfDay(0)
		for _, s := range append(e.Hours[:len(e.Hours):len(e.Hours)], schedule.Span{From: 24 * 60, To: 24 * 60}) {
			switch {
			case s.From == 24*60 && from == 0:
				all = append(all, name)
			case from < s.From:
				all = append(all, fmt.Sprintf("%s %s-%s", name, from, s.From))
			}
			from = s.To
		}
	}
	return strings.Join(all, ", ")
}

// Each property, parameter and part of a rule that the RFCs name is in the
// inventory.
func TestCalendarInventoryIsComplete(t *testing.T) {
	all := ""
	for _, e := range inventory {
		all += " " + e.of + " " + e.head + " " + e.events
	}
	all = strings.Join(strings.FieldsFunc(all, func(r rune) bool { return !strings.ContainsRune("ABCDEFGHIJKLMNOPQRSTUVWXYZ-", r) }), " ") + " "
	for name := range strings.FieldsSeq(`
		CALSCALE METHOD PRODID VERSION
		ATTACH CATEGORIES CLASS COMMENT DESCRIPTION GEO LOCATION PERCENT-COMPLETE PRIORITY RESOURCES STATUS SUMMARY
		COMPLETED DTEND DUE DTSTART DURATION FREEBUSY TRANSP
		TZID TZNAME TZOFFSETFROM TZOFFSETTO TZURL
		ATTENDEE CONTACT ORGANIZER RECURRENCE-ID RELATED-TO URL UID
		EXDATE EXRULE RDATE RRULE ACTION REPEAT TRIGGER
		CREATED DTSTAMP LAST-MODIFIED SEQUENCE REQUEST-STATUS
		ALTREP CN CUTYPE DELEGATED-FROM DELEGATED-TO DIR ENCODING FMTTYPE FBTYPE LANGUAGE MEMBER PARTSTAT RANGE RELATED RELTYPE ROLE RSVP SENT-BY VALUE
		FREQ UNTIL COUNT INTERVAL BYSECOND BYMINUTE BYHOUR BYDAY BYMONTHDAY BYYEARDAY BYWEEKNO BYMONTH BYSETPOS WKST
		SECONDLY MINUTELY HOURLY DAILY WEEKLY MONTHLY YEARLY THISANDFUTURE THISANDPRIOR
		CONFIRMED TENTATIVE CANCELLED PUBLISH REQUEST REPLY ADD CANCEL REFRESH COUNTER DECLINECOUNTER`) {
		require.Contains(t, all, " "+name+" ", name)
	}
}

// A calendar takes away times of another one of the stream, and adds some.
func TestCalendarMessages(t *testing.T) {
	stream := func(parts ...string) string {
		var text strings.Builder
		for _, p := range parts {
			method, lines, _ := strings.Cut(p, " ")
			text.WriteString("BEGIN:VCALENDAR\nMETHOD:" + method + "\nBEGIN:VEVENT\nUID:a\n" + strings.ReplaceAll(lines, "|", "\n") + "\nEND:VEVENT\nEND:VCALENDAR\n")
		}
		return text.String()
	}
	for _, tt := range []struct {
		name, text, want string
	}{
		{"a series called off", stream("REQUEST "+week, "CANCEL SEQUENCE:1"), ""},
		{"a series called off in the same breath", stream("REQUEST "+week, "CANCEL "+week), ""},
		{"a series called for again", stream("CANCEL SEQUENCE:1", "REQUEST SEQUENCE:2|"+week), three},
		{"one time called off", stream("REQUEST "+week, "CANCEL SEQUENCE:1|RECURRENCE-ID:20260113T090000Z"), "01-06 10:00-11:00, 01-20 10:00-11:00"},
		{"times called off from one on", stream("REQUEST "+week, "CANCEL SEQUENCE:1|RECURRENCE-ID;RANGE=THISANDFUTURE:20260113T100000"), six},
		{"a time added", stream("REQUEST "+week, "ADD SEQUENCE:1|DTSTART;VALUE=DATE:20260108"), six + ", 01-08, " + three[len(six)+2:]},
		{"a time added and all called off", stream("REQUEST "+week, "ADD SEQUENCE:1|DTSTART;VALUE=DATE:20260108", "CANCEL SEQUENCE:2"), ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := plan(t, "mon-sun 00:00-24:00; zone Europe/Berlin")
			list, skipped, err := ical.Exceptions(t.Context(), strings.NewReader(tt.text), p, day(t, "2026-01-01"), day(t, "2026-01-31"), nil)
			require.NoError(t, err)
			require.Empty(t, skipped)
			require.Equal(t, tt.want, closedTimes(list))
		})
	}
}

// The application can name zones, before all others.
func TestCalendarZones(t *testing.T) {
	p := plan(t, "mon-sun 00:00-24:00; zone Europe/Berlin")
	text := calendar("DTSTART;TZID=Head Office:20260106T180000|DURATION:PT1H", "DTSTART;TZID=Europe/Paris:20260107T180000|DURATION:PT1H")
	tokyo := time.FixedZone("", 9*3600)
	list, skipped, err := ical.Exceptions(t.Context(), strings.NewReader(text), p, day(t, "2026-01-01"), day(t, "2026-01-31"),
		&ical.Options{Zones: map[string]*time.Location{"Head Office": tokyo, "Europe/Paris": tokyo}})
	require.NoError(t, err)
	require.Empty(t, skipped)
	require.Equal(t, "01-06 10:00-11:00, 01-07 10:00-11:00", closedTimes(list))
}
