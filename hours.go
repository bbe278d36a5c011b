package presence

import "time"

// Hours decides when a channel is open. The package schedule implements it by
// weekly hours, in a time zone and with exceptions. Another calendar can implement
// it as well.
type Hours interface {
	// OpenAt reports whether the channel is open at an instant. next is the first
	// instant after now at which that changes, or 0 if none is known. The result
	// must depend only on now. OpenAt must be quick and must not call the tracker,
	// since the channel is locked.
	OpenAt(now Instant) (open bool, next Instant)
}

// The reasons why a group differs from what its members add up to.
const (
	GroupClosed    = "closed"    // now is outside the channel's hours
	GroupUnstaffed = "unstaffed" // now is within the hours, and no member is present; see Policy.ScheduleOpenEmpty
)

// opening is the state of a channel's hours.
type opening struct {
	hours    Hours         // nil for a channel without hours
	behind   time.Duration // how far the wall clock, which hours follow, is behind the roster's time
	open     bool
	nextOpen Instant // when the channel opens next, by the wall clock; 0 while open or if unknown
	next     Instant // when to call the hours again, by the roster's time; 0 for never
}

// look calls the hours for the present state.
func (o *opening) look(now Instant) {
	o.open, o.nextOpen, o.next = false, 0, 0
	if o.hours == nil {
		return
	}
	shown := now.Add(-o.behind)
	open, next := o.hours.OpenAt(shown)
	if next <= shown {
		next = 0 // the hours know no later change
	}
	o.open = open
	if next != 0 {
		o.next = next.Add(o.behind)
		if !open {
			o.nextOpen = next
		}
	}
}

// pass calls the hours again if they have changed by now.
func (o *opening) pass(now Instant) {
	if o != nil && o.next != 0 && o.next <= now {
		o.look(now)
	}
}

// SetHours sets when the channel is open; nil means a channel without hours.
// Outside its hours, visitors see the group as offline. Every audience sees that
// the channel is closed, and until when. Members keep their status and stay listed.
// Call SetHours again after a change of the hours, such as an update of time zones.
func (r *Roster) SetHours(h Hours, now Instant) []*Frame {
	o := r.needOpening()
	o.hours = h
	o.look(now)
	r.publish(now)
	return r.emitted()
}

// needOpening returns the opening. It makes the opening if it is nil.
func (r *Roster) needOpening() *opening {
	if r.opening == nil {
		r.opening = new(opening)
	}
	return r.opening
}

// hours returns when the channel opens or closes next, or 0 if that is unknown. It
// returns false if the channel has no hours.
func (r *Roster) hours() (next Instant, ok bool) {
	if r.opening == nil || r.opening.hours == nil {
		return 0, false
	}
	return r.opening.next, true
}

// SetClock sets how far the wall clock, which hours follow, is behind the roster's
// time. It is 0 unless the wall clock was set back.
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

// gate returns a group as an audience sees it under the channel's hours.
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
