package presencetest_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/presence-go/presence"
	"github.com/presence-go/presence/adapters/memory"
	"github.com/presence-go/presence/presencetest"
)

func TestStorageSuitePasses(t *testing.T) {
	t.Parallel()
	stores := map[string]func() presence.Storage{
		"memory": func() presence.Storage { return inMemory(0) },
		"without faults": func() presence.Storage {
			return presencetest.NewFaultyStorage(inMemory(0))
		},
		"that can be opened again": func() presence.Storage { return newLasting(nil) },
		"that neither reads its journal nor closes": func() presence.Storage {
			return struct{ presence.Storage }{inMemory(0)}
		},
	}
	for _, name := range slices.Sorted(maps.Keys(stores)) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			open := func(context.Context) (presence.Storage, error) { return stores[name](), nil }
			require.NoError(t, presencetest.CheckStorage(t.Context(), open))
			presencetest.RunStorage(t, open)
		})
	}
}

// storageMutant is memory storage with some methods replaced.
type storageMutant struct {
	*memory.Storage
	onLoad    func(ctx context.Context, s *memory.Storage, subjects ...presence.Ref) ([]presence.Record, error)
	onSave    func(ctx context.Context, s *memory.Storage, writes ...presence.Write) error
	onAppend  func(ctx context.Context, s *memory.Storage, rows ...presence.JournalRow) error
	onDelete  func(ctx context.Context, s *memory.Storage, subjects ...presence.Ref) error
	onJournal func(ctx context.Context, s *memory.Storage, q presence.JournalQuery) ([]presence.JournalRow, error)
	onPrune   func(ctx context.Context, s *memory.Storage, before presence.Instant) (int, error)
	onClose   func(s *memory.Storage) error
}

func (m *storageMutant) Load(ctx context.Context, subjects ...presence.Ref) ([]presence.Record, error) {
	if m.onLoad == nil {
		return m.Storage.Load(ctx, subjects...)
	}
	return m.onLoad(ctx, m.Storage, subjects...)
}

func (m *storageMutant) Save(ctx context.Context, writes ...presence.Write) error {
	if m.onSave == nil {
		return m.Storage.Save(ctx, writes...)
	}
	return m.onSave(ctx, m.Storage, slices.Clone(writes)...)
}

func (m *storageMutant) Append(ctx context.Context, rows ...presence.JournalRow) error {
	if m.onAppend == nil {
		return m.Storage.Append(ctx, rows...)
	}
	return m.onAppend(ctx, m.Storage, rows...)
}

func (m *storageMutant) Delete(ctx context.Context, subjects ...presence.Ref) error {
	if m.onDelete == nil {
		return m.Storage.Delete(ctx, subjects...)
	}
	return m.onDelete(ctx, m.Storage, subjects...)
}

func (m *storageMutant) Journal(ctx context.Context, q presence.JournalQuery) ([]presence.JournalRow, error) {
	if m.onJournal == nil {
		return m.Storage.Journal(ctx, q)
	}
	return m.onJournal(ctx, m.Storage, q)
}

func (m *storageMutant) Prune(ctx context.Context, before presence.Instant) (int, error) {
	if m.onPrune == nil {
		return m.Storage.Prune(ctx, before)
	}
	return m.onPrune(ctx, m.Storage, before)
}

func (m *storageMutant) Close() error {
	if m.onClose == nil {
		return m.Storage.Close()
	}
	return m.onClose(m.Storage)
}

// stored returns the record that memory has of a subject.
func stored(s *memory.Storage, subject presence.Ref) (presence.Record, bool) {
	records, err := s.Load(context.Background(), subject)
	if err != nil || len(records) == 0 {
		return presence.Record{}, false
	}
	return records[0], true
}

// storedAlready counts the writes whose records memory has unchanged.
func storedAlready(s *memory.Storage, writes []presence.Write) (n int) {
	for _, w := range writes {
		if r, ok := stored(s, w.Record.Subject); ok && same(r, w.Record) {
			n++
		}
	}
	return n
}

func same(a, b presence.Record) bool {
	return a.Revision == b.Revision && string(a.Data) == string(b.Data)
}

// rewritten returns storage that replaces every subject by another one.
func rewritten(s *memory.Storage, to func(presence.Ref) presence.Ref) *storageMutant {
	all := func(subjects []presence.Ref) []presence.Ref {
		var list []presence.Ref
		for _, subject := range subjects {
			list = append(list, to(subject))
		}
		return list
	}
	asGiven := new(rawJournal) // for scans
	return &storageMutant{
		Storage: s,
		onLoad: func(ctx context.Context, s *memory.Storage, subjects ...presence.Ref) (found []presence.Record, err error) {
			records, err := s.Load(ctx, all(subjects)...)
			if err != nil {
				return nil, err
			}
			for i, subject := range subjects {
				for _, r := range records {
					if r.Subject == to(subject) && !slices.Contains(subjects[:i], subject) {
						r.Subject, r.Data = subject, slices.Clone(r.Data)
						found = append(found, r)
					}
				}
			}
			return found, nil
		},
		onSave: func(ctx context.Context, s *memory.Storage, writes ...presence.Write) error {
			for i := range writes {
				writes[i].Record.Subject = to(writes[i].Record.Subject)
			}
			return s.Save(ctx, writes...)
		},
		onAppend: func(ctx context.Context, s *memory.Storage, rows ...presence.JournalRow) error {
			given := slices.Clone(rows)
			rows = slices.Clone(rows)
			for i := range rows {
				rows[i].Subject = to(rows[i].Subject)
			}
			err := s.Append(ctx, rows...)
			if err == nil {
				asGiven.add(given)
			}
			return err
		},
		onDelete: func(ctx context.Context, s *memory.Storage, subjects ...presence.Ref) error {
			return s.Delete(ctx, all(subjects)...)
		},
		onPrune: asGiven.prune,
		onJournal: func(ctx context.Context, s *memory.Storage, q presence.JournalQuery) ([]presence.JournalRow, error) {
			if q.Subject.ID == "" {
				return asGiven.journal(ctx, s, q)
			}
			subject := q.Subject
			q.Subject = to(subject)
			rows, err := s.Journal(ctx, q)
			for i := range rows {
				rows[i].Subject = subject
			}
			return rows, err
		},
	}
}

// rawJournal keeps the rows that add accepts, in the place that add chooses.
type rawJournal struct {
	mu   sync.Mutex
	rows []presence.JournalRow
}

// add keeps the rows that are not stored yet.
func (j *rawJournal) add(batch []presence.JournalRow) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, row := range batch {
		if j.index(row) < 0 {
			j.rows = append(j.rows, row)
		}
	}
}

// prune cuts the journal in the plainest way.
func (j *rawJournal) prune(ctx context.Context, s *memory.Storage, before presence.Instant) (int, error) {
	if _, err := s.Prune(ctx, before); err != nil {
		return 0, err
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	last := make(map[presence.Ref]string)
	for _, r := range j.rows {
		if r.Kind == presence.RowTransition && r.At < before {
			last[r.Subject] = r.ID
		}
	}
	had := len(j.rows)
	j.rows = slices.DeleteFunc(j.rows, func(r presence.JournalRow) bool { return r.At < before && last[r.Subject] != r.ID })
	return had - len(j.rows), nil
}

func (j *rawJournal) journal(ctx context.Context, s *memory.Storage, q presence.JournalQuery) ([]presence.JournalRow, error) {
	if _, err := s.Journal(ctx, q); err != nil {
		return nil, err
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	return q.Select(j.rows), nil
}

func journalMutant(add func(j *rawJournal, batch []presence.JournalRow)) func(s *memory.Storage) *storageMutant {
	return func(s *memory.Storage) *storageMutant { return journalMutantOf(new(rawJournal), add, s) }
}

// journalMutantOf returns a storage with a journal of its own.
func journalMutantOf(j *rawJournal, add func(j *rawJournal, batch []presence.JournalRow), s *memory.Storage) *storageMutant {
	return &storageMutant{
		Storage: s,
		onAppend: func(ctx context.Context, s *memory.Storage, rows ...presence.JournalRow) error {
			if err := s.Append(ctx); err != nil {
				return err
			}
			add(j, rows)
			return nil
		},
		onDelete: func(ctx context.Context, s *memory.Storage, subjects ...presence.Ref) error {
			if err := s.Delete(ctx, subjects...); err != nil {
				return err
			}
			j.mu.Lock()
			defer j.mu.Unlock()
			j.rows = slices.DeleteFunc(j.rows, func(r presence.JournalRow) bool { return slices.Contains(subjects, r.Subject) })
			return nil
		},
		onPrune:   j.prune,
		onJournal: j.journal,
	}
}

func (j *rawJournal) index(row presence.JournalRow) int {
	return slices.IndexFunc(j.rows, func(r presence.JournalRow) bool { return r.Subject == row.Subject && r.ID == row.ID })
}

// lasting is memory storage that can be opened again: Reopen repeats the calls
// that changed it.
type lasting struct {
	*storageMutant
	done *oplog
	redo func([]op) []op // chooses the calls to repeat; nil for all
}

// op is one call that changed something.
type op struct {
	writes  []presence.Write
	rows    []presence.JournalRow
	deleted []presence.Ref
	pruned  presence.Instant
}

type oplog struct {
	mu  sync.Mutex
	ops []op
}

func newLasting(redo func([]op) []op) *lasting {
	return (&lasting{done: new(oplog), redo: redo}).open()
}

// open returns open storage with the same contents.
func (l *lasting) open() *lasting {
	l.done.mu.Lock()
	defer l.done.mu.Unlock()
	s := inMemory(5000)
	ops := slices.Clone(l.done.ops)
	if l.redo != nil {
		ops = l.redo(ops)
	}
	for _, o := range ops {
		ctx := context.Background()
		_, err := s.Prune(ctx, o.pruned)
		if err := errors.Join(s.Save(ctx, o.writes...), s.Append(ctx, o.rows...), s.Delete(ctx, o.deleted...), err); err != nil {
			panic(err)
		}
	}
	note := func(o op, err error) error {
		if err == nil {
			l.done.ops = append(l.done.ops, o)
		}
		return err
	}
	return &lasting{done: l.done, redo: l.redo, storageMutant: &storageMutant{
		Storage: s,
		onSave: func(ctx context.Context, s *memory.Storage, writes ...presence.Write) error {
			l.done.mu.Lock()
			defer l.done.mu.Unlock()
			err := s.Save(ctx, writes...)
			for i := range writes {
				writes[i].Record.Data = slices.Clone(writes[i].Record.Data)
			}
			return note(op{writes: writes}, err)
		},
		onAppend: func(ctx context.Context, s *memory.Storage, rows ...presence.JournalRow) error {
			l.done.mu.Lock()
			defer l.done.mu.Unlock()
			return note(op{rows: slices.Clone(rows)}, s.Append(ctx, rows...))
		},
		onDelete: func(ctx context.Context, s *memory.Storage, subjects ...presence.Ref) error {
			l.done.mu.Lock()
			defer l.done.mu.Unlock()
			return note(op{deleted: slices.Clone(subjects)}, s.Delete(ctx, subjects...))
		},
		onPrune: func(ctx context.Context, s *memory.Storage, before presence.Instant) (int, error) {
			l.done.mu.Lock()
			defer l.done.mu.Unlock()
			n, err := s.Prune(ctx, before)
			return n, note(op{pruned: before}, err)
		},
	}}
}

// Reopen implements presencetest.Reopener.
func (l *lasting) Reopen(context.Context) (presence.Storage, error) { return l.open(), nil }

// onTenant returns storage that uses choose to select the rows of a tenant from
// all rows.
func onTenant(choose func(q presence.JournalQuery, all []presence.JournalRow) []presence.JournalRow) func(s *memory.Storage) *storageMutant {
	return func(s *memory.Storage) *storageMutant {
		j := new(rawJournal)
		return &storageMutant{
			Storage: s,
			onAppend: func(ctx context.Context, s *memory.Storage, rows ...presence.JournalRow) error {
				err := s.Append(ctx, rows...)
				if err == nil {
					j.add(rows)
				}
				return err
			},
			onDelete: func(ctx context.Context, s *memory.Storage, subjects ...presence.Ref) error {
				err := s.Delete(ctx, subjects...)
				if err == nil {
					j.mu.Lock()
					defer j.mu.Unlock()
					j.rows = slices.DeleteFunc(j.rows, func(r presence.JournalRow) bool { return slices.Contains(subjects, r.Subject) })
				}
				return err
			},
			onJournal: func(ctx context.Context, s *memory.Storage, q presence.JournalQuery) ([]presence.JournalRow, error) {
				if rows, err := s.Journal(ctx, q); err != nil || q.Subject.ID != "" {
					return rows, err
				}
				j.mu.Lock()
				defer j.mu.Unlock()
				return choose(q, slices.Clone(j.rows)), nil
			},
			onPrune: j.prune,
		}
	}
}

// overlapping returns storage whose Save takes a millisecond, so that Saves
// overlap.
func overlapping(save func(ctx context.Context, s *memory.Storage, took <-chan time.Time, writes ...presence.Write) error) func(s *memory.Storage) *storageMutant {
	return func(s *memory.Storage) *storageMutant {
		return &storageMutant{Storage: s, onSave: func(ctx context.Context, s *memory.Storage, writes ...presence.Write) error {
			if err := s.Save(ctx); err != nil || len(writes) > 100 {
				return errors.Join(err, s.Save(ctx, writes...))
			}
			return save(ctx, s, time.After(time.Millisecond), writes...)
		}}
	}
}

// overlappingAppend returns storage whose Append takes a millisecond and calls
// ended if the context ends before.
func overlappingAppend(ended func(ctx context.Context, s *memory.Storage, rows []presence.JournalRow) error) func(s *memory.Storage) *storageMutant {
	return func(s *memory.Storage) *storageMutant {
		return &storageMutant{Storage: s, onAppend: func(ctx context.Context, s *memory.Storage, rows ...presence.JournalRow) error {
			if err := s.Append(ctx); err != nil {
				return err
			}
			select {
			case <-ctx.Done():
				return ended(ctx, s, rows)
			case <-time.After(time.Millisecond):
				return s.Append(ctx, rows...)
			}
		}}
	}
}

// oneAtATime serialises the calls, so that no Load sees a Save in part.
func oneAtATime(of func(s *memory.Storage) *storageMutant) func(s *memory.Storage) *storageMutant {
	return func(s *memory.Storage) *storageMutant {
		m := of(s)
		var mu sync.RWMutex
		save := m.onSave
		m.onSave = func(ctx context.Context, s *memory.Storage, writes ...presence.Write) error {
			mu.Lock()
			defer mu.Unlock()
			return save(ctx, s, writes...)
		}
		m.onLoad = func(ctx context.Context, s *memory.Storage, subjects ...presence.Ref) ([]presence.Record, error) {
			mu.RLock()
			defer mu.RUnlock()
			return s.Load(ctx, subjects...)
		}
		return m
	}
}

// onRow returns storage that changes journal rows before it keeps them.
func onRow(change func(*presence.JournalRow)) func(s *memory.Storage) *storageMutant {
	return func(s *memory.Storage) *storageMutant {
		return &storageMutant{Storage: s, onAppend: func(ctx context.Context, s *memory.Storage, rows ...presence.JournalRow) error {
			rows = slices.Clone(rows)
			for i := range rows {
				change(&rows[i])
			}
			return s.Append(ctx, rows...)
		}}
	}
}

// onWrite returns storage that changes writes before it keeps them.
func onWrite(change func(s *memory.Storage, w *presence.Write)) func(s *memory.Storage) *storageMutant {
	return func(s *memory.Storage) *storageMutant {
		return &storageMutant{Storage: s, onSave: func(ctx context.Context, s *memory.Storage, writes ...presence.Write) error {
			for i := range writes {
				change(s, &writes[i])
			}
			return s.Save(ctx, writes...)
		}}
	}
}

// onQuery returns storage that uses choose to select the rows of a subject, unless
// with Base.
func onQuery(choose func(q presence.JournalQuery, all []presence.JournalRow) []presence.JournalRow) func(s *memory.Storage) *storageMutant {
	return func(s *memory.Storage) *storageMutant {
		return &storageMutant{Storage: s, onJournal: func(ctx context.Context, s *memory.Storage, q presence.JournalQuery) ([]presence.JournalRow, error) {
			if q.Subject.ID == "" || q.Base {
				return s.Journal(ctx, q)
			}
			all, err := s.Journal(ctx, presence.JournalQuery{Subject: q.Subject, Limit: 1 << 20})
			if err != nil {
				return nil, err
			}
			return choose(q, all), nil
		}}
	}
}

// onBase returns storage that uses choose to select the rows of a query with Base and
// without a limit, of which one row may be selected at most before From.
func onBase(choose func(q presence.JournalQuery, all []presence.JournalRow) []presence.JournalRow) func(s *memory.Storage) *storageMutant {
	return func(s *memory.Storage) *storageMutant {
		return &storageMutant{Storage: s, onJournal: func(ctx context.Context, s *memory.Storage, q presence.JournalQuery) ([]presence.JournalRow, error) {
			if !q.Base || q.Limit > 0 {
				return s.Journal(ctx, q)
			}
			all, err := s.Journal(ctx, presence.JournalQuery{Subject: q.Subject, Limit: 1 << 20})
			return choose(q, all), err
		}}
	}
}

// onPage returns storage that uses choose to select the rows of a query with Base and
// a small limit.
func onPage(choose func(q presence.JournalQuery, all []presence.JournalRow) []presence.JournalRow) func(s *memory.Storage) *storageMutant {
	return func(s *memory.Storage) *storageMutant {
		return &storageMutant{Storage: s, onJournal: func(ctx context.Context, s *memory.Storage, q presence.JournalQuery) ([]presence.JournalRow, error) {
			if !q.Base || q.Limit == 0 || q.Limit > 9 {
				return s.Journal(ctx, q)
			}
			all, err := s.Journal(ctx, presence.JournalQuery{Subject: q.Subject, Limit: 1 << 20})
			return choose(q, all), err
		}}
	}
}

// onPrune returns storage whose Prune keeps other rows: keep gets the rows of a subject
// in the order of Append, and reports of one of them whether it stays.
func onPrune(keep func(own []presence.JournalRow, i int, before presence.Instant) bool) func(s *memory.Storage) *storageMutant {
	return func(s *memory.Storage) *storageMutant {
		j := new(rawJournal)
		m := journalMutantOf(j, (*rawJournal).add, s)
		m.onPrune = func(ctx context.Context, s *memory.Storage, before presence.Instant) (int, error) {
			if _, err := s.Prune(ctx, before); err != nil {
				return 0, err
			}
			j.mu.Lock()
			defer j.mu.Unlock()
			var left []presence.JournalRow
			for _, r := range j.rows {
				own := presence.JournalQuery{Subject: r.Subject, Limit: len(j.rows)}.Select(j.rows)
				if keep(own, slices.Index(own, r), before) {
					left = append(left, r)
				}
			}
			gone := len(j.rows) - len(left)
			j.rows = left
			return gone, nil
		}
		return m
	}
}

// without returns a context that is never done, for methods that ignore theirs.
func without(ctx context.Context) context.Context { return context.WithoutCancel(ctx) }

// variant is a broken storage, and the rule that finds it.
type variant struct {
	name string
	rule string
	of   func(s *memory.Storage) *storageMutant
}

// cuts reports whether a variant has its Prune: the rule about cuts also appends again,
// and reads windows and tenants, which other rules check.
func (v *variant) cuts() bool {
	return !strings.HasPrefix(v.rule, "tenant-") && !slices.Contains([]string{"repeated-append", "journal-once", "journal-window"}, v.rule)
}

// unpruned is storage that is no [presencetest.Pruner].
type unpruned struct{ *storageMutant }

func (unpruned) Prune() {}

// baseVariants break JournalQuery.Base (L21).
var baseVariants = []variant{
	{"Base is unknown", "journal-base", onBase(func(q presence.JournalQuery, all []presence.JournalRow) []presence.JournalRow {
		q.Base = false
		return q.Select(all)
	})},
	{"Base is all that is selected", "journal-base", onBase(func(q presence.JournalQuery, all []presence.JournalRow) []presence.JournalRow {
		rows := q.Select(all)
		if len(rows) > 0 && rows[0].At < q.From {
			rows = rows[:1]
		}
		return rows
	})},
	{"any row is a base", "journal-base", onBase(func(q presence.JournalQuery, all []presence.JournalRow) []presence.JournalRow {
		kinds := make(map[string]string)
		for i := range all {
			kinds[all[i].ID], all[i].Kind = all[i].Kind, presence.RowTransition
		}
		rows := q.Select(all)
		for i := range rows {
			rows[i].Kind = kinds[rows[i].ID]
		}
		return rows
	})},
	{"a row at From is a base", "journal-base", onBase(func(q presence.JournalQuery, all []presence.JournalRow) []presence.JournalRow {
		later := q
		later.From++
		if rows := later.Select(all); len(rows) > 0 && rows[0].At < later.From {
			return rows
		}
		return q.Select(all)
	})},
	{"the base is the first row of a period from there", "journal-base", onBase(func(q presence.JournalQuery, all []presence.JournalRow) []presence.JournalRow {
		rows := q.Select(all)
		if len(rows) == 0 || rows[0].At >= q.From {
			return rows
		}
		q.From, q.Base = rows[0].At, false
		return q.Select(all[slices.Index(all, rows[0]):])
	})},
	{"the base is what began last", "journal-base", onBase(func(q presence.JournalQuery, all []presence.JournalRow) []presence.JournalRow {
		slices.SortStableFunc(all, func(a, b presence.JournalRow) int { return cmp.Compare(a.At, b.At) })
		return q.Select(all)
	})},
	{"rows before the base are selected too", "journal-base", onBase(func(q presence.JournalQuery, all []presence.JournalRow) []presence.JournalRow {
		rows := q.Select(all)
		if q.Base = false; len(rows) > 0 && rows[0].At < q.From {
			return append(rows[:1:1], q.Select(all)...)
		}
		return rows
	})},
	{"no limit is the year 1970", "journal-base", onBase(func(q presence.JournalQuery, all []presence.JournalRow) []presence.JournalRow {
		if q.From == 0 {
			q.From = 35e9
		}
		return q.Select(all)
	})},
	{"the base is on top of the limit", "journal-base-pages", onPage(func(q presence.JournalQuery, all []presence.JournalRow) []presence.JournalRow {
		if q.After.ID == "" {
			q.Limit++
		}
		return q.Select(all)
	})},
	{"the base is on every page", "journal-base-pages", onPage(func(q presence.JournalQuery, all []presence.JournalRow) []presence.JournalRow {
		rows := q.Select(all)
		q.After, q.Limit = presence.JournalRow{}, 1
		return slices.Compact(append(q.Select(all), rows...))
	})},
	{"a tenant has a base", "journal-base-pages", onPage(func(q presence.JournalQuery, all []presence.JournalRow) []presence.JournalRow {
		if q.Subject.ID == "" {
			q.From, q.Base = 2e9, false
		}
		return q.Select(all)
	})},
}

// pruneVariants cut the journal too much or too little.
var pruneVariants = []variant{
	{"all that is old is deleted", "journal-prune", onPrune(func(own []presence.JournalRow, i int, before presence.Instant) bool {
		return own[i].At >= before
	})},
	{"the last row is kept, whatever it reports", "journal-prune", onPrune(func(own []presence.JournalRow, i int, before presence.Instant) bool {
		last := 0
		for n, r := range own {
			if r.At < before {
				last = n
			}
		}
		return own[i].At >= before || i == last
	})},
	{"every transition is kept", "journal-prune", onPrune(func(own []presence.JournalRow, i int, before presence.Instant) bool {
		return own[i].At >= before || own[i].Kind == presence.RowTransition
	})},
	{"what began last is kept", "journal-prune", onPrune(func(own []presence.JournalRow, i int, before presence.Instant) bool {
		return own[i].At >= before || own[i].Kind == presence.RowTransition && !slices.ContainsFunc(own, func(r presence.JournalRow) bool {
			return r.Kind == presence.RowTransition && r.At < before && r.At > own[i].At
		})
	})},
	{"the newest row of all is kept", "journal-prune", onPrune(func(own []presence.JournalRow, i int, before presence.Instant) bool {
		return own[i].At >= before || i == len(own)-1
	})},
	{"the instant itself is deleted", "journal-prune", func(s *memory.Storage) *storageMutant {
		return &storageMutant{Storage: s, onPrune: func(ctx context.Context, s *memory.Storage, before presence.Instant) (int, error) {
			return s.Prune(ctx, before+1)
		}}
	}},
	{"one tenant is pruned", "journal-prune", onPrune(func(own []presence.JournalRow, i int, before presence.Instant) bool {
		later := slices.ContainsFunc(own[i+1:], func(r presence.JournalRow) bool { return r.Kind == presence.RowTransition && r.At < before })
		return own[i].At >= before || own[i].Kind == presence.RowTransition && !later || own[i].Subject.Tenant != ""
	})},
	{"kept rows are counted too", "journal-prune", func(s *memory.Storage) *storageMutant {
		return &storageMutant{Storage: s, onPrune: func(ctx context.Context, s *memory.Storage, before presence.Instant) (int, error) {
			rows, err := s.Journal(ctx, presence.JournalQuery{To: before, Limit: 1 << 20})
			if err != nil {
				return 0, err
			}
			_, err = s.Prune(ctx, before)
			return len(rows), err
		}}
	}},
	{"nothing is pruned", "journal-prune", func(s *memory.Storage) *storageMutant {
		return &storageMutant{Storage: s, onPrune: func(ctx context.Context, s *memory.Storage, _ presence.Instant) (int, error) {
			return s.Prune(ctx, -1<<62)
		}}
	}},
	{"what is kept is hidden", "journal-prune", func(s *memory.Storage) *storageMutant {
		var newest presence.Instant
		return &storageMutant{
			Storage: s,
			onPrune: func(ctx context.Context, s *memory.Storage, before presence.Instant) (int, error) {
				newest = max(newest, before)
				return s.Prune(ctx, before)
			},
			onJournal: func(ctx context.Context, s *memory.Storage, q presence.JournalQuery) ([]presence.JournalRow, error) {
				rows, err := s.Journal(ctx, q)
				if q.Subject.ID == "" {
					rows = slices.DeleteFunc(rows, func(r presence.JournalRow) bool { return r.At < newest })
				}
				return rows, err
			},
		}
	}},
	{"what is kept is appended again", "journal-prune", func(s *memory.Storage) *storageMutant {
		old := make(map[presence.Ref]bool)
		return &storageMutant{
			Storage: s,
			onPrune: func(ctx context.Context, s *memory.Storage, before presence.Instant) (int, error) {
				rows, err := s.Journal(ctx, presence.JournalQuery{To: before})
				for _, r := range rows {
					old[r.Subject] = true
				}
				if err != nil {
					return 0, err
				}
				return s.Prune(ctx, before)
			},
			onAppend: func(ctx context.Context, s *memory.Storage, rows ...presence.JournalRow) error {
				rows = slices.Clone(rows)
				for i := range rows {
					if r := &rows[i]; old[r.Subject] && len(rows) == 1 && r.Kind == presence.RowTransition {
						r.ID += "'"
					}
				}
				return s.Append(ctx, rows...)
			},
		}
	}},
	{"what is kept stays when all is deleted", "journal-deleted", func(s *memory.Storage) *storageMutant {
		kept := new(rawJournal)
		return &storageMutant{
			Storage: s,
			onPrune: func(ctx context.Context, s *memory.Storage, before presence.Instant) (int, error) {
				n, err := s.Prune(ctx, before)
				for _, tenant := range []string{"", "acme"} {
					rows, _ := s.Journal(ctx, presence.JournalQuery{Subject: presence.Ref{Tenant: tenant}, To: before})
					kept.add(rows)
				}
				return n, err
			},
			onDelete: func(ctx context.Context, s *memory.Storage, subjects ...presence.Ref) error {
				err := s.Delete(ctx, subjects...)
				for _, r := range kept.rows {
					if slices.Contains(subjects, r.Subject) {
						err = errors.Join(err, s.Append(ctx, r))
					}
				}
				return err
			},
		}
	}},
	{"Prune goes on", "done-context", func(s *memory.Storage) *storageMutant {
		return &storageMutant{Storage: s, onPrune: func(ctx context.Context, s *memory.Storage, before presence.Instant) (int, error) {
			return s.Prune(without(ctx), before)
		}}
	}},
	{"closed, but pruning still", "closed", func(s *memory.Storage) *storageMutant {
		return &storageMutant{Storage: s, onPrune: func(ctx context.Context, s *memory.Storage, before presence.Instant) (int, error) {
			n, err := s.Prune(ctx, before)
			if errors.Is(err, presence.ErrClosed) {
				return 0, nil
			}
			return n, err
		}}
	}},
}

func TestStorageSuiteCatches(t *testing.T) {
	t.Parallel()
	variants := []variant{
		{"an empty record for the unknown", "load-nothing", func(s *memory.Storage) *storageMutant {
			return &storageMutant{Storage: s, onLoad: func(ctx context.Context, s *memory.Storage, subjects ...presence.Ref) ([]presence.Record, error) {
				records, err := s.Load(ctx, subjects...)
				if err == nil && len(subjects) > 0 && len(records) == 0 {
					records = make([]presence.Record, 1)
				}
				return records, err
			}}
		}},
		{"none asked for means all", "load-nothing", func(s *memory.Storage) *storageMutant {
			return &storageMutant{Storage: s, onLoad: func(ctx context.Context, s *memory.Storage, subjects ...presence.Ref) ([]presence.Record, error) {
				if len(subjects) == 0 {
					subjects = []presence.Ref{presence.ID("bob")}
				}
				return s.Load(ctx, subjects...)
			}}
		}},
		{"only the first is loaded", "load-many", func(s *memory.Storage) *storageMutant {
			return &storageMutant{Storage: s, onLoad: func(ctx context.Context, s *memory.Storage, subjects ...presence.Ref) ([]presence.Record, error) {
				return s.Load(ctx, subjects[:min(1, len(subjects))]...)
			}}
		}},
		{"as often as asked for", "load-many", func(s *memory.Storage) *storageMutant {
			return &storageMutant{Storage: s, onLoad: func(ctx context.Context, s *memory.Storage, subjects ...presence.Ref) (found []presence.Record, err error) {
				records, err := s.Load(ctx, subjects...)
				for _, subject := range subjects {
					for _, r := range records {
						if r.Subject == subject {
							r.Data = slices.Clone(r.Data)
							found = append(found, r)
						}
					}
				}
				return found, err
			}}
		}},
		{"whatever there is", "load-many", func(s *memory.Storage) *storageMutant {
			return &storageMutant{Storage: s, onLoad: func(ctx context.Context, s *memory.Storage, subjects ...presence.Ref) ([]presence.Record, error) {
				if len(subjects) > 1 {
					subjects = append(subjects, presence.ID("ann"))
				}
				return s.Load(ctx, subjects...)
			}}
		}},
		{"data is text", "round-trip", onWrite(func(_ *memory.Storage, w *presence.Write) {
			w.Record.Data = []byte(strings.ToValidUTF8(string(w.Record.Data), "?"))
		})},
		{"data ends at the first zero byte", "round-trip", onWrite(func(_ *memory.Storage, w *presence.Write) {
			data, _, _ := strings.Cut(string(w.Record.Data), "\x00")
			w.Record.Data = []byte(data)
		})},
		{"data has 64 KiB at most", "round-trip", onWrite(func(_ *memory.Storage, w *presence.Write) {
			w.Record.Data = w.Record.Data[:min(len(w.Record.Data), 1<<16)]
		})},
		{"ids without case", "ids", func(s *memory.Storage) *storageMutant {
			return rewritten(s, func(r presence.Ref) presence.Ref { return presence.Ref{Tenant: r.Tenant, ID: strings.ToLower(r.ID)} })
		}},
		{"ids without spaces around them", "ids", func(s *memory.Storage) *storageMutant {
			return rewritten(s, func(r presence.Ref) presence.Ref {
				return presence.Ref{Tenant: r.Tenant, ID: strings.TrimSpace(r.ID)}
			})
		}},
		{"ids of 127 bytes", "ids", func(s *memory.Storage) *storageMutant {
			return rewritten(s, func(r presence.Ref) presence.Ref {
				return presence.Ref{Tenant: r.Tenant, ID: r.ID[:min(len(r.ID), 127)]}
			})
		}},
		{"data given is kept", "ownership", func(s *memory.Storage) *storageMutant {
			var mu sync.Mutex
			kept := make(map[presence.Ref][]byte)
			return &storageMutant{
				Storage: s,
				onSave: func(ctx context.Context, s *memory.Storage, writes ...presence.Write) error {
					mu.Lock()
					defer mu.Unlock()
					if err := s.Save(ctx, writes...); err != nil {
						return err
					}
					for _, w := range writes {
						kept[w.Record.Subject] = w.Record.Data
					}
					return nil
				},
				onLoad: func(ctx context.Context, s *memory.Storage, subjects ...presence.Ref) ([]presence.Record, error) {
					mu.Lock()
					defer mu.Unlock()
					records, err := s.Load(ctx, subjects...)
					for i := range records {
						records[i].Data = slices.Clone(kept[records[i].Subject])
					}
					return records, err
				},
			}
		}},
		{"data returned is kept", "ownership", func(s *memory.Storage) *storageMutant {
			var mu sync.Mutex
			cache := make(map[string][]byte)
			return &storageMutant{Storage: s, onLoad: func(ctx context.Context, s *memory.Storage, subjects ...presence.Ref) ([]presence.Record, error) {
				mu.Lock()
				defer mu.Unlock()
				records, err := s.Load(ctx, subjects...)
				for i, r := range records {
					key := fmt.Sprintf("%#v %d", r.Subject, r.Revision)
					if cache[key] == nil {
						cache[key] = r.Data
					}
					records[i].Data = cache[key]
				}
				return records, err
			}}
		}},
		{"rows given are kept", "ownership", func(s *memory.Storage) *storageMutant {
			var mu sync.Mutex
			var history []func(*memory.Storage)
			note := func(err error, f func(*memory.Storage)) error {
				mu.Lock()
				defer mu.Unlock()
				if err == nil {
					history = append(history, f)
				}
				return err
			}
			return &storageMutant{
				Storage: s,
				onAppend: func(ctx context.Context, s *memory.Storage, rows ...presence.JournalRow) error {
					return note(s.Append(ctx, rows...), func(m *memory.Storage) { _ = m.Append(without(ctx), rows...) })
				},
				onDelete: func(ctx context.Context, s *memory.Storage, subjects ...presence.Ref) error {
					return note(s.Delete(ctx, subjects...), func(m *memory.Storage) { _ = m.Delete(without(ctx), subjects...) })
				},
				onPrune: func(ctx context.Context, s *memory.Storage, before presence.Instant) (int, error) {
					n, err := s.Prune(ctx, before)
					return n, note(err, func(m *memory.Storage) { _, _ = m.Prune(without(ctx), before) })
				},
				onJournal: func(ctx context.Context, s *memory.Storage, q presence.JournalQuery) ([]presence.JournalRow, error) {
					if _, err := s.Journal(ctx, q); err != nil {
						return nil, err
					}
					mu.Lock()
					defer mu.Unlock()
					again := inMemory(0)
					for _, f := range history {
						f(again)
					}
					return again.Journal(ctx, q)
				},
			}
		}},
		{"rows returned are kept", "ownership", func(s *memory.Storage) *storageMutant {
			var mu sync.Mutex
			cache := make(map[string][]presence.JournalRow)
			return &storageMutant{Storage: s, onJournal: func(ctx context.Context, s *memory.Storage, q presence.JournalQuery) ([]presence.JournalRow, error) {
				mu.Lock()
				defer mu.Unlock()
				rows, err := s.Journal(ctx, q)
				key := fmt.Sprintf("%#v %d", q, len(rows))
				if cache[key] == nil {
					cache[key] = rows
				}
				return slices.Clip(cache[key]), err
			}, onPrune: func(ctx context.Context, s *memory.Storage, before presence.Instant) (int, error) {
				mu.Lock()
				defer mu.Unlock()
				clear(cache)
				return s.Prune(ctx, before)
			}}
		}},
		{"revisions are counted", "revision", onWrite(func(_ *memory.Storage, w *presence.Write) { w.Record.Revision = w.Expect + 1 })},
		{"revisions are floating", "revision", onWrite(func(_ *memory.Storage, w *presence.Write) {
			w.Record.Revision = uint64(float64(w.Record.Revision))
		})},
		{"later revisions may be expected", "stale-revision", onWrite(func(s *memory.Storage, w *presence.Write) {
			if r, ok := stored(s, w.Record.Subject); ok && r.Revision < w.Expect {
				w.Expect = r.Revision
			}
		})},
		{"a conflict of revisions by another name", "stale-revision", func(s *memory.Storage) *storageMutant {
			return &storageMutant{Storage: s, onSave: func(ctx context.Context, s *memory.Storage, writes ...presence.Write) error {
				err := s.Save(ctx, writes...)
				if _, ok := stored(s, writes[0].Record.Subject); ok && len(writes) == 1 && writes[0].Expect != 0 && errors.Is(err, presence.ErrConflict) {
					return errors.New("no row was changed")
				}
				return err
			}}
		}},
		{"a conflict of new records by another name", "expect-none", func(s *memory.Storage) *storageMutant {
			return &storageMutant{Storage: s, onSave: func(ctx context.Context, s *memory.Storage, writes ...presence.Write) error {
				err := s.Save(ctx, writes...)
				if len(writes) == 1 && writes[0].Expect == 0 && errors.Is(err, presence.ErrConflict) {
					return errors.New("unique constraint violated")
				}
				return err
			}}
		}},
		{"a new record over an old one does nothing", "expect-none", func(s *memory.Storage) *storageMutant {
			return &storageMutant{Storage: s, onSave: func(ctx context.Context, s *memory.Storage, writes ...presence.Write) error {
				if r, _ := stored(s, writes[0].Record.Subject); r.Revision == 1 && len(writes) == 1 && writes[0].Expect == 0 {
					return ctx.Err()
				}
				return s.Save(ctx, writes...)
			}}
		}},
		{"what is missing is made", "expect-none", onWrite(func(s *memory.Storage, w *presence.Write) {
			if _, ok := stored(s, w.Record.Subject); !ok {
				w.Expect = 0
			}
		})},
		{"one write after the other until one fails", "all-or-none", oneAtATime(func(s *memory.Storage) *storageMutant {
			return &storageMutant{Storage: s, onSave: func(ctx context.Context, s *memory.Storage, writes ...presence.Write) error {
				if len(writes) > 100 {
					return s.Save(ctx, writes...)
				}
				for _, w := range writes {
					if err := s.Save(ctx, w); err != nil {
						return err
					}
				}
				return s.Save(ctx)
			}}
		})},
		{"every write that can be", "all-or-none", oneAtATime(func(s *memory.Storage) *storageMutant {
			return &storageMutant{Storage: s, onSave: func(ctx context.Context, s *memory.Storage, writes ...presence.Write) error {
				if len(writes) > 100 {
					return s.Save(ctx, writes...)
				}
				errs := []error{s.Save(ctx)}
				for _, w := range slices.Backward(writes) {
					errs = append(errs, s.Save(ctx, w))
				}
				return errors.Join(errs...)
			}}
		})},
		{"of three writes two", "all-or-none", func(s *memory.Storage) *storageMutant {
			return &storageMutant{Storage: s, onSave: func(ctx context.Context, s *memory.Storage, writes ...presence.Write) error {
				if len(writes) == 3 {
					writes = writes[:2]
				}
				return s.Save(ctx, writes...)
			}}
		}},
		{"what was saved before is a conflict", "repeated-save", func(s *memory.Storage) *storageMutant {
			return &storageMutant{Storage: s, onSave: func(ctx context.Context, s *memory.Storage, writes ...presence.Write) error {
				if n := storedAlready(s, writes); n > 0 && n == len(writes) {
					return fmt.Errorf("%w: at another revision", presence.ErrConflict)
				}
				return s.Save(ctx, writes...)
			}}
		}},
		{"what was saved before in part is a conflict", "repeated-in-part", func(s *memory.Storage) *storageMutant {
			return &storageMutant{Storage: s, onSave: func(ctx context.Context, s *memory.Storage, writes ...presence.Write) error {
				if n := storedAlready(s, writes); n > 0 && n < len(writes) {
					return fmt.Errorf("%w: at another revision", presence.ErrConflict)
				}
				return s.Save(ctx, writes...)
			}}
		}},
		{"what was saved before in part is enough", "repeated-in-part", func(s *memory.Storage) *storageMutant {
			return &storageMutant{Storage: s, onSave: func(ctx context.Context, s *memory.Storage, writes ...presence.Write) error {
				if len(writes) > 0 && storedAlready(s, writes[:1]) == 1 {
					return s.Save(ctx)
				}
				return s.Save(ctx, writes...)
			}}
		}},
		{"what was saved once may be saved for ever", "repeated-late", func(s *memory.Storage) *storageMutant {
			var mu sync.Mutex
			seen := make(map[string]bool)
			return &storageMutant{Storage: s, onSave: func(ctx context.Context, s *memory.Storage, writes ...presence.Write) error {
				mu.Lock()
				defer mu.Unlock()
				key := fmt.Sprintf("%+v", writes)
				if seen[key] {
					return s.Save(ctx)
				}
				err := s.Save(ctx, writes...)
				seen[key] = err == nil && len(writes) > 0
				return err
			}}
		}},
		{"one that is late wins", "repeated-late", onWrite(func(s *memory.Storage, w *presence.Write) {
			if r, ok := stored(s, w.Record.Subject); ok && string(r.Data) == "two" && string(w.Record.Data) == "one" {
				w.Expect = r.Revision
			}
		})},
		{"locks are taken in the order named", "batches-at-once", func(s *memory.Storage) *storageMutant {
			var locks sync.Map
			return &storageMutant{Storage: s, onSave: func(ctx context.Context, s *memory.Storage, writes ...presence.Write) error {
				if len(writes) > 100 || s.Save(ctx) != nil {
					return s.Save(ctx, writes...)
				}
				for _, w := range writes {
					lock, _ := locks.LoadOrStore(w.Record.Subject, make(chan struct{}, 1))
					select {
					case lock.(chan struct{}) <- struct{}{}:
						defer func() { <-lock.(chan struct{}) }()
					case <-time.After(time.Second):
						return errors.New("deadlock detected")
					}
					if len(writes) > 1 {
						<-time.After(time.Microsecond)
					}
				}
				return s.Save(ctx, writes...)
			}}
		}},
		{"all are compared, then each is written", "whole-batches", func(s *memory.Storage) *storageMutant {
			alone := make(chan struct{}, 1)
			return &storageMutant{Storage: s, onSave: func(ctx context.Context, s *memory.Storage, writes ...presence.Write) error {
				alone <- struct{}{}
				defer func() { <-alone }()
				writable := !slices.ContainsFunc(writes, func(w presence.Write) bool {
					r, _ := stored(s, w.Record.Subject)
					return !same(r, w.Record) && r.Revision != w.Expect
				})
				if !writable || len(writes) > 100 || s.Save(ctx) != nil {
					return s.Save(ctx, writes...)
				}
				for _, w := range writes {
					if err := s.Save(without(ctx), w); err != nil {
						return err
					}
					if len(writes) > 2 {
						<-time.After(time.Millisecond)
					}
				}
				return nil
			}}
		}},
		{"one that is refused refuses those beside it", "neighbours", func(s *memory.Storage) *storageMutant {
			var mu sync.Mutex
			failed := make(chan presence.Ref)
			return overlapping(func(ctx context.Context, s *memory.Storage, took <-chan time.Time, writes ...presence.Write) error {
				mu.Lock()
				broadcast := failed
				mu.Unlock()
				err := s.Save(ctx, writes...)
				if errors.Is(err, presence.ErrConflict) && len(writes) == 1 {
					mu.Lock()
					if strings.HasPrefix(writes[0].Record.Subject.ID, "writer-") {
						close(failed)
						failed = make(chan presence.Ref)
					}
					mu.Unlock()
				}
				select {
				case <-broadcast:
					return errors.New("the transaction was rolled back")
				case <-took:
					return err
				}
			})(s)
		}},
		{"a context that ends halves a batch", "context-ends", overlapping(func(ctx context.Context, s *memory.Storage, took <-chan time.Time, writes ...presence.Write) error {
			select {
			case <-ctx.Done():
				return errors.Join(s.Save(without(ctx), writes[:1]...), ctx.Err())
			case <-took:
				return s.Save(ctx, writes...)
			}
		})},
		{"acknowledged when the context ends", "context-ends", overlapping(func(ctx context.Context, s *memory.Storage, took <-chan time.Time, writes ...presence.Write) error {
			select {
			case <-ctx.Done():
				return nil
			case <-took:
				return s.Save(ctx, writes...)
			}
		})},
		{"a context that ends, ends those beside it", "context-ends", func(s *memory.Storage) *storageMutant {
			var mu sync.Mutex
			ended := make(chan struct{})
			return overlapping(func(ctx context.Context, s *memory.Storage, took <-chan time.Time, writes ...presence.Write) error {
				mu.Lock()
				broadcast := ended
				mu.Unlock()
				select {
				case <-ctx.Done():
					mu.Lock()
					defer mu.Unlock()
					close(ended)
					ended = make(chan struct{})
					return ctx.Err()
				case <-broadcast:
					return context.Canceled
				case <-took:
					return s.Save(ctx, writes...)
				}
			})(s)
		}},
		{"a thousand writes at most", "large-batches", func(s *memory.Storage) *storageMutant {
			return &storageMutant{Storage: s, onSave: func(ctx context.Context, s *memory.Storage, writes ...presence.Write) error {
				if len(writes) > 1000 {
					return errors.New("too many parameters")
				}
				return s.Save(ctx, writes...)
			}}
		}},
		{"large batches in pieces", "large-batches", func(s *memory.Storage) *storageMutant {
			return &storageMutant{Storage: s, onSave: func(ctx context.Context, s *memory.Storage, writes ...presence.Write) error {
				for chunk := range slices.Chunk(writes, 500) {
					if err := s.Save(ctx, chunk...); err != nil {
						return err
					}
				}
				return s.Save(ctx)
			}}
		}},
		{"a thousand are deleted at most", "large-batches", func(s *memory.Storage) *storageMutant {
			return &storageMutant{Storage: s, onDelete: func(ctx context.Context, s *memory.Storage, subjects ...presence.Ref) error {
				return s.Delete(ctx, subjects[:min(len(subjects), 1000)]...)
			}}
		}},
		{"a thousand are loaded at most", "load-many", func(s *memory.Storage) *storageMutant {
			return &storageMutant{Storage: s, onLoad: func(ctx context.Context, s *memory.Storage, subjects ...presence.Ref) ([]presence.Record, error) {
				return s.Load(ctx, subjects[:min(len(subjects), 1000)]...)
			}}
		}},
		{"only revisions are compared", "same-revision", func(s *memory.Storage) *storageMutant {
			return &storageMutant{Storage: s, onSave: func(ctx context.Context, s *memory.Storage, writes ...presence.Write) error {
				if r, ok := stored(s, writes[0].Record.Subject); ok && len(writes) == 1 && r.Revision == writes[0].Record.Revision {
					return ctx.Err()
				}
				return s.Save(ctx, writes...)
			}}
		}},
		{"comparing and writing are two steps", "one-winner", func(s *memory.Storage) *storageMutant {
			return &storageMutant{Storage: s, onSave: func(ctx context.Context, s *memory.Storage, writes ...presence.Write) error {
				if len(writes) > 1 || s.Save(ctx) != nil {
					return s.Save(ctx, writes...)
				}
				w := writes[0]
				r, ok := stored(s, w.Record.Subject)
				switch {
				case ok && same(r, w.Record):
					return ctx.Err()
				case r.Revision != w.Expect:
					return fmt.Errorf("%w: at %d", presence.ErrConflict, r.Revision)
				}
				for range 100 {
					runtime.Gosched()
				}
				for {
					r, _ := stored(s, w.Record.Subject)
					w.Expect = r.Revision
					if err := s.Save(ctx, w); !errors.Is(err, presence.ErrConflict) {
						return err
					}
				}
			}}
		}},
		{"a repeated row is an error", "repeated-append", func(s *memory.Storage) *storageMutant {
			return &storageMutant{Storage: s, onAppend: func(ctx context.Context, s *memory.Storage, rows ...presence.JournalRow) error {
				for _, row := range rows[:min(len(rows), 1)] {
					there, err := s.Journal(ctx, presence.JournalQuery{Subject: row.Subject})
					if err != nil {
						return err
					}
					if slices.Contains(there, row) {
						return errors.New("unique constraint violated")
					}
				}
				return s.Append(ctx, rows...)
			}}
		}},
		{"no rows are an error", "repeated-append", func(s *memory.Storage) *storageMutant {
			return &storageMutant{Storage: s, onAppend: func(ctx context.Context, s *memory.Storage, rows ...presence.JournalRow) error {
				if len(rows) == 0 {
					return errors.New("syntax error at end of input")
				}
				return s.Append(ctx, rows...)
			}}
		}},
		{"only the last is deleted", "delete", func(s *memory.Storage) *storageMutant {
			return &storageMutant{Storage: s, onDelete: func(ctx context.Context, s *memory.Storage, subjects ...presence.Ref) error {
				if len(subjects) < 100 {
					subjects = subjects[max(0, len(subjects)-1):]
				}
				return s.Delete(ctx, subjects...)
			}}
		}},
		{"ids are deleted by prefix", "delete", func(s *memory.Storage) *storageMutant {
			return &storageMutant{Storage: s, onDelete: func(ctx context.Context, s *memory.Storage, subjects ...presence.Ref) error {
				return s.Delete(ctx, append(subjects, presence.ID("anna"))...)
			}}
		}},
		{"what was deleted may not come back", "delete", func(s *memory.Storage) *storageMutant {
			gone := make(map[presence.Ref]bool)
			return &storageMutant{
				Storage: s,
				onDelete: func(ctx context.Context, s *memory.Storage, subjects ...presence.Ref) error {
					for _, subject := range subjects {
						gone[subject] = true
					}
					return s.Delete(ctx, subjects...)
				},
				onSave: func(ctx context.Context, s *memory.Storage, writes ...presence.Write) error {
					if gone[writes[0].Record.Subject] {
						return fmt.Errorf("%w: it is gone", presence.ErrConflict)
					}
					return s.Save(ctx, writes...)
				},
			}
		}},
		{"deleting the unknown is an error", "delete-unknown", func(s *memory.Storage) *storageMutant {
			return &storageMutant{Storage: s, onDelete: func(ctx context.Context, s *memory.Storage, subjects ...presence.Ref) error {
				for _, subject := range subjects {
					rows, err := s.Journal(ctx, presence.JournalQuery{Subject: subject})
					if err != nil {
						return err
					}
					if _, ok := stored(s, subject); !ok && len(rows) == 0 {
						return fmt.Errorf("%w subject %s", presence.ErrUnknown, subject)
					}
				}
				return s.Delete(ctx, subjects...)
			}}
		}},
		{"deleting none deletes all", "delete-unknown", func(s *memory.Storage) *storageMutant {
			return &storageMutant{Storage: s, onDelete: func(ctx context.Context, s *memory.Storage, subjects ...presence.Ref) error {
				if len(subjects) == 0 {
					subjects = []presence.Ref{presence.ID("ann")}
				}
				return s.Delete(ctx, subjects...)
			}}
		}},
		{"one tenant for all", "tenants", func(s *memory.Storage) *storageMutant {
			return rewritten(s, func(r presence.Ref) presence.Ref {
				if len(r.Tenant) < 4 {
					r.Tenant = ""
				}
				return r
			})
		}},
		{"tenant and id are one word", "tenants", func(s *memory.Storage) *storageMutant {
			return rewritten(s, func(r presence.Ref) presence.Ref { return presence.ID(r.String()) })
		}},
		{"the id is deleted in other tenants", "tenants", func(s *memory.Storage) *storageMutant {
			return &storageMutant{Storage: s, onDelete: func(ctx context.Context, s *memory.Storage, subjects ...presence.Ref) error {
				for _, subject := range subjects {
					if err := s.Delete(ctx, subject, presence.Ref{Tenant: "b", ID: subject.ID}); err != nil {
						return err
					}
				}
				return ctx.Err()
			}}
		}},
		{"rows of one tenant for all", "tenants", func(s *memory.Storage) *storageMutant {
			m := rewritten(s, func(r presence.Ref) presence.Ref { return presence.ID(r.ID) })
			m.onLoad, m.onSave, m.onDelete = nil, nil, nil
			return m
		}},
		{"Load goes on", "done-context", func(s *memory.Storage) *storageMutant {
			return &storageMutant{Storage: s, onLoad: func(ctx context.Context, s *memory.Storage, subjects ...presence.Ref) ([]presence.Record, error) {
				return s.Load(without(ctx), subjects...)
			}}
		}},
		{"Save goes on", "done-context", func(s *memory.Storage) *storageMutant {
			return &storageMutant{Storage: s, onSave: func(ctx context.Context, s *memory.Storage, writes ...presence.Write) error {
				return errors.Join(s.Save(without(ctx), writes...), ctx.Err())
			}}
		}},
		{"Append goes on", "done-context", func(s *memory.Storage) *storageMutant {
			return &storageMutant{Storage: s, onAppend: func(ctx context.Context, s *memory.Storage, rows ...presence.JournalRow) error {
				return errors.Join(s.Append(without(ctx), rows...), ctx.Err())
			}}
		}},
		{"Delete goes on", "done-context", func(s *memory.Storage) *storageMutant {
			return &storageMutant{Storage: s, onDelete: func(ctx context.Context, s *memory.Storage, subjects ...presence.Ref) error {
				return s.Delete(without(ctx), subjects...)
			}}
		}},
		{"Journal goes on", "done-context", func(s *memory.Storage) *storageMutant {
			return &storageMutant{Storage: s, onJournal: func(ctx context.Context, s *memory.Storage, q presence.JournalQuery) ([]presence.JournalRow, error) {
				return s.Journal(without(ctx), q)
			}}
		}},
		{"Journal of a tenant goes on", "done-context", func(s *memory.Storage) *storageMutant {
			return &storageMutant{Storage: s, onJournal: func(ctx context.Context, s *memory.Storage, q presence.JournalQuery) ([]presence.JournalRow, error) {
				if q.Subject.ID == "" {
					ctx = without(ctx)
				}
				return s.Journal(ctx, q)
			}}
		}},
		{"a done context by another name", "done-context", func(s *memory.Storage) *storageMutant {
			return &storageMutant{Storage: s, onSave: func(ctx context.Context, s *memory.Storage, writes ...presence.Write) error {
				if errors.Is(ctx.Err(), context.Canceled) {
					return fmt.Errorf("%w: too late", presence.ErrUnavailable)
				}
				return s.Save(ctx, writes...)
			}}
		}},
		{"Close does nothing", "closed", func(s *memory.Storage) *storageMutant {
			return &storageMutant{Storage: s, onClose: func(*memory.Storage) error { return nil }}
		}},
		{"closed by another name", "closed", func(s *memory.Storage) *storageMutant {
			return &storageMutant{Storage: s, onAppend: func(ctx context.Context, s *memory.Storage, rows ...presence.JournalRow) error {
				if err := s.Append(ctx, rows...); errors.Is(err, presence.ErrClosed) {
					return errors.New("sql: database is closed")
				} else {
					return err
				}
			}}
		}},
		{"closed, but reading a tenant still", "closed", func(s *memory.Storage) *storageMutant {
			return &storageMutant{Storage: s, onJournal: func(ctx context.Context, s *memory.Storage, q presence.JournalQuery) ([]presence.JournalRow, error) {
				rows, err := s.Journal(ctx, q)
				if errors.Is(err, presence.ErrClosed) && q.Subject.ID == "" {
					return nil, nil
				}
				return rows, err
			}}
		}},
		{"Close waits for what does not come", "close-under-way", func(s *memory.Storage) *storageMutant {
			var busy atomic.Bool
			var closes atomic.Int64
			closedAgain := make(chan struct{})
			return &storageMutant{
				Storage: s,
				onSave: func(ctx context.Context, s *memory.Storage, writes ...presence.Write) error {
					if len(writes) == 1 && writes[0].Expect == 20 && strings.HasPrefix(writes[0].Record.Subject.ID, "writer-") {
						busy.Store(true)
					}
					return s.Save(ctx, writes...)
				},
				onClose: func(s *memory.Storage) error {
					if closes.Add(1) == 2 {
						close(closedAgain)
					} else if busy.Load() {
						<-closedAgain
					}
					return s.Close()
				},
			}
		}},
		{"calls under way fail with an error of their own", "close-under-way", func(s *memory.Storage) *storageMutant {
			return overlapping(func(ctx context.Context, s *memory.Storage, took <-chan time.Time, writes ...presence.Write) error {
				<-took
				if err := s.Save(ctx, writes...); errors.Is(err, presence.ErrClosed) {
					return errors.New("sql: transaction has already been rolled back")
				} else {
					return err
				}
			})(s)
		}},
		{"closed, but deleting still", "closed", func(s *memory.Storage) *storageMutant {
			return &storageMutant{Storage: s, onDelete: func(ctx context.Context, s *memory.Storage, subjects ...presence.Ref) error {
				err := s.Delete(ctx, subjects...)
				if errors.Is(err, presence.ErrClosed) {
					return nil
				}
				return err
			}}
		}},
		{"instants in milliseconds", "journal-rows", onRow(func(r *presence.JournalRow) { r.At -= r.At % 1e6 })},
		{"recorded by its own clock", "journal-rows", onRow(func(r *presence.JournalRow) { r.Recorded = presence.At(time.Now()) })},
		{"nobody did it", "journal-rows", onRow(func(r *presence.JournalRow) { r.By = strings.TrimPrefix(r.By, "bob") })},
		{"what is yet to come does not come", "journal-rows", func(s *memory.Storage) *storageMutant {
			return &storageMutant{Storage: s, onAppend: func(ctx context.Context, s *memory.Storage, rows ...presence.JournalRow) error {
				now := presence.At(time.Now())
				return s.Append(ctx, slices.DeleteFunc(slices.Clone(rows), func(r presence.JournalRow) bool { return r.At > now })...)
			}}
		}},
		{"a tenant's row is known by its id alone", "journal-subjects", onTenant(func(q presence.JournalQuery, all []presence.JournalRow) []presence.JournalRow {
			if i := slices.IndexFunc(all, func(r presence.JournalRow) bool { return r.ID == q.After.ID }); i >= 0 {
				q.After = all[i]
			}
			return q.Select(all)
		})},
		{"row ids have 128 bytes", "journal-capacity", onRow(func(r *presence.JournalRow) { r.ID = r.ID[:min(len(r.ID), presence.MaxID)] })},
		{"reasons have 32 characters", "journal-capacity", onRow(func(r *presence.JournalRow) {
			chars := []rune(r.Reason)
			r.Reason = string(chars[:min(len(chars), 32)])
		})},
		{"texts without space around them", "journal-capacity", onRow(func(r *presence.JournalRow) { r.Key = strings.TrimSpace(r.Key) })},
		{"a page is remembered", "journal-grows", func(s *memory.Storage) *storageMutant {
			var mu sync.Mutex
			pages := make(map[presence.JournalQuery][]presence.JournalRow)
			return &storageMutant{Storage: s, onJournal: func(ctx context.Context, s *memory.Storage, q presence.JournalQuery) ([]presence.JournalRow, error) {
				mu.Lock()
				defer mu.Unlock()
				rows, err := s.Journal(ctx, q)
				page, there := pages[q]
				if q.After.ID == "" || err != nil || !there {
					page = rows
				}
				pages[q] = page
				return slices.Clone(page), err
			}}
		}},
		{"a context that ends halves a batch of rows", "journal-whole-batches", overlappingAppend(func(ctx context.Context, s *memory.Storage, rows []presence.JournalRow) error {
			return errors.Join(s.Append(without(ctx), rows[:1]...), ctx.Err())
		})},
		{"rows are acknowledged when the context ends", "journal-whole-batches", overlappingAppend(func(context.Context, *memory.Storage, []presence.JournalRow) error {
			return nil
		})},
		{"tenants that begin alike are one", "tenant-rows", onTenant(func(q presence.JournalQuery, all []presence.JournalRow) []presence.JournalRow {
			for i := range all {
				if strings.HasPrefix(all[i].Subject.Tenant, q.Subject.Tenant) && q.Subject.Tenant != "" {
					all[i].Subject.Tenant = q.Subject.Tenant
				}
			}
			return q.Select(all)
		})},
		{"a query of every tenant", "tenant-rows", onTenant(func(q presence.JournalQuery, all []presence.JournalRow) []presence.JournalRow {
			for i := range all {
				all[i].Subject.Tenant = q.Subject.Tenant
			}
			return q.Select(all)
		})},
		{"the default tenant alone is read", "tenant-rows", onTenant(func(q presence.JournalQuery, all []presence.JournalRow) []presence.JournalRow {
			q.Subject.Tenant = ""
			return q.Select(all)
		})},
		{"a tenant's rows in the order appended", "tenant-order", onTenant(func(q presence.JournalQuery, all []presence.JournalRow) []presence.JournalRow {
			rows := q.Select(all)
			return slices.DeleteFunc(all, func(r presence.JournalRow) bool { return !slices.Contains(rows, r) })
		})},
		{"a tenant's rows by instant and id", "tenant-order", onTenant(func(q presence.JournalQuery, all []presence.JournalRow) []presence.JournalRow {
			slices.SortStableFunc(all, func(a, b presence.JournalRow) int { return strings.Compare(a.ID, b.ID) })
			return q.Select(all)
		})},
		{"a tenant's rows that includes To", "tenant-window", onTenant(func(q presence.JournalQuery, all []presence.JournalRow) []presence.JournalRow {
			if q.To != 0 {
				q.To++
			}
			return q.Select(all)
		})},
		{"a tenant's rows that excludes From", "tenant-window", onTenant(func(q presence.JournalQuery, all []presence.JournalRow) []presence.JournalRow {
			if q.From != 0 && q.Limit == 0 {
				q.From++
			}
			return q.Select(all)
		})},
		{"a tenant's rows of any number", "tenant-pages", onTenant(func(q presence.JournalQuery, all []presence.JournalRow) []presence.JournalRow {
			q.Limit = len(all) + 1
			return q.Select(all)
		})},
		{"a tenant's rows goes on with the next instant", "tenant-pages", onTenant(func(q presence.JournalQuery, all []presence.JournalRow) []presence.JournalRow {
			if q.Limit > 0 && q.After.ID != "" {
				q.From, q.After = q.After.At+1, presence.JournalRow{}
			}
			return q.Select(all)
		})},
		{"a tenant's rows goes on with the same instant", "tenant-pages", onTenant(func(q presence.JournalQuery, all []presence.JournalRow) []presence.JournalRow {
			if q.Limit > 0 && q.After.ID != "" {
				q.From, q.After = q.After.At, presence.JournalRow{}
			}
			return q.Select(all)
		})},
		{"a tenant's rows ends where its row is gone", "tenant-gone", onTenant(func(q presence.JournalQuery, all []presence.JournalRow) []presence.JournalRow {
			if q.After.ID != "" && !slices.ContainsFunc(all, func(r presence.JournalRow) bool { return r.Subject == q.After.Subject && r.ID == q.After.ID }) {
				return nil
			}
			return q.Select(all)
		})},
		{"by instant", "journal-order", onQuery(func(q presence.JournalQuery, all []presence.JournalRow) []presence.JournalRow {
			slices.SortStableFunc(all, func(a, b presence.JournalRow) int { return int(a.At - b.At) })
			return q.Select(all)
		})},
		{"repeated within a batch", "journal-once", journalMutant(func(j *rawJournal, batch []presence.JournalRow) {
			j.mu.Lock()
			defer j.mu.Unlock()
			before := rawJournal{rows: slices.Clone(j.rows)}
			for _, row := range batch {
				if before.index(row) < 0 {
					j.rows = append(j.rows, row)
				}
			}
		})},
		{"the last row of an id wins", "journal-once", journalMutant(func(j *rawJournal, batch []presence.JournalRow) {
			j.mu.Lock()
			defer j.mu.Unlock()
			for _, row := range batch {
				if i := j.index(row); i >= 0 {
					j.rows[i] = row
				} else {
					j.rows = append(j.rows, row)
				}
			}
		})},
		{"a repeated row moves to the end", "journal-once", journalMutant(func(j *rawJournal, batch []presence.JournalRow) {
			j.mu.Lock()
			defer j.mu.Unlock()
			for _, row := range batch {
				if i := j.index(row); i >= 0 {
					row = j.rows[i]
					j.rows = slices.Delete(j.rows, i, i+1)
				}
				j.rows = append(j.rows, row)
			}
		})},
		{"ids are unique among all subjects", "journal-subjects", journalMutant(func(j *rawJournal, batch []presence.JournalRow) {
			j.mu.Lock()
			defer j.mu.Unlock()
			for _, row := range batch {
				if !slices.ContainsFunc(j.rows, func(r presence.JournalRow) bool { return r.ID == row.ID }) {
					j.rows = append(j.rows, row)
				}
			}
		})},
		{"To is included", "journal-window", onQuery(func(q presence.JournalQuery, all []presence.JournalRow) []presence.JournalRow {
			if q.To != 0 {
				q.To++
			}
			return q.Select(all)
		})},
		{"From is excluded", "journal-window", onQuery(func(q presence.JournalQuery, all []presence.JournalRow) []presence.JournalRow {
			if q.From != 0 {
				q.From++
			}
			return q.Select(all)
		})},
		{"the window is in seconds", "journal-window", onQuery(func(q presence.JournalQuery, all []presence.JournalRow) []presence.JournalRow {
			q.From, q.To = q.From/1e9*1e9, q.To/1e9*1e9
			return q.Select(all)
		})},
		{"ids are compared as text", "journal-after", onQuery(func(q presence.JournalQuery, all []presence.JournalRow) []presence.JournalRow {
			all = slices.DeleteFunc(all, func(r presence.JournalRow) bool { return r.ID <= q.After.ID })
			q.After = presence.JournalRow{}
			return q.Select(all)
		})},
		{"the row is looked for in the window", "journal-after", onQuery(func(q presence.JournalQuery, all []presence.JournalRow) []presence.JournalRow {
			window := q
			window.After, window.Limit = presence.JournalRow{}, len(all)+1
			q.From, q.To = 0, 0
			return q.Select(window.Select(all))
		})},
		{"any number of rows", "journal-limit", onQuery(func(q presence.JournalQuery, all []presence.JournalRow) []presence.JournalRow {
			q.Limit = len(all) + 1
			return q.Select(all)
		})},
		{"a hundred rows by default", "journal-limit", onQuery(func(q presence.JournalQuery, all []presence.JournalRow) []presence.JournalRow {
			if q.Limit == 0 {
				q.Limit = 100
			}
			return q.Select(all)
		})},
		{"the last rows", "journal-limit", onQuery(func(q presence.JournalQuery, all []presence.JournalRow) []presence.JournalRow {
			limit := q.Limit
			q.Limit = 1 << 20
			rows := q.Select(all)
			if limit == 0 {
				limit = 1000
			}
			return rows[max(0, len(rows)-limit):]
		})},
		{"reading and writing are two steps", "journal-concurrent", journalMutant(func(j *rawJournal, batch []presence.JournalRow) {
			j.mu.Lock()
			next := rawJournal{rows: slices.Clone(j.rows)}
			j.mu.Unlock()
			for range 100 {
				runtime.Gosched()
			}
			for _, row := range batch {
				if next.index(row) < 0 {
					next.rows = append(next.rows, row)
				}
			}
			j.mu.Lock()
			defer j.mu.Unlock()
			j.rows = next.rows
		})},
		{"the journal stays", "journal-deleted", func(s *memory.Storage) *storageMutant {
			m := journalMutant((*rawJournal).add)(s)
			m.onDelete = nil
			return m
		}},
		{"what was appended is remembered", "journal-deleted", func(s *memory.Storage) *storageMutant {
			var mu sync.Mutex
			seen := make(map[string]bool)
			return &storageMutant{Storage: s, onAppend: func(ctx context.Context, s *memory.Storage, rows ...presence.JournalRow) error {
				mu.Lock()
				defer mu.Unlock()
				for _, row := range rows {
					key := fmt.Sprintf("%#v %q", row.Subject, row.ID)
					if !seen[key] {
						if err := s.Append(ctx, row); err != nil {
							return err
						}
					}
					seen[key] = true
				}
				return s.Append(ctx)
			}}
		}},
	}
	variants = append(variants, baseVariants...)
	variants = append(variants, pruneVariants...)
	var mutants []mutant[presence.Storage]
	for _, v := range variants {
		mutants = append(mutants, mutant[presence.Storage]{v.name, v.rule, func(<-chan struct{}) presence.Storage {
			m := v.of(inMemory(5000))
			if v.cuts() {
				return m
			}
			return unpruned{m}
		}})
	}
	lastingVariants := []struct {
		name string
		rule string
		redo func([]op) []op
	}{
		{"what was deleted is back", "reopen", func(ops []op) []op {
			return slices.DeleteFunc(ops, func(o op) bool { return o.deleted != nil })
		}},
		{"revisions of 32 bits", "reopen", func(ops []op) []op {
			for i := range ops {
				for j := range ops[i].writes {
					ops[i].writes[j].Record.Revision &= 1<<32 - 1
				}
			}
			return ops
		}},
		{"rows by instant from then on", "reopen-journal", func(ops []op) []op {
			for i := range ops {
				slices.SortStableFunc(ops[i].rows, func(a, b presence.JournalRow) int { return int(a.At - b.At) })
			}
			return ops
		}},
		{"what was pruned is back", "reopen-pruned", func(ops []op) []op {
			return slices.DeleteFunc(ops, func(o op) bool { return o.pruned != 0 })
		}},
		{"the rows that came last are lost", "reopen-journal", func(ops []op) []op {
			return slices.DeleteFunc(ops, func(o op) bool {
				return slices.ContainsFunc(o.rows, func(r presence.JournalRow) bool { return r.ID == "m" })
			})
		}},
		{"what was under way at Close is lost", "close-under-way", func(ops []op) []op {
			if len(ops) > 20 {
				ops = ops[:len(ops)-10]
			}
			return ops
		}},
	}
	for _, v := range lastingVariants {
		mutants = append(mutants, mutant[presence.Storage]{v.name, v.rule, func(<-chan struct{}) presence.Storage { return newLasting(v.redo) }})
	}
	caught(t, presencetest.CheckStorage, mutants)
}
