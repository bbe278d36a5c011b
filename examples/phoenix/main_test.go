package main

import (
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestPageAndSocket(t *testing.T) {
	handler, end, err := open(t.Context(), t.TempDir())
	require.NoError(t, err)
	defer end()
	server := httptest.NewServer(handler)
	defer server.Close()
	get := func(path string, header ...string) (int, string) {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL+path, nil)
		require.NoError(t, err)
		for i := 0; i+1 < len(header); i += 2 {
			r.Header.Set(header[i], header[i+1])
		}
		answer, err := http.DefaultClient.Do(r)
		require.NoError(t, err)
		defer answer.Body.Close()
		if answer.StatusCode == http.StatusSwitchingProtocols {
			return answer.StatusCode, ""
		}
		body, err := io.ReadAll(answer.Body)
		require.NoError(t, err)
		return answer.StatusCode, string(body)
	}
	status, body := get("/")
	require.Equal(t, http.StatusOK, status)
	require.Contains(t, body, `new Socket("/socket"`)
	upgrade := []string{"Connection", "Upgrade", "Upgrade", "websocket", "Sec-WebSocket-Version", "13", "Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="}
	status, _ = get("/socket/websocket?vsn=2.0.0&token=ann", upgrade...)
	require.Equal(t, http.StatusSwitchingProtocols, status)
	status, body = get("/socket/websocket?vsn=2.0.0", upgrade...)
	require.Equal(t, http.StatusForbidden, status)
	require.Contains(t, body, "?as=")
}
