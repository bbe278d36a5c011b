package presence

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"
)

// The rungs of the ladder on which a group is summed up.
const (
	RungAvailable = "available"
	RungAway      = "away"
	RungOffline   = "offline"
)

// Op says what a Change does to a watcher's list.
type Op string

// The operations.
const (
	OpJoined  Op = "joined"  // the subject became present
	OpUpdated Op = "updated" // its view changed
	OpLeft    Op = "left"    // it is no longer present

	// What only the subject itself is told. The list stays as it is.
	OpRejected  Op = "rejected"  // its request for Status was turned down
	OpChallenge Op = "challenge" // it must answer to ID before Until
)

// Change is one change of a watcher's list. View is the row from now on, which
// an absent subject can have too; nil means that the subject has no row.
type Change struct {
	Op      Op    `json:"op"`
	Subject Ref   `json:"subject"`
	View    *View `json:"view,omitzero"`

	ID     string  `json:"id,omitzero"`     // of a request or challenge
	Status string  `json:"status,omitzero"` // that was asked for
	Until  Instant `json:"until,omitzero"`
}

// Group sums a channel up for an audience.
type Group struct {
	Rung  string `json:"rung"`  // the best rung any member stands on
	Count int    `json:"count"` // members present, of those the audience may list
	// Reason is [ReasonClosed] outside the channel's hours, whatever its members
	// do; for visitors the rung is then offline. See [Roster.SetHours].
	Reason string `json:"reason,omitzero"`
	// NextOpen is when a closed channel opens next, as far as is known.
	NextOpen Instant `json:"nextOpen,omitzero"`
}

// FrameKind says what a Frame is.
type FrameKind string

// The kinds of frame.
const (
	FrameSnapshot FrameKind = "snapshot" // the whole list; forget everything before
	FrameDiff     FrameKind = "diff"     // changes, to be applied in order
	FrameRemoved  FrameKind = "removed"  // access has ended; nothing follows
)

// Frame is what a watcher receives: a snapshot first, then diffs whose Seq each
// is one more than the last. Frames are shared between watchers and must not be
// changed.
type Frame struct {
	Kind    FrameKind `json:"type"`
	Version int       `json:"v"`
	Channel Ref       `json:"channel"`
	// Epoch names the stream. Sequence numbers of different epochs do not
	// compare; a watcher that sees another one needs a snapshot.
	Epoch string `json:"epoch"`
	Seq   uint64 `json:"seq"`
	// Lagged is set on a snapshot sent because the watcher fell behind: changes
	// in between were skipped, not their result.
	Lagged  bool     `json:"lagged,omitzero"`
	Group   Group    `json:"group"`
	Members []View   `json:"members,omitempty"` // of a snapshot, by id
	Changes []Change `json:"changes,omitempty"` // of a diff

	stream  streamKey
	encoded func() ([]byte, error)
}

// FrameVersion is the version of the frames' JSON form.
const FrameVersion = 1

// JSON returns the frame encoded. It is encoded once however many watchers
// there are; the bytes must not be changed. The error is always nil.
func (f *Frame) JSON() ([]byte, error) {
	if f.encoded == nil {
		return f.AppendJSON(make([]byte, 0, f.encodedSize())), nil
	}
	return f.encoded()
}

func newFrame(kind FrameKind, s *stream) *Frame {
	f := &Frame{Kind: kind, Version: FrameVersion, Channel: s.channel, Epoch: s.epoch, Seq: s.seq, Group: s.group, stream: s.key}
	f.encoded = sync.OnceValues(func() ([]byte, error) { return f.AppendJSON(make([]byte, 0, f.encodedSize())), nil })
	return f
}

// Transport carries frames to one watcher: a socket, an event stream, a test.
type Transport interface {
	// Send delivers one frame. It is called by one goroutine at a time, in
	// order. It may block until ctx is done; meanwhile frames queue up within a
	// bound, after which the watcher is sent a snapshot instead. An error ends
	// the stream. The frame is shared and must not be changed.
	Send(ctx context.Context, f *Frame) error
	// Close is called once after the last Send, with the reason for the end. No
	// call follows it. Called by somebody else it ends a Send under way.
	Close(reason error) error
}

// Roster is one channel's members as each audience sees them. It is pure: its
// methods depend on their arguments alone and are for one goroutine at a time.
type Roster struct {
	channel Ref
	m       *Machine
	members map[Ref]*Presence
	streams map[streamKey]*stream
	order   []streamKey // of the streams, always the same
	sorted  []Ref       // the members in order; nil after one has come or gone
	lists   map[streamKey]*listing
	recall  int  // how many frames each stream remembers
	alone   bool // of one subject by itself, whose diffs need no batches
	hours   opening
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
	channel Ref
	epoch   string
	seq     uint64
	rows    map[Ref]*row // what they point to never changes
	rungs   [3]int       // members by rung
	group   Group
	told    Instant         // when the last diff went out, with a batch interval
	sent    map[Ref]Instant // when a subject's last change went out, with a publish interval
	pending map[Ref]Instant // subjects whose newest state waits, and until when
	last    *Frame          // the snapshot of seq, once somebody asked for it
	recent  []*Frame        // the newest diffs, up to that of seq
	since   uint64          // the first seq after which anybody may go on
}

// row is a member as the audience sees it.
type row struct {
	view    View
	rung    int
	listed  bool // has a row in lists
	present bool // counted as there
}

// NewRoster returns the roster of an empty channel.
func NewRoster(channel Ref, m *Machine) *Roster {
	return &Roster{channel: channel, m: m, members: make(map[Ref]*Presence), streams: make(map[streamKey]*stream)}
}

// Len returns the number of members.
func (r *Roster) Len() int { return len(r.members) }

// Members returns the members in order.
func (r *Roster) Members() []Ref { return slices.SortedFunc(maps.Keys(r.members), compareRefs) }

// Has reports whether a subject is a member.
func (r *Roster) Has(subject Ref) bool { return r.members[subject] != nil }

// Put adds a member or replaces what is known of it, and returns the frames
// that follow, one for each stream whose audience sees a difference.
func (r *Roster) Put(p Presence, now Instant) []*Frame {
	if !r.Has(p.Subject) {
		r.sorted = nil
	}
	r.members[p.Subject] = &p
	r.outdate()
	return r.publish(now, p.Subject)
}

// Tell returns the frames that say something to a subject itself, one if it
// watches.
func (r *Roster) Tell(c Change) []*Frame {
	s := r.streams[newStreamKey(AudienceSelf, c.Subject)]
	if s == nil {
		return nil
	}
	s.last = nil
	s.seq++
	f := newFrame(FrameDiff, s)
	f.Changes = []Change{c}
	s.remember(f, r.recall)
	return []*Frame{f}
}

// Told returns what an output says to its subject itself, if it does.
func (o *Output) Told(subject Ref) (c Change, ok bool) {
	switch {
	case o.Kind == OutputChallenge:
		return Change{Op: OpChallenge, Subject: subject, ID: o.ID, Until: o.At}, true
	case o.Kind == OutputRequestClosed && o.Why == RequestRejected:
		return Change{Op: OpRejected, Subject: subject, ID: o.Request.ID, Status: o.Request.Claim.Status}, true
	}
	return Change{}, false
}

// Remove takes a member out.
func (r *Roster) Remove(subject Ref, now Instant) []*Frame {
	if !r.Has(subject) {
		return nil
	}
	delete(r.members, subject)
	r.sorted = nil
	r.outdate()
	return r.publish(now, subject)
}

// SetMachine puts another policy in force. What it changes is published with
// the next Put of each member, or by Refresh.
func (r *Roster) SetMachine(m *Machine) {
	r.m = m
	r.forget() // it may show less than the one before
	r.outdate()
}

func (r *Roster) outdate() {
	for _, l := range r.lists {
		l.stale = true
	}
}

// Refresh publishes every difference between what audiences were told and what
// they may see now.
func (r *Roster) Refresh(now Instant) []*Frame { return r.publish(now, r.Members()...) }

// Next returns when the next held-back change is due, or the channel opens or
// closes.
func (r *Roster) Next() (at Instant, ok bool) {
	at, ok = r.heldBack()
	if next := r.hours.next; next != 0 && (!ok || next < at) {
		return next, true
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
	for _, key := range r.order {
		s := r.streams[key]
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
	return r.open(newStreamKey(a, viewer), epoch).snapshot()
}

// open returns a stream, which it starts if there is none.
func (r *Roster) open(key streamKey, epoch func() string) *stream {
	s := r.streams[key]
	if s == nil {
		s = &stream{
			key: key, channel: r.channel, epoch: epoch(),
			rows: make(map[Ref]*row),
		}
		for subject, p := range r.members {
			s.put(subject, r.row(key, p))
		}
		s.group = r.gate(key.audience, s.sum())
		r.streams[key] = s
		at, _ := slices.BinarySearchFunc(r.order, key, compareKeys)
		r.order = slices.Insert(r.order, at, key)
	}
	return s
}

// Close forgets a stream that nobody watches.
func (r *Roster) Close(a Audience, viewer Ref) {
	key := newStreamKey(a, viewer)
	delete(r.streams, key)
	r.order = slices.DeleteFunc(r.order, func(k streamKey) bool { return k == key })
}

// after returns the frames of a stream that follow one, if all of them are
// remembered. There may be none.
func (r *Roster) after(key streamKey, epoch string, seq uint64) (frames []*Frame, ok bool) {
	s := r.streams[key]
	if s == nil || s.epoch != epoch || seq < s.since || seq > s.seq || s.seq-seq > uint64(len(s.recent)) {
		return nil, false
	}
	return s.recent[len(s.recent)-int(s.seq-seq):], true
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
	key := newStreamKey(a, viewer)
	l := r.lists[key]
	if l != nil && !l.stale {
		return l
	}
	if l == nil {
		l = new(listing)
		if a != AudienceSelf {
			if r.lists == nil {
				r.lists = make(map[streamKey]*listing)
			}
			r.lists[key] = l
		}
	}
	if r.sorted == nil {
		r.sorted = r.Members()
	}
	l.views, l.stale = l.views[:0], false
	var s stream
	for _, subject := range r.sorted {
		row := r.row(key, r.members[subject])
		s.count(row, +1)
		if row.listed {
			l.views = append(l.views, row.view)
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
func (r *Roster) row(key streamKey, p *Presence) *row {
	a := key.audience
	if a == AudienceSelf && p.Subject != key.viewer {
		a = AudienceTeam
	}
	v := r.m.View(p, a)
	there := v.Class != "" && v.Class != ClassOffline
	out := &row{view: v, rung: r.m.rung(v.Class), listed: true, present: there}
	if a == AudienceVisitor {
		switch r.m.policy.Widget.List {
		case "online":
			out.listed = v.Class == ClassAvailable
		case "none":
			out.listed = false
		}
		out.present = there && out.listed
	}
	return out
}

var rungs = []string{RungAvailable, RungAway, RungOffline}

// rung is the place of a class on the group's ladder, the best first.
func (m *Machine) rung(c Class) int {
	g := &m.policy.Group
	word := RungOffline
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
	for _, key := range r.order {
		s := r.streams[key]
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
	if p.Publish > 0 && p.Batch > 0 {
		return min(p.Publish, p.Batch)
	}
	return p.Publish + p.Batch // one of them is none
}

// notBefore is when a change of a subject may go out.
func (m *Machine) notBefore(s *stream, subject Ref) (at Instant) {
	if sent := s.sent[subject]; sent != 0 {
		at = sent.Add(m.policy.Publish)
	}
	if s.told != 0 {
		at = max(at, s.told.Add(m.policy.Batch))
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
		old, had := s.rows[subject]
		if !had {
			old = new(row)
		}
		next := new(row)
		if p := r.members[subject]; p != nil {
			next = r.row(s.key, p)
			s.put(subject, next)
		} else if had {
			s.drop(subject)
		}
		change, ok := compareRows(subject, old, next)
		if ok {
			changes = append(changes, change)
		}
		interval, gone := r.m.policy.Publish, r.members[subject] == nil
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
	s.group, s.last = group, nil
	if r.m.policy.Batch > 0 && !r.alone {
		s.told = now
	}
	s.seq++
	f := newFrame(FrameDiff, s)
	f.Changes = changes
	s.remember(f, r.recall)
	return f
}

// remember keeps a diff for those who come back, in place of the oldest.
func (s *stream) remember(f *Frame, limit int) {
	if over := len(s.recent) + 1 - limit; over > 0 {
		s.recent = slices.Delete(s.recent, 0, min(over, len(s.recent)))
	}
	if limit > 0 {
		s.recent = append(s.recent, f)
	}
}

func compareRows(subject Ref, old, next *row) (Change, bool) {
	c := Change{Op: OpUpdated, Subject: subject}
	if next.listed {
		c.View = &next.view
	}
	switch {
	case next.present && !old.present:
		c.Op = OpJoined
	case old.present && !next.present:
		c.Op = OpLeft
	case old.listed == next.listed && (!next.listed || old.view == next.view):
		return c, false
	}
	return c, true
}

func (s *stream) put(subject Ref, next *row) {
	s.drop(subject)
	s.rows[subject] = next
	s.count(next, +1)
}

func (s *stream) drop(subject Ref) {
	if old, had := s.rows[subject]; had {
		s.count(old, -1)
		delete(s.rows, subject)
	}
}

// count adds a row to what the group sums up, or takes it away.
func (s *stream) count(r *row, n int) {
	s.rungs[r.rung] += n
	if r.present {
		s.group.Count += n
	}
}

// sum is the group as the rows have it.
func (s *stream) sum() Group {
	g := Group{Rung: RungOffline, Count: s.group.Count}
	for i, n := range s.rungs {
		if n > 0 {
			g.Rung = rungs[i]
			break
		}
	}
	return g
}

// snapshot returns the whole list, made once however many ask for it.
func (s *stream) snapshot() *Frame {
	if s.last != nil {
		return s.last
	}
	s.last = newFrame(FrameSnapshot, s)
	for _, subject := range slices.SortedFunc(maps.Keys(s.rows), compareRefs) {
		if row := s.rows[subject]; row.listed {
			s.last.Members = append(s.last.Members, row.view)
		}
	}
	return s.last
}

// checkAudience checks that an audience is one of the closed list.
func checkAudience(a Audience) error {
	if !slices.Contains(audiences, a) {
		return fmt.Errorf("presence: %w audience %q: allowed are %s", ErrInvalid, a, join(audiences))
	}
	return nil
}
