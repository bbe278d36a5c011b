package presence_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/benbjohnson/clock"
	"github.com/stretchr/testify/require"

	"github.com/presence-go/presence"
	"github.com/presence-go/presence/internal/naive"
	"github.com/presence-go/presence/preset"
)

var (
	onlySeed = flag.Uint64("seed", 0, "run the random histories of this seed alone")
	long     = flag.Bool("long", false, "run many more random histories")
)

// eachSeed calls f with one seed after the other, or with the one asked for.
func eachSeed(t *testing.T, count int, f func(t *testing.T, seed uint64)) {
	t.Helper()
	if *onlySeed != 0 {
		f(t, *onlySeed)
		return
	}
	if *long {
		count *= 40
	}
	for seed := range uint64(count) {
		f(t, seed+1)
	}
}

// follower runs the events of one subject's history through the machine.
type follower struct {
	h      *history
	m      *presence.Machine
	policy *presence.Policy // that m was compiled from
	s      presence.State
	out    []presence.Output
	next   presence.Instant // as the last step returned it
}

func follow(h *history) *follower { return &follower{h: h, m: h.machines[0], policy: &h.policies[0]} }

// feed takes the next event. A new policy is put in force as a tracker does it.
func (f *follower) feed(h happened) error {
	if h.event.Kind == presence.EventPolicy {
		f.out, _, _ = f.m.Step(&f.s, &presence.Event{}, h.at, f.out)
		f.m, f.policy = f.h.machines[h.policy], &f.h.policies[h.policy]
	}
	var err error
	f.out, f.next, err = stepMachine(f.m, &f.s, h, f.h.subjects[0], f.out)
	return err
}

// run feeds all events and returns what came of them.
func (h *history) run() *follower {
	f := follow(h)
	for _, e := range h.events {
		_ = f.feed(e) // refusals are part of histories
	}
	return f
}

func (f *follower) turns() (list []naive.Turn) {
	for _, o := range f.out {
		if o.Kind == presence.OutputTransition {
			list = append(list, naive.Turn{Prev: o.Prev, Status: o.Presence.Status, Since: o.At, Seen: o.Noticed})
		}
	}
	return list
}

// compareWithNaive runs one subject's history through the machine and through
// the naive model, under the policies given, and returns the first difference.
func compareWithNaive(h *history, policies []presence.Policy) error {
	f := follow(h)
	n := &naive.Model{Subject: h.subjects[0], Policies: policies}
	for i, e := range h.events {
		err := f.feed(e)
		if accepted := n.Feed(e.at, e.event, e.policy); accepted != (err == nil) {
			return fmt.Errorf("event %d (%s): accepted by the model: %t; the machine says: %v", i, e.text(), accepted, err)
		}
		if err := n.Compare(&f.s, e.at); err != nil {
			return fmt.Errorf("after event %d (%s):\n %w", i, e.text(), err)
		}
	}
	want, got := n.Timeline(nil), f.turns()
	for i := range max(len(want), len(got)) {
		switch {
		case i >= len(got):
			return fmt.Errorf("transition %d is missing: want %v", i, want[i])
		case i >= len(want):
			return fmt.Errorf("transition %d is too many: got %v", i, got[i])
		case want[i] != got[i]:
			return fmt.Errorf("transition %d:\n want %v\n got  %v", i, want[i], got[i])
		}
	}
	return nil
}

// requireAlways fails with the smallest history for which check returns an
// error, if it does so for this one.
func requireAlways(t *testing.T, h *history, check func(*history) error) {
	t.Helper()
	if check(h) == nil {
		return
	}
	h = h.shrink(func(h *history) bool { return check(h) != nil })
	require.NoError(t, check(h), "once more: go test -run '^%s$' . -seed %d\n%s", t.Name(), h.seed, h)
}

func TestMachineAgreesWithNaiveModel(t *testing.T) {
	t.Parallel()
	eachSeed(t, 600, func(t *testing.T, seed uint64) {
		h := randomHistory(seed, []presence.Ref{peter, quinn})
		for _, subject := range h.subjects {
			requireAlways(t, h.of(subject), func(h *history) error { return compareWithNaive(h, h.policies) })
		}
	})
}

// verdict is what the order of simultaneous events and claims that are over may
// not change.
type verdict struct {
	Status, Masked string
	Routable       bool
}

func (f *follower) verdict() verdict {
	p := &f.s.Current
	return verdict{p.Status, p.Masked, p.Routable}
}

// verdicts runs a history and returns the verdict after each of its events from
// one on.
func (h *history) verdicts(from int) (list []verdict) {
	f := follow(h)
	for i, e := range h.events {
		_ = f.feed(e)
		if i >= from {
			list = append(list, f.verdict())
		}
	}
	return list
}

// Invariant 1: events of one instant on different connections and claims come
// to the same in any order. Left out are those of which one looks at the other:
// connecting takes over the present idle age, one's own claim is input on what
// is live, and choosing the default depends on what else is claimed.
func TestOrderOfSimultaneousEventsIsNoMatter(t *testing.T) {
	t.Parallel()
	eachSeed(t, 700, func(t *testing.T, seed uint64) {
		list := rulings()
		g := newGenerator(seed, list[seed%uint64(len(list))], peter)
		for range 3 + g.IntN(15) {
			g.pass()
			g.add(g.event())
		}
		from := len(g.h.events)
		ended := g.simultaneous()
		group := from + ended
		for range 2 + g.IntN(12) {
			g.pass()
			g.add(g.event())
		}
		order := g.Perm(ended)
		check := func(h *history) error {
			shuffled := slices.Clone(h.events)
			for i, e := range h.events {
				if e.rank != 0 { // it belongs to the group
					shuffled[i].event = presence.Event{}
				}
			}
			var places []int
			for i, e := range h.events {
				if e.rank != 0 {
					places = append(places, i)
				}
			}
			members := slices.Clone(places)
			slices.SortFunc(members, func(a, b int) int { return order[h.events[a].rank-1] - order[h.events[b].rank-1] })
			for i, place := range places {
				shuffled[place] = h.events[members[i]]
			}
			after := 0
			if len(places) > 0 {
				after = places[len(places)-1]
			}
			want, got := h.verdicts(after), h.with(shuffled).verdicts(after)
			for i := range want {
				if want[i] != got[i] {
					return fmt.Errorf("after event %d: %+v, and %+v in the order\n%s", after+i, want[i], got[i], h.with(shuffled))
				}
			}
			return nil
		}
		for i := from; i < group; i++ {
			g.h.events[i].rank = i - from + 1
		}
		requireAlways(t, &g.h, check)
	})
}

// simultaneous adds events of one instant whose order must not matter, and
// returns how many.
func (g *generator) simultaneous() int {
	var group []presence.Event
	own := g.IntN(3) == 0
	if own {
		e := presence.Event{Kind: presence.EventSetClaim, Actor: presence.Agent(peter)}
		if e.Claim.Status = g.status(); e.Claim.Status != naive.DefaultIn(g.policy()).ID {
			group = append(group, e)
		}
	} else {
		for _, conn := range []string{"a", "b", "c"} {
			e := presence.Event{Conn: conn, Age: g.age()}
			switch g.IntN(6) {
			case 0:
				continue
			case 1:
				e.Kind = presence.EventHeartbeat
			case 2:
				e.Kind = presence.EventInput
			case 3:
				e.Kind, e.Channel = presence.EventFocus, "desk"
			case 4:
				e.Kind = presence.EventVisible
			case 5:
				e.Kind, e.Cause = presence.EventDisconnect, pickOne(g, presence.CauseClosed, presence.CauseLost, presence.CauseDrain, presence.CauseNode)
			}
			group = append(group, e)
		}
	}
	for _, source := range []presence.Source{presence.SourceSystem, presence.SourceCall, presence.SourceCalendar, presence.SourceApp} {
		e := presence.Event{Kind: presence.EventSetClaim, Actor: presence.Actor{Subject: presence.ID("host"), Role: presence.RoleSystem}}
		e.Claim = presence.Claim{Source: source, Status: g.status(), For: pickOne(g, 0, 0, time.Minute)}
		switch g.IntN(6) {
		case 0:
			group = append(group, e)
		case 1:
			e.Kind, e.Claim = presence.EventEndClaim, presence.Claim{Source: source}
			group = append(group, e)
		}
	}
	g.Shuffle(len(group), func(i, j int) { group[i], group[j] = group[j], group[i] })
	for _, e := range group {
		e.Subject = peter
		g.add(happened{event: e})
	}
	return len(group)
}

// Invariants 2, 3, 6 and 13 hold after every step of every history.
func TestEveryStepHoldsTheInvariants(t *testing.T) {
	t.Parallel()
	eachSeed(t, 800, func(t *testing.T, seed uint64) {
		h := randomHistory(seed, []presence.Ref{peter})
		requireAlways(t, h, func(h *history) error {
			f := follow(h)
			held := make(map[string]presence.Claim)
			for i, e := range h.events {
				before, told := f.s.Clone(), len(f.out)
				_ = f.feed(e)
				err := f.unreachable()
				if err == nil {
					err = f.claims(&e, f.out[told:], held)
				}
				if err == nil {
					err = f.inOrder(&before, f.out[told:])
				}
				if err != nil {
					return fmt.Errorf("event %d (%s): %w", i, e.text(), err)
				}
			}
			return f.spent()
		})
	})
}

// unreachable is invariant 2.
func (f *follower) unreachable() error {
	p, policy := &f.s.Current, f.policy
	if !p.Known || p.Reach != presence.ReachNone {
		return nil
	}
	if p.Routable {
		return fmt.Errorf("routable without being reachable: %+v", p)
	}
	proof := slices.ContainsFunc(f.s.Claims, func(c presence.Claim) bool { return slices.Contains(policy.DisconnectProof, c.Source) })
	if !p.Disabled && !proof && (p.Status != naive.DisconnectedIn(policy).ID || p.Masked == "") {
		return fmt.Errorf("not reachable, but not shown as disconnected: %+v", p)
	}
	return nil
}

// claims is invariants 3 and 13: what changes the set of claims is told, and is
// either the event or one of the ends that time alone may bring.
func (f *follower) claims(e *happened, out []presence.Output, held map[string]presence.Claim) error {
	slot := func(c presence.Claim) string { return fmt.Sprint(c.Source, "/", c.Key, "/", c.Conn) }
	for _, o := range out {
		byTime := o.Noticed < f.s.Now || e.event.Kind == presence.EventTick || e.event.Kind == presence.EventSuspended
		switch o.Kind {
		case presence.OutputClaimSet:
			if byTime || e.event.Kind != presence.EventSetClaim && e.event.Kind != presence.EventLogin {
				return fmt.Errorf("claim %s set by time alone or by an event that sets none", o.Claim.ID)
			}
			selectable := naive.StatusOf(f.policy, o.Claim.Status).SelectableBy
			if o.Claim.Source == presence.SourceManual && !slices.Contains(selectable, presence.BySelf) {
				return fmt.Errorf("manual claim of %s, which is not selectable by oneself", o.Claim.Status)
			}
			held[slot(o.Claim)] = o.Claim
		case presence.OutputClaimEnded:
			if byTime && o.Reason != presence.EndUntil && o.Reason != presence.EndDisconnected {
				return fmt.Errorf("claim %s ended by time alone because of %s", o.Claim.ID, o.Reason)
			}
			late := o.At != o.Claim.Until && e.event.Kind != presence.EventClock
			if o.Reason == presence.EndUntil && (late || o.At < o.Claim.Until || o.Noticed != o.At) {
				return fmt.Errorf("claim %s until %s ended at %s", o.Claim.ID, o.Claim.Until, o.At)
			}
			if held[slot(o.Claim)].Serial != o.Claim.Serial {
				return fmt.Errorf("claim %s ended, which did not hold", o.Claim.ID)
			}
			delete(held, slot(o.Claim))
		}
	}
	for _, c := range f.s.Claims {
		if held[slot(c)].Serial != c.Serial {
			return fmt.Errorf("claim %s holds, which nobody was told", c.ID)
		}
	}
	if len(held) != len(f.s.Claims) {
		return fmt.Errorf("%d claims hold, %d were told", len(f.s.Claims), len(held))
	}
	return nil
}

// inOrder is the first half of invariant 6.
func (f *follower) inOrder(before *presence.State, out []presence.Output) error {
	status, since, noticed := before.Current.Status, before.Current.Since, before.Now
	for _, o := range out {
		if o.Kind != presence.OutputTransition {
			continue
		}
		p := &o.Presence
		switch {
		case o.At < since || o.Noticed < noticed || o.At > o.Noticed:
			return fmt.Errorf("transition to %s at %s, seen %s, after %s, seen %s", p.Status, o.At, o.Noticed, since, noticed)
		case o.Prev != status || p.Status == status || p.Since != o.At:
			return fmt.Errorf("transition from %s to %s since %s at %s, after %s", o.Prev, p.Status, p.Since, o.At, status)
		}
		status, since, noticed = p.Status, o.At, o.Noticed
	}
	if f.s.Current.Status != status || f.s.Current.Since != since {
		return fmt.Errorf("%s since %s, but last told was %s since %s", f.s.Current.Status, f.s.Current.Since, status, since)
	}
	return nil
}

// spent is the second half: what the journal says was spent in each status is
// the time observed.
func (f *follower) spent() error {
	var rows []presence.JournalRow
	for i := range f.out {
		if row, ok := f.out[i].Row(); ok && row.Kind == presence.RowTransition {
			rows = append(rows, row)
		}
	}
	if len(rows) == 0 {
		return nil
	}
	spent := make(map[string]time.Duration)
	ids := make(map[string]bool)
	for i, row := range rows {
		until := f.s.Now
		if i+1 < len(rows) {
			until = rows[i+1].At
		}
		if until < row.At || row.Recorded < row.At || ids[row.ID] {
			return fmt.Errorf("row %d ends before it begins, or its id is not its own: %+v", i, row)
		}
		spent[row.To] += until.Sub(row.At)
		ids[row.ID] = true
	}
	total := time.Duration(0)
	for _, d := range spent {
		total += d
	}
	if observed := f.s.Now.Sub(rows[0].At); total != observed {
		return fmt.Errorf("%v spent in all, %v observed", total, observed)
	}
	return nil
}

// Invariant 4: an event with an identity of its own changes nothing when it
// comes again.
func TestRepeatedEventsChangeNothing(t *testing.T) {
	t.Parallel()
	eachSeed(t, 600, func(t *testing.T, seed uint64) {
		h := randomHistory(seed, []presence.Ref{peter})
		requireAlways(t, h, func(h *history) error {
			f := follow(h)
			for i, e := range h.events {
				switch e.event.Kind {
				case presence.EventConnect, presence.EventLogin:
					e.event.Epoch = f.s.Epoch + 1
				case presence.EventSetClaim:
					e.event.Claim.ID = fmt.Sprint("once", i)
				case presence.EventClock:
					continue // what a clock is set by has no identity: twice is twice
				}
				first := f.feed(e)
				once, told := f.s.Clone(), len(f.out)
				again := f.feed(e)
				if first != nil && again == nil {
					return fmt.Errorf("event %d (%s): refused first, accepted then: %w", i, e.text(), first)
				}
				if !reflect.DeepEqual(once, f.s) || len(f.out) > told {
					return fmt.Errorf("event %d (%s) comes again:\n once  %+v\n twice %+v\n %+v", i, e.text(), once, f.s, f.out[told:])
				}
			}
			return nil
		})
	})
}

// Invariant 5: when the machine is told that time passes is no matter. A tick
// at every deadline, ticks at random or none at all give the same transitions at
// the same instants; and what is due is due at the deadline foretold.
func TestTicksAreNoMatter(t *testing.T) {
	t.Parallel()
	eachSeed(t, 400, func(t *testing.T, seed uint64) {
		h := randomHistory(seed, []presence.Ref{peter})
		requireAlways(t, h, func(h *history) error {
			want := told(h.run().out)
			r := rand.New(rand.NewPCG(h.seed, 2))
			var none, some []happened
			from := nineSharp
			for i, e := range h.events {
				e.at = max(e.at, from) // a tick before a clock was set back is the later of the two
				if e.event.Kind == presence.EventSuspended {
					from = e.at // nothing could be said while all stood still
				}
				for range r.IntN(4) {
					if e.at > from {
						from += presence.Instant(r.Int64N(int64(e.at - from)))
						some = append(some, happened{at: from})
					}
				}
				from = e.at
				some = append(some, e)
				if e.event.Kind != presence.EventTick || i == len(h.events)-1 {
					none = append(none, e)
				}
			}
			for _, other := range [][]happened{none, some} {
				if got := told(h.with(other).run().out); !slices.Equal(want, got) {
					return fmt.Errorf("want\n %s\ngot\n %s", strings.Join(want, "\n "), strings.Join(got, "\n "))
				}
			}
			f := follow(h)
			for _, e := range h.events {
				until := e.at
				if e.event.Kind == presence.EventSuspended {
					until = e.event.From
				}
				for {
					due, ok := f.m.Next(&f.s)
					if !ok || due > until {
						break
					}
					before := len(f.out)
					_ = f.feed(happened{at: due})
					for _, o := range f.out[before:] {
						if o.Kind != presence.OutputPersist && o.Noticed != max(due, nineSharp) && o.Noticed != f.s.Now {
							return fmt.Errorf("due at %s, noticed at %s: %+v", due, o.Noticed, o)
						}
					}
					if next, ok := f.m.Next(&f.s); ok && next <= f.s.Now {
						return fmt.Errorf("after the tick at %s the next deadline is %s", f.s.Now, next)
					}
				}
				before := f.s.Now
				told := len(f.out)
				_ = f.feed(e)
				for _, o := range f.out[told:] {
					if e.event.Kind != presence.EventSuspended && o.Kind != presence.OutputPersist && o.Noticed < max(before, e.at) {
						return fmt.Errorf("noticed only with the next event (%s): %+v", e.text(), o)
					}
				}
			}
			if got := told(f.out); !slices.Equal(want, got) {
				return fmt.Errorf("with a tick at every deadline: want\n %s\ngot\n %s", strings.Join(want, "\n "), strings.Join(got, "\n "))
			}
			return nil
		})
	})
}

// A step returns a lower bound of the next deadline. A driver that ticks at the
// bound gets what one that asks Next gets. A refused event lets time pass and
// changes nothing else, and no event is changed by being fed.
func TestStepForetellsTheNextDeadline(t *testing.T) {
	t.Parallel()
	refused := 0
	eachSeed(t, 400, func(t *testing.T, seed uint64) {
		h := randomHistory(seed, []presence.Ref{peter})
		requireAlways(t, h, func(h *history) error {
			want := told(h.run().out)
			f := follow(h)
			feed := func(e happened) error {
				only := f.s.Clone()
				given := e.event
				if err := f.feed(e); err != nil {
					refused++
					if _, _, err := f.m.Step(&only, &presence.Event{}, e.at, nil); err != nil {
						return err
					}
					if !reflect.DeepEqual(only, f.s) {
						return fmt.Errorf("refused (%s):\n want %+v\n got  %+v", e.text(), only, f.s)
					}
				}
				if !reflect.DeepEqual(given, e.event) {
					return fmt.Errorf("the event was changed: %+v, now %+v", given, e.event)
				}
				if exact, ok := f.m.Next(&f.s); ok != (f.next != 0) || f.next > exact {
					return fmt.Errorf("after %s: foretold %s, due at %s", e.text(), f.next, exact)
				}
				return nil
			}
			for _, e := range h.events {
				until := e.at
				if e.event.Kind == presence.EventSuspended {
					until = e.event.From
				}
				for f.next != 0 && f.next <= until {
					if err := feed(happened{at: f.next}); err != nil {
						return err
					}
					if f.next != 0 && f.next <= f.s.Now {
						return fmt.Errorf("after the tick at %s the next deadline is %s", f.s.Now, f.next)
					}
				}
				if err := feed(e); err != nil {
					return err
				}
			}
			if got := told(f.out); !slices.Equal(want, got) {
				return fmt.Errorf("want\n %s\ngot\n %s", strings.Join(want, "\n "), strings.Join(got, "\n "))
			}
			return nil
		})
	})
	if *onlySeed == 0 {
		require.Greater(t, refused, 500)
	}
}

// told writes down the transitions and claims among outputs.
func told(out []presence.Output) (list []string) {
	for _, o := range out {
		if row, ok := o.Row(); ok {
			list = append(list, fmt.Sprintf("%+v", row))
		}
	}
	return list
}

// Invariant 15: a claim that is over is as if it had never been.
func TestEndedClaimsLeaveNoTrace(t *testing.T) {
	t.Parallel()
	eachSeed(t, 600, func(t *testing.T, seed uint64) {
		h := randomHistory(seed, []presence.Ref{peter})
		r := rand.New(rand.NewPCG(seed, 3))
		begin := 1 + r.IntN(len(h.events)-1)
		end := begin + r.IntN(len(h.events)-begin)
		policy := h.machines[0].Policy()
		claim := presence.Event{Kind: presence.EventSetClaim, Subject: peter, Actor: presence.Actor{Subject: presence.ID("host"), Role: presence.RoleSystem}}
		claim.Claim = presence.Claim{
			Source: []presence.Source{presence.SourceSystem, presence.SourceCall, presence.SourceCalendar, presence.SourceApp}[r.IntN(4)],
			Key:    "extra", Status: policy.Statuses[r.IntN(len(policy.Statuses))].ID, Until: h.events[end].at + presence.Instant(r.IntN(2)),
		}
		if r.IntN(2) == 0 {
			claim.Claim.Until = 0
		}
		over := claim
		over.Kind, over.Claim = presence.EventEndClaim, presence.Claim{Source: claim.Claim.Source, Key: "extra"}
		var events []happened
		for i, e := range h.events {
			if i == begin {
				events = append(events, happened{at: h.events[i-1].at, event: claim, rank: 1})
			}
			c := &e.event.Claim
			if i >= begin && i <= end && e.event.Kind == presence.EventSetClaim && (c.Source == "" || c.Source == presence.SourceManual) {
				continue // choosing the default may mean another thing while more is claimed
			}
			events = append(events, e)
			if i == end {
				events = append(events, happened{at: e.at, event: over, rank: 2})
			}
		}
		requireAlways(t, h.with(events), func(h *history) error {
			after := slices.IndexFunc(h.events, func(e happened) bool { return e.rank == 2 })
			if after < 0 {
				return nil
			}
			without := slices.Clone(h.events)
			for i := range without {
				if without[i].rank != 0 {
					without[i].event = presence.Event{}
				}
			}
			want, got := h.with(without).verdicts(after), h.verdicts(after)
			for i := range want {
				if want[i] != got[i] {
					return fmt.Errorf("after event %d: %+v, without the claim %+v", after+i, got[i], want[i])
				}
			}
			return nil
		})
	})
}

// The same inputs give the same outputs and states, to the byte.
func TestRunningTwiceGivesTheSameBytes(t *testing.T) {
	t.Parallel()
	eachSeed(t, 100, func(t *testing.T, seed uint64) {
		var runs [2][]byte
		for i := range runs {
			h := randomHistory(seed, []presence.Ref{peter})
			f := h.run()
			record, err := f.m.Record(&f.s, 1)
			require.NoError(t, err)
			runs[i], err = json.Marshal([]any{f.out, f.s, record, f.m.Explain(&f.s, presence.AudienceSelf)})
			require.NoError(t, err)
		}
		require.Equal(t, runs[0], runs[1], "seed %d", seed)
	})
}

// viewer names a stream: an audience, and whose for the audience self.
type viewer struct {
	audience presence.Audience
	subject  presence.Ref
}

// emission is a frame and when it was sent.
type emission struct {
	at    presence.Instant
	frame *presence.Frame
}

// room is one channel with its members' machines and a stream for every
// audience, driven the way a tracker drives them: every deadline at its instant,
// then the event.
type room struct {
	h      *history
	m      *presence.Machine
	now    presence.Instant
	states map[presence.Ref]*presence.State
	roster *presence.Roster
	sent   map[viewer][]emission
	names  map[string]viewer // by the epoch that a stream was given
}

func newRoom(h *history) *room {
	r := &room{
		h: h, m: h.machines[0], now: nineSharp, states: make(map[presence.Ref]*presence.State),
		roster: presence.NewRoster(presence.ChannelID("desk"), h.machines[0]), sent: make(map[viewer][]emission), names: make(map[string]viewer),
	}
	viewers := []viewer{
		{presence.AudienceTeam, peter}, {presence.AudienceSupervisor, peter}, {presence.AudienceAdmin, peter},
		{presence.AudienceVisitor, peter}, {presence.AudienceRouter, peter}, {presence.AudienceSelf, peter}, {presence.AudienceSelf, quinn},
	}
	for _, v := range viewers {
		name := fmt.Sprint(v)
		r.names[name] = v
		f := r.roster.Open(v.audience, v.subject, func() string { return name })
		r.sent[v] = append(r.sent[v], emission{nineSharp, f})
	}
	for _, subject := range h.subjects {
		r.states[subject] = new(presence.State)
		r.send(r.roster.Put(&presence.Presence{Subject: subject}, nineSharp))
	}
	return r
}

func (r *room) send(frames []*presence.Frame) {
	for _, f := range frames {
		v := r.names[f.Epoch]
		r.sent[v] = append(r.sent[v], emission{r.now, f})
	}
}

// members returns the members in order.
func (r *room) members() []presence.Ref {
	return slices.DeleteFunc(slices.Clone(r.h.subjects), func(subject presence.Ref) bool { return !r.roster.Has(subject) })
}

func (r *room) step(subject presence.Ref, h happened) {
	out, _ := feedMachine(r.m, r.states[subject], h, subject, nil)
	for _, o := range out {
		if (o.Kind == presence.OutputTransition || o.Kind == presence.OutputUpdated) && r.roster.Has(subject) {
			r.now = max(r.now, o.Noticed)
			r.send(r.roster.Put(&o.Presence, o.Noticed))
		}
	}
}

// pass processes what is due up to an instant.
func (r *room) pass(to presence.Instant) {
	for {
		due, found := r.roster.Next()
		var who presence.Ref
		for _, subject := range r.h.subjects {
			if at, ok := r.m.Next(r.states[subject]); ok && (!found || at < due) {
				due, found, who = at, true, subject
			}
		}
		if !found || due > to {
			break
		}
		r.now = max(r.now, due)
		if who == (presence.Ref{}) {
			r.send(r.roster.Flush(r.now))
		} else {
			r.step(who, happened{at: r.now})
		}
	}
	r.now = max(r.now, to)
}

func (r *room) feed(h happened) {
	h.at = max(h.at, r.now)
	if h.event.Kind == presence.EventSuspended {
		r.pass(h.event.From)
		r.now = max(r.now, h.at)
	} else {
		r.pass(h.at)
	}
	h.at = r.now
	switch {
	case h.rank == enterOrLeave:
		if r.roster.Has(h.event.Subject) {
			r.send(r.roster.Remove(h.event.Subject, h.at))
		} else {
			p := r.states[h.event.Subject].Current
			p.Subject = h.event.Subject
			r.send(r.roster.Put(&p, h.at))
		}
		return
	case h.event.Kind == presence.EventPolicy:
		for _, subject := range r.h.subjects {
			r.step(subject, happened{at: h.at})
		}
		r.m = r.h.machines[h.policy]
		r.roster.SetMachine(r.m)
		defer func() { r.send(r.roster.Republish(r.now)) }()
	}
	for _, subject := range r.h.subjects {
		if h.event.Subject == (presence.Ref{}) || h.event.Subject == subject {
			r.step(subject, h)
		}
	}
}

// enterOrLeave marks an event that makes its subject a member, or ends that.
const enterOrLeave = 100

// screen is what a watcher knows who applies every frame it receives.
type screen struct {
	v       viewer
	epoch   string
	seq     uint64
	read    int // frames so far
	rows    map[presence.Ref]presence.View
	present map[presence.Ref]bool
	group   presence.Group
}

func isPresent(v presence.View) bool { return v.Class != "" && v.Class != presence.ClassOffline }

// apply takes the next frame and says what is wrong with it, if something is.
func (s *screen) apply(f *presence.Frame) error {
	if f.Kind == presence.FrameSnapshot {
		s.rows, s.present = make(map[presence.Ref]presence.View), make(map[presence.Ref]bool)
		s.epoch, s.seq, s.group = f.Epoch, f.Seq, f.Group
		for _, v := range f.Members {
			s.rows[v.Subject], s.present[v.Subject] = v, isPresent(v)
		}
		return nil
	}
	if f.Epoch != s.epoch || f.Seq != s.seq+1 {
		return fmt.Errorf("frame %s/%d follows %s/%d", f.Epoch, f.Seq, s.epoch, s.seq)
	}
	s.seq, s.group = f.Seq, f.Group
	for _, c := range f.Changes {
		was := s.present[c.Subject]
		is := c.View != nil && isPresent(*c.View)
		switch {
		case c.Op == presence.OpJoined && (was || !is), c.Op == presence.OpLeft && (!was || is), c.Op == presence.OpUpdated && was != is:
			return fmt.Errorf("%s %s: present before: %t, now: %t", c.Subject, c.Op, was, is)
		}
		s.present[c.Subject] = is
		if delete(s.rows, c.Subject); c.View != nil {
			s.rows[c.Subject] = *c.View
		}
	}
	count := 0
	for _, is := range s.present {
		if is {
			count++
		}
	}
	if s.group.Count != count {
		return fmt.Errorf("%d counted, %d joined and not left", s.group.Count, count)
	}
	return nil
}

// agrees compares the screen with what the members' presences come to.
func (s *screen) agrees(r *room) error {
	rows, count := make(map[presence.Ref]presence.View), 0
	policy := &r.h.policies[slices.Index(r.h.machines, r.m)]
	for _, subject := range r.h.subjects {
		if !r.roster.Has(subject) {
			continue
		}
		p := r.states[subject].Current
		p.Subject = subject
		a := s.v.audience
		if a == presence.AudienceSelf && subject != s.v.subject {
			a = presence.AudienceTeam
		}
		view := r.m.View(&p, a)
		if a == presence.AudienceVisitor && (policy.Widget.List == "none" || policy.Widget.List == "online" && view.Class != presence.ClassAvailable) {
			continue
		}
		rows[subject] = view
		if isPresent(view) {
			count++
		}
	}
	if !maps.Equal(rows, s.rows) || s.group.Count != count {
		return fmt.Errorf("%s sees %v and %+v;\n want %v and %d present", s.v.audience, s.rows, s.group, rows, count)
	}
	return nil
}

// Invariant 7: joined and left alternate, the occupancy is their difference and
// the number of members present, and whoever applies every change sees what is.
func TestJoinedAndLeftAlternate(t *testing.T) {
	t.Parallel()
	eachSeed(t, 150, func(t *testing.T, seed uint64) {
		list := streamRulings()
		h := ruledHistory(seed, list[seed%uint64(len(list))], peter, quinn, rosa)
		r := rand.New(rand.NewPCG(seed, 4))
		for range 4 {
			i := r.IntN(len(h.events))
			entry := happened{at: h.events[i].at, rank: enterOrLeave, event: presence.Event{Subject: h.subjects[r.IntN(3)]}}
			h.events = slices.Insert(h.events, i, entry)
		}
		requireAlways(t, h, func(h *history) error {
			r := newRoom(h)
			screens := make(map[viewer]*screen)
			for v := range r.sent {
				screens[v] = &screen{v: v}
			}
			for i, e := range h.events {
				r.feed(e)
				for v, s := range screens {
					for _, sent := range r.sent[v][s.read:] {
						s.read++
						if err := s.apply(sent.frame); err != nil {
							return fmt.Errorf("event %d (%s), stream of %s: %w", i, e.text(), v.audience, err)
						}
					}
					if _, held := r.roster.Next(); held {
						continue // the newest is on its way
					}
					if err := s.agrees(r); err != nil {
						return fmt.Errorf("event %d (%s): %w", i, e.text(), err)
					}
				}
			}
			return nil
		})
	})
}

// streamRulings are policies of which some list less for visitors or hold changes
// back.
var streamRulings = sync.OnceValue(func() (list []ruling) {
	r := rand.New(rand.NewPCG(2, 1))
	for range 40 {
		policies := []presence.Policy{randomPolicy(r), randomPolicy(r), randomPolicy(r)}
		publish := []time.Duration{0, 0, 2 * time.Second}[r.IntN(3)]
		batch := []time.Duration{0, 0, time.Second}[r.IntN(3)]
		for i := range policies {
			policies[i].Widget.List = []string{"all", "all", "online", "none"}[r.IntN(4)]
			policies[i].CoalesceSubject, policies[i].CoalesceChannel = publish, batch
		}
		list = append(list, newRuling(policies...))
	}
	return list
})

// hiding is a policy under which a subject can hide, the claim by which it does,
// and from whom.
type hiding struct {
	ruling
	claim presence.Claim
	from  []presence.Audience
}

var hidings = sync.OnceValue(func() (list []hiding) {
	r := rand.New(rand.NewPCG(3, 1))
	for range 30 {
		p, claim, from := randomHiding(r)
		list = append(list, hiding{newRuling(p), claim, from})
	}
	return list
})

func randomHiding(r *rand.Rand) (p presence.Policy, claim presence.Claim, from []presence.Audience) {
	from = []presence.Audience{presence.AudienceTeam, presence.AudienceVisitor}
	if r.IntN(2) == 0 {
		from = []presence.Audience{presence.AudienceVisitor}
	}
	switch r.IntN(3) {
	case 0:
		p, _ = preset.Lookup("tawkto")
		i := slices.IndexFunc(p.Statuses, func(s presence.Status) bool { return s.ID == "invisible" })
		p.Statuses[i].HiddenFrom = from
		claim.Status = "invisible"
	case 1:
		p = presence.DefaultPolicy()
		p.Statuses = append(p.Statuses, presence.Status{ID: "gone", Class: presence.ClassBusy, HiddenFrom: from})
		claim.Status = "gone"
	default:
		p = presence.DefaultPolicy()
		p.Hideable = from
		claim.Status, claim.HidesFrom = []string{"available", "away", "busy"}[r.IntN(3)], from
	}
	if r.IntN(2) == 0 { // show all there is to see, so that everything can betray
		all := []string{"since", "setAt", "until", "reason", "text", "cause", "masked", "lastSeen", "lastLogin", "routable"}
		p.Views = map[presence.Audience][]string{presence.AudienceTeam: all, presence.AudienceVisitor: all}
	}
	if r.IntN(3) == 0 {
		p.CoalesceSubject = 2 * time.Second
	}
	if r.IntN(3) == 0 {
		p.CoalesceChannel = time.Second
	}
	p.Widget.List = []string{"all", "all", "online"}[r.IntN(3)]
	return p, claim, from
}

// Which of the two runs an event belongs to; both by default.
const (
	whileHidden = iota + 1
	whileLoggedOut
)

// Invariant 8: to those from whom someone hides from one instant to another, the
// channel looks, to the byte and the instant, as if they had logged out and in.
func TestHiddenIsLikeLoggedOut(t *testing.T) {
	frames, differ := 0, 0
	t.Parallel()
	eachSeed(t, 200, func(t *testing.T, seed uint64) {
		list := hidings()
		way := list[seed%uint64(len(list))]
		h := hiddenHistory(seed, way)
		requireAlways(t, h, func(h *history) error {
			var rooms [2]*room
			for i, leftOut := range []int{whileLoggedOut, whileHidden} {
				rooms[i] = newRoom(h)
				for _, e := range h.events {
					if e.rank != leftOut {
						rooms[i].feed(e)
					}
				}
			}
			hidden, away := rooms[0], rooms[1]
			streams := []viewer{{presence.AudienceVisitor, peter}}
			if slices.Contains(way.from, presence.AudienceTeam) {
				streams = append(streams, viewer{presence.AudienceTeam, peter}, viewer{presence.AudienceSelf, quinn})
			}
			for _, v := range streams {
				if err := sameStream(away.sent[v], hidden.sent[v]); err != nil {
					return fmt.Errorf("stream of %s: %w", v.audience, err)
				}
				frames += len(hidden.sent[v])
			}
			if admin := (viewer{presence.AudienceAdmin, peter}); sameStream(away.sent[admin], hidden.sent[admin]) != nil {
				differ++
			}
			return nil
		})
	})
	require.Greater(t, frames, 100, "frames compared")
	require.Greater(t, differ, 0, "runs whose difference those see from whom nothing is hidden")
}

func sameStream(want, got []emission) error {
	for i := range max(len(want), len(got)) {
		var texts [2]string
		for j, list := range [][]emission{want, got} {
			texts[j] = "nothing"
			if i < len(list) {
				data, err := list[i].frame.JSON()
				if err != nil {
					return err
				}
				texts[j] = fmt.Sprintf("+%v %s", list[i].at.Sub(nineSharp), data)
			}
		}
		if texts[0] != texts[1] {
			return fmt.Errorf("frame %d:\n logged out %s\n hidden     %s", i, texts[0], texts[1])
		}
	}
	return nil
}

// hiddenHistory is two runs in one: peter hides, goes on working and comes out
// again, or logs out and logs in. Everything else happens in both.
func hiddenHistory(seed uint64, way hiding) *history {
	g := newGenerator(seed, way.ruling, peter, quinn)
	g.forward = true
	add := func(rank int, keep bool, e presence.Event) {
		e.Subject = peter
		g.add(happened{event: e, rank: rank, keep: keep})
	}
	common := func(allowed func(*presence.Event) bool) {
		for range 2 + g.IntN(12) {
			h := g.event()
			// The two runs count and lose connections differently.
			h.event.Epoch, h.event.Claim.Conn, h.event.Claim.DropOnDisconnect, h.event.Claim.DropOnLogin = 0, "", false, false
			if h.event.Kind == presence.EventSetClaim || h.event.Kind == presence.EventEndClaim {
				h.event.Conn = ""
			}
			if allowed(&h.event) {
				g.add(h)
				g.pass()
			}
		}
	}
	common(func(e *presence.Event) bool {
		return e.Kind != presence.EventDisable && e.Kind != presence.EventEndpoint
	})

	add(whileLoggedOut, true, presence.Event{Kind: presence.EventLogout})
	add(whileHidden, true, presence.Event{Kind: presence.EventSetClaim, Actor: presence.Agent(peter), Claim: way.claim})
	if g.IntN(2) == 0 {
		g.add(happened{event: presence.Event{
			Kind: presence.EventSetClaim, Subject: peter, Actor: presence.Actor{Subject: presence.ID("host"), Role: presence.RoleSystem},
			Claim: presence.Claim{Source: presence.SourceCall, Status: pickOne(g, "away", way.policies[0].Statuses[0].ID)},
		}})
		g.pass()
	}
	common(func(e *presence.Event) bool {
		switch e.Kind {
		case presence.EventSetClaim, presence.EventEndClaim:
			// Others may say what they like, except as peter or over peter's head.
			backend := e.Actor.Role == presence.RoleSystem && e.Claim.Source != presence.SourceManual
			return e.Subject == quinn || backend
		case presence.EventInput, presence.EventHeartbeat, presence.EventFocus, presence.EventVisible, presence.EventDisconnect, presence.EventConnect, presence.EventLogout:
			if e.Subject == quinn {
				return true
			}
			// In the other run there is nothing for this to come over.
			e.SubjectKind = ""
			add(whileHidden, false, *e)
			g.pass()
			return false
		case presence.EventNodeDown, presence.EventNodeUp, presence.EventTick:
			return true
		}
		return e.Subject == quinn
	})
	come := presence.Event{Kind: presence.EventLogin, Conn: "z", Age: presence.NoAge, Device: "web", Node: "n1", Incarnation: 1}
	over := presence.Event{Kind: presence.EventEndClaim, Actor: presence.Agent(peter)}
	if way.policies[0].Login.Mode == "reset" || g.IntN(2) == 0 {
		// Leaving, unseen, and entering again.
		add(whileHidden, true, presence.Event{Kind: presence.EventLogout})
		add(0, true, over)
		add(0, true, come)
	} else {
		// Coming out while being there: on one connection, with an input just now.
		connect := come
		connect.Kind = presence.EventConnect
		add(whileHidden, true, connect)
		for _, conn := range []string{"a", "b", "c"} {
			add(whileHidden, true, presence.Event{Kind: presence.EventLogout, Conn: conn})
		}
		add(whileHidden, true, presence.Event{Kind: presence.EventInput, Conn: "z"})
		add(0, true, over)
		add(whileLoggedOut, true, come)
	}
	g.pass()

	common(func(*presence.Event) bool { return true })
	g.now = g.now.Add(10 * time.Minute)
	g.add(happened{keep: true})
	return &g.h
}

// Invariant 11: without a grant nothing about a subject reaches a channel, nor
// the other way round. The members of a channel follow from the history of grants
// and links.
func TestNothingWithoutGrant(t *testing.T) {
	t.Parallel()
	inboxes := []presence.Channel{presence.ChannelID("care"), presence.ChannelID("support")}
	channels := []presence.Channel{presence.ChannelID("site"), presence.ChannelID("shop"), presence.ChannelID("care")} // one has an inbox's name
	eachSeed(t, 100, func(t *testing.T, seed uint64) {
		draw := rand.New(rand.NewPCG(seed, 7))
		d := newMembership(t, channels)
		for range 30 {
			d.clock.Add(time.Second)
			before := make(map[presence.Channel][]presence.Ref)
			for _, ch := range channels {
				before[ch] = d.members(ch)
			}
			d.act(draw, inboxes, channels)
			for _, ch := range channels {
				d.check(seed, ch, before[ch])
			}
		}
	})
}

// membership is a tracker, with a watch of each channel, and all that was done to
// the members of its channels.
type membership struct {
	*presence.Tracker
	t       *testing.T
	clock   *clock.Mock
	watches map[presence.Channel]*presence.Watch
	conns   map[presence.Ref]*presence.Conn
	past    []membershipAct
}

type membershipAct struct {
	verb        string
	subject     presence.Ref
	channel, to presence.Channel
}

func newMembership(t *testing.T, channels []presence.Channel) *membership {
	t.Helper()
	d := &membership{t: t, clock: clock.NewMock(), watches: make(map[presence.Channel]*presence.Watch), conns: make(map[presence.Ref]*presence.Conn)}
	var err error
	d.Tracker, err = presence.New(&presence.Options{Clock: d.clock})
	require.NoError(t, err)
	t.Cleanup(func() { _ = d.Close() })
	for _, ch := range channels {
		d.watches[ch], err = d.Watch(t.Context(), presence.Actor{Subject: peter, Role: presence.RoleAdmin}, ch, presence.WatchOptions{})
		require.NoError(t, err)
	}
	return d
}

// act does something at random.
func (d *membership) act(draw *rand.Rand, inboxes, channels []presence.Channel) {
	ctx := d.t.Context()
	subjects := []presence.Ref{peter, quinn, rosa}
	a := membershipAct{subject: subjects[draw.IntN(len(subjects))]}
	if slices.Contains(d.past, membershipAct{verb: "erase", subject: a.subject}) {
		require.Error(d.t, d.AddMember(ctx, channels[0], a.subject))
		return
	}
	switch n := draw.IntN(20); {
	case n < 6:
		a.verb, a.to = "grant", slices.Concat(inboxes, channels)[draw.IntN(5)]
		require.NoError(d.t, d.AddMember(ctx, a.to, a.subject))
	case n < 10:
		a.verb, a.to = "revoke", slices.Concat(inboxes, channels)[draw.IntN(5)]
		if err := d.RemoveMember(ctx, a.to, a.subject); err != nil {
			require.ErrorIs(d.t, err, presence.ErrUnknown)
		}
	case n < 12:
		a.verb, a.channel, a.to = "link", channels[draw.IntN(3)], inboxes[draw.IntN(2)]
		require.NoError(d.t, d.Link(ctx, a.channel, a.to))
	case n < 13 && d.conns[a.subject] != nil:
		a.verb = "erase"
		require.NoError(d.t, d.Erase(ctx, a.subject))
		delete(d.conns, a.subject)
	case d.conns[a.subject] != nil:
		require.NoError(d.t, d.conns[a.subject].Logout())
		delete(d.conns, a.subject)
	default:
		var err error
		d.conns[a.subject], err = d.Connect(ctx, a.subject, presence.ConnectOptions{ID: "a", Login: true})
		require.NoError(d.t, err)
	}
	d.past = append(d.past, a)
}

// may reports whether a subject belongs to a channel, from the whole history.
func (d *membership) may(subject presence.Ref, channel presence.Channel) bool {
	granted := make(map[presence.Channel]bool)
	var link presence.Channel
	for _, a := range d.past {
		switch {
		case a.verb == "link" && a.channel == channel:
			link = a.to
		case a.verb == "link" || a.subject != subject:
		case a.verb == "grant" || a.verb == "revoke":
			granted[a.to] = a.verb == "grant"
		case a.verb == "erase":
			clear(granted)
		}
	}
	return granted[channel] || granted[link]
}

// members returns those of a channel, from the whole history.
func (d *membership) members(channel presence.Channel) []presence.Ref {
	return slices.DeleteFunc([]presence.Ref{peter, quinn, rosa}, func(subject presence.Ref) bool { return !d.may(subject, channel) })
}

// check compares the members of a channel, its list and what its watch was sent
// with the history.
func (d *membership) check(seed uint64, ch presence.Channel, before []presence.Ref) {
	want := d.members(ch)
	got, err := d.Members(ch)
	require.NoError(d.t, err)
	require.Equal(d.t, want, append([]presence.Ref{}, got...), "seed %d: members of %s after %v", seed, ch, d.past)
	for {
		f, err := d.watches[ch].Poll()
		require.NoError(d.t, err)
		if f == nil {
			break
		}
		for _, c := range f.Changes {
			ok := d.may(c.Subject, ch) || c.View == nil && slices.Contains(before, c.Subject)
			require.True(d.t, ok, "seed %d: %s hears %s of %s after %v", seed, ch, c.Op, c.Subject, d.past)
		}
	}
	views, _, err := d.ListAs(d.t.Context(), presence.AudienceAdmin, ch, nil)
	require.NoError(d.t, err)
	for i := range views {
		require.True(d.t, d.may(views[i].Subject, ch), "seed %d: %s lists %s after %v", seed, ch, views[i].Subject, d.past)
	}
	require.Len(d.t, views, len(want))
}

// The comparison can fail: whatever is changed in the policy that only the naive
// model is given shows within a few histories.
func TestComparisonNoticesWhatDiffers(t *testing.T) {
	p := presence.DefaultPolicy()
	p.Devices = map[string]presence.DeviceRule{
		"kiosk":  {IgnoreInput: true},
		"mobile": {OwnGrace: true, Grace: presence.Grace{Close: 30 * time.Second, Loss: 45 * time.Second}},
	}
	p.Virtual = map[string]presence.VirtualRule{"push": {Show: "top", Routable: true}}
	rules := newRuling(p)
	policy := rules.policies[0]
	var histories []*history // all of them without any difference as long as the policy is the same
	agreeing := func(i int) *history {
		if i == len(histories) {
			h := ruledHistory(uint64(i)+1, rules, peter)
			requireAlways(t, h, func(h *history) error { return compareWithNaive(h, h.policies) })
			histories = append(histories, h)
		}
		return histories[i]
	}
	idle := func(d time.Duration) func(*presence.Policy) {
		return func(p *presence.Policy) {
			for i := range p.Idle {
				p.Idle[i].After += d
			}
		}
	}
	for _, tt := range []struct {
		name   string
		mutate func(*presence.Policy)
	}{
		{"lease longer", func(p *presence.Policy) { p.Lease++ }},
		{"lease shorter", func(p *presence.Policy) { p.Lease-- }},
		{"close grace longer", func(p *presence.Policy) { p.Grace.Close++ }},
		{"loss grace longer", func(p *presence.Policy) { p.Grace.Loss++ }},
		{"node grace longer", func(p *presence.Policy) { p.Grace.Node++ }},
		{"drain grace longer", func(p *presence.Policy) { p.Grace.Drain++ }},
		{"logout grace", func(p *presence.Policy) { p.Grace.Logout++ }},
		{"loss counted from the lease", func(p *presence.Policy) { p.Grace.LossFrom = "lease" }},
		{"idle later", idle(1)},
		{"idle sooner", idle(-1)},
		{"startup grace longer", func(p *presence.Policy) { p.StartupGrace++ }},
		{"call below manual", func(p *presence.Policy) {
			p.Sources = [][]presence.Source{
				{presence.SourceSystem}, {presence.SourceSupervisor, presence.SourceManual}, {presence.SourceCall},
				{presence.SourceCalendar}, {presence.SourceApp}, {presence.SourceLoginDefault},
			}
		}},
		{"supervisor above manual", func(p *presence.Policy) {
			p.Sources = slices.Concat(p.Sources[:2], [][]presence.Source{{presence.SourceSupervisor}, {presence.SourceManual}}, p.Sources[3:])
		}},
		{"manual proof against disconnection", func(p *presence.Policy) { p.DisconnectProof = []presence.Source{presence.SourceManual} }},
		{"default choices kept", func(p *presence.Policy) { p.KeepExplicit = true }},
		{"logout of the account", func(p *presence.Policy) { p.LogoutScope = "account" }},
		{"supervisor refused", func(p *presence.Policy) { p.SupervisorWhenOffline = "refuse" }},
		{"claims are no input", func(p *presence.Policy) { p.Activity = []string{"input", "login"} }},
		{"logins are no input", func(p *presence.Policy) { p.Activity = []string{"input", "claim"} }},
		{"login resets", func(p *presence.Policy) { p.Login = presence.LoginRule{Mode: "reset", Status: "away"} }},
		{"kiosks count", func(p *presence.Policy) { delete(p.Devices, "kiosk") }},
		{"mobiles are like any device", func(p *presence.Policy) { delete(p.Devices, "mobile") }},
		{"push is ignored", func(p *presence.Policy) { p.Virtual = nil }},
		{"the least available vote wins", func(p *presence.Policy) { p.Fold = []string{"offline", "busy", "away", "available"} }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			mutated := policy.Clone()
			tt.mutate(&mutated)
			for seed := range 400 {
				if compareWithNaive(agreeing(seed), []presence.Policy{mutated}) != nil {
					return
				}
			}
			require.Fail(t, "not noticed")
		})
	}
}

// The model does not miss an instant either: asked at every second as well, it
// lists the same transitions.
func TestNaiveModelMissesNoInstant(t *testing.T) {
	eachSeed(t, 2, func(t *testing.T, seed uint64) {
		h := randomHistory(seed, []presence.Ref{peter})
		n := &naive.Model{Subject: peter, Policies: h.policies}
		var seconds []presence.Instant
		for _, e := range h.events {
			n.Feed(e.at, e.event, e.policy)
		}
		for at := nineSharp; at < h.events[len(h.events)-1].at; at = at.Add(time.Second) {
			seconds = append(seconds, at, at+1, at-1)
		}
		require.Equal(t, n.Timeline(nil), n.Timeline(seconds), "%s", h)
	})
}

// What once went wrong, each in the fewest events.
func TestHistoriesThatOnceDiffered(t *testing.T) {
	type event = presence.Event
	host := presence.Actor{Subject: presence.ID("host"), Role: presence.RoleSystem}
	after := func(d time.Duration, e event) happened {
		if e.Age == 0 {
			e.Age = presence.NoAge
		}
		e.Subject = peter
		return happened{at: nineSharp.Add(d), event: e}
	}
	login := func(d time.Duration, conn, device, node string) happened {
		return after(d, event{Kind: presence.EventLogin, Conn: conn, Device: device, Node: node, Incarnation: 1})
	}
	connect := func(d time.Duration, conn string, age time.Duration) happened {
		return after(d, event{Kind: presence.EventConnect, Conn: conn, Node: "n1", Incarnation: 1, Age: age})
	}
	claim := func(d time.Duration, actor presence.Actor, c presence.Claim) happened {
		return after(d, event{Kind: presence.EventSetClaim, Actor: actor, Claim: c})
	}
	tick := func(d time.Duration) happened { return after(d, event{}) }
	const min, sec = time.Minute, time.Second
	for _, tt := range []struct {
		name   string
		vary   func(*presence.Policy)
		events []happened
		status string
		since  time.Duration
	}{
		{"a claim that ends with the connection", nil, []happened{
			claim(0, host, presence.Claim{Source: presence.SourceCalendar, Status: "busy", DropOnDisconnect: true}),
			connect(min, "a", 0), tick(5 * min),
		}, "offline", 2 * min},
		{"a default choice that changes nothing", nil, []happened{
			login(0, "a", "", "n1"), claim(min+sec, presence.Agent(peter), presence.Claim{Status: "available"}), tick(5 * min),
		}, "offline", min},
		{"grace before idleness at one instant", func(p *presence.Policy) {
			p.Idle = []presence.IdleStage{{After: min, To: "offline", On: []string{"available"}}}
		}, []happened{
			login(0, "a", "", "n1"), after(0, event{Kind: presence.EventDisconnect, Conn: "a", Cause: presence.CauseDrain}), tick(5 * min),
		}, "offline", 0},
		{"the youngest input of those that left at once", nil, []happened{
			login(0, "b", "", "n1"), login(50*sec, "a", "", "n1"), after(50*sec, event{Kind: presence.EventLogout}), connect(5*min+30*sec, "c", 0),
		}, "available", 5*min + 30*sec},
		{"a grace after a standstill", nil, []happened{
			login(0, "a", "", "n1"), after(15*sec, event{Kind: presence.EventSuspended, From: nineSharp.Add(5 * sec), To: nineSharp.Add(15 * sec)}),
			after(16*sec, event{Kind: presence.EventNodeDown, Node: "n1"}), connect(32*sec, "b", 0),
		}, "available", 32 * sec},
		{"a lease after a standstill", func(p *presence.Policy) { p.StartupGrace = 5 * min }, []happened{
			login(0, "a", "", "n1"), after(15*sec, event{Kind: presence.EventSuspended, From: nineSharp.Add(5 * sec), To: nineSharp.Add(15 * sec)}),
			after(16*sec, event{Kind: presence.EventHeartbeat, Conn: "a"}), tick(3 * min),
		}, "offline", 76 * sec},
		{"an own claim, a report and a reconnect", func(p *presence.Policy) { p.Lease = time.Hour }, []happened{
			connect(0, "a", 0), claim(2*min, presence.Agent(peter), presence.Claim{Status: "available"}),
			after(2*min+sec, event{Kind: presence.EventHeartbeat, Conn: "a", Age: 10 * min}), connect(4*min, "a", min), tick(8 * min),
		}, "away", 7 * min},
		{"a node purged after another connection left", nil, []happened{
			connect(0, "a", 0), login(50*sec, "b", "", "n2"), after(61*sec, event{Kind: presence.EventNodeDown, Node: "n2", Cause: presence.CauseDrain}),
			after(62*sec, event{Kind: presence.EventNodeUp, Node: "n1", Incarnation: 2}), tick(5 * min),
		}, "offline", 61 * sec},
		{"a reconnect that does not name its node", nil, []happened{
			connect(0, "a", 0), after(sec, event{Kind: presence.EventConnect, Conn: "a"}), after(2*sec, event{Kind: presence.EventNodeUp, Node: "n1", Incarnation: 1}),
		}, "available", 0},
		{"an endpoint's end that shows nothing", nil, []happened{
			connect(0, "a", 0), after(25*sec, event{Kind: presence.EventEndpoint, Endpoint: presence.Endpoint{ID: "p", Kind: presence.EndpointPush, Until: nineSharp.Add(70 * sec)}}),
			tick(5 * min),
		}, "offline", min},
		{"an end that brings out what was idle long ago", func(p *presence.Policy) { p.Lease = time.Hour }, []happened{
			login(0, "a", "", "n1"), claim(min, host, presence.Claim{Source: presence.SourceCall, Status: "busy", For: 9 * min}), tick(20 * min),
		}, "away", 10 * min},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := presence.DefaultPolicy()
			if tt.vary != nil {
				tt.vary(&p)
			}
			h := &history{subjects: []presence.Ref{peter}, events: tt.events, ruling: newRuling(p)}
			require.NoError(t, compareWithNaive(h, h.policies), "%s", h)
			f := h.run()
			require.Equal(t, tt.status, f.s.Current.Status, "%s", h)
			require.Equal(t, nineSharp.Add(tt.since), f.s.Current.Since, "%s", h)
		})
	}
}
