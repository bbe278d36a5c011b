package presence_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/presence-go/presence"
	"github.com/presence-go/presence/internal/naive"
	"github.com/presence-go/presence/internal/seeds"
)

// eachSeed calls f with one drawn seed after the other, or with the one asked for.
func eachSeed(t *testing.T, count int, f func(t *testing.T, seed uint64)) {
	t.Helper()
	for seed := range seeds.Range(t, count) {
		f(t, seed)
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

// requireAlways fails with the smallest history for which check returns an
// error, if it fails for this one.
func requireAlways(t *testing.T, h *history, check func(*history) error) {
	t.Helper()
	seeds.Count(t, "histories", 1)
	seeds.Count(t, "events", len(h.events))
	if check(h) == nil {
		return
	}
	h = h.shrink(func(h *history) bool { return check(h) != nil })
	require.NoError(t, check(h), "once more: go test -run '^%s$' . -seed %d\n%s", t.Name(), h.seed, h)
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
		g := newGenerator(seed, randomRuling(seed), peter)
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
		h := livelyHistory(seed, randomRuling(seed))
		requireAlways(t, h, func(h *history) error {
			f := follow(h)
			held := make(map[string]presence.Claim)
			for i, e := range h.events {
				before, told := f.s.Clone(), len(f.out)
				_ = f.feed(e)
				err := f.unreachable()
				if err == nil {
					err = f.claims(&e, &before, f.out[told:], held)
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
	if f.s.Work != nil && f.s.Work.Pending != nil { // a choice can hold until then, although it has ended
		proof = proof || slices.Contains(policy.DisconnectProof, presence.Source(p.Cause))
	}
	if !p.Disabled && !proof && (p.Status != naive.DisconnectedIn(policy).ID || p.Masked == "") {
		return fmt.Errorf("not reachable, but not shown as disconnected: %+v", p)
	}
	return nil
}

// claims is invariants 3 and 13: each change of the set of claims has an output. Its
// reason is the event, or one of the ends that time may bring. A claim that waited for
// the work to end, and the claim of a kick-out, may be set by any event or by time.
func (f *follower) claims(e *happened, before *presence.State, out []presence.Output, held map[string]presence.Claim) error {
	follows := func(c *presence.Claim) bool {
		waited := before.Work != nil && before.Work.Pending != nil && before.Work.Pending.Status == c.Status
		return waited || c.Source == presence.SourceSystem && c.Key == presence.KeyKickedOut
	}
	followed := slices.ContainsFunc(out, func(o presence.Output) bool { return o.Kind == presence.OutputClaimSet && follows(&o.Claim) })
	slot := func(c presence.Claim) string { return fmt.Sprint(c.Source, "/", c.Key, "/", c.Conn) }
	for _, o := range out {
		byTime := o.Noticed < f.s.Now || e.event.Kind == presence.EventTick || e.event.Kind == presence.EventSuspended
		switch o.Kind {
		case presence.OutputClaimSet:
			sets := !byTime && slices.Contains([]presence.EventKind{presence.EventSetClaim, presence.EventLogin, presence.EventDecide}, e.event.Kind)
			if !sets && !follows(&o.Claim) {
				return fmt.Errorf("claim %s set by time alone or by an event that sets none", o.Claim.ID)
			}
			if sets && !follows(&o.Claim) && o.Claim.Source == presence.SourceManual && !slices.Contains(f.m.Selectable(presence.BySelf), o.Claim.Status) {
				return fmt.Errorf("manual claim of %s, which is not selectable by oneself", o.Claim.Status)
			}
			held[slot(o.Claim)] = o.Claim
		case presence.OutputClaimEnded:
			if byTime && !followed && o.Reason != presence.EndUntil && o.Reason != presence.EndDisconnected && o.Reason != presence.EndOver {
				return fmt.Errorf("claim %s ended by time alone because of %s", o.Claim.ID, o.Reason)
			}
			end, limited := o.Claim.Until.Add(before.Behind), false
			if o.At != end { // it had not ended when the clock was set
				end = o.Claim.Until.Add(f.s.Behind)
			}
			for _, p := range f.h.policies {
				if d := p.SourceFor[o.Claim.Source]; d > 0 && o.At >= o.Claim.SetAt.Add(d) {
					end, limited = o.At, true // its source holds no longer
				}
			}
			late := o.At != end && e.event.Kind != presence.EventClock
			if o.Reason == presence.EndUntil && !limited && (late || o.At < end || o.Noticed != o.At) {
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
// is repeated.
func TestRepeatedEventsChangeNothing(t *testing.T) {
	t.Parallel()
	eachSeed(t, 600, func(t *testing.T, seed uint64) {
		h := livelyHistory(seed, randomRuling(seed))
		requireAlways(t, h, func(h *history) error {
			f := follow(h)
			for i, e := range h.events {
				switch e.event.Kind {
				case presence.EventConnect, presence.EventLogin:
					e.event.Epoch = f.s.Epoch + 1
				case presence.EventSetClaim:
					e.event.Claim.ID = fmt.Sprint("once", i)
				case presence.EventClock, presence.EventOffer, presence.EventDone, presence.EventRestart:
					continue // these have no identity: twice is twice
				case presence.EventLoad:
					if f.policy.Work.RequeueAfter > 0 {
						continue // the work may have been given to others in between
					}
				case presence.EventWithdraw, presence.EventDecide:
					if e.event.ID == "" {
						continue // the next request
					}
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

// Invariant 5: the instants of ticks are no matter. A tick
// at every deadline, ticks at random or none at all give the same transitions at
// the same instants; and what is due is due at the deadline foretold.
func TestTicksAreNoMatter(t *testing.T) {
	t.Parallel()
	eachSeed(t, 400, func(t *testing.T, seed uint64) {
		h := livelyHistory(seed, randomRuling(seed))
		requireAlways(t, h, func(h *history) error {
			want := told(h.run().out)
			r := rand.New(rand.NewPCG(h.seed, 2))
			var none, some []happened
			from := nineSharp
			for i, e := range h.events {
				e.at = max(e.at, from) // a tick before a clock was set back is the later of the two
				if e.event.Kind == presence.EventSuspended {
					from = e.at // nothing was sent during the standstill
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

// H5: a step returns an instant that is not after the next deadline. A driver that
// ticks at it gets what one that asks Next gets. A refused event lets time pass and
// changes nothing else, and no event is changed by being fed.
func TestStepForetellsTheNextDeadline(t *testing.T) {
	t.Parallel()
	refused := 0
	eachSeed(t, 400, func(t *testing.T, seed uint64) {
		h := livelyHistory(seed, randomRuling(seed))
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
	if !seeds.Single() {
		require.Greater(t, refused, 500)
	}
}

// told lists the transitions and claims among outputs.
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
		// Without work, since what is accepted of it depends on the status.
		h := ruledHistory(seed, randomRuling(seed), peter)
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
			h := livelyHistory(seed, randomRuling(seed))
			f := h.run()
			record, err := f.m.Record(&f.s, 1)
			require.NoError(t, err)
			runs[i], err = json.Marshal([]any{f.out, f.s, record, f.m.Explain(&f.s, presence.AudienceSelf)})
			require.NoError(t, err)
		}
		require.Equal(t, runs[0], runs[1], "seed %d", seed)
	})
}
