package presence_test

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/presence-go/presence"
	"github.com/presence-go/presence/presencetest"
	"github.com/presence-go/presence/preset"
)

// The tests of this file prove statements about products that no single scenario
// can: those about every history, and those about delivery. They are listed in
// testdata/coverage.txt beside the scenarios.

var everyone = []presence.Audience{
	presence.AudienceSelf, presence.AudienceTeam, presence.AudienceSupervisor,
	presence.AudienceAdmin, presence.AudienceVisitor, presence.AudienceRouter,
}

// inEveryHistory checks that something holds of one subject after every event of
// random histories under a policy, at every deadline, and just before it.
// Presence is never switched off in them, and nobody hides beyond what a status
// says.
func inEveryHistory(t *testing.T, p presence.Policy, holds func(m *presence.Machine, s *presence.State) error) {
	t.Helper()
	eachSeed(t, 150, func(t *testing.T, seed uint64) {
		h := randomHistory(seed, []presence.Ref{peter}, p)
		var events []happened
		for _, e := range h.events {
			e.event.Claim.HidesFrom = nil
			if e.event.Kind != presence.EventDisable {
				events = append(events, e)
			}
		}
		requireAlways(t, h.with(events), func(h *history) error { return h.atEveryInstant(holds) })
	})
}

func (h *history) atEveryInstant(holds func(*presence.Machine, *presence.State) error) error {
	f := follow(h)
	look := func(when string) error {
		if !f.s.Current.Known {
			return nil
		}
		if err := holds(f.m, &f.s); err != nil {
			return fmt.Errorf("%s, +%v: %w", when, f.s.Now.Sub(nineSharp), err)
		}
		return nil
	}
	for i, e := range h.events {
		until := e.at
		if e.event.Kind == presence.EventSuspended {
			until = e.event.From // nobody could look while all stood still
		}
		for {
			due, ok := f.m.Next(&f.s)
			if !ok || due > until {
				break
			}
			for _, at := range []presence.Instant{due - 1, due} {
				_ = f.feed(happened{at: at})
				if err := look("before event " + strconv.Itoa(i)); err != nil {
					return err
				}
			}
		}
		_ = f.feed(e) // refusals are part of histories
		if err := look(fmt.Sprintf("after event %d (%s)", i, e.text())); err != nil {
			return err
		}
	}
	return nil
}

// connected reports whether any connection counts, live or in its grace.
func connected(s *presence.State) bool { return len(s.Conns) > 0 }

// byHand reports whether a status is all that anybody claims, and was chosen by
// hand for the subject as a whole.
func byHand(s *presence.State, status string) (chosen bool) {
	for _, c := range s.Claims {
		if c.Status != status {
			return false
		}
		chosen = chosen || c.Conn == "" && (c.Source == presence.SourceManual || c.Source == presence.SourceSupervisor)
	}
	return chosen
}

// shownAs checks that every audience sees one of the statuses, with the class
// and label of it.
func shownAs(m *presence.Machine, s *presence.State, allowed ...string) error {
	for _, a := range everyone {
		v := m.View(&s.Current, a)
		def, known := m.Status(v.Status)
		if !known || !slices.Contains(allowed, v.Status) || v.Class != def.Class || v.Label != def.Label {
			return fmt.Errorf("%s is shown %q (%s, %q)", a, v.Status, v.Class, v.Label)
		}
	}
	return nil
}

// onlySelectable checks after random histories that the statuses given can be
// selected, and that any other of any product is refused, whoever tries, and
// leaves no trace.
func onlySelectable(t *testing.T, p presence.Policy, selectable ...string) {
	t.Helper()
	foreign := map[string]bool{"nonsense": true, "": true}
	for _, name := range preset.Names() {
		other, _ := preset.Lookup(name)
		for _, s := range other.Statuses {
			foreign[s.ID] = !slices.Contains(selectable, s.ID)
		}
	}
	actors := []presence.Actor{
		presence.Agent(peter), {Subject: presence.ID("sue"), Role: presence.RoleSupervisor},
		{Subject: presence.ID("root"), Role: presence.RoleAdmin}, {Subject: presence.ID("host"), Role: presence.RoleSystem},
	}
	eachSeed(t, 25, func(t *testing.T, seed uint64) {
		f := randomHistory(seed, []presence.Ref{peter}, p).run()
		for _, by := range []string{presence.BySelf, presence.BySupervisor, presence.BySystem} {
			require.ElementsMatch(t, selectable, f.m.Selectable(by), by)
		}
		_ = f.feed(happened{at: f.s.Now, event: presence.Event{Kind: presence.EventEnable}})
		for status := range foreign {
			for _, actor := range actors {
				e := presence.Event{Kind: presence.EventSetClaim, Actor: actor, Claim: presence.Claim{Status: status}}
				before := f.s.Clone()
				err := f.feed(happened{at: f.s.Now, event: e})
				if !foreign[status] {
					require.NoError(t, err, "%s by %s, seed %d", status, actor.Role, seed)
					continue
				}
				require.Error(t, err, "%s by %s, seed %d", status, actor.Role, seed)
				require.True(t, reflect.DeepEqual(before, f.s), "%s by %s, seed %d", status, actor.Role, seed)
			}
		}
	})
}

// availableAlone returns on which rung a channel stands that has one member.
func availableAlone(m *presence.Machine, s *presence.State, a presence.Audience) presence.Group {
	p := s.Current
	p.Subject = peter
	r := presence.NewRoster(sales, m)
	r.Put(&p, s.Now)
	return r.Group(a, presence.Ref{})
}

func TestStatementA8(t *testing.T) {
	words := []string{"online", "away"}
	inEveryHistory(t, preset.ThriveDesk(), func(m *presence.Machine, s *presence.State) error { return shownAs(m, s, words...) })
	onlySelectable(t, preset.ThriveDesk(), words...)

	// And in what is told: nobody leaves, and no frame has another word.
	eachSeed(t, 60, func(t *testing.T, seed uint64) {
		h := randomHistory(seed, []presence.Ref{peter}, preset.ThriveDesk())
		f := follow(h)
		r := presence.NewRoster(sales, f.m)
		var frames []*presence.Frame
		for _, e := range h.events {
			if e.event.Kind == presence.EventDisable {
				continue
			}
			before := len(f.out)
			_ = f.feed(e)
			for _, o := range f.out[before:] {
				if o.Kind != presence.OutputTransition && o.Kind != presence.OutputUpdated {
					continue
				}
				o.Presence.Subject = peter
				if r.Has(peter) {
					frames = append(frames, r.Put(&o.Presence, o.Noticed)...)
					continue
				}
				r.Put(&o.Presence, o.Noticed)
				for _, a := range everyone {
					frames = append(frames, r.Open(a, peter, func() string { return string(a) }))
				}
			}
		}
		require.NotEmpty(t, frames)
		for _, frame := range frames {
			data, err := frame.JSON()
			require.NoError(t, err)
			require.NotContains(t, strings.ToLower(string(data)), "offline", "seed %d", seed)
			for _, c := range frame.Changes {
				require.NotEqual(t, presence.OpLeft, c.Op, "seed %d: %s", seed, data)
			}
		}
	})
}

func TestStatementA9(t *testing.T) {
	inEveryHistory(t, preset.ThriveDesk(), func(m *presence.Machine, s *presence.State) error {
		away := slices.ContainsFunc(s.Claims, func(c presence.Claim) bool { return c.Status == "away" })
		if !connected(s) || away {
			return nil
		}
		return shownAs(m, s, "online")
	})
}

func TestStatementA10(t *testing.T) {
	inEveryHistory(t, preset.ThriveDesk(), func(m *presence.Machine, s *presence.State) error {
		if connected(s) && !byHand(s, "away") {
			return nil
		}
		return shownAs(m, s, "away")
	})
}

// What is skipped is gone: nothing of it is sent later, and what comes later is.
func TestStatementA24(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sent := new(presencetest.RecordingNotifier)
		policy := preset.ThriveDesk()
		d := newDesk(t, &presence.Options{Policy: &policy, Notifier: sent})
		notify := func(id string) {
			for _, kind := range []string{"push", "mobile"} {
				require.NoError(t, d.Notify(t.Context(), presence.Notification{ID: id + " " + kind, Subject: ann, Kind: kind}))
			}
			synctest.Wait()
		}
		got := func() (ids []string) {
			for _, n := range sent.Notifications() {
				ids = append(ids, n.ID)
			}
			return ids
		}
		c := d.login(ann, "tab")
		notify("here")
		require.ElementsMatch(t, []string{"here push", "here mobile"}, got())

		require.NoError(t, c.Logout())
		notify("gone")
		require.Len(t, got(), 2)
		c = d.login(ann, "tab")
		beat(t, c)
		time.Sleep(time.Hour)
		synctest.Wait()
		require.Len(t, got(), 2, "what was skipped is not made up for")
		notify("back")
		require.ElementsMatch(t, []string{"here push", "here mobile", "back push", "back mobile"}, got())
	})
}

func TestStatementA37(t *testing.T) {
	inEveryHistory(t, preset.ThriveDesk(), func(m *presence.Machine, s *presence.State) error {
		shown := m.View(&s.Current, presence.AudienceTeam).Status
		for _, kind := range []string{"push", "mobile"} {
			for _, channel := range []string{"", "desk"} {
				d := m.Gate(s, presence.Notification{Kind: kind, Channel: channel})
				if (d.Verdict == presence.Deliver) != (shown == "online") {
					return fmt.Errorf("%s is shown, and %s about %q: %+v", shown, kind, channel, d)
				}
			}
		}
		return nil
	})
}

func TestStatementB1(t *testing.T) {
	inEveryHistory(t, preset.ONPortal(), func(m *presence.Machine, s *presence.State) error {
		return shownAs(m, s, "available", "away", "offline")
	})
	onlySelectable(t, preset.ONPortal(), "available", "away")
}

func TestStatementB2(t *testing.T) {
	inEveryHistory(t, preset.ONPortal(), func(m *presence.Machine, s *presence.State) error {
		if !connected(s) || len(s.Claims) > 0 {
			return nil
		}
		return shownAs(m, s, "available")
	})
}

func TestStatementC6(t *testing.T) {
	inEveryHistory(t, preset.RespondIO(), func(m *presence.Machine, s *presence.State) error {
		return shownAs(m, s, "online", "busy", "offline")
	})
	onlySelectable(t, preset.RespondIO(), "online", "busy")
}

func TestStatementC8(t *testing.T) {
	inEveryHistory(t, preset.RespondIO(), onlineCounts)
}

// onlineCounts checks that one who is Online is counted available, and may be
// handed work while a connection is live, and that nobody else is or may. Someone
// invisible whom a call, say, makes Online stays hidden, and is not counted.
func onlineCounts(m *presence.Machine, s *presence.State) error {
	online := s.Current.Status == "online"
	hidden := slices.Contains(s.Current.HiddenFrom, presence.AudienceVisitor)
	counted := online && !hidden
	if v := m.View(&s.Current, presence.AudienceVisitor); counted != (v.Class == presence.ClassAvailable) {
		return fmt.Errorf("%s, hidden: %t, and visitors see %s", s.Current.Status, hidden, v.Status)
	}
	if g := availableAlone(m, s, presence.AudienceVisitor); counted != (g.Status == presence.GroupAvailable) {
		return fmt.Errorf("%s, hidden: %t, and the group is %+v", s.Current.Status, hidden, g)
	}
	live := slices.ContainsFunc(s.Conns, func(c presence.ConnState) bool { return c.Left == 0 })
	if routable := m.View(&s.Current, presence.AudienceRouter).Routable; routable != (online && live) {
		return fmt.Errorf("%s, live: %t, routable: %t", s.Current.Status, live, routable)
	}
	return nil
}

func TestStatementE1(t *testing.T) {
	inEveryHistory(t, preset.TawkTo(), func(m *presence.Machine, s *presence.State) error {
		if slices.ContainsFunc(s.Claims, func(c presence.Claim) bool { return c.Status == "offline" }) {
			return fmt.Errorf("offline is claimed: %+v", s.Claims)
		}
		return shownAs(m, s, "online", "away", "invisible", "offline")
	})
	onlySelectable(t, preset.TawkTo(), "online", "away", "invisible")
}

func TestStatementE4(t *testing.T) {
	inEveryHistory(t, preset.TawkTo(), onlineCounts)
}

// property is a widget with its members and what a plain account of their
// devices says of it.
type property struct {
	t       *testing.T
	m       *presence.Machine
	roster  *presence.Roster
	states  map[presence.Ref]*presence.State
	devices map[presence.Ref]map[string]*device
}

// device counts while it is connected, and then until its grace has passed.
type device struct {
	status string // chosen on it; empty once it has logged out
	there  bool
	until  presence.Instant
}

func (p *property) feed(member presence.Ref, at presence.Instant, e presence.Event) {
	p.t.Helper()
	e.Subject, e.Age = member, presence.NoAge
	out, _, err := p.m.Step(p.states[member], &e, at, nil)
	require.NoError(p.t, err)
	for _, o := range out {
		if o.Kind == presence.OutputTransition || o.Kind == presence.OutputUpdated {
			p.roster.Put(&o.Presence, o.Noticed)
		}
	}
}

// offline says whether every member is logged out, or invisible on every device.
func (p *property) offline(at presence.Instant) bool {
	for _, devices := range p.devices {
		for _, d := range devices {
			if counts := d.there || at < d.until; counts && d.status != "invisible" {
				return false
			}
		}
	}
	return true
}

func TestStatementE12(t *testing.T) {
	members := []presence.Ref{peter, quinn, rosa}
	seen := map[string]int{}
	eachSeed(t, 100, func(t *testing.T, seed uint64) {
		r := rand.New(rand.NewPCG(seed, 4))
		m, err := presence.Compile(preset.TawkTo())
		require.NoError(t, err)
		p := &property{t: t, m: m, roster: presence.NewRoster(sales, m), states: map[presence.Ref]*presence.State{}, devices: map[presence.Ref]map[string]*device{}}
		now := nineSharp
		for _, member := range members {
			p.states[member], p.devices[member] = new(presence.State), map[string]*device{"web": {}, "phone": {}}
			p.feed(member, now, presence.Event{Kind: presence.EventGrant})
		}
		for range 60 {
			member := members[r.IntN(len(members))]
			name := []string{"web", "phone"}[r.IntN(2)]
			d := p.devices[member][name]
			switch n := r.IntN(10); {
			case !d.there && n < 6 || d.status == "":
				p.feed(member, now, presence.Event{Kind: presence.EventLogin, Conn: name})
				*d = device{status: "online", there: true}
			case !d.there: // the same connection comes back, with what was chosen on it
				p.feed(member, now, presence.Event{Kind: presence.EventConnect, Conn: name})
				d.there = true
			case n < 6:
				d.status = []string{"online", "away", "invisible", "invisible", "invisible"}[r.IntN(5)]
				claim := presence.Claim{Status: d.status, Conn: name}
				p.feed(member, now, presence.Event{Kind: presence.EventSetClaim, Actor: presence.Agent(member), Conn: name, Claim: claim})
			case n < 8:
				p.feed(member, now, presence.Event{Kind: presence.EventLogout, Conn: name})
				*d = device{}
			case n < 9:
				p.feed(member, now, presence.Event{Kind: presence.EventDisconnect, Conn: name, Cause: presence.CauseClosed})
				d.there, d.until = false, now.Add(5*time.Second)
			default:
				p.feed(member, now, presence.Event{Kind: presence.EventDisconnect, Conn: name, Cause: presence.CauseLost})
				d.there, d.until = false, now.Add(15*time.Second)
			}
			for range 2 {
				g := p.roster.Group(presence.AudienceVisitor, presence.Ref{})
				require.Equal(t, p.offline(now), g.Status == presence.GroupOffline, "seed %d at +%v: %+v, %+v", seed, now.Sub(nineSharp), g, p.devices)
				seen[g.Status]++
				now = now.Add([]time.Duration{time.Second, 5 * time.Second, 15 * time.Second, 20 * time.Second}[r.IntN(4)])
				for _, member := range members {
					p.feed(member, now, presence.Event{Kind: presence.EventTick})
					for name, d := range p.devices[member] {
						if d.there {
							p.feed(member, now, presence.Event{Kind: presence.EventHeartbeat, Conn: name})
						}
					}
				}
			}
		}
	})
	if *onlySeed == 0 {
		for _, rung := range []string{presence.GroupOffline, presence.GroupAway, presence.GroupAvailable} {
			require.Greater(t, seen[rung], 100, rung)
		}
	}
}
