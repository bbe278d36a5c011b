package ical

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/presence-go/presence/internal/wallclock"
)

// zones finds the zones of one calendar by their names.
type zones struct {
	given  map[string]*time.Location // [Options.Zones]
	own    map[string][]*component   // VTIMEZONE, by their lower-case names
	years  [2]int                    // the clocks of own zones are set in these
	budget *budget
	found  map[string]*time.Location // nil for one that cannot be found
	why    map[string]error
}

// lookCost is what it costs to look for a zone, in days.
const lookCost = 10_000

// named returns the zone with a name that a line refers to.
func (z *zones) named(l *line, id string) (*time.Location, error) {
	if zone, ok := z.found[id]; ok {
		if zone == nil {
			return nil, at(l, "%v", z.why[id])
		}
		return zone, nil
	}
	if err := z.budget.look(lookCost); err != nil {
		return nil, err
	}
	zone, why := z.find(id)
	if isEnd(why) {
		return nil, why
	}
	z.found[id], z.why[id] = zone, why
	return z.named(l, id)
}

// find looks in this order: zones of the application, IANA's names, those of the
// calendar, the names of Windows, offsets. A name without a slash, such as EST,
// is first what the calendar defines.
func (z *zones) find(id string) (zone *time.Location, why error) {
	if zone := z.given[id]; zone != nil {
		return zone, nil
	}
	if strings.Contains(id, "/") {
		if zone := iana(id); zone != nil {
			return zone, nil
		}
	}
	for _, c := range z.own[strings.ToLower(id)] {
		zone, err := z.ofComponent(c)
		if err == nil || isEnd(err) {
			return zone, err
		}
		why = cmp.Or(why, err)
	}
	if zone := iana(id); zone != nil {
		return zone, nil
	}
	name := strings.ToLower(id)
	if windows := cmp.Or(windowsZones[name], windowsZones[trailing.ReplaceAllString(name, "")], windowsZones[described(id)]); windows != "" {
		if zone, err := time.LoadLocation(windows); err == nil {
			return zone, nil
		}
	}
	if seconds, ok := readOffset(id); ok {
		return time.FixedZone(id, seconds), nil
	}
	return nil, cmp.Or(why, fmt.Errorf("zone %.80q is unknown; Options.Zones can name it", id))
}

var (
	path     = regexp.MustCompile(`[A-Za-z0-9_+/-]*/[A-Za-z0-9_+/-]+`)
	trailing = regexp.MustCompile(`[ _-]\d+$`) // some makers number zones
	brackets = regexp.MustCompile(`^\((?i:UTC|GMT)[^)]*\)\s*`)
	offsets  = regexp.MustCompile(`^\(?(?:UTC|GMT|Z)? ?(?:([+-])(\d{1,2})(?:[:.]?([0-5]\d)(?::?([0-5]\d))?)?)?\)?$`)
)

// described returns how a zone's description by Windows, such as "(UTC+01:00)
// Amsterdam, Berlin", is listed: its words without the offset.
func described(name string) string {
	places := brackets.ReplaceAllString(name, "")
	if places == name {
		return ""
	}
	words := strings.FieldsFunc(strings.ToLower(places), func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) })
	return strings.Join(words, " ")
}

// iana returns the zone with a name of the IANA database. The name may have
// something around it, as in /freeassociation.sourceforge.net/Tzfile/Asia/Tokyo
// and "Asia/Tokyo (office)".
func iana(id string) *time.Location {
	if len(id) > 256 {
		return nil
	}
	if !strings.Contains(id, "/") {
		return load(id)
	}
	for _, name := range path.FindAllString(id, 4) {
		parts := strings.Split(strings.Trim(name, "/"), "/")
		for n := min(len(parts), 3); n > 1; n-- {
			if zone := load(strings.Join(parts[len(parts)-n:], "/")); zone != nil {
				return zone
			}
		}
		if strings.EqualFold(parts[len(parts)-1], "UTC") {
			return time.UTC
		}
	}
	return nil
}

// load returns the zone with a name. Its words may be in another case.
func load(name string) *time.Location {
	switch upper := strings.ToUpper(name); {
	case upper == "UTC" || upper == "GMT" || upper == "Z":
		return time.UTC
	case upper == "" || upper == "LOCAL":
		return nil
	}
	tries := []string{name, strings.ToUpper(name)}
	if strings.Contains(name, "/") {
		tries = []string{name, trailing.ReplaceAllString(name, ""), wordStart.ReplaceAllStringFunc(strings.ToLower(name), strings.ToUpper)}
	}
	for _, try := range tries {
		if zone, err := time.LoadLocation(try); err == nil {
			return zone
		}
	}
	return nil
}

var wordStart = regexp.MustCompile(`(^|[/_-])[a-z]`)

// readOffset reads an offset from UTC such as +0100, UTC+01:00 or (GMT-05:00).
func readOffset(text string) (seconds int, ok bool) {
	m := offsets.FindStringSubmatch(strings.ToUpper(strings.TrimSpace(text)))
	if m == nil || text == "" {
		return 0, false
	}
	hours, _ := digits(cmp.Or(m[2], "0"))
	minutes, _ := digits(cmp.Or(m[3], "0"))
	seconds, _ = digits(cmp.Or(m[4], "0"))
	seconds += hours*3600 + minutes*60
	if m[1] == "-" {
		seconds = -seconds
	}
	return seconds, hours < 24
}

// onset is an instant at which clocks are set, and their offset from then on.
type onset struct {
	unix     int64
	from, to int // in seconds
}

// ofComponent reads VTIMEZONE by its rules.
func (z *zones) ofComponent(c *component) (*time.Location, error) {
	if err := z.budget.look(lookCost / 10); err != nil {
		return nil, err
	}
	if c.wrong != "" {
		return nil, fmt.Errorf("line %d: VTIMEZONE: %s", c.line, c.wrong)
	}
	var list []onset
	for _, part := range c.parts {
		if part.kind != "STANDARD" && part.kind != "DAYLIGHT" {
			continue
		}
		more, err := z.onsets(part)
		if err != nil {
			return nil, err
		}
		list = append(list, more...)
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("line %d: VTIMEZONE has no times", c.line)
	}
	slices.SortFunc(list, func(a, b onset) int {
		return cmp.Or(cmp.Compare(a.unix, b.unix), cmp.Compare(a.from, b.from), cmp.Compare(a.to, b.to))
	})
	return location(c.text("TZID"), list)
}

// onsets returns the times at which one part of VTIMEZONE begins.
func (z *zones) onsets(c *component) (list []onset, err error) {
	var o onset
	for name, to := range map[string]*int{"TZOFFSETFROM": &o.from, "TZOFFSETTO": &o.to} {
		seconds, ok := readOffset(c.text(name))
		if !ok {
			return nil, fmt.Errorf("line %d: %s has no %s", c.line, c.kind, name)
		}
		*to = seconds
	}
	l, err := c.one("DTSTART")
	if err != nil {
		return nil, err
	}
	if l == nil {
		return nil, fmt.Errorf("line %d: %s has no DTSTART", c.line, c.kind)
	}
	start, err := parseMoment(l, l.value)
	if err != nil {
		return nil, err
	}
	add := func(w wallclock.Time) { list = append(list, onset{int64(w) - int64(o.from), o.from, o.to}) }
	add(start.wall)
	for i := range c.lines {
		switch l := &c.lines[i]; {
		case l.name == "RDATE":
			for text := range strings.SplitSeq(l.value, ",") {
				text, _, _ := strings.Cut(text, "/")
				m, err := parseMoment(l, text)
				if err != nil {
					return nil, err
				}
				add(m.wall)
			}
		case l.name == "RRULE":
			if err := z.yearly(l, start.wall, int64(o.from), add); err != nil {
				return nil, err
			}
		}
	}
	return list, z.budget.look(len(list))
}

// yearly calls add for the times of a rule in the years that matter.
func (z *zones) yearly(l *line, start wallclock.Time, from int64, add func(wallclock.Time)) error {
	r, err := parseRule(l)
	if err != nil {
		return err
	}
	if err := r.begin(start, false); err != nil {
		return err
	}
	before := func(wallclock.Time) bool { return true }
	if u := r.until; u != nil {
		switch {
		case u.allDay:
			before = func(w wallclock.Time) bool { return w.Day() <= u.wall.Day() }
		case u.zone != nil:
			before = func(w wallclock.Time) bool { return int64(w)-from <= int64(u.wall) }
		default:
			before = func(w wallclock.Time) bool { return w <= u.wall }
		}
	}
	each := func(day int) bool {
		w := wallclock.Midnight(day) + r.clock
		if !before(w) {
			return false
		}
		add(w)
		return true
	}
	day := func(year, month int) int {
		return wallclock.Time(time.Date(year, time.Month(month), 1, 0, 0, 0, 0, time.UTC).Unix()).Day()
	}
	if r.count > 0 || r.places != nil || r.months == 0 {
		n := 0
		return r.days(z.budget, day(z.years[0], 1), day(z.years[1]+1, 1), func(day int) bool {
			n++
			return (r.count == 0 || n <= r.count) && each(day)
		})
	}
	for year := z.years[0]; year <= z.years[1]; year++ {
		for month := 1; month <= 12; month++ {
			if r.months>>month&1 == 1 {
				if err := r.days(z.budget, day(year, month), day(year, month+1)-1, each); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// location returns a zone whose clocks are set at some times, by way of the form
// in which systems store zones (RFC 8536), which is what package time reads.
func location(name string, list []onset) (*time.Location, error) {
	offsets := []int{list[0].from}
	index := func(seconds int) byte {
		i := slices.Index(offsets, seconds)
		if i < 0 {
			i, offsets = len(offsets), append(offsets, seconds)
		}
		return byte(i)
	}
	var times, indexes, kinds []byte
	for i, o := range list {
		if i+1 < len(list) && list[i+1].unix == o.unix {
			continue
		}
		times, indexes = binary.BigEndian.AppendUint64(times, uint64(o.unix)), append(indexes, index(o.to))
	}
	if len(offsets) > 100 {
		return nil, fmt.Errorf("zone %.80q has more than 100 offsets", name)
	}
	for _, seconds := range offsets {
		kinds = append(binary.BigEndian.AppendUint32(kinds, uint32(int32(seconds))), 0, 0) // not daylight saving, no name
	}
	header := func(transitions, types, chars int) []byte {
		h := append([]byte("TZif2"), make([]byte, 15)...)
		for _, n := range []int{0, 0, 0, transitions, types, chars} {
			h = binary.BigEndian.AppendUint32(h, uint32(n))
		}
		return h
	}
	data := slices.Concat(header(0, 0, 0), header(len(indexes), len(offsets), 1), times, indexes, kinds, []byte{0}, []byte("\n\n"))
	zone, err := time.LoadLocationFromTZData(name, data)
	if err != nil {
		return nil, fmt.Errorf("zone %.80q: %w", name, err)
	}
	return zone, nil
}
