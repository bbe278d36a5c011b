package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// fleet is many clients in one thread: sockets that never block, and one call of
// the system that says which have something to read. It is meant to use little
// of its processor, so that a server is never waiting for it.
type fleet struct {
	speech
	to      unix.SockaddrInet4
	epoll   int
	still   time.Duration // see stillness
	sockets []*socket     // by client; nil for one that is not connected
	byFD    []*socket
	buffer  []byte // of what was read
	out     []byte
	events  []unix.EpollEvent

	ready    int       // clients that have reached the end of the script
	frames   int       // those with news in them
	received int       // bytes
	last     time.Time // when the last news came
	gone     int       // clients that the server has let go
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
	client  int
	fd      int
	step    int // in the script; -1 while there is no response yet
	script  []turn
	carry   []byte // of a frame that has not arrived as a whole
	skip    int    // bytes of a long frame that are of no interest
	news    int    // how much it has received
	count   int    // how many members there were by the last message that said so; -1 if none did
	said    time.Time
	heard   time.Time // when the last news came
	pinged  int       // number of the last ping of ours
	isReady bool
}

func newFleet(address string, clients int, still time.Duration, s speech) (*fleet, error) {
	at, err := net.ResolveTCPAddr("tcp4", address)
	if err != nil {
		return nil, err
	}
	f := &fleet{speech: s, still: still, sockets: make([]*socket, clients), buffer: make([]byte, 1<<18), events: make([]unix.EpollEvent, 1024)}
	f.to.Port = at.Port
	copy(f.to.Addr[:], at.IP.To4())
	f.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	return f, err
}

// close ends all clients at once, without a word.
func (f *fleet) close() error {
	for _, s := range f.sockets {
		if s != nil {
			_ = unix.SetsockoptLinger(s.fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
			f.drop(s)
		}
	}
	return unix.Close(f.epoll)
}

// drop closes a client's socket.
func (f *fleet) drop(s *socket) {
	f.sockets[s.client], f.byFD[s.fd] = nil, nil
	if s.isReady {
		f.ready--
	}
	_ = unix.Close(s.fd)
}

// open connects one client and sends its request. The connection is there before
// the server knows of it.
func (f *fleet) open(client int) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	s := &socket{client: client, fd: fd, step: -1, script: f.script(client), count: -1}
	err = errors.Join(unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1), unix.Connect(fd, &f.to), unix.SetNonblock(fd, true))
	if err == nil {
		err = unix.EpollCtl(f.epoll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLRDHUP, Fd: int32(fd)})
	}
	if err != nil {
		return errors.Join(fmt.Errorf("connecting client %d: %w", client, err), unix.Close(fd))
	}
	for len(f.byFD) <= fd {
		f.byFD = append(f.byFD, nil)
	}
	f.byFD[fd], f.sockets[client] = s, s
	return f.write(s, []byte(f.request(client)))
}

// opening is how many clients at most are on their way at once.
const opening = 256

// patience is how long a server may take for anything.
const patience = 2 * time.Minute

// connect opens clients, from one to another, and returns once all are ready.
func (f *fleet) connect(from, to int) error {
	before := f.ready
	aim := before + to - from
	deadline := time.Now().Add(patience)
	for next := from; f.ready < aim; {
		for next < to && (next-from)-(f.ready-before) < opening {
			if err := f.open(next); err != nil {
				return err
			}
			next++
		}
		if err := f.poll(100 * time.Millisecond); err != nil {
			return err
		}
		if f.gone > 0 {
			return fmt.Errorf("the server let %d clients go", f.gone)
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%w: %d of %d clients were ready after %v", errBusy, f.ready, aim, patience)
		}
	}
	return nil
}

// quiet reads until no news has come for so long.
func (f *fleet) quiet(long time.Duration) error {
	for began := time.Now(); ; {
		if err := f.poll(10 * time.Millisecond); err != nil {
			return err
		}
		now := time.Now()
		if now.Sub(began) >= long && now.Sub(f.last) >= long {
			return nil
		}
		if now.Sub(began) > patience {
			return fmt.Errorf("%w: it was not quiet after %v", errBusy, patience)
		}
	}
}

// until reads until something is so.
func (f *fleet) until(so func() bool) error {
	for deadline := time.Now().Add(patience); !so(); {
		if err := f.poll(100 * time.Millisecond); err != nil {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("what was waited for did not come within %v", patience)
		}
	}
	return nil
}

// poll reads what there is to read, and waits for something first.
func (f *fleet) poll(wait time.Duration) error {
	n, err := unix.EpollWait(f.epoll, f.events, int(wait.Milliseconds()))
	if err != nil && err != unix.EINTR {
		return err
	}
	for _, e := range f.events[:max(n, 0)] {
		if s := f.byFD[e.Fd]; s != nil {
			if err := f.read(s); err != nil {
				return err
			}
		}
	}
	return nil
}

func (f *fleet) read(s *socket) error {
	n, err := unix.Read(s.fd, f.buffer)
	switch {
	case err == unix.EAGAIN || err == unix.EINTR:
		return nil
	case err != nil || n == 0:
		f.gone++
		f.drop(s)
		return nil
	}
	f.received += n
	return f.feed(s, f.buffer[:n])
}

// feed takes in what was read.
func (f *fleet) feed(s *socket, data []byte) error {
	if skipped := min(s.skip, len(data)); skipped > 0 {
		s.skip -= skipped
		data = data[skipped:]
	}
	if len(s.carry) > 0 {
		s.carry = append(s.carry, data...)
		data = s.carry
	}
	rest, err := f.take(s, data)
	if err != nil {
		return fmt.Errorf("client %d: %w", s.client, err)
	}
	s.carry = append(s.carry[:0], rest...)
	if len(s.carry) == 0 {
		s.carry = nil
	}
	return nil
}

// interesting is how much of a long message is looked at.
const interesting = 64 << 10

// take takes in messages and returns what is left of one that is not whole.
func (f *fleet) take(s *socket, data []byte) ([]byte, error) {
	if s.step < 0 {
		end := bytes.Index(data, []byte("\r\n\r\n"))
		if end < 0 {
			return data, nil
		}
		want := "HTTP/1.1 101 "
		if f.stream {
			want = "HTTP/1.1 200 "
		}
		if !bytes.HasPrefix(data, []byte(want)) {
			return nil, fmt.Errorf("the server says %q", data[:min(len(data), 200)])
		}
		data = data[end+4:]
		s.step = 0
		if err := f.advance(s); err != nil {
			return nil, err
		}
	}
	for len(data) > 0 {
		var message []byte
		if f.stream {
			end := bytes.Index(data, []byte("\n\n"))
			if end < 0 {
				return data, nil
			}
			message, data = data[:end], data[end+2:]
			if err := f.hear(s, message); err != nil {
				return nil, err
			}
			continue
		}
		if len(data) < 2 {
			return data, nil
		}
		head, length := 2, int(data[1])
		switch {
		case length == 126 && len(data) >= 4:
			head, length = 4, int(binary.BigEndian.Uint16(data[2:]))
		case length == 127 && len(data) >= 10:
			head, length = 10, int(binary.BigEndian.Uint64(data[2:]))
		case length >= 126:
			return data, nil
		}
		whole := head + length
		if len(data) < min(whole, head+interesting) {
			return data, nil
		}
		message = data[head:min(len(data), whole)]
		if opcode := data[0] & 15; opcode == 8 {
			why := string(message[min(2, len(message)):])
			if why == "no pong" { // it was sent, or is about to be
				return nil, fmt.Errorf("%w: Centrifuge did not see the answers to its pings in time", errBusy)
			}
			return nil, fmt.Errorf("the server closes: %q", why)
		} else if opcode == 1 {
			if err := f.hear(s, message); err != nil {
				return nil, err
			}
		}
		if whole > len(data) {
			s.skip = whole - len(data)
			return nil, nil
		}
		data = data[whole:]
	}
	return nil, nil
}

// hear understands one message.
func (f *fleet) hear(s *socket, message []byte) error {
	if n := f.news(message); n > 0 {
		s.news += n
		f.frames++
		s.heard = time.Now()
		f.last = s.heard
		if count, ok := number(message, `"count":`); ok {
			s.count = count
		}
	}
	if seq, ok := number(message, `{"type":"ping","v":1,"seq":`); ok {
		s.pinged = seq
	} else if f.pinged(message) {
		if err := f.say(s, "{}"); err != nil {
			return err
		}
	}
	if !s.isReady && bytes.Contains(message, []byte(s.script[s.step].until)) {
		s.step++
		return f.advance(s)
	}
	return nil
}

// pinged reports whether there is a ping of Centrifuge in a message, beside
// others perhaps, each on a line.
func (f *fleet) pinged(message []byte) bool {
	return string(message) == "{}" || bytes.HasPrefix(message, []byte("{}\n")) || bytes.HasSuffix(message, []byte("\n{}")) || bytes.Contains(message, []byte("\n{}\n"))
}

// advance says the line that is next, or nothing to one who listens only.
func (f *fleet) advance(s *socket) error {
	if s.step == len(s.script) {
		s.isReady = true
		f.ready++
		return nil
	}
	if s.step == f.joins {
		s.said = time.Now()
	}
	if f.stream {
		return nil
	}
	return f.say(s, s.script[s.step].say)
}

// say sends a text.
func (f *fleet) say(s *socket, text string) error {
	f.out = appendMasked(f.out[:0], text)
	return f.write(s, f.out)
}

// appendMasked appends a frame as clients send them.
func appendMasked(b []byte, text string) []byte {
	b = append(b, 0x81)
	if len(text) < 126 {
		b = append(b, 0x80|byte(len(text)))
	} else {
		b = binary.BigEndian.AppendUint16(append(b, 0x80|126), uint16(len(text)))
	}
	mask := [4]byte{0x1f, 0x2e, 0x3d, 0x4c}
	b = append(b, mask[:]...)
	for i := range len(text) {
		b = append(b, text[i]^mask[i&3])
	}
	return b
}

func (f *fleet) write(s *socket, data []byte) error {
	n, err := unix.Write(s.fd, data)
	if err == nil && n < len(data) {
		err = errors.New("the server does not read")
	}
	if err == unix.EPIPE || err == unix.ECONNRESET {
		return nil // reading says so too
	}
	return err
}

// number is the number that follows some words, the first time they are there.
func number(message []byte, words string) (int, bool) {
	i := bytes.Index(message[:min(len(message), 512)], []byte(words))
	if i < 0 {
		return 0, false
	}
	digits := message[i+len(words):]
	n := 0
	for n < len(digits) && digits[n] >= '0' && digits[n] <= '9' {
		n++
	}
	v, err := strconv.Atoi(string(digits[:n]))
	return v, err == nil
}
