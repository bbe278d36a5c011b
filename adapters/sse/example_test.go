package sse_test

import (
	"log"
	"net/http"

	"github.com/presence-go/presence"
	"github.com/presence-go/presence/adapters/sse"
)

// Streams by themselves, which every visitor may read:
//
//	curl -N 'http://127.0.0.1:8080/presence/events?watch=sales'
//
// The example of package ws serves them beside WebSockets, and shows the order of
// a shutdown.
func ExampleNewHandler() {
	tracker, err := presence.New(nil)
	if err != nil {
		log.Fatal(err)
	}
	handler, err := sse.NewHandler(tracker, &sse.Options{
		Authenticate: func(r *http.Request) (presence.Identity, error) {
			// Sessions are counted by actor: give each visitor an id of its own.
			return presence.Identity{Actor: presence.Actor{Subject: presence.ID(r.RemoteAddr), Role: presence.RoleVisitor}}, nil
		},
	})
	if err != nil {
		log.Fatal(err)
	}
	defer handler.Close()
	http.Handle("/presence/", handler)
	log.Print(http.ListenAndServe("127.0.0.1:8080", nil))
}
