package schedule_test

import (
	"context"
	"fmt"
	"log"
	"time"

	"github.com/benbjohnson/clock"

	"github.com/presence-go/presence"
	"github.com/presence-go/presence/schedule"
)

// Opening hours close a channel to visitors, also while agents are present. The
// team's view does not change.
func ExampleSchedule_OpenAt() {
	ctx := context.Background()
	plan, err := schedule.Parse("mon-fri 09:00-17:00; 2026-12-25 closed; zone Europe/Berlin")
	if err != nil {
		log.Fatal(err)
	}
	hours, err := schedule.New(plan, nil)
	if err != nil {
		log.Fatal(err)
	}
	mock := clock.NewMock()
	mock.Set(time.Date(2026, 12, 24, 16, 59, 0, 0, hours.Location()))
	tracker, err := presence.New(&presence.Options{Clock: mock})
	if err != nil {
		log.Fatal(err)
	}
	defer tracker.Close()
	ann, site := presence.ID("ann"), presence.ChannelID("site")
	if err := tracker.AddMember(ctx, site, ann); err != nil {
		log.Fatal(err)
	}
	if err := tracker.SetHours(ctx, site, hours); err != nil {
		log.Fatal(err)
	}
	conn, err := tracker.Connect(ctx, ann, presence.ConnectOptions{Login: true})
	if err != nil {
		log.Fatal(err)
	}

	show := func() {
		for _, audience := range []presence.Audience{presence.AudienceVisitor, presence.AudienceTeam} {
			_, group, err := tracker.ListAs(ctx, audience, site, nil)
			if err != nil {
				log.Fatal(err)
			}
			fmt.Printf("%s: %s", audience, group.Status)
			if group.Reason == presence.GroupClosed {
				fmt.Print(", closed until ", group.NextOpen.Time().In(hours.Location()).Format("Mon 15:04"))
			}
			fmt.Println()
		}
	}
	show()
	mock.Add(time.Minute)
	if err := conn.Heartbeat(); err != nil {
		log.Fatal(err)
	}
	show()
	// Output:
	// visitor: available
	// team: available
	// visitor: offline, closed until Mon 09:00
	// team: available, closed until Mon 09:00
}
