package pusher_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	gobwas "github.com/gobwas/ws"
	"github.com/stretchr/testify/require"

	"github.com/presence-go/presence"
	"github.com/presence-go/presence/adapters/pusher"
)

// texts returns the raw messages since the last call of take.
func (c *client) texts() []string {
	n := len(c.take())
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.raw[len(c.raw)-n:]
}

// join subscribes as a user with channel_data as given.
func (c *client) join(channel, data string) {
	c.t.Helper()
	c.send("pusher:subscribe", "", map[string]string{"channel": channel, "channel_data": data, "auth": c.w.sign(c.id + ":" + channel + ":" + data)})
}

// TestForms is about each message that the server sends, to the byte (fault 30).
func TestForms(t *testing.T) {
	h := &hook{t: t}
	inWorld(t, func(c *conf) {
		c.pusher.Apps[0].Webhooks = []pusher.Webhook{{URL: "https://x.example", Client: &http.Client{Transport: h}, Events: []string{"member_added", "member_removed", "client_event"}}}
	}, func(w *world) {
		for _, id := range []string{"1", "2"} {
			w.grant(id, "desk")
		}
		c := w.open()
		require.JSONEq(t, `{"event":"pusher:connection_established","data":"{\"socket_id\":\"`+c.id+`\",\"activity_timeout\":30}"}`, c.raw[0])
		says := func(c *client, want ...string) {
			t.Helper()
			require.Equal(t, want, c.texts())
		}
		c.send("pusher:ping", "", nil)
		says(c, `{"event":"pusher:pong"}`)
		w.pass(25 * time.Second)
		says(c, `{"event":"pusher:ping"}`)
		c.subscribe("cache-x", "")
		says(c, `{"event":"pusher_internal:subscription_succeeded","channel":"cache-x","data":"{}"}`, `{"event":"pusher:cache_miss","channel":"cache-x"}`)

		c.join("presence-desk", `{"user_id":1,"user_info":{"name":"One"}}`)
		c.take()
		other := w.open()
		other.join("presence-desk", `{"user_id":2}`)
		seen := `\"status\":\"available\",\"class\":\"available\",\"label\":\"Available\",\"color\":\"#2e9e5b\",\"since\":\"2000-01-01T00:00:25Z\"`
		says(other, `{"event":"pusher_internal:subscription_succeeded","channel":"presence-desk","data":"{\"presence\":{\"count\":2,\"ids\":[1,2],\"hash\":{`+
			`\"1\":{\"id\":1,\"name\":\"One\",`+seen+`},\"2\":{`+seen+`,\"id\":2}}}}"}`)
		says(c, `{"event":"pusher_internal:member_added","channel":"presence-desk","data":"{\"user_id\":2,\"user_info\":{`+seen+`,\"id\":2}}"}`)
		other.send("client-x", "presence-desk", map[string]int{"a": 1})
		says(c, `{"event":"client-x","channel":"presence-desk","data":{"a":1},"user_id":2}`)
		other.leave()
		w.pass(5 * time.Second)
		says(c, `{"event":"pusher_internal:member_removed","channel":"presence-desk","data":"{\"user_id\":2}"}`)
		require.Equal(t, []string{
			`{"name":"member_added","channel":"presence-desk","user_id":"1"}`,
			`{"name":"member_added","channel":"presence-desk","user_id":"2"}`,
			`{"name":"client_event","channel":"presence-desk","event":"client-x","data":"{\"a\":1}","socket_id":"` + other.id + `","user_id":"2"}`,
			`{"name":"member_removed","channel":"presence-desk","user_id":"2"}`,
		}, h.take(), "libraries of backends read ids as text")
		_, users := w.call("GET", "/apps/3/channels/presence-desk/users", "", "")
		require.Equal(t, `{"users":[{"id":"1"}]}`, users)

		c.send("message", "cache-x", 1)
		said := one(t, c.take())
		require.Zero(t, said.code(t), "null")
		require.Equal(t, "cache-x", said.Channel)
		c.say("[")
		said = one(t, c.take())
		require.Zero(t, said.code(t))
		require.Empty(t, said.Channel)
	})
}

// TestIDsKeepTheirForm is about every id that an app may sign: a client in
// JavaScript finds each member of its list under the id of later messages.
func TestIDsKeepTheirForm(t *testing.T) {
	for signed, want := range map[string]string{
		`2`: `2`, `0`: `0`, `-7`: `-7`, `"2"`: `"2"`, `"ann"`: `"ann"`, `"\u0061nn"`: `"ann"`,
		`9007199254740991`: `9007199254740991`, `-9007199254740991`: `-9007199254740991`,
		// A client would read other numbers than these, and -0 as 0.
		`9007199254740993`: `"9007199254740993"`, `12345678901234567890`: `"12345678901234567890"`, `-0`: `"-0"`,
	} {
		for _, roster := range []bool{false, true} {
			t.Run(fmt.Sprint(signed, "/roster=", roster), func(t *testing.T) {
				inWorld(t, func(c *conf) { c.pusher.Roster = roster }, func(w *world) {
					id := strings.Trim(want, `"`)
					w.grant(id, "desk")
					visitor := w.enter("visitor-1", "presence-desk")
					c := w.open()
					c.join("presence-desk", `{"user_id":`+signed+`}`)
					got := one(t, c.take())
					var list struct {
						Presence struct {
							IDs  []json.RawMessage          `json:"ids"`
							Hash map[string]json.RawMessage `json:"hash"`
						} `json:"presence"`
					}
					got.data(t, &list)
					require.Equal(t, want, string(one(t, list.Presence.IDs)))
					require.Contains(t, list.Presence.Hash, id)
					ids := func() []string {
						var ids []string
						for _, m := range visitor.take() {
							var data struct {
								UserID   json.RawMessage `json:"user_id"`
								UserInfo struct {
									ID json.RawMessage `json:"id"`
								} `json:"user_info"`
							}
							m.data(t, &data)
							if data.UserInfo.ID != nil {
								require.Equal(t, want, string(data.UserInfo.ID))
							}
							ids = append(ids, string(data.UserID))
						}
						return ids
					}
					require.Equal(t, []string{want}, ids())
					w.claim(id, "busy")
					require.Equal(t, []string{want}, ids())
					c.leave()
					w.pass(5 * time.Second)
					require.Equal(t, []string{want}, ids())
				})
			})
		}
	}
}

// ends are the ways in which the server ends a socket, by close code.
func ends() map[int]func(*world) *client {
	return map[int]func(*world) *client{
		4001: func(w *world) *client { return w.dial("/app/unknown?protocol=7") },
		4004: func(w *world) *client {
			w.open()
			return w.dial("/app/" + app.Key + "?protocol=7")
		},
		4005: func(w *world) *client { return w.dial("/elsewhere?protocol=7") },
		4006: func(w *world) *client { return w.dial("/app/" + app.Key + "?protocol=x") },
		4007: func(w *world) *client { return w.dial("/app/" + app.Key + "?protocol=4") },
		4008: func(w *world) *client { return w.dial("/app/" + app.Key) },
		4009: func(w *world) *client {
			c := w.enter("ann", "presence-sales")
			require.NoError(w.t, w.handler.Terminate(app.ID, "ann"))
			return c
		},
		4100: func(w *world) *client {
			c := w.open()
			for range 20 {
				c.say("[")
			}
			return c
		},
		4200: func(w *world) *client {
			c := w.open()
			require.NoError(w.t, w.handler.Shutdown(w.t.Context()))
			return c
		},
		4201: func(w *world) *client {
			c := w.open()
			c.mu.Lock()
			c.mute = true
			c.mu.Unlock()
			w.pass(time.Hour)
			return c
		},
		1002: func(w *world) *client {
			c := w.open()
			_, err := c.conn.Write([]byte("\xf1\x80\x00\x00\x00\x00")) // with reserved bits
			require.NoError(w.t, err)
			return c
		},
		1009: func(w *world) *client {
			c := w.open()
			require.NoError(w.t, c.write(gobwas.NewTextFrame(make([]byte, 20<<10))))
			return c
		},
	}
}

// TestRefusalsSayWhy is about every close code of the protocol: an error with
// the same code precedes it. Codes of the WebSocket have none.
func TestRefusalsSayWhy(t *testing.T) {
	for code, end := range ends() {
		t.Run(fmt.Sprint(code), func(t *testing.T) {
			inWorld(t, func(c *conf) {
				c.pusher.Apps = []pusher.App{app}
				if code == 4004 {
					c.pusher.Apps[0].MaxConnections = 1
				}
			}, func(w *world) {
				c := end(w)
				require.Equal(t, code, c.closed())
				c.mu.Lock()
				var last message
				require.NoError(t, json.Unmarshal([]byte(c.raw[len(c.raw)-1]), &last))
				c.mu.Unlock()
				if code < 4000 {
					require.Equal(t, "pusher:connection_established", last.Event)
					return
				}
				require.Equal(t, code, last.code(t))
				require.Empty(t, last.Channel)
			})
		})
	}
	inWorld(t, nil, func(w *world) {
		c := w.open()
		require.NoError(t, c.write(gobwas.NewCloseFrame(gobwas.NewCloseFrameBody(4001, "mine"))))
		require.Equal(t, 4001, c.closed(), "who closes gets the code back")
		require.Empty(t, c.take(), "and no error")
	})
}

// TestErrorsOfClientEventsNameTheChannel is about every way in which a client
// event is refused.
func TestErrorsOfClientEventsNameTheChannel(t *testing.T) {
	inWorld(t, func(c *conf) {
		c.pusher.ClientEvent = func(_ context.Context, e pusher.ClientEvent) error {
			if e.Name == "client-no" {
				return presence.ErrNotAllowed
			}
			return nil
		}
	}, func(w *world) {
		c, visitor := w.enter("ann", "presence-sales"), w.enter("visitor-1", "presence-sales")
		for _, name := range []string{"news", "private-a", "private-encrypted-a"} {
			c.subscribe(name, "")
		}
		c.take()
		visitor.take()
		for _, wrong := range []struct {
			from           *client
			event, channel string
			data           any
		}{
			{c, "client-x", "news", 1},
			{c, "client-x", "private-encrypted-a", 1},
			{c, "client-x", "private-elsewhere", 1},
			{c, "client-x", "not a channel", 1},
			{c, "client-x", "", 1},
			{c, "client-no", "private-a", 1},
			{c, "client-" + string(make([]byte, 200)), "private-a", 1},
			{c, "client-x", "private-a", string(make([]byte, 2<<10))}, // six bytes each in JSON
			{visitor, "client-x", "presence-sales", 1},
		} {
			wrong.from.send(wrong.event, wrong.channel, wrong.data)
			got := one(t, wrong.from.take())
			require.Equal(t, 4301, got.code(t))
			require.Equal(t, wrong.channel, got.Channel)
		}
		w.pass(10 * time.Second)
		c.take()
		for range 11 {
			c.send("client-x", "private-a", 1)
		}
		got := one(t, c.take())
		require.Equal(t, 4301, got.code(t))
		require.Equal(t, "private-a", got.Channel)
	})
}
