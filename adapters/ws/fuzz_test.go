package ws

import (
	"bytes"
	"io"
	"strings"
	"testing"

	gobwas "github.com/gobwas/ws"
	"github.com/stretchr/testify/require"
)

// FuzzReader passes arbitrary bytes to the reader. The reader keeps no more of
// a message than it may, and reads no further than its input.
func FuzzReader(f *testing.F) {
	wire := func(frames ...gobwas.Frame) []byte {
		var b bytes.Buffer
		for _, frame := range frames {
			gobwas.WriteFrame(&b, gobwas.MaskFrameWith(frame, [4]byte{1, 2, 3, 4}))
		}
		return b.Bytes()
	}
	for _, text := range []string{
		`{"type":"hello","v":1,"conn":"c","login":true,"device":"web","idle":12.5,"visible":true}`,
		`{"type":"pong","seq":18446744073709551615,"idle":-1}`,
		`{"type":"claim","ref":"1","status":"busy","for":1e308,"reason":"\u0000","text":"\ud800"}`,
		`{"type":"watch","channel":{}}`, `[[[[`, `null{}`, ``, "\xff",
	} {
		f.Add(wire(gobwas.NewTextFrame([]byte(text))))
	}
	f.Add(wire(
		gobwas.NewFrame(gobwas.OpText, false, []byte(`{"type":`)), gobwas.NewPingFrame([]byte("x")),
		gobwas.NewFrame(gobwas.OpContinuation, false, nil), gobwas.NewFrame(gobwas.OpContinuation, true, []byte(`"input"}`)),
		gobwas.NewCloseFrame(gobwas.NewCloseFrameBody(gobwas.StatusGoingAway, "bye")),
	))
	f.Add(wire(gobwas.NewBinaryFrame(bytes.Repeat([]byte("x"), 300)), gobwas.NewTextFrame([]byte(strings.Repeat("y", 300)))))
	f.Add([]byte("\x81\xff\x00\xff\xff\xff\xff\xff\xff\xff\x00\x00\x00\x00"))

	const limit = 256
	f.Fuzz(func(t *testing.T, data []byte) {
		r := newReader(bytes.NewReader(data), limit)
		buf := make([]byte, 0, limit)
		for range len(data) + 1 {
			a, message, control, err := r.next(buf)
			require.LessOrEqual(t, cap(message), 2*limit)
			require.LessOrEqual(t, len(control), gobwas.MaxControlFramePayloadSize)
			if err != nil {
				return
			}
			if buf = message; a != arrivedMessage {
				continue
			}
			require.False(t, r.partial())
			require.LessOrEqual(t, len(message), limit)
		}
		require.Fail(t, "read more frames than there are bytes")
	})
}

func TestReaderIgnoresHowBytesArrive(t *testing.T) {
	want := strings.Repeat("0123456789", 40)
	var wire bytes.Buffer
	for _, part := range []gobwas.Frame{
		gobwas.NewFrame(gobwas.OpText, false, []byte(want[:1])),
		gobwas.NewPingFrame([]byte("between")),
		gobwas.NewFrame(gobwas.OpContinuation, false, []byte(want[1:200])),
		gobwas.NewFrame(gobwas.OpContinuation, true, []byte(want[200:])),
	} {
		gobwas.WriteFrame(&wire, gobwas.MaskFrame(part))
	}
	for _, from := range []io.Reader{bytes.NewReader(wire.Bytes()), oneByOne{bytes.NewReader(wire.Bytes())}} {
		r := newReader(from, len(want))
		var buf []byte
		for _, expect := range []arrival{arrivedNothing, arrivedPing, arrivedNothing, arrivedMessage} {
			require.NoError(t, r.wait())
			a, message, control, err := r.next(buf)
			require.NoError(t, err)
			require.Equal(t, expect, a)
			require.Equal(t, a == arrivedPing, string(control) == "between")
			buf = message
		}
		require.Equal(t, want, string(buf))
		require.ErrorIs(t, r.wait(), io.EOF)
	}
}

// oneByOne is a reader that returns one byte at a time.
type oneByOne struct{ r io.Reader }

func (o oneByOne) Read(p []byte) (int, error) { return o.r.Read(p[:min(len(p), 1)]) }
