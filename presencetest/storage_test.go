package presencetest_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strings"
	"sync"
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
		"memory": func() presence.Storage { return memory.NewStorage(memory.StorageOptions{}) },
		"without faults": func() presence.Storage {
			return presencetest.NewFaultyStorage(memory.NewStorage(memory.StorageOptions{}))
		},
		"that neither reads its journal nor closes": func() presence.Storage {
			return struct{ presence.Storage }{memory.NewStorage(memory.StorageOptions{})}
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

func (m *storageMutant) Close() error {
	if m.onClose == nil {
		return m.Storage.Close()
	}
	return m.onClose(m.Storage)
}

// stored returns what memory has of a subject.
func stored(s *memory.Storage, subject presence.Ref) (presence.Record, bool) {
	records, err := s.Load(context.Background(), subject)
	if err != nil || len(records) == 0 {
		return presence.Record{}, false
	}
	return records[0], true
}

func same(a, b presence.Record) bool {
	return a.Revision == b.Revision && string(a.Data) == string(b.Data)
}

// rewritten returns a store in which every subject is another one.
func rewritten(s *memory.Storage, to func(presence.Ref) presence.Ref) *storageMutant {
	all := func(subjects []presence.Ref) []presence.Ref {
		var list []presence.Ref
		for _, subject := range subjects {
			list = append(list, to(subject))
		}
		return list
	}
	return &storageMutant{
		Storage: s,
		onLoad: func(ctx context.Context, s *memory.Storage, subjects ...presence.Ref) (found []presence.Record, err error) {
			for i, subject := range subjects {
				if slices.Contains(subjects[:i], subject) {
					continue
				}
				records, err := s.Load(ctx, to(subject))
				if err != nil {
					return nil, err
				}
				for _, r := range records {
					r.Subject = subject
					found = append(found, r)
				}
			}
			return found, ctx.Err()
		},
		onSave: func(ctx context.Context, s *memory.Storage, writes ...presence.Write) error {
			for i := range writes {
				writes[i].Record.Subject = to(writes[i].Record.Subject)
			}
			return s.Save(ctx, writes...)
		},
		onAppend: func(ctx context.Context, s *memory.Storage, rows ...presence.JournalRow) error {
			rows = slices.Clone(rows)
			for i := range rows {
				rows[i].Subject = to(rows[i].Subject)
			}
			return s.Append(ctx, rows...)
		},
		onDelete: func(ctx context.Context, s *memory.Storage, subjects ...presence.Ref) error {
			return s.Delete(ctx, all(subjects)...)
		},
		onJournal: func(ctx context.Context, s *memory.Storage, q presence.JournalQuery) ([]presence.JournalRow, error) {
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

// rawJournal keeps every row that add lets in, where add says.
type rawJournal struct {
	mu   sync.Mutex
	rows []presence.JournalRow
}

func journalMutant(add func(j *rawJournal, batch []presence.JournalRow)) func(s *memory.Storage) *storageMutant {
	return func(s *memory.Storage) *storageMutant {
		j := new(rawJournal)
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
			onJournal: func(ctx context.Context, s *memory.Storage, q presence.JournalQuery) ([]presence.JournalRow, error) {
				if _, err := s.Journal(ctx, q); err != nil {
					return nil, err
				}
				j.mu.Lock()
				defer j.mu.Unlock()
				var own []presence.JournalRow
				for _, r := range j.rows {
					if r.Subject == q.Subject {
						own = append(own, r)
					}
				}
				return q.Select(own), nil
			},
		}
	}
}

func (j *rawJournal) index(row presence.JournalRow) int {
	return slices.IndexFunc(j.rows, func(r presence.JournalRow) bool { return r.Subject == row.Subject && r.ID == row.ID })
}

// onRow returns a journal whose rows are changed before they are kept.
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

// onWrite returns storage whose writes are changed before they are kept.
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

// onQuery returns storage that selects rows in its own way from all there are.
func onQuery(choose func(q presence.JournalQuery, all []presence.JournalRow) []presence.JournalRow) func(s *memory.Storage) *storageMutant {
	return func(s *memory.Storage) *storageMutant {
		return &storageMutant{Storage: s, onJournal: func(ctx context.Context, s *memory.Storage, q presence.JournalQuery) ([]presence.JournalRow, error) {
			all, err := s.Journal(ctx, presence.JournalQuery{Subject: q.Subject, Limit: 1 << 20})
			if err != nil {
				return nil, err
			}
			return choose(q, all), nil
		}}
	}
}

// without returns a context that is never done, as if nobody looked.
func without(ctx context.Context) context.Context { return context.WithoutCancel(ctx) }

func TestStorageSuiteCatches(t *testing.T) {
	t.Parallel()
	type variant struct {
		name string
		rule string
		of   func(s *memory.Storage) *storageMutant
	}
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
				for _, subject := range subjects {
					records, err := s.Load(ctx, subject)
					if err != nil {
						return nil, err
					}
					found = append(found, records...)
				}
				return found, ctx.Err()
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
				onJournal: func(ctx context.Context, s *memory.Storage, q presence.JournalQuery) ([]presence.JournalRow, error) {
					if _, err := s.Journal(ctx, q); err != nil {
						return nil, err
					}
					mu.Lock()
					defer mu.Unlock()
					again := memory.NewStorage(memory.StorageOptions{})
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
				if _, ok := stored(s, writes[0].Record.Subject); ok && writes[0].Expect != 0 && errors.Is(err, presence.ErrConflict) {
					return errors.New("no row was changed")
				}
				return err
			}}
		}},
		{"a conflict of new records by another name", "expect-none", func(s *memory.Storage) *storageMutant {
			return &storageMutant{Storage: s, onSave: func(ctx context.Context, s *memory.Storage, writes ...presence.Write) error {
				err := s.Save(ctx, writes...)
				if writes[0].Expect == 0 && errors.Is(err, presence.ErrConflict) {
					return errors.New("unique constraint violated")
				}
				return err
			}}
		}},
		{"a new record over an old one does nothing", "expect-none", func(s *memory.Storage) *storageMutant {
			return &storageMutant{Storage: s, onSave: func(ctx context.Context, s *memory.Storage, writes ...presence.Write) error {
				if _, ok := stored(s, writes[0].Record.Subject); ok && len(writes) == 1 && writes[0].Expect == 0 {
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
		{"one write after the other until one fails", "all-or-none", func(s *memory.Storage) *storageMutant {
			return &storageMutant{Storage: s, onSave: func(ctx context.Context, s *memory.Storage, writes ...presence.Write) error {
				for _, w := range writes {
					if err := s.Save(ctx, w); err != nil {
						return err
					}
				}
				return nil
			}}
		}},
		{"every write that can be", "all-or-none", func(s *memory.Storage) *storageMutant {
			return &storageMutant{Storage: s, onSave: func(ctx context.Context, s *memory.Storage, writes ...presence.Write) error {
				var errs []error
				for _, w := range slices.Backward(writes) {
					errs = append(errs, s.Save(ctx, w))
				}
				return errors.Join(errs...)
			}}
		}},
		{"two writes at most", "all-or-none", func(s *memory.Storage) *storageMutant {
			return &storageMutant{Storage: s, onSave: func(ctx context.Context, s *memory.Storage, writes ...presence.Write) error {
				return s.Save(ctx, writes[:min(len(writes), 2)]...)
			}}
		}},
		{"what was saved before is a conflict", "repeated-save", func(s *memory.Storage) *storageMutant {
			return &storageMutant{Storage: s, onSave: func(ctx context.Context, s *memory.Storage, writes ...presence.Write) error {
				for _, w := range writes {
					if r, ok := stored(s, w.Record.Subject); ok && r.Revision != w.Expect {
						return fmt.Errorf("%w: at %d", presence.ErrConflict, r.Revision)
					}
				}
				return s.Save(ctx, writes...)
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
				if len(writes) > 1 {
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
				return s.Delete(ctx, subjects[max(0, len(subjects)-1):]...)
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
			return rewritten(s, func(r presence.Ref) presence.Ref { return presence.ID(r.ID) })
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
		{"a done context by another name", "done-context", func(s *memory.Storage) *storageMutant {
			return &storageMutant{Storage: s, onSave: func(ctx context.Context, s *memory.Storage, writes ...presence.Write) error {
				if ctx.Err() != nil {
					return fmt.Errorf("%w: too late", presence.ErrUnavailable)
				}
				return s.Save(ctx, writes...)
			}}
		}},
		{"Close does nothing", "closed", func(s *memory.Storage) *storageMutant {
			return &storageMutant{Storage: s, onClose: func(*memory.Storage) error { return nil }}
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
		{"nobody did it", "journal-rows", onRow(func(r *presence.JournalRow) { r.By = "" })},
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
			all = slices.DeleteFunc(all, func(r presence.JournalRow) bool { return r.ID <= q.After })
			q.After = ""
			return q.Select(all)
		})},
		{"the row is looked for in the window", "journal-after", onQuery(func(q presence.JournalQuery, all []presence.JournalRow) []presence.JournalRow {
			window := q
			window.After, window.Limit = "", len(all)+1
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
			m := journalMutant(func(j *rawJournal, batch []presence.JournalRow) {
				j.mu.Lock()
				defer j.mu.Unlock()
				for _, row := range batch {
					if j.index(row) < 0 {
						j.rows = append(j.rows, row)
					}
				}
			})(s)
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
	var mutants []mutant[presence.Storage]
	for _, v := range variants {
		mutants = append(mutants, mutant[presence.Storage]{v.name, v.rule, func(<-chan struct{}) presence.Storage {
			return v.of(memory.NewStorage(memory.StorageOptions{JournalRows: 5000}))
		}})
	}
	caught(t, presencetest.CheckStorage, mutants)
}
