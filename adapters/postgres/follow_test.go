package postgres_test

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/presence-go/presence"
	"github.com/presence-go/presence/adapters/postgres"
	"github.com/presence-go/presence/internal/pgtest"
)

// node is one of several processes on a database.
type node struct {
	*presence.Tracker
	storage  *postgres.Storage
	statuses chan string // of ann, in order
}

func newNode(t *testing.T, s *pgtest.Server, opts postgres.Options) node {
	t.Helper()
	n := node{storage: open(t, s, opts), statuses: make(chan string, 100)}
	tracker, err := presence.New(&presence.Options{Storage: n.storage})
	require.NoError(t, err)
	tracker.Observe(func(ref presence.Ref, o *presence.Output) {
		if ref == ann && o.Kind == presence.OutputTransition {
			n.statuses <- o.Presence.Status
		}
	})
	n.Tracker = tracker
	return n
}

// follow follows until the test ends.
func (n node) follow(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- n.storage.Follow(ctx, n.Tracker) }()
	t.Cleanup(func() {
		cancel()
		require.ErrorIs(t, <-done, context.Canceled)
	})
}

func (n node) connect(t *testing.T) *presence.Conn {
	t.Helper()
	c, err := n.Connect(t.Context(), ann, presence.ConnectOptions{})
	require.NoError(t, err)
	return c
}

func claim(t *testing.T, c *presence.Conn, status string) {
	t.Helper()
	_, err := c.Claim(t.Context(), presence.Claim{Status: status})
	require.NoError(t, err)
}

// until waits until ann has a status.
func (n node) until(t *testing.T, status string) {
	t.Helper()
	for {
		select {
		case got := <-n.statuses:
			if got == status {
				return
			}
		case <-t.Context().Done():
			t.Fatalf("ann did not become %s", status)
		}
	}
}

func TestTwoTrackersOnOneDatabase(t *testing.T) {
	t.Parallel()
	opts := postgres.Options{Schema: newSchema(), Announce: true}
	a, b := newNode(t, server, opts), newNode(t, server, opts)
	atA, atB := a.connect(t), b.connect(t)
	a.follow(t)
	b.follow(t)
	claim(t, atA, "busy")
	b.until(t, "busy")
	claim(t, atB, "away") // over what a has written
	a.until(t, "away")
	_, err := atA.EndClaim(t.Context(), "")
	require.NoError(t, err)
	b.until(t, "available")

	var writing sync.WaitGroup
	errs := make([]error, 40)
	for i := range errs {
		writing.Go(func() {
			n := []node{a, b}[i%2]
			_, errs[i] = n.SetClaim(t.Context(), presence.Actor{Subject: presence.ID("system"), Role: presence.RoleSystem}, ann,
				presence.Claim{Status: "busy", Source: presence.SourceCall, Key: fmt.Sprint("call", i/4)})
		})
	}
	writing.Wait()
	for _, err := range errs {
		require.NoError(t, err)
	}
	require.NoError(t, a.Erase(t.Context(), ann))
	for {
		state, err := b.State(t.Context(), ann)
		require.NoError(t, err)
		if len(state.Claims) == 0 {
			break
		}
		<-b.statuses
	}
	require.NoError(t, a.Close())
	require.NoError(t, b.Close())
}

// Without announcements the two find out when they write.
func TestConflictsBetweenTrackers(t *testing.T) {
	t.Parallel()
	opts := postgres.Options{Schema: newSchema()}
	a, b := newNode(t, server, opts), newNode(t, server, opts)
	atA, atB := a.connect(t), b.connect(t)
	for range 5 {
		claim(t, atA, "busy")
		claim(t, atB, "away")
	}
	require.NoError(t, a.Reload(t.Context()))
	view, err := a.GetAs(t.Context(), presence.AudienceTeam, ann)
	require.NoError(t, err)
	require.Equal(t, "away", view.Status)
	require.NoError(t, a.Close())
	require.NoError(t, b.Close())
	rows, err := open(t, server, opts).Journal(t.Context(), presence.JournalQuery{Subject: ann})
	require.NoError(t, err)
	sets := 0
	for _, r := range rows {
		if r.Kind == presence.RowClaimSet {
			sets++
		}
	}
	require.Equal(t, 10, sets, "each choice is in the journal once, whoever noticed it")
}

// A change without an announcement is found at the next connect.
func TestFollowCatchesUp(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	opts := postgres.Options{Schema: "presence"}
	a, b := newNode(t, s, opts), newNode(t, s, opts)
	atA := a.connect(t)
	b.connect(t)
	claim(t, atA, "busy")
	b.follow(t)
	b.until(t, "busy")

	claim(t, atA, "away") // without an announcement
	sql(t, s, "postgres", `SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND application_name = 'presence'`)
	b.until(t, "away")

	claim(t, atA, "busy")
	require.NoError(t, s.Kill())
	require.NoError(t, s.Start(t.Context()))
	b.until(t, "busy")
}

func TestFollowEndsWithTheStorage(t *testing.T) {
	t.Parallel()
	n := newNode(t, server, postgres.Options{})
	done := make(chan error, 1)
	go func() { done <- n.storage.Follow(t.Context(), n.Tracker) }()
	require.NoError(t, n.storage.Close())
	require.ErrorIs(t, <-done, presence.ErrClosed)
	require.ErrorIs(t, n.storage.Follow(t.Context(), n.Tracker), presence.ErrClosed)
}

// heard collects what Follow passes on.
type heard chan []presence.Ref

func (h heard) Reload(_ context.Context, subjects ...presence.Ref) error {
	h <- subjects
	return nil
}

// However many subjects are saved at once, and however long their ids, all are
// announced. No process hears of its own changes.
func TestAnnouncements(t *testing.T) {
	t.Parallel()
	opts := postgres.Options{Schema: newSchema(), Announce: true}
	a, b := open(t, server, opts), open(t, server, opts)
	hears := func(s *postgres.Storage) heard {
		h := make(heard, 1000)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- s.Follow(ctx, h) }()
		t.Cleanup(func() { cancel(); <-done })
		require.Empty(t, <-h, "at first, everything")
		return h
	}
	atA, atB := hears(a), hears(b)
	all := make(map[presence.Ref]bool)
	var writes []presence.Write
	for i := range 500 {
		ref := presence.Ref{Tenant: fmt.Sprintf("%0128d", i), ID: fmt.Sprintf("%0120d", i) + `"\"\"\<`}
		all[ref] = true
		writes = append(writes, presence.Write{Record: record(ref, 1)})
	}
	require.NoError(t, a.Save(t.Context(), writes...))
	for len(all) > 0 {
		for _, ref := range <-atB {
			delete(all, ref)
		}
	}
	require.Empty(t, atA)
	require.NoError(t, b.Delete(t.Context(), writes[0].Record.Subject))
	require.Equal(t, []presence.Ref{writes[0].Record.Subject}, <-atA)

	writes = writes[:0]
	for i := range 10_001 {
		writes = append(writes, presence.Write{Record: record(presence.ID(fmt.Sprint(i)), 1)})
	}
	require.NoError(t, a.Save(t.Context(), writes...))
	require.Empty(t, <-atB, "too many to name: everything")
}
