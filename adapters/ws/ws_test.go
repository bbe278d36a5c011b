package ws_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/benbjohnson/clock"
	gobwas "github.com/gobwas/ws"
	"github.com/stretchr/testify/require"

	"github.com/presence-go/presence"
	"github.com/presence-go/presence/adapters/sse"
	"github.com/presence-go/presence/adapters/wire"
	"github.com/presence-go/presence/adapters/ws"
)

// TestMain also checks that no test left a goroutine of the package behind.
func TestMain(m *testing.M) {
	code := m.Run()
	stacks := make([]byte, 1<<22)
	stacks = stacks[:runtime.Stack(stacks, true)]
	for stack := range strings.SplitSeq(string(stacks), "\n\n") {
		frames, _, _ := strings.Cut(stack, "created by ")
		if strings.Contains(frames, "adapters/ws.(*") || strings.Contains(frames, "adapters/wire.(*") || strings.Contains(frames, "adapters/sse.") {
			fmt.Fprintf(os.Stderr, "a goroutine was left behind:\n%s\n", stack)
			code = 1
		}
	}
	os.Exit(code)
}

// world is a tracker with a handler before it, on a clock moved by hand. Ann and
// bob are in channel sales; so that something is seen of them, it is known.
type world struct {
	t       testing.TB
	clock   *clock.Mock
	tracker *presence.Tracker
	handler *wire.Server
	server  *httptest.Server
	over    string               // how clients enter: over "ws", which is the default, or "sse"
	outputs chan presence.Output // about ann
}

// conf is what a test sets up differently.
type conf struct {
	tracker presence.Options
	mute    bool // the outputs about ann are not collected
	ws      ws.Options
	listen  func(net.Listener) net.Listener
}

func setup(t testing.TB, change func(*conf)) *world {
	t.Helper()
	w := &world{t: t, clock: clock.NewMock(), outputs: make(chan presence.Output, 1000)}
	w.clock.Set(time.Date(2026, 3, 2, 9, 0, 0, 0, time.UTC))
	c := conf{
		tracker: presence.Options{Clock: w.clock},
		ws:      ws.Options{Authenticate: authenticate, WriteTimeout: 5 * time.Second},
	}
	if change != nil {
		change(&c)
	}
	var err error
	w.tracker, err = presence.New(&c.tracker)
	require.NoError(t, err)
	if !c.mute {
		w.tracker.Observe(w.observe)
	}
	w.handler, err = wire.New(w.tracker, &c.ws)
	require.NoError(t, err)
	streams := sse.Over(w.handler)
	mux := http.NewServeMux()
	mux.Handle("/", ws.Over(w.handler))
	mux.Handle("/events", streams)
	mux.Handle("/messages", streams)
	w.server = httptest.NewUnstartedServer(mux)
	if c.listen != nil {
		w.server.Listener = c.listen(w.server.Listener)
	}
	w.server.Start()
	t.Cleanup(func() {
		w.handler.Close()
		w.server.Close()
		w.tracker.Close()
	})
	for _, id := range []string{"ann", "bob"} {
		require.NoError(t, w.tracker.AddMember(t.Context(), presence.ChannelID("sales"), presence.ID(id)))
	}
	return w
}

// observe collects the outputs about ann.
func (w *world) observe(_ presence.Ref, o *presence.Output) {
	if o.Presence.Subject.ID != "ann" || o.Kind != presence.OutputTransition && o.Kind != presence.OutputUpdated {
		return
	}
	select {
	case w.outputs <- *o:
	default:
	}
}

// setupOver is setup with clients that enter over a transport.
func setupOver(t testing.TB, over string, change func(*conf)) *world {
	t.Helper()
	w := setup(t, change)
	w.over = over
	return w
}

// refused tries to enter and returns the status with which that was refused.
func (w *world) refused(query string) (status int, why string) {
	w.t.Helper()
	if w.over == "sse" {
		_, status, why = w.stream(query)
	} else {
		_, status, why = w.dial(query)
	}
	return status, why
}

// authenticate believes the query.
func authenticate(r *http.Request) (presence.Identity, error) {
	q := r.URL.Query()
	if q.Get("id") == "" {
		return presence.Identity{}, errors.New("the table of tokens has no such row")
	}
	return presence.Identity{Actor: presence.Actor{Subject: presence.Ref{Tenant: q.Get("tenant"), ID: q.Get("id")}, Role: presence.Role(q.Get("role"))}}, nil
}

// advance moves the clock and lets everything that is due happen.
func (w *world) advance(d time.Duration) {
	w.t.Helper()
	w.clock.Add(d)
	_, err := w.tracker.Sweep(w.t.Context())
	require.NoError(w.t, err)
	w.handler.Sweep()
}

// output waits for an output of the tracker that fits.
func (w *world) output(what string, fits func(presence.Output) bool) presence.Output {
	w.t.Helper()
	limit := time.After(10 * time.Second)
	for {
		select {
		case o := <-w.outputs:
			if fits(o) {
				return o
			}
		case <-limit:
			require.Fail(w.t, "no such output", what)
		}
	}
}

// left waits until ann, having been there, is not, and returns why.
func (w *world) left() presence.Cause {
	w.t.Helper()
	there := false
	w.output("ann leaves", func(o presence.Output) bool {
		there = there || o.Presence.Reach == presence.ReachLive
		return there && o.Presence.Reach < presence.ReachLive
	})
	state, err := w.tracker.State(w.t.Context(), presence.ID("ann"))
	require.NoError(w.t, err)
	if len(state.Conns) == 0 {
		return state.LeftCause
	}
	return state.Conns[0].Cause
}

// frame is any message of the server.
type frame struct {
	Type      string
	V         int
	Ref       string
	Conn      string
	Epoch     any // a number of a connection, a word of a channel
	Now       presence.Instant
	Heartbeat int
	Lease     int
	Self      *presence.View
	View      *presence.View
	Statuses  []struct{ ID, Label, Class, Color string }
	Seq       uint64
	Secret    string
	Code      string
	Message   string
	Allowed   []string
	Channel   any // an object in frames of a channel, a word in errors
	Lagged    bool
	Group     presence.Group
	Members   []presence.View
	Changes   []presence.Change

	raw string
	at  string // of a stream, the position then
}

// client is a WebSocket client that answers nothing by itself.
type client struct {
	t       testing.TB
	conn    net.Conn
	in      io.Reader
	skipped []frame // while waiting for an answer

	// Of a stream.
	events *bufio.Scanner
	post   string // where to
	last   string // the last id
}

// dial opens a socket or returns the status with which it was refused.
func (w *world) dial(query string, header ...string) (*client, int, string) {
	w.t.Helper()
	status, why := 0, ""
	h := http.Header{}
	for i := 0; i+1 < len(header); i += 2 {
		h.Set(header[i], header[i+1])
	}
	d := gobwas.Dialer{
		Header: gobwas.HandshakeHeaderHTTP(h),
		OnStatusError: func(code int, _ []byte, r io.Reader) {
			response, err := http.ReadResponse(bufio.NewReader(r), nil)
			if err == nil {
				body, _ := io.ReadAll(response.Body)
				why = string(body)
			}
			status = code
		},
	}
	conn, in, _, err := d.Dial(w.t.Context(), "ws"+strings.TrimPrefix(w.server.URL, "http")+"/?"+query)
	if status != 0 {
		return nil, status, why
	}
	require.NoError(w.t, err)
	require.NoError(w.t, conn.SetDeadline(time.Now().Add(20*time.Second)))
	w.t.Cleanup(func() { conn.Close() })
	c := &client{t: w.t, conn: conn, in: conn}
	if in != nil {
		c.in = in
	}
	return c, 0, ""
}

// open opens a socket.
func (w *world) open(query string) *client {
	w.t.Helper()
	c, status, why := w.dial(query)
	require.Zero(w.t, status, why)
	return c
}

// enter opens a socket and sends a hello.
func (w *world) enter(query, hello string) (*client, frame) {
	w.t.Helper()
	if w.over == "sse" {
		c, status, why := w.stream(query + "&" + parameters(w.t, hello))
		require.Equal(w.t, http.StatusOK, status, why)
		return c, c.welcome()
	}
	c := w.open(query)
	c.say(`{"type":"hello","v":1` + hello + `}`)
	return c, c.until("welcome")
}

func (c *client) write(op gobwas.OpCode, fin bool, payload string) {
	c.t.Helper()
	f := gobwas.MaskFrame(gobwas.NewFrame(op, fin, []byte(payload)))
	require.NoError(c.t, gobwas.WriteFrame(c.conn, f))
}

func (c *client) say(text string) {
	c.t.Helper()
	if c.events != nil {
		require.Equal(c.t, http.StatusNoContent, c.send(text), text)
		return
	}
	c.write(gobwas.OpText, true, text)
}

// read returns the next frame of the wire.
func (c *client) read() (gobwas.OpCode, string, error) {
	if c.events != nil {
		return c.event()
	}
	h, err := gobwas.ReadHeader(c.in)
	if err != nil {
		return 0, "", err
	}
	payload := make([]byte, h.Length)
	if _, err := io.ReadFull(c.in, payload); err != nil {
		return 0, "", err
	}
	return h.OpCode, string(payload), gobwas.CheckHeader(h, gobwas.StateClientSide)
}

// next returns the next message.
func (c *client) next() frame {
	c.t.Helper()
	if len(c.skipped) > 0 {
		f := c.skipped[0]
		c.skipped = c.skipped[1:]
		return f
	}
	return c.receive()
}

func (c *client) receive() frame {
	c.t.Helper()
	for {
		op, payload, err := c.read()
		require.NoError(c.t, err)
		switch op {
		case gobwas.OpText:
			f := parse(c, payload)
			require.Equal(c.t, 1, f.V, payload)
			return f
		case gobwas.OpClose:
			code, reason := gobwas.ParseCloseFrameData([]byte(payload))
			require.Fail(c.t, "closed", "%d %s", code, reason)
		}
	}
}

// until returns the first message of a type, and keeps those before it.
func (c *client) until(kind string) frame {
	c.t.Helper()
	if i := slices.IndexFunc(c.skipped, func(f frame) bool { return f.Type == kind }); i >= 0 {
		f := c.skipped[i]
		c.skipped = slices.Delete(c.skipped, i, i+1)
		return f
	}
	for {
		f := c.receive()
		if f.Type == kind {
			return f
		}
		c.skipped = append(c.skipped, f)
	}
}

// ask sends a message with a reference and returns the answer to it.
func (c *client) ask(fields string) frame {
	c.t.Helper()
	c.say(`{"ref":"q",` + fields + `}`)
	for {
		f := c.receive()
		if f.Ref == "q" {
			return f
		}
		c.skipped = append(c.skipped, f)
	}
}

// do is ask where all has to go well.
func (c *client) do(fields string) frame {
	c.t.Helper()
	f := c.ask(fields)
	require.Equal(c.t, "done", f.Type, f.raw)
	return f
}

// closed reads until the server closes and returns the status.
func (c *client) closed() gobwas.StatusCode {
	c.t.Helper()
	for {
		op, payload, err := c.read()
		require.NoError(c.t, err)
		if op == gobwas.OpClose {
			code, _ := gobwas.ParseCloseFrameData([]byte(payload))
			return code
		}
	}
}

// empty waits until no socket is left.
func (w *world) empty() {
	w.t.Helper()
	for limit := time.Now().Add(10 * time.Second); w.handler.Sessions() > 0; runtime.Gosched() {
		require.True(w.t, time.Now().Before(limit), "sockets are left")
	}
}

func TestOptionsFaults(t *testing.T) {
	tracker, err := presence.New(nil)
	require.NoError(t, err)
	defer tracker.Close()

	_, err = ws.NewHandler(nil, &ws.Options{
		AllowedOrigins: []string{"*", "app.example.com", "https://app.example.com/path"}, MaxMessage: 10, MessagesPerSecond: -1, Burst: -1,
		MaxChannels: -1, MaxSessions: -1, MaxSessionsPerSubject: -1, WriteTimeout: -1, HelloTimeout: -1, PingInterval: -1,
	})
	for _, name := range []string{
		"tracker", "Authenticate", "AllowedOrigins[1]", "AllowedOrigins[2]", "MaxMessage", "MessagesPerSecond", "Burst",
		"MaxChannels", `"MaxSessions"`, "MaxSessionsPerSubject", "WriteTimeout", "HelloTimeout", "PingInterval",
	} {
		require.ErrorContains(t, err, name)
	}
	require.NotContains(t, err.Error(), "AllowedOrigins[0]")

	_, err = ws.NewHandler(tracker, &ws.Options{Authenticate: authenticate, PingInterval: time.Minute})
	require.ErrorContains(t, err, "not shorter than the policy's lease of 1m0s")
}

func TestWelcome(t *testing.T) {
	w := setup(t, nil)
	_, f := w.enter("id=ann", `,"ref":"h","conn":"tab-1","login":true,"device":"web"`)
	require.Equal(t, "h", f.Ref)
	require.Equal(t, "tab-1", f.Conn)
	require.EqualValues(t, 1, f.Epoch)
	require.Equal(t, presence.At(w.clock.Now()), f.Now)
	require.Equal(t, 25_000, f.Heartbeat)
	require.Equal(t, 60_000, f.Lease)
	require.Equal(t, "available", f.Self.Status)
	require.Equal(t, presence.At(w.clock.Now()), f.Self.LastLogin)
	require.Len(t, f.Statuses, 3, "offline is not selectable")
	require.Equal(t, struct{ ID, Label, Class, Color string }{"busy", "Busy", "busy", "#d04437"}, f.Statuses[2])

	state, err := w.tracker.State(t.Context(), presence.ID("ann"))
	require.NoError(t, err)
	require.Equal(t, "web", state.Conns[0].Device)

	_, f = w.enter("id=bob&role=supervisor", "")
	require.NotEmpty(t, f.Conn, "the server names a connection that has no name")
	require.Equal(t, "available", f.Self.Status)

	for _, role := range []string{"visitor", "system"} {
		c, f := w.enter("id=someone&role="+role, `,"conn":"x"`)
		require.Empty(t, f.Conn)
		require.Nil(t, f.Self)
		require.Empty(t, f.Statuses)
		require.Contains(t, f.raw, `"statuses":[]`)
		require.Equal(t, "not-allowed", c.ask(`"type":"claim","status":"busy"`).Code)
		require.Equal(t, "not-allowed", c.ask(`"type":"input"`).Code)
		_, err := w.tracker.State(t.Context(), presence.ID("someone"))
		require.ErrorIs(t, err, presence.ErrUnknown)
	}
}

func TestTenants(t *testing.T) { both(t, testTenants) }

func testTenants(t *testing.T, over string) {
	w := setupOver(t, over, nil)
	c, f := w.enter("id=ann&tenant=acme", "")
	require.Equal(t, presence.Ref{Tenant: "acme", ID: "ann"}, f.Self.Subject)
	require.Equal(t, "not-allowed", c.ask(`"type":"watch","channel":"sales"`).Code, "the grant is of another tenant")
}

func TestAuthentication(t *testing.T) {
	var refusal error
	w := setup(t, func(c *conf) {
		c.ws.Authenticate = func(*http.Request) (presence.Identity, error) { return presence.Identity{}, refusal }
	})
	for _, c := range []struct {
		err    error
		status int
		text   string
	}{
		{errors.New("row 17 of tokens is missing"), http.StatusUnauthorized, "log in first"},
		{fmt.Errorf("%w: the account is locked", presence.ErrNotAllowed), http.StatusForbidden, "the account is locked"},
		{fmt.Errorf("%w: db-7 is down", presence.ErrUnavailable), http.StatusServiceUnavailable, "try again"},
	} {
		refusal = c.err
		_, status, why := w.dial("")
		require.Equal(t, c.status, status)
		require.Contains(t, why, c.text)
		require.NotContains(t, why, "row 17")
		require.NotContains(t, why, "db-7")
	}
	require.Zero(t, w.handler.Sessions())
}

func TestPlainRequest(t *testing.T) {
	w := setup(t, func(c *conf) { c.ws.MaxSessions = 1 })
	for range 3 { // what is refused takes no room
		response, err := http.Get(w.server.URL + "/?id=ann")
		require.NoError(t, err)
		response.Body.Close()
		require.Equal(t, http.StatusUpgradeRequired, response.StatusCode)
	}
	w.enter("id=ann", "")
}

func TestClaims(t *testing.T) { both(t, testClaims) }

func testClaims(t *testing.T, over string) {
	w := setupOver(t, over, nil)
	bob, _ := w.enter("id=bob", "")
	guest, _ := w.enter("id=v1&role=visitor", "")
	for _, c := range []*client{bob, guest} {
		c.do(`"type":"watch","channel":"sales"`)
		f := c.until("snapshot")
		require.Len(t, f.Members, 2)
		require.Equal(t, "offline", f.Members[0].Status)
		require.Equal(t, presence.Group{Status: "available", Count: 1}, f.Group)
	}
	ann, _ := w.enter("id=ann", "")
	for _, c := range []*client{bob, guest} {
		f := c.until("diff")
		require.Equal(t, presence.OpJoined, f.Changes[0].Op)
		require.Equal(t, "available", f.Changes[0].View.Status)
	}
	require.Equal(t, "available", ann.until("self").View.Status)

	f := ann.do(`"type":"claim","status":"busy","for":60000,"reason":"call","text":"with Zoë"`)
	require.Equal(t, "busy", f.View.Status)
	require.Equal(t, presence.At(w.clock.Now().Add(time.Minute)), f.View.Until)
	f = bob.until("diff")
	require.Equal(t, "busy", f.Changes[0].View.Status)
	require.Equal(t, "with Zoë", f.Changes[0].View.Text)
	f = guest.until("diff")
	require.Equal(t, "busy", f.Changes[0].View.Status)
	require.Empty(t, f.Changes[0].View.Text, "a visitor sees no text")

	require.Equal(t, "available", ann.do(`"type":"release"`).View.Status)
	require.Equal(t, "available", bob.until("diff").Changes[0].View.Status)

	f = ann.ask(`"type":"claim","status":"lunch"`)
	require.Equal(t, "unknown", f.Code)
	require.Equal(t, []string{"available", "away", "busy"}, f.Allowed)
	f = ann.ask(`"type":"claim","status":"offline"`)
	require.Equal(t, "not-allowed", f.Code)
	require.Equal(t, []string{"available", "away", "busy"}, f.Allowed)
	require.Equal(t, "invalid", ann.ask(`"type":"claim","status":"busy","reason":"`+strings.Repeat("x", 65)+`"`).Code)
	limited := frame{}
	for range 11 {
		limited = ann.ask(`"type":"claim","status":"away"`)
	}
	require.Equal(t, "limit", limited.Code)
}

func TestOwnViewFollows(t *testing.T) { both(t, testOwnViewFollows) }

func testOwnViewFollows(t *testing.T, over string) {
	w := setupOver(t, over, nil)
	one, _ := w.enter("id=ann", `,"conn":"one"`)
	two, _ := w.enter("id=ann", `,"conn":"two"`)
	two.until("self")
	one.do(`"type":"claim","status":"busy"`)
	require.Equal(t, "busy", two.until("self").View.Status)
	two.do(`"type":"release"`)
	w.advance(5 * time.Minute) // no client answers: leases end, and before that nothing idles
	f := two.until("self")
	for f.View.Status != "offline" {
		f = two.until("self")
	}
	require.Equal(t, presence.CauseLost, f.View.Cause)
}

func TestHeartbeat(t *testing.T) { both(t, testHeartbeat) }

func testHeartbeat(t *testing.T, over string) {
	w := setupOver(t, over, nil)
	c, _ := w.enter("id=ann", "")
	state := func() presence.ConnState {
		s, err := w.tracker.State(t.Context(), presence.ID("ann"))
		require.NoError(t, err)
		return s.Conns[0]
	}
	w.advance(25 * time.Second)
	f := c.until("ping")
	require.EqualValues(t, 1, f.Seq)
	require.Equal(t, presence.At(w.clock.Now()), f.Now)
	c.do(`"type":"pong","seq":1,"idle":20000,"visible":false`)
	require.Equal(t, presence.At(w.clock.Now()), state().Heard)
	require.Equal(t, presence.At(w.clock.Now().Add(-20*time.Second)), state().Input)
	require.True(t, state().Hidden)

	w.advance(25 * time.Second)
	require.EqualValues(t, 2, c.until("ping").Seq)
	c.do(`"type":"pong","seq":2,"visible":true`)
	require.Equal(t, presence.At(w.clock.Now()), state().Heard)
	require.Equal(t, presence.At(w.clock.Now().Add(-45*time.Second)), state().Input, "no age is no input")
	require.False(t, state().Hidden)

	w.advance(10 * time.Second)
	c.do(`"type":"input"`)
	require.Equal(t, presence.At(w.clock.Now()), state().Input)
	c.do(`"type":"focus","channel":"sales"`)
	require.Equal(t, "sales", state().Focus)

	for _, seq := range []string{"0", "3", "18446744073709551615"} {
		f = c.ask(`"type":"pong","seq":` + seq)
		require.Equal(t, "invalid", f.Code)
		require.Contains(t, f.Message, "the last ping was 2")
	}
}

func TestPingInterval(t *testing.T) { both(t, testPingInterval) }

func testPingInterval(t *testing.T, over string) {
	w := setupOver(t, over, func(c *conf) { c.ws.PingInterval = 10 * time.Second })
	c, f := w.enter("id=ann", "")
	require.Equal(t, 10_000, f.Heartbeat)
	for seq := range uint64(5) {
		w.advance(10 * time.Second)
		require.Equal(t, seq+1, c.until("ping").Seq)
		c.do(fmt.Sprintf(`"type":"pong","seq":%d`, seq+1))
	}
}

func TestPingsComeByThemselves(t *testing.T) { both(t, testPingsComeByThemselves) }

func testPingsComeByThemselves(t *testing.T, over string) {
	w := setupOver(t, over, func(c *conf) {
		c.tracker.Clock, c.ws.PingInterval = nil, 10*time.Millisecond
	})
	c, _ := w.enter("id=ann", "")
	for seq := range uint64(3) {
		require.Equal(t, seq+1, c.until("ping").Seq)
		c.do(fmt.Sprintf(`"type":"pong","seq":%d`, seq+1))
	}
}

// A page that is frozen has a browser that answers for it.
func TestFrozenPage(t *testing.T) {
	w := setup(t, nil)
	bob, _ := w.enter("id=bob&role=supervisor", "")
	bob.do(`"type":"watch","channel":"sales"`)
	bob.until("snapshot")
	ann, _ := w.enter("id=ann", `,"conn":"tab"`)
	bob.until("diff")
	asked := 0 // by the protocol's own pings
	for seq := range 10 {
		w.advance(25 * time.Second)
		for app := false; !app; {
			op, payload, err := ann.read()
			require.NoError(t, err)
			app = strings.Contains(payload, `"type":"ping"`)
			if op != gobwas.OpPing {
				continue
			}
			asked++
			ann.write(gobwas.OpPong, true, "")
			ann.write(gobwas.OpPing, true, "so that it is known when the pong has arrived")
			for op != gobwas.OpPong {
				op, payload, err = ann.read()
				require.NoError(t, err)
				app = app || strings.Contains(payload, `"type":"ping"`)
			}
		}
		require.EqualValues(t, seq+1, bob.until("ping").Seq)
		bob.do(fmt.Sprintf(`"type":"pong","seq":%d,"idle":0`, seq+1))
	}
	require.Positive(t, asked)
	f := bob.until("diff")
	require.False(t, f.Changes[0].View.Routable, "no new work for whoever is silent")
	f = bob.until("diff")
	require.Equal(t, presence.OpLeft, f.Changes[0].Op, f.raw)
	require.Equal(t, presence.CauseLost, f.Changes[0].View.Cause)
	require.Equal(t, 2, w.handler.Sessions())

	// It thaws: the connection is no longer known, and hello brings it back.
	require.Equal(t, "stale", ann.ask(`"type":"pong","seq":10,"idle":260000`).Code)
	require.Equal(t, "stale", ann.ask(`"type":"input"`).Code)
	ann.say(`{"type":"hello","v":1,"idle":260000}`)
	f = ann.until("welcome")
	require.Equal(t, "tab", f.Conn)
	require.EqualValues(t, 3, f.Epoch.(float64)+1)
	require.Equal(t, presence.OpJoined, bob.until("diff").Changes[0].Op)
	ann.do(`"type":"input"`)
}

func TestSilence(t *testing.T) { both(t, testSilence) }

func testSilence(t *testing.T, over string) {
	w := setupOver(t, over, nil)
	c, _ := w.enter("id=ann", "")
	for range 3 {
		w.advance(25 * time.Second)
		c.until("ping")
	}
	w.advance(25 * time.Second)
	require.Equal(t, gobwas.StatusPolicyViolation, c.closed())
	require.Equal(t, presence.CauseLost, w.left())
}

func TestHelloTimeout(t *testing.T) {
	w := setup(t, nil)
	c := w.open("id=ann")
	require.Equal(t, "invalid", c.ask(`"type":"input"`).Code) // so that it is there
	w.advance(9 * time.Second)
	require.Equal(t, "invalid", c.ask(`"type":"input"`).Code)
	w.advance(time.Second)
	require.Equal(t, gobwas.StatusPolicyViolation, c.closed())
	w.empty()
}

func TestResume(t *testing.T) {
	w := setup(t, nil)
	bob, _ := w.enter("id=bob&role=supervisor", "")
	bob.do(`"type":"watch","channel":"sales"`)
	bob.until("snapshot")
	old, first := w.enter("id=ann", `,"conn":"tab"`)
	bob.until("diff")
	fresh, second := w.enter("id=ann", `,"conn":"tab"`)
	require.Greater(t, second.Epoch, first.Epoch)
	require.EqualValues(t, wire.StatusReplaced, old.closed())

	// The old socket leaves in every way it has, and nothing changes.
	old.write(gobwas.OpText, true, `{"type":"bye","cause":"logout"}`)
	old.write(gobwas.OpClose, true, "")
	old.conn.Close()
	for limit := time.Now().Add(10 * time.Second); w.handler.Sessions() > 2; runtime.Gosched() {
		require.True(t, time.Now().Before(limit))
	}
	state, err := w.tracker.State(t.Context(), presence.ID("ann"))
	require.NoError(t, err)
	require.Len(t, state.Conns, 1)
	require.Zero(t, state.Conns[0].Left)

	fresh.do(`"type":"claim","status":"busy"`)
	f := bob.until("diff")
	require.Equal(t, presence.OpUpdated, f.Changes[0].Op, "nobody saw ann leave or come back")
	require.Equal(t, "busy", f.Changes[0].View.Status)
}

func TestHelloUnderAnotherID(t *testing.T) {
	w := setup(t, nil)
	c, _ := w.enter("id=ann", `,"conn":"one"`)
	c.say(`{"type":"hello","v":1,"conn":"two"}`)
	require.Equal(t, "two", c.until("welcome").Conn)
	state, err := w.tracker.State(t.Context(), presence.ID("ann"))
	require.NoError(t, err)
	require.Equal(t, presence.CauseClosed, state.Conns[0].Cause)
	require.Empty(t, state.Conns[1].Cause)

	// The first id is free for another socket, and ends no session.
	other, _ := w.enter("id=ann", `,"conn":"one"`)
	other.do(`"type":"input"`)
	c.do(`"type":"input"`)
	require.Equal(t, 2, w.handler.Sessions())
}

func TestWaysToLeave(t *testing.T) {
	for name, c := range map[string]struct {
		leave func(*client)
		want  presence.Cause
	}{
		"bye": {func(c *client) {
			c.say(`{"type":"bye","cause":"closed"}`)
			require.Equal(c.t, gobwas.StatusNormalClosure, c.closed())
		}, presence.CauseClosed},
		"bye without cause": {func(c *client) {
			c.say(`{"type":"bye"}`)
			require.Equal(c.t, gobwas.StatusNormalClosure, c.closed())
		}, presence.CauseClosed},
		"logout": {func(c *client) {
			c.say(`{"type":"bye","cause":"logout"}`)
			require.Equal(c.t, gobwas.StatusNormalClosure, c.closed())
		}, presence.CauseLogout},
		"close frame": {func(c *client) {
			c.write(gobwas.OpClose, true, string(gobwas.NewCloseFrameBody(gobwas.StatusGoingAway, "")))
			require.Equal(c.t, gobwas.StatusGoingAway, c.closed())
		}, presence.CauseClosed},
		"close frame without status": {func(c *client) {
			c.write(gobwas.OpClose, true, "")
			require.Equal(c.t, gobwas.StatusNormalClosure, c.closed())
		}, presence.CauseClosed},
		"connection cut":             {func(c *client) { c.conn.Close() }, presence.CauseLost},
		"cut in the middle of frame": {func(c *client) { c.conn.Write([]byte{0x81, 0xfe, 0x01}); c.conn.Close() }, presence.CauseLost},
	} {
		t.Run(name, func(t *testing.T) {
			w := setup(t, nil)
			ann, _ := w.enter("id=ann", "")
			c.leave(ann)
			require.Equal(t, c.want, w.left())
			ann.conn.Close()
			w.empty()
		})
	}
}

func TestByeForNoReason(t *testing.T) { both(t, testByeForNoReason) }

func testByeForNoReason(t *testing.T, over string) {
	w := setupOver(t, over, nil)
	c, _ := w.enter("id=ann", "")
	f := c.ask(`"type":"bye","cause":"lunch"`)
	require.Equal(t, "invalid", f.Code)
	require.Equal(t, []string{"closed", "logout"}, f.Allowed)
	c.do(`"type":"input"`)
}

func TestFaultsAreTold(t *testing.T) {
	w := setup(t, func(c *conf) { c.ws.MaxMessage = 512; c.ws.MessagesPerSecond = 1e6; c.ws.Burst = 1e6 })
	long := strings.Repeat("x", 600)
	for name, c := range map[string]struct {
		send    func(*client)
		code    string
		message string
	}{
		"nothing":         {text(``), "malformed", "unexpected end"},
		"no JSON":         {text(`hello`), "malformed", "invalid character"},
		"half an object":  {text(`{"type":"inp`), "malformed", "unexpected end"},
		"an array":        {text(`[1]`), "malformed", "not one JSON object"},
		"two objects":     {text(`{"type":"input"}{}`), "malformed", "after top-level value"},
		"a wrong type":    {text(`{"type":"pong","seq":-1}`), "malformed", `field "seq": it cannot be a number -1`},
		"null":            {text(`null`), "invalid", `invalid type "": no message has it`},
		"no type":         {text(`{}`), "invalid", `invalid type "": no message has it`},
		"an unknown type": {text(`{"type":"dance"}`), "invalid", `invalid type "dance": no message has it`},
		"a long ref":      {text(`{"type":"input","ref":"` + strings.Repeat("r", 65) + `"}`), "invalid", "ref: it is longer"},
		"an idle time":    {text(`{"type":"pong","seq":1,"idle":-1}`), "invalid", `idle "-1"`},
		"a huge for":      {text(`{"type":"claim","for":1e300}`), "invalid", `for "1e+300"`},
		"another version": {text(`{"type":"hello","v":2}`), "invalid", `version "2"`},
		"a bad conn":      {text(`{"type":"hello","v":1,"conn":"a\u0000b"}`), "invalid", "conn"},
		"a bad channel":   {text(`{"type":"watch","channel":""}`), "invalid", ""},
		"a strange one":   {text(`{"type":"watch","channel":"board"}`), "not-allowed", "no grant"},
		"not watched":     {text(`{"type":"unwatch","channel":"sales"}`), "unknown", "not being watched"},
		"a long message":  {text(long), "too-large", "longer than 512 bytes"},
		"binary":          {func(c *client) { c.write(gobwas.OpBinary, true, `{"type":"input"}`) }, "malformed", "binary"},
		"long binary":     {func(c *client) { c.write(gobwas.OpBinary, true, long) }, "malformed", "binary"},
		"long in parts": {func(c *client) {
			c.write(gobwas.OpText, false, long[:500])
			c.write(gobwas.OpContinuation, false, long[:500])
			c.write(gobwas.OpContinuation, true, "")
		}, "too-large", "longer than 512 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			ann, _ := w.enter("id=ann", "")
			ann.t = t
			c.send(ann)
			f := ann.until("error")
			require.Equal(t, c.code, f.Code, f.raw)
			require.Contains(t, f.Message, c.message)
			require.Empty(t, f.Ref)
			ann.do(`"type":"input"`)
			ann.say(`{"type":"bye"}`)
			ann.closed()
		})
	}
}

func text(s string) func(*client) { return func(c *client) { c.say(s) } }

func TestHelloComesFirst(t *testing.T) {
	w := setup(t, nil)
	c := w.open("id=ann")
	f := c.ask(`"type":"watch","channel":"sales"`)
	require.Equal(t, "invalid", f.Code)
	require.Equal(t, []string{"hello"}, f.Allowed)
	_, err := w.tracker.GetAs(t.Context(), presence.AudienceTeam, presence.ID("ann"))
	require.NoError(t, err)
	c.say(`{"type":"hello","v":1}`)
	c.until("welcome")
}

func TestTooManyFaults(t *testing.T) { both(t, testTooManyFaults) }

func testTooManyFaults(t *testing.T, over string) {
	w := setupOver(t, over, func(c *conf) { c.ws.Burst = 1000 })
	c, _ := w.enter("id=ann", "")
	for range 19 {
		c.say(`{"type":"dance"}`)
		require.Equal(t, "invalid", c.until("error").Code)
	}
	w.clock.Add(time.Minute)
	for range 20 { // those before are forgotten
		c.say(`{"type":"dance"}`)
		require.Equal(t, "invalid", c.until("error").Code)
	}
	require.Equal(t, gobwas.StatusPolicyViolation, c.closed())
	require.Equal(t, presence.CauseLost, w.left())
}

func TestRate(t *testing.T) { both(t, testRate) }

func testRate(t *testing.T, over string) {
	w := setupOver(t, over, func(c *conf) { c.ws.MessagesPerSecond, c.ws.Burst = 2, 5 })
	c, _ := w.enter("id=ann", "") // takes the first
	for range 4 {
		c.do(`"type":"input"`)
	}
	c.say(`{"type":"claim","status":"busy"}`)
	require.Equal(t, "rate", c.until("error").Code)
	view, err := w.tracker.GetAs(t.Context(), presence.AudienceTeam, presence.ID("ann"))
	require.NoError(t, err)
	require.Equal(t, "available", view.Status, "what comes too fast is not done")
	w.clock.Add(500 * time.Millisecond)
	c.do(`"type":"input"`)
	c.say(`{"type":"input"}`)
	require.Equal(t, "rate", c.until("error").Code)
}

func TestFlood(t *testing.T) {
	for name, op := range map[string]gobwas.OpCode{"messages": gobwas.OpText, "pings": gobwas.OpPing, "parts": gobwas.OpContinuation} {
		t.Run(name, func(t *testing.T) {
			w := setup(t, nil)
			c, _ := w.enter("id=ann", "")
			var flooding sync.WaitGroup
			defer flooding.Wait()
			flooding.Go(func() {
				if op == gobwas.OpContinuation {
					c.write(gobwas.OpText, false, "")
				}
				f := gobwas.MaskFrame(gobwas.NewFrame(op, op != gobwas.OpContinuation, []byte(`{}`)))
				for gobwas.WriteFrame(c.conn, f) == nil {
				}
			})
			code := c.closed()
			c.conn.Close()
			require.Equal(t, gobwas.StatusPolicyViolation, code)
			require.Equal(t, presence.CauseLost, w.left())
		})
	}
}

func TestBrokenFraming(t *testing.T) {
	for name, c := range map[string]struct {
		wire string
		want gobwas.StatusCode
	}{
		"not masked":            {"\x81\x02{}", gobwas.StatusProtocolError},
		"reserved bits":         {"\xf1\x80\x00\x00\x00\x00", gobwas.StatusProtocolError},
		"reserved opcode":       {"\x83\x80\x00\x00\x00\x00", gobwas.StatusProtocolError},
		"continuation of none":  {"\x80\x80\x00\x00\x00\x00", gobwas.StatusProtocolError},
		"long control frame":    {"\x89\xfe\x00\x80\x00\x00\x00\x00", gobwas.StatusProtocolError},
		"negative length":       {"\x81\xff\xff\xff\xff\xff\xff\xff\xff\xff\x00\x00\x00\x00", gobwas.StatusProtocolError},
		"a length of petabytes": {"\x81\xff\x00\xff\xff\xff\xff\xff\xff\xff\x00\x00\x00\x00", gobwas.StatusMessageTooBig},
	} {
		t.Run(name, func(t *testing.T) {
			w := setup(t, nil)
			ann, _ := w.enter("id=ann", "")
			_, err := ann.conn.Write([]byte(c.wire + strings.Repeat("x", 1000)))
			require.NoError(t, err)
			require.Equal(t, c.want, ann.closed())
			require.Equal(t, presence.CauseLost, w.left())
		})
	}
}

func TestFragmentsAndPings(t *testing.T) {
	w := setup(t, nil)
	c, _ := w.enter("id=ann", "")
	c.write(gobwas.OpText, false, `{"type":"claim",`)
	c.write(gobwas.OpPing, true, "still there?")
	c.write(gobwas.OpContinuation, false, ``)
	c.write(gobwas.OpContinuation, true, `"ref":"1","status":"busy"}`)
	for {
		op, payload, err := c.read()
		require.NoError(t, err)
		if op == gobwas.OpPong {
			require.Equal(t, "still there?", payload)
			break
		}
	}
	require.Equal(t, "busy", c.until("done").View.Status)
}

// What a client sends without waiting for the handshake is not lost.
func TestEarlyMessage(t *testing.T) {
	w := setup(t, nil)
	conn, err := net.Dial("tcp", w.server.Listener.Addr().String())
	require.NoError(t, err)
	defer conn.Close()
	require.NoError(t, conn.SetDeadline(time.Now().Add(20*time.Second)))
	hello := gobwas.MustCompileFrame(gobwas.MaskFrame(gobwas.NewTextFrame([]byte(`{"type":"hello","v":1}`))))
	_, err = fmt.Fprintf(conn, "GET /?id=ann HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n%s", hello)
	require.NoError(t, err)
	in := bufio.NewReader(conn)
	response, err := http.ReadResponse(in, nil)
	require.NoError(t, err)
	require.Equal(t, http.StatusSwitchingProtocols, response.StatusCode)
	c := &client{t: t, conn: conn, in: in}
	require.Equal(t, "available", c.until("welcome").Self.Status)
	c.do(`"type":"input"`)
}

func TestLimits(t *testing.T) { both(t, testLimits) }

func testLimits(t *testing.T, over string) {
	w := setupOver(t, over, func(c *conf) { c.ws.MaxSessions, c.ws.MaxSessionsPerSubject, c.ws.MaxChannels = 3, 2, 2 })
	first, _ := w.enter("id=v1&role=visitor", "")
	w.enter("id=v1&role=visitor", "")
	status, why := w.refused("id=v1&role=visitor")
	require.Equal(t, http.StatusTooManyRequests, status)
	require.Contains(t, why, "limit sessions: v1 has 2 open")
	w.enter("id=v2&role=visitor", "")
	status, why = w.refused("id=v3&role=visitor")
	require.Equal(t, http.StatusServiceUnavailable, status)
	require.Contains(t, why, "limit sessions: 3 are open")

	first.do(`"type":"watch","channel":"a"`)
	first.do(`"type":"watch","channel":"b"`)
	f := first.ask(`"type":"watch","channel":"c"`)
	require.Equal(t, "limit", f.Code)
	require.Equal(t, "invalid", first.ask(`"type":"watch","channel":"a"`).Code)
	first.do(`"type":"unwatch","channel":"a"`)
	first.do(`"type":"watch","channel":"c"`)

	first.say(`{"type":"bye"}`)
	first.closed()
	first.conn.Close()
	for limit := time.Now().Add(10 * time.Second); w.handler.Sessions() > 2; runtime.Gosched() {
		require.True(t, time.Now().Before(limit))
	}
	w.enter("id=v1&role=visitor", "")
}

func TestUnwatch(t *testing.T) { both(t, testUnwatch) }

func testUnwatch(t *testing.T, over string) {
	w := setupOver(t, over, nil)
	bob, _ := w.enter("id=bob", "")
	ann, _ := w.enter("id=ann", "")
	bob.do(`"type":"watch","channel":"sales"`)
	bob.until("snapshot")
	bob.do(`"type":"unwatch","channel":"sales"`)
	ann.do(`"type":"claim","status":"busy"`)
	bob.say(`{"type":"input","ref":"last"}`)
	for f := bob.next(); f.Ref != "last"; f = bob.next() {
		require.NotEqual(t, "diff", f.Type)
	}
	bob.do(`"type":"watch","channel":"sales"`)
	require.Equal(t, "busy", bob.until("snapshot").Members[0].Status)
}

func TestRemoved(t *testing.T) { both(t, testRemoved) }

func testRemoved(t *testing.T, over string) {
	w := setupOver(t, over, func(c *conf) { c.ws.MaxChannels = 1 })
	ann, _ := w.enter("id=ann", "")
	ann.do(`"type":"watch","channel":"sales"`)
	ann.until("snapshot")
	require.NoError(t, w.tracker.RemoveMember(t.Context(), presence.ChannelID("sales"), presence.ID("ann")))
	f := ann.until("removed")
	require.Equal(t, map[string]any{"id": "sales"}, f.Channel)
	require.NoError(t, w.tracker.AddMember(t.Context(), presence.ChannelID("sales"), presence.ID("ann")))
	ann.do(`"type":"watch","channel":"sales"`)
	require.Len(t, ann.until("snapshot").Members, 2)
}

// A frame too long to be copied is sent in two parts.
func TestLongFrame(t *testing.T) { both(t, testLongFrame) }

func testLongFrame(t *testing.T, over string) {
	w := setupOver(t, over, nil)
	for i := range 200 {
		require.NoError(t, w.tracker.AddMember(t.Context(), presence.ChannelID("sales"), presence.ID(fmt.Sprintf("agent-%03d", i))))
	}
	c, _ := w.enter("id=v1&role=visitor", "")
	c.do(`"type":"watch","channel":"sales"`)
	f := c.until("snapshot")
	require.Greater(t, len(f.raw), 10_000)
	require.Len(t, f.Members, 202)
	c.do(`"type":"unwatch","channel":"sales"`)
}

// small makes the buffers of a server's connections as small as they can be.
type small struct{ net.Listener }

func (l small) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err == nil {
		err = c.(*net.TCPConn).SetWriteBuffer(1)
	}
	return c, err
}

// chatter connects bob and returns what gives him another, long text each time.
func (w *world) chatter() (another func() string) {
	w.t.Helper()
	_, err := w.tracker.Connect(w.t.Context(), presence.ID("bob"), presence.ConnectOptions{})
	require.NoError(w.t, err)
	actor, n := presence.Actor{Subject: presence.ID("crm"), Role: presence.RoleSystem}, 0
	return func() string {
		w.t.Helper()
		n++
		text := fmt.Sprintf("%d %s", n, strings.Repeat("x", 500))
		_, err := w.tracker.SetClaim(w.t.Context(), actor, presence.ID("bob"), presence.Claim{Status: "busy", Text: text})
		require.NoError(w.t, err)
		return text
	}
}

func TestSlowReaderIsSentASnapshot(t *testing.T) { both(t, testSlowReaderIsSentASnapshot) }

func testSlowReaderIsSentASnapshot(t *testing.T, over string) {
	w := setupOver(t, over, func(c *conf) {
		c.listen = func(l net.Listener) net.Listener { return small{l} }
		c.tracker.WatchBuffer = 2
		c.ws.WriteTimeout = 20 * time.Second
	})
	ann, _ := w.enter("id=ann", "")
	require.NoError(t, ann.conn.(*net.TCPConn).SetReadBuffer(1))
	ann.do(`"type":"watch","channel":"sales"`)
	last, another := "", w.chatter()
	for range 5000 { // more than all the buffers in between hold
		last = another()
	}
	lagged := false
	for view := (presence.View{}); view.Text != last; {
		f := ann.next()
		lagged = lagged || f.Lagged
		for _, v := range f.Members {
			if v.Subject.ID == "bob" {
				view = v
			}
		}
		for _, c := range f.Changes {
			if c.Subject.ID == "bob" {
				view = *c.View
			}
		}
	}
	require.True(t, lagged)
	ann.do(`"type":"input"`)
}

func TestStuckReaderIsLost(t *testing.T) { both(t, testStuckReaderIsLost) }

func testStuckReaderIsLost(t *testing.T, over string) {
	w := setupOver(t, over, func(c *conf) {
		c.listen = func(l net.Listener) net.Listener { return small{l} }
		c.ws.WriteTimeout = 50 * time.Millisecond
	})
	ann, _ := w.enter("id=ann", "")
	require.NoError(t, ann.conn.(*net.TCPConn).SetReadBuffer(1))
	ann.do(`"type":"watch","channel":"sales"`)
	another := w.chatter()
	for limit := time.Now().Add(10 * time.Second); w.handler.Sessions() > 0; another() {
		require.True(t, time.Now().Before(limit), "still connected")
		w.advance(10 * time.Millisecond) // until the moment is over in which a stream may be opened again
	}
	require.Equal(t, presence.CauseLost, w.left())
}

func TestShutdown(t *testing.T) {
	w := setup(t, nil)
	ann, _ := w.enter("id=ann", "")
	guest := w.open("id=v1&role=visitor")
	done := make(chan error)
	go func() { done <- w.handler.Shutdown(t.Context()) }()
	for _, c := range []*client{ann, guest} {
		require.Equal(t, gobwas.StatusGoingAway, c.closed())
		_ = gobwas.WriteFrame(c.conn, gobwas.MaskFrame(gobwas.NewCloseFrame(nil))) // the server does not wait for long
	}
	require.NoError(t, <-done)
	require.Equal(t, presence.CauseDrain, w.left())
	require.Zero(t, w.handler.Sessions())
	_, status, _ := w.dial("id=ann")
	require.Equal(t, http.StatusServiceUnavailable, status)
	require.ErrorIs(t, w.handler.Close(), presence.ErrClosed)
	require.ErrorIs(t, w.handler.Shutdown(t.Context()), presence.ErrClosed)
	w.handler.Sweep()
}

func TestShutdownCutsOff(t *testing.T) {
	w := setup(t, nil)
	ann, _ := w.enter("id=ann", "")
	ctx, cancel := context.WithCancelCause(t.Context())
	reason := errors.New("no more patience")
	done := make(chan error)
	go func() { done <- w.handler.Shutdown(ctx) }()
	require.Equal(t, gobwas.StatusGoingAway, ann.closed()) // and does not answer
	cancel(reason)
	require.ErrorIs(t, <-done, reason)
	require.Zero(t, w.handler.Sessions())
}

func TestTrackerClosed(t *testing.T) { both(t, testTrackerClosed) }

func testTrackerClosed(t *testing.T, over string) {
	w := setupOver(t, over, nil)
	ann, _ := w.enter("id=ann", "")
	ann.do(`"type":"watch","channel":"sales"`)
	require.NoError(t, w.tracker.Close())
	f := ann.until("error")
	require.Equal(t, "closed", f.Code)
	require.Equal(t, "sales", f.Channel)
	require.Equal(t, "closed", ann.ask(`"type":"claim","status":"busy"`).Code)
	require.Equal(t, "closed", ann.ask(`"type":"hello","v":1`).Code)
}

type authorizer func(presence.Action) error

func (a authorizer) Allow(_ context.Context, q presence.Question) error {
	return a(q.Action)
}

func TestUnavailableTellsNothing(t *testing.T) { both(t, testUnavailableTellsNothing) }

func testUnavailableTellsNothing(t *testing.T, over string) {
	w := setupOver(t, over, func(c *conf) {
		c.tracker.Authorizer = authorizer(func(presence.Action) error { return errors.New("dial db-7: refused") })
	})
	c, _ := w.enter("id=ann", "")
	for _, fields := range []string{`"type":"claim","status":"busy"`, `"type":"watch","channel":"sales"`} {
		f := c.ask(fields)
		require.Equal(t, "unavailable", f.Code)
		require.NotContains(t, f.raw, "db-7")
	}
	for range 30 { // it is not the client's fault
		w.clock.Add(time.Second)
		require.Equal(t, "unavailable", c.ask(`"type":"claim","status":"busy"`).Code)
		w.clock.Add(time.Minute / 10)
	}
}

func TestSwitchedOff(t *testing.T) { both(t, testSwitchedOff) }

func testSwitchedOff(t *testing.T, over string) {
	w := setupOver(t, over, nil)
	ann, _ := w.enter("id=ann", "")
	require.NoError(t, w.tracker.Disable(t.Context(), presence.ID("ann")))
	require.Equal(t, "disabled", ann.ask(`"type":"claim","status":"busy"`).Code)
	require.Equal(t, "disabled", ann.ask(`"type":"hello","v":1`).Code)
}

// Many sockets open, send, watch and close at once; run with the race detector.
func TestCrowd(t *testing.T) {
	w := setup(t, func(c *conf) { c.ws.MessagesPerSecond, c.ws.Burst = 1e6, 1e6 })
	var crowd sync.WaitGroup
	for i := range 16 {
		id := []string{"ann", "bob"}[i%2]
		c, _ := w.enter("id="+id, fmt.Sprintf(`,"conn":"c%d"`, i%6)) // some take others' place
		crowd.Go(func() {
			for {
				op, payload, err := c.read()
				if err != nil || op == gobwas.OpClose {
					c.conn.Close()
					return
				}
				var f frame
				if op == gobwas.OpText && json.Unmarshal([]byte(payload), &f) == nil && f.Type == "ping" {
					answer := gobwas.MaskFrame(gobwas.NewTextFrame(fmt.Appendf(nil, `{"type":"pong","seq":%d,"idle":0}`, f.Seq)))
					gobwas.WriteFrame(c.conn, answer)
				}
			}
		})
		crowd.Go(func() {
			for n := range 20 {
				for _, m := range []string{`{"type":"watch","channel":"sales"}`, `{"type":"input"}`, `{"type":"claim","status":"busy"}`, `{"type":"release"}`, `{"type":"unwatch","channel":"sales"}`} {
					if n > 0 && strings.Contains(m, "claim") {
						continue
					}
					f := gobwas.MaskFrame(gobwas.NewTextFrame([]byte(m)))
					if gobwas.WriteFrame(c.conn, f) != nil {
						return
					}
				}
			}
			gobwas.WriteFrame(c.conn, gobwas.MaskFrame(gobwas.NewTextFrame([]byte(`{"type":"bye"}`))))
		})
	}
	crowd.Go(func() {
		for range 20 {
			w.clock.Add(5 * time.Second)
			w.handler.Sweep()
		}
	})
	crowd.Wait()
	w.empty()
}
