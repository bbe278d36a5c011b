package presencetest

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"

	"github.com/presence-go/presence"
)

// AuthorizerCase is an authorizer to check, with questions whose answers are
// known.
type AuthorizerCase struct {
	Authorizer presence.Authorizer
	Allows     []presence.Question
	Refuses    []presence.Question
}

// CheckAuthorizer checks an authorizer against the contract of
// [presence.Authorizer]. It calls open for every rule. It gives the authorizer
// to a tracker and makes the calls that ask the questions, so that the
// authorizer gets the questions of a tracker.
func CheckAuthorizer(ctx context.Context, open func(context.Context) (AuthorizerCase, error)) error {
	return authorizerSuite.check(ctx, open)
}

// RunAuthorizer runs [CheckAuthorizer] with a subtest for each rule.
func RunAuthorizer(t *testing.T, open func(context.Context) (AuthorizerCase, error)) {
	t.Helper()
	authorizerSuite.run(t, open)
}

var authorizerSuite = suite[AuthorizerCase, authorizerProbe]{
	name:  "authorizer",
	probe: newAuthorizerProbe,
	rules: authorizerRules,
}

type authorizerProbe struct {
	*probe
	AuthorizerCase
	tracker *presence.Tracker
}

func newAuthorizerProbe(p *probe, c AuthorizerCase) authorizerProbe {
	tracker, err := presence.New(&presence.Options{Authorizer: askedAuthorizer{c.Authorizer}})
	if err != nil {
		p.failf("%w", err)
	}
	return authorizerProbe{p, c, tracker}
}

// exchange is a question that a tracker asked during one call, with the answer.
type exchange struct {
	asked  bool
	q      presence.Question
	answer error
}

type exchangeKey struct{}

// askedAuthorizer records the exchange in the context of the call.
type askedAuthorizer struct{ presence.Authorizer }

func (a askedAuthorizer) Allow(ctx context.Context, q presence.Question) error {
	err := a.Authorizer.Allow(ctx, q)
	if e, ok := ctx.Value(exchangeKey{}).(*exchange); ok {
		*e = exchange{true, q, err}
	}
	return err
}

// call makes the call of a tracker that asks a question. The exchange has the
// authorizer's answer. The tracker may also refuse for other reasons.
func (p authorizerProbe) call(ctx context.Context, q presence.Question) exchange {
	var e exchange
	ctx = context.WithValue(ctx, exchangeKey{}, &e)
	switch q.Action {
	case presence.ActionSee:
		if q.Channel != (presence.Channel{}) {
			_, _, _ = p.tracker.List(ctx, q.Actor, q.Channel)
		} else {
			_, _ = p.tracker.Get(ctx, q.Actor, q.Subject)
		}
	case presence.ActionJoin:
		_ = p.tracker.Join(ctx, q.Actor, q.Channel)
	case presence.ActionClaim, presence.ActionClaimOther:
		if q.Status == "" {
			_, _ = p.tracker.EndClaim(ctx, q.Actor, q.Subject, presence.Claim{})
		} else {
			_, _ = p.tracker.SetClaim(ctx, q.Actor, q.Subject, presence.Claim{Status: q.Status})
		}
	case presence.ActionDecide:
		_, _ = p.tracker.DecideRequest(ctx, q.Actor, q.Subject, q.Request, true)
	case presence.ActionDefine:
		_ = p.tracker.AddStatus(ctx, q.Actor, presence.Status{ID: q.Status, Class: presence.ClassAway})
	case presence.ActionPolicy:
		policy := presence.DefaultPolicy()
		policy.Name = q.Policy
		_ = p.tracker.SetPolicy(ctx, q.Actor, policy)
	}
	return e
}

// verdict is the kind of an answer.
type verdict string

const (
	allowed  verdict = "allowed"
	refused  verdict = "refused"
	unknown  verdict = "an error"
	unending verdict = "no answer"
)

// errNotAsked is the error for a question that no call of a tracker asks.
var errNotAsked = errors.New("a tracker does not ask this")

func (p authorizerProbe) ask(ctx context.Context, q presence.Question) (verdict, error) {
	err := inTime(func() error {
		e := p.call(ctx, q)
		if !e.asked || e.q != q {
			return errNotAsked
		}
		return e.answer
	})
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

// baseline asks all questions one by one. It returns them with the answers.
func (p authorizerProbe) baseline() (questions []presence.Question, answers []verdict) {
	for _, q := range slices.Concat(p.Allows, p.Refuses) {
		got, _ := p.ask(p.ctx, q)
		questions, answers = append(questions, q), append(answers, got)
	}
	return questions, answers
}

func (p authorizerProbe) answered(q presence.Question, wanted verdict, got verdict, err error) {
	if got != wanted && !errors.Is(err, errNotAsked) { // the rule "questions" reports errNotAsked
		p.failf("%s: wanted %s, got %s: %w", q, wanted, got, orNil(err))
	}
}

var authorizerRules = []rule[authorizerProbe]{
	{
		name: "questions",
		text: "The case has questions that are allowed and questions that are refused, and a tracker asks each of them.",
		check: func(p authorizerProbe) {
			if len(p.Allows) == 0 || len(p.Refuses) == 0 {
				p.failf("wanted some of each, got %d and %d", len(p.Allows), len(p.Refuses))
			}
			for _, q := range slices.Concat(p.Allows, p.Refuses) {
				if _, err := p.ask(p.ctx, q); errors.Is(err, errNotAsked) {
					p.failf("%s %w", q, err)
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
		text: "The text of a refusal gives a reason beside presence.ErrNotAllowed.",
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
		text: "The same question gets the same answer, also after other questions.",
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
		text: "Questions asked concurrently do not change each other's answers.",
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
		text: "With a context that is done, Allow returns, and allows nothing that it refuses otherwise.",
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
		text: "With a context that is done, Allow wraps presence.ErrNotAllowed only if the actor may not; it returns the right answer or another error.",
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
