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

// Session is what one client and the server have to say to each other, over one
// socket or stream. Its methods are safe for concurrent use; messages are dealt
// with one at a time, in the order of the calls.
type Session struct {
	h       *Server
	actor   presence.Actor
	conn    Conn
	framing Framing

	// What writing a frame needs is side by side, since at every change that goes
	// to thousands it is fetched for each.
	raw    syscall.RawConn // of a connection on which writing can be tried; nil otherwise
	wakes  atomic.Int32    // reasons to look for something to write
	owed   atomic.Int32    // pings to be sent
	ending atomic.Bool

	finished bool       // under pull
	broken   bool       // under out: nothing can be written any more
	out      sync.Mutex // held while writing, by whoever is to finish that
	pull     sync.Mutex // held while frames are taken and writing begins; taken before out
	watches  []*watching
	own      *presence.Watch // of the person's own view
	ownNews  atomic.Bool     // it may have frames

	// Of the server, under its lock. The id and epoch are changed by whoever deals
	// with a message, who may read them without.
	severed  bool     // nothing can be told any more, and little time is left
	id       string   // of its connection
	next     *Session // of the same hash
	epoch    uint32
	place    int32 // in the heap, or -1
	due      time.Duration
	interval time.Duration // of pings; 0 before the hello

	live    atomic.Pointer[presence.Conn]
	parts   atomic.Int32 // of what has to end before the session is forgotten
	pings   atomic.Uint64
	unheard atomic.Int32 // pings sent since anything was read
	posts   atomic.Int32 // under way

	messages atomic.Uint64 // from the client
	in       sync.Mutex    // held while a message is dealt with
	input    time.Duration // the last input as the client reported it, if it did so last
	bucket   edge.Bucket   // of the rate limit
	strikes  edge.Strikes

	greeted, visible, told bool // under in; visible is what the client said last, if told
}

// watching is a watch of a channel whose frames a session passes on.
type watching struct {
	watch *presence.Watch
	news  atomic.Bool // it may have frames
	Mark              // how far its frames have been written
}

// key names the session's connection.
func (s *Session) key() connKey { return connKey{s.actor.Subject, s.id, !edge.Present(s.actor)} }

// answers reports whether the client has to answer pings: over a stream, those
// who only watch need not, as one that broke is found out by writing.
func (s *Session) answers() bool { return edge.Present(s.actor) || !s.framing.Streams() }

// Ending reports whether the session is over, so that nothing that comes in
// matters any more.
func (s *Session) Ending() bool { return s.ending.Load() }

// Heard notes that something came in, whatever it was.
func (s *Session) Heard() { s.unheard.Store(0) }

// Receive does what a message asks for, and answers it.
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

// Heartbeat takes in a message that is a heartbeat and tells nothing new, as
// most messages are and do. It reports false, and has done nothing, where there
// is more to do, for which [Session.Receive] is. It needs so little room that the
// smallest stack is enough.
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

// Begin says hello in the client's name and starts watching where a position
// says, as far as that goes. Without a hello that is taken the session ends.
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
			return // it is the same for all that follow
		}
	}
}

// post does what messages that came beside the session ask for. That they came
// is a heartbeat.
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
		_ = c.Heartbeat() // if it is not known any more, its next message is told
	}
}

// Reject tells the client what was wrong with something that came in its place.
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

// Answer writes what the transport has to say by itself, such as the answer to
// a ping of its own. It counts as a message of the client.
func (s *Session) Answer(pack func(*Batch)) {
	s.in.Lock()
	defer s.in.Unlock()
	if !s.ending.Load() && s.allow(s.h.t.Now()) {
		_ = s.write(pack)
	}
}

// allow counts a message and takes a token from the session's bucket. If there is
// none it reports that to the client.
func (s *Session) allow(now presence.Instant) bool {
	s.messages.Add(1)
	if !s.take(now) {
		o := &s.h.opts
		s.blame(now, "", "", faultf(codeRate, "more than %v messages a second with bursts of %d; this one was dropped", o.MessagesPerSecond, o.Burst))
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

// handleAny is handle by itself since it needs much room on the stack, for which
// that of a goroutine that only hears heartbeats would have to grow each time.
func (s *Session) handleAny(now presence.Instant, data []byte, posted bool) {
	m, err := decode(data)
	var answer any
	if err == nil {
		if posted {
			m.Conn = s.id // which it was addressed to
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

// do carries a message out. The answer is nil where there is nothing to say.
func (s *Session) do(now presence.Instant, m *message) (answer any, err error) {
	if !slices.Contains(types, m.Type) {
		return nil, &fault{code: codeInvalid, text: "wire: type " + strconv.Quote(m.Type) + " is not known", allowed: types}
	}
	if m.Type == typeHello {
		return nil, s.hello(now, m)
	}
	if !s.greeted {
		return nil, &fault{code: codeInvalid, text: "wire: say hello first", allowed: []string{typeHello}}
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

// act does what only those who have a presence may do.
func (s *Session) act(m *message) (*presence.View, error) {
	c := s.live.Load()
	if c == nil {
		return nil, faultf(codeNotAllowed, "%s only watches and has no presence to change", s.actor.Subject)
	}
	s.input = 0 // it may be input
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

// gone tells that a connection is no longer known as that it is stale: either
// way the client has to say hello again.
func gone(err error) error {
	if errors.Is(err, presence.ErrUnknown) {
		return &fault{code: codeStale, text: err.Error()}
	}
	return err
}

// sameInput is how far two reports of an input may differ that are of the same
// one: they took different times to arrive.
const sameInput = 500 * time.Millisecond

// pong is the heartbeat: it proves that the page's own code runs.
func (s *Session) pong(now presence.Instant, p Pong) error {
	if p.Seq == 0 || p.Seq > s.pings.Load() {
		return faultf(codeInvalid, "seq %d: the last ping was %d", p.Seq, s.pings.Load())
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
		err = c.Heartbeat() // which costs next to nothing
	}
	if err == nil && p.Told {
		err = s.see(c, p.Visible)
	}
	return gone(err)
}

// reports tells when the last input was by a heartbeat, and whether that is new.
func (s *Session) reports(now presence.Instant, p Pong) (input time.Duration, news bool) {
	if p.Idle < 0 {
		return input, false
	}
	input = s.h.since(now) - millis(p.Idle)
	return input, s.input == 0 || (input-s.input).Abs() >= sameInput
}

// see passes on whether the page can be seen, when that is news.
func (s *Session) see(c *presence.Conn, visible bool) error {
	if s.told && visible == s.visible {
		return nil
	}
	s.visible, s.told = visible, true
	return c.Visible(visible)
}

// hello opens or resumes the connection, which may be done again at any time,
// and lets pings begin.
func (s *Session) hello(now presence.Instant, m *message) error {
	if m.V != Version {
		return &fault{code: codeInvalid, text: "wire: version " + strconv.Itoa(m.V) + " is not spoken here", allowed: []string{strconv.Itoa(Version)}}
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

// connect makes the connection under the id asked for, or the present one.
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
		s.leave(presence.CauseLost) // whoever ended the session could not see the connection
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
		return &fault{code: codeInvalid, text: "wire: cause " + strconv.Quote(m.Cause) + " is no way to leave", allowed: []string{"closed", "logout"}}
	}
	return nil
}

// watch starts passing on the frames of a channel, from where the client says
// that it knows them.
func (s *Session) watch(m *message) error {
	// What is kept must not keep all of a request alive.
	channel := strings.Clone(m.Channel)
	opts := presence.WatchOptions{Seq: m.Seq}
	switch epoch := m.Epoch.(type) {
	case nil:
	case string:
		opts.Epoch = epoch
	default:
		return faultf(codeMalformed, "epoch: %v is not a string", epoch)
	}
	s.pull.Lock()
	n, twice := len(s.watches), s.watchedLocked(m.Channel) >= 0
	s.pull.Unlock()
	switch {
	case twice:
		return faultf(codeInvalid, "channel %q is being watched already", m.Channel)
	case n >= s.h.opts.MaxChannels:
		return faultf(codeLimit, "%d channels are being watched, which is all a session may; unwatch one first", n)
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

// watchedLocked returns which of the watches is that of a channel, or -1, under
// s.pull.
func (s *Session) watchedLocked(channel string) int {
	return slices.IndexFunc(s.watches, func(w *watching) bool { return w.Channel == channel })
}

// watchSelf sends the subject's own view whenever it changes.
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

// follow adds a watch to those whose frames are passed on, under s.pull, unless
// the session is over.
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
	s.wake() // it may have been called before there was anything to find
}

// unwatch ends a watch. Once it returns, no more of its frames go out.
func (s *Session) unwatch(m *message) error {
	s.pull.Lock()
	defer s.pull.Unlock()
	i := s.watchedLocked(m.Channel)
	if i < 0 {
		return faultf(codeUnknown, "channel %q is not being watched", m.Channel)
	}
	_ = s.watches[i].watch.Close()
	s.watches = slices.Delete(s.watches, i, i+1)
	if m.Ref != "" {
		_ = s.write(func(b *Batch) { s.pack(b, done{Type: "done", V: Version, Ref: m.Ref}, s.position()) })
	}
	return nil
}

// wake has somebody look for something to write. It never waits.
func (s *Session) wake() {
	if s.wakes.Add(1) != 1 {
		return
	}
	h := s.h
	h.mu.Lock()
	h.queueLocked(s)
	// Those who write may be slower than those who wake, who then take part: with
	// the latest, of which most is still at hand.
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

// flush writes what there is to write until there is no more. Unless it may
// wait, it leaves that to a goroutine of the session's own once it would have to.
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

// passOn writes the pings and frames that are waiting, as many as go out
// together. It reports whether there may be more, and whether it has left all
// that to somebody who may wait.
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
		// Whatever else is written meanwhile has to wait until this is.
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

// tryLock locks what is needed for writing, if it can be tried and nobody else
// is about to write.
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

// packPings asks the page for a heartbeat, and its browser for a sign of life if
// nothing at all came since the last time. Pings that piled up count as one
// silence, since it was the server that was late.
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

// enough is how many bytes are written at once, if there are more.
const enough = 64 << 10

// packFrames takes the frames that are waiting, and reports whether it left some.
func (s *Session) packFrames(b *Batch) (more bool) {
	for s.own != nil && s.ownNews.Swap(false) {
		f, err := s.own.Poll()
		switch {
		case err != nil:
			s.h.log.Debug("wire: own view ended", "subject", s.actor.Subject, "error", err)
			s.own = nil
		case f != nil:
			s.packOwn(b, f)
			s.ownNews.Store(true) // until there is none
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
				s.watches = slices.Delete(s.watches, i, i+1) // it is free for another try before that is known
			}
			s.packFrame(b, w, f)
			w.news.Store(true) // until there is none
			more = b.Len() >= enough
		}
	}
	return more
}

// packOwn appends to a batch what a frame tells a person of itself.
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
	w.Mark = Mark{f.Channel.ID, f.Epoch, f.Seq} // in words that all sessions share
	s.framing.Message(b, payload, s.position())
}

// position is how far the frames of all channels have been written.
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

// over tells the client that a watch has ended.
func (s *Session) over(b *Batch, w *watching, reason error) {
	f := faultOf(reason)
	s.logUnavailable(f, reason)
	s.pack(b, failure{Type: "error", V: Version, Code: f.code, Message: f.text, Channel: w.Channel}, s.position())
}

// blame tells the client what went wrong, and ends the session of one that goes
// on doing wrong.
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

// begin writes, under s.out, as much of a batch as the client takes at once. It
// is nearly always all of it, for which neither a deadline nor the runtime's
// poller is needed.
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

// finish writes the rest of a batch, under s.out, which it unlocks.
func (s *Session) finish(b *Batch, from int) error {
	_ = s.conn.SetWriteDeadline(time.Now().Add(s.h.opts.WriteTimeout))
	if s.ending.Load() {
		if from == 0 {
			s.written(errOver)
			return errOver
		}
		// End may have set its deadline before the one above.
		_ = s.conn.SetWriteDeadline(time.Now().Add(closeTimeout))
	}
	_, err := b.writeRest(s.conn, from)
	s.written(err)
	return err
}

// errOver says that something was not written since nothing is any more.
var errOver = errors.New("wire: the session is over")

// written unlocks s.out after writing, and has the session fail if that did.
func (s *Session) written(err error) {
	failed := err != nil && err != errOver
	if failed {
		s.broken = true
	}
	s.out.Unlock()
	if failed {
		s.h.running.Go(s.fail) // by itself, since whoever writes may hold what ending needs
	}
}

// fail ends a session to which nothing can be written.
func (s *Session) fail() {
	if s.framing.Streams() {
		s.Lost()
		return
	}
	s.End(presence.CauseLost, StatusNone, "")
}

// Lost notes that the way to the client is gone, of a stream that may be opened
// again or followed by a bye. The session ends a moment later.
func (s *Session) Lost() {
	s.conn.Close() // so that a write under way does not keep the lock
	s.out.Lock()
	s.broken = true
	s.out.Unlock()
	s.h.sever(s)
}

// End ends the session for everybody: the connection leaves by the cause at once,
// and the client is told the status, if there is one, and given a moment to
// close. Only the first call does anything.
func (s *Session) End(cause presence.Cause, status Status, text string) {
	if s.ending.Swap(true) {
		return
	}
	s.h.ended(status)
	s.leave(cause)
	s.bid(status, text)
	s.Detach()
}

// bid tells the client why it is over.
func (s *Session) bid(status Status, text string) {
	if status == StatusNone {
		s.conn.Close()
		return
	}
	_ = s.conn.SetWriteDeadline(time.Now().Add(closeTimeout))
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
	_ = s.conn.SetReadDeadline(time.Now().Add(closeTimeout))
}

// Detach is called when the transport no longer waits for the client. The session
// is forgotten once it has ended as well.
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

// leave ends the connection, once. One that was replaced has no cause: it goes on
// elsewhere.
func (s *Session) leave(cause presence.Cause) {
	c := s.live.Swap(nil)
	if c == nil || cause == "" {
		return
	}
	if err := c.Leave(cause); err != nil {
		s.h.log.Debug("wire: leaving", "subject", c.Subject(), "conn", c.ID(), "error", err)
	}
}
