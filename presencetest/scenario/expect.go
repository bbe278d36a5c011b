package scenario

import (
	"cmp"
	"context"
	"fmt"
	"iter"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/presence-go/presence"
	"github.com/presence-go/presence/report"
	"github.com/presence-go/presence/routing"
)

// watcher is a watcher of channels, with the items that it received and no line
// has expected yet.
type watcher struct {
	items []item
}

// subscription is one channel that a watcher watches.
type subscription struct {
	watcher *watcher
	name    string
	channel string
	feed    feed
	label   string          // the label to filter by; empty for all
	labels  []string        // the labels of the policy at the start of the watch
	in      map[string]bool // the subjects with the label
}

// item is one thing that a watcher received.
type item struct {
	what    string // snapshot, joined, left, updated, removed
	subject string
	status  string
	members []Shown // of a snapshot
}

func (i item) String() string {
	switch i.what {
	case "snapshot":
		return "snapshot " + showMembers(i.members)
	case "removed":
		return i.what
	case "updated", "rejected":
		if i.subject == "" {
			return i.what + " " + i.status
		}
		return "updated " + i.subject + " " + i.status
	default:
		return i.what + " " + i.subject
	}
}

func showMembers(members []Shown) string {
	var parts []string
	for _, m := range members {
		parts = append(parts, m.Subject+"="+m.Status)
	}
	return cmp.Or(strings.Join(parts, ","), "none")
}

// receive splits a frame into items. It skips a frame without changes: that one
// only updates the group, which expect group checks.
func (s *subscription) receive(f *presence.Frame) {
	w := s.watcher
	switch f.Kind {
	case presence.FrameSnapshot:
		it := item{what: "snapshot"}
		for _, v := range f.Members {
			if s.label != "" {
				if !s.has(&v) {
					continue
				}
				s.in[v.Subject.ID] = true
			}
			it.members = append(it.members, Shown{v.Subject.ID, v.Status})
		}
		w.items = append(w.items, it)
	case presence.FrameRemoved:
		w.items = append(w.items, item{what: "removed"})
	case presence.FrameDiff:
		for _, c := range f.Changes {
			if c.Op == presence.OpRejected {
				w.items = append(w.items, item{what: "rejected", status: c.Status})
				continue
			}
			if c.Op == presence.OpChallenge {
				continue // the list has not changed
			}
			if s.label != "" && !s.filter(&c) {
				continue
			}
			it := item{what: string(c.Op), subject: c.Subject.ID}
			if c.View != nil {
				it.status = c.View.Status
			}
			w.items = append(w.items, it)
		}
	}
}

// filter rewrites a change of the list as one of the list with the label. It
// reports whether that list changes.
func (s *subscription) filter(c *presence.Change) bool {
	id := c.Subject.ID
	was, is := s.in[id], c.View != nil && s.has(c.View)
	switch {
	case is && !was:
		s.in[id], c.Op = true, presence.OpJoined
	case was && !is:
		delete(s.in, id)
		c.Op = presence.OpLeft
	case is:
		c.Op = presence.OpUpdated
	}
	return was || is
}

func (s *subscription) has(v *presence.View) bool { return labelOf(v, s.label, s.labels) == s.label }

// labelOf is the work label of a view, or its status if asked is no label of
// the policy. An available subject has no label: the status stands for it.
func labelOf(v *presence.View, asked string, labels []string) string {
	if slices.Contains(labels, asked) {
		return cmp.Or(v.Work, v.Status)
	}
	return v.Status
}

// watch starts a watch. A known subject watches with its own role. An unknown
// name watches as a visitor, or with as= as the host.
func (r *runner) watch(l *Line) error {
	name, as := l.Subject, presence.Audience(l.Key("as").Text)
	if slices.ContainsFunc(r.feeds, func(s *subscription) bool { return s.name == name && s.channel == l.Channel }) {
		return r.fault(l, "watch: %s watches %s already", name, l.Channel)
	}
	actor := r.actor(name)
	switch {
	case as == presence.AudienceVisitor || as == "" && !r.known[name]:
		actor.Role, as = presence.RoleVisitor, presence.AudienceVisitor
	case !r.known[name]:
		actor.Role = presence.RoleSystem
	}
	f, err := r.engine.watch(r.ctx, actor, presence.ChannelID(l.Channel), as)
	if err != nil {
		return err
	}
	w := r.watchers[name]
	if w == nil {
		w = &watcher{}
		r.watchers[name] = w
	}
	r.feeds = append(r.feeds, &subscription{
		watcher: w, name: name, channel: l.Channel, feed: f, label: l.Key("label").Text, labels: r.machine.Labels(), in: make(map[string]bool),
	})
	return nil
}

// drop forgets a subscription that has ended.
func (r *runner) drop(s *subscription) {
	r.feeds = slices.DeleteFunc(r.feeds, func(o *subscription) bool { return o == s })
}

func (r *runner) unwatch(l *Line) error {
	i := slices.IndexFunc(r.feeds, func(s *subscription) bool { return s.name == l.Subject && s.channel == l.Channel })
	if i < 0 {
		return r.fault(l, "unwatch: %s does not watch %s", l.Subject, l.Channel)
	}
	r.feeds[i].feed.close()
	r.drop(r.feeds[i])
	return nil
}

// sameState reports whether two states are equal apart from the time.
func sameState(a, b presence.State) bool {
	a.Now, b.Now = 0, 0
	return reflect.DeepEqual(a, b)
}

// judges has the check of each form of expectation. A check returns the wanted
// and the actual result as texts, which are equal if the expectation holds.
var judges map[Form]func(*runner, *Line, *Expectation) (want, got string, err error)

func init() {
	judges = map[Form]func(*runner, *Line, *Expectation) (want, got string, err error){
		FormStatus:     (*runner).judgeStatus,
		FormField:      (*runner).judgeField,
		FormList:       (*runner).judgeList,
		FormCount:      (*runner).judgeCount,
		FormGroup:      (*runner).judgeGroup,
		FormSelectable: (*runner).judgeSelectable,
		FormSeen:       (*runner).judgeSeen,
		FormGate:       (*runner).judgeGate,
		FormRefused:    (*runner).judgeRefused,
		FormLog:        (*runner).judgeLog,
		FormWhy:        (*runner).judgeWhy,
		FormLabels:     (*runner).judgeLabels,
		FormWork:       (*runner).judgeWork,
		FormCandidates: (*runner).judgeCandidates,
		FormRequeued:   (*runner).judgeRequeued,
		FormSpent:      (*runner).judgeSpent,
	}
}

// expect checks an expectation.
func (r *runner) expect(l *Line) error {
	if l.Expect.Form == FormNever {
		if err := r.never(l); err != nil {
			return err
		}
		r.nevers = append(r.nevers, l) // checked again at the end
		return nil
	}
	judge, ok := judges[l.Expect.Form]
	if !ok {
		return r.unsupported(l, "expect "+string(l.Expect.Form))
	}
	want, got, err := judge(r, l, l.Expect)
	if err != nil {
		return err
	}
	if want != got {
		return r.failure(l, want, got)
	}
	r.prove(l)
	return nil
}

// prove records that an expectation held.
func (r *runner) prove(l *Line) {
	r.result.Held++
	for _, id := range l.Proves {
		r.result.Proven[id] = append(r.result.Proven[id], l.Number)
	}
}

// never checks that no audience of the expectation has seen the status so far.
func (r *runner) never(l *Line) error {
	e := l.Expect
	h := r.history[presence.ID(e.Subject)]
	if h == nil {
		return nil
	}
	for _, m := range h.shown[presence.Audience(e.As)] {
		if m.status == e.Status {
			return r.failure(l, fmt.Sprintf("%s never %s%s", e.Subject, e.Status, asText(e.As)), e.Status+" at "+r.time(m.at))
		}
	}
	return nil
}

func asText(as string) string {
	if as == "" {
		return ""
	}
	return " as=" + as
}

// time writes an instant in the form of the file.
func (r *runner) time(i presence.Instant) string {
	if i == 0 {
		return "absent"
	}
	t := i.Time()
	if t.Truncate(24*time.Hour) != r.file.Start.Truncate(24*time.Hour) {
		return t.Format(time.RFC3339Nano)
	}
	if t.Second() == 0 && t.Nanosecond() == 0 {
		return t.Format("15:04")
	}
	return t.Format("15:04:05.999999999")
}

// sight returns the view of a subject for an audience, or for no audience its
// whole presence.
func (r *runner) sight(subject, as string) (presence.View, error) {
	ref := presence.ID(subject)
	if as != "" {
		return r.engine.view(r.ctx, ref, presence.Audience(as))
	}
	if !r.known[subject] {
		return presence.View{Subject: ref, Status: presence.StatusUnknown}, nil
	}
	s, err := r.engine.state(r.ctx, ref)
	if err != nil {
		return presence.View{}, err
	}
	p := &s.Current
	v := presence.View{
		Subject: ref, Kind: p.Kind, Status: p.Status, Class: p.Class, Label: p.Status, Reason: p.Reason, Text: p.Text,
		Since: p.Since, SetAt: p.SetAt, Until: p.Until, Cause: p.Cause, Masked: p.Masked,
		LastSeen: p.LastSeen, LastLogin: p.LastLogin, Routable: p.Routable, RoutableOn: p.RoutableOn,
		Work: p.Label, Load: p.Load, Pinned: p.Pinned, Pending: p.Pending, Request: p.Request,
	}
	if def, ok := r.machine.Status(p.Status); ok {
		v.Color = def.Color
	}
	return v, nil
}

func (r *runner) judgeStatus(l *Line, e *Expectation) (string, string, error) {
	v, err := r.sight(e.Subject, e.As)
	if err != nil {
		return "", "", err
	}
	if err := r.checkLabel(l, e.Label); err != nil {
		return "", "", err
	}
	want, got := []string{e.Subject, e.Status}, []string{e.Subject, v.Status}
	compare := func(key, wanted, is string) {
		if wanted != "" {
			want = append(want, key+"="+wanted)
			got = append(got, key+"="+cmp.Or(is, "none"))
		}
	}
	at := func(key string, wanted time.Time, is presence.Instant) {
		if !wanted.IsZero() {
			compare(key, r.time(presence.At(wanted)), r.time(is))
		}
	}
	compare("class", e.Class, string(v.Class))
	compare("cause", e.Cause, string(v.Cause))
	if e.Trigger != "" {
		trigger := presence.Cause("")
		if h := r.history[presence.ID(e.Subject)]; h != nil {
			trigger = h.trigger
			if e.Trigger == string(h.because) {
				trigger = h.because
			}
		}
		compare("trigger", e.Trigger, string(trigger))
	}
	at("since", e.Since, v.Since)
	at("setat", e.SetAt, v.SetAt)
	at("until", e.Until, v.Until)
	compare("masked", e.Masked, v.Masked)
	if e.Routable != nil {
		compare("routable", yes(*e.Routable), yes(v.Routable))
	}
	compare("label", e.Label, labelOf(&v, e.Label, r.machine.Labels()))
	if e.Reason != nil {
		compare("reason", strconv.Quote(*e.Reason), strconv.Quote(v.Reason))
	}
	if e.As != "" {
		want, got = append(want, "as="+e.As), append(got, "as="+e.As)
	}
	return strings.Join(want, " "), strings.Join(got, " "), nil
}

func yes(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

// checkLabel reports a label that the policy does not have.
func (r *runner) checkLabel(l *Line, label string) error {
	if _, status := r.machine.Status(label); label == "" || status || slices.Contains(r.machine.Labels(), label) {
		return nil
	}
	return r.fault(l, "unknown label %s; want one of %s", quote(label), strings.Join(r.machine.Labels(), ", "))
}

func (r *runner) judgeField(l *Line, e *Expectation) (string, string, error) {
	v, err := r.sight(e.Subject, e.As)
	if err != nil {
		return "", "", err
	}
	want, got := e.Text, ""
	times := map[string]presence.Instant{"since": v.Since, "setat": v.SetAt, "until": v.Until, "lastseen": v.LastSeen, "lastlogin": v.LastLogin}
	switch e.Field {
	case "color":
		got = v.Color
	case "masked":
		got = v.Masked
	case "text":
		got = v.Text
	case "request":
		got = v.Request
	case "routableon":
		got = v.RoutableOn.String()
	case "threads", "pinned":
		n := v.Load
		if e.Field == "pinned" {
			n = v.Pinned
		}
		if n, ok := n.Get(); ok {
			got = strconv.Itoa(n)
		}
	default:
		at, ok := times[e.Field]
		if !ok {
			return "", "", r.unsupported(l, "the field "+e.Field)
		}
		if at != 0 {
			got = r.time(at)
		}
		if !e.Absent {
			want = r.time(presence.At(e.Time))
		}
	}
	if e.Absent {
		want = "absent"
	}
	field := e.Subject + "." + e.Field + asText(e.As) + " "
	return field + want, field + cmp.Or(got, "absent"), nil
}

// listed returns the members of a channel that an audience may list, with one
// label if it is given.
func (r *runner) listed(l *Line, channel, as, label string) ([]string, error) {
	if err := r.checkLabel(l, label); err != nil {
		return nil, err
	}
	views, _, err := r.engine.list(r.ctx, presence.ChannelID(channel), presence.Audience(cmp.Or(as, "team")))
	var ids []string
	for _, v := range views {
		if label == "" || labelOf(&v, label, r.machine.Labels()) == label {
			ids = append(ids, v.Subject.ID)
		}
	}
	return ids, err
}

func (r *runner) judgeList(l *Line, e *Expectation) (string, string, error) {
	ids, err := r.listed(l, e.Channel, e.As, e.Label)
	prefix := e.Channel + ": "
	if e.ByRouting && err == nil {
		ranked, _, err := r.queue.Ranked(r.ctx, presence.ChannelID(e.Channel), "")
		order := names(ranked)
		slices.SortFunc(ids, func(a, b string) int { return slices.Index(order, a) - slices.Index(order, b) })
		return prefix + inOrder(e.List), prefix + inOrder(ids), err
	}
	return prefix + showList(e.List), prefix + showList(ids), err
}

// judgeLabels compares statuses too: a product without work has no other
// labels.
func (r *runner) judgeLabels(_ *Line, e *Expectation) (string, string, error) {
	want, got := showList(e.List), showList(r.machine.Labels())
	var statuses []string
	for _, s := range r.machine.Policy().Statuses {
		statuses = append(statuses, s.ID)
	}
	if want == showList(statuses) {
		got = want
	}
	return "labels: " + want, "labels: " + got, nil
}

func (r *runner) judgeWork(l *Line, e *Expectation) (string, string, error) {
	w, ok := r.queue.Get(e.Work)
	if !ok {
		return "", "", r.fault(l, "expect work: unknown work %s", quote(e.Work))
	}
	got := string(w.Place)
	if w.Place == routing.Given {
		got = w.Agent.ID
	}
	return e.Work + " " + cmp.Or(e.Subject, e.Word), e.Work + " " + got, nil
}

func (r *runner) judgeCandidates(_ *Line, e *Expectation) (string, string, error) {
	ranked, n, err := r.queue.Ranked(r.ctx, presence.ChannelID(e.Channel), "")
	return "candidates: " + inOrder(e.List), "candidates: " + inOrder(names(ranked[:n])), err
}

func (r *runner) judgeRequeued(_ *Line, e *Expectation) (string, string, error) {
	return "requeued: " + inOrder(e.List), "requeued: " + inOrder(r.queue.Taken(presence.ID(e.Subject))), nil
}

// judgeSpent asks the report for the sum from the start of the file, or from
// another instant.
func (r *runner) judgeSpent(_ *Line, e *Expectation) (string, string, error) {
	from, to := presence.At(r.file.Start), r.now
	if !e.From.IsZero() {
		from = presence.At(e.From)
	}
	if !e.To.IsZero() {
		to = presence.At(e.To)
	}
	text := func(d time.Duration) string { return fmt.Sprintf("%s spent %v in %s", e.Subject, d, e.Status) }
	if from >= to {
		return text(e.Duration), text(0), nil
	}
	journal := func(ctx context.Context, q presence.JournalQuery) iter.Seq2[presence.JournalRow, error] {
		return func(yield func(presence.JournalRow, error) bool) {
			rows, err := r.engine.journal(ctx, q.Subject)
			if err != nil {
				yield(presence.JournalRow{}, err)
				return
			}
			q.Limit = len(rows) + 1
			for _, row := range q.Select(rows) {
				if !yield(row, nil) {
					return
				}
			}
		}
	}
	d, err := report.Spent(r.ctx, journal, presence.ID(e.Subject), e.Status, from, to)
	return text(e.Duration), text(d), err
}

func names(members []routing.Member) (ids []string) {
	for _, m := range members {
		ids = append(ids, m.Subject.ID)
	}
	return ids
}

// inOrder joins ids in the given order.
func inOrder(ids []string) string { return cmp.Or(strings.Join(ids, ","), "none") }

// showList joins ids in alphabetical order.
func showList(ids []string) string {
	return cmp.Or(strings.Join(slices.Sorted(slices.Values(ids)), ","), "none")
}

func (r *runner) judgeCount(l *Line, e *Expectation) (string, string, error) {
	ids, err := r.listed(l, e.Channel, e.As, e.Label)
	text := func(n int) string { return fmt.Sprintf("%d %s in %s", n, e.Label, e.Channel) }
	return text(e.Number), text(len(ids)), err
}

func (r *runner) judgeGroup(l *Line, e *Expectation) (string, string, error) {
	_, group, err := r.engine.list(r.ctx, presence.ChannelID(e.Channel), presence.Audience(cmp.Or(e.As, "visitor")))
	prefix := "group " + e.Channel + asText(e.As) + " "
	want, got := prefix+e.Word, prefix+group.Status
	if e.Reason != nil {
		want += " reason=" + strconv.Quote(*e.Reason)
		got += " reason=" + strconv.Quote(group.Reason)
	}
	if !e.NextOpen.IsZero() {
		want += " nextopen=" + r.time(presence.At(e.NextOpen))
		got += " nextopen=" + r.time(group.NextOpen)
	}
	return want, got, err
}

func (r *runner) judgeSelectable(_ *Line, e *Expectation) (string, string, error) {
	by := presence.BySelf
	if e.By != "" && e.By != e.Subject {
		switch r.actor(e.By).Role {
		case presence.RoleSupervisor, presence.RoleAdmin:
			by = presence.BySupervisor
		case presence.RoleSystem:
			by = presence.BySystem
		default:
			by = presence.ByNobody
		}
	}
	var ids []string
	if by != presence.ByNobody {
		ids = r.machine.Selectable(by)
	}
	return "selectable: " + showList(e.List), "selectable: " + showList(ids), nil
}

func (r *runner) judgeSeen(l *Line, e *Expectation) (string, string, error) {
	w := r.watchers[e.Watcher]
	if w == nil {
		return "", "", r.fault(l, "expect seen: %s watched no channel", e.Watcher)
	}
	got := "nothing"
	var next item
	if len(w.items) > 0 {
		next = w.items[0]
		got = next.String()
	}
	want := item{what: e.Word, subject: e.Subject, status: e.Status, members: e.Snapshot}
	switch {
	case e.Word == "nothing":
		return "nothing", got, nil
	case e.Word == "snapshot" && next.what == "snapshot":
		if len(l.Args) < 3 { // any snapshot fits
			want.members = next.members
		}
		want.members = slices.SortedFunc(slices.Values(want.members), func(a, b Shown) int { return cmp.Compare(a.Subject, b.Subject) })
	}
	if want.String() == got {
		w.items = w.items[1:]
	}
	return want.String(), got, nil
}

func (r *runner) judgeGate(l *Line, e *Expectation) (string, string, error) {
	if r.decision == nil {
		return "", "", r.fault(l, "expect gate: want a notify before this line")
	}
	got := string(r.decision.Verdict)
	if got != e.Word {
		got += " (" + r.decision.Kind + ": " + r.decision.Reason + ")"
	}
	return e.Word, got, nil
}

func (r *runner) judgeRefused(l *Line, e *Expectation) (string, string, error) {
	refused := r.refused
	if refused == nil || refused.line.Refused != e {
		return "", "", r.fault(l, "expect refused: the line before has no verb that can be refused")
	}
	want := "refused"
	if e.Text != "" {
		want += " with " + strconv.Quote(e.Text)
	}
	switch {
	case refused.err == nil:
		return want, "accepted", nil
	case !strings.Contains(refused.err.Error(), e.Text):
		return want, "refused: " + refused.err.Error(), nil
	case refused.changed != "":
		return want + " and nothing changed", "refused, and a change of " + refused.changed, nil
	}
	return want, want, nil
}

// judgeLog compares the changes of status, from the first one while the subject
// is connected.
func (r *runner) judgeLog(_ *Line, e *Expectation) (string, string, error) {
	rows, err := r.engine.journal(r.ctx, presence.ID(e.Subject))
	if err != nil {
		return "", "", err
	}
	rows = slices.DeleteFunc(slices.Clone(rows), func(row presence.JournalRow) bool { return row.Kind != presence.RowTransition })
	first := slices.IndexFunc(rows, func(row presence.JournalRow) bool { return row.Reach == presence.ReachLive.String() })
	if first < 0 {
		first = len(rows)
	}
	rows = rows[first:]
	var want, got []string
	for i, w := range e.Log {
		text := w.Status
		if w.Trigger != "" {
			text += "/" + w.Trigger
		} else if i < len(rows) {
			rows[i].Trigger = "" // the expectation has no trigger: skip it
		}
		want = append(want, text+" "+r.time(presence.At(w.At)))
	}
	for _, row := range rows {
		text := row.To
		if row.Trigger != "" {
			text += "/" + string(row.Trigger)
		}
		got = append(got, text+" "+r.time(row.At))
	}
	return "log " + cmp.Or(strings.Join(want, " "), "none"), "log " + cmp.Or(strings.Join(got, " "), "none"), nil
}

func (r *runner) judgeWhy(_ *Line, e *Expectation) (string, string, error) {
	as := cmp.Or(e.As, string(presence.AudienceSelf))
	lines, err := r.engine.explain(r.ctx, presence.ID(e.Subject), presence.Audience(as))
	if err != nil {
		return "", "", err
	}
	v, err := r.sight(e.Subject, as)
	if v.Cause != "" {
		lines = append(lines, "cause: "+string(v.Cause)) // the explanation has the cause only as a sentence
	}
	text := strings.Join(lines, "; ")
	want := "an explanation with " + strconv.Quote(e.Text)
	if strings.Contains(text, e.Text) {
		return want, want, err
	}
	return want, strconv.Quote(text), err
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
