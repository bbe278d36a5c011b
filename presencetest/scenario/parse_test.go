package scenario_test

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/presence-go/presence/presencetest/scenario"
)

const example = `version 1
proves C7 C13 C14 C17                  # the product's own words
policy respondio idle.after=10m        # a preset, overridden by path

login alice/tab1                       # subject/connection
expect alice online class=available cause=default since=09:00
+2m    claim alice busy                # two minutes after the line before
       expect alice busy cause=manual  # no time: the same instant
+10m   expect alice offline cause=idle since=09:12 masked=busy proves=C13,C14
+1m    input alice/tab1
       expect alice busy proves=C17
`

// at returns a time of the default day.
func at(clock string) time.Time {
	t, err := time.Parse("2006-01-02 15:04:05", "2026-01-05 "+clock)
	if err != nil {
		panic(err)
	}
	return t
}

func TestParseExample(t *testing.T) {
	f, err := scenario.Parse("example.txt", []byte(example))
	require.NoError(t, err)
	require.Equal(t, "example.txt", f.Name)
	require.Equal(t, scenario.Version{Major: 1}, f.Version)
	require.Equal(t, []string{"C7", "C13", "C14", "C17"}, f.Proves)
	require.Equal(t, scenario.DefaultStart, f.Start)
	require.Empty(t, f.Warnings)

	var got []string
	for _, l := range f.Lines {
		got = append(got, fmt.Sprint(l.Number, " ", l.At.Format("15:04"), " ", l.Verb, " ", l.Subject, " ", l.Status, l.Proves))
	}
	require.Equal(t, []string{
		"3 09:00 policy  []",
		"5 09:00 login alice []",
		"6 09:00 expect alice online[]",
		"7 09:02 claim alice busy[]",
		"8 09:02 expect alice busy[]",
		"9 09:12 expect alice offline[C13 C14]",
		"10 09:13 input alice []",
		"11 09:13 expect alice busy[C17]",
	}, got)
	require.Equal(t, "policy respondio idle.after=10m", f.Lines[0].Text)
	require.Equal(t, "10m", f.Lines[0].Key("idle.after").Text)
	require.Equal(t, "tab1", f.Lines[1].Conn)
	require.Equal(t, scenario.Instant{Text: "+2m", Relative: true, After: 2 * time.Minute}, f.Lines[3].Instant)
	require.Equal(t, &scenario.Expectation{
		Form: scenario.FormStatus, Line: 9, Subject: "alice", Status: "offline",
		Cause: "idle", Since: at("09:12:00"), Masked: "busy",
	}, f.Lines[5].Expect)
}

// show writes a parsed verb: arguments by their text and, if they have one, by
// their typed value.
func show(l scenario.Line) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s", l.Verb)
	value := func(v scenario.Value) {
		switch {
		case !v.Time.IsZero():
			b.WriteString(v.Time.Format(time.RFC3339Nano))
		case v.Duration != 0:
			b.WriteString(v.Duration.String())
		case v.Number != 0:
			fmt.Fprintf(&b, "#%d", v.Number)
		case v.List != nil:
			fmt.Fprintf(&b, "%q", v.List)
		default:
			fmt.Fprintf(&b, "<%s>", v.Text)
		}
	}
	for _, v := range l.Args {
		b.WriteByte(' ')
		value(v)
	}
	for _, v := range l.Keys {
		fmt.Fprintf(&b, " %s=", v.Name)
		value(v)
	}
	fmt.Fprintf(&b, " | %s/%s %s %s", l.Subject, l.Conn, l.Channel, l.Status)
	return b.String()
}

var verbLines = []struct{ src, want string }{
	{"policy respondio", "policy <respondio> | /  "},
	{"policy ./lunch.json idle.after=10m widget.list=online by=ann", "policy <./lunch.json> idle.after=<10m> widget.list=<online> by=<ann> | /  "},
	{`policy gate.push="" idle.after=5m`, "policy gate.push=<> idle.after=<5m> | /  "},
	{"role ann supervisor", "role <ann> <supervisor> | ann/  "},
	{"connect alice/tab1", "connect <alice/tab1> | alice/tab1  "},
	{"connect alice/tab1 idle=20m node=n1 device=mobile", "connect <alice/tab1> idle=20m0s node=<n1> device=<mobile> | alice/tab1  "},
	{"login a@b.example:1/x+y device=web node=n1", "login <a@b.example:1/x+y> device=<web> node=<n1> | a@b.example:1/x+y  "},
	{"logout alice", "logout <alice> | alice/  "},
	{"logout alice/tab1", "logout <alice/tab1> | alice/tab1  "},
	{"close alice/tab1", "close <alice/tab1> | alice/tab1  "},
	{"lose alice/tab1", "lose <alice/tab1> | alice/tab1  "},
	{"resume alice/tab1", "resume <alice/tab1> | alice/tab1  "},
	{"sleep alice/tab1", "sleep <alice/tab1> | alice/tab1  "},
	{"wake alice/tab1", "wake <alice/tab1> | alice/tab1  "},
	{"input alice/tab1", "input <alice/tab1> | alice/tab1  "},
	{"idle alice/tab1 20m", "idle <alice/tab1> 20m0s | alice/tab1  "},
	{"focus alice/tab1 sales", "focus <alice/tab1> <sales> | alice/tab1 sales "},
	{"hide alice/tab1", "hide <alice/tab1> | alice/tab1  "},
	{"show alice/tab1", "show <alice/tab1> | alice/tab1  "},
	{"endpoint alice push", "endpoint <alice> <push> | alice/  "},
	{"endpoint helper bot off", "endpoint <helper> <bot> <off> | helper/  "},
	{"claim alice busy", "claim <alice> <busy> | alice/  busy"},
	{`claim alice busy source=call key=k1 conn=tab1 until=17:30 reason=r text="\"on\" a \\ call  # no comment" by=system`,
		`claim <alice> <busy> source=<call> key=<k1> conn=<tab1> until=2026-01-05T17:30:00Z reason=<r> text=<"on" a \ call  # no comment> by=<system> | alice/  busy`},
	{"claim alice lunch for=30m", "claim <alice> <lunch> for=30m0s | alice/  lunch"},
	{"release alice", "release <alice> | alice/  "},
	{"release alice source=manual key=k conn=tab1 by=ann", "release <alice> source=<manual> key=<k> conn=<tab1> by=<ann> | alice/  "},
	{"request alice lunch reason=hungry", "request <alice> <lunch> reason=<hungry> | alice/  lunch"},
	{"accept alice by=ann", "accept <alice> by=<ann> | alice/  "},
	{"reject alice by=ann", "reject <alice> by=<ann> | alice/  "},
	{"withdraw alice", "withdraw <alice> | alice/  "},
	{"define study class=away selectable=self by=root", "define <study> class=<away> selectable=<self> by=<root> | /  study"},
	{"undefine study by=root", "undefine <study> by=<root> | /  study"},
	{"load alice 3 capacity=5 pinned=2 on=chat", "load <alice> #3 capacity=#5 pinned=#2 on=<chat> | alice/  "},
	{"challenge alice for=60s", "challenge <alice> for=1m0s | alice/  "},
	{"ack alice", "ack <alice> | alice/  "},
	{"work w1 sales client=carl to=alice", "work <w1> <sales> client=<carl> to=<alice> | / sales "},
	{"begin w1", "begin <w1> | /  "},
	{"decline w1 alice", "decline <w1> <alice> | alice/  "},
	{"transfer w1 sales by=boss", "transfer <w1> <sales> by=<boss> | / sales "},
	{"assign w1 alice by=ann", "assign <w1> <alice> by=<ann> | alice/  "},
	{"finish w1", "finish <w1> | /  "},
	{"message carl", "message <carl> | /  "},
	{"link sales inbox1", "link <sales> <inbox1> | / sales "},
	{"grant alice inbox1", "grant <alice> <inbox1> | alice/ inbox1 "},
	{"revoke alice sales", "revoke <alice> <sales> | alice/ sales "},
	{"join alice sales", "join <alice> <sales> | alice/ sales "},
	{"watch vic sales as=visitor label=free", "watch <vic> <sales> as=<visitor> label=<free> | vic/ sales "},
	{"unwatch vic sales", "unwatch <vic> <sales> | vic/ sales "},
	{`schedule sales "mon-fri 09:00-12:00,13:00-17:00" zone=Europe/Berlin except=2026-12-25,2026-12-26`,
		`schedule <sales> <mon-fri 09:00-12:00,13:00-17:00> zone=<Europe/Berlin> except=["2026-12-25" "2026-12-26"] | / sales `},
	{"disable alice", "disable <alice> | alice/  "},
	{"disable all", "disable <all> | /  "},
	{"enable alice", "enable <alice> | alice/  "},
	{"node n1 down", "node <n1> <down> | /  "},
	{"node n1 up", "node <n1> <up> | /  "},
	{"node n1 drain", "node <n1> <drain> | /  "},
	{"suspend 5m", "suspend 5m0s | /  "},
	{"clock -5m", "clock -5m0s | /  "},
	{"clock +1h30m", "clock 1h30m0s | /  "},
	{"notify alice kind=push channel=sales", "notify <alice> kind=<push> channel=<sales> | alice/  "},
	{`notify alice kind="inapp"`, "notify <alice> kind=<inapp> | alice/  "},
}

func TestParseVerbs(t *testing.T) {
	seen := map[string]bool{}
	for _, c := range verbLines {
		f, err := scenario.Parse("verbs.txt", []byte("version 1\n"+c.src+"\n"))
		require.NoError(t, err, c.src)
		require.Len(t, f.Lines, 1, c.src)
		require.Equal(t, c.want, show(f.Lines[0]), c.src)
		require.Nil(t, f.Lines[0].Expect, c.src)
		require.Nil(t, f.Lines[0].Refused, c.src)
		require.Equal(t, c.src, f.Lines[0].Text)
		seen[f.Lines[0].Verb] = true
	}
	for _, usage := range section(t, "Verbs") {
		verb, _, _ := strings.Cut(usage, " ")
		require.True(t, seen[verb], "no line shows %s", verb)
	}
}

var expectLines = []struct {
	src  string
	want scenario.Expectation
}{
	{"alice online", scenario.Expectation{Form: "status", Subject: "alice", Status: "online"}},
	{`alice offline as=team class=offline cause=idle trigger=connect since=09:12 setat=09:02:30.5 until=2026-01-06T00:30:00+01:00 masked=busy routable=no label=free reason="a b"`,
		scenario.Expectation{Form: "status", Subject: "alice", Status: "offline", As: "team", Class: "offline", Cause: "idle", Trigger: "connect",
			Since: at("09:12:00"), SetAt: at("09:02:30.5"), Until: at("23:30:00"), Masked: "busy", Routable: new(false), Label: "free", Reason: new("a b")}},
	{`alice online routable=yes reason=""`, scenario.Expectation{Form: "status", Subject: "alice", Status: "online", Routable: new(true), Reason: new("")}},
	{`"list" online`, scenario.Expectation{Form: "status", Subject: "list", Status: "online"}},
	{"ghost.1 unknown", scenario.Expectation{Form: "status", Subject: "ghost.1", Status: "unknown"}},
	{"alice.threads 3", scenario.Expectation{Form: "field", Subject: "alice", Field: "threads", Text: "3", Number: 3}},
	{"alice.pinned absent as=supervisor", scenario.Expectation{Form: "field", Subject: "alice", Field: "pinned", Absent: true, As: "supervisor"}},
	{"alice.since 09:12", scenario.Expectation{Form: "field", Subject: "alice", Field: "since", Text: "09:12", Time: at("09:12:00")}},
	{"alice.setat 09:12", scenario.Expectation{Form: "field", Subject: "alice", Field: "setat", Text: "09:12", Time: at("09:12:00")}},
	{"alice.lastseen 09:12", scenario.Expectation{Form: "field", Subject: "alice", Field: "lastseen", Text: "09:12", Time: at("09:12:00")}},
	{"alice.lastlogin absent", scenario.Expectation{Form: "field", Subject: "alice", Field: "lastlogin", Absent: true}},
	{"alice.until 09:12", scenario.Expectation{Form: "field", Subject: "alice", Field: "until", Text: "09:12", Time: at("09:12:00")}},
	{"alice.request pending", scenario.Expectation{Form: "field", Subject: "alice", Field: "request", Text: "pending"}},
	{"alice.color #0a0", scenario.Expectation{Form: "field", Subject: "alice", Field: "color", Text: "#0a0"}},
	{"alice.masked busy", scenario.Expectation{Form: "field", Subject: "alice", Field: "masked", Text: "busy"}},
	{`alice.text "absent"`, scenario.Expectation{Form: "field", Subject: "alice", Field: "text", Text: "absent"}},
	{"never alice offline as=visitor", scenario.Expectation{Form: "never", Subject: "alice", Status: "offline", As: "visitor"}},
	{"list sales alice,bob as=router label=free order=routing", scenario.Expectation{Form: "list", Channel: "sales", List: []string{"alice", "bob"}, As: "router", Label: "free", ByRouting: true}},
	{"list sales none", scenario.Expectation{Form: "list", Channel: "sales"}},
	{"count sales free 2", scenario.Expectation{Form: "count", Channel: "sales", Label: "free", Number: 2}},
	{"group sales offline as=visitor reason=closed nextopen=2026-01-06T08:00:00Z", scenario.Expectation{Form: "group", Channel: "sales", Word: "offline", As: "visitor", Reason: new("closed"), NextOpen: at("08:00:00").AddDate(0, 0, 1)}},
	{"selectable alice online,busy by=ann", scenario.Expectation{Form: "selectable", Subject: "alice", List: []string{"online", "busy"}, By: "ann"}},
	{`labels sales "Active (free),lunch"`, scenario.Expectation{Form: "labels", Channel: "sales", List: []string{"Active (free)", "lunch"}}},
	{"seen vic snapshot a=online,b=away", scenario.Expectation{Form: "seen", Watcher: "vic", Word: "snapshot", Snapshot: []scenario.Shown{{Subject: "a", Status: "online"}, {Subject: "b", Status: "away"}}}},
	{"seen vic snapshot a=online", scenario.Expectation{Form: "seen", Watcher: "vic", Word: "snapshot", Snapshot: []scenario.Shown{{Subject: "a", Status: "online"}}}},
	{"seen vic snapshot none", scenario.Expectation{Form: "seen", Watcher: "vic", Word: "snapshot"}},
	{"seen vic snapshot", scenario.Expectation{Form: "seen", Watcher: "vic", Word: "snapshot"}},
	{"seen vic joined alice", scenario.Expectation{Form: "seen", Watcher: "vic", Word: "joined", Subject: "alice"}},
	{"seen vic left alice", scenario.Expectation{Form: "seen", Watcher: "vic", Word: "left", Subject: "alice"}},
	{"seen vic updated alice away", scenario.Expectation{Form: "seen", Watcher: "vic", Word: "updated", Subject: "alice", Status: "away"}},
	{"seen vic rejected lunch", scenario.Expectation{Form: "seen", Watcher: "vic", Word: "rejected", Status: "lunch"}},
	{"seen vic removed", scenario.Expectation{Form: "seen", Watcher: "vic", Word: "removed"}},
	{"seen vic nothing", scenario.Expectation{Form: "seen", Watcher: "vic", Word: "nothing"}},
	{"gate deliver", scenario.Expectation{Form: "gate", Word: "deliver"}},
	{"gate skip", scenario.Expectation{Form: "gate", Word: "skip"}},
	{"gate defer", scenario.Expectation{Form: "gate", Word: "defer"}},
	{"work w1 alice", scenario.Expectation{Form: "work", Work: "w1", Subject: "alice"}},
	{"work w1 queued", scenario.Expectation{Form: "work", Work: "w1", Word: "queued"}},
	{"work w1 done", scenario.Expectation{Form: "work", Work: "w1", Word: "done"}},
	{"candidates sales bob,alice", scenario.Expectation{Form: "candidates", Channel: "sales", List: []string{"bob", "alice"}}},
	{"candidates sales none", scenario.Expectation{Form: "candidates", Channel: "sales"}},
	{"requeued alice w1,w2", scenario.Expectation{Form: "requeued", Subject: "alice", List: []string{"w1", "w2"}}},
	{"refused", scenario.Expectation{Form: "refused"}},
	{"refused selectable", scenario.Expectation{Form: "refused", Text: "selectable"}},
	{`refused not "selectable by" self`, scenario.Expectation{Form: "refused", Text: "not selectable by self"}},
	{"log alice online/login 09:00 busy 09:02 offline/idle 09:12", scenario.Expectation{Form: "log", Subject: "alice", Log: []scenario.Logged{
		{Status: "online", Trigger: "login", At: at("09:00:00")}, {Status: "busy", At: at("09:02:00")}, {Status: "offline", Trigger: "idle", At: at("09:12:00")}}}},
	{"log alice none", scenario.Expectation{Form: "log", Subject: "alice"}},
	{"spent alice busy 10m from=09:00 to=10:00", scenario.Expectation{Form: "spent", Subject: "alice", Status: "busy", Duration: 10 * time.Minute, From: at("09:00:00"), To: at("10:00:00")}},
	{"spent alice busy 0s", scenario.Expectation{Form: "spent", Subject: "alice", Status: "busy"}},
	{`why alice "set by ann" as=admin`, scenario.Expectation{Form: "why", Subject: "alice", Text: "set by ann", As: "admin"}},
}

func TestParseExpectations(t *testing.T) {
	seen := map[string]bool{}
	for _, c := range expectLines {
		for _, proves := range []string{"", " proves=C13,X1"} {
			src := "expect " + c.src + proves
			f, err := scenario.Parse("expect.txt", []byte("version 1\nlogin alice/tab1\n"+src+"\n"))
			require.NoError(t, err, src)
			require.Len(t, f.Lines, 2, src)
			l, want := f.Lines[1], c.want
			want.Line = 3
			require.Equal(t, "expect", l.Verb)
			require.Equal(t, &want, l.Expect, src)
			if proves != "" {
				require.Equal(t, []string{"C13", "X1"}, l.Proves, src)
			}
			if want.Form == scenario.FormRefused {
				require.Same(t, l.Expect, f.Lines[0].Refused, src)
			} else {
				require.Nil(t, f.Lines[0].Refused, src)
			}
		}
		seen[string(c.want.Form)] = true
		seen[string(c.want.Form)+" "+c.want.Word] = true
	}
	require.True(t, seen["status"])
	require.True(t, seen["field"])
	for _, usage := range section(t, "Expectations")[2:] {
		words := strings.Fields(usage)
		form := words[1]
		if form == "seen" {
			form += " " + words[3]
		}
		require.True(t, seen[form], "no line shows %s", form)
	}
}

// section returns the usages of one section of the printed grammar.
func section(t *testing.T, title string) []string {
	t.Helper()
	_, rest, found := strings.Cut(scenario.Grammar(), "\n\n"+title)
	require.True(t, found)
	rest, _, found = strings.Cut(rest, "\n\n")
	require.True(t, found)
	var usages []string
	for _, m := range regexp.MustCompile(`(?m)^  (\S.*)$`).FindAllStringSubmatch(rest, -1) {
		usages = append(usages, m[1])
	}
	require.Greater(t, len(usages), 10)
	return usages
}

func TestGrammar(t *testing.T) {
	g := scenario.Grammar()
	for _, part := range []string{
		"  version VERSION\n",
		"  claim S STATUS [source=SOURCE]",
		"  expect S.FIELD absent|VALUE [as=AUDIENCE]\n      one field of the view\n",
		"  AUDIENCE  one of team, self, supervisor, admin, visitor, router\n",
	} {
		require.Contains(t, g, part)
	}
	// Every placeholder of a usage is explained.
	for _, name := range regexp.MustCompile(`[A-Z][A-Z/.]*[A-Z]|\b[A-Z]\b`).FindAllString(strings.Join(append(section(t, "Verbs"), section(t, "Expectations")...), "\n"), -1) {
		require.Regexp(t, `(?m)^  `+regexp.QuoteMeta(name)+` +\S`, g)
	}
}

func TestParseHead(t *testing.T) {
	f, err := scenario.Parse("head.txt", []byte("\ufeff# a file from another system\r\n"+
		"proves A1,A2 F3\r\nproves A1 X12\r\npolicy default\r\nstart 2026-03-01T23:30:00+01:00\r\nversion 1.0\r\n\r\n"+
		"  # indented\r\n"+
		"login a/1\r\n"+
		"23:00:00.000000001\tlogin b/1\t# after a tab\r\n"+
		"2026-03-02T00:00:00Z login c/1\r\n"+
		"policy tawkto\r\n"+
		"+0s expect a online until=01:00"))
	require.NoError(t, err)
	start := time.Date(2026, 3, 1, 22, 30, 0, 0, time.UTC)
	require.Equal(t, []string{"A1", "A2", "F3", "X12"}, f.Proves)
	require.Equal(t, start, f.Start)
	require.Len(t, f.Lines, 6)
	require.Equal(t, start, f.Lines[0].At, "a policy line above start")
	require.Equal(t, start, f.Lines[1].At)
	require.Equal(t, time.Date(2026, 3, 1, 23, 0, 0, 1, time.UTC), f.Lines[2].At)
	require.Equal(t, scenario.Instant{Text: "23:00:00.000000001", Time: f.Lines[2].At}, f.Lines[2].Instant)
	require.Equal(t, `23:00:00.000000001	login b/1`, f.Lines[2].Text)
	require.Equal(t, time.Date(2026, 3, 2, 0, 0, 0, 0, time.UTC), f.Lines[3].At)
	require.Equal(t, f.Lines[3].At, f.Lines[5].At)
	require.Equal(t, time.Date(2026, 3, 1, 1, 0, 0, 0, time.UTC), f.Lines[5].Expect.Until, "the day of the start")

	f, err = scenario.Parse("head.txt", []byte("version 1\nstart 08:15\n"))
	require.NoError(t, err)
	require.Equal(t, at("08:15:00"), f.Start)
	require.Empty(t, f.Lines)
}

func TestParseVersions(t *testing.T) {
	f, err := scenario.Parse("v.txt", []byte("version 1.7\nlogin alice/1 colour=red device=web\nexpect alice online mood=good\n"))
	require.NoError(t, err)
	require.Equal(t, "1.7", f.Version.String())
	require.Equal(t, []scenario.Fault{
		{File: "v.txt", Line: 2, Text: `login: unknown key "colour" is ignored; known are device, node`},
		{File: "v.txt", Line: 3, Text: `expect: unknown key "mood" is ignored; known are as, class, cause, trigger, since, setat, until, masked, routable, label, reason, proves`},
	}, f.Warnings)
	require.Len(t, f.Lines[0].Keys, 1)
	require.Equal(t, "1", scenario.Supported.String())
}

// TestParseDots checks that an id with dots is a subject if a verb above named
// it, and else a field.
func TestParseDots(t *testing.T) {
	f, err := scenario.Parse("dots.txt", []byte(`version 1
login bob@example.text/1
expect bob@example.text online
expect bob@example.text.text hello
claim bob@example.text busy by=team.since
expect team.since online
expect team.pinned 0
`))
	require.NoError(t, err)
	var got []string
	for _, l := range f.Lines {
		if e := l.Expect; e != nil {
			got = append(got, fmt.Sprintf("%s %s %s", e.Form, e.Subject, e.Field))
		}
	}
	require.Equal(t, []string{
		"status bob@example.text ", "field bob@example.text text", "status team.since ", "field team pinned",
	}, got)
}

// TestParseSuspend checks that a suspension takes its time.
func TestParseSuspend(t *testing.T) {
	f, err := scenario.Parse("suspend.txt", []byte(`version 1
login alice/1
+10m suspend 5m
expect alice online
+1m expect alice online
`))
	require.NoError(t, err)
	var got []string
	for _, l := range f.Lines {
		got = append(got, l.At.Format("15:04"))
	}
	require.Equal(t, []string{"09:00", "09:10", "09:15", "09:16"}, got)
	requireFaults(t, "version 1\nsuspend 5m\n09:04 ack alice",
		"3: time steps back from 2026-01-05T09:05:00Z to 2026-01-05T09:04:00Z; want the first instant or a later one")
	requireFaults(t, "version 1\nstart 2149-12-31T23:59:00Z\nsuspend 5m",
		"3: suspend leads to 2150-01-01T00:04:00Z; want an instant from 1970 to 2149")
}

func TestParseRefused(t *testing.T) {
	f, err := scenario.Parse("refused.txt", []byte(`version 1
login alice/1
09:30 claim alice offline
09:30 expect refused
claim alice lunch

# a comment between
expect refused "needs approval" proves=D31
`))
	require.NoError(t, err)
	require.Len(t, f.Lines, 5)
	require.Nil(t, f.Lines[0].Refused)
	require.Same(t, f.Lines[2].Expect, f.Lines[1].Refused)
	require.Same(t, f.Lines[4].Expect, f.Lines[3].Refused)
	require.Equal(t, "needs approval", f.Lines[3].Refused.Text)
	require.Equal(t, 8, f.Lines[3].Refused.Line)
}

const (
	wantID   = "want a subject, 1 to 64 of A-Z a-z 0-9 . _ @ : + -"
	wantConn = "want a subject and its connection as alice/tab1, each 1 to 64 of A-Z a-z 0-9 . _ @ : + -"
	wantTime = "want a time as 09:30, 09:30:15.250 or 2026-01-05T09:30:00Z, from 1970 to 2149"
	wantDur  = "want a duration as 500ms, 30s, 10m or 1h30m, not negative, at most 876000h"
	wantNum  = "want a whole number from 0 to 1000000000"
	wantWhen = "want +DURATION after the line before, or a time as 09:30, 09:30:15.250 or 2026-01-05T09:30:00Z"
	wantPlus = "want a duration after + as +30s, +10m or +1h30m, not negative, at most 876000h"
	wantForm = "S STATUS, S.FIELD VALUE, never, list, count, group, selectable, labels, seen, gate, work, candidates, requeued, refused, log, spent, why"
	wantList = "want ids as a,b,c without spaces, each once, or none"
)

// faults are texts below a version line: their first line is line 2.
var faults = []struct {
	src  string
	want []string
}{
	{"clam alice busy", []string{`2: unknown verb "clam"; want one of accept, ack, assign, begin, challenge, claim, clock, close, connect, decline, define, disable, enable, endpoint, expect, finish, focus, grant, hide, idle, input, join, link, load, login, logout, lose, message, node, notify, policy, reject, release, request, resume, revoke, role, schedule, show, sleep, suspend, transfer, undefine, unwatch, wake, watch, withdraw, work`}},
	{"login alice/1 colour=red", []string{`2: login: unknown key "colour"; allowed: device, node`}},
	{"input alice/1 by=ann", []string{`2: input: unknown key "by"; allowed: none`}},
	{"claim alice busy proves=C1", []string{`2: claim: unknown key "proves"; allowed: source, key, conn, until, for, reason, text, by`}},
	{"login", []string{"2: login: S/C is missing; usage: login S/C [device=DEVICE] [node=NODE]"}},
	{"idle alice/1", []string{"2: idle: DURATION is missing; usage: idle S/C DURATION"}},
	{"accept alice", []string{"2: accept: key by= is missing; usage: accept S by=WHO"}},
	{"define x", []string{
		"2: define: key class= is missing; usage: define STATUS class=CLASS [PATH=VALUE...] by=WHO",
		"2: define: key by= is missing; usage: define STATUS class=CLASS [PATH=VALUE...] by=WHO"}},
	{"ack alice bob", []string{`2: ack: "bob" is one argument too many; usage: ack S`}},
	{"ack alice #note", []string{`2: ack: "#note" is one argument too many; usage: ack S; a comment has two spaces before its #`}},
	{"ack a" + strings.Repeat("é", 60), []string{`2: ack: S "a` + strings.Repeat("é", 29) + `…": ` + wantID}},
	{"claim alice busy by=a by=b", []string{`2: claim: key "by" is given twice`}},
	{"claim alice busy until=10:00 for=5m", []string{"2: claim: until and for are both given; want at most one of them"}},
	{"policy", []string{"2: policy: POLICY and overrides are missing; want one of them; usage: policy [POLICY] [PATH=VALUE...] [by=WHO]"}},
	{"policy by=ann", []string{"2: policy: POLICY and overrides are missing; want one of them; usage: policy [POLICY] [PATH=VALUE...] [by=WHO]"}},
	{"policy a b", []string{`2: policy: "b" is one argument too many; usage: policy [POLICY] [PATH=VALUE...] [by=WHO]`}},
	{"policy lunch/json", []string{`2: policy: POLICY "lunch/json": want the name of a preset, or a JSON file as ./lunch.json`}},
	{"policy default idle.after= idle.to=x idle.to=y a!b=1", []string{
		`2: policy: path "idle.after" has no value; want one, or "" for an empty one`,
		`2: policy: path "idle.to" is given twice`,
		`2: policy: path "a!b": want letters, digits and . _ - as in idle.after`}},

	{"login al!ice/1", []string{`2: login: S/C "al!ice/1": ` + wantConn}},
	{"login alice", []string{`2: login: S/C "alice": ` + wantConn}},
	{"login alice/1/2", []string{`2: login: S/C "alice/1/2": ` + wantConn}},
	{"ack " + strings.Repeat("a", 65), []string{`2: ack: S "` + strings.Repeat("a", 60) + `…": ` + wantID}},
	{"logout a!", []string{`2: logout: S/C|S "a!": ` + wantConn + ", or a subject, 1 to 64 of A-Z a-z 0-9 . _ @ : + -"}},
	{"login alice/1 device=", []string{`2: login: device "": want a class of devices, 1 to 64 of A-Z a-z 0-9 . _ @ : + -`}},
	{`claim alice ""`, []string{`2: claim: STATUS "": want a status, 1 to 64 of A-Z a-z 0-9 . _ @ : + -`}},
	{"claim alice busy text=", []string{`2: claim: text "": want text, in quotes if it has spaces or =, or "" for none`}},
	{"role ann boss", []string{`2: role: ROLE "boss": want one of agent, supervisor, admin, visitor, system`}},
	{"endpoint alice push on", []string{`2: endpoint: off "on": want off`}},
	{"node n1 sideways", []string{`2: node: down|up|drain "sideways": want one of down, up, drain`}},
	{"notify alice kind=fax", []string{`2: notify: kind "fax": want one of push, mobile, inapp, email, call`}},
	{"watch vic sales as=god", []string{`2: watch: as "god": want one of team, self, supervisor, admin, visitor, router`}},
	{"define x class=lunch by=root", []string{`2: define: class "lunch": want one of available, away, busy, dnd, offline`}},
	{"load alice -1", []string{`2: load: NUMBER "-1": ` + wantNum}},
	{"load alice 1 capacity=1e3 pinned=99999999999999999999", []string{`2: load: capacity "1e3": ` + wantNum, `2: load: pinned "99999999999999999999": ` + wantNum}},
	{"idle alice/1 20", []string{`2: idle: DURATION "20": ` + wantDur}},
	{"suspend -5m", []string{`2: suspend: DURATION "-5m": ` + wantDur}},
	{"suspend 876001h", []string{`2: suspend: DURATION "876001h": ` + wantDur}},
	{"clock 5", []string{`2: clock: OFFSET "5": want a duration with its sign as -5m or +1h, at most 876000h either way`}},
	{"clock +-5m", []string{`2: clock: OFFSET "+-5m": want a duration with its sign as -5m or +1h, at most 876000h either way`}},
	{"claim alice busy until=9:30", []string{`2: claim: until "9:30": ` + wantTime}},
	{"claim alice busy until=24:00", []string{`2: claim: until "24:00": ` + wantTime}},
	{"claim alice busy until=09:30:15.", []string{`2: claim: until "09:30:15.": ` + wantTime}},
	{"claim alice busy until=09:30:15.0123456789", []string{`2: claim: until "09:30:15.0123456789": ` + wantTime}},
	{"claim alice busy until=09:30:15,5", []string{`2: claim: until "09:30:15,5": ` + wantTime}},
	{"claim alice busy until=2150-01-01T00:00:00Z", []string{`2: claim: until "2150-01-01T00:00:00Z": ` + wantTime}},
	{"schedule sales mon zone=Z except=2026-02-30", []string{`2: schedule: except "2026-02-30": want dates as 2026-12-25,2026-12-26`}},
	{`schedule sales ""`, []string{
		`2: schedule: HOURS "": want opening hours in quotes, as "mon-fri 09:00-12:00,13:00-17:00"`,
		"2: schedule: key zone= is missing; usage: schedule CHANNEL HOURS zone=ZONE [except=DATES]"}},

	{"expect", []string{"2: expect: the expectation is missing; want one of " + wantForm}},
	{"expect a=b", []string{`2: expect: "a=b" cannot begin an expectation; want one of ` + wantForm}},
	{"expect alice", []string{"2: expect: STATUS is missing; usage: expect S STATUS [as=AUDIENCE] [class=CLASS] [cause=CAUSE] [trigger=TRIGGER] [since=TIME] [setat=TIME] [until=TIME] [masked=STATUS] [routable=yes|no] [label=LABEL] [reason=TEXT]"}},
	{"expect alice online cause=boredom", []string{`2: expect: cause "boredom": want one of default, login, manual, supervisor, call, calendar, app, system, idle, logout, closed, lost, node, drain, disabled, left, hidden`}},
	{"expect alice online routable=maybe", []string{`2: expect: routable "maybe": want one of yes, no`}},
	{"expect alice online proves=c13", []string{`2: expect: proves "c13": want a statement as C13 or several as C13,C14: a capital letter and a number`}},
	{"login alice/1\nexpect alice.colour red", []string{`3: expect: alice has no field "colour"; want one of threads, pinned, since, setat, lastseen, lastlogin, request, color, masked, until, text, routableon`}},
	{"expect alice.threads many", []string{`2: expect: absent|VALUE "many": want absent, or a whole number from 0 to 1000000000`}},
	{"expect a!.threads 3", []string{`2: expect: S.FIELD "a!.threads": want a subject and one of its fields, threads, pinned, since, setat, lastseen, lastlogin, request, color, masked, until, text, routableon`}},
	{"expect list sales a,,b", []string{`2: expect list: LIST "a,,b": ` + wantList}},
	{"expect list sales a,b,a order=name", []string{`2: expect list: order "name": want routing`, `2: expect list: LIST "a,b,a": ` + wantList}},
	{"expect list sales a, b", []string{`2: expect list: LIST "a,": ` + wantList, `2: expect list: "b" is one argument too many; usage: expect list CHANNEL LIST [as=AUDIENCE] [label=LABEL] [order=routing]`}},
	{"expect group sales busy", []string{`2: expect group: available|away|offline "busy": want one of available, away, offline`}},
	{"expect seen", []string{"2: expect seen: an argument is missing; want V and one of snapshot, joined, left, updated, rejected, removed, nothing"}},
	{"expect seen vic arrived alice", []string{`2: expect seen: "arrived": want one of snapshot, joined, left, updated, rejected, removed, nothing`}},
	{"expect seen vic joined", []string{"2: expect seen: S is missing; usage: expect seen V joined S"}},
	{"expect seen vic snapshot a", []string{`2: expect seen: SNAPSHOT "a": want subjects and their statuses as a=online,b=away without spaces, each once, or none`}},
	{"expect seen vic snapshot a=x,a=y", []string{`2: expect seen: SNAPSHOT "a=x,a=y": want subjects and their statuses as a=online,b=away without spaces, each once, or none`}},
	{"expect seen vic snapshot a=x b=y", []string{`2: expect seen: unknown key "b"; allowed: proves`}},
	{"expect log alice online 09:00 busy", []string{`2: expect log: LOG "online 09:00 busy": want pairs of STATUS or STATUS/TRIGGER and TIME, as online/login 09:00 busy 09:02, or none`}},
	{"expect log alice online/magic 09:00", []string{`2: expect log: LOG "online/magic 09:00": want pairs of STATUS or STATUS/TRIGGER and TIME, as online/login 09:00 busy 09:02, or none`}},
	{"expect work w1 a!", []string{`2: expect work: queued|done|S "a!": want one of queued, done, or a subject, 1 to 64 of A-Z a-z 0-9 . _ @ : + -`}},
	{"expect refused", []string{"2: expect refused: the line before has no verb that can be refused"}},
	{"ack alice\nexpect alice online\nexpect refused", []string{"4: expect refused: the line before has no verb that can be refused"}},
	{"ack alice\n+1s expect refused", []string{"3: expect refused: the line before was at 2026-01-05T09:00:00Z; want the same instant"}},
	{"ack a!\nexpect refused", []string{`2: ack: S "a!": ` + wantID}},

	{"+5 ack alice", []string{`2: instant "+5": ` + wantPlus}},
	{"+-5m ack alice", []string{`2: instant "+-5m": ` + wantPlus}},
	{"++5m ack alice", []string{`2: instant "++5m": ` + wantPlus}},
	{"-5m ack alice", []string{`2: instant "-5m": ` + wantWhen}},
	{"9:30 ack alice", []string{`2: instant "9:30": ` + wantWhen}},
	{"2026-01-05 ack alice", []string{`2: instant "2026-01-05": ` + wantWhen}},
	{"+5m", []string{`2: the instant "+5m" has no verb; want a verb after it`}},
	{"10:00 ack alice\n09:59:59.999 ack alice\nack bob", []string{"3: time steps back from 2026-01-05T10:00:00Z to 2026-01-05T09:59:59.999Z; want the first instant or a later one"}},
	{"08:00 ack alice", []string{"2: time steps back from 2026-01-05T09:00:00Z to 2026-01-05T08:00:00Z; want the first instant or a later one"}},
	{"+876000h ack alice\n+876000h ack alice", []string{`3: "+876000h" leads to 2225-11-18T09:00:00Z; want an instant from 1970 to 2149`}},

	{"ack alice\nproves C1", []string{"3: proves belongs to the head, before the first line that happens"}},
	{"+1m policy default\nstart 2026-01-05T09:00:00Z", []string{"3: start belongs to the head, before the first line that happens"}},
	{"+1m start 10:00", []string{"2: start takes no instant"}},
	{"start 10:00\nstart 11:00", []string{"3: start is given twice"}},
	{"version 1", []string{"2: version is given twice"}},
	{"proves", []string{"2: proves: STATEMENT is missing; usage: proves STATEMENT..."}},
	{"proves C1 13", []string{`2: proves: STATEMENT "C1 13": want a statement as C13 or several as C13,C14: a capital letter and a number`}},
	{"start monday", []string{`2: start: TIME "monday": ` + wantTime}},

	{`claim alice busy text="on`, []string{`2: the quote that begins with "\"on" is not closed`}},
	{`claim alice busy text="a\n"`, []string{`2: a backslash in quotes escapes nothing; want \" or \\`}},
	{`claim alice busy text="a\`, []string{`2: a backslash in quotes escapes nothing; want \" or \\`}},
	{`claim alice busy text="a"b`, []string{`2: "b" follows a closing quote; want a space`}},
	{`claim alice busy text=a"b"`, []string{`2: the word "text=a\"" contains a quote; want quotes around the whole value`}},
	{`"claim" alice busy`, []string{`2: unknown verb "\"claim\""; want one of accept, ack, assign, begin, challenge, claim, clock, close, connect, decline, define, disable, enable, endpoint, expect, finish, focus, grant, hide, idle, input, join, link, load, login, logout, lose, message, node, notify, policy, reject, release, request, resume, revoke, role, schedule, show, sleep, suspend, transfer, undefine, unwatch, wake, watch, withdraw, work`}},
	{"ack al\xffice", []string{"2: byte 7 of the line is not allowed; want UTF-8 without control characters"}},
	{"ack alice\x00", []string{"2: byte 10 of the line is not allowed; want UTF-8 without control characters"}},
	{"# " + strings.Repeat("x", scenario.MaxLine), []string{"2: the line has 4098 bytes; at most 4096 are allowed"}},

	// Parse reports all faults of a file, in order.
	{"login\nclam\nack alice\n+x ack alice by=me", []string{
		"2: login: S/C is missing; usage: login S/C [device=DEVICE] [node=NODE]",
		`3: unknown verb "clam"; want one of accept, ack, assign, begin, challenge, claim, clock, close, connect, decline, define, disable, enable, endpoint, expect, finish, focus, grant, hide, idle, input, join, link, load, login, logout, lose, message, node, notify, policy, reject, release, request, resume, revoke, role, schedule, show, sleep, suspend, transfer, undefine, unwatch, wake, watch, withdraw, work`,
		`5: instant "+x": ` + wantPlus,
		`5: ack: unknown key "by"; allowed: none`}},
}

func TestParseFaults(t *testing.T) {
	for _, c := range faults {
		requireFaults(t, "version 1\n"+c.src+"\n", c.want...)
	}
}

func TestParseVersionFaults(t *testing.T) {
	missing := `the version is missing; want "version 1" at the head of the file`
	requireFaults(t, "", "1: "+missing)
	requireFaults(t, "# nothing\n\n", "2: "+missing)
	requireFaults(t, "\nack alice\nack a!\n", "2: "+missing, `3: ack: S "a!": `+wantID)
	requireFaults(t, "ack alice\nversion 1\n", "1: "+missing, "2: version belongs to the head, before the first line that happens")
	requireFaults(t, "version one\n", `1: version: VERSION "one": want a version as 1 or 1.2`)
	requireFaults(t, "version 1.\n", `1: version: VERSION "1.": want a version as 1 or 1.2`)
	requireFaults(t, "version 0\n", "1: version 0 cannot be read; want version 1 or 1.x")
	requireFaults(t, "version 2\nfrobnicate\n", "1: version 2 cannot be read; want version 1 or 1.x")
}

func TestParseBounds(t *testing.T) {
	requireFaults(t, strings.Repeat("#", scenario.MaxSize+1), "1: the file has 1048577 bytes; at most 1048576 are allowed")

	lines := "version 1\n" + strings.Repeat("\n", scenario.MaxLines-2)
	f, err := scenario.Parse("x.txt", []byte(lines+"ack alice\n"))
	require.NoError(t, err)
	require.Equal(t, scenario.MaxLines, f.Lines[0].Number)
	requireFaults(t, lines+"ack alice\nack alice\n", "20001: the file has more than 20000 lines")

	long := "ack alice" + strings.Repeat(" ", scenario.MaxLine-len("ack alice"))
	_, err = scenario.Parse("x.txt", []byte("version 1\n"+long+"\r\n"))
	require.NoError(t, err)

	var want []string
	for i := range scenario.MaxFaults {
		want = append(want, fmt.Sprintf(`%d: ack: S "!": %s`, i+2, wantID))
	}
	src := "version 1\n" + strings.Repeat("ack !\n", scenario.MaxFaults)
	requireFaults(t, src, want...)
	requireFaults(t, src+strings.Repeat("ack !\n", 500), append(want, "52: more faults are not reported")...)
}

// requireFaults requires that a file has exactly these faults, each written as
// line: text.
func requireFaults(t *testing.T, src string, want ...string) {
	t.Helper()
	f, err := scenario.Parse("dir/x.txt", []byte(src))
	require.Error(t, err, "%.200q", src)
	require.Nil(t, f)
	joined, ok := err.(interface{ Unwrap() []error })
	require.True(t, ok)
	var got []string
	for _, err := range joined.Unwrap() {
		fault, ok := errors.AsType[*scenario.Fault](err)
		require.True(t, ok)
		require.Equal(t, "dir/x.txt", fault.File)
		require.Equal(t, fmt.Sprintf("scenario: dir/x.txt:%d: %s", fault.Line, fault.Text), fault.Error())
		got = append(got, fmt.Sprintf("%d: %s", fault.Line, fault.Text))
	}
	require.Equal(t, want, got, "%.200q", src)
}

func FuzzParse(f *testing.F) {
	f.Add(example)
	for _, c := range verbLines {
		f.Add("version 1\n+1m " + c.src)
	}
	for _, c := range expectLines {
		f.Add("version 1\nlogin alice/1\nexpect " + c.src + " proves=A1")
	}
	for _, c := range faults {
		f.Add("version 1\n" + c.src)
	}
	f.Add("version 1.9\nstart 2026-03-01T23:30:00+01:00\n23:00 login a/1 new=1  # x\n")
	place := regexp.MustCompile(`^scenario: fuzz:[1-9][0-9]*: `)
	f.Fuzz(func(t *testing.T, src string) {
		file, err := scenario.Parse("fuzz", []byte(src))
		if err != nil {
			require.Nil(t, file)
			for line := range strings.Lines(err.Error()) {
				require.Regexp(t, place, line)
			}
			return
		}
		now := file.Start
		var again strings.Builder
		again.WriteString(fmt.Sprintf("version %s\nstart %s\n", file.Version, file.Start.Format(time.RFC3339Nano)))
		for i, l := range file.Lines {
			require.False(t, l.At.Before(now))
			now = l.At
			require.Equal(t, l.Verb == "expect", l.Expect != nil)
			if l.Refused != nil {
				require.Same(t, file.Lines[i+1].Expect, l.Refused)
				require.Equal(t, scenario.FormRefused, l.Refused.Form)
			}
			again.WriteString(l.Text + "\n")
		}
		// The parsed lines, written again, are equal to those of the file.
		second, err := scenario.Parse("fuzz", []byte(again.String()))
		require.NoError(t, err)
		require.Len(t, second.Lines, len(file.Lines))
		for i, l := range second.Lines {
			want := file.Lines[i]
			require.Equal(t, want.At, l.At)
			require.Equal(t, want.Keys, l.Keys)
			require.Equal(t, want.Args, l.Args)
		}
	})
}
