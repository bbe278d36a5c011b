package wire

import (
	"bytes"
	"errors"
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
