package presencetest_test

import (
	"context"
	"encoding/json"
	"errors"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/presence-go/presence"
	"github.com/presence-go/presence/adapters/memory"
	"github.com/presence-go/presence/presencetest"
)

func faulty() (*presencetest.FaultyStorage, *memory.Storage) {
	m := inMemory(0)
	return presencetest.NewFaultyStorage(m), m
}

func save(ctx context.Context, s presence.Storage, subject string, expect, revision uint64) error {
	return s.Save(ctx, presence.Write{Record: presence.Record{Subject: presence.ID(subject), Revision: revision, Data: []byte(subject)}, Expect: expect})
}

func TestFaultyStorageDown(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	s, m := faulty()
	require.NoError(t, save(ctx, s, "ann", 0, 1))

	s.Down()
	require.ErrorIs(t, save(ctx, s, "ann", 1, 2), presencetest.ErrFault)
	_, err := s.Load(ctx, presence.ID("ann"))
	require.ErrorIs(t, err, presencetest.ErrFault)
	require.ErrorIs(t, s.Append(ctx, presence.JournalRow{ID: "r", Subject: presence.ID("ann")}), presencetest.ErrFault)
	require.ErrorIs(t, s.Delete(ctx, presence.ID("ann")), presencetest.ErrFault)
	_, err = s.Journal(ctx, presence.JournalQuery{Subject: presence.ID("ann")})
	require.ErrorIs(t, err, presencetest.ErrFault)

	s.Up()
	records, err := s.Load(ctx, presence.ID("ann"))
	require.NoError(t, err)
	require.Len(t, records, 1)
	require.Equal(t, uint64(1), records[0].Revision, "nothing was carried out while it was down")
	rows, err := m.Journal(ctx, presence.JournalQuery{Subject: presence.ID("ann")})
	require.NoError(t, err)
	require.Empty(t, rows)

	require.Equal(t, 7, s.Calls())
	require.Equal(t, 2, s.Calls(presencetest.Save))
	require.Equal(t, 3, s.Calls(presencetest.Load, presencetest.Append))
}

func TestFaultyStorageFail(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	s, _ := faulty()
	s.Fail(2, presencetest.Save, presencetest.Delete)
	_, err := s.Load(ctx, presence.ID("ann"))
	require.NoError(t, err, "other methods go on")
	require.ErrorIs(t, save(ctx, s, "ann", 0, 1), presencetest.ErrFault)
	require.ErrorIs(t, s.Delete(ctx, presence.ID("ann")), presencetest.ErrFault)
	require.NoError(t, save(ctx, s, "ann", 0, 1), "two were to fail")

	s.Fail(1)
	_, err = s.Load(ctx)
	require.ErrorIs(t, err, presencetest.ErrFault, "no method means any")
	_, err = s.Load(ctx)
	require.NoError(t, err)

	s.Fail(5)
	s.Up()
	_, err = s.Load(ctx)
	require.NoError(t, err, "no fault is left")
}

func TestFaultyStorageLosesAnswers(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	s, m := faulty()
	s.LoseAnswers(1, presencetest.Save)
	require.ErrorIs(t, save(ctx, s, "ann", 0, 1), presencetest.ErrFault)
	records, err := m.Load(ctx, presence.ID("ann"))
	require.NoError(t, err)
	require.Len(t, records, 1, "it was carried out all the same")
	require.NoError(t, save(ctx, s, "ann", 0, 1), "and can be repeated")

	s.LoseAnswers(1, presencetest.Load)
	records, err = s.Load(ctx, presence.ID("ann"))
	require.ErrorIs(t, err, presencetest.ErrFault)
	require.Empty(t, records)
}

func TestFaultyStorageHold(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, m := faulty()
		held, release := s.Hold(presencetest.Save)
		_, err := s.Load(t.Context())
		require.NoError(t, err, "other methods go on")

		saved := make(chan error, 1)
		go func() { saved <- save(t.Context(), s, "ann", 0, 1) }()
		require.Equal(t, presencetest.Save, <-held)
		synctest.Wait()
		require.Empty(t, saved)
		records, err := m.Load(t.Context(), presence.ID("ann"))
		require.NoError(t, err)
		require.Empty(t, records, "nothing is done before it is released")

		ctx, cancel := context.WithCancelCause(t.Context())
		gone := make(chan error, 1)
		go func() { gone <- save(ctx, s, "bob", 0, 1) }()
		<-held
		why := errors.New("no patience")
		cancel(why)
		require.ErrorIs(t, <-gone, why)

		release()
		release() // a second release changes nothing
		require.NoError(t, <-saved)
		require.NoError(t, save(t.Context(), s, "cid", 0, 1), "nothing is held any more")
	})
}

func TestFaultyStorageFaultsOfWhatWasHeld(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, _ := faulty()
		held, release := s.Hold()
		saved := make(chan error, 1)
		go func() { saved <- save(t.Context(), s, "ann", 0, 1) }()
		<-held
		s.Down()
		release()
		require.ErrorIs(t, <-saved, presencetest.ErrFault, "it went down before the call was carried out")
	})
}

func TestFaultyStorageWithoutJournal(t *testing.T) {
	t.Parallel()
	s := presencetest.NewFaultyStorage(struct{ presence.Storage }{inMemory(0)})
	_, err := s.Journal(t.Context(), presence.JournalQuery{Subject: presence.ID("ann")})
	require.ErrorIs(t, err, presence.ErrUnavailable)
}

func TestRecordingNotifier(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var r presencetest.RecordingNotifier
		n := presence.Notification{ID: "n1", Payload: json.RawMessage(`"one"`)}
		require.NoError(t, r.Notify(t.Context(), n))
		n.Payload[1] = 'X'
		require.Equal(t, []presence.Notification{{ID: "n1", Payload: json.RawMessage(`"one"`)}}, r.Notifications())

		boom := errors.New("boom")
		r.Fail(boom)
		require.ErrorIs(t, r.Notify(t.Context(), presence.Notification{ID: "n2"}), boom)
		r.Fail(nil)

		release := r.Stall()
		notified := make(chan error, 1)
		go func() { notified <- r.Notify(t.Context(), presence.Notification{ID: "n3"}) }()
		synctest.Wait()
		require.Empty(t, notified)
		require.Len(t, r.Notifications(), 1)
		ctx, cancel := context.WithCancel(t.Context())
		gone := make(chan error, 1)
		go func() { gone <- r.Notify(ctx, presence.Notification{ID: "n4"}) }()
		synctest.Wait()
		cancel()
		require.ErrorIs(t, <-gone, context.Canceled)
		release()
		release()
		require.NoError(t, <-notified)
		require.NoError(t, r.Notify(t.Context(), presence.Notification{ID: "n5"}))

		var ids []string
		for _, n := range r.Notifications() {
			ids = append(ids, n.ID)
		}
		require.Equal(t, []string{"n1", "n3", "n5"}, ids)
	})
}

func TestRecordingTransport(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var r presencetest.RecordingTransport
		first, second := &presence.Frame{Seq: 1}, &presence.Frame{Seq: 2}
		require.NoError(t, r.Send(t.Context(), first))
		boom := errors.New("boom")
		r.Fail(boom)
		require.ErrorIs(t, r.Send(t.Context(), second), boom)
		r.Fail(nil)

		release := r.Stall()
		sent := make(chan error, 1)
		go func() { sent <- r.Send(t.Context(), second) }()
		synctest.Wait()
		require.Empty(t, sent)
		release()
		require.NoError(t, <-sent)
		require.Equal(t, []*presence.Frame{first, second}, r.Frames())
		closed, _ := r.Closed()
		require.False(t, closed)

		release = r.Stall()
		go func() { sent <- r.Send(t.Context(), first) }()
		synctest.Wait()
		require.NoError(t, r.Close(boom))
		require.ErrorIs(t, <-sent, presence.ErrClosed, "Close ends what is stalled")
		release()
		require.ErrorIs(t, r.Close(nil), presence.ErrClosed)
		require.ErrorIs(t, r.Send(t.Context(), first), presence.ErrClosed)
		closed, reason := r.Closed()
		require.True(t, closed)
		require.ErrorIs(t, reason, boom)
		require.Len(t, r.Frames(), 2)
	})
}

func TestStaticAuthorizer(t *testing.T) {
	t.Parallel()
	var got presence.Question
	a := presencetest.StaticAuthorizer(func(q presence.Question) error {
		got = q
		return presence.ErrNotAllowed
	})
	want := presence.Question{Actor: presence.Agent(presence.ID("ann")), Action: presence.ActionClaim, Subject: presence.ID("bob"), Status: "busy"}
	require.ErrorIs(t, a.Allow(t.Context(), want), presence.ErrNotAllowed)
	require.Equal(t, want, got)
	require.Equal(t, "may agent ann claim subject bob status busy?", want.String())
}
