package schedule

import (
	"time"

	"github.com/presence-go/presence/internal/wallclock"
)

// on returns the time on a clock of a time of day on a day.
func on(day int64, t TimeOfDay) wallclock.Time {
	return wallclock.Midnight(int(day)) + wallclock.Time(t)*60
}

// EndOfDay returns the end of the current day in a zone; nil means UTC. From
// that instant on, clocks there never show the date again. The day has 24
// hours, or more or fewer where clocks are set.
func EndOfDay(zone *time.Location, now time.Time) time.Time {
	if zone == nil {
		zone = time.UTC
	}
	now = within(now)
	day := wallclock.Shown(zone, now.Unix()).Day()
	return time.Unix(wallclock.Over(zone, wallclock.Midnight(day+1)), 0).In(zone)
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
