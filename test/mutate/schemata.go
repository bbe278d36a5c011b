package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/scanner"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// program is a package with all mutants of some of its files in it. An environment
// variable chooses the one that runs.
type program struct {
	target
	dir     string
	root    string // of the repository
	exports map[string]string
	sites   []*site
	by      map[int]*site
	dropped int // sites that the compiler refused
	texts   map[string]string
}

// load parses the files of a target and finds their sites. Numbers start after first.
func load(root string, t target, first int) (*program, error) {
	p := &program{target: t, dir: filepath.Join(root, t.dir), root: root, by: make(map[int]*site), texts: make(map[string]string)}
	list := exec.Command("go", "list", "-export", "-deps", "-f", "{{if .Export}}{{.ImportPath}} {{.Export}}{{end}}", ".", "os", "strconv")
	list.Dir = p.dir
	out, err := list.Output()
	if err != nil {
		return nil, fmt.Errorf("go list in %s: %w", p.dir, err)
	}
	p.exports = make(map[string]string)
	words := strings.Fields(string(out))
	for i := 0; i+1 < len(words); i += 2 {
		p.exports[words[i]] = words[i+1]
	}
	names, err := filepath.Glob(filepath.Join(p.dir, "*.go"))
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		data, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		p.texts[filepath.Base(name)] = string(data)
	}
	fset, files, info, pkg, err := p.check(p.texts)
	if err != nil {
		return nil, err
	}
	for _, name := range sorted(p.texts) {
		if !t.mutates(name) {
			continue
		}
		for _, s := range find(fset, pkg, info, files[name], name, p.texts[name]) {
			s.key.file = filepath.ToSlash(filepath.Join(t.dir, name))
			s.id = first + len(p.sites) + 1
			p.sites = append(p.sites, s)
			p.by[s.id] = s
		}
	}
	return p, p.fit()
}

// check parses texts and checks their types. Of errors in types it returns all.
func (p *program) check(texts map[string]string) (fset *token.FileSet, files map[string]*ast.File, info *types.Info, pkg *types.Package, err error) {
	fset, files = token.NewFileSet(), make(map[string]*ast.File)
	var list []*ast.File
	for _, name := range sorted(texts) {
		file, err := parser.ParseFile(fset, name, texts[name], parser.SkipObjectResolution)
		if err != nil {
			return nil, nil, nil, nil, err
		}
		files[name] = file
		list = append(list, file)
	}
	info = &types.Info{Types: make(map[ast.Expr]types.TypeAndValue), Defs: make(map[*ast.Ident]types.Object)}
	var faults []error
	conf := types.Config{
		Importer: importer.ForCompiler(fset, "gc", func(path string) (io.ReadCloser, error) { return os.Open(p.exports[path]) }),
		Error:    func(err error) { faults = append(faults, err) },
	}
	pkg, _ = conf.Check(p.path(), fset, list, info)
	return fset, files, info, pkg, errors.Join(faults...)
}

func (p *program) path() string {
	if p.dir == p.root {
		return "mutated"
	}
	return "mutated/" + p.target.dir
}

var number = regexp.MustCompile(`activeMutant [!=]= ([0-9]+)`)

// fit drops the sites that do not compile, such as one whose mutant overflows.
func (p *program) fit() error {
	for range 100 {
		texts := p.schemata()
		_, _, _, _, err := p.check(texts)
		if err == nil {
			return nil
		}
		before := len(p.sites)
		for _, fault := range flatten(err) {
			name, offset := place(fault, texts)
			at := number.FindAllStringSubmatch(texts[name][:offset], -1)
			if len(at) == 0 {
				return fmt.Errorf("%s does not compile: %w", name, fault)
			}
			id, _ := strconv.Atoi(at[len(at)-1][1])
			if p.by[id] != nil {
				delete(p.by, id)
				p.sites = slices.DeleteFunc(p.sites, func(s *site) bool { return s.id == id })
				p.dropped++
			}
		}
		if len(p.sites) == before {
			return err
		}
	}
	return fmt.Errorf("%s: too many mutants do not compile", p.target.dir)
}

func flatten(err error) []error {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		return joined.Unwrap()
	}
	if list, ok := err.(scanner.ErrorList); ok {
		var all []error
		for _, e := range list {
			all = append(all, e)
		}
		return all
	}
	return []error{err}
}

// place returns the file of a fault and the offset just after it.
func place(fault error, texts map[string]string) (name string, offset int) {
	var at token.Position
	switch f := fault.(type) {
	case types.Error:
		at = f.Fset.Position(f.Pos)
	case *scanner.Error:
		at = f.Pos
	}
	return at.Filename, min(at.Offset+1, len(texts[at.Filename]))
}

// schemata returns the files of the package with all mutants.
func (p *program) schemata() map[string]string {
	texts := make(map[string]string)
	for name, text := range p.texts {
		var own []*site
		for _, s := range p.sites {
			if filepath.Base(s.key.file) == name {
				own = append(own, s)
			}
		}
		texts[name] = render(text, 0, len(text), own)
	}
	first := sorted(p.texts)[0]
	clause := regexp.MustCompile(`(?m)^package \w+`).FindString(p.texts[first])
	texts["mutant_active.go"] = clause + `

import (
	"os"
	"strconv"
)

// activeMutant is the number of the mutant that runs; 0 means none.
var activeMutant = func() int { n, _ := strconv.Atoi(os.Getenv("` + variable + `")); return n }()
`
	return texts
}

const variable = "PRESENCE_MUTANT"

// render returns the text from one offset to another with the mutants of sites, which
// are sorted by place.
func render(text string, from, to int, sites []*site) string {
	var b strings.Builder
	for len(sites) > 0 {
		s := sites[0]
		n := 1
		for n < len(sites) && sites[n].start < s.end {
			n++
		}
		b.WriteString(text[from:s.start])
		b.WriteString(s.wrap(s, render(text, s.start, s.end, sites[1:n])))
		from, sites = s.end, sites[n:]
	}
	b.WriteString(text[from:to])
	return b.String()
}

// build compiles the tests of packages with the mutants, in dir.
func (p *program) build(dir string) (binaries []*binary, err error) {
	overlay := struct{ Replace map[string]string }{make(map[string]string)}
	texts := p.schemata()
	for _, name := range sorted(texts) {
		file := filepath.Join(dir, strings.ReplaceAll(p.target.dir, "/", "_")+"_"+name)
		if err := os.WriteFile(file, []byte(texts[name]), 0o644); err != nil {
			return nil, err
		}
		overlay.Replace[filepath.Join(p.dir, name)] = file
	}
	data, err := json.Marshal(overlay)
	if err != nil {
		return nil, err
	}
	list := filepath.Join(dir, strings.ReplaceAll(p.target.dir, "/", "_")+".json")
	if err := os.WriteFile(list, data, 0o644); err != nil {
		return nil, err
	}
	for i, tests := range p.target.tests {
		b := &binary{name: tests, dir: filepath.Join(p.root, tests), file: filepath.Join(dir, fmt.Sprintf("%s_%d.test", strings.ReplaceAll(p.target.dir, "/", "_"), i))}
		compile := exec.Command("go", "test", "-c", "-vet=off", "-overlay", list, "-o", b.file, ".")
		compile.Dir = b.dir
		if out, err := compile.CombinedOutput(); err != nil {
			return nil, fmt.Errorf("go test -c in %s: %w\n%s", b.dir, err, out)
		}
		program, err := os.ReadFile(b.file)
		if err != nil {
			return nil, err
		}
		b.draws = bytes.Contains(program, []byte("presence/internal/seeds"))
		binaries = append(binaries, b)
	}
	return binaries, nil
}
