package presence_test

import (
	"context"
	"fmt"
	"log"
	"time"

	"github.com/benbjohnson/clock"

	"github.com/presence-go/presence"
)

// Ann, who is busy, closed her page half a minute later. Why is she offline?
func ExampleTracker_ExplainAs() {
	ctx := context.Background()
	mock := clock.NewMock()
	mock.Set(time.Date(2026, 1, 5, 9, 0, 0, 0, time.UTC))
	tracker, err := presence.New(&presence.Options{Clock: mock})
	if err != nil {
		log.Fatal(err)
	}
	defer tracker.Close()
	ann := presence.ID("ann")
	conn, err := tracker.Connect(ctx, ann, presence.ConnectOptions{Login: true})
	if err != nil {
		log.Fatal(err)
	}
	if _, err := conn.Claim(ctx, presence.Claim{Status: "busy", For: 30 * time.Minute}); err != nil {
		log.Fatal(err)
	}
	mock.Add(30 * time.Second)
	if err := conn.Close(); err != nil {
		log.Fatal(err)
	}
	mock.Add(5 * time.Second)

	why, err := tracker.ExplainAs(ctx, presence.AudienceAdmin, ann)
	if err != nil {
		log.Fatal(err)
	}
	for _, line := range why {
		fmt.Println(line)
	}
	// Output:
	// offline: not connected, the last connection was closed
	// since 2026-01-05T09:00:30Z
	// masked: busy
	// set at 2026-01-05T09:00:00Z
	// last seen 2026-01-05T09:00:30Z
	// 0 of 0 connections live
	// claim busy (manual) set by ann at 2026-01-05T09:00:00Z, until 2026-01-05T09:30:00Z
	// next deadline 2026-01-05T09:30:00Z
}
