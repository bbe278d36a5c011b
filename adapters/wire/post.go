package wire

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"
)

const (
	// maxPosted is how many messages may come in one request.
	maxPosted = 16
	// maxPosts is how many requests with messages for one session may be under
	// way.
	maxPosts = 8
)

// ServePost takes the messages of a request for the session that it names. A
// request that makes no sense is refused; what is wrong with a message is told
// to the session.
func (h *Server) ServePost(w http.ResponseWriter, r *http.Request) {
	key, epoch, ok := h.addressee(w, r)
	if !ok {
		return
	}
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(h.opts.WriteTimeout))
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, int64(maxPosted*h.opts.MaxMessage)))
	if tooLarge, is := errors.AsType[*http.MaxBytesError](err); is {
		http.Error(w, fmt.Sprintf("wire: the body is longer than %d bytes", tooLarge.Limit), http.StatusRequestEntityTooLarge)
		return
	}
	messages, ok := split(body)
	if err != nil || !ok {
		http.Error(w, fmt.Sprintf("wire: the body is neither a JSON object nor an array of up to %d", maxPosted), http.StatusBadRequest)
		return
	}
	s := h.find(key, epoch)
	if s == nil {
		http.Error(w, "wire: no such connection is open; open it again", http.StatusNotFound)
		return
	}
	defer h.running.Done()
	defer s.posts.Add(-1)
	if s.posts.Add(1) > maxPosts {
		http.Error(w, fmt.Sprintf("wire: %d requests for this connection are under way, which is all there may be", maxPosts), http.StatusTooManyRequests)
		return
	}
	s.post(messages)
	w.WriteHeader(http.StatusNoContent)
}

// addressee says for which session a request is, if it may speak to it.
func (h *Server) addressee(w http.ResponseWriter, r *http.Request) (key connKey, epoch uint32, ok bool) {
	q := r.URL.Query()
	conn := q.Get("conn")
	if secret := q.Get("secret"); secret != "" {
		if key, epoch, ok = h.verify(secret, conn); !ok {
			http.Error(w, "wire: this secret is not of this connection", http.StatusUnauthorized)
		}
		return key, epoch, ok
	}
	actor, ok := h.Authenticate(w, r)
	return connKey{actor.Subject, conn, !present(actor)}, 0, ok
}

// find returns the session of a key and, unless it is 0, of an epoch. Until
// running is done with it, the server does not go.
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

// split takes the messages of a body apart.
func split(body []byte) (messages []json.RawMessage, ok bool) {
	body = bytes.TrimLeft(body, " \t\r\n")
	if len(body) == 0 || body[0] != '[' {
		return []json.RawMessage{body}, len(body) > 0
	}
	err := json.Unmarshal(body, &messages)
	return messages, err == nil && len(messages) <= maxPosted
}
