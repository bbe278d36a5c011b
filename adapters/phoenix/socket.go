package phoenix

import (
	"cmp"
	"context"
	"errors"
	"net"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/presence-go/presence"
	"github.com/presence-go/presence/adapters/internal/edge"
)

// socket is one open WebSocket. Its run goroutine reads and carries out
// messages. It owns every field that is not marked otherwise.
type socket struct {
	h      *Handler
	actor  presence.Actor // replaced by a join with another token
	params url.Values
	opened Credentials
	token  string // the token that authenticated the actor
	form   serializer
	conn   net.Conn
	in     edge.Frames
	ctx    context.Context
	cancel context.CancelFunc

	began  time.Time
	bucket edge.Bucket

	ending atomic.Bool
	out    sync.Mutex // held while writing
	broken bool       // no write can succeed; under out

	pumps sync.WaitGroup
	mu    sync.Mutex
	// Under mu.
	topics map[string]*topic

	binding sync.Mutex // held while the connection is opened or given up
	// Under binding.
	holds map[string]bool // the topics that need the connection
	live  *presence.Conn
	left  presence.Cause // the cause of the socket's end, or ""
}

// topic is a topic that a socket has joined.
type topic struct {
	name    string
	joinRef *string
	channel presence.Channel
	room    *room
	watch   *presence.Watch // of the pump
	ctx     context.Context
	cancel  context.CancelFunc
	done    chan struct{} // closed once nothing more of the topic is sent
}

const (
	maxParts   = 1024 // frames of a message, pings between them included
	keptBuffer = 4096 // bytes of the largest buffer that is kept
)

// The statuses of close frames that this package decides.
const (
	statusGoingAway = 1001
	statusPolicy    = 1008
)

func newSocket(h *Handler, actor presence.Actor, c Credentials, form serializer, conn net.Conn, early []byte) *socket {
	s := &socket{
		h: h, actor: actor, params: c.Params, opened: c, token: c.Token, form: form, conn: conn,
		in:    edge.After(early, conn, edge.FrameLimits{Message: h.opts.MaxMessage, Parts: maxParts}),
		began: time.Now(), bucket: edge.NewBucket(0, h.opts.Burst),
		topics: make(map[string]*topic), holds: make(map[string]bool),
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s
}

// run reads and carries out messages until the socket has ended.
func (s *socket) run() {
	err := s.read()
	wrong, violated := errors.AsType[*edge.Violation](err)
	switch {
	case violated:
		s.end(presence.CauseLost, wrong.Status, wrong.Text)
	case s.ending.Load():
	case isTimeout(err):
		s.end(presence.CauseLost, statusPolicy, "nothing was heard")
	default:
		s.end(presence.CauseLost, 0, "")
	}
	if err != nil && !violated {
		err = s.in.AwaitClose()
	}
	if err == nil || violated {
		edge.HangUp(s.conn, &s.in, !violated)
	} else {
		s.conn.Close()
	}
	s.pumps.Wait()
	s.h.remove(s)
}

func isTimeout(err error) bool {
	timeout, ok := errors.AsType[net.Error](err)
	return ok && timeout.Timeout()
}

// read reads and carries out messages until the client closes. An error means
// that the socket has ended otherwise, or has to.
func (s *socket) read() error {
	var buffer []byte
	for {
		_ = s.conn.SetReadDeadline(time.Now().Add(s.h.opts.IdleTimeout))
		if s.ending.Load() { // the end set this deadline before the one above
			_ = s.conn.SetReadDeadline(time.Now().Add(edge.CloseTimeout))
			return net.ErrClosed
		}
		a, data, control, err := s.in.Next(buffer)
		if buffer = data; err != nil {
			return err
		}
		switch a {
		case edge.ArrivedPart:
			continue
		case edge.ArrivedClose:
			s.end(presence.CauseClosed, edge.CloseReply(control), "")
			return nil
		case edge.ArrivedPing:
			_ = s.write(edge.OpPong, control)
		case edge.ArrivedBinary:
			err = s.refuse(data)
		case edge.ArrivedMessage:
			err = s.handle(data)
		}
		if err != nil {
			return err
		}
		if cap(buffer) > keptBuffer && !s.in.Partial() {
			buffer = nil
		}
		if !s.pace() {
			return net.ErrClosed
		}
	}
}

// pace waits until the next frame may be read. It returns false if the socket
// ends meanwhile.
func (s *socket) pace() bool {
	o := &s.h.opts
	due := s.bucket.Borrow(time.Since(s.began), o.MessagesPerSecond, o.Burst)
	if due == 0 {
		return true
	}
	wait := time.NewTimer(due)
	defer wait.Stop()
	select {
	case <-wait.C:
		return true
	case <-s.ctx.Done():
		return false
	}
}

// refuse answers a binary message.
func (s *socket) refuse(data []byte) error {
	m, err := decodeBinary(data)
	if err == nil {
		s.answer(&m, nil, faultf(wordUnknown, "unknown event: only presence is carried"))
	}
	return err
}

// handle carries out a message and answers it.
func (s *socket) handle(data []byte) error {
	m, err := s.form.decode(data)
	if err != nil {
		return err
	}
	s.beat()
	response, err := s.do(&m)
	s.answer(&m, response, err)
	if err == nil {
		s.after(&m)
	}
	return nil
}

// answer replies to a message with a ref.
func (s *socket) answer(m *message, response any, err error) {
	if m.ref == nil {
		return
	}
	answer := reply{"ok", response}
	if err != nil {
		f := faultOf(err)
		s.logUnavailable(f, err)
		answer = reply{"error", f}
	} else if response == nil {
		answer.Response = struct{}{}
	}
	_ = s.push(m.joinRef, m.ref, m.topic, eventReply, answer)
}

// after carries out what follows the reply to a message.
func (s *socket) after(m *message) {
	switch m.event {
	case eventJoin:
		s.mu.Lock()
		t := s.topics[m.topic]
		s.mu.Unlock()
		if t != nil {
			s.pumps.Go(func() { s.pump(t) })
		}
	case eventLeave:
		// A client that has joined the topic again meanwhile ignores the end of an
		// older join by its ref, which the oldest clients do not send.
		ref := cmp.Or(m.joinRef, m.left, m.ref)
		_ = s.push(ref, ref, m.topic, eventClose, struct{}{})
	}
}

// do carries out a message.
func (s *socket) do(m *message) (response any, err error) {
	if m.topic == "phoenix" {
		if m.event != eventHeartbeat {
			return nil, faultf(wordUnknown, "unknown event %q: the topic phoenix has only heartbeats", m.event)
		}
		return nil, nil
	}
	p, err := decodePayload(m.payload)
	if err != nil {
		return nil, err
	}
	if m.event == eventJoin {
		return s.join(m, &p)
	}
	s.mu.Lock()
	t := s.topics[m.topic]
	s.mu.Unlock()
	if t == nil || m.joinRef != nil && t.joinRef != nil && *m.joinRef != *t.joinRef {
		if m.event == eventLeave {
			return nil, nil // the socket has left it, or has lost access
		}
		return nil, faultf(wordUnknown, "unknown topic %q: it is not joined", m.topic)
	}
	switch m.event {
	case eventLeave:
		m.left = t.joinRef
		s.part(t)
		return nil, nil
	case eventToken:
		if s.h.opts.Dialect == Supabase {
			return nil, s.renew(t, p.AccessToken)
		}
	case eventPresence:
		if s.h.opts.Dialect == Supabase {
			return s.track(t, &p)
		}
	}
	return s.act(t, m.event, &p)
}

// present reports whether the actor has a presence of its own.
func (s *socket) present() bool { return edge.Present(s.actor) }

// joined is the reply to a join.
type joined struct {
	Key      string   `json:"key,omitempty"`
	Conn     string   `json:"conn,omitempty"`
	Statuses []status `json:"statuses,omitempty"`
}

// status is one that the person may choose.
type status struct {
	ID    string         `json:"id"`
	Label string         `json:"label"`
	Class presence.Class `json:"class"`
	Color string         `json:"color,omitzero"`
}

// join joins a topic. The sending of its channel begins after the reply.
func (s *socket) join(m *message, p *payload) (response any, err error) {
	if s.h.opts.Dialect == Supabase && p.AccessToken != "" {
		if err := s.become(p.AccessToken); err != nil {
			return nil, err
		}
	}
	channel := presence.Channel{Tenant: s.actor.Subject.Tenant, ID: s.h.opts.Channel(m.topic)}
	if channel.ID == "" {
		return nil, faultf(wordUnknown, "unknown topic %q", m.topic)
	}
	s.mu.Lock()
	old, n := s.topics[m.topic], len(s.topics)
	s.mu.Unlock()
	if old != nil { // the client has forgotten the topic
		s.stop(old)
		_ = s.push(old.joinRef, old.joinRef, old.name, eventClose, struct{}{})
	} else if n >= s.h.opts.MaxTopics {
		return nil, faultf(wordLimit, "limit topics: %d are joined, no more are allowed; leave one first", n)
	}
	w, err := s.h.t.Watch(s.ctx, s.actor, channel, presence.WatchOptions{})
	if err == nil && s.h.opts.Dialect == Phoenix && s.present() {
		if err = s.hold(m.topic); err != nil {
			_ = w.Close()
		}
	}
	if err != nil {
		if old != nil {
			s.unhold(m.topic)
		}
		return nil, err
	}
	t := &topic{
		name: m.topic, joinRef: m.joinRef, channel: channel, watch: w, done: make(chan struct{}),
		room: s.h.enter(roomKey{m.topic, channel, s.actor.Audience(), s.form}),
	}
	t.ctx, t.cancel = context.WithCancel(s.ctx)
	s.mu.Lock()
	s.topics[m.topic] = t
	s.mu.Unlock()
	answer := joined{}
	if s.present() {
		answer.Key, answer.Statuses = Key(s.actor.Subject), s.selectable()
		s.binding.Lock()
		if s.live != nil {
			answer.Conn = s.live.ID()
		}
		s.binding.Unlock()
	}
	return answer, nil
}

// selectable lists the statuses that the person may choose.
func (s *socket) selectable() (list []status) {
	for _, def := range s.h.t.Policy(s.actor.Subject.Tenant).Statuses {
		if slices.Contains(def.SelectableBy, presence.BySelf) {
			list = append(list, status{ID: def.ID, Label: def.Label, Class: def.Class, Color: def.Color})
		}
	}
	return list
}

// become makes the socket that of the actor of an access token.
func (s *socket) become(token string) error {
	if token == s.token {
		return nil
	}
	actor, err := s.authenticate(token)
	if err != nil {
		return err
	}
	if actor != s.actor {
		s.mu.Lock()
		n := len(s.topics)
		s.mu.Unlock()
		if n > 0 {
			return faultf(wordNotAllowed, "not allowed token: the socket is that of %s; open another for %s", s.actor.Subject, actor.Subject)
		}
		if full := s.h.seats.Move(s.actor.Subject, actor.Subject); full != nil {
			return refusalFault(full)
		}
		s.actor = actor
	}
	s.token = token
	return nil
}

func (s *socket) authenticate(token string) (presence.Actor, error) {
	c := s.opened
	c.Token = token
	actor, refused := s.h.authenticate(c)
	if refused != nil {
		return actor, refusalFault(refused)
	}
	return actor, nil
}

// renew checks another access token for a joined topic. A token of another
// actor, or of none, ends the topic.
func (s *socket) renew(t *topic, token string) error {
	if token == "" || token == s.token {
		return nil
	}
	actor, err := s.authenticate(token)
	if err == nil && actor != s.actor {
		err = faultf(wordNotAllowed, "not allowed token: it is not that of %s", s.actor.Subject)
	}
	if err != nil {
		s.part(t)
		_ = s.push(t.joinRef, t.joinRef, t.name, eventClose, faultOf(err))
		return err
	}
	s.token = token
	return nil
}

// stop ends the sending of a topic. Once it returns, no more of the topic is
// sent.
func (s *socket) stop(t *topic) {
	s.mu.Lock()
	delete(s.topics, t.name)
	s.mu.Unlock()
	t.cancel()
	<-t.done
}

// part leaves a topic.
func (s *socket) part(t *topic) {
	s.stop(t)
	s.unhold(t.name)
}

// pump sends the frames of a topic until its watch ends.
func (s *socket) pump(t *topic) {
	reason := s.stream(t)
	_ = t.watch.Close()
	s.h.leave(t.room)
	s.mu.Lock()
	ended := s.topics[t.name] == t
	if ended {
		delete(s.topics, t.name)
	}
	s.mu.Unlock()
	close(t.done)
	if !ended || s.ending.Load() {
		return
	}
	s.unhold(t.name)
	f := faultOf(reason)
	s.logUnavailable(f, reason)
	event := eventError // the client joins again
	if f.word == wordNotAllowed {
		event = eventClose // the client does not join again
	}
	_ = s.push(t.joinRef, t.joinRef, t.name, event, f)
}

func (s *socket) stream(t *topic) error {
	for {
		f, err := t.watch.Next(t.ctx)
		if err != nil {
			return err
		}
		if f.Kind == presence.FrameRemoved {
			continue // the next call returns the reason
		}
		messages, ok := t.room.turn(f, t.joinRef)
		if !ok {
			// The room no longer has the messages of this frame.
			again, err := s.h.t.Watch(t.ctx, s.actor, t.channel, presence.WatchOptions{})
			if err != nil {
				return err
			}
			_ = t.watch.Close()
			t.watch = again
			continue
		}
		for _, m := range messages {
			if err := s.write(edge.OpText, m); err != nil {
				return err
			}
		}
	}
}

// hold opens a connection unless the socket has one, and notes that a topic
// needs it.
func (s *socket) hold(topic string) error {
	s.binding.Lock()
	defer s.binding.Unlock()
	if s.live == nil {
		if err := s.connectLocked(s.params.Get("conn")); err != nil {
			return err
		}
	}
	s.holds[topic] = true
	return nil
}

// connectLocked opens a connection, under an id if it is not empty.
func (s *socket) connectLocked(id string) error {
	if s.left != "" {
		return faultf(wordUnavailable, "unavailable socket: it has ended")
	}
	opts := presence.ConnectOptions{ID: id, Device: s.params.Get("device"), Login: s.params.Get("login") == "true"}
	c, err := s.h.t.Connect(s.ctx, s.actor.Subject, opts)
	if err == nil {
		s.live = c
		s.params.Del("login") // the credentials were entered once
	}
	return err
}

// unhold closes the connection once no topic needs it. A client that joins
// again within the policy's grace never left.
func (s *socket) unhold(topic string) {
	s.binding.Lock()
	defer s.binding.Unlock()
	delete(s.holds, topic)
	if len(s.holds) == 0 {
		s.giveUpLocked(presence.CauseClosed)
	}
}

// giveUpLocked ends the connection by a cause, if the socket has one.
func (s *socket) giveUpLocked(cause presence.Cause) {
	c := s.live
	s.live = nil
	clear(s.holds)
	if c == nil {
		return
	}
	if err := c.Leave(cause); err != nil {
		s.h.log.Debug("phoenix: leaving", "subject", c.Subject(), "conn", c.ID(), "error", err)
	}
}

// beat notes that the page is alive. It connects again if the connection has
// ended, or was taken over by another page.
func (s *socket) beat() {
	s.binding.Lock()
	defer s.binding.Unlock()
	if s.live == nil {
		return
	}
	err := s.live.Heartbeat()
	if errors.Is(err, presence.ErrStale) || errors.Is(err, presence.ErrUnknown) {
		err = s.connectLocked("")
	}
	if err != nil {
		s.h.log.Debug("phoenix: heartbeat", "subject", s.actor.Subject, "error", err)
	}
}

// act carries out an event that needs a connection.
func (s *socket) act(t *topic, event string, p *payload) (response any, err error) {
	switch event {
	case eventClaim, eventRelease, eventInput, eventFocus, eventLogout:
	default:
		return nil, faultf(wordUnknown, "unknown event %q; allowed: claim, release, input, focus, logout", event)
	}
	s.binding.Lock()
	c := s.live
	s.binding.Unlock()
	if c == nil {
		return nil, faultf(wordNotAllowed, "not allowed event %q: %s only watches and has no presence to change", event, s.actor.Subject)
	}
	switch event {
	case eventClaim:
		return c.Claim(s.ctx, presence.Claim{Status: p.Status, For: millis(p.For), Reason: p.Reason, Text: p.Text})
	case eventRelease:
		return c.EndClaim(s.ctx, p.Key)
	case eventInput:
		if p.Idle != nil {
			return nil, c.Report(0, millis(*p.Idle))
		}
		return nil, c.Input()
	case eventFocus:
		if p.On != nil && !*p.On {
			return nil, c.Focus("")
		}
		return nil, c.Focus(t.channel.ID)
	default:
		s.binding.Lock()
		defer s.binding.Unlock()
		s.giveUpLocked(presence.CauseLogout)
		return nil, nil
	}
}

// track carries out track and untrack of the Supabase dialect. A client is
// connected while it tracks itself on any topic. It claims the status that it
// tracks, if any.
func (s *socket) track(t *topic, p *payload) (response any, err error) {
	switch {
	case strings.EqualFold(p.Event, "untrack"):
		s.unhold(t.name)
		return nil, nil
	case !strings.EqualFold(p.Event, "track"):
		return nil, faultf(wordUnknown, "unknown presence event %q; allowed: track, untrack", p.Event)
	case !s.present():
		return nil, faultf(wordNotAllowed, "not allowed presence event \"track\": %s only watches", s.actor.Subject)
	}
	if err := s.hold(t.name); err != nil {
		return nil, err
	}
	if p.Payload == nil || p.Payload.Status == "" {
		return nil, nil
	}
	return s.act(t, eventClaim, p.Payload)
}

func (s *socket) logUnavailable(f *fault, err error) {
	if f.word == wordUnavailable {
		s.h.log.Warn("phoenix: unavailable", "subject", s.actor.Subject, "error", err)
	}
}

// push sends a message in the form of the socket.
func (s *socket) push(joinRef, ref *string, topic, event string, payload any) error {
	return s.write(edge.OpText, s.form.encode(joinRef, ref, topic, event, payload))
}

// write sends one frame. A client that does not take it in time is lost.
func (s *socket) write(op edge.Opcode, payload []byte) error {
	s.out.Lock()
	// The order of the next two lines and of those in end makes sure that a
	// later write has the short deadline.
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

func (s *socket) writeLocked(op edge.Opcode, payload []byte) error {
	parts := net.Buffers{edge.AppendHead(nil, op, len(payload)), payload}
	_, err := parts.WriteTo(s.conn)
	s.broken = s.broken || err != nil
	return err
}

// end ends the socket: the connection leaves by the cause at once. With a
// status the client gets it and a second to close. Only the first call does
// anything.
func (s *socket) end(cause presence.Cause, status int, text string) {
	if s.ending.Swap(true) {
		return
	}
	s.cancel()
	s.binding.Lock()
	s.left = cause
	s.giveUpLocked(cause)
	s.binding.Unlock()
	if status == 0 {
		s.conn.Close()
		return
	}
	_ = s.conn.SetWriteDeadline(time.Now().Add(edge.CloseTimeout))
	s.out.Lock()
	defer s.out.Unlock()
	if s.broken || s.writeLocked(edge.OpClose, edge.CloseBody(status, text)) != nil {
		s.conn.Close()
		return
	}
	_ = s.conn.SetReadDeadline(time.Now().Add(edge.CloseTimeout))
}
