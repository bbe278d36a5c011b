package memory

import (
	"bytes"
	"cmp"
	"container/list"
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/presence-go/presence"
)

var (
	_ presence.Storage       = (*Storage)(nil)
	_ presence.JournalReader = (*Storage)(nil)
	_ presence.Transport     = (*Transport)(nil)
	_ presence.Notifier      = (*Notifier)(nil)
)

// StorageOptions configures a [Storage]. The zero value works.
type StorageOptions struct {
	// JournalRows is the number of rows kept of each subject's journal, the newest.
	// 0 means 1,000, negative none.
	JournalRows int
	// JournalTotal is the number of rows kept in all, the newest. 0 means 1,000,000,
	// negative none.
	JournalTotal int
}

// Storage is a presence.Storage and presence.JournalReader in memory. A stored
// record outlives the tracker, not the process. The journal has a limit: a new
// row replaces the oldest. Storage does not recognise a replaced row that is
// appended again.
type Storage struct {
	mu      sync.RWMutex
	closed  bool
	records map[presence.Ref]presence.Record
	journal journal
}

// NewStorage returns empty storage. It allows every value of the options, and
// returns no error.
func NewStorage(opts *StorageOptions) (*Storage, error) {
	var o StorageOptions
	if opts != nil {
		o = *opts
	}
	return &Storage{
		records: make(map[presence.Ref]presence.Record),
		journal: journal{
			perSubject: max(cmp.Or(o.JournalRows, 1000), 0),
			total:      max(cmp.Or(o.JournalTotal, 1_000_000), 0),
			histories:  make(map[presence.Ref]*history),
		},
	}, nil
}

// usable returns why a call cannot be served, or nil. The storage is locked.
func (s *Storage) usable(ctx context.Context) error {
	if s.closed {
		return &presence.Error{Err: presence.ErrClosed, What: "storage"}
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return nil
}

// Load returns the records of the subjects that have one, each once.
func (s *Storage) Load(ctx context.Context, subjects ...presence.Ref) ([]presence.Record, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if err := s.usable(ctx); err != nil {
		return nil, err
	}
	var records []presence.Record
	loaded := make(map[presence.Ref]bool, len(subjects))
	for _, subject := range subjects {
		if r, ok := s.records[subject]; ok && !loaded[subject] {
			r.Data = slices.Clone(r.Data)
			records = append(records, r)
			loaded[subject] = true
		}
	}
	return records, nil
}

// Save stores all writes or none.
func (s *Storage) Save(ctx context.Context, writes ...presence.Write) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.usable(ctx); err != nil {
		return err
	}
	for _, w := range writes {
		stored, ok := s.records[w.Record.Subject]
		if ok && stored.Revision == w.Record.Revision && bytes.Equal(stored.Data, w.Record.Data) {
			continue // the same call again
		}
		if stored.Revision != w.Expect || ok != (w.Expect != 0) {
			return &presence.Error{
				Err: presence.ErrConflict, What: "record", Given: w.Record.Subject.String(),
				Text: fmt.Sprintf("it is at revision %d, expected was %d", stored.Revision, w.Expect),
			}
		}
	}
	for _, w := range writes {
		r := w.Record
		r.Data = slices.Clone(r.Data)
		s.records[r.Subject] = r
	}
	return nil
}

// Append adds rows to the journal, in order.
func (s *Storage) Append(ctx context.Context, rows ...presence.JournalRow) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.usable(ctx); err != nil {
		return err
	}
	for _, row := range rows {
		s.journal.add(row)
	}
	return nil
}

// Delete removes the records and journals of subjects.
func (s *Storage) Delete(ctx context.Context, subjects ...presence.Ref) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.usable(ctx); err != nil {
		return err
	}
	for _, subject := range subjects {
		delete(s.records, subject)
		s.journal.remove(subject)
	}
	return nil
}

// Journal returns the kept rows that q selects. For a tenant it looks at every row.
func (s *Storage) Journal(ctx context.Context, q presence.JournalQuery) ([]presence.JournalRow, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if err := s.usable(ctx); err != nil {
		return nil, err
	}
	if q.Subject.ID == "" {
		return q.Select(s.journal.all()), nil
	}
	return q.Select(s.journal.rows(q.Subject)), nil
}

// Close makes every later call fail. A second Close changes nothing and returns
// [presence.ErrClosed].
func (s *Storage) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return &presence.Error{Err: presence.ErrClosed, What: "storage"}
	}
	s.closed = true
	s.records, s.journal = nil, journal{}
	return nil
}

// journal keeps the newest rows of each subject, and of all together.
type journal struct {
	perSubject, total int
	histories         map[presence.Ref]*history
	order             list.List // the subject of every row kept, the row appended first at the front
}

// history is the journal of one subject, oldest row first.
type history struct {
	entries []entry
	ids     map[string]bool
}

type entry struct {
	row   presence.JournalRow
	place *list.Element // in the order of all
}

func (j *journal) add(row presence.JournalRow) {
	if j.perSubject == 0 || j.total == 0 {
		return
	}
	h := j.histories[row.Subject]
	if h != nil && h.ids[row.ID] {
		return
	}
	if h != nil && len(h.entries) >= j.perSubject {
		j.dropOldest(row.Subject)
	} else if j.order.Len() >= j.total {
		j.dropOldest(j.order.Front().Value.(presence.Ref))
	}
	if h = j.histories[row.Subject]; h == nil {
		h = &history{ids: make(map[string]bool)}
		j.histories[row.Subject] = h
	}
	h.entries = append(h.entries, entry{row, j.order.PushBack(row.Subject)})
	h.ids[row.ID] = true
}

// dropOldest forgets a subject's oldest row.
func (j *journal) dropOldest(subject presence.Ref) {
	h := j.histories[subject]
	first := &h.entries[0]
	j.order.Remove(first.place)
	delete(h.ids, first.row.ID)
	*first = entry{} // the array of the slice may stay for long
	if h.entries = h.entries[1:]; len(h.entries) == 0 {
		delete(j.histories, subject)
	}
}

func (j *journal) remove(subject presence.Ref) {
	if h := j.histories[subject]; h != nil {
		for _, e := range h.entries {
			j.order.Remove(e.place)
		}
		delete(j.histories, subject)
	}
}

func (j *journal) rows(subject presence.Ref) []presence.JournalRow {
	h := j.histories[subject]
	if h == nil {
		return nil
	}
	rows := make([]presence.JournalRow, len(h.entries))
	for i := range h.entries {
		rows[i] = h.entries[i].row
	}
	return rows
}

// all returns every row in the order in which they were appended.
func (j *journal) all() []presence.JournalRow {
	rows := make([]presence.JournalRow, 0, j.order.Len())
	next := make(map[presence.Ref]int, len(j.histories)) // of each history, the first entry not taken
	for e := j.order.Front(); e != nil; e = e.Next() {
		subject := e.Value.(presence.Ref)
		rows = append(rows, j.histories[subject].entries[next[subject]].row)
		next[subject]++
	}
	return rows
}
