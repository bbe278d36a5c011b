package pusher_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/presence-go/presence"
	"github.com/presence-go/presence/adapters/pusher"
	"github.com/presence-go/presence/preset"
)

func TestSocketsThatAreNotServed(t *testing.T) {
	second := pusher.App{ID: "4", Key: "second", Secret: "s", MaxConnections: 1, AllowedOrigins: []string{"https://App.example.com"}}
	inWorld(t, func(c *conf) { c.pusher.Apps = append(c.pusher.Apps, second) }, func(w *world) {
		for path, code := range map[string]int{
			"/app/unknown?protocol=7":               4001,
			"/app/" + app.Key + "/more?protocol=7":  4005,
			"/other?protocol=7":                     4005,
			"/app/" + app.Key:                       4008,
			"/app/" + app.Key + "?protocol=seven":   4006,
			"/app/" + app.Key + "?protocol=4":       4007,
			"/app/" + app.Key + "?protocol=8":       4007,
			"/app/" + app.Key + "?protocol=7":       0,
			"/app/" + app.Key + "?protocol=5":       0,
			"/app/" + app.Key + "?protocol=6&x=y":   0,
			"/app/" + app.Key + "?protocol=7&flash": 0,
		} {
			c := w.dial(path, "Origin", "http://host")
			if code == 0 {
				require.Equal(t, []string{"pusher:connection_established"}, c.events(), path)
				continue
			}
			require.Equal(t, code, c.closed(), path)
			require.Equal(t, code, one(t, c.take()).code(t), path)
		}
		for origin, code := range map[string]int{
			"https://app.example.com": 0, "https://app.example.com:8443": 4009, "http://app.example.com": 4009,
			"https://app.example.com.evil": 4009, "null": 4009, "https://a@app.example.com": 4009,
		} {
			c := w.dial("/app/second?protocol=7", "Origin", origin)
			if code == 0 {
				require.Equal(t, []string{"pusher:connection_established"}, c.events(), origin)
				require.Equal(t, 4004, w.dial("/app/second?protocol=7").closed(), "its only connection")
				c.leave()
				continue
			}
			require.Equal(t, code, c.closed(), origin)
		}
		require.Equal(t, []string{"pusher:connection_established"}, w.dial("/app/second?protocol=7").events(), "there is room again, and no page asks")
	})
}

func TestSocketsInAllAreBounded(t *testing.T) {
	inWorld(t, func(c *conf) { c.pusher.MaxSockets = 2 }, func(w *world) {
		first, _ := w.open(), w.open()
		status, body := w.get("/app/"+app.Key+"?protocol=7", "Upgrade", "websocket", "Connection", "Upgrade", "Sec-WebSocket-Version", "13", "Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")
		require.Equal(t, 503, status, body)
		first.leave()
		w.open()
		require.Equal(t, 2, w.handler.Sockets())
	})
}

func TestSigningIn(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		bob := w.enter("bob", "presence-sales")
		c := w.open()
		auth, err := app.SignIn(c.id, pusher.User{ID: "ann", Info: json.RawMessage(`{"name":"Ann"}`)})
		require.NoError(t, err)
		c.send("pusher:signin", "", map[string]string{"auth": auth.Auth, "user_data": auth.UserData})
		got := one(t, c.take())
		require.Equal(t, "pusher:signin_success", got.Event)
		var answer struct {
			UserData string `json:"user_data"`
		}
		got.data(t, &answer)
		require.Equal(t, auth.UserData, answer.UserData)
		require.Equal(t, "Ann", bob.info("presence-sales", "ann")["name"], "who signs in is there")

		c.subscribe("#server-to-user-ann", "")
		c.subscribe("presence-sales", "") // as who signed in
		require.Equal(t, []string{"pusher_internal:subscription_succeeded #server-to-user-ann", "pusher_internal:subscription_succeeded presence-sales"}, c.events())
		require.Equal(t, []string{"ann", "bob"}, c.ids("presence-sales"))
		c.subscribe("#server-to-user-bob", "")
		require.Equal(t, 403, one(t, c.take()).status(t))
		require.NoError(t, w.handler.Trigger(app.ID, pusher.Event{Name: "hello", Channels: []string{"#server-to-user-ann"}, Data: `"x"`}))
		require.Equal(t, []string{"hello #server-to-user-ann"}, c.events())

		c.send("pusher:unsubscribe", "", map[string]string{"channel": "presence-sales"})
		w.pass(10 * time.Second)
		require.Equal(t, []string{"ann", "bob"}, bob.ids("presence-sales"), "she is still signed in")
		require.NoError(t, w.handler.Terminate(app.ID, "ann"))
		require.Equal(t, 4009, c.closed())
		require.Equal(t, []string{"bob"}, bob.ids("presence-sales"))
	})
}

func TestSigningInWrongly(t *testing.T) {
	for name, data := range map[string]func(*client) any{
		"another secret": func(c *client) any {
			return map[string]string{"auth": app.Key + ":00", "user_data": `{"id":"ann"}`}
		},
		"no id":                          func(c *client) any { return signIn(c, `{"name":"Ann"}`) },
		"an empty id":                    func(c *client) any { return signIn(c, `{"id":""}`) },
		"no JSON":                        func(c *client) any { return signIn(c, `ann`) },
		"no data":                        func(c *client) any { return 7 },
		"an id that clients cannot hold": func(c *client) any { return signIn(c, `{"id":"__proto__"}`) },
		"as another user": func(c *client) any {
			for range 2 { // the second time nothing changes
				c.send("pusher:signin", "", signIn(c, `{"id":"ann"}`))
				require.Equal(c.t, []string{"pusher:signin_success"}, c.events())
			}
			return signIn(c, `{"id":"bob"}`)
		},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, nil, func(w *world) {
				c := w.open()
				c.send("pusher:signin", "", data(c))
				require.Equal(t, 4009, one(t, c.take()).code(t))
				require.Equal(t, 4009, c.closed())
			})
		})
	}
}

func signIn(c *client, data string) map[string]string {
	return map[string]string{"auth": c.w.sign(c.id + "::user::" + data), "user_data": data}
}

func TestClientEvents(t *testing.T) {
	inWorld(t, func(c *conf) { c.pusher.MessagesPerSecond = 1e6; c.pusher.Burst = 1e6 }, func(w *world) {
		ann, bob, visitor := w.enter("ann", "presence-sales"), w.enter("bob", "presence-sales"), w.enter("visitor-1", "presence-sales")
		for _, c := range []*client{ann, bob} {
			c.subscribe("private-a", "")
			c.subscribe("news", "")
			c.take()
		}
		visitor.take()
		ann.send("client-typing", "presence-sales", map[string]any{"to": "you"})
		got := one(t, bob.take())
		require.Equal(t, message{Event: "client-typing", Channel: "presence-sales", Data: json.RawMessage(`{"to":"you"}`), UserID: "ann"}, got)
		require.Equal(t, got, one(t, visitor.take()))
		require.Empty(t, ann.take(), "not to itself")
		ann.send("client-x", "private-a", "text")
		require.Equal(t, message{Event: "client-x", Channel: "private-a", Data: json.RawMessage(`"text"`)}, one(t, bob.take()))
		require.Empty(t, visitor.take())

		w.pass(time.Second)
		for channel, event := range map[string]string{
			"news": "client-x", "private-b": "client-x", "": "client-x", "private-a": "client-" + strings.Repeat("x", 194),
		} {
			ann.send(event, channel, 1)
			require.Equal(t, 4301, one(t, ann.take()).code(t), channel)
		}
		ann.send("client-x", "private-a", strings.Repeat("x", 10<<10))
		require.Equal(t, 4301, one(t, ann.take()).code(t))
		require.Empty(t, bob.take())

		for range 12 {
			ann.send("client-x", "private-a", 1)
		}
		refused := ann.take()
		require.Len(t, refused, 2, "ten a second")
		require.Equal(t, 4301, refused[0].code(t))
		require.Len(t, bob.take(), 10)
		w.pass(100 * time.Millisecond)
		ann.send("client-x", "private-a", 1)
		require.Empty(t, ann.take())
	})
}

func TestClientEventsCanBeRefusedAndUnderstood(t *testing.T) {
	var heard []string
	inWorld(t, func(c *conf) {
		c.pusher.ClientEvent = func(_ context.Context, e pusher.ClientEvent) error {
			heard = append(heard, e.Channel+" "+e.Name+" "+string(e.Data))
			if e.Conn == nil {
				return errors.New("not here")
			}
			return e.Conn.Input()
		}
	}, func(w *world) {
		ann := w.enter("ann", "presence-sales")
		w.pass(6 * time.Minute)
		require.Equal(t, "away", ann.info("presence-sales", "ann")["status"])
		ann.take()
		ann.send("client-input", "presence-sales", map[string]any{})
		require.Equal(t, []string{"pusher_internal:member_added presence-sales"}, ann.events())
		require.Equal(t, "available", ann.info("presence-sales", "ann")["status"])
		ann.subscribe("private-a", "")
		ann.take()
		ann.send("client-x", "private-a", 1)
		require.Equal(t, 4301, one(t, ann.take()).code(t))
		require.Equal(t, []string{"presence-sales client-input {}", "private-a client-x 1"}, heard)
	})
	inWorld(t, func(c *conf) { c.pusher.Apps[0].NoClientEvents = true }, func(w *world) {
		ann := w.enter("ann", "presence-sales")
		ann.send("client-x", "presence-sales", 1)
		require.Equal(t, 4301, one(t, ann.take()).code(t))
	})
}

func TestWhatAHiddenMemberSaysIsKeptFromThoseItHidesFrom(t *testing.T) {
	tawkto := preset.TawkTo()
	inWorld(t, func(c *conf) { c.tracker.Policy = &tawkto }, func(w *world) {
		ann, bob, visitor := w.enter("ann", "presence-sales"), w.enter("bob", "presence-sales"), w.enter("visitor-1", "presence-sales")
		state, err := w.tracker.State(w.t.Context(), presence.ID("ann"))
		require.NoError(t, err)
		_, err = w.tracker.SetClaim(w.t.Context(), presence.Agent(presence.ID("ann")), presence.ID("ann"), presence.Claim{Status: "invisible", Conn: one(t, state.Conns).ID})
		require.NoError(t, err)
		require.Equal(t, []string{"bob"}, visitor.ids("presence-sales"))
		require.Equal(t, []string{"ann", "bob"}, bob.ids("presence-sales"))
		visitor.take()
		bob.take()
		ann.send("client-typing", "presence-sales", map[string]any{})
		require.Equal(t, []string{"client-typing presence-sales"}, bob.events())
		require.Empty(t, visitor.events())
	})
}

func TestCacheChannels(t *testing.T) {
	inWorld(t, func(c *conf) { c.pusher.MaxCached = 2 }, func(w *world) {
		trigger := func(channel, data string) {
			require.NoError(t, w.handler.Trigger(app.ID, pusher.Event{Name: "e", Channels: []string{channel}, Data: data}))
		}
		c := w.open()
		c.subscribe("cache-a", "")
		require.Equal(t, []string{"pusher_internal:subscription_succeeded cache-a", "pusher:cache_miss cache-a"}, c.events())
		trigger("cache-a", `"1"`)
		trigger("cache-a", `"2"`)
		require.Equal(t, []string{"e cache-a", "e cache-a"}, c.events())
		last := func(channel string) string {
			c := w.open()
			c.subscribe(channel, "ann")
			got := c.take()
			require.Len(t, got, 2)
			if got[1].Event == "pusher:cache_miss" {
				return ""
			}
			var text string
			got[1].data(t, &text)
			return text
		}
		require.Equal(t, "2", last("cache-a"))
		w.pass(29*time.Minute + 59*time.Second)
		require.Equal(t, "2", last("cache-a"))
		w.pass(time.Second)
		require.Empty(t, last("cache-a"))

		w.grant("ann", "room")
		trigger("presence-cache-room", `"r"`)
		require.Equal(t, "r", last("presence-cache-room"))
		w.pass(time.Second)
		trigger("private-cache-b", `"b"`)
		w.pass(time.Second)
		trigger("cache-c", `"c"`)
		require.Empty(t, last("presence-cache-room"), "the oldest had to go")
		require.Equal(t, "b", last("private-cache-b"))
		require.Equal(t, "c", last("cache-c"))
	})
}

// An event that a backend triggers as soon as a client can know of its subscription
// reaches the client, after the answer.
func TestNoEventIsLostBehindTheAnswerToASubscription(t *testing.T) {
	for _, channel := range []string{"news", "private-a", "presence-sales", "cache-a", "private-cache-a", "presence-cache-sales"} {
		inWorld(t, nil, func(w *world) {
			triggered := 0
			w.net.wrote = func(b []byte) {
				if !bytes.Contains(b, []byte("subscription_succeeded")) {
					return
				}
				triggered++
				require.NoError(t, w.handler.Trigger(app.ID, pusher.Event{Name: "e", Channels: []string{channel}, Data: "1"}))
			}
			ann := w.open()
			user := ""
			if strings.HasPrefix(channel, "presence-") {
				user = "ann"
			}
			ann.subscribe(channel, user)
			got := slices.DeleteFunc(ann.events(), func(e string) bool { return strings.HasPrefix(e, "pusher:cache_miss") })
			require.Equal(t, []string{"pusher_internal:subscription_succeeded " + channel, "e " + channel}, got)
			require.Equal(t, 1, triggered)
		})
	}
}

func TestTriggering(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		a, b := w.open(), w.open()
		for _, c := range []*client{a, b} {
			c.subscribe("one", "")
			c.subscribe("two", "")
			c.take()
		}
		require.NoError(t, w.handler.Trigger(app.ID, pusher.Event{Name: "e", Channels: []string{"one", "two", "three"}, Data: `{"x":"<"}`, Except: b.id}))
		require.Empty(t, b.take())
		got := a.take()
		require.Len(t, got, 2)
		require.Equal(t, message{Event: "e", Channel: "one", Data: json.RawMessage(`"{\"x\":\"\u003c\"}"`)}, got[0])
		for name, wrong := range map[string]struct {
			event pusher.Event
			is    error
		}{
			"no name":       {pusher.Event{Channels: []string{"one"}}, presence.ErrInvalid},
			"a long name":   {pusher.Event{Name: strings.Repeat("e", 201), Channels: []string{"one"}}, presence.ErrInvalid},
			"no channels":   {pusher.Event{Name: "e"}, presence.ErrInvalid},
			"many channels": {pusher.Event{Name: "e", Channels: make([]string, 101)}, presence.ErrInvalid},
			"a bad channel": {pusher.Event{Name: "e", Channels: []string{"one", "a b"}}, presence.ErrInvalid},
			"long data":     {pusher.Event{Name: "e", Channels: []string{"one"}, Data: strings.Repeat("x", 10241)}, presence.ErrLimit},
		} {
			require.ErrorIs(t, w.handler.Trigger(app.ID, wrong.event), wrong.is, name)
		}
		require.ErrorIs(t, w.handler.Trigger("5", pusher.Event{}), presence.ErrUnknown)
		require.ErrorIs(t, w.handler.Terminate("5", "ann"), presence.ErrUnknown)
		require.Empty(t, a.take())
	})
}

func TestFaultsOfOptionsAreReportedTogether(t *testing.T) {
	tracker, err := presence.New(nil)
	require.NoError(t, err)
	defer tracker.Close()
	_, err = pusher.New(nil, &pusher.Options{MaxMessage: 1, Audience: "all"})
	require.ErrorIs(t, err, presence.ErrInvalid)
	for _, text := range []string{"invalid tracker", `"MaxMessage": 1`, `"Apps": at least one`, `"Audience": "all"`} {
		require.ErrorContains(t, err, text)
	}
	_, err = pusher.New(tracker, &pusher.Options{
		PingInterval: time.Minute, WriteTimeout: -1, ActivityTimeout: time.Millisecond,
		Apps: []pusher.App{
			{ID: "1", Key: "k"},
			{ID: "1", Key: "k", Secret: "s", MaxConnections: -1, AllowedOrigins: []string{"https://a/b"}, Webhooks: []pusher.Webhook{{URL: "ftp://x"}, {URL: "https://x", Events: []string{"gone"}}}},
		},
	})
	for _, text := range []string{
		`"Apps[0].Secret": it is needed`, `"Apps[0].Tenant": the PingInterval of 1m0s`, `"WriteTimeout": -1ns`, `"ActivityTimeout": 1ms`, `"Apps[1].ID"`, `"Apps[1].Key"`,
		`"Apps[1].MaxConnections": -1`, `"Apps[1].AllowedOrigins[0]": "https://a/b"`, `"Apps[1].Webhooks[0].URL"`, `"Apps[1].Webhooks[1].Events": "gone"`,
	} {
		require.ErrorContains(t, err, text)
	}
	require.NotContains(t, fmt.Sprint(err), "Apps[0].ID")
}

func TestShutdown(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		ann := w.enter("ann", "presence-sales")
		require.NoError(t, w.handler.Shutdown(w.t.Context()))
		require.Equal(t, 4200, ann.closed())
		require.Zero(t, w.handler.Sockets())
		require.ErrorIs(t, w.handler.Shutdown(w.t.Context()), presence.ErrClosed)
		require.ErrorIs(t, w.handler.Close(), presence.ErrClosed)
		status, _ := w.get("/app/"+app.Key+"?protocol=7", "Upgrade", "websocket", "Connection", "Upgrade", "Sec-WebSocket-Version", "13", "Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")
		require.Equal(t, 503, status)
		state, err := w.tracker.State(w.t.Context(), presence.ID("ann"))
		require.NoError(t, err)
		require.Equal(t, presence.CauseDrain, one(t, state.Conns).Cause)
	})
}
