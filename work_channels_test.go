package presence_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/presence-go/presence"
	"github.com/presence-go/presence/internal/naive"
	"github.com/presence-go/presence/internal/seeds"
	"github.com/presence-go/presence/preset"
)

// desk is one subject with several work channels, beside the model of its work.
type desk struct {
	*rand.Rand
	m      *presence.Machine
	policy presence.Policy // as m was compiled from it
	s      presence.State
	model  naive.Desk
	now    presence.Instant
	met    map[string]int
}

var workChannels = []string{"", "", "calls", "chat", "mail"}

// channelPolicy is a policy in which statuses route work channels differently.
func channelPolicy(r *rand.Rand) presence.Policy {
	p := preset.Threads()
	if r.IntN(2) == 0 {
		p = preset.RespondIO()
	}
	p.Lease, p.Idle = time.Hour, nil // most of it happens to an agent that is there
	vary(r, &p)
	return p
}

// vary changes what a policy rules for work.
func vary(r *rand.Rand, p *presence.Policy) {
	p.Work.Capacity, p.Work.Total = r.IntN(4), r.IntN(2)*r.IntN(8)
	p.Work.WrapUp = time.Duration(r.IntN(2)) * time.Duration(1+r.IntN(60)) * time.Second
	p.Work.Settle = time.Duration(r.IntN(2)) * 20 * time.Second
	p.Work.RequeueAfter = time.Duration(r.IntN(2)) * 3 * time.Minute
	p.Virtual = map[string]presence.VirtualRule{"push": {Show: "top", Routable: r.IntN(2) == 0}}
	rules := []presence.Routing{presence.RouteAll, presence.RouteSticky, presence.RouteTransfer, presence.RouteLast, presence.RouteNone}
	for i := range p.Statuses {
		s := &p.Statuses[i]
		s.SelectableBy = nil
		if r.IntN(3) == 0 {
			s.Routing = rules[r.IntN(len(rules))]
		}
		s.RoutingOn = nil
		for _, on := range workChannels {
			if r.IntN(5) == 0 {
				if s.RoutingOn == nil {
					s.RoutingOn = make(map[string]presence.Routing)
				}
				s.RoutingOn[on] = rules[r.IntN(len(rules))]
			}
		}
	}
}

func (d *desk) setPolicy(p presence.Policy) {
	d.m = mustCompile(p)
	d.policy = d.m.Policy()
}

// event is something that may happen, most of it to the work.
func (d *desk) event() presence.Event {
	e := presence.Event{Subject: ann, Actor: presence.Agent(ann), Age: presence.NoAge}
	on := workChannels[d.IntN(len(workChannels))]
	switch d.IntN(18) {
	case 0, 16, 17:
		e.Kind, e.Conn = presence.EventLogin, "a"
	case 1:
		e.Kind, e.Conn = presence.EventConnect, []string{"a", "b"}[d.IntN(2)]
	case 2:
		e.Kind, e.Conn, e.Cause = presence.EventDisconnect, []string{"a", "b"}[d.IntN(2)], []presence.Cause{presence.CauseClosed, presence.CauseLost}[d.IntN(2)]
	case 3:
		e.Kind, e.Conn = presence.EventHeartbeat, "a"
	case 4, 5:
		e.Kind, e.Claim.Status = presence.EventSetClaim, d.policy.Statuses[d.IntN(len(d.policy.Statuses))].ID
		if d.IntN(2) == 0 {
			e.Claim.Status = d.policy.Default
		}
	case 6:
		e.Kind, e.Endpoint, e.Remove = presence.EventEndpoint, presence.Endpoint{ID: "phone", Kind: presence.EndpointPush}, d.IntN(2) == 0
	case 7:
		e.Kind = presence.EventPolicy
	case 8:
		e.Kind, e.Claim.For = presence.EventChallenge, time.Duration(1+d.IntN(60))*time.Second
	case 9, 10:
		e.Kind, e.Load = presence.EventLoad, presence.Load{On: on, N: d.IntN(4)}
		if d.IntN(2) == 0 {
			e.Load.Capacity = presence.NewCount(d.IntN(4))
		}
	case 11, 12, 13:
		e.Kind, e.Load, e.Routing = presence.EventOffer, presence.Load{On: on, N: d.IntN(3)}, []presence.Routing{"", presence.RouteAll, presence.RouteNone}[d.IntN(3)]
	case 14, 15:
		e.Kind, e.Load, e.Reject = presence.EventDone, presence.Load{On: on, N: d.IntN(3)}, d.IntN(4) == 0
	}
	return e
}

// step passes the time to the next event, deadline by deadline, and feeds it.
func (d *desk) step(t *testing.T, label string) {
	t.Helper()
	until := d.now.Add([]time.Duration{0, 0, time.Second, 5 * time.Second, 20 * time.Second, time.Minute}[d.IntN(6)])
	for {
		due, ok := d.m.Next(&d.s)
		if !ok || due > until {
			break
		}
		d.now = max(d.now, due)
		require.NoError(t, d.feed(presence.Event{}), label)
		d.agree(t, label+", at a deadline")
	}
	d.now = until
	e := d.event()
	if e.Kind == presence.EventPolicy {
		if !d.s.Current.Known {
			return
		}
		require.NoError(t, d.feed(presence.Event{}), label) // the old policy has passed the time until now
		p := d.policy.Clone()
		vary(d.Rand, &p)
		d.setPolicy(p)
	}
	label += " " + e.Kind.String() + " on " + e.Load.On
	takes, fits := d.model.Takes(&d.policy, e.Load.On, d.now, d.facts()), false
	if n, limited := d.model.Room(&d.policy, e.Load.On); !limited || n >= max(e.Load.N, 1) {
		fits = true
	}
	err := d.feed(e)
	if e.Kind == presence.EventOffer && e.Routing != presence.RouteNone {
		last, _, _ := d.m.Receives(&d.s, e.Load.On)
		if last != presence.RouteLast && (takes || err == nil) {
			require.Equal(t, takes && fits, err == nil, "%s: the offer", label)
			d.met["offers"]++
		}
		if total := d.policy.Work.Total; err == nil && total > 0 {
			require.LessOrEqual(t, d.s.Work.Total(), total, label)
		}
	}
	d.agree(t, label)
}

// feed feeds an event to the machine, and to the model if it is accepted.
func (d *desk) feed(e presence.Event) error {
	out, _, err := d.m.Step(&d.s, &e, d.now, nil)
	switch e.Kind {
	case presence.EventLoad, presence.EventOffer, presence.EventDone:
		if err == nil {
			d.model.Feed(d.now, e, &d.policy)
		}
	}
	for i := range out {
		if out[i].Kind == presence.OutputRequeue { // nothing was due before the event
			d.model.Take(out[i].At)
		}
	}
	return err
}

// facts are what else decides whether the subject gets work.
func (d *desk) facts() naive.Facts {
	p := &d.s.Current
	f := naive.Facts{
		Status: naive.StatusOf(&d.policy, p.Status), Reach: p.Reach, Routable: d.policy.Virtual["push"].Routable,
		KickedOut: slices.ContainsFunc(d.s.Claims, func(c presence.Claim) bool { return c.Key == presence.KeyKickedOut }),
	}
	if f.Status == nil {
		f.Status = new(presence.Status)
	}
	if w := d.s.Work; w != nil {
		f.Waits, f.Settles = w.Pending != nil, w.Settles
	}
	return f
}

// agree compares what is published with what routing does, and both with the model.
func (d *desk) agree(t *testing.T, label string) {
	t.Helper()
	p := &d.s.Current
	if !p.Known {
		return
	}
	routed := func(on string) bool {
		r, room, limited := d.m.Receives(&d.s, on)
		return r == presence.RouteAll && (!limited || room > 0)
	}
	f := d.facts()
	var names []string
	for _, on := range d.model.Names(&d.policy) {
		takes := d.model.Takes(&d.policy, on, d.now, f)
		require.Equal(t, takes, routed(on), "%s: routing in %s", label, on)
		if takes {
			names = append(names, on)
		}
	}
	takes := d.model.Takes(&d.policy, "", d.now, f)
	require.Equal(t, takes, routed(""), "%s: routing", label)
	require.Equal(t, takes, p.Routable, "%s: what is published", label)
	require.Equal(t, takes, p.Routing == presence.RouteAll, label)
	require.Equal(t, names, p.RoutableOn.List(), "%s: what is published of the named work channels", label)
	want := ""
	if p.Class == presence.ClassAvailable {
		switch {
		case f.Waits:
			want = presence.LabelFinishing
		case !takes:
			want = presence.LabelNotReceiving
		case d.model.Sum() == 0:
			want = presence.LabelFree
		default:
			want = presence.LabelActive
		}
	}
	require.Equal(t, want, p.Label, label)
	view := d.m.View(p, presence.AudienceRouter)
	require.Equal(t, [3]any{p.Routable, p.RoutableOn, p.Label}, [3]any{view.Routable, view.RoutableOn, view.Work}, label)
	d.met[fmt.Sprintf("routable %t, others %t", takes, len(names) > 0)]++
	d.met["label "+want]++
}

// Fault 19 and invariant 9: what is published of a subject is what routing does, for
// the work channel without a name and for those with one, over random loads,
// policies and changes of policy. Wrapping up, one limit over all work channels and
// settling are a part of both.
func TestPublishedIsRouted(t *testing.T) {
	t.Parallel()
	met := make(map[string]int)
	eachSeed(t, 400, func(t *testing.T, seed uint64) {
		d := &desk{Rand: rand.New(rand.NewPCG(seed, 19)), now: nineSharp, met: met}
		d.setPolicy(channelPolicy(d.Rand))
		require.NoError(t, d.feed(presence.Event{Kind: presence.EventLogin, Subject: ann, Conn: "a", Age: presence.NoAge}))
		for i := range 40 {
			d.step(t, fmt.Sprintf("seed %d, step %d", seed, i))
		}
	})
	t.Log(met)
	if seeds.Single() {
		return
	}
	for _, what := range []string{
		"offers", "routable true, others true", "routable true, others false", "routable false, others true", "routable false, others false",
		"label free", "label active", "label finishing", "label not-receiving",
	} {
		require.Greater(t, met[what], 15, "too few of %s", what)
	}
}

// A view has no list without a named work channel, so the frames of policies and hosts
// that name none are as before.
func TestUnnamedWorkIsPublishedAsBefore(t *testing.T) {
	for _, name := range preset.Names() {
		p, _ := preset.Lookup(name)
		x := newSubject(t, p)
		x.login(0, "tab")
		x.do(1, presence.Event{Kind: presence.EventLoad, Load: presence.Load{N: 1, Capacity: presence.NewCount(2)}})
		for _, a := range []presence.Audience{presence.AudienceSelf, presence.AudienceRouter, presence.AudienceAdmin} {
			data, err := json.Marshal(x.m.View(&x.s.Current, a))
			require.NoError(t, err)
			require.NotContains(t, string(data), "routableOn")
		}
	}
}

// A subject that hides is shown in no work channel to the audience it hides from.
func TestHiddenWorkChannels(t *testing.T) {
	p := presence.DefaultPolicy()
	p.Statuses[1].HiddenFrom = []presence.Audience{presence.AudienceRouter}
	p.Statuses[1].RoutingOn = map[string]presence.Routing{"calls": presence.RouteAll}
	x := newSubject(t, p)
	x.login(0, "tab")
	require.Equal(t, []string{"calls"}, x.m.View(&x.s.Current, presence.AudienceRouter).RoutableOn.List())
	x.claim(1, presence.Claim{Status: "away"})
	require.Equal(t, []string{"calls"}, x.m.View(&x.s.Current, presence.AudienceSelf).RoutableOn.List())
	require.Empty(t, x.m.View(&x.s.Current, presence.AudienceRouter).RoutableOn.List())
}

// A list of work channels is what it was made of, in any order and form.
func TestWorkChannels(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 19))
	for range 500 {
		names := make(map[string]bool)
		for range r.IntN(6) {
			names[[]string{"calls", "chat", "a,b", `"x"`, "ünï", "<&>", strings.Repeat("m", 128)}[r.IntN(7)]] = true
		}
		want := slices.Sorted(maps.Keys(names))
		shuffled := append(slices.Clone(want), "")
		r.Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
		c := presence.NewWorkChannels(append(shuffled, shuffled...)...)
		require.Equal(t, want, c.List())
		require.Equal(t, strings.Join(want, ","), c.String())
		require.Equal(t, c, presence.NewWorkChannels(want...), "lists of the same names are equal")
		data, err := json.Marshal(c)
		require.NoError(t, err)
		plain, err := json.Marshal(append([]string{}, want...))
		require.NoError(t, err)
		require.Equal(t, string(plain), string(data))
		var back presence.WorkChannels
		require.NoError(t, json.Unmarshal(data, &back))
		require.Equal(t, c, back)
		view := presence.View{Subject: ann, Status: "available", RoutableOn: c}
		data, err = json.Marshal(view)
		require.NoError(t, err)
		var again presence.View
		require.NoError(t, json.Unmarshal(data, &again))
		require.Equal(t, view, again)
		require.Equal(t, len(want) == 0, !strings.Contains(string(data), "routableOn"))
	}
	var c presence.WorkChannels
	require.ErrorIs(t, json.Unmarshal([]byte(`"calls"`), &c), presence.ErrInvalid)
	require.NoError(t, json.Unmarshal([]byte("null"), &c))
	require.Zero(t, c)
}

// A wrap-up ends by itself at its instant, whether anything ticks before or not, and
// each end begins another.
func TestWrapUp(t *testing.T) {
	p := presence.DefaultPolicy()
	p.Idle, p.Work.WrapUp, p.Lease = nil, 30*time.Second, time.Hour
	x := newSubject(t, p)
	load := func(at float64, n int) []presence.Output {
		return x.do(at, presence.Event{Kind: presence.EventLoad, Load: presence.Load{N: n}})
	}
	x.login(0, "tab")
	load(1, 2)
	require.True(t, x.s.Current.Routable, "work that begins is no end")
	load(2, 2)
	require.True(t, x.s.Current.Routable, "a report of the same load is no end")
	x.do(9, presence.Event{Kind: presence.EventDone, Reject: true})
	require.True(t, x.s.Current.Routable, "work that passes to another agent has not ended")
	x.do(9, presence.Event{Kind: presence.EventOffer})
	load(10, 1)
	require.False(t, x.s.Current.Routable)
	require.Equal(t, presence.RouteSticky, x.s.Current.Routing)
	_, err := x.try(11, presence.Event{Kind: presence.EventOffer})
	require.ErrorIs(t, err, presence.ErrNotAllowed)
	x.do(11, presence.Event{Kind: presence.EventOffer, Routing: presence.RouteSticky})
	x.do(30, presence.Event{Kind: presence.EventDone})
	x.tick(40)
	require.False(t, x.s.Current.Routable, "the later end counts")
	next, ok := x.m.Next(&x.s)
	require.True(t, ok)
	require.Equal(t, second(60), next)
	revision := x.s.Current.Revision
	require.Contains(t, strings.Join(x.m.Explain(&x.s, presence.AudienceSelf), "\n"), "to wrap up what has ended")
	out := x.do(60, presence.Event{Kind: presence.EventTick})
	require.Len(t, out, 1)
	require.Equal(t, [2]any{presence.OutputUpdated, presence.TriggerLoad}, [2]any{out[0].Kind, out[0].Trigger})
	require.True(t, x.s.Current.Routable)
	require.Greater(t, x.s.Current.Revision, revision, "an offer of before is refused")
	require.NotContains(t, strings.Join(x.m.Explain(&x.s, presence.AudienceSelf), "\n"), "wrap up")

	for path, value := range map[string]string{"work.wrapUp": "-1s", "work.total": "-1"} {
		require.NoError(t, p.Set(path, value))
		_, err := presence.Compile(p)
		require.ErrorContains(t, err, path)
	}
	require.NoError(t, p.Set("work.total", "1000001"))
	_, err = presence.Compile(p)
	require.ErrorContains(t, err, `"work.total": 1000001 is not from 0 to 1000000`)
}
