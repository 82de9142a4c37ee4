package integration

import (
	"context"
	"crypto/rand"
	"fmt"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"cleanroom/integration/gitlab"
	"cleanroom/integration/gitlab/job"
	"cleanroom/integration/rig"
)

const (
	appName   = "shop/app:1"
	otherName = "shop/other:1" // the same image under another name
)

// shelf is a registry with images on it that the engine does not have.
type shelf struct {
	*rig.Registry
	digest string
}

// stock starts a registry. Whatever of it the engine pulls is removed when
// the test ends.
func stock(t *testing.T) shelf {
	t.Helper()
	reg, err := rig.StartRegistry(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(reg.Stop)
	t.Cleanup(func() { forget(t, reg.Address) })
	s := shelf{Registry: reg}
	// One layer of it is nowhere else, so a pull has something to bring.
	image := "standin-registry:" + strings.ReplaceAll(reg.Address, ":", "-")
	fresh(t, image)
	for _, name := range []string{appName, otherName} {
		if s.digest, err = reg.Push(t.Context(), image, name); err != nil {
			t.Fatal(err)
		}
	}
	command(t, "docker", "rmi", image)
	return s
}

// fresh makes an image of busybox and a file that compresses badly.
func fresh(t *testing.T, image string) {
	t.Helper()
	blob := filepath.Join(t.TempDir(), "blob")
	noise := make([]byte, 24<<20)
	rand.Read(noise)
	if err := os.WriteFile(blob, noise, 0o644); err != nil {
		t.Fatal(err)
	}
	id := strings.TrimSpace(command(t, "docker", "create", "cleanroom/busybox"))
	defer command(t, "docker", "rm", id)
	command(t, "docker", "cp", blob, id+":/blob")
	command(t, "docker", "commit", id, image)
}

// forget removes all images of a registry from the engine, and looks again.
func forget(t *testing.T, address string) {
	t.Helper()
	list := func() []string {
		return strings.Fields(command(t, "docker", "images", "--format", "{{.Repository}}:{{.Tag}}", "--filter", "reference="+address+"/*/*"))
	}
	if found := list(); len(found) > 0 {
		command(t, "docker", append([]string{"rmi", "--force"}, found...)...)
	}
	if left := list(); len(left) > 0 {
		t.Errorf("images are left: %s", left)
	}
}

func command(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(context.Background(), name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v: %s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// pulling is a configuration that pulls always, with a driver's log to look at.
func pulling(t *testing.T, more string) (config, log string) {
	log = filepath.Join(t.TempDir(), "driver.log")
	return fmt.Sprintf("%s\nallowed_pull_policies = [\"always\", \"if-not-present\", \"never\"]\n%s\n[log]\nlevel = \"debug\"\nfile = %q\n", images, more, log), log
}

// inspected is all that the engine shows of a running job.
func inspected(t *testing.T, id int64, image string) string {
	t.Helper()
	find := func(list ...string) []string {
		found, err := theRig.Find(t.Context(), id, list...)
		must(t, err)
		return found
	}
	containers, volumes, networks := find("ps", "--all"), find("volume", "ls"), find("network", "ls")
	if len(containers) != 2 || len(volumes) < 3 { // a room without services may have no network of the engine's
		t.Fatalf("the room has %d containers, %d volumes", len(containers), len(volumes))
	}
	shown := command(t, "docker", append([]string{"inspect"}, containers...)...) + command(t, "docker", append([]string{"volume", "inspect"}, volumes...)...) +
		command(t, "docker", "image", "inspect", image)
	if len(networks) > 0 {
		shown += command(t, "docker", append([]string{"network", "inspect"}, networks...)...)
	}
	return shown
}

// TestRegistryLogins pulls with the login from each place there is.
func TestRegistryLogins(t *testing.T) {
	reg := stock(t)
	app := reg.Address + "/" + appName
	helper := filepath.Join(t.TempDir(), "bin")
	ran := filepath.Join(helper, "ran")
	script := fmt.Sprintf("#!/bin/sh\ncat >/dev/null\necho \"$1\" >>%s\nprintf '{\"ServerURL\":\"%s\",\"Username\":\"%s\",\"Secret\":\"%s\"}'\n", ran, reg.Address, reg.User, reg.Password)
	if err := os.Mkdir(helper, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(helper, "docker-credential-rig"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	helpers := fmt.Sprintf(`{"credHelpers": {%q: "rig"}}`, reg.Address)
	b := newBox(t)
	type source struct {
		source string
		config string // of cleanroom
		home   string // the runner user's config.json
		job    gitlab.JobSpec
		helped bool
	}
	for _, c := range shuffled(chance(t), []source{
		{source: "the job's DOCKER_AUTH_CONFIG", job: gitlab.JobSpec{Variables: []gitlab.Variable{{Key: "DOCKER_AUTH_CONFIG", Value: reg.AuthConfig(reg.Address)}}}},
		{source: "GitLab's job credentials", job: gitlab.JobSpec{Credentials: []gitlab.Credential{{Type: "registry", URL: reg.Address, Username: reg.User, Password: reg.Password}}}},
		{source: "the runner's auth_config", config: "auth_config = '" + reg.AuthConfig(reg.Address) + "'"},
		{source: "the runner's docker config", home: reg.AuthConfig(reg.Address)},
		{source: "the runner's docker config", home: helpers, helped: true},
		{source: "the runner's auth_config", config: "auth_config = '" + helpers + "'", helped: true},
	}) {
		name := c.source
		if c.helped {
			name += ", credential helper"
		}
		if !b.open(name) {
			continue
		}
		t.Run(name, func(t *testing.T) {
			os.Remove(ran)
			config, log := pulling(t, c.config)
			s := install(t, rig.RunnerOptions{Config: config, Env: []string{"PATH=" + helper + ":" + os.Getenv("PATH")}})
			if c.home != "" {
				dockerConfig(t, s, c.home)
			}
			c.job.Image = &gitlab.Image{Name: app, PullPolicy: []string{"always"}}
			looked := newGate(t)
			c.job.Script = []string{"echo it runs", looked.line()}
			id := s.submit(c.job)
			s.until(id, "it runs")
			shown := inspected(t, id, app)
			looked.open()
			r := s.wait(id)
			r.is(t, job.Success, "", 0)
			r.says(t, "Pulling image "+app+" with the login from "+c.source, "Using image "+app+" (digest "+reg.Address+"/shop/app@"+reg.digest)
			if _, err := os.Stat(ran); (err == nil) != c.helped {
				t.Errorf("the credential helper ran: %t, want %t", err == nil, c.helped)
			}
			words, err := os.ReadFile(log)
			if err != nil || len(words) == 0 {
				t.Errorf("the driver's log: %v", err)
			}
			for where, text := range map[string]string{"the job's log": r.log, "docker inspect": shown, "the driver's log": string(words), "the runner's log": s.runner.Words()} {
				if strings.Contains(text, reg.Password) || strings.Contains(text, reg.Auth()) {
					t.Errorf("%s shows the registry's password", where)
				}
			}
		})
	}
}

// dockerConfig writes the config.json of the runner's user.
func dockerConfig(t *testing.T, s *site, text string) {
	t.Helper()
	folder := filepath.Join(s.runner.Home(), ".docker")
	if err := os.Mkdir(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(folder, "config.json"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestRegistryRefuses has pulls that no second try will mend: they fail the
// job at once. A job that names a credential helper does not get it run.
func TestRegistryRefuses(t *testing.T) {
	reg := stock(t)
	app := reg.Address + "/" + appName
	bin := t.TempDir()
	ran := filepath.Join(bin, "ran")
	if err := os.WriteFile(filepath.Join(bin, "docker-credential-evil"), []byte("#!/bin/sh\ntouch "+ran+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	config, _ := pulling(t, "")
	s := install(t, rig.RunnerOptions{Config: config, Env: []string{"PATH=" + bin + ":" + os.Getenv("PATH")}})
	wrong := rig.Registry{User: reg.User, Password: "pw-of-yesterday"}
	for name, c := range map[string]struct {
		image, login string
		says         []string
	}{
		"wrong password":    {app, wrong.AuthConfig(reg.Address), []string{"pull of image " + app, "unauthorized", "the login from the job's DOCKER_AUTH_CONFIG"}},
		"no login":          {app, "", []string{"pull of image " + app, "no basic auth credentials"}},
		"missing tag":       {reg.Address + "/shop/app:2", reg.AuthConfig(reg.Address), []string{"shop/app:2", "manifest unknown"}},
		"missing name":      {reg.Address + "/shop/nowhere:1", reg.AuthConfig(reg.Address), []string{"shop/nowhere:1"}},
		"not JSON":          {app, reg.Password, []string{"DOCKER_AUTH_CONFIG: it is not the JSON of a docker config file"}},
		"credential helper": {app, fmt.Sprintf(`{"credHelpers": {%q: "evil"}}`, reg.Address), []string{`credential helper "evil"`, "works from the runner's configuration only"}},
		"credential store":  {app, `{"credsStore": "evil"}`, []string{"no basic auth credentials"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := *s
			s.t = t
			spec := gitlab.JobSpec{Image: &gitlab.Image{Name: c.image, PullPolicy: []string{"always"}}, Script: []string{"echo the script ran"}}
			if c.login != "" {
				spec.Variables = []gitlab.Variable{{Key: "DOCKER_AUTH_CONFIG", Value: c.login}}
			}
			r := s.run(spec)
			r.is(t, job.Failed, "script_failure", 1)
			r.says(t, c.says...)
			r.hides(t, "the script ran", "Will be retried", reg.Password, wrong.Password, reg.Auth(), wrong.Auth())
			if _, err := os.Stat(ran); err == nil {
				t.Error("a program that the job names was run on the host")
			}
		})
	}
}

func TestPullPolicies(t *testing.T) {
	reg := stock(t)
	config, _ := pulling(t, "auth_config = '"+reg.AuthConfig(reg.Address)+"'")
	s := install(t, rig.RunnerOptions{Config: config})
	app, other := reg.Address+"/"+appName, reg.Address+"/"+otherName
	pull := func(image string, policies ...string) result {
		t.Helper()
		return s.run(gitlab.JobSpec{Image: &gitlab.Image{Name: image, PullPolicy: policies}, Script: []string{"echo it runs"}})
	}
	good := func(r result, says ...string) {
		t.Helper()
		r.is(t, job.Success, "", 0)
		r.says(t, append(says, "it runs")...)
	}

	r := pull(app, "never")
	r.is(t, job.Failed, "script_failure", 1)
	r.says(t, app+" is not on this runner", `pull policy is "never"`)

	r = pull(app, "never", "if-not-present")
	good(r, "Pull policy never: ", "trying the next", "Pulling image "+app, "(digest "+reg.Address+"/shop/app@"+reg.digest)
	r = pull(app, "if-not-present")
	good(r, "Using image "+app+" (digest "+reg.Address+"/shop/app@")
	r.hides(t, "Pulling image")
	good(pull(other, "always"), "Pulling image "+other, "Using image "+other+" (digest "+reg.Address+"/shop/other@"+reg.digest)

	// Nobody but the runner's admin can mend this, and it may mend itself: an
	// image that a login brought is not given away on anybody's word but the registry's.
	reg.Stop()
	for _, policies := range [][]string{{"always"}, {"always", "if-not-present"}, {"never"}} {
		r = pull(app, policies...)
		r.is(t, job.Failed, "runner_system_failure", r.ExitCode)
		r.says(t, "connection refused", "Will be retried")
		r.hides(t, "it runs")
		if n, want := strings.Count(r.log, "Pulling image "+app), 3*len(policies); n != want && policies[0] != "never" {
			t.Errorf("pulled %d times, want the runner's three for each policy", n)
		}
	}
}

// TestPullShowsProgress pulls through a line so slow that silence would look
// like a job that hangs.
func TestPullShowsProgress(t *testing.T) {
	reg := stock(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: reg.Address})
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { proxy.ServeHTTP(slow{w}, r) })}
	go server.Serve(l)
	defer server.Close()
	address := l.Addr().String()
	t.Cleanup(func() { forget(t, address) })

	config, _ := pulling(t, "auth_config = '"+reg.AuthConfig(address)+"'")
	s := install(t, rig.RunnerOptions{Config: config})
	r := s.run(gitlab.JobSpec{Image: &gitlab.Image{Name: address + "/" + appName}, Script: []string{"echo it runs"}})
	r.is(t, job.Success, "", 0)
	r.says(t, "Pulling image "+address, "MB of ", " layers\n", "it runs")
}

// slow passes 4 MiB a second on.
type slow struct{ http.ResponseWriter }

func (s slow) Write(b []byte) (int, error) {
	time.Sleep(time.Duration(len(b)) * time.Second / (4 << 20))
	return s.ResponseWriter.Write(b)
}
