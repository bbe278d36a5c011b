package ws_test

import (
	"fmt"
	"net"
	"runtime"
	"testing"
	"time"

	gobwas "github.com/gobwas/ws"
	"github.com/stretchr/testify/require"
)

// BenchmarkIdle reports what a socket or stream takes while nothing happens, in
// heap, stacks and goroutines. The client's end is in this process too; what it
// takes is measured by itself, on connections that nobody serves, and taken off.
// What a supervisor takes is mostly its state in the tracker.
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

// bareConns opens connections that take part in nothing, and says what the
// clients' ends of them take.
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
		c.tracker.Observe = nil
	})
}
