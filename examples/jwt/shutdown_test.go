//go:build unix

package main

import (
	"bufio"
	"encoding/base64"
	"encoding/binary"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// asProgram is the variable that makes the test's binary the program.
const asProgram = "PRESENCE_JWT_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

// H15: an interrupt of the program tells the clients of open sockets to come back.
func TestInterruptClosesSockets(t *testing.T) {
	for range 15 {
		program := exec.CommandContext(t.Context(), os.Args[0], "-listen", "127.0.0.1:0")
		program.Env = append(os.Environ(), asProgram+"=1")
		program.Stderr = os.Stderr
		out, err := program.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, program.Start())
		socket := openSocket(t, addressOf(t, out))
		require.NoError(t, program.Process.Signal(os.Interrupt))
		code, why := socket.closed(t)
		require.EqualValues(t, 1001, code, why)
		require.NoError(t, socket.conn.Close())
		require.NoError(t, program.Wait())
	}
}

// addressOf reads the program's address from its output.
func addressOf(t *testing.T, out io.Reader) string {
	t.Helper()
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if _, rest, found := strings.Cut(lines.Text(), `"http://`); found {
			address, _, _ := strings.Cut(rest, "/")
			return address
		}
	}
	require.Fail(t, "the program does not say where it listens", lines.Err())
	return ""
}

// socket is a client's WebSocket.
type socket struct {
	conn net.Conn
	in   *bufio.Reader
}

// openSocket opens a socket with a token of the program, and sends hello.
func openSocket(t *testing.T, address string) *socket {
	t.Helper()
	response, err := http.Get("http://" + address + "/token?id=ann")
	require.NoError(t, err)
	defer response.Body.Close()
	token, err := io.ReadAll(response.Body)
	require.NoError(t, err)

	conn, err := net.Dial("tcp", address)
	require.NoError(t, err)
	t.Cleanup(func() { conn.Close() })
	require.NoError(t, conn.SetDeadline(time.Now().Add(20*time.Second)))
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+address+"/presence", nil)
	require.NoError(t, err)
	for name, value := range map[string]string{
		"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
		"Sec-WebSocket-Protocol": "presence.v1, token." + base64.RawURLEncoding.EncodeToString(token),
	} {
		r.Header.Set(name, value)
	}
	require.NoError(t, r.Write(conn))
	s := &socket{conn, bufio.NewReader(conn)}
	response, err = http.ReadResponse(s.in, r)
	require.NoError(t, err)
	require.Equal(t, http.StatusSwitchingProtocols, response.StatusCode)

	const hello = `{"type":"hello","v":1}`
	_, err = conn.Write(append([]byte{0x81, 0x80 | byte(len(hello)), 0, 0, 0, 0}, hello...)) // masked with zeros
	require.NoError(t, err)
	_, welcome := s.frame(t)
	require.Contains(t, string(welcome), `"type":"welcome"`)
	return s
}

// frame reads the next frame.
func (s *socket) frame(t *testing.T) (op byte, payload []byte) {
	t.Helper()
	var head [2]byte
	_, err := io.ReadFull(s.in, head[:])
	require.NoError(t, err)
	n := int(head[1])
	if n == 126 {
		var long [2]byte
		_, err := io.ReadFull(s.in, long[:])
		require.NoError(t, err)
		n = int(binary.BigEndian.Uint16(long[:]))
	}
	payload = make([]byte, n)
	_, err = io.ReadFull(s.in, payload)
	require.NoError(t, err)
	return head[0] & 0xf, payload
}

// closed reads until the server closes, and returns its status.
func (s *socket) closed(t *testing.T) (code uint16, why string) {
	t.Helper()
	for {
		const opClose = 8
		if op, payload := s.frame(t); op == opClose {
			return binary.BigEndian.Uint16(payload), string(payload[2:])
		}
	}
}
