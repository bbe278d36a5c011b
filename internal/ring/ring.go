// Package ring keeps the newest values of many keys, a limited number of them.
package ring

import "sync"

// Rings holds the newest values of each key. Some values are states, which hold until
// the key's next state. Rings counts them apart from other values, and keeps one more
// of them: the state before the others kept. It is safe for concurrent use.
type Rings[K comparable, V any] struct {
	perKey, total int

	mu    sync.Mutex
	keys  map[K]*history[V]
	count int
}

// history is the values of one key.
type history[V any] struct {
	states, others ring[V]
	added          uint64 // values so far
}

type ring[V any] struct {
	values []value[V]
	start  int // of the oldest, once full
}

type value[V any] struct {
	n uint64 // grows with each value of the key
	v V
}

// New returns rings of at most perKey states and one, and perKey other values, of each
// key. They hold at most total values in all. If perKey is 0 or less, no value is kept.
func New[K comparable, V any](perKey, total int) *Rings[K, V] {
	return &Rings[K, V]{perKey: perKey, total: total, keys: make(map[K]*history[V])}
}

// Add appends a value to a key's ring. At the limit of the key, or of all keys
// together, the value replaces the key's oldest of its kind. At the limit of all keys a
// first state replaces the key's oldest other value, and a first other value or a new
// key is not kept. Add reports whether the value was kept.
func (r *Rings[K, V]) Add(key K, v V, state bool) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.perKey <= 0 {
		return false
	}
	h := r.keys[key]
	if h == nil {
		if r.count >= r.total {
			return false
		}
		h = new(history[V])
		r.keys[key] = h
	}
	g, fits := &h.others, len(h.others.values) < r.perKey
	if state {
		g, fits = &h.states, len(h.states.values) <= r.perKey
	}
	switch room := r.count < r.total; {
	case fits && room:
		r.count++
		h.append(g, v)
	case len(g.values) > 0:
		h.added++
		g.values[g.start] = value[V]{h.added, v}
		g.start = (g.start + 1) % len(g.values)
	case state:
		h.others.values, h.others.start = h.others.list()[1:], 0
		h.append(g, v)
	default:
		return false
	}
	return true
}

func (h *history[V]) append(g *ring[V], v V) {
	if g.start != 0 { // the limit of all keys was reached, and no longer is
		g.values, g.start = g.list(), 0
	}
	h.added++
	g.values = append(g.values, value[V]{h.added, v})
}

// List returns a key's values, oldest first, as a new slice.
func (r *Rings[K, V]) List(key K) []V {
	r.mu.Lock()
	defer r.mu.Unlock()
	h := r.keys[key]
	if h == nil {
		return nil
	}
	states, others := h.states.list(), h.others.list()
	list := make([]V, 0, len(states)+len(others))
	for len(states)+len(others) > 0 {
		next := &others
		if len(others) == 0 || len(states) > 0 && states[0].n < others[0].n {
			next = &states
		}
		list = append(list, (*next)[0].v)
		*next = (*next)[1:]
	}
	return list
}

func (g *ring[V]) list() []value[V] {
	return append(append(make([]value[V], 0, len(g.values)+1), g.values[g.start:]...), g.values[:g.start]...)
}

// Delete forgets a key.
func (r *Rings[K, V]) Delete(key K) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if h := r.keys[key]; h != nil {
		r.count -= len(h.states.values) + len(h.others.values)
		delete(r.keys, key)
	}
}
