// Jwt is a server of presence whose clients bring tokens: short-lived, signed,
// and good for one session each.
package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"time"

	"github.com/presence-go/presence"
	"github.com/presence-go/presence/adapters/sse"
	"github.com/presence-go/presence/adapters/wire"
	"github.com/presence-go/presence/adapters/ws"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	key := make([]byte, 32)
	rand.Read(key)
	tokens, err := NewTokens(key, 100_000, time.Now)
	check(err)
	tracker, err := presence.New(nil)
	check(err)
	defer tracker.Close()
	go tracker.Run(ctx)
	for _, id := range []string{"ann", "bob"} {
		check(tracker.AddMember(ctx, presence.ID(id), presence.ID("team")))
	}
	handler, sessions, err := serve(tracker, tokens, nil)
	check(err)

	l, err := net.Listen("tcp", "127.0.0.1:8081")
	check(err)
	fmt.Printf(`Ann, on a stream, for whom the server makes a token:

    curl -N "http://%[1]s/presence/events?watch=team&token=$(curl -s http://%[1]s/token?id=ann)"

`, l.Addr())
	server := &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second}
	server.RegisterOnShutdown(func() { sessions.Close() })
	go func() {
		<-ctx.Done()
		server.Shutdown(context.Background())
	}()
	if err := server.Serve(l); err != http.ErrServerClosed {
		log.Fatal(err)
	}
}

// serve puts presence behind tokens, over WebSockets and streams.
func serve(tracker *presence.Tracker, tokens *Tokens, origins []string) (http.Handler, *wire.Server, error) {
	sessions, err := wire.New(tracker, wire.Options{Authenticate: tokens.Authenticate, AllowedOrigins: origins})
	if err != nil {
		return nil, nil, err
	}
	mux := http.NewServeMux()
	mux.Handle("/presence", ws.Over(sessions))
	mux.Handle("/presence/", sse.Over(sessions))
	// An application issues tokens to those who are logged in, by its own session
	// cookie. This one believes everybody.
	mux.HandleFunc("/token", func(w http.ResponseWriter, r *http.Request) {
		token, err := tokens.Issue(presence.Actor{Subject: presence.ID(r.FormValue("id")), Role: presence.RoleAgent}, time.Minute)
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.Header().Set("Cache-Control", "no-store")
		fmt.Fprint(w, token)
	})
	return mux, sessions, nil
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
