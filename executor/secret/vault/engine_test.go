package vault

import (
	"net/http"
	"testing"
	"time"
)

func TestNewestVersion(t *testing.T) {
	for _, value := range []string{"first", "second"} {
		shared.write(t, "secret/data/shop/api", map[string]any{"data": map[string]any{
			"key": value, "port": 5432, "list": []any{"a&b", 1.5}, "on": true, "none": nil,
		}})
	}
	j := newJob(t, shared, "shop")
	for _, path := range []string{"secret/shop/api", "secret/data/shop/api", "/secret/shop/api/"} {
		issued := j.must(path)
		for name, want := range map[string]string{"key": "second", "port": "5432", "list": `["a&b",1.5]`, "on": "true", "none": "null"} {
			if got := issued.Fields[name]; got != want {
				t.Errorf("%s: field %s is %q, want %q", path, name, got, want)
			}
		}
		if age := time.Since(issued.Rotated); issued.Version != "2" || age < 0 || age > 10*time.Minute || !issued.Expires.IsZero() {
			t.Errorf("%s: version %q, rotated %s, expires %s", path, issued.Version, issued.Rotated, issued.Expires)
		}
	}
	if len(j.leases) != 1 {
		t.Errorf("journal %+v: a stored value is no lease", j.leases)
	}

	if _, err := shared.ask(http.MethodDelete, "secret/data/shop/api", nil); err != nil {
		t.Fatal(err)
	}
	_, err := j.fetch("secret/shop/api")
	refuses(t, err, []string{"second"}, "secret/data/shop/api", "version, 2, is deleted")
}

func TestVersion1(t *testing.T) {
	shared.write(t, "v1/shop/api", map[string]any{"key": "value", "n": 1})
	issued := newJob(t, shared, "shop").must("v1/shop/api")
	if issued.Fields["key"] != "value" || issued.Fields["n"] != "1" || issued.Version != "" || !issued.Rotated.IsZero() || !issued.Expires.IsZero() {
		t.Errorf("issued %+v", issued)
	}
}

func TestPathRefused(t *testing.T) {
	shared.write(t, "secret/data/rival/api", map[string]any{"data": map[string]any{"key": "rival-canary"}})
	shared.write(t, "secret/data/shop/empty", map[string]any{"data": map[string]any{}})
	shared.write(t, "v1/shop/params", map[string]any{"key": "keep"})
	j := newJob(t, shared, "shop")
	for name, test := range map[string]struct {
		path       string
		parameters []string
		words      []string
	}{
		"another project's":     {"secret/rival/api", nil, []string{"secret/data/rival/api", "permission denied", `role "shop"`}},
		"not there":             {"secret/shop/nothing", nil, []string{"secret/data/shop/nothing", "nothing is there"}},
		"not there, v1":         {"v1/shop/nothing", nil, []string{"v1/shop/nothing", "404"}},
		"no such engine":        {"elsewhere/x", nil, []string{"elsewhere/x", "no such path"}},
		"no fields":             {"secret/shop/empty", nil, []string{"no fields"}},
		"climbing":              {"secret/shop/../rival/api", nil, []string{"path"}},
		"must be written to":    {"ssh/creds/otp", nil, []string{"ssh/creds/otp", "give the secret parameters"}},
		"no such role":          {"ssh/creds/nobody", []string{"ip=192.0.2.1"}, []string{"ssh/creds/nobody"}},
		"parameters for KV":     {"v1/shop/params", []string{"key=lost"}, []string{"takes no parameters"}},
		"parameters for KV, v2": {"secret/shop/api", []string{"data=lost"}, []string{"takes no parameters"}},
		"twice":                 {"ssh/creds/otp", []string{"ip=192.0.2.1", "ip=192.0.2.2"}, []string{"parameter ip is given twice"}},
	} {
		t.Run(name, func(t *testing.T) {
			j.t = t
			_, err := j.fetch(test.path, test.parameters...)
			refuses(t, err, []string{"rival-canary", j.token}, test.words...)
		})
	}
	j.t = t
	if got := j.must("v1/shop/params").Fields["key"]; got != "keep" {
		t.Errorf("the stored value is %q now", got)
	}
}

// An SSH one-time password: made by writing, and not renewable.
func TestWritten(t *testing.T) {
	j := newJob(t, shared, "shop")
	issued := j.must("ssh/creds/otp", "ip=192.0.2.1")
	lease := j.leases[len(j.leases)-1]
	if issued.Fields["ip"] != "192.0.2.1" || len(issued.Fields["key"]) < 20 || issued.Rotated.IsZero() {
		t.Errorf("issued %d fields, rotated %s", len(issued.Fields), issued.Rotated)
	}
	// Its own life is 32 days, but the token's ends with the job.
	if !issued.Expires.Equal(lease.Expires) || lease.Expires.After(j.until.Add(slack)) {
		t.Errorf("it expires at %s, the job at %s", lease.Expires, j.until)
	}
	if lease.Renewable || !shared.leased(t, lease.ID) {
		t.Errorf("lease %s, renewable %t", lease.ID, lease.Renewable)
	}
	if err := j.revoke(lease); err != nil || shared.leased(t, lease.ID) {
		t.Errorf("revoke: %v", err)
	}
	if err := j.revoke(lease); err != nil {
		t.Errorf("revoking twice: %v", err)
	}
	if !shared.alive(t, j.leases[0].ID) {
		t.Error("the token went with the lease")
	}

	// A job that could not revoke it does not get it.
	j = newJob(t, shared, "plain")
	_, err := j.fetch("ssh/creds/otp", "ip=192.0.2.1")
	refuses(t, err, []string{string(j.leases[0].Credential)}, `path "sys/leases/revoke"`, `role "plain"`)
}

// As in the CLI, a path need not say the namespace that the mount's path does.
func TestDataPath(t *testing.T) {
	for _, test := range []struct{ mount, path, want string }{
		{"secret/", "secret/shop", "secret/data/shop"},
		{"secret/", "secret/data/shop", "secret/data/shop"},
		{"secret/", "secret/database", "secret/data/database"},
		{"team/kv/", "team/kv/shop/api", "team/kv/data/shop/api"},
		{"ns/secret/", "secret/shop", "secret/data/shop"},
		{"ns/secret/", "secret/data/shop", "secret/data/shop"},
		{"secret/", "secret", "secret"},
	} {
		if got := (mount{path: test.mount}).data(test.path); got != test.want {
			t.Errorf("%s in %s: %s, want %s", test.path, test.mount, got, test.want)
		}
	}
}
