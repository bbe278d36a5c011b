// Command phoenix serves a page written for Phoenix Channels. Its presence list
// is from a Go server, over the unchanged npm package phoenix.
//
// It accepts every name without a login: it is a demonstration and must not be
// reachable by others.
package main

import (
	"context"
	_ "embed"
	"flag"
	"fmt"
	"log"
	"net/http"
	"time"

	"github.com/presence-go/presence"
	"github.com/presence-go/presence/adapters/phoenix"
)

//go:embed page.html
var page []byte

func main() {
	addr := flag.String("addr", "127.0.0.1:8080", "address to serve on")
	npm := flag.String("npm", "examples/phoenix/node_modules", "where npm has put the package phoenix")
	flag.Parse()
	handler, end, err := open(context.Background(), *npm)
	if err != nil {
		log.Fatal(err)
	}
	defer end()
	fmt.Printf("Open http://%s/?as=ann, and ?as=bob and ?as=guest in other windows\n", *addr)
	server := &http.Server{Addr: *addr, Handler: handler, ReadHeaderTimeout: 5 * time.Second}
	log.Print(server.ListenAndServe())
}

// open returns the handler of a tracker with the agents ann and bob, and a
// function that stops both.
func open(ctx context.Context, npm string) (handler http.Handler, end func(), err error) {
	policy := presence.DefaultPolicy()
	policy.Views = map[presence.Audience][]string{
		// Colleagues see one entry a device. Customers see no devices.
		presence.AudienceTeam: {"since", "text", "devices"},
	}
	tracker, err := presence.New(&presence.Options{Policy: &policy})
	if err != nil {
		return nil, nil, err
	}
	for _, agent := range []string{"ann", "bob"} {
		if err := tracker.AddMember(ctx, presence.ChannelID("room:sales"), presence.ID(agent)); err != nil {
			return nil, nil, err
		}
	}
	sockets, err := phoenix.NewHandler(tracker, &phoenix.Options{
		Authenticate: func(c phoenix.Credentials) (presence.Identity, error) {
			switch c.Token {
			case "ann", "bob":
				return presence.Identity{Actor: presence.Agent(presence.ID(c.Token))}, nil
			case "":
				return presence.Identity{}, fmt.Errorf("phoenix: %w: say who you are with ?as=", presence.ErrNotAllowed)
			}
			return presence.Identity{Actor: presence.Actor{Subject: presence.ID(c.Token), Role: presence.RoleVisitor}}, nil
		},
	})
	if err != nil {
		return nil, nil, err
	}
	mux := http.NewServeMux()
	mux.Handle("/socket/websocket", sockets)
	mux.Handle("GET /npm/", http.StripPrefix("/npm/", http.FileServer(http.Dir(npm))))
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.Write(page)
	})
	go tracker.Run(ctx)
	return mux, func() { sockets.Close(); tracker.Close() }, nil
}
