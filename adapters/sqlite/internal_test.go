package sqlite

import (
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/presence-go/presence"
)

func opened(t *testing.T, opts *Options) *Storage {
	t.Helper()
	s, err := Open(t.Context(), filepath.Join(t.TempDir(), "presence.db"), opts)
	require.NoError(t, err)
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func record(i int, data string) presence.Write {
	return presence.Write{Record: presence.Record{Subject: presence.ID(fmt.Sprintf("subject-%d", i)), Revision: 1, Data: []byte(data)}}
}

// commits counts the transactions in the log of a file. The last frame of a
// transaction has the size of the file.
func commits(t *testing.T, path string) (n int) {
	t.Helper()
	log, err := os.ReadFile(path + "-wal")
	require.NoError(t, err)
	if len(log) < 32 {
		return 0
	}
	page := int(binary.BigEndian.Uint32(log[8:]))
	salt := string(log[16:24])
	for at := 32; at+24+page <= len(log) && string(log[at+8:at+16]) == salt; at += 24 + page {
		if binary.BigEndian.Uint32(log[at+4:]) != 0 {
			n++
		}
	}
	return n
}

// Calls that wait together are carried out in one transaction, each with an
// answer of its own.
func TestCallsShareATransaction(t *testing.T) {
	t.Parallel()
	s := opened(t, nil)
	require.NoError(t, s.Save(t.Context(), record(0, "there")))
	require.NoError(t, s.emptyLog(t.Context(), s.file))
	const count = 200
	begun, goOn := make(chan struct{}), make(chan struct{})
	first := make(chan error, 1)
	go func() {
		first <- s.submit(t.Context(), &job{do: func(context.Context, *file) error {
			close(begun)
			<-goOn
			return nil
		}})
	}()
	<-begun
	done := make(chan error, count)
	for i := range count {
		go func() { done <- s.Save(t.Context(), record(i/2, fmt.Sprintf("of %d", i%2))) }() // two want each
	}
	require.Eventually(t, func() bool { return len(s.jobs) == count }, time.Minute, time.Millisecond, "all wait for what is under way")
	close(goOn)
	require.NoError(t, <-first)
	refusedOnes := 0
	for range count {
		if err := <-done; err != nil {
			require.ErrorIs(t, err, presence.ErrConflict)
			refusedOnes++
		}
	}
	require.Equal(t, count/2+1, refusedOnes, "the second of each, and both of the first")
	require.Equal(t, 1, commits(t, s.path))
}

// Storage whose size the engine limits reports that the disk is full. It
// continues once it has room.
func TestNoMorePages(t *testing.T) {
	t.Parallel()
	s := opened(t, nil)
	_, err := s.file.writer.ExecContext(t.Context(), `PRAGMA max_page_count = 40`)
	require.NoError(t, err)
	last := 0
	for ; last < 1000; last++ {
		if err = s.Save(t.Context(), record(last, strings.Repeat("x", 3000))); err != nil {
			break
		}
	}
	require.ErrorIs(t, err, presence.ErrUnavailable)
	require.ErrorContains(t, err, "the disk is full")
	require.Positive(t, last)

	// What still fits is stored, also beside what does not.
	var wg sync.WaitGroup
	errs := make([]error, 8)
	for i := range errs {
		wg.Go(func() {
			if i%2 == 0 {
				errs[i] = s.Save(t.Context(), record(2000+i, strings.Repeat("x", 30_000)))
			} else {
				errs[i] = s.Save(t.Context(), presence.Write{Expect: 1, Record: presence.Record{Subject: presence.ID(fmt.Sprintf("subject-%d", i/2)), Revision: 2, Data: []byte("short")}})
			}
		})
	}
	wg.Wait()
	for i, err := range errs {
		if i%2 == 0 {
			require.ErrorIs(t, err, presence.ErrUnavailable)
		} else {
			require.NoError(t, err)
		}
	}
	_, err = s.file.writer.ExecContext(t.Context(), `PRAGMA max_page_count = 4000`)
	require.NoError(t, err)
	require.NoError(t, s.Save(t.Context(), record(last, strings.Repeat("x", 3000))))
}

// A process killed between deleting a subject and removing its traces leaves
// the traces to the next process.
func TestTracesOfAKilledProcess(t *testing.T) {
	t.Parallel()
	s := opened(t, nil)
	require.NoError(t, s.Save(t.Context(), record(1, "secret")))
	ctx := t.Context()
	_, err := s.file.writer.ExecContext(ctx, `PRAGMA secure_delete = off; DELETE FROM records; INSERT INTO marks VALUES ('`+markTraces+`')`)
	require.NoError(t, err)
	require.NoError(t, s.Close())
	left, err := os.ReadFile(s.path)
	require.NoError(t, err)
	require.Contains(t, string(left), "secret")

	again, err := Open(ctx, s.path, nil)
	require.NoError(t, err)
	require.NoError(t, again.Save(ctx, record(2, "other"))) // after what is done first
	require.NoError(t, again.Close())
	left, err = os.ReadFile(s.path)
	require.NoError(t, err)
	require.NotContains(t, string(left), "secret")
	require.False(t, again.isMarked(t))
}

func (s *Storage) isMarked(t *testing.T) bool {
	t.Helper()
	again, err := Open(t.Context(), s.path, nil)
	require.NoError(t, err)
	defer again.Close()
	return again.file.marked
}

// A connection that cannot continue is opened again.
func TestConnectionIsOpenedAnew(t *testing.T) {
	t.Parallel()
	s := opened(t, nil)
	require.NoError(t, s.Save(t.Context(), record(1, "one")))
	require.NoError(t, s.file.writer.Close())
	require.ErrorIs(t, s.Save(t.Context(), record(2, "two")), presence.ErrUnavailable)
	require.NoError(t, s.Save(t.Context(), record(2, "two")))
	_, err := s.file.writer.ExecContext(t.Context(), `BEGIN`)
	require.NoError(t, err)
	require.ErrorIs(t, s.Save(t.Context(), record(3, "three")), presence.ErrUnavailable)
	require.NoError(t, s.Save(t.Context(), record(3, "three")))
}

func rowsAt(tenant string, first, n int) (rows []presence.JournalRow) {
	for i := range n {
		rows = append(rows, presence.JournalRow{ID: fmt.Sprint(first + i), Subject: presence.Ref{Tenant: tenant, ID: fmt.Sprint("s", i%3)}, At: presence.Instant(first + i)})
	}
	return rows
}

func (s *Storage) count(t *testing.T) (n int) {
	t.Helper()
	require.NoError(t, s.file.readers.QueryRow(`SELECT count(*) FROM journal`).Scan(&n))
	return n
}

func TestPrune(t *testing.T) {
	t.Parallel()
	s := opened(t, &Options{NoSync: true})
	for _, tenant := range []string{"", "acme", "zeta"} {
		require.NoError(t, s.Append(t.Context(), rowsAt(tenant, 1, 600)...))
	}
	require.NoError(t, s.Save(t.Context(), record(1, "stays")))
	n, err := s.Prune(t.Context(), 1)
	require.NoError(t, err)
	require.Zero(t, n, "before the first")
	n, err = s.Prune(t.Context(), 401)
	require.NoError(t, err)
	require.Equal(t, 1200, n)
	require.Equal(t, 600, s.count(t))
	rows, err := s.Journal(t.Context(), presence.JournalQuery{Subject: presence.Ref{Tenant: "acme"}, Limit: 1})
	require.NoError(t, err)
	require.EqualValues(t, 401, rows[0].At, "the instant itself is kept")
	n, err = s.Prune(t.Context(), 1<<60)
	require.NoError(t, err)
	require.Equal(t, 600, n)
	require.Zero(t, s.count(t))
	records, err := s.Load(t.Context(), presence.ID("subject-1"))
	require.NoError(t, err)
	require.Len(t, records, 1)
}

// A subject's last transition stays, whatever the chunks in which rows are pruned. The
// next pruning does not look at it.
func TestPruneKeepsWhatWasInForce(t *testing.T) {
	t.Parallel()
	s := opened(t, &Options{NoSync: true})
	for n := range 5 {
		rows := rowsAt("", 1+n*900, 900)
		for i := range rows {
			if i%2 == 0 {
				rows[i].Kind = presence.RowTransition
			}
		}
		require.NoError(t, s.Append(t.Context(), rows...))
	}
	left := func() (ids []string) {
		rows, err := s.Journal(t.Context(), presence.JournalQuery{To: 4001})
		require.NoError(t, err)
		for _, r := range rows {
			ids = append(ids, r.ID)
		}
		return ids
	}
	n, err := s.Prune(t.Context(), 4001)
	require.NoError(t, err)
	require.Equal(t, 3997, n)
	require.Equal(t, []string{"3995", "3997", "3999"}, left(), "odd instants are those of transitions")
	looked, deleted, err := s.file.prune(t.Context(), 4001)
	require.NoError(t, err)
	require.Zero(t, looked)
	require.Zero(t, deleted)

	n, err = s.Prune(t.Context(), 4004)
	require.NoError(t, err)
	require.Equal(t, 3, n, "the row of a claim, and those that 4001 and 4003 replace")
	require.Equal(t, []string{"3999"}, left())
	n, err = s.Prune(t.Context(), 1<<60)
	require.NoError(t, err)
	require.Equal(t, 497, n)
	require.Equal(t, 3, s.count(t))
}

// Rows older than the retention are pruned by themselves, some with each batch,
// then not before an hour has passed.
func TestRetention(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, err := Open(t.Context(), filepath.Join(t.TempDir(), "presence.db"), &Options{Retention: 24 * time.Hour, NoSync: true})
		require.NoError(t, err)
		defer s.Close()
		now := presence.At(time.Now())
		day := presence.Instant(24 * time.Hour)
		time.Sleep(pruneEvery) // it has looked when it was opened
		require.NoError(t, s.Append(t.Context(), rowsAt("acme", int(now-2*day), 1100)...))
		require.NoError(t, s.Append(t.Context(), rowsAt("", int(now-day/2), 10)...))
		require.NoError(t, s.Save(t.Context(), record(1, "a batch")))
		require.NoError(t, s.Save(t.Context(), record(2, "a batch")))
		require.NoError(t, s.Save(t.Context(), record(3, "a batch")))
		require.Equal(t, 10, s.count(t))

		require.NoError(t, s.Append(t.Context(), rowsAt("acme", int(now-2*day), 10)...))
		require.NoError(t, s.Save(t.Context(), record(4, "a batch")))
		require.Equal(t, 20, s.count(t))
		time.Sleep(pruneEvery)
		require.NoError(t, s.Save(t.Context(), record(5, "a batch")))
		require.NoError(t, s.Save(t.Context(), record(6, "a batch")))
		require.Equal(t, 10, s.count(t))
	})
}
