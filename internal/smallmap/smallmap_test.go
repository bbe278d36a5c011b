package smallmap_test

import (
	"cmp"
	"maps"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/presence-go/presence/internal/smallmap"
)

// A Map works like a built-in map at any number of entries.
func TestMap(t *testing.T) {
	t.Parallel()
	for _, n := range []int{1, smallmap.Few, smallmap.Few + 1, 100} {
		var got smallmap.Map[int, string]
		want := make(map[int]string)
		require.Nil(t, got.Keys(cmp.Compare[int]))
		for i := range 3 * n {
			key, value := i*7%n, string(rune('a'+i%26))
			if i%4 == 3 {
				got.Delete(key)
				delete(want, key)
			} else {
				got.Set(key, value)
				want[key] = value
			}
			require.Equal(t, want[key], got.Get(key))
			require.Equal(t, want, maps.Collect(got.All()))
			require.Equal(t, len(want), got.Len())
			require.Equal(t, slices.Sorted(maps.Keys(want)), got.Keys(cmp.Compare[int]))
		}
	}
}

// A loop over the entries may end before the last.
func TestMapLoopsEnd(t *testing.T) {
	t.Parallel()
	for _, n := range []int{2, smallmap.Few + 1} {
		var m smallmap.Map[int, int]
		for i := range n {
			m.Set(i, i)
		}
		loops := 0
		for range m.All() {
			loops++
			break
		}
		require.Equal(t, 1, loops)
	}
}
