package presence_test

import (
	"context"
	"fmt"
	"log"

	"github.com/benbjohnson/clock"

	"github.com/presence-go/presence"
)

// A watch begins with a snapshot and goes on with diffs. A watcher that falls
// behind is sent a snapshot in place of what it missed: handle both kinds and
// there is nothing else to do.
func ExampleTracker_Watch() {
	ctx := context.Background()
	tracker, err := presence.New(&presence.Options{Clock: clock.NewMock(), WatchBuffer: 2})
	if err != nil {
		log.Fatal(err)
	}
	defer tracker.Close()
	ann, team := presence.ID("ann"), presence.ChannelID("team")
	if err := tracker.AddMember(ctx, team, ann); err != nil {
		log.Fatal(err)
	}
	board := presence.Actor{Subject: presence.ID("board"), Role: presence.RoleSupervisor}
	watch, err := tracker.Watch(ctx, board, team, presence.WatchOptions{})
	if err != nil {
		log.Fatal(err)
	}
	defer watch.Close()

	next := func() {
		frame, err := watch.Next(ctx)
		if err != nil {
			log.Fatal(err)
		}
		switch frame.Kind {
		case presence.FrameSnapshot: // forget everything before
			fmt.Printf("%d: the list, lagged=%t, %d present\n", frame.Seq, frame.Lagged, frame.Group.Count)
			for _, view := range frame.Members {
				fmt.Printf("   %s is %s\n", view.Subject.ID, view.Status)
			}
		case presence.FrameDiff:
			for _, change := range frame.Changes {
				fmt.Printf("%d: %s %s: %s\n", frame.Seq, change.Subject, change.Op, change.View.Status)
			}
		case presence.FrameRemoved: // access has ended
			fmt.Println("over")
		}
	}
	next()
	conn, err := tracker.Connect(ctx, ann, presence.ConnectOptions{Login: true})
	if err != nil {
		log.Fatal(err)
	}
	next()
	for _, status := range []string{"busy", "away", "busy", "away", "busy"} { // more than fit
		if _, err := conn.Claim(ctx, presence.Claim{Status: status}); err != nil {
			log.Fatal(err)
		}
	}
	next()
	// Output:
	// 0: the list, lagged=false, 0 present
	//    ann is offline
	// 1: ann joined: available
	// 6: the list, lagged=true, 1 present
	//    ann is busy
}

// A watcher that comes back says which frame it knows and is sent what it missed,
// as long as the channel remembers that: while anybody watches it, and for
// Options.ReplayFrames frames.
func ExampleWatchOptions() {
	ctx := context.Background()
	tracker, err := presence.New(&presence.Options{Clock: clock.NewMock()})
	if err != nil {
		log.Fatal(err)
	}
	defer tracker.Close()
	ann, team := presence.ID("ann"), presence.ChannelID("team")
	if err := tracker.AddMember(ctx, team, ann); err != nil {
		log.Fatal(err)
	}
	open := func(opts presence.WatchOptions) (*presence.Watch, *presence.Frame) {
		board := presence.Actor{Subject: presence.ID("board"), Role: presence.RoleSupervisor}
		watch, err := tracker.Watch(ctx, board, team, opts)
		if err != nil {
			log.Fatal(err)
		}
		frame, err := watch.Poll()
		if err != nil {
			log.Fatal(err)
		}
		return watch, frame
	}
	stays, _ := open(presence.WatchOptions{})
	defer stays.Close()
	leaves, known := open(presence.WatchOptions{})
	leaves.Close()

	if _, err := tracker.Connect(ctx, ann, presence.ConnectOptions{Login: true}); err != nil {
		log.Fatal(err)
	}
	back, frame := open(presence.WatchOptions{Epoch: known.Epoch, Seq: known.Seq})
	defer back.Close()
	fmt.Println(frame.Kind, frame.Seq, frame.Changes[0].Subject, frame.Changes[0].Op)
	// Output: diff 1 ann joined
}
