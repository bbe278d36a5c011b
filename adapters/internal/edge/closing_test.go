package edge_test

import (
	"encoding/binary"
	"io"
	"net"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/presence-go/presence/adapters/internal/edge"
)

// Every code, with every form of a reason, is answered by the table.
func TestCloseReply(t *testing.T) {
	require.Equal(t, 1000, edge.CloseReply(nil))
	for b := range 256 {
		require.Equal(t, 1002, edge.CloseReply([]byte{byte(b)}))
	}
	sent := make(map[int]bool)
	for _, codes := range [][2]int{{1000, 1003}, {1007, 1014}, {3000, 4999}} {
		for code := codes[0]; code <= codes[1]; code++ {
			sent[code] = true
		}
	}
	for reason, valid := range map[string]bool{
		"": true, "why": true, "grüße": true, "\x00": true, strings.Repeat("x", 123): true, "\xff": false, "ab\xc3": false, "\xed\xa0\x80": false,
	} {
		for code := range 1 << 16 {
			want := 1002
			if sent[code] && valid {
				want = code
			} else if sent[code] {
				want = 1007
			}
			got := edge.CloseReply(append(binary.BigEndian.AppendUint16(nil, uint16(code)), reason...))
			if got != want {
				require.Equal(t, want, got, "%d %q", code, reason)
			}
		}
	}
}

func TestCloseBody(t *testing.T) {
	require.Equal(t, "\x03\xe8", string(edge.CloseBody(1000, "")))
	require.Equal(t, "\x03\xf1why", string(edge.CloseBody(1009, "why")))
	for n := range 140 {
		for _, char := range []string{"x", "ü", "€", "𝄞", "\xff"} {
			reason := strings.Repeat("x", n) + strings.Repeat(char, 40)
			body := edge.CloseBody(1000, reason)
			require.LessOrEqual(t, len(body), 125)
			require.True(t, utf8.Valid(body[2:]), "%q", body)
			if valid := strings.ToValidUTF8(reason, ""); char != "\xff" {
				require.Equal(t, valid[:len(body)-2], string(body[2:]))
				require.True(t, len(body) > 125-len(char) || len(body) == 2+len(valid))
			}
		}
	}
}

// A client sees the end at once, and what it sends meanwhile does not discard
// what it has not read yet.
func TestHangUp(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer listener.Close()
	hangUp := func(finished bool) time.Duration {
		client, err := net.Dial("tcp", listener.Addr().String())
		require.NoError(t, err)
		server, err := listener.Accept()
		require.NoError(t, err)
		_, err = client.Write(make([]byte, 100_000))
		require.NoError(t, err)
		_, err = server.Write([]byte("bye"))
		require.NoError(t, err)
		done := make(chan struct{})
		began := time.Now()
		go func() {
			defer close(done)
			in := edge.NewFrames(server, edge.FrameLimits{})
			edge.HangUp(server, &in, finished)
		}()
		require.NoError(t, client.SetReadDeadline(time.Now().Add(20*time.Second)))
		text, err := io.ReadAll(client)
		require.NoError(t, err)
		require.Equal(t, "bye", string(text))
		client.Close()
		<-done
		return time.Since(began)
	}
	for _, finished := range []bool{false, true} {
		took := hangUp(finished)
		for range 4 { // a busy machine may need several attempts
			took = min(took, hangUp(finished))
		}
		require.Less(t, took, edge.CloseTimeout)
	}
	// A connection that cannot be closed in one direction is closed at once if
	// nothing more is expected.
	mine, theirs := net.Pipe()
	in := edge.NewFrames(mine, edge.FrameLimits{})
	edge.HangUp(mine, &in, true)
	_, err = theirs.Read(make([]byte, 1))
	require.EqualError(t, err, "EOF")
}
