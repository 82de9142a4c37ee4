package docker

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
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

// TestWipeLooksForRules: what the engine left of a network of the room.
func TestWipeLooksForRules(t *testing.T) {
	e := testEngine(t, nil)
	name := testSpec(sandbox.Hardened, "cleanroom/busybox").Name
	run := func(args ...string) {
		t.Helper()
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v: %s", args, err, out)
		}
	}
	rule := []string{"FORWARD", "-i", bridge(innerNetwork(name)), "-j", "RETURN"}
	other := []string{"FORWARD", "-i", bridge("another-room"), "-j", "RETURN"}
	run(append([]string{"iptables", "-A"}, rule...)...)
	run(append([]string{"iptables", "-A"}, other...)...)
	if err := e.ownState(); err != nil { // as Make begins
		t.Fatal(err)
	}
	if end, err := e.clear(t.Context(), name); err != nil || exec.Command("iptables", append([]string{"-C"}, rule...)...).Run() != nil {
		t.Errorf("before a room of a name that nobody has heard of, nobody looks: %v", err)
	} else {
		end()
	}
	if e.unheardOf(name) {
		t.Error("it was begun")
	}
	ev, err := e.Wipe(t.Context(), name)
	if err != nil || !slices.Contains(ev.Removed, sandbox.Item{Kind: "rule", Name: "filter " + strings.Join(rule, " ")}) {
		t.Errorf("%+v, %v", ev, err)
	}
	if exec.Command("iptables", append([]string{"-C"}, rule...)...).Run() == nil {
		t.Error("the rule is still there")
	}
	run(append([]string{"iptables", "-D"}, other...)...) // fails where it was removed, too

	end, err := e.begin(name) // and the driver was killed
	if err != nil {
		t.Fatal(err)
	}
	end()
	run(append([]string{"iptables", "-A"}, rule...)...)
	if _, err := e.clear(t.Context(), name); err != nil || exec.Command("iptables", append([]string{"-C"}, rule...)...).Run() == nil {
		t.Errorf("the rule of half a room is still there: %v", err)
	}

	link := bridge(outerNetwork(name))
	run("ip", "link", "add", link, "type", "bridge")
	ev, err = e.Wipe(t.Context(), name)
	if err != nil || !slices.Contains(ev.Removed, sandbox.Item{Kind: "interface", Name: link}) {
		t.Errorf("%+v, %v", ev, err)
	}
	wiped(t, e, name)
}
