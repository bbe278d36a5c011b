package ws_test

import (
	"context"
	"errors"
	"log"
	"net/http"
	"os"
	"os/signal"
	"time"

	"github.com/presence-go/presence"
	"github.com/presence-go/presence/adapters/sse"
	"github.com/presence-go/presence/adapters/wire"
	"github.com/presence-go/presence/adapters/ws"
)

// A server of presence: WebSockets, streams for those whom WebSockets do not
// reach, and a shutdown that nobody sees.
func Example() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	tracker, err := presence.New(nil)
	if err != nil {
		log.Fatal(err)
	}
	go tracker.Run(context.WithoutCancel(ctx)) // until it is closed

	sessions, err := wire.New(tracker, wire.Options{
		// Who asks, as the application's own login has it.
		Authenticate: func(r *http.Request) (presence.Actor, error) {
			cookie, err := r.Cookie("session")
			if err != nil {
				return presence.Actor{}, errors.New("not logged in")
			}
			return presence.Agent(presence.ID(cookie.Value)), nil // look it up
		},
		AllowedOrigins: []string{"https://app.example.com"},
	})
	if err != nil {
		log.Fatal(err)
	}
	http.Handle("/presence", ws.Over(sessions))
	http.Handle("/presence/", sse.Over(sessions))

	server := &http.Server{Addr: ":8080", ReadHeaderTimeout: 10 * time.Second}
	ended := make(chan error, 1)
	go func() { ended <- server.ListenAndServe() }()
	select {
	case err := <-ended:
		log.Print(err)
	case <-ctx.Done():
	}

	// Sessions first: clients are told to come back, and their connections get the
	// policy's grace for a planned end. Then the server, then what is to be stored.
	bounded, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	err = errors.Join(sessions.Shutdown(bounded), server.Shutdown(bounded), tracker.Close())
	if err != nil {
		log.Print(err)
	}
}

// A handler by itself, where WebSockets are enough.
func ExampleNewHandler() {
	tracker, err := presence.New(nil)
	if err != nil {
		log.Fatal(err)
	}
	handler, err := ws.NewHandler(tracker, ws.Options{
		Authenticate: func(r *http.Request) (presence.Actor, error) {
			token := wire.Token(r) // from a header, a subprotocol or the query
			if token == "" {
				return presence.Actor{}, errors.New("a token is needed")
			}
			return presence.Agent(presence.ID(token)), nil // verify it; examples/jwt does
		},
	})
	if err != nil {
		log.Fatal(err)
	}
	http.Handle("/presence", handler)
	server := &http.Server{Addr: ":8080"}
	server.RegisterOnShutdown(func() { handler.Close() })
	log.Fatal(server.ListenAndServe())
}
