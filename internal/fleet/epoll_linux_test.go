package fleet

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const switching = "HTTP/1.1 101 Switching Protocols\r\n\r\n"

// TestPieces: messages are read whole in whatever pieces they arrive. Of a long
// message only the beginning is passed on.
func TestPieces(t *testing.T) {
	sockets := []byte(switching)
	streams := []byte("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")
	for i, padding := range []int{0, 200, 3 * interesting, 0, interesting} {
		message := fmt.Sprintf(`{"n":%d,"x":"%s"}`, i+1, strings.Repeat("x", padding))
		sockets = AppendServer(sockets, OpText, message)
		streams = fmt.Appendf(streams, "data: %s\n\n", message)
	}
	sockets = AppendServer(sockets, OpPing, "")
	for _, piece := range []int{1, 2, 3, 7, 130, 65_535, 1 << 20} {
		for _, stream := range []bool{false, true} {
			if stream && piece < 130 {
				continue // an event that has not arrived is searched for its end with each piece
			}
			var heard []string
			ready := 0
			e := &Epoll{
				Streams: stream,
				Hear: func(_ *Socket, m []byte) error {
					heard = append(heard, string(m[:min(len(m), 20)]))
					return nil
				},
				Ready: func(*Socket) error { ready++; return nil },
			}
			data := sockets
			if stream {
				data = streams
			}
			s := new(Socket)
			for rest := data; len(rest) > 0; {
				n := min(piece, len(rest))
				require.NoError(t, e.feed(s, bytes.Clone(rest[:n])))
				rest = rest[n:]
			}
			require.Equal(t, 1, ready)
			require.Len(t, heard, 5, "pieces of %d", piece)
			for i, m := range heard {
				require.Contains(t, m, fmt.Sprintf(`{"n":%d,`, i+1))
			}
			require.Empty(t, s.carry)
			require.Zero(t, s.skip)
		}
	}
}

func TestEpollRefuses(t *testing.T) {
	for want, answer := range map[string]string{
		`answers "HTTP/1.1 403 `: "HTTP/1.1 403 Forbidden\r\n\r\n",
		"1008 no more":           switching + string(AppendServer(nil, OpClose, "\x03\xf0no more")),
		"reserved bits":          switching + "\xf1\x00",
	} {
		e := &Epoll{Ready: func(*Socket) error { return nil }}
		require.ErrorContains(t, e.feed(new(Socket), []byte(answer)), want)
	}
}

// TestEpoll: clients over real sockets. The server answers the upgrade of each,
// echoes one text, and closes.
func TestEpoll(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer listener.Close()
	const clients = 20
	said := make(chan string, clients)
	go func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				head := make([]byte, len(Upgrade("x", "/", Key, nil)))
				if _, err := io.ReadFull(c, head); err != nil {
					return
				}
				_, _ = io.WriteString(c, switching)
				text := make([]byte, len(AppendClient(nil, OpText, "hello")))
				if _, err := io.ReadFull(c, text); err != nil {
					return
				}
				said <- string(text)
				_, _ = c.Write(AppendServer(nil, OpText, "echo"))
			}()
		}
	}()
	e, err := NewEpoll(listener.Addr().String())
	require.NoError(t, err)
	heard := 0
	e.Ready = func(s *Socket) error { return e.Say(s, "hello") }
	e.Hear = func(s *Socket, m []byte) error {
		require.Equal(t, "echo", string(m))
		heard += s.Client
		return nil
	}
	var last *Socket
	for i := range clients {
		last, err = e.Open(i, Upgrade("x", "/", Key, nil))
		require.NoError(t, err)
	}
	for end := time.Now().Add(10 * time.Second); e.Gone < clients && time.Now().Before(end); {
		require.NoError(t, e.Poll(10*time.Millisecond))
	}
	require.Equal(t, clients, e.Gone)
	require.Equal(t, clients*(clients-1)/2, heard)
	require.Equal(t, clients*(len(switching)+len("echo")+2), e.Received)
	require.True(t, last.Closed)
	require.Equal(t, string(AppendClient(nil, OpText, "hello")), <-said)
	e.Drop(last) // again
	_, err = e.Open(0, Upgrade("x", "/", Key, nil))
	require.NoError(t, err)
	require.NoError(t, e.Close())
}
