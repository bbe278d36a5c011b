// Command e2e serves pages that use the browser client, for run.js to drive in
// Chromium. It accepts every name in the address, so use it only for tests.
package main

import (
	"context"
	"embed"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/presence-go/presence"
	"github.com/presence-go/presence/adapters/sse"
	"github.com/presence-go/presence/adapters/wire"
	"github.com/presence-go/presence/adapters/ws"
	"github.com/presence-go/presence/client"
)

//go:embed pages
var pages embed.FS

func main() {
	quick := flag.Bool("quick", false, "heartbeats and graces of seconds instead of the default policy's")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	policy := presence.DefaultPolicy()
	if *quick {
		policy.Heartbeat, policy.Lease = time.Second, 4*time.Second
		policy.Grace.Loss = 2 * time.Second
	}
	if err := run(ctx, policy); err != nil {
		log.Fatal(err)
	}
}

// entry is a change of a subject's status in the tracker.
type entry struct {
	Status  string         `json:"status"`
	Cause   presence.Cause `json:"cause"`
	Trigger presence.Cause `json:"trigger"`
}

// site is the tracker and its recorded history.
type site struct {
	tracker *presence.Tracker
	server  *wire.Server

	mu      sync.Mutex
	history map[string][]entry
}

func run(ctx context.Context, policy presence.Policy) error {
	s := &site{history: make(map[string][]entry)}
	var err error
	if s.tracker, err = presence.New(&presence.Options{Policy: &policy}); err != nil {
		return err
	}
	s.tracker.Observe(s.observe)
	defer s.tracker.Close()
	if s.server, err = wire.New(s.tracker, &wire.Options{Authenticate: authenticate}); err != nil {
		return err
	}
	if err := s.tracker.Link(ctx, presence.ChannelID("sales"), presence.ChannelID("inbox")); err != nil {
		return err
	}
	files, err := fs.Sub(pages, "pages")
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", s.page(files))
	mux.Handle("GET /page.js", http.FileServerFS(files))
	mux.HandleFunc("GET /elsewhere", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprint(w, "<!doctype html><title>elsewhere</title>")
	})
	mux.Handle("GET /client/", http.StripPrefix("/client/", http.FileServerFS(client.Files())))
	mux.Handle("/presence/ws", ws.Over(s.server))
	mux.Handle("/presence/", sse.Over(s.server))
	mux.HandleFunc("GET /facts", s.facts)

	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	running := make(chan error, 2)
	go func() { running <- s.tracker.Run(ctx) }()
	go func() { running <- server.Serve(listener) }()
	fmt.Printf("http://%s\n", listener.Addr())
	<-ctx.Done()
	_ = s.server.Close()
	_ = server.Close()
	for range cap(running) {
		if err := <-running; err != nil && !errors.Is(err, http.ErrServerClosed) && !errors.Is(err, context.Canceled) {
			return err
		}
	}
	return nil
}

// authenticate accepts a token of the form agent=ann or visitor=kim.
func authenticate(r *http.Request) (presence.Identity, error) {
	role, name, _ := strings.Cut(wire.Token(r), "=")
	switch {
	case role == "agent" && name != "":
		return presence.Identity{Actor: presence.Agent(presence.ID(name))}, nil
	case role == "visitor" && name != "":
		return presence.Identity{Actor: presence.Actor{Subject: presence.ID("visitor-" + name), Role: presence.RoleVisitor}}, nil
	}
	return presence.Identity{}, errors.New("e2e: want a token agent=NAME or visitor=NAME")
}

// page serves the page. An agent that opens it becomes a member of the inbox.
func (s *site) page(files fs.FS) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if agent := r.URL.Query().Get("agent"); agent != "" {
			if err := s.tracker.AddMember(r.Context(), presence.ChannelID("inbox"), presence.ID(agent)); err != nil {
				http.Error(w, err.Error(), http.StatusInternalServerError)
				return
			}
		}
		w.Header().Set("Content-Security-Policy", "default-src 'self'; img-src data:")
		http.ServeFileFS(w, r, files, "page.html")
	}
}

// observe records an output. The tracker calls it with the subject locked.
func (s *site) observe(subject presence.Ref, o *presence.Output) {
	if o.Kind != presence.OutputTransition {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.history[subject.ID] = append(s.history[subject.ID], entry{o.Presence.Status, o.Presence.Cause, o.Trigger})
}

// facts returns the server's data about an agent.
func (s *site) facts(w http.ResponseWriter, r *http.Request) {
	agent := r.URL.Query().Get("agent")
	state, err := s.tracker.State(r.Context(), presence.ID(agent))
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	s.mu.Lock()
	history := slices.Clone(s.history[agent])
	s.mu.Unlock()
	live, shown := 0, false
	for _, c := range state.Conns {
		if c.Left == 0 {
			live++
			shown = shown || !c.Hidden
		}
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]any{"live": live, "visible": shown, "history": history, "sessions": s.server.Sessions()})
}
