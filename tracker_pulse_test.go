package presence_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/presence-go/presence"
	"github.com/presence-go/presence/internal/seeds"
	"github.com/presence-go/presence/presencetest"
)

// A heartbeat or an input that is merely noted must end in the same state as one
// that is stepped through the machine.
func TestNotedReportsEqualStepped(t *testing.T) {
	for seed := range seeds.Range(t, 16) {
		rng := rand.New(rand.NewPCG(seed, 7))
		noted := newTracker(t, nil)
		mock := noted.clock
		m, err := presence.Compile(presence.DefaultPolicy())
		require.NoError(t, err)
		var stepped presence.State
		step := func(e presence.Event) error {
			e.Subject, e.Age = ann, presence.NoAge
			_, _, err := m.Step(&stepped, &e, presence.At(mock.Now()), nil)
			return err
		}
		conns := map[string]*presence.Conn{}
		for range 120 {
			mock.Add(time.Duration(rng.IntN(40)) * time.Second)
			if seed%2 == 0 { // not only whole ticks
				mock.Add(time.Duration(rng.IntN(3)) * 333 * time.Microsecond)
			}
			id := fmt.Sprintf("c%d", rng.IntN(1+int(seed/2)%2))
			c := conns[id]
			var got, want error
			switch what := rng.IntN(8); {
			case c == nil:
				conns[id], got = noted.Connect(t.Context(), ann, presence.ConnectOptions{ID: id})
				want = step(presence.Event{Kind: presence.EventConnect, Conn: id, Node: "local"})
			case what < 2:
				got = noted.Heartbeat(ann, id)
				want = step(presence.Event{Kind: presence.EventHeartbeat, Conn: id})
			case what < 5:
				got = c.Heartbeat()
				want = step(presence.Event{Kind: presence.EventHeartbeat, Conn: id, Epoch: c.Epoch()})
			case what < 7:
				got = c.Input()
				want = step(presence.Event{Kind: presence.EventInput, Conn: id, Epoch: c.Epoch()})
			default:
				_, got = noted.Sweep(t.Context())
			}
			if want != nil {
				require.ErrorContains(t, got, want.Error(), "seed %d", seed)
				delete(conns, id)
			} else {
				require.NoError(t, got, "seed %d", seed)
			}
			if rng.IntN(3) == 0 && stepped.Subject == ann {
				require.NoError(t, step(presence.Event{Kind: presence.EventTick}))
				s, err := noted.State(t.Context(), ann)
				require.NoError(t, err)
				require.Equal(t, stepped.Current, s.Current, "seed %d", seed)
				require.ElementsMatch(t, stepped.Conns, s.Conns, "seed %d", seed)
			}
		}
	}
}

// Input that is noted without a lock while something else is being stored counts.
func TestInputWhileStoring(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		storage := presencetest.NewFaultyStorage(inMemory(0))
		d := newRunning(t, &presence.Options{Storage: storage})
		c := d.login(ann, "tab")
		beat(t, c)
		time.Sleep(4*time.Minute + 50*time.Second)
		held, release := storage.Hold(presencetest.Save)
		done := make(chan error)
		go func() {
			done <- d.SetEndpoint(context.Background(), ann, presence.Endpoint{ID: "phone", Kind: presence.EndpointPush})
		}()
		<-held
		time.Sleep(time.Second)
		require.NoError(t, c.Input())
		time.Sleep(time.Second)
		release()
		require.NoError(t, <-done)
		time.Sleep(4 * time.Minute)
		require.Equal(t, "available", d.status(ann))
		time.Sleep(time.Minute)
		require.Equal(t, "away", d.status(ann))
	})
}
