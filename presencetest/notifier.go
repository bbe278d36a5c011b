package presencetest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/presence-go/presence"
)

// NotifierCase is a notifier to check, with its other end.
type NotifierCase struct {
	Notifier presence.Notifier
	// Receive returns a notification that arrived at the other end. It waits until
	// one arrives or ctx is done. One goroutine at a time calls it, while Notify
	// runs.
	Receive func(ctx context.Context) (presence.Notification, error)
}

// CheckNotifier checks a notifier against the contract of [presence.Notifier].
// It calls open for every rule. The other end may receive a notification more
// than once.
func CheckNotifier(ctx context.Context, open func(context.Context) (NotifierCase, error)) error {
	return notifierSuite.check(ctx, open)
}

// RunNotifier runs [CheckNotifier] with a subtest for each rule.
func RunNotifier(t *testing.T, open func(context.Context) (NotifierCase, error)) {
	t.Helper()
	notifierSuite.run(t, open)
}

var notifierSuite = suite[NotifierCase, notifierProbe]{
	name:  "notifier",
	probe: func(p *probe, c NotifierCase) notifierProbe { return notifierProbe{p, c} },
	rules: notifierRules,
}

type notifierProbe struct {
	*probe
	NotifierCase
}

// note is a notification that differs from those of other numbers.
func note(i int) presence.Notification {
	return presence.Notification{
		ID: fmt.Sprintf("n-%d", i), Subject: ann, Kind: "push", Payload: json.RawMessage(fmt.Sprintf(`{"text":"number %d"}`, i)), At: second(i + 1),
	}
}

// text is the part of a notification that must arrive. The payload counts by
// its value: order of keys, white space and escapes may differ.
func text(n presence.Notification) string {
	payload := ""
	if len(n.Payload) > 0 {
		var value any
		decoder := json.NewDecoder(bytes.NewReader(n.Payload))
		decoder.UseNumber()
		if err := decoder.Decode(&value); err != nil {
			payload = "that is no JSON: " + string(n.Payload)
		} else if data, err := json.Marshal(value); err == nil {
			payload = string(data)
		}
	}
	return fmt.Sprintf("id %s, subject %s of tenant %q, kind %s, channel %q, payload %s, at %s", n.ID, n.Subject.ID, n.Subject.Tenant, n.Kind, n.Channel, payload, n.At)
}

// deliver calls Notify for all notifications and waits until each has arrived.
func (p notifierProbe) deliver(concurrently bool, notifications ...presence.Notification) map[string]presence.Notification {
	if p.failed() {
		return nil
	}
	timeout, stop := context.WithTimeout(p.ctx, patience)
	defer stop()
	ctx, cancel := context.WithCancelCause(timeout)
	defer cancel(nil)
	calls := make(chan error, len(notifications))
	notify := func(n presence.Notification) {
		n.Payload = bytes.Clone(n.Payload)
		err := guard(func() error { return p.Notifier.Notify(ctx, n) })
		if err != nil {
			cancel(fmt.Errorf("Notify: %w", err))
		}
		calls <- err
	}
	if concurrently {
		for _, n := range notifications {
			go notify(n)
		}
	} else {
		go func() {
			for _, n := range notifications {
				notify(n)
			}
		}()
	}
	received := make(map[string]presence.Notification)
	for len(received) < len(notifications) && !p.failed() {
		n, err := p.Receive(ctx)
		if err != nil {
			p.failf("wanted %d notifications to arrive, got %v and then %w (%w)",
				len(notifications), slices.Sorted(maps.Keys(received)), err, orNil(context.Cause(ctx)))
			cancel(nil)
			break
		}
		received[n.ID] = n
	}
	for range notifications {
		if err := inTime(func() error { return <-calls }); err != nil {
			p.failf("Notify: wanted no error, got %w", err)
		}
	}
	return received
}

// arrived checks that a notification was received as it was sent.
func (p notifierProbe) arrived(received map[string]presence.Notification, n presence.Notification) {
	if got, ok := received[n.ID]; !ok {
		p.failf("wanted notification %s to arrive, got others only", n.ID)
	} else if text(got) != text(n) {
		p.failf("wanted %s; got %s", brief(text(n)), brief(text(got)))
	}
}

var notifierRules = []rule[notifierProbe]{
	{
		name: "whole",
		text: "A notification arrives with all of its fields as given.",
		check: func(p notifierProbe) {
			full := presence.Notification{
				ID: "n-ü:1", Subject: presence.Ref{Tenant: "acme", ID: "ann"}, Kind: "email", Channel: "support/1",
				Payload: json.RawMessage(`{"a":[1,2.5,"<é>\u2028"],"big":12345678901234567890,"b":null}`), At: second(4_000_000_000) + 123_456_789,
			}
			p.arrived(p.deliver(false, full), full)
			bare := presence.Notification{ID: "n-2", Subject: bob, Kind: "push"}
			p.arrived(p.deliver(false, bare), bare)
			long := note(3)
			long.Subject = cid
			long.Payload = json.RawMessage(`"` + strings.Repeat("x", 4000) + `"`)
			p.arrived(p.deliver(false, long), long)
		},
	},
	{
		name: "each",
		text: "Every notification arrives, also several to one subject.",
		check: func(p notifierProbe) {
			var all []presence.Notification
			for i := range 10 {
				all = append(all, note(i))
			}
			p.deliver(false, all...)
		},
	},
	{
		name: "concurrent",
		text: "Notifications given concurrently each arrive with their own fields.",
		check: func(p notifierProbe) {
			var all []presence.Notification
			for i := range 16 {
				n := note(i)
				n.Subject = presence.ID(fmt.Sprintf("subject-%d", i))
				all = append(all, n)
			}
			received := p.deliver(true, all...)
			for _, n := range all {
				if !p.failed() {
					p.arrived(received, n)
				}
			}
		},
	},
	{
		name: "done-context",
		text: "Notify returns an error wrapping the context's if that is done before the call. If no receiver reads, it returns when its context ends.",
		check: func(p notifierProbe) {
			err := inTime(func() error { return p.Notifier.Notify(done(p.ctx), note(1)) })
			if !errors.Is(err, context.Canceled) {
				p.failf("Notify with a context that is done: wanted an error wrapping context.Canceled, got %w", orNil(err))
			}
			ctx, cancel := context.WithTimeout(p.ctx, aWhile)
			defer cancel()
			for i := range 4 {
				if err := inTime(func() error { return p.Notifier.Notify(ctx, note(i)) }); errors.Is(err, errHangs) {
					p.failf("Notify without a receiver: wanted it to return when its context is done, got %w", err)
					return
				}
			}
		},
	},
	{
		name: "payload",
		text: "The payload belongs to the caller: Notify does not change it, and does not use it after returning.",
		check: func(p notifierProbe) {
			n := note(1)
			wanted := text(n)
			given := bytes.Clone(n.Payload)
			ctx, cancel := context.WithTimeout(p.ctx, patience)
			defer cancel()
			var got presence.Notification
			received := make(chan error, 1)
			go func() {
				received <- guard(func() (err error) { got, err = p.Receive(ctx); return err })
			}()
			if err := p.Notifier.Notify(ctx, n); err != nil {
				p.failf("Notify: wanted no error, got %w", err)
				cancel()
			}
			want(p.probe, "the payload afterwards", string(given), string(n.Payload))
			for i := range n.Payload {
				n.Payload[i] = ' '
			}
			if err := <-received; err != nil {
				p.failf("wanted the notification to arrive, got %w", err)
			} else if text(got) != wanted {
				p.failf("after its caller used the payload for something else: wanted %s; got %s", wanted, text(got))
			}
		},
	},
}
