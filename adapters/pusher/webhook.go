package pusher

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/presence-go/presence"
)

// Webhook is an endpoint that gets the events of an app's channels.
type Webhook struct {
	// URL gets a POST with the events as JSON, signed with the app's secret.
	URL string
	// Events are the events to send: channel_occupied, channel_vacated,
	// member_added, member_removed, client_event, cache_miss. None means all.
	Events []string
	// Client sends the requests; nil means one of its own, with a timeout of 10s.
	Client *http.Client
}

const (
	hookOccupied      = "channel_occupied"
	hookVacated       = "channel_vacated"
	hookMemberAdded   = "member_added"
	hookMemberRemoved = "member_removed"
	hookClientEvent   = "client_event"
	hookCacheMiss     = "cache_miss"
)

var hookEvents = []string{hookOccupied, hookVacated, hookMemberAdded, hookMemberRemoved, hookClientEvent, hookCacheMiss}

// hookEvent is one event of a webhook.
type hookEvent struct {
	Name     string `json:"name"`
	Channel  string `json:"channel"`
	Event    string `json:"event,omitempty"`
	Data     string `json:"data,omitempty"`
	SocketID string `json:"socket_id,omitempty"`
	UserID   string `json:"user_id,omitempty"`
}

const (
	hookBatch   = 100             // events of one request at most
	hookQueue   = 10_000          // events waiting at most
	hookBytes   = 16 << 20        // of their data
	hookBackoff = time.Second     // before the first repetition, doubled for each further one
	hookPatient = 5 * time.Minute // how long a failed request is repeated
	hookTimeout = 10 * time.Second
)

// outbox sends the webhooks of an app, in order for each endpoint.
type outbox struct {
	h         *Handler
	app       *App
	endpoints []*endpoint
}

// endpoint is one webhook with its waiting events.
type endpoint struct {
	Webhook
	outbox *outbox

	mu      sync.Mutex
	waiting []hookEvent
	bytes   int // of their data
	sending bool
	dropped int
}

func newOutbox(h *Handler, app *App) *outbox {
	if len(app.Webhooks) == 0 {
		return nil
	}
	o := &outbox{h: h, app: app}
	for _, w := range app.Webhooks {
		if w.Client == nil {
			w.Client = &http.Client{Timeout: hookTimeout}
		}
		o.endpoints = append(o.endpoints, &endpoint{Webhook: w, outbox: o})
	}
	return o
}

func (e *endpoint) wants(name string) bool {
	return len(e.Events) == 0 || slices.Contains(e.Events, name)
}

func (o *outbox) wants(name string) bool {
	return o != nil && slices.ContainsFunc(o.endpoints, func(e *endpoint) bool { return e.wants(name) })
}

// put queues an event for all endpoints that want it, and never waits.
func (o *outbox) put(event hookEvent) {
	if o == nil {
		return
	}
	for _, e := range o.endpoints {
		if e.wants(event.Name) {
			e.put(event)
		}
	}
}

func (e *endpoint) put(event hookEvent) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.waiting) >= hookQueue || e.bytes+len(event.Data) > hookBytes {
		e.dropped++
		return
	}
	e.waiting = append(e.waiting, event)
	e.bytes += len(event.Data)
	if !e.sending {
		e.sending = true
		e.outbox.h.sending.Go(e.send)
	}
}

// take removes the events of the next request. Without an event it ends the
// sending: the next put starts it again.
func (e *endpoint) take() []hookEvent {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.dropped > 0 {
		e.outbox.h.log.Warn("pusher: webhook events dropped, too many were waiting", "app", e.outbox.app.ID, "url", e.URL, "dropped", e.dropped)
		e.dropped = 0
	}
	n := min(len(e.waiting), hookBatch)
	batch := slices.Clone(e.waiting[:n])
	e.waiting = slices.Delete(e.waiting, 0, n)
	for i := range batch {
		e.bytes -= len(batch[i].Data)
	}
	e.sending = n > 0
	return batch
}

// send sends the waiting events.
func (e *endpoint) send() {
	for batch := e.take(); len(batch) > 0; batch = e.take() {
		if err := e.deliver(batch); err != nil {
			e.outbox.h.log.Warn("pusher: webhook given up", "app", e.outbox.app.ID, "url", e.URL, "events", len(batch), "error", err)
		}
	}
}

// deliver sends one request and repeats it for hookPatient while it fails. Once
// the handler is closed, it tries once.
func (e *endpoint) deliver(batch []hookEvent) error {
	h := e.outbox.h
	body := text(struct {
		TimeMS int64       `json:"time_ms"`
		Events []hookEvent `json:"events"`
	}{time.Now().UnixMilli(), batch})
	began := time.Now()
	for wait := hookBackoff; ; wait *= 2 {
		err := e.post(body)
		switch {
		case err == nil:
			return nil
		case h.stopped.Err() != nil, time.Since(began)+wait > hookPatient:
			return err
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-h.stopped.Done():
		}
		timer.Stop()
	}
}

func (e *endpoint) post(body []byte) error {
	ctx, cancel := context.WithTimeout(context.Background(), hookTimeout)
	defer cancel()
	stop := context.AfterFunc(e.outbox.h.cut, cancel)
	defer stop()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, e.URL, bytes.NewReader(body))
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("X-Pusher-Key", e.outbox.app.Key)
	r.Header.Set("X-Pusher-Signature", e.outbox.app.sign(string(body)))
	answer, err := e.Client.Do(r)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	_, _ = io.CopyN(io.Discard, answer.Body, 64<<10) // so that the connection can be used again
	if answer.StatusCode/100 != 2 {
		return fmt.Errorf("the endpoint answered with status %s", answer.Status)
	}
	return nil
}

// census follows the members of a presence channel for the webhooks. It begins
// with the first subscription and ends once the channel has neither subscribers
// nor members.
type census struct {
	b       *hub
	channel string
	ctx     context.Context
	stop    context.CancelFunc

	// Under the hub's lock.
	present map[string]counted // by id
	resting bool               // the channel has no subscriber
}

// counted is a member as the census saw it last.
type counted struct {
	human  bool
	status string
}

// countLocked starts the census of a channel if a webhook wants it.
func (b *hub) countLocked(channel string) {
	if !b.outbox.wants(hookMemberAdded) && !b.outbox.wants(hookMemberRemoved) {
		return
	}
	if c := b.counts[channel]; c != nil {
		c.resting = false
		return
	}
	c := &census{b: b, channel: channel, present: make(map[string]counted)}
	c.ctx, c.stop = context.WithCancel(b.h.stopped)
	if b.h.spawn(c.run) {
		b.counts[channel] = c
	} else {
		c.stop()
	}
}

// restLocked notes that a channel has no subscriber any more.
func (b *hub) restLocked(channel string) {
	if c := b.counts[channel]; c != nil {
		c.resting = true
		c.overLocked()
	}
}

// overLocked ends a census that is not needed any more.
func (c *census) overLocked() {
	if c.resting && len(c.present) == 0 && c.b.counts[c.channel] == c {
		delete(c.b.counts, c.channel)
		c.stop()
	}
}

func (c *census) run() {
	b := c.b
	err := c.follow()
	b.mu.Lock()
	defer b.mu.Unlock()
	c.stop()
	if b.counts[c.channel] == c {
		delete(b.counts, c.channel)
		if b.h.stopped.Err() == nil {
			b.h.log.Warn("pusher: webhooks no longer tell the members of a channel", "app", b.ID, "channel", c.channel, "error", err)
		}
	}
	b.vacateLocked(c.channel)
}

// follow follows the members until the watch or the census ends.
func (c *census) follow() error {
	b := c.b
	actor := presence.Actor{Subject: presence.Ref{Tenant: b.Tenant, ID: "pusher"}, Role: presence.RoleSystem}
	watch, err := b.h.t.Watch(c.ctx, actor, b.presenceChannel(c.channel), presence.WatchOptions{Audience: b.h.opts.Audience})
	if err != nil {
		return err
	}
	defer watch.Close()
	for {
		f, err := watch.Next(c.ctx)
		if err != nil {
			return err
		}
		b.mu.Lock()
		if b.counts[c.channel] != c {
			b.mu.Unlock()
			return nil
		}
		c.takeLocked(f)
		c.overLocked()
		b.vacateLocked(c.channel)
		b.mu.Unlock()
	}
}

// takeLocked sends the changes of a frame to the webhooks.
func (c *census) takeLocked(f *presence.Frame) {
	tell := func(name, id string) {
		c.b.outbox.put(hookEvent{Name: name, Channel: c.channel, UserID: id})
	}
	add := func(v *presence.View) {
		if _, had := c.present[v.Subject.ID]; !had {
			tell(hookMemberAdded, v.Subject.ID)
		}
		c.present[v.Subject.ID] = counted{v.Kind == "" || v.Kind == presence.KindHuman, v.Status}
	}
	remove := func(id string) {
		if _, had := c.present[id]; had {
			delete(c.present, id)
			tell(hookMemberRemoved, id)
		}
	}
	if f.Kind == presence.FrameSnapshot {
		listed := make(map[string]*presence.View, len(f.Members))
		for i := range f.Members {
			if v := &f.Members[i]; c.b.h.listed(v) {
				listed[v.Subject.ID] = v
			}
		}
		for _, id := range slices.Sorted(maps.Keys(c.present)) {
			if listed[id] == nil {
				remove(id)
			}
		}
		for _, id := range slices.Sorted(maps.Keys(listed)) {
			add(listed[id])
		}
	}
	for i := range f.Changes {
		if change := &f.Changes[i]; c.b.h.listed(change.View) {
			add(change.View)
		} else {
			remove(change.Subject.ID)
		}
	}
}
