package wire

import (
	"cmp"
	"io"
	"net"
	"sync"
	"syscall"
	"time"
)

// Conn is the connection that a session writes to. Its methods may be called
// concurrently. Close ends a Write under way and the transport's wait for the
// client.
type Conn interface {
	io.WriteCloser
	SetReadDeadline(time.Time) error
	SetWriteDeadline(time.Time) error
}

// Framing encodes messages for a transport. All sessions of a transport share
// it; it has no state.
type Framing interface {
	// Streams reports whether the transport only carries messages to the
	// client. The client then sends its messages by POST.
	Streams() bool
	// Message appends a message to a batch. at is the position of the client
	// after the message, or nil if the message does not move it.
	Message(b *Batch, payload []byte, at Position)
	// Ping appends a request for a sign of life that the browser answers by
	// itself, if the transport has one.
	Ping(b *Batch)
	// Close appends the status and reason with which the session ends.
	Close(b *Batch, status Status, reason string)
}

// Batch is a list of messages that one system call writes.
type Batch struct {
	buf  []byte
	long []long
	size int

	try  func(fd uintptr) // tryFD, as a value that is made once
	took int              // bytes that it wrote
	err  error
}

// long is a part that is too long to be copied, with its place in the buffer.
type long struct {
	at   int
	data []byte
}

const (
	// copyLimit is the longest part in bytes that is copied into a batch.
	copyLimit = 4096
	// keepLimit is the largest buffer in bytes that is kept for the next batch.
	keepLimit = 64 << 10
)

// batches holds batches for reuse. Idle sessions have none.
var batches = sync.Pool{New: func() any {
	b := new(Batch)
	b.try = b.tryFD
	return b
}}

// free returns a batch to batches.
func (b *Batch) free() {
	if cap(b.buf) > keepLimit {
		b.buf = nil
	}
	clear(b.long)
	b.buf, b.long, b.size = b.buf[:0], b.long[:0], 0
	batches.Put(b)
}

// Write appends p. The caller must not change p afterwards. It never fails.
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

// Len returns the length in bytes.
func (b *Batch) Len() int { return b.size }

// WriteTo writes the batch, to a network connection by one system call.
func (b *Batch) WriteTo(w io.Writer) (int64, error) { return b.writeRest(w, 0) }

// writeRest writes the batch without its first bytes.
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

// parts yields the parts of the batch, in order.
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

// tryWrite writes as much of the batch as a connection takes without waiting.
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

// rawConn returns the system's handle of a plain TCP connection, which can be
// written without waiting. It returns nil for any other connection.
func rawConn(c Conn) syscall.RawConn {
	if t, ok := c.(*net.TCPConn); ok && canTry {
		if raw, err := t.SyscallConn(); err == nil {
			return raw
		}
	}
	return nil
}
