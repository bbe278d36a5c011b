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
	"net"
	"net/http"
	"sync"

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
	opts := h.c.Options()
	if !edge.CanUpgrade("ws", opts.Logger, w, r) {
		return
	}
	who, ok := h.c.Admit(w, r)
	if !ok {
		return
	}
	conn, early, err := edge.Upgrade(w, r, opts.WriteTimeout, wire.Subprotocol)
	if err != nil {
		h.c.Release(who)
		return
	}
	limits := edge.FrameLimits{Message: opts.MaxMessage, Skip: maxOversize * opts.MaxMessage, TextOnly: true}
	// Its own goroutines give the large stack of the HTTP server's goroutine
	// back.
	h.c.Open(who, conn, framing{}, false, (&socket{c: h.c, conn: conn, in: edge.After(early, conn, limits), max: opts.MaxMessage}).run)
}

// maxOversize is how many times the longest message a socket skips of a message
// that is too long. A longer one closes the socket.
const maxOversize = 16

// socket reads one WebSocket.
type socket struct {
	c    *wire.Carrier
	conn net.Conn
	in   edge.Frames
	max  int // bytes of a message
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
		if closed, err = k.read(s); err == nil && !closed && !k.in.Waiting() {
			k.c.Go(func() { k.run(s) })
			return
		}
	}
	if wrong, ok := errors.AsType[*edge.Violation](err); ok {
		s.End(presence.CauseLost, wire.Status(wrong.Status), wrong.Text)
		edge.HangUp(k.conn, &k.in, false)
	} else if err == nil {
		edge.HangUp(k.conn, &k.in, true)
	} else {
		s.End(presence.CauseLost, wire.StatusNone, "")
		k.conn.Close()
	}
	s.Detach()
}

// listen reads heartbeats until other input arrives.
func (k *socket) listen(s *wire.Session) error {
	for {
		if err := k.in.Wait(); err != nil {
			return err
		}
		if !k.in.Whole(s.Heartbeat) {
			return nil
		}
	}
}

// buffers holds buffers for incoming messages. Idle sockets have none.
var buffers = sync.Pool{New: func() any { return new(bytes.Buffer) }}

// read handles the next input. It reports whether the client closed the socket.
func (k *socket) read(s *wire.Session) (closed bool, err error) {
	buffer := buffers.Get().(*bytes.Buffer)
	defer buffers.Put(buffer)
	buffer.Reset()
	buffer.Grow(k.max)
	return k.message(s, buffer.AvailableBuffer())
}

// message reads frames until it is between two messages.
func (k *socket) message(s *wire.Session, buf []byte) (closed bool, err error) {
	for {
		a, message, control, err := k.in.Next(buf)
		if err != nil {
			return false, err
		}
		buf = message
		s.Heard()
		switch a {
		case edge.ArrivedClose:
			s.End(presence.CauseClosed, wire.Status(edge.CloseReply(control)), "")
			return true, nil
		case edge.ArrivedPing:
			s.Answer(func(b *wire.Batch) { appendFrame(b, edge.OpPong, control) })
		case edge.ArrivedBinary:
			s.Reject(wire.Binary)
		case edge.ArrivedTooLarge:
			s.Reject(wire.TooLarge)
		case edge.ArrivedMessage:
			s.Receive(message)
		default:
			s.Answer(func(*wire.Batch) {}) // it counts
		}
		if !k.in.Partial() {
			return false, nil
		}
	}
}

// framing encodes messages as frames of a WebSocket.
type framing struct{}

func (framing) Streams() bool { return false }

func (framing) Message(b *wire.Batch, payload []byte, _ wire.Position) {
	appendFrame(b, edge.OpText, payload)
}

func (framing) Ping(b *wire.Batch) { appendFrame(b, edge.OpPing, nil) }

func (framing) Close(b *wire.Batch, status wire.Status, reason string) {
	appendFrame(b, edge.OpClose, edge.CloseBody(int(status), reason))
}

// appendFrame appends one frame from the server to a batch.
func appendFrame(b *wire.Batch, op edge.Opcode, payload []byte) {
	var head [10]byte
	b.Append(edge.AppendHead(head[:0], op, len(payload)))
	_, _ = b.Write(payload)
}
