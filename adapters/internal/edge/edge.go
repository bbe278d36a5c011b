// Package edge holds what every adapter that takes requests from clients needs:
// checks of options, origins, rates, seats and who acts.
package edge

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"

	"github.com/presence-go/presence"
)

// Faults collects what is wrong with the options of a constructor, which reports
// all of it together.
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

// Tracker adds a fault if there is no tracker.
func (f *Faults) Tracker(t *presence.Tracker) {
	if t == nil {
		f.list = append(f.list, fmt.Errorf("%s: %w tracker: it is nil", f.pkg, presence.ErrInvalid))
	}
}

// Err returns all faults joined, or nil if there are none.
func (f *Faults) Err() error { return errors.Join(f.list...) }

// AtLeast gives an option that is zero its default, and adds a fault if the option
// is below least.
func AtLeast[T cmp.Ordered](f *Faults, option string, v *T, byDefault, least T) {
	var zero T
	switch {
	case *v == zero:
		*v = byDefault
	case *v < least:
		f.Add(option, "%v is too small, at least %v is needed", *v, least)
	}
}

// Refusal is why a request is refused.
type Refusal struct {
	Status int // of HTTP
	Text   string
}

func (r *Refusal) Error() string { return r.Text }

// Answer refuses the request.
func (r *Refusal) Answer(w http.ResponseWriter) { http.Error(w, r.Text, r.Status) }

// words maps sentinels to the words by which clients are told of them.
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

// WordUnavailable is the word of an error that is not the client's to know.
const WordUnavailable = "unavailable"

// Word returns the word of an error's sentinel, and WordUnavailable for an error
// of storage, of an authorizer or of no sentinel. The text of an error is for a
// client unless its word is WordUnavailable.
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

// Allowed returns what an error names as allowed, or nil.
func Allowed(err error) []string {
	if e, ok := errors.AsType[*presence.Error](err); ok {
		return e.Allowed
	}
	return nil
}
