package ws

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	gobwas "github.com/gobwas/ws"

	"github.com/presence-go/presence"
)

// socket is one open WebSocket. Its run goroutine reads, does what is asked and
// owns everything that is not marked otherwise.
type socket struct {
	h      *Handler
	actor  presence.Actor
	conn   net.Conn
	in     reader
	ctx    context.Context
	cancel context.CancelFunc

	// Of the handler, under its lock.
	key      connKey
	epoch    uint32
	place    int // in the heap
	due      time.Time
	interval time.Duration // of pings; 0 before the hello

	pinging atomic.Int32  // pings being sent or waiting for that
	pings   atomic.Uint64 // the number of the last
	unheard atomic.Int32  // pings sent since anything was read
	live    atomic.Pointer[presence.Conn]

	ending atomic.Bool
	out    sync.Mutex // held while writing
	broken bool       // nothing can be written any more; under out

	greeted bool
	visible bool // what the client said last, if told
	told    bool
	tokens  float64 // of the rate limit
	filled  time.Time
	faults  []time.Time // of the last minute

	pumps   sync.WaitGroup
	mu      sync.Mutex
	watches map[string]*pump
}

// pump is a watch whose frames go out over a socket.
type pump struct {
	watch *presence.Watch
	done  chan struct{}
}

func newSocket(h *Handler, actor presence.Actor, conn net.Conn, early []byte) *socket {
	from := io.Reader(conn)
	if len(early) > 0 {
		from = io.MultiReader(bytes.NewReader(early), conn)
	}
	s := &socket{h: h, actor: actor, conn: conn, in: newReader(from, h.opts.MaxMessage), tokens: float64(h.opts.Burst), filled: h.opts.Now()}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s
}

// present reports whether the actor has a presence of its own, rather than only
// watching.
func (s *socket) present() bool {
	return s.actor.Role != presence.RoleVisitor && s.actor.Role != presence.RoleSystem
}

// run reads what comes next, does what is asked and goes on in a goroutine of
// its own, until the socket has ended. What a goroutine does with a message
// makes its stack grow, and it would keep it while it waits for the next one,
// which a fresh goroutine does on the smallest there is.
func (s *socket) run() {
	closed, err := s.read()
	if err == nil && !closed {
		s.h.running.Go(s.run)
		return
	}
	switch {
	case s.ending.Load():
	case errors.Is(err, errTooLarge):
		s.end(presence.CauseLost, gobwas.StatusMessageTooBig, "message too long")
	case isProtocolError(err):
		s.end(presence.CauseLost, gobwas.StatusProtocolError, err.Error())
	default:
		s.end(presence.CauseLost, 0, "")
	}
	if err != nil {
		// What still comes in is read for a moment: to close the connection over
		// it would keep the reason from the client.
		_, _ = io.Copy(io.Discard, s.conn)
	}
	s.conn.Close()
	s.pumps.Wait()
	s.h.remove(s)
}

func isProtocolError(err error) bool {
	_, ok := errors.AsType[gobwas.ProtocolError](err)
	return ok || errors.Is(err, gobwas.ErrHeaderLengthMSB) || errors.Is(err, gobwas.ErrHeaderLengthUnexpected)
}

// buffers are for messages that are coming in or going out; idle sockets have none.
var buffers = sync.Pool{New: func() any { return new(bytes.Buffer) }}

// read takes in what comes next once something does. It reports whether the
// client closed.
func (s *socket) read() (closed bool, err error) {
	if err := s.in.wait(); err != nil {
		return false, err
	}
	buffer := buffers.Get().(*bytes.Buffer)
	defer buffers.Put(buffer)
	buffer.Reset()
	buffer.Grow(s.h.opts.MaxMessage)
	return s.message(buffer.AvailableBuffer())
}

// message takes in frames until it is not in the middle of a message.
func (s *socket) message(buf []byte) (closed bool, err error) {
	for {
		a, message, control, err := s.in.next(buf)
		if err != nil {
			return false, err
		}
		buf = message
		now := s.h.opts.Now()
		s.unheard.Store(0)
		if a == arrivedClose {
			code, _ := gobwas.ParseCloseFrameData(control)
			if code == 0 || gobwas.CheckCloseFrameData(code, "") != nil {
				code = gobwas.StatusNormalClosure
			}
			s.end(presence.CauseClosed, code, "")
			return true, nil
		}
		switch {
		case s.ending.Load():
		case !s.allow(now):
			s.blame(now, "", faultf(codeRate, "more than %v messages a second with bursts of %d; this one was dropped", s.h.opts.MessagesPerSecond, s.h.opts.Burst))
		case a == arrivedPing:
			_ = s.write(gobwas.OpPong, control)
		case a == arrivedBinary:
			s.blame(now, "", faultf(codeMalformed, "binary messages are not understood; send JSON as text"))
		case a == arrivedTooLarge:
			s.blame(now, "", faultf(codeTooLarge, "the message is longer than %d bytes", s.h.opts.MaxMessage))
		case a == arrivedMessage:
			s.handle(now, message)
		}
		if !s.in.partial() {
			return false, nil
		}
	}
}

// allow takes a token from the socket's bucket if there is one.
func (s *socket) allow(now time.Time) bool {
	o := &s.h.opts
	if passed := now.Sub(s.filled); passed > 0 {
		s.tokens = min(s.tokens+passed.Seconds()*o.MessagesPerSecond, float64(o.Burst))
	}
	s.filled = now
	if s.tokens < 1 {
		return false
	}
	s.tokens--
	return true
}

// handle does what a message asks for and answers it.
func (s *socket) handle(now time.Time, data []byte) {
	m, err := decode(data)
	var answer any
	if err == nil {
		answer, err = s.do(now, &m)
	}
	switch {
	case err != nil && s.ctx.Err() == nil:
		s.blame(now, m.Ref, err)
	case err == nil && answer != nil:
		s.send(answer)
	}
}

// do carries a message out. The answer is nil where there is nothing to say.
func (s *socket) do(now time.Time, m *message) (answer any, err error) {
	if !slices.Contains(types, m.Type) {
		return nil, &fault{code: codeInvalid, text: "ws: type " + strconv.Quote(m.Type) + " is not known", allowed: types}
	}
	if m.Type == typeHello {
		return nil, s.hello(now, m)
	}
	if !s.greeted {
		return nil, &fault{code: codeInvalid, text: "ws: say hello first", allowed: []string{typeHello}}
	}
	var view *presence.View
	switch m.Type {
	case typeWatch:
		return nil, s.watch(m)
	case typeUnwatch:
		err = s.unwatch(m.Channel)
	case typeBye:
		return nil, s.bye(m)
	case typePong:
		err = s.pong(m)
	default:
		view, err = s.act(m)
	}
	if err != nil || m.Ref == "" {
		return nil, err
	}
	return done{Type: "done", V: Version, Ref: m.Ref, View: view}, nil
}

// act does what only those who have a presence may do.
func (s *socket) act(m *message) (*presence.View, error) {
	c := s.live.Load()
	if c == nil {
		return nil, faultf(codeNotAllowed, "%s only watches and has no presence to change", s.actor.Ref)
	}
	var view presence.View
	var err error
	switch m.Type {
	case typeInput:
		return nil, gone(c.Input())
	case typeFocus:
		return nil, gone(c.Focus(m.Channel))
	case typeClaim:
		view, err = c.Claim(s.ctx, presence.Claim{Status: m.Status, For: millis(m.For), Reason: m.Reason, Text: m.Text})
	case typeRelease:
		view, err = c.EndClaim(s.ctx, m.Key)
	}
	if err == nil {
		return &view, nil
	}
	f := faultOf(err)
	if m.Type == typeClaim && (f.code == codeUnknown || f.code == codeNotAllowed) {
		for _, status := range s.selectable() {
			f.allowed = append(f.allowed, status.ID)
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

// pong is the heartbeat: it proves that the page's own code runs.
func (s *socket) pong(m *message) error {
	if m.Seq == 0 || m.Seq > s.pings.Load() {
		return faultf(codeInvalid, "seq %d: the last ping was %d", m.Seq, s.pings.Load())
	}
	c := s.live.Load()
	if c == nil {
		return nil
	}
	var err error
	if m.Idle != nil {
		err = c.Report(m.Seq, millis(*m.Idle))
	} else {
		err = c.Heartbeat()
	}
	if err == nil {
		err = s.see(c, m.Visible)
	}
	return gone(err)
}

// see passes on whether the page can be seen, when that is news.
func (s *socket) see(c *presence.Conn, visible *bool) error {
	if visible == nil || s.told && *visible == s.visible {
		return nil
	}
	s.visible, s.told = *visible, true
	return c.Visible(*visible)
}

// hello opens or resumes the connection, which may be done again at any time,
// and lets pings begin.
func (s *socket) hello(now time.Time, m *message) error {
	if m.V != Version {
		return &fault{code: codeInvalid, text: "ws: version " + strconv.Itoa(m.V) + " is not spoken here", allowed: []string{strconv.Itoa(Version)}}
	}
	policy := s.h.t.Policy(s.actor.Tenant)
	answer := welcome{Type: "welcome", V: Version, Ref: m.Ref, Now: presence.At(now), Lease: policy.Lease.Milliseconds(), Statuses: []status{}}
	if s.present() {
		c, view, err := s.connect(m)
		if err != nil {
			s.logUnavailable(faultOf(err), err)
			return err
		}
		answer.Conn, answer.Epoch, answer.Self = c.ID(), c.Epoch(), view
		answer.Statuses = s.selectable()
	}
	interval := policy.Heartbeat
	if s.h.opts.PingInterval > 0 {
		interval = s.h.opts.PingInterval
	}
	answer.Heartbeat = interval.Milliseconds()
	s.greeted = true
	s.h.schedule(s, interval)
	s.send(answer)
	if s.watches == nil {
		s.watches = make(map[string]*pump)
		s.watchSelf()
	}
	return nil
}

// connect makes the connection under the id asked for, or the present one.
func (s *socket) connect(m *message) (*presence.Conn, *presence.View, error) {
	opts := presence.ConnectOptions{ID: m.Conn, Device: m.Device, Login: m.Login}
	if m.Idle != nil {
		opts.IdleFor = millis(*m.Idle)
	}
	before := s.live.Load()
	if before != nil && opts.ID == "" {
		opts.ID = before.ID()
	}
	c, err := s.h.t.Connect(s.ctx, s.actor.Ref, opts)
	if err != nil {
		return nil, nil, err
	}
	if before != nil && before.ID() != c.ID() {
		_ = before.Close()
	}
	s.live.Store(c)
	s.told = false
	switch {
	case !s.h.bind(s, c.ID(), c.Epoch()):
		s.end("", StatusReplaced, "the connection goes on over another socket")
	case s.ending.Load():
		s.leave(presence.CauseLost) // whoever ended the socket could not see the connection
	}
	if err := s.see(c, m.Visible); err != nil {
		return nil, nil, gone(err)
	}
	view, err := s.h.t.Get(s.ctx, s.actor.Ref, presence.AudienceSelf)
	return c, &view, err
}

// selectable lists the statuses that the person may choose.
func (s *socket) selectable() []status {
	list := []status{}
	for _, def := range s.h.t.Policy(s.actor.Tenant).Statuses {
		if slices.Contains(def.SelectableBy, presence.BySelf) {
			list = append(list, status{ID: def.ID, Label: def.Label, Class: def.Class, Color: def.Color})
		}
	}
	return list
}

// bye ends the connection and the socket.
func (s *socket) bye(m *message) error {
	switch m.Cause {
	case "", "closed":
		s.end(presence.CauseClosed, gobwas.StatusNormalClosure, "bye")
	case "logout":
		s.end(presence.CauseLogout, gobwas.StatusNormalClosure, "bye")
	default:
		return &fault{code: codeInvalid, text: "ws: cause " + strconv.Quote(m.Cause) + " is no way to leave", allowed: []string{"closed", "logout"}}
	}
	return nil
}

// watch starts sending the frames of a channel.
func (s *socket) watch(m *message) error {
	s.mu.Lock()
	n, twice := len(s.watches), s.watches[m.Channel] != nil
	s.mu.Unlock()
	switch {
	case twice:
		return faultf(codeInvalid, "channel %q is being watched already", m.Channel)
	case n >= s.h.opts.MaxChannels:
		return faultf(codeLimit, "%d channels are being watched, which is all a socket may; unwatch one first", n)
	}
	w, err := s.h.t.Watch(s.ctx, s.actor, presence.Ref{Tenant: s.actor.Tenant, ID: m.Channel}, presence.WatchOptions{})
	if err != nil {
		s.logUnavailable(faultOf(err), err)
		return err
	}
	p := &pump{watch: w, done: make(chan struct{})}
	s.mu.Lock()
	s.watches[m.Channel] = p
	s.mu.Unlock()
	if m.Ref != "" {
		s.send(done{Type: "done", V: Version, Ref: m.Ref})
	}
	channel := m.Channel
	s.pumps.Go(func() {
		defer close(p.done)
		s.over(channel, p, w.Stream(s.ctx, outlet{s, channel, p}))
	})
	return nil
}

// forget frees the place of a watch and reports whether it still had it.
func (s *socket) forget(channel string, p *pump) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.watches[channel] != p {
		return false
	}
	delete(s.watches, channel)
	return true
}

// over tells the client that a watch has ended, where it does not know.
func (s *socket) over(channel string, p *pump, reason error) {
	if !s.forget(channel, p) || s.ending.Load() {
		return
	}
	f := faultOf(reason)
	s.logUnavailable(f, reason)
	s.send(failure{Type: "error", V: Version, Code: f.code, Message: f.text, Channel: channel})
}

// unwatch ends a watch. Once it returns, no more of its frames go out.
func (s *socket) unwatch(channel string) error {
	s.mu.Lock()
	p := s.watches[channel]
	delete(s.watches, channel)
	s.mu.Unlock()
	if p == nil {
		return faultf(codeUnknown, "channel %q is not being watched", channel)
	}
	_ = p.watch.Close()
	<-p.done
	return nil
}

// watchSelf sends the subject's own view whenever it changes.
func (s *socket) watchSelf() {
	if !s.present() {
		return
	}
	w, err := s.h.t.WatchSubject(s.ctx, s.actor, s.actor.Ref, presence.WatchOptions{})
	if err != nil {
		s.h.log.Warn("ws: own view", "subject", s.actor.Ref, "error", err)
		return
	}
	s.pumps.Go(func() {
		if err := w.Stream(s.ctx, mirror{s}); s.ctx.Err() == nil {
			s.h.log.Debug("ws: own view ended", "subject", s.actor.Ref, "error", err)
		}
	})
}

// outlet sends the frames of a channel, which are encoded once for all sockets.
type outlet struct {
	s       *socket
	channel string
	p       *pump
}

func (o outlet) Send(_ context.Context, f *presence.Frame) error {
	payload, err := f.JSON()
	if err != nil {
		return err
	}
	if f.Kind == presence.FrameRemoved {
		o.s.forget(o.channel, o.p) // it is free for another try before that is known
	}
	return o.s.write(gobwas.OpText, payload)
}

func (outlet) Close(error) error { return nil }

// mirror sends a subject its own view.
type mirror struct{ s *socket }

func (o mirror) Send(_ context.Context, f *presence.Frame) error {
	var view *presence.View
	for i := range f.Members {
		view = &f.Members[i]
	}
	for i := range f.Changes {
		view = f.Changes[i].View
	}
	return o.s.send(self{Type: "self", V: Version, View: view})
}

func (mirror) Close(error) error { return nil }

// ping asks the page for a heartbeat, and its browser for a sign of life if
// nothing at all came since the last time. It goes on until all that have been
// called for meanwhile are sent; those that piled up count as one silence, since
// it was the server that was late.
func (s *socket) ping(now time.Time) {
	if s.unheard.Add(1) > 1 {
		_ = s.write(gobwas.OpPing, nil)
	}
	for left := int32(1); left > 0; left = s.pinging.Add(-1) {
		_ = s.send(ping{Type: "ping", V: Version, Seq: s.pings.Add(1), Now: presence.At(now)})
	}
}

// blame tells the client what went wrong, and ends the socket of one that goes
// on doing wrong.
func (s *socket) blame(now time.Time, ref string, err error) {
	f := faultOf(err)
	s.send(failure{Type: "error", V: Version, Ref: ref, Code: f.code, Message: f.text, Allowed: f.allowed})
	if !f.blames() {
		return
	}
	s.faults = slices.DeleteFunc(s.faults, func(at time.Time) bool { return now.Sub(at) >= time.Minute })
	if s.faults = append(s.faults, now); len(s.faults) >= faultsPerMinute {
		s.end(presence.CauseLost, gobwas.StatusPolicyViolation, "too many faults within a minute")
	}
}

func (s *socket) logUnavailable(f *fault, err error) {
	if f.code == codeUnavailable {
		s.h.log.Warn("ws: unavailable", "subject", s.actor.Ref, "error", err)
	}
}

// send encodes and writes a message.
func (s *socket) send(v any) error {
	payload, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return s.write(gobwas.OpText, payload)
}

// write sends one frame. A client that does not take it in time is lost.
func (s *socket) write(op gobwas.OpCode, payload []byte) error {
	s.out.Lock()
	// The order of the next two lines and of those in end makes sure that whoever
	// writes on has the short deadline.
	_ = s.conn.SetWriteDeadline(time.Now().Add(s.h.opts.WriteTimeout))
	if s.ending.Load() {
		s.out.Unlock()
		return net.ErrClosed
	}
	err := s.writeLocked(op, payload)
	s.out.Unlock()
	if err != nil {
		s.end(presence.CauseLost, 0, "")
	}
	return err
}

func (s *socket) writeLocked(op gobwas.OpCode, payload []byte) error {
	buffer := buffers.Get().(*bytes.Buffer)
	defer buffers.Put(buffer)
	err := writeFrame(s.conn, buffer, op, payload)
	s.broken = s.broken || err != nil
	return err
}

// end ends the socket for everybody: the connection leaves by the cause at once,
// and the client is told the status, if there is one, and given a moment to
// close. Only the first call does anything.
func (s *socket) end(cause presence.Cause, status gobwas.StatusCode, text string) {
	if s.ending.Swap(true) {
		return
	}
	s.leave(cause)
	s.cancel()
	if status == 0 {
		s.conn.Close()
		return
	}
	_ = s.conn.SetWriteDeadline(time.Now().Add(closeTimeout))
	s.out.Lock()
	defer s.out.Unlock()
	if s.broken || s.writeLocked(gobwas.OpClose, gobwas.NewCloseFrameBody(status, text)) != nil {
		s.conn.Close()
		return
	}
	_ = s.conn.SetReadDeadline(time.Now().Add(closeTimeout))
}

// leave says how the connection left, once.
func (s *socket) leave(cause presence.Cause) {
	c := s.live.Swap(nil)
	if c == nil {
		return
	}
	var err error
	switch cause {
	case presence.CauseClosed:
		err = c.Close()
	case presence.CauseLost:
		err = c.Lost()
	case presence.CauseLogout:
		err = c.Logout()
	case presence.CauseDrain:
		err = s.h.t.Apply(context.Background(), presence.Event{Kind: presence.EventDisconnect, Subject: c.Subject(), Conn: c.ID(), Epoch: c.Epoch(), Cause: cause})
	}
	if err != nil {
		s.h.log.Debug("ws: leaving", "subject", c.Subject(), "conn", c.ID(), "error", err)
	}
}
