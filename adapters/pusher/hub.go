package pusher

import (
	"container/list"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/presence-go/presence"
	"github.com/presence-go/presence/adapters/internal/edge"
)

// hub is an app with its channels and sockets.
type hub struct {
	App
	h        *Handler
	origins  *edge.Origins
	profiles profiles
	outbox   *outbox // of webhooks; nil without

	mu       sync.RWMutex
	channels map[string]*channel
	sockets  int
	byUser   map[string]map[*socket]int // by id: how often each socket acts as the user
	cached   int                        // channels that keep an event
	counts   map[string]*census         // by channel
	vacancy  vacancy
}

// channel is a channel that has a subscriber, keeps an event, or had a
// subscriber until lately.
type channel struct {
	hub   *hub
	name  string
	kind  kind
	keeps bool

	// Under the hub's lock.
	subs  map[*socket]*subscription
	event *kept
	told  bool          // channel_occupied was sent, and no channel_vacated after it
	waits *list.Element // its place in the vacancy while channel_vacated waits
	due   time.Time     // when channel_vacated may be sent

	rendered atomic.Uint64 // how many frames of the tracker were turned into frames for clients
	recent   sync.Mutex
	last     [4]rendered
	oldest   int
}

// kept is the last event of a channel that keeps it.
type kept struct {
	frame []byte
	data  string
	until time.Time
}

// keepFor is how long a channel keeps its last event.
const keepFor = 30 * time.Minute

// channelLocked returns a channel, which it makes if it is missing.
func (b *hub) channelLocked(name string) (*channel, error) {
	if ch := b.channels[name]; ch != nil {
		return ch, nil
	}
	for len(b.channels) >= b.h.opts.MaxChannels && b.vacateFirstLocked() {
	}
	if len(b.channels) >= b.h.opts.MaxChannels {
		return nil, faultf("LimitReached", 429, "limit channels: the app has %d, no more are allowed", len(b.channels))
	}
	ch := &channel{hub: b, name: name, subs: make(map[*socket]*subscription)}
	ch.kind, ch.keeps = kindOf(name)
	b.channels[name] = ch
	return ch, nil
}

// forgetLocked drops a channel that has no reason to stay.
func (b *hub) forgetLocked(ch *channel) {
	if len(ch.subs) == 0 && ch.event == nil && ch.waits == nil {
		delete(b.channels, ch.name)
	}
}

// enter adds a subscription to its channel. Events reach it once it is live.
func (b *hub) enter(s *socket, sub *subscription) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	ch, err := b.channelLocked(sub.name)
	if err != nil {
		return err
	}
	sub.ch = ch
	ch.subs[s] = sub // in place of one that is ending
	ch.turnLocked()
	if ch.kind == kindPresence && len(ch.subs) == 1 {
		b.countLocked(ch.name)
	}
	return nil
}

// start makes events reach a subscription, first the one that its channel
// keeps.
func (b *hub) start(s *socket, sub *subscription) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if sub.ch.subs[s] != sub || sub.live {
		return
	}
	sub.live = true
	switch {
	case !sub.ch.keeps:
	case sub.ch.keptLocked(time.Now()) != nil:
		s.post(sub.ch.event.frame)
	default:
		s.post(bare("pusher:cache_miss", sub.name))
		b.outbox.put(hookEvent{Name: hookCacheMiss, Channel: sub.name})
	}
}

// leave removes a subscription from its channel.
func (b *hub) leave(s *socket, sub *subscription) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if sub.ch == nil || sub.ch.subs[s] != sub {
		return
	}
	delete(sub.ch.subs, s)
	sub.ch.turnLocked()
	if len(sub.ch.subs) == 0 {
		b.restLocked(sub.name)
	}
	b.forgetLocked(sub.ch)
}

// keptLocked returns the event that a channel keeps, or nil. It drops an event
// that has expired.
func (ch *channel) keptLocked(now time.Time) *kept {
	if ch.event != nil && !now.Before(ch.event.until) {
		ch.event = nil
		ch.hub.cached--
	}
	return ch.event
}

// keepLocked makes a channel keep an event. If the app keeps too many, it drops
// the event that expires first.
func (ch *channel) keepLocked(event kept) {
	b := ch.hub
	if ch.event == nil {
		if b.cached >= b.h.opts.MaxCached {
			var victim *channel
			for _, other := range b.channels {
				if other.event != nil && (victim == nil || other.event.until.Before(victim.event.until)) {
					victim = other
				}
			}
			victim.event = nil
			b.cached--
			b.forgetLocked(victim)
		}
		b.cached++
	}
	ch.event = &event
}

// Event is an event that a backend sends to channels.
type Event struct {
	// Name is the name that clients bind to.
	Name string
	// Channels are the channels of the event, at most 100.
	Channels []string
	// Data is sent unchanged. Clients expect the text of a JSON value.
	Data string
	// Except is the id of a socket that does not get the event.
	Except string
}

// Trigger sends an event to all subscribers of its channels. It returns
// [presence.ErrUnknown] for another app, [presence.ErrInvalid] or
// [presence.ErrLimit].
func (h *Handler) Trigger(app string, e Event) error {
	b := h.byID[app]
	if b == nil {
		return fmt.Errorf("pusher: %w app %q", presence.ErrUnknown, app)
	}
	if err := checkEvent(&e); err != nil {
		return err
	}
	return b.trigger(&e)
}

func checkEvent(e *Event) error {
	switch {
	case e.Name == "" || len(e.Name) > maxEventName:
		return fmt.Errorf("pusher: %w event: allowed is a name of 1 to %d bytes", presence.ErrInvalid, maxEventName)
	case len(e.Channels) == 0 || len(e.Channels) > maxTriggered:
		return fmt.Errorf("pusher: %w event %q: allowed are 1 to %d channels", presence.ErrInvalid, e.Name, maxTriggered)
	case len(e.Data) > maxEventData:
		return fmt.Errorf("pusher: %w event %q: its data has %d bytes, allowed are %d", presence.ErrLimit, e.Name, len(e.Data), maxEventData)
	}
	for _, name := range e.Channels {
		if err := checkChannel(name); err != nil {
			return fmt.Errorf("pusher: %w channel: event %q: %w", presence.ErrInvalid, e.Name, err)
		}
	}
	return nil
}

func (b *hub) trigger(e *Event) error {
	now := time.Now()
	for _, name := range e.Channels {
		f := frame(envelope{Event: e.Name, Channel: name, Data: text(e.Data)})
		if _, keeps := kindOf(name); keeps {
			b.mu.Lock()
			ch, err := b.channelLocked(name)
			if err == nil {
				ch.keepLocked(kept{frame: f, data: e.Data, until: now.Add(keepFor)})
				ch.sendLocked(f, e.Except, nil)
			}
			b.mu.Unlock()
			if err != nil {
				return fmt.Errorf("pusher: %w channel %q: the app has %d, no more are allowed", presence.ErrLimit, name, b.h.opts.MaxChannels)
			}
			continue
		}
		b.mu.RLock()
		if ch := b.channels[name]; ch != nil {
			ch.sendLocked(f, e.Except, nil)
		}
		b.mu.RUnlock()
	}
	return nil
}

// sendLocked queues a frame for every subscriber. It leaves out the socket
// except and the hidden audiences.
func (ch *channel) sendLocked(f []byte, except string, hidden []presence.Audience) {
	for s, sub := range ch.subs {
		if sub.live && s.id != except && !slices.Contains(hidden, sub.audience) {
			s.post(f)
		}
	}
}

// forward sends a client event to the other subscribers of its channel.
// Audiences from which its subject hides do not get it.
func (b *hub) forward(ctx context.Context, s *socket, sub *subscription, m envelope) {
	m = envelope{Event: m.Event, Channel: m.Channel, Data: m.Data}
	var hidden []presence.Audience
	if sub.kind == kindPresence {
		m.UserID = sub.user.id
		for _, a := range audiences {
			if may, err := b.h.t.MayReveal(ctx, a, sub.subject); err != nil || !may {
				hidden = append(hidden, a)
			}
		}
		if slices.Contains(hidden, presence.AudienceTeam) {
			hidden = append(hidden, presence.AudienceSelf) // who sees the others as the team does
		}
	}
	f := frame(m)
	b.mu.RLock()
	sub.ch.sendLocked(f, s.id, hidden)
	b.mu.RUnlock()
	data := string(m.Data)
	var inner string
	if json.Unmarshal(m.Data, &inner) == nil {
		data = inner
	}
	b.outbox.put(hookEvent{Name: hookClientEvent, Channel: m.Channel, Event: m.Event, Data: data, SocketID: s.id, UserID: sub.user.ID})
}

// act adds n to the number of times that a socket acts as a user.
func (b *hub) act(s *socket, user string, n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.byUser[user] == nil {
		b.byUser[user] = make(map[*socket]int)
	}
	if b.byUser[user][s] += n; b.byUser[user][s] <= 0 {
		delete(b.byUser[user], s)
	}
	if len(b.byUser[user]) == 0 {
		delete(b.byUser, user)
	}
}

// Terminate ends the sockets that signed in as a user, or subscribed to a
// presence channel as the user. Their clients do not connect again, and the
// user has logged out on them. It returns [presence.ErrUnknown] for another
// app.
func (h *Handler) Terminate(app, user string) error {
	b := h.byID[app]
	if b == nil {
		return fmt.Errorf("pusher: %w app %q", presence.ErrUnknown, app)
	}
	b.mu.RLock()
	var list []*socket
	for s := range b.byUser[user] {
		list = append(list, s)
	}
	b.mu.RUnlock()
	for _, s := range list {
		h.spawn(func() { s.end(presence.CauseLogout, codeUnauthorized, "the user's connections have been terminated") })
	}
	return nil
}

// list returns the members of a presence channel as [Options.Audience] sees
// them.
func (b *hub) list(ctx context.Context, channel string) ([]string, error) {
	views, _, err := b.h.t.ListAs(ctx, b.h.opts.Audience, b.presenceChannel(channel), nil)
	if err != nil {
		return nil, err
	}
	ids := []string{}
	for i := range views {
		if b.h.listed(&views[i]) {
			ids = append(ids, views[i].Subject.ID)
		}
	}
	return ids, nil
}

// occupied returns the channels with at least one subscriber.
func (b *hub) occupied(prefix string) []string {
	b.mu.RLock()
	defer b.mu.RUnlock()
	var names []string
	for name, ch := range b.channels {
		if len(ch.subs) > 0 && strings.HasPrefix(name, prefix) && ch.kind != kindUser {
			names = append(names, name)
		}
	}
	return names
}

// subscribers returns the number of sockets that are subscribed to a channel.
func (b *hub) subscribers(channel string) int {
	b.mu.RLock()
	defer b.mu.RUnlock()
	if ch := b.channels[channel]; ch != nil {
		return len(ch.subs)
	}
	return 0
}

// kept returns the event that a channel keeps.
func (b *hub) kept(channel string) *kept {
	b.mu.Lock()
	defer b.mu.Unlock()
	ch := b.channels[channel]
	if ch == nil {
		return nil
	}
	event := ch.keptLocked(time.Now())
	b.forgetLocked(ch)
	return event
}
