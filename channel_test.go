package presence_test

import (
	"encoding/json"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/presence-go/presence"
)

func TestChannelPrintsAndEncodesAsRef(t *testing.T) {
	for _, ref := range []presence.Ref{{}, presence.ID("sales"), {Tenant: "acme", ID: "sales"}} {
		require.Equal(t, ref.String(), presence.Channel(ref).String())
		want, err := json.Marshal(ref)
		require.NoError(t, err)
		have, err := json.Marshal(presence.Channel(ref))
		require.NoError(t, err)
		require.Equal(t, string(want), string(have))
	}
	require.Equal(t, presence.Channel{ID: "sales"}, presence.ChannelID("sales"))
}

// TestSwappedArgumentsDoNotCompile: a channel cannot stand where a subject
// belongs, nor a subject where a channel does.
func TestSwappedArgumentsDoNotCompile(t *testing.T) {
	exported := exportData(t, "context", "github.com/presence-go/presence", "github.com/presence-go/presence/routing")
	for right, swapped := range map[string]string{
		"t.AddMember(ctx, sales, ann)":                          "t.AddMember(ctx, ann, sales)",
		"t.RemoveMember(ctx, sales, ann)":                       "t.RemoveMember(ctx, ann, sales)",
		"t.Link(ctx, sales, sales)":                             "t.Link(ctx, sales, ann)",
		"t.Join(ctx, by, sales)":                                "t.Join(ctx, by, ann)",
		"t.Members(sales)":                                      "t.Members(ann)",
		"t.Watch(ctx, by, sales, presence.WatchOptions{})":      "t.Watch(ctx, by, ann, presence.WatchOptions{})",
		"t.WatchSubject(ctx, by, ann, presence.WatchOptions{})": "t.WatchSubject(ctx, by, sales, presence.WatchOptions{})",
		"t.SetHours(ctx, sales, nil)":                           "t.SetHours(ctx, ann, nil)",
		"t.Erase(ctx, ann)":                                     "t.Erase(ctx, sales)",
		"presence.NewRoster(sales, nil)":                        "presence.NewRoster(ann, nil)",
		"presence.Agent(ann)":                                   "presence.Agent(sales)",
		"presence.Frame{Channel: sales}":                        "presence.Frame{Channel: ann}",
		"routing.Work{Channel: sales, To: ann}":                 "routing.Work{Channel: ann, To: sales}",
	} {
		require.NoError(t, typeCheck(t, exported, right), right)
		require.ErrorContains(t, typeCheck(t, exported, swapped), "cannot use", swapped)
	}
}

// exportData returns the files of export data of packages and all they import.
func exportData(t *testing.T, paths ...string) map[string]string {
	out, err := exec.Command("go", append([]string{"list", "-export", "-deps", "-f", "{{.ImportPath}} {{.Export}}"}, paths...)...).Output()
	require.NoError(t, err)
	files := make(map[string]string)
	for line := range strings.Lines(string(out)) {
		path, file, _ := strings.Cut(strings.TrimSpace(line), " ")
		files[path] = file
	}
	return files
}

// typeCheck checks the types of an expression of a user of the package.
func typeCheck(t *testing.T, exported map[string]string, expr string) error {
	fset := token.NewFileSet()
	file, err := parser.ParseFile(fset, "user.go", `package user

import (
	"context"

	"github.com/presence-go/presence"
	"github.com/presence-go/presence/routing"
)

var (
	ctx   context.Context
	t     *presence.Tracker
	by    presence.Actor
	ann   presence.Ref
	sales presence.Channel
	_     routing.Work
	_     = []any{wrap(`+expr+`)}
)

func wrap(...any) any { return nil }
`, 0)
	require.NoError(t, err)
	conf := types.Config{Importer: importer.ForCompiler(fset, "gc", func(path string) (io.ReadCloser, error) {
		return os.Open(exported[path])
	})}
	_, err = conf.Check("user", fset, []*ast.File{file}, nil)
	return err
}
