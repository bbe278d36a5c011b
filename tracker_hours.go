package presence

import (
	"container/heap"
	"context"
	"sync"
	"time"
)

// openings holds the instants at which channels open or close next. An entry is
// ignored if its channel has a newer one.
type openings struct {
	behind time.Duration // how far the wall clock is behind, as last set in the rosters; guarded by Tracker.sweeping

	mu   sync.Mutex
	heap openingHeap
}

type openingAt struct {
	at  Instant
	hub *channelHub
}

type openingHeap []openingAt

func (h openingHeap) Len() int { return len(h) }

func (h openingHeap) Less(i, j int) bool {
	if h[i].at != h[j].at {
		return h[i].at < h[j].at
	}
	return compareRefs(Ref(h[i].hub.ref()), Ref(h[j].hub.ref())) < 0
}

func (h openingHeap) Swap(i, j int) { h[i], h[j] = h[j], h[i] }

func (h *openingHeap) Push(x any) { *h = append(*h, x.(openingAt)) }

func (h *openingHeap) Pop() any {
	last := (*h)[len(*h)-1]
	(*h)[len(*h)-1] = openingAt{}
	*h = (*h)[:len(*h)-1]
	return last
}

// pop removes and returns the first entry that is due. If none is due, it returns
// nil and the instant of the next entry, or 0.
func (o *openings) pop(now Instant) (hub *channelHub, at Instant) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.heap) == 0 {
		return nil, 0
	}
	if first := o.heap[0]; first.at > now {
		return nil, first.at
	}
	first := heap.Pop(&o.heap).(openingAt)
	return first.hub, first.at
}

// arm schedules the next opening or closing of a channel. The hub is locked before
// openings.mu.
func (o *openings) arm(hub *channelHub) {
	at, _ := hub.roster.hours()
	if hub.armed == at {
		return
	}
	if hub.armed = at; at == 0 {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	heap.Push(&o.heap, openingAt{at, hub})
}

// SetHours sets when a channel is open; nil means a channel without hours. See
// [Roster.SetHours] for the effects. Hours are not stored: set them when the
// process starts, and again when the hours or the time zones change.
func (t *Tracker) SetHours(_ context.Context, channel Channel, h Hours) error {
	if err := checkRef("channel", Ref(channel)); err != nil {
		return err
	}
	if t.closed.Load() {
		return t.closedError()
	}
	find := t.lookAt
	if h == nil {
		find = t.lookAtKnown // an unknown channel has no hours
	}
	err := t.useHub(func() (*channelHub, error) { return find(channel) }, func(hub *channelHub) (bool, error) {
		now, behind := t.time.Now(), t.time.Behind()
		open := hub.use(func(r *Roster) {
			r.SetClock(behind, now)
			r.SetHours(h, now)
			t.openings.arm(hub)
		})
		if h == nil {
			t.forgetUnused(hub)
		}
		return open, nil
	})
	t.deadlines.nudge() // the next deadline may now be sooner
	return err
}

// openAndClose flushes the channels that open or close by now. It returns the
// instant of the next one, or 0. The caller holds Tracker.sweeping.
func (t *Tracker) openAndClose(now Instant) (next Instant) {
	if behind := t.time.Behind(); behind != t.openings.behind {
		t.openings.behind = behind
		for _, hub := range t.channelTable.allHubs() {
			hub.passHours(&t.openings, func(r *Roster) { r.SetClock(behind, now) })
		}
	}
	for {
		hub, at := t.openings.pop(now)
		if hub == nil {
			return at
		}
		hub.passHours(&t.openings, func(r *Roster) {
			if hub.armed == at {
				hub.armed = 0
				r.Flush(now)
			}
		})
	}
}

// passHours calls do, which may open or close the channel, if the channel has
// hours.
func (hub *channelHub) passHours(o *openings, do func(*Roster)) {
	hub.mu.Lock()
	defer hub.mu.Unlock()
	if _, ok := hub.roster.hours(); ok {
		hub.updateLocked(do)
		o.arm(hub)
	}
}
