package phoenix

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/presence-go/presence/adapters/internal/edge"
)

// The events of the protocol, and those that can be pushed on a joined topic.
const (
	eventHeartbeat = "heartbeat"
	eventJoin      = "phx_join"
	eventLeave     = "phx_leave"
	eventReply     = "phx_reply"
	eventError     = "phx_error"
	eventClose     = "phx_close"
	eventState     = "presence_state"
	eventDiff      = "presence_diff"
	eventGroup     = "presence_group"

	eventClaim   = "claim"
	eventRelease = "release"
	eventInput   = "input"
	eventFocus   = "focus"
	eventLogout  = "logout"

	eventToken    = "access_token" // of Supabase
	eventPresence = "presence"     // of Supabase: track and untrack
)

const (
	maxRef   = 64  // bytes of a reference
	maxTopic = 255 // bytes of a topic, and of an event
)

// message is any message of a client.
type message struct {
	joinRef, ref *string
	topic, event string
	payload      json.RawMessage
	left         *string // the ref of the join that the message has ended
}

// serializer is a form of text messages. The vsn of a socket names it.
type serializer uint8

const (
	// objects is 1.0.0, the form of every client up to phoenix 1.2 and up to
	// realtime-js 2.90.
	objects serializer = iota
	// lists is 2.0.0.
	lists
)

// serializerOf returns the serializer of a vsn. A client without one is older
// than the parameter.
func serializerOf(vsn string) (s serializer, ok bool) {
	switch major, _, _ := strings.Cut(vsn, "."); major {
	case "", "1":
		return objects, true
	case "2":
		return lists, true
	}
	return 0, false
}

// errMalformed means that a message is not one of the protocol.
var errMalformed = &edge.Violation{Status: edge.StatusText, Text: "phoenix: invalid message: it is not join_ref, ref, topic, event and payload in the form of its vsn"}

// object is a message of the form 1.0.0.
type object struct {
	Topic   string  `json:"topic"`
	Event   string  `json:"event"`
	Payload any     `json:"payload"`
	Ref     *string `json:"ref"`
	JoinRef *string `json:"join_ref"`
}

// decode reads a text message.
func (s serializer) decode(data []byte) (m message, err error) {
	if s == objects {
		payload := json.RawMessage("null")
		o := object{Payload: &payload}
		if json.Unmarshal(data, &o) != nil {
			return m, errMalformed
		}
		m = message{joinRef: o.JoinRef, ref: o.Ref, topic: o.Topic, event: o.Event, payload: payload}
		if m.event == eventJoin && m.joinRef == nil {
			m.joinRef = m.ref // the oldest clients send no join_ref
		}
		return m, m.check()
	}
	var parts []json.RawMessage
	if json.Unmarshal(data, &parts) != nil || len(parts) != 5 {
		return m, errMalformed
	}
	for i, to := range []any{&m.joinRef, &m.ref, &m.topic, &m.event} {
		if json.Unmarshal(parts[i], to) != nil {
			return m, errMalformed
		}
	}
	m.payload = parts[4]
	return m, m.check()
}

// decodeBinary reads the head of a binary message. Its content is not used, but
// clients wait for an answer.
func decodeBinary(data []byte) (m message, err error) {
	const push, broadcast = 0, 3 // of Phoenix, of Supabase
	var sizes []byte
	switch {
	case len(data) >= 5 && data[0] == push:
		sizes, data = data[1:5], data[5:]
	case len(data) >= 7 && data[0] == broadcast:
		sizes, data = data[1:5], data[7:]
	default:
		return m, errMalformed
	}
	var fields [4]string
	for i, n := range sizes {
		if len(data) < int(n) {
			return m, errMalformed
		}
		fields[i], data = string(data[:n]), data[n:]
	}
	m.joinRef, m.ref, m.topic, m.event = &fields[0], &fields[1], fields[2], fields[3]
	return m, m.check()
}

func (m *message) check() error {
	for _, ref := range []*string{m.joinRef, m.ref} {
		if ref != nil && (len(*ref) > maxRef || !utf8.ValidString(*ref)) {
			return errMalformed
		}
	}
	if m.topic == "" || len(m.topic) > maxTopic || len(m.event) > maxTopic || !utf8.ValidString(m.topic) {
		return errMalformed
	}
	return nil
}

// encode returns an outgoing message.
func (s serializer) encode(joinRef, ref *string, topic, event string, payload any) []byte {
	var v any = []any{joinRef, ref, topic, event, payload}
	if s == objects {
		v = object{topic, event, payload, ref, joinRef}
	}
	data, _ := json.Marshal(v) // all of it can be encoded
	return data
}

// reply is the payload of a phx_reply.
type reply struct {
	Status   string `json:"status"`
	Response any    `json:"response"`
}

// The words of errors for clients.
const (
	wordInvalid      = "invalid"
	wordUnknown      = "unknown"
	wordNotAllowed   = "not-allowed"
	wordLimit        = "limit"
	wordUnavailable  = edge.WordUnavailable
	wordUnauthorized = "unauthorized"
)

// fault is an error for the client: a fault of its own, or a failure.
type fault struct {
	word string
	text string
}

func (f *fault) Error() string { return f.text }

func faultf(word, format string, args ...any) *fault {
	return &fault{word, fmt.Sprintf("phoenix: "+format, args...)}
}

// MarshalJSON returns the reason of a refusal as clients receive it.
func (f *fault) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Reason  string `json:"reason"`
		Message string `json:"message"`
	}{f.word, f.text})
}

// faultOf turns an error of the tracker into one for the client. It hides
// errors of storage and of the authorizer.
func faultOf(err error) *fault {
	if f, ok := errors.AsType[*fault](err); ok {
		return f
	}
	if word := edge.Word(err); word != edge.WordUnavailable {
		return &fault{word, err.Error()}
	}
	return faultf(wordUnavailable, "unavailable server: it cannot do this now; nothing has changed, try again")
}

// refusalFault turns a refusal of a request into one of a join.
func refusalFault(r *edge.Refusal) *fault {
	switch r.Status {
	case http.StatusUnauthorized:
		return &fault{wordUnauthorized, r.Text}
	case http.StatusForbidden:
		return &fault{wordNotAllowed, r.Text}
	case http.StatusTooManyRequests:
		return &fault{wordLimit, r.Text}
	default:
		return &fault{wordUnavailable, r.Text}
	}
}

// payload is the payload of any event. The event decides which fields are read.
type payload struct {
	Status string   `json:"status"`
	For    float64  `json:"for"` // milliseconds
	Reason string   `json:"reason"`
	Text   string   `json:"text"`
	Key    string   `json:"key"`
	Idle   *float64 `json:"idle"` // milliseconds
	On     *bool    `json:"on"`

	AccessToken string   `json:"access_token"`
	Event       string   `json:"event"`
	Payload     *payload `json:"payload"` // of track
}

// maxMillis is a hundred years, the longest time that a client may give.
const maxMillis = 100 * 365.25 * 24 * 60 * 60 * 1000

func millis(ms float64) time.Duration { return time.Duration(ms * float64(time.Millisecond)) }

// decodePayload reads the payload of an event. It ignores unknown fields, such
// as what an application tracks about itself.
func decodePayload(data json.RawMessage) (p payload, err error) {
	if err := json.Unmarshal(data, &p); err != nil {
		return p, faultf(wordInvalid, "invalid payload: %v", err)
	}
	for q := &p; q != nil; q = q.Payload {
		if q.For < 0 || q.For > maxMillis || q.Idle != nil && (*q.Idle < 0 || *q.Idle > maxMillis) {
			return p, faultf(wordInvalid, "invalid time: allowed are 0 to %.0f milliseconds", maxMillis)
		}
	}
	return p, nil
}
