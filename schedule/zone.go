package schedule

import (
	"math"
	"time"
)

// wall is the time on a clock, in seconds since it showed 1 January 1970. Every
// day of it has 24 hours, so counting in it is plain arithmetic.
type wall int64

const daySeconds = 24 * 60 * 60

// on returns the wall time of a time of day on a day.
func on(day int64, t TimeOfDay) wall { return wall(day*daySeconds + int64(t)*60) }

func (w wall) day() int64 {
	day := int64(w) / daySeconds
	if int64(w)%daySeconds < 0 {
		day--
	}
	return day
}

// local returns the time that a clock in a zone shows at an instant. This
// direction has exactly one answer, so that all other functions use it.
func local(loc *time.Location, unix int64) wall { return wall(unix + offset(loc, unix)) }

func offset(loc *time.Location, unix int64) int64 {
	_, seconds := time.Unix(unix, 0).In(loc).Zone()
	return int64(seconds)
}

// first returns the first instant at which a clock shows w or later. For a
// repeated time that is the first one, for a skipped time the end of the gap.
func first(loc *time.Location, w wall) int64 {
	found, at := false, int64(0)
	periods(loc, w, func(p period) {
		if from := max(p.from, int64(w)-p.offset); !found && from < p.to {
			found, at = true, from
		}
	})
	return at
}

// last returns the last instant at which a clock shows w or earlier. For a
// repeated time that is the second one, for a skipped time the end of the gap.
func last(loc *time.Location, w wall) (at int64) {
	periods(loc, w, func(p period) {
		if until := int64(w) - p.offset; until >= p.from {
			at = min(until, p.to)
		}
	})
	return at
}

// over returns the instant after which a clock never again shows a time before
// w. It differs from last where a clock is set back to exactly w.
func over(loc *time.Location, w wall) (at int64) {
	periods(loc, w, func(p period) {
		if until := int64(w) - p.offset; until > p.from {
			at = min(until, p.to)
		}
	})
	return at
}

// period is a time in which the clocks of a zone are not set.
type period struct {
	from, to int64 // in Unix seconds; to is not included
	offset   int64 // of the time on clocks
}

// around is how far from a guess a set clock matters. Clocks were never set by
// more than a day at once.
const around = 2 * daySeconds

// periods calls f for the periods in which a clock may show w, in order. It
// compares the offsets of days. It does not use [time.Time.ZoneBounds], whose
// end is before the given instant on the last day of some leap years.
func periods(loc *time.Location, w wall, f func(period)) {
	guess := int64(w) - offset(loc, int64(w))
	at := guess - around
	p := period{math.MinInt64, math.MaxInt64, offset(loc, at)}
	for at < guess+around {
		next := at + daySeconds
		if offset(loc, next) != p.offset {
			for at+1 < next { // set in (at, next]
				if mid := at + (next-at)/2; offset(loc, mid) == p.offset {
					at = mid
				} else {
					next = mid
				}
			}
			p.to = next
			f(p)
			p = period{next, math.MaxInt64, offset(loc, next)}
		}
		at = next
	}
	f(p)
}

// EndOfDay returns the end of the current day in a zone; nil means UTC. From
// that instant on, clocks there never show the date again. The day has 24
// hours, or more or fewer where clocks are set.
func EndOfDay(zone *time.Location, now time.Time) time.Time {
	if zone == nil {
		zone = time.UTC
	}
	now = within(now)
	day := local(zone, now.Unix()).day()
	return time.Unix(over(zone, on(day+1, 0)), 0).In(zone)
}

// The first and the last instant of calendars: the years 1 and 9999, with room
// for any zone.
var earliest, latest = time.Date(1, 1, 3, 0, 0, 0, 0, time.UTC), time.Date(9999, 12, 29, 0, 0, 0, 0, time.UTC)

// within moves an instant into the range of calendars.
func within(t time.Time) time.Time {
	switch {
	case t.Before(earliest):
		return earliest
	case t.After(latest):
		return latest
	}
	return t
}
