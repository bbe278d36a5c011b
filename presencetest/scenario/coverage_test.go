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
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/presence-go/presence"
	"github.com/presence-go/presence/presencetest/scenario"
)

var (
	update = flag.Bool("update", false, "rewrite docs/coverage.md")
	search = flag.String("search", "", "print which single mutations would prove these statements, as in C13,C14, or all")
)

const (
	root      = "../.."
	files     = root + "/testdata/scenarios"
	coverage  = root + "/testdata/coverage.txt"
	table     = root + "/docs/coverage.md"
	browser   = root + "/examples/helpdesk/e2e"
	notYet    = "not yet: work, schedule and routing"
	edited    = `^([+=])(\d+) (.*)$`
	statement = `^[A-F]\d+$`
)

// sections has all statements there are: how many of each letter, and those that
// speak of what is not done yet.
var sections = []struct {
	letter string
	count  int
	later  func(n int) bool
}{
	{"A", 39, nil},
	{"B", 15, among(7, 8, 9, 10, 15)},
	{"C", 28, among(4, 5, 10, 11, 27)},
	{"D", 42, func(int) bool { return true }},
	{"E", 24, among(17, 18, 19, 20, 21)},
	{"F", 5, nil},
}

func among(list ...int) func(int) bool {
	return func(n int) bool { return slices.Contains(list, n) }
}

// statements lists those that must be proven, or those that come later.
func statements(later bool) (ids []string) {
	for _, s := range sections {
		for n := range s.count {
			if n++; later == (s.later != nil && s.later(n)) {
				ids = append(ids, s.letter+strconv.Itoa(n))
			}
		}
	}
	return ids
}

// always lists the statements about every history and every audience, which no
// single scenario can show: they need a test over random ones as well.
var always = []string{"A8", "A9", "A10", "A37", "B1", "B2", "C6", "C8", "E1", "E4", "E12"}

// readings has the statements that can be read in more than one way, and in how
// many: each reading is a policy, with a file of its own.
var readings = map[string]int{
	"A11": 2, "A26": 2, "A27": 2, "A34": 2, "A38": 2, "B13": 2, "B14": 2,
	"C26": 2, "C28": 3, "E13": 2, "E14": 2, "E15": 2, "E24": 2,
}

// row is one line of the data file: how a statement is proven.
type row struct {
	line      int
	statement string
	how       string // scenario, go test, browser
	name      string // of the file, the test or the check
	mutation  string // under which the scenario fails
}

// readRows reads the data file.
func readRows(t *testing.T) (rows []row) {
	t.Helper()
	in, err := os.Open(coverage)
	require.NoError(t, err)
	defer in.Close()
	known := slices.Concat(statements(false), statements(true))
	lines := bufio.NewScanner(in)
	for n := 1; lines.Scan(); n++ {
		text := strings.TrimSpace(lines.Text())
		if text == "" || strings.HasPrefix(text, "#") {
			continue
		}
		id, rest, _ := strings.Cut(text, " ")
		require.Contains(t, known, id, "coverage.txt:%d", n)
		rest = strings.TrimSpace(rest)
		r := row{line: n, statement: id, how: "scenario"}
		for _, how := range []string{"go test", "browser"} {
			if after, ok := strings.CutPrefix(rest, how+" "); ok {
				r.how, r.name = how, strings.TrimSpace(after)
			}
		}
		if r.how == "scenario" {
			r.name, r.mutation, _ = strings.Cut(rest, " ")
			r.mutation = strings.TrimSpace(r.mutation)
			require.NotEmpty(t, r.mutation, "coverage.txt:%d: a scenario proves nothing without a mutation under which it fails", n)
		}
		require.NotEmpty(t, r.name, "coverage.txt:%d", n)
		rows = append(rows, r)
	}
	require.NoError(t, lines.Err())
	return rows
}

// script is a scenario file of the project.
type script struct {
	name string
	src  []byte
	file *scenario.File
}

func load(t testing.TB, name string) *script {
	t.Helper()
	src, err := os.ReadFile(filepath.Join(files, name))
	require.NoError(t, err)
	f, err := scenario.Parse(name, src)
	require.NoError(t, err)
	return &script{name, src, f}
}

// proving lists the lines of a file that prove a statement.
func (s *script) proving(statement string) (lines []int) {
	for _, l := range s.file.Lines {
		if slices.Contains(l.Proves, statement) {
			lines = append(lines, l.Number)
		}
	}
	return lines
}

// change is a mutation that can be applied: to the policies of a file, or to the
// file itself.
type change struct {
	policy func(*presence.Policy) error
	insert bool
	line   int
	text   string
}

// parseChange reads a mutation: overrides as in a policy line, a JSON object that
// is laid over the policy, or +LINE TEXT and =LINE TEXT, which put a line after
// another one or in its place.
func parseChange(mutation string) (c change, err error) {
	if m := regexp.MustCompile(edited).FindStringSubmatch(mutation); m != nil {
		c.line, err = strconv.Atoi(m[2])
		c.insert, c.text = m[1] == "+", m[3]
		return c, err
	}
	if rest, ok := strings.CutPrefix(mutation, "{"); ok {
		c.policy = func(p *presence.Policy) error {
			data := `{"version": 1, "extends": "it", ` + rest
			changed, _, err := presence.ParsePolicy([]byte(data), func(string) (presence.Policy, bool) { return *p, true })
			if err == nil {
				*p = changed
			}
			return err
		}
		return c, nil
	}
	overrides := strings.Fields(mutation)
	for _, o := range overrides {
		if !strings.Contains(o, "=") {
			return c, fmt.Errorf("mutation %q: want PATH=VALUE, {JSON}, +LINE TEXT or =LINE TEXT", mutation)
		}
	}
	c.policy = func(p *presence.Policy) error {
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
	}
	return c, nil
}

// run runs a file to its end under a mutation and returns the numbers of the
// lines that fail, as they are without it. It is an error if the mutation changes
// nothing, or if the file cannot be run with it.
func (s *script) run(ctx context.Context, mutation string) (failing []int, err error) {
	c, err := parseChange(mutation)
	if err != nil {
		return nil, err
	}
	f, opts := s.file, scenario.Options{KeepGoing: true, Policies: os.DirFS(files)}
	changed := c.policy == nil
	var refused error
	if c.policy != nil {
		opts.Mutate = func(p *presence.Policy) {
			before, _ := p.JSON()
			if refused = cmp.Or(c.policy(p), refused); refused == nil {
				after, _ := p.JSON()
				changed = changed || !bytes.Equal(before, after)
			}
		}
	} else {
		lines := slices.Collect(strings.Lines(string(s.src)))
		if c.line < 1 || c.line > len(lines) {
			return nil, fmt.Errorf("mutation %q: there is no line %d", mutation, c.line)
		}
		if c.insert {
			lines = slices.Insert(lines, c.line, c.text+"\n")
		} else {
			lines[c.line-1] = c.text + "\n"
		}
		if f, err = scenario.Parse(s.name, []byte(strings.Join(lines, ""))); err != nil {
			return nil, err
		}
	}
	result, err := scenario.Run(ctx, f, opts)
	if _, failed := errors.AsType[*scenario.Failure](err); err != nil && !failed {
		return nil, err
	}
	if !changed {
		return nil, fmt.Errorf("mutation %q changes no policy: %w", mutation, cmp.Or(refused, errors.New("it is in force already")))
	}
	for _, failure := range result.Failures {
		n := failure.Line
		if c.insert && n > c.line {
			n--
		}
		failing = append(failing, n)
	}
	slices.Sort(failing)
	return slices.Compact(failing), nil
}

func both2(a, b []int) (list []int) {
	for _, n := range a {
		if slices.Contains(b, n) {
			list = append(list, n)
		}
	}
	return list
}
var _ = []any{ast.IsExported, parser.ParseFile, token.NewFileSet, fs.ValidPath, synctest.Wait, update, table, browser, notYet, statement, always, readings, readRows}

func TestSearch(t *testing.T) {
	want := strings.Split(*search, ",")
	names, _ := filepath.Glob(files + "/*.txt")
	type hit struct { file, mutation string; hits, fails, proves int; only bool; lines []int; mine []int }
	found := map[string][]hit{}
	for _, name := range names {
		s := load(t, filepath.Base(name))
		all := map[string]bool{}
		for _, l := range s.file.Lines { for _, p := range l.Proves { all[p] = true } }
		for _, m := range mutations {
			failing, err := s.run(t.Context(), m)
			if err != nil { continue }
			for id := range all {
				mine := both2(s.proving(id), failing)
				if len(mine) > 0 {
					found[id] = append(found[id], hit{s.name, m, len(mine), len(failing), len(s.proving(id)), false, failing, mine})
				}
			}
		}
	}
	for _, id := range statements(false) {
		if *search != "all" && !slices.Contains(want, id) { continue }
		hits := found[id]
		slices.SortStableFunc(hits, func(a, b hit) int { return cmp.Or(cmp.Compare(a.fails-a.hits, b.fails-b.hits), cmp.Compare(a.hits, b.hits)) })
		fmt.Printf("%s\n", id)
		seen := map[string]int{}
		for _, h := range hits {
			if seen[h.file]++; seen[h.file] > 7 { continue }
			fmt.Printf("    %-32s %-50s mine %v others %d %v\n", h.file, h.mutation, h.mine, h.fails-h.hits, h.lines)
		}
	}
}
