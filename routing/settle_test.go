package routing_test

import (
	"testing"
	"time"

	"github.com/benbjohnson/clock"
	"github.com/stretchr/testify/require"

	"github.com/presence-go/presence"
	"github.com/presence-go/presence/preset"
	"github.com/presence-go/presence/routing"
)

// Work that is meant for an agent moves on when the agent stops receiving, also if
// no work waited when the queue last looked at its agents.
func TestMeantWorkMovesOn(t *testing.T) {
	h := newHouse(t, chats(nil), routing.Options{})
	h.employ(t, ann, "online")
	h.employ(t, bob, "online")
	h.step(t)
	_, err := h.queue.Add(t.Context(), routing.Work{ID: "w1", Channel: desk, To: ann})
	require.NoError(t, err)
	h.finish(t, h.add(t, "other").ID) // nothing waits
	h.step(t)
	h.claim(t, presence.Agent(ann), ann, "busy")
	h.step(t)
	require.Equal(t, "bob", h.place(t, "w1"))
	w, _ := h.queue.Get("w1")
	require.Equal(t, bob, w.To)
}

// Erasing an agent erases what was taken from it before.
func TestTakenOfAnErasedAgent(t *testing.T) {
	h := newHouse(t, preset.Threads(), routing.Options{})
	h.employ(t, ann, "active")
	h.add(t, "w1")
	require.NoError(t, h.Disable(t.Context(), ann))
	h.step(t)
	require.Equal(t, []string{"w1"}, h.queue.Taken(ann))
	require.NoError(t, h.Erase(t.Context(), ann))
	h.step(t)
	require.Empty(t, h.queue.Taken(ann))
}

// A step that fails after it has taken work back hands it out once the desk answers.
func TestStepThatFails(t *testing.T) {
	h := newHouse(t, chats(nil), routing.Options{})
	cyd := presence.ID("cyd")
	for _, id := range []presence.Ref{ann, bob, cyd} {
		require.NoError(t, h.AddMember(t.Context(), desk, id))
	}
	d := &failing{Desk: h.Tracker, of: bob}
	var err error
	h.queue, err = routing.New(d, nil)
	require.NoError(t, err)
	h.employ(t, ann, "online")
	h.add(t, "w1")
	h.employ(t, bob, "online")
	h.add(t, "w2")
	h.employ(t, cyd, "online")
	h.step(t)
	require.NoError(t, h.RemoveMember(t.Context(), desk, ann))
	h.claim(t, presence.Agent(bob), bob, "busy")
	d.fails.Store(true)
	require.ErrorIs(t, h.queue.Step(t.Context()), presence.ErrUnavailable)
	require.Equal(t, "queued", h.place(t, "w1"), "taken back, but not handed out")
	d.fails.Store(false)
	h.step(t)
	require.Equal(t, "cyd", h.place(t, "w1"))
	require.Equal(t, "bob", h.place(t, "w2"))
}

// A host may not know when a channel opens. Work that is held is handed out at the
// next change of an agent.
func TestOpensWithoutNotice(t *testing.T) {
	open := false
	h := newHouse(t, chats(nil), routing.Options{
		Closing: routing.ClosingHold, Open: func(presence.Channel, presence.Instant) (bool, presence.Instant) { return open, 0 },
	})
	h.employ(t, ann, "online")
	h.employ(t, bob, "busy")
	h.step(t)
	require.Equal(t, routing.Waiting, h.add(t, "w1").Place)
	_, due := h.queue.Next()
	require.False(t, due)
	open = true
	require.NoError(t, h.Logout(t.Context(), bob))
	h.step(t)
	require.Equal(t, "ann", h.place(t, "w1"))
}

// A policy that gives agents more room reaches the work that waits at the next step,
// although no agent looks otherwise.
func TestPolicyReachesTheQueue(t *testing.T) {
	h := newHouse(t, chats(func(w *presence.WorkRule) { w.Capacity = 3 }), routing.Options{})
	h.employ(t, ann, "online")
	h.add(t, "w1")
	_, err := h.queue.Add(t.Context(), routing.Work{ID: "heavy", Channel: desk, Weight: 3})
	require.NoError(t, err)
	h.step(t)
	require.Equal(t, "queued", h.place(t, "heavy"))
	require.NoError(t, h.SetPolicy(t.Context(), presence.System(presence.ID("host")), chats(func(w *presence.WorkRule) { w.Capacity = 4 })))
	h.step(t)
	require.Equal(t, "ann", h.place(t, "heavy"))
}

// A client of two tenants belongs to an agent of each.
func TestClientOfTwoTenants(t *testing.T) {
	h := newHouse(t, chats(func(w *presence.WorkRule) { w.Affinity = time.Hour }), routing.Options{})
	h.employ(t, ann, "online")
	acme := presence.Channel{Tenant: "acme", ID: "desk"}
	eve := presence.Ref{Tenant: "acme", ID: "eve"}
	require.NoError(t, h.AddMember(t.Context(), acme, eve))
	_, err := h.Connect(t.Context(), eve, presence.ConnectOptions{Login: true})
	require.NoError(t, err)
	for id, channel := range map[string]presence.Channel{"here": desk, "there": acme} {
		_, err := h.queue.Add(t.Context(), routing.Work{ID: id, Channel: channel, Client: "kim"})
		require.NoError(t, err)
	}
	require.Equal(t, "ann", h.place(t, "here"))
	require.Equal(t, "eve", h.place(t, "there"))
}

// An agent that is erased between the look-up and the offer is asked no more.
func TestErasedBetweenLookUpAndOffer(t *testing.T) {
	h := newHouse(t, chats(nil), routing.Options{})
	h.employ(t, ann, "online")
	h.employ(t, bob, "busy")
	h.step(t)
	h.hook = func() { require.NoError(t, h.Erase(t.Context(), ann)) }
	require.Equal(t, routing.Waiting, h.add(t, "w1").Place)
	h.claim(t, presence.Agent(bob), bob, "online")
	h.step(t)
	require.Equal(t, "bob", h.place(t, "w1"))
}

// A report of more capacity reaches the work that waits, although it changes nothing
// that is shown of the agent.
func TestCapacityReachesTheQueue(t *testing.T) {
	h := newHouse(t, chats(func(w *presence.WorkRule) { w.Capacity = 3 }), routing.Options{})
	h.employ(t, ann, "online")
	h.add(t, "w1")
	_, err := h.queue.Add(t.Context(), routing.Work{ID: "heavy", Channel: desk, Weight: 3})
	require.NoError(t, err)
	h.step(t)
	require.Equal(t, "queued", h.place(t, "heavy"))
	require.NoError(t, h.SetLoad(t.Context(), ann, presence.Load{N: 1, Capacity: presence.NewCount(4)}))
	h.step(t)
	require.Equal(t, "ann", h.place(t, "heavy"))
}

// Fault 45: hours follow the wall clock. After it was set back, a refusal names the time
// that the clock will show, and work that is held waits until the clock shows it.
func TestHoursAfterTheClockWasSetBack(t *testing.T) {
	for _, closing := range []routing.Closing{routing.ClosingHold, routing.ClosingRefuse} {
		mock := clock.NewMock()
		mock.Set(time.Date(2026, 1, 5, 9, 0, 0, 0, time.UTC))
		opens := presence.At(mock.Now()).Add(30 * time.Minute)
		p := chats(nil)
		p.Lease, p.Idle = 12*time.Hour, nil
		h := &house{}
		var err error
		h.Tracker, err = presence.New(&presence.Options{Policy: &p, Clock: mock})
		require.NoError(t, err)
		open := true
		h.queue, err = routing.New(h.Tracker, &routing.Options{Closing: closing, Open: func(_ presence.Channel, now presence.Instant) (bool, presence.Instant) {
			return open || now >= opens, opens
		}})
		require.NoError(t, err)
		h.step(t)
		require.Equal(t, routing.Waiting, h.add(t, "w1").Place)
		open = false
		h.employ(t, ann, "online")
		mock.Add(20 * time.Minute)
		h.step(t)
		mock.Add(-30 * time.Minute) // it shows 08:50
		h.step(t)
		require.Equal(t, "queued", h.place(t, "w1"))
		if closing == routing.ClosingRefuse {
			var refused *presence.Error
			_, err = h.queue.Add(t.Context(), routing.Work{ID: "w2", Channel: desk})
			require.ErrorAs(t, err, &refused)
			require.Equal(t, opens, refused.Until)
		}
		mock.Add(10 * time.Minute) // the time of the tracker at which it would have opened
		h.step(t)
		next, due := h.queue.Next()
		require.True(t, due)
		require.Equal(t, 30*time.Minute, next.Sub(h.Now()))
		mock.Add(30*time.Minute - 1)
		h.step(t)
		require.Equal(t, "queued", h.place(t, "w1"))
		mock.Add(1)
		h.step(t)
		require.Equal(t, "ann", h.place(t, "w1"))
		require.NoError(t, h.Close())
	}
}
