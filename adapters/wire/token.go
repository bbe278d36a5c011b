package wire

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"net/http"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/presence-go/presence"
)

// Subprotocol is what a WebSocket client that names subprotocols asks for.
const Subprotocol = "presence.v1"

// tokenProtocol begins the subprotocol that carries a token.
const tokenProtocol = "token."

// Token returns the token of a request, from the first of these places that has
// one: the Authorization header, as a bearer's; the list of subprotocols of a
// WebSocket, as "token." and its unpadded base64url form; the parameter token.
// It is empty if there is none.
func Token(r *http.Request) string {
	if scheme, token, ok := strings.Cut(r.Header.Get("Authorization"), " "); ok && strings.EqualFold(scheme, "Bearer") {
		return strings.TrimSpace(token)
	}
	for _, list := range r.Header.Values("Sec-WebSocket-Protocol") {
		for name := range strings.SplitSeq(list, ",") {
			if encoded, ok := strings.CutPrefix(strings.TrimSpace(name), tokenProtocol); ok {
				if token, err := base64.RawURLEncoding.DecodeString(encoded); err == nil {
					return string(token)
				}
			}
		}
	}
	return r.URL.Query().Get("token")
}

// secret returns what proves that a request belongs to a session of a key and
// epoch. It holds who that is, so that nothing has to be remembered.
func (h *Server) secret(key connKey, epoch uint32) string {
	who := make([]byte, 5, 64)
	if key.watcher {
		who[0] = 1
	}
	binary.BigEndian.PutUint32(who[1:], epoch)
	who = append(append(append(who, key.subject.Tenant...), 0), key.subject.ID...)
	return base64.RawURLEncoding.EncodeToString(who) + "." + base64.RawURLEncoding.EncodeToString(h.sign(who, key.conn))
}

func (h *Server) sign(who []byte, conn string) []byte {
	mac := hmac.New(sha256.New, h.key[:])
	mac.Write(who)
	mac.Write([]byte{0})
	mac.Write([]byte(conn))
	return mac.Sum(nil)[:16]
}

// verify returns whose session a secret is for. There is one secret for each,
// and nothing else that can be read as it.
func (h *Server) verify(secret, conn string) (key connKey, epoch uint32, ok bool) {
	first, _, _ := strings.Cut(secret, ".")
	who, err := base64.RawURLEncoding.DecodeString(first)
	if err != nil || len(who) < 5 {
		return key, 0, false
	}
	tenant, id, _ := strings.Cut(string(who[5:]), "\x00")
	key, epoch = connKey{presence.Ref{Tenant: tenant, ID: id}, conn, who[0] == 1}, binary.BigEndian.Uint32(who[1:])
	if !hmac.Equal([]byte(secret), []byte(h.secret(key, epoch))) {
		return connKey{}, 0, false
	}
	return key, epoch, true
}

// name checks the id of a connection that the tracker knows nothing of, or makes
// one up.
func (s *Session) name(conn string) (string, error) {
	if conn == "" {
		return rand.Text(), nil
	}
	if len(conn) > 128 || !utf8.ValidString(conn) || strings.ContainsFunc(conn, unicode.IsControl) {
		return "", faultf(codeInvalid, "conn: an id is 1 to 128 bytes of UTF-8 without control characters")
	}
	return strings.Clone(conn), nil
}
