package presence

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// What can be wrong with a call. Errors of this package wrap one of these and
// say what was given and what is allowed.
var (
	ErrInvalid     = errors.New("invalid")     // an id, text, time or word outside its limits
	ErrUnknown     = errors.New("unknown")     // no such subject, connection, channel or status
	ErrNotAllowed  = errors.New("not allowed") // this actor may not do this
	ErrOffline     = errors.New("offline")     // not possible while the subject is not connected
	ErrDisabled    = errors.New("disabled")    // presence is switched off for the subject or tenant
	ErrLimit       = errors.New("limit")       // a bound on something that callers can grow
	ErrStale       = errors.New("stale")       // said for a connection that has been replaced or has left
	ErrClosed      = errors.New("closed")      // the tracker, connection or watch is closed
	ErrUnavailable = errors.New("unavailable") // storage or authorizer cannot answer now; nothing has changed
	ErrConflict    = errors.New("conflict")    // storage holds another revision than expected
)

// Limits on what callers can grow.
const (
	MaxID          = 128 // bytes of an id: subject, connection, channel, status, key
	MaxReason      = 64  // bytes of a claim's reason
	MaxText        = 512 // bytes of a claim's text
	MaxConnections = 32  // per subject
	MaxClaims      = 32  // per subject
	MaxEndpoints   = 16  // per subject
	MaxChannels    = 256 // per subject
	MaxStatuses    = 256 // per policy
)

// Instant is a point in time, to the nanosecond, from 1608 to 2192. Zero means
// none. Instants compare with the ordinary operators; [At] and [Instant.Time]
// convert. They count from 1900, so that a fake clock that starts at 1970 does
// not start at none.
type Instant int64

const epochSeconds = -2208988800 // 1900-01-01 in Unix time

// At returns the instant of t: none for the zero time, the nearest there is for
// one out of range.
func At(t time.Time) Instant {
	if t.IsZero() {
		return 0
	}
	sec := t.Unix() - epochSeconds
	switch limit := int64(math.MaxInt64 / time.Second); {
	case sec >= limit:
		return math.MaxInt64
	case sec <= -limit:
		return math.MinInt64
	}
	return Instant(sec*int64(time.Second) + int64(t.Nanosecond()))
}

// Time returns i in UTC, or the zero time for none.
func (i Instant) Time() time.Time {
	if i == 0 {
		return time.Time{}
	}
	return time.Unix(epochSeconds, int64(i)).UTC()
}

// Add returns the instant d after i, or the first or last there is.
func (i Instant) Add(d time.Duration) Instant {
	switch sum := i + Instant(d); {
	case d >= 0 && sum < i:
		return math.MaxInt64
	case d < 0 && sum > i:
		return math.MinInt64
	default:
		return sum
	}
}

// Sub returns the time from o to i, or the longest there is.
func (i Instant) Sub(o Instant) time.Duration {
	switch d := time.Duration(i - o); {
	case i >= o && d < 0:
		return math.MaxInt64
	case i < o && d > 0:
		return math.MinInt64
	default:
		return d
	}
}

// String returns i in RFC 3339, or "" for none.
func (i Instant) String() string {
	if i == 0 {
		return ""
	}
	return i.Time().Format(time.RFC3339Nano)
}

// MarshalText encodes i in RFC 3339.
func (i Instant) MarshalText() ([]byte, error) { return []byte(i.String()), nil }

// UnmarshalText decodes what MarshalText wrote.
func (i *Instant) UnmarshalText(text []byte) error {
	*i = 0
	if len(text) == 0 {
		return nil
	}
	t, err := time.Parse(time.RFC3339Nano, string(text))
	if err != nil {
		return fmt.Errorf("presence: %w instant: %w", ErrInvalid, err)
	}
	*i = At(t)
	return nil
}

// Ref names a subject or a channel within its tenant. The empty tenant is the
// default one. Ids are compared bytewise.
type Ref struct {
	Tenant string `json:"tenant,omitzero"`
	ID     string `json:"id"`
}

// ID returns a Ref in the default tenant.
func ID(id string) Ref { return Ref{ID: id} }

// String returns "id", or "tenant/id" outside the default tenant.
func (r Ref) String() string {
	if r.Tenant == "" {
		return r.ID
	}
	return r.Tenant + "/" + r.ID
}

func compareRefs(a, b Ref) int {
	if c := strings.Compare(a.Tenant, b.Tenant); c != 0 {
		return c
	}
	return strings.Compare(a.ID, b.ID)
}

// SubjectKind says what a subject is.
type SubjectKind string

// The kinds of subject. The zero Kind means human.
const (
	KindHuman   SubjectKind = "human"
	KindBot     SubjectKind = "bot"
	KindService SubjectKind = "service"
)

// checkID checks an id of any kind. The error names what is wrong, for the
// caller to say what the id is of.
func checkID(id string) error {
	switch {
	case id != "" && len(id) <= MaxID && plainText(id):
		return nil // as nearly all are
	case id == "":
		return fmt.Errorf("id is %w: it is empty", ErrInvalid)
	case len(id) > MaxID:
		return fmt.Errorf("id is %w: %d bytes, at most %d are allowed", ErrInvalid, len(id), MaxID)
	case !utf8.ValidString(id):
		return fmt.Errorf("id %q is %w: it is not UTF-8", id, ErrInvalid)
	case strings.ContainsFunc(id, unicode.IsControl):
		return fmt.Errorf("id %q is %w: control characters are not allowed", id, ErrInvalid)
	}
	return nil
}

// plainText reports whether text has printable ASCII characters alone.
func plainText(text string) bool {
	for i := range len(text) {
		if c := text[i]; c < ' ' || c > '~' {
			return false
		}
	}
	return true
}

// checkGiven checks an id that callers may leave to the core.
func checkGiven(what, id string) error {
	if id == "" {
		return nil
	}
	return checkNamed(what, id)
}

func checkNamed(what, id string) error {
	if err := checkID(id); err != nil {
		return fmt.Errorf("presence: %s %w", what, err)
	}
	return nil
}

func checkRef(what string, r Ref) error {
	if err := checkID(r.ID); err != nil {
		return fmt.Errorf("presence: %s %w", what, err)
	}
	if r.Tenant != "" {
		if err := checkID(r.Tenant); err != nil {
			return fmt.Errorf("presence: tenant of %s %q: %w", what, r.ID, err)
		}
	}
	return nil
}

func checkText(what, text string, limit int) error {
	if len(text) > limit {
		return fmt.Errorf("presence: %w %s: %d bytes, at most %d are allowed", ErrInvalid, what, len(text), limit)
	}
	if !utf8.ValidString(text) {
		return fmt.Errorf("presence: %w %s: it is not UTF-8", ErrInvalid, what)
	}
	if strings.Contains(text, "\x00") { // some storages cannot keep it
		return fmt.Errorf("presence: %w %s: it contains a zero character", ErrInvalid, what)
	}
	return nil
}
