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
	"github.com/presence-go/presence/adapters/memory"
	"github.com/presence-go/presence/adapters/sse"
	"github.com/presence-go/presence/adapters/wire"
	"github.com/presence-go/presence/adapters/ws"
)

// A server of presence: WebSockets, streams for clients that WebSockets do not
// reach, and the order of a shutdown that no watcher sees: sessions, HTTP server,
// tracker, storage.
func Example() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	storage, err := memory.NewStorage(nil) // or sqlite, postgres, which are closed last
	if err != nil {
		log.Fatal(err)
	}
	tracker, err := presence.New(&presence.Options{Storage: storage})
	if err != nil {
		log.Fatal(err)
	}
	go tracker.Run(context.WithoutCancel(ctx)) // until it is closed

	sessions, err := wire.New(tracker, &wire.Options{
		// The actor, as the application's own login knows it.
		Authenticate: func(r *http.Request) (presence.Identity, error) {
			cookie, err := r.Cookie("session")
			if err != nil {
				return presence.Identity{}, errors.New("not logged in")
			}
			return presence.Identity{Actor: presence.Agent(presence.ID(cookie.Value))}, nil // look it up
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

	// Shutdown of the sessions makes clients connect again, and gives their
	// connections the policy's grace for a drain. Otherwise the HTTP server
	// would wait for their streams. Close of the tracker stores the rest.
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
	handler, err := ws.NewHandler(tracker, &ws.Options{
		Authenticate: func(r *http.Request) (presence.Identity, error) {
			token := wire.Token(r) // from a header, a subprotocol or the query
			if token == "" {
				return presence.Identity{}, errors.New("a token is needed")
			}
			return presence.Identity{Actor: presence.Agent(presence.ID(token))}, nil // verify it; examples/jwt does
		},
	})
	if err != nil {
		log.Fatal(err)
	}
	defer handler.Close() // the first example shows what else a shutdown needs
	http.Handle("/presence", handler)
	log.Print(http.ListenAndServe(":8080", nil))
}
