package main

import (
	"slices"
	"sync"
	"time"

	"github.com/centrifugal/centrifuge"
)

// centrifugePresence is Centrifuge's presence in memory. As in Centrifuge's own
// clients, one string is a client's id throughout. Unlike its clients, it makes
// no ClientInfo for each refresh.
type centrifugePresence struct {
	*centrifuge.MemoryPresenceManager
	people  *population
	clients []string // ids of clients; those of users if nil
	infos   []*centrifuge.ClientInfo
}

func newCentrifuge(p *population) (*centrifugePresence, error) {
	node, err := centrifuge.New(centrifuge.Config{})
	if err != nil {
		return nil, err
	}
	m, err := centrifuge.NewMemoryPresenceManager(node, centrifuge.MemoryPresenceManagerConfig{})
	if err != nil {
		return nil, err
	}
	return &centrifugePresence{MemoryPresenceManager: m, people: p, clients: p.ids, infos: make([]*centrifuge.ClientInfo, p.size())}, nil
}

// fill adds a population, each user to its channel.
func (c *centrifugePresence) fill(channels []string) error {
	for _, i := range c.people.order {
		if err := c.add(channels[i], i); err != nil {
			return err
		}
	}
	return nil
}

func (c *centrifugePresence) add(channel string, i int) error {
	c.infos[i] = &centrifuge.ClientInfo{ClientID: c.clients[i], UserID: c.people.ids[i]}
	return c.AddPresence(channel, c.clients[i], c.infos[i])
}

// refresh is the refresh of each channel that its clients make every 25
// seconds.
func (c *centrifugePresence) refresh(channels []string) func(from, to int) error {
	return func(from, to int) error {
		for i := from; i < to; i++ {
			if err := c.AddPresence(channels[i], c.clients[i], c.infos[i]); err != nil {
				return err
			}
		}
		return nil
	}
}

// oneChannel puts all users in the same channel.
func oneChannel(p *population) []string { return slices.Repeat([]string{listedChannel}, p.size()) }

// handTimers is the usual code without a library: a map under a mutex and, for
// each user, a timer that each heartbeat resets.
type handTimers struct {
	mu    sync.Mutex
	users map[string]*handUser
	after time.Duration // 0 for no timers
	gone  func()        // called when a user's time is up
}

type handUser struct {
	conn  string
	last  time.Time
	timer *time.Timer
}

func newHandTimers(p *population, after time.Duration) *handTimers {
	h := &handTimers{users: make(map[string]*handUser), after: after, gone: func() {}}
	for _, i := range p.order {
		h.add(p.ids[i])
	}
	return h
}

func (h *handTimers) add(id string) {
	id = string([]byte(id))
	u := &handUser{conn: string([]byte(connID)), last: time.Now()}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.users[id] = u
	if h.after > 0 {
		u.timer = time.AfterFunc(h.after, func() { h.remove(id) })
	}
}

func (h *handTimers) remove(id string) {
	h.mu.Lock()
	delete(h.users, id)
	h.mu.Unlock()
	h.gone()
}

func (h *handTimers) heard(id string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	u := h.users[id]
	if u == nil {
		return false
	}
	u.last = time.Now()
	if u.timer != nil {
		u.timer.Reset(h.after)
	}
	return true
}

// sweep removes users that have been silent since a time, under the lock of
// all. It returns their number.
func (h *handTimers) sweep(since time.Time) (gone int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for id, u := range h.users {
		if u.last.Before(since) {
			delete(h.users, id)
			h.gone()
			gone++
		}
	}
	return gone
}

func (h *handTimers) beat(p *population) func(from, to int) error {
	return func(from, to int) error {
		for _, id := range p.ids[from:to] {
			if !h.heard(id) {
				return errUnknown
			}
		}
		return nil
	}
}

// syncMap is the other usual code: a sync.Map of users.
type syncMap struct{ users sync.Map }

func newSyncMap(p *population) *syncMap {
	m := new(syncMap)
	for _, i := range p.order {
		m.users.Store(string([]byte(p.ids[i])), new(mapEntry))
	}
	return m
}

func (m *syncMap) beat(p *population) func(from, to int) error {
	return func(from, to int) error {
		for _, id := range p.ids[from:to] {
			v, ok := m.users.Load(id)
			if !ok {
				return errUnknown
			}
			v.(*mapEntry).heard.Store(coarse.Load())
		}
		return nil
	}
}
