package seeds_test

import (
	"flag"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/presence-go/presence/internal/seeds"
)

// recorder is a test of which the log can be read.
type recorder struct {
	testing.TB
	log    []string
	ends   []func()
	failed bool
}

func (r *recorder) Helper()                 {}
func (r *recorder) Name() string            { return "TestOther" }
func (r *recorder) Failed() bool            { return r.failed }
func (r *recorder) Skipped() bool           { return false }
func (r *recorder) Cleanup(f func())        { r.ends = append(r.ends, f) }
func (r *recorder) Logf(s string, _ ...any) { r.log = append(r.log, s) }

func set(t *testing.T, name, value string) {
	t.Helper()
	before := flag.Lookup(name).Value.String()
	require.NoError(t, flag.Set(name, value))
	t.Cleanup(func() { require.NoError(t, flag.Set(name, before)) })
}

func TestSeedsAreDrawnInARow(t *testing.T) {
	set(t, "seed", "0")
	set(t, "first", "0")
	set(t, "times", "1")
	set(t, "during", "0")
	drawn := make(map[uint64]bool)
	for range 5 {
		list := seeds.List(t, 3)
		require.Equal(t, []uint64{list[0], list[0] + 1, list[0] + 2}, list)
		require.Equal(t, 3, len(slices.Collect(seeds.Range(t, 3))))
		drawn[list[0]] = true
	}
	require.Greater(t, len(drawn), 1, "each run draws other seeds")
	require.False(t, seeds.Single())

	set(t, "first", "7")
	require.Equal(t, []uint64{7, 8}, slices.Collect(seeds.Range(t, 2)))
	set(t, "times", "0.1")
	require.Equal(t, []uint64{7}, slices.Collect(seeds.Range(t, 2)))
	require.True(t, seeds.Single())
	set(t, "times", "1")
	set(t, "seed", "9")
	require.Equal(t, []uint64{9}, slices.Collect(seeds.Range(t, 2)))
	require.True(t, seeds.Single())
}

func TestTheSeedThatFailsIsLogged(t *testing.T) {
	set(t, "seed", "0")
	set(t, "during", "0")
	set(t, "times", "1")
	r := new(recorder)
	n := 0
	for range seeds.Range(r, 10) {
		seeds.Count(r, "events", 4)
		n++
		r.failed = n == 3
	}
	require.Equal(t, 3, n, "no seed is tried after a failure")
	require.True(t, slices.ContainsFunc(r.log, func(line string) bool { return strings.Contains(line, "seed %d failed") }), r.log)
	for _, end := range r.ends {
		end()
	}
	require.Contains(t, r.log[len(r.log)-1], "seeds in")
}

func TestForATimeInsteadOfANumber(t *testing.T) {
	set(t, "seed", "0")
	set(t, "during", "20ms")
	require.Greater(t, len(slices.Collect(seeds.Range(t, 1))), 100)
}
