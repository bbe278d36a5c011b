package presence_test

import (
	"context"
	"fmt"
	"log"
	"time"

	"github.com/benbjohnson/clock"

	"github.com/presence-go/presence"
	"github.com/presence-go/presence/preset"
)

// Who is granted an inbox is a member of the channels that lead to it. What a list
// shows depends on who looks: to visitors, bob who hides is one who has left.
func ExampleTracker_ListAs() {
	ctx := context.Background()
	mock := clock.NewMock()
	policy := preset.TawkTo() // its status invisible hides from visitors
	tracker, err := presence.New(&presence.Options{Clock: mock, Policy: &policy})
	if err != nil {
		log.Fatal(err)
	}
	defer tracker.Close()

	inbox, widget := presence.ChannelID("sales-inbox"), presence.ChannelID("sales")
	if err := tracker.Link(ctx, widget, inbox); err != nil {
		log.Fatal(err)
	}
	conns := make(map[string]*presence.Conn)
	for _, id := range []string{"ann", "bob", "cyd"} {
		if err := tracker.AddMember(ctx, inbox, presence.ID(id)); err != nil {
			log.Fatal(err)
		}
		if conns[id], err = tracker.Connect(ctx, presence.ID(id), presence.ConnectOptions{Login: true}); err != nil {
			log.Fatal(err)
		}
	}
	mock.Add(time.Minute)
	if _, err := conns["bob"].Claim(ctx, presence.Claim{Status: "invisible"}); err != nil {
		log.Fatal(err)
	}
	if err := conns["cyd"].Logout(); err != nil {
		log.Fatal(err)
	}

	for _, audience := range []presence.Audience{presence.AudienceTeam, presence.AudienceVisitor} {
		views, group, err := tracker.ListAs(ctx, audience, widget, nil)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("%s: %s, %d present\n", audience, group.Status, group.Count)
		for _, v := range views {
			fmt.Printf("  %s %s, last seen %q\n", v.Subject.ID, v.Status, v.LastSeen)
		}
	}
	// Output:
	// team: available, 2 present
	//   ann online, last seen ""
	//   bob invisible, last seen ""
	//   cyd offline, last seen ""
	// visitor: available, 1 present
	//   ann online, last seen ""
	//   bob offline, last seen "1970-01-01T00:01:00Z"
	//   cyd offline, last seen "1970-01-01T00:01:00Z"
}
