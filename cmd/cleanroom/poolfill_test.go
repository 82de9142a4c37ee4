package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// job is a whole job; whether it had a room that waited.
func (h *poolHost) job(image string) (pooled bool) {
	h.t.Helper()
	d, err := h.arrive("", image, "")
	if err != nil {
		h.t.Fatal(err)
	}
	if _, err := d.goes(); err != nil {
		h.t.Error(err)
	}
	if err := d.ends(); err != nil {
		h.t.Error(err)
	}
	return d.pooled()
}

// settled waits until nobody fills, and tells what waits.
func (h *poolHost) settled() string {
	h.t.Helper()
	h.must("pool", "fill")
	return h.must("pool", "list")
}

// TestPoolOfLongJobs: a room that ends before such a job might is no room for it,
// and does not take the place of one that is.
func TestPoolOfLongJobs(t *testing.T) {
	h := newPoolHost(t, "size = 1\n")
	h.must("pool", "fill")
	h.timeout = 3 * 3600
	if h.job(busybox) {
		t.Error("the room would end before the job might")
	}
	h.settled()
	if !h.job(busybox) {
		t.Error("no room was made that lasts as long as the job may")
	}
	h.settled()
}

// TestPoolIsTheAdminsFirst: whatever kinds jobs think of, what the admin wants
// to wait waits.
func TestPoolIsTheAdminsFirst(t *testing.T) {
	h := newPoolHost(t, "size = 1\nmax = 2\n")
	h.must("pool", "fill")
	for _, h.user = range []string{"1001", "1002", "1003"} {
		h.job(busybox)
		h.settled()
	}
	h.user = ""
	if !h.job(busybox) {
		t.Error("no room for a job of the admin's kind")
	}
	// A kind that no file could hold is none.
	h.user = strings.Repeat("0", 16096) + "1000"
	h.job(busybox)
	if list := h.settled(); strings.Contains(list, "00000000") {
		t.Error(list)
	}
	h.user = ""
	h.settled()
}

// TestPoolWithLittleMemory: one room is made, and measured.
func TestPoolWithLittleMemory(t *testing.T) {
	h := newPoolHost(t, "size = 2\nmemory = \"32m\"\n")
	h.must("pool", "fill")
	if list := h.must("pool", "list"); strings.Count(list, busybox) == 0 {
		t.Error(list)
	}
}

// TestPoolOfAnotherFolder: a reap that cannot see the journal of a job leaves its
// room alone.
func TestPoolOfAnotherFolder(t *testing.T) {
	h := newPoolHost(t, "size = 1\n")
	h.must("pool", "fill")
	d, err := h.arrive("", busybox, "")
	if err != nil || !d.pooled() {
		t.Fatal(d, err)
	}
	if _, err := d.goes(); err != nil {
		t.Fatal(err)
	}
	h.late()
	other := filepath.Join(t.TempDir(), "data")
	script := filepath.Join(filepath.Dir(h.data), "script")
	if err := errors.Join(os.Mkdir(other, 0o700), os.WriteFile(script, []byte("cat /builds/used\n"), 0o600)); err != nil {
		t.Fatal(err)
	}
	reap := exec.Command(h.bin, "reap")
	reap.Env = append(os.Environ(), "CLEANROOM_CONFIG="+h.config, "CLEANROOM_DATA_DIR="+other, "CLEANROOM_STATE_DIR="+h.state())
	if out, err := reap.CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
	if r := d.call("", "run", script, "build_script"); r.err != nil || strings.TrimSpace(r.out) != fmt.Sprint(d.id) {
		t.Errorf("%v: %q %s", r.err, r.out, r.words)
	}
	if err := d.ends(); err != nil {
		t.Error(err)
	}
}
