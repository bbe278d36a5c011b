package pusher_test

import (
	"encoding/binary"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/presence-go/presence"
	"github.com/presence-go/presence/adapters/internal/edge/edgetest"
	"github.com/presence-go/presence/adapters/pusher"
)

// H13: the origin table holds, row by row. A page learns only from the
// close frame why its socket is refused.
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
			head := make([]byte, 2)
			_, err := io.ReadFull(in, head)
			require.NoError(t, err)
			const text, closing = 0x81, 0x88
			if head[0] == text {
				return ""
			}
			require.EqualValues(t, closing, head[0])
			payload := make([]byte, head[1])
			_, err = io.ReadFull(in, payload)
			require.NoError(t, err)
			require.EqualValues(t, 4009, binary.BigEndian.Uint16(payload))
			return string(payload[2:])
		}
	})
}
