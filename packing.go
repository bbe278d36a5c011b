package presence

import "github.com/presence-go/presence/internal/packing"

func init() {
	packing.New = func(origin int64) packing.Codec { return &codec{k: newCompactor(Instant(origin))} }
}

// codec is a compactor with what a shard keeps beside it.
type codec struct {
	k     *compactor
	words borrowed
	hint  hints
}

func (c *codec) Unpack(b []byte, state any) { c.k.unpack(b, state.(*State), &c.words, &c.hint) }

func (c *codec) Pack(b []byte, state any) ([]byte, bool) {
	packed, ok := c.k.pack(state.(*State), &c.words.packed, &c.hint)
	return append(b, packed...), ok
}
