package presence

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"sync"
	"time"
)

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

// Refresh takes over what others have stored or deleted since: of the subjects
// given, or of all in memory where none is given. Subjects that are not in memory
// are skipped. A tracker whose storage others write to as well needs it to show
// what they did before it writes itself.
func (t *Tracker) Refresh(ctx context.Context, subjects ...Ref) error {
	if t.closed.Load() {
		return t.closedError()
	}
	if t.opts.Storage == nil {
		return nil
	}
	var list []who
	if len(subjects) == 0 {
		t.eachSubject(nil, func(h *held) {
			if h.sub.flags&flagLoaded != 0 {
				list = append(list, h.who())
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
func (t *Tracker) refresh(ctx context.Context, w who, revision uint64) error {
	h := t.hold(w.n, w.ref)
	if h == nil {
		return nil
	}
	known := h.more.stored == revision
	h.release()
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
