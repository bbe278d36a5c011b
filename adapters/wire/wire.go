// Package wire is the protocol that browsers talk to a server of presence, as
// PROTOCOL.md describes it, without a transport: what a session means, what it
// may do and when it ends. Packages ws and sse carry it.
//
//	server, err := wire.New(tracker, &wire.Options{Authenticate: authenticate})
//	http.Handle("/presence", ws.Over(server))
//	http.Handle("/presence/", sse.Over(server))
//
// Close the server before the HTTP server; the example of package ws shows the
// order.
//
// It decides nothing about presence: it turns messages into calls of a
// [presence.Tracker] and frames of its watches into messages. Agents,
// supervisors and admins get a connection that counts. Visitors and systems only
// watch.
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
// the client. A few goroutines write for all sessions. A client that does not take
// a message at once gets a goroutine until it does. A frame is encoded once,
// however many sessions it goes to.
package wire

import (
	"container/heap"
	"context"
	"crypto/rand"
	"errors"
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
// every other field stands for its default.
type Options struct {
	// Authenticate finds who opens a session, from the cookies or the token of the
	// request, for which there is [Token]. Give every visitor an id of its own,
	// since sessions are counted by it. An error refuses the request with status
	// 401, one that wraps [presence.ErrNotAllowed] with 403 and its text, one that
	// wraps [presence.ErrUnavailable] with 503. An actor without an id is logged
	// and answered with 500.
	Authenticate func(*http.Request) (presence.Identity, error)
	// AllowedOrigins lists the origins whose pages may open sessions beside pages of
	// the request's own host, as "https://app.example.com". "*" allows every page:
	// use it with tokens only, since with cookies any page could act for its
	// visitor. A request that no page makes is left to Authenticate.
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

	// Logger receives what goes wrong in the background; nil discards it.
	Logger *slog.Logger
}

const (
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
	origins *edge.Origins
	seats   *edge.Seats
	carrier Carrier
	key     [32]byte         // of the secrets
	began   presence.Instant // sessions count from then

	mu       sync.Mutex
	byConn   map[uint64]*Session // by a hash of their keys, which would take more room than all the rest
	seed     maphash.Seed
	sessions dueHeap
	epochs   uint32 // of connections that have none from the tracker
	terms    map[*presence.Machine]*terms
	closed   bool
	queue    []*Session // those that have something to write
	writers  int        // goroutines that see to them
	messages uint64     // of sessions that have ended
	ends     map[Status]uint64

	refusals atomic.Uint64
	wake     chan struct{}
	work     chan func()  // for workers that wait for some
	idle     atomic.Int32 // those
	stopped  context.Context
	stop     context.CancelFunc
	running  sync.WaitGroup
}

// connKey names a connection: of a subject or, with other ids, of a watcher.
type connKey struct {
	subject presence.Ref
	conn    string
	watcher bool
}

// New returns a server of sessions for a tracker; nil options mean zero ones. It
// reports every fault of the options together. Close it to end its goroutines.
//
// The server follows the tracker's clock, but waits in real time: with a clock of
// your own, call [Server.Sweep] whenever you moved it.
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
func (h *Server) since(at presence.Instant) time.Duration { return at.Sub(h.began) }

// schedule lets the pings of a session begin, spread over half an interval so
// that those who came together are not all asked together.
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

// sever has a session end a moment later.
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
		h.carrier.Work(func() { s.flush(true) })
		return
	}
	h.queue = append(h.queue, s)
	if h.writers < maxWriters {
		h.writers++
		h.carrier.Work(h.writeQueued)
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

// Sweep sends the pings that are due and ends the sessions whose time is over. The
// server calls it when something is due in real time. It does not wait for the
// pings to be written.
func (h *Server) Sweep() { h.sweep(h.t.Now()) }

// sweep is Sweep as of an instant, and returns for how long nothing more is due.
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

// drive sweeps whenever something is due.
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

// Shutdown ends every session and opens no more. It tells clients to come back
// (status 1001), and their connections leave by a drain. It waits until every
// session has ended; when ctx is done it cuts off the others and returns the cause
// of ctx's end. It returns an error wrapping [presence.ErrClosed] if the server was
// closed before.
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

// Close is Shutdown that gives clients a second.
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
