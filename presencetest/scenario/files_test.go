package scenario_test

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/presence-go/presence/presencetest/scenario"
)

// head returns the statements of the proves line of a file.
func head(t *testing.T, name string) []string {
	t.Helper()
	src, err := os.ReadFile(name)
	require.NoError(t, err)
	f, err := scenario.Parse(name, src)
	require.NoError(t, err)
	require.NotEmpty(t, f.Proves)
	return f.Proves
}

// TestFiles runs every scenario of the project on the pure core and through a
// whole tracker. Both must agree in everything that happens.
func TestFiles(t *testing.T) {
	files, err := filepath.Glob("../../testdata/scenarios/*.txt")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, name := range files {
		t.Run(filepath.Base(name), func(t *testing.T) {
			t.Parallel()
			pure, err := scenario.RunFile(t.Context(), name, scenario.Options{})
			require.NoError(t, err)
			require.NotZero(t, pure.Held)
			require.ElementsMatch(t, head(t, name), slices.Collect(maps.Keys(pure.Proven)), "the head promises what the lines prove")
			live, err := scenario.RunFile(t.Context(), name, scenario.Options{Live: true})
			require.NoError(t, err, "through a tracker")
			require.Equal(t, pure, live)
		})
	}
}
