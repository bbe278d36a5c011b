package main

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Messages are understood however they are cut into pieces on their way. Of long
// ones only the beginning is looked at.
func TestFleetUnderstandsPieces(t *testing.T) {
	var stream []byte
	for i, padding := range []int{0, 200, 3 * interesting, 0, interesting} {
		stream = append(stream, appendServed(nil, fmt.Appendf(nil, `{"type":"diff","group":{"count":%d},"x":"%s"}`, i+1, strings.Repeat("x", padding)))...)
	}
	stream = append(stream, 0x89, 0) // a ping of the protocol, which says nothing
	stream = append(stream, appendServed(nil, []byte(`{"type":"ping","v":1,"seq":7}`))...)
	for _, piece := range []int{1, 2, 3, 7, 130, 65_535, 1 << 20} {
		f := &fleet{speech: speechOf("ours", gather(1, "own"), "")}
		s := &socket{isReady: true, count: -1}
		for rest := stream; len(rest) > 0; {
			n := min(piece, len(rest))
			require.NoError(t, f.feed(s, bytes.Clone(rest[:n])))
			rest = rest[n:]
		}
		require.Equal(t, 5, f.frames, "pieces of %d", piece)
		require.Equal(t, 5, s.news)
		require.Equal(t, 5, s.count)
		require.Equal(t, 7, s.pinged)
		require.Empty(t, s.carry)
	}
}

func TestFleetSeesPingsOfCentrifuge(t *testing.T) {
	f := new(fleet)
	for _, message := range []string{"{}", "{}\n{\"push\":{}}", "{\"push\":{}}\n{}", "{\"id\":1}\n{}\n{\"id\":2}"} {
		require.True(t, f.pinged([]byte(message)), message)
	}
	for _, message := range []string{"", "{\"push\":{}}", "{\"a\":{}}\n{\"b\":{}}"} {
		require.False(t, f.pinged([]byte(message)), message)
	}
}

func TestServersSayWhatTheyCannotDo(t *testing.T) {
	o := options{tiny: true}
	_, err := withServer(o, "goroutine", func(s *server) (sample, error) { return s.do("dance") })
	require.ErrorContains(t, err, `this server cannot do "dance"`)
	_, err = withServer(o, "nobody", func(*server) (sample, error) { return nil, nil })
	require.ErrorContains(t, err, `there is no server "nobody"`)
}
