package secret_test

import (
	"context"
	"encoding/base64"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"cleanroom/config"
	"cleanroom/executor/secret"
)

func TestDeliver(t *testing.T) {
	env := config.Deliver{As: "env", Variable: "V"}
	file := config.Deliver{As: "file", Variable: "V", File: "v"}
	with := func(d config.Deliver, value string) config.Deliver { d.Value = value; return d }
	for name, test := range map[string]struct {
		deliver config.Deliver
		fields  map[string]string
		short   bool
		want    string
		refused string
	}{
		"the only field":      {env, map[string]string{"x": "long enough"}, false, "long enough", ""},
		"a template":          {with(env, "pg://{{.user}}:{{.password | urlquery}}@db"), map[string]string{"user": "u", "password": "p/w rd"}, false, "pg://u:p%2Fw+rd@db", ""},
		"two fields":          {env, map[string]string{"a": "canary-a", "b": "canary-b"}, false, "", "it has the fields a, b: say with `value` which is meant"},
		"no such field":       {with(env, "{{.pasword}}"), map[string]string{"password": "canary-a"}, false, "", "the fields are password"},
		"a failing function":  {with(env, "{{slice .x 100}}"), map[string]string{"x": "canary-a"}, false, "", "its template does not fit"},
		"too short":           {env, map[string]string{"x": "canary7"}, false, "", "less than 8 bytes"},
		"short, but allowed":  {env, map[string]string{"x": "1234"}, true, "1234", ""},
		"zero byte":           {env, map[string]string{"x": "canary\x00binary"}, false, "", "deliver it as a file"},
		"zero byte in a file": {file, map[string]string{"x": "canary\x00binary"}, false, "canary\x00binary", ""},
		"too long":            {env, map[string]string{"x": strings.Repeat("canary", 21000)}, false, "", "126000 bytes"},
		"long in a file":      {file, map[string]string{"x": strings.Repeat("canary", 21000)}, false, strings.Repeat("canary", 21000), ""},
		"too long for a file": {file, map[string]string{"x": strings.Repeat("canary", 100000)}, false, "", "600000 bytes"},
	} {
		got, err := secret.Deliver(config.Secret{Name: "S", AllowShort: test.short, Deliver: []config.Deliver{test.deliver}}, secret.Issued{Fields: test.fields}, []string{"script"})
		switch {
		case test.refused != "":
			if !errors.Is(err, secret.ErrRefused) || !strings.Contains(err.Error(), test.refused) || strings.Contains(err.Error(), "canary") {
				t.Errorf("%s: %v", name, err)
			}
		case err != nil || !reflect.DeepEqual(got, []secret.Delivery{{Secret: "S", Variable: "V", File: test.deliver.File, Value: test.want, Stages: []string{"script"}}}):
			t.Errorf("%s: %.100v, %v", name, got, err)
		}
	}
}

func TestTooOld(t *testing.T) {
	now := time.Now()
	s := config.Secret{Name: "S", MaxAge: time.Hour}
	for want, rotated := range map[string]time.Time{
		"was not rotated for 2h0m0s, at most 1h0m0s is allowed": now.Add(-2 * time.Hour), "its age is not known": {}, "": now.Add(-time.Minute),
	} {
		err := secret.TooOld(s, secret.Issued{Rotated: rotated}, now)
		if want == "" && err != nil || want != "" && (!errors.Is(err, secret.ErrRefused) || !strings.Contains(err.Error(), want)) {
			t.Errorf("%q: %v", want, err)
		}
	}
	if err := secret.TooOld(config.Secret{}, secret.Issued{}, now); err != nil {
		t.Error(err)
	}
}

func TestGets(t *testing.T) {
	for _, test := range []struct {
		stages []string
		yes    string
		no     string
	}{
		{nil, "build_script step_script step_release after_script", "get_sources prepare_script archive_cache upload_artifacts_on_success service:db script_x"},
		{[]string{"script"}, "build_script step_script", "after_script step_release get_sources"},
		{[]string{"step_release"}, "step_release", "step_script build_script after_script"},
		{[]string{"*"}, "build_script get_sources", "service:db"},
		{[]string{"get_sources", "service:d*"}, "get_sources service:db", "build_script service:web"},
	} {
		d := secret.Delivery{Stages: test.stages}
		for _, stage := range strings.Fields(test.yes) {
			if !d.Gets(stage) {
				t.Errorf("%q does not get it by %q", stage, test.stages)
			}
		}
		for _, stage := range strings.Fields(test.no) {
			if d.Gets(stage) {
				t.Errorf("%q gets it by %q", stage, test.stages)
			}
		}
	}
}

func TestSealed(t *testing.T) {
	dir, key := t.TempDir(), [32]byte{1, 2, 3}
	want := &secret.Sealed{Until: time.Now().UTC().Round(0), Deliveries: []secret.Delivery{{Secret: "S", Variable: "V", Value: "canary-value", Stages: []string{"script"}}, {Secret: "K", File: "k", Value: "\xff\x00 keys are bytes"}},
		Hidden:   []secret.Hidden{{Name: "K", Value: "\xfe\xff", Added: true}},
		Renewals: []secret.Renewal{{Secret: "S", Lease: secret.Lease{ID: "x", Credential: []byte("canary-credential")}}}}
	if err := want.Save(dir, room, key); err != nil {
		t.Fatal(err)
	}
	got, err := secret.Unseal(dir, room, key)
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Fatalf("%+v, %v", got, err)
	}
	path := filepath.Join(dir, "sealed", room)
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, canary := range []string{"canary", base64.StdEncoding.EncodeToString([]byte("canary-credential"))[:20]} {
		if strings.Contains(string(text), canary) {
			t.Errorf("%q is on the disk", canary)
		}
	}
	for name, tamper := range map[string]func() error{
		"other key": func() error { _, err := secret.Unseal(dir, room, [32]byte{9}); return err },
		"other room": func() error {
			os.WriteFile(path+"x", text, 0o600)
			_, err := secret.Unseal(dir, room+"x", key)
			return err
		},
		"changed": func() error {
			text[len(text)-1] ^= 1
			os.WriteFile(path, text, 0o600)
			_, err := secret.Unseal(dir, room, key)
			return err
		},
		"empty": func() error { os.WriteFile(path, nil, 0o600); _, err := secret.Unseal(dir, room, key); return err },
	} {
		if err := tamper(); err == nil || strings.Contains(err.Error(), "canary") {
			t.Errorf("%s: %v", name, err)
		}
	}
	os.WriteFile(path+".0011", nil, 0o600) // a killed Save's
	if _, err := secret.Discard(dir, room); err != nil {
		t.Fatal(err)
	}
	if left, _ := filepath.Glob(path + "*"); len(left) != 1 { // other room's
		t.Errorf("left %q", left)
	}
	if _, err := secret.Discard(dir, room); err != nil {
		t.Fatal(err)
	}
	if s, err := secret.Unseal(dir, room, key); err == nil { // a stage must not run without what it was granted
		t.Errorf("nothing is sealed: %+v", s)
	}
}

// clockwork is a provider whose leases live for a minute a renewal.
type clockwork struct {
	source
	mu      sync.Mutex
	renewed []time.Time
	end     time.Time // nothing lives longer
	err     error
}

func (c *clockwork) Renew(_ context.Context, _ secret.Lease, until time.Time) (time.Time, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return time.Time{}, c.err
	}
	c.renewed = append(c.renewed, time.Now())
	next := time.Now().Add(time.Minute)
	for _, bound := range []time.Time{until, c.end} {
		if next.After(bound) {
			next = bound
		}
	}
	return next, nil
}

func TestKeepAlive(t *testing.T) {
	run := func(t *testing.T, c *clockwork, life, stage time.Duration) (told []string) {
		ctx, cancel := context.WithTimeout(t.Context(), stage)
		defer cancel()
		open := func(config.Provider) (secret.Provider, error) { return c, nil }
		until := time.Now().Add(time.Hour)
		if c.end.IsZero() {
			c.end = until
		}
		secret.KeepAlive(ctx, []secret.Renewal{{Secret: "S", Lease: secret.Lease{Expires: time.Now().Add(life), Renewable: true}}}, until, open,
			func(_ secret.Renewal, err error) { told = append(told, err.Error()) })
		return told
	}
	synctest.Test(t, func(t *testing.T) {
		c, began := &clockwork{}, time.Now()
		if told := run(t, c, time.Minute, 5*time.Minute); len(told) > 0 {
			t.Error(told)
		}
		last := began
		for _, at := range c.renewed {
			if at.Sub(last) >= time.Minute {
				t.Errorf("a lease of a minute went without renewal for %s", at.Sub(last))
			}
			last = at
		}
		if n := len(c.renewed); n < 5 || n > 10 {
			t.Errorf("%d renewals in 5 minutes", n)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		c := &clockwork{}
		if run(t, c, 2*time.Hour, time.Minute); len(c.renewed) > 0 {
			t.Errorf("a lease that outlives the job was renewed %d times", len(c.renewed))
		}
	})
	synctest.Test(t, func(t *testing.T) {
		c := &clockwork{end: time.Now().Add(90 * time.Second)} // its max TTL
		if run(t, c, time.Minute, time.Hour); len(c.renewed) == 0 || len(c.renewed) > 5 {
			t.Errorf("%d renewals of a lease that cannot live longer", len(c.renewed))
		}
	})
	synctest.Test(t, func(t *testing.T) {
		c := &clockwork{err: errors.New("away")}
		if told := run(t, c, time.Minute, 10*time.Minute); len(told) != 2 || told[0] != "away" || !strings.Contains(told[1], "expired") {
			t.Errorf("told %q", told)
		}
	})
}
