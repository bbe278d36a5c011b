package sqlite

import (
	"context"
	"database/sql"
	"fmt"
)

// applicationID marks a file as one of this package.
const applicationID = 0x70726573

// markTraces is the mark of a file that may hold traces of deleted rows.
const markTraces = "traces"

const rowColumns = `id, kind, from_status, to_status, class, cause, trigger_cause, reach, source, key, reason, by_actor, at, recorded`

// migrations lead from each version of the schema to the next. Version n has
// had the first n of them. A released migration never changes.
var migrations = []string{
	// 1
	`
CREATE TABLE records (
	tenant   TEXT NOT NULL,
	id       TEXT NOT NULL,
	revision INTEGER NOT NULL,
	data     BLOB NOT NULL,
	PRIMARY KEY (tenant, id)
);
CREATE TABLE journal (
	seq           INTEGER PRIMARY KEY,
	tenant        TEXT NOT NULL,
	subject       TEXT NOT NULL,
	id            TEXT NOT NULL,
	kind          TEXT NOT NULL,
	from_status   TEXT NOT NULL,
	to_status     TEXT NOT NULL,
	class         TEXT NOT NULL,
	cause         TEXT NOT NULL,
	trigger_cause TEXT NOT NULL,
	reach         TEXT NOT NULL,
	source        TEXT NOT NULL,
	key           TEXT NOT NULL,
	reason        TEXT NOT NULL,
	by_actor      TEXT NOT NULL,
	at            INTEGER NOT NULL,
	recorded      INTEGER NOT NULL,
	UNIQUE (tenant, subject, id)
);
CREATE INDEX journal_by_subject ON journal (tenant, subject);
CREATE TABLE marks (name TEXT PRIMARY KEY) WITHOUT ROWID;
`,
	// 2: reads a period across subjects, and within one subject without looking
	// at every row
	`
DROP INDEX journal_by_subject;
CREATE INDEX journal_by_subject ON journal (tenant, subject, seq, at);
CREATE INDEX journal_by_time ON journal (tenant, at);
`,
	// 3: marks the rows that pruning kept, of each subject the last transition, so
	// that the next pruning does not read them again
	`
ALTER TABLE journal ADD COLUMN kept INTEGER NOT NULL DEFAULT 0;
DROP INDEX journal_by_time;
CREATE INDEX journal_by_time ON journal (tenant, at) WHERE kept = 0;
CREATE INDEX journal_kept ON journal (tenant, subject, seq) WHERE kept = 1;
CREATE INDEX journal_kept_by_time ON journal (tenant, at) WHERE kept = 1;
`,
}

// migrate brings the schema up to date, completely or not at all.
func migrate(ctx context.Context, c *sql.Conn) (err error) {
	version, err := schemaVersion(ctx, c)
	if err != nil || version == len(migrations) {
		return err
	}
	if _, err := c.ExecContext(ctx, `BEGIN IMMEDIATE`); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_, _ = c.ExecContext(context.WithoutCancel(ctx), `ROLLBACK`)
		}
	}()
	if version, err = schemaVersion(ctx, c); err != nil { // another process may have been quicker
		return err
	}
	for _, m := range migrations[version:] {
		if _, err := c.ExecContext(ctx, m); err != nil {
			return fmt.Errorf("upgrading the schema from version %d: %w", version, err)
		}
	}
	if _, err := c.ExecContext(ctx, fmt.Sprintf(`PRAGMA application_id = %d; PRAGMA user_version = %d`, applicationID, len(migrations))); err != nil {
		return err
	}
	_, err = c.ExecContext(ctx, `COMMIT`)
	return err
}

// schemaVersion returns the version of the file's schema, or 0 if it has none.
func schemaVersion(ctx context.Context, c *sql.Conn) (version int, err error) {
	var application, tables int
	err = c.QueryRowContext(ctx, `SELECT (SELECT application_id FROM pragma_application_id), (SELECT user_version FROM pragma_user_version), (SELECT count(*) FROM sqlite_schema)`).
		Scan(&application, &version, &tables)
	switch {
	case err != nil:
		return 0, err
	case application != applicationID && (application != 0 || version != 0 || tables != 0):
		return 0, errForeign
	case version > len(migrations):
		return 0, fmt.Errorf("%w: version %d, this package reads up to %d", errTooNew, version, len(migrations))
	}
	return version, nil
}
