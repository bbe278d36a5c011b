package webhook_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"

	"github.com/presence-go/presence"
	"github.com/presence-go/presence/adapters/webhook"
)

// What passes the gate is posted to an endpoint, signed.
func ExampleNew() {
	arrived := make(chan string, 1)
	endpoint := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var body struct {
			Type string
			Data presence.Notification
		}
		data, err := io.ReadAll(io.LimitReader(r.Body, 64<<10))
		if err == nil { // a real one verifies webhook-signature over these bytes first
			err = json.Unmarshal(data, &body)
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		arrived <- fmt.Sprint(r.Header.Get("webhook-id"), " ", body.Type, " ", body.Data.Subject, " ", string(body.Data.Payload))
		w.WriteHeader(http.StatusNoContent)
	}))
	defer endpoint.Close()

	notifier, err := webhook.New(&webhook.Options{URL: endpoint.URL, Secret: "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3"})
	if err != nil {
		log.Fatal(err)
	}
	tracker, err := presence.New(&presence.Options{Notifier: notifier})
	if err != nil {
		log.Fatal(err)
	}
	defer tracker.Close()
	ctx := context.Background()
	ann := presence.ID("ann")
	if _, err := tracker.Connect(ctx, ann, presence.ConnectOptions{Login: true}); err != nil {
		log.Fatal(err)
	}
	if err := tracker.Notify(ctx, presence.Notification{ID: "m1", Subject: ann, Kind: "push", Payload: json.RawMessage(`{"text":"hello"}`)}); err != nil {
		log.Fatal(err)
	}
	fmt.Println(<-arrived)
	// Output: m1 presence.notification ann {"text":"hello"}
}
