// Package presencetest checks implementations of presence's interfaces against
// their contracts. It also has fakes with faults, for tests of code that uses
// the interfaces.
//
// Each suite is one table of rules. Run it from a test:
//
//	func TestStorage(t *testing.T) {
//		presencetest.RunStorage(t, func(ctx context.Context) (presence.Storage, error) {
//			return mystore.Open(t.TempDir())
//		})
//	}
//
// Or run it as a plain check, for example in a command that checks a backend:
// [CheckStorage] returns every [Violation] joined into one error.
//
// # Rules
//
// Every rule opens a new implementation and checks one thing. No rule can be
// left out. A rule about an optional interface is checked only if the
// implementation has that interface. The context given to open ends with the
// rule; clean up with [context.AfterFunc]. A rule that checks whether a call
// hangs waits up to 5 s, but only for a call that hangs.
package presencetest

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
)

const (
	ruleTimeout = time.Minute           // the limit of one rule, for calls that respect their context
	patience    = 5 * time.Second       // how long a call may take before it counts as hanging
	aWhile      = 20 * time.Millisecond // how long a call is left blocked
)

// Violation reports that an implementation breaks a rule of a contract.
type Violation struct {
	Suite string // storage, transport, authorizer, notifier
	Rule  string // the name of the rule
	Text  string // what the rule demands
	Err   error  // the line of the rule, the wanted and the actual result
}

// Error returns the name of the rule, its text, and the wanted and the actual
// result.
func (v *Violation) Error() string {
	return fmt.Sprintf("presencetest: %s: rule %s: %s\n\t%v", v.Suite, v.Rule, v.Text, v.Err)
}

// Unwrap returns Err.
func (v *Violation) Unwrap() error { return v.Err }

// suite is the rules for implementations T. Each rule is checked with a probe
// P.
type suite[T, P any] struct {
	name  string
	probe func(*probe, T) P
	close func(P) // closes what a rule left open; nil for nothing
	rules []rule[P]
}

// rule is one demand of a contract.
type rule[P any] struct {
	name    string
	text    string
	applies func(P) bool // nil for always
	check   func(P)
}

// check checks every rule.
func (s *suite[T, P]) check(ctx context.Context, open func(context.Context) (T, error)) error {
	var violations []error
	for _, r := range s.rules {
		if _, err := s.try(ctx, r, open); err != nil {
			violations = append(violations, err)
		}
		if ctx.Err() != nil {
			return errors.Join(append(violations, fmt.Errorf("presencetest: %s: ended early: %w", s.name, context.Cause(ctx)))...)
		}
	}
	return errors.Join(violations...)
}

// run checks every rule in a subtest.
func (s *suite[T, P]) run(t *testing.T, open func(context.Context) (T, error)) {
	t.Helper()
	for _, r := range s.rules {
		t.Run(r.name, func(t *testing.T) {
			checked, err := s.try(t.Context(), r, open)
			if err != nil {
				t.Fatal(err)
			}
			if !checked {
				t.Logf("rule %s does not apply to this implementation: %s", r.name, r.text)
			}
		})
	}
}

// try checks one rule, if it applies to the implementation that open returns.
func (s *suite[T, P]) try(ctx context.Context, r rule[P], open func(context.Context) (T, error)) (checked bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, ruleTimeout)
	defer cancel()
	p := &probe{ctx: ctx}
	violation := func() error {
		if p.err == nil {
			return nil
		}
		return &Violation{Suite: s.name, Rule: r.name, Text: r.text, Err: p.err}
	}
	x, err := open(ctx)
	if err != nil {
		p.failf("open: wanted no error, got %w", err)
		return true, violation()
	}
	subject := s.probe(p, x)
	if s.close != nil {
		defer s.close(subject)
	}
	if r.applies != nil && !r.applies(subject) {
		return false, nil
	}
	if err := guard(func() error { r.check(subject); return nil }); err != nil {
		p.failf("%w", err)
	}
	return true, violation()
}

// guard calls f and returns a panic as an error.
func guard(f func() error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("it panicked: %v", r)
		}
	}()
	return f()
}

// errHangs is the error of a call that did not return in time.
var errHangs = errors.New("the call does not return")

// inTime calls f and returns its error, or errHangs after patience.
func inTime(f func() error) error {
	done := make(chan error, 1)
	go func() { done <- guard(f) }()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case err := <-done:
		return err
	case <-timer.C:
		return errHangs
	}
}

// probe keeps the first failure of a rule. After a failure its methods do
// nothing, so that a rule need not check each step.
type probe struct {
	ctx context.Context
	err error
}

// failed reports whether a check failed.
func (p *probe) failed() bool { return p.err != nil }

// failf keeps a failure, with the line of the rule. Later failures are dropped.
func (p *probe) failf(format string, args ...any) {
	if p.err == nil {
		p.err = fmt.Errorf(line()+format, args...)
	}
}

// want fails the probe unless got equals wanted.
func want[T comparable](p *probe, what string, wanted, got T) {
	if got != wanted {
		p.failf("%s: wanted %v, got %v", what, wanted, got)
	}
}

// line returns the position of the caller in its rule.
func line() string {
	callers := make([]uintptr, 16)
	frames := runtime.CallersFrames(callers[:runtime.Callers(2, callers)])
	for {
		frame, more := frames.Next()
		if strings.Contains(frame.Function, "presencetest.glob.") || strings.Contains(frame.Function, "presencetest.init.") {
			return fmt.Sprintf("%s:%d: ", filepath.Base(frame.File), frame.Line)
		}
		if !more {
			return ""
		}
	}
}

// done returns a context that has ended.
func done(ctx context.Context) context.Context {
	ctx, cancel := context.WithCancel(ctx)
	cancel()
	return ctx
}

// pause waits for aWhile, or until ctx is done.
func pause(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, aWhile)
	defer cancel()
	<-ctx.Done()
}
