package wheel_test

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/presence-go/presence/internal/seeds"
	"github.com/presence-go/presence/internal/wheel"
)

// Take returns every entry exactly once. It returns an entry before its tick only
// in a wide slot that holds the tick. It never returns it after a later entry of an
// exact slot.
func TestEverythingComesInTime(t *testing.T) {
	for seed := range seeds.Range(t, 4) {
		rng := rand.New(rand.NewPCG(seed, 1))
		var w wheel.Wheel
		due := map[uint32]uint64{} // by value, its tick
		now, next := uint64(rng.IntN(1<<20)), uint32(1)
		_, took := w.Take(now)
		require.False(t, took)
		for range 200 {
			for range rng.IntN(40) {
				tick := now + rng.Uint64N(1<<rng.IntN(36))
				if rng.IntN(20) == 0 {
					tick = now - min(now, 5) // already late
				}
				w.Add(tick, next)
				due[next] = max(tick, now)
				next++
			}
			now += rng.Uint64N(1 << rng.IntN(30))
			last := uint64(0)
			for {
				slot, ok := w.Take(now)
				if !ok {
					break
				}
				require.LessOrEqual(t, slot.From, now)
				require.GreaterOrEqual(t, slot.From, last, "slots are taken in the order of time")
				last = slot.From
				for {
					values := w.Drain(&slot, nil)
					if len(values) == 0 {
						break
					}
					for _, v := range values {
						tick, there := due[v]
						require.True(t, there, "seed %d: %d came twice", seed, v)
						delete(due, v)
						if tick < slot.To { // its time
							require.GreaterOrEqual(t, tick, slot.From, "seed %d", seed)
							if slot.Exact() {
								continue
							}
						}
						// Known only roughly so far: it is added again, as every caller must.
						w.Add(tick, v)
						due[v] = tick
					}
				}
			}
			for v, tick := range due {
				require.Greater(t, tick, now, "seed %d: %d is late", seed, v)
			}
			if at, ok := w.Next(); ok {
				require.Greater(t, at, now)
				earliest := slices.Min(slices.Collect(func(yield func(uint64) bool) {
					for _, tick := range due {
						if !yield(tick) {
							return
						}
					}
				}))
				require.LessOrEqual(t, at, earliest, "seed %d: the caller would wake up too late", seed)
			} else {
				require.Empty(t, due)
			}
			require.Equal(t, len(due), w.Len())
		}
	}
}

func TestPeekShowsTheFirstSlots(t *testing.T) {
	var w wheel.Wheel
	got, bound := w.Peek(make([]uint32, 0, 8))
	require.Empty(t, got)
	require.Equal(t, uint64(math.MaxUint64), bound)
	for v := range uint32(70) {
		w.Add(1000, v)
	}
	w.Add(5000, 99)
	got, bound = w.Peek(make([]uint32, 0, 69))
	require.Empty(t, got, "no slot fits into the room")
	require.Equal(t, uint64(768), bound)
	got, bound = w.Peek(make([]uint32, 0, 70))
	require.Len(t, got, 70)
	require.NotContains(t, got, uint32(99))
	require.Equal(t, uint64(4864), bound)
	got, bound = w.Peek(make([]uint32, 0, 71))
	require.Len(t, got, 71)
	require.Equal(t, uint64(math.MaxUint64), bound)
	require.Equal(t, 71, w.Len(), "looking takes nothing out")
}

func TestMemoryIsUsedAgain(t *testing.T) {
	var w wheel.Wheel
	now := uint64(0)
	turn := func() {
		for v := range uint32(1000) {
			w.Add(now+1, v)
		}
		now++
		slot, ok := w.Take(now)
		require.True(t, ok)
		var values []uint32
		for n := -1; n != len(values); {
			n = len(values)
			values = w.Drain(&slot, values)
		}
		require.Len(t, values, 1000)
	}
	turn()
	require.Less(t, testing.AllocsPerRun(100, turn), 20.0, "of which all are the test's")
}
