// Package slab keeps very many short pieces of bytes in memory that the garbage
// collector does not scan.
package slab

import (
	"encoding/binary"
	"unsafe"
)

const (
	grain     = 8 // a piece takes a multiple of it
	chunkSize = 16 << 10
	maxSpare  = 2
	// Max is the length of the longest piece, in bytes.
	Max = 256
)

// Pieces holds pieces that are added and removed. The name of a piece is its
// class, which follows from its length, and a number. The zero Pieces is empty.
// Only one goroutine at a time may use it.
type Pieces struct {
	classes [Max/grain + 1]class
	spare   []*[chunkSize]byte // chunks that no class uses at present
}

type class struct {
	chunks []chunk
	open   []uint32 // all chunks with room, and perhaps some without
	empty  []uint32 // chunks without memory
}

// chunk is memory for pieces of one class.
type chunk struct {
	bytes      *[chunkSize]byte
	live, made uint16
	free       uint16 // the first free piece, counted from 1; its first bytes are the number of the next
	open       bool   // in the list open
}

// Class returns the class of pieces of a length from 1 to Max, never 0.
func Class(length int) uint8 { return uint8((length + grain - 1) / grain) }

func perChunk(c uint8) uint32 { return chunkSize / grain / uint32(c) }

// New makes room for a piece of a class.
func (p *Pieces) New(c uint8) uint32 {
	cl, each := &p.classes[c], perChunk(c)
	for len(cl.open) > 0 {
		last := len(cl.open) - 1
		k := cl.open[last]
		ch := &cl.chunks[k]
		if ch.bytes == nil || uint32(ch.live) == each {
			ch.open = false
			cl.open = cl.open[:last]
			continue
		}
		ch.live++
		i := uint32(ch.made)
		if ch.free != 0 {
			i = uint32(ch.free) - 1
			ch.free = binary.LittleEndian.Uint16(ch.bytes[i*grain*uint32(c):])
		} else {
			ch.made++
		}
		return k*each + i
	}
	k := uint32(len(cl.chunks))
	if last := len(cl.empty) - 1; last >= 0 {
		k = cl.empty[last]
		cl.empty = cl.empty[:last]
	} else {
		cl.chunks = append(cl.chunks, chunk{})
	}
	ch := &cl.chunks[k]
	if last := len(p.spare) - 1; last >= 0 {
		ch.bytes = p.spare[last]
		p.spare = p.spare[:last]
	} else {
		ch.bytes = new([chunkSize]byte)
	}
	ch.live, ch.made = 1, 1
	if !ch.open {
		ch.open = true
		cl.open = append(cl.open, k)
	}
	return k * each
}

// Free gives a piece back. Memory of which all pieces have been given back
// serves pieces of any class.
func (p *Pieces) Free(c uint8, n uint32) {
	cl, each := &p.classes[c], perChunk(c)
	k, i := n/each, n%each
	ch := &cl.chunks[k]
	binary.LittleEndian.PutUint16(ch.bytes[i*grain*uint32(c):], ch.free)
	ch.free = uint16(i + 1)
	ch.live--
	switch {
	case ch.live == 0:
		if len(p.spare) < maxSpare { // otherwise the garbage collector frees it
			p.spare = append(p.spare, ch.bytes)
		}
		*ch = chunk{open: ch.open}
		cl.empty = append(cl.empty, k)
	case !ch.open:
		ch.open = true
		cl.open = append(cl.open, k)
	}
}

// Bytes returns a piece, as long as its class allows.
func (p *Pieces) Bytes(c uint8, n uint32) []byte {
	size, each := grain*uint32(c), perChunk(c)
	at := n % each * size
	return p.classes[c].chunks[n/each].bytes[at : at+size : at+size]
}

// Words holds strings without removing any, one behind the other. The zero
// Words is empty. One goroutine at a time may add. Any goroutine that has the
// chunks may read added strings.
type Words struct {
	Chunks [][]byte // grows, and is never written to
	used   int      // of the last
}

// WordMax is the longest string that Words takes.
const WordMax = 255

const wordBits = 14

// ChunkSize is the length of each chunk of a Words. Chunks are slices, since the
// nil check of a pointer to an array reads the array's memory.
const ChunkSize = 1 << wordBits

// Add keeps a copy of a string and returns where it is.
func (w *Words) Add(s string) uint32 {
	if len(w.Chunks) == 0 || ChunkSize-w.used < len(s) {
		w.Chunks, w.used = append(w.Chunks, make([]byte, ChunkSize)), 0
	}
	last := len(w.Chunks) - 1
	at := w.used
	w.used += copy(w.Chunks[last][at:], s)
	return uint32(last<<wordBits | at)
}

// Word returns a string that Add keeps in one of these chunks. It shares their
// memory, which is not written to again.
func Word(chunks [][]byte, at uint32, length uint8) string {
	return unsafe.String(&chunks[at>>wordBits][at%ChunkSize], int(length))
}
