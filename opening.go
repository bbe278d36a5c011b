package presence

import (
	"container/heap"
	"context"
	"fmt"
	"sync"
	"time"
)

// openings holds when channels open or close next. An entry that its channel has
// replaced is ignored when it comes.
type openings struct {
	behind time.Duration // what channels were told of the wall clock; by whoever sweeps

	mu   sync.Mutex
	heap openingHeap
}

type openingAt struct {
	at Instant
	ch *channel
}

type openingHeap []openingAt

func (h openingHeap) Len() int { return len(h) }
func (h openingHeap) Less(i, j int) bool {
	if h[i].at != h[j].at {
		return h[i].at < h[j].at
	}
	return compareRefs(h[i].ch.ref, h[j].ch.ref) < 0
}
func (h openingHeap) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h *openingHeap) Push(x any)   { *h = append(*h, x.(openingAt)) }
func (h *openingHeap) Pop() any {
	last := (*h)[len(*h)-1]
	(*h)[len(*h)-1] = openingAt{}
	*h = (*h)[:len(*h)-1]
	return last
}

// pop returns the first entry that is due, or else when the next one is.
func (o *openings) pop(now Instant) (ch *channel, at Instant) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.heap) == 0 {
		return nil, 0
	}
	if first := o.heap[0]; first.at > now {
		return nil, first.at
	}
	first := heap.Pop(&o.heap).(openingAt)
	return first.ch, first.at
}

// arm makes sure that a channel is looked at when it opens or closes next. The
// channel is locked.
func (o *openings) arm(ch *channel) {
	at := ch.roster.hours.next
	if ch.armed == at {
		return
	}
	if ch.armed = at; at == 0 {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	heap.Push(&o.heap, openingAt{at, ch})
}

// SetHours sets when a channel is open, nil for a channel without hours. See
// [Roster.SetHours] for what follows. Hours are not stored: set them when the
// process starts, and again when they or the data of time zones change.
func (t *Tracker) SetHours(_ context.Context, channel Ref, h Hours) error {
	if err := checkRef("channel", channel); err != nil {
		return err
	}
	if t.closed.Load() {
		return t.closedError()
	}
	ch, err := t.setHours(channel, h)
	if err != nil || ch == nil {
		return err
	}
	if h == nil {
		t.forgetUnused(ch)
	}
	select {
	case t.timers.wake <- struct{}{}: // the next deadline may have come closer
	default:
	}
	return nil
}

func (t *Tracker) setHours(ref Ref, h Hours) (*channel, error) {
	now := t.time.now()
	t.mu.Lock()
	defer t.mu.Unlock()
	if h == nil && t.channels[ref] == nil {
		return nil, nil
	}
	ch, err := t.channelLocked(ref)
	if err != nil {
		return nil, err
	}
	ch.mu.Lock()
	defer ch.mu.Unlock()
	if ch.closed {
		return nil, fmt.Errorf("presence: %w: channel %s", ErrClosed, ref)
	}
	ch.roster.hours.behind = t.time.broken().behind
	ch.deliver(ch.roster.SetHours(h, now))
	t.openings.arm(ch)
	return ch, nil
}

// openAndClose tells the channels whose hours begin or end by now, and returns
// when the next one's do, 0 for none. It is called by whoever sweeps.
func (t *Tracker) openAndClose(now Instant) (next Instant) {
	if behind := t.time.broken().behind; behind != t.openings.behind {
		t.openings.behind = behind
		t.mu.RLock()
		for _, ch := range t.channels {
			ch.passHours(&t.openings, func() []*Frame { return ch.roster.SetClock(behind, now) })
		}
		t.mu.RUnlock()
	}
	for {
		ch, at := t.openings.pop(now)
		if ch == nil {
			return at
		}
		ch.passHours(&t.openings, func() []*Frame {
			if ch.armed != at {
				return nil
			}
			ch.armed = 0
			return ch.roster.Flush(now)
		})
	}
}

// passHours does something that may open or close a channel.
func (ch *channel) passHours(o *openings, do func() []*Frame) {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	if ch.roster.hours.hours != nil {
		ch.deliver(do())
		o.arm(ch)
	}
}
