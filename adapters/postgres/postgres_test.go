package postgres_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/presence-go/presence"
	"github.com/presence-go/presence/adapters/postgres"
	"github.com/presence-go/presence/internal/livestest"
	"github.com/presence-go/presence/internal/pgtest"
	"github.com/presence-go/presence/internal/seeds"
)

var ann, bob = presence.ID("ann"), presence.ID("bob")

func record(subject presence.Ref, revision uint64) presence.Record {
	return presence.Record{Subject: subject, Revision: revision, Data: fmt.Appendf(nil, `{"version":1,"serial":%d}`, revision)}
}

func row(subject presence.Ref, id string, at presence.Instant) presence.JournalRow {
	return presence.JournalRow{ID: id, Subject: subject, Kind: presence.RowTransition, To: "busy", At: at, Recorded: at}
}

func ids(rows []presence.JournalRow) (list []string) {
	for _, r := range rows {
		list = append(list, r.ID)
	}
	return list
}

// sql runs statements as the superuser and returns what they print.
func sql(t testing.TB, s *pgtest.Server, database, statements string) string {
	t.Helper()
	out, err := s.Exec(t.Context(), database, statements)
	require.NoError(t, err)
	return out
}

func newServer(t testing.TB) *pgtest.Server {
	t.Helper()
	s, err := pgtest.Start(t.Context())
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s
}

func TestOpenSaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	url := server.URL("postgres")
	sql(t, server, "postgres", `CREATE ROLE guest LOGIN PASSWORD 'guest'`)
	sql(t, server, "postgres", `CREATE DATABASE latin ENCODING 'LATIN1' TEMPLATE template0`)
	sql(t, server, "postgres", `CREATE DATABASE readonly`)
	sql(t, server, "postgres", `ALTER DATABASE readonly SET default_transaction_read_only = on`)
	for name, tt := range map[string]struct {
		url  string
		opts postgres.Options
		kind error
		says string
	}{
		"no address":         {url: "postgres://%zz", kind: presence.ErrInvalid, says: "connection string"},
		"a word not known":   {url: url + "&pool_max_conns=many", kind: presence.ErrInvalid, says: "pool_max_conns"},
		"wrong password":     {url: strings.Replace(url, "not%20a%20secret", "hunter2", 1), kind: presence.ErrUnavailable, says: "password authentication failed"},
		"no such role":       {url: strings.Replace(url, pgtest.User+":", "stranger:", 1), kind: presence.ErrUnavailable, says: `"stranger"`},
		"no such database":   {url: server.URL("nowhere"), kind: presence.ErrUnavailable, says: `database "nowhere" does not exist`},
		"nobody there":       {url: "postgres://127.0.0.1:1/postgres", kind: presence.ErrUnavailable, says: "refused"},
		"another encoding":   {url: server.URL("latin"), kind: presence.ErrInvalid, says: "LATIN1"},
		"read only":          {url: server.URL("readonly"), kind: presence.ErrUnavailable, says: "read-only"},
		"no right to create": {url: strings.Replace(url, pgtest.User+":not%20a%20secret", "guest:guest", 1), kind: presence.ErrUnavailable, says: "permission denied"},
		"long schema":        {url: url, opts: postgres.Options{Schema: strings.Repeat("s", 64)}, kind: presence.ErrInvalid, says: "Schema"},
		"reserved schema":    {url: url, opts: postgres.Options{Schema: "pg_mine"}, kind: presence.ErrInvalid, says: "Schema"},
		"negative options":   {url: url, opts: postgres.Options{Conns: -1, Retention: -1}, kind: presence.ErrInvalid, says: "Retention"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := postgres.Open(t.Context(), tt.url, &tt.opts)
			require.ErrorIs(t, err, tt.kind)
			require.ErrorAs(t, err, new(*presence.Error))
			require.ErrorContains(t, err, tt.says)
			require.NotContains(t, err.Error(), "hunter2")
			require.NotContains(t, err.Error(), pgtest.Password)
		})
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := postgres.Open(ctx, url, nil)
	require.ErrorIs(t, err, context.Canceled)
}

// A privileged role may create a schema for a role that may not.
func TestOpenWithoutTheRightToCreate(t *testing.T) {
	t.Parallel()
	db := newDatabase(t)
	openIn(t, server, db, postgres.Options{Schema: "presence"})
	sql(t, server, db, `CREATE ROLE app LOGIN PASSWORD 'app'; GRANT USAGE ON SCHEMA presence TO app;
		GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA presence TO app`)
	storage, err := postgres.Open(t.Context(), strings.Replace(server.URL(db), pgtest.User+":not%20a%20secret", "app:app", 1), nil)
	require.NoError(t, err)
	defer storage.Close()
	require.NoError(t, storage.Save(t.Context(), presence.Write{Record: record(ann, 1)}))
	require.NoError(t, storage.Append(t.Context(), row(ann, "r1", 1)))
	require.NoError(t, storage.Delete(t.Context(), ann))
}

func TestOpenInsistsOnDurability(t *testing.T) {
	t.Parallel()
	s, err := pgtest.New(t.Context())
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	s.Settings = map[string]string{"synchronous_commit": "off"}
	require.NoError(t, s.Start(t.Context()))
	setting := func(opts postgres.Options) string {
		opts.Schema = "presence"
		storage := open(t, s, opts)
		// The settings of a session can only be read from within it. Here a
		// rule reports them with each written record.
		sql(t, s, "postgres", `CREATE TABLE IF NOT EXISTS seen (setting text);
			CREATE OR REPLACE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN INSERT INTO public.seen VALUES (current_setting(''synchronous_commit'')); RETURN NEW; END';
			CREATE OR REPLACE TRIGGER note AFTER INSERT ON presence.records FOR EACH ROW EXECUTE FUNCTION note(); TRUNCATE seen`)
		require.NoError(t, storage.Delete(t.Context(), ann))
		require.NoError(t, storage.Save(t.Context(), presence.Write{Record: record(ann, 1)}))
		return sql(t, s, "postgres", `SELECT setting FROM seen`)
	}
	require.Equal(t, "on", setting(postgres.Options{}))
	require.Equal(t, "off", setting(postgres.Options{Relaxed: true}))
	sql(t, s, "postgres", `ALTER SYSTEM SET synchronous_commit = 'remote_apply'`)

	require.NoError(t, s.Stop())
	s.Settings = map[string]string{"fsync": "off"}
	require.NoError(t, s.Start(t.Context()))
	_, err = postgres.Open(t.Context(), s.URL("postgres"), nil)
	require.ErrorIs(t, err, presence.ErrInvalid)
	require.ErrorContains(t, err, "fsync=off")
	require.Equal(t, "remote_apply", setting(postgres.Options{Relaxed: true}))
}

// Everything that a database of an older version holds is there after the upgrade, and
// everything works on it.
func TestUpgrade(t *testing.T) {
	t.Parallel()
	for _, from := range []string{"1", "2"} {
		t.Run("from version "+from, func(t *testing.T) {
			t.Parallel()
			testUpgrade(t, from)
		})
	}
}

func testUpgrade(t *testing.T, from string) {
	db := newDatabase(t)
	dump, err := os.ReadFile("testdata/version" + from + ".sql")
	require.NoError(t, err)
	sql(t, server, db, string(dump))
	require.Equal(t, from, sql(t, server, db, `SELECT version FROM presence.version`))

	var opening sync.WaitGroup // by several processes that start together
	errs := make([]error, 8)
	for i := range errs {
		opening.Go(func() {
			storage, err := postgres.Open(t.Context(), server.URL(db), &postgres.Options{Conns: 1})
			if errs[i] = err; err == nil {
				errs[i] = storage.Close()
			}
		})
	}
	opening.Wait()
	require.NoError(t, errors.Join(errs...))
	require.Equal(t, "3", sql(t, server, db, `SELECT version FROM presence.version`))

	storage := openIn(t, server, db, postgres.Options{Schema: "presence"})
	refs := []presence.Ref{ann, {Tenant: "acme", ID: "René ☎"}}
	records, err := storage.Load(t.Context(), refs...)
	require.NoError(t, err)
	require.Len(t, records, 2)
	for _, r := range records {
		require.Equal(t, uint64(2), r.Revision)
		state, err := r.State(0, 0)
		require.NoError(t, err)
		require.Len(t, state.Claims, 1)
		require.Equal(t, "choice-1", state.Claims[0].ID)
		require.Equal(t, "back at 2\nor 3", state.Claims[0].Text)
	}
	for _, ref := range refs {
		rows, err := storage.Journal(t.Context(), presence.JournalQuery{Subject: ref})
		require.NoError(t, err)
		require.Len(t, rows, 6)
		require.Equal(t, "claim-set/choice-0", rows[1].ID)
		require.Equal(t, "it's lunch", rows[1].Reason)
		require.Equal(t, "claim-ended/choice-0", rows[3].ID)

		require.NoError(t, storage.Append(t.Context(), rows[5], row(ref, "next", rows[5].At+1)))
		after, err := storage.Journal(t.Context(), presence.JournalQuery{Subject: ref, After: rows[5]})
		require.NoError(t, err)
		require.Equal(t, []string{"next"}, ids(after))
		_, err = storage.Prune(t.Context(), rows[5].At+1)
		require.NoError(t, err)
		after, err = storage.Journal(t.Context(), presence.JournalQuery{Subject: ref, From: rows[5].At + 1, Base: true})
		require.NoError(t, err)
		require.Equal(t, []string{rows[5].ID, "next"}, ids(after))
	}
	// The schema is what a new one is.
	openIn(t, server, db, postgres.Options{Schema: "fresh"})
	const shape = `SELECT string_agg(replace(indexdef, '%[1]s', '') || '', E'\n' ORDER BY indexname) FROM pg_indexes WHERE schemaname = '%[1]s'`
	require.Equal(t, sql(t, server, db, fmt.Sprintf(shape, "fresh")), sql(t, server, db, fmt.Sprintf(shape, "presence")))
}

func TestSchemaOfALaterVersion(t *testing.T) {
	t.Parallel()
	db := newDatabase(t)
	require.NoError(t, openIn(t, server, db, postgres.Options{Schema: "presence"}).Close())
	sql(t, server, db, `UPDATE presence.version SET version = 99`)
	_, err := postgres.Open(t.Context(), server.URL(db), nil)
	require.ErrorIs(t, err, presence.ErrInvalid)
	require.ErrorContains(t, err, "version 99, this package knows 3")
}

// A migration that fails half way leaves nothing behind.
func TestMigrationIsAllOrNothing(t *testing.T) {
	t.Parallel()
	db := newDatabase(t)
	sql(t, server, db, `CREATE SCHEMA presence; CREATE TABLE presence.journal (mine text)`)
	_, err := postgres.Open(t.Context(), server.URL(db), nil)
	require.ErrorContains(t, err, "already exists")
	require.Equal(t, "journal", sql(t, server, db, `SELECT tablename FROM pg_tables WHERE schemaname = 'presence'`))
	sql(t, server, db, `DROP TABLE presence.journal`)
	openIn(t, server, db, postgres.Options{Schema: "presence"})
}

func TestRevisionOutOfRange(t *testing.T) {
	t.Parallel()
	storage := open(t, server, postgres.Options{})
	require.ErrorIs(t, storage.Save(t.Context(), presence.Write{Record: record(ann, 1<<63)}), presence.ErrInvalid)
	require.ErrorIs(t, storage.Save(t.Context(), presence.Write{Record: record(ann, 1), Expect: 1 << 63}), presence.ErrInvalid)
	require.ErrorIs(t, storage.Save(t.Context(), presence.Write{Record: record(ann, 1)}, presence.Write{Record: record(ann, 2)}), presence.ErrInvalid, "two of one subject")
	records, err := storage.Load(t.Context(), ann)
	require.NoError(t, err)
	require.Empty(t, records)
}

// Data that can never be stored is ErrInvalid, and is not retried for ever.
func TestWhatPostgresCannotHold(t *testing.T) {
	t.Parallel()
	storage := open(t, server, postgres.Options{})
	for _, id := range []string{"a\x00b", "\xff"} {
		require.ErrorIs(t, storage.Save(t.Context(), presence.Write{Record: record(presence.ID(id), 1)}), presence.ErrInvalid)
		require.ErrorIs(t, storage.Append(t.Context(), row(presence.ID(id), "r1", 1)), presence.ErrInvalid)
	}
	r := row(ann, "r1", 1)
	r.Reason = "zero\x00" // is not an id, and kept
	require.NoError(t, storage.Append(t.Context(), r))
	rows, err := storage.Journal(t.Context(), presence.JournalQuery{Subject: ann})
	require.NoError(t, err)
	require.Equal(t, []presence.JournalRow{r}, rows)
}

// Batches of several processes that overlap in any order lock rows in one
// order. So the server ends none of them because of a deadlock.
func TestBatchesDoNotDeadlock(t *testing.T) {
	t.Parallel()
	schema := newSchema()
	var subjects []presence.Ref
	for i := range 12 {
		subjects = append(subjects, presence.Ref{Tenant: []string{"", "Ä"}[i%2], ID: fmt.Sprint("s", i)})
	}
	var working sync.WaitGroup
	errs := make([]error, 6)
	conflicts := make([]int, len(errs))
	seed := seeds.List(t, 1)[0]
	for i := range errs {
		storage := open(t, server, postgres.Options{Schema: schema})
		working.Go(func() {
			random := rand.New(rand.NewPCG(seed, uint64(i)))
			for n := range 60 {
				var writes []presence.Write
				var rows []presence.JournalRow
				stored, err := storage.Load(t.Context(), subjects...)
				if err != nil {
					errs[i] = err
					return
				}
				revisions := make(map[presence.Ref]uint64)
				for _, r := range stored {
					revisions[r.Subject] = r.Revision
				}
				for _, at := range random.Perm(len(subjects))[:8] {
					ref := subjects[at]
					writes = append(writes, presence.Write{Record: record(ref, revisions[ref]+1), Expect: revisions[ref]})
					rows = append(rows, row(ref, fmt.Sprintf("%d-%d", i, n%7), 1))
				}
				writes[0].Record.Data = fmt.Appendf(nil, "of %d", i)
				switch err := storage.Save(t.Context(), writes...); {
				case errors.Is(err, presence.ErrConflict):
					conflicts[i]++
				case err != nil:
					errs[i] = err
					return
				}
				if err := storage.Append(t.Context(), rows...); err != nil {
					errs[i] = err
					return
				}
				if n%5 == 0 {
					if err := storage.Delete(t.Context(), writes[0].Record.Subject, writes[1].Record.Subject, writes[2].Record.Subject); err != nil {
						errs[i] = err
						return
					}
				}
			}
		})
	}
	working.Wait()
	require.NoError(t, errors.Join(errs...))
	t.Log("conflicts:", conflicts)
}

func TestPrune(t *testing.T) {
	t.Parallel()
	schema := newSchema()
	storage := open(t, server, postgres.Options{Schema: schema})
	var rows []presence.JournalRow
	for i := range 12_000 {
		rows = append(rows, row([]presence.Ref{ann, bob}[i%2], fmt.Sprint(i), presence.Instant(i+1)))
	}
	require.NoError(t, storage.Append(t.Context(), rows...))
	pruned, err := storage.Prune(t.Context(), 11_001)
	require.NoError(t, err)
	require.Equal(t, 10_998, pruned)
	left, err := storage.Journal(t.Context(), presence.JournalQuery{Subject: ann, After: presence.JournalRow{ID: "0"}})
	require.NoError(t, err)
	require.Len(t, left, 501)
	require.Equal(t, "10998", left[0].ID, "a row that was pruned is before all that are left")
	pruned, err = storage.Prune(t.Context(), 11_001)
	require.NoError(t, err)
	require.Zero(t, pruned)
	require.Equal(t, "2", sql(t, server, "postgres", `SELECT count(*) FROM "`+schema+`".journal WHERE kept`))
	pruned, err = storage.Prune(t.Context(), 11_003)
	require.NoError(t, err)
	require.Equal(t, 2, pruned, "what was kept before")

	zero := row(ann, "zero", 11_003)
	zero.Kind, zero.Reason = presence.RowClaimSet, "\x00 \"kind\":\"transition\"" // no operator of json reads it
	require.NoError(t, storage.Append(t.Context(), zero))
	left, err = storage.Journal(t.Context(), presence.JournalQuery{Subject: ann, From: 11_004, Base: true, Limit: 1})
	require.NoError(t, err)
	require.Equal(t, []string{"11002"}, ids(left))
	_, err = storage.Prune(t.Context(), 1<<60)
	require.NoError(t, err)
	left, err = storage.Journal(t.Context(), presence.JournalQuery{})
	require.NoError(t, err)
	require.Equal(t, []string{"11998", "11999"}, ids(left))
}

// Processes that prune at once, while others append and delete, wait for each other, and
// keep of each subject what was in force.
func TestPruneAtOnce(t *testing.T) {
	t.Parallel()
	schema := newSchema()
	const last = 100
	var working sync.WaitGroup
	errs := make([]error, 4)
	own := func(i int) presence.Ref { return presence.ID(fmt.Sprint("agent", i)) }
	for i := range errs {
		storage := open(t, server, postgres.Options{Schema: schema, Conns: 2})
		working.Go(func() {
			for n := range last {
				at := presence.Instant(n + 1)
				errs[i] = storage.Append(t.Context(), row(own(i), fmt.Sprint(n), at), row(bob, fmt.Sprint(i, "-", n), at))
				if n%10 == i {
					errs[i] = errors.Join(errs[i], storage.Delete(t.Context(), bob))
				}
				if n%5 == 0 {
					_, err := storage.Prune(t.Context(), at-20)
					errs[i] = errors.Join(errs[i], err)
				}
				if errs[i] != nil {
					return
				}
			}
		})
	}
	working.Wait()
	require.NoError(t, errors.Join(errs...))
	storage := open(t, server, postgres.Options{Schema: schema})
	_, err := storage.Prune(t.Context(), last)
	require.NoError(t, err)
	for i := range errs {
		rows, err := storage.Journal(t.Context(), presence.JournalQuery{Subject: own(i)})
		require.NoError(t, err)
		require.Equal(t, []string{fmt.Sprint(last - 2), fmt.Sprint(last - 1)}, ids(rows))
	}
}

// handler passes on what is logged.
type handler struct {
	slog.Handler
	records chan slog.Record
}

func (h handler) Enabled(context.Context, slog.Level) bool { return true }
func (h handler) Handle(_ context.Context, r slog.Record) error {
	h.records <- r
	return nil
}

func TestRetention(t *testing.T) {
	t.Parallel()
	opts := postgres.Options{Schema: newSchema()}
	now := presence.At(time.Now())
	require.NoError(t, open(t, server, opts).Append(t.Context(), row(ann, "old", now.Add(-3*time.Hour)), row(ann, "in force", now.Add(-2*time.Hour)), row(ann, "new", now)))
	logged := handler{slog.DiscardHandler, make(chan slog.Record, 8)}
	opts.Retention, opts.Logger = time.Hour, slog.New(logged)
	storage := open(t, server, opts)
	require.Equal(t, "postgres: pruned the journal", (<-logged.records).Message)
	rows, err := storage.Journal(t.Context(), presence.JournalQuery{Subject: ann})
	require.NoError(t, err)
	require.Equal(t, []string{"in force", "new"}, ids(rows))
}

// An open storage uses a restarted server again.
func TestServerRestarts(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	storage := open(t, s, postgres.Options{})
	tracker, err := presence.New(&presence.Options{Storage: storage})
	require.NoError(t, err)
	conn, err := tracker.Connect(t.Context(), ann, presence.ConnectOptions{})
	require.NoError(t, err)
	for i, end := range []func() error{s.Kill, s.Stop, s.Crash} {
		require.NoError(t, storage.Save(t.Context(), presence.Write{Record: record(bob, uint64(i+1)), Expect: uint64(i)}))
		require.NoError(t, end())
		_, err := storage.Load(t.Context(), bob)
		require.ErrorIs(t, err, presence.ErrUnavailable)
		require.ErrorIs(t, storage.Append(t.Context(), row(bob, "r", 1)), presence.ErrUnavailable)
		_, err = conn.Claim(t.Context(), presence.Claim{Status: "busy"})
		require.ErrorIs(t, err, presence.ErrUnavailable)
		view, err := tracker.GetAs(t.Context(), presence.AudienceTeam, ann)
		require.NoError(t, err, "answers go on from memory")
		require.Equal(t, []string{"available", "away", "away"}[i], view.Status)

		require.NoError(t, s.Start(t.Context()))
		records, err := storage.Load(t.Context(), bob)
		require.NoError(t, err)
		require.Equal(t, []presence.Record{record(bob, uint64(i+1))}, records)
		_, err = conn.Claim(t.Context(), presence.Claim{Status: "away"})
		require.NoError(t, err)
	}
	require.NoError(t, tracker.Close())
}

func TestSessionsAreEnded(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	storage := open(t, s, postgres.Options{})
	var loading sync.WaitGroup
	for range 4 {
		loading.Go(func() { _, _ = storage.Load(t.Context(), ann) })
	}
	loading.Wait()
	sql(t, s, "postgres", `SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name = 'presence'`)
	if _, err := storage.Load(t.Context(), ann); err != nil {
		require.ErrorIs(t, err, presence.ErrUnavailable)
	}
	_, err := storage.Load(t.Context(), ann)
	require.NoError(t, err, "one call pays for all sessions")
}

// Where the database is slow, a call ends with its context, and harms no other.
func TestSlowDatabase(t *testing.T) {
	t.Parallel()
	db := newDatabase(t)
	storage := openIn(t, server, db, postgres.Options{Schema: "presence", Conns: 2})
	require.NoError(t, storage.Save(t.Context(), presence.Write{Record: record(ann, 1)}, presence.Write{Record: record(bob, 1)}))
	locker, err := pgx.Connect(t.Context(), server.URL(db))
	require.NoError(t, err)
	defer locker.Close(context.WithoutCancel(t.Context()))
	tx, err := locker.Begin(t.Context())
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), `SELECT * FROM presence.records WHERE subject = 'ann' FOR UPDATE`)
	require.NoError(t, err)

	for range 3 { // more often than the number of connections
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		require.ErrorIs(t, storage.Save(ctx, presence.Write{Record: record(ann, 2), Expect: 1}), context.DeadlineExceeded)
		cancel()
	}
	records, err := storage.Load(t.Context(), ann, bob)
	require.NoError(t, err)
	require.Len(t, records, 2)
	require.NoError(t, storage.Save(t.Context(), presence.Write{Record: record(bob, 2), Expect: 1}))

	_, err = tx.Exec(t.Context(), `LOCK TABLE presence.journal`)
	require.NoError(t, err)
	why := errors.New("no patience")
	ctx, cancel := context.WithTimeoutCause(t.Context(), 50*time.Millisecond, why)
	defer cancel()
	require.ErrorIs(t, storage.Append(ctx, row(ann, "r1", 1)), why)

	require.NoError(t, tx.Commit(t.Context()))
	require.NoError(t, storage.Append(t.Context(), row(ann, "r1", 1)))
	records, err = storage.Load(t.Context(), ann)
	require.NoError(t, err)
	if records[0].Revision == 1 { // which of the calls that were given up came through is not known
		require.NoError(t, storage.Save(t.Context(), presence.Write{Record: record(ann, 2), Expect: 1}))
	}
	require.NoError(t, storage.Close())
}

// A standby is refused; one whose primary was lost is used once it has taken over.
func TestStandby(t *testing.T) {
	t.Parallel()
	primary := newServer(t)
	standby, err := pgtest.New(t.Context())
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, standby.Close()) })
	opts := postgres.Options{Schema: "presence"}
	require.NoError(t, open(t, primary, opts).Save(t.Context(), presence.Write{Record: record(ann, 1)}))
	require.NoError(t, standby.Base(t.Context(), primary))
	require.NoError(t, standby.Start(t.Context()))

	_, err = postgres.Open(t.Context(), standby.URL("postgres"), &opts)
	require.ErrorIs(t, err, presence.ErrUnavailable)
	require.ErrorContains(t, err, "standby")

	both := fmt.Sprintf("postgres://%s:%s@127.0.0.1:%d,127.0.0.1:%d/postgres?sslmode=disable&target_session_attrs=read-write",
		pgtest.User, "not%20a%20secret", standby.Port(), primary.Port())
	storage, err := postgres.Open(t.Context(), both, &opts)
	require.NoError(t, err)
	defer storage.Close()
	require.NoError(t, storage.Save(t.Context(), presence.Write{Record: record(ann, 2), Expect: 1}))
	caughtUp := `SELECT pg_last_wal_replay_lsn() >= '` + sql(t, primary, "postgres", `SELECT pg_current_wal_lsn()`) + `'`
	for sql(t, standby, "postgres", caughtUp) != "t" {
	}
	require.NoError(t, primary.Kill())
	_, err = storage.Load(t.Context(), ann)
	require.ErrorIs(t, err, presence.ErrUnavailable)
	require.Equal(t, "t", sql(t, standby, "postgres", `SELECT pg_promote()`))
	require.NoError(t, storage.Save(t.Context(), presence.Write{Record: record(ann, 3), Expect: 2}))
}

// A storage reports that its database has become read-only, and recovers.
func TestBecomesReadOnly(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	storage := open(t, s, postgres.Options{})
	sql(t, s, "postgres", `ALTER DATABASE postgres SET default_transaction_read_only = on`)
	sql(t, s, "postgres", `SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name = 'presence'`)
	_, _ = storage.Load(t.Context(), ann)
	_, err := storage.Load(t.Context(), ann)
	require.NoError(t, err)
	err = storage.Save(t.Context(), presence.Write{Record: record(ann, 1)})
	require.ErrorIs(t, err, presence.ErrUnavailable)
	require.ErrorContains(t, err, "can only be read")
	sql(t, s, "postgres", `BEGIN READ WRITE; ALTER DATABASE postgres RESET default_transaction_read_only; COMMIT`)
	require.NoError(t, storage.Save(t.Context(), presence.Write{Record: record(ann, 1)}))
}

// After Delete and Compact the server's tables hold nothing of a subject. Its log
// is not looked at: that holds what happened until it is recycled.
func TestDeletedFromTheFiles(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	storage := open(t, s, postgres.Options{})
	secret := presence.Ref{Tenant: "acme", ID: "top-secret-name"}
	for i := range 300 {
		other := presence.ID(fmt.Sprint("other", i))
		require.NoError(t, storage.Append(t.Context(), row(secret, fmt.Sprint(i), 1), row(other, fmt.Sprint(i), 1)))
		require.NoError(t, storage.Save(t.Context(), presence.Write{Record: record(other, 1)}))
	}
	long := presence.Record{Subject: secret, Revision: 1, Data: bytes.Repeat([]byte("top-secret-name-"), 4000)}
	require.NoError(t, storage.Save(t.Context(), presence.Write{Record: long}))
	sql(t, s, "postgres", `ANALYZE; CHECKPOINT`)
	require.NotEmpty(t, holding(t, s.Dir, "top-secret-name"))
	require.NoError(t, storage.Delete(t.Context(), secret))
	require.NoError(t, storage.Compact(t.Context()))
	sql(t, s, "postgres", `ANALYZE; CHECKPOINT`)
	require.Empty(t, holding(t, s.Dir, "top-secret-name"))
	records, err := storage.Load(t.Context(), secret, presence.ID("other1"))
	require.NoError(t, err)
	require.Equal(t, []presence.Record{record(presence.ID("other1"), 1)}, records)
}

// holding returns the files, but for the log, that contain a text.
func holding(t *testing.T, dir, text string) (files []string) {
	require.NoError(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			if d != nil && d.Name() == "pg_wal" {
				return fs.SkipDir
			}
			return err
		}
		data, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if bytes.Contains(data, []byte(text)) {
			files = append(files, path)
		}
		return err
	}))
	return files
}

func TestRestartAfterTheClockWasSetBack(t *testing.T) {
	t.Parallel()
	opts := postgres.Options{Schema: newSchema(), Conns: 2}
	livestest.RestartAfterTheClockWasSetBack(t, func() presence.Storage { return open(t, server, opts) })
}

func TestReportAfterRetention(t *testing.T) {
	t.Parallel()
	livestest.ReportAfterRetention(t, open(t, server, postgres.Options{Schema: newSchema(), Conns: 2}))
}
