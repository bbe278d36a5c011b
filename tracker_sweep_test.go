package presence_test

import (
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/benbjohnson/clock"
	"github.com/stretchr/testify/require"

	"github.com/presence-go/presence"
	"github.com/presence-go/presence/presencetest"
)

// Subjects that are due together each expire once, in the order of time, as each
// would by itself.
func TestManyWhoAreDueTogetherAllExpire(t *testing.T) {
	const many = 1000
	gone := make(map[presence.Ref]presence.Output)
	var order []presence.Instant
	d := newTracker(t, nil)
	now := d.clock
	d.Observe(func(who presence.Ref, o *presence.Output) {
		if o.Kind == presence.OutputTransition && o.Presence.Status == "offline" {
			require.NotContains(t, gone, who)
			gone[who] = *o
			order = append(order, o.Noticed)
		}
	})
	opened := make([]presence.Instant, many)
	for i := range many {
		if i == many/2 {
			now.Add(300 * time.Microsecond) // within the same tick
		}
		opened[i] = presence.At(now.Now())
		_, err := d.Connect(t.Context(), presence.ID(fmt.Sprint("u", i)), presence.ConnectOptions{ID: "tab"})
		require.NoError(t, err)
	}
	now.Add(2 * time.Minute)
	d.sweep()
	require.Len(t, gone, many)
	require.IsNonDecreasing(t, order)
	for i, at := range opened {
		o := gone[presence.ID(fmt.Sprint("u", i))]
		require.Equal(t, at.Add(time.Minute), o.At)
		require.Equal(t, fmt.Sprintf("grace@%d", at.Add(75*time.Second)), o.ID)
		require.Equal(t, presence.CauseLost, o.Presence.Cause)
	}
}

func TestStandstillGivesConnectionsAnotherChance(t *testing.T) {
	// The bubble's clock cannot stand still, but one whose readings jump can be
	// had: a clock that is moved between two readings.
	synctest.Test(t, func(t *testing.T) {
		jump := &jumpingClock{Clock: clock.New()}
		d := newRunning(t, &presence.Options{Clock: jump})
		c := d.login(ann, "tab")
		time.Sleep(20 * time.Second)
		jump.ahead.Store(int64(5 * time.Minute)) // the process was stopped; heartbeats wait in buffers
		require.NoError(t, c.Heartbeat(), "the first thing heard afterwards")
		require.NotEqual(t, "offline", d.status(ann))
		time.Sleep(59 * time.Second)
		require.NotEqual(t, "offline", d.status(ann))
	})
}

// The first sign of life after a standstill ends the extension of the lease, so that
// the lease ends earlier than before. A heartbeat that was merely noted would not wake
// the tracker for it.
func TestSilenceAfterAStandstillIsNoticedInTime(t *testing.T) {
	for _, by := range []string{"handle", "name"} {
		synctest.Test(t, func(t *testing.T) {
			jump := &jumpingClock{Clock: clock.New()}
			policy := presence.DefaultPolicy()
			policy.Lease, policy.StartupGrace = 10*time.Minute, 20*time.Minute
			d := newRunning(t, &presence.Options{Policy: &policy, Clock: jump})
			var noticed atomic.Int64
			d.Observe(func(_ presence.Ref, o *presence.Output) {
				if o.Kind == presence.OutputTransition && o.Trigger == presence.CauseLost {
					noticed.Store(int64(o.Noticed))
				}
			})
			c := d.login(ann, "tab")
			jump.ahead.Store(int64(2 * time.Minute))
			require.NotZero(t, d.state(ann).SuspendedUntil, "the standstill has reached ann")
			time.Sleep(5 * time.Minute)
			require.Equal(t, presence.CauseIdle, d.state(ann).Current.Cause, "the next deadline is then the end of the extension")
			heard := presence.At(jump.Now())
			if by == "handle" {
				require.NoError(t, c.Heartbeat())
			} else {
				require.NoError(t, d.Heartbeat(ann, "tab"))
			}
			time.Sleep(30 * time.Minute)
			require.NotZero(t, noticed.Load(), by)
			late := presence.Instant(noticed.Load()).Sub(heard.Add(policy.Lease))
			require.Less(t, late, time.Minute, "%s: the grace follows the lease", by)
		})
	}
}

// Storage that hangs does not delay outputs of other subjects.
func TestMasksInTimeWhileStorageHangs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		storage := presencetest.NewFaultyStorage(inMemory(0))
		var told atomic.Int64 // when ann was reported as idle
		d := newRunning(t, &presence.Options{Storage: storage})
		d.Observe(func(ref presence.Ref, o *presence.Output) {
			if ref == ann && o.Trigger == presence.CauseIdle {
				told.Store(int64(presence.At(time.Now())))
			}
		})
		for i := range 10 {
			ref := presence.ID(fmt.Sprint("agent-", i))
			c, err := d.Connect(t.Context(), ref, presence.ConnectOptions{ID: "tab", Node: "n2"})
			require.NoError(t, err)
			_, err = d.SetClaim(t.Context(), presence.Agent(ref), ref, presence.Claim{Status: "busy", DropOnDisconnect: true})
			require.NoError(t, err)
			beat(t, c)
		}
		beat(t, d.login(ann, "tab"))
		idle := presence.At(time.Now()).Add(5 * time.Minute)
		time.Sleep(5*time.Minute - 20*time.Second)
		_, release := storage.Hold()
		defer release()
		// Fifteen seconds later their claims end, and ten records are behind.
		require.NoError(t, d.Apply(t.Context(), presence.Event{Kind: presence.EventNodeDown, Node: "n2"}))
		time.Sleep(2 * time.Minute)
		require.Equal(t, idle, presence.Instant(told.Load()))
	})
}

// A change that is held back is sent when it is due, though nothing else happens
// by then.
func TestHeldBackChangesGoOutByThemselves(t *testing.T) {
	for name, hold := range map[string]func(*presence.Policy){
		"publish": func(p *presence.Policy) { p.CoalesceSubject = 2 * time.Second },
		"batch":   func(p *presence.Policy) { p.CoalesceChannel = 2 * time.Second },
	} {
		t.Run(name, func(t *testing.T) { testHeldBackChanges(t, hold) })
	}
}

func testHeldBackChanges(t *testing.T, hold func(*presence.Policy)) {
	synctest.Test(t, func(t *testing.T) {
		policy := presence.DefaultPolicy()
		hold(&policy)
		d := newRunning(t, &presence.Options{Policy: &policy})
		c := d.login(ann, "tab")
		require.NoError(t, d.AddMember(t.Context(), sales, ann))
		w := d.watch(boss, sales)
		seen(t, w)
		time.Sleep(5 * time.Second)
		for _, status := range []string{"busy", "away", "busy", "away"} {
			_, err := c.Claim(t.Context(), presence.Claim{Status: status})
			require.NoError(t, err)
		}
		require.Equal(t, []string{"updated ann busy"}, seen(t, w))
		time.Sleep(2*time.Second - time.Millisecond)
		require.Empty(t, seen(t, w))
		time.Sleep(time.Millisecond)
		require.Equal(t, []string{"updated ann away"}, seen(t, w))
	})
}

// Each change of a list is sent when it is due.
func TestHeldBackAccessGoesOutByItself(t *testing.T) {
	crew := presence.ChannelID("crew")
	policy := presence.DefaultPolicy()
	policy.CoalesceSubject = 2 * time.Second
	for _, test := range []struct {
		name string
		do   func(*testing.T, *testTracker) error
		want string
	}{
		{"revoke", func(t *testing.T, d *testTracker) error { return d.RemoveMember(t.Context(), crew, ann) }, "left ann"},
		{"erase", func(t *testing.T, d *testTracker) error { return d.Erase(t.Context(), ann) }, "left ann"},
		{"link", func(t *testing.T, d *testTracker) error {
			return d.Link(t.Context(), sales, presence.ChannelID("nobody's"))
		}, "left ann"},
		{"policy", func(t *testing.T, d *testTracker) error {
			p := policy
			p.Statuses = append([]presence.Status{}, policy.Statuses...)
			p.Statuses[2].Label = "Occupied"
			return d.SetPolicy(t.Context(), admin, p)
		}, "updated ann busy"},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := newRunning(t, &presence.Options{Policy: &policy})
				c := d.login(ann, "tab")
				require.NoError(t, d.AddMember(t.Context(), crew, ann))
				require.NoError(t, d.Link(t.Context(), sales, crew))
				w := d.watch(boss, sales)
				seen(t, w)
				time.Sleep(5 * time.Second)
				_, err := c.Claim(t.Context(), presence.Claim{Status: "busy"})
				require.NoError(t, err)
				require.Equal(t, []string{"updated ann busy"}, seen(t, w))
				time.Sleep(1999 * time.Millisecond)
				require.NoError(t, test.do(t, d))
				time.Sleep(time.Millisecond)
				require.Equal(t, []string{test.want}, seen(t, w))
			})
		})
	}
}
