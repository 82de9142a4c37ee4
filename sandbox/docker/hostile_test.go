package docker

import (
	"context"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/client"

	"cleanroom/sandbox"
)

// TestForgedLabels: an image may carry our labels into somebody else's
// container; that is no room, and no wipe takes it.
func TestForgedLabels(t *testing.T) {
	e := testEngine(t, nil)
	s := testSpec(sandbox.Hardened, "cleanroom/busybox")
	l := labels(s, "job")
	l[labelDeadline] = "1"
	made, err := e.api.ContainerCreate(t.Context(), &container.Config{Image: "cleanroom/busybox", Labels: l}, nil, nil, nil, "somebody-elses-"+random())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.removeContainer(context.Background(), made.ID) })
	rooms, err := e.Rooms(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range rooms {
		if r.Name == s.Name {
			t.Error("a forged label is listed as a room")
		}
	}
	if _, err := e.Wipe(t.Context(), s.Name); err != nil {
		t.Error(err)
	}
	if _, err := e.api.ContainerInspect(t.Context(), made.ID); err != nil {
		t.Errorf("the wipe took somebody else's container: %v", err)
	}
}

// TestWipeWithAForeignStateFolder: the folder of somebody else may lead
// anywhere.
func TestWipeWithAForeignStateFolder(t *testing.T) {
	e := testEngine(t, nil)
	victim := t.TempDir()
	room := filepath.Join(victim, "cr-test-1")
	if err := os.MkdirAll(room, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(e.options.StateDir, 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(e.options.StateDir, 12345, 12345); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(victim, filepath.Join(e.options.StateDir, "rooms")); err != nil {
		t.Fatal(err)
	}
	if _, err := e.Wipe(t.Context(), "cr-test-1"); err == nil {
		t.Error("it is not said that the state folder is somebody else's")
	}
	if _, err := os.Stat(room); err != nil {
		t.Errorf("the wipe followed a link: %v", err)
	}
}

// TestStrictVolumesAreInMemory: an image's VOLUME would be a writable folder
// on the engine's disk.
func TestStrictVolumesAreInMemory(t *testing.T) {
	e := testEngine(t, nil)
	s := testSpec(sandbox.Strict, "cleanroom/postgres")
	s.Job.Entrypoint = []string{""}
	if log, err := makeRoom(t, e, s); err != nil {
		t.Fatalf("%v\n%s", err, log)
	}
	out, _ := run(t, e, s, sandbox.Job, "grep ' /var/lib/postgresql/data ' /proc/mounts; touch /var/lib/postgresql/data/x && echo writable")
	if !strings.HasPrefix(out, "tmpfs ") || !strings.Contains(out, "nosuid") || !strings.Contains(out, "size=1048576k") || !strings.HasSuffix(out, "writable\n") {
		t.Errorf("%q", out)
	}
}

// TestHalfMadeRoom: after a Make that was killed the wipe waits for what the
// engine still makes.
func TestHalfMadeRoom(t *testing.T) {
	e := testEngine(t, nil)
	s := testSpec(sandbox.Hardened, "cleanroom/busybox")
	if err := e.ownState(); err != nil {
		t.Fatal(err)
	}
	if _, err := e.begin(s.Name); err != nil { // and no end
		t.Fatal(err)
	}
	late := testEngine(t, nil) // the same engine, unwatched
	looks := watch(t, e, func(n int) {
		if n == 1 { // what was asked for before the wipe is made after it has looked
			if err := late.volume(context.Background(), buildsVolume(s.Name), labels(s, "builds"), ""); err != nil {
				t.Error(err)
			}
		}
	})
	wiped(t, e, s.Name)
	if rest, err := e.find(t.Context(), s.Name); err != nil || len(rest.items()) > 0 {
		t.Errorf("%v, %v", rest.items(), err)
	}
	before := looks.Load()
	wiped(t, e, s.Name)
	if n := looks.Load() - before; n != 2 { // the wipe's, that finds nothing and waits for nothing, and the test's own
		t.Errorf("%d looks: the mark of a room that is wiped stays", n)
	}
}

// watch calls back after each of e's looks for volumes, before e hears what
// was seen, and counts them.
func watch(t *testing.T, e *Engine, looked func(n int)) *atomic.Int64 {
	t.Helper()
	w := &watched{RoundTripper: e.api.HTTPClient().Transport, looked: looked}
	api, err := client.NewClientWithOpts(client.WithHost(e.api.DaemonHost()), client.WithAPIVersionNegotiation(), client.WithHTTPClient(&http.Client{Transport: w}))
	if err != nil {
		t.Fatal(err)
	}
	e.api = api
	return &w.looks
}

type watched struct {
	http.RoundTripper
	looks  atomic.Int64
	looked func(n int)
}

func (w *watched) RoundTrip(r *http.Request) (*http.Response, error) {
	answer, err := w.RoundTripper.RoundTrip(r)
	if r.Method == http.MethodGet && strings.HasSuffix(r.URL.Path, "/volumes") {
		w.looked(int(w.looks.Add(1)))
	}
	return answer, err
}
