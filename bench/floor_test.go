package main

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestFloorsFindWhatTheyHold(t *testing.T) {
	p := newPopulation(5000)
	tab, small, maps := newTable(), newCompact(), newShardedMap(p)
	for _, i := range p.order {
		tab.add(p.ids[i])
		small.add(p.ids[i])
	}
	require.EqualValues(t, 5000, small.count)
	require.False(t, tab.heard("nobody", 1))
	require.False(t, maps.heard("nobody", 1))
	for i, id := range p.ids {
		require.True(t, tab.heard(id, uint32(i)))
		require.True(t, maps.heard(id, uint32(i)))
		_, r := small.find(id)
		require.NotNil(t, r)
		require.Equal(t, id, string(small.id(r)))
	}
	for i, id := range p.ids {
		_, _, r := tab.find(id)
		require.EqualValues(t, i, r.heard.Load())
	}
}

func TestTableAfterRemovals(t *testing.T) {
	p := newPopulation(5000)
	tab := newTable()
	for _, i := range p.order {
		tab.add(p.ids[i])
	}
	for i, id := range p.ids {
		if i%3 != 0 {
			tab.remove(id)
		}
	}
	for i, id := range p.ids {
		require.Equal(t, i%3 == 0, tab.heard(id, 1), "user %d", i)
	}
	for _, id := range p.ids {
		tab.add(id)
	}
	for i, id := range p.ids {
		require.True(t, tab.heard(id, 1), "user %d", i)
	}
	require.Equal(t, 5000, tab.used)
	require.Len(t, tab.slabs, 2, "records that were free are used again")
}

func TestLazyWheelExpiresWhoIsSilent(t *testing.T) {
	const timeout = 10
	w := newLazyWheel(100, timeout)
	expired := 0
	for tick := range uint32(3 * timeout) {
		for i := range 60 {
			w.heard[i].Store(tick)
		}
		expired += w.advance()
	}
	require.Equal(t, 40, expired)
}

func TestPopulation(t *testing.T) {
	p := newPopulation(1000)
	seen := make(map[string]bool)
	rooms := make(map[string]int)
	for i, id := range p.ids {
		require.GreaterOrEqual(t, len(id), 16)
		require.LessOrEqual(t, len(id), 36)
		require.False(t, seen[id])
		seen[id] = true
		rooms[p.rooms[i]]++
	}
	require.Len(t, rooms, 20)
	for _, members := range rooms {
		require.Equal(t, roomSize, members)
	}
}
