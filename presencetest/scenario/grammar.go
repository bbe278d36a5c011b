package scenario

import (
	"fmt"
	"slices"
	"strings"
)

// rule is one row of the grammar: how a statement is written, and what it
// means. The usage is not only printed, it is what the parser works by: words
// in capitals are placeholders (see placeholders and words), words in small
// letters stand for themselves, | separates alternatives, brackets make a part
// optional, and a name before = makes it a key. Keys may be given in any
// order.
type rule struct {
	usage string
	means string
	form  Form // of an expectation
}

// head holds the statements that describe the file itself.
var head = []rule{
	{usage: "version VERSION", means: "the version of the format that the file is written in"},
	{usage: "proves STATEMENT...", means: "the statements that the file is about"},
	{usage: "start TIME", means: "the instant at which time starts; its day is the day of times without a date"},
}

// verbs holds everything that can happen, one row a verb.
var verbs = []rule{
	{usage: "policy [POLICY] [PATH=VALUE...] [by=WHO]", means: "sets the policy, a preset or a JSON file in the folder of this one, overridden by path; without a name the overrides go over the policy in force"},
	{usage: "role WHO ROLE", means: "gives an actor its role; agent is the default"},

	{usage: "connect S/C [device=DEVICE] [node=NODE] [idle=DURATION]", means: "a transport connects without a new login"},
	{usage: "login S/C [device=DEVICE] [node=NODE]", means: "enters with credentials"},
	{usage: "logout S/C|S", means: "leaves for good, with one connection or with all"},
	{usage: "close S/C", means: "the connection is closed cleanly"},
	{usage: "lose S/C", means: "the connection falls silent"},
	{usage: "resume S/C", means: "the connection goes on over a new socket"},
	{usage: "sleep S/C", means: "the computer is suspended"},
	{usage: "wake S/C", means: "the suspended computer comes back"},
	{usage: "input S/C", means: "a human acts"},
	{usage: "idle S/C DURATION", means: "the client reports the age of its last input"},
	{usage: "focus S/C CHANNEL", means: "the client looks at a channel"},
	{usage: "hide S/C", means: "the client's tab is hidden"},
	{usage: "show S/C", means: "the client's tab is visible again"},
	{usage: "endpoint S push|bot|service [off]", means: "reachable without a connection, or no longer"},

	{usage: "claim S STATUS [source=SOURCE] [key=KEY] [conn=C] [until=TIME] [for=DURATION] [reason=TEXT] [text=TEXT] [by=WHO]", means: "states an intent, for one connection with conn= unless the policy has claimScope subject"},
	{usage: "release S [source=SOURCE] [key=KEY] [conn=C] [by=WHO]", means: "ends an intent"},
	{usage: "request S STATUS [reason=TEXT]", means: "asks for a status that needs approval"},
	{usage: "accept S by=WHO", means: "approves the pending request"},
	{usage: "reject S by=WHO", means: "turns the pending request down"},
	{usage: "withdraw S", means: "takes the own pending request back"},
	{usage: "define STATUS class=CLASS [PATH=VALUE...] by=WHO", means: "adds a status while running"},
	{usage: "undefine STATUS [to=STATUS] by=WHO", means: "removes a status while running; claims to it stay, and stand for the other one or for one of their class"},

	{usage: "load S NUMBER [capacity=NUMBER] [pinned=NUMBER] [on=WORK]", means: "reports load and capacity of a work channel"},
	{usage: "challenge S [for=DURATION]", means: "asks whether somebody is still there"},
	{usage: "ack S", means: "answers the challenge"},
	{usage: "work W CHANNEL [client=K] [to=S]", means: "a piece of work arrives"},
	{usage: "assign W S by=WHO", means: "a piece of work is given by hand"},
	{usage: "finish W", means: "a piece of work ends"},
	{usage: "message K", means: "a client writes again"},

	{usage: "link CHANNEL INBOX", means: "ties a channel to its one inbox"},
	{usage: "grant S CHANNEL|INBOX", means: "gives access"},
	{usage: "revoke S CHANNEL|INBOX", means: "takes access away"},
	{usage: "join S CHANNEL", means: "asks to be a member"},
	{usage: "watch V CHANNEL [as=AUDIENCE] [label=LABEL]", means: "a watcher comes, and first receives the snapshot; without as= a subject watches as what it is, anybody else as visitor"},
	{usage: "unwatch V CHANNEL", means: "a watcher goes"},
	{usage: "schedule CHANNEL HOURS zone=ZONE [except=DATES]", means: "sets opening hours"},

	{usage: "disable all|S", means: "switches presence off"},
	{usage: "enable all|S", means: "switches presence on again"},
	{usage: "node NODE down|up|drain", means: "a node dies, comes back, or is shut down as planned"},
	{usage: "suspend DURATION", means: "this process stands still, and the lines after come after that"},
	{usage: "clock OFFSET", means: "the wall clock is stepped, while the file's own times go on counting true time"},
	{usage: "notify S [kind=push|mobile|inapp|email|call] [channel=CHANNEL]", means: "asks the gate about a notification"},
}

// expectations holds what can be expected, one row a form; each may carry
// proves=. The first word of the usage chooses the row, and where rows share
// it, the next word in small letters.
var expectations = []rule{
	{form: FormStatus, usage: "S STATUS [as=AUDIENCE] [class=CLASS] [cause=CAUSE] [trigger=TRIGGER] [since=TIME] [setat=TIME] [until=TIME] [masked=STATUS] [routable=yes|no] [label=LABEL] [reason=TEXT]", means: "the status, and of its details those that are given"},
	{form: FormField, usage: "S.FIELD absent|VALUE [as=AUDIENCE]", means: "one field of the view"},
	{form: FormNever, usage: "never S STATUS [as=AUDIENCE]", means: "the status is shown at no instant of the whole file"},
	{form: FormList, usage: "list CHANNEL LIST [as=AUDIENCE] [label=LABEL] [order=routing]", means: "exactly these are listed, to the team unless as= says otherwise"},
	{form: FormCount, usage: "count CHANNEL LABEL NUMBER", means: "so many have the label in the list of the team"},
	{form: FormGroup, usage: "group CHANNEL available|away|offline [as=AUDIENCE] [reason=TEXT] [nextopen=TIME]", means: "the rung of the aggregate, for visitors unless as= says otherwise"},
	{form: FormSelectable, usage: "selectable S LIST [by=WHO]", means: "exactly these statuses can be chosen"},
	{form: FormLabels, usage: "labels CHANNEL LABELS", means: "exactly these labels are offered"},
	{form: FormSeen, usage: "seen V snapshot [SNAPSHOT]", means: "next the watcher received this snapshot"},
	{form: FormSeen, usage: "seen V joined S", means: "next it was told that a subject joined"},
	{form: FormSeen, usage: "seen V left S", means: "next it was told that a subject left"},
	{form: FormSeen, usage: "seen V updated S STATUS", means: "next it was told of a new status"},
	{form: FormSeen, usage: "seen V rejected STATUS", means: "next it was told that a request was turned down"},
	{form: FormSeen, usage: "seen V removed", means: "next it was told that its access ended"},
	{form: FormSeen, usage: "seen V nothing", means: "it received nothing since the last"},
	{form: FormGate, usage: "gate deliver|skip|defer", means: "what the last notify led to"},
	{form: FormWork, usage: "work W queued|done|S", means: "where a piece of work lies"},
	{form: FormCandidates, usage: "candidates CHANNEL LIST", means: "who may get the next piece of work, in order"},
	{form: FormRequeued, usage: "requeued S LIST", means: "the work that was taken from a subject"},
	{form: FormRefused, usage: "refused [TEXT...]", means: "the line before was refused, for a reason that contains the text"},
	{form: FormLog, usage: "log S LOG...", means: "the whole journal of a subject from its first status while connected"},
	{form: FormSpent, usage: "spent S STATUS DURATION [from=TIME] [to=TIME]", means: "the report's sum for a status"},
	{form: FormWhy, usage: "why S TEXT [as=AUDIENCE]", means: "the explanation contains the text, as the subject itself is told unless as= says otherwise"},
}

// causes are the words for why a status holds; a view may show left in place
// of every kind of leaving.
var causes = []string{
	"default", "login", "manual", "supervisor", "call", "calendar", "app", "system",
	"idle", "logout", "closed", "lost", "node", "drain", "disabled", "left", "hidden",
}

// words are the placeholders that stand for one word of a closed list.
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

// placeholder is a kind of argument: its name in a usage, what it takes in
// words, and the function that reads it. A placeholder followed by ... is
// handed all remaining arguments, any other exactly one.
type placeholder struct {
	name string
	want string
	read func(p *parser, args []token, v *Value) bool
}

const idRule = "1 to 64 of A-Z a-z 0-9 . _ @ : + -"

// placeholders is filled by init, because its functions use the tables that
// are compiled with it.
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
		{"SNAPSHOT", "what is shown of each as a=online,b=away without spaces, each once, or none", readSnapshot},
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
	title  string // what faults call it: "claim", "expect seen"
	word   string // the first word, if it stands for itself
	params []param
	keys   []param
	open   bool // any PATH=VALUE besides the keys
}

// param is one positional argument or one key.
type param struct {
	name     string
	alts     []alternative
	optional bool
	rest     bool
}

// alternative is a word that stands for itself or, with an empty word, a
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

// lookUp panics on a name that is not in the table: that is a mistake in this
// file, found by the first test that runs.
func lookUp(name string) *placeholder {
	i := slices.IndexFunc(placeholders, func(k placeholder) bool { return k.name == name })
	if i < 0 {
		panic("scenario: the grammar uses an unknown placeholder " + name)
	}
	return &placeholders[i]
}

// isWord tells words that stand for themselves from placeholders.
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

// literal returns the first positional argument that can only be one word, and
// its place.
func (sh *shape) literal() (int, string) {
	for i, prm := range sh.params {
		if len(prm.alts) == 1 && prm.alts[0].word != "" {
			return i, prm.alts[0].word
		}
	}
	return -1, ""
}

// takesPairs reports whether the positional argument i is written with =.
func (sh *shape) takesPairs(i int) bool {
	return i < len(sh.params) && sh.params[i].name == "SNAPSHOT"
}

// line returns the usage as a whole line.
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

// want says what an argument takes.
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

// expectWords lists the words by which expectations begin.
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
// arguments and meaning, and what each placeholder takes. It is printed from
// the tables that [Parse] works by.
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
