package edge

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"slices"
	"unicode/utf8"
)

// Opcode is the kind of a frame of a WebSocket.
type Opcode byte

// The kinds of frames. Every other one is reserved.
const (
	OpContinuation Opcode = 0x0
	OpText         Opcode = 0x1
	OpBinary       Opcode = 0x2
	OpClose        Opcode = 0x8
	OpPing         Opcode = 0x9
	OpPong         Opcode = 0xa
)

// The statuses of close frames that this package decides.
const (
	StatusNormal   = 1000
	StatusProtocol = 1002 // a violation of RFC 6455
	StatusText     = 1007 // text that is not UTF-8
	StatusTooBig   = 1009
)

// Violation is input that ends a WebSocket: close it with the status and the
// text, and read no further frame.
type Violation struct {
	Status int
	Text   string
}

func (v *Violation) Error() string { return v.Text }

func violation(text string) *Violation { return &Violation{StatusProtocol, text} }

var errNotUTF8 = &Violation{StatusText, "invalid text: it is not UTF-8"}

// maxControl is the longest payload of a control frame, in bytes.
const maxControl = 125

// FrameLimits are the limits of the messages of a client.
type FrameLimits struct {
	// Message is the longest message that is kept, in bytes.
	Message int
	// Skip is how many bytes of a message that is not kept are skipped. A longer
	// one is a violation. 0 means that every message that is not kept is one.
	Skip int
	// Parts is the number of frames that a message may have, with the control
	// frames between them. More are a violation. 0 means no limit.
	Parts int
	// TextOnly skips binary messages.
	TextOnly bool
}

// Arrival is what a frame brought.
type Arrival uint8

// The arrivals.
const (
	ArrivedPart     Arrival = iota // part of a message
	ArrivedMessage                 // the end of a text message
	ArrivedBinary                  // the end of a binary message
	ArrivedTooLarge                // the end of a message that was too long and skipped
	ArrivedClose                   // no frame follows
	ArrivedPing
	ArrivedPong
)

// Frames reads the frames of a client by RFC 6455. Between two messages it has
// a buffer of 128 bytes and nothing else. It is not safe for concurrent use.
type Frames struct {
	in     *bufio.Reader
	limits FrameLimits

	// Of the incoming message.
	partial bool // a frame of it is missing
	op      Opcode
	parts   int
	skipped int64
	text    text
}

// readBuffer is the size of a read buffer. A heartbeat of every protocol fits
// into it, so that one system call reads it.
const readBuffer = 128

// NewFrames returns a reader of the frames that arrive on r.
func NewFrames(r io.Reader, limits FrameLimits) Frames {
	return Frames{in: bufio.NewReaderSize(r, readBuffer), limits: limits}
}

// Wait blocks until a byte can be read.
func (f *Frames) Wait() error {
	_, err := f.in.Peek(1)
	return err
}

// Waiting reports whether bytes have been read that belong to no frame yet.
func (f *Frames) Waiting() bool { return f.in.Buffered() > 0 }

// Partial reports whether the rest of a message is missing.
func (f *Frames) Partial() bool { return f.partial }

// Whole passes a short text message to take, if all of it has arrived and take
// accepts it. Otherwise it returns false, and Next reads the message. take must
// accept ASCII only, since Whole does not check the text.
func (f *Frames) Whole(take func([]byte) bool) bool {
	const fin, masked, head = 0x80, 0x80, 6
	b, _ := f.in.Peek(f.in.Buffered())
	if len(b) < head || b[0] != fin|byte(OpText) || b[1] < masked || f.partial {
		return false
	}
	end := head + int(b[1]-masked)
	if end > head+maxControl || end > len(b) { // a larger number is not a length
		return false
	}
	key, payload := [4]byte(b[2:head]), b[head:end]
	mask(payload, key, 0)
	if !take(payload) {
		mask(payload, key, 0)
		return false
	}
	_, _ = f.in.Discard(end)
	return true
}

// Next reads one frame. It appends the parts of a message to buf, which the
// caller passes again until the message is whole. It returns the payload of a
// control frame as control. An error is a [Violation] or that of the reader;
// after it nothing more can be read.
func (f *Frames) Next(buf []byte) (a Arrival, message, control []byte, err error) {
	h, err := f.header()
	if err != nil {
		return 0, buf, nil, err
	}
	if h.op >= OpClose {
		control = make([]byte, h.length)
		if _, err := io.ReadFull(f.in, control); err != nil {
			return 0, buf, nil, err
		}
		mask(control, h.mask, 0)
		return ArrivedClose + Arrival(h.op-OpClose), buf, control, nil
	}
	if h.op != OpContinuation {
		f.op, f.skipped, f.text = h.op, 0, text{}
		buf = buf[:0]
	}
	if buf, err = f.payload(h, buf); err != nil {
		return 0, buf, nil, err
	}
	if f.partial = !h.fin; f.partial {
		return ArrivedPart, buf, nil, nil
	}
	f.parts = 0
	switch {
	case f.op == OpText && !f.text.whole():
		return 0, buf, nil, errNotUTF8
	case f.op == OpBinary:
		return ArrivedBinary, buf, nil, nil
	case f.skipped > 0:
		return ArrivedTooLarge, buf, nil, nil
	}
	return ArrivedMessage, buf, nil, nil
}

// AwaitClose reads what a client sends that was sent a close frame, and ignores
// it. It returns nil once the client's close frame has arrived.
func (f *Frames) AwaitClose() error {
	f.limits = FrameLimits{Message: -1, Skip: maxAwaited}
	for {
		if a, _, _, err := f.Next(nil); a == ArrivedClose || err != nil {
			return err
		}
	}
}

// maxAwaited is how many bytes of a message are skipped before a close frame.
const maxAwaited = 1 << 20

// header is the head of a frame.
type header struct {
	fin    bool
	op     Opcode
	length int64
	mask   [4]byte
}

// header reads and checks the head of the next frame.
func (f *Frames) header() (h header, err error) {
	b, err := f.in.Peek(2)
	if err != nil {
		return h, err
	}
	h.fin, h.op, h.length = b[0]&0x80 != 0, Opcode(b[0]&0x0f), int64(b[1]&0x7f)
	if f.partial {
		f.parts++
	}
	if wrong := f.check(h, b); wrong != nil { // before the rest of the head has arrived
		return h, wrong
	}
	size := 2 + 4
	switch h.length {
	case 126:
		size += 2
	case 127:
		size += 8
	}
	if b, err = f.in.Peek(size); err != nil {
		return h, err
	}
	least := int64(0)
	switch h.length {
	case 126:
		h.length, least = int64(binary.BigEndian.Uint16(b[2:])), 126
	case 127:
		h.length, least = int64(binary.BigEndian.Uint64(b[2:])), 1<<16
	}
	if h.length < least { // a negative one has the highest bit set
		return h, violation("invalid frame: its length is not the shortest form of 63 bits")
	}
	copy(h.mask[:], b[size-4:])
	_, _ = f.in.Discard(size)
	return h, nil
}

// check returns what is wrong with the first two bytes of a frame.
func (f *Frames) check(h header, b []byte) *Violation {
	control := h.op >= OpClose
	switch {
	case b[0]&0x70 != 0:
		return violation("invalid frame: reserved bits are set")
	case h.op > OpPong || h.op > OpBinary && !control:
		return violation(fmt.Sprintf("invalid frame: opcode %d is reserved", h.op))
	case b[1]&0x80 == 0:
		return violation("invalid frame: it is not masked")
	case control && !h.fin:
		return violation("invalid control frame: it is in parts")
	case control && h.length > maxControl:
		return violation("invalid control frame: it is longer than 125 bytes")
	case !control && f.partial && h.op != OpContinuation:
		return violation("invalid frame: the message before it is not complete")
	case !f.partial && h.op == OpContinuation:
		return violation("invalid frame: it continues no message")
	case f.limits.Parts > 0 && f.parts >= f.limits.Parts:
		return f.tooBig()
	}
	return nil
}

func (f *Frames) tooBig() *Violation {
	if f.limits.Parts > 0 {
		return &Violation{StatusTooBig, fmt.Sprintf("limit message: it may have %d bytes, in %d frames", f.limits.Message, f.limits.Parts)}
	}
	return &Violation{StatusTooBig, fmt.Sprintf("limit message: it may have %d bytes", f.limits.Message)}
}

// growth is how many bytes a buffer grows by at least, so that memory is taken
// for what has arrived and not for what a head announces.
const growth = 512

// payload appends the payload of a data frame to buf, or skips it. Text that is
// not UTF-8 is a violation at its first wrong byte, whether it is kept or not.
func (f *Frames) payload(h header, buf []byte) ([]byte, error) {
	keep := f.skipped == 0 && !(f.limits.TextOnly && f.op == OpBinary) && h.length <= int64(f.limits.Message-len(buf))
	if !keep {
		if h.length > int64(f.limits.Skip)-f.skipped {
			return buf, f.tooBig()
		}
		// An empty part counts as one byte. Otherwise empty parts would hide
		// that the message is too long.
		f.skipped += max(h.length, 1)
		buf = buf[:0]
	}
	for at := int64(0); at < h.length; {
		if free := cap(buf) - len(buf); free < growth && int64(free) < h.length-at {
			buf = slices.Grow(buf, int(min(h.length-at, growth)))
		}
		part := buf[len(buf):cap(buf)]
		n, err := f.in.Read(part[:min(int64(len(part)), h.length-at)])
		part = part[:n]
		mask(part, h.mask, int(at%4))
		if f.op == OpText && !f.text.add(part) {
			return buf, errNotUTF8
		}
		if at += int64(n); keep {
			buf = buf[:len(buf)+n]
		}
		if err != nil {
			return buf, err
		}
	}
	return buf, nil
}

// text checks whether text that arrives in pieces is UTF-8.
type text struct {
	rest [utf8.UTFMax]byte // the beginning of a character
	n    int
}

// add returns false if no text that begins with the pieces so far is UTF-8.
func (t *text) add(p []byte) bool {
	for t.n > 0 && len(p) > 0 {
		t.rest[t.n], p = p[0], p[1:]
		if t.n++; !utf8.FullRune(t.rest[:t.n]) {
			continue
		}
		if !utf8.Valid(t.rest[:t.n]) {
			return false
		}
		t.n = 0
	}
	end := len(p)
	for i := end - 1; i >= max(end-utf8.UTFMax, 0); i-- {
		if utf8.RuneStart(p[i]) {
			if !utf8.FullRune(p[i:]) {
				t.n, end = copy(t.rest[:], p[i:]), i
			}
			break
		}
	}
	return utf8.Valid(p[:end])
}

// whole reports whether the text does not end within a character.
func (t *text) whole() bool { return t.n == 0 }

// mask applies the mask of a frame to a piece of its payload, which begins at
// an offset. Applied twice it changes nothing.
func mask(p []byte, key [4]byte, at int) {
	key = [4]byte{key[at&3], key[(at+1)&3], key[(at+2)&3], key[(at+3)&3]}
	word := uint64(binary.LittleEndian.Uint32(key[:]))
	word |= word << 32
	for ; len(p) >= 8; p = p[8:] {
		binary.LittleEndian.PutUint64(p, binary.LittleEndian.Uint64(p)^word)
	}
	for i := range p {
		p[i] ^= key[i&3]
	}
}

// AppendHead appends the head of a frame of the server whose payload has n
// bytes.
func AppendHead(b []byte, op Opcode, n int) []byte {
	const fin = 0x80
	b = append(b, fin|byte(op))
	switch {
	case n < 126:
		return append(b, byte(n))
	case n < 1<<16:
		return binary.BigEndian.AppendUint16(append(b, 126), uint16(n))
	}
	return binary.BigEndian.AppendUint64(append(b, 127), uint64(n))
}

// Frame returns a frame of the server.
func Frame(op Opcode, payload []byte) []byte {
	return append(AppendHead(make([]byte, 0, 10+len(payload)), op, len(payload)), payload...)
}
