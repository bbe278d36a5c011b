// Package postgres keeps presence in a PostgreSQL database: the choices of
// people and the journal.
//
//	storage, err := postgres.Open(ctx, "postgres://presence@db.example.com/presence", nil)
//	tracker, err := presence.New(&presence.Options{Storage: storage})
//
// Open creates its tables in a schema of its own, and upgrades the tables of an
// earlier version of this package; see [Options.Schema].
//
// # Durability
//
// A call that returned no error survives a crash of the client, of the server
// and of its machine, if the disks are honest. Open therefore refuses a server
// that runs with fsync=off. It switches synchronous_commit on in its sessions
// if the server has it off. [Options.Relaxed] allows both.
//
// # Trouble
//
// An error of a server that cannot be reached or written to, or has no room,
// wraps [presence.ErrUnavailable]. The storage repeats no call. The next call
// replaces a broken connection, so that a restarted server, or a standby
// promoted under the same name, is used by itself. With several hosts in the
// connection string, add target_session_attrs=read-write.
//
// # Several processes
//
// Any number of processes may use one schema. A tracker that writes over a
// record of another process gets [presence.ErrConflict], and takes the other
// record over. To take it over earlier, set [Options.Announce] in all processes
// and run [Storage.Follow].
//
// # Erasing
//
// Delete removes the rows. Their bytes stay in the server's files and in its
// log until the server reuses the room; see [Storage.Compact]. The planner
// keeps no statistics of columns with ids or texts, so that it copies none.
package postgres

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"log/slog"
	"math"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/presence-go/presence"
)

var (
	_ presence.Storage       = (*Storage)(nil)
	_ presence.JournalReader = (*Storage)(nil)
)

// Options configures a [Storage]. The zero value works.
type Options struct {
	// Schema is the database schema that holds the tables, at most 63 bytes.
	// Empty means "presence". Open creates a missing schema, for which the role
	// needs the right to create schemas. A role that owns the schema needs no
	// such right.
	Schema string
	// Conns is the largest number of connections to the server. 0 means
	// pool_max_conns of the connection string, or 16 without it.
	Conns int
	// Retention is how long journal rows are kept, counted from the instant at
	// which they happened. 0 means for ever. Older rows are deleted in the
	// background once an hour, 5,000 at a time, but for each subject's last
	// transition before; see [Storage.Prune].
	Retention time.Duration
	// Announce reports to other processes what this one saves and deletes,
	// shortly afterwards; see [Storage.Follow]. Announcements contain the ids
	// of subjects.
	Announce bool
	// Relaxed allows a server, or a session, that answers before it writes to
	// disk. A crash of the server then loses the latest calls. With
	// synchronous_commit=off in the connection string, sessions do not wait.
	Relaxed bool
	// Logger logs failures in the background; nil discards them.
	Logger *slog.Logger
}

// Storage is a presence.Storage and presence.JournalReader in a PostgreSQL
// database of version 13 or later. It is safe for concurrent use, by any number
// of processes.
type Storage struct {
	pool   *pgxpool.Pool
	opts   Options
	log    *slog.Logger
	sql    statements
	news   *announcer // nil unless Options.Announce is set
	closed atomic.Bool
	config *pgx.ConnConfig // of connections outside the pool
	name   string          // marks the announcements of this process
	ending context.Context // done once Close was called
	end    context.CancelFunc
	work   sync.WaitGroup
}

// Open connects to the database of a connection string, as a URL or in the form
// "host=... dbname=...", and prepares its schema; nil options mean zero ones.
// It returns all faults of the options together. The password may be in the
// environment or a password file, as for other programs. Open does not wait for
// a server that has not started yet.
func Open(ctx context.Context, connString string, options *Options) (*Storage, error) {
	var opts Options
	if options != nil {
		opts = *options
	}
	if err := opts.check(); err != nil {
		return nil, err
	}
	config, err := pgxpool.ParseConfig(connString)
	if err != nil {
		return nil, because(err, presence.ErrInvalid, "storage", "", "the connection string cannot be used")
	}
	switch {
	case opts.Conns > 0:
		config.MaxConns = int32(opts.Conns)
	case !strings.Contains(connString, "pool_max_conns"):
		config.MaxConns = 16
	}
	if config.ConnConfig.RuntimeParams["application_name"] == "" {
		config.ConnConfig.RuntimeParams["application_name"] = "presence"
	}
	config.AfterConnect = func(ctx context.Context, conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, setUp, opts.Relaxed)
		return err
	}
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, because(err, presence.ErrInvalid, "storage", "", "the connection string cannot be used")
	}
	s := &Storage{pool: pool, opts: opts, log: opts.Logger, config: config.ConnConfig.Copy(), name: newName(), sql: statementsFor(opts.Schema)}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if err := s.prepare(ctx); err != nil {
		pool.Close()
		return nil, err
	}
	s.ending, s.end = context.WithCancel(context.Background())
	if opts.Retention > 0 {
		s.work.Go(func() { s.pruneEvery(s.ending, time.Hour) })
	}
	if opts.Announce {
		s.news = newAnnouncer()
		s.work.Go(func() { s.announceAll(s.ending) })
	}
	return s, nil
}

func (o *Options) check() error {
	o.Schema = cmp.Or(o.Schema, "presence")
	var faults []error
	fault := func(option, format string, args ...any) {
		faults = append(faults, refuse(presence.ErrInvalid, "option", option, format, args...))
	}
	if len(o.Schema) > 63 || strings.ContainsRune(o.Schema, 0) || strings.HasPrefix(o.Schema, "pg_") {
		fault("Schema", "%q: at most 63 bytes are allowed, without a zero byte, and not beginning with pg_", o.Schema)
	}
	if o.Conns < 0 || o.Conns > math.MaxInt32 {
		fault("Conns", "%d: 0 to %d are allowed", o.Conns, math.MaxInt32)
	}
	if o.Retention < 0 {
		fault("Retention", "%v is negative", o.Retention)
	}
	return errors.Join(faults...)
}

// setUp makes a new session answer a commit only once it is on disk, unless
// Relaxed allows otherwise. It keeps stricter settings, such as waiting for a
// standby. A client that stops in the middle of a batch must not lock others
// out. Conflicts are found by revision, not by the server.
const setUp = `SELECT set_config('default_transaction_isolation', 'read committed', false),
	set_config('idle_in_transaction_session_timeout', '10s', false),
	CASE WHEN NOT $1 AND current_setting('synchronous_commit') = 'off' THEN set_config('synchronous_commit', 'on', false) END`

// prepare checks the database and prepares the schema.
func (s *Storage) prepare(ctx context.Context) error {
	var encoding, fsync string
	var standby, readOnly bool
	err := s.pool.QueryRow(ctx, `SELECT current_setting('server_encoding'), current_setting('fsync'), pg_is_in_recovery(), current_setting('transaction_read_only')::bool`).
		Scan(&encoding, &fsync, &standby, &readOnly)
	switch {
	case err != nil:
		return s.failed(ctx, "connecting", err)
	case encoding != "UTF8":
		return refuse(presence.ErrInvalid, "storage", "", "the encoding of the database is %s, needed is UTF8", encoding)
	case standby:
		return refuse(presence.ErrUnavailable, "storage", "", "this server is a standby, which cannot be written to; connect to the primary, or name all servers and add target_session_attrs=read-write")
	case readOnly:
		return refuse(presence.ErrUnavailable, "storage", "", "the database is set to be read-only")
	case fsync != "on" && !s.opts.Relaxed:
		return refuse(presence.ErrInvalid, "storage", "", "the server runs with fsync=%s, so that nothing it answers is durable; Options.Relaxed allows that", fsync)
	}
	if err := s.migrate(ctx); err != nil {
		return s.failed(ctx, "making the schema "+s.opts.Schema+" ready", err)
	}
	return nil
}

// Close waits for calls under way and ends every connection. A second Close
// changes nothing and returns [presence.ErrClosed].
func (s *Storage) Close() error {
	if s.closed.Swap(true) {
		return s.closedError()
	}
	s.end()
	s.work.Wait()
	s.pool.Close()
	return nil
}

func (s *Storage) closedError() error { return refuse(presence.ErrClosed, "storage", "", "") }

// usable returns why a call cannot be served, or nil.
func (s *Storage) usable(ctx context.Context) error {
	if s.closed.Load() {
		return s.closedError()
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return nil
}

// failed returns the error of a failed call, and drops connections that cannot
// be used again.
func (s *Storage) failed(ctx context.Context, doing string, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if s.closed.Load() {
		return s.closedError()
	}
	if errors.Is(err, presence.ErrConflict) || errors.Is(err, presence.ErrInvalid) {
		return err
	}
	if answer, ok := errors.AsType[*pgconn.PgError](err); ok {
		switch {
		case strings.HasPrefix(answer.Code, "22"), strings.HasPrefix(answer.Code, "54"): // the data can never be stored
			return because(err, presence.ErrInvalid, "storage", "", "%s", doing)
		case answer.Code == "25006": // perhaps an old primary: the next connection may lead to the new one
			s.pool.Reset()
			return because(err, presence.ErrUnavailable, "storage", "", "%s: this server can only be read, as a standby can", doing)
		case strings.HasPrefix(answer.Code, "08"), strings.HasPrefix(answer.Code, "57P"):
			s.pool.Reset() // the server shuts down, or the connection is broken
		}
	} else {
		s.pool.Reset() // no answer: mostly all connections are broken
	}
	return because(err, presence.ErrUnavailable, "storage", "", "%s", doing)
}

// Load returns the records of the subjects that have one, each once.
func (s *Storage) Load(ctx context.Context, subjects ...presence.Ref) ([]presence.Record, error) {
	if err := s.usable(ctx); err != nil || len(subjects) == 0 {
		return nil, err
	}
	tenants, ids := columns(sorted(subjects))
	rows, _ := s.pool.Query(ctx, s.sql.load, tenants, ids)
	records, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (r presence.Record, err error) {
		var revision int64
		err = row.Scan(&r.Subject.Tenant, &r.Subject.ID, &revision, &r.Data)
		r.Revision = uint64(revision)
		return r, err
	})
	if err != nil {
		return nil, s.failed(ctx, "loading", err)
	}
	return records, nil
}

// Save stores all writes or none. A revision is at most 1<<63 - 1.
func (s *Storage) Save(ctx context.Context, writes ...presence.Write) error {
	if err := s.usable(ctx); err != nil || len(writes) == 0 {
		return err
	}
	for _, w := range writes {
		if w.Record.Revision > math.MaxInt64 || w.Expect > math.MaxInt64 {
			return refuse(presence.ErrInvalid, "revision", fmt.Sprint(w.Record.Revision), "of %s, expecting %d: at most %d is allowed", w.Record.Subject, w.Expect, uint64(math.MaxInt64))
		}
	}
	var err error
	if len(writes) == 1 {
		err = s.saveOne(ctx, writes[0])
	} else {
		err = untangled(func() error { return s.saveAll(ctx, writes) })
	}
	if err != nil {
		return s.failed(ctx, "saving", err)
	}
	if s.news != nil {
		subjects := make([]presence.Ref, len(writes))
		for i, w := range writes {
			subjects[i] = w.Record.Subject
		}
		s.news.add(subjects...)
	}
	return nil
}

// saveOne writes one record. Without a conflict it needs one statement, which
// is a transaction of its own.
func (s *Storage) saveOne(ctx context.Context, w presence.Write) error {
	r := w.Record
	var done pgconn.CommandTag
	var err error
	if w.Expect == 0 {
		done, err = s.pool.Exec(ctx, s.sql.insert, r.Subject.Tenant, r.Subject.ID, int64(r.Revision), notNil(r.Data))
	} else {
		done, err = s.pool.Exec(ctx, s.sql.update, r.Subject.Tenant, r.Subject.ID, int64(w.Expect), int64(r.Revision), notNil(r.Data))
	}
	if err != nil || done.RowsAffected() == 1 {
		return err
	}
	// Whether the stored record is the one to be written must be read from the
	// present row. A later comparison cannot change the answer.
	stored, err := s.revisions(ctx, s.pool, s.sql.compare, []presence.Write{w})
	if err != nil {
		return err
	}
	if got := stored[r.Subject]; !got.same {
		return conflict(w, got.revision)
	}
	return nil
}

// saveAll locks the stored rows in the order of the subjects, so that no two
// batches wait for each other. Then it decides and writes. An insertion only
// waits for other insertions, again in order.
func (s *Storage) saveAll(ctx context.Context, writes []presence.Write) error {
	writes = slices.Clone(writes)
	slices.SortFunc(writes, func(a, b presence.Write) int { return compareRefs(a.Record.Subject, b.Record.Subject) })
	for i := range writes[1:] {
		if writes[i].Record.Subject == writes[i+1].Record.Subject {
			return refuse(presence.ErrInvalid, "record", writes[i].Record.Subject.String(), "the batch has two of this subject")
		}
	}
	tx, err := s.pool.Begin(ctx)
	if err != nil {
		return err
	}
	defer rollback(tx)
	stored, err := s.revisions(ctx, tx, s.sql.lock, writes)
	if err != nil {
		return err
	}
	var inserts, updates []presence.Write
	for _, w := range writes {
		switch got, there := stored[w.Record.Subject]; {
		case got.same: // the caller repeats a call
		case there != (w.Expect != 0) || got.revision != int64(w.Expect):
			return conflict(w, got.revision)
		case there:
			updates = append(updates, w)
		default:
			inserts = append(inserts, w)
		}
	}
	for sql, list := range map[string][]presence.Write{s.sql.insertAll: inserts, s.sql.updateAll: updates} {
		if len(list) == 0 {
			continue
		}
		tenants, ids, revisions, data := fields(list)
		done, err := tx.Exec(ctx, sql, tenants, ids, revisions, data)
		if err != nil {
			return err
		}
		if done.RowsAffected() != int64(len(list)) {
			return refuse(presence.ErrConflict, "record", "", "of a batch of %d, another process inserted %d meanwhile", len(writes), int64(len(list))-done.RowsAffected())
		}
	}
	return tx.Commit(ctx)
}

// deadlockDetected is the code of a transaction that the server aborted to
// break a deadlock.
const deadlockDetected = "40P01"

// untangled repeats a call that the server aborted because of a deadlock, up to
// five times. The order of the locks leaves one such case: a subject that is
// deleted and stored again between a batch's look at it and its insertion.
func untangled(do func() error) error {
	for attempt := 1; ; attempt++ {
		err := do()
		answer, ok := errors.AsType[*pgconn.PgError](err)
		if !ok || answer.Code != deadlockDetected || attempt == 5 {
			return err
		}
	}
}

// rollback ends a transaction that was not committed, without hanging on a
// server that does not answer.
func rollback(tx pgx.Tx) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = tx.Rollback(ctx)
}

// stored is a stored record: its revision, and whether it equals the record of
// the write.
type stored struct {
	revision int64
	same     bool
}

type querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

func (s *Storage) revisions(ctx context.Context, q querier, sql string, writes []presence.Write) (map[presence.Ref]stored, error) {
	tenants, ids, revisions, data := fields(writes)
	found := make(map[presence.Ref]stored, len(writes))
	rows, _ := q.Query(ctx, sql, tenants, ids, revisions, data)
	var ref presence.Ref
	var got stored
	_, err := pgx.ForEachRow(rows, []any{&ref.Tenant, &ref.ID, &got.revision, &got.same}, func() error {
		found[ref] = got
		return nil
	})
	return found, err
}

func conflict(w presence.Write, stored int64) error {
	return refuse(presence.ErrConflict, "record", w.Record.Subject.String(), "it is at revision %d, expected was %d", stored, w.Expect)
}

// Append adds rows to the journal in order, all or none.
func (s *Storage) Append(ctx context.Context, rows ...presence.JournalRow) error {
	if err := s.usable(ctx); err != nil || len(rows) == 0 {
		return err
	}
	tenants, subjects, ids := make([]string, len(rows)), make([]string, len(rows)), make([]string, len(rows))
	at, texts := make([]int64, len(rows)), make([]string, len(rows))
	stripes := make([]int32, len(rows))
	for i, r := range rows {
		text, err := json.Marshal(r)
		if err != nil {
			return because(err, presence.ErrInvalid, "record", r.Subject.String(), "its journal row %s cannot be encoded", r.ID)
		}
		tenants[i], subjects[i], ids[i], at[i], texts[i] = r.Subject.Tenant, r.Subject.ID, r.ID, int64(r.At), string(text)
		stripes[i] = stripe(r.Subject)
	}
	batch := new(pgx.Batch) // one transaction, and one round trip
	batch.Queue(s.sql.lockJournal, distinct(stripes))
	batch.Queue(s.sql.append, tenants, subjects, ids, at, texts)
	if err := s.pool.SendBatch(ctx, batch).Close(); err != nil {
		return s.failed(ctx, "appending to the journal", err)
	}
	return nil
}

// Delete removes the records and journals of subjects.
func (s *Storage) Delete(ctx context.Context, subjects ...presence.Ref) error {
	if err := s.usable(ctx); err != nil || len(subjects) == 0 {
		return err
	}
	refs := sorted(subjects)
	tenants, ids := columns(refs)
	stripes := make([]int32, len(refs))
	for i, r := range refs {
		stripes[i] = stripe(r)
	}
	err := untangled(func() error {
		batch := new(pgx.Batch)
		batch.Queue(s.sql.lockJournal, distinct(stripes))
		batch.Queue(s.sql.lockRecords, tenants, ids)
		batch.Queue(s.sql.deleteRecords, tenants, ids)
		batch.Queue(s.sql.deleteJournal, tenants, ids)
		return s.pool.SendBatch(ctx, batch).Close()
	})
	if err != nil {
		return s.failed(ctx, "deleting", err)
	}
	if s.news != nil {
		s.news.add(refs...)
	}
	return nil
}

// Journal returns the rows that q selects.
func (s *Storage) Journal(ctx context.Context, q presence.JournalQuery) ([]presence.JournalRow, error) {
	if err := s.usable(ctx); err != nil {
		return nil, err
	}
	if q.Subject.ID != "" {
		base := q.Base && q.From != 0 && q.After.ID == ""
		rows, _ := s.pool.Query(ctx, s.sql.subjectRows, q.Subject.Tenant, q.Subject.ID, int64(q.From), int64(q.To), q.After.ID, limit(q.Limit), base)
		return s.collect(ctx, rows)
	}
	after := int64(math.MinInt64)
	if q.After.ID != "" {
		after = int64(q.After.At)
	}
	rows, _ := s.pool.Query(ctx, s.sql.tenantRows, q.Subject.Tenant, int64(q.From), int64(q.To), after, q.After.Subject.ID, q.After.ID, limit(q.Limit))
	return s.collect(ctx, rows)
}

func limit(n int) int64 {
	if n <= 0 {
		return 1000
	}
	return int64(n)
}

func (s *Storage) collect(ctx context.Context, rows pgx.Rows) ([]presence.JournalRow, error) {
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (r presence.JournalRow, err error) {
		var text []byte
		if err = row.Scan(&text); err == nil {
			err = json.Unmarshal(text, &r)
		}
		return r, err
	})
	if err != nil {
		return nil, s.failed(ctx, "reading the journal", err)
	}
	return list, nil
}

// pruneChunk is the number of old rows that one statement of Prune looks at.
const pruneChunk = 5000

// Prune deletes the journal rows that happened before an instant, in chunks. It
// keeps of each subject the last of the transitions among them, and deletes the one
// that an earlier call kept. It returns the number of deleted rows, also with an
// error. Several processes may prune at once: they take turns, chunk by chunk.
func (s *Storage) Prune(ctx context.Context, before presence.Instant) (pruned int, err error) {
	for {
		if err := s.usable(ctx); err != nil {
			return pruned, err
		}
		var looked, deleted int
		batch := new(pgx.Batch) // one transaction, and one round trip
		batch.Queue(s.sql.lockJournal, []int32{pruning})
		batch.Queue(s.sql.prune, int64(before), pruneChunk).QueryRow(func(row pgx.Row) error { return row.Scan(&looked, &deleted) })
		if err := s.pool.SendBatch(ctx, batch).Close(); err != nil {
			return pruned, s.failed(ctx, "pruning the journal", err)
		}
		if pruned += deleted; looked < pruneChunk {
			return pruned, nil
		}
	}
}

func (s *Storage) pruneEvery(ctx context.Context, every time.Duration) {
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		pruned, err := s.Prune(ctx, presence.At(time.Now().Add(-s.opts.Retention)))
		if err != nil && ctx.Err() == nil {
			s.log.Warn("postgres: pruning the journal", "error", err)
		}
		s.log.Debug("postgres: pruned the journal", "rows", pruned)
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}

// Compact writes the tables again, so that their files hold no deleted row. It
// locks the tables for as long as copying them takes. It does not change the
// server's log, backups and standbys.
func (s *Storage) Compact(ctx context.Context) error {
	if err := s.usable(ctx); err != nil {
		return err
	}
	for _, sql := range s.sql.compact {
		if _, err := s.pool.Exec(ctx, sql, pgx.QueryExecModeSimpleProtocol); err != nil {
			return s.failed(ctx, "compacting", err)
		}
	}
	return nil
}

// stripes is the number of locks that the journals of the subjects share. It
// must be the same in every process of a schema. The lock after them is that of
// pruning.
const (
	stripes = 64
	pruning = stripes
)

// stripe returns the lock under which a subject's journal grows, so that rows
// are seen in the order of their numbers.
func stripe(r presence.Ref) int32 {
	return int32(uint32(hash(r.Tenant+"\x00"+r.ID)) % stripes)
}

func hash(s string) int32 {
	h := fnv.New32a()
	_, _ = h.Write([]byte(s))
	return int32(h.Sum32())
}

// distinct sorts stripes and removes repetitions, so that all transactions lock
// them in the same order.
func distinct(stripes []int32) []int32 {
	slices.Sort(stripes)
	return slices.Compact(stripes)
}

func compareRefs(a, b presence.Ref) int {
	return cmp.Or(strings.Compare(a.Tenant, b.Tenant), strings.Compare(a.ID, b.ID))
}

// sorted returns each of the subjects once, in the order of the database.
func sorted(subjects []presence.Ref) []presence.Ref {
	return slices.Compact(slices.SortedFunc(slices.Values(subjects), compareRefs))
}

func columns(refs []presence.Ref) (tenants, ids []string) {
	tenants, ids = make([]string, len(refs)), make([]string, len(refs))
	for i, r := range refs {
		tenants[i], ids[i] = r.Tenant, r.ID
	}
	return tenants, ids
}

func fields(writes []presence.Write) (tenants, ids []string, revisions []int64, data [][]byte) {
	for _, w := range writes {
		tenants, ids = append(tenants, w.Record.Subject.Tenant), append(ids, w.Record.Subject.ID)
		revisions, data = append(revisions, int64(w.Record.Revision)), append(data, notNil(w.Record.Data))
	}
	return tenants, ids, revisions, data
}

// notNil returns data that is not NULL in the database.
func notNil(data []byte) []byte {
	if data == nil {
		return []byte{}
	}
	return data
}

// refuse returns the error of a refusal.
func refuse(sentinel error, what, given, format string, args ...any) *presence.Error {
	return &presence.Error{Err: sentinel, What: what, Given: given, Text: fmt.Sprintf(format, args...)}
}

// because returns the error of a refusal with the error underneath.
func because(cause, sentinel error, what, given, format string, args ...any) *presence.Error {
	e := refuse(sentinel, what, given, format, args...)
	e.Cause = cause
	return e
}
