package pusher_test

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/md5"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/presence-go/presence"
	"github.com/presence-go/presence/adapters/pusher"
)

// client is an HTTP client of the world.
func (w *world) http() *http.Client {
	return &http.Client{Transport: &http.Transport{DialContext: w.net.dial, DisableKeepAlives: true}}
}

func (w *world) request(method, target, body string, header ...string) (status int, answer string) {
	w.t.Helper()
	r, err := http.NewRequestWithContext(w.t.Context(), method, "http://host"+target, strings.NewReader(body))
	require.NoError(w.t, err)
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	response, err := w.http().Do(r)
	require.NoError(w.t, err)
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	require.NoError(w.t, err)
	return response.StatusCode, strings.TrimSpace(string(text))
}

func (w *world) get(target string, header ...string) (int, string) {
	w.t.Helper()
	return w.request("GET", target, "", header...)
}

// call makes a request to the API, signed. The parameters are of the query.
func (w *world) call(method, path, params, body string) (int, string) {
	w.t.Helper()
	q, err := url.ParseQuery(params)
	require.NoError(w.t, err)
	q.Set("auth_key", w.app.Key)
	q.Set("auth_timestamp", fmt.Sprint(time.Now().Unix()))
	q.Set("auth_version", "1.0")
	if body != "" {
		sum := md5.Sum([]byte(body))
		q.Set("body_md5", hex.EncodeToString(sum[:]))
	}
	var sorted []string
	for pair := range strings.SplitSeq(q.Encode(), "&") {
		plain, err := url.QueryUnescape(pair)
		require.NoError(w.t, err)
		sorted = append(sorted, plain)
	}
	h := hmac.New(sha256.New, []byte(w.app.Secret))
	h.Write([]byte(method + "\n" + path + "\n" + strings.Join(sorted, "&")))
	q.Set("auth_signature", hex.EncodeToString(h.Sum(nil)))
	return w.request(method, path+"?"+q.Encode(), body)
}

// apiCase is a request to the HTTP API with its answer.
type apiCase struct {
	method, path, params, body string
	status                     int
	answer                     string // exact where it is an object, else contained
	heard                      []string
}

func apiCases() map[string]apiCase {
	long := strings.Repeat("x", 10<<10)
	event := func(more string) string { return `{"name":"e","data":"1","channel":"news"` + more + `}` }
	return map[string]apiCase{
		"an event": {method: "POST", path: "events", body: event(""), status: 200, answer: `{}`, heard: []string{"e news"}},
		"an event on channels": {method: "POST", path: "events", body: `{"name":"e","data":"1","channels":["news","presence-sales","nobody"]}`,
			status: 200, answer: `{}`, heard: []string{"e news", "e presence-sales"}},
		"an event with info": {method: "POST", path: "events", body: `{"name":"e","data":"1","channels":["presence-sales"],"info":"user_count,subscription_count"}`,
			status: 200, answer: `{"channels":{"presence-sales":{"user_count":2,"subscription_count":2}}}`, heard: []string{"e presence-sales"}},
		"info that is not there":        {method: "POST", path: "events", body: event(`,"info":"user_count"`), status: 400, answer: "user_count", heard: []string{"e news"}},
		"longest data":                  {method: "POST", path: "events", body: `{"name":"e","channel":"news","data":"` + long + `"}`, status: 200, answer: `{}`, heard: []string{"e news"}},
		"long data":                     {method: "POST", path: "events", body: `{"name":"e","channel":"news","data":"` + long + `x"}`, status: 413, answer: "10241"},
		"a long body":                   {method: "POST", path: "events", body: strings.Repeat(" ", 400_000), status: 413, answer: "longer"},
		"no data":                       {method: "POST", path: "events", body: `{"name":"e","channel":"news"}`, status: 400, answer: "data is needed"},
		"data that is no text":          {method: "POST", path: "events", body: `{"name":"e","channel":"news","data":{}}`, status: 400},
		"no channel":                    {method: "POST", path: "events", body: `{"name":"e","data":"1"}`, status: 400, answer: "channels"},
		"a bad channel":                 {method: "POST", path: "events", body: `{"name":"e","data":"1","channel":"a b"}`, status: 400},
		"a bad socket":                  {method: "POST", path: "events", body: event(`,"socket_id":"x"`), status: 400, answer: "socket id"},
		"no JSON":                       {method: "POST", path: "events", body: `{`, status: 400},
		"no body":                       {method: "POST", path: "events", status: 400},
		"a batch":                       {method: "POST", path: "batch_events", body: `{"batch":[` + event("") + `,` + event("") + `]}`, status: 200, answer: `{}`, heard: []string{"e news", "e news"}},
		"a batch with info":             {method: "POST", path: "batch_events", body: `{"batch":[` + event("") + `,` + event(`,"info":"subscription_count"`) + `]}`, status: 200, answer: `{"batch":[{},{"subscription_count":1}]}`, heard: []string{"e news", "e news"}},
		"an empty batch":                {method: "POST", path: "batch_events", body: `{"batch":[]}`, status: 400},
		"a long batch":                  {method: "POST", path: "batch_events", body: `{"batch":[` + event("") + strings.Repeat(","+event(""), 10) + `]}`, status: 400, answer: "10"},
		"a batch with a fault":          {method: "POST", path: "batch_events", body: `{"batch":[` + event("") + `,{"name":"e"}]}`, status: 400},
		"channels":                      {method: "GET", path: "channels", status: 200, answer: `{"channels":{"news":{},"presence-sales":{}}}`},
		"channels by prefix":            {method: "GET", path: "channels", params: "filter_by_prefix=presence-&info=user_count", status: 200, answer: `{"channels":{"presence-sales":{"user_count":2}}}`},
		"counts of all channels":        {method: "GET", path: "channels", params: "info=user_count", status: 400, answer: "presence"},
		"what is not known of channels": {method: "GET", path: "channels", params: "info=weather", status: 400, answer: "weather"},
		"a channel":                     {method: "GET", path: "channels/news", status: 200, answer: `{"occupied":true}`},
		"a channel nobody is on":        {method: "GET", path: "channels/nobody", params: "info=subscription_count", status: 200, answer: `{"occupied":false,"subscription_count":0}`},
		"a presence channel":            {method: "GET", path: "channels/presence-sales", params: "info=user_count,subscription_count", status: 200, answer: `{"occupied":true,"user_count":2,"subscription_count":2}`},
		"a channel that keeps":          {method: "GET", path: "channels/cache-a", params: "info=cache", status: 200, answer: `{"occupied":false,"cache":{"data":"kept","ttl":1800}}`},
		"a bad name":                    {method: "GET", path: "channels/a b", status: 400},
		"users":                         {method: "GET", path: "channels/presence-sales/users", status: 200, answer: `{"users":[{"id":"ann"},{"id":"bob"}]}`},
		"users of nothing":              {method: "GET", path: "channels/presence-none/users", status: 200, answer: `{"users":[]}`},
		"users of a channel without":    {method: "GET", path: "channels/news/users", status: 400},
		"users of a bad name":           {method: "GET", path: "channels/a b/users", status: 400},
		"a user's end":                  {method: "POST", path: "users/bob/terminate_connections", body: `{}`, status: 200, answer: `{}`},
		"another path":                  {method: "POST", path: "elsewhere", status: 404},
		"another method":                {method: "GET", path: "events", status: 405},
	}
}

func TestAPI(t *testing.T) {
	for name, c := range apiCases() {
		t.Run(name, func(t *testing.T) {
			inWorld(t, nil, func(w *world) {
				ann, bob := w.enter("ann", "presence-sales"), w.enter("bob", "presence-sales")
				ann.subscribe("news", "")
				require.NoError(t, w.handler.Trigger(app.ID, pusher.Event{Name: "k", Channels: []string{"cache-a"}, Data: "kept"}))
				ann.take()
				status, answer := w.call(c.method, "/apps/3/"+c.path, c.params, c.body)
				require.Equal(t, c.status, status, answer)
				if strings.HasPrefix(c.answer, "{") {
					require.JSONEq(t, c.answer, answer)
				} else {
					require.Contains(t, answer, c.answer)
				}
				if name == "a user's end" {
					require.Equal(t, 4009, bob.closed())
					return
				}
				require.ElementsMatch(t, c.heard, ann.events())
			})
		})
	}
}

func TestAPIRefusesWhatIsNotSigned(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		for target, status := range map[string]int{
			"/apps/3/channels":                     401,
			"/apps/3/channels?auth_key=" + app.Key: 401,
			"/apps/5/channels":                     404,
			"/app/" + app.Key:                      426,
			"/":                                    404,
			"/apps/3/channels/presence-sales/users?x=y": 401,
		} {
			got, body := w.get(target)
			require.Equal(t, status, got, target)
			require.NotEmpty(t, body)
			require.NotContains(t, body, app.Secret)
		}
	})
}

// hook is an endpoint of webhooks. It answers with the statuses it is given, and
// with 200 after them.
type hook struct {
	t *testing.T

	mu       sync.Mutex
	statuses []int
	got      []string
	times    []time.Time
}

func (h *hook) RoundTrip(r *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(r.Body)
	require.NoError(h.t, err)
	mac := hmac.New(sha256.New, []byte(app.Secret))
	mac.Write(body)
	require.Equal(h.t, app.Key, r.Header.Get("X-Pusher-Key"))
	require.Equal(h.t, hex.EncodeToString(mac.Sum(nil)), r.Header.Get("X-Pusher-Signature"))
	require.Equal(h.t, "application/json", r.Header.Get("Content-Type"))
	h.mu.Lock()
	defer h.mu.Unlock()
	status := 200
	h.times = append(h.times, time.Now())
	if len(h.statuses) > 0 {
		status, h.statuses = h.statuses[0], h.statuses[1:]
	}
	if status == 200 {
		var payload struct {
			TimeMS int64             `json:"time_ms"`
			Events []json.RawMessage `json:"events"`
		}
		require.NoError(h.t, json.Unmarshal(body, &payload))
		require.InDelta(h.t, time.Now().UnixMilli(), payload.TimeMS, 600_000)
		for _, e := range payload.Events {
			h.got = append(h.got, string(e))
		}
	}
	return &http.Response{StatusCode: status, Status: fmt.Sprint(status), Body: io.NopCloser(bytes.NewReader(nil))}, nil
}

// answer sets the statuses of the next answers, and forgets the times of
// earlier requests.
func (h *hook) answer(statuses ...int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.statuses, h.times = statuses, nil
}

func (h *hook) take() []string {
	synctest.Wait()
	h.mu.Lock()
	defer h.mu.Unlock()
	got := h.got
	h.got = nil
	return got
}

func TestWebhooks(t *testing.T) {
	all, some := &hook{t: t}, &hook{t: t}
	inWorld(t, func(c *conf) {
		c.pusher.Apps[0].Webhooks = []pusher.Webhook{
			{URL: "https://all.example/hooks", Client: &http.Client{Transport: all}},
			{URL: "https://some.example/hooks", Client: &http.Client{Transport: some}, Events: []string{"channel_vacated", "member_removed"}},
		}
	}, func(w *world) {
		ann := w.open()
		ann.subscribe("presence-sales", "ann")
		require.Equal(t, []string{
			`{"name":"channel_occupied","channel":"presence-sales"}`,
			`{"name":"member_added","channel":"presence-sales","user_id":"ann"}`,
		}, all.take())
		second, visitor := w.enter("ann", "presence-sales"), w.enter("visitor-1", "presence-sales")
		w.claim("ann", "busy")
		require.Empty(t, all.take())
		ann.send("client-x", "presence-sales", map[string]any{"a": 1})
		ann.subscribe("private-cache-a", "")
		ann.take()
		ann.send("client-y", "private-cache-a", "text")
		require.Equal(t, []string{
			`{"name":"client_event","channel":"presence-sales","event":"client-x","data":"{\"a\":1}","socket_id":"` + ann.id + `","user_id":"ann"}`,
			`{"name":"channel_occupied","channel":"private-cache-a"}`,
			`{"name":"cache_miss","channel":"private-cache-a"}`,
			`{"name":"client_event","channel":"private-cache-a","event":"client-y","data":"text","socket_id":"` + ann.id + `"}`,
		}, all.take())
		second.leave()
		visitor.leave()
		require.Empty(t, all.take())
		ann.leave()
		w.pass(2 * time.Second)
		ann = w.enter("ann", "presence-sales")
		require.Empty(t, all.take(), "she came back in time")
		ann.leave()
		w.pass(time.Second)
		private := []string{`{"name":"channel_vacated","channel":"private-cache-a"}`}
		require.Equal(t, private, all.take(), "3 s after its last subscription")
		require.Equal(t, private, some.take())
		w.pass(4*time.Second - time.Nanosecond)
		require.Empty(t, all.take())
		w.pass(time.Nanosecond)
		gone := []string{`{"name":"member_removed","channel":"presence-sales","user_id":"ann"}`, `{"name":"channel_vacated","channel":"presence-sales"}`}
		require.Equal(t, gone, all.take())
		require.Equal(t, gone, some.take())
		w.enter("bob", "presence-sales")
		require.Len(t, all.take(), 2, "it begins anew")
	})
}

func TestWebhooksAreRepeatedAndGivenUp(t *testing.T) {
	h := &hook{t: t, statuses: []int{500, 404, 302}}
	inWorld(t, func(c *conf) {
		c.pusher.Apps[0].Webhooks = []pusher.Webhook{{URL: "https://x.example", Client: &http.Client{Transport: h}}}
	}, func(w *world) {
		began := time.Now()
		c := w.open()
		c.subscribe("a", "")
		c.subscribe("b", "")
		w.pass(time.Minute)
		require.Equal(t, []string{`{"name":"channel_occupied","channel":"a"}`, `{"name":"channel_occupied","channel":"b"}`}, h.take(), "in order")
		require.Equal(t, []time.Time{began, began.Add(time.Second), began.Add(3 * time.Second), began.Add(7 * time.Second)}, h.times[:4])

		h.answer(slices.Repeat([]int{500}, 1000)...)
		began = time.Now()
		c.subscribe("c", "")
		w.pass(10 * time.Minute)
		require.Less(t, h.times[len(h.times)-1].Sub(began), 5*time.Minute+time.Second)
		require.Greater(t, len(h.times), 7)
		h.answer()
		c.subscribe("d", "")
		w.pass(time.Second)
		require.Equal(t, []string{`{"name":"channel_occupied","channel":"d"}`}, h.take(), "the next has its own time")

		h.answer(500, 500, 500)
		c.subscribe("e", "")
		ctx, cancel := context.WithTimeout(w.t.Context(), time.Minute)
		defer cancel()
		require.NoError(t, w.handler.Shutdown(ctx))
		w.pass(time.Hour)
		require.NotContains(t, strings.Join(h.take(), " "), `"channel":"e"`, "once the handler closes there is one more try")
	})
}

func TestWebhooksThatWaitAreBounded(t *testing.T) {
	h := &hook{t: t, statuses: slices.Repeat([]int{500}, 1000)}
	inWorld(t, func(c *conf) {
		c.pusher.MessagesPerSecond, c.pusher.Burst, c.pusher.ClientEventsPerSecond = 1e6, 1e6, 1e6
		c.pusher.Apps[0].Webhooks = []pusher.Webhook{{URL: "https://x.example", Client: &http.Client{Transport: h}, Events: []string{"client_event"}}}
	}, func(w *world) {
		c := w.open()
		c.subscribe("private-a", "")
		c.take()
		long := strings.Repeat("x", 10_000)
		for range 2000 { // 20 MB, of which 16 MiB may wait
			c.send("client-x", "private-a", long)
		}
		synctest.Wait()
		h.answer()
		w.pass(10 * time.Minute)
		got := len(h.take())
		require.Greater(t, got, 1500)
		require.Less(t, got, 1700)
	})
}

func TestAppsHaveTheirOwnTenants(t *testing.T) {
	other := pusher.App{ID: "4", Key: "other", Secret: "s", Tenant: "acme"}
	inWorld(t, func(c *conf) { c.pusher.Apps = append(c.pusher.Apps, other) }, func(w *world) {
		ann := w.enter("ann", "presence-sales")
		require.NoError(t, w.tracker.AddMember(w.t.Context(), presence.Channel{Tenant: "acme", ID: "sales"}, presence.Ref{Tenant: "acme", ID: "ann"}))
		w.app = other
		theirs := w.enter("ann", "presence-sales")
		theirs.subscribe("news", "")
		theirs.take()
		w.app = app
		require.NoError(t, w.handler.Trigger("3", pusher.Event{Name: "e", Channels: []string{"news", "presence-sales"}}))
		require.Empty(t, theirs.take())
		require.Equal(t, []string{"e presence-sales"}, ann.events())
		require.NoError(t, w.handler.Terminate("3", "ann"))
		require.Equal(t, 4009, ann.closed())
		require.True(t, theirs.open())
		require.Equal(t, []string{"ann"}, theirs.ids("presence-sales"))
	})
}
