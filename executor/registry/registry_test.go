package registry

import (
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	apiregistry "github.com/docker/docker/api/types/registry"
)

// auths is a config.json text with one login for each host.
func auths(logins map[string]string) string {
	var list []string
	for host, login := range logins {
		list = append(list, fmt.Sprintf("%q: {\"auth\": %q}", host, base64.StdEncoding.EncodeToString([]byte(login))))
	}
	return `{"auths": {` + strings.Join(list, ", ") + `}}`
}

// folder holds a config.json.
func folder(t *testing.T, text string) string {
	t.Helper()
	dir := t.TempDir()
	if text != "" {
		if err := os.WriteFile(filepath.Join(dir, "config.json"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// find asks for an image and gives user:password and the source.
func find(t *testing.T, s Sources, image string) (login, source string) {
	t.Helper()
	if s.Folder == "" {
		s.Folder = folder(t, "")
	}
	auth, source, err := s.Find(t.Context(), image)
	if err != nil {
		t.Fatalf("%s: %v", image, err)
	}
	if auth == "" {
		if source != "" {
			t.Errorf("%s: no login from %s", image, source)
		}
		return "", ""
	}
	a, err := apiregistry.DecodeAuthConfig(auth)
	if err != nil {
		t.Fatal(err)
	}
	return a.Username + ":" + a.Password + a.IdentityToken + a.RegistryToken, source
}

const image = "registry.test/group/app:1"

// The order of GitLab's docker executor: the job's own, the runner's, the
// user's file, and last what GitLab gave the job.
func TestPrecedence(t *testing.T) {
	all := Sources{
		Job:    auths(map[string]string{"registry.test": "job:1"}),
		Admin:  auths(map[string]string{"registry.test": "admin:2"}),
		Folder: folder(t, auths(map[string]string{"registry.test": "folder:3"})),
		GitLab: []Login{{"registry.test", "gitlab", "4"}},
	}
	check := func(login, source string) {
		t.Helper()
		if l, s := find(t, all, image); l != login || s != source {
			t.Errorf("%q from %q, want %q from %q", l, s, login, source)
		}
	}
	check("job:1", "the job's DOCKER_AUTH_CONFIG")
	all.Job = auths(map[string]string{"other.test": "job:1"})
	check("admin:2", "the runner's auth_config")
	all.Admin = `{"auths": {"registry.test": {}}}` // no login at all
	check("folder:3", "the runner's docker config")
	all.Folder = folder(t, "")
	check("gitlab:4", "GitLab's job credentials")
	all.GitLab = nil
	check("", "")
	all.Job, all.Admin = " \n", ""
	check("", "")
}

// Docker Hub has many names, and whoever wrote a login chose one.
func TestSpellings(t *testing.T) {
	for _, test := range []struct {
		key, image string
		found      bool
	}{
		{"https://index.docker.io/v1/", "ruby:3", true},
		{"https://index.docker.io/v1/", "docker.io/library/ruby", true},
		{"https://index.docker.io/v1/", "index.docker.io/group/app", true},
		{"docker.io", "ruby", true},
		{"index.docker.io", "group/app", true},
		{"https://registry-1.docker.io/v2/", "group/app", true},
		{"docker.io", "registry.test/app", false},
		{"registry.test", "registry.test/app", true},
		{"https://registry.test/v2/", "registry.test/app", true},
		{"http://registry.test", "registry.test/app", true},
		{"registry.test:5000", "registry.test:5000/app", true},
		{"https://registry.test:5000/v1/", "registry.test:5000/app", true},
		{"registry.test:5000", "registry.test/app", false},
		{"registry.test", "registry.test:5000/app", false},
		{"registry.test", "registry.test.evil/app", false},
		{"registry.test", "evil/registry.test/app", false},
		{"localhost:5000", "localhost:5000/app", true},
		{"[::1]:5000", "[::1]:5000/app", true},
	} {
		text := auths(map[string]string{test.key: "me:secret"})
		for name, s := range map[string]Sources{
			"job": {Job: text}, "admin": {Admin: text}, "folder": {Folder: folder(t, text)}, "gitlab": {GitLab: []Login{{test.key, "me", "secret"}}},
		} {
			if login, _ := find(t, s, test.image); (login == "me:secret") != test.found || login != "" && !test.found {
				t.Errorf("%s: %s for %s: %q", name, test.key, test.image, login)
			}
		}
	}
	both := Sources{Job: auths(map[string]string{"docker.io": "b:2", "https://index.docker.io/v1/": "a:1", "index.docker.io": "c:3"})}
	for range 50 {
		if login, _ := find(t, both, "ruby"); login != "a:1" {
			t.Fatalf("the login of Docker's own spelling comes first, got %q", login)
		}
	}
}

func TestTokens(t *testing.T) {
	for field, want := range map[string]string{"identitytoken": ":word", "registrytoken": ":word"} {
		text := fmt.Sprintf(`{"auths": {"registry.test": {%q: "word"}}}`, field)
		for _, s := range []Sources{{Job: text}, {Admin: text}, {Folder: folder(t, text)}} {
			if login, _ := find(t, s, image); login != want {
				t.Errorf("%s: %q", field, login)
			}
		}
	}
	if login, _ := find(t, Sources{Job: `{"auths": {"registry.test": {"username": "u", "password": "p:q"}}}`}, image); login != "u:p:q" {
		t.Errorf("%q", login)
	}
}

// A program that the job names is never run on the host; one that the admin
// names is.
func TestCredentialHelpers(t *testing.T) {
	bin, trace := t.TempDir(), filepath.Join(t.TempDir(), "trace")
	script := "#!/bin/sh\ncat >/dev/null\necho ran >>" + trace + "\necho '{\"ServerURL\": \"registry.test\", \"Username\": \"helper\", \"Secret\": \"word\"}'\n"
	if err := os.WriteFile(filepath.Join(bin, "docker-credential-x"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	const byHost, store = `{"credHelpers": {"registry.test": "x"}}`, `{"credsStore": "x", "auths": {"registry.test": {}}}`

	for _, text := range []string{byHost, store, `{"credHelpers": {"registry.test": "../../` + bin + `/docker-credential-x"}}`} {
		auth, source, err := Sources{Job: text, Folder: folder(t, "")}.Find(t.Context(), image)
		if auth != "" || source != "" || err != nil && !strings.Contains(err.Error(), "works from the runner's configuration only") {
			t.Errorf("%s: %q %q %v", text, auth, source, err)
		}
	}
	if _, _, err := (Sources{Job: byHost, Folder: folder(t, "")}).Find(t.Context(), image); err == nil {
		t.Error("a job's helper is passed over in silence")
	}
	if login, _ := find(t, Sources{Job: `{"credHelpers": {"registry.test": "x"}, ` + auths(map[string]string{"registry.test": "me:1"})[1:]}, image); login != "me:1" {
		t.Errorf("%q", login)
	}
	if login, _ := find(t, Sources{GitLab: []Login{{"registry.test", "gitlab", "4"}}, Job: store}, image); login != "gitlab:4" {
		t.Errorf("%q", login)
	}
	if _, err := os.Stat(trace); !os.IsNotExist(err) {
		t.Fatal("a job's words ran a program on the host")
	}

	for _, s := range []Sources{{Admin: byHost}, {Admin: store}, {Folder: folder(t, byHost)}, {Folder: folder(t, store)}} {
		if login, _ := find(t, s, image); login != "helper:word" {
			t.Errorf("an admin's helper: %q", login)
		}
	}
	if _, err := os.Stat(trace); err != nil {
		t.Error("the admin's helper did not run:", err)
	}
}

// What cannot be read is told without quoting it: it is a credential.
func TestBadText(t *testing.T) {
	for _, text := range []string{
		"hunter2", `"hunter2"`, `{"auths": "hunter2"}`, `{"auths": {"registry.test": "hunter2"}}`, `{"auths": {"registry.test": {"auth": "hunter2"}}}`,
		`{"auths": {"registry.test": {"auth": 2222222}}}`, `{"auths": {"registry.test": {"auth": "aHVudGVyMg=="}}}`, `{"auths": {"hunter2`,
	} {
		for name, s := range map[string]Sources{"job's": {Job: text}, "auth_config": {Admin: text}, "docker config": {Folder: folder(t, text)}} {
			if s.Folder == "" {
				s.Folder = folder(t, "")
			}
			auth, _, err := s.Find(t.Context(), image)
			if auth != "" || err == nil || !strings.Contains(err.Error(), name) || strings.Contains(err.Error(), "\n") {
				t.Errorf("%s %s: %q %v", name, text, auth, err)
			}
			if err != nil && (strings.Contains(err.Error(), "hunter2") || strings.Contains(err.Error(), "2222222")) {
				t.Errorf("%s %s: the error quotes it: %v", name, text, err)
			}
		}
	}
	if _, _, err := (Sources{}).Find(t.Context(), "NOT AN IMAGE"); err == nil {
		t.Error("no image")
	}
}

// Whatever a job writes: no panic, no program, no words of it in an error.
func FuzzInText(f *testing.F) {
	f.Add(auths(map[string]string{"registry.test": "me:1"}), "registry.test")
	f.Add(`{"auths": {"https://index.docker.io/v1/": {"auth": "bWU6MQ=="}}}`, "docker.io")
	f.Add(`{"credHelpers": {"registry.test": "x"}, "credsStore": "x"}`, "registry.test")
	f.Add(`{"auths": {"registry.test": {"auth": "hunter2hunter2"}}}`, "registry.test")
	f.Add(`{"auths": null}`, "")
	f.Add(`[]`, "a")
	f.Add("\x00", "registry.test:5000")
	f.Add(`{"proxies": {"default": {"httpProxy": "x"}}, "auths": {"://": {}}}`, "://")
	f.Fuzz(func(t *testing.T, text, host string) {
		host = strings.ReplaceAll(host, "\n", "") // it comes from a parsed image name
		a, err := inText(text, host, false)
		again, _ := inText(text, host, false)
		if a != again {
			t.Errorf("%q for %q: once %+v, then %+v", text, host, a, again)
		}
		if err == nil {
			return
		}
		if a.Username != "" || a.Password != "" || strings.Contains(err.Error(), "\n") {
			t.Errorf("%+v with %q", a, err)
		}
		if !strings.Contains(err.Error(), "it is not the JSON") && !strings.Contains(err.Error(), "credential helper") {
			t.Errorf("an error of another's: %q", err)
		}
	})
}
