package phoenix_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	gobwas "github.com/gobwas/ws"
	"github.com/stretchr/testify/require"

	"github.com/presence-go/presence"
	"github.com/presence-go/presence/adapters/phoenix"
)

func supabase(c *conf) { c.phoenix.Dialect = phoenix.Supabase }

const config = `{"config":{"broadcast":{"ack":false,"self":false},"presence":{"key":"","enabled":true},"postgres_changes":[{"event":"*"}],"private":false}`

// subscribe opens a socket of Supabase and joins the realtime topic of sales.
func (w *world) subscribe(token string) *client {
	w.t.Helper()
	c := w.open("apikey=" + strings.ReplaceAll(token, " ", "%20"))
	c.quirk = true
	a := c.join("realtime:sales", config+`,"access_token":"`+token+`"}`)
	require.Equal(w.t, "ok", a.Status, a.Response.Message)
	return c
}

func (c *client) track(payload string) answer {
	c.t.Helper()
	return c.push("", "realtime:sales", "presence", `{"type":"presence","event":"track","payload":`+payload+`}`)
}

func TestSupabaseTracks(t *testing.T) {
	bubble(t, supabase, func(t *testing.T, w *world) {
		bob := w.subscribe("bob")
		require.Empty(t, bob.list("realtime:sales"), "who does not track is not there")
		ann := w.subscribe("ann")
		require.Equal(t, "ok", ann.track(`{"user":"x","online_at":"2026-03-02T09:00:00Z"}`).Status)
		require.Equal(t, "available", bob.status("realtime:sales", "ann"))
		for _, status := range []string{"busy", "away", "busy"} {
			require.Equal(t, "ok", ann.track(`{"status":"`+status+`","text":"so"}`).Status)
			require.Equal(t, status, bob.status("realtime:sales", "ann"))
		}
		require.Zero(t, bob.blinks["ann"])
		require.Equal(t, w.expected("sales", presence.AudienceTeam, false), bob.list("realtime:sales"))
		ann.refused("unknown", ann.track(`{"status":"asleep"}`))
		ann.refused("unknown", ann.push("", "realtime:sales", "presence", `{"event":"dance"}`))
		a := ann.push("", "realtime:sales", "presence", `{"type":"presence","event":"untrack"}`)
		require.Equal(t, "ok", a.Status)
		require.Equal(t, "busy", bob.status("realtime:sales", "ann"))
		w.pass(5*time.Second, bob)
		require.Empty(t, bob.list("realtime:sales"))
		guest := w.subscribe("guest:visitor")
		guest.refused("not-allowed", guest.track(`{}`))
	})
}

func TestSupabaseSeveralDevices(t *testing.T) {
	bubble(t, supabase, func(t *testing.T, w *world) {
		bob := w.subscribe("bob")
		one, two := w.subscribe("ann"), w.subscribe("ann")
		one.track(`{"status":"busy"}`)
		two.track(`{}`)
		check := func(devices int) {
			t.Helper()
			require.Len(t, bob.list("realtime:sales")["ann"], devices)
			require.Equal(t, w.expected("sales", presence.AudienceTeam, false), bob.list("realtime:sales"))
		}
		check(2)
		one.track(`{"status":"away"}`)
		check(2)
		two.leave()
		w.pass(5*time.Second, bob, one)
		check(1)
		one.track(`{"status":"busy"}`)
		two = w.subscribe("ann")
		two.track(`{}`)
		check(2)
		one.leave()
		two.leave()
		w.pass(5*time.Second, bob)
		check(0)
		require.Equal(t, 1, bob.blinks["ann"])
	})
}

func TestSupabaseTokens(t *testing.T) {
	bubble(t, supabase, func(t *testing.T, w *world) {
		_, status, _ := w.dial("token=ann")
		require.Equal(t, http.StatusUnauthorized, status, "the apikey is missing")
		w.grant("ann", "support")
		c := w.open("apikey=anon:visitor")
		require.Empty(t, c.join("realtime:sales", config+`}`).Response.Statuses)
		c.refused("not-allowed", c.join("realtime:support", config+`,"access_token":"ann"}`))
		c.do("realtime:sales", "phx_leave", `{}`)
		c.refused("not-allowed", c.join("realtime:sales", config+`,"access_token":"banned"}`))
		c.refused("unavailable", c.join("realtime:sales", config+`,"access_token":"down"}`))
		require.Equal(t, "ann", c.join("realtime:sales", config+`,"access_token":"ann"}`).Response.Key)
		require.Equal(t, "ok", c.join("realtime:support", config+`,"access_token":"ann"}`).Status)
		require.Equal(t, "ok", c.track(`{}`).Status)
		c.do("realtime:sales", "access_token", `{"access_token":"ann"}`)
		require.Equal(t, "available", w.get("ann").Status)
		c.refused("not-allowed", c.push("", "realtime:sales", "access_token", `{"access_token":"bob"}`))
		require.Contains(t, string(last(c.of("phx_close")).payload), "not that of ann")
		w.pass(5 * time.Second)
		require.Equal(t, "offline", w.get("ann").Status)
	})
}

func TestSupabaseCountsSocketsByWhoTheyAre(t *testing.T) {
	bubble(t, func(c *conf) {
		supabase(c)
		c.phoenix.MaxSocketsPerSubject = 2
	}, func(t *testing.T, w *world) {
		w.open("apikey=anon:visitor").join("realtime:sales", config+`,"access_token":"ann"}`)
		w.open("apikey=anon:visitor").join("realtime:sales", config+`,"access_token":"ann"}`)
		c := w.open("apikey=anon:visitor")
		c.refused("limit", c.join("realtime:sales", config+`,"access_token":"ann"}`))
		require.Equal(t, "ok", c.join("realtime:sales", config+`,"access_token":"bob"}`).Status)
	})
}

func TestBroadcastsAreAnsweredHarmlessly(t *testing.T) {
	bubble(t, supabase, func(t *testing.T, w *world) {
		bob, ann := w.subscribe("bob"), w.subscribe("ann")
		ann.refused("unknown", ann.push("", "realtime:sales", "broadcast", `{"type":"broadcast","event":"shout","payload":{}}`))
		// As realtime-js sends them: in binary, with the sizes of join_ref, ref,
		// topic and event, of metadata, and the encoding.
		data := "\x03" + string([]byte{1, 2, 14, 5, 0, 1}) + "1" + "77" + "realtime:sales" + "shout" + `{"a":1}`
		require.NoError(t, ann.send(gobwas.OpBinary, true, data))
		f := last(ann.of("phx_reply"))
		require.Equal(t, "77", f.ref)
		require.Contains(t, string(f.payload), "only presence")
		require.Empty(t, bob.of("broadcast"))
		require.NoError(t, ann.send(gobwas.OpBinary, true, fmt.Sprintf("\x00%c%c%c%cxxxx", 1, 200, 1, 1)))
		require.EqualValues(t, 1007, ann.ended())
	})
}
