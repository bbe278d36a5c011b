package main

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/presence-go/presence/internal/fleet"
)

// clients are all clients of a server, in one thread.
type clients struct {
	speech
	*fleet.Epoll
	still   time.Duration // see stillness
	sockets []*socket     // by client; nil for one that is not connected

	ready  int       // clients that have reached the end of the script
	frames int       // those with news in them
	last   time.Time // when the last news came
}

// speech is what the clients of a server say, and how they understand it.
type speech struct {
	request func(client int) string // of HTTP
	// After the response, or the upgrade, each line is sent once the one before was
	// answered by a message that contains its word. The last answer makes a client
	// ready. The first line goes without waiting.
	script  func(client int) []turn
	stream  bool // events rather than frames, and nothing is said
	news    func(message []byte) int
	counts  bool // news say how many members there are
	invited bool // the server is told beforehand who belongs where
	joins   int  // which line makes others see that the client is there
}

type turn struct{ say, until string }

// socket is one client.
type socket struct {
	*fleet.Socket
	step    int // in the script
	script  []turn
	news    int // how much it has received
	count   int // how many members there were by the last message that said so; -1 if none did
	said    time.Time
	heard   time.Time // when the last news came
	pinged  int       // number of the last ping of ours
	isReady bool
}

func newClients(address string, n int, still time.Duration, s speech) (*clients, error) {
	e, err := fleet.NewEpoll(address)
	if err != nil {
		return nil, err
	}
	c := &clients{speech: s, Epoll: e, still: still, sockets: make([]*socket, n)}
	e.Streams = s.stream
	e.Ready = func(s *fleet.Socket) error { return c.advance(c.sockets[s.Client]) }
	e.Hear = func(s *fleet.Socket, message []byte) error { return c.hear(c.sockets[s.Client], message) }
	return c, nil
}

// drop closes a client's socket.
func (c *clients) drop(s *socket) {
	c.sockets[s.Client] = nil
	if s.isReady {
		c.ready--
	}
	c.Drop(s.Socket)
}

// opening is how many clients at most are on their way at once.
const opening = 256

// patience is how long a server may take for anything.
const patience = 2 * time.Minute

// until reads until something is so.
func (c *clients) until(so func() bool) error {
	return c.reading(100*time.Millisecond, func() (bool, error) { return so(), nil })
}

// reading reads for some time again and again, until done or an error.
func (c *clients) reading(wait time.Duration, so func() (bool, error)) error {
	for deadline := time.Now().Add(patience); ; {
		if done, err := so(); done || err != nil {
			return err
		}
		if err := c.poll(wait); err != nil {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%w: what was waited for did not come within %v", errBusy, patience)
		}
	}
}

// connect opens clients, from one to another, and returns once all are ready.
func (c *clients) connect(from, to int) error {
	before, next := c.ready, from
	return c.reading(100*time.Millisecond, func() (bool, error) {
		if c.Gone > 0 {
			return false, fmt.Errorf("the server let %d clients go", c.Gone)
		}
		for ; next < to && (next-from)-(c.ready-before) < opening; next++ {
			c.sockets[next] = &socket{script: c.script(next), count: -1}
			var err error
			if c.sockets[next].Socket, err = c.Open(next, c.request(next)); err != nil {
				return false, err
			}
		}
		return c.ready >= before+to-from, nil
	})
}

// quiet reads until no news has come for so long.
func (c *clients) quiet(long time.Duration) error {
	began := time.Now()
	return c.reading(10*time.Millisecond, func() (bool, error) {
		now := time.Now()
		return now.Sub(began) >= long && now.Sub(c.last) >= long, nil
	})
}

// poll reads what has arrived, and waits for something first.
func (c *clients) poll(wait time.Duration) error {
	err := c.Poll(wait)
	if closed, ok := errors.AsType[*fleet.ClosedError](err); ok && closed.Reason == "no pong" { // it was sent, or is about to be
		return fmt.Errorf("%w: Centrifuge did not see the answers to its pings in time", errBusy)
	}
	return err
}

// hear understands one message.
func (c *clients) hear(s *socket, message []byte) error {
	if n := c.news(message); n > 0 {
		s.news += n
		c.frames++
		s.heard = time.Now()
		c.last = s.heard
		if count, ok := number(message, `"count":`); ok {
			s.count = count
		}
	}
	if seq, ok := number(message, `{"type":"ping","v":1,"seq":`); ok {
		s.pinged = seq
	} else if isPing(message) {
		if err := c.Say(s.Socket, "{}"); err != nil {
			return err
		}
	}
	if !s.isReady && bytes.Contains(message, []byte(s.script[s.step].until)) {
		s.step++
		return c.advance(s)
	}
	return nil
}

// isPing reports whether a ping of Centrifuge is in a message, beside others
// perhaps, each on a line.
func isPing(message []byte) bool {
	for line := range bytes.SplitSeq(message, []byte("\n")) {
		if string(line) == "{}" {
			return true
		}
	}
	return false
}

// advance says the line that is next, or nothing to one who listens only.
func (c *clients) advance(s *socket) error {
	if s.step == len(s.script) {
		s.isReady = true
		c.ready++
		return nil
	}
	if s.step == c.joins {
		s.said = time.Now()
	}
	if c.stream {
		return nil
	}
	return c.Say(s.Socket, s.script[s.step].say)
}

// number is the number that follows some words, the first time they are there.
func number(message []byte, words string) (int, bool) {
	_, digits, _ := bytes.Cut(message[:min(len(message), 512)], []byte(words))
	n := 0
	for n < len(digits) && digits[n] >= '0' && digits[n] <= '9' {
		n++
	}
	v, err := strconv.Atoi(string(digits[:n]))
	return v, err == nil
}
