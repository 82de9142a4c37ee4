package policy

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/cost"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/ext"

	"cleanroom/config/glob"
	"cleanroom/executor/identity"
)

// Bounds of one condition.
const (
	maxWhen    = 4096    // code points
	maxNodes   = 1000    // of the parsed expression
	maxDepth   = 50      // of its nesting
	maxRegexp  = 1000    // instructions of a compiled pattern
	maxCost    = 100_000 // of evaluating it, in CEL's units (https://github.com/google/cel-spec/blob/master/doc/langdef.md#performance)
	maxFormat  = 20      // digits that format() writes
	globCostOf = 10      // bytes of text and pattern that cost one unit
)

const globOverload = "glob_string_string"

// environment is what conditions are written in; it is made once, and only by
// who needs it.
var environment = sync.OnceValues(func() (*cel.Env, error) {
	options := []cel.EnvOption{
		ext.Strings(ext.StringsMaxPrecision(maxFormat)),
		cel.Function("glob", cel.Overload(globOverload, []*cel.Type{cel.StringType, cel.StringType}, cel.BoolType,
			cel.BinaryBinding(func(text, pattern ref.Val) ref.Val {
				return types.Bool(glob.Match(string(pattern.(types.String)), string(text.(types.String))))
			}))),
		// No has, all, exists, map, filter: facts have no parts, and without
		// loops an expression costs no more than what it says.
		cel.ClearMacros(),
		cel.HomogeneousAggregateLiterals(), // ref in ["a", 1] is a mistake
		cel.ASTValidators(cel.ValidateRegexLiterals()),
		cel.RegexProgramSizeLimit(maxRegexp),
		cel.ParserExpressionSizeLimit(maxWhen),
		cel.ExpressionNodeLimit(maxNodes),
		cel.ParserRecursionLimit(maxDepth),
		cel.ParserErrorRecoveryLimit(1),
	}
	for _, name := range factNames() {
		options = append(options, cel.Variable(name, celTypes[identity.Names[name]]))
	}
	return cel.NewEnv(options...)
})

var celTypes = map[identity.Kind]*cel.Type{identity.String: cel.StringType, identity.Bool: cel.BoolType, identity.Int: cel.IntType}

func factNames() []string { return slices.Sorted(maps.Keys(identity.Names)) }

// conjunct is one part of a condition that is held together by &&. They are
// evaluated one by one, to say which one was false; as in CEL, a false one
// makes the whole false whatever the others are.
type conjunct struct {
	text    string // in canonical form
	program cel.Program
	facts   []string // that it names, in order
	// simple is a fact alone, or its negation: to say that it is false says
	// what the fact is.
	simple bool
}

// compileWhen checks a condition and takes it apart. The canonical form is
// the whole, without comments and in CEL's own spacing.
func compileWhen(when string) (conjuncts []conjunct, canonical string, err error) {
	if strings.TrimSpace(when) == "" {
		return nil, "", errors.New(`it is empty; to grant to every job, write when = "true"`)
	}
	if !utf8.ValidString(when) || strings.ContainsFunc(when, func(r rune) bool { return unicode.IsControl(r) && !strings.ContainsRune("\n\r\t", r) }) {
		return nil, "", errors.New("it holds bytes that are no text: write such a character as \\u with four digits")
	}
	env, err := environment()
	if err != nil {
		return nil, "", err
	}
	compiled, issues := env.Compile(when)
	if issues.Err() != nil {
		return nil, "", typo(when, issues)
	}
	if !compiled.OutputType().IsExactType(cel.BoolType) {
		return nil, "", fmt.Errorf("it is a %s and must be true or false: compare it, as in ref == \"main\"", compiled.OutputType())
	}
	whole := compiled.NativeRep()
	if err := checkPatterns(when, whole); err != nil {
		return nil, "", err
	}
	if canonical, err = textOf(whole.Expr(), whole); err != nil {
		return nil, "", err
	}
	for _, part := range parts(whole.Expr()) {
		c, err := newConjunct(env, part, whole)
		if err != nil {
			return nil, "", err
		}
		conjuncts = append(conjuncts, c)
	}
	return conjuncts, canonical, nil
}

// parts are the operands of the &&s at the top.
func parts(e ast.Expr) []ast.Expr {
	if e.Kind() != ast.CallKind || e.AsCall().FunctionName() != operators.LogicalAnd {
		return []ast.Expr{e}
	}
	var all []ast.Expr
	for _, operand := range e.AsCall().Args() {
		all = append(all, parts(operand)...)
	}
	return all
}

func newConjunct(env *cel.Env, e ast.Expr, whole *ast.AST) (conjunct, error) {
	c := conjunct{}
	var err error
	if c.text, err = textOf(e, whole); err != nil {
		return conjunct{}, err
	}
	checked := ast.NewCheckedAST(ast.NewAST(e, whole.SourceInfo()), whole.TypeMap(), whole.ReferenceMap())
	c.program, err = env.PlanProgram(checked,
		cel.EvalOptions(cel.OptPartialEval),
		cel.CostLimit(maxCost),
		cel.CostTrackerOptions(cost.OverloadTracker(globOverload, globCost)))
	if err != nil {
		return conjunct{}, errors.New(oneLine(err.Error()))
	}
	ast.PreOrderVisit(e, ast.NewExprVisitor(func(e ast.Expr) {
		if e.Kind() != ast.IdentKind {
			return
		}
		if _, fact := identity.Names[e.AsIdent()]; fact && !slices.Contains(c.facts, e.AsIdent()) {
			c.facts = append(c.facts, e.AsIdent())
		}
	}))
	c.simple = len(c.facts) == 1 && (c.text == c.facts[0] || c.text == "!"+c.facts[0])
	return c, nil
}

// textOf writes an expression on one line.
func textOf(e ast.Expr, whole *ast.AST) (string, error) {
	text, err := cel.ExprToString(e, whole.SourceInfo(), cel.FormatWrapOnColumn(math.MaxInt))
	if err != nil {
		return "", errors.New(oneLine(err.Error()))
	}
	return text, nil
}

// globCost is what matching costs: every pattern that the braces stand for is
// tried on the text.
func globCost(args []ref.Val, _ ref.Val) *uint64 {
	text, isText := args[0].(types.String)
	pattern, isPattern := args[1].(types.String)
	units := uint64(1)
	if all, ok := glob.Alternatives(string(pattern)); isText && isPattern && ok {
		units += uint64(len(all) * (min(len(text), glob.MaxName) + len(pattern)) / globCostOf)
	}
	return &units
}

// outcome of a conjunct.
type outcome struct {
	value   bool
	missing []string // facts it needs and that are not known
	err     error
}

func (o outcome) granted() bool { return o.value && len(o.missing) == 0 && o.err == nil }
func (o outcome) refused() bool { return !o.value && len(o.missing) == 0 && o.err == nil }

func (c conjunct) eval(facts cel.PartialActivation) outcome {
	value, _, err := c.program.Eval(facts)
	if err != nil {
		return outcome{err: errors.New(short(oneLine(err.Error()), 2*maxQuote))}
	}
	switch v := value.(type) {
	case types.Bool:
		return outcome{value: bool(v)}
	case *types.Unknown:
		return outcome{missing: missing(v)}
	default: // a dyn that turned out to be something else
		return outcome{err: fmt.Errorf("it is a %s and not true or false", value.Type().TypeName())}
	}
}

// missing are the facts that an unknown is made of, sorted.
func missing(u *types.Unknown) []string {
	var names []string
	for _, id := range u.IDs() {
		trails, _ := u.GetAttributeTrails(id)
		for _, trail := range trails {
			names = append(names, trail.Variable())
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// activation is what a job's facts are to conditions. What is not known, or
// is of a kind that it cannot have, is CEL's unknown: it decides nothing, but
// true || unknown is true.
func activation(facts identity.Facts) (cel.PartialActivation, error) {
	values := map[string]any{}
	var unknown []*cel.AttributePatternType
	for name, kind := range identity.Names {
		fact, found := facts[name]
		switch value := fact.Value.(type) {
		case string:
			found = found && kind == identity.String
			values[name] = value
		case bool:
			found = found && kind == identity.Bool
			values[name] = value
		case int64:
			found = found && kind == identity.Int
			values[name] = value
		default:
			found = false
		}
		if !found {
			delete(values, name)
			unknown = append(unknown, cel.AttributePattern(name))
		}
	}
	return cel.PartialVars(values, unknown...)
}

// oneLine is a library's message in our form.
func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }
