package ical

import (
	"math"
	"time"
)

// wall is the time on a clock, in seconds since it showed 1 January 1970. Every
// day of it has 24 hours.
type wall int64

const daySeconds = 24 * 60 * 60

// midnight returns the wall time at which a day begins. Days have numbers: 0 is
// 1 January 1970.
func midnight(day int) wall { return wall(day) * daySeconds }

func (w wall) day() int { return floorDiv(int(w), daySeconds) }

func floorDiv(a, b int) int {
	q := a / b
	if a%b != 0 && (a < 0) != (b < 0) {
		q--
	}
	return q
}

// shown returns the time that a clock in a zone shows at an instant, which is
// in Unix seconds.
func shown(zone *time.Location, unix int64) wall { return wall(unix + offset(zone, unix)) }

func offset(zone *time.Location, unix int64) int64 {
	_, seconds := time.Unix(unix, 0).In(zone).Zone()
	return int64(seconds)
}

// instant returns when a clock shows a time. Of a repeated time the first
// counts. A skipped time is as long after the gap as it is after its beginning
// (RFC 5545, 3.3.5).
func instant(zone *time.Location, w wall) (unix int64) {
	if unix, ok := plainly(zone, w); ok {
		return unix
	}
	found := false
	periods(zone, w, func(p period) {
		if t := int64(w) - p.offset; !found && t >= p.from {
			unix = t
			found = t < p.to
		}
	})
	return unix
}

// plainly returns when a clock shows a time, if no clock is set near.
func plainly(zone *time.Location, w wall) (unix int64, ok bool) {
	guess := offset(zone, int64(w)-offset(zone, int64(w)))
	unix = int64(w) - guess
	return unix, offset(zone, unix-daySeconds) == guess && offset(zone, unix+daySeconds) == guess
}

// first returns the first instant at which a clock shows w or later, and last
// the last one at which it shows w or earlier. So hours open and close: see
// package schedule.
func first(zone *time.Location, w wall) (unix int64) {
	if unix, ok := plainly(zone, w); ok {
		return unix
	}
	found := false
	periods(zone, w, func(p period) {
		if from := max(p.from, int64(w)-p.offset); !found && from < p.to {
			found, unix = true, from
		}
	})
	return unix
}

func last(zone *time.Location, w wall) (unix int64) {
	if unix, ok := plainly(zone, w); ok {
		return unix
	}
	periods(zone, w, func(p period) {
		if until := int64(w) - p.offset; until >= p.from {
			unix = min(until, p.to)
		}
	})
	return unix
}

// period is a time in which the clocks of a zone are not set.
type period struct {
	from, to int64 // in Unix seconds; to is not included
	offset   int64
}

// around is how far from a guess a set clock matters.
const around = 2 * daySeconds

// periods calls f for the periods in which a clock may show w, in order.
func periods(zone *time.Location, w wall, f func(period)) {
	at := int64(w) - offset(zone, int64(w)) - around
	end := at + 2*around
	p := period{math.MinInt64, math.MaxInt64, offset(zone, at)}
	for at < end {
		next := at + daySeconds
		if offset(zone, next) != p.offset {
			for at+1 < next { // set in (at, next]
				if mid := at + (next-at)/2; offset(zone, mid) == p.offset {
					at = mid
				} else {
					next = mid
				}
			}
			p.to = next
			f(p)
			p = period{next, math.MaxInt64, offset(zone, next)}
		}
		at = next
	}
	f(p)
}
