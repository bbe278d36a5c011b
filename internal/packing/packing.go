// Package packing lets the benchmarks pack and unpack states as a tracker does
// within itself. It is a hook of its own so that nothing of it is exported.
package packing

// Codec turns one state at a time into few bytes and back. It is not safe for
// concurrent use.
type Codec interface {
	// Unpack replaces a state, a *presence.State, by a packed one, without its
	// subject. What it refers to is good until the next call.
	Unpack(b []byte, state any)
	// Pack appends a state to b. It reports false for one that is kept as it is.
	Pack(b []byte, state any) ([]byte, bool)
}

// New returns a codec for states of about a time, in nanoseconds. Package
// presence sets it.
var New func(origin int64) Codec
