package pusher

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/presence-go/presence"
	"github.com/presence-go/presence/adapters/internal/edge"
)

// The codes of closed sockets and of errors. After a code below 4100 clients
// stay away. After one below 4200 they wait before they connect again. After
// one below 4300 they connect again at once.
const (
	lowestCode       = 4000
	codeNoApp        = 4001
	codeQuota        = 4004
	codeNoPath       = 4005
	codeBadVersion   = 4006
	codeVersion      = 4007
	codeNoVersion    = 4008
	codeUnauthorized = 4009
	codeOverCapacity = 4100
	codeReconnect    = 4200
	codeNoPong       = 4201
	codeClientEvent  = 4301
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

// kind is the kind of a channel, which follows from its name.
type kind uint8

const (
	kindPublic kind = iota
	kindPrivate
	kindEncrypted
	kindPresence
	kindUser // for events to one user
)

const (
	presencePrefix = "presence-"
	userPrefix     = "#server-to-user-"
)

// kindOf returns the kind of a channel, and whether the channel keeps its last
// event.
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
		return fmt.Errorf("its name has %d bytes, allowed are %d", len(name), maxChannelName)
	case isUser && user != "" && utf8.ValidString(user):
		return nil
	case !channelName.MatchString(name):
		return fmt.Errorf("its name %q is invalid; allowed: letters, digits and _ - = @ , . ;", name)
	}
	return nil
}

// envelope is any message.
type envelope struct {
	Event   string          `json:"event"`
	Channel string          `json:"channel,omitempty"`
	Data    json.RawMessage `json:"data,omitempty"`
	UserID  json.RawMessage `json:"user_id,omitempty"` // as the app signed it
}

// The data of the messages of clients.
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
	case err != nil:
		return envelope{}, fmt.Errorf("malformed message: it is not a JSON object with an event and its data: %w", err)
	case m.Event == "":
		return envelope{}, errors.New("malformed message: it names no event")
	}
	return m, nil
}

// decodeData reads the data of a message, which is an object or a text that
// contains one.
func decodeData(data json.RawMessage, v any) error {
	var text string
	if json.Unmarshal(data, &text) == nil {
		data = json.RawMessage(text)
	}
	if err := json.Unmarshal(data, v); err != nil {
		return fmt.Errorf("malformed data: %w", err)
	}
	return nil
}

var integer = regexp.MustCompile(`^-?[0-9]{1,20}$`)

// signedUser is a user as an app has signed it.
type signedUser struct {
	User
	id json.RawMessage // a text or a number
}

// userOf reads a signed user. Its id may be a number.
func userOf(id, info json.RawMessage) (signedUser, error) {
	u := signedUser{}
	if err := json.Unmarshal(id, &u.ID); err != nil && integer.Match(id) {
		u.ID = string(id)
		u.id = numberOf(u.ID)
	}
	switch {
	case u.ID == "" || len(u.ID) > presence.MaxID:
		return signedUser{}, fmt.Errorf("invalid user id: it is neither a text of 1 to %d bytes nor a whole number", presence.MaxID)
	case u.ID == unspeakable:
		return signedUser{}, fmt.Errorf("invalid user id %q: clients cannot hold it", unspeakable)
	case len(info) > maxUserInfo:
		return signedUser{}, fmt.Errorf("limit user_info: it has %d bytes, allowed are %d", len(info), maxUserInfo)
	}
	if u.id == nil {
		u.id = text(u.ID)
	}
	if len(info) > 0 && info[0] == '{' {
		u.Info = bytes.Clone(info)
	}
	return u, nil
}

// maxNumber is the greatest whole number that JavaScript holds exactly.
const maxNumber = 1<<53 - 1

// numberOf returns an id as a number, or nil if a client in JavaScript would
// read another number. Such an id is sent as text: lists name members by their
// text, and both must name the same member.
func numberOf(id string) json.RawMessage {
	if n, err := strconv.ParseInt(id, 10, 64); err != nil || n > maxNumber || n < -maxNumber || strconv.FormatInt(n, 10) != id {
		return nil
	}
	return json.RawMessage(id)
}

// unspeakable is the one id that clients in JavaScript cannot hold: as a key of
// their map of members it changes the map's prototype.
const unspeakable = "__proto__"

// text encodes a value of this package, all of which can be encoded.
func text(v any) json.RawMessage {
	out, _ := json.Marshal(v)
	return out
}

// bare returns the frame of an event without data.
func bare(event, channel string) []byte {
	return frame(envelope{Event: event, Channel: channel})
}

// say returns the frame of an event. By the protocol its data is a JSON value as
// text.
func say(event, channel string, data json.RawMessage) []byte {
	return frame(envelope{Event: event, Channel: channel, Data: text(string(data))})
}

// frame returns the bytes of a message for the connection, encoded once for all
// sockets.
func frame(m envelope) []byte { return edge.Frame(edge.OpText, text(m)) }

// closing returns a close frame.
func closing(code int, why string) []byte { return edge.Frame(edge.OpClose, edge.CloseBody(code, why)) }

// farewell returns what the server sends before it hangs up: an error with a
// code of the protocol, then the close frame. Codes of the WebSocket have no
// error, and neither has the answer to a client that closes, which has no
// reason.
func farewell(code int, why string) []byte {
	if code < lowestCode || why == "" {
		return closing(code, why)
	}
	return append(failure(code, why, ""), closing(code, why)...)
}

// failure returns the frame of an error, which names the channel of the message
// that it answers. A code of 0 is sent as null.
func failure(code int, why, channel string) []byte {
	data := struct {
		Code    *int   `json:"code"`
		Message string `json:"message"`
	}{Message: why}
	if code != 0 {
		data.Code = &code
	}
	return frame(envelope{Event: "pusher:error", Channel: channel, Data: text(data)})
}

// refusal is why a subscription was refused or ended.
type refusal struct {
	Type   string `json:"type"`
	Error  string `json:"error"`
	Status int    `json:"status"`
}

// refused returns the frame of a refusal.
func refused(channel string, err error) []byte {
	return say("pusher:subscription_error", channel, text(refusalOf(err)))
}

// refusalOf turns an error into the refusal for the client. It hides failures
// of the server.
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
	return refusal{"Unavailable", "unavailable: nothing has changed, try again", 503}
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

// fault is a refusal by this package.
type fault struct {
	kind   string
	status int
	text   string
}

func (f *fault) Error() string { return f.text }

func faultf(kind string, status int, format string, args ...any) *fault {
	return &fault{kind, status, fmt.Sprintf(format, args...)}
}
