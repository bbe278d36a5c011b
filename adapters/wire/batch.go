package wire

import (
	"io"
	"net"
	"sync"
	"time"
)

// Conn is what a session writes to. Its methods may be called at once; Close
// ends a Write under way, and what waits for the client.
type Conn interface {
	io.WriteCloser
	SetReadDeadline(time.Time) error
	SetWriteDeadline(time.Time) error
}

// Framing is how messages go over a wire. It is shared by sessions and has no
// state.
type Framing interface {
	// Streams reports whether the wire goes from the server to the client only, so
	// that messages from the client come beside it.
	Streams() bool
	// Message appends a message to a batch and, where the message moves it, the
	// position that a client can go on from, which is nil otherwise.
	Message(b *Batch, payload []byte, at Position)
	// Ping appends a request for a sign of life that the client's own code need
	// not answer, if there is such a thing.
	Ping(b *Batch)
	// Close appends why the session is over.
	Close(b *Batch, status Status, reason string)
}

// Batch is what goes out in one call of the system.
type Batch struct {
	buf  []byte
	long []long
	size int
}

// long is something too long to be copied, and where in the buffer it belongs.
type long struct {
	at   int
	data []byte
}

const (
	// copyLimit is up to which size something is copied into a batch.
	copyLimit = 4096
	// keepLimit is up to which size a buffer is kept for the next batch.
	keepLimit = 64 << 10
)

// batches are for what is going out; idle sessions have none.
var batches = sync.Pool{New: func() any { return new(Batch) }}

// free gives a batch back.
func (b *Batch) free() {
	if cap(b.buf) > keepLimit {
		b.buf = nil
	}
	clear(b.long)
	b.buf, b.long, b.size = b.buf[:0], b.long[:0], 0
	batches.Put(b)
}

// Write appends p, which must not be changed any more. It never fails.
func (b *Batch) Write(p []byte) (int, error) {
	if len(p) > copyLimit {
		b.long = append(b.long, long{len(b.buf), p})
	} else {
		b.buf = append(b.buf, p...)
	}
	b.size += len(p)
	return len(p), nil
}

// WriteString appends a string. It never fails.
func (b *Batch) WriteString(s string) (int, error) {
	b.buf = append(b.buf, s...)
	b.size += len(s)
	return len(s), nil
}

// Len returns how many bytes there are.
func (b *Batch) Len() int { return b.size }

// WriteTo writes the batch, in one call where the writer is a network
// connection.
func (b *Batch) WriteTo(w io.Writer) (int64, error) {
	if len(b.long) == 0 {
		n, err := w.Write(b.buf)
		return int64(n), err
	}
	var parts net.Buffers
	from := 0
	for _, l := range b.long {
		parts = append(parts, b.buf[from:l.at], l.data)
		from = l.at
	}
	parts = append(parts, b.buf[from:])
	return parts.WriteTo(w)
}
