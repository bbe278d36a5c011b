package presence_test

import (
	"bufio"
	"cmp"
	"fmt"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// allowance is what one design adds to the surface and to the seam. A design
// that needs more names adds a line, in the commit that adds the names.
type allowance struct {
	design string
	core   int // unexported names of deciding files that performing files use
	driver int // names of performing files that deciding files use
	// In the first circle: exported types, functions, methods.
	types, functions, methods int
	exported, docLines        int // of the root: all exported names; lines of go doc -short
}

var designs = []allowance{
	// The aims are 25 names of deciding files, 411 exported names, 120 lines.
	// Thirteen more names cross, each to keep one mechanism in one place: because and
	// allow, which complete a refusal; the three columns of eventKinds and
	// Event.validate, which put form before state; Question.check and checkOptionalID;
	// lastName and transitionName, the memo that many expiries need; mayReveal,
	// Roster.member and Machine.heartbeat, whose rules the driver must not
	// repeat. More names are exported since each word that a policy written in Go
	// sets is a constant.
	{design: "house", core: 38, driver: 0, types: 32, functions: 10, methods: 87, exported: 436, docLines: 122},
	// Belongs, with which a queue asks whether an agent may have a channel's work; the
	// outputs that report changes of membership; a word of work.returns.
	// WorkChannels is the comparable list in a View, so that views still compare with ==.
	// State.ends, which keeps a state from being packed; EndOver; OfUnchosen.
	{design: "faults", core: 1, types: 1, functions: 1, methods: 5, exported: 13, docLines: 2},
}

func allowed(field func(allowance) int) (sum int) {
	for _, d := range designs {
		sum += field(d)
	}
	return sum
}

// guard is a figure that must not rise above a ceiling.
type guard struct {
	name    string
	ceiling int
	find    func(t *testing.T, r *repository) []finding
	largest bool // the figure is the largest of the findings, and not their number
}

// finding is one place that counts.
type finding struct {
	place  string // a file, mostly with its line
	what   string
	figure int // of a guard of the largest
}

// guards begin at the figures of the day they were written. Only the ceilings of
// the first seven rise, by an allowance. Lower a ceiling once its figure is lower.
var guards = []guard{
	{name: "names of deciding files in performing files", ceiling: allowed(func(a allowance) int { return a.core }), find: namesOfCore},
	{name: "names of performing files in deciding files", ceiling: allowed(func(a allowance) int { return a.driver }), find: namesOfDriver},
	{name: "types of the first circle", ceiling: allowed(func(a allowance) int { return a.types }), find: firstTypes},
	{name: "functions of the first circle", ceiling: allowed(func(a allowance) int { return a.functions }), find: firstFunctions},
	{name: "methods of the first circle", ceiling: allowed(func(a allowance) int { return a.methods }), find: firstMethods},
	{name: "exported names", ceiling: allowed(func(a allowance) int { return a.exported }), find: exportedNames},
	{name: "lines of go doc -short", ceiling: allowed(func(a allowance) int { return a.docLines }), find: docLines},
	{name: "what a deciding file must not do", ceiling: 0, find: notPure},
	{name: "locals that shadow a name of the package or of an import", ceiling: 0, find: shadows},
	{name: "functions over 60 lines", ceiling: 0, find: longFunctions},
	{name: "lines of the longest root file", ceiling: 1250, find: longestFile, largest: true},
	{name: "atLeast and normalOrigin under adapters", ceiling: 0, find: copiedGuards},
	{name: "promoted methods of ws.Handler and sse.Handler", ceiling: 0, find: promotedMethods},
	{name: "replace in go.mod files", ceiling: 0, find: replaces},
	{name: "RegisterOnShutdown", ceiling: 0, find: shutdownHooks},
	{name: "policy words as literals", ceiling: 0, find: policyLiterals},
	{name: "files outside tests that import the clock without being listed", ceiling: 0, find: clockImports},
	{name: "Instant(x.Unix…())", ceiling: 0, find: instantsOfUnix},
	{name: "comment lines with a word to avoid", ceiling: 55, find: comments},
	{name: "documentation lines with a word to avoid", ceiling: 62, find: documents},
}

func TestHouse(t *testing.T) {
	r := readRepository(t)
	for _, g := range guards {
		t.Run(g.name, func(t *testing.T) {
			figure, fault := g.check(t, r)
			t.Logf("%d, at most %d", figure, g.ceiling)
			if fault != "" {
				t.Error(fault)
			}
		})
	}
}

// check returns the figure, and what is wrong if it is too large.
func (g guard) check(t *testing.T, r *repository) (figure int, fault string) {
	t.Helper()
	found := g.find(t, r)
	figure = len(found)
	if g.largest {
		figure = 0
		for _, f := range found {
			figure = max(figure, f.figure)
		}
	}
	if figure <= g.ceiling {
		return figure, ""
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %d, at most %d:\n", g.name, figure, g.ceiling)
	for _, f := range found {
		fmt.Fprintf(&b, "%s: %s\n", f.place, f.what)
	}
	return figure, b.String()
}

// repository is the text that the guards look at, by path.
type repository struct {
	fset  *token.FileSet
	texts map[string]string    // Go files, go.mod files and documentation
	files map[string]*ast.File // the Go files
	root  *types.Package       // the package in the root
	info  *types.Info
}

const house = "house_test.go" // which names what the guards look for

// readRepository reads all files but those of other projects.
func readRepository(t *testing.T) *repository {
	t.Helper()
	texts := make(map[string]string)
	err := fs.WalkDir(os.DirFS("."), ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && name != "." && (strings.HasPrefix(d.Name(), ".") || d.Name() == "node_modules"):
			return fs.SkipDir
		case d.IsDir() || path.Ext(name) != ".go" && path.Ext(name) != ".md" && d.Name() != "go.mod":
			return nil
		}
		data, err := os.ReadFile(filepath.FromSlash(name))
		texts[name] = string(data)
		return err
	})
	require.NoError(t, err)
	return newRepository(t, texts, exports(t, "."))
}

// newRepository parses texts and checks the types of the package in the root,
// whose imports are compiled already.
func newRepository(t *testing.T, texts, imports map[string]string) *repository {
	t.Helper()
	r := &repository{fset: token.NewFileSet(), texts: texts, files: make(map[string]*ast.File)}
	var root []*ast.File
	for _, name := range slices.Sorted(maps.Keys(texts)) {
		if path.Ext(name) != ".go" {
			continue
		}
		file, err := parser.ParseFile(r.fset, name, texts[name], parser.ParseComments|parser.SkipObjectResolution)
		require.NoError(t, err)
		r.files[name] = file
		if isRoot(name) {
			root = append(root, file)
		}
	}
	r.info = &types.Info{Defs: make(map[*ast.Ident]types.Object), Uses: make(map[*ast.Ident]types.Object), Selections: make(map[*ast.SelectorExpr]*types.Selection)}
	var err error
	r.root, err = (&types.Config{Importer: fromExports(r.fset, imports)}).Check("github.com/presence-go/presence", r.fset, root, r.info)
	require.NoError(t, err)
	return r
}

// exports has the files that the go command compiled packages and what they
// import into, by path.
func exports(t *testing.T, packages ...string) map[string]string {
	t.Helper()
	files := make(map[string]string)
	list := goCommand(t, append([]string{"list", "-export", "-deps", "-f", "{{if .Export}}{{.ImportPath}} {{.Export}}{{end}}"}, packages...)...)
	for pair := range slices.Chunk(list, 2) {
		files[pair[0]] = pair[1]
	}
	return files
}

func fromExports(fset *token.FileSet, files map[string]string) types.Importer {
	return importer.ForCompiler(fset, "gc", func(path string) (io.ReadCloser, error) { return os.Open(files[path]) })
}

// sorted returns the files that fit, in order of their names.
func (r *repository) sorted(fits func(name string) bool) (names []string) {
	for name := range r.files {
		if fits(name) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

func (r *repository) at(pos token.Pos) string {
	p := r.fset.Position(pos)
	return fmt.Sprintf("%s:%d", p.Filename, p.Line)
}

func isTest(name string) bool { return strings.HasSuffix(name, "_test.go") }

func isShipped(name string) bool { return !isTest(name) }

// isRoot reports whether a file is of the root package and no test.
func isRoot(name string) bool { return !strings.Contains(name, "/") && isShipped(name) }

// isPerforming reports whether a file of the root owns locks, timers or storage.
// All others decide.
func isPerforming(name string) bool {
	return isRoot(name) && (slices.Contains([]string{"presence.go", "conn.go", "watch.go"}, name) || strings.HasPrefix(name, "tracker_"))
}

func isDeciding(name string) bool { return isRoot(name) && !isPerforming(name) }

// crossing lists the names declared in files of one kind and used in files of
// another, each with its first use.
func (r *repository) crossing(from, to func(name string) bool, counts func(types.Object) bool) (found []finding) {
	uses := make(map[types.Object]token.Pos)
	for id, object := range r.info.Uses {
		object = origin(object)
		if object.Pkg() != r.root || !counts(object) || !to(r.fset.Position(id.Pos()).Filename) || !from(r.fset.Position(object.Pos()).Filename) {
			continue
		}
		if isLocal(object) {
			continue
		}
		if at, known := uses[object]; !known || id.Pos() < at {
			uses[object] = id.Pos()
		}
	}
	for object, at := range uses {
		found = append(found, finding{place: r.at(at), what: fmt.Sprintf("%s of %s", object.Name(), r.at(object.Pos()))})
	}
	slices.SortFunc(found, func(a, b finding) int { return cmp.Or(cmp.Compare(a.what, b.what), cmp.Compare(a.place, b.place)) })
	return found
}

// origin is the object that a method or a field of an instantiated type was made from.
func origin(object types.Object) types.Object {
	switch o := object.(type) {
	case *types.Func:
		return o.Origin()
	case *types.Var:
		return o.Origin()
	}
	return object
}

// isLocal reports whether an object belongs to a function.
func isLocal(object types.Object) bool {
	if v, ok := object.(*types.Var); ok && v.IsField() {
		return false
	}
	if f, ok := object.(*types.Func); ok && f.Signature().Recv() != nil {
		return false
	}
	return object.Parent() != object.Pkg().Scope()
}

func namesOfCore(_ *testing.T, r *repository) []finding {
	return r.crossing(isDeciding, isPerforming, func(o types.Object) bool { return !o.Exported() })
}

func namesOfDriver(_ *testing.T, r *repository) []finding {
	return r.crossing(isPerforming, isDeciding, func(types.Object) bool { return true })
}

// The circles of the surface. A name in no list counts as one of the first.
var (
	firstCircle = strings.Fields(`New ID ChannelID At NewCount NewWorkChannels Agent Supervisor Admin Visitor System
		Tracker Conn Watch Ref Channel Actor Identity Instant View Count WorkChannels Error Frame JournalQuery
		ConnectOptions WatchOptions Claim Group Change Notification Decision JournalRow Stats Load Endpoint
		Role Audience Cause Op FrameKind Verdict SubjectKind EndpointKind`)
	secondCircle = strings.Fields(`DefaultPolicy DefaultSources DefaultViews ParsePolicy
		Options Clock Policy Status IdleStage Grace DeviceRule VirtualRule LoginRule GroupRule WidgetRule GateRow WorkRule
		Class Routing Source`)
	thirdCircle = strings.Fields(`RoleAuthorizer Compile NewRoster
		Storage Transport Notifier Hours Record Write JournalReader Authorizer Question Machine State ConnState Event Output
		Presence Work Request EventKind OutputKind Reach EndReason Action Roster
		Tracker.Apply Tracker.State Tracker.Machine Tracker.Reload Tracker.Observe`)
)

func isFirst(name string) bool {
	return !slices.Contains(secondCircle, name) && !slices.Contains(thirdCircle, name)
}

// exported calls f for each exported name of the root package: a type, a
// function, a constant, a variable, and a method under the name of its type.
func (r *repository) exported(f func(name string, object types.Object, receiver *types.TypeName)) {
	for _, name := range r.root.Scope().Names() {
		object := r.root.Scope().Lookup(name)
		if !object.Exported() {
			continue
		}
		f(name, object, nil)
		named, isType := object.(*types.TypeName)
		if !isType {
			continue
		}
		n, isNamed := named.Type().(*types.Named)
		if !isNamed {
			continue
		}
		methods := slices.Collect(n.Methods())
		if i, ok := n.Underlying().(*types.Interface); ok {
			methods = slices.Collect(i.ExplicitMethods())
		}
		for _, m := range methods {
			if m.Exported() {
				f(name+"."+m.Name(), m, named)
			}
		}
	}
}

func firstTypes(_ *testing.T, r *repository) (found []finding) {
	r.exported(func(name string, object types.Object, _ *types.TypeName) {
		if _, ok := object.(*types.TypeName); ok && isFirst(name) {
			found = append(found, finding{place: r.at(object.Pos()), what: "type " + name + unlisted(name)})
		}
	})
	return found
}

// unlisted marks names that no circle lists.
func unlisted(name string) string {
	if slices.Contains(firstCircle, name) {
		return ""
	}
	return ", which no circle lists"
}

func firstFunctions(_ *testing.T, r *repository) (found []finding) {
	r.exported(func(name string, object types.Object, receiver *types.TypeName) {
		if _, ok := object.(*types.Func); ok && receiver == nil && isFirst(name) {
			found = append(found, finding{place: r.at(object.Pos()), what: "function " + name + unlisted(name)})
		}
	})
	return found
}

func firstMethods(_ *testing.T, r *repository) (found []finding) {
	r.exported(func(name string, object types.Object, receiver *types.TypeName) {
		if receiver != nil && isFirst(receiver.Name()) && isFirst(name) {
			found = append(found, finding{place: r.at(object.Pos()), what: "method " + name})
		}
	})
	return found
}

func exportedNames(_ *testing.T, r *repository) (found []finding) {
	r.exported(func(name string, object types.Object, _ *types.TypeName) {
		found = append(found, finding{place: r.at(object.Pos()), what: name})
	})
	return found
}

func docLines(t *testing.T, _ *repository) (found []finding) {
	out, err := exec.CommandContext(t.Context(), "go", "doc", "-short", ".").Output()
	require.NoError(t, err)
	for line := range strings.Lines(string(out)) {
		found = append(found, finding{place: "go doc -short", what: strings.TrimSpace(line)})
	}
	return found
}

// What a deciding file may import. Time enters it as an argument only. It has no
// clock, no I/O and no goroutine. The package context serves the interfaces that
// are declared beside the decisions.
var pureImportPaths = []string{
	"cmp", "context", "encoding/json", "errors", "fmt", "iter", "maps", "math", "slices", "strconv", "strings", "time", "unicode", "unicode/utf8",
}

// What single files may import besides, and what for.
var alsoPure = map[string][]string{
	"policy.go": {"github.com/presence-go/presence/internal/conf"},             // JSON of policies
	"roster.go": {"weak", "github.com/presence-go/presence/internal/smallmap"}, // a snapshot is made once for all who have it
	"encode.go": {"bytes", "sync"},                                             // Once and Pool, for a memo
}

// What no deciding file may name although it imports the package.
var impureOf = map[string][]string{
	"time":    {"Now", "Since", "Until", "Sleep", "After", "AfterFunc", "NewTimer", "NewTicker", "Tick", "Timer", "Ticker"},
	"context": {"Background", "TODO", "AfterFunc", "WithCancel", "WithTimeout", "WithDeadline", "WithTimeoutCause", "WithDeadlineCause"},
	"sync":    {"Mutex", "RWMutex", "WaitGroup", "Cond", "Map", "OnceFunc", "OnceValue", "OnceValues", "NewCond"},
	"fmt":     {"Print", "Println", "Printf", "Scan", "Scanln", "Scanf"},
}

// notPure lists what deciding files do that pure ones must not.
func notPure(t *testing.T, r *repository) (found []finding) {
	for _, name := range r.sorted(isDeciding) {
		file := r.files[name]
		note := func(node ast.Node, what string) {
			found = append(found, finding{place: r.at(node.Pos()), what: what})
		}
		for _, spec := range file.Imports {
			imported, err := strconv.Unquote(spec.Path.Value)
			require.NoError(t, err)
			if !slices.Contains(pureImportPaths, imported) && !slices.Contains(alsoPure[name], imported) {
				note(spec, "imports "+imported)
			}
			if spec.Name != nil && (spec.Name.Name == "." || spec.Name.Name == "_") {
				note(spec, "imports "+imported+" as "+spec.Name.Name)
			}
		}
		packages := importNames(file)
		ast.Inspect(file, func(node ast.Node) bool {
			switch n := node.(type) {
			case *ast.GoStmt:
				note(n, "starts a goroutine")
			case *ast.SendStmt, *ast.SelectStmt, *ast.ChanType:
				note(n, "uses a Go channel")
			case *ast.SelectorExpr:
				if x, ok := n.X.(*ast.Ident); ok && slices.Contains(impureOf[packages[x.Name]], n.Sel.Name) {
					note(n, "names "+packages[x.Name]+"."+n.Sel.Name)
				}
			}
			return true
		})
	}
	return found
}

var versionElement = regexp.MustCompile(`^v[0-9]+$`)

// importNames has the paths that a file imports, by the name in the file.
func importNames(file *ast.File) map[string]string {
	names := make(map[string]string)
	for _, spec := range file.Imports {
		imported := strings.Trim(spec.Path.Value, `"`)
		name := path.Base(imported)
		if versionElement.MatchString(name) {
			name = path.Base(path.Dir(imported))
		}
		if spec.Name != nil {
			name = spec.Name.Name
		}
		names[name] = imported
	}
	return names
}

// shadows lists locals, parameters, results and receivers of the root that have
// the name of a declaration of the package, or of a package that the file imports.
func shadows(_ *testing.T, r *repository) (found []finding) {
	packages := make(map[string]map[string]string) // by file
	for _, name := range r.sorted(isRoot) {
		packages[name] = importNames(r.files[name])
	}
	for id, object := range r.info.Defs {
		if object == nil || id.Name == "_" || !isLocal(object) {
			continue
		}
		if r.root.Scope().Lookup(id.Name) != nil || packages[r.fset.Position(id.Pos()).Filename][id.Name] != "" {
			found = append(found, finding{place: r.at(id.Pos()), what: id.Name})
		}
	}
	slices.SortFunc(found, func(a, b finding) int { return cmp.Or(cmp.Compare(a.what, b.what), cmp.Compare(a.place, b.place)) })
	return found
}

// longest is how many lines a function may have.
const longest = 60

// mayBeLong are functions that are longer for a reason.
var mayBeLong = map[string]string{
	"unpack": "in two functions it takes 13 % longer (BenchmarkUnpack)",
}

// isCore reports whether a file is of the root or of a package that applications
// import beside it.
func isCore(name string) bool {
	return isRoot(name) || isShipped(name) && slices.Contains([]string{"routing", "report", "schedule"}, path.Dir(name))
}

func longFunctions(_ *testing.T, r *repository) (found []finding) {
	for _, name := range r.sorted(isCore) {
		for _, decl := range r.files[name].Decls {
			f, ok := decl.(*ast.FuncDecl)
			if !ok || mayBeLong[f.Name.Name] != "" {
				continue
			}
			if lines := r.fset.Position(f.End()).Line - r.fset.Position(f.Pos()).Line + 1; lines > longest {
				found = append(found, finding{place: r.at(f.Pos()), what: fmt.Sprintf("%s has %d lines", f.Name.Name, lines)})
			}
		}
	}
	return found
}

func longestFile(_ *testing.T, r *repository) (found []finding) {
	for _, name := range r.sorted(isRoot) {
		lines := strings.Count(r.texts[name], "\n")
		found = append(found, finding{place: name, what: fmt.Sprintf("%d lines", lines), figure: lines})
	}
	slices.SortFunc(found, func(a, b finding) int { return cmp.Compare(b.figure, a.figure) })
	return found[:min(len(found), 3)]
}

// copiedGuards lists functions that adapters have copied from each other.
func copiedGuards(_ *testing.T, r *repository) (found []finding) {
	adapters := func(name string) bool { return strings.HasPrefix(name, "adapters/") && isShipped(name) }
	for _, name := range r.sorted(adapters) {
		for _, decl := range r.files[name].Decls {
			if f, ok := decl.(*ast.FuncDecl); ok && (f.Name.Name == "atLeast" || f.Name.Name == "normalOrigin") {
				found = append(found, finding{place: r.at(f.Pos()), what: f.Name.Name})
			}
		}
	}
	return found
}

// promotedMethods lists the methods that a handler has from what it embeds.
func promotedMethods(t *testing.T, r *repository) (found []finding) {
	const under = "github.com/presence-go/presence/adapters/"
	fset := token.NewFileSet()
	imports := fromExports(fset, exports(t, under+"ws", under+"sse"))
	for _, name := range []string{"ws", "sse"} {
		pkg, err := imports.Import(under + name)
		require.NoError(t, err)
		handler := pkg.Scope().Lookup("Handler")
		for method := range types.NewMethodSet(types.NewPointer(handler.Type())).Methods() {
			if len(method.Index()) > 1 && method.Obj().Exported() {
				p := fset.Position(handler.Pos())
				place := fmt.Sprintf("adapters/%s/%s:%d", name, filepath.Base(p.Filename), p.Line)
				found = append(found, finding{place: place, what: "Handler promotes " + method.Obj().Name()})
			}
		}
	}
	return found
}

// matches lists the lines of files that fit.
func (r *repository) matches(fits func(name string) bool, line *regexp.Regexp) (found []finding) {
	for _, name := range slices.Sorted(maps.Keys(r.texts)) {
		if !fits(name) {
			continue
		}
		for number, text := range numbered(r.texts[name]) {
			for range line.FindAllString(text, -1) {
				found = append(found, finding{place: fmt.Sprintf("%s:%d", name, number), what: strings.TrimSpace(text)})
			}
		}
	}
	return found
}

// numbered yields the lines of a text with their numbers.
func numbered(text string) func(yield func(int, string) bool) {
	return func(yield func(int, string) bool) {
		lines := bufio.NewScanner(strings.NewReader(text))
		lines.Buffer(nil, len(text)+1)
		for number := 1; lines.Scan(); number++ {
			if !yield(number, lines.Text()) {
				return
			}
		}
	}
}

func replaces(_ *testing.T, r *repository) []finding {
	return r.matches(func(name string) bool { return path.Base(name) == "go.mod" }, regexp.MustCompile(`=>`))
}

func shutdownHooks(_ *testing.T, r *repository) []finding {
	code := func(name string) bool { return name != house && path.Ext(name) == ".go" }
	return r.matches(code, regexp.MustCompile(`\bRegisterOnShutdown\b`))
}

// policyWords are the words of policies, beside ids and names of fields.
var policyWords = strings.Fields(`subject connection session account mask refuse keep reset input login claim focus show
	available away busy dnd offline visible any unchosen all online none report lease push bot service ignore top
	drain requeue logout closed never least-loaded longest-idle round-robin
	last sticky transfer self supervisor system nobody deliver skip defer`)

// policyLiterals lists the words of policies that deciding files compare, assign
// or allow as literals, where a constant belongs.
func policyLiterals(_ *testing.T, r *repository) (found []finding) {
	for _, name := range r.sorted(isDeciding) {
		var note func(list ...ast.Expr)
		note = func(list ...ast.Expr) {
			for _, x := range list {
				switch n := x.(type) {
				case *ast.CompositeLit:
					if _, ok := n.Type.(*ast.ArrayType); ok {
						note(n.Elts...)
					}
				case *ast.BasicLit:
					if word, err := strconv.Unquote(n.Value); err == nil && n.Kind == token.STRING && slices.Contains(policyWords, word) {
						found = append(found, finding{place: r.at(n.Pos()), what: n.Value + " is a literal"})
					}
				}
			}
		}
		ast.Inspect(r.files[name], func(node ast.Node) bool {
			switch n := node.(type) {
			case *ast.BinaryExpr:
				if n.Op == token.EQL || n.Op == token.NEQ {
					note(n.X, n.Y)
				}
			case *ast.CaseClause:
				note(n.List...)
			case *ast.IndexExpr:
				note(n.Index)
			case *ast.AssignStmt:
				note(n.Rhs...)
			case *ast.CallExpr:
				if f, ok := n.Fun.(*ast.SelectorExpr); ok && f.Sel.Name == "oneOf" {
					note(n.Args[2:]...)
				}
			}
			return true
		})
	}
	return found
}

// clockFiles are the files outside tests that import the mock of the clock. A
// design that needs another adds it.
var clockFiles = []string{
	"presence.go", "watch.go", "internal/timeline/timeline.go", "internal/timeline/still.go",
}

func clockImports(_ *testing.T, r *repository) (found []finding) {
	for _, name := range r.sorted(isShipped) {
		for _, spec := range r.files[name].Imports {
			if spec.Path.Value == `"github.com/benbjohnson/clock"` && !slices.Contains(clockFiles, name) {
				found = append(found, finding{place: r.at(spec.Pos()), what: "imports the clock"})
			}
		}
	}
	return found
}

// instantsOfUnix lists conversions that take another unit or zero for an instant.
func instantsOfUnix(_ *testing.T, r *repository) (found []finding) {
	for _, name := range r.sorted(func(string) bool { return true }) {
		ast.Inspect(r.files[name], func(node ast.Node) bool {
			call, ok := node.(*ast.CallExpr)
			if !ok || len(call.Args) != 1 || lastName(call.Fun) != "Instant" {
				return true
			}
			if of, ok := call.Args[0].(*ast.CallExpr); ok && strings.HasPrefix(lastName(of.Fun), "Unix") {
				found = append(found, finding{place: r.at(call.Pos()), what: "Instant of " + lastName(of.Fun)})
			}
			return true
		})
	}
	return found
}

// lastName is the name of an identifier or selector.
func lastName(x ast.Expr) string {
	switch n := x.(type) {
	case *ast.Ident:
		return n.Name
	case *ast.SelectorExpr:
		return n.Sel.Name
	}
	return ""
}

// avoided matches the words to avoid in prose. The verb "go" is left out, since
// it is the name of a command.
var avoided = regexp.MustCompile(`(?i)\b(` + strings.Join([]string{
	"whoever", "somebody", "nobody", "those who",
	"there is", "there are",
	"tell", "tells", "told", "say", "says", "said",
	"goes by", "by right of", "as planned",
	"so is", "does so", "is so",
	"bound", "bounds", "bounded",
	"come", "comes", "goes", "be there",
	"rung", "rungs", "alone", "anew",
}, "|") + `)\b`)

func comments(_ *testing.T, r *repository) (found []finding) {
	for _, name := range r.sorted(func(string) bool { return true }) {
		for _, group := range r.files[name].Comments {
			for _, c := range group.List {
				first := r.fset.Position(c.Pos()).Line
				for number, text := range numbered(c.Text) {
					if word := avoided.FindString(text); word != "" {
						found = append(found, finding{place: fmt.Sprintf("%s:%d", name, first+number-1), what: word})
					}
				}
			}
		}
	}
	return found
}

func documents(_ *testing.T, r *repository) (found []finding) {
	for _, name := range slices.Sorted(maps.Keys(r.texts)) {
		if path.Ext(name) != ".md" {
			continue
		}
		code := false
		for number, text := range numbered(r.texts[name]) {
			if strings.HasPrefix(strings.TrimSpace(text), "```") {
				code = !code
			}
			if word := avoided.FindString(text); !code && word != "" {
				found = append(found, finding{place: fmt.Sprintf("%s:%d", name, number), what: word})
			}
		}
	}
	return found
}

// H1: each guard fails where it must, and names the place.
func TestHouseNotices(t *testing.T) {
	imports := exports(t, ".")
	clean := map[string]string{
		"state.go":  "package presence\n\ntype State struct{}\n\nfunc step() {}\n",
		"watch.go":  "package presence\n\nimport \"sync\"\n\n// Watch waits.\ntype Watch struct{ mu sync.Mutex }\n",
		"encode.go": "package presence\n\nimport \"sync\"\n\nvar memo sync.Once\n",
		"README.md": "Call Close to end a watch.\n\n```\ngo test bounds\n```\n",
		"go.mod":    "module m\n",
	}
	const (
		core, driver, pure = "names of deciding files in performing files", "names of performing files in deciding files", "what a deciding file must not do"
		words, unix        = "policy words as literals", "Instant(x.Unix…())"
	)
	for _, tt := range []struct {
		guard, file, text, place, what string
	}{
		{core, "conn.go", "package presence\n\nfunc f() { step() }\n", "conn.go:3", "step of state.go:5"},
		{core, "tracker_x.go", "package presence\n\nfunc f() { step() }\n", "tracker_x.go:3", "step of state.go:5"},
		{driver, "roster.go", "package presence\n\ntype stream struct{ w *Watch }\n", "roster.go:3", "Watch of watch.go:6"},
		{driver, "roster.go", "package presence\n\nfunc f(w *Watch) {\n\t_ = &w.mu\n}\n", "roster.go:4", "mu of watch.go:6"},
		{"types of the first circle", "ref.go", "package presence\n\ntype Other int\n", "ref.go:3", "Other, which no circle lists"},
		{"functions of the first circle", "ref.go", "package presence\n\nfunc Other() {}\n", "ref.go:3", "Other, which no circle lists"},
		{"methods of the first circle", "conn.go", "package presence\n\nfunc (*Watch) Other() {}\n", "conn.go:3", "Watch.Other"},
		{"exported names", "ref.go", "package presence\n\nconst Other = 1\n", "ref.go:3", "Other"},
		{pure, "view.go", "package presence\n\nimport \"time\"\n\nvar now = time.Now\n", "view.go:5", "time.Now"},
		{pure, "view.go", "package presence\n\nimport clk \"time\"\n\nfunc f() { clk.Sleep(1) }\n", "view.go:5", "time.Sleep"},
		{pure, "view.go", "package presence\n\nimport . \"time\"\n\nvar now = Now()\n", "view.go:3", "imports time as ."},
		{pure, "view.go", "package presence\n\nfunc f() { go step() }\n", "view.go:3", "starts a goroutine"},
		{pure, "view.go", "package presence\n\nfunc f(c chan<- int) {\n\tc <- 1\n}\n", "view.go:4", "uses a Go channel"},
		{pure, "view.go", "package presence\n\nimport \"crypto/rand\"\n\nvar text = rand.Text()\n", "view.go:3", "imports crypto/rand"},
		{pure, "view.go", "package presence\n\nimport \"github.com/benbjohnson/clock\"\n\nvar c clock.Clock\n", "view.go:3", "imports github.com/benbjohnson/clock"},
		{pure, "view.go", "package presence\n\nimport \"sync\"\n\nvar o sync.Once\n", "view.go:3", "imports sync"},
		{pure, "encode.go", "package presence\n\nimport \"sync\"\n\nvar mu sync.Mutex\n", "encode.go:5", "sync.Mutex"},
		{"locals that shadow a name of the package or of an import", "view.go", "package presence\n\nfunc f() {\n\tstep := 1\n\t_ = step\n}\n", "view.go:4", "step"},
		{"locals that shadow a name of the package or of an import", "view.go", "package presence\n\nimport \"slices\"\n\nfunc f(slices []int) {}\n\nvar _ = slices.Max[[]int]\n", "view.go:5", "slices"},
		{"functions over 60 lines", "view.go", "package presence\n\nfunc f() {" + strings.Repeat("\n", 60) + "}\n", "view.go:3", "f has 61 lines"},
		{"lines of the longest root file", "view.go", "package presence\n" + strings.Repeat("\n", 20), "view.go", "21 lines"},
		{"atLeast and normalOrigin under adapters", "adapters/x/x.go", "package x\n\nfunc atLeast() {}\n", "adapters/x/x.go:3", "atLeast"},
		{"replace in go.mod files", "x/go.mod", "module x\n\nreplace m => ../\n", "x/go.mod:3", "replace m => ../"},
		{"RegisterOnShutdown", "x/x_test.go", "package x\n\n// server.RegisterOnShutdown(f)\n", "x/x_test.go:3", "RegisterOnShutdown"},
		{words, "view.go", "package presence\n\nfunc f(mode string) bool { return mode == \"reset\" }\n", "view.go:3", "reset"},
		{words, "view.go", "package presence\n\nfunc f(word string) {\n\tswitch word {\n\tcase \"sticky\":\n\t}\n}\n", "view.go:5", "sticky"},
		{words, "view.go", "package presence\n\ntype c struct{}\n\nfunc (c) oneOf(path, word string, list ...string) {}\n\nfunc f(x c) { x.oneOf(\"all\", \"\", \"none\") }\n", "view.go:7", "none"},
		{words, "view.go", "package presence\n\nfunc f() {\n\tlist := []string{\"focus\"}\n\t_ = list\n}\n", "view.go:4", "focus"},
		{"files outside tests that import the clock without being listed", "x/x.go", "package x\n\nimport \"github.com/benbjohnson/clock\"\n\nvar c clock.Clock\n", "x/x.go:3", "imports the clock"},
		{unix, "x/x_test.go", "package x\n\nvar i = presence.Instant(now.UnixMilli())\n", "x/x_test.go:3", "UnixMilli"},
		{unix, "x/x.go", "package x\n\nvar i = Instant(now.Unix())\n", "x/x.go:3", "Unix"},
		{"comment lines with a word to avoid", "x/x_test.go", "package x\n\n/* One line.\nWhoever reads it. */\n", "x/x_test.go:4", "Whoever"},
		{"documentation lines with a word to avoid", "x/x.md", "Fine.\nSo is this: so is that.\n", "x/x.md:2", "So is"},
	} {
		t.Run(tt.guard+" in "+tt.file, func(t *testing.T) {
			g := guards[slices.IndexFunc(guards, func(g guard) bool { return g.name == tt.guard })]
			before, _ := g.check(t, newRepository(t, clean, imports))
			g.ceiling = before
			texts := maps.Clone(clean)
			texts[tt.file] = tt.text
			_, fault := g.check(t, newRepository(t, texts, imports))
			require.Regexp(t, "(?m)^"+regexp.QuoteMeta(tt.place+": ")+".*"+regexp.QuoteMeta(tt.what), fault)
		})
	}
}
