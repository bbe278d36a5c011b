package presence

import (
	"bytes"
	"encoding/json"
	"strconv"
	"sync"
	"time"
	"unicode/utf8"
)

// AppendJSON appends the frame's JSON form to b, as encoding/json writes it. It does
// not allocate if b has room.
func (f *Frame) AppendJSON(b []byte) []byte {
	b = append(b, `{"type":`...)
	b = appendString(b, f.Kind)
	b = append(b, `,"v":`...)
	b = strconv.AppendInt(b, int64(f.Version), 10)
	b = append(b, `,"channel":`...)
	b = append(appendRef(append(b, '{'), Ref(f.Channel)), '}')
	b = append(b, `,"epoch":`...)
	b = appendString(b, f.Epoch)
	b = append(b, `,"seq":`...)
	b = strconv.AppendUint(b, f.Seq, 10)
	if f.Lagged {
		b = append(b, `,"lagged":true`...)
	}
	b = append(b, `,"group":{"rung":`...)
	b = appendString(b, f.Group.Status)
	b = append(b, `,"count":`...)
	b = strconv.AppendInt(b, int64(f.Group.Count), 10)
	b = appendWord(b, `,"reason":`, f.Group.Reason)
	b = appendInstant(b, `,"nextOpen":`, f.Group.NextOpen)
	b = append(b, '}')
	if len(f.Members) > 0 {
		b = append(b, `,"members":[`...)
		for i := range f.Members {
			if i > 0 {
				b = append(b, ',')
			}
			b = f.Members[i].appendJSON(b)
		}
		b = append(b, ']')
	}
	if len(f.Changes) > 0 {
		b = append(b, `,"changes":[`...)
		for i := range f.Changes {
			if i > 0 {
				b = append(b, ',')
			}
			b = f.Changes[i].appendJSON(b)
		}
		b = append(b, ']')
	}
	return append(b, '}')
}

func (c *Change) appendJSON(b []byte) []byte {
	b = append(b, `{"op":`...)
	b = appendString(b, c.Op)
	b = append(b, `,"subject":`...)
	b = append(appendRef(append(b, '{'), c.Subject), '}')
	if c.View != nil {
		b = append(b, `,"view":`...)
		b = c.View.appendJSON(b)
	}
	b = appendWord(b, `,"id":`, c.ID)
	b = appendWord(b, `,"status":`, c.Status)
	b = appendInstant(b, `,"until":`, c.Until)
	return append(b, '}')
}

// MarshalJSON encodes the view as frames have it: with the subject's tenant and id
// beside the other fields.
func (v View) MarshalJSON() ([]byte, error) { return v.appendJSON(nil), nil }

// UnmarshalJSON decodes what MarshalJSON wrote. It ignores unknown fields. It returns
// [ErrInvalid] for any other data.
func (v *View) UnmarshalJSON(data []byte) error {
	type plain View
	if err := json.Unmarshal(data, &struct {
		*Ref
		*plain
	}{&v.Subject, (*plain)(v)}); err != nil {
		return refuse(ErrInvalid, "view", "", "it cannot be decoded").because(err)
	}
	return nil
}

func (v *View) appendJSON(b []byte) []byte {
	b = appendRef(append(b, '{'), v.Subject)
	b = appendWord(b, `,"kind":`, v.Kind)
	b = append(b, `,"status":`...)
	b = appendString(b, v.Status)
	b = appendWord(b, `,"class":`, v.Class)
	b = appendWord(b, `,"label":`, v.Label)
	b = appendWord(b, `,"color":`, v.Color)
	b = appendWord(b, `,"reason":`, v.Reason)
	b = appendWord(b, `,"text":`, v.Text)
	b = appendInstant(b, `,"since":`, v.Since)
	b = appendInstant(b, `,"setAt":`, v.SetAt)
	b = appendInstant(b, `,"until":`, v.Until)
	b = appendWord(b, `,"cause":`, v.Cause)
	b = appendWord(b, `,"masked":`, v.Masked)
	b = appendInstant(b, `,"lastSeen":`, v.LastSeen)
	b = appendInstant(b, `,"lastLogin":`, v.LastLogin)
	if v.Routable {
		b = append(b, `,"routable":true`...)
	}
	if v.RoutableOn != (WorkChannels{}) {
		b = v.RoutableOn.appendJSON(append(b, `,"routableOn":`...))
	}
	b = appendWord(b, `,"work":`, v.Work)
	b = appendCount(b, `,"threads":`, v.Load)
	b = appendCount(b, `,"pinned":`, v.Pinned)
	b = appendWord(b, `,"pending":`, v.Pending)
	b = appendWord(b, `,"request":`, v.Request)
	if v.Devices != 0 {
		b = append(b, `,"devices":`...)
		b = strconv.AppendInt(b, int64(v.Devices), 10)
	}
	return append(b, '}')
}

func appendRef(b []byte, r Ref) []byte {
	if r.Tenant != "" {
		b = append(b, `"tenant":`...)
		b = appendString(b, r.Tenant)
		b = append(b, ',')
	}
	b = append(b, `"id":`...)
	return appendString(b, r.ID)
}

// appendWord appends a field, unless it is empty.
func appendWord[T ~string](b []byte, key string, word T) []byte {
	if word == "" {
		return b
	}
	return appendString(append(b, key...), word)
}

func appendInstant(b []byte, key string, i Instant) []byte {
	if i == 0 {
		return b
	}
	b = append(append(b, key...), '"')
	b = i.Time().AppendFormat(b, time.RFC3339Nano)
	return append(b, '"')
}

func appendCount(b []byte, key string, c Count) []byte {
	n, ok := c.Get()
	if !ok {
		return b
	}
	return strconv.AppendInt(append(b, key...), int64(n), 10)
}

const hexDigits = "0123456789abcdef"

// appendString appends a string with the escapes of encoding/json, which make it
// safe in HTML.
func appendString[T ~string](b []byte, s T) []byte {
	b = append(b, '"')
	plain := 0 // what follows from here needs no escapes so far
	for i := 0; i < len(s); {
		c := s[i]
		if c < utf8.RuneSelf {
			if c >= ' ' && c != '"' && c != '\\' && c != '<' && c != '>' && c != '&' {
				i++
				continue
			}
			b = append(b, s[plain:i]...)
			switch c {
			case '"', '\\':
				b = append(b, '\\', c)
			case '\b':
				b = append(b, `\b`...)
			case '\f':
				b = append(b, `\f`...)
			case '\n':
				b = append(b, `\n`...)
			case '\r':
				b = append(b, `\r`...)
			case '\t':
				b = append(b, `\t`...)
			default:
				b = append(b, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
			}
			i++
			plain = i
			continue
		}
		r, size := utf8.DecodeRuneInString(string(s[i:min(len(s), i+utf8.UTFMax)]))
		switch {
		case r == utf8.RuneError && size == 1:
			b = append(append(b, s[plain:i]...), `\ufffd`...)
			plain = i + size
		case r == '\u2028' || r == '\u2029':
			b = append(append(b, s[plain:i]...), '\\', 'u', '2', '0', '2', hexDigits[r&15])
			plain = i + size
		}
		i += size
	}
	b = append(b, s[plain:]...)
	return append(b, '"')
}

// encoded is a frame's JSON form, from the first call of JSON on.
type encoded struct {
	once sync.Once
	data []byte
}

// scratch has buffers for encoding, so that the kept copy is as small as the frame.
var scratch = sync.Pool{New: func() any { return new([]byte) }}

// JSON returns the frame encoded. All watchers share the bytes: do not change them.
// The error is always nil.
func (f *Frame) JSON() ([]byte, error) {
	e := f.encoded
	if e == nil {
		e = new(encoded)
	}
	e.once.Do(func() {
		room := scratch.Get().(*[]byte)
		*room = f.AppendJSON((*room)[:0])
		e.data = bytes.Clone(*room)
		scratch.Put(room)
	})
	return e.data, nil
}
