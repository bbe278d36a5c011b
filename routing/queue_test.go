package routing_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/presence-go/presence"
	"github.com/presence-go/presence/internal/seeds"
	"github.com/presence-go/presence/preset"
	"github.com/presence-go/presence/routing"
)

var (
	ann  = presence.ID("ann")
	bob  = presence.ID("bob")
	desk = presence.ChannelID("desk")
	boss = presence.Actor{Subject: presence.ID("boss"), Role: presence.RoleSupervisor}
)

// house is a tracker with a queue on it.
type house struct {
	*presence.Tracker
	queue *routing.Queue
	hook  func() // called before an offer or its end reaches the tracker
}

func newHouse(t *testing.T, p presence.Policy, opts routing.Options) *house {
	t.Helper()
	h := &house{}
	var err error
	h.Tracker, err = presence.New(&presence.Options{Policy: &p})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, h.Close()) })
	h.queue, err = routing.New(between{h.Tracker, h}, &opts)
	require.NoError(t, err)
	return h
}

// between calls a function between the lookup of an agent and the offer.
type between struct {
	routing.Desk
	h *house
}

func (b between) Apply(ctx context.Context, e presence.Event) error {
	if hook := b.h.hook; hook != nil {
		b.h.hook = nil
		hook()
	}
	return b.Desk.Apply(ctx, e)
}

func (h *house) employ(t *testing.T, subject presence.Ref, status string) *presence.Conn {
	t.Helper()
	require.NoError(t, h.AddMember(t.Context(), desk, subject))
	c, err := h.Connect(t.Context(), subject, presence.ConnectOptions{Login: true})
	require.NoError(t, err)
	h.claim(t, presence.Agent(subject), subject, status)
	return c
}

func (h *house) claim(t *testing.T, by presence.Actor, subject presence.Ref, status string) {
	t.Helper()
	_, err := h.SetClaim(t.Context(), by, subject, presence.Claim{Status: status})
	require.NoError(t, err)
}

func (h *house) add(t *testing.T, id string) routing.Work {
	t.Helper()
	w, err := h.queue.Add(t.Context(), routing.Work{ID: id, Channel: desk})
	require.NoError(t, err)
	return w
}

func (h *house) load(t *testing.T, subject presence.Ref) int {
	t.Helper()
	s, err := h.State(t.Context(), subject)
	require.NoError(t, err)
	return s.Work.Total()
}

// TestX22OfferRaces checks the race of an offer with a break or a kick-out. The
// agent is chosen, and becomes unavailable before it gets the work. The
// revision refuses the offer. The next agent gets the work, or it waits.
func TestX22OfferRaces(t *testing.T) {
	h := newHouse(t, preset.Threads(), routing.Options{})
	h.employ(t, ann, "active")
	h.hook = func() { h.claim(t, presence.Agent(ann), ann, "lunch") }
	require.Equal(t, routing.Waiting, h.add(t, "w1").Place)
	require.Zero(t, h.load(t, ann))

	h.employ(t, bob, "active")
	require.NoError(t, h.queue.Step(t.Context()))
	w, _ := h.queue.Get("w1")
	require.Equal(t, bob, w.Agent)

	h.claim(t, presence.Agent(ann), ann, "active")
	h.hook = func() { h.claim(t, boss, ann, "training") }
	require.Equal(t, bob, h.add(t, "w2").Agent, "ann was less loaded, and is gone")
	require.Equal(t, 2, h.load(t, bob))

	// The agent leaves and returns between lookup and offer. It is available under
	// another revision, and gets a second offer.
	h.claim(t, presence.Agent(ann), ann, "active")
	h.hook = func() {
		h.claim(t, presence.Agent(ann), ann, "lunch")
		h.claim(t, presence.Agent(ann), ann, "active")
	}
	w = h.add(t, "w3")
	require.NoError(t, h.queue.Step(t.Context()))
	require.Equal(t, h.load(t, ann)+h.load(t, bob), 3)
	require.Equal(t, routing.Given, w.Place)
}

// TestX21RequeuedOnce checks that a kick-out requeues work once. The queue may
// notice the kick-out at once, late, or together with the agent's return.
func TestX21RequeuedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var moves []string
		h := newHouse(t, preset.Threads(), routing.Options{Observe: func(w routing.Work) {
			moves = append(moves, fmt.Sprint(w.ID, " ", w.Place, " ", w.Agent.ID))
		}})
		h.employ(t, ann, "active")
		h.add(t, "w1")
		h.add(t, "w2")
		require.NoError(t, h.Apply(t.Context(), presence.Event{Kind: presence.EventChallenge, Subject: ann, Claim: presence.Claim{For: 10 * time.Second}}))
		time.Sleep(10 * time.Second)
		_, err := h.Sweep(t.Context())
		require.NoError(t, err)
		h.claim(t, boss, ann, "active") // back before the queue has looked
		require.NoError(t, h.queue.Step(t.Context()))
		require.NoError(t, h.queue.Step(t.Context()))
		require.Equal(t, []string{
			"w1 queued ", "w1 given ann", "w2 queued ", "w2 given ann",
			"w1 queued ann", "w2 queued ann", "w1 given ann", "w2 given ann",
		}, moves)
		require.Equal(t, []string{"w1", "w2"}, h.queue.Taken(ann))
		require.Equal(t, 2, h.load(t, ann))
	})
}

// TestHandedOutByRun checks that Run hands out work without calls of Step.
func TestHandedOutByRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, preset.RespondIO(), routing.Options{})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- h.queue.Run(ctx) }()
		require.Equal(t, routing.Waiting, h.add(t, "w1").Place)
		h.employ(t, ann, "online")
		synctest.Wait()
		w, _ := h.queue.Get("w1")
		require.Equal(t, ann, w.Agent)
		cancel()
		require.ErrorIs(t, <-done, context.Canceled)
	})
}

func TestOrders(t *testing.T) {
	for order, want := range map[string][]string{
		presence.OrderLeastLoaded: {"c", "a", "b"},
		presence.OrderLongestIdle: {"b", "a", "c"},
		presence.OrderRoundRobin:  {"b", "c", "a"},
	} {
		members := []routing.Member{
			{Subject: presence.ID("a"), Routing: presence.RouteAll, Load: 1, Given: 2},
			{Subject: presence.ID("b"), Routing: presence.RouteAll, Load: 2, Given: 1},
			{Subject: presence.ID("c"), Routing: presence.RouteAll, Load: 0, Given: 3},
			{Subject: presence.ID("full"), Routing: presence.RouteAll, Bounded: true},
			{Subject: presence.ID("last"), Routing: presence.RouteLast},
			{Subject: presence.ID("away"), Routing: presence.RouteNone},
			{Subject: presence.ID("sticky"), Routing: presence.RouteSticky},
		}
		var got []string
		for _, m := range routing.Candidates(members, order, presence.ID("a")) {
			got = append(got, m.Subject.ID)
		}
		require.Equal(t, append(want, "last"), got, order)
	}
	require.Empty(t, routing.Candidates(nil, "", presence.Ref{}), "nobody is an answer")
}

func TestRoundRobinTakesTurns(t *testing.T) {
	p := preset.RespondIO()
	p.Work.Order = presence.OrderRoundRobin
	h := newHouse(t, p, routing.Options{})
	for _, id := range []string{"x", "y", "z"} {
		h.employ(t, presence.ID(id), "online")
	}
	var got []string
	for i := range 7 {
		got = append(got, h.add(t, fmt.Sprint("w", i)).Agent.ID)
	}
	require.Equal(t, []string{"x", "y", "z", "x", "y", "z", "x"}, got)
}

func TestClosedChannelTakesNoNewWork(t *testing.T) {
	open := true
	h := newHouse(t, preset.RespondIO(), routing.Options{Open: func(presence.Channel, presence.Instant) (bool, presence.Instant) { return open, 0 }})
	h.employ(t, ann, "online")
	w, err := h.queue.Add(t.Context(), routing.Work{ID: "w1", Channel: desk, Client: "kim"})
	require.NoError(t, err)
	require.Equal(t, ann, w.Agent)
	open = false
	_, err = h.queue.Add(t.Context(), routing.Work{ID: "w2", Channel: desk})
	require.ErrorIs(t, err, presence.ErrNotAllowed)
	w, err = h.queue.Message(t.Context(), "kim")
	require.NoError(t, err, "what is under way goes on")
	require.Equal(t, ann, w.Agent)
	_, err = h.queue.Finish(t.Context(), "w1")
	require.NoError(t, err)
	_, err = h.queue.Message(t.Context(), "kim")
	require.ErrorIs(t, err, presence.ErrNotAllowed, "and is not taken up anew")
}

func TestBounds(t *testing.T) {
	h := newHouse(t, preset.RespondIO(), routing.Options{MaxWork: 2, MaxDone: 1})
	h.employ(t, ann, "online")
	h.add(t, "w1")
	h.add(t, "w2")
	_, err := h.queue.Add(t.Context(), routing.Work{ID: "w3", Channel: desk})
	require.ErrorIs(t, err, presence.ErrLimit)
	for _, id := range []string{"w1", "w2"} {
		_, err = h.queue.Finish(t.Context(), id)
		require.NoError(t, err)
	}
	_, there := h.queue.Get("w1")
	require.False(t, there, "only so much is remembered")
	_, err = h.queue.Finish(t.Context(), "w1")
	require.ErrorIs(t, err, presence.ErrUnknown)
	_, err = h.queue.Add(t.Context(), routing.Work{ID: "kim1", Channel: desk, Client: "kim"})
	require.NoError(t, err)
	for _, id := range []string{"kim1", h.add(t, "w4").ID} {
		_, err = h.queue.Finish(t.Context(), id)
		require.NoError(t, err)
	}
	_, err = h.queue.Message(t.Context(), "kim")
	require.ErrorIs(t, err, presence.ErrUnknown, "a client without work is forgotten too")
	_, err = h.queue.Add(t.Context(), routing.Work{Channel: desk})
	require.ErrorIs(t, err, presence.ErrInvalid)
	_, err = h.queue.Assign(t.Context(), presence.Actor{Subject: bob, Role: presence.RoleVisitor}, "w2", ann)
	require.ErrorIs(t, err, presence.ErrNotAllowed)
	require.Zero(t, h.load(t, ann))
}

// TestNothingLostUnderRaces changes agents at random while many goroutines add
// and finish work. At the end every piece is in its place, once. The loads of
// the agents' states equal those of the queue.
func TestNothingLostUnderRaces(t *testing.T) {
	p := preset.Threads()
	p.Work.Capacity = 3
	h := newHouse(t, p, routing.Options{})
	agents := make([]presence.Ref, 8)
	for i := range agents {
		agents[i] = presence.ID(fmt.Sprint("agent", i))
		h.employ(t, agents[i], "active")
	}
	ctx, cancel := context.WithCancel(t.Context())
	ran := make(chan error, 1)
	go func() { ran <- h.queue.Run(ctx) }()
	var group sync.WaitGroup
	seed := seeds.List(t, 1)[0]
	for g := range 4 {
		group.Go(func() {
			r := rand.New(rand.NewPCG(seed, uint64(g)))
			for i := range 300 {
				agent := agents[r.IntN(len(agents))]
				own := h.queue.Of(agent)
				switch r.IntN(10) {
				case 0:
					_, _ = h.SetClaim(ctx, presence.Agent(agent), agent, presence.Claim{Status: []string{"lunch", "active", "active"}[r.IntN(3)]})
				case 1:
					_, _ = h.SetClaim(ctx, boss, agent, presence.Claim{Status: "active"})
				case 2:
					if len(own) > 0 {
						_, _ = h.queue.Finish(ctx, own[0].ID)
					}
				case 4:
					_ = h.RemoveMember(ctx, desk, agent)
					_ = h.AddMember(ctx, desk, agent)
				case 5:
					if len(own) > 0 {
						_, _ = h.queue.Decline(ctx, own[0].ID, agent)
						_, _ = h.queue.Assign(ctx, boss, own[0].ID, agents[0])
					}
				case 3:
					_ = h.Disable(ctx, agent) // takes the work away
					_ = h.Enable(ctx, agent)
					if c, err := h.Connect(ctx, agent, presence.ConnectOptions{ID: "c"}); err == nil {
						_ = c.Input()
					}
				default:
					_, _ = h.queue.Add(ctx, routing.Work{ID: fmt.Sprint(g, "/", i), Channel: desk, Client: fmt.Sprint("client", r.IntN(20))})
				}
			}
		})
	}
	group.Wait()
	cancel()
	<-ran
	require.NoError(t, h.queue.Step(t.Context()))
	lies := make(map[string]int)
	for _, w := range h.queue.List(desk) {
		lies[w.ID]++
	}
	for _, agent := range agents {
		own := h.queue.Of(agent)
		for _, w := range own {
			lies[w.ID]++
		}
		require.Equal(t, len(own), h.load(t, agent), "%s", agent)
	}
	for id, n := range lies {
		require.Equal(t, 1, n, id)
	}
	for g := range 4 {
		for i := range 300 {
			id := fmt.Sprint(g, "/", i)
			if w, there := h.queue.Get(id); there && w.Place != routing.Done {
				require.Equal(t, 1, lies[id], id)
			}
		}
	}
	require.True(t, slices.IsSortedFunc(h.queue.List(desk), func(a, b routing.Work) int { return a.Arrived.Time().Compare(b.Arrived.Time()) }))
}

// An actor cannot assign another tenant's work, to any agent.
func TestAssignStaysWithinTheTenant(t *testing.T) {
	h := newHouse(t, presence.DefaultPolicy(), routing.Options{})
	foreign := presence.Ref{Tenant: "acme", ID: "ann"}
	_, err := h.Connect(t.Context(), foreign, presence.ConnectOptions{})
	require.NoError(t, err)
	require.Equal(t, routing.Waiting, h.add(t, "w").Place)
	_, err = h.queue.Assign(t.Context(), presence.Actor{Subject: presence.Ref{Tenant: "acme", ID: "boss"}, Role: presence.RoleSupervisor}, "w", foreign)
	require.ErrorIs(t, err, presence.ErrNotAllowed)
	require.Equal(t, routing.Waiting, h.add(t, "w").Place)
}

// The queue refuses work that it can never place. It blocks no other work.
func TestWorkThatCannotBePlaced(t *testing.T) {
	h := newHouse(t, presence.DefaultPolicy(), routing.Options{})
	require.NoError(t, h.AddMember(t.Context(), desk, ann))
	for _, w := range []routing.Work{
		{ID: "a\x00", Channel: desk},
		{ID: "1", Channel: desk, On: "a\x00"},
		{ID: "2", Channel: desk, On: strings.Repeat("x", presence.MaxID+1)},
		{ID: "3", Channel: presence.ChannelID("")},
		{ID: "4", Channel: presence.Channel{Tenant: "a\xff", ID: "desk"}},
		{ID: "5", Channel: desk, Client: "a\x00"},
		{ID: "6", Channel: desk, To: presence.Ref{Tenant: "acme", ID: "ann"}},
	} {
		_, err := h.queue.Add(t.Context(), w)
		require.ErrorIs(t, err, presence.ErrInvalid, "%+v", w)
		_, there := h.queue.Get(w.ID)
		require.False(t, there)
	}
	h.employ(t, ann, "available")
	require.NoError(t, h.queue.Step(t.Context()))
	require.Equal(t, routing.Given, h.add(t, "w").Place)
}
