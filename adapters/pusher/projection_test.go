package pusher_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/presence-go/presence"
	"github.com/presence-go/presence/adapters/pusher"
	"github.com/presence-go/presence/internal/seeds"
	"github.com/presence-go/presence/preset"
)

// strict is a policy under which people hide from all others and are away while
// they are not connected. Every audience sees all fields.
func strict() presence.Policy {
	p := presence.DefaultPolicy()
	p.Name, p.Disconnected = "strict", "away"
	p.Statuses = append(p.Statuses, presence.Status{
		ID: "gone", Class: presence.ClassBusy, HiddenFrom: []presence.Audience{presence.AudienceVisitor, presence.AudienceTeam}, SelectableBy: []string{presence.BySelf},
	})
	all := []string{"since", "setAt", "until", "reason", "text", "cause", "masked", "lastSeen", "lastLogin", "routable"}
	p.Views = map[presence.Audience][]string{presence.AudienceVisitor: all, presence.AudienceTeam: all}
	return p
}

var policies = map[string]func() presence.Policy{
	"default": presence.DefaultPolicy, "thrivedesk": preset.ThriveDesk, "tawkto": preset.TawkTo, "respondio": preset.RespondIO, "strict": strict,
}

// list returns the tracker's list for an audience. The list of the audience self
// is the first frame of the viewer's own watch.
func (w *world) list(a presence.Audience, viewer presence.Ref) ([]presence.View, presence.Group) {
	if a != presence.AudienceSelf {
		views, group, err := w.tracker.ListAs(w.t.Context(), a, presence.ChannelID("sales"), nil)
		require.NoError(w.t, err)
		return views, group
	}
	watch, err := w.tracker.Watch(w.t.Context(), presence.Supervisor(viewer), presence.ChannelID("sales"), presence.WatchOptions{Audience: a})
	require.NoError(w.t, err)
	defer watch.Close()
	f, err := watch.Poll()
	require.NoError(w.t, err)
	return f.Members, f.Group
}

// wanted is the map of members that an audience has to see, from the tracker's
// own list.
func (w *world) wanted(a presence.Audience, viewer string, roster bool) map[string]map[string]any {
	w.t.Helper()
	views, group := w.list(a, presence.ID(viewer))
	members, there := make(map[string]map[string]any), 0
	for _, v := range views {
		present := v.Class != "" && v.Class != presence.ClassOffline
		if present {
			there++
		}
		if !present && !roster {
			continue
		}
		var fields map[string]any
		require.NoError(w.t, json.Unmarshal([]byte(encode(v)), &fields))
		delete(fields, "tenant")
		members[v.Subject.ID] = fields
	}
	require.Equal(w.t, group.Count, there)
	return members
}

// has is the map of members that a client has.
func (c *client) has(channel string) map[string]map[string]any {
	synctest.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	members := make(map[string]map[string]any)
	for id, info := range c.members[channel] {
		var fields map[string]any
		require.NoError(c.t, json.Unmarshal(info, &fields))
		if name, told := fields["name"]; told {
			require.Equal(c.t, "The "+id, name)
		}
		delete(fields, "name") // which the app signed
		members[id] = fields
	}
	return members
}

// tab is a client of a script.
type tab struct {
	*client
	user     string
	audience presence.Audience
	on       bool // subscribed
	slow     bool
}

// TestMembersAreTheTrackersOwn plays random scripts. After each act every client's
// map of members is the tracker's list for its audience. Each member was added and
// removed in turn.
func TestMembersAreTheTrackersOwn(t *testing.T) {
	for name, policy := range policies {
		for _, roster := range []bool{false, true} {
			for _, seed := range seeds.List(t, 3) {
				t.Run(fmt.Sprintf("%s/roster=%v/%d", name, roster, seed), func(t *testing.T) { playRandom(t, policy(), roster, seed) })
			}
		}
	}
}

// randomAudience are the audiences of users by id; the others watch as the team.
var randomAudience = map[string]presence.Audience{"visitor-1": presence.AudienceVisitor, "sam": presence.AudienceSupervisor, "dan": presence.AudienceSelf}

// randomPlay is a random script of people with tabs.
type randomPlay struct {
	*rand.Rand
	w      *world
	policy presence.Policy
	roster bool
	tabs   []*tab
	script []string
}

func (p *randomPlay) note(format string, args ...any) {
	p.script = append(p.script, fmt.Sprintf(format, args...))
}

// compare checks that every tab equals the list of the tracker.
func (p *randomPlay) compare() {
	synctest.Wait()
	for _, tab := range p.tabs {
		if !tab.on || tab.slow || !tab.open() {
			continue
		}
		a := tab.audience
		if a == "" {
			a = presence.AudienceTeam
		}
		if tab.has("presence-sales") == nil {
			continue
		}
		require.Equal(p.w.t, p.w.wanted(a, tab.user, p.roster), tab.has("presence-sales"), "%s sees\n%s", tab.user, strings.Join(p.script, "\n"))
	}
}

// act makes one random act.
func (p *randomPlay) act() {
	people := []string{"ann", "bob", "cyd", "dan", "sam", "visitor-1"}
	p.tabs = slices.DeleteFunc(p.tabs, func(tab *tab) bool { return !tab.slow && !tab.open() })
	who := people[p.IntN(len(people))]
	var some *tab
	if len(p.tabs) > 0 {
		some = p.tabs[p.IntN(len(p.tabs))]
	}
	switch n := p.IntN(24); {
	case n < 5 && len(p.tabs) < 12:
		p.note("%s opens a tab", who)
		fresh := &tab{client: p.w.open(), user: who, audience: randomAudience[who]}
		fresh.subscribe("presence-sales", who)
		got := one(p.w.t, fresh.take())
		fresh.on = got.Event != "pusher:subscription_error"
		p.tabs = append(p.tabs, fresh)
	case n < 6 && some != nil && !some.slow:
		p.note("%s leaves a page", some.user)
		some.leave()
	case n < 7 && some != nil && !some.slow:
		p.note("%s is cut off", some.user)
		some.lose()
	case n < 8 && some != nil:
		p.note("%s freezes a page", some.user)
		some.mu.Lock()
		some.mute = true
		some.mu.Unlock()
	case n < 9 && some != nil && !some.slow && some.on:
		p.note("%s unsubscribes", some.user)
		some.send("pusher:unsubscribe", "", map[string]string{"channel": "presence-sales"})
		some.on = false
	case n < 10 && some != nil && !some.slow && !some.on:
		p.note("%s subscribes again", some.user)
		some.subscribe("presence-sales", some.user)
		got := some.take()
		some.on = got[len(got)-1].Event != "pusher:subscription_error"
	default:
		p.actOn(n, who, some)
	}
}

// actOn makes the n-th act, of a person or a tab, or lets time pass.
func (p *randomPlay) actOn(n int, who string, some *tab) {
	switch {
	case n < 11 && some != nil && some.on:
		if some.slow {
			p.note("%s reads on", some.user)
			some.resume()
		} else {
			p.note("%s stops reading", some.user)
			some.pause()
		}
		some.slow = !some.slow
	case n < 16:
		statuses := p.policy.Statuses
		status := statuses[p.IntN(len(statuses))].ID
		p.note("%s chooses %s", who, status)
		_, _ = p.w.tracker.SetClaim(p.w.t.Context(), presence.Agent(presence.ID(who)), presence.ID(who), presence.Claim{Status: status, For: time.Duration(p.IntN(3)) * 20 * time.Second, Text: "as I like"})
	case n < 17 && who != "visitor-1":
		p.note("%s loses access", who)
		if err := p.w.tracker.RemoveMember(p.w.t.Context(), presence.ChannelID("sales"), presence.ID(who)); err != nil {
			require.ErrorIs(p.w.t, err, presence.ErrUnknown, "%s was never there", who)
		}
		for _, tab := range p.tabs {
			if tab.user == who && who != "sam" {
				tab.on = false
			}
		}
	case n < 19 && who != "visitor-1":
		p.note("%s is granted access", who)
		p.w.grant(who, "sales")
	case n < 20 && who != "visitor-1":
		p.note("%s is terminated", who)
		require.NoError(p.w.t, p.w.handler.Terminate(p.w.app.ID, who))
	case n < 21 && some != nil && some.on && !some.slow:
		p.note("%s says something", some.user)
		some.send("client-x", "presence-sales", 1)
	default:
		d := time.Duration(p.IntN(20_000)) * time.Millisecond
		if p.IntN(6) == 0 {
			d *= 20
		}
		p.note("%v later", d)
		p.w.pass(d)
	}
}

func playRandom(t *testing.T, policy presence.Policy, roster bool, seed uint64) {
	r := rand.New(rand.NewPCG(seed, 7))
	inWorld(t, func(c *conf) {
		c.tracker.Policy, c.tracker.WatchBuffer, c.pusher.Roster = &policy, 2+r.IntN(4), roster
		c.pusher.Identify = func(u pusher.User) (pusher.Identity, error) {
			who := pusher.Identity{Audience: randomAudience[u.ID]}
			switch u.ID {
			case "visitor-1":
				who.Actor.Role = presence.RoleVisitor
			case "sam":
				who.Actor.Role = presence.RoleSupervisor
			}
			return who, nil
		}
	}, func(w *world) {
		for _, id := range []string{"cyd", "dan"} {
			w.grant(id, "sales")
		}
		p := &randomPlay{Rand: r, w: w, policy: policy, roster: roster}
		for range 100 {
			p.act()
			p.compare()
		}
		for _, tab := range p.tabs {
			if tab.slow {
				tab.slow = false
				tab.resume()
			}
		}
		w.pass(2 * time.Minute)
		p.compare()
	})
}

// TestHiddenMembersLookLikeThoseWhoLeft plays a script twice: ann hides, or she
// logs out, and she returns at the same instant. Meanwhile others get the same
// bytes, whatever she does while she hides.
func TestHiddenMembersLookLikeThoseWhoLeft(t *testing.T) {
	for name, c := range map[string]struct {
		policy presence.Policy
		hidden string
		from   []string // who is not to know
	}{
		"tawkto": {preset.TawkTo(), "invisible", []string{"visitor-1"}},
		"strict": {strict(), "gone", []string{"visitor-1", "bob"}},
	} {
		for _, roster := range []bool{false, true} {
			for _, seed := range seeds.List(t, 10) {
				t.Run(fmt.Sprintf("%s/roster=%v/%d", name, roster, seed), func(t *testing.T) {
					play := func(hides bool) map[string][]string {
						return playHiding(t, c.policy, c.hidden, c.from, roster, hides, seed)
					}
					hiding, leaving := play(true), play(false)
					require.NotEmpty(t, hiding)
					require.Equal(t, leaving, hiding)
				})
			}
		}
	}
}

// annComes subscribes as ann with a name, in a new client.
func (w *world) annComes(name string) *client {
	w.t.Helper()
	c := w.open()
	auth, err := w.app.Authorize(c.id, "presence-sales", &pusher.User{ID: "ann", Info: json.RawMessage(fmt.Sprintf(`{"name":%q}`, name))})
	require.NoError(w.t, err)
	c.send("pusher:subscribe", "", map[string]string{"channel": "presence-sales", "auth": auth.Auth, "channel_data": auth.ChannelData})
	synctest.Wait()
	return c
}

// annActs makes an act of hidden ann, by number. It returns her tabs.
func (w *world) annActs(n, i int, tabs []*client, hide func()) []*client {
	switch n {
	case 0:
		tabs = append(tabs, w.annComes(fmt.Sprint("Ann ", i)))
		hide()
	case 1:
		if len(tabs) > 0 {
			tabs[0].leave()
			tabs = tabs[1:]
		}
	case 2:
		for _, tab := range tabs {
			tab.send("client-typing", "presence-sales", i)
		}
	case 3:
		hide()
	}
	return tabs
}

func playHiding(t *testing.T, policy presence.Policy, hidden string, from []string, roster, hides bool, seed uint64) map[string][]string {
	r := rand.New(rand.NewPCG(seed, 11))
	sent := make(map[string][]string)
	inWorld(t, func(c *conf) { c.tracker.Policy, c.pusher.Roster = &policy, roster }, func(w *world) {
		claim := func(status string) {
			_, err := w.tracker.SetClaim(w.t.Context(), presence.Agent(presence.ID("ann")), presence.ID("ann"), presence.Claim{Status: status})
			require.NoError(t, err)
		}
		watching := make(map[string]*client)
		for _, id := range []string{"bob", "visitor-1"} {
			watching[id] = w.enter(id, "presence-sales")
		}
		if r.IntN(3) > 0 { // otherwise no client has ever seen her
			w.annComes("Ann")
		}
		w.annComes("Ann")
		w.pass(time.Duration(r.IntN(40_000)) * time.Millisecond)

		if hides {
			claim(hidden)
		} else {
			require.NoError(t, w.handler.Terminate(w.app.ID, "ann"))
		}
		w.pass(time.Second)
		var tabs []*client
		for i := range 20 {
			n, d := r.IntN(7), time.Duration(1+r.IntN(20_000))*time.Millisecond
			if hides {
				tabs = w.annActs(n, i, tabs, func() { claim(hidden) })
			}
			if n == 4 { // another user subscribes
				name := fmt.Sprint("visitor-", i)
				c := w.enter(name, "presence-sales")
				c.mu.Lock()
				sent["in passing"] = append(sent["in passing"], c.raw[1:]...)
				c.mu.Unlock()
				c.leave()
			}
			if n == 5 {
				w.claim("bob", policy.Statuses[r.IntN(2)].ID)
			}
			w.pass(d)
		}
		for _, id := range slices.Sorted(maps.Keys(watching)) {
			if slices.Contains(from, id) {
				c := watching[id]
				synctest.Wait()
				c.mu.Lock()
				sent[id] = slices.DeleteFunc(slices.Clone(c.raw[1:]), func(raw string) bool { return strings.Contains(raw, "pusher:ping") })
				c.mu.Unlock()
				require.NotContains(t, strings.Join(sent[id], "\n"), "Ann 1")
			}
		}
	})
	return sent
}
