package presence

import (
	"context"
	"errors"
	"iter"
	"slices"
	"sync"
	"time"

	"github.com/presence-go/presence/internal/ring"
)

// The triggers of a write that no caller asked for: this many rows, or this long
// after the first row began to wait.
const (
	fullRows    = 512
	flushWithin = time.Second
)

// maxBacklog is the largest number of journal rows that wait for storage.
const maxBacklog = 65536

// inputEvery is the shortest time between two writes of the last inputs of all
// subjects.
const inputEvery = 2 * time.Minute

// journal collects what storage does not have: journal rows, and the numbers of
// subjects whose records are behind. Without storage it keeps the newest rows in
// memory.
type journal struct {
	flushing chan struct{} // a lock: its holder is the only one to write the backlog and the rows
	begun    chan struct{} // signalled when a first row waits
	full     chan struct{} // signalled when 512 more rows wait

	mu      sync.Mutex // guards the fields below but recent; nothing is locked under it
	waiting []JournalRow
	dropped int                         // rows dropped since the last log entry
	given   int                         // rows dropped in all
	writing struct{ records, rows int } // taken, but not yet written
	dirty   []uint32                    // the subjects whose records are behind
	noted   Instant                     // when the last inputs were last compared with storage
	recent  *ring.Rings[Ref, JournalRow]
}

func (j *journal) add(row JournalRow, stored bool) {
	if !stored {
		j.recent.Add(row.Subject, row, row.Kind == RowTransition)
		return
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.waiting = append(j.waiting, row)
	j.limit()
	switch n := len(j.waiting); {
	case n%fullRows == 0:
		signal(j.full)
	case n == 1:
		signal(j.begun)
	}
}

// limit drops the oldest rows above maxBacklog.
func (j *journal) limit() {
	if over := len(j.waiting) - maxBacklog; over > 0 {
		over += maxBacklog / 16 // many at once, since each deletion moves the rest
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

// flushStorage writes the waiting records and journal rows. What it cannot write
// waits for the next call.
func (t *Tracker) flushStorage(ctx context.Context) error {
	if t.opts.Storage == nil {
		return nil
	}
	j := &t.journal
	if err := j.lockFlush(ctx); err != nil {
		return err
	}
	defer j.unlockFlush()
	if j.inputsDue(t.time.Now()) {
		t.eachSubject(nil, t.noteInput)
	}
	dirty, rows, dropped := j.take()
	defer j.written()
	if dropped > 0 {
		t.log.Error("presence: journal rows dropped because storage was behind for too long", "rows", dropped)
	}
	behind, refusal, err := t.writeBacklog(ctx, dirty)
	j.addDirty(behind...)
	if err != nil { // storage would fail for the rows too, after another timeout
		j.putBack(rows)
		return err
	}
	for len(rows) > 0 {
		batch := rows[:min(len(rows), maxRows)]
		err := t.callStorage(ctx, t.opts.StorageTimeout, func(ctx context.Context, s Storage) error { return s.Append(ctx, batch...) })
		if err != nil {
			j.putBack(rows)
			return refuse(ErrUnavailable, "storage", "", "the journal cannot be stored").because(err)
		}
		rows = rows[len(batch):]
	}
	return refusal
}

// inputsDue reports whether the last inputs are to be compared with storage now. If
// so, it notes now as the time.
func (j *journal) inputsDue(now Instant) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	if now < j.noted.Add(inputEvery) {
		return false
	}
	j.noted = now
	return true
}

// take returns what waits for storage, and the number of rows dropped since the
// last call. Until written is called, Stats counts what it returned as waiting.
func (j *journal) take() (dirty []uint32, rows []JournalRow, dropped int) {
	j.mu.Lock()
	defer j.mu.Unlock()
	dirty, rows, dropped = distinct(j.dirty), j.waiting, j.dropped
	j.dirty, j.waiting, j.dropped = nil, nil, 0
	j.writing.records, j.writing.rows = len(dirty), len(rows)
	return dirty, rows, dropped
}

// distinct returns the numbers of a list, each once. A subject whose record was
// written with a choice may be in the list twice.
func distinct(list []uint32) []uint32 { return slices.Compact(slices.Sorted(slices.Values(list))) }

// putBack makes rows that could not be written wait again.
func (j *journal) putBack(rows []JournalRow) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.waiting = append(rows, j.waiting...)
	j.limit()
}

// written ends what take began.
func (j *journal) written() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.writing.records, j.writing.rows = 0, 0
}

// maxRecords and maxRows limit one call of storage.
const (
	maxRecords = 256
	maxRows    = 512
)

// maxConflicts is the number of conflicts in a row after which a change fails. It is
// large, since a burst of writes by another process can win many times in a row. That
// process knows the revision, and writes again before this one has loaded it.
const maxConflicts = 64

// pendingWrite is a record to store. The caller holds the subject's write lock.
type pendingWrite struct {
	handle handle
	write  Write
	input  Instant // the last input in the record
	steps  uint64  // of the subject, when the record was made
}

// pending returns the write of a state as the record of a loaded subject.
func (h *loaded) pending(s *State) (pendingWrite, error) {
	record, err := h.m.Record(s, h.extra.stored+1)
	return pendingWrite{
		handle: h.handle(), write: Write{Record: record, Expect: h.extra.stored}, input: h.m.lastInput(s), steps: h.extra.steps,
	}, err
}

// write stores records in one call. Only write calls Storage.Save. The error wraps
// ErrUnavailable and the error of storage. After ErrConflict and ErrInvalid nothing
// was stored. After any other error the records may be stored, so write marks the
// subjects to be written again.
func (t *Tracker) write(ctx context.Context, list []pendingWrite) error {
	writes := make([]Write, len(list))
	for i, p := range list {
		writes[i] = p.write
	}
	err := t.callStorage(ctx, t.opts.StorageTimeout, func(ctx context.Context, s Storage) error { return s.Save(ctx, writes...) })
	refused := errors.Is(err, ErrConflict) || errors.Is(err, ErrInvalid)
	for _, p := range list {
		if refused {
			break
		}
		h := t.lock(p.handle.n, p.handle.ref)
		if h == nil {
			continue
		}
		if err == nil {
			h.extra.stored, h.extra.input, h.extra.dirty = p.write.Record.Revision, p.input, false
		}
		if err != nil || h.extra.steps != p.steps {
			h.markDirty()
		}
		h.unlock()
	}
	if err != nil {
		return refuse(ErrUnavailable, "storage", "", "the record of %s cannot be stored", writes[0].Record.Subject).because(err)
	}
	return nil
}

// writeOne stores the record that prepare makes of a subject. After a conflict it
// takes over the stored record and prepares again, at most maxConflicts times. The
// caller holds the subject's write lock. prepare returns ok false if nothing is to
// be stored.
func (t *Tracker) writeOne(ctx context.Context, w handle, prepare func(*loaded) (p pendingWrite, ok bool, err error)) error {
	for attempt := 0; ; attempt++ {
		h := t.lock(w.n, w.ref)
		if h == nil {
			return w.gone()
		}
		p, ok, err := prepare(h)
		h.unlock()
		if err != nil || !ok {
			return err
		}
		if err = t.write(ctx, []pendingWrite{p}); !errors.Is(err, ErrConflict) || attempt == maxConflicts {
			return err
		}
		if err := t.takeOver(ctx, w); err != nil {
			return err
		}
	}
}

// prepareDirty makes the record of a subject if its stored record is behind.
func prepareDirty(h *loaded) (p pendingWrite, ok bool, err error) {
	if !h.extra.dirty {
		return p, false, nil
	}
	p, err = h.pending(h.state)
	return p, true, err
}

// writeBacklog writes the records that are behind. A refused record does not hold
// up others: behind lists its subject, and refusal is the reason. After any other
// error behind lists the rest as well.
func (t *Tracker) writeBacklog(ctx context.Context, dirty []uint32) (behind []uint32, refusal, err error) {
	for len(dirty) > 0 {
		batch := dirty[:min(len(dirty), maxRecords)]
		rest, err := t.writeBatch(ctx, batch)
		for _, n := range rest {
			if err != nil {
				break
			}
			if err = t.writeDirty(ctx, n); errors.Is(err, ErrInvalid) {
				behind, refusal, err = append(behind, n), err, nil
			}
		}
		if err != nil {
			return append(behind, dirty...), nil, err
		}
		dirty = dirty[len(batch):]
	}
	return behind, refusal, nil
}

// writeBatch writes the records of subjects in one call. rest are the subjects to
// write one by one, because their write locks were held or storage refused the
// call.
func (t *Tracker) writeBatch(ctx context.Context, subjects []uint32) (rest []uint32, err error) {
	var list []pendingWrite
	defer func() {
		for _, p := range list {
			p.handle.unlockWrite()
		}
	}()
	for _, n := range subjects {
		h := t.lockByNumber(n)
		if h == nil {
			continue
		}
		w := h.handle()
		if !w.tryLockWrite() {
			rest = append(rest, n)
		} else if p, ok, err := prepareDirty(h); ok && err == nil {
			list = append(list, p)
		} else {
			w.unlockWrite()
			if err != nil {
				rest = append(rest, n)
			}
		}
		h.unlock()
	}
	if len(list) == 0 {
		return rest, nil
	}
	err = t.write(ctx, list)
	if errors.Is(err, ErrConflict) || errors.Is(err, ErrInvalid) {
		return subjects, nil
	}
	return rest, err
}

// writeDirty writes the record of one subject if it is behind.
func (t *Tracker) writeDirty(ctx context.Context, n uint32) error {
	h := t.lockByNumber(n)
	if h == nil {
		return nil
	}
	w := h.handle()
	h.unlock()
	if err := w.lockWrite(ctx); err != nil {
		return err
	}
	defer w.unlockWrite()
	if err := t.writeOne(ctx, w, prepareDirty); !errors.Is(err, ErrUnknown) { // the subject may have been erased
		return err
	}
	return nil
}

// flushWhenAsked writes to storage: when asked is signalled, when many rows wait, and
// a second after a row began to wait. It runs beside the sweep, since deadlines
// must not wait for storage.
func (t *Tracker) flushWhenAsked(ctx context.Context, asked <-chan struct{}) {
	timer := t.opts.Clock.Timer(flushWithin)
	defer func() { timer.Stop() }()
	for {
		select {
		case <-t.journal.begun:
			timer.Stop()
			timer = t.opts.Clock.Timer(flushWithin)
			continue
		case <-timer.C:
		case <-t.journal.full:
		case <-asked:
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

// Journal returns the rows that q selects. It reads them by pages as the caller
// iterates, and ends after an error. A q.Limit of 0 means no limit. Storage must be
// a [JournalReader], else the error is [ErrUnavailable]. Without storage, Journal
// returns the rows of one subject that are in memory (see [Options].JournalRows).
// It cannot return those of a tenant.
func (t *Tracker) Journal(ctx context.Context, q JournalQuery) iter.Seq2[JournalRow, error] {
	return func(yield func(JournalRow, error) bool) {
		read, err := t.journalReader(ctx, q)
		if err != nil {
			yield(JournalRow{}, err)
			return
		}
		limit := q.Limit
		for n := 0; limit <= 0 || n < limit; {
			if q.Limit = 1000; limit > 0 {
				q.Limit = min(1000, limit-n)
			}
			rows, err := read(q)
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

// journalReader stores all waiting rows and returns a function that reads one page
// of the journal.
func (t *Tracker) journalReader(ctx context.Context, q JournalQuery) (func(JournalQuery) ([]JournalRow, error), error) {
	if t.closed.Load() {
		return nil, t.closedError()
	}
	tenant := q.Subject.ID == ""
	err := checkOptionalID("tenant", q.Subject.Tenant)
	if !tenant {
		err = checkRef("subject", q.Subject)
	}
	if err != nil {
		return nil, err
	}
	if t.opts.Storage == nil && !tenant {
		return func(q JournalQuery) ([]JournalRow, error) { return q.Select(t.journal.rows(q.Subject)), nil }, nil
	}
	reader, ok := t.opts.Storage.(JournalReader)
	if !ok {
		return nil, refuse(ErrUnavailable, "storage", "", "it cannot read its journal")
	}
	read := func(q JournalQuery) (rows []JournalRow, err error) {
		err = t.callStorage(ctx, t.opts.StorageTimeout, func(ctx context.Context, _ Storage) (err error) {
			rows, err = reader.Journal(ctx, q)
			return err
		})
		return rows, err
	}
	return read, t.flushStorage(ctx)
}

// loadRecords returns the stored records of subjects. A subject without a record
// has none in the list.
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
		return nil, refuse(ErrUnavailable, "storage", "", "the record of %s cannot be loaded", refs[0]).because(err)
	}
	return slices.DeleteFunc(records, func(r Record) bool { return !slices.Contains(refs, r.Subject) }), nil
}

// restore sets the state of a subject from its record, unless another call has done
// that.
func (t *Tracker) restore(ctx context.Context, w handle, records []Record) error {
	if err := w.lockWrite(ctx); err != nil {
		return err
	}
	defer w.unlockWrite()
	h := t.lock(w.n, w.ref)
	if h == nil {
		return w.gone()
	}
	defer h.unlock()
	if h.sub.flags&flagLoaded != 0 {
		return nil
	}
	for _, r := range records {
		now := t.time.Now()
		h.applyClockBreaks()
		state, err := r.State(now, h.state.Behind)
		if err != nil {
			return err
		}
		*h.state, h.extra.stored, h.extra.input = state, r.Revision, state.Input
		if err := h.step(&Event{Kind: EventRestart, Subject: h.ref}, now); err != nil {
			return err
		}
	}
	h.sub.flags |= flagLoaded
	return nil
}

// trial is the result of an event on a copy of a state.
type trial struct {
	steps   uint64 // of the subject, when the copy was made
	state   State
	out     []Output
	next    Instant
	written bool // storage has the record of the copy
}

// try applies an event to a copy of a subject's state. It stores the record of the
// copy if the change must be stored first. The caller holds the write lock.
func (t *Tracker) try(ctx context.Context, w handle, e *Event, now Instant) (*trial, error) {
	var tried *trial
	err := t.writeOne(ctx, w, func(h *loaded) (p pendingWrite, ok bool, err error) {
		h.applyClockBreaks()
		tried = &trial{steps: h.extra.steps, state: h.state.own()}
		if tried.out, tried.next, err = h.m.Step(&tried.state, e, now, nil); err != nil {
			return p, false, err
		}
		behind := h.extra.dirty && e.Kind != EventLogin && e.Kind != EventLogout // an older change that is not stored does not delay these
		if !behind && !slices.ContainsFunc(tried.out, func(o Output) bool { return o.Kind == OutputPersist }) {
			return p, false, nil
		}
		tried.written = true
		p, err = h.pending(&tried.state)
		return p, true, err
	})
	return tried, err
}

// takeOver replaces the stored part of a state by the record in storage. It is called
// after another process wrote the record, or after a write whose result is unknown.
// The caller holds the write lock.
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
	} // another process erased the record, so that its claims must not be written again
	if revision == h.extra.stored {
		return nil
	}
	if err := h.step(&Event{Kind: EventRecord, Subject: w.ref, Record: &r}, t.time.Now()); err != nil {
		return err
	}
	h.extra.stored = revision
	return nil
}

// markDirty marks the record of a subject as behind.
func (h *loaded) markDirty() {
	if h.t.opts.Storage != nil && !h.extra.dirty {
		h.extra.dirty = true
		h.t.journal.addDirty(h.n)
	}
}

// noteInput marks a subject whose stored last input is old. Otherwise every idle
// subject would be active again after a restart.
func (t *Tracker) noteInput(h *loaded) {
	if h.m.lastInput(h.state) != h.extra.input {
		h.markDirty()
	}
}

// callStorage makes one call of storage, which may take at most the given time. If
// ctx ends, it returns the cause and does not count the call as a failure of
// storage.
func (t *Tracker) callStorage(ctx context.Context, most time.Duration, call func(context.Context, Storage) error) error {
	limited, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	err := call(limited, t.opts.Storage)
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	t.health.note(err, t.time.Now())
	return err
}

// Reload takes over what other processes stored or deleted: of the given subjects,
// or without any of all in memory. It skips subjects that are not in memory. Call
// it if other processes write to the same storage, so that their changes show
// before this process writes the subject.
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
	var unreadable error // faults of single records, which do not hold up the others
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

// refresh takes over the stored record of a subject if its stored revision is not
// the known one.
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
	if err := w.lockWrite(ctx); err != nil {
		return err
	}
	defer w.unlockWrite()
	if err := t.takeOver(ctx, w); !errors.Is(err, ErrUnknown) { // the subject may have been erased
		return err
	}
	return nil
}
