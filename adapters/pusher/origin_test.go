package pusher_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	gobwas "github.com/gobwas/ws"
	"github.com/stretchr/testify/require"

	"github.com/presence-go/presence"
	"github.com/presence-go/presence/adapters/internal/edge/edgetest"
	"github.com/presence-go/presence/adapters/pusher"
)

// H13: the origin table holds, row by row. A page learns from an error, and
// again from the close frame, why its socket is refused.
func TestOrigins(t *testing.T) {
	edgetest.Origins(t, func(t *testing.T, allowed []string) func(string, http.Header) string {
		tracker, err := presence.New(nil)
		require.NoError(t, err)
		one := app
		one.AllowedOrigins = allowed
		h, err := pusher.New(tracker, &pusher.Options{Apps: []pusher.App{one}})
		require.NoError(t, err)
		server := httptest.NewServer(h)
		t.Cleanup(func() {
			_ = h.Close()
			server.Close()
			_ = tracker.Close()
		})
		return func(host string, header http.Header) string {
			response, in := edgetest.Upgrade(t, server.Listener.Addr().String(), "/app/"+app.Key+"?protocol=7", host, header)
			require.Equal(t, http.StatusSwitchingProtocols, response.StatusCode)
			next := func() []byte {
				header, err := gobwas.ReadHeader(in)
				require.NoError(t, err)
				payload := make([]byte, header.Length)
				_, err = io.ReadFull(in, payload)
				require.NoError(t, err)
				return payload
			}
			first := string(next())
			if strings.Contains(first, "pusher:connection_established") {
				return ""
			}
			code, why := gobwas.ParseCloseFrameData(next())
			require.EqualValues(t, 4009, code)
			said, err := json.Marshal(why)
			require.NoError(t, err)
			require.JSONEq(t, `{"event":"pusher:error","data":{"code":4009,"message":`+string(said)+`}}`, first)
			return why
		}
	})
}
