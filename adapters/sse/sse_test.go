package sse

import (
	"bufio"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/presence-go/presence"
	"github.com/presence-go/presence/adapters/wire"
)

// setup serves streams; ann is in channel sales.
func setup(t *testing.T, opts Options, h2 bool) (*presence.Tracker, *httptest.Server) {
	t.Helper()
	tracker, err := presence.New(nil)
	require.NoError(t, err)
	if opts.Authenticate == nil {
		opts.Authenticate = func(r *http.Request) (presence.Identity, error) {
			q := r.URL.Query()
			if q.Get("id") == "" {
				return presence.Identity{}, errors.New("nobody")
			}
			return presence.Identity{Actor: presence.Actor{Subject: presence.ID(q.Get("id")), Role: presence.Role(q.Get("role"))}}, nil
		}
	}
	handler, err := NewHandler(tracker, &opts)
	require.NoError(t, err)
	mux := http.NewServeMux()
	mux.Handle("/presence/", handler)
	server := httptest.NewUnstartedServer(mux)
	if h2 {
		server.EnableHTTP2 = true
		server.Config.WriteTimeout = time.Minute
		server.StartTLS()
	} else {
		server.Start()
	}
	t.Cleanup(func() {
		handler.Close()
		server.Close()
		tracker.Close()
	})
	require.NoError(t, tracker.AddMember(t.Context(), presence.ChannelID("sales"), presence.ID("ann")))
	return tracker, server
}

// get opens a stream and returns its response and what reads its lines.
func get(t *testing.T, server *httptest.Server, query string, header ...string) (*http.Response, *bufio.Scanner) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL+"/presence/events?"+query, nil)
	require.NoError(t, err)
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	response, err := server.Client().Do(r)
	require.NoError(t, err)
	t.Cleanup(func() { response.Body.Close() })
	return response, bufio.NewScanner(response.Body)
}

// lines returns the next non-empty lines.
func lines(t *testing.T, in *bufio.Scanner, n int) (list []string) {
	t.Helper()
	for len(list) < n {
		require.True(t, in.Scan(), "%v after %q", in.Err(), list)
		if in.Text() != "" {
			list = append(list, in.Text())
		}
	}
	return list
}

// secret takes the secret out of a welcome.
func secret(t *testing.T, welcome string) string {
	t.Helper()
	_, rest, ok := strings.Cut(welcome, `"secret":"`)
	require.True(t, ok, welcome)
	s, _, _ := strings.Cut(rest, `"`)
	return s
}

// A stream by both versions of HTTP, as curl would show it.
func TestStream(t *testing.T) {
	for name, h2 := range map[string]bool{"HTTP/1.1": false, "HTTP/2.0": true} {
		t.Run(name, func(t *testing.T) {
			tracker, server := setup(t, Options{}, h2)
			response, in := get(t, server, "id=v1&role=visitor&conn=mine&watch=sales")
			require.Equal(t, name, response.Proto)
			require.Equal(t, http.StatusOK, response.StatusCode)
			require.Equal(t, "text/event-stream", response.Header.Get("Content-Type"))
			require.Equal(t, "no-store", response.Header.Get("Cache-Control"))
			require.Equal(t, "no", response.Header.Get("X-Accel-Buffering"))

			head := lines(t, in, 4)
			require.Regexp(t, `^retry: [12]\d\d\d$`, head[0])
			require.True(t, strings.HasPrefix(head[1], `data: {"type":"welcome","v":1,"conn":"mine",`), head[1])
			require.Regexp(t, `^id: sales/[0-9a-z]+\.vi1/0$`, head[2])
			require.True(t, strings.HasPrefix(head[3], `data: {"type":"snapshot",`), head[3])

			_, err := tracker.Connect(t.Context(), presence.ID("ann"), presence.ConnectOptions{})
			require.NoError(t, err)
			next := lines(t, in, 2)
			require.Regexp(t, `/1$`, next[0])
			require.True(t, strings.HasPrefix(next[1], `data: {"type":"diff",`), next[1])

			post, err := server.Client().Post(server.URL+"/presence/messages?"+url.Values{"conn": {"mine"}, "secret": {secret(t, head[1])}}.Encode(), "", strings.NewReader(`[{"type":"unwatch","ref":"1","channel":"sales"},{"type":"bye"}]`))
			require.NoError(t, err)
			post.Body.Close()
			require.Equal(t, http.StatusNoContent, post.StatusCode)
			require.Equal(t, []string{
				"id: ", `data: {"type":"done","v":1,"ref":"1"}`,
				`data: {"type":"close","v":1,"code":1000,"message":"bye"}`,
			}, lines(t, in, 3))
			if in.Scan() { // the empty line after the last event
				require.False(t, in.Scan(), "the stream is over")
			}
			require.NoError(t, in.Err())
		})
	}
}

// A stream outlives the time that a client has to take what is written.
func TestStreamOutlivesItsDeadlines(t *testing.T) {
	for name, h2 := range map[string]bool{"HTTP/1.1": false, "HTTP/2": true} {
		t.Run(name, func(t *testing.T) {
			_, server := setup(t, Options{WriteTimeout: 50 * time.Millisecond, PingInterval: 300 * time.Millisecond}, h2)
			_, in := get(t, server, "id=v1&role=visitor")
			got := lines(t, in, 4)
			require.Contains(t, got[2], `"type":"ping"`)
			require.Contains(t, got[3], `"type":"ping"`)
		})
	}
}

// A response that is not ours any more is not touched, whatever happens to the
// session within its last second.
func TestServerClosesAfterTheClient(t *testing.T) {
	tracker, err := presence.New(nil)
	require.NoError(t, err)
	defer tracker.Close()
	handler, err := NewHandler(tracker, &Options{Authenticate: func(*http.Request) (presence.Identity, error) {
		return presence.Identity{Actor: presence.Actor{Subject: presence.ID("v1"), Role: presence.RoleVisitor}}, nil
	}})
	require.NoError(t, err)
	returned := make(chan struct{})
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		handler.ServeHTTP(w, r)
		close(returned)
	}))
	server.EnableHTTP2 = true
	server.StartTLS()
	defer server.Close()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL+"/events", nil)
	require.NoError(t, err)
	response, err := server.Client().Do(r)
	require.NoError(t, err)
	lines(t, bufio.NewScanner(response.Body), 2)
	response.Body.Close()
	<-returned
	require.Equal(t, 1, handler.Sessions(), "it may be opened again")
	require.NoError(t, handler.Close())
	require.Zero(t, handler.Sessions())
}

// The handler of a response that cannot be taken over returns when its client
// has gone, and everything is given back.
func TestClientLeaves(t *testing.T) {
	for name, h2 := range map[string]bool{"HTTP/1.1": false, "HTTP/2": true} {
		t.Run(name, func(t *testing.T) {
			tracker, server := setup(t, Options{MaxSessionsPerSubject: 1}, h2)
			response, in := get(t, server, "id=ann&conn=tab")
			lines(t, in, 2)
			second, _ := get(t, server, "id=ann&conn=tab")
			require.Equal(t, http.StatusTooManyRequests, second.StatusCode)
			w, err := tracker.WatchSubject(t.Context(), presence.Actor{Subject: presence.ID("boss"), Role: presence.RoleAdmin}, presence.ID("ann"), presence.WatchOptions{})
			require.NoError(t, err)
			defer w.Close()
			f, err := w.Next(t.Context())
			require.NoError(t, err)
			require.True(t, f.Members[0].Routable)
			response.Body.Close()
			f, err = w.Next(t.Context())
			require.NoError(t, err)
			require.False(t, f.Changes[0].View.Routable, "lost, a moment later")
			for {
				if again, _ := get(t, server, "id=ann&conn=tab"); again.StatusCode == http.StatusOK {
					break
				}
			}
		})
	}
}

func TestRequests(t *testing.T) {
	_, server := setup(t, Options{AllowedOrigins: []string{"https://app.example.com"}}, false)
	for name, c := range map[string]struct {
		method, path, origin string // or the browser's Sec-Fetch-Site without one
		status               int
		text                 string
	}{
		"version":         {"GET", "/presence/events?id=ann&v=2", "", 400, `invalid version "2"; allowed: 1`},
		"login":           {"GET", "/presence/events?id=ann&login=perhaps", "", 400, "login"},
		"visible":         {"GET", "/presence/events?id=ann&visible=half", "", 400, "visible"},
		"idle":            {"GET", "/presence/events?id=ann&idle=long", "", 400, "idle"},
		"nobody":          {"GET", "/presence/events", "", 401, "log in first"},
		"strange origin":  {"GET", "/presence/events?id=ann", "https://evil.example.com", 403, `origin "https://evil.example.com": add it`},
		"a picture":       {"GET", "/presence/events?id=ann", "cross-site", 403, "(Sec-Fetch-Site: cross-site)"},
		"a neighbour's":   {"GET", "/presence/events?id=ann", "same-site", 403, "(Sec-Fetch-Site: same-site)"},
		"our own":         {"GET", "/presence/events", "same-origin", 401, "log in first"},
		"typed":           {"GET", "/presence/events", "none", 401, "log in first"},
		"posting there":   {"POST", "/presence/events?id=ann", "", 405, "allowed: GET"},
		"getting here":    {"GET", "/presence/messages?id=ann", "", 405, "allowed: POST"},
		"elsewhere":       {"GET", "/presence/else", "", 404, "events and messages"},
		"strange post":    {"POST", "/presence/messages?id=ann&conn=x", "https://evil.example.com", 403, "add it to AllowedOrigins"},
		"nobody's post":   {"POST", "/presence/messages?conn=x", "", 401, "log in first"},
		"unknown":         {"POST", "/presence/messages?id=ann&conn=x", "", 404, "open it again"},
		"asking":          {"OPTIONS", "/presence/messages", "https://app.example.com", 204, ""},
		"asking the same": {"OPTIONS", "/presence/events", "", 204, ""},
		"asking strange":  {"OPTIONS", "/presence/messages", "https://evil.example.com", 403, "add it to AllowedOrigins"},
	} {
		t.Run(name, func(t *testing.T) {
			r, err := http.NewRequestWithContext(t.Context(), c.method, server.URL+c.path, strings.NewReader("{}"))
			require.NoError(t, err)
			if strings.Contains(c.origin, "://") {
				r.Header.Set("Origin", c.origin)
			} else if c.origin != "" {
				r.Header.Set("Sec-Fetch-Site", c.origin)
			}
			response, err := server.Client().Do(r)
			require.NoError(t, err)
			defer response.Body.Close()
			body, err := io.ReadAll(response.Body)
			require.NoError(t, err)
			require.Equal(t, c.status, response.StatusCode)
			require.Contains(t, string(body), c.text)
			if c.status == http.StatusForbidden {
				require.Empty(t, response.Header.Get("Access-Control-Allow-Origin"))
			}
		})
	}
}

// A page of an allowed origin may read the events.
func TestOtherOrigins(t *testing.T) {
	for _, allowed := range []string{"https://app.example.com", "*"} {
		_, server := setup(t, Options{AllowedOrigins: []string{allowed}}, false)
		response, _ := get(t, server, "id=v1&role=visitor", "Origin", "https://app.example.com")
		require.Equal(t, http.StatusOK, response.StatusCode)
		require.Equal(t, "https://app.example.com", response.Header.Get("Access-Control-Allow-Origin"))
		require.Equal(t, "true", response.Header.Get("Access-Control-Allow-Credentials"))
		require.Equal(t, "Origin", response.Header.Get("Vary"))
		response, _ = get(t, server, "id=v2&role=visitor", "Origin", server.URL)
		require.Equal(t, http.StatusOK, response.StatusCode)
		require.Empty(t, response.Header.Get("Access-Control-Allow-Origin"), "its own pages need not be told")
	}
}

// A refused hello ends the stream with an error.
func TestHelloThatIsNotTaken(t *testing.T) {
	tracker, server := setup(t, Options{}, false)
	_, err := tracker.Connect(t.Context(), presence.ID("ann"), presence.ConnectOptions{})
	require.NoError(t, err)
	require.NoError(t, tracker.Disable(t.Context(), presence.ID("ann")))
	for query, code := range map[string]string{
		"id=ann":                               "disabled",
		"id=bob&idle=-1":                       "invalid",
		"id=bob&idle=NaN":                      "invalid",
		"id=bob&conn=a%00b":                    "invalid",
		"id=v&role=visitor&conn=a%00b":         "invalid",
		"id=v&role=visitor&conn=%ff":           "invalid",
		"id=v&role=visitor&conn=" + long("x"):  "invalid",
		"id=bob&device=" + long("x"):           "invalid",
		"id=bob&conn=" + long("y") + "&watch=": "invalid",
	} {
		_, in := get(t, server, query)
		got := lines(t, in, 3)
		require.Contains(t, got[1], `"type":"error","v":1,"code":"`+code+`"`, query)
		require.Equal(t, `data: {"type":"close","v":1,"code":1008,"message":"no hello was taken"}`, got[2])
	}
}

func long(s string) string { return strings.Repeat(s, 129) }

// A refused watch is reported, and the stream continues.
func TestChannelsOfAStream(t *testing.T) {
	_, server := setup(t, Options{MaxChannels: 2}, false)
	_, in := get(t, server, "id=bob&watch=sales,,a%2Cb")
	got := lines(t, in, 4)
	require.Contains(t, got[2]+got[3], `"code":"not-allowed"`)
	require.Contains(t, got[2]+got[3], `"channel":"sales"`)

	// Ten thousand channels are too many, which is reported once.
	_, in = get(t, server, "id=v&role=visitor&conn=c&watch="+strings.Repeat("x,", 5000)+names(10_000))
	all := ""
	for !strings.Contains(all, `"type":"error"`) || strings.Count(all, `"type":"snapshot"`) < 2 {
		all += lines(t, in, 1)[0]
	}
	require.Contains(t, all, `"code":"limit"`)
	response, err := server.Client().Post(server.URL+"/presence/messages?id=v&role=visitor&conn=c", "", strings.NewReader(`{"type":"input","ref":"last"}`))
	require.NoError(t, err)
	response.Body.Close()
	rest := lines(t, in, 1)[0]
	require.Contains(t, rest, `"ref":"last"`, "nothing else was said")
}

func names(n int) string {
	var b strings.Builder
	for i := range n {
		b.WriteString("c")
		b.WriteString(strings.Repeat("x", i%7))
		b.WriteString(string(rune('a'+i%26)) + string(rune('a'+i/26%26)) + string(rune('a'+i/676%26)))
		b.WriteString(",")
	}
	return b.String()
}

// FuzzParameters feeds arbitrary requests to what reads them.
func FuzzParameters(f *testing.F) {
	f.Add("conn=a&login=true&visible=0&idle=1e9&device=web&v=1&watch=a,b%2Cc", "a/x/1,b//2")
	f.Add("watch=%25zz,,%2C&last=a/b/3", "")
	f.Add("idle=-Inf&login=", "\x00")
	f.Fuzz(func(t *testing.T, query, last string) {
		q, err := url.ParseQuery(query)
		if err != nil {
			return
		}
		_, _ = parseHello(q)
		seen := make(map[string]bool)
		for _, mark := range channels(q.Get("watch"), last) {
			require.False(t, seen[mark.Channel], "each once")
			seen[mark.Channel] = true
		}
		require.LessOrEqual(t, len(seen), len(query)+len(last))
		require.Equal(t, channels(q.Get("watch"), last), channels(q.Get("watch"), wire.ParsePosition(last).String()), "in whatever form")
	})
}
