package docker

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"cleanroom/sandbox"
)

// TestWipeLooksForMounts: what the engine has forgotten and the kernel has not.
func TestWipeLooksForMounts(t *testing.T) {
	e := testEngine(t, nil)
	name := testSpec(sandbox.Hardened, "cleanroom/busybox").Name
	dir := filepath.Join(t.TempDir(), name+"-builds")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("left", dir, "tmpfs", 0, "size=4k"); err != nil {
		t.Fatal(err)
	}
	ev, err := e.Wipe(t.Context(), name)
	if err == nil || len(ev.Left) != 1 || ev.Left[0].Kind != "mount" || ev.Left[0].Name != dir {
		t.Errorf("%+v, %v", ev, err)
	}
	if err := unix.Unmount(dir, 0); err != nil {
		t.Fatal(err)
	}
	wiped(t, e, name)
}
