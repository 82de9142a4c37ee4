package hunt

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// docker runs the client, which is how a leak comes about; the hunt itself
// speaks with the engine.
func docker(t *testing.T, stdin []byte, args ...string) string {
	t.Helper()
	c := exec.Command("docker", args...)
	var out, words bytes.Buffer
	c.Stdin, c.Stdout, c.Stderr = bytes.NewReader(stdin), &out, &words
	if err := c.Run(); err != nil {
		t.Fatalf("docker %s: %v: %s", args[0], err, words.Bytes())
	}
	return strings.TrimSpace(out.String())
}

// container runs sh with an input that stays open, until the test removes it.
func container(t *testing.T, script string, args ...string) (id string, remove func()) {
	t.Helper()
	args = slices.Concat([]string{"run", "--detach", "--interactive", "--network", "none"}, args, []string{"cleanroom/busybox", "sh", "-c", script})
	id = docker(t, nil, args...)
	removed := false
	remove = func() {
		if !removed {
			removed = true
			docker(t, nil, "rm", "--force", "--volumes", id)
		}
	}
	t.Cleanup(remove)
	return id, remove
}

func expect(t *testing.T, r Report, want map[string][]string) {
	t.Helper()
	for canary, places := range want {
		for _, part := range places {
			if len(r.In(canary, part)) == 0 {
				t.Errorf("%s is not found in %s", canary, part)
			}
		}
	}
	if t.Failed() {
		t.Log(r)
	}
}

// A canary in each place that a container has, found while it is there, and
// not after.
func TestContainer(t *testing.T) {
	ctx, engine := t.Context(), At(LocalSocket)
	root, err := engine.Root(ctx)
	if err != nil {
		t.Fatal(err)
	}
	processes, _ := exceptions()
	canaries := map[string]string{}
	for _, name := range []string{"env", "output", "layer", "volume", "tmpfs", "label", "exec"} {
		canaries[name] = fresh()
	}
	files := func(h *Hunt) error {
		// What the engine unpacked before the test is of no interest to it.
		return h.Files(ctx, FileScope{In: []string{root, "/run"}, ChangedSince: began})
	}
	id, remove := container(t, `
		printf %s "$LAYER" >/in-a-layer; printf %s "$VOLUME" >/volume/file; printf %s "$TMPFS" >/tmpfs/file
		echo "the output is $OUTPUT"; exec sleep 300`,
		"--env", "ENV="+canaries["env"], "--env", "OUTPUT="+canaries["output"], "--env", "LAYER="+canaries["layer"],
		"--env", "VOLUME="+canaries["volume"], "--env", "TMPFS="+canaries["tmpfs"], "--label", "a="+canaries["label"],
		"--volume", "/volume", "--tmpfs", "/tmpfs")
	docker(t, nil, "exec", id, "sh", "-c", "until grep -q canary /tmpfs/file; do sleep 0.1; done")
	docker(t, nil, "exec", "--detach", id, "sh", "-c", "sleep 300; :", canaries["exec"])
	room, err := engine.Room(ctx, id)
	if err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the container's sleep", func() bool {
		b, _ := os.ReadFile("/proc/" + itoa(room) + "/comm")
		return string(b) == "sleep\n"
	})

	h := New(canaries)
	if err := errors.Join(h.Engine(ctx, engine), files(h)); err != nil {
		t.Fatal(err)
	}
	container := root + "/containers/" + id
	expect(t, h.Report(), map[string][]string{
		"env":    {"the engine's /containers/" + id + "/json", container + "/config.v2.json", "/run/"},
		"output": {container + "/" + id + "-json.log", "the engine's /containers/" + id + "/logs"},
		"layer":  {"/in-a-layer"},
		"volume": {root + "/volumes/"},
		"label":  {"the engine's /containers/json", container + "/config.v2.json", "the engine's /events"},
		"exec":   {"the engine's /exec/"},
	})
	if r := h.Report(); len(r.In("tmpfs", "/tmpfs/file")) > 0 || r.Files < 5 || r.Documents < 20 {
		t.Errorf("before looking inside: %v", r)
	}

	inside := New(canaries)
	if err := errors.Join(inside.Inside(ctx, room), inside.Processes(ctx, ProcessScope{Except: processes})); err != nil {
		t.Fatal(err)
	}
	expect(t, inside.Report(), map[string][]string{
		"tmpfs": {"/proc/" + itoa(room) + "/root/tmpfs/file", "/environ (sleep)"},
		"env":   {"/environ (sleep)"},
		"exec":  {"/cmdline (sh)"},
	})

	without := New(canaries)
	if err := without.Processes(ctx, ProcessScope{Rooms: []int{room}, Except: processes}); err != nil {
		t.Fatal(err)
	}
	if r := without.Report(); len(r.Finds) > 0 || !slices.ContainsFunc(r.Skips, func(s Skip) bool { return s.Reason == "a process of a room" && s.Count >= 2 }) {
		t.Errorf("the room left out: %v", r)
	}

	found, err := Daemons()
	if err != nil {
		t.Fatal(err)
	}
	memory := New(canaries)
	if err := memory.Memory(ctx, found["dockerd"]...); err != nil {
		t.Fatal(err)
	}
	expect(t, memory.Report(), map[string][]string{"env": {"/mem (dockerd)"}, "label": {"/mem (dockerd)"}})

	remove()
	after := New(canaries)
	if err := errors.Join(after.Engine(ctx, engine), files(after), after.Processes(ctx, ProcessScope{Except: processes})); err != nil {
		t.Fatal(err)
	}
	for _, f := range after.Report().Finds {
		// Events are forgotten after 256 more. A page that a bolt database
		// freed keeps its content until it is used again: what once was in a
		// container's configuration outlives the container.
		if !strings.Contains(f.Where, "the engine's /events") && !strings.HasSuffix(f.Where, "/meta.db") {
			t.Errorf("after it was removed: %v", f)
		}
	}
}

// A canary in an image: in a layer's file, and in what made it.
func TestImage(t *testing.T) {
	ctx, engine := t.Context(), At(LocalSocket)
	root, err := engine.Root(ctx)
	if err != nil {
		t.Fatal(err)
	}
	canaries := map[string]string{"layer": fresh(), "history": fresh(), "config": fresh()}
	var layer bytes.Buffer
	w := tar.NewWriter(&layer)
	w.WriteHeader(&tar.Header{Name: "a/file", Mode: 0o600, Size: int64(len(canaries["layer"]))})
	w.Write([]byte(canaries["layer"]))
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	id := docker(t, layer.Bytes(), "import", "--change", "ENV A="+canaries["config"], "--message", canaries["history"], "-")
	removed := false
	remove := func() {
		if !removed {
			removed = true
			docker(t, nil, "rmi", "--force", id)
		}
	}
	defer remove()
	h, scope := New(canaries), FileScope{In: []string{root}, ChangedSince: began}
	if err := errors.Join(h.Engine(ctx, engine), h.Files(ctx, scope)); err != nil {
		t.Fatal(err)
	}
	expect(t, h.Report(), map[string][]string{
		"layer":   {"/a/file"},
		"history": {"the engine's /images/" + id + "/history", root + "/image/"},
		"config":  {"the engine's /images/" + id + "/json", root + "/image/"},
	})
	remove()
	after := New(canaries)
	if err := errors.Join(after.Engine(ctx, engine), after.Files(ctx, scope)); err != nil {
		t.Fatal(err)
	}
	for _, f := range after.Report().Finds {
		if !strings.Contains(f.Where, "the engine's /events") {
			t.Errorf("after it was removed: %v", f)
		}
	}
}

// An engine that answers wrongly, never ends, or is not there is an error.
func TestEngineAnswers(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/containers/json":
			w.Write([]byte(`[{"Id":"gone"},{"Id":"mute"}]`))
		case "/containers/gone/json", "/containers/gone/logs":
			http.Error(w, "no such container", http.StatusNotFound)
		case "/containers/mute/logs":
			http.Error(w, "no log", http.StatusNotImplemented)
		case "/images/json":
			w.Write([]byte(`{`))
		case "/networks":
			w.WriteHeader(http.StatusInternalServerError)
		case "/system/df":
			w.Write(bytes.Repeat([]byte("x"), answerBytes+1))
		default:
			w.Write([]byte(`{}`))
		}
	})}
	go server.Serve(listener)
	defer server.Close()
	h := New(map[string]string{"token": fresh()})
	err = h.Engine(t.Context(), At(socket))
	for _, path := range []string{"/images/json", "/networks", "/system/df"} {
		if err == nil || !strings.Contains(err.Error(), path) || !errors.Is(err, ErrUnreadable) {
			t.Errorf("%s: got %v", path, err)
		}
	}
	if n := strings.Count(err.Error(), "unreadable"); n != 3 {
		t.Errorf("%d errors: %v", n, err)
	}
	if r := h.Report(); len(r.Skips) != 2 {
		t.Errorf("skips: %v", r)
	}
	// Its events end at once, which is a gap.
	r, err := Record(t.Context(), At(socket))
	if err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the end of the events", func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		return len(r.failed) > 0
	})
	if err := r.Stop(); !errors.Is(err, ErrRecorder) {
		t.Errorf("got %v, want ErrRecorder", err)
	}
	if _, err := Record(t.Context(), At(socket+"-not")); !errors.Is(err, ErrEngine) {
		t.Errorf("no engine: got %v", err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := h.Files(ended, FileScope{In: []string{t.TempDir()}}); !errors.Is(err, context.Canceled) {
		t.Errorf("no time: got %v", err)
	}
}

func waitFor(t *testing.T, what string, there func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !there(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: not within a minute", what)
		}
	}
}
