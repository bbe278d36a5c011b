package fleet

import (
	"fmt"
	"math/bits"
	"sync/atomic"
	"time"
)

// Histogram counts durations in buckets that grow with them. A bucket is a
// thirty-second of a power of two, so that a quantile is at most 3 % too high. It
// is safe for concurrent use.
type Histogram struct {
	buckets [60 << subBits]atomic.Uint64
	max     atomic.Int64
}

const subBits = 5

func bucketOf(d time.Duration) int {
	v := uint64(max(d, 0))
	shift := max(bits.Len64(v)-subBits-1, 0)
	return shift<<subBits + int(v>>shift)
}

// bucketEnd is the longest duration of a bucket.
func bucketEnd(i int) time.Duration {
	shift := max(i>>subBits-1, 0)
	return time.Duration(uint64(i-shift<<subBits+1)<<shift - 1)
}

// Add counts a duration.
func (h *Histogram) Add(d time.Duration) {
	h.buckets[bucketOf(d)].Add(1)
	for {
		m := h.max.Load()
		if int64(d) <= m || h.max.CompareAndSwap(m, int64(d)) {
			return
		}
	}
}

// Counts are the counts of a histogram at some time.
type Counts [60 << subBits]uint64

// Counts returns a copy of the present counts.
func (h *Histogram) Counts(c *Counts) {
	for i := range h.buckets {
		c[i] = h.buckets[i].Load()
	}
}

// Quantiles summarise durations, in milliseconds.
type Quantiles struct {
	Count uint64  `json:"count"`
	P50   float64 `json:"p50"`
	P90   float64 `json:"p90"`
	P99   float64 `json:"p99"`
	Max   float64 `json:"max"`
}

func (q Quantiles) String() string {
	if q.Count == 0 {
		return "none measured"
	}
	return fmt.Sprintf("p50 %s, p90 %s, p99 %s, max %s, of %d", Millis(q.P50), Millis(q.P90), Millis(q.P99), Millis(q.Max), q.Count)
}

// Millis returns milliseconds as text.
func Millis(x float64) string {
	switch {
	case x >= 10_000:
		return fmt.Sprintf("%.1f s", x/1000)
	case x >= 100:
		return fmt.Sprintf("%.0f ms", x)
	case x >= 1:
		return fmt.Sprintf("%.1f ms", x)
	default:
		return fmt.Sprintf("%.2f ms", x)
	}
}

func inMillis(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// Since returns the quantiles of the durations counted after before. The longest
// duration is the end of its bucket.
func (c *Counts) Since(before *Counts) Quantiles { return c.since(before, 0) }

func (c *Counts) since(before *Counts, most time.Duration) Quantiles {
	var q Quantiles
	last := 0
	for i := range c {
		if n := c[i] - before[i]; n > 0 {
			q.Count += n
			last = i
		}
	}
	if q.Count == 0 {
		return q
	}
	if most == 0 {
		most = bucketEnd(last)
	}
	q.Max = inMillis(most)
	at := func(share float64) float64 {
		left := uint64(share * float64(q.Count))
		for i := range c {
			n := c[i] - before[i]
			if n > left {
				return min(inMillis(bucketEnd(i)), q.Max)
			}
			left -= n
		}
		return q.Max
	}
	q.P50, q.P90, q.P99 = at(0.5), at(0.9), at(0.99)
	return q
}

// Quantiles returns the quantiles of all durations. The longest one is exact.
func (h *Histogram) Quantiles() Quantiles {
	var c, none Counts
	h.Counts(&c)
	return c.since(&none, time.Duration(h.max.Load()))
}

// Bar is the number of durations in a range.
type Bar struct {
	Above float64 `json:"above"` // milliseconds
	UpTo  float64 `json:"upTo"`
	Count uint64  `json:"count"`
}

// Bars returns the distribution, four bars for a doubling.
func (h *Histogram) Bars() []Bar {
	const together = 1 << subBits / 4
	var list []Bar
	for i := 0; i < len(h.buckets); i += together {
		b := Bar{Above: inMillis(bucketEnd(max(i, 1) - 1)), UpTo: inMillis(bucketEnd(i + together - 1))}
		for j := range together {
			b.Count += h.buckets[i+j].Load()
		}
		if b.Count > 0 || len(list) > 0 {
			list = append(list, b)
		}
	}
	last := len(list)
	for last > 0 && list[last-1].Count == 0 {
		last--
	}
	return list[:last]
}
