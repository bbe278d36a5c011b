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
	// JournalRows is the number of transitions kept of each subject's journal, and of
	// its other rows, the newest of each. 0 means 1,000, negative none.
	JournalRows int
	// JournalTotal is the number of transitions kept in all, and of other rows, the
	// newest of each. 0 means 1,000,000, negative none.
	JournalTotal int
}

// Storage is a presence.Storage and presence.JournalReader in memory. A stored
// record outlives the tracker, not the process. The journal has a limit: a new
// transition replaces the oldest transition, another row the oldest of the others.
// Beyond the limit, Storage keeps one transition of each subject, the newest of those
// replaced. It does not recognise a replaced row that is appended again.
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

// Prune deletes the rows of the journal that happened before an instant, of all
// tenants. It keeps of each subject the last of the transitions among them. It
// returns the number of deleted rows.
func (s *Storage) Prune(ctx context.Context, before presence.Instant) (rows int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.usable(ctx); err != nil {
		return 0, err
	}
	return s.journal.prune(before), nil
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

// journal keeps the newest rows of each subject, and of all together, transitions
// apart from others.
type journal struct {
	perSubject, total int
	histories         map[presence.Ref]*history
	order             [kinds]list.List // of the entries that count, the one appended first at the front
	appended          uint64           // entries so far
}

// Transitions and other rows are counted apart.
const (
	transition = iota
	other
	kinds
)

// history is the journal of one subject.
type history struct {
	counted [kinds][]*entry // those that count, oldest first
	base    *entry          // the transition appended last of those that no longer count
	ids     map[string]bool // of all entries
}

type entry struct {
	n     uint64 // grows with each entry
	row   presence.JournalRow
	place *list.Element // in the order of all; nil for a base
}

func kindOf(row *presence.JournalRow) int {
	if row.Kind == presence.RowTransition {
		return transition
	}
	return other
}

func (j *journal) add(row presence.JournalRow) {
	if j.perSubject == 0 || j.total == 0 {
		return
	}
	h := j.histories[row.Subject]
	if h == nil {
		h = &history{ids: make(map[string]bool)}
		j.histories[row.Subject] = h
	} else if h.ids[row.ID] {
		return
	}
	h.ids[row.ID] = true // first, so that a cut does not forget the history
	kind := kindOf(&row)
	if len(h.counted[kind]) >= j.perSubject {
		j.cut(h, kind)
	} else if j.order[kind].Len() >= j.total {
		j.cut(j.histories[j.order[kind].Front().Value.(*entry).row.Subject], kind)
	}
	j.appended++
	e := &entry{n: j.appended, row: row}
	e.place = j.order[kind].PushBack(e)
	h.counted[kind] = append(h.counted[kind], e)
}

// cut takes the oldest entry of a kind out of the count.
func (j *journal) cut(h *history, kind int) {
	e := h.counted[kind][0]
	h.counted[kind][0] = nil // the array of the slice may stay for long
	h.counted[kind] = h.counted[kind][1:]
	j.drop(h, e)
}

// drop forgets an entry that no longer counts. But it keeps the last transition.
func (j *journal) drop(h *history, e *entry) (forgotten int) {
	j.order[kindOf(&e.row)].Remove(e.place)
	e.place = nil
	if e.row.Kind == presence.RowTransition && (h.base == nil || e.n > h.base.n) {
		e, h.base = h.base, e
	}
	if e == nil {
		return 0
	}
	delete(h.ids, e.row.ID)
	if len(h.ids) == 0 {
		delete(j.histories, e.row.Subject)
	}
	return 1
}

// prune drops the entries before an instant, and returns how many are forgotten.
func (j *journal) prune(before presence.Instant) (rows int) {
	for _, h := range j.histories {
		for kind := range h.counted {
			h.counted[kind] = slices.DeleteFunc(h.counted[kind], func(e *entry) bool {
				if e.row.At >= before {
					return false
				}
				rows += j.drop(h, e)
				return true
			})
		}
	}
	return rows
}

func (j *journal) remove(subject presence.Ref) {
	if h := j.histories[subject]; h != nil {
		for kind, entries := range h.counted {
			for _, e := range entries {
				j.order[kind].Remove(e.place)
			}
		}
		delete(j.histories, subject)
	}
}

// rows returns every row of a subject in the order in which they were appended.
func (j *journal) rows(subject presence.Ref) []presence.JournalRow {
	if h := j.histories[subject]; h != nil {
		return inOrder(h.entries(nil))
	}
	return nil
}

// all returns every row in the order in which they were appended.
func (j *journal) all() []presence.JournalRow {
	var entries []*entry
	for _, h := range j.histories {
		entries = h.entries(entries)
	}
	return inOrder(entries)
}

// entries appends the entries of a history to a list.
func (h *history) entries(to []*entry) []*entry {
	if h.base != nil {
		to = append(to, h.base)
	}
	return append(append(to, h.counted[transition]...), h.counted[other]...)
}

func inOrder(entries []*entry) []presence.JournalRow {
	slices.SortFunc(entries, func(a, b *entry) int { return cmp.Compare(a.n, b.n) })
	rows := make([]presence.JournalRow, len(entries))
	for i, e := range entries {
		rows[i] = e.row
	}
	return rows
}
