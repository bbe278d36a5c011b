package presence_test

import (
	"context"
	"fmt"
	"log"
	"time"

	"github.com/benbjohnson/clock"

	"github.com/presence-go/presence"
)

// A claim with an end lies over the one without. Disconnection and idleness mask
// what was chosen and do not end it.
func ExampleConn_Claim() {
	ctx := context.Background()
	mock := clock.NewMock()
	tracker, err := presence.New(&presence.Options{Clock: mock})
	if err != nil {
		log.Fatal(err)
	}
	defer tracker.Close()
	ann := presence.ID("ann")
	show := func(what string) {
		view, err := tracker.GetAs(ctx, presence.AudienceSelf, ann)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("%s: %s", what, view.Status)
		if view.Masked != "" {
			fmt.Printf(", masking %s", view.Masked)
		}
		fmt.Println()
	}

	conn, err := tracker.Connect(ctx, ann, presence.ConnectOptions{})
	if err != nil {
		log.Fatal(err)
	}
	for _, claim := range []presence.Claim{
		{Status: "away"},
		{Status: "busy", For: 30 * time.Minute, Text: "on the phone"},
	} {
		if _, err := conn.Claim(ctx, claim); err != nil {
			log.Fatal(err)
		}
	}
	show("two choices")
	if err := conn.Logout(); err != nil {
		log.Fatal(err)
	}
	show("logged out")
	mock.Add(10 * time.Minute)
	if _, err = tracker.Connect(ctx, ann, presence.ConnectOptions{Login: true}); err != nil {
		log.Fatal(err)
	}
	show("back")
	mock.Add(20 * time.Minute)
	if _, err = tracker.Connect(ctx, ann, presence.ConnectOptions{Login: true}); err != nil {
		log.Fatal(err)
	}
	show("half an hour is over")
	// Output:
	// two choices: busy
	// logged out: offline, masking busy
	// back: busy
	// half an hour is over: away
}

// Who claims decides how much a claim weighs: under the default policy a call
// stands above what people choose, and of the choices of supervisors and of the
// person itself the later one counts.
func ExampleTracker_SetClaim() {
	ctx := context.Background()
	tracker, err := presence.New(&presence.Options{Clock: clock.NewMock()})
	if err != nil {
		log.Fatal(err)
	}
	defer tracker.Close()
	ann := presence.ID("ann")
	if _, err := tracker.Connect(ctx, ann, presence.ConnectOptions{Login: true}); err != nil {
		log.Fatal(err)
	}
	boss := presence.Actor{Subject: presence.ID("boss"), Role: presence.RoleSupervisor}
	telephone := presence.Actor{Subject: presence.ID("telephone"), Role: presence.RoleSystem}

	claim := func(actor presence.Actor, claim presence.Claim) {
		view, err := tracker.SetClaim(ctx, actor, ann, claim)
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Printf("%s claims %s: ann is %s\n", actor.Subject.ID, claim.Status, view.Status)
	}
	claim(telephone, presence.Claim{Status: "busy", Source: presence.SourceCall})
	claim(presence.Agent(ann), presence.Claim{Status: "away"})
	if _, err := tracker.EndClaim(ctx, telephone, ann, presence.Claim{Source: presence.SourceCall}); err != nil {
		log.Fatal(err)
	}
	claim(boss, presence.Claim{Status: "busy"})
	claim(presence.Agent(presence.ID("bob")), presence.Claim{Status: "away"})
	// Output:
	// telephone claims busy: ann is busy
	// ann claims away: ann is busy
	// boss claims busy: ann is busy
	// presence: not allowed role "agent": agent bob may not claim-other subject ann status away; allowed: supervisor, admin, system
}
