// Package integration tests cleanroom whole: a real gitlab-runner, a real
// Docker Engine, real git over HTTP, and a stand-in only for GitLab's server.
package integration

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"cleanroom/integration/gitlab"
	"cleanroom/integration/gitlab/job"
	"cleanroom/integration/rig"
)

const (
	project = "shop/items"
	// images is the configuration every test starts from: no registry here.
	images = "[images]\nhelper = \"cleanroom/helper\"\npull_policies = [\"if-not-present\"]\n"
)

var (
	theRig *rig.Rig
	binDir string
	seed   uint64
)

func TestMain(m *testing.M) {
	code, err := setUp(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "integration:", err)
		code = 1
	}
	os.Exit(code)
}

func setUp(m *testing.M) (int, error) {
	dir, err := os.MkdirTemp("", "cleanroom-integration-")
	if err != nil {
		return 1, err
	}
	defer os.RemoveAll(dir)
	if binDir, err = filepath.Abs("../bin"); err != nil {
		return 1, err
	}
	if _, err := os.Stat(filepath.Join(binDir, "cleanroom-admin")); err != nil {
		return 1, errors.New("bin/cleanroom-admin is not there: run `make integration`, which builds it")
	}
	seed = uint64(time.Now().UnixNano())
	if s := os.Getenv("SEED"); s != "" {
		if _, err := fmt.Sscan(s, &seed); err != nil {
			return 1, fmt.Errorf("SEED: %w", err)
		}
	}
	fmt.Printf("the seed of the stand-in and of all chance is %d (SEED repeats it)\n", seed)
	ctx := context.Background()
	if theRig, err = rig.New(ctx, rig.Options{Dir: dir, Bin: binDir, Seed: seed, Awkward: true}); err != nil {
		return 1, err
	}
	defer theRig.Close()
	if _, err := theRig.AddProject(ctx, gitlab.Project{Path: project, Dir: "sample"}); err != nil {
		return 1, err
	}
	return m.Run(), nil
}

// chance is a test's own, the same for the same seed.
func chance(t *testing.T) *rand.Rand {
	h := fnv.New64a()
	h.Write([]byte(t.Name()))
	return rand.New(rand.NewPCG(seed, h.Sum64()))
}

// upTo is a random time.
func upTo(r *rand.Rand, most time.Duration) time.Duration {
	return time.Duration(r.Int64N(int64(most)))
}

// site is a runner of one test, and the scene before it.
type site struct {
	t      *testing.T
	bin    string // folder of its cleanroom
	rig    *rig.Rig
	runner *rig.Runner
	before rig.Scene
	luck   *rand.Rand
}

// install starts a runner with cleanroom for one test. When the test ends
// nothing of cleanroom may be left on the machine.
func install(t *testing.T, o rig.RunnerOptions) *site {
	t.Helper()
	return installOn(t, theRig, o)
}

// installOn is install on a rig of the test's own.
func installOn(t *testing.T, r *rig.Rig, o rig.RunnerOptions) *site {
	t.Helper()
	if o.Executor == "" {
		o.Executor = "custom"
	}
	if !strings.Contains(o.Config, "[images]") {
		o.Config += images
	}
	if pooled := os.Getenv("TEST_POOL"); pooled != "" && o.Executor == "custom" && !strings.Contains(o.Config, "[pool]") {
		o.Config += "\n[pool]\nsize = " + pooled + "\n"
	}
	before, err := r.Look(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	w, err := r.Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	s := &site{t: t, bin: cmp.Or(o.Bin, binDir), rig: r, runner: w, before: before, luck: chance(t)}
	t.Cleanup(func() {
		s.drain()
		s.clean()
		if err := w.Stop(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			words := w.Words() // its end is enough to see what it thought
			t.Log(words[max(0, len(words)-6000):])
		}
	})
	return s
}

// drain throws away the rooms that wait for jobs, and who makes some.
func (s *site) drain() {
	s.t.Helper()
	books := filepath.Join(s.runner.StateDir(), "pool")
	if _, err := os.Stat(books); err != nil {
		return
	}
	config := s.runner.CleanroomConfig()
	text, err := os.ReadFile(config)
	if err == nil { // no cleanup that is still on its way may have rooms made
		err = os.WriteFile(config, regexp.MustCompile(`(?m)^size = [0-9]+$`).ReplaceAll(text, []byte("size = 0")), 0o600)
	}
	for end := time.Now().Add(30 * time.Second); called(config) && time.Now().Before(end); {
		time.Sleep(20 * time.Millisecond)
	}
	if err == nil {
		c := exec.Command(filepath.Join(s.bin, "cleanroom"), "--config", config, "pool", "drain")
		if out, bad := c.CombinedOutput(); bad != nil {
			err = fmt.Errorf("%w: %s", bad, out)
		}
	}
	if ready, _ := filepath.Glob(filepath.Join(books, "*", "*.cr-pool-*")); err == nil && len(ready) == 0 {
		err = os.RemoveAll(books)
	}
	if err != nil {
		s.t.Error(err)
	}
}

// called tells whether a process runs that was called with an argument.
func called(with string) bool {
	all, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	return slices.ContainsFunc(all, func(file string) bool {
		argv, err := os.ReadFile(file)
		return err == nil && strings.Contains(string(argv), "\x00"+with+"\x00")
	})
}

// clean fails the test for everything that was not there before.
func (s *site) clean() {
	s.t.Helper()
	var left rig.Scene
	// The runner removes its own folder after the job's last word; the bound is against hanging.
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		now, err := s.rig.Look(context.Background(), s.runner.StateDir(), s.runner.TempDir(), filepath.Join(s.runner.DataDir(), "leases"))
		if err != nil {
			s.t.Error(err)
			return
		}
		if left = now.Since(s.before); leftovers(left) == 0 {
			return
		}
		if time.Now().After(end) {
			break
		}
	}
	s.t.Errorf("left on the machine:\n%s", left)
}

// leftovers does not count the folders that all rooms share.
func leftovers(s rig.Scene) int {
	n := s.Count()
	for _, f := range s[rig.Files] {
		if strings.HasSuffix(f, "/rooms") || strings.HasSuffix(f, "/sealed") || strings.HasSuffix(f, "/stages") {
			n--
		}
	}
	return n
}

// submit hands in a job of the sample project.
func (s *site) submit(j gitlab.JobSpec) int64 {
	s.t.Helper()
	if j.Name == "" {
		j.Name = regexp.MustCompile(`[^a-z0-9]+`).ReplaceAllString(strings.ToLower(s.t.Name()), "-")
	}
	if j.Image == nil {
		j.Image = &gitlab.Image{Name: "cleanroom/fastapi"}
	}
	id, err := s.rig.Submit(s.t.Context(), j)
	if err != nil {
		s.t.Fatal(err)
	}
	return id
}

// wait waits until the job is over.
func (s *site) wait(id int64) result {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), 6*time.Minute)
	defer cancel()
	st, err := s.rig.Wait(ctx, id)
	if err != nil {
		s.t.Fatalf("%v\n%s", err, s.runner.Words())
	}
	return result{st, rig.Text(st.Trace)}
}

func (s *site) run(j gitlab.JobSpec) result {
	s.t.Helper()
	return s.wait(s.submit(j))
}

// until waits for a text in a running job's log.
func (s *site) until(id int64, text string) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), 3*time.Minute)
	defer cancel()
	if _, err := s.rig.WaitTrace(ctx, id, text); err != nil {
		st, _ := s.rig.Job(context.Background(), id)
		s.t.Fatalf("%v\n%s", err, rig.Text(st.Trace))
	}
}

// result is a job that is over.
type result struct {
	gitlab.JobStatus
	log string
}

func (r result) is(t *testing.T, state job.State, reason string, code int) {
	t.Helper()
	if r.State != state || r.FailureReason != reason || r.ExitCode != code {
		t.Errorf("job %s: %s %q exit code %d, want %s %q %d\n%s", r.Name, r.State, r.FailureReason, r.ExitCode, state, reason, code, r.log)
	}
}

func (r result) says(t *testing.T, texts ...string) {
	t.Helper()
	for _, text := range texts {
		if !strings.Contains(r.log, text) {
			t.Errorf("job %s: its log does not say %q:\n%s", r.Name, text, r.log)
		}
	}
}

func (r result) hides(t *testing.T, texts ...string) {
	t.Helper()
	for _, text := range texts {
		if strings.Contains(r.log, text) {
			t.Errorf("job %s: its log says %q:\n%s", r.Name, text, r.log)
		}
	}
}
