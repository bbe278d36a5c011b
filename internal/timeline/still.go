package timeline

import (
	"sync/atomic"
	"time"

	"github.com/benbjohnson/clock"
)

// Still is a clock that stands still until it is set. Drive a tracker that has
// it by Sweep. Its timers never fire: setting a clock.Mock, whose timers do,
// costs a millisecond of real time.
type Still struct {
	*clock.Mock
	at atomic.Int64 // nanoseconds since 1970
}

// NewStill returns a clock that shows the given time.
func NewStill(at time.Time) *Still {
	c := &Still{Mock: clock.NewMock()}
	c.Set(at)
	return c
}

// Now returns the time that was set.
func (c *Still) Now() time.Time { return time.Unix(0, c.at.Load()).UTC() }

// Set sets the time that the clock shows.
func (c *Still) Set(at time.Time) { c.at.Store(at.UnixNano()) }

// Add moves the clock and returns its time.
func (c *Still) Add(d time.Duration) time.Time { return time.Unix(0, c.at.Add(int64(d))).UTC() }
