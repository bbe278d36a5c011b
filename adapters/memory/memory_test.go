package memory_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/presence-go/presence"
	"github.com/presence-go/presence/adapters/memory"
	"github.com/presence-go/presence/internal/livestest"
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

func TestRestartAfterTheClockWasSetBack(t *testing.T) {
	t.Parallel()
	s, err := memory.NewStorage(nil)
	require.NoError(t, err)
	livestest.RestartAfterTheClockWasSetBack(t, func() presence.Storage { return s })
}

func TestReportAfterRetention(t *testing.T) {
	t.Parallel()
	s, err := memory.NewStorage(nil)
	require.NoError(t, err)
	livestest.ReportAfterRetention(t, s)
}

func row(subject, id string) presence.JournalRow {
	return presence.JournalRow{ID: id, Subject: presence.ID(subject), Kind: presence.RowTransition}
}

// claim is a row that is no transition.
func claim(subject, id string) presence.JournalRow {
	return presence.JournalRow{ID: id, Subject: presence.ID(subject), Kind: presence.RowClaimSet}
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
			want: map[string][]string{"ann": {"1", "2", "3"}, "bob": {"1"}},
		},
		{
			name: "of a subject, whose base is one transition", opts: memory.StorageOptions{JournalRows: 2},
			add:  []presence.JournalRow{row("ann", "1"), row("ann", "2"), row("ann", "3"), row("ann", "4")},
			want: map[string][]string{"ann": {"2", "3", "4"}},
		},
		{
			name: "other rows have no base", opts: memory.StorageOptions{JournalRows: 1},
			add:  []presence.JournalRow{claim("ann", "1"), claim("ann", "2"), claim("ann", "3")},
			want: map[string][]string{"ann": {"3"}},
		},
		{
			name: "other rows take no transition's place", opts: memory.StorageOptions{JournalRows: 2}, // fault 23
			add:  []presence.JournalRow{row("ann", "1"), claim("ann", "a"), claim("ann", "b"), row("ann", "2"), claim("ann", "c"), claim("ann", "d")},
			want: map[string][]string{"ann": {"1", "2", "c", "d"}},
		},
		{
			name: "transitions take no other row's place", opts: memory.StorageOptions{JournalRows: 1},
			add:  []presence.JournalRow{claim("ann", "a"), row("ann", "1"), row("ann", "2"), row("ann", "3")},
			want: map[string][]string{"ann": {"a", "2", "3"}},
		},
		{
			name: "of all, whose oldest row goes first", opts: memory.StorageOptions{JournalTotal: 3},
			add:  []presence.JournalRow{claim("ann", "1"), claim("bob", "1"), claim("ann", "2"), claim("bob", "2"), claim("cid", "1")},
			want: map[string][]string{"ann": {"2"}, "bob": {"2"}, "cid": {"1"}},
		},
		{
			name: "of all, what was in force stays", opts: memory.StorageOptions{JournalTotal: 2},
			add:  []presence.JournalRow{row("ann", "1"), row("bob", "1"), row("bob", "2"), row("bob", "3"), row("bob", "4")},
			want: map[string][]string{"ann": {"1"}, "bob": {"2", "3", "4"}},
		},
		{
			name: "of all, each kind apart", opts: memory.StorageOptions{JournalTotal: 1},
			add:  []presence.JournalRow{claim("ann", "a"), row("ann", "1"), row("bob", "1"), claim("bob", "a")},
			want: map[string][]string{"ann": {"1"}, "bob": {"1", "a"}},
		},
		{
			name: "of all, one row", opts: memory.StorageOptions{JournalTotal: 1},
			add:  []presence.JournalRow{claim("ann", "1"), claim("bob", "1"), claim("bob", "2")},
			want: map[string][]string{"ann": nil, "bob": {"2"}},
		},
		{
			name: "a subject at its bound takes no other's place", opts: memory.StorageOptions{JournalRows: 1, JournalTotal: 2},
			add:  []presence.JournalRow{claim("bob", "1"), claim("ann", "1"), claim("ann", "2")},
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
	rows, err := s.Journal(t.Context(), presence.JournalQuery{Subject: presence.ID("ann"), Limit: 2000})
	require.NoError(t, err)
	require.Len(t, rows, 1001, "1,000 and what was in force before them")
	require.Equal(t, all[2], rows[0].ID)

	rows, err = s.Journal(t.Context(), presence.JournalQuery{Subject: presence.ID("ann"), After: presence.JournalRow{ID: "1"}, Limit: 2})
	require.NoError(t, err)
	require.Equal(t, "2", rows[0].ID, "a row that made room is before all that are left")
}

// model does what a journal does in the plainest way.
type model struct {
	opts memory.StorageOptions
	rows []presence.JournalRow // all rows, oldest first
	base []presence.JournalRow // those of them that no longer count
}

// count returns the rows of a kind that count, of one subject or of all.
func (m *model) count(kind string, subject ...presence.Ref) (rows []presence.JournalRow) {
	for _, r := range m.rows {
		if r.Kind == kind && !slices.Contains(m.base, r) && (len(subject) == 0 || r.Subject == subject[0]) {
			rows = append(rows, r)
		}
	}
	return rows
}

func (m *model) add(r presence.JournalRow) {
	if slices.ContainsFunc(m.rows, func(old presence.JournalRow) bool { return old.ID == r.ID && old.Subject == r.Subject }) {
		return
	}
	if own := m.count(r.Kind, r.Subject); len(own) == m.opts.JournalRows {
		m.cut(own[0])
	} else if all := m.count(r.Kind); len(all) == m.opts.JournalTotal {
		m.cut(all[0])
	}
	m.rows = append(m.rows, r)
}

// cut takes rows out of the count. Of each subject the last transition stays of
// those that do not count.
func (m *model) cut(rows ...presence.JournalRow) {
	gone := func(r presence.JournalRow) bool { return slices.Contains(rows, r) || slices.Contains(m.base, r) }
	base := make(map[presence.Ref]presence.JournalRow)
	for _, r := range m.rows {
		if gone(r) && r.Kind == presence.RowTransition {
			base[r.Subject] = r
		}
	}
	m.rows = slices.DeleteFunc(m.rows, func(r presence.JournalRow) bool { return gone(r) && base[r.Subject] != r })
	m.base = slices.Collect(maps.Values(base))
}

// Deleting gives back the room, whatever came in which order. Cuts by number and by
// age keep what was in force.
func TestJournalAgainstModel(t *testing.T) {
	t.Parallel()
	subjects := []string{"a", "b", "c", "d"}
	for seed := range seeds.Range(t, 50) {
		random := rand.New(rand.NewPCG(seed, 2))
		m := model{opts: memory.StorageOptions{JournalRows: 1 + random.IntN(4), JournalTotal: 1 + random.IntN(8)}}
		s, err := memory.NewStorage(&m.opts)
		require.NoError(t, err)
		for step := range 150 {
			subject := subjects[random.IntN(4)]
			before := presence.Instant(step - random.IntN(20))
			switch random.IntN(20) {
			case 0, 1:
				require.NoError(t, s.Delete(t.Context(), presence.ID(subject)))
				own := func(r presence.JournalRow) bool { return r.Subject.ID == subject }
				m.rows, m.base = slices.DeleteFunc(m.rows, own), slices.DeleteFunc(m.base, own)
			case 2:
				had := len(m.rows)
				var old []presence.JournalRow
				for _, r := range m.rows {
					if r.At < before {
						old = append(old, r)
					}
				}
				m.cut(old...)
				n, err := s.Prune(t.Context(), before)
				require.NoError(t, err)
				require.Equal(t, had-len(m.rows), n, "seed %d, step %d", seed, step)
			default:
				r := row(subject, fmt.Sprint(step-random.IntN(3)))
				r.Kind = []string{presence.RowTransition, presence.RowClaimSet}[random.IntN(2)]
				r.At = presence.Instant(step - random.IntN(10)) // clocks may step back
				require.NoError(t, s.Append(t.Context(), r))
				m.add(r)
			}
			for _, subject := range subjects {
				var want []string
				for _, r := range m.rows {
					if r.Subject.ID == subject {
						want = append(want, r.ID)
					}
				}
				require.Equal(t, want, ids(t, s, subject), "seed %d, step %d, rows of %s", seed, step, subject)
			}
			all, err := s.Journal(t.Context(), presence.JournalQuery{})
			require.NoError(t, err)
			require.Equal(t, presence.JournalQuery{}.Select(m.rows), all, "seed %d, step %d", seed, step)
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
	_, err = s.Prune(t.Context(), 1)
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
