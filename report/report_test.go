package report_test

import (
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"iter"
	"math"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/presence-go/presence"
	"github.com/presence-go/presence/internal/seeds"
	"github.com/presence-go/presence/report"
)

// fixed is a journal of fixed rows, in pages like those of a tracker.
func fixed(rows ...presence.JournalRow) report.Journal {
	return func(_ context.Context, q presence.JournalQuery) iter.Seq2[presence.JournalRow, error] {
		return func(yield func(presence.JournalRow, error) bool) {
			var own []presence.JournalRow
			for _, r := range rows {
				if r.Subject == q.Subject {
					own = append(own, r)
				}
			}
			q.Limit = len(own) + 1
			for _, r := range q.Select(own) {
				if !yield(r, nil) {
					return
				}
			}
		}
	}
}

var start = presence.At(time.Date(2026, 1, 5, 9, 0, 0, 0, time.UTC))

func at(minutes int) presence.Instant { return start.Add(time.Duration(minutes) * time.Minute) }

func row(subject, from, to, reason string, minutes int) presence.JournalRow {
	return presence.JournalRow{
		ID: "t" + strconv.Itoa(minutes), Subject: presence.ID(subject), Kind: presence.RowTransition, From: from, To: to, Reason: reason,
		Cause: presence.CauseManual, Trigger: presence.CauseManual, At: at(minutes), Recorded: at(minutes),
	}
}

var day = []presence.JournalRow{
	row("ann", "", "active", "", -30),
	row("ann", "active", "lunch", "hungry", 10),
	{ID: "claim-set/1", Subject: presence.ID("ann"), Kind: presence.RowClaimSet, To: "lunch", At: at(10)},
	row("ann", "lunch", "active", "", 40),
	row("ann", "active", "lunch", "", 50),
	row("bob", "", "active", "", 20),
}

func collect[T any](t *testing.T, rows iter.Seq2[T, error]) (list []T) {
	t.Helper()
	for r, err := range rows {
		require.NoError(t, err)
		list = append(list, r)
	}
	return list
}

func query(subjects ...string) report.Query {
	q := report.Query{From: at(0), To: at(60)}
	for _, s := range subjects {
		q.Subjects = append(q.Subjects, presence.ID(s))
	}
	return q
}

func TestLog(t *testing.T) {
	entries := collect(t, report.Log(t.Context(), fixed(day...), query("ann", "bob")))
	require.Equal(t, []report.Entry{
		{Subject: presence.ID("ann"), From: "active", To: "lunch", Reason: "hungry", Cause: "manual", Trigger: "manual", At: at(10)},
		{Subject: presence.ID("ann"), From: "lunch", To: "active", Cause: "manual", Trigger: "manual", At: at(40)},
		{Subject: presence.ID("ann"), From: "active", To: "lunch", Cause: "manual", Trigger: "manual", At: at(50)},
		{Subject: presence.ID("bob"), To: "active", Cause: "manual", Trigger: "manual", At: at(20)},
	}, entries)
}

func TestWorkload(t *testing.T) {
	sum := func(subject, status, reason string, from, to, minutes, times int) report.Sum {
		return report.Sum{
			Subject: presence.ID(subject), From: at(from), To: at(to), Status: status, Reason: reason,
			For: time.Duration(minutes) * time.Minute, Times: times,
		}
	}
	require.Equal(t, []report.Sum{
		sum("ann", "active", "", 0, 60, 20, 1),
		sum("ann", "lunch", "hungry", 0, 60, 30, 1),
		sum("ann", "lunch", "", 0, 60, 10, 1),
		sum("bob", presence.StatusUnknown, "", 0, 60, 20, 0),
		sum("bob", "active", "", 0, 60, 40, 1),
	}, collect(t, report.Workload(t.Context(), fixed(day...), query("ann", "bob"))))

	q := query("ann")
	q.Every = 30 * time.Minute
	require.Equal(t, []report.Sum{
		sum("ann", "active", "", 0, 30, 10, 0),
		sum("ann", "lunch", "hungry", 0, 30, 20, 1),
		sum("ann", "lunch", "hungry", 30, 60, 10, 0),
		sum("ann", "active", "", 30, 60, 10, 1),
		sum("ann", "lunch", "", 30, 60, 10, 1),
	}, collect(t, report.Workload(t.Context(), fixed(day...), q)))

	spent, err := report.Spent(t.Context(), fixed(day...), presence.ID("ann"), "lunch", at(0), at(60))
	require.NoError(t, err)
	require.Equal(t, 40*time.Minute, spent)
}

// TestSumsFillThePeriod checks that the sums of a subject add up to the
// observed time, for random histories and periods.
func TestSumsFillThePeriod(t *testing.T) {
	for seed := range seeds.Range(t, 300) {
		r := rand.New(rand.NewPCG(seed, 1))
		var rows []presence.JournalRow
		for minute := -r.IntN(50); minute < 200; minute += r.IntN(20) {
			rows = append(rows, row("ann", "", []string{"active", "lunch", "offline"}[r.IntN(3)], []string{"", "x"}[r.IntN(2)], minute))
			rows[len(rows)-1].ID += "/" + strconv.Itoa(len(rows))
		}
		q := query("ann")
		q.To = at(1 + r.IntN(200))
		switch r.IntN(3) {
		case 0:
			q.Every = time.Duration(1+r.IntN(90)) * time.Minute
		case 1:
			for m := 1; at(m) < q.To; m += 1 + r.IntN(60) {
				q.At = append(q.At, at(m))
			}
		}
		total := make(map[presence.Instant]time.Duration)
		ends := make(map[presence.Instant]presence.Instant)
		for _, s := range collect(t, report.Workload(t.Context(), fixed(rows...), q)) {
			total[s.From] += s.For
			ends[s.From] = s.To
		}
		var whole time.Duration
		for from, d := range total {
			require.Equal(t, ends[from].Sub(from), d, "seed %d", seed)
			whole += d
		}
		require.Equal(t, q.To.Sub(q.From), whole, "seed %d", seed)
	}
}

func TestTrackersJournal(t *testing.T) {
	tracker, err := presence.New(nil)
	require.NoError(t, err)
	defer tracker.Close()
	ann := presence.ID("ann")
	c, err := tracker.Connect(t.Context(), ann, presence.ConnectOptions{Login: true})
	require.NoError(t, err)
	_, err = c.Claim(t.Context(), presence.Claim{Status: "busy", Reason: "call"})
	require.NoError(t, err)
	now := presence.At(time.Now())
	entries := collect(t, report.Log(t.Context(), tracker.Journal, report.Query{
		Subjects: []presence.Ref{ann}, From: now.Add(-time.Hour), To: now.Add(time.Hour),
	}))
	require.Len(t, entries, 2)
	require.Equal(t, "call", entries[1].Reason)
}

func TestFormats(t *testing.T) {
	rows := append(day[:1:1], row("ann", "active", "lunch", `=1+1, "quoted"`, 5))
	var out bytes.Buffer
	require.NoError(t, report.WorkloadCSV(&out, report.Workload(t.Context(), fixed(rows...), query("ann"))))
	lines, err := csv.NewReader(&out).ReadAll()
	require.NoError(t, err)
	require.Equal(t, [][]string{
		{"tenant", "subject", "from", "to", "status", "reason", "seconds", "times"},
		{"", "ann", "2026-01-05T09:00:00Z", "2026-01-05T10:00:00Z", "active", "", "300", "0"},
		{"", "ann", "2026-01-05T09:00:00Z", "2026-01-05T10:00:00Z", "lunch", `'=1+1, "quoted"`, "3300", "1"},
	}, lines)

	out.Reset()
	require.NoError(t, report.LogCSV(&out, report.Log(t.Context(), fixed(rows...), query("ann"))))
	lines, err = csv.NewReader(&out).ReadAll()
	require.NoError(t, err)
	require.Equal(t, []string{"", "ann", "2026-01-05T09:05:00Z", "active", "lunch", `'=1+1, "quoted"`, "manual", "manual"}, lines[1])

	out.Reset()
	require.NoError(t, report.WriteJSON(&out, report.Workload(t.Context(), fixed(rows...), query("ann"))))
	var sums []map[string]any
	require.NoError(t, json.Unmarshal(out.Bytes(), &sums))
	require.Len(t, sums, 2)
	require.Equal(t, 3300.0, sums[1]["seconds"])

	out.Reset()
	require.NoError(t, report.WriteJSON(&out, report.Log(t.Context(), fixed(), query("ann"))))
	require.Equal(t, "[]\n", out.String())
}

func TestFaults(t *testing.T) {
	bad := func(change func(*report.Query)) error {
		q := query("ann")
		change(&q)
		for _, err := range report.Workload(t.Context(), fixed(day...), q) {
			return err
		}
		return nil
	}
	require.ErrorIs(t, bad(func(q *report.Query) { q.To = q.From }), presence.ErrInvalid)
	require.ErrorIs(t, bad(func(q *report.Query) { q.From = 0 }), presence.ErrInvalid)
	require.ErrorIs(t, bad(func(q *report.Query) { q.Every = -1 }), presence.ErrInvalid)
	require.ErrorIs(t, bad(func(q *report.Query) { q.Every = time.Second }), presence.ErrLimit)
	require.ErrorIs(t, bad(func(q *report.Query) { q.At = []presence.Instant{at(0)} }), presence.ErrInvalid)
	require.ErrorIs(t, bad(func(q *report.Query) { q.At = []presence.Instant{at(5), at(2)} }), presence.ErrInvalid)

	broken := errors.New("the disk is gone")
	j := func(context.Context, presence.JournalQuery) iter.Seq2[presence.JournalRow, error] {
		return func(yield func(presence.JournalRow, error) bool) { yield(presence.JournalRow{}, broken) }
	}
	var out bytes.Buffer
	require.ErrorIs(t, report.WorkloadCSV(&out, report.Workload(t.Context(), j, query("ann"))), broken)
	require.ErrorIs(t, report.WriteJSON(&out, report.Log(t.Context(), j, query("ann"))), broken)
}

// A period longer than the longest duration has a limit too.
func TestLongestPeriod(t *testing.T) {
	q := report.Query{Subjects: []presence.Ref{presence.ID("ann")}, From: presence.At(time.Date(1700, 1, 1, 0, 0, 0, 0, time.UTC)), To: presence.At(time.Date(2150, 1, 1, 0, 0, 0, 0, time.UTC)), Every: 24 * time.Hour}
	for _, err := range report.Workload(t.Context(), fixed(), q) {
		require.ErrorIs(t, err, presence.ErrLimit)
	}
	require.Equal(t, time.Duration(math.MaxInt64), q.To.Sub(q.From))
	require.Equal(t, time.Duration(math.MinInt64), q.From.Sub(q.To))
	require.Equal(t, -time.Hour, q.From.Sub(q.From.Add(time.Hour)))
}

// No cell starts like a formula of a spreadsheet.
func TestCellsAreNoFormulas(t *testing.T) {
	for _, reason := range []string{"=1", "+1", "-1", "@x", "\t=1", "\r=1", "\n=1", "\uff1d1", "\uff0b1", "\uff0d1", "\uff20x"} {
		var out strings.Builder
		rows := func(yield func(report.Entry, error) bool) { yield(report.Entry{Reason: reason}, nil) }
		require.NoError(t, report.LogCSV(&out, rows))
		cells, err := csv.NewReader(strings.NewReader(out.String())).ReadAll()
		require.NoError(t, err)
		require.Equal(t, "'", cells[1][5][:1], "%q", reason)
	}
}
