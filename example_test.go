package presence_test

import (
	"context"
	"fmt"
	"log"
	"time"

	"github.com/benbjohnson/clock"

	"github.com/presence-go/presence"
)

// Ann connects, is busy for a while, and closes the page. A program uses the real
// clock, and Run instead of Sweep: go tracker.Run(ctx).
func Example() {
	ctx := context.Background()
	mock := clock.NewMock()
	tracker, err := presence.New(&presence.Options{Clock: mock})
	if err != nil {
		log.Fatal(err)
	}
	defer tracker.Close()

	ann := presence.ID("ann")
	show := func(when string) {
		if _, err := tracker.Sweep(ctx); err != nil {
			log.Fatal(err)
		}
		view, err := tracker.GetAs(ctx, presence.AudienceTeam, ann)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("%s: %s\n", when, view.Status)
	}

	show("before")
	conn, err := tracker.Connect(ctx, ann, presence.ConnectOptions{Login: true})
	if err != nil {
		log.Fatal(err)
	}
	show("connected")
	if _, err := conn.Claim(ctx, presence.Claim{Status: "busy"}); err != nil {
		log.Fatal(err)
	}
	show("chosen")
	if err := conn.Close(); err != nil {
		log.Fatal(err)
	}
	show("page closed") // or reloaded: nobody sees the difference yet
	mock.Add(5 * time.Second)
	show("5s later")
	// Output:
	// before: unknown
	// connected: available
	// chosen: busy
	// page closed: busy
	// 5s later: offline
}
