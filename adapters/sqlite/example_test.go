package sqlite_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"time"

	"github.com/presence-go/presence"
	"github.com/presence-go/presence/adapters/sqlite"
)

// What ann chose is in the file when Claim returns, and there for the next
// process.
func ExampleOpen() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "presence")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	for range 2 { // the same program, started twice
		storage, err := sqlite.Open(ctx, filepath.Join(dir, "presence.db"), &sqlite.Options{Retention: 90 * 24 * time.Hour})
		if err != nil {
			log.Fatal(err)
		}
		tracker, err := presence.New(&presence.Options{Storage: storage})
		if err != nil {
			log.Fatal(err)
		}
		ann := presence.ID("ann")
		conn, err := tracker.Connect(ctx, ann, presence.ConnectOptions{ID: "tab-1"})
		if err != nil {
			log.Fatal(err)
		}
		view, err := tracker.GetAs(ctx, presence.AudienceTeam, ann)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(view.Status)
		if _, err := conn.Claim(ctx, presence.Claim{Status: "busy"}); err != nil {
			log.Fatal(err)
		}
		if err := tracker.Close(); err != nil { // before the storage: it writes what is left
			log.Fatal(err)
		}
		if err := storage.Close(); err != nil {
			log.Fatal(err)
		}
	}
	// Output:
	// available
	// busy
}
