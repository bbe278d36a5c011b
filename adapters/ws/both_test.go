package ws_test

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"runtime"
	"strings"
	"testing"
	"time"

	gobwas "github.com/gobwas/ws"
	"github.com/stretchr/testify/require"

	"github.com/presence-go/presence"
	"github.com/presence-go/presence/adapters/wire"
)

// Every message of a client, and how it is answered.
func TestEveryMessage(t *testing.T) {
	type answer struct{ kind, code string }
	done, refused := answer{kind: "done"}, func(code string) answer { return answer{"error", code} }
	for _, c := range []struct {
		fields         string
		agent, visitor answer
	}{
		{`"type":"hello","v":1`, answer{kind: "welcome"}, answer{kind: "welcome"}},
		{`"type":"hello","v":3`, refused("invalid"), refused("invalid")},
		{`"type":"hello","v":1,"epoch":4,"who":"knows"`, answer{kind: "welcome"}, answer{kind: "welcome"}},
		{`"type":"hello","v":1,"idle":-1`, refused("invalid"), refused("invalid")},
		{`"type":"pong","seq":1`, done, done},
		{`"type":"pong","seq":1,"idle":1000,"visible":true`, done, done},
		{`"type":"pong","seq":2`, refused("invalid"), refused("invalid")},
		{`"type":"pong","seq":"1"`, refused("malformed"), refused("malformed")},
		{`"type":"input"`, done, refused("not-allowed")},
		{`"type":"focus","channel":"sales"`, done, refused("not-allowed")},
		{`"type":"focus"`, done, refused("not-allowed")},
		{`"type":"claim","status":"busy","for":1000,"reason":"r","text":"t"`, done, refused("not-allowed")},
		{`"type":"claim","status":"lunch"`, refused("unknown"), refused("not-allowed")},
		{`"type":"claim","status":"busy","for":-1`, refused("invalid"), refused("invalid")},
		{`"type":"release","key":"timed"`, done, refused("not-allowed")},
		{`"type":"release"`, done, refused("not-allowed")},
		{`"type":"request","status":"busy","reason":"r"`, done, refused("not-allowed")},
		{`"type":"request","status":"lunch"`, refused("unknown"), refused("not-allowed")},
		{`"type":"withdraw"`, refused("unknown"), refused("not-allowed")},
		{`"type":"ack"`, refused("stale"), refused("not-allowed")},
		{`"type":"watch","channel":"sales"`, done, done},
		{`"type":"watch","channel":"sales"`, refused("invalid"), refused("invalid")},
		{`"type":"unwatch","channel":"sales"`, done, done},
		{`"type":"unwatch","channel":"sales"`, refused("unknown"), refused("unknown")},
		{`"type":"watch","channel":"sales","epoch":"x","seq":7`, done, done},
		{`"type":"unwatch","channel":"sales"`, done, done},
		{`"type":"watch","channel":"sales","epoch":7`, refused("malformed"), refused("malformed")},
		{`"type":"watch","channel":"sales","epoch":"x","seq":-7`, refused("malformed"), refused("malformed")},
		{`"type":"watch","channel":""`, refused("invalid"), refused("invalid")},
		{`"type":"bye","cause":"lunch"`, refused("invalid"), refused("invalid")},
		{`"type":"dance"`, refused("invalid"), refused("invalid")},
		{`"type":7`, refused("malformed"), refused("malformed")},
	} {
		t.Run(c.fields, func(t *testing.T) {
			both(t, func(t *testing.T, over string) {
				w := setupOver(t, over, nil)
				// Those before, since some answers depend on them.
				for query, want := range map[string]answer{"id=ann": c.agent, "id=v&role=visitor": c.visitor} {
					p, _ := w.enter(query, "")
					w.advance(25 * time.Second)
					p.until("ping")
					if strings.Contains(c.fields, `"type":"unwatch"`) && want == done || c.fields == `"type":"watch","channel":"sales"` && want != done {
						p.do(`"type":"watch","channel":"sales"`)
					}
					f := p.ask(c.fields)
					require.Equal(t, want, answer{f.Type, f.Code}, f.raw)
				}
			})
		})
	}
}

// Messages for the person reach only the person, and the own view stays.
func TestChallengeAndRequest(t *testing.T) {
	both(t, func(t *testing.T, over string) {
		w := setupOver(t, over, nil)
		ann := presence.ID("ann")
		boss := presence.Actor{Subject: presence.ID("boss"), Role: presence.RoleSupervisor}
		p, _ := w.enter("id=ann", "")
		p.until("self")
		require.NoError(t, w.tracker.Apply(t.Context(), presence.Event{Kind: presence.EventChallenge, Subject: ann, ID: "h1"}))
		f := p.until("challenge")
		require.Contains(t, f.raw, `"id":"h1"`)
		p.do(`"type":"ack","id":"h1"`)
		require.Equal(t, "stale", p.ask(`"type":"ack","id":"h1"`).Code)

		p.do(`"type":"request","status":"busy"`)
		require.Contains(t, p.until("self").raw, `"request":"busy"`)
		_, err := w.tracker.DecideRequest(t.Context(), boss, ann, "", false)
		require.NoError(t, err)
		require.Contains(t, p.until("rejected").raw, `"status":"busy"`)
		f = p.until("self")
		require.Contains(t, f.raw, `"status":"available"`)
		require.NotContains(t, f.raw, `"request"`)
	})
}

func TestSuspend(t *testing.T) {
	both(t, func(t *testing.T, over string) {
		w := setupOver(t, over, nil)
		bob, _ := w.enter("id=bob&role=supervisor", "")
		bob.do(`"type":"watch","channel":"sales"`)
		bob.until("snapshot")
		ann, _ := w.enter("id=ann", `,"conn":"tab"`)
		bob.until("diff")
		ann.do(`"type":"watch","channel":"sales"`)
		at := ann.until("snapshot")

		// A page that is back within the grace was never away.
		ann.say(`{"type":"suspend"}`)
		require.EqualValues(t, wire.StatusSuspended, ann.closed())
		require.Equal(t, presence.CauseClosed, w.left())
		require.False(t, bob.until("diff").Changes[0].View.Routable, "but had no work")
		w.advance(4 * time.Second)
		ann, f := w.enter("id=ann", `,"conn":"tab"`)
		require.EqualValues(t, 2, f.Epoch)
		f = bob.until("diff")
		require.Equal(t, presence.OpUpdated, f.Changes[0].Op)
		require.True(t, f.Changes[0].View.Routable)
		ann.do(fmt.Sprintf(`"type":"watch","channel":"sales","epoch":%q,"seq":%d`, at.Epoch, at.Seq))

		// One that is not has gone.
		ann.say(`{"type":"suspend"}`)
		ann.closed()
		w.left()
		bob.until("diff")
		w.advance(5 * time.Second)
		f = bob.until("diff")
		require.Equal(t, presence.OpLeft, f.Changes[0].Op)
		require.Equal(t, presence.CauseClosed, f.Changes[0].View.Cause)

		guest, _ := w.enter("id=v1&role=visitor", "")
		guest.say(`{"type":"suspend"}`)
		require.EqualValues(t, wire.StatusSuspended, guest.closed())
	})
}

// Missed changes arrive as diffs, if the server still has them.
func TestMissedFramesArriveAsDiffs(t *testing.T) {
	both(t, func(t *testing.T, over string) {
		w := setupOver(t, over, func(c *conf) { c.tracker.ReplayFrames = 4; c.ws.MessagesPerSecond = 1e6; c.ws.Burst = 1e6 })
		stays, _ := w.enter("id=v1&role=visitor", "")
		stays.do(`"type":"watch","channel":"sales"`)
		at := stays.until("snapshot")
		flip := func(n int) (last frame) {
			for range n {
				w.toggle()
				last = stays.until("diff")
			}
			return last
		}
		back := func(epoch any, seq uint64) *client {
			c, _ := w.enter("id=v2&role=visitor", "")
			c.do(fmt.Sprintf(`"type":"watch","channel":"sales","epoch":%q,"seq":%d`, epoch, seq))
			return c
		}
		last := flip(4)
		require.Equal(t, at.Seq+4, last.Seq)
		c := back(at.Epoch, at.Seq)
		for n := range uint64(4) {
			f := first(c, "diff", "snapshot")
			require.Equal(t, "diff", f.Type)
			require.Equal(t, at.Seq+n+1, f.Seq)
		}
		current := back(at.Epoch, last.Seq)
		last = flip(1)
		for _, c := range []*client{c, current} {
			f := first(c, "diff", "snapshot")
			require.Equal(t, last.raw, f.raw, "what is new comes to all alike, after nothing at all")
		}
		for _, old := range []struct {
			epoch any
			seq   uint64
		}{{at.Epoch, at.Seq}, {"other", last.Seq}, {at.Epoch, last.Seq + 1}, {strings.Repeat("x", 1000), 1}} {
			f := first(back(old.epoch, old.seq), "diff", "snapshot")
			require.Equal(t, "snapshot", f.Type)
			require.Equal(t, last.Seq, f.Seq)
			require.False(t, f.Lagged)
		}
	})
}

// toggle makes a change that everybody sees.
func (w *world) toggle() {
	w.t.Helper()
	v, err := w.tracker.GetAs(w.t.Context(), presence.AudienceTeam, presence.ID("ann"))
	require.NoError(w.t, err)
	if v.Status == "offline" {
		_, err = w.tracker.Connect(w.t.Context(), presence.ID("ann"), presence.ConnectOptions{ID: "toggle"})
	} else {
		err = w.tracker.Logout(w.t.Context(), presence.ID("ann"))
	}
	require.NoError(w.t, err)
}

// A client that returns with other rights sees what those rights show.
func TestAnotherAudienceStartsAnew(t *testing.T) {
	both(t, func(t *testing.T, over string) {
		w := setupOver(t, over, nil)
		queries := map[string]string{"agent": "id=bob", "supervisor": "id=bob&role=supervisor", "admin": "id=bob&role=admin", "visitor": "id=bob&role=visitor"}
		at := make(map[string]frame)
		ann, _ := w.enter("id=ann", "")
		for role, query := range queries {
			c, _ := w.enter(query, "")
			c.do(`"type":"watch","channel":"sales"`)
			at[role] = c.until("snapshot")
		}
		ann.do(`"type":"claim","status":"busy","text":"for colleagues only"`)
		for role, query := range queries {
			for before, f := range at {
				c, _ := w.enter(query, "")
				c.do(fmt.Sprintf(`"type":"watch","channel":"sales","epoch":%q,"seq":%d`, f.Epoch, f.Seq))
				got := first(c, "diff", "snapshot")
				require.Equal(t, map[bool]string{true: "diff", false: "snapshot"}[role == before], got.Type, "%s as %s", before, role)
				require.Equal(t, role != "visitor", strings.Contains(got.raw, "colleagues"), got.raw)
				c.say(`{"type":"bye"}`)
				c.closed()
			}
		}
	})
}

// A stream resumes by the id of its last event, in a header or as a parameter.
func TestLastEventID(t *testing.T) {
	w := setupOver(t, "sse", nil)
	for _, channel := range []string{"support", "a,b~c d"} {
		require.NoError(t, w.tracker.AddMember(t.Context(), presence.ChannelID(channel), presence.ID("ann")))
	}
	stays, _ := w.enter("id=v1&role=visitor", "")
	for _, channel := range []string{"sales", "support", "a,b~c d"} {
		stays.do(fmt.Sprintf(`"type":"watch","channel":%q`, channel))
		stays.until("snapshot")
	}
	const query = "id=v2&role=visitor&conn=s&watch=sales,a%252Cb~c%20d"
	c, status, why := w.stream(query)
	require.Equal(t, http.StatusOK, status, why)
	c.welcome()
	require.Equal(t, map[string]any{"id": "sales"}, c.until("snapshot").Channel)
	require.Equal(t, map[string]any{"id": "a,b~c d"}, c.until("snapshot").Channel)
	c.do(`"type":"watch","channel":"support"`)
	c.until("snapshot")
	w.toggle()
	for range 3 {
		c.until("diff")
		stays.until("diff")
	}
	id := c.last
	c.conn.Close()
	w.toggle()

	for name, reopen := range map[string]func() (*client, int, string){
		"header":    func() (*client, int, string) { return w.stream(query, "Last-Event-ID", id) },
		"parameter": func() (*client, int, string) { return w.stream(query + "&last=" + url.QueryEscape(id)) },
	} {
		c, status, why := reopen()
		require.Equal(t, http.StatusOK, status, why)
		c.welcome()
		channels := map[string]bool{}
		for range 3 { // also the one that was watched by a message
			f := first(c, "diff", "snapshot")
			require.Equal(t, "diff", f.Type, f.raw)
			channels[f.Channel.(map[string]any)["id"].(string)] = true
		}
		require.Len(t, channels, 3, name)
		require.NotEqual(t, id, c.last)
	}

	// An invented id is worth nothing.
	for _, id := range []string{"", "nonsense", "sales//", "sales/x/-1", "sales/%zz/1", "///,,,", strings.Repeat("sales/x/1,", 3000), "sales/" + strings.Repeat("x", 50_000) + "/1"} {
		c, status, why := w.stream("id=v3&role=visitor&watch=sales", "Last-Event-ID", id)
		require.Equal(t, http.StatusOK, status, why)
		c.welcome()
		require.Equal(t, "snapshot", first(c, "diff", "snapshot").Type)
		c.say(`{"type":"bye"}`)
		c.closed()
	}
}

// What a client unwatched is not in the position any more.
func TestPositionFollowsWatches(t *testing.T) {
	w := setupOver(t, "sse", nil)
	c, _ := w.enter("id=v1&role=visitor", "")
	require.Empty(t, c.last)
	for _, channel := range []string{"a", "b"} {
		c.do(fmt.Sprintf(`"type":"watch","channel":%q`, channel))
		c.until("snapshot")
	}
	require.Equal(t, []string{"a", "b"}, marks(c.last))
	c.do(`"type":"unwatch","channel":"a"`)
	require.Equal(t, []string{"b"}, marks(c.last))
	c.do(`"type":"unwatch","channel":"b"`)
	require.Empty(t, c.last)
}

func marks(id string) (channels []string) {
	for _, m := range wire.ParsePosition(id) {
		channels = append(channels, m.Channel)
	}
	return channels
}

// A connection continues over another transport, and the session before is
// ended.
func TestConnectionChangesItsTransport(t *testing.T) {
	w := setup(t, nil)
	bob, _ := w.enter("id=bob&role=supervisor", "")
	bob.do(`"type":"watch","channel":"sales"`)
	bob.until("snapshot")
	ann, _ := w.enter("id=ann", `,"conn":"tab"`)
	bob.until("diff")
	for epoch, over := range []string{"sse", "ws", "sse"} {
		w.over = over
		next, f := w.enter("id=ann", `,"conn":"tab"`)
		require.EqualValues(t, epoch+2, f.Epoch)
		require.EqualValues(t, wire.StatusReplaced, ann.closed())
		ann.conn.Close()
		ann = next
		for limit := time.Now().Add(10 * time.Second); w.handler.Sessions() > 2; runtime.Gosched() {
			w.advance(0)
			require.True(t, time.Now().Before(limit))
		}
	}
	w.advance(2 * time.Second)
	ann.do(`"type":"claim","status":"busy"`)
	require.Equal(t, "busy", bob.until("diff").Changes[0].View.Status, "nobody saw any of it")
}

func TestStreamThatBreaks(t *testing.T) {
	broken := func(t *testing.T) (w *world, c *client, f frame) {
		w = setupOver(t, "sse", nil)
		c, f = w.enter("id=ann", `,"conn":"tab"`)
		require.NoError(t, c.conn.Close())
		return w, c, f
	}
	state := func(w *world) presence.ConnState {
		s, err := w.tracker.State(w.t.Context(), presence.ID("ann"))
		require.NoError(w.t, err)
		return s.Conns[0]
	}
	// severed waits until the server knows: it has nothing left to write to.
	severed := func(w *world, c *client) {
		w.t.Helper()
		require.Equal(w.t, http.StatusNoContent, c.send(`{"type":"input"}`))
		for limit := time.Now().Add(10 * time.Second); w.handler.Sessions() > 0; {
			require.True(w.t, time.Now().Before(limit))
			w.advance(100 * time.Millisecond)
		}
	}
	t.Run("is lost", func(t *testing.T) {
		w, c, _ := broken(t)
		severed(w, c)
		require.Equal(t, presence.CauseLost, state(w).Cause)
		require.Equal(t, http.StatusNotFound, c.send(`{"type":"bye"}`))
	})
	for cause, want := range map[string]presence.Cause{"": presence.CauseClosed, "closed": presence.CauseClosed, "logout": presence.CauseLogout} {
		t.Run("after a beacon: "+cause, func(t *testing.T) {
			w, c, _ := broken(t)
			require.Equal(t, http.StatusNoContent, c.send(`{"type":"bye","cause":"`+cause+`"}`))
			require.Equal(t, want, w.left())
			w.empty()
		})
	}
	t.Run("is opened again", func(t *testing.T) {
		w, old, _ := broken(t)
		require.NoError(t, w.tracker.AddMember(t.Context(), presence.ChannelID("sales"), presence.ID("ann")))
		c, f := w.enter("id=ann", `,"conn":"tab"`)
		require.EqualValues(t, 2, f.Epoch)
		require.Equal(t, http.StatusNotFound, old.send(`{"type":"bye","cause":"logout"}`), "what the page before says late is not this one's")
		w.advance(2 * time.Second)
		require.Empty(t, state(w).Cause)
		c.do(`"type":"input"`)
		require.Equal(t, 1, w.handler.Sessions())
	})
}

// A page that closes sends a bye in a beacon, over whichever transport it is
// connected.
func TestBeacon(t *testing.T) {
	w := setup(t, nil)
	ann, _ := w.enter("id=ann", `,"conn":"tab"`)
	w.over = "sse"
	other, f := w.enter("id=ann", `,"conn":"other"`)

	// The message of one connection is not taken for another, nor that of one
	// person for another's.
	ann.post = w.server.URL + "/messages?id=bob&conn=tab"
	require.Equal(t, http.StatusNotFound, ann.send(`{"type":"bye"}`))
	ann.post = w.server.URL + "/messages?id=ann&role=visitor&conn=tab"
	require.Equal(t, http.StatusNotFound, ann.send(`{"type":"bye"}`))
	ann.post = w.server.URL + "/messages?conn=tab&secret=" + f.Secret
	require.Equal(t, http.StatusUnauthorized, ann.send(`{"type":"bye"}`))
	ann.post = w.server.URL + "/messages?conn=tab"
	require.Equal(t, http.StatusUnauthorized, ann.send(`{"type":"bye"}`))
	ann.post = w.server.URL + "/messages?id=ann&conn=nobody"
	require.Equal(t, http.StatusNotFound, ann.send(`{"type":"bye"}`))
	other.do(`"type":"input"`)

	ann.post = w.server.URL + "/messages?id=ann&conn=tab"
	require.Equal(t, http.StatusNoContent, ann.send(`{"type":"bye","cause":"closed"}`))
	require.Equal(t, gobwas.StatusNormalClosure, ann.closed())
	state, err := w.tracker.State(t.Context(), presence.ID("ann"))
	require.NoError(t, err)
	require.Equal(t, "tab", state.Conns[1].ID)
	require.Equal(t, presence.CauseClosed, state.Conns[1].Cause)
	require.Empty(t, state.Conns[0].Cause)
}

func TestSecrets(t *testing.T) {
	w := setupOver(t, "sse", nil)
	c, f := w.enter("id=ann", `,"conn":"tab"`)
	require.NotContains(t, f.Secret, "ann", "it is not for reading")
	good := c.post
	for name, secret := range map[string]string{
		"none":         "",
		"no signature": strings.Split(f.Secret, ".")[0],
		"empty":        strings.Split(f.Secret, ".")[0] + ".",
		"changed":      strings.Replace(f.Secret, ".", ".A", 1),
		"not base64":   "!." + f.Secret,
		"forged":       forge(t, f.Secret),
	} {
		c.post = w.server.URL + "/messages?" + url.Values{"conn": {"tab"}, "secret": {secret}}.Encode()
		require.Equal(t, http.StatusUnauthorized, c.send(`{"type":"input"}`), name)
	}
	c.post = good
	c.do(`"type":"input"`)

	// Another hello makes another secret, and a message's hello names no other
	// connection.
	c.say(`{"type":"hello","v":1,"conn":"elsewhere"}`)
	again := c.until("welcome")
	require.Equal(t, "tab", again.Conn)
	require.NotEqual(t, f.Secret, again.Secret)
	require.Equal(t, http.StatusNotFound, c.send(`{"type":"bye"}`), "the secret before is over")
	c.post = w.server.URL + "/messages?" + url.Values{"conn": {"tab"}, "secret": {again.Secret}}.Encode()
	c.do(`"type":"input"`)
}

// forge makes a secret of another subject with the signature of a good one.
func forge(t *testing.T, secret string) string {
	who, signature, _ := strings.Cut(secret, ".")
	raw, err := base64.RawURLEncoding.DecodeString(who)
	require.NoError(t, err)
	require.Contains(t, string(raw), "ann")
	return base64.RawURLEncoding.EncodeToString([]byte(strings.Replace(string(raw), "ann", "bob", 1))) + "." + signature
}

func TestPosts(t *testing.T) {
	w := setupOver(t, "sse", func(c *conf) { c.ws.MaxMessage = 512; c.ws.Burst = 100 })
	c, _ := w.enter("id=ann", "")
	object := `{"type":"input","ref":"q"}`
	array := func(n int) string { return "[" + strings.Repeat(object+",", n-1) + object + "]" }
	for name, p := range map[string]struct {
		body    string
		status  int
		answers []string
	}{
		"an object":            {object, 204, []string{"done"}},
		"space before":         {" \r\n\t" + object, 204, []string{"done"}},
		"an array":             {array(3), 204, []string{"done", "done", "done"}},
		"sixteen":              {array(16), 204, slicesOf("done", 16)},
		"none":                 {`[]`, 204, nil},
		"good and bad":         {`[` + object + `,{"type":"dance","ref":"q"},7,` + object + `]`, 204, []string{"done", "error", "error", "done"}},
		"seventeen":            {array(17), 400, nil},
		"half an array":        {`[` + object, 400, nil},
		"nothing":              {``, 400, nil},
		"space":                {`  `, 400, nil},
		"no JSON":              {`hello`, 204, []string{"error"}},
		"a message too long":   {`{"type":"input","x":"` + strings.Repeat("x", 600) + `"}`, 204, []string{"error"}},
		"one too long of two":  {`[` + object + `,{"x":"` + strings.Repeat("x", 600) + `"}]`, 204, []string{"done", "error"}},
		"far too long":         {`{"x":"` + strings.Repeat("x", 16*512) + `"}`, 413, nil},
		"a megabyte":           {strings.Repeat("[", 1<<20), 413, nil},
		"deep":                 {strings.Repeat("[", 8000), 400, nil},
		"not UTF-8":            {"{\"type\":\"\xff\"}", 204, []string{"error"}},
		"an array of nonsense": {`["[[[","{",null]`, 204, []string{"error", "error", "error"}},
	} {
		t.Run(name, func(t *testing.T) {
			w.clock.Add(time.Minute) // in which faults are forgotten
			c.t = t
			require.Equal(t, p.status, c.send(p.body))
			for _, want := range p.answers {
				require.Equal(t, want, first(c, "done", "error").Type)
			}
			c.do(`"type":"input"`)
			for _, f := range c.skipped {
				require.Equal(t, "self", f.Type, "nothing else was said")
			}
			c.skipped = nil
		})
	}
}

func slicesOf(s string, n int) []string {
	return strings.Split(strings.Repeat(s+" ", n-1)+s, " ")
}

// Any message that is posted shows that the page's own code runs.
func TestPostIsAHeartbeat(t *testing.T) {
	w := setupOver(t, "sse", nil)
	c, _ := w.enter("id=ann", "")
	for range 10 {
		w.advance(25 * time.Second)
		c.until("ping")
		require.Equal(t, http.StatusNoContent, c.send(`{"type":"unwatch"}`), "which is none by itself")
		state, err := w.tracker.State(t.Context(), presence.ID("ann"))
		require.NoError(t, err)
		require.Equal(t, presence.At(w.clock.Now()), state.Conns[0].Heard)
	}
	// A client that only watches need not send anything.
	guest, _ := w.enter("id=v1&role=visitor", "")
	for range 10 {
		w.advance(25 * time.Second)
		guest.until("ping")
	}
	require.Equal(t, gobwas.StatusPolicyViolation, c.closed(), "who is somebody has to")
	guest.do(`"type":"watch","channel":"sales"`)
}

// A heartbeat that repeats the last input is cheap, and exact enough.
func TestUnchangedIdleHeartbeat(t *testing.T) {
	both(t, func(t *testing.T, over string) {
		w := setupOver(t, over, nil)
		c, _ := w.enter("id=ann", "")
		steps := func() uint64 { // of reports that reached the tracker
			s, err := w.tracker.State(t.Context(), presence.ID("ann"))
			require.NoError(t, err)
			return s.Conns[0].Seq
		}
		input := func() presence.Instant {
			s, err := w.tracker.State(t.Context(), presence.ID("ann"))
			require.NoError(t, err)
			return s.Conns[0].Input
		}
		pong := func(seq, idle int) {
			t.Helper()
			w.advance(25 * time.Second)
			c.until("ping")
			c.do(fmt.Sprintf(`"type":"pong","seq":%d,"idle":%d`, seq, idle))
		}
		pong(1, 1000)
		at := input()
		require.EqualValues(t, 1, steps())
		pong(2, 26_000)
		pong(3, 51_400) // the way was longer
		require.EqualValues(t, 1, steps())
		require.Equal(t, at, input())
		pong(4, 75_400) // a moment later than it was
		require.EqualValues(t, 4, steps())
		require.Equal(t, at.Add(600*time.Millisecond), input())
		pong(5, 0)
		require.EqualValues(t, 5, steps())
		c.do(`"type":"input"`)
		pong(6, 25_000) // the client knows better
		require.EqualValues(t, 6, steps())
		c.say(`{"type":"hello","v":1}`)
		welcome := c.until("welcome")
		if over == "sse" {
			c.post = w.server.URL + "/messages?" + url.Values{"conn": {welcome.Conn}, "secret": {welcome.Secret}}.Encode()
		}
		pong(7, 50_000) // which the resumed connection does not know
		require.EqualValues(t, 7, steps())
		require.Equal(t, presence.At(w.clock.Now().Add(-50*time.Second)), input())
	})
}

// tokened authenticates by tokens as Token finds them.
func tokened(r *http.Request) (presence.Identity, error) {
	switch token := wire.Token(r); token {
	case "good/token?":
		return presence.Identity{Actor: presence.Agent(presence.ID("ann"))}, nil
	case "locked":
		return presence.Identity{}, fmt.Errorf("%w: ann is locked out", presence.ErrNotAllowed)
	case "slow":
		return presence.Identity{}, fmt.Errorf("%w: the keys cannot be read", presence.ErrUnavailable)
	default:
		return presence.Identity{}, errors.New("no such token: " + token)
	}
}

func TestTokens(t *testing.T) {
	w := setup(t, func(c *conf) { c.ws.Authenticate = tokened })
	protocol := func(token string) string {
		return "chat, presence.v1, token." + base64.RawURLEncoding.EncodeToString([]byte(token))
	}
	for name, c := range map[string]struct {
		query  string
		header []string
		status int
	}{
		"none":               {"", nil, 401},
		"a parameter":        {"token=good%2Ftoken%3F", nil, 200},
		"a header":           {"", []string{"Authorization", "bearer good/token?"}, 200},
		"a subprotocol":      {"", []string{"Sec-WebSocket-Protocol", protocol("good/token?")}, 200},
		"a bad one":          {"token=bad", nil, 401},
		"a bad header":       {"token=good%2Ftoken%3F", []string{"Authorization", "Bearer bad"}, 401},
		"another scheme":     {"token=good%2Ftoken%3F", []string{"Authorization", "Basic bad"}, 200},
		"a bad subprotocol":  {"token=good%2Ftoken%3F", []string{"Sec-WebSocket-Protocol", protocol("bad")}, 401},
		"what is not base64": {"", []string{"Sec-WebSocket-Protocol", "presence.v1, token.!"}, 401},
		"locked":             {"token=locked", nil, 403},
		"unavailable":        {"token=slow", nil, 503},
	} {
		t.Run(name, func(t *testing.T) {
			request := func(path string, header ...string) *http.Response {
				r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, w.server.URL+path+"?"+c.query, nil)
				require.NoError(t, err)
				for i := 0; i+1 < len(header)+len(c.header); i += 2 {
					h := append(header, c.header...)
					r.Header.Set(h[i], h[i+1])
				}
				response, err := http.DefaultClient.Do(r)
				require.NoError(t, err)
				t.Cleanup(func() { response.Body.Close() })
				return response
			}
			response := request("/events")
			require.Equal(t, c.status, response.StatusCode)
			if c.status == http.StatusUnauthorized {
				require.Equal(t, "Bearer", response.Header.Get("WWW-Authenticate"))
				why, _ := io.ReadAll(response.Body)
				require.NotContains(t, string(why), "no such token")
			}
			response = request("/", "Upgrade", "websocket", "Connection", "Upgrade", "Sec-WebSocket-Version", "13", "Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")
			if c.status == http.StatusOK {
				require.Equal(t, http.StatusSwitchingProtocols, response.StatusCode)
				if strings.Contains(name, "subprotocol") {
					require.Equal(t, []string{"presence.v1"}, response.Header.Values("Sec-WebSocket-Protocol"), "and not the token")
				}
				return
			}
			require.Equal(t, c.status, response.StatusCode)
		})
	}
}
