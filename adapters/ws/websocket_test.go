package ws_test

import (
	"testing"

	"github.com/presence-go/presence/adapters/internal/edge/edgetest"
)

// served is the adapter for the tests of RFC 6455.
func served(t *testing.T) (s edgetest.Server, goodbye func() error) {
	w := setup(t, func(c *conf) {
		c.ws.MessagesPerSecond, c.ws.Burst, c.ws.MaxSessionsPerSubject = 1e9, 1e9, 1e9
	})
	return edgetest.Server{Address: w.server.Listener.Addr().String(), Path: "/?id=v1&role=visitor"}, w.handler.Close
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
