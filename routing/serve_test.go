package routing_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/benbjohnson/clock"
	"github.com/stretchr/testify/require"

	"github.com/presence-go/presence"
	"github.com/presence-go/presence/preset"
	"github.com/presence-go/presence/routing"
)

// chats is the policy of a product whose agents are free as soon as they log in.
func chats(change func(*presence.WorkRule)) presence.Policy {
	p := preset.RespondIO()
	p.Idle = nil
	if change != nil {
		change(&p.Work)
	}
	return p
}

func (h *house) place(t *testing.T, id string) string {
	t.Helper()
	w, there := h.queue.Get(id)
	require.True(t, there, id)
	if w.Place == routing.Given {
		return w.Agent.ID
	}
	return string(w.Place)
}

func (h *house) finish(t *testing.T, id string) {
	t.Helper()
	_, err := h.queue.Finish(t.Context(), id)
	require.NoError(t, err)
}

func (h *house) step(t *testing.T) {
	t.Helper()
	require.NoError(t, h.queue.Step(t.Context()))
}

// Fault 15: work that arrives between a change and the next step does not overtake
// the work that waits.
func TestNewWorkOvertakesNone(t *testing.T) {
	h := newHouse(t, chats(func(w *presence.WorkRule) { w.Capacity = 1 }), routing.Options{})
	h.employ(t, ann, "busy")
	h.add(t, "old")
	h.claim(t, presence.Agent(ann), ann, "online")
	h.add(t, "new") // before a step
	require.Equal(t, "ann", h.place(t, "old"))
	require.Equal(t, "queued", h.place(t, "new"))

	// The same by the other calls before the step.
	h.claim(t, presence.Agent(ann), ann, "busy")
	_, err := h.queue.Add(t.Context(), routing.Work{ID: "kim1", Channel: desk, Client: "kim"})
	require.NoError(t, err)
	h.claim(t, presence.Agent(ann), ann, "online")
	h.finish(t, "old")
	require.Equal(t, "ann", h.place(t, "new"), "it has waited longest")
	h.finish(t, "new")
	require.Equal(t, "ann", h.place(t, "kim1"))
	h.finish(t, "kim1")
	h.claim(t, presence.Agent(ann), ann, "busy")
	h.add(t, "first")
	h.claim(t, presence.Agent(ann), ann, "online")
	w, err := h.queue.Message(t.Context(), "kim") // opens kim1 again, behind the other
	require.NoError(t, err)
	require.Equal(t, routing.Waiting, w.Place)
	require.Equal(t, "ann", h.place(t, "first"))
}

// counted counts the look-ups of members.
type counted struct {
	routing.Desk
	members, states int
}

func (c *counted) Members(channel presence.Channel) ([]presence.Ref, error) {
	c.members++
	return c.Desk.Members(channel)
}

func (c *counted) State(ctx context.Context, subject presence.Ref) (presence.State, error) {
	c.states++
	return c.Desk.State(ctx, subject)
}

// Fault 15: a change with 5,000 pieces waiting looks the members up once for each
// channel, and each agent once, beside those that are offered work. Subjects that
// pieces are meant for, and clients, do not matter.
func TestCostOfAChange(t *testing.T) {
	tracker, err := presence.New(&presence.Options{Policy: new(chats(func(w *presence.WorkRule) { w.Capacity = 1 }))})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, tracker.Close()) })
	d := &counted{Desk: tracker}
	q, err := routing.New(d, nil)
	require.NoError(t, err)
	h := &house{Tracker: tracker, queue: q}
	const agents, pieces = 20, 5_000
	id := func(i int) presence.Ref { return presence.ID(fmt.Sprintf("a%02d", i)) }
	for i := range agents {
		h.employ(t, id(i), "online")
	}
	for i := range agents {
		require.Equal(t, routing.Given, h.add(t, fmt.Sprint("open", i)).Place)
	}
	h.step(t)
	for i := range pieces {
		w := routing.Work{ID: fmt.Sprint("w", i), Channel: desk, Weight: 1 + i%3}
		switch i % 4 {
		case 1:
			w.Client = fmt.Sprint("client", i)
		case 2:
			w.Client = "kim"
		case 3:
			w.To = id(i % agents)
		}
		_, err := q.Add(t.Context(), w)
		require.NoError(t, err)
	}
	require.Len(t, q.List(desk), pieces)
	h.step(t)
	for _, change := range []struct {
		name    string
		act     func()
		lookUps int
		states  int
	}{
		{"an agent goes busy", func() { h.claim(t, presence.Agent(id(7)), id(7), "busy") }, 1, 1 + agents},
		{"an agent that is full returns", func() { h.claim(t, presence.Agent(id(7)), id(7), "online") }, 1, 1 + agents},
		{"an agent finishes and gets the next piece", func() { h.finish(t, "open3") }, 1, 1 + agents + 1},
		{"an agent of another channel comes", func() { require.NoError(t, h.AddMember(t.Context(), presence.ChannelID("else"), bob)) }, 1, agents},
		{"nothing", func() {}, 0, 0},
	} {
		d.members, d.states = 0, 0
		change.act()
		h.step(t)
		require.Equal(t, change.lookUps, d.members, change.name)
		require.LessOrEqual(t, d.states, change.states, change.name)
	}
	require.Len(t, q.List(desk), pieces-1)
}

// Fault 16: only a choice among the candidates moves the turn. Work that is meant
// for an agent, that belongs to an agent's client or that an actor assigns does
// not.
func TestTurnOfWorkThatIsSharedOut(t *testing.T) {
	h := newHouse(t, chats(func(w *presence.WorkRule) { w.Order, w.Affinity = presence.OrderRoundRobin, time.Hour }), routing.Options{})
	agents := []string{"a00", "a01", "a02", "a03"}
	for _, id := range agents {
		h.employ(t, presence.ID(id), "online")
	}
	shared := make(map[string]int)
	for i := range 40 {
		w := h.add(t, fmt.Sprint("w", i))
		shared[w.Agent.ID]++
		h.finish(t, w.ID)
		direct := routing.Work{ID: fmt.Sprint("d", i), Channel: desk}
		switch i % 3 {
		case 0:
			direct.To = presence.ID("a00")
		case 1:
			direct.Client = "kim" // of the agent that got the first such piece
		}
		_, err := h.queue.Add(t.Context(), direct)
		require.NoError(t, err)
		if i%3 == 2 {
			shared[h.place(t, direct.ID)]++
			_, err = h.queue.Assign(t.Context(), boss, direct.ID, presence.ID("a02"))
			require.NoError(t, err)
		} else if i == 1 {
			shared[h.place(t, direct.ID)]++
		}
		h.finish(t, direct.ID)
		h.step(t)
	}
	for _, id := range agents {
		require.InDelta(t, (40+13+1)/4, shared[id], 1, "%v", shared)
	}
}

// Fault 17: done work that is given again is work like other work: it is known,
// and its end frees its agent.
func TestDoneWorkGivenAgain(t *testing.T) {
	h := newHouse(t, chats(nil), routing.Options{MaxDone: 3})
	h.employ(t, ann, "online")
	h.add(t, "w1")
	h.finish(t, "w1")
	_, err := h.queue.Assign(t.Context(), boss, "w1", ann)
	require.NoError(t, err)
	for i := range 4 {
		id := fmt.Sprint("x", i)
		h.add(t, id)
		h.finish(t, id)
	}
	require.Equal(t, "ann", h.place(t, "w1"))
	require.Len(t, h.queue.Of(ann), 1)
	require.Equal(t, 1, h.load(t, ann))
	h.finish(t, "w1")
	require.Equal(t, "done", h.place(t, "w1"))
	require.Zero(t, h.load(t, ann))
}

// Fault 18: a message concerns the piece given last, else the one that has waited
// longest, else the one that ended last, and only that one is opened again.
func TestMessageConcernsOnePiece(t *testing.T) {
	h := newHouse(t, chats(func(w *presence.WorkRule) { w.Capacity = 2 }), routing.Options{})
	h.employ(t, ann, "online")
	add := func(id string) {
		_, err := h.queue.Add(t.Context(), routing.Work{ID: id, Channel: desk, Client: "kim", To: ann})
		require.NoError(t, err)
	}
	message := func() string {
		w, err := h.queue.Message(t.Context(), "kim")
		require.NoError(t, err)
		return w.ID
	}
	add("given1")
	add("given2")
	h.claim(t, presence.Agent(ann), ann, "busy")
	h.step(t)
	require.Equal(t, "queued", h.place(t, "given1"), "it was not started")
	h.claim(t, presence.Agent(ann), ann, "online")
	h.step(t)
	require.Equal(t, "given2", message())
	h.finish(t, "given2")
	require.Equal(t, "given1", message(), "the piece that ended does not come between")
	require.Equal(t, "done", h.place(t, "given2"))

	h.claim(t, presence.Agent(ann), ann, "busy")
	_, err := h.queue.Add(t.Context(), routing.Work{ID: "waits1", Channel: desk, Client: "kim", To: bob})
	require.NoError(t, err)
	require.Equal(t, "ann", h.place(t, "given1"), "the message has started it")
	require.Equal(t, "given1", message())
	h.finish(t, "given1")
	add("waits2")
	require.Equal(t, "waits1", message())
	h.finish(t, "waits2")
	h.finish(t, "waits1")
	require.Equal(t, "waits1", message())
	require.Equal(t, "queued", h.place(t, "waits1"))
	require.Equal(t, "done", h.place(t, "waits2"), "only one piece is opened")
	_, err = h.queue.Message(t.Context(), "")
	require.ErrorIs(t, err, presence.ErrUnknown, "work without a client")
}

// Fault 14: the work of an agent that is erased is given to another one. Nothing of the
// agent is left in the queue's answers.
func TestWorkOfAnErasedAgent(t *testing.T) {
	h := newHouse(t, chats(func(w *presence.WorkRule) { w.Affinity = time.Hour }), routing.Options{})
	h.employ(t, ann, "online")
	for id, w := range map[string]routing.Work{"w1": {Client: "kim"}, "w2": {To: ann}} {
		w.ID, w.Channel = id, desk
		_, err := h.queue.Add(t.Context(), w)
		require.NoError(t, err)
		_, err = h.queue.Start(id)
		require.NoError(t, err)
	}
	h.employ(t, bob, "online")
	h.step(t)
	require.NoError(t, h.Erase(t.Context(), ann))
	h.step(t)
	require.Equal(t, "bob", h.place(t, "w1"))
	require.Equal(t, "bob", h.place(t, "w2"))
	require.Empty(t, h.queue.Of(ann))
	require.Empty(t, h.queue.Taken(ann))
	require.Equal(t, 2, h.load(t, bob))
	_, err := h.queue.Assign(t.Context(), boss, "w1", ann)
	require.ErrorIs(t, err, presence.ErrUnknown)
}

// Fault 14: each way in which an agent loses a channel takes the channel's work
// from it, started or not, and no other work. Each way in which an agent gets a
// channel hands out what waits.
func TestMembershipReachesTheQueue(t *testing.T) {
	sales, inbox := presence.ChannelID("sales"), presence.ChannelID("inbox")
	for name, way := range map[string]struct {
		prepare, lose, gain func(h *house) error
	}{
		"member": {
			func(h *house) error { return h.AddMember(ctx, sales, ann) },
			func(h *house) error { return h.RemoveMember(ctx, sales, ann) },
			func(h *house) error { return h.AddMember(ctx, sales, ann) },
		},
		"set of members": {
			func(h *house) error { return h.SetMembers(ctx, sales, ann) },
			func(h *house) error { return h.SetMembers(ctx, sales) },
			func(h *house) error { return h.SetMembers(ctx, sales, ann) },
		},
		"link": {
			func(h *house) error { return errors.Join(h.AddMember(ctx, inbox, ann), h.Link(ctx, sales, inbox)) },
			func(h *house) error { return h.Link(ctx, sales, presence.ChannelID("other")) },
			func(h *house) error { return h.Link(ctx, sales, inbox) },
		},
		"member of the group": {
			func(h *house) error { return errors.Join(h.AddMember(ctx, inbox, ann), h.Link(ctx, sales, inbox)) },
			func(h *house) error { return h.RemoveMember(ctx, inbox, ann) },
			func(h *house) error { return h.AddMember(ctx, inbox, ann) },
		},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHouse(t, chats(func(w *presence.WorkRule) { w.Affinity = time.Hour }), routing.Options{})
			h.employ(t, ann, "online")
			require.NoError(t, way.prepare(h))
			h.step(t)
			h.add(t, "stays")
			for _, w := range []routing.Work{{ID: "started"}, {ID: "meant", To: ann}, {ID: "client", Client: "kim"}} {
				w.Channel = sales
				_, err := h.queue.Add(t.Context(), w)
				require.NoError(t, err)
			}
			_, err := h.queue.Start("started")
			require.NoError(t, err)
			require.Equal(t, 4, h.load(t, ann))

			require.NoError(t, way.lose(h))
			h.step(t)
			require.Equal(t, "ann", h.place(t, "stays"))
			for _, id := range []string{"started", "meant", "client"} {
				w, _ := h.queue.Get(id)
				require.Equal(t, routing.Waiting, w.Place, id)
				require.Zero(t, w.To, id)
				require.False(t, w.Started, id)
			}
			require.Equal(t, []string{"started", "meant", "client"}, h.queue.Taken(ann))
			require.Equal(t, 1, h.load(t, ann))
			_, err = h.queue.Assign(t.Context(), boss, "started", ann)
			require.ErrorIs(t, err, presence.ErrNotAllowed, "not even an actor can give it")

			require.NoError(t, way.gain(h))
			h.step(t)
			for _, id := range []string{"started", "meant", "client"} {
				require.Equal(t, "ann", h.place(t, id))
			}
			require.Equal(t, 4, h.load(t, ann))
		})
	}
}

// Fault 20: the time in which an agent took no new work is no waiting time.
func TestIdleSinceAvailable(t *testing.T) {
	for _, order := range []string{presence.OrderLongestIdle, presence.OrderLeastLoaded} {
		synctest.Test(t, func(t *testing.T) {
			h := newHouse(t, chats(func(w *presence.WorkRule) { w.Order = order }), routing.Options{})
			h.employ(t, ann, "busy") // has had no work, but took none either
			h.employ(t, bob, "online")
			time.Sleep(10 * time.Second)
			require.Equal(t, "bob", h.add(t, "w1").Agent.ID)
			h.finish(t, "w1")
			time.Sleep(10 * time.Second)
			h.claim(t, presence.Agent(ann), ann, "online")
			require.Equal(t, "bob", h.add(t, "w2").Agent.ID, "ann has just begun to wait")
			h.finish(t, "w2")
			require.Equal(t, "ann", h.add(t, "w3").Agent.ID, order)
		})
	}
}

// failing is a desk that fails for one agent.
type failing struct {
	routing.Desk
	of    presence.Ref
	fails atomic.Bool
}

func (f *failing) State(ctx context.Context, subject presence.Ref) (presence.State, error) {
	if f.fails.Load() && subject == f.of {
		return presence.State{}, presence.ErrUnavailable
	}
	return f.Desk.State(ctx, subject)
}

// A call that cannot hand out work has been carried out all the same. Run hands it
// out once the desk answers, without another change.
func TestRunTriesAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, chats(nil), routing.Options{})
		h.employ(t, ann, "online")
		d := &failing{Desk: h.Tracker, of: ann}
		d.fails.Store(true)
		var err error
		h.queue, err = routing.New(d, nil)
		require.NoError(t, err)
		run, stop := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- h.queue.Run(run) }()
		w, err := h.queue.Add(t.Context(), routing.Work{ID: "w1", Channel: desk})
		require.ErrorIs(t, err, presence.ErrUnavailable)
		require.Equal(t, routing.Waiting, w.Place)
		time.Sleep(10 * time.Second)
		require.Equal(t, "queued", h.place(t, "w1"))
		d.fails.Store(false)
		time.Sleep(2 * time.Second)
		require.Equal(t, "ann", h.place(t, "w1"))
		stop()
		require.ErrorIs(t, <-ended, context.Canceled)
	})
}

// A queue over a tracker with a mock clock waits by that clock.
func TestRunWaitsByTheClockOfTheDesk(t *testing.T) {
	mock := clock.NewMock()
	p := chats(func(w *presence.WorkRule) { w.AcceptWithin = 20 * time.Second })
	tracker, err := presence.New(&presence.Options{Policy: &p, Clock: mock})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, tracker.Close()) })
	moved := make(chan string, 16)
	q, err := routing.New(tracker, &routing.Options{Observe: func(w routing.Work) { moved <- fmt.Sprint(w.ID, " ", w.Place, " ", w.Agent.ID) }})
	require.NoError(t, err)
	h := &house{Tracker: tracker, queue: q}
	h.employ(t, ann, "online")
	run, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- q.Run(run) }()
	h.add(t, "w1")
	require.Equal(t, "w1 queued ", <-moved)
	require.Equal(t, "w1 given ann", <-moved)
	for done := false; !done; { // Run sets its timer in its own time
		mock.Add(20 * time.Second)
		select {
		case change := <-moved:
			require.Equal(t, "w1 queued ann", change)
			done = true
		default:
		}
	}
	stop()
	require.ErrorIs(t, <-ended, context.Canceled)
}
