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

	db      *sql.DB // of the writing connection alone
	writer  *sql.Conn
	readers *sql.DB

	prepared                             []*sql.Stmt
	saveNew, saveOver, current, addRow   *sql.Stmt // on the writer
	deleteRecord, deleteJournal, setMark *sql.Stmt
	loadOne, subjectPage                 *sql.Stmt // on the readers
	position, tenantPage                 *sql.Stmt

	marked bool // traces of what was deleted may be left
}

// lockStep is for how long the engine waits for a lock before asking whether
// anybody still waits for the answer.
const lockStep = 50 * time.Millisecond

// openFile opens the file and brings it up to date.
func openFile(ctx context.Context, path string, o *Options, create bool) (_ *file, err error) {
	path, err = filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	f := &file{path: path}
	defer func() {
		if err != nil {
			_ = f.close()
		}
	}()
	if f.db, err = sql.Open("sqlite", source(path, o, create, false)); err != nil {
		return nil, err
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
		return nil, err
	}
	if f.info, err = os.Stat(path); err != nil {
		return nil, err
	}
	if f.readers, err = sql.Open("sqlite", source(path, o, false, true)); err != nil {
		return nil, err
	}
	f.readers.SetMaxOpenConns(o.Readers)
	f.readers.SetMaxIdleConns(o.Readers)
	prepare := func(stmt **sql.Stmt, on interface {
		PrepareContext(context.Context, string) (*sql.Stmt, error)
	}, text string,
	) {
		if err == nil {
			*stmt, err = on.PrepareContext(ctx, text)
			f.prepared = append(f.prepared, *stmt)
		}
	}
	prepare(&f.saveNew, f.writer, `INSERT INTO records (tenant, id, revision, data) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING`)
	prepare(&f.saveOver, f.writer, `UPDATE records SET revision = ?, data = ? WHERE tenant = ? AND id = ? AND revision = ?`)
	prepare(&f.current, f.writer, `SELECT revision, data FROM records WHERE tenant = ? AND id = ?`)
	prepare(&f.addRow, f.writer, `INSERT INTO journal (tenant, subject, `+rowColumns+`) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING`)
	prepare(&f.deleteRecord, f.writer, `DELETE FROM records WHERE tenant = ? AND id = ?`)
	prepare(&f.deleteJournal, f.writer, `DELETE FROM journal WHERE tenant = ? AND subject = ?`)
	prepare(&f.setMark, f.writer, `INSERT INTO marks (name) VALUES (?) ON CONFLICT DO NOTHING`)
	prepare(&f.loadOne, f.readers, `SELECT tenant, id, revision, data FROM records WHERE tenant = ? AND id = ?`)
	prepare(&f.position, f.readers, `SELECT at, seq FROM journal WHERE tenant = ? AND subject = ? AND id = ?`)
	prepare(&f.subjectPage, f.readers, `SELECT tenant, subject, `+rowColumns+` FROM journal WHERE tenant = ? AND subject = ? AND seq > ? AND at >= ? AND at <= ? ORDER BY seq LIMIT ?`)
	prepare(&f.tenantPage, f.readers, `SELECT tenant, subject, `+rowColumns+` FROM journal WHERE tenant = ? AND at >= ? AND at <= ? AND (at > ? OR seq > ?) ORDER BY at, seq LIMIT ?`)
	if err != nil {
		return nil, err
	}
	f.beside = make(map[string]fs.FileInfo)
	for _, suffix := range []string{"-wal", "-shm"} {
		if info, err := os.Stat(path + suffix); err == nil {
			f.beside[path+suffix] = info
		}
	}
	return f, f.writer.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM marks WHERE name = ?)`, markTraces).Scan(&f.marked)
}

// source is the name under which the driver opens the file.
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
	for _, stmt := range f.prepared { // otherwise the engine goes on keeping the file open
		if stmt != nil {
			errs = append(errs, stmt.Close())
		}
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

// abandon removes what lies beside a file that was closed and in whose place
// there is another one. The engine has left the log where it is, and would take
// it for that of the other file.
func (f *file) abandon() {
	for name, info := range f.beside {
		if now, err := os.Stat(name); err == nil && os.SameFile(now, info) {
			_ = os.Remove(name)
		}
	}
}

// there says whether the file is still where it was opened.
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

// errReplaced says that there is another file under the name of the one opened.
var errReplaced = errors.New("the file has been replaced")

// patiently repeats what fails because of a lock, for as long as may be.
func patiently(ctx context.Context, most time.Duration, do func() error) error {
	for deadline := time.Now().Add(most); ; {
		err := do()
		if !isBusy(err) || ctx.Err() != nil || time.Now().After(deadline) {
			return err
		}
	}
}
