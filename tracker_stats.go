package presence

import (
	"slices"
	"sync"
	"sync/atomic"
)

// Observe calls f with every output of every subject: the outputs of one subject
// in order, each to all observers in the order in which they were added. The
// subject is locked meanwhile, so f must be quick and must not call the tracker.
// The *Output is good during the call only.
//
// After stop has returned, f is called for no step that begins later. Another
// goroutine may still be in f. An observer may call stop from within f: the
// output at hand is then its last one of that subject. A second stop changes
// nothing.
func (t *Tracker) Observe(f func(Ref, *Output)) (stop func()) {
	o := &observer{f}
	t.observers.change(func(list []*observer) []*observer { return append(list, o) })
	return func() {
		t.observers.change(func(list []*observer) []*observer {
			return slices.DeleteFunc(list, func(other *observer) bool { return other == o })
		})
	}
}

// observer is one call of Observe.
type observer struct{ call func(Ref, *Output) }

// observers is a list that is replaced, so that it is read without a lock.
type observers struct {
	mu   sync.Mutex // held while the list is replaced; a leaf: nothing is locked under it
	list atomic.Pointer[[]*observer]
}

func (os *observers) all() []*observer {
	if list := os.list.Load(); list != nil {
		return *list
	}
	return nil
}

func (os *observers) change(change func([]*observer) []*observer) {
	os.mu.Lock()
	defer os.mu.Unlock()
	list := change(slices.Clone(os.all()))
	os.list.Store(&list)
}

func (os *observers) none() bool { return len(os.all()) == 0 }

func (os *observers) call(ref Ref, o *Output) {
	for _, observer := range os.all() {
		observer.call(ref, o)
	}
}
