// Package ring keeps the newest values of many keys, a limited number of them.
package ring

import "sync"

// Rings holds the newest values of each key. It is safe for concurrent use.
type Rings[K comparable, V any] struct {
	perKey, total int

	mu    sync.Mutex
	rings map[K]*ring[V]
	count int
}

type ring[V any] struct {
	values []V
	start  int // of the oldest, once full
}

// New returns rings of at most perKey values each and total values in all. If
// perKey is 0 or less, no value is kept.
func New[K comparable, V any](perKey, total int) *Rings[K, V] {
	return &Rings[K, V]{perKey: perKey, total: total, rings: make(map[K]*ring[V])}
}

// Add appends a value to a key's ring. At the limit of the key, or of all keys
// together, the value replaces the key's oldest. At the limit of all keys a new key
// is not kept. Add reports whether the value was kept.
func (r *Rings[K, V]) Add(key K, v V) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.perKey <= 0 {
		return false
	}
	g := r.rings[key]
	if g == nil {
		if r.count >= r.total {
			return false
		}
		g = new(ring[V])
		r.rings[key] = g
	}
	if len(g.values) < r.perKey && r.count < r.total {
		if g.start != 0 { // the limit of all keys was reached, and no longer is
			g.values, g.start = g.list(), 0
		}
		g.values = append(g.values, v)
		r.count++
		return true
	}
	g.values[g.start] = v
	g.start = (g.start + 1) % len(g.values)
	return true
}

// List returns a key's values, oldest first, as a new slice.
func (r *Rings[K, V]) List(key K) []V {
	r.mu.Lock()
	defer r.mu.Unlock()
	if g := r.rings[key]; g != nil {
		return g.list()
	}
	return nil
}

func (g *ring[V]) list() []V {
	return append(append(make([]V, 0, len(g.values)+1), g.values[g.start:]...), g.values[:g.start]...)
}

// Delete forgets a key.
func (r *Rings[K, V]) Delete(key K) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if g := r.rings[key]; g != nil {
		r.count -= len(g.values)
		delete(r.rings, key)
	}
}
