package hunt

import (
	"context"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"
)

// began is before any file of a test was made. A clock that files go by lags
// behind the other by a tick.
var began = time.Now().Add(-time.Minute)

func itoa(n int) string { return strconv.Itoa(n) }

// What is there for a moment only: a container that ran and was removed, an
// exec's arguments, and its environment, which the shim writes to a file that
// lives for milliseconds.
func TestRecord(t *testing.T) {
	ctx := t.Context()
	canaries := map[string]string{"env": fresh(), "label": fresh(), "argv": fresh(), "exec": fresh()}
	r, err := Record(ctx, At(LocalSocket), os.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	id, remove := container(t, "exec sleep 300", "--env", "A="+canaries["env"], "--label", "a="+canaries["label"])
	docker(t, nil, "exec", id, "true", canaries["argv"])
	// On a loaded machine the file may be gone once, but not each time.
	waitFor(t, "an exec's specification", func() bool {
		docker(t, nil, "exec", "--env", "A="+canaries["exec"], id, "true")
		return r.keeps("/runc-process", canaries["exec"])
	})
	waitFor(t, "inspect of the container", func() bool { return r.keeps("/containers/"+id, canaries["env"]) })
	waitFor(t, "inspect of the exec", func() bool { return r.keeps("/exec/", canaries["argv"]) })
	remove()
	waitFor(t, "the container's end", func() bool { return r.keeps("container destroy", id) })
	if err := r.Stop(); err != nil {
		t.Fatal(err)
	}
	h := New(canaries)
	if err := h.Recorded(ctx, r); err != nil {
		t.Fatal(err)
	}
	expect(t, h.Report(), map[string][]string{
		"env":   {"the engine's /containers/" + id + "/json"},
		"label": {"(container create)"},
		"argv":  {"(container exec_create)", "the engine's /exec/"},
		"exec":  {os.TempDir() + "/runc-process"},
	})
	if n := r.Events(); n < 6 || h.Report().Documents < n {
		t.Errorf("%d events, %v", n, h.Report())
	}
}

func (r *Recorder) keeps(where, content string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, d := range r.kept {
		if strings.Contains(d.name, where) && strings.Contains(d.content, content) {
			return true
		}
	}
	return false
}

// A file's content is kept however it gets its name and whenever it loses it.
func TestWatch(t *testing.T) {
	dir, aside := t.TempDir(), t.TempDir()
	canaries := map[string]string{"closed": fresh(), "renamed": fresh(), "open": fresh(), "again": fresh(), "name": fresh()}
	r := &Recorder{stop: func() {}, known: map[[32]byte]bool{}, missed: map[string]string{}}
	var err error
	if r.watch, err = newWatch([]string{dir}, r); err != nil {
		t.Fatal(err)
	}
	write(t, dir+"/closed", canaries["closed"])
	write(t, dir+"/again", "nothing")
	write(t, dir+"/again", canaries["again"])
	write(t, aside+"/renamed", canaries["renamed"])
	if err := os.Rename(aside+"/renamed", dir+"/renamed"); err != nil {
		t.Fatal(err)
	}
	os.Symlink(dir+"/closed", dir+"/link")
	os.Mkdir(dir+"/folder", 0o700)
	write(t, dir+"/name-"+canaries["name"], "x")
	f, err := os.Create(dir + "/open")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	f.WriteString(canaries["open"])
	write(t, dir+"/last", "the last")
	waitFor(t, "the last file", func() bool { return r.keeps("/last", "the last") })
	if err := r.Stop(); err != nil {
		t.Fatal(err)
	}
	h := New(canaries)
	if err := h.Recorded(context.Background(), r); err != nil {
		t.Fatal(err)
	}
	for name := range canaries {
		expect(t, h.Report(), map[string][]string{name: {dir + "/" + name}})
	}
}

// The whole machine, in the time that a test has for it.
func TestMachine(t *testing.T) {
	processes, paths := exceptions()
	value, reason := fresh(), "toolchains and caches of builds, which no job touches"
	for _, path := range []string{"/root/go", "/root/.cache", "/root/.rustup", "/root/.pyenv", "/root/.cargo"} {
		paths = append(paths, Except{path, reason})
	}
	if cache := os.Getenv("TEST_CACHE"); cache != "" {
		paths = append(paths, Except{cache, reason})
	}
	h, start := New(map[string]string{"token": value}), time.Now()
	planted := write(t, t.TempDir()+"/a", "x"+value)
	for range 3 { // beside the engine a quiet machine may run nothing that is not the hunter's
		child(t, exec.Command("sh", "-c", wait), "\n")
	}
	if err := h.Machine(t.Context(), At(LocalSocket), FileScope{Except: paths}, ProcessScope{Except: processes}); err != nil {
		t.Fatal(err)
	}
	r := h.Report()
	if len(r.Finds) != 1 || r.Finds[0].Where != planted {
		t.Errorf("found %v, want %s", r.Finds, planted)
	}
	if r.Files < 1000 || r.Processes < 3 || r.Documents < 10 || r.Bytes < 100<<20 {
		t.Errorf("next to nothing was searched: %v", r)
	}
	t.Logf("%v\nin %v", r, time.Since(start).Round(time.Millisecond))
}
