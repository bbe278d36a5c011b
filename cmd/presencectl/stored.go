package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"iter"
	"os"
	"time"

	"github.com/presence-go/presence"
	"github.com/presence-go/presence/adapters/sqlite"
	"github.com/presence-go/presence/report"
)

// stored is a file of adapters/sqlite. Its tracker reads only.
type stored struct {
	file    *sqlite.Storage
	tracker *presence.Tracker
}

// open opens a file that exists.
func open(ctx context.Context, name string, policy *presence.Policy) (*stored, error) {
	if _, err := os.Stat(name); err != nil { // sqlite.Open would create the file
		return nil, err
	}
	file, err := sqlite.Open(ctx, name, nil)
	if err != nil {
		return nil, err
	}
	tracker, err := presence.New(&presence.Options{Storage: unchanged{file}, Policy: policy, StorageTimeout: time.Minute})
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return &stored{file, tracker}, nil
}

func (s *stored) close() error { return errors.Join(s.tracker.Close(), s.file.Close()) }

// unchanged is storage that stores nothing.
type unchanged struct{ *sqlite.Storage }

func (unchanged) Save(context.Context, ...presence.Write) error        { return nil }
func (unchanged) Append(context.Context, ...presence.JournalRow) error { return nil }

// tenantFlag is a flag of several commands, like the next ones.
func tenantFlag(flags *flag.FlagSet) *string {
	return flags.String("tenant", "", "the `tenant` of the subjects; empty means the default tenant")
}

func instantFlag(flags *flag.FlagSet, name, usage string) *presence.Instant {
	i := new(presence.Instant)
	flags.Func(name, usage, func(text string) error {
		t, err := time.Parse(time.RFC3339, text)
		*i = presence.At(t)
		return err
	})
	return i
}

func periodFlags(flags *flag.FlagSet) (from, to *presence.Instant) {
	return instantFlag(flags, "from", "the first `instant`, such as 2026-01-05T09:00:00Z"),
		instantFlag(flags, "to", "the `instant` after the last, such as 2026-01-05T17:00:00Z")
}

func refs(tenant string, ids []string) (list []presence.Ref) {
	for _, id := range ids {
		list = append(list, presence.Ref{Tenant: tenant, ID: id})
	}
	return list
}

// journal prints the stored journal of a subject, or of a whole tenant.
func journal(flags *flag.FlagSet) action {
	tenant := tenantFlag(flags)
	from, to := periodFlags(flags)
	return func(ctx context.Context, args []string, stdout, _ io.Writer) (err error) {
		if len(args) == 0 || len(args) > 2 {
			return fmt.Errorf("journal: %w: got %d", errUsage, len(args))
		}
		s, err := open(ctx, args[0], nil)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, s.close()) }()
		q := presence.JournalQuery{Subject: presence.Ref{Tenant: *tenant}, From: *from, To: *to}
		if len(args) == 2 {
			q.Subject.ID = args[1]
		}
		out := json.NewEncoder(stdout)
		for row, err := range s.tracker.Journal(ctx, q) {
			if err == nil {
				err = out.Encode(row)
			}
			if err != nil {
				return fmt.Errorf("journal: %w", err)
			}
		}
		return nil
	}
}

// reports prints the workload of subjects, or their status log.
func reports(flags *flag.FlagSet) action {
	tenant := tenantFlag(flags)
	from, to := periodFlags(flags)
	log := flags.Bool("log", false, "print every change of status instead of sums")
	every := flags.Duration("every", 0, "cut the time into periods of this `length`, such as 24h; 0 means one period")
	asJSON := flags.Bool("json", false, "print JSON instead of CSV")
	return func(ctx context.Context, args []string, stdout, _ io.Writer) (err error) {
		if len(args) == 0 || *from == 0 || *to == 0 {
			return fmt.Errorf("report: %w: a file, and the period by -from and -to, are required", errUsage)
		}
		s, err := open(ctx, args[0], nil)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, s.close()) }()
		q := report.Query{Subjects: refs(*tenant, args[1:]), From: *from, To: *to, Every: *every}
		if len(q.Subjects) == 0 { // all subjects with rows: an earlier status may last
			if q.Subjects, err = s.subjects(ctx, *tenant, *to); err != nil {
				return err
			}
		}
		if *log {
			return printReport(stdout, *asJSON, report.Log(ctx, s.tracker.Journal, q), report.LogCSV)
		}
		return printReport(stdout, *asJSON, report.Workload(ctx, s.tracker.Journal, q), report.WorkloadCSV)
	}
}

func printReport[T any](out io.Writer, asJSON bool, rows iter.Seq2[T, error], csv func(io.Writer, iter.Seq2[T, error]) error) error {
	if asJSON {
		return report.WriteJSON(out, rows)
	}
	return csv(out, rows)
}

// subjects returns the subjects of a tenant with rows before an instant, in the
// order of their first rows.
func (s *stored) subjects(ctx context.Context, tenant string, to presence.Instant) (list []presence.Ref, err error) {
	seen := make(map[presence.Ref]bool)
	for row, err := range s.tracker.Journal(ctx, presence.JournalQuery{Subject: presence.Ref{Tenant: tenant}, To: to}) {
		if err != nil {
			return nil, fmt.Errorf("report: %w", err)
		}
		if !seen[row.Subject] {
			seen[row.Subject] = true
			list = append(list, row.Subject)
		}
	}
	return list, nil
}

// explain prints why a server that starts now shows a subject's status.
func explain(flags *flag.FlagSet) action {
	tenant := tenantFlag(flags)
	name := flags.String("policy", "default", "the `policy` of the server: a preset, or a file that ends in .json")
	audience := flags.String("audience", string(presence.AudienceAdmin), "the `audience` of the explanation: self, team, supervisor, admin, visitor or router")
	return func(ctx context.Context, args []string, stdout, stderr io.Writer) (err error) {
		if len(args) != 2 {
			return fmt.Errorf("explain: %w: got %d", errUsage, len(args))
		}
		p, err := readPolicy(*name, stderr)
		if err != nil {
			return err
		}
		s, err := open(ctx, args[0], &p)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, s.close()) }()
		lines, err := s.tracker.ExplainAs(ctx, presence.Audience(*audience), presence.Ref{Tenant: *tenant, ID: args[1]})
		if err != nil {
			return fmt.Errorf("explain: %w", err)
		}
		for _, line := range lines {
			fmt.Fprintln(stdout, line)
		}
		return nil
	}
}

// erase deletes the records and journals of subjects. A server that has one of
// them loaded must erase it itself.
func erase(flags *flag.FlagSet) action {
	tenant := tenantFlag(flags)
	return func(ctx context.Context, args []string, stdout, _ io.Writer) (err error) {
		if len(args) < 2 {
			return fmt.Errorf("erase: %w: no subject is given", errUsage)
		}
		s, err := open(ctx, args[0], nil)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, s.close()) }()
		subjects := refs(*tenant, args[1:])
		if err := s.file.Delete(ctx, subjects...); err != nil {
			return fmt.Errorf("erase: %w", err)
		}
		for _, subject := range subjects {
			fmt.Fprintln(stdout, "erased", subject)
		}
		return nil
	}
}
