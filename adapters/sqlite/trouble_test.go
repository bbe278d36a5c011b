package sqlite_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/presence-go/presence"
	"github.com/presence-go/presence/adapters/sqlite"
)

var ann, bob = presence.ID("ann"), presence.ID("bob")

func TestOptionsAreChecked(t *testing.T) {
	t.Parallel()
	_, err := sqlite.Open(t.Context(), ":memory:", &sqlite.Options{BusyTimeout: -1, Retention: -1, Readers: -1})
	require.ErrorIs(t, err, presence.ErrInvalid)
	for _, says := range []string{":memory:", "BusyTimeout", "Retention", "Readers"} {
		require.ErrorContains(t, err, says)
	}
}

// Any name that a file may have will do.
func TestOddPaths(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"a b.db", "a?b.db", "a#b%20.db", "é☎️.db", "'\".db", "file:x.db"} {
		path := filepath.Join(t.TempDir(), name)
		s := open(t, path, nil)
		require.NoError(t, s.Save(t.Context(), write(ann, 0, 1, name)))
		require.FileExists(t, path)
		require.NoError(t, s.Close())
		require.ErrorIs(t, s.Close(), presence.ErrClosed)
		entries, err := os.ReadDir(filepath.Dir(path))
		require.NoError(t, err)
		require.Len(t, entries, 1, "nothing else is left behind")
	}
}

// A file locked by another process makes calls wait, within their context and
// the timeout; reads go on.
func TestLockedFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "presence.db")
	s := open(t, path, &sqlite.Options{BusyTimeout: 300 * time.Millisecond})
	require.NoError(t, s.Save(t.Context(), write(ann, 0, 1, "one")))
	release := hold(t, asLocker, path)

	err := s.Save(t.Context(), write(ann, 1, 2, "two"))
	require.ErrorIs(t, err, presence.ErrUnavailable)
	require.ErrorContains(t, err, "another process has locked the file for more than 300ms")
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, s.Save(ctx, write(ann, 1, 2, "given up")), context.DeadlineExceeded)
	records, err := s.Load(t.Context(), ann)
	require.NoError(t, err)
	require.Equal(t, "one", string(records[0].Data))

	release()
	require.NoError(t, s.Save(t.Context(), write(ann, 1, 2, "two")))
	records, err = s.Load(t.Context(), ann)
	require.NoError(t, err)
	require.Equal(t, "two", string(records[0].Data), "what was given up was not stored")
}

// A slow database is waited for.
func TestSlowFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "presence.db")
	s := open(t, path, &sqlite.Options{BusyTimeout: time.Minute})
	release := hold(t, asLocker, path)
	saved := make(chan error, 2)
	go func() { saved <- s.Save(t.Context(), write(ann, 0, 1, "one")) }()
	go func() { saved <- s.Append(t.Context(), presence.JournalRow{ID: "r1", Subject: ann, At: 1}) }()
	second := make(chan *sqlite.Storage)
	go func() {
		s, err := sqlite.Open(context.Background(), path, &sqlite.Options{BusyTimeout: time.Minute})
		saved <- err
		second <- s
	}()
	release()
	for range 3 {
		require.NoError(t, <-saved)
	}
	other := <-second
	defer other.Close()
	records, err := other.Load(t.Context(), ann)
	require.NoError(t, err)
	require.Len(t, records, 1)
}

// Several processes, or several trackers in one, share a file.
func TestSeveralOnOneFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "presence.db")
	stores := []*sqlite.Storage{open(t, path, nil), open(t, path, nil), open(t, path, nil)}
	const rounds = 40
	done := make(chan int)
	for _, s := range stores {
		go func() {
			won := 0
			for n := range uint64(rounds) {
				err := s.Save(t.Context(), write(ann, n, n+1, fmt.Sprintf("%p", s)))
				if err == nil {
					won++
				} else if !errors.Is(err, presence.ErrConflict) {
					t.Error(err)
				}
			}
			done <- won
		}()
	}
	won := 0
	for range stores {
		won += <-done
	}
	require.LessOrEqual(t, won, rounds)
	for _, s := range stores {
		records, err := s.Load(t.Context(), ann)
		require.NoError(t, err)
		require.EqualValues(t, won, records[0].Revision, "each revision was saved by one")
	}
}

func TestNoSuchDirectory(t *testing.T) {
	t.Parallel()
	_, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "no", "presence.db"), nil)
	require.ErrorIs(t, err, presence.ErrUnavailable)
	require.ErrorContains(t, err, "its directory must be there")
}

// What is written to a file without a name is lost: it is refused, until there
// is a file again.
func TestLostFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "presence.db")
	s := open(t, path, nil)
	require.NoError(t, s.Save(t.Context(), write(ann, 0, 1, "one")))
	require.NoError(t, os.Rename(path, path+".away"))
	gone := func(err error) {
		require.ErrorIs(t, err, presence.ErrUnavailable)
		require.ErrorContains(t, err, "the file has been removed")
	}
	gone(s.Save(t.Context(), write(ann, 1, 2, "lost")))
	_, err := s.Load(t.Context(), ann)
	gone(err)
	require.NoError(t, os.Rename(path+".away", path))
	require.NoError(t, s.Save(t.Context(), write(ann, 1, 2, "two")))

	// Another file in its place is opened: a backup that was put back.
	require.NoError(t, s.Close())
	backup, err := os.ReadFile(path)
	require.NoError(t, err)
	s = open(t, path, nil)
	require.NoError(t, s.Save(t.Context(), write(ann, 2, 3, "three")))
	require.NoError(t, os.Remove(path))
	gone(s.Append(t.Context(), presence.JournalRow{ID: "r1", Subject: ann, At: 1}))
	require.NoError(t, os.WriteFile(path, backup, 0o644))
	records, err := s.Load(t.Context(), ann)
	require.NoError(t, err)
	require.Equal(t, "two", string(records[0].Data))
	require.NoError(t, s.Save(t.Context(), write(ann, 2, 3, "three again")))

	// Another file in its place is reported to be no database.
	require.NoError(t, os.WriteFile(path+".new", bytes.Repeat([]byte("no database "), 1000), 0o644))
	require.NoError(t, os.Rename(path+".new", path))
	_, err = s.Load(t.Context(), ann)
	require.ErrorIs(t, err, presence.ErrUnavailable)
	require.ErrorContains(t, err, "is not a database")
	require.NoError(t, os.WriteFile(path+".new", backup, 0o644))
	require.NoError(t, os.Rename(path+".new", path))
	require.NoError(t, s.Save(t.Context(), write(ann, 2, 3, "three once more")))
}

// pageSize is the size of the engine's pages, in bytes.
const pageSize = 4096

// corrupted returns a copy of a file with a damaged leaf of the table, that of a
// subject.
func corrupted(good []byte, id string) []byte {
	bad := bytes.Clone(good)
	leaf := bytes.Index(bad, []byte(id+strings.Repeat("x", 30))) / pageSize * pageSize
	if leaf < 0 {
		leaf = bytes.LastIndex(bad, bytes.Repeat([]byte("x"), 300)) / pageSize * pageSize
	}
	for i := range pageSize {
		bad[leaf+i] ^= 0xa5
	}
	return bad
}

// A damaged page fails the records on it and no others, and is never taken for
// an empty one. A backup ends the fault.
func TestCorruptedFile(t *testing.T) {
	t.Parallel()
	const count = 400
	path := filepath.Join(t.TempDir(), "presence.db")
	s := open(t, path, nil)
	var refs []presence.Ref
	for i := range count {
		refs = append(refs, presence.ID(fmt.Sprintf("subject-%03d", i)))
		require.NoError(t, s.Save(t.Context(), write(refs[i], 0, 1, strings.Repeat("x", 400))))
	}
	require.NoError(t, s.Close())
	good, err := os.ReadFile(path)
	require.NoError(t, err)
	bad := corrupted(good, refs[count/2].ID)
	require.NoError(t, os.WriteFile(path, bad, 0o644))

	s = open(t, path, nil)
	var fine, damaged []presence.Ref
	for _, ref := range refs {
		records, err := s.Load(t.Context(), ref)
		if err == nil {
			require.Len(t, records, 1, ref)
			fine = append(fine, ref)
			continue
		}
		require.ErrorIs(t, err, presence.ErrUnavailable)
		require.ErrorContains(t, err, "the file is corrupted; restore it from a backup")
		damaged = append(damaged, ref)
	}
	require.NotEmpty(t, damaged)
	require.Greater(t, len(fine), count*3/4)
	err = s.Save(t.Context(), write(damaged[0], 1, 2, "over it"))
	require.ErrorIs(t, err, presence.ErrUnavailable)
	require.NoError(t, s.Save(t.Context(), write(fine[0], 1, 2, "beside it")))

	require.NoError(t, os.WriteFile(path+".new", good, 0o644))
	require.NoError(t, os.Rename(path+".new", path))
	records, err := s.Load(t.Context(), refs...)
	require.NoError(t, err)
	require.Equal(t, count, len(records))
	require.NoError(t, s.Save(t.Context(), write(damaged[0], 1, 2, "over it")))
	require.NoError(t, s.Close())

	// The beginning, and a file that was cut off.
	for _, broken := range [][]byte{append([]byte("no database"), good[11:]...), good[:len(good)/2/pageSize*pageSize]} {
		require.NoError(t, os.WriteFile(path, broken, 0o644))
		s, err := sqlite.Open(t.Context(), path, nil)
		if err == nil {
			_, err = s.Load(t.Context(), refs...)
			require.NoError(t, s.Close())
		}
		require.ErrorIs(t, err, presence.ErrUnavailable)
	}
}

// Open does not change the file of another application, or of a later version.
func TestOthersFiles(t *testing.T) {
	t.Parallel()
	for name, statement := range map[string]string{
		"belongs to another application":  `CREATE TABLE records (theirs)`,
		"belongs to another application ": `PRAGMA application_id = 7`,
		"schema is newer":                 `PRAGMA application_id = 1886545267; PRAGMA user_version = 99`,
		"this package reads up to 3":      `PRAGMA application_id = 1886545267; PRAGMA user_version = 4`,
	} {
		path := filepath.Join(t.TempDir(), "theirs.db")
		db := raw(t, path)
		_, err := db.Exec(statement + `; CREATE TABLE more (x)`)
		require.NoError(t, err)
		require.NoError(t, db.Close())
		before, err := os.ReadFile(path)
		require.NoError(t, err)
		_, err = sqlite.Open(t.Context(), path, nil)
		require.ErrorIs(t, err, presence.ErrInvalid)
		require.ErrorContains(t, err, strings.TrimSpace(name))
		after, err := os.ReadFile(path)
		require.NoError(t, err)
		require.Equal(t, before[100:], after[100:], "nothing but the header may have changed")
	}
}

// filesWith returns the files beside path that contain a forbidden text.
// Another program reads them: closing a file drops the locks that this process
// has on it.
func filesWith(t *testing.T, path string, traces ...string) (names []string) {
	t.Helper()
	files, err := filepath.Glob(path + "*")
	require.NoError(t, err)
	for _, file := range files {
		content, err := exec.Command("cat", file).Output()
		require.NoError(t, err)
		for _, trace := range traces {
			if bytes.Contains(content, []byte(trace)) {
				names = append(names, filepath.Base(file)+" has "+trace)
			}
		}
	}
	return names
}
