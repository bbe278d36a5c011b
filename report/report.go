// Package report makes two reports of a journal. The status log has every
// change of status, or of its reason, with its time and cause. The workload sums up
// how long each subject had each status for each reason.
package report

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/presence-go/presence"
)

// MaxPeriods is the limit of periods of one workload.
const MaxPeriods = 1000

// Query selects the subjects and the time of a report. From and To are
// required, because a report of an open period would change while it is read.
type Query struct {
	Subjects []presence.Ref
	From, To presence.Instant // From is included, To is not
	// Every divides the time into periods of this length, counted from From; zero
	// means one period. For days of the calendar use At.
	Every time.Duration
	// At lists the ends of periods between From and To, in order, such as the
	// midnights of a time zone. It excludes Every.
	At []presence.Instant
}

// Journal is the source of a report. [presence.Tracker.Journal] is one.
type Journal func(context.Context, presence.JournalQuery) iter.Seq2[presence.JournalRow, error]

// Entry is one line of the status log. A new reason under the same status is a line
// too, in which From equals To.
type Entry struct {
	Subject presence.Ref     `json:"subject"`
	From    string           `json:"from,omitzero"`
	To      string           `json:"to"`
	Reason  string           `json:"reason,omitzero"`
	Cause   presence.Cause   `json:"cause,omitzero"`
	Trigger presence.Cause   `json:"trigger,omitzero"`
	At      presence.Instant `json:"at"`
}

// Sum is the time that a subject had a status in one period.
type Sum struct {
	Subject presence.Ref     `json:"subject"`
	From    presence.Instant `json:"from"` // of the period
	To      presence.Instant `json:"to"`
	Status  string           `json:"status"` // presence.StatusUnknown before the first row
	Reason  string           `json:"reason,omitzero"`
	For     time.Duration    `json:"seconds"` // in JSON and CSV as seconds
	Times   int              `json:"times"`   // how often the status began in the period with this reason
}

// MarshalJSON writes the duration in seconds.
func (s Sum) MarshalJSON() ([]byte, error) {
	type plain Sum
	return json.Marshal(struct {
		plain
		For float64 `json:"seconds"`
	}{plain(s), s.For.Seconds()})
}

func (q *Query) check() error {
	switch {
	case q.From == 0 || q.To == 0 || q.To <= q.From:
		return refuse(presence.ErrInvalid, "To", "a report begins at From and ends later; %q to %q does not", q.From, q.To)
	case q.Every < 0:
		return refuse(presence.ErrInvalid, "Every", "%v is negative", q.Every)
	case q.Every > 0 && len(q.At) > 0:
		return refuse(presence.ErrInvalid, "At", "it excludes Every, which is given too")
	case !slices.IsSorted(q.At) || len(q.At) > 0 && (q.At[0] <= q.From || q.At[len(q.At)-1] >= q.To):
		return refuse(presence.ErrInvalid, "At", "the instants must be in order, between From and To")
	}
	if len(q.At) >= MaxPeriods {
		return refuse(presence.ErrLimit, "At", "a report has at most %d periods", MaxPeriods)
	}
	if q.Every > 0 && int64(q.To.Sub(q.From)/q.Every) >= MaxPeriods {
		return refuse(presence.ErrLimit, "Every", "a report has at most %d periods", MaxPeriods)
	}
	return nil
}

// refuse returns the error for a field of a query.
func refuse(sentinel error, field, format string, args ...any) error {
	return &presence.Error{Err: sentinel, What: "option", Given: field, Text: fmt.Sprintf(format, args...)}
}

// bounds are the instants at which periods begin, and the end of the last.
func (q *Query) bounds() []presence.Instant {
	list := append([]presence.Instant{q.From}, q.At...)
	if q.Every > 0 {
		for at := q.From.Add(q.Every); at < q.To; at = at.Add(q.Every) {
			list = append(list, at)
		}
	}
	return append(list, q.To)
}

// Log yields the changes of status and of its reason, subject by subject in the given
// order, each subject's in the order of time. It reads the journal of one subject
// after the other during the iteration. It ends after an error.
func Log(ctx context.Context, j Journal, q Query) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		if err := q.check(); err != nil {
			yield(Entry{}, err)
			return
		}
		for _, subject := range q.Subjects {
			rows, err := transitions(ctx, j, subject, q.From)
			if err != nil {
				yield(Entry{}, err)
				return
			}
			for _, row := range rows {
				if row.At >= q.From && row.At < q.To && !yield(entry(row), nil) {
					return
				}
			}
		}
	}
}

// transitions returns the change of a subject's status that was in force at an
// instant, and the later ones, in the order in which they were appended. None is dated
// later than the next one, so that a row of a clock that was ahead takes no time from
// the rows that follow it. Any later row may date an earlier one, so transitions reads
// to the end.
func transitions(ctx context.Context, j Journal, subject presence.Ref, from presence.Instant) (rows []presence.JournalRow, err error) {
	for row, err := range j(ctx, presence.JournalQuery{Subject: subject, From: from, Base: true}) {
		if err != nil {
			return nil, err
		}
		if row.Kind == presence.RowTransition {
			rows = append(rows, row)
		}
	}
	for i := len(rows) - 2; i >= 0; i-- {
		rows[i].At = min(rows[i].At, rows[i+1].At)
	}
	return rows, nil
}

func entry(row presence.JournalRow) Entry {
	return Entry{Subject: row.Subject, From: row.From, To: row.To, Reason: row.Reason, Cause: row.Cause, Trigger: row.Trigger, At: row.At}
}

// Workload yields how long each subject had each status and reason, period by
// period, in the order of first occurrence. The sums of one subject and period
// add up to the period. A subject begins with the status of the last row before
// the period. The time before the journal's first row counts as
// [presence.StatusUnknown].
func Workload(ctx context.Context, j Journal, q Query) iter.Seq2[Sum, error] {
	return func(yield func(Sum, error) bool) {
		if err := q.check(); err != nil {
			yield(Sum{}, err)
			return
		}
		for _, subject := range q.Subjects {
			sums, err := workload(ctx, j, subject, q.bounds())
			if err != nil {
				yield(Sum{}, err)
				return
			}
			for _, s := range sums {
				if !yield(s, nil) {
					return
				}
			}
		}
	}
}

func workload(ctx context.Context, j Journal, subject presence.Ref, bounds []presence.Instant) ([]Sum, error) {
	w := tally{subject: subject, bounds: bounds, at: bounds[0], status: presence.StatusUnknown}
	rows, err := transitions(ctx, j, subject, bounds[0])
	if err != nil {
		return nil, err
	}
	end := bounds[len(bounds)-1]
	for _, row := range rows {
		if row.At < end {
			w.change(row)
		}
	}
	w.pass(end)
	return w.sums, nil
}

// tally adds up the time of one subject.
type tally struct {
	subject        presence.Ref
	bounds         []presence.Instant
	period         int
	first          int // index of the first sum of the current period
	at             presence.Instant
	status, reason string
	sums           []Sum
}

func (w *tally) change(row presence.JournalRow) {
	w.pass(row.At)
	w.status, w.reason = row.To, row.Reason
	if row.At >= w.bounds[0] {
		w.sum().Times++
	}
}

// pass adds time in the current status.
func (w *tally) pass(to presence.Instant) {
	for w.at < to {
		end := w.bounds[w.period+1]
		until := min(to, end)
		w.sum().For += until.Sub(w.at)
		w.at = until
		w.turn()
	}
}

// turn starts the next period at the end of the current one.
func (w *tally) turn() {
	if w.at == w.bounds[w.period+1] && w.period+2 < len(w.bounds) {
		w.period++
		w.first = len(w.sums)
	}
}

func (w *tally) sum() *Sum {
	for i := w.first; i < len(w.sums); i++ {
		if s := &w.sums[i]; s.Status == w.status && s.Reason == w.reason {
			return s
		}
	}
	w.sums = append(w.sums, Sum{Subject: w.subject, From: w.bounds[w.period], To: w.bounds[w.period+1], Status: w.status, Reason: w.reason})
	return &w.sums[len(w.sums)-1]
}

// Spent returns how long a subject had a status, over all reasons.
func Spent(ctx context.Context, j Journal, subject presence.Ref, status string, from, to presence.Instant) (d time.Duration, err error) {
	for s, err := range Workload(ctx, j, Query{Subjects: []presence.Ref{subject}, From: from, To: to}) {
		if err != nil {
			return 0, err
		}
		if s.Status == status {
			d += s.For
		}
	}
	return d, nil
}

// WriteJSON writes the rows of a report as one JSON array.
func WriteJSON[T any](w io.Writer, rows iter.Seq2[T, error]) error {
	sep := "["
	for row, err := range rows {
		if err != nil {
			return err
		}
		data, err := json.Marshal(row)
		if err != nil {
			return err
		}
		if _, err := fmt.Fprintf(w, "%s\n%s", sep, data); err != nil {
			return err
		}
		sep = ","
	}
	if sep == "[" {
		_, err := io.WriteString(w, "[]\n")
		return err
	}
	_, err := io.WriteString(w, "\n]\n")
	return err
}

// LogCSV writes a status log with a header line. Text is quoted. An apostrophe stands
// before each character with which a formula begins, where a spreadsheet might read
// one, so that no cell is a formula for any separator.
func LogCSV(w io.Writer, rows iter.Seq2[Entry, error]) error {
	return writeCSV(w, rows, "tenant,subject,at,from,to,reason,cause,trigger", func(e Entry) []string {
		return []string{
			text(e.Subject.Tenant), text(e.Subject.ID), e.At.String(), text(e.From), text(e.To), text(e.Reason), text(string(e.Cause)), text(string(e.Trigger)),
		}
	})
}

// WorkloadCSV writes a workload with a header line, and text as [LogCSV] does.
// Durations are in seconds.
func WorkloadCSV(w io.Writer, rows iter.Seq2[Sum, error]) error {
	return writeCSV(w, rows, "tenant,subject,from,to,status,reason,seconds,times", func(s Sum) []string {
		seconds := strconv.FormatFloat(s.For.Seconds(), 'f', -1, 64)
		return []string{text(s.Subject.Tenant), text(s.Subject.ID), s.From.String(), s.To.String(), text(s.Status), text(s.Reason), seconds, strconv.Itoa(s.Times)}
	})
}

// writeCSV writes cells that are encoded already.
func writeCSV[T any](w io.Writer, rows iter.Seq2[T, error], head string, cells func(T) []string) error {
	out := bufio.NewWriter(w)
	fmt.Fprintln(out, head)
	for row, err := range rows {
		if err != nil {
			return cmp.Or(out.Flush(), err)
		}
		if _, err := fmt.Fprintln(out, strings.Join(cells(row), ",")); err != nil {
			return err
		}
	}
	return out.Flush()
}

// The characters with which a formula begins, also in full width, and those after
// which a program may begin a cell: separators, quotes and the ends of lines.
const (
	formulas = "=+-@\uff1d\uff0b\uff0d\uff20"
	begins   = ",;\t|\"'\r\n\v\f\u0085\u2028\u2029"
)

// text encodes a cell of text. A space at the beginning of a cell is no protection,
// since programs may remove it.
func text(s string) string {
	if s == "" {
		return ""
	}
	var b strings.Builder
	b.WriteByte('"')
	begin := true
	for i := 0; i < len(s); {
		r, width := utf8.DecodeRuneInString(s[i:])
		if begin && strings.ContainsRune(formulas, r) || i == 0 && strings.ContainsRune("\t\r\n", r) {
			b.WriteByte('\'')
		}
		if r == '"' {
			b.WriteByte('"')
		}
		b.WriteString(s[i : i+width])
		begin = strings.ContainsRune(begins, r) || begin && (unicode.IsSpace(r) || unicode.Is(unicode.Cf, r))
		i += width
	}
	b.WriteByte('"')
	return b.String()
}
