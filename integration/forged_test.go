package integration

import (
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"cleanroom/integration/gitlab/job"
	"cleanroom/integration/rig"
)

// forged is something on the engine that says it is of a room.
type forged struct {
	kind, name, room, deadline string
	more                       []string
}

func (f forged) make(t *testing.T) {
	t.Helper()
	args := []string{f.kind, "create", "--label", "cleanroom.room=" + f.room, "--label", "cleanroom.job=1", "--label", "cleanroom.role=job"}
	if f.deadline != "none" {
		args = append(args, "--label", "cleanroom.deadline="+f.deadline)
	}
	for _, l := range f.more {
		args = append(args, "--label", l)
	}
	last := []string{f.name}
	if f.kind == "container" {
		args, last = append(args, "--network", "none", "--name", f.name), []string{"cleanroom/busybox"}
	}
	command(t, "docker", append(args, last...)...)
	t.Cleanup(func() { _ = exec.Command("docker", f.kind, "rm", f.name).Run() }) // what is still there
}

func (f forged) there() bool { return exec.Command("docker", f.kind, "inspect", f.name).Run() == nil }

// TestForgedLabels: whoever can make containers on the engine can put our labels
// on them, and names that are like ours. No room that lives ends by that, and
// nobody is led elsewhere.
func TestForgedLabels(t *testing.T) {
	s := installFaulty(t, rig.RunnerOptions{Config: faultConfig})
	p, g := newTrap(s), newGate(t)
	p.set("run.begun=stop:1ms")
	id := s.submit(p.job(g))
	_, env := s.environOf("run", p.file)
	room := valueOf(env, "CLEANROOM_ROOM")
	s.arrives(g)
	other := func(n int) string { return fmt.Sprintf("cr-forged-%d-0123456789", n) }
	kept := []forged{ // they are nobody's rooms, or living ones
		{kind: "container", name: "forged-a", room: room, deadline: "1"},
		{kind: "volume", name: "forged-b", room: room, deadline: "1"},
		{kind: "network", name: "forged-c", room: room, deadline: "1"},
		{kind: "container", name: "forged-d", room: "../../tmp", deadline: "1"},
		{kind: "container", name: "cr-..-1-0-job", room: "cr-..", deadline: "1"},
		{kind: "volume", name: "forged-e", room: "", deadline: "1"},
		{kind: "volume", name: "forged-f-x", room: "forged-f", deadline: "1"}, // no name of ours
		{kind: "volume", name: "forged-g", room: strings.Repeat("cr-x", 5000), deadline: "1"},
		{kind: "volume", name: other(1) + "-builds", room: other(1), deadline: "none"},
		{kind: "volume", name: other(2) + "-builds", room: other(2), deadline: ""},
		{kind: "volume", name: other(3) + "-builds", room: other(3), deadline: "-1"},
		{kind: "volume", name: other(4) + "-builds", room: other(4), deadline: "9223372036854775807"},
		{kind: "volume", name: other(5) + "-builds", room: other(5), deadline: strings.Repeat("9", 5000)},
		{kind: "volume", name: other(6) + "-builds", room: other(6), deadline: "4000000000"}, // another runner's that lives
		{kind: "container", name: other(6) + "-job", room: other(6), deadline: "1"},
	}
	over := []forged{ // by all that they say
		{kind: "container", name: other(7) + "-job", room: other(7), deadline: "1"},
		{kind: "network", name: other(8), room: other(8), deadline: "1", more: []string{"cleanroom.clock=../..:x"}},
	}
	ours := []forged{ // by name and label; they go with the room, and not before
		{kind: "container", name: room + "-evil", room: room, deadline: "1", more: []string{"cleanroom.clock=../../..:1", "cleanroom.files=/etc"}},
		{kind: "volume", name: room + "-evil", room: room, deadline: "99999999999999"},
	}
	for _, f := range slices.Concat(kept, over, ours) {
		f.make(t)
	}
	said := reapAs(t, s, stranger(t, s)) + reapAs(t, s, s.runner.CleanroomConfig())
	for n := 1; n <= 8; n++ {
		want := map[bool]string{true: ": left alone, its labels tell no deadline", false: ": removed 1 things\n"}[n < 6]
		if strings.Contains(said, other(n)+want) == (n == 6) {
			t.Errorf("of %s it says:\n%s", other(n), said)
		}
	}
	for _, f := range slices.Concat(kept, ours) {
		if !f.there() {
			t.Errorf("reap removed %s %.100s of %.100s", f.kind, f.name, f.room)
		}
	}
	for _, f := range over {
		if f.there() {
			t.Errorf("reap left %s %s", f.kind, f.name)
		}
	}
	for _, name := range []string{"../../tmp", "cr-..", "forged-f", room + "-evil", ""} {
		if out, err := s.tryCleanroom("room", "wipe", name); err == nil {
			t.Errorf("room wipe %q: %s", name, out)
		}
	}
	g.open()
	s.wait(id).is(t, job.Success, "", 0)
	s.driverEnds(id)
	s.nothingLeft(id, true)
	for _, f := range kept {
		if !f.there() {
			t.Errorf("cleanup removed %s %.100s of %.100s", f.kind, f.name, f.room)
		}
	}
	evidence := fmt.Sprint(s.endings(id))
	for _, f := range ours {
		if f.there() || !strings.Contains(evidence, "{"+f.kind+" "+f.name) {
			t.Errorf("%s %s is there: %t; the evidence is %s", f.kind, f.name, f.there(), evidence)
		}
	}
}
