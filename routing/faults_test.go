package routing_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/presence-go/presence"
	"github.com/presence-go/presence/preset"
	"github.com/presence-go/presence/routing"
)

// broken is a desk whose method fails, once it has succeeded so many times.
type broken struct {
	routing.Desk
	method string // Members, Belongs, State, offer or done
	after  int
}

func (b *broken) fails(method string) error {
	if method != b.method {
		return nil
	}
	b.after--
	if b.after >= 0 {
		return nil
	}
	return presence.ErrUnavailable
}

func (b *broken) Members(channel presence.Channel) ([]presence.Ref, error) {
	if err := b.fails("Members"); err != nil {
		return nil, err
	}
	return b.Desk.Members(channel)
}

func (b *broken) Belongs(ctx context.Context, subject presence.Ref, channel presence.Channel) (bool, error) {
	if err := b.fails("Belongs"); err != nil {
		return false, err
	}
	return b.Desk.Belongs(ctx, subject, channel)
}

func (b *broken) State(ctx context.Context, subject presence.Ref) (presence.State, error) {
	if err := b.fails("State"); err != nil {
		return presence.State{}, err
	}
	return b.Desk.State(ctx, subject)
}

func (b *broken) Apply(ctx context.Context, e presence.Event) error {
	if err := b.fails(map[presence.EventKind]string{presence.EventOffer: "offer", presence.EventDone: "done"}[e.Kind]); err != nil {
		return err
	}
	return b.Desk.Apply(ctx, e)
}

// A call returns the error of a desk that fails, with the work as it is by then: as
// before if the desk failed in the call itself, and carried out if it failed while
// waiting work was handed out. The next step does the rest.
func TestCallsOverADeskThatFails(t *testing.T) {
	sales := presence.ChannelID("sales")
	type call = func(q *routing.Queue) (routing.Work, error)
	assign := func(q *routing.Queue) (routing.Work, error) { return q.Assign(ctx, boss, "given", bob) }
	decline := func(q *routing.Queue) (routing.Work, error) { return q.Decline(ctx, "given", ann) }
	transfer := func(q *routing.Queue) (routing.Work, error) { return q.Transfer(ctx, boss, "given", sales) }
	finish := func(q *routing.Queue) (routing.Work, error) { return q.Finish(ctx, "given") }
	message := func(q *routing.Queue) (routing.Work, error) { return q.Message(ctx, "kim") }
	add := func(w routing.Work) call {
		return func(q *routing.Queue) (routing.Work, error) {
			w.ID, w.Channel = "new", desk
			return q.Add(ctx, w)
		}
	}
	for _, tt := range []struct {
		name   string
		call   call
		method string
		after  int
		place  routing.Place // of the work that the call returns
		next   string        // where the work is after another step
	}{
		{"assign", assign, "State", 0, routing.Given, "ann"},
		{"assign", assign, "Belongs", 0, routing.Given, "ann"},
		{"assign", assign, "offer", 0, routing.Given, "ann"},
		{"assign", assign, "done", 0, routing.Given, "bob"},
		{"assign", assign, "Members", 0, routing.Given, "bob"},
		{"decline", decline, "done", 0, routing.Given, "ann"},
		{"decline", decline, "Members", 0, routing.Waiting, "bob"},
		{"transfer", transfer, "done", 0, routing.Given, "ann"},
		{"transfer", transfer, "Members", 0, routing.Waiting, "ann"},
		{"finish", finish, "done", 0, routing.Given, "ann"},
		{"finish", finish, "Members", 0, routing.Done, "done"},
		{"message", message, "Members", 0, routing.Waiting, "ann"},
		{"add", add(routing.Work{}), "Members", 0, routing.Waiting, "ann"},
		{"add", add(routing.Work{}), "State", 0, routing.Waiting, "ann"},
		{"add", add(routing.Work{}), "offer", 0, routing.Waiting, "ann"},
		{"add, after the offer", add(routing.Work{}), "State", 2, routing.Given, "ann"},
		{"add, meant for bob", add(routing.Work{To: bob}), "Belongs", 0, routing.Waiting, "bob"},
		{"add, meant for bob", add(routing.Work{To: bob}), "State", 0, routing.Waiting, "bob"},
		{"add, meant for bob", add(routing.Work{To: bob}), "offer", 0, routing.Waiting, "bob"},
		{"add, of bob's client", add(routing.Work{Client: "lee"}), "Belongs", 0, routing.Waiting, "bob"},
		{"add, of bob's client", add(routing.Work{Client: "lee"}), "State", 0, routing.Waiting, "bob"},
		{"add, of bob's client", add(routing.Work{Client: "lee"}), "offer", 0, routing.Waiting, "bob"},
	} {
		name := fmt.Sprint(tt.name, ": ", tt.method)
		h := newHouse(t, chats(func(w *presence.WorkRule) { w.Capacity = 10 }), routing.Options{})
		d := &broken{Desk: h.Tracker}
		var err error
		h.queue, err = routing.New(d, nil)
		require.NoError(t, err)
		h.employ(t, ann, "online")
		h.employ(t, bob, "online")
		require.NoError(t, h.AddMember(t.Context(), sales, ann))
		given := func(id, client string, to presence.Ref) {
			_, err = h.queue.Add(ctx, routing.Work{ID: id, Channel: desk, Client: client, To: to})
			require.NoError(t, err)
			require.Equal(t, to.ID, h.place(t, id))
		}
		given("given", "", ann)
		given("bob1", "lee", bob)
		given("bob2", "", bob)
		given("done", "kim", ann)
		h.finish(t, "done")
		h.step(t)
		_, err = h.queue.Add(ctx, routing.Work{ID: "waits", Channel: presence.ChannelID("nobody")})
		require.NoError(t, err)

		d.method, d.after = tt.method, tt.after
		w, err := tt.call(h.queue)
		require.ErrorIs(t, err, presence.ErrUnavailable, name)
		require.Equal(t, tt.place, w.Place, name)
		got, there := h.queue.Get(w.ID)
		require.True(t, there, name)
		require.Equal(t, got, w, name)
		d.method = ""
		h.step(t)
		require.Equal(t, tt.next, h.place(t, w.ID), name)
	}
}

// A step that fails returns the error of the desk. The next one does what is left.
func TestStepsOverADeskThatFails(t *testing.T) {
	revoke := func(h *house) error { return h.RemoveMember(ctx, desk, ann) }
	busy := func(h *house) error {
		_, err := h.SetClaim(ctx, presence.Agent(ann), ann, presence.Claim{Status: "busy"})
		return err
	}
	late := func(*house) error {
		time.Sleep(10 * time.Second)
		return nil
	}
	for _, tt := range []struct {
		name   string
		change func(*house) error
		method string
	}{
		{"an offer is not taken up", late, "done"},
		{"an offer is not taken up", late, "Members"},
		{"an agent changes", busy, "State"},
		{"an agent changes", busy, "Belongs"},
		{"an agent changes", busy, "done"},
		{"an agent changes", busy, "offer"},
		{"an agent leaves the channel", revoke, "State"},
		{"an agent leaves the channel", revoke, "Belongs"},
		{"an agent leaves the channel", revoke, "done"},
		{"an agent leaves the channel", revoke, "Members"},
	} {
		synctest.Test(t, func(t *testing.T) {
			name := fmt.Sprint(tt.name, ": ", tt.method)
			h := newHouse(t, chats(func(w *presence.WorkRule) { w.AcceptWithin = 10 * time.Second }), routing.Options{})
			d := &broken{Desk: h.Tracker}
			var err error
			h.queue, err = routing.New(d, nil)
			require.NoError(t, err)
			h.employ(t, ann, "online")
			require.Equal(t, ann, h.add(t, "w").Agent)
			h.employ(t, bob, "online")
			h.step(t)
			require.NoError(t, tt.change(h))
			d.method = tt.method
			require.ErrorIs(t, h.queue.Step(t.Context()), presence.ErrUnavailable, name)
			require.ErrorIs(t, h.queue.Step(t.Context()), presence.ErrUnavailable, name)
			d.method = ""
			h.step(t)
			require.Equal(t, "bob", h.place(t, "w"), name)
			require.Zero(t, h.load(t, ann), name)
			require.Equal(t, 1, h.load(t, bob), name)
		})
	}
}

// Who asks for the order of the members learns that the desk fails.
func TestRankedOverADeskThatFails(t *testing.T) {
	h := newHouse(t, chats(nil), routing.Options{})
	d := &broken{Desk: h.Tracker}
	q, err := routing.New(d, nil)
	require.NoError(t, err)
	h.employ(t, ann, "online")
	members, n, err := q.Ranked(t.Context(), desk, "")
	require.NoError(t, err)
	require.Len(t, members, 1)
	require.Equal(t, 1, n)
	for _, d.method = range []string{"Members", "State"} {
		_, _, err = q.Ranked(t.Context(), desk, "")
		require.ErrorIs(t, err, presence.ErrUnavailable, d.method)
	}
}

// Work of an agent that is erased meanwhile ends, moves and is declined all the same.
func TestCallsForWorkOfAnErasedAgent(t *testing.T) {
	for name, call := range map[string]func(*routing.Queue) (routing.Work, error){
		"done":   func(q *routing.Queue) (routing.Work, error) { return q.Finish(ctx, "w") },
		"queued": func(q *routing.Queue) (routing.Work, error) { return q.Decline(ctx, "w", ann) },
		"bob":    func(q *routing.Queue) (routing.Work, error) { return q.Assign(ctx, boss, "w", bob) },
	} {
		h := newHouse(t, chats(nil), routing.Options{})
		h.employ(t, ann, "online")
		require.Equal(t, ann, h.add(t, "w").Agent)
		h.employ(t, bob, "busy")
		h.step(t)
		require.NoError(t, h.Erase(t.Context(), ann))
		_, err := call(h.queue)
		require.NoError(t, err, name)
		require.Equal(t, name, h.place(t, "w"))
	}
	h := newHouse(t, chats(nil), routing.Options{})
	h.employ(t, ann, "online")
	h.add(t, "w")
	h.employ(t, bob, "online")
	h.step(t)
	require.NoError(t, h.Erase(t.Context(), ann))
	h.step(t)
	require.Equal(t, "bob", h.place(t, "w"), "a single piece finds another agent as well")
}

// New names every fault of its arguments and the words that are allowed.
func TestFaultsOfOptions(t *testing.T) {
	_, err := routing.New(nil, &routing.Options{MaxWork: -1, MaxDone: -1, Closing: "later"})
	var faults []string
	for _, fault := range err.(interface{ Unwrap() []error }).Unwrap() {
		require.ErrorIs(t, fault, presence.ErrInvalid)
		var refusal *presence.Error
		require.True(t, errors.As(fault, &refusal))
		require.Equal(t, "option", refusal.What)
		faults = append(faults, strings.Join(append([]string{refusal.Given}, refusal.Allowed...), " "))
	}
	require.Equal(t, []string{"desk", "MaxWork", "MaxDone", "Closing serve hold refuse"}, faults)
}

// An id has 1 to 128 bytes of UTF-8 without control characters, and a weight is from 1
// to 1,000,000, of which 1 is the default. A refusal quotes at most 128 bytes.
func TestFormOfWork(t *testing.T) {
	h := newHouse(t, chats(nil), routing.Options{})
	long := strings.Repeat("x", presence.MaxID)
	n := 0
	for _, tt := range []struct {
		what   string
		change func(*routing.Work)
		ok     bool
	}{
		{"the longest ids", func(w *routing.Work) {
			w.ID, w.Channel.ID, w.On, w.Client, w.To.ID = long, long, long, long, long
		}, true},
		{"no id", func(w *routing.Work) { w.ID = "" }, false},
		{"no channel", func(w *routing.Work) { w.Channel.ID = "" }, false},
		{"a long id", func(w *routing.Work) { w.ID = long + "x" }, false},
		{"a long channel", func(w *routing.Work) { w.Channel.ID = long + "x" }, false},
		{"a long tenant", func(w *routing.Work) { w.Channel.Tenant = long + "x" }, false},
		{"a long work channel", func(w *routing.Work) { w.On = long + "x" }, false},
		{"a long client", func(w *routing.Work) { w.Client = long + "x" }, false},
		{"a long subject", func(w *routing.Work) { w.To.ID = long + "x" }, false},
		{"no UTF-8", func(w *routing.Work) { w.To.ID = "a\xff" }, false},
		{"a control character", func(w *routing.Work) { w.To.ID = "a\n" }, false},
		{"another tenant", func(w *routing.Work) { w.To = presence.Ref{Tenant: "acme", ID: "ann"} }, false},
		{"its tenant", func(w *routing.Work) { w.Channel.Tenant, w.To = "acme", presence.Ref{Tenant: "acme", ID: "ann"} }, true},
		{"weight -1", func(w *routing.Work) { w.Weight = -1 }, false},
		{"weight 0", func(w *routing.Work) { w.Weight = 0 }, true},
		{"weight 1", func(w *routing.Work) { w.Weight = 1 }, true},
		{"weight 1,000,000", func(w *routing.Work) { w.Weight = 1_000_000 }, true},
		{"weight 1,000,001", func(w *routing.Work) { w.Weight = 1_000_001 }, false},
	} {
		n++
		w := routing.Work{ID: fmt.Sprint("w", n), Channel: desk}
		tt.change(&w)
		got, err := h.queue.Add(t.Context(), w)
		if !tt.ok {
			require.ErrorIs(t, err, presence.ErrInvalid, tt.what)
			continue
		}
		require.NoError(t, err, tt.what)
		require.Equal(t, max(w.Weight, 1), got.Weight)
		require.Equal(t, routing.Waiting, got.Place)
	}
	for _, id := range []string{long + "xx", strings.Repeat("ä", presence.MaxID), "x" + strings.Repeat("ä", presence.MaxID)} {
		_, err := h.queue.Finish(t.Context(), id)
		var refusal *presence.Error
		require.True(t, errors.As(err, &refusal))
		require.LessOrEqual(t, len(refusal.Given), presence.MaxID)
		require.GreaterOrEqual(t, len(refusal.Given), presence.MaxID-1)
		require.True(t, utf8.ValidString(refusal.Given))
		require.True(t, strings.HasPrefix(id, refusal.Given))
	}
}

// An assignment is tried three times against a subject that changes meanwhile.
func TestAssignmentOfOneThatChanges(t *testing.T) {
	for changes, want := range map[int]error{2: nil, 3: presence.ErrNotAllowed} {
		h := newHouse(t, preset.Threads(), routing.Options{})
		require.Equal(t, routing.Waiting, h.add(t, "w").Place)
		h.employ(t, ann, "active")
		n := 0
		var change func()
		change = func() {
			if n++; n <= changes {
				h.claim(t, presence.Agent(ann), ann, []string{"active", "lunch"}[n%2])
			}
			h.hook = change
		}
		h.hook = change
		w, err := h.queue.Assign(t.Context(), boss, "w", ann)
		require.ErrorIs(t, err, want, "%d changes", changes)
		require.Equal(t, want == nil, w.Place == routing.Given)
		require.Equal(t, "w", w.ID)
	}
}

// A step looks an agent up only if it has changed, and the members of a channel only
// if waiting work may find an agent that it did not find before. Each look-up is made
// once, for all work channels, and Open is asked once for each channel.
func TestLookUpsOfAStep(t *testing.T) {
	h := newHouse(t, chats(func(w *presence.WorkRule) { w.Capacity = 1 }), routing.Options{})
	d := &counted{Desk: h.Tracker}
	asked, belongs := 0, 0
	var err error
	h.queue, err = routing.New(&belonging{d, &belongs}, &routing.Options{
		Closing: routing.ClosingHold, Open: func(presence.Channel, presence.Instant) (bool, presence.Instant) {
			asked++
			return true, 0
		},
	})
	require.NoError(t, err)
	h.employ(t, ann, "online")
	h.add(t, "w1")
	add := func(id, on string) {
		_, err := h.queue.Add(t.Context(), routing.Work{ID: id, Channel: desk, On: on, To: bob})
		require.NoError(t, err)
	}
	for i := range 3 {
		add(fmt.Sprint("plain", i), "")
	}
	require.NoError(t, h.AddMember(t.Context(), desk, bob))
	h.step(t)
	reason := func(text string) func() {
		return func() {
			_, err := h.SetClaim(ctx, presence.Agent(ann), ann, presence.Claim{Status: "online", Text: text})
			require.NoError(t, err)
		}
	}
	gone := presence.ID("gone")
	for _, tt := range []struct {
		name                            string
		act                             func()
		members, states, belongs, asked int
	}{
		{"nothing", func() {}, 0, 0, 0, 0},
		{"an agent that takes what it took", reason("hello"), 0, 1, 1, 0},
		{"one of no channel", func() {
			_, err := h.Connect(ctx, gone, presence.ConnectOptions{Login: true})
			require.NoError(t, err)
		}, 0, 0, 0, 0},
		{"work for another work channel", func() {
			require.NoError(t, h.SetLoad(ctx, ann, presence.Load{On: "calls", N: 1}))
			add("calls", "calls")
		}, 1, 3, 2, 1},
		{"an agent of two work channels", reason("there"), 0, 1, 1, 0},
		{"a member that takes nothing is erased", func() { require.NoError(t, h.Erase(ctx, bob)) }, 0, 1, 0, 0},
	} {
		d.members, d.states, belongs, asked = 0, 0, 0, 0
		tt.act()
		h.step(t)
		require.Equal(t, []int{tt.members, tt.states, tt.belongs, tt.asked}, []int{d.members, d.states, belongs, asked}, tt.name)
	}
}

// belonging counts the questions whether a subject is a member.
type belonging struct {
	*counted
	asked *int
}

func (b *belonging) Belongs(ctx context.Context, subject presence.Ref, channel presence.Channel) (bool, error) {
	*b.asked++
	return b.counted.Belongs(ctx, subject, channel)
}

// A channel that an agent is granted is served at the next step, whatever the agent did
// between.
func TestGrantBeforeAnotherChange(t *testing.T) {
	h := newHouse(t, chats(nil), routing.Options{})
	h.employ(t, ann, "online")
	sales := presence.ChannelID("sales")
	_, err := h.queue.Add(t.Context(), routing.Work{ID: "w", Channel: sales})
	require.NoError(t, err)
	h.step(t)
	require.NoError(t, h.AddMember(t.Context(), sales, ann))
	h.claim(t, presence.Agent(ann), ann, "busy")
	h.claim(t, presence.Agent(ann), ann, "online")
	h.step(t)
	require.Equal(t, "ann", h.place(t, "w"))
}

// Next has the first of the openings that hold work back and of the offers that must
// be started, whatever the order of the work. An opening that is not known, or that
// is not after now, is none.
func TestNextIsTheFirst(t *testing.T) {
	a, b := presence.ChannelID("a"), presence.ChannelID("b")
	synctest.Test(t, func(t *testing.T) {
		begin := presence.At(time.Now())
		at := func(seconds int) presence.Instant { return begin.Add(time.Duration(seconds) * time.Second) }
		for _, tt := range []struct {
			opens map[presence.Channel]presence.Instant // 0 means not known
			order []presence.Channel
			want  presence.Instant
		}{
			{map[presence.Channel]presence.Instant{a: at(5), b: at(8)}, []presence.Channel{a, b}, at(5)},
			{map[presence.Channel]presence.Instant{a: at(5), b: at(8)}, []presence.Channel{b, a}, at(5)},
			{map[presence.Channel]presence.Instant{a: at(5), b: 0}, []presence.Channel{a, b}, at(5)},
			{map[presence.Channel]presence.Instant{a: at(5), b: 0}, []presence.Channel{b, a}, at(5)},
			{map[presence.Channel]presence.Instant{a: at(5)}, []presence.Channel{a, desk}, at(5)},
			{map[presence.Channel]presence.Instant{a: at(20)}, []presence.Channel{a, desk}, at(10)},
			{map[presence.Channel]presence.Instant{a: at(20)}, []presence.Channel{desk, a}, at(10)},
			{map[presence.Channel]presence.Instant{a: 0}, []presence.Channel{a}, 0},
			{map[presence.Channel]presence.Instant{a: at(0)}, []presence.Channel{a}, 0},
			{map[presence.Channel]presence.Instant{a: at(-1)}, []presence.Channel{a}, 0},
			{nil, []presence.Channel{a, desk}, at(10)},
			{nil, []presence.Channel{a}, 0},
		} {
			h := newHouse(t, chats(func(w *presence.WorkRule) { w.AcceptWithin = 10 * time.Second }), routing.Options{
				Closing: routing.ClosingHold, Open: func(channel presence.Channel, _ presence.Instant) (bool, presence.Instant) {
					next, shut := tt.opens[channel]
					return !shut, next
				},
			})
			h.employ(t, ann, "online")
			for _, channel := range tt.order {
				_, err := h.queue.Add(t.Context(), routing.Work{ID: channel.ID, Channel: channel})
				require.NoError(t, err)
			}
			h.step(t)
			next, known := h.queue.Next()
			require.Equal(t, tt.want, next, "%v", tt)
			require.Equal(t, tt.want != 0, known)
		}
	})
}

// While work is held, a change of any agent lets the queue ask again whether the
// channel is open, whatever else waits.
func TestHeldWorkIsAskedForAgain(t *testing.T) {
	for _, held := range []string{"first", "last"} {
		closed := true
		shut := presence.ChannelID("shut")
		h := newHouse(t, chats(func(w *presence.WorkRule) { w.Capacity = 2 }), routing.Options{
			Closing: routing.ClosingHold, Open: func(channel presence.Channel, _ presence.Instant) (bool, presence.Instant) {
				return channel != shut || !closed, 0
			},
		})
		h.employ(t, ann, "online")
		require.NoError(t, h.AddMember(t.Context(), shut, ann))
		h.add(t, "given")
		for _, id := range map[string][]string{"first": {"shut", "waits"}, "last": {"waits", "shut"}}[held] {
			_, err := h.queue.Add(t.Context(), routing.Work{ID: id, Channel: map[string]presence.Channel{"shut": shut, "waits": desk}[id], Weight: map[string]int{"shut": 1, "waits": 2}[id]})
			require.NoError(t, err)
		}
		h.step(t)
		require.Equal(t, "queued", h.place(t, "shut"))
		closed = false
		_, err := h.SetClaim(t.Context(), presence.Agent(ann), ann, presence.Claim{Status: "online", Text: "hello"}) // takes what it took
		require.NoError(t, err)
		h.step(t)
		require.Equal(t, "ann", h.place(t, "shut"), held)
	}
}

// A refusal for a closed channel has the instant at which the channel opens.
func TestRefusalHasTheOpening(t *testing.T) {
	opens := presence.At(time.Date(2026, 1, 5, 9, 0, 0, 0, time.UTC))
	h := newHouse(t, chats(nil), routing.Options{Open: func(channel presence.Channel, _ presence.Instant) (bool, presence.Instant) {
		return channel != desk, opens
	}})
	_, err := h.queue.Add(t.Context(), routing.Work{ID: "w", Channel: desk})
	var refusal *presence.Error
	require.True(t, errors.As(err, &refusal))
	require.ErrorIs(t, err, presence.ErrNotAllowed)
	require.Equal(t, opens, refusal.Until)
	require.Equal(t, "desk", refusal.Given)
}

// A client is known as long as one piece of its work is, in whatever place.
func TestClientsAreKnownByTheirWork(t *testing.T) {
	nobody := presence.ChannelID("nobody") // has no members
	for _, left := range []struct{ waiting, given, done int }{
		{0, 0, 0}, {1, 0, 0}, {0, 1, 0}, {0, 0, 1}, {1, 1, 0}, {1, 0, 1}, {0, 1, 1}, {2, 0, 2}, {1, 1, 2},
	} {
		h := newHouse(t, chats(nil), routing.Options{MaxDone: max(left.done, 1)})
		h.employ(t, ann, "online")
		n := 0
		add := func(channel presence.Channel, client string) string {
			n++
			w := routing.Work{ID: fmt.Sprint("w", n), Channel: channel, Client: client}
			_, err := h.queue.Add(t.Context(), w)
			require.NoError(t, err)
			return w.ID
		}
		h.finish(t, add(desk, "kim")) // is forgotten below
		for range left.waiting {
			require.Equal(t, "queued", h.place(t, add(nobody, "kim")))
		}
		for range left.given {
			require.Equal(t, "ann", h.place(t, add(desk, "kim")))
		}
		for range left.done {
			h.finish(t, add(desk, "kim"))
		}
		if left.done == 0 {
			h.finish(t, add(desk, ""))
		}
		_, there := h.queue.Get("w1")
		require.False(t, there)
		w, err := h.queue.Message(t.Context(), "kim")
		if left.waiting+left.given+left.done == 0 {
			require.ErrorIs(t, err, presence.ErrUnknown)
		} else {
			require.NoError(t, err, "%+v", left)
			require.Equal(t, left.given == 0 && left.waiting > 0, w.Channel == nobody, "%+v: %+v", left, w)
		}
	}
}

// Offers of one instant return to the line in the order of giving. The end of work that
// is done already changes nothing.
func TestOffersOfOneInstant(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var moves []string
		h := newHouse(t, chats(func(w *presence.WorkRule) { w.AcceptWithin = 10 * time.Second }), routing.Options{
			Observe: func(w routing.Work) { moves = append(moves, fmt.Sprint(w.ID, " ", w.Place)) },
		})
		h.employ(t, ann, "online")
		for _, id := range []string{"c", "a", "b"} {
			require.Equal(t, ann, h.add(t, id).Agent)
		}
		moves = nil
		time.Sleep(10 * time.Second)
		h.step(t)
		require.Equal(t, []string{"c queued", "a queued", "b queued"}, moves)
		h.finish(t, "a")
		done, _ := h.queue.Get("a")
		moves = nil
		again, err := h.queue.Finish(t.Context(), "a")
		require.NoError(t, err)
		require.Equal(t, done, again)
		require.Empty(t, moves)
	})
}

// A client stays with its agent until the instant at which the affinity ends.
func TestAffinityEndsAtItsInstant(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for after, want := range map[time.Duration]string{10*time.Second - 1: "bob", 10 * time.Second: "ann"} {
			h := newHouse(t, chats(func(w *presence.WorkRule) { w.Affinity = 10 * time.Second }), routing.Options{})
			h.employ(t, bob, "online")
			_, err := h.queue.Add(t.Context(), routing.Work{ID: "w1", Channel: desk, Client: "kim"})
			require.NoError(t, err)
			h.employ(t, ann, "online")
			h.finish(t, "w1")
			h.add(t, "other") // ann is the one with less to do
			if h.place(t, "other") == "ann" {
				h.finish(t, "other")
				_, err = h.queue.Assign(t.Context(), boss, "other", bob)
				require.NoError(t, err)
			}
			time.Sleep(after)
			_, err = h.queue.Add(t.Context(), routing.Work{ID: "w2", Channel: desk, Client: "kim"})
			require.NoError(t, err)
			require.Equal(t, want, h.place(t, "w2"), "%v", after)
		}
	})
}

// Work meant for an agent, or of an agent's client, is given to another one at once if
// that agent refuses it.
func TestAnotherAgentAtOnce(t *testing.T) {
	for name, w := range map[string]routing.Work{"meant": {To: bob}, "client": {Client: "kim"}} {
		h := newHouse(t, chats(nil), routing.Options{})
		h.employ(t, bob, "online")
		_, err := h.queue.Add(t.Context(), routing.Work{ID: "old", Channel: desk, Client: "kim"})
		require.NoError(t, err)
		require.Equal(t, "bob", h.place(t, "old"))
		h.employ(t, ann, "online")
		h.step(t)
		h.hook = func() { require.NoError(t, h.Logout(t.Context(), bob)) } // between the look-up and the offer
		w.ID, w.Channel = "new", desk
		got, err := h.queue.Add(t.Context(), w)
		require.NoError(t, err)
		require.Equal(t, ann, got.Agent, name)
	}
}

// A member without room, or whose status takes none, is no candidate, and with one free
// place it is. There may be none.
func TestCandidatesTakeWork(t *testing.T) {
	full := routing.Member{Subject: presence.ID("full"), Routing: presence.RouteAll, Bounded: true}
	one := routing.Member{Subject: presence.ID("one"), Routing: presence.RouteAll, Bounded: true, Room: 1}
	last := routing.Member{Subject: presence.ID("last"), Routing: presence.RouteLast}
	sticky := routing.Member{Subject: presence.ID("a"), Routing: presence.RouteSticky}
	require.Empty(t, routing.Candidates([]routing.Member{full, sticky}, "", presence.Ref{}))
	require.Equal(t, []routing.Member{one, last}, routing.Candidates([]routing.Member{sticky, last, full, one}, "", presence.Ref{}))
	require.Equal(t, []routing.Member{one}, routing.Candidates([]routing.Member{one}, "", presence.Ref{}))
}

// Work that a subject is given after it left stays for the time of the policy, and is
// then taken from it once. It is not taken by a requeue at whose revision it was given.
func TestWorkGivenToOneThatLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := chats(func(w *presence.WorkRule) { w.RequeueAfter = time.Minute })
		require.NoError(t, p.Set("statuses.offline.routing", "last"))
		h := newHouse(t, p, routing.Options{})
		h.employ(t, ann, "online")
		require.Equal(t, ann, h.add(t, "w").Agent)
		require.NoError(t, h.Logout(t.Context(), ann))
		h.step(t)
		pass := func(d time.Duration) (w routing.Work, requeued presence.Instant) {
			time.Sleep(d)
			_, err := h.Sweep(t.Context())
			require.NoError(t, err)
			h.step(t)
			s, err := h.State(t.Context(), ann)
			require.NoError(t, err)
			w, _ = h.queue.Get("w")
			require.Equal(t, routing.Given, w.Place, "nobody else takes it")
			require.Equal(t, 1, h.load(t, ann))
			return w, s.Work.Requeued
		}
		began := presence.At(time.Now())
		_, requeued := pass(time.Minute - 1)
		require.Zero(t, requeued)
		for range 3 {
			_, before := pass(0)
			w, requeued := pass(1)
			require.Greater(t, requeued, before)
			require.Equal(t, requeued, w.Revision, "it was given right after")
			require.Equal(t, []string{"w"}, h.queue.Taken(ann))
			require.Equal(t, presence.At(time.Now()), w.Since)
			pass(time.Minute - 1)
			again, _ := h.queue.Get("w")
			require.Equal(t, w, again)
		}
		require.Equal(t, 4*time.Minute-1, presence.At(time.Now()).Sub(began))
	})
}

// Work that the queue does not know is unknown to every call.
func TestUnknownWork(t *testing.T) {
	h := newHouse(t, chats(nil), routing.Options{})
	h.employ(t, ann, "online")
	for name, err := range map[string]error{
		"assign": second(h.queue.Assign(ctx, boss, "none", ann)), "transfer": second(h.queue.Transfer(ctx, boss, "none", desk)),
		"decline": second(h.queue.Decline(ctx, "none", ann)), "finish": second(h.queue.Finish(ctx, "none")), "start": second(h.queue.Start("none")),
	} {
		require.ErrorIs(t, err, presence.ErrUnknown, name)
	}
	_, there := h.queue.Get("none")
	require.False(t, there)
}
