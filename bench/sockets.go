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
	sockets []*socket     // by client; nil if not connected

	ready  int       // clients that have completed the script
	frames int       // frames with news
	last   time.Time // the time of the last news
}

// speech is the messages of clients to a server, and how they read its answers.
type speech struct {
	request func(client int) string // the HTTP request
	// After the response, or the upgrade, a client sends each line once a message
	// with the word of the line before has arrived. After the last answer the
	// client is ready. It sends the first line at once.
	script  func(client int) []turn
	stream  bool // receives events instead of frames, and sends nothing
	news    func(message []byte) int
	counts  bool // news contain the number of members
	invited bool // the server gets the rooms of clients before
	joins   int  // the line after which others see the client
}

type turn struct{ say, until string }

// socket is one client.
type socket struct {
	*fleet.Socket
	step    int // the next line of the script
	script  []turn
	news    int // number of received news
	count   int // the number of members by the last message with one; -1 without
	said    time.Time
	heard   time.Time // the time of the last news
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

// opening is the maximum number of clients that connect at the same time.
const opening = 256

// patience is the time limit of every wait for a server.
const patience = 2 * time.Minute

// until reads until a condition holds.
func (c *clients) until(so func() bool) error {
	return c.reading(100*time.Millisecond, func() (bool, error) { return so(), nil })
}

// reading reads for a time again and again, until done or an error.
func (c *clients) reading(wait time.Duration, so func() (bool, error)) error {
	for deadline := time.Now().Add(patience); ; {
		if done, err := so(); done || err != nil {
			return err
		}
		if err := c.poll(wait); err != nil {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%w: the server did not answer within %v", errBusy, patience)
		}
	}
}

// connect connects the clients from one index to another. It returns once all
// are ready.
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

// quiet reads until no news have arrived for a time.
func (c *clients) quiet(long time.Duration) error {
	began := time.Now()
	return c.reading(10*time.Millisecond, func() (bool, error) {
		now := time.Now()
		return now.Sub(began) >= long && now.Sub(c.last) >= long, nil
	})
}

// poll waits for input and reads it.
func (c *clients) poll(wait time.Duration) error {
	err := c.Poll(wait)
	if closed, ok := errors.AsType[*fleet.ClosedError](err); ok && closed.Reason == "no pong" { // the pong was sent, or is the next message
		return fmt.Errorf("%w: Centrifuge did not see the answers to its pings in time", errBusy)
	}
	return err
}

// hear reads one message.
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

// isPing reports whether a message contains a ping of Centrifuge. The message
// may have other lines.
func isPing(message []byte) bool {
	for line := range bytes.SplitSeq(message, []byte("\n")) {
		if string(line) == "{}" {
			return true
		}
	}
	return false
}

// advance sends the next line. A client that only listens sends none.
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

// number is the number after the first occurrence of some words.
func number(message []byte, words string) (int, bool) {
	_, digits, _ := bytes.Cut(message[:min(len(message), 512)], []byte(words))
	n := 0
	for n < len(digits) && digits[n] >= '0' && digits[n] <= '9' {
		n++
	}
	v, err := strconv.Atoi(string(digits[:n]))
	return v, err == nil
}
