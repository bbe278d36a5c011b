package presence_test

import (
	"sync"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/assert"

	"github.com/presence-go/presence"
)

// What is asked of a channel that is just being given up is asked of the next.
func TestChannelsAreGivenUpWhileUsed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newRunning(t, nil)
		var users sync.WaitGroup
		for range 4 {
			users.Go(func() {
				for range 300 {
					w, err := d.Watch(t.Context(), boss, sales, presence.WatchOptions{})
					if !assert.NoError(t, err) {
						return
					}
					f, err := w.Poll()
					if !assert.NoError(t, err) || !assert.NotNil(t, f) {
						return
					}
					assert.NoError(t, w.Close())
				}
			})
			users.Go(func() {
				for range 300 {
					assert.NoError(t, d.SetHours(t.Context(), sales, answers{open: true}))
					_, group, err := d.ListAs(t.Context(), presence.AudienceTeam, sales, nil)
					assert.NoError(t, err)
					assert.NotEmpty(t, group.Status)
					assert.NoError(t, d.SetHours(t.Context(), sales, nil))
				}
			})
		}
		users.Wait()
	})
}
