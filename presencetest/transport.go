package presencetest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/presence-go/presence"
)

// TransportCase is a transport to check, with its other end.
type TransportCase struct {
	Transport presence.Transport
	// Receive returns the next frame that arrived at the other end. It waits until
	// one arrives or ctx is done. After the last frame of a closed transport it
	// returns an error. One goroutine at a time calls it. If frames travel encoded,
	// it decodes them.
	Receive func(ctx context.Context) (*presence.Frame, error)
}

// CheckTransport checks a transport against the contract of
// [presence.Transport]. It calls open for every rule. Beyond the contract,
// Close must return during a Send, also when called twice, because the owner of
// a connection ends it like that.
func CheckTransport(ctx context.Context, open func(context.Context) (TransportCase, error)) error {
	return transportSuite.check(ctx, open)
}

// RunTransport runs [CheckTransport] with a subtest for each rule.
func RunTransport(t *testing.T, open func(context.Context) (TransportCase, error)) {
	t.Helper()
	transportSuite.run(t, open)
}

var transportSuite = suite[TransportCase, transportProbe]{
	name:  "transport",
	probe: func(p *probe, c TransportCase) transportProbe { return transportProbe{p, c} },
	close: func(p transportProbe) {
		_ = inTime(func() error { return p.Transport.Close(errOver) })
	},
	rules: transportRules,
}

// errOver is the reason for closing a transport whose rule has been checked.
var errOver = errors.New("the rule has been checked")

type transportProbe struct {
	*probe
	TransportCase
}

// frame is a diff that differs from those of other numbers.
func frame(seq int) *presence.Frame {
	view := presence.View{Subject: ann, Status: "busy", Class: presence.ClassBusy, Since: second(seq)}
	return &presence.Frame{
		Kind: presence.FrameDiff, Version: presence.FrameVersion, Channel: presence.ChannelID("support"), Epoch: "1", Seq: uint64(seq),
		Group:   presence.Group{Status: presence.GroupAway, Count: 1},
		Changes: []presence.Change{{Op: presence.OpUpdated, Subject: ann, View: &view}},
	}
}

// encoded is a frame's JSON, for comparing frames.
func encoded(f *presence.Frame) string {
	if f == nil {
		return "no frame"
	}
	data, err := json.Marshal(f)
	if err != nil {
		return err.Error()
	}
	return string(data)
}

func brief(text string) string {
	if len(text) <= 300 {
		return text
	}
	return fmt.Sprintf("%s and so on, %d bytes", text[:300], len(text))
}

// exchange sends frames, and receives the same number at the other end.
func (p transportProbe) exchange(frames ...*presence.Frame) []*presence.Frame {
	if p.failed() {
		return nil
	}
	return p.receive(len(frames), func(ctx context.Context) error {
		for i, f := range frames {
			if err := p.Transport.Send(ctx, f); err != nil {
				return fmt.Errorf("sending frame %d: %w", i+1, err)
			}
		}
		return nil
	})
}

// receive receives n frames while send is called.
func (p transportProbe) receive(n int, send func(context.Context) error) []*presence.Frame {
	timeout, stop := context.WithTimeout(p.ctx, patience)
	defer stop()
	ctx, cancel := context.WithCancelCause(timeout)
	defer cancel(nil)
	sent := make(chan error, 1)
	go func() {
		err := guard(func() error { return send(ctx) })
		if err != nil {
			cancel(err) // nothing more will arrive
		}
		sent <- err
	}()
	var received []*presence.Frame
	for i := range n {
		f, err := p.Receive(ctx)
		if err != nil {
			p.failf("frame %d of %d: wanted to receive it, got %w (%w)", i+1, n, err, orNil(context.Cause(ctx)))
			cancel(nil)
			break
		}
		received = append(received, f)
	}
	if err := inTime(func() error { return <-sent }); err != nil {
		p.failf("wanted no error, got %w", err)
	}
	return received
}

// flood sends frames without a receiver, until one fails or 1,500 are sent. The
// Go channel receives the error.
func (p transportProbe) flood(ctx context.Context) <-chan error {
	const plenty = 1500
	ended := make(chan error, 1)
	go func() {
		ended <- guard(func() error {
			for i := range plenty {
				if err := p.Transport.Send(ctx, frame(i+1)); err != nil {
					return err
				}
			}
			return nil
		})
	}()
	return ended
}

var transportRules = []rule[transportProbe]{
	{
		name: "order",
		text: "Frames arrive once each, in the order of sending.",
		check: func(p transportProbe) {
			var frames []*presence.Frame
			for i := range 30 {
				frames = append(frames, frame(i+1))
			}
			for i, f := range p.exchange(frames...) {
				want(p.probe, fmt.Sprintf("sequence number of frame %d", i+1), uint64(i+1), f.Seq)
			}
		},
	},
	{
		name: "whole",
		text: "Frames of every kind and size arrive as they were sent.",
		check: func(p transportProbe) {
			list := frame(1)
			list.Kind, list.Changes = presence.FrameSnapshot, nil
			for i := range 1000 {
				list.Members = append(list.Members, presence.View{
					Subject: presence.Ref{Tenant: "acme", ID: fmt.Sprintf("subject-%04d", i)}, Kind: presence.KindBot, Status: "busy", Class: presence.ClassBusy,
					Label: "Beschäftigt", Color: "#d04437", Reason: "lunch", Text: "“" + strings.Repeat("<&>\u2028", 10) + "”", Since: second(i) + 1, SetAt: second(i),
					Until: second(i + 9), Cause: presence.CauseManual, Masked: "available", LastSeen: second(1), LastLogin: second(2), Routable: true,
				})
			}
			lagged := frame(2)
			lagged.Kind, lagged.Changes, lagged.Lagged, lagged.Epoch = presence.FrameSnapshot, nil, true, "zz"
			joined := frame(3)
			joined.Seq = 1<<53 - 1
			joined.Changes = append(joined.Changes, presence.Change{Op: presence.OpLeft, Subject: presence.Ref{Tenant: "acme", ID: "bob"}})
			removed := &presence.Frame{Kind: presence.FrameRemoved, Version: presence.FrameVersion, Channel: presence.Channel{Tenant: "acme", ID: "support"}}
			frames := []*presence.Frame{list, lagged, joined, removed}
			var wanted []string
			for _, f := range frames {
				wanted = append(wanted, encoded(f))
			}
			for i, f := range p.exchange(frames...) {
				if got := encoded(f); got != wanted[i] {
					p.failf("frame %d: wanted %s, got %s", i+1, brief(wanted[i]), brief(got))
				}
			}
		},
	},
	{
		name: "unchanged",
		text: "Frames are shared: sending one does not change it.",
		check: func(p transportProbe) {
			f := frame(1)
			before := encoded(f)
			p.exchange(f)
			if after := encoded(f); after != before {
				p.failf("the frame after sending: wanted %s, got %s", before, after)
			}
		},
	},
	{
		name: "done-context",
		text: "Send returns an error when its context is done, also if no receiver reads.",
		check: func(p transportProbe) {
			err := inTime(func() error { return p.Transport.Send(done(p.ctx), frame(1)) })
			if err == nil || errors.Is(err, errHangs) {
				p.failf("Send with a context that is done: wanted an error, got %w", orNil(err))
			}
			ctx, cancel := context.WithTimeout(p.ctx, aWhile)
			defer cancel()
			sent := p.flood(ctx)
			if err := inTime(func() error { return <-sent }); errors.Is(err, errHangs) {
				p.failf("Send without a receiver: wanted it to return when its context is done, got %w", err)
			}
		},
	},
	{
		name: "after-close",
		text: "Send returns an error after Close.",
		check: func(p transportProbe) {
			if err := inTime(func() error { return p.Transport.Close(errOver) }); err != nil {
				p.failf("Close: wanted no error, got %w", err)
			}
			if err := inTime(func() error { return p.Transport.Send(p.ctx, frame(1)) }); err == nil || errors.Is(err, errHangs) {
				p.failf("Send after Close: wanted an error, got %w", orNil(err))
			}
		},
	},
	{
		name: "end",
		text: "All frames sent before Close arrive; after the last one, Receive returns an error.",
		check: func(p transportProbe) {
			received := p.receive(3, func(ctx context.Context) error {
				for i := range 3 {
					if err := p.Transport.Send(ctx, frame(i+1)); err != nil {
						return fmt.Errorf("sending frame %d: %w", i+1, err)
					}
				}
				return p.Transport.Close(errOver)
			})
			for i, f := range received {
				want(p.probe, fmt.Sprintf("sequence number of frame %d", i+1), uint64(i+1), f.Seq)
			}
			if p.failed() {
				return
			}
			err := inTime(func() error {
				_, err := p.Receive(p.ctx)
				return err
			})
			if err == nil || errors.Is(err, errHangs) {
				p.failf("receiving after the last frame: wanted an error, got %w", orNil(err))
			}
		},
	},
	{
		name: "close-again",
		text: "A second Close changes nothing and returns, with or without an error.",
		check: func(p transportProbe) {
			for i := range 2 {
				err := inTime(func() error { _ = p.Transport.Close(errOver); return nil })
				if err != nil {
					p.failf("Close number %d: wanted it to return, got %w", i+1, err)
				}
			}
		},
	},
	{
		name: "close-unblocks",
		text: "Close ends a running Send.",
		check: func(p transportProbe) {
			ctx, cancel := context.WithCancel(p.ctx)
			defer cancel()
			sent := p.flood(ctx)
			pause(p.ctx)
			if err := inTime(func() error { _ = p.Transport.Close(errOver); return nil }); err != nil {
				p.failf("Close without a receiver: wanted it to return, got %w", err)
			}
			if err := inTime(func() error { return <-sent }); errors.Is(err, errHangs) {
				p.failf("Send while the transport is closed: wanted it to return, got %w", err)
			}
		},
	},
}
