package store

import (
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestSetRefuses(t *testing.T) {
	dir := t.TempDir()
	s, _ := in(t, dir)
	set(t, s, "pair", rotating(t, &Generator{Kind: Ed25519}, "never", 0))
	set(t, s, "jobkey", rotating(t, random(), "job", 0))
	set(t, s, "token", rotating(t, &Generator{Kind: JWT, Key: "pair", Claims: []byte(`{}`)}, "24h", 0))
	before, err := os.ReadFile(s.Path())
	if err != nil {
		t.Fatal(err)
	}
	token := func(key, claims string) *Generator {
		return &Generator{Kind: JWT, Key: key, Claims: []byte(claims), Lifetime: time.Hour}
	}
	job := Rotation{PerJob: true}
	tests := map[string]struct {
		name   string
		change Change
		words  string
	}{
		"bad name":             {"../x", plain("v"), "must be letters"},
		"no value":             {"x", Change{}, "neither a value nor a generator"},
		"empty value":          {"x", plain(""), "field value is empty"},
		"binary value":         {"x", plain("\xff"), "base64"},
		"NUL":                  {"x", plain("a\x00b"), "base64"},
		"too large":            {"x", plain(strings.Repeat("x", maxValue+1)), "at most"},
		"bad field":            {"x", Change{Fields: map[string]string{"hunter2!": "v"}}, "field's name"},
		"rotates by itself":    {"x", Change{Fields: plain("v").Fields, Rotate: &Rotation{Every: time.Hour}}, "needs a generator"},
		"weak":                 {"x", Change{Generator: &Generator{Kind: Random, Alphabet: "hex", Length: 15}}, "60 bits"},
		"unknown alphabet":     {"x", Change{Generator: &Generator{Kind: Random, Alphabet: "alphanum", Length: 40}}, "must be one of alnum"},
		"twice the same":       {"x", Change{Generator: &Generator{Kind: Random, Characters: "aab", Length: 99}}, "twice"},
		"one character":        {"x", Change{Generator: &Generator{Kind: Random, Characters: "a", Length: 99, AllowWeak: true}}, "at least 2"},
		"not ASCII":            {"x", Change{Generator: &Generator{Kind: Random, Characters: "äö", Length: 99}}, "printable ASCII"},
		"small RSA":            {"x", Change{Generator: &Generator{Kind: RSA, Bits: 1024}}, "from 2048 to 8192"},
		"large RSA":            {"x", Change{Generator: &Generator{Kind: RSA, Bits: 8200}}, "from 2048 to 8192"},
		"unknown generator":    {"x", Change{Generator: &Generator{Kind: "dice"}}, "must be one of random"},
		"relative command":     {"x", Change{Generator: &Generator{Kind: Command, Command: []string{"rotate"}, Timeout: 1}}, "absolute path"},
		"no timeout":           {"x", Change{Generator: &Generator{Kind: Command, Command: []string{"/bin/true"}}}, "timeout"},
		"old value per job":    {"x", Change{Generator: &Generator{Kind: Command, Command: []string{"/bin/true"}, Timeout: 1, PassOld: true}, Rotate: &job}, "rotate after a duration"},
		"value per job":        {"jobkey", plain("v"), "rotates per job"},
		"value of a token":     {"token", plain("v"), "is a token"},
		"token, no key":        {"x", Change{Generator: token("nope", `{}`)}, "set it first"},
		"token of itself":      {"x", Change{Generator: token("x", `{}`)}, "set it first"},
		"token of a token":     {"x", Change{Generator: token("token", `{}`)}, "is a token itself"},
		"token of a job's key": {"x", Change{Generator: token("jobkey", `{}`)}, "--rotate job"},
		"claims":               {"x", Change{Generator: token("pair", `[]`)}, "one JSON object"},
		"claims of ours":       {"x", Change{Generator: token("pair", `{"exp": 1}`)}, "the claim exp"},
		"template":             {"x", Change{Generator: token("pair", `{"sub": "{{"}`)}, "no template"},
		"template of a job":    {"x", Change{Generator: token("pair", `{"a": [{"sub": "{{.Room}}"}]}`)}, "where each job has its own"},
		"short token":          {"x", Change{Generator: token("pair", `{}`), Rotate: &Rotation{Every: 2 * time.Hour}}, "ends before"},
		"endless token":        {"x", Change{Generator: &Generator{Kind: JWT, Key: "pair", Claims: []byte(`{}`)}}, "needs a lifetime"},
		"key goes per job":     {"pair", Change{Rotate: &job}, "it signs token"},
		"grace":                {"x", Change{Fields: plain("v").Fields, Grace: ptr(-time.Second)}, "grace"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := s.Set(t.Context(), test.name, test.change)
			if !errors.Is(err, ErrInput) || !strings.Contains(err.Error(), test.words) || strings.ContainsAny(err.Error(), "\n\x00") {
				t.Errorf("error %v, want %q", err, test.words)
			}
			if err != nil && strings.Contains(err.Error(), "hunter2") {
				t.Errorf("error %q", err)
			}
		})
	}
	if after, err := os.ReadFile(s.Path()); err != nil || !slices.Equal(before, after) {
		t.Errorf("a refusal wrote the store: %v", err)
	}
}

func ptr[T any](v T) *T { return &v }

func TestRemove(t *testing.T) {
	s, _ := in(t, t.TempDir())
	set(t, s, "pair", rotating(t, &Generator{Kind: Ed25519}, "never", 0))
	set(t, s, "token", rotating(t, &Generator{Kind: JWT, Key: "pair", Claims: []byte(`{}`)}, "24h", 0))
	set(t, s, "db", plain("hunter2"))
	for _, names := range [][]string{{"db", "nope"}, {"db", "pair"}} {
		if err := s.Remove(t.Context(), names...); err == nil {
			t.Errorf("removed %v", names)
		}
	}
	if all, err := s.List(); err != nil || len(all) != 3 {
		t.Errorf("left %v, %v", all, err)
	}
	if err := s.Remove(t.Context(), "pair", "token", "db"); err != nil {
		t.Error(err)
	}
	if all, err := s.List(); err != nil || len(all) != 0 {
		t.Errorf("left %v, %v", all, err)
	}
}
