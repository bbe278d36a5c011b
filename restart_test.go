package presence_test

import (
	"bytes"
	"fmt"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/presence-go/presence"
	"github.com/presence-go/presence/internal/seeds"
)

// A state that is packed and unpacked after every step continues like any other:
// the same outputs, deadlines and states.
func TestPackedStatesGoOnAlike(t *testing.T) {
	t.Parallel()
	packed := 0
	eachSeed(t, 400, func(t *testing.T, seed uint64) {
		h := livelyHistory(seed, randomRuling(seed))
		requireAlways(t, h, func(h *history) error {
			k := presence.NewPacker(nineSharp)
			whole, again := follow(h), follow(h)
			for i, e := range h.events {
				want, got := whole.feed(e), again.feed(e)
				if (want == nil) != (got == nil) || whole.next != again.next {
					return fmt.Errorf("event %d (%s): %w, next %s; packed: %w, next %s", i, e.text(), want, whole.next, got, again.next)
				}
				if !reflect.DeepEqual(whole.out, again.out) {
					return fmt.Errorf("event %d (%s):\n want %+v\n got  %+v", i, e.text(), whole.out, again.out)
				}
				if s, ok := k.Again(&again.s); ok {
					again.s = s
					packed++
				}
				if want, got := presence.Own(&whole.s), presence.Own(&again.s); !reflect.DeepEqual(want, got) {
					return fmt.Errorf("event %d (%s):\n want %+v\n got  %+v", i, e.text(), want, got)
				}
			}
			return nil
		})
	})
	seeds.Count(t, "states packed", packed)
	if !seeds.Single() {
		require.Greater(t, packed, 500)
	}
}

// E23, X13, X34: a process that starts again has every claim, endpoint, request and
// note of hiding that the record had. A subject that was connected keeps its status
// for the start-up grace, and one that hides stays hidden then and afterwards. What
// belongs to one connection is left out, and so are the rules of devices.
func TestRestartsKeepWhatIsStored(t *testing.T) {
	t.Parallel()
	restarts, hidden, reachable := 0, 0, 0
	eachSeed(t, 300, func(t *testing.T, seed uint64) {
		rules := randomRuling(seed)
		if seed%2 == 0 {
			rules = hidingRuling(seed, seed%4 == 0)
		}
		h := livelyHistory(seed, rules)
		requireAlways(t, h, func(h *history) error {
			f := follow(h)
			for i, e := range h.events {
				if e.event.Kind != presence.EventRestart || !f.s.Current.Known {
					_ = f.feed(e)
					continue
				}
				_ = f.feed(happened{at: e.at})
				before := f.s.Clone()
				_ = f.feed(e)
				r := restart{f, &before}
				restarts++
				if len(before.Current.HiddenFrom) > 0 {
					hidden++
				}
				if before.Current.Reach >= presence.ReachLingering {
					reachable++
				}
				for _, check := range []func() error{r.stored, r.shown, r.hides} {
					if err := check(); err != nil {
						return fmt.Errorf("event %d (%s): %w", i, e.text(), err)
					}
				}
			}
			return nil
		})
	})
	seeds.Count(t, "restarts", restarts)
	seeds.Count(t, "while hidden", hidden)
	seeds.Count(t, "while reachable", reachable)
	if !seeds.Single() {
		require.Greater(t, min(restarts, reachable), 60)
		require.Greater(t, hidden, 10)
	}
}

// restart is a subject after a restart, and its state before.
type restart struct {
	*follower
	before *presence.State
}

// stored checks what the record keeps.
func (r *restart) stored() error {
	before, after := r.before, &r.s
	again := restored(r.m, before)
	first, err := r.m.Record(before, 1)
	if err != nil {
		return err
	}
	if second, err := r.m.Record(&again, 1); err != nil || !bytes.Equal(first.Data, second.Data) {
		return fmt.Errorf("the record of a record differs: %s, then %s: %w", first.Data, second.Data, err)
	}
	work := func(s *presence.State) (w presence.Work) {
		if s.Work != nil {
			w.Pending, w.Requests, w.Requeued = s.Work.Pending, slices.Clone(s.Work.Requests), s.Work.Requeued
		}
		if len(w.Requests) == 0 {
			w.Requests = nil
		}
		return w
	}
	for _, pair := range [][2]any{
		{work(before), work(after)},
		{append([]presence.Claim{}, before.Claims...), append([]presence.Claim{}, after.Claims...)},
		{append([]presence.Endpoint{}, before.Endpoints...), append([]presence.Endpoint{}, after.Endpoints...)},
		{before.Kind, after.Kind}, {before.Disabled, after.Disabled}, {before.Epoch, after.Epoch}, {before.LoggedIn, after.LoggedIn},
	} {
		if !reflect.DeepEqual(pair[0], pair[1]) {
			return fmt.Errorf("before %+v\n after %+v", pair[0], pair[1])
		}
	}
	return nil
}

// connected reports whether the status may depend on which connections there were.
func (r *restart) connected() bool {
	if slices.ContainsFunc(r.before.Claims, func(c presence.Claim) bool { return c.Conn != "" }) || r.before.Kind != "" && r.before.Kind != presence.KindHuman {
		return true
	}
	for _, rule := range r.policy.Devices {
		if rule.Ceiling != "" || rule.Rank != 0 {
			return true
		}
	}
	return false
}

// shown checks that a connected subject keeps its status for the start-up grace.
func (r *restart) shown() error {
	was, is := &r.before.Current, &r.s.Current
	if r.connected() {
		return nil
	}
	if was.Status != is.Status || was.Since != is.Since || was.Masked != is.Masked {
		return fmt.Errorf("%s (%s) since %s, after the restart %s (%s) since %s", was.Status, was.Masked, was.Since, is.Status, is.Masked, is.Since)
	}
	if was.Reach >= presence.ReachLingering && is.Reach != presence.ReachLingering {
		return fmt.Errorf("it was %s, after the restart %s", was.Reach, is.Reach)
	}
	return nil
}

// hides checks that no audience sees more of a hidden subject, then or once the
// start-up grace has passed.
func (r *restart) hides() error {
	if r.connected() {
		return nil
	}
	later := r.s.Clone()
	out, _, _ := r.m.Step(&later, &presence.Event{}, r.s.Now.Add(r.policy.StartupGrace+r.policy.Grace.Node), nil)
	ended := slices.ContainsFunc(out, func(o presence.Output) bool { // by its time, or with the last connection
		return o.Kind == presence.OutputClaimEnded && (o.Reason == presence.EndUntil || o.Reason == presence.EndDisconnected)
	})
	for _, a := range r.before.Current.HiddenFrom {
		want := r.m.View(&r.before.Current, a)
		if got := r.m.View(&r.s.Current, a); got != want {
			return fmt.Errorf("%s saw %+v, after the restart %+v", a, want, got)
		}
		if got := r.m.View(&later.Current, a); !ended && got != want {
			return fmt.Errorf("%s saw %+v, after the start-up grace %+v", a, want, got)
		}
	}
	return nil
}

// X34: the start-up grace also holds under a policy that gives connections of a dead
// node none.
func TestRestartWithoutNodeGrace(t *testing.T) {
	t.Parallel()
	p := presence.DefaultPolicy()
	p.Grace = presence.Grace{}
	x := newSubject(t, p)
	x.login(0, "tab")
	was := x.tick(5)
	x.s = restored(x.m, &x.s)
	x.do(5, presence.Event{Kind: presence.EventRestart})
	is := x.tick(34.999)
	require.Equal(t, [2]any{was.Status, was.Since}, [2]any{is.Status, is.Since})
	require.Equal(t, presence.ReachLingering, is.Reach)
	is = x.tick(35)
	require.Equal(t, "offline", is.Status)
	require.Equal(t, second(5), is.Since, "when the process started")
}

// X34: a claim that ended while no process ran ends at its instant, and the subject
// still lingers.
func TestClaimEndsBeforeTheRestart(t *testing.T) {
	t.Parallel()
	x := newSubject(t, presence.DefaultPolicy())
	x.login(0, "tab")
	x.claim(5, presence.Claim{Status: "busy", For: 15 * time.Second})
	x.s = restored(x.m, &x.s)
	x.do(30, presence.Event{Kind: presence.EventRestart})
	require.Equal(t, "available", x.s.Current.Status)
	require.Equal(t, second(20), x.s.Current.Since)
	require.Equal(t, presence.ReachLingering, x.s.Current.Reach)
	require.Equal(t, "offline", x.tick(60).Status)
}
