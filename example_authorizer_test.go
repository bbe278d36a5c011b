package presence_test

import (
	"context"
	"fmt"
	"log"

	"github.com/benbjohnson/clock"

	"github.com/presence-go/presence"
)

// teams has the team of each id. It keeps supervisors to their own team, and
// leaves everything else to the rule by roles.
type teams map[string]string

func (t teams) Allow(ctx context.Context, q presence.Question) error {
	by := q.Actor
	if by.Role == presence.RoleSupervisor && (q.Action == presence.ActionClaimOther || q.Action == presence.ActionDecide) {
		if t[by.Subject.ID] == "" || t[by.Subject.ID] != t[q.Subject.ID] {
			return fmt.Errorf("%w: %s is not of the team of %s", presence.ErrNotAllowed, q.Subject, by.Subject.ID)
		}
	}
	return presence.RoleAuthorizer().Allow(ctx, q)
}

// The file of this example is complete: presencetest.RunAuthorizer checks one
// like it.
func ExampleAuthorizer() {
	ctx := context.Background()
	tracker, err := presence.New(&presence.Options{
		Clock:      clock.NewMock(),
		Authorizer: teams{"sue": "sales", "ann": "sales", "bob": "support"},
	})
	if err != nil {
		log.Fatal(err)
	}
	defer tracker.Close()
	sue := presence.Actor{Subject: presence.ID("sue"), Role: presence.RoleSupervisor}
	for _, id := range []string{"ann", "bob"} {
		if _, err := tracker.Connect(ctx, presence.ID(id), presence.ConnectOptions{Login: true}); err != nil {
			log.Fatal(err)
		}
		view, err := tracker.SetClaim(ctx, sue, presence.ID(id), presence.Claim{Status: "busy"})
		fmt.Println(id, view.Status, err)
	}
	// Output:
	// ann busy <nil>
	// bob  presence: not allowed actor "sue": the authorizer refuses: not allowed: bob is not of the team of sue
}
