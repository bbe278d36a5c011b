package routing_test

import (
	"context"
	"fmt"
	"log"

	"github.com/benbjohnson/clock"

	"github.com/presence-go/presence"
	"github.com/presence-go/presence/routing"
)

// The queue follows a tracker. It gives work to agents with room for it, and
// work that no agent can take waits. A program has the real clock, and a
// goroutine in queue.Run in place of the calls of Step.
func ExampleQueue() {
	ctx := context.Background()
	mock := clock.NewMock()
	policy := presence.DefaultPolicy()
	policy.Work.Capacity = 1

	tracker, err := presence.New(&presence.Options{Clock: mock, Policy: &policy})
	if err != nil {
		log.Fatal(err)
	}
	defer tracker.Close()
	queue, err := routing.New(tracker, nil)
	if err != nil {
		log.Fatal(err)
	}

	sales := presence.ChannelID("sales")
	conns := make(map[string]*presence.Conn)
	for _, id := range []string{"ann", "bob"} {
		if err := tracker.AddMember(ctx, sales, presence.ID(id)); err != nil {
			log.Fatal(err)
		}
		if conns[id], err = tracker.Connect(ctx, presence.ID(id), presence.ConnectOptions{Login: true}); err != nil {
			log.Fatal(err)
		}
	}
	if _, err := conns["bob"].Claim(ctx, presence.Claim{Status: "busy"}); err != nil {
		log.Fatal(err)
	}

	for _, id := range []string{"chat-1", "chat-2"} {
		work, err := queue.Add(ctx, routing.Work{ID: id, Channel: sales, Client: "client of " + id})
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("%s: %s, agent %q\n", work.ID, work.Place, work.Agent)
	}
	if _, err := conns["bob"].Claim(ctx, presence.Claim{Status: "available"}); err != nil {
		log.Fatal(err)
	}
	if err := queue.Step(ctx); err != nil {
		log.Fatal(err)
	}
	work, _ := queue.Get("chat-2")
	fmt.Printf("%s: %s, agent %q\n", work.ID, work.Place, work.Agent)
	if work, err = queue.Finish(ctx, "chat-1"); err != nil {
		log.Fatal(err)
	}
	fmt.Println(work.ID, work.Place)
	// Output:
	// chat-1: given, agent "ann"
	// chat-2: queued, agent ""
	// chat-2: given, agent "bob"
	// chat-1 done
}
