package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	gobwas "github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"
	"github.com/stretchr/testify/require"

	"github.com/presence-go/presence"
	"github.com/presence-go/presence/preset"
)

// TestMain also checks that no help desk left a goroutine behind.
func TestMain(m *testing.M) {
	code := m.Run()
	http.DefaultClient.CloseIdleConnections()
	limit := time.Now().Add(10 * time.Second)
	left := behind()
	for ; len(left) > 0 && time.Now().Before(limit); left = behind() {
		runtime.Gosched() // lets goroutines return
	}
	if len(left) > 0 {
		fmt.Fprintf(os.Stderr, "goroutines were left behind:\n%s\n", strings.Join(left, "\n\n"))
		code = 1
	}
	os.Exit(code)
}

// behind returns the stacks of goroutines other than that of the tests.
func behind() []string {
	stacks := make([]byte, 1<<22)
	list := strings.Split(string(stacks[:runtime.Stack(stacks, true)]), "\n\n")[1:]
	return slices.DeleteFunc(list, func(stack string) bool {
		frames, _, _ := strings.Cut(stack, "created by ")
		return !strings.Contains(stack, "presence-go") && !strings.Contains(frames, "net/http.")
	})
}

// serve runs a help desk. It returns the address, and a function that stops it.
func serve(t *testing.T, policy string) (url string, stop func()) {
	t.Helper()
	return serveOn(t, "", policy)
}

// serveOn is serve with a permanent file.
func serveOn(t *testing.T, db, policy string) (url string, stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	urls, ended := make(chan string, 1), make(chan error, 1)
	go func() {
		ended <- run(ctx, "127.0.0.1:0", db, policy, 1, func(url string) { urls <- url })
	}()
	stopped := false
	stop = func() {
		cancel()
		if stopped {
			return
		}
		stopped = true
		select {
		case err := <-ended:
			require.NoError(t, err)
		case <-time.After(10 * time.Second):
			require.Fail(t, "the help desk goes on")
		}
	}
	t.Cleanup(stop)
	select {
	case url = <-urls:
	case err := <-ended:
		stopped = true
		require.NoError(t, err)
	}
	return url, stop
}

// page is the socket of a page.
type page struct {
	t    *testing.T
	conn net.Conn
	in   io.ReadWriter
}

// message has the fields of messages to a page that tests read.
type message struct {
	Type     string
	Ref      string
	Code     string
	Statuses []struct{ ID string }
	Self     *presence.View
	View     *presence.View
	Members  []presence.View
	Changes  []presence.Change
	raw      string
}

func connect(t *testing.T, url, who string) *page {
	t.Helper()
	conn, early, _, err := gobwas.Dial(t.Context(), "ws"+strings.TrimPrefix(url, "http")+"/ws?"+who)
	require.NoError(t, err)
	t.Cleanup(func() { conn.Close() })
	require.NoError(t, conn.SetDeadline(time.Now().Add(20*time.Second)))
	p := &page{t: t, conn: conn, in: conn}
	if early != nil {
		p.in = struct {
			io.Reader
			io.Writer
		}{early, conn}
	}
	return p
}

func (p *page) say(format string, args ...any) {
	p.t.Helper()
	require.NoError(p.t, wsutil.WriteClientText(p.conn, fmt.Appendf(nil, format, args...)))
}

// until reads until a message fits.
func (p *page) until(fits func(message) bool) message {
	p.t.Helper()
	for {
		data, err := wsutil.ReadServerText(p.in)
		require.NoError(p.t, err)
		m := message{raw: string(data)}
		require.NoError(p.t, json.Unmarshal(data, &m), m.raw)
		if fits(m) {
			return m
		}
	}
}

func typed(kind string) func(message) bool {
	return func(m message) bool { return m.Type == kind }
}

// turned fits a diff in which a subject's status becomes the given one.
func turned(who, status string) func(message) bool {
	return func(m message) bool {
		return slices.ContainsFunc(m.Changes, func(c presence.Change) bool {
			return c.Subject.ID == who && c.View != nil && c.View.Status == status
		})
	}
}

func fetch(t *testing.T, method, url, body string) (status int, text string, header http.Header) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	require.NoError(t, err)
	answer, err := http.DefaultClient.Do(r)
	require.NoError(t, err)
	defer answer.Body.Close()
	data, err := io.ReadAll(answer.Body)
	require.NoError(t, err)
	return answer.StatusCode, string(data), answer.Header
}

func TestPresenceReachesThePages(t *testing.T) {
	url, _ := serve(t, "default")
	ann := connect(t, url, "agent=ann")
	ann.say(`{"type":"hello","v":1,"conn":"tab","login":true}`)
	welcome := ann.until(typed("welcome"))
	require.Equal(t, "available", welcome.Self.Status)
	require.Equal(t, []struct{ ID string }{{"available"}, {"away"}, {"busy"}}, welcome.Statuses)

	bob, visitor := connect(t, url, "agent=bob"), connect(t, url, "visitor=1")
	for _, p := range []*page{ann, bob, visitor} {
		p.say(`{"type":"hello","v":1}`)
		p.until(typed("welcome"))
		p.say(`{"type":"watch","channel":"sales"}`)
		snapshot := p.until(typed("snapshot"))
		i := slices.IndexFunc(snapshot.Members, func(v presence.View) bool { return v.Subject.ID == "ann" })
		require.GreaterOrEqual(t, i, 0, snapshot.raw)
		require.Equal(t, "available", snapshot.Members[i].Status)
		require.False(t, slices.ContainsFunc(snapshot.Members, func(v presence.View) bool { return v.Subject.ID == "cyd" }), "she sees to support only")
	}

	ann.say(`{"type":"claim","ref":"c","status":"busy","reason":"lunch at the dentist"}`)
	require.Equal(t, "busy", ann.until(func(m message) bool { return m.Ref == "c" }).View.Status)
	diff := bob.until(turned("ann", "busy"))
	require.Equal(t, "diff", diff.Type)
	diff = visitor.until(turned("ann", "busy"))
	require.Equal(t, "diff", diff.Type)
	require.NotContains(t, diff.raw, "dentist", "why is not for visitors")
	require.NotContains(t, diff.raw, "reason")

	status, text, _ := fetch(t, "GET", url+"/api/history", "")
	require.Equal(t, http.StatusOK, status)
	require.Contains(t, text, `"agent":"ann","status":"busy"`)
	status, text, _ = fetch(t, "GET", url+"/api/explain?agent=ann", "")
	require.Equal(t, http.StatusOK, status)
	require.Contains(t, text, "busy: chosen by hand")
}

func TestSales(t *testing.T) {
	url, _ := serve(t, "default")
	cyd := connect(t, url, "agent=cyd")
	cyd.say(`{"type":"hello","v":1}`)
	cyd.say(`{"type":"watch","ref":"w","channel":"sales"}`)
	require.Equal(t, "not-allowed", cyd.until(func(m message) bool { return m.Ref == "w" }).Code)
}

func TestPages(t *testing.T) {
	url, _ := serve(t, "default")
	for _, path := range []string{"/", "/console", "/widget", "/timeline"} {
		status, text, header := fetch(t, "GET", url+path, "")
		require.Equal(t, http.StatusOK, status, path)
		require.Contains(t, header.Get("Content-Type"), "text/html", path)
		require.Contains(t, text, "<!doctype html>", path)
		for piece := range strings.SplitSeq(text, `src="/web/`) { // the scripts exist too
			if name, _, found := strings.Cut(piece, `.js"`); found && !strings.ContainsAny(name, "<> ") {
				status, _, _ := fetch(t, "GET", url+"/web/"+name+".js", "")
				require.Equal(t, http.StatusOK, status, name)
			}
		}
	}
	status, _, _ := fetch(t, "GET", url+"/nowhere", "")
	require.Equal(t, http.StatusNotFound, status)
}

func TestStateAndSpeed(t *testing.T) {
	url, _ := serve(t, "tawkto")
	state := func() (s struct {
		Speed     float64
		Policy    string
		Policies  []string
		Greetings map[string]string
		Notes     []note
		Messages  []note
	}) {
		status, text, _ := fetch(t, "GET", url+"/api/state", "")
		require.Equal(t, http.StatusOK, status)
		require.NoError(t, json.Unmarshal([]byte(text), &s), text)
		return s
	}
	s := state()
	require.Equal(t, 1.0, s.Speed)
	require.Equal(t, "tawkto", s.Policy)
	require.Equal(t, preset.Names(), s.Policies)
	require.Len(t, s.Greetings, 3)

	for _, c := range []struct {
		path, body string
		status     int
		says       []string
	}{
		{"speed", `{"speed":1000}`, http.StatusBadRequest, []string{"1000", "0.1", "600"}},
		{"speed", `{"speed":-1}`, http.StatusBadRequest, []string{"-1", "0.1", "600"}},
		{"speed", `{}`, http.StatusBadRequest, []string{"0.1", "600"}},
		{"speed", `{"speed":"fast"}`, http.StatusBadRequest, []string{"not JSON"}},
		{"policy", `{"policy":"nonsense"}`, http.StatusBadRequest, []string{`"nonsense"`}},
		{"greeting", `{"rung":"nonsense","text":"x"}`, http.StatusBadRequest, []string{`"nonsense"`}},
		{"greeting", `{"rung":"away","text":"` + strings.Repeat("x", 301) + `"}`, http.StatusBadRequest, []string{"300"}},
		{"messages", `{"from":"a@example.com"}`, http.StatusBadRequest, []string{"a text"}},
		{"notes", `{"from":"ann","text":"x"}`, http.StatusForbidden, []string{"log in first"}},
		{"notes", `{"from":"nobody","text":"x"}`, http.StatusForbidden, []string{"log in first"}},
	} {
		status, text, _ := fetch(t, "POST", url+"/api/"+c.path, c.body)
		require.Equal(t, c.status, status, c.body)
		for _, word := range c.says {
			require.Contains(t, text, word, c.body)
		}
	}
	require.Equal(t, s, state(), "what is refused changes nothing")

	ann := connect(t, url, "agent=ann")
	ann.say(`{"type":"hello","v":1}`)
	ann.until(typed("welcome"))
	for path, body := range map[string]string{
		"speed": `{"speed":600}`, "policy": `{"policy":"threads"}`, "greeting": `{"rung":"away","text":"Later!"}`,
		"messages": `{"from":"a@example.com","text":"hello"}`, "notes": `{"from":"ann","text":"done"}`,
	} {
		status, text, _ := fetch(t, "POST", url+"/api/"+path, body)
		require.Equal(t, http.StatusNoContent, status, text)
		if path == "speed" { // so that she does not lose her connection meanwhile
			status, _, _ = fetch(t, "POST", url+"/api/speed", `{"speed":0.1}`)
			require.Equal(t, http.StatusNoContent, status)
		}
	}
	s = state()
	require.Equal(t, 0.1, s.Speed)
	require.Equal(t, "threads", s.Policy)
	require.Equal(t, "Later!", s.Greetings["away"])
	require.Equal(t, "done", s.Notes[0].Text)
	require.Equal(t, "a@example.com", s.Messages[0].From)
}

func TestWhoIsRefused(t *testing.T) {
	url, _ := serve(t, "default")
	for who, want := range map[string]int{"agent=nobody": http.StatusForbidden, "": http.StatusUnauthorized} {
		var body bytes.Buffer
		d := gobwas.Dialer{OnStatusError: func(_ int, _ []byte, r io.Reader) {
			if answer, err := http.ReadResponse(bufio.NewReader(r), nil); err == nil {
				_, _ = io.Copy(&body, answer.Body)
			}
		}}
		conn, _, _, err := d.Dial(t.Context(), "ws"+strings.TrimPrefix(url, "http")+"/ws?"+who)
		if conn != nil {
			conn.Close()
		}
		require.Equal(t, gobwas.StatusError(want), err, who)
		if want == http.StatusForbidden {
			require.Contains(t, body.String(), `"nobody"`)
		}
	}
}

func TestFlags(t *testing.T) {
	never := func(string) { t.Error("a server with wrong flags serves") }
	err := run(t.Context(), "127.0.0.1:0", "", "nonsense", 1, never)
	require.ErrorContains(t, err, `unknown policy "nonsense"`)
	for _, name := range preset.Names() {
		require.ErrorContains(t, err, name)
	}
	err = run(t.Context(), "127.0.0.1:0", "", "default", 0, never)
	require.ErrorContains(t, err, "0.1 and 600")
	err = run(t.Context(), "nowhere:-1", "", "default", 1, never)
	require.ErrorContains(t, err, "-addr")
}

// Choices survive a restart of the desk, and no other status shows first.
func TestStartedAgain(t *testing.T) {
	db := filepath.Join(t.TempDir(), "desk.db")
	url, stop := serveOn(t, db, "default")
	ann := connect(t, url, "agent=ann")
	ann.say(`{"type":"hello","v":1,"conn":"tab","login":true}`)
	ann.until(typed("welcome"))
	status, _, _ := fetch(t, "POST", url+"/api/speed", `{"speed":600}`) // so that the clock is ahead of the real time
	require.Equal(t, http.StatusNoContent, status)
	ann.say(`{"type":"claim","ref":"c","status":"busy"}`)
	require.Equal(t, "busy", ann.until(func(m message) bool { return m.Ref == "c" }).View.Status)
	stop()

	url, _ = serveOn(t, db, "default")
	ann = connect(t, url, "agent=ann")
	ann.say(`{"type":"hello","v":1,"conn":"tab"}`)
	require.Equal(t, "busy", ann.until(typed("welcome")).Self.Status)

	err := run(t.Context(), "127.0.0.1:0", filepath.Join(db, "no", "directory"), "default", 1, func(string) { t.Error("a server with wrong flags serves") })
	require.ErrorIs(t, err, presence.ErrUnavailable)
}

// The desk stops while pages are open, without waiting for them.
func TestStops(t *testing.T) {
	url, stop := serve(t, "default")
	ann := connect(t, url, "agent=ann")
	ann.say(`{"type":"hello","v":1}`)
	ann.until(typed("welcome"))
	feed, err := http.Get(url + "/feed")
	require.NoError(t, err)
	defer feed.Body.Close()
	first := make([]byte, 6)
	_, err = io.ReadFull(feed.Body, first)
	require.NoError(t, err)
	require.Equal(t, "data: ", string(first))

	began := time.Now()
	stop()
	require.Less(t, time.Since(began), 4*time.Second)
	_, err = io.ReadAll(feed.Body)
	require.NoError(t, err, "the feed has ended in an orderly way")
	for {
		if _, err = wsutil.ReadServerText(ann.in); err != nil {
			break
		}
	}
	var closed wsutil.ClosedError
	require.ErrorAs(t, err, &closed)
	require.Equal(t, gobwas.StatusGoingAway, closed.Code)
	_, err = http.Get(url)
	require.Error(t, err, "nobody listens there any more")
}
