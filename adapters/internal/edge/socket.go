package edge

import (
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
