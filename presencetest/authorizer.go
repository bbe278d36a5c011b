package presencetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/presence-go/presence"
)

// Question is what an authorizer is asked.
type Question struct {
	Actor   presence.Actor
	Action  presence.Action
	Subject presence.Ref
	Detail  string
}

// String returns the question as a sentence would put it.
func (q Question) String() string {
	return fmt.Sprintf("may %s (%s) %s %s of %s", q.Actor.Subject, q.Actor.Role, q.Action, q.Detail, q.Subject)
}

// AuthorizerCase is an authorizer to be checked, with questions to which the
// answer is known.
type AuthorizerCase struct {
	Authorizer presence.Authorizer
	Allows     []Question
	Refuses    []Question
}

// CheckAuthorizer checks an authorizer against the contract of
// [presence.Authorizer]. For every rule, open is called anew. That nothing
// crosses a tenant is no rule: no authorizer is asked about that.
func CheckAuthorizer(ctx context.Context, open func(context.Context) (AuthorizerCase, error)) error {
	return authorizerSuite.check(ctx, open)
}

// RunAuthorizer is [CheckAuthorizer] with a subtest for each rule.
func RunAuthorizer(t *testing.T, open func(context.Context) (AuthorizerCase, error)) {
	t.Helper()
	authorizerSuite.run(t, open)
}

var authorizerSuite = suite[AuthorizerCase, authorizerProbe]{
	name:  "authorizer",
	probe: func(p *probe, c AuthorizerCase) authorizerProbe { return authorizerProbe{p, c} },
	rules: authorizerRules,
}

type authorizerProbe struct {
	*probe
	AuthorizerCase
}

// verdict is what an answer amounts to.
type verdict string

const (
	allowed  verdict = "allowed"
	refused  verdict = "refused"
	unknown  verdict = "cannot tell"
	unending verdict = "no answer"
)

func (p authorizerProbe) ask(ctx context.Context, q Question) (verdict, error) {
	err := inTime(func() error { return p.Authorizer.Allow(ctx, q.Actor, q.Action, q.Subject, q.Detail) })
	switch {
	case err == nil:
		return allowed, nil
	case errors.Is(err, errHangs):
		return unending, err
	case errors.Is(err, presence.ErrNotAllowed):
		return refused, err
	}
	return unknown, err
}

// baseline returns all questions with the answers to them, asked one by one.
func (p authorizerProbe) baseline() (questions []Question, answers []verdict) {
	for _, q := range slices.Concat(p.Allows, p.Refuses) {
		got, _ := p.ask(p.ctx, q)
		questions, answers = append(questions, q), append(answers, got)
	}
	return questions, answers
}

func (p authorizerProbe) answered(q Question, wanted verdict, got verdict, err error) {
	if got != wanted {
		p.failf("%s: wanted %s, got %s: %w", q, wanted, got, orNil(err))
	}
}

var authorizerRules = []rule[authorizerProbe]{
	{
		name: "questions",
		text: "There are questions that are allowed and questions that are refused; without them nothing can be told.",
		check: func(p authorizerProbe) {
			if len(p.Allows) == 0 || len(p.Refuses) == 0 {
				p.failf("wanted some of each, got %d and %d", len(p.Allows), len(p.Refuses))
			}
			for _, q := range slices.Concat(p.Allows, p.Refuses) {
				if q.Actor.Subject.Tenant != q.Subject.Tenant {
					p.failf("%s: wanted one tenant, got two: an authorizer is never asked that", q)
				}
			}
		},
	},
	{
		name: "allows",
		text: "Allow returns nil where the actor may.",
		check: func(p authorizerProbe) {
			for _, q := range p.Allows {
				got, err := p.ask(p.ctx, q)
				p.answered(q, allowed, got, err)
			}
		},
	},
	{
		name: "refuses",
		text: "Allow returns an error wrapping presence.ErrNotAllowed where the actor may not.",
		check: func(p authorizerProbe) {
			for _, q := range p.Refuses {
				got, err := p.ask(p.ctx, q)
				p.answered(q, refused, got, err)
			}
		},
	},
	{
		name: "says-why",
		text: "A refusal says why, beyond that it is one.",
		check: func(p authorizerProbe) {
			for _, q := range p.Refuses {
				if _, err := p.ask(p.ctx, q); err != nil && err.Error() == presence.ErrNotAllowed.Error() {
					p.failf("%s: wanted a reason, got nothing but %q", q, err)
				}
			}
		},
	},
	{
		name: "repeatable",
		text: "The same question has the same answer, whatever was asked in between.",
		check: func(p authorizerProbe) {
			questions, answers := p.baseline()
			for range 12 {
				for i := range questions {
					got, err := p.ask(p.ctx, questions[i])
					p.answered(questions[i], answers[i], got, err)
				}
				slices.Reverse(questions)
				slices.Reverse(answers)
			}
		},
	},
	{
		name: "concurrent",
		text: "Questions asked at once do not change one another's answers.",
		check: func(p authorizerProbe) {
			const askers = 8
			questions, answers := p.baseline()
			type answer struct {
				verdict
				err error
			}
			got := make([][]answer, askers)
			var wg sync.WaitGroup
			for i := range askers {
				got[i] = make([]answer, len(questions))
				wg.Go(func() {
					for n := range questions {
						at := (n + i) % len(questions)
						got[i][at].verdict, got[i][at].err = p.ask(p.ctx, questions[at])
					}
				})
			}
			wg.Wait()
			for i := range askers {
				for n, q := range questions {
					p.answered(q, answers[n], got[i][n].verdict, got[i][n].err)
				}
			}
		},
	},
	{
		name: "zero-role",
		text: "An actor without a role is an agent.",
		check: func(p authorizerProbe) {
			questions, answers := p.baseline()
			for i, q := range questions {
				if q.Actor.Role == presence.RoleAgent {
					q.Actor.Role = ""
					got, err := p.ask(p.ctx, q)
					p.answered(q, answers[i], got, err)
				}
			}
		},
	},
	{
		name: "done-context-closed",
		text: "With a context that is done, Allow returns, and nothing is allowed that otherwise is not.",
		check: func(p authorizerProbe) {
			questions, answers := p.baseline()
			for i, q := range questions {
				got, err := p.ask(done(p.ctx), q)
				if got == unending || got == allowed && answers[i] != allowed {
					p.failf("%s: wanted an answer, and not that it is allowed unless it is; got %s: %w", q, got, orNil(err))
					return
				}
			}
		},
	},
	{
		name: "done-context-honest",
		text: "With a context that is done, Allow does not say that an actor may not who may; it answers or says that it cannot tell.",
		check: func(p authorizerProbe) {
			questions, answers := p.baseline()
			for i, q := range questions {
				if got, err := p.ask(done(p.ctx), q); got == refused && answers[i] == allowed {
					p.failf("%s: wanted %s or %s, got %s: %w", q, allowed, unknown, got, err)
					return
				}
			}
		},
	},
}
