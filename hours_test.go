package presence_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/benbjohnson/clock"
	"github.com/stretchr/testify/require"

	"github.com/presence-go/presence"
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

// hourRulings are policies with every way to read hours.
var hourRulings = sync.OnceValue(func() (list []ruling) {
	r := rand.New(rand.NewPCG(5, 1))
	for range 40 {
		policies := []presence.Policy{randomPolicy(r), randomPolicy(r), randomPolicy(r)}
		for i := range policies {
			policies[i].ScheduleOpenEmpty = []string{"offline", "offline", "visible"}[r.IntN(3)]
			policies[i].AssumeStaffed = r.IntN(4) == 0
			policies[i].Group.Away = []string{"away", "offline"}[r.IntN(2)]
			policies[i].Widget.List = []string{"all", "online", "none"}[r.IntN(3)]
		}
		list = append(list, newRuling(policies...))
	}
	return list
})

// bestRung is the group's rung as members alone make it, found naively.
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
// members are, but for what the policy says of hours, and one more available
// member never lowers it. Hours change nothing else: whoever applies every frame
// of a channel with hours has the same list as of one without.
func TestGroupIsGatedByHours(t *testing.T) {
	t.Parallel()
	closed, unstaffed, open := 0, 0, 0
	eachSeed(t, 250, func(t *testing.T, seed uint64) {
		list := hourRulings()
		h := ruledHistory(seed, list[seed%uint64(len(list))], peter, quinn, rosa)
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
					r.pass(r.now) // what came due while nobody looked
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
	require.Positive(t, closed)
	require.Positive(t, unstaffed)
	require.Positive(t, open)
}

// Watchers hear of opening and closing when it happens, and of nothing else.
func TestWatchersSeeHoursPass(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t, nil) // the bubble starts at midnight
		ctx := t.Context()
		require.NoError(t, d.AddMember(ctx, sales, ann))
		w := d.watch(visitor, sales)
		f, err := w.Next(ctx)
		require.NoError(t, err)
		require.Equal(t, presence.Group{Status: presence.GroupOffline}, f.Group)

		c := d.login(ann, "a")
		beat(t, c)
		f, err = w.Next(ctx)
		require.NoError(t, err)
		require.Equal(t, presence.Group{Status: presence.GroupAvailable, Count: 1}, f.Group)

		midnight := time.Now()
		require.NoError(t, d.SetHours(ctx, sales, openingHours(t, "mon-sun 00:02-00:04")))
		f, err = w.Next(ctx)
		require.NoError(t, err)
		require.Empty(t, f.Changes)
		require.Equal(t, presence.Group{Status: presence.GroupOffline, Count: 1, Reason: presence.GroupClosed, NextOpen: presence.At(midnight.Add(2 * time.Minute))}, f.Group)
		require.Equal(t, midnight, time.Now())

		f, err = w.Next(ctx)
		require.NoError(t, err)
		require.Empty(t, f.Changes)
		require.Equal(t, presence.Group{Status: presence.GroupAvailable, Count: 1}, f.Group)
		require.Equal(t, midnight.Add(2*time.Minute), time.Now())

		f, err = w.Next(ctx)
		require.NoError(t, err)
		require.Equal(t, presence.GroupClosed, f.Group.Reason)
		require.Equal(t, presence.At(midnight.Add(24*time.Hour+2*time.Minute)), f.Group.NextOpen)
		require.Equal(t, midnight.Add(4*time.Minute), time.Now())
		require.Equal(t, "available", d.status(ann))

		require.NoError(t, d.SetHours(ctx, sales, nil))
		f, err = w.Next(ctx)
		require.NoError(t, err)
		require.Equal(t, presence.Group{Status: presence.GroupAvailable, Count: 1}, f.Group)
	})
}

// rungAt sweeps and returns what visitors are told.
func rungAt(t *testing.T, tracker *presence.Tracker, channel presence.Channel) presence.Group {
	t.Helper()
	_, group, err := tracker.ListAs(t.Context(), presence.AudienceVisitor, channel, nil)
	require.NoError(t, err)
	return group
}

func newHourly(t *testing.T, policy presence.Policy) (*presence.Tracker, *clock.Mock) {
	t.Helper()
	mock := clock.NewMock()
	mock.Set(time.Date(2026, 1, 5, 8, 0, 0, 0, time.UTC))
	tracker, err := presence.New(&presence.Options{Clock: mock, Policy: &policy})
	require.NoError(t, err)
	t.Cleanup(func() { _ = tracker.Close() })
	return tracker, mock
}

func staffed() presence.Policy {
	p := presence.DefaultPolicy()
	p.AssumeStaffed = true
	return p
}

// Opening and closing are deadlines like others, of many channels, and those of
// hours that were replaced are none.
func TestHoursAreDeadlines(t *testing.T) {
	tracker, mock := newHourly(t, staffed())
	for i := range 24 {
		require.NoError(t, tracker.SetHours(t.Context(), presence.ChannelID(fmt.Sprintf("c%d", i)), openingHours(t, fmt.Sprintf("mon %d:30-%d:45", i, i))))
	}
	require.NoError(t, tracker.SetHours(t.Context(), sales, openingHours(t, "mon 08:10-08:20")))
	require.NoError(t, tracker.SetHours(t.Context(), sales, openingHours(t, "mon 08:35-08:50")))
	for _, tt := range []struct{ now, next string }{
		{"08:00", "08:10"}, // of the hours that were replaced: nothing comes of it
		{"08:10", "08:30"}, {"08:30", "08:35"}, {"08:35", "08:45"}, {"08:45", "08:50"}, {"08:50", "09:30"}, {"23:50", ""},
	} {
		now, err := time.Parse("15:04", tt.now)
		require.NoError(t, err)
		mock.Set(time.Date(2026, 1, 5, now.Hour(), now.Minute(), 0, 0, time.UTC))
		next, err := tracker.Sweep(t.Context())
		require.NoError(t, err)
		if tt.next != "" {
			require.Equal(t, tt.next, next.Time().Format("15:04"), tt.now)
		}
		open := tt.now >= "08:35" && tt.now < "08:50"
		require.Equal(t, open, rungAt(t, tracker, sales).Status == presence.GroupAvailable, tt.now)
	}
	require.Equal(t, presence.At(time.Date(2026, 1, 12, 8, 35, 0, 0, time.UTC)), rungAt(t, tracker, sales).NextOpen)
}

// A channel with hours is remembered although nobody is in it, and forgotten
// when they are taken away.
func TestHoursKeepTheirChannel(t *testing.T) {
	policy := staffed()
	tracker, err := presence.New(&presence.Options{Policy: &policy, MaxChannels: 1})
	require.NoError(t, err)
	defer tracker.Close()
	ctx := t.Context()
	require.NoError(t, tracker.SetHours(ctx, sales, nil))
	require.NoError(t, tracker.SetHours(ctx, sales, answers{open: true}))
	w, err := tracker.Watch(ctx, visitor, sales, presence.WatchOptions{})
	require.NoError(t, err)
	require.NoError(t, w.Close())
	require.Equal(t, presence.GroupAvailable, rungAt(t, tracker, sales).Status)
	require.ErrorIs(t, tracker.SetHours(ctx, presence.ChannelID("other"), answers{}), presence.ErrLimit)
	require.NoError(t, tracker.SetHours(ctx, sales, nil))
	require.NoError(t, tracker.SetHours(ctx, presence.ChannelID("other"), answers{}))
	require.ErrorIs(t, tracker.SetHours(ctx, presence.ChannelID("\xff"), answers{}), presence.ErrInvalid)
	require.NoError(t, tracker.Close())
	require.ErrorIs(t, tracker.SetHours(ctx, sales, answers{}), presence.ErrClosed)
}

// Hours whose next change lies in the past, or never comes, keep nobody busy.
func TestHoursThatAnswerOddly(t *testing.T) {
	tracker, mock := newHourly(t, staffed())
	for _, next := range []presence.Instant{0, 1, -1, math.MinInt64, presence.At(mock.Now()), math.MaxInt64} {
		for _, open := range []bool{true, false} {
			require.NoError(t, tracker.SetHours(t.Context(), sales, answers{open, next}))
			group := rungAt(t, tracker, sales)
			require.Equal(t, open, group.Status == presence.GroupAvailable)
			require.Equal(t, !open && next == math.MaxInt64, group.NextOpen != 0)
		}
	}
}

// Hours go by the clock on the wall. When that has been set back, they wait for
// it, and what is announced is what it will show.
func TestHoursFollowTheWallClock(t *testing.T) {
	tracker, mock := newHourly(t, staffed())
	start := mock.Now()
	nine := presence.At(start.Add(time.Hour))
	require.NoError(t, tracker.SetHours(t.Context(), sales, openingHours(t, "mon-fri 09:00-17:00")))
	require.Equal(t, nine, rungAt(t, tracker, sales).NextOpen)
	mock.Set(start.Add(59 * time.Minute))
	rungAt(t, tracker, sales)
	mock.Set(start.Add(29 * time.Minute)) // it was half an hour fast
	require.Equal(t, presence.Group{Status: presence.GroupOffline, Reason: presence.GroupClosed, NextOpen: nine}, rungAt(t, tracker, sales))
	require.NoError(t, tracker.SetHours(t.Context(), presence.ChannelID("late"), openingHours(t, "mon-fri 09:00-17:00")))
	for minute := 29; minute <= 62; minute++ {
		mock.Set(start.Add(time.Duration(minute) * time.Minute))
		for _, channel := range []presence.Channel{sales, presence.ChannelID("late")} {
			require.Equal(t, minute >= 60, rungAt(t, tracker, channel).Status == presence.GroupAvailable, "%d minutes past eight, %s", minute, channel)
		}
	}
	mock.Set(start) // and again, while open
	require.Equal(t, nine, rungAt(t, tracker, sales).NextOpen)
}

// X39: after an update of the zones' data, hours that are made anew and set again
// are asked anew, at once and for what comes.
func TestX39ZoneDataChanges(t *testing.T) {
	tracker, mock := newHourly(t, staffed())
	plan, err := schedule.Parse("mon 09:00-17:00; zone Europe/Berlin")
	require.NoError(t, err)
	in := func(name string) presence.Hours {
		zone, err := time.LoadLocation(name)
		require.NoError(t, err)
		s, err := schedule.New(plan, &schedule.Options{Location: zone})
		require.NoError(t, err)
		return s
	}
	mock.Set(time.Date(2026, 1, 5, 6, 30, 0, 0, time.UTC))
	require.NoError(t, tracker.SetHours(t.Context(), sales, in("Europe/Berlin")))
	require.Equal(t, "2026-01-05T08:00:00Z", rungAt(t, tracker, sales).NextOpen.String())
	require.NoError(t, tracker.SetHours(t.Context(), sales, in("Europe/Helsinki"))) // as if Berlin's clocks had gone there
	require.Equal(t, "2026-01-05T07:00:00Z", rungAt(t, tracker, sales).NextOpen.String())
	mock.Set(time.Date(2026, 1, 5, 7, 0, 0, 0, time.UTC))
	require.Equal(t, presence.GroupAvailable, rungAt(t, tracker, sales).Status)
	require.NoError(t, tracker.SetHours(t.Context(), sales, in("Europe/Berlin")))
	require.Equal(t, presence.GroupOffline, rungAt(t, tracker, sales).Status)
}

// Whoever comes after closing time opens nothing, also where nobody has noticed
// yet that it is over.
func TestNothingOpensAfterHours(t *testing.T) {
	m := mustCompile(presence.DefaultPolicy())
	roster := presence.NewRoster(sales, m)
	roster.Open(presence.AudienceVisitor, presence.Ref{}, func() string { return "e" })
	hours := turnsEvery{every: time.Hour, shut: int64(nineSharp)/int64(time.Hour)%2 == 1}
	require.Empty(t, roster.SetHours(hours, nineSharp), "open, and as empty as before")
	next, ok := roster.Next()
	require.True(t, ok)
	require.Equal(t, nineSharp.Add(time.Hour), next)
	frames := roster.Put(&presence.Presence{Subject: ann, Known: true, Status: "available", Class: presence.ClassAvailable}, next)
	require.Len(t, frames, 1)
	require.Equal(t, presence.Group{Status: presence.GroupOffline, Count: 1, Reason: presence.GroupClosed, NextOpen: next.Add(time.Hour)}, frames[0].Group)
	require.Empty(t, roster.Flush(next))
}
