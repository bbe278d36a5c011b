package presencetest_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/presence-go/presence"
	"github.com/presence-go/presence/adapters/memory"
	"github.com/presence-go/presence/presencetest"
)

// broken returns the names of the rules that an error reports as broken.
func broken(t *testing.T, err error) []string {
	t.Helper()
	var rules []string
	var walk func(error)
	walk = func(err error) {
		if v, ok := err.(*presencetest.Violation); ok {
			rules = append(rules, v.Rule)
			return
		}
		joined, ok := err.(interface{ Unwrap() []error })
		require.True(t, ok, "not a violation: %v", err)
		for _, e := range joined.Unwrap() {
			walk(e)
		}
	}
	if err != nil {
		walk(err)
	}
	return rules
}

// mutant is a broken implementation and the rule that must find it.
type mutant[T any] struct {
	name string
	rule string
	// make returns the broken implementation. A call that blocks in it must end
	// with release.
	make func(release <-chan struct{}) T
}

// caught checks each mutant in a synctest bubble, where waiting for a hanging
// call takes no time.
func caught[T any](t *testing.T, check func(context.Context, func(context.Context) (T, error)) error, mutants []mutant[T]) {
	t.Helper()
	names := make(map[string]bool)
	for _, m := range mutants {
		require.False(t, names[m.name], "two mutants are called %q", m.name)
		names[m.name] = true
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				release := make(chan struct{})
				defer close(release)
				err := check(t.Context(), func(context.Context) (T, error) { return m.make(release), nil })
				require.Equal(t, []string{m.rule}, broken(t, err), "%v", err)
			})
		})
	}
}

func TestFailureSaysWhatWasWanted(t *testing.T) {
	t.Parallel()
	err := presencetest.CheckStorage(t.Context(), func(context.Context) (presence.Storage, error) {
		return &storageMutant{Storage: inMemory(0), onSave: func(ctx context.Context, s *memory.Storage, writes ...presence.Write) error {
			for i := range writes {
				writes[i].Record.Revision = writes[i].Expect + 1
			}
			return s.Save(ctx, writes...)
		}}, nil
	})
	v, ok := errors.AsType[*presencetest.Violation](err)
	require.True(t, ok)
	require.Equal(t, "storage", v.Suite)
	require.Equal(t, "revision", v.Rule)
	require.NotEmpty(t, v.Text)
	require.Regexp(t, `^presencetest: storage: rule revision: Revisions are stored as given.*\n\tstorage_rules\.go:\d+: Load\("ann"\): wanted revision 41, got 1$`, err.Error())
}

func TestOpenFails(t *testing.T) {
	t.Parallel()
	boom := errors.New("no such server")
	err := presencetest.CheckStorage(t.Context(), func(context.Context) (presence.Storage, error) { return nil, boom })
	require.ErrorIs(t, err, boom)
	require.Greater(t, len(broken(t, err)), 20, "every rule is reported")
}

func TestEndsWithItsContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	opened := 0
	err := presencetest.CheckStorage(ctx, func(context.Context) (presence.Storage, error) {
		opened++
		cancel()
		return inMemory(0), nil
	})
	require.ErrorIs(t, err, context.Canceled)
	require.ErrorContains(t, err, "ended early")
	require.Equal(t, 1, opened)
}

func TestPanicIsAViolation(t *testing.T) {
	t.Parallel()
	err := presencetest.CheckStorage(t.Context(), func(context.Context) (presence.Storage, error) {
		s := inMemory(0)
		return &storageMutant{Storage: s, onDelete: func(context.Context, *memory.Storage, ...presence.Ref) error { panic("boom") }}, nil
	})
	require.Contains(t, broken(t, err), "delete")
	require.NotContains(t, broken(t, err), "revision")
	require.ErrorContains(t, err, "it panicked: boom")
}

// inMemory returns empty storage that keeps the given number of rows of each
// subject; 0 means 1,000.
func inMemory(rows int) *memory.Storage {
	s, err := memory.NewStorage(&memory.StorageOptions{JournalRows: rows})
	if err != nil {
		panic(err)
	}
	return s
}
