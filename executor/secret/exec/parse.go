package exec

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"
)

// answer is what a program gave.
type answer struct {
	fields           map[string]string
	version          string
	expires, rotated time.Time
	revokeToken      string
}

// maxVersion bounds a version, in bytes.
const maxVersion = 200

// fieldRE are names that a template can say.
var fieldRE = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]{0,63}$`) })

// object is one of JSON. Unlike a struct it tells "version" from "Version",
// which is what two of the conventions differ by.
type object map[string]json.RawMessage

// parse reads what a program printed. Its errors quote nothing of it.
func parse(out []byte) (*answer, error) {
	if len(bytes.TrimSpace(out)) == 0 {
		return nil, errors.New("it printed nothing: let it print a JSON object with value or fields")
	}
	var o object
	if !utf8.Valid(out) || json.Unmarshal(out, &o) != nil || o == nil {
		return nil, errors.New("what it printed is no JSON object: let it print one, with value or fields, and nothing else")
	}
	var a *answer
	var err error
	switch {
	case o["AccessKeyId"] != nil || o["SecretAccessKey"] != nil:
		a, err = parseAWS(o)
	case o["status"] != nil:
		a, err = parseKubectl(o)
	default:
		a, err = parseOwn(o)
	}
	if err != nil {
		return nil, fmt.Errorf("its JSON: %w", err)
	}
	return a, nil
}

// parseOwn reads our own convention. A key that is not known is an error: an
// expiry with a misspelt name would be none.
func parseOwn(o object) (*answer, error) {
	known := []string{"Expiration", "expires", "fields", "revoke_token", "rotated", "value", "version"}
	for key := range o {
		if !slices.Contains(known, key) {
			return nil, fmt.Errorf("a key is not known: use %s", strings.Join(known, ", "))
		}
	}
	a := &answer{}
	if o.has("value") == o.has("fields") {
		return nil, errors.New("it must have either value or fields")
	}
	if o.has("value") {
		value, err := o.text("value")
		if err != nil {
			return nil, err
		}
		a.fields = map[string]string{"value": value}
	} else {
		var fields object
		if json.Unmarshal(o["fields"], &fields) != nil || len(fields) == 0 {
			return nil, errors.New("fields must be an object of texts")
		}
		a.fields = map[string]string{}
		for name := range fields {
			if !fieldRE().MatchString(name) {
				return nil, errors.New("a name in fields is not of letters, digits and _")
			}
			value, err := fields.text(name)
			if err != nil {
				return nil, err
			}
			a.fields[name] = value
		}
	}
	if o.has("expires") && o.has("Expiration") {
		return nil, errors.New("expires and Expiration are the same: give one")
	}
	var err error
	for key, at := range map[string]*time.Time{"expires": &a.expires, "Expiration": &a.expires, "rotated": &a.rotated} {
		if o.has(key) {
			if *at, err = o.time(key); err != nil {
				return nil, err
			}
		}
	}
	if o.has("revoke_token") {
		if a.revokeToken, err = o.text("revoke_token"); err != nil {
			return nil, err
		}
	}
	if o.has("version") {
		a.version, err = o.version()
	}
	return a, err
}

// parseAWS reads what a credential_process prints
// (https://docs.aws.amazon.com/sdkref/latest/guide/feature-process-credentials.html).
// Fields are called as those of the provider aws.
func parseAWS(o object) (*answer, error) {
	var version int
	if json.Unmarshal(o["Version"], &version) != nil || version != 1 {
		return nil, errors.New("Version must be 1, as AWS's credential_process has it")
	}
	a := &answer{fields: map[string]string{}}
	for key, name := range map[string]string{"AccessKeyId": "access_key_id", "SecretAccessKey": "secret_access_key", "SessionToken": "session_token"} {
		if key == "SessionToken" && !o.has(key) {
			continue // keys that last have none
		}
		value, err := o.text(key)
		if err != nil {
			return nil, err
		}
		a.fields[name] = value
	}
	var err error
	if o.has("Expiration") {
		a.expires, err = o.time("Expiration")
	}
	return a, err
}

// parseKubectl reads an ExecCredential
// (https://kubernetes.io/docs/reference/config-api/client-authentication.v1/).
func parseKubectl(o object) (*answer, error) {
	var kind string
	if json.Unmarshal(o["kind"], &kind) != nil || kind != "ExecCredential" {
		return nil, errors.New("kind must be ExecCredential, since it has a status")
	}
	var status object
	if json.Unmarshal(o["status"], &status) != nil || status == nil {
		return nil, errors.New("status must be an object")
	}
	a := &answer{fields: map[string]string{}}
	for key, name := range map[string]string{"token": "token", "clientCertificateData": "client_certificate", "clientKeyData": "client_key"} {
		if !status.has(key) {
			continue
		}
		value, err := status.text(key)
		if err != nil {
			return nil, err
		}
		a.fields[name] = value
	}
	if a.fields["token"] == "" && (a.fields["client_certificate"] == "" || a.fields["client_key"] == "") {
		return nil, errors.New("status must have a token, or clientCertificateData and clientKeyData")
	}
	var err error
	if status.has("expirationTimestamp") {
		a.expires, err = status.time("expirationTimestamp")
	}
	return a, err
}

// has says that a key is there and not null.
func (o object) has(key string) bool { return o[key] != nil && string(o[key]) != "null" }

func (o object) text(key string) (string, error) {
	var s *string
	if json.Unmarshal(o[key], &s) != nil || s == nil || *s == "" {
		return "", fmt.Errorf("%s must be a text that is not empty", key)
	}
	return *s, nil
}

func (o object) time(key string) (time.Time, error) {
	s, err := o.text(key)
	if err != nil {
		return time.Time{}, err
	}
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return time.Time{}, fmt.Errorf("%s must be a time of RFC 3339, like 2026-11-23T10:00:00Z", key)
	}
	return t, nil
}

// version may be a number, as counters are. It goes into records.
func (o object) version() (string, error) {
	var n json.Number // which takes a text with a number, too
	if json.Unmarshal(o["version"], &n) == nil {
		return n.String(), nil
	}
	s, err := o.text("version")
	if err == nil && (len(s) > maxVersion || strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) })) {
		return "", fmt.Errorf("version must be of at most %d printable bytes", maxVersion)
	}
	return s, err
}

// values are what a program's output has that may be secret, to be hidden in
// what else it said. If it is no JSON, that is all of it and each word.
func values(out []byte) []string {
	d := json.NewDecoder(bytes.NewReader(out))
	d.UseNumber()
	var v any
	if d.Decode(&v) != nil || d.More() {
		return append(long(strings.Fields(string(out))), strings.TrimSpace(string(out)))
	}
	var texts, numbers []string
	var walk func(any)
	walk = func(v any) {
		switch v := v.(type) {
		case string:
			texts = append(texts, v)
		case json.Number:
			numbers = append(numbers, v.String())
		case []any:
			for _, one := range v {
				walk(one)
			}
		case map[string]any:
			for _, one := range v {
				walk(one)
			}
		}
	}
	walk(v)
	return append(texts, long(numbers)...)
}

// long leaves out what stands in any text.
func long(words []string) []string {
	return slices.DeleteFunc(words, func(w string) bool { return len(w) < 4 })
}
