package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/benbjohnson/clock"
	"github.com/stretchr/testify/require"

	"github.com/presence-go/presence"
	"github.com/presence-go/presence/adapters/sqlite"
)

func TestJournal(t *testing.T) {
	path := filepath.Join(t.TempDir(), "presence.db")
	s, err := sqlite.Open(t.Context(), path, nil)
	require.NoError(t, err)
	at := func(text string) (i presence.Instant) {
		require.NoError(t, i.UnmarshalText([]byte(text)))
		return i
	}
	rows := []presence.JournalRow{
		{ID: "e1", Subject: presence.ID("ann"), Kind: "transition", To: "busy", At: at("2026-01-05T09:00:00Z")},
		{ID: "e1", Subject: presence.ID("bob"), Kind: "transition", To: "away", At: at("2026-01-05T08:00:00Z")},
		{ID: "e2", Subject: presence.ID("ann"), Kind: "transition", To: "away", At: at("2026-01-05T10:00:00Z")},
		{ID: "e1", Subject: presence.Ref{Tenant: "acme", ID: "ann"}, Kind: "transition", To: "busy", At: at("2026-01-05T09:00:00Z")},
	}
	require.NoError(t, s.Append(t.Context(), rows...))
	require.NoError(t, s.Close())

	for _, c := range []struct {
		args []string
		want []int
	}{
		{[]string{path}, []int{1, 0, 2}},
		{[]string{path, "ann"}, []int{0, 2}},
		{[]string{"-tenant", "acme", path}, []int{3}},
		{[]string{"-tenant", "acme", path, "bob"}, nil},
		{[]string{"-from", "2026-01-05T09:00:00Z", path}, []int{0, 2}},
		{[]string{"-to", "2026-01-05T10:00:00+01:00", path}, []int{1}},
		{[]string{"-from", "2026-01-05T09:00:00Z", "-to", "2026-01-05T10:00:00Z", path, "ann"}, []int{0}},
	} {
		code, out, wrong := call(append([]string{"journal"}, c.args...)...)
		require.Equal(t, exitFine, code, wrong)
		var got []presence.JournalRow
		for line := range strings.Lines(out) {
			var row presence.JournalRow
			require.NoError(t, json.Unmarshal([]byte(line), &row), line)
			got = append(got, row)
		}
		var want []presence.JournalRow
		for _, i := range c.want {
			want = append(want, rows[i])
		}
		require.Equal(t, want, got, "%q", c.args)
	}
}

func TestJournalFaults(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "missing.db")
	for _, c := range []struct {
		args []string
		says string
	}{
		{nil, "wrong arguments: got 0; want presencectl journal"},
		{[]string{"a", "b", "c"}, "wrong arguments: got 3; want presencectl journal"},
		{[]string{missing}, "no such file"},
		{[]string{write(t, "text.db", strings.Repeat("no database ", 100))}, "is not a database"},
		{[]string{"-from", "yesterday", "x"}, "yesterday"},
	} {
		code, out, wrong := call(append([]string{"journal"}, c.args...)...)
		require.Equal(t, exitWrong, code)
		require.Empty(t, out)
		require.Contains(t, wrong, c.says)
	}
	require.NoFileExists(t, missing)
}

// day is a file with the history of Ann and Bob, stored by trackers.
func day(t *testing.T) (path string) {
	path = filepath.Join(t.TempDir(), "presence.db")
	s, err := sqlite.Open(t.Context(), path, nil)
	require.NoError(t, err)
	mock := clock.NewMock()
	mock.Set(time.Date(2026, 1, 5, 9, 0, 0, 0, time.UTC))
	tracker, err := presence.New(&presence.Options{Storage: s, Clock: mock})
	require.NoError(t, err)
	for _, id := range []string{"ann", "bob"} {
		conn, err := tracker.Connect(t.Context(), presence.ID(id), presence.ConnectOptions{Login: true})
		require.NoError(t, err)
		mock.Add(10 * time.Second)
		_, err = conn.Claim(t.Context(), presence.Claim{Status: "busy", Reason: "mail"})
		require.NoError(t, err)
		mock.Add(10 * time.Second)
		require.NoError(t, conn.Logout())
	}
	require.NoError(t, tracker.Close())
	require.NoError(t, s.Close())
	return path
}

const nine, ten = "2026-01-05T09:00:00Z", "2026-01-05T10:00:00Z"

func TestReport(t *testing.T) {
	path := day(t)
	code, out, wrong := call("report", "-from", nine, "-to", ten, path)
	require.Equal(t, exitFine, code, wrong)
	require.Equal(t, `tenant,subject,from,to,status,reason,seconds,times
,"ann",2026-01-05T09:00:00Z,2026-01-05T10:00:00Z,"available",,10,1
,"ann",2026-01-05T09:00:00Z,2026-01-05T10:00:00Z,"busy","mail",10,1
,"ann",2026-01-05T09:00:00Z,2026-01-05T10:00:00Z,"offline",,3580,1
,"bob",2026-01-05T09:00:00Z,2026-01-05T10:00:00Z,"unknown",,20,0
,"bob",2026-01-05T09:00:00Z,2026-01-05T10:00:00Z,"available",,10,1
,"bob",2026-01-05T09:00:00Z,2026-01-05T10:00:00Z,"busy","mail",10,1
,"bob",2026-01-05T09:00:00Z,2026-01-05T10:00:00Z,"offline",,3560,1
`, out)

	// A subject without a change in the period has a status too.
	code, out, wrong = call("report", "-from", "2026-01-05T09:30:00Z", "-to", ten, "-every", "15m", path)
	require.Equal(t, exitFine, code, wrong)
	require.Equal(t, 4, strings.Count(out, `,"offline",,900,`), out)

	code, out, wrong = call("report", "-from", nine, "-to", ten, "-log", path, "bob")
	require.Equal(t, exitFine, code, wrong)
	require.Equal(t, `tenant,subject,at,from,to,reason,cause,trigger
,"bob",2026-01-05T09:00:20Z,,"available",,"default","login"
,"bob",2026-01-05T09:00:30Z,"available","busy","mail","manual","manual"
,"bob",2026-01-05T09:00:40Z,"busy","offline",,"logout","logout"
`, out)

	code, out, wrong = call("report", "-from", nine, "-to", ten, "-json", path, "ann")
	require.Equal(t, exitFine, code, wrong)
	var sums []struct{ Seconds float64 }
	require.NoError(t, json.Unmarshal([]byte(out), &sums))
	require.Equal(t, []struct{ Seconds float64 }{{10}, {10}, {3580}}, sums)

	for _, c := range []struct {
		args []string
		says string
	}{
		{nil, "want presencectl report -from T -to T"},
		{[]string{"-from", nine, "-to", ten}, "want presencectl report"},
		{[]string{"-from", nine, path}, "the period by -from and -to"},
		{[]string{"-to", nine, path}, "the period by -from and -to"},
		{[]string{"-from", nine, "-to", nine, path, "ann"}, "begins at From and ends later"},
		{[]string{"-from", nine, "-to", ten, path + ".none"}, "no such file"},
	} {
		code, _, wrong := call(append([]string{"report"}, c.args...)...)
		require.Equal(t, exitWrong, code)
		require.Contains(t, wrong, c.says)
	}
}

func TestExplain(t *testing.T) {
	path := day(t)
	_, before, _ := call("journal", path)
	code, out, wrong := call("explain", path, "ann")
	require.Equal(t, exitFine, code, wrong)
	require.Contains(t, out, "busy", "what ann chose is kept")
	_, visitor, _ := call("explain", "-audience", "visitor", path, "ann")
	require.NotContains(t, visitor, "busy")

	// A policy that resets the choice at the next login, with another default.
	mine := write(t, "mine.json", `{"version": 1, "extends": "respondio", "disconnected": "busy"}`)
	code, under, wrong := call("explain", "-policy", mine, path, "ann")
	require.Equal(t, exitFine, code, wrong)
	require.NotEqual(t, out, under)

	code, out, wrong = call("explain", path, "carl")
	require.Equal(t, exitFine, code, wrong)
	require.Contains(t, out, "unknown")

	_, after, _ := call("journal", path)
	require.Equal(t, before, after, "explaining stores nothing")

	for _, c := range []struct {
		args []string
		says string
	}{
		{[]string{path}, "want presencectl explain"},
		{[]string{"-audience", "crowd", path, "ann"}, "crowd"},
		{[]string{"-policy", "nosuch", path, "ann"}, "nosuch"},
		{[]string{path + ".none", "ann"}, "no such file"},
	} {
		code, out, wrong := call(append([]string{"explain"}, c.args...)...)
		require.Equal(t, exitWrong, code)
		require.Empty(t, out)
		require.Contains(t, wrong, c.says)
	}
}

func TestErase(t *testing.T) {
	path := day(t)
	code, _, wrong := call("erase", path)
	require.Equal(t, exitWrong, code)
	require.Contains(t, wrong, "no subject is given; want presencectl erase")
	code, _, wrong = call("erase", "-tenant", "acme", path, "ann")
	require.Equal(t, exitFine, code, wrong)
	_, out, _ := call("journal", path, "ann")
	require.NotEmpty(t, out, "another tenant's ann is another subject")

	code, out, wrong = call("erase", path, "ann", "carl")
	require.Equal(t, exitFine, code, wrong)
	require.Equal(t, "erased ann\nerased carl\n", out)
	_, out, _ = call("journal", path, "ann")
	require.Empty(t, out)
	_, out, _ = call("explain", path, "ann")
	require.Contains(t, out, "unknown")
	_, out, _ = call("journal", path, "bob")
	require.NotEmpty(t, out)
	content, err := os.ReadFile(path)
	require.NoError(t, err)
	require.NotContains(t, string(content), "ann")
	require.Contains(t, string(content), "bob")
}
