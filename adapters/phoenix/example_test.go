package phoenix_test

import (
	"errors"
	"log"
	"net/http"

	"github.com/presence-go/presence"
	"github.com/presence-go/presence/adapters/phoenix"
)

// A server for the npm package phoenix.
func ExampleNewHandler() {
	tracker, err := presence.New(nil)
	if err != nil {
		log.Fatal(err)
	}
	handler, err := phoenix.NewHandler(tracker, phoenix.Options{
		Authenticate: func(c phoenix.Credentials) (presence.Actor, error) {
			if c.Token == "" {
				return presence.Actor{}, errors.New("a token is needed")
			}
			return presence.Agent(presence.ID(c.Token)), nil // verify it
		},
	})
	if err != nil {
		log.Fatal(err)
	}
	http.Handle("/socket/websocket", handler)
	server := &http.Server{Addr: ":8080"}
	server.RegisterOnShutdown(func() { handler.Close() })
	log.Fatal(server.ListenAndServe())
}
