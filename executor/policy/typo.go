package policy

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/types"

	"cleanroom/config"
	"cleanroom/config/glob"
)

var (
	undeclaredRE = sync.OnceValue(func() *regexp.Regexp {
		return regexp.MustCompile(`^undeclared reference to '(.+?)'(?: \(did you mean '(.+?)'\?\))?`)
	})
	overloadRE = sync.OnceValue(func() *regexp.Regexp {
		return regexp.MustCompile(`^found no matching overload for '(.+?)' applied to '(.+)'$`)
	})
	operatorRE = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^_?([^_A-Za-z]+|\[_\])_?$`) })
)

// macros of CEL that conditions here do not have.
var macros = []string{"has", "all", "exists", "exists_one", "map", "filter"}

// typo says in one line what is wrong with a condition, first things first.
func typo(when string, issues *cel.Issues) error {
	all := issues.Errors()
	if len(all) == 0 {
		return fmt.Errorf("%s", short(oneLine(issues.Err().Error()), 3*maxQuote))
	}
	first := slices.MinFunc(all, func(a, b *cel.Error) int {
		if a.Location.Line() != b.Location.Line() {
			return a.Location.Line() - b.Location.Line()
		}
		return a.Location.Column() - b.Location.Column()
	})
	return fmt.Errorf("%s%s", where(when, first.Location.Line(), first.Location.Column()), plain(first.Message))
}

// where is a place in a condition: columns count from 1, lines are said when
// there are several. CEL has no place for what is wrong with the whole.
func where(when string, line, column int) string {
	switch {
	case line < 1 || column < 0:
		return ""
	case strings.Contains(strings.TrimSpace(when), "\n"):
		return fmt.Sprintf("line %d, column %d: ", line, column+1)
	default:
		return fmt.Sprintf("column %d: ", column+1)
	}
}

// plain is CEL's message in words that an admin who does not know CEL has a
// use for.
func plain(message string) string {
	message = oneLine(message)
	if m := undeclaredRE().FindStringSubmatch(message); m != nil {
		return undeclared(m[1], m[2])
	}
	if m := overloadRE().FindStringSubmatch(message); m != nil {
		name := m[1]
		if operator := operatorRE().FindStringSubmatch(name); operator != nil {
			name = strings.ReplaceAll(operator[1], "_", "")
		}
		return fmt.Sprintf("%s does not go with %s", short(name, maxQuote), short(m[2], maxQuote))
	}
	switch message, _, _ = strings.Cut(message, " expecting "); {
	case message == "invalid matches argument":
		return "the pattern is no regular expression of RE2, or too large a one"
	case strings.HasPrefix(message, "Syntax error: token recognition error at: '= "):
		return "syntax error: to compare, write =="
	case strings.HasPrefix(message, "Syntax error: mismatched input '<EOF>'"):
		return "syntax error: it ends too early"
	}
	return short(strings.Replace(message, "Syntax error", "syntax error", 1), 3*maxQuote)
}

// undeclared says what a name may have been meant to be; near is CEL's guess.
func undeclared(name, near string) string {
	if slices.Contains(macros, name) {
		return name + "() and CEL's other macros are not available: facts have no parts to go through"
	}
	if fact := config.Nearest(name, factNames()); fact != "" {
		near = fact
	}
	if near != "" {
		return fmt.Sprintf("unknown name %s; did you mean %s?", shortQuote(name), near)
	}
	return fmt.Sprintf("unknown name %s; the facts are %s", shortQuote(name), strings.Join(factNames(), ", "))
}

// checkPatterns wants the patterns of glob and matches to be written down: one
// that is made of facts would be written by the job's author, and could not be
// checked here.
func checkPatterns(when string, a *ast.AST) error {
	var first error
	ast.PreOrderVisit(a.Expr(), ast.NewExprVisitor(func(e ast.Expr) {
		if first != nil || e.Kind() != ast.CallKind {
			return
		}
		call := e.AsCall()
		name, args := call.FunctionName(), call.Args()
		if name != "glob" && name != "matches" || len(args) == 0 {
			return
		}
		at := a.SourceInfo().GetStartLocation(e.ID())
		pattern := args[len(args)-1]
		text, literal := types.String(""), false
		if pattern.Kind() == ast.LiteralKind {
			text, literal = pattern.AsLiteral().(types.String)
		}
		switch {
		case !literal:
			first = fmt.Errorf("%sthe pattern of %s must be a text in quotes", where(when, at.Line(), at.Column()), name)
		case name == "glob":
			if err := glob.Check(string(text)); err != nil {
				first = fmt.Errorf("%s%w", where(when, at.Line(), at.Column()), err)
			}
		}
	}))
	return first
}
