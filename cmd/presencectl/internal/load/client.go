package load

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/presence-go/presence/internal/fleet"
)

// claimsPerMinute is the number of claims that a client sends a minute. It is
// one less than a server accepts of a connection.
const claimsPerMinute = 9

// The actions of clients. Those from actReload on end the session.
const (
	actClaim = iota
	actInput
	actIdle
	actReload
	actLose
	actLogout
	actLeave // of a visitor
	actions
)

// client is an agent or a visitor with one connection after another. Its
// goroutine waits for messages until the next action is due.
type client struct {
	r     *runner
	who   *person // nil for a visitor
	id    string  // the id that it sends
	conn  string  // the id of an agent's connection
	every *[actions]time.Duration

	due    [actions]time.Time
	claims [claimsPerMinute]time.Time // the times of the latest claims, the oldest at next
	next   int
	input  time.Time // the time of the last input

	sock    *fleet.Conn
	asked   time.Time // when it sent the claim without an answer
	ref     string    // of that claim
	begun   time.Time // the start of the session
	watched time.Time // when it sent watch in this session
	hoped   bool      // it knows a list and expects diffs
	status  string    // the status that it last received of itself

	mu      sync.Mutex
	waiting bool // blocked in a read; wake may end it
	there   bool // connected, and welcome received
	asking  bool // waiting for the answer to a claim
	list    list
}

// over is the end of a client's last session.
const over = "end of the load"

// errDue reports that an action was due before a message arrived.
var errDue = errors.New("due")

// errRefused is the reason why no session was opened.
type errRefused struct {
	text     string
	answered bool // an answer of a server
}

func (e errRefused) Error() string { return e.text }

// live opens sessions, one after another, until the load is over.
func (c *client) live() {
	if !c.r.pause(jitter(c.r.Ramp)) {
		return
	}
	for action := range c.every {
		c.plan(action, time.Now())
	}
	login := true
	for failed := 0; ; {
		how, err := c.session(login)
		away := time.Second
		switch {
		case how == over:
			return
		case err != nil:
			failed++
			away = min(c.r.patience, 250*time.Millisecond<<min(failed, 10))
		case how == "logout":
			away = 10 * time.Second
		case how == "lost":
			away = 3 * time.Second
		}
		if !c.r.pause(jitter(away)) {
			return
		}
		login = how == "logout" || login && err != nil
		if err == nil {
			failed = 0
			if c.who == nil && rand.IntN(4) > 0 { // another visitor
				c.id = c.r.nextVisitor()
				c.mu.Lock()
				c.list = list{rows: c.list.rows[:0]}
				c.mu.Unlock()
			}
		}
	}
}

// jitter is a random part of a duration.
func jitter(d time.Duration) time.Duration {
	if d <= 0 {
		return 0
	}
	return rand.N(d)
}

// plan sets the next time of an action, by the average rate of the options.
func (c *client) plan(action int, now time.Time) {
	c.due[action] = time.Time{}
	if c.every[action] > 0 {
		c.due[action] = now.Add(jitter(2 * c.every[action]))
	}
}

// soonest is the next action and its time, which is zero if none is planned.
func (c *client) soonest() (action int, at time.Time) {
	for i, due := range c.due {
		if !due.IsZero() && (at.IsZero() || due.Before(at)) {
			action, at = i, due
		}
	}
	return action, at
}

// session runs one session. It returns how the session ended, or an error if
// the server ended it.
func (c *client) session(login bool) (how string, err error) {
	err = c.open(context.Background(), login)
	for err == nil && how == "" {
		how, err = c.step()
	}
	if err == nil {
		err = c.leave(how)
	}
	c.gone()
	if err == nil {
		c.r.ends.add(how)
		return how, nil
	}
	c.r.blame(err, c.name())
	if c.r.isStopped() {
		how = over
	}
	return how, err
}

// blame counts how the server ended a session or refused to open it.
func (r *runner) blame(err error, name string) {
	closed, isClosed := errors.AsType[*fleet.ClosedError](err)
	_, refused := errors.AsType[errRefused](err)
	_, wrong := errors.AsType[*fleet.ProtocolError](err)
	switch {
	case isClosed:
		r.ends.add(fmt.Sprintf("server closed with %d", closed.Code))
		r.faults.add(fmt.Sprintf("closed with %d", closed.Code), "%s: %v", name, err)
	case refused:
		r.ends.add("not opened")
		r.faults.add("not opened", "%s: %v", name, err)
	case wrong:
		r.ends.add("server broke the protocol")
		r.faults.add("protocol", "%s: %v", name, err)
	case errors.Is(err, os.ErrDeadlineExceeded):
		r.ends.add("server was silent")
		r.faults.add("silent", "%s: the server neither read nor sent anything for %v", name, r.patience)
	default:
		r.ends.add("cut off")
		r.faults.add("cut off", "%s: the connection ended without a close frame: %v", name, err)
	}
}

func (c *client) name() string {
	if c.who == nil {
		return "visitor " + c.id
	}
	return "agent " + c.id + " (" + c.conn + ")"
}

// gone drops the socket.
func (c *client) gone() {
	c.mu.Lock()
	if c.there {
		c.r.connected.Add(-1)
	}
	c.there, c.asking = false, false
	c.mu.Unlock()
	if c.sock != nil {
		c.sock.Close()
		c.sock = nil
	}
	c.asked = time.Time{}
}

// open opens a socket and sends hello.
func (c *client) open(ctx context.Context, login bool) error {
	c.begun = time.Now()
	address, header := c.r.address(c.who != nil, c.id)
	sock, err := c.r.dialer.Dial(ctx, address, header)
	if err != nil {
		_, answered := errors.AsType[*fleet.StatusError](err)
		return errRefused{err.Error(), answered}
	}
	c.sock = sock
	c.hoped, c.watched, c.input = false, time.Time{}, c.begun
	hello := `{"type":"hello","v":1}`
	if c.who != nil {
		hello = fmt.Sprintf(`{"type":"hello","v":1,"conn":%s,"login":%t,"idle":0,"visible":true}`, quote(c.conn), login)
	}
	return c.send(hello)
}

// step reads the next message, or carries out an action that is due.
func (c *client) step() (how string, err error) {
	action, at := c.soonest()
	limit := c.begun.Add(c.r.patience)
	welcome := c.isThere()
	switch {
	case welcome && c.asked.IsZero():
	case welcome:
		limit = c.asked.Add(c.r.patience)
		fallthrough
	default:
		if at.IsZero() || limit.Before(at) {
			at = limit
		}
	}
	err = c.read(at)
	now := time.Now()
	switch {
	case err == nil, !errors.Is(err, errDue):
		return "", err
	case c.r.isFinishing():
		return over, nil
	case at.IsZero():
		return "", nil
	case at.Equal(limit) && !welcome:
		return "", wrong("hello was not answered within %v", c.r.patience)
	case at.Equal(limit) && !c.asked.IsZero():
		c.r.faults.add("no answer", "%s: a claim was not answered within %v", c.name(), c.r.patience)
		c.answered()
		return "", nil
	}
	c.plan(action, now)
	if c.r.isStopped() || !welcome {
		return "", nil
	}
	c.r.late.Add(now.Sub(at))
	return c.act(action, now)
}

// act carries out an action.
func (c *client) act(action int, now time.Time) (how string, err error) {
	switch action {
	case actClaim:
		return "", c.claim(now)
	case actInput:
		c.input = now
		return "", c.send(`{"type":"input"}`)
	case actIdle: // the message of a page after an hour without input
		c.input = now.Add(-time.Hour)
		return "", c.send(fmt.Sprintf(`{"type":"hello","v":1,"conn":%s,"idle":%d,"visible":true}`, quote(c.conn), time.Hour.Milliseconds()))
	case actReload:
		return "reload", nil
	case actLose:
		return "lost", nil
	case actLogout:
		return "logout", nil
	default:
		return []string{"left", "closed", "lost"}[rand.IntN(3)], nil
	}
}

// claim sets a status that is not shown now.
func (c *client) claim(now time.Time) error {
	var choices []string
	for _, s := range c.r.choices() {
		if s != c.status {
			choices = append(choices, s)
		}
	}
	if len(choices) == 0 || !c.asked.IsZero() || now.Sub(c.claims[c.next]) <= time.Minute {
		return nil
	}
	ref := strconv.FormatUint(c.r.refs.Add(1), 10)
	status, text := choices[rand.IntN(len(choices))], "load "+ref
	if !c.who.claims(now, status, text) {
		return nil
	}
	c.claims[c.next] = now
	c.next = (c.next + 1) % len(c.claims)
	c.asked, c.ref, c.input = now, ref, now
	c.ask(true)
	c.r.sentClaims.Add(1)
	return c.send(fmt.Sprintf(`{"type":"claim","ref":%q,"status":%s,"text":%q}`, ref, quote(status), text))
}

func (c *client) answered() {
	c.asked = time.Time{}
	c.ask(false)
}

func (c *client) ask(asking bool) {
	c.mu.Lock()
	c.asking = asking
	c.mu.Unlock()
}

func (c *client) isThere() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.there
}

// quote writes a text as JSON.
func quote(text string) string {
	data, _ := json.Marshal(text) // a string can always be encoded
	return string(data)
}

// send sends a message.
func (c *client) send(message string) error {
	c.r.sent.Add(1)
	return c.sock.Send(message)
}

// leave ends the session in the chosen way.
func (c *client) leave(how string) error {
	want := fleet.CloseNormal
	var err error
	switch how {
	case "lost":
		c.sock.Sever()
		return nil
	case "closed":
		want = fleet.CloseGoingAway
		err = c.sock.SendClose(want)
	case "logout":
		err = c.send(`{"type":"bye","cause":"logout"}`)
	default:
		err = c.send(`{"type":"bye","cause":"closed"}`)
	}
	deadline := time.Now().Add(c.r.patience)
	for err == nil {
		// Messages that arrive before the close frame still count.
		_ = c.sock.SetReadDeadline(deadline)
		err = c.message(true)
	}
	if closed, ok := errors.AsType[*fleet.ClosedError](err); ok && closed.Code == want {
		return nil
	}
	return err
}

// wake ends the client's read, if it waits, because the load is over.
func (c *client) wake() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.waiting {
		_ = c.sock.SetReadDeadline(time.Unix(1, 0))
	}
}

// read reads the next message. It returns errDue if none arrives in time.
func (c *client) read(until time.Time) error {
	c.mu.Lock()
	if c.r.isFinishing() {
		c.mu.Unlock()
		return errDue
	}
	c.waiting = true
	_ = c.sock.SetReadDeadline(until)
	c.mu.Unlock()
	var err error
	if !until.IsZero() && !time.Now().Before(until) {
		err = os.ErrDeadlineExceeded // the time is over, also if more can be read
	} else {
		err = c.sock.Wait()
	}
	c.mu.Lock()
	c.waiting = false
	_ = c.sock.SetReadDeadline(time.Now().Add(c.r.patience))
	c.mu.Unlock()
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return errDue
	case err != nil:
		return err
	}
	return c.message(false)
}

// messages has the buffers of received messages.
var messages = sync.Pool{New: func() any { return new([]byte) }}

// message reads one message or control frame. A client that is leaving answers
// no ping.
func (c *client) message(leaving bool) error {
	buffer := messages.Get().(*[]byte)
	defer messages.Put(buffer)
	payload, whole, err := c.sock.Receive((*buffer)[:0], func(ping []byte) error {
		if leaving {
			return nil
		}
		return c.sock.Pong(ping)
	})
	if cap(payload) <= 1<<20 {
		*buffer = payload
	}
	if err != nil || !whole {
		return err
	}
	c.r.received.Add(1)
	return c.handle(payload, leaving)
}

// wrong is the error for a message that the protocol forbids.
func wrong(format string, args ...any) error {
	return &fleet.ProtocolError{Err: fmt.Errorf(format, args...)}
}

// message has the fields of all server messages beside frames of a channel.
type message struct {
	Type     string `json:"type"`
	Ref      string `json:"ref"`
	Seq      uint64 `json:"seq"`
	ID       string `json:"id"`
	Code     string `json:"code"`
	Message  string `json:"message"`
	View     *view  `json:"view"`
	Self     *view  `json:"self"`
	Statuses []struct {
		ID    string `json:"id"`
		Class string `json:"class"`
	} `json:"statuses"`
}

// handle handles a message of the server.
func (c *client) handle(payload []byte, leaving bool) error {
	if isFrame(payload) {
		return c.frame(payload)
	}
	var m message
	if err := json.Unmarshal(payload, &m); err != nil {
		return wrong("%w", err)
	}
	switch m.Type {
	case "snapshot", "diff":
		return c.frame(payload)
	case "welcome":
		if m.Self != nil {
			c.status = m.Self.Status
		}
		var ids []string
		for _, s := range m.Statuses {
			if s.Class != "offline" {
				ids = append(ids, s.ID)
			}
		}
		if len(ids) > 0 {
			c.r.offer(ids)
		}
		return c.welcome(leaving)
	case "ping":
		if leaving {
			return nil
		}
		c.r.pings.Add(1)
		idle := time.Since(c.input).Milliseconds()
		return c.send(fmt.Sprintf(`{"type":"pong","seq":%d,"idle":%d,"visible":true}`, m.Seq, max(idle, 0)))
	case "self":
		if m.View != nil {
			c.status = m.View.Status
		}
	case "done":
		if !c.asked.IsZero() && m.Ref == c.ref {
			c.r.answers.Add(time.Since(c.asked))
			c.r.doneClaims.Add(1)
			c.answered()
		}
	case "error":
		return c.refused(&m)
	case "removed":
		c.r.faults.add("removed", "%s: access to the channel has ended", c.name())
	case "challenge":
		if !leaving {
			return c.send(fmt.Sprintf(`{"type":"ack","id":%s}`, quote(m.ID)))
		}
	}
	return nil
}

// refused counts a refusal of the server. A refusal before the welcome ends the
// session.
func (c *client) refused(m *message) error {
	c.r.refusals.add(m.Code)
	c.r.faults.add("refused as "+m.Code, "%s: %s", c.name(), m.Message)
	if !c.asked.IsZero() && m.Ref == c.ref {
		c.answered()
	}
	if !c.isThere() {
		return errRefused{m.Code + ": " + m.Message, true}
	}
	return nil
}

// welcome starts the work of a session: it watches the channel, from the known
// position if there is one.
func (c *client) welcome(leaving bool) error {
	c.mu.Lock()
	first := !c.there
	if first {
		c.there = true
		c.r.connected.Add(1)
	}
	epoch, seq := c.list.epoch, c.list.seq
	c.mu.Unlock()
	if !first {
		return nil
	}
	c.watched = time.Now()
	c.r.opened.Add(1)
	c.r.connects.Add(c.watched.Sub(c.begun))
	if leaving {
		return nil
	}
	if c.hoped = epoch != ""; c.hoped {
		c.r.resumed.Add(1)
		return c.send(fmt.Sprintf(`{"type":"watch","ref":"watch","channel":%s,"epoch":%s,"seq":%d}`, quote(c.r.Channel), quote(epoch), seq))
	}
	return c.send(fmt.Sprintf(`{"type":"watch","ref":"watch","channel":%s}`, quote(c.r.Channel)))
}

// frame applies a frame of the channel.
func (c *client) frame(payload []byte) error {
	f, err := c.r.frames.take(payload)
	now := time.Now()
	switch {
	case err != nil:
		return wrong("%w", err)
	case f.channel != c.r.Channel || c.watched.IsZero():
		return wrong("a frame of channel %q came, which is not being watched", f.channel)
	}
	if f.snapshot {
		c.r.snapshots.Add(1)
		if c.hoped || f.lagged {
			c.r.resyncs.Add(1)
		}
	} else {
		c.r.diffs.Add(1)
	}
	c.hoped = false
	c.mu.Lock()
	err = c.list.apply(f)
	c.mu.Unlock()
	if err != nil {
		c.r.faults.add("out of order", "%s: %v", c.name(), err)
		return nil
	}
	// A change from before the watch has no latency.
	if !f.sent.IsZero() && f.sent.After(c.watched) {
		c.r.changes.Add(now.Sub(f.sent))
	}
	return nil
}

func (c *Config) pattern(agent bool) string {
	if agent {
		return c.AgentURL
	}
	return c.VisitorURL
}

// address is the URL of a client, with its headers.
func (r *runner) address(agent bool, id string) (string, http.Header) {
	token, known := r.tokens[id]
	if !known {
		token = r.tokens["*"]
	}
	query := strings.NewReplacer("{id}", url.QueryEscape(id), "{token}", url.QueryEscape(token))
	header := make(http.Header)
	for _, h := range r.headers {
		header.Add(h.name, strings.NewReplacer("{id}", id, "{token}", token).Replace(h.value))
	}
	if token != "" && !strings.Contains(r.patterns(), "{token}") {
		header.Set("Authorization", "Bearer "+token)
	}
	return query.Replace(r.pattern(agent)), header
}
