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
	catchUpEvery  = time.Minute     // after which all subjects are compared
	retryAfter    = time.Second     // after which a failed call is repeated
	notifyTimeout = 5 * time.Second // of one announcement
	maxWaiting    = 10_000          // subjects; with more, all are announced
	maxPayload    = 7999            // bytes, the server's limit
)

// Reloader takes over changes of other processes. A *presence.Tracker is one.
type Reloader interface {
	// Reload takes over what other processes have stored of the given subjects.
	// Without subjects it takes over all that it knows.
	Reload(ctx context.Context, subjects ...presence.Ref) error
}

// Follow makes a tracker take over what other processes save and delete, mostly
// within milliseconds. It returns the cause of ctx's end, or
// [presence.ErrClosed] once the storage is closed. It listens on a connection
// of its own. Announcements can be lost, with a connection or with the
// announcing process. So at each connect, and every minute, the tracker
// compares all that it knows with the stored records. A connection pooler
// passes announcements only if it pools sessions.
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

// listen follows over one connection. It returns when the connection is lost or
// the tracker cannot reload.
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
	// Announcements from here on wait in the connection.
	for {
		if err := tracker.Reload(ctx); err != nil {
			return err
		}
		if err := s.hear(ctx, conn, tracker); err != nil {
			return err
		}
		if err := conn.Ping(ctx); err != nil { // it may be broken unnoticed
			return err
		}
	}
}

// hear passes announcements to the tracker, for catchUpEvery.
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

// announcement is a list of subjects that a process has saved or deleted.
// Without subjects it stands for all.
type announcement struct {
	From     string         `json:"from"`
	Subjects []presence.Ref `json:"subjects,omitempty"`
}

// announcer collects the subjects to be announced.
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

// take removes the waiting subjects and returns them as payloads.
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

// announceAll announces saved subjects in transactions of their own, many at a
// time: the server lets only one transaction with notifications commit at once.
func (s *Storage) announceAll(ctx context.Context) {
	var again <-chan time.Time
	for {
		select {
		case <-s.news.wake:
		case <-again:
		case <-ctx.Done():
			_ = s.announce() // announces the last saves
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
