package main

import (
	"bufio"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/require"

	"github.com/presence-go/presence"
)

// clock is a clock that tests move.
type clock struct {
	mu sync.Mutex
	at time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

var ann = presence.Actor{Subject: presence.ID("ann"), Role: presence.RoleAgent}

func setup(t *testing.T, max int) (*Tokens, *clock, *httptest.Server) {
	t.Helper()
	c := &clock{at: time.Now()}
	tokens, err := NewTokens([]byte(strings.Repeat("k", 32)), max, c.now)
	require.NoError(t, err)
	tracker, err := presence.New(nil)
	require.NoError(t, err)
	handler, sessions, err := serve(tracker, tokens, nil)
	require.NoError(t, err)
	server := httptest.NewServer(handler)
	t.Cleanup(func() {
		sessions.Close()
		server.Close()
		tracker.Close()
	})
	return tokens, c, server
}

// open opens a stream with a token.
func open(t *testing.T, server *httptest.Server, token string) *http.Response {
	t.Helper()
	response, err := http.Get(server.URL + "/presence/events?conn=tab&token=" + url.QueryEscape(token))
	require.NoError(t, err)
	t.Cleanup(func() { response.Body.Close() })
	return response
}

func issue(t *testing.T, tokens *Tokens, life time.Duration) string {
	t.Helper()
	token, err := tokens.Issue(ann, life)
	require.NoError(t, err)
	return token
}

func TestTokenOpensOneSession(t *testing.T) {
	tokens, clock, server := setup(t, 100)
	token := issue(t, tokens, time.Minute)
	response := open(t, server, token)
	require.Equal(t, http.StatusOK, response.StatusCode)
	in := bufio.NewScanner(response.Body)
	welcome := ""
	for welcome == "" && in.Scan() {
		welcome, _ = strings.CutPrefix(in.Text(), "data: ")
		if !strings.Contains(welcome, "welcome") {
			welcome = ""
		}
	}
	require.Contains(t, welcome, `"self":{"id":"ann"`)

	// A second use is refused, before and after the token's end.
	for range 3 {
		response := open(t, server, token)
		require.Equal(t, http.StatusUnauthorized, response.StatusCode)
		clock.add(40 * time.Second)
	}

	// The session continues with a secret of its own.
	_, rest, _ := strings.Cut(welcome, `"secret":"`)
	secret, _, _ := strings.Cut(rest, `"`)
	post, err := http.Post(server.URL+"/presence/messages?conn=tab&secret="+secret, "", strings.NewReader(`{"type":"claim","status":"busy","ref":"1"}`))
	require.NoError(t, err)
	post.Body.Close()
	require.Equal(t, http.StatusNoContent, post.StatusCode)
	for in.Scan() && !strings.Contains(in.Text(), `"ref":"1"`) {
	}
	require.Contains(t, in.Text(), `"status":"busy"`)

	// Over a WebSocket the token is a subprotocol.
	for _, want := range []int{http.StatusSwitchingProtocols, http.StatusUnauthorized} {
		if want == http.StatusSwitchingProtocols {
			token = issue(t, tokens, time.Minute)
		}
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL+"/presence", nil)
		require.NoError(t, err)
		for name, value := range map[string]string{
			"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
			"Sec-WebSocket-Protocol": "presence.v1, token." + base64.RawURLEncoding.EncodeToString([]byte(token)),
		} {
			r.Header.Set(name, value)
		}
		response, err := http.DefaultClient.Do(r)
		require.NoError(t, err)
		defer response.Body.Close()
		require.Equal(t, want, response.StatusCode)
	}
}

func TestBadTokens(t *testing.T) {
	tokens, clock, server := setup(t, 100)
	sign := func(method jwt.SigningMethod, key any, change func(*claims)) string {
		c := claims{"", presence.RoleAgent, jwt.RegisteredClaims{
			Subject: "ann", ID: fmt.Sprint(clock.now().UnixNano()), Audience: jwt.ClaimStrings{audience}, ExpiresAt: jwt.NewNumericDate(clock.now().Add(time.Minute)),
		}}
		clock.add(1)
		if change != nil {
			change(&c)
		}
		token, err := jwt.NewWithClaims(method, c).SignedString(key)
		require.NoError(t, err)
		return token
	}
	hs256, key := jwt.SigningMethodHS256, tokens.key
	good := sign(hs256, key, nil)
	parts := strings.Split(good, ".")
	for name, token := range map[string]string{
		"none":             "",
		"nonsense":         "a.b.c",
		"another key":      sign(hs256, []byte(strings.Repeat("x", 32)), nil),
		"another method":   sign(jwt.SigningMethodHS512, key, nil),
		"no signature":     sign(jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, nil),
		"signature cut":    parts[0] + "." + parts[1] + ".",
		"of somebody else": parts[0] + "." + base64.RawURLEncoding.EncodeToString([]byte(`{"sub":"root","role":"admin","jti":"1","aud":"presence","exp":99999999999}`)) + "." + parts[2],
		"over":             sign(hs256, key, func(c *claims) { c.ExpiresAt = jwt.NewNumericDate(clock.now()) }),
		"without end":      sign(hs256, key, func(c *claims) { c.ExpiresAt = nil }),
		"of a long life":   sign(hs256, key, func(c *claims) { c.ExpiresAt = jwt.NewNumericDate(clock.now().Add(time.Hour)) }),
		"not yet":          sign(hs256, key, func(c *claims) { c.NotBefore = jwt.NewNumericDate(clock.now().Add(time.Second * 30)) }),
		"another audience": sign(hs256, key, func(c *claims) { c.Audience = jwt.ClaimStrings{"billing"} }),
		"without id":       sign(hs256, key, func(c *claims) { c.ID = "" }),
		"of a long id":     sign(hs256, key, func(c *claims) { c.ID = strings.Repeat("x", maxID+1) }),
		"without subject":  sign(hs256, key, func(c *claims) { c.Subject = "" }),
		"of a backend":     sign(hs256, key, func(c *claims) { c.Role = presence.RoleSystem }),
		"without role":     sign(hs256, key, func(c *claims) { c.Role = "" }),
	} {
		response := open(t, server, token)
		require.Equal(t, http.StatusUnauthorized, response.StatusCode, name)
		why, err := io.ReadAll(response.Body)
		require.NoError(t, err)
		require.Equal(t, "wire: log in first\n", string(why), "nobody is told what was wrong with it")
	}
	require.Equal(t, http.StatusOK, open(t, server, good).StatusCode)
}

// The number of kept used tokens has a limit, and they are dropped in time.
func TestUsedTokensAreBounded(t *testing.T) {
	tokens, clock, server := setup(t, 3)
	for range 3 {
		for i := range 3 {
			require.Equal(t, http.StatusOK, open(t, server, issue(t, tokens, time.Duration(60-i)*time.Second)).StatusCode)
		}
		late := issue(t, tokens, time.Minute)
		require.Equal(t, http.StatusServiceUnavailable, open(t, server, late).StatusCode)
		require.Len(t, tokens.used, 3)
		clock.add(58 * time.Second)
		require.Equal(t, http.StatusOK, open(t, server, late).StatusCode, "one of them is over")
		clock.add(time.Minute)
	}
}

func TestOneOfManyUsesOfAToken(t *testing.T) {
	tokens, _, _ := setup(t, 1000)
	token := issue(t, tokens, time.Minute)
	var wins, group = make(chan bool, 50), sync.WaitGroup{}
	for range 50 {
		group.Go(func() {
			_, err := tokens.Authenticate(httptest.NewRequest(http.MethodGet, "/?token="+token, nil))
			wins <- err == nil
		})
	}
	group.Wait()
	close(wins)
	won := 0
	for ok := range wins {
		if ok {
			won++
		}
	}
	require.Equal(t, 1, won)
}

func TestTokensNeedAKey(t *testing.T) {
	_, err := NewTokens(make([]byte, 31), 1, time.Now)
	require.ErrorContains(t, err, "31 bytes")
	_, err = NewTokens(make([]byte, 32), 0, time.Now)
	require.ErrorContains(t, err, "room for 0 tokens")
}
