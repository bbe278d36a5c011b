package postgres_test

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/presence-go/presence"
	"github.com/presence-go/presence/adapters/postgres"
)

// BenchmarkClaims compares durable claims through a tracker, with their
// journal, with an UPDATE by hand of a row of the same size. They take turns on
// the same server.
func BenchmarkClaims(b *testing.B) {
	for name, workers := range map[string]int{"one-by-one": 1, "by-8-at-once": 8, "by-32-at-once": 32} {
		b.Run(name, func(b *testing.B) {
			const each = 100 // claims of a worker in a turn
			opts := postgres.Options{Schema: newSchema(), Conns: min(workers, 16)}
			storage := open(b, server, opts)
			tracker, err := presence.New(&presence.Options{Storage: storage})
			require.NoError(b, err)
			ctx, cancel := context.WithCancel(b.Context())
			running := make(chan error, 1)
			go func() { running <- flush(ctx, tracker) }()
			bare := bareEngine(b, workers, opts.Conns)

			took := func(do func(worker, n int) error) time.Duration {
				errs := make([]error, workers)
				var working sync.WaitGroup
				began := time.Now()
				for w := range workers {
					working.Go(func() {
						for n := range each {
							if errs[w] = do(w, n); errs[w] != nil {
								return
							}
						}
					})
				}
				working.Wait()
				for _, err := range errs {
					require.NoError(b, err)
				}
				return time.Since(began)
			}
			ours := func(w, n int) error {
				ref := presence.ID("subject-" + strconv.Itoa(w))
				_, err := tracker.SetClaim(ctx, presence.Agent(ref), ref, presence.Claim{Status: []string{"busy", "away"}[n%2], Reason: "lunch"})
				return err
			}
			for w := range workers {
				_, err := tracker.Connect(ctx, presence.ID("subject-"+strconv.Itoa(w)), presence.ConnectOptions{})
				require.NoError(b, err)
			}
			took(ours)
			took(bare)
			var trackerTook, bareTook time.Duration
			turns := 0
			for b.Loop() {
				bareTook += took(bare)
				trackerTook += took(ours)
				turns++
			}
			claims := float64(turns * workers * each)
			b.ReportMetric(claims/trackerTook.Seconds(), "claims/s")
			b.ReportMetric(claims/bareTook.Seconds(), "updates/s")
			b.ReportMetric(bareTook.Seconds()/trackerTook.Seconds(), "ratio")
			cancel()
			require.NoError(b, <-running)
			require.NoError(b, tracker.Close())
		})
	}
}

// flush has the tracker write its journal all the while.
func flush(ctx context.Context, tracker *presence.Tracker) error {
	ticker := time.NewTicker(200 * time.Millisecond)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			if _, err := tracker.Sweep(ctx); err != nil && ctx.Err() == nil {
				return err
			}
		case <-ctx.Done():
			return nil
		}
	}
}

// bareEngine returns a function that writes the row with code written by hand.
func bareEngine(b *testing.B, rows, conns int) func(worker, n int) error {
	config, err := pgxpool.ParseConfig(server.URL("postgres"))
	require.NoError(b, err)
	config.MaxConns = int32(conns)
	pool, err := pgxpool.NewWithConfig(b.Context(), config)
	require.NoError(b, err)
	b.Cleanup(pool.Close)
	table := fmt.Sprintf(`"bare %d"`, schemas.Add(1))
	_, err = pool.Exec(b.Context(), `CREATE TABLE `+table+` (id text PRIMARY KEY, revision bigint NOT NULL, data bytea NOT NULL)`)
	require.NoError(b, err)
	data := make([]byte, 400) // as long as the record of such a claim
	revisions := make([]int, rows)
	for w := range rows {
		_, err = pool.Exec(b.Context(), `INSERT INTO `+table+` VALUES ($1, 0, $2)`, "subject-"+strconv.Itoa(w), data)
		require.NoError(b, err)
	}
	return func(w, _ int) error {
		revisions[w]++
		done, err := pool.Exec(b.Context(), `UPDATE `+table+` SET revision = $2, data = $3 WHERE id = $1 AND revision = $2 - 1`, "subject-"+strconv.Itoa(w), revisions[w], data)
		if err == nil && done.RowsAffected() != 1 {
			err = fmt.Errorf("%d rows", done.RowsAffected())
		}
		return err
	}
}

// fill stores a record and a row of each of count subjects in a new schema "million".
func fill(b *testing.B, opts postgres.Options, count int) {
	b.Helper()
	storage := open(b, server, opts)
	tracker, err := presence.New(&presence.Options{Storage: storage})
	require.NoError(b, err)
	template := presence.ID("subject-0")
	_, err = tracker.Connect(b.Context(), template, presence.ConnectOptions{})
	require.NoError(b, err)
	_, err = tracker.SetClaim(b.Context(), presence.Agent(template), template, presence.Claim{Status: "busy", Reason: "lunch"})
	require.NoError(b, err)
	require.NoError(b, tracker.Close())
	sql(b, server, "postgres", fmt.Sprintf(`
		INSERT INTO million.records SELECT tenant, 'subject-' || n, revision, data FROM million.records, generate_series(1, %[1]d) n;
		INSERT INTO million.journal (tenant, subject, id, at, entry) SELECT tenant, 'subject-' || n, id, at, entry FROM million.journal, generate_series(1, %[1]d) n`, count-1))
}

// BenchmarkReopen reports what opening and reading costs where a million subjects
// are stored.
func BenchmarkReopen(b *testing.B) {
	const subjects = 1_000_000
	opts := postgres.Options{Schema: "million"}
	fill(b, opts, subjects)
	name := func(i int) presence.Ref { return presence.ID("subject-" + strconv.Itoa(i)) }
	var opening, batches, single, connecting, journal time.Duration
	turns := 0
	for b.Loop() {
		turns++
		began := time.Now()
		storage := open(b, server, opts)
		opening += time.Since(began)

		began = time.Now()
		loaded := 0
		refs := make([]presence.Ref, 0, 500)
		for i := range subjects {
			if refs = append(refs, name(i)); len(refs) == cap(refs) {
				records, err := storage.Load(b.Context(), refs...)
				require.NoError(b, err)
				loaded += len(records)
				refs = refs[:0]
			}
		}
		require.Equal(b, subjects, loaded)
		batches += time.Since(began)

		const some = 2000
		began = time.Now()
		for i := range some {
			_, err := storage.Load(b.Context(), name(i*499))
			require.NoError(b, err)
		}
		single += time.Since(began) / some

		began = time.Now()
		for i := range some {
			rows, err := storage.Journal(b.Context(), presence.JournalQuery{Subject: name(i * 499)})
			require.NoError(b, err)
			require.NotEmpty(b, rows)
		}
		journal += time.Since(began) / some

		tracker, err := presence.New(&presence.Options{Storage: storage})
		require.NoError(b, err)
		began = time.Now()
		for i := range some {
			_, err := tracker.Connect(b.Context(), name(i*499), presence.ConnectOptions{})
			require.NoError(b, err)
		}
		connecting += time.Since(began) / some
		require.NoError(b, storage.Close())
	}
	n := float64(turns)
	b.ReportMetric(opening.Seconds()*1e3/n, "open-ms")
	b.ReportMetric(batches.Seconds()/n, "load-million-s")
	b.ReportMetric(float64(single.Microseconds())/n, "load-one-µs")
	b.ReportMetric(float64(journal.Microseconds())/n, "journal-µs")
	b.ReportMetric(float64(connecting.Microseconds())/n, "connect-µs")
}
