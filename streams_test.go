package presence_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/presence-go/presence"
	"github.com/presence-go/presence/internal/naive"
	"github.com/presence-go/presence/internal/seeds"
	"github.com/presence-go/presence/preset"
)

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
	names  map[string]viewer             // by the epoch that a stream was given
	models map[presence.Ref]*naive.Model // of members, if any are kept
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
	for subject, n := range r.models {
		if h.rank != enterOrLeave && (h.event.Subject == (presence.Ref{}) || h.event.Subject == subject) {
			n.Feed(h.at, h.event, h.policy)
		} else {
			n.Feed(h.at, presence.Event{}, 0) // time passes
		}
	}
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
		defer func() {
			r.roster.SetMachine(r.m) // once every subject follows the policy
			r.send(r.roster.Republish(r.now))
		}()
	}
	for _, subject := range r.h.subjects {
		if h.event.Subject == (presence.Ref{}) || h.event.Subject == subject {
			r.step(subject, h)
		}
	}
}

// view returns what an audience sees of a member, by the naive model if the room keeps
// one. Hiding depends on what was shown before; other tests compare that.
func (r *room) view(p *presence.Presence, a presence.Audience) presence.View {
	if n := r.models[p.Subject]; n != nil && !n.Hides(a) {
		return n.View(a, p.Since, r.now)
	}
	return r.m.View(p, a)
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

// apply takes the next frame and returns what is wrong with it, or nil.
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

// agrees compares the screen with the presences of the members.
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
		view := r.view(&p, a)
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
// the number of members present, and applying every change gives the list.
func TestJoinedAndLeftAlternate(t *testing.T) {
	t.Parallel()
	eachSeed(t, 150, func(t *testing.T, seed uint64) {
		h := ruledHistory(seed, streamRuling(seed), peter, quinn, rosa)
		r := rand.New(rand.NewPCG(seed, 4))
		for range 4 {
			i := r.IntN(len(h.events))
			entry := happened{at: h.events[i].at, rank: enterOrLeave, event: presence.Event{Subject: h.subjects[r.IntN(3)]}}
			h.events = slices.Insert(h.events, i, entry)
		}
		requireAlways(t, h, func(h *history) error {
			return newRoom(h).followed()
		})
	})
}

// followed feeds the history to the room, and compares what every watcher knows with
// the members after each event.
func (r *room) followed() error {
	screens := make(map[viewer]*screen)
	for v := range r.sent {
		screens[v] = &screen{v: v}
	}
	for i, e := range r.h.events {
		r.feed(e)
		_, held := r.roster.Next() // the newest is on its way
		for v, s := range screens {
			for ; s.read < len(r.sent[v]); s.read++ {
				if err := s.apply(r.sent[v][s.read].frame); err != nil {
					return fmt.Errorf("event %d (%s), stream of %s: %w", i, e.text(), v.audience, err)
				}
			}
			if held {
				continue
			}
			if err := s.agrees(r); err != nil {
				return fmt.Errorf("event %d (%s): %w", i, e.text(), err)
			}
		}
	}
	return nil
}

// The rows and counts of every watcher are those of the naive model's views.
func TestFramesAgreeWithNaiveModel(t *testing.T) {
	t.Parallel()
	eachSeed(t, 40, func(t *testing.T, seed uint64) {
		g := newGenerator(seed, streamRuling(seed), peter, quinn)
		g.work = true
		requireAlways(t, g.history(), func(h *history) error {
			r := newRoom(h)
			r.models = make(map[presence.Ref]*naive.Model)
			for _, subject := range h.subjects {
				r.models[subject] = &naive.Model{Subject: subject, Policies: h.policies}
			}
			return r.followed()
		})
	})
}

// streamRuling is policies of which some list less for visitors or hold changes back.
func streamRuling(seed uint64) ruling {
	r := rand.New(rand.NewPCG(seed, 22))
	policies := []presence.Policy{randomPolicy(r), randomPolicy(r), randomPolicy(r)}
	publish := []time.Duration{0, 0, 2 * time.Second}[r.IntN(3)]
	batch := []time.Duration{0, 0, time.Second}[r.IntN(3)]
	for i := range policies {
		policies[i].Widget.List = []string{"all", "all", "online", "none"}[r.IntN(4)]
		policies[i].CoalesceSubject, policies[i].CoalesceChannel = publish, batch
	}
	return newRuling(policies...)
}

// hiding is a policy under which a subject can hide, the claim by which it does,
// and from whom.
type hiding struct {
	ruling
	claim presence.Claim
	from  []presence.Audience
}

// newHiding returns a random hiding. Every second has two more policies: one that
// hides no status and only lets claims hide, and one that shows another status of
// subjects that left.
func newHiding(seed uint64) hiding {
	p, claim, from := randomHiding(rand.New(rand.NewPCG(seed, 23)))
	if seed%2 == 0 {
		return hiding{newRuling(p), claim, from}
	}
	shows, other := p.Clone(), p.Clone()
	for i := range shows.Statuses {
		shows.Statuses[i].HiddenFrom = nil
	}
	shows.Hideable = from
	if seed%4 == 1 && claim.HidesFrom == nil {
		shows.Fold = nil // it may name the status
		_ = shows.RemoveStatus(claim.Status, "")
	}
	other.Disconnected, other.Idle = "away", nil
	other.Virtual = map[string]presence.VirtualRule{"push": {Show: pickFrom(seed, "away", claim.Status, "busy")}}
	if naive.StatusOf(&other, "busy") == nil {
		other.Virtual = nil
	}
	return hiding{newRuling(p, shows, other), claim, from}
}

func pickFrom(seed uint64, list ...string) string { return list[seed/4%uint64(len(list))] }

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
	if r.IntN(2) == 0 { // show every field, so that each can betray
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
// channel looks, to the byte and the instant, as if they had logged out and in. That
// holds over changes of policy and of endpoints as well (faults 8 and 10).
func TestHiddenIsLikeLoggedOut(t *testing.T) {
	frames, differ := 0, 0
	t.Parallel()
	eachSeed(t, 200, func(t *testing.T, seed uint64) {
		way := newHiding(seed)
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
	if seeds.Single() {
		return
	}
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
	ruled := len(way.policies) > 1
	common(func(e *presence.Event) bool {
		return e.Kind != presence.EventDisable && (ruled || e.Kind != presence.EventEndpoint)
	})
	first := happened{event: presence.Event{Kind: presence.EventPolicy}, keep: true}
	g.add(first)

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
			// Others may send anything, except as peter or over peter's head.
			backend := e.Actor.Role == presence.RoleSystem && e.Claim.Source != presence.SourceManual
			return e.Subject == quinn || backend
		case presence.EventInput, presence.EventHeartbeat, presence.EventFocus, presence.EventVisible, presence.EventDisconnect, presence.EventConnect, presence.EventLogout:
			if e.Subject == quinn {
				return true
			}
			if ruled && e.Kind == presence.EventConnect {
				return false // under the policy that hides no status a return ends the hiding
			}
			// In the other run no connection can carry this.
			e.SubjectKind = ""
			add(whileHidden, false, *e)
			g.pass()
			return false
		case presence.EventNodeDown, presence.EventNodeUp, presence.EventTick, presence.EventPolicy:
			return true
		case presence.EventEndpoint:
			e.SubjectKind = ""
			return ruled
		}
		return e.Subject == quinn
	})
	g.add(first)
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
	*testTracker
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
	d := &membership{testTracker: newTracker(t, nil), watches: make(map[presence.Channel]*presence.Watch), conns: make(map[presence.Ref]*presence.Conn)}
	for _, ch := range channels {
		d.watches[ch] = d.watch(presence.Admin(peter), ch)
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
	_, frames := read(d.t, d.watches[ch])
	for _, f := range frames {
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
