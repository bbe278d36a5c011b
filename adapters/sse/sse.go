// Package sse is presence over server-sent events, in the protocol of package
// wire: a stream that the server writes, and POST requests for the messages of
// the client. It works where WebSockets do not, and curl can read it:
//
//	curl -N 'http://127.0.0.1:8080/presence/events?watch=sales&token=…'
//
// Serve it beside WebSockets, so that a connection may change between the two:
//
//	server, err := wire.New(tracker, &wire.Options{Authenticate: authenticate})
//	http.Handle("/presence", ws.Over(server))
//	http.Handle("/presence/", sse.Over(server))
//
// Over HTTP/1.1 the handler takes a stream over from the HTTP server. An idle
// stream then has one goroutine, which waits for the client to leave, and no
// buffer. Over HTTP/2 the stream stays with the HTTP server, with all that the
// server needs for it.
package sse

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/presence-go/presence"
	"github.com/presence-go/presence/adapters/wire"
)

// Options configures the server of a [Handler].
type Options = wire.Options

// Handler opens streams under the path events and takes messages under the path
// messages, both below the path that it is mounted at. It is safe for concurrent
// use.
type Handler struct {
	server *wire.Server
	c      *wire.Carrier
}

// NewHandler returns a handler with a server of its own; nil options mean zero
// ones. It returns all faults of the options together. Close it to end its
// goroutines.
func NewHandler(t *presence.Tracker, opts *Options) (*Handler, error) {
	server, err := wire.New(t, opts)
	if err != nil {
		return nil, err
	}
	return Over(server), nil
}

// Over returns a handler that opens streams for a server, which may have other
// transports too. Its Sessions, Shutdown and Close are those of the server.
func Over(server *wire.Server) *Handler { return &Handler{server, server.Carrier()} }

// Sessions returns the number of open sessions.
func (h *Handler) Sessions() int { return h.server.Sessions() }

// Shutdown ends every session and opens no more, see [wire.Server.Shutdown].
func (h *Handler) Shutdown(ctx context.Context) error { return h.server.Shutdown(ctx) }

// Close is Shutdown with a limit of one second.
func (h *Handler) Close() error { return h.server.Close() }

// ServeHTTP opens a stream or takes messages. It refuses any other request with
// a status and a text that names the reason.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !h.c.CheckOrigin(w, r) {
		return
	}
	method, serve := "", h.c.ServePost
	switch {
	case strings.HasSuffix(r.URL.Path, "/events"):
		method, serve = http.MethodGet, h.serveStream
	case strings.HasSuffix(r.URL.Path, "/messages"):
		method = http.MethodPost
	}
	switch {
	case method == "":
		http.Error(w, "sse: unknown path: only events and messages are served", http.StatusNotFound)
	case r.Method == http.MethodOptions: // the preflight of a page of another origin
		w.Header().Set("Access-Control-Allow-Methods", method)
		w.Header().Set("Access-Control-Allow-Headers", "Authorization, Content-Type, Last-Event-ID, Cache-Control")
		w.Header().Set("Access-Control-Max-Age", "7200")
		w.WriteHeader(http.StatusNoContent)
	case r.Method != method:
		w.Header().Set("Allow", method+", OPTIONS")
		http.Error(w, "sse: not allowed method "+strconv.Quote(r.Method)+"; allowed: "+method, http.StatusMethodNotAllowed)
	default:
		serve(w, r)
	}
}

// serveStream opens a stream.
func (h *Handler) serveStream(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	hello, err := parseHello(q)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	watch := channels(q.Get("watch"), cmp.Or(r.Header.Get("Last-Event-ID"), q.Get("last")))
	who, ok := h.c.Admit(w, r)
	if !ok {
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Accel-Buffering", "no") // keeps proxies from buffering
	control := http.NewResponseController(w)
	// Clients reconnect at different times.
	retry := fmt.Appendf(nil, "retry: %d\n\n", 1000+rand.N(2000))

	if conn, _, err := control.Hijack(); err == nil {
		if err := start(conn, w.Header(), retry, h.c.Options().WriteTimeout); err != nil {
			conn.Close()
			h.c.Release(who)
			return
		}
		h.c.Open(who, conn, framing{}, false, func(s *wire.Session) {
			s.Begin(hello, watch)
			// A fresh goroutine has the smallest stack, for as long as the
			// stream lasts.
			h.c.Go(func() { await(s, conn) })
		})
		return
	}

	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	conn := &flushed{w: w, control: control, cancel: cancel}
	_ = control.SetReadDeadline(time.Time{})
	if _, err := conn.Write(retry); err != nil {
		h.c.Release(who)
		return
	}
	h.c.Open(who, conn, framing{}, true, func(s *wire.Session) {
		s.Begin(hello, watch)
		<-ctx.Done()
		conn.leave()
		s.Lost()
		s.Detach()
	})
}

// start sends the head of a response that lasts until the connection ends.
func start(conn net.Conn, header http.Header, first []byte, timeout time.Duration) error {
	header.Set("Connection", "close")
	header.Set("Date", time.Now().UTC().Format(http.TimeFormat))
	head := bytes.NewBufferString("HTTP/1.1 200 OK\r\n")
	_ = header.Write(head)
	head.WriteString("\r\n")
	head.Write(first)
	if err := conn.SetDeadline(time.Time{}); err != nil {
		return err
	}
	if err := conn.SetWriteDeadline(time.Now().Add(timeout)); err != nil {
		return err
	}
	_, err := conn.Write(head.Bytes())
	return err
}

// await waits until a client leaves. The client sends nothing on this
// connection: if it sends, that is its end too.
func await(s *wire.Session, conn net.Conn) {
	var one [1]byte
	_, _ = conn.Read(one[:])
	s.Lost()
	s.Detach()
}

// parseHello reads the hello in the parameters of a request.
func parseHello(q url.Values) (wire.Hello, error) {
	// The clones are kept, the URL is not.
	hello := wire.Hello{Conn: strings.Clone(q.Get("conn")), Device: strings.Clone(q.Get("device"))}
	if v := q.Get("v"); v != "" && v != strconv.Itoa(wire.Version) {
		return hello, fmt.Errorf("sse: invalid version %q; allowed: %d", v, wire.Version)
	}
	for name, set := range map[string]func(bool){
		"login":   func(v bool) { hello.Login = v },
		"visible": func(v bool) { hello.Visible = &v },
	} {
		if !q.Has(name) {
			continue
		}
		v, err := strconv.ParseBool(q.Get(name))
		if err != nil {
			return hello, fmt.Errorf("sse: invalid %s %q; allowed: true, false", name, q.Get(name))
		}
		set(v)
	}
	if q.Has("idle") {
		idle, err := strconv.ParseFloat(q.Get("idle"), 64)
		if err != nil {
			return hello, fmt.Errorf("sse: invalid idle %q: it is not a number of milliseconds", q.Get("idle"))
		}
		hello.Idle = &idle
	}
	return hello, nil
}

// channels returns the channels that a client wants to watch, with its position
// in each.
func channels(watch, last string) wire.Position {
	var list wire.Position
	seen := make(map[string]bool)
	for _, mark := range wire.ParsePosition(last) {
		if !seen[mark.Channel] {
			seen[mark.Channel] = true
			list = append(list, mark)
		}
	}
	for name := range strings.SplitSeq(watch, ",") {
		if unescaped, err := url.PathUnescape(name); err == nil {
			name = unescaped
		}
		if name != "" && !seen[name] {
			seen[name] = true
			list = append(list, wire.Mark{Channel: name})
		}
	}
	return list
}

// framing encodes messages as server-sent events.
type framing struct{}

func (framing) Streams() bool { return true }

func (framing) Message(b *wire.Batch, payload []byte, at wire.Position) {
	if at != nil {
		_, _ = b.WriteString("id: ")
		_, _ = b.WriteString(at.String())
		_, _ = b.WriteString("\n")
	}
	_, _ = b.WriteString("data: ")
	_, _ = b.Write(payload) // JSON without a line break
	_, _ = b.WriteString("\n\n")
}

func (framing) Ping(*wire.Batch) {}

func (f framing) Close(b *wire.Batch, status wire.Status, reason string) {
	payload, err := json.Marshal(struct {
		Type    string      `json:"type"`
		V       int         `json:"v"`
		Code    wire.Status `json:"code"`
		Message string      `json:"message"`
	}{"close", wire.Version, status, reason})
	if err == nil {
		f.Message(b, payload, nil)
	}
}

// flushed is the connection of a stream that stays with the HTTP server.
type flushed struct {
	w       http.ResponseWriter
	control *http.ResponseController
	cancel  context.CancelFunc

	mu   sync.RWMutex // read-locked while the response is used
	left bool         // the response must not be used any more
}

func (c *flushed) Write(p []byte) (int, error) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if c.left {
		return 0, net.ErrClosed
	}
	n, err := c.w.Write(p)
	if err == nil {
		err = c.control.Flush()
	}
	// A passed deadline would end the stream even between writes.
	_ = c.control.SetWriteDeadline(time.Time{})
	return n, err
}

// Close ends the stream.
func (c *flushed) Close() error {
	c.cancel()
	return nil
}

// leave waits for a use of the response and prevents further ones.
func (c *flushed) leave() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.left = true
}

func (c *flushed) SetWriteDeadline(at time.Time) error {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if c.left {
		return net.ErrClosed
	}
	return c.control.SetWriteDeadline(at)
}

func (c *flushed) SetReadDeadline(time.Time) error { return nil }
