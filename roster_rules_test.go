package presence

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// rosterScript drives a roster by short lines, and prints the frames that it returns.
type rosterScript struct {
	t *testing.T
	r *Roster
}

// word prints a group as status/count with what the hours add.
func (g Group) word() string {
	text := fmt.Sprintf("%s/%d", g.Status, g.Count)
	if g.Reason != "" {
		text += " " + g.Reason
	}
	if g.NextOpen != 0 {
		text += fmt.Sprintf("@%v", g.NextOpen.Sub(1).Seconds())
	}
	return text
}

// word prints a frame: its audience, number, group and rows.
func (f *Frame) word() string {
	words := []string{fmt.Sprintf("%s#%d %s", f.Epoch, f.Seq, f.Group.word())}
	for _, v := range f.Members {
		words = append(words, v.Subject.ID+"="+v.Status)
	}
	for _, c := range f.Changes {
		text := string(c.Op) + " " + c.Subject.ID
		if c.View != nil {
			text += "=" + c.View.Status
		}
		words = append(words, text+c.ID)
	}
	return strings.Join(words, ", ")
}

func (x *rosterScript) seconds(text string) Instant {
	var at float64
	_, err := fmt.Sscan(text, &at)
	require.NoError(x.t, err)
	return Instant(1).Add(time.Duration(at * float64(time.Second)))
}

// do runs a line, which begins with the second at which it runs.
func (x *rosterScript) do(line string) string {
	w := append(strings.Fields(line), "", "")
	now, arg := x.seconds(w[0]), w[2]
	a, viewer := Audience(arg), ID(w[3])
	var frames []*Frame
	switch w[1] {
	case "put":
		frames = x.r.Put(&Presence{Subject: ID(arg), Known: true, Status: w[3], Class: Class(w[3])}, now)
	case "remove":
		frames = x.r.Remove(ID(arg), now)
	case "tell":
		frames = x.r.Tell(Change{Op: OpChallenge, Subject: ID(arg), ID: "!"})
	case "flush":
		frames = x.r.Flush(now)
	case "publish":
		frames = x.r.Republish(now)
	case "hours":
		frames = x.r.SetHours(tens{}, now)
	case "open":
		frames = []*Frame{x.r.Open(a, viewer, func() string { return arg + w[3] })}
	case "close":
		x.r.Close(a, viewer)
	case "policy":
		x.r.SetMachine(must(Compile(rosterPolicy(arg))))
	case "group":
		return x.r.Group(a, viewer).word()
	case "list":
		f := Frame{Members: x.r.List(a, viewer), Group: x.r.Group(a, viewer)}
		return f.word()
	case "next":
		if at, ok := x.r.Next(); ok {
			return fmt.Sprint(at.Sub(1).Seconds())
		}
		return "none"
	case "waits":
		return fmt.Sprint(x.r.waits())
	case "resume":
		var seq uint64
		_, err := fmt.Sscan(w[4], &seq)
		require.NoError(x.t, err)
		resumed, ok := x.r.resume(a, viewer, w[5], seq)
		if !ok {
			return "no"
		}
		frames = resumed
	default:
		require.Fail(x.t, "unknown line", line)
	}
	words := make([]string, len(frames))
	for i, f := range frames {
		words[i] = f.word()
	}
	return strings.Join(words, "; ")
}

// tens are hours that change every ten seconds of a script.
type tens struct{}

func (tens) OpenAt(now Instant) (bool, Instant) {
	open, next := turns(10 * time.Second).OpenAt(now - 1)
	return open, next + 1
}

// rosterPolicy returns a policy by what differs from the default one.
func rosterPolicy(name string) Policy {
	p := DefaultPolicy()
	switch name {
	case "subject":
		p.CoalesceSubject = 3 * time.Second
	case "channel":
		p.CoalesceChannel = time.Second
	case "both":
		p.CoalesceSubject, p.CoalesceChannel = 3*time.Second, time.Second
	case "shortest":
		p.CoalesceSubject, p.CoalesceChannel = 1, 1
	case "online", "none":
		p.Widget.List = name
	case "staffed":
		p.AssumeStaffed = true
	case "empty":
		p.ScheduleOpenEmpty = EmptyVisible
	}
	return p
}

// What a roster sends is a function of the calls before. Each script is a list of
// lines, each with the frames that it gives, by epoch and number, with the group and
// the rows.
func TestRosterScripts(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		about  string
		policy string
		recall int
		single bool
		script [][2]string
	}{
		{about: "a group has the best status of its members", script: [][2]string{
			{"0 open team", "team#0 offline/0"},
			{"0 put ann away", "team#1 away/1, joined ann=away"},
			{"0 put bob busy", "team#2 away/2, joined bob=busy"},
			{"0 remove ann", "team#3 away/1, left ann"},
			{"0 put bob dnd", "team#4 away/1, updated bob=dnd"},
			{"0 put cat available", "team#5 available/2, joined cat=available"},
			{"0 put bob offline", "team#6 available/1, left bob=offline"},
			{"0 remove cat", "team#7 offline/0, left cat"},
			{"0 remove bob", "team#8 offline/0, updated bob"},
			{"0 remove bob", ""},
			{"0 put ann away", "team#9 away/1, joined ann=away"},
			{"0 put ann away", ""},
			{"0 publish", ""},
			{"0 open team", "team#9 away/1, ann=away"},
			{"0 open visitor", "visitor#0 away/1, ann=away"},
			{"0 put ann busy", "team#10 away/1, updated ann=busy; visitor#1 away/1, updated ann=busy"},
			{"0 close team", ""},
			{"0 close team", ""},
			{"0 put ann away", "visitor#2 away/1, updated ann=away"},
			{"0 close visitor", ""},
			{"0 put ann busy", ""},
		}},
		{about: "each audience has one stream, in the order of the audiences", script: [][2]string{
			{"0 open self bob", "selfbob#0 offline/0"},
			{"0 open visitor x", "visitorx#0 offline/0"},
			{"0 open self ann", "selfann#0 offline/0"},
			{"0 open team x", "teamx#0 offline/0"},
			{"0 put ann available", "selfann#1 available/1, joined ann=available; selfbob#1 available/1, joined ann=available; teamx#1 available/1, joined ann=available; visitorx#1 available/1, joined ann=available"},
			{"0 put bob away", "selfann#2 available/2, joined bob=away; selfbob#2 available/2, joined bob=away; teamx#2 available/2, joined bob=away; visitorx#2 available/2, joined bob=away"},
			{"0 tell ann", "selfann#3 available/2, challenge ann!"},
			{"0 tell cat", ""},
			{"0 tell ann", "selfann#4 available/2, challenge ann!"},
			{"0 open self ann", "selfann#4 available/2, ann=available, bob=away"},
			{"0 close self ann", ""},
			{"0 tell ann", ""},
			{"0 close team y", ""},
			{"0 put ann busy", "selfbob#3 away/2, updated ann=busy; visitorx#3 away/2, updated ann=busy"},
		}},
		{about: "visitors are sent the available members alone", policy: "online", script: [][2]string{
			{"0 open visitor", "visitor#0 offline/0"},
			{"0 put ann away", "visitor#1 away/0"},
			{"0 put bob available", "visitor#2 available/1, joined bob=available"},
			{"0 put ann available", "visitor#3 available/2, joined ann=available"},
			{"0 put ann busy", "visitor#4 available/1, left ann"},
			{"0 put bob away", "visitor#5 away/0, left bob"},
			{"0 put bob dnd", ""},
			{"0 open visitor", "visitor#5 away/0"},
			{"0 list visitor", "#0 away/0"},
			{"0 put bob available", "visitor#6 available/1, joined bob=available"},
			{"0 list visitor", "#0 available/1, bob=available"},
			{"0 list team", "#0 available/2, ann=busy, bob=available"},
			{"0 remove bob", "visitor#7 away/0, left bob"},
			{"0 list team", "#0 away/1, ann=busy"},
			{"0 remove ann", "visitor#8 offline/0"},
			{"0 group team", "offline/0"},
		}},
		{about: "visitors are sent no member", policy: "none", script: [][2]string{
			{"0 open visitor", "visitor#0 offline/0"},
			{"0 put ann away", "visitor#1 away/0"},
			{"0 put bob available", "visitor#2 available/0"},
			{"0 put bob away", "visitor#3 away/0"},
			{"0 remove bob", ""},
			{"0 list visitor", "#0 away/0"},
		}},
		{about: "lists follow every change", script: [][2]string{
			{"0 list team", "#0 offline/0"},
			{"0 put cat away", ""},
			{"0 list team", "#0 away/1, cat=away"},
			{"0 list self cat", "#0 away/1, cat=away"},
			{"0 put ann busy", ""},
			{"0 list team", "#0 away/2, ann=busy, cat=away"},
			{"0 list self cat", "#0 away/2, ann=busy, cat=away"},
			{"0 put ann available", ""},
			{"0 list team", "#0 available/2, ann=available, cat=away"},
			{"0 list visitor", "#0 available/2, ann=available, cat=away"},
			{"0 policy online", ""},
			{"0 list visitor", "#0 available/1, ann=available"},
			{"0 remove ann", ""},
			{"0 list team", "#0 away/1, cat=away"},
			{"0 list visitor", "#0 away/0"},
		}},
		{about: "a new policy is sent with the next change or at once", script: [][2]string{
			{"0 put ann away", ""},
			{"0 put bob available", ""},
			{"0 open visitor", "visitor#0 available/2, ann=away, bob=available"},
			{"0 policy online", ""},
			{"0 publish", "visitor#1 available/1, left ann"},
			{"0 publish", ""},
			{"0 policy x", ""},
			{"0 put ann away", "visitor#2 available/2, joined ann=away"},
			{"0 put ann away", ""},
		}},
		{about: "changes of one subject are held back", policy: "subject", script: [][2]string{
			{"0 open team", "team#0 offline/0"},
			{"0 put ann available", "team#1 available/1, joined ann=available"},
			{"1 put ann busy", ""},
			{"1 put bob away", "team#2 available/2, joined bob=away"},
			{"1 waits", "true"},
			{"1 next", "3"},
			{"2 put bob busy", ""},
			{"2 next", "3"},
			{"2.9 flush", ""},
			{"3 flush", "team#3 away/2, updated ann=busy"},
			{"3 next", "4"},
			{"3.5 put bob away", ""},
			{"4 flush", ""},
			{"4 waits", "false"},
			{"4 next", "none"},
			{"6 put ann busy", ""},
			{"6 put ann away", "team#4 away/2, updated ann=away"},
			{"7 remove ann", ""},
			{"7 put ann away", ""},
			{"7 remove ann", ""},
			{"7 next", "9"},
			{"9 flush", "team#5 away/1, left ann"},
			{"9 next", "12"},
			{"12 flush", ""},
			{"12 next", "none"},
			{"13 put ann away", "team#6 away/2, joined ann=away"},
			{"13 policy x", ""},
			{"13.5 put ann busy", "team#7 away/2, updated ann=busy"},
			{"13.5 next", "none"},
			{"13.5 policy subject", ""},
			{"13.5 put ann away", "team#8 away/2, updated ann=away"},
		}},
		{about: "a new policy does not hasten what is held back", policy: "subject", script: [][2]string{
			{"0 open team", "team#0 offline/0"},
			{"0 put ann available", "team#1 available/1, joined ann=available"},
			{"1 put ann busy", ""},
			{"1 policy x", ""},
			{"1.5 flush", ""},
			{"1.5 next", "3"},
			{"3 flush", "team#2 away/1, updated ann=busy"},
		}},
		{about: "the shortest interval is one", policy: "shortest", script: [][2]string{
			{"0 open team", "team#0 offline/0"},
			{"0 put ann available", "team#1 available/1, joined ann=available"},
			{"0 put ann busy", ""},
			{"0 put bob busy", ""},
			{"0 flush", ""},
			{"0 waits", "true"},
			{"0.000000002 flush", "team#2 away/2, updated ann=busy, joined bob=busy"},
		}},
		{about: "changes of a channel are held back", policy: "channel", script: [][2]string{
			{"0 open team", "team#0 offline/0"},
			{"0 put bob available", "team#1 available/1, joined bob=available"},
			{"0.5 put bob busy", ""},
			{"0.5 put ann busy", ""},
			{"0.5 next", "1"},
			{"0.9 flush", ""},
			{"1 flush", "team#2 away/2, joined ann=busy, updated bob=busy"},
			{"1 waits", "false"},
			{"1.5 put bob away", ""},
			{"1.6 put bob busy", ""},
			{"2 flush", ""},
			{"2 put bob away", "team#3 away/2, updated bob=away"},
			{"2.5 open visitor", "visitor#0 away/2, ann=busy, bob=away"},
			{"2.5 put bob busy", "visitor#1 away/2, updated bob=busy"},
			{"2.5 next", "3"},
			{"3 put ann away", "team#4 away/2, updated ann=away"},
			{"3 flush", ""},
			{"3.5 flush", "visitor#2 away/2, updated ann=away"},
			{"4 flush", "team#5 away/2, updated bob=busy"},
			{"4 next", "none"},
		}},
		{about: "the longer of both intervals holds", policy: "both", script: [][2]string{
			{"0 open team", "team#0 offline/0"},
			{"0 put ann available", "team#1 available/1, joined ann=available"},
			{"0.5 put bob busy", ""},
			{"0.5 next", "1"},
			{"1 put ann busy", ""},
			{"1 flush", "team#2 available/2, joined bob=busy"},
			{"1 next", "3"},
			{"2.5 put cat away", "team#3 available/3, joined cat=away"},
			{"3 flush", ""},
			{"3 next", "3.5"},
			{"3.5 flush", "team#4 away/3, updated ann=busy"},
			{"3.5 next", "none"},
		}},
		{about: "one subject has no interval of the channel", policy: "both", single: true, script: [][2]string{
			{"0 open team", "team#0 offline/0"},
			{"0 put ann available", "team#1 available/1, joined ann=available"},
			{"0.5 put bob busy", "team#2 available/2, joined bob=busy"},
			{"0.5 put ann busy", ""},
			{"0.5 next", "3"},
			{"3 flush", "team#3 away/2, updated ann=busy"},
		}},
		{about: "a watcher resumes from the diffs that are kept", recall: 2, script: [][2]string{
			{"0 resume team x 0 team", "no"},
			{"0 open team", "team#0 offline/0"},
			{"0 resume team x 0 team", ""},
			{"0 put ann busy", "team#1 away/1, joined ann=busy"},
			{"0 resume team x 0 team", "team#1 away/1, joined ann=busy"},
			{"0 resume team x 1 team", ""},
			{"0 resume team x 2 team", "no"},
			{"0 resume team x 0 other", "no"},
			{"0 put bob away", "team#2 away/2, joined bob=away"},
			{"0 resume team x 0 team", "team#1 away/1, joined ann=busy; team#2 away/2, joined bob=away"},
			{"0 remove ann", "team#3 away/1, left ann"},
			{"0 resume team x 0 team", "no"},
			{"0 resume team x 1 team", "team#2 away/2, joined bob=away; team#3 away/1, left ann"},
			{"0 resume team x 3 team", ""},
			{"0 put bob busy", "team#4 away/1, updated bob=busy"},
			{"0 resume team x 1 team", "no"},
			{"0 resume team x 2 team", "team#3 away/1, left ann; team#4 away/1, updated bob=busy"},
			{"0 policy x", ""},
			{"0 resume team x 4 team", "no"},
			{"0 put bob away", "team#5 away/1, updated bob=away"},
			{"0 resume team x 4 team", "no"},
			{"0 resume team x 5 team", ""},
			{"0 put bob busy", "team#6 away/1, updated bob=busy"},
			{"0 resume team x 5 team", "team#6 away/1, updated bob=busy"},
			{"0 resume team x 6 team", ""},
			{"0 resume team x 7 team", "no"},
		}},
		{about: "what a subject was told is kept as well", recall: 1, script: [][2]string{
			{"0 open self ann", "selfann#0 offline/0"},
			{"0 tell ann", "selfann#1 offline/0, challenge ann!"},
			{"0 resume self ann 0 selfann", "selfann#1 offline/0, challenge ann!"},
			{"0 put ann busy", "selfann#2 away/1, joined ann=busy"},
			{"0 resume self ann 0 selfann", "no"},
			{"0 resume self ann 1 selfann", "selfann#2 away/1, joined ann=busy"},
			{"0 tell ann", "selfann#3 away/1, challenge ann!"},
			{"0 resume self ann 2 selfann", "selfann#3 away/1, challenge ann!"},
		}},
		{about: "no diff is kept", script: [][2]string{
			{"0 open self ann", "selfann#0 offline/0"},
			{"0 put ann busy", "selfann#1 away/1, joined ann=busy"},
			{"0 resume self ann 0 selfann", "no"},
			{"0 resume self ann 1 selfann", ""},
			{"0 tell ann", "selfann#2 away/1, challenge ann!"},
			{"0 resume self ann 1 selfann", "no"},
		}},
		{about: "hours close a channel", script: [][2]string{
			{"0 open team", "team#0 offline/0"},
			{"0 put ann available", "team#1 available/1, joined ann=available"},
			{"0 hours", ""},
			{"0 next", "10"},
			{"0 open visitor", "visitor#0 available/1, ann=available"},
			{"9.9 flush", ""},
			{"10 flush", "team#2 available/1 closed@20; visitor#1 offline/1 closed@20"},
			{"10 next", "20"},
			{"12 put ann away", "team#3 away/1 closed@20, updated ann=away; visitor#2 offline/1 closed@20, updated ann=away"},
			{"12 group visitor", "offline/1 closed@20"},
			{"12 list team", "#0 away/1 closed@20, ann=away"},
			{"20 put ann away", "team#4 away/1; visitor#3 away/1"},
			{"20 next", "30"},
		}},
		{about: "what is next is the first of what waits", policy: "subject", script: [][2]string{
			{"0 open team", "team#0 offline/0"},
			{"8 hours", ""},
			{"8 put ann away", "team#1 away/1, joined ann=away"},
			{"8.5 put ann busy", ""},
			{"8.5 next", "10"},
			{"10 flush", "team#2 away/1 closed@20"},
			{"10 next", "11"},
			{"18 put ann available", "team#3 available/1 closed@20, updated ann=available"},
			{"18 put ann away", ""},
			{"18 next", "20"},
			{"20 flush", "team#4 available/1"},
			{"20 next", "21"},
			{"24 put ann busy", "team#5 away/1, updated ann=busy"},
			{"24 put ann away", ""},
			{"24 next", "27"},
			{"27 flush", "team#6 away/1, updated ann=away"},
			{"27 next", "30"},
		}},
		{about: "an open channel is staffed", policy: "staffed", script: [][2]string{
			{"0 open visitor", "visitor#0 offline/0"},
			{"0 hours", "visitor#1 available/0"},
			{"0 list team", "#0 offline/0"},
			{"10 flush", "visitor#2 offline/0 closed@20"},
			{"20 flush", "visitor#3 available/0"},
		}},
		{about: "an open channel without members is away", policy: "empty", script: [][2]string{
			{"0 open visitor", "visitor#0 offline/0"},
			{"0 hours", "visitor#1 away/0 unstaffed"},
			{"0 list team", "#0 offline/0"},
			{"0 put ann busy", "visitor#2 away/1, joined ann=busy"},
			{"0 remove ann", "visitor#3 away/0 unstaffed, left ann"},
			{"10 flush", "visitor#4 offline/0 closed@20"},
			{"20 flush", "visitor#5 away/0 unstaffed"},
		}},
	} {
		x := &rosterScript{t, newRoster(ChannelID("sales"), must(Compile(rosterPolicy(c.policy))), c.recall, c.single, nil)}
		for _, line := range c.script {
			require.Equal(t, line[1], x.do(line[0]), "%s: %s", c.about, line[0])
		}
	}
}
