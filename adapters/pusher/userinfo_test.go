package pusher_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/presence-go/presence/adapters/pusher"
)

// as subscribes as a user with a user_info.
func (c *client) as(user, channel, info string) {
	c.t.Helper()
	auth, err := c.w.app.Authorize(c.id, channel, &pusher.User{ID: user, Info: json.RawMessage(info)})
	require.NoError(c.t, err)
	c.send("pusher:subscribe", "", map[string]string{"channel": channel, "auth": auth.Auth, "channel_data": auth.ChannelData})
	synctest.Wait()
}

// Fault 27: a channel is shown nothing that was signed for another.
func TestUserInfoIsOfItsChannel(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		w.grant("ann", "staff")
		for _, id := range []string{"eve", "eli"} {
			w.grant(id, "sales")
			w.grant(id, "staff")
		}
		sales, staff := w.enter("eve", "presence-sales"), w.enter("eve", "presence-staff")
		staff2 := w.enter("eli", "presence-staff")
		ann := w.open()
		ann.as("ann", "presence-sales", `{"name":"Ann"}`)
		require.NotContains(t, staff.info("presence-staff", "ann"), "name", "she is a member and has said nothing there")
		ann.as("ann", "presence-staff", `{"name":"Ann Miller","desk":"4.17"}`)
		check := func() {
			t.Helper()
			require.Equal(t, "Ann", sales.info("presence-sales", "ann")["name"])
			require.NotContains(t, sales.info("presence-sales", "ann"), "desk")
			for _, c := range []*client{staff, staff2, ann} {
				require.Equal(t, "Ann Miller", c.info("presence-staff", "ann")["name"])
				require.Equal(t, "4.17", c.info("presence-staff", "ann")["desk"])
			}
		}
		check() // at once, although her status did not change
		w.claim("ann", "busy")
		check()
		second := w.open()
		second.as("ann", "presence-staff", `{"name":"Somebody"}`)
		check() // the first subscription counts
		ann.send("pusher:unsubscribe", "", map[string]string{"channel": "presence-staff"})
		w.claim("ann", "away")
		require.Equal(t, "Ann Miller", staff.info("presence-staff", "ann")["name"], "until the last has ended")
		second.send("pusher:unsubscribe", "", map[string]string{"channel": "presence-staff"})
		second.as("ann", "presence-staff", `{"name":"A. Miller"}`)
		require.Equal(t, "A. Miller", staff.info("presence-staff", "ann")["name"])
		require.Equal(t, "Ann", sales.info("presence-sales", "ann")["name"])
		require.Equal(t, 1, staff.added-1, "she was added once, beside eli")
	})
}

// infoModel is the rule in its simplest form: by user and channel, what the
// first of the present subscriptions brought, or of the last ones. The channel
// of a sign-in is empty.
type infoModel struct {
	signed map[[2]string]string
	uses   map[[2]string]int
}

func (m *infoModel) enter(user, channel, info string) {
	key := [2]string{user, channel}
	if m.uses[key]++; m.uses[key] == 1 {
		m.signed[key] = info
	}
}

func (m *infoModel) leave(user, channel string) { m.uses[[2]string{user, channel}]-- }

// shown is the name that a channel is shown, or nil.
func (m *infoModel) shown(user, channel string) any {
	info, known := m.signed[[2]string{user, channel}]
	if !known {
		info = m.signed[[2]string{user, ""}]
	}
	var fields map[string]any
	_ = json.Unmarshal([]byte(info), &fields)
	return fields["name"]
}

// TestUserInfoByModel plays random histories of people with sockets on several
// channels, who bring other infos each time. After each act, everybody's entry
// of everybody, and that of a newcomer, is that of the model (fault 27).
func TestUserInfoByModel(t *testing.T) {
	for range 20 {
		seed := rand.Uint64()
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			inWorld(t, nil, func(w *world) { newInfoPlay(w, rand.New(rand.NewPCG(seed, 27))).play(150) })
		})
	}
}

// infoPlay is one random history.
type infoPlay struct {
	*rand.Rand
	w        *world
	model    infoModel
	watchers []*client
	sockets  []*infoSocket
	script   []string
	changes  int
	statuses map[string]string
}

// infoSocket is a socket of one person.
type infoSocket struct {
	*client
	user     string
	channels []string // subscribed to
	signedIn bool
}

var infoRooms = []string{"presence-sales", "presence-staff", "presence-cache-hall"}

func newInfoPlay(w *world, r *rand.Rand) *infoPlay {
	p := &infoPlay{Rand: r, w: w, model: infoModel{make(map[[2]string]string), make(map[[2]string]int)}, statuses: make(map[string]string)}
	for _, id := range []string{"ann", "bob", "7", "eve"} {
		for _, room := range []string{"sales", "staff", "hall"} {
			w.grant(id, room)
		}
	}
	for _, user := range []string{"eve", "visitor-1"} {
		c := w.open()
		for _, room := range infoRooms {
			c.subscribe(room, user)
		}
		p.watchers = append(p.watchers, c)
	}
	return p
}

func (p *infoPlay) note(format string, args ...any) {
	p.script = append(p.script, fmt.Sprintf(format, args...))
}

func (p *infoPlay) play(acts int) {
	for range acts {
		p.act()
		p.compare(p.watchers...)
		if p.IntN(10) == 0 {
			newcomer := p.w.open()
			for _, room := range infoRooms {
				newcomer.subscribe(room, "visitor-2")
			}
			p.compare(newcomer)
			newcomer.leave()
		}
	}
}

func (p *infoPlay) compare(by ...*client) {
	t := p.w.t
	for _, c := range by {
		for _, room := range infoRooms {
			for _, id := range c.ids(room) {
				if id != "eve" {
					require.Equal(t, p.model.shown(id, room), c.info(room, id)["name"], "%s in %s after\n%s", id, room, strings.Join(p.script, "\n"))
				}
			}
			for _, s := range p.sockets {
				if len(s.channels) > 0 || s.signedIn {
					require.Contains(t, c.ids(room), s.user)
				}
			}
		}
	}
}

func (p *infoPlay) act() {
	info := []string{``, `{}`, `"text"`, `{"name":"One"}`, `{"name":"Two","desk":"4.17"}`, `{"name":"Three","status":"mine"}`}[p.IntN(6)]
	room := infoRooms[p.IntN(len(infoRooms))]
	if n := p.IntN(10); n < 2 && len(p.sockets) < 8 || len(p.sockets) == 0 {
		s := &infoSocket{client: p.w.open(), user: []string{"ann", "bob", "7"}[p.IntN(3)]}
		p.sockets = append(p.sockets, s)
		p.note("%s opens a socket", s.user)
		return
	}
	i := p.IntN(len(p.sockets))
	s := p.sockets[i]
	on := slices.Contains(s.channels, room)
	switch n := p.IntN(12); {
	case n < 5 && !on:
		p.note("socket %d of %s subscribes to %s with %s", i, s.user, room, info)
		s.as(s.user, room, info)
		s.channels = append(s.channels, room)
		p.model.enter(s.user, room, info)
	case n < 8 && on:
		p.note("socket %d of %s leaves %s", i, s.user, room)
		s.send("pusher:unsubscribe", "", map[string]string{"channel": room})
		s.channels = slices.DeleteFunc(s.channels, func(c string) bool { return c == room })
		p.model.leave(s.user, room)
	case n < 9 && !s.signedIn:
		p.note("socket %d of %s signs in with %s", i, s.user, info)
		data := encode(map[string]any{"id": s.user, "user_info": json.RawMessage(orNull(info))})
		s.send("pusher:signin", "", signIn(s.client, data))
		synctest.Wait()
		s.signedIn = true
		p.model.enter(s.user, "", info)
		p.change(s.user) // which shows it where nothing else was signed
	case n < 10:
		p.note("socket %d of %s closes", i, s.user)
		for _, room := range s.channels {
			p.model.leave(s.user, room)
		}
		if s.signedIn {
			p.model.leave(s.user, "")
		}
		s.leave()
		p.sockets = slices.Delete(p.sockets, i, i+1)
	case n < 11:
		p.change(s.user)
	default:
		d := time.Duration(p.IntN(8)) * time.Second
		p.note("%v later", d)
		p.w.pass(d)
	}
}

// change changes a status, so that all are sent the member again.
func (p *infoPlay) change(user string) {
	p.changes++
	status := []string{"busy", "away"}[p.changes%2]
	if p.statuses[user] == status {
		status = "available"
	}
	p.statuses[user] = status
	p.note("%s is %s", user, status)
	p.w.pass(7 * time.Second) // which the limit of claims wants
	p.w.claim(user, status)
	synctest.Wait()
}

func orNull(info string) string {
	if info == "" {
		return "null"
	}
	return info
}

func TestInfosOfUsersAreBounded(t *testing.T) {
	inWorld(t, func(c *conf) { c.pusher.MaxUsers = 2 }, func(w *world) {
		for _, id := range []string{"a", "b", "c"} {
			w.grant(id, "sales")
		}
		eve := w.enter("visitor-1", "presence-sales")
		a, b := w.enter("a", "presence-sales"), w.enter("b", "presence-sales")
		c := w.enter("c", "presence-sales")
		require.Equal(t, "The a", eve.info("presence-sales", "a")["name"])
		require.Equal(t, "The b", eve.info("presence-sales", "b")["name"])
		require.NotContains(t, eve.info("presence-sales", "c"), "name", "those in use stay")
		c.leave()
		a.leave()
		w.pass(time.Minute)
		w.enter("c", "presence-sales")
		require.Equal(t, "The c", eve.info("presence-sales", "c")["name"], "in the place of one that has left")
		require.Equal(t, "The b", eve.info("presence-sales", "b")["name"])
		b.leave()
	})
}
