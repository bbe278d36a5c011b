package fleet

import (
	"bufio"
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// accepting is a server that answers an upgrade and then sends the given bytes.
// It reads until the client closes and passes on what it read.
func accepting(t *testing.T, secure bool, accept func(key string) string, frames ...[]byte) (address string, heard <-chan []byte, roots *x509.CertPool) {
	t.Helper()
	all := make(chan []byte, 1)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		socket, buffered, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer socket.Close()
		_, _ = io.WriteString(socket, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: WebSocket\r\nConnection: keep-alive, Upgrade\r\nSec-WebSocket-Accept: "+
			accept(r.Header.Get("Sec-WebSocket-Key"))+"\r\n\r\n"+string(bytes.Join(frames, nil)))
		data, _ := io.ReadAll(buffered) // a client may sever
		all <- append([]byte(r.URL.RequestURI()+" "+r.Header.Get("X-User")+" "), data...)
	}))
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	scheme := "ws://"
	if secure {
		server.StartTLS()
		scheme, roots = "wss://", x509.NewCertPool()
		roots.AddCert(server.Certificate())
	} else {
		server.Start()
	}
	t.Cleanup(server.Close)
	return scheme + server.Listener.Addr().String(), all, roots
}

func TestConn(t *testing.T) {
	for _, secure := range []bool{false, true} {
		long := strings.Repeat("x", 3*arriving)
		address, heard, roots := accepting(t, secure, Accept,
			AppendServer(nil, OpText, "one"),
			AppendServer(nil, OpPing, "p1"),
			[]byte{OpText, 2, 't', 'w'}, AppendServer(nil, OpPing, "p2"), AppendServer(nil, OpPong, ""), []byte{0x80, 1, 'o'},
			AppendServer(nil, OpText, long),
			AppendServer(nil, OpClose, "\x03\xe9off"),
		)
		d := &Dialer{Patience: 10 * time.Second, roots: roots}
		c, err := d.Dial(t.Context(), address+"/a?b=c", http.Header{"X-User": {"ann"}})
		require.NoError(t, err)
		require.NoError(t, c.Send("hello"))
		var pings []string
		next := func() (string, bool, error) {
			message, whole, err := c.Receive([]byte("kept "), func(ping []byte) error {
				pings = append(pings, string(ping))
				return c.Pong(ping)
			})
			return string(message), whole, err
		}
		for _, want := range []struct {
			text  string
			whole bool
		}{{"kept one", true}, {"kept ", false}, {"kept two", true}, {"kept " + long, true}} {
			require.NoError(t, c.Wait())
			text, whole, err := next()
			require.NoError(t, err)
			require.Equal(t, want.text, text)
			require.Equal(t, want.whole, whole)
		}
		require.Equal(t, []string{"p1", "p2"}, pings)
		_, _, err = next()
		require.Equal(t, &ClosedError{CloseGoingAway, "off"}, err)
		c.Sever()
		want := string(AppendClient(AppendClient(AppendClient(AppendClient([]byte("/a?b=c ann "), OpText, "hello"), OpPong, "p1"), OpPong, "p2"), OpClose, closePayload(CloseNormal)))
		if !secure { // TLS may lose bytes that have not arrived
			require.Equal(t, want, string(<-heard))
		}
		require.Greater(t, d.In.Load(), uint64(len(long)))
		require.Positive(t, d.Out.Load())
	}
}

func TestConnWhatNoServerMaySend(t *testing.T) {
	for want, frame := range map[string][]byte{
		"continues no message":          AppendServer(nil, OpContinue, "x"),
		"does not continue":             append([]byte{OpText, 1, 'x'}, AppendServer(nil, OpText, "y")...),
		"is binary, or longer":          AppendServer(nil, OpBinary, "x"),
		"or longer than 33554432 bytes": {0x81, 127, 0, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff},
		"masked":                        AppendClient(nil, OpText, "x"),
	} {
		address, _, _ := accepting(t, false, Accept, frame)
		c, err := (&Dialer{Patience: 10 * time.Second}).Dial(t.Context(), address, nil)
		require.NoError(t, err)
		_, _, err = c.Receive(nil, c.Pong)
		_, wrong := errors.AsType[*ProtocolError](err)
		require.True(t, wrong, "%v", err)
		require.ErrorContains(t, err, want)
		require.NoError(t, c.Close())
	}
}

func TestConnEnds(t *testing.T) {
	address, _, _ := accepting(t, false, Accept)
	c, err := (&Dialer{Patience: 10 * time.Second}).Dial(t.Context(), address, nil)
	require.NoError(t, err)
	require.NoError(t, c.SetReadDeadline(time.Unix(1, 0)))
	require.ErrorIs(t, c.Wait(), os.ErrDeadlineExceeded)
	require.NoError(t, c.SetReadDeadline(time.Time{}))
	c.Sever()
	_, _, err = c.Receive(nil, c.Pong)
	require.ErrorIs(t, err, net.ErrClosed)
}

func TestDialRefused(t *testing.T) {
	d := &Dialer{Patience: 10 * time.Second}
	for body, want := range map[string]string{"who are you?\n": "HTTP status 403: who are you?", "": "HTTP status 403: Forbidden"} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusForbidden)
			_, _ = io.WriteString(w, body)
		}))
		_, err := d.Dial(t.Context(), "ws"+strings.TrimPrefix(server.URL, "http"), nil)
		require.EqualError(t, err, want)
		_, refused := errors.AsType[*StatusError](err)
		require.True(t, refused)
		server.Close()
		_, err = d.Dial(t.Context(), "ws"+strings.TrimPrefix(server.URL, "http"), nil)
		require.ErrorContains(t, err, "connection refused")
	}
	address, _, _ := accepting(t, false, func(string) string { return "nonsense" })
	_, err := d.Dial(t.Context(), address, nil)
	require.ErrorContains(t, err, `Sec-WebSocket-Accept "nonsense"`)
	address, _, _ = accepting(t, true, Accept)
	_, err = d.Dial(t.Context(), address, nil)
	require.ErrorContains(t, err, "certificate")
}

// TestDialEnds: a server that answers nothing is waited for until the context
// ends or patience does.
func TestDialEnds(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer silent.Close()
	address := "ws://" + silent.Addr().String()
	_, err = (&Dialer{Patience: 20 * time.Millisecond}).Dial(t.Context(), address, nil)
	require.ErrorIs(t, err, os.ErrDeadlineExceeded)

	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		socket, err := silent.Accept()
		if err != nil {
			return
		}
		_, _ = bufio.NewReader(socket).ReadString('\n') // the request
		cancel()
	}()
	_, err = (&Dialer{Patience: time.Minute}).Dial(ctx, address, nil)
	require.Error(t, err)
}
