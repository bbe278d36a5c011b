// Package vocab numbers values of a small set, so that a record holds a number
// of two bytes in place of the value.
package vocab

import (
	"sync"
	"sync/atomic"
)

// Max is the number of values that a vocabulary holds. Later values get no
// number.
const Max = 1 << 14

// common is the number of values that Number compares before it takes the lock.
const common = 12

// Vocabulary numbers values from 0, in the order in which it first meets them.
// It forgets none. It is safe for concurrent use. Number of a common value and
// At take no lock.
type Vocabulary[T comparable] struct {
	own  func(T) T
	list atomic.Pointer[[]T] // append-only

	mu    sync.Mutex // guards known, and appending to list
	known map[T]uint16
}

// New returns an empty vocabulary. It keeps own(v) of a value v: own returns a
// copy that shares no memory that the caller will reuse.
func New[T comparable](own func(T) T) *Vocabulary[T] {
	v := &Vocabulary[T]{own: own, known: make(map[T]uint16)}
	v.list.Store(new([]T))
	return v
}

// Number returns the number of a value. It reports false for a new value if the
// vocabulary is full.
func (v *Vocabulary[T]) Number(value *T) (uint16, bool) {
	list := *v.list.Load()
	list = list[:min(len(list), common)]
	for i := range list {
		if list[i] == *value {
			return uint16(i), true
		}
	}
	return v.add(value)
}

// add searches all values for this one, and numbers it if it is new.
func (v *Vocabulary[T]) add(value *T) (uint16, bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if i, ok := v.known[*value]; ok {
		return i, true
	}
	i := len(v.known)
	if i >= Max {
		return 0, false
	}
	own := v.own(*value)
	v.known[own] = uint16(i)
	list := append(*v.list.Load(), own) // readers hold a shorter slice of the same array
	v.list.Store(&list)
	return uint16(i), true
}

// At returns the value that has a number. The caller must not change it.
func (v *Vocabulary[T]) At(i uint16) *T { return &(*v.list.Load())[i] }
