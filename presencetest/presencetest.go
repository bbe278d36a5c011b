// Package presencetest checks implementations of presence's interfaces against
// their contracts, and offers fakes with faults to test what uses them.
//
// Each suite is one table of rules. Run it from a test,
//
//	func TestStorage(t *testing.T) {
//		presencetest.RunStorage(t, func(ctx context.Context) (presence.Storage, error) {
//			return mystore.Open(t.TempDir())
//		})
//	}
//
// or as a plain check, as a command that is to tell whether a backend is fit
// might: [CheckStorage] returns every [Violation] joined into one error.
//
// # Rules
//
// Every rule opens something fresh and looks at one thing. No rule can be left
// out, but one about an optional interface is checked only where that interface
// is implemented. The context given to open ends with the rule; use
// [context.AfterFunc] to clean up behind it. Where a rule must see that
// something does not hang, it waits for seconds, but only if it does hang.
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
	ruleTimeout = time.Minute           // bounds one rule, for what respects its context
	patience    = 5 * time.Second       // after which a call counts as hanging
	aWhile      = 20 * time.Millisecond // for which a call is left blocked
)

// Violation says that an implementation breaks a rule of a contract.
type Violation struct {
	Suite string // storage, transport, authorizer, notifier
	Rule  string // its name
	Text  string // what it demands
	Err   error  // where it was broken, what was wanted and what came
}

// Error names the rule, its text, and what was wanted and what came.
func (v *Violation) Error() string {
	return fmt.Sprintf("presencetest: %s: rule %s: %s\n\t%v", v.Suite, v.Rule, v.Text, v.Err)
}

// Unwrap returns what the implementation did wrong.
func (v *Violation) Unwrap() error { return v.Err }

// suite is the rules for implementations T, each checked with a probe P.
type suite[T, P any] struct {
	name  string
	probe func(*probe, T) P
	close func(P) // what is left open after a rule; nil for nothing
	rules []rule[P]
}

// rule is one demand of a contract.
type rule[P any] struct {
	name    string
	text    string
	applies func(P) bool // nil for always
	check   func(P)
}

// check runs every rule.
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

// run runs every rule as a subtest.
func (s *suite[T, P]) run(t *testing.T, open func(context.Context) (T, error)) {
	t.Helper()
	for _, r := range s.rules {
		t.Run(r.name, func(t *testing.T) {
			checked, err := s.try(t.Context(), r, open)
			if err != nil {
				t.Fatal(err)
			}
			if !checked {
				t.Logf("rule %s does not concern this implementation: %s", r.name, r.text)
			}
		})
	}
}

// try checks one rule, if it concerns what open returns.
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
		p.failf("what is to be checked cannot be opened: %w", err)
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

// guard calls f and turns a panic into an error.
func guard(f func() error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("it panicked: %v", r)
		}
	}()
	return f()
}

// errHangs is returned for a call that did not return.
var errHangs = errors.New("the call does not return")

// inTime calls f and returns what it does, or errHangs if that takes too long.
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

// probe notes the first thing that was not as wanted. After that, what is done
// through it does nothing any more, so that rules need not look at every step.
type probe struct {
	ctx context.Context
	err error
}

// failed reports whether something was not as wanted.
func (p *probe) failed() bool { return p.err != nil }

// failf notes what was wanted and what came, with the line of the rule.
func (p *probe) failf(format string, args ...any) {
	if p.err == nil {
		p.err = fmt.Errorf(line()+format, args...)
	}
}

// want notes a value that is not as wanted.
func want[T comparable](p *probe, what string, wanted, got T) {
	if got != wanted {
		p.failf("%s: wanted %v, got %v", what, wanted, got)
	}
}

// line returns where in its rule the caller is.
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

// pause lets some time pass.
func pause(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, aWhile)
	defer cancel()
	<-ctx.Done()
}
