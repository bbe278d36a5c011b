package edgetest

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/presence-go/presence/adapters/internal/edge"
)

// script is a case of a conformance suite: the bytes that a client writes, and
// the words of [peer.until] that the server must send.
type script struct {
	s       *Server
	id      string
	chop    int // bytes of a write, or one of the two below
	writes  [][]byte
	want    []string
	over    bool   // the server has closed the socket
	limited string // why the suite's expectation does not hold
}

// How the frames of a script are written.
const (
	together  = 0
	frameWise = -1
)

func (c *script) frame(fin bool, op edge.Opcode, payload string) { c.raw(client(fin, op, payload)) }

func (c *script) raw(frame []byte) { c.writes = append(c.writes, frame) }

// reserved sends a whole frame with reserved bits.
func (c *script) reserved(bits byte, op edge.Opcode, payload string) {
	frame := client(true, op, payload)
	frame[0] |= bits << 4
	c.raw(frame)
}

// expect notes what the server sends, unless it has closed the socket.
func (c *script) expect(words ...string) {
	if !c.over {
		c.want = append(c.want, words...)
	}
}

// ends notes that the server closes the socket.
func (c *script) ends(status int) {
	c.expect(fmt.Sprint("close ", status), "end")
	c.over = true
}

// closes sends a close frame that is answered in kind.
func (c *script) closes() {
	c.raw(closing(1000, ""))
	c.ends(1000)
}

// noise notes the answer to what is no message of the protocol.
func (c *script) noise() {
	if c.expect("noise"); c.s.NoiseEnds {
		c.expect("end")
		c.over = true
	}
}

// tooLong notes the answer to a message beyond a limit.
func (c *script) tooLong(what string) {
	c.limited = what
	if c.s.TooLong != "" {
		c.expect("too long")
		return
	}
	c.ends(edge.StatusTooBig)
}

// text returns a text of n bytes, and notes its answer.
func (c *script) text(n int) string {
	switch {
	case n > c.s.Limit:
		c.tooLong(fmt.Sprintf("%d bytes, Options.MaxMessage is %d", n, c.s.Limit))
	case n >= len(c.s.Message):
		c.expect("answer")
		return c.s.Message + strings.Repeat(" ", n-len(c.s.Message))
	default:
		c.noise()
	}
	return strings.Repeat("*", n)
}

// hello is a text of no special length.
func (c *script) hello() string { return c.text(len(c.s.Message)) }

// binary returns a binary message of n bytes, and notes its answer.
func (c *script) binary(n int) string {
	if n > c.s.Limit && c.s.TooLong == "" {
		c.tooLong(fmt.Sprintf("%d bytes, Options.MaxMessage is %d", n, c.s.Limit))
	} else {
		c.noise()
	}
	return strings.Repeat("\xfe", n)
}

// parts sends a message in frames of at most n bytes.
func (c *script) parts(op edge.Opcode, message string, n int) {
	for first := true; first || message != ""; first = false {
		part := message[:min(n, len(message))]
		message = message[len(part):]
		if !first {
			op = edge.OpContinuation
		}
		c.frame(message == "", op, part)
	}
}

// play runs a script, and returns what was wrong.
func (c *script) play(t *testing.T) (wrong string) {
	p := c.s.open(t)
	p.polite = true
	defer p.conn.Close()
	all := slices.Concat(c.writes...)
	switch {
	case c.chop == together:
		c.writes = [][]byte{all}
	case c.chop > 0:
		c.writes = slices.Collect(slices.Chunk(all, c.chop))
	}
	written := make(chan struct{})
	go func() {
		defer close(written)
		for _, b := range c.writes {
			if _, err := p.conn.Write(b); err != nil {
				return // the server has closed
			}
		}
	}()
	got := p.until()
	p.conn.Close()
	<-written
	if !slices.Equal(got, c.want) {
		return fmt.Sprintf("want %.200q, got %.200q", c.want, got)
	}
	return ""
}

// autobahn plays the cases of the Autobahn test suite for servers that are not
// about compression: their numbers, and what is sent and expected, are those of
// the suite. An adapter is no echo. So a text is a message that the adapter
// answers, with spaces up to the length of the case, or where that is not
// possible what no protocol knows, after which the adapter sends an error or
// closes with the reason of its protocol. The test logs the cases by section.
// A case that asks for more than a limit of the adapter allows must end as the
// limit demands, and is counted apart.
func autobahn(t *testing.T, serve Serve) {
	s, _ := serve(t)
	type count struct{ passed, limited, failed int }
	sections := make(map[string]*count)
	var order []string
	total := count{}
	for _, c := range scripts(&s) {
		section, _, _ := strings.Cut(c.id, ".")
		if sections[section] == nil {
			sections[section] = new(count)
			order = append(order, section)
		}
		n := sections[section]
		wrong := c.play(t)
		switch {
		case wrong != "":
			n.failed++
			total.failed++
			t.Errorf("case %s: %s", c.id, wrong)
		case c.limited != "":
			n.limited++
			total.limited++
			t.Logf("case %s ends by a limit: %s", c.id, c.limited)
		default:
			n.passed++
			total.passed++
		}
	}
	for _, section := range order {
		n := sections[section]
		t.Logf("section %s: %d passed, %d end by a limit, %d failed", section, n.passed, n.limited, n.failed)
	}
	t.Logf("all: %d passed, %d end by a limit, %d failed", total.passed, total.limited, total.failed)
	require.Equal(t, 301, total.passed+total.limited+total.failed)
}

// scripts returns all cases.
func scripts(s *Server) (list []*script) {
	add := func(id string, chop int, build func(c *script)) {
		c := &script{s: s, id: id, chop: chop}
		build(c)
		if !c.over {
			c.closes()
		}
		list = append(list, c)
	}
	framing(add)
	pings(add)
	reservedBits(add)
	opcodes(add)
	fragments(add)
	texts(add)
	closings(add)
	sizes(add)
	return list
}

type adder func(id string, chop int, build func(c *script))

// framing has section 1, lengths, and section 10, which is like it.
func framing(add adder) {
	for i, n := range []int{0, 125, 126, 127, 128, 65535, 65536, 65536} {
		chop := together
		if i == 7 {
			chop = 997
		}
		add(fmt.Sprint("1.1.", i+1), chop, func(c *script) { c.frame(true, edge.OpText, c.text(n)) })
		add(fmt.Sprint("1.2.", i+1), chop, func(c *script) { c.frame(true, edge.OpBinary, c.binary(n)) })
	}
	add("10.1.1", together, func(c *script) { c.inParts(edge.OpText, 65536, 1300) })
}

// inParts sends a message of n bytes in frames, if the adapter allows so many.
func (c *script) inParts(op edge.Opcode, n, size int) {
	if count := (n + size - 1) / size; c.s.Parts > 0 && count > c.s.Parts {
		c.tooLong(fmt.Sprintf("%d frames, allowed are %d", count, c.s.Parts))
		c.parts(op, strings.Repeat("*", n), size)
		return
	}
	if op == edge.OpBinary {
		c.parts(op, c.binary(n), size)
		return
	}
	c.parts(op, c.text(n), size)
}

// pings has section 2.
func pings(add adder) {
	long := strings.Repeat("\xfe", 125)
	for i, payload := range []string{"", "Hello, world!", "\x00\xff\xfe\xfd\xfc\xfb\x00\xff", long} {
		add(fmt.Sprint("2.", i+1), together, func(c *script) {
			c.frame(true, edge.OpPing, payload)
			c.expect("pong " + payload)
		})
	}
	add("2.5", together, func(c *script) {
		c.frame(true, edge.OpPing, long+"\xfe")
		c.ends(edge.StatusProtocol)
	})
	add("2.6", 1, func(c *script) {
		c.frame(true, edge.OpPing, long)
		c.expect("pong " + long)
	})
	for i, payload := range []string{"", "unsolicited pong payload"} {
		add(fmt.Sprint("2.", i+7), together, func(c *script) { c.frame(true, edge.OpPong, payload) })
	}
	add("2.9", together, func(c *script) {
		c.frame(true, edge.OpPong, "unsolicited pong payload")
		c.frame(true, edge.OpPing, "ping payload")
		c.expect("pong ping payload")
	})
	for i, chop := range []int{together, 1} {
		add(fmt.Sprint("2.", i+10), chop, func(c *script) {
			for j := range 10 {
				payload := fmt.Sprint("payload-", j)
				c.frame(true, edge.OpPing, payload)
				c.expect("pong " + payload)
			}
		})
	}
}

// reservedBits has section 3.
func reservedBits(add adder) {
	add("3.1", together, func(c *script) {
		c.reserved(1, edge.OpText, c.s.Message)
		c.ends(edge.StatusProtocol)
	})
	for i, chop := range []int{together, frameWise, 1} {
		add(fmt.Sprint("3.", i+2), chop, func(c *script) {
			c.frame(true, edge.OpText, c.hello())
			c.reserved(byte(i+2), edge.OpText, c.s.Message)
			c.frame(true, edge.OpPing, "")
			c.ends(edge.StatusProtocol)
		})
	}
	for i, op := range []edge.Opcode{edge.OpBinary, edge.OpBinary, edge.OpClose} {
		add(fmt.Sprint("3.", i+5), together, func(c *script) {
			c.reserved(byte(i+5), op, "")
			c.ends(edge.StatusProtocol)
		})
	}
}

// opcodes has section 4.
func opcodes(add adder) {
	for section, first := range []edge.Opcode{3, 11} {
		for i := range 5 {
			chop := together
			if i == 4 {
				chop = 1
			}
			add(fmt.Sprintf("4.%d.%d", section+1, i+1), chop, func(c *script) {
				if i > 1 {
					c.frame(true, edge.OpText, c.hello())
				}
				payload := "reserved opcode payload"
				if i == 0 || i == 2 {
					payload = ""
				}
				c.frame(true, first+edge.Opcode(i), payload)
				c.frame(true, edge.OpPing, "")
				c.ends(edge.StatusProtocol)
			})
		}
	}
}

// fragments has section 5.
func fragments(add adder) {
	for i, op := range []edge.Opcode{edge.OpPing, edge.OpPong} {
		add(fmt.Sprint("5.", i+1), together, func(c *script) {
			c.frame(false, op, "fragment1")
			c.frame(true, edge.OpContinuation, "fragment2")
			c.ends(edge.StatusProtocol)
		})
	}
	chops := []int{together, frameWise, 1}
	for i, chop := range chops {
		for j, ping := range []bool{false, true} {
			add(fmt.Sprint("5.", 3+3*j+i), chop, func(c *script) {
				c.frame(false, edge.OpText, c.s.Message[:9])
				if ping {
					c.frame(true, edge.OpPing, "ping payload")
					c.expect("pong ping payload")
				}
				c.frame(true, edge.OpContinuation, c.hello()[9:])
			})
		}
		for j, fin := range []bool{true, false} {
			add(fmt.Sprint("5.", 9+3*j+i), chop, func(c *script) {
				c.frame(fin, edge.OpContinuation, "non-continuation payload")
				c.frame(true, edge.OpText, c.s.Message)
				c.ends(edge.StatusProtocol)
			})
		}
	}
	add("5.15", together, func(c *script) {
		c.parts(edge.OpText, c.hello(), 1+len(c.s.Message)/2)
		c.frame(false, edge.OpContinuation, "fragment3")
		c.frame(true, edge.OpText, "fragment4")
		c.ends(edge.StatusProtocol)
	})
	for i, fin := range []bool{false, true} {
		add(fmt.Sprint("5.", 16+i), together, func(c *script) {
			for range 2 {
				c.frame(fin, edge.OpContinuation, "fragment1")
				c.frame(false, edge.OpText, "fragment2")
				c.frame(true, edge.OpContinuation, "fragment3")
			}
			c.ends(edge.StatusProtocol)
		})
	}
	add("5.18", together, func(c *script) {
		c.frame(false, edge.OpText, "fragment1")
		c.frame(true, edge.OpText, "fragment2")
		c.ends(edge.StatusProtocol)
	})
	for i, chop := range []int{together, frameWise} {
		add(fmt.Sprint("5.", 19+i), chop, func(c *script) {
			m := c.s.Message
			c.frame(false, edge.OpText, m[:4])
			c.frame(false, edge.OpContinuation, m[4:8])
			c.frame(true, edge.OpPing, "pongme 1!")
			c.frame(false, edge.OpContinuation, m[8:9])
			c.frame(false, edge.OpContinuation, m[9:12])
			c.frame(true, edge.OpPing, "pongme 2!")
			c.frame(true, edge.OpContinuation, m[12:])
			c.expect("pong pongme 1!", "pong pongme 2!", "answer")
		})
	}
}

// texts has section 6.
func texts(add adder) {
	add("6.1.1", together, func(c *script) { c.frame(true, edge.OpText, c.text(0)) })
	add("6.1.2", together, func(c *script) {
		c.frame(false, edge.OpText, "")
		c.frame(false, edge.OpContinuation, "")
		c.frame(true, edge.OpContinuation, c.text(0))
	})
	add("6.1.3", together, func(c *script) {
		c.frame(false, edge.OpText, "")
		c.frame(false, edge.OpContinuation, c.hello())
		c.frame(true, edge.OpContinuation, "")
	})
	const hello = "Hello-µ@ßöäüàá-UTF-8!!"
	for i, c := range []struct {
		text string
		size int
	}{{hello, len(hello)}, {hello, len("Hello-µ@ßöä")}, {hello, 1}, {kosme, 1}} {
		add(fmt.Sprint("6.2.", i+1), together, func(s *script) {
			s.parts(edge.OpText, c.text, c.size)
			s.noise()
		})
	}
	const edited = kosme + "\xed\xa0\x80edited"
	for i, size := range []int{len(edited), 1} {
		add(fmt.Sprint("6.3.", i+1), together, func(c *script) {
			c.parts(edge.OpText, edited, size)
			c.ends(edge.StatusText)
		})
	}
	// What makes the text wrong is the last that arrives: the rest is never sent.
	const wrong = kosme + "\xf4\x90\x80\x80edited"
	for i, at := range []int{len(kosme), len(kosme) + 1} {
		upTo := len(kosme) + 4
		if i == 1 {
			upTo = at + 1
		}
		add(fmt.Sprint("6.4.", i+1), frameWise, func(c *script) {
			c.frame(false, edge.OpText, wrong[:at])
			c.frame(false, edge.OpContinuation, wrong[at:upTo])
			c.ends(edge.StatusText)
		})
		add(fmt.Sprint("6.4.", i+3), frameWise, func(c *script) {
			whole := client(true, edge.OpText, wrong)
			head := len(whole) - len(wrong)
			c.raw(whole[:head+at])
			c.raw(whole[head+at : head+upTo])
			c.ends(edge.StatusText)
		})
	}
	for i, group := range utf8Groups() {
		for j, text := range group.texts {
			valid := group.valid
			if group.mixed != nil {
				valid = group.mixed[j]
			}
			add(fmt.Sprintf("6.%d.%d", i+5, j+1), together, func(c *script) {
				if c.frame(true, edge.OpText, text); valid {
					c.noise()
				} else {
					c.ends(edge.StatusText)
				}
			})
		}
	}
}

// kosme is a Greek word with a character of three bytes, U+1F79.
const kosme = "κ\u1f79σμε"

type utf8Group struct {
	valid bool
	texts []string
	mixed []bool // instead of valid
}

// utf8Groups has the texts of 6.5 to 6.23, which are those of Kuhn's stress
// test for decoders.
func utf8Groups() []utf8Group {
	const yes, no = true, false
	var prefixes, continuations []string
	for n := range len(kosme) {
		prefixes = append(prefixes, kosme[:n+1])
	}
	for _, n := range []int{1, 1, 2, 3, 4, 5, 6} {
		continuations = append(continuations, "\x80\xbf\x80\xbf\x80\xbf"[:n])
	}
	continuations[1] = "\xbf"
	var all []byte
	for b := 0x80; b < 0xbf; b++ {
		all = append(all, byte(b))
	}
	var starts, characters []string
	for _, span := range [][2]int{{0xc0, 0xdf}, {0xe0, 0xef}, {0xf0, 0xf7}, {0xf8, 0xfb}, {0xfc, 0xfd}} {
		var text []byte
		for b := span[0]; b < span[1]; b++ {
			text = append(text, byte(b), ' ')
		}
		starts = append(starts, string(text))
	}
	for plane := range rune(0x11) {
		characters = append(characters, string(plane<<16|0xfffe), string(plane<<16|0xffff))
	}
	missing := []string{
		"\xc0", "\xe0\x80", "\xf0\x80\x80", "\xf8\x80\x80\x80", "\xfc\x80\x80\x80\x80", "\xdf", "\xef\xbf", "\xf7\xbf\xbf", "\xfb\xbf\xbf\xbf", "\xfd\xbf\xbf\xbf\xbf",
	}
	return []utf8Group{
		{yes, []string{"hello$world", "hello¢world", "hello€world", "hello\U00024b62world", kosme}, nil},
		{texts: prefixes, mixed: []bool{no, yes, no, no, yes, no, yes, no, yes, no, yes}},
		{yes, []string{"\x00", "\u0080", "\u0800", "\U00010000"}, nil},
		{no, []string{"\xf8\x88\x80\x80\x80", "\xfc\x84\x80\x80\x80\x80"}, nil},
		{yes, []string{"\x7f", "\u07ff", "\uffff", "\U0010ffff"}, nil},
		{no, []string{"\xf7\xbf\xbf\xbf", "\xfb\xbf\xbf\xbf\xbf", "\xfd\xbf\xbf\xbf\xbf\xbf"}, nil},
		{texts: []string{"\ud7ff", "\ue000", "\ufffd", "\U0010ffff", "\xf4\x90\x80\x80"}, mixed: []bool{yes, yes, yes, yes, no}},
		{no, append(continuations, string(all)), nil},
		{no, starts, nil},
		{no, missing, nil},
		{no, []string{strings.Join(missing, "")}, nil},
		{no, []string{"\xfe", "\xff", "\xfe\xfe\xff\xff"}, nil},
		{no, []string{"\xc0\xaf", "\xe0\x80\xaf", "\xf0\x80\x80\xaf", "\xf8\x80\x80\x80\xaf", "\xfc\x80\x80\x80\x80\xaf"}, nil},
		{no, []string{"\xc1\xbf", "\xe0\x9f\xbf", "\xf0\x8f\xbf\xbf", "\xf8\x87\xbf\xbf\xbf", "\xfc\x83\xbf\xbf\xbf\xbf"}, nil},
		{no, []string{"\xc0\x80", "\xe0\x80\x80", "\xf0\x80\x80\x80", "\xf8\x80\x80\x80\x80", "\xfc\x80\x80\x80\x80\x80"}, nil},
		{no, []string{"\xed\xa0\x80", "\xed\xad\xbf", "\xed\xae\x80", "\xed\xaf\xbf", "\xed\xb0\x80", "\xed\xbe\x80", "\xed\xbf\xbf"}, nil},
		{no, []string{
			"\xed\xa0\x80\xed\xb0\x80", "\xed\xa0\x80\xed\xbf\xbf", "\xed\xad\xbf\xed\xb0\x80", "\xed\xad\xbf\xed\xbf\xbf",
			"\xed\xae\x80\xed\xb0\x80", "\xed\xae\x80\xed\xbf\xbf", "\xed\xaf\xbf\xed\xb0\x80", "\xed\xaf\xbf\xed\xbf\xbf",
		}, nil},
		{yes, characters, nil},
		{yes, []string{"\ufff9", "\ufffa", "\ufffb", "\ufffc", "\ufffd", "\ufffe", "\uffff"}, nil},
	}
}

// closings has section 7.
func closings(add adder) {
	add("7.1.1", together, func(c *script) { c.frame(true, edge.OpText, c.hello()) })
	for i, after := range [][]byte{client(true, edge.OpClose, ""), client(true, edge.OpPing, ""), client(true, edge.OpText, "Hello World!")} {
		add(fmt.Sprint("7.1.", i+2), together, func(c *script) {
			c.closes()
			c.raw(after)
		})
	}
	add("7.1.5", together, func(c *script) {
		c.frame(false, edge.OpText, "fragment1")
		c.closes()
		c.frame(true, edge.OpContinuation, "fragment2")
	})
	add("7.1.6", together, func(c *script) {
		c.frame(true, edge.OpText, c.text(256<<10))
		c.frame(true, edge.OpText, c.hello())
		c.closes()
		c.frame(true, edge.OpPing, "")
	})
	for i, x := range []struct {
		payload string
		status  int
	}{
		{"", 1000}, {"a", 1002}, {"\x03\xe8", 1000}, {"\x03\xe8Hello World!", 1000}, {"\x03\xe8" + strings.Repeat("*", 123), 1000}, {"\x03\xe8" + strings.Repeat("*", 124), 1002},
	} {
		add(fmt.Sprint("7.3.", i+1), together, func(c *script) {
			c.frame(true, edge.OpClose, x.payload)
			c.ends(x.status)
		})
	}
	add("7.5.1", together, func(c *script) {
		c.raw(closing(1000, kosme+"\xed\xa0\x80edited"))
		c.ends(edge.StatusText)
	})
	codes := func(section string, list []int, status func(code int) int) {
		for i, code := range list {
			add(fmt.Sprint(section, i+1), together, func(c *script) {
				c.raw(closing(code, ""))
				c.ends(status(code))
			})
		}
	}
	codes("7.7.", []int{1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999}, func(code int) int { return code })
	wrong := func(int) int { return edge.StatusProtocol }
	codes("7.9.", []int{0, 999, 1004, 1005, 1006, 1016, 1100, 2000, 2999}, wrong)
	codes("7.13.", []int{5000, 65535}, wrong)
}

// sizes has section 9.
func sizes(add adder) {
	const mega = 1 << 20
	for i, n := range []int{64 << 10, 256 << 10, mega, 4 * mega, 8 * mega, 16 * mega} {
		add(fmt.Sprint("9.1.", i+1), together, func(c *script) { c.frame(true, edge.OpText, c.text(n)) })
		add(fmt.Sprint("9.2.", i+1), together, func(c *script) { c.frame(true, edge.OpBinary, c.binary(n)) })
	}
	for i := range 9 {
		size := 64 << (2 * i)
		add(fmt.Sprint("9.3.", i+1), together, func(c *script) { c.inParts(edge.OpText, 4*mega, size) })
		add(fmt.Sprint("9.4.", i+1), together, func(c *script) { c.inParts(edge.OpBinary, 4*mega, size) })
	}
	for i := range 6 {
		add(fmt.Sprint("9.5.", i+1), 64<<i, func(c *script) { c.frame(true, edge.OpText, c.text(mega)) })
		add(fmt.Sprint("9.6.", i+1), 64<<i, func(c *script) { c.frame(true, edge.OpBinary, c.binary(mega)) })
	}
	for i, n := range []int{0, 16, 64, 256, 1024, 4096} {
		add(fmt.Sprint("9.7.", i+1), together, func(c *script) { c.thousand(edge.OpText, n) })
		add(fmt.Sprint("9.8.", i+1), together, func(c *script) { c.thousand(edge.OpBinary, n) })
	}
}

// thousand sends a thousand messages. Those that are none of the protocol are
// faults of the client, after 20 of which the adapter closes the socket.
func (c *script) thousand(op edge.Opcode, n int) {
	for i := range 1000 {
		message := ""
		if op == edge.OpBinary {
			message = c.binary(n)
		} else {
			message = c.text(n)
		}
		c.frame(true, op, message)
		if i == edge.MaxStrikes-1 && !c.over && c.want[0] == "noise" {
			c.ends(c.s.Faults)
		}
	}
	if c.over {
		c.limited = "messages that are none of the protocol, of which an adapter takes a few"
	}
}
