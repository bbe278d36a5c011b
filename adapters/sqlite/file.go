package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"time"
)

// file is the open file: one connection that writes, and some that read.
type file struct {
	path   string
	info   fs.FileInfo
	beside map[string]fs.FileInfo // the log and its index, by name

	db      *sql.DB // of the writing connection
	writer  *sql.Conn
	readers *sql.DB

	prepared                             []*sql.Stmt
	saveNew, saveOver, current, addRow   *sql.Stmt // on the writer
	deleteRecord, deleteJournal, setMark *sql.Stmt
	loadOne, subjectPage                 *sql.Stmt // on the readers
	position, base, tenantPage           *sql.Stmt

	marked bool // traces of deleted rows may be left
}

// lockStep is how long the engine waits for a lock. Then it is checked whether a
// caller still waits for the answer.
const lockStep = 50 * time.Millisecond

// openFile opens the file and brings its schema up to date. Only with create does it
// make a file that is missing.
func openFile(ctx context.Context, path string, o *Options, create bool) (_ *file, err error) {
	path, err = filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	f := &file{path: path}
	if err := f.open(ctx, o, create); err != nil {
		_ = f.close()
		return nil, err
	}
	return f, nil
}

// open opens the connections of a file. On an error close has to follow.
func (f *file) open(ctx context.Context, o *Options, create bool) (err error) {
	if f.db, err = sql.Open("sqlite", source(f.path, o, create, false)); err != nil {
		return err
	}
	err = patiently(ctx, o.BusyTimeout, func() error {
		if f.writer != nil {
			_ = f.writer.Close()
		}
		if f.writer, err = f.db.Conn(ctx); err != nil {
			return err
		}
		return migrate(ctx, f.writer)
	})
	if err != nil {
		return err
	}
	if f.info, err = os.Stat(f.path); err != nil {
		return err
	}
	if f.readers, err = sql.Open("sqlite", source(f.path, o, false, true)); err != nil {
		return err
	}
	f.readers.SetMaxOpenConns(o.Readers)
	f.readers.SetMaxIdleConns(o.Readers)
	if err := f.prepare(ctx); err != nil {
		return err
	}
	f.beside = make(map[string]fs.FileInfo)
	for _, suffix := range []string{"-wal", "-shm"} {
		if info, err := os.Stat(f.path + suffix); err == nil {
			f.beside[f.path+suffix] = info
		}
	}
	return f.writer.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM marks WHERE name = ?)`, markTraces).Scan(&f.marked)
}

// prepare prepares the statements of both kinds of connections.
func (f *file) prepare(ctx context.Context) error {
	const page = `SELECT tenant, subject, ` + rowColumns + `, seq FROM journal WHERE `
	for _, p := range []struct {
		stmt **sql.Stmt
		on   interface {
			PrepareContext(context.Context, string) (*sql.Stmt, error)
		}
		text string
	}{
		{&f.saveNew, f.writer, `INSERT INTO records (tenant, id, revision, data) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING`},
		{&f.saveOver, f.writer, `UPDATE records SET revision = ?, data = ? WHERE tenant = ? AND id = ? AND revision = ?`},
		{&f.current, f.writer, `SELECT revision, data FROM records WHERE tenant = ? AND id = ?`},
		{&f.addRow, f.writer, `INSERT INTO journal (tenant, subject, ` + rowColumns + `) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING`},
		{&f.deleteRecord, f.writer, `DELETE FROM records WHERE tenant = ? AND id = ?`},
		{&f.deleteJournal, f.writer, `DELETE FROM journal WHERE tenant = ? AND subject = ?`},
		{&f.setMark, f.writer, `INSERT INTO marks (name) VALUES (?) ON CONFLICT DO NOTHING`},
		{&f.loadOne, f.readers, `SELECT tenant, id, revision, data FROM records WHERE tenant = ? AND id = ?`},
		{&f.position, f.readers, `SELECT at, seq FROM journal WHERE tenant = ? AND subject = ? AND id = ?`},
		{&f.base, f.readers, `SELECT seq FROM journal WHERE tenant = ? AND subject = ? AND at < ? AND kind = 'transition' ORDER BY seq DESC LIMIT 1`},
		{&f.subjectPage, f.readers, page + `tenant = ? AND subject = ? AND seq > ? AND (at >= ? AND at <= ? OR seq = ?) ORDER BY seq LIMIT ?`},
		{&f.tenantPage, f.readers, page + `tenant = ?1 AND kept = 0 AND at >= ?2 AND at <= ?3 AND (at > ?4 OR seq > ?5) UNION ALL ` +
			page + `tenant = ?1 AND kept = 1 AND at >= ?2 AND at <= ?3 AND (at > ?4 OR seq > ?5) ORDER BY at, seq LIMIT ?6`},
	} {
		stmt, err := p.on.PrepareContext(ctx, p.text)
		if err != nil {
			return err
		}
		*p.stmt = stmt
		f.prepared = append(f.prepared, stmt)
	}
	return nil
}

// source returns the name by which the driver opens the file.
func source(path string, o *Options, create, reads bool) string {
	q := url.Values{"mode": {"rw"}}
	if create {
		q.Set("mode", "rwc")
	}
	pragma := func(name, value string) { q.Add("_pragma", name+"("+value+")") }
	pragma("busy_timeout", fmt.Sprint(lockStep.Milliseconds()))
	pragma("trusted_schema", "off")
	pragma("cell_size_check", "on")
	if reads {
		pragma("query_only", "on")
	} else {
		pragma("secure_delete", "on")
		pragma("journal_mode", "wal")
		pragma("journal_size_limit", "67108864")
		pragma("fullfsync", "on")
		if o.NoSync {
			pragma("synchronous", "off")
		} else {
			pragma("synchronous", "full")
		}
	}
	return (&url.URL{Scheme: "file", Path: path, RawQuery: q.Encode()}).String()
}

// close closes everything that is open.
func (f *file) close() error {
	var errs []error
	for _, stmt := range f.prepared { // an open statement keeps the file open
		errs = append(errs, stmt.Close())
	}
	if f.readers != nil {
		errs = append(errs, f.readers.Close())
	}
	if f.writer != nil {
		errs = append(errs, f.writer.Close())
	}
	if f.db != nil {
		errs = append(errs, f.db.Close())
	}
	return errors.Join(errs...)
}

// abandon removes the log of a closed file that another file has replaced. The
// engine leaves the log in place, and would read it as the log of the other file.
func (f *file) abandon() {
	for name, info := range f.beside {
		if now, err := os.Stat(name); err == nil && os.SameFile(now, info) {
			_ = os.Remove(name)
		}
	}
}

// there returns nil if the file is still in its place, errGone if it was removed, and
// errReplaced if another file has its name.
func (f *file) there() error {
	info, err := os.Stat(f.path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return errGone
	case err != nil:
		return err
	case !os.SameFile(info, f.info):
		return errReplaced
	}
	return nil
}

// errReplaced means that another file has the name of the opened one.
var errReplaced = errors.New("the file has been replaced")

// patiently calls do again while it fails because of a lock, until ctx is done or
// most has passed.
func patiently(ctx context.Context, most time.Duration, do func() error) error {
	for deadline := time.Now().Add(most); ; {
		err := do()
		if !isBusy(err) || ctx.Err() != nil || time.Now().After(deadline) {
			return err
		}
	}
}
