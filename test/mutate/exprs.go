package main

import (
	"go/ast"
	"go/token"
	"go/types"
	"strconv"
	"strings"
)

// boundaries and negations replace a comparison.
var (
	boundaries = map[token.Token]token.Token{token.LSS: token.LEQ, token.LEQ: token.LSS, token.GTR: token.GEQ, token.GEQ: token.GTR}
	negations  = map[token.Token]token.Token{
		token.LSS: token.GEQ, token.LEQ: token.GTR, token.GTR: token.LEQ, token.GEQ: token.LSS, token.EQL: token.NEQ, token.NEQ: token.EQL,
	}
	// arithmetic replaces an operation by another that never panics where the
	// first does not.
	arithmetic = map[token.Token]token.Token{
		token.ADD: token.SUB, token.SUB: token.ADD, token.MUL: token.ADD, token.QUO: token.MUL, token.REM: token.MUL,
		token.AND: token.OR, token.OR: token.AND, token.AND_NOT: token.AND, token.XOR: token.AND,
	}
)

// expr looks into an expression.
func (f *finder) expr(e ast.Expr) {
	if e == nil {
		return
	}
	tv := f.info.Types[e]
	if tv.Value != nil {
		f.constant(e, tv.Type)
		return
	}
	switch x := e.(type) {
	case *ast.BinaryExpr:
		f.binary(x, tv.Type)
	case *ast.UnaryExpr:
		f.expr(x.X)
	case *ast.ParenExpr:
		f.expr(x.X)
	case *ast.StarExpr:
		f.expr(x.X)
	case *ast.CallExpr:
		f.call(x, tv.Type)
	case *ast.SelectorExpr:
		f.expr(x.X)
	case *ast.IndexExpr:
		if !f.info.Types[x.Index].IsType() {
			f.exprs(x.X, x.Index)
		}
	case *ast.SliceExpr:
		f.exprs(x.X, x.Low, x.High, x.Max)
	case *ast.CompositeLit:
		_, isArray := tv.Type.Underlying().(*types.Array)
		_, isSlice := tv.Type.Underlying().(*types.Slice)
		_, isStruct := tv.Type.Underlying().(*types.Struct)
		for _, element := range x.Elts {
			kv, keyed := element.(*ast.KeyValueExpr)
			switch {
			case !keyed:
				f.expr(element)
			case isArray, isSlice, isStruct:
				f.expr(kv.Value)
			default:
				f.exprs(kv.Key, kv.Value)
			}
		}
	case *ast.FuncLit:
		f.body(x.Body, tv.Type.(*types.Signature).Results())
	case *ast.TypeAssertExpr:
		f.expr(x.X)
	}
}

func (f *finder) binary(x *ast.BinaryExpr, t types.Type) {
	left, right := f.source(x.X), f.source(x.Y)
	with := func(op token.Token) string { return left + " " + op.String() + " " + right }
	switch x.Op {
	case token.LAND:
		f.logical(x, "and", with(token.LOR))
		f.condition(x.X)
		f.condition(x.Y)
	case token.LOR:
		// In parentheses, since an operand may be a conjunction.
		f.logical(x, "or", "("+left+") && ("+right+")")
		f.condition(x.X)
		f.condition(x.Y)
	default:
		if op, ok := boundaries[x.Op]; ok {
			f.logical(x, "boundary", with(op))
		}
		if op, ok := negations[x.Op]; ok {
			f.logical(x, "negate", with(op))
		}
		b, basic := t.Underlying().(*types.Basic)
		if op, ok := arithmetic[x.Op]; ok && basic && b.Info()&types.IsInteger != 0 {
			f.value(x, t, "arithmetic", with(op))
		}
	}
	f.exprs(x.X, x.Y)
}

func (f *finder) call(x *ast.CallExpr, t types.Type) {
	name := f.source(x.Fun)
	builtin := f.info.Types[x.Fun].IsBuiltin()
	if builtin && (name == "make" || name == "new") {
		return // a capacity changes no result
	}
	if other := map[string]string{"max": "min", "min": "max"}[name]; builtin && other != "" && len(x.Args) > 1 {
		f.value(x, t, "max/min", other+strings.TrimPrefix(f.source(x), name))
	}
	if !f.info.Types[x.Fun].IsType() {
		f.expr(x.Fun)
	}
	f.exprs(x.Args...)
}

// constant adds one more and one less for the number in a constant expression.
func (f *finder) constant(e ast.Expr, t types.Type) {
	b, ok := t.Underlying().(*types.Basic)
	if !ok || b.Info()&(types.IsInteger|types.IsFloat) == 0 {
		return
	}
	var number *ast.BasicLit
	ast.Inspect(e, func(n ast.Node) bool {
		if lit, isLit := n.(*ast.BasicLit); isLit && number == nil && lit.Kind == token.INT {
			number = lit
		}
		return true
	})
	if number == nil {
		return
	}
	n, err := strconv.ParseInt(strings.ReplaceAll(number.Value, "_", ""), 0, 64)
	if err != nil {
		return
	}
	before := f.text[f.offset(e.Pos()):f.offset(number.Pos())]
	after := f.text[f.offset(number.End()):f.offset(e.End())]
	f.value(e, t, "constant+1", before+strconv.FormatInt(n+1, 10)+after)
	if n > 0 || b.Info()&types.IsUnsigned == 0 {
		f.value(e, t, "constant-1", before+"("+strconv.FormatInt(n-1, 10)+")"+after)
	}
}
