package wire

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"
	"unicode/utf8"

	"github.com/presence-go/presence"
	"github.com/presence-go/presence/adapters/internal/edge"
)

// Version is the version of the protocol.
const Version = 1

// The types of messages from the client, see PROTOCOL.md.
const (
	typeHello    = "hello"
	typePong     = "pong"
	typeInput    = "input"
	typeFocus    = "focus"
	typeClaim    = "claim"
	typeRelease  = "release"
	typeRequest  = "request"
	typeWithdraw = "withdraw"
	typeAck      = "ack"
	typeWatch    = "watch"
	typeUnwatch  = "unwatch"
	typeSuspend  = "suspend"
	typeBye      = "bye"
)

var types = []string{typeHello, typePong, typeInput, typeFocus, typeClaim, typeRelease, typeRequest, typeWithdraw, typeAck, typeWatch, typeUnwatch, typeSuspend, typeBye}

// message is any message of a client. Its type decides which fields are read.
type message struct {
	Type    string   `json:"type"`
	Ref     string   `json:"ref"`
	V       int      `json:"v"`
	Conn    string   `json:"conn"`
	Login   bool     `json:"login"`
	Device  string   `json:"device"`
	Idle    *float64 `json:"idle"` // milliseconds; absent means that the client does not know
	Visible *bool    `json:"visible"`
	Epoch   any      `json:"epoch"` // a string in a watch; any value is allowed elsewhere
	Seq     uint64   `json:"seq"`
	Status  string   `json:"status"`
	For     float64  `json:"for"` // milliseconds
	Reason  string   `json:"reason"`
	Text    string   `json:"text"`
	Key     string   `json:"key"`
	Channel string   `json:"channel"`
	Cause   string   `json:"cause"`
	ID      string   `json:"id"` // of a request or challenge
}

// code is the word of an error for clients.
type code string

const (
	codeInvalid     code = "invalid"
	codeUnknown     code = "unknown"
	codeNotAllowed  code = "not-allowed"
	codeLimit       code = "limit"
	codeStale       code = "stale"
	codeOffline     code = "offline"
	codeDisabled    code = "disabled"
	codeClosed      code = "closed"
	codeUnavailable code = "unavailable"
	codeMalformed   code = "malformed"
	codeTooLarge    code = "too-large"
	codeRate        code = "rate"
)

// fault is an error for the client: a fault of its own, or a failure.
type fault struct {
	code    code
	text    string
	allowed []string
}

func (f *fault) Error() string { return f.text }

func faultf(c code, format string, args ...any) *fault {
	return &fault{code: c, text: fmt.Sprintf("wire: "+format, args...)}
}

// blames reports whether the client is at fault rather than the circumstances.
func (f *fault) blames() bool {
	switch f.code {
	case codeStale, codeOffline, codeDisabled, codeClosed, codeUnavailable:
		return false
	}
	return true
}

// faultOf turns an error of the tracker into one for the client. It hides
// errors of storage and of the authorizer.
func faultOf(err error) *fault {
	if f, ok := errors.AsType[*fault](err); ok {
		return f
	}
	if word := edge.Word(err); word != edge.WordUnavailable {
		return &fault{code(word), err.Error(), edge.Allowed(err)}
	}
	return faultf(codeUnavailable, "unavailable server: it cannot do this now; nothing has changed, try again")
}

// Rejection is the reason why input of a client is no message.
type Rejection int

// The rejections.
const (
	Binary   Rejection = iota // it is not text
	TooLarge                  // it is longer than Options.MaxMessage
)

func (s *Session) rejected(why Rejection) *fault {
	if why == Binary {
		return faultf(codeMalformed, "malformed message: it is binary; send JSON as text")
	}
	return faultf(codeTooLarge, "limit message: it is longer than %d bytes", s.h.opts.MaxMessage)
}

// Hello is what a client states when it opens a session.
type Hello struct {
	Conn    string   // the id of the connection, empty for a new one
	Login   bool     // the person has just entered credentials
	Device  string   // a class of device
	Idle    *float64 // how long ago the last input was, in milliseconds; nil if that is not known
	Visible *bool    // whether the page can be seen; nil if that is not known
}

func (h Hello) message() message {
	return message{Type: typeHello, V: Version, Conn: h.Conn, Login: h.Login, Device: h.Device, Idle: h.Idle, Visible: h.Visible}
}

// decode reads a message and checks everything that does not depend on its
// sender. With a fault it returns the part that it read, for the ref of the
// answer.
func decode(data []byte) (m message, err error) {
	if !utf8.Valid(data) {
		return m, faultf(codeMalformed, "malformed message: it is not UTF-8")
	}
	if err := json.Unmarshal(data, &m); err != nil {
		if len(m.Ref) > maxRef {
			m.Ref = ""
		}
		if wrong, ok := errors.AsType[*json.UnmarshalTypeError](err); ok && wrong.Field != "" {
			return m, faultf(codeMalformed, "malformed field %q: it cannot be a %s", wrong.Field, wrong.Value)
		}
		return m, faultf(codeMalformed, "malformed message: it is not one JSON object: %v", err)
	}
	return m, m.check()
}

// Pong is a heartbeat.
type Pong struct {
	Seq     uint64
	Idle    float64 // milliseconds; negative means that the client does not know
	Visible bool
	Told    bool // whether the message has Visible
}

// pong returns the message as a heartbeat.
func (m *message) pong() Pong {
	p := Pong{Seq: m.Seq, Idle: -1}
	if m.Idle != nil {
		p.Idle = *m.Idle
	}
	if m.Visible != nil {
		p.Visible, p.Told = *m.Visible, true
	}
	return p
}

// ParsePong reads a heartbeat in the form in which pages write it: no other
// fields, no spaces, and whole numbers. It is by far the most frequent message.
// It returns false for any other form, which decode reads.
func ParsePong(data []byte) (p Pong, ok bool) {
	p.Idle = -1
	typed := false
	for sep := byte('{'); ; sep = ',' {
		if len(data) < 8 || data[0] != sep || data[1] != '"' {
			return p, len(data) == 1 && data[0] == '}' && sep == ',' && typed
		}
		var v uint64
		switch data[2] {
		case 's':
			if v, data, ok = wholeNumber(data, `"seq":`); !ok || p.Seq != 0 || v == 0 {
				return p, false
			}
			p.Seq = v
		case 'i':
			const unknown = `"idle":null`
			if p.Idle < 0 && len(data) > len(unknown) && string(data[1:1+len(unknown)]) == unknown {
				data = data[1+len(unknown):]
				break
			}
			if v, data, ok = wholeNumber(data, `"idle":`); !ok || p.Idle >= 0 || v > maxMillis {
				return p, false
			}
			p.Idle = float64(v)
		case 't':
			const pong = `"type":"pong"`
			if len(data) < 1+len(pong) || string(data[1:1+len(pong)]) != pong || typed {
				return p, false
			}
			data, typed = data[1+len(pong):], true
		case 'v':
			const visible, hidden = `"visible":true`, `"visible":false`
			switch {
			case p.Told:
				return p, false
			case len(data) > len(visible) && string(data[1:1+len(visible)]) == visible:
				data, p.Visible = data[1+len(visible):], true
			case len(data) > len(hidden) && string(data[1:1+len(hidden)]) == hidden:
				data = data[1+len(hidden):]
			default:
				return p, false
			}
			p.Told = true
		default:
			return p, false
		}
	}
}

// wholeNumber reads the value of a key after a separator, and returns the rest.
func wholeNumber(data []byte, key string) (v uint64, rest []byte, ok bool) {
	at := 1 + len(key)
	if len(data) <= at || string(data[1:at]) != key {
		return 0, data, false
	}
	n := at
	for ; n < len(data); n++ {
		digit := data[n] - '0'
		if digit > 9 {
			break
		}
		v = 10*v + uint64(digit)
	}
	// A longer number may overflow, and a number in JSON has no leading zero.
	if n == at || n-at > 18 || data[at] == '0' && n-at > 1 {
		return 0, data, false
	}
	return v, data[n:], true
}

// check checks the fields that every type has.
func (m *message) check() error {
	switch {
	case len(m.Ref) > maxRef:
		m.Ref = ""
		return faultf(codeInvalid, "invalid ref: it is longer than %d bytes", maxRef)
	case m.Idle != nil && !inTime(*m.Idle):
		return faultf(codeInvalid, "invalid idle \"%v\": allowed are 0 to %.0f milliseconds", *m.Idle, maxMillis)
	case !inTime(m.For):
		return faultf(codeInvalid, "invalid for \"%v\": allowed are 0 to %.0f milliseconds", m.For, maxMillis)
	}
	return nil
}

// maxMillis is a hundred years, the longest time that a client may give.
const maxMillis = 100 * 365.25 * 24 * 60 * 60 * 1000

func inTime(ms float64) bool { return ms >= 0 && ms <= maxMillis }

func millis(ms float64) time.Duration { return time.Duration(ms * float64(time.Millisecond)) }

// The messages of the server beside the frames of channels.
type (
	welcome struct {
		Type      string           `json:"type"`
		V         int              `json:"v"`
		Ref       string           `json:"ref,omitzero"`
		Conn      string           `json:"conn"`
		Epoch     uint32           `json:"epoch"`
		Secret    string           `json:"secret,omitzero"`
		Now       presence.Instant `json:"now"`
		Heartbeat int64            `json:"heartbeat"`
		Lease     int64            `json:"lease"`
		Self      *presence.View   `json:"self"`
		Statuses  []status         `json:"statuses"`
	}
	status struct {
		ID    string         `json:"id"`
		Label string         `json:"label"`
		Class presence.Class `json:"class"`
		Color string         `json:"color,omitzero"`
	}
	ping struct {
		Type string           `json:"type"`
		V    int              `json:"v"`
		Seq  uint64           `json:"seq"`
		Now  presence.Instant `json:"now"`
	}
	self struct {
		Type string         `json:"type"`
		V    int            `json:"v"`
		View *presence.View `json:"view"`
	}
	notice struct {
		Type   string           `json:"type"` // challenge or rejected
		V      int              `json:"v"`
		ID     string           `json:"id"`
		Status string           `json:"status,omitzero"`
		Until  presence.Instant `json:"until,omitzero"`
	}
	done struct {
		Type string         `json:"type"`
		V    int            `json:"v"`
		Ref  string         `json:"ref"`
		View *presence.View `json:"view,omitempty"`
	}
	failure struct {
		Type    string   `json:"type"`
		V       int      `json:"v"`
		Ref     string   `json:"ref,omitzero"`
		Code    code     `json:"code"`
		Message string   `json:"message"`
		Channel string   `json:"channel,omitzero"`
		Allowed []string `json:"allowed,omitempty"`
	}
)
