package edge

import (
	"encoding/binary"
	"fmt"
	"log/slog"
	"net/http"
)

// CanHijack reports whether the connection of a request can be taken over.
// Otherwise it answers 500 and names the wrapper that hides the connection.
func CanHijack(pkg string, log *slog.Logger, w http.ResponseWriter) bool {
	for inner := w; ; {
		switch v := inner.(type) {
		case http.Hijacker:
			return true
		case interface{ Unwrap() http.ResponseWriter }:
			inner = v.Unwrap()
		default:
			text := fmt.Sprintf("%s: the connection cannot be taken over: %T has neither Hijack nor Unwrap", pkg, inner)
			log.Error(text)
			http.Error(w, text, http.StatusInternalServerError)
			return false
		}
	}
}

// normalClosure is the status of a WebSocket that closes normally.
const normalClosure = 1000

// CloseReply returns the status that answers a close frame of a client: the
// client's, or 1000 if the frame has none or one that no endpoint may send.
func CloseReply(payload []byte) int {
	if len(payload) < 2 {
		return normalClosure
	}
	switch code := int(binary.BigEndian.Uint16(payload)); {
	case code >= 1000 && code <= 1003, code >= 1007 && code <= 1011, code >= 3000 && code <= 4999:
		return code
	}
	return normalClosure
}
