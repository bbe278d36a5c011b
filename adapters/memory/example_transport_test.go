package memory_test

import (
	"context"
	"errors"
	"fmt"
	"log"

	"github.com/presence-go/presence"
	"github.com/presence-go/presence/adapters/memory"
)

// One goroutine streams the frames of a watch, another takes them out.
func ExampleTransport() {
	ctx := context.Background()
	tracker, err := presence.New(nil)
	if err != nil {
		log.Fatal(err)
	}
	ann := presence.ID("ann")
	conn, err := tracker.Connect(ctx, ann, presence.ConnectOptions{Login: true})
	if err != nil {
		log.Fatal(err)
	}
	watch, err := tracker.WatchSubject(ctx, presence.Agent(ann), ann, presence.WatchOptions{})
	if err != nil {
		log.Fatal(err)
	}
	transport, err := memory.NewTransport(nil)
	if err != nil {
		log.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- watch.Stream(ctx, transport) }()

	next := func() {
		frames, err := transport.Wait(ctx, 1)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(frames[0].Kind, frames[0].Seq)
	}
	next()
	if _, err := conn.Claim(ctx, presence.Claim{Status: "busy"}); err != nil {
		log.Fatal(err)
	}
	next()
	if err := tracker.Close(); err != nil {
		log.Fatal(err)
	}
	fmt.Println("closed:", errors.Is(<-ended, presence.ErrClosed))
	// Output:
	// snapshot 0
	// diff 1
	// closed: true
}
