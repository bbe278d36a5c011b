package ical

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Every zone of the table is one that can be loaded, and is found by the name
// and by the description. This test sees the table itself.
func TestWindowsZones(t *testing.T) {
	names := 0
	for name, zone := range windowsZones {
		_, err := time.LoadLocation(zone)
		require.NoError(t, err, name)
		require.Equal(t, strings.ToLower(name), name)
		z := &zones{budget: &budget{ctx: t.Context(), left: maxLooks}}
		text := "(UTC+01:00) " + name
		if strings.Contains(name, "standard time") || strings.HasPrefix(name, "utc") || strings.HasPrefix(name, "russia") {
			names++
			text = strings.ToUpper(name)
		}
		found, why := z.find(text)
		require.NoError(t, why, name)
		_, want := time.Now().In(found).Zone()
		loaded, _ := time.LoadLocation(zone)
		_, got := time.Now().In(loaded).Zone()
		require.Equal(t, want, got, name)
	}
	require.Equal(t, 138, names)
}
