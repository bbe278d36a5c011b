package presencetest_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/presence-go/presence"
	"github.com/presence-go/presence/presencetest"
)

// roles is a case of the authorizer that a tracker uses by default.
func roles(a presence.Authorizer) presencetest.AuthorizerCase {
	ann, bob := presence.Ref{Tenant: "acme", ID: "ann"}, presence.Ref{Tenant: "acme", ID: "bob"}
	as := func(r presence.Role) presence.Actor { return presence.Actor{Subject: ann, Role: r} }
	return presencetest.AuthorizerCase{
		Authorizer: a,
		Allows: []presence.Question{
			{Actor: as(presence.RoleAgent), Action: presence.ActionClaim, Subject: ann, Status: "busy"},
			{Actor: as(presence.RoleAgent), Action: presence.ActionJoin, Channel: presence.Channel{Tenant: "acme", ID: "support"}},
			{Actor: as(presence.RoleVisitor), Action: presence.ActionSee, Subject: bob},
			{Actor: as(presence.RoleVisitor), Action: presence.ActionSee, Channel: presence.Channel{Tenant: "acme", ID: "bob"}},
			{Actor: as(presence.RoleSupervisor), Action: presence.ActionClaimOther, Subject: bob, Status: "busy"},
			{Actor: as(presence.RoleSupervisor), Action: presence.ActionDecide, Subject: bob, Request: "r1"},
			{Actor: as(presence.RoleAdmin), Action: presence.ActionPolicy, Policy: "default"},
			{Actor: as(presence.RoleAdmin), Action: presence.ActionDefine, Status: "lunch"},
			{Actor: as(presence.RoleSystem), Action: presence.ActionClaimOther, Subject: bob, Status: "busy"},
		},
		Refuses: []presence.Question{
			{Actor: as(presence.RoleAgent), Action: presence.ActionClaimOther, Subject: bob, Status: "busy"},
			{Actor: as(presence.RoleAgent), Action: presence.ActionPolicy, Policy: "default"},
			{Actor: as(presence.RoleVisitor), Action: presence.ActionClaim, Subject: ann, Status: "busy"},
			{Actor: as(presence.RoleSupervisor), Action: presence.ActionPolicy, Policy: "default"},
		},
	}
}

func TestAuthorizerSuitePasses(t *testing.T) {
	t.Parallel()
	for _, a := range []presence.Authorizer{
		presence.RoleAuthorizer(),
		presencetest.StaticAuthorizer(func(q presence.Question) error {
			return presence.RoleAuthorizer().Allow(t.Context(), q)
		}),
		// An authorizer that asks a service and fails when its context is done.
		allow(func(ctx context.Context, q presence.Question) error {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			return ask(ctx, q)
		}),
	} {
		open := func(context.Context) (presencetest.AuthorizerCase, error) { return roles(a), nil }
		require.NoError(t, presencetest.CheckAuthorizer(t.Context(), open))
		presencetest.RunAuthorizer(t, open)
	}
}

// allow is a function as an authorizer.
type allow func(ctx context.Context, q presence.Question) error

func (a allow) Allow(ctx context.Context, q presence.Question) error { return a(ctx, q) }

// ask returns the right answer.
func ask(ctx context.Context, q presence.Question) error {
	return presence.RoleAuthorizer().Allow(ctx, q)
}

// H9: the suite finds an authorizer that confuses person and channel, among others.
func TestAuthorizerSuiteCatches(t *testing.T) {
	t.Parallel()
	of := func(a allow) func(<-chan struct{}) presencetest.AuthorizerCase {
		return func(<-chan struct{}) presencetest.AuthorizerCase { return roles(a) }
	}
	caught(t, presencetest.CheckAuthorizer, []mutant[presencetest.AuthorizerCase]{
		{"nothing is known to be refused", "questions", func(<-chan struct{}) presencetest.AuthorizerCase {
			c := roles(allow(ask))
			c.Refuses = nil
			return c
		}},
		{"a question across tenants", "questions", func(<-chan struct{}) presencetest.AuthorizerCase {
			c := roles(allow(ask))
			c.Refuses[0].Subject.Tenant = "other"
			return c
		}},
		{"a question that no tracker asks", "questions", func(<-chan struct{}) presencetest.AuthorizerCase {
			c := roles(allow(ask))
			c.Allows[2].Status = "busy"
			return c
		}},
		{"a person is taken for the channel of its name", "refuses", func(<-chan struct{}) presencetest.AuthorizerCase {
			may := func(id string) error {
				if id == "sales" {
					return nil
				}
				return fmt.Errorf("%w: only the channel sales is public", presence.ErrNotAllowed)
			}
			visitor := presence.Visitor(presence.ID("vic"))
			return presencetest.AuthorizerCase{
				Authorizer: allow(func(_ context.Context, q presence.Question) error { return may(cmp.Or(q.Subject.ID, q.Channel.ID)) }),
				Allows:     []presence.Question{{Actor: visitor, Action: presence.ActionSee, Channel: presence.ChannelID("sales")}},
				Refuses:    []presence.Question{{Actor: visitor, Action: presence.ActionSee, Subject: presence.ID("sales")}},
			}
		}},
		{"systems may nothing", "allows", of(func(ctx context.Context, q presence.Question) error {
			if q.Actor.Role == presence.RoleSystem {
				return fmt.Errorf("%w: it is a machine", presence.ErrNotAllowed)
			}
			return ask(ctx, q)
		})},
		{"it cannot tell who may", "allows", of(func(ctx context.Context, q presence.Question) error {
			if q.Action == presence.ActionJoin {
				return errors.New("no such action")
			}
			return ask(ctx, q)
		})},
		{"agents may everything", "refuses", of(func(ctx context.Context, q presence.Question) error {
			if q.Actor.Role == presence.RoleAgent || q.Actor.Role == "" {
				return nil
			}
			return ask(ctx, q)
		})},
		{"a refusal by another name", "refuses", of(func(ctx context.Context, q presence.Question) error {
			if err := ask(ctx, q); err != nil {
				return errors.New("403 Forbidden")
			}
			return nil
		})},
		{"a bare refusal", "says-why", of(func(ctx context.Context, q presence.Question) error {
			if ask(ctx, q) != nil {
				return presence.ErrNotAllowed
			}
			return nil
		})},
		{"it gives in", "repeatable", func(<-chan struct{}) presencetest.AuthorizerCase {
			var mu sync.Mutex
			asked := make(map[presence.Question]int)
			return roles(allow(func(ctx context.Context, q presence.Question) error {
				mu.Lock()
				defer mu.Unlock()
				if asked[q]++; asked[q] > 10 {
					return nil
				}
				return ask(ctx, q)
			}))
		}},
		{"it answers the latest question", "concurrent", func(<-chan struct{}) presencetest.AuthorizerCase {
			var mu sync.Mutex
			var latest presence.Question
			return roles(allow(func(ctx context.Context, q presence.Question) error {
				mu.Lock()
				latest = q
				mu.Unlock()
				for range 100 {
					runtime.Gosched()
				}
				mu.Lock()
				q = latest
				mu.Unlock()
				return ask(ctx, q)
			}))
		}},
		{"no role is nobody", "zero-role", of(func(ctx context.Context, q presence.Question) error {
			if q.Actor.Role == "" {
				return fmt.Errorf("%w: no role", presence.ErrNotAllowed)
			}
			return ask(ctx, q)
		})},
		{"it opens when it is out of time", "done-context-closed", of(func(ctx context.Context, q presence.Question) error {
			if ctx.Err() != nil {
				return nil
			}
			return ask(ctx, q)
		})},
		{"it waits when it is out of time", "done-context-closed", func(release <-chan struct{}) presencetest.AuthorizerCase {
			return roles(allow(func(ctx context.Context, q presence.Question) error {
				if ctx.Err() != nil {
					<-release
				}
				return ask(ctx, q)
			}))
		}},
		{"it refuses when it is out of time", "done-context-honest", of(func(ctx context.Context, q presence.Question) error {
			if ctx.Err() != nil {
				return fmt.Errorf("%w: %w", presence.ErrNotAllowed, ctx.Err())
			}
			return ask(ctx, q)
		})},
	})
}
