package pusher

import (
	"crypto/hmac"
	"crypto/md5"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/presence-go/presence"
)

// User is a user of an app, as its authorization endpoint has signed it.
type User struct {
	// ID names the user within the app. It is the id of the subject.
	ID string
	// Info is what the app shows others of the user, a JSON object, or nil.
	Info json.RawMessage
}

// channelData and userData are the signed forms of users.
type (
	channelData struct {
		UserID   json.RawMessage `json:"user_id"`
		UserInfo json.RawMessage `json:"user_info,omitempty"`
	}
	userData struct {
		ID       json.RawMessage `json:"id"`
		UserInfo json.RawMessage `json:"user_info,omitempty"`
	}
)

// Authorization is the answer of an authorization endpoint to a client. Its
// JSON form is the one that clients expect.
type Authorization struct {
	Auth        string `json:"auth"`
	ChannelData string `json:"channel_data,omitempty"`
	UserData    string `json:"user_data,omitempty"`
}

// Authorize lets a socket subscribe to a private channel, or as a user to a
// presence channel. Call it in the app's endpoint after a check that the client
// may. It returns [presence.ErrInvalid].
func (a App) Authorize(socketID, channel string, user *User) (Authorization, error) {
	if err := checkSocketID(socketID); err != nil {
		return Authorization{}, err
	}
	if err := checkChannel(channel); err != nil {
		return Authorization{}, fmt.Errorf("pusher: %w channel: %w", presence.ErrInvalid, err)
	}
	var data string
	if user != nil {
		id, err := json.Marshal(user.ID)
		if err == nil {
			data, err = marshalled(channelData{UserID: id, UserInfo: user.Info})
		}
		if err != nil {
			return Authorization{}, fmt.Errorf("pusher: %w user %q: %w", presence.ErrInvalid, user.ID, err)
		}
	}
	return Authorization{Auth: a.Key + ":" + a.sign(subscribeText(socketID, channel, data)), ChannelData: data}, nil
}

// SignIn signs a socket in as a user. Call it in the app's endpoint, which must
// know who asks. It returns [presence.ErrInvalid].
func (a App) SignIn(socketID string, user User) (Authorization, error) {
	if err := checkSocketID(socketID); err != nil {
		return Authorization{}, err
	}
	id, err := json.Marshal(user.ID)
	var data string
	if err == nil {
		data, err = marshalled(userData{ID: id, UserInfo: user.Info})
	}
	if err != nil {
		return Authorization{}, fmt.Errorf("pusher: %w user %q: %w", presence.ErrInvalid, user.ID, err)
	}
	return Authorization{Auth: a.Key + ":" + a.sign(signInText(socketID, data)), UserData: data}, nil
}

func marshalled(v any) (string, error) {
	text, err := json.Marshal(v)
	return string(text), err
}

func checkSocketID(id string) error {
	first, second, _ := strings.Cut(id, ".")
	for _, part := range []string{first, second} {
		if _, err := strconv.ParseUint(part, 10, 64); err != nil {
			return fmt.Errorf("pusher: %w socket id %q: allowed are two numbers with a point between them", presence.ErrInvalid, id)
		}
	}
	return nil
}

// subscribeText returns the text that is signed for a subscription, with the
// data if it has any, whatever the kind of the channel.
func subscribeText(socketID, channel, data string) string {
	text := socketID + ":" + channel
	if data != "" {
		text += ":" + data
	}
	return text
}

func signInText(socketID, data string) string { return socketID + "::user::" + data }

// sign returns the signature of a text in hexadecimal.
func (a *App) sign(text string) string {
	h := hmac.New(sha256.New, []byte(a.Secret))
	h.Write([]byte(text))
	return hex.EncodeToString(h.Sum(nil))
}

// signed reports whether auth, a key and a signature, is that of a text.
func (a *App) signed(auth, text string) bool {
	key, signature, _ := strings.Cut(auth, ":")
	return key == a.Key && hmac.Equal([]byte(signature), []byte(a.sign(text)))
}

// maxSkew is how far the clocks of an app's backend and of this process may
// differ. A request can be repeated for as long.
const maxSkew = 600 * time.Second

// checkRequest checks the signature of a request to the HTTP API.
func (a *App) checkRequest(r *http.Request, body []byte, now time.Time) error {
	q := r.URL.Query()
	if q.Get("auth_key") != a.Key {
		return fmt.Errorf("invalid auth_key %q: it is not the key of app %s", q.Get("auth_key"), a.ID)
	}
	if q.Get("auth_version") != "1.0" {
		return fmt.Errorf("invalid auth_version %q; allowed: 1.0", q.Get("auth_version"))
	}
	seconds, err := strconv.ParseInt(q.Get("auth_timestamp"), 10, 64)
	if err != nil {
		return fmt.Errorf("invalid auth_timestamp %q: it is not a number of seconds", q.Get("auth_timestamp"))
	}
	if skew := now.Sub(time.Unix(seconds, 0)).Abs(); skew > maxSkew {
		return fmt.Errorf("invalid auth_timestamp \"%d\": it is more than %v away from the server's clock, which is at %d", seconds, maxSkew, now.Unix())
	}
	sum := md5.Sum(body)
	if given := q.Get("body_md5"); len(body) > 0 && given != hex.EncodeToString(sum[:]) {
		return fmt.Errorf("invalid body_md5 %q: the body has another", given)
	}
	// Some libraries sign the path as they write it, others as they send it.
	for _, path := range []string{r.URL.Path, r.URL.EscapedPath()} {
		if hmac.Equal([]byte(q.Get("auth_signature")), []byte(a.sign(requestText(r.Method, path, q)))) {
			return nil
		}
	}
	return fmt.Errorf("invalid auth_signature: allowed is the hexadecimal HMAC SHA-256 of %q with the secret of the key", requestText(r.Method, r.URL.Path, q))
}

// requestText returns the text that is signed for a request.
func requestText(method, path string, q url.Values) string {
	var params []string
	for key, values := range q {
		if key != "auth_signature" {
			params = append(params, strings.ToLower(key)+"="+strings.Join(values, ","))
		}
	}
	slices.Sort(params)
	return method + "\n" + path + "\n" + strings.Join(params, "&")
}
