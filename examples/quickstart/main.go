// Quickstart is presence in one process: ann connects, is busy for two seconds
// and leaves. Bob, her teammate, watches.
package main

import (
	"context"
	"fmt"
	"log"
	"time"

	"github.com/presence-go/presence"
)

func main() {
	ctx := context.Background()
	tracker, err := presence.New(nil)
	check(err)
	defer tracker.Close()
	go tracker.Run(ctx)

	ann, bob, team := presence.ID("ann"), presence.ID("bob"), presence.ChannelID("team")
	check(tracker.AddMember(ctx, team, ann))
	check(tracker.AddMember(ctx, team, bob))
	watch, err := tracker.Watch(ctx, presence.Agent(bob), team, presence.WatchOptions{})
	check(err)
	next := func() {
		frame, err := watch.Next(ctx)
		check(err)
		for _, change := range frame.Changes {
			fmt.Println(change.Subject, change.Op+":", change.View.Label)
		}
	}
	next() // the first frame is the current team: no member is present
	conn, err := tracker.Connect(ctx, ann, presence.ConnectOptions{Login: true})
	check(err)
	next()
	_, err = conn.Claim(ctx, presence.Claim{Status: "busy", For: 2 * time.Second})
	check(err)
	next()
	next() // two seconds later
	check(conn.Logout())
	next()
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
