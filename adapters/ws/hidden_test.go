package ws_test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"
	"time"

	gobwas "github.com/gobwas/ws"
	"github.com/stretchr/testify/require"

	"github.com/presence-go/presence"
	"github.com/presence-go/presence/adapters/wire"
	"github.com/presence-go/presence/internal/seeds"
	"github.com/presence-go/presence/preset"
)

// The ways in which ann is not to be seen for a while.
type way uint8

const (
	hides way = 1 << iota
	logsOut
	goesAway // is still there, for comparison
	anyWay   = hides | logsOut | goesAway
)

// act is one thing that happens, in the runs of some of the ways.
type act struct {
	ways way
	name string
	do   func(*stage)
}

// play is what happens, in every way.
type play struct {
	*rand.Rand
	house house
	over  string // the transport of the visitor
	acts  []act
	tabs  []string // of ann, while she is not to be seen
}

// house is a policy under which people can hide.
type house struct {
	name   string
	policy presence.Policy
	hidden string // the status that hides
	choose []string
	loginEnds,
	fromTeam bool
}

func houses() []house {
	strict := presence.DefaultPolicy()
	strict.Name = "strict"
	strict.Statuses = append(strict.Statuses, presence.Status{
		ID: "gone", Class: presence.ClassBusy, HiddenFrom: []presence.Audience{presence.AudienceVisitor, presence.AudienceTeam},
	})
	strict.ClaimScope, strict.Fold = "connection", []string{"available", "busy", "away", "gone"}
	strict.Idle[0].After = time.Minute
	all := []string{"since", "setAt", "until", "reason", "text", "cause", "masked", "lastSeen", "lastLogin", "routable"}
	strict.Views = map[presence.Audience][]string{presence.AudienceVisitor: all, presence.AudienceTeam: all}
	return []house{
		{name: "tawkto", policy: preset.TawkTo(), hidden: "invisible", choose: []string{"online", "away", "invisible"}, loginEnds: true},
		{name: "strict", policy: strict, hidden: "gone", choose: []string{"available", "away", "busy", "gone"}, fromTeam: true},
	}
}

// stage is one run of a play.
type stage struct {
	*world
	house   house
	acting  way
	visitor *client
	clients map[string]*client // by person and tab
	pings   map[*client]uint64 // the number of the last
	zoe     *presence.Conn     // whose changes mark how far the others have to read
	flips   int

	seen  []string // by the visitor
	team  []string // by bob
	sent  []string // answers to senders of notifications to ann
	scene int
}

// silent delivers nothing.
type silent struct{}

func (silent) Notify(context.Context, presence.Notification) error { return nil }

func (p *play) perform(t *testing.T, acting way) *stage {
	st := &stage{house: p.house, acting: acting, clients: make(map[string]*client), pings: make(map[*client]uint64)}
	st.world = setup(t, func(c *conf) {
		c.tracker.Policy, c.tracker.Notifier = &p.house.policy, silent{}
		c.ws.PingInterval = time.Second
	})
	for _, grant := range [][2]string{{"ann", "vip"}, {"cyd", "sales"}, {"zoe", "sales"}} {
		require.NoError(t, st.tracker.AddMember(t.Context(), presence.ChannelID(grant[1]), presence.ID(grant[0])))
	}
	var err error
	st.zoe, err = st.tracker.Connect(t.Context(), presence.ID("zoe"), presence.ConnectOptions{ID: "z"})
	require.NoError(t, err)
	st.world.over = p.over
	st.visitor, _ = st.enter("id=guest&role=visitor&conn=g", "")
	st.world.over = "ws"
	st.visitor.do(`"type":"watch","channel":"sales"`)
	st.seen = append(st.seen, first(st.visitor, "snapshot").raw) // which is of when it is sent
	st.come("bob", "desk", false)
	st.clients["bob/desk"].do(`"type":"watch","channel":"sales"`)
	st.team = append(st.team, first(st.clients["bob/desk"], "snapshot").raw)
	for _, a := range p.acts {
		if a.ways&acting != 0 {
			a.do(st)
		}
	}
	return st
}

// add appends something that happens.
func (p *play) add(ways way, do func(*stage), name string, args ...any) {
	p.acts = append(p.acts, act{ways, fmt.Sprintf(name, args...), do})
}

func (p *play) pass() {
	d := time.Duration(2+p.IntN(4)) * time.Second
	switch p.IntN(8) {
	case 0:
		d = time.Duration(10+p.IntN(30)) * time.Second
	case 1:
		d += time.Duration(p.IntN(1e9))
	}
	p.add(anyWay, func(st *stage) { st.pass(d) }, "%v later", d)
}

// pass lets time go by and everybody read what came of it.
func (st *stage) pass(d time.Duration) {
	st.t.Helper()
	st.scene++
	st.flips++
	mark := []string{"away", st.house.policy.Default}[(st.flips+1)%2]
	_, err := st.tracker.SetClaim(st.t.Context(), presence.Agent(presence.ID("zoe")), presence.ID("zoe"), presence.Claim{Status: mark, Conn: "z"})
	require.NoError(st.t, err)
	st.advance(d)
	require.NoError(st.t, st.zoe.Heartbeat())
	require.NoError(st.t, st.touch(st.visitor), "the visitor's socket")
	for _, key := range slices.Sorted(maps.Keys(st.clients)) {
		if c := st.clients[key]; st.touch(c) != nil {
			c.conn.Close()
			delete(st.clients, key)
		}
	}
	st.seen = st.drain(st.visitor, mark, st.seen)
	st.team = st.drain(st.clients["bob/desk"], mark, st.team)
}

// touch waits for the ping that is due and shows that a browser is there, which
// is no heartbeat. It returns an error if the server has closed.
func (st *stage) touch(c *client) error {
	st.t.Helper()
	last := st.pings[c]
	note := func(f frame) bool {
		if f.Type == "ping" {
			st.pings[c] = max(st.pings[c], f.Seq)
		}
		return f.Type == "ping"
	}
	c.skipped = slices.DeleteFunc(c.skipped, note)
	for asked := false; ; {
		if !asked && st.pings[c] > last {
			if c.events != nil {
				return nil // which is all that a stream has
			}
			asked = true
			c.write(gobwas.OpPing, true, "touch")
		}
		op, payload, err := c.read()
		switch {
		case err != nil:
			return err
		case op == gobwas.OpClose:
			code, reason := gobwas.ParseCloseFrameData([]byte(payload))
			return fmt.Errorf("closed: %d %s", code, reason)
		case op == gobwas.OpPong && payload == "touch":
			return nil
		case op == gobwas.OpText:
			if f := parse(c, payload); !note(f) {
				c.skipped = append(c.skipped, f)
			}
		}
	}
}

func parse(c *client, text string) frame {
	c.t.Helper()
	f := frame{raw: text, at: c.last}
	require.NoError(c.t, json.Unmarshal([]byte(text), &f), text)
	return f
}

// first returns the first message of one of some types, and keeps those before it.
func first(c *client, kinds ...string) frame {
	c.t.Helper()
	fits := func(f frame) bool { return slices.Contains(kinds, f.Type) }
	for {
		if i := slices.IndexFunc(c.skipped, fits); i >= 0 {
			f := c.skipped[i]
			c.skipped = slices.Delete(c.skipped, i, i+1)
			return f
		}
		c.skipped = append(c.skipped, c.receive())
	}
}

// drain reads until zoe is seen in a status, and notes all that is of the channel.
func (st *stage) drain(c *client, mark string, list []string) []string {
	st.t.Helper()
	for {
		f := first(c, "diff", "snapshot", "removed", "error")
		list = append(list, fmt.Sprintf("%d: %s %s", st.scene, f.at, f.raw))
		if slices.ContainsFunc(f.Changes, func(ch presence.Change) bool {
			return ch.Subject.ID == "zoe" && ch.View != nil && ch.View.Status == mark
		}) {
			return list
		}
	}
}

// come opens a tab, or sends a hello again in an open one.
func (st *stage) come(who, tab string, login bool) {
	st.t.Helper()
	hello := fmt.Sprintf(`,"ref":"q","conn":%q,"login":%v`, tab, login)
	key := who + "/" + tab
	if c := st.clients[key]; c != nil {
		c.say(`{"type":"hello","v":1` + hello + `}`)
		for f := c.receive(); f.Ref != "q"; f = c.receive() {
			c.skipped = append(c.skipped, f)
		}
		return
	}
	st.clients[key], _ = st.enter("id="+who, hello)
}

// over closes the socket of a tab once it has sent a message, if any.
func (st *stage) over(who, tab, say string) {
	st.t.Helper()
	key := who + "/" + tab
	c := st.clients[key]
	if c == nil {
		return
	}
	n := st.handler.Sessions()
	if say != "" {
		c.say(say)
		c.closed()
	}
	st.hangUp(c, n-1)
	delete(st.clients, key)
}

// hangUp closes a socket and waits until the server knows.
func (st *stage) hangUp(c *client, left int) {
	st.t.Helper()
	c.conn.Close()
	for limit := time.Now().Add(10 * time.Second); st.handler.Sessions() != left; runtime.Gosched() {
		require.True(st.t, time.Now().Before(limit), "the server has %d sockets, not %d", st.handler.Sessions(), left)
	}
}

// again opens a second socket for a tab, which takes the place of the first.
func (st *stage) again(who, tab string) {
	st.t.Helper()
	key := who + "/" + tab
	old := st.clients[key]
	n := st.handler.Sessions()
	delete(st.clients, key)
	st.come(who, tab, false)
	if old != nil {
		require.EqualValues(st.t, wire.StatusReplaced, old.closed())
		st.hangUp(old, n)
	}
}

// tell sends a message in a tab, if it is open, whether or not the message is
// accepted.
func (st *stage) tell(who, tab, fields string) {
	st.t.Helper()
	if c := st.clients[who+"/"+tab]; c != nil {
		c.ask(fields)
	}
}

// pong answers the last ping, if there was one.
func (st *stage) pong(who, tab, fields string) {
	st.t.Helper()
	if c := st.clients[who+"/"+tab]; st.pings[c] > 0 {
		c.ask(fmt.Sprintf(`"type":"pong","seq":%d%s`, st.pings[c], fields))
	}
}

// look makes another visitor connect and try everything that may betray
// something.
func (st *stage) look() {
	st.t.Helper()
	n := st.handler.Sessions()
	c, f := st.enter("id=passer-by&role=visitor", "")
	note := func(f frame) { st.seen = append(st.seen, fmt.Sprintf("%d, in passing: %s", st.scene, f.raw)) }
	note(f)
	for _, channel := range []string{"sales", "vip", "ann", "nobody"} {
		note(c.ask(fmt.Sprintf(`"type":"watch","channel":%q`, channel)))
		note(first(c, "snapshot", "error"))
		note(c.ask(fmt.Sprintf(`"type":"unwatch","channel":%q`, channel)))
	}
	note(c.ask(`"type":"unwatch","channel":"ann"`))
	note(c.ask(`"type":"claim","status":"away"`))
	note(c.ask(`"type":"focus","channel":"ann"`))
	st.hangUp(c, n)
}

// move makes a random act of a client. Clients that stay never close their tab.
func (p *play) move(ways way, who string, tabs []string, stays bool) {
	tab := tabs[p.IntN(len(tabs))]
	name := who + "/" + tab
	n := p.IntN(18)
	if stays {
		n = p.IntN(12)
	}
	switch {
	case n < 2:
		login := p.IntN(2) == 0
		p.add(ways, func(st *stage) { st.come(who, tab, login) }, "%s: hello, login %v", name, login)
	case n < 6:
		status, lasts := p.house.choose[p.IntN(len(p.house.choose))], []int{0, 0, 5000, 20000}[p.IntN(4)]
		p.add(ways, func(st *stage) {
			st.tell(who, tab, fmt.Sprintf(`"type":"claim","status":%q,"for":%d,"text":"text %d"`, status, lasts, lasts))
		}, "%s: claim %s for %d ms", name, status, lasts)
	case n < 7:
		p.add(ways, func(st *stage) { st.tell(who, tab, `"type":"release"`) }, "%s: release", name)
	case n < 12:
		p.sign(ways, who, tab)
	case n < 17:
		p.leave(ways, who, tab)
	default:
		p.add(ways, func(st *stage) { st.over(who, tab, `{"type":"bye","cause":"logout"}`) }, "%s: logout", name)
	}
}

// sign makes up a sign of life.
func (p *play) sign(ways way, who, tab string) {
	switch p.IntN(4) {
	case 0:
		p.add(ways, func(st *stage) { st.tell(who, tab, `"type":"input"`) }, "%s/%s: input", who, tab)
	case 1:
		channel := []string{"", "sales"}[p.IntN(2)]
		p.add(ways, func(st *stage) { st.tell(who, tab, fmt.Sprintf(`"type":"focus","channel":%q`, channel)) }, "%s/%s: focus %q", who, tab, channel)
	case 2:
		p.add(ways, func(st *stage) { st.pong(who, tab, "") }, "%s/%s: heartbeat", who, tab)
	default:
		fields := fmt.Sprintf(`,"idle":%d,"visible":%v`, []int{0, 1000, 90_000}[p.IntN(3)], p.IntN(2) == 0)
		p.add(ways, func(st *stage) { st.pong(who, tab, fields) }, "%s/%s: heartbeat%s", who, tab, fields)
	}
}

// leave loses a socket in a random way, and perhaps connects again.
func (p *play) leave(ways way, who, tab string) {
	back := p.IntN(2) == 0
	name := "closes"
	do := func(st *stage) { st.over(who, tab, `{"type":"bye"}`) }
	switch p.IntN(3) {
	case 0:
		name, do = "is cut off", func(st *stage) { st.over(who, tab, "") }
	case 1:
		name, do = "comes over another socket", func(st *stage) { st.again(who, tab) }
	}
	p.add(ways, do, "%s/%s: %s", who, tab, name)
	if back {
		if p.IntN(2) == 0 {
			p.pass()
		}
		p.add(ways, func(st *stage) { st.come(who, tab, false) }, "%s/%s: hello", who, tab)
	}
}

// others makes up something that has nothing to do with what ann does.
func (p *play) others() {
	ann := presence.ID("ann")
	pbx := presence.Actor{Subject: presence.ID("pbx"), Role: presence.RoleSystem}
	switch n := p.IntN(12); {
	case n < 3:
		p.move(anyWay, "bob", []string{"desk"}, true)
	case n < 6:
		p.move(anyWay, "cyd", []string{"x", "y"}, false)
	case n < 8:
		status := p.house.choose[p.IntN(2)]
		p.add(anyWay, func(st *stage) {
			_, err := st.tracker.SetClaim(st.t.Context(), pbx, ann, presence.Claim{Status: status, Source: presence.SourceCall})
			require.NoError(st.t, err)
		}, "pbx: ann is %s in a call", status)
	case n < 9:
		p.add(anyWay, func(st *stage) { st.endCall() }, "pbx: the call is over")
	case n < 10:
		kind := []string{"push", "inapp", "call", "other"}[p.IntN(4)]
		p.add(anyWay, func(st *stage) {
			err := st.tracker.Notify(st.t.Context(), presence.Notification{ID: "1", Subject: ann, Kind: kind, Channel: "sales"})
			st.sent = append(st.sent, fmt.Sprint(err))
		}, "ann is notified: %s", kind)
	case n < 11:
		p.add(anyWay, (*stage).look, "a visitor looks in")
	default:
		granted := p.IntN(3) > 0
		p.add(anyWay, func(st *stage) {
			change := st.tracker.RemoveMember
			if granted {
				change = st.tracker.AddMember
			}
			require.NoError(st.t, change(st.t.Context(), presence.ChannelID("sales"), ann))
		}, "ann's grant: %v", granted)
	}
}

func (st *stage) endCall() {
	pbx := presence.Actor{Subject: presence.ID("pbx"), Role: presence.RoleSystem}
	_, err := st.tracker.EndClaim(st.t.Context(), pbx, presence.ID("ann"), presence.Claim{Source: presence.SourceCall})
	require.NoError(st.t, err)
}

// logout ends ann's presence on every tab.
func (st *stage) logout(tabs ...string) {
	st.t.Helper()
	if len(tabs) == 1 {
		st.over("ann", tabs[0], `{"type":"bye","cause":"logout"}`)
	}
	require.NoError(st.t, st.tracker.Logout(st.t.Context(), presence.ID("ann")))
	for _, tab := range tabs {
		st.over("ann", tab, "")
	}
}

// whileUnseen makes up something that ann does while she hides.
func (p *play) whileUnseen() {
	tab := p.tabs[p.IntN(len(p.tabs))]
	switch n := p.IntN(12); {
	case n < 5:
		p.sign(hides, "ann", tab)
	case n < 7:
		lasts := []int{0, 4000, 30_000}[p.IntN(3)]
		p.add(hides, func(st *stage) {
			st.tell("ann", tab, fmt.Sprintf(`"type":"claim","status":%q,"for":%d,"text":"text %d","reason":"r"`, st.house.hidden, lasts, lasts))
		}, "ann/%s: another text, for %d ms", tab, lasts)
	case n < 8:
		p.add(hides, func(st *stage) { st.tell("ann", tab, `"type":"release","key":"timed"`) }, "ann/%s: release timed", tab)
	case n < 10:
		p.add(hides, func(st *stage) { st.come("ann", tab, false) }, "ann/%s: hello", tab)
	default:
		p.leave(hides, "ann", tab)
	}
}

// vanish makes ann log in and then hide, log out or leave, by the way of the play.
func (p *play) vanish(h house) {
	p.add(anyWay, func(st *stage) {
		st.logout("one", "two")
		st.endCall()
		require.NoError(st.t, st.tracker.AddMember(st.t.Context(), presence.ChannelID("sales"), presence.ID("ann")))
	}, "ann logs out")
	p.pass()
	p.add(anyWay, func(st *stage) {
		for i, tab := range p.tabs {
			st.come("ann", tab, i == 0)
		}
	}, "ann logs in")
	p.pass()

	all := func(status string) func(*stage) {
		return func(st *stage) {
			for _, tab := range p.tabs {
				st.clients["ann/"+tab].do(fmt.Sprintf(`"type":"claim","status":%q,"text":"bye"`, status))
			}
		}
	}
	p.add(hides, all(h.hidden), "ann hides")
	p.add(logsOut, func(st *stage) { st.logout(p.tabs...) }, "ann logs out")
	p.add(goesAway, all("away"), "ann goes away")
	p.pass()
}

// shows changes to a policy that hides no status, and back. Single claims may hide
// from its audiences, so that those cannot distinguish a subject that hid from one that
// left. Any act of ann would end her hiding.
func (p *play) shows(h house) {
	shows := h.policy.Clone()
	for i := range shows.Statuses {
		if from := shows.Statuses[i].HiddenFrom; len(from) > 0 {
			shows.Statuses[i].HiddenFrom, shows.Hideable = nil, from
		}
	}
	for _, tab := range p.tabs {
		p.add(hides, func(st *stage) { st.tell("ann", tab, `"type":"release","key":"timed"`) }, "ann/%s: release timed", tab)
	}
	p.pass()
	for _, policy := range []presence.Policy{shows, h.policy} {
		p.add(anyWay, func(st *stage) {
			require.NoError(st.t, st.tracker.SetPolicy(st.t.Context(), presence.Actor{Subject: presence.ID("root"), Role: presence.RoleAdmin}, policy))
		}, "policy that hides somebody: %v", len(policy.Hideable) == 0)
		p.pass()
		for range 1 + p.IntN(4) {
			if p.IntN(2) == 0 {
				p.sign(hides, "ann", p.tabs[p.IntN(len(p.tabs))])
			} else {
				p.others()
			}
			p.pass()
		}
	}
}

// reappear makes ann visible again.
func (p *play) reappear(h house) {
	p.add(logsOut|goesAway, func(st *stage) { st.come("ann", "one", true) }, "ann logs in")
	p.add(hides, func(st *stage) {
		if len(p.tabs) > 1 { // it would go on when the other one has left
			st.over("ann", "two", "")
			_ = st.tracker.Apply(st.t.Context(), presence.Event{Kind: presence.EventLogout, Subject: presence.ID("ann"), Conn: "two"}) // it may have gone
		}
	}, "ann/two: logout")
	switch n := p.IntN(3); {
	case n == 0:
		p.add(hides, func(st *stage) {
			st.logout("one")
			st.come("ann", "one", true)
		}, "ann logs out and in")
	case n == 1 && h.loginEnds:
		p.add(hides, func(st *stage) { st.come("ann", "one", true) }, "ann logs in")
	default:
		p.add(hides, func(st *stage) {
			st.come("ann", "one", false)
			st.clients["ann/one"].do(fmt.Sprintf(`"type":"claim","status":%q`, h.policy.Default))
		}, "ann shows herself")
	}
}

func newPlay(seed uint64, h house) *play {
	p := &play{Rand: rand.New(rand.NewPCG(seed, 8)), house: h, over: []string{"ws", "sse"}[seed/2%2], tabs: []string{"one", "two"}[:1+seed%2]}
	for range 2 + p.IntN(8) {
		if p.IntN(3) > 0 {
			p.move(anyWay, "ann", []string{"one", "two"}, false)
		} else {
			p.others()
		}
		p.pass()
	}
	p.vanish(h)
	for range 4 + p.IntN(14) {
		if p.IntN(3) > 0 {
			p.whileUnseen()
		} else {
			p.others()
		}
		p.pass()
	}
	if seed%3 > 0 { // fault 8
		p.shows(h)
	}
	p.add(hides, func(st *stage) {
		p, err := st.tracker.State(st.t.Context(), presence.ID("ann"))
		require.NoError(st.t, err)
		if p.Current.Reach != presence.ReachNone {
			require.Contains(st.t, p.Current.HiddenFrom, presence.AudienceVisitor, "ann hides no more")
		}
	}, "ann hides still")

	p.reappear(h)
	p.pass()
	for range 3 + p.IntN(6) {
		if p.IntN(3) > 0 {
			p.move(anyWay, "ann", []string{"one"}, false)
		} else {
			p.others()
		}
		p.pass()
	}
	p.add(anyWay, (*stage).look, "a visitor looks in")
	p.pass()
	return p
}

// Clients from which a subject hides receive, to the byte, what they would
// receive if it had logged out and in again.
func TestHiddenIsLikeLoggedOut(t *testing.T) {
	for _, h := range houses() {
		for _, seed := range seeds.List(t, 40) {
			t.Run(fmt.Sprintf("%s-seed-%d", h.name, seed), func(t *testing.T) {
				t.Parallel()
				h := h
				if h.fromTeam && seed%4 >= 2 { // where changes are held back too
					h.policy.CoalesceSubject = 2 * time.Second
				}
				p := newPlay(seed, h)
				hidden, out, away := p.perform(t, hides), p.perform(t, logsOut), p.perform(t, goesAway)
				p.same(t, seed, "a visitor", out.seen, hidden.seen)
				if h.fromTeam {
					p.same(t, seed, "a teammate", out.team, hidden.team)
				}
				require.Equal(t, out.sent, hidden.sent, "seed %d: what senders are told", seed)
				require.NotEqual(t, out.seen, away.seen, "seed %d: one who is away can be told from one who left", seed)
			})
		}
	}
}

// same compares two streams and reports to the play where they differ.
func (p *play) same(t *testing.T, seed uint64, who string, want, got []string) {
	t.Helper()
	require.NotEmpty(t, want)
	for i := range max(len(want), len(got)) {
		pair := [2]string{"nothing", "nothing"}
		for j, list := range [][]string{want, got} {
			if i < len(list) {
				pair[j] = list[i]
			}
		}
		if pair[0] != pair[1] {
			story, passed := "", 0
			for _, a := range p.acts {
				story += fmt.Sprintf("\n %d [%03b] %s", passed, a.ways, a.name)
				if a.ways == anyWay && len(a.name) > 6 && a.name[len(a.name)-6:] == " later" {
					passed++
				}
			}
			require.Fail(t, "hiding shows", "seed %d under %s: message %d to %s\n logged out %s\n hidden     %s\nwhat happened in which runs:%s",
				seed, p.house.name, i, who, pair[0], pair[1], story)
		}
	}
}
