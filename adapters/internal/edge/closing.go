package edge

import (
	"encoding/binary"
	"io"
	"net"
	"strings"
	"time"
	"unicode/utf8"
)

// CloseTimeout is how long a client may take to answer a close frame, and then
// to close the connection.
const CloseTimeout = time.Second

// CloseReply returns the status that answers the close frame of a client:
//
//	no payload                                                1000
//	one byte                                                  1002
//	a code outside of 1000-1003, 1007-1014 and 3000-4999      1002
//	a reason that is not UTF-8                                1007
//	otherwise                                                 the client's code
func CloseReply(payload []byte) int {
	switch len(payload) {
	case 0:
		return StatusNormal
	case 1:
		return StatusProtocol
	}
	code := int(binary.BigEndian.Uint16(payload))
	switch {
	case code < 1000, code > 1003 && code < 1007, code > 1014 && code < 3000, code > 4999:
		return StatusProtocol
	case !utf8.Valid(payload[2:]):
		return StatusText
	}
	return code
}

// CloseBody returns the payload of a close frame of the server. A reason that
// is too long is cut between two characters.
func CloseBody(status int, reason string) []byte {
	reason = strings.ToValidUTF8(reason, "")
	for end := maxControl - 2; len(reason) > maxControl-2; end-- {
		if utf8.RuneStart(reason[end]) {
			reason = reason[:end]
		}
	}
	return append(binary.BigEndian.AppendUint16(nil, uint16(status)), reason...)
}

// HangUp closes a connection on which a close frame was sent and, unless the
// client violated the protocol, one has arrived. The client sees the end at
// once (RFC 6455, 7.1.1). What it still sends is read for up to CloseTimeout:
// closing a connection with input unread resets it, and a reset can discard the
// close frame before the client reads it. rest may be nil if no frame was read.
// finished means that the client's close frame has arrived, after which a client
// sends nothing.
func HangUp(conn net.Conn, rest *Frames, finished bool) {
	defer conn.Close()
	if half, ok := conn.(interface{ CloseWrite() error }); ok {
		if half.CloseWrite() != nil {
			return
		}
	} else if finished {
		return
	}
	in := io.Reader(conn)
	if rest != nil {
		in = rest.in
	}
	_ = conn.SetReadDeadline(time.Now().Add(CloseTimeout))
	_, _ = io.Copy(io.Discard, in)
}
