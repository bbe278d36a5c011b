package presence

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
)

// Members returns who belongs to a channel by grant, connected or not, in order.
func (t *Tracker) Members(channel Ref) ([]Ref, error) {
	if err := checkRef("channel", channel); err != nil {
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

// channel is something that subjects are granted, and those who watch it.
type channel struct {
	ref     Ref
	n       uint32                     // its number
	granted []uint32                   // the subjects that have a grant; under the tracker's lock
	link    atomic.Pointer[channel]    // what it is linked to; changed under the tracker's lock
	linked  atomic.Pointer[[]*channel] // what is linked to it, in order; likewise
	hub     atomic.Pointer[hub]        // once somebody looks at it
	epochs  *epochs                    // of its streams
}

// eachThing calls f for the channels of which a grant of ch gives membership, ch
// last.
func (ch *channel) eachThing(f func(*channel)) {
	if l := ch.linked.Load(); l != nil {
		for _, o := range *l {
			f(o)
		}
	}
	f(ch)
}

// members are the subjects that belong to the channel, under the tracker's lock.
func (ch *channel) members() []uint32 {
	link := ch.link.Load()
	if link == nil || link == ch {
		return slices.Clone(ch.granted)
	}
	list := slices.Concat(ch.granted, link.granted)
	slices.Sort(list)
	return slices.Compact(list)
}

func (ch *channel) revoke(n uint32) {
	if i := slices.Index(ch.granted, n); i >= 0 {
		last := len(ch.granted) - 1
		ch.granted[i] = ch.granted[last]
		ch.granted = ch.granted[:last]
	}
}

// linkTo links the channel to something else than before.
func (ch *channel) linkTo(to *channel) {
	replace := func(of *channel, change func([]*channel) []*channel) {
		var list []*channel
		if l := of.linked.Load(); l != nil {
			list = *l
		}
		list = change(slices.Clone(list))
		of.linked.Store(&list)
	}
	if old := ch.link.Load(); old != nil {
		replace(old, func(list []*channel) []*channel {
			return slices.DeleteFunc(list, func(o *channel) bool { return o == ch })
		})
	}
	ch.link.Store(to)
	if to != ch {
		replace(to, func(list []*channel) []*channel {
			list = append(list, ch)
			slices.SortFunc(list, func(a, b *channel) int { return compareRefs(a.ref, b.ref) })
			return list
		})
	}
}

// unused reports whether forgetting the channel loses nothing.
func (ch *channel) unused() bool {
	linked := ch.linked.Load()
	return len(ch.granted) == 0 && ch.hub.Load() == nil && ch.link.Load() == nil && (linked == nil || len(*linked) == 0)
}

// rooms numbers channels, and knows those that somebody looks at.
type rooms struct {
	mu   sync.RWMutex // a leaf: nothing is locked under it
	list []*channel
	free []uint32
	hubs map[*hub]struct{}
	late map[*hub]struct{} // those that hold changes back
}

func (r *rooms) at(n uint32) *channel {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.list[n]
}

func (r *rooms) add(ch *channel) {
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

func (r *rooms) remove(ch *channel) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.list[ch.n] = nil
	r.free = append(r.free, ch.n)
}

func (r *rooms) addHub(h *hub) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.hubs == nil {
		r.hubs = make(map[*hub]struct{})
	}
	r.hubs[h] = struct{}{}
}

func (r *rooms) removeHub(h *hub) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.hubs, h)
	delete(r.late, h)
}

// holdsBack notes whether a hub, which is locked, holds changes back.
func (r *rooms) holdsBack(h *hub, late bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !late {
		delete(r.late, h)
		return
	}
	if r.late == nil {
		r.late = make(map[*hub]struct{})
	}
	r.late[h] = struct{}{}
}

// allHubs returns all hubs, in the order of their channels.
func (r *rooms) allHubs() []*hub {
	return r.inOrder(&r.hubs)
}

// lateHubs returns those that hold changes back, in the same order.
func (r *rooms) lateHubs() []*hub { return r.inOrder(&r.late) }

func (r *rooms) inOrder(hubs *map[*hub]struct{}) []*hub {
	r.mu.RLock()
	list := slices.Collect(maps.Keys(*hubs))
	r.mu.RUnlock()
	slices.SortFunc(list, func(a, b *hub) int { return compareRefs(a.ref(), b.ref()) })
	return list
}

// grants returns the channels that a subject has grants of.
func (h *held) grants() []uint32 {
	switch {
	case h.more != nil:
		return h.more.grants
	case h.sub.grant != 0:
		return []uint32{h.sub.grant - 1}
	}
	return nil
}

func (h *held) has(ch *channel) bool {
	if h.more != nil {
		return slices.Contains(h.more.grants, ch.n)
	}
	return h.sub.grant == ch.n+1
}

// member reports whether a subject belongs to a channel.
func (h *held) member(ch *channel) bool {
	if h.has(ch) {
		return true
	}
	link := ch.link.Load()
	return link != nil && h.has(link)
}

// grant notes a grant that is new.
func (h *held) grant(ch *channel) {
	if h.more == nil && h.sub.grant == 0 {
		h.sub.grant = ch.n + 1
	} else {
		m := h.need()
		m.grants = append(m.grants, ch.n)
	}
	ch.granted = append(ch.granted, h.n)
}

// revoke takes a grant away.
func (h *held) revoke(ch *channel) {
	ch.revoke(h.n)
	if h.more == nil {
		h.sub.grant = 0
		return
	}
	h.more.grants = slices.DeleteFunc(h.more.grants, func(n uint32) bool { return n == ch.n })
	h.spare()
}

// mustBelong refuses an actor who does not belong to a channel.
func (t *Tracker) mustBelong(actor Actor, channel Ref) error {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if !t.may(actor.Ref, channel) {
		return fmt.Errorf("presence: %w: %s has no grant of channel %s", ErrNotAllowed, actor.Ref, channel)
	}
	return nil
}

// lookAt returns the hub of a channel with its members in it.
func (t *Tracker) lookAt(channel Ref) (*hub, error) {
	t.mu.Lock()
	ch, err := t.channelLocked(channel)
	if err != nil {
		t.mu.Unlock()
		return nil, err
	}
	hub := t.hubLocked(ch)
	t.mu.Unlock()
	t.fill(hub)
	return hub, nil
}

// may reports whether a subject belongs to a channel, under t.mu.
func (t *Tracker) may(subject, channel Ref) bool {
	ch := t.channels[channel]
	if ch == nil {
		return false
	}
	w, flags := t.find(subject)
	if flags&flagUsed == 0 {
		return false // nobody has heard of it
	}
	h := t.hold(w.n, subject)
	if h == nil {
		return false
	}
	defer h.release()
	return h.member(ch)
}

// forgetLocked drops a channel that nobody uses, under t.mu.
func (t *Tracker) forgetLocked(ch *channel) {
	if ch.unused() && t.channels[ch.ref] == ch {
		delete(t.channels, ch.ref)
		t.rooms.remove(ch)
	}
}

// channelLocked returns a channel, made where there is none, under t.mu.
func (t *Tracker) channelLocked(ref Ref) (*channel, error) {
	if ch := t.channels[ref]; ch != nil {
		return ch, nil
	}
	if len(t.channels) >= t.opts.MaxChannels {
		return nil, fmt.Errorf("presence: %w: %d channels are known already", ErrLimit, t.opts.MaxChannels)
	}
	ch := &channel{ref: ref}
	t.rooms.add(ch)
	t.channels[ref] = ch
	return ch, nil
}

// Grant gives a subject access to something: a channel, or what channels are
// linked to, such as an inbox. The subject becomes a member of those channels,
// connected or not. Grants are not stored: say them again when the process
// starts. Granting again changes nothing.
func (t *Tracker) Grant(ctx context.Context, subject, to Ref) error {
	if err := checkPair(subject, to); err != nil {
		return err
	}
	who, err := t.subject(ctx, subject)
	if err != nil {
		return err
	}
	now := t.time.now()
	t.mu.Lock()
	defer t.mu.Unlock()
	ch, err := t.channelLocked(to)
	if err != nil {
		return err
	}
	defer t.forgetLocked(ch) // if nothing came of it
	h := t.hold(who.n, subject)
	if h == nil {
		return who.gone()
	}
	defer h.release()
	if len(h.grants()) > 0 || ch.linked.Load() != nil {
		in := h.channels()
		ch.eachThing(func(ch *channel) { in[ch] = struct{}{} })
		if len(in) > MaxChannels {
			return h.crowded()
		}
	}
	if err := h.step(&Event{Kind: EventGrant, Subject: subject}, now); err != nil {
		return err
	}
	if h.has(ch) {
		return nil
	}
	h.grant(ch)
	ch.eachThing(func(ch *channel) { h.enter(ch, now) })
	return nil
}

// channels returns the channels that a subject is in.
func (h *held) channels() map[*channel]struct{} {
	in := make(map[*channel]struct{})
	for _, n := range h.grants() {
		h.t.rooms.at(n).eachThing(func(ch *channel) { in[ch] = struct{}{} })
	}
	return in
}

func (h *held) crowded() error {
	return fmt.Errorf("presence: %w: %s would be in more than %d channels", ErrLimit, h.ref, MaxChannels)
}

// linkable refuses a link that would put somebody into too many channels, under
// t.mu.
func (t *Tracker) linkable(ch, to *channel) (err error) {
	for _, n := range to.granted {
		if h := t.holdAny(n); h != nil {
			if !h.member(ch) && len(h.channels()) >= MaxChannels {
				err = h.crowded()
			}
			h.release()
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// Revoke takes access away again. The subject leaves the channels it no longer
// belongs to in the same step, and its own watches of them end.
func (t *Tracker) Revoke(ctx context.Context, subject, to Ref) error {
	if err := checkPair(subject, to); err != nil {
		return err
	}
	who, err := t.known(ctx, subject)
	if err != nil {
		return err
	}
	now := t.time.now()
	t.mu.Lock()
	defer t.mu.Unlock()
	ch := t.channels[to]
	if ch == nil {
		return nil
	}
	defer t.forgetLocked(ch)
	h := t.hold(who.n, subject)
	if h == nil {
		return who.gone()
	}
	defer h.release()
	if !h.has(ch) {
		return nil
	}
	h.step(&Event{Kind: EventTick}, now)
	h.revoke(ch)
	ch.eachThing(func(ch *channel) {
		if !h.member(ch) {
			h.exit(ch, now)
		}
	})
	return nil
}

// Link makes a channel's members those who are granted to, instead of those of
// what it was linked to before. Links are not stored.
func (t *Tracker) Link(ctx context.Context, channel, to Ref) error {
	if err := checkPair(channel, to); err != nil {
		return err
	}
	if t.closed.Load() {
		return t.closedError()
	}
	now := t.time.now()
	t.mu.Lock()
	defer t.mu.Unlock()
	ch, err := t.channelLocked(channel)
	if err != nil {
		return err
	}
	other, err := t.channelLocked(to)
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
	move := func(members, others []uint32, do func(*held)) {
		inOthers := make(map[uint32]struct{}, len(others))
		for _, n := range others {
			inOthers[n] = struct{}{}
		}
		for _, n := range members {
			if _, there := inOthers[n]; there {
				continue
			}
			if h := t.holdAny(n); h != nil {
				h.step(&Event{Kind: EventTick}, now)
				do(h)
				h.release()
			}
		}
	}
	move(before, after, func(h *held) { h.exit(ch, now) })
	move(after, before, func(h *held) { h.enter(ch, now) })
	return nil
}

// enter shows a subject to those who look at a channel.
func (h *held) enter(ch *channel, now Instant) {
	if hub := ch.hub.Load(); hub != nil {
		hub.put(h.current(), now)
		h.t.sendHeldBack(h.m, now)
	}
}

// exit takes it away from them.
func (h *held) exit(ch *channel, now Instant) {
	if hub := ch.hub.Load(); hub != nil {
		hub.remove(h.ref, now, fmt.Errorf("presence: %w: the access of %s to channel %s has been removed", ErrNotAllowed, h.ref, ch.ref))
		h.t.sendHeldBack(h.m, now)
	}
}

// Join asks for membership of a channel. Membership follows grants by itself,
// so that asking only tells whether there is one.
func (t *Tracker) Join(ctx context.Context, actor Actor, channel Ref) error {
	if err := checkPair(actor.Ref, channel); err != nil {
		return err
	}
	if err := t.allow(ctx, actor, ActionJoin, actor.Ref, channel.ID); err != nil {
		return err
	}
	return t.mustBelong(actor, channel)
}

// List returns the members of a channel that an audience may list, by id, and
// the group they add up to; of a channel that nobody belongs to, none and the rung
// offline. The viewer, who sees its own row in full, matters for the audience self
// alone. It asks no authorizer: it is for the host.
func (t *Tracker) List(ctx context.Context, channel Ref, a Audience, viewer Ref) ([]View, Group, error) {
	return t.AppendList(ctx, nil, channel, a, viewer)
}

// AppendList is like List and appends the members to views, so that a caller who
// asks often can use the same memory again. A channel that is listed keeps its
// list at hand for a minute; while nothing changes, listing is copying.
func (t *Tracker) AppendList(_ context.Context, views []View, channel Ref, a Audience, viewer Ref) ([]View, Group, error) {
	if err := checkRef("channel", channel); err != nil {
		return views, Group{}, err
	}
	if err := checkAudience(a); err != nil {
		return views, Group{}, err
	}
	t.meetDeadlines()
	for !t.closed.Load() {
		t.mu.RLock()
		ch := t.channels[channel]
		var hub *hub
		if ch != nil {
			hub = ch.hub.Load()
		}
		t.mu.RUnlock()
		if ch == nil {
			return views, Group{Rung: RungOffline}, nil
		}
		if hub == nil {
			var err error
			if hub, err = t.lookAt(channel); err != nil {
				return views, Group{}, err
			}
		}
		t.fill(hub)
		if views, group, ok := hub.list(views, a, viewer, t.time.now()); ok {
			return views, group, nil
		} // otherwise it has just been closed
	}
	return views, Group{}, t.closedError()
}

// checkPair checks two names that must belong to one tenant.
func checkPair(a, b Ref) error {
	if err := checkRef("subject", a); err != nil {
		return err
	}
	if err := checkRef("channel", b); err != nil {
		return err
	}
	if a.Tenant != b.Tenant {
		return fmt.Errorf("presence: %w: %s and %s are of different tenants", ErrNotAllowed, a, b)
	}
	return nil
}
