package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/presence-go/presence"
)

// told is the report of a child about one subject in one life.
type told struct {
	rows    []string // of the journal, in order
	settled int      // number of rows that the tracker has
	writing int      // number of settled rows when the running flush started
	written int      // number of promised rows
	claim   string   // the last promised one, "-" for none
	maybe   []string // claims tried since
	promise bool     // whether this life promised a claim
}

// life is the whole report of a child.
type life struct {
	ready    chan struct{} // closed when storage is open
	subjects map[string]*told
	promises int // promised changes of claims
	flushes  int
}

func (l *life) of(subject string) *told {
	t := l.subjects[subject]
	if t == nil {
		t = new(told)
		l.subjects[subject] = t
	}
	return t
}

// listen reads the report of a child until the child is dead.
func (l *life) listen(r io.Reader) error {
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		word := strings.Fields(lines.Text())
		if len(word) == 0 {
			return errors.New("crash: the child said nothing on a line")
		}
		switch word[0] {
		case "ready":
			close(l.ready)
		case "row":
			t := l.of(word[1])
			t.rows = append(t.rows, word[2])
		case "try":
			t := l.of(word[1])
			t.maybe = append(t.maybe, word[2])
		case "done":
			t := l.of(word[1])
			t.claim, t.maybe, t.promise = word[2], nil, true
			l.promises++
		case "failed":
		case "settled":
			t := l.of(word[1])
			t.settled = len(t.rows)
		case "writing":
			for _, t := range l.subjects {
				t.writing = t.settled
			}
		case "written":
			for _, t := range l.subjects {
				t.written = t.writing
			}
			l.flushes++
		default:
			return fmt.Errorf("crash: the child said %q", lines.Text())
		}
	}
	return lines.Err()
}

// ledger is what storage must contain, and what it contained at the last check.
type ledger struct {
	subjects map[string]*account
	counts   counts
}

type account struct {
	rows     []string // ids, as stored
	known    map[string]bool
	claim    string
	revision uint64
}

type counts struct {
	Rounds, Promises, Flushes int
	Rows                      int // stored
	Lost                      int // rows that were not promised and are not stored
	Behind                    int // promised claims without a stored row, which was not promised
}

func newLedger() *ledger {
	l := &ledger{subjects: make(map[string]*account)}
	for i := range workers * perWorker {
		l.subjects[subjectName(i).ID] = &account{known: make(map[string]bool), claim: "-"}
	}
	return l
}

// check compares the stored data with the promises of a life, and returns every
// difference. If whole, it reads the whole journal and not only the new rows.
func (l *ledger) check(ctx context.Context, s store, lived *life, whole bool) error {
	var faults []string
	l.counts.Rounds++
	l.counts.Promises += lived.promises
	l.counts.Flushes += lived.flushes
	for i := range workers * perWorker {
		ref := subjectName(i)
		found, err := l.subjects[ref.ID].check(ctx, s, ref, lived.of(ref.ID), whole, &l.counts)
		if err != nil {
			return fmt.Errorf("crash: what is stored of %s cannot be read: %w", ref, err)
		}
		for _, fault := range found {
			faults = append(faults, ref.ID+": "+fault)
		}
	}
	if len(faults) > 0 {
		return fmt.Errorf("%d promises were not kept, among them\n\t%s", len(faults), strings.Join(faults[:min(5, len(faults))], "\n\t"))
	}
	return nil
}

func (a *account) check(ctx context.Context, s store, ref presence.Ref, t *told, whole bool, c *counts) (faults []string, err error) {
	fault := func(format string, args ...any) { faults = append(faults, fmt.Sprintf(format, args...)) }

	// The claim is the last promised one, or one tried later.
	records, err := s.Load(ctx, ref)
	if err != nil {
		return nil, err
	}
	claim, revision := "-", uint64(0)
	for _, r := range records {
		state, err := r.State(0, 0)
		if err != nil {
			return nil, err
		}
		revision = r.Revision
		switch len(state.Claims) {
		case 0:
		case 1:
			claim = state.Claims[0].ID
			if text := "of " + claim; state.Claims[0].Text != text {
				fault("claim %s has the text %q", claim, state.Claims[0].Text)
			}
		default:
			fault("%d claims are stored, where each replaces the one before", len(state.Claims))
		}
	}
	allowed := append([]string{a.claim}, t.maybe...)
	if t.promise {
		allowed[0] = t.claim
	}
	if !slices.Contains(allowed, claim) {
		fault("claim %s is stored; promised was %s, tried after it were %v", claim, allowed[0], allowed[1:])
	}
	if revision < a.revision {
		fault("revision %d is stored, revision %d was before", revision, a.revision)
	}
	a.claim, a.revision = claim, revision

	// The journal is the one before, followed by the first rows of this life, at
	// least the promised ones.
	var rows []presence.JournalRow
	q := presence.JournalQuery{Subject: ref, Limit: 1000}
	if !whole && len(a.rows) > 0 {
		q.After.ID = a.rows[len(a.rows)-1]
	}
	for {
		page, err := s.Journal(ctx, q)
		if err != nil {
			return nil, err
		}
		rows = append(rows, page...)
		if len(page) < q.Limit {
			break
		}
		q.After = page[len(page)-1]
	}
	if whole {
		before := min(len(rows), len(a.rows))
		for i, id := range a.rows[:before] {
			if rows[i].ID != id {
				fault("row %d of the journal is %s, and was %s", i, rows[i].ID, id)
				break
			}
		}
		if len(rows) < len(a.rows) {
			fault("the journal has %d rows, and had %d", len(rows), len(a.rows))
		}
		rows = rows[before:]
	}
	expected := make([]string, 0, len(t.rows))
	promised := 0
	for i, id := range t.rows {
		if !a.known[id] && !slices.Contains(expected, id) { // a repeated row is stored once
			expected = append(expected, id)
		}
		if i < t.written {
			promised = len(expected)
		}
	}
	for i, row := range rows {
		switch {
		case a.known[row.ID]:
			fault("row %s is in the journal twice", row.ID)
		case i >= len(expected):
			fault("row %s is in the journal, and did not happen", row.ID)
		case row.ID != expected[i]:
			fault("row %s is in the journal where %s should be", row.ID, expected[i])
		}
		if len(faults) > 3 {
			break
		}
		a.known[row.ID] = true
		a.rows = append(a.rows, row.ID)
	}
	if len(rows) < promised {
		fault("of %d rows promised %d are in the journal; the first that is missing is %s", promised, len(rows), expected[len(rows)])
	}
	faults = append(faults, chain(rows)...)
	c.Rows += len(rows)
	c.Lost += max(0, len(expected)-len(rows))
	if t.promise && t.claim != "-" && !a.known["claim-set/"+t.claim] {
		c.Behind++
	}
	return faults, nil
}

// chain checks that the stored rows of one life have no gap. Each transition
// begins with the status that the previous one ended with, and changes the status or
// its reason. A claim is set before it ends, and only once.
func chain(rows []presence.JournalRow) (faults []string) {
	const unknown = "?" // the status before
	status, reason, claim := unknown, unknown, unknown
	for _, r := range rows {
		switch r.Kind {
		case presence.RowTransition:
			if status != unknown && r.From != status {
				faults = append(faults, fmt.Sprintf("transition %s is from %s, the one before it was to %s", r.ID, r.From, status))
			}
			if r.From == r.To && r.Reason == reason {
				faults = append(faults, fmt.Sprintf("transition %s is from %s to itself", r.ID, r.To))
			}
			status, reason = r.To, r.Reason
		case presence.RowClaimSet:
			if claim != unknown && claim != "" {
				faults = append(faults, fmt.Sprintf("%s, while %s had not ended", r.ID, claim))
			}
			claim = strings.TrimPrefix(r.ID, "claim-set/")
		case presence.RowClaimEnded:
			if claim != unknown && "claim-ended/"+claim != r.ID {
				faults = append(faults, fmt.Sprintf("%s, while the claim set last was %q", r.ID, claim))
			}
			claim = ""
		}
	}
	return faults
}
