// Package scenario reads and runs scenario files. A scenario file drives
// presence over virtual time and states the expected results.
//
//	version 1
//	policy respondio idle.after=10m
//
//	login alice/tab1
//	+2m   claim alice busy
//	+10m  expect alice offline cause=idle since=09:12 masked=busy
//
// [Parse] reads a file and reports every fault of its form; [Grammar] prints
// the language. [Run] runs a file on the pure core or through a whole tracker.
// [RunFile] and [Check] read a file from disk and run it. [WriteSVG] draws the
// results. Names of statuses, policies and sources are checked when a file is
// run, not by Parse.
package scenario

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// The limits of a file.
const (
	MaxSize   = 1 << 20 // bytes in a file
	MaxLine   = 4 << 10 // bytes in a line
	MaxLines  = 20_000  // lines in a file, with empty lines and comments
	MaxFaults = 50      // reported faults of a file
)

const (
	maxID       = 64
	maxNumber   = 1_000_000_000
	maxDuration = 876_000 * time.Hour
)

// All instants lie in this range, so that adding a duration does not overflow.
var (
	firstInstant = time.Date(1970, 1, 1, 0, 0, 0, 0, time.UTC)
	lastInstant  = time.Date(2150, 1, 1, 0, 0, 0, 0, time.UTC)
)

// DefaultStart is the start of time in a file without a start line. It is a
// Monday.
var DefaultStart = time.Date(2026, 1, 5, 9, 0, 0, 0, time.UTC)

// Supported is the version of the format that [Parse] reads. A file with a
// newer minor version is read, and its unknown keys are ignored with a warning.
// A newer major version is a fault.
var Supported = Version{Major: 1}

// Version is the version of the format of a file.
type Version struct {
	Major, Minor int
}

// String returns the version, without a minor version of 0.
func (v Version) String() string {
	if v.Minor == 0 {
		return strconv.Itoa(v.Major)
	}
	return fmt.Sprintf("%d.%d", v.Major, v.Minor)
}

// File is a scenario.
type File struct {
	Name     string    // as given to Parse
	Version  Version   // the version line
	Proves   []string  // the statements that the file is about
	Start    time.Time // when time starts, in UTC
	Lines    []Line    // what happens and what is expected, in order
	Warnings []Fault   // ignored keys, see [Supported]; at most MaxFaults
}

// Line is one line that happens at an instant: a verb, or an expectation.
type Line struct {
	Number  int       // counted from 1
	Text    string    // as written, without its comment
	Instant Instant   // as written
	At      time.Time // in UTC, not before the line above

	Verb string  // a verb of the grammar; "expect" for every expectation
	Args []Value // positional arguments, in the order of the grammar
	Keys []Value // key=value arguments in the order of the line

	// The arguments of most verbs: the first subject, watcher or actor, its
	// connection, the first channel and the first status. An argument that the line
	// does not have is empty. The channel of grant and revoke may be an inbox.
	// Without a subject, disable and enable concern all subjects.
	Subject, Conn, Channel, Status string

	// Expect is the expectation of an expect line, and nil for other verbs.
	Expect *Expectation
	// Proves lists the statements that this expectation proves.
	Proves []string
	// Refused is the next line's expectation that this line is refused, or nil if
	// this line must be accepted.
	Refused *Expectation
}

// Key returns the value of a key, or the zero Value if the line does not have
// it.
func (l *Line) Key(name string) Value {
	for _, v := range l.Keys {
		if v.Name == name {
			return v
		}
	}
	return Value{}
}

// Has reports whether the line has a key.
func (l *Line) Has(name string) bool { return l.Key(name).Name != "" }

// Instant is the instant of a line as written. All fields are zero if the line
// happens at the instant of the line above.
type Instant struct {
	Text     string
	Relative bool          // After counts and Time is zero
	After    time.Duration // since the line above
	Time     time.Time     // absolute, in UTC
}

// Value is one argument, as written and as read by the grammar.
type Value struct {
	Name     string        // the key, or the placeholder in the usage
	Text     string        // without quotes; several words are joined by spaces
	Time     time.Time     // of a TIME
	Duration time.Duration // of a DURATION or OFFSET
	Number   int           // of a NUMBER
	List     []string      // of a list with commas; empty for none

	kind     string // the placeholder that read it; empty for a word
	subject  string
	conn     string
	snapshot []Shown
	log      []Logged
}

// Form is the kind of an expectation. It is the word after expect, except for
// the first two.
type Form string

// The forms. The comments list the fields of [Expectation] that a form has
// besides those of keys.
const (
	FormStatus     Form = "status"     // Subject, Status
	FormField      Form = "field"      // Subject, Field, and Absent or Time, Number or Text
	FormNever      Form = "never"      // Subject, Status
	FormList       Form = "list"       // Channel, List
	FormCount      Form = "count"      // Channel, Label, Number
	FormGroup      Form = "group"      // Channel, Word: available, away, offline
	FormSelectable Form = "selectable" // Subject, List
	FormLabels     Form = "labels"     // Channel, List
	FormSeen       Form = "seen"       // Watcher, Word: snapshot (Snapshot), joined, left (Subject), updated (Subject, Status), rejected (Status), removed, nothing
	FormGate       Form = "gate"       // Word: deliver, skip, defer
	FormWork       Form = "work"       // Work, Subject or Word: queued, done
	FormCandidates Form = "candidates" // Channel, List in order
	FormRequeued   Form = "requeued"   // Subject, List
	FormRefused    Form = "refused"    // Text, empty for any reason
	FormLog        Form = "log"        // Subject, Log
	FormSpent      Form = "spent"      // Subject, Status, Duration
	FormWhy        Form = "why"        // Subject, Text
)

// Expectation is the expectation of a line. A field whose key is not given is
// empty, nil or zero, and is not compared.
type Expectation struct {
	Form Form
	Line int // the number of the line

	Subject  string
	Watcher  string
	Channel  string
	Status   string
	Work     string
	Field    string // threads, pinned, since, setat, lastseen, lastlogin, request, color, masked, until, text, routableon
	Word     string // a word of the closed list of the form
	Text     string
	Number   int
	Time     time.Time
	Duration time.Duration
	Absent   bool
	List     []string
	Snapshot []Shown
	Log      []Logged

	As, By                string
	Class, Cause, Trigger string
	Masked, Label         string
	Reason                *string
	Since, SetAt, Until   time.Time
	NextOpen, From, To    time.Time
	Routable              *bool
	ByRouting             bool // order=routing
}

// Shown is one entry of a snapshot.
type Shown struct {
	Subject, Status string
}

// Logged is one row of a journal. An empty trigger is not compared.
type Logged struct {
	Status, Trigger string
	At              time.Time
}

// Fault is one mistake in a file.
type Fault struct {
	File string
	Line int
	Text string // what is wrong, and what is allowed
}

// Error returns the fault with its file and line.
func (f *Fault) Error() string {
	return fmt.Sprintf("scenario: %s:%d: %s", f.File, f.Line, f.Text)
}

// Parse reads a scenario file. Faults contain the name; Parse does not open it.
//
// If the file has faults, Parse returns no file. The error joins each [Fault]
// in the order of lines. It has at most [MaxFaults] faults, and then a note
// about more.
func Parse(name string, src []byte) (*File, error) {
	p := &parser{
		file:     &File{Name: name, Start: DefaultStart},
		now:      DefaultStart,
		once:     map[string]bool{},
		subjects: map[string]bool{},
	}
	p.parse(src)
	if len(p.faults) > 0 {
		return nil, errors.Join(p.faults...)
	}
	return p.file, nil
}

type parser struct {
	file   *File
	number int // of the current line
	faults []error
	over   bool // stop reading

	once     map[string]bool // the statements of the head that were given, valid or not
	body     bool            // whether the head is over
	now      time.Time
	previous step            // the kind of the line above
	subjects map[string]bool // the ids that verbs have named so far
	field    *placeholder    // the placeholder for the field of this line
}

// step is the kind of a line, for an expect refused below it.
type step int

const (
	stepNone step = iota
	stepVerb
	stepExpect
	stepFaulty
)

func (p *parser) parse(src []byte) {
	p.number = 1
	if len(src) > MaxSize {
		p.fault("the file has %d bytes; at most %d are allowed", len(src), MaxSize)
		return
	}
	text := strings.TrimPrefix(string(src), "\ufeff")
	p.number = 0
	for line := range strings.Lines(text) {
		if p.number++; p.number > MaxLines {
			p.fault("the file has more than %d lines", MaxLines)
			return
		}
		line = strings.TrimSuffix(strings.TrimSuffix(line, "\n"), "\r")
		if p.line(line); p.over {
			return
		}
	}
	p.number = max(p.number, 1)
	p.endHead()
}

func (p *parser) fault(format string, args ...any) {
	if p.over {
		return
	}
	if len(p.faults) == MaxFaults {
		format, args = "more faults are not reported", nil
		p.over = true
	}
	p.faults = append(p.faults, &Fault{p.file.Name, p.number, fmt.Sprintf(format, args...)})
}

// line reads one line.
func (p *parser) line(src string) {
	before := len(p.faults)
	text, tokens := p.scan(src)
	if len(p.faults) > before {
		p.previous = stepFaulty
		return
	}
	if len(tokens) == 0 {
		return
	}
	l := Line{Number: p.number, Text: text}
	if first := tokens[0]; first.looksTimed() {
		l.Instant = p.instant(first.text)
		tokens = tokens[1:]
		if len(tokens) == 0 {
			p.fault("the instant %s has no verb; want a verb after it", quote(first.text))
			p.previous = stepFaulty
			return
		}
	}
	verb := tokens[0]
	l.Verb = verb.text
	if sh, ok := headShapes[verb.text]; ok && verb.bare() {
		p.head(sh, &l, tokens[1:])
		return
	}
	if verb.text != "policy" || l.Instant.Text != "" {
		p.endHead()
	}
	p.place(&l)
	sh := p.shape(tokens)
	if sh == nil {
		p.previous = stepFaulty
		return
	}
	args := tokens[1:]
	if sh.form != "" && sh.word != "" {
		args = tokens[2:]
	}
	p.match(sh, &l, args)
	p.check(sh, &l)
	if len(p.faults) > before {
		p.previous = stepFaulty
		return
	}
	l.common()
	if sh.form == "" {
		p.previous = stepVerb
		p.remember(&l)
		p.pass(&l)
	} else {
		l.expectation(sh)
		if sh.form == FormRefused && p.previous == stepVerb {
			p.last().Refused = l.Expect
		}
		p.previous = stepExpect
	}
	p.file.Lines = append(p.file.Lines, l)
}

// head reads a line that describes the file.
func (p *parser) head(sh *shape, l *Line, args []token) {
	before := len(p.faults)
	p.previous = stepNone
	switch {
	case p.body:
		p.fault("%s belongs to the head, before the first line that happens", sh.word)
	case l.Instant.Text != "":
		p.fault("%s takes no instant", sh.word)
	case p.once[sh.word] && sh.word != "proves":
		p.fault("%s is given twice", sh.word)
	}
	p.once[sh.word] = true
	p.match(sh, l, args)
	if len(p.faults) > before {
		return
	}
	switch v := l.Args[0]; sh.word {
	case "version":
		major, minor, _ := strings.Cut(v.Text, ".")
		p.file.Version.Major, _ = strconv.Atoi(major)
		p.file.Version.Minor, _ = strconv.Atoi(minor)
		if p.file.Version.Major != Supported.Major {
			p.fault("version %s cannot be read; want version %d or %d.x", v.Text, Supported.Major, Supported.Major)
			p.over = true // the rest is in another version of the language
		}
	case "proves":
		for _, id := range v.List {
			if !slices.Contains(p.file.Proves, id) {
				p.file.Proves = append(p.file.Proves, id)
			}
		}
	case "start":
		p.file.Start, p.now = v.Time, v.Time
		for i := range p.file.Lines {
			p.file.Lines[i].At = v.Time
		}
	}
}

// endHead checks the head, before the first line that happens and at the end.
func (p *parser) endHead() {
	if p.body {
		return
	}
	p.body = true
	if !p.once["version"] {
		p.fault("the version is missing; want %q at the head of the file", "version "+Supported.String())
	}
}

// last returns the line above.
func (p *parser) last() *Line { return &p.file.Lines[len(p.file.Lines)-1] }

// place sets the instant of a line.
func (p *parser) place(l *Line) {
	l.At = p.now
	switch {
	case l.Instant.Relative:
		l.At = p.now.Add(l.Instant.After)
		if !inRange(l.At) {
			p.fault("%s leads to %s; want an instant from 1970 to 2149", quote(l.Instant.Text), l.At.Format(time.RFC3339))
			return
		}
	case !l.Instant.Time.IsZero():
		l.At = l.Instant.Time
		if l.At.Before(p.now) {
			p.fault("time steps back from %s to %s; want the first instant or a later one",
				p.now.Format(time.RFC3339Nano), l.At.Format(time.RFC3339Nano))
		}
	}
	// Keep the instant also after a step back, so that it is reported once.
	p.now = l.At
}

// pass lets the time of a line pass. Only suspend takes time.
func (p *parser) pass(l *Line) {
	if l.Verb != "suspend" {
		return
	}
	p.now = p.now.Add(l.Args[0].Duration)
	if !inRange(p.now) {
		p.fault("suspend leads to %s; want an instant from 1970 to 2149", p.now.Format(time.RFC3339))
	}
}

// instant reads the instant of a line. After a fault only the text is set.
func (p *parser) instant(text string) Instant {
	in := Instant{Text: text}
	if after, ok := strings.CutPrefix(text, "+"); ok {
		d, ok := duration(after)
		if !ok {
			p.fault("instant %s: want a duration after + as +30s, +10m or +1h30m, not negative, at most 876000h", quote(text))
			return in
		}
		in.Relative, in.After = true, d
		return in
	}
	t, ok := p.time(text)
	if !ok {
		p.fault("instant %s: want +DURATION after the line before, or a time as 09:30, 09:30:15.250 or 2026-01-05T09:30:00Z", quote(text))
		return in
	}
	in.Time = t
	return in
}

// shape finds the row of the grammar for a line.
func (p *parser) shape(tokens []token) *shape {
	verb := tokens[0]
	if verb.text != "expect" || !verb.bare() {
		if sh, ok := verbShapes[verb.text]; ok && verb.bare() {
			return sh
		}
		p.fault("unknown verb %s; want one of %s", quote(verb.raw), strings.Join(verbNames(), ", "))
		return nil
	}
	allowed := func() string { return "S STATUS, S.FIELD VALUE, " + strings.Join(expectWords(), ", ") }
	if len(tokens) == 1 {
		p.fault("expect: the expectation is missing; want one of %s", allowed())
		return nil
	}
	what := tokens[1]
	if what.key != "" {
		p.fault("expect: %s cannot begin an expectation; want one of %s", quote(what.raw), allowed())
		return nil
	}
	form := FormStatus
	if what.bare() { // quotes make any word a subject

		var found []*shape
		for _, sh := range expectShapes {
			if sh.word == what.text {
				found = append(found, sh)
			}
		}
		if len(found) == 1 {
			return found[0]
		}
		if len(found) > 1 {
			return p.variant(found, tokens[2:])
		}
		if form = p.dotted(what.text); form == "" {
			return nil
		}
	}
	for _, sh := range expectShapes {
		if sh.form == form {
			return sh
		}
	}
	return nil
}

// variant chooses between rows with the same first word, by their next word.
func (p *parser) variant(rows []*shape, args []token) *shape {
	var allowed []string
	for _, sh := range rows {
		i, word := sh.literal()
		if i < len(args) && args[i].key == "" && args[i].text == word {
			return sh
		}
		allowed = append(allowed, word)
	}
	i, _ := rows[0].literal()
	want := strings.Join(allowed, ", ")
	if i < len(args) {
		p.fault("%s: %s: want one of %s", rows[0].title, quote(args[i].raw), want)
	} else {
		p.fault("%s: an argument is missing; want %s and one of %s", rows[0].title, rows[0].params[0].name, want)
	}
	return nil
}

// dotted decides whether the first word of an expectation is a subject or one
// of its fields. Ids may have dots too: an id that a verb has named is a
// subject, with any ending.
func (p *parser) dotted(id string) Form {
	i := strings.LastIndexByte(id, '.')
	switch {
	case i < 0 || p.subjects[id]:
		return FormStatus
	case fieldKind(id[i+1:]) != "":
		return FormField
	case p.subjects[id[:i]]:
		p.fault("expect: %s has no field %s; want one of %s", id[:i], quote(id[i+1:]), strings.Join(fieldNames(), ", "))
		return ""
	}
	return FormStatus
}

// match reads the arguments of a line by its row of the grammar.
func (p *parser) match(sh *shape, l *Line, tokens []token) {
	var args []token
	for _, t := range tokens {
		prm, known := sh.key(t.key)
		switch {
		case t.key == "":
			args = append(args, t)
		case known && l.Has(t.key):
			p.fault("%s: key %s is given twice", sh.title, quote(t.key))
		case known:
			l.Keys = append(l.Keys, p.value(sh, prm, []token{t}))
		case sh.takesPairs(len(args)):
			args = append(args, token{text: t.raw, raw: t.raw})
		case sh.open:
			p.path(sh, l, t)
		case p.file.Version.Minor > Supported.Minor:
			if len(p.file.Warnings) < MaxFaults {
				p.file.Warnings = append(p.file.Warnings, Fault{p.file.Name, p.number,
					fmt.Sprintf("%s: unknown key %s is ignored; known are %s", sh.title, quote(t.key), sh.allowedKeys())})
			}
		default:
			p.fault("%s: unknown key %s; allowed: %s", sh.title, quote(t.key), sh.allowedKeys())
		}
	}
	for i := range sh.params {
		prm := &sh.params[i]
		switch {
		case i >= len(args) && prm.optional:
		case i >= len(args):
			p.fault("%s: %s is missing; usage: %s", sh.title, prm.name, sh.line())
			return // the later arguments are missing too
		case prm.rest:
			l.Args = append(l.Args, p.value(sh, prm, args[i:]))
			args = args[:i+1]
		default:
			l.Args = append(l.Args, p.value(sh, prm, args[i:i+1]))
		}
	}
	if n := len(sh.params); len(args) > n {
		hint := ""
		if strings.HasPrefix(args[n].raw, "#") {
			hint = "; a comment has two spaces before its #"
		}
		p.fault("%s: %s is one argument too many; usage: %s%s", sh.title, quote(args[n].raw), sh.line(), hint)
	}
	for i := range sh.keys {
		prm := &sh.keys[i]
		given := slices.ContainsFunc(tokens, func(t token) bool { return t.key == prm.name })
		if !prm.optional && !given {
			p.fault("%s: key %s= is missing; usage: %s", sh.title, prm.name, sh.line())
		}
	}
}

// path reads an argument whose key is a path of the policy.
func (p *parser) path(sh *shape, l *Line, t token) {
	switch {
	case !isPath(t.key):
		p.fault("%s: path %s: want letters, digits and . _ - as in idle.after", sh.title, quote(t.key))
	case l.Has(t.key):
		p.fault("%s: path %s is given twice", sh.title, quote(t.key))
	case t.text == "" && !t.quoted:
		p.fault(`%s: path %s has no value; want one, or "" for an empty one`, sh.title, quote(t.key))
	default:
		l.Keys = append(l.Keys, Value{Name: t.key, Text: t.text})
	}
}

// value reads one argument.
func (p *parser) value(sh *shape, prm *param, args []token) Value {
	v := Value{Name: prm.name, Text: args[0].text}
	// If a placeholder is also possible, a quoted word is its value and not the
	// word of the grammar.
	closed := !slices.ContainsFunc(prm.alts, func(a alternative) bool { return a.kind != nil })
	for _, alt := range prm.alts {
		if alt.kind == nil {
			if args[0].text == alt.word && (closed || !args[0].quoted) {
				return v
			}
			continue
		}
		if alt.kind.read(p, args, &v) {
			v.kind = alt.kind.name
			return v
		}
	}
	want := prm.want()
	if prm.name == "absent|VALUE" && p.field != nil {
		want = "absent, or " + p.field.want
	}
	var texts []string
	for _, t := range args {
		texts = append(texts, t.text)
	}
	p.fault("%s: %s %s: want %s", sh.title, prm.name, quote(strings.Join(texts, " ")), want)
	return v
}

// check finds faults of several arguments together, and of the line before.
func (p *parser) check(sh *shape, l *Line) {
	switch {
	case l.Verb == "claim" && l.Has("until") && l.Has("for"):
		p.fault("claim: until and for are both given; want at most one of them")
	case l.Verb == "policy" && len(l.Args) == 0 && !slices.ContainsFunc(l.Keys, func(v Value) bool { return v.Name != "by" }):
		p.fault("policy: POLICY and overrides are missing; want one of them; usage: %s", sh.line())
	case sh.form == FormRefused && (p.previous == stepNone || p.previous == stepExpect):
		p.fault("expect refused: the line before has no verb that can be refused")
	case sh.form == FormRefused && p.previous == stepVerb && !l.At.Equal(p.last().At):
		p.fault("expect refused: the line before was at %s; want the same instant",
			p.last().At.Format(time.RFC3339Nano))
	}
}

// remember keeps the ids that a verb names as subjects.
func (p *parser) remember(l *Line) {
	for _, v := range slices.Concat(l.Args, l.Keys) {
		switch v.kind {
		case "S", "S/C", "WHO":
			p.subjects[v.subject] = true
		}
	}
}

// common sets the fields for arguments that most verbs have.
func (l *Line) common() {
	set := func(field *string, value string) {
		if *field == "" {
			*field = value
		}
	}
	for _, v := range l.Args {
		switch v.kind {
		case "S", "S/C", "S.FIELD", "V", "WHO":
			set(&l.Subject, v.subject)
			set(&l.Conn, v.conn)
		case "CHANNEL":
			set(&l.Channel, v.Text)
		case "STATUS":
			set(&l.Status, v.Text)
		}
	}
	l.Proves = l.Key("proves").List
}

// expectation fills in what a line expects.
func (l *Line) expectation(sh *shape) {
	e := &Expectation{Form: sh.form, Line: l.Number, Channel: l.Channel, Status: l.Status}
	l.Expect = e
	for i := range l.Args {
		e.argument(&l.Args[i])
	}
	if sh.form == FormField && e.Word != "" {
		e.Absent, e.Word = true, ""
	}
	for i := range l.Keys {
		e.key(&l.Keys[i])
	}
}

// argument sets the field of an argument.
func (e *Expectation) argument(v *Value) {
	switch v.kind {
	case "S", "S.FIELD":
		e.Subject = v.subject
		if v.kind == "S.FIELD" {
			e.Field = v.Text
		}
	case "V":
		e.Watcher = v.Text
	case "W":
		e.Work = v.Text
	case "LABEL":
		e.Label = v.Text
	case "LIST", "LABELS":
		e.List = v.List
	case "SNAPSHOT":
		e.Snapshot = v.snapshot
	case "LOG":
		e.Log = v.log
	case "NUMBER":
		e.Number = v.Number
	case "DURATION":
		e.Duration = v.Duration
	case "TEXT":
		e.Text = v.Text
	case "VALUE":
		e.Text, e.Number, e.Time = v.Text, v.Number, v.Time
	case "":
		e.Word = v.Text
	}
}

// key sets the field of a key.
func (e *Expectation) key(v *Value) {
	switch v.Name {
	case "as":
		e.As = v.Text
	case "by":
		e.By = v.Text
	case "class":
		e.Class = v.Text
	case "cause":
		e.Cause = v.Text
	case "trigger":
		e.Trigger = v.Text
	case "masked":
		e.Masked = v.Text
	case "label":
		e.Label = v.Text
	case "reason":
		e.Reason = &v.Text
	case "since":
		e.Since = v.Time
	case "setat":
		e.SetAt = v.Time
	case "until":
		e.Until = v.Time
	case "nextopen":
		e.NextOpen = v.Time
	case "from":
		e.From = v.Time
	case "to":
		e.To = v.Time
	case "routable":
		yes := v.Text == "yes"
		e.Routable = &yes
	case "order":
		e.ByRouting = true
	}
}

// fields are the fields of S.FIELD and the placeholder that each takes.
var fields = []struct{ name, kind string }{
	{"threads", "NUMBER"}, {"pinned", "NUMBER"},
	{"since", "TIME"}, {"setat", "TIME"}, {"lastseen", "TIME"}, {"lastlogin", "TIME"},
	{"request", "TEXT"}, {"color", "TEXT"}, {"masked", "STATUS"}, {"until", "TIME"}, {"text", "TEXT"}, {"routableon", "TEXT"},
}

func fieldKind(name string) string {
	for _, f := range fields {
		if f.name == name {
			return f.kind
		}
	}
	return ""
}

func fieldNames() []string {
	var names []string
	for _, f := range fields {
		names = append(names, f.name)
	}
	return names
}

func verbNames() []string {
	names := []string{"expect"}
	for name := range verbShapes {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// token is a word of a line, or a key=value.
type token struct {
	raw    string // with key, quotes and escapes
	key    string
	text   string // the value
	quoted bool
}

// bare reports whether the token is a plain word.
func (t token) bare() bool { return t.key == "" && !t.quoted }

// looksTimed reports whether the token is an instant. No verb begins like one.
func (t token) looksTimed() bool {
	return t.bare() && t.text != "" && strings.IndexByte("+-0123456789", t.text[0]) >= 0
}

// scan splits a line into words. It also returns the line without its comment.
func (p *parser) scan(line string) (text string, tokens []token) {
	if len(line) > MaxLine {
		p.fault("the line has %d bytes; at most %d are allowed", len(line), MaxLine)
		return "", nil
	}
	for i, r := range line {
		invalid := r == utf8.RuneError && !strings.HasPrefix(line[i:], "\ufffd")
		if invalid || unicode.IsControl(r) && r != '\t' {
			p.fault("byte %d of the line is not allowed; want UTF-8 without control characters", i+1)
			return "", nil
		}
	}
	for i := 0; ; {
		start := i
		for i < len(line) && (line[i] == ' ' || line[i] == '\t') {
			i++
		}
		if i == len(line) {
			return strings.Trim(line, " \t"), tokens
		}
		if gap := line[start:i]; line[i] == '#' && (start == 0 || len(gap) > 1 || gap == "\t") {
			return strings.Trim(line[:i], " \t"), tokens
		}
		t, length, wrong := next(line[i:])
		if wrong != "" {
			p.fault("%s", wrong)
			return "", nil
		}
		tokens = append(tokens, t)
		i += length
	}
}

// next reads the token at the beginning of a text.
func next(s string) (t token, length int, wrong string) {
	var b strings.Builder
	i := 0
	for ; i < len(s) && s[i] != ' ' && s[i] != '\t'; i++ {
		switch {
		case t.quoted:
			return t, 0, fmt.Sprintf("%s follows a closing quote; want a space", quote(s[i:i+1]))
		case s[i] == '"' && b.Len() > 0:
			return t, 0, fmt.Sprintf("the word %s contains a quote; want quotes around the whole value", quote(s[:i+1]))
		case s[i] == '"':
			end, problem := unquote(&b, s[i:])
			if problem != "" {
				return t, 0, problem
			}
			t.quoted = true
			i += end - 1
		case s[i] == '=' && t.key == "" && b.Len() > 0:
			t.key = b.String()
			b.Reset()
		default:
			b.WriteByte(s[i])
		}
	}
	t.raw, t.text = s[:i], b.String()
	return t, i, ""
}

// unquote reads the quoted string at the beginning of s into b, and returns its
// length.
func unquote(b *strings.Builder, s string) (length int, wrong string) {
	for i := 1; i < len(s); i++ {
		switch s[i] {
		case '"':
			return i + 1, ""
		case '\\':
			i++
			if i == len(s) || s[i] != '"' && s[i] != '\\' {
				return 0, `a backslash in quotes escapes nothing; want \" or \\`
			}
		}
		b.WriteByte(s[i])
	}
	return 0, fmt.Sprintf("the quote that begins with %s is not closed", quote(s))
}

// quote quotes a text for a fault, and cuts a long one.
func quote(s string) string {
	const most = 60
	if len(s) <= most {
		return strconv.Quote(s)
	}
	cut := most
	for !utf8.RuneStart(s[cut]) {
		cut--
	}
	return strconv.Quote(s[:cut] + "…")
}

func isID(s string) bool {
	return len(s) <= maxID && isPath(s)
}

// isPath reports whether a text has only the characters of ids.
func isPath(s string) bool {
	for i := range len(s) {
		c := s[i]
		letter := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
		if !letter && (c < '0' || c > '9') && strings.IndexByte("._@:+-", c) < 0 {
			return false
		}
	}
	return s != ""
}

func isStatement(s string) bool {
	if len(s) < 2 || s[0] < 'A' || s[0] > 'Z' {
		return false
	}
	return len(s) <= maxID && digits(s[1:])
}

func digits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return s != ""
}

func inRange(t time.Time) bool {
	return !t.Before(firstInstant) && t.Before(lastInstant)
}

// time reads a time. A time without a date is on the day of the start.
func (p *parser) time(s string) (time.Time, bool) {
	if len(s) > 2 && s[2] == ':' {
		year, month, day := p.file.Start.Date()
		of, ok := timeOfDay(s)
		return time.Date(year, month, day, 0, 0, 0, 0, time.UTC).Add(of), ok
	}
	t, err := time.Parse(time.RFC3339, s)
	t = t.UTC()
	return t, err == nil && inRange(t)
}

// timeOfDay reads 09:30, 09:30:15 or 09:30:15.250.
func timeOfDay(s string) (time.Duration, bool) {
	layout := "15:04:05"
	if len(s) == len("15:04") {
		layout = "15:04"
	}
	if i := strings.IndexAny(s, ".,"); i >= 0 && (s[i] == ',' || len(s)-i > len(".999999999")) {
		return 0, false
	}
	t, err := time.Parse(layout, s)
	if err != nil || len(s) < len(layout) {
		return 0, false
	}
	return t.Sub(time.Date(0, 1, 1, 0, 0, 0, 0, time.UTC)), true
}

// duration reads a duration without a sign.
func duration(s string) (time.Duration, bool) {
	if strings.HasPrefix(s, "+") || strings.HasPrefix(s, "-") {
		return 0, false
	}
	d, err := time.ParseDuration(s)
	return d, err == nil && d <= maxDuration
}
