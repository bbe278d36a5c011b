package presence

import (
	"context"
	"slices"
)

// Request asks, for a subject itself, that it be allowed a status. Whoever may
// decide sees it in the subject's view; see [Tracker.Decide]. A new request for
// the same status takes the place of the one before.
func (t *Tracker) Request(ctx context.Context, actor Actor, subject Ref, c Claim) (View, error) {
	return t.claim(ctx, actor, subject, Event{Kind: EventRequest, Actor: actor, Claim: c}, ActionClaim, c.Status)
}

// Withdraw takes a subject's own request back, the oldest open one if id is empty.
func (t *Tracker) Withdraw(ctx context.Context, actor Actor, subject Ref, id string) (View, error) {
	return t.claim(ctx, actor, subject, Event{Kind: EventWithdraw, Actor: actor, ID: id}, ActionClaim, id)
}

// Decide accepts or rejects a request of a subject, the oldest open one if id
// is empty. What was decided, withdrawn or overtaken by another choice before
// is refused with [ErrStale]: the first decision stands.
func (t *Tracker) Decide(ctx context.Context, actor Actor, subject Ref, id string, accept bool) (View, error) {
	return t.claim(ctx, actor, subject, Event{Kind: EventDecide, Actor: actor, ID: id, Off: !accept}, ActionDecide, id)
}

// Define adds a status to the policy of a tenant, or changes the one of the same
// id; see [Policy.Define]. It can be chosen at once.
func (t *Tracker) Define(ctx context.Context, actor Actor, tenant string, s Status) error {
	return t.redefine(ctx, actor, tenant, s.ID, func(p *Policy) error {
		p.Define(s)
		return nil
	})
}

// Undefine removes a status from the policy of a tenant; see [Policy.Undefine].
func (t *Tracker) Undefine(ctx context.Context, actor Actor, tenant, id, fallback string) error {
	return t.redefine(ctx, actor, tenant, id, func(p *Policy) error { return p.Undefine(id, fallback) })
}

// redefine changes a policy, one change at a time so that none is lost.
func (t *Tracker) redefine(ctx context.Context, actor Actor, tenant, id string, change func(*Policy) error) error {
	t.defining.Lock()
	defer t.defining.Unlock()
	p := t.Policy(tenant)
	if err := change(&p); err != nil {
		return err
	}
	return t.setPolicy(ctx, actor, tenant, p, ActionDefine, id)
}

// Machine returns the policy in force for a tenant, compiled.
func (t *Tracker) Machine(tenant string) *Machine { return t.machine(tenant) }

// Members returns who belongs to a channel by grant, connected or not, in order.
func (t *Tracker) Members(channel Ref) ([]Ref, error) {
	if err := checkRef("channel", channel); err != nil {
		return nil, err
	}
	t.mu.RLock()
	defer t.mu.RUnlock()
	ch := t.channels[channel]
	if ch == nil {
		return nil, nil
	}
	var members []Ref
	for _, n := range ch.members() {
		members = append(members, t.ref(n))
	}
	slices.SortFunc(members, compareRefs)
	return members, nil
}
