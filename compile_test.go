package presence_test

import (
	"slices"
	"testing"

	"github.com/presence-go/presence"
	"github.com/stretchr/testify/require"
)

// Compile names the place of each fault of a policy.
func TestFaultsOfPolicies(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		change func(*presence.Policy)
		want   string
	}{
		"negative":      {func(p *presence.Policy) { p.Grace.Close = -1 }, `"grace.close": must not be negative`},
		"version":       {func(p *presence.Policy) { p.Version = 9 }, `"version": 9 is not supported`},
		"login":         {func(p *presence.Policy) { p.Login.Status = "busy" }, `"login.status": "busy" is set, but login.mode is not reset`},
		"many statuses": {func(p *presence.Policy) { p.Statuses = make([]presence.Status, presence.MaxStatuses+1) }, `"statuses": 257 are defined, at most 256 are allowed`},
		"status id":     {func(p *presence.Policy) { p.Statuses[0].ID = "a\x00" }, `"statuses`},
		"reserved":      {func(p *presence.Policy) { p.Statuses[0].ID = presence.StatusUnknown }, `the id is reserved`},
		"class":         {func(p *presence.Policy) { p.Statuses[0].Class = "moon" }, `"moon" is not a class; allowed: available, busy`},
		"nobody":        {func(p *presence.Policy) { p.Statuses[0].SelectableBy = []string{presence.ByNobody, presence.BySelf} }, `excludes every other entry`},
		"hidden from":   {func(p *presence.Policy) { p.Hideable = []presence.Audience{presence.AudienceSelf} }, `"hideable[0]": "self" is not allowed; allowed: team`},
		"source id":     {func(p *presence.Policy) { p.Sources = append(presence.DefaultSources(), []presence.Source{"a\x00"}) }, `"sources[`},
		"ranked twice": {func(p *presence.Policy) {
			p.Sources = append(presence.DefaultSources(), []presence.Source{presence.SourceManual})
		}, `"manual" is ranked twice`},
		"not ranked":     {func(p *presence.Policy) { p.Sources = presence.DefaultSources()[:1] }, `must be ranked`},
		"masks nothing":  {func(p *presence.Policy) { p.Idle[0].On = []string{} }, `lists no status to mask`},
		"raises":         {func(p *presence.Policy) { p.Idle[0].On, p.Idle[0].To = []string{"away"}, "available" }, `an idle stage only lowers availability`},
		"viewer":         {func(p *presence.Policy) { p.Views = map[presence.Audience][]string{"mars": nil} }, `"views": "mars" is not an audience; allowed: self`},
		"field":          {func(p *presence.Policy) { p.Views = map[presence.Audience][]string{presence.AudienceTeam: {"mood"}} }, `"mood" is not a field of views; allowed: `},
		"capacity":       {func(p *presence.Policy) { p.Work.Capacity = -1 }, `"work.capacity": -1 is not from 0 to`},
		"still a status": {func(p *presence.Policy) { p.Retired = map[string]string{"busy": "away"} }, `is still a status of this policy`},
	} {
		t.Run(name, func(t *testing.T) {
			p := presence.DefaultPolicy().Clone()
			tt.change(&p)
			_, err := presence.Compile(p)
			require.ErrorIs(t, err, presence.ErrInvalid)
			require.ErrorContains(t, err, tt.want)
		})
	}
}

// StatusOrder sorts by class, and puts a status that the policy lacks last.
func TestStatusOrder(t *testing.T) {
	t.Parallel()
	m := mustCompile(presence.DefaultPolicy())
	ids := []string{"moon", "offline", "available", "away", "busy"}
	slices.SortFunc(ids, func(a, b string) int { return m.StatusOrder(a) - m.StatusOrder(b) })
	require.Equal(t, []string{"available", "busy", "away", "offline", "moon"}, ids)
}
