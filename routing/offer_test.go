package routing_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/presence-go/presence"
	"github.com/presence-go/presence/preset"
	"github.com/presence-go/presence/routing"
)

// running runs the queue until the test ends.
func (h *house) running(t *testing.T) {
	t.Helper()
	run, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- h.queue.Run(run) }()
	t.Cleanup(func() {
		stop()
		require.ErrorIs(t, <-ended, context.Canceled)
	})
}

// Fault Queue.Decline: Run passes an offer on at the instant at which its time ends,
// although nothing else happens then.
func TestRunPassesOffersOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, chats(func(w *presence.WorkRule) { w.AcceptWithin = 10 * time.Second }), routing.Options{})
		h.employ(t, ann, "online")
		h.employ(t, bob, "online")
		h.running(t)
		began := presence.At(time.Now())
		require.Equal(t, "ann", h.add(t, "w1").Agent.ID)
		at, due := h.queue.Next()
		require.True(t, due)
		require.Equal(t, began.Add(10*time.Second), at)
		time.Sleep(10*time.Second - 1)
		synctest.Wait()
		require.Equal(t, "ann", h.place(t, "w1"))
		time.Sleep(1 * time.Nanosecond)
		synctest.Wait()
		w, _ := h.queue.Get("w1")
		require.Equal(t, bob, w.Agent)
		require.Equal(t, began.Add(10*time.Second), w.Since)
		require.Zero(t, h.load(t, ann))
		time.Sleep(10 * time.Second)
		synctest.Wait()
		require.Equal(t, "queued", h.place(t, "w1"), "no agent takes it up")
		_, due = h.queue.Next()
		require.False(t, due)

		// Of two offers each has its time. What is started has none.
		h.add(t, "w2")
		time.Sleep(4 * time.Second)
		h.add(t, "w3")
		_, err := h.queue.Start("w2")
		require.NoError(t, err)
		at, _ = h.queue.Next()
		require.Equal(t, presence.At(time.Now()).Add(10*time.Second), at)
		_, err = h.queue.Start("w3")
		require.NoError(t, err)
		_, due = h.queue.Next()
		require.False(t, due)
	})
}

// An agent that did not take work up is asked again once what it receives has
// changed, and not before. A late answer to an offer is stale.
func TestDecline(t *testing.T) {
	h := newHouse(t, chats(func(w *presence.WorkRule) { w.Affinity = time.Hour }), routing.Options{})
	h.employ(t, ann, "online")
	_, err := h.queue.Add(t.Context(), routing.Work{ID: "w1", Channel: desk, Client: "kim", To: ann})
	require.NoError(t, err)
	decline := func(id string, agent presence.Ref) error {
		_, err := h.queue.Decline(t.Context(), id, agent)
		return err
	}
	require.NoError(t, decline("w1", ann))
	require.Equal(t, "queued", h.place(t, "w1"), "not even as the agent that it is meant for")
	require.Zero(t, h.load(t, ann))
	require.ErrorIs(t, decline("w1", ann), presence.ErrStale)
	require.ErrorIs(t, decline("none", ann), presence.ErrUnknown)
	require.Equal(t, "ann", h.add(t, "w2").Agent.ID, "other work reaches it")
	require.Equal(t, "queued", h.place(t, "w1"))
	h.claim(t, presence.Agent(ann), ann, "busy")
	h.claim(t, presence.Agent(ann), ann, "online")
	h.step(t)
	require.Equal(t, "ann", h.place(t, "w1"))

	h.employ(t, bob, "online")
	require.NoError(t, decline("w2", ann), "without acceptWithin too, unless it was started")
	require.Equal(t, "bob", h.place(t, "w2"))
	require.ErrorIs(t, decline("w2", ann), presence.ErrStale, "another agent has it by now")
	_, err = h.queue.Start("w2")
	require.NoError(t, err)
	require.ErrorIs(t, decline("w2", bob), presence.ErrInvalid)
	_, err = h.queue.Assign(t.Context(), boss, "w2", ann)
	require.NoError(t, err)
	require.ErrorIs(t, decline("w2", ann), presence.ErrInvalid, "an assignment is no offer")
	h.finish(t, "w2")
	require.ErrorIs(t, decline("w2", ann), presence.ErrStale)
}

// Work that was started or is opened again may be offered to an agent that declined
// it before.
func TestDeclinedBefore(t *testing.T) {
	sales := presence.ChannelID("sales")
	for name, between := range map[string]func(h *house) error{
		"started, and transferred": func(h *house) error {
			return errors.Join(second(h.queue.Assign(ctx, boss, "w1", bob)), second(h.queue.Transfer(ctx, boss, "w1", sales)))
		},
		"opened again": func(h *house) error {
			h.queue.Finish(ctx, "w1")
			return second(h.queue.Message(ctx, "kim"))
		},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHouse(t, chats(nil), routing.Options{})
			h.employ(t, ann, "online")
			h.employ(t, bob, "busy")
			require.NoError(t, h.AddMember(t.Context(), sales, ann))
			h.step(t)
			_, err := h.queue.Add(t.Context(), routing.Work{ID: "w1", Channel: desk, Client: "kim"})
			require.NoError(t, err)
			_, err = h.queue.Decline(t.Context(), "w1", ann)
			require.NoError(t, err)
			require.Equal(t, "queued", h.place(t, "w1"))
			require.NoError(t, between(h))
			require.Equal(t, "ann", h.place(t, "w1"))
		})
	}
}

// A client that writes again does not start an offer in the agent's stead.
func TestMessageStartsNoOffer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, chats(func(w *presence.WorkRule) { w.AcceptWithin = 10 * time.Second }), routing.Options{})
		h.employ(t, ann, "online")
		h.running(t)
		_, err := h.queue.Add(t.Context(), routing.Work{ID: "w1", Channel: desk, Client: "kim"})
		require.NoError(t, err)
		w, err := h.queue.Message(t.Context(), "kim")
		require.NoError(t, err)
		require.Equal(t, ann, w.Agent)
		require.False(t, w.Started)
		time.Sleep(10 * time.Second)
		synctest.Wait()
		require.Equal(t, "queued", h.place(t, "w1"))
	})
}

// Fault Options.Closing: what happens at closing time to work that waits, to new
// work and to done work whose client writes, and at the next opening.
func TestClosingTime(t *testing.T) {
	for closing, want := range map[routing.Closing]struct{ waited, arrives, returns string }{
		"":                    {waited: "ann", arrives: "refused", returns: "refused"},
		routing.ClosingServe:  {waited: "ann", arrives: "refused", returns: "refused"},
		routing.ClosingHold:   {waited: "queued", arrives: "queued", returns: "queued"},
		routing.ClosingRefuse: {waited: "queued", arrives: "refused", returns: "refused"},
	} {
		synctest.Test(t, func(t *testing.T) {
			begin := presence.At(time.Now())
			closes, opens := begin.Add(10*time.Second), begin.Add(20*time.Second)
			h := newHouse(t, chats(func(w *presence.WorkRule) { w.Capacity = 1 }), routing.Options{
				Closing: closing, Open: func(channel presence.Channel, now presence.Instant) (bool, presence.Instant) {
					if channel != desk || now >= opens {
						return true, 0
					}
					if now < closes {
						return true, closes
					}
					return false, opens
				},
			})
			h.employ(t, ann, "online")
			h.running(t)
			add := func(id, client string) (string, error) {
				w, err := h.queue.Add(t.Context(), routing.Work{ID: id, Channel: desk, Client: client})
				return string(w.Place), err
			}
			outcome := func(place string, err error) string {
				if err != nil {
					require.ErrorIs(t, err, presence.ErrNotAllowed)
					return "refused"
				}
				return place
			}
			_, err := add("w1", "kim")
			require.NoError(t, err)
			_, err = add("w2", "lee")
			require.NoError(t, err)
			time.Sleep(10 * time.Second)
			require.Equal(t, "ann", h.place(t, "w1"), "what an agent has goes on")
			h.finish(t, "w1")
			synctest.Wait()
			require.Equal(t, want.waited, h.place(t, "w2"))
			w, err := h.queue.Message(t.Context(), "kim")
			require.Equal(t, want.returns, outcome(string(w.Place), err))
			require.Equal(t, want.arrives, outcome(add("mail", "")))
			_, err = h.queue.Assign(t.Context(), boss, "w2", ann)
			require.NoError(t, err, "an actor may give it all the same")
			h.finish(t, "w2")
			_, err = h.queue.Add(t.Context(), routing.Work{ID: "elsewhere", Channel: presence.ChannelID("open")})
			require.NoError(t, err)
			_, err = h.queue.Transfer(t.Context(), boss, "elsewhere", desk)
			require.Equal(t, closing != routing.ClosingHold, err != nil)

			time.Sleep(10*time.Second - 1)
			synctest.Wait()
			require.Empty(t, h.queue.Of(ann))
			time.Sleep(1 * time.Nanosecond)
			synctest.Wait()
			if closing == routing.ClosingHold {
				require.Equal(t, "ann", h.place(t, "w1"), "Run has waited for the opening")
				require.Equal(t, "queued", h.place(t, "mail"))
			}
		})
	}
}

// Fault Queue.Transfer: work moves to another channel with the place of its first
// arrival and its history.
func TestTransfer(t *testing.T) {
	sales := presence.ChannelID("sales")
	h := newHouse(t, chats(func(w *presence.WorkRule) { w.Capacity = 2; w.Affinity = time.Hour }), routing.Options{})
	h.employ(t, ann, "online")
	_, err := h.queue.Add(t.Context(), routing.Work{ID: "w1", Channel: desk, Client: "kim", To: ann, Weight: 2})
	require.NoError(t, err)
	before, _ := h.queue.Get("w1")
	_, err = h.queue.Add(t.Context(), routing.Work{ID: "w2", Channel: sales})
	require.NoError(t, err)
	w, err := h.queue.Transfer(t.Context(), boss, "w1", sales)
	require.NoError(t, err)
	require.Equal(t, routing.Waiting, w.Place)
	require.Equal(t, sales, w.Channel)
	require.Equal(t, ann, w.Agent, "its last agent")
	require.Equal(t, before.Arrived, w.Arrived)
	require.Zero(t, w.To)
	require.Zero(t, h.load(t, ann))
	ids := func() (ids []string) {
		for _, w := range h.queue.List(sales) {
			ids = append(ids, w.ID)
		}
		return ids
	}
	require.Equal(t, []string{"w1", "w2"}, ids())
	require.NoError(t, h.AddMember(t.Context(), sales, bob))
	_, err = h.Connect(t.Context(), bob, presence.ConnectOptions{Login: true})
	require.NoError(t, err)
	h.step(t)
	require.Equal(t, "bob", h.place(t, "w1"))
	require.Equal(t, 2, h.load(t, bob))
	require.Equal(t, "queued", h.place(t, "w2"))

	foreign := presence.Channel{Tenant: "acme", ID: "sales"}
	other := presence.Actor{Subject: presence.Ref{Tenant: "acme", ID: "boss"}, Role: presence.RoleSupervisor}
	for name, refused := range map[string]error{
		"visitor":        second(h.queue.Transfer(t.Context(), presence.Visitor(bob), "w1", desk)),
		"foreign actor":  second(h.queue.Transfer(t.Context(), other, "w1", desk)),
		"foreign tenant": second(h.queue.Transfer(t.Context(), other, "w1", foreign)),
	} {
		require.ErrorIs(t, refused, presence.ErrNotAllowed, name)
	}
	_, err = h.queue.Transfer(t.Context(), boss, "w1", presence.ChannelID(""))
	require.ErrorIs(t, err, presence.ErrInvalid)
	w, err = h.queue.Transfer(t.Context(), boss, "w1", sales)
	require.NoError(t, err)
	require.Equal(t, routing.Given, w.Place, "it is there already")
	h.finish(t, "w1")
	_, err = h.queue.Transfer(t.Context(), boss, "w1", desk)
	require.ErrorIs(t, err, presence.ErrInvalid)
}

func second[T any](_ T, err error) error { return err }

// A weight is what the queue reports as load, for the capacity and for the end. Work
// that is too heavy for the room of its agents waits, and lighter work does not.
func TestWeight(t *testing.T) {
	h := newHouse(t, chats(func(w *presence.WorkRule) { w.Capacity = 3 }), routing.Options{})
	h.employ(t, ann, "online")
	add := func(id string, weight int) string {
		_, err := h.queue.Add(t.Context(), routing.Work{ID: id, Channel: desk, Weight: weight})
		require.NoError(t, err)
		return h.place(t, id)
	}
	require.Equal(t, "ann", add("two", 2))
	require.Equal(t, 2, h.load(t, ann))
	require.Equal(t, "queued", add("three", 3))
	require.Equal(t, "queued", add("two again", 2))
	require.Equal(t, "ann", add("one", 0))
	w, _ := h.queue.Get("one")
	require.Equal(t, 1, w.Weight, "0 means 1")
	require.Equal(t, 3, h.load(t, ann))
	h.finish(t, "one")
	require.Equal(t, 2, h.load(t, ann))
	h.finish(t, "two")
	require.Equal(t, "ann", h.place(t, "three"))
	require.Equal(t, 3, h.load(t, ann))
	h.employ(t, bob, "online")
	h.step(t)
	_, err := h.queue.Assign(t.Context(), boss, "three", bob)
	require.NoError(t, err)
	require.Equal(t, 5, h.load(t, bob), "an actor may give more than there is room for")
	require.Zero(t, h.load(t, ann))
	for _, weight := range []int{-1, 1_000_001} {
		_, err = h.queue.Add(t.Context(), routing.Work{ID: "x", Channel: desk, Weight: weight})
		require.ErrorIs(t, err, presence.ErrInvalid)
	}
}

// Fault work.returns: the state machine refuses the work of a client without room for
// it as well, so that the rule holds for every router.
func TestReturnsInTheStateMachine(t *testing.T) {
	for returns, want := range map[string]error{"": nil, "over": nil, presence.ReturnsCapacity: presence.ErrNotAllowed} {
		p := preset.RespondIO()
		p.Work.Capacity, p.Work.Returns = 2, returns
		h := newHouse(t, p, routing.Options{})
		h.employ(t, ann, "online")
		offer := func(n int) error {
			return h.Apply(t.Context(), presence.Event{Kind: presence.EventOffer, Subject: ann, Load: presence.Load{N: n}, Routing: presence.RouteSticky})
		}
		require.NoError(t, offer(1))
		require.ErrorIs(t, offer(2), want, returns)
		if want != nil {
			require.NoError(t, offer(1))
		}
	}
	p := presence.DefaultPolicy()
	p.Work.Returns, p.Work.AcceptWithin = "later", -1
	_, err := presence.Compile(p)
	require.ErrorContains(t, err, `work.returns`)
	require.ErrorContains(t, err, `allowed: over, capacity`)
	require.ErrorContains(t, err, `work.acceptWithin`)
	_, err = routing.New(newHouse(t, presence.DefaultPolicy(), routing.Options{}).Tracker, &routing.Options{Closing: "later"})
	require.ErrorContains(t, err, `allowed: serve, hold, refuse`)
}
