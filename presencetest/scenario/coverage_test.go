package scenario_test

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/presence-go/presence"
	"github.com/presence-go/presence/presencetest/scenario"
)

var (
	update = flag.Bool("update", false, "rewrite docs/coverage.md")
	search = flag.String("search", "", "with -v, list the single mutations under which lines fail that prove these statements, as in C13,C14, or all")
)

const (
	root      = "../.."
	files     = root + "/testdata/scenarios"
	proofs    = root + "/testdata/coverage.txt"
	table     = root + "/docs/coverage.md"
	checks    = root + "/examples/helpdesk/e2e/*.mjs"
	byFile    = "scenario"
	byGoTest  = "go test"
	byBrowser = "browser"
)

// sections has the sections of the statements about a product: a letter and the
// number of statements.
var sections = []struct {
	letter string
	count  int
}{{"A", 39}, {"B", 15}, {"C", 28}, {"D", 42}, {"E", 24}, {"F", 5}}

// statements lists the statements in order.
func statements() (ids []string) {
	for _, s := range sections {
		for n := range s.count {
			ids = append(ids, s.letter+strconv.Itoa(n+1))
		}
	}
	return ids
}

// always lists the statements about every history and every audience. A single
// scenario cannot prove them: each also needs a test over random histories.
var always = []string{"A8", "A9", "A10", "A37", "B1", "B2", "C6", "C8", "D9", "D36", "E1", "E4", "E12"}

// readings has the number of readings of each statement that can be read in
// several ways. Each reading is a policy and has its own scenario.
var readings = map[string]int{
	"A11": 2, "A26": 2, "A27": 2, "A34": 2, "A38": 2, "B13": 2, "B14": 2,
	"B8": 2, "C26": 2, "C27": 2, "C28": 3, "D4": 2, "D27": 2, "D39": 3, "D40": 2, "E13": 2, "E14": 2, "E15": 2, "E18": 2, "E24": 2,
}

// proof is a line of the data file: one proof of a statement.
type proof struct {
	line      int
	statement string
	by        string // byFile, byGoTest, byBrowser
	name      string // of the file, the test or the check
	mutation  string // of the file; a line that proves the statement fails under it
}

func readProofs(t *testing.T) (list []proof) {
	t.Helper()
	known := statements()
	in, err := os.Open(proofs)
	require.NoError(t, err)
	defer in.Close()
	lines := bufio.NewScanner(in)
	for n := 1; lines.Scan(); n++ {
		text := strings.TrimSpace(lines.Text())
		if text == "" || strings.HasPrefix(text, "#") {
			continue
		}
		p := proof{line: n, by: byFile}
		var rest string
		p.statement, rest, _ = strings.Cut(text, " ")
		require.Contains(t, known, p.statement, "coverage.txt:%d", n)
		rest = strings.TrimSpace(rest)
		for _, by := range []string{byGoTest, byBrowser} {
			if name, ok := strings.CutPrefix(rest, by+" "); ok {
				p.by, p.name = by, strings.TrimSpace(name)
			}
		}
		if p.by == byFile {
			p.name, p.mutation, _ = strings.Cut(rest, " ")
			p.mutation = strings.TrimSpace(p.mutation)
			require.NotEmpty(t, p.mutation, "coverage.txt:%d: want a mutation under which %s fails", n, p.name)
		}
		require.NotEmpty(t, p.name, "coverage.txt:%d: want FILE MUTATION, go test NAME, or browser NAME", n)
		list = append(list, p)
	}
	require.NoError(t, lines.Err())
	return list
}

// script is a scenario file of the project.
type script struct {
	name string
	src  []byte
	file *scenario.File
}

func load(t *testing.T, name string) *script {
	t.Helper()
	src, err := os.ReadFile(filepath.Join(files, name))
	require.NoError(t, err)
	f, err := scenario.Parse(name, src)
	require.NoError(t, err)
	return &script{name, src, f}
}

// proving lists the lines that prove a statement.
func (s *script) proving(statement string) (lines []int) {
	for _, l := range s.file.Lines {
		if slices.Contains(l.Proves, statement) {
			lines = append(lines, l.Number)
		}
	}
	return lines
}

// holds runs a script unchanged, on the core and through a tracker. It returns
// the statements that both have proven.
func (s *script) holds(t *testing.T) map[string][]int {
	t.Helper()
	opts := scenario.Options{Policies: os.DirFS(files)}
	pure, err := scenario.Run(t.Context(), s.file, opts)
	require.NoError(t, err)
	opts.Live = true
	live, err := scenario.Run(t.Context(), s.file, opts)
	require.NoError(t, err, "through a tracker")
	require.Equal(t, pure.Proven, live.Proven)
	return pure.Proven
}

// edit inserts a line after a line of a script, or replaces that line.
type edit struct {
	insert bool
	line   int
	text   string
}

var editForm = regexp.MustCompile(`^([+=])(\d+) (.*)$`)

// mutate parses a mutation. It returns either a change of each policy of a file
// or an edit of the file. See coverage.txt for the forms.
func mutate(mutation string) (policy func(*presence.Policy) error, e edit, err error) {
	if m := editForm.FindStringSubmatch(mutation); m != nil {
		e = edit{insert: m[1] == "+", text: m[3]}
		e.line, err = strconv.Atoi(m[2])
		return nil, e, err
	}
	if object, ok := strings.CutPrefix(mutation, "{"); ok {
		return func(p *presence.Policy) error {
			changed, _, err := presence.ParsePolicy([]byte(`{"version": 1, "extends": "it", `+object), func(string) (presence.Policy, bool) { return *p, true })
			if err == nil {
				*p = changed
			}
			return err
		}, e, nil
	}
	overrides := strings.Fields(mutation)
	for _, o := range overrides {
		if !strings.Contains(o, "=") {
			return nil, e, fmt.Errorf("mutation %q: want PATH=VALUE..., a JSON object, +LINE TEXT or =LINE TEXT", mutation)
		}
	}
	return func(p *presence.Policy) error {
		changed := p.Clone()
		for _, o := range overrides {
			path, value, _ := strings.Cut(o, "=")
			if err := changed.Set(path, value); err != nil {
				return err
			}
		}
		if _, err := presence.Compile(changed); err != nil {
			return err
		}
		*p = changed
		return nil
	}, e, nil
}

// failing runs a script under a mutation to its end. It returns the failing
// lines, numbered as in the unchanged script. A policy for which the mutation
// is invalid stays unchanged. It returns an error if the mutation changes no
// policy, or if the file cannot be run with it.
func (s *script) failing(ctx context.Context, mutation string) ([]int, error) {
	policy, e, err := mutate(mutation)
	if err != nil {
		return nil, err
	}
	f, opts := s.file, scenario.Options{KeepGoing: true, Policies: os.DirFS(files)}
	changed, why := policy == nil, error(nil)
	if policy != nil {
		opts.Mutate = func(p *presence.Policy) {
			before, _ := p.JSON()
			why = cmp.Or(why, policy(p))
			after, _ := p.JSON()
			changed = changed || !bytes.Equal(before, after)
		}
	} else if f, err = s.edited(e); err != nil {
		return nil, err
	}
	result, err := scenario.Run(ctx, f, opts)
	if _, failed := errors.AsType[*scenario.Failure](err); err != nil && !failed {
		return nil, err
	}
	if !changed {
		return nil, fmt.Errorf("mutation %q changes no policy of %s: %w", mutation, s.name, cmp.Or(why, errors.New("it holds already")))
	}
	var lines []int
	for _, failure := range result.Failures {
		n := failure.Line
		if e.insert && n > e.line {
			n--
		}
		lines = append(lines, n)
	}
	slices.Sort(lines)
	return slices.Compact(lines), nil
}

func (s *script) edited(e edit) (*scenario.File, error) {
	lines := slices.Collect(strings.Lines(string(s.src)))
	if e.line < 1 || e.line > len(lines) {
		return nil, fmt.Errorf("%s has no line %d", s.name, e.line)
	}
	if e.insert {
		lines = slices.Insert(lines, e.line, e.text+"\n")
	} else {
		lines[e.line-1] = e.text + "\n"
	}
	return scenario.Parse(s.name, []byte(strings.Join(lines, "")))
}

// split divides a list into the lines that are in another list and those that
// are not.
func split(list, other []int) (in, out []int) {
	for _, n := range list {
		if slices.Contains(other, n) {
			in = append(in, n)
		} else {
			out = append(out, n)
		}
	}
	return in, out
}

// spans writes line numbers, with consecutive numbers as one span.
func spans(lines []int) string {
	var parts []string
	for i := 0; i < len(lines); {
		end := i
		for end+1 < len(lines) && lines[end+1] == lines[end]+1 {
			end++
		}
		part := strconv.Itoa(lines[i])
		if end > i {
			part += "-" + strconv.Itoa(lines[end])
		}
		parts = append(parts, part)
		i = end + 1
	}
	return strings.Join(parts, ", ")
}

// goTests returns the files of the repository's tests and fuzz targets, by name.
func goTests(t *testing.T) map[string]string {
	t.Helper()
	where := make(map[string]string)
	err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (d.Name() == ".git" || d.Name() == "node_modules"):
			return fs.SkipDir
		case d.IsDir() || !strings.HasSuffix(name, "_test.go"):
			return nil
		}
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		for _, d := range f.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil && (strings.HasPrefix(fn.Name.Name, "Test") || strings.HasPrefix(fn.Name.Name, "Fuzz")) {
				where[fn.Name.Name], err = filepath.Rel(root, name)
			}
		}
		return err
	})
	require.NoError(t, err)
	return where
}

// TestCoverage checks the proof of every statement. The lines that prove it
// must hold on the core and through a tracker. At least one of them must fail
// when the policy is changed in one point, or the script where no policy can
// break the statement. The table of the proofs is docs/coverage.md.
func TestCoverage(t *testing.T) {
	var out strings.Builder
	out.WriteString(tableHead)
	cell := func(cells ...string) { fmt.Fprintf(&out, "| %s |\n", strings.Join(cells, " | ")) }

	all := readProofs(t)
	tests := goTests(t)
	scripts, proven := make(map[string]*script), make(map[string]map[string][]int)
	for _, p := range all {
		if p.by == byFile && scripts[p.name] == nil {
			t.Run(p.name, func(t *testing.T) {
				scripts[p.name] = load(t, p.name)
				proven[p.name] = scripts[p.name].holds(t)
			})
		}
	}
	for _, id := range statements() {
		t.Run(id, func(t *testing.T) {
			byFiles, byTests := make(map[string]bool), 0
			for _, p := range all {
				if p.statement != id {
					continue
				}
				switch p.by {
				case byGoTest:
					byTests++
					require.NotEmpty(t, tests[p.name], "coverage.txt:%d: there is no test %s", p.line, p.name)
					cell(id, "`"+p.name+"` in "+filepath.ToSlash(tests[p.name]), "", "")
				case byBrowser:
					byTests++
					cell(id, "`"+id+" "+p.name+"` in the browser", "", "")
				default:
					s := scripts[p.name]
					require.NotNil(t, s)
					proving := s.proving(id)
					require.NotEmpty(t, proving, "coverage.txt:%d: no line of %s proves it", p.line, p.name)
					require.ElementsMatch(t, proving, proven[p.name][id], "a line of %s did not run or did not hold", p.name)
					failing, err := s.failing(t.Context(), p.mutation)
					require.NoError(t, err, "coverage.txt:%d", p.line)
					hit, others := split(failing, proving)
					require.NotEmpty(t, hit, "coverage.txt:%d: under %s lines %v of %s fail, and none of those that prove it, %v", p.line, p.mutation, failing, p.name, proving)
					fails := spans(hit)
					if len(others) > 0 {
						fails += "; others: " + spans(others)
					}
					byFiles[p.name] = true
					cell(id, p.name+":"+spans(proving), "`"+p.mutation+"`", fails)
				}
			}
			require.Positive(t, len(byFiles)+byTests, "coverage.txt has no line for it")
			if slices.Contains(always, id) {
				require.NotEmpty(t, byFiles)
				require.Positive(t, byTests, "want a test over random histories too")
			}
			require.GreaterOrEqual(t, len(byFiles), readings[id], "want a scenario for each reading")
		})
	}
	out.WriteString(faultTable(t, tests))
	if *search != "" {
		t.Log(suggestions(t))
	}
	if t.Failed() {
		return
	}
	if *update {
		require.NoError(t, os.WriteFile(table, []byte(out.String()), 0o644))
	}
	written, err := os.ReadFile(table)
	require.NoError(t, err)
	require.Equal(t, out.String(), string(written), "docs/coverage.md is out of date; run go test ./presencetest/scenario -run TestCoverage -update")
}

// TestBrowserCoverage finds the checks of the help desk that prove statements
// about screens. They run in a browser, with the help desk.
func TestBrowserCoverage(t *testing.T) {
	names, err := filepath.Glob(checks)
	require.NoError(t, err)
	var sources strings.Builder
	for _, name := range names {
		src, err := os.ReadFile(name)
		require.NoError(t, err)
		sources.Write(src)
	}
	count := 0
	for _, p := range readProofs(t) {
		if p.by != byBrowser {
			continue
		}
		count++
		named := regexp.MustCompile("[\"'`]" + regexp.QuoteMeta(p.statement+" "+p.name) + "[\"'`]")
		require.True(t, named.MatchString(sources.String()), "coverage.txt:%d: %s has no check %s %s", p.line, checks, p.statement, p.name)
	}
	require.Positive(t, count)
}

const tableHead = `# Coverage

Every statement about a product that the library is measured by, and what proves it. The statements are those of the
products' own documents, by letter: A ThriveDesk, B ON Portal, C respond.io, D threads and queues, E tawk.to, F what holds
without any product.

A line that proves a statement says so with ` + "`proves=`" + `. It holds, on the core alone and through a whole tracker, and it
fails under the mutation beside it: a change of the policy by path or as JSON, or, where no policy could break the
statement, a line put after another one (` + "`+LINE`" + `) or in its place (` + "`=LINE`" + `). The last column has the lines that fail
then, those that prove the statement first. A statement that can be read in several ways has a scenario for each
reading; one about every history has a test over random histories too.

This file is generated from testdata/coverage.txt by

    go test ./presencetest/scenario -run TestCoverage -update

| Statement | Proven by | Fails under | Lines that fail |
| --- | --- | --- | --- |
`
