// Jwt is a presence server whose clients send tokens: short-lived, signed, and
// valid for one session each.
package main

import (
	"context"
	"crypto/rand"
	"errors"
	"flag"
	"fmt"
	"io"
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
	address := flag.String("listen", "127.0.0.1:8081", "the address to listen on")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, *address, os.Stdout); err != nil {
		log.Fatal(err)
	}
}

// run serves until ctx is done. It then stops in the order of the example of
// package ws.
func run(ctx context.Context, address string, out io.Writer) error {
	key := make([]byte, 32)
	rand.Read(key)
	tokens, err := NewTokens(key, 100_000, time.Now)
	if err != nil {
		return err
	}
	tracker, err := presence.New(nil)
	if err != nil {
		return err
	}
	defer tracker.Close() // if it is not closed yet
	go tracker.Run(context.WithoutCancel(ctx))
	for _, id := range []string{"ann", "bob"} {
		if err := tracker.AddMember(ctx, presence.ChannelID("team"), presence.ID(id)); err != nil {
			return err
		}
	}
	handler, sessions, err := serve(tracker, tokens, nil)
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, `Ann, on a stream, for whom the server makes a token:

    curl -N "http://%[1]s/presence/events?watch=team&token=$(curl -s http://%[1]s/token?id=ann)"

`, l.Addr())
	server := &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(l) }()
	select {
	case err := <-ended:
		return errors.Join(err, sessions.Close())
	case <-ctx.Done():
	}
	bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	return errors.Join(sessions.Shutdown(bounded), server.Shutdown(bounded), tracker.Close())
}

// serve puts presence behind tokens, over WebSockets and streams.
func serve(tracker *presence.Tracker, tokens *Tokens, origins []string) (http.Handler, *wire.Server, error) {
	sessions, err := wire.New(tracker, &wire.Options{Authenticate: tokens.Authenticate, AllowedOrigins: origins})
	if err != nil {
		return nil, nil, err
	}
	mux := http.NewServeMux()
	mux.Handle("/presence", ws.Over(sessions))
	mux.Handle("/presence/", sse.Over(sessions))
	// An application issues tokens to logged-in users, by its own session cookie.
	// This one accepts every name.
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
