package main

import (
	"container/heap"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/presence-go/presence"
	"github.com/presence-go/presence/adapters/wire"
)

const (
	audience = "presence"
	// maxLife is the longest accepted life of a token. Used tokens are kept until
	// they end, so that it also limits their number.
	maxLife = 2 * time.Minute
	// maxID is the longest accepted id of a token, in bytes.
	maxID = 64
)

// claims is the contents of a token: the subject, the tenant and the role.
type claims struct {
	Tenant string        `json:"tenant,omitempty"`
	Role   presence.Role `json:"role,omitempty"`
	jwt.RegisteredClaims
}

// Tokens issues and checks tokens that open one session each. It is safe for
// concurrent use.
type Tokens struct {
	key    []byte
	max    int
	now    func() time.Time
	parser *jwt.Parser

	mu   sync.Mutex
	used map[string]bool
	ends spent // the same ids, by their end
}

// NewTokens returns tokens signed with a key of 32 bytes or more. It keeps at
// most max used tokens.
func NewTokens(key []byte, max int, now func() time.Time) (*Tokens, error) {
	if len(key) < 32 || max < 1 {
		return nil, fmt.Errorf("jwt: a key of %d bytes and room for %d tokens: at least 32 and 1 are needed", len(key), max)
	}
	return &Tokens{
		key: key, max: max, now: now, used: make(map[string]bool),
		parser: jwt.NewParser(
			jwt.WithValidMethods([]string{jwt.SigningMethodHS256.Alg()}), // a token cannot choose another one
			jwt.WithAudience(audience), jwt.WithExpirationRequired(), jwt.WithTimeFunc(now),
		),
	}, nil
}

// Issue returns a token for an actor.
func (t *Tokens) Issue(actor presence.Actor, life time.Duration) (string, error) {
	now := t.now()
	return jwt.NewWithClaims(jwt.SigningMethodHS256, claims{actor.Subject.Tenant, actor.Role, jwt.RegisteredClaims{
		Subject: actor.Subject.ID, ID: rand.Text(), Audience: jwt.ClaimStrings{audience},
		IssuedAt: jwt.NewNumericDate(now), ExpiresAt: jwt.NewNumericDate(now.Add(life)),
	}}).SignedString(t.key)
}

// Authenticate returns the identity for a new session, for [wire.Options]. It
// accepts each token once. A second use is by a copy, or by a client that must
// fetch another token.
func (t *Tokens) Authenticate(r *http.Request) (presence.Identity, error) {
	var c claims
	if _, err := t.parser.ParseWithClaims(wire.Token(r), &c, func(*jwt.Token) (any, error) { return t.key, nil }); err != nil {
		return presence.Identity{}, fmt.Errorf("jwt: %w", err)
	}
	switch c.Role {
	case presence.RoleAgent, presence.RoleSupervisor, presence.RoleAdmin, presence.RoleVisitor:
	default: // such as an administrator's, who has other ways in
		return presence.Identity{}, fmt.Errorf("jwt: role %q is not for browsers", c.Role)
	}
	if c.Subject == "" || c.ID == "" || len(c.ID) > maxID {
		return presence.Identity{}, fmt.Errorf("jwt: a token needs a subject and an id of up to %d bytes", maxID)
	}
	if err := t.spend(c.ID, c.ExpiresAt.Time); err != nil {
		return presence.Identity{}, err
	}
	return presence.Identity{Actor: presence.Actor{Subject: presence.Ref{Tenant: c.Tenant, ID: c.Subject}, Role: c.Role}}, nil
}

// spend records that a token has been used, until the token ends.
func (t *Tokens) spend(id string, ends time.Time) error {
	now := t.now()
	t.mu.Lock()
	defer t.mu.Unlock()
	for len(t.ends) > 0 && !t.ends[0].at.After(now) {
		delete(t.used, heap.Pop(&t.ends).(end).id)
	}
	switch {
	case ends.Sub(now) > maxLife:
		return fmt.Errorf("jwt: the token lives for %v more, at most %v is allowed", ends.Sub(now), maxLife)
	case t.used[id]:
		return errors.New("jwt: the token has been used before")
	case len(t.used) >= t.max:
		// A dropped token that has not ended could be used again.
		return fmt.Errorf("jwt: %w: %d tokens have been used within %v", presence.ErrUnavailable, t.max, maxLife)
	}
	t.used[id] = true
	heap.Push(&t.ends, end{id, ends})
	return nil
}

// spent orders used tokens by their end.
type spent []end

type end struct {
	id string
	at time.Time
}

func (s spent) Len() int           { return len(s) }
func (s spent) Less(i, j int) bool { return s[i].at.Before(s[j].at) }
func (s spent) Swap(i, j int)      { s[i], s[j] = s[j], s[i] }
func (s *spent) Push(x any)        { *s = append(*s, x.(end)) }
func (s *spent) Pop() any {
	last := (*s)[len(*s)-1]
	*s = (*s)[:len(*s)-1]
	return last
}
