// Package ws is presence over WebSockets, in the protocol of package wire.
//
//	handler, err := ws.NewHandler(tracker, &ws.Options{Authenticate: authenticate})
//	http.Handle("/presence", handler)
//
// Close the handler before the HTTP server; the example shows the order.
//
// An idle socket keeps a buffer of 128 bytes and one waiting goroutine on a
// fresh stack, however many channels it watches.
package ws

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"

	gobwas "github.com/gobwas/ws"

	"github.com/presence-go/presence"
	"github.com/presence-go/presence/adapters/internal/edge"
	"github.com/presence-go/presence/adapters/wire"
)

// Options configures the server of a [Handler].
type Options = wire.Options

// Handler opens WebSockets. It is safe for concurrent use.
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

// Over returns a handler that opens sockets for a server, which may have other
// transports too. Its Sessions, Shutdown and Close are those of the server.
func Over(server *wire.Server) *Handler { return &Handler{server, server.Carrier()} }

// Sessions returns the number of open sessions.
func (h *Handler) Sessions() int { return h.server.Sessions() }

// Shutdown ends every session and opens no more, see [wire.Server.Shutdown].
func (h *Handler) Shutdown(ctx context.Context) error { return h.server.Shutdown(ctx) }

// Close is Shutdown with a limit of one second.
func (h *Handler) Close() error { return h.server.Close() }

// ServeHTTP opens a socket. It refuses any other request with a status and a
// text that names the reason.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !h.c.CheckOrigin(w, r) {
		return
	}
	if !strings.EqualFold(r.Header.Get("Upgrade"), "websocket") {
		w.Header().Set("Upgrade", "websocket")
		w.Header().Set("Connection", "Upgrade")
		http.Error(w, "ws: invalid request: it does not open a WebSocket", http.StatusUpgradeRequired)
		return
	}
	opts := h.c.Options()
	if !edge.CanHijack("ws", opts.Logger, w) {
		return
	}
	who, ok := h.c.Admit(w, r)
	if !ok {
		return
	}
	upgrader := gobwas.HTTPUpgrader{
		Timeout:  opts.WriteTimeout,
		Protocol: func(name string) bool { return name == wire.Subprotocol },
	}
	// After an error the response has been written. The connection is ours if
	// it was taken over.
	conn, rw, _, err := upgrader.Upgrade(r, w)
	if err != nil {
		h.c.Release(who)
		if conn != nil {
			conn.Close()
		}
		return
	}
	// The bytes that the client sent early are in a buffer that is not kept.
	early, _ := rw.Reader.Peek(rw.Reader.Buffered())
	from := io.Reader(conn)
	if len(early) > 0 {
		from = io.MultiReader(bytes.NewReader(bytes.Clone(early)), conn)
	}
	// Its own goroutines give the large stack of the HTTP server's goroutine
	// back.
	h.c.Open(who, conn, framing{}, false, (&socket{c: h.c, conn: conn, in: newReader(from, opts.MaxMessage)}).run)
}

// socket reads one WebSocket.
type socket struct {
	c    *wire.Carrier
	conn io.Closer
	in   reader
}

// run reads heartbeats, for which the smallest stack is enough. Any other input
// would make the stack grow and stay large: a worker handles it, and a fresh
// goroutine continues.
func (k *socket) run(s *wire.Session) {
	err := k.listen(s)
	k.c.Work(func() { k.converse(s, err) })
}

// converse handles the input that run left, and the end of the socket.
func (k *socket) converse(s *wire.Session, err error) {
	for closed := false; err == nil && !closed; {
		if closed, err = k.read(s); err == nil && !closed && k.in.in.Buffered() == 0 {
			k.c.Go(func() { k.run(s) })
			return
		}
	}
	switch {
	case errors.Is(err, errTooLarge):
		s.End(presence.CauseLost, wire.StatusTooBig, "message too long")
	case isProtocolError(err):
		s.End(presence.CauseLost, wire.StatusProtocol, err.Error())
	default:
		s.End(presence.CauseLost, wire.StatusNone, "")
	}
	if err != nil {
		// The rest of the input is read for a moment. Closing the connection
		// with input unread would keep the reason from the client.
		_, _ = io.Copy(io.Discard, k.in.in)
	}
	k.conn.Close()
	s.Detach()
}

// listen reads heartbeats until other input arrives.
func (k *socket) listen(s *wire.Session) error {
	for {
		if err := k.in.wait(); err != nil {
			return err
		}
		if !k.in.whole(s.Heartbeat) {
			return nil
		}
	}
}

func isProtocolError(err error) bool {
	_, ok := errors.AsType[gobwas.ProtocolError](err)
	return ok || errors.Is(err, gobwas.ErrHeaderLengthMSB) || errors.Is(err, gobwas.ErrHeaderLengthUnexpected)
}

// buffers holds buffers for incoming messages. Idle sockets have none.
var buffers = sync.Pool{New: func() any { return new(bytes.Buffer) }}

// read handles the next input. It reports whether the client closed the socket.
func (k *socket) read(s *wire.Session) (closed bool, err error) {
	buffer := buffers.Get().(*bytes.Buffer)
	defer buffers.Put(buffer)
	buffer.Reset()
	buffer.Grow(k.in.max)
	return k.message(s, buffer.AvailableBuffer())
}

// message reads frames until it is between two messages.
func (k *socket) message(s *wire.Session, buf []byte) (closed bool, err error) {
	for {
		a, message, control, err := k.in.next(buf)
		if err != nil {
			return false, err
		}
		buf = message
		s.Heard()
		switch a {
		case arrivedClose:
			s.End(presence.CauseClosed, wire.Status(edge.CloseReply(control)), "")
			return true, nil
		case arrivedPing:
			s.Answer(func(b *wire.Batch) { appendFrame(b, gobwas.OpPong, control) })
		case arrivedBinary:
			s.Reject(wire.Binary)
		case arrivedTooLarge:
			s.Reject(wire.TooLarge)
		case arrivedMessage:
			s.Receive(message)
		default:
			s.Answer(func(*wire.Batch) {}) // it counts
		}
		if !k.in.partial() {
			return false, nil
		}
	}
}
