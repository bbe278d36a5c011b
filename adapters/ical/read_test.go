package ical

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/presence-go/presence"
	"github.com/presence-go/presence/schedule"
)

// refold writes a calendar with other line ends, folds and cases of names.
func refold(data []byte, r *rand.Rand) []byte {
	var out []byte
	end := []string{"\r\n", "\n", "\r"}[r.IntN(3)]
	unfold(data, func(_ int, text []byte) {
		i := strings.IndexAny(string(text), ":;")
		if i >= 0 {
			text = append([]byte(strings.ToLower(string(text[:i]))), text[i:]...)
		}
		for n := range text {
			if n > 0 && r.IntN(20) == 0 {
				out = append(append(out, end...), " \t"[r.IntN(2)])
			}
			out = append(out, text[n])
		}
		out = append(out, end...)
		if r.IntN(20) == 0 {
			out = append(out, end...)
		}
	})
	return out
}

var lineNumber = regexp.MustCompile(`line \d+`)

// Each event of any file is read, or in the list of what was skipped. Folds, line
// ends and cases change nothing. What is read makes valid hours. This test sees
// the events before they are put together.
func FuzzExceptions(f *testing.F) {
	for _, pattern := range []string{"testdata/cases/*.ics", "testdata/makers/*.ics"} {
		files, err := filepath.Glob(pattern)
		require.NoError(f, err)
		for _, name := range files {
			data, err := os.ReadFile(name)
			require.NoError(f, err)
			f.Add(data, uint64(1))
		}
	}
	f.Add([]byte("BEGIN:VCALENDAR\nX;A=\"b\nEND:VCALENDAR"), uint64(2))
	plan, err := schedule.Parse("mon-fri 09:00-12:00,13:00-17:00; sat 22:00-06:00; 2026-01-06 20:00-19:00; zone Europe/Berlin")
	require.NoError(f, err)
	from, to := schedule.Date{Year: 2026, Month: 1, Day: 1}, schedule.Date{Year: 2026, Month: 12, Day: 31}
	text := func(t *testing.T, data []byte) (string, []schedule.Exception) {
		list, skipped, err := Exceptions(t.Context(), strings.NewReader(string(data)), plan, from, to, nil)
		if err != nil {
			require.ErrorIs(t, err, presence.ErrInvalid)
			return "refused", nil
		}
		for i := range skipped {
			require.Positive(t, skipped[i].Line)
			require.NotEmpty(t, skipped[i].Why)
			skipped[i].Line = 0
			skipped[i].Why = lineNumber.ReplaceAllString(skipped[i].Why, "line")
		}
		return fmt.Sprintln(list, skipped), list
	}
	f.Fuzz(func(t *testing.T, data []byte, seed uint64) {
		got, list := text(t, data)
		again, _ := text(t, refold(data, rand.New(rand.NewPCG(seed, 1))))
		require.Equal(t, got, again)
		p := plan
		p.Exceptions = append(p.Exceptions[:1:1], list...)
		require.NoError(t, p.Validate())

		begun := 0
		content(data, func(l line) {
			if l.name == "BEGIN" && strings.EqualFold(strings.TrimSpace(l.value), "VEVENT") {
				begun++
			}
		})
		calendars, stray := structure(data, false)
		r := &reader{zone: time.UTC, last: 1, budget: &budget{ctx: t.Context(), left: maxLooks}}
		events, broken := len(stray), 0
		for _, c := range calendars {
			read, err := r.calendar(c)
			if err != nil {
				return
			}
			events += len(read)
			for _, e := range read {
				if e.broken {
					broken++
				}
			}
			if c.wrong != "" {
				broken++ // the calendar itself
			}
		}
		require.Equal(t, begun, events)
		require.Len(t, r.skipped, broken)
	})
}
