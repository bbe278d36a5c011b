package edgetest

import (
	"bufio"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/presence-go/presence/adapters/internal/edge"
)

var exhaustive = flag.Bool("exhaustive", false, "send every close code to the adapter, which takes minutes")

// Server is an adapter that serves WebSockets.
type Server struct {
	Address string // over TCP
	Path    string // that opens a socket
	// Message is a message that the adapter answers with one text message, which
	// contains Answer. Spaces may follow it.
	Message, Answer string
	// Noise has parts of what the adapter sends after a message that its protocol
	// does not know: of a text message, or of the reason of a close frame.
	Noise []string
	// NoiseEnds means that it closes the socket then. Otherwise the status Faults
	// closes it after the last of edge.MaxStrikes.
	NoiseEnds bool
	Faults    int
	// Limit is the longest message that the adapter takes, in bytes, and Parts
	// the most frames of a message; 0 means no limit. TooLong is part of the text
	// message that answers a longer one, or "" if status 1009 does.
	Limit, Parts int
	TooLong      string
}

// Serve opens a server of an adapter. goodbye shuts the adapter down.
type Serve func(t *testing.T) (s Server, goodbye func() error)

// Run tests an adapter by RFC 6455: what opens a WebSocket, what ends one, and the
// cases of the Autobahn test suite. It names fault 34.
func Run(t *testing.T, serve Serve) {
	for name, test := range map[string]func(*testing.T, Serve){
		"handshakes": handshakes, "closings": endings, "farewell": farewell, "autobahn": autobahn,
	} {
		t.Run(name, func(t *testing.T) { test(t, serve) })
	}
}

// patience is how long a test waits for what has to arrive.
const patience = time.Minute

// request sends the lines of a request, without an empty one at the end, and
// returns the answer.
func (s *Server) request(t *testing.T, lines ...string) (*peer, *http.Response) {
	t.Helper()
	conn, err := net.Dial("tcp", s.Address)
	require.NoError(t, err)
	t.Cleanup(func() { conn.Close() })
	require.NoError(t, conn.SetDeadline(time.Now().Add(patience)))
	_, err = io.WriteString(conn, strings.Join(lines, "\r\n")+"\r\n\r\n")
	require.NoError(t, err)
	p := &peer{t: t, conn: conn, in: bufio.NewReader(conn)}
	response, err := http.ReadResponse(p.in, &http.Request{Method: http.MethodGet})
	require.NoError(t, err)
	return p, response
}

// The example of RFC 6455, 1.2.
const (
	key    = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="
	accept = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
)

func (s *Server) open(t *testing.T) *peer {
	t.Helper()
	p, response := s.request(t, "GET "+s.Path+" HTTP/1.1", "Host: x", "Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13", key)
	require.Equal(t, http.StatusSwitchingProtocols, response.StatusCode)
	p.s = s
	return p
}

// peer is the client's end of a connection.
type peer struct {
	t    *testing.T
	s    *Server
	conn net.Conn
	in   *bufio.Reader
	// polite means that until answers a close frame.
	polite bool
}

// frame reads a frame of the server, and checks that it is one of RFC 6455.
func (p *peer) frame() (op edge.Opcode, payload []byte, err error) {
	head := make([]byte, 2)
	if _, err := io.ReadFull(p.in, head); err != nil {
		return 0, nil, err
	}
	require.Equal(p.t, byte(0x80), head[0]&0xf0, "the server sends whole frames without reserved bits")
	require.Less(p.t, head[1], byte(0x80), "the server masks nothing")
	length := uint64(head[1])
	if wide := map[byte]int{126: 2, 127: 8}[head[1]]; wide > 0 {
		more := make([]byte, 8)
		if _, err := io.ReadFull(p.in, more[8-wide:]); err != nil {
			return 0, nil, err
		}
		length = binary.BigEndian.Uint64(more)
	}
	payload = make([]byte, length)
	_, err = io.ReadFull(p.in, payload)
	return edge.Opcode(head[0] & 15), payload, err
}

// until reads what the server sends up to the end of the connection. It returns
// one word for each frame: answer, noise, too long, pong and its payload, close
// and its code. Text that is none of these is left out. After a close frame a
// reset is an end too: the server has stopped reading what this side still sent.
func (p *peer) until() (words []string) {
	closed := false
	for {
		op, payload, err := p.frame()
		if errors.Is(err, io.EOF) || closed && errors.Is(err, syscall.ECONNRESET) {
			return append(words, "end")
		}
		if err != nil {
			return append(words, err.Error())
		}
		if word := p.word(op, payload); word != "" {
			words = append(words, word)
		}
		closed = closed || op == edge.OpClose
		if op == edge.OpClose && p.polite {
			_, _ = p.conn.Write(closing(1000, "")) // the server may have gone
		}
	}
}

func (p *peer) word(op edge.Opcode, payload []byte) string {
	if op == edge.OpPong {
		return "pong " + string(payload)
	}
	if op == edge.OpClose && len(payload) < 2 {
		return "close"
	}
	text := string(payload)
	for _, part := range p.s.Noise {
		if strings.Contains(text, part) {
			return "noise"
		}
	}
	switch {
	case op == edge.OpClose:
		return fmt.Sprint("close ", binary.BigEndian.Uint16(payload))
	case p.s.Answer != "" && strings.Contains(text, p.s.Answer):
		return "answer"
	case p.s.TooLong != "" && strings.Contains(text, p.s.TooLong):
		return "too long"
	}
	return ""
}

// client returns a frame of a client, masked at random.
func client(fin bool, op edge.Opcode, payload string) []byte {
	b := edge.AppendHead(nil, op, len(payload))
	if !fin {
		b[0] &^= 0x80
	}
	b[1] |= 0x80
	mask := binary.BigEndian.AppendUint32(nil, rand.Uint32())
	b = append(b, mask...)
	for i := range len(payload) {
		b = append(b, payload[i]^mask[i%4])
	}
	return b
}

// closing returns a close frame of a client.
func closing(code int, reason string) []byte {
	return client(true, edge.OpClose, string(binary.BigEndian.AppendUint16(nil, uint16(code)))+reason)
}

// handshakes checks what opens a WebSocket by RFC 6455, 4.2.1 and 4.2.2.
func handshakes(t *testing.T, serve Serve) {
	s, _ := serve(t)
	const host, upgrade, connection, version = "Host: x", "Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13"
	get := "GET " + s.Path + " HTTP/1.1"
	for name, c := range map[string]struct {
		status int
		lines  []string
	}{
		"as written":              {101, []string{get, host, upgrade, connection, version, key}},
		"in another order":        {101, []string{get, key, version, connection, upgrade, host}},
		"Connection in two lines": {101, []string{get, host, upgrade, "Connection: keep-alive", "Connection: upgrade", version, key}},
		"Connection is a list":    {101, []string{get, host, upgrade, "Connection: keep-alive,\tUPGRADE , x", version, key}},
		"a list with holes":       {101, []string{get, host, upgrade, "connection: ,, upgrade,", version, key}},
		"Upgrade in capitals":     {101, []string{get, host, "UPGRADE: WebSocket", connection, version, key}},
		"Upgrade is a list":       {101, []string{get, host, "Upgrade: h2c, websocket", connection, version, key}},
		"Upgrade in two lines":    {101, []string{get, host, "Upgrade: h2c", upgrade, connection, version, key}},
		"extensions":              {101, []string{get, host, upgrade, connection, version, key, "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits"}},
		"another subprotocol":     {101, []string{get, host, upgrade, connection, version, key, "Sec-WebSocket-Protocol: chat, superchat"}},
		"a nonce that is no text": {101, []string{get, host, upgrade, connection, version, "Sec-WebSocket-Key: /////////////////////w=="}},

		"no Upgrade":            {426, []string{get, host, connection, version, key}},
		"another Upgrade":       {426, []string{get, host, "Upgrade: h2c, websockets", connection, version, key}},
		"no Connection":         {400, []string{get, host, upgrade, version, key}},
		"another Connection":    {400, []string{get, host, upgrade, "Connection: close, upgrades", version, key}},
		"no version":            {400, []string{get, host, upgrade, connection, key}},
		"an old version":        {426, []string{get, host, upgrade, connection, "Sec-WebSocket-Version: 8", key}},
		"two versions":          {426, []string{get, host, upgrade, connection, "Sec-WebSocket-Version: 13, 8", key}},
		"a version twice":       {426, []string{get, host, upgrade, connection, version, version, key}},
		"no key":                {400, []string{get, host, upgrade, connection, version}},
		"an empty key":          {400, []string{get, host, upgrade, connection, version, "Sec-WebSocket-Key:"}},
		"a key twice":           {400, []string{get, host, upgrade, connection, version, key, key}},
		"a short key":           {400, []string{get, host, upgrade, connection, version, "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub24="}},
		"a long key":            {400, []string{get, host, upgrade, connection, version, "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZTEy"}},
		"a key that is no code": {400, []string{get, host, upgrade, connection, version, "Sec-WebSocket-Key: ~~~~~~~~~~~~~~~~~~~~~~=="}},
		"no host":               {400, []string{get, upgrade, connection, version, key}},
		"another method":        {405, []string{"PUT " + s.Path + " HTTP/1.1", host, "Content-Length: 0", upgrade, connection, version, key}},
		"an old protocol":       {505, []string{"GET " + s.Path + " HTTP/1.0", host, upgrade, connection, version, key}},
	} {
		t.Run(name, func(t *testing.T) {
			p, response := s.request(t, c.lines...)
			require.Equal(t, c.status, response.StatusCode)
			if c.status == http.StatusUpgradeRequired && strings.Contains(name, "version") {
				require.Equal(t, "13", response.Header.Get("Sec-WebSocket-Version"))
			}
			if c.status != http.StatusSwitchingProtocols {
				text, err := io.ReadAll(io.LimitReader(response.Body, 1000))
				require.NoError(t, err)
				require.NotEmpty(t, text, "the reason")
				return
			}
			require.Equal(t, "websocket", response.Header.Get("Upgrade"))
			require.Equal(t, "Upgrade", response.Header.Get("Connection"))
			require.NotContains(t, response.Header, "Sec-Websocket-Extensions")
			require.NotContains(t, response.Header, "Sec-Websocket-Protocol")
			if name != "a nonce that is no text" {
				require.Equal(t, accept, response.Header.Get("Sec-WebSocket-Accept"))
			}
			p.s = &s
			_, err := p.conn.Write(closing(1000, ""))
			require.NoError(t, err)
			require.Equal(t, []string{"close 1000", "end"}, p.until())
		})
	}
}

// endings checks the answer to close frames of a client: with every code or,
// without -exhaustive, with the codes beside a border and 200 more at random,
// and without a reason, with one, and with one that is not UTF-8. The connection
// ends at once after the answer.
func endings(t *testing.T, serve Serve) {
	s, _ := serve(t)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 3))
	allowed := func(code int) bool {
		return code >= 1000 && code <= 1003 || code >= 1007 && code <= 1014 || code >= 3000 && code <= 4999
	}
	border := func(code int) bool {
		return code == 0 || code == 1<<16-1 || allowed(code-1) != allowed(code) || allowed(code) != allowed(code+1)
	}
	sent := 0
	for code := range 1 << 16 {
		if !*exhaustive && !border(code) && r.IntN(1<<16) >= 200 {
			continue
		}
		want := 1002
		if allowed(code) {
			want = code
		}
		for _, reason := range []string{"", "grüße", strings.Repeat("x", 123), "not \xff UTF-8"} {
			if allowed(code) && strings.Contains(reason, "\xff") {
				want = 1007
			}
			s.closes(t, closing(code, reason), want)
			sent++
		}
	}
	s.closes(t, client(true, edge.OpClose, ""), 1000)
	s.closes(t, client(true, edge.OpClose, "\x03"), 1002)
	s.closes(t, client(true, edge.OpText, "not \xff UTF-8"), 1007)
	t.Logf("%d close frames", sent+2)
}

// closes checks that the server answers with a close frame of a status, and
// ends the connection at once.
func (s *Server) closes(t *testing.T, frame []byte, status int) {
	t.Helper()
	atOnce(t, func() time.Duration {
		p := s.open(t)
		defer p.conn.Close()
		began := time.Now()
		_, err := p.conn.Write(frame)
		require.NoError(t, err)
		require.Equal(t, []string{fmt.Sprint("close ", status), "end"}, p.until(), "%q", frame)
		return time.Since(began)
	})
}

// atOnce checks that something takes less than a server would wait for a client.
// A busy machine may need several attempts.
func atOnce(t *testing.T, try func() time.Duration) {
	t.Helper()
	took := try()
	for range 4 {
		if took < edge.CloseTimeout {
			return
		}
		took = try()
	}
	require.Less(t, took, edge.CloseTimeout)
}

// farewell checks that a server which closes first ends the connection as soon as
// the client has answered, and not before. serve starts one, and returns how to
// shut it down.
func farewell(t *testing.T, serve Serve) {
	atOnce(t, func() time.Duration {
		s, goodbye := serve(t)
		p := s.open(t)
		done := make(chan struct{})
		go func() {
			defer close(done)
			_ = goodbye()
		}()
		code := ""
		for code == "" {
			op, payload, err := p.frame()
			require.NoError(t, err)
			if op == edge.OpClose {
				code = p.word(op, payload)
			}
		}
		began := time.Now()
		for _, frame := range [][]byte{client(true, edge.OpText, "too late"), client(true, edge.OpPing, ""), closing(1000, "")} {
			_, err := p.conn.Write(frame)
			require.NoError(t, err)
		}
		require.Equal(t, []string{"end"}, p.until(), "after %s", code)
		p.conn.Close()
		<-done
		return time.Since(began)
	})
}
