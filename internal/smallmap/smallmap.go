// Package smallmap has a map that takes little room while it is small.
package smallmap

import (
	"iter"
	"maps"
	"slices"
)

// Few is the number of entries that a Map keeps in a list.
const Few = 8

// Map is a map that keeps few entries in a list. The zero Map is empty. A list
// takes a fraction of the memory of a map. A search through few entries is as fast.
type Map[K comparable, V any] struct {
	few  []entry[K, V]
	many map[K]V
}

type entry[K comparable, V any] struct {
	key   K
	value V
}

func (m *Map[K, V]) find(key K) int {
	return slices.IndexFunc(m.few, func(e entry[K, V]) bool { return e.key == key })
}

// Get returns the value of a key, or the zero value of V without the key.
func (m *Map[K, V]) Get(key K) (v V) {
	if m.many != nil {
		return m.many[key]
	}
	if i := m.find(key); i >= 0 {
		v = m.few[i].value
	}
	return v
}

// Set sets the value of a key.
func (m *Map[K, V]) Set(key K, v V) {
	if m.many != nil {
		m.many[key] = v
		return
	}
	switch i := m.find(key); {
	case i >= 0:
		m.few[i].value = v
	case len(m.few) < Few:
		m.few = append(m.few, entry[K, V]{key, v})
	default:
		m.many = maps.Collect(m.All())
		m.many[key], m.few = v, nil
	}
}

// Delete removes a key. It does nothing without the key.
func (m *Map[K, V]) Delete(key K) {
	delete(m.many, key)
	if i := m.find(key); i >= 0 {
		m.few = slices.Delete(m.few, i, i+1)
	}
}

// Len returns the number of entries.
func (m *Map[K, V]) Len() int { return len(m.few) + len(m.many) }

// All returns the entries in no particular order.
func (m *Map[K, V]) All() iter.Seq2[K, V] {
	return func(yield func(K, V) bool) {
		for _, e := range m.few {
			if !yield(e.key, e.value) {
				return
			}
		}
		for key, v := range m.many {
			if !yield(key, v) {
				return
			}
		}
	}
}

// Keys returns the keys in an order, or nil for an empty map.
func (m *Map[K, V]) Keys(compare func(a, b K) int) []K {
	if m.Len() == 0 {
		return nil
	}
	list := make([]K, 0, m.Len())
	for key := range m.All() {
		list = append(list, key)
	}
	slices.SortFunc(list, compare)
	return list
}
