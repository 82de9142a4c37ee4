package docker

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"

	"cleanroom/sandbox"
)

// The engine's own reading of passwd is tolerant; where it would see root, we
// must not see somebody else (each case was tried on Docker 20.10).
func TestFindUser(t *testing.T) {
	const passwd = "root:x:0:0:root:/root:/bin/sh\n\n# comment\nshort\napp:x:1000:1001::/home/app:/bin/sh\r\nweb:x:33:33\n"
	for _, test := range []struct{ passwd, user, owner, says string }{
		{passwd, "app", "1000:1001", ""},
		{passwd, "app:staff", "1000:1001", ""},
		{passwd, "app:7", "1000:7", ""},
		{passwd, "app:-7", "1000:1001", ""},
		{passwd, "web", "33:33", ""},
		{passwd, "1000:staff", "1000:1001", ""},
		{"  app:x:5:6::/:", "app", "5:6", ""},
		{passwd, "nobody", "", `user "nobody" is not in the image's /etc/passwd`},
		{passwd, "staff:app", "", "is not in"},
		{passwd, "App", "", "is not in"},
		{passwd, "x", "", "is not in"},
		{"", "app", "", "is not in"},
		{"\x00\xff:::\n::::", "app", "", "is not in"},
		{passwd, "short", "", `user "short": its line in the image's /etc/passwd is broken`},
		{"app\napp:x:1000:1000", "app", "", "is broken"},
		{"app:x:zero:0\napp:x:1000:1000", "app", "", "is broken"},
		{"app:x:-0:0\napp:x:1000:1000", "app", "", "is broken"},
		{"app:x: 0:0\napp:x:1000:1000", "app", "", "is broken"},
		{"app:x::\napp:x:1000:1000", "app", "", "is broken"},
		{"app:x:4294967296:0\napp:x:1000:1000", "app", "", "is broken"},
		{"\tapp:x:0:0\napp:x:1000:1000", "app", "0:0", ""},
		{"app:x:00:0", "app", "00:0", ""}, // who knows this for root
		{"+0:x:1000:1000", "+0", "", "write a uid in digits"},
		{"-0:x:1000:1000", "-0:staff", "", "write a uid in digits"},
		{"1000:x:0:0\nother:x:1000:5", "1000:staff", "1000:5", ""}, // a number is no name
		{strings.Repeat("a:x:1:1\n", 10000) + "app:x:5:5", "app", "5:5", ""},
		{"app:x:5:5\n" + strings.Repeat("a", 1<<20), "app", "5:5", ""},
		{strings.Repeat("a", 1<<20) + "\napp:x:5:5", "app", "", "the image's /etc/passwd: bufio.Scanner: token too long"},
	} {
		owner, err := findUser(strings.NewReader(test.passwd), test.user)
		if owner != test.owner || (err == nil) != (test.says == "") || err != nil && (!errors.Is(err, sandbox.ErrUser) || !strings.Contains(err.Error(), test.says)) {
			t.Errorf("%q in %.60q: %q, %v", test.user, test.passwd, owner, err)
		}
	}
	if _, err := findUser(io.MultiReader(strings.NewReader("a:x:1:1\n"), errReader{}), "app"); err == nil || !strings.Contains(err.Error(), "broke") {
		t.Error(err)
	}
}

type errReader struct{}

func (errReader) Read([]byte) (int, error) { return 0, errors.New("broke") }

func TestUserNumbers(t *testing.T) {
	for user, want := range map[string]bool{
		"0": true, "1000": true, "1000:1000": true, "2147483647": true, "00": true,
		"": false, ":": false, "1000:": false, ":1000": false, "+1": false, "-1": false, "0x1": false, "1 ": false, "١": false,
		"2147483648": false, "1:2:3": false, "app": false, "1000:staff": false, "1_0": false,
	} {
		if numeric(user) != want {
			t.Errorf("numeric %q is %t", user, !want)
		}
	}
	for owner, want := range map[string][2]string{
		"": {"0", "0"}, "5": {"5", "5"}, "5:6": {"5", "6"}, "5:": {"5", "5"}, ":6": {"0", "6"},
	} {
		if uid, gid := ownerIDs(owner); uid != want[0] || gid != want[1] {
			t.Errorf("%q: %s %s", owner, uid, gid)
		}
	}
	for user, want := range map[string]bool{"": true, "0": true, "root": true, "0:5": true, "root:app": true, ":5": true, "app": false, "1000:0": false} {
		if isRoot(user) != want {
			t.Errorf("isRoot %q is %t", user, !want)
		}
	}
}

// A user that is root by any spelling is refused by a strict room.
func TestStrictRefusesRoot(t *testing.T) {
	strict := sandbox.Spec{Profile: sandbox.Strict, User: "1000:1000"}
	for user, want := range map[string]string{
		"0": "is root", "root": "is root", "0:1000": "is root", "00": "has uid 0", "000:5": "has uid 0",
	} {
		_, _, err := (&Engine{}).who(t.Context(), strict, sandbox.Container{Image: "x", User: user}, pictureOf(nil))
		if !errors.Is(err, sandbox.ErrUser) || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", user, err)
		}
	}
	p := pictureOf(nil)
	for user, want := range map[string][2]string{"": {"1000:1000", "1000:1000"}, "root": {"1000:1000", "1000:1000"}, "7:8": {"7:8", "7:8"}, "9": {"9", "9"}} {
		p.config.User = user
		if got, owner, err := (&Engine{}).who(t.Context(), strict, sandbox.Container{}, p); err != nil || got != want[0] || owner != want[1] {
			t.Errorf("%q: %q %q %v", user, got, owner, err)
		}
	}
}

// pictureOf makes an image with a configuration.
func pictureOf(change func(*dockerspec.DockerOCIImageConfig)) picture {
	p := picture{id: "sha256:" + strings.Repeat("0", 64), config: &dockerspec.DockerOCIImageConfig{}}
	if change != nil {
		change(p.config)
	}
	return p
}

func TestArgv(t *testing.T) {
	p := pictureOf(func(c *dockerspec.DockerOCIImageConfig) {
		c.Entrypoint, c.Cmd = []string{"/entry"}, []string{"run", "it"}
	})
	for _, test := range []struct {
		role                sandbox.Role
		entrypoint, command []string
		want                string
	}{
		{sandbox.Helper, nil, nil, ""},
		{sandbox.Helper, []string{"/evil"}, []string{"evil"}, ""},
		{sandbox.Job, nil, nil, "/entry"},
		{sandbox.Job, nil, []string{"ignored"}, "/entry"},
		{sandbox.Job, []string{""}, nil, ""},
		{sandbox.Job, []string{}, nil, "/entry"}, // as the engine has it: an empty list is none
		{sandbox.Job, []string{"/other", ""}, nil, "/other|"},
		{sandbox.Service, nil, nil, "/entry|run|it"},
		{sandbox.Service, nil, []string{"serve"}, "/entry|serve"},
		{sandbox.Service, []string{"/other"}, nil, "/other"},
		{sandbox.Service, []string{"/other"}, []string{"serve"}, "/other|serve"},
		{sandbox.Service, []string{""}, []string{"/serve"}, "/serve"},
		{sandbox.Service, []string{""}, nil, ""},
		{sandbox.Service, []string{}, nil, "/entry|run|it"},
	} {
		r := &running{plan: plan{role: test.role, picture: p, spec: sandbox.Container{Entrypoint: test.entrypoint, Command: test.command}}}
		if got := strings.Join(r.argv(), "|"); got != test.want {
			t.Errorf("%s %q %q: %q, want %q", test.role, test.entrypoint, test.command, got, test.want)
		}
	}
	if !slices.Equal(p.config.Entrypoint, []string{"/entry"}) || !slices.Equal(p.config.Cmd, []string{"run", "it"}) {
		t.Errorf("the image was changed: %+v", p.config)
	}
}

func TestPorts(t *testing.T) {
	many := map[string]struct{}{}
	for i := range 70000 {
		many[fmt.Sprintf("%d/tcp", i)] = struct{}{}
	}
	set := func(ports ...string) map[string]struct{} {
		m := map[string]struct{}{}
		for _, p := range ports {
			m[p] = struct{}{}
		}
		return m
	}
	for _, test := range []struct {
		asked   []int
		exposed map[string]struct{}
		want    string
	}{
		{nil, nil, ""},
		{nil, set("5432/tcp", "80", "53/udp", "1/sctp"), "80 5432"},
		{nil, set("80", "80/tcp", "080/tcp"), "80"},
		{nil, set("0/tcp", "-1/tcp", "65536/tcp", "99999999999999999999/tcp", "65535/tcp"), "65535"},
		{nil, set("", "/", "/tcp", "8000-8010/tcp", "+81/tcp", " 82/tcp", "83/TCP", "84/tcp/x"), ""},
		{[]int{8080}, set("80"), "8080"},
		{nil, many, "1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20"},
	} {
		r := &running{plan: plan{spec: sandbox.Container{Ports: test.asked}, picture: pictureOf(func(c *dockerspec.DockerOCIImageConfig) { c.ExposedPorts = test.exposed })}}
		if got := strings.Join(r.ports(), " "); got != test.want {
			t.Errorf("%v of %d exposed: %q, want %q", test.asked, len(test.exposed), got, test.want)
		}
	}
}

func TestHealthcheck(t *testing.T) {
	for _, test := range []struct {
		test, shell []string
		want        string
	}{
		{nil, nil, ""},
		{[]string{"NONE"}, nil, ""},
		{[]string{"NONE", "x"}, nil, ""},
		{[]string{"CMD"}, nil, ""},
		{[]string{"CMD-SHELL"}, nil, ""},
		{[]string{"", "x"}, nil, ""},
		{[]string{"CMD", "pg_isready", "-q"}, nil, "pg_isready|-q"},
		{[]string{"CMD-SHELL", "pg_isready || exit 1"}, nil, "/bin/sh|-c|pg_isready || exit 1"},
		{[]string{"CMD-SHELL", "x", "ignored"}, []string{"/bin/bash", "-ec"}, "/bin/bash|-ec|x"},
	} {
		p := pictureOf(func(c *dockerspec.DockerOCIImageConfig) {
			c.Shell = test.shell
			if test.test != nil {
				c.Healthcheck = &dockerspec.HealthcheckConfig{Test: test.test}
			}
		})
		if got := strings.Join((&running{plan: plan{picture: p}}).healthcheck(), "|"); got != test.want {
			t.Errorf("%q: %q, want %q", test.test, got, test.want)
		}
	}
}

func TestPlatforms(t *testing.T) {
	for _, test := range []struct {
		want, os, arch, variant string
		same                    bool
	}{
		{"linux/amd64", "linux", "amd64", "", true},
		{"Linux/AMD64", "linux", "amd64", "", true},
		{"linux/arm64", "linux", "amd64", "", false},
		{"windows/amd64", "linux", "amd64", "", false},
		{"linux/arm/v7", "linux", "arm", "v7", true},
		{"linux/arm/v6", "linux", "arm", "v7", false},
		{"linux/arm64/v8", "linux", "arm64", "", true},
		{"linux/arm64", "linux", "arm64", "v8", true},
		{"linux/amd64", "", "", "", true}, // an image that does not say
		{"arm64", "linux", "arm64", "", true},
		{"linux", "linux", "arm64", "", true},
		{"amd64", "linux", "arm64", "", false},
		{"linux/", "linux", "amd64", "", false},
		{"/", "linux", "amd64", "", false},
		{"linux/amd64/v1/x/y", "linux", "amd64", "", true},
	} {
		if got := samePlatform(test.want, test.os, test.arch, test.variant); got != test.same {
			t.Errorf("%s and %s/%s/%s: %t", test.want, test.os, test.arch, test.variant, got)
		}
		platform(test.want) // must not panic
	}
}

func TestTail(t *testing.T) {
	says := func(pieces ...string) string {
		tl := newTail(nil)
		for _, p := range pieces {
			if n, err := tl.Write([]byte(p)); n != len(p) || err != nil {
				t.Fatal(n, err)
			}
		}
		return tl.quote()
	}
	for _, test := range []struct{ in, want string }{
		{"", ""},
		{" \n\n", ""},
		{"one\ntwo\n", "; its last lines:\n  | one\n  | two"},
		{"bad \xff\xfe byte", "; its last lines:\n  | bad ? byte"},
		{strings.Repeat("é", tailMax), "; its last lines:\n  | " + strings.Repeat("é", tailMax/2)},
		{strings.Repeat("x\n", 100), "; its last lines:" + strings.Repeat("\n  | x", 20)},
	} {
		if got := says(test.in); got != test.want {
			t.Errorf("%.40q: %q", test.in, got)
		}
	}
	if got := says(strings.Repeat("a", 1<<20), "b", strings.Repeat("c", tailMax-1)); len(got) > tailMax+40 || !strings.Contains(got, "| bccc") {
		t.Errorf("%d bytes, %.40q", len(got), got)
	}
	var b strings.Builder
	shown := newTail(&b) // the author sees it already
	shown.Write([]byte("x\n"))
	if shown.quote() != "" || b.String() != "x\n" {
		t.Errorf("%q %q", shown.quote(), b.String())
	}
}

// The volume of tools has the command for jobs beside init, and the same files
// give the same bytes.
func TestPackTools(t *testing.T) {
	bundle := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(bundle, []byte("pem"), 0o600); err != nil {
		t.Fatal(err)
	}
	packed, err := packTools(initBinary, bundle)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := packTools(initBinary, bundle); err != nil || !bytes.Equal(packed, again) {
		t.Error("packed again it is another", err)
	}
	var got []string
	for r := tar.NewReader(bytes.NewReader(packed)); ; {
		h, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, fmt.Sprintf("%s %o %s", h.Name, h.Mode, h.Linkname))
	}
	if want := []string{"run/ 755 ", "bin/ 755 ", "bin/cleanroom-mask 777 ../init", "init 755 ", "ca.pem 644 "}; !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
}

// What was brought may be at a second path, by a link; what only has its place
// may not, nor may it take that of a file that was looked through.
func TestComparerOfWhatWasBrought(t *testing.T) {
	brought := sandbox.Entry{Path: "project/dist/p", Mode: 0o600, Size: 5, Dev: 1, Ino: 7, Mtime: 3, Ctime: 4}
	as := func(path string, change func(*sandbox.Entry)) sandbox.Entry {
		e := brought
		e.Path = path
		change(&e)
		return e
	}
	same := func(*sandbox.Entry) {}
	for name, test := range map[string]struct {
		before []sandbox.Entry
		now    sandbox.Entry
		says   string
	}{
		"ours":          {nil, as("out/p", same), ""},
		"written since": {nil, as("out/p", func(e *sandbox.Entry) { e.Size, e.Ctime = 6, 9 }), `"out/p" appeared`},
		"another":       {nil, as("out/p", func(e *sandbox.Entry) { e.Ino = 8 }), `"out/p" appeared`},
		"in the place":  {[]sandbox.Entry{as("out/p", func(e *sandbox.Entry) { e.Ino = 8 })}, as("out/p", same), `"out/p" was replaced by "project/dist/p", since a link leads there`},
	} {
		c := &comparer{before: test.before, writes: []string{"dist/p"}, brought: []sandbox.Entry{brought}}
		err := c.see(test.now)
		if (err == nil) != (test.says == "") || err != nil && (!errors.Is(err, sandbox.ErrChanged) || !strings.Contains(err.Error(), test.says)) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
