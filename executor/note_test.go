package executor

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"cleanroom/sandbox"
)

func TestRunningStage(t *testing.T) {
	j, _ := withSecrets(t)
	var during string
	var began time.Time
	j.engine.during = func(sandbox.Stage) { during, began = RunningStage(j.config.StateDir, testRoom) }
	is := func(when, want string) {
		t.Helper()
		if got, _ := RunningStage(j.config.StateDir, testRoom); got != want {
			t.Errorf("%s: %q, want %q", when, got, want)
		}
	}
	is("before all", "")
	j.spec()
	is("after prepare", "")
	for _, stage := range []string{"prepare_script", "step_a_very_long_name_of_the_authors", "s"} { // shorter ones leave nothing of longer ones
		if err := j.run(t.Context(), stage, 0); err != nil || during != stage || time.Since(began) > time.Minute {
			t.Errorf("%q since %s, %v", during, began, err)
		}
		is("between stages", "")
	}
	n := openNote(j.config.StateDir, testRoom, false)
	n.begins("cleanup")
	is("while it is locked", "cleanup")
	if openNote(j.config.StateDir, testRoom, false) != nil {
		t.Error("two have the note")
	}
	n.close() // as a process that was killed
	is("after a kill", "")
	j.cleanup()
	is("after all", "")
	if err := j.run(t.Context(), "build_script", 0); err == nil {
		t.Error("a stage without its room")
	}
	if _, err := os.Stat(notePath(j.config.StateDir, testRoom)); err == nil {
		t.Error("a stage after cleanup leaves a note")
	}
}

// A driver that is killed leaves its words, and they are not believed.
func TestKilledDriver(t *testing.T) {
	if dir := os.Getenv("TEST_NOTE_STATE"); dir != "" {
		openNote(dir, testRoom, true).begins("build_script")
		select {} // until the kill
	}
	dir := t.TempDir()
	c := exec.Command(os.Args[0], "-test.run", "^TestKilledDriver$")
	c.Env = append(os.Environ(), "TEST_NOTE_STATE="+dir)
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	running := func() string { stage, _ := RunningStage(dir, testRoom); return stage }
	for end := time.Now().Add(20 * time.Second); running() == "" && time.Now().Before(end); time.Sleep(time.Millisecond) {
	}
	if got := running(); got != "build_script" {
		t.Errorf("while it runs: %q", got)
	}
	_ = c.Process.Kill()
	_ = c.Wait()
	if got := running(); got != "" {
		t.Errorf("after the kill: %q", got)
	}
	if n, _, ok := peekNote(dir, testRoom); !ok || n.Stage != "build_script" || n.result() != "system" {
		t.Errorf("%+v, %v", n, ok)
	}
}

// What somebody else laid there is not used.
func TestForeignNotes(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(notesDir(dir), 0o700); err != nil {
		t.Fatal(err)
	}
	victim := filepath.Join(dir, "victim")
	if err := os.WriteFile(victim, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(victim, notePath(dir, testRoom)); err != nil {
		t.Fatal(err)
	}
	n := openNote(dir, testRoom, true)
	n.begins("prepare")
	n.ends("ok")
	if text, err := os.ReadFile(victim); n != nil || err != nil || string(text) != "mine" {
		t.Errorf("%v, %q, %v", n, text, err)
	}
	if err := os.Remove(notePath(dir, testRoom)); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"", "{", `"x"`, "null", `{"stage":"` + string(make([]byte, 2*maxNote)) + `"}`} {
		if err := os.WriteFile(notePath(dir, testRoom), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		n := openNote(dir, testRoom, false)
		if n == nil || n.note != (note{}) {
			t.Fatalf("%.20q: %+v", text, n)
		}
		n.close()
	}
	if err := os.Chmod(notesDir(dir), 0o777); err != nil {
		t.Fatal(err)
	}
	if openNote(dir, testRoom, true) != nil {
		t.Error("a folder that anyone may write to is used")
	}
}
