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
		Authenticate: authenticate, MessagesPerSecond: 1e9, Burst: 1e9, MaxSocketsPerSubject: 1e9, MaxMessage: 1 << 20,
	})
	require.NoError(t, err)
	server := httptest.NewServer(h)
	t.Cleanup(func() {
		_ = h.Close()
		server.Close()
		_ = tracker.Close()
	})
	return edgetest.Server{
		Address: server.Listener.Addr().String(), Path: "/socket/websocket?vsn=2.0.0&token=v1:visitor",
		Message: `[null,"1","phoenix","heartbeat",{}]`, Answer: `"phx_reply"`,
		Noise: []string{"phoenix: invalid message"}, NoiseEnds: true, Limit: 1 << 20, Parts: 1024,
	}, h.Close
}

// fault 34
func TestRFC6455(t *testing.T) { edgetest.Run(t, served) }
