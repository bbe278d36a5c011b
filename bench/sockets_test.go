package main

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/presence-go/presence/internal/fleet"
)

func TestClientsUnderstand(t *testing.T) {
	c := &clients{speech: speechOf("ours", gather(1, "own"), "")}
	s := &socket{Socket: new(fleet.Socket), isReady: true, count: -1}
	for _, m := range []string{`{"type":"diff","group":{"count":12}}`, `{"type":"snapshot"}`, `{"type":"ping","v":1,"seq":7}`, `{"type":"self"}`} {
		require.NoError(t, c.hear(s, []byte(m)))
	}
	require.Equal(t, 2, c.frames)
	require.Equal(t, 2, s.news)
	require.Equal(t, 12, s.count)
	require.Equal(t, 7, s.pinged)
	require.Equal(t, c.last, s.heard)
}

func TestPingsOfCentrifuge(t *testing.T) {
	for _, message := range []string{"{}", "{}\n{\"push\":{}}", "{\"push\":{}}\n{}", "{\"id\":1}\n{}\n{\"id\":2}"} {
		require.True(t, isPing([]byte(message)), message)
	}
	for _, message := range []string{"", "{\"push\":{}}", "{\"a\":{}}\n{\"b\":{}}"} {
		require.False(t, isPing([]byte(message)), message)
	}
}

func TestServersSayWhatTheyCannotDo(t *testing.T) {
	o := options{tiny: true}
	_, err := withServer(o, "goroutine", func(s *server) (sample, error) { return s.do("dance") })
	require.ErrorContains(t, err, `this server cannot do "dance"`)
	_, err = withServer(o, "nobody", func(*server) (sample, error) { return nil, nil })
	require.ErrorContains(t, err, `unknown server "nobody"`)
}
