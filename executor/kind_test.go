package executor

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"cleanroom/config"
	"cleanroom/executor/pool"
	"cleanroom/sandbox"
)

// Which jobs may have a room that was made ahead, and of which kind.
func TestKind(t *testing.T) {
	plain := pool.Kind{Image: "alpine:3", User: "beans", Platform: "linux/amd64", Helper: "helper:1", Profile: "hardened"}
	strict := plain
	strict.Profile = "strict"
	for _, c := range []struct {
		name string
		with func(*job)
		want pool.Kind
		ok   bool
	}{
		{"plain", func(*job) {}, plain, true},
		{"off", func(j *job) { j.config.Pool.Size = 0 }, pool.Kind{}, false},
		{"harder", func(j *job) { j.variables[ProfileVariable] = "strict" }, strict, true},
		{"softer", func(j *job) { j.variables[ProfileVariable] = "compatible" }, pool.Kind{}, false},
		{"no profile", func(j *job) { j.variables[ProfileVariable] = "../.." }, pool.Kind{}, false},
		{"what is masked", func(j *job) {
			j.response["variables"] = append(j.response["variables"].([]any), map[string]any{"key": "HIDDEN", "value": "alpine:3", "masked": true})
		}, pool.Kind{}, false},
		{"a service", func(j *job) { j.response["services"] = []any{map[string]any{"name": "postgres:16"}} }, pool.Kind{}, false},
		{"a secret as a file", func(j *job) {
			j.variables[SecretsVariable] = "KEY"
			j.config.Secrets = []config.Secret{{Name: "KEY", Deliver: []config.Deliver{{As: "file"}}}}
		}, pool.Kind{}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			j := newJob(t, "19.3")
			j.response["services"], j.response["cache"] = nil, nil
			j.image(func(image map[string]any) { image["name"] = "alpine:3" })
			j.config.Pool.Size, j.config.Images.Helper = 1, "helper:1"
			c.with(j)
			x := j.executor()
			known, err := x.Call.Job()
			if err != nil {
				t.Fatal(err)
			}
			got, ok := x.kind(known)
			if ok != c.ok || ok && got != c.want {
				t.Errorf("%+v %v", got, ok)
			}
		})
	}
}

// Why a room of the pool's is not used stands in both logs, without what the image
// printed and without a value of the job's.
func TestRoomThatDoesNotFit(t *testing.T) {
	j := newJob(t, "19.3")
	j.response["variables"] = append(j.response["variables"].([]any), map[string]any{"key": "HIDDEN", "value": "hidden-v4lue", "masked": true})
	x := j.executor()
	var spec sandbox.Spec
	x.moveIn(&pool.Held{}, &spec)
	spec.Stocked.Told(errors.New("init said hidden-v4lue; its last lines:\n  | hidden-v4lue, and more"))
	for name, text := range map[string]string{"the job's log": j.out.String(), "the driver's log": j.log.String()} {
		if !strings.Contains(text, "init said [private]") || strings.Contains(text, "hidden-v4lue") || strings.Contains(text, "and more") {
			t.Errorf("%s: %s", name, text)
		}
	}
}

// A key is of one configuration, its rules, one version of us and one pool.
func TestKeyOf(t *testing.T) {
	base := config.Default()
	base.Policy.File = filepath.Join(t.TempDir(), "rules.toml")
	if err := os.WriteFile(base.Policy.File, []byte("one"), 0o600); err != nil {
		t.Fatal(err)
	}
	kind := pool.Kind{Image: "a", Helper: "h", Profile: "hardened"}
	key := func(c config.Config, version, id string, k pool.Kind) string {
		t.Helper()
		found, err := keyOf(c, version, id, k)
		if err != nil {
			t.Fatal(err)
		}
		return found
	}
	first := key(base, "1", "id", kind)
	if key(base, "1", "id", kind) != first {
		t.Error("a key is not the same twice")
	}
	limits, pooled, other := base, base, kind
	limits.Limits.Pids++
	pooled.Pool.Size, pooled.Log.Level = 5, "debug" // neither makes a room
	pooled.Images.AuthConfig = "a password"         // nor does what may be one, of which nothing is to be hashed
	other.User = "1000"
	if key(pooled, "1", "id", kind) != first {
		t.Error("what makes no room changes the key")
	}
	all := map[string]string{first: "the first"}
	for what, k := range map[string]string{"limits": key(limits, "1", "id", kind), "version": key(base, "2", "id", kind), "pool": key(base, "1", "di", kind), "user": key(base, "1", "id", other)} {
		if before, ok := all[k]; ok {
			t.Errorf("%s has the key of %s", what, before)
		}
		all[k] = what
	}
	if err := os.WriteFile(base.Policy.File, []byte("another"), 0o600); err != nil {
		t.Fatal(err)
	}
	if key(base, "1", "id", kind) == first {
		t.Error("other rules have the same key")
	}
}
