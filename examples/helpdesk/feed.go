package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"sync"

	"github.com/presence-go/presence"
)

// feed sends events to the pages, as server-sent events, and keeps the history.
// A page that does not keep up loses its stream and starts again.
type feed struct {
	mu      sync.Mutex
	past    []json.RawMessage
	readers map[chan []byte]bool
	closed  bool
}

// The limits of the feed.
const (
	maxPast    = 2000
	maxReaders = 64
)

func newFeed() *feed { return &feed{readers: make(map[chan []byte]bool)} }

// entry is a change of a subject's status.
type entry struct {
	Type    string           `json:"type"` // status
	Agent   string           `json:"agent"`
	Status  string           `json:"status"`
	Class   presence.Class   `json:"class"`
	Cause   presence.Cause   `json:"cause"`
	Trigger presence.Cause   `json:"trigger"`
	Masked  string           `json:"masked,omitempty"`
	Reach   string           `json:"reach"`
	At      presence.Instant `json:"at"`
	Noticed presence.Instant `json:"noticed"`
}

// observe records an output. The tracker calls it with the subject locked.
func (f *feed) observe(subject presence.Ref, o *presence.Output) {
	switch o.Kind {
	case presence.OutputTransition, presence.OutputUpdated:
	case presence.OutputChallenge:
		f.say("challenge", map[string]any{"agent": subject.ID, "id": o.ID, "until": o.At})
		return
	case presence.OutputRequestClosed:
		f.say("decided", map[string]any{"agent": subject.ID, "status": o.Request.Claim.Status, "how": o.Reason})
		return
	default:
		return
	}
	p := &o.Presence
	data, err := json.Marshal(entry{
		Type: "status", Agent: subject.ID, Status: p.Status, Class: p.Class, Cause: p.Cause, Trigger: o.Trigger, Masked: p.Masked,
		Reach: p.Reach.String(), At: o.At, Noticed: o.Noticed,
	})
	if err != nil {
		return // an entry can always be encoded
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.past = append(f.past, data); len(f.past) > maxPast {
		f.past = slices.Clone(f.past[maxPast/4:])
	}
	f.tellLocked(data)
}

// say sends another change to the pages.
func (f *feed) say(what string, value any) {
	data, err := json.Marshal(map[string]any{"type": what, "value": value})
	if err != nil {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.tellLocked(data)
}

func (f *feed) tellLocked(data []byte) {
	for r := range f.readers {
		select {
		case r <- data:
		default:
			delete(f.readers, r)
			close(r)
		}
	}
}

func (f *feed) close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed = true
	for r := range f.readers {
		delete(f.readers, r)
		close(r)
	}
}

func (f *feed) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	if f.closed || len(f.readers) >= maxReaders {
		f.mu.Unlock()
		http.Error(w, "helpdesk: too many pages are open", http.StatusServiceUnavailable)
		return
	}
	reader := make(chan []byte, 256)
	f.readers[reader] = true
	f.mu.Unlock()
	defer func() {
		f.mu.Lock()
		delete(f.readers, reader)
		f.mu.Unlock()
	}()
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	flusher := http.NewResponseController(w)
	fmt.Fprint(w, "data: {\"type\":\"begin\"}\n\n") // the page then requests the history
	for {
		if flusher.Flush() != nil {
			return
		}
		select {
		case data, open := <-reader:
			if !open {
				return
			}
			fmt.Fprintf(w, "data: %s\n\n", data)
		case <-r.Context().Done():
			return
		}
	}
}

// history returns the kept changes, oldest first.
func (f *feed) history(w http.ResponseWriter, _ *http.Request) {
	f.mu.Lock()
	past := slices.Clip(f.past)
	f.mu.Unlock()
	if past == nil {
		past = []json.RawMessage{}
	}
	reply(w, past)
}
