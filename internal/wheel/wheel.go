// Package wheel holds the deadlines of very many entries in slots of time. An
// entry takes four bytes. Add takes a few nanoseconds at any number of entries.
// In return a far deadline is known only roughly: the caller must check the entry
// again when its slot is taken.
package wheel

import (
	"math"
	"math/bits"
)

const (
	slotBits = 8
	slots    = 1 << slotBits // in each level
	levels   = 4
	// horizon is the number of slots that a level reaches ahead: one less than a
	// turn, so that a slot holds only one stretch of time.
	horizon   = slots - 1
	perBlock  = 62
	perChunk  = 64
	noBlock   = 0 // blocks count from 1
	lastLevel = levels - 1
)

// Wheel holds numbers in slots: those of the first level are one tick wide,
// those of every further one 256 times as wide as those before. The zero Wheel
// is empty and stands at tick 0. It is for one goroutine at a time.
type Wheel struct {
	pos    uint64 // every slot that begins before it has been taken
	heads  [levels][slots]uint32
	used   occupied
	chunks []*[perChunk]block
	free   uint32
	made   uint32
	count  int
}

// A block is a part of a slot's list, in memory without pointers.
type block struct {
	next   uint32
	n      uint32
	values [perBlock]uint32
}

// Len returns the number of entries, including entries that the caller no longer
// needs.
func (w *Wheel) Len() int { return w.count }

// Add adds a value under a tick. A tick that has passed counts as the present one.
func (w *Wheel) Add(tick uint64, value uint32) {
	tick = max(tick, w.pos)
	level, slot := lastLevel, int((w.pos>>(slotBits*lastLevel)+horizon)%slots) // as far ahead as the wheel reaches
	for l := range levels {
		shift := slotBits * l
		if tick>>shift-w.pos>>shift <= horizon && (l == 0 || tick>>shift > w.pos>>shift) {
			level, slot = l, int(tick>>shift%slots)
			break
		}
	}
	head := &w.heads[level][slot]
	b := w.block(*head)
	if b == nil || b.n == perBlock {
		next := *head
		*head, b = w.alloc()
		b.next, b.n = next, 0
		w.used[level][slot/64] |= 1 << (slot % 64)
	}
	b.values[b.n] = value
	b.n++
	w.count++
}

// Next returns the tick at which the first slot with entries begins.
func (w *Wheel) Next() (tick uint64, ok bool) {
	tick, _, ok = w.first(&w.used)
	return tick, ok
}

// occupied has a set bit for every slot with entries.
type occupied [levels][slots / 64]uint64

// first finds the first slot with entries. Of slots that begin at the same tick it
// finds the widest.
func (w *Wheel) first(used *occupied) (tick uint64, level int, ok bool) {
	for l := range levels {
		shift := slotBits * l
		now := w.pos >> shift
		if ahead, found := used.ahead(l, int(now%slots)); found {
			if begins := (now + uint64(ahead)) << shift; !ok || begins <= tick {
				tick, level, ok = begins, l, true
			}
		}
	}
	return max(tick, w.pos), level, ok
}

// ahead returns how many slots after one of a level the next with entries is.
func (o *occupied) ahead(level, from int) (int, bool) {
	used := &o[level]
	for i := range len(used) + 1 {
		word := used[(from/64+i)%len(used)]
		switch i {
		case 0:
			word &^= 1<<(from%64) - 1
		case len(used):
			word &= 1<<(from%64) - 1
		}
		if word != 0 {
			slot := (from/64+i)%len(used)*64 + bits.TrailingZeros64(word)
			return (slot - from + slots) % slots, true
		}
	}
	return 0, false
}

// Slot has the entries of one slot that was taken out of the wheel.
type Slot struct {
	From, To uint64 // the ticks, To excluded, under which its values were entered at the time
	head     uint32
}

// Exact reports whether the slot holds exactly one tick.
func (s *Slot) Exact() bool { return s.To == s.From+1 }

// Take takes out the first slot that begins at now or before, for Drain to empty.
// An entry that is added afterwards under the same ticks is not in it.
func (w *Wheel) Take(now uint64) (Slot, bool) {
	tick, level, ok := w.first(&w.used)
	if !ok || tick > now {
		w.pos = max(w.pos, now)
		return Slot{}, false
	}
	w.pos = max(w.pos, tick)
	shift := slotBits * level
	from := w.pos >> shift
	slot := int(from % slots)
	s := Slot{From: from << shift, To: (from + 1) << shift, head: w.heads[level][slot]}
	w.heads[level][slot] = noBlock
	w.used[level][slot/64] &^= 1 << (slot % 64)
	return s, true
}

// Drain appends some of a slot's values, at most 62 of them, and removes them.
// It appends none if the slot is empty.
func (w *Wheel) Drain(s *Slot, values []uint32) []uint32 {
	b := w.block(s.head)
	if b == nil {
		return values
	}
	values = append(values, b.values[:b.n]...)
	w.count -= int(b.n)
	freed := s.head
	s.head, b.next, w.free = b.next, w.free, freed
	return values
}

// Peek appends the values of the first slots with entries, as many slots as
// values has room for. It returns the tick at which the first slot that is left
// out begins, or the last possible tick if no slot is left out.
func (w *Wheel) Peek(values []uint32) (_ []uint32, bound uint64) {
	used := w.used
	for {
		tick, level, ok := w.first(&used)
		if !ok {
			return values, math.MaxUint64
		}
		slot := w.pos >> (slotBits * level) % slots
		if begins := tick >> (slotBits * level) % slots; tick > w.pos {
			slot = begins
		}
		n := len(values)
		for at := w.heads[level][slot]; at != noBlock; {
			b := w.block(at)
			if len(values)+int(b.n) > cap(values) {
				return values[:n], tick
			}
			values = append(values, b.values[:b.n]...)
			at = b.next
		}
		used[level][slot/64] &^= 1 << (slot % 64)
	}
}

func (w *Wheel) block(i uint32) *block {
	if i == noBlock {
		return nil
	}
	i--
	return &w.chunks[i/perChunk][i%perChunk]
}

func (w *Wheel) alloc() (uint32, *block) {
	if i := w.free; i != noBlock {
		b := w.block(i)
		w.free = b.next
		return i, b
	}
	if int(w.made) == len(w.chunks)*perChunk {
		w.chunks = append(w.chunks, new([perChunk]block))
	}
	w.made++
	return w.made, w.block(w.made)
}
