package main

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"cleanroom/executor/pool"
)

// poolHost has a pool. Whatever a test does with it, at its end nothing of a
// pool is left on the engine.
type poolHost struct {
	*host
	number atomic.Int64 // of jobs
	// What jobs ask for.
	timeout int // seconds
	user    string
}

const poolRooms = `[images]
helper = "cleanroom/helper"
pull_policies = ["never"]
[engine]
init_path = %q
[room]
size = "64m"
[limits]
memory = "128m"
helper_memory = "128m"
[pool]
images = ["cleanroom/busybox"]
`

func newPoolHost(t *testing.T, pool string) *poolHost {
	h := &poolHost{host: newHost(t, ""), timeout: 60}
	h.pool(pool)
	t.Cleanup(h.nothingLeft)
	return h
}

func (h *poolHost) pool(keys string) {
	h.t.Helper()
	h.configure(fmt.Sprintf(poolRooms, filepath.Join(programs, "cleanroom-init")) + keys)
}

// nothingLeft drains the pool, and waits for those who fill it.
func (h *poolHost) nothingLeft() {
	h.pool("size = 0\n")
	id := h.id()
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		h.late()
		h.must("reap")
		busy := exec.Command("flock", "--nonblock", filepath.Join(h.state(), "pool", "fill.lock"), "true").Run() != nil
		left := append(h.engine("container", id), h.engine("volume", id)...)
		var books []string
		for _, folder := range []string{"making", "ready", "taken", "claims", "gone"} {
			found, _ := filepath.Glob(filepath.Join(h.state(), "pool", folder, "*"))
			books = append(books, found...)
		}
		rooms, _ := filepath.Glob(filepath.Join(h.state(), "rooms", "*"))
		if !busy && len(left)+len(books)+len(rooms) == 0 {
			return
		}
		if time.Now().After(end) {
			h.t.Errorf("left: filling %t, on the engine %q, on the books %q, rooms %q", busy, left, books, rooms)
			removeLabelled("label=cleanroom.pool=" + id)
			return
		}
	}
}

func (h *poolHost) state() string { return filepath.Join(filepath.Dir(h.data), "state") }

// id is the pool's.
func (h *poolHost) id() string {
	text, err := os.ReadFile(filepath.Join(h.state(), "pool", "id"))
	if err != nil {
		h.t.Error(err)
	}
	return string(text)
}

// late lets no claim wait for its prepare any longer.
func (h *poolHost) late() {
	found, _ := filepath.Glob(filepath.Join(h.state(), "pool", "claims", "*"))
	for _, path := range found {
		var c map[string]any
		if text, err := os.ReadFile(path); err == nil && json.Unmarshal(text, &c) == nil {
			delete(c, "late")
			c["at"] = time.Time{}
			text, _ = json.Marshal(c)
			_ = os.WriteFile(path, text, 0o600)
		}
	}
}

// engine are the names of what it has of the pool.
func (h *poolHost) engine(kind, id string) []string {
	args := []string{kind, "ls", "--filter", "label=cleanroom.pool=" + id, "--format", map[string]string{"container": "{{.Names}}", "volume": "{{.Name}}"}[kind]}
	if kind == "container" {
		args = append(args, "--all")
	}
	out, err := exec.Command("docker", args...).Output()
	if err != nil {
		h.t.Error(err)
	}
	return strings.Fields(string(out))
}

// driven is a job as the runner drives it.
type driven struct {
	h    *poolHost
	id   int64
	env  []string
	room string
}

// arrive is a job's config; rest is more of its response. With a fault that
// kills, it has no room.
func (h *poolHost) arrive(fault, image, rest string) (*driven, error) {
	d := &driven{h: h, id: 7100 + h.number.Add(1)}
	response := filepath.Join(filepath.Dir(h.data), fmt.Sprint("job-", d.id))
	text := fmt.Sprintf(`{"id": %d, "job_info": {"project_id": 3}, "runner_info": {"timeout": %d}, "image": {"name": %q, "executor_opts": {"docker": {"user": %q}}}%s}`,
		d.id, h.timeout, image, h.user, rest)
	if err := os.WriteFile(response, []byte(text), 0o600); err != nil {
		return nil, err
	}
	d.env = []string{"SYSTEM_FAILURE_EXIT_CODE=77", "BUILD_FAILURE_EXIT_CODE=55", "JOB_RESPONSE_FILE=" + response, "CUSTOM_ENV_CANARY=c4n4ry-of-the-job"}
	out := d.call(fault, "config")
	if out.err != nil {
		return d, fmt.Errorf("config: %w: %s", out.err, out.words)
	}
	var answer struct {
		JobEnv map[string]string `json:"job_env"`
	}
	if err := json.Unmarshal([]byte(out.out), &answer); err != nil {
		return d, err
	}
	for name, value := range answer.JobEnv {
		d.env = append(d.env, name+"="+value)
	}
	d.room = answer.JobEnv["CLEANROOM_ROOM"]
	return d, nil
}

func (d *driven) call(fault string, args ...string) called {
	c := exec.Command(d.h.bin, args...)
	c.Env = append(os.Environ(), "FAULTS_AT="+fault, "CLEANROOM_CONFIG="+d.h.config, "CLEANROOM_DATA_DIR="+d.h.data, "CLEANROOM_STATE_DIR="+d.h.state())
	c.Env = append(c.Env, d.env...)
	var out, words strings.Builder
	c.Stdout, c.Stderr = &out, &words
	err := c.Run()
	return called{out.String(), words.String(), err}
}

func (d *driven) pooled() bool { return strings.HasPrefix(d.room, "cr-pool-") }

// goes has the job go through; it finds nothing that another left. warm: it moved
// into a room that waited.
func (d *driven) goes() (warm bool, err error) {
	p := d.call("", "prepare")
	if p.err != nil {
		return false, fmt.Errorf("prepare: %w: %s%s", p.err, p.out, p.words)
	}
	warm = strings.Contains(p.out, "Room was made ahead")
	script := filepath.Join(filepath.Dir(d.h.data), fmt.Sprint("script-", d.id))
	text := fmt.Sprintf("cat /builds/used 2>/dev/null; test ! -e /builds/used && echo %d >/builds/used && echo \"mine $CANARY\"\n", d.id)
	if err := os.WriteFile(script, []byte(text), 0o600); err != nil {
		return warm, err
	}
	r := d.call("", "run", script, "build_script")
	if r.err != nil || !strings.Contains(r.out, "mine c4n4ry-of-the-job") {
		err = fmt.Errorf("run: %w: %s%s", r.err, r.out, r.words)
	}
	return warm, err
}

func (d *driven) ends() error {
	if c := d.call("", "cleanup"); c.err != nil {
		return fmt.Errorf("cleanup: %w: %s", c.err, c.words)
	}
	return nil
}

const busybox = "cleanroom/busybox"

// ready are the rooms that wait for jobs of the host's user, when there are n of
// them beside those that are known.
func (h *poolHost) ready(n int, known ...string) (rooms []string) {
	h.t.Helper()
	for end := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		rooms = nil
		found, _ := filepath.Glob(filepath.Join(h.state(), "pool", "ready", "*"))
		for _, path := range found {
			var e pool.Entry
			text, err := os.ReadFile(path)
			if err == nil && json.Unmarshal(text, &e) == nil && e.Kind.User == h.user && !slices.Contains(known, e.Room) {
				rooms = append(rooms, e.Room)
			}
		}
		if len(rooms) == n {
			return rooms
		}
		if time.Now().After(end) {
			h.t.Fatalf("%q wait, and not %d", rooms, n)
		}
	}
}

// TestPoolComesBack: rooms are made again after a pool that nobody used for longer
// than its age, after a job that took longer than that, and for a room that died.
func TestPoolComesBack(t *testing.T) {
	h := newPoolHost(t, "size = 1\nage = \"8s\"\n")
	h.user = "1000" // a kind that no admin wants
	job := func(long time.Duration) {
		t.Helper()
		d, err := h.arrive("", busybox, "")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := d.goes(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(long)
		if err := d.ends(); err != nil {
			t.Fatal(err)
		}
	}
	const long = 9 * time.Second
	job(0)
	idle := h.ready(1)
	time.Sleep(long)
	job(0)
	h.ready(1, idle...)

	h.must("pool", "drain")
	job(long)
	h.ready(1)

	h.pool("size = 1\n")
	h.must("pool", "fill")
	dead := h.ready(1)[0]
	if out, err := exec.Command("docker", "kill", dead+"-job").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if out := h.must("reap"); !strings.Contains(out, dead+": removed") || !strings.Contains(out, "it does not run") {
		t.Errorf("reap says %s", out)
	}
	h.ready(0)
}

// TestPoolMeasures: how much a room holds is measured for the admin's kinds, too,
// and by it as many wait as there is memory for.
func TestPoolMeasures(t *testing.T) {
	h := newPoolHost(t, "size = 3\nmemory = \"100m\"\n") // of which one that is not measured takes most
	h.must("pool", "fill")
	h.ready(3)
}

// TestPoolStress: 50 processes claim while the pool is filled, drained and reaped
// and its rooms expire, on the real engine: for 25 s, and on a slow machine until
// enough rooms were used.
func TestPoolStress(t *testing.T) {
	h := newPoolHost(t, "size = 6\nmax = 6\nage = \"4s\"\n")
	h.must("pool", "fill")
	const enough = 20
	begun := time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	var work sync.WaitGroup
	loop := func(pause time.Duration, args ...string) {
		work.Go(func() {
			for ctx.Err() == nil {
				if c := h.call("", args...); c.err != nil {
					t.Errorf("%q: %v: %s", args, c.err, c.words)
				}
				select {
				case <-ctx.Done():
				case <-time.After(pause):
				}
			}
		})
	}
	loop(0, "pool", "fill")
	loop(0, "pool", "fill")
	loop(700*time.Millisecond, "reap")
	loop(6*time.Second, "pool", "drain")
	var mu sync.Mutex
	rooms, claims, warm, killed := map[string]int64{}, 0, 0, 0
	for range 50 {
		work.Go(func() {
			for ctx.Err() == nil {
				how := ""
				if rand.IntN(8) == 0 {
					how = []string{"claim.noted", "claim.taken", "config.answered"}[rand.IntN(3)] + "=kill"
				}
				d, err := h.arrive(how, busybox, "")
				if err != nil {
					if how == "" {
						t.Error(err)
					}
					mu.Lock()
					killed++
					mu.Unlock()
					time.Sleep(rand.N(time.Second))
					continue
				}
				if !d.pooled() {
					time.Sleep(rand.N(4 * time.Second)) // else the fillers get no processor
					continue
				}
				mu.Lock()
				if first, ok := rooms[d.room]; ok {
					t.Errorf("room %s is of jobs %d and %d", d.room, first, d.id)
				}
				rooms[d.room] = d.id
				claims++
				mu.Unlock()
				moved, err := d.goes()
				if err != nil {
					t.Errorf("job %d in %s: %v", d.id, d.room, err)
				}
				if err := d.ends(); err != nil {
					t.Error(err)
				}
				mu.Lock()
				if moved {
					warm++
				}
				if warm >= enough && time.Since(begun) > 25*time.Second {
					cancel()
				}
				mu.Unlock()
			}
		})
	}
	work.Wait()
	t.Logf("%d rooms claimed, %d of them used as they were, %d claimants killed, %d jobs", claims, warm, killed, h.number.Load())
	if warm < enough {
		t.Errorf("only %d rooms were used in %v", warm, time.Since(begun).Round(time.Second))
	}
}
