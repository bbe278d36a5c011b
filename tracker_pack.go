package presence

import (
	"encoding/binary"
	"math"
	"math/bits"
	"strings"
	"unsafe"

	"github.com/presence-go/presence/internal/slab"
	"github.com/presence-go/presence/internal/vocab"
)

// compactor packs plain states into few bytes without pointers, and unpacks them. A
// state is plain if it has at most one connection and no claim, endpoint, work or
// text. The tracker keeps other states unpacked.
//
// A packed state begins with two bits for each instant, since most are 0 or one of
// two values. The other instants follow. Words that many states share are kept
// once, in two vocabularies. A packed state has their numbers.
type compactor struct {
	origin    Instant
	presences *vocab.Vocabulary[presenceKey]
	conns     *vocab.Vocabulary[connKey]
}

func newCompactor(start Instant) *compactor {
	return &compactor{
		origin:    start,
		presences: vocab.New(func(p presenceKey) presenceKey { return p }), // all of its words are words of the policy
		conns: vocab.New(func(c connKey) connKey {
			c.device, c.node = strings.Clone(c.device), strings.Clone(c.node)
			return c
		}),
	}
}

// presenceKey is the part of a Presence that many states share.
type presenceKey struct {
	kind              SubjectKind
	status            string
	class             Class
	cause             Cause
	masked            string
	known             bool
	routable, disable bool
	reach             Reach
	routing           Routing
	label             string
	routableOn        WorkChannels
	load              Count
	devices           int
}

// connKey is the part of the rest of a State and of its connection that many states
// share.
type connKey struct {
	kind      SubjectKind
	left      Cause
	cause     Cause
	device    string
	node      string
	disabled  bool
	connected bool
	reported  bool
	hidden    bool
	aside     bool
}

// The ways to pack an instant.
const (
	instantNone  = iota // 0
	instantNow          // equal to the first
	instantThen         // equal to the first one that is neither 0 nor now
	instantApart        // the difference from the last packed instant
	instantBits  = 2
)

// moments are the instants of a plain state, in packed order. The first is never 0.
type moments [16]Instant

func (m *moments) take(s *State, c *ConnState) {
	p := &s.Current
	m[0], m[1], m[2], m[3] = s.Now, s.ChangedAt, p.Since, p.Revision
	m[4], m[5], m[6], m[7] = c.Opened, c.Input, c.Heard, c.Left
	m[8], m[9], m[10], m[11] = s.Input, s.InputKept, s.LeftAt, p.LastSeen
	m[12], m[13], m[14], m[15] = s.LoggedIn, p.LastLogin, s.SuspendedUntil, s.LeaseFloor
}

func (m *moments) put(s *State, c *ConnState) {
	p := &s.Current
	s.Now, s.ChangedAt, p.Since, p.Revision = m[0], m[1], m[2], m[3]
	c.Opened, c.Input, c.Heard, c.Left = m[4], m[5], m[6], m[7]
	s.Input, s.InputKept, s.LeftAt, p.LastSeen = m[8], m[9], m[10], m[11]
	s.LoggedIn, p.LastLogin, s.SuspendedUntil, s.LeaseFloor = m[12], m[13], m[14], m[15]
}

// maxPacked is the length of the longest packed state. The tracker keeps a longer
// one unpacked.
const maxPacked = slab.Max

// packRoom has room for a packed state. Its methods write a value at an offset and
// return the offset after it.
type packRoom [packedHead + 18*binary.MaxVarintLen64 + 1 + 2*(1+MaxID) + 5*binary.MaxVarintLen64]byte

// packedHead is the length of what precedes the first instant: the two bits for
// each instant, and the numbers of the presenceKey and the connKey.
const packedHead = 4 + 2 + 2

func (r *packRoom) unsigned(at int, v uint64) int {
	for v >= 0x80 {
		r[at] = byte(v) | 0x80
		v >>= 7
		at++
	}
	r[at] = byte(v)
	return at + 1
}

func (r *packRoom) signed(at int, v Instant) int {
	return r.unsigned(at, uint64(v)<<1^uint64(v>>63))
}

func (r *packRoom) text(at int, s string) int {
	r[at] = byte(len(s))
	return at + 1 + copy(r[at+1:], s)
}

// The bits of the optional parts of a packed connection.
const (
	connBase32 = 1 << iota // the id has only the letters of the tracker's own ids
	connFocus
	connNumbered
	connOlder // its epoch is not the last issued one
	connActed
	connLooked
	connStored // s.Acted is not 0
)

// pack packs a state into room and returns the used part. It returns false for a
// state that is not plain or is too long, or if a vocabulary is full.
func (k *compactor) pack(s *State, room *packRoom) ([]byte, bool) {
	p := &s.Current
	if len(s.Conns) > 1 || len(s.Claims) > 0 || len(s.Endpoints) > 0 || len(s.ends) > 0 || s.Work != nil || s.Now == 0 ||
		p.Reason != "" || p.Text != "" || p.SetAt != 0 || p.Until != 0 || len(p.HiddenFrom) > 0 || len(p.seen) > 0 ||
		p.Pinned != (Count{}) || p.Pending != "" || p.Request != "" || p.absent != "" {
		return nil, false
	}
	c := &noConnection
	if len(s.Conns) > 0 {
		c = &s.Conns[0]
		if c.Incarnation != 0 || len(c.ID) > MaxID || len(c.Focus) > MaxID {
			return nil, false
		}
	}
	connected := len(s.Conns) > 0
	if s.Acted != 0 && !connected {
		return nil, false
	}
	words := connKey{kind: s.Kind, left: s.LeftCause, disabled: s.Disabled, connected: connected, cause: c.Cause, device: c.Device, node: c.Node, reported: c.Reported, hidden: c.Hidden, aside: c.Aside}
	shown := presenceKey{p.Kind, p.Status, p.Class, p.Cause, p.Masked, p.Known, p.Routable, p.Disabled, p.Reach, p.Routing, p.Label, p.RoutableOn, p.Load, p.Devices}
	conn, fits := k.conns.Number(&words)
	presence, also := k.presences.Number(&shown)
	if !fits || !also {
		return nil, false
	}

	var at moments
	at.take(s, c)
	n := room.signed(packedHead, s.Now-k.origin)
	how, then, last := uint32(0), Instant(0), s.Now
	for i := 1; i < len(at); i++ {
		switch at[i] {
		case 0:
			continue
		case s.Now:
			how |= instantNow << (i * instantBits)
			continue
		case then:
			how |= instantThen << (i * instantBits)
			continue
		}
		n = room.signed(n, at[i]-last)
		last = at[i]
		if then == 0 {
			then = last
			how |= instantThen << (i * instantBits)
		} else {
			how |= instantApart << (i * instantBits)
		}
	}
	binary.LittleEndian.PutUint32(room[:], how)
	binary.LittleEndian.PutUint16(room[4:], presence)
	binary.LittleEndian.PutUint16(room[6:], conn)
	n = room.unsigned(n, uint64(s.Epoch))
	n = room.unsigned(n, s.Serial)
	if connected {
		n = room.conn(n, s, c)
	}
	return room[:n], n <= maxPacked
}

var noConnection ConnState // read only

func (r *packRoom) conn(at int, s *State, c *ConnState) int {
	n := at + 1
	var rest byte
	if end, ok := r.base32(n, c.ID); ok {
		n = end
		rest |= connBase32
	} else {
		n = r.text(n, c.ID)
	}
	if c.Focus != "" {
		n = r.text(n, c.Focus)
		rest |= connFocus
	}
	if c.Seq != 0 {
		n = r.unsigned(n, c.Seq)
		rest |= connNumbered
	}
	if c.Epoch != s.Epoch {
		n = r.unsigned(n, uint64(c.Epoch))
		rest |= connOlder
	}
	if c.ActedAt != 0 {
		n = r.signed(n, c.ActedAt-s.Now)
		rest |= connActed
	}
	if c.Looked != 0 {
		n = r.signed(n, c.Looked-s.Now)
		rest |= connLooked
	}
	if s.Acted != 0 {
		n = r.signed(n, s.Acted-s.Now)
		rest |= connStored
	}
	r[at] = rest
	return n
}

// unpack sets s to a packed state. The caller sets the subject. The connection is
// in words, and is valid until words is used again. Two functions instead of one
// would take 13 % longer (BenchmarkUnpack).
func (k *compactor) unpack(b []byte, s *State, words *borrowed) {
	*s = State{}
	conn := &words.conn[0]
	*conn = ConnState{}
	how := binary.LittleEndian.Uint32(b)
	shown, c := k.presences.At(binary.LittleEndian.Uint16(b[4:])), k.conns.At(binary.LittleEndian.Uint16(b[6:]))
	b = b[packedHead:]
	signed := func() Instant {
		v, n := binary.Varint(b)
		b = b[n:]
		return Instant(v)
	}
	unsigned := func() uint64 {
		v, n := binary.Uvarint(b)
		b = b[n:]
		return v
	}
	now := k.origin + signed()
	is := [1 << instantBits]Instant{instantNow: now}
	const each = math.MaxUint32 / (1<<instantBits - 1) // the lower bit of every instant
	if how>>1&^how&each != 0 {
		is[instantThen] = now + signed()
	}
	var at moments
	at[0] = now
	for i, left := 1, how>>instantBits; left != 0; left >>= instantBits {
		at[i] = is[left%uint32(len(is))]
		i++
	}
	last := is[instantThen]
	for apart := how >> 1 & how & each; apart != 0; apart &= apart - 1 {
		last += signed()
		at[bits.TrailingZeros32(apart)/instantBits] = last
	}
	at.put(s, conn)
	s.Epoch, s.Serial = uint32(unsigned()), unsigned()
	s.Kind, s.LeftCause, s.Disabled = c.kind, c.left, c.disabled
	p := &s.Current
	p.Kind, p.Status, p.Class, p.Cause, p.Masked = shown.kind, shown.status, shown.class, shown.cause, shown.masked
	p.Known, p.Routable, p.Disabled, p.Reach = shown.known, shown.routable, shown.disable, shown.reach
	p.Routing, p.Label, p.RoutableOn, p.Load, p.Devices = shown.routing, shown.label, shown.routableOn, shown.load, shown.devices
	if !c.connected {
		s.Conns = words.conn[:0]
		return
	}
	conn.Cause, conn.Device, conn.Node, conn.Reported, conn.Hidden, conn.Aside = c.cause, c.device, c.node, c.reported, c.hidden, c.aside
	rest, length := b[0], int(b[1])
	b = b[2:]
	if rest&connBase32 != 0 {
		conn.ID = words.id.base32(b, length)
		b = b[squeezed(length):]
	} else {
		conn.ID = words.id.set(b[:length])
		b = b[length:]
	}
	if rest&connFocus != 0 {
		length := int(b[0])
		conn.Focus = words.focus.set(b[1 : 1+length])
		b = b[1+length:]
	}
	if rest&connNumbered != 0 {
		conn.Seq = unsigned()
	}
	conn.Epoch = s.Epoch
	if rest&connOlder != 0 {
		conn.Epoch = uint32(unsigned())
	}
	if rest&connActed != 0 {
		conn.ActedAt = s.Now + signed()
	}
	if rest&connLooked != 0 {
		conn.Looked = s.Now + signed()
	}
	if rest&connStored != 0 {
		s.Acted = s.Now + signed()
	}
	s.Conns = words.conn[:]
}

// borrowed has room for the connection and words of one unpacked state, and for
// packing it again.
type borrowed struct {
	conn      [1]ConnState
	id, focus wordRoom
	packed    packRoom
}

type wordRoom [MaxID]byte

func (w *wordRoom) set(b []byte) string { return w.string(copy(w[:], b)) }

func (w *wordRoom) string(n int) string { return unsafe.String(&w[0], n) }

// An id of only the 32 letters of rand.Text, A to Z and 2 to 7, is packed with five
// bits a letter. Eight letters are packed at once: each byte of a uint64 is a
// letter or its number.
const (
	eachByte   = math.MaxUint64 / math.MaxUint8
	digits     = 26                 // the number of 2
	fromDigits = 'A' - '2' + digits // what a digit is less than 'A' plus its number
)

// letters returns the eight letters that 40 bits stand for.
func letters(v uint64) uint64 {
	v = v&(1<<20-1) | v>>20<<32
	v = v&0x000003ff000003ff | v<<6&0x03ff000003ff0000
	v = v&0x001f001f001f001f | v<<3&0x1f001f001f001f00
	digit := (v + (0x80-digits)*eachByte) >> 7 & eachByte
	return v + 'A'*eachByte - digit*fromDigits
}

// squeeze returns the 40 bits of eight letters. It returns false for any other
// letters.
func squeeze(text uint64) (v uint64, ok bool) {
	digit := ^text >> 6 & eachByte
	v = text + digit*fromDigits - 'A'*eachByte
	v = v&0x001f001f001f001f | v>>3&0x03e003e003e003e0
	v = v&0x000003ff000003ff | v>>6&0x000ffc00000ffc00
	v = v&(1<<20-1) | v>>32<<20
	return v, letters(v) == text
}

func squeezed(length int) int { return (length*5 + 7) / 8 }

// base32 writes text with five bits a letter. It returns false if text has other
// letters.
func (r *packRoom) base32(at int, text string) (next int, ok bool) {
	if text == "" || text[0] > 'Z' || text[0] < '2' {
		return 0, false // decides most cases at little cost
	}
	r[at] = byte(len(text))
	at++
	for len(text) > 0 {
		eight, n := text, 8
		if len(text) < n {
			eight, n = text+"AAAAAAA", len(text)
		}
		v, ok := squeeze(binary.LittleEndian.Uint64(unsafe.Slice(unsafe.StringData(eight), 8)))
		if !ok {
			return 0, false
		}
		binary.LittleEndian.PutUint64(r[at:], v)
		at += squeezed(n)
		text = text[n:]
	}
	return at, true
}

func (w *wordRoom) base32(b []byte, length int) string {
	for i := 0; i < length; i += 8 {
		var v uint64
		if len(b) >= 5 {
			v = uint64(binary.LittleEndian.Uint32(b)) | uint64(b[4])<<32
			b = b[5:]
		} else {
			for j, c := range b {
				v |= uint64(c) << (8 * j)
			}
		}
		binary.LittleEndian.PutUint64(w[i:], letters(v))
	}
	return w.string(length)
}
