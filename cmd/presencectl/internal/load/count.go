package load

import (
	"fmt"
	"maps"
	"math/bits"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode"
)

// histogram counts durations in buckets that grow with them, each a thirty-second
// of a power of two, so that a quantile is at most 3 % too high. It is safe for
// concurrent use.
type histogram struct {
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

func (h *histogram) add(d time.Duration) {
	h.buckets[bucketOf(d)].Add(1)
	for {
		m := h.max.Load()
		if int64(d) <= m || h.max.CompareAndSwap(m, int64(d)) {
			return
		}
	}
}

// counts is what a histogram had counted at some time.
type counts [60 << subBits]uint64

func (h *histogram) counts(c *counts) {
	for i := range h.buckets {
		c[i] = h.buckets[i].Load()
	}
}

// Quantiles sum durations up, in milliseconds.
type Quantiles struct {
	Count uint64  `json:"count"`
	P50   float64 `json:"p50"`
	P90   float64 `json:"p90"`
	P99   float64 `json:"p99"`
	Max   float64 `json:"max"`
}

func millis(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// since returns the quantiles of what was counted after before. The longest is
// exact if most is given, and else the end of its bucket.
func (c *counts) since(before *counts, most time.Duration) Quantiles {
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
	q.Max = millis(most)
	at := func(share float64) float64 {
		left := uint64(share * float64(q.Count))
		for i := range c {
			n := c[i] - before[i]
			if n > left {
				return min(millis(bucketEnd(i)), q.Max)
			}
			left -= n
		}
		return q.Max
	}
	q.P50, q.P90, q.P99 = at(0.5), at(0.9), at(0.99)
	return q
}

func (h *histogram) quantiles() Quantiles {
	var c, none counts
	h.counts(&c)
	return c.since(&none, time.Duration(h.max.Load()))
}

// Bar is how many durations were in some range.
type Bar struct {
	Above float64 `json:"above"` // milliseconds
	UpTo  float64 `json:"upTo"`
	Count uint64  `json:"count"`
}

// bars is the distribution, four bars for a doubling.
func (h *histogram) bars() []Bar {
	const together = 1 << subBits / 4
	var list []Bar
	for i := 0; i < len(h.buckets); i += together {
		b := Bar{Above: millis(bucketEnd(max(i, 1) - 1)), UpTo: millis(bucketEnd(i + together - 1))}
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

// tally counts by names, of which the server may make up some: what is beyond
// maxNames is counted together. It is safe for concurrent use.
type tally struct {
	mu     sync.Mutex
	counts map[string]uint64
}

const (
	maxNames   = 32
	otherNames = "others"
)

// plain is a text that may be the server's, short and fit for a terminal.
func plain(text string, most int) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return '?'
	}, text[:min(len(text), most)])
}

func (t *tally) add(name string) {
	name = plain(name, 64)
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.counts == nil {
		t.counts = make(map[string]uint64)
	}
	if _, known := t.counts[name]; !known && len(t.counts) >= maxNames {
		name = otherNames
	}
	t.counts[name]++
}

func (t *tally) all() map[string]uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return maps.Clone(t.counts)
}

// listed writes counts the most frequent first.
func listed(counts map[string]uint64) string {
	if len(counts) == 0 {
		return "none"
	}
	names := slices.Collect(maps.Keys(counts))
	slices.SortFunc(names, func(a, b string) int {
		if counts[a] != counts[b] {
			return int(int64(counts[b]) - int64(counts[a]))
		}
		return strings.Compare(a, b)
	})
	parts := make([]string, len(names))
	for i, name := range names {
		parts[i] = fmt.Sprintf("%s %d", name, counts[name])
	}
	return strings.Join(parts, ", ")
}

// faults are what a healthy server would not have brought about: each kind with
// how often it happened and how it was the first time.
type faults struct {
	mu    sync.Mutex
	list  []Fault
	total uint64
}

// Fault is something that went wrong.
type Fault struct {
	Kind  string `json:"kind"`
	Count uint64 `json:"count"`
	First string `json:"first"` // what was the matter with the first
}

func (f *faults) add(kind, format string, args ...any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.total++
	kind = plain(kind, 64)
	i := slices.IndexFunc(f.list, func(k Fault) bool { return k.Kind == kind })
	if i < 0 {
		if len(f.list) >= maxNames {
			return // the total has it
		}
		i = len(f.list)
		f.list = append(f.list, Fault{Kind: kind, First: plain(fmt.Sprintf(format, args...), 400)})
	}
	f.list[i].Count++
}

func (f *faults) all() ([]Fault, uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.list), f.total
}
