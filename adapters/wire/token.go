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
	"github.com/presence-go/presence/adapters/internal/edge"
)

// Subprotocol is the name that a WebSocket client offers if it names
// subprotocols.
const Subprotocol = "presence.v1"

// tokenProtocol begins the subprotocol that carries a token.
const tokenProtocol = "token."

// Token returns the token of a request, or "". It looks at these places in
// order: the header Authorization with the scheme Bearer; a WebSocket
// subprotocol of "token." and the token in unpadded base64url; the parameter
// token.
func Token(r *http.Request) string {
	if scheme, token, ok := strings.Cut(r.Header.Get("Authorization"), " "); ok && strings.EqualFold(scheme, "Bearer") {
		return strings.TrimSpace(token)
	}
	for name := range edge.Words(r.Header, "Sec-WebSocket-Protocol") {
		if encoded, ok := strings.CutPrefix(name, tokenProtocol); ok {
			if token, err := base64.RawURLEncoding.DecodeString(encoded); err == nil {
				return string(token)
			}
		}
	}
	return r.URL.Query().Get("token")
}

// secret returns a text that proves that a request belongs to the session of a
// key and epoch. It contains both, so that the server need not store it.
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

// verify returns the key and epoch of a secret. Only one text is the secret of
// a session.
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

// name checks the id of a connection that the tracker does not know, or makes a
// new id.
func (s *Session) name(conn string) (string, error) {
	if conn == "" {
		return rand.Text(), nil
	}
	if len(conn) > 128 || !utf8.ValidString(conn) || strings.ContainsFunc(conn, unicode.IsControl) {
		return "", faultf(codeInvalid, "invalid conn %.128q: an id has 1 to 128 bytes of UTF-8 without control characters", conn)
	}
	return strings.Clone(conn), nil
}
