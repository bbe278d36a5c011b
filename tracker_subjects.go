package presence

import (
	"context"
	"hash/maphash"
	"math"
	"math/bits"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/presence-go/presence/internal/slab"
)

// erasures are the hashes of erased subjects, and until when each is refused.
type erasures struct {
	any  atomic.Bool
	mu   sync.Mutex // guards seed and ends; nothing is locked under it
	seed maphash.Seed
	ends map[uint64]Instant
}

func (e *erasures) add(ref Ref, now Instant) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.ends == nil {
		e.seed, e.ends = maphash.MakeSeed(), make(map[uint64]Instant)
	}
	for hash, until := range e.ends {
		if until <= now {
			delete(e.ends, hash)
		}
	}
	e.ends[maphash.Comparable(e.seed, ref)] = now.Add(24 * time.Hour)
	e.any.Store(true)
}

// until returns until when a subject is refused, or 0 if it is not.
func (e *erasures) until(ref Ref) Instant {
	if !e.any.Load() {
		return 0
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.ends[maphash.Comparable(e.seed, ref)]
}

// handle identifies a subject in memory, loaded or not. The subject may be erased
// at any time; lock then returns nil.
type handle struct {
	n       uint32
	ref     Ref
	writing chan struct{} // the write lock; nil without storage
}

// lockWrite takes the subject's write lock. Only its holder stores the subject's
// record. Without storage it does nothing.
func (w handle) lockWrite(ctx context.Context) error {
	if w.writing == nil {
		return nil
	}
	select {
	case w.writing <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// tryLockWrite takes the write lock if it is free.
func (w handle) tryLockWrite() bool {
	select {
	case w.writing <- struct{}{}:
		return true
	default:
		return false
	}
}

func (w handle) unlockWrite() {
	if w.writing != nil {
		<-w.writing
	}
}

func (w handle) gone() error {
	return refuse(ErrUnknown, "subject", w.ref.String(), "it has been erased")
}

func (h *loaded) handle() handle {
	w := handle{n: h.n, ref: h.ref}
	if h.extra != nil {
		w.writing = h.extra.writing
	}
	return w
}

// ref returns the name of the subject with a number.
func (t *Tracker) ref(n uint32) Ref {
	sh, place := t.shardOf(n)
	v := sh.view.Load()
	name := v.seat(place).name.Load()
	return Ref{t.tenants.at(uint32(name >> 40)).name, v.id(name)}
}

// subject returns a subject, with what storage has of it. It adds the subject if it
// is unknown.
func (t *Tracker) subject(ctx context.Context, ref Ref) (handle, error) {
	return t.resident(ctx, ref, true)
}

// known returns a known subject, or an error that wraps ErrUnknown.
func (t *Tracker) known(ctx context.Context, ref Ref) (handle, error) {
	return t.resident(ctx, ref, false)
}

func (t *Tracker) resident(ctx context.Context, ref Ref, create bool) (handle, error) {
	if t.closed.Load() {
		return handle{}, t.closedError()
	}
	if err := checkRef("subject", ref); err != nil {
		return handle{}, err
	}
	if create && t.opts.Storage == nil {
		return t.admit(ref)
	}
	w, flags := t.find(ref)
	if flags&flagLoaded != 0 {
		if !create && flags&flagKnown == 0 {
			return handle{}, refuse(ErrUnknown, "subject", ref.String(), "")
		}
		return w, nil
	}
	var records []Record
	if t.opts.Storage != nil {
		var err error
		if records, err = t.loadRecords(ctx, ref); err != nil {
			return handle{}, err
		}
	}
	if !create && len(records) == 0 {
		// A lookup of an invented id must not take memory.
		return handle{}, refuse(ErrUnknown, "subject", ref.String(), "")
	}
	w, err := t.admit(ref)
	if err != nil || t.opts.Storage == nil {
		return w, err
	}
	return w, t.restore(ctx, w, records)
}

// find returns a subject in memory and its flags, or no flags for another.
func (t *Tracker) find(ref Ref) (handle, uint8) {
	tn, ok := t.tenants.find(ref.Tenant)
	if !ok {
		return handle{}, 0
	}
	hash := t.hash(tn.id, ref.ID)
	sh := &t.shards[hash%shardCount]
	sh.mu.Lock()
	defer sh.mu.Unlock()
	place, sub := sh.view.Load().find(hash, ref.ID, tn.id)
	if sub == nil {
		return handle{}, 0
	}
	return sh.handle(hash, place, sub, ref), sub.flags
}

func (sh *shard) handle(hash uint64, place uint32, sub *slot, ref Ref) handle {
	w := handle{n: number(hash, place), ref: ref}
	if sub.flags&flagMore != 0 {
		w.writing = sh.extra[place].writing
	}
	return w
}

// admit returns a subject, which it adds if it is not in memory. It returns
// ErrLimit at Options.MaxSubjects, and ErrNotAllowed for an erased subject.
func (t *Tracker) admit(ref Ref) (handle, error) {
	full := func() error {
		if t.count.Load() < int64(t.opts.MaxSubjects) {
			return nil
		}
		return refuse(ErrLimit, "subject", ref.String(), "%d subjects are known, the most allowed", t.opts.MaxSubjects)
	}
	tn, ok := t.tenants.find(ref.Tenant)
	if !ok {
		if err := full(); err != nil {
			return handle{}, err
		}
		if tn, ok = t.tenants.need(ref.Tenant, t.fallback); !ok {
			return handle{}, refuse(ErrLimit, "tenant", ref.Tenant, "%d tenants are known, the most allowed", maxTenants)
		}
	}
	hash := t.hash(tn.id, ref.ID)
	sh := &t.shards[hash%shardCount]
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if place, sub := sh.view.Load().find(hash, ref.ID, tn.id); sub != nil {
		return sh.handle(hash, place, sub, ref), nil
	}
	if until := t.erased.until(ref); until != 0 && t.time.Now() < until {
		e := refuse(ErrNotAllowed, "subject", ref.String(), "it has been erased")
		e.Until = until.Add(-t.time.Behind())
		return handle{}, e
	}
	if err := full(); err != nil {
		return handle{}, err
	}
	place, sub, ok := t.add(sh, hash, tn, ref.ID)
	if !ok {
		return handle{}, refuse(ErrLimit, "subject", ref.String(), "%d subjects of one shard are known, the most allowed", 1<<cellBits-2)
	}
	return sh.handle(hash, place, sub, ref), nil
}

// Subjects are slots without pointers, with packed states in slabs. So very many of
// them take little memory, and the garbage collector does not visit them. While a
// shard is locked, one of its subjects at a time is loaded: unpacked, changed and
// packed again. What does not fit into a slot is in extra: claims, a second
// connection, or what storage has.

const (
	shardBits  = 6
	shardCount = 1 << shardBits
	// numberBits is the part of a subject's number that is its place in the shard.
	numberBits = 32 - shardBits
	perSeats   = 512 // slots in one piece of memory
	// A cell of an index has the place of a slot and some bits of the name's hash.
	cellBits = 20
)

// slot is the fixed part of one subject.
type slot struct {
	pulse  pulse         // of the only connection, or of one of several
	name   atomic.Uint64 // where the id is kept, its length and its tenant
	armed  uint32        // the lower bits of the tick at which the wheel has the subject
	breaks uint16        // the breaks of time that were applied
	class  uint8         // the slab class of packed; 0 means a state of which nothing is known
	flags  uint8
	packed uint32 // where the packed state is kept
	grant  uint32 // the channel of the only grant, plus one
}

const (
	flagUsed     = 1 << iota // the slot is in use
	flagLoaded               // the stored record has been read
	flagKnown                // the subject is known
	flagMore                 // the subject has an extra
	flagUnpacked             // the state is in extra, unpacked
	flagArmed                // the wheel has the subject
	flagParity               // the parity of the policy that it follows
	flagActed                // a claim counted as input after the input in the pulse
)

// extra is what a subject has beside a slot.
type extra struct {
	state  *State       // nil while the state is packed
	owner  uint32       // the epoch of the connection whose pulse is in the slot, if state is set
	pulses []extraPulse // the pulses of the other connections
	grants []uint32

	// Only with storage:
	writing chan struct{} // the write lock
	steps   uint64        // rises with every step, except a tick without outputs
	stored  uint64        // the revision that storage holds
	input   Instant       // the last input that storage holds
	dirty   bool          // the stored record is behind, or may be
}

// shard is a part of the subjects, with their index.
type shard struct {
	mu          sync.Mutex // guards the shard, its slots and what they have; locked after Tracker.mu
	view        atomic.Pointer[shardView]
	made        uint32   // slots made, free ones included
	free        []uint32 // the places of free slots
	live        int
	names       slab.Words
	states      slab.Pieces
	extra       map[uint32]*extra
	subjectHubs map[uint32]*channelHub // of subjects watched without a channel, by place
	lastName    transitionName         // of the last deadline met
	loaded      loaded
	open        int // open connections
}

// shardView is the part of a shard that can be read without its lock. A name is found by
// probing cells one after another.
type shardView struct {
	cells []uint32 // read and written atomically
	seats [][]slot // perSeats slots in each
	names [][]byte
}

func (v *shardView) seat(i uint32) *slot { return &v.seats[i/perSeats][i%perSeats] }

// packName packs where an id is kept (32 bits), its length (8 bits) and its tenant
// (24 bits).
func packName(at uint32, length int, tenant uint32) uint64 {
	return uint64(at) | uint64(length)<<32 | uint64(tenant)<<40
}

func (v *shardView) id(name uint64) string { return slab.Word(v.names, uint32(name), uint8(name>>32)) }

// find returns the place and the slot of a subject, or nil. Without the lock it may
// miss a subject that was just added or moved.
func (v *shardView) find(hash uint64, id string, tenant uint32) (uint32, *slot) {
	if len(v.cells) == 0 {
		return 0, nil
	}
	tag := uint32(hash) &^ (1<<cellBits - 1)
	for i := v.home(hash); ; i++ {
		if i == len(v.cells) {
			i = 0
		}
		cell := atomic.LoadUint32(&v.cells[i])
		if cell == 0 {
			return 0, nil
		}
		if cell&^(1<<cellBits-1) != tag {
			continue
		}
		place := cell&(1<<cellBits-1) - 1
		if int(place/perSeats) >= len(v.seats) {
			continue // added after this view was made
		}
		sub := v.seat(place)
		name := sub.name.Load()
		if uint32(name>>40) == tenant && int(uint8(name>>32)) == len(id) && int(uint32(name)/slab.ChunkSize) < len(v.names) && v.id(name) == id {
			return place, sub
		}
	}
}

// home returns the first cell to probe for a hash.
func (v *shardView) home(hash uint64) int {
	hi, _ := bits.Mul64(hash, uint64(len(v.cells)))
	return int(hi)
}

// enter adds a cell. The caller makes sure that one is free.
func (v *shardView) enter(hash uint64, place uint32) {
	i := v.home(hash)
	for atomic.LoadUint32(&v.cells[i]) != 0 {
		if i++; i == len(v.cells) {
			i = 0
		}
	}
	atomic.StoreUint32(&v.cells[i], uint32(hash)&^(1<<cellBits-1)|(place+1))
}

// hash returns the hash of a subject's name. Its lowest bits are the shard.
func (t *Tracker) hash(tenant uint32, id string) uint64 {
	h := maphash.String(t.seed, id)
	if tenant != 0 {
		h ^= uint64(tenant) * 0x9e3779b97f4a7c15
		h *= 0xff51afd7ed558ccd
		h ^= h >> 32
	}
	return h
}

// number returns the number of a subject within the tracker.
func number(hash uint64, place uint32) uint32 {
	return uint32(hash%shardCount)<<numberBits | place
}

func (t *Tracker) shardOf(n uint32) (*shard, uint32) {
	return &t.shards[n>>numberBits], n & (1<<numberBits - 1)
}

// add adds a slot for a subject that has none. It returns false if the shard is
// full. The shard is locked.
func (t *Tracker) add(sh *shard, hash uint64, tn *tenantEntry, id string) (place uint32, sub *slot, ok bool) {
	v := sh.view.Load()
	if len(sh.free) == 0 && sh.made == 1<<cellBits-2 {
		return 0, nil, false
	}
	at := sh.names.Add(id)
	last := len(sh.free) - 1
	crowded := (sh.live+1)*4 > len(v.cells)*3
	if crowded || last < 0 && int(sh.made) == len(v.seats)*perSeats || len(v.names) != len(sh.names.Chunks) {
		v = sh.grow(t, crowded, last < 0)
	}
	place = sh.made
	if last >= 0 {
		place = sh.free[last]
		sh.free = sh.free[:last]
	} else {
		sh.made++
	}
	sub = v.seat(place)
	sub.name.Store(packName(at, len(id), tn.id))
	sub.flags = flagUsed
	if t.opts.Storage == nil {
		sub.flags |= flagLoaded
	} else {
		if sh.extra == nil {
			sh.extra = make(map[uint32]*extra)
		}
		sh.extra[place] = &extra{writing: make(chan struct{}, 1)}
		sub.flags |= flagMore
	}
	if tn.inForce.Load().parity {
		sub.flags |= flagParity
	}
	sub.breaks = t.time.Breaks()
	v.enter(hash, place)
	sh.live++
	t.count.Add(1)
	return place, sub, true
}

// grow makes room for one more subject in a new view. The shard is locked.
func (sh *shard) grow(t *Tracker, cells, seats bool) *shardView {
	v := *sh.view.Load()
	if seats && int(sh.made) == len(v.seats)*perSeats {
		v.seats = append(v.seats, make([]slot, perSeats)) // readers have a shorter list over the same array
	}
	v.names = sh.names.Chunks
	if cells {
		v.cells = make([]uint32, grown(len(v.cells)))
		for i := range sh.made {
			if s := v.seat(i); s.flags&flagUsed != 0 {
				name := s.name.Load()
				v.enter(t.hash(uint32(name>>40), v.id(name)), i)
			}
		}
	}
	sh.view.Store(&v)
	return &v
}

// grown returns the next size of an index. The size grows by a half and by a third
// in turn.
func grown(size int) int {
	switch {
	case size < 16:
		return 16
	case size&(size-1) == 0:
		return size / 2 * 3
	default:
		return size / 3 * 4
	}
}

// drop removes a loaded subject from memory.
func (h *loaded) drop() {
	sh, place := h.t.shardOf(h.n)
	v := sh.view.Load()
	hash := h.t.hash(h.tenant.id, h.ref.ID)
	i := v.home(hash)
	for v.cells[i] != uint32(hash)&^(1<<cellBits-1)|(place+1) {
		if i++; i == len(v.cells) {
			i = 0
		}
	}
	atomic.StoreUint32(&v.cells[i], 0)
	// Cells that follow without a gap may have been probed from before the freed
	// cell, so enter them again.
	for j := i + 1; ; j++ {
		if j >= len(v.cells) {
			j = 0
		}
		cell := v.cells[j]
		if cell == 0 {
			break
		}
		atomic.StoreUint32(&v.cells[j], 0)
		name := v.seat(cell&(1<<cellBits-1) - 1).name.Load()
		v.enter(h.t.hash(uint32(name>>40), v.id(name)), cell&(1<<cellBits-1)-1)
	}
	h.recount(tally{})
	h.silence()
	h.unpack()
	delete(sh.extra, place)
	delete(sh.subjectHubs, place)
	h.sub.flags, h.sub.grant, h.stepped = 0, 0, false
	sh.free = append(sh.free, place)
	sh.live--
	if dead := len(sh.names.Chunks) - 4; dead > 0 && sh.live < dead*slab.ChunkSize/(4*MaxID) {
		sh.rename()
	}
}

// rename copies the names in use, so that the memory of others is freed.
func (sh *shard) rename() {
	v := *sh.view.Load()
	old := v
	sh.names = slab.Words{}
	for i := range sh.made {
		if s := v.seat(i); s.flags&flagUsed != 0 {
			name := s.name.Load()
			at := sh.names.Add(old.id(name))
			s.name.Store(name&^math.MaxUint32 | uint64(at))
		}
	}
	v.names = sh.names.Chunks
	sh.view.Store(&v)
}

// loaded is a subject that is being worked on. Its shard is locked.
type loaded struct {
	t      *Tracker
	sh     *shard
	n      uint32
	sub    *slot
	ref    Ref
	tenant *tenantEntry
	m      *Machine
	extra  *extra
	state  *State // &own, or extra.state

	stepped bool    // the state is to be kept
	counted tally   // what the subject adds to the counters now
	due     Instant // no deadline lies before it; 0 means none
	owner   uint32  // the epoch of the connection whose pulse is in the slot
	folded  uint64  // the input word of that pulse, as last folded
	anew    bool    // the policy changed, so that the pulses need new marks
	own     State
	words   borrowed
	out     []Output
}

// lock locks the shard of a subject and loads it. It returns nil if the subject has
// been erased. The caller must unlock it, and must not lock another meanwhile.
func (t *Tracker) lock(n uint32, ref Ref) *loaded {
	h := t.lockByNumber(n)
	if h != nil && h.ref != ref {
		h.unlock()
		return nil
	}
	return h
}

// lockByNumber is lock for the subject with a number, or nil without one.
func (t *Tracker) lockByNumber(n uint32) *loaded {
	sh, place := t.shardOf(n)
	sh.mu.Lock()
	v := sh.view.Load()
	if place >= sh.made || v.seat(place).flags&flagUsed == 0 {
		sh.mu.Unlock()
		return nil
	}
	sub := v.seat(place)
	return t.load(sh, v, n, sub)
}

// load loads a subject. Its shard is locked.
func (t *Tracker) load(sh *shard, v *shardView, n uint32, sub *slot) *loaded {
	_, place := t.shardOf(n)
	h := &sh.loaded
	name := sub.name.Load()
	h.n, h.sub, h.extra, h.stepped, h.anew, h.owner = n, sub, nil, false, false, 0
	h.tenant = t.tenants.at(uint32(name >> 40))
	h.ref = Ref{h.tenant.name, v.id(name)}
	force := h.tenant.inForce.Load()
	h.m = force.m
	if sub.flags&flagMore != 0 {
		h.extra = sh.extra[place]
	}
	h.load()
	h.counted = h.tally()
	if force.parity != (sub.flags&flagParity != 0) {
		h.follow(force)
	}
	return h
}

// load unpacks the state and folds the pulses into it.
func (h *loaded) load() {
	sub := h.sub
	switch {
	case sub.flags&flagUnpacked != 0:
		h.state = h.extra.state
		h.owner = h.extra.owner
	case sub.class == 0:
		h.own = State{Subject: h.ref, Conns: h.words.conn[:0], Behind: h.t.time.BehindAt(sub.breaks)}
		h.state = &h.own
	default:
		h.state = &h.own
		h.t.compact.unpack(h.sh.states.Bytes(sub.class, sub.packed), h.state, &h.words)
		h.state.Subject, h.state.Behind = h.ref, h.t.time.BehindAt(sub.breaks)
		if h.state.Current.Known {
			h.state.Current.Subject = h.ref
		}
		if len(h.state.Conns) > 0 {
			h.owner = h.state.Conns[0].Epoch
		}
	}
	h.fold()
}

// unlock keeps the state if it was stepped, and unlocks the shard.
func (h *loaded) unlock() {
	if h.stepped {
		h.commit()
	}
	h.sh.mu.Unlock()
}

// commit keeps the state as the subject's, and updates counters, pulses and the
// next deadline.
func (h *loaded) commit() {
	h.stepped = false
	h.recount(h.tally())
	h.syncPulses()
	h.store()
	if h.due != 0 {
		h.t.arm(h, h.due)
	}
}

// store packs the state, or keeps it unpacked if it does not fit.
func (h *loaded) store() {
	s, sub := h.state, h.sub
	if s.Current.Known {
		sub.flags |= flagKnown
	}
	packed, ok := h.t.packState(h)
	if !ok {
		if s == &h.own {
			m := h.need()
			m.state = new(State)
			*m.state = s.own()
			m.owner = h.owner
			h.state = m.state
			sub.flags |= flagUnpacked
			h.unpack()
		}
		h.extra.owner = h.owner
		return
	}
	if c := slab.Class(len(packed)); c != sub.class {
		h.unpack()
		sub.class, sub.packed = c, h.sh.states.New(c)
	}
	copy(h.sh.states.Bytes(sub.class, sub.packed), packed)
	sub.flags &^= flagActed
	if len(s.Conns) > 0 && s.Conns[0].ActedAt > s.Conns[0].Input {
		sub.flags |= flagActed
	}
	if sub.flags&flagUnpacked != 0 {
		sub.flags &^= flagUnpacked
		h.own = *s
		h.state, h.extra.state, h.extra.pulses = &h.own, nil, nil
		h.spare()
	}
}

// unpack frees the memory of the packed state.
func (h *loaded) unpack() {
	if h.sub.class != 0 {
		h.sh.states.Free(h.sub.class, h.sub.packed)
		h.sub.class = 0
	}
}

// packState packs the loaded state. It leaves out Heard and Input if the pulse has
// them.
func (t *Tracker) packState(h *loaded) ([]byte, bool) {
	s := h.state
	if len(s.Conns) != 1 || h.owner != s.Conns[0].Epoch {
		if len(s.Conns) > 0 {
			return nil, false
		}
		return t.compact.pack(s, &h.words.packed)
	}
	c := &s.Conns[0]
	heard, input := c.Heard, c.Input
	if holds(t.time, &h.sub.pulse.heard, heard) {
		c.Heard = 0
	}
	if holds(t.time, &h.sub.pulse.input, input) {
		c.Input = 0
	}
	b, ok := t.compact.pack(s, &h.words.packed)
	c.Heard, c.Input = heard, input
	return b, ok
}

// own returns a copy that shares no memory with borrowed. Its empty lists are nil.
func (s *State) own() State {
	c := s.Clone()
	if len(c.Conns) == 0 {
		c.Conns = nil
	}
	if len(c.Endpoints) == 0 {
		c.Endpoints = nil
	}
	if len(c.Claims) == 0 {
		c.Claims = nil
	}
	for i := range c.Conns {
		c.Conns[i].ID, c.Conns[i].Focus = strings.Clone(c.Conns[i].ID), strings.Clone(c.Conns[i].Focus)
	}
	return c
}

// need returns the extra of a subject. It makes the extra if the subject has none.
func (h *loaded) need() *extra {
	if h.extra == nil {
		h.extra = new(extra)
		if h.sub.grant != 0 {
			h.extra.grants = []uint32{h.sub.grant - 1}
			h.sub.grant = 0
		}
		if h.sh.extra == nil {
			h.sh.extra = make(map[uint32]*extra)
		}
		_, place := h.t.shardOf(h.n)
		h.sh.extra[place] = h.extra
		h.sub.flags |= flagMore
	}
	return h.extra
}

// spare drops the extra if its content fits into the slot.
func (h *loaded) spare() {
	m := h.extra
	if m == nil || m.state != nil || m.writing != nil || len(m.grants) > 1 {
		return
	}
	if len(m.grants) == 1 {
		h.sub.grant = m.grants[0] + 1
	}
	_, place := h.t.shardOf(h.n)
	delete(h.sh.extra, place)
	h.sub.flags &^= flagMore
	h.extra = nil
}

// eachSubject loads the subjects in memory one by one and calls f: those of one
// tenant, or of all for nil.
func (t *Tracker) eachSubject(of *tenantEntry, f func(*loaded)) {
	for i := range t.shards {
		sh := &t.shards[i]
		for place := uint32(0); ; place++ {
			sh.mu.Lock()
			made := sh.made
			other := place < made && of != nil && uint32(sh.view.Load().seat(place).name.Load()>>40) != of.id
			sh.mu.Unlock()
			if place >= made {
				break
			}
			if other {
				continue
			}
			if h := t.lockByNumber(uint32(i)<<numberBits | place); h != nil {
				f(h)
				h.unlock()
			}
		}
	}
}
