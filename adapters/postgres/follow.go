package postgres

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/presence-go/presence"
)

const (
	catchUpEvery  = time.Minute     // in which everything is looked at, whatever was announced
	retryAfter    = time.Second     // what failed is tried again then
	notifyTimeout = 5 * time.Second // bounds one announcement
	maxWaiting    = 10_000          // subjects; where more wait, all are announced
	maxPayload    = 7999            // bytes, the server's limit
)

// Reloader is what follows the changes of others, which a *presence.Tracker does.
type Reloader interface {
	// Reload takes over what others have stored of the subjects given, or of all
	// that it knows where none is given.
	Reload(ctx context.Context, subjects ...presence.Ref) error
}

// Follow has a tracker take over what other processes save and delete, until ctx
// is done, whose cause it returns, or the storage is closed. It keeps a
// connection of its own to listen for what they announce, usually within
// milliseconds. Announcements can be lost, with a connection or with the process
// that was to make one: each time it connects, and every minute, Follow has the
// tracker compare everything it knows with what is stored. Announcements pass
// through a connection pooler only if that pools sessions.
func (s *Storage) Follow(ctx context.Context, tracker Reloader) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(s.ending, func() { cancel(s.closedError()) })()
	for {
		err := s.listen(ctx, tracker)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		s.log.Warn("postgres: following what others change", "error", err)
		timer := time.NewTimer(retryAfter)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return context.Cause(ctx)
		}
	}
}

// listen follows over one connection. It returns when that is lost, or when what
// was announced could not be read.
func (s *Storage) listen(ctx context.Context, tracker Reloader) error {
	conn, err := pgx.ConnectConfig(ctx, s.config.Copy())
	if err != nil {
		return err
	}
	defer func() {
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), retryAfter)
		defer cancel()
		_ = conn.Close(closing)
	}()
	if _, err := conn.Exec(ctx, "LISTEN "+pgx.Identifier{s.sql.channel}.Sanitize()); err != nil {
		return err
	}
	// What is announced from here on waits in the connection.
	for {
		if err := tracker.Reload(ctx); err != nil {
			return err
		}
		if err := s.hear(ctx, conn, tracker); err != nil {
			return err
		}
		if err := conn.Ping(ctx); err != nil { // it might have died silently
			return err
		}
	}
}

// hear passes on what is announced, until it is time to catch up.
func (s *Storage) hear(ctx context.Context, conn *pgx.Conn, tracker Reloader) error {
	until, cancel := context.WithTimeout(ctx, catchUpEvery)
	defer cancel()
	for {
		heard, err := conn.WaitForNotification(until)
		if err != nil {
			if until.Err() != nil && ctx.Err() == nil {
				return nil
			}
			return err
		}
		var news announcement
		if json.Unmarshal([]byte(heard.Payload), &news) != nil || news.From == s.name {
			continue
		}
		if err := tracker.Reload(ctx, news.Subjects...); err != nil {
			return err
		}
	}
}

// announcement says what a process has saved or deleted; everything, perhaps,
// where it names no subject.
type announcement struct {
	From     string         `json:"from"`
	Subjects []presence.Ref `json:"subjects,omitempty"`
}

// announcer collects what is to be announced.
type announcer struct {
	wake chan struct{}

	mu      sync.Mutex
	waiting map[presence.Ref]bool
	all     bool
}

func newAnnouncer() *announcer {
	return &announcer{wake: make(chan struct{}, 1), waiting: make(map[presence.Ref]bool)}
}

func (a *announcer) add(subjects ...presence.Ref) {
	a.mu.Lock()
	for _, subject := range subjects {
		a.waiting[subject] = true
	}
	if len(a.waiting) > maxWaiting {
		a.all = true
		clear(a.waiting)
	}
	a.mu.Unlock()
	select {
	case a.wake <- struct{}{}:
	default:
	}
}

// take returns what waits as payloads.
func (a *announcer) take(from string) (payloads []string, err error) {
	a.mu.Lock()
	subjects, all := slices.Collect(maps.Keys(a.waiting)), a.all
	clear(a.waiting)
	a.all = false
	a.mu.Unlock()
	if all {
		subjects = nil
	}
	for first := true; first && all || len(subjects) > 0; first = false {
		n := len(subjects)
		for {
			payload, err := json.Marshal(announcement{From: from, Subjects: subjects[:n]})
			if err != nil {
				return nil, err
			}
			if len(payload) <= maxPayload {
				payloads = append(payloads, string(payload))
				break
			}
			n = max(1, min(n-1, n*maxPayload/len(payload))) // one subject always fits
		}
		subjects = subjects[n:]
	}
	return payloads, nil
}

// announceAll announces what was saved, in transactions of their own and many at
// a time: the server lets only one transaction that notifies commit at once.
func (s *Storage) announceAll(ctx context.Context) {
	var again <-chan time.Time
	for {
		select {
		case <-s.news.wake:
		case <-again:
		case <-ctx.Done():
			_ = s.announce() // what was saved last
			return
		}
		again = nil
		if err := s.announce(); err != nil {
			s.log.Warn("postgres: announcing what was saved", "error", err)
			s.news.mu.Lock()
			s.news.all = true
			s.news.mu.Unlock()
			again = time.After(retryAfter)
		}
	}
}

func (s *Storage) announce() error {
	ctx, cancel := context.WithTimeout(context.Background(), notifyTimeout)
	defer cancel()
	payloads, err := s.news.take(s.name)
	if err != nil || len(payloads) == 0 {
		return err
	}
	batch := new(pgx.Batch)
	batch.Queue(`SELECT set_config('synchronous_commit', 'off', true)`) // for this transaction
	batch.Queue(`SELECT pg_notify($1, payload) FROM unnest($2::text[]) AS payload`, s.sql.channel, payloads)
	if err := s.pool.SendBatch(ctx, batch).Close(); err != nil {
		return because(errors.Join(err, ctx.Err()), presence.ErrUnavailable, "storage", "", "announcements cannot be received")
	}
	return nil
}

func newName() string { return rand.Text()[:12] }
