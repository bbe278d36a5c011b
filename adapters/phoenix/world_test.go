package phoenix_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	gobwas "github.com/gobwas/ws"
	"github.com/stretchr/testify/require"

	"github.com/presence-go/presence"
	"github.com/presence-go/presence/adapters/phoenix"
)

// world is a tracker with a handler before it, in a bubble: its network is made
// of pipes, which hold nothing that has not been read. Ann and bob are in
// channel sales.
type world struct {
	t       *testing.T
	tracker *presence.Tracker
	handler *phoenix.Handler
	vsn     string // of the clients
	dialled chan net.Conn
	closed  chan struct{}
}

// conf is what a test sets up differently.
type conf struct {
	tracker presence.Options
	phoenix phoenix.Options
}

// bubble runs a test in bubbles of its own, one for the clients of each
// serializer. Tests write and read messages as lists, and clients of 1.0.0 turn
// them into objects (fault 32).
func bubble(t *testing.T, change func(*conf), test func(t *testing.T, w *world)) {
	t.Helper()
	for _, vsn := range []string{"2.0.0", "1.0.0"} {
		bubbleOf(t, vsn, change, test)
	}
}

// bubbleOf runs a test for the clients of one serializer.
func bubbleOf(t *testing.T, vsn string, change func(*conf), test func(t *testing.T, w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { test(t, setup(t, vsn, change)) })
}

func setup(t *testing.T, vsn string, change func(*conf)) *world {
	t.Helper()
	w := &world{t: t, vsn: vsn, dialled: make(chan net.Conn), closed: make(chan struct{})}
	policy := presence.DefaultPolicy()
	policy.Views = map[presence.Audience][]string{
		presence.AudienceTeam:       {"since", "reason", "text", "devices"},
		presence.AudienceSupervisor: {"since", "setAt", "until", "cause", "masked", "devices"},
	}
	c := conf{tracker: presence.Options{Policy: &policy}, phoenix: phoenix.Options{Authenticate: authenticate}}
	if change != nil {
		change(&c)
	}
	var err error
	w.tracker, err = presence.New(&c.tracker)
	require.NoError(t, err)
	w.handler, err = phoenix.NewHandler(w.tracker, &c.phoenix)
	require.NoError(t, err)
	var running sync.WaitGroup
	ctx, cancel := context.WithCancel(t.Context())
	server := &http.Server{Handler: w.handler}
	running.Go(func() { _ = server.Serve(w) })
	running.Go(func() { _ = w.tracker.Run(ctx) })
	t.Cleanup(func() {
		_ = w.handler.Close()
		_ = server.Close()
		_ = w.tracker.Close()
		cancel()
		running.Wait()
		require.Zero(t, w.handler.Sockets())
	})
	for _, id := range []string{"ann", "bob"} {
		w.grant(id, "sales")
	}
	return w
}

// The network of a world.
func (w *world) Accept() (net.Conn, error) {
	select {
	case c := <-w.dialled:
		return c, nil
	case <-w.closed:
		return nil, net.ErrClosed
	}
}

func (w *world) Close() error {
	close(w.closed)
	return nil
}

func (w *world) Addr() net.Addr { return &net.UnixAddr{Name: "pipe", Net: "pipe"} }

func (w *world) connect(context.Context, string, string) (net.Conn, error) {
	mine, theirs := net.Pipe()
	w.dialled <- theirs
	return mine, nil
}

func (w *world) grant(id, channel string) {
	w.t.Helper()
	require.NoError(w.t, w.tracker.AddMember(w.t.Context(), presence.ChannelID(channel), presence.ID(id)))
}

// authenticate believes the token: a name, and after a colon a role.
func authenticate(c phoenix.Credentials) (presence.Identity, error) {
	switch c.Token {
	case "":
		return presence.Identity{}, errors.New("the table of tokens has no such row")
	case "banned":
		return presence.Identity{}, fmt.Errorf("%w: banned until Monday", presence.ErrNotAllowed)
	case "down":
		return presence.Identity{}, fmt.Errorf("%w: dial db-7: refused", presence.ErrUnavailable)
	}
	id, role := c.Token, presence.RoleAgent
	for _, r := range []presence.Role{presence.RoleVisitor, presence.RoleSupervisor, presence.RoleSystem} {
		if name, found := cutSuffix(id, ":"+string(r)); found {
			id, role = name, r
		}
	}
	return presence.Identity{Actor: presence.Actor{Subject: presence.Ref{Tenant: c.Params.Get("tenant"), ID: id}, Role: role}}, nil
}

func cutSuffix(s, suffix string) (string, bool) {
	if len(s) > len(suffix) && s[len(s)-len(suffix):] == suffix {
		return s[:len(s)-len(suffix)], true
	}
	return s, false
}

// frame is any message of the server.
type frame struct {
	joinRef, ref, topic, event string
	payload                    json.RawMessage
	raw                        string
}

// answer is the payload of a reply.
type answer struct {
	Status   string
	Response struct {
		Reason, Message, Key, Conn, ID, Status string
		Statuses                               []struct{ ID, Label, Class string }
	}
}

type metas []map[string]any

// members is what a client of Phoenix holds: what Presence.list lists, by key.
type members map[string]metas

// client is a client of Phoenix that keeps member lists as the npm package does.
type client struct {
	t    *testing.T
	conn net.Conn
	in   io.Reader
	refs int
	done chan struct{}

	objects bool          // as clients of 1.0.0
	quirk   bool          // as realtime-js, which forgets refs
	gate    chan struct{} // if not nil, one for every frame that may be read
	mu      sync.Mutex
	frames  []frame
	lists   map[string]members // by topic
	blinks  map[string]int     // by key, how often a member was gone in between
	code    gobwas.StatusCode
	reason  string
}

// dial opens a socket or returns the status with which it was refused.
func (w *world) dial(query string, header ...string) (c *client, status int, why string) {
	w.t.Helper()
	h := http.Header{}
	var protocols []string
	for _, value := range header[min(1, len(header)):] {
		if header[0] == "Sec-WebSocket-Protocol" {
			protocols = append(protocols, value)
		} else {
			h.Set(header[0], value)
		}
	}
	d := gobwas.Dialer{
		NetDial: w.connect, Header: gobwas.HandshakeHeaderHTTP(h), Protocols: protocols,
		OnStatusError: func(code int, _ []byte, r io.Reader) {
			status = code
			if response, err := http.ReadResponse(bufio.NewReader(r), nil); err == nil {
				body, _ := io.ReadAll(response.Body)
				why = string(body)
			}
		},
	}
	conn, in, _, err := d.Dial(w.t.Context(), "ws://app.example/socket/websocket?vsn="+w.vsn+"&"+query)
	if status != 0 {
		return nil, status, why
	}
	require.NoError(w.t, err)
	w.t.Cleanup(func() { conn.Close() })
	c = &client{t: w.t, conn: conn, in: conn, objects: w.vsn == "1.0.0", done: make(chan struct{}), lists: make(map[string]members), blinks: make(map[string]int)}
	if in != nil {
		c.in = in
	}
	return c, 0, ""
}

// open opens a socket and reads its messages.
func (w *world) open(query string) *client {
	w.t.Helper()
	c, status, why := w.dial(query)
	require.Zero(w.t, status, why)
	go c.read()
	return c
}

// slow opens a socket, joins sales and stops reading after the state. Closing
// the gate makes it read on.
func (w *world) slow(query string) *client {
	w.t.Helper()
	c, _, _ := w.dial(query)
	c.gate = make(chan struct{})
	go c.read()
	c.say(`["1","1","sales","phx_join",{}]`)
	for range 3 { // the reply, the state, the group
		c.gate <- struct{}{}
	}
	synctest.Wait()
	return c
}

// enter opens a socket and joins a topic.
func (w *world) enter(query, topic string) *client {
	w.t.Helper()
	c := w.open(query)
	a := c.join(topic, `{}`)
	require.Equal(w.t, "ok", a.Status, a.Response.Message)
	return c
}

func (c *client) read() {
	defer close(c.done)
	for {
		if c.gate != nil {
			<-c.gate
		}
		h, err := gobwas.ReadHeader(c.in)
		if err != nil {
			return
		}
		data := make([]byte, h.Length)
		if _, err := io.ReadFull(c.in, data); err != nil {
			return
		}
		c.mu.Lock()
		switch h.OpCode {
		case gobwas.OpText:
			c.take(data)
		case gobwas.OpClose:
			c.code, c.reason = gobwas.ParseCloseFrameData(data)
		case gobwas.OpPong:
			c.frames = append(c.frames, frame{event: "pong", raw: string(data)})
		}
		c.mu.Unlock()
		if h.OpCode == gobwas.OpClose {
			return
		}
	}
}

// take does with a message what the npm packages do.
func (c *client) take(data []byte) {
	if c.objects {
		data = toList(c.t, data)
	}
	f := frame{raw: string(data)}
	var joinRef, ref *string
	require.NoError(c.t, json.Unmarshal(data, &[]any{&joinRef, &ref, &f.topic, &f.event, &f.payload}), f.raw)
	if joinRef != nil {
		f.joinRef = *joinRef
	}
	if ref != nil {
		f.ref = *ref
	}
	c.frames = append(c.frames, f)
	before := slices.Collect(maps.Keys(c.lists[f.topic]))
	switch f.event {
	case "presence_state":
		var state map[string]struct{ Metas metas }
		require.NoError(c.t, json.Unmarshal(f.payload, &state), f.raw)
		list := make(members)
		for key, m := range state {
			list[key] = m.Metas
		}
		c.lists[f.topic] = list
	case "presence_diff":
		var diff struct {
			Joins, Leaves map[string]struct{ Metas metas }
		}
		require.NoError(c.t, json.Unmarshal(f.payload, &diff), f.raw)
		list := c.lists[f.topic]
		require.NotNil(c.t, list, "a diff before the state: %s", f.raw)
		for key, m := range diff.Joins {
			current := list[key]
			kept := slices.DeleteFunc(slices.Clone(current), m.Metas.has)
			list[key] = append(kept, m.Metas...)
			c.forget(current)
		}
		for key, m := range diff.Leaves {
			if list[key] = slices.DeleteFunc(list[key], m.Metas.has); len(list[key]) == 0 {
				delete(list, key)
			}
			c.forget(list[key])
		}
	default:
		return
	}
	for _, key := range before {
		if c.lists[f.topic][key] == nil {
			c.blinks[key]++
		}
	}
}

// forget changes a client's state as realtime-js does before it reports a
// change to the application.
func (c *client) forget(list metas) {
	for _, m := range list {
		if c.quirk {
			delete(m, "phx_ref")
		}
	}
}

// has reports whether an entry of the same ref is among them.
func (list metas) has(m map[string]any) bool {
	return slices.ContainsFunc(list, func(o map[string]any) bool { return o["phx_ref"] == m["phx_ref"] })
}

// list returns what a client holds of a topic, without refs.
func (c *client) list(topic string) members {
	synctest.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	out := make(members)
	for key, list := range c.lists[topic] {
		for _, m := range list {
			m = maps.Clone(m)
			delete(m, "phx_ref")
			delete(m, "phx_ref_prev")
			out[key] = append(out[key], m)
		}
	}
	return out
}

// status returns the status of a member's entries, or "" for one who is not shown.
func (c *client) status(topic, key string) string {
	c.t.Helper()
	list := c.list(topic)[key]
	for _, m := range list {
		require.Equal(c.t, list[0], m)
		return m["status"].(string)
	}
	return ""
}

// order is the order of a message's fields in a list.
var order = []string{"join_ref", "ref", "topic", "event", "payload"}

// toList returns a message of 1.0.0 as one of 2.0.0, and checks its form.
func toList(t *testing.T, data []byte) []byte {
	var fields map[string]json.RawMessage
	require.NoError(t, json.Unmarshal(data, &fields), string(data))
	require.Len(t, fields, len(order), string(data))
	var list []json.RawMessage
	for _, name := range order {
		require.Contains(t, fields, name)
		list = append(list, fields[name])
	}
	data, err := json.Marshal(list)
	require.NoError(t, err)
	return data
}

// toObject returns a message of 2.0.0 as one of 1.0.0, and anything else as it
// is.
func toObject(data string) string {
	var list []json.RawMessage
	if !utf8.ValidString(data) || json.Unmarshal([]byte(data), &list) != nil || len(list) != len(order) {
		return data
	}
	fields := make(map[string]json.RawMessage)
	for i, name := range order {
		fields[name] = list[i]
	}
	object, err := json.Marshal(fields)
	if err != nil {
		return data
	}
	return string(object)
}

func (c *client) send(op gobwas.OpCode, fin bool, data string) error {
	if c.objects && op == gobwas.OpText && fin {
		data = toObject(data)
	}
	return gobwas.WriteFrame(c.conn, gobwas.MaskFrame(gobwas.NewFrame(op, fin, []byte(data))))
}

func (c *client) say(data string) {
	c.t.Helper()
	require.NoError(c.t, c.send(gobwas.OpText, true, data))
}

// push sends an event and returns the reply to it.
func (c *client) push(joinRef, topic, event, payload string) answer {
	c.t.Helper()
	c.refs++
	ref := strconv.Itoa(c.refs)
	if event == "phx_join" {
		joinRef = ref
	}
	name, err := json.Marshal(topic)
	require.NoError(c.t, err)
	joined := "null"
	if joinRef != "" {
		joined = strconv.Quote(joinRef)
	}
	c.say(fmt.Sprintf(`[%s,%q,%s,%q,%s]`, joined, ref, name, event, payload))
	synctest.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	i := slices.IndexFunc(c.frames, func(f frame) bool { return f.event == "phx_reply" && f.ref == ref })
	require.GreaterOrEqual(c.t, i, 0, "no reply to %s %s", topic, event)
	var a answer
	require.Equal(c.t, topic, c.frames[i].topic)
	require.Equal(c.t, joinRef, c.frames[i].joinRef)
	require.NoError(c.t, json.Unmarshal(c.frames[i].payload, &a), c.frames[i].raw)
	return a
}

func (c *client) join(topic, payload string) answer {
	c.t.Helper()
	return c.push("", topic, "phx_join", payload)
}

func (c *client) do(topic, event, payload string) {
	c.t.Helper()
	a := c.push("", topic, event, payload)
	require.Equal(c.t, "ok", a.Status, a.Response.Message)
}

// refused expects an error and returns its message.
func (c *client) refused(reason string, a answer) string {
	c.t.Helper()
	require.Equal(c.t, "error", a.Status)
	require.Equal(c.t, reason, a.Response.Reason, a.Response.Message)
	require.NotEmpty(c.t, a.Response.Message)
	return a.Response.Message
}

// of returns the frames of an event so far.
func (c *client) of(event string) (list []frame) {
	synctest.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, f := range c.frames {
		if f.event == event {
			list = append(list, f)
		}
	}
	return list
}

// ended waits until the server has closed and returns the status.
func (c *client) ended() gobwas.StatusCode {
	c.t.Helper()
	<-c.done
	return c.code
}

// leave closes the socket as a page does that is left.
func (c *client) leave() {
	c.t.Helper()
	require.NoError(c.t, c.send(gobwas.OpClose, true, string(gobwas.NewCloseFrameBody(gobwas.StatusGoingAway, ""))))
	<-c.done
	c.conn.Close()
	synctest.Wait()
}

// expected is what a client has to hold of a channel: the core's projection.
func (w *world) expected(channel string, a presence.Audience, absent bool) members {
	w.t.Helper()
	views, _, err := w.tracker.ListAs(w.t.Context(), a, presence.ChannelID(channel), nil)
	require.NoError(w.t, err)
	list := make(members)
	for _, v := range views {
		if v.Class == "" || v.Class == presence.ClassOffline && !absent {
			continue
		}
		n := max(v.Devices, 1)
		v.Devices = 0
		data, err := json.Marshal(v)
		require.NoError(w.t, err)
		for range n {
			var m map[string]any
			require.NoError(w.t, json.Unmarshal(data, &m))
			list[phoenix.Key(v.Subject)] = append(list[phoenix.Key(v.Subject)], m)
		}
	}
	return list
}

func (w *world) get(id string) presence.View {
	w.t.Helper()
	v, err := w.tracker.GetAs(w.t.Context(), presence.AudienceSupervisor, presence.ID(id))
	require.NoError(w.t, err)
	return v
}

// pass lets time go by, in which everybody's page is alive.
func (w *world) pass(d time.Duration, pages ...*client) {
	for d > 0 {
		step := min(d, 20*time.Second)
		time.Sleep(step) // of the bubble
		d -= step
		for _, c := range pages {
			if c.conn != nil {
				c.push("", "phoenix", "heartbeat", "{}")
			}
		}
	}
	synctest.Wait()
}
