package pusher

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
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
	hub    *hub
	id     string
	conn   net.Conn
	in     edge.Frames
	ctx    context.Context
	cancel context.CancelFunc

	ending atomic.Bool
	out    chan struct{} // has an element while a goroutine writes
	broken bool          // no write can succeed; of the goroutine that writes

	queue    sync.Mutex
	queued   [][]byte // frames of events, which never wait for the client
	bytes    int
	draining bool

	began    time.Time
	interval time.Duration
	heard    atomic.Int64 // time of the page's last message, relative to began
	life     sync.Mutex
	timer    *time.Timer
	pinged   time.Duration // time of the last ping, relative to began

	messages edge.Bucket
	events   edge.Bucket
	strikes  edge.Strikes

	pumps sync.WaitGroup
	mu    sync.Mutex
	subs  map[string]*subscription
	user  *signedUser // the signed-in user
	info  *profile    // what the app signed of user
	seats map[presence.Ref]*seat
	gone  bool // the socket has left its seats
}

// subscription is a socket's subscription to a channel.
type subscription struct {
	name string
	kind kind
	ch   *channel

	// Of presence channels.
	user     signedUser
	info     *profile // what the app signed of the user for this channel
	subject  presence.Ref
	member   bool
	audience presence.Audience
	watch    *presence.Watch
	done     chan struct{} // closed once no more frames of the watch are sent
	turn     chan struct{} // has an element while a goroutine sends a frame of the members

	live bool // events reach it; under the hub's lock
}

// seat is the presence connection of a socket as one subject.
type seat struct {
	conn *presence.Conn
	opts presence.ConnectOptions
	uses int
}

// maxParts is the number of frames that a message may have.
const maxParts = 64

// eventBurst is the number of client events that a socket may send at once.
func (o *Options) eventBurst() int { return max(int(o.ClientEventsPerSecond), 1) }

func newSocket(b *hub, conn net.Conn, in edge.Frames) *socket {
	s := &socket{
		hub: b, id: newSocketID(), conn: conn, in: in, out: make(chan struct{}, 1), began: time.Now(),
		messages: edge.NewBucket(0, b.h.opts.Burst), events: edge.NewBucket(0, b.h.opts.eventBurst()),
		subs: make(map[string]*subscription), seats: make(map[presence.Ref]*seat),
	}
	s.interval = b.h.opts.PingInterval
	if s.interval == 0 {
		s.interval = b.h.t.Policy(b.Tenant).Heartbeat
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s
}

// newSocketID returns an id that cannot be guessed, since subscriptions are
// signed for it.
func newSocketID() string {
	var b [8]byte
	_, _ = rand.Read(b[:]) // it never fails
	return fmt.Sprintf("%d.%d", binary.BigEndian.Uint32(b[:4]), binary.BigEndian.Uint32(b[4:]))
}

// run greets the client and serves it until the socket has ended.
func (s *socket) run() {
	s.send(say("pusher:connection_established", "", text(struct {
		SocketID        string `json:"socket_id"`
		ActivityTimeout int    `json:"activity_timeout"`
	}{s.id, int(max(s.hub.h.opts.ActivityTimeout.Seconds(), 1))})))
	s.life.Lock()
	s.timer = time.AfterFunc(s.interval, func() { s.hub.h.spawn(s.tick) })
	s.life.Unlock()
	err := s.serve()
	if wrong, ok := errors.AsType[*edge.Violation](err); ok {
		s.end(presence.CauseLost, wrong.Status, wrong.Text)
		edge.HangUp(s.conn, &s.in, false)
	} else if err == nil {
		edge.HangUp(s.conn, &s.in, true)
	} else {
		s.end(presence.CauseLost, 0, "")
		s.conn.Close()
	}
	s.life.Lock()
	s.timer.Stop()
	s.life.Unlock()
	s.pumps.Wait()
	s.hub.remove(s)
}

// buffers holds buffers for incoming messages. Idle sockets have none.
var buffers = sync.Pool{New: func() any { return new([]byte) }}

// serve reads and carries out messages until the client closes the socket.
func (s *socket) serve() error {
	for {
		if err := s.in.Wait(); err != nil {
			return err
		}
		buffer := buffers.Get().(*[]byte)
		closed, err := s.message(buffer)
		buffers.Put(buffer)
		if closed || err != nil {
			return err
		}
	}
}

// message reads and handles frames until it is between two messages. It reports
// whether the client closed the socket.
func (s *socket) message(buffer *[]byte) (closed bool, err error) {
	for {
		a, data, control, err := s.in.Next(*buffer)
		*buffer = data
		if err != nil {
			return false, err
		}
		now := time.Now()
		switch a {
		case edge.ArrivedPart:
		case edge.ArrivedClose:
			s.end(presence.CauseClosed, edge.CloseReply(control), "")
			return true, nil
		case edge.ArrivedPing, edge.ArrivedPong:
			// It is no heartbeat, since a browser answers for a frozen page.
			if !s.ending.Load() && s.allow(now) && a == edge.ArrivedPing {
				s.send(edge.Frame(edge.OpPong, control))
			}
		default:
			s.heard.Store(int64(now.Sub(s.began)))
			s.accept(now, a, data)
		}
		if !s.in.Partial() {
			return false, nil
		}
	}
}

// accept handles a message.
func (s *socket) accept(now time.Time, a edge.Arrival, data []byte) {
	switch {
	case s.ending.Load():
	case !s.allow(now):
	case a == edge.ArrivedBinary:
		s.blame(now, "", "malformed message: it is binary; send JSON as text")
	default:
		s.heartbeat()
		if m, err := decode(data); err != nil {
			s.blame(now, "", err.Error())
		} else {
			s.handle(now, m)
		}
	}
}

// allow reports whether a message may be processed now. Otherwise it sends an
// error.
func (s *socket) allow(now time.Time) bool {
	o := &s.hub.h.opts
	if s.messages.Take(now.Sub(s.began), o.MessagesPerSecond, o.Burst) {
		return true
	}
	s.blame(now, "", fmt.Sprintf("limit messages: more than %v a second with bursts of %d; this one was dropped", o.MessagesPerSecond, o.Burst))
	return false
}

// blame sends an error about a message of a channel or of none. It ends a
// socket with too many faults of its client.
func (s *socket) blame(now time.Time, channel, why string) {
	s.send(failure(0, why, channel))
	s.fault(now)
}

func (s *socket) fault(now time.Time) {
	if s.strikes.Add(now.Sub(s.began)) {
		s.end(presence.CauseLost, codeOverCapacity, "too many faults within a minute")
	}
}

// handle carries out a message.
func (s *socket) handle(now time.Time, m envelope) {
	switch m.Event {
	case "pusher:ping":
		s.send(bare("pusher:pong", ""))
	case "pusher:pong":
	case "pusher:subscribe":
		var data subscribeData
		if err := decodeData(m.Data, &data); err != nil {
			s.blame(now, "", err.Error())
			return
		}
		if err := s.subscribe(&data); err != nil && s.ctx.Err() == nil {
			s.send(refused(data.Channel, err))
			if !s.unavailable(err) {
				s.fault(now)
			}
		}
	case "pusher:unsubscribe":
		var data unsubscribeData
		if err := decodeData(m.Data, &data); err != nil {
			s.blame(now, "", err.Error())
			return
		}
		if sub := s.take(data.Channel, nil); sub != nil {
			s.release(sub)
			if sub.watch != nil {
				_ = sub.watch.Close()
				<-sub.done
			}
		}
	case "pusher:signin":
		if err := s.signIn(m.Data); err != nil && s.ctx.Err() == nil {
			s.unavailable(err)
			s.end(presence.CauseLost, codeUnauthorized, refusalOf(err).Error)
		}
	default:
		if !strings.HasPrefix(m.Event, "client-") {
			s.blame(now, m.Channel, fmt.Sprintf("unknown event %.80q; allowed: pusher:ping, pusher:pong, pusher:subscribe, pusher:unsubscribe, pusher:signin, client-…", m.Event))
			return
		}
		if err := s.clientEvent(now, m); err != nil {
			s.send(failure(codeClientEvent, err.Error(), m.Channel))
		}
	}
}

// unavailable reports whether an error is a failure instead of a fault of the
// client, and logs a failure.
func (s *socket) unavailable(err error) bool {
	if refusalOf(err).Status != http.StatusServiceUnavailable {
		return false
	}
	s.hub.h.log.Warn("pusher: unavailable", "app", s.hub.ID, "error", err)
	return true
}

// subscribe carries out a subscription. It answers a presence channel only with
// a refusal: the list follows with the channel's first frame.
func (s *socket) subscribe(d *subscribeData) error {
	if err := checkChannel(d.Channel); err != nil {
		return faultf("Invalid", 400, "invalid channel: %v", err)
	}
	s.mu.Lock()
	_, twice := s.subs[d.Channel]
	n, user := len(s.subs), s.user
	s.mu.Unlock()
	switch {
	case twice:
		return faultf("Invalid", 400, "invalid channel %q: the socket is subscribed to it already", d.Channel)
	case n >= s.hub.h.opts.MaxSubscriptions:
		return faultf("LimitReached", 429, "limit subscriptions: the socket has %d, no more are allowed", n)
	}
	sub := &subscription{name: d.Channel}
	sub.kind, _ = kindOf(d.Channel)
	switch sub.kind {
	case kindPublic:
	case kindUser:
		if user == nil || d.Channel != userPrefix+user.ID {
			return faultf("AuthError", 403, "not allowed channel %q: only its signed-in user may subscribe to it", d.Channel)
		}
	default:
		if !s.hub.signed(d.Auth, subscribeText(s.id, d.Channel, d.ChannelData)) {
			return faultf("AuthError", 401, "invalid auth: allowed is the key, a colon and the hexadecimal HMAC SHA-256 of SOCKET_ID:CHANNEL, or with channel_data of SOCKET_ID:CHANNEL:CHANNEL_DATA")
		}
	}
	if sub.kind == kindPresence {
		return s.observe(sub, d.ChannelData, user)
	}
	if err := s.add(sub); err != nil {
		return err
	}
	answer := say("pusher_internal:subscription_succeeded", sub.name, json.RawMessage("{}"))
	_ = s.sendAfter(answer, func() { s.hub.start(s, sub) }) // a write that fails ends the socket
	return nil
}

// add enters a subscription in its channel and in the socket.
func (s *socket) add(sub *subscription) error {
	if err := s.hub.enter(s, sub); err != nil {
		return err
	}
	s.mu.Lock()
	gone := s.gone
	if !gone {
		s.subs[sub.name] = sub
	}
	s.mu.Unlock()
	if gone {
		s.hub.leave(s, sub)
		return net.ErrClosed
	}
	return nil
}

// observe subscribes to a presence channel as the user of the signed data, or
// else as the signed-in user.
func (s *socket) observe(sub *subscription, data string, signedIn *signedUser) error {
	switch {
	case data != "":
		var d channelData
		if err := json.Unmarshal([]byte(data), &d); err != nil {
			return faultf("Invalid", 400, "invalid channel_data: %v", err)
		}
		u, err := userOf(d.UserID, d.UserInfo)
		if err != nil {
			return faultf("Invalid", 400, "invalid channel_data: %v", err)
		}
		sub.user = u
	case signedIn != nil:
		sub.user = *signedIn
	default:
		return faultf("AuthError", 401, "invalid channel %q: it needs channel_data with a user_id, or a signed-in user", sub.name)
	}
	who, err := s.hub.identify(sub.user.User)
	if err != nil {
		return err
	}
	sub.subject, sub.member = who.Actor.Subject, edge.Present(who.Actor)
	sub.audience = cmp.Or(who.Audience, who.Actor.Audience())
	sub.watch, err = s.hub.h.t.Watch(s.ctx, who.Actor, s.hub.presenceChannel(sub.name), presence.WatchOptions{Audience: sub.audience})
	if err != nil {
		return err
	}
	// The first frame is made when it is read, so that it has the new member.
	sub.turn = make(chan struct{}, 1)
	var quiet []presence.Audience
	sub.info, quiet, err = s.sit(sub.user, sub.name, who)
	if err == nil {
		if err = s.add(sub); err != nil {
			s.rise(sub.subject, sub.user.ID, sub.info)
		}
	}
	if err != nil {
		_ = sub.watch.Close()
		return err
	}
	if len(quiet) > 0 {
		s.hub.retell(sub, quiet)
	}
	sub.done = make(chan struct{})
	s.pumps.Go(func() {
		defer close(sub.done)
		s.over(sub, sub.watch.Stream(s.ctx, outlet{s, sub}))
	})
	return nil
}

// sit adds a use of a subject's seat, with a presence connection unless the
// actor only observes. It returns what the app signed of the user for a channel,
// or for the sign-in, which has no channel. Quiet are the audiences for which
// this is new although the tracker sends them no change.
func (s *socket) sit(user signedUser, channel string, who Identity) (info *profile, quiet []presence.Audience, err error) {
	s.hub.act(s, user.ID, +1)
	if !edge.Present(who.Actor) {
		return nil, nil, nil
	}
	subject := who.Actor.Subject
	info, news := s.hub.profiles.enter(user, channel)
	var before [len(audiences)]presence.View
	if news {
		before = s.hub.h.seen(s.ctx, subject)
	}
	s.mu.Lock()
	place := s.seats[subject]
	if place != nil {
		place.uses++
	}
	s.mu.Unlock()
	if place == nil {
		place = &seat{uses: 1, opts: presence.ConnectOptions{Device: who.Device, Login: who.Login}}
		conn, err := s.hub.h.t.Connect(s.ctx, subject, place.opts)
		if err != nil {
			s.hub.act(s, user.ID, -1)
			s.hub.profiles.leave(info)
			return nil, nil, err
		}
		place.conn, place.opts.ID, place.opts.Login = conn, conn.ID(), false
		s.mu.Lock()
		gone := s.gone
		if !gone {
			s.seats[subject] = place
		}
		s.mu.Unlock()
		if gone { // the end of the socket came before this connection
			_ = conn.Leave(presence.CauseLost)
		}
	}
	s.hub.profiles.settle(s.ctx, user.ID, channel, audiences[:]...)
	if news {
		for i, after := range s.hub.h.seen(s.ctx, subject) {
			if after == before[i] {
				quiet = append(quiet, audiences[i])
			}
		}
	}
	return info, quiet, nil
}

// rise undoes sit.
func (s *socket) rise(subject presence.Ref, user string, info *profile) {
	s.hub.act(s, user, -1)
	s.hub.profiles.leave(info)
	var conn *presence.Conn
	s.mu.Lock()
	if place := s.seats[subject]; place != nil {
		if place.uses--; place.uses == 0 {
			conn = place.conn
			delete(s.seats, subject)
		}
	}
	s.mu.Unlock()
	if conn != nil {
		s.left(conn, presence.CauseClosed)
	}
}

// heartbeat notes that the page's own code runs. It connects again if the
// connection has ended meanwhile.
func (s *socket) heartbeat() {
	s.mu.Lock()
	places := make([]*seat, 0, len(s.seats))
	for _, place := range s.seats {
		places = append(places, place)
	}
	s.mu.Unlock()
	for _, place := range places {
		err := place.conn.Heartbeat()
		if err == nil || !errors.Is(err, presence.ErrUnknown) && !errors.Is(err, presence.ErrStale) {
			continue
		}
		conn, err := s.hub.h.t.Connect(s.ctx, place.conn.Subject(), place.opts)
		if err != nil {
			s.hub.h.log.Debug("pusher: connecting again", "app", s.hub.ID, "subject", place.conn.Subject(), "error", err)
			continue
		}
		s.mu.Lock()
		gone := s.gone || s.seats[conn.Subject()] != place
		place.conn = conn
		s.mu.Unlock()
		if gone {
			_ = conn.Leave(presence.CauseLost)
		}
	}
}

// signIn signs a socket in as a user.
func (s *socket) signIn(data json.RawMessage) error {
	var d signInData
	if err := decodeData(data, &d); err != nil {
		return faultf("Invalid", 400, "%v", err)
	}
	if !s.hub.signed(d.Auth, signInText(s.id, d.UserData)) {
		return faultf("AuthError", 401, "invalid auth: allowed is the key, a colon and the hexadecimal HMAC SHA-256 of SOCKET_ID::user::USER_DATA")
	}
	var signed userData
	if err := json.Unmarshal([]byte(d.UserData), &signed); err != nil {
		return faultf("Invalid", 400, "invalid user_data: %v", err)
	}
	u, err := userOf(signed.ID, signed.UserInfo)
	if err != nil {
		return faultf("Invalid", 400, "invalid user_data: %v", err)
	}
	s.mu.Lock()
	before := s.user
	s.mu.Unlock()
	switch {
	case before == nil:
		if err := s.become(u); err != nil {
			return err
		}
	case before.ID != u.ID:
		return faultf("Invalid", 400, "invalid user id %q: the socket is signed in as another user", u.ID)
	}
	s.send(say("pusher:signin_success", "", text(struct {
		UserData string `json:"user_data"`
	}{d.UserData})))
	return nil
}

// become makes a user the one that the socket is signed in as.
func (s *socket) become(u signedUser) error {
	who, err := s.hub.identify(u.User)
	if err != nil {
		return err
	}
	info, _, err := s.sit(u, "", who)
	if err != nil {
		return err
	}
	s.mu.Lock()
	gone := s.gone
	if !gone {
		s.user, s.info = &u, info
	}
	s.mu.Unlock()
	if gone {
		s.rise(who.Actor.Subject, u.ID, info)
		return net.ErrClosed
	}
	return nil
}

// clientEvent forwards an event of a client to the other subscribers of the
// channel.
func (s *socket) clientEvent(now time.Time, m envelope) error {
	s.mu.Lock()
	sub := s.subs[m.Channel]
	s.mu.Unlock()
	o := &s.hub.h.opts
	switch {
	case s.hub.NoClientEvents:
		return errors.New("not allowed client event: this app has none")
	case sub == nil:
		return fmt.Errorf("unknown channel %.80[2]q: client event %.80[1]q needs a subscription to it", m.Event, m.Channel)
	case sub.kind != kindPrivate && sub.kind != kindPresence:
		return fmt.Errorf("not allowed client event %.80q: only private and presence channels have them", m.Event)
	case sub.kind == kindPresence && !sub.member:
		return fmt.Errorf("not allowed client event %.80q: only members of channel %q may send it", m.Event, m.Channel)
	case len(m.Event) > maxEventName:
		return fmt.Errorf("limit client event: its name has %d bytes, allowed are %d", len(m.Event), maxEventName)
	case len(m.Data) > maxEventData:
		return fmt.Errorf("limit client event %q: its data has %d bytes, allowed are %d", m.Event, len(m.Data), maxEventData)
	case !s.events.Take(now.Sub(s.began), o.ClientEventsPerSecond, o.eventBurst()):
		return fmt.Errorf("limit client event %q: more than %v a second are not allowed", m.Event, o.ClientEventsPerSecond)
	}
	if o.ClientEvent != nil {
		var conn *presence.Conn
		s.mu.Lock()
		if place := s.seats[sub.subject]; place != nil && sub.kind == kindPresence {
			conn = place.conn
		}
		s.mu.Unlock()
		if err := o.ClientEvent(s.ctx, ClientEvent{Conn: conn, Channel: m.Channel, Name: m.Event, Data: m.Data}); err != nil {
			return err
		}
	}
	s.hub.forward(s.ctx, s, sub, m)
	return nil
}

// take removes a subscription from the socket and returns it, or nil. If only
// is given, it removes no other subscription.
func (s *socket) take(name string, only *subscription) *subscription {
	s.mu.Lock()
	defer s.mu.Unlock()
	sub := s.subs[name]
	if sub == nil || only != nil && sub != only {
		return nil
	}
	delete(s.subs, name)
	return sub
}

// release gives up the channel and seat of a removed subscription.
func (s *socket) release(sub *subscription) {
	s.hub.leave(s, sub)
	if sub.kind == kindPresence {
		s.rise(sub.subject, sub.user.ID, sub.info)
	}
}

// over ends a subscription after the end of its watch.
func (s *socket) over(sub *subscription, reason error) {
	if s.ending.Load() || s.take(sub.name, sub) == nil {
		return
	}
	s.release(sub)
	s.unavailable(reason)
	s.send(refused(sub.name, reason))
}

// outlet sends the frames of a presence channel.
type outlet struct {
	s   *socket
	sub *subscription
}

func (o outlet) Send(_ context.Context, f *presence.Frame) error {
	o.sub.turn <- struct{}{}
	defer func() { <-o.sub.turn }()
	start := func() {}
	if f.Kind == presence.FrameSnapshot {
		start = func() { o.s.hub.start(o.s, o.sub) }
	}
	for _, payload := range o.sub.ch.frames(f, o.sub.audience) {
		if err := o.s.sendAfter(payload, start); err != nil {
			return err
		}
	}
	return nil
}

func (outlet) Close(error) error { return nil }

// tick sends a ping to a quiet page, and ends the socket of a page that does
// not answer.
func (s *socket) tick() {
	s.life.Lock()
	defer s.life.Unlock()
	if s.ending.Load() {
		return
	}
	now, heard, patience := time.Since(s.began), time.Duration(s.heard.Load()), s.hub.h.opts.PongTimeout
	deadline := s.pinged + patience
	switch unanswered := s.pinged > heard; {
	case unanswered && now < deadline:
		s.timer.Reset(deadline - now)
	case unanswered:
		s.hub.h.spawn(func() { s.end(presence.CauseLost, codeNoPong, "no pong came") })
	case now < heard+s.interval:
		s.timer.Reset(heard + s.interval - now)
	default:
		s.pinged = now
		s.timer.Reset(min(patience, s.interval))
		s.hub.h.spawn(func() { s.send(bare("pusher:ping", "")) })
	}
}

// post queues a frame and never waits. It ends the socket of a client with too
// many bytes queued.
func (s *socket) post(f []byte) {
	s.queue.Lock()
	defer s.queue.Unlock()
	if s.ending.Load() {
		return
	}
	if s.bytes+len(f) > s.hub.h.opts.MaxQueued {
		s.hub.h.spawn(func() { s.end(presence.CauseLost, codeOverCapacity, "too slow: events were lost") })
		return
	}
	s.queued = append(s.queued, f)
	s.bytes += len(f)
	if !s.draining {
		s.draining = s.hub.h.spawn(s.drain)
	}
}

// drain writes what is queued.
func (s *socket) drain() {
	for {
		s.queue.Lock()
		if len(s.queued) == 0 || s.ending.Load() {
			s.queued, s.bytes, s.draining = nil, 0, false
			s.queue.Unlock()
			return
		}
		f := s.queued[0]
		s.queued[0] = nil
		s.queued = s.queued[1:]
		s.bytes -= len(f)
		s.queue.Unlock()
		_ = s.send(f)
	}
}

// send writes one frame. A client that does not take it in time is lost.
func (s *socket) send(f []byte) error { return s.sendAfter(f, func() {}) }

// sendAfter calls a function and writes a frame, with no other frame between. The
// answer to a subscription is sent so: whatever is sent to the channel from the moment
// at which the client can have the answer reaches the client, after it.
func (s *socket) sendAfter(f []byte, first func()) error {
	s.out <- struct{}{}
	first()
	// The order of the next two lines and of those in end makes sure that a
	// later write has the short deadline.
	_ = s.conn.SetWriteDeadline(time.Now().Add(s.hub.h.opts.WriteTimeout))
	if s.ending.Load() {
		<-s.out
		return net.ErrClosed
	}
	err := s.writeLocked(f)
	<-s.out
	if err != nil {
		s.end(presence.CauseLost, 0, "")
	}
	return err
}

// writeLocked writes a frame. The caller holds out.
func (s *socket) writeLocked(f []byte) error {
	_, err := s.conn.Write(f)
	s.broken = s.broken || err != nil
	return err
}

// end ends the socket: its connections leave by the cause at once. With a code
// the client gets it, after an error with the reason, and a second to close. Only
// the first call does anything.
func (s *socket) end(cause presence.Cause, code int, why string) {
	if s.ending.Swap(true) {
		return
	}
	s.leave(cause)
	s.cancel()
	if code == 0 {
		s.conn.Close()
		return
	}
	_ = s.conn.SetWriteDeadline(time.Now().Add(edge.CloseTimeout))
	s.out <- struct{}{}
	defer func() { <-s.out }()
	if s.broken || s.writeLocked(farewell(code, why)) != nil {
		s.conn.Close()
		return
	}
	_ = s.conn.SetReadDeadline(time.Now().Add(edge.CloseTimeout))
}

// leave gives up the seats and subscriptions of the socket.
func (s *socket) leave(cause presence.Cause) {
	s.mu.Lock()
	s.gone = true
	var conns []*presence.Conn
	for _, place := range s.seats {
		conns = append(conns, place.conn)
	}
	subs, user, info := s.subs, s.user, s.info
	s.seats, s.subs = nil, nil
	s.mu.Unlock()
	for _, conn := range conns {
		s.left(conn, cause)
	}
	for _, sub := range subs {
		s.hub.leave(s, sub)
		if sub.kind == kindPresence {
			s.hub.act(s, sub.user.ID, -1)
			s.hub.profiles.leave(sub.info)
		}
	}
	if user != nil {
		s.hub.act(s, user.ID, -1)
		s.hub.profiles.leave(info)
	}
}

// left ends a connection by a cause.
func (s *socket) left(c *presence.Conn, cause presence.Cause) {
	if err := c.Leave(cause); err != nil {
		s.hub.h.log.Debug("pusher: leaving", "app", s.hub.ID, "subject", c.Subject(), "conn", c.ID(), "error", err)
	}
}
