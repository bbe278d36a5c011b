package main

import (
	"cmp"
	"fmt"
	"go/ast"
	"go/constant"
	"go/token"
	"go/types"
	"path"
	"slices"
	"strconv"
	"strings"
)

// site is one place in a file with one mutant of it.
type site struct {
	id         int
	start, end int // offsets of the text that the mutant replaces
	key        key
	line       int
	shows      string // what the mutant puts in place of the text
	// wrap returns the text that runs the mutant if its number is active. Otherwise
	// it runs inner, which is the original with the mutants inside it.
	wrap func(s *site, inner string) string
}

// key names a mutant so that a list of mutants outlives changes of other lines.
type key struct {
	file     string
	function string
	operator string
	text     string // the lines of the place, with the mutated part between « and »
}

func (k key) String() string {
	return strings.Join([]string{k.file, k.function, k.operator, k.text}, " | ")
}

// finder finds the sites of one file.
type finder struct {
	fset     *token.FileSet
	info     *types.Info
	pkg      *types.Package
	file     *ast.File
	name     string
	text     string
	function string
	results  *types.Tuple // of the innermost function
	imports  map[string]string
	sites    []*site
	seen     map[key]int
}

// find returns the sites of a parsed file in the order of their places.
func find(fset *token.FileSet, pkg *types.Package, info *types.Info, file *ast.File, name, text string) []*site {
	f := &finder{fset: fset, info: info, pkg: pkg, file: file, name: name, text: text, imports: make(map[string]string), seen: make(map[key]int)}
	for _, spec := range file.Imports {
		at, _ := strconv.Unquote(spec.Path.Value)
		local := path.Base(at)
		if spec.Name != nil {
			local = spec.Name.Name
		}
		f.imports[at] = local
	}
	for _, decl := range file.Decls {
		switch d := decl.(type) {
		case *ast.FuncDecl:
			if d.Body == nil {
				continue
			}
			f.function = d.Name.Name
			if d.Recv != nil {
				f.function = "(" + f.source(d.Recv.List[0].Type) + ")." + d.Name.Name
			}
			f.body(d.Body, f.info.Defs[d.Name].Type().(*types.Signature).Results())
		case *ast.GenDecl:
			if d.Tok != token.VAR {
				continue
			}
			for _, spec := range d.Specs {
				v := spec.(*ast.ValueSpec)
				f.function = v.Names[0].Name
				for _, value := range v.Values {
					f.expr(value)
				}
			}
		}
	}
	slices.SortStableFunc(f.sites, func(a, b *site) int { return cmp.Or(a.start-b.start, b.end-a.end) })
	return f.sites
}

func (f *finder) offset(p token.Pos) int { return f.fset.Position(p).Offset }

func (f *finder) source(n ast.Node) string { return f.text[f.offset(n.Pos()):f.offset(n.End())] }

// add adds a site at a node. shows is the text in place of the node.
func (f *finder) add(n ast.Node, operator, shows string, wrap func(s *site, inner string) string) {
	start, end := f.offset(n.Pos()), f.offset(n.End())
	from := strings.LastIndexByte(f.text[:start], '\n') + 1
	to := end + strings.IndexByte(f.text[end:]+"\n", '\n')
	words := func(text string) string { return strings.Join(strings.Fields(text), " ") }
	k := key{f.name, f.function, operator, words(f.text[from:start] + "«" + f.text[start:end] + "»" + f.text[end:to])}
	if f.seen[k]++; f.seen[k] > 1 {
		k.text += fmt.Sprint(" #", f.seen[k])
	}
	f.sites = append(f.sites, &site{start: start, end: end, key: k, line: f.fset.Position(n.Pos()).Line, shows: words(shows), wrap: wrap})
}

// logical wraps a condition.
func (f *finder) logical(n ast.Expr, operator, mutated string) {
	f.add(n, operator, mutated, func(s *site, inner string) string {
		return fmt.Sprintf("(activeMutant == %d && (%s) || activeMutant != %d && (%s))", s.id, mutated, s.id, inner)
	})
}

// value wraps an expression of any type, if the file can name its type.
func (f *finder) value(n ast.Expr, t types.Type, operator, mutated string) {
	name, ok := f.typeName(t)
	if !ok {
		return
	}
	f.add(n, operator, mutated, func(s *site, inner string) string {
		return fmt.Sprintf("func() %s { if activeMutant == %d { return %s }; return %s }()", name, s.id, mutated, inner)
	})
}

func (f *finder) typeName(t types.Type) (name string, ok bool) {
	ok = t != nil
	if !ok {
		return "", false
	}
	if b, basic := t.(*types.Basic); basic && b.Info()&types.IsUntyped != 0 {
		t = types.Default(t)
	}
	name = types.TypeString(t, func(p *types.Package) string {
		if p == f.pkg {
			return ""
		}
		local, imported := f.imports[p.Path()]
		ok = ok && imported
		return local
	})
	return name, ok && !strings.Contains(name, "untyped")
}

func (f *finder) body(b *ast.BlockStmt, results *types.Tuple) {
	before := f.results
	f.results = results
	f.stmts(b.List)
	f.results = before
}

func (f *finder) stmts(list []ast.Stmt) {
	for _, s := range list {
		f.removable(s)
		f.stmt(s)
	}
}

// removable adds the removal of a statement.
func (f *finder) removable(s ast.Stmt) {
	switch x := s.(type) {
	case *ast.ExprStmt:
		if call, ok := x.X.(*ast.CallExpr); ok && f.source(call.Fun) == "panic" {
			return
		}
	case *ast.AssignStmt:
		if x.Tok == token.DEFINE || len(x.Lhs) == 1 && f.source(x.Lhs[0]) == "_" {
			return
		}
	case *ast.BranchStmt:
		if x.Tok != token.BREAK && x.Tok != token.CONTINUE || x.Label != nil {
			return
		}
	case *ast.ReturnStmt:
		f.zero(x)
		return
	case *ast.IncDecStmt, *ast.DeferStmt:
	default:
		return
	}
	f.add(s, "remove", "", func(s *site, inner string) string { return fmt.Sprintf("if activeMutant != %d { %s }", s.id, inner) })
}

// zero adds the return of zero values, or of the opposite of a bool.
func (f *finder) zero(r *ast.ReturnStmt) {
	if len(r.Results) == 0 || f.results == nil {
		return
	}
	returns := func(mutated string) {
		f.add(r, "return", "return "+mutated, func(s *site, inner string) string {
			return fmt.Sprintf("{ if activeMutant == %d { return %s }; %s }", s.id, mutated, inner)
		})
	}
	if f.results.Len() == 1 && isBool(f.results.At(0).Type()) {
		if f.plainBool(r.Results[0]) {
			returns("!(" + f.source(r.Results[0]) + ")")
		}
		return
	}
	zeros, same := []string{}, len(r.Results) == f.results.Len()
	for i := range f.results.Len() {
		t := f.results.At(i).Type()
		name, ok := f.typeName(t)
		if !ok {
			return
		}
		zeros = append(zeros, "*new("+name+")")
		same = same && f.isZero(r.Results[i], t)
	}
	if !same {
		returns(strings.Join(zeros, ", "))
	}
}

// isZero reports whether an expression is written as a zero value.
func (f *finder) isZero(e ast.Expr, t types.Type) bool {
	tv := f.info.Types[e]
	if tv.IsNil() {
		return true
	}
	if lit, ok := e.(*ast.CompositeLit); ok && len(lit.Elts) == 0 {
		_, isStruct := t.Underlying().(*types.Struct)
		return isStruct
	}
	if tv.Value == nil {
		return false
	}
	switch tv.Value.Kind() {
	case constant.Bool:
		return !constant.BoolVal(tv.Value)
	case constant.String:
		return constant.StringVal(tv.Value) == ""
	case constant.Int, constant.Float:
		return constant.Sign(tv.Value) == 0
	}
	return false
}

func isBool(t types.Type) bool {
	b, ok := t.(*types.Basic)
	return ok && b.Info()&types.IsBoolean != 0
}

// plainBool reports whether a condition is no comparison and no chain of others,
// which have mutants of their own.
func (f *finder) plainBool(e ast.Expr) bool {
	if t := f.info.Types[e].Type; t == nil || !isBool(t) {
		return false
	}
	for {
		switch x := e.(type) {
		case *ast.ParenExpr:
			e = x.X
		case *ast.BinaryExpr:
			return false
		default:
			return true
		}
	}
}

// condition adds the negation of a condition that is no comparison.
func (f *finder) condition(e ast.Expr) {
	if e == nil || !f.plainBool(e) || f.info.Types[e].Value != nil {
		return
	}
	f.add(e, "negate", "!("+f.source(e)+")", func(s *site, inner string) string {
		return fmt.Sprintf("((%s) != (activeMutant == %d))", inner, s.id)
	})
}

// stmt looks into a statement.
func (f *finder) stmt(s ast.Stmt) {
	switch x := s.(type) {
	case *ast.BlockStmt:
		f.stmts(x.List)
	case *ast.LabeledStmt:
		f.stmt(x.Stmt)
	case *ast.IfStmt:
		f.inits(x.Init)
		f.condition(x.Cond)
		f.expr(x.Cond)
		f.stmt(x.Body)
		f.inits(x.Else)
	case *ast.ForStmt:
		f.inits(x.Init, x.Post)
		f.condition(x.Cond)
		f.expr(x.Cond)
		f.stmt(x.Body)
	case *ast.RangeStmt:
		f.expr(x.X)
		f.stmt(x.Body)
	case *ast.SwitchStmt:
		f.inits(x.Init)
		f.expr(x.Tag)
		for _, c := range x.Body.List {
			f.clause(x, c.(*ast.CaseClause))
		}
	case *ast.TypeSwitchStmt:
		f.inits(x.Init)
		for _, c := range x.Body.List {
			f.stmts(c.(*ast.CaseClause).Body)
		}
	case *ast.SelectStmt:
		for _, c := range x.Body.List {
			f.stmts(c.(*ast.CommClause).Body)
		}
	case *ast.ExprStmt:
		f.expr(x.X)
	case *ast.AssignStmt:
		f.exprs(x.Rhs...)
		f.exprs(x.Lhs...)
	case *ast.ReturnStmt:
		for _, e := range x.Results {
			if f.info.Types[e].Value == nil || !f.fails(x) {
				f.expr(e)
			}
		}
	case *ast.DeferStmt:
		f.expr(x.Call)
	case *ast.GoStmt:
		f.expr(x.Call)
	case *ast.SendStmt:
		f.expr(x.Value)
	case *ast.DeclStmt:
		if d, ok := x.Decl.(*ast.GenDecl); ok && d.Tok == token.VAR {
			for _, spec := range d.Specs {
				f.exprs(spec.(*ast.ValueSpec).Values...)
			}
		}
	}
}

// inits looks into statements that cannot be removed by themselves.
func (f *finder) inits(list ...ast.Stmt) {
	for _, s := range list {
		if s != nil {
			f.stmt(s)
		}
	}
}

// clause adds the removal of each value of a case.
func (f *finder) clause(s *ast.SwitchStmt, c *ast.CaseClause) {
	for _, e := range c.List {
		switch {
		case s.Tag == nil:
			f.condition(e)
			f.expr(e)
		default:
			t := f.info.Types[s.Tag].Type
			name, ok := f.typeName(t)
			b, basic := t.Underlying().(*types.Basic)
			if !ok || !basic {
				continue
			}
			other := ""
			switch {
			case b.Info()&types.IsString != 0:
				other = name + `("\x00")`
			case b.Info()&types.IsInteger != 0:
				other = "^" + name + "(" + f.source(e) + ")"
			}
			if other != "" {
				f.value(e, t, "drop case", other)
			}
		}
	}
	f.stmts(c.Body)
}

// fails reports whether a return has false or an error beside other results, which no
// caller then reads.
func (f *finder) fails(r *ast.ReturnStmt) bool {
	n := len(r.Results) - 1
	if n < 1 {
		return false
	}
	tv := f.info.Types[r.Results[n]]
	if tv.Value != nil && tv.Value.Kind() == constant.Bool {
		return !constant.BoolVal(tv.Value)
	}
	fault := types.Universe.Lookup("error").Type().Underlying().(*types.Interface)
	return !tv.IsNil() && tv.Type != nil && types.Implements(tv.Type, fault)
}

func (f *finder) exprs(list ...ast.Expr) {
	for _, e := range list {
		f.expr(e)
	}
}
