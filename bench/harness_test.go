package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/presence-go/presence"
)

// Every part of a goal without a reason for later is measured.
func TestGoalsAreMeasured(t *testing.T) {
	r := newRunner(options{quick: true, tiny: true, rounds: 1})
	for _, f := range families {
		require.NoError(t, f.run(r))
	}
	report := r.report()
	require.Empty(t, r.unknown)
	var text bytes.Buffer
	report.print(&text)
	for _, g := range goals {
		require.Contains(t, text.String(), g.title)
	}
	data, err := json.Marshal(report)
	require.NoError(t, err)
	require.Contains(t, string(data), `"verdict":"not measured yet"`)
}

func TestVerdicts(t *testing.T) {
	measured := func(rounds ...float64) func(*runner) figure {
		return func(*runner) figure { return figure{rounds: rounds} }
	}
	for _, tc := range []struct {
		name string
		c    check
		want string
	}{
		{"at the limit", check{level: must, limit: 10, figure: measured(9, 10, 11)}, reached},
		{"above it", check{level: must, limit: 10, figure: measured(9, 11, 11)}, notReached},
		{"at the least", check{level: stretch, limit: 2, least: true, figure: measured(2)}, reached},
		{"below it", check{level: stretch, limit: 2, least: true, figure: measured(1.9)}, notReached},
		{"at the limit, but noisy", check{level: must, limit: 10, figure: func(*runner) figure { return figure{[]float64{10}, true} }}, undecided},
		{"above it, and noisy", check{level: must, limit: 10, figure: func(*runner) figure { return figure{[]float64{11}, true} }}, notReached},
		{"no figure yet", check{level: must, limit: 2}, notMeasured},
		{"left out", check{level: must, limit: 2, figure: measured()}, notRun},
		{"no goal", check{figure: measured(1)}, noGoal},
	} {
		t.Run(tc.name, func(t *testing.T) {
			require.Equal(t, tc.want, tc.c.verdict(&runner{}, goal{}).Verdict)
		})
	}
}

// Ratios are of one round each: a slow machine in one round affects both sides.
func TestRatiosAreOfRounds(t *testing.T) {
	r := &runner{results: []*result{{ID: "x", Cases: []*series{
		{Name: "a", Rounds: map[string][]float64{wall: {2, 20, 2}}},
		{Name: "b", Rounds: map[string][]float64{wall: {1, 10, 1}}, Noisy: true},
	}}}}
	f := ratio(of("x", "a", wall), of("x", "b", wall))(r)
	require.Equal(t, []float64{2, 2, 2}, f.rounds)
	require.True(t, f.noisy)
}

func TestNoisyCasesAreRunAgain(t *testing.T) {
	for _, tc := range []struct {
		name  string
		walls []float64
		runs  int
		noisy bool
	}{
		{"quiet", []float64{10, 11}, 2, false},
		{"noisy, then quiet", []float64{10, 20, 10, 11}, 4, false},
		{"always noisy", []float64{10, 20, 10, 30, 10, 40}, 6, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := newRunner(options{rounds: 2})
			runs := 0
			err := r.measure(experiment{id: "x", columns: []column{{metric: wall}}, cases: []benchCase{{name: "a", setup: func() (run, error) {
				return func() (sample, error) { runs++; return sample{wall: tc.walls[runs-1]}, nil }, nil
			}}}})
			require.NoError(t, err)
			require.Equal(t, tc.runs, runs)
			require.Equal(t, tc.noisy, r.find("x").find("a").Noisy)
		})
	}
}

func TestWhatIsNotAvailableIsSaid(t *testing.T) {
	r := newRunner(options{rounds: 2})
	err := r.measure(experiment{id: "x", columns: []column{{metric: wall}}, cases: []benchCase{
		{name: "server", role: peer, setup: func() (run, error) { return nil, errNotAvailable }},
		{name: "ours", role: ours, setup: func() (run, error) {
			return func() (sample, error) { return sample{wall: 1}, nil }, nil
		}},
	}})
	require.NoError(t, err)
	require.Equal(t, "not available", r.find("x").find("server").Missing)
	require.Equal(t, []float64{1, 1}, r.find("x").find("ours").Rounds[wall])

	broken := errors.New("broken")
	err = r.measure(experiment{id: "y", cases: []benchCase{{name: "a", setup: func() (run, error) { return nil, broken }}}})
	require.ErrorIs(t, err, broken)
}

func TestStatistics(t *testing.T) {
	require.Equal(t, 2.0, median([]float64{3, 1, 2}))
	require.Equal(t, 2.5, median([]float64{4, 1, 2, 3}))
	require.Equal(t, 4.0, spread([]float64{2, 8, 4}))
	sorted := make([]int, 100)
	for i := range sorted {
		sorted[i] = i
	}
	require.Equal(t, 50, quantile(sorted, 0.5))
	require.Equal(t, 99, quantile(sorted, 0.99))
	require.Equal(t, 99, quantile(sorted, 1))
}

func TestShort(t *testing.T) {
	for v, want := range map[float64]string{
		0: "0", 0.00412: "0.00412", 0.25: "0.25", 1.234: "1.23", 12.34: "12.3", 218.4: "218", 1234567: "1,234,567", -69.9: "-69.9", -1234: "-1,234",
	} {
		require.Equal(t, want, short(v))
	}
}

func TestFloorOfEncoding(t *testing.T) {
	f := joins(3)
	f.Changes[1].View.Label = "Là \"bas\" <b> \\"
	f.Changes[2].View.Since = presence.At(time.Date(2026, 3, 1, 9, 30, 0, 120_000_000, time.UTC))
	want, err := json.Marshal(f)
	require.NoError(t, err)
	require.Equal(t, string(want), string(appendFrame(nil, f)))
	require.Equal(t, 3, strings.Count(string(want), `"op":"joined"`))
}
