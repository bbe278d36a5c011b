package presence_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/presence-go/presence"
)

// position is how far a watcher has read.
type position struct {
	epoch string
	seq   uint64
}

// read takes in all that a watch has to say and returns how far that is.
func read(t *testing.T, w *presence.Watch) (at position, frames []*presence.Frame) {
	t.Helper()
	for {
		f, err := w.Poll()
		require.NoError(t, err)
		if f == nil {
			return at, frames
		}
		at = position{f.Epoch, f.Seq}
		frames = append(frames, f)
	}
}

func (d desk) resume(actor presence.Actor, from position) *presence.Watch {
	d.t.Helper()
	w, err := d.Watch(d.t.Context(), actor, sales, presence.WatchOptions{Epoch: from.epoch, Seq: from.seq})
	require.NoError(d.t, err)
	return w
}

// diffs checks that an actor who comes back goes on with so many diffs.
func (d desk) diffs(actor presence.Actor, from position, want int) {
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

// snapshot checks that an actor who comes back begins anew.
func (d desk) snapshot(actor presence.Actor, from position) {
	d.t.Helper()
	w := d.resume(actor, from)
	_, frames := read(d.t, w)
	require.Len(d.t, frames, 1)
	require.Equal(d.t, presence.FrameSnapshot, frames[0].Kind)
	require.False(d.t, frames[0].Lagged)
	require.NoError(d.t, w.Close())
}

// resumed runs a test with ann, whom others watch, and what changes her.
func resumed(t *testing.T, opts *presence.Options, f func(t *testing.T, d desk, change func())) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t, opts)
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
	resumed(t, &presence.Options{ReplayFrames: 3}, func(t *testing.T, d desk, change func()) {
		stays := d.watch(visitor, sales) // and keeps the stream going
		from, _ := read(t, stays)
		d.diffs(visitor, from, 0)

		// What was missed comes as the frames that it was, and then what happens.
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

		// Too much was missed, or nothing that was ever said.
		change()
		d.snapshot(visitor, from)
		now, _ := read(t, stays)
		for _, nonsense := range []position{{now.epoch, now.seq + 1}, {now.epoch, 1<<64 - 1}, {now.epoch, 0}, {"", now.seq}, {"x", now.seq}} {
			d.snapshot(visitor, nonsense)
		}

		// Nothing is remembered for a stream that nobody watches.
		d.diffs(visitor, now, 0)
		require.NoError(t, stays.Close())
		require.NoError(t, w.Close())
		d.snapshot(visitor, now)
	})
}

func TestNothingIsRecalled(t *testing.T) {
	for name, opts := range map[string]*presence.Options{"recall": {ReplayFrames: -1}, "buffer": {WatchBuffer: 1}} {
		t.Run(name, func(t *testing.T) {
			resumed(t, opts, func(t *testing.T, d desk, change func()) {
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
	resumed(t, nil, func(t *testing.T, d desk, change func()) {
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

// The epochs that an audience sees do not tell who else watches.
func TestEpochsTellNothing(t *testing.T) {
	epoch := func(others ...presence.Actor) (epoch string) {
		resumed(t, nil, func(t *testing.T, d desk, _ func()) {
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
	resumed(t, nil, func(t *testing.T, d desk, _ func()) {
		seen := make(map[string]bool)
		next := func(d desk, channel presence.Channel) {
			w := d.watch(visitor, channel)
			at, _ := read(t, w)
			require.False(t, seen[at.epoch], at.epoch)
			seen[at.epoch] = true
			require.NoError(t, w.Close())
		}
		next(d, sales)
		next(d, sales) // at the same instant, in the same channel
		for range 3 {  // a channel that is forgotten whenever nobody watches it
			time.Sleep(time.Nanosecond)
			next(d, presence.ChannelID("nobody is here"))
		}
		again := newDesk(t, nil)
		require.NoError(t, again.AddMember(t.Context(), sales, ann))
		time.Sleep(time.Nanosecond)
		next(again, sales)
	})
}

// A policy that shows less shows less of what was missed, too.
func TestResumeAcrossAPolicy(t *testing.T) {
	resumed(t, nil, func(t *testing.T, d desk, change func()) {
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

// Whoever lost access and has it again does not learn what happened meanwhile,
// also where changes are held back so that the stream stands where it stood.
func TestResumeAcrossARevocation(t *testing.T) {
	for _, held := range []time.Duration{0, 10 * time.Second} {
		p := presence.DefaultPolicy()
		p.CoalesceSubject = held
		resumed(t, &presence.Options{Policy: &p}, func(t *testing.T, d desk, change func()) {
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
	resumed(t, opts, func(t *testing.T, d desk, change func()) {
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

// What only the subject itself is told is part of its stream as well.
func TestResumeAcrossWhatOneIsTold(t *testing.T) {
	resumed(t, nil, func(t *testing.T, d desk, change func()) {
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
