package presence_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/benbjohnson/clock"
	"github.com/stretchr/testify/require"

	"github.com/presence-go/presence"
	"github.com/presence-go/presence/routing"
)

// spiedDesk is a tracker that notes what it gives the observer of a queue.
type spiedDesk struct {
	*presence.Tracker
	seen *[]string
}

func (d spiedDesk) Observe(f func(presence.Ref, *presence.Output)) (stop func()) {
	return d.Tracker.Observe(func(ref presence.Ref, o *presence.Output) {
		*d.seen = append(*d.seen, outputLine(ref, o))
		f(ref, o)
	})
}

func outputLine(ref presence.Ref, o *presence.Output) string {
	return fmt.Sprint(ref, " ", o.Kind, " ", o.ID, " ", o.Prev, " ", o.Presence.Status, " ", o.Noticed)
}

// H16: a queue and two observers made after the tracker get the same outputs in
// the same order, until stop is called.
func TestObserversGetTheSameInOrder(t *testing.T) {
	t.Parallel()
	const seed = 16
	t.Log("seed", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	mock := clock.NewMock()
	policy := presence.DefaultPolicy()
	policy.Work.Capacity = 2
	tracker, err := presence.New(&presence.Options{Policy: &policy, Clock: mock})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, tracker.Close()) })
	ctx := t.Context()
	ids := []string{"ann", "bob", "cyd"}
	for _, id := range ids {
		require.NoError(t, tracker.AddMember(ctx, presence.ChannelID("sales"), presence.ID(id)))
	}
	_, err = tracker.Connect(ctx, ann, presence.ConnectOptions{ID: "before"})
	require.NoError(t, err)

	var first, queued, last []string
	stopFirst := tracker.Observe(func(ref presence.Ref, o *presence.Output) { first = append(first, outputLine(ref, o)) })
	queue, err := routing.New(spiedDesk{tracker, &queued}, nil)
	require.NoError(t, err)
	stopLast := tracker.Observe(func(ref presence.Ref, o *presence.Output) { last = append(last, outputLine(ref, o)) })
	act := func(steps int) {
		for i := range steps {
			ref := presence.ID(ids[rnd.IntN(len(ids))])
			switch rnd.IntN(6) {
			case 0:
				_, err = tracker.Connect(ctx, ref, presence.ConnectOptions{ID: "tab", Login: true})
			case 1:
				err = tracker.Logout(ctx, ref)
			case 2:
				_, err = tracker.SetClaim(ctx, presence.Agent(ref), ref, presence.Claim{Status: []string{"available", "busy"}[rnd.IntN(2)]})
			case 3:
				_, err = queue.Add(ctx, routing.Work{ID: fmt.Sprint(steps, "-", i), Channel: presence.ChannelID("sales")})
			case 4:
				err = queue.Step(ctx)
			default:
				mock.Add(time.Duration(rnd.IntN(90)) * time.Second)
				_, err = tracker.Sweep(ctx)
			}
			if err != nil {
				require.ErrorIs(t, err, presence.ErrUnknown, "before a subject connects first")
			}
		}
	}
	act(150)
	require.Greater(t, len(first), 100)
	require.Equal(t, first, queued)
	require.Equal(t, first, last)

	stopFirst()
	stopFirst()
	before := len(first)
	act(50)
	require.Len(t, first, before, "it has been stopped")
	require.Greater(t, len(last), before)
	require.Equal(t, queued, last)

	stopLast()
	before = len(last)
	act(50)
	require.Len(t, last, before)
	require.Greater(t, len(queued), before, "the queue goes on")
}

// An observer that stops itself gets nothing after the output at hand, and the
// observers after it miss none.
func TestObserverStopsItself(t *testing.T) {
	t.Parallel()
	tracker, err := presence.New(nil)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, tracker.Close()) })
	var own, others []string
	var stop func()
	stop = tracker.Observe(func(ref presence.Ref, o *presence.Output) {
		own = append(own, outputLine(ref, o))
		stop()
	})
	tracker.Observe(func(ref presence.Ref, o *presence.Output) { others = append(others, outputLine(ref, o)) })
	for _, ref := range []presence.Ref{ann, bob} {
		_, err := tracker.Connect(t.Context(), ref, presence.ConnectOptions{Login: true})
		require.NoError(t, err)
	}
	require.Len(t, own, 1)
	require.Greater(t, len(others), 1)
	require.Equal(t, own[0], others[0])
}

// Observers come and go while subjects change.
func TestObserversComeAndGo(t *testing.T) {
	t.Parallel()
	tracker, err := presence.New(nil)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, tracker.Close()) })
	var mu sync.Mutex
	var all []string
	tracker.Observe(func(ref presence.Ref, _ *presence.Output) {
		mu.Lock()
		defer mu.Unlock()
		all = append(all, ref.ID)
	})
	var group sync.WaitGroup
	for i := range 4 {
		group.Go(func() {
			for n := range 50 {
				stop := tracker.Observe(func(presence.Ref, *presence.Output) {})
				_, err := tracker.Connect(context.Background(), presence.ID(fmt.Sprint(i, "-", n)), presence.ConnectOptions{Login: true})
				stop()
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
	slices.Sort(all)
	require.Len(t, slices.Compact(all), 200, "the first observer missed none")
}
