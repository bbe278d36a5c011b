package phoenix_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/presence-go/presence"
	"github.com/presence-go/presence/adapters/internal/edge/edgetest"
	"github.com/presence-go/presence/adapters/phoenix"
)

// H13: the origin table holds, row by row.
func TestOrigins(t *testing.T) {
	edgetest.Origins(t, func(t *testing.T, allowed []string) func(string, http.Header) string {
		tracker, err := presence.New(nil)
		require.NoError(t, err)
		h, err := phoenix.NewHandler(tracker, &phoenix.Options{Authenticate: authenticate, AllowedOrigins: allowed})
		require.NoError(t, err)
		server := httptest.NewServer(h)
		t.Cleanup(func() {
			_ = h.Close()
			server.Close()
			_ = tracker.Close()
		})
		return func(host string, header http.Header) string {
			response, _ := edgetest.Upgrade(t, server.Listener.Addr().String(), "/socket/websocket?vsn=2.0.0&token=v1:visitor", host, header)
			if response.StatusCode == http.StatusSwitchingProtocols {
				return ""
			}
			require.Equal(t, http.StatusForbidden, response.StatusCode)
			why, err := io.ReadAll(response.Body)
			require.NoError(t, err)
			return string(why)
		}
	})
}
