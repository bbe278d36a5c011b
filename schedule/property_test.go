package schedule_test

import (
	"encoding/json"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/presence-go/presence"
	"github.com/presence-go/presence/internal/seeds"
	"github.com/presence-go/presence/schedule"
)

// All methods agree. The next change is the beginning or the end of an
// interval. The schedule is open in the intervals and nowhere else. Intervals
// of two parts of a time equal those of the whole.
func TestAnswersAgree(t *testing.T) {
	t.Parallel()
	all := allPlaces(t)
	for seed := range seeds.Range(t, 400) {
		r := rand.New(rand.NewPCG(seed, 11))
		p := all[r.IntN(len(all))]
		from := time.Unix(from2020+r.Int64N(to2041-from2020), r.Int64N(2)*r.Int64N(1e9))
		if len(p.sets) > 0 && r.IntN(2) == 0 {
			from = time.Unix(p.sets[r.IntN(len(p.sets))].at-r.Int64N(48*3600), 0)
		}
		plan := randomPlan(r, from.Add(24*time.Hour))
		s, err := schedule.New(plan, &schedule.Options{Location: p.zone})
		require.NoError(t, err)
		to := from.Add(10 * 24 * time.Hour)

		whole := slices.Collect(s.Intervals(from, to))
		mid := from.Add(time.Duration(r.Int64N(int64(to.Sub(from)))))
		parts := slices.Collect(s.Intervals(from, mid))
		for i := range s.Intervals(mid, to) {
			if n := len(parts); n > 0 && parts[n-1].To.Equal(i.From) {
				parts[n-1].To = i.To
				continue
			}
			parts = append(parts, i)
		}
		require.Equal(t, whole, parts, "seed %d: %s in %s, divided at %s", seed, plan, p.names[0], mid)

		var chain []schedule.Interval
		at := from
		open, why := s.Open(at)
		for at.Before(to) {
			next, changes := s.NextChange(at)
			if !changes || next.After(to) {
				next = to
			}
			require.True(t, next.After(at), "seed %d: the change after %s is %s", seed, at, next)
			if open {
				chain = append(chain, schedule.Interval{From: at.In(p.zone), To: next.In(p.zone)})
			}
			before, _ := s.Open(next.Add(-1))
			require.Equal(t, open, before, "seed %d: %s in %s just before %s", seed, plan, p.names[0], next)
			opens, ok := s.NextOpen(at)
			switch {
			case open:
				require.True(t, ok)
				require.True(t, opens.Equal(at))
			case changes && next != to:
				require.True(t, ok)
				require.Equal(t, next, opens)
			}
			is, instant := s.OpenAt(presence.At(at))
			require.Equal(t, open, is)
			if changes && next != to {
				require.Equal(t, presence.At(next), instant)
			}
			at = next
			if at.Before(to) {
				was := open
				open, why = s.Open(at)
				require.NotEqual(t, was, open, "seed %d: %s in %s: nothing changes at %s", seed, plan, p.names[0], at)
				require.Equal(t, open, why.Open)
			}
		}
		require.Equal(t, whole, chain, "seed %d: %s in %s", seed, plan, p.names[0])
	}
}

// A parsed text is written so that it parses to the same plan, also through
// JSON. A valid plan answers every question.
func FuzzParse(f *testing.F) {
	for _, text := range []string{
		"mon-fri 09:00-12:00,13:00-17:00", "closed", "fri-mon 22:00-6:00; sat closed; 2026-12-25,2026-12-26 closed; zone Europe/Berlin",
		"mon 9:00-24:00;", "2026-02-30 closed", "sun 00:00-00:00", "", ";", "zone ../x; mon 25:00-26:00,", "mon , tue 09:00-10:00", "9999-12-31 23:00-22:59",
		"12-25,12-26 closed; 2026-12-24..2027-01-01 22:00-06:00; 02-29 closed; 12-28..01-03 9:00-12:00", "2026-12-24..12-31 closed; 2026-12-24..2026-12-23 closed", "..", "12-25..",
	} {
		f.Add(text, int64(1_790_000_000))
	}
	f.Fuzz(func(t *testing.T, text string, unix int64) {
		p, err := schedule.Parse(text)
		if err != nil {
			require.ErrorIs(t, err, presence.ErrInvalid)
			require.Less(t, len(err.Error()), 10_000)
			return
		}
		again, err := schedule.Parse(p.String())
		require.NoError(t, err, p.String())
		require.Equal(t, p, again)
		data, err := json.Marshal(p)
		require.NoError(t, err)
		var decoded schedule.Plan
		require.NoError(t, json.Unmarshal(data, &decoded))
		require.Equal(t, p.String(), decoded.String())
		s, err := schedule.New(p, nil)
		require.Equal(t, p.Validate(), err)
		if err != nil {
			return
		}
		now := time.Unix(unix, 0)
		open, why := s.Open(now)
		require.NotEmpty(t, why.String())
		if next, ok := s.NextChange(now); ok && unix > -1<<35 && unix < 1<<37 {
			require.True(t, next.After(now))
			then, _ := s.Open(next)
			require.Equal(t, !open, then)
		}
		for range s.Intervals(now, now.Add(48*time.Hour)) {
		}
		s.EndOfDay(now)
	})
}
