package main

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/presence-go/presence"
	"github.com/presence-go/presence/internal/naive"
)

// witness is a user whose history is recorded: each event, the tracker's
// answers at some instants, and each transition. Afterwards the naive model
// gets the same events and must give the same answers.
type witness struct {
	ref   presence.Ref
	past  []said
	turns []naive.Turn // transitions of the tracker
}

// said is a compact record of an event and whether it was accepted, or of a
// sighting.
type said struct {
	at       presence.Instant
	kind     presence.EventKind
	epoch    uint32
	accepted bool
	conn     string
	cause    presence.Cause
	seq      uint64
	age      time.Duration
	claim    *presence.Claim
	seen     *sighting
}

// sighting is the tracker's answer at one instant.
type sighting struct {
	state       presence.State
	team, admin presence.View
	lines       []string // of Explain, for an admin
}

// host is the actor that sets claims on behalf of other systems.
var host = presence.Actor{Subject: presence.ID("host"), Role: presence.RoleSystem}

// event is the event of the state machine. A claim with a source is the host's,
// any other the user's own.
func (s *said) event(who presence.Ref) presence.Event {
	e := presence.Event{Kind: s.kind, Subject: who, Conn: s.conn, Epoch: s.epoch, Cause: s.cause, Seq: s.seq, Age: presence.NoAge}
	switch {
	case s.kind == presence.EventHeartbeat && s.seq > 0:
		e.Age = s.age
	case s.kind == presence.EventConnect || s.kind == presence.EventLogin:
		e.Node = "local"
	}
	if s.claim != nil {
		e.Claim, e.Actor = *s.claim, presence.Agent(who)
		if s.claim.Source != "" {
			e.Actor = host
		}
	}
	return e
}

// look records the tracker's answers about a witness.
func (w *witness) look(t *presence.Tracker, now presence.Instant) error {
	s := new(sighting)
	var faults [4]error
	s.state, faults[0] = t.State(context.Background(), w.ref)
	s.team, faults[1] = t.GetAs(context.Background(), presence.AudienceTeam, w.ref)
	s.admin, faults[2] = t.GetAs(context.Background(), presence.AudienceAdmin, w.ref)
	s.lines, faults[3] = t.ExplainAs(context.Background(), presence.AudienceAdmin, w.ref)
	w.past = append(w.past, said{at: now, kind: presence.EventTick, accepted: true, seen: s})
	return errors.Join(faults[:]...)
}

// judged counts comparisons.
type judged struct{ events, sightings, turns int }

// judge gives the naive model the history of a witness. It returns the first
// difference, with the history that leads to it.
func (w *witness) judge(policy presence.Policy, seed uint64) (judged, error) {
	n := &naive.Model{Subject: w.ref, Policies: []presence.Policy{policy}}
	differs := func(upto int, format string, args ...any) error {
		var b strings.Builder
		fmt.Fprintf(&b, "the tracker and the naive model differ about %s, seed %d:", w.ref, seed)
		for i := range w.past[:upto] {
			s := &w.past[i]
			e := s.event(presence.Ref{})
			fmt.Fprintf(&b, "\n  +%-12v %s", s.at.Sub(w.past[0].at), naive.Text(&e, 0, w.past[0].at))
		}
		fmt.Fprintf(&b, "\n "+format, args...)
		return errors.New(b.String())
	}
	count := judged{events: len(w.past)}
	for i := range w.past {
		s := &w.past[i]
		if accepted := n.Feed(s.at, s.event(w.ref), 0); accepted != s.accepted {
			return count, differs(i+1, "the last event: accepted by the tracker: %t, by the model: %t", s.accepted, accepted)
		}
		if s.seen == nil {
			continue
		}
		count.sightings++
		if err := n.Compare(&s.seen.state, s.at); err != nil {
			return count, differs(i+1, "%v", err)
		}
		if err := s.seen.says(n.Answer(s.at)); err != nil {
			return count, differs(i+1, "%v", err)
		}
	}
	want := n.Timeline(nil)
	count.turns = len(want)
	if upto, err := w.judgeTurns(want); err != nil {
		return count, differs(upto, "%v", err)
	}
	return count, nil
}

// judgeTurns compares the transitions, and the start of each sighting's status.
// It returns how much of the past led to the first difference.
func (w *witness) judgeTurns(want []naive.Turn) (upto int, err error) {
	for i := range max(len(want), len(w.turns)) {
		switch {
		case i >= len(w.turns):
			return len(w.past), fmt.Errorf("transition %d was not reported: %s", i, want[i])
		case i >= len(want):
			return len(w.past), fmt.Errorf("transition %d was reported and did not happen: %s", i, w.turns[i])
		case want[i] != w.turns[i]:
			return len(w.past), fmt.Errorf("transition %d:\n want %s\n got  %s", i, want[i], w.turns[i])
		}
	}
	for i := range w.past {
		s := w.past[i].seen
		if s == nil {
			continue
		}
		later := slices.IndexFunc(want, func(t naive.Turn) bool { return t.Seen > w.past[i].at })
		if later < 0 {
			later = len(want)
		}
		since := presence.Instant(0)
		if later > 0 {
			since = want[later-1].Since
		}
		if s.state.Current.Since != since || s.admin.Since != since || !slices.Contains(s.lines, "since "+since.String()) {
			return i + 1, fmt.Errorf("want since %s\n got  %s; %s; %s", since, s.state.Current.Since, s.admin.Since, strings.Join(s.lines, "; "))
		}
	}
	return 0, nil
}

// says compares a sighting with the model's answer.
func (s *sighting) says(a naive.Answer) error {
	v := &s.admin
	got := a
	got.Status, got.Class, got.Masked, got.Cause, got.Reason, got.Text, got.SetAt, got.Until = v.Status, v.Class, v.Masked, v.Cause, v.Reason, v.Text, v.SetAt, v.Until
	got.Routable, got.Label, got.Load, got.LastSeen, got.LastLogin = v.Routable, v.Work, v.Load, v.LastSeen, v.LastLogin
	if got != a {
		return fmt.Errorf("want %+v\n an admin is shown %+v", a, got)
	}
	if s.team.Status != a.Status {
		return fmt.Errorf("want %s\n the team is shown %s", a.Status, s.team.Status)
	}
	masked := a.Masked == "" && !slices.ContainsFunc(s.lines, func(l string) bool { return strings.HasPrefix(l, "masked") }) ||
		slices.Contains(s.lines, "masked: "+a.Masked)
	if !masked || !strings.HasPrefix(s.lines[0], a.Status+": ") {
		return fmt.Errorf("want %+v\n explained as %s", a, strings.Join(s.lines, "; "))
	}
	return nil
}

// judgeAll judges all witnesses, on all cores.
func judgeAll(list []*witness, policy presence.Policy, seed uint64) (total judged, err error) {
	var next atomic.Int64
	counts, faults := make([]judged, len(list)), make([]error, len(list))
	var all sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		all.Go(func() {
			for i := int(next.Add(1)) - 1; i < len(list); i = int(next.Add(1)) - 1 {
				counts[i], faults[i] = list[i].judge(policy, seed)
				list[i].past = nil
			}
		})
	}
	all.Wait()
	for i, c := range counts {
		if faults[i] != nil {
			return total, faults[i]
		}
		total.events, total.sightings, total.turns = total.events+c.events, total.sightings+c.sightings, total.turns+c.turns
	}
	return total, nil
}
