// Command laravel-echo shows presence to an existing front end: a page with
// Laravel Echo and pusher-js from npm. Agents choose a status, visitors watch.
// Open it in several windows.
//
// It accepts every name without a login: it is a demonstration and must not be
// reachable by others.
package main

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"time"

	"github.com/presence-go/presence"
	"github.com/presence-go/presence/adapters/pusher"
)

func main() {
	addr := flag.String("addr", "127.0.0.1:8080", "address to serve on")
	npm := flag.String("npm", "examples/laravel-echo/node_modules", "where npm has put the packages")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	d, err := open(ctx, *npm)
	if err != nil {
		log.Fatal(err)
	}
	defer d.close()
	server := &http.Server{Addr: *addr, Handler: d.routes(), ReadHeaderTimeout: 5 * time.Second}
	go func() {
		<-ctx.Done()
		server.Close()
	}()
	fmt.Printf("Open http://%s/?user=ann, /?user=bob and /?user=visitor-1\n", *addr)
	if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		log.Fatal(err)
	}
}

// The agents, and their names for others.
var agents = map[string]string{"ann": "Ann Archer", "bob": "Bob Baker"}

// app has the credentials that a Laravel application would have in its .env.
var app = pusher.App{ID: "1", Key: "demo", Secret: "change me"}

// desk is the example: a tracker behind the Pusher adapter, and an app's own
// endpoints.
type desk struct {
	tracker *presence.Tracker
	pusher  *pusher.Handler
	npm     string
}

func open(ctx context.Context, npm string) (*desk, error) {
	tracker, err := presence.New(nil)
	if err != nil {
		return nil, err
	}
	go tracker.Run(ctx)
	for id := range agents {
		if err := tracker.AddMember(ctx, presence.ChannelID("support"), presence.ID(id)); err != nil {
			return nil, err
		}
	}
	handler, err := pusher.New(tracker, &pusher.Options{
		Apps: []pusher.App{app},
		// Pusher clients report no input. The page sends a whisper at each input.
		ClientEvent: func(_ context.Context, e pusher.ClientEvent) error {
			if e.Conn != nil && e.Name == "client-input" {
				return e.Conn.Input()
			}
			return nil
		},
	})
	return &desk{tracker, handler, npm}, err
}

func (d *desk) close() {
	d.pusher.Close()
	d.tracker.Close()
}

func (d *desk) routes() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/app/", d.pusher)
	mux.Handle("/apps/", d.pusher)
	mux.HandleFunc("POST /broadcasting/auth", d.auth)
	mux.HandleFunc("POST /status", d.status)
	mux.HandleFunc("GET /{$}", page)
	mux.Handle("GET /npm/", http.StripPrefix("/npm/", http.FileServer(http.Dir(d.npm))))
	return mux
}

// auth does the work of Laravel's channel routes: it decides which user may
// listen to which channel.
func (d *desk) auth(w http.ResponseWriter, r *http.Request) {
	id, channel := r.Header.Get("X-User"), r.FormValue("channel_name")
	name, agent := agents[id]
	if channel != "presence-support" || !agent && !strings.HasPrefix(id, "visitor-") {
		http.Error(w, "you may not listen here", http.StatusForbidden)
		return
	}
	info, err := json.Marshal(map[string]string{"id": id, "name": name})
	if err == nil {
		var a pusher.Authorization
		if a, err = app.Authorize(r.FormValue("socket_id"), channel, &pusher.User{ID: id, Info: info}); err == nil {
			w.Header().Set("Content-Type", "application/json")
			err = json.NewEncoder(w).Encode(a)
		}
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
	}
}

// status sets the status that an agent chooses.
func (d *desk) status(w http.ResponseWriter, r *http.Request) {
	who := presence.ID(r.Header.Get("X-User"))
	if _, err := d.tracker.SetClaim(r.Context(), presence.Agent(who), who, presence.Claim{Status: r.FormValue("status")}); err != nil {
		http.Error(w, err.Error(), http.StatusForbidden)
	}
}

//go:embed page.html
var html []byte

func page(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	_, _ = w.Write(html)
}
