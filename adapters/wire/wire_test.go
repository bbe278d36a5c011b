package wire

import (
	"bytes"
	"errors"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/presence-go/presence"
)

func TestSecretsAreOfOneConnection(t *testing.T) {
	h := &Server{key: [32]byte{1}}
	seen := make(map[string]bool)
	for _, key := range []connKey{
		{subject: presence.ID("ann"), conn: "tab"},
		{subject: presence.ID("ann"), conn: "tab", watcher: true},
		{subject: presence.ID("bob"), conn: "tab"},
		{subject: presence.Ref{Tenant: "a", ID: "nn"}, conn: "tab"},
		{subject: presence.Ref{Tenant: "ann"}, conn: "tab"},
		{subject: presence.ID("ann"), conn: "other"},
	} {
		for _, epoch := range []uint32{1, 2, 1<<32 - 1} {
			secret := h.secret(key, epoch)
			require.False(t, seen[secret])
			seen[secret] = true
			gotKey, gotEpoch, ok := h.verify(secret, key.conn)
			require.True(t, ok)
			require.Equal(t, key, gotKey)
			require.Equal(t, epoch, gotEpoch)
			_, _, ok = h.verify(secret, key.conn+"x")
			require.False(t, ok)
			_, _, ok = (&Server{}).verify(secret, key.conn)
			require.False(t, ok, "of another process")
		}
	}
}

// Heartbeats are read without the decoder of messages in the form in which the
// browser's client and the protocol's document write them.
func TestPongs(t *testing.T) {
	for text, want := range map[string]Pong{
		`{"idle":4000,"visible":true,"type":"pong","seq":12}`: {Seq: 12, Idle: 4000, Visible: true, Told: true},
		`{"type":"pong","seq":12,"idle":0,"visible":false}`:   {Seq: 12, Told: true},
		`{"visible":true,"type":"pong","seq":3}`:              {Seq: 3, Idle: -1, Visible: true, Told: true},
		`{"idle":null,"visible":true,"type":"pong","seq":3}`:  {Seq: 3, Idle: -1, Visible: true, Told: true},
		`{"type":"pong","seq":999999999999999999}`:            {Seq: 999999999999999999, Idle: -1},
	} {
		got, ok := ParsePong([]byte(text))
		require.True(t, ok, text)
		require.Equal(t, want, got, text)
		require.Zero(t, testing.AllocsPerRun(10, func() { ParsePong([]byte(text)) }))
	}
	for _, text := range []string{`{"type":"pong","seq":1,"ref":"q"}`, `{ "type":"pong","seq":1}`, `{"type":"pong","seq":1.5}`, `{"type":"ping","seq":1}`, `{"seq":1}`} {
		_, ok := ParsePong([]byte(text))
		require.False(t, ok, text)
	}
}

func TestPosition(t *testing.T) {
	p := Position{{"sales", "mx2r.te1", 7}, {"a,b~c d\n", "", 0}, {"", "~", 1<<64 - 1}, {"ünï", "x", 1}}
	require.Equal(t, p, ParsePosition(p.String()))
	require.Equal(t, "sales/mx2r.te1/7", p[:1].String())
	require.Empty(t, Position{}.String())
	require.Equal(t, p[:1], ParsePosition("x,/,a/b,a/%/1,a/b/c,a/b/1/2,"+p[:1].String()+",,"), "what cannot be read is left out")
}

// writes counts how often something is written.
type writes struct {
	bytes.Buffer
	n int
}

func (w *writes) Write(p []byte) (int, error) {
	w.n++
	return w.Buffer.Write(p)
}

func TestBatch(t *testing.T) {
	long := strings.Repeat("x", copyLimit+1)
	for range 2 {
		b := batches.Get().(*Batch) // the second time it may be the same
		var want strings.Builder
		for _, s := range []string{"a", long, long, "bc", "", long, "d"} {
			want.WriteString(s)
			n, err := b.Write([]byte(s))
			require.NoError(t, err)
			require.Equal(t, len(s), n)
		}
		require.Equal(t, want.Len(), b.Len())
		var out writes
		n, err := b.WriteTo(&out)
		require.NoError(t, err)
		require.EqualValues(t, want.Len(), n)
		require.Equal(t, want.String(), out.String())
		b.free()
	}
	b := new(Batch)
	for range 1000 {
		_, _ = b.Write([]byte("short"))
	}
	var out writes
	_, err := b.WriteTo(&out)
	require.NoError(t, err)
	require.Equal(t, 1, out.n, "what is short goes out together")
	_, err = b.WriteTo(failing{})
	require.Error(t, err)
}

type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, errors.New("gone") }

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
	if raw == nil {
		t.Skip("writing cannot be tried here")
	}
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
