package presence

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
)

// Role is the capacity in which an actor acts. The zero Role means agent.
type Role string

// The roles.
const (
	RoleAgent      Role = "agent"
	RoleSupervisor Role = "supervisor"
	RoleAdmin      Role = "admin"
	RoleVisitor    Role = "visitor"
	RoleSystem     Role = "system" // a backend: it names the source of its claims itself
)

var roles = []Role{RoleAgent, RoleSupervisor, RoleAdmin, RoleVisitor, RoleSystem}

// Actor is the maker of a call, as authentication found it.
type Actor struct {
	Subject Ref  `json:"subject"`
	Role    Role `json:"role,omitzero"`
}

// Agent returns an actor that acts for the subject of its name.
func Agent(subject Ref) Actor { return Actor{Subject: subject, Role: RoleAgent} }

// Supervisor returns an actor that acts for other subjects too.
func Supervisor(subject Ref) Actor { return Actor{Subject: subject, Role: RoleSupervisor} }

// Admin returns an actor that acts for others and changes policies.
func Admin(subject Ref) Actor { return Actor{Subject: subject, Role: RoleAdmin} }

// Visitor returns an actor that only reads.
func Visitor(subject Ref) Actor { return Actor{Subject: subject, Role: RoleVisitor} }

// System returns the actor of a backend, which names the source of its claims.
func System(subject Ref) Actor { return Actor{Subject: subject, Role: RoleSystem} }

// String returns the role and the name, such as "supervisor kim".
func (a Actor) String() string { return string(a.role()) + " " + a.Subject.String() }

// role returns the role that an actor acts in.
func (a Actor) role() Role { return cmp.Or(a.Role, RoleAgent) }

// Identity is what authentication found about a client.
type Identity struct {
	Actor Actor
}

// Audience returns the audience that an actor belongs to.
func (a Actor) Audience() Audience {
	switch a.Role {
	case RoleSupervisor:
		return AudienceSupervisor
	case RoleAdmin:
		return AudienceAdmin
	case RoleVisitor:
		return AudienceVisitor
	case RoleSystem:
		return AudienceRouter
	default:
		return AudienceTeam
	}
}

// source derives the source of a claim that a sets on a subject.
func (a Actor) source(subject Ref, named Source, m *Machine) (Source, error) {
	if err := a.checkTenant(subject); err != nil {
		return "", err
	}
	source := Source("")
	switch {
	case a.Role == RoleSystem:
		source = cmp.Or(named, SourceApp)
		if _, ranked := m.rank[source]; !ranked {
			return "", refuse(ErrUnknown, "source", string(source), "the policy does not rank it").allow(m.policy.sourceNames()...)
		}
		return source, nil
	case a.Subject == subject && a.Role != RoleVisitor:
		source = SourceManual
	case a.Role == RoleSupervisor || a.Role == RoleAdmin:
		source = SourceSupervisor
	default:
		return "", refuse(ErrNotAllowed, "role", string(a.role()), "%s may not change the status of %s", a, subject).allow("self", string(RoleSupervisor), string(RoleAdmin), string(RoleSystem))
	}
	if named != "" && named != source {
		return "", refuse(ErrNotAllowed, "source", string(named), "%s claims as %s; only a system names a source", a, source).allow(string(source))
	}
	return source, nil
}

// checkTenant refuses to act on a subject or channel of another tenant.
func (a Actor) checkTenant(about Ref) error {
	if a.Subject.Tenant != about.Tenant {
		return refuse(ErrNotAllowed, "tenant", about.Tenant, "%s acts for another tenant than that of %s", a.Subject, about)
	}
	return nil
}

// checkRole refuses an unknown role.
func (a Actor) checkRole() error {
	if a.Role != "" && !slices.Contains(roles, a.Role) {
		return refuse(ErrInvalid, "role", string(a.Role), "no such role").allow(wordsOf(roles)...)
	}
	return nil
}

// Audience is a class of viewers that see the same.
type Audience string

// The audiences.
const (
	AudienceSelf       Audience = "self"
	AudienceTeam       Audience = "team"
	AudienceSupervisor Audience = "supervisor"
	AudienceAdmin      Audience = "admin"
	AudienceVisitor    Audience = "visitor"
	AudienceRouter     Audience = "router" // code that hands out work
)

var audiences = []Audience{AudienceSelf, AudienceTeam, AudienceSupervisor, AudienceAdmin, AudienceVisitor, AudienceRouter}

// Action is what an actor asks to do.
type Action string

// The actions. Beside each are the fields of its [Question].
const (
	ActionSee        Action = "see"         // Subject of one person, or Channel
	ActionJoin       Action = "join"        // Channel
	ActionClaim      Action = "claim"       // Subject, which is the actor's; Status, empty where a claim ends
	ActionClaimOther Action = "claim-other" // Subject, which is another's; Status likewise
	ActionDecide     Action = "decide"      // Subject; Request, empty for the oldest open one
	ActionDefine     Action = "define"      // Status that is added or removed
	ActionPolicy     Action = "policy"      // Policy
)

// Question is what an [Authorizer] is asked: whether an actor may do something.
// [Action] determines which other fields are set.
type Question struct {
	Actor   Actor
	Action  Action
	Subject Ref
	Channel Channel
	Status  string // the id of a status
	Request string // the id of a request
	Policy  string // the name of a policy
}

// String returns the question as a sentence.
func (q Question) String() string { return fmt.Sprintf("may %s %s?", q.Actor, q.deed()) }

// deed returns the action with what it is about.
func (q Question) deed() string {
	text := string(q.Action)
	add := func(kind, name string) {
		if name != "" {
			text += " " + kind + " " + name
		}
	}
	add("subject", q.Subject.String())
	add("channel", q.Channel.String())
	add("status", q.Status)
	add("request", q.Request)
	add("policy", q.Policy)
	return text
}

// check refuses a question that no authorizer is asked: of an unknown role, about
// a faulty name, or about another tenant than the actor's.
func (q Question) check() error {
	if err := q.Actor.checkRole(); err != nil {
		return err
	}
	if q.Action == ActionClaim || q.Action == ActionClaimOther || q.Action == ActionDecide || q.Action == ActionSee && q.Channel == (Channel{}) {
		if err := checkRef("subject", q.Subject); err != nil {
			return err
		}
	}
	for _, about := range []Ref{q.Subject, Ref(q.Channel)} {
		if about == (Ref{}) {
			continue
		}
		if err := q.Actor.checkTenant(about); err != nil {
			return err
		}
	}
	return nil
}

// Authorizer decides what actors may do. The tracker asks it before a call changes
// or shows something. The tracker itself decides four things. No call crosses a
// tenant. An agent sees only channels that it is a member of. An agent changes only
// its own status. A status must be selectable. An authorizer cannot allow what the
// tracker refuses.
type Authorizer interface {
	// Allow returns nil if the actor may, and an error that wraps [ErrNotAllowed]
	// with the reason if not. Any other error means that it has no answer: the call
	// returns [ErrUnavailable]. Allow may block until ctx is done, at most 5s. It may
	// be called concurrently.
	Allow(ctx context.Context, q Question) error
}

// roleAuthorizer is the default Authorizer of a tracker.
type roleAuthorizer struct{}

func (roleAuthorizer) Allow(_ context.Context, q Question) error {
	needs := []Role{RoleAgent, RoleSupervisor, RoleAdmin, RoleSystem}
	switch q.Action {
	case ActionSee:
		return nil
	case ActionClaimOther, ActionDecide:
		needs = []Role{RoleSupervisor, RoleAdmin, RoleSystem}
	case ActionPolicy, ActionDefine:
		needs = []Role{RoleAdmin, RoleSystem}
	}
	if role := q.Actor.role(); !slices.Contains(needs, role) {
		return refuse(ErrNotAllowed, "role", string(role), "%s may not %s", q.Actor, q.deed()).allow(wordsOf(needs)...)
	}
	return nil
}

// RoleAuthorizer returns the default authorizer. Every role may see. Agents act for
// themselves; supervisors, admins and systems for others too. Admins and systems
// change the policy.
func RoleAuthorizer() Authorizer { return roleAuthorizer{} }

// wordsOf turns words of any type into strings.
func wordsOf[T ~string](list []T) []string {
	texts := make([]string, len(list))
	for i, w := range list {
		texts[i] = string(w)
	}
	return texts
}

func sortedKeys[K cmp.Ordered, V any](m map[K]V) []K { return slices.Sorted(maps.Keys(m)) }
