package fleet

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestHistogram(t *testing.T) {
	for i := range bucketOf(math.MaxInt64) {
		end := bucketEnd(i)
		require.Equal(t, i, bucketOf(end))
		require.Equal(t, i+1, bucketOf(end+1))
	}
	random := rand.New(rand.NewPCG(1, 2))
	var h Histogram
	var all []time.Duration
	for range 10_000 {
		d := time.Duration(1) << random.IntN(35)
		d += time.Duration(random.Int64N(int64(d)))
		h.Add(d)
		all = append(all, d)
	}
	slices.Sort(all)
	q := h.Quantiles()
	require.Equal(t, uint64(len(all)), q.Count)
	require.InDelta(t, inMillis(all[len(all)-1]), q.Max, 0)
	for share, got := range map[float64]float64{0.5: q.P50, 0.9: q.P90, 0.99: q.P99} {
		exact := inMillis(all[int(share*float64(len(all)))])
		require.GreaterOrEqual(t, got, exact)
		require.LessOrEqual(t, got, exact*1.032)
	}
	require.Equal(t, Quantiles{}, new(Histogram).Quantiles())
	require.Empty(t, new(Histogram).Bars())
	var sum uint64
	for _, b := range h.Bars() {
		require.Less(t, b.Above, b.UpTo)
		sum += b.Count
	}
	require.Equal(t, q.Count, sum)

	var before, after Counts
	h.Counts(&before)
	h.Add(3 * time.Second)
	h.Counts(&after)
	later := after.Since(&before)
	require.Equal(t, uint64(1), later.Count)
	require.InEpsilon(t, 3000, later.Max, 0.032)
	require.Equal(t, Quantiles{}, after.Since(&after))
}

func TestMillis(t *testing.T) {
	for v, want := range map[float64]string{0.25: "0.25 ms", 2.5: "2.5 ms", 250: "250 ms", 25_000: "25.0 s"} {
		require.Equal(t, want, Millis(v))
	}
	require.Equal(t, "none measured", Quantiles{}.String())
}
