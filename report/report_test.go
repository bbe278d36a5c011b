package report_test

import (
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"math"
	"math/rand/v2"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/benbjohnson/clock"
	"github.com/stretchr/testify/require"

	"github.com/presence-go/presence"
	"github.com/presence-go/presence/adapters/memory"
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

// counted returns a journal that counts the rows that are read from before From.
func counted(j report.Journal, before *int) report.Journal {
	return func(ctx context.Context, q presence.JournalQuery) iter.Seq2[presence.JournalRow, error] {
		return func(yield func(presence.JournalRow, error) bool) {
			for r, err := range j(ctx, q) {
				if r.At < q.From {
					*before++
				}
				if !yield(r, err) {
					return
				}
			}
		}
	}
}

// TestReportsAfterACut cuts random histories at each of their rows. Each report of a
// period that begins at the cut or later has what a look at every minute of the whole
// history finds, of which nothing is unknown, and reads one row from before the period
// (faults 22 and 23, L20).
func TestReportsAfterACut(t *testing.T) {
	t.Parallel()
	ann := presence.ID("ann")
	for seed := range seeds.Range(t, 15) {
		r := rand.New(rand.NewPCG(seed, 3))
		var rows []presence.JournalRow
		for minute := range 60 {
			for range r.IntN(3) { // at times none, at times two at once
				next := row("ann", "", []string{"active", "lunch", "offline"}[r.IntN(3)], []string{"", "x"}[r.IntN(2)], minute)
				if r.IntN(2) == 0 {
					next.Kind = presence.RowClaimSet
				}
				next.ID = strconv.Itoa(len(rows))
				rows = append(rows, next)
			}
		}
		storage, err := memory.NewStorage(nil)
		require.NoError(t, err)
		require.NoError(t, storage.Append(t.Context(), rows...))
		tracker, err := presence.New(&presence.Options{Storage: storage})
		require.NoError(t, err)
		for _, cut := range rows {
			_, err := storage.Prune(t.Context(), cut.At)
			require.NoError(t, err)
			from := int(cut.At.Sub(start)/time.Minute) + r.IntN(2)*r.IntN(10)
			q := report.Query{Subjects: []presence.Ref{ann}, From: at(from), To: at(from + 1 + r.IntN(60))}
			want := minuteByMinute(rows, q.From, q.To)
			read := 0
			got := make(map[report.Sum]bool)
			for _, s := range collect(t, report.Workload(t.Context(), counted(tracker.Journal, &read), q)) {
				got[s] = true
			}
			require.Equal(t, want, got, "seed %d, from %d", seed, from)
			require.LessOrEqual(t, read, 1, "seed %d, from %d", seed, from)
		}
		require.NoError(t, tracker.Close())
	}
}

// minuteByMinute returns the sums of ann, by a look at the whole history for every
// minute.
func minuteByMinute(rows []presence.JournalRow, from, to presence.Instant) map[report.Sum]bool {
	type key struct{ status, reason string }
	type amount struct {
		lasted time.Duration
		times  int
	}
	sums := make(map[key]amount)
	for minute := from; minute < to; minute = minute.Add(time.Minute) {
		now := key{status: presence.StatusUnknown}
		for _, r := range rows {
			if r.Kind == presence.RowTransition && r.At <= minute {
				now = key{r.To, r.Reason}
				if r.At == minute {
					sums[now] = amount{sums[now].lasted, sums[now].times + 1}
				}
			}
		}
		sums[now] = amount{sums[now].lasted + time.Minute, sums[now].times}
	}
	all := make(map[report.Sum]bool)
	for k, a := range sums {
		all[report.Sum{Subject: presence.ID("ann"), From: from, To: to, Status: k.status, Reason: k.reason, For: a.lasted, Times: a.times}] = true
	}
	return all
}

// TestChoicesPushOutNoStatus checks that rows about claims, of which each change makes
// more than one, push no change of status out of a journal of 40 rows (fault 23).
func TestChoicesPushOutNoStatus(t *testing.T) {
	t.Parallel()
	storage, err := memory.NewStorage(&memory.StorageOptions{JournalRows: 40})
	require.NoError(t, err)
	for name, o := range map[string]presence.Options{"storage in memory": {Storage: storage}, "no storage": {JournalRows: 40}} {
		m := clock.NewMock()
		m.Set(start.Time())
		o.Clock = m
		tracker, err := presence.New(&o)
		require.NoError(t, err)
		ann := presence.ID("ann")
		conn, err := tracker.Connect(t.Context(), ann, presence.ConnectOptions{Login: true})
		require.NoError(t, err)
		for minute := range 100 {
			_, err := conn.Claim(t.Context(), presence.Claim{Status: []string{"busy", "away"}[minute%2]})
			require.NoError(t, err)
			for range 2 {
				m.Add(30 * time.Second)
				conn.Input()
			}
		}
		sums := collect(t, report.Workload(t.Context(), tracker.Journal, report.Query{Subjects: []presence.Ref{ann}, From: at(60), To: at(100)}))
		for i := range sums {
			sums[i].Times = 0
		}
		require.Equal(t, []report.Sum{
			{Subject: ann, From: at(60), To: at(100), Status: "busy", For: 20 * time.Minute},
			{Subject: ann, From: at(60), To: at(100), Status: "away", For: 20 * time.Minute},
		}, sums, name)
		require.NoError(t, tracker.Close())
	}
}

// L19: a row of a clock that was ahead takes no time from rows that were appended after
// it. It is dated no later than the next one, in sums and in the log.
func TestRowsOfAClockThatWasAhead(t *testing.T) {
	rows := []presence.JournalRow{
		row("ann", "", "active", "", -30),
		row("ann", "active", "lunch", "hungry", 10),
		row("ann", "lunch", "active", "", 100), // by a clock that was an hour ahead
		{ID: "claim-set/1", Subject: presence.ID("ann"), Kind: presence.RowClaimSet, To: "offline", At: at(-60)},
		row("ann", "active", "offline", "", 45),
		row("ann", "offline", "active", "", 50),
	}
	q := query("ann")
	var log, sums []string
	for _, e := range collect(t, report.Log(t.Context(), fixed(rows...), q)) {
		log = append(log, fmt.Sprint(e.To, " ", e.At.Sub(start)))
	}
	require.Equal(t, []string{"lunch 10m0s", "active 45m0s", "offline 45m0s", "active 50m0s"}, log)
	for _, s := range collect(t, report.Workload(t.Context(), fixed(rows...), q)) {
		sums = append(sums, fmt.Sprint(s.Status, " ", s.For, " ", s.Times))
	}
	require.Equal(t, []string{"active 20m0s 2", "lunch 35m0s 1", "offline 5m0s 1"}, sums)
	q.From, q.To = at(60), at(120)
	require.Empty(t, collect(t, report.Log(t.Context(), fixed(rows...), q)), "nothing happened in that hour")
	spent, err := report.Spent(t.Context(), fixed(rows...), presence.ID("ann"), "active", q.From, q.To)
	require.NoError(t, err)
	require.Equal(t, time.Hour, spent)
}

// L19: at each instant counts the last row after which none is dated later than that
// instant, however clocks were set.
func TestEveryMinuteCountsForTheLastRow(t *testing.T) {
	for seed := range seeds.Range(t, 200) {
		r := rand.New(rand.NewPCG(seed, 2))
		var rows []presence.JournalRow
		minute := -r.IntN(50)
		for i := range r.IntN(30) {
			rows = append(rows, row("ann", "", []string{"active", "lunch", "offline"}[r.IntN(3)], "", minute))
			rows[i].ID += "/" + strconv.Itoa(i)
			if minute += r.IntN(10); r.IntN(6) == 0 {
				minute += r.IntN(200) - 100
			}
		}
		want := make(map[string]time.Duration)
		for m := range 60 {
			status := presence.StatusUnknown
			for i := range rows { // the last one that is not undone by what follows
				from := rows[i].At
				for _, later := range rows[i:] {
					from = min(from, later.At)
				}
				if from <= at(m) {
					status = rows[i].To
				}
			}
			want[status] += time.Minute
		}
		got := make(map[string]time.Duration)
		for _, s := range collect(t, report.Workload(t.Context(), fixed(rows...), query("ann"))) {
			if s.For > 0 {
				got[s.Status] += s.For
			}
		}
		require.Equal(t, want, got, "seed %d", seed)
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

// Fault 24: no cell begins like a formula, whichever separator, quote or end of line a
// spreadsheet takes. What a program without formulas reads is the text and apostrophes.
func TestCellsAreNoFormulas(t *testing.T) {
	for _, reason := range []string{
		"=1", "+1", "-1", "@x", "\t=1", "\r=1", "\n=1", "\uff1d1", "\uff0b1", "\uff0d1", "\uff20x",
		"lunch;=1+1", `x";=2+5`, "lunch,-1", "lunch\t@x", "lunch|=1", "lunch\n=1", "lunch\r\n+1", "lunch; =1", " =1", "\"=1", "'=1", "a\u2028=1", "\ufeff=1", "\xff,=1",
	} {
		checkCells(t, reason, "ann", "busy")
		require.Contains(t, encodedReason(t, reason), "'", "%q", reason)
	}
	for plain, want := range map[string]string{
		"lunch": "lunch", "": "", "back at 5 - maybe": "back at 5 - maybe", "a=b": "a=b", "a,b": "a,b", "mail@home": "mail@home",
		`say "hi"`: `say "hi"`, "-5": "'-5", "a;=b": "a;'=b", "\t=1": "'\t'=1", "\tx": "'\tx",
	} {
		require.Equal(t, want, encodedReason(t, plain))
	}
}

// encodedReason returns the reason that a program reads from the log.
func encodedReason(t *testing.T, reason string) string {
	t.Helper()
	var out strings.Builder
	rows := func(yield func(report.Entry, error) bool) { yield(report.Entry{Reason: reason}, nil) }
	require.NoError(t, report.LogCSV(&out, rows))
	cells, err := csv.NewReader(strings.NewReader(out.String())).ReadAll()
	require.NoError(t, err)
	require.Len(t, cells, 2)
	require.Len(t, cells[1], 8)
	return cells[1][5]
}

// checkCells writes both reports with texts in every cell of text, and reads them in
// every usual way.
func checkCells(t *testing.T, texts ...string) {
	t.Helper()
	at := presence.At(time.Date(2026, 1, 5, 9, 0, 0, 0, time.UTC))
	for i, text := range texts {
		other := texts[(i+1)%len(texts)]
		var log, workload strings.Builder
		require.NoError(t, report.LogCSV(&log, func(yield func(report.Entry, error) bool) {
			yield(report.Entry{
				Subject: presence.Ref{Tenant: text, ID: other}, From: text, To: other, Reason: text, Cause: presence.Cause(other), Trigger: presence.Cause(text), At: at,
			}, nil)
		}))
		require.NoError(t, report.WorkloadCSV(&workload, func(yield func(report.Sum, error) bool) {
			yield(report.Sum{Subject: presence.Ref{Tenant: other, ID: text}, From: at, To: at, Status: text, Reason: other, For: time.Second}, nil)
		}))
		for _, out := range []string{log.String(), workload.String()} {
			for _, cell := range readings(out) {
				begins := strings.TrimLeftFunc(cell, func(r rune) bool { return r == '"' || unicode.IsSpace(r) || unicode.Is(unicode.Cf, r) })
				first, _ := utf8.DecodeRuneInString(begins)
				require.False(t, begins != "" && strings.ContainsRune("=+-@\uff1d\uff0b\uff0d\uff20", first), "%q: the cell %q of %q begins a formula", text, cell, out)
			}
		}
	}
}

// readings are the cells that programs make of a file: by each separator, with quotes
// and without.
func readings(file string) (cells []string) {
	for _, sep := range []rune{',', ';', '\t', '|'} {
		r := csv.NewReader(strings.NewReader(file))
		r.Comma, r.LazyQuotes, r.FieldsPerRecord = sep, true, -1
		for {
			record, err := r.Read()
			if err != nil {
				break
			}
			cells = append(cells, record...)
		}
		lines := strings.FieldsFunc(file, func(r rune) bool { return strings.ContainsRune("\r\n\v\f\u0085\u2028\u2029", r) })
		for _, line := range lines {
			cells = append(cells, strings.Split(line, string(sep))...)
			for quoted := range strings.SplitSeq(line, `"`) {
				cells = append(cells, strings.Split(quoted, string(sep))...)
			}
		}
	}
	return cells
}

func FuzzCells(f *testing.F) {
	f.Add("lunch;=1+1", "ann")
	f.Add("x\";=2+5", "a,\r\n-1")
	f.Add("'\t\"@", "\uff1d|\xff+")
	f.Fuzz(func(t *testing.T, a, b string) { checkCells(t, a, b) })
}

// Texts of separators, quotes, ends of lines and formulas only, in every short order.
func TestEveryShortText(t *testing.T) {
	letters := []string{"=", "-", "\"", "'", ",", ";", "\t", "\n", "\r", "|", " ", "x"}
	var texts func(string, int)
	texts = func(text string, left int) {
		checkCells(t, text)
		for _, letter := range letters {
			if left > 0 {
				texts(text+letter, left-1)
			}
		}
	}
	texts("", 3)
}

// clerk is one subject whose journal is kept, and whose time in each status and with
// each reason is counted beside it, from what is shown at each instant.
type clerk struct {
	*rand.Rand
	m     *presence.Machine
	s     presence.State
	now   presence.Instant
	rows  []presence.JournalRow
	shown []spell
}

// spell is a time in which the key of a report stays the same.
type spell struct {
	from           presence.Instant
	status, reason string
}

func (c *clerk) feed(t *testing.T, e presence.Event) {
	t.Helper()
	out, _, err := c.m.Step(&c.s, &e, c.now, nil)
	_ = err // a refusal changes nothing
	since := c.s.Current.Since
	for i := range out {
		if row, ok := out[i].Row(); ok {
			row.Subject = c.s.Subject
			c.rows = append(c.rows, row)
		}
		p := &out[i].Presence
		if out[i].Kind == presence.OutputUpdated && out[i].ID != "" {
			require.Equal(t, out[i].Prev, p.Status, "a new reason is no new status")
			require.Less(t, p.Since, out[i].At+1)
			require.Equal(t, since, p.Since, "the status continues")
		}
	}
	p := &c.s.Current
	if n := len(c.shown); p.Known && (n == 0 || c.shown[n-1].status != p.Status || c.shown[n-1].reason != p.Reason) {
		c.shown = append(c.shown, spell{c.now, p.Status, p.Reason})
	}
}

// pass lets time pass, deadline by deadline.
func (c *clerk) pass(t *testing.T, d time.Duration) {
	t.Helper()
	until := c.now.Add(d)
	for {
		due, ok := c.m.Next(&c.s)
		if !ok || due > until {
			break
		}
		c.now = max(c.now, due)
		c.feed(t, presence.Event{})
	}
	c.now = until
}

func (c *clerk) event() presence.Event {
	ann := presence.ID("ann")
	pick := func(list ...string) string { return list[c.IntN(len(list))] }
	e := presence.Event{Subject: ann, Actor: presence.Agent(ann), Conn: "a", Age: presence.NoAge}
	switch c.IntN(10) {
	case 0:
		e.Kind = presence.EventLogin
	case 1:
		e.Kind, e.Cause = presence.EventDisconnect, presence.CauseClosed
	case 2:
		e.Kind = presence.EventInput
	case 3:
		e.Kind = presence.EventConnect
	case 4:
		e.Kind, e.Conn = presence.EventEndClaim, ""
		if c.IntN(2) == 0 {
			e.Actor = presence.Supervisor(presence.ID("kim"))
		}
	default:
		e.Kind, e.Conn = presence.EventSetClaim, ""
		e.Claim = presence.Claim{Status: pick("available", "away", "busy", "busy"), Reason: pick("", "lunch", "training", "=1+1")}
		switch c.IntN(3) {
		case 0:
			e.Actor = presence.Supervisor(presence.ID("kim"))
		case 1:
			e.Actor = presence.System(presence.ID("host"))
			e.Claim.Source = presence.Source(pick("call", "calendar", "app"))
		}
		if c.IntN(2) == 0 {
			e.Claim.For = time.Duration(1+c.IntN(4)) * time.Minute
		}
	}
	return e
}

// sums are what a report must show of the time between two instants each: how long each key
// was shown, and how often it began.
func (c *clerk) sums(bounds []presence.Instant) (list []report.Sum) {
	for i := range len(bounds) - 1 {
		from, to := bounds[i], bounds[i+1]
		find := func(s spell) *report.Sum {
			for i := range list {
				if o := &list[i]; o.From == from && o.Status == s.status && o.Reason == s.reason {
					return o
				}
			}
			list = append(list, report.Sum{Subject: presence.ID("ann"), From: from, To: to, Status: s.status, Reason: s.reason})
			return &list[len(list)-1]
		}
		for j, s := range append([]spell{{status: presence.StatusUnknown}}, c.shown...) {
			end := to
			if j < len(c.shown) {
				end = c.shown[j].from
			}
			if d := min(end, to).Sub(max(s.from, from)); d > 0 && s.from < to {
				find(s).For += d
			}
			if s.from >= from && s.from < to && j > 0 {
				find(s).Times++
			}
		}
	}
	return list
}

// Fault 22: the sums of a report are those of what was shown, for each status and
// reason, over random histories and with a period that begins at any row. The fields
// of a sum beside its times are the key: each change of one has a row.
func TestEveryFieldOfAKeyHasRows(t *testing.T) {
	var key []string
	for field := range reflect.TypeFor[report.Sum]().Fields() {
		switch name := field.Name; name {
		case "From", "To", "For", "Times":
		default:
			key = append(key, name)
		}
	}
	require.Equal(t, []string{"Subject", "Status", "Reason"}, key, "a new field needs its rows, and a place in this test")

	p := presence.DefaultPolicy()
	p.Grace, p.Lease = presence.Grace{}, 100*time.Hour // a subject is shown as gone at the instant of its leaving
	m, err := presence.Compile(p)
	require.NoError(t, err)
	reasons := 0
	for seed := range seeds.Range(t, 300) {
		c := &clerk{Rand: rand.New(rand.NewPCG(seed, 22)), m: m, now: at(0)}
		for range 40 {
			c.feed(t, c.event())
			c.pass(t, []time.Duration{0, 0, time.Second, time.Minute, 2 * time.Minute, 6 * time.Minute}[c.IntN(6)])
		}
		q := report.Query{Subjects: []presence.Ref{presence.ID("ann")}, From: at(0).Add(-time.Minute), To: c.now.Add(time.Second)}
		for i, row := range c.rows {
			if row.Kind != presence.RowTransition {
				continue
			}
			if row.From == row.To {
				reasons++
			}
			if i > 0 && row.At > q.From && (len(q.At) == 0 || row.At > q.At[len(q.At)-1]) {
				q.At = append(q.At, row.At)
			}
		}
		for _, q := range []report.Query{{Subjects: q.Subjects, From: q.From, To: q.To}, q} {
			bounds := append(append([]presence.Instant{q.From}, q.At...), q.To)
			var sums []report.Sum
			for _, s := range collect(t, report.Workload(t.Context(), fixed(c.rows...), q)) {
				if s.For > 0 || s.Times > 0 {
					sums = append(sums, s)
				}
			}
			require.ElementsMatch(t, c.sums(bounds), sums, "seed %d", seed)
			for _, s := range sums {
				spent, err := report.Spent(t.Context(), fixed(c.rows...), s.Subject, s.Status, s.From, s.To)
				require.NoError(t, err)
				require.GreaterOrEqual(t, spent, s.For)
			}
		}
		ids := make(map[string]bool)
		for i, row := range c.rows {
			require.False(t, ids[row.ID], "seed %d: %s twice", seed, row.ID)
			ids[row.ID] = true
			require.True(t, i == 0 || row.At >= c.rows[i-1].At, "seed %d: row %d is of an earlier instant", seed, i)
		}
	}
	seeds.Count(t, "new reasons", reasons)
	if !seeds.Single() {
		require.Greater(t, reasons, 300, "too few changes of a reason under one status")
	}
}

// Rows stay in the order of time if a reason changes while a connection lingers: the
// leaving, which began before, is shown from the new reason on.
func TestReasonsWithinAGrace(t *testing.T) {
	p := presence.DefaultPolicy()
	p.Grace.Close = 30 * time.Second
	m, err := presence.Compile(p)
	require.NoError(t, err)
	c := &clerk{m: m, now: at(0)}
	ann := presence.ID("ann")
	c.feed(t, presence.Event{Kind: presence.EventLogin, Subject: ann, Conn: "a", Age: presence.NoAge})
	for _, claim := range []presence.Claim{{Status: "busy", Reason: "training"}, {Status: "busy", Reason: "lunch", For: 20 * time.Second}} {
		c.feed(t, presence.Event{Kind: presence.EventSetClaim, Actor: presence.Agent(ann), Claim: claim})
	}
	c.pass(t, 10*time.Second)
	c.feed(t, presence.Event{Kind: presence.EventDisconnect, Conn: "a", Cause: presence.CauseClosed})
	c.pass(t, time.Minute)
	var got []string
	for _, row := range c.rows {
		if row.Kind == presence.RowTransition {
			got = append(got, fmt.Sprintf("%s/%s %v", row.To, row.Reason, row.At.Sub(at(0))))
		}
	}
	require.Equal(t, []string{"available/ 0s", "busy/training 0s", "busy/lunch 0s", "busy/training 20s", "offline/ 20s"}, got)
	require.Equal(t, at(0).Add(20*time.Second), c.s.Current.Since)
}

// Ten minutes of lunch and five of training under one status are two sums, also over a
// restart. The status continues.
func TestReasonUnderOneStatus(t *testing.T) {
	mock := clock.NewMock()
	mock.Set(start.Time())
	storage, err := memory.NewStorage(nil)
	require.NoError(t, err)
	p := presence.DefaultPolicy()
	p.Idle, p.Lease = nil, time.Hour
	open := func() *presence.Tracker {
		tracker, err := presence.New(&presence.Options{Policy: &p, Clock: mock, Storage: storage})
		require.NoError(t, err)
		return tracker
	}
	ann := presence.ID("ann")
	tracker := open()
	_, err = tracker.Connect(t.Context(), ann, presence.ConnectOptions{Login: true})
	require.NoError(t, err)
	claim := func(reason string) presence.View {
		v, err := tracker.SetClaim(t.Context(), presence.Agent(ann), ann, presence.Claim{Status: "busy", Reason: reason})
		require.NoError(t, err)
		return v
	}
	began := claim("lunch")
	mock.Add(10 * time.Minute)
	now := claim("training")
	require.Equal(t, "training", now.Reason)
	require.Equal(t, began.Since, now.Since)
	mock.Add(5 * time.Minute)
	require.NoError(t, tracker.Close())
	tracker = open()
	defer tracker.Close()
	_, err = tracker.Connect(t.Context(), ann, presence.ConnectOptions{})
	require.NoError(t, err)

	q := report.Query{Subjects: []presence.Ref{ann}, From: start, To: presence.At(mock.Now())}
	got := make(map[string]report.Sum)
	for _, s := range collect(t, report.Workload(t.Context(), tracker.Journal, q)) {
		got[s.Status+"/"+s.Reason] = s
	}
	require.Equal(t, 10*time.Minute, got["busy/lunch"].For)
	require.Equal(t, 5*time.Minute, got["busy/training"].For)
	require.Equal(t, 1, got["busy/training"].Times)
	spent, err := report.Spent(t.Context(), tracker.Journal, ann, "busy", q.From, q.To)
	require.NoError(t, err)
	require.Equal(t, 15*time.Minute, spent)
	log := collect(t, report.Log(t.Context(), tracker.Journal, q))
	require.Len(t, log, 3, "a restart is no change of the reason")
	require.Equal(t, report.Entry{
		Subject: ann, From: "busy", To: "busy", Reason: "training", Cause: presence.CauseManual, Trigger: presence.CauseManual, At: start.Add(10 * time.Minute),
	}, log[2])
}
