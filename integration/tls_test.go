package integration

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"

	"cleanroom/integration/gitlab"
	"cleanroom/integration/gitlab/job"
	"cleanroom/integration/rig"
)

// mirror is a service that shows its own environment and hosts file.
var mirror = gitlab.Image{Name: "cleanroom/busybox", Alias: "mirror", Entrypoint: []string{"/bin/sh", "-c"},
	Command:   []string{"mkdir /tmp/www; env >/tmp/www/env; cat /etc/hosts >/tmp/www/hosts; cat /.cleanroom/ca.pem >/tmp/www/ca 2>/dev/null; exec httpd -f -p 8000 -h /tmp/www"},
	Variables: []gitlab.Variable{{Key: "HEALTHCHECK_TCP_PORT", Value: "8000"}}}

// showMirror prints a page of it, past any proxy.
func showMirror(page string) string {
	return fmt.Sprintf(`python3 -c "import http.client as h; c = h.HTTPConnection('mirror', 8000); c.request('GET', '/%s'); print('\n'.join('service: ' + l for l in c.getresponse().read().decode().splitlines()))"`, page)
}

// inHelper is a script that runs in the helper container.
func inHelper(script ...string) []gitlab.Hook {
	return []gitlab.Hook{{Name: "pre_get_sources_script", Script: script}}
}

// secure is a GitLab of the test's own, whose certificate nobody knows.
func secure(t *testing.T) *rig.Rig {
	t.Helper()
	r, err := rig.New(t.Context(), rig.Options{Dir: t.TempDir(), Bin: binDir, Seed: 7, TLS: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	if _, err := r.AddProject(t.Context(), gitlab.Project{Path: project, Dir: "sample"}); err != nil {
		t.Fatal(err)
	}
	return r
}

// TestTLSOfTheRunner has the runner alone know the authority: what it passes
// on is enough for clone, upload and download, and reaches no further.
func TestTLSOfTheRunner(t *testing.T) {
	r := secure(t)
	s := installOn(t, r, rig.RunnerOptions{})
	up := s.run(gitlab.JobSpec{Project: project, Name: "up", Script: []string{"git log -1 --oneline", "date +%s >made-here", `echo "authority in ${CI_SERVER_TLS_CA_FILE:-nothing}"`, `grep -c BEGIN "$CI_SERVER_TLS_CA_FILE"`},
		Artifacts: []gitlab.Artifact{{Name: "made", Paths: []string{"made-here"}, Type: "archive", Format: "zip"}}})
	up.is(t, job.Success, "", 0)
	up.says(t, "Uploading artifacts", "authority in /")
	if len(up.Artifacts) != 1 {
		t.Errorf("%d artifacts arrived\n%s", len(up.Artifacts), up.log)
	}
	down := s.run(gitlab.JobSpec{Project: project, Name: "down", Dependencies: []int64{up.ID}, Script: []string{
		"test -s made-here && echo it came back", "ls /.cleanroom/ca.pem 2>&1 || true",
		`python3 -c "import urllib.request as u; u.urlopen('$CI_SERVER_URL/.well-known/openid-configuration')" 2>&1 | tail -1 || true`}})
	down.is(t, job.Success, "", 0)
	down.says(t, "Downloading artifacts", "it came back", "ca.pem': No such file", "CERTIFICATE_VERIFY_FAILED")
}

// TestCABundle gives every container of a room the authority.
func TestCABundle(t *testing.T) {
	r := secure(t)
	s := installOn(t, r, rig.RunnerOptions{Config: fmt.Sprintf("[room]\nca_bundle = %q\n", r.CA)})
	names := []string{"SSL_CERT_FILE", "GIT_SSL_CAINFO", "CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "PIP_CERT", "NODE_EXTRA_CA_CERTS"}
	pattern := "'^(" + strings.Join(names, "|") + ")='"
	out := s.run(gitlab.JobSpec{Project: project, Services: []gitlab.Image{mirror},
		Hooks: inHelper("env | grep -E "+pattern+" | sed 's/^/helper: /'", "grep -c BEGIN.CERTIFICATE /.cleanroom/ca.pem | sed 's/^/helper has /'"),
		Script: []string{"env | grep -E " + pattern + " | sed 's/^/job: /'",
			`python3 -c "import urllib.request as u; print('urllib', u.urlopen('$CI_SERVER_URL/.well-known/openid-configuration').status)"`,
			`python3 -c "import httpx; print('httpx', httpx.get('$CI_SERVER_URL/.well-known/openid-configuration').status_code)"`,
			"git ls-remote $CI_REPOSITORY_URL | head -1 | sed 's/^/git /'",
			showMirror("env"), showMirror("ca"), "(echo x >/.cleanroom/ca.pem) 2>&1 || true"}})
	out.is(t, job.Success, "", 0)
	for _, n := range names {
		for _, who := range []string{"job: ", "helper: ", "service: "} {
			out.says(t, who+n+"=/.cleanroom/ca.pem")
		}
	}
	out.says(t, "helper has 1", "urllib 200", "httpx 200", "service: -----BEGIN CERTIFICATE-----", "Read-only file system")
	if !strings.Contains(out.log, "\ngit ") {
		t.Errorf("git does not know the authority:\n%s", out.log)
	}
}

func TestProxyVariables(t *testing.T) {
	s := install(t, rig.RunnerOptions{Config: fmt.Sprintf("[network]\nhttp_proxy = \"http://proxy.invalid:3128\"\nhttps_proxy = \"http://proxy.invalid:3129\"\nno_proxy = \"%s,mirror\"\n", theRig.Address)})
	show := "env | grep -iE '^(http|https|no)_proxy=' | sed 's/^/%s: /'"
	r := s.run(gitlab.JobSpec{Project: project, Services: []gitlab.Image{mirror}, Hooks: inHelper(fmt.Sprintf(show, "helper")),
		Script: []string{fmt.Sprintf(show, "job"), showMirror("env")}})
	r.is(t, job.Success, "", 0)
	for _, who := range []string{"job", "helper", "service"} {
		for name, value := range map[string]string{"http_proxy": "http://proxy.invalid:3128", "https_proxy": "http://proxy.invalid:3129", "no_proxy": theRig.Address + ",mirror"} {
			r.says(t, who+": "+name+"="+value, who+": "+strings.ToUpper(name)+"="+value)
		}
	}
}

func TestHostsAndDNSReachTheRoom(t *testing.T) {
	server := answerEverything(t, theRig.Address, netip.MustParseAddr("192.0.2.53"))
	s := install(t, rig.RunnerOptions{Config: fmt.Sprintf("[network]\nextra_hosts = [\"build.example:192.0.2.7\"]\ndns = [%q]\ndns_search = [\"corp.example\"]\n", server)})
	look := []string{"getent hosts build.example | sed 's/^/%[1]s has /'", "getent ahostsv4 anything.example | head -1 | sed 's/^/%[1]s asked /'", "grep search /etc/resolv.conf | sed 's/^/%[1]s: /'"}
	at := func(who string) (script []string) {
		for _, l := range look {
			script = append(script, fmt.Sprintf(l, who))
		}
		return script
	}
	r := s.run(gitlab.JobSpec{Project: project, Services: []gitlab.Image{mirror}, Hooks: inHelper(at("helper")...), Script: append(at("job"), showMirror("hosts"))})
	r.is(t, job.Success, "", 0)
	for _, who := range []string{"job", "helper"} {
		r.says(t, who+" has 192.0.2.7", who+" asked 192.0.2.53", who+": search corp.example")
	}
	r.says(t, "service: 192.0.2.7\tbuild.example")
}

// answerEverything is a name server on the host that gives every name one
// address. It returns its own.
func answerEverything(t *testing.T, on string, address netip.Addr) string {
	t.Helper()
	c, err := (&net.ListenConfig{}).ListenPacket(context.Background(), "udp", net.JoinHostPort(on, "53"))
	if err != nil {
		t.Fatalf("a name server for the test: %v", err)
	}
	t.Cleanup(func() { c.Close() })
	go func() {
		buf := make([]byte, 1500)
		for {
			n, from, err := c.ReadFrom(buf)
			if err != nil {
				return
			}
			if a := answerOne(buf[:n], address); a != nil {
				c.WriteTo(a, from)
			}
		}
	}()
	return on
}

// answerOne answers one question of type A (RFC 1035, section 4); any other
// type has no records.
func answerOne(q []byte, address netip.Addr) []byte {
	end := 12
	for end < len(q) && q[end] != 0 {
		end += int(q[end]) + 1
	}
	if end += 5; end > len(q) { // the root's label, type and class
		return nil
	}
	a := append([]byte{}, q[:end]...)
	binary.BigEndian.PutUint16(a[2:], 0x8180) // an answer, recursion desired and available
	clear(a[6:12])
	if binary.BigEndian.Uint16(q[end-4:]) != 1 {
		return a
	}
	a[7] = 1
	a = append(a, 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4) // the name asked, A, IN, a minute, 4 bytes
	return append(a, address.AsSlice()...)
}
