package schedule_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/presence-go/presence/schedule"
)

// A name has at most MaxName bytes, and a year four digits from 1.
func TestPlansHaveLimits(t *testing.T) {
	at := func(e schedule.Exception) error { return schedule.Plan{Exceptions: []schedule.Exception{e}}.Validate() }
	day := schedule.Date{Year: 2026, Month: 12, Day: 25}
	require.NoError(t, at(schedule.Exception{Date: day, Name: strings.Repeat("x", schedule.MaxName)}))
	require.Error(t, at(schedule.Exception{Date: day, Name: strings.Repeat("x", schedule.MaxName+1)}))
	for year, ok := range map[int]bool{1: true, 9999: true, 10000: false, -1: false} {
		day.Year = year
		require.Equal(t, ok, at(schedule.Exception{Date: day}) == nil, "%d", year)
	}
}

// A week that is read into a used one keeps nothing of it.
func TestWeeksAreReadWhole(t *testing.T) {
	plan, err := schedule.Parse("mon-fri 9:00-17:00")
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal([]byte(`{"tue":["10:00-11:00"]}`), &plan.Week))
	want, err := schedule.Parse("tue 10:00-11:00")
	require.NoError(t, err)
	require.Equal(t, want.Week, plan.Week)
	require.Error(t, json.Unmarshal([]byte(`{"someday":[]}`), &plan.Week))
}

// Days before 1970 have their weekday, and the end of a day is never before it.
func TestDaysBefore1970(t *testing.T) {
	plan, err := schedule.Parse("wed 9:00-17:00")
	require.NoError(t, err)
	s, err := schedule.New(plan, &schedule.Options{Location: time.UTC})
	require.NoError(t, err)
	wednesday := time.Date(1969, 12, 31, 12, 0, 0, 0, time.UTC)
	open, _ := s.Open(wednesday)
	require.True(t, open)
	open, _ = s.Open(wednesday.AddDate(0, 0, 1))
	require.False(t, open)
	open, _ = s.Open(wednesday.AddDate(0, 0, -7*1000))
	require.True(t, open)
	require.Equal(t, schedule.Date{Year: 1969, Month: 12, Day: 31}, schedule.DateIn(time.UTC, wednesday))
	require.Equal(t, time.Date(1970, 1, 1, 0, 0, 0, 0, time.UTC), schedule.EndOfDay(time.UTC, wednesday).UTC())
}
