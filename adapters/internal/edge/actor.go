package edge

import (
	"errors"
	"log/slog"
	"net/http"
	"strings"

	"github.com/presence-go/presence"
)

// CheckActor checks what an adapter's Authenticate returned for a request. An
// error refuses with status 401, one that wraps [presence.ErrNotAllowed] with 403
// and its text, one that wraps [presence.ErrUnavailable] with 503. An actor
// without an id is a fault of the application: it is logged and answered with 500.
func CheckActor(pkg string, log *slog.Logger, r *http.Request, who presence.Identity, err error) (presence.Identity, *Refusal) {
	if err == nil && who.Actor.Subject.ID == "" {
		log.Error(pkg+": Authenticate returned an actor without an id and no error", "remote", r.RemoteAddr, "role", who.Actor.Role)
		return presence.Identity{}, &Refusal{http.StatusInternalServerError, pkg + ": authentication failed on the server"}
	}
	if err == nil {
		// The strings may be parts of the request. The clones keep it from
		// staying in memory.
		subject := &who.Actor.Subject
		subject.ID, subject.Tenant = strings.Clone(subject.ID), strings.Clone(subject.Tenant)
		return who, nil
	}
	log.Debug(pkg+": not authenticated", "remote", r.RemoteAddr, "error", err)
	switch {
	case errors.Is(err, presence.ErrNotAllowed):
		return presence.Identity{}, &Refusal{http.StatusForbidden, err.Error()}
	case errors.Is(err, presence.ErrUnavailable):
		return presence.Identity{}, &Refusal{http.StatusServiceUnavailable, pkg + ": authentication is unavailable; try again"}
	}
	return presence.Identity{}, &Refusal{http.StatusUnauthorized, pkg + ": log in first"}
}

// Present reports whether an actor has a presence of its own. Visitors and
// systems only watch.
func Present(actor presence.Actor) bool {
	return actor.Role != presence.RoleVisitor && actor.Role != presence.RoleSystem
}
