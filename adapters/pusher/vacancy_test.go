package pusher_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/presence-go/presence"
	"github.com/presence-go/presence/adapters/pusher"
)

// heard returns the webhooks that a hook got since the last call, as "name
// channel user".
func (h *hook) heard() (list []string) {
	h.t.Helper()
	for _, raw := range h.take() {
		var e struct {
			Name, Channel string
			UserID        string `json:"user_id"`
		}
		require.NoError(h.t, json.Unmarshal([]byte(raw), &e))
		list = append(list, strings.TrimSpace(e.Name+" "+e.Channel+" "+e.UserID))
	}
	return list
}

// hooked gives the app of a world one webhook.
func hooked(h *hook, more func(*conf)) func(*conf) {
	return func(c *conf) {
		c.pusher.Apps[0].Webhooks = []pusher.Webhook{{URL: "https://x.example", Client: &http.Client{Transport: h}}}
		if more != nil {
			more(c)
		}
	}
}

// Fault 29: a page that is reloaded sends no webhook, and one that is left for
// good first member_removed, then channel_vacated.
func TestAReloadVacatesNothing(t *testing.T) {
	h := &hook{t: t}
	inWorld(t, hooked(h, nil), func(w *world) {
		ann := w.enter("ann", "presence-sales")
		ann.subscribe("news", "")
		require.Equal(t, []string{"channel_occupied presence-sales", "member_added presence-sales ann", "channel_occupied news"}, h.heard())
		for _, away := range []time.Duration{300 * time.Millisecond, 3*time.Second - time.Nanosecond} {
			ann.leave()
			w.pass(away)
			ann = w.open()
			ann.subscribe("news", "")
			ann.subscribe("presence-sales", "ann")
			w.pass(time.Minute)
			require.Empty(t, h.heard(), "away for %v", away)
		}
		_, channels := w.call("GET", "/apps/3/channels", "", "")
		require.JSONEq(t, `{"channels":{"news":{},"presence-sales":{}}}`, channels)
		ann.leave()
		_, channels = w.call("GET", "/apps/3/channels", "", "")
		require.JSONEq(t, `{"channels":{}}`, channels, "the API does not wait")
		w.pass(3*time.Second - time.Nanosecond)
		require.Empty(t, h.heard())
		w.pass(time.Nanosecond)
		require.Equal(t, []string{"channel_vacated news"}, h.heard())
		w.pass(time.Second)
		bob := w.enter("bob", "presence-sales")
		require.Equal(t, []string{"member_added presence-sales bob"}, h.heard(), "ann is still a member: it never was vacated")
		bob.leave()
		w.pass(5 * time.Second)
		require.Equal(t, []string{"member_removed presence-sales ann", "member_removed presence-sales bob", "channel_vacated presence-sales"}, h.heard())
	})
}

// vacancyCase is a policy, or options, with what they mean for channel_vacated.
type vacancyCase struct {
	change   func(*conf)
	patience time.Duration
	stay     bool // members stay once they have left, so that it does not wait for them
}

func vacancyCases() map[string]vacancyCase {
	with := func(change func(*presence.Policy)) func(*conf) {
		return func(c *conf) {
			p := presence.DefaultPolicy()
			change(&p)
			c.tracker.Policy = &p
		}
	}
	return map[string]vacancyCase{
		"default":           {patience: 3 * time.Second},
		"grace of a moment": {change: with(func(p *presence.Policy) { p.Grace.Loss, p.Grace.Close = time.Millisecond, time.Millisecond }), patience: 3 * time.Second},
		"long grace":        {change: with(func(p *presence.Policy) { p.Grace.Loss, p.Grace.Close = 20*time.Second, 10*time.Second }), patience: 3 * time.Second},
		"held back":         {change: with(func(p *presence.Policy) { p.CoalesceSubject, p.CoalesceChannel = 2*time.Second, time.Second }), patience: 3 * time.Second},
		"away":              {change: with(func(p *presence.Policy) { p.Disconnected = "away" }), patience: 3 * time.Second, stay: true},
		"roster":            {change: func(c *conf) { c.pusher.Roster = true }, patience: 3 * time.Second, stay: true},
		"another patience":  {change: func(c *conf) { c.pusher.VacatedAfter = 8 * time.Second }, patience: 8 * time.Second},
	}
}

// TestVacatedByModel plays random histories of joins and leaves. After every
// half second the webhooks so far make a channel occupied exactly if it has a
// subscription, had one within the last 3 s, or has a member whose removal they
// have not reported (fault 29).
func TestVacatedByModel(t *testing.T) {
	for name, c := range vacancyCases() {
		for range 3 {
			seed := rand.Uint64()
			t.Run(fmt.Sprintf("%s/%d", name, seed), func(t *testing.T) {
				h := &hook{t: t}
				inWorld(t, hooked(h, c.change), func(w *world) {
					p := &vacancyPlay{Rand: rand.New(rand.NewPCG(seed, 29)), w: w, h: h, c: c, rooms: make(map[string]*vacancyRoom)}
					p.play(200)
				})
			})
		}
	}
}

// vacancyRoom is what the model knows of a channel.
type vacancyRoom struct {
	subs    int
	emptied time.Time // when the last subscription ended
	told    bool      // by the webhooks: occupied and not vacated
	members map[string]bool
}

// vacancyPlay is one random history.
type vacancyPlay struct {
	*rand.Rand
	w       *world
	h       *hook
	c       vacancyCase
	rooms   map[string]*vacancyRoom
	sockets []*vacancySocket
	script  []string
}

// vacancySocket is a socket of one person.
type vacancySocket struct {
	*client
	user string
	on   []string
}

func (p *vacancyPlay) note(format string, args ...any) {
	p.script = append(p.script, fmt.Sprintf(format, args...))
}

func (p *vacancyPlay) play(acts int) {
	for _, name := range []string{"news", "private-a", "presence-sales", "presence-desk"} {
		p.rooms[name] = &vacancyRoom{members: make(map[string]bool)}
	}
	p.w.grant("ann", "desk")
	p.w.grant("bob", "desk")
	for range acts {
		p.act()
		p.check()
	}
	for len(p.sockets) > 0 {
		p.close(0, (*client).leave)
	}
	for range 200 {
		p.w.pass(500 * time.Millisecond)
		p.check()
	}
	for name, room := range p.rooms {
		require.False(p.w.t, room.told, name)
	}
}

// check compares the webhooks with the model.
func (p *vacancyPlay) check() {
	t := p.w.t
	for _, e := range p.h.heard() {
		p.note("  %s", e)
		f := strings.Fields(e)
		room := p.rooms[f[1]]
		switch f[0] {
		case "channel_occupied":
			require.False(t, room.told, "twice\n%s", strings.Join(p.script, "\n"))
			room.told = true
		case "channel_vacated":
			require.True(t, room.told, "twice\n%s", strings.Join(p.script, "\n"))
			room.told = false
		case "member_added":
			require.True(t, room.told, "member of a vacant channel\n%s", strings.Join(p.script, "\n"))
			room.members[f[2]] = true
		case "member_removed":
			require.True(t, p.c.stay || room.told, "after the channel was vacated\n%s", strings.Join(p.script, "\n"))
			delete(room.members, f[2])
		}
	}
	for name, room := range p.rooms {
		want := room.subs > 0 || !room.emptied.IsZero() && time.Since(room.emptied) < p.c.patience
		if !p.c.stay {
			want = want || len(room.members) > 0
		}
		require.Equal(t, want, room.told, "%s at %v after\n%s", name, time.Now(), strings.Join(p.script, "\n"))
	}
}

func (p *vacancyPlay) leave(name string) {
	room := p.rooms[name]
	if room.subs--; room.subs == 0 {
		room.emptied = time.Now()
	}
}

func (p *vacancyPlay) close(i int, how func(*client)) {
	s := p.sockets[i]
	how(s.client)
	for _, name := range s.on {
		p.leave(name)
	}
	p.sockets = slices.Delete(p.sockets, i, i+1)
}

func (p *vacancyPlay) act() {
	names := []string{"news", "private-a", "presence-sales", "presence-desk"}
	name := names[p.IntN(len(names))]
	n := p.IntN(12)
	if len(p.sockets) == 0 && n < 8 || n == 0 && len(p.sockets) < 4 {
		user := []string{"ann", "bob", "visitor-1"}[p.IntN(3)]
		p.note("%s opens a socket", user)
		p.sockets = append(p.sockets, &vacancySocket{client: p.w.open(), user: user})
		return
	}
	if n >= 8 {
		d := time.Duration(1+p.IntN(12)) * 500 * time.Millisecond
		p.note("%v later", d)
		for range d / (500 * time.Millisecond) {
			p.w.pass(500 * time.Millisecond)
			p.check()
		}
		return
	}
	i := p.IntN(len(p.sockets))
	s := p.sockets[i]
	on := slices.Contains(s.on, name)
	switch {
	case n < 5 && !on:
		p.note("socket %d of %s subscribes to %s", i, s.user, name)
		s.subscribe(name, s.user)
		s.take()
		s.on = append(s.on, name)
		p.rooms[name].subs++
	case n < 6 && on:
		p.note("socket %d of %s leaves %s", i, s.user, name)
		s.send("pusher:unsubscribe", "", map[string]string{"channel": name})
		s.take()
		s.on = slices.DeleteFunc(s.on, func(c string) bool { return c == name })
		p.leave(name)
	case n < 7:
		p.note("socket %d of %s closes", i, s.user)
		p.close(i, (*client).leave)
	case n < 8:
		p.note("socket %d of %s is cut off", i, s.user)
		p.close(i, (*client).lose)
	}
}

// channel_vacated does not wait for members who stay without a connection.
func TestVacatedWithThoseWhoStay(t *testing.T) {
	h := &hook{t: t}
	inWorld(t, hooked(h, func(c *conf) {
		p := presence.DefaultPolicy()
		p.Virtual = map[string]presence.VirtualRule{"push": {Show: "away"}, "bot": {Show: presence.ShowTop}}
		c.tracker.Policy = &p
	}), func(w *world) {
		ctx := w.t.Context()
		w.grant("robot", "sales")
		require.NoError(t, w.tracker.Apply(ctx, presence.Event{
			Kind: presence.EventEndpoint, Subject: presence.ID("robot"), SubjectKind: presence.KindBot, Endpoint: presence.Endpoint{ID: "r", Kind: presence.EndpointBot},
		}))
		require.NoError(t, w.tracker.SetEndpoint(ctx, presence.ID("bob"), presence.Endpoint{ID: "b", Kind: presence.EndpointPush}))
		ann, bob := w.enter("ann", "presence-sales"), w.enter("bob", "presence-sales")
		require.Equal(t, []string{"channel_occupied presence-sales", "member_added presence-sales ann", "member_added presence-sales bob", "member_added presence-sales robot"}, h.heard())
		bob.leave()
		ann.leave()
		w.pass(5*time.Second - time.Nanosecond)
		require.Empty(t, h.heard(), "ann is still to go")
		w.pass(time.Nanosecond)
		require.Equal(t, []string{"member_removed presence-sales ann", "channel_vacated presence-sales"}, h.heard())
	})
}

// A stranger who opens and leaves one channel after the other is never refused,
// and lets no more wait than there may be channels.
func TestWaitingVacanciesAreBounded(t *testing.T) {
	h := &hook{t: t}
	inWorld(t, hooked(h, func(c *conf) {
		c.pusher.MaxChannels, c.pusher.MessagesPerSecond, c.pusher.Burst = 5, 1e6, 1e6
	}), func(w *world) {
		ann := w.enter("ann", "presence-sales")
		require.Len(t, h.heard(), 2)
		stranger := w.open()
		waiting, most := make(map[string]bool), 0
		for i := range 200 {
			name := fmt.Sprint("x", i)
			stranger.subscribe(name, "")
			require.Equal(t, []string{"pusher_internal:subscription_succeeded " + name}, stranger.events())
			stranger.send("pusher:unsubscribe", "", map[string]string{"channel": name})
			for _, e := range h.heard() {
				if f := strings.Fields(e); f[0] == "channel_occupied" {
					waiting[f[1]] = true
				} else {
					require.Equal(t, "channel_vacated", f[0])
					require.True(t, waiting[f[1]])
					delete(waiting, f[1])
				}
			}
			most = max(most, len(waiting))
		}
		require.Equal(t, 4, most, "beside ann's")
		w.pass(3 * time.Second)
		require.Equal(t, []string{"channel_vacated x196", "channel_vacated x197", "channel_vacated x198", "channel_vacated x199"}, h.heard(), "in order")
		for i := range 4 {
			stranger.subscribe(fmt.Sprint("y", i), "")
		}
		require.Len(t, stranger.events(), 4)
		stranger.subscribe("z", "")
		require.Equal(t, 429, one(t, stranger.take()).status(t), "those in use are not given up")
		ann.leave() // whose member_removed follows
		w.pass(4 * time.Second)
		stranger.subscribe("z", "")
		require.Equal(t, []string{"pusher_internal:subscription_succeeded z"}, stranger.events())
		require.Equal(t, []string{"channel_vacated presence-sales", "channel_occupied z"}, h.heard()[4:], "at the limit it goes early")
	})
}

func TestVacatedAtShutdown(t *testing.T) {
	h := &hook{t: t}
	inWorld(t, hooked(h, nil), func(w *world) {
		w.enter("ann", "presence-sales").subscribe("news", "")
		gone := w.open()
		gone.subscribe("old", "")
		gone.leave()
		require.Len(t, h.heard(), 4)
		require.NoError(t, w.handler.Shutdown(w.t.Context()))
		require.ElementsMatch(t, []string{"channel_vacated old", "channel_vacated news", "channel_vacated presence-sales"}, h.heard(), "nobody else would tell it")
	})
}
