package presencetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/presence-go/presence"
)

var storageRules = []rule[storageProbe]{
	{
		name: "load-nothing",
		text: "Load of a subject that was never saved, or of no subject, returns no record and no error.",
		check: func(p storageProbe) {
			want(p.probe, "records of an unknown subject", 0, len(p.load(ann)))
			p.save(after(0, rec(bob, 1, "b")))
			want(p.probe, "records of no subject at all", 0, len(p.load()))
		},
	},
	{
		name: "load-many",
		text: "Load returns the records of all given subjects that have one, each once, in any order, and no other record.",
		check: func(p storageProbe) {
			var all []presence.Ref
			for i := range 3000 {
				subject := presence.ID("subject-" + strconv.Itoa(i))
				all = append(all, subject)
				if i%150 == 0 {
					p.save(after(0, rec(subject, 1, subject.ID)))
				}
			}
			p.save(after(0, rec(ann, 1, "not asked for")))
			loaded := make(map[presence.Ref]bool)
			for _, r := range p.load(append(all, all[0], all[1], all[2])...) { // three are asked for twice
				want(p.probe, "data of "+r.Subject.ID, r.Subject.ID, string(r.Data))
				if loaded[r.Subject] {
					p.failf("Load: wanted each record once, got that of %s twice", r.Subject)
				}
				loaded[r.Subject] = true
			}
			want(p.probe, "records of 3,000 subjects, 20 of them saved", 20, len(loaded))
			want(p.probe, "whether there is one that was not asked for", false, loaded[ann])
		},
	},
	{
		name: "round-trip",
		text: "Data is opaque: Load returns the saved bytes, any and any number, also after later saves.",
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
		text: "Ids of subjects and tenants are compared bytewise, up to 128 bytes of any UTF-8 without control characters.",
		check: func(p storageProbe) {
			stem := strings.Repeat("é", presence.MaxID/2-1)
			ids := []string{
				"Ann", "aNN", "ann ", " ann", "Renée", "Rene\u0301e", stem + "ab", stem + "ac",
				"%", "_", "*", "'", "''", `"`, "`", `\`, `\\`, `\'`, `\0`, "$1", "?", "--", "/*", "a:b", "a.b", "a%2Fb", "a/b", "0", "00", "0x0", "1e1",
				"null", "NULL", "true", "[1]", `{"a":1}`, "<a>", "&amp;", "☎", "☎️", "👩‍💻", "👩💻", "\U0001F9D1\U0001F3FD", "\U0001F9D1",
				"ß", "ss", "ſ", "s", "İ", "i", "ﬁ", "fi", "ё", "е", "\u200b", "\u200bx", "x\u200b", "\u202ex", "שלום", "\ufeffx", "\ufffd", "\uffff", "\U0010ffff",
				"\u00a0", "\u3000", strings.Repeat("\U0001F600", presence.MaxID/4), strings.Repeat("'", presence.MaxID), strings.Repeat(`\`, presence.MaxID),
			}
			var refs []presence.Ref
			for _, id := range ids {
				refs = append(refs, presence.ID(id))
				if len(id) > 3 {
					refs = append(refs, presence.Ref{Tenant: id, ID: "of a tenant"})
				}
			}
			var writes []presence.Write
			for _, ref := range refs {
				writes = append(writes, after(0, rec(ref, 1, fmt.Sprintf("of %q", ref))))
			}
			for pair := range slices.Chunk(writes, 2) {
				p.save(pair...)
			}
			for _, w := range writes {
				p.holds(w.Record)
			}
		},
	},
	{
		name: "ownership",
		text: "Storage does not keep the slices given to it, and the caller owns those returned: changing either changes nothing stored.",
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
		text: "Revisions are stored as given, exact up to 63 bits; storage neither counts them nor takes them from a clock.",
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
		text: "A Save that expects no record is refused if the subject has one, and a Save that expects a record is refused if the subject has none.",
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
		text: "A Save that is repeated after its answer was lost returns no error and changes nothing.",
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
		text: "A Save of the stored revision with other data is refused, because another process saved that revision.",
		check: func(p storageProbe) {
			p.save(after(0, rec(ann, 1, "one")))
			p.save(after(1, rec(ann, 2, "mine")))
			p.saveFails(after(1, rec(ann, 2, "theirs")))
			p.holds(rec(ann, 2, "mine"))
		},
	},
	{
		name: "one-winner",
		text: "Of concurrent Saves over the same revision exactly one succeeds, and its record is stored.",
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
		name: "batches-at-once",
		text: "Of concurrent batches over the same subjects, in any order, exactly one succeeds as a whole; the others return an error wrapping presence.ErrConflict.",
		check: func(p storageProbe) {
			const rounds, writers = 8, 6
			for round := range uint64(rounds) {
				errs := make([]error, writers)
				var wg sync.WaitGroup
				for i := range writers {
					data := fmt.Sprintf("writer %d of round %d", i, round)
					batch := []presence.Write{after(round, rec(ann, round+1, data)), after(round, rec(bob, round+1, data))}
					if i%2 == 1 {
						slices.Reverse(batch)
					}
					wg.Go(func() { errs[i] = p.s.Save(p.ctx, batch...) })
				}
				wg.Wait()
				winners := 0
				for _, err := range errs {
					if err == nil {
						winners++
					} else {
						conflict(p, err)
					}
				}
				want(p.probe, fmt.Sprintf("how many of round %d succeed", round), 1, winners)
				a, _ := p.find(ann)
				b, _ := p.find(bob)
				want(p.probe, "data of the second subject of the batch", string(a.Data), string(b.Data))
			}
		},
	},
	{
		name: "whole-batches",
		text: "A Load during a Save of a batch returns all of its records as before the Save, or all as after it.",
		check: func(p storageProbe) {
			const batches = 60
			p.save(after(0, rec(ann, 1, "a")), after(0, rec(bob, 1, "b")), after(0, rec(cid, 1, "c")))
			var wg sync.WaitGroup
			var saved, loaded error
			ended := make(chan struct{})
			wg.Go(func() {
				defer close(ended)
				for n := uint64(1); n < batches && saved == nil; n++ {
					saved = p.s.Save(p.ctx, after(n, rec(ann, n+1, "a")), after(n, rec(bob, n+1, "b")), after(n, rec(cid, n+1, "c")))
				}
			})
			wg.Go(func() {
				for loaded == nil {
					var records []presence.Record
					if records, loaded = p.s.Load(p.ctx, ann, cid, bob); loaded != nil {
						return
					}
					for _, r := range records {
						if r.Revision != records[0].Revision {
							loaded = fmt.Errorf("%s is at revision %d, %s at %d", records[0].Subject, records[0].Revision, r.Subject, r.Revision)
						}
					}
					select {
					case <-ended:
						return
					case <-time.After(50 * time.Microsecond):
					}
				}
			})
			wg.Wait()
			if err := errors.Join(saved, loaded); err != nil {
				p.failf("wanted whole batches and no error, got %w", err)
			}
		},
	},
	{
		name: "neighbours",
		text: "Concurrent calls get their own answers: a refused call does not make another fail.",
		check: func(p storageProbe) {
			const rounds, writers = 6, 8
			subjects := make([]presence.Ref, writers)
			for i := range subjects {
				subjects[i] = presence.ID("writer-" + strconv.Itoa(i))
				if i%2 == 1 {
					p.save(after(0, rec(subjects[i], 1, "another's")))
					p.save(after(1, rec(subjects[i], 2, "another's")))
				}
			}
			for round := range uint64(rounds) {
				errs := make([]error, writers)
				var wg sync.WaitGroup
				for i, subject := range subjects {
					w := after(round, rec(subject, round+1, "data"))
					if i%2 == 1 {
						w = after(0, rec(subject, round+50, "data"))
					}
					wg.Go(func() { errs[i] = p.s.Save(p.ctx, w) })
				}
				wg.Wait()
				for i, err := range errs {
					if i%2 == 0 && err != nil {
						p.failf("Save beside one that is refused: wanted no error, got %w", err)
					} else if i%2 == 1 && err == nil {
						p.failf("Save of what another holds, beside one that is not refused: wanted an error, got none")
					}
				}
			}
			for i, subject := range subjects {
				if i%2 == 1 {
					p.holds(rec(subject, 2, "another's"))
				} else {
					p.holds(rec(subject, rounds, "data"))
				}
			}
		},
	},
	{
		name: "context-ends",
		text: "A Save whose context ends during the call stores all and returns nil, or stores all or nothing and returns the context's error; other calls are not affected.",
		check: func(p storageProbe) {
			for round := range uint64(25) {
				batch := []presence.Write{after(round, rec(ann, round+1, "a")), after(round, rec(bob, round+1, "b"))}
				ctx, cancel := context.WithTimeout(p.ctx, time.Duration(round*round)*10*time.Microsecond)
				var ended, beside error
				var wg sync.WaitGroup
				wg.Go(func() { ended = p.s.Save(ctx, batch...) })
				wg.Go(func() { beside = p.s.Save(p.ctx, after(round, rec(cid, round+1, "c"))) })
				wg.Wait()
				if ended != nil && !errors.Is(ended, ctx.Err()) {
					p.failf("Save: wanted no error or the context's, got %w", ended)
				}
				cancel()
				if beside != nil {
					p.failf("Save beside one whose context ends: wanted no error, got %w", beside)
				}
				n := p.at(round+1, ann, bob)
				if n == 1 && ended != nil {
					pause(p.ctx) // the call may finish after its context ended
					n = p.at(round+1, ann, bob)
				}
				if n == 1 || n == 0 && ended == nil {
					p.failf("Save of 2 records answered %v: wanted both stored, or none and an error; got %d", ended, n)
				}
				if ended != nil {
					p.save(batch...)
				}
				want(p.probe, "how many of 2 are stored", 2, p.at(round+1, ann, bob))
			}
		},
	},
	{
		name: "repeated-late",
		text: "A Save that is repeated after its answer was lost is refused if a later Save succeeded, and undoes nothing.",
		check: func(p storageProbe) {
			first := after(0, rec(ann, 1, "one"))
			p.save(first)
			second := after(1, rec(ann, 2, "two"))
			p.save(second)
			p.saveFails(first)
			p.holds(second.Record)
			p.save(after(2, rec(ann, 3, "one"))) // the data of the first save, but a later revision
			p.saveFails(first)
			p.saveFails(second)
			p.holds(rec(ann, 3, "one"))
		},
	},
	{
		name: "repeated-in-part",
		text: "A Save of some records that are stored already and some that are not stores the rest.",
		check: func(p storageProbe) {
			first := after(0, rec(ann, 1, "one"))
			p.save(first)
			p.save(after(0, rec(bob, 1, "bob")), first)
			p.save(first, after(0, rec(cid, 1, "cid")))
			p.holds(first.Record)
			p.holds(rec(bob, 1, "bob"))
			p.holds(rec(cid, 1, "cid"))
		},
	},
	{
		name: "large-batches",
		text: "One call accepts thousands of subjects and rows, and stores all or none.",
		check: func(p storageProbe) {
			const count = 1500
			var subjects []presence.Ref
			var writes []presence.Write
			var rows []presence.JournalRow
			for i := range count {
				subject := presence.ID("subject-" + strconv.Itoa(i))
				subjects = append(subjects, subject)
				writes = append(writes, after(0, rec(subject, 1, "data")))
				rows = append(rows, row(subject, "r"+strconv.Itoa(i), i))
			}
			p.append(rows...)
			first, middle, last := subjects[0], subjects[count/2], subjects[count-1]
			p.save(after(0, rec(last, 1, "in the way")))
			p.saveFails(writes...)
			p.holdsNone(first)
			p.holdsNone(middle)
			p.holds(rec(last, 1, "in the way"))
			p.save(writes[:count-1]...)
			want(p.probe, "how many of three are stored", 3, p.at(1, first, middle, last))
			if p.reads() {
				p.selects(presence.JournalQuery{Subject: last}, "r1499")
			}
			p.delete(subjects...)
			want(p.probe, "how many of three are there after all were deleted", 0, p.at(1, first, middle, last))
		},
	},
	{
		name: "repeated-append",
		text: "Append returns no error for rows that were appended before, as after a lost answer, and for no rows.",
		check: func(p storageProbe) {
			p.append()
			p.append(row(ann, "r1", 1), row(ann, "r2", 2))
			p.append(row(ann, "r1", 1), row(ann, "r2", 2))
			p.append(row(ann, "r2", 2), row(ann, "r3", 3))
		},
	},
	{
		name: "delete",
		text: "Delete removes the records of all given subjects and no others; the subjects can then be saved as new.",
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
		text: "Delete skips subjects without a stored record, whether deleted or never saved.",
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
		text: "The same id in two tenants is two subjects, for every method.",
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
			p.append(claimRow(ann, "r1", 1))
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
			if p.prunes() {
				_, err := p.s.(Pruner).Prune(ctx, second(9))
				canceled("Prune", err)
			}
			p.holds(rec(ann, 1, "ann"))
			if p.reads() {
				_, err := p.s.(presence.JournalReader).Journal(ctx, presence.JournalQuery{Subject: ann})
				canceled("Journal", err)
				_, err = p.s.(presence.JournalReader).Journal(ctx, presence.JournalQuery{})
				canceled("Journal of a tenant", err)
				p.selects(presence.JournalQuery{Subject: ann}, "r1")
			}
		},
	},
	{
		name:    "closed",
		text:    "After Close, every method returns an error wrapping presence.ErrClosed.",
		applies: storageProbe.closes,
		check: func(p storageProbe) {
			p.save(after(0, rec(ann, 1, "ann")))
			p.close()
			refused := func(method string, err error) {
				if !errors.Is(err, presence.ErrClosed) {
					p.failf("%s: wanted an error wrapping presence.ErrClosed, got %w", method, orNil(err))
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
				_, err = p.s.(presence.JournalReader).Journal(p.ctx, presence.JournalQuery{})
				refused("Journal of a tenant", err)
			}
			if p.prunes() {
				_, err := p.s.(Pruner).Prune(p.ctx, second(9))
				refused("Prune", err)
			}
		},
	},
	{
		name:    "close-under-way",
		text:    "Calls running at Close return nil or an error wrapping presence.ErrClosed; writes that returned nil are kept.",
		applies: storageProbe.closes,
		check: func(p storageProbe) {
			const writers, most = 6, 300
			p.save(after(0, rec(ann, 1, "ann")))
			var wg sync.WaitGroup
			enough := make(chan struct{}, 1)
			acknowledged, errs := make([]uint64, writers), make([]error, writers)
			for i := range writers {
				subject := presence.ID("writer-" + strconv.Itoa(i))
				wg.Go(func() {
					for n := range uint64(most) {
						if errs[i] = p.s.Save(p.ctx, after(n, rec(subject, n+1, "data"))); errs[i] != nil {
							return
						}
						if acknowledged[i] = n + 1; n == most/10 {
							select {
							case enough <- struct{}{}:
							default:
							}
						}
					}
				})
			}
			all := make(chan struct{})
			go func() { wg.Wait(); close(all) }()
			select {
			case <-enough:
			case <-all:
			}
			if err := inTime(p.s.(io.Closer).Close); err != nil {
				p.failf("Close: wanted no error, got %w", err)
			}
			if err := inTime(func() error { <-all; return nil }); err != nil {
				p.failf("Save under way: %w", err)
				return
			}
			for _, err := range errs {
				if err != nil && !errors.Is(err, presence.ErrClosed) {
					p.failf("Save under way: wanted no error or one wrapping presence.ErrClosed, got %w", err)
				}
			}
			if p.failed() || !p.reopens() {
				return
			}
			p = p.open()
			defer p.end()
			for i := range writers {
				got, _ := p.find(presence.ID("writer-" + strconv.Itoa(i)))
				if r := got.Revision; r < acknowledged[i] || r > acknowledged[i]+1 {
					p.failf("after Reopen: wanted revision %d or the next, got %d", acknowledged[i], r)
				}
			}
		},
	},
	{
		name:    "reopen",
		text:    "After Close and Reopen, the records are those that were stored last, and Save compares revisions with theirs.",
		applies: storageProbe.reopens,
		check: func(p storageProbe) {
			p.save(after(0, rec(ann, 1, "one")), after(0, rec(bob, 1, "bob")), after(0, rec(cid, 1<<62, "cid")))
			p.save(after(1, rec(ann, 2, "two")))
			p.delete(bob)
			p = p.reopened()
			defer p.end()
			p.holds(rec(ann, 2, "two"))
			p.holdsNone(bob)
			p.holds(rec(cid, 1<<62, "cid"))
			conflict(p, p.saveFails(after(1, rec(ann, 3, "over the one before"))))
			conflict(p, p.saveFails(after(0, rec(ann, 3, "as if new"))))
			p.save(after(1, rec(ann, 2, "two"))) // repeated because its answer was lost
			p.save(after(2, rec(ann, 3, "three")), after(0, rec(bob, 1, "bob again")))
			p = p.reopened()
			defer p.end()
			p.holds(rec(ann, 3, "three"))
			p.holds(rec(bob, 1, "bob again"))
		},
	},
	{
		name:    "reopen-journal",
		text:    "After Close and Reopen, Append adds rows after the stored ones, and skips rows that are stored.",
		applies: func(p storageProbe) bool { return p.reopens() && p.reads() },
		check: func(p storageProbe) {
			p.append(row(ann, "z", 2), row(bob, "b1", 1), row(ann, "r2", 1))
			p = p.reopened()
			defer p.end()
			p.append(row(ann, "r2", 1), row(ann, "a", 3), row(ann, "m", 0))
			p.selects(presence.JournalQuery{Subject: ann}, "z", "r2", "a", "m")
			p.selects(presence.JournalQuery{Subject: ann, After: presence.JournalRow{ID: "r2"}}, "a", "m")
			p = p.reopened()
			defer p.end()
			p.append(row(ann, "z", 2), row(ann, "b", 4))
			p.selects(presence.JournalQuery{Subject: ann}, "z", "r2", "a", "m", "b")
			p.selects(presence.JournalQuery{Subject: bob}, "b1")
		},
	},
	{
		name:    "reopen-pruned",
		text:    "After Close and Reopen, the rows that Prune deleted are not back, and those that it kept are stored.",
		applies: func(p storageProbe) bool { return p.reopens() && p.prunes() },
		check: func(p storageProbe) {
			p.append(row(ann, "t1", 1), row(ann, "t2", 2), row(ann, "t3", 5))
			p.prune(second(4), 1)
			p = p.reopened()
			defer p.end()
			p.selects(presence.JournalQuery{Subject: ann}, "t2", "t3")
			p.prune(second(4), 0)
			p.prune(second(6), 1)
			p.selects(presence.JournalQuery{Subject: ann}, "t3")
		},
	},
	{
		name:    "journal-rows",
		text:    "Journal returns rows as they were appended, to the nanosecond, at any instant in the past or future; no clock changes them.",
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
			got = p.journal(presence.JournalQuery{})
			want(p.probe, "number of rows of the tenant", len(rows), len(got))
			for i := range got {
				if !p.failed() {
					want(p.probe, "row "+rows[i].ID+" of the tenant", rows[i], got[i])
				}
			}
		},
	},
	{
		name:    "journal-capacity",
		text:    "Rows are kept whole with every text at its greatest length, of any UTF-8 without zero characters.",
		applies: storageProbe.reads,
		check: func(p storageProbe) {
			const mark = "\t\n'\"\\%_\u007f\u0085 "
			fill := func(n int, with string) string {
				return mark + strings.Repeat(with, (n-len(mark))/len(with))
			}
			longest := func(with string) presence.JournalRow {
				return presence.JournalRow{
					ID: fill(presence.MaxID+16, with), Subject: presence.Ref{Tenant: fill(presence.MaxID, with), ID: fill(presence.MaxID, with)}, Kind: "claim-ended",
					From: fill(presence.MaxID, with), To: fill(presence.MaxID, with), Class: presence.ClassOffline, Cause: presence.CauseSupervisor, Trigger: presence.TriggerConnect,
					Reach: "lingering", Source: presence.Source(fill(presence.MaxID, with)), Key: fill(presence.MaxID, with), Reason: fill(presence.MaxReason, with),
					By: fill(presence.MaxID, with), At: second(1), Recorded: second(1),
				}
			}
			for _, with := range []string{"x", "é", "\u3000", "\U0001F600"} {
				row := longest(with)
				p.append(row)
				got := p.journal(presence.JournalQuery{Subject: row.Subject})
				if want(p.probe, "number of rows", 1, len(got)); !p.failed() {
					got[0].Recorded = row.Recorded
					want(p.probe, "row", row, got[0])
				}
			}
		},
	},
	{
		name:    "journal-order",
		text:    "Journal returns the rows of a subject in the order of Append, not by ids or instants.",
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
		text:    "Append skips a row whose subject and id are stored already; the stored row keeps its contents and its place.",
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
		text:    "Every subject has a journal of its own: ids are unique within a subject only, and rows of others do not change its order.",
		applies: storageProbe.reads,
		check: func(p storageProbe) {
			p.append(row(ann, "r1", 1), row(bob, "r1", 1), row(ann, "r2", 2), row(bob, "r2", 2))
			p.append(row(bob, "r3", 3), row(ann, "r3", 3))
			p.selects(presence.JournalQuery{Subject: ann}, "r1", "r2", "r3")
			p.selects(presence.JournalQuery{Subject: bob}, "r1", "r2", "r3")
			p.selects(presence.JournalQuery{Subject: cid})
			p.selects(presence.JournalQuery{After: row(bob, "r2", 2)}, "r3", "r3")
		},
	},
	{
		name:    "journal-window",
		text:    "A query selects the rows with From <= At < To, where zero means no limit.",
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
		text:    "A query selects only rows appended after the row After, also if that row is outside the window.",
		applies: storageProbe.reads,
		check: func(p storageProbe) {
			p.append(row(ann, "e8", 10), row(ann, "e9", 20), row(ann, "e10", 30), row(ann, "e11", 40))
			p.append(row(bob, "e12", 50))
			p.selects(presence.JournalQuery{Subject: ann, After: presence.JournalRow{ID: "e9"}}, "e10", "e11")
			p.selects(presence.JournalQuery{Subject: ann, After: presence.JournalRow{ID: "e11"}})
			p.selects(presence.JournalQuery{Subject: ann, After: presence.JournalRow{ID: "e8"}, From: second(25)}, "e10", "e11")
			p.selects(presence.JournalQuery{Subject: ann, After: presence.JournalRow{ID: "e8"}, To: second(25)}, "e9")
			p.selects(presence.JournalQuery{Subject: ann, After: presence.JournalRow{ID: "e10"}, To: second(25)})
		},
	},
	{
		name:    "journal-base",
		text:    "With Base, a query selects first, of the subject's transitions with At < From, the one appended last; then only rows appended after it.",
		applies: storageProbe.reads,
		check: func(p storageProbe) {
			base := func(from, to int, ids ...string) {
				q := presence.JournalQuery{Subject: ann, From: second(from), Base: true}
				if to > 0 {
					q.To = second(to)
				}
				p.selects(q, ids...)
			}
			p.append(row(ann, "t1", 10), claimRow(ann, "c1", 20), row(ann, "t2", 30), claimRow(ann, "c2", 40), row(bob, "b1", 41), row(ann, "t3", 50))
			base(45, 0, "t2", "t3")
			base(35, 0, "t2", "c2", "t3")
			base(30, 0, "t1", "t2", "c2", "t3")
			base(29, 45, "t1", "t2", "c2")
			base(99, 0, "t3")
			base(10, 0, "t1", "c1", "t2", "c2", "t3")
			p.selects(presence.JournalQuery{Subject: ann, Base: true}, "t1", "c1", "t2", "c2", "t3")
			p.selects(presence.JournalQuery{Subject: cid, From: second(5), Base: true})

			p.append(row(ann, "ahead", 900), claimRow(ann, "ahead too", 901), row(ann, "t4", 60), claimRow(ann, "c4", 70), row(ann, "behind", 15))
			base(55, 0, "behind")
			p.append(row(ann, "t5", 80), claimRow(ann, "c5", 90))
			base(55, 0, "behind", "t5", "c5")
			base(85, 0, "t5", "c5")
			base(910, 0, "t5")
			base(12, 0, "t1", "c1", "t2", "c2", "t3", "ahead", "ahead too", "t4", "c4", "behind", "t5", "c5")
		},
	},
	{
		name:    "journal-base-pages",
		text:    "The row that Base selects counts towards Limit; a query with After, or of a tenant, ignores Base.",
		applies: storageProbe.reads,
		check: func(p storageProbe) {
			p.append(row(ann, "t1", 1), row(ann, "t2", 2), claimRow(ann, "c1", 3), row(ann, "t3", 4), claimRow(ann, "c2", 5))
			q := presence.JournalQuery{Subject: ann, From: second(4), Base: true, Limit: 2}
			p.selects(q, "t2", "t3")
			q.After.ID = "t3"
			p.selects(q, "c2")
			q.After.ID = "c2"
			p.selects(q)
			q.After.ID, q.Limit = "", 1
			p.selects(q, "t2")
			q.After.ID = "t2"
			p.selects(q, "t3")
			p.selects(presence.JournalQuery{From: second(4), Base: true, Limit: 9}, "t3", "c2")
		},
	},
	{
		name: "journal-prune",
		text: "Prune deletes the rows with At < before of all tenants and returns their number. " +
			"It keeps of each subject the transition appended last of them, until a later Prune keeps a later one.",
		applies: storageProbe.prunes,
		check: func(p storageProbe) {
			dora := presence.Ref{Tenant: "acme", ID: "dora"}
			p.append(row(ann, "t1", 1), claimRow(ann, "c1", 1), row(ann, "t2", 2), claimRow(ann, "c2", 3), row(ann, "t3", 5))
			p.append(claimRow(bob, "b1", 4), claimRow(bob, "b2", 6), row(dora, "d1", 2), row(dora, "d2", 3))
			p.prune(second(1), 0)
			p.prune(second(5), 5)
			p.selects(presence.JournalQuery{Subject: ann}, "t2", "t3")
			p.selects(presence.JournalQuery{Subject: ann, From: second(3), To: second(5)})
			p.selects(presence.JournalQuery{Subject: bob}, "b2")
			p.selects(presence.JournalQuery{}, "t2", "t3", "b2")
			p.selects(presence.JournalQuery{After: row(ann, "t2", 2)}, "t3", "b2")
			p.selects(presence.JournalQuery{To: second(5)}, "t2")
			p.selects(presence.JournalQuery{Subject: presence.Ref{Tenant: "acme"}}, "d2")
			p.prune(second(5), 0)
			p.append(row(ann, "t2", 2)) // repeated because its answer was lost
			p.prune(second(6), 1)
			p.selects(presence.JournalQuery{Subject: ann}, "t3")
			p.append(row(ann, "t4", 7), claimRow(ann, "c4", 8))
			p.prune(second(2), 0)
			p.prune(second(9), 3)
			p.selects(presence.JournalQuery{Subject: ann}, "t4")
			p.selects(presence.JournalQuery{Subject: bob})
			for seed := range uint64(4) {
				pruneAt(p, presence.ID("random-"+strconv.FormatUint(seed, 10)), rand.New(rand.NewPCG(seed, 1)))
			}
		},
	},
	{
		name:    "journal-limit",
		text:    "A query returns the first Limit rows, or the first 1,000 if Limit is 0; paging with After returns each row once.",
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
				q.After = page[len(page)-1]
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
		name:    "journal-grows",
		text:    "Rows appended between two pages are on a later page.",
		applies: storageProbe.reads,
		check: func(p storageProbe) {
			p.append(row(ann, "r1", 5), row(ann, "r2", 6))
			q := presence.JournalQuery{Subject: ann, After: presence.JournalRow{ID: "r2"}}
			p.selects(q)
			p.append(row(ann, "r3", 7), row(ann, "r4", 8))
			p.selects(q, "r3", "r4")
			q.After.ID = "r4"
			p.selects(q)
			p.append(row(ann, "r5", 9))
			p.selects(q, "r5")
		},
	},
	{
		name:    "journal-whole-batches",
		text:    "Append stores all of its rows or, if its context ends, all or none; a repeated call then adds missing rows.",
		applies: storageProbe.reads,
		check: func(p storageProbe) {
			var ids []string
			for round := range 25 {
				var batch []presence.JournalRow
				for i := range 3 {
					ids = append(ids, fmt.Sprintf("r%02d-%d", round, i))
					batch = append(batch, row(ann, ids[len(ids)-1], round))
				}
				ctx, cancel := context.WithTimeout(p.ctx, time.Duration(round*round)*10*time.Microsecond)
				err := p.s.Append(ctx, batch...)
				cancel()
				q := presence.JournalQuery{Subject: ann}
				if round > 0 {
					q.After.ID = ids[len(ids)-4]
				}
				if n := len(p.journal(q)); n != 3 && (n != 0 || err == nil) {
					p.failf("Append of 3 rows answered %v: wanted all stored, or none and an error; got %d", err, n)
				}
				if err != nil {
					p.append(batch...)
				}
			}
			p.selects(presence.JournalQuery{Subject: ann}, ids...)
		},
	},
	{
		name:    "journal-concurrent",
		text:    "Rows of concurrent Appends are all kept, those of each writer in its order.",
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
		text:    "Delete removes the journals of the given subjects and no others; the same rows can then be appended again.",
		applies: storageProbe.reads,
		check: func(p storageProbe) {
			p.append(row(ann, "r1", 1), row(ann, "r2", 2), row(bob, "b1", 1))
			p.delete(ann)
			p.selects(presence.JournalQuery{Subject: ann})
			p.selects(presence.JournalQuery{Subject: bob}, "b1")
			p.append(row(ann, "r2", 2))
			p.selects(presence.JournalQuery{Subject: ann}, "r2")
			if p.prunes() {
				_, err := p.s.(Pruner).Prune(p.ctx, second(9)) // another rule checks what it does
				if err != nil {
					p.failf("Prune: wanted no error, got %w", err)
				}
				p.delete(bob)
				p.selects(presence.JournalQuery{Subject: bob})
			}
		},
	},
	{
		name:    "tenant-rows",
		text:    "A query without a subject id returns the rows of all subjects of its tenant, and of no other tenant.",
		applies: storageProbe.reads,
		check: func(p storageProbe) {
			other := func(id, rowID string, at int) presence.JournalRow {
				return row(presence.Ref{Tenant: "acme", ID: id}, rowID, at)
			}
			p.append(row(ann, "a1", 1), other("ann", "x1", 2), row(bob, "b1", 3), other("zoe", "z1", 4), row(cid, "c1", 5))
			p.selects(presence.JournalQuery{}, "a1", "b1", "c1")
			p.selects(presence.JournalQuery{Subject: presence.Ref{Tenant: "acme"}}, "x1", "z1")
			p.selects(presence.JournalQuery{Subject: presence.Ref{Tenant: "acm"}})
		},
	},
	{
		name:    "tenant-order",
		text:    "A query of a tenant returns rows ordered by At, and rows of the same instant in the order of Append.",
		applies: storageProbe.reads,
		check: func(p storageProbe) {
			p.append(row(bob, "b9", 5), row(ann, "a10", 3))
			p.append(row(ann, "a9", 5))
			p.append(row(cid, "c1", 5), row(bob, "b1", 4), row(bob, "b0", 5), row(ann, "old", 1))
			p.selects(presence.JournalQuery{}, "old", "a10", "b1", "b9", "a9", "c1", "b0")
		},
	},
	{
		name:    "tenant-window",
		text:    "A query of a tenant selects the rows with From <= At < To, where zero means no limit.",
		applies: storageProbe.reads,
		check: func(p storageProbe) {
			p.append(row(ann, "r1", 1), row(bob, "r2", 2), row(ann, "r3", 3))
			p.selects(presence.JournalQuery{From: second(2)}, "r2", "r3")
			p.selects(presence.JournalQuery{From: second(2) + 1}, "r3")
			p.selects(presence.JournalQuery{To: second(2)}, "r1")
			p.selects(presence.JournalQuery{To: second(2) + 1}, "r1", "r2")
			p.selects(presence.JournalQuery{From: second(2), To: second(3)}, "r2")
			p.selects(presence.JournalQuery{From: second(2), To: second(2)})
		},
	},
	{
		name:    "tenant-pages",
		text:    "A query of a tenant returns at most Limit rows, or 1,000 if Limit is 0; paging with the last row of each page returns each row once.",
		applies: storageProbe.reads,
		check: func(p storageProbe) {
			const count = 1010
			var ids []string
			var rows []presence.JournalRow
			for i := range count {
				ids = append(ids, fmt.Sprintf("r%04d", i))
				rows = append(rows, row(presence.ID("subject-"+strconv.Itoa(i%7)), ids[i], 1+i/5)) // five on each instant
			}
			p.append(rows...)
			want(p.probe, "rows without a limit", 1000, len(p.journal(presence.JournalQuery{})))
			var paged []string
			q := presence.JournalQuery{Limit: 97, From: second(1), To: second(1000)}
			for len(paged) <= count && !p.failed() {
				page := p.journal(q)
				if len(page) == 0 {
					break
				}
				if len(page) > q.Limit {
					p.failf("wanted at most %d rows, got %d", q.Limit, len(page))
				}
				paged = append(paged, idsOf(page)...)
				q.After = page[len(page)-1]
			}
			if !slices.Equal(paged, ids) {
				p.failf("paging: wanted %d rows in order, got %d: %v", len(ids), len(paged), paged)
			}
		},
	},
	{
		name:    "tenant-gone",
		text:    "If the row After has been deleted, a query of a tenant continues with the rows of its instant.",
		applies: storageProbe.reads,
		check: func(p storageProbe) {
			p.append(row(ann, "a1", 1), row(ann, "a2", 2), row(bob, "b2", 2), row(cid, "c2", 2), row(ann, "a3", 3))
			p.delete(bob)
			if !slices.Contains(idsOf(p.journal(presence.JournalQuery{})), "b2") { // another rule checks that it is deleted
				p.selects(presence.JournalQuery{After: row(bob, "b2", 2)}, "a2", "c2", "a3")
			}
		},
	},
}

// pruneAt appends a random history, in which the clock steps back now and then, and
// cuts it at later and later instants. Each query from a cut or later must select with
// Base what it selects of the whole history.
func pruneAt(p storageProbe, subject presence.Ref, random *rand.Rand) {
	var all []presence.JournalRow
	at := 100
	for cut := 100; cut < 200 && !p.failed(); cut += 5 + random.IntN(20) {
		var rows []presence.JournalRow
		for range random.IntN(12) {
			if at += random.IntN(4); random.IntN(5) == 0 {
				at = max(cut, at-random.IntN(30))
			}
			id := subject.ID + "-" + strconv.Itoa(len(all)+len(rows))
			if random.IntN(2) == 0 {
				rows = append(rows, row(subject, id, at))
			} else {
				rows = append(rows, claimRow(subject, id, at))
			}
		}
		p.append(rows...)
		all = append(all, rows...)
		if !p.failed() {
			if _, err := p.s.(Pruner).Prune(p.ctx, second(cut)); err != nil {
				p.failf("Prune: wanted no error, got %w", err)
			}
		}
		for _, from := range []int{cut, cut + 1, cut + random.IntN(30)} {
			q := presence.JournalQuery{Subject: subject, From: second(from), Base: true, Limit: len(all) + 1}
			p.selects(q, idsOf(q.Select(all))...)
		}
		older := p.journal(presence.JournalQuery{Subject: subject, To: second(cut)})
		if len(older) > 1 {
			p.failf("rows from before the cut: wanted at most one, got %v", idsOf(older))
		}
	}
}
