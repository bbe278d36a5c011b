package presencetest_test

import (
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

// roles is what the authorizer of a tracker that is given none answers.
func roles(a presence.Authorizer) presencetest.AuthorizerCase {
	ann, bob := presence.Ref{Tenant: "acme", ID: "ann"}, presence.Ref{Tenant: "acme", ID: "bob"}
	as := func(r presence.Role) presence.Actor { return presence.Actor{Subject: ann, Role: r} }
	return presencetest.AuthorizerCase{
		Authorizer: a,
		Allows: []presencetest.Question{
			{as(presence.RoleAgent), presence.ActionClaim, ann, "busy"},
			{as(presence.RoleAgent), presence.ActionJoin, ann, "support"},
			{as(presence.RoleVisitor), presence.ActionSee, bob, ""},
			{as(presence.RoleSupervisor), presence.ActionClaimOther, bob, "busy"},
			{as(presence.RoleAdmin), presence.ActionPolicy, presence.Ref{Tenant: "acme"}, "default"},
			{as(presence.RoleSystem), presence.ActionClaimOther, bob, "busy"},
		},
		Refuses: []presencetest.Question{
			{as(presence.RoleAgent), presence.ActionClaimOther, bob, "busy"},
			{as(presence.RoleAgent), presence.ActionPolicy, presence.Ref{Tenant: "acme"}, "default"},
			{as(presence.RoleVisitor), presence.ActionClaim, ann, "busy"},
			{as(presence.RoleSupervisor), presence.ActionPolicy, presence.Ref{Tenant: "acme"}, "default"},
		},
	}
}

func TestAuthorizerSuitePasses(t *testing.T) {
	t.Parallel()
	for _, a := range []presence.Authorizer{
		presence.RoleAuthorizer(),
		presencetest.StaticAuthorizer(func(actor presence.Actor, action presence.Action, subject presence.Ref, detail string) error {
			return presence.RoleAuthorizer().Allow(t.Context(), actor, action, subject, detail)
		}),
		// One that asks elsewhere and cannot when its context is done.
		allow(func(ctx context.Context, q presencetest.Question) error {
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

// allow makes an authorizer of a function.
type allow func(ctx context.Context, q presencetest.Question) error

func (a allow) Allow(ctx context.Context, actor presence.Actor, action presence.Action, subject presence.Ref, detail string) error {
	return a(ctx, presencetest.Question{Actor: actor, Action: action, Subject: subject, Detail: detail})
}

// ask gives the right answer.
func ask(ctx context.Context, q presencetest.Question) error {
	return presence.RoleAuthorizer().Allow(ctx, q.Actor, q.Action, q.Subject, q.Detail)
}

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
		{"systems may nothing", "allows", of(func(ctx context.Context, q presencetest.Question) error {
			if q.Actor.Role == presence.RoleSystem {
				return fmt.Errorf("%w: it is a machine", presence.ErrNotAllowed)
			}
			return ask(ctx, q)
		})},
		{"it cannot tell who may", "allows", of(func(ctx context.Context, q presencetest.Question) error {
			if q.Action == presence.ActionJoin {
				return errors.New("no such action")
			}
			return ask(ctx, q)
		})},
		{"agents may everything", "refuses", of(func(ctx context.Context, q presencetest.Question) error {
			if q.Actor.Role == presence.RoleAgent || q.Actor.Role == "" {
				return nil
			}
			return ask(ctx, q)
		})},
		{"a refusal by another name", "refuses", of(func(ctx context.Context, q presencetest.Question) error {
			if err := ask(ctx, q); err != nil {
				return errors.New("403 Forbidden")
			}
			return nil
		})},
		{"a bare refusal", "says-why", of(func(ctx context.Context, q presencetest.Question) error {
			if ask(ctx, q) != nil {
				return presence.ErrNotAllowed
			}
			return nil
		})},
		{"it gives in", "repeatable", func(<-chan struct{}) presencetest.AuthorizerCase {
			var mu sync.Mutex
			asked := make(map[presencetest.Question]int)
			return roles(allow(func(ctx context.Context, q presencetest.Question) error {
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
			var latest presencetest.Question
			return roles(allow(func(ctx context.Context, q presencetest.Question) error {
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
		{"no role is nobody", "zero-role", of(func(ctx context.Context, q presencetest.Question) error {
			if q.Actor.Role == "" {
				return fmt.Errorf("%w: no role", presence.ErrNotAllowed)
			}
			return ask(ctx, q)
		})},
		{"it opens when it is out of time", "done-context-closed", of(func(ctx context.Context, q presencetest.Question) error {
			if ctx.Err() != nil {
				return nil
			}
			return ask(ctx, q)
		})},
		{"it waits when it is out of time", "done-context-closed", func(release <-chan struct{}) presencetest.AuthorizerCase {
			return roles(allow(func(ctx context.Context, q presencetest.Question) error {
				if ctx.Err() != nil {
					<-release
				}
				return ask(ctx, q)
			}))
		}},
		{"it refuses when it is out of time", "done-context-honest", of(func(ctx context.Context, q presencetest.Question) error {
			if ctx.Err() != nil {
				return fmt.Errorf("%w: %w", presence.ErrNotAllowed, ctx.Err())
			}
			return ask(ctx, q)
		})},
	})
}
