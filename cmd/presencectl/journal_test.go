package main

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"

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
		{nil, "want presencectl journal"},
		{[]string{"a", "b", "c"}, "want presencectl journal"},
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
