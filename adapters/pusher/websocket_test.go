package pusher_test

import (
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/presence-go/presence"
	"github.com/presence-go/presence/adapters/internal/edge/edgetest"
	"github.com/presence-go/presence/adapters/pusher"
)

// served is the adapter for the tests of RFC 6455, over TCP.
func served(t *testing.T) (s edgetest.Server, goodbye func() error) {
	tracker, err := presence.New(nil)
	require.NoError(t, err)
	h, err := pusher.New(tracker, &pusher.Options{Apps: []pusher.App{app}, MessagesPerSecond: 1e9, Burst: 1e9, MaxMessage: 1 << 20})
	require.NoError(t, err)
	server := httptest.NewServer(h)
	t.Cleanup(func() {
		_ = h.Close()
		server.Close()
		_ = tracker.Close()
	})
	return edgetest.Server{
		Address: server.Listener.Addr().String(), Path: "/app/" + app.Key + "?protocol=7",
		Message: `{"event":"pusher:ping","data":{}}`, Answer: "pusher:pong",
		Noise: []string{"malformed message"}, Faults: 4100, Limit: 1 << 20, Parts: 64,
	}, h.Close
}

// fault 34
func TestRFC6455(t *testing.T) { edgetest.Run(t, served) }
