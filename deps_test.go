package presence_test

import (
	"encoding/json"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// goCommand runs the go command in this directory and returns the words it prints.
func goCommand(t *testing.T, args ...string) []string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", args...)
	out, err := cmd.Output()
	require.NoError(t, err, "go %s", strings.Join(args, " "))
	return strings.Fields(string(out))
}

// An importer of this package gets the standard library, the clock, x/sync and
// packages of its own, and nothing else.
func TestDependencies(t *testing.T) {
	allowed := []string{"github.com/presence-go/presence", "github.com/benbjohnson/clock", "golang.org/x/sync"}
	deps := goCommand(t, "list", "-deps", "-f", "{{if not .Standard}}{{.ImportPath}}{{end}}", ".")
	require.Contains(t, deps, "github.com/presence-go/presence")
	for _, dep := range deps {
		ok := slices.ContainsFunc(allowed, func(path string) bool { return dep == path || strings.HasPrefix(dep, path+"/") })
		require.True(t, ok, "%s is imported, allowed are %s", dep, strings.Join(allowed, ", "))
	}

	data := strings.Join(goCommand(t, "mod", "edit", "-json"), " ")
	var mod struct {
		Require []struct {
			Path     string
			Indirect bool
		}
	}
	require.NoError(t, json.Unmarshal([]byte(data), &mod))
	var direct []string
	for _, r := range mod.Require {
		if !r.Indirect {
			direct = append(direct, r.Path)
		}
	}
	require.ElementsMatch(t, []string{"github.com/benbjohnson/clock", "github.com/stretchr/testify", "golang.org/x/sync"}, direct)
}
