// Package webhook posts notifications to an HTTP endpoint, signed by Standard
// Webhooks (https://www.standardwebhooks.com). It implements presence.Notifier.
//
//	notifier, err := webhook.New(&webhook.Options{URL: "https://example.com/hooks", Secret: "whsec_…"})
//	tracker, err := presence.New(&presence.Options{Notifier: notifier})
//
// # What the endpoint receives
//
// A POST with the body
//
//	{"type":"presence.notification","timestamp":"…","data":{…the notification…}}
//
// and the headers webhook-id, webhook-timestamp and webhook-signature. The id
// is that of the notification. Its bytes that a header cannot hold, and percent
// signs, are written as %XX. Every attempt has the same id and body, by which
// the endpoint recognises a repetition. Each attempt has its own timestamp and
// signature.
//
// # Failures
//
// A status from 200 to 299 is success. A failure that may pass is tried again:
// a broken connection, 429 Too Many Requests, and 500 to 599. Any other failure
// is final. The endpoint may ask for a pause with Retry-After. A redirect is
// followed only if it keeps method and body (307, 308) and leads to the same
// host.
package webhook

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/presence-go/presence"
	"github.com/presence-go/presence/adapters/internal/edge"
)

// Type is the type that the body names.
const Type = "presence.notification"

// Options configures a [Notifier]. URL and Secret are needed; the zero value of
// every other field means its default.
type Options struct {
	// URL is the endpoint, with the scheme http or https.
	URL string
	// Secret signs the requests: whsec_ and the base64 of 24 to 64 bytes.
	Secret string
	// Client sends the requests; nil means one of its own. Its CheckRedirect is
	// not used.
	Client *http.Client
	// Timeout is the longest time of one attempt. 0 means 5s.
	Timeout time.Duration
	// Retries is how often a failed attempt is repeated. 0 means 3, negative
	// never. The context of Notify, 10s for a tracker, limits all attempts
	// together. Notify returns at once if the next attempt would begin too
	// late.
	Retries int
	// Backoff is the longest pause before the first repetition. The shortest is
	// half of it. Each further pause is twice as long. 0 means 500ms.
	Backoff time.Duration
	// MaxWait is the longest pause. An endpoint that asks for a longer one is
	// not tried again. 0 means 30s.
	MaxWait time.Duration
	// MaxBody is the longest body in bytes. A longer notification is refused. 0
	// means 64 KiB.
	MaxBody int
}

// Notifier posts notifications to an endpoint. It is safe for concurrent use.
type Notifier struct {
	opts   Options
	url    *url.URL
	client *http.Client
	signer *standardwebhooks.Webhook
}

var _ presence.Notifier = (*Notifier)(nil)

const (
	secretPrefix = "whsec_"
	minKey       = 24
	maxKey       = 64
	maxHops      = 3
	maxDrained   = 64 << 10 // bytes read of a response, so that the connection can be used again
)

// New returns a notifier; nil options mean zero ones. It returns all faults of
// the options together.
func New(opts *Options) (*Notifier, error) {
	o := Options{}
	if opts != nil {
		o = *opts
	}
	faults := edge.NewFaults("webhook")
	endpoint := parseEndpoint(o.URL, faults)
	signer, err := newSigner(o.Secret)
	if err != nil {
		faults.Add("Secret", "%w", err)
	}
	edge.AtLeast(faults, "Timeout", &o.Timeout, 5*time.Second, 1)
	edge.AtLeast(faults, "Backoff", &o.Backoff, 500*time.Millisecond, 1)
	edge.AtLeast(faults, "MaxWait", &o.MaxWait, 30*time.Second, 1)
	edge.AtLeast(faults, "MaxBody", &o.MaxBody, 64<<10, 1)
	if err := faults.Err(); err != nil {
		return nil, err
	}
	o.Retries = max(cmp.Or(o.Retries, 3), 0)
	return &Notifier{opts: o, url: endpoint, client: newClient(o.Client), signer: signer}, nil
}

// parseEndpoint reads the URL of an endpoint. Its faults leave the URL out,
// since it may hold credentials.
func parseEndpoint(given string, faults *edge.Faults) *url.URL {
	u, err := url.Parse(given)
	switch {
	case given == "":
		faults.Add("URL", "it is needed")
	case err != nil:
		faults.Add("URL", "it cannot be read")
	case u.Scheme != "http" && u.Scheme != "https":
		faults.Add("URL", "scheme %q; allowed: http, https", u.Scheme)
	case u.Host == "":
		faults.Add("URL", "it names no host")
	}
	return u
}

// newSigner returns the signer of a secret.
func newSigner(secret string) (*standardwebhooks.Webhook, error) {
	if err := checkSecret(secret); err != nil {
		return nil, err
	}
	return standardwebhooks.NewWebhook(secret)
}

func checkSecret(secret string) error {
	encoded, ok := strings.CutPrefix(secret, secretPrefix)
	if !ok {
		return fmt.Errorf("allowed is a text that begins with %s", secretPrefix)
	}
	key, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil {
		return fmt.Errorf("what follows %s is not base64: %w", secretPrefix, err)
	}
	if len(key) < minKey || len(key) > maxKey {
		return fmt.Errorf("its key has %d bytes, allowed are %d to %d", len(key), minKey, maxKey)
	}
	return nil
}

// newClient returns a client that follows no redirect to another host.
func newClient(given *http.Client) *http.Client {
	client := new(http.Client)
	if given != nil {
		*client = *given
	} else if transport, ok := http.DefaultTransport.(*http.Transport); ok {
		transport = transport.Clone()
		transport.MaxIdleConnsPerHost = 16 // all notifications under way have one host
		client.Transport = transport
	}
	client.CheckRedirect = func(next *http.Request, via []*http.Request) error {
		first := via[0]
		if next.Method != http.MethodPost || next.URL.Scheme != first.URL.Scheme || next.URL.Host != first.URL.Host || len(via) > maxHops {
			return http.ErrUseLastResponse
		}
		return nil
	}
	return client
}

// message is the body of a request.
type message struct {
	Type      string                `json:"type"`
	Timestamp presence.Instant      `json:"timestamp"`
	Data      presence.Notification `json:"data"`
}

// Notify posts a notification, and repeats it after a failure that may pass. It
// gives a notification without an id one. It returns [presence.ErrInvalid] for
// a faulty notification, [presence.ErrLimit] for one longer than MaxBody, and
// [presence.ErrUnavailable] after the last attempt.
func (w *Notifier) Notify(ctx context.Context, n presence.Notification) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	n.ID = cmp.Or(n.ID, rand.Text())
	if len(n.ID) > presence.MaxID {
		return fmt.Errorf("webhook: %w notification: its id has %d bytes, allowed are %d", presence.ErrInvalid, len(n.ID), presence.MaxID)
	}
	body, err := json.Marshal(message{Type: Type, Timestamp: n.At, Data: n})
	if err != nil {
		return fmt.Errorf("webhook: %w notification %q: %w", presence.ErrInvalid, n.ID, err)
	}
	if len(body) > w.opts.MaxBody {
		return fmt.Errorf("webhook: %w notification %q: its body has %d bytes, allowed are %d", presence.ErrLimit, n.ID, len(body), w.opts.MaxBody)
	}
	id := headerID(n.ID)
	for attempt := 0; ; attempt++ {
		err := w.post(ctx, id, body)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return fmt.Errorf("webhook: notification %q: %w (attempt %d: %w)", n.ID, context.Cause(ctx), attempt+1, err)
		}
		passing, ok := errors.AsType[*passingError](err)
		if !ok {
			return fmt.Errorf("webhook: notification %q: %w", n.ID, err)
		}
		giveUp := func(why string) error {
			return fmt.Errorf("webhook: %w endpoint: notification %q after %d attempts%s: %w", presence.ErrUnavailable, n.ID, attempt+1, why, err)
		}
		if attempt >= w.opts.Retries {
			return giveUp("")
		}
		wait := w.backoff(attempt)
		if passing.retryAfter > w.opts.MaxWait {
			return giveUp(fmt.Sprintf("; it asks for a pause of %v", passing.retryAfter))
		}
		wait = max(wait, passing.retryAfter)
		if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) <= wait {
			return giveUp("; the time is over")
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return fmt.Errorf("webhook: notification %q: %w (attempt %d: %w)", n.ID, context.Cause(ctx), attempt+1, err)
		}
	}
}

// backoff returns the pause after an attempt: longer each time, and at random,
// so that notifications that failed together are repeated apart.
func (w *Notifier) backoff(attempt int) time.Duration {
	wait := w.opts.Backoff
	for ; attempt > 0 && wait < w.opts.MaxWait; attempt-- {
		wait *= 2
	}
	wait = min(wait, w.opts.MaxWait)
	return wait/2 + mathrand.N(wait/2+1)
}

// passingError is a failure that may pass.
type passingError struct {
	err        error
	retryAfter time.Duration // the pause that the endpoint asks for, or 0
}

func (e *passingError) Error() string { return e.err.Error() }
func (e *passingError) Unwrap() error { return e.err }

// post makes one attempt.
func (w *Notifier) post(ctx context.Context, id string, body []byte) error {
	ctx, cancel := context.WithTimeout(ctx, w.opts.Timeout)
	defer cancel()
	now := time.Now()
	signature, err := w.signer.Sign(id, now, body)
	if err != nil {
		return fmt.Errorf("signing: %w", err)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, w.url.String(), bytes.NewReader(body))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("User-Agent", "presence-webhook")
	request.Header.Set(standardwebhooks.HeaderWebhookID, id)
	request.Header.Set(standardwebhooks.HeaderWebhookTimestamp, strconv.FormatInt(now.Unix(), 10))
	request.Header.Set(standardwebhooks.HeaderWebhookSignature, signature)
	response, err := w.client.Do(request)
	if err != nil {
		if u, ok := errors.AsType[*url.Error](err); ok {
			err = u.Err // the URL may hold credentials
		}
		return &passingError{err: fmt.Errorf("%s cannot be reached: %w", w.url.Host, err)}
	}
	defer response.Body.Close()
	_, _ = io.CopyN(io.Discard, response.Body, maxDrained)
	switch code := response.StatusCode; {
	case code >= 200 && code < 300:
		return nil
	case code >= 300 && code < 400:
		return fmt.Errorf("%s redirects with status %s, which is not followed", w.url.Host, response.Status)
	case code == http.StatusTooManyRequests, code >= 500:
		return &passingError{
			err:        fmt.Errorf("%s answers with status %s", w.url.Host, response.Status),
			retryAfter: retryAfter(response.Header.Get("Retry-After"), time.Now()),
		}
	default:
		return fmt.Errorf("%s answers with status %s", w.url.Host, response.Status)
	}
}

// retryAfter reads the header Retry-After: seconds or a date. It returns 0 for
// any other value.
func retryAfter(header string, now time.Time) time.Duration {
	if seconds, err := strconv.ParseUint(header, 10, 31); err == nil {
		return time.Duration(seconds) * time.Second
	}
	if at, err := http.ParseTime(header); err == nil {
		return max(at.Sub(now), 0)
	}
	return 0
}

// headerID returns an id in a form that passes through headers unchanged.
func headerID(id string) string {
	const hex = "0123456789ABCDEF"
	var b strings.Builder
	for _, c := range []byte(id) {
		if c <= ' ' || c > '~' || c == '%' {
			b.Write([]byte{'%', hex[c>>4], hex[c&15]})
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}
