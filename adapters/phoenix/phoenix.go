// Package phoenix lets front ends written for Phoenix Channels, or for
// Supabase Realtime, show presence: the Socket, Channel and Presence of the npm
// packages phoenix (from 1.2) and @supabase/realtime-js (from 2.0) work
// unchanged.
//
//	handler, err := phoenix.NewHandler(tracker, &phoenix.Options{Authenticate: authenticate})
//	http.Handle("/socket/websocket", handler)
//
// A topic is a channel of the tracker. A client that joins one receives its
// members as presence_state, and each change as presence_diff. README.md
// describes members and events.
//
// # Presence is of people, not of topics
//
// Membership follows from grants. An agent counts as connected while its socket
// has joined any topic. Under the Supabase dialect it counts while it tracks
// itself on any topic. Visitors and systems only watch, and are never members.
//
// # Limits
//
// Everything that a client can grow has a limit. Messages that arrive too fast
// are not dropped: they wait, unread, at the sender. A client that takes
// nothing for [Options.WriteTimeout], or sends nothing for
// [Options.IdleTimeout], is lost.
package phoenix

import (
	"cmp"
	"context"
	"encoding/base64"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/presence-go/presence"
	"github.com/presence-go/presence/adapters/internal/edge"
)

// Dialect names the clients that a handler serves.
type Dialect uint8

// The dialects.
const (
	// Phoenix is for the npm package phoenix and its ports.
	Phoenix Dialect = iota
	// Supabase is for @supabase/realtime-js. Mount the handler at
	// /realtime/v1/websocket.
	Supabase
)

// Credentials are what a client gives to authenticate.
type Credentials struct {
	Request *http.Request // that opened the socket
	Params  url.Values    // the params of the client's Socket
	// Token is the socket's authToken or its param "token"; under the Supabase
	// dialect the access_token of a join, or the apikey without one.
	Token string
}

// Options configures a [Handler]. Authenticate is needed; the zero value of
// every other field means its default.
type Options struct {
	// Authenticate returns who opens a socket or, under the Supabase dialect,
	// joins with another access token than before. Give each visitor an id of
	// its own, since sockets are counted by id. An error refuses with status
	// 401, one that wraps [presence.ErrNotAllowed] with 403 and its text, one
	// that wraps [presence.ErrUnavailable] with 503. An actor without an id is
	// logged and answered with 500. A join is refused with the same words.
	Authenticate func(Credentials) (presence.Identity, error)
	Dialect      Dialect
	// Channel returns the channel of a topic, or "" for none. nil means the topic
	// itself, under the Supabase dialect without its "realtime:".
	Channel func(topic string) string
	// Absent shows offline members too, with the status that the policy gives
	// them. By default members whose class is offline are not shown.
	Absent bool
	// AllowedOrigins lists the origins whose pages may open sockets beside
	// pages of the request's own host, as "https://app.example.com". "*" allows
	// every page: use it with tokens only, since with cookies any page could
	// act for its visitor. Only Authenticate decides on a request that no page
	// makes.
	AllowedOrigins []string

	// MaxMessage is the longest message taken from a client, in bytes. A longer
	// one closes the socket with 1009. 0 means 16384.
	MaxMessage int
	// MessagesPerSecond and Burst limit how fast a socket is read. 0 means 20 a
	// second and bursts of 100.
	MessagesPerSecond float64
	Burst             int
	// MaxTopics is the number of topics that a socket may join. 0 means 32.
	MaxTopics int
	// MaxSockets limits the open sockets in all, MaxSocketsPerSubject those of
	// one subject or visitor. 0 means 100,000 and 32.
	MaxSockets           int
	MaxSocketsPerSubject int

	// WriteTimeout is how long a client may take to accept a message before its
	// connection counts as lost. 0 means 10s.
	WriteTimeout time.Duration
	// IdleTimeout is how long a client may send nothing. Clients send a heartbeat
	// every 25 or 30 seconds, old ones in hidden tabs every minute. 0 means 90s.
	IdleTimeout time.Duration
	// Logger logs failures in the background; nil discards them.
	Logger *slog.Logger
}

// Handler serves the sockets of one tracker. It is safe for concurrent use.
type Handler struct {
	t       *presence.Tracker
	opts    Options
	log     *slog.Logger
	origins *edge.Origins
	seats   *edge.Seats

	mu      sync.Mutex
	sockets map[*socket]bool
	rooms   map[roomKey]*room
	closed  bool
	running sync.WaitGroup
}

// NewHandler returns a handler that serves sockets for a tracker; nil options
// mean zero ones. It returns all faults of the options together. Close it
// before the HTTP server to end its goroutines; the example of package ws shows
// the order.
func NewHandler(t *presence.Tracker, opts *Options) (*Handler, error) {
	o := Options{}
	if opts != nil {
		o = *opts
	}
	faults := edge.NewFaults("phoenix")
	faults.Tracker(t)
	if o.Authenticate == nil {
		faults.Add("Authenticate", "it is needed, to find who opens a socket")
	}
	if o.Dialect > Supabase {
		faults.Add("Dialect", "%d is neither Phoenix nor Supabase", o.Dialect)
	}
	edge.AtLeast(faults, "MaxMessage", &o.MaxMessage, 16384, 256)
	edge.AtLeast(faults, "MessagesPerSecond", &o.MessagesPerSecond, 20, 0.1)
	edge.AtLeast(faults, "Burst", &o.Burst, 100, 1)
	edge.AtLeast(faults, "MaxTopics", &o.MaxTopics, 32, 1)
	edge.AtLeast(faults, "MaxSockets", &o.MaxSockets, 100_000, 1)
	edge.AtLeast(faults, "MaxSocketsPerSubject", &o.MaxSocketsPerSubject, presence.MaxConnections, 1)
	edge.AtLeast(faults, "WriteTimeout", &o.WriteTimeout, 10*time.Second, 1)
	edge.AtLeast(faults, "IdleTimeout", &o.IdleTimeout, 90*time.Second, 1)
	origins := edge.NewOrigins(faults, "AllowedOrigins", o.AllowedOrigins)
	if err := faults.Err(); err != nil {
		return nil, err
	}
	if o.Channel == nil {
		o.Channel = func(topic string) string { return topic }
		if o.Dialect == Supabase {
			o.Channel = func(topic string) string { return strings.TrimPrefix(topic, "realtime:") }
		}
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return &Handler{
		t: t, opts: o, log: o.Logger, origins: origins,
		seats:   edge.NewSeats("phoenix", "sockets", o.MaxSockets, o.MaxSocketsPerSubject),
		sockets: make(map[*socket]bool), rooms: make(map[roomKey]*room),
	}, nil
}

// ServeHTTP opens a socket. It refuses any other request with a status and a
// text that names the reason.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if _, refused := h.origins.Check(r); refused != nil {
		refused.Text = "phoenix: " + refused.Text
		refused.Answer(w)
		return
	}
	if !edge.CanUpgrade("phoenix", h.log, w, r) {
		return
	}
	params := r.URL.Query()
	form, ok := serializerOf(params.Get("vsn"))
	if !ok {
		http.Error(w, fmt.Sprintf("phoenix: invalid vsn %.80q; allowed: 1.0.0, 2.0.0, or none, which means 1.0.0", params.Get("vsn")), http.StatusBadRequest)
		return
	}
	params.Del("vsn")
	c := Credentials{Request: r, Params: params, Token: cmp.Or(subprotocolToken(r), params.Get("token"))}
	if h.opts.Dialect == Supabase {
		c.Token = params.Get("apikey")
	}
	actor, refused := h.authenticate(c)
	if refused == nil {
		refused = h.seats.Take(actor.Subject)
	}
	if refused != nil {
		refused.Answer(w)
		return
	}
	conn, early, err := edge.Upgrade(w, r, h.opts.WriteTimeout, "phoenix")
	if err != nil {
		h.seats.Give(actor.Subject)
		h.log.Debug("phoenix: handshake", "remote", r.RemoteAddr, "error", err)
		return
	}
	h.adopt(newSocket(h, actor, c, form, conn, early))
}

// authenticate returns whose credentials these are, or refuses them.
func (h *Handler) authenticate(c Credentials) (presence.Actor, *edge.Refusal) {
	who, err := h.opts.Authenticate(c)
	who, refused := edge.CheckActor("phoenix", h.log, c.Request, who, err)
	return who.Actor, refused
}

// subprotocolToken returns the token that newer clients send as a subprotocol,
// which keeps it out of logs of addresses.
func subprotocolToken(r *http.Request) string {
	for name := range edge.Words(r.Header, "Sec-WebSocket-Protocol") {
		encoded, found := strings.CutPrefix(name, "base64url.bearer.phx.")
		if !found {
			continue
		}
		encoded = strings.NewReplacer("+", "-", "/", "_", "=", "").Replace(encoded)
		if token, err := base64.RawURLEncoding.DecodeString(encoded); err == nil {
			return string(token)
		}
	}
	return ""
}

// adopt starts a socket.
func (h *Handler) adopt(s *socket) {
	h.mu.Lock()
	if h.closed {
		h.mu.Unlock()
		s.end(presence.CauseDrain, statusGoingAway, edge.ShuttingDown)
		edge.HangUp(s.conn, &s.in, false)
		h.seats.Give(s.actor.Subject)
		return
	}
	h.sockets[s] = true
	h.running.Go(s.run)
	h.mu.Unlock()
}

// remove forgets a socket that has ended.
func (h *Handler) remove(s *socket) {
	h.mu.Lock()
	delete(h.sockets, s)
	h.mu.Unlock()
	h.seats.Give(s.actor.Subject)
}

// Sockets returns the number of open sockets.
func (h *Handler) Sockets() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.sockets)
}

// Shutdown ends every socket and opens no more. It sends status 1001, after
// which clients connect again. Their connections leave with the cause drain. It
// waits until every socket has ended. When ctx is done, it cuts the others off
// and returns the cause of ctx's end. It returns [presence.ErrClosed] if the
// handler was closed before.
func (h *Handler) Shutdown(ctx context.Context) error {
	h.mu.Lock()
	if h.closed {
		h.mu.Unlock()
		return fmt.Errorf("phoenix: %w handler: it has been closed before", presence.ErrClosed)
	}
	h.closed = true
	list := make([]*socket, 0, len(h.sockets))
	for s := range h.sockets {
		list = append(list, s)
		h.running.Go(func() { s.end(presence.CauseDrain, statusGoingAway, edge.ShuttingDown) })
	}
	h.mu.Unlock()
	h.seats.Close()
	return edge.Await(ctx, h.running.Wait, func() {
		for _, s := range list {
			s.conn.Close()
		}
	})
}

// Close is Shutdown with a limit of one second.
func (h *Handler) Close() error { return edge.Close(h.Shutdown) }
