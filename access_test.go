package presence_test

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
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

// The source of a claim follows from who sets it, and on whom. Only a system names it.
func TestSourcesOfActors(t *testing.T) {
	t.Parallel()
	const (
		others  = "; allowed: self, supervisor, admin, system"
		sources = "; allowed: system, call, supervisor, manual, calendar, app, login-default"
	)
	host := presence.System(presence.ID("host"))
	for _, tt := range []struct {
		actor presence.Actor
		named presence.Source
		want  string // the source, or the refusal
	}{
		{presence.Agent(ann), "", "manual"},
		{presence.Actor{Subject: ann}, "", "manual"},
		{presence.Agent(ann), "manual", "manual"},
		{presence.Agent(ann), "call", `not allowed source "call": agent ann claims as manual; only a system names a source; allowed: manual`},
		{presence.Supervisor(ann), "", "manual"},
		{presence.Admin(ann), "", "manual"},
		{presence.Visitor(ann), "", `not allowed role "visitor": visitor ann may not change the status of ann` + others},
		{presence.Agent(bob), "", `not allowed role "agent": agent bob may not change the status of ann` + others},
		{presence.Actor{Subject: bob}, "", `not allowed role "agent": agent bob may not change the status of ann` + others},
		{visitor, "", `not allowed role "visitor": visitor v1 may not change the status of ann` + others},
		{boss, "", "supervisor"},
		{boss, "supervisor", "supervisor"},
		{boss, "manual", `not allowed source "manual": supervisor boss claims as supervisor; only a system names a source; allowed: supervisor`},
		{admin, "", "supervisor"},
		{host, "", "app"},
		{host, "call", "call"},
		{host, "moon", `unknown source "moon": the policy does not rank it` + sources},
		{presence.System(ann), "", "app"},
		{presence.System(presence.Ref{}), "", "app"},
		{noRole, "", `invalid role "king": no such role; allowed: agent, supervisor, admin, visitor, system`},
		{presence.Supervisor(acme), "", "not allowed tenant: acme/ann acts for another tenant than that of ann"},
		{presence.System(acme), "", "not allowed tenant: acme/ann acts for another tenant than that of ann"},
		{presence.Supervisor(presence.ID("a\x00")), "", `invalid actor "a\x00": the id has a control character`},
	} {
		x := newSubject(t, presence.DefaultPolicy())
		_, err := x.try(1, presence.Event{Kind: presence.EventSetClaim, Actor: tt.actor, Claim: presence.Claim{Status: "busy", Source: tt.named}})
		if err != nil {
			require.EqualError(t, err, "presence: "+tt.want)
			require.Empty(t, x.s.Claims)
			continue
		}
		require.Equal(t, tt.want, string(x.s.Claims[0].Source), "%s as %q", tt.actor, tt.named)
	}
}

// The default authorizer lets everybody see, all but visitors act for themselves, and
// the others act by their role.
func TestRolesMayDoWhatTheyAreFor(t *testing.T) {
	t.Parallel()
	all := []string{"agent", "supervisor", "admin", "visitor", "system"}
	for action, roles := range map[presence.Action]string{
		presence.ActionSee: "agent supervisor admin visitor system", presence.ActionJoin: "agent supervisor admin system",
		presence.ActionClaim: "agent supervisor admin system", presence.ActionClaimOther: "supervisor admin system",
		presence.ActionDecide: "supervisor admin system", presence.ActionDefine: "admin system", presence.ActionPolicy: "admin system",
	} {
		may := strings.Fields(roles)
		for _, role := range append(all, "") {
			q := presence.Question{Actor: presence.Actor{Subject: bob, Role: presence.Role(role)}, Action: action, Subject: ann}
			err := presence.RoleAuthorizer().Allow(t.Context(), q)
			if role = cmp.Or(role, "agent"); slices.Contains(may, role) {
				require.NoError(t, err, "%s %s", role, action)
				continue
			}
			require.EqualError(t, err, fmt.Sprintf("presence: not allowed role %q: %s bob may not %s subject ann; allowed: %s", role, role, action, strings.Join(may, ", ")))
		}
	}
}
