package ws_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	gobwas "github.com/gobwas/ws"
	"github.com/stretchr/testify/require"
)

// both runs a test over each transport.
func both(t *testing.T, f func(t *testing.T, over string)) {
	for _, over := range []string{"ws", "sse"} {
		t.Run(over, func(t *testing.T) { f(t, over) })
	}
}

// parameters turns the fields of a hello into those of a stream's URL.
func parameters(t testing.TB, hello string) string {
	t.Helper()
	var fields map[string]any
	require.NoError(t, json.Unmarshal([]byte(`{"v":1`+hello+`}`), &fields))
	q := url.Values{}
	for name, value := range fields {
		if name != "ref" {
			q.Set(name, fmt.Sprint(value))
		}
	}
	return q.Encode()
}

// stream opens a stream, or returns the status with which it was refused.
func (w *world) stream(query string, header ...string) (*client, int, string) {
	w.t.Helper()
	conn, err := net.Dial("tcp", w.server.Listener.Addr().String())
	require.NoError(w.t, err)
	w.t.Cleanup(func() { conn.Close() })
	require.NoError(w.t, conn.SetDeadline(time.Now().Add(20*time.Second)))
	var head strings.Builder
	head.WriteString("GET /events?" + query + " HTTP/1.1\r\nHost: " + w.server.Listener.Addr().String() + "\r\n")
	for i := 0; i+1 < len(header); i += 2 {
		head.WriteString(header[i] + ": " + header[i+1] + "\r\n")
	}
	_, err = io.WriteString(conn, head.String()+"\r\n")
	require.NoError(w.t, err)
	response, err := http.ReadResponse(bufio.NewReaderSize(conn, 16), nil)
	require.NoError(w.t, err)
	if response.StatusCode != http.StatusOK {
		defer conn.Close()
		why, _ := io.ReadAll(response.Body)
		return nil, response.StatusCode, string(why)
	}
	require.Equal(w.t, "text/event-stream", response.Header.Get("Content-Type"))
	require.Equal(w.t, "no-store", response.Header.Get("Cache-Control"))
	events := bufio.NewScanner(response.Body)
	events.Buffer(nil, 1<<24)
	return &client{t: w.t, conn: conn, events: events, post: w.server.URL + "/messages?" + query}, response.StatusCode, ""
}

// welcome reads the first event, by whose secret messages are sent from then on.
func (c *client) welcome() frame {
	c.t.Helper()
	f := c.receive()
	require.Equal(c.t, "welcome", f.Type, f.raw)
	base, _, _ := strings.Cut(c.post, "?")
	c.post = base + "?" + url.Values{"conn": {f.Conn}, "secret": {f.Secret}}.Encode()
	return f
}

// send posts a body and returns the status.
func (c *client) send(body string) int {
	c.t.Helper()
	response, err := http.Post(c.post, "text/plain;charset=UTF-8", strings.NewReader(body))
	require.NoError(c.t, err)
	defer response.Body.Close()
	_, err = io.Copy(io.Discard, response.Body)
	require.NoError(c.t, err)
	return response.StatusCode
}

// event returns the next event as what it would be over a socket.
func (c *client) event() (gobwas.OpCode, string, error) {
	c.t.Helper()
	data, id, moved := "", "", false
	for c.events.Scan() {
		switch name, value, _ := strings.Cut(c.events.Text(), ": "); name {
		case "":
			if data == "" {
				continue // what came was about the stream
			}
			if moved {
				c.last = id
			}
			var end struct {
				Type    string
				Code    any // a word in errors
				Message string
			}
			require.NoError(c.t, json.Unmarshal([]byte(data), &end), data)
			if end.Type == "close" {
				return gobwas.OpClose, string(gobwas.NewCloseFrameBody(gobwas.StatusCode(end.Code.(float64)), end.Message)), nil
			}
			return gobwas.OpText, data, nil
		case "data":
			require.Empty(c.t, data)
			data = value
		case "id":
			id, moved = value, true
		case "retry":
		default:
			require.Fail(c.t, "strange line", c.events.Text())
		}
	}
	if err := c.events.Err(); err != nil {
		return 0, "", err
	}
	return 0, "", io.EOF
}
