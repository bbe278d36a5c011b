package main

import (
	"errors"
	"hash/maphash"
	"sync"
	"sync/atomic"
)

// A floor is a structure with one function and no other feature, as fast as we
// can make it. The difference between the library and a floor is the cost of
// the library's features.

// errUnknown reports that a floor or a structure by hand does not have a user.
var errUnknown = errors.New("a user is not known")

// handleRecord is what a handle points to, one cache line long.
type handleRecord struct {
	heard      atomic.Uint32
	generation uint32
	_          [56]byte
}

// handleStore is floor F1: handles in the order of visits, records in random
// places of memory.
type handleStore struct {
	records []handleRecord
	handles []*handleRecord
}

func newHandleStore(p *population) *handleStore {
	s := &handleStore{records: make([]handleRecord, p.size()), handles: make([]*handleRecord, p.size())}
	for k, i := range p.order {
		s.records[k].generation = 1 // touches the memory
		s.handles[i] = &s.records[k]
	}
	return s
}

// beat is a heartbeat of each handle.
func (s *handleStore) beat(from, to int) error {
	for _, h := range s.handles[from:to] {
		h.heard.Store(coarse.Load())
	}
	return nil
}

// beatOnce skips the write if the value is stored already.
func (s *handleStore) beatOnce(from, to int) error {
	for _, h := range s.handles[from:to] {
		if now := coarse.Load(); h.heard.Load() != now {
			h.heard.Store(now)
		}
	}
	return nil
}

// shardedMap is floor F2: maps under locks, with a hash of the strings.
type shardedMap struct {
	seed   maphash.Seed
	shards [256]struct {
		sync.RWMutex
		entries map[string]*mapEntry
		_       [32]byte // so that no two locks share a cache line
	}
}

type mapEntry struct {
	heard atomic.Uint32
	_     [16]byte // the connection's id
}

func newShardedMap(p *population) *shardedMap {
	m := &shardedMap{seed: maphash.MakeSeed()}
	for i := range m.shards {
		m.shards[i].entries = make(map[string]*mapEntry)
	}
	for _, i := range p.order {
		m.add(p.ids[i])
	}
	return m
}

func (m *shardedMap) add(id string) {
	id = string([]byte(id))
	s := &m.shards[uint8(maphash.String(m.seed, id))]
	s.Lock()
	s.entries[id] = new(mapEntry)
	s.Unlock()
}

func (m *shardedMap) remove(id string) {
	s := &m.shards[uint8(maphash.String(m.seed, id))]
	s.Lock()
	delete(s.entries, id)
	s.Unlock()
}

func (m *shardedMap) heard(id string, now uint32) bool {
	s := &m.shards[uint8(maphash.String(m.seed, id))]
	s.RLock()
	e := s.entries[id]
	s.RUnlock()
	if e == nil {
		return false
	}
	e.heard.Store(now)
	return true
}

func (m *shardedMap) beat(p *population) func(from, to int) error {
	return func(from, to int) error {
		for _, id := range p.ids[from:to] {
			if !m.heard(id, coarse.Load()) {
				return errUnknown
			}
		}
		return nil
	}
}

// table is floor F3: open addressing. A cell has a part of the hash and the
// number of a record. A record is one cache line with the id. Reads take no
// lock. One goroutine at a time may change it, during which no other may read.
type table struct {
	seed  maphash.Seed
	cells []atomic.Uint64 // the upper half of the hash, the record's number + 1
	slabs []*[slabSize]tableRecord
	free  []uint32
	used  int
}

type tableRecord struct {
	heard atomic.Uint32
	n     uint8
	id    [36]byte
	_     [16]byte // the connection's id
}

const (
	slabBits = 12
	slabSize = 1 << slabBits
)

func newTable() *table {
	return &table{seed: maphash.MakeSeed(), cells: make([]atomic.Uint64, 64)}
}

func newFullTable(p *population) *table {
	t := newTable()
	for _, i := range p.order {
		t.add(p.ids[i])
	}
	return t
}

func (t *table) record(number uint32) *tableRecord {
	return &t.slabs[number>>slabBits][number%slabSize]
}

func (r *tableRecord) is(id string) bool { return string(r.id[:r.n]) == id }

// find returns an id's hash, the index of its cell and its record. If the table
// does not have the id, it returns the first free cell.
func (t *table) find(id string) (hash, at uint64, r *tableRecord) {
	hash = maphash.String(t.seed, id)
	mask := uint64(len(t.cells) - 1)
	for at = hash >> 32 & mask; ; at = (at + 1) & mask {
		cell := t.cells[at].Load()
		if cell == 0 {
			return hash, at, nil
		}
		if cell>>32 == hash>>32 {
			if r := t.record(uint32(cell) - 1); r.is(id) {
				return hash, at, r
			}
		}
	}
}

func (t *table) heard(id string, now uint32) bool {
	_, _, r := t.find(id)
	if r == nil {
		return false
	}
	r.heard.Store(now)
	return true
}

func (t *table) beat(p *population) func(from, to int) error {
	return func(from, to int) error {
		for _, id := range p.ids[from:to] {
			if !t.heard(id, coarse.Load()) {
				return errUnknown
			}
		}
		return nil
	}
}

func (t *table) add(id string) {
	if t.used >= len(t.cells)/4*3 {
		t.grow()
	}
	hash, at, r := t.find(id)
	if r != nil {
		return
	}
	if len(t.free) == 0 {
		first := uint32(len(t.slabs)) << slabBits
		t.slabs = append(t.slabs, new([slabSize]tableRecord))
		for i := range uint32(slabSize) {
			t.free = append(t.free, first+slabSize-1-i)
		}
	}
	number := t.free[len(t.free)-1]
	t.free = t.free[:len(t.free)-1]
	r = t.record(number)
	r.n = uint8(copy(r.id[:], id))
	t.cells[at].Store(hash>>32<<32 | uint64(number+1))
	t.used++
}

func (t *table) grow() {
	old := t.cells
	t.cells = make([]atomic.Uint64, 2*len(old))
	mask := uint64(len(t.cells) - 1)
	for i := range old {
		cell := old[i].Load()
		if cell == 0 {
			continue
		}
		at := cell >> 32 & mask
		for t.cells[at].Load() != 0 {
			at = (at + 1) & mask
		}
		t.cells[at].Store(cell)
	}
}

// remove removes an id, and moves back the cells that it displaced.
func (t *table) remove(id string) {
	_, at, r := t.find(id)
	if r == nil {
		return
	}
	t.free = append(t.free, uint32(t.cells[at].Load())-1)
	t.used--
	mask := uint64(len(t.cells) - 1)
	for next := (at + 1) & mask; ; next = (next + 1) & mask {
		cell := t.cells[next].Load()
		if cell == 0 {
			break
		}
		home := cell >> 32 & mask
		if (next-home)&mask >= (next-at)&mask {
			t.cells[at].Store(cell)
			at = next
		}
	}
	t.cells[at].Store(0)
}

// compact is the floor of memory: ids in an arena, records without pointers,
// and an index of four bytes a cell. It cannot remove.
type compact struct {
	seed   maphash.Seed
	index  []uint32 // the record's number + 1
	slabs  []*[slabSize]compactRecord
	arenas [][]byte
	count  uint32
}

// compactRecord has the data of a user with one connection, in 44 bytes.
type compactRecord struct {
	_      [16]byte  // the connection's id
	_      [3]uint32 // last heard, last input, start of the status
	arena  uint16
	_, n   uint8  // the status; the length of the user's id
	offset uint32 // of the user's id
	_      uint32 // the channel
	_      uint32 // the next user whose deadline falls on the same tick
}

const arenaSize = 1 << 20

func newCompact() *compact { return &compact{seed: maphash.MakeSeed(), index: make([]uint32, 64)} }

func (c *compact) record(number uint32) *compactRecord {
	return &c.slabs[number>>slabBits][number%slabSize]
}

func (c *compact) id(r *compactRecord) []byte {
	return c.arenas[r.arena][r.offset:][:r.n]
}

func (c *compact) find(id string) (at uint64, r *compactRecord) {
	mask := uint64(len(c.index) - 1)
	for at = maphash.String(c.seed, id) & mask; c.index[at] != 0; at = (at + 1) & mask {
		if r := c.record(c.index[at] - 1); string(c.id(r)) == id {
			return at, r
		}
	}
	return at, nil
}

func (c *compact) add(id string) {
	if int(c.count) >= len(c.index)/8*7 {
		old := c.index
		c.index = make([]uint32, 2*len(old))
		mask := uint64(len(c.index) - 1)
		for _, cell := range old {
			if cell == 0 {
				continue
			}
			at := maphash.Bytes(c.seed, c.id(c.record(cell-1))) & mask
			for c.index[at] != 0 {
				at = (at + 1) & mask
			}
			c.index[at] = cell
		}
	}
	at, r := c.find(id)
	if r != nil {
		return
	}
	if c.count>>slabBits == uint32(len(c.slabs)) {
		c.slabs = append(c.slabs, new([slabSize]compactRecord))
	}
	if n := len(c.arenas); n == 0 || len(c.arenas[n-1])+len(id) > arenaSize {
		c.arenas = append(c.arenas, make([]byte, 0, arenaSize))
	}
	last := len(c.arenas) - 1
	r = c.record(c.count)
	r.arena, r.offset, r.n = uint16(last), uint32(len(c.arenas[last])), uint8(len(id))
	c.arenas[last] = append(c.arenas[last], id...)
	c.count++
	c.index[at] = c.count
}

// lazyWheel is a floor of timers: a heartbeat only stores the time. When the
// slot of a user's tick arrives, a user that was heard meanwhile moves to a
// later slot.
type lazyWheel struct {
	heard   []atomic.Uint32 // ticks
	slots   [][]uint32
	timeout uint32
	now     uint32
	spare   []uint32
}

// newLazyWheel puts n users that were just heard into a wheel.
func newLazyWheel(n int, timeout uint32) *lazyWheel {
	w := &lazyWheel{heard: make([]atomic.Uint32, n), slots: make([][]uint32, timeout+2), timeout: timeout}
	for i := range n {
		due := 1 + uint32(i)%timeout // spread, as after some time
		w.slots[due] = append(w.slots[due], uint32(i))
	}
	return w
}

// advance advances one tick, and returns how many users have been silent for
// the timeout.
func (w *lazyWheel) advance() (expired int) {
	w.now++
	at := int(w.now) % len(w.slots)
	due := w.slots[at]
	w.slots[at], w.spare = w.spare[:0], nil
	for _, i := range due {
		if end := w.heard[i].Load() + w.timeout; end > w.now {
			to := int(end) % len(w.slots)
			w.slots[to] = append(w.slots[to], i)
		} else {
			expired++
		}
	}
	w.spare = due[:0]
	return expired
}
