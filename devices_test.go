package presence_test

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/presence-go/presence"
	"github.com/presence-go/presence/internal/seeds"
)

// Fault 11: whichever devices count under policies that follow each other, people
// become idle as in the naive model, which reads every act again.
func TestIdlenessWhereFewDevicesCount(t *testing.T) {
	t.Parallel()
	alone := 0
	eachSeed(t, 300, func(t *testing.T, seed uint64) {
		r := rand.New(rand.NewPCG(seed, 41))
		var policies []presence.Policy
		for len(policies) < 3 {
			p := randomPolicy(r)
			if r.IntN(3) > 0 {
				p.Idle = presence.DefaultPolicy().Idle
				p.Idle[0].To = leastAvailable(&p)
				p.Idle[0].On = below(&p, p.Idle[0].To)
			}
			for _, device := range []string{"web", "mobile", "kiosk"} {
				rule := p.Devices[device]
				rule.IgnoreInput = r.IntN(2) == 0
				p.Devices[device] = rule
			}
			if _, err := presence.Compile(p); err == nil {
				policies = append(policies, p)
			}
		}
		h := ruledHistory(seed, newRuling(policies...), peter)
		requireAlways(t, h, func(h *history) error {
			f := follow(h)
			for _, e := range h.events {
				_ = f.feed(e)
				counts := func(c presence.ConnState) bool { return !f.policy.Devices[c.Device].IgnoreInput }
				if f.s.Current.Cause == presence.CauseIdle && !slices.ContainsFunc(f.s.Conns, counts) {
					alone++
				}
			}
			return compareWithNaive(h, h.policies)
		})
	})
	seeds.Count(t, "events while idle where no device counts", alone)
	if !seeds.Single() {
		require.Greater(t, alone, 50)
	}
}

// Fault 11: the ways in which only devices that do not count remain of a person.
func TestIdleWhereNoDeviceCounts(t *testing.T) {
	t.Parallel()
	kiosk := presence.DefaultPolicy()
	kiosk.Devices = map[string]presence.DeviceRule{"kiosk": {IgnoreInput: true}}
	kiosk.Lease = time.Hour
	all := kiosk.Clone()
	all.Devices = map[string]presence.DeviceRule{"kiosk": {IgnoreInput: true}, "": {IgnoreInput: true}}
	wall := presence.Event{Kind: presence.EventConnect, Conn: "wall", Device: "kiosk", Age: presence.NoAge}
	enters := wall
	enters.Kind = presence.EventLogin
	for name, tt := range map[string]struct {
		before func(x *subject) // until 60 s
		idle   float64          // when the person becomes idle, in seconds
	}{
		"a first connect": {func(x *subject) { x.do(0, wall) }, 300},
		"a first login":   {func(x *subject) { x.do(0, enters) }, 300},
		"a login":         {func(x *subject) { x.do(0, wall); x.do(50, enters) }, 350},
		"its input":       {func(x *subject) { x.do(0, wall); x.do(50, presence.Event{Kind: presence.EventInput, Conn: "wall"}) }, 300},
		"a choice":        {func(x *subject) { x.do(0, wall); x.claim(50, presence.Claim{Status: "available"}) }, 350},
		"a choice over it": {func(x *subject) {
			x.do(0, wall)
			x.do(50, presence.Event{Kind: presence.EventSetClaim, Conn: "wall", Actor: presence.Agent(ann), Claim: presence.Claim{Status: "available"}})
		}, 350},
		"a desk that closed": {func(x *subject) {
			x.login(0, "desk")
			x.do(10, presence.Event{Kind: presence.EventDisconnect, Conn: "desk", Cause: presence.CauseClosed})
			x.do(12, enters)
		}, 312},
		"a policy": {func(x *subject) {
			x.login(0, "desk")
			x.do(20, presence.Event{Kind: presence.EventInput, Conn: "desk"})
			x.m = mustCompile(all)
			x.do(50, presence.Event{Kind: presence.EventPolicy})
		}, 320},
		"another device": {func(x *subject) {
			x.login(0, "wall")
			x.do(20, presence.Event{Kind: presence.EventInput, Conn: "wall"})
			x.do(50, wall)
		}, 320},
	} {
		t.Run(name, func(t *testing.T) {
			x := newSubject(t, kiosk)
			tt.before(x)
			require.Equal(t, "available", x.tick(60).Status)
			require.Equal(t, "available", x.tick(tt.idle-0.001).Status)
			p := x.tick(tt.idle)
			require.Equal(t, "away", p.Status)
			require.Equal(t, presence.CauseIdle, p.Cause)
			require.Equal(t, second(tt.idle), p.Since)
		})
	}
	for _, kind := range []presence.SubjectKind{presence.KindBot, presence.KindService} {
		x := newSubject(t, kiosk)
		e := wall
		e.SubjectKind = kind
		x.do(0, e)
		require.Equal(t, "available", x.tick(3000).Status, kind)
	}
}
