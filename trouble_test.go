package presence_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/presence-go/presence"
	"github.com/presence-go/presence/presencetest"
)

// many is a lot of subjects with a connection each, whose records are stored.
func many(o *office, n int) (refs []presence.Ref, conns []*presence.Conn) {
	for i := range n {
		ref := presence.ID(fmt.Sprintf("subject-%d", i))
		refs = append(refs, ref)
		conns = append(conns, o.connect(ref, "tab"))
	}
	o.sweep()
	return refs, conns
}

// What many changed without anybody waiting for it is written in few calls, also
// after it could not be for a while.
func TestRecordsAreWrittenTogether(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	before := o.storage.Calls(presencetest.Save)
	refs, conns := many(o, 1000)
	require.LessOrEqual(t, o.storage.Calls(presencetest.Save)-before, 4)

	o.storage.Down()
	for _, c := range conns {
		require.NoError(t, c.Logout())
	}
	_, err := o.Sweep(t.Context())
	require.ErrorIs(t, err, presence.ErrUnavailable)
	require.Equal(t, 1000, o.Stats().RecordsBehind)
	o.storage.Up()
	before = o.storage.Calls(presencetest.Save)
	o.sweep()
	require.LessOrEqual(t, o.storage.Calls(presencetest.Save)-before, 4)
	require.Zero(t, o.Stats().RecordsBehind)
	for _, ref := range refs {
		state, _ := o.stored(ref)
		require.Equal(t, "offline", state.Current.Status)
	}
}

// One record that another tracker has written meanwhile is taken over; the
// records beside it are written all the same.
func TestRecordsAreWrittenBesideAConflict(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	refs, conns := many(o, 20)
	first := o.Tracker
	second := o.open()
	_, err := second.SetClaim(t.Context(), presence.Agent(refs[7]), refs[7], presence.Claim{Status: "busy"})
	require.NoError(t, err)
	for _, c := range conns {
		require.NoError(t, c.Logout())
	}
	_, err = first.Sweep(t.Context())
	require.NoError(t, err)
	for i, ref := range refs {
		state, _ := o.stored(ref)
		require.Equal(t, "offline", state.Current.Status, ref)
		require.Equal(t, i == 7, len(state.Claims) == 1, ref)
	}
}

// A record that is being stored for a claim does not hold up those beside it.
func TestRecordsAreWrittenBesideAClaim(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := newOffice(t)
		refs, conns := many(o, 20)
		for _, c := range conns {
			require.NoError(t, c.Logout())
		}
		held, release := o.storage.Hold(presencetest.Save)
		var wg sync.WaitGroup
		var claimed, swept error
		wg.Go(func() { claimed = o.claim(refs[0], presence.Claim{Status: "busy"}) })
		<-held
		wg.Go(func() { _, swept = o.Sweep(t.Context()) })
		<-held
		release()
		wg.Wait()
		require.NoError(t, claimed)
		require.NoError(t, swept)
		o.sweep()
		for i, ref := range refs {
			state, _ := o.stored(ref)
			require.Equal(t, "offline", state.Current.Status, ref)
			require.Equal(t, i == 0, len(state.Claims) == 1, ref)
		}
	})
}

// picky is storage that refuses the records of one subject for good.
type picky struct {
	presence.Storage
	refuses presence.Ref
}

func (p *picky) Save(ctx context.Context, writes ...presence.Write) error {
	for _, w := range writes {
		if w.Record.Subject == p.refuses {
			return fmt.Errorf("%w record: it is too large", presence.ErrInvalid)
		}
	}
	return p.Storage.Save(ctx, writes...)
}

func TestRecordsAreWrittenBesideOneThatIsRefused(t *testing.T) {
	t.Parallel()
	m := inMemory(0)
	tracker, err := presence.New(&presence.Options{Storage: &picky{m, ann}})
	require.NoError(t, err)
	for _, ref := range []presence.Ref{ann, bob} {
		_, err := tracker.Connect(t.Context(), ref, presence.ConnectOptions{})
		require.NoError(t, err)
	}
	for range 3 {
		_, err = tracker.Sweep(t.Context())
		require.ErrorContains(t, err, "the record of ann cannot be stored")
		require.Equal(t, 1, tracker.Stats().RecordsBehind)
		require.NoError(t, tracker.Stats().StorageErr, "storage works")
	}
	records, err := m.Load(t.Context(), ann, bob)
	require.NoError(t, err)
	require.Len(t, records, 1)
	require.Equal(t, bob, records[0].Subject)
}

// storageStats are the statistics of storage.
func storageStats(o *office) presence.Stats {
	s := o.Stats()
	return presence.Stats{
		StorageErr: s.StorageErr, StorageSince: s.StorageSince, RecordsBehind: s.RecordsBehind, RowsBehind: s.RowsBehind, RowsDropped: s.RowsDropped,
	}
}

func TestStatsOfStorage(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	c := o.connect(ann, "tab")
	o.sweep()
	require.Equal(t, presence.Stats{}, storageStats(o))

	o.storage.Down()
	began := presence.At(o.clock.Now())
	require.ErrorIs(t, o.claim(ann, presence.Claim{Status: "busy"}), presence.ErrUnavailable)
	h := storageStats(o)
	require.ErrorIs(t, h.StorageErr, presencetest.ErrFault)
	require.Equal(t, presence.Stats{StorageErr: h.StorageErr, StorageSince: began, RecordsBehind: 1}, h, "what was refused may be stored all the same, and is looked at again")

	o.clock.Add(time.Second)
	require.NoError(t, c.Logout())
	_, err := o.Sweep(t.Context())
	require.ErrorIs(t, err, presence.ErrUnavailable)
	h = storageStats(o)
	require.Equal(t, presence.Stats{StorageErr: h.StorageErr, StorageSince: began, RecordsBehind: 1, RowsBehind: 1}, h)

	o.storage.Up()
	o.sweep()
	require.Equal(t, presence.Stats{}, storageStats(o))

	for range 3 { // behind, stored with the next choice, and behind again
		o.storage.Down()
		require.Error(t, o.claim(ann, presence.Claim{Status: "busy"}))
		require.Equal(t, 1, o.Stats().RecordsBehind)
		o.storage.Up()
		require.NoError(t, o.claim(ann, presence.Claim{Status: "away"}))
	}
}

// A caller who gives up says nothing about storage; storage that does not
// answer in time does.
func TestStatsOfStorageThatHangs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		storage := presencetest.NewFaultyStorage(inMemory(0))
		tracker, err := presence.New(&presence.Options{Storage: storage})
		require.NoError(t, err)
		_, release := storage.Hold(presencetest.Load)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err = tracker.Connect(ctx, ann, presence.ConnectOptions{})
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.NoError(t, tracker.Stats().StorageErr)
		_, err = tracker.Connect(t.Context(), ann, presence.ConnectOptions{})
		require.ErrorIs(t, err, presence.ErrUnavailable)
		require.ErrorIs(t, tracker.Stats().StorageErr, context.DeadlineExceeded)
		release()
		_, err = tracker.Connect(t.Context(), ann, presence.ConnectOptions{})
		require.NoError(t, err)
		require.NoError(t, tracker.Stats().StorageErr)
		require.NoError(t, tracker.Close())
	})
}

// Rows wait within a bound; what did not fit is counted, and what is newest is
// stored in the end.
func TestRowsThatWaitAreBounded(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	c := o.connect(ann, "tab")
	o.storage.Down()
	for range 35_000 {
		require.NoError(t, c.Logout())
		c = o.connect(ann, "tab")
	}
	h := storageStats(o)
	require.LessOrEqual(t, h.RowsBehind, 65536)
	require.Equal(t, 70_001, h.RowsBehind+h.RowsDropped)
	o.storage.Up()
	o.sweep()
	told, rows := o.told(ann), o.rows(ann)
	require.Equal(t, told[len(told)-len(rows):], rows)
	require.Len(t, rows, h.RowsBehind)
	require.Equal(t, presence.Stats{RowsDropped: h.RowsDropped}, storageStats(o))
}

// A connection waits for what was chosen before, within a bound, and nothing
// else is shown meanwhile or after.
func TestConnectWaitsForWhatWasChosen(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := newOffice(t)
		require.NoError(t, o.AddMember(t.Context(), sales, ann))
		o.connect(ann, "tab")
		require.NoError(t, o.claim(ann, presence.Claim{Status: "busy"}))
		require.NoError(t, o.Close())

		tracker, err := presence.New(&presence.Options{Storage: o.storage, StorageTimeout: 2 * time.Second})
		require.NoError(t, err)
		require.NoError(t, tracker.AddMember(t.Context(), sales, bob))
		w, err := tracker.Watch(t.Context(), presence.Agent(bob), sales, presence.WatchOptions{})
		require.NoError(t, err)
		seen := func() (statuses []string) {
			for {
				f, err := w.Poll()
				require.NoError(t, err)
				if f == nil {
					return statuses
				}
				for _, v := range f.Members {
					if v.Subject == ann {
						statuses = append(statuses, v.Status)
					}
				}
				for _, c := range f.Changes {
					if c.View.Subject == ann {
						statuses = append(statuses, c.View.Status)
					}
				}
			}
		}
		held, release := o.storage.Hold(presencetest.Load)
		began := time.Now()
		_, err = tracker.Connect(t.Context(), ann, presence.ConnectOptions{ID: "tab"})
		require.ErrorIs(t, err, presence.ErrUnavailable)
		require.Equal(t, 2*time.Second, time.Since(began))
		<-held

		connected := make(chan error)
		go func() {
			_, err := tracker.Connect(t.Context(), ann, presence.ConnectOptions{ID: "tab"})
			connected <- errors.Join(err, tracker.AddMember(t.Context(), sales, ann))
		}()
		<-held
		require.Empty(t, seen())
		release()
		require.NoError(t, <-connected)
		_, err = tracker.Sweep(t.Context())
		require.NoError(t, err)
		require.Subset(t, []string{"busy"}, seen())
		v, err := tracker.GetAs(t.Context(), presence.AudienceTeam, ann)
		require.NoError(t, err)
		require.Equal(t, "busy", v.Status)
		require.NoError(t, w.Close())
		require.NoError(t, tracker.Close())
	})
}

func TestJournalOfATenant(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	acme := presence.Ref{Tenant: "acme", ID: "ann"}
	began := presence.At(o.clock.Now())
	var all []presence.JournalRow
	for range 700 {
		for _, ref := range []presence.Ref{ann, bob, acme} {
			o.clock.Add(time.Second)
			require.NoError(t, o.connect(ref, "tab").Logout())
		}
	}
	scan := func(q presence.JournalQuery) (rows []presence.JournalRow) {
		for row, err := range o.Journal(t.Context(), q) {
			require.NoError(t, err)
			rows = append(rows, row)
		}
		return rows
	}
	all = scan(presence.JournalQuery{})
	require.Len(t, all, 2*2*700)
	require.ElementsMatch(t, append(o.told(ann), o.told(bob)...), all)
	require.IsNonDecreasing(t, instants(all))
	require.Equal(t, all[:1500], scan(presence.JournalQuery{Limit: 1500}))
	require.Len(t, scan(presence.JournalQuery{Subject: presence.Ref{Tenant: "acme"}}), 2*700)
	require.Len(t, scan(presence.JournalQuery{From: began, To: began.Add(4 * time.Second)}), 4)
	for range o.Journal(t.Context(), presence.JournalQuery{}) {
		break
	}

	o.storage.Down()
	for _, err := range o.Journal(t.Context(), presence.JournalQuery{}) {
		require.ErrorIs(t, err, presencetest.ErrFault)
	}
	o.storage.Up()
	for _, storage := range []presence.Storage{nil, struct{ presence.Storage }{o.memory}} {
		tracker, err := presence.New(&presence.Options{Storage: storage})
		require.NoError(t, err)
		for _, err := range tracker.Journal(t.Context(), presence.JournalQuery{}) {
			require.ErrorIs(t, err, presence.ErrUnavailable)
		}
	}
	require.NoError(t, o.Close())
	for _, err := range o.Journal(t.Context(), presence.JournalQuery{}) {
		require.ErrorIs(t, err, presence.ErrClosed)
	}
}

func instants(rows []presence.JournalRow) (list []int64) {
	for _, r := range rows {
		list = append(list, int64(r.At))
	}
	return list
}
