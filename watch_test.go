package presence_test

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/presence-go/presence"
)

// One goroutine reads every watch: it is told which of them to look at.
func TestOneGoroutineServesManyWatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t, nil)
		const channels = 5
		ready := make(chan int, 100)
		var watches []*presence.Watch
		for i := range channels {
			channel := presence.ChannelID("channel-" + string(rune('a'+i)))
			require.NoError(t, d.AddMember(t.Context(), channel, ann))
			w, err := d.Watch(t.Context(), boss, channel, presence.WatchOptions{Notify: func() { ready <- i }})
			require.NoError(t, err)
			watches = append(watches, w)
		}
		// drain reads what its callers have been told of, and counts frames by watch.
		drain := func() (frames, calls [channels]int, ended int) {
			for {
				synctest.Wait()
				var i int
				select {
				case i = <-ready:
				default:
					return frames, calls, ended
				}
				calls[i]++
				for {
					f, err := watches[i].Poll()
					if err != nil {
						require.ErrorIs(t, err, presence.ErrClosed)
						ended++
						break
					}
					if f == nil {
						break
					}
					frames[i]++
				}
			}
		}
		frames, _, _ := drain()
		require.Equal(t, [channels]int{1, 1, 1, 1, 1}, frames, "the first snapshot is announced")

		c := d.login(ann, "tab")
		frames, calls, _ := drain()
		require.Equal(t, [channels]int{1, 1, 1, 1, 1}, frames)
		require.Equal(t, [channels]int{1, 1, 1, 1, 1}, calls)

		require.NoError(t, c.Logout())
		synctest.Wait()
		d.login(ann, "tab")
		frames, calls, _ = drain()
		require.Equal(t, [channels]int{2, 2, 2, 2, 2}, frames, "nothing is lost")
		require.Equal(t, [channels]int{2, 2, 2, 2, 2}, calls)

		frames, calls, _ = drain()
		require.Zero(t, frames)
		require.Zero(t, calls, "nobody is called where nothing happened")

		require.NoError(t, watches[0].Close())
		_, calls, ended := drain()
		require.Equal(t, 1, ended)
		require.Equal(t, [channels]int{1}, calls, "the end is announced")
	})
}

// The function is called with no lock held: it may use the tracker and the watch.
func TestNotifyMayUseTheTracker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t, nil)
		require.NoError(t, d.AddMember(t.Context(), sales, ann))
		var w *presence.Watch
		opened := make(chan struct{})
		got := make(chan string, 10)
		w, err := d.Watch(t.Context(), boss, sales, presence.WatchOptions{Notify: func() {
			<-opened
			for f, err := w.Poll(); f != nil && err == nil; f, err = w.Poll() {
				view, err := d.GetAs(context.Background(), presence.AudienceTeam, ann)
				if err != nil {
					view.Status = err.Error()
				}
				got <- view.Status
			}
		}})
		require.NoError(t, err)
		close(opened)
		require.Equal(t, "offline", <-got)
		d.login(ann, "tab")
		require.Equal(t, "available", <-got)
	})
}

// A watch that is suspended because nobody can say whether it may go on
// announces by itself when it is worth asking again.
func TestSuspendedWatchAnnouncesItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var down atomic.Bool
		d := newDesk(t, &presence.Options{AuthorizeEvery: time.Minute, Authorizer: authorizerFunc(func() error {
			if down.Load() {
				return errors.New("the directory is down")
			}
			return nil
		})})
		require.NoError(t, d.AddMember(t.Context(), sales, ann))
		frames := make(chan *presence.Frame, 10)
		ready := make(chan struct{}, 1)
		w, err := d.Watch(t.Context(), boss, sales, presence.WatchOptions{Notify: func() { ready <- struct{}{} }})
		require.NoError(t, err)
		go func() {
			for range ready {
				for f, err := w.Poll(); f != nil && err == nil; f, err = w.Poll() {
					frames <- f
				}
			}
		}()
		t.Cleanup(func() {
			_ = w.Close()
			synctest.Wait()
			close(ready)
		})
		require.Equal(t, presence.FrameSnapshot, (<-frames).Kind)
		down.Store(true)
		time.Sleep(4 * time.Minute)
		d.login(ann, "tab")
		synctest.Wait()
		require.Empty(t, frames, "nothing is shown while it cannot be told whether it may be")
		down.Store(false)
		f := <-frames // although nothing happens any more
		require.Equal(t, presence.FrameSnapshot, f.Kind)
		require.Equal(t, "available", f.Members[0].Status)
	})
}

// A change that is held back goes out when its time has come, though nothing
// else happens by then.
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
		d := newDesk(t, &presence.Options{Policy: &policy})
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

// Somebody nobody has heard of is refused like anybody without a grant.
func TestStrangersAreRefused(t *testing.T) {
	for range 8 { // wherever names come to lie
		tracker, err := presence.New(nil)
		require.NoError(t, err)
		require.NoError(t, tracker.AddMember(t.Context(), sales, ann))
		_, err = tracker.Watch(t.Context(), presence.Agent(presence.ID("stranger")), sales, presence.WatchOptions{})
		require.ErrorIs(t, err, presence.ErrNotAllowed)
		require.ErrorIs(t, tracker.Join(t.Context(), presence.Agent(presence.ID("stranger")), sales), presence.ErrNotAllowed)
		require.NoError(t, tracker.Close())
	}
}

// A watch that is being opened while the tracker is closed does not outlive it.
func TestWatchWhileClosing(t *testing.T) {
	t.Parallel()
	for name, watch := range map[string]func(*presence.Tracker) error{
		"channel": func(tracker *presence.Tracker) error {
			_, err := tracker.Watch(t.Context(), boss, sales, presence.WatchOptions{})
			return err
		},
		"subject": func(tracker *presence.Tracker) error {
			_, err := tracker.WatchSubject(t.Context(), boss, ann, presence.WatchOptions{})
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var tracker *presence.Tracker
			tracker, err := presence.New(&presence.Options{Authorizer: authorizerFunc(func() error { return tracker.Close() })})
			require.NoError(t, err)
			_, err = tracker.Connect(t.Context(), ann, presence.ConnectOptions{})
			require.NoError(t, err)
			require.ErrorIs(t, watch(tracker), presence.ErrClosed)
		})
	}
}

// A watch that is suspended ends when it is closed, and not when it would have
// been asked about again.
func TestSuspendedWatchEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var answer error
		d := newDesk(t, &presence.Options{Authorizer: authorizerFunc(func() error { return answer }), AuthorizeEvery: time.Minute})
		require.NoError(t, d.AddMember(t.Context(), sales, ann))
		w := d.watch(boss, sales)
		require.Equal(t, []string{"snapshot ann=offline"}, seen(t, w))
		answer = errors.New("the directory is down")
		time.Sleep(4 * time.Minute)
		d.login(ann, "tab")
		ended := make(chan error, 1)
		go func() {
			_, err := w.Next(context.Background())
			ended <- err
		}()
		synctest.Wait()
		require.Empty(t, ended)
		require.NoError(t, w.Close())
		synctest.Wait()
		require.Len(t, ended, 1)
		require.ErrorIs(t, <-ended, presence.ErrClosed)
	})
}

// Whatever changes a list goes out when its time has come.
func TestHeldBackAccessGoesOutByItself(t *testing.T) {
	crew := presence.ChannelID("crew")
	policy := presence.DefaultPolicy()
	policy.CoalesceSubject = 2 * time.Second
	for _, test := range []struct {
		name string
		do   func(*testing.T, desk) error
		want string
	}{
		{"revoke", func(t *testing.T, d desk) error { return d.RemoveMember(t.Context(), crew, ann) }, "left ann"},
		{"erase", func(t *testing.T, d desk) error { return d.Erase(t.Context(), ann) }, "left ann"},
		{"link", func(t *testing.T, d desk) error { return d.Link(t.Context(), sales, presence.ChannelID("nobody's")) }, "left ann"},
		{"policy", func(t *testing.T, d desk) error {
			p := policy
			p.Statuses = append([]presence.Status{}, policy.Statuses...)
			p.Statuses[2].Label = "Occupied"
			return d.SetPolicy(t.Context(), admin, p)
		}, "updated ann busy"},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := newDesk(t, &presence.Options{Policy: &policy})
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

// slowAuthorizer takes as long as it may, once it hangs.
type slowAuthorizer struct{ hangs atomic.Bool }

func (a *slowAuthorizer) Allow(ctx context.Context, _ presence.Question) error {
	if a.hangs.Load() {
		<-ctx.Done()
		return context.Cause(ctx)
	}
	return nil
}

// An authorizer that hangs holds nobody up for good, whatever the caller's
// context, and nobody at all once the tracker is closed.
func TestAuthorizerThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := new(slowAuthorizer)
		d := newDesk(t, &presence.Options{Authorizer: a, AuthorizeEvery: time.Minute})
		require.NoError(t, d.AddMember(t.Context(), sales, ann))
		w := d.watch(boss, sales)
		require.Equal(t, []string{"snapshot ann=offline"}, seen(t, w))
		a.hangs.Store(true)
		before := time.Now()
		_, err := d.Watch(context.Background(), boss, sales, presence.WatchOptions{})
		require.ErrorIs(t, err, presence.ErrUnavailable)
		require.Equal(t, 5*time.Second, time.Since(before))

		time.Sleep(10 * time.Minute)
		d.login(ann, "tab")
		f, err := w.Poll()
		require.NoError(t, err)
		require.Nil(t, f, "nothing is shown while it cannot be told whether it may be")
		time.Sleep(time.Minute)
		before = time.Now()
		go func() {
			time.Sleep(time.Second)
			_ = d.Close()
		}()
		_, err = w.Poll()
		require.NoError(t, err)
		require.Equal(t, time.Second, time.Since(before))
		synctest.Wait()
		_, err = w.Poll()
		require.ErrorIs(t, err, presence.ErrClosed)
	})
}

// Who is told when there is something to read never waits for the authorizer, and
// sees nothing until it has answered.
func TestPollDoesNotWaitForTheAuthorizer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		answer := make(chan error)
		var asks atomic.Bool
		d := newDesk(t, &presence.Options{AuthorizeEvery: time.Minute, Authorizer: authorizerFunc(func() error {
			if asks.Load() {
				return <-answer
			}
			return nil
		})})
		require.NoError(t, d.AddMember(t.Context(), sales, ann))
		var told atomic.Int32
		w, err := d.Watch(t.Context(), boss, sales, presence.WatchOptions{Notify: func() { told.Add(1) }})
		require.NoError(t, err)
		poll := func() *presence.Frame {
			synctest.Wait()
			f, err := w.Poll()
			require.NoError(t, err)
			return f
		}
		require.Equal(t, presence.FrameSnapshot, poll().Kind)
		time.Sleep(2 * time.Minute)
		d.login(ann, "tab")
		asks.Store(true)
		require.Nil(t, poll())
		require.Nil(t, poll())
		before := told.Load()
		answer <- nil
		asks.Store(false)
		synctest.Wait()
		require.Greater(t, told.Load(), before)
		require.Equal(t, presence.FrameDiff, poll().Kind)

		time.Sleep(2 * time.Minute)
		asks.Store(true)
		d.login(bob, "tab")
		require.NoError(t, d.AddMember(t.Context(), sales, bob))
		require.Nil(t, poll())
		require.NoError(t, w.Close())
		_, err = w.Poll()
		require.ErrorIs(t, err, presence.ErrClosed, "however long the answer takes")
		answer <- nil
	})
}

// lateAuthorizer agrees at once, or, when it is slow, a second after nobody waits
// for its answer any more.
type lateAuthorizer struct {
	slow  atomic.Bool
	asked atomic.Int64 // calls under way
}

func (s *lateAuthorizer) Allow(ctx context.Context, _ presence.Question) error {
	s.asked.Add(1)
	defer s.asked.Add(-1)
	if s.slow.Load() {
		<-ctx.Done()
		time.Sleep(time.Second)
	}
	return context.Cause(ctx)
}

// No goroutine of the tracker outlives Close: neither one that asks the authorizer
// nor one that calls Notify.
func TestCloseWaitsForGoroutines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		before := runtime.NumGoroutine()
		authorizer := new(lateAuthorizer)
		tracker, err := presence.New(&presence.Options{Authorizer: authorizer, AuthorizeEvery: time.Minute})
		require.NoError(t, err)
		var calls, notifying atomic.Int64
		notify := func() {
			calls.Add(1)
			notifying.Add(1)
			defer notifying.Add(-1)
			time.Sleep(time.Second)
		}
		w, err := tracker.Watch(t.Context(), boss, sales, presence.WatchOptions{Notify: notify})
		require.NoError(t, err)
		f, err := w.Poll()
		require.NoError(t, err)
		require.Equal(t, presence.FrameSnapshot, f.Kind)
		require.NoError(t, tracker.AddMember(t.Context(), sales, ann))
		_, err = tracker.Connect(t.Context(), ann, presence.ConnectOptions{Login: true})
		require.NoError(t, err)
		time.Sleep(2 * time.Minute)
		authorizer.slow.Store(true)
		f, err = w.Poll()
		require.NoError(t, err)
		require.Nil(t, f, "the authorizer is asked meanwhile")
		synctest.Wait()
		require.Equal(t, int64(1), authorizer.asked.Load())
		told := calls.Load()

		require.NoError(t, tracker.Close())
		require.Zero(t, authorizer.asked.Load())
		require.Zero(t, notifying.Load())
		require.Greater(t, calls.Load(), told, "the end is announced")
		synctest.Wait()
		require.Equal(t, before, runtime.NumGoroutine())
		_, err = w.Poll()
		require.ErrorIs(t, err, presence.ErrClosed)
	})
}

// What is asked of a channel that is just being given up is asked of the next.
func TestChannelsAreGivenUpWhileUsed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t, nil)
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
