package main

import (
	"bytes"
	"context"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/presence-go/presence"
)

// All figures of a million are measured, with a few thousand users.
func TestMillionIsMeasured(t *testing.T) {
	r := newRunner(options{quick: true, tiny: true, seed: 1})
	require.NoError(t, runMillion(r, nil))
	rounds := r.find(millionID).Cases[0].Rounds
	for _, f := range millionFacts {
		if rounds["paced-frames"][0] == 0 && slices.Contains([]string{"paced-p50", "paced-p99", "paced-max"}, f.metric) {
			continue // in a short run there may be no claim
		}
		require.Len(t, rounds[f.metric], 1, f.header)
	}
	for _, metric := range []string{"hour-frames", "sightings", "turns", "judged-events"} {
		require.NotZero(t, rounds[metric][0], metric)
	}
	var text bytes.Buffer
	(&report{Quick: true, Results: r.results}).print(&text)
	require.Contains(t, text.String(), "2,000 users for 10m0s, seed 1")
}

// A difference is found and reported with its subject, the seed and the
// history. In this test, the model's idle stage starts a nanosecond later.
func TestMillionNoticesWhatDiffers(t *testing.T) {
	r := newRunner(options{quick: true, tiny: true, seed: 7})
	err := runMillion(r, func(p *presence.Policy) { p.Idle[0].After++ })
	require.ErrorContains(t, err, "differ about ")
	require.ErrorContains(t, err, "seed 7")
	require.ErrorContains(t, err, "login conn=")
	require.Empty(t, r.results)
}

// Each answer of a witness is compared.
func TestWitnessNoticesWhatDiffers(t *testing.T) {
	ctx := context.Background()
	c, err := newCrowd(millionSize{users: 100, witnesses: 1}, 1)
	require.NoError(t, err)
	w := c.witnesses[0]
	i := 0
	for c.users[i].witness == 0 {
		i++
	}
	c.workers[0].connect(i, 0, "a", true)
	claim := presence.Claim{Status: "busy"}
	_, err = c.users[i].conns[0].Claim(ctx, claim)
	c.users[i].over(c, c.users[i].conns[0], said{kind: presence.EventSetClaim, claim: &claim}, err)
	c.setClock(600)
	require.NoError(t, w.look(c.Tracker, c.now()))
	require.NoError(t, c.Close())

	m, err := presence.Compile(presence.DefaultPolicy())
	require.NoError(t, err)
	_, err = w.judge(m.Policy(), 1)
	require.NoError(t, err)
	seen := w.past[2].seen
	for name, plant := range map[string]func() func(){
		"an event":     func() func() { return change(&w.past[0].accepted, false) },
		"the state":    func() func() { return change(&seen.state.Conns[0].Heard, seen.state.Conns[0].Heard+1) },
		"its since":    func() func() { return change(&seen.state.Current.Since, 5) },
		"its status":   func() func() { return change(&seen.state.Current.Status, "away") },
		"the team's":   func() func() { return change(&seen.team.Status, "away") },
		"the admin's":  func() func() { return change(&seen.admin.Cause, presence.CauseCall) },
		"routable":     func() func() { return change(&seen.admin.Routable, !seen.admin.Routable) },
		"masked":       func() func() { return change(&seen.admin.Masked, "busy") },
		"explained":    func() func() { return change(&seen.lines[0], "away: idle") },
		"since when":   func() func() { return change(&seen.lines[1], "since yesterday") },
		"a mask":       func() func() { return change(&seen.lines[2], "masked: busy") },
		"a transition": func() func() { return change(&w.turns[0].Seen, w.turns[0].Seen.Add(time.Second)) },
		"one too few":  func() func() { return change(&w.turns, w.turns[1:]) },
		"one too many": func() func() { return change(&w.turns, append(w.turns[:len(w.turns):len(w.turns)], w.turns[0])) },
	} {
		undo := plant()
		_, err := w.judge(m.Policy(), 1)
		require.ErrorContains(t, err, "differ about "+w.ref.ID, name)
		undo()
	}
	_, err = w.judge(m.Policy(), 1)
	require.NoError(t, err)
}

// change sets a value and returns the function that restores it.
func change[T any](at *T, to T) func() {
	before := *at
	*at = to
	return func() { *at = before }
}
