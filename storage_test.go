package presence_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/presence-go/presence"
)

func TestClaimsSurviveARestart(t *testing.T) {
	t.Parallel()
	boss := presence.Actor{Subject: presence.ID("boss"), Role: presence.RoleSupervisor}
	tests := []struct {
		name  string
		actor presence.Actor
		claim presence.Claim
		away  time.Duration // without a process
		want  string
	}{
		{"chosen", presence.Agent(ann), presence.Claim{Status: "busy"}, time.Hour, "busy"},
		{"chosen for longer", presence.Agent(ann), presence.Claim{Status: "busy", For: 2 * time.Hour}, time.Hour, "busy"},
		{"chosen until just after", presence.Agent(ann), presence.Claim{Status: "busy", For: time.Hour + 1}, time.Hour, "busy"},
		{"chosen until then", presence.Agent(ann), presence.Claim{Status: "busy", For: time.Hour}, time.Hour, "away"}, // idle all the while
		{"imposed", boss, presence.Claim{Status: "busy", Reason: "training"}, time.Hour, "busy"},
	}
	for _, test := range tests {
		for _, end := range []string{"close", "crash"} {
			t.Run(test.name+", then "+end, func(t *testing.T) {
				t.Parallel()
				o := newStored(t)
				o.connect(ann, "tab")
				_, err := o.SetClaim(t.Context(), test.actor, ann, test.claim)
				require.NoError(t, err)
				require.Equal(t, "busy", o.status(ann))
				before := o.state(ann).Claims[0]

				if end == "close" {
					o.restart()
				} else {
					o.crash()
				}
				o.clock.Add(test.away)
				o.connect(ann, "tab")
				require.Equal(t, test.want, o.status(ann))
				if test.want == "busy" {
					for _, status := range o.statuses(ann) {
						require.Equal(t, "busy", status, "nothing else is told first")
					}
					require.Equal(t, []presence.Claim{before}, o.state(ann).Claims)
				} else {
					require.Empty(t, o.state(ann).Claims)
				}
			})
		}
	}
}

// A watcher that watches before the connection opens again never sees it as
// available.
func TestWatcherOfARestartSeesWhatWasChosen(t *testing.T) {
	t.Parallel()
	o := newStored(t)
	o.connect(ann, "tab")
	require.NoError(t, o.claim(ann, presence.Claim{Status: "busy"}))
	o.restart()
	w, err := o.WatchSubject(t.Context(), presence.Agent(bob), ann, presence.WatchOptions{})
	require.NoError(t, err)
	o.connect(ann, "tab")
	o.sweep()
	_, frames := read(t, w)
	for _, f := range frames {
		for _, v := range f.Members {
			require.NotEqual(t, "available", v.Status)
		}
		for _, c := range f.Changes {
			require.NotEqual(t, "available", c.View.Status)
		}
	}
	require.Equal(t, "busy", o.status(ann))
}

func TestRecordThatCannotBeReadIsRefused(t *testing.T) {
	t.Parallel()
	for _, data := range []string{"", "{", `{"version":2}`} {
		o := newStored(t)
		require.NoError(t, o.memory.Save(t.Context(), presence.Write{Record: presence.Record{Subject: ann, Revision: 3, Data: []byte(data)}}))
		_, err := o.Connect(t.Context(), ann, presence.ConnectOptions{})
		require.ErrorContains(t, err, `record "ann"`, "%q", data)
		require.Empty(t, o.statuses(ann))
	}
}

// A subject that was connected when the process ended counts for the start-up
// grace.
func TestNobodyComesBackAfterARestart(t *testing.T) {
	t.Parallel()
	o := newStored(t)
	o.connect(ann, "tab")
	require.NoError(t, o.claim(ann, presence.Claim{Status: "busy"}))
	o.crash()
	require.Equal(t, "busy", o.status(ann))
	require.Equal(t, presence.ReachLingering, o.state(ann).Current.Reach)
	o.clock.Add(presence.DefaultPolicy().StartupGrace - 1)
	o.sweep()
	require.Equal(t, "busy", o.status(ann))
	o.clock.Add(1)
	o.sweep()
	v, err := o.GetAs(t.Context(), presence.AudienceAdmin, ann)
	require.NoError(t, err)
	require.Equal(t, "offline", v.Status)
	require.Equal(t, presence.CauseNode, v.Cause)
	require.Equal(t, "busy", v.Masked)
	o.connect(ann, "tab")
	require.Equal(t, "busy", o.status(ann))
}

func TestLoggedOutBeforeARestart(t *testing.T) {
	t.Parallel()
	o := newStored(t)
	c := o.connect(ann, "tab")
	require.NoError(t, o.claim(ann, presence.Claim{Status: "busy"}))
	o.clock.Add(time.Minute)
	require.NoError(t, c.Logout())
	before, err := o.GetAs(t.Context(), presence.AudienceAdmin, ann)
	require.NoError(t, err)
	require.Equal(t, "offline", before.Status)
	o.restart()
	o.clock.Add(time.Hour)
	after, err := o.GetAs(t.Context(), presence.AudienceAdmin, ann)
	require.NoError(t, err)
	require.Equal(t, before, after)
	require.NotContains(t, o.statuses(ann), "busy")
}

// A subject that was idle is idle after a deploy, and after a crash.
func TestIdleStaysIdleOverARestart(t *testing.T) {
	t.Parallel()
	for _, end := range []string{"close", "crash"} {
		t.Run(end, func(t *testing.T) {
			t.Parallel()
			o := newStored(t)
			c := o.connect(ann, "tab")
			o.idle(c)
			if end == "close" {
				o.restart()
			} else {
				o.crash()
			}
			o.connect(ann, "tab")
			require.Equal(t, "away", o.status(ann))
			require.NotContains(t, o.statuses(ann), "available")
		})
	}
}

// Explain names the connections of the process before.
func TestExplainedAfterARestart(t *testing.T) {
	t.Parallel()
	o := newStored(t)
	o.connect(ann, "tab")
	o.sweep()
	o.restart()
	lines, err := o.ExplainAs(t.Context(), presence.AudienceSelf, ann)
	require.NoError(t, err)
	require.Contains(t, lines, "0 of 0 connections live")
	require.Contains(t, lines, "the connections from before a restart at 2026-01-05T09:00:00Z count until 2026-01-05T09:00:30Z")
	require.NotContains(t, strings.Join(lines, ""), "\x00")
}
