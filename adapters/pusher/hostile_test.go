package pusher_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	gobwas "github.com/gobwas/ws"
	"github.com/stretchr/testify/require"

	"github.com/presence-go/presence"
	"github.com/presence-go/presence/adapters/pusher"
)

func TestWhatIsNotUnderstood(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		for _, text := range []string{
			``, `null`, `[]`, `7`, `{`, `{}`, `{"event":""}`, `{"event":7}`, `{"event":"x"}`, `{"event":"pusher:error"}`,
			`{"event":"pusher:subscribe"}`, `{"event":"pusher:subscribe","data":7}`, `{"event":"pusher:subscribe","data":{"channel":7}}`, `{"event":"pusher:unsubscribe","data":[]}`,
			`{"event":"pusher_internal:member_added","channel":"presence-sales","data":"{}"}`, `{"event":"` + strings.Repeat("x", 5000) + `"}`,
			`{"event":"client-"}`, strings.Repeat("[", 10_000),
		} {
			c := w.open()
			c.say(text)
			one(t, c.take()).code(t)
			require.True(t, c.open(), text)
			c.leave()
		}
		c := w.open()
		require.NoError(t, c.write(gobwas.NewBinaryFrame([]byte(`{"event":"pusher:ping"}`))))
		one(t, c.take()).code(t)
		for range 19 {
			c.say(`{`)
		}
		require.Equal(t, 4100, c.closed(), "twenty faults within a minute")
		c = w.open()
		for range 40 {
			c.say(`{`)
			w.pass(4 * time.Second)
		}
		require.True(t, c.open(), "and fifteen are not")
	})
}

func TestFramesThatAreNotTheProtocol(t *testing.T) {
	header := func(h gobwas.Header) []byte {
		h.Masked = true
		var b bytes.Buffer
		require.NoError(t, gobwas.WriteHeader(&b, h))
		return b.Bytes()
	}
	for name, c := range map[string]struct {
		bytes []byte
		code  int
	}{
		"a megabyte":               {header(gobwas.Header{Fin: true, OpCode: gobwas.OpText, Length: 1 << 20}), 1009},
		"the longest there is":     {header(gobwas.Header{Fin: true, OpCode: gobwas.OpText, Length: 1<<63 - 1}), 1009},
		"a length below 0":         {[]byte("\x81\xff\xff\xff\xff\xff\xff\xff\xff\xff\x00\x00\x00\x00"), 1002},
		"not masked":               {[]byte("\x81\x02{}"), 1002},
		"reserved bits":            {header(gobwas.Header{Fin: true, Rsv: 4, OpCode: gobwas.OpText}), 1002},
		"reserved opcode":          {header(gobwas.Header{Fin: true, OpCode: 3}), 1002},
		"a continuation of none":   {header(gobwas.Header{Fin: true, OpCode: gobwas.OpContinuation}), 1002},
		"a ping in parts":          {header(gobwas.Header{OpCode: gobwas.OpPing}), 1002},
		"a long ping":              {header(gobwas.Header{Fin: true, OpCode: gobwas.OpPing, Length: 126}), 1002},
		"two messages interleaved": {append(header(gobwas.Header{OpCode: gobwas.OpText}), header(gobwas.Header{Fin: true, OpCode: gobwas.OpText})...), 1002},
		"many empty parts":         {append(header(gobwas.Header{OpCode: gobwas.OpText}), bytes.Repeat(header(gobwas.Header{OpCode: gobwas.OpContinuation}), 65)...), 1009},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, nil, func(w *world) {
				s := w.enter("ann", "presence-sales")
				go s.conn.Write(c.bytes)
				require.Equal(t, c.code, s.closed())
			})
		})
	}
}

func TestMessagesMayComeInParts(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		c := w.open()
		parts := []gobwas.Frame{
			gobwas.NewFrame(gobwas.OpText, false, []byte(`{"event":`)), gobwas.NewPingFrame([]byte("x")), gobwas.NewFrame(gobwas.OpContinuation, false, nil),
			gobwas.NewFrame(gobwas.OpContinuation, true, []byte(`"pusher:ping"}`)),
		}
		for range 3 {
			for _, part := range parts {
				require.NoError(t, c.write(part))
			}
			require.Equal(t, []string{"pusher:pong"}, c.events())
		}
		for range 20 { // a megabyte in parts
			if c.write(gobwas.NewFrame(gobwas.OpText, false, make([]byte, 1000))) != nil {
				break
			}
			for range 20 {
				if c.write(gobwas.NewFrame(gobwas.OpContinuation, false, make([]byte, 1000))) != nil {
					break
				}
			}
		}
		require.Equal(t, 1009, c.closed())
	})
}

func TestAFloodIsEnded(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		for name, f := range map[string]gobwas.Frame{
			"pings of the page":   gobwas.NewTextFrame([]byte(`{"event":"pusher:ping","data":{}}`)),
			"pings of the socket": gobwas.NewPingFrame([]byte("x")),
			"client events":       gobwas.NewTextFrame([]byte(`{"event":"client-x","channel":"private-a","data":{}}`)),
		} {
			c := w.open()
			c.subscribe("private-a", "")
			c.take()
			for range 10_000 {
				if c.write(f) != nil {
					break
				}
			}
			require.Equal(t, 4100, c.closed(), name)
			require.LessOrEqual(t, len(c.take()), 220, name)
		}
		c := w.open()
		for range 500 {
			c.send("pusher:ping", "", nil)
			w.pass(50 * time.Millisecond)
		}
		require.True(t, c.open(), "twenty a second are none")
	})
}

func TestTenThousandChannels(t *testing.T) {
	inWorld(t, func(c *conf) {
		c.pusher.MessagesPerSecond, c.pusher.Burst, c.pusher.MaxChannels = 1e6, 1e6, 150
	}, func(w *world) {
		subscribe := func(c *client, prefix string) (made, refused int) {
			for i := range 10_000 {
				data := fmt.Sprintf(`{"event":"pusher:subscribe","data":{"channel":"%s%d"}}`, prefix, i)
				if c.write(gobwas.NewTextFrame([]byte(data))) != nil {
					break
				}
			}
			for _, m := range c.take() {
				if m.Event == "pusher_internal:subscription_succeeded" {
					made++
				} else if m.Event == "pusher:subscription_error" && m.status(t) == 429 {
					refused++
				}
			}
			return made, refused
		}
		first := w.open()
		made, refused := subscribe(first, "a")
		require.Equal(t, []int{100, 20}, []int{made, refused}, "a socket may have a hundred")
		require.Equal(t, 4100, first.closed())

		kept := w.open()
		for i := range 100 {
			kept.subscribe(fmt.Sprint("b", i), "")
		}
		require.Len(t, kept.take(), 100)
		made, refused = subscribe(w.open(), "c")
		require.Equal(t, []int{50, 20}, []int{made, refused}, "an app a hundred and fifty")
		require.ErrorIs(t, w.handler.Trigger(app.ID, triggerOf("b1")), nil)
		require.Equal(t, []string{"e b1"}, kept.events())
		for i := range 60 { // what keeps events counts as well
			err := w.handler.Trigger(app.ID, triggerOf(fmt.Sprint("cache-", i)))
			if i < 50 {
				require.NoError(t, err)
			} else {
				require.ErrorIs(t, err, presence.ErrLimit)
			}
		}
	})
}

func TestASlowReaderIsToldAnewAndThenEnded(t *testing.T) {
	inWorld(t, func(c *conf) { c.tracker.WatchBuffer = 4 }, func(w *world) {
		ann, slow := w.enter("ann", "presence-sales"), w.enter("visitor-1", "presence-sales")
		slow.pause()
		for i := range 101 {
			w.claim("ann", []string{"busy", "away"}[i%2])
			synctest.Wait()
		}
		w.pass(9 * time.Second)
		slow.resume()
		require.Equal(t, []string{
			"pusher_internal:member_added presence-sales", "pusher_internal:member_added presence-sales", "pusher_internal:subscription_succeeded presence-sales",
		}, slow.events(), "what it was too late for is skipped")
		require.Equal(t, "busy", slow.info("presence-sales", "ann")["status"])

		slow.pause()
		for i := range 10 {
			w.claim("ann", []string{"away", "busy"}[i%2])
			synctest.Wait()
		}
		w.pass(11 * time.Second)
		require.Equal(t, 1, w.handler.Sockets())
		require.True(t, ann.open())
		slow.resume()
	})
}

func triggerOf(channel string) pusher.Event {
	return pusher.Event{Name: "e", Channels: []string{channel}, Data: strings.Repeat("x", 10_000)}
}

func TestASlowReaderOfEventsHoldsNobodyUp(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		quick, slow := w.open(), w.enter("ann", "presence-sales")
		quick.subscribe("news", "")
		slow.subscribe("news", "")
		quick.take()
		slow.take()
		slow.pause()
		before := time.Now()
		for range 120 {
			require.NoError(t, w.handler.Trigger(app.ID, triggerOf("news")))
			require.Equal(t, "e", one(t, quick.take()).Event)
		}
		require.Equal(t, before, time.Now(), "no time went by")
		w.pass(2 * time.Second)
		require.Equal(t, 1, w.handler.Sockets(), "it lost events and has to come anew")
		slow.resume()
		state, err := w.tracker.State(w.t.Context(), presence.ID("ann"))
		require.NoError(t, err)
		require.Equal(t, presence.CauseLost, one(t, state.Conns).Cause)
	})
}

func TestStrangersCostBoundedMemory(t *testing.T) {
	inWorld(t, func(c *conf) { c.pusher.MessagesPerSecond, c.pusher.Burst = 1e6, 1e6 }, func(w *world) {
		inUse := func() int64 {
			runtime.GC()
			runtime.GC()
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			return int64(m.HeapAlloc)
		}
		before := inUse()
		const n = 100
		clients := make([]*client, n)
		long := gobwas.NewFrame(gobwas.OpText, false, []byte(strings.Repeat("x", 16<<10)))
		for i := range clients {
			clients[i] = w.open()
			for j := range 119 { // one before it is too many
				clients[i].say(fmt.Sprintf(`{"event":"pusher:subscribe","data":{"channel":"%d-%d-%s"}}`, i, j, strings.Repeat("x", 150)))
			}
			for j := range 50 {
				clients[i].send("pusher:unsubscribe", "", map[string]string{"channel": fmt.Sprintf("%d-%d-%s", i, j, strings.Repeat("x", 150))})
			}
			require.NoError(t, clients[i].write(long)) // and sends nothing further
			clients[i].take()
			clients[i].raw = nil
		}
		grown := inUse() - before
		t.Logf("%d bytes for each of %d sockets, both ends", grown/n, n)
		require.Less(t, grown/n, int64(150<<10))
		for _, c := range clients {
			c.lose()
		}
		require.Zero(t, w.handler.Sockets())
		clear(clients)
		status, body := w.call("GET", "/apps/3/channels", "", "")
		require.Equal(t, 200, status)
		require.JSONEq(t, `{"channels":{}}`, body)
		runtime.KeepAlive(clients)
	})
}

// FuzzClient makes a client send arbitrary bytes. The server always answers
// with messages of the protocol, takes no presence for granted, and serves
// other clients.
func FuzzClient(f *testing.F) {
	wire := func(frames ...gobwas.Frame) []byte {
		var b bytes.Buffer
		for _, frame := range frames {
			gobwas.WriteFrame(&b, gobwas.MaskFrameWith(frame, [4]byte{1, 2, 3, 4}))
		}
		return b.Bytes()
	}
	text := func(s string) gobwas.Frame { return gobwas.NewTextFrame([]byte(s)) }
	for _, s := range []string{
		`{"event":"pusher:subscribe","data":{"channel":"cache-a"}}`, `{"event":"pusher:subscribe","data":"{\"channel\":\"a\"}"}`,
		`{"event":"pusher:subscribe","data":{"channel":"presence-sales","auth":"278d425bdf160c739803:00","channel_data":"{\"user_id\":1e9}"}}`,
		`{"event":"pusher:signin","data":{"auth":"","user_data":"{}"}}`, `{"event":"client-x","channel":"private-a","data":[[[]]]}`,
		`{"event":"pusher:unsubscribe","data":{"channel":"\u0000"}}`, `{"event":"\ud800","data":{}}`, `[[[[`, `null{}`, ``, "\xff",
	} {
		f.Add(wire(text(s)))
	}
	f.Add(wire(
		gobwas.NewFrame(gobwas.OpText, false, []byte(`{"event":`)), gobwas.NewPingFrame([]byte("x")),
		gobwas.NewFrame(gobwas.OpContinuation, true, []byte(`"pusher:ping"}`)), gobwas.NewCloseFrame(gobwas.NewCloseFrameBody(gobwas.StatusGoingAway, "bye")),
	))
	f.Add([]byte("\x81\xff\x00\xff\xff\xff\xff\xff\xff\xff\x00\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, data []byte) {
		inWorld(t, nil, func(w *world) {
			witness := w.enter("bob", "presence-sales")
			c := w.open()
			go c.conn.Write(data)
			for _, m := range c.take() {
				require.Contains(t, []string{"pusher:error", "pusher:pong", "pusher:subscription_error", "pusher_internal:subscription_succeeded", "pusher:cache_miss"}, m.Event)
				if m.Event == "pusher:subscription_error" {
					require.Positive(t, m.status(t))
				}
				if bare := m.Event == "pusher:pong" || m.Event == "pusher:cache_miss"; bare {
					require.Empty(t, m.Data)
				} else {
					require.True(t, json.Valid(m.Data), string(m.Data))
				}
			}
			require.Equal(t, []string{"bob"}, witness.ids("presence-sales"))
			witness.send("pusher:ping", "", nil)
			require.Equal(t, []string{"pusher:pong"}, witness.events())
		})
	})
}
