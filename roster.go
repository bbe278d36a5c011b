package presence

import (
	"maps"
	"slices"
	"time"
	"weak"
)

// Roster is one channel's members as each audience sees them. It is pure: its
// methods depend on their arguments alone and are for one goroutine at a time.
type Roster struct {
	channel Ref
	m       *Machine
	members table[*Presence] // what they point to never changes
	streams []*stream        // in order of their keys
	lists   *listings        // once somebody asked for one
	hours   *opening         // once there are any
	recall  int              // how many diffs each stream remembers
	alone   bool             // of one subject by itself, whose diffs need no batches
}

// listings are the lists that are at hand.
type listings struct {
	sorted []Ref // the members in order; nil after one has come or gone
	of     map[streamKey]*listing
}

// listing is a list that was asked for, until something changes.
type listing struct {
	views []View
	group Group // whatever the hours
	stale bool
}

// streamKey names a stream: watchers with the same key receive the same frames.
// Only the audience self differs by viewer.
type streamKey struct {
	audience Audience
	viewer   Ref
}

// stream is what one audience has been told so far.
type stream struct {
	key     streamKey
	epoch   string
	seq     uint64
	rows    table[row]
	rungs   [3]int32 // members by rung
	group   Group
	told    Instant             // when the last diff went out, with a batch interval
	sent    map[Ref]Instant     // when a subject's last change went out, with a publish interval
	pending map[Ref]Instant     // subjects whose newest state waits, and until when
	last    weak.Pointer[Frame] // the newest snapshot, as long as somebody has it
	recent  []past              // the newest diffs, up to that of seq
	since   uint64              // the first seq after which anybody may go on
	watches []*Watch            // of the tracker; the roster does not look at them
}

// row is a member as the audience has been told of it: what the view was made of
// rather than the view, which is large.
type row struct {
	p       *Presence
	m       *Machine
	rung    int8
	listed  bool // has a row in lists
	present bool // counted as there
}

// past is a diff as it is remembered: what it can be made of again.
type past struct {
	group   Group
	changes []pastChange
}

type pastChange struct {
	op      Op
	subject Ref
	p       *Presence // nil where there is no view
	whole   *Change   // what cannot be made again
}

// NewRoster returns the roster of an empty channel.
func NewRoster(channel Ref, m *Machine) *Roster {
	return &Roster{channel: channel, m: m}
}

// Len returns the number of members.
func (r *Roster) Len() int { return r.members.len() }

// Members returns the members in order.
func (r *Roster) Members() []Ref { return r.members.refs() }

// Has reports whether a subject is a member.
func (r *Roster) Has(subject Ref) bool { return r.members.get(subject) != nil }

// Put adds a member or replaces what is known of it, and returns the frames
// that follow, one for each stream whose audience sees a difference.
func (r *Roster) Put(p Presence, now Instant) []*Frame { return r.put(&p, now) }

// put is Put of what never changes.
func (r *Roster) put(p *Presence, now Instant) []*Frame {
	r.outdate(!r.Has(p.Subject))
	r.members.set(p.Subject, p)
	return r.publish(now, p.Subject)
}

// Tell returns the frames that say something to a subject itself, one if it
// watches.
func (r *Roster) Tell(c Change) []*Frame {
	s := r.stream(newStreamKey(AudienceSelf, c.Subject))
	if s == nil {
		return nil
	}
	s.seq++
	f := r.newFrame(FrameDiff, s)
	f.stream, f.Changes = s, []Change{c}
	s.remember(past{s.group, []pastChange{{whole: &f.Changes[0]}}}, r.recall)
	return []*Frame{f}
}

// Remove takes a member out.
func (r *Roster) Remove(subject Ref, now Instant) []*Frame {
	if !r.Has(subject) {
		return nil
	}
	r.members.delete(subject)
	r.outdate(true)
	return r.publish(now, subject)
}

// SetMachine puts another policy in force. What it changes is published with
// the next Put of each member, or by Refresh.
func (r *Roster) SetMachine(m *Machine) {
	r.m = m
	r.forget() // it may show less than the one before
	r.outdate(false)
}

// outdate says that lists have to be made anew, with other members or the same.
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

// Republish publishes every difference between what audiences were told and what
// they may see now.
func (r *Roster) Republish(now Instant) []*Frame { return r.publish(now, r.Members()...) }

// Next returns when the next held-back change is due, or the channel opens or
// closes.
func (r *Roster) Next() (at Instant, ok bool) {
	at, ok = r.heldBack()
	if r.hours != nil && r.hours.next != 0 && (!ok || r.hours.next < at) {
		return r.hours.next, true
	}
	return at, ok
}

// holdsBack reports whether any change is held back.
func (r *Roster) holdsBack() bool {
	for _, s := range r.streams {
		if len(s.pending) > 0 {
			return true
		}
	}
	return false
}

// heldBack returns when the next held-back change is due, if there is any.
func (r *Roster) heldBack() (at Instant, ok bool) {
	for _, s := range r.streams {
		for _, due := range s.pending {
			if !ok || due < at {
				at, ok = due, true
			}
		}
	}
	return at, ok
}

// Flush returns the frames that were held back and are due, and says whether the
// channel has opened or closed.
func (r *Roster) Flush(now Instant) []*Frame {
	r.hours.pass(now)
	var frames []*Frame
	for _, s := range r.streams {
		var due []Ref
		for subject, at := range s.pending {
			if at > now {
				continue
			}
			if at = r.m.notBefore(s, subject); at > now {
				s.pending[subject] = at // a diff about others has gone out since
				continue
			}
			due = append(due, subject)
		}
		slices.SortFunc(due, compareRefs)
		if f := r.update(s, now, due); f != nil {
			frames = append(frames, f)
		}
	}
	return frames
}

// Open returns the present list for an audience and starts its stream if it has
// none. The viewer matters for the audience self alone: it sees its own row in
// full and the others as the team does.
func (r *Roster) Open(a Audience, viewer Ref, epoch func() string) *Frame {
	return r.snapshot(r.open(newStreamKey(a, viewer), epoch))
}

// open returns a stream, which it starts if there is none.
func (r *Roster) open(key streamKey, epoch func() string) *stream {
	at, found := r.find(key)
	if found {
		return r.streams[at]
	}
	s := &stream{key: key, epoch: epoch()}
	for subject, p := range r.members.all() {
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

// stream returns a stream, or nil if there is none.
func (r *Roster) stream(key streamKey) *stream {
	if at, found := r.find(key); found {
		return r.streams[at]
	}
	return nil
}

// Close forgets a stream that nobody watches.
func (r *Roster) Close(a Audience, viewer Ref) {
	if at, found := r.find(newStreamKey(a, viewer)); found {
		r.streams = slices.Delete(r.streams, at, at+1)
	}
}

// after returns the frames of a stream that follow one, if all of them are
// remembered. There may be none.
func (r *Roster) after(key streamKey, epoch string, seq uint64) (frames []*Frame, ok bool) {
	s := r.stream(key)
	if s == nil || s.epoch != epoch || seq < s.since || seq > s.seq || s.seq-seq > uint64(len(s.recent)) {
		return nil, false
	}
	for _, old := range s.recent[len(s.recent)-int(s.seq-seq):] {
		f := r.newFrame(FrameDiff, s)
		seq++
		f.Seq, f.Group, f.Changes = seq, old.group, make([]Change, len(old.changes))
		for i, c := range old.changes {
			if c.whole != nil {
				f.Changes[i] = *c.whole
				continue
			}
			f.Changes[i] = Change{Op: c.op, Subject: c.subject}
			if c.p != nil {
				_, view := r.m.row(key, c.p)
				f.Changes[i].View = &view
			}
		}
		frames = append(frames, f)
	}
	return frames, true
}

// forget makes sure that nobody who has missed something is told it later: the
// next frame of whoever comes back is a snapshot.
func (r *Roster) forget() {
	for _, s := range r.streams {
		s.recent, s.since = nil, s.seq+1
	}
}

// List returns the rows that an audience may list, by id.
func (r *Roster) List(a Audience, viewer Ref) []View { return r.AppendList(nil, a, viewer) }

// AppendList appends the rows that an audience may list to views, by id. Where
// nothing has changed since the last time, that is a copy.
func (r *Roster) AppendList(views []View, a Audience, viewer Ref) []View {
	return append(views, r.list(a, viewer).views...)
}

// Group sums the channel up for an audience.
func (r *Roster) Group(a Audience, viewer Ref) Group { return r.gate(a, r.list(a, viewer).group) }

// list projects every member for an audience, unless it has and nothing has
// changed. Lists that are one viewer's own are not kept.
func (r *Roster) list(a Audience, viewer Ref) *listing {
	if r.lists == nil {
		r.lists = &listings{of: make(map[streamKey]*listing)}
	}
	key := newStreamKey(a, viewer)
	l := r.lists.of[key]
	if l != nil && !l.stale {
		return l
	}
	if l == nil {
		l = new(listing)
		if a != AudienceSelf {
			r.lists.of[key] = l
		}
	}
	if r.lists.sorted == nil {
		r.lists.sorted = r.Members()
	}
	l.views, l.stale = l.views[:0], false
	var s stream
	for _, subject := range r.lists.sorted {
		row, view := r.m.row(key, r.members.get(subject))
		s.count(row, +1)
		if row.listed {
			l.views = append(l.views, view)
		}
	}
	l.group = s.sum()
	return l
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
func (m *Machine) row(key streamKey, p *Presence) (row, View) {
	a := key.audience
	if a == AudienceSelf && p.Subject != key.viewer {
		a = AudienceTeam
	}
	v := m.View(p, a)
	there := v.Class != "" && v.Class != ClassOffline
	out := row{p: p, m: m, rung: int8(m.rung(v.Class)), listed: true, present: there}
	if a == AudienceVisitor {
		switch m.policy.Widget.List {
		case "online":
			out.listed = v.Class == ClassAvailable
		case "none":
			out.listed = false
		}
		out.present = there && out.listed
	}
	return out, v
}

var rungs = []string{GroupAvailable, GroupAway, GroupOffline}

// rung is the place of a class on the group's ladder, the best first.
func (m *Machine) rung(c Class) int {
	g := &m.policy.Group
	word := GroupOffline
	switch c {
	case ClassAvailable:
		word = g.Available
	case ClassAway:
		word = g.Away
	case ClassBusy:
		word = g.Busy
	case ClassDND:
		word = g.DND
	}
	return slices.Index(rungs, word)
}

// publish tells every stream about the present state of subjects.
func (r *Roster) publish(now Instant, subjects ...Ref) []*Frame {
	r.hours.pass(now)
	var frames []*Frame
	for _, s := range r.streams {
		due := subjects
		if r.m.holdsBack() > 0 {
			due = nil
			for _, subject := range subjects {
				if at := r.m.notBefore(s, subject); at <= now {
					due = append(due, subject)
				} else {
					setInstant(&s.pending, subject, at)
				}
			}
		}
		if f := r.update(s, now, due); f != nil {
			frames = append(frames, f)
		}
	}
	return frames
}

// holdsBack is the shortest time for which a policy may hold a change back, or 0.
func (m *Machine) holdsBack() time.Duration {
	p := &m.policy
	if p.CoalesceSubject > 0 && p.CoalesceChannel > 0 {
		return min(p.CoalesceSubject, p.CoalesceChannel)
	}
	return p.CoalesceSubject + p.CoalesceChannel // one of them is none
}

// notBefore is when a change of a subject may go out.
func (m *Machine) notBefore(s *stream, subject Ref) (at Instant) {
	if sent := s.sent[subject]; sent != 0 {
		at = sent.Add(m.policy.CoalesceSubject)
	}
	if s.told != 0 {
		at = max(at, s.told.Add(m.policy.CoalesceChannel))
	}
	return at
}

// setInstant sets an instant in a map that is made when it is needed.
func setInstant(m *map[Ref]Instant, subject Ref, at Instant) {
	if *m == nil {
		*m = make(map[Ref]Instant)
	}
	(*m)[subject] = at
}

// update brings the rows of subjects up to date and returns the frame that says
// so, or nil if the audience sees no difference.
func (r *Roster) update(s *stream, now Instant, subjects []Ref) *Frame {
	var changes []Change
	for _, subject := range subjects {
		delete(s.pending, subject)
		old, p := s.rows.get(subject), r.members.get(subject)
		change, ok := Change{}, false
		switch {
		case p != nil:
			next, view := r.m.row(s.key, p)
			change, ok = s.compare(&old, &next, &view)
			s.put(subject, next)
		case old.p != nil:
			change, ok = s.compare(&old, &row{p: old.p}, nil)
			s.drop(subject)
		}
		if ok {
			changes = append(changes, change)
		}
		interval, gone := r.m.policy.CoalesceSubject, p == nil
		switch {
		case interval == 0 || gone && !ok:
			delete(s.sent, subject)
		case ok:
			setInstant(&s.sent, subject, now)
			if gone {
				setInstant(&s.pending, subject, now.Add(interval)) // to be forgotten
			}
		}
	}
	group := r.gate(s.key.audience, s.sum())
	if len(changes) == 0 && group == s.group {
		return nil
	}
	s.group = group
	if r.m.policy.CoalesceChannel > 0 && !r.alone {
		s.told = now
	}
	s.seq++
	f := r.newFrame(FrameDiff, s)
	f.stream, f.Changes = s, changes
	if r.recall > 0 {
		was := past{group, make([]pastChange, len(changes))}
		for i, c := range changes {
			was.changes[i] = pastChange{op: c.Op, subject: c.Subject}
			if c.View != nil {
				was.changes[i].p = r.members.get(c.Subject)
			}
		}
		s.remember(was, r.recall)
	}
	return f
}

// remember keeps a diff for those who come back, in place of the oldest.
func (s *stream) remember(d past, limit int) {
	if over := len(s.recent) + 1 - limit; over > 0 {
		s.recent = slices.Delete(s.recent, 0, min(over, len(s.recent)))
	}
	if limit > 0 {
		s.recent = append(s.recent, d)
	}
}

// compare returns what changes between two rows. The view is that of the next.
func (s *stream) compare(old, next *row, view *View) (Change, bool) {
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
		if _, was := old.m.row(s.key, old.p); was == *view {
			return c, false
		}
	}
	if next.listed {
		c.View = new(View)
		*c.View = *view
	}
	return c, true
}

func (s *stream) put(subject Ref, next row) {
	s.count(s.rows.get(subject), -1)
	s.rows.set(subject, next)
	s.count(next, +1)
}

func (s *stream) drop(subject Ref) {
	s.count(s.rows.get(subject), -1)
	s.rows.delete(subject)
}

// count adds a row to what the group sums up, or takes it away. There may be
// none.
func (s *stream) count(r row, n int) {
	if r.p != nil {
		s.rungs[r.rung] += int32(n)
	}
	if r.present {
		s.group.Count += n
	}
}

// sum is the group as the rows have it.
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

// snapshot returns the whole list, made once for all who ask while any of them
// has it.
func (r *Roster) snapshot(s *stream) *Frame {
	if f := s.last.Value(); f != nil && f.Seq == s.seq {
		return f
	}
	f := r.newFrame(FrameSnapshot, s)
	for _, subject := range s.rows.refs() {
		row := s.rows.get(subject)
		if row.listed {
			_, view := row.m.row(s.key, row.p)
			f.Members = append(f.Members, view)
		}
	}
	s.last = weak.Make(f)
	return f
}

// table is a map that is a list while there are few entries, since most channels
// are small and a map is not.
type table[V any] struct {
	few  []entry[V]
	many map[Ref]V
}

type entry[V any] struct {
	ref   Ref
	value V
}

const fewEntries = 8

func (t *table[V]) find(ref Ref) int {
	return slices.IndexFunc(t.few, func(e entry[V]) bool { return e.ref == ref })
}

// get returns a value, or the zero value if there is none.
func (t *table[V]) get(ref Ref) (v V) {
	if t.many != nil {
		return t.many[ref]
	}
	if i := t.find(ref); i >= 0 {
		v = t.few[i].value
	}
	return v
}

func (t *table[V]) set(ref Ref, v V) {
	if t.many != nil {
		t.many[ref] = v
		return
	}
	switch i := t.find(ref); {
	case i >= 0:
		t.few[i].value = v
	case len(t.few) < fewEntries:
		t.few = append(t.few, entry[V]{ref, v})
	default:
		t.many = maps.Collect(t.all())
		t.many[ref], t.few = v, nil
	}
}

func (t *table[V]) delete(ref Ref) {
	delete(t.many, ref)
	if i := t.find(ref); i >= 0 {
		t.few = slices.Delete(t.few, i, i+1)
	}
}

func (t *table[V]) len() int { return len(t.few) + len(t.many) }

func (t *table[V]) all() func(yield func(Ref, V) bool) {
	return func(yield func(Ref, V) bool) {
		for _, e := range t.few {
			if !yield(e.ref, e.value) {
				return
			}
		}
		for ref, v := range t.many {
			if !yield(ref, v) {
				return
			}
		}
	}
}

// refs returns whom there are entries of, in order.
func (t *table[V]) refs() []Ref {
	if t.len() == 0 {
		return nil
	}
	list := make([]Ref, 0, t.len())
	for ref := range t.all() {
		list = append(list, ref)
	}
	slices.SortFunc(list, compareRefs)
	return list
}
