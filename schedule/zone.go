package schedule

import (
	"math"
	"time"
)

// wall is what a clock on the wall shows, as the seconds that have passed on it
// since it showed the first of January 1970. Counting in it is plain arithmetic:
// every day has 24 hours.
type wall int64

const daySeconds = 24 * 60 * 60

// on returns what a clock shows on a day, counted like wall, at a time of it.
func on(day int64, t TimeOfDay) wall { return wall(day*daySeconds + int64(t)*60) }

func (w wall) day() int64 {
	day := int64(w) / daySeconds
	if int64(w)%daySeconds < 0 {
		day--
	}
	return day
}

// local returns what a clock in a place shows at an instant. This direction is
// total and has one answer, so that everything here is made of it.
func local(loc *time.Location, unix int64) wall { return wall(unix + offset(loc, unix)) }

func offset(loc *time.Location, unix int64) int64 {
	_, seconds := time.Unix(unix, 0).In(loc).Zone()
	return int64(seconds)
}

// first returns the first instant at which a clock shows w or later: of a time
// that comes twice the first, of one that never comes the end of the gap.
func first(loc *time.Location, w wall) int64 {
	found, at := false, int64(0)
	periods(loc, w, func(p period) {
		if from := max(p.from, int64(w)-p.offset); !found && from < p.to {
			found, at = true, from
		}
	})
	return at
}

// last returns the last instant at which a clock shows w or earlier: of a time
// that comes twice the second, of one that never comes the end of the gap.
func last(loc *time.Location, w wall) (at int64) {
	periods(loc, w, func(p period) {
		if until := int64(w) - p.offset; until >= p.from {
			at = min(until, p.to)
		}
	})
	return at
}

// over returns the instant from which on a clock shows nothing before w. It
// differs from last where a clock is set back to just w.
func over(loc *time.Location, w wall) (at int64) {
	periods(loc, w, func(p period) {
		if until := int64(w) - p.offset; until > p.from {
			at = min(until, p.to)
		}
	})
	return at
}

// period is a time in which the clocks of a place are not set.
type period struct {
	from, to int64 // in Unix seconds, from inclusive
	offset   int64 // of what clocks show
}

// around is how far from a guess clocks may be set for it to matter: further
// than they were ever set at once, a day.
const around = 2 * daySeconds

// periods calls f for the periods in which a clock may show w, in order. It looks
// at each day's offset and does not ask [time.Time.ZoneBounds], which has an end
// before the instant asked about on the last day of some leap years.
func periods(loc *time.Location, w wall, f func(period)) {
	guess := int64(w) - offset(loc, int64(w))
	at := guess - around
	p := period{math.MinInt64, math.MaxInt64, offset(loc, at)}
	for at < guess+around {
		next := at + daySeconds
		if offset(loc, next) != p.offset {
			for at+1 < next { // set within (at, next]
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

// EndOfDay returns the end of the day that it is in a zone, nil for UTC: the
// instant from which on clocks there never show that date again. The day then
// has lasted 24 hours, or 23, 25 or whatever else where clocks were set.
func EndOfDay(zone *time.Location, now time.Time) time.Time {
	if zone == nil {
		zone = time.UTC
	}
	now = within(now)
	day := local(zone, now.Unix()).day()
	return time.Unix(over(zone, on(day+1, 0)), 0).In(zone)
}

// The instants between which calendars are asked: the years 1 and 9999, with
// room for any zone.
var earliest, latest = time.Date(1, 1, 3, 0, 0, 0, 0, time.UTC), time.Date(9999, 12, 29, 0, 0, 0, 0, time.UTC)

// within moves an instant to the nearest one that calendars reach.
func within(t time.Time) time.Time {
	switch {
	case t.Before(earliest):
		return earliest
	case t.After(latest):
		return latest
	}
	return t
}
