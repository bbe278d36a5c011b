package routing_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/presence-go/presence"
	"github.com/presence-go/presence/internal/seeds"
	"github.com/presence-go/presence/internal/timeline"
	"github.com/presence-go/presence/preset"
	"github.com/presence-go/presence/routing"
)

var ctx = context.Background()

// history is a random history of a queue over one tracker and of the model over
// another. Everything that happens to one tracker happens to the other.
type history struct {
	*testing.T
	rand     *rand.Rand
	clock    *timeline.Still
	trackers [2]*presence.Tracker
	queue    *routing.Queue
	model    *model
	told     map[string]routing.Place
	serial   int
	log      []string
	agents   []presence.Ref
	channels []presence.Channel
	clients  []string
	erased   []presence.Ref
	counts   map[string]int
}

// TestQueueEqualsTheModel compares the queue with the plain model over random
// histories of all calls, of agents, of membership, of policies and of time: places,
// agents, order, turns, loads, and when something is due. Faults 14 to 18, 20.
func TestQueueEqualsTheModel(t *testing.T) {
	counts := make(map[string]int)
	for seed := range seeds.Range(t, 25) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { newHistory(t, rand.New(rand.NewPCG(seed, 29)), counts).run(200) })
	}
	for what, n := range counts {
		seeds.Count(t, what, n)
	}
	if seeds.Single() {
		return
	}
	for _, what := range []string{"add", "start", "finish", "message", "assign", "decline", "transfer", "given", "queued", "erase", "revoked work", "held", "timed out"} {
		require.NotZero(t, counts[what], "no history had one: %s", what)
	}
}

func newHistory(t *testing.T, r *rand.Rand, counts map[string]int) *history {
	h := &history{
		T: t, rand: r, counts: counts, clock: timeline.NewStill(time.Date(2026, 1, 5, 9, 0, 0, 0, time.UTC)), told: make(map[string]routing.Place),
		clients: []string{"", "kim", "kim", "lee", "max"},
	}
	policy := h.policy()
	for i := range h.trackers {
		var err error
		h.trackers[i], err = presence.New(&presence.Options{Policy: &policy, Clock: h.clock})
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, h.trackers[i].Close()) })
	}
	for i := range 4 {
		h.agents = append(h.agents, presence.ID(fmt.Sprint("agent", i)))
		h.channels = append(h.channels, presence.ChannelID(fmt.Sprint("channel", i)))
	}
	opts := routing.Options{
		MaxDone: 4, Open: openNow, Closing: []routing.Closing{routing.ClosingServe, routing.ClosingHold, routing.ClosingRefuse}[r.IntN(3)],
		Observe: func(w routing.Work) { h.told[w.ID] = w.Place },
	}
	var err error
	h.queue, err = routing.New(h.trackers[0], &opts)
	require.NoError(t, err)
	h.model = newModel(t, h.trackers[1], opts)
	return h
}

// openNow closes the last channel every third minute.
func openNow(channel presence.Channel, now presence.Instant) (open bool, next presence.Instant) {
	minute := int64(now) / int64(time.Minute)
	at := presence.Instant((minute + 1) * int64(time.Minute))
	return channel.ID != "channel3" || minute%3 != 0, at
}

func (h *history) policy() presence.Policy {
	p := preset.Threads()
	for i := range p.Statuses {
		switch s := &p.Statuses[i]; s.ID {
		case "short":
			s.Routing, s.DrainsFirst = presence.RouteLast, false
		case "meeting":
			s.Routing, s.DrainsFirst = presence.RouteSticky, false
		case "active":
			s.RoutingOn = map[string]presence.Routing{"calls": presence.RouteLast}
		}
	}
	p.Work = presence.WorkRule{
		KickedOut: "kicked-out", SelfReady: true, Capacity: 1 + h.rand.IntN(4), Challenge: 30 * time.Second, RequeueAfter: 3 * time.Minute, Settle: 10 * time.Second,
		Affinity: time.Duration(h.rand.IntN(3)) * time.Minute, AcceptWithin: time.Duration(h.rand.IntN(2)) * 20 * time.Second,
		Order:           pick(h.rand, []string{presence.OrderLeastLoaded, presence.OrderLongestIdle, presence.OrderRoundRobin}),
		Returns:         pick(h.rand, []string{"", presence.ReturnsCapacity}),
		WrapUp:          time.Duration(h.rand.IntN(2)) * 15 * time.Second,
		Total:           h.rand.IntN(2) * 5,
		SupervisorDrain: pick(h.rand, []string{"", presence.DrainRequeue}),
	}
	return p
}

func pick[T any](r *rand.Rand, list []T) T { return list[r.IntN(len(list))] }

// run makes a history of n events.
func (h *history) run(n int) {
	for _, agent := range h.agents {
		for _, channel := range h.channels {
			if h.rand.IntN(3) > 0 {
				h.both("grant", func(t *presence.Tracker) error { return t.AddMember(ctx, channel, agent) })
			}
		}
		h.both("login", func(t *presence.Tracker) error {
			_, err := t.Connect(ctx, agent, presence.ConnectOptions{ID: "pc", Login: true})
			return err
		})
	}
	for range n {
		switch h.rand.IntN(5) {
		case 0, 1:
			h.happen()
		case 2, 3:
			h.call()
		default:
			h.pass()
		}
		if h.rand.IntN(3) > 0 {
			h.note("step")
			before := len(h.model.in(routing.Given, func(w *modelPiece) bool { return w.answer != 0 && w.answer <= h.model.desk.Now() }))
			require.NoError(h, h.queue.Step(ctx), "%s", h.log)
			h.model.step()
			h.counts["timed out"] += before
			h.compare()
		}
	}
}

func (h *history) note(format string, args ...any) {
	h.log = append(h.log, fmt.Sprintf("\n%s ", h.clock.Now().Format("15:04:05"))+fmt.Sprintf(format, args...))
}

// both does the same to both trackers, which answer alike.
func (h *history) both(what string, do func(t *presence.Tracker) error) {
	h.note("%s", what)
	a, b := do(h.trackers[0]), do(h.trackers[1])
	require.Equal(h, fmt.Sprint(a), fmt.Sprint(b), "%s", h.log)
}

// pass lets time pass.
func (h *history) pass() {
	h.clock.Add(time.Duration(1+h.rand.IntN(40)) * time.Second)
	for _, agent := range h.agents {
		if h.rand.IntN(8) > 0 {
			h.both("beat "+agent.ID, func(t *presence.Tracker) error { return t.Heartbeat(agent, "pc") })
		}
	}
	h.both("sweep", func(t *presence.Tracker) error {
		_, err := t.Sweep(ctx)
		return err
	})
}

// happen changes an agent, a membership or the policy.
func (h *history) happen() {
	agent, channel := pick(h.rand, h.agents), pick(h.rand, h.channels)
	who := agent.ID + " " + channel.ID
	claim := func(by presence.Actor, statuses ...string) {
		status := pick(h.rand, statuses)
		h.both("claim "+who+" "+status, func(t *presence.Tracker) error {
			_, err := t.SetClaim(ctx, by, agent, presence.Claim{Status: status})
			return err
		})
	}
	switch h.rand.IntN(16) {
	case 0, 1, 2, 3:
		claim(presence.Agent(agent), "active", "active", "active", "lunch", "short", "meeting")
	case 4:
		claim(boss, "active", "training")
	case 5, 6:
		h.both("login "+who, func(t *presence.Tracker) error {
			_, err := t.Connect(ctx, agent, presence.ConnectOptions{ID: "pc"})
			return err
		})
	case 7:
		h.both("logout "+who, func(t *presence.Tracker) error { return t.Logout(ctx, agent) })
	case 8:
		kind := pick(h.rand, []presence.EventKind{presence.EventChallenge, presence.EventAck, presence.EventDisable, presence.EventEnable})
		h.both(kind.String()+" "+who, func(t *presence.Tracker) error { return t.Apply(ctx, presence.Event{Kind: kind, Subject: agent}) })
	case 9, 10:
		h.both("grant "+who, func(t *presence.Tracker) error { return t.AddMember(ctx, channel, agent) })
	case 11, 12:
		h.both("revoke "+who, func(t *presence.Tracker) error { return t.RemoveMember(ctx, channel, agent) })
	case 13:
		group := pick(h.rand, h.channels)
		h.both("link "+channel.ID+" "+group.ID, func(t *presence.Tracker) error { return t.Link(ctx, channel, group) })
	case 14:
		h.change(agent, who)
	default:
		if p := h.policy(); h.rand.IntN(4) == 0 {
			h.both("policy "+fmt.Sprint(p.Work), func(t *presence.Tracker) error { return t.SetPolicy(ctx, presence.System(presence.ID("host")), p) })
		}
	}
}

// change reports a capacity, or erases an agent and employs another.
func (h *history) change(agent presence.Ref, who string) {
	if h.rand.IntN(4) > 0 {
		on, capacity := pick(h.rand, []string{"", "calls"}), h.rand.IntN(4)
		h.both(fmt.Sprint("load ", who, " ", on, " ", capacity), func(t *presence.Tracker) error {
			load := presence.Load{On: on, Capacity: presence.NewCount(capacity)}
			if s, err := t.State(ctx, agent); err == nil && s.Work != nil {
				for _, l := range s.Work.Loads {
					if l.On == on {
						load.N = l.N
					}
				}
			}
			return t.SetLoad(ctx, agent, load)
		})
		return
	}
	h.counts["erase"]++
	h.both("erase "+who, func(t *presence.Tracker) error { return t.Erase(ctx, agent) })
	h.erased = append(h.erased, agent)
	fresh := presence.ID(fmt.Sprint("agent", h.rand.IntN(10), "-", len(h.erased)))
	h.agents[slices.Index(h.agents, agent)] = fresh
	h.both("employ "+fresh.ID, func(t *presence.Tracker) error { return t.AddMember(ctx, h.channels[0], fresh) })
}

// call calls the queue and the model.
func (h *history) call() {
	id := fmt.Sprint("w", max(0, h.serial-h.rand.IntN(16)))
	agent, channel, client := pick(h.rand, h.agents), pick(h.rand, h.channels), pick(h.rand, h.clients)
	w, there := h.queue.Get(id)
	var err error
	var accepted bool
	what := pick(h.rand, []string{"add", "add", "add", "add", "finish", "finish", "finish", "start", "message", "message", "assign", "decline", "decline", "transfer"})
	switch what {
	case "add":
		h.serial++
		w = routing.Work{
			ID: fmt.Sprint("w", h.serial), Channel: channel, Client: client, On: pick(h.rand, []string{"", "", "calls"}), Weight: h.rand.IntN(3),
			To: pick(h.rand, []presence.Ref{{}, {}, {}, agent}),
		}
		h.note("%s %+v", what, w)
		_, err = h.queue.Add(ctx, w)
		accepted = h.model.add(w)
	case "finish":
		h.note("%s %s", what, id)
		_, err = h.queue.Finish(ctx, id)
		accepted = h.model.finish(id)
	case "start":
		h.note("%s %s", what, id)
		_, err = h.queue.Start(id)
		accepted = h.model.start(id)
	case "message":
		h.note("%s %s", what, client)
		_, err = h.queue.Message(ctx, client)
		accepted = h.model.message(client)
	case "assign":
		h.note("%s %s %s", what, id, agent)
		_, err = h.queue.Assign(ctx, boss, id, agent)
		accepted = h.model.assign(id, agent)
	case "decline":
		if there && h.rand.IntN(4) > 0 {
			agent = w.Agent
		}
		h.note("%s %s %s", what, id, agent)
		_, err = h.queue.Decline(ctx, id, agent)
		accepted = h.model.decline(id, agent)
	case "transfer":
		h.note("%s %s %s", what, id, channel)
		_, err = h.queue.Transfer(ctx, boss, id, channel)
		accepted = h.model.transfer(id, channel)
	}
	require.Equal(h, accepted, err == nil, "%v\n%s", err, h.log)
	if accepted {
		h.counts[what]++
	}
	h.compare()
}

// compare compares all that the queue answers with the model.
func (h *history) compare() {
	places := make(map[string]int) // in how many places each piece is
	note := func(list []routing.Work) (ids []string) {
		for _, w := range list {
			places[w.ID]++
			ids = append(ids, w.ID)
		}
		return ids
	}
	idsOf := func(list []*modelPiece) (ids []string) {
		for _, w := range list {
			ids = append(ids, w.ID)
		}
		return ids
	}
	for _, channel := range h.channels {
		want := h.model.in(routing.Waiting, func(w *modelPiece) bool { return w.Channel == channel })
		require.Equal(h, idsOf(want), note(h.queue.List(channel)), "%s\n%s", channel, h.log)
		h.counts["queued"] += len(want)
		if open, _ := openNow(channel, h.model.desk.Now()); !open && h.model.closing == routing.ClosingHold {
			h.counts["held"] += len(want)
		}
	}
	for _, agent := range h.agents {
		want := h.model.in(routing.Given, func(w *modelPiece) bool { return w.Agent == agent })
		require.Equal(h, idsOf(want), note(h.queue.Of(agent)), "%s\n%s", agent, h.log)
		require.Equal(h, h.model.taken[agent], h.queue.Taken(agent), "%s\n%s", agent, h.log)
		h.counts["given"] += len(want)
		h.counts["revoked work"] += len(h.model.taken[agent])
		h.compareStates(agent)
	}
	for _, agent := range h.erased {
		note(h.queue.Of(agent)) // until the next step
	}
	for i := range h.serial {
		id := fmt.Sprint("w", i+1)
		got, there := h.queue.Get(id)
		want := h.model.find(id)
		require.Equal(h, want != nil, there, "%s\n%s", id, h.log)
		if there {
			require.Equal(h, want.Work, got, "%s\n%s", id, h.log)
			require.Equal(h, got.Place, h.told[id], id)
			if got.Place == routing.Done {
				places[id]++
			}
			require.Equal(h, 1, places[id], "%s is in %d places\n%s", id, places[id], h.log)
		}
	}
	h.compareTurns()
	h.compareNext()
}

// compareNext checks when something is due: at the latest when the first offer must
// be started. It may also be when a channel opens that held work at the last step.
// That the queue does not forget a channel shows in the places after the next step.
func (h *history) compareNext() {
	at, ok := h.queue.Next()
	require.Equal(h, at != 0, ok)
	answer := h.model.answerBy()
	if at == answer {
		return
	}
	require.NotEqual(h, routing.ClosingServe, h.model.closing, "%s", h.log)
	require.NotZero(h, at, "%s", h.log)
	require.True(h, answer == 0 || at < answer, "%s", h.log)
	_, next := openNow(h.channels[3], h.model.desk.Now())
	require.True(h, at == next || at <= h.model.desk.Now(), "%s", h.log)
}

// compareStates compares what the state machines count.
func (h *history) compareStates(agent presence.Ref) {
	a, errA := h.trackers[0].State(ctx, agent)
	b, errB := h.trackers[1].State(ctx, agent)
	require.Equal(h, fmt.Sprint(errB), fmt.Sprint(errA))
	require.Equal(h, b.Work, a.Work, "%s\n%s", agent, h.log)
	require.Equal(h, b.Current, a.Current, "%s\n%s", agent, h.log)
}

// compareTurns compares the order in which members are offered work.
func (h *history) compareTurns() {
	for _, channel := range h.channels {
		members, n, err := h.queue.Ranked(ctx, channel, "")
		require.NoError(h, err)
		piece := &modelPiece{Work: routing.Work{Channel: channel, Weight: 1}}
		var got, want []presence.Ref
		for _, member := range members[:n] {
			got = append(got, member.Subject)
		}
		all, err := h.model.desk.Members(channel)
		require.NoError(h, err)
		for _, ref := range all {
			if h.model.takes(piece, ref) {
				at := slices.IndexFunc(want, func(o presence.Ref) bool { return h.model.before(ref, o, piece) })
				if at < 0 {
					at = len(want)
				}
				want = slices.Insert(want, at, ref)
			}
		}
		require.Equal(h, want, got, "%s\n%s", channel, h.log)
	}
}
