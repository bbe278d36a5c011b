package wire

import (
	"encoding/json"
	"errors"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/presence-go/presence"
	"github.com/presence-go/presence/adapters/internal/edge"
)

// Session is one client's session over one socket or stream. Its methods are
// safe for concurrent use. It handles one message at a time, in the order of
// the calls.
type Session struct {
	h       *Server
	actor   presence.Actor
	conn    Conn
	framing Framing

	// The fields that writing a frame needs are side by side: a change that
	// thousands watch reads them of each session.
	raw    syscall.RawConn // of a connection that can be written without waiting; nil otherwise
	wakes  atomic.Int32    // reasons to look for something to write
	owed   atomic.Int32    // pings to be sent
	ending atomic.Bool

	finished bool       // under pull
	broken   bool       // under out: nothing can be written any more
	out      sync.Mutex // held while writing, until the write is finished
	pull     sync.Mutex // held while frames are taken and writing begins; locked before out
	watches  []*watching
	own      *presence.Watch // of the person's own view
	ownNews  atomic.Bool     // it may have frames

	// The server's fields, under its lock. Only the goroutine that handles a
	// message changes id and epoch. It may read them without the lock.
	severed  bool     // nothing can be written any more; the session ends soon
	id       string   // of its connection
	next     *Session // the next session of the same hash
	epoch    uint32
	place    int32 // in the heap, or -1
	due      time.Duration
	interval time.Duration // of pings; 0 before the hello

	live    atomic.Pointer[presence.Conn]
	parts   atomic.Int32 // parts that have to end before the session is forgotten
	pings   atomic.Uint64
	unheard atomic.Int32 // pings sent since anything was read
	posts   atomic.Int32 // under way

	messages atomic.Uint64 // from the client
	in       sync.Mutex    // held while a message is handled
	input    time.Duration // the last input that a heartbeat reported; 0 after an act
	bucket   edge.Bucket   // of the rate limit
	strikes  edge.Strikes

	greeted, visible, told bool // under in; visible is the last report, if told
}

// watching is a watch of a channel whose frames a session passes on.
type watching struct {
	watch *presence.Watch
	news  atomic.Bool // it may have frames
	Mark              // how far its frames have been written
}

// key names the session's connection.
func (s *Session) key() connKey { return connKey{s.actor.Subject, s.id, !edge.Present(s.actor)} }

// answers reports whether the client has to answer pings. Over a stream a
// client that only watches need not: a write finds a broken stream.
func (s *Session) answers() bool { return edge.Present(s.actor) || !s.framing.Streams() }

// Ending reports whether the session has ended. The transport then ignores
// everything that it reads.
func (s *Session) Ending() bool { return s.ending.Load() }

// Heard notes that the transport read something, whatever it was.
func (s *Session) Heard() { s.unheard.Store(0) }

// Receive carries out a message and answers it.
func (s *Session) Receive(data []byte) {
	s.in.Lock()
	defer s.in.Unlock()
	if s.ending.Load() {
		return
	}
	if now := s.h.t.Now(); s.allow(now) {
		s.handle(now, data, false)
	}
}

// Heartbeat handles a message that is a heartbeat without news, as most
// messages are. For any other message it does nothing and returns false: call
// [Session.Receive]. The smallest stack is enough for it.
func (s *Session) Heartbeat(data []byte) bool {
	p, ok := ParsePong(data)
	if !ok {
		return false
	}
	s.in.Lock()
	defer s.in.Unlock()
	c := s.live.Load()
	if c == nil || s.ending.Load() || !s.greeted || p.Seq == 0 || p.Seq > s.pings.Load() || p.Told && !(s.told && p.Visible == s.visible) {
		return false
	}
	now := s.h.t.Now()
	if _, news := s.reports(now, p); news || !s.take(now) {
		return false
	}
	s.Heard()
	s.messages.Add(1)
	if err := c.Heartbeat(); err != nil {
		s.blame(now, "", "", gone(err))
	}
	return true
}

// Begin takes a hello from the request of a stream and starts watching the
// channels of a position, up to the limit. If the hello is refused, the session
// ends.
func (s *Session) Begin(hello Hello, watch Position) {
	s.in.Lock()
	defer s.in.Unlock()
	now := s.h.t.Now()
	s.allow(now) // it counts
	m := hello.message()
	err := m.check()
	if err == nil {
		err = s.hello(now, &m)
	}
	if err != nil {
		s.blame(now, "", "", err)
		s.End("", StatusPolicy, "no hello was taken")
		return
	}
	for _, mark := range watch {
		if s.ending.Load() {
			return
		}
		err := s.watch(&message{Channel: mark.Channel, Epoch: mark.Epoch, Seq: mark.Seq})
		if err == nil {
			continue
		}
		s.blame(now, "", mark.Channel, err)
		if faultOf(err).code == codeLimit {
			return // the other channels would reach the same limit
		}
	}
}

// post carries out messages of a POST request. The request counts as a
// heartbeat.
func (s *Session) post(messages []json.RawMessage) {
	s.in.Lock()
	defer s.in.Unlock()
	s.Heard()
	for _, data := range messages {
		now := s.h.t.Now()
		switch {
		case s.ending.Load():
			return
		case !s.allow(now):
		case len(data) > s.h.opts.MaxMessage:
			s.blame(now, "", "", s.rejected(TooLarge))
		default:
			s.handle(now, data, true)
		}
	}
	if c := s.live.Load(); c != nil {
		_ = c.Heartbeat() // if the connection is unknown, its next message is answered with an error
	}
}

// Reject answers input that is no message.
func (s *Session) Reject(why Rejection) {
	s.in.Lock()
	defer s.in.Unlock()
	if s.ending.Load() {
		return
	}
	if now := s.h.t.Now(); s.allow(now) {
		s.blame(now, "", "", s.rejected(why))
	}
}

// Answer writes an answer of the transport's own, such as a pong. It counts as
// a message of the client.
func (s *Session) Answer(pack func(*Batch)) {
	s.in.Lock()
	defer s.in.Unlock()
	if !s.ending.Load() && s.allow(s.h.t.Now()) {
		_ = s.write(pack)
	}
}

// allow counts a message and takes a token from the session's bucket. If the
// bucket is empty, it sends an error and returns false.
func (s *Session) allow(now presence.Instant) bool {
	s.messages.Add(1)
	if !s.take(now) {
		o := &s.h.opts
		s.blame(now, "", "", faultf(codeRate, "limit messages: more than %v a second with bursts of %d; this one was dropped", o.MessagesPerSecond, o.Burst))
		return false
	}
	return true
}

func (s *Session) take(now presence.Instant) bool {
	return s.bucket.Take(s.h.since(now), s.h.opts.MessagesPerSecond, s.h.opts.Burst)
}

func (s *Session) handle(now presence.Instant, data []byte, posted bool) {
	if p, ok := ParsePong(data); ok && s.greeted {
		if err := s.pong(now, p); err != nil {
			s.blame(now, "", "", err)
		}
		return
	}
	s.handleAny(now, data, posted)
}

// handleAny is a function of its own since it needs a large stack. Within
// handle it would make the stack of a goroutine grow that reads heartbeats
// only.
func (s *Session) handleAny(now presence.Instant, data []byte, posted bool) {
	m, err := decode(data)
	var answer any
	if err == nil {
		if posted {
			m.Conn = s.id // a POST names its connection in the URL
		}
		answer, err = s.do(now, &m)
	}
	switch {
	case err != nil && !s.ending.Load():
		s.blame(now, m.Ref, "", err)
	case err == nil && answer != nil:
		s.send(answer)
	}
}

// do carries out a message and returns its answer, or nil if it has none.
func (s *Session) do(now presence.Instant, m *message) (answer any, err error) {
	if !slices.Contains(types, m.Type) {
		return nil, &fault{code: codeInvalid, text: "wire: invalid type " + strconv.Quote(m.Type) + ": no message has it", allowed: types}
	}
	if m.Type == typeHello {
		return nil, s.hello(now, m)
	}
	if !s.greeted {
		return nil, &fault{code: codeInvalid, text: "wire: invalid type " + strconv.Quote(m.Type) + ": the first message is a hello", allowed: []string{typeHello}}
	}
	var view *presence.View
	switch m.Type {
	case typeWatch:
		return nil, s.watch(m)
	case typeUnwatch:
		return nil, s.unwatch(m)
	case typeBye:
		return nil, s.bye(m)
	case typeSuspend:
		s.End(presence.CauseClosed, StatusSuspended, "suspended")
		return nil, nil
	case typePong:
		err = s.pong(now, m.pong())
	default:
		view, err = s.act(m)
	}
	if err != nil || m.Ref == "" {
		return nil, err
	}
	return done{Type: "done", V: Version, Ref: m.Ref, View: view}, nil
}

// act carries out a message that only a client with a presence may send.
func (s *Session) act(m *message) (*presence.View, error) {
	c := s.live.Load()
	if c == nil {
		return nil, faultf(codeNotAllowed, "not allowed type %q: %s only watches and has no presence to change", m.Type, s.actor.Subject)
	}
	s.input = 0 // the act may be input
	var view presence.View
	var err error
	switch m.Type {
	case typeInput:
		return nil, gone(c.Input())
	case typeFocus:
		return nil, gone(c.Focus(m.Channel))
	case typeClaim:
		view, err = c.Claim(s.h.stopped, presence.Claim{Status: m.Status, For: millis(m.For), Reason: m.Reason, Text: m.Text})
	case typeRelease:
		view, err = c.EndClaim(s.h.stopped, m.Key)
	case typeRequest:
		view, err = s.h.t.Request(s.h.stopped, s.actor, s.actor.Subject, presence.Claim{Status: m.Status, For: millis(m.For), Reason: m.Reason, Text: m.Text})
	case typeWithdraw:
		view, err = s.h.t.Withdraw(s.h.stopped, s.actor, s.actor.Subject, m.ID)
	case typeAck:
		err = s.h.t.Apply(s.h.stopped, presence.Event{Kind: presence.EventAck, Subject: s.actor.Subject, ID: m.ID})
		if err == nil {
			return nil, nil
		}
	}
	if err == nil {
		return &view, nil
	}
	f := faultOf(err)
	if (m.Type == typeClaim || m.Type == typeRequest) && (f.code == codeUnknown || f.code == codeNotAllowed) {
		f.allowed = nil // of an unknown status it has those of the whole policy
		for _, def := range s.h.termsOf(s.actor.Subject.Tenant).selectable {
			f.allowed = append(f.allowed, def.ID)
		}
	}
	s.logUnavailable(f, err)
	return nil, f
}

// gone turns ErrUnknown of a connection into the code stale: in both cases the
// client has to send another hello.
func gone(err error) error {
	if errors.Is(err, presence.ErrUnknown) {
		return &fault{code: codeStale, text: err.Error()}
	}
	return err
}

// sameInput is how far two reports of one input may differ, since they travel
// for different times.
const sameInput = 500 * time.Millisecond

// pong handles a heartbeat, which proves that the page's own code runs.
func (s *Session) pong(now presence.Instant, p Pong) error {
	if p.Seq == 0 || p.Seq > s.pings.Load() {
		return faultf(codeInvalid, "invalid seq \"%d\": the last ping was %d", p.Seq, s.pings.Load())
	}
	c := s.live.Load()
	if c == nil {
		return nil
	}
	var err error
	if input, news := s.reports(now, p); news {
		s.input = input
		err = c.Report(p.Seq, millis(p.Idle))
	} else {
		err = c.Heartbeat() // it takes no lock of the subject
	}
	if err == nil && p.Told {
		err = s.see(c, p.Visible)
	}
	return gone(err)
}

// reports returns the time of the last input by a heartbeat, and whether that
// input is news.
func (s *Session) reports(now presence.Instant, p Pong) (input time.Duration, news bool) {
	if p.Idle < 0 {
		return input, false
	}
	input = s.h.since(now) - millis(p.Idle)
	return input, s.input == 0 || (input-s.input).Abs() >= sameInput
}

// see reports a change of the page's visibility to the tracker.
func (s *Session) see(c *presence.Conn, visible bool) error {
	if s.told && visible == s.visible {
		return nil
	}
	s.visible, s.told = visible, true
	return c.Visible(visible)
}

// hello opens or resumes the connection and starts the pings. A client may send
// further hellos.
func (s *Session) hello(now presence.Instant, m *message) error {
	if m.V != Version {
		return &fault{code: codeInvalid, text: "wire: invalid version " + strconv.Quote(strconv.Itoa(m.V)) + ": the server does not support it", allowed: []string{strconv.Itoa(Version)}}
	}
	terms := s.h.termsOf(s.actor.Subject.Tenant)
	answer := welcome{Type: "welcome", V: Version, Ref: m.Ref, Now: now, Lease: terms.lease.Milliseconds(), Statuses: []status{}}
	switch {
	case edge.Present(s.actor):
		c, view, err := s.connect(m)
		if err != nil {
			s.logUnavailable(faultOf(err), err)
			return err
		}
		answer.Conn, answer.Epoch, answer.Self = c.ID(), c.Epoch(), view
		answer.Statuses = terms.selectable
	case s.framing.Streams():
		conn, err := s.name(m.Conn)
		if err != nil {
			return err
		}
		s.h.bind(s, conn, 0)
		answer.Conn, answer.Epoch = conn, s.epoch
	}
	if s.framing.Streams() {
		answer.Secret = s.h.secret(s.key(), s.epoch)
	}
	interval := terms.heartbeat
	if s.h.opts.PingInterval > 0 {
		interval = s.h.opts.PingInterval
	}
	answer.Heartbeat = interval.Milliseconds()
	s.h.schedule(s, interval)
	s.send(answer)
	if !s.greeted {
		s.greeted = true
		s.watchSelf()
	}
	return nil
}

// connect opens the connection under the id asked for, or resumes the present
// one.
func (s *Session) connect(m *message) (*presence.Conn, *presence.View, error) {
	opts := presence.ConnectOptions{ID: m.Conn, Device: m.Device, Login: m.Login}
	if m.Idle != nil {
		opts.IdleFor = millis(*m.Idle)
	}
	before := s.live.Load()
	if before != nil && opts.ID == "" {
		opts.ID = before.ID()
	}
	c, err := s.h.t.Connect(s.h.stopped, s.actor.Subject, opts)
	if err != nil {
		return nil, nil, err
	}
	if before != nil && before.ID() != c.ID() {
		_ = before.Close()
	}
	s.live.Store(c)
	s.told, s.input = false, 0
	switch {
	case !s.h.bind(s, c.ID(), c.Epoch()):
		s.End("", StatusReplaced, replaced)
	case s.ending.Load():
		s.leave(presence.CauseLost) // the end of the session came before this connection
	}
	if m.Visible != nil {
		if err := s.see(c, *m.Visible); err != nil {
			return nil, nil, gone(err)
		}
	}
	view, err := s.h.t.GetAs(s.h.stopped, presence.AudienceSelf, s.actor.Subject)
	return c, &view, err
}

// bye ends the connection and the session.
func (s *Session) bye(m *message) error {
	switch m.Cause {
	case "", "closed":
		s.End(presence.CauseClosed, StatusNormal, "bye")
	case "logout":
		s.End(presence.CauseLogout, StatusNormal, "bye")
	default:
		return &fault{code: codeInvalid, text: "wire: invalid cause " + strconv.Quote(m.Cause) + ": a client does not leave by it", allowed: []string{"closed", "logout"}}
	}
	return nil
}

// watch starts to send the frames of a channel, from the position that the
// client gives.
func (s *Session) watch(m *message) error {
	// The clone is kept. A part of the request would keep all of it in memory.
	channel := strings.Clone(m.Channel)
	opts := presence.WatchOptions{Seq: m.Seq}
	switch epoch := m.Epoch.(type) {
	case nil:
	case string:
		opts.Epoch = epoch
	default:
		return faultf(codeMalformed, "malformed epoch \"%v\": it is not a string", epoch)
	}
	s.pull.Lock()
	n, twice := len(s.watches), s.watchedLocked(m.Channel) >= 0
	s.pull.Unlock()
	switch {
	case twice:
		return faultf(codeInvalid, "invalid channel %q: it is being watched already", m.Channel)
	case n >= s.h.opts.MaxChannels:
		return faultf(codeLimit, "limit channels: %d are being watched, no more are allowed; unwatch one first", n)
	}
	w := &watching{Mark: Mark{Channel: channel, Epoch: strings.Clone(opts.Epoch), Seq: m.Seq}}
	opts.Notify = func() {
		w.news.Store(true)
		s.wake()
	}
	var err error
	if w.watch, err = s.h.t.Watch(s.h.stopped, s.actor, presence.Channel{Tenant: s.actor.Subject.Tenant, ID: channel}, opts); err != nil {
		s.logUnavailable(faultOf(err), err)
		return err
	}
	s.follow(w.watch, func() {
		s.watches = append(s.watches, w)
		if m.Ref != "" {
			s.send(done{Type: "done", V: Version, Ref: m.Ref})
		}
	})
	return nil
}

// watchedLocked returns the index of the watch of a channel, or -1. The caller
// holds s.pull.
func (s *Session) watchedLocked(channel string) int {
	return slices.IndexFunc(s.watches, func(w *watching) bool { return w.Channel == channel })
}

// watchSelf starts to send the subject's own view at each change.
func (s *Session) watchSelf() {
	if !edge.Present(s.actor) {
		return
	}
	watch, err := s.h.t.WatchSubject(s.h.stopped, s.actor, s.actor.Subject, presence.WatchOptions{Notify: func() {
		s.ownNews.Store(true)
		s.wake()
	}})
	if err != nil {
		s.h.log.Warn("wire: own view", "subject", s.actor.Subject, "error", err)
		return
	}
	s.follow(watch, func() { s.own = watch })
}

// follow adds a watch under s.pull. If the session is over, it closes the watch
// instead.
func (s *Session) follow(watch *presence.Watch, add func()) {
	s.pull.Lock()
	finished := s.finished
	if !finished {
		add()
	}
	s.pull.Unlock()
	if finished {
		_ = watch.Close()
		return
	}
	s.wake() // an earlier call may have found no frame
}

// unwatch ends a watch. Once it returns, no more of its frames go out.
func (s *Session) unwatch(m *message) error {
	s.pull.Lock()
	defer s.pull.Unlock()
	i := s.watchedLocked(m.Channel)
	if i < 0 {
		return faultf(codeUnknown, "unknown channel %q: it is not being watched", m.Channel)
	}
	_ = s.watches[i].watch.Close()
	s.watches = slices.Delete(s.watches, i, i+1)
	if m.Ref != "" {
		_ = s.write(func(b *Batch) { s.pack(b, done{Type: "done", V: Version, Ref: m.Ref}, s.position()) })
	}
	return nil
}

// wake queues the session for writing. It never waits.
func (s *Session) wake() {
	if s.wakes.Add(1) != 1 {
		return
	}
	h := s.h
	h.mu.Lock()
	h.queueLocked(s)
	// If writers are slower than wakers, the waker writes for the latest
	// sessions in the queue, whose data is most likely still in the cache.
	var some [flushed]*Session
	n := 0
	if last := len(h.queue) - flushed; last >= flushed {
		n = copy(some[:], h.queue[last:])
		clear(h.queue[last:])
		h.queue = h.queue[:last]
	}
	h.mu.Unlock()
	for _, s := range some[:n] {
		s.flush(false)
	}
}

// wakeLocked is wake under the server's lock.
func (s *Session) wakeLocked() {
	if s.wakes.Add(1) == 1 {
		s.h.queueLocked(s)
	}
}

// flush writes until nothing is left. Without mayWait it hands over to a
// goroutine of the session when a write would wait.
func (s *Session) flush(mayWait bool) {
	for {
		reasons := s.wakes.Load()
		for more := true; more; {
			var left bool
			if more, left = s.passOn(mayWait); left {
				return
			}
		}
		if s.wakes.CompareAndSwap(reasons, 0) {
			return
		}
	}
}

// passOn writes the waiting pings and frames, as many as fit one batch. It
// returns whether more may wait, and whether it left the rest to a goroutine
// that may wait.
func (s *Session) passOn(mayWait bool) (more, left bool) {
	if mayWait {
		s.pull.Lock()
		s.out.Lock()
	} else if !s.tryLock() {
		s.h.running.Go(func() { s.flush(true) })
		return false, true
	}
	batch := batches.Get().(*Batch)
	s.packPings(batch)
	more = s.packFrames(batch)
	n, err := s.begin(batch)
	if err == nil && n < batch.Len() && !mayWait {
		// This write keeps out locked, so that every other write waits for it.
		s.pull.Unlock()
		s.h.running.Go(func() {
			_ = s.finish(batch, n)
			batch.free()
			s.flush(true)
		})
		return false, true
	}
	if err == nil && n < batch.Len() {
		err = s.finish(batch, n)
	} else {
		s.written(err)
	}
	batch.free()
	s.pull.Unlock()
	return more && err == nil, false
}

// tryLock locks pull and out, if the connection can be written without waiting
// and no other goroutine writes.
func (s *Session) tryLock() bool {
	if s.raw == nil || !s.pull.TryLock() {
		return false
	}
	if !s.out.TryLock() {
		s.pull.Unlock()
		return false
	}
	return true
}

// packPings appends the pings that are owed. If nothing was read since the last
// ping, it also asks the browser. Several pings owed count as one silence,
// since the server was late.
func (s *Session) packPings(b *Batch) {
	if s.owed.Load() == 0 {
		return
	}
	owed := s.owed.Swap(0)
	if s.unheard.Add(1) > 1 {
		s.framing.Ping(b)
	}
	for range owed {
		s.pack(b, ping{Type: "ping", V: Version, Seq: s.pings.Add(1), Now: s.h.t.Now()}, nil)
	}
}

// enough is the size in bytes at which a batch takes no further frame.
const enough = 64 << 10

// packFrames appends waiting frames to a batch, and reports whether it left
// some.
func (s *Session) packFrames(b *Batch) (more bool) {
	for s.own != nil && s.ownNews.Swap(false) {
		f, err := s.own.Poll()
		switch {
		case err != nil:
			s.h.log.Debug("wire: own view ended", "subject", s.actor.Subject, "error", err)
			s.own = nil
		case f != nil:
			s.packOwn(b, f)
			s.ownNews.Store(true) // Poll may have more
		}
	}
	for i := 0; i < len(s.watches) && !more; {
		w := s.watches[i]
		if !w.news.Load() {
			i++
			continue
		}
		w.news.Store(false)
		f, err := w.watch.Poll()
		switch {
		case err != nil:
			s.watches = slices.Delete(s.watches, i, i+1)
			s.over(b, w, err)
		case f != nil:
			if f.Kind == presence.FrameRemoved {
				s.watches = slices.Delete(s.watches, i, i+1) // a client may watch again before it reads this frame
			}
			s.packFrame(b, w, f)
			w.news.Store(true) // Poll may have more
			more = b.Len() >= enough
		}
	}
	return more
}

// packOwn appends a frame of the person's own view to a batch.
func (s *Session) packOwn(b *Batch, f *presence.Frame) {
	var view *presence.View
	for i := range f.Members {
		view = &f.Members[i]
	}
	told := false
	for i := range f.Changes {
		switch c := &f.Changes[i]; c.Op {
		case presence.OpChallenge, presence.OpRejected:
			s.pack(b, notice{Type: string(c.Op), V: Version, ID: c.ID, Status: c.Status, Until: c.Until}, nil)
			told = true
		default:
			view = c.View
		}
	}
	if view != nil || !told {
		s.pack(b, self{Type: "self", V: Version, View: view}, nil)
	}
}

// packFrame appends a frame of a channel to a batch.
func (s *Session) packFrame(b *Batch, w *watching, f *presence.Frame) {
	payload, err := f.JSON()
	if err != nil {
		s.h.log.Error("wire: a frame cannot be encoded", "channel", w.Channel, "error", err)
		return
	}
	w.Mark = Mark{f.Channel.ID, f.Epoch, f.Seq} // strings that all sessions share
	s.framing.Message(b, payload, s.position())
}

// position returns the position up to which the frames of all channels are
// written.
func (s *Session) position() Position {
	if !s.framing.Streams() {
		return nil
	}
	p := make(Position, 0, len(s.watches))
	for _, w := range s.watches {
		if w.Epoch != "" {
			p = append(p, w.Mark)
		}
	}
	return p
}

// over appends the error that ended a watch.
func (s *Session) over(b *Batch, w *watching, reason error) {
	f := faultOf(reason)
	s.logUnavailable(f, reason)
	s.pack(b, failure{Type: "error", V: Version, Code: f.code, Message: f.text, Channel: w.Channel}, s.position())
}

// blame sends an error. It ends a session with too many faults of its client.
func (s *Session) blame(now presence.Instant, ref, channel string, err error) {
	f := faultOf(err)
	s.send(failure{Type: "error", V: Version, Ref: ref, Code: f.code, Message: f.text, Channel: channel, Allowed: f.allowed})
	if !f.blames() {
		return
	}
	if s.strikes.Add(s.h.since(now)) {
		s.End(presence.CauseLost, StatusPolicy, "too many faults within a minute")
	}
}

func (s *Session) logUnavailable(f *fault, err error) {
	if f.code == codeUnavailable {
		s.h.log.Warn("wire: unavailable", "subject", s.actor.Subject, "error", err)
	}
}

// pack appends a message to a batch.
func (s *Session) pack(b *Batch, v any, at Position) {
	payload, err := json.Marshal(v)
	if err != nil {
		s.h.log.Error("wire: a message cannot be encoded", "error", err)
		return
	}
	s.framing.Message(b, payload, at)
}

// send writes a message.
func (s *Session) send(v any) {
	_ = s.write(func(b *Batch) { s.pack(b, v, nil) })
}

// write writes what pack appends to a batch.
func (s *Session) write(pack func(*Batch)) error {
	batch := batches.Get().(*Batch)
	defer batch.free()
	pack(batch)
	return s.writeBatch(batch)
}

// writeBatch writes a batch. A client that does not take it in time is lost.
func (s *Session) writeBatch(b *Batch) error {
	s.out.Lock()
	n, err := s.begin(b)
	if err == nil && n < b.Len() {
		return s.finish(b, n)
	}
	s.written(err)
	return err
}

// begin writes as much of a batch as the client takes at once, under s.out.
// That is nearly always the whole batch, and needs no deadline and no poller.
func (s *Session) begin(b *Batch) (n int, err error) {
	switch {
	case b.Len() == 0:
		return 0, nil
	case s.ending.Load() || s.broken:
		return 0, errOver
	case s.raw == nil:
		return 0, nil
	}
	return b.tryWrite(s.raw)
}

// finish writes the rest of a batch under s.out, and unlocks s.out.
func (s *Session) finish(b *Batch, from int) error {
	_ = s.conn.SetWriteDeadline(time.Now().Add(s.h.opts.WriteTimeout))
	if s.ending.Load() {
		if from == 0 {
			s.written(errOver)
			return errOver
		}
		// End may have set its deadline before the one above.
		_ = s.conn.SetWriteDeadline(time.Now().Add(edge.CloseTimeout))
	}
	_, err := b.writeRest(s.conn, from)
	s.written(err)
	return err
}

// errOver means that the session ended before the write.
var errOver = errors.New("wire: the session is over")

// written unlocks s.out after a write, and starts to end the session if the
// write failed.
func (s *Session) written(err error) {
	failed := err != nil && err != errOver
	if failed {
		s.broken = true
	}
	s.out.Unlock()
	if failed {
		s.h.running.Go(s.fail) // in a goroutine, since the writer may hold a lock that ending needs
	}
}

// fail ends a session that cannot be written to.
func (s *Session) fail() {
	if s.framing.Streams() {
		s.Lost()
		return
	}
	s.End(presence.CauseLost, StatusNone, "")
}

// Lost reports that the transport lost the client of a stream. The session ends
// a second later. Until then the client may open the stream again or send a
// bye.
func (s *Session) Lost() {
	s.conn.Close() // ends a write under way, which holds the lock
	s.out.Lock()
	s.broken = true
	s.out.Unlock()
	s.h.sever(s)
}

// End ends the session: the connection leaves by the cause at once. With a
// status the client gets it and a second to close. Only the first call does
// anything.
func (s *Session) End(cause presence.Cause, status Status, text string) {
	if s.ending.Swap(true) {
		return
	}
	s.h.ended(status)
	s.leave(cause)
	s.bid(status, text)
	s.Detach()
}

// bid sends the client the status and closes the connection.
func (s *Session) bid(status Status, text string) {
	if status == StatusNone {
		s.conn.Close()
		return
	}
	_ = s.conn.SetWriteDeadline(time.Now().Add(edge.CloseTimeout))
	s.out.Lock()
	defer s.out.Unlock()
	told := !s.broken
	if told {
		batch := batches.Get().(*Batch)
		defer batch.free()
		s.framing.Close(batch, status, text)
		_, err := batch.WriteTo(s.conn)
		told = err == nil
	}
	if !told || s.framing.Streams() {
		s.conn.Close()
		return
	}
	_ = s.conn.SetReadDeadline(time.Now().Add(edge.CloseTimeout))
}

// Detach reports that the transport no longer waits for the client. The session
// is forgotten once it has ended too.
func (s *Session) Detach() {
	if s.parts.Add(-1) > 0 {
		return
	}
	s.pull.Lock()
	s.finished = true
	for _, w := range s.watches {
		_ = w.watch.Close()
	}
	s.watches = nil
	if s.own != nil {
		_ = s.own.Close()
		s.own = nil
	}
	s.pull.Unlock()
	s.h.remove(s)
}

// leave ends the connection once. The cause of a replaced connection is empty:
// it continues in another session.
func (s *Session) leave(cause presence.Cause) {
	c := s.live.Swap(nil)
	if c == nil || cause == "" {
		return
	}
	if err := c.Leave(cause); err != nil {
		s.h.log.Debug("wire: leaving", "subject", c.Subject(), "conn", c.ID(), "error", err)
	}
}
