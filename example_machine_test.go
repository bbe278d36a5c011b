package presence_test

import (
	"fmt"
	"log"
	"time"

	"github.com/presence-go/presence"
)

// The rules by themselves, without a clock or a goroutine: for a simulation, a
// test, or a driver other than Tracker.
func ExampleMachine_Step() {
	machine, err := presence.Compile(presence.DefaultPolicy())
	if err != nil {
		log.Fatal(err)
	}
	start := presence.At(time.Date(2026, 1, 5, 9, 0, 0, 0, time.UTC))
	ann := presence.ID("ann")
	var state presence.State

	step := func(after time.Duration, event presence.Event) (next presence.Instant) {
		event.Subject = ann
		outputs, next, err := machine.Step(&state, &event, start.Add(after), nil)
		if err != nil {
			fmt.Printf("%s refused: %v\n", start.Add(after), err)
		}
		for _, o := range outputs {
			switch o.Kind {
			case presence.OutputPersist:
				fmt.Println("  store the record before telling anybody what follows")
			case presence.OutputTransition:
				fmt.Printf("%s %q -> %q, by %s\n", o.At, o.Prev, o.Presence.Status, o.Trigger)
			}
		}
		return next
	}
	step(0, presence.Event{Kind: presence.EventLogin, Conn: "tab-1", Age: presence.NoAge})
	next := step(time.Minute, presence.Event{
		Kind: presence.EventSetClaim, Actor: presence.Agent(ann), Conn: "tab-1",
		Claim: presence.Claim{Status: "busy", For: 30 * time.Second},
	})
	fmt.Println("next deadline", next)
	// A tick may come late: what was due happens at its own instant all the same.
	step(time.Hour, presence.Event{Kind: presence.EventTick})
	step(time.Hour, presence.Event{Kind: presence.EventHeartbeat, Conn: "tab-1", Age: presence.NoAge})
	// Output:
	// 2026-01-05T09:00:00Z "" -> "available", by login
	//   store the record before telling anybody what follows
	// 2026-01-05T09:01:00Z "available" -> "busy", by manual
	// next deadline 2026-01-05T09:01:30Z
	// 2026-01-05T09:01:30Z "busy" -> "available", by until
	// 2026-01-05T09:02:00Z "available" -> "offline", by lost
	// 2026-01-05T10:00:00Z refused: presence: unknown connection "tab-1": ann has none of that id; connect again
}
