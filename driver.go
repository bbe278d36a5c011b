package presence

import (
	"container/heap"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/benbjohnson/clock"

	"github.com/presence-go/presence/internal/ring"
)

// timeline turns a clock into instants that never go back: the wall time at the
// start and what has passed since. A wall clock set back is absorbed; one set
// forward, or a process that did not run, shows as a standstill.
type timeline struct {
	clock    clock.Clock
	start    time.Time
	origin   Instant
	absolute bool // a mock clock does what a test tells it to, which is no standstill

	mu        sync.Mutex
	last      Instant
	read      time.Time     // the clock's time at last
	shift     time.Duration // added to absorb steps of the clock
	threshold time.Duration // how long nobody may have asked; 0 while nobody has to
	breaks    breaks
}

// breaks are the ways in which time did not simply pass. Every subject is told
// of them before anything else is fed to it.
type breaks struct {
	stood    uint32 // how often this process did not run
	from, to Instant
	behind   time.Duration // by how much the wall clock was set back, in all
}

// clockStep is the least by which wall and monotonic time must part for the wall
// clock to have been set.
const clockStep = time.Second

func newTimeline(c clock.Clock) *timeline {
	now := c.Now()
	_, mock := c.(*clock.Mock)
	return &timeline{clock: c, start: now, origin: At(now), absolute: mock, read: now, last: At(now)}
}

// expect says how often somebody will ask for the time from now on; 0 that
// nobody has to. Run asks with every heartbeat: if for much longer nobody did,
// the process stood still.
func (t *timeline) expect(threshold time.Duration) {
	t.now()
	t.mu.Lock()
	defer t.mu.Unlock()
	t.threshold = threshold
}

// broken returns how time was broken until it was last read.
func (t *timeline) broken() breaks {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.breaks
}

// now reads the time.
func (t *timeline) now() Instant {
	t.mu.Lock()
	defer t.mu.Unlock()
	at := t.clock.Now()
	passed := at.Sub(t.read)
	step := at.Round(0).Sub(t.read.Round(0)) - passed // of the wall clock against the monotonic one
	t.read = at
	now := t.origin.Add(at.Sub(t.start)).Add(t.shift)
	stood := t.threshold > 0 && !t.absolute && now.Sub(t.last) > t.threshold
	switch {
	case now < t.last: // a clock without a monotonic reading
		t.breaks.behind += t.last.Sub(now)
		t.shift += t.last.Sub(now)
		now = t.last
	case step < -clockStep:
		t.breaks.behind -= step
	case step > clockStep: // set forward, or the machine slept
		t.shift += step
		now = now.Add(step)
		stood = true
	}
	if stood {
		t.breaks.stood++
		t.breaks.from, t.breaks.to = t.last, now
	}
	t.last = now
	return now
}

// timers holds one deadline a subject. A deadline that moves later is left
// where it is: when it comes, the subject says when the next one is.
type timers struct {
	mu   sync.Mutex
	heap timerHeap
	wake chan struct{}
}

type timer struct {
	at  Instant
	sub *subject
}

type timerHeap []timer

func (h timerHeap) Len() int { return len(h) }
func (h timerHeap) Less(i, j int) bool {
	if h[i].at != h[j].at {
		return h[i].at < h[j].at
	}
	return compareRefs(h[i].sub.ref, h[j].sub.ref) < 0
}
func (h timerHeap) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h *timerHeap) Push(x any)   { *h = append(*h, x.(timer)) }
func (h *timerHeap) Pop() any {
	old := *h
	last := old[len(old)-1]
	old[len(old)-1] = timer{}
	*h = old[:len(old)-1]
	return last
}

// arm makes sure that a subject is looked at no later than at. The subject is
// locked.
func (t *timers) arm(sub *subject, at Instant) {
	if sub.armed != 0 && sub.armed <= at {
		return
	}
	sub.armed = at
	t.mu.Lock()
	heap.Push(&t.heap, timer{at, sub})
	first := t.heap[0].sub == sub && t.heap[0].at == at
	t.mu.Unlock()
	if first {
		select {
		case t.wake <- struct{}{}:
		default:
		}
	}
}

// disarm makes the timers forget a subject, which is locked.
func (t *timers) disarm(sub *subject) { sub.armed = 0 }

// pop returns the first deadline that is due, or else when the next one is. An
// entry that its subject has replaced is for the subject to ignore.
func (t *timers) pop(now Instant) (sub *subject, at Instant, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.heap) == 0 {
		return nil, 0, false
	}
	if first := t.heap[0]; first.at > now {
		return nil, first.at, false
	}
	first := heap.Pop(&t.heap).(timer)
	return first.sub, first.at, true
}

// patience is how young the last input over a connection must be for the next
// one to change nothing: no idle stage can have been reached.
func (m *Machine) patience() time.Duration {
	if !m.activity["input"] {
		return 0
	}
	least := time.Duration(1<<63 - 1)
	for i := range m.statuses {
		if stages := m.statuses[i].stages; len(stages) > 0 {
			least = min(least, stages[0].after)
		}
	}
	return least
}

// maxBacklog bounds the journal rows that wait for storage.
const maxBacklog = 65536

// inputEvery is how often the last input of everybody is written, at most.
const inputEvery = 2 * time.Minute

// journal collects what is to be written to storage: the rows of the journal,
// and the subjects whose records are behind. Where there is no storage it keeps
// the newest rows.
type journal struct {
	flushing chan struct{} // held while writing; taken before a subject's intent

	mu      sync.Mutex
	waiting []JournalRow
	dropped int // since that was last logged
	given   int // up in all
	writing struct{ records, rows int }
	dirty   []*subject
	noted   Instant // when the last inputs were last looked through
	recent  *ring.Rings[Ref, JournalRow]
}

func (j *journal) add(row JournalRow, stored bool) {
	if !stored {
		j.recent.Add(row.Subject, row)
		return
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.waiting = append(j.waiting, row)
	j.bound()
}

// bound drops the oldest rows where too many wait.
func (j *journal) bound() {
	if over := len(j.waiting) - maxBacklog; over > 0 {
		over += maxBacklog / 16 // not one by one
		j.waiting = slices.Delete(j.waiting, 0, over)
		j.dropped += over
		j.given += over
	}
}

func (j *journal) addDirty(subjects ...*subject) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.dirty = append(j.dirty, subjects...)
}

func (j *journal) rows(subject Ref) []JournalRow { return j.recent.List(subject) }

func (j *journal) forget(subject Ref) {
	j.recent.Delete(subject)
	j.mu.Lock()
	defer j.mu.Unlock()
	j.waiting = slices.DeleteFunc(j.waiting, func(r JournalRow) bool { return r.Subject == subject })
}

func (j *journal) lockFlush(ctx context.Context) error {
	select {
	case j.flushing <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (j *journal) unlockFlush() { <-j.flushing }

// flushStorage writes records that storage is behind with, and the journal rows
// that wait. What cannot be written is kept for the next time.
func (t *Tracker) flushStorage(ctx context.Context) error {
	if t.opts.Storage == nil {
		return nil
	}
	j := &t.journal
	if err := j.lockFlush(ctx); err != nil {
		return err
	}
	defer j.unlockFlush()
	now := t.time.now()
	j.mu.Lock()
	look := now >= j.noted.Add(inputEvery)
	if look {
		j.noted = now
	}
	j.mu.Unlock()
	if look {
		t.eachSubject("", t.noteInput)
	}
	j.mu.Lock()
	dirty, rows, dropped := j.dirty, j.waiting, j.dropped
	j.dirty, j.waiting, j.dropped = nil, nil, 0
	j.writing.records, j.writing.rows = len(dirty), len(rows)
	j.mu.Unlock()
	defer j.written()
	if dropped > 0 {
		t.log.Error("presence: journal rows dropped because storage was behind for too long", "rows", dropped)
	}
	var unreadable error
	for len(dirty) > 0 {
		batch := dirty[:min(len(dirty), maxRecords)]
		alone, err := t.storeTogether(ctx, batch)
		var refused []*subject
		for len(alone) > 0 && err == nil {
			if err = t.storeBehind(ctx, alone[0]); errors.Is(err, ErrInvalid) { // this record alone
				unreadable = fmt.Errorf("presence: the record of %s cannot be stored: %w", alone[0].ref, err)
				refused = append(refused, alone[0])
				err = nil
			}
			alone = alone[1:]
		}
		if err != nil { // the rest would only fail as well, and slowly
			j.addDirty(dirty...)
			j.putBack(rows)
			return fmt.Errorf("presence: %w: records cannot be stored: %w", ErrUnavailable, err)
		}
		j.addDirty(refused...)
		dirty = dirty[len(batch):]
	}
	for len(rows) > 0 {
		batch := rows[:min(len(rows), 512)]
		err := t.callStorage(ctx, t.opts.StorageTimeout, func(ctx context.Context, s Storage) error { return s.Append(ctx, batch...) })
		if err != nil {
			j.putBack(rows)
			return fmt.Errorf("presence: %w: the journal cannot be stored: %w", ErrUnavailable, err)
		}
		rows = rows[len(batch):]
	}
	return unreadable
}

// putBack keeps rows that could not be written.
func (j *journal) putBack(rows []JournalRow) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.waiting = append(rows, j.waiting...)
	j.bound()
}

// written says that nothing is being written any more.
func (j *journal) written() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.writing.records, j.writing.rows = 0, 0
}

// maxRecords bounds the records that are written in one call.
const maxRecords = 256

// storeTogether writes records that changed without anybody waiting for it, in
// one call. It returns those that have to be written one by one: somebody is
// writing them just now, or one of them was refused.
func (t *Tracker) storeTogether(ctx context.Context, subs []*subject) (alone []*subject, err error) {
	type trial struct {
		sub   *subject
		input Instant
		steps uint64
	}
	var tried []trial
	var writes []Write
	defer func() {
		for _, t := range tried {
			t.sub.unlockIntent()
		}
	}()
	for _, sub := range subs {
		select {
		case sub.intent <- struct{}{}:
		default:
			alone = append(alone, sub)
			continue
		}
		sub.mu.Lock()
		behind := sub.dirty && !sub.erased
		if behind {
			t.foldHandles(sub)
			var record Record
			if record, err = sub.m.Record(&sub.state, sub.stored+1); err == nil {
				tried = append(tried, trial{sub, sub.m.lastInput(&sub.state), sub.steps})
				writes = append(writes, Write{Record: record, Expect: sub.stored})
			}
		}
		sub.mu.Unlock()
		if !behind || err != nil {
			sub.unlockIntent()
		}
		if err != nil {
			alone, err = append(alone, sub), nil
		}
	}
	if len(writes) == 0 {
		return alone, nil
	}
	err = t.callStorage(ctx, t.opts.StorageTimeout, func(ctx context.Context, s Storage) error { return s.Save(ctx, writes...) })
	if errors.Is(err, ErrConflict) || errors.Is(err, ErrInvalid) {
		return subs, nil
	}
	if err != nil {
		return nil, err
	}
	for i, w := range writes {
		tried := tried[i]
		tried.sub.mu.Lock()
		tried.sub.stored, tried.sub.input, tried.sub.dirty = w.Record.Revision, tried.input, false
		if tried.sub.steps != tried.steps {
			t.markDirty(tried.sub) // it went on meanwhile
		}
		tried.sub.mu.Unlock()
	}
	return alone, nil
}

// storeBehind writes a record that changed without anybody waiting for it.
func (t *Tracker) storeBehind(ctx context.Context, sub *subject) error {
	if err := sub.lockIntent(ctx); err != nil {
		return err
	}
	defer sub.unlockIntent()
	for attempt := 0; ; attempt++ {
		sub.mu.Lock()
		if !sub.dirty || sub.erased {
			sub.mu.Unlock()
			return nil
		}
		t.foldHandles(sub)
		record, err := sub.m.Record(&sub.state, sub.stored+1)
		w, input, steps := Write{Record: record, Expect: sub.stored}, sub.m.lastInput(&sub.state), sub.steps
		sub.mu.Unlock()
		if err != nil {
			return err
		}
		err = t.save(ctx, sub, w, input)
		if errors.Is(err, ErrConflict) && attempt < maxConflicts {
			if err := t.takeOver(ctx, sub); err != nil {
				return err
			}
			continue
		}
		if err == nil {
			sub.mu.Lock()
			if sub.steps != steps {
				t.markDirty(sub) // it went on meanwhile
			}
			sub.mu.Unlock()
		}
		return err
	}
}
