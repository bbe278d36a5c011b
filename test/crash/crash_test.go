package main

import (
	"errors"
	"os"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestMain(m *testing.M) {
	liveIfChild()
	os.Exit(m.Run())
}

// A few rounds of each kind; scripts/crash runs two hundred.
func TestNothingPromisedIsLost(t *testing.T) {
	for name, o := range map[string]options{
		"sqlite":            {store: "sqlite", mode: "kill", rounds: 5},
		"sqlite, unsynced":  {store: "sqlite", mode: "drop", rounds: 5},
		"sqlite, in part":   {store: "sqlite", mode: "some", rounds: 5},
		"postgres":          {store: "postgres", mode: "kill", rounds: 5},
		"postgres,unsynced": {store: "postgres", mode: "drop", rounds: 2},
		"postgres, in part": {store: "postgres", mode: "some", rounds: 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, err := crash(t.Context(), o)
			require.NoError(t, err)
			require.Equal(t, o.rounds, r.Rounds)
			require.Positive(t, r.Promises)
			if o.mode != "kill" {
				require.Positive(t, r.Compared, "the trace says what was done")
				require.Positive(t, r.Syncs)
			}
			t.Logf("%+v", r)
		})
	}
}

// If storage does not wait for the disk, the harness finds a loss.
func TestLossIsNoticed(t *testing.T) {
	for name, o := range map[string]options{
		"sqlite":             {store: "sqlite", mode: "drop", relaxed: true, rounds: 10},
		"postgres":           {store: "postgres", mode: "kill", relaxed: true, rounds: 10},
		"postgres, unsynced": {store: "postgres", mode: "drop", relaxed: true, rounds: 5},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := crash(t.Context(), o)
			_, lost := errors.AsType[violation](err)
			require.True(t, lost, "wanted a promise that was not kept, got %v", err)
			t.Log(err)
		})
	}
}
