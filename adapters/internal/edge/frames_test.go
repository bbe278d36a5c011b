package edge_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/iotest"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/presence-go/presence/adapters/internal/edge"
)

// reference reads frames from a whole input, by the text of RFC 6455 and of
// FrameLimits. It returns one line for each frame that carries something, and
// last the violation or "more" if the input ends before one.
func reference(data []byte, limits edge.FrameLimits) (lines []string) {
	var message []byte
	var op byte
	open, parts, skipped := false, 0, 0
	fail := func(status int) []string { return append(lines, fmt.Sprint("violation ", status)) }
	for {
		if len(data) < 2 {
			return append(lines, "more")
		}
		if open {
			parts++
		}
		first, second := data[0], data[1]
		kind, length := first&15, uint64(second&127)
		known := kind <= 2 || kind >= 8 && kind <= 10
		if first&0x70 != 0 || !known || second < 128 || kind >= 8 && (first < 128 || length > 125) || kind < 8 && open != (kind == 0) {
			return fail(1002)
		}
		if limits.Parts > 0 && parts >= limits.Parts {
			return fail(1009)
		}
		wide := map[uint64]int{126: 2, 127: 8}[length]
		if len(data) < 2+wide+4 {
			return append(lines, "more")
		}
		if wide > 0 {
			length = 0
			for _, b := range data[2 : 2+wide] {
				length = length<<8 | uint64(b)
			}
			if length < 126 || wide == 8 && length < 65536 || length > 1<<63-1 {
				return fail(1002)
			}
		}
		key, rest := data[2+wide:6+wide], data[6+wide:]
		payload := make([]byte, min(length, uint64(len(rest))))
		for i := range payload {
			payload[i] = rest[i] ^ key[i%4]
		}
		whole := uint64(len(payload)) == length
		if kind >= 8 {
			if !whole {
				return append(lines, "more")
			}
			lines = append(lines, fmt.Sprintf("control %d %q", kind, payload))
			data = rest[length:]
			continue
		}
		if kind != 0 {
			op, message, skipped, parts = kind, nil, 0, 0
		}
		if refused := limits.TextOnly && op == 2; refused || skipped > 0 || length > uint64(limits.Message-len(message)) {
			if length > uint64(limits.Skip-skipped) {
				return fail(1009)
			}
			skipped += max(int(length), 1)
		}
		message = append(message, payload...)
		if op == 1 && !begins(message) {
			return fail(1007)
		}
		if !whole {
			return append(lines, "more")
		}
		if open = first < 128; !open {
			parts = 0
			switch {
			case op == 1 && !utf8.Valid(message):
				return fail(1007)
			case op == 2 && skipped > 0:
				lines = append(lines, "binary")
			case op == 2:
				lines = append(lines, fmt.Sprintf("binary %q", message))
			case skipped > 0:
				lines = append(lines, "too large")
			default:
				lines = append(lines, fmt.Sprintf("text %q", message))
			}
		}
		data = rest[length:]
	}
}

// begins reports whether some UTF-8 text begins with these bytes.
func begins(b []byte) bool {
	for _, end := range []string{
		"", "\x80", "\x90", "\xa0", "\x80\x80", "\x90\x80", "\xa0\x80", "\x80\x80\x80", "\x90\x80\x80",
	} {
		if utf8.ValidString(string(b) + end) {
			return true
		}
	}
	return false
}

// lines reads the same from the package.
func lines(r io.Reader, limits edge.FrameLimits, input int) (list []string, largest int) {
	f := edge.NewFrames(r, limits)
	var buf []byte
	for range input + 1 {
		if f.Whole(func(b []byte) bool { return false }) {
			return append(list, "Whole took what was refused"), 0
		}
		a, message, control, err := f.Next(buf)
		largest = max(largest, cap(message))
		if wrong, ok := errors.AsType[*edge.Violation](err); ok {
			return append(list, fmt.Sprint("violation ", wrong.Status)), largest
		}
		if err != nil {
			return append(list, "more"), largest
		}
		buf = message
		switch a {
		case edge.ArrivedClose, edge.ArrivedPing, edge.ArrivedPong:
			list = append(list, fmt.Sprintf("control %d %q", 8+a-edge.ArrivedClose, control))
		case edge.ArrivedBinary:
			if limits.TextOnly {
				list = append(list, "binary")
			} else {
				list = append(list, fmt.Sprintf("binary %q", message))
			}
		case edge.ArrivedTooLarge:
			list = append(list, "too large")
		case edge.ArrivedMessage:
			list = append(list, fmt.Sprintf("text %q", message))
		}
		if (a == edge.ArrivedPart) != f.Partial() && a < edge.ArrivedClose {
			return append(list, "Partial is wrong"), largest
		}
	}
	return append(list, "more frames than bytes"), largest
}

// appendFrame appends a frame of a client.
func appendFrame(b []byte, fin bool, op edge.Opcode, key [4]byte, payload []byte) []byte {
	head := edge.AppendHead(nil, op, len(payload))
	if !fin {
		head[0] &^= 0x80
	}
	head[1] |= 0x80
	b = append(append(b, head...), key[:]...)
	for i, c := range payload {
		b = append(b, c^key[i%4])
	}
	return b
}

var adapters = map[string]edge.FrameLimits{
	"ws":      {Message: 256, Skip: 1024, TextOnly: true},
	"phoenix": {Message: 256, Parts: 40},
	"pusher":  {Message: 256, Parts: 8},
}

// pieces are the texts that random messages consist of, in all lengths of
// characters, and some that no text has.
var pieces = []string{
	"a", "Hello", strings.Repeat("x", 60), "\x00", "µ", "ß", "€", "\u0800", "\ud7ff", "\ue000", "\uffff", "𝄞", "\U0010ffff", "",
}

var wrongPieces = []string{
	"\x80", "\xbf", "\xc0\x80", "\xc1\xbf", "\xe0\x80\xaf", "\xe0\x9f\xbf", "\xed\xa0\x80", "\xed\xbf\xbf", "\xf0\x80\x80\xaf", "\xf0\x8f\xbf\xbf",
	"\xf4\x90\x80\x80", "\xf5\x80\x80\x80", "\xf8\x88\x80\x80\x80", "\xfe", "\xff", "\xe2\x82", "\xf0\x9d\x84",
}

// history returns a random input: messages in random parts, control frames
// between them, and sometimes something that is not allowed.
func history(r *rand.Rand) (data []byte) {
	key := func() (k [4]byte) { binary.NativeEndian.PutUint32(k[:], r.Uint32()); return k }
	for range 1 + r.IntN(6) {
		var message []byte
		for range r.IntN(9) {
			message = append(message, pieces[r.IntN(len(pieces))]...)
		}
		if r.IntN(6) == 0 {
			message = append(message, wrongPieces[r.IntN(len(wrongPieces))]...)
			if r.IntN(2) == 0 {
				message = append(message, "after it"...)
			}
		}
		if r.IntN(10) == 0 {
			message = append(message, bytes.Repeat([]byte("long "), 20+r.IntN(200))...)
		}
		op := edge.OpText + edge.Opcode(r.IntN(5)/4)
		for first := true; ; first = false {
			if r.IntN(4) == 0 {
				control := message[:min(len(message), r.IntN(126))]
				data = appendFrame(data, true, edge.OpClose+edge.Opcode(r.IntN(3)), key(), control)
			}
			n := len(message)
			if r.IntN(3) > 0 {
				n = r.IntN(n + 1)
			}
			last := n == len(message) && r.IntN(4) > 0
			kind := op
			if !first {
				kind = edge.OpContinuation
			}
			start := len(data)
			data = appendFrame(data, last, kind, key(), message[:n])
			switch r.IntN(150) {
			case 0:
				data[start] ^= 1 << r.IntN(8)
			case 1:
				data[start+1] ^= 1 << r.IntN(8)
			case 2:
				data = append(data[:start], byte(0x80|kind), 0xfe, 0, byte(r.IntN(126)), 0, 0, 0, 0)
			case 3:
				data = append(data[:start], byte(0x80|kind), 0xff, byte(r.IntN(2)<<7), 0, 0, 0, 0, 0, byte(r.IntN(2)), 0)
			}
			if message = message[n:]; last {
				break
			}
		}
	}
	return data[:len(data)-r.IntN(2)*r.IntN(min(len(data), 8))]
}

// Random messages in random parts, which arrive in random pieces, are what the
// reference reads from them.
func TestFramesAgainstReference(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	counts := make(map[string]int)
	for name, limits := range adapters {
		r := rand.New(rand.NewPCG(seed, 1))
		for range 4000 {
			data := history(r)
			want := reference(data, limits)
			for _, from := range []io.Reader{bytes.NewReader(data), iotest.OneByteReader(bytes.NewReader(data)), iotest.HalfReader(bytes.NewReader(data))} {
				got, largest := lines(from, limits, len(data))
				require.Equal(t, want, got, "seed %d, %s, input %q", seed, name, data)
				require.LessOrEqual(t, largest, 1024, "bytes kept")
			}
			for _, line := range want {
				word, _, _ := strings.Cut(line, " \"")
				counts[word]++
			}
		}
	}
	t.Log(counts)
	for _, kind := range []string{
		"text", "binary", "too large", "control 8", "control 9", "control 10", "violation 1002", "violation 1007", "violation 1009", "more",
	} {
		require.Greater(t, counts[kind], 20, kind)
	}
}

// FuzzFrames compares the frames of any bytes with those of the reference.
func FuzzFrames(f *testing.F) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 40 {
		f.Add(history(r))
	}
	f.Add([]byte("\x81\xff\x00\xff\xff\xff\xff\xff\xff\xff\x00\x00\x00\x00"))
	f.Add([]byte("\x81\xfe\x00\x05\x00\x00\x00\x00hello"))
	f.Fuzz(func(t *testing.T, data []byte) {
		for name, limits := range adapters {
			want := reference(data, limits)
			for _, from := range []io.Reader{bytes.NewReader(data), iotest.OneByteReader(bytes.NewReader(data))} {
				got, largest := lines(from, limits, len(data))
				require.Equal(t, want, got, name)
				require.LessOrEqual(t, largest, 1024, "bytes kept")
			}
		}
	})
}

// A violation is found at its first byte: nothing more has to arrive.
func TestViolationsAreFoundAtOnce(t *testing.T) {
	for wire, status := range map[string]int{
		"\xc1\x80": 1002, "\x83\x80": 1002, "\x8b\x80": 1002, "\x81\x05": 1002, "\x09\x80": 1002, "\x89\xfe": 1002, "\x80\x80": 1002,
		"\x81\xfe\x00\x7d\x00\x00\x00\x00": 1002, "\x81\xff\x80\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00": 1002,
		"\x81\xfe\x01\x01\x00\x00\x00\x00":                         1009, // a byte too long
		"\x81\xff\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00": 1009,
		"\x81\x88\x00\x00\x00\x00ab\xf4\x90":                       1007, // beyond U+10FFFF
		"\x01\x82\x00\x00\x00\x00\xed\xa0":                         1007, // a surrogate
		"\x01\x81\x00\x00\x00\x00\xe2\x80\x81\x00\x00\x00\x00a":    1007,
	} {
		in, out := io.Pipe()
		go out.Write([]byte(wire)) // which is never closed
		f := edge.NewFrames(in, edge.FrameLimits{Message: 256})
		var buf []byte
		var err error
		for err == nil {
			_, buf, _, err = f.Next(buf)
		}
		wrong, ok := errors.AsType[*edge.Violation](err)
		require.True(t, ok, "%q: %v", wire, err)
		require.Equal(t, status, wrong.Status, "%q", wire)
	}
}

func TestAwaitClose(t *testing.T) {
	var data []byte
	data = appendFrame(data, false, edge.OpText, [4]byte{}, []byte("begun"))
	data = appendFrame(data, true, edge.OpPing, [4]byte{1}, []byte("x"))
	data = appendFrame(data, true, edge.OpContinuation, [4]byte{}, bytes.Repeat([]byte("long"), 10_000))
	data = appendFrame(data, true, edge.OpBinary, [4]byte{}, nil)
	for _, closed := range []bool{false, true} {
		if closed {
			data = appendFrame(data, true, edge.OpClose, [4]byte{}, nil)
		}
		f := edge.NewFrames(bytes.NewReader(data), edge.FrameLimits{Message: 16, Parts: 2})
		require.Equal(t, closed, f.AwaitClose() == nil)
	}
}

func TestWholeTakesShortText(t *testing.T) {
	data := appendFrame(nil, true, edge.OpText, [4]byte{1, 2, 3, 4}, []byte(`{"type":"pong"}`))
	f := edge.NewFrames(bytes.NewReader(data), edge.FrameLimits{Message: 16})
	require.False(t, f.Whole(func([]byte) bool { return true }), "nothing has been read")
	require.NoError(t, f.Wait())
	require.True(t, f.Waiting())
	require.False(t, f.Whole(func([]byte) bool { return false }))
	require.True(t, f.Whole(func(b []byte) bool { return string(b) == `{"type":"pong"}` }), "a refusal changed it")
	require.ErrorIs(t, f.Wait(), io.EOF)
	for name, wire := range map[string][]byte{
		"a ping":       appendFrame(nil, true, edge.OpPing, [4]byte{}, []byte("x")),
		"a part":       appendFrame(nil, false, edge.OpText, [4]byte{}, []byte("x")),
		"half a frame": data[:len(data)-1],
		"a longer one": appendFrame(nil, true, edge.OpText, [4]byte{}, bytes.Repeat([]byte("x"), 126)),
	} {
		f := edge.NewFrames(bytes.NewReader(wire), edge.FrameLimits{Message: 16})
		require.NoError(t, f.Wait())
		require.False(t, f.Whole(func([]byte) bool { return true }), name)
	}
}

func TestAppendHead(t *testing.T) {
	for n, want := range map[int]string{
		0: "\x81\x00", 125: "\x81\x7d", 126: "\x81\x7e\x00\x7e", 65535: "\x81\x7e\xff\xff", 65536: "\x81\x7f\x00\x00\x00\x00\x00\x01\x00\x00",
	} {
		require.Equal(t, want, string(edge.AppendHead(nil, edge.OpText, n)))
	}
	require.Equal(t, "\x8a\x02hi", string(edge.Frame(edge.OpPong, []byte("hi"))))
}
