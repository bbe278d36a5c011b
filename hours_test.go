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
	"github.com/presence-go/presence/schedule"
)

// turns are hours that change every so often.
type turnsEvery struct {
	every time.Duration
	shut  bool // first
}

func (h turnsEvery) OpenAt(now presence.Instant) (bool, presence.Instant) {
	n := int64(now) / int64(h.every)
	return (n%2 == 0) != h.shut, presence.Instant((n + 1) * int64(h.every))
}

// answers are hours that always answer the same.
type answers struct {
	open bool
	next presence.Instant
}

func (h answers) OpenAt(presence.Instant) (bool, presence.Instant) { return h.open, h.next }

func openingHours(t testing.TB, text string) *schedule.Schedule {
	t.Helper()
	plan, err := schedule.Parse(text)
	require.NoError(t, err)
	s, err := schedule.New(plan, nil)
	require.NoError(t, err)
	return s
}

// hourRuling is policies with every way to read hours.
func hourRuling(seed uint64) ruling {
	r := rand.New(rand.NewPCG(seed, 24))
	policies := []presence.Policy{randomPolicy(r), randomPolicy(r), randomPolicy(r)}
	for i := range policies {
		policies[i].ScheduleOpenEmpty = []string{"offline", "offline", "visible"}[r.IntN(3)]
		policies[i].AssumeStaffed = r.IntN(4) == 0
		policies[i].Group.Away = []string{"away", "offline"}[r.IntN(2)]
		policies[i].Widget.List = []string{"all", "online", "none"}[r.IntN(3)]
	}
	return newRuling(policies...)
}

// bestRung is the status of the group by its members, without hours, found naively.
func bestRung(m *presence.Machine, members []presence.View) string {
	ladder := m.Policy().Group
	best := presence.GroupOffline
	for _, v := range members {
		rung := map[presence.Class]string{
			presence.ClassAvailable: ladder.Available, presence.ClassAway: ladder.Away, presence.ClassBusy: ladder.Busy, presence.ClassDND: ladder.DND,
		}[v.Class]
		if rung == presence.GroupAvailable || rung == presence.GroupAway && best == presence.GroupOffline {
			best = rung
		}
	}
	return best
}

// Invariant 12: to visitors a closed group is offline, an open one is what its
// members are, but for what the policy has about hours, and one more available
// member never lowers it. Hours change nothing else: a watcher that applies every frame
// of a channel with hours has the same list as of one without.
func TestGroupIsGatedByHours(t *testing.T) {
	t.Parallel()
	closed, unstaffed, open := 0, 0, 0
	eachSeed(t, 250, func(t *testing.T, seed uint64) {
		h := ruledHistory(seed, hourRuling(seed), peter, quinn, rosa)
		draw := rand.New(rand.NewPCG(seed, 12))
		hours := turnsEvery{time.Duration(1+draw.IntN(600)) * time.Second, draw.IntN(2) == 0}
		requireAlways(t, h, func(h *history) error {
			with, without := newRoom(h), newRoom(h)
			with.send(with.roster.SetHours(hours, with.now))
			screens, twins := make(map[viewer]*screen), make(map[viewer]*screen)
			for v := range with.sent {
				screens[v], twins[v] = &screen{v: v}, &screen{v: v}
			}
			for i, e := range h.events {
				for _, r := range []*room{with, without} {
					r.feed(e)
					r.pass(r.now) // what was due meanwhile
				}
				for v := range screens {
					for s, r := range map[*screen]*room{screens[v]: with, twins[v]: without} {
						for _, sent := range r.sent[v][s.read:] {
							s.read++
							if err := s.apply(sent.frame); err != nil {
								return fmt.Errorf("event %d (%s), stream of %s: %w", i, e.text(), v.audience, err)
							}
						}
					}
					if got, want := fmt.Sprint(screens[v].rows), fmt.Sprint(twins[v].rows); got != want {
						return fmt.Errorf("event %d (%s): %s lists %s with hours and %s without", i, e.text(), v.audience, got, want)
					}
					if got, want := screens[v].group, with.roster.Group(v.audience, v.subject); got != want {
						return fmt.Errorf("event %d (%s): %s was told of %+v, and it is %+v", i, e.text(), v.audience, got, want)
					}
					if v.audience == presence.AudienceVisitor {
						continue
					}
					got, want := screens[v].group, twins[v].group
					if got.Reason, got.NextOpen = "", 0; got != want {
						return fmt.Errorf("event %d (%s): %s was told of %+v, and without hours of %+v", i, e.text(), v.audience, got, want)
					}
				}
				var members []presence.View
				for _, subject := range with.members() {
					p := with.states[subject].Current
					p.Subject = subject
					members = append(members, with.m.View(&p, presence.AudienceVisitor))
				}
				policy := with.m.Policy()
				want := presence.Group{Status: bestRung(with.m, members)}
				is, next := hours.OpenAt(with.now)
				switch {
				case !is:
					want = presence.Group{Status: presence.GroupOffline, Reason: presence.GroupClosed, NextOpen: next}
					closed++
				case policy.AssumeStaffed:
					want.Status = presence.GroupAvailable
				case policy.ScheduleOpenEmpty == "visible" && want.Status == presence.GroupOffline:
					want = presence.Group{Status: presence.GroupAway, Reason: presence.GroupUnstaffed}
					unstaffed++
				default:
					open++
				}
				got := with.roster.Group(presence.AudienceVisitor, presence.Ref{})
				if got.Count = 0; got != want {
					return fmt.Errorf("event %d (%s) at %s: visitors see %+v, want %+v", i, e.text(), with.now, got, want)
				}
				// One more who is available, on a roster of its own.
				more := presence.NewRoster(presence.ChannelID("desk"), with.m)
				more.SetHours(hours, with.now)
				for _, subject := range with.members() {
					p := with.states[subject].Current
					p.Subject = subject
					more.Put(&p, with.now)
				}
				available := slices.IndexFunc(policy.Statuses, func(s presence.Status) bool { return s.Class == presence.ClassAvailable && len(s.HiddenFrom) == 0 })
				if available < 0 || policy.Disabled {
					continue
				}
				more.Put(&presence.Presence{Subject: presence.ID("more"), Known: true, Status: policy.Statuses[available].ID, Class: presence.ClassAvailable}, with.now)
				ladder := []string{presence.GroupOffline, presence.GroupAway, presence.GroupAvailable}
				if after := more.Group(presence.AudienceVisitor, presence.Ref{}); slices.Index(ladder, after.Status) < slices.Index(ladder, got.Status) {
					return fmt.Errorf("event %d (%s): one more available member lowers %+v to %+v", i, e.text(), got, after)
				}
			}
			return nil
		})
	})
	if !seeds.Single() {
		require.Positive(t, closed)
		require.Positive(t, unstaffed)
		require.Positive(t, open)
	}
}

// countedHours are hours that count how often they are called.
type countedHours struct {
	answers
	calls *int
}

func (h countedHours) OpenAt(now presence.Instant) (bool, presence.Instant) {
	*h.calls++
	return h.answers.OpenAt(now)
}

// What hours answer decides when they are called again, and when the channel opens next,
// also by a clock that is behind.
func TestAnswersOfHours(t *testing.T) {
	m := mustCompile(presence.DefaultPolicy())
	const hour = time.Hour
	for _, tt := range []struct {
		now    presence.Instant
		behind time.Duration
		open   bool
		next   presence.Instant
		calls  presence.Instant // 0 means never
		opens  presence.Instant
	}{
		{now: 50, open: true, next: 70, calls: 70},
		{now: 50, open: false, next: 70, calls: 70, opens: 70},
		{now: 50, open: false, next: 50},
		{now: 50, open: true, next: 49},
		{now: 50, open: false, next: 0},
		{now: -5, open: false, next: 1, calls: 1, opens: 1},
		{now: -5, open: false, next: -1, calls: -1, opens: -1},
		{now: 50, behind: hour, open: false, next: 70, calls: presence.Instant(70 + hour), opens: 70},
		{now: 50, behind: hour, open: false, next: 0},
		{now: 50, behind: hour, open: true, next: 70, calls: presence.Instant(70 + hour)},
	} {
		roster := presence.NewRoster(sales, m)
		roster.Open(presence.AudienceVisitor, presence.Ref{}, func() string { return "e" })
		calls := 0
		require.Empty(t, roster.SetClock(tt.behind, tt.now))
		frames := roster.SetHours(countedHours{answers{tt.open, tt.next}, &calls}, tt.now)
		require.Equal(t, 1, calls)
		want := presence.Group{Status: presence.GroupOffline}
		if !tt.open {
			want.Reason, want.NextOpen = presence.GroupClosed, tt.opens
			require.Len(t, frames, 1)
			require.Equal(t, want, frames[0].Group)
		} else {
			require.Empty(t, frames, "an empty channel that is open")
		}
		require.Equal(t, want, roster.Group(presence.AudienceVisitor, presence.Ref{}))
		next, ok := roster.Next()
		require.Equal(t, tt.calls != 0, ok, "%+v", tt)
		require.Equal(t, tt.calls, next)
		roster.Flush(tt.now + 1)
		if tt.calls == 0 {
			roster.Flush(tt.now.Add(24 * hour))
			require.Equal(t, 1, calls, "the answer does not change: %+v", tt)
		} else {
			roster.Flush(tt.calls - 1)
			before := calls
			roster.Flush(tt.calls)
			require.Equal(t, before+1, calls, "%+v", tt)
		}
		if !tt.open {
			before := calls
			require.Empty(t, roster.SetClock(tt.behind, tt.calls))
			require.Equal(t, before, calls, "the clock is the same")
		}
		roster.SetHours(nil, tt.now)
		_, ok = roster.Next()
		require.False(t, ok, "without hours")
		require.Equal(t, presence.Group{Status: presence.GroupOffline}, roster.Group(presence.AudienceVisitor, presence.Ref{}))
	}
}

// A clock that is set back is announced with what the hours answer by it.
func TestClockOfHoursIsSetBack(t *testing.T) {
	roster := presence.NewRoster(sales, mustCompile(presence.DefaultPolicy()))
	roster.Open(presence.AudienceVisitor, presence.Ref{}, func() string { return "e" })
	roster.SetHours(turnsEvery{time.Hour, true}, presence.Instant(90*time.Minute)) // open from 1 h to 2 h
	require.Empty(t, roster.Group(presence.AudienceVisitor, presence.Ref{}).Reason)
	frames := roster.SetClock(time.Hour, presence.Instant(90*time.Minute))
	require.Len(t, frames, 1)
	require.Equal(t, presence.Group{Status: presence.GroupOffline, Reason: presence.GroupClosed, NextOpen: presence.Instant(time.Hour)}, frames[0].Group)
	require.Empty(t, roster.SetClock(time.Hour, presence.Instant(91*time.Minute)))
}

// What each audience sees of a group within and outside the hours.
func TestGroupWithinHours(t *testing.T) {
	for _, tt := range []struct {
		open, staffed, visible, member bool
		visitor, team                  presence.Group
	}{
		{false, false, false, true, presence.Group{Status: presence.GroupOffline, Count: 1, Reason: presence.GroupClosed}, presence.Group{Status: presence.GroupAvailable, Count: 1, Reason: presence.GroupClosed}},
		{false, true, true, false, presence.Group{Status: presence.GroupOffline, Reason: presence.GroupClosed}, presence.Group{Status: presence.GroupOffline, Reason: presence.GroupClosed}},
		{true, false, false, false, presence.Group{Status: presence.GroupOffline}, presence.Group{Status: presence.GroupOffline}},
		{true, false, true, false, presence.Group{Status: presence.GroupAway, Reason: presence.GroupUnstaffed}, presence.Group{Status: presence.GroupOffline}},
		{true, false, true, true, presence.Group{Status: presence.GroupAvailable, Count: 1}, presence.Group{Status: presence.GroupAvailable, Count: 1}},
		{true, true, true, false, presence.Group{Status: presence.GroupAvailable}, presence.Group{Status: presence.GroupOffline}},
	} {
		p := presence.DefaultPolicy()
		p.AssumeStaffed = tt.staffed
		if tt.visible {
			p.ScheduleOpenEmpty = presence.EmptyVisible
		}
		roster := presence.NewRoster(sales, mustCompile(p))
		roster.SetHours(answers{open: tt.open}, nineSharp)
		if tt.member {
			roster.Put(&presence.Presence{Subject: ann, Known: true, Status: "available", Class: presence.ClassAvailable}, nineSharp)
		}
		require.Equal(t, tt.visitor, roster.Group(presence.AudienceVisitor, presence.Ref{}), "%+v", tt)
		require.Equal(t, tt.team, roster.Group(presence.AudienceTeam, presence.Ref{}), "%+v", tt)
	}
}
