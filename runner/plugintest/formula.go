package plugintest

import (
	"fmt"
	"go/ast"
	"go/constant"
	"go/parser"
	"go/token"
	"math"
	"strconv"
)

// evaluate works out the expression by which a variant declares its number of
// trainable parameters: arithmetic, comparisons (1 or 0), &&, ||, !, and calls
// of the functions below, over variables that are float64, string or bool.
func evaluate(expression string, vars map[string]any) (float64, error) {
	e, err := parser.ParseExpr(expression)
	if err != nil {
		return 0, fmt.Errorf("reading %q: %w", expression, err)
	}
	v, err := (&formula{vars}).value(e)
	if err != nil {
		return 0, fmt.Errorf("working out %q: %w", expression, err)
	}
	n, ok := number(v)
	if !ok {
		return 0, fmt.Errorf("working out %q: it is %v, want a number", expression, v)
	}
	return n, nil
}

type formula struct{ vars map[string]any }

var functions = map[string]func(args []float64) float64{
	"ceil":  func(a []float64) float64 { return math.Ceil(a[0]) },
	"floor": func(a []float64) float64 { return math.Floor(a[0]) },
	"sqrt":  func(a []float64) float64 { return math.Sqrt(a[0]) },
	"min": func(a []float64) float64 {
		least := a[0]
		for _, v := range a {
			least = min(least, v)
		}
		return least
	},
	"max": func(a []float64) float64 {
		most := a[0]
		for _, v := range a {
			most = max(most, v)
		}
		return most
	},
}

func (f *formula) value(e ast.Expr) (any, error) {
	switch e := e.(type) {
	case *ast.ParenExpr:
		return f.value(e.X)
	case *ast.BasicLit:
		if e.Kind == token.STRING {
			return strconv.Unquote(e.Value)
		}
		n, _ := constant.Float64Val(constant.ToFloat(constant.MakeFromLiteral(e.Value, e.Kind, 0)))
		return n, nil
	case *ast.Ident:
		switch e.Name {
		case "true", "false":
			return e.Name == "true", nil
		}
		v, ok := f.vars[e.Name]
		if !ok {
			return nil, fmt.Errorf("there is no parameter %s", e.Name)
		}
		return v, nil
	case *ast.UnaryExpr:
		v, err := f.value(e.X)
		if err != nil {
			return nil, err
		}
		n, ok := number(v)
		switch {
		case ok && e.Op == token.SUB:
			return -n, nil
		case ok && e.Op == token.NOT:
			return n == 0, nil
		}
	case *ast.BinaryExpr:
		a, err := f.value(e.X)
		if err != nil {
			return nil, err
		}
		b, err := f.value(e.Y)
		if err != nil {
			return nil, err
		}
		return binary(e.Op, a, b)
	case *ast.CallExpr:
		return f.call(e)
	}
	return nil, fmt.Errorf("%T is not arithmetic", e)
}

func (f *formula) call(e *ast.CallExpr) (any, error) {
	name, _ := e.Fun.(*ast.Ident)
	if name == nil || functions[name.Name] == nil || len(e.Args) == 0 {
		return nil, fmt.Errorf("there are the functions min, max, ceil, floor and sqrt, each of numbers")
	}
	args := make([]float64, len(e.Args))
	for i, a := range e.Args {
		v, err := f.value(a)
		if err != nil {
			return nil, err
		}
		n, ok := number(v)
		if !ok {
			return nil, fmt.Errorf("%s of %v, want numbers", name.Name, v)
		}
		args[i] = n
	}
	return functions[name.Name](args), nil
}

func binary(op token.Token, a, b any) (any, error) {
	if s, ok := a.(string); ok {
		t, ok := b.(string)
		switch {
		case ok && op == token.EQL:
			return s == t, nil
		case ok && op == token.NEQ:
			return s != t, nil
		}
		return nil, fmt.Errorf("%q %s %v: texts can only be equal or not", s, op, b)
	}
	x, okX := number(a)
	y, okY := number(b)
	if !okX || !okY {
		return nil, fmt.Errorf("%v %s %v, want numbers", a, op, b)
	}
	switch op {
	case token.ADD:
		return x + y, nil
	case token.SUB:
		return x - y, nil
	case token.MUL:
		return x * y, nil
	case token.QUO:
		return x / y, nil
	case token.REM:
		return math.Mod(x, y), nil
	case token.EQL:
		return x == y, nil
	case token.NEQ:
		return x != y, nil
	case token.LSS:
		return x < y, nil
	case token.LEQ:
		return x <= y, nil
	case token.GTR:
		return x > y, nil
	case token.GEQ:
		return x >= y, nil
	case token.LAND:
		return x != 0 && y != 0, nil
	case token.LOR:
		return x != 0 || y != 0, nil
	}
	return nil, fmt.Errorf("there is no %s", op)
}

func number(v any) (float64, bool) {
	switch v := v.(type) {
	case float64:
		return v, true
	case bool:
		if v {
			return 1, true
		}
		return 0, true
	}
	return 0, false
}
