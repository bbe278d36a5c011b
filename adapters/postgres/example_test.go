package postgres_test

import (
	"context"
	"log"
	"time"

	"github.com/presence-go/presence"
	"github.com/presence-go/presence/adapters/postgres"
)

// One of several processes that share a database and show at once what people
// chose in any of them. What each knows of connections stays its own.
func ExampleOpen() {
	ctx := context.Background()
	storage, err := postgres.Open(ctx, "postgres://presence@db.example.com/presence", &postgres.Options{
		Announce:  true, // in all of them
		Retention: 90 * 24 * time.Hour,
	})
	if err != nil {
		log.Fatal(err)
	}
	defer storage.Close()
	tracker, err := presence.New(&presence.Options{Storage: storage})
	if err != nil {
		log.Fatal(err)
	}
	defer tracker.Close() // before the storage
	go tracker.Run(ctx)
	go storage.Follow(ctx, tracker)
	// …
}
