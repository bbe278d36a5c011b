package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// Figures replace those that were there, between their marks, and nothing else.
func TestFillIn(t *testing.T) {
	dir := t.TempDir()
	doc, figures := filepath.Join(dir, "performance.md"), filepath.Join(dir, "figures.json")
	require.NoError(t, os.WriteFile(doc, []byte("before\n<!-- figures: goals -->\nold\n<!-- end of figures -->\nbetween\n"+
		"<!-- figures: cases -->\n<!-- end of figures -->\n<!-- figures: curves -->\n<!-- end of figures -->\n"+
		"<!-- figures: million -->\nas it was\n<!-- end of figures -->\nafter\n"), 0o644))
	got := 7.5
	rep := &report{Quick: true, Machine: machine{Processor: "abacus", Cores: 2}, Goals: []verdict{
		{Goal: "G1", Title: "speed", Level: must, What: "hot", Wanted: "<= 10 ns", Measured: &got, Unit: "ns", Verdict: reached},
		{Goal: "G1", Title: "speed", Level: stretch, What: "hot", Wanted: "<= 2 ns", Measured: &got, Unit: "ns", Verdict: notReached, Noisy: true},
		{Goal: "G2", Title: "more", What: "later", Verdict: notMeasured},
	}, Results: []*result{
		{ID: "x", Title: "one | and other", Columns: []shown{{wall, "ns", true}}, Cases: []*series{
			{Name: "floor", Role: floor, Rounds: map[string][]float64{wall: {5}}, Spread: 1},
			{Name: "ours", Role: ours, Rounds: map[string][]float64{wall: {10}}, Spread: 2, Noisy: true},
			{Name: "server", Role: peer, Missing: "not available"},
		}},
		{ID: "curve/connections", Title: "growth", Columns: []shown{{byHandle, "ns", false}}, Cases: []*series{
			{Name: "1", X: 1, Role: ours, Rounds: map[string][]float64{byHandle: {3}}, Spread: 1},
			{Name: "2", X: 2, Role: ours, Rounds: map[string][]float64{byHandle: {4}}, Spread: 1},
		}},
	}}
	require.NoError(t, rep.write(figures))
	var first []byte
	for range 2 { // the second time changes nothing
		require.NoError(t, fillIn(doc, []string{figures}))
		text, err := os.ReadFile(doc)
		require.NoError(t, err)
		for _, want := range []string{
			"before\n<!-- figures: goals -->\n\n**A reduced run, which decides nothing; a full one is to replace it.** abacus, 2 cores",
			"| G1 speed | must | hot | <= 10 ns | 7.5 ns | reached |\n|  | stretch | hot | <= 2 ns | 7.5 ns | **not reached**, noisy |\n",
			"| G2 more |  | later |  | - | not measured yet |\n\n<!-- end of figures -->\nbetween\n",
			"| floor | floor | 5 | 0.5 | 1 |\n| ours | ours | 10 |  | 2 noisy |\n| server | peer | not available |\n",
			"Growth:\n\n|  |  | ns | spread |\n|---|---|---:|---:|\n| 1 | ours | 3 | 1 |\n",
			"<!-- figures: million -->\nas it was\n<!-- end of figures -->\nafter\n",
		} {
			require.Contains(t, string(text), want)
		}
		require.NotContains(t, string(text), "old")
		if first != nil {
			require.Equal(t, string(first), string(text))
		}
		first = text
	}
	picture, err := os.ReadFile(filepath.Join(dir, "performance", "connections.svg"))
	require.NoError(t, err)
	requireXML(t, picture)

	rep.Results[0].ID = millionID
	rep.Results[0].Cases[0].Rounds = map[string][]float64{"beats": {144}}
	require.NoError(t, rep.write(figures))
	require.NoError(t, os.WriteFile(doc, []byte("<!-- figures: goals -->\n<!-- end of figures -->\n"), 0o644))
	require.ErrorContains(t, fillIn(doc, []string{figures}), "there is no place for the figures of ")
}

// The document has a place for everything that is measured.
func TestDocumentHasItsPlaces(t *testing.T) {
	text, err := os.ReadFile("../docs/performance.md")
	require.NoError(t, err)
	for _, section := range []string{"goals", "cases", "curves", "million"} {
		_, err := replaceSection(string(text), section, "")
		require.NoError(t, err)
	}
	for _, c := range curves {
		require.Contains(t, string(text), "(performance/"+c.id+".svg)")
	}
}
