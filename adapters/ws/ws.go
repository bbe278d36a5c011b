// Package ws is the endpoint that browsers talk to: presence over WebSockets,
// in the JSON protocol that PROTOCOL.md describes.
//
//	handler, err := ws.NewHandler(tracker, ws.Options{Authenticate: whoIsIt})
//	http.Handle("/presence", handler)
//	server.RegisterOnShutdown(func() { handler.Close() })
//
// The handler decides nothing: it turns messages into calls of a
// [presence.Tracker] and frames of its watches into messages. Agents,
// supervisors and admins get a connection that counts; visitors and systems
// only watch.
//
// # Liveness
//
// The server sends a ping of the application, which the page answers from its
// own message handler. Only that is a heartbeat: a browser answers the pings of
// the WebSocket protocol for a page that is frozen.
//
// # Bounds
//
// Whatever a client can make grow has a bound, and whoever reaches it is told.
// A socket is closed only when it goes on doing wrong, takes nothing for
// [Options.WriteTimeout], or is silent in every respect.
//
// # Memory
//
// A socket that idles keeps a buffer of 128 bytes and, to wait with, a goroutine
// on a fresh stack, and one more for each watch. A frame is encoded once,
// however many sockets it goes to.
package ws

import (
	"bytes"
	"cmp"
	"container/heap"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	gobwas "github.com/gobwas/ws"

	"github.com/presence-go/presence"
)

// Options configures a [Handler]. Authenticate is needed; the zero value of
// every other field stands for its default.
type Options struct {
	// Authenticate says who opens a socket, from the cookies or the token of the
	// request. Give every visitor an id of its own, since sockets are counted by
	// it. An error refuses the socket with status 401, one that wraps
	// [presence.ErrNotAllowed] with 403 and its text, one that wraps
	// [presence.ErrUnavailable] with 503.
	Authenticate func(*http.Request) (presence.Actor, error)
	// AllowedOrigins lists the origins, such as "https://app.example.com", whose
	// pages may open sockets beside those of the host itself; "*" allows all of
	// them. A request without an Origin header does not come from a page and is
	// left to Authenticate.
	AllowedOrigins []string

	// MaxMessage is the longest message taken from a client, in bytes. 0 means 4096.
	MaxMessage int
	// MessagesPerSecond and Burst bound how fast a socket's messages are
	// processed; what comes faster is dropped, and the client told. 0 means 20
	// a second and bursts of 40.
	MessagesPerSecond float64
	Burst             int
	// MaxChannels is how many channels a socket may watch. 0 means 32.
	MaxChannels int
	// MaxSockets bounds the open sockets in all, MaxSocketsPerSubject those of
	// one subject or visitor. 0 means 100,000 and 32.
	MaxSockets           int
	MaxSocketsPerSubject int

	// WriteTimeout is how long a client may take to accept a message before its
	// connection counts as lost. It is real time. 0 means 10s.
	WriteTimeout time.Duration
	// HelloTimeout is how long a socket may stay open without a valid hello. 0
	// means 10s.
	HelloTimeout time.Duration
	// PingInterval is the time between two pings and so between two heartbeats.
	// It must be shorter than the policy's lease. 0 means the heartbeat of the
	// policy of the subject's tenant.
	PingInterval time.Duration

	// Now is the source of time for pings and rates; nil means the real clock.
	// With a clock of your own, give its Now and call [Handler.Sweep] whenever
	// you moved it, since nothing else then sends pings.
	Now func() time.Time
	// Logger receives what goes wrong in the background; nil discards it.
	Logger *slog.Logger
}

const (
	// faultsPerMinute is how much a client may do wrong before its socket is closed.
	faultsPerMinute = 20
	// silentPings is how many pings in a row may meet with complete silence, the
	// protocol's own pings included. They are counted rather than timed, so that
	// a process that stood still blames nobody.
	silentPings = 3
	// closeTimeout is how long a client may take to answer a close frame.
	closeTimeout = time.Second
	// maxOversize is how many times MaxMessage is read and thrown away in order
	// to keep a socket whose message was too long.
	maxOversize = 16
	// maxRef is the longest reference a client may give a message, in bytes.
	maxRef = 64
)

const shuttingDown = "the server is shutting down"

// StatusReplaced is the status with which a socket is closed whose connection
// was resumed over another one. If its page goes on at all, then under another
// connection id.
const StatusReplaced = 4009

// Handler serves the sockets of one tracker. It is safe for concurrent use.
type Handler struct {
	t       *presence.Tracker
	opts    Options
	log     *slog.Logger
	origins map[string]bool

	mu        sync.Mutex
	open      int // sockets and requests about to become one
	bySubject map[presence.Ref]int
	byConn    map[connKey]*socket
	sockets   dueHeap
	closed    bool

	wake    chan struct{}
	stopped context.Context
	stop    context.CancelFunc
	running sync.WaitGroup
}

// connKey names a connection of a subject.
type connKey struct {
	subject presence.Ref
	conn    string
}

// NewHandler returns a handler that serves sockets for a tracker. It reports
// every fault of the options together. Close it to end its goroutines.
func NewHandler(t *presence.Tracker, opts Options) (*Handler, error) {
	var faults []error
	fault := func(format string, args ...any) {
		faults = append(faults, fmt.Errorf("ws: option "+format, args...))
	}
	if t == nil {
		faults = append(faults, errors.New("ws: a tracker is needed"))
	}
	if opts.Authenticate == nil {
		fault("Authenticate: it is needed, to say who opens a socket")
	}
	h := &Handler{
		t: t, log: opts.Logger, origins: make(map[string]bool),
		bySubject: make(map[presence.Ref]int), byConn: make(map[connKey]*socket),
		wake: make(chan struct{}, 1),
	}
	for i, origin := range opts.AllowedOrigins {
		normal, ok := normalOrigin(origin)
		if !ok {
			fault("AllowedOrigins[%d]: %q is neither \"*\" nor scheme://host[:port]", i, origin)
		}
		h.origins[normal] = true
	}
	atLeast(fault, "MaxMessage", &opts.MaxMessage, 4096, 256)
	atLeast(fault, "MessagesPerSecond", &opts.MessagesPerSecond, 20, 0.1)
	atLeast(fault, "Burst", &opts.Burst, 40, 1)
	atLeast(fault, "MaxChannels", &opts.MaxChannels, 32, 1)
	atLeast(fault, "MaxSockets", &opts.MaxSockets, 100_000, 1)
	atLeast(fault, "MaxSocketsPerSubject", &opts.MaxSocketsPerSubject, presence.MaxConnections, 1)
	atLeast(fault, "WriteTimeout", &opts.WriteTimeout, 10*time.Second, 1)
	atLeast(fault, "HelloTimeout", &opts.HelloTimeout, 10*time.Second, 1)
	if opts.PingInterval != 0 {
		atLeast(fault, "PingInterval", &opts.PingInterval, 0, 1)
		if t != nil && opts.PingInterval >= t.Policy("").Lease {
			fault("PingInterval: %v is not shorter than the policy's lease of %v", opts.PingInterval, t.Policy("").Lease)
		}
	}
	if err := errors.Join(faults...); err != nil {
		return nil, err
	}
	if h.log == nil {
		h.log = slog.New(slog.DiscardHandler)
	}
	h.stopped, h.stop = context.WithCancel(context.Background())
	drive := opts.Now == nil
	if drive {
		opts.Now = time.Now
	}
	h.opts = opts
	if drive {
		h.running.Go(h.drive)
	}
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
		http.Error(w, fmt.Sprintf("ws: pages of origin %q may not open sockets here; pages of this host may, and those of the origins the server was configured with", r.Header.Get("Origin")), http.StatusForbidden)
		return
	}
	if !strings.EqualFold(r.Header.Get("Upgrade"), "websocket") {
		w.Header().Set("Upgrade", "websocket")
		w.Header().Set("Connection", "Upgrade")
		http.Error(w, "ws: this is for WebSockets", http.StatusUpgradeRequired)
		return
	}
	actor, err := h.opts.Authenticate(r)
	if err != nil {
		h.refuse(w, r, err)
		return
	}
	if status, why := h.reserve(actor.Ref); why != "" {
		http.Error(w, why, status)
		return
	}
	// After an error the response has been written, and the connection is ours
	// where it could be taken over at all.
	conn, rw, _, err := (gobwas.HTTPUpgrader{Timeout: h.opts.WriteTimeout}).Upgrade(r, w)
	if err != nil {
		h.release(actor.Ref)
		if conn != nil {
			conn.Close()
		}
		h.log.Debug("ws: handshake", "remote", r.RemoteAddr, "error", err)
		return
	}
	// What the client sent early sits in a buffer that is not to be kept.
	early, _ := rw.Reader.Peek(rw.Reader.Buffered())
	h.adopt(newSocket(h, actor, conn, bytes.Clone(early)))
}

// refuse answers a request whose author is not known.
func (h *Handler) refuse(w http.ResponseWriter, r *http.Request, err error) {
	h.log.Debug("ws: not authenticated", "remote", r.RemoteAddr, "error", err)
	switch {
	case errors.Is(err, presence.ErrNotAllowed):
		http.Error(w, err.Error(), http.StatusForbidden)
	case errors.Is(err, presence.ErrUnavailable):
		http.Error(w, "ws: who you are cannot be told now, try again", http.StatusServiceUnavailable)
	default:
		http.Error(w, "ws: log in first", http.StatusUnauthorized)
	}
}

// reserve makes room for a socket, or says why there is none.
func (h *Handler) reserve(subject presence.Ref) (status int, why string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.closed:
		return http.StatusServiceUnavailable, "ws: " + shuttingDown
	case h.open >= h.opts.MaxSockets:
		return http.StatusServiceUnavailable, fmt.Sprintf("ws: %d sockets are open, which is all there may be", h.open)
	case h.bySubject[subject] >= h.opts.MaxSocketsPerSubject:
		return http.StatusTooManyRequests, fmt.Sprintf("ws: %s has %d sockets open, which is all it may have", subject, h.bySubject[subject])
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

// adopt starts a socket in a goroutine of its own, so that the large stack of
// the HTTP server's is given back.
func (h *Handler) adopt(s *socket) {
	now := h.opts.Now()
	h.mu.Lock()
	if h.closed {
		h.mu.Unlock()
		s.end(presence.CauseDrain, gobwas.StatusGoingAway, shuttingDown)
		s.conn.Close()
		h.release(s.actor.Ref)
		return
	}
	s.due = now.Add(h.opts.HelloTimeout)
	heap.Push(&h.sockets, s)
	h.running.Go(s.run)
	h.mu.Unlock()
	h.nudge()
}

// remove forgets a socket that has ended.
func (h *Handler) remove(s *socket) {
	h.mu.Lock()
	heap.Remove(&h.sockets, s.place)
	h.unbindLocked(s)
	h.mu.Unlock()
	h.release(s.actor.Ref)
}

// bind makes a socket the one of its connection and ends the one before, or
// reports false if a newer one has taken its place already.
func (h *Handler) bind(s *socket, id string, epoch uint32) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.unbindLocked(s)
	s.key, s.epoch = connKey{s.actor.Ref, id}, epoch
	old := h.byConn[s.key]
	if old != nil && old.epoch > epoch {
		return false
	}
	h.byConn[s.key] = s
	if old != nil {
		h.goLocked(func() { old.end("", StatusReplaced, "the connection goes on over another socket") })
	}
	return true
}

func (h *Handler) unbindLocked(s *socket) {
	if h.byConn[s.key] == s {
		delete(h.byConn, s.key)
	}
}

// schedule lets the pings of a socket begin, spread over half an interval so
// that those who came together are not all asked together.
func (h *Handler) schedule(s *socket, interval time.Duration) {
	now := h.opts.Now()
	h.mu.Lock()
	s.interval = interval
	s.due = now.Add(interval/2 + rand.N(interval/2+1))
	heap.Fix(&h.sockets, s.place)
	h.mu.Unlock()
	h.nudge()
}

// goLocked starts a goroutine unless the handler is closed, in which case
// everything ends anyway.
func (h *Handler) goLocked(f func()) {
	if !h.closed {
		h.running.Go(f)
	}
}

// Sockets returns how many sockets are open.
func (h *Handler) Sockets() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.sockets)
}

// Sweep sends the pings that are due and ends the sockets whose time is over.
// The handler calls it by itself unless it was given a clock. It does not wait
// for the pings to be written.
func (h *Handler) Sweep() { h.sweep() }

func (h *Handler) sweep() (next time.Time, ok bool) {
	now := h.opts.Now()
	h.mu.Lock()
	defer h.mu.Unlock()
	for len(h.sockets) > 0 && !h.sockets[0].due.After(now) {
		s := h.sockets[0]
		switch {
		case s.interval == 0:
			s.due = now.Add(h.opts.HelloTimeout)
			h.goLocked(func() { s.end(presence.CauseLost, gobwas.StatusPolicyViolation, "no hello came") })
		case s.unheard.Load() >= silentPings:
			s.due = now.Add(s.interval)
			h.goLocked(func() { s.end(presence.CauseLost, gobwas.StatusPolicyViolation, "nothing was heard") })
		default:
			s.due = now.Add(s.interval)
			if s.pinging.Add(1) == 1 {
				h.goLocked(func() { s.ping(now) })
			}
		}
		heap.Fix(&h.sockets, 0)
	}
	if len(h.sockets) == 0 {
		return time.Time{}, false
	}
	return h.sockets[0].due, true
}

// drive sweeps whenever something is due.
func (h *Handler) drive() {
	for {
		wait := time.Hour
		if next, ok := h.sweep(); ok {
			wait = max(time.Until(next), time.Millisecond)
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-h.wake:
		case <-h.stopped.Done():
		}
		timer.Stop()
		if h.stopped.Err() != nil {
			return
		}
	}
}

func (h *Handler) nudge() {
	select {
	case h.wake <- struct{}{}:
	default:
	}
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
		return fmt.Errorf("ws: %w: the handler has been closed before", presence.ErrClosed)
	}
	h.closed = true
	list := append([]*socket(nil), h.sockets...)
	for _, s := range list {
		h.running.Go(func() { s.end(presence.CauseDrain, gobwas.StatusGoingAway, shuttingDown) })
	}
	h.mu.Unlock()
	h.stop()
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

// dueHeap orders sockets by when something is to be done about them.
type dueHeap []*socket

func (h dueHeap) Len() int           { return len(h) }
func (h dueHeap) Less(i, j int) bool { return h[i].due.Before(h[j].due) }
func (h dueHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].place, h[j].place = i, j
}

func (h *dueHeap) Push(x any) {
	s := x.(*socket)
	s.place = len(*h)
	*h = append(*h, s)
}

func (h *dueHeap) Pop() any {
	old := *h
	s := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	return s
}
