package wire

import (
	"net/url"
	"strconv"
	"strings"
)

// Mark is the last known frame of a channel.
type Mark struct {
	Channel string
	Epoch   string // empty if no frame is known
	Seq     uint64
}

// Position is the last known frames of several channels.
type Position []Mark

// String returns the position in the form that ParsePosition reads. The form
// fits into a header.
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

// ParsePosition reads a position. It leaves out parts that it cannot read. A
// client may send any position: its caller must not trust it.
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
