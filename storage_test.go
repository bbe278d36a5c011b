package presence_test

import (
	"fmt"
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

// Each output that belongs in the journal has a row of its kind, with what it is about.
func TestRowsOfOutputs(t *testing.T) {
	t.Parallel()
	at, noticed := second(1), second(2)
	claim := presence.Claim{ID: "c1", Status: "busy", Class: presence.ClassBusy, Source: "call", Key: "k", Reason: "why", By: "bob"}
	request := presence.Request{ID: "r1", Claim: claim, Reason: presence.EndRejected, By: "kim"}
	shown := presence.Presence{Status: "away", Class: presence.ClassAway, Cause: presence.CauseIdle, Reach: presence.ReachLive, Reason: "tired"}
	changed := presence.JournalRow{
		ID: "t1", Kind: presence.RowTransition, From: "busy", To: "away", Class: presence.ClassAway, Cause: presence.CauseIdle, Trigger: presence.CauseManual,
		Reach: presence.ReachLive.String(), Reason: "tired", At: at, Recorded: noticed,
	}
	for _, tt := range []struct {
		out  presence.Output
		want presence.JournalRow
	}{
		{presence.Output{Kind: presence.OutputTransition, ID: "t1", Prev: "busy", Trigger: presence.CauseManual, Presence: shown}, changed},
		{presence.Output{Kind: presence.OutputUpdated, ID: "t1", Prev: "busy", Trigger: presence.CauseManual, Presence: shown}, changed},
		{presence.Output{Kind: presence.OutputUpdated, Presence: shown}, presence.JournalRow{}},
		{presence.Output{Kind: presence.OutputClaimSet, Claim: claim}, presence.JournalRow{
			ID: "claim-set/c1", Kind: presence.RowClaimSet, To: "busy", Class: presence.ClassBusy, Source: "call", Key: "k", Reason: "why", By: "bob", At: at, Recorded: noticed,
		}},
		{presence.Output{Kind: presence.OutputClaimEnded, Claim: claim, Reason: presence.EndReplaced}, presence.JournalRow{
			ID: "claim-ended/c1", Kind: presence.RowClaimEnded, From: "busy", Class: presence.ClassBusy, Source: "call", Key: "k", Reason: "why", By: "bob",
			Trigger: "replaced", At: at, Recorded: noticed,
		}},
		{presence.Output{Kind: presence.OutputRequeue, ID: "q1", Reason: presence.EndChallenge, Load: 3}, presence.JournalRow{
			ID: "requeue/q1", Kind: presence.RowRequeue, Trigger: "challenge", At: at, Recorded: noticed,
		}},
		{presence.Output{Kind: presence.OutputRequestOpened, Request: request}, presence.JournalRow{
			ID: "request-opened/r1", Kind: presence.RowRequestOpened, To: "busy", Class: presence.ClassBusy, Reason: "why", By: "bob", At: at, Recorded: noticed,
		}},
		{presence.Output{Kind: presence.OutputRequestClosed, Request: request}, presence.JournalRow{
			ID: "request-closed/r1", Kind: presence.RowRequestClosed, To: "busy", Class: presence.ClassBusy, Reason: "why", By: "kim", Trigger: "rejected", At: at, Recorded: noticed,
		}},
		{presence.Output{Kind: presence.OutputPersist, ID: "p1"}, presence.JournalRow{}},
	} {
		tt.out.At, tt.out.Noticed = at, noticed
		row, ok := tt.out.Row()
		require.Equal(t, tt.want, row, tt.out.Kind)
		require.Equal(t, tt.want.ID != "", ok, tt.out.Kind)
	}
}

// A query selects the rows of its subject, or of all subjects of its tenant, from one
// instant to another and up to a limit.
func TestQueriesSelectRows(t *testing.T) {
	t.Parallel()
	var rows []presence.JournalRow
	for i, ref := range []presence.Ref{ann, bob, acme, ann, bob, acme} {
		rows = append(rows, presence.JournalRow{ID: string(rune('a' + i)), Subject: ref, At: presence.Instant(60 - 10*i)})
	}
	same := presence.JournalRow{ID: "a", Subject: bob, At: 35} // has the id of another subject's row
	rows = append(rows, same)
	for _, tt := range []struct {
		query presence.JournalQuery
		want  string
	}{
		{presence.JournalQuery{Subject: ann}, "ad"},
		{presence.JournalQuery{Subject: bob}, "bea"},
		{presence.JournalQuery{Subject: acme}, "cf"},
		{presence.JournalQuery{}, "edaba"},
		{presence.JournalQuery{Subject: presence.Ref{Tenant: "acme"}}, "fc"},
		{presence.JournalQuery{Subject: presence.Ref{Tenant: "none"}}, ""},
		{presence.JournalQuery{From: 30}, "daba"},
		{presence.JournalQuery{To: 30}, "e"},
		{presence.JournalQuery{From: 20, To: 50}, "eda"},
		{presence.JournalQuery{Subject: ann, From: 31}, "a"},
		{presence.JournalQuery{Subject: ann, To: 60}, "d"},
		{presence.JournalQuery{Limit: 1}, "e"},
		{presence.JournalQuery{Limit: 5}, "edaba"},
		{presence.JournalQuery{Limit: 9}, "edaba"},
		{presence.JournalQuery{Limit: -1}, "edaba"},
		{presence.JournalQuery{Subject: bob, After: presence.JournalRow{ID: "b"}}, "ea"},
		{presence.JournalQuery{Subject: ann, After: presence.JournalRow{ID: "d"}}, ""},
		{presence.JournalQuery{Subject: ann, After: presence.JournalRow{ID: "gone", At: 99}}, "ad"},
		{presence.JournalQuery{After: same}, "ba"},
		{presence.JournalQuery{After: rows[0]}, ""},
		{presence.JournalQuery{After: presence.JournalRow{ID: "gone", At: 35}}, "aba"},
		{presence.JournalQuery{After: presence.JournalRow{At: 35}}, "edaba"},
	} {
		var got strings.Builder
		for _, r := range tt.query.Select(rows) {
			got.WriteString(r.ID)
		}
		require.Equal(t, tt.want, got.String(), "%+v", tt.query)
	}
	many := make([]presence.JournalRow, 1001)
	for i := range many {
		many[i] = presence.JournalRow{Subject: ann}
	}
	require.Len(t, presence.JournalQuery{Subject: ann}.Select(many), 1000)
	require.Len(t, presence.JournalQuery{Subject: ann, Limit: 1001}.Select(many), 1001)
}

// Records whose data cannot be read are refused by a text that names why.
func TestFaultsOfRecords(t *testing.T) {
	t.Parallel()
	for data, fault := range map[string]string{
		"":              "it cannot be read: unexpected end of JSON input",
		`{"version":2}`: "it has version 2, this package reads version 1",
		`{}`:            "it has version 0, this package reads version 1",
	} {
		s, err := presence.Record{Subject: ann, Data: []byte(data)}.State(0, 0)
		require.EqualError(t, err, `presence: invalid record "ann": `+fault)
		require.Zero(t, s)
	}
}

// L17, fault 45: the clock was set back by an hour. Claims, endpoints and requests until
// a wall time that it had shown before are accepted, shown and stored as given, and met
// when the clock shows that time, before and after a restart.
func TestEndsAfterTheClockWasSetBack(t *testing.T) {
	t.Parallel()
	for _, restart := range []bool{false, true} {
		t.Run(fmt.Sprint("restart ", restart), func(t *testing.T) {
			t.Parallel()
			o := newStored(t)
			p := presence.DefaultPolicy()
			p.Lease, p.Idle, p.Work.RequestFor = 12*time.Hour, nil, 30*time.Minute
			o.opts.Policy = &p
			o.restart()
			o.login(ann, "tab")
			o.login(bob, "tab")
			o.clock.Add(10 * time.Second)
			require.Equal(t, "available", o.status(ann))
			o.clock.Add(-time.Hour)
			end := presence.At(o.clock.Now()).Add(30 * time.Minute)
			calendar := presence.Actor{Subject: presence.ID("cal"), Role: presence.RoleSystem}
			v, err := o.SetClaim(t.Context(), calendar, ann, presence.Claim{Status: "busy", Source: presence.SourceCalendar, Key: "m", Until: end})
			require.NoError(t, err)
			require.Equal(t, "busy", v.Status)
			require.NoError(t, o.SetEndpoint(t.Context(), ann, presence.Endpoint{ID: "phone", Kind: presence.EndpointPush, Until: end}))
			_, err = o.Request(t.Context(), presence.Agent(ann), ann, presence.Claim{Status: "away"})
			require.NoError(t, err)
			v, err = o.SetClaim(t.Context(), presence.Agent(bob), bob, presence.Claim{Status: "busy", For: 30 * time.Minute})
			require.NoError(t, err)
			require.Equal(t, end, v.Until, "what is shown is what the clock will show")
			_, err = o.SetClaim(t.Context(), calendar, bob, presence.Claim{Status: "busy", Source: presence.SourceCalendar, Until: presence.At(o.clock.Now())})
			require.ErrorIs(t, err, presence.ErrInvalid)
			for range 2 {
				for _, s := range []presence.State{o.state(ann), found(o.stored(ann))} {
					require.Equal(t, end, s.Claims[0].Until)
					require.Equal(t, end, s.Endpoints[0].Until)
					require.Equal(t, end, s.Work.Requests[0].Until)
				}
				full, err := o.GetAs(t.Context(), presence.AudienceAdmin, ann)
				require.NoError(t, err)
				require.Equal(t, end, full.Until)
				if !restart {
					break
				}
				o.restart()
				o.connect(ann, "tab")
				o.connect(bob, "tab")
			}
			held := func() bool {
				_, err := o.Sweep(t.Context())
				require.NoError(t, err)
				s := o.state(ann)
				require.Equal(t, len(s.Claims) > 0, len(s.Endpoints) > 0)
				require.Equal(t, len(s.Claims) > 0, len(s.Work.Requests) > 0)
				require.Equal(t, len(s.Claims) > 0, o.status(bob) == "busy")
				return len(s.Claims) > 0
			}
			o.clock.Set(end.Time().Add(-time.Second))
			require.True(t, held())
			o.clock.Set(end.Time())
			require.False(t, held())
		})
	}
}

func found[T any](v T, ok bool) T {
	if !ok {
		panic("not stored")
	}
	return v
}

// L18, fault 45: a process wrote records by a clock that was ahead. After the next start
// time does not stand still until the clock shows what those have: a connection is lost
// after lease and grace, idle after five minutes, and what was chosen is kept.
func TestRecordsOfAClockThatWasAhead(t *testing.T) {
	t.Parallel()
	for _, ahead := range []time.Duration{time.Hour, 365 * 24 * time.Hour} {
		for _, way := range []string{"closed", "crashed", "read while it was idle"} {
			t.Run(fmt.Sprint(ahead, " ", way), func(t *testing.T) {
				t.Parallel()
				o := newStored(t)
				nine := o.clock.Now()
				o.clock.Add(ahead)
				wrote := presence.At(o.clock.Now())
				c := o.login(ann, "tab")
				o.connect(bob, "tab")
				_, err := o.SetClaim(t.Context(), presence.Agent(bob), bob, presence.Claim{Status: "busy"})
				require.NoError(t, err)
				o.clock.Add(time.Minute)
				if way == "closed" {
					require.NoError(t, c.Logout())
				}
				_, err = o.Sweep(t.Context())
				require.NoError(t, err)
				if way != "crashed" {
					require.NoError(t, o.Close())
				}
				o.clock.Set(nine.Add(2 * time.Minute))
				o.crash() // another process starts
				began := presence.At(o.clock.Now())
				if way == "read while it was idle" {
					require.LessOrEqual(t, o.state(ann).Current.Since, began)
					o.clock.Add(time.Minute)
				}
				c, err = o.Connect(t.Context(), ann, presence.ConnectOptions{ID: "tab", Login: true})
				require.NoError(t, err)
				_, err = o.Connect(t.Context(), bob, presence.ConnectOptions{ID: "tab"})
				require.NoError(t, err)
				require.Equal(t, "busy", o.status(bob), "it is kept")
				from := presence.At(o.clock.Now())
				require.Less(t, from, wrote)
				for passed := time.Duration(0); passed < 5*time.Minute; passed += 25 * time.Second {
					require.Equal(t, "available", o.status(ann), "%v", passed)
					require.NoError(t, c.Heartbeat())
					o.clock.Add(25 * time.Second)
				}
				_, err = o.Sweep(t.Context())
				require.NoError(t, err)
				require.Equal(t, "away", o.status(ann))
				require.Equal(t, from.Add(5*time.Minute), o.state(ann).Current.Since)
				require.Equal(t, from.Add(time.Minute), o.state(bob).LeftAt, "its lease was over")
				o.clock.Add(75*time.Second - 25*time.Second - 1)
				require.Equal(t, "away", o.status(ann))
				o.clock.Add(1)
				require.Equal(t, "offline", o.status(ann))
			})
		}
	}
}
