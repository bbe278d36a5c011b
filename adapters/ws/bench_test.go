package ws_test

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	gobwas "github.com/gobwas/ws"
	"github.com/stretchr/testify/require"
)

// BenchmarkIdleSocket reports what a socket takes while nothing happens, in
// heap and stacks. The heap is that of both ends, since the client's is in this
// process too.
func BenchmarkIdleSocket(b *testing.B) {
	for name, c := range map[string]struct {
		query, hello, watch string
	}{
		"visitor":          {"id=v%d&role=visitor", `{"type":"hello","v":1,"ref":"q"}`, ""},
		"visitor-watching": {"id=v%d&role=visitor", `{"type":"hello","v":1}`, `{"type":"watch","channel":"sales","ref":"q"}`},
		"agent":            {"id=a%d", `{"type":"hello","v":1,"ref":"q"}`, ""},
	} {
		b.Run(name, func(b *testing.B) {
			const n = 2000
			for b.Loop() {
				w := bench(b)
				heapBefore, stacksBefore := inUse()
				clients := make([]*client, n)
				for i := range clients {
					clients[i] = w.open(fmt.Sprintf(c.query, i))
					clients[i].say(c.hello)
					if c.watch != "" {
						clients[i].say(c.watch)
					}
					for clients[i].receive().Ref != "q" {
					}
				}
				heap, stacks := inUse()
				b.ReportMetric(float64(heap-heapBefore)/n, "heap-B/socket")
				b.ReportMetric(float64(stacks-stacksBefore)/n, "stack-B/socket")
				runtime.KeepAlive(clients)
				for _, c := range clients {
					c.conn.Close()
				}
				w.empty()
			}
		})
	}
}

func inUse() (heap, stacks int64) {
	for range 4 { // stacks shrink by half at a time
		runtime.GC()
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc), int64(m.StackInuse)
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
