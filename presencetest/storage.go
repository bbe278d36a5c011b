package presencetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/presence-go/presence"
)

// CheckStorage checks a storage against the contract of [presence.Storage] and,
// if the storage implements them, of [presence.JournalReader], [Pruner] and [Reopener].
// It calls open for every rule; open must return empty storage. Storage with a
// Close method is closed after its rule.
func CheckStorage(ctx context.Context, open func(context.Context) (presence.Storage, error)) error {
	return storageSuite.check(ctx, open)
}

// RunStorage runs [CheckStorage] with a subtest for each rule.
func RunStorage(t *testing.T, open func(context.Context) (presence.Storage, error)) {
	t.Helper()
	storageSuite.run(t, open)
}

// Reopener is implemented by storage that can be opened again after Close. A
// test may add the method by wrapping the storage in a type of its own.
type Reopener interface {
	// Reopen returns storage with all that was stored when the receiver was closed.
	Reopen(ctx context.Context) (presence.Storage, error)
}

// Pruner is implemented by storage that can cut its journal by age. A test may add
// the method by wrapping the storage in a type of its own.
type Pruner interface {
	// Prune deletes the rows with At < before, of all tenants. It keeps of each
	// subject the transition appended last of them, until a later cut keeps a later
	// one. It returns the number of deleted rows.
	Prune(ctx context.Context, before presence.Instant) (rows int, err error)
}

var storageSuite = suite[presence.Storage, storageProbe]{
	name:  "storage",
	probe: func(p *probe, s presence.Storage) storageProbe { return storageProbe{p, s} },
	close: storageProbe.end,
	rules: storageRules,
}

// storageProbe calls storage for a rule. Its methods expect success unless
// their name ends in Fails.
type storageProbe struct {
	*probe
	s presence.Storage
}

var ann, bob, cid = presence.ID("ann"), presence.ID("bob"), presence.ID("cid")

// rec is a record whose data distinguishes it from others.
func rec(subject presence.Ref, revision uint64, data string) presence.Record {
	return presence.Record{Subject: subject, Revision: revision, Data: []byte(data)}
}

// after is the write of a record over revision expect; 0 expects no record.
func after(expect uint64, r presence.Record) presence.Write {
	return presence.Write{Record: r, Expect: expect}
}

func (p storageProbe) save(writes ...presence.Write) {
	if p.failed() {
		return
	}
	if err := p.s.Save(p.ctx, writes...); err != nil {
		p.failf("Save(%s): wanted no error, got %w", describe(writes...), err)
	}
}

// saveFails makes a save that storage must refuse, and returns the error.
func (p storageProbe) saveFails(writes ...presence.Write) error {
	if p.failed() {
		return nil
	}
	err := p.s.Save(p.ctx, writes...)
	if err == nil {
		p.failf("Save(%s): wanted an error, got none", describe(writes...))
	}
	return err
}

func describe(writes ...presence.Write) string {
	list := make([]string, len(writes))
	for i, w := range writes {
		list[i] = fmt.Sprintf("%s revision %d expecting %d", short(w.Record.Subject), w.Record.Revision, w.Expect)
	}
	return strings.Join(list, ", ")
}

func short(r presence.Ref) string {
	if s := strconv.Quote(r.String()); len(s) <= 40 {
		return s
	}
	return fmt.Sprintf("%q and so on, %d bytes", r.String()[:20], len(r.String()))
}

func (p storageProbe) load(subjects ...presence.Ref) []presence.Record {
	if p.failed() {
		return nil
	}
	records, err := p.s.Load(p.ctx, subjects...)
	if err != nil {
		p.failf("Load: wanted no error, got %w", err)
	}
	return records
}

// holds checks that a record is stored.
func (p storageProbe) holds(r presence.Record) {
	got, ok := p.find(r.Subject)
	switch {
	case p.failed():
	case !ok:
		p.failf("Load(%s): wanted revision %d, got no record", short(r.Subject), r.Revision)
	case got.Revision != r.Revision:
		p.failf("Load(%s): wanted revision %d, got %d", short(r.Subject), r.Revision, got.Revision)
	case !bytes.Equal(got.Data, r.Data):
		p.failf("Load(%s): wanted data %s, got %s", short(r.Subject), sample(r.Data), sample(got.Data))
	}
}

func sample(data []byte) string {
	if len(data) <= 40 {
		return strconv.Quote(string(data))
	}
	return fmt.Sprintf("%q and so on, %d bytes", data[:40], len(data))
}

// holdsNone checks that nothing is stored of a subject.
func (p storageProbe) holdsNone(subject presence.Ref) {
	if got, ok := p.find(subject); ok {
		p.failf("Load(%s): wanted no record, got revision %d", short(subject), got.Revision)
	}
}

func (p storageProbe) find(subject presence.Ref) (presence.Record, bool) {
	for _, r := range p.load(subject) {
		if r.Subject == subject {
			return r, true
		}
	}
	return presence.Record{}, false
}

// at counts the subjects whose record is at a revision.
func (p storageProbe) at(revision uint64, subjects ...presence.Ref) (n int) {
	for _, subject := range subjects {
		if r, _ := p.find(subject); r.Revision == revision {
			n++
		}
	}
	return n
}

func (p storageProbe) delete(subjects ...presence.Ref) {
	if p.failed() {
		return
	}
	if err := p.s.Delete(p.ctx, subjects...); err != nil {
		p.failf("Delete: wanted no error, got %w", err)
	}
}

func (p storageProbe) append(rows ...presence.JournalRow) {
	if p.failed() {
		return
	}
	if err := p.s.Append(p.ctx, rows...); err != nil {
		p.failf("Append of %d rows: wanted no error, got %w", len(rows), err)
	}
}

// reads reports whether the journal can be read back.
func (p storageProbe) reads() bool {
	_, ok := p.s.(presence.JournalReader)
	return ok
}

func (p storageProbe) journal(q presence.JournalQuery) []presence.JournalRow {
	if p.failed() {
		return nil
	}
	rows, err := p.s.(presence.JournalReader).Journal(p.ctx, q)
	if err != nil {
		p.failf("Journal(%+v): wanted no error, got %w", q, err)
	}
	return rows
}

// prunes reports whether the journal can be cut by age, and read back.
func (p storageProbe) prunes() bool {
	_, ok := p.s.(Pruner)
	return ok && p.reads()
}

// prune cuts the journal, which must delete the given number of rows.
func (p storageProbe) prune(before presence.Instant, rows int) {
	if p.failed() {
		return
	}
	n, err := p.s.(Pruner).Prune(p.ctx, before)
	if err != nil {
		p.failf("Prune: wanted no error, got %w", err)
	}
	want(p.probe, "deleted rows", rows, n)
}

// closes reports whether the storage can be closed.
func (p storageProbe) closes() bool {
	_, ok := p.s.(io.Closer)
	return ok
}

// end closes the storage at the end of a rule, and ignores the error: the rule
// may have closed it.
func (p storageProbe) end() {
	if c, ok := p.s.(io.Closer); ok {
		_ = c.Close()
	}
}

func (p storageProbe) close() {
	if p.failed() || !p.closes() {
		return
	}
	if err := p.s.(io.Closer).Close(); err != nil {
		p.failf("Close: wanted no error, got %w", err)
	}
}

// reopens reports whether the storage can be opened again after Close.
func (p storageProbe) reopens() bool {
	_, ok := p.s.(Reopener)
	return ok
}

// reopened closes the storage and returns a probe of the storage opened again.
// The caller must call end on it.
func (p storageProbe) reopened() storageProbe {
	p.close()
	return p.open()
}

// open opens the closed storage again.
func (p storageProbe) open() storageProbe {
	if p.failed() {
		return p
	}
	s, err := p.s.(Reopener).Reopen(p.ctx)
	if err != nil {
		p.failf("Reopen: wanted no error, got %w", err)
		return p
	}
	return storageProbe{p.probe, s}
}

// selects checks that a query returns the rows with these ids, in order.
func (p storageProbe) selects(q presence.JournalQuery, ids ...string) {
	got := idsOf(p.journal(q))
	if !slices.Equal(got, ids) {
		p.failf("Journal(%+v): wanted rows %v, got %v", q, ids, got)
	}
}

func idsOf(rows []presence.JournalRow) []string {
	ids := make([]string, len(rows))
	for i, r := range rows {
		ids[i] = r.ID
	}
	return ids
}

// second is the instant n seconds after 1970.
func second(n int) presence.Instant { return presence.Instant(int64(n) * 1e9) }

// row is an ordinary journal row.
func row(subject presence.Ref, id string, at int) presence.JournalRow {
	return presence.JournalRow{ID: id, Subject: subject, Kind: "transition", To: "busy", At: second(at), Recorded: second(at)}
}

// claimRow is a journal row that is no transition.
func claimRow(subject presence.Ref, id string, at int) presence.JournalRow {
	r := row(subject, id, at)
	r.Kind = presence.RowClaimSet
	return r
}

func conflict(p storageProbe, err error) {
	if !p.failed() && !errors.Is(err, presence.ErrConflict) {
		p.failf("wanted an error wrapping presence.ErrConflict, got %w", err)
	}
}

// orNil is err, or an error with the text "none" for nil, for %w.
func orNil(err error) error {
	if err == nil {
		return errors.New("none")
	}
	return err
}
