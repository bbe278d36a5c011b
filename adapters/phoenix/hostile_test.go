package phoenix_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	gobwas "github.com/gobwas/ws"
	"github.com/stretchr/testify/require"

	"github.com/presence-go/presence"
	"github.com/presence-go/presence/adapters/phoenix"
	"github.com/presence-go/presence/internal/seeds"
)

func TestMalformedMessagesEndTheSocket(t *testing.T) {
	for name, data := range map[string]string{
		"nothing": ``, "no JSON": `[[[[`, "an object in a list": `[{"topic":"sales","event":"phx_join","payload":{},"ref":"1"}]`, "too short": `["1","1","sales","phx_join"]`,
		"too long": `["1","1","sales","phx_join",{},{}]`, "a number for a ref": `[1,1,"sales","phx_join",{}]`, "no topic": `["1","1","","phx_join",{}]`,
		"a long topic": `["1","1","` + strings.Repeat("x", 256) + `","phx_join",{}]`, "a long ref": `["1","` + strings.Repeat("x", 65) + `","sales","phx_join",{}]`,
		"no UTF-8": "[\"1\",\"1\",\"sales\xff\",\"phx_join\",{}]", "deep": strings.Repeat("[", 5000),
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, nil, func(t *testing.T, w *world) {
				ann := w.enter("token=ann", "sales")
				ann.say(data)
				require.EqualValues(t, 1007, ann.ended())
				synctest.Wait()
				require.Equal(t, presence.ReachLingering, reach(w, "ann"))
			})
		})
	}
}

func reach(w *world, id string) presence.Reach {
	w.t.Helper()
	state, err := w.tracker.State(w.t.Context(), presence.ID(id))
	require.NoError(w.t, err)
	return state.Current.Reach
}

func TestBrokenFraming(t *testing.T) {
	for name, c := range map[string]struct {
		wire string
		want gobwas.StatusCode
	}{
		"not masked":            {"\x81\x02{}", 1002},
		"reserved bits":         {"\xf1\x80\x00\x00\x00\x00", 1002},
		"reserved opcode":       {"\x83\x80\x00\x00\x00\x00", 1002},
		"continuation of none":  {"\x80\x80\x00\x00\x00\x00", 1002},
		"long control frame":    {"\x89\xfe\x00\x80\x00\x00\x00\x00", 1002},
		"negative length":       {"\x81\xff\xff\xff\xff\xff\xff\xff\xff\xff\x00\x00\x00\x00", 1002},
		"a length of petabytes": {"\x81\xff\x00\xff\xff\xff\xff\xff\xff\xff\x00\x00\x00\x00", 1009},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, nil, func(t *testing.T, w *world) {
				ann := w.enter("token=ann", "sales")
				_, err := ann.conn.Write([]byte(c.wire))
				require.NoError(t, err)
				require.Equal(t, c.want, ann.ended())
			})
		})
	}
}

func TestLongMessages(t *testing.T) {
	for name, send := range map[string]func(*client) error{
		"of a megabyte": func(c *client) error { return c.send(gobwas.OpText, true, strings.Repeat("x", 1<<20)) },
		"in parts": func(c *client) error {
			err := c.send(gobwas.OpText, false, strings.Repeat("x", 10_000))
			for err == nil {
				err = c.send(gobwas.OpContinuation, false, strings.Repeat("x", 1000))
			}
			return err
		},
		"of empty parts": func(c *client) error {
			err := c.send(gobwas.OpText, false, "")
			for err == nil {
				err = c.send(gobwas.OpContinuation, false, "")
			}
			return err
		},
		"with pings in between": func(c *client) error {
			err := c.send(gobwas.OpText, false, "")
			for err == nil {
				err = c.send(gobwas.OpPing, true, "")
			}
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, nil, func(t *testing.T, w *world) {
				ann := w.enter("token=ann", "sales")
				var sending sync.WaitGroup
				sending.Go(func() { _ = send(ann) })
				require.EqualValues(t, 1009, ann.ended())
				ann.conn.Close()
				sending.Wait()
			})
		})
	}
}

func TestMessageInPartsWithAPing(t *testing.T) {
	bubble(t, nil, func(t *testing.T, w *world) {
		ann := w.open("token=ann")
		join := `["1","1","sales","phx_join",{}]`
		if ann.objects {
			join = toObject(join)
		}
		require.NoError(t, ann.send(gobwas.OpText, false, join[:9]))
		require.NoError(t, ann.send(gobwas.OpPing, true, "still there?"))
		require.NoError(t, ann.send(gobwas.OpContinuation, false, ""))
		require.NoError(t, ann.send(gobwas.OpContinuation, true, join[9:]))
		require.Equal(t, "still there?", last(ann.of("pong")).raw)
		ann.refs = 1
		require.Equal(t, "available", ann.status("sales", "ann"))
		ann.do("sales", "input", `{}`)
	})
}

// Messages that arrive too fast wait at the sender.
func TestFloodIsReadSlowly(t *testing.T) {
	bubble(t, func(c *conf) { c.phoenix.MessagesPerSecond, c.phoenix.Burst = 10, 50 }, func(t *testing.T, w *world) {
		ann, bob := w.enter("token=ann", "sales"), w.enter("token=bob", "sales")
		began := time.Now()
		const n = 800
		for i := range n {
			ann.say(fmt.Sprintf(`[null,"f%d","phoenix","heartbeat",{}]`, i))
		}
		synctest.Wait()
		require.InDelta(t, (n-50)/10, time.Since(began).Seconds(), 2)
		require.Len(t, ann.of("phx_reply"), n+1, "and none is lost")
		bob.do("sales", "input", `{}`)
		// Who ends meanwhile is not waited for.
		for range 3 {
			ann.say(`[null,null,"phoenix","heartbeat",{}]`)
		}
		require.NoError(t, w.handler.Close())
	})
}

func TestTenThousandTopics(t *testing.T) {
	bubble(t, func(c *conf) { c.phoenix.MessagesPerSecond = 1e6 }, func(t *testing.T, w *world) {
		guest := w.open("token=guest:visitor")
		joined := 0
		for i := range 10_000 {
			if a := guest.join(fmt.Sprintf("topic-%d", i), `{}`); a.Status == "ok" {
				joined++
			} else {
				require.Equal(t, "limit", a.Response.Reason)
			}
			guest.mu.Lock()
			guest.frames = nil
			guest.mu.Unlock()
		}
		require.Equal(t, 32, joined)
	})
}

func TestSocketsAreCounted(t *testing.T) {
	bubble(t, func(c *conf) { c.phoenix.MaxSockets, c.phoenix.MaxSocketsPerSubject = 3, 2 }, func(t *testing.T, w *world) {
		first := w.open("token=guest:visitor")
		w.open("token=guest:visitor")
		_, status, why := w.dial("token=guest:visitor")
		require.Equal(t, http.StatusTooManyRequests, status)
		require.Contains(t, why, "limit sockets: guest has 2 open")
		w.open("token=ann")
		_, status, _ = w.dial("token=bob")
		require.Equal(t, http.StatusServiceUnavailable, status)
		first.leave()
		w.open("token=guest:visitor")
		synctest.Wait()
		require.Equal(t, 3, w.handler.Sockets())
	})
}

// chatter gives bob, who is connected, another text each time it is called.
func (w *world) chatter() (another func() string) {
	w.t.Helper()
	_, err := w.tracker.Connect(w.t.Context(), presence.ID("bob"), presence.ConnectOptions{})
	require.NoError(w.t, err)
	n := 0
	return func() string {
		w.t.Helper()
		n++
		text := fmt.Sprintf("%d %s", n, strings.Repeat("x", 400))
		_, err := w.tracker.SetClaim(w.t.Context(), presence.Actor{Subject: presence.ID("crm"), Role: presence.RoleSystem}, presence.ID("bob"), presence.Claim{Status: "busy", Text: text})
		require.NoError(w.t, err)
		return text
	}
}

func TestSlowReaderIsSentTheState(t *testing.T) {
	bubble(t, func(c *conf) { c.tracker.WatchBuffer = 4 }, func(t *testing.T, w *world) {
		quick := w.enter("token=ann", "sales")
		slow := w.slow("token=ann")
		another, text := w.chatter(), ""
		for range 1000 {
			text = another()
			synctest.Wait()
		}
		require.Equal(t, text, quick.list("sales")["bob"][0]["text"])
		close(slow.gate)
		require.Equal(t, text, slow.list("sales")["bob"][0]["text"])
		require.Len(t, slow.of("presence_state"), 2)
		require.Less(t, len(slow.of("presence_diff")), 10, "what was missed is not made up for")
		another()
		require.Equal(t, quick.list("sales"), slow.list("sales"))
	})
}

// A client further behind than the room's log starts again.
func TestVerySlowReaderIsSentTheState(t *testing.T) {
	bubble(t, func(c *conf) { c.tracker.WatchBuffer = 1000 }, func(t *testing.T, w *world) {
		quick := w.enter("token=ann", "sales")
		slow := w.slow("token=ann")
		another := w.chatter()
		for range 600 {
			another()
			synctest.Wait()
		}
		close(slow.gate)
		require.Equal(t, quick.list("sales"), slow.list("sales"))
		require.Len(t, slow.of("presence_state"), 2)
		require.Less(t, len(slow.of("presence_diff")), 10)
		another()
		require.Equal(t, quick.list("sales"), slow.list("sales"))
	})
}

// What a client sends without waiting for the handshake is not lost.
func TestEarlyMessage(t *testing.T) {
	bubble(t, nil, func(t *testing.T, w *world) {
		conn, _ := w.connect(t.Context(), "", "")
		defer conn.Close()
		join := gobwas.MustCompileFrame(gobwas.MaskFrame(gobwas.NewTextFrame([]byte(`["1","1","sales","phx_join",{}]`))))
		go fmt.Fprintf(conn, "GET /socket/websocket?vsn=2.0.0&token=ann HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n%s", join)
		in := bufio.NewReader(conn)
		response, err := http.ReadResponse(in, nil)
		require.NoError(t, err)
		require.Equal(t, http.StatusSwitchingProtocols, response.StatusCode)
		c := &client{t: t, conn: conn, in: in, refs: 1, done: make(chan struct{}), lists: make(map[string]members), blinks: make(map[string]int)}
		go c.read()
		require.Equal(t, "available", c.status("sales", "ann"))
		c.do("sales", "input", `{}`)
	})
}

func TestStuckReaderIsLost(t *testing.T) {
	bubble(t, nil, func(t *testing.T, w *world) {
		stuck, _, _ := w.dial("token=ann")
		go func() { _ = stuck.send(gobwas.OpText, true, `["1","1","sales","phx_join",{}]`) }()
		synctest.Wait()
		require.Equal(t, "available", w.get("ann").Status)
		time.Sleep(11 * time.Second)
		synctest.Wait()
		require.Zero(t, w.handler.Sockets())
		require.Equal(t, presence.ReachLingering, reach(w, "ann"))
	})
}

// Ids that mean something to JavaScript do not reach it as they are.
func TestHostileIds(t *testing.T) {
	bubble(t, nil, func(t *testing.T, w *world) {
		guest := w.enter("token=guest:visitor", "sales")
		keys := map[string]string{
			"__proto__": "~__proto__", "constructor": "~constructor", "~constructor": "~~constructor", "toString": "~toString",
			"length": "length", `"]}`: `"]}`, "</script>": "</script>", "~x": "~x", "ünï": "ünï",
		}
		seen := make(map[string]bool)
		for id, key := range keys {
			w.grant(id, "sales")
			_, err := w.tracker.Connect(t.Context(), presence.ID(id), presence.ConnectOptions{})
			require.NoError(t, err)
			require.Equal(t, key, phoenix.Key(presence.ID(id)))
			require.False(t, seen[key])
			seen[key] = true
		}
		list := guest.list("sales")
		require.Len(t, list, len(keys))
		for id, key := range keys {
			require.Equal(t, id, list[key][0]["id"])
		}
		require.Equal(t, w.expected("sales", presence.AudienceVisitor, false), list)
	})
}

// Hidden from visitors is, to the byte, gone for them.
func TestHiddenIsGone(t *testing.T) {
	run := func(t *testing.T, act func(*client)) (raw []string) {
		bubble(t, func(c *conf) {
			p := presence.DefaultPolicy()
			p.Statuses = append(p.Statuses, presence.Status{ID: "invisible", Class: presence.ClassAvailable, HiddenFrom: []presence.Audience{presence.AudienceVisitor}})
			c.tracker.Policy = &p
		}, func(t *testing.T, w *world) {
			guest := w.enter("token=guest:visitor", "sales")
			ann := w.enter("token=ann", "sales")
			time.Sleep(time.Second)
			act(ann)
			require.Empty(t, guest.status("sales", "ann"))
			for _, f := range guest.frames {
				raw = append(raw, f.raw)
			}
		})
		return raw
	}
	hidden := run(t, func(ann *client) {
		ann.do("sales", "claim", `{"status":"invisible"}`)
		ann.do("sales", "input", `{}`)
		ann.do("sales", "claim", `{"status":"invisible","text":"psst"}`)
	})
	gone := run(t, func(ann *client) { ann.do("sales", "logout", `{}`) })
	require.Equal(t, gone, hidden)
}

// After random acts every client holds what the core shows its audience.
func TestRandomScripts(t *testing.T) {
	for dialect, topic := range map[phoenix.Dialect]string{phoenix.Phoenix: "sales", phoenix.Supabase: "realtime:sales"} {
		for _, seed := range seeds.List(t, 30) {
			t.Run(fmt.Sprintf("%d-%d", dialect, seed), func(t *testing.T) {
				bubble(t, func(c *conf) {
					c.phoenix.Dialect, c.phoenix.Absent, c.tracker.WatchBuffer = dialect, seed%3 == 0, 2+int(seed%5)
				}, func(t *testing.T, w *world) { w.play(rand.New(rand.NewPCG(seed, 1)), dialect, topic, seed%3 == 0) })
			})
		}
	}
}

func (w *world) play(r *rand.Rand, dialect phoenix.Dialect, topic string, absent bool) {
	enter := func(token string) *client {
		c := w.open("token=" + token + "&apikey=" + token)
		c.quirk = dialect == phoenix.Supabase
		a := c.join(topic, `{}`)
		require.Equal(w.t, "ok", a.Status, a.Response.Message)
		return c
	}
	watchers := map[presence.Audience]*client{
		presence.AudienceVisitor: enter("guest:visitor"), presence.AudienceSupervisor: enter("eve:supervisor"), presence.AudienceTeam: enter("bob"),
	}
	ids := []string{"ann", "cyd", "dan"}
	conns := make(map[string][]*presence.Conn)
	for range 120 {
		id := ids[r.IntN(len(ids))]
		n := len(conns[id])
		switch roll := r.IntN(10); {
		case roll < 3 && n < 3:
			c, err := w.tracker.Connect(w.t.Context(), presence.ID(id), presence.ConnectOptions{Device: []string{"", "mobile"}[r.IntN(2)]})
			require.NoError(w.t, err)
			conns[id] = append(conns[id], c)
		case roll < 5 && n > 0:
			c := conns[id][n-1]
			conns[id] = conns[id][:n-1]
			_ = c.Leave([]presence.Cause{presence.CauseClosed, presence.CauseLost, presence.CauseLogout}[r.IntN(3)])
		case roll < 7 && n > 0:
			_, _ = conns[id][0].Claim(w.t.Context(), presence.Claim{Status: []string{"available", "busy", "away"}[r.IntN(3)], For: time.Duration(r.IntN(3)) * time.Minute})
		case roll == 7:
			w.grant(id, "sales")
		case roll == 8 && r.IntN(3) == 0 && w.get(id).Status != presence.StatusUnknown:
			require.NoError(w.t, w.tracker.RemoveMember(w.t.Context(), presence.ChannelID("sales"), presence.ID(id)))
		default:
			time.Sleep(time.Duration(r.IntN(8000)) * time.Millisecond)
			for _, list := range conns {
				for _, c := range list {
					_ = c.Heartbeat()
				}
			}
			for _, c := range watchers {
				c.push("", "phoenix", "heartbeat", "{}")
			}
		}
		if r.IntN(2) == 0 {
			synctest.Wait()
		}
	}
	for a, c := range watchers {
		require.Equal(w.t, w.expected("sales", a, absent), c.list(topic), a)
	}
}

// FuzzMessages sends arbitrary messages. The socket answers or closes, and
// other sockets continue.
func FuzzMessages(f *testing.F) {
	for _, data := range []string{
		`["1","1","sales","phx_join",{}]`, `["1","2","sales","phx_leave",{}]`, `[null,"3","phoenix","heartbeat",{}]`,
		`["1","4","sales","claim",{"status":"busy","for":1e308,"text":"\u0000"}]`, `["1","5","sales","input",{"idle":-0.5}]`,
		`["1","6","__proto__","phx_join",{"payload":{"payload":{"payload":null}}}]`, `["1",null,"sales","phx_join",null]`,
		`["1","7","realtime:sales","presence",{"event":"track","payload":{"status":{}}}]`, `["1","8","sales","access_token",{"access_token":"bob"}]`,
		"\x03\x01\x02\x0e\x05\x00\x01", "\x00\x01\x01\x05\x0511salesshout", `[`, "\xff",
	} {
		f.Add(data, false, data)
		f.Add(data, true, data)
	}
	f.Fuzz(func(t *testing.T, first string, binary bool, second string) {
		for _, dialect := range []phoenix.Dialect{phoenix.Phoenix, phoenix.Supabase} {
			bubble(t, func(c *conf) { c.phoenix.Dialect = dialect }, func(t *testing.T, w *world) {
				c := w.open("token=ann&apikey=ann")
				op := gobwas.OpText
				if binary {
					op = gobwas.OpBinary
				}
				_ = c.send(op, true, first)
				synctest.Wait()
				_ = c.send(gobwas.OpText, true, second)
				synctest.Wait()
				for _, f := range c.frames {
					require.True(t, json.Valid([]byte(f.raw)) || f.event == "pong")
				}
				bob := w.enter("token=bob&apikey=bob", "realtime:sales"[9*(1-int(dialect)):])
				bob.push("", "phoenix", "heartbeat", "{}")
			})
		}
	})
}
