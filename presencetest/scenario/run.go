package scenario

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/presence-go/presence"
	"github.com/presence-go/presence/preset"
	"github.com/presence-go/presence/routing"
	"github.com/presence-go/presence/schedule"
)

// Options sets how a file is run.
type Options struct {
	// Live runs the file through a whole [presence.Tracker] on a mock clock. By
	// default the file runs on the pure core. Both must agree.
	Live bool
	// Policy is in force until a line of the file names another policy. A policy
	// line without a name changes single values of it. Nil means
	// [presence.DefaultPolicy].
	Policy *presence.Policy
	// Policies is the folder with the JSON policies that the file names. Nil allows
	// presets only.
	Policies fs.FS
	// Mutate changes each policy before it is put in force. A test uses it to check
	// that a file fails under another policy than its own.
	Mutate func(*presence.Policy)
	// KeepGoing runs the file to its end after failures, so that the result lists
	// all failing lines. A failing expectation changes nothing: a watcher's next
	// event stays the next one.
	KeepGoing bool
}

// Result is the result of a run. Without KeepGoing it ends at the first
// failure.
type Result struct {
	Name       string // of the file
	Start, End presence.Instant
	// Ran lists the numbers of the lines that ran and did not fail. Held is the
	// number of expectations among them.
	Ran  []int
	Held int
	// Proven has the lines that proved each statement.
	Proven map[string][]int
	// Subjects has the history of each known subject, by id.
	Subjects []Subject
	Failures []*Failure // the first failure, or with KeepGoing all
	Warnings []Fault    // about the file and its policies
}

// Subject is the history of one subject.
type Subject struct {
	ID      string
	State   presence.State    // at the end
	History []presence.Output // all outputs of the core, in order
}

// Failure is an expectation that does not hold, or a line that must be accepted
// and was refused.
type Failure struct {
	File      string
	Line      int
	Text      string // the line, as written
	Want, Got string
}

// Error returns the position, and the wanted and the actual result.
func (f *Failure) Error() string {
	return fmt.Sprintf("%s:%d: wanted %s, got %s", f.File, f.Line, f.Want, f.Got)
}

// Check runs a file from disk, on the pure core or through a whole tracker. It
// returns the first fault or failure.
func Check(name string, live bool) error {
	_, err := RunFile(context.Background(), name, Options{Live: live})
	return err
}

// RunFile reads a file from disk and runs it. It ignores opts.Policies:
// policies are read from the folder of the file.
func RunFile(ctx context.Context, name string, opts Options) (*Result, error) {
	src, err := read(name)
	if err != nil {
		return nil, fmt.Errorf("scenario: %w", err)
	}
	f, err := Parse(name, src)
	if err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(filepath.Dir(name))
	if err != nil {
		return nil, fmt.Errorf("scenario: %w", err)
	}
	defer root.Close()
	opts.Policies = root.FS()
	return Run(ctx, f, opts)
}

// read reads a file up to one byte beyond the limit of Parse.
func read(name string) ([]byte, error) {
	in, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	return io.ReadAll(io.LimitReader(in, MaxSize+1))
}

// Run runs a file. If an expectation does not hold, it returns a [*Failure], or
// with [Options.KeepGoing] all of them joined. If the file cannot be run, it
// returns each [*Fault] that it finds before the run, joined. The result is nil
// if nothing was run.
func Run(ctx context.Context, f *File, opts Options) (*Result, error) {
	r := &runner{
		ctx: ctx, file: f, opts: opts, now: presence.At(f.Start),
		roles: make(map[string]presence.Role), known: make(map[string]bool), watchers: make(map[string]*watcher),
		history: make(map[presence.Ref]*history),
		result:  &Result{Name: f.Name, Start: presence.At(f.Start), Proven: make(map[string][]int), Warnings: slices.Clone(f.Warnings)},
	}
	if err := r.prepare(); err != nil {
		return nil, err
	}
	if err := r.open(); err != nil {
		return nil, err
	}
	err := r.run()
	if ended := r.finish(); err == nil {
		err = ended
	}
	if closed := r.engine.close(); err == nil {
		err = closed
	}
	return r.result, err
}

// engine is a core or a tracker that runs a file.
type engine interface {
	// set moves the clock. sweep processes what is due, and returns the next
	// deadline or 0 for none.
	set(now presence.Instant)
	sweep(ctx context.Context) (next presence.Instant, err error)
	// stepWall sets only the wall clock.
	stepWall(ctx context.Context, now presence.Instant, by time.Duration, known []string) error
	// apply applies an event of any kind but EventPolicy and EventTick.
	apply(ctx context.Context, e presence.Event) error
	policy(ctx context.Context, actor presence.Actor, p presence.Policy) error
	grant(ctx context.Context, channel presence.Channel, subject presence.Ref) error
	revoke(ctx context.Context, channel presence.Channel, subject presence.Ref) error
	link(ctx context.Context, channel, group presence.Channel) error
	join(ctx context.Context, actor presence.Actor, channel presence.Channel) error
	hours(ctx context.Context, channel presence.Channel, h presence.Hours) error
	watch(ctx context.Context, actor presence.Actor, channel presence.Channel, a presence.Audience) (feed, error)
	gate(ctx context.Context, subject presence.Ref, kind, channel string) (presence.Decision, error)
	state(ctx context.Context, subject presence.Ref) (presence.State, error)
	view(ctx context.Context, subject presence.Ref, a presence.Audience) (presence.View, error)
	explain(ctx context.Context, subject presence.Ref, a presence.Audience) ([]string, error)
	define(ctx context.Context, actor presence.Actor, s presence.Status) error
	undefine(ctx context.Context, actor presence.Actor, id, fallback string) error
	desk(m func() *presence.Machine, now func() presence.Instant) routing.Desk
	list(ctx context.Context, channel presence.Channel, a presence.Audience) ([]presence.View, presence.Group, error)
	journal(ctx context.Context, subject presence.Ref) ([]presence.JournalRow, error)
	close() error
}

// feed is the frames of one watcher for one channel.
type feed interface {
	poll() *presence.Frame // nil if none is ready
	close()
}

// runner runs one file.
type runner struct {
	ctx    context.Context
	file   *File
	opts   Options
	engine engine
	result *Result
	now    presence.Instant

	policies map[int]presence.Policy // by the line that sets it
	hours    map[int]presence.Hours  // by the line that sets them
	policy   presence.Policy         // in force, without Mutate
	machine  *presence.Machine       // compiled from policy after Mutate
	scope    string                  // of claims, by the policy
	interval time.Duration           // of heartbeats

	roles    map[string]presence.Role
	known    map[string]bool // subjects that a verb has named
	clients  []*client
	nodes    uint64 // issued incarnations
	watchers map[string]*watcher
	feeds    []*subscription // in the order of watching

	history  map[presence.Ref]*history
	nevers   []*Line
	refused  *refusal           // whether the line before was refused
	decision *presence.Decision // of the last notify
	queue    *routing.Queue
	opening  map[string]presence.Hours // by channel
}

// client is the far end of a connection: it sends heartbeats.
type client struct {
	subject, conn, device, node string
	beats                       bool
	next                        presence.Instant
	reports                     uint64
}

// refusal is the result of a line that must be refused.
type refusal struct {
	line    *Line
	err     error  // nil if the line was accepted
	changed string // a subject that changed nevertheless
}

// history is what the runner has observed of a subject.
type history struct {
	outputs []presence.Output
	trigger presence.Cause // of the last transition
	cause   presence.Cause // of the current status
	because presence.Cause // the trigger of the last change of cause, with or without a new status
	shown   map[presence.Audience][]moment
}

// moment is the start of a status as one audience sees it. The audience "" sees
// the status itself.
type moment struct {
	status string
	at     presence.Instant
}

var audiences = []presence.Audience{
	presence.AudienceSelf, presence.AudienceTeam, presence.AudienceSupervisor,
	presence.AudienceAdmin, presence.AudienceVisitor, presence.AudienceRouter,
}

// prepare reads the policies of the file. It checks that expectations name only
// statuses of policies that are or were in force.
func (r *runner) prepare() error {
	var faults []error
	r.policies, r.hours = make(map[int]presence.Policy), make(map[int]presence.Hours)
	r.policy = presence.DefaultPolicy()
	if r.opts.Policy != nil {
		r.policy = r.opts.Policy.Clone()
		if _, err := presence.Compile(r.policy); err != nil {
			return fmt.Errorf("scenario: Options.Policy: %w", err)
		}
	}
	present := r.policy
	statuses := map[string]bool{presence.StatusUnknown: true, presence.StatusDisabled: true}
	note := func(p *presence.Policy) {
		for _, s := range p.Statuses {
			statuses[s.ID] = true
		}
	}
	named := false
	for i := range r.file.Lines {
		l := &r.file.Lines[i]
		switch {
		case l.Verb == "policy" || l.Verb == "define" || l.Verb == "undefine":
			p, err := r.changed(l, present)
			if err != nil {
				// Later lines were written for this policy: checked by the one before,
				// they would have faults that are none.
				return errors.Join(append(faults, r.policyFaults(l, p, err)...)...)
			}
			r.policies[l.Number] = p
			note(&p)
			if l.Refused == nil {
				present, named = p, named || l.Verb == "policy"
			}
		case l.Verb == "schedule":
			h, err := openingHours(l)
			if err != nil {
				for text := range strings.SplitSeq(err.Error(), "\n") {
					faults = append(faults, r.fault(l, "%s", strings.TrimPrefix(text, "presence: ")))
				}
				continue
			}
			r.hours[l.Number] = h
		case l.Expect != nil:
			if !named {
				note(&present)
			}
			if err := r.checkStatuses(l, statuses, &present); err != nil {
				faults = append(faults, err)
			}
		}
	}
	if err := errors.Join(faults...); err != nil {
		return err
	}
	r.startPolicy()
	return nil
}

// startPolicy puts the last policy of the lines at the start of the file in
// force, before time starts. A line by an actor, or one that must be refused, is
// no such line.
func (r *runner) startPolicy() {
	for _, l := range r.file.Lines {
		p, ok := r.policies[l.Number]
		if !ok || l.Verb != "policy" || l.Has("by") || l.Refused != nil {
			return
		}
		r.policy = p
	}
}

// policyFaults are the faults of a policy that a line puts in force. For a key
// that the line does not override, the fault names the policy that sets the key,
// and how to empty it.
func (r *runner) policyFaults(l *Line, p presence.Policy, err error) (faults []error) {
	from := "the policy before"
	if len(l.Args) > 0 {
		from = "policy " + l.Args[0].Text
	}
	for _, single := range split(err) {
		text, key := strings.TrimPrefix(single.Error(), "presence: "), faultyKey(single)
		overridden := slices.ContainsFunc(l.Keys, func(v Value) bool { return v.Name == key })
		if key != "" && len(l.Keys) > 0 && !overridden && empties(p, key) {
			text += fmt.Sprintf(" (%s sets %s; %s= empties it)", from, key, key)
		}
		faults = append(faults, r.fault(l, "%s", text))
	}
	return faults
}

// empties reports whether a policy has no fault at a key once the key is empty.
func empties(p presence.Policy, key string) bool {
	p = p.Clone()
	if err := p.Set(key, ""); err != nil {
		return false
	}
	_, err := presence.Compile(p)
	return !slices.ContainsFunc(split(err), func(single error) bool { return faultyKey(single) == key })
}

// faultyKey is the key of a policy that a fault is of, or empty.
func faultyKey(err error) string {
	var refusal *presence.Error
	if errors.As(err, &refusal) && refusal.What == "policy" {
		return refusal.Given
	}
	return ""
}

// split returns the errors that were joined into one.
func split(err error) []error {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		if _, refusal := err.(*presence.Error); !refusal {
			return joined.Unwrap()
		}
	}
	return []error{err}
}

func (r *runner) fault(l *Line, format string, args ...any) error {
	return &Fault{r.file.Name, l.Number, fmt.Sprintf(format, args...)}
}

// changed is the policy that a line puts in force.
func (r *runner) changed(l *Line, present presence.Policy) (presence.Policy, error) {
	if l.Verb == "policy" {
		return r.overridden(l, present)
	}
	p := present.Clone()
	if l.Verb == "undefine" {
		if err := p.RemoveStatus(l.Status, l.Key("to").Text); err != nil && l.Refused == nil {
			return p, err
		}
		return p, nil
	}
	p.AddStatus(presence.Status{ID: l.Status, Class: presence.Class(l.Key("class").Text)})
	for _, v := range l.Keys {
		if v.Name == "by" || v.Name == "class" {
			continue
		}
		if err := p.Set("statuses."+l.Status+"."+v.Name, v.Text); err != nil {
			return p, err
		}
	}
	_, err := presence.Compile(p)
	return p, err
}

// overridden is the current policy with the overrides of a line.
func (r *runner) overridden(l *Line, present presence.Policy) (presence.Policy, error) {
	p := present.Clone()
	if len(l.Args) > 0 {
		var err error
		if p, err = r.named(l, l.Args[0].Text); err != nil {
			return p, err
		}
	}
	for _, v := range l.Keys {
		if v.Name == "by" {
			continue
		}
		if err := p.Set(v.Name, v.Text); err != nil {
			return p, err
		}
	}
	_, err := presence.Compile(p)
	return p, err
}

// openingHours are the hours that a line sets.
func openingHours(l *Line) (*schedule.Schedule, error) {
	plan, err := schedule.Parse(l.Args[1].Text)
	if err != nil {
		return nil, err
	}
	plan.Zone = l.Key("zone").Text
	for _, text := range l.Key("except").List {
		var e schedule.Exception
		if err := e.Date.UnmarshalText([]byte(text)); err != nil {
			return nil, err
		}
		plan.Exceptions = append(plan.Exceptions, e)
	}
	return schedule.New(plan, nil)
}

// named reads a policy by its name: a preset or a file.
func (r *runner) named(l *Line, name string) (presence.Policy, error) {
	if !strings.HasSuffix(name, ".json") {
		if p, ok := preset.Lookup(name); ok {
			return p, nil
		}
		return presence.Policy{}, fmt.Errorf("unknown policy %s; want one of %s, or a file as ./lunch.json", quote(name), strings.Join(preset.Names(), ", "))
	}
	file := path.Clean(name)
	switch {
	case !fs.ValidPath(file):
		return presence.Policy{}, fmt.Errorf("the policy %s is outside the folder of this file; want a file in the folder", quote(name))
	case r.opts.Policies == nil:
		return presence.Policy{}, fmt.Errorf("the policy %s cannot be read, because this file was given without its folder; want one of %s", quote(name), strings.Join(preset.Names(), ", "))
	}
	in, err := r.opts.Policies.Open(file)
	if err != nil {
		return presence.Policy{}, err
	}
	defer in.Close()
	data, err := io.ReadAll(io.LimitReader(in, MaxSize+1))
	if err != nil {
		return presence.Policy{}, err
	}
	p, unknown, err := preset.Parse(data)
	if err != nil {
		return p, fmt.Errorf("%s: %w", name, err)
	}
	for _, key := range unknown {
		r.result.Warnings = append(r.result.Warnings, Fault{r.file.Name, l.Number, fmt.Sprintf("%s: unknown key %s is ignored", name, key)})
	}
	return p, nil
}

// checkStatuses finds a status in an expectation that no policy has had. An
// expect never may name any word.
func (r *runner) checkStatuses(l *Line, statuses map[string]bool, present *presence.Policy) error {
	e := l.Expect
	var named []string
	switch e.Form {
	case FormNever:
		return nil
	case FormSelectable:
		named = append(named, e.List...)
	case FormField:
		if e.Field == "masked" && !e.Absent {
			named = append(named, e.Text)
		}
	}
	named = append(named, e.Status, e.Masked)
	for _, s := range e.Snapshot {
		named = append(named, s.Status)
	}
	for _, row := range e.Log {
		named = append(named, row.Status)
	}
	for _, id := range named {
		if id != "" && !statuses[id] {
			var allowed []string
			for _, s := range present.Statuses {
				allowed = append(allowed, s.ID)
			}
			return r.fault(l, "expect: unknown status %s; want one of %s", quote(id), strings.Join(allowed, ", "))
		}
	}
	return nil
}

// open starts the engine with the policy of the head.
func (r *runner) open() error {
	p, m, err := r.compile(r.policy)
	if err != nil {
		return fmt.Errorf("scenario: %s: %w", r.file.Name, err)
	}
	r.machine, r.scope, r.interval = m, p.ClaimScope, m.Policy().Heartbeat
	if r.opts.Live {
		r.engine, err = newLive(r.now, p, r.observe)
	} else {
		r.engine = newPure(r.now, m, r.observe)
	}
	if err != nil {
		return err
	}
	r.opening = make(map[string]presence.Hours)
	desk := r.engine.desk(func() *presence.Machine { return r.machine }, func() presence.Instant { return r.now })
	r.queue, err = routing.New(desk, &routing.Options{Open: r.isOpen})
	return err
}

// isOpen reports whether the hours of a channel let new work in.
func (r *runner) isOpen(channel presence.Channel, now presence.Instant) (open bool, next presence.Instant) {
	if hours := r.opening[channel.ID]; hours != nil {
		return hours.OpenAt(now)
	}
	return true, 0
}

// compile compiles a policy of the file after Mutate.
func (r *runner) compile(p presence.Policy) (presence.Policy, *presence.Machine, error) {
	p = p.Clone()
	if r.opts.Mutate != nil {
		r.opts.Mutate(&p)
	}
	m, err := presence.Compile(p)
	return p, m, err
}

// observe records an output of the core about a subject, and the status that
// each audience then sees.
func (r *runner) observe(ref presence.Ref, o *presence.Output) {
	h := r.history[ref]
	if h == nil {
		h = &history{shown: make(map[presence.Audience][]moment)}
		r.history[ref] = h
	}
	h.outputs = append(h.outputs, *o)
	switch o.Kind {
	case presence.OutputTransition:
		h.trigger, h.because = o.Trigger, o.Trigger
	case presence.OutputUpdated:
		if o.Presence.Cause != h.cause {
			h.because = o.Trigger
		}
	default:
		return
	}
	h.cause = o.Presence.Cause
	h.show("", o.Presence.Status, r.now)
	for _, a := range audiences {
		h.show(a, r.machine.View(&o.Presence, a).Status, r.now)
	}
}

func (h *history) show(a presence.Audience, status string, at presence.Instant) {
	if list := h.shown[a]; len(list) == 0 || list[len(list)-1].status != status {
		h.shown[a] = append(list, moment{status, at})
	}
}

// run runs the lines in order.
func (r *runner) run() error {
	for i := range r.file.Lines {
		l := &r.file.Lines[i]
		if err := r.advance(presence.At(l.At)); err != nil {
			return err
		}
		var err error
		if l.Expect != nil {
			err = r.expect(l)
		} else {
			err = r.happen(l)
		}
		switch stop := r.failed(err); {
		case stop != nil:
			return stop
		case err == nil:
			r.result.Ran = append(r.result.Ran, l.Number)
		}
	}
	var held []*Line
	for _, l := range r.nevers {
		err := r.never(l)
		if stop := r.failed(err); stop != nil {
			return stop
		}
		if err == nil {
			held = append(held, l)
		}
	}
	for _, l := range held {
		r.prove(l)
	}
	if r.opts.KeepGoing {
		return joined(r.result.Failures)
	}
	return nil
}

// failed records a failure. It returns the error that ends the run: an error
// that is no failure, or the first failure without KeepGoing.
func (r *runner) failed(err error) error {
	failure, ok := errors.AsType[*Failure](err)
	if !ok {
		return err
	}
	r.result.Failures = append(r.result.Failures, failure)
	if r.opts.KeepGoing {
		return nil
	}
	return err
}

func joined(failures []*Failure) error {
	var list []error
	for _, f := range failures {
		list = append(list, f)
	}
	return errors.Join(list...)
}

// finish sets the end and the subjects of the result.
func (r *runner) finish() error {
	r.result.End = r.now
	states, err := r.states()
	for _, id := range sortedKeys(states) {
		s := Subject{ID: id, State: states[id]}
		if h := r.history[presence.ID(id)]; h != nil {
			s.History = h.outputs
		}
		r.result.Subjects = append(r.result.Subjects, s)
	}
	return err
}

// advance lets the time pass until an instant. At the same instant it processes
// deadlines before heartbeats.
func (r *runner) advance(to presence.Instant) error {
	for {
		if err := context.Cause(r.ctx); err != nil {
			return err
		}
		due, err := r.engine.sweep(r.ctx)
		if err != nil {
			return err
		}
		if err := r.queue.Step(r.ctx); err != nil {
			return err
		}
		r.drain(nil)
		if at, ok := r.queue.Next(); ok && (due == 0 || at < due) {
			due = at
		}
		beat := r.nextBeat()
		switch {
		case due != 0 && due <= to && (beat == 0 || due <= beat):
			r.set(due)
		case beat != 0 && beat <= to:
			r.set(beat)
			if err := r.beat(); err != nil {
				return err
			}
		default:
			r.set(to)
			return nil
		}
	}
}

func (r *runner) set(now presence.Instant) {
	if now > r.now {
		r.now = now
		r.engine.set(now)
	}
}

// nextBeat is when the next heartbeat is due, or 0.
func (r *runner) nextBeat() (at presence.Instant) {
	for _, c := range r.clients {
		if c.beats && (at == 0 || c.next < at) {
			at = c.next
		}
	}
	return at
}

// beat sends the heartbeats that are due. A client whose connection is refused
// stops sending.
func (r *runner) beat() error {
	for _, c := range r.clients {
		if !c.beats || c.next > r.now {
			continue
		}
		err := r.engine.apply(r.ctx, presence.Event{
			Kind: presence.EventHeartbeat, Subject: presence.ID(c.subject), Conn: c.conn, Age: presence.NoAge,
		})
		if err != nil && !isRefusal(err) {
			return err
		}
		c.beats = err == nil
		c.next = r.now.Add(r.interval)
	}
	r.drain(nil)
	return nil
}

// drain receives the frames of all watches. A change of several subjects at
// once has no fixed order: order sorts it.
func (r *runner) drain(order func(a, b item) int) {
	for _, s := range slices.Clone(r.feeds) {
		from := len(s.watcher.items)
		for f := s.feed.poll(); f != nil; f = s.feed.poll() {
			s.receive(f)
			if f.Kind == presence.FrameRemoved {
				r.drop(s)
			}
		}
		if order != nil {
			slices.SortStableFunc(s.watcher.items[from:], order)
		}
	}
}

// happen runs a verb.
func (r *runner) happen(l *Line) error {
	verb, ok := doers[l.Verb]
	if !ok {
		return r.unsupported(l, l.Verb)
	}
	if err := r.introduce(l); err != nil {
		return err
	}
	var before map[string]presence.State
	if l.Refused != nil {
		var err error
		if before, err = r.states(); err != nil {
			return err
		}
	}
	err := verb(r, l)
	if err := r.queue.Step(r.ctx); err != nil {
		return err
	}
	r.drain(forAll[l.Verb])
	if err != nil && !isRefusal(err) {
		return err
	}
	if l.Refused == nil {
		r.refused = nil
		if err != nil {
			return r.failure(l, "the line to be accepted", "refused: "+err.Error())
		}
		return nil
	}
	r.refused = &refusal{line: l, err: err}
	after, err := r.states()
	if err != nil {
		return err
	}
	for _, id := range sortedKeys(after) {
		if !sameState(before[id], after[id]) {
			r.refused.changed = id
			break
		}
	}
	return nil
}

// forAll has the verbs that concern several subjects at once, with the order of
// their items. The order is by id. For a link, subjects that leave precede
// those that join.
var forAll = map[string]func(a, b item) int{
	"policy": byID, "define": byID, "undefine": byID, "disable": byID, "enable": byID, "node": byID, "suspend": byID,
	"link": func(a, b item) int {
		switch {
		case a.what == b.what:
			return byID(a, b)
		case a.what == "left":
			return -1
		case b.what == "left":
			return 1
		}
		return byID(a, b)
	},
}

func byID(a, b item) int { return cmp.Compare(a.subject, b.subject) }

// connecting has the verbs that open a connection.
var connecting = map[string]bool{"connect": true, "login": true, "resume": true, "wake": true}

// introduce makes the subjects known that a verb names. A connecting subject
// becomes known by its connection, and has no view before.
func (r *runner) introduce(l *Line) error {
	for _, v := range l.Args {
		named := v.kind == "S" || v.kind == "S/C" || l.Verb == "role" && v.kind == "WHO"
		if !named || r.known[v.subject] {
			continue
		}
		r.known[v.subject] = true
		if connecting[l.Verb] {
			continue
		}
		if err := r.engine.apply(r.ctx, presence.Event{Kind: presence.EventGrant, Subject: presence.ID(v.subject)}); err != nil {
			return err
		}
	}
	return nil
}

// states returns the states of all known subjects.
func (r *runner) states() (map[string]presence.State, error) {
	states := make(map[string]presence.State)
	for id := range r.known {
		s, err := r.engine.state(r.ctx, presence.ID(id))
		if err != nil && !errors.Is(err, presence.ErrUnknown) {
			return nil, err
		}
		states[id] = s
	}
	return states, nil
}

func (r *runner) failure(l *Line, want, got string) error {
	return &Failure{File: r.file.Name, Line: l.Number, Text: l.Text, Want: want, Got: got}
}

// unsupported is the error for a statement that cannot be run.
func (r *runner) unsupported(l *Line, what string) error {
	return fmt.Errorf("scenario: %s:%d: not supported yet: %s", r.file.Name, l.Number, what)
}

// isRefusal reports whether an error is a refusal of a call, and no breakdown.
func isRefusal(err error) bool {
	for _, reason := range []error{
		presence.ErrInvalid, presence.ErrUnknown, presence.ErrNotAllowed, presence.ErrOffline, presence.ErrDisabled,
		presence.ErrLimit, presence.ErrStale, presence.ErrClosed,
	} {
		if errors.Is(err, reason) {
			return true
		}
	}
	return false
}

// actor is the actor with a name.
func (r *runner) actor(id string) presence.Actor {
	a := presence.Actor{Subject: presence.ID(id), Role: presence.RoleAgent}
	if id == "system" {
		a.Role = presence.RoleSystem
	}
	if role, given := r.roles[id]; given {
		a.Role = role
	}
	return a
}

// by is the actor of a line: the one that by= names, or the subject itself.
func (r *runner) by(l *Line) presence.Actor {
	if who := l.Key("by").Text; who != "" {
		return r.actor(who)
	}
	return r.actor(l.Subject)
}

// client returns the far end of a connection. It keeps its device when it
// connects again.
func (r *runner) client(l *Line) *client {
	for _, c := range r.clients {
		if c.subject == l.Subject && c.conn == l.Conn {
			return c
		}
	}
	c := &client{subject: l.Subject, conn: l.Conn, device: "web"}
	r.clients = append(r.clients, c)
	slices.SortFunc(r.clients, func(a, b *client) int {
		return cmp.Or(cmp.Compare(a.subject, b.subject), cmp.Compare(a.conn, b.conn))
	})
	return c
}

// on applies an event about the subject and the connection of a line.
func (r *runner) on(l *Line, e presence.Event) error {
	e.Subject, e.Conn = presence.ID(l.Subject), l.Conn
	return r.engine.apply(r.ctx, e)
}

// connect opens a connection, or resumes it, and starts its heartbeats.
func (r *runner) connect(l *Line, kind presence.EventKind) error {
	c := r.client(l)
	device, node := cmp.Or(l.Key("device").Text, c.device), cmp.Or(l.Key("node").Text, c.node)
	e := presence.Event{Kind: kind, Device: device, Node: node, Age: presence.NoAge}
	if l.Has("idle") {
		e.Age = l.Key("idle").Duration
	}
	if err := r.on(l, e); err != nil {
		return err
	}
	c.device, c.node = device, node
	c.beats, c.next = true, r.now.Add(r.interval)
	return nil
}

// leave ends a connection for good.
func (r *runner) leave(l *Line, e presence.Event) error {
	if err := r.on(l, e); err != nil {
		return err
	}
	r.hush(func(c *client) bool { return c.subject == l.Subject && (l.Conn == "" || c.conn == l.Conn) })
	return nil
}

// hush stops the heartbeats of clients.
func (r *runner) hush(which func(*client) bool) {
	for _, c := range r.clients {
		if which(c) {
			c.beats = false
		}
	}
}
