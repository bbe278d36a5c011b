// Package livestest has tests of trackers that each storage of the project runs.
package livestest

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/presence-go/presence"
	"github.com/presence-go/presence/internal/timeline"
	"github.com/presence-go/presence/presencetest"
	"github.com/presence-go/presence/report"
)

// Journal is a storage whose journal can be cut and read.
type Journal interface {
	presence.Storage
	presence.JournalReader
	presencetest.Pruner
}

// RestartAfterTheClockWasSetBack tests L17 and L18: the clock is set back, and the process
// starts again by a clock that was set back once more. An end that was given in between is
// read as it was given and met when the clock shows it. Nothing of the record lies ahead
// of the clock. Open opens one storage, for one process after the other.
func RestartAfterTheClockWasSetBack(t *testing.T, open func() presence.Storage) {
	ctx, nine, carol := t.Context(), time.Date(2026, 1, 5, 9, 0, 0, 0, time.UTC), presence.ID("carol")
	still := timeline.NewStill(nine)
	start := func() *presence.Tracker {
		tracker, err := presence.New(&presence.Options{Clock: still, Storage: open()})
		require.NoError(t, err)
		return tracker
	}
	tracker := start()
	_, err := tracker.Connect(ctx, carol, presence.ConnectOptions{ID: "tab", Login: true})
	require.NoError(t, err)
	still.Set(nine.Add(-time.Hour))
	until := presence.At(nine.Add(-30 * time.Minute))
	calendar := presence.Claim{Status: "busy", Source: presence.SourceCalendar, Until: until}
	_, err = tracker.SetClaim(ctx, presence.System(presence.ID("cal")), carol, calendar)
	require.NoError(t, err)
	require.NoError(t, tracker.Close())

	still.Set(nine.Add(-2 * time.Hour))
	tracker = start()
	v, err := tracker.GetAs(ctx, presence.AudienceAdmin, carol)
	require.NoError(t, err)
	require.Equal(t, "busy", v.Status)
	require.Equal(t, until, v.Until)
	require.LessOrEqual(t, v.Since, tracker.Now())
	require.Equal(t, presence.At(still.Now()), tracker.Now())
	for _, left := range []time.Duration{time.Second, 0} {
		still.Set(until.Time().Add(-left))
		s, err := tracker.State(ctx, carol)
		require.NoError(t, err)
		require.Equal(t, left > 0, len(s.Claims) == 1)
	}
	require.NoError(t, tracker.Close())
}

// ReportAfterRetention tests L20 and fault 23: Ann has been on leave since the first of
// January, and rows older than 30 days were pruned on the second of March. The report of
// the last week still knows it.
func ReportAfterRetention(t *testing.T, s Journal) {
	day := func(n int) presence.Instant { return presence.At(time.Date(2026, 1, n, 8, 0, 0, 0, time.UTC)) }
	ann, bob := presence.ID("ann"), presence.ID("bob")
	moved := func(subject presence.Ref, to string, at presence.Instant) presence.JournalRow {
		return presence.JournalRow{ID: to, Subject: subject, Kind: presence.RowTransition, To: to, At: at, Recorded: at}
	}
	require.NoError(t, s.Append(t.Context(), moved(ann, "online", day(1)), moved(ann, "offline", day(1)), moved(bob, "online", day(55))))
	pruned, err := s.Prune(t.Context(), day(31))
	require.NoError(t, err)
	require.Equal(t, 1, pruned)
	tracker, err := presence.New(&presence.Options{Storage: s})
	require.NoError(t, err)
	defer tracker.Close()
	week := report.Query{Subjects: []presence.Ref{ann}, From: day(54), To: day(61)}
	var sums []report.Sum
	for sum, err := range report.Workload(t.Context(), tracker.Journal, week) {
		require.NoError(t, err)
		sums = append(sums, sum)
	}
	require.Equal(t, []report.Sum{{Subject: ann, From: week.From, To: week.To, Status: "offline", For: 7 * 24 * time.Hour}}, sums)
	spent, err := report.Spent(t.Context(), tracker.Journal, bob, presence.StatusUnknown, week.From, week.To)
	require.NoError(t, err)
	require.Equal(t, 24*time.Hour, spent, "before the first row")
}
