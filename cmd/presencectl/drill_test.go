package main

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/presence-go/presence"
	"github.com/presence-go/presence/routing"
)

func TestDrill(t *testing.T) {
	for _, seed := range []string{"1", "2"} {
		var out bytes.Buffer
		require.Equal(t, exitFine, run([]string{"drill", "-agents", "15", "-work", "150", "-seed", seed}, &out, &out), out.String())
		require.Contains(t, out.String(), "150 arrived, 150 done, 0 lost")
	}
	var out bytes.Buffer
	require.Equal(t, exitWrong, run([]string{"drill", "-agents", "0"}, &out, &out))
	require.Equal(t, exitWrong, run([]string{"drill", "now"}, &out, &out))
}

// TestDrillNoticesFaults checks that a drill finds each kind of fault.
func TestDrillNoticesFaults(t *testing.T) {
	ann := presence.ID("ann")
	fresh := func() *centre {
		d := &centre{received: make(map[presence.Ref]map[presence.Instant]presence.Routing), requeued: make(map[string]int)}
		var err error
		d.tracker, err = presence.New(nil)
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, d.tracker.Close()) })
		d.queue, err = routing.New(d.tracker, nil)
		require.NoError(t, err)
		d.note(ann, &presence.Output{Kind: presence.OutputUpdated, Presence: presence.Presence{Revision: 7, Routing: presence.RouteNone}})
		d.note(ann, &presence.Output{Kind: presence.OutputUpdated, Presence: presence.Presence{Revision: 8, Routing: presence.RouteAll}})
		return d
	}
	given := func(revision presence.Instant) routing.Work {
		return routing.Work{ID: "w", Place: routing.Given, Agent: ann, Revision: revision}
	}
	d := fresh()
	d.check(given(8))
	require.Empty(t, d.faults)
	d.check(given(7))
	require.Len(t, d.faults, 1, "to one who received none")
	d.check(given(9))
	require.Len(t, d.faults, 2, "under a revision that never was")

	d = fresh()
	requeue := &presence.Output{Kind: presence.OutputRequeue, ID: "h1", Reason: presence.EndChallenge}
	d.note(ann, requeue)
	d.note(ann, requeue)
	require.Len(t, d.faults, 1, "one requeue reported twice")

	d = fresh()
	d.out, d.pieces = &bytes.Buffer{}, 1
	d.kicked = 1
	require.ErrorIs(t, d.report(1), errDrill)
	require.Len(t, d.faults, 2, "lost work, and a kick-out without its requeue")
}
