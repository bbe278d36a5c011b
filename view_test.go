package presence_test

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/presence-go/presence"
)

// TestValuesPrint: what is printed says what the value is.
func TestValuesPrint(t *testing.T) {
	until := presence.At(time.Date(2026, 1, 5, 9, 30, 0, 0, time.UTC))
	for want, value := range map[string]any{
		"ann: busy until 2026-01-05T09:30:00Z": presence.View{Subject: ann, Status: "busy", Until: until},
		"acme/ann: unknown":                    presence.View{Subject: presence.Ref{Tenant: "acme", ID: "ann"}, Status: presence.StatusUnknown},
		"5":                                    presence.NewCount(5),
		"0":                                    presence.NewCount(0),
		"":                                     presence.Count{},
		"supervisor kim":                       presence.Supervisor(presence.ID("kim")),
		"agent ann":                            presence.Actor{Subject: ann},
		"acme/sales":                           presence.Channel{Tenant: "acme", ID: "sales"},
	} {
		require.Equal(t, want, fmt.Sprint(value))
	}
	for n, want := range map[presence.Count]string{{}: "null", presence.NewCount(0): "0", presence.NewCount(5): "5"} {
		data, err := json.Marshal(n)
		require.NoError(t, err)
		require.Equal(t, want, string(data))
		back := presence.NewCount(7)
		require.NoError(t, json.Unmarshal(data, &back))
		require.Equal(t, n, back)
	}
}

// TestPresent: a view is present where the group counts it.
func TestPresent(t *testing.T) {
	tracker := crowd(t, presence.Options{})
	for _, by := range readers() {
		views, group, err := tracker.ListAs(t.Context(), by.Audience(), sales, nil)
		require.NoError(t, err)
		n := 0
		for _, v := range views {
			if v.Present() {
				n++
			}
		}
		require.Equal(t, group.Count, n, by.String())
	}
	require.False(t, presence.View{Status: presence.StatusUnknown}.Present())
	require.False(t, presence.View{Status: presence.StatusDisabled}.Present())
}
