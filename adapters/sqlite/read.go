package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"math"
	"slices"

	"github.com/presence-go/presence"
)

// read calls do with the file. It calls do again if the file had to be opened
// again.
func (s *Storage) read(ctx context.Context, do func(*file) error) error {
	for attempt := 0; ; attempt++ {
		err := s.readOnce(ctx, do)
		if attempt > 0 || !errors.Is(err, errReplaced) {
			return s.explain(ctx, err)
		}
		nothing := func(context.Context, *file) error { return nil }
		if err := s.submit(ctx, &job{do: nothing}); err != nil {
			return err
		}
	}
}

func (s *Storage) readOnce(ctx context.Context, do func(*file) error) error {
	if s.isClosed() {
		return s.closedError()
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	switch {
	case s.isClosed():
		return s.closedError()
	case s.file == nil:
		return errReplaced
	}
	if err := s.file.there(); err != nil {
		return err
	}
	return patiently(ctx, s.opts.BusyTimeout, func() error { return do(s.file) })
}

// Load returns the records of the subjects that have one, each once.
func (s *Storage) Load(ctx context.Context, subjects ...presence.Ref) (records []presence.Record, err error) {
	err = s.read(ctx, func(f *file) error {
		var rows *sql.Rows
		var err error
		if len(subjects) == 1 {
			rows, err = f.loadOne.QueryContext(ctx, subjects[0].Tenant, subjects[0].ID)
		} else {
			// One statement for all subjects reads one moment.
			list := make([][2]string, len(subjects))
			for i, subject := range subjects {
				list[i] = [2]string{subject.Tenant, subject.ID}
			}
			var wanted []byte
			if wanted, err = json.Marshal(list); err != nil {
				return err
			}
			rows, err = f.readers.QueryContext(ctx, `
				SELECT tenant, id, revision, data FROM (SELECT DISTINCT value ->> 0 AS wanted_tenant, value ->> 1 AS wanted_id FROM json_each(?))
				CROSS JOIN records ON tenant = wanted_tenant AND id = wanted_id`, string(wanted))
		}
		if err != nil {
			return err
		}
		records, err = collect(rows, func(r *presence.Record) []any {
			return []any{&r.Subject.Tenant, &r.Subject.ID, (*bits)(&r.Revision), &r.Data}
		})
		return err
	})
	return records, err
}

// Journal returns the rows that q selects.
func (s *Storage) Journal(ctx context.Context, q presence.JournalQuery) (rows []presence.JournalRow, err error) {
	page := (*file).subjectRows
	if q.Subject.ID == "" {
		page = (*file).tenantRows
	}
	err = s.read(ctx, func(f *file) error {
		found, err := page(f, ctx, q)
		if err != nil {
			return err
		}
		rows, err = collect(found, rowFields)
		return err
	})
	return rows, err
}

func (f *file) subjectRows(ctx context.Context, q presence.JournalQuery) (*sql.Rows, error) {
	_, seq, err := f.find(ctx, q.Subject, q.After.ID)
	if err != nil {
		return nil, err
	}
	from, to := window(q.From, q.To)
	base := int64(math.MinInt64)
	if q.Base && q.From != 0 && q.After.ID == "" {
		err := f.base.QueryRowContext(ctx, q.Subject.Tenant, q.Subject.ID, from).Scan(&base)
		switch {
		case err == nil:
			seq = base - 1
		case !errors.Is(err, sql.ErrNoRows):
			return nil, err
		}
	}
	return f.subjectPage.QueryContext(ctx, q.Subject.Tenant, q.Subject.ID, seq, from, to, base, limit(q.Limit))
}

func (f *file) tenantRows(ctx context.Context, q presence.JournalQuery) (*sql.Rows, error) {
	at, seq, err := f.find(ctx, q.After.Subject, q.After.ID)
	if err != nil {
		return nil, err
	}
	from, to := window(q.From, q.To)
	if q.After.ID != "" {
		from = max(from, int64(q.After.At), at)
	}
	return f.tenantPage.QueryContext(ctx, q.Subject.Tenant, from, to, at, seq, limit(q.Limit))
}

// find returns the place of a row. Without the row it returns a place before
// all others.
func (f *file) find(ctx context.Context, subject presence.Ref, id string) (at, seq int64, err error) {
	at, seq = math.MinInt64, math.MinInt64
	if id == "" {
		return at, seq, nil
	}
	err = f.position.QueryRowContext(ctx, subject.Tenant, subject.ID, id).Scan(&at, &seq)
	if errors.Is(err, sql.ErrNoRows) {
		err = nil
	}
	return at, seq, err
}

// window returns the first and the last instant of a period.
func window(from, to presence.Instant) (first, last int64) {
	first, last = int64(from), int64(to)-1
	if from == 0 {
		first = math.MinInt64
	}
	if to == 0 {
		last = math.MaxInt64
	}
	return first, last
}

func limit(n int) int {
	if n <= 0 {
		return 1000
	}
	return n
}

// rowFields returns the destinations of the columns of a row.
func rowFields(r *presence.JournalRow) []any {
	return []any{
		&r.Subject.Tenant, &r.Subject.ID, &r.ID, &r.Kind, &r.From, &r.To, (*string)(&r.Class), (*string)(&r.Cause), (*string)(&r.Trigger),
		&r.Reach, (*string)(&r.Source), &r.Key, &r.Reason, &r.By, (*int64)(&r.At), (*int64)(&r.Recorded), new(int64), // seq, which orders
	}
}

// collect reads all rows.
func collect[T any](rows *sql.Rows, fields func(*T) []any) (all []T, err error) {
	defer rows.Close()
	for rows.Next() {
		var one T
		if err := rows.Scan(fields(&one)...); err != nil {
			return nil, err
		}
		all = append(all, one)
	}
	return slices.Clip(all), rows.Err()
}

// bits scans a revision. The engine keeps its bits as a number with a sign.
type bits uint64

// Scan implements [sql.Scanner].
func (b *bits) Scan(v any) error {
	n, ok := v.(int64)
	if !ok {
		return errors.New("a revision is not a number")
	}
	*b = bits(n)
	return nil
}
