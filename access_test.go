package presence_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/presence-go/presence"
	"github.com/presence-go/presence/presencetest"
)

// H9: the questions of the tracker equal a table, for each call that asks.
func TestQuestions(t *testing.T) {
	var asked []presence.Question
	tracker := crowd(t, presence.Options{Authorizer: presencetest.StaticAuthorizer(func(q presence.Question) error {
		asked = append(asked, q)
		return presence.RoleAuthorizer().Allow(t.Context(), q)
	})})
	ctx := t.Context()
	self, kim, root := presence.Agent(ann), presence.Supervisor(presence.ID("kim")), presence.Admin(presence.ID("root"))
	conn, err := tracker.Connect(ctx, ann, presence.ConnectOptions{})
	require.NoError(t, err)
	policy := presence.DefaultPolicy()
	policy.Name = "mine"
	for name, test := range map[string]struct {
		call func()
		want []presence.Question
	}{
		"Get":     {func() { _, _ = tracker.Get(ctx, kim, bob) }, []presence.Question{{Actor: kim, Action: presence.ActionSee, Subject: bob}}},
		"Explain": {func() { _, _ = tracker.Explain(ctx, kim, bob) }, []presence.Question{{Actor: kim, Action: presence.ActionSee, Subject: bob}}},
		"GetMany": {func() { _, _ = tracker.GetMany(ctx, kim, ann, bob) }, []presence.Question{
			{Actor: kim, Action: presence.ActionSee, Subject: ann}, {Actor: kim, Action: presence.ActionSee, Subject: bob},
		}},
		"List":         {func() { _, _, _ = tracker.List(ctx, kim, sales) }, []presence.Question{{Actor: kim, Action: presence.ActionSee, Channel: sales}}},
		"Watch":        {func() { _, _ = tracker.Watch(ctx, kim, sales, presence.WatchOptions{}) }, []presence.Question{{Actor: kim, Action: presence.ActionSee, Channel: sales}}},
		"WatchSubject": {func() { _, _ = tracker.WatchSubject(ctx, kim, bob, presence.WatchOptions{}) }, []presence.Question{{Actor: kim, Action: presence.ActionSee, Subject: bob}}},
		"Join":         {func() { _ = tracker.Join(ctx, self, sales) }, []presence.Question{{Actor: self, Action: presence.ActionJoin, Channel: sales}}},
		"SetClaim":     {func() { _, _ = tracker.SetClaim(ctx, self, ann, presence.Claim{Status: "busy"}) }, []presence.Question{{Actor: self, Action: presence.ActionClaim, Subject: ann, Status: "busy"}}},
		"EndClaim":     {func() { _, _ = tracker.EndClaim(ctx, self, ann, presence.Claim{}) }, []presence.Question{{Actor: self, Action: presence.ActionClaim, Subject: ann}}},
		"SetClaim for another": {func() { _, _ = tracker.SetClaim(ctx, kim, ann, presence.Claim{Status: "busy"}) }, []presence.Question{
			{Actor: kim, Action: presence.ActionClaimOther, Subject: ann, Status: "busy"},
		}},
		"EndClaim of another": {func() { _, _ = tracker.EndClaim(ctx, kim, ann, presence.Claim{}) }, []presence.Question{{Actor: kim, Action: presence.ActionClaimOther, Subject: ann}}},
		"Request":             {func() { _, _ = tracker.Request(ctx, self, ann, presence.Claim{Status: "busy"}) }, []presence.Question{{Actor: self, Action: presence.ActionClaim, Subject: ann, Status: "busy"}}},
		"Withdraw":            {func() { _, _ = tracker.Withdraw(ctx, self, ann, "r1") }, []presence.Question{{Actor: self, Action: presence.ActionClaim, Subject: ann}}},
		"DecideRequest":       {func() { _, _ = tracker.DecideRequest(ctx, kim, ann, "r1", true) }, []presence.Question{{Actor: kim, Action: presence.ActionDecide, Subject: ann, Request: "r1"}}},
		"Conn.Claim":          {func() { _, _ = conn.Claim(ctx, presence.Claim{Status: "busy"}) }, []presence.Question{{Actor: self, Action: presence.ActionClaim, Subject: ann, Status: "busy"}}},
		"Conn.EndClaim":       {func() { _, _ = conn.EndClaim(ctx, "") }, []presence.Question{{Actor: self, Action: presence.ActionClaim, Subject: ann}}},
		"AddStatus":           {func() { _ = tracker.AddStatus(ctx, root, presence.Status{ID: "lunch", Class: presence.ClassAway}) }, []presence.Question{{Actor: root, Action: presence.ActionDefine, Status: "lunch"}}},
		"RemoveStatus": {func() {
			_ = tracker.AddStatus(ctx, root, presence.Status{ID: "snack", Class: presence.ClassAway})
			asked = nil
			_ = tracker.RemoveStatus(ctx, root, "snack", "")
		}, []presence.Question{{Actor: root, Action: presence.ActionDefine, Status: "snack"}}},
		"SetPolicy": {func() { _ = tracker.SetPolicy(ctx, root, policy) }, []presence.Question{{Actor: root, Action: presence.ActionPolicy, Policy: "mine"}}},
		"another tenant": {func() {
			acme := presence.Ref{Tenant: "acme", ID: "ann"}
			_, _ = tracker.Get(ctx, kim, acme)
			_, _, _ = tracker.List(ctx, kim, presence.Channel(acme))
			_ = tracker.Join(ctx, kim, presence.Channel(acme))
			_, _ = tracker.SetClaim(ctx, kim, acme, presence.Claim{Status: "busy"})
			_, _ = tracker.DecideRequest(ctx, kim, acme, "", true)
		}, nil},
		"the host": {func() {
			_, _ = tracker.GetAs(ctx, presence.AudienceTeam, ann)
			_, _, _ = tracker.ListAs(ctx, presence.AudienceTeam, sales, nil)
			_, _ = tracker.ExplainAs(ctx, presence.AudienceTeam, ann)
			_, _ = tracker.MayReveal(ctx, presence.AudienceTeam, ann)
		}, nil},
	} {
		asked = nil
		test.call()
		require.Equal(t, test.want, asked, name)
	}
}

// A question prints as a sentence that names all it is about.
func TestQuestionsPrint(t *testing.T) {
	t.Parallel()
	for want, q := range map[string]presence.Question{
		"may visitor v1 see channel sales?":                        {Actor: visitor, Action: presence.ActionSee, Channel: sales},
		"may supervisor boss claim-other subject ann status busy?": {Actor: boss, Action: presence.ActionClaimOther, Subject: ann, Status: "busy"},
		"may admin root policy policy strict?":                     {Actor: admin, Action: presence.ActionPolicy, Policy: "strict"},
		"may supervisor boss decide subject ann request r1?":       {Actor: boss, Action: presence.ActionDecide, Subject: ann, Request: "r1"},
	} {
		require.Equal(t, want, q.String())
	}
}
