package store

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"cleanroom/config"
	"cleanroom/executor/secret"
)

// This binary is also a process that does one thing to a store.
const (
	doWhat  = "TEST_STORE_DO"
	doWhere = "TEST_STORE_DIR"
	doRoom  = "TEST_STORE_ROOM"
)

func TestMain(m *testing.M) {
	if what := os.Getenv(doWhat); what != "" {
		if err := do(what); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func do(what string) error {
	s, err := New(config.Provider{Timeout: patience}, os.Getenv(doWhere))
	if err != nil {
		return err
	}
	ctx := context.Background()
	switch what {
	case "rotate":
		n, err := s.Rotate(ctx, "key")
		fmt.Println(n)
		return err
	case "fetch":
		got, err := s.Fetch(ctx, secret.Request{
			Secret: config.Secret{Name: "key"}, Job: secret.Job{Room: os.Getenv(doRoom)},
			Until:   time.Now().Add(time.Hour),
			Journal: func(l secret.Lease) error { fmt.Println("lease", l.ID); return nil },
		})
		fmt.Println(got.Version, got.Fields["value"])
		return err
	case "churn": // until killed: says each version that is on disk for sure
		for {
			n, err := s.Rotate(ctx, "key")
			if err != nil {
				return err
			}
			fmt.Println(n)
		}
	}
	return fmt.Errorf("nothing to do: %s", what)
}

func process(t *testing.T, dir, what, room string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := exec.Command(self)
	c.Env = append(os.Environ(), doWhat+"="+what, doWhere+"="+dir, doRoom+"="+room)
	return c
}

// all runs n processes at once and gives what each printed.
func all(t *testing.T, n int, dir, what string) []string {
	t.Helper()
	running, out, errs := make([]*exec.Cmd, n), make([]bytes.Buffer, n), make([]bytes.Buffer, n)
	for i := range n {
		running[i] = process(t, dir, what, fmt.Sprintf("cr-%d", i))
		running[i].Stdout, running[i].Stderr = &out[i], &errs[i]
		if err := running[i].Start(); err != nil {
			t.Fatal(err)
		}
	}
	texts := make([]string, n)
	for i, c := range running {
		if err := c.Wait(); err != nil {
			t.Fatalf("process %d: %v: %s", i, err, &errs[i])
		}
		texts[i] = out[i].String()
	}
	return texts
}

// real is a store that runs by the real clock, as other processes' do.
func real(t *testing.T, dir string) *Store {
	t.Helper()
	s, _ := in(t, dir)
	s.now = time.Now
	return s
}

// Fifty rotations at once are fifty versions: none is lost, none twice.
func TestRotationsAtOnce(t *testing.T) {
	const n = 50
	dir := t.TempDir()
	s := real(t, dir)
	set(t, s, "key", rotating(t, random(), "never", time.Hour))
	var numbers []int
	for _, text := range all(t, n, dir, "rotate") {
		number, err := strconv.Atoi(strings.TrimSpace(text))
		if err != nil {
			t.Fatal(err)
		}
		numbers = append(numbers, number)
	}
	slices.Sort(numbers)
	for i, number := range numbers {
		if number != i+2 {
			t.Fatalf("versions %v", numbers)
		}
	}
	doc, err := s.load()
	if err != nil {
		t.Fatal(err)
	}
	values := map[string]bool{}
	for i, v := range doc.Secrets["key"].Versions {
		values[v.Fields["value"]] = true
		if want := Old; i < n && v.State != want || i == n && v.State != Current {
			t.Errorf("version %d is %s", v.Number, v.State)
		}
	}
	if len(values) != n+1 || len(doc.Secrets["key"].Versions) != n+1 {
		t.Errorf("%d values in %d versions, want %d", len(values), len(doc.Secrets["key"].Versions), n+1)
	}
}

// Jobs that start at once on a fresh host each get a version of their own.
func TestJobsAtOnce(t *testing.T) {
	const n = 20
	dir := t.TempDir()
	s := real(t, dir)
	set(t, s, "key", rotating(t, random(), "job", 0))
	seen := map[string]bool{}
	for _, text := range all(t, n, dir, "fetch") {
		lease, got, _ := strings.Cut(strings.TrimSpace(text), "\n")
		number, value, _ := strings.Cut(got, " ")
		if !strings.HasPrefix(lease, "lease store:key@"+number+".") || len(value) != DefaultLength || seen[value] || seen[number] {
			t.Errorf("a job got %d characters as %s, %s", len(value), number, lease)
		}
		seen[value], seen[number] = true, true
	}
}

// When a rotation is due, one of many jobs makes it, and all get it.
func TestDueAtOnce(t *testing.T) {
	dir := t.TempDir()
	runs := filepath.Join(dir, "runs")
	script := filepath.Join(dir, "rotate")
	write(t, script, "#!/bin/sh\necho run >> "+runs+"\nsleep 0.2\nwc -l < "+runs+"\n", 0o700)
	s, c := in(t, dir)
	c.Time = time.Now().Add(-25 * time.Hour)
	set(t, s, "key", rotating(t, &Generator{Kind: Command, Command: []string{script}, Timeout: patience}, "24h", 0))
	for i, text := range all(t, 8, dir, "fetch") {
		if text != "2 2\n" {
			t.Errorf("job %d got %q", i, text)
		}
	}
	if text, err := os.ReadFile(runs); err != nil || string(text) != "run\nrun\n" {
		t.Errorf("the command ran %q, %v", text, err)
	}
}

// Killed at any instant, the store opens, and what it said was done is done.
func TestKilled(t *testing.T) {
	dir := t.TempDir()
	s := real(t, dir)
	set(t, s, "key", rotating(t, random(), "never", time.Hour))
	set(t, s, "other", plain("hunter2"))
	done := 1
	for round := range 25 {
		c := process(t, dir, "churn", "")
		out, err := c.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		for range 1 + rand.IntN(3) {
			if !lines.Scan() {
				t.Fatalf("round %d: it ended", round)
			}
			done = number(t, lines.Text())
		}
		time.Sleep(time.Duration(rand.IntN(8000)) * time.Microsecond) // somewhere in the next write
		if err := c.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		for lines.Scan() {
			done = number(t, lines.Text())
		}
		c.Wait()
		doc, err := s.load()
		if err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		v := doc.Secrets["key"].current()
		if v == nil || v.Number != done && v.Number != done+1 {
			t.Fatalf("round %d: version %d is current, %d was done", round, v.Number, done)
		}
		if doc.Secrets["other"].current().Fields["value"] != "hunter2" {
			t.Fatalf("round %d: another secret changed", round)
		}
		done = v.Number
	}
	// The next change takes away what the last kill left.
	if _, err := s.Rotate(t.Context(), "key"); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(s.Path() + ".new"); !os.IsNotExist(err) {
		t.Errorf("left behind: %v", err)
	}
}

func number(t *testing.T, text string) int {
	t.Helper()
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func write(t testing.TB, path, text string, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
}
