package ws_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"reflect"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/presence-go/presence/adapters/internal/edge/edgetest"
	"github.com/presence-go/presence/adapters/sse"
	"github.com/presence-go/presence/adapters/ws"
)

// H13: the origin table holds, row by row.
func TestOrigins(t *testing.T) {
	edgetest.Origins(t, func(t *testing.T, allowed []string) func(string, http.Header) string {
		w := setup(t, func(c *conf) { c.ws.AllowedOrigins = allowed })
		return func(host string, header http.Header) string {
			response, _ := edgetest.Upgrade(t, w.server.Listener.Addr().String(), "/?id=v1&role=visitor", host, header)
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

// H13: a handler has four methods.
func TestHandlersHaveFourMethods(t *testing.T) {
	for _, handler := range []any{new(ws.Handler), new(sse.Handler)} {
		var names []string
		for method := range reflect.TypeOf(handler).Methods() {
			names = append(names, method.Name)
		}
		require.Equal(t, []string{"Close", "ServeHTTP", "Sessions", "Shutdown"}, names)
	}
}

// A wrapper that hides the connection is an error of the application, not of the
// client.
func TestHiddenConnectionIsRefused(t *testing.T) {
	w := setup(t, nil)
	recorder := httptest.NewRecorder()
	r := httptest.NewRequest(http.MethodGet, "/?id=v1&role=visitor", nil)
	r.Header.Set("Upgrade", "websocket")
	ws.Over(w.handler).ServeHTTP(recorder, r)
	require.Equal(t, http.StatusInternalServerError, recorder.Code)
	require.Equal(t, "ws: the connection cannot be taken over: *httptest.ResponseRecorder has neither Hijack nor Unwrap\n", recorder.Body.String())
}

func TestStats(t *testing.T) {
	w := setup(t, nil)
	stats := w.handler.Stats()
	require.Zero(t, stats.Sessions+int(stats.Messages)+int(stats.Refusals)+len(stats.Ends))

	_, status, _ := w.dial("")
	require.Equal(t, http.StatusUnauthorized, status)
	_, status, _ = w.dial("id=ann", "Origin", "https://evil.example")
	require.Equal(t, http.StatusForbidden, status)
	ann, _ := w.enter("id=ann", "")
	bob, _ := w.enter("id=bob", "")
	require.EqualValues(t, 2, w.handler.Stats().Messages, "two hellos")
	ann.say(`{"type":"input"}`)
	ann.say(`{"type":"bye"}`)
	require.EqualValues(t, 1000, ann.closed())
	bob.say(`nonsense`)
	bob.until("error")
	bob.conn.Close()
	ann.conn.Close()
	w.empty()
	stats = w.handler.Stats()
	require.Zero(t, stats.Sessions)
	require.EqualValues(t, 2, stats.Refusals)
	require.EqualValues(t, 5, stats.Messages, "and an input, a bye, and nonsense")
	require.Equal(t, 2, len(stats.Ends))
	require.EqualValues(t, 1, stats.Ends[1000])
	require.EqualValues(t, 1, stats.Ends[0], "bob was lost")
}
