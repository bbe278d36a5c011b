package presence_test

import (
	"fmt"
	"math"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/presence-go/presence"
	"github.com/presence-go/presence/schedule"
)

// Watchers hear of opening and closing when it happens, and of nothing else.
func TestWatchersSeeHoursPass(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newRunning(t, nil) // the bubble starts at midnight
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

// group returns what visitors see of a channel.
func (d *testTracker) group(channel presence.Channel) presence.Group {
	d.t.Helper()
	_, group, err := d.ListAs(d.t.Context(), presence.AudienceVisitor, channel, nil)
	require.NoError(d.t, err)
	return group
}

// staffed opens a tracker at eight whose channels are available while open.
func staffed(t *testing.T, opts presence.Options) *testTracker {
	t.Helper()
	p := presence.DefaultPolicy()
	p.AssumeStaffed = true
	opts.Policy, opts.Clock = &p, clockAt(8)
	return newTracker(t, &opts)
}

// Opening and closing are deadlines like others, of many channels, and those of
// hours that were replaced are none.
func TestHoursAreDeadlines(t *testing.T) {
	tracker := staffed(t, presence.Options{})
	for i := range 24 {
		require.NoError(t, tracker.SetHours(t.Context(), presence.ChannelID(fmt.Sprintf("c%d", i)), openingHours(t, fmt.Sprintf("mon %d:30-%d:45", i, i))))
	}
	require.NoError(t, tracker.SetHours(t.Context(), sales, openingHours(t, "mon 08:10-08:20")))
	require.NoError(t, tracker.SetHours(t.Context(), sales, openingHours(t, "mon 08:35-08:50")))
	for _, tt := range []struct{ now, next string }{
		{"08:00", "08:10"}, // of the hours that were replaced: nothing changes
		{"08:10", "08:30"}, {"08:30", "08:35"}, {"08:35", "08:45"}, {"08:45", "08:50"}, {"08:50", "09:30"}, {"23:50", ""},
	} {
		now, err := time.Parse("15:04", tt.now)
		require.NoError(t, err)
		tracker.clock.Set(time.Date(2026, 1, 5, now.Hour(), now.Minute(), 0, 0, time.UTC))
		next, err := tracker.Sweep(t.Context())
		require.NoError(t, err)
		if tt.next != "" {
			require.Equal(t, tt.next, next.Time().Format("15:04"), tt.now)
		}
		open := tt.now >= "08:35" && tt.now < "08:50"
		require.Equal(t, open, tracker.group(sales).Status == presence.GroupAvailable, tt.now)
	}
	require.Equal(t, presence.At(time.Date(2026, 1, 12, 8, 35, 0, 0, time.UTC)), tracker.group(sales).NextOpen)
}

// A channel with hours is kept without a member or watcher, and forgotten when
// the hours are removed.
func TestHoursKeepTheirChannel(t *testing.T) {
	tracker := staffed(t, presence.Options{MaxChannels: 1})
	ctx := t.Context()
	require.NoError(t, tracker.SetHours(ctx, sales, nil))
	require.NoError(t, tracker.SetHours(ctx, sales, answers{open: true}))
	w, err := tracker.Watch(ctx, visitor, sales, presence.WatchOptions{})
	require.NoError(t, err)
	require.NoError(t, w.Close())
	require.Equal(t, presence.GroupAvailable, tracker.group(sales).Status)
	require.ErrorIs(t, tracker.SetHours(ctx, presence.ChannelID("other"), answers{}), presence.ErrLimit)
	require.NoError(t, tracker.SetHours(ctx, sales, nil))
	require.NoError(t, tracker.SetHours(ctx, presence.ChannelID("other"), answers{}))
	require.ErrorIs(t, tracker.SetHours(ctx, presence.ChannelID("\xff"), answers{}), presence.ErrInvalid)
	require.NoError(t, tracker.Close())
	require.ErrorIs(t, tracker.SetHours(ctx, sales, answers{}), presence.ErrClosed)
}

// Hours whose next change lies in the past or beyond the last instant cause no
// loop.
func TestHoursThatAnswerOddly(t *testing.T) {
	tracker := staffed(t, presence.Options{})
	for _, next := range []presence.Instant{0, 1, -1, math.MinInt64, presence.At(tracker.clock.Now()), math.MaxInt64} {
		for _, open := range []bool{true, false} {
			require.NoError(t, tracker.SetHours(t.Context(), sales, answers{open, next}))
			group := tracker.group(sales)
			require.Equal(t, open, group.Status == presence.GroupAvailable)
			require.Equal(t, !open && next == math.MaxInt64, group.NextOpen != 0)
		}
	}
}

// Hours go by the clock on the wall. When that has been set back, they wait for
// it, and what is announced is what it will show.
func TestHoursFollowTheWallClock(t *testing.T) {
	tracker := staffed(t, presence.Options{})
	start := tracker.clock.Now()
	nine := presence.At(start.Add(time.Hour))
	require.NoError(t, tracker.SetHours(t.Context(), sales, openingHours(t, "mon-fri 09:00-17:00")))
	require.Equal(t, nine, tracker.group(sales).NextOpen)
	tracker.clock.Set(start.Add(59 * time.Minute))
	tracker.group(sales)
	tracker.clock.Set(start.Add(29 * time.Minute)) // it was half an hour fast
	require.Equal(t, presence.Group{Status: presence.GroupOffline, Reason: presence.GroupClosed, NextOpen: nine}, tracker.group(sales))
	require.NoError(t, tracker.SetHours(t.Context(), presence.ChannelID("late"), openingHours(t, "mon-fri 09:00-17:00")))
	for minute := 29; minute <= 62; minute++ {
		tracker.clock.Set(start.Add(time.Duration(minute) * time.Minute))
		for _, channel := range []presence.Channel{sales, presence.ChannelID("late")} {
			require.Equal(t, minute >= 60, tracker.group(channel).Status == presence.GroupAvailable, "%d minutes past eight, %s", minute, channel)
		}
	}
	tracker.clock.Set(start) // and again, while open
	require.Equal(t, nine, tracker.group(sales).NextOpen)
}

// X39: after an update of the zones' data, hours that are made and set again
// decide from then on.
func TestX39ZoneDataChanges(t *testing.T) {
	tracker := staffed(t, presence.Options{})
	plan, err := schedule.Parse("mon 09:00-17:00; zone Europe/Berlin")
	require.NoError(t, err)
	in := func(name string) presence.Hours {
		zone, err := time.LoadLocation(name)
		require.NoError(t, err)
		s, err := schedule.New(plan, &schedule.Options{Location: zone})
		require.NoError(t, err)
		return s
	}
	tracker.clock.Set(time.Date(2026, 1, 5, 6, 30, 0, 0, time.UTC))
	require.NoError(t, tracker.SetHours(t.Context(), sales, in("Europe/Berlin")))
	require.Equal(t, "2026-01-05T08:00:00Z", tracker.group(sales).NextOpen.String())
	require.NoError(t, tracker.SetHours(t.Context(), sales, in("Europe/Helsinki"))) // as if Berlin's clocks had gone there
	require.Equal(t, "2026-01-05T07:00:00Z", tracker.group(sales).NextOpen.String())
	tracker.clock.Set(time.Date(2026, 1, 5, 7, 0, 0, 0, time.UTC))
	require.Equal(t, presence.GroupAvailable, tracker.group(sales).Status)
	require.NoError(t, tracker.SetHours(t.Context(), sales, in("Europe/Berlin")))
	require.Equal(t, presence.GroupOffline, tracker.group(sales).Status)
}

// A member that connects after closing time does not open the group, even before
// the closing is noticed.
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
