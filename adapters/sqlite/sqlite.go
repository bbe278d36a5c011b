// Package sqlite keeps presence in one SQLite file: the choices of people and
// the journal. It is durable, without a server and without cgo.
//
//	storage, err := sqlite.Open(ctx, "presence.db", nil)
//	tracker, err := presence.New(&presence.Options{Storage: storage})
//
// # Durability
//
// A call that returns no error has been synced to the disk. Calls made at the
// same time share one transaction and one sync, each with an answer of its own:
// a refused call harms no other.
//
// # Several processes
//
// Any number of processes on one machine may open the file. They share records
// by comparing revisions. While a process holds the file for longer than
// [Options.BusyTimeout], calls of the others fail.
//
// # Trouble
//
// An error that is not about the call itself wraps [presence.ErrUnavailable]
// and names the cause: the disk is full, or the file is locked, read-only,
// corrupted or removed. The storage continues by itself once the cause is gone.
// The next call notices a removed file, since writes to it are lost. It opens a
// file that was put in its place.
//
// # Erasing
//
// [Storage.Delete] returns when the files hold nothing of the subjects. SQLite
// leaves copies where it rebalances its trees, and overwriting deleted rows
// does not reach the copies. So Delete writes the whole file again: that takes
// seconds for each gigabyte, during which nothing else is stored. Several
// subjects in one call, or in calls at the same time, cost as much as one.
package sqlite

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	driver "modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/presence-go/presence"
)

var (
	_ presence.Storage       = (*Storage)(nil)
	_ presence.JournalReader = (*Storage)(nil)
)

// Options configures a [Storage]. The zero value works.
type Options struct {
	// NoSync lets the system decide when stored data reaches the disk. A killed
	// process then loses nothing. A machine that fails loses calls that
	// returned no error.
	NoSync bool
	// BusyTimeout is how long a call waits for another process that holds the
	// file, unless its context ends before. 0 means 5s.
	BusyTimeout time.Duration
	// Retention is how long the rows of the journal are kept, counted from the
	// instant at which they happened. Older rows are deleted some at a time
	// when rows are appended, at most once an hour, but for each subject's last
	// transition before. 0 means for ever. See [Storage.Prune].
	Retention time.Duration
	// Readers is the number of calls that may read at once. 0 means 4.
	Readers int
}

// Storage is a presence.Storage and presence.JournalReader in one file. It is
// safe for concurrent use.
type Storage struct {
	path string
	opts Options

	jobs    chan *job
	closing chan struct{} // closed by Close
	ended   chan struct{} // closed once no write follows

	mu   sync.RWMutex // read-locked while reading, locked while the files change
	file *file        // nil while it cannot be opened

	closeOnce sync.Once
	closeErr  error
	// Fields of the writing goroutine: when it last pruned rows and removed
	// traces by itself.
	pruned, tidied time.Time
}

// Open opens the file at path, which it creates if it is missing, and brings
// its schema up to date; nil options mean zero ones. It returns all faults of
// the options together. It returns [presence.ErrInvalid] for a file of a newer
// version of this package, or of another application.
func Open(ctx context.Context, path string, opts *Options) (*Storage, error) {
	var o Options
	if opts != nil {
		o = *opts
	}
	var faults []error
	if path == "" || path == ":memory:" {
		faults = append(faults, refuse(presence.ErrInvalid, "storage", path, "it is not the name of a file"))
	}
	if o.BusyTimeout < 0 {
		faults = append(faults, refuse(presence.ErrInvalid, "option", "BusyTimeout", "%v is negative", o.BusyTimeout))
	}
	if o.Retention < 0 {
		faults = append(faults, refuse(presence.ErrInvalid, "option", "Retention", "%v is negative", o.Retention))
	}
	if o.Readers < 0 {
		faults = append(faults, refuse(presence.ErrInvalid, "option", "Readers", "%d is negative", o.Readers))
	}
	if err := errors.Join(faults...); err != nil {
		return nil, err
	}
	o.BusyTimeout = cmp.Or(o.BusyTimeout, 5*time.Second)
	o.Readers = cmp.Or(o.Readers, 4)
	s := &Storage{
		path: path, opts: o,
		jobs: make(chan *job, maxBatch), closing: make(chan struct{}), ended: make(chan struct{}),
	}
	f, err := openFile(ctx, path, &s.opts, true)
	if err != nil {
		return nil, s.explain(ctx, err)
	}
	s.file = f
	go s.writeAll()
	return s, nil
}

// Close waits for calls under way and closes the file. A second Close changes
// nothing and returns [presence.ErrClosed].
func (s *Storage) Close() error {
	first := false
	s.closeOnce.Do(func() {
		first = true
		close(s.closing)
		<-s.ended
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.file != nil {
			s.closeErr = s.file.close()
			s.file = nil
		}
	})
	if !first {
		return s.closedError()
	}
	if s.closeErr != nil {
		return s.explain(context.Background(), s.closeErr)
	}
	return nil
}

func (s *Storage) closedError() error { return refuse(presence.ErrClosed, "storage", s.path, "") }

func (s *Storage) isClosed() bool {
	select {
	case <-s.closing:
		return true
	default:
		return false
	}
}

// Faults of the file itself.
var (
	errGone    = errors.New("the file has been removed")
	errTraces  = errors.New("another process reads the file, so that traces are left in it; delete again")
	errForeign = errors.New("the file belongs to another application")
	errTooNew  = errors.New("the file's schema is newer than this package")
)

// explain turns an error of the engine into one of the sentinels.
func (s *Storage) explain(ctx context.Context, err error) error {
	switch {
	case err == nil || errors.Is(err, presence.ErrConflict) || errors.Is(err, presence.ErrClosed) || errors.Is(err, presence.ErrInvalid):
		return err
	case errors.Is(err, errForeign) || errors.Is(err, errTooNew):
		return refuse(presence.ErrInvalid, "storage", s.path, "%v", err)
	case ctx.Err() != nil:
		return context.Cause(ctx)
	}
	what := ""
	switch code(err) {
	case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED:
		what = fmt.Sprintf("another process has locked the file for more than %v", s.opts.BusyTimeout)
	case sqlite3.SQLITE_FULL:
		what = "the disk is full"
	case sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH:
		what = "the file or its directory cannot be written"
	case sqlite3.SQLITE_CANTOPEN:
		what = "the file cannot be opened: its directory must be there and writable"
	case sqlite3.SQLITE_NOTADB:
		what = "the file is not a database, or its beginning is corrupted"
	case sqlite3.SQLITE_CORRUPT:
		what = "the file is corrupted; restore it from a backup"
	case sqlite3.SQLITE_TOOBIG:
		return because(err, presence.ErrInvalid, "record", "", "it is too large")
	case 0:
		return because(err, presence.ErrUnavailable, "storage", s.path, "the file cannot be used")
	default:
		what = "the file cannot be used"
	}
	return because(err, presence.ErrUnavailable, "storage", s.path, "%s", what)
}

// code returns the engine's primary code of an error, or 0.
func code(err error) int {
	if e, ok := errors.AsType[*driver.Error](err); ok {
		return e.Code() & 0xff
	}
	return 0
}

func isBusy(err error) bool {
	c := code(err)
	return c == sqlite3.SQLITE_BUSY || c == sqlite3.SQLITE_LOCKED
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
