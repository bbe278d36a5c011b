package presence_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/presence-go/presence"
	"github.com/presence-go/presence/internal/seeds"
)

// Fault 11, devices.NAME.rank and devices.NAME.ceiling: whichever devices count,
// speak or show less under policies that follow each other, the status is that of
// the naive model, which reads every act again.
func TestDevicesAgreeWithNaiveModel(t *testing.T) {
	t.Parallel()
	alone, ceilings, ranked := 0, 0, 0
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
				if seed%2 == 0 {
					rule.Rank = r.IntN(3) - 1
				}
				if less := p.Statuses[r.IntN(len(p.Statuses))]; r.IntN(2) == 0 && less.Class != presence.ClassAvailable {
					rule.Ceiling = less.ID
				}
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
				whole := func(c presence.ConnState) bool { return f.policy.Devices[c.Device].Ceiling == "" }
				if len(f.s.Conns) > 0 && !f.s.Current.Disabled && !slices.ContainsFunc(f.s.Conns, whole) {
					if ceilings++; f.s.Current.Class == presence.ClassAvailable {
						return fmt.Errorf("%s under ceilings: %+v", f.s.Current.Status, f.s.Conns)
					}
				}
				if slices.ContainsFunc(f.s.Claims, func(c presence.Claim) bool { return c.Conn != "" }) && len(f.s.Conns) > 1 {
					ranked++
				}
			}
			return compareWithNaive(h, h.policies)
		})
	})
	seeds.Count(t, "events while idle where no device counts", alone)
	seeds.Count(t, "events under ceilings alone", ceilings)
	seeds.Count(t, "events with votes of several devices", ranked)
	if !seeds.Single() {
		require.Greater(t, min(alone, ceilings, ranked), 50)
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

// devices.NAME.ceiling: while every connection is of a device with a ceiling, a
// status of class available is not shown. The choice stays beneath.
func TestCeilingOfDevices(t *testing.T) {
	t.Parallel()
	p := presence.DefaultPolicy()
	p.Statuses = append(p.Statuses, presence.Status{ID: "gone", Class: presence.ClassOffline}, presence.Status{ID: "chat", Class: presence.ClassAvailable})
	p.Devices = map[string]presence.DeviceRule{"mobile": {Ceiling: "away"}, "watch": {Ceiling: "gone"}}
	x := newSubject(t, p)
	at := func(conn, device string) presence.Event {
		return presence.Event{Kind: presence.EventLogin, Conn: conn, Device: device, Age: presence.NoAge}
	}
	want := func(status string, cause presence.Cause, masked string) {
		t.Helper()
		got := x.s.Current
		require.Equal(t, [3]string{status, string(cause), masked}, [3]string{got.Status, string(got.Cause), got.Masked})
	}
	x.do(0, at("watch", "watch"))
	want("gone", presence.CauseIdle, "available")
	x.do(1, at("phone", "mobile"))
	want("away", presence.CauseIdle, "available")
	require.False(t, x.s.Current.Routable)
	x.do(2, at("desk", ""))
	want("available", presence.CauseDefault, "")
	x.claim(3, presence.Claim{Status: "chat"})
	x.do(4, presence.Event{Kind: presence.EventDisconnect, Conn: "desk", Cause: presence.CauseClosed})
	want("chat", presence.CauseManual, "")
	x.tick(9)
	want("away", presence.CauseIdle, "chat")
	require.Equal(t, second(4), x.s.Current.Since, "when the desk closed")
	require.Contains(t, x.m.Explain(&x.s, presence.AudienceSelf), "only devices are connected that show no more than away")
	x.claim(10, presence.Claim{Status: "busy"})
	want("busy", presence.CauseManual, "")
	x.claim(11, presence.Claim{Status: "available"})
	want("away", presence.CauseIdle, "available")
	x.do(12, presence.Event{Kind: presence.EventLogout, Conn: "phone"})
	want("gone", presence.CauseIdle, "available")
	x.keep(25, 325, "watch")
	want("gone", presence.CauseIdle, "available")
	x.do(330, presence.Event{Kind: presence.EventLogout})
	want("offline", presence.CauseLogout, "available")

	p.Devices["mobile"] = presence.DeviceRule{Ceiling: "chat"}
	_, err := presence.Compile(p)
	require.ErrorContains(t, err, `"devices.mobile.ceiling": "chat" is of class available, which a ceiling replaces; allowed: away, busy, offline, gone`)
	p.Devices["mobile"] = presence.DeviceRule{Ceiling: "nap"}
	_, err = presence.Compile(p)
	require.ErrorContains(t, err, `"devices.mobile.ceiling": "nap" is not a status of this policy`)
}

// devices.NAME.rank: of the connections, those of the greatest rank speak. The others
// are as if they had no claim, and vote for nothing.
func TestRankOfDevices(t *testing.T) {
	t.Parallel()
	p := presence.DefaultPolicy()
	p.ClaimScope = presence.ScopeConnection
	p.Devices = map[string]presence.DeviceRule{"mobile": {Rank: 2}, "tv": {Rank: -1}}
	x := newSubject(t, p)
	enters := func(at float64, conn, device string) {
		x.do(at, presence.Event{Kind: presence.EventLogin, Conn: conn, Device: device, Age: presence.NoAge})
	}
	over := func(at float64, conn, status string) {
		x.do(at, presence.Event{Kind: presence.EventSetClaim, Actor: presence.Agent(ann), Conn: conn, Claim: presence.Claim{Status: status}})
	}
	enters(0, "tv", "tv")
	over(1, "tv", "busy")
	require.Equal(t, "busy", x.s.Current.Status)
	enters(2, "desk", "")
	require.Equal(t, "available", x.s.Current.Status, "the television no longer speaks")
	require.Equal(t, presence.CauseDefault, x.s.Current.Cause)
	x.do(3, presence.Event{Kind: presence.EventSetClaim, Actor: presence.System(presence.ID("host")), Claim: presence.Claim{Status: "away", Source: presence.SourceCalendar}})
	require.Equal(t, "away", x.s.Current.Status, "no device that speaks has a claim")
	over(4, "desk", "busy")
	require.Equal(t, "busy", x.s.Current.Status)
	enters(5, "phone", "mobile")
	require.Equal(t, "away", x.s.Current.Status)
	over(6, "phone", "busy")
	over(7, "desk", "away")
	require.Equal(t, "busy", x.s.Current.Status)
	x.do(8, presence.Event{Kind: presence.EventDisconnect, Conn: "phone", Cause: presence.CauseClosed})
	require.Equal(t, "busy", x.s.Current.Status, "it still counts")
	require.Equal(t, "away", x.tick(13).Status)
}
