package phoenix_test

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	gobwas "github.com/gobwas/ws"
	"github.com/stretchr/testify/require"

	"github.com/presence-go/presence"
	"github.com/presence-go/presence/adapters/internal/edge/edgetest"
	"github.com/presence-go/presence/adapters/phoenix"
)

func TestJoinSeeAndLeave(t *testing.T) {
	bubble(t, nil, func(t *testing.T, w *world) {
		bob := w.enter("token=bob", "sales")
		require.Equal(t, "available", bob.status("sales", "bob"), "who joins is there")
		require.Empty(t, bob.status("sales", "ann"), "who is not connected is not shown")
		ann := w.open("token=ann")
		a := ann.join("sales", `{}`)
		require.Equal(t, "ann", a.Response.Key)
		require.NotEmpty(t, a.Response.Conn)
		require.Equal(t, "available", a.Response.Statuses[0].ID)
		require.Equal(t, w.expected("sales", presence.AudienceTeam, false), bob.list("sales"))
		require.Equal(t, bob.list("sales"), ann.list("sales"))

		ann.leave()
		require.Equal(t, "available", bob.status("sales", "ann"), "for the grace of a closed page")
		w.pass(5 * time.Second)
		require.Empty(t, bob.status("sales", "ann"))
		require.JSONEq(t, `{"rung":"available","count":1}`, string(last(bob.of("presence_group")).payload))
	})
}

func last[T any](list []T) (v T) {
	if len(list) > 0 {
		v = list[len(list)-1]
	}
	return v
}

func TestStatusChangeIsOneDiff(t *testing.T) {
	bubble(t, nil, func(t *testing.T, w *world) {
		bob, ann := w.enter("token=bob", "sales"), w.enter("token=ann", "sales")
		before := len(bob.of("presence_diff"))
		ann.do("sales", "claim", `{"status":"busy","for":60000,"text":"back soon"}`)
		diffs := bob.of("presence_diff")[before:]
		require.Len(t, diffs, 1)
		require.Contains(t, string(diffs[0].payload), `"phx_ref_prev":`)
		require.Equal(t, "busy", bob.status("sales", "ann"))
		require.Equal(t, "back soon", bob.list("sales")["ann"][0]["text"])
		w.pass(time.Minute, ann, bob)
		require.Equal(t, "available", bob.status("sales", "ann"))
		ann.do("sales", "claim", `{"status":"busy"}`)
		ann.do("sales", "release", `{}`)
		require.Equal(t, "available", bob.status("sales", "ann"))
		require.Zero(t, bob.blinks["ann"], "never gone in between")
		ann.refused("unknown", ann.push("", "sales", "claim", `{"status":"asleep"}`))
		ann.refused("not-allowed", ann.push("", "sales", "claim", `{"status":"offline"}`))
		ann.refused("invalid", ann.push("", "sales", "claim", `{"status":"busy","for":-1}`))
		ann.refused("invalid", ann.push("", "sales", "claim", `[]`))
	})
}

func TestOneEntryADevice(t *testing.T) {
	bubble(t, nil, func(t *testing.T, w *world) {
		bob := w.enter("token=bob", "sales")
		guest := w.enter("token=guest:visitor", "sales")
		laptop := w.enter("token=ann", "sales")
		require.Len(t, bob.list("sales")["ann"], 1)
		seen := len(guest.of("presence_diff"))
		phone := w.enter("token=ann&device=mobile", "sales")
		require.Len(t, bob.list("sales")["ann"], 2)
		require.Contains(t, string(last(bob.of("presence_diff")).payload), `"leaves":{}`)
		require.NotContains(t, string(last(bob.of("presence_diff")).payload), `phx_ref_prev`)
		phone.do("sales", "claim", `{"status":"busy"}`)
		require.Equal(t, "busy", bob.status("sales", "ann"), "on both")
		require.Len(t, bob.list("sales")["ann"], 2)
		laptop.leave()
		require.Len(t, bob.list("sales")["ann"], 2, "for the grace")
		w.pass(5*time.Second, bob, phone, guest)
		require.Len(t, bob.list("sales")["ann"], 1)
		require.Zero(t, bob.blinks["ann"])
		require.Len(t, guest.list("sales")["ann"], 1, "visitors are not told of devices")
		require.Len(t, guest.of("presence_diff"), seen+1, "but of the status")
		require.Equal(t, w.expected("sales", presence.AudienceTeam, false), bob.list("sales"))
	})
}

func TestVisitorsWatchUnseen(t *testing.T) {
	bubble(t, nil, func(t *testing.T, w *world) {
		ann := w.enter("token=ann", "sales")
		guest := w.enter("token=guest:visitor", "sales")
		require.Equal(t, "available", guest.status("sales", "ann"))
		require.Equal(t, 1, len(ann.list("sales")))
		require.Equal(t, w.expected("sales", presence.AudienceVisitor, false), guest.list("sales"))
		for _, event := range []string{"claim", "release", "input", "focus", "logout"} {
			guest.refused("not-allowed", guest.push("", "sales", event, `{"status":"busy"}`))
		}
		guest.leave()
		require.Equal(t, 1, len(ann.list("sales")))
	})
}

func TestReloadIsNotSeen(t *testing.T) {
	for name, query := range map[string]string{"as the same connection": "token=ann&conn=tab-1", "as another one": "token=ann"} {
		t.Run(name, func(t *testing.T) {
			bubble(t, nil, func(t *testing.T, w *world) {
				bob := w.enter("token=bob", "sales")
				ann := w.enter(query, "sales")
				ann.do("sales", "claim", `{"status":"busy"}`)
				ann.leave()
				w.pass(2*time.Second, bob)
				ann = w.enter(query, "sales")
				require.Equal(t, "busy", bob.status("sales", "ann"))
				w.pass(20*time.Second, bob, ann)
				require.Equal(t, "busy", bob.status("sales", "ann"))
				require.Len(t, bob.list("sales")["ann"], 1)
				require.Zero(t, bob.blinks["ann"])
			})
		})
	}
}

func TestRejoinGivesTheSameRefs(t *testing.T) {
	bubble(t, nil, func(t *testing.T, w *world) {
		w.enter("token=ann", "sales")
		guest := w.enter("token=guest:visitor", "sales")
		first := last(guest.of("presence_state"))
		guest.leave()
		guest = w.enter("token=guest:visitor", "sales")
		require.Equal(t, string(first.payload), string(last(guest.of("presence_state")).payload))
	})
}

func TestLeavingATopicIsLeaving(t *testing.T) {
	bubble(t, nil, func(t *testing.T, w *world) {
		w.grant("ann", "support")
		bob := w.enter("token=bob", "sales")
		ann := w.enter("token=ann", "sales")
		require.Equal(t, "ok", ann.join("support", `{}`).Status)
		ann.do("sales", "phx_leave", `{}`)
		require.Equal(t, "sales", last(ann.of("phx_close")).topic)
		w.pass(20*time.Second, ann, bob)
		require.Equal(t, "available", bob.status("sales", "ann"), "still on another topic")
		n := len(ann.of("presence_diff"))
		bob.do("sales", "claim", `{"status":"busy"}`)
		require.Len(t, ann.of("presence_diff"), n, "what was left is not told any more")
		ann.do("support", "phx_leave", `{}`)
		w.pass(5*time.Second, bob)
		require.Empty(t, bob.status("sales", "ann"))
		ann.do("support", "phx_leave", `{}`) // again
		ann.refused("unknown", ann.push("", "support", "claim", `{"status":"busy"}`))
		require.Equal(t, "ok", ann.join("sales", `{}`).Status)
		require.Equal(t, "available", bob.status("sales", "ann"))
		ann.do("sales", "logout", `{}`)
		require.Empty(t, bob.status("sales", "ann"), "a logout has no grace")
	})
}

func TestJoinAgainReplacesTheFirst(t *testing.T) {
	bubble(t, nil, func(t *testing.T, w *world) {
		bob := w.enter("token=bob", "sales")
		ann := w.enter("token=ann", "sales")
		first := last(ann.of("presence_state")).joinRef
		require.Equal(t, "ok", ann.join("sales", `{}`).Status)
		require.Equal(t, first, last(ann.of("phx_close")).joinRef)
		require.NotEqual(t, first, last(ann.of("presence_state")).joinRef)
		ann.refused("unknown", ann.push(first, "sales", "input", `{}`))
		n := len(ann.of("presence_diff"))
		bob.do("sales", "claim", `{"status":"busy"}`)
		require.Equal(t, "busy", ann.status("sales", "bob"))
		require.Len(t, ann.of("presence_diff"), n+1, "told once")
		require.Zero(t, bob.blinks["ann"])
	})
}

func TestRefusedJoins(t *testing.T) {
	bubble(t, func(c *conf) {
		c.phoenix.MaxTopics = 2
		c.phoenix.Channel = func(topic string) string { id, _ := strings.CutPrefix(topic, "room:"); return strings.Trim(id, "-") }
	}, func(t *testing.T, w *world) {
		cyd := w.open("token=cyd")
		cyd.refused("not-allowed", cyd.join("sales", `{}`))
		require.Equal(t, "unknown", w.get("cyd").Status, "nobody comes by being refused")
		guest := w.open("token=guest:visitor")
		guest.refused("unknown", guest.join("---", `{}`))
		guest.refused("invalid", guest.join(strings.Repeat("x", 200), `{}`))
		require.Equal(t, "ok", guest.join("room:sales", `{}`).Status)
		require.Equal(t, "ok", guest.join("b", `{}`).Status)
		require.Contains(t, guest.refused("limit", guest.join("c", `{}`)), "limit topics: 2 are joined")
		require.Equal(t, "ok", guest.join("b", `{}`).Status, "again is not one more")
		guest.do("b", "phx_leave", `{}`)
		require.Equal(t, "ok", guest.join("c", `{}`).Status)
		guest.refused("unknown", guest.push("", "c", "shout", `{}`))
		guest.refused("unknown", guest.push("", "phoenix", "phx_join", `{}`))
	})
}

func TestGrantTakenAway(t *testing.T) {
	bubble(t, nil, func(t *testing.T, w *world) {
		ann := w.enter("token=ann", "sales")
		bob := w.enter("token=bob", "sales")
		require.NoError(t, w.tracker.RemoveMember(t.Context(), presence.ChannelID("sales"), presence.ID("ann")))
		f := last(ann.of("phx_close"))
		require.Equal(t, "sales", f.topic)
		require.Contains(t, string(f.payload), "not-allowed")
		require.Empty(t, bob.status("sales", "ann"))
		n := len(ann.of("presence_diff"))
		bob.do("sales", "claim", `{"status":"busy"}`)
		require.Len(t, ann.of("presence_diff"), n)
		ann.refused("not-allowed", ann.join("sales", `{}`))
		w.grant("ann", "sales")
		require.Equal(t, "ok", ann.join("sales", `{}`).Status)
		require.Equal(t, "busy", ann.status("sales", "bob"))
	})
}

func TestIdleAndInput(t *testing.T) {
	bubble(t, nil, func(t *testing.T, w *world) {
		bob, ann := w.enter("token=bob", "sales"), w.enter("token=ann", "sales")
		w.pass(4*time.Minute, ann, bob)
		ann.do("sales", "input", `{}`)
		bob.do("sales", "input", `{"idle":1000}`)
		w.pass(4*time.Minute, ann, bob)
		require.Equal(t, "available", bob.status("sales", "ann"))
		w.pass(time.Minute, ann, bob)
		require.Equal(t, "away", bob.status("sales", "ann"))
		ann.do("sales", "input", `{}`)
		require.Equal(t, "available", bob.status("sales", "ann"))
		ann.do("sales", "focus", `{}`)
		d, err := w.tracker.Gate(t.Context(), presence.Notification{Subject: presence.ID("ann"), Kind: "push", Channel: "sales"})
		require.NoError(t, err)
		require.Equal(t, "here", d.Column)
		ann.do("sales", "focus", `{"on":false}`)
		d, err = w.tracker.Gate(t.Context(), presence.Notification{Subject: presence.ID("ann"), Kind: "push", Channel: "sales"})
		require.NoError(t, err)
		require.Equal(t, "available", d.Column)
	})
}

func TestSilentPageIsLost(t *testing.T) {
	bubble(t, nil, func(t *testing.T, w *world) {
		bob, ann := w.enter("token=bob", "sales"), w.enter("token=ann", "sales")
		w.pass(74*time.Second, bob)
		require.Equal(t, "available", bob.status("sales", "ann"), "lease and grace")
		w.pass(2*time.Second, bob)
		require.Empty(t, bob.status("sales", "ann"))
		ann.push("", "phoenix", "heartbeat", `{}`)
		require.Equal(t, "available", bob.status("sales", "ann"), "a page that was only frozen is back")
		w.pass(100*time.Second, bob)
		require.EqualValues(t, 1008, ann.ended())
		require.Equal(t, presence.CauseLost, w.get("ann").Cause)
	})
}

// Two tabs with the same connection id, as when a tab is duplicated, do not
// throw each other out.
func TestDuplicatedTab(t *testing.T) {
	bubble(t, nil, func(t *testing.T, w *world) {
		bob := w.enter("token=bob", "sales")
		one := w.enter("token=ann&conn=tab", "sales")
		two := w.enter("token=ann&conn=tab", "sales")
		require.Len(t, bob.list("sales")["ann"], 1)
		w.pass(time.Minute, one, two, bob)
		require.Len(t, bob.list("sales")["ann"], 2)
		two.leave()
		w.pass(20*time.Second, one, bob)
		require.Equal(t, "available", bob.status("sales", "ann"))
		require.Zero(t, bob.blinks["ann"])
	})
}

func TestAbsentMembersAreShownWhereWanted(t *testing.T) {
	bubble(t, func(c *conf) { c.phoenix.Absent = true }, func(t *testing.T, w *world) {
		guest := w.enter("token=guest:visitor", "sales")
		require.Equal(t, "offline", guest.status("sales", "ann"))
		ann := w.enter("token=ann", "sales")
		require.Equal(t, "available", guest.status("sales", "ann"))
		ann.do("sales", "logout", `{}`)
		require.Equal(t, "offline", guest.status("sales", "ann"))
		require.Zero(t, guest.blinks["ann"])
		require.Equal(t, w.expected("sales", presence.AudienceVisitor, true), guest.list("sales"))
	})
}

func TestAuthentication(t *testing.T) {
	bubble(t, nil, func(t *testing.T, w *world) {
		_, status, why := w.dial("")
		require.Equal(t, http.StatusUnauthorized, status)
		require.NotContains(t, why, "row")
		_, status, why = w.dial("token=banned")
		require.Equal(t, http.StatusForbidden, status)
		require.Contains(t, why, "Monday")
		_, status, why = w.dial("token=down")
		require.Equal(t, http.StatusServiceUnavailable, status)
		require.NotContains(t, why, "db-7")

		bearer := "base64url.bearer.phx." + base64.RawURLEncoding.EncodeToString([]byte("ann"))
		c, status, why := w.dial("", "Sec-WebSocket-Protocol", "phoenix", bearer)
		require.Zero(t, status, why)
		go c.read()
		require.Equal(t, "ann", c.join("sales", `{}`).Response.Key)

		_, status, _ = w.dial("token=ann", "Origin", "https://evil.example")
		require.Equal(t, http.StatusForbidden, status)
		c, status, why = w.dial("token=ann", "Origin", "http://app.example")
		require.Zero(t, status, why)
		go c.read()
	})
}

// fault 32: a client whose vsn is missing is of 1.0.0.
func TestVersions(t *testing.T) {
	s, goodbye := served(t)
	for vsn, want := range map[string]int{
		"": 101, "vsn=": 101, "vsn=1.0.0": 101, "vsn=1.1": 101, "vsn=2.0.0": 101, "vsn=2.1.0": 101,
		"vsn=3.0.0": 400, "vsn=0.9.0": 400, "vsn=10.0.0": 400, "vsn=20.0.0": 400, "vsn=latest": 400,
	} {
		response, _ := edgetest.Upgrade(t, s.Address, "/?token=ann&"+vsn, "x", http.Header{})
		require.Equal(t, want, response.StatusCode, vsn)
		if want != http.StatusSwitchingProtocols {
			text, err := io.ReadAll(response.Body)
			require.NoError(t, err)
			require.Contains(t, string(text), "allowed: 1.0.0, 2.0.0", vsn)
		}
	}
	require.NoError(t, goodbye())
	require.ErrorIs(t, goodbye(), presence.ErrClosed)
}

// fault 32: both serializers carry the same fields.
func TestSerializersSayTheSame(t *testing.T) {
	var said [2][]string
	for i, vsn := range []string{"2.0.0", "1.0.0"} {
		bubbleOf(t, vsn, nil, func(t *testing.T, w *world) {
			ann := w.enter("token=ann&conn=tab", "sales")
			guest := w.enter("token=guest:visitor", "sales")
			ann.do("sales", "claim", `{"status":"busy","text":"back <soon> & \"well\" \u2028"}`)
			ann.refused("unknown", ann.push("1", "sales", "claim", `{"status":"asleep"}`))
			guest.push("", "phoenix", "heartbeat", `{}`)
			ann.join("sales", `{}`)
			ann.do("sales", "phx_leave", `{}`)
			require.Equal(t, "ok", ann.join("sales", `{}`).Status)
			require.NoError(t, w.tracker.RemoveMember(t.Context(), presence.ChannelID("sales"), presence.ID("ann")))
			synctest.Wait()
			for _, c := range []*client{ann, guest} {
				for _, f := range c.frames {
					said[i] = append(said[i], f.raw)
				}
			}
		})
	}
	require.Greater(t, len(said[0]), 20)
	require.ElementsMatch(t, said[0], said[1], "in the order in which replies and changes happen to be sent")
}

// fault 32: phoenix 1.2 sends no join_ref. It takes the end of a join for that of
// a later one unless the end has another ref.
func TestClientsWithoutJoinRefs(t *testing.T) {
	bubbleOf(t, "1.0.0", nil, func(t *testing.T, w *world) {
		ann := w.open("token=ann")
		say := func(ref, event string) {
			require.NoError(t, ann.send(gobwas.OpText, true, fmt.Sprintf(`{"topic":"sales","event":%q,"payload":{},"ref":%q}`, event, ref)))
		}
		say("1", "phx_join")
		require.Equal(t, "available", ann.status("sales", "ann"))
		say("2", "input")
		require.Equal(t, "2", last(ann.of("phx_reply")).ref)
		say("3", "phx_join") // again
		require.Equal(t, "1", last(ann.of("phx_close")).ref)
		say("4", "phx_leave")
		require.Equal(t, "4", last(ann.of("phx_reply")).ref)
		require.Equal(t, "3", last(ann.of("phx_close")).ref)
		say("5", "phx_leave") // of nothing
		require.Equal(t, "5", last(ann.of("phx_close")).ref)
		require.NoError(t, ann.send(gobwas.OpText, true, `{"topic":"phoenix","event":"heartbeat","ref":"6"}`))
		require.Equal(t, "6", last(ann.of("phx_reply")).ref)
		say("7", "phx_join")
		synctest.Wait()
		require.NoError(t, w.tracker.RemoveMember(t.Context(), presence.ChannelID("sales"), presence.ID("ann")))
		require.Equal(t, "7", last(ann.of("phx_close")).ref)
		for _, wrong := range []string{
			`{}`, `{"topic":"sales"`, `{"topic":7,"event":"x","ref":"1"}`, `{"topic":"sales","event":"x","ref":1}`, `["1","1","sales","phx_join",{}]`, `null`,
		} {
			c := w.open("token=ann")
			c.objects = false
			c.say(wrong)
			require.EqualValues(t, 1007, c.ended(), wrong)
		}
	})
}
func TestOptions(t *testing.T) {
	_, err := phoenix.NewHandler(nil, &phoenix.Options{
		AllowedOrigins: []string{"app.example"}, MaxMessage: 100, MessagesPerSecond: -1, Burst: -1, MaxTopics: -1,
		MaxSockets: -1, MaxSocketsPerSubject: -1, WriteTimeout: -1, IdleTimeout: -1, Dialect: 7,
	})
	for _, word := range []string{"tracker", "Authenticate", "AllowedOrigins[0]", `"MaxMessage": 100`, "MessagesPerSecond", "Burst", "MaxTopics", `"MaxSockets"`, "MaxSocketsPerSubject", "WriteTimeout", "IdleTimeout", `"Dialect": 7`} {
		require.ErrorContains(t, err, word)
	}
}

func TestShutdownDrains(t *testing.T) {
	bubble(t, nil, func(t *testing.T, w *world) {
		ann, guest := w.enter("token=ann", "sales"), w.enter("token=guest:visitor", "sales")
		done := make(chan error, 1)
		go func() { done <- w.handler.Shutdown(t.Context()) }()
		for _, c := range []*client{ann, guest} {
			require.EqualValues(t, 1001, c.ended())
			c.conn.Close()
		}
		require.NoError(t, <-done)
		state, err := w.tracker.State(t.Context(), presence.ID("ann"))
		require.NoError(t, err)
		require.Equal(t, presence.CauseDrain, state.Conns[0].Cause)
		_, status, _ := w.dial("token=ann")
		require.Equal(t, http.StatusServiceUnavailable, status)
	})
}

func TestShutdownCutsOff(t *testing.T) {
	bubble(t, nil, func(t *testing.T, w *world) {
		ann := w.enter("token=ann", "sales")
		ctx, cancel := context.WithCancelCause(t.Context())
		reason := errors.New("no more patience")
		done := make(chan error, 1)
		go func() { done <- w.handler.Shutdown(ctx) }()
		require.EqualValues(t, 1001, ann.ended()) // and does not answer
		cancel(reason)
		require.ErrorIs(t, <-done, reason)
		require.Zero(t, w.handler.Sockets())
	})
}

func TestTrackerClosed(t *testing.T) {
	bubble(t, nil, func(t *testing.T, w *world) {
		ann := w.enter("token=ann", "sales")
		require.NoError(t, w.tracker.Close())
		synctest.Wait()
		require.Contains(t, string(last(ann.of("phx_error")).payload), "closed", "the client tries again, elsewhere perhaps")
		ann.refused("closed", ann.join("sales", `{}`))
	})
}
