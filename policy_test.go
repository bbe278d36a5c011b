package presence_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/presence-go/presence"
	"github.com/presence-go/presence/preset"
)

// H11: a policy survives JSON as any value does.
func TestPoliciesAreJSON(t *testing.T) {
	for _, name := range preset.Names() {
		p, _ := preset.Lookup(name)
		data, err := json.Marshal(p)
		require.NoError(t, err, name)
		require.NotContains(t, string(data), "\n", name)
		parsed, warnings, err := presence.ParsePolicy(data, nil)
		require.NoError(t, err, name)
		require.Empty(t, warnings, name)
		want, err := p.JSON()
		require.NoError(t, err, name)
		got, err := parsed.JSON()
		require.NoError(t, err, name)
		require.Equal(t, string(want), string(got), name)
		var host struct{ Presence *presence.Policy }
		require.NoError(t, json.Unmarshal([]byte(`{"presence":`+string(data)+`}`), &host), name)
		require.Equal(t, parsed, *host.Presence, name)
	}
	kept := presence.DefaultPolicy()
	require.ErrorContains(t, json.Unmarshal([]byte(`{"version":1,"extends":"default"}`), &kept), `invalid policy "extends"`)
	require.Equal(t, presence.DefaultPolicy(), kept, "a fault changes nothing")
}

// Each fault of a policy names its path, and the words that are allowed there.
func TestFaultsOfPoliciesNameThePath(t *testing.T) {
	p := presence.DefaultPolicy()
	p.Default, p.ClaimScope, p.Idle[0].After = "lunch", "planet", 0
	_, err := presence.Compile(p)
	var given []string
	for _, fault := range err.(interface{ Unwrap() []error }).Unwrap() {
		refusal, ok := errors.AsType[*presence.Error](fault)
		require.True(t, ok, "%v", fault)
		require.Equal(t, presence.ErrInvalid, refusal.Err)
		require.Equal(t, "policy", refusal.What)
		given = append(given, refusal.Given)
		switch refusal.Given {
		case "default":
			require.Equal(t, []string{"available", "away", "busy", "offline"}, refusal.Allowed)
		case "claimScope":
			require.Equal(t, []string{"subject", presence.ScopeConnection}, refusal.Allowed)
		}
	}
	require.ElementsMatch(t, []string{"default", "claimScope", "idle[0].after"}, given)

	refusal, ok := errors.AsType[*presence.Error](p.Set("grace.close", "soon"))
	require.True(t, ok)
	require.Equal(t, "grace.close", refusal.Given)
}

// Each fault of a document is a refusal with its path. A single one is in no list.
func TestFaultsOfDocumentsAreRefusals(t *testing.T) {
	for document, want := range map[string][]string{
		`{"version":1,"lease":"soon"}`: {"lease"}, `{"version":1,"lease":"soon","heartbeat":"x"}`: {"heartbeat", "lease"},
		`{"version":1,"lease":"soon","heartbeat":"x","grace":{"close":[]}}`: {"heartbeat", "lease", "grace.close"}, `{"version":1,"lease":"soon","moon":7}`: {"lease", "moon"}, `[`: {""},
	} {
		_, _, err := presence.ParsePolicy([]byte(document), nil)
		var given []string
		var walk func(error)
		walk = func(err error) {
			if refusal, ok := err.(*presence.Error); ok {
				require.Equal(t, presence.ErrInvalid, refusal.Err)
				given = append(given, refusal.Given)
				return
			}
			joined, ok := err.(interface{ Unwrap() []error })
			require.True(t, ok, "%s: %v", document, err)
			require.Greater(t, len(want), 1, document)
			for _, fault := range joined.Unwrap() {
				walk(fault)
			}
		}
		walk(err)
		require.ElementsMatch(t, want, given, document)
	}
}

// A claim's duration is written in nanoseconds, as in records, and read as text too.
func TestDurationsOfClaims(t *testing.T) {
	var c presence.Claim
	require.NoError(t, json.Unmarshal([]byte(`{"status":"busy","for":"5m","hidesFrom":["team"]}`), &c))
	want := presence.Claim{Status: "busy", For: 5 * time.Minute, HidesFrom: []presence.Audience{presence.AudienceTeam}}
	require.Equal(t, want, c)
	data, err := json.Marshal(c)
	require.NoError(t, err)
	require.Equal(t, `{"serial":0,"status":"busy","source":"","setAt":"","for":300000000000,"hidesFrom":["team"]}`, string(data))
	var again presence.Claim
	require.NoError(t, json.Unmarshal(data, &again))
	require.Equal(t, want, again)
	require.NoError(t, json.Unmarshal([]byte(`{"key":"base"}`), &again))
	want.Key = presence.KeyBase
	require.Equal(t, want, again, "what is absent stays")
	for _, bad := range []string{`"soon"`, `"5"`, `{}`, `1.5`, `"5m`} {
		require.Error(t, json.Unmarshal([]byte(`{"for":`+bad+`}`), &again), bad)
	}
}

// Whatever is wrong with a document is reported at once: values that do not fit
// their keys beside unknown keys.
func TestPolicyFaultsOfEveryKindTogether(t *testing.T) {
	t.Parallel()
	_, _, err := presence.ParsePolicy([]byte(`{"version": 1, "moon": "full", "lease": "soon", "grace": {"closed": "5s"}}`), nil)
	require.ErrorContains(t, err, `invalid policy "moon": unknown key; allowed: version, `)
	require.ErrorContains(t, err, `invalid policy "grace.closed": unknown key; allowed: logout, close, loss`)
	require.ErrorContains(t, err, `invalid policy "lease": want a duration`)
}

// A policy is read in each minor version of this format, whose unknown keys are then
// warnings. What cannot be read leaves nothing.
func TestPoliciesAreReadByVersion(t *testing.T) {
	t.Parallel()
	const statuses = `"statuses":[{"id":"out","class":"offline"}]`
	mine := presence.Policy{Name: "mine", Statuses: []presence.Status{{ID: "in", Class: presence.ClassOffline}}}
	base := func(name string) (presence.Policy, bool) { return mine.Clone(), name == "mine" }
	for text, want := range map[string]string{
		`{"version":1,` + statuses + `}`:                            "out",
		`{"version":1.5,` + statuses + `}`:                          "out",
		`{"version":1.9,"mood":1,"grace":{"x":1},` + statuses + `}`: "out grace.x mood",
		`{"version":1,"extends":"mine"}`:                            "in",
		`{"version":1,"extends":"mine","name":"other"}`:             "in",
		`{"version":1,"mood":1,` + statuses + `}`:                   `"mood": unknown key; allowed: version, `,
		`{"version":1,"extends":"moon"}`:                            `"extends": no policy is named "moon"`,
		`{"version":0.9,` + statuses + `}`:                          `"version": 0.9 is not supported, this package reads version 1`,
		`{"version":2,` + statuses + `}`:                            `"version": 2 is not supported, this package reads version 1`,
		`{` + statuses + `}`:                                        `"version": 0 is not supported, this package reads version 1`,
		`{"version":1}`:                                             `"statuses": a policy needs at least one status`,
		`{"version":1,"lease":"soon",` + statuses + `}`:             `"lease": want a duration`,
		`{"version":"1"}`:                                           `"version": want`,
		`[`:                                                         `presence: invalid policy: `,
	} {
		p, warnings, err := presence.ParsePolicy([]byte(text), base)
		if err != nil {
			require.ErrorIs(t, err, presence.ErrInvalid, text)
			require.ErrorContains(t, err, want, text)
			require.NotContains(t, err.Error(), "\n", "%s has one fault", text)
			require.Nil(t, warnings, text)
			require.Zero(t, p.Statuses, text)
			continue
		}
		require.Equal(t, want, strings.Join(append([]string{p.Statuses[0].ID}, warnings...), " "), text)
		require.InDelta(t, 1, p.Version, 0, text)
		require.Empty(t, p.Extends, text)
	}
	_, _, err := presence.ParsePolicy([]byte(`{"version":1,"extends":"mine"}`), nil)
	require.EqualError(t, err, `presence: invalid policy "extends": no policy is named "mine"`)

	kept := presence.DefaultPolicy()
	_, one := kept.Set("grace.close", "soon").(*presence.Error)
	require.True(t, one)
	require.Equal(t, presence.DefaultPolicy(), kept)
	require.NoError(t, kept.Set("grace.close", "7s"))
	require.Equal(t, 7*time.Second, kept.Grace.Close)
}

// Adding and removing a status changes no copy of the policy.
func TestStatusesOfCopies(t *testing.T) {
	t.Parallel()
	p := presence.DefaultPolicy()
	p.Retired = map[string]string{"lunch": "away"}
	before := p.Clone()
	changed := p
	changed.AddStatus(presence.Status{ID: "lunch", Class: presence.ClassAway})
	changed.AddStatus(presence.Status{ID: "busy", Label: "Hush", Class: presence.ClassBusy})
	require.Equal(t, "lunch", changed.Statuses[4].ID)
	require.Empty(t, changed.Retired)
	require.NoError(t, changed.RemoveStatus("offline", "away"))
	require.NoError(t, changed.RemoveStatus("lunch", ""))
	require.Equal(t, map[string]string{"offline": "away"}, changed.Retired)
	require.Len(t, changed.Statuses, 3)
	require.EqualError(t, changed.RemoveStatus("lunch", ""), `presence: unknown status "lunch": the policy has none of that id`)
	require.Equal(t, before, p)
}
