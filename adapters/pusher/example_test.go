package pusher_test

import (
	"encoding/json"
	"log"
	"net/http"

	"github.com/presence-go/presence"
	"github.com/presence-go/presence/adapters/pusher"
)

// A server for pusher-js: the sockets and the HTTP API, and the application's own
// endpoint that lets its logged-in user subscribe.
func ExampleNew() {
	tracker, err := presence.New(nil)
	if err != nil {
		log.Fatal(err)
	}
	app := pusher.App{ID: "1", Key: "app-key", Secret: "app-secret"}
	handler, err := pusher.New(tracker, &pusher.Options{Apps: []pusher.App{app}})
	if err != nil {
		log.Fatal(err)
	}
	http.Handle("/app/", handler)
	http.Handle("/apps/", handler)
	http.HandleFunc("/pusher/auth", func(w http.ResponseWriter, r *http.Request) {
		user := &pusher.User{ID: "ann", Info: json.RawMessage(`{"name":"Ann"}`)} // by the application's session
		auth, err := app.Authorize(r.FormValue("socket_id"), r.FormValue("channel_name"), user)
		if err != nil {
			http.Error(w, err.Error(), http.StatusForbidden)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		if err := json.NewEncoder(w).Encode(auth); err != nil {
			log.Print(err)
		}
	})
	defer handler.Close() // the example of package ws shows what else a shutdown needs
	log.Print(http.ListenAndServe(":8080", nil))
}
