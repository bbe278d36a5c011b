package scenario

import (
	"slices"
	"strconv"
	"strings"
	"time"
)

func readID(_ *parser, args []token, v *Value) bool {
	v.subject = v.Text
	return isID(args[0].text)
}

func readConn(_ *parser, args []token, v *Value) bool {
	var ok bool
	v.subject, v.conn, ok = strings.Cut(args[0].text, "/")
	return ok && isID(v.subject) && isID(v.conn)
}

// readField sets subject to the subject and Text to the field.
func readField(p *parser, args []token, v *Value) bool {
	i := strings.LastIndexByte(args[0].text, '.')
	if i < 0 {
		return false
	}
	v.subject, v.Text = args[0].text[:i], args[0].text[i+1:]
	kind := fieldKind(v.Text)
	if kind == "" {
		return false
	}
	p.field = lookUp(kind)
	return isID(v.subject)
}

func readFieldValue(p *parser, args []token, v *Value) bool {
	return p.field != nil && p.field.read(p, args, v)
}

func readTime(p *parser, args []token, v *Value) (ok bool) {
	v.Time, ok = p.time(args[0].text)
	return ok
}

func readDuration(_ *parser, args []token, v *Value) (ok bool) {
	v.Duration, ok = duration(args[0].text)
	return ok
}

func readOffset(_ *parser, args []token, v *Value) (ok bool) {
	after, back := strings.CutPrefix(args[0].text, "-")
	if !back {
		after = strings.TrimPrefix(after, "+")
	}
	v.Duration, ok = duration(after)
	if back {
		v.Duration = -v.Duration
	}
	return ok
}

func readNumber(_ *parser, args []token, v *Value) bool {
	n, err := strconv.Atoi(args[0].text)
	v.Number = n
	return err == nil && digits(args[0].text) && n <= maxNumber
}

func readText(_ *parser, args []token, v *Value) bool {
	var parts []string
	for _, t := range args {
		if t.text == "" && !t.quoted {
			return false
		}
		parts = append(parts, t.text)
	}
	v.Text = strings.Join(parts, " ")
	return true
}

func readLabel(_ *parser, args []token, _ *Value) bool {
	return args[0].text != ""
}

func readLabels(_ *parser, args []token, v *Value) bool {
	return list(args[0], v, func(s string) bool { return s != "" && s == strings.TrimSpace(s) })
}

func readList(_ *parser, args []token, v *Value) bool {
	return list(args[0], v, isID)
}

func readDates(_ *parser, args []token, v *Value) bool {
	return list(args[0], v, func(s string) bool {
		_, err := time.Parse(time.DateOnly, s)
		return err == nil
	})
}

// list reads items separated by commas, each once, or none.
func list(t token, v *Value, valid func(string) bool) bool {
	if t.text == "none" && !t.quoted {
		return true
	}
	seen := map[string]bool{}
	for item := range strings.SplitSeq(t.text, ",") {
		if !valid(item) || seen[item] {
			return false
		}
		seen[item] = true
		v.List = append(v.List, item)
	}
	return true
}

func readSnapshot(_ *parser, args []token, v *Value) bool {
	if args[0].text == "none" && !args[0].quoted {
		return true
	}
	seen := map[string]bool{}
	for item := range strings.SplitSeq(args[0].text, ",") {
		subject, status, ok := strings.Cut(item, "=")
		if !ok || !isID(subject) || !isID(status) || seen[subject] {
			return false
		}
		seen[subject] = true
		v.snapshot = append(v.snapshot, Shown{subject, status})
	}
	return true
}

func readLog(p *parser, args []token, v *Value) bool {
	if len(args) == 1 {
		return args[0].text == "none"
	}
	for pair := range slices.Chunk(args, 2) {
		if len(pair) < 2 {
			return false
		}
		status, trigger, given := strings.Cut(pair[0].text, "/")
		at, ok := p.time(pair[1].text)
		if !ok || !isID(status) || given && !isTrigger(trigger) {
			return false
		}
		v.log = append(v.log, Logged{status, trigger, at})
	}
	return true
}

func isTrigger(s string) bool {
	return slices.ContainsFunc(alternatives("TRIGGER"), func(a alternative) bool { return a.word == s })
}

func readStatements(_ *parser, args []token, v *Value) bool {
	for _, t := range args {
		for id := range strings.SplitSeq(t.text, ",") {
			if !isStatement(id) {
				return false
			}
			if !slices.Contains(v.List, id) {
				v.List = append(v.List, id)
			}
		}
	}
	return true
}

func readPolicy(_ *parser, args []token, _ *Value) bool {
	s := args[0].text
	return isID(s) || strings.HasSuffix(s, ".json")
}

func readVersion(_ *parser, args []token, _ *Value) bool {
	major, minor, dotted := strings.Cut(args[0].text, ".")
	return len(args[0].text) < 10 && digits(major) && (!dotted || digits(minor))
}
