package ws_test

import (
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	gobwas "github.com/gobwas/ws"
	"github.com/stretchr/testify/require"

	"github.com/presence-go/presence"
	"github.com/presence-go/presence/internal/seeds"
)

// bounded checks that f leaves no more than a number of bytes behind.
func bounded(t *testing.T, limit int64, f func()) {
	t.Helper()
	before := use().heap
	f()
	require.Less(t, use().heap-before, limit, "bytes of heap")
}

// gone waits until no session is left, however long its client has to go.
func (w *world) gone() {
	w.t.Helper()
	for limit := time.Now().Add(20 * time.Second); w.handler.Sessions() > 0; runtime.Gosched() {
		require.True(w.t, time.Now().Before(limit), "%d sessions are left", w.handler.Sessions())
		w.advance(10 * time.Millisecond)
	}
}

// With any bytes a socket continues or closes with a documented reason, and
// leaves nothing behind.
func TestNoise(t *testing.T) {
	w := setup(t, nil)
	r := rand.New(rand.NewPCG(seeds.List(t, 1)[0], 1))
	noise := func() []byte {
		b := make([]byte, 1+r.IntN(2000))
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		if r.IntN(2) == 0 { // something that looks like a frame
			b[0], b = 0x81, append(b, 0, 0)
			b[1] |= 0x80
		}
		return b
	}
	bounded(t, 8<<20, func() {
		for range 300 {
			c, _ := w.enter("id=ann", `,"conn":"tab"`)
			// Each write may be too late, after the server has closed.
			_, _ = c.conn.Write(noise())
			if r.IntN(2) == 0 {
				_ = gobwas.WriteFrame(c.conn, gobwas.MaskFrame(gobwas.NewTextFrame(noise())))
			}
			_ = gobwas.WriteFrame(c.conn, gobwas.MaskFrame(gobwas.NewCloseFrame(nil)))
			_ = c.conn.(*net.TCPConn).CloseWrite()
			for {
				op, payload, err := c.read()
				if err != nil {
					break // it was in the middle of a message
				}
				if op == gobwas.OpClose {
					code, _ := gobwas.ParseCloseFrameData([]byte(payload))
					require.GreaterOrEqual(t, code, gobwas.StatusNormalClosure)
					require.LessOrEqual(t, code, gobwas.StatusCode(4999))
					break
				}
			}
			c.conn.Close()
		}
		w.gone()
	})
}

func TestMegabytes(t *testing.T) {
	const size = 1 << 20
	for name, send := range map[string]func(*client) error{
		"one frame": func(c *client) error {
			return gobwas.WriteFrame(c.conn, gobwas.MaskFrame(gobwas.NewTextFrame(make([]byte, size))))
		},
		"binary": func(c *client) error {
			return gobwas.WriteFrame(c.conn, gobwas.MaskFrame(gobwas.NewBinaryFrame(make([]byte, size))))
		},
		"parts": func(c *client) error {
			op := gobwas.OpText
			for range size / 4000 {
				if err := gobwas.WriteFrame(c.conn, gobwas.MaskFrame(gobwas.NewFrame(op, false, make([]byte, 4000)))); err != nil {
					return err
				}
				op = gobwas.OpContinuation
			}
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := setup(t, func(c *conf) { c.ws.MessagesPerSecond, c.ws.Burst = 1e6, 1e6 })
			bounded(t, 8<<20, func() {
				for i := range 50 {
					c, _ := w.enter(fmt.Sprintf("id=v%d&role=visitor", i), "")
					var sending sync.WaitGroup
					sending.Go(func() { _ = send(c) }) // which is cut off
					require.Equal(t, gobwas.StatusMessageTooBig, c.closed())
					c.conn.Close()
					sending.Wait()
				}
				w.gone()
			})
		})
	}
	t.Run("posts", func(t *testing.T) {
		w := setupOver(t, "sse", nil)
		c, _ := w.enter("id=ann", "")
		bounded(t, 8<<20, func() {
			for range 50 {
				require.Equal(t, http.StatusRequestEntityTooLarge, c.send(strings.Repeat("x", size)))
			}
			http.DefaultClient.CloseIdleConnections()
		})
		c.do(`"type":"input"`)
	})
}

// A client that asks for ten thousand channels gets errors, and is closed if it
// does not stop.
func TestTenThousandChannels(t *testing.T) {
	for name, calm := range map[string]bool{"too fast": false, "slowly": true} {
		t.Run(name, func(t *testing.T) {
			both(t, func(t *testing.T, over string) {
				w := setupOver(t, over, nil)
				bounded(t, 8<<20, func() {
					c, _ := w.enter("id=v1&role=visitor", "")
					codes := make(map[string]int)
					for i := range 10_000 {
						if calm {
							w.clock.Add(time.Second)
						}
						message := fmt.Sprintf(`{"type":"watch","channel":"channel-%d"}`, i)
						if over == "sse" && c.send(message) == http.StatusNotFound {
							break
						}
						if over == "ws" && gobwas.WriteFrame(c.conn, gobwas.MaskFrame(gobwas.NewTextFrame([]byte(message)))) != nil {
							break
						}
					}
					snapshots := 0
					for code := gobwas.StatusCode(0); code == 0; {
						op, payload, err := c.read()
						require.NoError(t, err)
						switch op {
						case gobwas.OpClose:
							code, _ = gobwas.ParseCloseFrameData([]byte(payload))
							require.Equal(t, gobwas.StatusPolicyViolation, code)
						case gobwas.OpText:
							f := parse(c, payload)
							codes[f.Code]++
							if f.Type == "snapshot" {
								snapshots++
							}
						}
					}
					require.LessOrEqual(t, snapshots, 32)
					require.Positive(t, codes["limit"])
					require.Equal(t, !calm, codes["rate"] > 0)
					c.conn.Close()
					w.gone()
				})
			})
		})
	}
}

// Readers who take nothing keep nothing but their share of the frames, and are
// sent away.
func TestManyStuckReaders(t *testing.T) {
	both(t, func(t *testing.T, over string) {
		w := setupOver(t, over, func(c *conf) {
			c.listen = func(l net.Listener) net.Listener { return small{l} }
			c.tracker.WatchBuffer = 4
			c.ws.WriteTimeout = 100 * time.Millisecond
		})
		bounded(t, 16<<20, func() {
			var readers []*client
			for i := range 30 {
				c, _ := w.enter(fmt.Sprintf("id=s%d&role=supervisor", i), "")
				require.NoError(t, c.conn.(*net.TCPConn).SetReadBuffer(1))
				c.do(`"type":"watch","channel":"sales"`)
				readers = append(readers, c)
			}
			another := w.chatter()
			for limit := time.Now().Add(20 * time.Second); w.handler.Sessions() > 0; another() {
				require.True(t, time.Now().Before(limit), "%d are still connected", w.handler.Sessions())
				w.advance(time.Millisecond)
			}
			for _, c := range readers {
				c.conn.Close()
			}
		})
	})
}

// The messages beside a stream have the limits of those over a socket. The
// reader of the stream limits them too.
func TestFloodOfPosts(t *testing.T) {
	w := setupOver(t, "sse", nil)
	c, _ := w.enter("id=ann", "")
	done := make(chan struct{})
	go func() {
		defer close(done)
		for c.send(`{"type":"dance"}`) != http.StatusNotFound {
		}
	}()
	require.Equal(t, gobwas.StatusPolicyViolation, c.closed())
	<-done
	require.Equal(t, presence.CauseLost, w.left())

	t.Run("to a stuck reader", func(t *testing.T) {
		w := setupOver(t, "sse", func(c *conf) {
			c.listen = func(l net.Listener) net.Listener { return small{l} }
			c.ws.WriteTimeout = 20 * time.Second
		})
		c, _ := w.enter("id=ann", "")
		require.NoError(t, c.conn.(*net.TCPConn).SetReadBuffer(1))
		c.do(`"type":"watch","channel":"sales"`)
		another := w.chatter()
		for range 5000 {
			another()
		}
		status := make(chan int, 20)
		for range cap(status) {
			go func() { status <- c.send(`{"type":"input","ref":"1"}`) }()
		}
		for range cap(status) - 8 {
			require.Equal(t, http.StatusTooManyRequests, <-status)
		}
		c.conn.Close()
		for range 8 {
			require.Equal(t, http.StatusNoContent, <-status)
		}
	})
}

// Many sessions that open and close leave nothing behind.
func TestNothingStaysBehind(t *testing.T) {
	both(t, func(t *testing.T, over string) {
		w := setupOver(t, over, nil)
		round := func(n int) {
			for i := range n {
				c, _ := w.enter(fmt.Sprintf("id=v%d&role=visitor", i), "")
				c.do(fmt.Sprintf(`"type":"watch","channel":"room-%d"`, i))
				c.until("snapshot")
				c.conn.Close()
			}
			w.gone()
			http.DefaultClient.CloseIdleConnections()
		}
		round(50) // so that what is kept for the next is there
		bounded(t, 1<<20, func() { round(500) })
	})
}

// A client that takes nothing holds up no other. Once it takes, it gets
// everything, in order and whole.
func TestStalledReaderHoldsUpNobody(t *testing.T) {
	both(t, func(t *testing.T, over string) {
		w := setupOver(t, over, func(c *conf) {
			c.listen = func(l net.Listener) net.Listener { return small{l} }
			c.tracker.WatchBuffer = 10_000
			c.ws.WriteTimeout = time.Minute
		})
		var stalled []*client
		for i := range 2 {
			c, _ := w.enter(fmt.Sprintf("id=s%d&role=supervisor", i), "")
			c.do(`"type":"watch","channel":"sales"`)
			c.until("snapshot")
			require.NoError(t, c.conn.(*net.TCPConn).SetReadBuffer(1))
			stalled = append(stalled, c)
		}
		reader, _ := w.enter("id=boss&role=supervisor", "")
		reader.do(`"type":"watch","channel":"sales"`)
		reader.until("snapshot")
		another := w.chatter()
		const changes = 100
		last := ""
		for range changes {
			last = another()
			for f := reader.until("diff"); f.Changes[0].View.Text != last; f = reader.until("diff") {
			}
		}
		for _, c := range stalled {
			require.NoError(t, c.conn.(*net.TCPConn).SetReadBuffer(1<<20))
			f := c.until("diff")
			for seq := f.Seq; ; seq++ {
				require.Equal(t, seq, f.Seq)
				require.False(t, f.Lagged)
				if f.Changes[0].View.Text == last {
					break
				}
				f = c.until("diff")
			}
		}
	})
}
