// Package edge holds what all adapters need that take requests from clients:
// checks of options, origins, rates, seats and actors.
package edge

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"

	"github.com/presence-go/presence"
)

// Faults collects the faults of the options of a constructor, which returns all
// of them together.
type Faults struct {
	pkg  string
	list []error
}

// NewFaults returns an empty collection for the constructor of a package.
func NewFaults(pkg string) *Faults { return &Faults{pkg: pkg} }

// Add adds a fault of an option. Its error wraps [presence.ErrInvalid].
func (f *Faults) Add(option, format string, args ...any) {
	f.list = append(f.list, fmt.Errorf("%s: %w option %q: "+format, append([]any{f.pkg, presence.ErrInvalid, option}, args...)...))
}

// Tracker adds a fault if t is nil.
func (f *Faults) Tracker(t *presence.Tracker) {
	if t == nil {
		f.list = append(f.list, fmt.Errorf("%s: %w tracker: it is nil", f.pkg, presence.ErrInvalid))
	}
}

// Err returns all faults joined, or nil without a fault.
func (f *Faults) Err() error { return errors.Join(f.list...) }

// AtLeast sets an option that is zero to its default, and adds a fault if the
// option is below least.
func AtLeast[T cmp.Ordered](f *Faults, option string, v *T, byDefault, least T) {
	var zero T
	switch {
	case *v == zero:
		*v = byDefault
	case *v < least:
		f.Add(option, "%v is too small, at least %v is needed", *v, least)
	}
}

// Refusal is the answer to a request that is refused.
type Refusal struct {
	Status int // of HTTP
	Text   string
}

func (r *Refusal) Error() string { return r.Text }

// Answer refuses the request.
func (r *Refusal) Answer(w http.ResponseWriter) { http.Error(w, r.Text, r.Status) }

// words maps sentinels to the words of errors for clients.
var words = []struct {
	err  error
	word string
}{
	{presence.ErrInvalid, "invalid"},
	{presence.ErrUnknown, "unknown"},
	{presence.ErrNotAllowed, "not-allowed"},
	{presence.ErrLimit, "limit"},
	{presence.ErrStale, "stale"},
	{presence.ErrOffline, "offline"},
	{presence.ErrDisabled, "disabled"},
	{presence.ErrClosed, "closed"},
}

// WordUnavailable is the word of an error that is hidden from clients.
const WordUnavailable = "unavailable"

// Word returns the word of an error's sentinel. It returns WordUnavailable for
// an error of storage, of an authorizer or of no sentinel: hide the text of
// such an error from clients.
func Word(err error) string {
	if !errors.Is(err, presence.ErrUnavailable) && !errors.Is(err, presence.ErrConflict) {
		for _, w := range words {
			if errors.Is(err, w.err) {
				return w.word
			}
		}
	}
	return WordUnavailable
}

// Allowed returns what an error lists as allowed, or nil.
func Allowed(err error) []string {
	if e, ok := errors.AsType[*presence.Error](err); ok {
		return e.Allowed
	}
	return nil
}
