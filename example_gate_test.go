package presence_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log"

	"github.com/benbjohnson/clock"

	"github.com/presence-go/presence"
	"github.com/presence-go/presence/adapters/memory"
)

// The gate decides whether a notification is delivered now. Its sender gets the same
// answer either way, since another answer would betray who is connected.
func ExampleTracker_Notify() {
	ctx := context.Background()
	phone, err := memory.NewNotifier(nil) // in its place a push service, or adapters/webhook
	if err != nil {
		log.Fatal(err)
	}
	tracker, err := presence.New(&presence.Options{Clock: clock.NewMock(), Notifier: phone})
	if err != nil {
		log.Fatal(err)
	}
	defer tracker.Close()
	ann := presence.ID("ann")
	conn, err := tracker.Connect(ctx, ann, presence.ConnectOptions{Login: true})
	if err != nil {
		log.Fatal(err)
	}
	message := func(id, channel string) {
		if err := tracker.Notify(ctx, presence.Notification{
			ID: id, Subject: ann, Kind: "push", Channel: channel, Payload: json.RawMessage(`{"text":"hello"}`),
		}); err != nil {
			log.Fatal(err)
		}
	}
	if err := conn.Focus("sales"); err != nil { // what ann looks at
		log.Fatal(err)
	}
	message("m1", "sales")   // she sees it anyway
	message("m2", "support") // she does not

	arrived, err := phone.Wait(ctx, 1)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(arrived[0].ID, string(arrived[0].Payload))
	decision, err := tracker.Gate(ctx, presence.Notification{Subject: ann, Kind: "push", Channel: "sales"})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(decision.Verdict, decision.Column)
	// Output:
	// m2 {"text":"hello"}
	// skip here
}

// With a verdict of Defer the host keeps the notification and asks again when the
// receiver has become idle or has left: presets in which a telephone is told only
// what the desktop has not shown say so.
func ExampleTracker_Gate() {
	ctx := context.Background()
	policy := presence.DefaultPolicy()
	policy.Gate["mobile"] = presence.GateRow{Here: presence.Skip, Available: presence.Defer, DND: presence.Skip}
	tracker, err := presence.New(&presence.Options{Clock: clock.NewMock(), Policy: &policy})
	if err != nil {
		log.Fatal(err)
	}
	defer tracker.Close()
	ann := presence.ID("ann")
	conn, err := tracker.Connect(ctx, ann, presence.ConnectOptions{Login: true})
	if err != nil {
		log.Fatal(err)
	}
	ask := func() {
		d, err := tracker.Gate(ctx, presence.Notification{Subject: ann, Kind: "mobile", Channel: "sales"})
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("%s (%s): %s\n", d.Verdict, d.Column, d.Reason)
	}
	ask()
	if err := conn.Logout(); err != nil {
		log.Fatal(err)
	}
	ask()
	// Output:
	// defer (available): the subject is available: connected, and nothing else was chosen
	// deliver (disconnected): the subject is offline: not connected, after a logout or never
}
