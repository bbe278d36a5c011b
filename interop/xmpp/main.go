// Command xmpp is a gateway to an XMPP server. It gives the tests of the
// server's users the view of the core.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/presence-go/presence"
	"github.com/presence-go/presence/adapters/xmpp"
)

func main() {
	component := flag.String("component", "", "address at which the XMPP server takes components")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := serve(ctx, *component); err != nil {
		log.Fatal(err)
	}
}

const domain = "agents.localhost"

// people are the subjects: tests change ann, and scripts the others.
var people = []string{"ann", "dan", "eve lee", "fay"}

type server struct {
	ctx     context.Context
	tracker *presence.Tracker
	conns   map[string]*presence.Conn // of tests; one call at a time
}

func serve(ctx context.Context, component string) error {
	policy := presence.DefaultPolicy()
	policy.Statuses = append(policy.Statuses,
		presence.Status{ID: "dnd", Label: "Do not disturb", Class: presence.ClassDND},
		presence.Status{ID: "invisible", Label: "Invisible", Class: presence.ClassAvailable, HiddenFrom: []presence.Audience{presence.AudienceVisitor}},
	)
	tracker, err := presence.New(&presence.Options{Policy: &policy})
	if err != nil {
		return err
	}
	defer tracker.Close()
	go tracker.Run(ctx)
	for _, id := range people {
		if err := tracker.AddMember(ctx, presence.ChannelID("sales"), presence.ID(id)); err != nil {
			return err
		}
	}
	gateway, err := xmpp.New(tracker, &xmpp.Options{
		Domain: domain, Secret: "interop", Address: component, Observer: observer,
		Logger: slog.New(slog.NewTextHandler(os.Stderr, nil)),
	})
	if err != nil {
		return err
	}
	s := &server{ctx: ctx, tracker: tracker, conns: make(map[string]*presence.Conn)}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /shown", s.shown)
	mux.HandleFunc("POST /do", s.do)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Printf("http://%s\n", listener.Addr())
	web := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	defer web.Close()
	go web.Serve(listener)
	if err := gateway.Run(ctx); !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// roles are those of the XMPP users; others are visitors.
var roles = map[string]presence.Role{"bob": presence.RoleAgent, "boss": presence.RoleSupervisor}

func observer(_ context.Context, jid string) (presence.Actor, error) {
	id, _, _ := strings.Cut(jid, "@")
	if id == "mallory" {
		return presence.Actor{}, presence.ErrNotAllowed
	}
	role := roles[id]
	if role == "" {
		role = presence.RoleVisitor
	}
	return presence.Actor{Subject: presence.ID(id), Role: role}, nil
}

// shown returns what a user must see of all others: JID, type, show and text.
func (s *server) shown(w http.ResponseWriter, r *http.Request) {
	actor, _ := observer(r.Context(), r.FormValue("user"))
	list := make(map[string]string)
	for _, id := range people {
		view, err := s.tracker.GetAs(r.Context(), actor.Audience(), presence.ID(id))
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		text := "unavailable"
		if shown := xmpp.Show(view); shown.Available {
			text = shown.Show + "|" + shown.Status
		}
		list[xmpp.Node(id)+"@"+domain] = text
	}
	json.NewEncoder(w).Encode(list)
}

// do carries out requests of tests.
func (s *server) do(w http.ResponseWriter, r *http.Request) {
	id := r.FormValue("id")
	c := s.conns[id]
	var err error
	switch what := r.FormValue("what"); {
	case what == "connect":
		s.conns[id], err = s.tracker.Connect(s.ctx, presence.ID(id), presence.ConnectOptions{Login: true})
	case what == "script":
		var seed int
		if seed, err = strconv.Atoi(r.FormValue("seed")); err == nil {
			err = s.script(uint64(seed))
		}
	case c == nil:
		err = fmt.Errorf("interop: %q is not connected", id)
	case what == "claim":
		_, err = c.Claim(s.ctx, presence.Claim{Status: r.FormValue("status"), Text: r.FormValue("text")})
	case what == "logout":
		err = c.Logout()
	default:
		err = fmt.Errorf("interop: what is %q", what)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
	}
}

// script makes people connect, leave and change their status at random.
func (s *server) script(seed uint64) error {
	r := rand.New(rand.NewPCG(seed, 7))
	root := presence.Actor{Subject: presence.ID("root"), Role: presence.RoleSystem}
	conns := make(map[string]*presence.Conn)
	for range 150 {
		id := people[1+r.IntN(len(people)-1)]
		var err error
		switch n := r.IntN(6); {
		case conns[id] == nil:
			conns[id], err = s.tracker.Connect(s.ctx, presence.ID(id), presence.ConnectOptions{})
		case n < 4:
			_, err = s.tracker.SetClaim(s.ctx, root, presence.ID(id), presence.Claim{
				Source: presence.SourceManual, Status: []string{"available", "busy", "away", "dnd", "invisible"}[r.IntN(5)],
				Text: []string{"", "back <soon> & well"}[r.IntN(2)], For: time.Duration(r.IntN(2)) * 200 * time.Millisecond,
			})
		case n == 4:
			err = conns[id].Logout()
			conns[id] = nil
		default:
			time.Sleep(time.Duration(r.IntN(30)) * time.Millisecond)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
