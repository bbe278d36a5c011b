package sqlite

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"sync/atomic"
	"time"

	sqlite3 "modernc.org/sqlite/lib"

	"github.com/presence-go/presence"
)

// maxBatch is the number of calls that may share a transaction.
const maxBatch = 1024

// job is one call that writes. It waits in a queue.
type job struct {
	ctx    context.Context
	do     func(context.Context, *file) error
	parts  bool // it may be refused after a part of it was written
	erases bool // it is answered once no traces are left
	state  atomic.Int32
	err    error // the refusal, or nil
	answer chan error
}

// A waiting job is either taken for writing or given up by its caller.
const (
	waiting int32 = iota
	taken
	givenUp
)

func (j *job) take() bool { return j.state.CompareAndSwap(waiting, taken) }

// submit queues a job and returns its answer. If ctx ends before the job is
// taken, the job writes nothing.
func (s *Storage) submit(ctx context.Context, j *job) error {
	if s.isClosed() {
		return s.closedError()
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	j.ctx, j.answer = ctx, make(chan error, 1)
	select {
	case s.jobs <- j:
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-s.closing:
		return s.closedError()
	}
	select {
	case err := <-j.answer:
		return s.explain(ctx, err)
	case <-ctx.Done():
		j.state.CompareAndSwap(waiting, givenUp)
		select {
		case err := <-j.answer:
			return s.explain(ctx, err)
		default:
			return context.Cause(ctx)
		}
	case <-s.ended:
		select {
		case err := <-j.answer:
			return s.explain(ctx, err)
		default:
			return s.closedError()
		}
	}
}

// writeAll carries out all waiting jobs together, until Close. Callers that
// were just answered often return at once. So it waits for as many jobs as it
// answered last, for at most half the time that the last batch took. A larger
// batch saves a sync, which costs more than the wait. It never waits for a
// single caller.
func (s *Storage) writeAll() {
	defer close(s.ended)
	last, took := 0, time.Duration(0)
	for {
		again := s.tidy()
		var batch []*job
		select {
		case j := <-s.jobs:
			batch = append(batch, j)
		case <-again:
			continue
		case <-s.closing:
			return
		}
		batch = s.gather(batch, last, took/2)
		last = len(batch)
		began := time.Now()
		s.carryOut(batch)
		took = time.Since(began)
	}
}

// gather adds the waiting jobs to a batch. While the batch has fewer than
// wanted, it also waits for jobs, for at most the time given.
func (s *Storage) gather(batch []*job, wanted int, within time.Duration) []*job {
	for len(batch) < maxBatch {
		select {
		case j := <-s.jobs:
			batch = append(batch, j)
			continue
		default:
		}
		if len(batch) >= wanted {
			return batch
		}
		timer := time.NewTimer(within)
		for len(batch) < wanted {
			select {
			case j := <-s.jobs:
				batch = append(batch, j)
				continue
			case <-timer.C:
			case <-s.closing:
			}
			timer.Stop()
			return batch
		}
		timer.Stop()
	}
	return batch
}

// carryOut carries out a batch in one transaction and answers each job.
func (s *Storage) carryOut(batch []*job) {
	f, err := s.usable()
	if err == nil {
		err = s.begin(f, batch)
		s.dropIfBroken(f, err)
	}
	if err != nil {
		answer(batch, err)
		return
	}
	batch = slices.DeleteFunc(batch, func(j *job) bool { return !j.take() })
	err = s.transact(f, batch)
	s.dropIfBroken(f, err)
	if err != nil && len(batch) > 1 {
		// One job may have met a fault of its own, such as a damaged page.
		for _, j := range batch {
			j.state.Store(waiting)
			s.carryOut([]*job{j})
		}
		return
	}
	if err == nil {
		err = f.there() // a removed file has lost the write
	}
	if err != nil {
		answer(batch, err)
		return
	}
	erasing := slices.DeleteFunc(slices.Clone(batch), func(j *job) bool { return !j.erases || j.err != nil })
	for _, j := range batch {
		if !j.erases || j.err != nil {
			j.answer <- j.err
		}
	}
	if len(erasing) > 0 {
		answer(erasing, s.removeTraces(f))
	}
}

func answer(jobs []*job, err error) {
	for _, j := range jobs {
		j.answer <- err
	}
}

// begin begins a transaction. If another process holds the file, it waits for
// at most BusyTimeout, while at least one caller waits.
func (s *Storage) begin(f *file, batch []*job) error {
	ctx := context.Background()
	return patiently(ctx, s.opts.BusyTimeout, func() error {
		_, err := f.writer.ExecContext(ctx, `BEGIN IMMEDIATE`)
		if isBusy(err) && !slices.ContainsFunc(batch, func(j *job) bool { return j.ctx.Err() == nil }) {
			return errNobodyWaits
		}
		return err
	})
}

var errNobodyWaits = errors.New("the callers have given up")

// transact carries out a batch in the begun transaction, and ends the
// transaction. It returns an error of the file. It notes a refusal in its job.
func (s *Storage) transact(f *file, batch []*job) (err error) {
	ctx := context.Background()
	exec := func(statement string) error {
		_, err := f.writer.ExecContext(ctx, statement)
		return err
	}
	defer func() {
		if err != nil {
			_ = exec(`ROLLBACK`) // the engine may have rolled back already
		}
	}()
	changed := false
	for _, j := range batch {
		apart := j.parts && len(batch) > 1
		if apart {
			if err := exec(`SAVEPOINT job`); err != nil {
				return err
			}
		}
		j.err = j.do(ctx, f)
		if j.err != nil && !errors.Is(j.err, presence.ErrConflict) {
			return j.err
		}
		changed = changed || j.err == nil
		if apart && j.err != nil {
			if err := exec(`ROLLBACK TO job`); err != nil {
				return err
			}
		}
		if apart {
			if err := exec(`RELEASE job`); err != nil {
				return err
			}
		}
	}
	if !changed {
		return exec(`ROLLBACK`)
	}
	return exec(`COMMIT`)
}

// usable returns the file. It opens the file again if another file has taken
// its place.
func (s *Storage) usable() (*file, error) {
	s.mu.RLock()
	f := s.file
	s.mu.RUnlock()
	if f != nil {
		if err := f.there(); !errors.Is(err, errReplaced) {
			return f, err
		}
		s.drop(f)
		f.abandon()
	}
	ctx, cancel := context.WithTimeout(context.Background(), s.opts.BusyTimeout)
	defer cancel()
	f, err := openFile(ctx, s.path, &s.opts, false)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.file = f
	return f, nil
}

// dropIfBroken drops the file if its connection cannot continue.
func (s *Storage) dropIfBroken(f *file, err error) {
	if err == nil || errors.Is(err, errNobodyWaits) {
		return
	}
	if c := code(err); c == 0 || c == sqlite3.SQLITE_ERROR || c == sqlite3.SQLITE_MISUSE {
		s.drop(f)
	}
}

// drop closes the file. The next batch opens it again.
func (s *Storage) drop(f *file) {
	s.mu.Lock()
	defer s.mu.Unlock()
	_ = f.close() // the callers have got the errors of failed writes
	s.file = nil
}

// Save stores all writes or none.
func (s *Storage) Save(ctx context.Context, writes ...presence.Write) error {
	writes = slices.Clone(writes) // the job may run after the caller has given up
	for i := range writes {
		writes[i].Record.Data = append([]byte{}, writes[i].Record.Data...)
	}
	return s.submit(ctx, &job{parts: len(writes) > 1, do: func(ctx context.Context, f *file) error {
		for i := range writes {
			if err := f.save(ctx, &writes[i]); err != nil {
				return err
			}
		}
		return nil
	}})
}

func (f *file) save(ctx context.Context, w *presence.Write) error {
	r := &w.Record
	var result sql.Result
	var err error
	if w.Expect == 0 {
		result, err = f.saveNew.ExecContext(ctx, r.Subject.Tenant, r.Subject.ID, int64(r.Revision), r.Data)
	} else {
		result, err = f.saveOver.ExecContext(ctx, int64(r.Revision), r.Data, r.Subject.Tenant, r.Subject.ID, int64(w.Expect))
	}
	if err != nil {
		return err
	}
	if n, err := result.RowsAffected(); err != nil || n == 1 {
		return err
	}
	var revision int64
	var data []byte
	err = f.current.QueryRowContext(ctx, r.Subject.Tenant, r.Subject.ID).Scan(&revision, &data)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return refuse(presence.ErrConflict, "record", r.Subject.String(), "none is stored, expected was revision %d", w.Expect)
	case err != nil:
		return err
	case uint64(revision) == r.Revision && bytes.Equal(data, r.Data):
		return nil // the caller repeats a call
	}
	return refuse(presence.ErrConflict, "record", r.Subject.String(), "it is at revision %d, expected was %d", uint64(revision), w.Expect)
}

// Append adds rows to the journal, in order.
func (s *Storage) Append(ctx context.Context, rows ...presence.JournalRow) error {
	rows = slices.Clone(rows)
	return s.submit(ctx, &job{do: func(ctx context.Context, f *file) error {
		for i := range rows {
			r := &rows[i]
			_, err := f.addRow.ExecContext(ctx, r.Subject.Tenant, r.Subject.ID, r.ID, r.Kind, r.From, r.To, string(r.Class), string(r.Cause), string(r.Trigger),
				r.Reach, string(r.Source), r.Key, r.Reason, r.By, int64(r.At), int64(r.Recorded))
			if err != nil {
				return err
			}
		}
		return nil
	}})
}

// Delete removes the records and journals of subjects, so that nothing of them
// is left in the files. After an error it may have removed the rows but not
// their traces: another process may read the file, or the disk may be full.
// Call it again then.
func (s *Storage) Delete(ctx context.Context, subjects ...presence.Ref) error {
	subjects = slices.Clone(subjects)
	return s.submit(ctx, &job{erases: true, do: func(ctx context.Context, f *file) error {
		for _, subject := range subjects {
			for _, statement := range []*sql.Stmt{f.deleteRecord, f.deleteJournal} {
				result, err := statement.ExecContext(ctx, subject.Tenant, subject.ID)
				if err != nil {
					return err
				}
				n, err := result.RowsAffected()
				if err != nil {
					return err
				}
				f.marked = f.marked || n > 0
			}
		}
		if !f.marked {
			return nil
		}
		_, err := f.setMark.ExecContext(ctx, markTraces)
		return err
	}})
}

// removeTraces writes the file again without deleted rows, and empties the log
// beside it.
func (s *Storage) removeTraces(f *file) error {
	if !f.marked {
		return nil
	}
	ctx := context.Background()
	err := patiently(ctx, s.opts.BusyTimeout, func() error {
		_, err := f.writer.ExecContext(ctx, `VACUUM`)
		return err
	})
	if err != nil {
		return err
	}
	if err := s.emptyLog(ctx, f); err != nil {
		return err
	}
	if _, err := f.writer.ExecContext(ctx, `DELETE FROM marks WHERE name = ?`, markTraces); err != nil {
		return err
	}
	f.marked = false
	return nil
}

// emptyLog moves the log into the file and truncates the log. It waits until no
// reader holds the log, for at most BusyTimeout.
func (s *Storage) emptyLog(ctx context.Context, f *file) error {
	for deadline := time.Now().Add(s.opts.BusyTimeout); ; {
		var busy, frames, moved int
		s.mu.Lock()
		err := f.writer.QueryRowContext(ctx, `PRAGMA wal_checkpoint(TRUNCATE)`).Scan(&busy, &frames, &moved)
		s.mu.Unlock()
		switch {
		case err != nil && !isBusy(err):
			return err
		case err == nil && busy == 0:
			return nil
		case time.Now().After(deadline):
			return errTraces
		}
	}
}

// pruneChunk is the number of old rows that one transaction looks at.
const pruneChunk = 1000

// The least time between two prunings, and between two removals of traces.
const (
	pruneEvery = time.Hour
	tidyEvery  = time.Minute
)

// Prune deletes the rows of the journal that happened before an instant, of all
// tenants. It keeps of each subject the last of the transitions among them, and
// deletes the one that an earlier call kept. It deletes some rows at a time, so
// that no call waits for long. It returns the number of deleted rows. The records
// stay.
func (s *Storage) Prune(ctx context.Context, before presence.Instant) (rows int, err error) {
	for {
		var looked, deleted int
		err := s.submit(ctx, &job{do: func(ctx context.Context, f *file) (err error) {
			looked, deleted, err = f.prune(ctx, before)
			return err
		}})
		if err != nil {
			return rows, err
		}
		if rows += deleted; looked < pruneChunk {
			return rows, nil
		}
	}
}

// prune looks at up to pruneChunk rows and returns how many it looked at and how
// many it deleted.
func (f *file) prune(ctx context.Context, before presence.Instant) (looked, deleted int, err error) {
	query, after := `SELECT min(tenant) FROM journal`, []any(nil)
	for looked < pruneChunk {
		var tenant sql.NullString
		if err := f.writer.QueryRowContext(ctx, query, after...).Scan(&tenant); err != nil || !tenant.Valid {
			return looked, deleted, err
		}
		n, gone, err := f.pruneTenant(ctx, tenant.String, before, pruneChunk-looked)
		looked, deleted = looked+n, deleted+gone
		if err != nil {
			return looked, deleted, err
		}
		query, after = `SELECT min(tenant) FROM journal WHERE tenant > ?`, []any{tenant.String}
	}
	return looked, deleted, nil
}

// oldRow is a row that pruning looks at.
type oldRow struct {
	seq           int64
	subject, kind string
}

// pruneTenant looks at up to most rows. It keeps of each subject the last
// transition that it has seen, also by earlier calls. Once it has seen all rows
// before the instant, that is the last one before the instant.
func (f *file) pruneTenant(ctx context.Context, tenant string, before presence.Instant, most int) (looked, deleted int, err error) {
	found, err := f.writer.QueryContext(ctx, `SELECT seq, subject, kind FROM journal WHERE tenant = ? AND kept = 0 AND at < ? ORDER BY at LIMIT ?`,
		tenant, int64(before), most)
	if err != nil {
		return 0, 0, err
	}
	old, err := collect(found, func(r *oldRow) []any { return []any{&r.seq, &r.subject, &r.kind} })
	if err != nil || len(old) == 0 {
		return 0, 0, err
	}
	last := make(map[string]int64) // the last transition of each subject
	for _, r := range old {
		if r.kind == presence.RowTransition {
			last[r.subject] = max(last[r.subject], r.seq)
		}
	}
	keep := slices.Collect(maps.Values(last))
	kept, err := f.keptWith(ctx, keep)
	if err != nil {
		return 0, 0, err
	}
	var gone []int64
	for _, r := range old {
		if r.seq != last[r.subject] {
			gone = append(gone, r.seq)
		}
	}
	for _, pair := range kept {
		gone = append(gone, min(pair.seq, pair.kept))
	}
	if _, err := f.writer.ExecContext(ctx, `UPDATE journal SET kept = 1 WHERE seq IN (SELECT value FROM json_each(?))`, list(keep)); err != nil {
		return 0, 0, err
	}
	result, err := f.writer.ExecContext(ctx, `DELETE FROM journal WHERE seq IN (SELECT value FROM json_each(?))`, list(gone))
	if err != nil {
		return 0, 0, err
	}
	n, err := result.RowsAffected()
	return len(old), int(n), err
}

// keptPair is a row with one of its subject that an earlier pruning kept.
type keptPair struct{ seq, kept int64 }

// keptWith returns the rows that earlier prunings kept of the subjects of rows.
func (f *file) keptWith(ctx context.Context, seqs []int64) ([]keptPair, error) {
	found, err := f.writer.QueryContext(ctx, `SELECT j.seq, k.seq FROM json_each(?) AS e CROSS JOIN journal AS j ON j.seq = e.value
		CROSS JOIN journal AS k ON k.tenant = j.tenant AND k.subject = j.subject AND k.kept = 1`, list(seqs))
	if err != nil {
		return nil, err
	}
	return collect(found, func(p *keptPair) []any { return []any{&p.seq, &p.kept} })
}

// list returns numbers as the argument of json_each.
func list(seqs []int64) string {
	data, _ := json.Marshal(seqs) // numbers can be encoded
	return string(data)
}

// tidy prunes rows older than the retention, and removes traces that a killed
// process left. It repeats a removal that failed: the returned channel receives
// when it is due.
func (s *Storage) tidy() (again <-chan time.Time) {
	now := time.Now()
	if f, err := s.usable(); err == nil && f.marked {
		if now.Sub(s.tidied) >= tidyEvery {
			s.tidied = now
			_ = s.removeTraces(f)
		}
		if f.marked {
			again = time.After(tidyEvery)
		}
	}
	if s.opts.Retention == 0 || now.Sub(s.pruned) < pruneEvery {
		return again
	}
	var looked int
	j := &job{ctx: context.Background(), answer: make(chan error, 1), do: func(ctx context.Context, f *file) (err error) {
		looked, _, err = f.prune(ctx, presence.At(now.Add(-s.opts.Retention)))
		return err
	}}
	s.carryOut([]*job{j})
	if err := <-j.answer; err == nil && looked < pruneChunk {
		s.pruned = now
	}
	return again
}
