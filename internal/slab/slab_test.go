package slab_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/presence-go/presence/internal/seeds"
	"github.com/presence-go/presence/internal/slab"
)

func TestPiecesKeepWhatIsWritten(t *testing.T) {
	rng := rand.New(rand.NewPCG(seeds.List(t, 1)[0], 1))
	type piece struct {
		class  uint8
		number uint32
		length int
		filled byte
	}
	var p slab.Pieces
	var live []piece
	for i := range 20_000 {
		if len(live) > 0 && rng.IntN(5) < 2 {
			k := rng.IntN(len(live))
			gone := live[k]
			for _, b := range p.Bytes(gone.class, gone.number)[:gone.length] {
				require.Equal(t, gone.filled, b)
			}
			p.Free(gone.class, gone.number)
			live[k] = live[len(live)-1]
			live = live[:len(live)-1]
			continue
		}
		length := 1 + rng.IntN(slab.Max)
		made := piece{class: slab.Class(length), length: length, filled: byte(i)}
		made.number = p.New(made.class)
		bytes := p.Bytes(made.class, made.number)
		require.GreaterOrEqual(t, len(bytes), length)
		require.Less(t, len(bytes), length+8)
		for j := range bytes {
			bytes[j] = made.filled
		}
		live = append(live, made)
	}
	for _, l := range live {
		require.Equal(t, strings.Repeat(string([]byte{l.filled}), l.length), string(p.Bytes(l.class, l.number)[:l.length]))
	}
}

func TestFreedPiecesAreUsedAgain(t *testing.T) {
	var p slab.Pieces
	c := slab.Class(40)
	first := p.New(c)
	p.Free(c, first)
	require.Equal(t, first, p.New(c))
	require.NotEqual(t, first, p.New(c))
}

// Memory that one class has given back serves another class.
func TestMemoryGoesFromClassToClass(t *testing.T) {
	var p slab.Pieces
	turn := func(length int) {
		c := slab.Class(length)
		var numbers []uint32
		for range 1000 {
			numbers = append(numbers, p.New(c))
		}
		for _, n := range numbers {
			p.Free(c, n)
		}
	}
	for length := 8; length <= 64; length += 8 {
		turn(length)
	}
	before := testing.AllocsPerRun(1, func() { turn(64) })
	require.Less(t, before, 20.0, "of which all are the test's")
}

func TestWordsStay(t *testing.T) {
	var w slab.Words
	type place struct {
		at     uint32
		length uint8
	}
	var places []place
	word := func(i int) string { return strings.Repeat(fmt.Sprint(i, "/"), 50)[:1+i%200] }
	for i := range 2000 {
		s := word(i + 1000)
		places = append(places, place{w.Add(s), uint8(len(s))})
	}
	for i, p := range places {
		require.Equal(t, word(i+1000), slab.Word(w.Chunks, p.at, p.length))
	}
}
