package scenario_test

import (
	"os"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/presence-go/presence"
	"github.com/presence-go/presence/presencetest/scenario"
	"github.com/presence-go/presence/preset"
)

// disguised returns a policy that works like p with the words of another.
// Statuses take the ids of those of the same class, in order. It adds the
// other's remaining words, so that the policy knows every word of it.
func disguised(p, as presence.Policy) presence.Policy {
	p = p.Clone()
	var left []presence.Status // that replace no status of p
	renamed := make(map[string]string)
	taken := make(map[int]bool)
	for _, s := range as.Statuses {
		i := slices.IndexFunc(p.Statuses, func(own presence.Status) bool { return own.Class == s.Class && renamed[own.ID] == "" })
		if i < 0 {
			left = append(left, s)
			continue
		}
		renamed[p.Statuses[i].ID] = s.ID
		taken[i] = true
	}
	for i, s := range p.Statuses {
		if !taken[i] { // under a name that is no word of the other policy
			renamed[s.ID] = "own-" + s.ID
		}
	}
	rename := func(ids ...*string) {
		for _, id := range ids {
			if *id != "" {
				*id = renamed[*id]
			}
		}
	}
	rename(&p.Default, &p.Disconnected, &p.Login.Status, &p.Work.KickedOut)
	for i := range p.Statuses {
		rename(&p.Statuses[i].ID)
	}
	for i := range p.Fold {
		rename(&p.Fold[i])
	}
	for i := range p.Idle {
		rename(&p.Idle[i].To)
		for j := range p.Idle[i].On {
			rename(&p.Idle[i].On[j])
		}
	}
	p.Statuses = append(p.Statuses, left...)
	return p
}

// TestPresets checks that the file of each preset fails under every other
// preset. The file must fail because of the other's rules, not because of
// unknown words.
func TestPresets(t *testing.T) {
	for _, name := range preset.Names() {
		s := load(t, "preset-"+name+".txt")
		own, _ := preset.Lookup(name)
		_, err := scenario.Run(t.Context(), s.file, scenario.Options{Policies: os.DirFS(files)})
		require.NoError(t, err, name)
		for _, other := range preset.Names() {
			if other == name {
				continue
			}
			t.Run(name+" under "+other, func(t *testing.T) {
				policy, _ := preset.Lookup(other)
				policy = disguised(policy, own)
				result, err := scenario.Run(t.Context(), s.file, scenario.Options{
					Policies: os.DirFS(files), Mutate: func(p *presence.Policy) { *p = policy.Clone() },
				})
				require.Error(t, err, "%s under %s", s.name, other)
				require.NotNil(t, result, "%s under %s: %v", s.name, other, err)
				require.Len(t, result.Failures, 1, "%s under %s: %v", s.name, other, err)
				at := slices.IndexFunc(s.file.Lines, func(l scenario.Line) bool { return l.Number == result.Failures[0].Line })
				require.NotNil(t, s.file.Lines[at].Expect, "%s under %s: %v", s.name, other, err)
			})
		}
	}
}
