package fleet

import (
	"bufio"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"
)

const (
	// maxMessage is the length of the longest message taken from a server: a list
	// of a hundred thousand members.
	maxMessage = 32 << 20
	// readBuffer is the size of a client's buffer for reading.
	readBuffer = 512
	// arriving is the memory in bytes that a message takes ahead of its content.
	arriving = 64 << 10
)

// ProtocolError is the error for something that a server may not send.
type ProtocolError struct{ Err error }

func (e *ProtocolError) Error() string { return e.Err.Error() }
func (e *ProtocolError) Unwrap() error { return e.Err }

// StatusError is the answer of a server that refused an upgrade.
type StatusError struct {
	Code int
	Text string
}

func (e *StatusError) Error() string { return fmt.Sprintf("HTTP status %d: %s", e.Code, e.Text) }

// Dialer opens WebSockets and counts their bytes, below any encryption. It is
// safe for concurrent use.
type Dialer struct {
	Patience time.Duration // for the handshake, and for each write after it
	In, Out  atomic.Uint64
	roots    *x509.CertPool // nil for those of the system
}

// Dial opens a WebSocket. The address begins with ws:// or wss://. It returns a
// [StatusError] if a server answered and refused.
func (d *Dialer) Dial(ctx context.Context, address string, fields http.Header) (_ *Conn, err error) {
	u, err := url.Parse(address)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, d.Patience)
	defer cancel()
	host, port := u.Host, map[string]string{"ws": "80", "wss": "443"}[u.Scheme]
	if u.Port() == "" {
		host = net.JoinHostPort(u.Hostname(), port)
	}
	var dialer net.Dialer
	socket, err := dialer.DialContext(ctx, "tcp", host)
	if err != nil {
		return nil, err
	}
	c := &Conn{dialer: d, tcp: socket.(*net.TCPConn)}
	c.Conn = counted{c.tcp, d}
	stop := context.AfterFunc(ctx, func() { _ = c.tcp.SetDeadline(time.Unix(1, 0)) })
	if err = c.upgrade(ctx, u, fields); err == nil && !stop() {
		err = context.Cause(ctx)
	}
	if err != nil {
		stop()
		c.Close()
		return nil, err
	}
	return c, nil
}

func (c *Conn) upgrade(ctx context.Context, u *url.URL, fields http.Header) error {
	if u.Scheme == "wss" {
		secure := tls.Client(c.Conn, &tls.Config{ServerName: u.Hostname(), RootCAs: c.dialer.roots})
		c.Conn = secure
		if err := secure.HandshakeContext(ctx); err != nil {
			return err
		}
	}
	var nonce [16]byte
	_, _ = rand.Read(nonce[:]) // it never fails
	key := base64.StdEncoding.EncodeToString(nonce[:])
	if _, err := io.WriteString(c.Conn, Upgrade(u.Host, u.RequestURI(), key, fields)); err != nil {
		return err
	}
	c.in = bufio.NewReaderSize(c.Conn, readBuffer)
	response, err := http.ReadResponse(c.in, &http.Request{Method: http.MethodGet})
	if err != nil {
		return err
	}
	if response.StatusCode != http.StatusSwitchingProtocols {
		body, _ := io.ReadAll(io.LimitReader(response.Body, 300)) // the part that arrived
		text := strings.TrimSpace(string(body))
		if text == "" {
			text = http.StatusText(response.StatusCode)
		}
		return &StatusError{response.StatusCode, text}
	}
	return checkUpgrade(response, key)
}

// Conn is one WebSocket for one goroutine. Deadlines may be set from others.
type Conn struct {
	net.Conn
	dialer  *Dialer
	tcp     *net.TCPConn
	in      *bufio.Reader
	closing bool // the close frame has been sent
}

// Send sends a text message.
func (c *Conn) Send(text string) error { return c.write(AppendClient(nil, OpText, text)) }

// Pong answers a ping.
func (c *Conn) Pong(payload []byte) error { return c.write(AppendClient(nil, OpPong, payload)) }

// SendClose begins the closing handshake.
func (c *Conn) SendClose(code int) error {
	c.closing = true
	return c.write(AppendClient(nil, OpClose, closePayload(code)))
}

func (c *Conn) write(data []byte) error {
	_ = c.SetWriteDeadline(time.Now().Add(c.dialer.Patience))
	_, err := c.Write(data)
	return err
}

// Wait waits until something arrives or the read deadline has passed.
func (c *Conn) Wait() error {
	_, err := c.in.Peek(1)
	return err
}

// Receive reads one message of any number of frames and appends it to a buffer,
// or one control frame. It calls ping for each ping on the way. It reports whether
// it read a message. It answers a close frame and returns it as a [ClosedError].
// It returns a [ProtocolError] for a frame that no server may send.
func (c *Conn) Receive(buffer []byte, ping func(payload []byte) error) (message []byte, whole bool, err error) {
	begun := len(buffer)
	for fragmented := false; ; {
		h, err := c.header()
		if err != nil {
			return buffer, false, err
		}
		switch {
		case h.isControl():
		case fragmented != (h.op == OpContinue):
			return buffer, false, &ProtocolError{errors.New("a frame continues no message, or does not continue the last one")}
		case h.op == OpBinary || h.length > maxMessage-(len(buffer)-begun):
			return buffer, false, &ProtocolError{fmt.Errorf("a message is binary, or longer than %d bytes", maxMessage)}
		}
		at := len(buffer)
		if buffer, err = c.payload(buffer, h.length); err != nil {
			return buffer, false, err
		}
		if h.isControl() {
			if err := c.control(h.op, buffer[at:], ping); err != nil || !fragmented {
				return buffer[:at], false, err
			}
			buffer = buffer[:at]
			continue
		}
		if fragmented = !h.fin; !fragmented {
			return buffer, true, nil
		}
	}
}

func (c *Conn) header() (h header, err error) {
	for need := 2; h.size == 0; need++ {
		data, err := c.in.Peek(need)
		if err != nil {
			return h, err
		}
		if h, err = parseHeader(data); err != nil {
			return h, &ProtocolError{err}
		}
	}
	_, err = c.in.Discard(h.size)
	return h, err
}

// payload appends the bytes of a frame in parts, so that it takes memory only for
// bytes that have arrived.
func (c *Conn) payload(buffer []byte, length int) ([]byte, error) {
	for length > 0 {
		part := min(length, arriving)
		buffer = append(buffer, make([]byte, part)...)
		if _, err := io.ReadFull(c.in, buffer[len(buffer)-part:]); err != nil {
			return buffer, err
		}
		length -= part
	}
	return buffer, nil
}

func (c *Conn) control(op byte, payload []byte, ping func([]byte) error) error {
	switch op {
	case OpPing:
		return ping(payload)
	case OpClose:
		if !c.closing {
			_ = c.SendClose(CloseNormal) // the server may be gone
		}
		return parseClose(payload)
	}
	return nil
}

// Sever ends the connection like a lost one: without a close frame.
func (c *Conn) Sever() {
	_ = c.tcp.SetLinger(0)
	c.tcp.Close()
}

// counted counts the bytes of a connection.
type counted struct {
	*net.TCPConn
	by *Dialer
}

func (c counted) Read(b []byte) (int, error) {
	n, err := c.TCPConn.Read(b)
	c.by.In.Add(uint64(n))
	return n, err
}

func (c counted) Write(b []byte) (int, error) {
	n, err := c.TCPConn.Write(b)
	c.by.Out.Add(uint64(n))
	return n, err
}
