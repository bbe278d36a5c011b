// Package seeds gives random tests their seeds. Each test draws the first one and
// logs it, so that each run tries other histories and a failure can be repeated.
package seeds

import (
	"flag"
	"fmt"
	"iter"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

var (
	only   = flag.Uint64("seed", 0, "run random tests with this seed alone")
	first  = flag.Uint64("first", 0, "the first seed of random tests; 0 draws one for each")
	times  = flag.Float64("times", 1, "multiply the number of seeds of random tests, at least one each")
	long   = flag.Bool("long", false, "run random tests with 40 times as many seeds")
	during = flag.Duration("during", 0, "run each random test with new seeds for this long, instead of a number of times")
)

// maxDrawn keeps a drawn seed short enough to be typed.
const maxDrawn = 1_000_000_000

// Single reports whether random tests run with one seed that was asked for, or with
// few. Figures that need many seeds mean nothing then.
func Single() bool { return *only != 0 || *times < 1 }

// List returns count seeds in a row, or the one asked for. It logs how to repeat the
// run. Use it for one seed and for parallel subtests, others use Range.
func List(t testing.TB, count int) []uint64 {
	t.Helper()
	if *only != 0 {
		return []uint64{*only}
	}
	if *long {
		count *= 40
	}
	count = max(1, int(float64(count)**times))
	from := *first
	if from == 0 {
		from = 1 + rand.Uint64N(maxDrawn)
	}
	t.Logf("seeds from %d; once more: -first %d, or one of them: -seed N", from, from)
	list := make([]uint64, count)
	for i := range list {
		list[i] = from + uint64(i)
	}
	return list
}

// Range yields the seeds of List one after the other, or new seeds for as long as the
// flag during has. It logs a seed at which the test failed, and at the end the number
// of seeds with the figures of Count.
func Range(t testing.TB, count int) iter.Seq[uint64] {
	t.Helper()
	list := List(t, count)
	return func(yield func(uint64) bool) {
		begun, n := time.Now(), 0
		t.Cleanup(func() { t.Logf("%d seeds in %v%s", n, time.Since(begun).Round(time.Millisecond), take(t.Name())) })
		for seed := list[0]; ; seed++ {
			if n++; !try(t, seed, yield) || t.Failed() {
				return
			}
			timed := *during > 0 && *only == 0
			if timed && time.Since(begun) >= *during || !timed && n == len(list) {
				return
			}
		}
	}
}

// try yields one seed. It logs the seed if the test failed with it.
func try(t testing.TB, seed uint64, yield func(uint64) bool) bool {
	passed := false
	defer func() {
		if !passed && !t.Skipped() {
			t.Logf("seed %d failed; once more: -run '^%s$' -seed %d", seed, t.Name(), seed)
		}
	}()
	more := yield(seed)
	passed = !t.Failed()
	return more
}

var (
	mu     sync.Mutex
	counts = make(map[string]map[string]int) // by test
)

// Count adds n to a figure that Range logs when the test ends, such as "events".
func Count(t testing.TB, what string, n int) {
	mu.Lock()
	defer mu.Unlock()
	own := counts[t.Name()]
	if own == nil {
		own = make(map[string]int)
		counts[t.Name()] = own
	}
	own[what] += n
}

// take returns the figures of a test as text, and removes them.
func take(test string) string {
	mu.Lock()
	defer mu.Unlock()
	var b strings.Builder
	for _, what := range slices.Sorted(maps.Keys(counts[test])) {
		fmt.Fprintf(&b, ", %d %s", counts[test][what], what)
	}
	delete(counts, test)
	return b.String()
}
