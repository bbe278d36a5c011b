package presence

import (
	"context"
	"strings"
	"sync"
	"sync/atomic"
)

// SetPolicy sets the policy of the actor's tenant from now on. Nothing earlier
// changes. Policies are not stored: set them again when the process starts. It
// returns [ErrInvalid] for a policy with faults, and [ErrNotAllowed] if the
// authorizer refuses.
func (t *Tracker) SetPolicy(ctx context.Context, by Actor, p Policy) error {
	return t.setPolicy(ctx, p, Question{Actor: by, Action: ActionPolicy, Policy: p.Name})
}

func (t *Tracker) setPolicy(ctx context.Context, p Policy, q Question) error {
	m, err := Compile(p)
	if err != nil {
		return err
	}
	tenant := q.Actor.Subject.Tenant
	if err := checkOptionalID("tenant", tenant); err != nil {
		return err
	}
	if err := t.allow(ctx, q); err != nil {
		return err
	}
	t.policing.Lock()
	defer t.policing.Unlock()
	tn, ok := t.tenants.need(tenant, t.fallback)
	if !ok {
		return refuse(ErrLimit, "tenant", tenant, "%d tenants are known, the most allowed", maxTenants)
	}
	before := tn.inForce.Load()
	if m.coalesces() > 0 {
		t.coalescing.Store(true)
	}
	tn.inForce.Store(newForce(m, !before.parity, before.m, t.time.Now()))
	t.eachSubject(tn, func(*loaded) {}) // load and follow do the work
	tn.inForce.Store(newForce(m, !before.parity, nil, 0))
	tn.statuses.prune(before.m, m)
	now := t.time.Now()
	for _, hub := range t.channelTable.allHubs() {
		if hub.ref().Tenant == tenant {
			hub.setMachine(m)
			hub.refresh(now)
		}
	}
	t.sendHeldBack(m, now)
	return nil
}

// Policy returns the policy of a tenant.
func (t *Tracker) Policy(tenant string) Policy { return t.machine(tenant).Policy() }

func (t *Tracker) machine(tenant string) *Machine {
	if tn, ok := t.tenants.find(tenant); ok {
		return tn.inForce.Load().m
	}
	return t.fallback
}

// AddStatus adds a status to the policy of the actor's tenant, or replaces the one
// of the same id. See [Policy.AddStatus]. It can be chosen at once.
func (t *Tracker) AddStatus(ctx context.Context, by Actor, s Status) error {
	return t.redefine(ctx, by, s.ID, func(p *Policy) error {
		p.AddStatus(s)
		return nil
	})
}

// RemoveStatus removes a status from the policy of the actor's tenant. See
// [Policy.RemoveStatus].
func (t *Tracker) RemoveStatus(ctx context.Context, by Actor, id, fallback string) error {
	return t.redefine(ctx, by, id, func(p *Policy) error { return p.RemoveStatus(id, fallback) })
}

// redefine changes the policy of a tenant. It makes one change at a time, so that
// none is lost.
func (t *Tracker) redefine(ctx context.Context, by Actor, id string, change func(*Policy) error) error {
	t.defining.Lock()
	defer t.defining.Unlock()
	p := t.Policy(by.Subject.Tenant)
	if err := change(&p); err != nil {
		return err
	}
	return t.setPolicy(ctx, p, Question{Actor: by, Action: ActionDefine, Status: id})
}

// Machine returns the compiled policy of a tenant.
func (t *Tracker) Machine(tenant string) *Machine { return t.machine(tenant) }

// tenants are the tenants of all subjects in memory.
type tenants struct {
	mu     sync.RWMutex
	byName map[string]*tenantEntry
	list   atomic.Pointer[[]*tenantEntry]
}

// tenantEntry is a customer with its policy and counters.
type tenantEntry struct {
	id       uint32
	name     string
	inForce  atomic.Pointer[policyInForce]
	statuses statusCounts
}

// policyInForce is the policy of a tenant. After a change, subjects follow the new
// policy one by one. A subject follows it once the parities are equal.
type policyInForce struct {
	m      *Machine
	parity bool
	before *Machine // the earlier policy, while some subjects do not follow yet; else nil
	since  Instant
	terms  *pulseTerms // the shorter terms of both policies, while before is set
	// stages are the times without input, in ticks, after which an idle stage can
	// be reached. They hold for the pulse of a subject with one connection. With
	// ignores, the input of some devices does not count, so that the pulse does not
	// suffice.
	stages  []uint64
	ignores bool
}

func newForce(m *Machine, parity bool, before *Machine, since Instant) *policyInForce {
	lease, patience, stages, ignores := m.terms()
	if before != nil {
		l, p, _, _ := before.terms()
		lease, patience = min(lease, l), min(patience, p)
	}
	f := &policyInForce{m: m, parity: parity, before: before, since: since, terms: &pulseTerms{ticks(lease), ticks(patience)}, ignores: ignores}
	for _, after := range stages {
		f.stages = append(f.stages, ticks(after))
	}
	return f
}

const maxTenants = 1<<24 - 1

func (ts *tenants) at(id uint32) *tenantEntry { return (*ts.list.Load())[id] }

func (ts *tenants) find(name string) (*tenantEntry, bool) {
	if name == "" {
		return ts.at(0), true
	}
	ts.mu.RLock()
	defer ts.mu.RUnlock()
	tn := ts.byName[name]
	return tn, tn != nil
}

// need returns a tenant. It adds the tenant if it is unknown, or returns false if
// maxTenants are known.
func (ts *tenants) need(name string, m *Machine) (*tenantEntry, bool) {
	if tn, ok := ts.find(name); ok {
		return tn, true
	}
	ts.mu.Lock()
	defer ts.mu.Unlock()
	if tn := ts.byName[name]; tn != nil {
		return tn, true
	}
	return ts.add(strings.Clone(name), m)
}

func (ts *tenants) add(name string, m *Machine) (*tenantEntry, bool) {
	var list []*tenantEntry
	if l := ts.list.Load(); l != nil {
		list = *l
	}
	if len(list) >= maxTenants {
		return nil, false
	}
	tn := &tenantEntry{id: uint32(len(list)), name: name}
	tn.inForce.Store(newForce(m, false, nil, 0))
	list = append(list, tn)
	ts.list.Store(&list)
	ts.byName[name] = tn
	return tn, true
}
