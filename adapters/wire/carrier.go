package wire

import (
	"container/heap"
	"net"
	"net/http"

	"github.com/presence-go/presence"
	"github.com/presence-go/presence/adapters/internal/edge"
)

// Carrier gives a transport what it needs of a [Server]. It is safe for
// concurrent use.
type Carrier struct{ h *Server }

// Carrier returns the server's side for transports.
func (h *Server) Carrier() *Carrier { return &h.carrier }

// Options returns the options in force, with their defaults.
func (c *Carrier) Options() Options { return c.h.opts }

// CheckOrigin reports whether the page that makes a request may make it, by
// [Options.AllowedOrigins]. Otherwise it refuses the request. It lets an
// allowed page of another host read the answer.
func (c *Carrier) CheckOrigin(w http.ResponseWriter, r *http.Request) bool {
	foreign, refused := c.h.origins.Check(r)
	if refused != nil {
		refused.Text = "wire: " + refused.Text
		c.h.refuse(w, refused)
		return false
	}
	if foreign != "" {
		w.Header().Set("Access-Control-Allow-Origin", foreign)
		w.Header().Set("Access-Control-Allow-Credentials", "true")
	}
	if r.Header.Get("Origin") != "" {
		w.Header().Add("Vary", "Origin")
	}
	return true
}

// refuse answers a request that is refused.
func (h *Server) refuse(w http.ResponseWriter, refused *edge.Refusal) {
	h.refusals.Add(1)
	if refused.Status == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", "Bearer")
	}
	refused.Answer(w)
}

// authenticate returns who makes a request, or refuses the request.
func (h *Server) authenticate(w http.ResponseWriter, r *http.Request) (presence.Identity, bool) {
	who, err := h.opts.Authenticate(r)
	who, refused := edge.CheckActor("wire", h.log, r, who, err)
	if refused != nil {
		h.refuse(w, refused)
		return who, false
	}
	return who, true
}

// Admit returns who makes a request and takes a seat for a session, or refuses
// the request. Pass its answer to [Carrier.Open] or [Carrier.Release].
func (c *Carrier) Admit(w http.ResponseWriter, r *http.Request) (presence.Identity, bool) {
	who, ok := c.h.authenticate(w, r)
	if !ok {
		return who, false
	}
	if full := c.h.seats.Take(who.Actor.Subject); full != nil {
		c.h.refuse(w, full)
		return who, false
	}
	return who, true
}

// Release gives back the seat of a client for which no session was opened.
func (c *Carrier) Release(who presence.Identity) { c.h.seats.Give(who.Actor.Subject) }

// Open starts a session for a client that Admit let in. The connection belongs
// to the session from now on. Open calls wait in a goroutine of its own, or in
// the caller's if inline. wait gives the session what the client sends, and
// returns once the connection is closed.
func (c *Carrier) Open(who presence.Identity, conn Conn, framing Framing, inline bool, wait func(*Session)) {
	h, now := c.h, c.h.since(c.h.t.Now())
	s := &Session{h: h, actor: who.Actor, conn: conn, raw: rawConn(conn), framing: framing, bucket: edge.NewBucket(now, h.opts.Burst), due: now + h.opts.HelloTimeout}
	s.parts.Store(2)
	h.mu.Lock()
	if h.closed {
		s.place = -1
		h.mu.Unlock()
		s.End(presence.CauseDrain, StatusGoingAway, edge.ShuttingDown)
		if socket, ok := conn.(net.Conn); ok && !framing.Streams() {
			edge.HangUp(socket, nil, false)
		}
		conn.Close()
		s.Detach()
		return
	}
	heap.Push(&h.sessions, s)
	if inline {
		h.running.Add(1)
	} else {
		h.running.Go(func() { wait(s) })
	}
	h.mu.Unlock()
	h.nudge()
	if inline {
		defer h.running.Done()
		wait(s)
	}
}

// SweepAt is [Server.Sweep] at an instant, so that a measurement can send pings
// before they are due.
func (c *Carrier) SweepAt(now presence.Instant) { c.h.sweep(now) }

// Go runs a function of a session in a goroutine that [Server.Shutdown] waits for.
func (c *Carrier) Go(f func()) { c.h.running.Go(f) }

// Work is Go for a short function that needs a large stack. An idle goroutine
// that did such work before runs it: a fresh stack would have to grow first,
// which takes longer than most such work.
func (c *Carrier) Work(f func()) {
	h := c.h
	select {
	case h.work <- f:
	default:
		h.running.Go(func() { h.worker(f) })
	}
}

// maxIdle is the number of workers that may wait for work.
const maxIdle = 16

func (h *Server) worker(f func()) {
	for {
		f()
		f = nil // frees what f refers to
		if h.idle.Add(1) <= maxIdle {
			select {
			case f = <-h.work:
			case <-h.stopped.Done():
			}
		}
		h.idle.Add(-1)
		if f == nil {
			return
		}
	}
}
