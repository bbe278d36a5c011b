package presencetest_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/presence-go/presence"
	"github.com/presence-go/presence/presencetest"
)

// fileStorage stores everything in one JSON file, and writes the file again at
// each change. It fulfils the whole contract, and is quick enough for a team in
// one process.
type fileStorage struct {
	path string
	turn chan struct{} // held by the running call; a Go channel, so that a wait for it can end
	now  contents
	shut sync.Once
	gone chan struct{} // closed by Close
}

// contents are the stored records and rows. A change makes new contents, and
// they replace the current ones once they are on the disk.
type contents struct {
	Records []presence.Record     // in any order
	Rows    []presence.JournalRow // in the order in which they were appended
}

func openFile(path string) (*fileStorage, error) {
	s := &fileStorage{path: path, turn: make(chan struct{}, 1), gone: make(chan struct{})}
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	}
	if err != nil {
		return nil, fmt.Errorf("filestorage: %w", err)
	}
	if err := json.Unmarshal(data, &s.now); err != nil {
		return nil, fmt.Errorf("filestorage: %s: %w: %w", path, presence.ErrInvalid, err)
	}
	return s, nil
}

// Close waits for the running call. It refuses later calls.
func (s *fileStorage) Close() error {
	s.shut.Do(func() { close(s.gone) })
	s.turn <- struct{}{}
	defer func() { <-s.turn }()
	return nil
}

// begin waits for a call's turn. It fails if the call's context ends or the
// storage is closed.
func (s *fileStorage) begin(ctx context.Context) error {
	select {
	case s.turn <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	select {
	case <-s.gone:
		<-s.turn
		return fmt.Errorf("filestorage: %w", presence.ErrClosed)
	case <-ctx.Done(): // both cases can be ready: a context that is done takes precedence
		<-s.turn
		return context.Cause(ctx)
	default:
		return nil
	}
}

func (s *fileStorage) end() { <-s.turn }

// put replaces the contents. Nil means that the new contents are on the disk.
// After an error the file holds the old or the new contents as a whole.
func (s *fileStorage) put(next contents) error {
	data, err := json.Marshal(next)
	if err != nil {
		return fmt.Errorf("filestorage: %w", err)
	}
	if err := replace(s.path, data); err != nil {
		return fmt.Errorf("filestorage: %w: %w", presence.ErrUnavailable, err)
	}
	s.now = next
	return nil
}

// replace writes data to a new file and renames it to path.
func replace(path string, data []byte) error {
	file, err := os.OpenFile(path+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = file.Write(data)
	if err = errors.Join(err, file.Sync(), file.Close()); err != nil {
		return err
	}
	if err := os.Rename(file.Name(), path); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path)) // the rename must survive a crash too
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

func (s *fileStorage) Load(ctx context.Context, subjects ...presence.Ref) ([]presence.Record, error) {
	if err := s.begin(ctx); err != nil {
		return nil, err
	}
	defer s.end()
	wanted := make(map[presence.Ref]bool, len(subjects))
	for _, subject := range subjects {
		wanted[subject] = true
	}
	var found []presence.Record
	for _, r := range s.now.Records {
		if wanted[r.Subject] {
			r.Data = slices.Clone(r.Data) // the caller owns what Load returns
			found = append(found, r)
		}
	}
	return found, nil
}

func (s *fileStorage) Save(ctx context.Context, writes ...presence.Write) error {
	if err := s.begin(ctx); err != nil {
		return err
	}
	defer s.end()
	records := make(map[presence.Ref]presence.Record, len(s.now.Records)+len(writes))
	for _, r := range s.now.Records {
		records[r.Subject] = r
	}
	for _, w := range writes {
		r := w.Record
		held := records[r.Subject] // revision 0 if there is no record
		if held.Revision == r.Revision && slices.Equal(held.Data, r.Data) {
			continue // saved before; the answer was lost
		}
		if held.Revision != w.Expect {
			return fmt.Errorf("filestorage: %w: %s is at revision %d, not %d", presence.ErrConflict, r.Subject, held.Revision, w.Expect)
		}
		r.Data = slices.Clone(r.Data) // the caller keeps its slice
		records[r.Subject] = r
	}
	return s.put(contents{slices.Collect(maps.Values(records)), s.now.Rows})
}

func (s *fileStorage) Append(ctx context.Context, rows ...presence.JournalRow) error {
	if err := s.begin(ctx); err != nil {
		return err
	}
	defer s.end()
	type key struct {
		subject presence.Ref
		id      string
	}
	known := make(map[key]bool, len(s.now.Rows)+len(rows))
	for _, row := range s.now.Rows {
		known[key{row.Subject, row.ID}] = true
	}
	next := slices.Clone(s.now.Rows)
	for _, row := range rows {
		if k := (key{row.Subject, row.ID}); !known[k] {
			known[k] = true
			next = append(next, row)
		}
	}
	return s.put(contents{s.now.Records, next})
}

func (s *fileStorage) Delete(ctx context.Context, subjects ...presence.Ref) error {
	if err := s.begin(ctx); err != nil {
		return err
	}
	defer s.end()
	next := contents{slices.Clone(s.now.Records), slices.Clone(s.now.Rows)}
	next.Records = slices.DeleteFunc(next.Records, func(r presence.Record) bool { return slices.Contains(subjects, r.Subject) })
	next.Rows = slices.DeleteFunc(next.Rows, func(r presence.JournalRow) bool { return slices.Contains(subjects, r.Subject) })
	return s.put(next)
}

// Journal implements presence.JournalReader, so that journals and reports can
// be read.
func (s *fileStorage) Journal(ctx context.Context, q presence.JournalQuery) ([]presence.JournalRow, error) {
	if err := s.begin(ctx); err != nil {
		return nil, err
	}
	defer s.end()
	return q.Select(s.now.Rows), nil
}

// Reopen implements presencetest.Reopener, for the rules about what outlives a
// process.
func (s *fileStorage) Reopen(context.Context) (presence.Storage, error) { return openFile(s.path) }

// A command calls CheckStorage. A test calls RunStorage with the same function.
func ExampleCheckStorage() {
	dir, err := os.MkdirTemp("", "filestorage")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	n := 0
	err = presencetest.CheckStorage(context.Background(), func(context.Context) (presence.Storage, error) {
		n++ // every rule starts with an empty file
		return openFile(filepath.Join(dir, fmt.Sprintf("%d.json", n)))
	})
	fmt.Println(err)
	// Output: <nil>
}
