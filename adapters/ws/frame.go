package ws

import (
	"bufio"
	"encoding/binary"
	"errors"
	"io"

	gobwas "github.com/gobwas/ws"

	"github.com/presence-go/presence/adapters/wire"
)

// readBuffer is the size of an idle socket's read buffer. A heartbeat fits into
// it, so that one system call reads it.
const readBuffer = 128

// maxOversize is how many times the longest message a socket skips of a message
// that is too long. A longer one closes the socket.
const maxOversize = 16

// arrival is what a frame brought.
type arrival uint8

const (
	arrivedNothing  arrival = iota // nothing to handle: part of a message, or a pong
	arrivedMessage                 // a whole text message
	arrivedBinary                  // a whole binary message, skipped
	arrivedTooLarge                // a whole message that was too long, skipped
	arrivedPing
	arrivedClose
)

// errTooLarge means that a message was too long to be skipped.
var errTooLarge = errors.New("ws: message too long to be skipped")

// reader reads messages from frames. It holds at most max bytes of a message
// and skips longer messages.
type reader struct {
	in     *bufio.Reader
	max    int
	header [gobwas.MaxHeaderSize]byte

	state   gobwas.State
	op      gobwas.OpCode // of the incoming message
	held    int           // bytes of the message kept
	skipped int64         // bytes of the message skipped
}

func newReader(r io.Reader, max int) reader {
	return reader{in: bufio.NewReaderSize(r, readBuffer), max: max, state: gobwas.StateServerSide}
}

// wait blocks until a byte can be read.
func (r *reader) wait() error {
	_, err := r.in.Peek(1)
	return err
}

// whole passes a short text message to take, if all of it has arrived and take
// accepts it. Otherwise it returns false, and the message can still be read.
func (r *reader) whole(take func([]byte) bool) bool {
	const fin, masked, head = 0x80, 0x80, 6
	b, _ := r.in.Peek(r.in.Buffered())
	if len(b) < head || b[0] != fin|byte(gobwas.OpText) || b[1] < masked || r.partial() {
		return false
	}
	end := head + int(b[1]-masked)
	if end > head+125 || end > len(b) {
		return false
	}
	mask, payload := [4]byte(b[2:head]), b[head:end]
	gobwas.Cipher(payload, mask, 0)
	if !take(payload) {
		gobwas.Cipher(payload, mask, 0)
		return false
	}
	_, _ = r.in.Discard(end)
	return true
}

// partial reports whether the rest of a message is missing.
func (r *reader) partial() bool { return r.state.Fragmented() }

// next reads one frame. It appends the parts of a message to buf, which the
// caller passes again until the message is whole. It returns the payload of a
// ping or close frame as control. After an error nothing more can be read.
func (r *reader) next(buf []byte) (a arrival, message, control []byte, err error) {
	h, err := gobwas.ReadHeaderBuffer(r.in, r.header[:0])
	if err != nil {
		return 0, buf, nil, err
	}
	if err := gobwas.CheckHeader(h, r.state); err != nil {
		return 0, buf, nil, err
	}
	if h.OpCode.IsControl() {
		control := make([]byte, h.Length)
		if _, err := io.ReadFull(r.in, control); err != nil {
			return 0, buf, nil, err
		}
		gobwas.Cipher(control, h.Mask, 0)
		switch h.OpCode {
		case gobwas.OpPing:
			a = arrivedPing
		case gobwas.OpClose:
			a = arrivedClose
		}
		return a, buf, control, nil
	}
	if h.OpCode != gobwas.OpContinuation {
		r.op, r.held, r.skipped = h.OpCode, 0, 0
		buf = buf[:0]
	}
	if r.op == gobwas.OpText && r.skipped == 0 && h.Length <= int64(r.max-r.held) {
		buf = append(buf, make([]byte, h.Length)...)
		part := buf[r.held:]
		if _, err := io.ReadFull(r.in, part); err != nil {
			return 0, buf, nil, err
		}
		gobwas.Cipher(part, h.Mask, 0)
		r.held = len(buf)
	} else {
		if h.Length > int64(maxOversize*r.max)-r.skipped {
			return 0, buf, nil, errTooLarge
		}
		// An empty part counts as one byte. Otherwise empty parts would hide
		// that the message is too long.
		r.skipped += max(h.Length, 1)
		if _, err := io.CopyN(io.Discard, r.in, h.Length); err != nil {
			return 0, buf, nil, err
		}
	}
	if !h.Fin {
		r.state = r.state.Set(gobwas.StateFragmented)
		return arrivedNothing, buf, nil, nil
	}
	r.state = r.state.Clear(gobwas.StateFragmented)
	switch {
	case r.op == gobwas.OpBinary:
		return arrivedBinary, buf, nil, nil
	case r.skipped > 0:
		return arrivedTooLarge, buf, nil, nil
	default:
		return arrivedMessage, buf, nil, nil
	}
}

// framing encodes messages as frames of a WebSocket.
type framing struct{}

func (framing) Streams() bool { return false }

func (framing) Message(b *wire.Batch, payload []byte, _ wire.Position) {
	appendFrame(b, gobwas.OpText, payload)
}

func (framing) Ping(b *wire.Batch) { appendFrame(b, gobwas.OpPing, nil) }

func (framing) Close(b *wire.Batch, status wire.Status, reason string) {
	appendFrame(b, gobwas.OpClose, gobwas.NewCloseFrameBody(gobwas.StatusCode(status), reason))
}

// appendFrame appends one frame from the server to a batch.
func appendFrame(b *wire.Batch, op gobwas.OpCode, payload []byte) {
	const fin = 0x80
	var head [10]byte
	head[0] = fin | byte(op)
	n := 2
	switch length := len(payload); {
	case length < 126:
		head[1] = byte(length)
	case length < 1<<16:
		head[1] = 126
		binary.BigEndian.PutUint16(head[2:], uint16(length))
		n = 4
	default:
		head[1] = 127
		binary.BigEndian.PutUint64(head[2:], uint64(length))
		n = 10
	}
	b.Append(head[:n])
	_, _ = b.Write(payload)
}
