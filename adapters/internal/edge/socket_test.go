package edge_test

import (
	"bytes"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/presence-go/presence/adapters/internal/edge"
)

// opaque is a wrapper that hides the connection, as many middlewares have one.
type opaque struct{ http.ResponseWriter }

// open is a wrapper with Unwrap.
type open struct{ http.ResponseWriter }

func (o open) Unwrap() http.ResponseWriter { return o.ResponseWriter }

func TestHiddenConnectionIsNamed(t *testing.T) {
	var log bytes.Buffer
	logger := slog.New(slog.NewTextHandler(&log, nil))
	wrap := func(w http.ResponseWriter) http.ResponseWriter { return w }
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if edge.CanHijack("ws", logger, wrap(w)) {
			w.WriteHeader(http.StatusNoContent)
		}
	}))
	defer server.Close()
	get := func() (int, string) {
		response, err := http.Get(server.URL)
		require.NoError(t, err)
		defer response.Body.Close()
		text, err := io.ReadAll(response.Body)
		require.NoError(t, err)
		return response.StatusCode, string(text)
	}
	for _, wrap = range []func(http.ResponseWriter) http.ResponseWriter{
		wrap, func(w http.ResponseWriter) http.ResponseWriter { return open{open{w}} },
	} {
		status, _ := get()
		require.Equal(t, http.StatusNoContent, status)
	}
	require.Empty(t, log.String())
	wrap = func(w http.ResponseWriter) http.ResponseWriter { return open{opaque{w}} }
	status, text := get()
	require.Equal(t, http.StatusInternalServerError, status)
	require.Equal(t, "ws: the connection cannot be taken over: edge_test.opaque has neither Hijack nor Unwrap\n", text)
	require.Contains(t, log.String(), "edge_test.opaque")
}
