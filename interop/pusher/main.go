// Command pusher serves the adapter for Pusher clients to clients of other
// projects. It gives their tests the view of the core.
package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"sync"
	"time"

	"github.com/presence-go/presence"
	"github.com/presence-go/presence/adapters/pusher"
	"github.com/presence-go/presence/preset"
)

func main() {
	npm := flag.String("npm", "node_modules", "where the packages are that pages load")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := serve(ctx, *npm); err != nil {
		log.Fatal(err)
	}
}

// grace is long enough for a page to connect again, also on a busy machine.
const grace = 3 * time.Second

// The apps differ only in their policies.
var apps = map[string]func() presence.Policy{
	"default":    presence.DefaultPolicy,
	"thrivedesk": preset.ThriveDesk,
	"tawkto":     preset.TawkTo,
}

// server is a tracker behind the adapter, with the part of an app's own
// backend.
type server struct {
	tracker *presence.Tracker
	handler *pusher.Handler
	apps    map[string]pusher.App

	mu    sync.Mutex
	hooks []json.RawMessage
	conns map[net.Conn]bool
}

func serve(ctx context.Context, npm string) error {
	tracker, err := presence.New(nil)
	if err != nil {
		return err
	}
	defer tracker.Close()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	url := "http://" + listener.Addr().String()
	s := &server{tracker: tracker, apps: make(map[string]pusher.App), conns: make(map[net.Conn]bool)}
	opts := &pusher.Options{
		Identify: identify, PingInterval: time.Second, PongTimeout: 2 * time.Second, MessagesPerSecond: 1000,
		ClientEvent: func(ctx context.Context, e pusher.ClientEvent) error {
			if e.Name != "client-status" || e.Conn == nil {
				return nil
			}
			var claim presence.Claim
			if err := json.Unmarshal(e.Data, &claim); err != nil {
				return err
			}
			_, err := e.Conn.Claim(ctx, claim)
			return err
		},
	}
	for id, policy := range apps {
		p := policy()
		p.Heartbeat, p.Lease, p.Grace = time.Second, 6*time.Second, presence.Grace{Close: grace, Loss: grace}
		tenant := "tenant-" + id
		if err := tracker.SetPolicy(ctx, presence.Actor{Subject: presence.Ref{Tenant: tenant, ID: "root"}, Role: presence.RoleAdmin}, p); err != nil {
			return err
		}
		s.apps[id] = pusher.App{ID: id, Key: "key-" + id, Secret: "secret-" + id, Tenant: tenant, Webhooks: []pusher.Webhook{{URL: url + "/hooks"}}}
		opts.Apps = append(opts.Apps, s.apps[id])
	}
	if s.handler, err = pusher.New(tracker, opts); err != nil {
		return err
	}
	defer s.handler.Close()
	go tracker.Run(ctx)

	mux := http.NewServeMux()
	mux.Handle("/app/", s.handler)
	mux.Handle("/apps/", s.handler)
	mux.HandleFunc("POST /auth/{app}", s.auth)
	mux.HandleFunc("POST /user-auth/{app}", s.userAuth)
	mux.HandleFunc("POST /do/{app}/{what}", s.do)
	mux.HandleFunc("GET /members/{app}/{channel}", s.members)
	mux.HandleFunc("POST /hooks", s.hook)
	mux.HandleFunc("GET /hooks", s.hooked)
	mux.HandleFunc("GET /page", page)
	mux.Handle("GET /npm/", http.StripPrefix("/npm/", http.FileServer(http.Dir(npm))))
	web := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second, ConnState: s.track}
	go func() {
		<-ctx.Done()
		web.Close()
	}()
	fmt.Println(url)
	if err := web.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// identify accepts supervisors and visitors, and subjects that watch
// themselves.
func identify(u pusher.User) (who pusher.Identity, err error) {
	switch {
	case strings.HasPrefix(u.ID, "visitor-"):
		who.Actor.Role = presence.RoleVisitor
	case strings.HasPrefix(u.ID, "super-"):
		who.Actor.Role = presence.RoleSupervisor
	}
	return who, nil
}

// user returns the user of a request. It accepts every name.
func user(r *http.Request) *pusher.User {
	id := cmp.Or(r.Header.Get("X-User"), r.FormValue("user"))
	info, _ := json.Marshal(map[string]string{"id": id, "name": "The " + id})
	return &pusher.User{ID: id, Info: info}
}

func (s *server) auth(w http.ResponseWriter, r *http.Request) {
	channel, who := r.FormValue("channel_name"), user(r)
	if strings.HasPrefix(who.ID, "mallory.") {
		http.Error(w, "not you", http.StatusForbidden)
		return
	}
	if !strings.HasPrefix(channel, "presence-") {
		who = nil
	}
	answer(w)(s.apps[r.PathValue("app")].Authorize(r.FormValue("socket_id"), channel, who))
}

func (s *server) userAuth(w http.ResponseWriter, r *http.Request) {
	answer(w)(s.apps[r.PathValue("app")].SignIn(r.FormValue("socket_id"), *user(r)))
}

func answer(w http.ResponseWriter) func(v any, err error) {
	return func(v any, err error) {
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		json.NewEncoder(w).Encode(v)
	}
}

// do carries out requests of tests that a client cannot make.
func (s *server) do(w http.ResponseWriter, r *http.Request) {
	tenant := s.apps[r.PathValue("app")].Tenant
	ref := func(name string) presence.Ref { return presence.Ref{Tenant: tenant, ID: r.FormValue(name)} }
	subject := ref("subject")
	answer(w)(struct{}{}, func() error {
		switch what := r.PathValue("what"); what {
		case "grant":
			return s.tracker.AddMember(r.Context(), presence.Channel(ref("channel")), subject)
		case "revoke":
			return s.tracker.RemoveMember(r.Context(), presence.Channel(ref("channel")), subject)
		case "claim":
			_, err := s.tracker.SetClaim(r.Context(), presence.Agent(subject), subject, presence.Claim{Status: r.FormValue("status"), Text: r.FormValue("text")})
			return err
		case "cut":
			s.cut()
			return nil
		default:
			return fmt.Errorf("%w: %q cannot be done", presence.ErrUnknown, what)
		}
	}())
}

// members returns the rows of a channel's present members, as an audience sees
// them.
func (s *server) members(w http.ResponseWriter, r *http.Request) {
	channel := presence.Channel{Tenant: s.apps[r.PathValue("app")].Tenant, ID: r.PathValue("channel")}
	views, group, err := s.tracker.ListAs(r.Context(), presence.Audience(r.FormValue("audience")), channel, nil)
	rows := make(map[string]presence.View)
	for _, v := range views {
		if v.Class != "" && v.Class != presence.ClassOffline {
			rows[v.Subject.ID] = v
		}
	}
	if err == nil && group.Count != len(rows) {
		err = fmt.Errorf("%d members are there, the core counts %d", len(rows), group.Count)
	}
	answer(w)(rows, err)
}

// hook keeps a webhook as received, for the app's own library to check.
func (s *server) hook(_ http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(io.LimitReader(r.Body, 1<<20))
	headers := make(map[string]string)
	for name := range r.Header {
		headers[strings.ToLower(name)] = r.Header.Get(name)
	}
	kept, _ := json.Marshal(map[string]any{"headers": headers, "rawBody": string(body)})
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hooks = append(s.hooks, kept)
}

func (s *server) hooked(w http.ResponseWriter, _ *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	answer(w)(s.hooks, nil)
}

// track keeps the connections of sockets. cut cuts them without a close frame.
func (s *server) track(c net.Conn, state http.ConnState) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch state {
	case http.StateHijacked:
		s.conns[c] = true
	case http.StateClosed:
		delete(s.conns, c)
	}
}

func (s *server) cut() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		c.Close()
	}
	clear(s.conns)
}

// page is an empty page with the clients from npm.
func page(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/html")
	io.WriteString(w, `<!doctype html><title>Pusher</title>
<script src="/npm/pusher-js/dist/web/pusher.js"></script>
<script src="/npm/laravel-echo/dist/echo.iife.js"></script>`)
}
