package main

import (
	"context"
	"fmt"
	"io"

	"github.com/presence-go/presence"
	"github.com/presence-go/presence/adapters/postgres"
	"github.com/presence-go/presence/adapters/sqlite"
)

// store is storage with a readable journal.
type store interface {
	presence.Storage
	presence.JournalReader
	io.Closer
}

// openStore opens the store under test. If relaxed, durability is off.
func openStore(ctx context.Context, name, address string, relaxed bool) (store, error) {
	switch name {
	case "postgres":
		if relaxed {
			address += "&synchronous_commit=off"
		}
		return postgres.Open(ctx, address, &postgres.Options{Conns: workers + 2, Relaxed: relaxed})
	case "sqlite":
		return sqlite.Open(ctx, address, &sqlite.Options{NoSync: relaxed})
	default:
		return nil, fmt.Errorf("crash: no store %q: allowed are sqlite, postgres", name)
	}
}
