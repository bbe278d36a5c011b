package presence_test

import (
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// pureImports are what a deciding file may import. Time enters it as an argument
// alone: there is no clock, no I/O and no goroutine. The package context is there
// for the interfaces that are declared beside the decisions.
var pureImports = []string{
	"cmp", "context", "encoding/json", "errors", "fmt", "maps", "math", "slices", "strconv", "strings", "time", "unicode", "unicode/utf8",
}

// pureFiles are the files that decide, with what each may import besides.
var pureFiles = map[string][]string{
	"ref.go":     nil,
	"policy.go":  {"github.com/presence-go/presence/internal/conf"},
	"compile.go": nil,
	"state.go":   nil,
	"derive.go":  nil,
	"timeout.go": nil,
	"work.go":    nil,
	"access.go":  nil,
	"view.go":    nil,
	"channel.go": nil,
	"roster.go":  {"weak"}, // a snapshot is made once for all who have it
	"hours.go":   nil,
	"notify.go":  nil,
	"encode.go":  {"bytes", "sync"}, // a frame is encoded once for all who have it: sync.Once and sync.Pool
	"storage.go": nil,
}

// impureNames are what no deciding file may name although it imports the package.
var impureNames = map[string][]string{
	"time":    {"Now", "Since", "Until", "Sleep", "After", "AfterFunc", "NewTimer", "NewTicker", "Tick", "Timer", "Ticker"},
	"context": {"Background", "TODO", "AfterFunc", "WithCancel", "WithTimeout", "WithDeadline", "WithTimeoutCause", "WithDeadlineCause"},
	"sync":    {"Mutex", "RWMutex", "WaitGroup", "Cond", "Pool", "Map", "Once", "OnceFunc", "OnceValue", "NewCond"},
	"fmt":     {"Print", "Println", "Printf", "Scan", "Scanln", "Scanf"},
}

// memos are the names of sync that a deciding file may use: they keep a result
// that depends on its arguments alone.
var memos = map[string][]string{"encode.go": {"Once", "Pool"}}

func TestDecidingFilesArePure(t *testing.T) {
	for name, allowed := range pureFiles {
		t.Run(name, func(t *testing.T) {
			require.Empty(t, impurities(t, name, nil, slices.Concat(pureImports, allowed)))
		})
	}
}

func TestImpurityIsNoticed(t *testing.T) {
	for _, tt := range []struct {
		name, source, want string
	}{
		{"a goroutine", `package p; func f() { go f() }`, "starts a goroutine"},
		{"a channel", `package p; func f(c chan int) { c <- 1 }`, "uses a Go channel"},
		{"the clock", `package p; import "time"; var now = time.Now`, "time.Now"},
		{"the clock under another name", `package p; import clk "time"; func f() { clk.Sleep(1) }`, "time.Sleep"},
		{"all of the clock", `package p; import . "time"; var t = Now()`, "imports time as ."},
		{"chance", `package p; import "math/rand/v2"; var n = rand.Int()`, "imports math/rand/v2"},
		{"a clock made for tests", `package p; import "github.com/benbjohnson/clock"; var c clock.Clock`, "imports github.com/benbjohnson/clock"},
		{"a lock", `package p; import "sync"; var mu sync.Mutex`, "sync.Mutex"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			require.Contains(t, strings.Join(impurities(t, "p.go", tt.source, []string{"time", "sync"}), "\n"), tt.want)
		})
	}
}

// impurities lists what a file does that a pure one must not. The source is read
// from the file if it is nil.
func impurities(t *testing.T, name string, source any, allowed []string) (found []string) {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), name, source, parser.SkipObjectResolution)
	require.NoError(t, err)
	packages := make(map[string]string) // by the name in this file
	for _, spec := range file.Imports {
		path, err := strconv.Unquote(spec.Path.Value)
		require.NoError(t, err)
		if !slices.Contains(allowed, path) {
			found = append(found, "imports "+path)
		}
		local := path[strings.LastIndex(path, "/")+1:]
		if spec.Name != nil {
			local = spec.Name.Name
		}
		if local == "." || local == "_" {
			found = append(found, "imports "+path+" as "+local)
		}
		packages[local] = path
	}
	ast.Inspect(file, func(node ast.Node) bool {
		switch n := node.(type) {
		case *ast.GoStmt:
			found = append(found, "starts a goroutine")
		case *ast.SendStmt, *ast.SelectStmt, *ast.ChanType:
			found = append(found, "uses a Go channel")
		case *ast.SelectorExpr:
			if x, ok := n.X.(*ast.Ident); ok && slices.Contains(impureNames[packages[x.Name]], n.Sel.Name) && !slices.Contains(memos[name], n.Sel.Name) {
				found = append(found, "names "+packages[x.Name]+"."+n.Sel.Name)
			}
		}
		return true
	})
	return found
}

// goCommand runs the go command in this directory and returns the words it prints.
func goCommand(t *testing.T, args ...string) []string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", args...)
	out, err := cmd.Output()
	require.NoError(t, err, "go %s", strings.Join(args, " "))
	return strings.Fields(string(out))
}

// Whoever imports this package gets the standard library, the clock, x/sync and
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
