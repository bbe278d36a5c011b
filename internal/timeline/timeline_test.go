package timeline_test

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/benbjohnson/clock"
	"github.com/stretchr/testify/require"

	"github.com/presence-go/presence/internal/timeline"
)

type instant int64

func at(t time.Time) instant { return instant(t.UnixNano()) }

// wall is a clock without a monotonic reading, which a test sets.
type wall struct{ now time.Time }

func (w *wall) Now() time.Time { return w.now }

func newWall() (*wall, *timeline.Timeline[instant]) {
	w := &wall{now: time.Date(2026, 1, 1, 9, 0, 0, 0, time.UTC)}
	return w, timeline.New(w, at)
}

func TestTicksAndInstants(t *testing.T) {
	t.Parallel()
	w, line := newWall()
	origin := at(w.now)
	require.Equal(t, origin, line.Origin())
	require.Equal(t, uint64(0), line.Tick(origin-1))
	require.Equal(t, instant(0), line.Instant(0))
	for _, after := range []time.Duration{0, 1, timeline.Tick - 1, timeline.Tick, time.Hour} {
		tick := line.Tick(origin + instant(after))
		require.Equal(t, uint64(after/timeline.Tick)+1, tick)
		require.Equal(t, origin+instant(after.Truncate(timeline.Tick)), line.Instant(tick))
	}
}

// A tick is whole by another clock only if it begins just now.
func TestWholeTicks(t *testing.T) {
	t.Parallel()
	w, line := newWall()
	tick, ok := line.Whole()
	require.Equal(t, uint64(1), tick)
	require.True(t, ok)
	w.now = w.now.Add(1)
	tick, ok = line.Whole()
	require.Equal(t, uint64(1), tick)
	require.False(t, ok)
}

// Every step back of the clock is absorbed, and the steps add up.
func TestClockSetBack(t *testing.T) {
	t.Parallel()
	w, line := newWall()
	before := line.Now()
	for i, back := range []time.Duration{time.Minute, 1} {
		told := line.Breaks()
		sum := line.Behind()
		w.now = w.now.Add(-back)
		require.Equal(t, before, line.Now())
		now, stood, _, _, behind, _ := line.Since(told)
		require.Equal(t, uint16(i+1), now)
		require.False(t, stood)
		require.Equal(t, back, behind)
		require.Equal(t, sum+back, line.Behind())
	}
	for told, behind := range []time.Duration{0, time.Minute, time.Minute + 1} {
		require.Equal(t, behind, line.BehindAt(uint16(told)))
	}
	w.now = w.now.Add(time.Second)
	require.Equal(t, before+instant(time.Second), line.Now())
	_, stood, _, _, behind, _ := line.Since(0)
	require.False(t, stood)
	require.Equal(t, time.Minute+1, behind)
}

// A time without a reading is a standstill if readings are expected.
func TestStandstill(t *testing.T) {
	t.Parallel()
	w, line := newWall()
	w.now = w.now.Add(time.Hour)
	line.Expect(time.Minute)
	require.Zero(t, line.Breaks(), "none was expected before")
	from := line.Now()
	w.now = w.now.Add(time.Minute)
	line.Now()
	require.Zero(t, line.Breaks(), "that is not too long")
	from += instant(time.Minute)
	w.now = w.now.Add(time.Minute + 1)
	to := line.Now()
	now, stood, gotFrom, gotTo, behind, _ := line.Since(0)
	require.Equal(t, uint16(1), now)
	require.True(t, stood)
	require.Equal(t, from, gotFrom)
	require.Equal(t, to, gotTo)
	require.Zero(t, behind)
	_, stood, _, _, _, _ = line.Since(now)
	require.False(t, stood)
	line.Expect(0)
	w.now = w.now.Add(time.Hour)
	line.Now()
	require.Equal(t, uint16(1), line.Breaks())
}

// Moves of a mock clock are no standstills.
func TestMockClockStandsStillNever(t *testing.T) {
	t.Parallel()
	c := clock.NewMock()
	line := timeline.New(c, at)
	line.Expect(time.Minute)
	c.Add(time.Hour)
	line.Now()
	require.Zero(t, line.Breaks())
}

// Many breaks are remembered in a ring, of which the number of a break wraps.
func TestManyBreaks(t *testing.T) {
	t.Parallel()
	w, line := newWall()
	const many = 1<<16 + 10
	for range many {
		w.now = w.now.Add(-time.Second)
		line.Now()
	}
	require.Equal(t, uint16(many%(1<<16)), line.Breaks())
	require.Equal(t, many*time.Second, line.Behind())
	_, _, _, _, behind, _ := line.Since(line.Breaks() - 3)
	require.Equal(t, 3*time.Second, behind)
}

// While many heartbeats need the time of the real clock, Advance keeps a coarse
// tick. When they stop, the coarse tick ends.
func TestCoarseTick(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		line := timeline.New(clock.New(), at)
		done := make(chan struct{})
		var advancing sync.WaitGroup
		advancing.Go(func() { line.Advance(done) })
		for range 100 {
			line.Whole()
		}
		require.Zero(t, line.Coarse(), "no readings are expected")
		line.Expect(time.Minute)
		tick, ok := line.Whole()
		require.True(t, ok)
		for range 100 {
			line.Whole()
		}
		require.Equal(t, tick, line.Coarse())
		time.Sleep(10*timeline.Tick + timeline.Tick/2)
		require.Equal(t, tick+10, line.Coarse())
		time.Sleep(time.Second)
		require.Zero(t, line.Coarse())
		for range 100 {
			line.Whole()
		}
		require.NotZero(t, line.Coarse())
		line.Stop()
		require.Zero(t, line.Coarse())
		close(done)
		advancing.Wait()
	})
}
