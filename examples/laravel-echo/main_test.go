package main

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/presence-go/presence"
	"github.com/presence-go/presence/adapters/pusher"
)

func TestEndpoints(t *testing.T) {
	d, err := open(t.Context(), t.TempDir())
	require.NoError(t, err)
	defer d.close()
	server := httptest.NewServer(d.routes())
	defer server.Close()
	post := func(path, user string, form url.Values) (int, []byte) {
		r, err := http.NewRequest(http.MethodPost, server.URL+path, strings.NewReader(form.Encode()))
		require.NoError(t, err)
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set("X-User", user)
		answer, err := http.DefaultClient.Do(r)
		require.NoError(t, err)
		defer answer.Body.Close()
		body, err := io.ReadAll(answer.Body)
		require.NoError(t, err)
		return answer.StatusCode, body
	}
	for user, want := range map[string]int{"ann": 200, "visitor-1": 200, "mallory": 403, "": 403} {
		status, body := post("/broadcasting/auth", user, url.Values{"socket_id": {"1.2"}, "channel_name": {"presence-support"}})
		require.Equal(t, want, status, user)
		if want == 200 {
			var a pusher.Authorization
			require.NoError(t, json.Unmarshal(body, &a))
			require.Contains(t, a.ChannelData, user)
			require.NotEmpty(t, a.Auth)
		}
	}
	status, _ := post("/broadcasting/auth", "ann", url.Values{"socket_id": {"1.2"}, "channel_name": {"presence-other"}})
	require.Equal(t, 403, status)
	status, _ = post("/broadcasting/auth", "ann", url.Values{"socket_id": {"x"}, "channel_name": {"presence-support"}})
	require.Equal(t, 400, status)

	status, _ = post("/status", "ann", url.Values{"status": {"busy"}})
	require.Equal(t, 200, status)
	state, err := d.tracker.State(t.Context(), presence.ID("ann"))
	require.NoError(t, err)
	require.Len(t, state.Claims, 1)
	status, _ = post("/status", "ann", url.Values{"status": {"queen"}})
	require.Equal(t, 403, status)

	answer, err := http.Get(server.URL + "/")
	require.NoError(t, err)
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	require.NoError(t, err)
	require.Contains(t, string(body), "laravel-echo")
}
