package wire

import (
	"cmp"
	"io"
	"net"
	"sync"
	"syscall"
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

	try  func(fd uintptr) // is tryFD, made once
	took int              // what it wrote
	err  error
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
var batches = sync.Pool{New: func() any {
	b := new(Batch)
	b.try = b.tryFD
	return b
}}

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

// Append appends a copy of p.
func (b *Batch) Append(p []byte) {
	b.buf = append(b.buf, p...)
	b.size += len(p)
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
func (b *Batch) WriteTo(w io.Writer) (int64, error) { return b.writeRest(w, 0) }

// writeRest writes what follows the first bytes.
func (b *Batch) writeRest(w io.Writer, from int) (int64, error) {
	if len(b.long) == 0 {
		n, err := w.Write(b.buf[from:])
		return int64(n), err
	}
	var parts net.Buffers
	for part := range b.parts {
		skipped := min(from, len(part))
		from -= skipped
		parts = append(parts, part[skipped:])
	}
	return parts.WriteTo(w)
}

// parts are what the batch consists of, in order.
func (b *Batch) parts(yield func([]byte) bool) {
	from := 0
	for _, l := range b.long {
		if l.at > from && !yield(b.buf[from:l.at]) || !yield(l.data) {
			return
		}
		from = l.at
	}
	if len(b.buf) > from {
		yield(b.buf[from:])
	}
}

// tryWrite writes as much of the batch as a connection takes at once.
func (b *Batch) tryWrite(raw syscall.RawConn) (int, error) {
	b.took, b.err = 0, nil
	err := raw.Control(b.try)
	return b.took, cmp.Or(err, b.err)
}

func (b *Batch) tryFD(fd uintptr) {
	for part := range b.parts {
		n, err := tryWrite(fd, part)
		b.took += n
		b.err = err
		if err != nil || n < len(part) {
			return
		}
	}
}

// rawConn returns a connection by itself if writing can be tried on it: one of
// the system's, with nothing around it that ought to know what is written.
func rawConn(c Conn) syscall.RawConn {
	if t, ok := c.(*net.TCPConn); ok && canTry {
		if raw, err := t.SyscallConn(); err == nil {
			return raw
		}
	}
	return nil
}
