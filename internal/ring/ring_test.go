package ring_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/presence-go/presence/internal/ring"
	"github.com/presence-go/presence/internal/seeds"
)

// add is one call of Add and the answer it must get. Values of 100 and more are
// states.
type add struct {
	key   string
	value int
	kept  bool
}

const state = 100

func TestAdd(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name          string
		perKey, total int
		adds          []add
		want          map[string][]int
	}{
		{
			name: "nothing added", perKey: 2, total: 4,
			want: map[string][]int{"a": nil},
		},
		{
			name: "in the order of adding", perKey: 3, total: 9,
			adds: []add{{"a", 3, true}, {"a", 1, true}, {"a", 2, true}},
			want: map[string][]int{"a": {3, 1, 2}, "b": nil},
		},
		{
			name: "one more than a key holds", perKey: 3, total: 9,
			adds: []add{{"a", 1, true}, {"a", 2, true}, {"a", 3, true}, {"a", 4, true}},
			want: map[string][]int{"a": {2, 3, 4}},
		},
		{
			name: "more than once around", perKey: 2, total: 9,
			adds: []add{{"a", 1, true}, {"a", 2, true}, {"a", 3, true}, {"a", 4, true}, {"a", 5, true}},
			want: map[string][]int{"a": {4, 5}},
		},
		{
			name: "keys are apart", perKey: 2, total: 9,
			adds: []add{{"a", 1, true}, {"b", 2, true}, {"a", 3, true}, {"a", 4, true}},
			want: map[string][]int{"a": {3, 4}, "b": {2}},
		},
		{
			name: "a key takes its own oldest's place where all are full", perKey: 5, total: 3,
			adds: []add{{"a", 1, true}, {"a", 2, true}, {"b", 3, true}, {"a", 4, true}, {"b", 5, true}},
			want: map[string][]int{"a": {2, 4}, "b": {5}},
		},
		{
			name: "a new key finds no room", perKey: 5, total: 2,
			adds: []add{{"a", 1, true}, {"b", 2, true}, {"c", 3, false}},
			want: map[string][]int{"a": {1}, "b": {2}, "c": nil},
		},
		{
			name: "exactly full", perKey: 2, total: 2,
			adds: []add{{"a", 1, true}, {"a", 2, true}, {"b", 3, false}, {"a", 4, true}},
			want: map[string][]int{"a": {2, 4}, "b": nil},
		},
		{
			name: "states are counted apart, and one more of them", perKey: 2, total: 9,
			adds: []add{{"a", 100, true}, {"a", 1, true}, {"a", 2, true}, {"a", 3, true}, {"a", 101, true}, {"a", 102, true}, {"a", 4, true}, {"a", 103, true}},
			want: map[string][]int{"a": {3, 101, 102, 4, 103}},
		},
		{
			name: "where all are full, a first state takes the place of another value", perKey: 5, total: 3,
			adds: []add{{"a", 1, true}, {"b", 2, true}, {"a", 3, true}, {"a", 4, true}, {"a", 100, true}, {"b", 101, true}, {"b", 102, true}},
			want: map[string][]int{"a": {4, 100}, "b": {102}},
		},
		{
			name: "where all are full, another value takes no state's place", perKey: 5, total: 2,
			adds: []add{{"a", 100, true}, {"a", 101, true}, {"a", 1, false}, {"a", 102, true}},
			want: map[string][]int{"a": {101, 102}},
		},
		{
			name: "none kept per key", perKey: 0, total: 9,
			adds: []add{{"a", 1, false}},
			want: map[string][]int{"a": nil},
		},
		{
			name: "none kept at all", perKey: 2, total: 0,
			adds: []add{{"a", 1, false}},
			want: map[string][]int{"a": nil},
		},
		{
			name: "fewer than none", perKey: -1, total: -1,
			adds: []add{{"a", 1, false}},
			want: map[string][]int{"a": nil},
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			r := ring.New[string, int](test.perKey, test.total)
			for _, a := range test.adds {
				require.Equal(t, a.kept, r.Add(a.key, a.value, a.value >= state), "adding %d to %s", a.value, a.key)
			}
			for key, want := range test.want {
				if want == nil {
					require.Empty(t, r.List(key), "values of %s", key)
					continue
				}
				require.Equal(t, want, r.List(key), "values of %s", key)
			}
		})
	}
}

func TestListIsTheCallers(t *testing.T) {
	t.Parallel()
	r := ring.New[string, int](3, 9)
	r.Add("a", 1, false)
	r.Add("a", 2, false)
	list := r.List("a")
	list[0] = 99
	_ = append(list, 98) // within its capacity, if it has any to spare
	r.Add("a", 3, false)
	require.Equal(t, []int{1, 2, 3}, r.List("a"))
	require.Equal(t, []int{99, 2}, list)
}

func TestDelete(t *testing.T) {
	t.Parallel()
	r := ring.New[string, int](3, 4)
	for i := range 3 {
		r.Add("a", i, false)
	}
	r.Add("b", 3, false)
	require.False(t, r.Add("c", 4, false), "no room yet")

	r.Delete("nobody")
	require.Equal(t, []int{0, 1, 2}, r.List("a"))

	r.Delete("a")
	require.Empty(t, r.List("a"))
	require.Equal(t, []int{3}, r.List("b"))
	for i := range 3 {
		require.True(t, r.Add("c", i, false), "deleted values make room for as many others")
	}
	require.False(t, r.Add("a", 5, false), "and for no more")
	r.Delete("c")
	require.True(t, r.Add("a", 5, false), "a deleted key may be added again")
	require.Equal(t, []int{5}, r.List("a"))
}

// A ring that overwrote its values at the limit of all keys grows again when other
// keys have made room. It keeps its order.
func TestGrowsAgain(t *testing.T) {
	t.Parallel()
	r := ring.New[string, int](4, 4)
	r.Add("a", 1, false)
	r.Add("a", 2, false)
	r.Add("b", 3, false)
	r.Add("b", 4, false)
	r.Add("a", 5, false) // in place of 1
	require.Equal(t, []int{2, 5}, r.List("a"))
	r.Delete("b")
	r.Add("a", 6, false)
	r.Add("a", 7, false)
	require.Equal(t, []int{2, 5, 6, 7}, r.List("a"))
	r.Add("a", 8, false)
	require.Equal(t, []int{5, 6, 7, 8}, r.List("a"))
}

// model does the same as Rings in the plainest way.
type model struct {
	perKey, total int
	values        map[int][]int // states are even
}

func (m *model) count() (n int) {
	for _, list := range m.values {
		n += len(list)
	}
	return n
}

func (m *model) add(key, v int) bool {
	list := m.values[key]
	first := map[int]int{0: -1, 1: -1} // of the key's states and of its others
	count := map[int]int{}
	for i, old := range list {
		if count[old%2]++; count[old%2] == 1 {
			first[old%2] = i
		}
	}
	kind := v % 2
	drop := -1
	switch full := m.count() >= m.total; {
	case m.perKey == 0, full && len(list) == 0:
		return false
	case full && count[kind] == 0 && kind == 1:
		return false
	case full && count[kind] == 0:
		drop = first[1]
	case full, count[kind] == m.perKey+1-kind:
		drop = first[kind]
	}
	list = slices.Clone(list)
	if drop >= 0 {
		list = slices.Delete(list, drop, drop+1)
	}
	m.values[key] = append(list, v)
	return true
}

func TestAgainstModel(t *testing.T) {
	t.Parallel()
	const keys = 4
	for _, seed := range seeds.List(t, 100) {
		random := rand.New(rand.NewPCG(seed, 1))
		perKey, total := random.IntN(5), random.IntN(10)
		t.Run(fmt.Sprintf("seed %d: %d of %d", seed, perKey, total), func(t *testing.T) {
			r := ring.New[int, int](perKey, total)
			m := model{perKey: perKey, total: total, values: make(map[int][]int)}
			for step := range 200 {
				key := random.IntN(keys)
				if random.IntN(12) == 0 {
					r.Delete(key)
					delete(m.values, key)
				} else {
					require.Equal(t, m.add(key, step), r.Add(key, step, step%2 == 0), "step %d: add to %d", step, key)
				}
				sum := 0
				for key := range keys {
					list := r.List(key)
					require.Equal(t, append([]int{}, m.values[key]...), append([]int{}, list...), "step %d: values of %d", step, key)
					require.LessOrEqual(t, len(list), max(0, 2*perKey+1), "step %d: bound on key %d", step, key)
					sum += len(list)
				}
				require.LessOrEqual(t, sum, total, "step %d: bound on all", step)
			}
		})
	}
}

// Concurrent calls lose no value and keep the limits.
func TestConcurrent(t *testing.T) {
	t.Parallel()
	const writers, each = 8, 100
	r := ring.New[int, int](each, writers*each)
	var wg sync.WaitGroup
	for key := range writers {
		wg.Go(func() {
			for i := range each {
				r.Add(key, i, false)
				r.List((key + 1) % writers)
				r.Delete(-key - 1)
			}
		})
	}
	wg.Wait()
	for key := range writers {
		list := r.List(key)
		require.Len(t, list, each)
		for i, v := range list {
			require.Equal(t, i, v, "values of %d", key)
		}
	}
	require.False(t, r.Add(writers, 0, false), "all together are full")
}
