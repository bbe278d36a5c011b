// Package fleet has the clients that bench and presencectl load connect to a
// server. It has the frames and the handshake of WebSockets, and two ways to drive
// many of them. It also has the server as a child process, a meter of its CPU and
// memory, and histograms of durations.
//
// [Epoll] drives all clients in one thread, so that a server never waits for its
// clients. It needs Linux. [Conn] is one client for a goroutine of its own, with
// TLS, and reaches any server.
package fleet

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
)

// The opcodes of frames.
const (
	OpContinue = 0
	OpText     = 1
	OpBinary   = 2
	OpClose    = 8
	OpPing     = 9
	OpPong     = 10
)

// The status codes of close frames in use here.
const (
	CloseNormal    = 1000
	CloseGoingAway = 1001
	CloseNone      = 1005 // the frame has no code
)

// header is the head of a frame that a server sent.
type header struct {
	op     byte
	fin    bool
	length int
	size   int // of the header; 0 if it has not arrived as a whole
}

// isControl reports whether the frame is a close, a ping or a pong.
func (h header) isControl() bool { return h.op&8 != 0 }

// parseHeader reads the header of a frame. It refuses a frame that no server may
// send.
func parseHeader(data []byte) (h header, err error) {
	if len(data) < 2 {
		return h, nil
	}
	h = header{op: data[0] & 15, fin: data[0]&0x80 != 0, length: int(data[1] & 0x7f), size: 2}
	switch {
	case data[0]&0x70 != 0:
		return h, errors.New("a frame has reserved bits set")
	case data[1]&0x80 != 0:
		return h, errors.New("a frame of the server is masked")
	case h.op > OpBinary && h.op < OpClose || h.op > OpPong:
		return h, fmt.Errorf("a frame has the unknown opcode %d", h.op)
	case h.isControl() && (!h.fin || h.length > 125):
		return h, errors.New("a control frame is fragmented or longer than 125 bytes")
	}
	switch h.length {
	case 126:
		h.size = 4
	case 127:
		h.size = 10
	}
	if len(data) < h.size {
		return header{}, nil
	}
	switch h.length {
	case 126:
		h.length = int(binary.BigEndian.Uint16(data[2:]))
	case 127:
		long := binary.BigEndian.Uint64(data[2:])
		if long > 1<<48 {
			return h, fmt.Errorf("a frame claims to be %d bytes long", long)
		}
		h.length = int(long)
	}
	return h, nil
}

// AppendServer appends a whole frame as servers send it.
func AppendServer[T []byte | string](b []byte, op byte, payload T) []byte {
	return append(appendHead(b, op, len(payload), 0), payload...)
}

// mask is the mask of all client frames. It need not be secret, since no script of
// a stranger chooses the bytes sent here.
var mask = [4]byte{0x1f, 0x2e, 0x3d, 0x4c}

// AppendClient appends a whole frame as clients send it.
func AppendClient[T []byte | string](b []byte, op byte, payload T) []byte {
	b = append(appendHead(b, op, len(payload), 0x80), mask[:]...)
	for i := range len(payload) {
		b = append(b, payload[i]^mask[i&3])
	}
	return b
}

func appendHead(b []byte, op byte, length int, masked byte) []byte {
	b = append(b, 0x80|op)
	switch {
	case length < 126:
		return append(b, masked|byte(length))
	case length < 1<<16:
		return binary.BigEndian.AppendUint16(append(b, masked|126), uint16(length))
	default:
		return binary.BigEndian.AppendUint64(append(b, masked|127), uint64(length))
	}
}

// ClosedError is the close frame with which a server ended a session.
type ClosedError struct {
	Code   int
	Reason string
}

func (e *ClosedError) Error() string {
	return strings.TrimSpace(fmt.Sprintf("%d %s", e.Code, e.Reason))
}

// parseClose reads the payload of a close frame.
func parseClose(payload []byte) *ClosedError {
	if len(payload) < 2 {
		return &ClosedError{Code: CloseNone}
	}
	return &ClosedError{int(binary.BigEndian.Uint16(payload)), string(payload[2:])}
}

// closePayload is the payload of a close frame without a reason.
func closePayload(code int) []byte { return binary.BigEndian.AppendUint16(nil, uint16(code)) }
