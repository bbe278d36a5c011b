//go:build unix

package wire

import (
	"bytes"
	"io"
	"net"
	"testing"

	"github.com/stretchr/testify/require"
)

// What a connection does not take at once is written later, from where it was.
func TestBatchGoesOn(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	to, err := net.Dial("tcp", l.Addr().String())
	require.NoError(t, err)
	defer to.Close()
	from, err := l.Accept()
	require.NoError(t, err)
	defer from.Close()
	raw := rawConn(to)
	require.NotNil(t, raw)
	require.Nil(t, rawConn(struct{ Conn }{to}), "what is around a connection is not gone past")

	for _, size := range []int{10, copyLimit + 1, 1 << 20} {
		var want bytes.Buffer
		batch := batches.Get().(*Batch)
		for i := range 8 {
			part := bytes.Repeat([]byte{byte('a' + i)}, size)
			_, _ = batch.Write(part)
			_, _ = batch.WriteString("|")
			want.Write(part)
			want.WriteString("|")
		}
		n, err := batch.tryWrite(raw)
		require.NoError(t, err)
		require.LessOrEqual(t, n, want.Len())
		require.Equal(t, size < 1<<20, n == want.Len())
		more, err := batch.tryWrite(raw) // the same again, of which nothing or little fits
		require.NoError(t, err)
		rest := make(chan error, 1)
		go func() {
			_, err := batch.writeRest(to, more)
			rest <- err
		}()
		got := make([]byte, n+want.Len())
		_, err = io.ReadFull(from, got)
		require.NoError(t, err)
		require.NoError(t, <-rest)
		require.Equal(t, want.Bytes()[:n], got[:n])
		require.Equal(t, want.Bytes(), got[n:])
		batch.free()
	}

	to.Close()
	batch := batches.Get().(*Batch)
	defer batch.free()
	_, _ = batch.WriteString("x")
	_, err = batch.tryWrite(raw)
	require.Error(t, err)
}
