package scenario_test

import (
	"bytes"
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"

	"github.com/presence-go/presence"
	"github.com/presence-go/presence/internal/seeds"
	"github.com/presence-go/presence/presencetest/scenario"
)

// folder has the policies of the tests' files.
var folder = fstest.MapFS{
	"lunch.json":     {Data: []byte(`{"version": 1, "extends": "respondio", "name": "lunch", "idle": [{"after": "1m", "to": "busy", "on": ["online"]}]}`)},
	"sub/lunch.json": {Data: []byte(`{"version": 1, "extends": "onportal"}`)},
	"new.json":       {Data: []byte(`{"version": 1.5, "extends": "respondio", "moon": "full"}`)},
	"bad.json":       {Data: []byte(`{"version": 1, "extends": "respondio", "default": "lunch"}`)},
}

// play runs a script without its version line.
func play(t *testing.T, script string, opts scenario.Options) (*scenario.Result, error) {
	t.Helper()
	f, err := scenario.Parse("x.txt", []byte("version 1\n"+script))
	require.NoError(t, err)
	if opts.Policies == nil {
		opts.Policies = folder
	}
	return scenario.Run(t.Context(), f, opts)
}

// both runs a script on the core and through a tracker, and requires that they
// agree.
func both(t *testing.T, script string) (*scenario.Result, error) {
	t.Helper()
	pure, err := play(t, script, scenario.Options{})
	live, liveErr := play(t, script, scenario.Options{Live: true})
	if err != nil || liveErr != nil {
		require.EqualError(t, liveErr, fmt.Sprint(err), "through a tracker")
	}
	require.Equal(t, pure, live)
	return pure, err
}

// good are scripts that pass, by topic.
var good = map[string]string{
	"heartbeats keep a connection and silence ends it": `
		policy onportal
		login alice/tab
		+1h    expect alice available since=09:00
		       lose alice/tab
		10:00:59.999 expect alice available
		10:01:14.999 expect alice available
		10:01:15     expect alice offline cause=lost since=10:01`,
	"a heartbeat that was due is sent before the line": `
		policy onportal
		login alice/tab
		09:00:25 lose alice/tab
		09:01:25 expect alice available  # lingers from here on
		09:01:39.999 expect alice available
		09:01:40 expect alice offline cause=lost since=09:01:25`,
	"a policy sets the pace of heartbeats": `
		policy onportal
		login alice/tab
		09:00:20 policy onportal heartbeat=5s lease=10s
		09:10 expect alice available since=09:00`,
	"resume, wake and connect start the heartbeats again": `
		policy onportal
		login alice/tab
		connect bob/tab
		login carl/tab
		+1m  lose alice/tab
		     sleep bob/tab
		     close carl/tab
		+2s  resume alice/tab
		     wake bob/tab
		     connect carl/tab
		+1h  expect alice available since=09:00
		     expect bob available since=09:00
		     expect carl available since=09:00
		     lose alice/tab
		     sleep bob/tab
		     close carl/tab
		+1h  expect alice offline cause=lost
		     expect bob offline cause=lost
		     expect carl offline cause=closed since=10:01:02
		     resume alice/tab
		     wake bob/tab
		     connect carl/tab
		+1h  expect alice available since=11:01:02
		     expect bob available since=11:01:02
		     expect carl available since=11:01:02
		     expect alice.lastlogin 09:00`,
	"logout of one connection and of all": `
		login alice/one
		login alice/two
		logout alice/one
		expect alice available
		logout alice
		expect alice offline cause=logout since=09:00
		+1h expect alice offline`,
	"a second close and a late logout": `
		login alice/tab
		close alice/tab
		close alice/tab
		input alice/tab
		expect refused left
		logout alice/tab
		expect alice offline cause=logout`,
	"input, age and visibility": `
		policy default activity=input,show
		login alice/tab
		connect bob/tab idle=4m
		+1m  expect bob away cause=idle since=09:01
		     idle bob/tab 2m
		     expect bob available
		+3m  expect bob away since=09:04
		     hide alice/tab
		+1m  expect alice away since=09:05
		     show alice/tab
		     expect alice available trigger=input`,
	"devices keep their class over a reconnect": `
		policy default devices.kiosk.ignoreInput=true
		login alice/tab
		connect alice/wall device=kiosk
		+3m  resume alice/wall
		     input alice/wall
		+2m  expect alice away cause=idle since=09:05`,
	"endpoints": `
		policy default virtual.push.show=top virtual.bot.show=top virtual.bot.routable=true
		endpoint phil push
		endpoint rob bot
		expect phil available routable=no
		expect rob available routable=yes
		endpoint phil push off
		expect phil offline`,
	"who may claim what": `
		role sup supervisor
		role vis visitor
		login alice/tab
		claim alice away by=sup text="back soon" reason=lunch for=10m
		expect alice away cause=supervisor reason=lunch until=09:10 setat=09:00
		expect alice.text "back soon" as=self
		expect alice.until 09:10
		expect alice.until absent as=team
		expect selectable alice available,away,busy by=sup
		expect selectable alice available,away,busy by=system
		expect selectable alice none by=bob
		claim alice busy by=vis
		expect refused "not allowed"
		claim alice busy by=bob
		expect refused "not allowed"
		claim alice busy source=call
		expect refused
		claim alice busy by=system source=call key=c1 until=09:20
		expect alice busy cause=call
		release alice by=system source=call key=c1
		release alice by=sup
		expect alice available
		expect log alice available/login 09:00 away/supervisor 09:00 busy/call 09:00 away 09:00 available/supervisor 09:00
		claim alice lunch
		expect refused lunch
		expect alice available`,
	"a claim on one connection": `
		login alice/one
		connect alice/two
		claim alice busy conn=two
		expect alice available
		close alice/one
		+5s  expect alice busy since=09:00
		release alice conn=two
		expect alice available
		claim alice away conn=three
		expect refused three`,
	"a claim over one connection where claims are the account's": `
		policy default claimScope=subject
		login alice/one
		connect alice/two
		claim alice busy conn=two
		expect alice busy`,
	"who may change the policy": `
		role sup supervisor
		role adm admin
		login alice/tab
		policy onportal by=sup
		expect refused "not allowed"
		policy idle.after=2m by=adm
		+2m  expect alice away cause=idle
		policy onportal
		expect alice available trigger=policy`,
	"policies from files": `
		policy ./lunch.json
		login alice/tab
		+1m expect alice busy cause=idle masked=online
		policy sub/lunch.json
		expect alice available trigger=policy`,
	"watchers": `
		role sup supervisor
		link sales inbox
		grant alice inbox
		watch t sales as=team
		watch v sales
		watch sup sales
		watch alice sales as=self
		watch bob sales as=team
		expect seen t snapshot alice=offline
		expect seen v snapshot alice=offline
		expect seen alice snapshot
		expect seen bob snapshot alice=offline
		login alice/tab
		expect seen t joined alice
		expect seen v joined alice
		expect seen sup snapshot alice=offline
		expect seen sup joined alice
		expect seen alice joined alice
		claim alice busy
		expect seen t updated alice busy
		expect seen t nothing
		unwatch v sales
		logout alice
		expect seen v updated alice busy
		expect seen v nothing
		grant carl sales
		watch carl sales as=admin
		expect refused admin
		watch carl sales
		expect seen carl snapshot alice=offline,carl=offline
		revoke carl sales
		expect seen carl removed
		watch carl sales
		expect refused grant
		watch v sales as=visitor
		expect seen v snapshot alice=offline
		role w visitor
		watch w sales as=team
		expect refused visitor
		join alice sales
		join carl sales
		expect refused grant`,
	"what is published late is received late": `
		policy default publish=10s
		grant alice sales
		watch t sales as=team
		expect seen t snapshot alice=offline
		login alice/tab
		expect seen t joined alice
		claim alice busy
		claim alice away
		expect seen t nothing
		09:00:09.999 expect seen t nothing
		09:00:10 expect seen t updated alice away
		expect seen t nothing`,
	"lists, counts and groups": `
		grant alice sales
		grant bob sales
		login bob/tab
		claim bob busy
		expect list sales alice,bob
		expect list sales bob label=busy as=visitor
		expect list nowhere none
		expect count sales busy 1
		expect count sales available 0
		expect group sales away
		expect group nowhere offline as=team`,
	"the gate": `
		login alice/tab
		focus alice/tab sales
		notify alice channel=sales
		expect gate skip
		notify alice kind=email
		expect gate deliver`,
	"everything at once, in the order of ids": `
		policy onportal
		grant zoe desk
		grant ann desk
		login zoe/tab node=n1
		login ann/tab node=n1
		watch t desk as=team
		expect seen t snapshot
		disable all
		expect seen t left ann
		expect seen t left zoe
		expect ann disabled
		expect zoe unknown as=team
		enable all
		expect seen t joined ann
		expect seen t joined zoe
		policy disabled=true
		expect seen t left ann
		policy disabled=false
		disable ann
		expect ann disabled
		login ann/tab
		expect refused disabled`,
	"nodes": `
		policy onportal
		login alice/tab node=n1
		login bob/tab node=n1
		login carl/tab node=n2
		+1m  node n1 drain
		+30s connect bob/tab node=n2
		09:02 expect alice offline cause=drain since=09:01
		expect bob available since=09:00
		node n2 down
		09:02:15 expect bob offline cause=node since=09:02
		connect carl/tab node=n2
		node n2 up
		expect carl offline cause=node`,
	"a process that stood still": `
		policy onportal
		login alice/tab
		login bob/tab
		+50s lose bob/tab
		suspend 10m
		expect alice available
		+20s expect bob available
		09:11:34.999 expect bob available
		09:11:35 expect bob offline cause=lost since=09:11:20
		expect alice available since=09:00`,
	"a wall clock that is set back": `
		login alice/tab
		+2m  clock -1h
		+3m  expect alice away since=09:05
		     clock -1m
		+1m  input alice/tab
		     expect alice available since=09:06`,
	"times on other days": `
		start 2026-01-05T23:59:00Z
		policy onportal
		login alice/tab
		2026-01-06T00:01:00Z claim alice away
		expect alice away since=2026-01-06T00:01:00Z
		expect log alice available 23:59 away 2026-01-06T00:01:00Z`,
	"unknown, named and refused": `
		expect ghost unknown
		expect ghost unknown as=visitor
		expect why ghost unknown
		expect log ghost none
		expect never ghost online
		claim dora nonsense
		expect refused nonsense
		expect dora offline
		expect dora.lastlogin absent
		role sup supervisor
		expect sup offline
		expect why dora "never"`,
	"what changed the cause alone can be asked for as well as what changed the status": `
		policy respondio
		role sup supervisor
		login alice/tab
		claim alice busy
		claim alice busy by=sup
		expect alice busy cause=supervisor trigger=supervisor
		expect alice busy trigger=manual
		+10m expect alice offline cause=idle trigger=idle
		+1m  logout alice
		expect alice offline cause=logout trigger=logout since=09:10
		expect alice offline trigger=idle`,
	"an explanation can be looked through for the word of a cause": `
		login alice/tab
		expect why alice default
		close alice/tab
		+1m expect why alice closed
		expect why alice "the last connection was closed"`,
	"a policy's statuses are labels": `
		policy thrivedesk
		expect labels desk away,online
		expect labels desk not-receiving,active,free,finishing,away`,
	"whom a link moves is told in order, those who leave first": `
		link x sales
		grant dan sales
		grant ann sales
		grant eve sales
		grant bob sales
		grant cid support
		login dan/1
		login eve/1
		login ann/1
		login bob/1
		login cid/1
		watch v x
		expect seen v snapshot
		link x support
		expect seen v left ann
		expect seen v left bob
		expect seen v left dan
		expect seen v left eve
		expect seen v joined cid`,
	"none empties a list of a policy": `
		policy respondio idle=none
		login alice/tab
		+1h expect alice online`,
	"a month of heartbeats is not waited for": `
		policy default
		schedule desk "mon-fri 09:00-17:00" zone=Europe/Berlin except=2026-02-05
		grant alice desk
		login alice/tab
		claim alice busy
		2026-02-04T12:00:00Z expect alice busy since=2026-01-05T09:00:00Z
		expect group desk away
		2026-02-05T12:00:00Z expect group desk offline reason=closed nextopen=2026-02-06T08:00:00Z`,
	"who connects was never seen before": `
		login alice/tab
		expect never alice offline
		expect never alice offline as=team`,
}

func TestRun(t *testing.T) {
	for name, script := range good {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := both(t, script)
			require.NoError(t, err)
		})
	}
}

// bad are scripts whose last line, comments aside, fails, with the text of the
// failure.
var bad = []struct{ script, want string }{
	{"expect alice offline", `2: wanted alice offline, got alice unknown`},
	{"login alice/tab\n+1m expect alice busy class=busy cause=manual trigger=manual since=09:01 setat=09:01 until=10:00 masked=away routable=no label=busy reason=x",
		`3: wanted alice busy class=busy cause=manual trigger=manual since=09:01 setat=09:01 until=10:00 masked=away routable=no label=busy reason="x", ` +
			`got alice available class=available cause=default trigger=login since=09:00 setat=absent until=absent masked=none routable=yes label=free reason=""`},
	{"login alice/tab\nexpect alice busy as=visitor", `3: wanted alice busy as=visitor, got alice available as=visitor`},
	{"login alice/tab\nexpect alice.lastlogin 08:59 as=self", `3: wanted alice.lastlogin as=self 08:59, got alice.lastlogin as=self 09:00`},
	{"login alice/tab\nexpect alice.since absent", `3: wanted alice.since absent, got alice.since 09:00`},
	{"login alice/tab\nexpect alice.masked busy", `3: wanted alice.masked busy, got alice.masked absent`},
	{"login alice/tab\nclaim alice lunch", `3: wanted the line to be accepted, got refused: presence: unknown status "lunch": the policy does not have it; allowed: available, away, busy, offline`},
	{"login alice/tab\nexpect refused", `3: wanted refused, got accepted`},
	{"claim alice lunch\nexpect refused dinner", `3: wanted refused with "dinner", got refused: presence: unknown status "lunch": the policy does not have it; allowed: available, away, busy, offline`},
	{"login alice/tab\nclaim alice busy\nclaim alice away\nexpect never alice busy", `5: wanted alice never busy, got busy at 09:00`},
	{"login alice/tab\nexpect never alice busy as=team\n09:01:30 claim alice busy", `3: wanted alice never busy as=team, got busy at 09:01:30`},
	{"grant bob x\ngrant alice x\nexpect list x none", `4: wanted x: none, got x: alice,bob`},
	{"grant bob x\nexpect count x offline 2", `3: wanted 2 offline in x, got 1 offline in x`},
	{"policy thrivedesk\nexpect labels x online", `3: wanted labels: online, got labels: active,away,finishing,free,not-receiving`},
	{"expect group x away", `2: wanted group x away, got group x offline`},
	{"login alice/tab\nexpect selectable alice busy", `3: wanted selectable: busy, got selectable: available,away,busy`},
	{"grant bob x\nwatch v x\nexpect seen v snapshot none", `4: wanted snapshot none, got snapshot bob=offline`},
	{"grant bob x\nwatch v x\nexpect seen v nothing", `4: wanted nothing, got snapshot bob=offline`},
	{"grant bob x\nwatch v x\nexpect seen v snapshot\nlogin bob/tab\nexpect seen v left bob", `6: wanted left bob, got joined bob`},
	{"grant bob x\nwatch v x\nexpect seen v snapshot\nexpect seen v updated bob busy", `5: wanted updated bob busy, got nothing`},
	{"grant bob x\nwatch v x\nexpect seen v snapshot\nexpect seen v removed", `5: wanted removed, got nothing`},
	{"login bob/tab\nnotify bob\nexpect gate skip", `4: wanted skip, got deliver (push: the subject is available: connected, and nothing else was chosen)`},
	{"login bob/tab\n+1m claim bob busy\nexpect log bob available 09:00 busy/login 09:01", `4: wanted log available 09:00 busy/login 09:01, got log available 09:00 busy/manual 09:01`},
	{"login out/tab\njoin out desk", `3: wanted the line to be accepted, got refused: presence: not allowed actor "out": it has no grant of channel desk`},
	{"grant a x\nwatch a x as=router", `3: wanted the line to be accepted, got refused: presence: not allowed audience "router": a cannot watch as it; allowed: team`},
	{"role v visitor\nwatch v x as=self", `3: wanted the line to be accepted, got refused: presence: not allowed audience "self": v cannot watch as it; allowed: visitor`},
	{"expect why ghost left", `2: wanted an explanation with "left", got "unknown: nobody has heard of ghost"`},
	{"login bob/tab\nexpect log bob none", `3: wanted log none, got log available/login 09:00`},
	{"login bob/tab\nexpect why bob nonsense as=team", `3: wanted an explanation with "nonsense", got "available; since 2026-01-05T09:00:00Z"`},
}

func TestFailures(t *testing.T) {
	for _, c := range bad {
		result, err := both(t, c.script)
		failure, ok := errors.AsType[*scenario.Failure](err)
		require.True(t, ok, "%s: %v", c.script, err)
		require.Equal(t, "x.txt:"+c.want, failure.Error(), c.script)
		require.Contains(t, c.script, failure.Text)
		if !strings.Contains(failure.Text, "never") {
			require.NotContains(t, result.Ran, failure.Line)
		}
	}
}

// wrong are scripts that cannot be run, with the text of the error.
var wrong = []struct{ script, want string }{
	{"policy nosuch", `x.txt:2: unknown policy "nosuch"; want one of chatwoot, default, discord, matrix, mattermost, onportal, respondio, rocketchat, slack, tawkto, teams, threads, thrivedesk, xmpp, zulip, or a file as ./lunch.json`},
	{"policy default idle.before=5m", `x.txt:2: invalid policy "idle.before": unknown key`},
	{"policy default idle.to=lunch", `"idle[0].to": "lunch" is not a status of this policy`},
	{`schedule x "mon 9-17" zone=UTC`, `x.txt:2: invalid plan: "9-17": want hours such as 09:00-12:00, or closed`},
	{`schedule x "mon 12:00-09:00,10:00-11:00" zone=Mars/Dust`, `x.txt:2: invalid plan: zone "Mars/Dust"`},
	{`schedule x "mon 12:00-09:00,10:00-11:00" zone=Mars/Dust`, `x.txt:2: invalid plan: mon: 10:00-11:00 begins before 12:00-09:00 has ended`},
	{"policy default\nexpect alice lunch", `x.txt:3: expect: unknown status "lunch"; want one of available, away, busy, offline`},
	{"expect alice available masked=lunch", `"lunch"`},
	{"expect alice.masked lunch", `"lunch"`},
	{"expect selectable alice busy,lunch", `"lunch"`},
	{"expect log alice lunch 09:00", `"lunch"`},
	{"watch v x\nexpect seen v snapshot a=lunch", `"lunch"`},
	{"watch v x\nexpect seen v updated a lunch", `"lunch"`},
	{"policy nosuch\nexpect alice lunch", "x.txt:2: unknown policy \"nosuch\""},
	{"policy tawkto login.mode=keep", `"login.status": "online" is set, but login.mode is not reset: set login.mode to reset, or login.status to nothing (policy tawkto sets login.status; login.status= empties it)`},
	{"policy tawkto\npolicy login.mode=keep", `x.txt:3: invalid policy "login.status": "online" is set, but login.mode is not reset: set login.mode to reset, or login.status to nothing (the policy before sets login.status; login.status= empties it)`},
	{"policy ../lunch.json", `the policy "../lunch.json" is outside the folder of this file`},
	{"policy /lunch.json", `is outside the folder`},
	{"policy sub/../../lunch.json", `is outside the folder`},
	{"policy none.json", `none.json`},
	{"policy bad.json", `bad.json: presence: invalid policy "default": "lunch" is not a status`},
	{"expect gate skip", `x.txt:2: expect gate: want a notify before this line`},
	{"expect seen v nothing", `x.txt:2: expect seen: v watched no channel`},
	{"watch v x\nwatch v x", `x.txt:3: watch: v watches x already`},
	{"unwatch v x", `x.txt:2: unwatch: v does not watch x`},
}

func TestFaults(t *testing.T) {
	for _, c := range wrong {
		_, err := both(t, c.script)
		require.ErrorContains(t, err, c.want, c.script)
		_, failed := errors.AsType[*scenario.Failure](err)
		require.False(t, failed, c.script)
		_, fault := errors.AsType[*scenario.Fault](err)
		require.True(t, fault, c.script)
	}

	for _, script := range []string{"policy tawkto login.mode=keep\nexpect alice nowhere\npolicy nosuch", "policy default heartbeat=-1s\nexpect alice nowhere"} {
		_, err := both(t, script)
		require.NotContains(t, err.Error(), ":3:", "the lines after a policy with faults were written for that policy")
		require.NotContains(t, err.Error(), "sets heartbeat", "the line sets it itself")
	}

	f, err := scenario.Parse("x.txt", []byte("version 1\npolicy lunch.json"))
	require.NoError(t, err)
	_, err = scenario.Run(t.Context(), f, scenario.Options{})
	require.ErrorContains(t, err, "was given without its folder")
}

func TestUnsupported(t *testing.T) {
	for script, what := range map[string]string{
		"clock +5m": "a step forward of the clock",
	} {
		_, err := both(t, script)
		require.ErrorContains(t, err, "not supported yet: "+what, script)
		_, failed := errors.AsType[*scenario.Failure](err)
		require.False(t, failed, script)
	}
}

func TestResult(t *testing.T) {
	result, err := both(t, `proves C1 C2 C3
		policy new.json
		login alice/tab
		expect alice online proves=C1
		expect never alice busy proves=C2
		grant bob desk
		+1m expect alice online proves=C1
		expect alice busy proves=C3
		expect alice online`)
	require.ErrorContains(t, err, "x.txt:9: wanted alice busy")
	require.Equal(t, "x.txt", result.Name)
	require.Equal(t, []int{3, 4, 5, 6, 7, 8}, result.Ran)
	require.Equal(t, 2, result.Held, "what is never to be is not proven before the end")
	require.Equal(t, map[string][]int{"C1": {5, 8}}, result.Proven)
	require.Equal(t, scenario.DefaultStart, result.Start.Time())
	require.Equal(t, at("09:01:00"), result.End.Time())
	require.Len(t, result.Warnings, 1)
	require.Equal(t, "scenario: x.txt:3: new.json: unknown key moon is ignored", result.Warnings[0].Error())
	require.Equal(t, "alice", result.Subjects[0].ID)
	require.Equal(t, "online", result.Subjects[0].State.Current.Status)
	require.Equal(t, "bob", result.Subjects[1].ID)
	require.Equal(t, presence.TriggerGrant, result.Subjects[1].History[0].Trigger)

	result, err = both(t, "login alice/tab\nexpect never alice busy proves=C2,C3\n+1m expect alice available proves=C2")
	require.NoError(t, err)
	require.Equal(t, map[string][]int{"C2": {4, 3}, "C3": {3}}, result.Proven)
	require.Equal(t, 2, result.Held)
}

// TestMutate checks that every policy of a file is changed, also the policy at
// the start of a file that names none.
func TestMutate(t *testing.T) {
	faster := func(p *presence.Policy) {
		for i := range p.Idle {
			p.Idle[i].After /= 2
		}
	}
	for _, live := range []bool{false, true} {
		opts := scenario.Options{Live: live, Mutate: faster}
		_, err := play(t, "login alice/tab\n+2m30s expect alice away", opts)
		require.NoError(t, err)
		_, err = play(t, "policy respondio\nlogin alice/tab\n+5m expect alice online", opts)
		require.EqualError(t, err, "x.txt:4: wanted alice online, got alice offline")
		_, err = play(t, "login alice/tab\npolicy respondio\n+5m expect alice online", opts)
		require.EqualError(t, err, "x.txt:4: wanted alice online, got alice offline")
		_, err = play(t, "expect alice unknown", scenario.Options{Live: live, Mutate: func(p *presence.Policy) { p.Statuses = nil }})
		require.ErrorContains(t, err, "a policy needs at least one status")
	}
}

// TestPolicyOption checks that a policy given in Go is in force until the file
// names another.
func TestPolicyOption(t *testing.T) {
	mine := presence.DefaultPolicy()
	mine.Name, mine.Default = "mine", "lunch"
	mine.AddStatus(presence.Status{ID: "lunch", Class: presence.ClassAway})
	before, err := mine.JSON()
	require.NoError(t, err)
	for _, live := range []bool{false, true} {
		opts := scenario.Options{Live: live, Policy: &mine}
		result, err := play(t, `login alice/tab
			expect alice lunch
			policy grace.logout=1m
			logout alice
			expect alice lunch
			+1m expect alice offline
			login bob/tab
			policy respondio
			expect bob online`, opts)
		require.NoError(t, err)
		require.Equal(t, 4, result.Held)

		_, err = play(t, "policy grace.logout=1m\nlogin alice/tab\nlogout alice\n+59s expect alice lunch", opts)
		require.NoError(t, err, "the head changes a value of it")

		_, err = play(t, "login alice/tab\nexpect alice online", opts)
		require.ErrorContains(t, err, `unknown status "online"; want one of`)

		broken := mine.Clone()
		broken.Default = "nosuch"
		_, err = play(t, "login alice/tab", scenario.Options{Live: live, Policy: &broken})
		require.ErrorContains(t, err, "Options.Policy")
		require.ErrorContains(t, err, "nosuch")
	}
	after, err := mine.JSON()
	require.NoError(t, err)
	require.Equal(t, string(before), string(after), "it is copied")
}

// TestKeepGoing checks that all failures are found, and that a failure changes
// nothing.
func TestKeepGoing(t *testing.T) {
	const text = `
		grant alice desk
		watch v desk
		expect seen v snapshot alice=available
		login alice/tab
		expect alice busy proves=C1
		claim alice lunch
		claim alice away
		expect refused
		expect never alice busy as=team
		expect never alice available
		expect alice away proves=C2
		expect seen v snapshot alice=offline
		+1m claim alice busy
		expect alice busy since=09:01 proves=C3`
	for _, live := range []bool{false, true} {
		result, err := play(t, text, scenario.Options{Live: live, KeepGoing: true})
		var failures []string
		for _, f := range result.Failures {
			failures = append(failures, f.Error())
		}
		require.Equal(t, []string{
			"x.txt:5: wanted snapshot alice=available, got snapshot alice=offline",
			"x.txt:7: wanted alice busy, got alice available",
			"x.txt:8: wanted the line to be accepted, got refused: presence: unknown status \"lunch\": the policy does not have it; allowed: available, away, busy, offline",
			"x.txt:10: wanted refused, got accepted",
			"x.txt:12: wanted alice never available, got available at 09:00",
			"x.txt:11: wanted alice never busy as=team, got busy at 09:01",
		}, failures)
		require.EqualError(t, err, strings.Join(failures, "\n"))
		first, ok := errors.AsType[*scenario.Failure](err)
		require.True(t, ok)
		require.Same(t, result.Failures[0], first)
		require.Equal(t, []int{3, 4, 6, 9, 11, 13, 14, 15, 16}, result.Ran)
		require.Equal(t, 3, result.Held)
		require.Equal(t, map[string][]int{"C2": {13}, "C3": {16}}, result.Proven)

		result, err = play(t, text, scenario.Options{Live: live})
		require.EqualError(t, err, failures[0])
		require.Len(t, result.Failures, 1)
		_, err = play(t, "login alice/tab\nexpect gate skip\nexpect alice busy", scenario.Options{Live: live, KeepGoing: true})
		require.ErrorContains(t, err, "want a notify before this line", "what is wrong with the file ends it")
		_, err = play(t, "login alice/tab\nexpect alice available", scenario.Options{Live: live, KeepGoing: true})
		require.NoError(t, err)
	}
}

// errorPolicies is a folder that cannot be read.
type errorPolicies struct{}

func (errorPolicies) Open(string) (fs.File, error) { return nil, io.ErrUnexpectedEOF }

func TestPoliciesUnreadable(t *testing.T) {
	_, err := play(t, "policy lunch.json", scenario.Options{Policies: errorPolicies{}})
	require.ErrorContains(t, err, "x.txt:2: unexpected EOF")
}

// TestRunEnds checks that a run without an end of its own ends with its
// context.
func TestRunEnds(t *testing.T) {
	f, err := scenario.Parse("x.txt", []byte("version 1\nlogin alice/tab\n+100h expect alice away"))
	require.NoError(t, err)
	cause := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(cause)
	for _, live := range []bool{false, true} {
		result, err := scenario.Run(ctx, f, scenario.Options{Live: live})
		require.ErrorIs(t, err, cause)
		require.Empty(t, result.Ran)
	}
}

func TestCheck(t *testing.T) {
	dir := t.TempDir()
	inner := filepath.Join(dir, "inner")
	require.NoError(t, os.Mkdir(inner, 0o700))
	write := func(name, text string) string {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
		return filepath.Join(dir, name)
	}
	write("lunch.json", `{"version": 1, "extends": "respondio"}`)
	write("inner/lunch.json", `{"version": 1, "extends": "onportal"}`)
	require.NoError(t, os.Symlink(filepath.Join(dir, "lunch.json"), filepath.Join(inner, "out.json")))
	name := write("inner/x.txt", "version 1\npolicy ./lunch.json\nlogin alice/tab\nexpect alice available")
	require.NoError(t, scenario.Check(name, false))
	require.NoError(t, scenario.Check(name, true))

	name = write("inner/y.txt", "version 1\npolicy out.json")
	require.ErrorContains(t, scenario.Check(name, false), "out.json", "a link leads out of the folder")
	name = write("z.txt", "version 1\nexpect alice busy")
	require.EqualError(t, scenario.Check(name, false), name+":2: wanted alice busy, got alice unknown")
	name = write("large.txt", strings.Repeat("#\n", scenario.MaxSize))
	require.ErrorContains(t, scenario.Check(name, false), "at most")
	require.ErrorIs(t, scenario.Check(filepath.Join(dir, "none.txt"), false), fs.ErrNotExist)
}

// TestEnginesAgree runs random scripts on the core and through a tracker, and
// compares all that happens. A line that the core refuses expects the refusal.
func TestEnginesAgree(t *testing.T) {
	for _, seed := range seeds.List(t, 60) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			lines := randomScript(rand.New(rand.NewPCG(seed, 1)))
			for {
				_, err := play(t, strings.Join(lines, "\n"), scenario.Options{})
				if err == nil {
					break
				}
				failure, ok := errors.AsType[*scenario.Failure](err)
				require.True(t, ok, "%v", err)
				require.Equal(t, "the line to be accepted", failure.Want, failure.Error())
				lines = slices.Insert(lines, failure.Line-1, "expect refused")
			}
			_, err := both(t, strings.Join(lines, "\n"))
			require.NoError(t, err, "\n%s", strings.Join(lines, "\n"))
		})
	}
}

// randomScript returns lines of which each is well formed.
func randomScript(r *rand.Rand) []string {
	one := func(words ...string) string { return words[r.IntN(len(words))] }
	subject := func() string { return one("ann", "bob") }
	conn := func() string { return subject() + "/" + one("one", "two") }
	policy := func() string {
		return one("default", "thrivedesk", "onportal", "respondio", "threads", "tawkto",
			"default virtual.push.show=top devices.mobile.ignoreInput=true", "respondio publish=20s idle.after=2m",
			"tawkto claimScope=subject widget.list=online", "default disconnectProof=manual keepExplicit=true", "onportal logoutScope=account grace.close=0s")
	}
	lines := []string{
		"policy " + policy(), "role sup supervisor", "link desk inbox", "grant ann inbox", "grant bob desk",
		"watch t desk as=team", "watch v desk as=visitor", "watch s desk as=supervisor",
	}
	for range 60 {
		var line string
		switch r.IntN(24) {
		case 0, 1:
			line = "connect " + conn() + one("", " device=mobile", " node=n1", " idle=3m")
		case 2, 3:
			line = "login " + conn() + one("", " device=mobile", " node=n1")
		case 4:
			line = "logout " + one(conn(), subject())
		case 5:
			line = one("close ", "resume ") + conn()
		case 6:
			line = one("lose ", "sleep ") + conn()
		case 7:
			line = "wake " + conn()
		case 8, 9:
			line = "input " + conn()
		case 10:
			line = one("hide ", "show ") + conn()
		case 11:
			line = "idle " + conn() + one(" 10s", " 4m")
		case 12, 13, 14:
			line = "claim " + subject() + " " + one("away", "busy", "online", "available", "invisible", "lunch") +
				one("", "", " for=5m", " conn=one", " by=sup", " by=system source=call key=k", " until=09:30")
		case 15:
			line = "release " + subject() + one("", " key=base", " conn=one", " by=sup", " by=system source=call")
		case 16:
			line = "endpoint " + subject() + " push" + one("", " off")
		case 17:
			line = one("grant ", "revoke ") + subject() + one(" inbox", " desk")
		case 18:
			line = "link desk " + one("inbox", "other")
		case 19:
			line = one("disable ", "enable ", "enable ") + one(subject(), "all")
		case 20:
			line = "node n1 " + one("down", "up", "drain")
		case 21:
			line = one("suspend 2m", "suspend 20s", "clock -5m")
		case 22:
			line = "policy " + policy()
		case 23:
			line = "focus " + conn() + " desk"
		}
		if r.IntN(2) == 0 {
			line = one("+5s ", "+10s ", "+25s ", "+45s ", "+60s ", "+3m ", "+10m ") + line
		}
		lines = append(lines, line)
	}
	return append(lines, "expect seen t snapshot", "expect seen v snapshot", "expect seen s snapshot")
}

func TestWriteSVG(t *testing.T) {
	result, err := both(t, `policy respondio
		login alice/tab
		grant bob desk
		+2m   claim alice busy
		+10m  expect alice offline cause=idle`)
	require.NoError(t, err)
	result.Name = `<lunch> & "more"`
	var out bytes.Buffer
	require.NoError(t, scenario.WriteSVG(&out, result, result))

	bars := map[string]int{}
	dec := xml.NewDecoder(&out)
	title := false
	for {
		token, err := dec.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		require.NoError(t, err)
		switch token := token.(type) {
		case xml.StartElement:
			title = token.Name.Local == "title"
		case xml.CharData:
			if title {
				bars[strings.TrimSpace(string(token))]++
			}
			title = false
		}
	}
	require.Equal(t, map[string]int{
		"online from 2026-01-05T09:00:00Z to 2026-01-05T09:02:00Z, cause default, trigger login":               2,
		"busy from 2026-01-05T09:02:00Z to 2026-01-05T09:12:00Z, cause manual, trigger manual":                 2,
		"offline from 2026-01-05T09:00:00Z to 2026-01-05T09:12:00Z, cause logout, trigger grant, masks online": 2,
	}, bars)

	require.NoError(t, scenario.WriteSVG(io.Discard))
	require.NoError(t, scenario.WriteSVG(io.Discard, &scenario.Result{}))
	long, err := both(t, "policy onportal\nlogin alice/tab\nlogout alice\n+87600h expect alice offline")
	require.NoError(t, err)
	out.Reset()
	require.NoError(t, scenario.WriteSVG(&out, long))
	require.Less(t, strings.Count(out.String(), "<line"), 15)
}
