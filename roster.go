package presence

import (
	"slices"
	"time"
	"weak"

	"github.com/presence-go/presence/internal/smallmap"
)

// Roster holds the members of one channel, and what each audience was sent of them.
// Its methods return the frames to send. The result of a method depends only on its
// arguments and the calls before. One goroutine at a time may call the methods.
type Roster struct {
	channel Channel
	m       *Machine
	members smallmap.Map[Ref, *Presence] // no Presence in it ever changes
	streams []*stream                    // ordered by their keys
	lists   *listings                    // nil before a list is read
	opening *opening                     // nil before hours or a clock are set
	recall  int                          // the number of diffs that each stream keeps
	single  bool                         // for one subject and not a channel, so that CoalesceChannel does not apply
	emit    func(*stream, *Frame)
	frames  []*Frame // the frames that the running method returns
}

// listings are the lists kept for the next reader.
type listings struct {
	sorted []Ref // the ids of the members in order; nil after a change of members
	of     map[streamKey]*listing
}

// listing is the list of one audience.
type listing struct {
	views []View
	group Group // without the hours
	stale bool  // a member changed after the list was made
}

// streamKey identifies a stream. Watchers with the same key receive the same
// frames. Only for the audience self does the key have a viewer.
type streamKey struct {
	audience Audience
	viewer   Ref
}

// stream is what one audience was sent.
type stream struct {
	key      streamKey
	epoch    string
	seq      uint64
	rows     smallmap.Map[Ref, sentRow]
	statuses [3]int32 // the number of members by group status
	group    Group
	diffed   Instant             // when the last diff was sent; set only under CoalesceChannel
	sent     map[Ref]Instant     // when the last change of a subject was sent; set only under CoalesceSubject
	pending  map[Ref]Instant     // the held-back subjects, and when each may be sent
	last     weak.Pointer[Frame] // the newest snapshot, while a caller holds it
	recent   []past              // the newest diffs, up to that of seq
	since    uint64              // the lowest seq from which a watcher may resume
	attached any                 // belongs to the caller; the roster does not read it
}

// sentRow is a member as the audience was sent it. It keeps the inputs of the view,
// since a view is large.
type sentRow struct {
	p       *Presence
	m       *Machine
	status  int8
	listed  bool // has a row in lists
	present bool // counts in the group
}

// past is a diff that a stream keeps, as the inputs to make it again.
type past struct {
	group   Group
	changes []pastChange
}

type pastChange struct {
	op      Op
	subject Ref
	p       *Presence // nil for a change without a view
	whole   *Change   // a change that must be kept whole, since it has no such inputs
}

// NewRoster returns the roster of an empty channel.
func NewRoster(channel Channel, m *Machine) *Roster { return newRoster(channel, m, 0, false, nil) }

// newRoster returns a roster whose streams keep recall diffs. A single roster is
// for one subject and not a channel. If emit is given, the roster calls it with
// each frame and its stream, and the methods return no frames.
func newRoster(channel Channel, m *Machine, recall int, single bool, emit func(*stream, *Frame)) *Roster {
	r := &Roster{channel: channel, m: m, recall: recall, single: single, emit: emit}
	if emit == nil {
		r.emit = func(_ *stream, f *Frame) { r.frames = append(r.frames, f) }
	}
	return r
}

// emitted returns the frames that the running method made.
func (r *Roster) emitted() []*Frame {
	frames := r.frames
	r.frames = nil
	return frames
}

// Has reports whether a subject is a member.
func (r *Roster) Has(subject Ref) bool { return r.member(subject) != nil }

// member returns the presence of a member, or nil if the subject is none.
func (r *Roster) member(subject Ref) *Presence { return r.members.Get(subject) }

// Put adds a member or replaces its presence. It returns one frame for each stream
// whose audience sees a difference. The roster keeps p, so p must not change
// afterwards.
func (r *Roster) Put(p *Presence, now Instant) []*Frame {
	r.outdate(!r.Has(p.Subject))
	r.members.Set(p.Subject, p)
	r.publish(now, p.Subject)
	return r.emitted()
}

// Tell sends a change to the subject itself. It returns one frame if the subject
// watches, or none.
func (r *Roster) Tell(c Change) []*Frame {
	s := r.stream(newStreamKey(AudienceSelf, c.Subject))
	if s == nil {
		return nil
	}
	s.seq++
	f := r.newFrame(FrameDiff, s)
	f.Changes = []Change{c}
	s.remember(past{s.group, []pastChange{{whole: &f.Changes[0]}}}, r.recall)
	r.emit(s, f)
	return r.emitted()
}

// Remove removes a member. It returns one frame for each stream whose audience sees
// a difference.
func (r *Roster) Remove(subject Ref, now Instant) []*Frame {
	if !r.Has(subject) {
		return nil
	}
	r.members.Delete(subject)
	r.outdate(true)
	r.publish(now, subject)
	return r.emitted()
}

// SetMachine sets the policy. The next Put of a member, or Republish, publishes the
// differences.
func (r *Roster) SetMachine(m *Machine) {
	r.m = m
	r.forget() // the new policy may show less
	r.outdate(false)
}

// outdate marks the lists as stale. With others, the set of members changed as
// well.
func (r *Roster) outdate(others bool) {
	if r.lists == nil {
		return
	}
	if others {
		r.lists.sorted = nil
	}
	for _, l := range r.lists.of {
		l.stale = true
	}
}

// Republish returns the frames for every difference between what audiences were
// sent and what they may see now.
func (r *Roster) Republish(now Instant) []*Frame {
	r.publish(now, r.members.Keys(compareRefs)...)
	return r.emitted()
}

// Next returns when the next held-back change is due, or when the channel opens or
// closes next, whichever is first. It returns false if neither is known.
func (r *Roster) Next() (at Instant, ok bool) {
	at, ok = r.heldBack()
	if o := r.opening; o != nil && o.next != 0 && (!ok || o.next < at) {
		return o.next, true
	}
	return at, ok
}

// waits reports whether the roster holds a change back.
func (r *Roster) waits() bool {
	return slices.ContainsFunc(r.streams, func(s *stream) bool { return len(s.pending) > 0 })
}

// heldBack returns when the next held-back change is due.
func (r *Roster) heldBack() (at Instant, ok bool) {
	for _, s := range r.streams {
		for _, until := range s.pending {
			if !ok || until < at {
				at, ok = until, true
			}
		}
	}
	return at, ok
}

// Flush returns the frames for held-back changes that are due, and for an opening
// or closing of the channel.
func (r *Roster) Flush(now Instant) []*Frame {
	r.opening.pass(now)
	for _, s := range r.streams {
		var ready []Ref
		for subject, at := range s.pending {
			if at > now {
				continue
			}
			if at = r.m.notBefore(s, subject); at > now {
				s.pending[subject] = at // a diff of other members was sent in between
				continue
			}
			ready = append(ready, subject)
		}
		slices.SortFunc(ready, compareRefs)
		r.update(s, now, ready)
	}
	return r.emitted()
}

// Open returns the snapshot of an audience. It starts the stream of the audience if
// it has none. viewer counts only for the audience self, which sees its own row as
// self and the others as team.
func (r *Roster) Open(a Audience, viewer Ref, epoch func() string) *Frame {
	return r.snapshot(r.open(a, viewer, epoch), false)
}

// open returns the stream of an audience. It starts the stream if the audience has
// none.
func (r *Roster) open(a Audience, viewer Ref, epoch func() string) *stream {
	key := newStreamKey(a, viewer)
	at, found := r.find(key)
	if found {
		return r.streams[at]
	}
	s := &stream{key: key, epoch: epoch()}
	for subject, p := range r.members.All() {
		next, _ := r.m.row(key, p)
		s.put(subject, next)
	}
	s.group = r.gate(key.audience, s.sum())
	r.streams = slices.Insert(r.streams, at, s)
	return s
}

func (r *Roster) find(key streamKey) (at int, found bool) {
	return slices.BinarySearchFunc(r.streams, key, func(s *stream, key streamKey) int { return compareKeys(s.key, key) })
}

// stream returns the stream of a key, or nil.
func (r *Roster) stream(key streamKey) *stream {
	if at, found := r.find(key); found {
		return r.streams[at]
	}
	return nil
}

// eachStream calls f for every stream. f may close that stream.
func (r *Roster) eachStream(f func(*stream)) {
	for i := 0; i < len(r.streams); {
		s := r.streams[i]
		if f(s); i < len(r.streams) && r.streams[i] == s {
			i++
		}
	}
}

// Close ends the stream of an audience. Call it after the last watcher left.
func (r *Roster) Close(a Audience, viewer Ref) {
	if s := r.stream(newStreamKey(a, viewer)); s != nil {
		r.closeStream(s)
	}
}

// closeStream ends a stream. It does nothing if the stream has ended, even if its
// audience has a new one.
func (r *Roster) closeStream(s *stream) {
	if at, found := r.find(s.key); found && r.streams[at] == s {
		r.streams = slices.Delete(r.streams, at, at+1)
	}
}

// resume returns the frames of a stream that follow seq; the list may be empty. It
// returns false if the stream does not keep all of them.
func (r *Roster) resume(a Audience, viewer Ref, epoch string, seq uint64) (frames []*Frame, ok bool) {
	s := r.stream(newStreamKey(a, viewer))
	if s == nil || s.epoch != epoch || seq < s.since || seq > s.seq || s.seq-seq > uint64(len(s.recent)) {
		return nil, false
	}
	for _, old := range s.recent[len(s.recent)-int(s.seq-seq):] {
		f := r.newFrame(FrameDiff, s)
		seq++
		f.Seq, f.Group, f.Changes = seq, old.group, make([]Change, len(old.changes))
		for i, c := range old.changes {
			f.Changes[i] = r.m.change(s.key, c)
		}
		frames = append(frames, f)
	}
	return frames, true
}

// change makes the change of a kept diff again.
func (m *Machine) change(key streamKey, c pastChange) Change {
	if c.whole != nil {
		return *c.whole
	}
	change := Change{Op: c.op, Subject: c.subject}
	if c.p != nil {
		_, v := m.row(key, c.p)
		change.View = &v
	}
	return change
}

// forget drops the kept diffs, so that a watcher that missed one resumes with a
// snapshot.
func (r *Roster) forget() {
	for _, s := range r.streams {
		s.recent, s.since = nil, s.seq+1
	}
}

// List returns the rows that an audience may list, ordered by id.
func (r *Roster) List(a Audience, viewer Ref) []View {
	views, _ := r.list(a, viewer)
	return slices.Clone(views)
}

// Group returns the group of the channel as an audience sees it.
func (r *Roster) Group(a Audience, viewer Ref) Group {
	_, group := r.list(a, viewer)
	return group
}

// list returns the rows and the group of an audience. The rows are valid until the
// next change. It makes the list only if a member changed since the last call.
// Lists of the audience self are not kept.
func (r *Roster) list(a Audience, viewer Ref) ([]View, Group) {
	if r.lists == nil {
		r.lists = &listings{of: make(map[streamKey]*listing)}
	}
	key := newStreamKey(a, viewer)
	l := r.lists.of[key]
	if l == nil {
		l = &listing{stale: true}
		if a != AudienceSelf {
			r.lists.of[key] = l
		}
	}
	if l.stale {
		r.project(key, l)
	}
	return l.views, r.gate(a, l.group)
}

// project makes the list of an audience.
func (r *Roster) project(key streamKey, l *listing) {
	if r.lists.sorted == nil {
		r.lists.sorted = r.members.Keys(compareRefs)
	}
	l.views, l.stale = l.views[:0], false
	var s stream
	for _, subject := range r.lists.sorted {
		next, v := r.m.row(key, r.member(subject))
		s.count(next, +1)
		if next.listed {
			l.views = append(l.views, v)
		}
	}
	l.group = s.sum()
}
func newStreamKey(a Audience, viewer Ref) streamKey {
	if a != AudienceSelf {
		viewer = Ref{}
	}
	return streamKey{a, viewer}
}

func compareKeys(a, b streamKey) int {
	if a.audience != b.audience {
		return slices.Index(audiences, a.audience) - slices.Index(audiences, b.audience)
	}
	return compareRefs(a.viewer, b.viewer)
}

// row returns the row and the view of a member for a stream.
func (m *Machine) row(key streamKey, p *Presence) (sentRow, View) {
	a := key.audience
	if a == AudienceSelf && p.Subject != key.viewer {
		a = AudienceTeam
	}
	v := m.View(p, a)
	present := v.Class != "" && v.Class != ClassOffline
	out := sentRow{p: p, m: m, status: int8(m.groupPlace(v.Class)), listed: true, present: present}
	if a == AudienceVisitor {
		switch m.policy.Widget.List {
		case ListOnline:
			out.listed = v.Class == ClassAvailable
		case ListNone:
			out.listed = false
		}
		out.present = present && out.listed
	}
	return out, v
}

var groupStatuses = []string{GroupAvailable, GroupAway, GroupOffline}

// groupPlace returns the index in groupStatuses of what a class counts for. The
// first of groupStatuses is the best.
func (m *Machine) groupPlace(c Class) int {
	g := &m.policy.Group
	status := GroupOffline
	switch c {
	case ClassAvailable:
		status = g.Available
	case ClassAway:
		status = g.Away
	case ClassBusy:
		status = g.Busy
	case ClassDND:
		status = g.DND
	}
	return slices.Index(groupStatuses, status)
}

// publish sends the present state of subjects to every stream, or holds it back.
func (r *Roster) publish(now Instant, subjects ...Ref) {
	r.opening.pass(now)
	for _, s := range r.streams {
		ready := subjects
		if r.m.coalesces() > 0 {
			ready = nil
			for _, subject := range subjects {
				if at := r.m.notBefore(s, subject); at <= now {
					ready = append(ready, subject)
				} else {
					setInstant(&s.pending, subject, at)
				}
			}
		}
		r.update(s, now, ready)
	}
}

// coalesces returns the shortest time for which a policy holds a change back. It
// returns 0 if the policy holds none back.
func (m *Machine) coalesces() time.Duration {
	p := &m.policy
	if p.CoalesceSubject > 0 && p.CoalesceChannel > 0 {
		return min(p.CoalesceSubject, p.CoalesceChannel)
	}
	return p.CoalesceSubject + p.CoalesceChannel // one of them is 0
}

// notBefore returns the first instant at which a change of a subject may be sent.
func (m *Machine) notBefore(s *stream, subject Ref) (at Instant) {
	if sent := s.sent[subject]; sent != 0 {
		at = sent.Add(m.policy.CoalesceSubject)
	}
	if s.diffed != 0 {
		at = max(at, s.diffed.Add(m.policy.CoalesceChannel))
	}
	return at
}

// setInstant sets an instant in a map. It makes the map if it is nil.
func setInstant(m *map[Ref]Instant, subject Ref, at Instant) {
	if *m == nil {
		*m = make(map[Ref]Instant)
	}
	(*m)[subject] = at
}

// update updates the rows of subjects. It emits a frame if the audience sees a
// difference.
func (r *Roster) update(s *stream, now Instant, subjects []Ref) {
	var changes []Change
	for _, subject := range subjects {
		if c, ok := r.updateRow(s, now, subject); ok {
			changes = append(changes, c)
		}
	}
	group := r.gate(s.key.audience, s.sum())
	if len(changes) == 0 && group == s.group {
		return
	}
	s.group = group
	if r.m.policy.CoalesceChannel > 0 && !r.single {
		s.diffed = now
	}
	s.seq++
	f := r.newFrame(FrameDiff, s)
	f.Changes = changes
	if r.recall > 0 {
		was := past{group, make([]pastChange, len(changes))}
		for i, c := range changes {
			was.changes[i] = pastChange{op: c.Op, subject: c.Subject}
			if c.View != nil {
				was.changes[i].p = r.member(c.Subject)
			}
		}
		s.remember(was, r.recall)
	}
	r.emit(s, f)
}

// updateRow updates the row of one subject. It returns the change, or false if the
// audience sees no difference.
func (r *Roster) updateRow(s *stream, now Instant, subject Ref) (c Change, ok bool) {
	delete(s.pending, subject)
	old, p := s.rows.Get(subject), r.member(subject)
	switch {
	case p != nil:
		next, v := r.m.row(s.key, p)
		c, ok = s.compare(&old, &next, &v)
		s.put(subject, next)
	case old.p != nil:
		c, ok = s.compare(&old, &sentRow{p: old.p}, nil)
		s.drop(subject)
	}
	interval, removed := r.m.policy.CoalesceSubject, p == nil
	switch {
	case interval == 0 || removed && !ok:
		delete(s.sent, subject)
	case ok:
		setInstant(&s.sent, subject, now)
		if removed {
			setInstant(&s.pending, subject, now.Add(interval)) // so that sent is deleted then
		}
	}
	return c, ok
}

// remember keeps a diff for watchers that resume. It drops the oldest diffs above
// the limit.
func (s *stream) remember(d past, limit int) {
	if over := len(s.recent) + 1 - limit; over > 0 {
		s.recent = slices.Delete(s.recent, 0, min(over, len(s.recent)))
	}
	if limit > 0 {
		s.recent = append(s.recent, d)
	}
}

// compare returns the change between two rows, or false if the audience sees no
// difference. v is the view of next.
func (s *stream) compare(old, next *sentRow, v *View) (Change, bool) {
	c := Change{Op: OpUpdated, Subject: next.p.Subject}
	switch {
	case next.present && !old.present:
		c.Op = OpJoined
	case old.present && !next.present:
		c.Op = OpLeft
	case old.listed != next.listed:
	case !next.listed || old.p == next.p && old.m == next.m:
		return c, false
	default:
		if _, was := old.m.row(s.key, old.p); was == *v {
			return c, false
		}
	}
	if next.listed {
		c.View = new(View)
		*c.View = *v
	}
	return c, true
}

func (s *stream) put(subject Ref, next sentRow) {
	s.count(s.rows.Get(subject), -1)
	s.rows.Set(subject, next)
	s.count(next, +1)
}

func (s *stream) drop(subject Ref) {
	s.count(s.rows.Get(subject), -1)
	s.rows.Delete(subject)
}

// count adds n times a row to the sums of the group. A row without a presence adds
// nothing.
func (s *stream) count(r sentRow, n int) {
	if r.p != nil {
		s.statuses[r.status] += int32(n)
	}
	if r.present {
		s.group.Count += n
	}
}

// sum returns the group of all rows.
func (s *stream) sum() Group {
	g := Group{Status: GroupOffline, Count: s.group.Count}
	for i, n := range s.statuses {
		if n > 0 {
			g.Status = groupStatuses[i]
			break
		}
	}
	return g
}

// snapshot returns the snapshot of a stream. Callers share one snapshot until the
// next frame, or until no caller holds it. A lagged snapshot is the caller's own.
func (r *Roster) snapshot(s *stream, lagged bool) *Frame {
	f := s.last.Value()
	if f == nil || f.Seq != s.seq {
		f = r.newFrame(FrameSnapshot, s)
		for _, subject := range s.rows.Keys(compareRefs) {
			if last := s.rows.Get(subject); last.listed {
				_, v := last.m.row(s.key, last.p)
				f.Members = append(f.Members, v)
			}
		}
		s.last = weak.Make(f)
	}
	if !lagged {
		return f
	}
	own := *f
	own.Lagged, own.encoded = true, nil
	return &own
}
