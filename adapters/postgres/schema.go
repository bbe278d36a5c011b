package postgres

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/presence-go/presence"
)

// migrations lead from each version of the schema to the next; {schema} stands
// for its name. A released migration never changes: a change is a migration of
// its own.
var migrations = []string{
	1: `
CREATE TABLE {schema}.records (
	tenant text COLLATE "C" NOT NULL,
	subject text COLLATE "C" NOT NULL,
	revision bigint NOT NULL,
	data bytea NOT NULL,
	PRIMARY KEY (tenant, subject)
) WITH (fillfactor = 85);
CREATE TABLE {schema}.journal (
	seq bigint GENERATED ALWAYS AS IDENTITY, -- grows with every subject's journal
	tenant text COLLATE "C" NOT NULL,
	subject text COLLATE "C" NOT NULL,
	id text COLLATE "C" NOT NULL,
	at bigint NOT NULL, -- nanoseconds since 1900
	entry json NOT NULL,
	PRIMARY KEY (tenant, subject, id)
);
CREATE INDEX journal_order ON {schema}.journal (tenant, subject, seq, at);
-- No copies of ids and texts where deleting does not reach them.
ALTER TABLE {schema}.records ALTER tenant SET STATISTICS 0, ALTER subject SET STATISTICS 0, ALTER data SET STATISTICS 0;
ALTER TABLE {schema}.journal ALTER tenant SET STATISTICS 0, ALTER subject SET STATISTICS 0, ALTER id SET STATISTICS 0, ALTER entry SET STATISTICS 0;`,
	// The first index is for reading all of a tenant. The second is for pruning:
	// rows are appended roughly in the order in which they happened, which is what
	// this kind is for. It is small and costs next to nothing.
	2: `
CREATE INDEX journal_period ON {schema}.journal (tenant, at, seq);
CREATE INDEX journal_at ON {schema}.journal USING brin (at) WITH (pages_per_range = 16, autosummarize = on);`,
	// Pruning marks the rows that it keeps, of each subject the last transition.
	// Then the next pruning does not read them again.
	3: `
ALTER TABLE {schema}.journal ADD kept boolean NOT NULL DEFAULT false;
DROP INDEX {schema}.journal_period, {schema}.journal_at;
CREATE INDEX journal_period ON {schema}.journal (tenant, at, seq) WHERE NOT kept;
CREATE INDEX journal_at ON {schema}.journal USING brin (at) WITH (pages_per_range = 16, autosummarize = on) WHERE NOT kept;
CREATE INDEX journal_kept ON {schema}.journal (tenant, subject, seq) WHERE kept;
CREATE INDEX journal_kept_period ON {schema}.journal (tenant, at, seq) WHERE kept;`,
}

// migrationLock keeps processes that start together from upgrading together.
const migrationLock = 0x70726573656e6365

// migrate brings the schema to the version that this package knows, all at once
// or not at all.
func (s *Storage) migrate(ctx context.Context) error {
	newest := len(migrations) - 1
	if version, err := s.version(ctx, s.pool); err != nil || version == newest {
		return err
	}
	tx, err := s.pool.Begin(ctx)
	if err != nil {
		return err
	}
	defer rollback(tx)
	if _, err := tx.Exec(ctx, `SELECT pg_advisory_xact_lock($1)`, int64(migrationLock)); err != nil {
		return err
	}
	version, err := s.version(ctx, tx) // another process may have done it
	if err != nil {
		return err
	}
	if version > newest {
		return refuse(presence.ErrInvalid, "storage", s.opts.Schema, "the schema has version %d, this package knows %d", version, newest)
	}
	if version == 0 {
		if _, err := tx.Exec(ctx, s.sql.begin, pgx.QueryExecModeSimpleProtocol); err != nil {
			return err
		}
	}
	for ; version < newest; version++ {
		if _, err := tx.Exec(ctx, s.sql.in(migrations[version+1]), pgx.QueryExecModeSimpleProtocol); err != nil {
			return err
		}
	}
	if _, err := tx.Exec(ctx, s.sql.setVersion, newest); err != nil {
		return err
	}
	return tx.Commit(ctx)
}

type rowQuerier interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// version returns the version of the schema, or 0 if it has none.
func (s *Storage) version(ctx context.Context, q rowQuerier) (version int, err error) {
	var there bool
	if err := q.QueryRow(ctx, `SELECT to_regclass($1) IS NOT NULL`, s.sql.in("{schema}.version")).Scan(&there); err != nil || !there {
		return 0, err
	}
	err = q.QueryRow(ctx, s.sql.getVersion).Scan(&version)
	return version, err
}

// statements are the SQL of one schema.
type statements struct {
	schema  string
	channel string // of announcements

	begin, getVersion, setVersion             string
	load, insert, update, compare, lock       string
	insertAll, updateAll                      string
	lockJournal, append, prune                string
	subjectRows, tenantRows                   string
	lockRecords, deleteRecords, deleteJournal string
	compact                                   []string
}

// in puts the name of the schema into a statement.
func (s *statements) in(sql string) string {
	return strings.NewReplacer("{schema}", pgx.Identifier{s.schema}.Sanitize(), "{class}", strconv.Itoa(int(hash(s.schema)))).Replace(sql)
}

func statementsFor(schema string) statements {
	s := statements{schema: schema, channel: fmt.Sprintf("presence_%08x", uint32(hash(schema)))}
	// keys joins the wanted subjects with the stored rows by the primary key,
	// whatever statistics the planner has.
	const keys = `FROM unnest($1::text[], $2::text[]) AS k(tenant, subject)`
	const batch = `FROM unnest($1::text[], $2::text[], $3::bigint[], $4::bytea[]) AS w(tenant, subject, revision, data)`
	s.begin = s.in(`
CREATE SCHEMA IF NOT EXISTS {schema};
CREATE TABLE {schema}.version (version integer NOT NULL, one boolean PRIMARY KEY DEFAULT true CHECK (one));`)
	s.getVersion = s.in(`SELECT coalesce(max(version), 0) FROM {schema}.version`)
	s.setVersion = s.in(`INSERT INTO {schema}.version (version) VALUES ($1) ON CONFLICT (one) DO UPDATE SET version = EXCLUDED.version`)

	s.load = s.in(`SELECT r.tenant, r.subject, r.revision, r.data ` + keys + `
	CROSS JOIN LATERAL (SELECT * FROM {schema}.records r WHERE r.tenant = k.tenant AND r.subject = k.subject LIMIT 1) r`)
	s.insert = s.in(`INSERT INTO {schema}.records (tenant, subject, revision, data) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING`)
	s.update = s.in(`UPDATE {schema}.records SET revision = $4, data = $5 WHERE tenant = $1 AND subject = $2 AND revision = $3`)
	s.compare = s.in(`SELECT r.tenant, r.subject, r.revision, r.revision = w.revision AND r.data = w.data ` + batch + `
	JOIN {schema}.records r ON r.tenant = w.tenant AND r.subject = w.subject`)
	s.lock = s.compare + ` ORDER BY r.tenant, r.subject FOR UPDATE OF r`
	s.insertAll = s.in(`INSERT INTO {schema}.records (tenant, subject, revision, data)
	SELECT w.tenant, w.subject, w.revision, w.data ` + batch + ` ORDER BY w.tenant COLLATE "C", w.subject COLLATE "C" ON CONFLICT DO NOTHING`)
	s.updateAll = s.in(`UPDATE {schema}.records r SET revision = w.revision, data = w.data ` + batch + ` WHERE r.tenant = w.tenant AND r.subject = w.subject`)

	s.lockJournal = s.in(`SELECT pg_advisory_xact_lock({class}, stripe) FROM unnest($1::integer[]) AS stripe`)
	s.append = s.in(`INSERT INTO {schema}.journal (tenant, subject, id, at, entry)
	SELECT tenant, subject, id, at, entry::json FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[], $5::text[]) WITH ORDINALITY AS t(tenant, subject, id, at, entry, n)
	ORDER BY n ON CONFLICT DO NOTHING`)
	// The text of an entry has each quote of a value escaped. The operators of json
	// refuse an entry with a zero character.
	const transition = `entry::text LIKE '%"kind":"transition"%'`
	s.subjectRows = s.in(`WITH base AS (SELECT seq FROM {schema}.journal WHERE $7::boolean AND tenant = $1 AND subject = $2 AND at < $3 AND ` + transition + ` ORDER BY seq DESC LIMIT 1)
	SELECT entry FROM {schema}.journal WHERE tenant = $1 AND subject = $2 AND (($3::bigint = 0 OR at >= $3) AND ($4::bigint = 0 OR at < $4) OR seq = (SELECT seq FROM base))
	AND seq > coalesce((SELECT seq - 1 FROM base), (SELECT seq FROM {schema}.journal WHERE tenant = $1 AND subject = $2 AND id = $5), 0) ORDER BY seq LIMIT $6`)
	const tenantRows = `(SELECT at, seq, entry FROM {schema}.journal WHERE tenant = $1 AND ($2::bigint = 0 OR at >= $2) AND ($3::bigint = 0 OR at < $3)
	AND (at, seq) > ($4, coalesce((SELECT seq FROM {schema}.journal WHERE tenant = $1 AND subject = $5 AND id = $6), 0)) AND `
	s.tenantRows = s.in(`SELECT entry FROM (` + tenantRows + `NOT kept ORDER BY at, seq LIMIT $7) UNION ALL ` + tenantRows + `kept ORDER BY at, seq LIMIT $7)) AS r ORDER BY at, seq LIMIT $7`)
	// Of the old rows that it looks at, and those that it kept before, prune keeps of
	// each subject the last transition. Once it has looked at all old rows, that is the
	// last one before the instant. It skips rows that a deletion has locked.
	s.prune = s.in(`WITH old AS MATERIALIZED (
		SELECT ctid AS place, tenant, subject, seq, ` + transition + ` AS transition FROM {schema}.journal WHERE NOT kept AND at < $1 LIMIT $2 FOR UPDATE SKIP LOCKED
	), last AS (
		SELECT DISTINCT ON (tenant, subject) place, tenant, subject, seq FROM old WHERE transition ORDER BY tenant, subject, seq DESC
	), before AS MATERIALIZED (
		SELECT l.place AS last, l.seq AS last_seq, j.ctid AS place, j.seq FROM last l JOIN {schema}.journal j ON j.kept AND j.tenant = l.tenant AND j.subject = l.subject
		FOR UPDATE OF j SKIP LOCKED
	), keep AS MATERIALIZED (
		SELECT place FROM last EXCEPT SELECT last FROM before WHERE seq > last_seq
	), marked AS (
		UPDATE {schema}.journal SET kept = true WHERE ctid = ANY(ARRAY(SELECT place FROM keep))
	), gone AS (
		DELETE FROM {schema}.journal WHERE ctid = ANY(ARRAY(SELECT place FROM old EXCEPT SELECT place FROM keep UNION ALL SELECT place FROM before WHERE seq < last_seq)) RETURNING 1
	) SELECT (SELECT count(*) FROM old), (SELECT count(*) FROM gone)`)

	s.lockRecords = s.in(`SELECT 1 FROM {schema}.records WHERE (tenant, subject) IN (SELECT k.tenant, k.subject ` + keys + `) ORDER BY tenant, subject FOR UPDATE`)
	s.deleteRecords = s.in(`DELETE FROM {schema}.records WHERE (tenant, subject) IN (SELECT k.tenant, k.subject ` + keys + `)`)
	s.deleteJournal = s.in(`DELETE FROM {schema}.journal WHERE (tenant, subject) IN (SELECT k.tenant, k.subject ` + keys + `)`)
	s.compact = []string{s.in(`VACUUM FULL {schema}.records`), s.in(`VACUUM FULL {schema}.journal`)}
	return s
}
