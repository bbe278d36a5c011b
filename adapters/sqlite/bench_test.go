package sqlite_test

import (
	"context"
	"database/sql"
	"fmt"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/presence-go/presence"
	"github.com/presence-go/presence/adapters/sqlite"
)

// BenchmarkClaims compares durable claims made through a tracker with the same
// statements made by hand, in turns on the same disk: one sync for each claim,
// and one for as many claims as are made at once. The ratio is that of the
// rates; 1 means that the tracker and the adapter cost nothing.
func BenchmarkClaims(b *testing.B) {
	for _, atOnce := range []int{1, 16, 128} {
		b.Run(fmt.Sprintf("at-once=%d", atOnce), func(b *testing.B) {
			ours, bare := newOurs(b, atOnce), newBare(b, atOnce)
			var durations [2]time.Duration
			rounds := 0
			for b.Loop() {
				for i, round := range []func(int){ours.round, bare.round} {
					began := time.Now()
					round(rounds)
					durations[i] += time.Since(began)
				}
				rounds++
			}
			rate := func(d time.Duration) float64 { return float64(rounds*perRound*atOnce) / d.Seconds() }
			b.ReportMetric(rate(durations[0]), "claims/s")
			b.ReportMetric(rate(durations[1]), "engine/s")
			b.ReportMetric(rate(durations[0])/rate(durations[1]), "ratio")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// perRound is how many claims one after the other are followed by the journal.
const perRound = 50

var statuses = []string{"busy", "away"}

type ours struct {
	b       *testing.B
	tracker *presence.Tracker
	refs    []presence.Ref
}

func newOurs(b *testing.B, atOnce int) *ours {
	s, err := sqlite.Open(b.Context(), filepath.Join(b.TempDir(), "ours.db"), nil)
	require.NoError(b, err)
	o := &ours{b: b}
	o.tracker, err = presence.New(&presence.Options{Storage: s, StorageTimeout: time.Minute})
	require.NoError(b, err)
	b.Cleanup(func() {
		_ = o.tracker.Close()
		_ = s.Close()
	})
	for i := range atOnce {
		o.refs = append(o.refs, presence.ID(fmt.Sprintf("subject-%d", i)))
		_, err := o.tracker.Connect(b.Context(), o.refs[i], presence.ConnectOptions{})
		require.NoError(b, err)
	}
	_, err = o.tracker.Sweep(b.Context())
	require.NoError(b, err)
	return o
}

func (o *ours) round(n int) {
	var wg sync.WaitGroup
	for _, ref := range o.refs {
		wg.Go(func() {
			for i := range perRound {
				if _, err := o.tracker.SetClaim(o.b.Context(), presence.Agent(ref), ref, presence.Claim{Status: statuses[(n*perRound+i)%2]}); err != nil {
					o.b.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if _, err := o.tracker.Sweep(o.b.Context()); err != nil {
		o.b.Error(err)
	}
}

// bare writes the same rows with code written by hand.
type bare struct {
	b           *testing.B
	c           *sql.Conn
	update, row *sql.Stmt
	ids         []string
	data        []byte
	seq         int
}

func newBare(b *testing.B, atOnce int) *bare {
	path := filepath.Join(b.TempDir(), "bare.db")
	s, err := sqlite.Open(b.Context(), path, nil) // for the same tables
	require.NoError(b, err)
	e := &bare{b: b}
	tracker, err := presence.New(&presence.Options{Storage: s})
	require.NoError(b, err)
	_, err = tracker.Connect(b.Context(), ann, presence.ConnectOptions{})
	require.NoError(b, err)
	_, err = tracker.SetClaim(b.Context(), presence.Agent(ann), ann, presence.Claim{Status: "busy"})
	require.NoError(b, err)
	records, err := s.Load(b.Context(), ann)
	require.NoError(b, err)
	e.data = records[0].Data
	var writes []presence.Write
	for i := range atOnce {
		e.ids = append(e.ids, fmt.Sprintf("subject-%d", i))
		writes = append(writes, write(presence.ID(e.ids[i]), 0, 1, string(e.data)))
	}
	require.NoError(b, s.Save(b.Context(), writes...))
	require.NoError(b, s.Close())

	db, err := sql.Open("sqlite", "file:"+path+"?_pragma=synchronous(full)&_pragma=secure_delete(on)")
	require.NoError(b, err)
	e.c, err = db.Conn(b.Context())
	require.NoError(b, err)
	e.update, err = e.c.PrepareContext(context.Background(), `UPDATE records SET revision = revision + 1, data = ? WHERE tenant = '' AND id = ?`)
	require.NoError(b, err)
	e.row, err = e.c.PrepareContext(context.Background(), `INSERT INTO journal VALUES (NULL, '', ?, ?, 'transition', 'available', 'busy', 'busy', 'manual', 'manual', 'live', '', '', '', '', ?, ?)`)
	require.NoError(b, err)
	b.Cleanup(func() {
		_ = e.update.Close()
		_ = e.row.Close()
		_ = db.Close()
	})
	return e
}

func (e *bare) transaction(statements int, do func(n int) error) {
	ctx := context.Background()
	_, err := e.c.ExecContext(ctx, `BEGIN IMMEDIATE`)
	require.NoError(e.b, err)
	for n := range statements {
		if err := do(n); err != nil {
			e.b.Error(err)
		}
	}
	_, err = e.c.ExecContext(ctx, `COMMIT`)
	require.NoError(e.b, err)
}

func (e *bare) round(int) {
	for range perRound {
		e.transaction(len(e.ids), func(n int) error {
			_, err := e.update.Exec(e.data, e.ids[n])
			return err
		})
	}
	// A claim that ends, one that begins, a transition; as many at once as the
	// tracker stores.
	for rows := 3 * perRound * len(e.ids); rows > 0; rows -= 512 {
		e.transaction(min(rows, 512), func(n int) error {
			e.seq++
			_, err := e.row.Exec(e.ids[n%len(e.ids)], fmt.Sprintf("claim-ended/%d@2026", e.seq), e.seq, e.seq)
			return err
		})
	}
}

// fill stores a record and a row of each of count subjects.
func fill(b *testing.B, s *sqlite.Storage, count int, ref func(int) presence.Ref) {
	b.Helper()
	data := `{"version":1,"claims":[{"id":"0123456789abcdef","serial":2,"status":"busy","class":"busy","source":"manual","key":"base","setAt":"2026-01-05T09:00:00Z","by":"ann"}],"input":"2026-01-05T09:00:00Z","epoch":1,"serial":3,"status":"busy","class":"busy","cause":"manual","since":"2026-01-05T09:00:00Z","reach":3}`
	for i := 0; i < count; {
		var writes []presence.Write
		var rows []presence.JournalRow
		for ; i < count && len(writes) < 10_000; i++ {
			writes = append(writes, write(ref(i), 0, 1, data))
			rows = append(rows, presence.JournalRow{ID: "e1@123456789", Subject: ref(i), Kind: presence.RowTransition, To: "busy", At: presence.Instant(i + 1)})
		}
		require.NoError(b, s.Save(b.Context(), writes...))
		require.NoError(b, s.Append(b.Context(), rows...))
	}
}

// BenchmarkReopen opens a file with a million subjects, and lets those connect
// whose number it is run with.
func BenchmarkReopen(b *testing.B) {
	const count = 1_000_000
	path := filepath.Join(b.TempDir(), "presence.db")
	s, err := sqlite.Open(b.Context(), path, &sqlite.Options{NoSync: true})
	require.NoError(b, err)
	ref := func(i int) presence.Ref { return presence.ID(fmt.Sprintf("subject-%07d", i*7919%count)) }
	fill(b, s, count, ref)
	require.NoError(b, s.Close())

	var opened, connected, erased time.Duration
	var memory uint64
	const connects = 100_000
	rounds := 0
	for b.Loop() {
		before := heap()
		began := time.Now()
		s, err := sqlite.Open(b.Context(), path, nil)
		require.NoError(b, err)
		tracker, err := presence.New(&presence.Options{Storage: s, StorageTimeout: time.Minute})
		require.NoError(b, err)
		_, err = tracker.GetAs(b.Context(), presence.AudienceTeam, ref(1))
		require.NoError(b, err)
		opened += time.Since(began)
		began = time.Now()
		var wg sync.WaitGroup
		for w := range 8 {
			wg.Go(func() {
				for i := w; i < connects; i += 8 {
					if _, err := tracker.Connect(b.Context(), ref(i), presence.ConnectOptions{ID: "tab"}); err != nil {
						b.Error(err)
					}
				}
			})
		}
		wg.Wait()
		connected += time.Since(began)
		memory = heap() - before
		began = time.Now()
		require.NoError(b, s.Delete(b.Context(), ref(count-1-rounds)))
		erased += time.Since(began)
		require.NoError(b, tracker.Close())
		require.NoError(b, s.Close())
		rounds++
	}
	per := func(d time.Duration) float64 { return d.Seconds() / float64(rounds) }
	b.ReportMetric(1000*per(opened), "ms/open")
	b.ReportMetric(connects/per(connected), "connects/s")
	b.ReportMetric(float64(memory)/connects, "B/connected")
	b.ReportMetric(per(erased), "s/erase")
	b.ReportMetric(0, "ns/op")
}

// heap is what is allocated and still used.
func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
