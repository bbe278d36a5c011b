package presence

import "time"

// Hours say when a channel is open. The package schedule has them by the week,
// in a time zone and with exceptions; any other calendar will do.
type Hours interface {
	// OpenAt reports whether it is open at an instant, and the first instant
	// after that at which this changes, 0 if it is not known to. It must be a pure
	// function of now, and quick: it is called while the channel is locked and
	// must not call the tracker.
	OpenAt(now Instant) (open bool, next Instant)
}

// Why a group is not what its members come to.
const (
	GroupClosed    = "closed"    // it is outside the channel's hours
	GroupUnstaffed = "unstaffed" // it is within them and nobody is there; see Policy.ScheduleOpenEmpty
)

// opening is what a roster knows of its channel's hours.
type opening struct {
	hours    Hours         // nil for a channel without
	behind   time.Duration // of the clock by which they go
	open     bool
	nextOpen Instant // while closed, by that clock
	next     Instant // when to look again, by the roster's time; 0 for never
}

// look asks the hours how it is now.
func (o *opening) look(now Instant) {
	o.open, o.nextOpen, o.next = false, 0, 0
	if o.hours == nil {
		return
	}
	shown := now.Add(-o.behind)
	open, next := o.hours.OpenAt(shown)
	if next <= shown {
		next = 0 // nothing to wait for
	}
	o.open = open
	if next != 0 {
		o.next = next.Add(o.behind)
		if !open {
			o.nextOpen = next
		}
	}
}

// pass asks the hours again if they have changed by now.
func (o *opening) pass(now Instant) {
	if o != nil && o.next != 0 && o.next <= now {
		o.look(now)
	}
}

// SetHours sets when the channel is open, nil for a channel without hours, and
// returns the frames that follow. Outside its hours the channel's group is
// offline to visitors, and every audience is told that it is closed and until
// when. Nothing else follows: members keep their status, and are listed as they
// are. Setting them anew asks them anew, as after an update of time zones.
func (r *Roster) SetHours(h Hours, now Instant) []*Frame {
	o := r.opening()
	o.hours = h
	o.look(now)
	return r.publish(now)
}

// opening is what is known of the hours, for whoever changes it.
func (r *Roster) opening() *opening {
	if r.hours == nil {
		r.hours = new(opening)
	}
	return r.hours
}

// hasHours reports whether the channel opens and closes.
func (r *Roster) hasHours() bool { return r.hours != nil && r.hours.hours != nil }

// SetClock says by how much the clock on the wall, by which hours go, is behind
// the instants that the roster is given: 0 unless it has been set back while they
// went on. It returns the frames that follow.
func (r *Roster) SetClock(behind time.Duration, now Instant) []*Frame {
	o := r.opening()
	o.behind = behind
	o.look(now)
	return r.publish(now)
}

// gate is what an audience is told of a group, under the channel's hours.
func (r *Roster) gate(a Audience, g Group) Group {
	o := r.hours
	switch {
	case !r.hasHours():
	case !o.open:
		g.Reason, g.NextOpen = GroupClosed, o.nextOpen
		if a == AudienceVisitor {
			g.Status = GroupOffline
		}
	case a != AudienceVisitor:
	case r.m.policy.AssumeStaffed:
		g.Status = GroupAvailable
	case g.Status == GroupOffline && r.m.policy.ScheduleOpenEmpty == "visible":
		g.Status, g.Reason = GroupAway, GroupUnstaffed
	}
	return g
}
