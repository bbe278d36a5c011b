package presence_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/presence-go/presence"
	"github.com/presence-go/presence/internal/seeds"
)

// Many goroutines do everything at once. When they are done, lists, reads and the
// frames of watches agree.
func TestEverythingAtOnce(t *testing.T) {
	for _, seed := range seeds.List(t, 3) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { everythingAtOnce(t, seed) })
	}
}

func everythingAtOnce(t *testing.T, seed uint64) {
	policy := presence.DefaultPolicy()
	policy.Grace = presence.Grace{}
	tracker, err := presence.New(&presence.Options{Policy: &policy})
	require.NoError(t, err)
	ran := make(chan error, 1)
	go func() { ran <- tracker.Run(t.Context()) }()
	t.Cleanup(func() {
		_ = tracker.Close()
		<-ran
	})
	ctx := t.Context()
	subject := func(i int) presence.Ref { return presence.ID(fmt.Sprintf("subject-%d", i)) }
	room := func(i int) presence.Channel { return presence.ChannelID(fmt.Sprintf("room-%d", i)) }
	const subjects, rooms = 12, 4
	var watches [rooms]*presence.Watch
	for i := range rooms {
		watches[i], err = tracker.Watch(ctx, boss, room(i), presence.WatchOptions{Audience: presence.AudienceTeam})
		require.NoError(t, err)
	}
	// These refusals are expected, because another goroutine was quicker.
	expected := func(err error) bool {
		for _, is := range []error{presence.ErrUnknown, presence.ErrStale, presence.ErrClosed, presence.ErrNotAllowed, presence.ErrLimit, presence.ErrDisabled} {
			if errors.Is(err, is) {
				return true
			}
		}
		return err == nil
	}
	var all sync.WaitGroup
	for g := range uint64(6) {
		rng := rand.New(rand.NewPCG(seed, g))
		all.Go(func() {
			var conns []*presence.Conn
			for range 400 {
				who, where := subject(rng.IntN(subjects)), room(rng.IntN(rooms))
				var err error
				switch rng.IntN(16) {
				case 0, 1, 2:
					var c *presence.Conn
					id := ""
					if rng.IntN(2) == 0 {
						id = fmt.Sprintf("tab-%d", rng.IntN(3))
					}
					if c, err = tracker.Connect(ctx, who, presence.ConnectOptions{ID: id}); err == nil {
						conns = append(conns, c)
					}
				case 3, 4, 5:
					if len(conns) > 0 {
						err = conns[rng.IntN(len(conns))].Heartbeat()
					}
				case 6:
					if len(conns) > 0 {
						err = conns[rng.IntN(len(conns))].Input()
					}
				case 7:
					if len(conns) > 0 {
						i := rng.IntN(len(conns))
						err = conns[i].Logout()
						conns = append(conns[:i], conns[i+1:]...)
					}
				case 8:
					err = tracker.Heartbeat(who, fmt.Sprintf("tab-%d", rng.IntN(3)))
				case 9, 10:
					err = tracker.AddMember(ctx, where, who)
				case 11:
					err = tracker.RemoveMember(ctx, where, who)
				case 12:
					_, err = tracker.SetClaim(ctx, presence.Agent(who), who, presence.Claim{Status: []string{"available", "away", "busy"}[rng.IntN(3)]})
				case 13:
					_, _, err = tracker.ListAs(ctx, presence.AudienceTeam, where, nil)
				case 14:
					if rng.IntN(20) == 0 {
						p := policy
						p.Lease = time.Duration(60+rng.IntN(60)) * time.Second
						err = tracker.SetPolicy(ctx, admin, p)
					}
				case 15:
					switch {
					case rng.IntN(30) == 0:
						err = tracker.Erase(ctx, subject(rng.IntN(2)))
					default:
						var w *presence.Watch
						if w, err = tracker.WatchSubject(ctx, boss, who, presence.WatchOptions{}); err == nil {
							_, err = w.Poll()
							_ = w.Close()
						}
					}
				}
				if !expected(err) {
					t.Errorf("goroutine %d: %v", g, err)
					return
				}
			}
		})
	}
	all.Wait()
	for i, w := range watches {
		told := map[presence.Ref]presence.View{}
		_, frames := read(t, w)
		for _, f := range frames {
			if f.Kind == presence.FrameSnapshot {
				clear(told)
			}
			for _, v := range f.Members {
				told[v.Subject] = v
			}
			for _, c := range f.Changes {
				if c.View == nil {
					delete(told, c.Subject)
				} else {
					told[c.Subject] = *c.View
				}
			}
		}
		views, _, err := tracker.ListAs(ctx, presence.AudienceTeam, room(i), nil)
		require.NoError(t, err)
		require.Len(t, told, len(views))
		members, err := tracker.Members(room(i))
		require.NoError(t, err)
		require.Len(t, members, len(views))
		for _, v := range views {
			require.Equal(t, v, told[v.Subject])
			got, err := tracker.GetAs(ctx, presence.AudienceTeam, v.Subject)
			require.NoError(t, err)
			require.Equal(t, v, got)
		}
	}
}
