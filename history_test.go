package presence_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/benbjohnson/clock"
	"github.com/stretchr/testify/require"

	"github.com/presence-go/presence"
	"github.com/presence-go/presence/adapters/memory"
	"github.com/presence-go/presence/presencetest"
	"github.com/presence-go/presence/preset"
)

// outcome is everything that came out of a tracker, with instants counted from its
// start.
type outcome struct {
	journal  []presence.JournalRow
	frames   []string
	notified []string
}

// live drives a tracker through a working day. The clock is moved by pass.
func live(t *testing.T, tracker *presence.Tracker, out presence.Transport, from presence.Instant, pass func(time.Duration)) (journal []presence.JournalRow) {
	t.Helper()
	ctx := t.Context()
	require.NoError(t, tracker.AddMember(ctx, sales, ann))
	w, err := tracker.Watch(ctx, presence.Agent(ann), sales, presence.WatchOptions{})
	require.NoError(t, err)
	streamed := make(chan error, 1)
	go func() { streamed <- w.Stream(context.Background(), out) }()
	pass(time.Second)

	conn, err := tracker.Connect(ctx, ann, presence.ConnectOptions{ID: "tab", Login: true})
	require.NoError(t, err)
	push := func(id string) {
		require.NoError(t, tracker.Notify(ctx, presence.Notification{ID: id, Subject: ann, Kind: "push"}))
		pass(time.Second)
	}
	push("while online")
	_, err = conn.Claim(ctx, presence.Claim{ID: "lunch", Status: "away", For: 3 * time.Minute, Reason: "lunch"})
	require.NoError(t, err)
	push("at lunch")
	for range 9 {
		pass(20 * time.Second)
		require.NoError(t, conn.Heartbeat())
	}
	push("after lunch")
	pass(90 * time.Second) // the network is lost
	conn, err = tracker.Connect(ctx, ann, presence.ConnectOptions{ID: "tab"})
	require.NoError(t, err)
	pass(2 * time.Second)
	require.NoError(t, conn.Close())
	pass(10 * time.Second)
	for row, err := range tracker.Journal(ctx, presence.JournalQuery{Subject: ann}) {
		require.NoError(t, err)
		row.At, row.Recorded = row.At-from, row.Recorded-from
		journal = append(journal, row)
	}
	require.NoError(t, tracker.Close())
	require.ErrorIs(t, <-streamed, presence.ErrClosed)
	return journal
}

func words(t *testing.T, frames []*presence.Frame) (list []string) {
	t.Helper()
	for _, f := range frames {
		for _, c := range f.Changes {
			list = append(list, string(c.Op)+" "+c.View.Status+" "+c.View.Reason)
		}
	}
	return list
}

func ids(list []presence.Notification) (names []string) {
	for _, n := range list {
		names = append(names, n.ID)
	}
	return names
}

// The same script gives the same history with a mock clock and fakes as with the
// real clock and the adapters that applications use.
func TestStatementF4SameHistoryWithFakes(t *testing.T) {
	policy := preset.ThriveDesk()
	var fake, real outcome

	mock := clock.NewMock()
	mock.Set(time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)) // when a bubble begins
	out, notifier := new(presencetest.RecordingTransport), new(presencetest.RecordingNotifier)
	tracker, err := presence.New(&presence.Options{
		Policy: &policy, Clock: mock, Notifier: notifier,
		Storage: presencetest.NewFaultyStorage(inMemory(0)),
	})
	require.NoError(t, err)
	fake.journal = live(t, tracker, out, presence.At(mock.Now()), func(d time.Duration) {
		for end := mock.Now().Add(d); ; {
			next, err := tracker.Sweep(t.Context())
			require.NoError(t, err)
			if next == 0 || next.Time().After(end) {
				mock.Set(end)
				_, err = tracker.Sweep(t.Context())
				require.NoError(t, err)
				return
			}
			mock.Set(next.Time())
		}
	})
	fake.frames, fake.notified = words(t, out.Frames()), ids(notifier.Notifications())

	synctest.Test(t, func(t *testing.T) {
		out, notifier := memory.NewTransport(memory.TransportOptions{}), memory.NewNotifier(memory.NotifierOptions{})
		tracker, err := presence.New(&presence.Options{Policy: &policy, Notifier: notifier, Storage: inMemory(0)})
		require.NoError(t, err)
		ran := make(chan error, 1)
		go func() { ran <- tracker.Run(context.Background()) }()
		real.journal = live(t, tracker, out, presence.At(time.Now()), func(d time.Duration) {
			time.Sleep(d)
			synctest.Wait()
		})
		require.NoError(t, <-ran)
		real.frames, real.notified = words(t, out.Frames()), ids(notifier.Notifications())
	})

	require.Equal(t, []string{"updated online ", "updated away lunch", "updated online ", "updated away ", "updated online ", "updated away "}, real.frames)
	require.Equal(t, []string{"while online", "after lunch"}, real.notified)
	require.NotEmpty(t, real.journal)
	require.Equal(t, real, fake)
}
