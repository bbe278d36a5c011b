package presence_test

import (
	"context"
	"fmt"
	"log"
	"time"

	"github.com/benbjohnson/clock"

	"github.com/presence-go/presence"
	"github.com/presence-go/presence/adapters/memory"
)

// What was chosen, and what happened, outlives the tracker. Who was connected when
// a process ended is given the start-up grace of 30s to come back before anybody
// sees them leave.
func ExampleStorage() {
	ctx := context.Background()
	mock := clock.NewMock()
	mock.Set(time.Date(2026, 1, 5, 9, 0, 0, 0, time.UTC))
	storage, err := memory.NewStorage(nil) // in its place adapters/sqlite or adapters/postgres
	if err != nil {
		log.Fatal(err)
	}
	ann := presence.ID("ann")
	open := func() *presence.Tracker {
		tracker, err := presence.New(&presence.Options{Clock: mock, Storage: storage})
		if err != nil {
			log.Fatal(err)
		}
		return tracker
	}
	show := func(tracker *presence.Tracker, what string) {
		view, err := tracker.GetAs(ctx, presence.AudienceTeam, ann)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("%s: %s\n", what, view.Status)
	}

	before := open()
	conn, err := before.Connect(ctx, ann, presence.ConnectOptions{ID: "tab-1", Login: true})
	if err != nil {
		log.Fatal(err)
	}
	if _, err := conn.Claim(ctx, presence.Claim{Status: "busy"}); err != nil { // returns once it is stored
		log.Fatal(err)
	}
	if err := before.Close(); err != nil { // writes what was not written at once
		log.Fatal(err)
	}

	mock.Add(10 * time.Second)
	after := open()
	defer after.Close()
	show(after, "restarted")
	mock.Add(30 * time.Second)
	show(after, "nobody came back")
	if _, err := after.Connect(ctx, ann, presence.ConnectOptions{ID: "tab-1"}); err != nil {
		log.Fatal(err)
	}
	show(after, "back")

	for row, err := range after.Journal(ctx, presence.JournalQuery{Subject: ann}) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("%s %s %q -> %q\n", row.At, row.Kind, row.From, row.To)
	}
	// Output:
	// restarted: busy
	// nobody came back: offline
	// back: busy
	// 2026-01-05T09:00:00Z transition "" -> "available"
	// 2026-01-05T09:00:00Z claim-set "" -> "busy"
	// 2026-01-05T09:00:00Z transition "available" -> "busy"
	// 2026-01-05T09:00:10Z transition "busy" -> "offline"
	// 2026-01-05T09:00:40Z transition "offline" -> "busy"
}
