package pusher

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"unicode/utf8"

	gobwas "github.com/gobwas/ws"

	"github.com/presence-go/presence"
)

// The codes with which sockets are closed, or that errors carry. After those
// below 4100 clients do not come back, after those below 4200 they wait first,
// after those below 4300 they come back at once.
const (
	codeNoApp         = 4001
	codeQuota         = 4004
	codeNoPath        = 4005
	codeBadVersion    = 4006
	codeVersion       = 4007
	codeNoVersion     = 4008
	codeUnauthorized  = 4009
	codeOverCapacity  = 4100
	codeReconnect     = 4200
	codeNoPong        = 4201
	codeClientEvent   = 4301
	codeTooBig        = int(gobwas.StatusMessageTooBig)
	codeProtocolError = int(gobwas.StatusProtocolError)
)

const (
	oldestProtocol = 5
	newestProtocol = 7

	maxChannelName = 200
	maxEventName   = 200
	maxEventData   = 10 << 10 // bytes
	maxUserInfo    = 4 << 10  // bytes
	maxTriggered   = 100      // channels of one event
	maxBatch       = 10       // events of one request
)

// The kinds of channel, which follow from the name.
type kind uint8

const (
	kindPublic kind = iota
	kindPrivate
	kindEncrypted
	kindPresence
	kindUser // what is sent to one user
)

const (
	presencePrefix = "presence-"
	userPrefix     = "#server-to-user-"
)

// kindOf tells the kind of a channel, and whether it keeps its last event.
func kindOf(channel string) (k kind, cached bool) {
	prefix := ""
	switch {
	case strings.HasPrefix(channel, userPrefix):
		return kindUser, false
	case strings.HasPrefix(channel, "private-encrypted-"):
		k, prefix = kindEncrypted, "private-encrypted-"
	case strings.HasPrefix(channel, "private-"):
		k, prefix = kindPrivate, "private-"
	case strings.HasPrefix(channel, presencePrefix):
		k, prefix = kindPresence, presencePrefix
	}
	return k, strings.HasPrefix(channel[len(prefix):], "cache-")
}

// presenceChannel returns the channel of the tracker that a presence channel shows.
func (a *App) presenceChannel(channel string) presence.Channel {
	return presence.Channel{Tenant: a.Tenant, ID: strings.TrimPrefix(strings.TrimPrefix(channel, presencePrefix), "cache-")}
}

var channelName = regexp.MustCompile(`^[A-Za-z0-9_\-=@,.;]+$`)

// checkChannel checks a channel's name.
func checkChannel(name string) error {
	user, isUser := strings.CutPrefix(name, userPrefix)
	switch {
	case len(name) > maxChannelName:
		return fmt.Errorf("the name is %d bytes long, at most %d are allowed", len(name), maxChannelName)
	case isUser && user != "" && utf8.ValidString(user):
		return nil
	case !channelName.MatchString(name):
		return fmt.Errorf("%q: a name consists of letters, digits and _ - = @ , . ;", name)
	}
	return nil
}

// envelope is any message.
type envelope struct {
	Event   string          `json:"event"`
	Channel string          `json:"channel,omitempty"`
	Data    json.RawMessage `json:"data,omitempty"`
	UserID  string          `json:"user_id,omitempty"`
}

// What clients say in the data of their messages.
type (
	subscribeData struct {
		Channel     string `json:"channel"`
		Auth        string `json:"auth"`
		ChannelData string `json:"channel_data"`
	}
	unsubscribeData struct {
		Channel string `json:"channel"`
	}
	signInData struct {
		Auth     string `json:"auth"`
		UserData string `json:"user_data"`
	}
)

// decode reads a message from a client.
func decode(text []byte) (m envelope, err error) {
	switch err := json.Unmarshal(text, &m); {
	case !utf8.Valid(text):
		return envelope{}, errors.New("the message is not UTF-8")
	case err != nil:
		return envelope{}, fmt.Errorf("the message is not a JSON object with an event and its data: %w", err)
	case m.Event == "":
		return envelope{}, errors.New("the message names no event")
	}
	return m, nil
}

// decodeData reads a message's data, which may be an object or its text.
func decodeData(data json.RawMessage, v any) error {
	var text string
	if json.Unmarshal(data, &text) == nil {
		data = json.RawMessage(text)
	}
	if err := json.Unmarshal(data, v); err != nil {
		return fmt.Errorf("the data is not what the event needs: %w", err)
	}
	return nil
}

var integer = regexp.MustCompile(`^-?[0-9]{1,20}$`)

// userOf reads a user that has been signed. Ids may be numbers.
func userOf(id, info json.RawMessage) (User, error) {
	u := User{}
	if err := json.Unmarshal(id, &u.ID); err != nil && integer.Match(id) {
		u.ID = string(id)
	}
	switch {
	case u.ID == "" || len(u.ID) > presence.MaxID:
		return User{}, fmt.Errorf("the user's id has to be text of 1 to %d bytes or a whole number", presence.MaxID)
	case u.ID == unspeakable:
		return User{}, fmt.Errorf("no user can have the id %s", unspeakable)
	case len(info) > maxUserInfo:
		return User{}, fmt.Errorf("user_info is %d bytes long, at most %d are allowed", len(info), maxUserInfo)
	}
	if len(info) > 0 && info[0] == '{' {
		u.Info = bytes.Clone(info)
	}
	return u, nil
}

// unspeakable is the one id that clients in JavaScript cannot have in their map
// of members: it changes the map's prototype.
const unspeakable = "__proto__"

// text encodes a value as JSON. It is for values made here, which all can be.
func text(v any) json.RawMessage {
	out, _ := json.Marshal(v)
	return out
}

// say makes the frame of an event whose data is, as the protocol has it, the
// text of a JSON value.
func say(event, channel string, data json.RawMessage) []byte {
	return frame(envelope{Event: event, Channel: channel, Data: text(string(data))})
}

// frame makes the bytes that go over the wire for a message, encoded once
// however many sockets they go to.
func frame(m envelope) []byte { return wire(gobwas.NewTextFrame(text(m))) }

func wire(f gobwas.Frame) []byte {
	var b bytes.Buffer
	b.Grow(gobwas.MaxHeaderSize + len(f.Payload))
	_ = gobwas.WriteFrame(&b, f) // a buffer takes everything
	return b.Bytes()
}

// closing makes a close frame.
func closing(code int, why string) []byte {
	const most = gobwas.MaxControlFramePayloadSize - 2
	for len(why) > most || !utf8.ValidString(why) {
		why = strings.ToValidUTF8(why[:min(len(why), most)], "")
	}
	return wire(gobwas.NewCloseFrame(gobwas.NewCloseFrameBody(gobwas.StatusCode(code), why)))
}

// failure makes the frame of an error that concerns the socket. A code of 0 is
// none.
func failure(code int, why string) []byte {
	data := struct {
		Code    *int   `json:"code"`
		Message string `json:"message"`
	}{Message: why}
	if code != 0 {
		data.Code = &code
	}
	return frame(envelope{Event: "pusher:error", Data: text(data)})
}

// refusal is why a subscription was refused or has ended.
type refusal struct {
	Type   string `json:"type"`
	Error  string `json:"error"`
	Status int    `json:"status"`
}

// refused makes the frame that tells it.
func refused(channel string, err error) []byte {
	return say("pusher:subscription_error", channel, text(refusalOf(err)))
}

// refusalOf turns an error into what the client is told. What is wrong inside
// the server is not for it to know.
func refusalOf(err error) refusal {
	if f, ok := errors.AsType[*fault](err); ok {
		return refusal{f.kind, f.text, f.status}
	}
	if !errors.Is(err, presence.ErrUnavailable) && !errors.Is(err, presence.ErrConflict) {
		for _, s := range statuses {
			if errors.Is(err, s.err) {
				return refusal{s.kind, err.Error(), s.status}
			}
		}
	}
	return refusal{"Unavailable", "this cannot be done now, try again", 503}
}

var statuses = []struct {
	err    error
	kind   string
	status int
}{
	{presence.ErrNotAllowed, "AuthError", 403},
	{presence.ErrInvalid, "Invalid", 400},
	{presence.ErrUnknown, "Invalid", 404},
	{presence.ErrLimit, "LimitReached", 429},
	{presence.ErrDisabled, "Disabled", 403},
}

// fault is a refusal of the adapter's own.
type fault struct {
	kind   string
	status int
	text   string
}

func (f *fault) Error() string { return f.text }

func faultf(kind string, status int, format string, args ...any) *fault {
	return &fault{kind, status, fmt.Sprintf(format, args...)}
}
