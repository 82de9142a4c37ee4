package contract

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// callWith is a call whose response has these parts.
func callWith(t testing.TB, variables map[string]string, parts string) *Call {
	t.Helper()
	path := filepath.Join(t.TempDir(), "response.json")
	text := `{"id":1,"job_info":{"project_id":2}` + parts + `}`
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return &Call{ResponseFile: path, Variables: variables}
}

func TestServiceAliases(t *testing.T) {
	long := strings.Repeat("a", 64)
	for _, test := range []struct {
		name, alias string
		want        []string
		warnings    int
	}{
		{"postgres", "", []string{"postgres"}, 0},
		{"postgres:15", "db", []string{"postgres", "db"}, 0},
		{"registry.example.com:5000/group/postgres:15", "", []string{"registry.example.com__group__postgres", "registry.example.com-group-postgres"}, 0},
		{"tutum/wordpress@sha256:" + strings.Repeat("a", 64), "", []string{"tutum__wordpress", "tutum-wordpress"}, 0},
		{"redis", "a, b c,,d  a REDIS", []string{"redis", "a", "b", "c", "d"}, 0},
		{"redis", "ok -bad bad- a..b " + long + " 10.0.0.1 ::1 a/b", []string{"redis", "ok"}, 7},
		{"redis", "mail.example.com x_y", []string{"redis", "mail.example.com", "x_y"}, 0},
		{"NOT a name", "n", []string{"n"}, 0},
	} {
		aliases, warnings := ServiceAliases(Service{Image: Image{Name: test.name, Alias: test.alias}})
		if !slices.Equal(aliases, test.want) || len(warnings) != test.warnings {
			t.Errorf("%s, %q: %q, %q", test.name, test.alias, aliases, warnings)
		}
	}
}

func TestHealthcheckPorts(t *testing.T) {
	service := func(value string) Service {
		return Service{Image: Image{Name: "pg"}, Variables: []Variable{{Key: "healthcheck_TCP_port", Value: value}}}
	}
	if ports, err := HealthcheckPorts(service("5432")); err != nil || !slices.Equal(ports, []int{5432}) {
		t.Errorf("%v, %v", ports, err)
	}
	if ports, err := HealthcheckPorts(Service{}); err != nil || ports != nil {
		t.Errorf("%v, %v", ports, err)
	}
	for _, bad := range []string{"", "0", "65536", "-1", "http", "80 81"} {
		if _, err := HealthcheckPorts(service(bad)); !errors.Is(err, ErrService) || !strings.Contains(err.Error(), "1 to 65535") {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestServices(t *testing.T) {
	variables := map[string]string{
		"TAG": "15", "PORT": "5432", "HIDDEN": "s3cret", "SHOWN": "x", "CERT": "PEM", tempProjectDir: "/b/p.tmp",
		"TWICE": "second", "VAULT": "s3cret", "bad-name": "x", "CI_JOB_TOKEN": "s3cret",
	}
	c := callWith(t, variables, `,"secrets":{"VAULT":{}},"variables":[
		{"key":"SHOWN","public":true},{"key":"HIDDEN"},{"key":"CERT","file":true,"public":true},{"key":"VAULT","public":true},
		{"key":"TWICE","public":true},{"key":"TWICE","public":false},{"key":"bad-name","public":true}],
	"services":[
		{"name":"pg:$TAG","alias":"db-$TAG","entrypoint":["$SHOWN"],"command":["$SHOWN"],"executor_opts":{"docker":{"user":70}},
		 "variables":[{"key":"HEALTHCHECK_TCP_PORT","value":"$PORT"},{"key":"A","value":"$B/$HIDDEN"},{"key":"B","value":"$SHOWN"},
			{"key":"RAW","value":"$SHOWN","raw":true},{"key":"C","value":"$CERT $$x ${NONE}$1"},{"key":"F","value":"text","file":true}]},
		{"name":"pg:14","alias":"other"},
		{"name":"pg:13"},
		{"name":"redis","alias":"x y!"}]`)
	list, warnings, err := c.Services()
	if err != nil || len(list) != 3 {
		t.Fatalf("%+v, %v", list, err)
	}
	if s := list[0]; s.Name != "pg:15" || !slices.Equal(s.Aliases, []string{"pg", "db-15"}) || !slices.Equal(s.Ports, []int{5432}) ||
		s.Entrypoint[0] != "$SHOWN" || s.Command[0] != "$SHOWN" || s.ExecutorOpts.Docker.User != "70" {
		t.Errorf("%+v", s)
	}
	want := []string{"SHOWN=x", "HEALTHCHECK_TCP_PORT=5432", "A=$SHOWN/s3cret", "B=x", "RAW=$SHOWN", "C=/b/p.tmp/CERT $x "}
	if !slices.Equal(list[0].Env, want) {
		t.Errorf("%q", list[0].Env)
	}
	if !slices.Equal(list[1].Aliases, []string{"other"}) || !slices.Equal(list[2].Aliases, []string{"redis", "x"}) {
		t.Errorf("%+v", list)
	}
	if len(warnings) != 4 || !strings.Contains(warnings[2], "is not started") { // pg twice taken, pg:13 left out, y!
		t.Errorf("%q", warnings)
	}

	for parts, want := range map[string]string{
		`,"services":[{"name":" $NONE "}]`: "services[0] has no image name",
		`,"services":[{"name":"pg","variables":[{"key":"HEALTHCHECK_TCP_PORT","value":"x"}]}]`: "HEALTHCHECK_TCP_PORT of service",
		`,"services":[` + strings.Repeat(`{"name":"x"},`, 64) + `{"name":"x"}]`:                "65 services, at most 64",
	} {
		if _, _, err := callWith(t, nil, parts).Services(); !errors.Is(err, ErrService) || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

func TestImage(t *testing.T) {
	c := callWith(t, map[string]string{"R": "reg.test", "P": "linux/arm64", "C": "content", tempProjectDir: "/b/p.tmp"},
		`,"variables":[{"key":"C","file":true}],"image":{"name":"${R}/x:$C","entrypoint":["$R"],"executor_opts":{"docker":{"platform":"$P","user":"$U"}}}`)
	image, err := c.Image()
	if err != nil || image.Name != "reg.test/x:/b/p.tmp/C" || image.Entrypoint[0] != "$R" ||
		image.ExecutorOpts.Docker.Platform != "linux/arm64" || image.ExecutorOpts.Docker.User != "" {
		t.Errorf("%+v, %v", image, err)
	}
	if _, err := (&Call{ResponseFile: "/none"}).Image(); !errors.Is(err, ErrResponse) {
		t.Error(err)
	}
}

func FuzzParseJob(f *testing.F) {
	for _, version := range versions {
		f.Add(load(f, version).response)
	}
	f.Add([]byte(`{"id":1,"job_info":{"project_id":2},"image":{"pull_policy":"x","executor_opts":{"docker":{"user":7}}}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		job, err := ParseJob(data)
		if err != nil {
			if !errors.Is(err, ErrResponse) || strings.Contains(err.Error(), "\n") {
				t.Errorf("%q", err)
			}
			return
		}
		if job.ID <= 0 {
			t.Error("a job without an id")
		}
	})
}

func FuzzFromEnviron(f *testing.F) {
	for _, version := range versions {
		f.Add(strings.Join(load(f, version).environ(f, "prepare"), "\x00"))
	}
	f.Add("JOB_RESPONSE_FILE=/r\x00BUILD_FAILURE_EXIT_CODE=2\x00CUSTOM_ENV_A=\x00CUSTOM_ENV_A=b")
	f.Fuzz(func(t *testing.T, environ string) {
		c, err := FromEnviron(strings.Split(environ, "\x00"))
		if err != nil {
			if !errors.Is(err, ErrEnviron) && !errors.Is(err, ErrNoJobResponse) || strings.Contains(err.Error(), "\n") {
				t.Errorf("%q", err)
			}
			return
		}
		if c.ResponseFile == "" || c.BuildFailure() == c.SystemFailure() || c.BuildFailure() < 1 || c.SystemFailure() > 255 {
			t.Errorf("%+v", c)
		}
	})
}

// The services of a response whose parts the job's author wrote.
func FuzzServices(f *testing.F) {
	f.Add("registry.test:5000/a/b:1", "x, y", "HEALTHCHECK_TCP_PORT", "80", "")
	f.Add("$V", "$V", "A", "$A$$${A}", "v")
	f.Add("a@sha256:b", "-", "", "\x00", "x/y")
	f.Fuzz(func(t *testing.T, name, alias, key, value, other string) {
		c := &Call{Variables: map[string]string{"V": other, tempProjectDir: other}}
		c.once.Do(func() {
			c.job = &Job{
				Variables: []Variable{{Key: "V", Public: true, File: len(other)%2 == 1}},
				Services: []Service{
					{Image: Image{Name: name, Alias: alias}, Variables: []Variable{{Key: key, Value: value}}},
					{Image: Image{Name: name}},
				},
			}
		})
		list, _, err := c.Services()
		if err != nil {
			if !errors.Is(err, ErrService) || strings.Contains(err.Error(), "\n") {
				t.Errorf("%q", err)
			}
			return
		}
		seen := map[string]bool{}
		for _, s := range list {
			if len(s.Aliases) == 0 {
				t.Error("a service without a name")
			}
			for _, a := range s.Aliases {
				if !validHost(a) || seen[strings.ToLower(a)] {
					t.Errorf("alias %q", a)
				}
				seen[strings.ToLower(a)] = true
			}
			for _, line := range s.Env {
				if name, _, ok := strings.Cut(line, "="); !ok || !validName(name) {
					t.Errorf("variable %q", line)
				}
			}
			for _, p := range s.Ports {
				if p < 1 || p > 65535 {
					t.Errorf("port %s", fmt.Sprint(p))
				}
			}
		}
	})
}
