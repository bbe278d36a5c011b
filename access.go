package presence

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Role says in which capacity an actor acts. The zero Role means agent.
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

// Actor is who does something, as authentication has established it.
type Actor struct {
	Subject Ref  `json:"subject"`
	Role    Role `json:"role,omitzero"`
}

// Agent returns an actor who acts for the subject of the same name.
func Agent(subject Ref) Actor { return Actor{Subject: subject, Role: RoleAgent} }

// Identity is what authentication found about a client.
type Identity struct {
	Actor Actor
}

// Audience returns the audience an actor belongs to.
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

// source derives the source of what a does to a subject's claims.
func (a Actor) source(subject Ref, named Source, m *Machine) (Source, error) {
	if a.Role != "" && !slices.Contains(roles, a.Role) {
		return "", fmt.Errorf("presence: %w role %q: allowed are %s", ErrInvalid, a.Role, join(roles))
	}
	if err := a.checkFor(subject); err != nil {
		return "", err
	}
	source := Source("")
	switch {
	case a.Role == RoleSystem:
		source = cmp.Or(named, SourceApp)
		if _, ranked := m.rank[source]; !ranked {
			return "", fmt.Errorf("presence: %w source %q: the policy ranks %s", ErrUnknown, source, join(m.sourceNames()))
		}
		return source, nil
	case a.Subject == subject && a.Role != RoleVisitor:
		source = SourceManual
	case a.Role == RoleSupervisor || a.Role == RoleAdmin:
		source = SourceSupervisor
	default:
		return "", fmt.Errorf("presence: %w: %s may not change the status of %s; the subject itself, a supervisor, an admin or a system may", ErrNotAllowed, a.Subject, subject)
	}
	if named != "" && named != source {
		return "", fmt.Errorf("presence: %w: %s cannot claim as %q, which follows from who acts; only a system names a source", ErrNotAllowed, a.Subject, named)
	}
	return source, nil
}

// checkFor checks the name of an actor, which stays with what it does to a
// subject. A system needs none.
func (a Actor) checkFor(subject Ref) error {
	if a.Subject.Tenant != subject.Tenant {
		return fmt.Errorf("presence: %w: %s acts for another tenant than that of %s", ErrNotAllowed, a.Subject, subject)
	}
	return checkOptionalID("actor", a.Subject.ID)
}

// Audience is a class of viewers who see the same.
type Audience string

// The audiences.
const (
	AudienceSelf       Audience = "self"
	AudienceTeam       Audience = "team"
	AudienceSupervisor Audience = "supervisor"
	AudienceAdmin      Audience = "admin"
	AudienceVisitor    Audience = "visitor"
	AudienceRouter     Audience = "router" // whatever hands out work
)

var audiences = []Audience{AudienceSelf, AudienceTeam, AudienceSupervisor, AudienceAdmin, AudienceVisitor, AudienceRouter}

// Action is what an actor asks to do.
type Action string

// The actions. Beside each, what the detail of the question is.
const (
	ActionSee        Action = "see"         // the channel, or empty for a single subject
	ActionJoin       Action = "join"        // the channel
	ActionClaim      Action = "claim"       // the status, for oneself
	ActionClaimOther Action = "claim-other" // the status, for another
	ActionDecide     Action = "decide"      // the id of the request, or empty
	ActionDefine     Action = "define"      // the status that is added or removed
	ActionPolicy     Action = "policy"      // the policy's name
)

// Authorizer decides what actors may do. It is asked before anything changes
// and never about what stays within the core: that an agent must hold a grant
// to watch a channel and changes nobody's status but its own, that a status is
// not selectable, that nothing crosses a tenant. What the core refuses it cannot
// allow.
type Authorizer interface {
	// Allow returns nil if the actor may, an error wrapping [ErrNotAllowed] that
	// says why if not, and any other error if it cannot tell, which refuses the
	// call as [ErrUnavailable]. It may block until ctx is done, which is 5s after
	// the question at the latest, and may be called concurrently.
	Allow(ctx context.Context, actor Actor, action Action, subject Ref, detail string) error
}

// roleAuthorizer is the Authorizer of a tracker that is given none.
type roleAuthorizer struct{}

func (roleAuthorizer) Allow(_ context.Context, actor Actor, action Action, subject Ref, detail string) error {
	needs := []Role{RoleAgent, RoleSupervisor, RoleAdmin, RoleSystem}
	switch action {
	case ActionSee:
		return nil
	case ActionClaimOther, ActionDecide:
		needs = []Role{RoleSupervisor, RoleAdmin, RoleSystem}
	case ActionPolicy, ActionDefine:
		needs = []Role{RoleAdmin, RoleSystem}
	}
	if !slices.Contains(needs, cmp.Or(actor.Role, RoleAgent)) {
		return fmt.Errorf("presence: %w: %s in the role of %s may not %s %s; needed is one of %s",
			ErrNotAllowed, actor.Subject, cmp.Or(actor.Role, RoleAgent), action, cmp.Or(detail, subject.String()), join(needs))
	}
	return nil
}

// RoleAuthorizer returns the Authorizer that a tracker uses when it is given
// none: everybody sees, agents act for themselves, supervisors, admins and
// systems for others, admins and systems change the policy.
func RoleAuthorizer() Authorizer { return roleAuthorizer{} }

// join lists words for a message.
func join[T ~string](words []T) string {
	list := make([]string, len(words))
	for i, w := range words {
		list[i] = string(w)
	}
	return strings.Join(list, ", ")
}

// wordsOf turns words of any type into strings.
func wordsOf[T ~string](list []T) []string {
	texts := make([]string, len(list))
	for i, w := range list {
		texts[i] = string(w)
	}
	return texts
}

func sortedKeys[K cmp.Ordered, V any](m map[K]V) []K { return slices.Sorted(maps.Keys(m)) }
