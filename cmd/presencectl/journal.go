package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/presence-go/presence"
	"github.com/presence-go/presence/adapters/sqlite"
)

// journal prints what happened to somebody, or to all of a tenant, as a file has
// it: one row a line, as JSON.
func journal(args []string, stdout io.Writer) (err error) {
	flags := flag.NewFlagSet("journal", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	tenant := flags.String("tenant", "", "whose journal; empty means the default tenant")
	var from, to presence.Instant
	period := func(name, usage string, i *presence.Instant) {
		flags.Func(name, usage, func(text string) error {
			t, err := time.Parse(time.RFC3339, text)
			*i = presence.At(t)
			return err
		})
	}
	period("from", "the first instant, such as 2026-01-05T09:00:00Z", &from)
	period("to", "the instant after the last", &to)
	names, err := parse(flags, args, stdout)
	if err != nil {
		return err
	}
	if len(names) == 0 || len(names) > 2 {
		return errors.New("journal: want presencectl journal [-tenant T] [-from T] [-to T] FILE [SUBJECT]")
	}
	if _, err := os.Stat(names[0]); err != nil { // opening makes a file where there is none
		return err
	}
	ctx := context.Background()
	s, err := sqlite.Open(ctx, names[0], nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	var next func() ([]presence.JournalRow, error)
	if len(names) == 2 {
		q := presence.JournalQuery{Subject: presence.Ref{Tenant: *tenant, ID: names[1]}, From: from, To: to}
		next = func() (rows []presence.JournalRow, err error) {
			if rows, err = s.Journal(ctx, q); len(rows) > 0 {
				q.After = rows[len(rows)-1].ID
			}
			return rows, err
		}
	} else {
		q := presence.JournalScan{Tenant: *tenant, From: from, To: to}
		next = func() (rows []presence.JournalRow, err error) {
			if rows, err = s.ScanJournal(ctx, q); len(rows) > 0 {
				q.After = rows[len(rows)-1]
			}
			return rows, err
		}
	}
	out := json.NewEncoder(stdout)
	for {
		rows, err := next()
		if err != nil || len(rows) == 0 {
			return err
		}
		for _, row := range rows {
			if err := out.Encode(row); err != nil {
				return fmt.Errorf("journal: %w", err)
			}
		}
	}
}
