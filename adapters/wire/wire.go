// Package wire is the protocol that browsers talk to a server of presence, as
// PROTOCOL.md describes it, without a transport: what a session means, what it
// may do and when it ends. Packages ws and sse carry it.
//
//	server, err := wire.New(tracker, wire.Options{Authenticate: whoIsIt})
//	http.Handle("/presence", ws.Over(server))
//	http.Handle("/presence/", sse.Over(server))
//	httpServer.RegisterOnShutdown(func() { server.Close() })
//
// It decides nothing about presence: it turns messages into calls of a
// [presence.Tracker] and frames of its watches into messages. Agents,
// supervisors and admins get a connection that counts; visitors and systems
// only watch.
//
// # Liveness
//
// The server sends a ping of the application, which the page answers from its
// own message handler. Only what a page's own code sends is a heartbeat: a
// browser answers the pings of the WebSocket protocol for a page that is frozen.
//
// # Bounds
//
// Whatever a client can make grow has a bound, and whoever reaches it is told.
// A session is ended only when its client goes on doing wrong, takes nothing
// for [Options.WriteTimeout], or is silent in every respect. A client that is
// merely slow is sent a snapshot in place of the changes it missed.
//
// # Memory
//
// A session has no goroutine of its own: the transport has one that waits for
// the client. What there is to write is written by a few goroutines for all
// sessions, and by one that lives for so long where a client does not take it at
// once. A frame is encoded once, however many sessions it goes to.
package wire

import (
	"cmp"
	"container/heap"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"hash/maphash"
	"log/slog"
	mathrand "math/rand/v2"
	"net/http"
	"net/url"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/presence-go/presence"
)

// Options configures a [Server]. Authenticate is needed; the zero value of
// every other field stands for its default.
type Options struct {
	// Authenticate says who opens a session, from the cookies or the token of the
	// request, for which there is [Token]. Give every visitor an id of its own,
	// since sessions are counted by it. An error refuses the request with status
	// 401, one that wraps [presence.ErrNotAllowed] with 403 and its text, one that
	// wraps [presence.ErrUnavailable] with 503.
	Authenticate func(*http.Request) (presence.Actor, error)
	// AllowedOrigins lists the origins, such as "https://app.example.com", whose
	// pages may open sessions beside those of the host itself. "*" allows all of
	// them, and so is for servers that go by tokens: where cookies say who
	// somebody is, any page could act for them. A request without an Origin header
	// does not come from a page and is left to Authenticate.
	AllowedOrigins []string

	// MaxMessage is the longest message taken from a client, in bytes. 0 means 4096.
	MaxMessage int
	// MessagesPerSecond and Burst bound how fast a session's messages are
	// processed; what comes faster is dropped, and the client told. 0 means 20
	// a second and bursts of 40.
	MessagesPerSecond float64
	Burst             int
	// MaxChannels is how many channels a session may watch. 0 means 32.
	MaxChannels int
	// MaxSessions bounds the open sessions in all, MaxSessionsPerSubject those of
	// one subject or visitor. 0 means 100,000 and 32.
	MaxSessions           int
	MaxSessionsPerSubject int

	// WriteTimeout is how long a client may take to accept what is written before
	// its connection counts as lost. It is real time. 0 means 10s.
	WriteTimeout time.Duration
	// HelloTimeout is how long a session may stay open without a valid hello. 0
	// means 10s.
	HelloTimeout time.Duration
	// PingInterval is the time between two pings and so between two heartbeats.
	// It must be shorter than the policy's lease. 0 means the heartbeat of the
	// policy of the subject's tenant.
	PingInterval time.Duration

	// Now is the source of time for pings and rates; nil means the real clock.
	// With a clock of your own, give its Now and call [Server.Sweep] whenever you
	// moved it, since nothing else then sends pings.
	Now func() time.Time
	// Logger receives what goes wrong in the background; nil discards it.
	Logger *slog.Logger
}

const (
	// faultsPerMinute is how much a client may do wrong before its session ends.
	faultsPerMinute = 20
	// silentPings is how many pings in a row may meet with complete silence. They
	// are counted rather than timed, so that a process that stood still blames
	// nobody.
	silentPings = 3
	// closeTimeout is how long a client may take to answer that it is over.
	closeTimeout = time.Second
	// farewell is how long a stream that broke may be followed by a bye that was
	// sent beside it, or by the next one, before its connection counts as lost.
	farewell = time.Second
	// maxRef is the longest reference a client may give a message, in bytes.
	maxRef = 64
)

const shuttingDown = "the server is shutting down"

// Status says why a session ended. They are those of the WebSocket protocol and
// two of our own.
type Status int

// The statuses, see PROTOCOL.md.
const (
	StatusNone      Status = 0 // there is nobody left to be told
	StatusNormal    Status = 1000
	StatusGoingAway Status = 1001
	StatusProtocol  Status = 1002
	StatusPolicy    Status = 1008
	StatusTooBig    Status = 1009
	// StatusReplaced ends a session whose connection was resumed over another
	// one. If its page goes on at all, then under another connection id.
	StatusReplaced Status = 4009
	// StatusSuspended ends the session of a page that is about to be frozen.
	StatusSuspended Status = 4010
)

// Server keeps the sessions of one tracker, whatever they are carried by. It is
// safe for concurrent use.
type Server struct {
	t       *presence.Tracker
	opts    Options
	log     *slog.Logger
	origins map[string]bool
	key     [32]byte  // of the secrets
	began   time.Time // sessions count from then

	mu        sync.Mutex
	open      int // sessions and requests about to become one
	bySubject map[presence.Ref]int
	byConn    map[uint64]*Session // by a hash of their keys, which would take more room than all the rest
	seed      maphash.Seed
	sessions  dueHeap
	epochs    uint32 // of connections that have none from the tracker
	terms     map[*presence.Machine]*terms
	closed    bool
	queue     []*Session // those that have something to write
	writers   int        // goroutines that see to them

	wake    chan struct{}
	work    chan func()  // for workers that wait for some
	idle    atomic.Int32 // those
	stopped context.Context
	stop    context.CancelFunc
	running sync.WaitGroup
}

// connKey names a connection: of a subject or, with other ids, of a watcher.
type connKey struct {
	subject presence.Ref
	conn    string
	watcher bool
}

// New returns a server of sessions for a tracker. It reports every fault
// of the options together. Close it to end its goroutines.
func New(t *presence.Tracker, opts Options) (*Server, error) {
	var faults []error
	fault := func(format string, args ...any) {
		faults = append(faults, fmt.Errorf("wire: option "+format, args...))
	}
	if t == nil {
		faults = append(faults, errors.New("wire: a tracker is needed"))
	}
	if opts.Authenticate == nil {
		fault("Authenticate: it is needed, to say who opens a session")
	}
	h := &Server{
		t: t, log: opts.Logger, origins: make(map[string]bool),
		bySubject: make(map[presence.Ref]int), byConn: make(map[uint64]*Session), seed: maphash.MakeSeed(),
		terms: make(map[*presence.Machine]*terms),
		wake:  make(chan struct{}, 1),
		work:  make(chan func()),
	}
	rand.Read(h.key[:])
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
	atLeast(fault, "MaxSessions", &opts.MaxSessions, 100_000, 1)
	atLeast(fault, "MaxSessionsPerSubject", &opts.MaxSessionsPerSubject, presence.MaxConnections, 1)
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
	h.opts, h.began = opts, opts.Now()
	if drive {
		h.running.Go(h.drive)
	}
	return h, nil
}

// terms is what clients are told of the policy in force.
type terms struct {
	heartbeat, lease time.Duration
	selectable       []status // by the person itself
}

// maxTerms is how many policies' terms are kept. Those that are no longer in
// force are among them.
const maxTerms = 64

// termsOf returns the terms of a tenant. They are worked out once for a policy,
// since a copy of it takes longer than all the rest of a hello.
func (h *Server) termsOf(tenant string) *terms {
	m := h.t.Machine(tenant)
	h.mu.Lock()
	t := h.terms[m]
	h.mu.Unlock()
	if t != nil {
		return t
	}
	policy := m.Policy()
	t = &terms{heartbeat: policy.Heartbeat, lease: policy.Lease, selectable: []status{}}
	for _, def := range policy.Statuses {
		if slices.Contains(def.SelectableBy, presence.BySelf) {
			t.selectable = append(t.selectable, status{ID: def.ID, Label: def.Label, Class: def.Class, Color: def.Color})
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.terms) >= maxTerms {
		clear(h.terms)
	}
	h.terms[m] = t
	return t
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

// Options returns the options in force, with their defaults.
func (h *Server) Options() Options { return h.opts }

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

// CheckOrigin reports whether the page that makes a request may do so, and
// refuses the request otherwise. A page of another origin that may is allowed to
// read the answer.
func (h *Server) CheckOrigin(w http.ResponseWriter, r *http.Request) bool {
	given := r.Header.Get("Origin")
	origin, ok := normalOrigin(given)
	_, host, _ := strings.Cut(origin, "://")
	switch {
	case given == "" && !strings.HasSuffix(r.Header.Get("Sec-Fetch-Site"), "-site"):
		return true // no page, or one of this host
	case ok && strings.EqualFold(host, r.Host):
	case given == "" && h.origins["*"]:
	case ok && h.origins[origin] || h.origins["*"]:
		w.Header().Set("Access-Control-Allow-Origin", given)
		w.Header().Set("Access-Control-Allow-Credentials", "true")
	default: // also a picture on a page somewhere, which names no origin but comes with cookies
		http.Error(w, fmt.Sprintf("wire: pages of origin %q may not open sessions here; pages of this host may, and those of the origins the server was configured with", given), http.StatusForbidden)
		return false
	}
	w.Header().Add("Vary", "Origin")
	return true
}

// Authenticate says who makes a request, or refuses it.
func (h *Server) Authenticate(w http.ResponseWriter, r *http.Request) (presence.Actor, bool) {
	actor, err := h.opts.Authenticate(r)
	if err == nil {
		// What is kept must not keep all of the request's line alive.
		actor.Subject.ID, actor.Subject.Tenant = strings.Clone(actor.Subject.ID), strings.Clone(actor.Subject.Tenant)
		return actor, true
	}
	h.log.Debug("wire: not authenticated", "remote", r.RemoteAddr, "error", err)
	switch {
	case errors.Is(err, presence.ErrNotAllowed):
		http.Error(w, err.Error(), http.StatusForbidden)
	case errors.Is(err, presence.ErrUnavailable):
		http.Error(w, "wire: who you are cannot be told now, try again", http.StatusServiceUnavailable)
	default:
		w.Header().Set("WWW-Authenticate", "Bearer")
		http.Error(w, "wire: log in first", http.StatusUnauthorized)
	}
	return presence.Actor{}, false
}

// Admit says who makes a request and makes room for a session, or refuses the
// request. Whoever is admitted is given to [Server.Open] or [Server.Release].
func (h *Server) Admit(w http.ResponseWriter, r *http.Request) (presence.Actor, bool) {
	actor, ok := h.Authenticate(w, r)
	if !ok {
		return actor, false
	}
	if status, why := h.reserve(actor.Subject); why != "" {
		http.Error(w, why, status)
		return actor, false
	}
	return actor, true
}

// reserve makes room for a session, or says why there is none.
func (h *Server) reserve(subject presence.Ref) (status int, why string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.closed:
		return http.StatusServiceUnavailable, "wire: " + shuttingDown
	case h.open >= h.opts.MaxSessions:
		return http.StatusServiceUnavailable, fmt.Sprintf("wire: %d sessions are open, which is all there may be", h.open)
	case h.bySubject[subject] >= h.opts.MaxSessionsPerSubject:
		return http.StatusTooManyRequests, fmt.Sprintf("wire: %s has %d sessions open, which is all it may have", subject, h.bySubject[subject])
	}
	h.open++
	h.bySubject[subject]++
	return 0, ""
}

// Release gives back the room of somebody for whom no session was opened.
func (h *Server) Release(actor presence.Actor) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.open--
	if h.bySubject[actor.Subject]--; h.bySubject[actor.Subject] == 0 {
		delete(h.bySubject, actor.Subject)
	}
}

// Open starts a session for somebody who was admitted, over a connection that is
// the session's from now on. What the client sends is given to the session by
// wait, which runs in a goroutine of its own, or in the caller's if inline, and
// must return once the connection has been closed.
func (h *Server) Open(actor presence.Actor, conn Conn, framing Framing, inline bool, wait func(*Session)) {
	now := h.opts.Now()
	s := &Session{h: h, actor: actor, conn: conn, raw: rawConn(conn), framing: framing, tokens: float64(h.opts.Burst), filled: h.since(now), due: h.since(now) + h.opts.HelloTimeout}
	s.parts.Store(2)
	h.mu.Lock()
	if h.closed {
		s.place = -1
		h.mu.Unlock()
		s.End(presence.CauseDrain, StatusGoingAway, shuttingDown)
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

// Go runs a function in a goroutine that [Server.Shutdown] waits for. It is for
// the goroutines of sessions.
func (h *Server) Go(f func()) { h.running.Go(f) }

// Work is Go for what needs much room on the stack and ends soon: a goroutine
// that did such things before does it, if one is free, since to make the stack of
// a fresh one grow would take longer than many of them.
func (h *Server) Work(f func()) {
	select {
	case h.work <- f:
	default:
		h.running.Go(func() { h.worker(f) })
	}
}

// maxIdle is how many workers at most wait for something to do.
const maxIdle = 16

func (h *Server) worker(f func()) {
	for {
		f()
		f = nil // what it holds on to is not kept
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

// remove forgets a session that has ended.
func (h *Server) remove(s *Session) {
	h.mu.Lock()
	if s.place >= 0 {
		heap.Remove(&h.sessions, int(s.place))
	}
	h.unbindLocked(s)
	h.mu.Unlock()
	h.Release(s.actor)
}

// bind makes a session the one of its connection and ends the one before, or
// reports false if a newer one has taken its place already. An epoch of 0 means
// that the tracker gave it none.
func (h *Server) bind(s *Session, conn string, epoch uint32) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.unbindLocked(s)
	if epoch == 0 {
		h.epochs++
		epoch = h.epochs
	}
	s.id, s.epoch = conn, epoch
	old := h.boundLocked(s.key())
	if old != nil && old.epoch > epoch {
		return false
	}
	if old != nil {
		h.unbindLocked(old)
	}
	at := h.hash(s.key())
	s.next, h.byConn[at] = h.byConn[at], s
	if old != nil {
		h.goLocked(func() { old.End("", StatusReplaced, replaced) })
	}
	return true
}

const replaced = "the connection goes on over another socket or stream"

// boundLocked returns the session of a connection, if there is one.
func (h *Server) boundLocked(key connKey) *Session {
	s := h.byConn[h.hash(key)]
	for s != nil && s.key() != key {
		s = s.next
	}
	return s
}

func (h *Server) unbindLocked(s *Session) {
	at := h.hash(s.key())
	switch o := h.byConn[at]; {
	case o != s:
		for ; o != nil; o = o.next {
			if o.next == s {
				o.next = s.next
			}
		}
	case s.next != nil:
		h.byConn[at] = s.next
	default:
		delete(h.byConn, at)
	}
	s.next = nil
}

func (h *Server) hash(key connKey) uint64 { return maphash.Comparable(h.seed, key) }

// since is an instant as sessions keep it, which takes less room.
func (h *Server) since(at time.Time) time.Duration { return at.Sub(h.began) }

// schedule lets the pings of a session begin, spread over half an interval so
// that those who came together are not all asked together.
func (h *Server) schedule(s *Session, interval time.Duration) {
	now := h.opts.Now()
	h.mu.Lock()
	s.interval = interval
	if !s.severed {
		h.dueLocked(s, now.Add(interval/2+mathrand.N(interval/2+1)))
	}
	h.mu.Unlock()
	h.nudge()
}

// sever has a session end a moment later.
func (h *Server) sever(s *Session) {
	now := h.opts.Now()
	h.mu.Lock()
	if !s.severed {
		s.severed = true
		h.dueLocked(s, now.Add(farewell))
	}
	h.mu.Unlock()
	h.nudge()
}

func (h *Server) dueLocked(s *Session, at time.Time) {
	s.due = h.since(at)
	if s.place >= 0 {
		heap.Fix(&h.sessions, int(s.place))
	}
}

// goLocked starts a goroutine unless the server is closed, in which case
// everything ends anyway.
func (h *Server) goLocked(f func()) {
	if !h.closed {
		h.running.Go(f)
	}
}

// queueLocked has somebody write what a session has to write. Where writing can
// be tried there are few goroutines for that, none of which ever waits for a
// client.
func (h *Server) queueLocked(s *Session) {
	if h.closed {
		return // everything ends anyway
	}
	if s.raw == nil {
		h.Work(func() { s.flush(true) })
		return
	}
	h.queue = append(h.queue, s)
	if h.writers < maxWriters {
		h.writers++
		h.Work(h.writeQueued)
	}
}

// maxWriters is how many goroutines write at once what does not have to wait.
var maxWriters = runtime.GOMAXPROCS(0)

// flushed is how many sessions are taken from the queue at once.
const flushed = 16

func (h *Server) writeQueued() {
	var some [flushed]*Session
	for {
		h.mu.Lock()
		n := copy(some[:], h.queue)
		if n == 0 {
			h.writers--
			h.queue = nil
			h.mu.Unlock()
			return
		}
		clear(h.queue[:n])
		h.queue = h.queue[n:]
		h.mu.Unlock()
		for _, s := range some[:n] {
			s.flush(false)
		}
	}
}

// Sessions returns how many sessions are open.
func (h *Server) Sessions() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.sessions)
}

// Sweep sends the pings that are due and ends the sessions whose time is over.
// The server calls it by itself unless it was given a clock. It does not wait
// for the pings to be written.
func (h *Server) Sweep() { h.sweep() }

func (h *Server) sweep() (next time.Time, ok bool) {
	now := h.opts.Now()
	h.mu.Lock()
	defer h.mu.Unlock()
	for len(h.sessions) > 0 && h.sessions[0].due <= h.since(now) {
		s := h.sessions[0]
		end := func(wait time.Duration, status Status, why string) {
			s.due = h.since(now) + wait
			h.goLocked(func() { s.End(presence.CauseLost, status, why) })
		}
		switch {
		case s.severed:
			end(farewell, StatusNone, "")
		case s.interval == 0:
			end(h.opts.HelloTimeout, StatusPolicy, "no hello came")
		case s.unheard.Load() >= silentPings && s.answers():
			end(s.interval, StatusPolicy, "nothing was heard")
		default:
			s.due = h.since(now) + s.interval
			s.owed.Add(1)
			s.wakeLocked()
		}
		heap.Fix(&h.sessions, 0)
	}
	if len(h.sessions) == 0 {
		return time.Time{}, false
	}
	return h.began.Add(h.sessions[0].due), true
}

// drive sweeps whenever something is due.
func (h *Server) drive() {
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

func (h *Server) nudge() {
	select {
	case h.wake <- struct{}{}:
	default:
	}
}

// Shutdown ends every session as planned: clients are told to come back, their
// connections are drained, and no session is opened any more. It waits until all
// have gone; those still there when ctx is done are cut off. It returns the
// cause of ctx's end in that case, and an error wrapping [presence.ErrClosed]
// if the server was closed before.
func (h *Server) Shutdown(ctx context.Context) error {
	h.mu.Lock()
	if h.closed {
		h.mu.Unlock()
		return fmt.Errorf("wire: %w: the server has been closed before", presence.ErrClosed)
	}
	h.closed = true
	list := append([]*Session(nil), h.sessions...)
	for _, s := range list {
		h.running.Go(func() { s.End(presence.CauseDrain, StatusGoingAway, shuttingDown) })
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
func (h *Server) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	err := h.Shutdown(ctx)
	if errors.Is(err, presence.ErrClosed) {
		return err
	}
	return nil
}

// dueHeap orders sessions by when something is to be done about them.
type dueHeap []*Session

func (h dueHeap) Len() int           { return len(h) }
func (h dueHeap) Less(i, j int) bool { return h[i].due < h[j].due }
func (h dueHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].place, h[j].place = int32(i), int32(j)
}

func (h *dueHeap) Push(x any) {
	s := x.(*Session)
	s.place = int32(len(*h))
	*h = append(*h, s)
}

func (h *dueHeap) Pop() any {
	old := *h
	s := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	s.place = -1
	return s
}
