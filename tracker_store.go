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
	flushing chan struct{} // a lock: its holder alone writes the backlog and the rows
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

// flushStorage writes the records and the journal rows that wait. It keeps what
// it could not write for the next time.
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
	if err != nil { // storage would fail with the rows as well, and slowly
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

// inputsDue reports whether the last inputs are to be looked through now.
func (j *journal) inputsDue(now Instant) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	if now < j.noted.Add(inputEvery) {
		return false
	}
	j.noted = now
	return true
}

// take returns what waits for storage, and how many rows were dropped since the
// last call. Until written is called, Health counts it as waiting.
func (j *journal) take() (dirty []uint32, rows []JournalRow, dropped int) {
	j.mu.Lock()
	defer j.mu.Unlock()
	dirty, rows, dropped = distinct(j.dirty), j.waiting, j.dropped
	j.dirty, j.waiting, j.dropped = nil, nil, 0
	j.writing.records, j.writing.rows = len(dirty), len(rows)
	return dirty, rows, dropped
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

// written ends what take began.
func (j *journal) written() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.writing.records, j.writing.rows = 0, 0
}

// maxRecords and maxRows are the most records and rows of one call of storage.
const (
	maxRecords = 256
	maxRows    = 512
)

// maxConflicts is how many conflicts in a row a change survives. It is large: a
// process that has just written knows the revision, and writes again sooner than
// one that has to load it first. So a burst of changes by one process can win
// many times in a row.
const maxConflicts = 64

// pendingWrite is a record to be stored. The subject's write lock is held.
type pendingWrite struct {
	handle handle
	write  Write
	input  Instant // the last input that the record has
	steps  uint64  // of the subject when the record was made
}

// pending returns the write of a state as the record of a loaded subject.
func (h *loaded) pending(s *State) (pendingWrite, error) {
	record, err := h.m.Record(s, h.extra.stored+1)
	return pendingWrite{
		handle: h.handle(), write: Write{Record: record, Expect: h.extra.stored}, input: h.m.lastInput(s), steps: h.extra.steps,
	}, err
}

// write stores records in one call. Only write and writeOne call Storage.Save.
// The error wraps ErrUnavailable and the error of storage. After ErrConflict and
// ErrInvalid nothing was stored. After any other error the records may be stored:
// write marks the subjects, so that they are written again.
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
// takes over what is stored and prepares again, at most maxConflicts times. The
// caller holds the subject's write lock. prepare returns ok false if nothing is
// to be stored.
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

// prepareDirty makes the record of a subject with which storage is behind.
func prepareDirty(h *loaded) (p pendingWrite, ok bool, err error) {
	if !h.extra.dirty {
		return p, false, nil
	}
	p, err = h.pending(h.state)
	return p, true, err
}

// writeBacklog writes the records of subjects with which storage is behind. A
// record that is refused holds up no other: behind has it, and refusal says why.
// After any other error behind has the rest as well.
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

// writeBatch writes the records of subjects in one call. It returns those that
// are to be written one by one: their write locks were held, or the call was
// refused because of one of them.
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

// writeDirty writes the record of one subject with which storage is behind.
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
	if err := t.writeOne(ctx, w, prepareDirty); !errors.Is(err, ErrUnknown) { // it may have been erased meanwhile
		return err
	}
	return nil
}

// flushWhenTold writes to storage beside the deadlines, which must not wait for
// it: when it is told, when many rows wait, and a while after one began to.
func (t *Tracker) flushWhenTold(ctx context.Context, told <-chan struct{}) {
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

// Journal returns the rows that q selects, page by page as the caller goes on.
// After an error it ends. A Limit of 0 is none. Storage must be a [JournalReader].
// Without storage, Journal returns the rows of a subject that are in memory (see
// [Options].JournalRows), and cannot return those of a tenant.
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

// journalReader returns what reads pages of the journal, once all rows so far are
// stored.
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
		return nil, refuse(ErrUnavailable, "storage", "", "the record of %s cannot be loaded", refs[0]).because(err)
	}
	return slices.DeleteFunc(records, func(r Record) bool { return !slices.Contains(refs, r.Subject) }), nil
}

// restore takes over what was loaded of a subject, unless somebody else was
// quicker.
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
		state, err := r.State()
		if err != nil {
			return err
		}
		*h.state, h.extra.stored, h.extra.input = state, r.Revision, state.Input
		if err := h.step(&Event{Kind: EventRestart, Subject: h.ref}, t.time.Now()); err != nil {
			return err
		}
	}
	h.sub.flags |= flagLoaded
	return nil
}

// trial is what an event does to a copy of a state.
type trial struct {
	steps   uint64 // of the subject when the copy was taken
	state   State
	out     []Output
	next    Instant
	written bool // storage has the record of the copy
}

// try applies an event to a copy of a subject's state, and stores the record of
// the copy if the change must be stored first. The caller holds the write lock.
func (t *Tracker) try(ctx context.Context, w handle, e *Event, now Instant) (*trial, error) {
	var tried *trial
	err := t.writeOne(ctx, w, func(h *loaded) (p pendingWrite, ok bool, err error) {
		h.applyClockBreaks()
		tried = &trial{steps: h.extra.steps, state: h.state.own()}
		if tried.out, tried.next, err = h.m.Step(&tried.state, e, now, nil); err != nil {
			return p, false, err
		}
		behind := h.extra.dirty && e.Kind != EventLogin && e.Kind != EventLogout // these wait for no arrears
		if !behind && !slices.ContainsFunc(tried.out, func(o Output) bool { return o.Kind == OutputPersist }) {
			return p, false, nil
		}
		tried.written = true
		p, err = h.pending(&tried.state)
		return p, true, err
	})
	return tried, err
}

// takeOver makes what storage has the truth after somebody else wrote it, or
// after a write of our own whose answer was lost. The caller holds the write lock.
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
	if err := h.step(&Event{Kind: EventRecord, Subject: w.ref, Record: &r}, t.time.Now()); err != nil {
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

// callStorage makes one call of storage that may take as long as given. If ctx
// ends it returns the cause of that, which says nothing about storage.
func (t *Tracker) callStorage(ctx context.Context, most time.Duration, call func(context.Context, Storage) error) error {
	bounded, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	err := call(bounded, t.opts.Storage)
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	t.health.note(err, t.time.Now())
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
	if err := w.lockWrite(ctx); err != nil {
		return err
	}
	defer w.unlockWrite()
	if err := t.takeOver(ctx, w); !errors.Is(err, ErrUnknown) { // otherwise it has been erased meanwhile
		return err
	}
	return nil
}
