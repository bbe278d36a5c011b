package phoenix_test

import (
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/presence-go/presence"
	"github.com/presence-go/presence/adapters/internal/edge/edgetest"
	"github.com/presence-go/presence/adapters/phoenix"
)

// served is the adapter for the tests of RFC 6455, over TCP.
func served(t *testing.T) (s edgetest.Server, goodbye func() error) {
	tracker, err := presence.New(nil)
	require.NoError(t, err)
	h, err := phoenix.NewHandler(tracker, &phoenix.Options{
		Authenticate: authenticate, MessagesPerSecond: 1e9, Burst: 1e9, MaxSocketsPerSubject: 1e9,
	})
	require.NoError(t, err)
	server := httptest.NewServer(h)
	t.Cleanup(func() {
		_ = h.Close()
		server.Close()
		_ = tracker.Close()
	})
	return edgetest.Server{Address: server.Listener.Addr().String(), Path: "/socket/websocket?vsn=2.0.0&token=v1:visitor"}, h.Close
}

// fault 34
func TestHandshakes(t *testing.T) {
	s, _ := served(t)
	edgetest.Handshakes(t, s)
}

// fault 34
func TestClosings(t *testing.T) {
	s, goodbye := served(t)
	edgetest.Closings(t, s)
	edgetest.Farewell(t, s, goodbye)
}
