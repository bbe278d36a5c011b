package presencetest_test

import (
	"context"
	"errors"
	"fmt"
	"log"

	"github.com/benbjohnson/clock"

	"github.com/presence-go/presence"
	"github.com/presence-go/presence/adapters/memory"
	"github.com/presence-go/presence/presencetest"
)

// A violation names the broken rule. This authorizer refuses every question,
// also those that it must allow.
func ExampleViolation() {
	refuses := presencetest.StaticAuthorizer(func(presence.Question) error {
		return fmt.Errorf("%w today", presence.ErrNotAllowed)
	})
	ann := presence.ID("ann")
	err := presencetest.CheckAuthorizer(context.Background(), func(context.Context) (presencetest.AuthorizerCase, error) {
		return presencetest.AuthorizerCase{
			Authorizer: refuses,
			Allows:     []presence.Question{{Actor: presence.Agent(ann), Action: presence.ActionClaim, Subject: ann, Status: "busy"}},
			Refuses:    []presence.Question{{Actor: presence.Agent(ann), Action: presence.ActionPolicy}},
		}, nil
	})
	if violation, ok := errors.AsType[*presencetest.Violation](err); ok {
		fmt.Printf("%s: %s\n%s\n", violation.Suite, violation.Rule, violation.Text)
	}
	// Output:
	// authorizer: allows
	// Allow returns nil where the actor may.
}

// A test can put storage out of order to see how an application behaves
// meanwhile.
func ExampleFaultyStorage() {
	ctx := context.Background()
	store, err := memory.NewStorage(nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	storage := presencetest.NewFaultyStorage(store)
	tracker, err := presence.New(&presence.Options{Clock: clock.NewMock(), Storage: storage})
	if err != nil {
		log.Fatal(err)
	}
	defer tracker.Close()
	conn, err := tracker.Connect(ctx, presence.ID("ann"), presence.ConnectOptions{ID: "tab-1"})
	if err != nil {
		log.Fatal(err)
	}

	storage.Down()
	_, err = conn.Claim(ctx, presence.Claim{Status: "busy"})
	fmt.Println("refused as unavailable:", errors.Is(err, presence.ErrUnavailable))
	fmt.Println("heartbeats go on:", conn.Heartbeat() == nil)
	fmt.Println("known to be down:", tracker.Stats().StorageErr != nil)
	storage.Up()
	view, err := conn.Claim(ctx, presence.Claim{Status: "busy"})
	fmt.Println("then:", view.Status, err, tracker.Stats().StorageErr)
	// Output:
	// refused as unavailable: true
	// heartbeats go on: true
	// known to be down: true
	// then: busy <nil> <nil>
}
