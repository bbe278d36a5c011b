package presence_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/benbjohnson/clock"
	"github.com/stretchr/testify/require"

	"github.com/presence-go/presence"
	"github.com/presence-go/presence/adapters/memory"
	"github.com/presence-go/presence/internal/seeds"
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
// Presence is never switched off in them, and no claim hides more than its status.
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
			until = e.event.From // nothing was read during the standstill
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
		if c.Status != status || c.Conn != "" { // other connections vote against a claim of one
			return false
		}
		chosen = chosen || c.Source == presence.SourceManual || c.Source == presence.SourceSupervisor
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

// availableAlone returns the group of a channel that has one member.
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

	// And in the frames: no member leaves, and no frame has another word.
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

// A skipped notification is never sent later. The next ones are sent.
func TestStatementA24(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sent := new(presencetest.RecordingNotifier)
		policy := preset.ThriveDesk()
		d := newRunning(t, &presence.Options{Policy: &policy, Notifier: sent})
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
// devices has of it.
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

// offline reports whether every member is logged out, or invisible on every device.
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
			case !d.there: // the same connection is resumed, with what was chosen on it
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
	if !seeds.Single() {
		for _, rung := range []string{presence.GroupOffline, presence.GroupAway, presence.GroupAvailable} {
			require.Greater(t, seen[rung], 100, rung)
		}
	}
}

// outcome is everything that came out of a tracker, with instants counted from its
// start.
type outcome struct {
	journal  []presence.JournalRow
	frames   []string
	notified []string
}

// live drives a tracker through a working day. The clock is moved by pass.
func live(t *testing.T, tracker *presence.Tracker, out presence.Transport, from presence.Instant, pass func(time.Duration)) (journal []presence.JournalRow) {
	t.Helper()
	ctx := t.Context()
	require.NoError(t, tracker.AddMember(ctx, sales, ann))
	w, err := tracker.Watch(ctx, presence.Agent(ann), sales, presence.WatchOptions{})
	require.NoError(t, err)
	streamed := make(chan error, 1)
	go func() { streamed <- w.Stream(context.Background(), out) }()
	pass(time.Second)

	conn, err := tracker.Connect(ctx, ann, presence.ConnectOptions{ID: "tab", Login: true})
	require.NoError(t, err)
	push := func(id string) {
		require.NoError(t, tracker.Notify(ctx, presence.Notification{ID: id, Subject: ann, Kind: "push"}))
		pass(time.Second)
	}
	push("while online")
	_, err = conn.Claim(ctx, presence.Claim{ID: "lunch", Status: "away", For: 3 * time.Minute, Reason: "lunch"})
	require.NoError(t, err)
	push("at lunch")
	for range 9 {
		pass(20 * time.Second)
		require.NoError(t, conn.Heartbeat())
	}
	push("after lunch")
	pass(90 * time.Second) // the network is lost
	conn, err = tracker.Connect(ctx, ann, presence.ConnectOptions{ID: "tab"})
	require.NoError(t, err)
	pass(2 * time.Second)
	require.NoError(t, conn.Close())
	pass(10 * time.Second)
	for row, err := range tracker.Journal(ctx, presence.JournalQuery{Subject: ann}) {
		require.NoError(t, err)
		row.At, row.Recorded = row.At-from, row.Recorded-from
		journal = append(journal, row)
	}
	require.NoError(t, tracker.Close())
	require.ErrorIs(t, <-streamed, presence.ErrClosed)
	return journal
}

func words(t *testing.T, frames []*presence.Frame) (list []string) {
	t.Helper()
	for _, f := range frames {
		for _, c := range f.Changes {
			list = append(list, string(c.Op)+" "+c.View.Status+" "+c.View.Reason)
		}
	}
	return list
}

func ids(list []presence.Notification) (names []string) {
	for _, n := range list {
		names = append(names, n.ID)
	}
	return names
}

// The same script gives the same history with a mock clock and fakes as with the
// real clock and the adapters that applications use.
func TestStatementF4SameHistoryWithFakes(t *testing.T) {
	policy := preset.ThriveDesk()
	var fake, real outcome

	synctest.Test(t, func(t *testing.T) {
		mock := clock.NewMock()
		mock.Set(time.Now())
		out, notifier := new(presencetest.RecordingTransport), new(presencetest.RecordingNotifier)
		tracker, err := presence.New(&presence.Options{
			Policy: &policy, Clock: mock, Notifier: notifier,
			Storage: presencetest.NewFaultyStorage(inMemory(0)),
		})
		require.NoError(t, err)
		fake.journal = live(t, tracker, out, presence.At(mock.Now()), func(d time.Duration) {
			defer synctest.Wait() // until the frames have been sent
			for end := mock.Now().Add(d); ; {
				next, err := tracker.Sweep(t.Context())
				require.NoError(t, err)
				if next == 0 || next.Time().After(end) {
					mock.Set(end)
					_, err = tracker.Sweep(t.Context())
					require.NoError(t, err)
					return
				}
				mock.Set(next.Time())
			}
		})
		fake.frames, fake.notified = words(t, out.Frames()), ids(notifier.Notifications())
	})

	synctest.Test(t, func(t *testing.T) {
		out, err := memory.NewTransport(nil)
		require.NoError(t, err)
		notifier, err := memory.NewNotifier(nil)
		require.NoError(t, err)
		tracker, err := presence.New(&presence.Options{Policy: &policy, Notifier: notifier, Storage: inMemory(0)})
		require.NoError(t, err)
		ran := make(chan error, 1)
		go func() { ran <- tracker.Run(context.Background()) }()
		real.journal = live(t, tracker, out, presence.At(time.Now()), func(d time.Duration) {
			time.Sleep(d)
			synctest.Wait()
		})
		require.NoError(t, <-ran)
		real.frames, real.notified = words(t, out.Frames()), ids(notifier.Notifications())
	})

	require.Equal(t, []string{"updated online ", "updated away lunch", "updated online ", "updated away ", "updated online ", "updated away "}, real.frames)
	require.Equal(t, []string{"while online", "after lunch"}, real.notified)
	require.NotEmpty(t, real.journal)
	require.Equal(t, real, fake)
}

// X5: polling, an open tab and looking around are not input.
func TestX05OnlyInputIsInput(t *testing.T) {
	x := newSubject(t, presence.DefaultPolicy())
	x.login(0, "tab")
	x.keep(25, 275, "tab")
	require.Equal(t, "available", x.tick(299).Status)
	require.Equal(t, "away", x.tick(300).Status)
	for _, e := range []presence.Event{
		{Kind: presence.EventHeartbeat, Conn: "tab", Age: presence.NoAge},
		{Kind: presence.EventFocus, Conn: "tab", Channel: "sales"},
		{Kind: presence.EventVisible, Conn: "tab"},
		{Kind: presence.EventConnect, Conn: "tab", Age: presence.NoAge},
		{Kind: presence.EventConnect, Conn: "other", Age: presence.NoAge},
		{Kind: presence.EventSetClaim, Actor: presence.Actor{Subject: presence.ID("crm"), Role: presence.RoleSystem}, Claim: presence.Claim{Status: "available", Source: presence.SourceCalendar}},
	} {
		x.do(301, e)
		require.Equal(t, "away", x.s.Current.Status, "%+v", e)
		require.Equal(t, presence.CauseIdle, x.s.Current.Cause)
	}
	x.do(302, presence.Event{Kind: presence.EventInput, Conn: "other"})
	require.Equal(t, "available", x.s.Current.Status)
}

// X15: what someone hidden does changes nothing that others see, and the host can
// ask before it shows it.
func TestX15HiddenActivityRevealsNothing(t *testing.T) {
	x := newSubject(t, preset.TawkTo())
	x.login(0, "tab")
	require.NotContains(t, x.s.Current.HiddenFrom, presence.AudienceVisitor)
	x.claim(10, presence.Claim{Status: "invisible"})
	hidden := x.m.View(&x.s.Current, presence.AudienceVisitor)
	require.Equal(t, "offline", hidden.Status)
	x.do(20, presence.Event{Kind: presence.EventInput, Conn: "tab"})
	x.do(30, presence.Event{Kind: presence.EventFocus, Conn: "tab", Channel: "sales"})
	x.do(40, presence.Event{Kind: presence.EventLogout, Conn: "tab"})
	require.Contains(t, x.s.Current.HiddenFrom, presence.AudienceVisitor, "who hides does so without a connection as well")
	require.Equal(t, hidden, x.m.View(&x.s.Current, presence.AudienceVisitor))
	x.do(50, presence.Event{Kind: presence.EventConnect, Conn: "tab", Age: presence.NoAge})
	require.Equal(t, hidden, x.m.View(&x.s.Current, presence.AudienceVisitor))
	require.Contains(t, x.s.Current.HiddenFrom, presence.AudienceVisitor)
	require.NotContains(t, x.s.Current.HiddenFrom, presence.AudienceTeam)
}

// X16: counts, the group and sequence numbers know nothing of a hidden member.
func TestX16CountsAndSequencesAreTheAudiences(t *testing.T) {
	policy := preset.TawkTo()
	policy.Views = map[presence.Audience][]string{presence.AudienceVisitor: {"since", "lastSeen", "cause"}}
	run := func(leave presence.Event) (frames [][]byte) {
		x := newSubject(t, policy)
		r := presence.NewRoster(sales, x.m)
		keep := func(list []*presence.Frame) {
			for _, f := range list {
				data, err := f.JSON()
				require.NoError(t, err)
				frames = append(frames, data)
			}
		}
		keep([]*presence.Frame{r.Open(presence.AudienceVisitor, presence.Ref{}, func() string { return "1" })})
		put := func(at float64, e presence.Event) {
			for _, o := range x.do(at, e) {
				if o.Kind == presence.OutputTransition || o.Kind == presence.OutputUpdated {
					keep(r.Put(&o.Presence, o.Noticed))
				}
			}
		}
		put(0, presence.Event{Kind: presence.EventLogin, Conn: "tab", Age: presence.NoAge})
		put(10, leave)
		put(20, presence.Event{Kind: presence.EventTick})
		if leave.Kind == presence.EventSetClaim { // what the one who stayed does now is not seen
			put(20, presence.Event{Kind: presence.EventInput, Conn: "tab"})
			put(21, presence.Event{Kind: presence.EventSetClaim, Actor: presence.Agent(ann), Claim: presence.Claim{Status: "invisible", Text: "psst"}})
		}
		put(30, presence.Event{Kind: presence.EventLogin, Conn: "tab", Age: presence.NoAge})
		return frames
	}
	hidden := run(presence.Event{Kind: presence.EventSetClaim, Actor: presence.Agent(ann), Claim: presence.Claim{Status: "invisible"}})
	left := run(presence.Event{Kind: presence.EventLogout})
	require.Len(t, left, 4)
	require.Equal(t, left, hidden)
}

// X26: reports are ordered by epoch and sequence; nothing late undoes anything.
func TestX26LateAndRepeatedReports(t *testing.T) {
	x := newSubject(t, presence.DefaultPolicy())
	report := func(at float64, epoch uint32, seq uint64, age time.Duration) error {
		_, err := x.try(at, presence.Event{Kind: presence.EventHeartbeat, Conn: "tab", Epoch: epoch, Seq: seq, Age: age})
		return err
	}
	x.login(0, "tab")
	require.NoError(t, report(1, 1, 2, 10*time.Minute))
	require.Equal(t, "away", x.s.Current.Status)
	require.NoError(t, report(2, 1, 1, 0), "an earlier report that comes later")
	require.Equal(t, "away", x.s.Current.Status)
	require.NoError(t, report(3, 1, 3, 0))
	require.Equal(t, "available", x.s.Current.Status)

	require.Empty(t, x.do(4, presence.Event{Kind: presence.EventConnect, Conn: "tab", Epoch: 2, Age: presence.NoAge}), "a new socket is no news")
	require.Empty(t, x.do(5, presence.Event{Kind: presence.EventConnect, Conn: "tab", Epoch: 2, Age: presence.NoAge}), "nor is saying so twice")
	require.ErrorIs(t, report(6, 1, 4, 0), presence.ErrStale)
	require.Empty(t, x.do(7, presence.Event{Kind: presence.EventDisconnect, Conn: "tab", Epoch: 1, Cause: presence.CauseClosed}), "X27: the old socket's close")
	_, err := x.try(8, presence.Event{Kind: presence.EventConnect, Conn: "tab", Epoch: 9, Age: presence.NoAge})
	require.ErrorIs(t, err, presence.ErrStale, "an epoch that was never issued")
	_, err = x.try(8, presence.Event{Kind: presence.EventDisconnect, Conn: "tab", Epoch: 9, Cause: presence.CauseClosed})
	require.ErrorIs(t, err, presence.ErrStale)

	x.do(9, presence.Event{Kind: presence.EventDisconnect, Conn: "tab", Epoch: 2, Cause: presence.CauseClosed})
	require.ErrorIs(t, report(10, 2, 5, 0), presence.ErrStale, "a heartbeat after the disconnect")
	require.Equal(t, "offline", x.tick(14).Status)
	require.ErrorIs(t, report(15, 2, 6, 0), presence.ErrUnknown)
}

// The only active device leaves: away at once when its grace is over, since the
// instant it went, and not a fresh idle period later.
func TestX02ActiveDeviceLeaves(t *testing.T) {
	x := newSubject(t, presence.DefaultPolicy())
	x.login(0, "desk")
	x.keep(25, 400, "desk")
	x.do(400, presence.Event{Kind: presence.EventConnect, Conn: "phone", Age: presence.NoAge})
	x.do(410, presence.Event{Kind: presence.EventInput, Conn: "phone"})
	require.Equal(t, "available", x.s.Current.Status)
	x.do(420, presence.Event{Kind: presence.EventDisconnect, Conn: "phone", Cause: presence.CauseClosed})
	require.Equal(t, "available", x.tick(424.999).Status)
	p := x.tick(425)
	require.Equal(t, "away", p.Status)
	require.Equal(t, presence.CauseIdle, p.Cause)
	require.Equal(t, second(420), p.Since)
}

// The connections of a dead node count for a grace. A node that starts again with
// a new incarnation ends the old ones at once.
func TestX28X29Nodes(t *testing.T) {
	x := newSubject(t, presence.DefaultPolicy())
	on := func(at float64, conn, node string, incarnation uint64) {
		x.do(at, presence.Event{Kind: presence.EventConnect, Conn: conn, Node: node, Incarnation: incarnation, Age: presence.NoAge})
	}
	on(0, "a", "n1", 1)
	x.do(10, presence.Event{Kind: presence.EventNodeDown, Node: "n1", Incarnation: 1})
	require.Equal(t, presence.ReachLingering, x.s.Current.Reach)
	require.Equal(t, "available", x.tick(24.9).Status)
	require.Equal(t, "offline", x.tick(25).Status)
	require.Equal(t, second(10), x.s.Current.Since)
	require.Equal(t, presence.CauseNode, x.s.Current.Cause)

	on(30, "b", "n1", 2)
	x.do(40, presence.Event{Kind: presence.EventNodeDown, Node: "n1", Cause: presence.CauseDrain})
	require.Equal(t, "available", x.tick(99).Status, "a planned shutdown is given longer")
	x.do(99, presence.Event{Kind: presence.EventNodeUp, Node: "n1", Incarnation: 3})
	require.Equal(t, "offline", x.s.Current.Status)
}

// The request to store a change is the first output of the change.
func TestStoredBeforeTold(t *testing.T) {
	x := newSubject(t, preset.Threads())
	x.login(0, "tab")
	for _, out := range [][]presence.Output{
		x.claim(1, presence.Claim{Status: "lunch"}),
		x.claim(2, presence.Claim{Status: "active"}),
		x.do(3, presence.Event{Kind: presence.EventLogin, Conn: "tab", Age: presence.NoAge}),
		x.do(4, presence.Event{Kind: presence.EventDisable}),
	} {
		require.NotEmpty(t, out)
		require.Equal(t, presence.OutputPersist, out[0].Kind)
		for _, o := range out[1:] {
			require.NotEqual(t, presence.OutputPersist, o.Kind)
		}
	}
}

// X17: the sender of a notification gets the same answer for a subject that hides,
// is away or has left.
func TestX17SendersAreToldTheSame(t *testing.T) {
	policy := preset.TawkTo()
	policy.Gate = preset.ThriveDesk().Gate
	tracker := newTracker(t, &presence.Options{Policy: &policy, Notifier: acceptingNotifier{}})
	for _, status := range []string{"online", "away", "invisible", ""} {
		ref := presence.ID("s-" + status)
		conn, err := tracker.Connect(t.Context(), ref, presence.ConnectOptions{Login: true})
		require.NoError(t, err)
		if status == "" {
			require.NoError(t, conn.Logout())
		} else {
			_, err = conn.Claim(t.Context(), presence.Claim{Status: status})
			require.NoError(t, err)
		}
		require.NoError(t, tracker.Notify(t.Context(), presence.Notification{ID: "n", Subject: ref, Kind: "push"}))
		d, err := tracker.Gate(t.Context(), presence.Notification{Subject: ref, Kind: "push"})
		require.NoError(t, err)
		require.Equal(t, status == "online" || status == "invisible", d.Verdict == presence.Deliver, "who delivers knows better")
	}
}

// A refused event changes nothing, and the parts of a claim have limits.
func TestRefusalsLeaveNoTrace(t *testing.T) {
	p := presence.DefaultPolicy()
	p.Hideable = []presence.Audience{presence.AudienceVisitor}
	agent := presence.Agent(ann)
	refused := func(x *subject, e presence.Event, want error) {
		t.Helper()
		before := x.s.Clone()
		out, err := x.try(1, e)
		require.ErrorIs(t, err, want, "%+v", e)
		require.Empty(t, out)
		before.Now = x.s.Now
		require.Equal(t, before, x.s)
	}
	for _, id := range []string{strings.Repeat("x", presence.MaxID+1), "a\x00b", "a\xffb"} {
		x := newSubject(t, p)
		x.login(0, "tab")
		actor := presence.Actor{Subject: presence.ID(id), Role: presence.RoleSupervisor}
		refused(x, presence.Event{Kind: presence.EventSetClaim, Actor: agent, Claim: presence.Claim{ID: id, Status: "busy"}}, presence.ErrInvalid)
		refused(x, presence.Event{Kind: presence.EventSetClaim, Actor: actor, Claim: presence.Claim{Status: "busy"}}, presence.ErrInvalid)
		refused(x, presence.Event{Kind: presence.EventRequest, Actor: agent, ID: id, Claim: presence.Claim{Status: "busy"}}, presence.ErrInvalid)
		refused(x, presence.Event{Kind: presence.EventChallenge, ID: id}, presence.ErrInvalid)
		refused(x, presence.Event{Kind: presence.EventConnect, Conn: "other", Device: id}, presence.ErrInvalid)
		refused(x, presence.Event{Kind: presence.EventConnect, Conn: "other", Node: id}, presence.ErrInvalid)
		refused(x, presence.Event{Kind: presence.EventFocus, Conn: "tab", Channel: id}, presence.ErrInvalid)
		x.do(1, presence.Event{Kind: presence.EventRequest, Actor: agent, Claim: presence.Claim{Status: "busy"}})
		refused(x, presence.Event{Kind: presence.EventDecide, Actor: actor}, presence.ErrInvalid)
	}

	x := newSubject(t, p)
	x.do(0, presence.Event{Kind: presence.EventGrant})
	refused(x, presence.Event{Kind: presence.EventChallenge}, presence.ErrOffline)
	for i := range presence.MaxEndpoints {
		x.do(0, presence.Event{Kind: presence.EventEndpoint, Endpoint: presence.Endpoint{ID: fmt.Sprint(i), Kind: presence.EndpointPush}})
	}
	refused(x, presence.Event{Kind: presence.EventEndpoint, SubjectKind: presence.KindBot, Endpoint: presence.Endpoint{ID: "more", Kind: presence.EndpointPush}}, presence.ErrLimit)

	x.login(2, "tab")
	x.claim(3, presence.Claim{Status: "busy", HidesFrom: slices.Repeat([]presence.Audience{presence.AudienceVisitor}, 1000)})
	require.Equal(t, []presence.Audience{presence.AudienceVisitor}, x.s.Claims[0].HidesFrom)
}

// X13: what was hidden stays so when a policy no longer hides.
func TestX13PolicyThatNoLongerHides(t *testing.T) {
	with := presence.DefaultPolicy()
	with.Statuses = append(with.Statuses, presence.Status{ID: "invisible", Class: presence.ClassAvailable, HiddenFrom: []presence.Audience{presence.AudienceTeam}})
	with.Views = map[presence.Audience][]string{presence.AudienceTeam: {"since", "lastSeen", "cause"}}
	without := with.Clone()
	require.NoError(t, without.RemoveStatus("invisible", ""))
	x := newSubject(t, with)
	seen := func() presence.View { return x.m.View(&x.s.Current, presence.AudienceTeam) }
	x.login(0, "tab")
	x.claim(10, presence.Claim{Status: "invisible"})
	x.do(40, presence.Event{Kind: presence.EventLogout})
	before := seen()
	require.Equal(t, second(10), before.LastSeen)

	m, err := presence.Compile(without)
	require.NoError(t, err)
	x.m = m
	x.do(50, presence.Event{Kind: presence.EventPolicy})
	require.Equal(t, before, seen())
	x.login(60, "tab")
	require.Equal(t, second(60), seen().Since)
	x.do(70, presence.Event{Kind: presence.EventLogout})
	require.Equal(t, second(70), seen().LastSeen)
	require.Equal(t, presence.CauseLogout, seen().Cause, "from then on nothing is hidden")
}

// X14: one who hides looks like one who left, also where an endpoint makes that
// another status than the disconnected one.
func TestX14HidingWithAnEndpoint(t *testing.T) {
	p := preset.TawkTo()
	p.Virtual = map[string]presence.VirtualRule{"push": {Show: "away"}}
	phone := presence.Endpoint{ID: "phone", Kind: presence.EndpointPush, Until: second(100)}
	run := func(leave func(*subject)) (views []presence.View) {
		x := newSubject(t, p)
		look := func() { views = append(views, x.m.View(&x.s.Current, presence.AudienceVisitor)) }
		x.login(0, "tab")
		x.do(1, presence.Event{Kind: presence.EventEndpoint, Endpoint: phone})
		leave(x)
		look()
		x.keep(25, 100, "tab")
		look()
		return views
	}
	hides := run(func(x *subject) { x.claim(10, presence.Claim{Status: "invisible"}) })
	require.Equal(t, "away", hides[0].Status)
	require.Equal(t, "offline", hides[1].Status, "the endpoint is gone as well")

	x := newSubject(t, p)
	x.login(0, "tab")
	x.do(1, presence.Event{Kind: presence.EventEndpoint, Endpoint: phone})
	x.do(10, presence.Event{Kind: presence.EventLogout})
	require.Equal(t, "away", x.s.Current.Status)
	require.Equal(t, hides[0], x.m.View(&x.s.Current, presence.AudienceVisitor))
	x.tick(100)
	require.Equal(t, hides[1], x.m.View(&x.s.Current, presence.AudienceVisitor))
}

// X16: one who hides answers with the same errors as one who left.
func TestX16RefusalsDoNotBetrayTheHidden(t *testing.T) {
	p := presence.DefaultPolicy()
	p.SupervisorWhenOffline = "refuse"
	p.Statuses = append(p.Statuses, presence.Status{ID: "invisible", Class: presence.ClassAvailable, HiddenFrom: []presence.Audience{presence.AudienceSupervisor}})
	require.NoError(t, p.Set("statuses.busy.needsApproval", "true"))
	asks := presence.Event{Kind: presence.EventRequest, Actor: presence.Agent(ann), Claim: presence.Claim{Status: "busy"}}
	refusals := func(x *subject, by presence.Actor) (list []error) {
		for _, e := range []presence.Event{
			{Kind: presence.EventSetClaim, Actor: by, Claim: presence.Claim{Status: "away"}},
			{Kind: presence.EventDecide, Actor: by},
		} {
			before := x.s.Clone()
			_, err := x.try(20, e)
			list = append(list, err)
			x.s = before
		}
		return list
	}
	hidden, gone := newSubject(t, p), newSubject(t, p)
	hidden.login(0, "tab")
	hidden.claim(5, presence.Claim{Status: "invisible"})
	hidden.do(6, asks)
	gone.login(0, "tab")
	gone.do(6, asks)
	gone.do(7, presence.Event{Kind: presence.EventDisconnect, Conn: "tab", Cause: presence.CauseClosed})
	require.Equal(t, refusals(gone, boss), refusals(hidden, boss))
	require.ErrorIs(t, refusals(hidden, boss)[0], presence.ErrOffline)
	require.ErrorIs(t, refusals(hidden, boss)[1], presence.ErrOffline)
	require.Equal(t, []error{nil, nil}, refusals(hidden, admin), "it does not hide from everybody")
}
