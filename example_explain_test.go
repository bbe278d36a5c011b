package presence_test

import (
	"context"
	"fmt"
	"log"
	"time"

	"github.com/benbjohnson/clock"

	"github.com/presence-go/presence"
)

// Support is asked why ann was not given any chats.
func ExampleTracker_Explain() {
	ctx := context.Background()
	mock := clock.NewMock()
	mock.Set(time.Date(2026, 1, 5, 9, 0, 0, 0, time.UTC))
	tracker, err := presence.New(&presence.Options{Clock: mock})
	if err != nil {
		log.Fatal(err)
	}
	defer tracker.Close()
	ann := presence.ID("ann")
	conn, err := tracker.Connect(ctx, ann, presence.ConnectOptions{ID: "tab-1", Login: true})
	if err != nil {
		log.Fatal(err)
	}
	for range 12 { // five minutes in which the page answers and nobody touches it
		mock.Add(25 * time.Second)
		if err := conn.Heartbeat(); err != nil {
			log.Fatal(err)
		}
	}
	why, err := tracker.Explain(ctx, ann, presence.AudienceAdmin)
	if err != nil {
		log.Fatal(err)
	}
	for _, line := range why {
		fmt.Println(line)
	}
	// Output:
	// away: idle, no input for too long
	// since 2026-01-05T09:05:00Z
	// masked: available
	// 1 of 1 connections live
	// connection tab-1 heard at 2026-01-05T09:05:00Z, last input at 2026-01-05T09:00:00Z
	// next deadline 2026-01-05T09:06:00Z
}
