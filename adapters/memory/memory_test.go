package memory_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/presence-go/presence"
	"github.com/presence-go/presence/adapters/memory"
	"github.com/presence-go/presence/internal/seeds"
	"github.com/presence-go/presence/presencetest"
)

func TestStorageConforms(t *testing.T) {
	t.Parallel()
	presencetest.RunStorage(t, func(context.Context) (presence.Storage, error) {
		return memory.NewStorage(nil)
	})
}

func TestTransportConforms(t *testing.T) {
	t.Parallel()
	presencetest.RunTransport(t, func(context.Context) (presencetest.TransportCase, error) {
		m, err := memory.NewTransport(&memory.TransportOptions{Bound: 3})
		if err != nil {
			return presencetest.TransportCase{}, err
		}
		return presencetest.TransportCase{Transport: m, Receive: func(ctx context.Context) (*presence.Frame, error) {
			frames, err := m.Wait(ctx, 1)
			if err != nil {
				return nil, err
			}
			return frames[0], nil
		}}, nil
	})
}

func TestNotifierConforms(t *testing.T) {
	t.Parallel()
	presencetest.RunNotifier(t, func(context.Context) (presencetest.NotifierCase, error) {
		m, err := memory.NewNotifier(nil)
		if err != nil {
			return presencetest.NotifierCase{}, err
		}
		return presencetest.NotifierCase{Notifier: m, Receive: func(ctx context.Context) (presence.Notification, error) {
			notifications, err := m.Wait(ctx, 1)
			if err != nil {
				return presence.Notification{}, err
			}
			return notifications[0], nil
		}}, nil
	})
}

func row(subject, id string) presence.JournalRow {
	return presence.JournalRow{ID: id, Subject: presence.ID(subject), Kind: presence.RowTransition}
}

func ids(t *testing.T, s *memory.Storage, subject string) []string {
	t.Helper()
	rows, err := s.Journal(t.Context(), presence.JournalQuery{Subject: presence.ID(subject)})
	require.NoError(t, err)
	var list []string
	for _, r := range rows {
		list = append(list, r.ID)
	}
	return list
}

func TestJournalBounds(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		opts memory.StorageOptions
		add  []presence.JournalRow
		want map[string][]string
	}{
		{
			name: "of a subject", opts: memory.StorageOptions{JournalRows: 2},
			add:  []presence.JournalRow{row("ann", "1"), row("ann", "2"), row("bob", "1"), row("ann", "3")},
			want: map[string][]string{"ann": {"2", "3"}, "bob": {"1"}},
		},
		{
			name: "of all, whose oldest row goes first", opts: memory.StorageOptions{JournalTotal: 3},
			add:  []presence.JournalRow{row("ann", "1"), row("bob", "1"), row("ann", "2"), row("bob", "2"), row("cid", "1")},
			want: map[string][]string{"ann": {"2"}, "bob": {"2"}, "cid": {"1"}},
		},
		{
			name: "of all, one row", opts: memory.StorageOptions{JournalTotal: 1},
			add:  []presence.JournalRow{row("ann", "1"), row("bob", "1"), row("bob", "2")},
			want: map[string][]string{"ann": nil, "bob": {"2"}},
		},
		{
			name: "a subject at its bound takes no other's place", opts: memory.StorageOptions{JournalRows: 1, JournalTotal: 2},
			add:  []presence.JournalRow{row("bob", "1"), row("ann", "1"), row("ann", "2")},
			want: map[string][]string{"ann": {"2"}, "bob": {"1"}},
		},
		{
			name: "repeated rows take no place", opts: memory.StorageOptions{JournalRows: 2},
			add:  []presence.JournalRow{row("ann", "1"), row("ann", "2"), row("ann", "2"), row("ann", "1")},
			want: map[string][]string{"ann": {"1", "2"}},
		},
		{
			name: "none of a subject", opts: memory.StorageOptions{JournalRows: -1},
			add:  []presence.JournalRow{row("ann", "1")},
			want: map[string][]string{"ann": nil},
		},
		{
			name: "none at all", opts: memory.StorageOptions{JournalTotal: -1},
			add:  []presence.JournalRow{row("ann", "1")},
			want: map[string][]string{"ann": nil},
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s, err := memory.NewStorage(&test.opts)
			require.NoError(t, err)
			require.NoError(t, s.Append(t.Context(), test.add...))
			for subject, want := range test.want {
				require.Equal(t, want, ids(t, s, subject), "rows of %s", subject)
			}
		})
	}
}

func TestJournalDefaultBound(t *testing.T) {
	t.Parallel()
	s, err := memory.NewStorage(nil)
	require.NoError(t, err)
	var all []string
	for i := range 1003 {
		all = append(all, fmt.Sprint(i))
		require.NoError(t, s.Append(t.Context(), row("ann", all[i])))
	}
	require.Equal(t, all[3:], ids(t, s, "ann"))

	rows, err := s.Journal(t.Context(), presence.JournalQuery{Subject: presence.ID("ann"), After: presence.JournalRow{ID: "1"}, Limit: 2})
	require.NoError(t, err)
	require.Equal(t, "3", rows[0].ID, "a row that made room is before all that are left")
}

// Deleting gives back the room, whatever came in which order.
func TestJournalAgainstModel(t *testing.T) {
	t.Parallel()
	for seed := range seeds.Range(t, 50) {
		random := rand.New(rand.NewPCG(seed, 2))
		opts := memory.StorageOptions{JournalRows: 1 + random.IntN(4), JournalTotal: 1 + random.IntN(8)}
		s, err := memory.NewStorage(&opts)
		require.NoError(t, err)
		var model []presence.JournalRow // all rows, oldest first
		for step := range 150 {
			subject := string(rune('a' + random.IntN(4)))
			own := func(r presence.JournalRow) bool { return r.Subject.ID == subject }
			if random.IntN(10) == 0 {
				require.NoError(t, s.Delete(t.Context(), presence.ID(subject)))
				model = slices.DeleteFunc(model, own)
			} else {
				r := row(subject, fmt.Sprint(step-random.IntN(3)))
				require.NoError(t, s.Append(t.Context(), r))
				if !slices.Contains(model, r) {
					count := 0
					for _, m := range model {
						if own(m) {
							count++
						}
					}
					if count == opts.JournalRows {
						first := slices.IndexFunc(model, own)
						model = slices.Delete(model, first, first+1)
					} else if len(model) == opts.JournalTotal {
						model = model[1:]
					}
					model = append(model, r)
				}
			}
			for _, subject := range []string{"a", "b", "c", "d"} {
				var want []string
				for _, r := range model {
					if r.Subject.ID == subject {
						want = append(want, r.ID)
					}
				}
				require.Equal(t, want, ids(t, s, subject), "seed %d, step %d, rows of %s", seed, step, subject)
			}
		}
	}
}

func TestStorageClosed(t *testing.T) {
	t.Parallel()
	s, err := memory.NewStorage(nil)
	require.NoError(t, err)
	require.NoError(t, s.Close())
	_, err = s.Load(t.Context(), presence.ID("ann"))
	require.ErrorIs(t, err, presence.ErrClosed)
	_, err = s.Journal(t.Context(), presence.JournalQuery{})
	require.ErrorIs(t, err, presence.ErrClosed)
	for _, err := range []error{s.Save(t.Context()), s.Append(t.Context()), s.Delete(t.Context()), s.Close()} {
		require.ErrorIs(t, err, presence.ErrClosed)
		require.EqualError(t, err, "presence: closed storage")
	}
}

func TestStorageTellsWhyItsContextEnded(t *testing.T) {
	t.Parallel()
	why := errors.New("no patience")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(why)
	s, err := memory.NewStorage(nil)
	require.NoError(t, err)
	require.ErrorIs(t, s.Save(ctx), why)
	require.ErrorIs(t, openNotifier(t, 0).Notify(ctx, presence.Notification{}), why)
	require.ErrorIs(t, openTransport(t, 0).Send(ctx, new(presence.Frame)), why)
}

func openTransport(t *testing.T, bound int) *memory.Transport {
	t.Helper()
	m, err := memory.NewTransport(&memory.TransportOptions{Bound: bound})
	require.NoError(t, err)
	return m
}

func openNotifier(t *testing.T, bound int) *memory.Notifier {
	t.Helper()
	m, err := memory.NewNotifier(&memory.NotifierOptions{Bound: bound})
	require.NoError(t, err)
	return m
}

func TestNegativeBound(t *testing.T) {
	t.Parallel()
	const text = `presence: invalid option "Bound": -1 is negative`
	_, err := memory.NewTransport(&memory.TransportOptions{Bound: -1})
	require.ErrorIs(t, err, presence.ErrInvalid)
	require.EqualError(t, err, text)
	_, err = memory.NewNotifier(&memory.NotifierOptions{Bound: -1})
	require.EqualError(t, err, text)
}

func frames(seqs ...uint64) (list []*presence.Frame) {
	for _, seq := range seqs {
		list = append(list, &presence.Frame{Seq: seq})
	}
	return list
}

func TestTransportWaits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := openTransport(t, 2)
		all := frames(1, 2, 3, 4, 5)
		sent := make(chan error, 1)
		go func() {
			for _, f := range all {
				if err := m.Send(t.Context(), f); err != nil {
					sent <- err
					return
				}
			}
			sent <- nil
		}()
		synctest.Wait()
		require.Empty(t, sent, "two wait, there is no room for the third")
		require.Equal(t, all[:2], m.Frames())
		require.Equal(t, all[:2], m.Frames(), "they are not taken by looking")

		got, err := m.Wait(t.Context(), 4)
		require.NoError(t, err)
		require.Equal(t, all[:4], got, "more than the bound can be waited for")
		require.NoError(t, <-sent)

		ctx, cancel := context.WithCancel(t.Context())
		waited := make(chan error, 1)
		go func() {
			got, err = m.Wait(ctx, 2)
			waited <- err
		}()
		synctest.Wait()
		require.Empty(t, waited)
		cancel()
		require.ErrorIs(t, <-waited, context.Canceled)
		require.Equal(t, all[4:], got, "what there was is not lost")

		got, err = m.Wait(t.Context(), 0)
		require.NoError(t, err)
		require.Empty(t, got)
	})
}

func TestTransportClosed(t *testing.T) {
	t.Parallel()
	m := openTransport(t, 0)
	all := frames(1, 2)
	for _, f := range all {
		require.NoError(t, m.Send(t.Context(), f))
	}
	why := errors.New("evicted")
	require.NoError(t, m.Close(why))
	got, err := m.Wait(t.Context(), 3)
	require.Equal(t, all, got)
	require.ErrorIs(t, err, presence.ErrClosed)
	require.ErrorIs(t, err, why)
	require.EqualError(t, err, "presence: closed transport: evicted")
	require.ErrorIs(t, m.Send(t.Context(), all[0]), why)
	require.ErrorIs(t, m.Close(nil), why, "the first reason stays")
}

func TestNotifierKeepsTheNewest(t *testing.T) {
	t.Parallel()
	m := openNotifier(t, 2)
	payload := json.RawMessage(`{"a":1}`)
	for i := range 5 {
		require.NoError(t, m.Notify(t.Context(), presence.Notification{ID: fmt.Sprint(i), Payload: payload}))
	}
	clear(payload)
	want := []presence.Notification{{ID: "3", Payload: json.RawMessage(`{"a":1}`)}, {ID: "4", Payload: json.RawMessage(`{"a":1}`)}}
	require.Equal(t, want, m.Notifications())
	require.Equal(t, 3, m.Dropped())
	got, err := m.Wait(t.Context(), 2)
	require.NoError(t, err)
	require.Equal(t, want, got)
	require.Empty(t, m.Notifications())

	require.NoError(t, m.Notify(t.Context(), presence.Notification{ID: "5"}))
	require.NoError(t, m.Close())
	require.ErrorIs(t, m.Close(), presence.ErrClosed)
	require.ErrorIs(t, m.Notify(t.Context(), presence.Notification{ID: "6"}), presence.ErrClosed)
	got, err = m.Wait(t.Context(), 2)
	require.Equal(t, []presence.Notification{{ID: "5"}}, got)
	require.ErrorIs(t, err, presence.ErrClosed)
}

func TestNotifierWakesWhoWaits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := openNotifier(t, 0)
		got := make(chan []presence.Notification, 1)
		go func() {
			notifications, err := m.Wait(t.Context(), 2)
			if err == nil {
				got <- notifications
			}
		}()
		require.NoError(t, m.Notify(t.Context(), presence.Notification{ID: "1"}))
		synctest.Wait()
		require.Empty(t, got)
		require.NoError(t, m.Notify(t.Context(), presence.Notification{ID: "2"}))
		require.Len(t, <-got, 2)
	})
}

func Example() {
	ctx := context.Background()
	storage, _ := memory.NewStorage(nil)
	ann := presence.ID("ann")

	before, _ := presence.New(&presence.Options{Storage: storage})
	conn, _ := before.Connect(ctx, ann, presence.ConnectOptions{})
	_, _ = conn.Claim(ctx, presence.Claim{Status: "busy"})
	_ = before.Close()

	after, _ := presence.New(&presence.Options{Storage: storage})
	_, _ = after.Connect(ctx, ann, presence.ConnectOptions{})
	view, _ := after.GetAs(ctx, presence.AudienceTeam, ann)
	fmt.Println(view.Status)
	// Output: busy
}
