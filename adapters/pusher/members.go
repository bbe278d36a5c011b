package pusher

import (
	"bytes"
	"context"
	"encoding/json"
	"reflect"
	"strings"
	"sync"

	"github.com/presence-go/presence"
)

// userInfo is what clients get of a member beside what the app signs of the
// user: all fields of the view of their audience. If the app has an id, the
// app's is used, since it need not be text.
type userInfo struct {
	*plainView
	ID json.RawMessage `json:"id,omitempty"`
}

// plainView is a view without its methods, so that its fields are encoded without
// tenant and id.
type plainView presence.View

// reserved are the names of the fields of a view.
var reserved = func() (names []string) {
	for _, field := range reflect.VisibleFields(reflect.TypeFor[presence.View]()) {
		if name, _, _ := strings.Cut(field.Tag.Get("json"), ","); name != "" && name != "-" {
			names = append(names, name)
		}
	}
	return names
}()

// ownInfo returns the app's info of a user without reserved fields, or nil if
// it is no JSON object. It adds an id, without which Laravel Echo shows
// nothing.
func ownInfo(id, info json.RawMessage) json.RawMessage {
	var fields map[string]json.RawMessage
	if len(info) > maxUserInfo || json.Unmarshal(info, &fields) != nil {
		return nil
	}
	for _, name := range reserved {
		delete(fields, name)
	}
	if fields == nil {
		return nil
	}
	if fields["id"] == nil {
		fields["id"] = id
	}
	return text(fields)
}

// infoOf joins what the app signed of a member and its view.
func infoOf(v *presence.View, own signature) json.RawMessage {
	if own.info == nil {
		return text(userInfo{(*plainView)(v), own.id})
	}
	seen := text(userInfo{plainView: (*plainView)(v)})
	return append(append(own.info[:len(own.info)-1:len(own.info)-1], ','), seen[1:]...)
}

// signature is what an app signed of a user: the id, a text or a number, and the
// info or nil. A zero signature means that nothing is known.
type signature struct{ id, info json.RawMessage }

func (s signature) equal(to signature) bool {
	return bytes.Equal(s.id, to.id) && bytes.Equal(s.info, to.info)
}

// profileKey is a user in a channel. Without a channel it is the user who signed
// in, which counts in the channels for which nothing was signed.
type profileKey struct{ user, channel string }

// profiles keeps what an app signed of its users, for each of their channels.
// A channel is shown nothing that was signed for another.
type profiles struct {
	h   *Handler
	app *App

	mu      sync.Mutex
	all     map[profileKey]*profile
	left    map[profileKey]bool // those without a subscription, which may be forgotten
	changes uint64
}

// profile is what an app signed of a user for a channel. The first subscription
// counts until the user has no subscription to the channel any more. It is shown
// on until the user subscribes again, since a member may stay without a
// subscription.
type profile struct {
	key    profileKey
	uses   int // subscriptions
	signed signature
	// held is what was shown before to each audience from which the user hid when
	// signed arrived: a change would betray that the user is connected.
	held map[presence.Audience]signature
}

// shown returns what an audience is shown.
func (p *profile) shown(a presence.Audience) signature {
	if p == nil {
		return signature{}
	}
	if held, hidden := p.held[a]; hidden {
		return held
	}
	return p.signed
}

// audiences are the audiences from which a subject can hide.
var audiences = [...]presence.Audience{
	presence.AudienceTeam, presence.AudienceSupervisor, presence.AudienceAdmin, presence.AudienceVisitor, presence.AudienceRouter,
}

// enter notes what a subscription brought of its user, and reports whether that
// changes what is shown. It returns nil if there is no room for it. The caller
// passes the profile to leave.
func (p *profiles) enter(u signedUser, channel string) (_ *profile, news bool) {
	signed := signature{id: u.id}
	if p.h.opts.UserInfo == nil {
		signed.info = ownInfo(u.id, u.Info)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	key := profileKey{u.ID, channel}
	old := p.all[key]
	switch {
	case old != nil && (old.uses > 0 || old.signed.equal(signed)):
		old.uses++
		delete(p.left, key)
		return old, false
	case old == nil && !p.roomLocked():
		return nil, false
	}
	next := &profile{key: key, uses: 1, signed: signed, held: make(map[presence.Audience]signature, len(audiences))}
	for _, a := range audiences {
		next.held[a] = p.shownLocked(key, a) // until settle
	}
	p.all[key] = next
	delete(p.left, key)
	p.changes++
	return next, true
}

// roomLocked reports whether a profile fits. It forgets one of a user that has
// left, if it must.
func (p *profiles) roomLocked() bool {
	if len(p.all) < p.h.opts.MaxUsers {
		return true
	}
	for key := range p.left {
		delete(p.left, key)
		delete(p.all, key)
		p.changes++
		return true
	}
	return false
}

// leave undoes enter.
func (p *profiles) leave(profile *profile) {
	if profile == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if profile.uses--; profile.uses == 0 {
		p.left[profile.key] = true
	}
}

// settle gives what was signed last of a user to the audiences that may know of
// it.
func (p *profiles) settle(ctx context.Context, user, channel string, among ...presence.Audience) {
	p.mu.Lock()
	profile := p.all[profileKey{user, channel}]
	var held []presence.Audience
	if profile != nil {
		for _, a := range among {
			if _, is := profile.held[a]; is {
				held = append(held, a)
			}
		}
	}
	p.mu.Unlock()
	for _, a := range held {
		if may, _ := p.h.t.MayReveal(ctx, a, presence.Ref{Tenant: p.app.Tenant, ID: user}); may {
			p.mu.Lock()
			delete(profile.held, a)
			p.changes++
			p.mu.Unlock()
		}
	}
}

// knows reports whether an audience is shown what was signed last.
func (p *profiles) knows(profile *profile, a presence.Audience) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, hidden := profile.held[a]
	return !hidden
}

// shownLocked returns what an audience is shown of a user in a channel: what was
// signed for the channel, else for the sign-in.
func (p *profiles) shownLocked(key profileKey, a presence.Audience) signature {
	if told := p.all[key].shown(a); told.id != nil {
		return told
	}
	return p.all[profileKey{user: key.user}].shown(a)
}

// of returns what the app shows of a subject in a channel, for an audience. Its
// id is never nil.
func (p *profiles) of(subject presence.Ref, channel string, a presence.Audience) signature {
	a = public(a)
	for _, at := range []string{channel, ""} {
		p.settle(context.Background(), subject.ID, at, a)
	}
	p.mu.Lock()
	told := p.shownLocked(profileKey{subject.ID, channel}, a)
	p.mu.Unlock()
	if told.id == nil {
		told.id = text(subject.ID)
	}
	if f := p.h.opts.UserInfo; f != nil {
		told.info = ownInfo(told.id, f(subject))
	}
	return told
}

// generation changes whenever the info of a user does.
func (p *profiles) generation() uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.changes
}

// listed reports whether a row of the tracker is a member.
func (h *Handler) listed(v *presence.View) bool {
	return v != nil && v.Subject.ID != unspeakable && (h.opts.Roster || v.Class != "" && v.Class != presence.ClassOffline)
}

type (
	memberData struct {
		UserID   json.RawMessage `json:"user_id"`
		UserInfo json.RawMessage `json:"user_info,omitempty"`
	}
	subscribedData struct {
		Presence membersData `json:"presence"`
	}
	membersData struct {
		Count int                        `json:"count"`
		IDs   []json.RawMessage          `json:"ids"`
		Hash  map[string]json.RawMessage `json:"hash"`
	}
)

// render turns a frame of the tracker into frames of a presence channel. A
// whole list has the form of the answer to a subscription, also later: clients
// replace their list with it.
func (ch *channel) render(f *presence.Frame, a presence.Audience) [][]byte {
	h, profiles := ch.hub.h, &ch.hub.profiles
	ch.rendered.Add(1)
	var frames [][]byte
	switch f.Kind {
	case presence.FrameSnapshot, presence.FrameRemoved:
		data := membersData{IDs: []json.RawMessage{}, Hash: make(map[string]json.RawMessage, len(f.Members))}
		for i := range f.Members {
			if v := &f.Members[i]; h.listed(v) {
				own := profiles.of(v.Subject, ch.name, a)
				data.IDs = append(data.IDs, own.id)
				data.Hash[v.Subject.ID] = infoOf(v, own)
			}
		}
		data.Count = len(data.IDs)
		frames = append(frames, say("pusher_internal:subscription_succeeded", ch.name, text(subscribedData{data})))
	case presence.FrameDiff:
		for i := range f.Changes {
			switch c := &f.Changes[i]; {
			case h.listed(c.View):
				frames = append(frames, ch.added(c.View, a))
			case c.Op == presence.OpLeft || h.opts.Roster:
				frames = append(frames, say("pusher_internal:member_removed", ch.name, text(memberData{UserID: profiles.of(c.Subject, ch.name, a).id})))
			}
		}
	}
	return frames
}

// added returns the frame that adds or replaces a member.
func (ch *channel) added(v *presence.View, a presence.Audience) []byte {
	own := ch.hub.profiles.of(v.Subject, ch.name, a)
	return say("pusher_internal:member_added", ch.name, text(memberData{own.id, infoOf(v, own)}))
}

// rendered is a frame of the tracker, turned once into frames for clients.
type rendered struct {
	from       *presence.Frame
	generation uint64
	to         func() [][]byte
}

// frames returns the frames for an audience of a frame of the tracker. It keeps
// the last few, since watchers of the same get them at about the same time.
func (ch *channel) frames(f *presence.Frame, a presence.Audience) [][]byte {
	generation := ch.hub.profiles.generation()
	ch.recent.Lock()
	var to func() [][]byte
	for _, r := range ch.last {
		if r.from == f && r.generation == generation {
			to = r.to
		}
	}
	if to == nil {
		to = sync.OnceValue(func() [][]byte { return ch.render(f, a) })
		ch.last[ch.oldest] = rendered{f, generation, to}
		ch.oldest = (ch.oldest + 1) % len(ch.last)
	}
	ch.recent.Unlock()
	return to()
}
