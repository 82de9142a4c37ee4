package docker

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/api/types/network"

	"cleanroom/sandbox"
	"cleanroom/sandbox/docker/wire"
)

// initBinary is built once for all tests of the package.
var initBinary string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "cleanroom-docker-test")
	if err != nil {
		panic(err)
	}
	initBinary = filepath.Join(dir, "cleanroom-init")
	build := exec.Command("go", "build", "-o", initBinary, "cleanroom/cmd/cleanroom-init")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		panic(string(out))
	}
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

// testEngine is the machine's own; a test without one fails, for nothing
// here means anything without it.
func testEngine(t *testing.T, change func(*Options)) *Engine {
	t.Helper()
	o := Options{Transport: TransportAuto, InitPath: initBinary, StateDir: filepath.Join(t.TempDir(), "state"), Timeout: 2 * time.Minute,
		Wires: wire.Net{Subnet: netip.MustParsePrefix("100.127.0.0/16")}, Unfit: func(err error) { t.Error(err) }}
	if change != nil {
		change(&o)
	}
	e, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	return e
}

func testSpec(profile sandbox.Profile, image string) sandbox.Spec {
	var id [4]byte
	rand.Read(id[:])
	s := sandbox.Spec{
		Name: "cr-test-" + hex.EncodeToString(id[:]), Profile: profile, User: "1000:1000",
		Deadline: time.Now().Add(time.Hour),
		Builds:   sandbox.Volume{Path: "/builds", Tmpfs: true, Size: 64 << 20},
		Helper:   local("cleanroom/helper"), Job: local(image),
		EntrypointTimeout: 2 * time.Minute, ServiceTimeout: 2 * time.Minute, PullTimeout: 2 * time.Minute, // against hanging
	}
	rand.Read(s.Key[:])
	return s
}

func local(image string) sandbox.Container {
	return sandbox.Container{Image: image, PullPolicies: []string{"never"}, Limits: sandbox.Limits{Memory: 256 << 20, Pids: 256}}
}

// makeRoom makes a room that is wiped at the test's end, whole.
func makeRoom(t *testing.T, e *Engine, s sandbox.Spec) (string, error) {
	t.Helper()
	t.Cleanup(func() { wiped(t, e, s.Name) })
	var log bytes.Buffer
	err := e.Make(t.Context(), s, &log)
	return log.String(), err
}

func wiped(t *testing.T, e *Engine, room string) {
	t.Helper()
	if _, err := e.Wipe(context.Background(), room); err != nil {
		t.Error("wipe:", err)
	}
	rest, err := e.find(context.Background(), room)
	if err != nil || len(rest.items()) > 0 {
		t.Errorf("left after the wipe: %v, %v", rest.items(), err)
	}
}

func run(t *testing.T, e *Engine, s sandbox.Spec, role sandbox.Role, script string) (string, sandbox.Result) {
	t.Helper()
	var out bytes.Buffer
	r, err := e.Run(t.Context(), sandbox.Stage{Room: s.Name, Key: s.Key, Name: "test", Role: role,
		Script: strings.NewReader(script), Output: &out, Grace: time.Second})
	if err != nil {
		t.Fatalf("%s: %v\n%s", script, err, out.String())
	}
	return out.String(), r
}

func TestRoomIsMadeRunAndWiped(t *testing.T) {
	for _, transport := range []string{TransportSocket, TransportExec} {
		for _, profile := range []sandbox.Profile{sandbox.Compatible, sandbox.Hardened, sandbox.Strict} {
			t.Run(transport+" "+string(profile), func(t *testing.T) {
				e := testEngine(t, func(o *Options) { o.Transport = transport })
				s := testSpec(profile, "cleanroom/entrypoint")
				s.Job.Env = []string{"CANARY=from-the-job"}
				log, err := makeRoom(t, e, s)
				if err != nil {
					t.Fatalf("%v\n%s", err, log)
				}
				out, r := run(t, e, s, sandbox.Job, "echo $CANARY $FROM_ENTRYPOINT; echo made > /builds/x; exit 42")
				if r.ExitCode != 42 || strings.TrimSpace(out) != "from-the-job yes" {
					t.Errorf("job: %+v, %q", r, out)
				}
				out, r = run(t, e, s, sandbox.Helper, "cat /builds/x; echo seen >> /builds/x; echo ${CANARY-none}")
				if r.ExitCode != 0 || out != "made\nnone\n" {
					t.Errorf("helper: %+v, %q", r, out)
				}
			})
		}
	}
}

func TestNoConfigurationHoldsAVariable(t *testing.T) {
	e := testEngine(t, nil)
	s := testSpec(sandbox.Hardened, "cleanroom/busybox")
	s.Job.Env = []string{"CANARY=c4n4ry-value"}
	s.Services = []sandbox.Container{local("cleanroom/service-pid1")}
	s.Services[0].Env = []string{"CANARY=c4n4ry-value"}
	s.Services[0].Aliases = []string{"pid-one"}
	if log, err := makeRoom(t, e, s); err != nil {
		t.Fatalf("%v\n%s", err, log)
	}
	found, err := e.find(t.Context(), s.Name)
	if err != nil || len(found.containers) != 3 {
		t.Fatal(found.items(), err)
	}
	for _, c := range found.containers {
		_, raw, err := e.api.ContainerInspectWithRaw(t.Context(), c.ID, true)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(raw, []byte("c4n4ry")) || bytes.Contains(raw, []byte("CANARY")) {
			t.Errorf("%s: its configuration holds a variable", shown(c))
		}
	}
	if out, _ := run(t, e, s, sandbox.Job, "echo $CANARY"); out != "c4n4ry-value\n" {
		t.Errorf("the job itself sees %q", out)
	}
}

func TestStrictIsStrict(t *testing.T) {
	e := testEngine(t, nil)
	s := testSpec(sandbox.Strict, "cleanroom/busybox")
	if log, err := makeRoom(t, e, s); err != nil {
		t.Fatalf("%v\n%s", err, log)
	}
	out, _ := run(t, e, s, sandbox.Job, `id -u
touch /root-is-writable 2>/dev/null && echo writable
touch $HOME/x /tmp/x /builds/x && echo homes
grep -E '^(CapEff|CapBnd|NoNewPrivs|Seccomp):' /proc/self/status | tr -d '\t'
ls /sys/class/net
grep '^Max core' /proc/self/limits | tr -s ' ' | sed 's/ *$//'`)
	want := "1000\nhomes\nCapEff:0000000000000000\nCapBnd:0000000000000000\nNoNewPrivs:1\nSeccomp:2\nlo\nMax core file size 1 1 bytes\n"
	if out != want {
		t.Errorf("got\n%swant\n%s", out, want)
	}
}

func TestStrictServicesAreReachedAndNothingElse(t *testing.T) {
	e := testEngine(t, nil)
	s := testSpec(sandbox.Strict, "cleanroom/fastapi") // has bash and its /dev/tcp
	s.Services = []sandbox.Container{local("cleanroom/service-pid1")}
	s.Services[0].Aliases = []string{"pid-one"}
	if log, err := makeRoom(t, e, s); err != nil {
		t.Fatalf("%v\n%s", err, log)
	}
	n, err := e.api.NetworkInspect(t.Context(), innerNetwork(s.Name), network.InspectOptions{})
	if err != nil || !n.Internal {
		t.Fatal(n.Internal, err)
	}
	host, err := net.Listen("tcp", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	defer host.Close()
	port := strconv.Itoa(host.Addr().(*net.TCPAddr).Port)
	outer, err := e.api.NetworkInspect(t.Context(), outerNetwork(s.Name), network.InspectOptions{})
	if err != nil {
		t.Fatal(err)
	}
	reach := func(role sandbox.Role, address string) bool {
		_, r := run(t, e, s, role, "(exec 3<>/dev/tcp/"+address+"/"+port+")")
		return r.ExitCode == 0
	}
	addresses := []string{outer.IPAM.Config[0].Gateway, n.IPAM.Config[0].Gateway}
	if !reach(sandbox.Helper, addresses[0]) {
		t.Errorf("the helper does not reach the host, so this test shows nothing")
	}
	for _, a := range addresses {
		if reach(sandbox.Job, a) {
			t.Errorf("the job reaches the host's services at %s", a)
		}
	}
	if out, _ := run(t, e, s, sandbox.Job, "getent hosts pid-one >/dev/null && echo found; timeout 3 getent hosts deb.debian.org || echo lost"); out != "found\nlost\n" {
		t.Errorf("%q", out)
	}
}

func TestUsersMistakes(t *testing.T) {
	before := settle
	settle = time.Minute // the one that ends is seen to, however late it begins
	t.Cleanup(func() { settle = before })
	e := testEngine(t, nil)
	for name, c := range map[string]struct {
		change func(*sandbox.Spec)
		says   string
	}{
		"no such image":      {func(s *sandbox.Spec) { s.Job.Image = "cleanroom/nowhere:1" }, `cleanroom/nowhere:1 is not on this runner`},
		"an image's id":      {func(s *sandbox.Spec) { s.Job.Image = strings.Repeat("0a", 32) }, "image"},
		"an image's digest":  {func(s *sandbox.Spec) { s.Job.Image = "sha256:" + strings.Repeat("0a", 32) }, "is not on this runner"},
		"bad image name":     {func(s *sandbox.Spec) { s.Job.Image = "UPPER case" }, `image "UPPER case"`},
		"no shell":           {func(s *sandbox.Spec) { s.Job.Image = "cleanroom/scratch" }, "no shell"},
		"dash alone":         {func(s *sandbox.Spec) { s.Job.Image = "cleanroom/dash" }, "bash"},
		"no such entrypoint": {func(s *sandbox.Spec) { s.Job.Entrypoint = []string{"/nowhere"} }, "/nowhere"},
		"entrypoint ends":    {func(s *sandbox.Spec) { s.Job.Entrypoint = []string{"/bin/busybox", "false"} }, "exit code 1"},
		"entrypoint stays": {func(s *sandbox.Spec) {
			s.Job.Image, s.EntrypointTimeout = "cleanroom/entrypoint-never", 10*time.Second // all else of a start takes less
		}, "did not run its command within 10s"},
		"unknown user": {func(s *sandbox.Spec) { s.Job.User = "nobody-here" }, "nobody-here"},
		"silent service": {func(s *sandbox.Spec) {
			s.Services, s.ServiceTimeout = []sandbox.Container{local("cleanroom/service-silent")}, 5*time.Second // its words take less
		}, "please wait"},
		"ended service": {func(s *sandbox.Spec) { s.Services = []sandbox.Container{local("cleanroom/busybox")} }, "exited with code"},
		"strict root":   {func(s *sandbox.Spec) { s.Profile, s.Job.User = sandbox.Strict, "0" }, "strict"},
	} {
		t.Run(name, func(t *testing.T) {
			s := testSpec(sandbox.Hardened, "cleanroom/busybox")
			c.change(&s)
			_, err := makeRoom(t, e, s)
			if err == nil || !errors.Is(err, sandbox.ErrUser) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("got %v, want a user error with %q", err, c.says)
			}
		})
	}
}

func TestOwnerOfBuilds(t *testing.T) {
	for _, storage := range []bool{true, false} {
		e := testEngine(t, nil)
		s := testSpec(sandbox.Hardened, "cleanroom/user")
		s.Builds.Tmpfs = storage
		if log, err := makeRoom(t, e, s); err != nil {
			t.Fatalf("%v\n%s", err, log)
		}
		out, _ := run(t, e, s, sandbox.Helper, "id -u; id -g; mkdir /builds/project; stat -c %u:%g /builds/project; touch $HOME/x && echo home")
		if out != "1234\n2345\n1234:2345\nhome\n" {
			t.Errorf("tmpfs %v: helper: %q", storage, out)
		}
		if out, r := run(t, e, s, sandbox.Job, "echo x > /builds/project/x && whoami"); out != "app\n" {
			t.Errorf("tmpfs %v: job: %q %+v", storage, out, r)
		}
	}
}

func TestRunWithoutTheStateFolder(t *testing.T) {
	e := testEngine(t, nil)
	s := testSpec(sandbox.Hardened, "cleanroom/busybox")
	if _, err := makeRoom(t, e, s); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(e.stateDir(s.Name)); err != nil {
		t.Fatal(err)
	}
	if out, _ := run(t, e, s, sandbox.Job, "echo still here"); out != "still here\n" {
		t.Error(out)
	}
	_, err := e.Run(t.Context(), sandbox.Stage{Room: "cr-nobody", Role: sandbox.Job, Script: strings.NewReader("")})
	if !errors.Is(err, sandbox.ErrNoRoom) {
		t.Error(err)
	}
}

func TestWipeNeedsNoRoomAndMakeNeedsNone(t *testing.T) {
	e := testEngine(t, nil)
	s := testSpec(sandbox.Hardened, "cleanroom/busybox")
	for range 2 {
		if _, err := makeRoom(t, e, s); err != nil {
			t.Fatal(err)
		}
	}
	rooms, err := e.Rooms(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if b, _ := json.Marshal(rooms); !bytes.Contains(b, []byte(s.Name)) {
		t.Errorf("not listed: %s", b)
	}
	for range 2 {
		wiped(t, e, s.Name)
	}
	if _, err := e.Wipe(t.Context(), ""); err == nil {
		t.Error("wiped every room")
	}
}

// TestSocketThatIsALink plays a job that puts a link to a host's socket where
// init's was: the driver must not follow it.
func TestSocketThatIsALink(t *testing.T) {
	e := testEngine(t, nil)
	s := testSpec(sandbox.Hardened, "cleanroom/busybox")
	if _, err := makeRoom(t, e, s); err != nil {
		t.Fatal(err)
	}
	lured := filepath.Join(t.TempDir(), "host.sock")
	l, err := net.Listen("unix", lured)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	met := make(chan struct{}, 1)
	go func() {
		if _, err := l.Accept(); err == nil {
			met <- struct{}{}
		}
	}()
	run(t, e, s, sandbox.Job, "rm -f /.cleanroom/run/init.sock; ln -s "+lured+" /.cleanroom/run/init.sock")
	_, err = e.Run(t.Context(), sandbox.Stage{Room: s.Name, Key: s.Key, Name: "test", Role: sandbox.Job, Script: strings.NewReader("true")})
	if err == nil || !strings.Contains(err.Error(), "no socket") {
		t.Errorf("%v", err)
	}
	select {
	case <-met:
		t.Error("the driver followed the job's link")
	default:
	}
}

func TestStateFolderOfSomebodyElse(t *testing.T) {
	e := testEngine(t, nil)
	s := testSpec(sandbox.Hardened, "cleanroom/busybox")
	if err := os.Mkdir(e.options.StateDir, 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(e.options.StateDir, 0o777); err != nil {
		t.Fatal(err)
	}
	if _, err := makeRoom(t, e, s); err == nil || !strings.Contains(err.Error(), "0700") {
		t.Error(err)
	}
}

// TestMakeIsCutOff ends Make at many instants: one wipe right after it leaves
// nothing, now or later.
func TestMakeIsCutOff(t *testing.T) {
	e := testEngine(t, nil)
	for after := time.Millisecond; after < time.Second; after = after * 3 / 2 {
		s := testSpec(sandbox.Hardened, "cleanroom/busybox")
		ctx, cancel := context.WithTimeout(t.Context(), after)
		var log bytes.Buffer
		err := e.Make(ctx, s, &log)
		cancel()
		if _, err := e.Wipe(context.Background(), s.Name); err != nil {
			t.Errorf("after %s: %v", after, err)
		}
		time.Sleep(50 * time.Millisecond)
		if rest, err2 := e.find(context.Background(), s.Name); err2 != nil || len(rest.items()) > 0 {
			t.Errorf("cut off after %s (%v): %v is left, %v", after, err, rest.items(), err2)
			wiped(t, e, s.Name)
		}
	}
}
