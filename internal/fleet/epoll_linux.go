package fleet

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"syscall"
	"time"
)

// interesting is the number of bytes of a long message that Hear gets.
const interesting = 64 << 10

// Epoll drives many clients in one thread: sockets that never block, and one
// system call that returns the readable ones.
type Epoll struct {
	// Hear is called for each message, or each event if Streams is set. Of a message
	// over 64 KB it gets the beginning. It must not keep the message.
	Hear func(s *Socket, message []byte) error
	// Ready is called when a server has answered the request of a client.
	Ready   func(s *Socket) error
	Streams bool // event streams, not WebSockets

	Received int // bytes
	Gone     int // clients whose server ended the connection

	to     syscall.SockaddrInet4
	epoll  int
	byFD   []*Socket
	buffer []byte // of what was read
	out    []byte
	events []syscall.EpollEvent
}

// Socket is one client.
type Socket struct {
	Client int // its number
	Closed bool
	fd     int
	ready  bool
	carry  []byte // of a message that has not arrived as a whole
	skip   int    // bytes of a long message that are not read
}

// NewEpoll returns the clients of the server at an address, none of which is
// connected.
func NewEpoll(address string) (*Epoll, error) {
	at, err := net.ResolveTCPAddr("tcp4", address)
	if err != nil {
		return nil, err
	}
	e := &Epoll{buffer: make([]byte, 1<<18), events: make([]syscall.EpollEvent, 1024)}
	e.to.Port = at.Port
	copy(e.to.Addr[:], at.IP.To4())
	e.epoll, err = syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	return e, err
}

// Close drops all clients without a close frame.
func (e *Epoll) Close() error {
	for _, s := range e.byFD {
		if s != nil {
			_ = syscall.SetsockoptLinger(s.fd, syscall.SOL_SOCKET, syscall.SO_LINGER, &syscall.Linger{Onoff: 1})
			e.Drop(s)
		}
	}
	return syscall.Close(e.epoll)
}

// Drop closes the socket of a client, if it is open.
func (e *Epoll) Drop(s *Socket) {
	if s.Closed {
		return
	}
	e.byFD[s.fd] = nil
	s.Closed = true
	_ = syscall.Close(s.fd)
}

// Open connects a client and sends its request. The connection is open before the
// server accepts it.
func (e *Epoll) Open(client int, request string) (*Socket, error) {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	s := &Socket{Client: client, fd: fd}
	err = errors.Join(syscall.SetsockoptInt(fd, syscall.IPPROTO_TCP, syscall.TCP_NODELAY, 1), syscall.Connect(fd, &e.to), syscall.SetNonblock(fd, true))
	if err == nil {
		err = syscall.EpollCtl(e.epoll, syscall.EPOLL_CTL_ADD, fd, &syscall.EpollEvent{Events: syscall.EPOLLIN | syscall.EPOLLRDHUP, Fd: int32(fd)})
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("connecting client %d: %w", client, err), syscall.Close(fd))
	}
	for len(e.byFD) <= fd {
		e.byFD = append(e.byFD, nil)
	}
	e.byFD[fd] = s
	return s, e.write(s, []byte(request))
}

// Say sends a text message.
func (e *Epoll) Say(s *Socket, text string) error {
	e.out = AppendClient(e.out[:0], OpText, text)
	return e.write(s, e.out)
}

func (e *Epoll) write(s *Socket, data []byte) error {
	n, err := syscall.Write(s.fd, data)
	if err == nil && n < len(data) {
		err = errors.New("the server does not read")
	}
	if err == syscall.EPIPE || err == syscall.ECONNRESET {
		return nil // the next read returns it too
	}
	return err
}

// Poll waits until some client can read, and reads all that has arrived.
func (e *Epoll) Poll(wait time.Duration) error {
	n, err := syscall.EpollWait(e.epoll, e.events, int(wait.Milliseconds()))
	if err != nil && err != syscall.EINTR {
		return err
	}
	for _, event := range e.events[:max(n, 0)] {
		if s := e.byFD[event.Fd]; s != nil {
			if err := e.read(s); err != nil {
				return fmt.Errorf("client %d: %w", s.Client, err)
			}
		}
	}
	return nil
}

func (e *Epoll) read(s *Socket) error {
	n, err := syscall.Read(s.fd, e.buffer)
	switch {
	case err == syscall.EAGAIN || err == syscall.EINTR:
		return nil
	case err != nil || n == 0:
		e.Gone++
		e.Drop(s)
		return nil
	}
	e.Received += n
	return e.feed(s, e.buffer[:n])
}

// feed takes in the bytes read, and keeps a message that is not whole.
func (e *Epoll) feed(s *Socket, data []byte) error {
	skipped := min(s.skip, len(data))
	s.skip -= skipped
	data = data[skipped:]
	if len(s.carry) > 0 {
		s.carry = append(s.carry, data...)
		data = s.carry
	}
	rest, err := e.take(s, data)
	s.carry = append(s.carry[:0], rest...)
	if len(s.carry) == 0 {
		s.carry = nil // an idle client takes no memory
	}
	return err
}

// take takes in messages and returns the bytes of one that is not whole.
func (e *Epoll) take(s *Socket, data []byte) (rest []byte, err error) {
	if !s.ready {
		answer, after, whole := bytes.Cut(data, []byte("\r\n\r\n"))
		if !whole {
			return data, nil
		}
		want := "HTTP/1.1 101 "
		if e.Streams {
			want = "HTTP/1.1 200 "
		}
		if !bytes.HasPrefix(answer, []byte(want)) {
			return nil, fmt.Errorf("the server answers %q", data[:min(len(data), 200)])
		}
		data, s.ready = after, true
		if err := e.Ready(s); err != nil {
			return nil, err
		}
	}
	for len(data) > 0 && err == nil {
		next := e.frame
		if e.Streams {
			next = e.event
		}
		before := len(data)
		if data, err = next(s, data); len(data) == before {
			break // it is not whole
		}
	}
	return data, err
}

// event takes in one event of a stream.
func (e *Epoll) event(s *Socket, data []byte) (rest []byte, err error) {
	event, after, whole := bytes.Cut(data, []byte("\n\n"))
	if !whole {
		return data, nil
	}
	return after, e.Hear(s, event)
}

// frame takes in one frame. No server here fragments a message.
func (e *Epoll) frame(s *Socket, data []byte) (rest []byte, err error) {
	h, err := parseHeader(data)
	if err != nil || h.size == 0 || len(data) < h.size+min(h.length, interesting) {
		return data, err
	}
	end := h.size + h.length
	payload := data[h.size:min(len(data), end)]
	switch {
	case h.op == OpClose:
		return nil, parseClose(payload)
	case h.op == OpText:
		err = e.Hear(s, payload)
	}
	if end > len(data) {
		s.skip = end - len(data)
		return nil, err
	}
	return data[end:], err
}
