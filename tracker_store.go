package presence

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"sync"
	"time"

	"github.com/presence-go/presence/internal/ring"
)

// When rows are stored that nobody asks for: so many, or so long after the first.
const (
	fullRows    = 512
	flushWithin = time.Second
)

// maxBacklog bounds the journal rows that wait for storage.
const maxBacklog = 65536

// inputEvery is how often the last input of everybody is written, at most.
const inputEvery = 2 * time.Minute

// journal collects what is to be written to storage: the rows of the journal,
// and the subjects whose records are behind. Where there is no storage it keeps
// the newest rows.
type journal struct {
	flushing chan struct{} // held while writing; taken before a subject's intent
	begun    chan struct{} // told when a row begins to wait
	full     chan struct{} // and when many do

	mu      sync.Mutex
	waiting []JournalRow
	dropped int // since that was last logged
	given   int // up in all
	writing struct{ records, rows int }
	dirty   []uint32
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
	switch n := len(j.waiting); {
	case n%fullRows == 0:
		signal(j.full)
	case n == 1:
		signal(j.begun)
	}
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

func (j *journal) addDirty(subjects ...uint32) {
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
		t.eachSubject(nil, t.noteInput)
	}
	j.mu.Lock()
	dirty, rows, dropped := distinct(j.dirty), j.waiting, j.dropped
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
		var refused []uint32
		for len(alone) > 0 && err == nil {
			if err = t.storeBehind(ctx, alone[0]); errors.Is(err, ErrInvalid) { // this record alone
				unreadable = fmt.Errorf("presence: the record of %s cannot be stored: %w", t.ref(alone[0]), err)
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

// distinct returns the numbers in a list, each once: a record that was written
// with a choice may be behind again.
func distinct(list []uint32) []uint32 { return slices.Compact(slices.Sorted(slices.Values(list))) }

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
func (t *Tracker) storeTogether(ctx context.Context, subjects []uint32) (alone []uint32, err error) {
	type trial struct {
		who   handle
		input Instant
		steps uint64
	}
	var tried []trial
	var writes []Write
	defer func() {
		for _, t := range tried {
			t.who.unlockIntent()
		}
	}()
	for _, n := range subjects {
		h := t.lockByNumber(n)
		if h == nil {
			continue
		}
		w := h.handle()
		select {
		case w.intent <- struct{}{}:
			record, err := h.m.Record(h.state, h.extra.stored+1)
			switch {
			case !h.extra.dirty:
				w.unlockIntent()
			case err != nil:
				w.unlockIntent()
				alone = append(alone, n)
			default:
				tried = append(tried, trial{w, h.m.lastInput(h.state), h.extra.steps})
				writes = append(writes, Write{Record: record, Expect: h.extra.stored})
			}
		default:
			alone = append(alone, n)
		}
		h.unlock()
	}
	if len(writes) == 0 {
		return alone, nil
	}
	err = t.callStorage(ctx, t.opts.StorageTimeout, func(ctx context.Context, s Storage) error { return s.Save(ctx, writes...) })
	if errors.Is(err, ErrConflict) || errors.Is(err, ErrInvalid) {
		return subjects, nil
	}
	if err != nil {
		return nil, err
	}
	for i, write := range writes {
		tried := tried[i]
		if h := t.lock(tried.who.n, tried.who.ref); h != nil {
			h.extra.stored, h.extra.input, h.extra.dirty = write.Record.Revision, tried.input, false
			if h.extra.steps != tried.steps {
				h.markDirty() // it went on meanwhile
			}
			h.unlock()
		}
	}
	return alone, nil
}

// storeBehind writes a record that changed without anybody waiting for it.
func (t *Tracker) storeBehind(ctx context.Context, n uint32) error {
	h := t.lockByNumber(n)
	if h == nil {
		return nil
	}
	who := h.handle()
	h.unlock()
	if err := who.lockIntent(ctx); err != nil {
		return err
	}
	defer who.unlockIntent()
	for attempt := 0; ; attempt++ {
		h := t.lock(n, who.ref)
		if h == nil {
			return nil
		}
		if !h.extra.dirty {
			h.unlock()
			return nil
		}
		record, err := h.m.Record(h.state, h.extra.stored+1)
		w, input, steps := Write{Record: record, Expect: h.extra.stored}, h.m.lastInput(h.state), h.extra.steps
		h.unlock()
		if err != nil {
			return err
		}
		err = t.save(ctx, who, w, input)
		if errors.Is(err, ErrConflict) && attempt < maxConflicts {
			if err := t.takeOver(ctx, who); err != nil {
				return err
			}
			continue
		}
		if err == nil {
			if h := t.lock(n, who.ref); h != nil {
				if h.extra.steps != steps {
					h.markDirty() // it went on meanwhile
				}
				h.unlock()
			}
		}
		return err
	}
}

// flushWhenTold writes to storage beside the deadlines, which must not wait for
// it: when it is told, when many rows wait, and a while after one began to.
func (t *Tracker) flushWhenTold(ctx context.Context, told <-chan struct{}) {
	timer := t.opts.Clock.Timer(flushWithin)
	defer timer.Stop()
	for {
		select {
		case <-t.journal.begun:
			timer.Reset(flushWithin)
			continue
		case <-timer.C:
		case <-t.journal.full:
		case <-told:
		case <-ctx.Done():
			return
		case <-t.stopped.Done():
			return
		}
		if err := t.flushStorage(ctx); err != nil && ctx.Err() == nil {
			t.log.Warn("presence: storage is behind", "error", err)
		}
	}
}

// Journal returns the rows of a subject's journal that q selects, in the order
// in which they were noted, fetching further pages as the caller goes on. After
// an error it ends. Without storage there are those in memory, see
// [Options].JournalRows; storage must be a [JournalReader]. A Limit of 0 is none.
func (t *Tracker) Journal(ctx context.Context, q JournalQuery) iter.Seq2[JournalRow, error] {
	return func(yield func(JournalRow, error) bool) {
		limit := q.Limit
		for n := 0; limit <= 0 || n < limit; {
			page := q
			page.Limit = 1000
			if limit > 0 {
				page.Limit = min(1000, limit-n)
			}
			rows, err := t.journalPage(ctx, page)
			if err != nil {
				yield(JournalRow{}, err)
				return
			}
			for _, row := range rows {
				if !yield(row, nil) {
					return
				}
			}
			n += len(rows)
			if len(rows) < page.Limit {
				return
			}
			q.After = rows[len(rows)-1].ID
		}
	}
}

func (t *Tracker) journalPage(ctx context.Context, q JournalQuery) ([]JournalRow, error) {
	if err := checkRef("subject", q.Subject); err != nil {
		return nil, err
	}
	if t.opts.Storage == nil {
		return q.Select(t.journal.rows(q.Subject)), nil
	}
	reader, ok := t.opts.Storage.(JournalReader)
	if !ok {
		return nil, fmt.Errorf("presence: %w: this storage cannot read its journal back", ErrUnavailable)
	}
	if err := t.flushStorage(ctx); err != nil {
		return nil, err
	}
	var rows []JournalRow
	err := t.callStorage(ctx, t.opts.StorageTimeout, func(ctx context.Context, _ Storage) (err error) {
		rows, err = reader.Journal(ctx, q)
		return err
	})
	return rows, err
}

// loadRecords reads what is stored of subjects, where anything is.
func (t *Tracker) loadRecords(ctx context.Context, refs ...Ref) ([]Record, error) {
	var records []Record
	err := t.callStorage(ctx, t.opts.StorageTimeout, func(ctx context.Context, s Storage) (err error) {
		records, err = s.Load(ctx, refs...)
		return err
	})
	if err != nil {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		return nil, fmt.Errorf("presence: %w: what is stored of %s cannot be loaded: %w", ErrUnavailable, refs[0], err)
	}
	return slices.DeleteFunc(records, func(r Record) bool { return !slices.Contains(refs, r.Subject) }), nil
}

// restore takes over what was loaded of a subject, unless somebody else was
// quicker.
func (t *Tracker) restore(ctx context.Context, w handle, records []Record) error {
	if err := w.lockIntent(ctx); err != nil {
		return err
	}
	defer w.unlockIntent()
	h := t.lock(w.n, w.ref)
	if h == nil {
		return w.gone()
	}
	defer h.unlock()
	if h.sub.flags&flagLoaded != 0 {
		return nil
	}
	for _, r := range records {
		state, err := r.State()
		if err != nil {
			return err
		}
		*h.state, h.extra.stored, h.extra.input = state, r.Revision, state.Input
		if err := h.step(&Event{Kind: EventRestart, Subject: h.ref}, t.time.now()); err != nil {
			return err
		}
	}
	h.sub.flags |= flagLoaded
	return nil
}

// trial is what an event did to a copy of a state.
type trial struct {
	steps uint64 // of the subject when the copy was taken
	state State
	out   []Output
	next  Instant
}

// maxConflicts is how often in a row others may be quicker before a change is
// refused. It is not small: who has just written knows the revision and writes
// again sooner than who has to load it first, so that a burst of changes by
// another process can win many times in a row.
const maxConflicts = 64

// storeFirst tries an event on a copy of a subject's state and writes the
// record. It returns nil if there is nothing to be stored first. A conflict is
// settled by taking over what storage has and trying again.
func (t *Tracker) storeFirst(ctx context.Context, w handle, e *Event, now Instant) (*trial, error) {
	for attempt := 0; ; attempt++ {
		h := t.lock(w.n, w.ref)
		if h == nil {
			return nil, w.gone()
		}
		h.applyClockBreaks()
		tried := &trial{steps: h.extra.steps, state: h.state.own()}
		m, stored, dirty := h.m, h.extra.stored, h.extra.dirty
		h.unlock()
		var err error
		if tried.out, tried.next, err = m.Step(&tried.state, e, now, nil); err != nil {
			return nil, err
		}
		behind := dirty && e.Kind != EventLogin && e.Kind != EventLogout // who comes or goes waits for no arrears
		if !behind && !slices.ContainsFunc(tried.out, func(o Output) bool { return o.Kind == OutputPersist }) {
			return nil, nil
		}
		record, err := m.Record(&tried.state, stored+1)
		if err != nil {
			return nil, err
		}
		err = t.save(ctx, w, Write{Record: record, Expect: stored}, m.lastInput(&tried.state))
		switch {
		case err == nil:
			return tried, nil
		case errors.Is(err, ErrConflict) && attempt < maxConflicts:
			if err := t.takeOver(ctx, w); err != nil {
				return nil, err
			}
		default:
			return nil, fmt.Errorf("presence: %w: the change to %s cannot be stored: %w", ErrUnavailable, w.ref, err)
		}
	}
}

// save writes a record. The subject's intent is held.
func (t *Tracker) save(ctx context.Context, w handle, write Write, input Instant) error {
	if err := t.callStorage(ctx, t.opts.StorageTimeout, func(ctx context.Context, s Storage) error { return s.Save(ctx, write) }); err != nil {
		if errors.Is(err, ErrConflict) {
			return err
		}
		if h := t.lock(w.n, w.ref); h != nil { // it may be stored all the same: what is known here is not to be relied on
			h.markDirty()
			h.unlock()
		}
		return err
	}
	if h := t.lock(w.n, w.ref); h != nil {
		h.extra.stored, h.extra.input, h.extra.dirty = write.Record.Revision, input, false
		h.unlock()
	}
	return nil
}

// takeOver makes what storage has the truth after somebody else wrote it, or
// after a write of our own whose answer was lost. The intent is held.
func (t *Tracker) takeOver(ctx context.Context, w handle) error {
	records, err := t.loadRecords(ctx, w.ref)
	if err != nil {
		return err
	}
	h := t.lock(w.n, w.ref)
	if h == nil {
		return w.gone()
	}
	defer h.unlock()
	r, revision := Record{Subject: w.ref, Data: emptyRecord}, uint64(0)
	if len(records) > 0 {
		r, revision = records[0], records[0].Revision
	} // otherwise it was erased elsewhere: what was chosen is not to be written anew
	if revision == h.extra.stored {
		return nil
	}
	if err := h.step(&Event{Kind: EventRecord, Subject: w.ref, Record: &r}, t.time.now()); err != nil {
		return err
	}
	h.extra.stored = revision
	return nil
}

// markDirty notes that storage is behind with a subject.
func (h *loaded) markDirty() {
	if h.t.opts.Storage != nil && !h.extra.dirty {
		h.extra.dirty = true
		h.t.journal.addDirty(h.n)
	}
}

// noteInput marks a subject whose last input storage does not have yet: without
// it, everybody who is idle would come back fresh after a restart.
func (t *Tracker) noteInput(h *loaded) {
	if h.m.lastInput(h.state) != h.extra.input {
		h.markDirty()
	}
}

// Health says how a tracker gets on with its storage. Nothing that waits is
// lost while the process lives, except what Dropped counts.
type Health struct {
	Err     error   // what storage failed with last; nil if its last answer was none
	Since   Instant // when it began to fail
	Records int     // how many subjects have changes that are not stored yet, or that may not be
	Rows    int     // how many rows of the journal are not stored yet
	Dropped int     // how many rows were given up, the oldest first, because too many waited
}

// Health says how storage is doing. Decisions go on from memory while it fails:
// what must be stored first is refused with [ErrUnavailable], what need not be
// waits and is written when storage is back.
func (t *Tracker) Health() Health {
	j := &t.journal
	j.mu.Lock()
	h := Health{Records: len(distinct(j.dirty)) + j.writing.records, Rows: len(j.waiting) + j.writing.rows, Dropped: j.given}
	j.mu.Unlock()
	t.health.mu.Lock()
	defer t.health.mu.Unlock()
	h.Err, h.Since = t.health.err, t.health.since
	return h
}

// health is the last answer of storage.
type health struct {
	mu    sync.Mutex
	err   error
	since Instant
}

// note takes an answer of storage into account. That a record is refused shows
// that storage works.
func (h *health) note(err error, now Instant) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if err == nil || errors.Is(err, ErrConflict) || errors.Is(err, ErrInvalid) {
		h.err, h.since = nil, 0
		return
	}
	if h.err == nil {
		h.since = now
	}
	h.err = err
}

// callStorage makes one call of storage that may take as long as given. If ctx
// ends it returns the cause of that, which says nothing about storage.
func (t *Tracker) callStorage(ctx context.Context, most time.Duration, call func(context.Context, Storage) error) error {
	bounded, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	err := call(bounded, t.opts.Storage)
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	t.health.note(err, t.time.now())
	return err
}

// Reload takes over what others have stored or deleted since: of the subjects
// given, or of all in memory where none is given. Subjects that are not in memory
// are skipped. A tracker whose storage others write to as well needs it to show
// what they did before it writes itself.
func (t *Tracker) Reload(ctx context.Context, subjects ...Ref) error {
	if t.closed.Load() {
		return t.closedError()
	}
	if t.opts.Storage == nil {
		return nil
	}
	var list []handle
	if len(subjects) == 0 {
		t.eachSubject(nil, func(h *loaded) {
			if h.sub.flags&flagLoaded != 0 {
				list = append(list, h.handle())
			}
		})
	}
	for _, ref := range subjects {
		if w, flags := t.find(ref); flags&flagLoaded != 0 {
			list = append(list, w)
		}
	}
	var unreadable error // records of this or that subject, which the others need not wait for
	for chunk := range slices.Chunk(list, 256) {
		refs := make([]Ref, len(chunk))
		for i, w := range chunk {
			refs[i] = w.ref
		}
		records, err := t.loadRecords(ctx, refs...)
		if err != nil {
			return err
		}
		revisions := make(map[Ref]uint64, len(records))
		for _, r := range records {
			revisions[r.Subject] = r.Revision
		}
		for _, w := range chunk {
			err := t.refresh(ctx, w, revisions[w.ref])
			if err != nil && !errors.Is(err, ErrInvalid) {
				return err
			}
			unreadable = errors.Join(unreadable, err)
		}
	}
	return unreadable
}

// refresh takes over what is stored of a subject if that was seen to be at
// another revision than the one known.
func (t *Tracker) refresh(ctx context.Context, w handle, revision uint64) error {
	h := t.lock(w.n, w.ref)
	if h == nil {
		return nil
	}
	known := h.extra.stored == revision
	h.unlock()
	if known {
		return nil
	}
	if err := w.lockIntent(ctx); err != nil {
		return err
	}
	defer w.unlockIntent()
	if err := t.takeOver(ctx, w); !errors.Is(err, ErrUnknown) { // otherwise it has been erased meanwhile
		return err
	}
	return nil
}

// ScanJournal returns the rows of all subjects of a tenant that q selects, by
// the instant at which they happened, fetching further pages as the caller goes
// on. After an error it ends. It needs storage that is a [JournalScanner].
func (t *Tracker) ScanJournal(ctx context.Context, q JournalScan) iter.Seq2[JournalRow, error] {
	return func(yield func(JournalRow, error) bool) {
		scanner, ok := t.opts.Storage.(JournalScanner)
		if !ok {
			yield(JournalRow{}, fmt.Errorf("presence: %w: there is no storage that can read the journals of all", ErrUnavailable))
			return
		}
		if t.closed.Load() {
			yield(JournalRow{}, t.closedError())
			return
		}
		if err := t.flushStorage(ctx); err != nil {
			yield(JournalRow{}, err)
			return
		}
		limit := q.Limit
		for n := 0; limit <= 0 || n < limit; {
			if q.Limit = 1000; limit > 0 {
				q.Limit = min(1000, limit-n)
			}
			var rows []JournalRow
			err := t.callStorage(ctx, t.opts.StorageTimeout, func(ctx context.Context, _ Storage) (err error) {
				rows, err = scanner.ScanJournal(ctx, q)
				return err
			})
			if err != nil {
				yield(JournalRow{}, err)
				return
			}
			for _, row := range rows {
				if !yield(row, nil) {
					return
				}
			}
			n += len(rows)
			if len(rows) < q.Limit {
				return
			}
			q.After = rows[len(rows)-1]
		}
	}
}
