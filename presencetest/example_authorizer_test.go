package presencetest_test

import (
	"context"
	"fmt"

	"github.com/presence-go/presence"
	"github.com/presence-go/presence/presencetest"
)

// directory asks whether somebody leads somebody else, such as a database does,
// and lets nobody but them act for others.
type directory func(ctx context.Context, leader, member string) (leads bool, err error)

func (d directory) Allow(ctx context.Context, actor presence.Actor, action presence.Action, subject presence.Ref, detail string) error {
	err := presence.RoleAuthorizer().Allow(ctx, actor, action, subject, detail)
	if err != nil || action != presence.ActionClaimOther && action != presence.ActionDecide {
		return err
	}
	leads, err := d(ctx, actor.Subject.ID, subject.ID)
	switch {
	case err != nil:
		return fmt.Errorf("directory: %w", err) // it cannot tell: the call is refused as unavailable
	case !leads:
		return fmt.Errorf("directory: %w: %s does not lead %s", presence.ErrNotAllowed, actor.Subject.ID, subject)
	}
	return nil
}

func ExampleCheckAuthorizer() {
	leads := directory(func(ctx context.Context, leader, member string) (bool, error) {
		return leader == "sue" && member == "ann", ctx.Err()
	})
	sue := presence.Actor{Subject: presence.ID("sue"), Role: presence.RoleSupervisor}
	question := func(action presence.Action, subject, detail string) presencetest.Question {
		return presencetest.Question{Actor: sue, Action: action, Subject: presence.ID(subject), Detail: detail}
	}
	err := presencetest.CheckAuthorizer(context.Background(), func(context.Context) (presencetest.AuthorizerCase, error) {
		return presencetest.AuthorizerCase{
			Authorizer: leads,
			Allows:     []presencetest.Question{question(presence.ActionClaimOther, "ann", "busy"), question(presence.ActionSee, "bob", "")},
			Refuses:    []presencetest.Question{question(presence.ActionClaimOther, "bob", "busy"), question(presence.ActionPolicy, "", "mine")},
		}, nil
	})
	fmt.Println(err)
	// Output: <nil>
}
