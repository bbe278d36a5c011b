package presence

import "time"

// Hours decides when a channel is open. The package schedule has hours by the week,
// in a time zone and with exceptions. Any other calendar will do.
type Hours interface {
	// OpenAt reports whether the channel is open at an instant. next is the first
	// instant after now at which that changes, or 0 if none is known. OpenAt must be
	// a pure function of now, and quick. It is called while the channel is locked,
	// and must not call the tracker.
	OpenAt(now Instant) (open bool, next Instant)
}

// Reasons why a group is not what its members add up to.
const (
	GroupClosed    = "closed"    // it is outside the channel's hours
	GroupUnstaffed = "unstaffed" // it is within them and no member is present; see Policy.ScheduleOpenEmpty
)

// opening is what a roster knows of its channel's hours.
type opening struct {
	hours    Hours         // nil for a channel without
	behind   time.Duration // of the clock that the hours follow
	open     bool
	nextOpen Instant // while closed, by that clock
	next     Instant // when to ask the hours again, by the roster's time; 0 for never
}

// look asks the hours for the present state.
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

// SetHours sets when the channel is open, nil for a channel without hours.
// Outside its hours the channel's group is offline to visitors, and every
// audience sees that it is closed and until when. Members keep their status and
// stay listed. Set the hours again to have them asked again, as after an update of
// time zones.
func (r *Roster) SetHours(h Hours, now Instant) []*Frame {
	o := r.needOpening()
	o.hours = h
	o.look(now)
	r.publish(now)
	return r.emitted()
}

// needOpening returns the opening, which it makes if it is nil.
func (r *Roster) needOpening() *opening {
	if r.opening == nil {
		r.opening = new(opening)
	}
	return r.opening
}

// hours reports whether the channel has hours, and when it opens or closes next,
// 0 if that is not known.
func (r *Roster) hours() (next Instant, ok bool) {
	if r.opening == nil || r.opening.hours == nil {
		return 0, false
	}
	return r.opening.next, true
}

// SetClock sets by how much the wall clock, which hours follow, is behind the
// instants that the roster is given. That is 0 unless the wall clock has been set
// back.
func (r *Roster) SetClock(behind time.Duration, now Instant) []*Frame {
	o := r.needOpening()
	if o.behind == behind {
		return nil
	}
	o.behind = behind
	o.look(now)
	r.publish(now)
	return r.emitted()
}

// gate returns the group as an audience sees it under the channel's hours.
func (r *Roster) gate(a Audience, g Group) Group {
	o := r.opening
	switch {
	case o == nil || o.hours == nil:
	case !o.open:
		g.Reason, g.NextOpen = GroupClosed, o.nextOpen
		if a == AudienceVisitor {
			g.Status = GroupOffline
		}
	case a != AudienceVisitor:
	case r.m.policy.AssumeStaffed:
		g.Status = GroupAvailable
	case g.Status == GroupOffline && r.m.policy.ScheduleOpenEmpty == EmptyVisible:
		g.Status, g.Reason = GroupAway, GroupUnstaffed
	}
	return g
}
