package presence_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/presence-go/presence"
	"github.com/presence-go/presence/preset"
)

// One goroutine reads every watch: Notify names the next one to read.
func TestOneGoroutineServesManyWatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newRunning(t, nil)
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
		// drain reads the watches that Notify named, and counts frames by watch.
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
		d := newRunning(t, nil)
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

// A watch that is suspended because the authorizer cannot answer
// announces by itself when it is worth asking again.
func TestSuspendedWatchAnnouncesItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var down atomic.Bool
		d := newRunning(t, &presence.Options{AuthorizeEvery: time.Minute, Authorizer: authorizerFunc(func() error {
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
		d := newRunning(t, &presence.Options{Authorizer: authorizerFunc(func() error { return answer }), AuthorizeEvery: time.Minute})
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

// slowAuthorizer takes as long as it may, once it hangs.
type slowAuthorizer struct{ hangs atomic.Bool }

func (a *slowAuthorizer) Allow(ctx context.Context, _ presence.Question) error {
	if a.hangs.Load() {
		<-ctx.Done()
		return context.Cause(ctx)
	}
	return nil
}

// An authorizer that hangs holds a caller up for 5 s at most, whatever the
// context, and not at all once the tracker is closed.
func TestAuthorizerThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := new(slowAuthorizer)
		d := newRunning(t, &presence.Options{Authorizer: a, AuthorizeEvery: time.Minute})
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

// A watcher with Notify never waits for the authorizer, and
// sees nothing until it has answered.
func TestPollDoesNotWaitForTheAuthorizer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		answer := make(chan error)
		var asks atomic.Bool
		d := newRunning(t, &presence.Options{AuthorizeEvery: time.Minute, Authorizer: authorizerFunc(func() error {
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

// lateAuthorizer agrees at once, or, when it is slow, a second after its context
// is done.
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
		require.LessOrEqual(t, runtime.NumGoroutine(), before) // those of other tests may end meanwhile
		_, err = w.Poll()
		require.ErrorIs(t, err, presence.ErrClosed)
	})
}

func TestX43SlowWatcherIsResyncedAndNobodyWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newRunning(t, &presence.Options{WatchBuffer: 4})
		require.NoError(t, d.AddMember(t.Context(), sales, ann))
		slow, quick := d.watch(visitor, sales), d.watch(visitor, sales)
		require.Equal(t, []string{"snapshot ann=offline"}, seen(t, slow))
		require.Equal(t, []string{"snapshot ann=offline"}, seen(t, quick))
		c := d.login(ann, "tab")
		beat(t, c)
		for i := range 6 {
			time.Sleep(10 * time.Second)
			_, err := c.Claim(t.Context(), presence.Claim{Status: []string{"busy", "away"}[i%2]})
			require.NoError(t, err)
			require.NotEmpty(t, seen(t, quick))
		}
		require.Equal(t, []string{"lagged ann=away"}, seen(t, slow))
		_, err := c.Claim(t.Context(), presence.Claim{Status: "busy"})
		require.NoError(t, err)
		require.Equal(t, []string{"updated ann busy"}, seen(t, slow))
	})
}

func TestSequenceHasNoGaps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newRunning(t, nil)
		require.NoError(t, d.AddMember(t.Context(), sales, ann))
		require.NoError(t, d.AddMember(t.Context(), sales, bob))
		w := d.watch(visitor, sales)
		f, err := w.Next(t.Context())
		require.NoError(t, err)
		seq, epoch := f.Seq, f.Epoch
		for _, ref := range []presence.Ref{ann, bob} {
			c := d.login(ref, "tab")
			_, err := c.Claim(t.Context(), presence.Claim{Status: "busy", Reason: "not for visitors"})
			require.NoError(t, err)
			_, err = c.Claim(t.Context(), presence.Claim{Status: "busy", Reason: "another that they do not see"})
			require.NoError(t, err)
			require.NoError(t, c.Logout())
		}
		frames := 0
		for f, err = w.Poll(); f != nil; f, err = w.Poll() {
			seq++
			require.Equal(t, seq, f.Seq)
			require.Equal(t, epoch, f.Epoch)
			frames++
		}
		require.NoError(t, err)
		require.Equal(t, 6, frames, "online, busy and gone, for each")
	})
}

func TestHiddenSubjectLeavesLikeOneWhoLogsOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		policy := preset.TawkTo()
		d := newRunning(t, &presence.Options{Policy: &policy})
		require.NoError(t, d.AddMember(t.Context(), sales, ann))
		require.NoError(t, d.AddMember(t.Context(), sales, bob))
		c, other := d.login(ann, "tab"), d.login(bob, "tab")
		beat(t, c)
		w, team := d.watch(visitor, sales), d.watch(presence.Agent(bob), sales)
		seen(t, w)
		seen(t, team)
		_, err := c.Claim(t.Context(), presence.Claim{Status: "invisible"})
		require.NoError(t, err)
		require.Equal(t, []string{"left ann offline"}, seen(t, w))
		require.NoError(t, other.Logout())
		require.Equal(t, []string{"left bob offline"}, seen(t, w))
		require.Equal(t, []string{"updated ann invisible", "left bob offline"}, seen(t, team))
		may, err := d.MayReveal(t.Context(), presence.AudienceVisitor, ann)
		require.NoError(t, err)
		require.False(t, may)
	})
}

func TestX42AuthorizerIsAskedAgainAndFailsClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var answer error
		d := newRunning(t, &presence.Options{Authorizer: authorizerFunc(func() error { return answer }), AuthorizeEvery: 5 * time.Minute})
		require.NoError(t, d.AddMember(t.Context(), sales, ann))
		c := d.login(ann, "tab")
		beat(t, c)
		w, other := d.watch(visitor, sales), d.watch(visitor, sales)
		require.Len(t, seen(t, w), 1)
		require.Len(t, seen(t, other), 1)
		change := func(status string) {
			_, err := d.SetClaim(t.Context(), presence.Agent(ann), ann, presence.Claim{Status: status})
			require.NoError(t, err)
		}

		change("busy")
		answer = errors.New("the directory is down")
		_, err := d.Watch(t.Context(), visitor, sales, presence.WatchOptions{})
		require.ErrorIs(t, err, presence.ErrUnavailable)
		time.Sleep(15*time.Minute - time.Second)
		require.Equal(t, []string{"updated ann busy"}, seen(t, w), "who watches already goes on for a while")
		answer = nil
		change("away")
		answer = errors.New("the directory is down")
		time.Sleep(time.Minute)
		require.Empty(t, seen(t, w), "and then sees nothing")
		answer = nil
		time.Sleep(5 * time.Second)
		require.Equal(t, []string{"snapshot ann=away"}, seen(t, w))

		answer = fmt.Errorf("no longer: %w", presence.ErrNotAllowed)
		time.Sleep(5 * time.Minute)
		require.NoError(t, c.Logout())
		require.Equal(t, []string{"removed", "ended"}, seen(t, w))
	})
}

func watchAs(d *testTracker, actor presence.Actor, a presence.Audience) error {
	_, err := d.Watch(d.t.Context(), actor, sales, presence.WatchOptions{Audience: a})
	return err
}

func (d *testTracker) resume(actor presence.Actor, from position) *presence.Watch {
	d.t.Helper()
	w, err := d.Watch(d.t.Context(), actor, sales, presence.WatchOptions{Epoch: from.epoch, Seq: from.seq})
	require.NoError(d.t, err)
	return w
}

// diffs checks that an actor who resumes gets so many diffs.
func (d *testTracker) diffs(actor presence.Actor, from position, want int) {
	d.t.Helper()
	w := d.resume(actor, from)
	_, frames := read(d.t, w)
	require.Len(d.t, frames, want)
	for i, f := range frames {
		require.Equal(d.t, presence.FrameDiff, f.Kind)
		require.Equal(d.t, position{from.epoch, from.seq + uint64(i) + 1}, position{f.Epoch, f.Seq})
	}
	require.NoError(d.t, w.Close())
}

// snapshot checks that an actor who resumes gets a snapshot.
func (d *testTracker) snapshot(actor presence.Actor, from position) {
	d.t.Helper()
	w := d.resume(actor, from)
	_, frames := read(d.t, w)
	require.Len(d.t, frames, 1)
	require.Equal(d.t, presence.FrameSnapshot, frames[0].Kind)
	require.False(d.t, frames[0].Lagged)
	require.NoError(d.t, w.Close())
}

// resumed runs a test with ann, whom others watch, and what changes her.
func resumed(t *testing.T, opts *presence.Options, f func(t *testing.T, d *testTracker, change func())) {
	synctest.Test(t, func(t *testing.T) {
		d := newRunning(t, opts)
		for _, ref := range []presence.Ref{ann, bob} {
			require.NoError(t, d.AddMember(t.Context(), sales, ref))
		}
		c := d.login(ann, "tab")
		n := 0
		f(t, d, func() {
			t.Helper()
			n++
			_, err := c.Claim(t.Context(), presence.Claim{Status: []string{"available", "busy"}[n%2]})
			require.NoError(t, err)
		})
	})
}

func TestWatcherComesBack(t *testing.T) {
	resumed(t, &presence.Options{ReplayFrames: 3}, func(t *testing.T, d *testTracker, change func()) {
		stays := d.watch(visitor, sales) // and keeps the stream going
		from, _ := read(t, stays)
		d.diffs(visitor, from, 0)

		// The watcher gets the frames that it missed, and then the next ones.
		change()
		change()
		_, want := read(t, stays)
		w := d.resume(visitor, from)
		at, frames := read(t, w)
		require.Equal(t, want, frames)
		change()
		_, frames = read(t, w)
		require.Equal(t, presence.FrameDiff, frames[0].Kind)
		require.Equal(t, at.seq+1, frames[0].Seq)
		d.diffs(visitor, from, 3)

		// Too much was missed, or the position is none of the stream.
		change()
		d.snapshot(visitor, from)
		now, _ := read(t, stays)
		for _, nonsense := range []position{{now.epoch, now.seq + 1}, {now.epoch, 1<<64 - 1}, {now.epoch, 0}, {"", now.seq}, {"x", now.seq}} {
			d.snapshot(visitor, nonsense)
		}

		// Nothing is kept of a stream without a watcher.
		d.diffs(visitor, now, 0)
		require.NoError(t, stays.Close())
		require.NoError(t, w.Close())
		d.snapshot(visitor, now)
	})
}

func TestNothingIsRecalled(t *testing.T) {
	for name, opts := range map[string]*presence.Options{"recall": {ReplayFrames: -1}, "buffer": {WatchBuffer: 1}} {
		t.Run(name, func(t *testing.T) {
			resumed(t, opts, func(t *testing.T, d *testTracker, change func()) {
				from, _ := read(t, d.watch(visitor, sales))
				d.diffs(visitor, from, 0)
				change()
				change()
				d.snapshot(visitor, from)
			})
		})
	}
}

// A place in one audience's stream is none in another's, whatever the numbers.
func TestNoStreamIsResumedForAnotherAudience(t *testing.T) {
	resumed(t, nil, func(t *testing.T, d *testTracker, change func()) {
		actors := []presence.Actor{visitor, boss, admin, presence.Agent(ann)}
		var at []position
		for _, a := range actors {
			p, _ := read(t, d.watch(a, sales))
			at = append(at, p)
		}
		change()
		for i, a := range actors {
			for j, from := range at {
				if i == j {
					d.diffs(a, from, 1)
				} else {
					d.snapshot(a, from)
				}
			}
		}

		// The audience self is another one for each viewer.
		self := func(a presence.Actor, from position) (position, []*presence.Frame) {
			w, err := d.Watch(t.Context(), a, sales, presence.WatchOptions{Audience: presence.AudienceSelf, Epoch: from.epoch, Seq: from.seq})
			require.NoError(t, err)
			return read(t, w)
		}
		anns, _ := self(presence.Agent(ann), position{})
		_, frames := self(presence.Agent(ann), anns)
		require.Empty(t, frames)
		bobs, frames := self(presence.Agent(bob), anns)
		require.Equal(t, presence.FrameSnapshot, frames[0].Kind)
		require.NotEqual(t, anns.epoch, bobs.epoch)
	})
}

// The epochs that an audience sees do not depend on other watchers.
func TestEpochsTellNothing(t *testing.T) {
	epoch := func(others ...presence.Actor) (epoch string) {
		resumed(t, nil, func(t *testing.T, d *testTracker, _ func()) {
			for _, a := range others {
				d.watch(a, sales)
			}
			at, _ := read(t, d.watch(visitor, sales))
			epoch = at.epoch
		})
		return epoch
	}
	require.Equal(t, epoch(), epoch(boss, presence.Agent(ann), presence.Agent(bob)))
}

func TestEpochsAreNeverUsedAgain(t *testing.T) {
	resumed(t, nil, func(t *testing.T, d *testTracker, _ func()) {
		seen := make(map[string]bool)
		next := func(d *testTracker, channel presence.Channel) {
			w := d.watch(visitor, channel)
			at, _ := read(t, w)
			require.False(t, seen[at.epoch], at.epoch)
			seen[at.epoch] = true
			require.NoError(t, w.Close())
		}
		next(d, sales)
		next(d, sales) // at the same instant, in the same channel
		for range 3 {  // a channel that is forgotten without a watcher
			time.Sleep(time.Nanosecond)
			next(d, presence.ChannelID("nobody is here"))
		}
		again := newRunning(t, nil)
		require.NoError(t, again.AddMember(t.Context(), sales, ann))
		time.Sleep(time.Nanosecond)
		next(again, sales)
	})
}

// A policy that shows less shows less of what was missed, too.
func TestResumeAcrossAPolicy(t *testing.T) {
	resumed(t, nil, func(t *testing.T, d *testTracker, change func()) {
		stays := d.watch(visitor, sales)
		from, _ := read(t, stays)
		change()
		d.diffs(visitor, from, 1)
		p := presence.DefaultPolicy()
		p.Views = map[presence.Audience][]string{presence.AudienceVisitor: {}}
		require.NoError(t, d.SetPolicy(t.Context(), admin, p))
		d.snapshot(visitor, from)
		change()
		now, _ := read(t, stays)
		change()
		d.diffs(visitor, now, 1)
	})
}

// A watcher that lost access and has it again does not learn what happened meanwhile,
// also where changes are held back so that the stream stands where it stood.
func TestResumeAcrossARevocation(t *testing.T) {
	for _, held := range []time.Duration{0, 10 * time.Second} {
		p := presence.DefaultPolicy()
		p.CoalesceSubject = held
		resumed(t, &presence.Options{Policy: &p}, func(t *testing.T, d *testTracker, change func()) {
			pass := func() {
				time.Sleep(held)
				_, err := d.Sweep(t.Context())
				require.NoError(t, err)
			}
			stays := d.watch(presence.Agent(ann), sales)
			change()
			d.login(bob, "tab")
			from, _ := read(t, d.watch(presence.Agent(bob), sales))
			d.diffs(presence.Agent(bob), from, 0)
			require.NoError(t, d.RemoveMember(t.Context(), sales, bob))
			change()
			require.NoError(t, d.AddMember(t.Context(), sales, bob))
			d.snapshot(presence.Agent(bob), from)

			pass()
			now, _ := read(t, stays)
			change()
			pass()
			d.diffs(presence.Agent(bob), now, 1)
		})
	}
}

func TestResumeAcrossARefusal(t *testing.T) {
	var answer error
	opts := &presence.Options{Authorizer: authorizerFunc(func() error { return answer }), AuthorizeEvery: time.Minute}
	resumed(t, opts, func(t *testing.T, d *testTracker, change func()) {
		from, _ := read(t, d.watch(visitor, sales))
		w := d.watch(visitor, sales)
		_, _ = read(t, w)
		change()
		time.Sleep(time.Minute)
		answer = fmt.Errorf("%w: not now", presence.ErrNotAllowed)
		f, err := w.Poll()
		require.NoError(t, err)
		require.Equal(t, presence.FrameRemoved, f.Kind)
		answer = nil
		d.snapshot(visitor, from)
	})
}

// A frame for the subject itself is part of its stream as well.
func TestResumeAcrossWhatOneIsTold(t *testing.T) {
	resumed(t, nil, func(t *testing.T, d *testTracker, change func()) {
		open := func(from position) *presence.Watch {
			w, err := d.Watch(t.Context(), presence.Agent(ann), sales, presence.WatchOptions{Audience: presence.AudienceSelf, Epoch: from.epoch, Seq: from.seq})
			require.NoError(t, err)
			return w
		}
		stays := open(position{})
		change()
		from, _ := read(t, stays)
		require.NoError(t, d.Apply(t.Context(), presence.Event{Kind: presence.EventChallenge, Subject: ann}))
		change()
		_, missed := read(t, stays)
		require.Len(t, missed, 2)
		_, frames := read(t, open(from))
		require.Equal(t, missed, frames)
	})
}

// No actor can watch a channel whose id is invalid, and no watch of it counts.
func TestWatchOfAnInvalidChannel(t *testing.T) {
	d := newTracker(t, nil)
	for _, channel := range []presence.Channel{
		{}, {Tenant: "acme"}, presence.ChannelID("a\x00"), presence.ChannelID("a\xff"), {Tenant: "a\n", ID: "desk"},
		presence.ChannelID(strings.Repeat("x", presence.MaxID+1)),
	} {
		for _, actor := range []presence.Actor{boss, presence.Admin(peter), presence.Visitor(peter), presence.System(peter)} {
			w, err := d.Watch(t.Context(), actor, channel, presence.WatchOptions{})
			require.ErrorIs(t, err, presence.ErrInvalid, "%q for %s", channel, actor)
			require.Nil(t, w)
		}
	}
	require.Zero(t, d.Stats().Watches)
}

// Poll returns the frames, then nil while no frame is ready, and in the end the reason
// why the watch has ended, at every call.
func TestPollSaysWhyTheWatchEnded(t *testing.T) {
	d := newTracker(t, nil)
	require.NoError(t, d.AddMember(t.Context(), sales, ann))
	closed, removed := d.watch(boss, sales), d.watch(presence.Agent(ann), sales)
	for _, w := range []*presence.Watch{closed, removed} {
		f, err := w.Poll()
		require.NoError(t, err)
		require.Equal(t, presence.FrameSnapshot, f.Kind)
		f, err = w.Poll()
		require.NoError(t, err)
		require.Nil(t, f)
	}
	require.NoError(t, closed.Close())
	require.NoError(t, d.RemoveMember(t.Context(), sales, ann))
	f, err := removed.Poll()
	require.NoError(t, err)
	require.Equal(t, presence.FrameRemoved, f.Kind)
	for range 2 {
		for w, want := range map[*presence.Watch]error{closed: presence.ErrClosed, removed: presence.ErrNotAllowed} {
			f, err := w.Poll()
			require.ErrorIs(t, err, want)
			require.Nil(t, f)
		}
	}
}
