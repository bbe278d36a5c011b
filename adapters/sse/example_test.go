package sse_test

import (
	"log"
	"net/http"

	"github.com/presence-go/presence"
	"github.com/presence-go/presence/adapters/sse"
)

// Streams by themselves, for everybody to read along:
//
//	curl -N 'http://127.0.0.1:8080/presence/events?watch=sales'
//
// The example of package ws serves them beside WebSockets.
func ExampleNewHandler() {
	tracker, err := presence.New(nil)
	if err != nil {
		log.Fatal(err)
	}
	handler, err := sse.NewHandler(tracker, sse.Options{
		Authenticate: func(r *http.Request) (presence.Actor, error) {
			// Sessions are counted by who asks: give each visitor an id of its own.
			return presence.Actor{Subject: presence.ID(r.RemoteAddr), Role: presence.RoleVisitor}, nil
		},
	})
	if err != nil {
		log.Fatal(err)
	}
	http.Handle("/presence/", handler)
	server := &http.Server{Addr: "127.0.0.1:8080"}
	server.RegisterOnShutdown(func() { handler.Close() })
	log.Fatal(server.ListenAndServe())
}
