package identity

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// MaxToken bounds an ID token, in bytes. GitLab's have about 2 KiB.
const MaxToken = 64 << 10

// Token is an ID token whose signature and issuer were verified. It does not
// hold the token's text: nothing that prints a Token shows what could be used.
type Token struct {
	Variable string // that holds it
	Issuer   string
	Subject  string
	Audience []string
	IssuedAt time.Time // zero: it does not say
	Expires  time.Time

	notBefore time.Time
	claims    map[string]any
}

// Claim gives a claim as text: numbers and truth values as JSON writes them.
// It is false for one that is absent, null, or not a single value.
func (t *Token) Claim(name string) (string, bool) {
	switch value := t.claims[name].(type) {
	case string:
		return value, true
	case json.Number:
		return value.String(), true
	case bool:
		return strconv.FormatBool(value), true
	}
	return "", false
}

// values of a claim: one, or those of a list.
func (t *Token) values(name string) []string {
	if one, ok := t.Claim(name); ok {
		return []string{one}
	}
	list, _ := t.claims[name].([]any)
	var all []string
	for _, value := range list {
		if one, ok := (&Token{claims: map[string]any{"": value}}).Claim(""); ok {
			all = append(all, one)
		}
	}
	return all
}

// Source is how facts of this token name it.
func (t *Token) Source() string { return "ID token " + label(t.Variable) + " (" + t.Issuer + ")" }

// none is the knowledge that a claim's absence is: GitLab leaves these out of
// the token of a job without an environment (lib/gitlab/ci/jwt.rb).
var none = map[string]any{"environment": "", "environment_protected": false, "deployment_tier": ""}

// Facts are those claims of a GitLab ID token that are facts. The error wraps
// ErrToken: a claim of a type that GitLab does not write.
func (t *Token) Facts() (Facts, error) {
	facts := Facts{}
	for name, kind := range Names {
		if name == "job_name" {
			continue // no claim of GitLab's: whoever made one up is no GitLab
		}
		value, known, err := t.fact(name, kind)
		if err != nil {
			return nil, err
		}
		if absent, ok := none[name]; ok && !known {
			value, known = absent, true
		}
		if known {
			facts[name] = Fact{value, t.Source()}
		}
	}
	return facts, nil
}

// fact reads one claim. GitLab writes ids and truth values as strings; an
// empty string, or null, is what it does not know.
func (t *Token) fact(name string, kind Kind) (value any, known bool, err error) {
	claim := t.claims[name]
	text, ok := t.Claim(name)
	if claim == nil || ok && text == "" {
		return nil, false, nil
	}
	switch kind {
	case String:
		if s, ok := claim.(string); ok {
			return s, true, nil
		}
	case Bool:
		if text == "true" || text == "false" {
			return text == "true", true, nil
		}
	case Int:
		if n, err := strconv.ParseInt(text, 10, 64); err == nil && n > 0 {
			return n, true, nil
		}
	}
	return nil, false, refuse(ErrToken, t.Variable, "claim %s cannot be read: it is not what GitLab writes there", name)
}

// timely says whether a token is good at this time, give or take the skew of
// two clocks (RFC 7519, sections 4.1.4 to 4.1.6).
func (t *Token) timely(now time.Time, skew time.Duration) error {
	if age := now.Sub(t.Expires); age > skew {
		return &finding{kind: ErrToken, from: ErrExpired, line: fmt.Sprintf("token %s: expired %s ago", label(t.Variable), seconds(age))}
	}
	return t.begun(now, skew)
}

func (t *Token) begun(now time.Time, skew time.Duration) error {
	if wait := t.notBefore.Sub(now); !t.notBefore.IsZero() && wait > skew {
		return refuse(ErrToken, t.Variable, "is not valid before %s, in %s", stamp(t.notBefore), seconds(wait))
	}
	if wait := t.IssuedAt.Sub(now); !t.IssuedAt.IsZero() && wait > skew {
		return refuse(ErrToken, t.Variable, "was issued at %s, which is %s ahead of this host's clock", stamp(t.IssuedAt), seconds(wait))
	}
	return nil
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

func seconds(d time.Duration) time.Duration { return d.Truncate(time.Second) }

// decode reads the payload of a token whose signature is good. False: it is
// no set of claims that we understand.
func (t *Token) decode(payload []byte) bool {
	d := json.NewDecoder(bytes.NewReader(payload))
	d.UseNumber() // an id may be longer than a float is exact
	if d.Decode(&t.claims) != nil || t.claims == nil {
		return false
	}
	for name, at := range map[string]*time.Time{"exp": &t.Expires, "nbf": &t.notBefore, "iat": &t.IssuedAt} {
		claim, present := t.claims[name]
		if !present {
			continue
		}
		n, ok := claim.(json.Number)
		if !ok {
			return false
		}
		f, err := n.Float64()
		if err != nil || math.IsNaN(f) || f < 0 || f > 253402300799 { // the year 9999
			return false
		}
		*at = time.Unix(int64(f), 0)
	}
	return true
}

// unverified is what a text that is shaped like a JWT says of itself: good to
// find an issuer and a reason by, and for nothing else.
type unverified struct {
	algorithm, kid string
	issuer         string
	audience       []string
}

// peek reads a text that may be a JWT (RFC 7515, compact). False: it is none.
func peek(raw string) (unverified, bool) {
	var u unverified
	if strings.Count(raw, ".") != 2 || strings.ContainsAny(raw, "\r\n") { // Go's base64 passes line ends over
		return u, false
	}
	head, rest, _ := strings.Cut(raw, ".")
	body, signature, _ := strings.Cut(rest, ".")
	if _, err := base64.RawURLEncoding.DecodeString(signature); err != nil {
		return u, false
	}
	header, payload := object(head), object(body)
	if header == nil || payload == nil || header["alg"] == nil {
		return u, false
	}
	json.Unmarshal(header["alg"], &u.algorithm)
	json.Unmarshal(header["kid"], &u.kid)
	json.Unmarshal(payload["iss"], &u.issuer)
	if json.Unmarshal(payload["aud"], &u.audience) != nil {
		var one string
		if json.Unmarshal(payload["aud"], &one) == nil {
			u.audience = []string{one}
		}
	}
	return u, true
}

// object reads one part of a JWT; nil: it holds no JSON object.
func object(part string) map[string]json.RawMessage {
	data, err := base64.RawURLEncoding.DecodeString(part)
	if err != nil || len(data) == 0 || data[0] != '{' {
		return nil
	}
	var o map[string]json.RawMessage
	if json.Unmarshal(data, &o) != nil {
		return nil
	}
	return o
}
