package presencetest_test

import (
	"context"
	"fmt"

	"github.com/presence-go/presence"
	"github.com/presence-go/presence/presencetest"
)

// directory reports whether one subject leads another, as a database would. A
// subject acts for itself, and a leader for its members.
type directory func(ctx context.Context, leader, member string) (leads bool, err error)

func (d directory) Allow(ctx context.Context, q presence.Question) error {
	err := presence.RoleAuthorizer().Allow(ctx, q)
	if err != nil || q.Action != presence.ActionClaimOther && q.Action != presence.ActionDecide {
		return err
	}
	leads, err := d(ctx, q.Actor.Subject.ID, q.Subject.ID)
	switch {
	case err != nil:
		return fmt.Errorf("directory: %w", err) // without an answer the call is refused as unavailable
	case !leads:
		return fmt.Errorf("directory: %w: %s does not lead %s", presence.ErrNotAllowed, q.Actor.Subject.ID, q.Subject)
	}
	return nil
}

func ExampleCheckAuthorizer() {
	leads := directory(func(ctx context.Context, leader, member string) (bool, error) {
		return leader == "sue" && member == "ann", ctx.Err()
	})
	sue := presence.Actor{Subject: presence.ID("sue"), Role: presence.RoleSupervisor}
	err := presencetest.CheckAuthorizer(context.Background(), func(context.Context) (presencetest.AuthorizerCase, error) {
		return presencetest.AuthorizerCase{
			Authorizer: leads,
			Allows: []presence.Question{
				{Actor: sue, Action: presence.ActionClaimOther, Subject: presence.ID("ann"), Status: "busy"},
				{Actor: sue, Action: presence.ActionSee, Subject: presence.ID("bob")},
			},
			Refuses: []presence.Question{
				{Actor: sue, Action: presence.ActionClaimOther, Subject: presence.ID("bob"), Status: "busy"},
				{Actor: sue, Action: presence.ActionPolicy, Policy: "mine"},
			},
		}, nil
	})
	fmt.Println(err)
	// Output: <nil>
}
