package pusher

import (
	"container/list"
	"time"

	"github.com/presence-go/presence"
)

// vacancy holds the channels of an app whose last subscription has ended and
// whose channel_vacated waits. A channel that is occupied again in time is taken
// out, and the webhooks hear of neither. All fields are under the hub's lock.
//
// The channels stay among those of the hub, so that [Options.MaxChannels] limits
// both. At the limit the one that has waited longest is vacated early.
type vacancy struct {
	waiting *list.List // of *channel before their time, in the order of it
	overdue *list.List // of *channel that wait for their last member_removed
	timer   *time.Timer
	closed  bool
}

func newVacancy() vacancy { return vacancy{waiting: list.New(), overdue: list.New()} }

// turnLocked follows the number of subscriptions of a channel: with the first
// it sends channel_occupied, after the last channel_vacated begins to wait.
func (ch *channel) turnLocked() {
	b := ch.hub
	switch occupied := len(ch.subs) > 0; {
	case occupied && ch.waits != nil:
		b.vacancy.removeLocked(ch)
	case occupied && !ch.told && (b.outbox.wants(hookOccupied) || b.outbox.wants(hookVacated)):
		ch.told = true
		b.outbox.put(hookEvent{Name: hookOccupied, Channel: ch.name})
	case !occupied && ch.told && ch.waits == nil:
		b.waitLocked(ch)
	}
}

// waitLocked lets the channel_vacated of a channel wait.
func (b *hub) waitLocked(ch *channel) {
	v, patience := &b.vacancy, b.h.opts.VacatedAfter
	ch.due = time.Now().Add(patience)
	ch.waits = v.waiting.PushBack(ch)
	switch {
	case v.waiting.Len() > 1 || v.closed:
	case v.timer == nil:
		v.timer = time.AfterFunc(patience, b.vacateDue)
	default:
		v.timer.Reset(patience)
	}
}

// removeLocked takes a channel out.
func (v *vacancy) removeLocked(ch *channel) {
	v.waiting.Remove(ch.waits) // of the two lists only the one that has it removes it
	v.overdue.Remove(ch.waits)
	ch.waits = nil
}

// vacateDue vacates the channels whose time is over, and lets those with
// members wait on.
func (b *hub) vacateDue() {
	b.mu.Lock()
	defer b.mu.Unlock()
	v := &b.vacancy
	if v.closed {
		return
	}
	for first := v.waiting.Front(); first != nil; first = v.waiting.Front() {
		ch := first.Value.(*channel)
		if rest := time.Until(ch.due); rest > 0 {
			v.timer.Reset(rest)
			return
		}
		v.removeLocked(ch)
		ch.waits = v.overdue.PushBack(ch)
		b.vacateLocked(ch.name)
	}
}

// vacateLocked sends the overdue channel_vacated of a channel, unless a
// member_removed follows.
func (b *hub) vacateLocked(name string) {
	ch := b.channels[name]
	if ch == nil || ch.waits == nil || time.Now().Before(ch.due) || b.counts[name].leaving() {
		return
	}
	b.vacatedLocked(ch)
}

// vacatedLocked sends the channel_vacated of a channel that waits.
func (b *hub) vacatedLocked(ch *channel) {
	b.vacancy.removeLocked(ch)
	ch.told = false
	b.outbox.put(hookEvent{Name: hookVacated, Channel: ch.name})
	b.forgetLocked(ch)
}

// vacateFirstLocked vacates the channel that has waited longest. It returns
// false if none waits.
func (b *hub) vacateFirstLocked() bool {
	for _, l := range []*list.List{b.vacancy.overdue, b.vacancy.waiting} {
		if first := l.Front(); first != nil {
			b.vacatedLocked(first.Value.(*channel))
			return true
		}
	}
	return false
}

// closeVacancy vacates all channels that wait, once no socket is left: after
// the end of the process no other could do it.
func (b *hub) closeVacancy() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.vacancy.timer != nil {
		b.vacancy.timer.Stop()
	}
	b.vacancy.closed = true
	for b.vacateFirstLocked() {
	}
}

// leaving reports whether a member_removed will follow because the channel's
// subscriptions have ended. Under some policies members stay although they are
// not connected, and bots need no connection: they would let channel_vacated
// wait for ever.
func (c *census) leaving() bool {
	if c == nil || len(c.present) == 0 || c.b.h.opts.Roster {
		return false
	}
	policy := c.b.h.t.Policy(c.b.Tenant)
	for i := range policy.Statuses {
		if s := &policy.Statuses[i]; s.ID == policy.Disconnected && s.Class != presence.ClassOffline {
			return false
		}
	}
	// The status of members who stay for their push notifications.
	show := policy.Virtual[string(presence.EndpointPush)].Show
	for _, m := range c.present {
		if m.human && show != presence.ShowTop && m.status != show {
			return true
		}
	}
	return false
}
