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
	"sync"
	"testing"

	"github.com/presence-go/presence"
)

// CheckStorage checks a storage against the contract of [presence.Storage] and,
// if it implements that, [presence.JournalReader]. For every rule, open is called
// anew and must return storage that is empty. What has a Close method is closed
// after its rule.
func CheckStorage(ctx context.Context, open func(context.Context) (presence.Storage, error)) error {
	return storageSuite.check(ctx, open)
}

// RunStorage is [CheckStorage] with a subtest for each rule.
func RunStorage(t *testing.T, open func(context.Context) (presence.Storage, error)) {
	t.Helper()
	storageSuite.run(t, open)
}

var storageSuite = suite[presence.Storage, storageProbe]{
	name:  "storage",
	probe: func(p *probe, s presence.Storage) storageProbe { return storageProbe{p, s} },
	close: func(p storageProbe) {
		if c, ok := p.s.(io.Closer); ok {
			_ = c.Close()
		}
	},
	rules: storageRules,
}

// storageProbe does what a rule asks and expects it to work unless the name
// says otherwise.
type storageProbe struct {
	*probe
	s presence.Storage
}

var ann, bob, cid = presence.ID("ann"), presence.ID("bob"), presence.ID("cid")

// rec is a record with data that can be told apart.
func rec(subject presence.Ref, revision uint64, data string) presence.Record {
	return presence.Record{Subject: subject, Revision: revision, Data: []byte(data)}
}

// after is the write of a record over revision expect, 0 for over none.
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

// saveFails saves what must be refused, and returns the error.
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

// selects checks which rows a query returns, by id.
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

// second is an instant of the rules' own time.
func second(n int) presence.Instant { return presence.Instant(int64(n) * 1e9) }

// row is a journal row that is nothing special.
func row(subject presence.Ref, id string, at int) presence.JournalRow {
	return presence.JournalRow{ID: id, Subject: subject, Kind: "transition", To: "busy", At: second(at), Recorded: second(at)}
}

func conflict(p storageProbe, err error) {
	if !p.failed() && !errors.Is(err, presence.ErrConflict) {
		p.failf("wanted an error wrapping presence.ErrConflict, got %w", err)
	}
}

var storageRules = []rule[storageProbe]{
	{
		name: "load-nothing",
		text: "Load returns no record of a subject that was never saved and none where it is asked for none, and no error.",
		check: func(p storageProbe) {
			want(p.probe, "records of an unknown subject", 0, len(p.load(ann)))
			p.save(after(0, rec(bob, 1, "b")))
			want(p.probe, "records of no subject at all", 0, len(p.load()))
		},
	},
	{
		name: "load-many",
		text: "Load returns the records of all the subjects it is asked for that have one, each once and in any order, and of no others.",
		check: func(p storageProbe) {
			var all []presence.Ref
			for i := range 40 {
				subject := presence.ID("subject-" + strconv.Itoa(i))
				all = append(all, subject)
				if i%2 == 0 {
					p.save(after(0, rec(subject, 1, subject.ID)))
				}
			}
			p.save(after(0, rec(ann, 1, "not asked for")))
			loaded := make(map[presence.Ref]bool)
			for _, r := range p.load(append(all, all[0], all[1], all[2])...) { // some are asked for twice
				want(p.probe, "data of "+r.Subject.ID, r.Subject.ID, string(r.Data))
				if loaded[r.Subject] {
					p.failf("Load: wanted each record once, got that of %s twice", r.Subject)
				}
				loaded[r.Subject] = true
			}
			want(p.probe, "records of 40 subjects, 20 of them saved", 20, len(loaded))
			want(p.probe, "whether there is one that was not asked for", false, loaded[ann])
		},
	},
	{
		name: "round-trip",
		text: "Data is opaque: whatever bytes and however many were saved are loaded, also after later saves.",
		check: func(p storageProbe) {
			every := make([]byte, 256)
			for i := range every {
				every[i] = byte(i)
			}
			long := rec(bob, 1, strings.Repeat("\xff\x00' \"%_\\", 30_000))
			p.save(after(0, rec(ann, 1, string(every))))
			p.save(after(0, long))
			p.holds(rec(ann, 1, string(every)))
			p.holds(long)
			p.save(after(1, rec(ann, 2, "\x00")))
			p.holds(rec(ann, 2, "\x00"))
			p.holds(long)
		},
	},
	{
		name: "ids",
		text: "Ids are told apart bytewise, up to 128 bytes of any printable UTF-8.",
		check: func(p storageProbe) {
			stem := strings.Repeat("é", presence.MaxID/2-1)
			ids := []string{
				"Ann", "aNN", "ann ", " ann", "Renée", "Rene\u0301e", stem + "ab", stem + "ac",
				"%", "_", "*", "'", `"`, `\`, "a:b", "a.b", "a%2Fb", "0", "00", "☎️",
			}
			for _, id := range ids {
				p.save(after(0, rec(presence.ID(id), 1, "of "+id)))
			}
			for _, id := range ids {
				p.holds(rec(presence.ID(id), 1, "of "+id))
			}
		},
	},
	{
		name: "ownership",
		text: "Storage keeps none of the slices it is given and hands over those it returns: changing either changes nothing stored.",
		check: func(p storageProbe) {
			given := rec(ann, 1, "stored")
			writes := []presence.Write{after(0, given)}
			p.save(writes...)
			given.Data[0] = 'X'
			writes[0].Record.Revision = 9
			p.holds(rec(ann, 1, "stored"))
			for _, r := range p.load(ann) {
				r.Data[0] = 'X'
			}
			p.holds(rec(ann, 1, "stored"))

			data := []byte("next")
			p.save(after(1, presence.Record{Subject: ann, Revision: 2, Data: data}))
			want(p.probe, "data given to Save afterwards", "next", string(data))

			rows := []presence.JournalRow{row(ann, "r1", 1), row(ann, "r2", 2)}
			p.append(rows...)
			want(p.probe, "rows given to Append afterwards", row(ann, "r1", 1), rows[0])
			if p.reads() {
				rows[0] = row(ann, "changed", 3)
				p.selects(presence.JournalQuery{Subject: ann}, "r1", "r2")
				for _, q := range []presence.JournalQuery{{Subject: ann}, {Subject: ann, Limit: 1}} {
					read := p.journal(q)
					for i := range read {
						read[i].ID = "changed"
					}
				}
				p.selects(presence.JournalQuery{Subject: ann}, "r1", "r2")
			}
		},
	},
	{
		name: "revision",
		text: "Revisions are stored as given, not counted or taken from a clock, and are exact up to 63 bits.",
		check: func(p storageProbe) {
			last := uint64(0)
			for _, revision := range []uint64{41, 42, 1_000, 1<<53 + 1, 1<<63 - 1} {
				p.save(after(last, rec(ann, revision, "data")))
				p.holds(rec(ann, revision, "data"))
				last = revision
			}
		},
	},
	{
		name: "stale-revision",
		text: "A Save that expects another revision than the one stored, earlier or later, returns an error wrapping presence.ErrConflict and writes nothing.",
		check: func(p storageProbe) {
			p.save(after(0, rec(ann, 1, "one")))
			p.save(after(1, rec(ann, 2, "two")))
			conflict(p, p.saveFails(after(1, rec(ann, 3, "from the past"))))
			p.holds(rec(ann, 2, "two"))
			conflict(p, p.saveFails(after(3, rec(ann, 4, "from the future"))))
			p.holds(rec(ann, 2, "two"))
			p.save(after(2, rec(ann, 3, "three")))
			p.holds(rec(ann, 3, "three"))
		},
	},
	{
		name: "expect-none",
		text: "A Save that expects no record is refused where there is one, and a Save that expects one is refused where there is none.",
		check: func(p storageProbe) {
			p.save(after(0, rec(ann, 1, "one")))
			conflict(p, p.saveFails(after(0, rec(ann, 2, "over it"))))
			p.holds(rec(ann, 1, "one"))
			conflict(p, p.saveFails(after(1, rec(bob, 2, "over nothing"))))
			p.holdsNone(bob)
		},
	},
	{
		name: "all-or-none",
		text: "Save stores all of its writes or, if any of them is refused, none.",
		check: func(p storageProbe) {
			dan := rec(presence.ID("dan"), 1, "dan")
			p.save(after(0, rec(ann, 1, "ann")), after(0, rec(bob, 1, "bob")), after(0, dan))
			p.holds(rec(ann, 1, "ann"))
			p.holds(rec(bob, 1, "bob"))
			p.holds(dan)
			p.save(after(1, rec(bob, 2, "bob again")))
			refused := after(1, rec(bob, 3, "refused"))
			p.saveFails(after(1, rec(ann, 2, "before the refused")), refused, after(0, rec(cid, 1, "after the refused")))
			p.holds(rec(ann, 1, "ann"))
			p.holds(rec(bob, 2, "bob again"))
			p.holdsNone(cid)
			p.saveFails(refused, after(1, rec(ann, 2, "after the refused")))
			p.holds(rec(ann, 1, "ann"))
		},
	},
	{
		name: "repeated-save",
		text: "A Save that storage has carried out already, repeated because its answer was lost, returns no error and changes nothing.",
		check: func(p storageProbe) {
			first := after(0, rec(ann, 1, "one"))
			p.save(first)
			p.save(first)
			p.holds(first.Record)
			both := []presence.Write{after(1, rec(ann, 2, "two")), after(0, rec(bob, 1, "one"))}
			p.save(both...)
			p.save(both...)
			p.holds(both[0].Record)
			p.holds(both[1].Record)
			p.save(after(2, rec(ann, 3, "three")))
			p.holds(rec(ann, 3, "three"))
		},
	},
	{
		name: "same-revision",
		text: "A Save of the revision that is stored, but with other data, is another's and is refused.",
		check: func(p storageProbe) {
			p.save(after(0, rec(ann, 1, "one")))
			p.save(after(1, rec(ann, 2, "mine")))
			p.saveFails(after(1, rec(ann, 2, "theirs")))
			p.holds(rec(ann, 2, "mine"))
		},
	},
	{
		name: "one-winner",
		text: "Of many that save over the same revision at once, exactly one succeeds, and its record is stored.",
		check: func(p storageProbe) {
			const rounds, writers = 8, 8
			p.save(after(0, rec(ann, 1, "start")))
			for round := range rounds {
				before, ok := p.find(ann)
				if p.failed() || !ok {
					p.failf("round %d: wanted a record, got none", round)
					return
				}
				errs := make([]error, writers)
				records := make([]presence.Record, writers)
				var wg sync.WaitGroup
				for i := range writers {
					records[i] = rec(ann, before.Revision+1+uint64(i), fmt.Sprintf("writer %d of round %d", i, round))
					wg.Go(func() { errs[i] = p.s.Save(p.ctx, after(before.Revision, records[i])) })
				}
				wg.Wait()
				winner, winners := 0, 0
				for i, err := range errs {
					if err == nil {
						winner, winners = i, winners+1
					}
				}
				if winners != 1 {
					p.failf("round %d: wanted 1 of %d to succeed, got %d; errors: %v", round, writers, winners, errors.Join(errs...))
					return
				}
				if got, _ := p.find(ann); !bytes.Equal(got.Data, records[winner].Data) {
					p.failf("round %d: wanted the record of the one that succeeded, %q, got %q", round, records[winner].Data, got.Data)
					return
				}
			}
		},
	},
	{
		name: "repeated-append",
		text: "Append of rows that are there already, repeated because its answer was lost, returns no error; so does Append of none.",
		check: func(p storageProbe) {
			p.append()
			p.append(row(ann, "r1", 1), row(ann, "r2", 2))
			p.append(row(ann, "r1", 1), row(ann, "r2", 2))
			p.append(row(ann, "r2", 2), row(ann, "r3", 3))
		},
	},
	{
		name: "delete",
		text: "Delete removes the records of all the subjects named and of no others; they can then be saved as new.",
		check: func(p storageProbe) {
			anna := rec(presence.ID("anna"), 1, "anna")
			for _, r := range []presence.Record{rec(ann, 1, "ann"), rec(bob, 1, "bob"), rec(cid, 1, "cid"), anna} {
				p.save(after(0, r))
			}
			p.save(after(1, rec(ann, 2, "ann again")))
			p.delete(ann, bob)
			p.holdsNone(ann)
			p.holdsNone(bob)
			p.holds(rec(cid, 1, "cid"))
			p.holds(anna)
			p.save(after(0, rec(ann, 1, "new")))
			p.holds(rec(ann, 1, "new"))
		},
	},
	{
		name: "delete-unknown",
		text: "Delete skips subjects of which nothing is stored, and of which nothing is stored any more.",
		check: func(p storageProbe) {
			p.delete(cid)
			p.save(after(0, rec(ann, 1, "ann")))
			p.delete()
			p.holds(rec(ann, 1, "ann"))
			p.delete(cid, ann)
			p.holdsNone(ann)
			p.delete(ann)
		},
	},
	{
		name: "tenants",
		text: "The same id in two tenants is two subjects, in everything.",
		check: func(p storageProbe) {
			refs := []presence.Ref{{ID: "x"}, {Tenant: "a", ID: "x"}, {Tenant: "b", ID: "x"}, {ID: "a/x"}, {Tenant: "a/b", ID: "x"}, {Tenant: "a", ID: "b/x"}}
			stored := func(ref presence.Ref) presence.Record {
				return rec(ref, 1, fmt.Sprintf("of %q in %q", ref.ID, ref.Tenant))
			}
			for i, ref := range refs {
				p.save(after(0, stored(ref)))
				p.append(row(ref, "r"+strconv.Itoa(i), i))
			}
			for i, ref := range refs {
				p.holds(stored(ref))
				if p.reads() {
					p.selects(presence.JournalQuery{Subject: ref}, "r"+strconv.Itoa(i))
				}
			}
			p.delete(refs[1])
			p.holdsNone(refs[1])
			for i, ref := range refs {
				if i != 1 {
					p.holds(stored(ref))
				}
			}
		},
	},
	{
		name: "done-context",
		text: "With a context that is done, every method returns the context's error and changes nothing.",
		check: func(p storageProbe) {
			p.save(after(0, rec(ann, 1, "ann")))
			p.append(row(ann, "r1", 1))
			ctx := done(p.ctx)
			canceled := func(method string, err error) {
				if !errors.Is(err, context.Canceled) {
					p.failf("%s: wanted an error wrapping context.Canceled, got %w", method, orNil(err))
				}
			}
			_, err := p.s.Load(ctx, ann)
			canceled("Load", err)
			canceled("Save", p.s.Save(ctx, after(1, rec(ann, 2, "changed"))))
			canceled("Append", p.s.Append(ctx, row(ann, "r2", 2)))
			canceled("Delete", p.s.Delete(ctx, ann))
			p.holds(rec(ann, 1, "ann"))
			if p.reads() {
				_, err := p.s.(presence.JournalReader).Journal(ctx, presence.JournalQuery{Subject: ann})
				canceled("Journal", err)
				p.selects(presence.JournalQuery{Subject: ann}, "r1")
			}
		},
	},
	{
		name:    "closed",
		text:    "After Close, every method returns an error.",
		applies: func(p storageProbe) bool { _, ok := p.s.(io.Closer); return ok },
		check: func(p storageProbe) {
			p.save(after(0, rec(ann, 1, "ann")))
			if err := p.s.(io.Closer).Close(); err != nil {
				p.failf("Close: wanted no error, got %w", err)
			}
			refused := func(method string, err error) {
				if err == nil {
					p.failf("%s: wanted an error, got none", method)
				}
			}
			_, err := p.s.Load(p.ctx, ann)
			refused("Load", err)
			refused("Save", p.s.Save(p.ctx, after(1, rec(ann, 2, "changed"))))
			refused("Append", p.s.Append(p.ctx, row(ann, "r1", 1)))
			refused("Delete", p.s.Delete(p.ctx, ann))
			if p.reads() {
				_, err := p.s.(presence.JournalReader).Journal(p.ctx, presence.JournalQuery{Subject: ann})
				refused("Journal", err)
			}
		},
	},
	{
		name:    "journal-rows",
		text:    "Rows are read back as they were appended, to the nanosecond and however long ago or ahead; no clock changes them.",
		applies: storageProbe.reads,
		check: func(p storageProbe) {
			full := presence.JournalRow{
				ID: "claim-set/ü-1", Subject: ann, Kind: "claim-set", From: "available", To: "buṡy", Class: presence.ClassBusy,
				Cause: presence.CauseManual, Trigger: presence.TriggerInput, Reach: "live", Source: presence.SourceSupervisor, Key: "k'1", Reason: "réunion",
				By: "bob", At: second(3_000_000_000) + 123_456_789, Recorded: second(3_000_000_001) + 1,
			}
			rows := []presence.JournalRow{row(ann, "early", 1), full, row(ann, "late", 9_000_000_000)}
			p.append(rows...)
			got := p.journal(presence.JournalQuery{Subject: ann})
			want(p.probe, "number of rows", len(rows), len(got))
			for i := range got {
				if !p.failed() {
					want(p.probe, "row "+rows[i].ID, rows[i], got[i])
				}
			}
		},
	},
	{
		name:    "journal-order",
		text:    "Rows are read in the order in which they were appended, whatever their ids and instants.",
		applies: storageProbe.reads,
		check: func(p storageProbe) {
			p.append(row(ann, "e9", 5), row(ann, "e10", 3))
			p.append(row(ann, "e1", 4))
			p.append(row(ann, "a", 4), row(ann, "z", 1))
			p.selects(presence.JournalQuery{Subject: ann}, "e9", "e10", "e1", "a", "z")
		},
	},
	{
		name:    "journal-once",
		text:    "A row whose subject and id are there already is skipped, and the first one stays as and where it is.",
		applies: storageProbe.reads,
		check: func(p storageProbe) {
			p.append(row(ann, "r1", 1), row(ann, "r1", 1))
			p.append(row(ann, "r2", 2))
			p.append(row(ann, "r1", 9), row(ann, "r3", 3))
			p.selects(presence.JournalQuery{Subject: ann}, "r1", "r2", "r3")
			if rows := p.journal(presence.JournalQuery{Subject: ann}); len(rows) > 0 {
				want(p.probe, "the instant of row r1", second(1), rows[0].At)
			}
		},
	},
	{
		name:    "journal-subjects",
		text:    "Every subject has a journal of its own: ids are unique within a subject only, and the order of one is not touched by others.",
		applies: storageProbe.reads,
		check: func(p storageProbe) {
			p.append(row(ann, "r1", 1), row(bob, "r1", 1), row(ann, "r2", 2), row(bob, "r2", 2))
			p.append(row(bob, "r3", 3), row(ann, "r3", 3))
			p.selects(presence.JournalQuery{Subject: ann}, "r1", "r2", "r3")
			p.selects(presence.JournalQuery{Subject: bob}, "r1", "r2", "r3")
			p.selects(presence.JournalQuery{Subject: cid})
		},
	},
	{
		name:    "journal-window",
		text:    "A query selects the rows with From <= At < To, zero meaning unbounded.",
		applies: storageProbe.reads,
		check: func(p storageProbe) {
			p.append(row(ann, "r1", 1), row(ann, "r2", 2), row(ann, "r3", 3))
			p.selects(presence.JournalQuery{Subject: ann, From: second(2)}, "r2", "r3")
			p.selects(presence.JournalQuery{Subject: ann, From: second(2) + 1}, "r3")
			p.selects(presence.JournalQuery{Subject: ann, To: second(2)}, "r1")
			p.selects(presence.JournalQuery{Subject: ann, To: second(2) + 1}, "r1", "r2")
			p.selects(presence.JournalQuery{Subject: ann, From: second(2), To: second(3)}, "r2")
			p.selects(presence.JournalQuery{Subject: ann, From: second(2), To: second(2)})
		},
	},
	{
		name:    "journal-after",
		text:    "A query selects only what was appended after the row with the id After, whether or not that row is in the window.",
		applies: storageProbe.reads,
		check: func(p storageProbe) {
			p.append(row(ann, "e8", 10), row(ann, "e9", 20), row(ann, "e10", 30), row(ann, "e11", 40))
			p.append(row(bob, "e12", 50))
			p.selects(presence.JournalQuery{Subject: ann, After: "e9"}, "e10", "e11")
			p.selects(presence.JournalQuery{Subject: ann, After: "e11"})
			p.selects(presence.JournalQuery{Subject: ann, After: "e8", From: second(25)}, "e10", "e11")
			p.selects(presence.JournalQuery{Subject: ann, After: "e8", To: second(25)}, "e9")
			p.selects(presence.JournalQuery{Subject: ann, After: "e10", To: second(25)})
		},
	},
	{
		name:    "journal-limit",
		text:    "A query returns at most Limit rows, the first ones, and at most 1,000 where Limit is 0; paging with After returns each once.",
		applies: storageProbe.reads,
		check: func(p storageProbe) {
			const count = 1050
			var ids []string
			var rows []presence.JournalRow
			for i := range count {
				ids = append(ids, fmt.Sprintf("r%04d", i))
				rows = append(rows, row(ann, ids[i], i+1))
			}
			for chunk := range slices.Chunk(rows[:50], 20) {
				p.append(chunk...)
			}
			var paged []string
			q := presence.JournalQuery{Subject: ann, Limit: 7}
			for len(paged) <= 50 && !p.failed() {
				page := p.journal(q)
				if len(page) == 0 {
					break
				}
				if len(page) > 7 {
					p.failf("wanted at most 7 rows, got %d", len(page))
				}
				paged = append(paged, idsOf(page)...)
				q.After = paged[len(paged)-1]
			}
			if !slices.Equal(paged, ids[:50]) {
				p.failf("paging: wanted rows %v, got %v", ids[:50], paged)
			}
			for chunk := range slices.Chunk(rows[50:], 200) {
				p.append(chunk...)
			}
			want(p.probe, "rows without a limit", 1000, len(p.journal(presence.JournalQuery{Subject: ann})))
		},
	},
	{
		name:    "journal-concurrent",
		text:    "Rows appended at once by many are all kept, those of each in its order.",
		applies: storageProbe.reads,
		check: func(p storageProbe) {
			const writers, each = 8, 10
			errs := make([]error, writers)
			var wg sync.WaitGroup
			for i := range writers {
				wg.Go(func() {
					for n := range each {
						errs[i] = errors.Join(errs[i], p.s.Append(p.ctx, row(ann, fmt.Sprintf("w%d-%d", i, n), n+1)))
					}
				})
			}
			wg.Wait()
			if err := errors.Join(errs...); err != nil {
				p.failf("Append: wanted no error, got %w", err)
			}
			got := idsOf(p.journal(presence.JournalQuery{Subject: ann}))
			want(p.probe, "number of rows", writers*each, len(got))
			for i := range writers {
				last := -1
				for n := range each {
					at := slices.Index(got, fmt.Sprintf("w%d-%d", i, n))
					if at <= last {
						p.failf("row %d of writer %d: wanted after its row before, got %v", n, i, got)
					}
					last = at
				}
			}
		},
	},
	{
		name:    "journal-deleted",
		text:    "Delete removes the journals of the subjects named and of no others; the same rows can then be appended again.",
		applies: storageProbe.reads,
		check: func(p storageProbe) {
			p.append(row(ann, "r1", 1), row(ann, "r2", 2), row(bob, "b1", 1))
			p.delete(ann)
			p.selects(presence.JournalQuery{Subject: ann})
			p.selects(presence.JournalQuery{Subject: bob}, "b1")
			p.append(row(ann, "r2", 2))
			p.selects(presence.JournalQuery{Subject: ann}, "r2")
		},
	},
}

// orNil is err, or something that can be printed where there is none.
func orNil(err error) error {
	if err == nil {
		return errors.New("none")
	}
	return err
}
