package identity

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Errors of this package. What they mean to whoever calls: all but the
// last are build failures; it is a system failure, and another try may help.
var (
	// ErrToken is an ID token that is not what is asked for.
	ErrToken = errors.New("ID token refused")
	// ErrDisagree is an ID token that says other things of the job than its
	// job response or another token.
	ErrDisagree = errors.New("job response and ID token disagree")
	// ErrExpired is an ErrToken that time alone has refused.
	ErrExpired = errors.New("ID token has expired")
	// ErrIssuer is an issuer whose keys cannot be had.
	ErrIssuer = errors.New("issuer cannot be asked for its keys")
)

// finding is an error whose text is one whole line for the job's log.
type finding struct {
	kind error
	line string
	from error // nil, or what else errors.Is shall find
}

func (f *finding) Error() string { return f.line }

func (f *finding) Unwrap() []error {
	if f.from == nil {
		return []error{f.kind}
	}
	return []error{f.kind, f.from}
}

// refuse makes a finding of one token.
func refuse(kind error, variable, format string, args ...any) error {
	return &finding{kind: kind, line: "token " + label(variable) + ": " + fmt.Sprintf(format, args...)}
}

// longest is how much of a value a line quotes, in bytes.
const longest = 120

// shown is a value as a line may quote it.
func shown(value any) string {
	s, isText := value.(string)
	if !isText {
		s = fmt.Sprint(value)
	}
	if len(s) > longest {
		s = strings.ToValidUTF8(s[:longest], "") + "..."
	}
	if isText {
		return strconv.Quote(s)
	}
	return s
}

// anyOf is a list as a line may quote it.
func anyOf(values []string, word string) string {
	var quoted []string
	for i, v := range values {
		if i == 5 {
			quoted = append(quoted, fmt.Sprintf("%d more", len(values)-i))
			break
		}
		quoted = append(quoted, shown(v))
	}
	if len(quoted) == 0 {
		return "nothing"
	}
	return strings.Join(quoted, " "+word+" ")
}

// label is the name of a variable, which its author chose: nothing of it may
// break a line or colour a log.
func label(variable string) string {
	for _, r := range variable {
		if (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z') && !strings.ContainsRune("_-./", r) {
			return shown(variable)
		}
	}
	if len(variable) > longest {
		return shown(variable)
	}
	return variable
}
