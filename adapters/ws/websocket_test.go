package ws_test

import (
	"testing"

	"github.com/presence-go/presence/adapters/internal/edge/edgetest"
)

// served is the adapter for the tests of RFC 6455.
func served(t *testing.T) (s edgetest.Server, goodbye func() error) {
	w := setup(t, func(c *conf) {
		c.ws.MessagesPerSecond, c.ws.Burst, c.ws.MaxSessionsPerSubject, c.ws.MaxMessage = 1e9, 1e9, 1e9, 1<<20
	})
	return edgetest.Server{
		Address: w.server.Listener.Addr().String(), Path: "/?id=v1&role=visitor",
		Message: `{"type":"hello","v":1}`, Answer: `"type":"welcome"`,
		Noise: []string{`"code":"malformed"`}, Faults: 1008, Limit: 1 << 20, TooLong: `"code":"too-large"`,
	}, w.handler.Close
}

// fault 34
func TestRFC6455(t *testing.T) { edgetest.Run(t, served) }
