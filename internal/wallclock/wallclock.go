// Package wallclock converts between instants and the times that clocks in a zone
// show. An instant has exactly one such time. A time can have two instants, or none,
// where clocks are set.
package wallclock

import (
	"math"
	"time"
)

// Time is the time on a clock, in seconds since it showed 1 January 1970. Every day
// of it has 24 hours, so that counting in it is plain arithmetic.
type Time int64

// DaySeconds is the length of a day on a clock.
const DaySeconds = 24 * 60 * 60

// Midnight returns the time at which a day begins. Days have numbers: 0 is 1 January
// 1970.
func Midnight(day int) Time { return Time(day) * DaySeconds }

// Day returns the number of the day of a time.
func (w Time) Day() int {
	day := int64(w) / DaySeconds
	if int64(w)%DaySeconds < 0 {
		day--
	}
	return int(day)
}

// Shown returns the time that a clock in a zone shows at an instant, which is in Unix
// seconds, as all instants here are.
func Shown(zone *time.Location, unix int64) Time { return Time(unix + Offset(zone, unix)) }

// Offset returns by how many seconds a clock in a zone is ahead of UTC at an instant.
func Offset(zone *time.Location, unix int64) int64 {
	_, seconds := time.Unix(unix, 0).In(zone).Zone()
	return int64(seconds)
}

// Instant returns when a clock shows a time. Of a repeated time the first instant
// counts. A skipped time is as long after the gap as it is after the beginning of the
// gap (RFC 5545, 3.3.5).
func Instant(zone *time.Location, w Time) (unix int64) {
	found := false
	periods(zone, w, func(p period) {
		if t := int64(w) - p.offset; !found && t >= p.from {
			unix = t
			found = t < p.to
		}
	})
	return unix
}

// First returns the first instant at which a clock shows w or later. For a repeated
// time that is the first one, for a skipped time the end of the gap.
func First(zone *time.Location, w Time) (unix int64) {
	found := false
	periods(zone, w, func(p period) {
		if from := max(p.from, int64(w)-p.offset); !found && from < p.to {
			found, unix = true, from
		}
	})
	return unix
}

// Last returns the last instant at which a clock shows w or earlier. For a repeated
// time that is the second one, for a skipped time the end of the gap.
func Last(zone *time.Location, w Time) (unix int64) {
	periods(zone, w, func(p period) {
		if until := int64(w) - p.offset; until >= p.from {
			unix = min(until, p.to)
		}
	})
	return unix
}

// Over returns the instant after which a clock never again shows a time before w. It
// differs from Last where a clock is set back to exactly w.
func Over(zone *time.Location, w Time) (unix int64) {
	periods(zone, w, func(p period) {
		if until := int64(w) - p.offset; until > p.from {
			unix = min(until, p.to)
		}
	})
	return unix
}

// period is a time in which the clocks of a zone are not set.
type period struct {
	from, to int64 // in Unix seconds; to is not included
	offset   int64 // of the time on clocks
}

// Around is how far from a guess a set clock matters. Clocks were never set by more
// than a day at once.
const Around = 2 * DaySeconds

// periods calls f for the periods in which a clock may show w, in order. It compares
// the offsets of days. It does not use [time.Time.ZoneBounds], whose end is before
// the given instant on the last day of some leap years.
func periods(zone *time.Location, w Time, f func(period)) {
	guess := int64(w) - Offset(zone, int64(w))
	offset := Offset(zone, guess)
	p := period{math.MinInt64, math.MaxInt64, offset}
	if at := int64(w) - offset; Offset(zone, at-DaySeconds) == offset && Offset(zone, at+DaySeconds) == offset {
		f(p) // the usual case: no clock is set in the days around it
		return
	}
	at := guess - Around
	p.offset = Offset(zone, at)
	for at < guess+Around {
		next := at + DaySeconds
		if Offset(zone, next) != p.offset {
			for at+1 < next { // set in (at, next]
				if mid := at + (next-at)/2; Offset(zone, mid) == p.offset {
					at = mid
				} else {
					next = mid
				}
			}
			p.to = next
			f(p)
			p = period{next, math.MaxInt64, Offset(zone, next)}
		}
		at = next
	}
	f(p)
}
