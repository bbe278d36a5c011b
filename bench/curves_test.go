package main

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// Every figure of every curve is measured at every point, and drawn.
func TestCurvesAreMeasured(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "curves")
	r := newRunner(options{quick: true, tiny: true, rounds: 1})
	require.NoError(t, runCurves(r, dir))
	data, err := os.ReadFile(filepath.Join(dir, "curves.json"))
	require.NoError(t, err)
	var rep report
	require.NoError(t, json.Unmarshal(data, &rep))
	require.True(t, rep.Quick)
	for _, c := range curves {
		res := rep.find("curve/" + c.id)
		require.Len(t, res.Cases, 1)
		for i, point := range res.Cases {
			require.Equal(t, float64(c.quick[i]), point.X)
			for _, col := range c.columns {
				require.Len(t, point.Rounds[col.metric], 1, "%s at %s: %s", c.id, point.Name, col.metric)
			}
			for _, p := range c.panels {
				for _, l := range p.lines {
					require.Contains(t, point.Rounds, l.metric, "%s, %s", c.id, p.title)
				}
			}
		}
		picture, err := os.ReadFile(filepath.Join(dir, c.id+".svg"))
		require.NoError(t, err)
		requireXML(t, picture)
		require.Contains(t, string(picture), "a reduced run, which decides nothing")
	}
}

func requireXML(t *testing.T, data []byte) {
	t.Helper()
	for d := xml.NewDecoder(bytes.NewReader(data)); ; {
		_, err := d.Token()
		if errors.Is(err, io.EOF) {
			return
		}
		require.NoError(t, err)
	}
}

func TestWhatWasNotMeasuredIsNotDrawn(t *testing.T) {
	p := picture{title: "a < b"}
	p.add(panel{"nothing", []line{{"x", "x"}}}, &result{Cases: []*series{{Name: "1", Rounds: map[string][]float64{}}}})
	require.Contains(t, string(p.svg()), "not measured")
	require.NotContains(t, string(p.svg()), "circle")
	requireXML(t, p.svg())
}

func TestAxes(t *testing.T) {
	for _, tc := range []struct{ low, high, from, to float64 }{
		{3, 40, 2, 50},        // to figures that begin with 1, 2 or 5
		{100, 100, 20, 200},   // a decade at least
		{0.9, 1.1, 0.2, 2},    // around what hardly changes
		{1, 1e6, 1, 1e6},      // as it is
		{0.002, 9, 0.002, 10}, // any size
	} {
		low, high := span(tc.low, tc.high)
		require.InEpsilon(t, tc.from, low, 1e-9, "%v", tc)
		require.InEpsilon(t, tc.to, high, 1e-9, "%v", tc)
	}
	requireTicks := func(want, got []float64) {
		require.InEpsilonSlice(t, want, got, 1e-9)
	}
	requireTicks([]float64{2, 5, 10, 20}, ticks(2, 20, 6))
	requireTicks([]float64{1, 10, 100, 1000}, ticks(1, 1000, 6))
	s := scale{1, 100, 0, 200}
	require.InDelta(t, 100, s.at(10), 1e-9)
	require.Equal(t, []float64{10, 42, 26}, spread16([]float64{10, 12, 11}))
	for v, want := range map[float64]string{0.25: "0.25", 1_000: "1k", 30_000: "30k", 1e6: "1M"} {
		require.Equal(t, want, brief(v))
	}
}
