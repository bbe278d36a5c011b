package presence

import (
	"cmp"
	"context"
	"encoding/json"
	"slices"
	"time"
)

// emptyRecord is the data of a subject without a record.
var emptyRecord = []byte(`{"version":1}`)

// Record is what is stored of one subject. Data is the stored part of its state:
// [Machine.Record] writes it and [Record.State] reads it. It means nothing to
// storage.
type Record struct {
	Subject  Ref
	Revision uint64
	Data     []byte
}

// stateVersion is the version of the stored form.
const stateVersion = 1

// durable is the stored part of a State. Its instants are of the wall clock.
type durable struct {
	Version   int         `json:"version"`
	At        Instant     `json:"at,omitzero"` // up to which the state was processed when it was written
	Kind      SubjectKind `json:"kind,omitzero"`
	Claims    []Claim     `json:"claims,omitempty"`
	Endpoints []Endpoint  `json:"endpoints,omitempty"`
	Input     Instant     `json:"input,omitzero"`
	Gone      Cause       `json:"gone,omitzero"`
	GoneAt    Instant     `json:"goneAt,omitzero"`
	LoggedIn  Instant     `json:"loggedIn,omitzero"`
	Disabled  bool        `json:"disabled,omitzero"`
	Epoch     uint32      `json:"epoch"`
	Serial    uint64      `json:"serial"`
	Status    string      `json:"status,omitzero"`
	Class     Class       `json:"class,omitzero"`
	Cause     Cause       `json:"cause,omitzero"`
	Since     Instant     `json:"since,omitzero"`
	Reason    string      `json:"reason,omitzero"` // that shows
	Reach     Reach       `json:"reach,omitzero"`
	Seen      []seen      `json:"seen,omitempty"`
	Pending   *Claim      `json:"pending,omitzero"`
	Meanwhile *Claim      `json:"meanwhile,omitzero"` // of Pending
	Requests  []Request   `json:"requests,omitempty"`
	Revision  Instant     `json:"revision,omitzero"`
	Requeued  Instant     `json:"requeued,omitzero"`
}

// Record returns the record of s, with the revision that the caller gives. It has
// everything but connections, loads and challenges. Its instants are those that the
// wall clock showed, so that another process can read them.
func (m *Machine) Record(s *State, revision uint64) (Record, error) {
	input := m.lastInput(s)
	d := durable{
		Version: stateVersion, At: max(s.Now, input), Kind: s.Kind, Claims: s.Claims, Endpoints: s.Endpoints, Input: input,
		Gone: s.LeftCause, GoneAt: s.LeftAt, LoggedIn: s.LoggedIn, Disabled: s.Disabled, Epoch: s.Epoch, Serial: s.Serial,
		Status: s.Current.Status, Class: s.Current.Class, Cause: s.Current.Cause, Since: s.Current.Since, Reason: s.Current.Reason,
		Reach: s.Current.Reach, Seen: s.Current.seen, Revision: s.Current.Revision,
	}
	if w := s.Work; w != nil {
		d.Pending, d.Requests, d.Requeued = w.Pending, w.Requests, w.Requeued
		if w.Pending != nil {
			d.Meanwhile = w.meanwhile
		}
	}
	if s.Behind != 0 {
		d.move(func(at Instant) Instant { return s.wall(at) })
	}
	data, err := json.Marshal(d)
	if err != nil {
		return Record{}, refuse(ErrInvalid, "record", s.Subject.String(), "it cannot be encoded").because(err)
	}
	return Record{Subject: s.Subject, Revision: revision, Data: data}, nil
}

// clockSkew is the most by which the clocks of two processes may differ.
const clockSkew = 2 * time.Second

// move replaces each instant that has passed and is not 0. It changes no list in
// place. An Until stays, since it is an instant of the wall clock, and so does a
// revision, since it only counts.
func (d *durable) move(to func(Instant) Instant) {
	each := func(list ...*Instant) {
		for _, at := range list {
			if *at != 0 {
				*at = to(*at)
			}
		}
	}
	each(&d.At, &d.Input, &d.GoneAt, &d.LoggedIn, &d.Since)
	d.Claims, d.Endpoints = slices.Clone(d.Claims), slices.Clone(d.Endpoints)
	d.Requests, d.Seen = slices.Clone(d.Requests), slices.Clone(d.Seen)
	for i := range d.Claims {
		each(&d.Claims[i].SetAt)
	}
	for i := range d.Endpoints {
		each(&d.Endpoints[i].Since)
	}
	for i := range d.Requests {
		each(&d.Requests[i].At, &d.Requests[i].Claim.SetAt)
	}
	for i := range d.Seen {
		each(&d.Seen[i].Since, &d.Seen[i].LastSeen)
	}
	for _, c := range []**Claim{&d.Pending, &d.Meanwhile} {
		if *c != nil {
			moved := **c
			each(&moved.SetAt)
			*c = &moved
		}
	}
}

// take turns the wall time of a record into that of a process. If the record is of
// a clock that was ahead, what lies in the future happens now, and the last input
// keeps the age that it had when the record was written.
func (d *durable) take(now Instant, behind time.Duration) {
	written := d.At
	if written == 0 { // an older record, written no earlier than its latest instant
		d.move(func(at Instant) Instant { written = max(written, at); return at })
	}
	age := max(written.Sub(d.Input), 0)
	ahead := written.Sub(now.Add(-behind)) > clockSkew
	d.move(func(at Instant) Instant {
		if at = at.Add(behind); ahead {
			at = min(at, now)
		}
		return at
	})
	if ahead && d.Input != 0 {
		d.Input = now.Add(-age)
	}
}

// State reads a record at an instant of a process whose wall clock is behind by so
// much; see [State.Behind]. If the record was written by a clock that was ahead, no
// instant that has passed lies after now. With a now of 0 the state is as the record
// has it.
//
// The state has no connections. Step it with EventRestart, so that clients can
// reconnect within the start-up grace. It returns ErrInvalid for data it cannot
// read.
func (r Record) State(now Instant, behind time.Duration) (State, error) {
	var d durable
	if err := json.Unmarshal(r.Data, &d); err != nil {
		return State{}, refuse(ErrInvalid, "record", r.Subject.String(), "it cannot be read").because(err)
	}
	if d.Version != stateVersion {
		return State{}, refuse(ErrInvalid, "record", r.Subject.String(), "it has version %d, this package reads version %d", d.Version, stateVersion)
	}
	if now != 0 {
		d.take(now, behind)
	}
	slices.SortFunc(d.Claims, compareClaims)
	var work *Work
	if d.Pending != nil || len(d.Requests) > 0 || d.Requeued != 0 {
		work = &Work{Pending: d.Pending, meanwhile: d.Meanwhile, Requests: d.Requests, Requeued: d.Requeued}
	}
	return State{
		Subject: r.Subject, Kind: d.Kind, Work: work, Claims: d.Claims, Endpoints: d.Endpoints, Input: d.Input, LeftCause: d.Gone, LeftAt: d.GoneAt,
		LoggedIn: d.LoggedIn, Disabled: d.Disabled, Epoch: d.Epoch, Serial: d.Serial, Now: max(d.At, d.Since), Behind: behind, ChangedAt: d.Since,
		Current: Presence{Subject: r.Subject, Kind: cmp.Or(d.Kind, KindHuman), Known: d.Status != "", Status: d.Status, Class: d.Class, Cause: d.Cause, Since: d.Since, Reason: d.Reason, Reach: min(d.Reach, ReachLive), Revision: d.Revision, seen: d.Seen},
	}, nil
}

// The kinds of [JournalRow].
const (
	RowTransition    = "transition"
	RowClaimSet      = "claim-set"
	RowClaimEnded    = "claim-ended"
	RowRequeue       = "requeue"
	RowRequestOpened = "request-opened"
	RowRequestClosed = "request-closed"
)

// JournalRow is one row of the append-only journal. It reports a change of status,
// the beginning or end of a claim or request, or a requeue. A change of the reason
// under one status is a transition from the status to itself.
type JournalRow struct {
	ID       string  `json:"id"` // unique per subject, at most MaxID+16 bytes; storing a row again changes nothing
	Subject  Ref     `json:"subject"`
	Kind     string  `json:"kind"` // one of Row*
	From     string  `json:"from,omitzero"`
	To       string  `json:"to,omitzero"`
	Class    Class   `json:"class,omitzero"`
	Cause    Cause   `json:"cause,omitzero"`
	Trigger  Cause   `json:"trigger,omitzero"`
	Reach    string  `json:"reach,omitzero"`
	Source   Source  `json:"source,omitzero"`
	Key      string  `json:"key,omitzero"`
	Reason   string  `json:"reason,omitzero"`
	By       string  `json:"by,omitzero"`
	At       Instant `json:"at"`       // when it happened
	Recorded Instant `json:"recorded"` // when it was noticed
}

// Write is one record to store. Expect is the revision that storage must hold for
// that. 0 means no record.
type Write struct {
	Record Record
	Expect uint64
}

// Storage keeps what must outlive the process. Its methods may be called
// concurrently, and must respect ctx. They must not retry. They must not keep or
// change the slices that they are given. The caller owns what they return. A nil
// error means that the change is durable. An error may leave the outcome unknown:
// the caller repeats the call, and a repeated call must be harmless. A call that
// fails, or whose context ends, must not harm another. After the storage is closed,
// every method returns an error that wraps [ErrClosed].
type Storage interface {
	// Load returns the records of the given subjects that have one. Each record is
	// returned once, in any order. Load sees all of what one Save stored, or none.
	Load(ctx context.Context, subjects ...Ref) ([]Record, error)
	// Save stores all writes or none. At most one of them is for one subject. If a
	// stored revision is not the expected one, Save returns an error that wraps
	// [ErrConflict]. It succeeds if storage already holds exactly the record to
	// write.
	Save(ctx context.Context, writes ...Write) error
	// Append adds all rows to the journal in order, or none. It skips a row whose
	// subject and id the journal already has.
	Append(ctx context.Context, rows ...JournalRow) error
	// Delete removes the records and journals of subjects. It skips unknown
	// subjects.
	Delete(ctx context.Context, subjects ...Ref) error
}

// JournalQuery selects rows of the journal of one subject, or of all subjects of a
// tenant if Subject has only a tenant. It selects rows with From <= At < To, where
// zero means no limit. It selects at most Limit rows after the row After. A Limit
// of 0 means 1,000.
//
// The rows of a subject are in the order in which they were appended. The rows of a
// tenant are ordered by At, and within one instant as they were appended.
type JournalQuery struct {
	Subject  Ref
	From, To Instant
	// Base selects first what was in force at From: of the subject's transitions
	// with At < From, the one appended last. Of the other rows it selects only those
	// appended after that one. Without such a transition it changes nothing. A query
	// with After, without From or of a tenant ignores it.
	Base bool
	// After is the last row of the page before, or the zero row. Of a subject's row
	// only the ID counts; of a tenant's row also Subject and At. If the row was
	// deleted, a subject's rows are selected from the first again, a tenant's rows
	// from the row's instant.
	After JournalRow
	Limit int
}

// Select returns the rows that q selects. The given rows must be in the order in
// which they were appended.
func (q JournalQuery) Select(rows []JournalRow) []JournalRow {
	all := q.Subject.ID == ""
	var selected []JournalRow
	for _, r := range rows {
		if r.Subject == q.Subject || all && r.Subject.Tenant == q.Subject.Tenant {
			selected = append(selected, r)
		}
	}
	if all {
		slices.SortStableFunc(selected, func(a, b JournalRow) int { return cmp.Compare(a.At, b.At) })
	}
	if q.After.ID != "" {
		i := slices.IndexFunc(selected, func(r JournalRow) bool { return r.ID == q.After.ID && (!all || r.Subject == q.After.Subject) })
		selected = selected[i+1:]
	}
	var base []JournalRow
	if q.Base && q.From != 0 && q.After.ID == "" && !all {
		base, selected = inForce(selected, q.From)
	}
	selected = slices.DeleteFunc(selected, func(r JournalRow) bool {
		return r.At < q.From && q.From != 0 || r.At >= q.To && q.To != 0 || all && q.After.ID != "" && r.At < q.After.At
	})
	if base != nil {
		selected = append(base, selected...)
	}
	limit := q.Limit
	if limit <= 0 {
		limit = 1000
	}
	return selected[:min(limit, len(selected))]
}

// inForce returns the last transition before an instant, and the rows after it.
// Without one it returns all rows.
func inForce(rows []JournalRow, at Instant) (base, after []JournalRow) {
	for i := len(rows) - 1; i >= 0; i-- {
		if rows[i].Kind == RowTransition && rows[i].At < at {
			return rows[i : i+1 : i+1], rows[i+1:]
		}
	}
	return nil, rows
}

// Row returns the journal row of an output, or false if it has none. The caller
// sets the subject.
func (o *Output) Row() (row JournalRow, ok bool) {
	switch o.Kind {
	case OutputTransition, OutputUpdated:
		p := &o.Presence
		if o.ID == "" {
			return row, false
		}
		return JournalRow{
			ID: o.ID, Kind: RowTransition, From: o.Prev, To: p.Status, Class: p.Class, Cause: p.Cause, Trigger: o.Trigger,
			Reach: p.Reach.String(), Reason: p.Reason, At: o.At, Recorded: o.Noticed,
		}, true
	case OutputClaimSet, OutputClaimEnded:
		c := &o.Claim
		row = JournalRow{
			ID: RowClaimSet + "/" + c.ID, Kind: RowClaimSet, To: c.Status, Class: c.Class, Source: c.Source, Key: c.Key, Reason: c.Reason, By: c.By,
			At: o.At, Recorded: o.Noticed,
		}
		if o.Kind == OutputClaimEnded {
			row.ID, row.Kind, row.From, row.To, row.Trigger = RowClaimEnded+"/"+c.ID, RowClaimEnded, c.Status, "", Cause(o.Reason)
		}
		return row, true
	case OutputRequeue:
		return JournalRow{ID: RowRequeue + "/" + o.ID, Kind: RowRequeue, Trigger: Cause(o.Reason), At: o.At, Recorded: o.Noticed}, true
	case OutputRequestOpened, OutputRequestClosed:
		r := &o.Request
		row = JournalRow{
			ID: RowRequestOpened + "/" + r.ID, Kind: RowRequestOpened, To: r.Claim.Status, Class: r.Claim.Class, Reason: r.Claim.Reason, By: r.Claim.By,
			At: o.At, Recorded: o.Noticed,
		}
		if o.Kind == OutputRequestClosed {
			row.ID, row.Kind, row.By, row.Trigger = RowRequestClosed+"/"+r.ID, RowRequestClosed, r.By, Cause(r.Reason)
		}
		return row, true
	}
	return row, false
}

// JournalReader is implemented by a storage that can read its journal. A query by
// pages may miss rows that are appended between two pages with an At before After.
//
// A storage may cut its journal: delete rows that are old or more than it keeps. It
// then keeps of each subject the transition appended last of those that it would
// delete, so that [JournalQuery].Base finds what was in force at the cut. The next
// cut deletes that row once a later transition takes its place. A limit by number
// counts transitions apart from other rows.
type JournalReader interface {
	// Journal returns the rows that q selects, as [JournalQuery.Select] does.
	Journal(ctx context.Context, q JournalQuery) ([]JournalRow, error)
}
