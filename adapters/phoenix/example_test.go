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
	handler, err := phoenix.NewHandler(tracker, &phoenix.Options{
		Authenticate: func(c phoenix.Credentials) (presence.Identity, error) {
			if c.Token == "" {
				return presence.Identity{}, errors.New("a token is needed")
			}
			return presence.Identity{Actor: presence.Agent(presence.ID(c.Token))}, nil // verify it
		},
	})
	if err != nil {
		log.Fatal(err)
	}
	defer handler.Close() // the example of package ws shows what else a shutdown needs
	http.Handle("/socket/websocket", handler)
	log.Print(http.ListenAndServe(":8080", nil))
}
