package presence

import (
	"slices"
	"time"
	"weak"

	"github.com/presence-go/presence/internal/smallmap"
)

// Roster holds the members of one channel and what each audience was sent of
// them. Its methods return the frames that follow. It is pure: its methods depend
// on their arguments only. One goroutine at a time may call them.
type Roster struct {
	channel Channel
	m       *Machine
	members smallmap.Map[Ref, *Presence] // what they point to never changes
	streams []*stream                    // in order of their keys
	lists   *listings                    // nil until a list is asked for
	opening *opening                     // nil until hours or clock are set
	recall  int                          // the number of diffs that each stream remembers
	single  bool                         // it is of a single subject, whose diffs need no batches
	emit    func(*stream, *Frame)
	frames  []*Frame // what the method under way returns
}

// listings are the lists kept for the next caller.
type listings struct {
	sorted []Ref // the members in order; nil after one was added or removed
	of     map[streamKey]*listing
}

// listing is the list of one audience.
type listing struct {
	views []View
	group Group // without regard to the hours
	stale bool  // something has changed since
}

// streamKey names a stream: watchers with the same key receive the same frames.
// Only the audience self differs by viewer.
type streamKey struct {
	audience Audience
	viewer   Ref
}

// stream is what one audience was sent so far.
type stream struct {
	key      streamKey
	epoch    string
	seq      uint64
	rows     smallmap.Map[Ref, sentRow]
	rungs    [3]int32 // the number of members by group status
	group    Group
	told     Instant             // when the last diff was sent, with a batch interval
	sent     map[Ref]Instant     // when a subject's last change was sent, with a publish interval
	pending  map[Ref]Instant     // subjects whose newest state waits, and until when
	last     weak.Pointer[Frame] // the newest snapshot, while it is in use
	recent   []past              // the newest diffs, up to that of seq
	since    uint64              // the first seq after which a watcher may resume
	attached any                 // the caller's own; the roster does not look at it
}

// sentRow is a member as the audience was sent it. It keeps what the view was made
// of, since a view is large.
type sentRow struct {
	p       *Presence
	m       *Machine
	rung    int8
	listed  bool // has a row in lists
	present bool // counts as present
}

// past is a diff that a stream remembers, as what it can be made of again.
type past struct {
	group   Group
	changes []pastChange
}

type pastChange struct {
	op      Op
	subject Ref
	p       *Presence // nil for a change without a view
	whole   *Change   // a change that cannot be made again
}

// NewRoster returns the roster of an empty channel.
func NewRoster(channel Channel, m *Machine) *Roster { return newRoster(channel, m, 0, false, nil) }

// newRoster returns a roster whose streams remember recall diffs. A single one is
// of one subject and not of a channel. If emit is given, the roster calls it with
// each frame and the stream of the frame, and its methods return none.
func newRoster(channel Channel, m *Machine, recall int, single bool, emit func(*stream, *Frame)) *Roster {
	r := &Roster{channel: channel, m: m, recall: recall, single: single, emit: emit}
	if emit == nil {
		r.emit = func(_ *stream, f *Frame) { r.frames = append(r.frames, f) }
	}
	return r
}

// emitted returns the frames that the method under way made.
func (r *Roster) emitted() []*Frame {
	frames := r.frames
	r.frames = nil
	return frames
}

// Has reports whether a subject is a member.
func (r *Roster) Has(subject Ref) bool { return r.member(subject) != nil }

// member returns what is known of a member, or nil for another subject.
func (r *Roster) member(subject Ref) *Presence { return r.members.Get(subject) }

// Put adds a member or replaces what is known of it. It returns one frame for
// each stream whose audience sees a difference. The roster keeps p, which must
// not change any more.
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

// Remove takes a member out.
func (r *Roster) Remove(subject Ref, now Instant) []*Frame {
	if !r.Has(subject) {
		return nil
	}
	r.members.Delete(subject)
	r.outdate(true)
	r.publish(now, subject)
	return r.emitted()
}

// SetMachine puts another policy in force. Its effects are published with the
// next Put of each member, or by Republish.
func (r *Roster) SetMachine(m *Machine) {
	r.m = m
	r.forget() // it may show less than the one before
	r.outdate(false)
}

// outdate notes that lists have to be made again, of other members or the same.
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

// Republish publishes every difference between what audiences were sent and what
// they may see now.
func (r *Roster) Republish(now Instant) []*Frame {
	r.publish(now, r.members.Keys(compareRefs)...)
	return r.emitted()
}

// Next returns when the next held-back change is due or the channel opens or
// closes, whichever is first. ok is false if neither is known.
func (r *Roster) Next() (at Instant, ok bool) {
	at, ok = r.heldBack()
	if o := r.opening; o != nil && o.next != 0 && (!ok || o.next < at) {
		return o.next, true
	}
	return at, ok
}

// waits reports whether any change is held back.
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

// Flush publishes the held-back changes that are due, and that the channel has
// opened or closed.
func (r *Roster) Flush(now Instant) []*Frame {
	r.opening.pass(now)
	for _, s := range r.streams {
		var ready []Ref
		for subject, at := range s.pending {
			if at > now {
				continue
			}
			if at = r.m.notBefore(s, subject); at > now {
				s.pending[subject] = at // a diff about others has been sent since
				continue
			}
			ready = append(ready, subject)
		}
		slices.SortFunc(ready, compareRefs)
		r.update(s, now, ready)
	}
	return r.emitted()
}

// Open returns the snapshot of an audience. It starts the stream of the audience
// if it has none. The viewer matters for the audience self only, which sees its
// own row in full and the others as the team does.
func (r *Roster) Open(a Audience, viewer Ref, epoch func() string) *Frame {
	return r.snapshot(r.open(a, viewer, epoch), false)
}

// open returns the stream of an audience, which it starts if it has none.
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

// eachStream calls f for every stream. f may close the stream.
func (r *Roster) eachStream(f func(*stream)) {
	for i := 0; i < len(r.streams); {
		s := r.streams[i]
		if f(s); i < len(r.streams) && r.streams[i] == s {
			i++
		}
	}
}

// Close ends the stream of an audience. Call it when the last watcher has left.
func (r *Roster) Close(a Audience, viewer Ref) {
	if s := r.stream(newStreamKey(a, viewer)); s != nil {
		r.closeStream(s)
	}
}

// closeStream ends a stream. It does nothing if the stream has ended, also if
// another one has begun for its audience.
func (r *Roster) closeStream(s *stream) {
	if at, found := r.find(s.key); found && r.streams[at] == s {
		r.streams = slices.Delete(r.streams, at, at+1)
	}
}

// resume returns the frames of a stream that follow the one of seq. ok is false
// if the stream does not remember all of them. There may be none.
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

// change makes a remembered change again.
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

// forget drops the remembered diffs, so that a watcher who missed one resumes
// with a snapshot.
func (r *Roster) forget() {
	for _, s := range r.streams {
		s.recent, s.since = nil, s.seq+1
	}
}

// List returns the rows that an audience may list, by id.
func (r *Roster) List(a Audience, viewer Ref) []View {
	views, _ := r.list(a, viewer)
	return slices.Clone(views)
}

// Group sums the channel up for an audience.
func (r *Roster) Group(a Audience, viewer Ref) Group {
	_, group := r.list(a, viewer)
	return group
}

// list returns the rows and the group of an audience. The views are good until
// something changes. It projects the members unless it has and nothing has
// changed; lists of the audience self are not kept.
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

// project makes a list.
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

// row projects a member for a stream.
func (m *Machine) row(key streamKey, p *Presence) (sentRow, View) {
	a := key.audience
	if a == AudienceSelf && p.Subject != key.viewer {
		a = AudienceTeam
	}
	v := m.View(p, a)
	there := v.Class != "" && v.Class != ClassOffline
	out := sentRow{p: p, m: m, rung: int8(m.rung(v.Class)), listed: true, present: there}
	if a == AudienceVisitor {
		switch m.policy.Widget.List {
		case ListOnline:
			out.listed = v.Class == ClassAvailable
		case ListNone:
			out.listed = false
		}
		out.present = there && out.listed
	}
	return out, v
}

var rungs = []string{GroupAvailable, GroupAway, GroupOffline}

// rung returns the place of a class among the group statuses, the best first.
func (m *Machine) rung(c Class) int {
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
	return slices.Index(rungs, status)
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

// coalesces returns the shortest time for which a policy may hold a change back,
// 0 if it holds none back.
func (m *Machine) coalesces() time.Duration {
	p := &m.policy
	if p.CoalesceSubject > 0 && p.CoalesceChannel > 0 {
		return min(p.CoalesceSubject, p.CoalesceChannel)
	}
	return p.CoalesceSubject + p.CoalesceChannel // one of them is none
}

// notBefore returns when a change of a subject may be sent.
func (m *Machine) notBefore(s *stream, subject Ref) (at Instant) {
	if sent := s.sent[subject]; sent != 0 {
		at = sent.Add(m.policy.CoalesceSubject)
	}
	if s.told != 0 {
		at = max(at, s.told.Add(m.policy.CoalesceChannel))
	}
	return at
}

// setInstant sets an instant in a map, which it makes if it is nil.
func setInstant(m *map[Ref]Instant, subject Ref, at Instant) {
	if *m == nil {
		*m = make(map[Ref]Instant)
	}
	(*m)[subject] = at
}

// update brings the rows of subjects up to date and emits a frame if the audience
// sees a difference.
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
		s.told = now
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

// updateRow brings the row of one subject up to date and returns what changes.
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
			setInstant(&s.pending, subject, now.Add(interval)) // to be forgotten then
		}
	}
	return c, ok
}

// remember keeps a diff for watchers that resume, in place of the oldest.
func (s *stream) remember(d past, limit int) {
	if over := len(s.recent) + 1 - limit; over > 0 {
		s.recent = slices.Delete(s.recent, 0, min(over, len(s.recent)))
	}
	if limit > 0 {
		s.recent = append(s.recent, d)
	}
}

// compare returns what changes between two rows. The view is that of the next.
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

// count adds a row to the sums of the group, or takes it away. A row without a
// presence counts nothing.
func (s *stream) count(r sentRow, n int) {
	if r.p != nil {
		s.rungs[r.rung] += int32(n)
	}
	if r.present {
		s.group.Count += n
	}
}

// sum returns the group that the rows add up to.
func (s *stream) sum() Group {
	g := Group{Status: GroupOffline, Count: s.group.Count}
	for i, n := range s.rungs {
		if n > 0 {
			g.Status = rungs[i]
			break
		}
	}
	return g
}

// snapshot returns the whole list. It is made once for all callers while one of
// them has it. A lagged one is the caller's own.
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
