package presence_test

import (
	"context"
	"errors"
	"testing"

	"github.com/benbjohnson/clock"
	"github.com/stretchr/testify/require"

	"github.com/presence-go/presence"
	"github.com/presence-go/presence/adapters/memory"
	"github.com/presence-go/presence/presencetest"
	"github.com/presence-go/presence/preset"
)

// readers are actors of every role, and ann herself.
func readers() []presence.Actor {
	return []presence.Actor{
		presence.Agent(ann), presence.Agent(bob), presence.Supervisor(presence.ID("kim")), presence.Admin(presence.ID("root")),
		presence.Visitor(presence.ID("vic")), presence.Visitor(ann), presence.System(presence.ID("pbx")),
	}
}

// crowd returns a tracker in which ann is available, bob is hidden, cyd has left
// and nothing is known of eve. All but eve are members of sales.
func crowd(t *testing.T, opts presence.Options) *presence.Tracker {
	t.Helper()
	policy := preset.TawkTo()
	opts.Clock, opts.Policy = clock.NewMock(), &policy
	tracker, err := presence.New(&opts)
	require.NoError(t, err)
	t.Cleanup(func() { _ = tracker.Close() })
	ctx := t.Context()
	for _, subject := range []presence.Ref{ann, bob, presence.ID("cyd")} {
		_, err := tracker.Connect(ctx, subject, presence.ConnectOptions{Login: true})
		require.NoError(t, err)
		require.NoError(t, tracker.AddMember(ctx, sales, subject))
	}
	_, err = tracker.SetClaim(ctx, presence.System(presence.ID("pbx")), bob, presence.Claim{Status: "invisible", Source: presence.SourceSystem})
	require.NoError(t, err)
	require.NoError(t, tracker.Logout(ctx, presence.ID("cyd")))
	return tracker
}

// TestReadsEqualTheirSisters: a read by an actor returns what the read by its
// audience returns.
func TestReadsEqualTheirSisters(t *testing.T) {
	tracker := crowd(t, presence.Options{})
	ctx := t.Context()
	subjects := []presence.Ref{ann, bob, presence.ID("cyd"), presence.ID("eve")}
	for _, by := range readers() {
		many, err := tracker.GetMany(ctx, by, subjects...)
		require.NoError(t, err)
		for i, subject := range subjects {
			a := by.Audience()
			if by.Subject == subject && by.Role != presence.RoleVisitor {
				a = presence.AudienceSelf
			}
			want, err := tracker.GetAs(ctx, a, subject)
			require.NoError(t, err)
			have, err := tracker.Get(ctx, by, subject)
			require.NoError(t, err)
			require.Equal(t, want, have, "%s looks at %s", by, subject)
			require.Equal(t, want, many[i], "%s looks at %s", by, subject)
			lines, err := tracker.ExplainAs(ctx, a, subject)
			require.NoError(t, err)
			explained, err := tracker.Explain(ctx, by, subject)
			if want.Status == presence.StatusUnknown {
				require.ErrorIs(t, err, presence.ErrUnknown)
				continue
			}
			require.NoError(t, err)
			require.Equal(t, lines, explained, "%s asks about %s", by, subject)
		}
		want, group, err := tracker.ListAs(ctx, by.Audience(), sales, nil)
		require.NoError(t, err)
		have, sum, err := tracker.List(ctx, by, sales)
		require.NoError(t, err)
		require.Equal(t, want, have, by.String())
		require.Equal(t, group, sum)
	}
	_, _, err := tracker.List(ctx, presence.Agent(presence.ID("eve")), sales)
	require.ErrorIs(t, err, presence.ErrNotAllowed)
	_, _, err = tracker.ListAs(ctx, presence.AudienceSelf, sales, nil)
	require.ErrorIs(t, err, presence.ErrInvalid)
}

// TestRefusedReadsRevealNothing: a refused read of a known, hidden or left subject
// equals that of an unknown one, and loads it all the same.
func TestRefusedReadsRevealNothing(t *testing.T) {
	ctx := t.Context()
	storage := newMemory(t)
	first := crowd(t, presence.Options{Storage: storage})
	require.NoError(t, first.Close())
	why := errors.New("database is down")
	for name, answer := range map[string]error{"refused": presence.ErrNotAllowed, "not known": why} {
		loads := &countingStorage{Storage: storage}
		tracker, err := presence.New(&presence.Options{
			Clock: clock.NewMock(), Storage: loads,
			Authorizer: presencetest.StaticAuthorizer(func(presence.Question) error { return answer }),
		})
		require.NoError(t, err)
		for _, by := range readers() {
			var views []presence.View
			var texts []string
			for _, id := range []string{"eve", "ann", "bob", "cyd"} {
				subject := presence.ID(id)
				v, err := tracker.Get(ctx, by, subject)
				_, why := tracker.Explain(ctx, by, subject)
				if answer == presence.ErrNotAllowed {
					require.NoError(t, err)
					require.ErrorIs(t, why, presence.ErrUnknown)
				} else {
					require.ErrorIs(t, err, presence.ErrUnavailable)
					require.ErrorIs(t, why, presence.ErrUnavailable)
				}
				require.Equal(t, subject, v.Subject)
				v.Subject = presence.Ref{}
				refusal, ok := errors.AsType[*presence.Error](why)
				require.True(t, ok)
				views, texts = append(views, v), append(texts, refusal.Text)
				require.Equal(t, views[0], v, "%s looks at %s", by, id)
				if answer == presence.ErrNotAllowed {
					require.Equal(t, texts[0], refusal.Text, "%s asks about %s", by, id)
					require.Equal(t, id, refusal.Given)
				}
			}
			many, err := tracker.GetMany(ctx, by, ann, bob, presence.ID("eve"))
			if answer != presence.ErrNotAllowed {
				require.ErrorIs(t, err, presence.ErrUnavailable)
				require.Nil(t, many)
				continue
			}
			for _, v := range many {
				require.Equal(t, presence.View{Subject: v.Subject, Status: presence.StatusUnknown}, v)
			}
			_, _, err = tracker.List(ctx, by, sales)
			require.ErrorIs(t, err, presence.ErrNotAllowed)
			_, err = tracker.Get(ctx, by, presence.Ref{Tenant: "acme", ID: "ann"})
			require.ErrorIs(t, err, presence.ErrNotAllowed)
		}
		if answer == presence.ErrNotAllowed {
			require.Positive(t, loads.loads, name)
			_, err := tracker.State(ctx, ann) // a refused read has loaded her
			require.NoError(t, err)
		} else {
			require.Zero(t, loads.loads, name)
		}
		require.NoError(t, tracker.Close())
	}
}

// TestGetManyLoadsOnce: one call of storage loads all that memory does not have.
func TestGetManyLoadsOnce(t *testing.T) {
	ctx := t.Context()
	storage := newMemory(t)
	require.NoError(t, crowd(t, presence.Options{Storage: storage}).Close())
	loads := &countingStorage{Storage: storage}
	tracker, err := presence.New(&presence.Options{Clock: clock.NewMock(), Storage: loads})
	require.NoError(t, err)
	defer tracker.Close()
	by := presence.Admin(presence.ID("root"))
	views, err := tracker.GetMany(ctx, by, presence.ID("cyd"), ann, presence.ID("eve"), ann, bob)
	require.NoError(t, err)
	require.Equal(t, 1, loads.loads)
	for i, id := range []string{"cyd", "ann", "eve", "ann", "bob"} {
		require.Equal(t, presence.ID(id), views[i].Subject)
		require.Equal(t, id == "eve", views[i].Status == presence.StatusUnknown, id)
	}
	_, err = tracker.GetMany(ctx, by, make([]presence.Ref, 501)...)
	require.ErrorIs(t, err, presence.ErrLimit)
}

func newMemory(t *testing.T) presence.Storage {
	t.Helper()
	storage, err := memory.NewStorage(nil)
	require.NoError(t, err)
	return storage
}

// countingStorage counts the calls of Load.
type countingStorage struct {
	presence.Storage
	loads int
}

func (s *countingStorage) Load(ctx context.Context, subjects ...presence.Ref) ([]presence.Record, error) {
	s.loads++
	return s.Storage.Load(ctx, subjects...)
}

// TestQuestions compares what the tracker asks with a table, for each call that
// asks.
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
