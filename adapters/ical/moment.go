package ical

import (
	"strings"
	"time"

	"github.com/presence-go/presence/internal/wallclock"
)

// moment is a date or a time as it is written.
type moment struct {
	wall   wallclock.Time
	zone   *time.Location // nil if none is written
	allDay bool
}

// maxDay is 31 December 9999.
var maxDay = int(time.Date(9999, 12, 31, 0, 0, 0, 0, time.UTC).Unix() / wallclock.DaySeconds)

// parseMoment reads a date such as 20261225, or a time such as 20261224T120000
// or 20261224T110000Z.
func parseMoment(l *line, text string) (*moment, error) {
	text = strings.ToUpper(strings.TrimSpace(text))
	m := &moment{allDay: true}
	clock, utc := "000000", false
	if len(text) > 8 && text[8] == 'T' {
		m.allDay = false
		clock, utc = strings.CutSuffix(text[9:], "Z")
		text = text[:8]
	}
	if utc {
		m.zone = time.UTC
	}
	n, ok := digits(text + clock)
	if len(text) != 8 || len(clock) != 6 || !ok {
		return nil, at(l, "%.40q is no date such as 20261225 and no time such as 20261224T120000Z", l.value)
	}
	year, month, day := n/1e10, n/1e8%100, n/1e6%100
	hour, minute, second := n/1e4%100, n/100%100, min(n%100, 59) // leap seconds are not counted
	if year < 1 || month < 1 || month > 12 || day < 1 || day > monthLen(year, month) || hour > 23 || minute > 59 || n%100 > 60 {
		return nil, at(l, "%.40q does not exist", l.value)
	}
	m.wall = wallclock.Time(time.Date(year, time.Month(month), day, hour, minute, second, 0, time.UTC).Unix())
	return m, nil
}

func digits(text string) (n int, ok bool) {
	if text == "" || len(text) > 18 {
		return 0, false
	}
	for i := range len(text) {
		if text[i] < '0' || text[i] > '9' {
			return 0, false
		}
		n = n*10 + int(text[i]-'0')
	}
	return n, true
}

// unix returns the instant of a moment. Without a zone of its own it is in the
// one given. Of a date it is the beginning.
func (m *moment) unix(zone *time.Location) int64 {
	if m.zone != nil {
		zone = m.zone
	}
	return wallclock.Instant(zone, m.wall)
}

// day returns the date of a moment. A time in UTC that is not midnight is the
// date in the zone given: so some makers write the days of whole-day events.
func (m *moment) day(zone *time.Location) int {
	if m.zone == time.UTC && m.wall != wallclock.Midnight(m.wall.Day()) {
		return wallclock.Shown(zone, m.unix(zone)).Day()
	}
	return m.wall.Day()
}

// length is how long something lasts: some days by the calendar, and some
// seconds.
type length struct {
	days    int
	seconds int64
}

// parseLength reads a length such as P1DT2H30M.
func parseLength(l *line, text string) (d length, err error) {
	bad := at(l, "%.40q is no length such as P1D or PT2H30M", text)
	rest, negative := strings.CutPrefix(strings.ToUpper(strings.TrimSpace(text)), "-")
	rest, ok := strings.CutPrefix(strings.TrimPrefix(rest, "+"), "P")
	if !ok || rest == "" {
		return d, bad
	}
	clock := false
	for rest != "" {
		if rest[0] == 'T' && !clock && len(rest) > 1 {
			clock, rest = true, rest[1:]
			continue
		}
		i := strings.IndexFunc(rest, func(r rune) bool { return r < '0' || r > '9' })
		if i < 1 || i > 9 {
			return d, bad
		}
		n, _ := digits(rest[:i])
		switch unit := rest[i]; {
		case unit == 'W' && !clock:
			d.days += 7 * n
		case unit == 'D' && !clock:
			d.days += n
		case unit == 'H' && clock:
			d.seconds += 3600 * int64(n)
		case unit == 'M' && clock:
			d.seconds += 60 * int64(n)
		case unit == 'S' && clock:
			d.seconds += int64(n)
		default:
			return d, bad
		}
		rest = rest[i+1:]
		d.days, d.seconds = min(d.days, maxDay), min(d.seconds, int64(wallclock.Midnight(maxDay)))
	}
	if negative && d != (length{}) {
		return d, at(l, "%.40q is a length below zero", text)
	}
	return d, nil
}

// end returns the end of what begins at a time on the clock of a zone and lasts
// that long. Days are those of the calendar, and hours are exact (RFC 5545,
// 3.3.6).
func (d length) end(zone *time.Location, start wallclock.Time) int64 {
	return wallclock.Instant(zone, start+wallclock.Midnight(d.days)) + d.seconds
}
