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
	c := curve{title: "a < b", panels: []panel{{"nothing", []line{{"x", "x"}}}}}
	picture := c.picture("", &result{Cases: []*series{{Name: "1", Rounds: map[string][]float64{}}}})
	require.Contains(t, string(picture), "not measured")
	require.NotContains(t, string(picture), "circle")
	requireXML(t, picture)
}

func TestNamesOfLinesLieApart(t *testing.T) {
	require.Equal(t, []float64{10, 42, 26}, apart([]float64{10, 12, 11}))
}

// The document has a marker for every table.
func TestDocumentHasItsPlaces(t *testing.T) {
	text, err := os.ReadFile("../docs/performance.md")
	require.NoError(t, err)
	for _, section := range []string{"goals", "cases", "curves", "million"} {
		require.Contains(t, string(text), "<!-- figures: "+section+" -->\n")
	}
	for _, c := range curves {
		require.Contains(t, string(text), "(performance/"+c.id+".svg)")
	}
}
