package presence

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// The sentinels. Every error of this package is an [*Error] that wraps one of them.
var (
	ErrInvalid     = errors.New("invalid")     // an id, text, time or word is outside its limits
	ErrUnknown     = errors.New("unknown")     // no such subject, connection, channel or status
	ErrNotAllowed  = errors.New("not allowed") // this actor may not do this
	ErrOffline     = errors.New("offline")     // not possible while the subject is not connected
	ErrDisabled    = errors.New("disabled")    // presence is switched off for the subject or tenant
	ErrLimit       = errors.New("limit")       // a limit on what callers can grow is reached
	ErrStale       = errors.New("stale")       // the connection has been replaced or has left
	ErrClosed      = errors.New("closed")      // the tracker, connection or watch is closed
	ErrUnavailable = errors.New("unavailable") // storage or authorizer cannot answer now; nothing has changed
	ErrConflict    = errors.New("conflict")    // storage holds another revision than expected
)

// Error is a refusal: what was refused, what was given and what is allowed.
// [errors.Is] finds the sentinel, [errors.As] the rest. Adapters map Err, copy
// Allowed and parse no text.
type Error struct {
	Err     error    // the sentinel
	What    string   // the kind of thing refused, such as "status"
	Given   string   // what was given, at most 128 bytes of it; empty if nothing was
	Allowed []string // what is allowed instead, if that is a list
	Until   Instant  // when to try again; zero if waiting does not help
	Text    string   // the reason, for people
	Cause   error    // the error underneath, if one caused this
}

const maxGiven = 128 // bytes of [Error.Given]

// refuse returns the error of a refusal. The caller may fill in further fields.
func refuse(sentinel error, what, given, format string, args ...any) *Error {
	if len(given) > maxGiven {
		given = strings.ToValidUTF8(given[:maxGiven], "")
	}
	return &Error{Err: sentinel, What: what, Given: given, Text: fmt.Sprintf(format, args...)}
}

// allow names what is allowed instead.
func (e *Error) allow(words ...string) *Error {
	e.Allowed = words
	return e
}

// because names the error underneath.
func (e *Error) because(cause error) *Error {
	e.Cause = cause
	return e
}

// Error returns: presence: sentinel what "given": text; allowed: a, b: cause.
// Parts that are empty are left out.
func (e *Error) Error() string {
	b := []byte("presence: ")
	b = append(b, e.Err.Error()...)
	b = append(append(b, ' '), e.What...)
	if e.Given != "" {
		b = strconv.AppendQuote(append(b, ' '), e.Given)
	}
	if e.Text != "" {
		b = append(append(b, ": "...), e.Text...)
	}
	if len(e.Allowed) > 0 {
		b = append(append(b, "; allowed: "...), strings.Join(e.Allowed, ", ")...)
	}
	if e.Until != 0 {
		b = append(append(b, "; try again at "...), e.Until.String()...)
	}
	if e.Cause != nil {
		b = append(append(b, ": "...), e.Cause.Error()...)
	}
	return string(b)
}

// Unwrap returns the sentinel and the cause.
func (e *Error) Unwrap() []error {
	if e.Cause == nil {
		return []error{e.Err}
	}
	return []error{e.Err, e.Cause}
}

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
// none. Compare instants with the ordinary operators. [At] and [Instant.Time]
// convert. Instants count from 1900, so that a fake clock at 1970 is not zero.
type Instant int64

const epochSeconds = -2208988800 // 1900-01-01 in Unix time

// At returns the instant of t: zero for the zero time, the first or last instant
// for a time out of range.
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

// Time returns i in UTC, or the zero time for zero.
func (i Instant) Time() time.Time {
	if i == 0 {
		return time.Time{}
	}
	return time.Unix(epochSeconds, int64(i)).UTC()
}

// Add returns the instant d after i. It returns the first or last instant if the sum
// is out of range.
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

// Sub returns the time from o to i. It returns the longest duration if the
// difference is out of range.
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

// String returns i in RFC 3339, or "" for zero.
func (i Instant) String() string {
	if i == 0 {
		return ""
	}
	return i.Time().Format(time.RFC3339Nano)
}

// MarshalText encodes i in RFC 3339.
func (i Instant) MarshalText() ([]byte, error) { return []byte(i.String()), nil }

// UnmarshalText decodes what MarshalText wrote. It returns [ErrInvalid] for any
// other text.
func (i *Instant) UnmarshalText(text []byte) error {
	*i = 0
	if len(text) == 0 {
		return nil
	}
	t, err := time.Parse(time.RFC3339Nano, string(text))
	if err != nil {
		return refuse(ErrInvalid, "time", string(text), "a time is written as in RFC 3339").because(err)
	}
	*i = At(t)
	return nil
}

// Ref names a subject within its tenant. The empty tenant is the default one.
// Ids are compared bytewise.
type Ref struct {
	Tenant string `json:"tenant,omitzero"`
	ID     string `json:"id"`
}

// ID returns the name of a subject in the default tenant.
func ID(id string) Ref { return Ref{ID: id} }

// String returns "id", or "tenant/id" outside the default tenant.
func (r Ref) String() string {
	if r.Tenant == "" {
		return r.ID
	}
	return r.Tenant + "/" + r.ID
}

// Channel names a channel within its tenant, as [Ref] names a subject. It is a
// type of its own so that a channel cannot stand where a subject belongs.
type Channel Ref

// ChannelID returns the name of a channel in the default tenant.
func ChannelID(id string) Channel { return Channel{ID: id} }

// String returns "id", or "tenant/id" outside the default tenant.
func (c Channel) String() string { return Ref(c).String() }

func compareRefs(a, b Ref) int {
	if c := strings.Compare(a.Tenant, b.Tenant); c != 0 {
		return c
	}
	return strings.Compare(a.ID, b.ID)
}

// SubjectKind is the kind of a subject: a person, a bot or a service.
type SubjectKind string

// The kinds of subject. The zero SubjectKind means human.
const (
	KindHuman   SubjectKind = "human"
	KindBot     SubjectKind = "bot"
	KindService SubjectKind = "service"
)

// checkID checks an id. It accepts the ids that [MaxID] and the rules of text allow.
func checkID(what, id string) error {
	if fault := idFault(id); fault != "" {
		return refuse(ErrInvalid, what, id, "%s", fault)
	}
	return nil
}

// checkOptionalID checks an id that callers may leave to the core.
func checkOptionalID(what, id string) error {
	if id == "" {
		return nil
	}
	return checkID(what, id)
}

// checkRef checks the name of a subject or channel.
func checkRef(what string, r Ref) error {
	if err := checkID(what, r.ID); err != nil {
		return err
	}
	return checkOptionalID("tenant", r.Tenant)
}

// idFault returns why an id is invalid, or "".
func idFault(id string) string {
	switch {
	case id != "" && len(id) <= MaxID && plainText(id):
		return "" // as nearly all are
	case id == "":
		return "the id is empty"
	case len(id) > MaxID:
		return fmt.Sprintf("the id has %d bytes, at most %d are allowed", len(id), MaxID)
	case !utf8.ValidString(id):
		return "the id is not UTF-8"
	case strings.ContainsFunc(id, unicode.IsControl):
		return "the id has a control character"
	}
	return ""
}

// plainText reports whether text has only printable ASCII characters.
func plainText(text string) bool {
	for i := range len(text) {
		if c := text[i]; c < ' ' || c > '~' {
			return false
		}
	}
	return true
}

// checkText checks a text of at most limit bytes.
func checkText(what, text string, limit int) error {
	switch {
	case len(text) > limit:
		return refuse(ErrInvalid, what, text, "it has %d bytes, at most %d are allowed", len(text), limit)
	case !utf8.ValidString(text):
		return refuse(ErrInvalid, what, text, "it is not UTF-8")
	case strings.Contains(text, "\x00"): // some storages cannot keep it
		return refuse(ErrInvalid, what, text, "it has a zero character")
	}
	return nil
}
