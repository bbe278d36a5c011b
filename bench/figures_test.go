package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// scripts/figures writes the figures of a report between the marks of a document,
// and refuses a document without the marks.
func TestFiguresFillTheDocument(t *testing.T) {
	node, err := exec.LookPath("node")
	require.NoError(t, err, "scripts/client installs Node")
	dir := t.TempDir()
	report := filepath.Join(dir, "figures.json")
	require.NoError(t, os.WriteFile(report, []byte(`{
		"machine": {"processor": "Abacus", "cores": 2, "os": "linux", "go": "go1.26"},
		"goals": [{"goal": "G1", "title": "heartbeat", "what": "by handle", "wanted": "at most 10 ns", "measured": 12, "unit": "ns", "verdict": "not reached"}],
		"results": [{"id": "hb", "title": "visits", "columns": [{"metric": "wall", "header": "ns", "ratio": true}], "cases": [
			{"name": "ours", "role": "ours", "rounds": {"wall": [1000, 3000, 2000]}, "spread": 3, "noisy": true},
			{"name": "a peer", "role": "peer", "rounds": {"wall": [4000, 6000, 8000]}, "spread": 2},
			{"name": "Redis", "role": "peer", "missing": "not available"}]}]}`), 0o600))
	fill := func(document string) (text, out string, err error) {
		file := filepath.Join(dir, "performance.md")
		require.NoError(t, os.WriteFile(file, []byte(document), 0o600))
		cmd := exec.CommandContext(t.Context(), node, "../scripts/figures", report)
		cmd.Env = append(os.Environ(), "DOCUMENT="+file)
		printed, err := cmd.CombinedOutput()
		data, wrong := os.ReadFile(file)
		require.NoError(t, wrong)
		return string(data), string(printed), err
	}

	const marks = "before\n<!-- figures: goals -->\nold\n<!-- end of figures -->\n<!-- figures: cases -->\n<!-- end of figures -->\nafter\n"
	text, out, err := fill(marks)
	require.NoError(t, err, out)
	for _, want := range []string{
		"Abacus, 2 cores, linux, go1.26.", "| G1 heartbeat |  | by handle | at most 10 ns | 12 ns | **not reached** |",
		"| ours | ours | 2,000 |  | 3 noisy |", "| a peer | peer | 6,000 | 4 | 2 |", "| Redis | peer | not available |", "before\n", "\nafter\n",
	} {
		require.Contains(t, text, want)
	}
	require.NotContains(t, text, "old")
	again, out, err := fill(text)
	require.NoError(t, err, out)
	require.Equal(t, text, again)

	text, out, err = fill("no marks\n")
	require.Error(t, err)
	require.Contains(t, out, "no place for the figures of goals")
	require.Equal(t, "no marks\n", text)
}
