package sse

import (
	"io"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/presence-go/presence/adapters/internal/edge/edgetest"
)

// H13: the origin table holds, row by row.
func TestOrigins(t *testing.T) {
	for path, method := range map[string]string{"/presence/events?id=v1&role=visitor": http.MethodGet, "/presence/messages?id=ann&conn=tab": http.MethodPost} {
		edgetest.Origins(t, func(t *testing.T, allowed []string) func(string, http.Header) string {
			_, server := setup(t, Options{AllowedOrigins: allowed}, false)
			return func(host string, header http.Header) string {
				r, err := http.NewRequestWithContext(t.Context(), method, server.URL+path, http.NoBody)
				require.NoError(t, err)
				r.Host, r.Header = host, header
				response, err := server.Client().Do(r)
				require.NoError(t, err)
				defer response.Body.Close()
				if response.StatusCode != http.StatusForbidden {
					require.Contains(t, []int{http.StatusOK, http.StatusBadRequest}, response.StatusCode)
					return ""
				}
				require.Empty(t, response.Header.Get("Access-Control-Allow-Origin"))
				why, err := io.ReadAll(response.Body)
				require.NoError(t, err)
				return string(why)
			}
		})
	}
}
