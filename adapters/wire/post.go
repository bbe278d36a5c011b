package wire

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/presence-go/presence/adapters/internal/edge"
)

const (
	// maxPosted is the number of messages that one request may have.
	maxPosted = 16
	// maxPosts is the number of requests for one session that may be under way.
	maxPosts = 8
)

// ServePost passes the messages of a request to the session that it names. It
// refuses a request that it cannot read. It reports a fault of one message to
// the session.
func (c *Carrier) ServePost(w http.ResponseWriter, r *http.Request) {
	h := c.h
	key, epoch, ok := h.addressee(w, r)
	if !ok {
		return
	}
	refuse := func(status int, format string, args ...any) {
		h.refuse(w, &edge.Refusal{Status: status, Text: "wire: " + fmt.Sprintf(format, args...)})
	}
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(h.opts.WriteTimeout))
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, int64(maxPosted*h.opts.MaxMessage)))
	if tooLarge, is := errors.AsType[*http.MaxBytesError](err); is {
		refuse(http.StatusRequestEntityTooLarge, "limit body: it is longer than %d bytes", tooLarge.Limit)
		return
	}
	messages, ok := split(body)
	if err != nil || !ok {
		refuse(http.StatusBadRequest, "invalid body: it is neither a JSON object nor an array of up to %d", maxPosted)
		return
	}
	s := h.find(key, epoch)
	if s == nil {
		refuse(http.StatusNotFound, "unknown connection: none is open under this id; open it again")
		return
	}
	defer h.running.Done()
	defer s.posts.Add(-1)
	if s.posts.Add(1) > maxPosts {
		refuse(http.StatusTooManyRequests, "limit requests: %d for this connection are under way, no more are allowed", maxPosts)
		return
	}
	s.post(messages)
	w.WriteHeader(http.StatusNoContent)
}

// addressee returns the session that a request is for, or refuses a request
// that may not address it.
func (h *Server) addressee(w http.ResponseWriter, r *http.Request) (key connKey, epoch uint32, ok bool) {
	q := r.URL.Query()
	conn := q.Get("conn")
	if secret := q.Get("secret"); secret != "" {
		if key, epoch, ok = h.verify(secret, conn); !ok {
			h.refusals.Add(1)
			http.Error(w, "wire: not allowed secret: it is not of this connection", http.StatusUnauthorized)
		}
		return key, epoch, ok
	}
	who, ok := h.authenticate(w, r)
	return connKey{who.Actor.Subject, conn, !edge.Present(who.Actor)}, 0, ok
}

// find returns the session of a key and, unless it is 0, of an epoch. The
// server does not shut down until the caller calls running.Done.
func (h *Server) find(key connKey, epoch uint32) *Session {
	h.mu.Lock()
	defer h.mu.Unlock()
	s := h.boundLocked(key)
	if s == nil || h.closed || epoch != 0 && s.epoch != epoch {
		return nil
	}
	h.running.Add(1)
	return s
}

// split returns the messages of a body.
func split(body []byte) (messages []json.RawMessage, ok bool) {
	body = bytes.TrimLeft(body, " \t\r\n")
	if len(body) == 0 || body[0] != '[' {
		return []json.RawMessage{body}, len(body) > 0
	}
	err := json.Unmarshal(body, &messages)
	return messages, err == nil && len(messages) <= maxPosted
}
