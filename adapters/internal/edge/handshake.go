package edge

import (
	"bytes"
	"crypto/sha1"
	"encoding/base64"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"time"
)

// Words returns the words of a header that is a list, of all its lines.
func Words(h http.Header, name string) iter.Seq[string] {
	return func(yield func(string) bool) {
		for _, line := range h.Values(name) {
			for word := range strings.SplitSeq(line, ",") {
				if !yield(strings.TrimSpace(word)) {
					return
				}
			}
		}
	}
}

// hasWord reports whether a list has a word in letters of any case.
func hasWord(h http.Header, name, wanted string) bool {
	for word := range Words(h, name) {
		if strings.EqualFold(word, wanted) {
			return true
		}
	}
	return false
}

// OpensWebSocket reports whether a request asks for a WebSocket.
func OpensWebSocket(r *http.Request) bool { return hasWord(r.Header, "Upgrade", "websocket") }

// CanUpgrade reports whether a request opens a WebSocket by RFC 6455, 4.2.1, on
// a connection that can be taken over. Otherwise it answers the request.
func CanUpgrade(pkg string, log *slog.Logger, w http.ResponseWriter, r *http.Request) bool {
	refuse := func(status int, header, value, format string, args ...any) bool {
		w.Header().Set(header, value)
		http.Error(w, pkg+": "+fmt.Sprintf(format, args...), status)
		return false
	}
	const version = "Sec-WebSocket-Version"
	key, versions := r.Header.Values("Sec-WebSocket-Key"), r.Header.Values(version)
	if !OpensWebSocket(r) {
		w.Header().Set("Connection", "Upgrade")
		return refuse(http.StatusUpgradeRequired, "Upgrade", "websocket", "invalid request: it does not open a WebSocket")
	}
	if !CanHijack(pkg, log, w) {
		return false
	}
	switch {
	case r.Method != http.MethodGet:
		return refuse(http.StatusMethodNotAllowed, "Allow", http.MethodGet, "invalid method %q; allowed: GET", r.Method)
	case !r.ProtoAtLeast(1, 1):
		return refuse(http.StatusHTTPVersionNotSupported, "Connection", "close", "invalid protocol %q; allowed: HTTP/1.1", r.Proto)
	case !hasWord(r.Header, "Connection", "upgrade"):
		return refuse(http.StatusBadRequest, "Connection", "close", "invalid header \"Connection\": it has no Upgrade")
	case len(versions) == 0:
		return refuse(http.StatusBadRequest, version, "13", "invalid header %q: it is missing; allowed: 13", version)
	case len(versions) > 1 || strings.TrimSpace(versions[0]) != "13":
		return refuse(http.StatusUpgradeRequired, version, "13", "invalid header %q: it is %.80q; allowed: 13", version, strings.Join(versions, ", "))
	case len(key) != 1 || !validKey(key[0]):
		return refuse(http.StatusBadRequest, "Connection", "close", "invalid header \"Sec-WebSocket-Key\": it is not one of 16 bytes in base64")
	}
	return true
}

func validKey(key string) bool {
	nonce, err := base64.StdEncoding.DecodeString(key)
	return err == nil && len(nonce) == 16
}

// Upgrade takes over the connection of a request that CanUpgrade has accepted,
// and answers the handshake. The client gets the subprotocol if it offers it.
// early is what the client has sent since. After an error the request has been
// answered, if that is possible.
func Upgrade(w http.ResponseWriter, r *http.Request, timeout time.Duration, subprotocol string) (conn net.Conn, early []byte, err error) {
	conn, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return nil, nil, err
	}
	sum := sha1.Sum([]byte(r.Header.Get("Sec-WebSocket-Key") + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	protocol := ""
	for word := range Words(r.Header, "Sec-WebSocket-Protocol") {
		if word == subprotocol && word != "" {
			protocol = "Sec-WebSocket-Protocol: " + subprotocol + "\r\n"
			break
		}
	}
	answer := "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: " +
		base64.StdEncoding.EncodeToString(sum[:]) + "\r\n" + protocol + "\r\n"
	_ = conn.SetDeadline(time.Time{}) // those of the HTTP server
	_ = conn.SetWriteDeadline(time.Now().Add(timeout))
	if _, err := conn.Write([]byte(answer)); err != nil {
		conn.Close()
		return nil, nil, err
	}
	_ = conn.SetWriteDeadline(time.Time{})
	// The reader's buffer is not kept.
	early, _ = rw.Reader.Peek(rw.Reader.Buffered())
	return conn, bytes.Clone(early), nil
}

// After returns a reader of the frames of a connection from which the HTTP
// server has read some bytes already.
func After(early []byte, conn net.Conn, limits FrameLimits) Frames {
	if len(early) == 0 {
		return NewFrames(conn, limits)
	}
	return NewFrames(io.MultiReader(bytes.NewReader(early), conn), limits)
}
