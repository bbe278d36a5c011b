// Command phoenix serves the adapter for Phoenix and Supabase to clients of
// other projects. It gives their tests the view of the core.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/presence-go/presence"
	"github.com/presence-go/presence/adapters/phoenix"
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

// server is a tracker behind both dialects.
type server struct {
	tracker *presence.Tracker
	npm     string

	mu    sync.Mutex
	conns map[net.Conn]bool
}

func serve(ctx context.Context, npm string) error {
	policy := presence.DefaultPolicy()
	policy.Grace = presence.Grace{Close: 3 * time.Second, Loss: 3 * time.Second}
	policy.Statuses = append(policy.Statuses, presence.Status{
		ID: "invisible", Label: "Invisible", Class: presence.ClassAvailable, HiddenFrom: []presence.Audience{presence.AudienceVisitor},
	})
	policy.Views = map[presence.Audience][]string{presence.AudienceTeam: {"since", "reason", "text", "devices"}}
	tracker, err := presence.New(&presence.Options{Policy: &policy})
	if err != nil {
		return err
	}
	defer tracker.Close()
	go tracker.Run(ctx)
	for _, id := range []string{"ann", "bob", "__proto__", "constructor"} {
		if err := tracker.AddMember(ctx, presence.ChannelID("sales"), presence.ID(id)); err != nil {
			return err
		}
	}
	s := &server{tracker: tracker, npm: npm, conns: make(map[net.Conn]bool)}
	mux := http.NewServeMux()
	for at, dialect := range map[string]phoenix.Dialect{"/socket/websocket": phoenix.Phoenix, "/realtime/v1/websocket": phoenix.Supabase} {
		h, err := phoenix.NewHandler(tracker, &phoenix.Options{Authenticate: authenticate, Dialect: dialect, MessagesPerSecond: 1000})
		if err != nil {
			return err
		}
		defer h.Close()
		mux.Handle(at, h)
	}
	mux.HandleFunc("GET /members", s.members)
	mux.HandleFunc("POST /do", s.do)
	mux.HandleFunc("GET /page", s.page)
	mux.HandleFunc("GET /npm/", s.module)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Printf("http://%s\n", listener.Addr())
	web := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second, ConnState: s.note}
	defer context.AfterFunc(ctx, func() { web.Close() })()
	if err := web.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// note keeps the connections of sockets, so that tests can cut them.
func (s *server) note(c net.Conn, state http.ConnState) {
	if state == http.StateHijacked {
		s.mu.Lock()
		s.conns[c] = true
		s.mu.Unlock()
	}
}

// authenticate accepts every token: a name, a colon and a role.
func authenticate(c phoenix.Credentials) (presence.Identity, error) {
	id, role, _ := strings.Cut(c.Token, ":")
	if id == "" || id == "mallory" {
		return presence.Identity{}, fmt.Errorf("%w: unknown name", presence.ErrNotAllowed)
	}
	return presence.Identity{Actor: presence.Actor{Subject: presence.ID(id), Role: presence.Role(role)}}, nil
}

// members returns what an audience must see of a channel: by key, with one
// entry a device.
func (s *server) members(w http.ResponseWriter, r *http.Request) {
	views, _, err := s.tracker.ListAs(r.Context(), presence.Audience(r.FormValue("audience")), presence.ChannelID("sales"), nil)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	list := make(map[string][]presence.View)
	for _, v := range views {
		if v.Class == "" || v.Class == presence.ClassOffline {
			continue
		}
		n := max(v.Devices, 1)
		v.Devices = 0
		for range n {
			list[phoenix.Key(v.Subject)] = append(list[phoenix.Key(v.Subject)], v)
		}
	}
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(list)
}

// do carries out requests of tests that a client cannot make.
func (s *server) do(w http.ResponseWriter, r *http.Request) {
	ctx, id := r.Context(), presence.ID(r.FormValue("id"))
	var err error
	switch what := r.FormValue("what"); what {
	case "grant":
		err = s.tracker.AddMember(ctx, presence.ChannelID("sales"), id)
	case "revoke":
		err = s.tracker.RemoveMember(ctx, presence.ChannelID("sales"), id)
	case "connect":
		_, err = s.tracker.Connect(ctx, id, presence.ConnectOptions{ID: "from-elsewhere"})
	case "logout":
		err = s.tracker.Logout(ctx, id)
	case "cut":
		s.mu.Lock()
		for c := range s.conns {
			c.(*net.TCPConn).SetLinger(0)
			c.Close()
		}
		clear(s.conns)
		s.mu.Unlock()
	case "script":
		var seed int
		if seed, err = strconv.Atoi(r.FormValue("seed")); err == nil {
			err = s.script(ctx, uint64(seed))
		}
	default:
		err = fmt.Errorf("interop: what is %q", what)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
	}
}

// script makes people connect, leave and change their status at random.
func (s *server) script(ctx context.Context, seed uint64) error {
	r := rand.New(rand.NewPCG(seed, 7))
	root := presence.Actor{Subject: presence.ID("root"), Role: presence.RoleSystem}
	people := []presence.Ref{presence.ID("cyd"), presence.ID("dan"), presence.ID("eve"), presence.ID("constructor"), presence.ID("__proto__")}
	for _, p := range people {
		if err := s.tracker.AddMember(ctx, presence.ChannelID("sales"), p); err != nil {
			return err
		}
		// End the connections of the previous script.
		if err := s.tracker.Logout(ctx, p); err != nil {
			return err
		}
	}
	conns := make(map[presence.Ref][]*presence.Conn)
	for range 150 {
		p := people[r.IntN(len(people))]
		list := conns[p]
		var err error
		switch n := r.IntN(10); {
		case n < 3 && len(list) < 3:
			var c *presence.Conn
			c, err = s.tracker.Connect(ctx, p, presence.ConnectOptions{})
			conns[p] = append(list, c)
		case n < 5 && len(list) > 0:
			c := list[0]
			conns[p] = list[1:]
			err = c.Leave([]presence.Cause{presence.CauseClosed, presence.CauseLost, presence.CauseLogout}[r.IntN(3)])
		case n < 8 && len(list) > 0:
			_, err = s.tracker.SetClaim(ctx, root, p, presence.Claim{
				Source: presence.SourceManual, Status: []string{"available", "busy", "away", "invisible"}[r.IntN(4)],
				Text: []string{"", "back soon"}[r.IntN(2)], For: time.Duration(r.IntN(2)) * 300 * time.Millisecond,
			})
		case n == 8:
			err = s.tracker.AddMember(ctx, presence.ChannelID("sales"), p)
		case n == 9 && r.IntN(3) == 0:
			err = s.tracker.RemoveMember(ctx, presence.ChannelID("sales"), p)
		default:
			time.Sleep(time.Duration(r.IntN(40)) * time.Millisecond)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// page is the page on which a browser loads the packages.
func (s *server) page(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	fmt.Fprint(w, `<!doctype html><title>interop</title>
<script type="importmap">{"imports":{
  "phoenix":"/npm/phoenix/priv/static/phoenix.mjs",
  "@supabase/realtime-js":"/npm/@supabase/realtime-js/dist/module/index.js",
  "@supabase/phoenix":"/npm/@supabase/phoenix/priv/static/phoenix.mjs",
  "tslib":"/npm/tslib/tslib.es6.mjs"
}}</script>`)
}

// module serves a file of a package, also without its extension, because
// modules name each other like that.
func (s *server) module(w http.ResponseWriter, r *http.Request) {
	name := path.Join(s.npm, path.Clean(strings.TrimPrefix(r.URL.Path, "/npm")))
	if path.Ext(name) != ".js" && path.Ext(name) != ".mjs" {
		name += ".js"
	}
	data, err := os.ReadFile(name)
	if err != nil {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Type", "text/javascript")
	w.Write(data)
}
