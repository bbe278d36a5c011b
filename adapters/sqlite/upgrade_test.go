package sqlite_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/presence-go/presence"
	"github.com/presence-go/presence/adapters/sqlite"
)

// version returns a copy of a file of a version of the schema: 40 subjects in two
// tenants, each with a record and five rows.
func version(t *testing.T, n int) (path string) {
	t.Helper()
	data, err := os.ReadFile(fmt.Sprintf("testdata/version%d.db", n))
	require.NoError(t, err)
	path = filepath.Join(t.TempDir(), "presence.db")
	require.NoError(t, os.WriteFile(path, data, 0o644))
	return path
}

func numbers(t *testing.T, path, query string) (n int) {
	t.Helper()
	require.NoError(t, raw(t, path).QueryRow(query).Scan(&n))
	return n
}

const indexes = `SELECT count(*) FROM sqlite_schema WHERE name = 'journal_by_time'`

func TestUpgrade(t *testing.T) {
	t.Parallel()
	for from := 1; from < 3; from++ {
		t.Run(fmt.Sprint("from version ", from), func(t *testing.T) {
			t.Parallel()
			testUpgrade(t, from)
		})
	}
}

func testUpgrade(t *testing.T, from int) {
	path := version(t, from)
	require.Equal(t, from, numbers(t, path, `PRAGMA user_version`))
	require.Equal(t, from-1, numbers(t, path, indexes))
	for _, again := range []bool{false, true} {
		s := open(t, path, nil)
		require.Equal(t, 3, numbers(t, path, `PRAGMA user_version`))
		require.Equal(t, 1, numbers(t, path, indexes))
		byTenant := make(map[string]int)
		for i := range 40 {
			ref := presence.Ref{Tenant: []string{"", "acme"}[i%2], ID: fmt.Sprintf("subject-%02d", i)}
			records, err := s.Load(t.Context(), ref)
			require.NoError(t, err)
			require.Equal(t, []presence.Record{{Subject: ref, Revision: 1<<40 + uint64(i), Data: fmt.Appendf(nil, `{"version":1,"n":%d}`, i)}}, records)
			rows, err := s.Journal(t.Context(), presence.JournalQuery{Subject: ref})
			require.NoError(t, err)
			require.Len(t, rows, 5)
			for n, row := range rows {
				require.Equal(t, presence.JournalRow{
					ID: fmt.Sprintf("e%d", 10-n), Subject: ref, Kind: presence.RowTransition, From: "available", To: "busy", Class: presence.ClassBusy,
					Cause: presence.CauseManual, Trigger: presence.TriggerInput, Reach: "live", Source: presence.SourceManual, Key: "base", Reason: "réunion", By: "bob",
					At: presence.Instant(int64(1000+n*7%5)*1e9 + int64(i)), Recorded: presence.Instant(int64(2000+n) * 1e9),
				}, row)
			}
			byTenant[ref.Tenant] += len(rows)
		}
		for tenant, count := range byTenant {
			rows, err := s.Journal(t.Context(), presence.JournalQuery{Subject: presence.Ref{Tenant: tenant}})
			require.NoError(t, err)
			require.Len(t, rows, count)
		}
		if again {
			testPruning(t, s)
		} else {
			ref := presence.ID("subject-00")
			require.NoError(t, s.Append(t.Context(), presence.JournalRow{ID: "e10", Subject: ref, At: 1}), "which is there")
			require.ErrorIs(t, s.Save(t.Context(), write(ref, 0, 1, "as if new")), presence.ErrConflict)
		}
		require.NoError(t, s.Close())
	}
}

// testPruning cuts the journals of an upgraded file. Of each subject's rows the first,
// the second and the fourth are older than the cut, so that the fourth stays.
func testPruning(t *testing.T, s *sqlite.Storage) {
	cut := presence.Instant(1003 * 1e9)
	var before, after [][]presence.JournalRow
	read := func() (all [][]presence.JournalRow) {
		for i := range 40 {
			rows, err := s.Journal(t.Context(), presence.JournalQuery{
				Subject: presence.Ref{Tenant: []string{"", "acme"}[i%2], ID: fmt.Sprintf("subject-%02d", i)}, From: cut, Base: true,
			})
			require.NoError(t, err)
			require.Less(t, rows[0].At, cut)
			all = append(all, rows)
		}
		return all
	}
	before = read()
	n, err := s.Prune(t.Context(), cut)
	require.NoError(t, err)
	require.Equal(t, 40*2, n)
	after = read()
	require.Equal(t, before, after)
	n, err = s.Prune(t.Context(), 1<<60)
	require.NoError(t, err)
	require.Equal(t, 40*2, n)
}

// An upgrade happens as a whole or not at all.
func TestUpgradeThatFails(t *testing.T) {
	t.Parallel()
	path := version(t, 1)
	db := raw(t, path)
	_, err := db.Exec(`CREATE INDEX journal_by_time ON journal (by_actor)`) // in the way of the last statement
	require.NoError(t, err)
	_, err = sqlite.Open(t.Context(), path, nil)
	require.ErrorIs(t, err, presence.ErrUnavailable)
	require.ErrorContains(t, err, "upgrading the schema from version 1")
	require.Equal(t, 1, numbers(t, path, `PRAGMA user_version`))
	require.Equal(t, 1, numbers(t, path, `SELECT count(*) FROM sqlite_schema WHERE name = 'journal_by_subject' AND sql LIKE '%subject)'`))
	require.Equal(t, 40, numbers(t, path, `SELECT count(*) FROM records`))

	_, err = db.Exec(`DROP INDEX journal_by_time`)
	require.NoError(t, err)
	open(t, path, nil)
	require.Equal(t, 3, numbers(t, path, `PRAGMA user_version`))
}

// Of many that open a file at once, one upgrades it.
func TestUpgradeAtOnce(t *testing.T) {
	t.Parallel()
	path := version(t, 1)
	errs := make(chan error)
	for range 6 {
		go func() {
			s, err := sqlite.Open(t.Context(), path, nil)
			if err == nil {
				err = s.Close()
			}
			errs <- err
		}()
	}
	for range 6 {
		require.NoError(t, <-errs)
	}
	require.Equal(t, 3, numbers(t, path, `PRAGMA user_version`))
}

// Queries use the indexes that are there for them.
func TestQueriesUseIndexes(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "presence.db")
	open(t, path, nil)
	db := raw(t, path)
	for query, wants := range map[string]string{
		`SELECT * FROM journal WHERE tenant = 'x' AND subject = 'y' AND seq > 7 AND (at >= 1 AND at <= 2 OR seq = 8) ORDER BY seq LIMIT 9`:              "journal_by_subject (tenant=? AND subject=? AND seq>?)",
		`SELECT seq FROM journal WHERE tenant = 'x' AND subject = 'y' AND at < 1 AND kind = 'transition' ORDER BY seq DESC LIMIT 1`:                     "journal_by_subject (tenant=? AND subject=?)",
		`SELECT seq, subject FROM journal WHERE tenant = 'x' AND kept = 0 AND at < 1 ORDER BY at LIMIT 9`:                                               "journal_by_time (tenant=? AND at<?)",
		`SELECT j.seq, k.seq FROM journal AS j CROSS JOIN journal AS k ON k.tenant = j.tenant AND k.subject = j.subject AND k.kept = 1 WHERE j.seq = 1`: "COVERING INDEX journal_kept (tenant=? AND subject=?)",
		`SELECT at, seq FROM journal WHERE tenant = 'x' AND kept = 0 AND at >= 1 AND at <= 2 AND (at > 1 OR seq > 7) UNION ALL
			SELECT at, seq FROM journal WHERE tenant = 'x' AND kept = 1 AND at >= 1 AND at <= 2 AND (at > 1 OR seq > 7) ORDER BY at, seq LIMIT 9`: "journal_kept_by_time (tenant=? AND at>? AND at<?)",
		`SELECT min(tenant) FROM journal WHERE tenant > 'x'`: "(tenant>?)",
	} {
		rows, err := db.Query("EXPLAIN QUERY PLAN " + query)
		require.NoError(t, err)
		var plan strings.Builder
		for rows.Next() {
			var id, parent, unused int
			var detail string
			require.NoError(t, rows.Scan(&id, &parent, &unused, &detail))
			plan.WriteString(detail + "\n")
		}
		require.NoError(t, rows.Err())
		require.Contains(t, plan.String(), wants)
		require.NotContains(t, plan.String(), "TEMP B-TREE", query)
		require.NotContains(t, plan.String(), "SCAN", query)
	}
}
