// Package wire is the protocol between browsers and a server of presence,
// without a transport. PROTOCOL.md describes it. Packages ws and sse carry it.
//
//	server, err := wire.New(tracker, &wire.Options{Authenticate: authenticate})
//	http.Handle("/presence", ws.Over(server))
//	http.Handle("/presence/", sse.Over(server))
//
// Close the server before the HTTP server; the example of package ws shows the
// order.
//
// It decides nothing about presence. It turns messages into calls of a
// [presence.Tracker], and frames of its watches into messages. Agents,
// supervisors and admins get a connection that counts. Visitors and systems
// only watch.
//
// # Liveness
//
// The server sends a ping of the application, which the page answers from its
// own message handler. Only a message of the page's own code is a heartbeat: a
// browser answers the pings of the WebSocket protocol for a page that is frozen.
//
// # Limits
//
// Everything that a client can grow has a limit. A client that reaches a limit
// gets an error. A session ends only if its client makes 20 faults a minute, takes
// nothing for [Options.WriteTimeout], or is silent in every respect. A client that
// is merely slow gets a snapshot instead of the changes it missed.
//
// # Memory
//
// A session has no goroutine of its own: the transport has one that waits for
// the client. A few goroutines write for all sessions. A client that does not
// take a message at once gets a goroutine until it does. A frame is encoded
// once for all sessions.
package wire

import (
	"container/heap"
	"context"
	"crypto/rand"
	"fmt"
	"hash/maphash"
	"log/slog"
	"maps"
	mathrand "math/rand/v2"
	"net/http"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/presence-go/presence"
	"github.com/presence-go/presence/adapters/internal/edge"
)

// Options configures a [Server]. Authenticate is needed; the zero value of
// every other field means its default.
type Options struct {
	// Authenticate finds who opens a session, by the cookies or the token of
	// the request; [Token] finds the token. Give each visitor an id of its own,
	// since sessions are counted by id. An error refuses the request with
	// status 401, one that wraps [presence.ErrNotAllowed] with 403 and its
	// text, one that wraps [presence.ErrUnavailable] with 503. An actor without
	// an id is logged and answered with 500.
	Authenticate func(*http.Request) (presence.Identity, error)
	// AllowedOrigins lists the origins whose pages may open sessions beside
	// pages of the request's own host, as "https://app.example.com". "*" allows
	// every page: use it with tokens only, since with cookies any page could
	// act for its visitor. Only Authenticate decides on a request that no page
	// makes.
	AllowedOrigins []string

	// MaxMessage is the longest message taken from a client, in bytes. 0 means 4096.
	MaxMessage int
	// MessagesPerSecond and Burst limit how fast a session's messages are
	// processed. A faster message is dropped, and the client gets an error. 0 means
	// 20 a second and bursts of 40.
	MessagesPerSecond float64
	Burst             int
	// MaxChannels is the number of channels that a session may watch. 0 means 32.
	MaxChannels int
	// MaxSessions limits the open sessions in all, MaxSessionsPerSubject those of
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

	// Logger logs failures in the background; nil discards them.
	Logger *slog.Logger
}

const (
	// silentPings is the number of pings in a row that a client may leave
	// without any sign of life. Pings are counted instead of timed, so that a
	// process that stood still blames no client.
	silentPings = 3
	// farewell is how long a broken stream may be followed by its bye or its
	// successor. Then its connection counts as lost.
	farewell = time.Second
	// maxRef is the longest ref of a message, in bytes.
	maxRef = 64
)

// Status is the reason why a session ended: a status of the WebSocket protocol,
// or one of the two of this package.
type Status int

// The statuses, see PROTOCOL.md.
const (
	StatusNone      Status = 0 // no client is left to get a status
	StatusNormal    Status = 1000
	StatusGoingAway Status = 1001
	StatusProtocol  Status = 1002
	StatusPolicy    Status = 1008
	StatusTooBig    Status = 1009
	// StatusReplaced ends a session whose connection was resumed in another
	// one. Its page may only continue under another connection id.
	StatusReplaced Status = 4009
	// StatusSuspended ends the session of a page that the browser is about to
	// freeze.
	StatusSuspended Status = 4010
)

// Server keeps the sessions of one tracker, over all transports. It is safe for
// concurrent use.
type Server struct {
	t       *presence.Tracker
	opts    Options
	log     *slog.Logger
	origins *edge.Origins
	seats   *edge.Seats
	carrier Carrier
	key     [32]byte         // of the secrets
	began   presence.Instant // sessions keep times relative to it

	mu       sync.Mutex
	byConn   map[uint64]*Session // by a hash of their keys, which is smaller than the keys
	seed     maphash.Seed
	sessions dueHeap
	epochs   uint32 // the last epoch given to a connection that the tracker does not know
	terms    map[*presence.Machine]*terms
	closed   bool
	queue    []*Session // sessions that have something to write
	writers  int        // goroutines that write for the queue
	messages uint64     // from clients whose sessions have ended
	ends     map[Status]uint64

	refusals atomic.Uint64
	wake     chan struct{}
	work     chan func()  // for idle workers
	idle     atomic.Int32 // the number of idle workers
	stopped  context.Context
	stop     context.CancelFunc
	running  sync.WaitGroup
}

// connKey is the key of a connection. The ids of watchers are separate from
// those of subjects with a presence.
type connKey struct {
	subject presence.Ref
	conn    string
	watcher bool
}

// New returns a server of sessions for a tracker; nil options mean zero ones.
// It returns all faults of the options together. Close it to end its
// goroutines.
//
// The server follows the tracker's clock, but waits in real time. With a clock
// of your own, call [Server.Sweep] whenever you have moved it.
func New(t *presence.Tracker, opts *Options) (*Server, error) {
	o := Options{}
	if opts != nil {
		o = *opts
	}
	faults := edge.NewFaults("wire")
	faults.Tracker(t)
	if o.Authenticate == nil {
		faults.Add("Authenticate", "it is needed, to find who opens a session")
	}
	edge.AtLeast(faults, "MaxMessage", &o.MaxMessage, 4096, 256)
	edge.AtLeast(faults, "MessagesPerSecond", &o.MessagesPerSecond, 20, 0.1)
	edge.AtLeast(faults, "Burst", &o.Burst, 40, 1)
	edge.AtLeast(faults, "MaxChannels", &o.MaxChannels, 32, 1)
	edge.AtLeast(faults, "MaxSessions", &o.MaxSessions, 100_000, 1)
	edge.AtLeast(faults, "MaxSessionsPerSubject", &o.MaxSessionsPerSubject, presence.MaxConnections, 1)
	edge.AtLeast(faults, "WriteTimeout", &o.WriteTimeout, 10*time.Second, 1)
	edge.AtLeast(faults, "HelloTimeout", &o.HelloTimeout, 10*time.Second, 1)
	if o.PingInterval != 0 {
		edge.AtLeast(faults, "PingInterval", &o.PingInterval, 0, 1)
		if t != nil && o.PingInterval >= t.Policy("").Lease {
			faults.Add("PingInterval", "%v is not shorter than the policy's lease of %v", o.PingInterval, t.Policy("").Lease)
		}
	}
	origins := edge.NewOrigins(faults, "AllowedOrigins", o.AllowedOrigins)
	if err := faults.Err(); err != nil {
		return nil, err
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	h := &Server{
		t: t, opts: o, log: o.Logger, origins: origins, began: t.Now(),
		seats:  edge.NewSeats("wire", "sessions", o.MaxSessions, o.MaxSessionsPerSubject),
		byConn: make(map[uint64]*Session), seed: maphash.MakeSeed(),
		terms: make(map[*presence.Machine]*terms), ends: make(map[Status]uint64),
		wake: make(chan struct{}, 1), work: make(chan func()),
	}
	h.carrier.h = h
	rand.Read(h.key[:])
	h.stopped, h.stop = context.WithCancel(context.Background())
	h.running.Go(h.drive)
	return h, nil
}

// terms is what a client receives of the policy in force.
type terms struct {
	heartbeat, lease time.Duration
	selectable       []status // the statuses that the person may choose
}

// maxTerms is the number of policies whose terms are kept, those no longer in
// force included.
const maxTerms = 64

// termsOf returns the terms of a tenant. It derives them once for each policy,
// since a copy of the policy takes longer than the rest of a hello.
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

// remove forgets a session that has ended.
func (h *Server) remove(s *Session) {
	h.mu.Lock()
	if s.place >= 0 {
		heap.Remove(&h.sessions, int(s.place))
	}
	h.unbindLocked(s)
	h.messages += s.messages.Load()
	h.mu.Unlock()
	h.seats.Give(s.actor.Subject)
}

// bind makes a session the one of its connection and ends the session before.
// It returns false if a newer session has taken its place. An epoch of 0 means
// that the tracker gave none.
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

// boundLocked returns the session of a connection, or nil.
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

// since returns an instant as sessions keep it, in 8 bytes.
func (h *Server) since(at presence.Instant) time.Duration { return at.Sub(h.began) }

// schedule starts the pings of a session, at random within half an interval, so
// that sessions that began together are pinged apart.
func (h *Server) schedule(s *Session, interval time.Duration) {
	now := h.t.Now()
	h.mu.Lock()
	s.interval = interval
	if !s.severed {
		h.dueLocked(s, now.Add(interval/2+mathrand.N(interval/2+1)))
	}
	h.mu.Unlock()
	h.nudge()
}

// sever ends a session after farewell.
func (h *Server) sever(s *Session) {
	now := h.t.Now()
	h.mu.Lock()
	if !s.severed {
		s.severed = true
		h.dueLocked(s, now.Add(farewell))
	}
	h.mu.Unlock()
	h.nudge()
}

func (h *Server) dueLocked(s *Session, at presence.Instant) {
	s.due = h.since(at)
	if s.place >= 0 {
		heap.Fix(&h.sessions, int(s.place))
	}
}

// goLocked starts a goroutine unless the server is closed, which ends all
// sessions.
func (h *Server) goLocked(f func()) {
	if !h.closed {
		h.running.Go(f)
	}
}

// queueLocked queues a session for writing. Few goroutines write for the
// connections that can be written without waiting. None of them ever waits for
// a client.
func (h *Server) queueLocked(s *Session) {
	if h.closed {
		return // closing ends all sessions
	}
	if s.raw == nil {
		h.carrier.Work(func() { s.flush(true) })
		return
	}
	h.queue = append(h.queue, s)
	if h.writers < maxWriters {
		h.writers++
		h.carrier.Work(h.writeQueued)
	}
}

// maxWriters is the number of goroutines that write for the queue.
var maxWriters = runtime.GOMAXPROCS(0)

// flushed is the number of sessions that a writer takes from the queue at once.
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

// Sessions returns the number of open sessions.
func (h *Server) Sessions() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.sessions)
}

// Stats are figures of a server.
type Stats struct {
	Sessions int               // open now
	Messages uint64            // from clients since New, heartbeats among them
	Refusals uint64            // requests refused since New
	Ends     map[Status]uint64 // sessions ended since New, by status; a client that closes may choose its own
}

// Stats returns the server's figures.
func (h *Server) Stats() Stats {
	h.mu.Lock()
	defer h.mu.Unlock()
	stats := Stats{Sessions: len(h.sessions), Messages: h.messages, Refusals: h.refusals.Load(), Ends: maps.Clone(h.ends)}
	for _, s := range h.sessions {
		stats.Messages += s.messages.Load()
	}
	return stats
}

// ended counts a session that has ended.
func (h *Server) ended(status Status) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ends[status]++
}

// Sweep sends the pings that are due and ends the sessions whose time is over.
// The server calls it by itself in real time. It does not wait until the pings
// are written.
func (h *Server) Sweep() { h.sweep(h.t.Now()) }

// sweep is Sweep at an instant. It returns the time until the next call is due.
func (h *Server) sweep(now presence.Instant) (wait time.Duration) {
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
		return time.Hour
	}
	return h.sessions[0].due - h.since(now)
}

// drive sweeps whenever a ping or an end is due.
func (h *Server) drive() {
	for {
		timer := time.NewTimer(max(h.sweep(h.t.Now()), time.Millisecond))
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

// Shutdown ends every session and opens no more. It sends status 1001, after
// which clients connect again. Their connections leave with the cause drain. It
// waits until every session has ended. When ctx is done, it cuts the others off
// and returns the cause of ctx's end. It returns [presence.ErrClosed] if the
// server was closed before.
func (h *Server) Shutdown(ctx context.Context) error {
	h.mu.Lock()
	if h.closed {
		h.mu.Unlock()
		return fmt.Errorf("wire: %w server: it has been closed before", presence.ErrClosed)
	}
	h.closed = true
	list := append([]*Session(nil), h.sessions...)
	for _, s := range list {
		h.running.Go(func() { s.End(presence.CauseDrain, StatusGoingAway, edge.ShuttingDown) })
	}
	h.mu.Unlock()
	h.seats.Close()
	h.stop()
	return edge.Await(ctx, h.running.Wait, func() {
		for _, s := range list {
			s.conn.Close()
		}
	})
}

// Close is Shutdown with a limit of one second.
func (h *Server) Close() error { return edge.Close(h.Shutdown) }

// dueHeap orders sessions by the time at which a ping or their end is due.
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
