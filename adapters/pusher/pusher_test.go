package pusher_test

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	gobwas "github.com/gobwas/ws"
	"github.com/stretchr/testify/require"

	"github.com/presence-go/presence"
	"github.com/presence-go/presence/adapters/pusher"
)

// app is the app of the tests, with the credentials of Pusher's documentation.
var app = pusher.App{ID: "3", Key: "278d425bdf160c739803", Secret: "7ad3773142a6692b25b8"}

// world is a tracker with a handler before it, in a bubble of its own time and
// network. Ann and bob are granted sales.
type world struct {
	t       *testing.T
	tracker *presence.Tracker
	handler *pusher.Handler
	app     pusher.App
	net     *pipes
}

// conf is what a test sets up differently.
type conf struct {
	tracker presence.Options
	pusher  pusher.Options
}

// inWorld runs a test in a world.
func inWorld(t *testing.T, change func(*conf), test func(*world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		c := conf{pusher: pusher.Options{Apps: []pusher.App{app}}}
		if change != nil {
			change(&c)
		}
		w := &world{t: t, app: c.pusher.Apps[0], net: newPipes()}
		var err error
		w.tracker, err = presence.New(&c.tracker)
		require.NoError(t, err)
		ctx, cancel := context.WithCancel(context.Background())
		running := make(chan error, 1)
		go func() { running <- w.tracker.Run(ctx) }()
		w.handler, err = pusher.New(w.tracker, &c.pusher)
		require.NoError(t, err)
		server := &http.Server{Handler: w.handler}
		go server.Serve(w.net)
		t.Cleanup(func() {
			w.handler.Close()
			server.Close()
			cancel()
			<-running
			w.tracker.Close()
			time.Sleep(time.Second) // which the HTTP server gives a client that it hung up on
		})
		for _, id := range []string{"ann", "bob"} {
			w.grant(id, "sales")
		}
		test(w)
	})
}

func (w *world) grant(subject, channel string) {
	w.t.Helper()
	require.NoError(w.t, w.tracker.AddMember(w.t.Context(), presence.ChannelID(channel), presence.ID(subject)))
}

// claim has a person choose a status.
func (w *world) claim(subject, status string) {
	w.t.Helper()
	_, err := w.tracker.SetClaim(w.t.Context(), presence.Agent(presence.ID(subject)), presence.ID(subject), presence.Claim{Status: status})
	require.NoError(w.t, err)
}

// pass lets time go by and everything that follows happen.
func (w *world) pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// pipes is a network in memory.
type pipes struct {
	accepted chan net.Conn
	closed   chan struct{}
	once     sync.Once
	wrote    func([]byte) // called when a client has what the server wrote; may be nil
}

// heeded is a connection of the server that reports what the client has read.
type heeded struct {
	net.Conn
	of *pipes
}

func (c heeded) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	if f := c.of.wrote; f != nil && err == nil {
		f(b)
	}
	return n, err
}

func newPipes() *pipes { return &pipes{accepted: make(chan net.Conn), closed: make(chan struct{})} }

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.accepted:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	p.once.Do(func() { close(p.closed) })
	return nil
}

func (p *pipes) Addr() net.Addr { return &net.TCPAddr{} }

func (p *pipes) dial(context.Context, string, string) (net.Conn, error) {
	ours, theirs := net.Pipe()
	select {
	case p.accepted <- heeded{theirs, p}:
		return ours, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

// message is a message of the server.
type message struct {
	Event   string          `json:"event"`
	Channel string          `json:"channel"`
	Data    json.RawMessage `json:"data"`
	UserID  string          `json:"user_id"`
}

// data reads the data of a message, which is the text of what is wanted.
func (m message) data(t *testing.T, v any) {
	t.Helper()
	var inner string
	if json.Unmarshal(m.Data, &inner) != nil {
		inner = string(m.Data)
	}
	require.NoError(t, json.Unmarshal([]byte(inner), v), inner)
}

// client is a small Pusher client. It keeps its members as pusher-js does.
type client struct {
	t    *testing.T
	w    *world
	conn net.Conn
	id   string
	mute bool // it does not answer pings

	mu      sync.Mutex
	got     []message
	raw     []string
	members map[string]map[string]json.RawMessage // by channel and user
	added   int                                   // members that were not there before
	removed int                                   // that were
	code    int                                   // of the close frame
	ended   bool
	held    chan struct{} // while it does not read
}

// dial opens a socket.
func (w *world) dial(path string, header ...string) *client {
	w.t.Helper()
	h := http.Header{}
	for i := 0; i+1 < len(header); i += 2 {
		h.Set(header[i], header[i+1])
	}
	d := gobwas.Dialer{NetDial: w.net.dial, Header: gobwas.HandshakeHeaderHTTP(h)}
	conn, rest, _, err := d.Dial(w.t.Context(), "ws://host"+path)
	require.NoError(w.t, err)
	c := &client{t: w.t, w: w, conn: conn, members: make(map[string]map[string]json.RawMessage)}
	in := io.Reader(conn)
	if rest != nil {
		in = rest
	}
	w.t.Cleanup(func() {
		conn.Close()
		c.resume()
	})
	go c.read(in)
	return c
}

// open opens a socket of the app.
func (w *world) open() *client {
	w.t.Helper()
	c := w.dial("/app/" + w.app.Key + "?protocol=7&client=js&version=8.6.0&flash=false")
	got := c.take()
	require.Len(w.t, got, 1)
	require.Equal(w.t, "pusher:connection_established", got[0].Event)
	var data struct {
		SocketID        string `json:"socket_id"`
		ActivityTimeout int    `json:"activity_timeout"`
	}
	got[0].data(w.t, &data)
	require.Regexp(w.t, `^\d+\.\d+$`, data.SocketID)
	require.Positive(w.t, data.ActivityTimeout)
	c.id = data.SocketID
	return c
}

func (c *client) read(in io.Reader) {
	for {
		c.mu.Lock()
		held := c.held
		c.mu.Unlock()
		if held != nil {
			<-held
		}
		h, err := gobwas.ReadHeader(in)
		payload := make([]byte, h.Length)
		if err == nil {
			_, err = io.ReadFull(in, payload)
		}
		c.mu.Lock()
		switch {
		case err != nil:
			c.ended = true
		case h.OpCode == gobwas.OpText:
			var m message
			if json.Unmarshal(payload, &m) != nil {
				m.Event = "not JSON: " + string(payload)
			}
			c.got = append(c.got, m)
			c.raw = append(c.raw, string(payload))
			c.apply(m)
		case h.OpCode == gobwas.OpClose:
			code, _ := gobwas.ParseCloseFrameData(payload)
			c.code = int(code)
		}
		answer := !c.mute && len(c.got) > 0 && c.got[len(c.got)-1].Event == "pusher:ping"
		c.mu.Unlock()
		if err != nil {
			return
		}
		if h.OpCode == gobwas.OpText && answer {
			_ = gobwas.WriteFrame(c.conn, gobwas.MaskFrame(gobwas.NewTextFrame([]byte(`{"event":"pusher:pong","data":{}}`))))
		}
		if h.OpCode == gobwas.OpClose {
			_ = gobwas.WriteFrame(c.conn, gobwas.MaskFrame(gobwas.NewCloseFrame(payload)))
			c.conn.Close()
		}
	}
}

// pause stops reading after the next frame, until resume.
func (c *client) pause() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.held = make(chan struct{})
}

func (c *client) resume() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.held != nil {
		close(c.held)
		c.held = nil
	}
}

// apply keeps the map of members.
func (c *client) apply(m message) {
	var data struct {
		Presence struct {
			Hash map[string]json.RawMessage `json:"hash"`
		} `json:"presence"`
		UserID   string          `json:"user_id"`
		UserInfo json.RawMessage `json:"user_info"`
	}
	var inner string
	_ = json.Unmarshal(m.Data, &inner)
	_ = json.Unmarshal([]byte(inner), &data)
	members := c.members[m.Channel]
	_, there := members[data.UserID]
	switch m.Event {
	case "pusher_internal:subscription_succeeded":
		c.members[m.Channel] = data.Presence.Hash
	case "pusher_internal:member_added":
		members[data.UserID] = data.UserInfo
		if !there {
			c.added++
		}
	case "pusher_internal:member_removed":
		delete(members, data.UserID)
		if there {
			c.removed++
		}
	}
}

// take returns the messages since the last call.
func (c *client) take() []message {
	synctest.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	got := c.got
	c.got = nil
	return got
}

// events returns the events since the last call, with their channels.
func (c *client) events() []string {
	list := []string{}
	for _, m := range c.take() {
		list = append(list, strings.TrimSpace(m.Event+" "+m.Channel))
	}
	return list
}

// ids returns the members of a channel as the client has them.
func (c *client) ids(channel string) []string {
	synctest.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Sorted(maps.Keys(c.members[channel]))
}

// info returns what the client knows of a member.
func (c *client) info(channel, id string) map[string]any {
	c.t.Helper()
	synctest.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	var info map[string]any
	require.Contains(c.t, c.members[channel], id)
	require.NoError(c.t, json.Unmarshal(c.members[channel][id], &info))
	return info
}

// closed returns the code with which the server has closed.
func (c *client) closed() int {
	c.t.Helper()
	synctest.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	require.True(c.t, c.ended, "the socket is open")
	return c.code
}

func (c *client) open() bool {
	synctest.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.ended
}

func (c *client) write(f gobwas.Frame) error {
	return gobwas.WriteFrame(c.conn, gobwas.MaskFrame(f))
}

func (c *client) say(text string) {
	c.t.Helper()
	require.NoError(c.t, c.write(gobwas.NewTextFrame([]byte(text))))
}

// sign signs a text with the app's secret.
func (w *world) sign(text string) string {
	h := hmac.New(sha256.New, []byte(w.app.Secret))
	h.Write([]byte(text))
	return w.app.Key + ":" + hex.EncodeToString(h.Sum(nil))
}

func encode(v any) string {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(text)
}

// send sends an event.
func (c *client) send(event, channel string, data any) {
	c.t.Helper()
	m := map[string]any{"event": event, "data": data}
	if channel != "" {
		m["channel"] = channel
	}
	c.say(encode(m))
}

// subscribe subscribes to a channel, as a user if that is not empty.
func (c *client) subscribe(channel, user string) {
	c.t.Helper()
	data := map[string]any{"channel": channel}
	if strings.HasPrefix(channel, "private-") || strings.HasPrefix(channel, "presence-") {
		var u *pusher.User
		if user != "" {
			u = &pusher.User{ID: user, Info: json.RawMessage(fmt.Sprintf(`{"name":"The %s"}`, user))}
		}
		auth, err := c.w.app.Authorize(c.id, channel, u)
		require.NoError(c.t, err)
		data["auth"] = auth.Auth
		if auth.ChannelData != "" {
			data["channel_data"] = auth.ChannelData
		}
	}
	c.send("pusher:subscribe", "", data)
}

// enter opens a socket and subscribes to a channel as a user.
func (w *world) enter(user, channel string) *client {
	w.t.Helper()
	c := w.open()
	c.subscribe(channel, user)
	require.Equal(w.t, []string{"pusher_internal:subscription_succeeded " + channel}, c.events())
	return c
}

// leave closes as a page does that is left.
func (c *client) leave() {
	c.t.Helper()
	require.NoError(c.t, c.write(gobwas.NewCloseFrame(gobwas.NewCloseFrameBody(gobwas.StatusGoingAway, ""))))
	synctest.Wait()
}

// lose breaks the connection.
func (c *client) lose() {
	c.conn.Close()
	synctest.Wait()
}

// one requires that a list has one element, and returns it.
func one[T any](t *testing.T, list []T) T {
	t.Helper()
	require.Len(t, list, 1)
	return list[0]
}

func TestTwoDevicesOfOneUserAreOneMember(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		bob := w.enter("bob", "presence-sales")
		require.Equal(t, []string{"bob"}, bob.ids("presence-sales"))
		require.Equal(t, "The bob", bob.info("presence-sales", "bob")["name"])

		laptop := w.enter("ann", "presence-sales")
		require.Equal(t, []string{"ann", "bob"}, laptop.ids("presence-sales"))
		require.Equal(t, []string{"pusher_internal:member_added presence-sales"}, bob.events())
		require.Equal(t, map[string]any{"id": "ann", "name": "The ann", "status": "available", "class": "available", "label": "Available", "color": "#2e9e5b", "since": "2000-01-01T00:00:00Z"}, bob.info("presence-sales", "ann"))

		phone := w.enter("ann", "presence-sales")
		require.Empty(t, bob.events(), "a second device is no second member")
		laptop.leave()
		w.pass(time.Minute)
		require.NotContains(t, bob.events(), "pusher_internal:member_removed presence-sales")
		phone.leave()
		w.pass(4 * time.Second)
		require.NotContains(t, bob.events(), "pusher_internal:member_removed presence-sales", "a reload has five seconds")
		w.pass(time.Second)
		require.Equal(t, []string{"pusher_internal:member_removed presence-sales"}, bob.events())
		require.Equal(t, []string{"bob"}, bob.ids("presence-sales"))
	})
}

func TestAStatusChangesInPlace(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		bob, ann := w.enter("bob", "presence-sales"), w.enter("ann", "presence-sales")
		bob.take()
		added := bob.added
		w.claim("ann", "busy")
		require.Equal(t, []string{"pusher_internal:member_added presence-sales"}, bob.events())
		info := bob.info("presence-sales", "ann")
		require.Equal(t, "busy", info["status"])
		require.Equal(t, "The ann", info["name"])
		require.Equal(t, added, bob.added, "she was there before")
		require.Zero(t, bob.removed)
		require.Equal(t, "busy", ann.info("presence-sales", "ann")["status"])
	})
}

func TestHowASocketEndsDecidesTheGrace(t *testing.T) {
	for name, c := range map[string]struct {
		end   func(*world, *client)
		grace time.Duration
	}{
		"a page is left": {func(_ *world, c *client) { c.leave() }, 5 * time.Second},
		"the last unsubscribes": {func(_ *world, c *client) {
			c.send("pusher:unsubscribe", "", map[string]string{"channel": "presence-sales"})
		}, 5 * time.Second},
		"the network breaks": {func(_ *world, c *client) { c.lose() }, 15 * time.Second},
		"the page freezes": {func(w *world, c *client) {
			c.mu.Lock()
			c.mute = true
			c.mu.Unlock()
			w.pass(24*time.Second + 30*time.Second)
			require.Equal(w.t, 4201, c.closed())
		}, 15 * time.Second},
		"the user is terminated": {func(w *world, c *client) {
			require.NoError(w.t, w.handler.Terminate(w.app.ID, "ann"))
			require.Equal(w.t, 4009, c.closed())
		}, 0},
		"the server shuts down": {func(w *world, c *client) {
			require.NoError(w.t, w.handler.Close())
			require.Equal(w.t, 4200, c.closed())
		}, time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, nil, func(w *world) {
				ann := w.enter("ann", "presence-sales")
				w.pass(time.Second)
				c.end(w, ann)
				seen := func() presence.Class {
					synctest.Wait()
					view, err := w.tracker.GetAs(w.t.Context(), presence.AudienceTeam, presence.ID("ann"))
					require.NoError(t, err)
					return view.Class
				}
				if c.grace > 0 {
					require.Equal(t, presence.ClassAvailable, seen())
					w.pass(c.grace - time.Nanosecond)
					require.Equal(t, presence.ClassAvailable, seen())
					w.pass(time.Nanosecond)
				}
				require.Equal(t, presence.ClassOffline, seen())
			})
		})
	}
}

func TestWhoComesBackInTimeNeverLeft(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		bob, ann := w.enter("bob", "presence-sales"), w.enter("ann", "presence-sales")
		ann.lose()
		w.pass(14 * time.Second)
		ann = w.enter("ann", "presence-sales")
		w.pass(time.Minute)
		require.Zero(t, bob.removed)
		require.Equal(t, 1, bob.added)
		require.Equal(t, []string{"ann", "bob"}, ann.ids("presence-sales"))
	})
}

func TestAQuietPageIsAskedAndItsAnswerIsAHeartbeat(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		ann := w.enter("ann", "presence-sales")
		w.pass(25*time.Second - time.Nanosecond)
		require.Empty(t, ann.events())
		w.pass(time.Nanosecond)
		require.Equal(t, []string{"pusher:ping"}, ann.events())
		w.pass(time.Hour)
		require.True(t, ann.open())
		view, err := w.tracker.GetAs(w.t.Context(), presence.AudienceTeam, presence.ID("ann"))
		require.NoError(t, err)
		require.Equal(t, "away", view.Status, "she is there and has done nothing")
		ann.take()
		ann.send("pusher:ping", "", map[string]any{})
		require.Equal(t, []string{"pusher:pong"}, ann.events())
		w.pass(25*time.Second - time.Nanosecond)
		require.Empty(t, ann.events(), "who speaks is not asked")

		// A browser answers the socket's own pings for a page that is frozen.
		ann.mu.Lock()
		ann.mute = true
		ann.mu.Unlock()
		for range 5 {
			require.NoError(t, ann.write(gobwas.NewPingFrame([]byte("x"))))
			w.pass(5 * time.Second)
		}
		require.True(t, ann.open())
		w.pass(5*time.Second + time.Nanosecond)
		require.Equal(t, 4201, ann.closed())
	})
}

func TestVisitorsSeeAndAreNotSeen(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		ann := w.enter("ann", "presence-sales")
		visitor := w.enter("visitor-7", "presence-sales")
		other := w.enter("visitor-8", "presence-sales")
		require.Equal(t, []string{"ann"}, visitor.ids("presence-sales"))
		require.Equal(t, []string{"ann"}, other.ids("presence-sales"))
		require.Empty(t, ann.events())
		require.NotContains(t, visitor.info("presence-sales", "ann"), "since", "visitors are not told")
		require.Contains(t, ann.info("presence-sales", "ann"), "since")
		w.claim("ann", "busy")
		require.Equal(t, "busy", visitor.info("presence-sales", "ann")["status"])

		visitor.send("client-typing", "presence-sales", map[string]any{})
		require.Equal(t, 4301, one(t, visitor.take()[1:]).code(t))
		require.Equal(t, []string{"pusher_internal:member_added presence-sales"}, ann.events())
		visitor.leave()
		w.pass(time.Minute)
		require.NotContains(t, ann.events(), "pusher_internal:member_removed presence-sales")
	})
}

// code returns the code of an error.
func (m message) code(t *testing.T) int {
	t.Helper()
	require.Equal(t, "pusher:error", m.Event, string(m.Data))
	var data struct {
		Code    int    `json:"code"`
		Message string `json:"message"`
	}
	m.data(t, &data)
	require.NotEmpty(t, data.Message)
	return data.Code
}

// status returns the status of a refused subscription.
func (m message) status(t *testing.T) int {
	t.Helper()
	require.Equal(t, "pusher:subscription_error", m.Event, string(m.Data))
	var data struct {
		Type   string `json:"type"`
		Error  string `json:"error"`
		Status int    `json:"status"`
	}
	m.data(t, &data)
	require.NotEmpty(t, data.Type)
	require.NotEmpty(t, data.Error)
	return data.Status
}

func TestIdentifySaysHowAUserTakesPart(t *testing.T) {
	as := func(role presence.Role) presence.Identity {
		return presence.Identity{Actor: presence.Actor{Role: role}}
	}
	roles := map[string]pusher.Identity{
		"sam":   {Identity: presence.Identity{Actor: presence.Actor{Subject: presence.ID("sam"), Role: presence.RoleSupervisor}}, Device: "mobile"},
		"clerk": {Identity: as(presence.RoleVisitor)},
		"ann":   {Identity: as(presence.RoleAgent), Audience: presence.AudienceSelf},
		"bob":   {Identity: as(presence.RoleVisitor), Audience: presence.AudienceAdmin},
		"dan":   {Identity: presence.Identity{Actor: presence.Agent(presence.ID("ann"))}},
	}
	inWorld(t, func(c *conf) {
		c.pusher.Identify = func(u pusher.User) (pusher.Identity, error) {
			if who, known := roles[u.ID]; known {
				return who, nil
			}
			return pusher.Identity{}, map[string]error{
				"mallory": fmt.Errorf("%w: %s is nobody", presence.ErrNotAllowed, u.ID), "eve": errors.New("the table has no such row"), "sick": presence.ErrUnavailable,
			}[u.ID]
		}
	}, func(w *world) {
		sam, ann := w.enter("sam", "presence-sales"), w.enter("ann", "presence-sales")
		require.Equal(t, []string{"ann"}, sam.ids("presence-sales"), "a supervisor without a grant is no member")
		require.Equal(t, "default", ann.info("presence-sales", "ann")["cause"], "she sees herself in full")
		state, err := w.tracker.State(w.t.Context(), presence.ID("sam"))
		require.NoError(t, err)
		require.Equal(t, "mobile", one(t, state.Conns).Device)
		_, err = w.tracker.State(w.t.Context(), presence.ID("clerk"))
		require.ErrorIs(t, err, presence.ErrUnknown)

		for user, status := range map[string]int{"mallory": 403, "eve": 401, "sick": 503, "bob": 403, "clerk": 0, "dan": 500} {
			c := w.open()
			c.subscribe("presence-sales", user)
			got := one(t, c.take())
			if status == 0 {
				require.Equal(t, "pusher_internal:subscription_succeeded", got.Event)
			} else {
				require.Equal(t, status, got.status(t), user)
			}
		}
	})
}

func TestMembersAreAsThePolicySays(t *testing.T) {
	away := presence.DefaultPolicy()
	away.Name, away.Disconnected = "away", "away"
	for name, c := range map[string]struct {
		change func(*conf)
		away   bool // who is not connected is a member, away
		roster bool // who is not connected is a member, offline
	}{
		"offline": {change: func(*conf) {}},
		"away":    {change: func(c *conf) { c.tracker.Policy = &away }, away: true},
		"roster":  {change: func(c *conf) { c.pusher.Roster = true }, roster: true},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, c.change, func(w *world) {
				visitor, ann := w.enter("visitor-1", "presence-sales"), w.enter("ann", "presence-sales")
				everybody := []string{"ann", "bob"}
				if !c.away && !c.roster {
					everybody = []string{"ann"}
				}
				require.Equal(t, everybody, ann.ids("presence-sales"))
				require.Equal(t, everybody, visitor.ids("presence-sales"))
				visitor.take()
				ann.leave()
				w.pass(5 * time.Second)
				if !c.away && !c.roster {
					require.Equal(t, []string{"pusher_internal:member_removed presence-sales"}, visitor.events())
					return
				}
				require.Equal(t, []string{"pusher_internal:member_added presence-sales"}, visitor.events())
				info := visitor.info("presence-sales", "ann")
				require.Equal(t, map[bool]string{true: "away", false: "offline"}[c.away], info["status"])
				require.Equal(t, "The ann", info["name"])
				require.Zero(t, visitor.removed)
				require.NoError(t, w.tracker.RemoveMember(w.t.Context(), presence.ChannelID("sales"), presence.ID("ann")))
				require.Equal(t, []string{"pusher_internal:member_removed presence-sales"}, visitor.events())
			})
		})
	}
}

func TestUserInfoCanComeFromTheHost(t *testing.T) {
	inWorld(t, func(c *conf) {
		c.pusher.Roster = true
		c.pusher.UserInfo = func(r presence.Ref) json.RawMessage {
			return json.RawMessage(map[string]string{"ann": `{"name":"Ann","status":"queen","x":{"y":[1]}}`, "bob": `[broken`}[r.ID])
		}
	}, func(w *world) {
		visitor := w.enter("visitor-1", "presence-sales")
		w.enter("bob", "presence-sales")
		require.Equal(t, map[string]any{"id": "ann", "name": "Ann", "x": map[string]any{"y": []any{1.0}}, "status": "offline", "class": "offline", "label": "Offline", "color": "#8a8f98"}, visitor.info("presence-sales", "ann"))
		require.NotContains(t, visitor.info("presence-sales", "bob"), "name", "what was signed is not told then")
	})
}

func TestWhoLosesAccessSeesNothingAnyMore(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		w.grant("ann", "vip")
		ann, bob := w.enter("ann", "presence-sales"), w.enter("bob", "presence-sales")
		ann.subscribe("presence-vip", "ann")
		ann.take()
		require.NoError(t, w.tracker.RemoveMember(w.t.Context(), presence.ChannelID("sales"), presence.ID("ann")))
		got := ann.take()
		require.Len(t, got, 2)
		require.Equal(t, "pusher_internal:subscription_succeeded", got[0].Event)
		require.Equal(t, 403, got[1].status(t))
		require.Empty(t, ann.ids("presence-sales"))
		require.Equal(t, []string{"bob"}, bob.ids("presence-sales"))
		w.claim("bob", "busy")
		require.Empty(t, ann.events())
		require.Equal(t, []string{"ann"}, ann.ids("presence-vip"), "she is still there, elsewhere")

		ann.subscribe("presence-sales", "ann")
		require.Equal(t, 403, one(t, ann.take()).status(t))
		w.grant("ann", "sales")
		bob.take()
		ann.subscribe("presence-sales", "ann")
		require.Equal(t, []string{"pusher_internal:subscription_succeeded presence-sales"}, ann.events())
	})
}

// asks returns the data of a subscription to a channel. An app signs it for a user,
// and for the channel signedFor.
func asks(a pusher.App, channel string, u *pusher.User, signedFor string) func(*client) map[string]any {
	return func(c *client) map[string]any {
		signed, err := a.Authorize(c.id, signedFor, u)
		if err != nil {
			panic(err)
		}
		data := map[string]any{"channel": channel, "auth": signed.Auth}
		if signed.ChannelData != "" {
			data["channel_data"] = signed.ChannelData
		}
		return data
	}
}

// subscriptionCases are subscriptions with the status of their refusal, 0 for none.
func subscriptionCases() map[string]struct {
	data   func(*client) map[string]any
	status int
} {
	ann := &pusher.User{ID: "ann"}
	other, foreign := pusher.App{Key: app.Key, Secret: "other"}, pusher.App{Key: "other", Secret: app.Secret}
	unsigned := func(data map[string]any) func(*client) map[string]any {
		return func(*client) map[string]any { return data }
	}
	long := "presence-" + strings.Repeat("x", 129)
	return map[string]struct {
		data   func(*client) map[string]any
		status int
	}{
		"public":                            {unsigned(map[string]any{"channel": "news", "auth": ""}), 0},
		"a user's":                          {unsigned(map[string]any{"channel": "#server-to-user-ann"}), 403},
		"no name":                           {unsigned(map[string]any{}), 400},
		"bad name":                          {unsigned(map[string]any{"channel": "a b"}), 400},
		"long name":                         {unsigned(map[string]any{"channel": strings.Repeat("x", 201)}), 400},
		"private":                           {asks(app, "private-a", nil, "private-a"), 0},
		"private, with data that is signed": {asks(app, "private-a", ann, "private-a"), 0},
		"private, with data that is not": {func(c *client) map[string]any {
			data := asks(app, "private-a", nil, "private-a")(c)
			data["channel_data"] = "{}"
			return data
		}, 401},
		"private, without auth":       {unsigned(map[string]any{"channel": "private-a"}), 401},
		"private, of another channel": {asks(app, "private-a", nil, "private-b"), 401},
		"private, of another socket": {func(*client) map[string]any {
			return asks(app, "private-a", nil, "private-a")(&client{id: "1.1"})
		}, 401},
		"private, with another secret":                {asks(other, "private-a", nil, "private-a"), 401},
		"private, with another key":                   {asks(foreign, "private-a", nil, "private-a"), 401},
		"encrypted":                                   {asks(app, "private-encrypted-a", nil, "private-encrypted-a"), 0},
		"presence, without a user":                    {asks(app, "presence-sales", nil, "presence-sales"), 401},
		"presence, without a grant":                   {asks(app, "presence-vip", ann, "presence-vip"), 403},
		"presence, of a name too long":                {asks(app, long, ann, long), 400},
		"presence, of an id that clients cannot hold": {asks(app, "presence-sales", &pusher.User{ID: "__proto__"}, "presence-sales"), 400},
		"presence, of an id too long":                 {asks(app, "presence-sales", &pusher.User{ID: strings.Repeat("x", 129)}, "presence-sales"), 400},
	}
}

func TestSubscriptions(t *testing.T) {
	for name, c := range subscriptionCases() {
		t.Run(name, func(t *testing.T) {
			inWorld(t, nil, func(w *world) {
				s := w.open()
				s.send("pusher:subscribe", "", c.data(s))
				got := one(t, s.take())
				if c.status == 0 {
					require.Equal(t, "pusher_internal:subscription_succeeded", got.Event, string(got.Data))
				} else {
					require.Equal(t, c.status, got.status(t), string(got.Data))
				}
				require.True(t, s.open())
				if state, err := w.tracker.State(w.t.Context(), presence.ID("ann")); err == nil {
					require.Empty(t, state.Conns, "a refused user is not connected")
				}
			})
		})
	}
}

func TestASubscriptionIsMadeOnce(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		c := w.open()
		c.subscribe("news", "")
		c.take()
		c.subscribe("news", "")
		require.Equal(t, 400, one(t, c.take()).status(t))
		c.send("pusher:unsubscribe", "", map[string]string{"channel": "news"})
		c.send("pusher:unsubscribe", "", map[string]string{"channel": "news"})
		require.Empty(t, c.take())
		c.send("pusher:subscribe", "", encode(map[string]string{"channel": "news"})) // data as text
		require.Equal(t, []string{"pusher_internal:subscription_succeeded news"}, c.events())
	})
}

func TestUserIDsMayBeNumbers(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		w.grant("10", "foobar")
		c := w.open()
		data := `{"user_id":10,"user_info":{"id":10,"name":"Mr. Channels"}}`
		c.send("pusher:subscribe", "", map[string]string{"channel": "presence-foobar", "channel_data": data, "auth": w.sign(c.id + ":presence-foobar:" + data)})
		got := one(t, c.take())
		var answer struct {
			Presence struct {
				Count int
				IDs   []int
				Hash  map[string]struct {
					ID           int
					Name, Status string
				}
			}
		}
		got.data(t, &answer)
		require.Equal(t, 1, answer.Presence.Count)
		require.Equal(t, []int{10}, answer.Presence.IDs)
		require.Equal(t, 10, answer.Presence.Hash["10"].ID)
		require.Equal(t, "Mr. Channels", answer.Presence.Hash["10"].Name)
		require.Equal(t, "available", answer.Presence.Hash["10"].Status)
	})
}

func TestOneSocketMayActAsSeveralUsers(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		w.grant("bob", "vip")
		c := w.enter("ann", "presence-sales")
		c.subscribe("presence-vip", "bob")
		require.Equal(t, []string{"ann", "bob"}, c.ids("presence-sales"))
		c.send("pusher:unsubscribe", "", map[string]string{"channel": "presence-vip"})
		w.pass(5 * time.Second)
		require.Equal(t, []string{"ann"}, c.ids("presence-sales"))
		c.leave()
		w.pass(5 * time.Second)
		views, _, err := w.tracker.ListAs(w.t.Context(), presence.AudienceTeam, presence.ChannelID("sales"), nil)
		require.NoError(t, err)
		for _, v := range views {
			require.Equal(t, presence.ClassOffline, v.Class)
		}
	})
}

func TestAConnectionTheTrackerGaveUpIsMadeAgain(t *testing.T) {
	inWorld(t, func(c *conf) { c.pusher.PongTimeout = time.Hour }, func(w *world) {
		bob, ann := w.enter("bob", "presence-sales"), w.enter("ann", "presence-sales")
		ann.mu.Lock()
		ann.mute = true
		ann.mu.Unlock()
		w.pass(5 * time.Minute)
		require.Equal(t, []string{"bob"}, bob.ids("presence-sales"))
		ann.send("pusher:pong", "", map[string]any{})
		require.Equal(t, []string{"ann", "bob"}, bob.ids("presence-sales"))
		require.Equal(t, 1, bob.removed)
		ann.leave()
		w.pass(5 * time.Second)
		require.Equal(t, []string{"bob"}, bob.ids("presence-sales"))
	})
}
