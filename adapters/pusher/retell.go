package pusher

import (
	"context"
	"slices"
	"sync"

	"github.com/presence-go/presence"
)

// retelling sends a member again to the subscribers of a channel, after the app
// has signed something new of a member that they have in their lists already.
// The tracker sends nothing then, unless the subscription changed more.
type retelling struct {
	by *subscription // what brought the news

	mu   sync.Mutex
	rows map[presence.Audience]retold
}

// retold is the frame for an audience, or nil, and how many frames the channel
// had rendered before the tracker was asked.
type retold struct {
	frame    []byte
	rendered uint64
}

// seen returns a subject as each audience sees it.
func (h *Handler) seen(ctx context.Context, subject presence.Ref) (views [len(audiences)]presence.View) {
	for i, a := range audiences {
		views[i], _ = h.t.GetAs(ctx, a, subject) // zero for an unknown one
	}
	return views
}

// retell sends the user of a new subscription again to the other subscribers of
// its channel, of the given audiences. It does not wait for them.
func (b *hub) retell(by *subscription, to []presence.Audience) {
	r := &retelling{by: by, rows: make(map[presence.Audience]retold)}
	b.mu.RLock()
	others := make(map[*socket]*subscription)
	for s, sub := range by.ch.subs {
		self := sub.audience == presence.AudienceSelf && sub.subject == by.subject // it gets more than the others
		if a := public(sub.audience); sub != by && !self && slices.Contains(to, a) && b.profiles.knows(by.info, a) {
			others[s] = sub
		}
	}
	b.mu.RUnlock()
	for s, sub := range others {
		b.h.spawn(func() { s.retell(sub, r) })
	}
}

// public returns the audience as which an audience sees others.
func public(a presence.Audience) presence.Audience {
	if a == presence.AudienceSelf {
		return presence.AudienceTeam
	}
	return a
}

// retell sends a member again, in turn with the frames of the subscription.
func (s *socket) retell(sub *subscription, r *retelling) {
	sub.turn <- struct{}{}
	defer func() { <-sub.turn }()
	s.hub.mu.RLock()
	live := sub.ch.subs[s] == sub && sub.live
	s.hub.mu.RUnlock()
	if !live {
		return // the list has the news
	}
	if f := r.frame(s.ctx, public(sub.audience)); f != nil {
		_ = s.send(f)
	}
}

// frame returns the frame for an audience, or nil if the audience does not have
// the member. The caller has the turn of a subscription. The frame is no older
// than any that this subscription has sent: if it was made earlier, no frame has
// been rendered since.
func (r *retelling) frame(ctx context.Context, a presence.Audience) []byte {
	ch, h, subject := r.by.ch, r.by.ch.hub.h, r.by.subject
	r.mu.Lock()
	defer r.mu.Unlock()
	rendered := ch.rendered.Load()
	if row, made := r.rows[a]; made && row.rendered == rendered {
		return row.frame
	}
	views, _, err := h.t.ListAs(ctx, a, ch.hub.presenceChannel(ch.name), nil)
	if err != nil {
		return nil
	}
	row := retold{rendered: rendered}
	for i := range views {
		if v := &views[i]; v.Subject == subject && h.listed(v) {
			row.frame = ch.added(v, a)
		}
	}
	r.rows[a] = row
	return row.frame
}
