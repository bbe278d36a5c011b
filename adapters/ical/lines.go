package ical

import (
	"bytes"
	"strings"
)

// line is one content line of a calendar, unfolded: a name, parameters and a
// value. Names are upper case.
type line struct {
	number int    // in the file, from 1
	name   string // such as DTSTART
	params string // such as ;TZID=Europe/Berlin, as written
	value  string
	broken bool // it has no colon
	// Of dates and times, the parameters TZID and VALUE.
	zone, kind string
}

// content yields the lines of a calendar.
func content(data []byte, yield func(line)) {
	unfold(data, func(number int, text []byte) { yield(parseLine(number, text)) })
}

// unfold yields the unfolded lines of a calendar with their numbers. Lines end
// with CRLF, LF or CR. A line that begins with a space or a tab continues the one
// before.
func unfold(data []byte, yield func(number int, text []byte)) {
	data = bytes.TrimPrefix(data, []byte("\uFEFF"))
	number, begun := 0, 0
	var whole []byte // the line that may be continued
	folded := false  // whole is a copy
	for len(data) > 0 {
		var text []byte
		text, data = cutLine(data)
		number++
		switch {
		case len(text) == 0:
		case begun > 0 && (text[0] == ' ' || text[0] == '\t'):
			if !folded {
				whole, folded = bytes.Clone(whole), true
			}
			whole = append(whole, text[1:]...)
		default:
			if begun > 0 {
				yield(begun, whole)
			}
			whole, begun, folded = text, number, false
		}
	}
	if begun > 0 {
		yield(begun, whole)
	}
}

func cutLine(data []byte) (text, rest []byte) {
	i := bytes.IndexAny(data, "\r\n")
	if i < 0 {
		return data, nil
	}
	text, rest = data[:i], data[i+1:]
	if data[i] == '\r' && len(rest) > 0 && rest[0] == '\n' {
		rest = rest[1:]
	}
	return text, rest
}

// dated are the properties whose values are dates and times. A colon belongs to
// their parameters unless it is the last one: some makers forget the quotes
// around a zone's name.
var dated = map[string]bool{"DTSTART": true, "DTEND": true, "RECURRENCE-ID": true, "EXDATE": true, "RDATE": true}

func parseLine(number int, text []byte) line {
	s := string(text)
	end := strings.IndexAny(s, ";:")
	if end < 0 {
		name, _, _ := strings.Cut(strings.TrimSpace(s), " ")
		return line{number: number, name: strings.ToUpper(name), broken: true}
	}
	l := line{number: number, name: strings.ToUpper(strings.TrimSpace(s[:end]))}
	colon, quoted := -1, false
	for i := end; i < len(s); i++ {
		if s[i] == '"' {
			quoted = !quoted
		}
		if s[i] == ':' && !quoted {
			colon = i
			if !dated[l.name] {
				break
			}
		}
	}
	if colon < 0 {
		l.broken = true
		return l
	}
	l.params, l.value = s[end:colon], s[colon+1:]
	if dated[l.name] {
		l.zone, l.kind = l.param("TZID"), strings.ToUpper(l.param("VALUE"))
	}
	return l
}

// param returns the value of a parameter without its quotes; "" if it has none.
func (l *line) param(name string) string {
	rest := l.params
	for rest != "" {
		rest = rest[1:] // the semicolon
		end, quoted := len(rest), false
		for i := range len(rest) {
			if rest[i] == '"' {
				quoted = !quoted
			}
			if rest[i] == ';' && !quoted {
				end = i
				break
			}
		}
		key, value, _ := strings.Cut(rest[:end], "=")
		if value = strings.TrimSpace(strings.ReplaceAll(value, `"`, "")); value != "" && strings.EqualFold(strings.TrimSpace(key), name) {
			return caret.Replace(value)
		}
		rest = rest[end:]
	}
	return ""
}

// caret decodes parameters (RFC 6868).
var caret = strings.NewReplacer("^n", "\n", "^^", "^", "^'", `"`)

// unescaped decodes the value of a text.
func unescaped(value string) string { return escapes.Replace(value) }

var escapes = strings.NewReplacer(`\\`, `\`, `\n`, "\n", `\N`, "\n", `\,`, ",", `\;`, ";", `\:`, ":", `\"`, `"`)

// items splits a list of texts at the commas that are not escaped.
func items(value string) (list []string) {
	from := 0
	for i := 0; i <= len(value); i++ {
		switch {
		case i == len(value) || value[i] == ',':
			if item := strings.TrimSpace(unescaped(value[from:i])); item != "" {
				list = append(list, item)
			}
			from = i + 1
		case value[i] == '\\':
			i++
		}
	}
	return list
}

// component is a part of a calendar between BEGIN and END.
type component struct {
	kind  string // such as VEVENT
	line  int    // of its BEGIN
	lines []line // its own, not those of its parts
	named map[string][]*line
	parts []*component
	// wrong is why the component cannot be relied on, such as a missing END.
	wrong string
}

// find returns the lines with a name.
func (c *component) find(name string) []*line {
	if c.named == nil {
		c.named = make(map[string][]*line)
		for i := range c.lines {
			c.named[c.lines[i].name] = append(c.named[c.lines[i].name], &c.lines[i])
		}
	}
	return c.named[name]
}

// one returns the only line with a name, or nil. Two equal lines are one; two
// that differ are wrong.
func (c *component) one(name string) (found *line, err error) {
	for _, l := range c.find(name) {
		switch {
		case l.broken:
			return nil, at(l, "it has no value")
		case found == nil:
			found = l
		case l.value != found.value || l.params != found.params:
			return nil, at(l, "it occurs twice")
		}
	}
	return found, nil
}

// text returns the value of the first line with a name; "" without one.
func (c *component) text(name string) string {
	if list := c.find(name); list != nil {
		return strings.TrimSpace(list[0].value)
	}
	return ""
}

// parts of a calendar that are read.
var known = map[string]bool{"VCALENDAR": true, "VEVENT": true, "VTIMEZONE": true, "STANDARD": true, "DAYLIGHT": true}

// deepest is the depth of parts within parts that is kept.
const deepest = 16

// times are the properties that are read of all components.
var times = map[string]bool{
	"DTSTART": true, "DTEND": true, "DURATION": true, "RRULE": true, "EXRULE": true, "RDATE": true, "EXDATE": true,
	"RECURRENCE-ID": true, "UID": true, "SEQUENCE": true, "DTSTAMP": true, "LAST-MODIFIED": true, "STATUS": true,
	"SUMMARY": true, "CATEGORIES": true, "CLASS": true, "TRANSP": true, "METHOD": true, "CALSCALE": true, "NAME": true,
	"TZID": true, "TZOFFSETFROM": true, "TZOFFSETTO": true, "X-WR-CALNAME": true,
	"X-MICROSOFT-CDO-BUSYSTATUS": true, "X-MICROSOFT-CDO-ALLDAYEVENT": true, "X-MICROSOFT-MSNCALENDAR-ALLDAYEVENT": true,
}

// parser collects the components of a stream.
type parser struct {
	open      []*component
	deeper    int // parts that are open within the deepest
	calendars []*component
	stray     []*component // events that are in no calendar, or inside something else
}

// structure returns the calendars of a stream, and the events that are not
// directly in one. Without all it leaves out properties that are not read.
func structure(data []byte, all bool) (calendars, stray []*component) {
	var p parser
	content(data, func(l line) {
		kind := strings.ToUpper(strings.TrimSpace(l.value))
		switch {
		case l.name == "BEGIN":
			p.begin(&component{kind: kind, line: l.number})
		case l.name == "END" && p.deeper > 0:
			p.deeper--
		case l.name == "END":
			p.end(kind)
		case len(p.open) > 0 && p.deeper == 0:
			if c := p.open[len(p.open)-1]; known[c.kind] && (all || times[l.name]) {
				c.lines = append(c.lines, l)
			}
		}
	})
	p.close(0)
	return p.calendars, p.stray
}

func (p *parser) begin(c *component) {
	n := len(p.open)
	switch {
	case n >= deepest:
		p.deeper++
		p.misplaced(c, "it is nested too deep")
		return
	case c.kind == "VCALENDAR":
		p.close(0)
		p.calendars = append(p.calendars, c)
	case n == 0:
		p.misplaced(c, "it is in no calendar")
	case c.kind == "VEVENT" && p.open[n-1].kind == "VEVENT":
		p.close(n - 1)
		p.begin(c)
		return
	case c.kind == "VEVENT" && p.open[n-1].kind != "VCALENDAR":
		p.misplaced(c, "it is inside a "+p.open[n-1].kind)
	case known[c.kind]:
		p.open[n-1].parts = append(p.open[n-1].parts, c)
	}
	p.open = append(p.open, c)
}

// misplaced notes an event that is not directly in a calendar.
func (p *parser) misplaced(c *component, wrong string) {
	if c.kind == "VEVENT" {
		c.wrong = wrong
		p.stray = append(p.stray, c)
	}
}

func (p *parser) end(kind string) {
	for i := len(p.open) - 1; i >= 0; i-- {
		if p.open[i].kind == kind {
			p.close(i + 1)
			p.open = p.open[:i]
			return
		}
	}
}

// close closes the open components from one on, whose ends are missing. Then
// lines of what they are in may be among theirs.
func (p *parser) close(from int) {
	if from > 0 && from < len(p.open) && p.open[from-1].kind != "VCALENDAR" && p.open[from-1].wrong == "" {
		p.open[from-1].wrong = "END:" + p.open[from].kind + " is missing"
	}
	for _, c := range p.open[from:] {
		if c.wrong == "" {
			c.wrong = "END:" + c.kind + " is missing"
		}
	}
	p.open = p.open[:from]
}
