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
	ID string `json:"id,omitempty"`
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
func ownInfo(id string, info json.RawMessage) json.RawMessage {
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
		fields["id"] = text(id)
	}
	return text(fields)
}

// infoOf joins the app's info of a member and its view.
func infoOf(v *presence.View, own json.RawMessage) json.RawMessage {
	if own == nil {
		return text(userInfo{(*plainView)(v), v.Subject.ID})
	}
	seen := text(userInfo{plainView: (*plainView)(v)})
	return append(append(own[:len(own)-1:len(own)-1], ','), seen[1:]...)
}

// profiles keeps the info that users of an app brought when they subscribed.
type profiles struct {
	h   *Handler
	app *App

	mu      sync.Mutex
	all     map[string]*profile
	changes uint64
}

// profile is the info of one user.
type profile struct {
	info json.RawMessage
	// held is the earlier info for each audience from which the user hid when
	// info arrived: a change would betray that the user is connected.
	held map[presence.Audience]json.RawMessage
}

// told returns the info for an audience.
func (p *profile) told(a presence.Audience) json.RawMessage {
	if p == nil {
		return nil
	}
	if held, hidden := p.held[a]; hidden {
		return held
	}
	return p.info
}

// audiences are the audiences from which a subject can hide.
var audiences = []presence.Audience{
	presence.AudienceTeam, presence.AudienceSupervisor, presence.AudienceAdmin, presence.AudienceVisitor, presence.AudienceRouter,
}

// note keeps the info of a user.
func (p *profiles) note(u User) {
	info := ownInfo(u.ID, u.Info)
	if info == nil || p.h.opts.UserInfo != nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	old := p.all[u.ID]
	if old != nil && bytes.Equal(old.info, info) {
		return
	}
	for id := range p.all {
		if old != nil || len(p.all) < p.h.opts.MaxUsers {
			break
		}
		delete(p.all, id)
	}
	next := &profile{info: info, held: make(map[presence.Audience]json.RawMessage, len(audiences))}
	for _, a := range audiences {
		next.held[a] = old.told(a) // until settle
	}
	p.all[u.ID] = next
	p.changes++
}

// settle gives the new info of a user to the audiences that may know of it.
func (p *profiles) settle(ctx context.Context, id string, among ...presence.Audience) {
	p.mu.Lock()
	profile := p.all[id]
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
		if may, _ := p.h.t.MayReveal(ctx, a, presence.Ref{Tenant: p.app.Tenant, ID: id}); may {
			p.mu.Lock()
			delete(profile.held, a)
			p.changes++
			p.mu.Unlock()
		}
	}
}

// of returns the app's info of a subject for an audience.
func (p *profiles) of(subject presence.Ref, a presence.Audience) json.RawMessage {
	if f := p.h.opts.UserInfo; f != nil {
		return ownInfo(subject.ID, f(subject))
	}
	if a == presence.AudienceSelf {
		a = presence.AudienceTeam
	}
	p.settle(context.Background(), subject.ID, a)
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.all[subject.ID].told(a)
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
		UserID   string          `json:"user_id"`
		UserInfo json.RawMessage `json:"user_info,omitempty"`
	}
	subscribedData struct {
		Presence membersData `json:"presence"`
	}
	membersData struct {
		Count int                        `json:"count"`
		IDs   []string                   `json:"ids"`
		Hash  map[string]json.RawMessage `json:"hash"`
	}
)

// render turns a frame of the tracker into frames of a presence channel. A
// whole list has the form of the answer to a subscription, also later: clients
// replace their list with it.
func (ch *channel) render(f *presence.Frame, a presence.Audience) [][]byte {
	h, profiles := ch.hub.h, &ch.hub.profiles
	var frames [][]byte
	switch f.Kind {
	case presence.FrameSnapshot, presence.FrameRemoved:
		data := membersData{IDs: []string{}, Hash: make(map[string]json.RawMessage, len(f.Members))}
		for i := range f.Members {
			if v := &f.Members[i]; h.listed(v) {
				data.IDs = append(data.IDs, v.Subject.ID)
				data.Hash[v.Subject.ID] = infoOf(v, profiles.of(v.Subject, a))
			}
		}
		data.Count = len(data.IDs)
		frames = append(frames, say("pusher_internal:subscription_succeeded", ch.name, text(subscribedData{data})))
	case presence.FrameDiff:
		for i := range f.Changes {
			switch c := &f.Changes[i]; {
			case h.listed(c.View):
				frames = append(frames, say("pusher_internal:member_added", ch.name, text(memberData{c.Subject.ID, infoOf(c.View, profiles.of(c.Subject, a))})))
			case c.Op == presence.OpLeft || h.opts.Roster:
				frames = append(frames, say("pusher_internal:member_removed", ch.name, text(memberData{UserID: c.Subject.ID})))
			}
		}
	}
	return frames
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
