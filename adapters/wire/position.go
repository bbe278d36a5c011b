package wire

import (
	"net/url"
	"strconv"
	"strings"
)

// Mark is how far the frames of a channel are known.
type Mark struct {
	Channel string
	Epoch   string // empty if nothing is known
	Seq     uint64
}

// Position is how far the frames of several channels are known.
type Position []Mark

// String returns the position in the form that ParsePosition reads, which goes
// into a header as it is.
func (p Position) String() string {
	var b strings.Builder
	for i, m := range p {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(url.QueryEscape(m.Channel))
		b.WriteByte('/')
		b.WriteString(url.QueryEscape(m.Epoch))
		b.WriteByte('/')
		b.WriteString(strconv.FormatUint(m.Seq, 10))
	}
	return b.String()
}

// ParsePosition reads a position. A client may have made it up: what cannot be
// read is left out, and whoever reads the rest believes none of it.
func ParsePosition(s string) Position {
	var p Position
	for part := range strings.SplitSeq(s, ",") {
		fields := strings.Split(part, "/")
		if len(fields) != 3 {
			continue
		}
		channel, err := url.QueryUnescape(fields[0])
		epoch, err2 := url.QueryUnescape(fields[1])
		seq, err3 := strconv.ParseUint(fields[2], 10, 64)
		if err == nil && err2 == nil && err3 == nil {
			p = append(p, Mark{Channel: channel, Epoch: epoch, Seq: seq})
		}
	}
	return p
}
