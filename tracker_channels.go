package presence

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
)

// Members returns the members of a channel, connected or not, ordered by id.
func (t *Tracker) Members(channel Channel) ([]Ref, error) {
	if err := checkRef("channel", Ref(channel)); err != nil {
		return nil, err
	}
	t.mu.RLock()
	defer t.mu.RUnlock()
	ch := t.channels[channel]
	if ch == nil {
		return nil, nil
	}
	var members []Ref
	for _, n := range ch.members() {
		members = append(members, t.ref(n))
	}
	slices.SortFunc(members, compareRefs)
	return members, nil
}

// Belongs reports whether a subject, connected or not, is a member of a channel. An
// unknown subject is a member of none.
func (t *Tracker) Belongs(_ context.Context, subject Ref, channel Channel) (bool, error) {
	if err := checkPair(subject, channel); err != nil {
		return false, err
	}
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.may(subject, channel), nil
}

// channelEntry is a channel, or a group that channels link to, with the hub of its
// watchers.
type channelEntry struct {
	ref     Channel
	n       uint32                          // its number in the channelTable
	granted []uint32                        // the subjects with a grant; guarded by Tracker.mu
	link    atomic.Pointer[channelEntry]    // the channel that it links to; changed under Tracker.mu
	linked  atomic.Pointer[[]*channelEntry] // the channels that link to it, in order; changed under Tracker.mu
	hub     atomic.Pointer[channelHub]      // set while the channel is watched, listed or has hours
	epochs  *epochs                         // of the channel's streams
}

// eachLinked calls f for the channels whose membership a grant of ch gives: those
// linked to ch, then ch.
func (ch *channelEntry) eachLinked(f func(*channelEntry)) {
	if l := ch.linked.Load(); l != nil {
		for _, o := range *l {
			f(o)
		}
	}
	f(ch)
}

// members returns the subjects that belong to the channel. The caller holds
// Tracker.mu.
func (ch *channelEntry) members() []uint32 {
	link := ch.link.Load()
	if link == nil || link == ch {
		return slices.Clone(ch.granted)
	}
	list := slices.Concat(ch.granted, link.granted)
	slices.Sort(list)
	return slices.Compact(list)
}

// empty reports whether the channel has no members. The caller holds Tracker.mu.
func (ch *channelEntry) empty() bool {
	link := ch.link.Load()
	return len(ch.granted) == 0 && (link == nil || len(link.granted) == 0)
}

func (ch *channelEntry) revoke(n uint32) {
	if i := slices.Index(ch.granted, n); i >= 0 {
		last := len(ch.granted) - 1
		ch.granted[i] = ch.granted[last]
		ch.granted = ch.granted[:last]
	}
}

// linkTo replaces the link of the channel. The caller holds Tracker.mu.
func (ch *channelEntry) linkTo(to *channelEntry) {
	replace := func(of *channelEntry, change func([]*channelEntry) []*channelEntry) {
		var list []*channelEntry
		if l := of.linked.Load(); l != nil {
			list = *l
		}
		list = change(slices.Clone(list))
		of.linked.Store(&list)
	}
	if old := ch.link.Load(); old != nil {
		replace(old, func(list []*channelEntry) []*channelEntry {
			return slices.DeleteFunc(list, func(o *channelEntry) bool { return o == ch })
		})
	}
	ch.link.Store(to)
	if to != ch {
		replace(to, func(list []*channelEntry) []*channelEntry {
			list = append(list, ch)
			slices.SortFunc(list, func(a, b *channelEntry) int { return compareRefs(Ref(a.ref), Ref(b.ref)) })
			return list
		})
	}
}

// unused reports whether the channel can be forgotten without loss.
func (ch *channelEntry) unused() bool {
	linked := ch.linked.Load()
	return len(ch.granted) == 0 && ch.hub.Load() == nil && ch.link.Load() == nil && (linked == nil || len(*linked) == 0)
}

// channelTable numbers channels and lists hubs.
type channelTable struct {
	mu   sync.RWMutex // guards the fields below; nothing is locked under it
	list []*channelEntry
	free []uint32
	hubs map[*channelHub]struct{}
	late map[*channelHub]struct{} // the hubs that hold changes back
}

func (r *channelTable) at(n uint32) *channelEntry {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.list[n]
}

func (r *channelTable) add(ch *channelEntry) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if last := len(r.free) - 1; last >= 0 {
		ch.n = r.free[last]
		r.free = r.free[:last]
		r.list[ch.n] = ch
		return
	}
	ch.n = uint32(len(r.list))
	r.list = append(r.list, ch)
}

func (r *channelTable) remove(ch *channelEntry) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.list[ch.n] = nil
	r.free = append(r.free, ch.n)
}

func (r *channelTable) addHub(h *channelHub) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.hubs == nil {
		r.hubs = make(map[*channelHub]struct{})
	}
	r.hubs[h] = struct{}{}
}

func (r *channelTable) removeHub(h *channelHub) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.hubs, h)
	delete(r.late, h)
}

// holdsBack records whether a hub holds changes back. The hub is locked.
func (r *channelTable) holdsBack(h *channelHub, late bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !late {
		delete(r.late, h)
		return
	}
	if r.late == nil {
		r.late = make(map[*channelHub]struct{})
	}
	r.late[h] = struct{}{}
}

// allHubs returns all hubs, ordered by channel.
func (r *channelTable) allHubs() []*channelHub {
	return r.inOrder(&r.hubs)
}

// lateHubs returns the hubs that hold changes back, ordered by channel.
func (r *channelTable) lateHubs() []*channelHub { return r.inOrder(&r.late) }

func (r *channelTable) inOrder(hubs *map[*channelHub]struct{}) []*channelHub {
	r.mu.RLock()
	list := slices.Collect(maps.Keys(*hubs))
	r.mu.RUnlock()
	slices.SortFunc(list, func(a, b *channelHub) int { return compareRefs(Ref(a.ref()), Ref(b.ref())) })
	return list
}

// grants returns the numbers of the channels that a subject has grants of.
func (h *loaded) grants() []uint32 {
	switch {
	case h.extra != nil:
		return h.extra.grants
	case h.sub.grant != 0:
		return []uint32{h.sub.grant - 1}
	}
	return nil
}

func (h *loaded) has(ch *channelEntry) bool {
	if h.extra != nil {
		return slices.Contains(h.extra.grants, ch.n)
	}
	return h.sub.grant == ch.n+1
}

// member reports whether a subject belongs to a channel.
func (h *loaded) member(ch *channelEntry) bool {
	if h.has(ch) {
		return true
	}
	link := ch.link.Load()
	return link != nil && h.has(link)
}

// grant adds a grant that the subject does not have. The caller holds Tracker.mu.
func (h *loaded) grant(ch *channelEntry) {
	if h.extra == nil && h.sub.grant == 0 {
		h.sub.grant = ch.n + 1
	} else {
		m := h.need()
		m.grants = append(m.grants, ch.n)
	}
	ch.granted = append(ch.granted, h.n)
}

// revoke removes a grant. The caller holds Tracker.mu.
func (h *loaded) revoke(ch *channelEntry) {
	ch.revoke(h.n)
	if h.extra == nil {
		h.sub.grant = 0
		return
	}
	h.extra.grants = slices.DeleteFunc(h.extra.grants, func(n uint32) bool { return n == ch.n })
	h.spare()
}

// mustBelong returns ErrNotAllowed unless an actor is a member of a channel.
func (t *Tracker) mustBelong(actor Actor, channel Channel) error {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if !t.may(actor.Subject, channel) {
		return noGrant(actor.Subject, channel)
	}
	return nil
}

func noGrant(subject Ref, channel Channel) error {
	return refuse(ErrNotAllowed, "actor", subject.String(), "it has no grant of channel %s", channel)
}

// lookAt returns the hub of a channel, filled with the members. It makes the
// channel and the hub if they do not exist.
func (t *Tracker) lookAt(channel Channel) (*channelHub, error) {
	var hub *channelHub
	t.mu.RLock()
	if ch := t.channels[channel]; ch != nil {
		hub = ch.hub.Load()
	}
	t.mu.RUnlock()
	if hub == nil {
		t.mu.Lock()
		ch, err := t.channelLocked(channel)
		if err != nil {
			t.mu.Unlock()
			return nil, err
		}
		hub = t.hubLocked(ch)
		t.mu.Unlock()
	}
	t.fill(hub)
	return hub, nil
}

// lookAtKnown is lookAt for a known channel. For an unknown one it returns nil.
func (t *Tracker) lookAtKnown(channel Channel) (*channelHub, error) {
	t.mu.RLock()
	known := t.channels[channel] != nil
	t.mu.RUnlock()
	if !known {
		return nil, nil
	}
	return t.lookAt(channel)
}

// may reports whether a subject belongs to a channel. The caller holds t.mu.
func (t *Tracker) may(subject Ref, channel Channel) bool {
	ch := t.channels[channel]
	if ch == nil {
		return false
	}
	w, flags := t.find(subject)
	if flags&flagUsed == 0 {
		return false // unknown
	}
	h := t.lock(w.n, subject)
	if h == nil {
		return false
	}
	defer h.unlock()
	return h.member(ch)
}

// forgetLocked forgets a channel if it is unused. The caller holds t.mu.
func (t *Tracker) forgetLocked(ch *channelEntry) {
	if ch.unused() && t.channels[ch.ref] == ch {
		delete(t.channels, ch.ref)
		t.channelTable.remove(ch)
	}
}

// channelLocked returns a channel, which it adds if it is unknown. It returns
// ErrLimit at Options.MaxChannels. The caller holds t.mu.
func (t *Tracker) channelLocked(ref Channel) (*channelEntry, error) {
	if ch := t.channels[ref]; ch != nil {
		return ch, nil
	}
	if len(t.channels) >= t.opts.MaxChannels {
		return nil, refuse(ErrLimit, "channel", ref.String(), "%d channels are known, the most allowed", t.opts.MaxChannels)
	}
	ch := &channelEntry{ref: ref}
	t.channelTable.add(ch)
	t.channels[ref] = ch
	return ch, nil
}

// AddMember adds a subject, connected or not, to a channel and to the channels
// linked to it. Membership is not stored: add members again when the process
// starts. Adding a member again changes nothing. It returns ErrLimit if the subject
// would be in more than 256 channels.
func (t *Tracker) AddMember(ctx context.Context, channel Channel, subject Ref) error {
	if err := checkPair(subject, channel); err != nil {
		return err
	}
	who, err := t.subject(ctx, subject)
	if err != nil {
		return err
	}
	now := t.time.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	ch, err := t.channelLocked(channel)
	if err != nil {
		return err
	}
	defer t.forgetLocked(ch) // if it is unused
	h := t.lock(who.n, subject)
	if h == nil {
		return who.gone()
	}
	defer h.unlock()
	if err := h.room(ch); err != nil {
		return err
	}
	return h.join(ch, now)
}

// SetMembers makes exactly these subjects the members of a channel in one step. It
// adds and removes them in the order of their ids. Members by a link stay. It returns ErrLimit if one of the subjects
// would be in more than 256 channels. After an error the members are unchanged.
func (t *Tracker) SetMembers(ctx context.Context, channel Channel, subjects ...Ref) error {
	if err := checkRef("channel", Ref(channel)); err != nil {
		return err
	}
	if t.closed.Load() {
		return t.closedError()
	}
	wanted := make(map[Ref]handle, len(subjects))
	for _, subject := range subjects {
		if err := checkPair(subject, channel); err != nil {
			return err
		}
	}
	for _, subject := range subjects {
		who, err := t.subject(ctx, subject)
		if err != nil {
			return err
		}
		wanted[subject] = who
	}
	now := t.time.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	ch, err := t.channelLocked(channel)
	if err != nil {
		return err
	}
	defer t.forgetLocked(ch) // if it is unused
	return t.changeMembers(ch, wanted, now)
}

// changeMembers makes the wanted subjects the members of a channel, or changes
// nothing. The caller holds t.mu.
func (t *Tracker) changeMembers(ch *channelEntry, wanted map[Ref]handle, now Instant) error {
	var changing []handle
	for _, n := range ch.granted {
		ref := t.ref(n)
		if _, stays := wanted[ref]; !stays {
			changing = append(changing, handle{n: n, ref: ref})
		}
	}
	for ref, who := range wanted {
		h := t.lock(who.n, ref)
		if h == nil {
			return who.gone()
		}
		member := h.has(ch)
		err := h.room(ch)
		h.unlock()
		if err != nil {
			return err
		}
		if !member {
			changing = append(changing, who)
		}
	}
	slices.SortFunc(changing, func(a, b handle) int { return compareRefs(a.ref, b.ref) })
	var err error
	for _, who := range changing {
		h := t.lock(who.n, who.ref)
		if h == nil {
			continue // impossible, since erasing needs t.mu
		}
		if _, stays := wanted[who.ref]; stays {
			err = errors.Join(err, h.join(ch, now))
		} else {
			h.quit(ch, now)
		}
		h.unlock()
	}
	return err
}

// room returns ErrLimit if a grant would make the subject a member of too many
// channels.
func (h *loaded) room(ch *channelEntry) error {
	if len(h.grants()) > 0 || ch.linked.Load() != nil {
		in := h.channels()
		ch.eachLinked(func(ch *channelEntry) { in[ch] = struct{}{} })
		if len(in) > MaxChannels {
			return h.crowded()
		}
	}
	return nil
}

// join makes a subject a member of a channel and of the channels linked to it.
func (h *loaded) join(ch *channelEntry, now Instant) error {
	if err := h.step(&Event{Kind: EventGrant, Subject: h.ref}, now); err != nil {
		return err
	}
	if h.has(ch) {
		return nil
	}
	ch.eachLinked(func(ch *channelEntry) {
		if !h.member(ch) {
			h.enter(ch, now)
		}
	})
	h.grant(ch)
	return nil
}

// quit removes the grant of a subject. The subject leaves the channels that it no
// longer belongs to.
func (h *loaded) quit(ch *channelEntry, now Instant) {
	if !h.has(ch) {
		return
	}
	h.step(&Event{Kind: EventTick}, now)
	h.revoke(ch)
	ch.eachLinked(func(ch *channelEntry) {
		if !h.member(ch) {
			h.exit(ch, now)
		}
	})
}

// channels returns the channels that a subject belongs to.
func (h *loaded) channels() map[*channelEntry]struct{} {
	in := make(map[*channelEntry]struct{})
	for _, n := range h.grants() {
		h.t.channelTable.at(n).eachLinked(func(ch *channelEntry) { in[ch] = struct{}{} })
	}
	return in
}

func (h *loaded) crowded() error {
	return refuse(ErrLimit, "subject", h.ref.String(), "it would be a member of more than %d channels", MaxChannels)
}

// linkable returns ErrLimit if a link would make a subject a member of too many
// channels. The caller holds t.mu.
func (t *Tracker) linkable(ch, to *channelEntry) (err error) {
	for _, n := range to.granted {
		if h := t.lockByNumber(n); h != nil {
			if !h.member(ch) && len(h.channels()) >= MaxChannels {
				err = h.crowded()
			}
			h.unlock()
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// RemoveMember removes a subject from a channel. The subject leaves the channels
// that it no longer belongs to in the same step, and its own watches of them end.
func (t *Tracker) RemoveMember(ctx context.Context, channel Channel, subject Ref) error {
	if err := checkPair(subject, channel); err != nil {
		return err
	}
	who, err := t.known(ctx, subject)
	if err != nil {
		return err
	}
	now := t.time.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	ch := t.channels[channel]
	if ch == nil {
		return nil
	}
	defer t.forgetLocked(ch)
	h := t.lock(who.n, subject)
	if h == nil {
		return who.gone()
	}
	defer h.unlock()
	h.quit(ch, now)
	return nil
}

// Link makes the members of a group, such as an inbox, members of a channel too. It
// replaces the link that the channel had. Links are not stored: set them again when
// the process starts.
func (t *Tracker) Link(ctx context.Context, channel, group Channel) error {
	if err := checkPair(Ref(channel), group); err != nil {
		return err
	}
	if t.closed.Load() {
		return t.closedError()
	}
	now := t.time.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	ch, err := t.channelLocked(channel)
	if err != nil {
		return err
	}
	other, err := t.channelLocked(group)
	if err != nil {
		t.forgetLocked(ch)
		return err
	}
	if err := t.linkable(ch, other); err != nil {
		t.forgetLocked(ch)
		t.forgetLocked(other)
		return err
	}
	old := ch.link.Load()
	before := ch.members()
	ch.linkTo(other)
	after := ch.members()
	if old != nil {
		defer t.forgetLocked(old)
	}
	move := func(members, others []uint32, do func(*loaded)) {
		inOthers := make(map[uint32]struct{}, len(others))
		for _, n := range others {
			inOthers[n] = struct{}{}
		}
		for _, n := range members {
			if _, stays := inOthers[n]; stays {
				continue
			}
			if h := t.lockByNumber(n); h != nil {
				h.step(&Event{Kind: EventTick}, now)
				do(h)
				h.unlock()
			}
		}
	}
	move(before, after, func(h *loaded) { h.exit(ch, now) })
	move(after, before, func(h *loaded) { h.enter(ch, now) })
	return nil
}

// enter reports that a subject has become a member of a channel. It adds the
// subject to the hub of the channel, if the channel has one.
func (h *loaded) enter(ch *channelEntry, now Instant) {
	h.t.report(h.ref, OutputGranted, ch.ref, now)
	if hub := ch.hub.Load(); hub != nil {
		hub.put(h.current(), now)
		h.t.sendHeldBack(h.m, now)
	}
}

// exit reports that a subject is no member of a channel any more. It removes the
// subject from the hub of the channel, if the channel has one.
func (h *loaded) exit(ch *channelEntry, now Instant) {
	h.t.report(h.ref, OutputRevoked, ch.ref, now)
	if hub := ch.hub.Load(); hub != nil {
		hub.remove(h.ref, now, noGrant(h.ref, ch.ref))
		h.t.sendHeldBack(h.m, now)
	}
}

// Join returns nil if the actor is a member of a channel, else [ErrNotAllowed]. It
// adds no member, since membership follows from grants and links.
func (t *Tracker) Join(ctx context.Context, by Actor, channel Channel) error {
	if err := checkPair(by.Subject, channel); err != nil {
		return err
	}
	if err := t.allow(ctx, Question{Actor: by, Action: ActionJoin, Channel: channel}); err != nil {
		return err
	}
	return t.mustBelong(by, channel)
}

// List returns the members of a channel that an actor may list, ordered by id, and
// the group. An agent must be a member. It returns [ErrNotAllowed] if the
// authorizer refuses or the channel is of another tenant.
func (t *Tracker) List(ctx context.Context, by Actor, channel Channel) ([]View, Group, error) {
	if err := checkRef("channel", Ref(channel)); err != nil {
		return nil, Group{}, err
	}
	if err := t.allow(ctx, Question{Actor: by, Action: ActionSee, Channel: channel}); err != nil {
		return nil, Group{}, err
	}
	if by.Audience() == AudienceTeam {
		if err := t.mustBelong(by, channel); err != nil {
			return nil, Group{}, err
		}
	}
	return t.ListAs(ctx, by.Audience(), channel, nil)
}

// ListAs appends the members of a channel that an audience may list to into,
// ordered by id. It also returns the group. A channel without members has the group
// status offline. A channel keeps a list for a minute; until a member changes,
// another call copies it. ListAs asks no authorizer. It is for the host. It returns
// [ErrInvalid] for AudienceSelf, since a list has no viewer.
func (t *Tracker) ListAs(_ context.Context, a Audience, channel Channel, into []View) ([]View, Group, error) {
	if err := checkRef("channel", Ref(channel)); err != nil {
		return into, Group{}, err
	}
	if err := checkAudience(a); err != nil {
		return into, Group{}, err
	}
	if a == AudienceSelf {
		return into, Group{}, refuse(ErrInvalid, "audience", string(a), "a list has no viewer")
	}
	t.meetDeadlines()
	group := Group{Status: GroupOffline}
	err := t.useHub(func() (*channelHub, error) { return t.lookAtKnown(channel) }, func(hub *channelHub) (bool, error) {
		now := t.time.Now()
		return hub.use(func(r *Roster) {
			hub.listed = now
			var list []View
			list, group = r.list(a, Ref{})
			into = append(into, list...)
		}), nil
	})
	if err != nil {
		return into, Group{}, err
	}
	return into, group, nil
}

// checkPair checks two names, which must be of one tenant.
func checkPair(a Ref, b Channel) error {
	if err := checkRef("subject", a); err != nil {
		return err
	}
	if err := checkRef("channel", Ref(b)); err != nil {
		return err
	}
	if a.Tenant != b.Tenant {
		return refuse(ErrNotAllowed, "tenant", a.Tenant, "%s and %s are of different tenants", a, b)
	}
	return nil
}
