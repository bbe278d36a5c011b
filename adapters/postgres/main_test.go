package postgres_test

import (
	"context"
	"fmt"
	"os"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/presence-go/presence"
	"github.com/presence-go/presence/adapters/postgres"
	"github.com/presence-go/presence/internal/pgtest"
	"github.com/presence-go/presence/presencetest"
)

// server is for all tests that do nothing to it. Each uses a schema of its own.
var server *pgtest.Server

func TestMain(m *testing.M) {
	var err error
	if server, err = pgtest.Start(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	if err := server.Close(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

var schemas atomic.Int64

// newSchema returns the name of a new schema.
func newSchema() string { return fmt.Sprintf("Test %d", schemas.Add(1)) }

// newDatabase makes a database for one test.
func newDatabase(t testing.TB) string {
	t.Helper()
	name := fmt.Sprintf("test%d", schemas.Add(1))
	sql(t, server, "postgres", "CREATE DATABASE "+name)
	return name
}

// open opens storage on a server, in a schema of its own unless one is named.
func open(t testing.TB, s *pgtest.Server, opts postgres.Options) *postgres.Storage {
	t.Helper()
	return openIn(t, s, "postgres", opts)
}

func openIn(t testing.TB, s *pgtest.Server, database string, opts postgres.Options) *postgres.Storage {
	t.Helper()
	if opts.Schema == "" {
		opts.Schema = newSchema()
	}
	if opts.Conns == 0 {
		opts.Conns = 4
	}
	storage, err := postgres.Open(t.Context(), s.URL(database), &opts)
	require.NoError(t, err)
	t.Cleanup(func() { _ = storage.Close() })
	return storage
}

// reopener is storage that can be opened again.
type reopener struct {
	*postgres.Storage
	opts postgres.Options
}

func (r reopener) Reopen(ctx context.Context) (presence.Storage, error) {
	s, err := postgres.Open(ctx, server.URL("postgres"), &r.opts)
	return reopener{s, r.opts}, err
}

func TestStorage(t *testing.T) {
	t.Parallel()
	presencetest.RunStorage(t, func(ctx context.Context) (presence.Storage, error) {
		opts := postgres.Options{Schema: newSchema(), Conns: 8}
		s, err := postgres.Open(ctx, server.URL("postgres"), &opts)
		return reopener{s, opts}, err
	})
}

// What is announced costs nothing of what storage promises.
func TestStorageThatAnnounces(t *testing.T) {
	t.Parallel()
	presencetest.RunStorage(t, func(ctx context.Context) (presence.Storage, error) {
		return postgres.Open(ctx, server.URL("postgres"), &postgres.Options{Schema: newSchema(), Conns: 8, Announce: true})
	})
}
