package ws_test

import (
	"bytes"
	"fmt"
	"net"
	"runtime"
	"testing"
	"time"

	gobwas "github.com/gobwas/ws"
	"github.com/stretchr/testify/require"

	"github.com/presence-go/presence"
)

// BenchmarkIdle reports the heap, stacks and goroutines of an idle socket or
// stream. The client's end is in this process too. Its share is measured on
// connections without a server, and subtracted. A supervisor mostly needs its
// state in the tracker.
func BenchmarkIdle(b *testing.B) {
	for _, over := range []string{"ws", "sse"} {
		for name, query := range map[string]string{"visitor": "id=v%d&role=visitor", "supervisor": "id=a%d&role=supervisor"} {
			for _, watching := range []int{0, 1, 4} {
				b.Run(fmt.Sprintf("%s/%s/%d-channels", over, name, watching), func(b *testing.B) {
					const n = 2000
					for b.Loop() {
						w := bench(b)
						w.over = over
						heapBare, bare := bareConns(b, n)
						before := use()
						conns := make([]net.Conn, n)
						for i := range conns {
							conns[i] = w.idle(fmt.Sprintf(query, i), watching)
						}
						after := use()
						b.ReportMetric(float64(after.heap-before.heap-heapBare)/n, "heap-B")
						b.ReportMetric(float64(after.stacks-before.stacks)/n, "stack-B")
						b.ReportMetric(float64(after.goroutines-before.goroutines)/n, "goroutines")
						runtime.KeepAlive(conns)
						runtime.KeepAlive(bare)
						for _, c := range conns {
							c.Close()
						}
						for _, c := range bare {
							c.Close()
						}
						for w.handler.Sessions() > 0 {
							w.advance(time.Second) // in which a stream may be opened again
						}
					}
				})
			}
		}
	}
}

// idle opens a socket or stream that watches so many channels, and keeps nothing
// of the client but its end of the connection.
func (w *world) idle(query string, watching int) net.Conn {
	c, _ := w.enter(query, "")
	for i := range watching {
		c.do(fmt.Sprintf(`"type":"watch","channel":"public-%d"`, i))
		c.until("snapshot")
	}
	return c.conn
}

// bareConns opens connections without sessions, and returns the memory of the
// clients' ends.
func bareConns(b *testing.B, n int) (heap int64, conns []net.Conn) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(b, err)
	b.Cleanup(func() { l.Close() })
	before := use()
	for range n {
		dialed, err := net.Dial("tcp", l.Addr().String())
		require.NoError(b, err)
		accepted, err := l.Accept()
		require.NoError(b, err)
		conns = append(conns, dialed, accepted)
	}
	return (use().heap - before.heap) / 2, conns
}

type usage struct {
	heap, stacks int64
	goroutines   int
}

func use() usage {
	for range 4 { // stacks shrink by half at a time
		runtime.GC()
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return usage{int64(m.HeapAlloc), int64(m.StackInuse), runtime.NumGoroutine()}
}

// BenchmarkHeartbeat measures a heartbeat from the page's message to the answer
// it asked for, both ends included.
func BenchmarkHeartbeat(b *testing.B) {
	w := bench(b)
	c, _ := w.enter("id=ann", "")
	w.advance(25 * time.Second)
	c.until("ping")
	pong := gobwas.MustCompileFrame(gobwas.MaskFrame(gobwas.NewTextFrame([]byte(`{"type":"pong","ref":"q","seq":1,"idle":1200,"visible":true}`))))
	answer := make([]byte, 256)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.conn.Write(pong); err != nil {
			b.Fatal(err)
		}
		if _, err := c.conn.Read(answer); err != nil {
			b.Fatal(err)
		}
	}
	require.NoError(b, c.conn.Close())
}

func bench(b *testing.B) *world {
	return setup(b, func(c *conf) {
		c.ws.MessagesPerSecond, c.ws.Burst = 1e12, 1e12
		c.mute = true
	})
}

// BenchmarkFanOut measures one change for many sockets, both ends included.
func BenchmarkFanOut(b *testing.B) {
	const n = 2000
	w := bench(b)
	conns := make([]net.Conn, n)
	for i := range conns {
		conns[i] = w.idle(fmt.Sprintf("id=a%d&role=supervisor", i), 1)
		require.NoError(b, conns[i].SetDeadline(time.Time{}))
	}
	ctx, ann := b.Context(), presence.ID("ann")
	require.NoError(b, w.tracker.AddMember(ctx, presence.ChannelID("public-0"), ann))
	read := make([]byte, 4096)
	for _, c := range conns { // that she is a member now
		_, err := c.Read(read)
		require.NoError(b, err)
	}
	var c *presence.Conn
	b.ReportAllocs()
	for b.Loop() {
		var err error
		if c == nil {
			c, err = w.tracker.Connect(ctx, ann, presence.ConnectOptions{ID: "tab"})
		} else {
			err, c = c.Logout(), nil
		}
		if err != nil {
			b.Fatal(err)
		}
		for _, c := range conns {
			if _, err := c.Read(read); err != nil {
				b.Fatal(err)
			}
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n, "ns/socket")
	for _, c := range conns {
		c.Close()
	}
}

// BenchmarkConnect measures opening a socket, a hello, a watch and a bye, both
// ends included.
func BenchmarkConnect(b *testing.B) {
	w := bench(b)
	hello := gobwas.MustCompileFrame(gobwas.MaskFrame(gobwas.NewTextFrame([]byte(`{"type":"hello","v":1,"conn":"tab"}`))))
	watch := gobwas.MustCompileFrame(gobwas.MaskFrame(gobwas.NewTextFrame([]byte(`{"type":"watch","channel":"sales"}`))))
	answer := make([]byte, 8192)
	b.ReportAllocs()
	for b.Loop() {
		c, err := net.Dial("tcp", w.server.Listener.Addr().String())
		if err != nil {
			b.Fatal(err)
		}
		for _, say := range []struct {
			what  []byte
			until string
		}{{[]byte(request), "\r\n\r\n"}, {hello, `"welcome"`}, {watch, `"snapshot"`}} {
			_, err := c.Write(say.what)
			for heard := 0; err == nil && !bytes.Contains(answer[:heard], []byte(say.until)); {
				heard, err = c.Read(answer)
			}
			if err != nil {
				b.Fatal(err)
			}
		}
		c.Close()
		for w.handler.Sessions() > 0 {
			runtime.Gosched()
		}
	}
}

const request = "GET /?id=ann HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" +
	"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
