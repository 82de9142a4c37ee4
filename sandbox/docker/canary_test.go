package docker

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/events"

	"cleanroom/sandbox"
)

// hunt looks for a value in every place where an engine or a driver could
// leave it. The value is made anew for each, so nothing else holds it.
type hunt struct {
	t       *testing.T
	e       *Engine
	room    string
	value   string
	needles [][]byte
	began   time.Time
	roots   map[string]string // place -> folder

	mu     sync.Mutex
	events bytes.Buffer
}

func newHunt(t *testing.T, e *Engine, room string) *hunt {
	t.Helper()
	var b [15]byte
	rand.Read(b[:])
	h := &hunt{t: t, e: e, room: room, value: "c4n4ry" + hex.EncodeToString(b[:])}
	// The clock of file systems may lag a tick behind.
	h.began = time.Now().Add(-time.Second)
	h.needles = [][]byte{[]byte(h.value), []byte(hex.EncodeToString([]byte(h.value)))}
	for shift := range 3 { // in base64, wherever it begins; the ends depend on what is around
		text := base64.StdEncoding.EncodeToString([]byte(strings.Repeat("x", shift) + h.value))
		h.needles = append(h.needles, []byte(text[4:len(text)-4]))
	}
	info, err := e.api.Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	h.roots = map[string]string{"engine": info.DockerRootDir, "tmp": "/tmp", "state": e.options.StateDir,
		"containerd": "/run/containerd", "docker": "/run/docker", "containerd's": "/var/lib/containerd"}
	ctx, cancel := context.WithCancel(t.Context())
	messages, failed := e.api.Events(ctx, events.ListOptions{Since: fmt.Sprint(h.began.Unix())})
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			select {
			case m := <-messages:
				text, _ := json.Marshal(m)
				h.mu.Lock()
				h.events.Write(text)
				h.mu.Unlock()
			case <-failed:
				return
			}
		}
	}()
	t.Cleanup(func() { cancel(); <-ended })
	return h
}

func (h *hunt) in(text []byte) bool {
	return slices.ContainsFunc(h.needles, func(n []byte) bool { return bytes.Contains(text, n) })
}

// found tells where the value is now.
func (h *hunt) found() (places []string) {
	h.t.Helper()
	list, err := h.e.find(h.t.Context(), h.room)
	if err != nil || len(list.items()) == 0 {
		h.t.Fatal("nothing to look at: ", err)
	}
	for _, c := range list.containers {
		_, raw, err := h.e.api.ContainerInspectWithRaw(h.t.Context(), c.ID, true)
		if err != nil {
			h.t.Fatal(err)
		}
		if h.in(raw) {
			places = append(places, "inspect of "+shown(c))
		}
	}
	for place, root := range h.roots {
		for _, path := range h.grep(root) {
			places = append(places, place+": "+path)
		}
	}
	places = append(places, h.processes()...)
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.in(h.events.Bytes()) {
		places = append(places, "events")
	}
	return places
}

// heard waits until the events tell of something that has happened.
func (h *hunt) heard(what string) {
	h.t.Helper()
	for end := time.Now().Add(2 * time.Minute); ; time.Sleep(10 * time.Millisecond) {
		h.mu.Lock()
		heard := bytes.Contains(h.events.Bytes(), []byte(what))
		h.mu.Unlock()
		if heard {
			return
		}
		if time.Now().After(end) {
			h.t.Fatalf("no event tells of %s", what)
		}
	}
}

// grep finds the value in regular files below root that have changed since
// the hunt began. Whatever vanishes meanwhile is somebody else's.
func (h *hunt) grep(root string) (found []string) {
	filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			if d != nil && d.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		if d.IsDir() && d.Name() == "merged" {
			return fs.SkipDir // shows what "diff" beside it holds
		}
		if !d.Type().IsRegular() { // no fifo, socket or device
			return nil
		}
		info, err := d.Info()
		if err != nil || info.Sys().(*syscall.Stat_t).Ctim.Nano() < h.began.UnixNano() {
			return nil
		}
		if h.inFile(path) {
			found = append(found, path)
		}
		return nil
	})
	return found
}

// inFile reads in pieces that overlap.
func (h *hunt) inFile(path string) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	const overlap = 256
	buf := make([]byte, overlap+1<<20)
	for kept := 0; ; {
		n, err := io.ReadFull(f, buf[kept:])
		if h.in(buf[:kept+n]) {
			return true
		}
		if err != nil {
			return false
		}
		kept = copy(buf, buf[len(buf)-overlap:])
	}
}

// processes looks at the argv and the environment of every process that is in
// no room: those have a process table of their own.
func (h *hunt) processes() (found []string) {
	own, err := os.Readlink("/proc/self/ns/pid")
	if err != nil {
		h.t.Fatal(err)
	}
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range dirs {
		if ns, err := os.Readlink(dir + "/ns/pid"); err != nil || ns != own {
			continue
		}
		for _, name := range []string{"/cmdline", "/environ"} {
			if text, err := os.ReadFile(dir + name); err == nil && h.in(text) {
				found = append(found, "process: "+dir+name)
			}
		}
	}
	return found
}

// What a stage and a service are given is in their own processes and their
// own folder, and nowhere else: not while they run, and not afterwards.
func TestValuesShowNowhere(t *testing.T) {
	for _, transport := range []string{TransportAuto, TransportExec} {
		t.Run(transport, func(t *testing.T) {
			e := testEngine(t, func(o *Options) { o.Transport = transport })
			s := testSpec(sandbox.Hardened, "cleanroom/busybox")
			h := newHunt(t, e, s.Name)
			s.Job.FilesDir = filesDir
			service := local("cleanroom/busybox")
			service.Entrypoint = []string{"/bin/busybox", "sh", "-c", "test -s " + filesDir + "/value && exec busybox httpd -f -p 9000 -h " + filesDir}
			service.Aliases, service.Ports = []string{"server"}, []int{9000}
			service.FilesDir, service.Files = filesDir, []sandbox.File{{Name: "value", Data: []byte(h.value)}}
			s.Services = []sandbox.Container{service}
			if log, err := makeRoom(t, e, s); err != nil {
				t.Fatalf("%v\n%s", err, log)
			}
			out := &waitFor{mark: "ready\n", seen: make(chan struct{})}
			ended := make(chan error, 1)
			go func() {
				r, err := e.Run(t.Context(), sandbox.Stage{Room: s.Name, Key: s.Key, Name: "canary", Role: sandbox.Job, Output: out, Grace: time.Second,
					Env: []string{"CANARY=" + h.value}, Files: []sandbox.File{{Name: "value", Data: []byte(h.value)}},
					Script: strings.NewReader(`test "$(cat ` + filesDir + `/value)" = "$CANARY" || exit 9
test "$(busybox wget -qO- http://server:9000/value)" = "$CANARY" || exit 8
echo ready; while [ ! -e /builds/enough ]; do sleep 0.05; done`)})
				if err == nil && r.ExitCode != 0 {
					err = fmt.Errorf("%+v", r)
				}
				ended <- err
			}()
			select {
			case <-out.seen:
			case err := <-ended:
				t.Fatal(err, out.String())
			}
			h.heard(containerName(s.Name, sandbox.Job))
			for _, place := range h.found() {
				t.Errorf("while the stage runs: %s", place)
			}
			run(t, e, s, sandbox.Helper, "touch /builds/enough")
			if err := <-ended; err != nil {
				t.Fatal(err)
			}
			// Nothing of it comes to a later stage.
			search := `exec 2>/dev/null; for f in /proc/[0-9]*/environ /proc/[0-9]*/cmdline ` + filesDir + `/*; do tr '\0' '\n' <$f | grep -q -e "` + h.value[:6] + `""` + h.value[6:] + `" && echo $f; done; echo searched`
			if got := runFiles(t, e, s, sandbox.Job, search); got != "searched\n" {
				t.Errorf("a later stage: %q", got)
			}
			if got := runFiles(t, e, s, sandbox.Job, "export PLANTED="+h.value+"; sleep 1000 & "+search, sandbox.File{Name: "x", Data: []byte(h.value)}); !strings.Contains(got, "/environ\n") || !strings.Contains(got, filesDir+"/x\n") {
				t.Errorf("that search is blind: %q", got)
			}
			for _, place := range h.found() {
				t.Errorf("after the stage: %s", place)
			}
			// The hunt can find: an environment as an engine keeps it.
			h.plant()
			places := strings.Join(h.found(), "\n")
			for _, place := range []string{"inspect of " + s.Name + "-planted", "engine: ", "tmp: ", "state: ", "process: ", "events"} {
				if !strings.Contains(places, place) {
					t.Errorf("planted and not found: %s\nfound:\n%s", place, places)
				}
			}
			if !strings.Contains(places, "containerd: ") && !strings.Contains(places, "docker: ") {
				t.Errorf("planted and not found in the runtime's folders\nfound:\n%s", places)
			}
		})
	}
}

// plant puts the value where a careless driver would.
func (h *hunt) plant() {
	t, api := h.t, h.e.api
	t.Helper()
	made, err := api.ContainerCreate(t.Context(), &container.Config{Image: "cleanroom/busybox", Env: []string{"CANARY=" + h.value},
		Cmd: []string{"/bin/busybox", "sleep", "1000"}, Labels: map[string]string{labelRoom: h.room, "value": h.value}}, &container.HostConfig{NetworkMode: "none"}, nil, nil, h.room+"-planted")
	if err == nil {
		err = api.ContainerStart(t.Context(), made.ID, container.StartOptions{})
	}
	for _, dir := range []string{t.TempDir(), h.e.stateDir(h.room)} {
		err = errors.Join(err, os.WriteFile(filepath.Join(dir, "planted"), []byte("== "+base64.StdEncoding.EncodeToString([]byte("a "+h.value))), 0o600))
	}
	if err != nil {
		t.Fatal(err)
	}
	h.heard(h.room + "-planted")
	sleeper, err := os.StartProcess("/bin/sleep", []string{"sleep", "1000"}, &os.ProcAttr{Env: []string{"CANARY=" + h.value}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { sleeper.Kill(); sleeper.Wait() })
}

// waitFor tells when a text was written.
type waitFor struct {
	mu   sync.Mutex
	got  bytes.Buffer
	mark string
	seen chan struct{}
}

func (w *waitFor) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	before := strings.Contains(w.got.String(), w.mark)
	w.got.Write(p)
	if !before && strings.Contains(w.got.String(), w.mark) {
		close(w.seen)
	}
	return len(p), nil
}

func (w *waitFor) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.got.String()
}
