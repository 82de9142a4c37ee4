package docker

import (
	"bytes"
	"context"
	"io"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"cleanroom/sandbox"
	"cleanroom/sandbox/docker/wire"
	"cleanroom/sandbox/initproto"
)

// stocked has a room made ahead, as for a job of no kind.
func stocked(t testing.TB, e *Engine, s sandbox.Spec) sandbox.Spec {
	t.Helper()
	s.Key, s.Job.Env, s.Job.Entrypoint = [32]byte{}, nil, nil
	s.Labels = map[string]string{"pool": "test"}
	print, err := e.Stock(context.Background(), s, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	s.Stocked = &sandbox.Stocked{Print: print}
	return s
}

// moveIn makes the room for a job; why is what Make says of the one that waits.
func moveIn(t testing.TB, e *Engine, s sandbox.Spec, change func(*sandbox.Spec)) (s2 sandbox.Spec, log string, why error, err error) {
	t.Helper()
	s.Labels, s.Deadline = map[string]string{"job": "1"}, time.Now().Add(2*time.Hour)
	s.Key = testSpec(s.Profile, "x").Key
	told := 0
	s.Stocked = &sandbox.Stocked{Print: s.Stocked.Print, Told: func(w error) { why = w; told++ }}
	if change != nil {
		change(&s)
	}
	var b bytes.Buffer
	err = e.Make(context.Background(), s, &b)
	if err == nil && told != 1 {
		t.Errorf("told %d times", told)
	}
	return s, b.String(), why, err
}

func TestStockedRoomIsTaken(t *testing.T) {
	for _, transport := range []string{TransportSocket, TransportExec} {
		for _, profile := range []sandbox.Profile{sandbox.Compatible, sandbox.Hardened, sandbox.Strict} {
			for _, image := range []string{"cleanroom/entrypoint", "cleanroom/busybox", "cleanroom/user"} {
				t.Run(transport+" "+string(profile)+" "+image, func(t *testing.T) {
					e := testEngine(t, func(o *Options) { o.Transport = transport })
					s := testSpec(profile, image)
					t.Cleanup(func() { wiped(t, e, s.Name) })
					s = stocked(t, e, s)
					before, err := exec.Command("docker", "inspect", "--format", "{{.Id}}", containerName(s.Name, sandbox.Job)).Output()
					if err != nil {
						t.Fatal(err)
					}
					other := testEngine(t, func(o *Options) { o.Transport, o.StateDir = transport, e.options.StateDir }) // another process
					if fits, err := other.Fits(t.Context(), s, s.Stocked.Print); err != nil || !fits {
						t.Fatalf("fits: %t, %v", fits, err)
					}
					s, log, why, err := moveIn(t, other, s, func(s *sandbox.Spec) { s.Job.Env = []string{"CANARY=from-the-job"} })
					if err != nil || why != nil {
						t.Fatalf("%v, %v\n%s", err, why, log)
					}
					after, _ := exec.Command("docker", "inspect", "--format", "{{.Id}}", containerName(s.Name, sandbox.Job)).Output()
					if !bytes.Equal(before, after) {
						t.Error("another room was made")
					}
					out, r := run(t, e, s, sandbox.Job, "echo $CANARY ${FROM_ENTRYPOINT-no}; echo made > /builds/x; exit 42")
					if r.ExitCode != 42 || !strings.HasPrefix(out, "from-the-job") || strings.Contains(image, "entrypoint") != strings.Contains(out, "yes") {
						t.Errorf("job: %+v, %q", r, out)
					}
					out, r = run(t, e, s, sandbox.Helper, "cat /builds/x; echo seen >> /builds/x; echo ${CANARY-none}")
					if r.ExitCode != 0 || out != "made\nnone\n" {
						t.Errorf("helper: %+v, %q", r, out)
					}
					// Nobody takes it a second time, whatever the books say.
					s, _, why, err = moveIn(t, other, s, nil)
					if err != nil || why == nil {
						t.Errorf("a used room was taken: %v, %v", why, err)
					}
					if out, _ := run(t, other, s, sandbox.Job, "cat /builds/x 2>&1"); strings.Contains(out, "made") {
						t.Errorf("what another job left: %q", out)
					}
				})
			}
		}
	}
}

// TestStockedRoomThatDiffers: what is not as it would be made now is wiped.
func TestStockedRoomThatDiffers(t *testing.T) {
	for name, change := range map[string]func(*sandbox.Spec){
		"image":    func(s *sandbox.Spec) { s.Job.Image = "cleanroom/entrypoint" },
		"helper":   func(s *sandbox.Spec) { s.Helper.Image = "cleanroom/fastapi" },
		"user":     func(s *sandbox.Spec) { s.Job.User = "1234" },
		"memory":   func(s *sandbox.Spec) { s.Job.Limits.Memory++ },
		"pids":     func(s *sandbox.Spec) { s.Helper.Limits.Pids++ },
		"profile":  func(s *sandbox.Spec) { s.Profile = sandbox.Strict },
		"builds":   func(s *sandbox.Spec) { s.Builds.Size++ },
		"disk":     func(s *sandbox.Spec) { s.Builds = sandbox.Volume{Path: "/builds"} },
		"cache":    func(s *sandbox.Spec) { s.Cache = sandbox.Volume{Path: "/cache", Tmpfs: true, Size: 1 << 20} },
		"files":    func(s *sandbox.Spec) { s.Job.FilesDir = "/run/secrets" },
		"hosts":    func(s *sandbox.Spec) { s.Network.ExtraHosts = []string{"gitlab.example.com:10.0.0.5"} },
		"dns":      func(s *sandbox.Spec) { s.Network.DNS = []string{"10.0.0.53"} },
		"mtu":      func(s *sandbox.Spec) { s.Network.MTU = 1400 },
		"services": func(s *sandbox.Spec) { s.Services = []sandbox.Container{local("cleanroom/service-pid1")} },
	} {
		t.Run(name, func(t *testing.T) {
			e := testEngine(t, nil)
			s := testSpec(sandbox.Hardened, "cleanroom/busybox")
			t.Cleanup(func() { wiped(t, e, s.Name) })
			s = stocked(t, e, s)
			changed := s
			change(&changed)
			if fits, err := e.Fits(t.Context(), changed, s.Stocked.Print); name != "services" && (fits || err != nil) {
				t.Errorf("fits: %t, %v", fits, err)
			}
			s, log, why, err := moveIn(t, e, s, change)
			if err != nil || why == nil {
				t.Fatalf("%v, %v\n%s", err, why, log)
			}
			if out, r := run(t, e, s, sandbox.Job, "echo hello"); r.ExitCode != 0 || out != "hello\n" {
				t.Errorf("%q, %+v", out, r)
			}
		})
	}
}

// TestStockedRoomOfAnotherEngine: it was made when the engine was set up
// differently.
func TestStockedRoomOfAnotherEngine(t *testing.T) {
	for name, change := range map[string]func(*learned){
		"runtime": func(l *learned) { l.Runtime = "runsc" },
		"engine":  func(l *learned) { l.ID = "another" },
		"remap":   func(l *learned) { l.FirstUID = 100000 },
	} {
		t.Run(name, func(t *testing.T) {
			e := testEngine(t, nil)
			s := testSpec(sandbox.Hardened, "cleanroom/entrypoint")
			t.Cleanup(func() { wiped(t, e, s.Name) })
			s = stocked(t, e, s)
			f, _ := e.remembered(s.Name)
			change(&f.Stock.Engine)
			if err := e.remember(s.Name, f); err != nil {
				t.Fatal(err)
			}
			other := testEngine(t, func(o *Options) { o.StateDir = e.options.StateDir })
			var err error
			other.learned = &f.Stock.Engine // as it was then
			l, err := other.layOut(t.Context(), s, io.Discard)
			if err != nil {
				t.Fatal(err)
			}
			if s.Stocked.Print, err = other.print(s, l); err != nil {
				t.Fatal(err)
			}
			s, log, why, err := moveIn(t, other, s, nil)
			if err != nil || why == nil {
				t.Fatalf("%v, %v\n%s", err, why, log)
			}
			if out, r := run(t, other, s, sandbox.Job, "echo $FROM_ENTRYPOINT"); r.ExitCode != 0 || strings.Count(out, "yes") != 1 {
				t.Errorf("%q, %+v", out, r)
			}
			if strings.Count(log, "Using image") > 2 {
				t.Errorf("images are named twice:\n%s", log)
			}
		})
	}
}

// TestStockedRoomThatIsSpoiled: dead, gone in part, or spoken to.
func TestStockedRoomThatIsSpoiled(t *testing.T) {
	for name, spoil := range map[string]func(*testing.T, *Engine, sandbox.Spec){
		"killed": func(t *testing.T, e *Engine, s sandbox.Spec) { docker(t, "kill", containerName(s.Name, sandbox.Job)) },
		"gone": func(t *testing.T, e *Engine, s sandbox.Spec) {
			docker(t, "rm", "-f", containerName(s.Name, sandbox.Helper))
		},
		"wiped": func(t *testing.T, e *Engine, s sandbox.Spec) { wiped(t, e, s.Name) },
		"spoken to": func(t *testing.T, e *Engine, s sandbox.Spec) {
			w, err := e.recall(t.Context(), s.Name, sandbox.Job)
			if err != nil {
				t.Fatal(err)
			}
			conn, err := e.dial(t.Context(), w)
			if err != nil {
				t.Fatal(err)
			}
			c, err := initproto.Dial(t.Context(), conn, [32]byte{1})
			if err != nil {
				t.Fatal(err)
			}
			c.Close()
		},
	} {
		t.Run(name, func(t *testing.T) {
			e := testEngine(t, nil)
			s := testSpec(sandbox.Hardened, "cleanroom/busybox")
			t.Cleanup(func() { wiped(t, e, s.Name) })
			s = stocked(t, e, s)
			spoil(t, e, s)
			s, log, why, err := moveIn(t, e, s, nil)
			if err != nil || why == nil {
				t.Fatalf("%v, %v\n%s", err, why, log)
			}
			if out, r := run(t, e, s, sandbox.Job, "echo hello"); r.ExitCode != 0 || out != "hello\n" {
				t.Errorf("%q, %+v", out, r)
			}
		})
	}
}

func docker(t *testing.T, args ...string) {
	t.Helper()
	if out, err := exec.Command("docker", args...).CombinedOutput(); err != nil {
		t.Fatalf("docker %v: %v: %s", args, err, out)
	}
}

// BenchmarkTake is how long a job waits for a room that was made ahead, in
// milliseconds; each time by a driver that has asked the engine nothing yet.
func BenchmarkTake(b *testing.B) {
	dir := b.TempDir() + "/state"
	open := func() *Engine {
		e, err := New(Options{Transport: TransportAuto, InitPath: initBinary, StateDir: dir, Wires: wires()})
		if err != nil {
			b.Fatal(err)
		}
		return e
	}
	var took []time.Duration
	for b.Loop() {
		s := stocked(b, open(), testSpec(sandbox.Hardened, "cleanroom/busybox"))
		e := open()
		began := time.Now()
		s, log, why, err := moveIn(b, e, s, nil)
		took = append(took, time.Since(began))
		if err != nil || why != nil {
			b.Fatalf("%v, %v\n%s", err, why, log)
		}
		if _, err := e.Wipe(context.Background(), s.Name); err != nil {
			b.Fatal(err)
		}
	}
	report(b, took)
}

func wires() wire.Net { return wire.Net{Subnet: netip.MustParsePrefix("100.127.0.0/16")} }

func report(b *testing.B, took []time.Duration) {
	slices.Sort(took)
	ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
	b.ReportMetric(ms(took[len(took)/2]), "ms/median")
	b.ReportMetric(ms(took[len(took)*9/10]), "ms/p90")
	b.ReportMetric(ms(took[len(took)-1]), "ms/max")
}
