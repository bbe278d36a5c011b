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
