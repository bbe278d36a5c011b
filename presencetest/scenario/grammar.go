package scenario

import (
	"fmt"
	"slices"
	"strings"
)

// rule is one row of the grammar: the form of a statement, and its meaning. The
// parser works by the usage, which is also printed. Words in capitals are
// placeholders (see placeholders and words). Words in small letters stand for
// themselves. The sign | separates alternatives, brackets make a part optional,
// and a name before = makes the part a key. Keys may be given in any order.
type rule struct {
	usage string
	means string
	form  Form // of an expectation
}

// head has the statements that describe the file itself.
var head = []rule{
	{usage: "version VERSION", means: "the version of the format that the file is written in"},
	{usage: "proves STATEMENT...", means: "the statements that the file is about"},
	{usage: "start TIME", means: "the instant at which time starts; its day is the day of times without a date"},
}

// verbs has the statements of what happens, one row a verb.
var verbs = []rule{
	{usage: "policy [POLICY] [PATH=VALUE...] [by=WHO]", means: "sets the policy: a preset, or a JSON file in the folder of this file, with overrides by path; without a name the overrides change the policy in force"},
	{usage: "role WHO ROLE", means: "gives an actor its role; agent is the default"},

	{usage: "connect S/C [device=DEVICE] [node=NODE] [idle=DURATION]", means: "a transport connects without a new login"},
	{usage: "login S/C [device=DEVICE] [node=NODE]", means: "enters with credentials"},
	{usage: "logout S/C|S", means: "leaves for good, with one connection or with all"},
	{usage: "close S/C", means: "the connection is closed cleanly"},
	{usage: "lose S/C", means: "the connection falls silent"},
	{usage: "resume S/C", means: "the client opens its connection again over a new socket"},
	{usage: "sleep S/C", means: "the computer is suspended"},
	{usage: "wake S/C", means: "the suspended computer wakes"},
	{usage: "input S/C", means: "a human acts"},
	{usage: "idle S/C DURATION", means: "the client reports the age of its last input"},
	{usage: "focus S/C CHANNEL", means: "the client looks at a channel"},
	{usage: "hide S/C", means: "the client's tab is hidden"},
	{usage: "show S/C", means: "the client's tab is visible again"},
	{usage: "endpoint S push|bot|service [off]", means: "the subject is reachable without a connection, or with off no longer"},

	{usage: "claim S STATUS [source=SOURCE] [key=KEY] [conn=C] [until=TIME] [for=DURATION] [reason=TEXT] [text=TEXT] [by=WHO]", means: "sets a claim, for one connection with conn= unless the policy has claimScope subject"},
	{usage: "release S [source=SOURCE] [key=KEY] [conn=C] [by=WHO]", means: "ends a claim"},
	{usage: "request S STATUS [reason=TEXT]", means: "asks for a status that needs approval"},
	{usage: "accept S by=WHO", means: "approves the pending request"},
	{usage: "reject S by=WHO", means: "rejects the pending request"},
	{usage: "withdraw S", means: "withdraws the subject's own pending request"},
	{usage: "define STATUS class=CLASS [PATH=VALUE...] by=WHO", means: "adds a status while running"},
	{usage: "undefine STATUS [to=STATUS] by=WHO", means: "removes a status while running; claims to it stay, and count as claims to the status of to=, or to one of the same class"},

	{usage: "load S NUMBER [capacity=NUMBER] [pinned=NUMBER] [on=WORK]", means: "reports load and capacity of a work channel"},
	{usage: "challenge S [for=DURATION]", means: "asks the subject whether it is still there"},
	{usage: "ack S", means: "answers the challenge"},
	{usage: "work W CHANNEL [client=K] [to=S] [on=WORK] [weight=NUMBER]", means: "a piece of work arrives"},
	{usage: "assign W S by=WHO", means: "an actor assigns a piece of work"},
	{usage: "begin W", means: "the agent of a piece of work starts it"},
	{usage: "decline W S", means: "an agent declines a piece of work"},
	{usage: "transfer W CHANNEL by=WHO", means: "an actor moves a piece of work to another channel"},
	{usage: "finish W", means: "a piece of work ends"},
	{usage: "message K", means: "a client writes again"},

	{usage: "link CHANNEL INBOX", means: "links a channel to an inbox, in place of any other"},
	{usage: "grant S CHANNEL|INBOX", means: "grants a channel or an inbox to a subject"},
	{usage: "revoke S CHANNEL|INBOX", means: "revokes a grant"},
	{usage: "join S CHANNEL", means: "asks to be a member"},
	{usage: "watch V CHANNEL [as=AUDIENCE] [label=LABEL]", means: "starts a watch, which first receives the snapshot; without as= a subject watches with its own role, any other watcher as a visitor"},
	{usage: "unwatch V CHANNEL", means: "ends a watch"},
	{usage: "schedule CHANNEL HOURS zone=ZONE [except=DATES]", means: "sets opening hours"},

	{usage: "disable all|S", means: "switches presence off"},
	{usage: "enable all|S", means: "switches presence on again"},
	{usage: "node NODE down|up|drain", means: "a node dies, starts again, or shuts down in order"},
	{usage: "suspend DURATION", means: "this process stands still; later lines happen after the suspension"},
	{usage: "clock OFFSET", means: "the wall clock is stepped; the times of the file still count true time"},
	{usage: "notify S [kind=push|mobile|inapp|email|call] [channel=CHANNEL]", means: "asks the gate about a notification"},
}

// expectations has one row a form of expectation. Each also takes proves=. The
// first word of the usage chooses the row. If several rows begin with that
// word, the next word in small letters chooses.
var expectations = []rule{
	{form: FormStatus, usage: "S STATUS [as=AUDIENCE] [class=CLASS] [cause=CAUSE] [trigger=TRIGGER] [since=TIME] [setat=TIME] [until=TIME] [masked=STATUS] [routable=yes|no] [label=LABEL] [reason=TEXT]", means: "the status, and the details that are given"},
	{form: FormField, usage: "S.FIELD absent|VALUE [as=AUDIENCE]", means: "one field of the view"},
	{form: FormNever, usage: "never S STATUS [as=AUDIENCE]", means: "the status is shown at no instant of the file"},
	{form: FormList, usage: "list CHANNEL LIST [as=AUDIENCE] [label=LABEL] [order=routing]", means: "the list has exactly these subjects, for the team or the audience of as="},
	{form: FormCount, usage: "count CHANNEL LABEL NUMBER", means: "this number of subjects has the label in the list of the team"},
	{form: FormGroup, usage: "group CHANNEL available|away|offline [as=AUDIENCE] [reason=TEXT] [nextopen=TIME]", means: "the group status, for visitors or the audience of as="},
	{form: FormSelectable, usage: "selectable S LIST [by=WHO]", means: "exactly these statuses can be chosen"},
	{form: FormLabels, usage: "labels CHANNEL LABELS", means: "exactly these labels are offered"},
	{form: FormSeen, usage: "seen V snapshot [SNAPSHOT]", means: "next the watcher received this snapshot"},
	{form: FormSeen, usage: "seen V joined S", means: "next the watcher received that a subject joined"},
	{form: FormSeen, usage: "seen V left S", means: "next the watcher received that a subject left"},
	{form: FormSeen, usage: "seen V updated S STATUS", means: "next the watcher received a new status"},
	{form: FormSeen, usage: "seen V rejected STATUS", means: "next the watcher received that its request was rejected"},
	{form: FormSeen, usage: "seen V removed", means: "next the watcher received that its access ended"},
	{form: FormSeen, usage: "seen V nothing", means: "the watcher received nothing since the last expectation"},
	{form: FormGate, usage: "gate deliver|skip|defer", means: "the decision of the last notify"},
	{form: FormWork, usage: "work W queued|done|S", means: "the place of a piece of work: the queue, done, or an agent"},
	{form: FormCandidates, usage: "candidates CHANNEL LIST", means: "the subjects that may get the next piece of work, in order"},
	{form: FormRequeued, usage: "requeued S LIST", means: "the work that was taken from a subject"},
	{form: FormRefused, usage: "refused [TEXT...]", means: "the line before was refused, for a reason that contains the text"},
	{form: FormLog, usage: "log S LOG...", means: "the whole journal of a subject from its first status while connected"},
	{form: FormSpent, usage: "spent S STATUS DURATION [from=TIME] [to=TIME]", means: "the report's sum for a status"},
	{form: FormWhy, usage: "why S TEXT [as=AUDIENCE]", means: "the explanation contains the text, for the subject itself or the audience of as="},
}

// causes are the words for why a status holds. In a view, left stands for every
// kind of leaving.
var causes = []string{
	"default", "login", "manual", "supervisor", "call", "calendar", "app", "system",
	"idle", "logout", "closed", "lost", "node", "drain", "disabled", "left", "hidden",
}

// words are the placeholders for one word of a closed list.
var words = []struct {
	name string
	list []string
}{
	{"ROLE", []string{"agent", "supervisor", "admin", "visitor", "system"}},
	{"AUDIENCE", []string{"team", "self", "supervisor", "admin", "visitor", "router"}},
	{"CLASS", []string{"available", "away", "busy", "dnd", "offline"}},
	{"CAUSE", causes},
	{"TRIGGER", slices.Concat(causes, []string{"input", "connect", "until", "load", "policy", "grant", "challenge", "request"})},
}

// placeholder is a kind of argument: its name in a usage, the description of
// its values, and the function that reads it. A placeholder with ... takes all
// remaining arguments, any other exactly one.
type placeholder struct {
	name string
	want string
	read func(p *parser, args []token, v *Value) bool
}

const idRule = "1 to 64 of A-Z a-z 0-9 . _ @ : + -"

// placeholders is set by init, because its functions use tables that are
// compiled from it.
var placeholders []placeholder

func init() {
	for _, id := range []struct{ name, of string }{
		{"S", "a subject"}, {"C", "a connection"}, {"V", "a watcher"}, {"WHO", "an actor"},
		{"STATUS", "a status"}, {"SOURCE", "a source of claims"}, {"KEY", "a key of a claim"},
		{"CHANNEL", "a channel"}, {"INBOX", "an inbox"}, {"DEVICE", "a class of devices"}, {"NODE", "a node"},
		{"W", "a piece of work"}, {"K", "a client"}, {"WORK", "a work channel"},
	} {
		placeholders = append(placeholders, placeholder{id.name, id.of + ", " + idRule, readID})
	}
	placeholders = append(placeholders, []placeholder{
		{"S/C", "a subject and its connection as alice/tab1, each " + idRule, readConn},
		{"S.FIELD", "a subject and one of its fields, " + strings.Join(fieldNames(), ", "), readField},
		{"VALUE", "a value that fits the field: a number, a time, a status or text", readFieldValue},
		{"TIME", "a time as 09:30, 09:30:15.250 or 2026-01-05T09:30:00Z, from 1970 to 2149", readTime},
		{"DURATION", "a duration as 500ms, 30s, 10m or 1h30m, not negative, at most 876000h", readDuration},
		{"OFFSET", "a duration with its sign as -5m or +1h, at most 876000h either way", readOffset},
		{"NUMBER", "a whole number from 0 to 1000000000", readNumber},
		{"TEXT", `text, in quotes if it has spaces or =, or "" for none`, readText},
		{"LABEL", "a label, in quotes if it has spaces", readLabel},
		{"LABELS", "labels as a,b,c without spaces around commas, each once, or none", readLabels},
		{"LIST", "ids as a,b,c without spaces, each once, or none", readList},
		{"SNAPSHOT", "subjects and their statuses as a=online,b=away without spaces, each once, or none", readSnapshot},
		{"LOG", "pairs of STATUS or STATUS/TRIGGER and TIME, as online/login 09:00 busy 09:02, or none", readLog},
		{"HOURS", `opening hours in quotes, as "mon-fri 09:00-12:00,13:00-17:00"`, readLabel},
		{"ZONE", "a time zone as Europe/Berlin", readLabel},
		{"DATES", "dates as 2026-12-25,2026-12-26", readDates},
		{"STATEMENT", "a statement as C13 or several as C13,C14: a capital letter and a number", readStatements},
		{"POLICY", "the name of a preset, or a JSON file as ./lunch.json", readPolicy},
		{"VERSION", "a version as 1 or 1.2", readVersion},
	}...)
	headShapes = index(head)
	verbShapes = index(verbs)
	for _, r := range expectations {
		sh := compile(r)
		sh.keys = append(sh.keys, param{name: "proves", optional: true, alts: []alternative{{kind: lookUp("STATEMENT")}}})
		expectShapes = append(expectShapes, sh)
	}
}

// shape is a compiled rule.
type shape struct {
	rule
	title  string // its name in faults: "claim", "expect seen"
	word   string // the first word, if it stands for itself
	params []param
	keys   []param
	open   bool // takes any PATH=VALUE besides the keys
}

// param is one positional argument or one key.
type param struct {
	name     string
	alts     []alternative
	optional bool
	rest     bool
}

// alternative is a word that stands for itself or, if the word is empty, a
// placeholder.
type alternative struct {
	word string
	kind *placeholder
}

var (
	headShapes   map[string]*shape
	verbShapes   map[string]*shape
	expectShapes []*shape
)

func index(rules []rule) map[string]*shape {
	m := make(map[string]*shape, len(rules))
	for _, r := range rules {
		sh := compile(r)
		sh.title = sh.word
		m[sh.word] = sh
	}
	return m
}

func compile(r rule) *shape {
	sh := &shape{rule: r, title: "expect"}
	for i, part := range strings.Fields(r.usage) {
		if i == 0 && isWord(part) {
			sh.word = part
			sh.title = "expect " + part
			continue
		}
		var prm param
		part, prm.optional = strings.CutPrefix(part, "[")
		part = strings.TrimSuffix(part, "]")
		if part == "PATH=VALUE..." {
			sh.open = true
			continue
		}
		part, prm.rest = strings.CutSuffix(part, "...")
		key, value, keyed := strings.Cut(part, "=")
		if !keyed {
			value = part
		}
		prm.name = key
		for alt := range strings.SplitSeq(value, "|") {
			prm.alts = append(prm.alts, alternatives(alt)...)
		}
		if keyed {
			sh.keys = append(sh.keys, prm)
		} else {
			sh.params = append(sh.params, prm)
		}
	}
	return sh
}

func alternatives(name string) []alternative {
	if isWord(name) {
		return []alternative{{word: name}}
	}
	for _, w := range words {
		if w.name == name {
			var alts []alternative
			for _, word := range w.list {
				alts = append(alts, alternative{word: word})
			}
			return alts
		}
	}
	return []alternative{{kind: lookUp(name)}}
}

// lookUp returns a placeholder. It panics on an unknown name, which is a
// mistake in this file that every test finds.
func lookUp(name string) *placeholder {
	i := slices.IndexFunc(placeholders, func(k placeholder) bool { return k.name == name })
	if i < 0 {
		panic("scenario: the grammar uses an unknown placeholder " + name)
	}
	return &placeholders[i]
}

// isWord reports whether s stands for itself and is no placeholder.
func isWord(s string) bool {
	for i := range len(s) {
		if s[i] < 'a' || s[i] > 'z' {
			return false
		}
	}
	return s != ""
}

// key returns the parameter of a key.
func (sh *shape) key(name string) (*param, bool) {
	for i := range sh.keys {
		if sh.keys[i].name == name {
			return &sh.keys[i], true
		}
	}
	return nil, false
}

// literal returns the first positional argument that takes exactly one word,
// and its index.
func (sh *shape) literal() (int, string) {
	for i, prm := range sh.params {
		if len(prm.alts) == 1 && prm.alts[0].word != "" {
			return i, prm.alts[0].word
		}
	}
	return -1, ""
}

// takesPairs reports whether positional argument i is written with =.
func (sh *shape) takesPairs(i int) bool {
	return i < len(sh.params) && sh.params[i].name == "SNAPSHOT"
}

// line returns the usage with the verb or expect before it.
func (sh *shape) line() string {
	if sh.form != "" {
		return "expect " + sh.usage
	}
	return sh.usage
}

// allowedKeys lists the keys for a fault.
func (sh *shape) allowedKeys() string {
	if len(sh.keys) == 0 {
		return "none"
	}
	var names []string
	for _, k := range sh.keys {
		names = append(names, k.name)
	}
	return strings.Join(names, ", ")
}

// want describes the values of an argument.
func (prm *param) want() string {
	var list, kinds []string
	for _, alt := range prm.alts {
		if alt.kind == nil {
			list = append(list, alt.word)
		} else if !slices.Contains(kinds, alt.kind.want) {
			kinds = append(kinds, alt.kind.want)
		}
	}
	switch {
	case len(list) == 1:
		kinds = slices.Insert(kinds, 0, list[0])
	case len(list) > 1:
		kinds = slices.Insert(kinds, 0, "one of "+strings.Join(list, ", "))
	}
	return strings.Join(kinds, ", or ")
}

// expectWords lists the first words of expectations.
func expectWords() []string {
	var list []string
	for _, sh := range expectShapes {
		if sh.word != "" && !slices.Contains(list, sh.word) {
			list = append(list, sh.word)
		}
	}
	return list
}

// Grammar returns the whole language as text: every statement with its
// arguments and its meaning, and the values of each placeholder. It prints the
// tables that [Parse] works by.
func Grammar() string {
	var b strings.Builder
	b.WriteString("A line is [INSTANT] STATEMENT. An INSTANT is a TIME, or +DURATION after the line before;\n" +
		"without one, a line happens at the instant of the line before. # starts a comment at the\n" +
		"start of a line or after two spaces. Quotes are \"...\", with \\\" and \\\\ inside.\n")
	section := func(title, prefix string, rules []rule) {
		fmt.Fprintf(&b, "\n%s\n", title)
		for _, r := range rules {
			fmt.Fprintf(&b, "  %s%s\n      %s\n", prefix, r.usage, r.means)
		}
	}
	section("Head", "", head)
	section("Verbs", "", verbs)
	section("Expectations (each takes [proves=STATEMENT] too)", "expect ", expectations)
	b.WriteString("\nArguments\n")
	for _, k := range placeholders {
		fmt.Fprintf(&b, "  %-9s %s\n", k.name, k.want)
	}
	for _, w := range words {
		fmt.Fprintf(&b, "  %-9s one of %s\n", w.name, strings.Join(w.list, ", "))
	}
	fmt.Fprintf(&b, "  %-9s %s\n", "PATH", "where in the policy or definition, as idle.after")
	return b.String()
}
