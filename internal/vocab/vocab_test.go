package vocab_test

import (
	"strconv"
	"strings"
	"sync"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"

	"github.com/presence-go/presence/internal/vocab"
)

func TestNumber(t *testing.T) {
	v := vocab.New(strings.Clone)
	for round := range 2 {
		for i := range 100 { // more than are compared without the lock
			word := "word " + strconv.Itoa(i)
			n, ok := v.Number(&word)
			require.True(t, ok)
			require.EqualValues(t, i, n, "round %d", round)
			require.Equal(t, word, *v.At(n))
		}
	}
}

func TestOwn(t *testing.T) {
	v := vocab.New(strings.Clone)
	room := []byte("tablet")
	borrowed := unsafe.String(&room[0], len(room))
	n, ok := v.Number(&borrowed)
	require.True(t, ok)
	copy(room, "office")
	require.Equal(t, "tablet", *v.At(n))
	word := "tablet"
	again, ok := v.Number(&word)
	require.True(t, ok)
	require.Equal(t, n, again)
}

func TestFull(t *testing.T) {
	v := vocab.New(func(i int) int { return i })
	for i := range vocab.Max {
		n, ok := v.Number(&i)
		require.True(t, ok)
		require.EqualValues(t, i, n)
	}
	one := vocab.Max
	_, ok := v.Number(&one)
	require.False(t, ok, "a new value of a full vocabulary")
	for i := range vocab.Max {
		n, ok := v.Number(&i)
		require.True(t, ok, "a known value of a full vocabulary")
		require.EqualValues(t, i, n)
	}
}

// TestConcurrent numbers the same values in many goroutines, each from another
// start. One value gets one number.
func TestConcurrent(t *testing.T) {
	const goroutines, values = 8, 500
	v := vocab.New(func(i int) int { return i })
	var got [goroutines][values]uint16
	var group sync.WaitGroup
	for g := range goroutines {
		group.Go(func() {
			for j := range values {
				i := (j + g*61) % values
				n, ok := v.Number(&i)
				if !ok || *v.At(n) != i {
					t.Errorf("%d has number %d, which is of %d", i, n, *v.At(n))
				}
				got[g][i] = n
			}
		})
	}
	group.Wait()
	for g := range goroutines {
		require.Equal(t, got[0], got[g])
	}
}
