package webhook_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
	"github.com/stretchr/testify/require"

	"github.com/presence-go/presence"
	"github.com/presence-go/presence/adapters/webhook"
	"github.com/presence-go/presence/presencetest"
)

const secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

// body is what the endpoint reads of a request.
type body struct {
	Type      string                `json:"type"`
	Timestamp presence.Instant      `json:"timestamp"`
	Data      presence.Notification `json:"data"`
}

// verified reads a request as an endpoint should: nothing before the signature
// is right.
func verified(r *http.Request) (b body, err error) {
	data, err := io.ReadAll(r.Body)
	if err != nil {
		return b, err
	}
	verifier, err := standardwebhooks.NewWebhook(secret)
	if err != nil {
		return b, err
	}
	if err := verifier.Verify(data, r.Header); err != nil {
		return b, err
	}
	return b, json.Unmarshal(data, &b)
}

// newNotifier returns a notifier with the secret.
func newNotifier(t *testing.T, opts webhook.Options) *webhook.Notifier {
	t.Helper()
	opts.Secret = secret
	n, err := webhook.New(&opts)
	require.NoError(t, err)
	return n
}

func TestConforms(t *testing.T) {
	presencetest.RunNotifier(t, func(ctx context.Context) (presencetest.NotifierCase, error) {
		arrived := make(chan presence.Notification, 100)
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			b, err := verified(r)
			if err != nil {
				http.Error(w, err.Error(), http.StatusUnauthorized)
				return
			}
			arrived <- b.Data
		}))
		context.AfterFunc(ctx, server.Close)
		n, err := webhook.New(&webhook.Options{URL: server.URL, Secret: secret})
		return presencetest.NotifierCase{Notifier: n, Receive: func(ctx context.Context) (presence.Notification, error) {
			select {
			case n := <-arrived:
				return n, nil
			case <-ctx.Done():
				return presence.Notification{}, context.Cause(ctx)
			}
		}}, err
	})
}

func TestRequest(t *testing.T) {
	t.Parallel()
	at := presence.At(time.Date(2026, 1, 5, 9, 0, 0, 123, time.UTC))
	tests := []struct {
		name string
		n    presence.Notification
		id   string // the header's
	}{
		{"full", presence.Notification{ID: "n-1", Subject: presence.Ref{Tenant: "acme", ID: "ann"}, Kind: "push", Channel: "support", Payload: json.RawMessage(`{"a": "<&>"}`), At: at}, "n-1"},
		{"with what headers would change", presence.Notification{ID: " a%b\té ", Subject: presence.ID("ann"), Kind: "push", At: at}, "%20a%25b%09%C3%A9%20"},
		{"with what would end a header", presence.Notification{ID: "n\r\nX-Evil: 1", Subject: presence.ID("ann"), Kind: "push", At: at}, "n%0D%0AX-Evil:%201"},
		{"of the longest id", presence.Notification{ID: strings.Repeat("x", presence.MaxID), Subject: presence.ID("ann"), Kind: "push", At: at}, strings.Repeat("x", presence.MaxID)},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			var got body
			var header http.Header
			var method, path string
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				var err error
				header, method, path = r.Header.Clone(), r.Method, r.URL.String()
				if got, err = verified(r); err != nil {
					w.WriteHeader(http.StatusUnauthorized)
				}
			}))
			t.Cleanup(server.Close)
			before := time.Now().Unix()
			require.NoError(t, newNotifier(t, webhook.Options{URL: server.URL + "/hooks?tenant=acme"}).Notify(t.Context(), test.n))

			require.Equal(t, http.MethodPost, method)
			require.Equal(t, "/hooks?tenant=acme", path)
			require.Equal(t, "application/json", header.Get("Content-Type"))
			require.Equal(t, test.id, header.Get("Webhook-Id"))
			require.Empty(t, header.Get("X-Evil"))
			seconds, err := strconv.ParseInt(header.Get("Webhook-Timestamp"), 10, 64)
			require.NoError(t, err)
			require.GreaterOrEqual(t, seconds, before)
			require.LessOrEqual(t, seconds, time.Now().Unix())
			require.Equal(t, webhook.Type, got.Type)
			require.Equal(t, at, got.Timestamp)
			if test.n.Payload != nil {
				require.JSONEq(t, string(test.n.Payload), string(got.Data.Payload))
			}
			got.Data.Payload = test.n.Payload
			require.Equal(t, test.n, got.Data)
		})
	}
}

func TestNotificationWithoutIDIsGivenOne(t *testing.T) {
	t.Parallel()
	server := newEndpoint()
	n := newNotifier(t, webhook.Options{URL: "http://example.com", Client: server.client()})
	for range 2 {
		require.NoError(t, n.Notify(t.Context(), presence.Notification{Kind: "push"}))
	}
	requests := server.requests
	require.Len(t, requests, 2)
	require.NotEmpty(t, requests[0].data.ID)
	require.Equal(t, requests[0].id, requests[0].data.ID)
	require.NotEqual(t, requests[0].id, requests[1].id)
}

// endpoint is an endpoint without a network, so that it can be reached from a
// bubble. It gives its answers one after the other, and then 204.
type endpoint struct {
	mu       sync.Mutex
	answers  []func(r *http.Request) (*http.Response, error)
	requests []request
}

type request struct {
	at   time.Time
	id   string
	body string
	data presence.Notification
}

func newEndpoint(answers ...func(r *http.Request) (*http.Response, error)) *endpoint {
	return &endpoint{answers: answers}
}

func (e *endpoint) client() *http.Client { return &http.Client{Transport: e} }

func (e *endpoint) RoundTrip(r *http.Request) (*http.Response, error) {
	copied, err := r.GetBody()
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(copied)
	if err != nil {
		return nil, err
	}
	r.Body, _ = r.GetBody()
	b, err := verified(r)
	if err != nil {
		return nil, err
	}
	e.mu.Lock()
	e.requests = append(e.requests, request{time.Now(), r.Header.Get(standardwebhooks.HeaderWebhookID), string(data), b.Data})
	answer := status(http.StatusNoContent)
	if len(e.answers) > 0 {
		answer, e.answers = e.answers[0], e.answers[1:]
	}
	e.mu.Unlock()
	return answer(r)
}

// status answers with a code and headers, given as names and values.
func status(code int, headers ...string) func(*http.Request) (*http.Response, error) {
	return func(r *http.Request) (*http.Response, error) {
		response := &http.Response{StatusCode: code, Status: fmt.Sprint(code, " ", http.StatusText(code)), Header: make(http.Header), Body: http.NoBody, Request: r}
		for i := 0; i < len(headers); i += 2 {
			response.Header.Set(headers[i], headers[i+1])
		}
		return response, nil
	}
}

var errBroken = errors.New("connection reset by peer")

func broken(*http.Request) (*http.Response, error) { return nil, errBroken }

// silent answers nothing.
func silent(r *http.Request) (*http.Response, error) {
	<-r.Context().Done()
	return nil, context.Cause(r.Context())
}

func repeat[T any](n int, v T) (list []T) {
	for range n {
		list = append(list, v)
	}
	return list
}

type answer = func(*http.Request) (*http.Response, error)

// retryCase is a notification to an endpoint that gives some answers.
type retryCase struct {
	name     string
	answers  []answer
	opts     webhook.Options
	attempts int
	wants    error // nil for success
	says     string
	// from and to are the limits of how long it takes.
	from, to time.Duration
}

var retryCases = []retryCase{
	{name: "at once", attempts: 1},
	{name: "created", answers: []answer{status(201)}, attempts: 1},
	{name: "after a failure", answers: []answer{status(500)}, attempts: 2, from: 250 * time.Millisecond, to: 500 * time.Millisecond},
	{name: "waiting longer each time", answers: []answer{status(502), broken, status(503)}, attempts: 4, from: 1750 * time.Millisecond, to: 3500 * time.Millisecond},
	{name: "but not too long", answers: repeat(5, answer(broken)), opts: webhook.Options{Retries: 5, Backoff: time.Second, MaxWait: 3 * time.Second}, attempts: 6, from: 6 * time.Second, to: 12 * time.Second},
	{name: "after silence", answers: []answer{silent}, opts: webhook.Options{Timeout: 2 * time.Second}, attempts: 2, from: 2250 * time.Millisecond, to: 2500 * time.Millisecond},
	{
		name: "never", answers: repeat(9, status(503)), attempts: 4, wants: presence.ErrUnavailable,
		says: `webhook: unavailable endpoint: notification "n-1" after 4 attempts: example.com answers with status 503 Service Unavailable`, from: 1750 * time.Millisecond, to: 3500 * time.Millisecond,
	},
	{name: "without retries", answers: repeat(9, answer(broken)), opts: webhook.Options{Retries: -1}, attempts: 1, wants: errBroken, says: "example.com cannot be reached"},
	{name: "refused for good", answers: []answer{status(400)}, attempts: 1, says: `webhook: notification "n-1": example.com answers with status 400 Bad Request`, wants: errAny},
	{name: "gone", answers: []answer{status(410)}, attempts: 1, says: "410 Gone", wants: errAny},
	{name: "asked to wait", answers: []answer{status(429, "Retry-After", "7")}, attempts: 2, from: 7 * time.Second, to: 7 * time.Second},
	{name: "asked to wait until", answers: []answer{status(503, "Retry-After", "Sat, 01 Jan 2000 00:00:20 GMT")}, attempts: 2, from: 20 * time.Second, to: 20 * time.Second},
	{name: "asked to wait until before", answers: []answer{status(503, "Retry-After", "Fri, 31 Dec 1999 00:00:20 GMT")}, attempts: 2, from: 250 * time.Millisecond, to: 500 * time.Millisecond},
	{name: "asked to wait for less than it would", answers: []answer{status(429, "Retry-After", "0")}, attempts: 2, from: 250 * time.Millisecond, to: 500 * time.Millisecond},
	{name: "asked in words", answers: []answer{status(429, "Retry-After", "soon")}, attempts: 2, from: 250 * time.Millisecond, to: 500 * time.Millisecond},
	{name: "asked to wait for as long as it may", answers: []answer{status(429, "Retry-After", "30")}, attempts: 2, from: 30 * time.Second, to: 30 * time.Second},
	{name: "asked to wait for too long", answers: []answer{status(429, "Retry-After", "31")}, attempts: 1, wants: presence.ErrUnavailable, says: "asks for a pause of 31s"},
	{name: "asked to wait for ever", answers: []answer{status(429, "Retry-After", "2147483647")}, attempts: 1, wants: presence.ErrUnavailable, says: "asks for a pause of"},
}

func TestRetries(t *testing.T) {
	t.Parallel()
	for _, test := range retryCases {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				e := newEndpoint(test.answers...)
				test.opts.URL, test.opts.Client = "https://ann:password@example.com/hooks?token=abc", e.client()
				n := newNotifier(t, test.opts)
				start := time.Now()
				err := n.Notify(t.Context(), presence.Notification{ID: "n-1", Kind: "push", Payload: json.RawMessage(`{"a":1}`)})
				took := time.Since(start)
				switch test.wants {
				case nil:
					require.NoError(t, err)
				case errAny:
					require.Error(t, err)
				default:
					require.ErrorIs(t, err, test.wants)
				}
				if err != nil {
					require.ErrorContains(t, err, test.says)
					for _, hidden := range []string{"password", "token", "whsec"} {
						require.NotContains(t, err.Error(), hidden)
					}
				}
				require.Len(t, e.requests, test.attempts)
				require.GreaterOrEqual(t, took, test.from)
				require.LessOrEqual(t, took, test.to)
				for _, r := range e.requests {
					require.Equal(t, "n-1", r.id, "the endpoint can tell that it is the same")
					require.Equal(t, e.requests[0].body, r.body)
				}
			})
		})
	}
}

var errAny = errors.New("any error")

func TestContextBoundsAllAttempts(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		// Notify does not wait for an attempt that would begin too late.
		e := newEndpoint(status(503, "Retry-After", "9"), status(503, "Retry-After", "9"))
		n := newNotifier(t, webhook.Options{URL: "http://example.com", Client: e.client()})
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		start := time.Now()
		err := n.Notify(ctx, presence.Notification{ID: "n-1"})
		require.ErrorIs(t, err, presence.ErrUnavailable)
		require.ErrorContains(t, err, "the time is over")
		require.Equal(t, 9*time.Second, time.Since(start))
		require.Len(t, e.requests, 2)

		// Waiting ends with the context and returns its cause.
		e = newEndpoint(status(503, "Retry-After", "9"))
		n = newNotifier(t, webhook.Options{URL: "http://example.com", Client: e.client()})
		why := errors.New("shutting down")
		stopped, stop := context.WithCancelCause(t.Context())
		start = time.Now()
		time.AfterFunc(time.Second, func() { stop(why) })
		err = n.Notify(stopped, presence.Notification{ID: "n-1"})
		require.ErrorIs(t, err, why)
		require.ErrorContains(t, err, "503")
		require.Equal(t, time.Second, time.Since(start))

		// So does an attempt under way.
		e = newEndpoint(silent)
		n = newNotifier(t, webhook.Options{URL: "http://example.com", Client: e.client()})
		ctx, cancel = context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start = time.Now()
		require.ErrorIs(t, n.Notify(ctx, presence.Notification{ID: "n-1"}), context.DeadlineExceeded)
		require.Equal(t, time.Second, time.Since(start))
		require.Len(t, e.requests, 1)

		// And nothing is sent where it has ended before.
		require.ErrorIs(t, n.Notify(stopped, presence.Notification{ID: "n-2"}), why)
		require.Len(t, e.requests, 1)
	})
}

func TestNotificationsThatAreRefused(t *testing.T) {
	t.Parallel()
	e := newEndpoint()
	n := newNotifier(t, webhook.Options{URL: "http://example.com", Client: e.client(), MaxBody: 1000})
	long := json.RawMessage(`"` + strings.Repeat("x", 1000) + `"`)
	require.ErrorIs(t, n.Notify(t.Context(), presence.Notification{ID: "n", Payload: long}), presence.ErrLimit)
	require.ErrorIs(t, n.Notify(t.Context(), presence.Notification{ID: strings.Repeat("x", presence.MaxID+1)}), presence.ErrInvalid)
	require.ErrorIs(t, n.Notify(t.Context(), presence.Notification{ID: "n", Payload: json.RawMessage(`{`)}), presence.ErrInvalid)
	require.Empty(t, e.requests)
	require.NoError(t, n.Notify(t.Context(), presence.Notification{ID: "n", Payload: json.RawMessage(`"` + strings.Repeat("x", 500) + `"`)}))
}

func TestRedirects(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var arrived []string
	note := func(where string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			_, err := verified(r)
			mu.Lock()
			defer mu.Unlock()
			arrived = append(arrived, fmt.Sprint(r.Method, " ", where, " ", err))
		}
	}
	other := httptest.NewServer(note("elsewhere"))
	t.Cleanup(other.Close)
	mux := http.NewServeMux()
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	mux.Handle("/here", note("here"))
	for path, to := range map[string]http.Handler{
		"/307":  http.RedirectHandler("/here", http.StatusTemporaryRedirect),
		"/308":  http.RedirectHandler("/307", http.StatusPermanentRedirect),
		"/302":  http.RedirectHandler("/here", http.StatusFound),
		"/away": http.RedirectHandler(other.URL, http.StatusTemporaryRedirect),
		"/tls":  http.RedirectHandler(strings.Replace(server.URL, "http:", "https:", 1)+"/here", http.StatusTemporaryRedirect),
		"/loop": http.RedirectHandler("/loop", http.StatusTemporaryRedirect),
	} {
		mux.Handle(path, to)
	}
	tests := []struct{ path, arrives, says string }{
		{"/307", "POST here <nil>", ""},
		{"/308", "POST here <nil>", ""},
		{"/302", "", "redirects with status 302 Found, which is not followed"},
		{"/away", "", "redirects with status 307 Temporary Redirect, which is not followed"},
		{"/tls", "", "which is not followed"},
		{"/loop", "", "which is not followed"},
	}
	// A client's own rule for redirects does not count.
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return nil }}
	for _, client := range []*http.Client{nil, client} {
		for _, test := range tests {
			arrived = nil
			err := newNotifier(t, webhook.Options{URL: server.URL + test.path, Client: client}).Notify(t.Context(), presence.Notification{ID: "n-1"})
			if test.says == "" {
				require.NoError(t, err, test.path)
				require.Equal(t, []string{test.arrives}, arrived)
			} else {
				require.ErrorContains(t, err, test.says, test.path)
				require.Empty(t, arrived, test.path)
			}
		}
	}
	require.NotNil(t, client.CheckRedirect, "the client given is not changed")
}

// An answer without an end is not read to the end, and one that is short leaves
// the connection for the next notification.
func TestAnswersAreBounded(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	from := make(map[string]bool)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		from[r.RemoteAddr] = true
		mu.Unlock()
		if r.URL.Path == "/endless" {
			for {
				if _, err := w.Write(make([]byte, 4096)); err != nil {
					return
				}
			}
		}
		_, _ = w.Write(make([]byte, 10_000))
	}))
	t.Cleanup(server.Close)
	n := newNotifier(t, webhook.Options{URL: server.URL, Timeout: time.Minute})
	for range 5 {
		require.NoError(t, n.Notify(t.Context(), presence.Notification{ID: "n-1"}))
	}
	require.Len(t, from, 1, "one connection for all")
	n = newNotifier(t, webhook.Options{URL: server.URL + "/endless", Timeout: time.Minute})
	require.NoError(t, n.Notify(t.Context(), presence.Notification{ID: "n-1"}))
}

func TestOptionsAreReportedTogether(t *testing.T) {
	t.Parallel()
	_, err := webhook.New(&webhook.Options{URL: "ftp://example.com", Secret: "secret", Timeout: -1, Backoff: -1, MaxWait: -1, MaxBody: -1})
	require.ErrorIs(t, err, presence.ErrInvalid)
	for _, says := range []string{
		`"URL": scheme "ftp"; allowed: http, https`, `"Secret": allowed is a text that begins with whsec_`, `"Timeout": -1ns is too small`,
		`"Backoff": -1ns is too small`, `"MaxWait": -1ns is too small`, `"MaxBody": -1 is too small`,
	} {
		require.ErrorContains(t, err, "webhook: invalid option "+says)
	}
	_, err = webhook.New(&webhook.Options{})
	require.ErrorContains(t, err, `"URL": it is needed`)
	require.ErrorContains(t, err, "Secret")

	for url, says := range map[string]string{
		"https://":                 "it names no host",
		"example.com/hooks":        "allowed: http, https",
		"http://a b/?token=hidden": "it cannot be read",
	} {
		_, err := webhook.New(&webhook.Options{URL: url, Secret: secret})
		require.ErrorContains(t, err, says)
		require.NotContains(t, err.Error(), "hidden")
	}
	for secret, says := range map[string]string{
		"whsec_":                              "its key has 0 bytes, allowed are 24 to 64",
		"whsec_c2hvcnQ=":                      "its key has 5 bytes, allowed are 24 to 64",
		"whsec_not base64":                    "not base64",
		"whsec_" + strings.Repeat("AAAA", 22): "its key has 66 bytes",
	} {
		_, err := webhook.New(&webhook.Options{URL: "http://example.com", Secret: secret})
		require.ErrorContains(t, err, says)
		require.NotContains(t, err.Error(), "c2hvcnQ")
	}
	_, err = webhook.New(&webhook.Options{URL: "HTTP://example.com", Secret: secret})
	require.NoError(t, err)
}

// A tracker hands over what passes the gate.
func TestWithTracker(t *testing.T) {
	t.Parallel()
	arrived := make(chan body, 1)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, err := verified(r)
		if err != nil {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		arrived <- b
	}))
	t.Cleanup(server.Close)
	tracker, err := presence.New(&presence.Options{Notifier: newNotifier(t, webhook.Options{URL: server.URL})})
	require.NoError(t, err)
	ann := presence.ID("ann")
	_, err = tracker.Connect(t.Context(), ann, presence.ConnectOptions{})
	require.NoError(t, err)
	require.NoError(t, tracker.Notify(t.Context(), presence.Notification{ID: "n-1", Subject: ann, Kind: "push", Payload: json.RawMessage(`{"text":"hello"}`)}))
	b := <-arrived
	require.Equal(t, "n-1", b.Data.ID)
	require.Equal(t, ann, b.Data.Subject)
	require.Equal(t, b.Timestamp, b.Data.At)
	require.JSONEq(t, `{"text":"hello"}`, string(b.Data.Payload))
	require.NoError(t, tracker.Close())
}
