package sqlite_test

import (
	"context"
	"path/filepath"
	"testing"

	"github.com/presence-go/presence"
	"github.com/presence-go/presence/adapters/sqlite"
	"github.com/presence-go/presence/internal/livestest"
	"github.com/presence-go/presence/presencetest"
)

// reopening is storage that the suite can open again.
type reopening struct {
	*sqlite.Storage
	path string
	opts *sqlite.Options
}

func (r reopening) Reopen(ctx context.Context) (presence.Storage, error) {
	s, err := sqlite.Open(ctx, r.path, r.opts)
	return reopening{s, r.path, r.opts}, err
}

func TestConformance(t *testing.T) {
	t.Parallel()
	for name, opts := range map[string]*sqlite.Options{"synced": nil, "not synced": {NoSync: true, Readers: 1}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			presencetest.RunStorage(t, func(ctx context.Context) (presence.Storage, error) {
				return reopening{path: filepath.Join(t.TempDir(), "presence.db"), opts: opts}.Reopen(ctx)
			})
		})
	}
}

func TestReportAfterRetention(t *testing.T) {
	t.Parallel()
	livestest.ReportAfterRetention(t, open(t, filepath.Join(t.TempDir(), "presence.db"), nil))
}

func TestRestartAfterTheClockWasSetBack(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "presence.db")
	livestest.RestartAfterTheClockWasSetBack(t, func() presence.Storage { return open(t, path, nil) })
}
