package sqlite_test

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/presence-go/presence"
	"github.com/presence-go/presence/adapters/sqlite"
)

// populate writes records and rows of many subjects in random order,
// repeatedly, so that trees are rebalanced and pages are used again.
func populate(t *testing.T, s *sqlite.Storage, count, rounds int) []presence.Ref {
	t.Helper()
	random := rand.New(rand.NewPCG(1, 2))
	refs := make([]presence.Ref, count)
	for i := range refs {
		refs[i] = presence.ID(fmt.Sprintf("person-%05d-%s", i*7919%count, strings.Repeat("i", i%30)))
	}
	revisions := make([]uint64, count)
	for round := range rounds {
		var writes []presence.Write
		var rows []presence.JournalRow
		some := count
		if round > 0 {
			some /= 2
		}
		for _, i := range random.Perm(count)[:some] {
			text := secret(refs[i]) + strings.Repeat("y", random.IntN(900))
			writes = append(writes, write(refs[i], revisions[i], revisions[i]+1, text))
			rows = append(rows, presence.JournalRow{ID: fmt.Sprintf("e%d", round), Subject: refs[i], Reason: secret(refs[i]), At: presence.Instant(1 + random.IntN(1e6))})
			revisions[i]++
		}
		require.NoError(t, s.Save(t.Context(), writes...))
		require.NoError(t, s.Append(t.Context(), rows...))
	}
	return refs
}

// secret is the text of one subject.
func secret(ref presence.Ref) string { return "secret of " + ref.ID[:12] }

func TestDeleteLeavesNoTraces(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "presence.db")
	s := open(t, path, &sqlite.Options{NoSync: true})
	refs := populate(t, s, 600, 8)
	erased := refs[:200]
	var traces []string
	for _, ref := range erased {
		traces = append(traces, ref.ID[:12])
	}
	require.NotEmpty(t, filesWith(t, path, traces[0]))
	require.NoError(t, s.Delete(t.Context(), erased...))
	require.Empty(t, filesWith(t, path, traces...))
	records, err := s.Load(t.Context(), refs...)
	require.NoError(t, err)
	require.Equal(t, len(refs)-len(erased), len(records), "the others are there")
	require.NoError(t, s.Close())
	require.Empty(t, filesWith(t, path, traces...))
}

// While another process reads the deleted rows, traces stay, and Delete returns
// an error.
func TestDeleteWhileOthersRead(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "presence.db")
	s := open(t, path, &sqlite.Options{BusyTimeout: 200 * time.Millisecond})
	require.NoError(t, s.Save(t.Context(), write(ann, 0, 1, "secret of ann")))
	require.NoError(t, s.Save(t.Context(), write(bob, 0, 1, "of bob")))
	release := hold(t, asReader, path)
	err := s.Delete(t.Context(), ann)
	require.ErrorIs(t, err, presence.ErrUnavailable)
	require.ErrorContains(t, err, "traces are left")
	records, err := s.Load(t.Context(), ann)
	require.NoError(t, err)
	require.Empty(t, records)
	require.NotEmpty(t, filesWith(t, path, "secret of ann"))

	release()
	require.NoError(t, s.Delete(t.Context(), ann), "again, although there is nothing to delete any more")
	require.Empty(t, filesWith(t, path, "secret of ann"))
}

// Erase of a tracker leaves nothing in the files, and watchers see the subject
// leave.
func TestEraseLeavesNoTraces(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "presence.db")
	s := open(t, path, nil)
	tracker, err := presence.New(&presence.Options{Storage: s})
	require.NoError(t, err)
	ida, sales := presence.ID("ida-who-leaves"), presence.ChannelID("sales")
	for _, ref := range []presence.Ref{ida, bob} {
		require.NoError(t, tracker.AddMember(t.Context(), sales, ref))
		_, err := tracker.Connect(t.Context(), ref, presence.ConnectOptions{Login: true})
		require.NoError(t, err)
		_, err = tracker.SetClaim(t.Context(), presence.Agent(ref), ref, presence.Claim{Status: "busy", Reason: "code-of-" + ref.ID, Text: "text of " + ref.ID})
		require.NoError(t, err)
		_, err = tracker.Sweep(t.Context())
		require.NoError(t, err)
	}
	w, err := tracker.Watch(t.Context(), presence.Agent(bob), sales, presence.WatchOptions{})
	require.NoError(t, err)
	f, err := w.Poll()
	require.NoError(t, err)
	require.Len(t, f.Members, 2)
	traces := []string{ida.ID, "text of " + ida.ID}
	require.NotEmpty(t, filesWith(t, path, traces[1]))

	require.NoError(t, tracker.Erase(t.Context(), ida))
	require.Empty(t, filesWith(t, path, traces...))
	require.NotEmpty(t, filesWith(t, path, "text of bob"))
	f, err = w.Poll()
	require.NoError(t, err)
	require.Len(t, f.Changes, 1)
	require.Equal(t, presence.OpLeft, f.Changes[0].Op)
	require.Equal(t, ida, f.Changes[0].Subject)
	_, err = tracker.Sweep(t.Context())
	require.NoError(t, err)
	require.NoError(t, tracker.Close())
	require.NoError(t, s.Close())
	require.Empty(t, filesWith(t, path, traces...))
}
