package hunt

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// exceptions are what $HUNT_EXCEPT names: processes, and paths with a slash in
// front, that are of no concern to the machine this is tested on.
func exceptions() (processes, paths []Except) {
	for _, name := range strings.FieldsFunc(os.Getenv("HUNT_EXCEPT"), func(r rune) bool { return r == ',' }) {
		if e := (Except{name, "HUNT_EXCEPT says so"}); strings.HasPrefix(name, "/") {
			paths = append(paths, e)
		} else {
			processes = append(processes, e)
		}
	}
	return processes, paths
}

// child starts a program that says a line when it has what it was given, and
// lives until the test ends.
func child(t *testing.T, c *exec.Cmd, input string) int {
	t.Helper()
	in, err := c.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { in.Close(); c.Wait() })
	io.WriteString(in, input)
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatalf("the child says %q: %v", line, err)
	}
	return c.Process.Pid
}

const wait = "read a; echo ready; read b"

func TestProcesses(t *testing.T) {
	processes, _ := exceptions()
	environ, argv, open := fresh(), fresh(), fresh()
	canaries := map[string]string{"environ": environ, "argv": argv, "open": open}
	deleted, err := os.Create(t.TempDir() + "/a")
	if err != nil {
		t.Fatal(err)
	}
	defer deleted.Close()
	deleted.WriteString(open)
	os.Remove(deleted.Name())
	want := map[string]string{}
	t.Run("while they live", func(t *testing.T) {
		c := exec.Command("sh", "-c", wait)
		c.Env = []string{"A=" + environ}
		want["environ"] = fmt.Sprintf("/proc/%d/environ (sh)", child(t, c, "\n"))
		c = exec.Command("sh", "-c", wait, argv)
		want["argv"] = fmt.Sprintf("/proc/%d/cmdline (sh)", child(t, c, "\n"))
		c = exec.Command("sh", "-c", wait)
		c.ExtraFiles = []*os.File{deleted}
		want["open"] = fmt.Sprintf("/proc/%d/fd/3 (sh: %s (deleted))", child(t, c, "\n"), deleted.Name())
		h := New(canaries)
		if err := h.Processes(t.Context(), ProcessScope{Except: processes}); err != nil {
			t.Fatal(err)
		}
		r := h.Report()
		for name, where := range want {
			if found := r.In(name, ""); len(found) != 1 || found[0].Where != where || found[0].Form != Plain {
				t.Errorf("%s: found %v, want %s", name, found, where)
			}
		}
		if r.Processes < 3 || !slices.ContainsFunc(r.Skips, func(s Skip) bool { return s.Reason == "the hunter or what started it" && s.Count >= 2 }) {
			t.Errorf("report: %v", r)
		}
		left := New(canaries)
		if err := left.Processes(t.Context(), ProcessScope{Except: append(processes, Except{"sh", "the test's own"})}); err != nil {
			t.Fatal(err)
		}
		if r := left.Report(); len(r.Finds) > 0 {
			t.Errorf("although they are left out: %v", r)
		}
	})
	h := New(canaries)
	if err := h.Processes(t.Context(), ProcessScope{Except: processes}); err != nil {
		t.Fatal(err)
	}
	if r := h.Report(); len(r.Finds) > 0 {
		t.Errorf("after they ended: %v", r)
	}
}

func TestMemory(t *testing.T) {
	value := fresh()
	with := child(t, exec.Command("sh", "-c", wait), value+"\n")
	without := child(t, exec.Command("sh", "-c", wait), "nothing\n")
	h := New(map[string]string{"token": value})
	if err := h.Memory(t.Context(), with, without, os.Getpid()); err != nil {
		t.Fatal(err)
	}
	r := h.Report()
	if found := r.In("token", fmt.Sprintf("/proc/%d/mem (sh)", with)); len(found) != 1 || found[0].Offset <= 0 || len(r.Finds) != 1 {
		t.Errorf("found %v", r)
	}
	if r.Processes != 2 || r.Bytes < 1<<20 {
		t.Errorf("searched %v", r)
	}
}

func TestEnded(t *testing.T) {
	c := exec.Command("true")
	if err := c.Run(); err != nil {
		t.Fatal(err)
	}
	h := New(map[string]string{"token": fresh()})
	for name, err := range map[string]error{"Memory": h.Memory(t.Context(), c.Process.Pid), "Inside": h.Inside(t.Context(), c.Process.Pid)} {
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if r := h.Report(); len(r.Skips) != 1 || r.Skips[0].Count != 2 {
		t.Errorf("got %v", r)
	}
	if err := h.Processes(t.Context(), ProcessScope{Rooms: []int{c.Process.Pid}}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a room that ended: got %v", err)
	}
}

func TestParse(t *testing.T) {
	areas := parseSwaps("Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n/dev/sda2   partition\t1\t8\t-2\n/a\\040file  file\t1\t4\t-3\n/idle file 1 0 -4\n")
	if !slices.Equal(areas, []string{"/dev/sda2", "/a file"}) {
		t.Errorf("swaps: %q", areas)
	}
	for pattern, want := range map[string]string{
		"|/usr/lib/systemd/systemd-coredump %P": "[/var/lib/systemd/coredump /var/crash] ",
		"/cores/core.%e.%p":                     "[/cores] core.",
		"/cores/%u/core":                        "[/cores] ",
		"/var/tmp/core":                         "[/var/tmp] core",
	} {
		folders, prefix := cores(pattern)
		if got := fmt.Sprintf("%v %s", folders, prefix); got != want {
			t.Errorf("%s: got %q, want %q", pattern, got, want)
		}
	}
	folders, prefix := cores("core.%p")
	if cwd, _ := os.Getwd(); prefix != "core." || !slices.Contains(folders, cwd) {
		t.Errorf("core.%%p: got %q in %v", prefix, folders)
	}
}

func TestDumps(t *testing.T) {
	pattern, err := os.ReadFile("/proc/sys/kernel/core_pattern")
	if err != nil {
		t.Fatal(err)
	}
	folders, prefix := cores(strings.TrimSpace(string(pattern)))
	dir, value := folders[0], fresh()
	if !strings.HasPrefix(string(pattern), "|") && !strings.HasPrefix(string(pattern), "/") {
		dir = t.TempDir()
		c := exec.Command("sh", "-c", wait)
		c.Dir = dir
		child(t, c, "\n")
	}
	path := write(t, dir+"/"+prefix+".of-a-test", "x"+value)
	defer os.Remove(path)
	h := New(map[string]string{"token": value})
	if err := h.Dumps(t.Context()); err != nil {
		t.Fatal(err)
	}
	if r := h.Report(); len(r.Finds) != 1 || r.Finds[0].Where != path+" (core)" {
		t.Errorf("got %v", r)
	}
}

func FuzzProc(f *testing.F) {
	f.Add("22 26 0:20 / /a\\040b rw,relatime shared:7 - tmpfs tmpfs rw\n")
	f.Add("7ffd1000-7ffd2000 r--p 00000000 00:00 0 [vvar]\n")
	f.Add("Filename Type Size Used Priority\n/a\\040b file 1 2 3\n")
	f.Fuzz(func(t *testing.T, text string) {
		if all, err := parseMounts(strings.NewReader(text)); err == nil {
			for _, m := range all {
				m.leave()
			}
		}
		if all, err := parseMaps(strings.NewReader(text)); err == nil {
			for _, r := range all {
				if r.from < 0 || r.to < r.from {
					t.Errorf("region %+v", r)
				}
			}
		}
		parseSwaps(text)
		events([]byte(text), func(_ int32, _ uint32, name string) {
			if len(name) > len(text) {
				t.Error("a name from nowhere")
			}
		})
	})
}
