package ws

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net"

	gobwas "github.com/gobwas/ws"
)

// readBuffer is what a socket keeps for reading while it is idle: enough for a
// heartbeat to arrive in one call of the system.
const readBuffer = 128

// arrival says what a frame brought.
type arrival uint8

const (
	arrivedNothing  arrival = iota // to be dealt with: part of a message, an answer to a ping
	arrivedMessage                 // a whole text message
	arrivedBinary                  // a whole binary message, thrown away
	arrivedTooLarge                // a whole message that was too long, thrown away
	arrivedPing
	arrivedClose
)

// errTooLarge says that a message was so long that the socket is better closed.
var errTooLarge = errors.New("ws: message too long to be skipped")

// reader takes messages apart that come in frames, within bounds: it holds at
// most max bytes of a message and skips those that are longer.
type reader struct {
	in     *bufio.Reader
	max    int
	header [gobwas.MaxHeaderSize]byte

	state   gobwas.State
	op      gobwas.OpCode // of the message that is coming in
	held    int           // bytes of it kept
	skipped int64         // bytes of it thrown away
}

func newReader(r io.Reader, max int) reader {
	return reader{in: bufio.NewReaderSize(r, readBuffer), max: max, state: gobwas.StateServerSide}
}

// wait blocks until there is something to read.
func (r *reader) wait() error {
	_, err := r.in.Peek(1)
	return err
}

// partial reports whether more of a message is to come.
func (r *reader) partial() bool { return r.state.Fragmented() }

// next reads one frame. The parts of a message are appended to buf, which the
// caller hands back until the message is whole; what a ping or close frame
// carries comes by itself. After an error nothing more can be read.
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
		// Empty parts count, so that they cannot hide that this was too long.
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

// copyLimit is up to which size a payload is copied behind its header, so that
// both go out in one record and one call of the system.
const copyLimit = 4096

// writeFrame writes one frame from the server, using buf for the header.
func writeFrame(w io.Writer, buf *bytes.Buffer, op gobwas.OpCode, payload []byte) error {
	buf.Reset()
	header := gobwas.Header{Fin: true, OpCode: op, Length: int64(len(payload))}
	if err := gobwas.WriteHeader(buf, header); err != nil {
		return err
	}
	if len(payload) <= copyLimit {
		buf.Write(payload)
		_, err := w.Write(buf.Bytes())
		return err
	}
	parts := net.Buffers{buf.Bytes(), payload}
	_, err := parts.WriteTo(w)
	return err
}
