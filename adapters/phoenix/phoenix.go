// Package phoenix lets front ends written for Phoenix Channels, or for
// Supabase Realtime, show presence: the Socket, Channel and Presence of the npm
// packages phoenix and @supabase/realtime-js work as they are.
//
//	handler, err := phoenix.NewHandler(tracker, phoenix.Options{Authenticate: whoIsIt})
//	http.Handle("/socket/websocket", handler)
//
// A topic is a channel of the tracker. Who joins one receives its members as
// presence_state, and every change as presence_diff. README.md says what a
// member looks like and what can be pushed.
//
// # Presence is of people, not of topics
//
// Membership follows from grants, as everywhere. An agent counts as connected
// while its socket has joined any topic, under the Supabase dialect while it
// tracks itself on any; visitors and systems only watch, and nobody sees them.
//
// # Bounds
//
// Whatever a client can make grow has a bound. What comes too fast is not
// dropped but waits, unread, at the sender. A client that takes nothing for
// [Options.WriteTimeout], or says nothing for [Options.IdleTimeout], is lost.
package phoenix

import (
	"bytes"
	"cmp"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	gobwas "github.com/gobwas/ws"

	"github.com/presence-go/presence"
)

// Dialect says which clients are spoken to.
type Dialect uint8

// The dialects.
const (
	// Phoenix is for the npm package phoenix and its ports.
	Phoenix Dialect = iota
	// Supabase is for @supabase/realtime-js. Mount the handler at
	// /realtime/v1/websocket.
	Supabase
)

// Credentials are what a client offers to say who it is.
type Credentials struct {
	Request *http.Request // that opened the socket
	Params  url.Values    // the params that the client gave its Socket
	// Token is the socket's authToken or its param "token"; under the Supabase
	// dialect the access_token of a join, and the apikey where there is none.
	Token string
}

// Options configures a [Handler]. Authenticate is needed; the zero value of
// every other field stands for its default.
type Options struct {
	// Authenticate says who opens a socket or, under the Supabase dialect, joins
	// with another access token than before. Give every visitor an id of its own,
	// since sockets are counted by it. An error refuses with status 401, one that
	// wraps [presence.ErrNotAllowed] with 403 and its text, one that wraps
	// [presence.ErrUnavailable] with 503; a join is refused with the same words.
	Authenticate func(Credentials) (presence.Actor, error)
	Dialect      Dialect
	// Channel names the channel of a topic, or "" for none. nil means the topic
	// itself, under the Supabase dialect without its "realtime:".
	Channel func(topic string) string
	// Absent shows members who are not there as well, with the status that the
	// policy gives them, instead of only those whose status is not offline.
	Absent bool
	// AllowedOrigins lists the origins, such as "https://app.example.com", whose
	// pages may open sockets beside those of the host itself; "*" allows all of
	// them. A request without an Origin header does not come from a page and is
	// left to Authenticate.
	AllowedOrigins []string

	// MaxMessage is the longest message taken from a client, in bytes; a longer
	// one closes the socket with 1009. 0 means 16384.
	MaxMessage int
	// MessagesPerSecond and Burst bound how fast a socket is read. 0 means 20 a
	// second and bursts of 100.
	MessagesPerSecond float64
	Burst             int
	// MaxTopics is how many topics a socket may join. 0 means 32.
	MaxTopics int
	// MaxSockets bounds the open sockets in all, MaxSocketsPerSubject those of
	// one subject or visitor. 0 means 100,000 and 32.
	MaxSockets           int
	MaxSocketsPerSubject int

	// WriteTimeout is how long a client may take to accept a message before its
	// connection counts as lost. 0 means 10s.
	WriteTimeout time.Duration
	// IdleTimeout is how long a socket may say nothing. Clients send a heartbeat
	// every 25 or 30 seconds, old ones in hidden tabs every minute. 0 means 90s.
	IdleTimeout time.Duration
	// Logger receives what goes wrong in the background; nil discards it.
	Logger *slog.Logger
}

// closeTimeout is how long a client may take to answer a close frame.
const closeTimeout = time.Second

const shuttingDown = "the server is shutting down"

// Handler serves the sockets of one tracker. It is safe for concurrent use.
type Handler struct {
	t       *presence.Tracker
	opts    Options
	log     *slog.Logger
	origins map[string]bool

	mu        sync.Mutex
	open      int // sockets and requests about to become one
	bySubject map[presence.Ref]int
	sockets   map[*socket]bool
	rooms     map[roomKey]*room
	closed    bool
	running   sync.WaitGroup
}

// NewHandler returns a handler that serves sockets for a tracker. It reports
// every fault of the options together. Close it to end its goroutines.
func NewHandler(t *presence.Tracker, opts Options) (*Handler, error) {
	var faults []error
	fault := func(format string, args ...any) {
		faults = append(faults, fmt.Errorf("phoenix: option "+format, args...))
	}
	if t == nil {
		faults = append(faults, errors.New("phoenix: a tracker is needed"))
	}
	if opts.Authenticate == nil {
		fault("Authenticate: it is needed, to say who opens a socket")
	}
	if opts.Dialect > Supabase {
		fault("Dialect: %d is neither Phoenix nor Supabase", opts.Dialect)
	}
	h := &Handler{
		t: t, log: opts.Logger, origins: make(map[string]bool),
		bySubject: make(map[presence.Ref]int), sockets: make(map[*socket]bool), rooms: make(map[roomKey]*room),
	}
	for i, origin := range opts.AllowedOrigins {
		normal, ok := normalOrigin(origin)
		if !ok {
			fault("AllowedOrigins[%d]: %q is neither \"*\" nor scheme://host[:port]", i, origin)
		}
		h.origins[normal] = true
	}
	atLeast(fault, "MaxMessage", &opts.MaxMessage, 16384, 256)
	atLeast(fault, "MessagesPerSecond", &opts.MessagesPerSecond, 20, 0.1)
	atLeast(fault, "Burst", &opts.Burst, 100, 1)
	atLeast(fault, "MaxTopics", &opts.MaxTopics, 32, 1)
	atLeast(fault, "MaxSockets", &opts.MaxSockets, 100_000, 1)
	atLeast(fault, "MaxSocketsPerSubject", &opts.MaxSocketsPerSubject, presence.MaxConnections, 1)
	atLeast(fault, "WriteTimeout", &opts.WriteTimeout, 10*time.Second, 1)
	atLeast(fault, "IdleTimeout", &opts.IdleTimeout, 90*time.Second, 1)
	if err := errors.Join(faults...); err != nil {
		return nil, err
	}
	if opts.Channel == nil {
		opts.Channel = func(topic string) string { return topic }
		if opts.Dialect == Supabase {
			opts.Channel = func(topic string) string { return strings.TrimPrefix(topic, "realtime:") }
		}
	}
	if h.log == nil {
		h.log = slog.New(slog.DiscardHandler)
	}
	h.opts = opts
	return h, nil
}

// atLeast fills in the default of an option, or notes that it is too small.
func atLeast[T cmp.Ordered](fault func(string, ...any), name string, v *T, byDefault, least T) {
	var zero T
	switch {
	case *v == zero:
		*v = byDefault
	case *v < least:
		fault("%s: %v is too small, at least %v is needed", name, *v, least)
	}
}

// normalOrigin returns an origin as it is compared.
func normalOrigin(origin string) (string, bool) {
	if origin == "*" {
		return origin, true
	}
	u, err := url.Parse(origin)
	if err != nil || u.Scheme == "" || u.Host == "" || u.User != nil || u.Path != "" || u.RawQuery != "" || u.Fragment != "" {
		return "", false
	}
	return strings.ToLower(u.Scheme + "://" + u.Host), true
}

// allowedOrigin reports whether the page that makes a request may open sockets.
func (h *Handler) allowedOrigin(r *http.Request) bool {
	given := r.Header.Get("Origin")
	if given == "" || h.origins["*"] {
		return true
	}
	origin, ok := normalOrigin(given)
	if !ok {
		return false
	}
	_, host, _ := strings.Cut(origin, "://")
	return h.origins[origin] || strings.EqualFold(host, r.Host)
}

// ServeHTTP opens a socket. What does not become one is refused with a status
// and a text that says why.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !h.allowedOrigin(r) {
		http.Error(w, fmt.Sprintf("phoenix: pages of origin %q may not open sockets here; pages of this host may, and those of the origins the server was configured with", r.Header.Get("Origin")), http.StatusForbidden)
		return
	}
	if !strings.EqualFold(r.Header.Get("Upgrade"), "websocket") {
		w.Header().Set("Upgrade", "websocket")
		w.Header().Set("Connection", "Upgrade")
		http.Error(w, "phoenix: this is for WebSockets; there is no long polling", http.StatusUpgradeRequired)
		return
	}
	params := r.URL.Query()
	if vsn := params.Get("vsn"); !strings.HasPrefix(vsn, "2.") {
		http.Error(w, fmt.Sprintf("phoenix: vsn %q is not spoken here, 2.0.0 is", vsn), http.StatusBadRequest)
		return
	}
	params.Del("vsn")
	c := Credentials{Request: r, Params: params, Token: cmp.Or(subprotocolToken(r), params.Get("token"))}
	if h.opts.Dialect == Supabase {
		c.Token = params.Get("apikey")
	}
	actor, err := h.opts.Authenticate(c)
	if err != nil {
		h.log.Debug("phoenix: not authenticated", "remote", r.RemoteAddr, "error", err)
		f := authFault(err)
		http.Error(w, f.text, f.status())
		return
	}
	if status, why := h.reserve(actor.Subject); why != "" {
		http.Error(w, why, status)
		return
	}
	upgrader := gobwas.HTTPUpgrader{Timeout: h.opts.WriteTimeout, Protocol: func(name string) bool { return name == "phoenix" }}
	conn, rw, _, err := upgrader.Upgrade(r, w)
	if err != nil {
		h.release(actor.Subject)
		if conn != nil {
			conn.Close()
		}
		h.log.Debug("phoenix: handshake", "remote", r.RemoteAddr, "error", err)
		return
	}
	early, _ := rw.Reader.Peek(rw.Reader.Buffered())
	h.adopt(newSocket(h, actor, c, conn, bytes.Clone(early)))
}

// subprotocolToken reads the token that newer clients send as a subprotocol, so
// that it does not end up in logs of addresses.
func subprotocolToken(r *http.Request) string {
	for _, list := range r.Header.Values("Sec-WebSocket-Protocol") {
		for name := range strings.SplitSeq(list, ",") {
			encoded, found := strings.CutPrefix(strings.TrimSpace(name), "base64url.bearer.phx.")
			if !found {
				continue
			}
			encoded = strings.NewReplacer("+", "-", "/", "_", "=", "").Replace(encoded)
			if token, err := base64.RawURLEncoding.DecodeString(encoded); err == nil {
				return string(token)
			}
		}
	}
	return ""
}

// reserve makes room for a socket, or says why there is none.
func (h *Handler) reserve(subject presence.Ref) (status int, why string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.closed:
		return http.StatusServiceUnavailable, "phoenix: " + shuttingDown
	case h.open >= h.opts.MaxSockets:
		return http.StatusServiceUnavailable, fmt.Sprintf("phoenix: %d sockets are open, which is all there may be", h.open)
	case h.bySubject[subject] >= h.opts.MaxSocketsPerSubject:
		return http.StatusTooManyRequests, fmt.Sprintf("phoenix: %s has %d sockets open, which is all it may have", subject, h.bySubject[subject])
	}
	h.open++
	h.bySubject[subject]++
	return 0, ""
}

func (h *Handler) release(subject presence.Ref) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.open--
	if h.bySubject[subject]--; h.bySubject[subject] == 0 {
		delete(h.bySubject, subject)
	}
}

// pass counts a socket for another subject than before, if that one has room.
func (h *Handler) pass(from, to presence.Ref) error {
	if from == to {
		return nil
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.bySubject[to] >= h.opts.MaxSocketsPerSubject {
		return faultf(wordLimit, "%s has %d sockets open, which is all it may have", to, h.bySubject[to])
	}
	h.bySubject[to]++
	if h.bySubject[from]--; h.bySubject[from] == 0 {
		delete(h.bySubject, from)
	}
	return nil
}

// adopt starts a socket.
func (h *Handler) adopt(s *socket) {
	h.mu.Lock()
	if h.closed {
		h.mu.Unlock()
		s.end(presence.CauseDrain, gobwas.StatusGoingAway, shuttingDown)
		s.conn.Close()
		h.release(s.actor.Subject)
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
	h.release(s.actor.Subject)
}

// Sockets returns how many sockets are open.
func (h *Handler) Sockets() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.sockets)
}

// Shutdown ends every socket as planned: clients are told to come back, their
// connections are drained, and no socket is opened any more. It waits until all
// have gone; those still there when ctx is done are cut off. It returns the
// cause of ctx's end in that case, and an error wrapping [presence.ErrClosed]
// if the handler was closed before.
func (h *Handler) Shutdown(ctx context.Context) error {
	h.mu.Lock()
	if h.closed {
		h.mu.Unlock()
		return fmt.Errorf("phoenix: %w: the handler has been closed before", presence.ErrClosed)
	}
	h.closed = true
	list := make([]*socket, 0, len(h.sockets))
	for s := range h.sockets {
		list = append(list, s)
		h.running.Go(func() { s.end(presence.CauseDrain, gobwas.StatusGoingAway, shuttingDown) })
	}
	h.mu.Unlock()
	cut := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(cut)
		for _, s := range list {
			s.conn.Close()
		}
	})
	h.running.Wait()
	if stop() {
		return nil
	}
	<-cut
	return context.Cause(ctx)
}

// Close is Shutdown with little patience: clients have a second to go.
func (h *Handler) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	err := h.Shutdown(ctx)
	if errors.Is(err, presence.ErrClosed) {
		return err
	}
	return nil
}
