package pool

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A crowd of processes works on one pool: they fill it, claim rooms, throw them
// away and clean up after each other, and are killed while they do. A room here
// is a folder; that one was used, or thrown away, is a file in it, which only one
// process can make. On a real engine sandbox/docker has the same.

const (
	crowdKey  = "000102030405060708090a0b0c0d0e0f"
	crowdRole = "CLEANROOM_POOL_CROWD"
)

func TestMain(m *testing.M) {
	if role, dir, ok := strings.Cut(os.Getenv(crowdRole), ":"); ok {
		err := crowd{dir}.live(role)
		if err != nil {
			fmt.Fprintln(os.Stderr, role, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

type crowd struct{ dir string }

func (c crowd) pool() Pool              { return Of(c.dir) }
func (c crowd) room(room string) string { return filepath.Join(c.dir, "engine", room) }
func (c crowd) say(format string, a ...any) error {
	f, err := os.OpenFile(filepath.Join(c.dir, "said"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = fmt.Fprintf(f, format+"\n", a...)
	return err
}

// wipe is anybody's, and can be done again.
func (c crowd) wipe(room string) error {
	if err := os.RemoveAll(c.room(room)); err != nil {
		return err
	}
	return c.pool().Forget(room)
}

func (c crowd) live(role string) error {
	for end := time.Now().Add(4 * time.Second); time.Now().Before(end); {
		if err := c.act(role); err != nil {
			return err
		}
		time.Sleep(time.Duration(rand.IntN(2000)) * time.Microsecond)
	}
	return nil
}

func (c crowd) act(role string) error {
	p := c.pool()
	switch role {
	case "fill":
		f, err := p.Fill(crowdKey, Kind{Image: "x"}, time.Now().Add(time.Hour))
		if err != nil {
			return err
		}
		if err := os.MkdirAll(c.room(f.Room), 0o700); err != nil {
			return err
		}
		if rand.IntN(10) == 0 {
			if err := f.Fail(); err != nil {
				return err
			}
			return c.wipe(f.Room)
		}
		if ok, err := f.Done("print"); ok || err != nil {
			return err
		}
		return c.wipe(f.Room)
	case "claim":
		mine := ClaimFor(int64(os.Getpid()), "")
		ok, err := p.Claim(crowdKey, time.Now().Add(-time.Hour), time.Now(), mine)
		if !ok || err != nil {
			return err
		}
		h, err := p.Hold(mine.Room, time.Second)
		if err != nil || h == nil {
			return fmt.Errorf("%s was claimed and cannot be held: %v", mine.Room, err)
		}
		defer h.Release()
		if h.Claimant.PID != os.Getpid() || h.Entry.Room != mine.Room || h.Print != "print" {
			return c.say("WRONG %s: %+v", mine.Room, h)
		}
		f, err := os.OpenFile(filepath.Join(c.room(mine.Room), "used"), os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil { // used before, or wiped under our hands
			return c.say("TWICE %s: %v", mine.Room, err)
		}
		f.Close()
		if err := c.say("used %s", mine.Room); err != nil {
			return err
		}
		return c.wipe(mine.Room)
	case "expire":
		all, err := p.Ready()
		if err != nil || len(all) == 0 {
			return err
		}
		e := all[rand.IntN(len(all))]
		ok, err := p.Expire(e)
		if !ok || err != nil {
			return err
		}
		if _, err := os.Stat(filepath.Join(c.room(e.Room), "used")); err == nil {
			return c.say("TWICE %s was used, and waited", e.Room)
		}
		return c.wipe(e.Room)
	case "withdraw":
		rooms, err := os.ReadDir(filepath.Join(c.dir, "engine"))
		if err != nil || len(rooms) == 0 {
			return err
		}
		time.Sleep(10 * time.Millisecond)
		return p.Withdraw(rooms[rand.IntN(len(rooms))].Name())
	case "reap":
		return c.reap(false)
	}
	return errors.New("no such role")
}

// reap ends what the dead left; all: those who claimed are all dead.
func (c crowd) reap(all bool) error {
	p := c.pool()
	rooms, err := os.ReadDir(filepath.Join(c.dir, "engine"))
	if err != nil {
		return err
	}
	for _, one := range rooms { // the engine first: books are kept longer than rooms
		known, err := p.Known(one.Name())
		if err != nil {
			return err
		}
		if _, gone := os.Stat(c.room(one.Name())); !known && gone == nil {
			if err := c.say("LOST %s", one.Name()); err != nil {
				return err
			}
		}
	}
	if err := p.Abandoned(); err != nil {
		return err
	}
	gone, err := p.Gone()
	if err != nil {
		return err
	}
	for _, room := range gone {
		if err := c.wipe(room); err != nil {
			return err
		}
	}
	taken, err := p.Taken()
	if err != nil {
		return err
	}
	for _, room := range taken {
		h, err := p.Hold(room, 0)
		if h == nil || err != nil {
			continue
		}
		dead := errors.Is(syscall.Kill(h.Claimant.PID, 0), syscall.ESRCH)
		if all || dead {
			err = c.wipe(room)
		}
		h.Release()
		if err != nil {
			return err
		}
	}
	return p.Tidy()
}

func TestCrowd(t *testing.T) {
	c := crowd{t.TempDir()}
	if err := os.Mkdir(filepath.Join(c.dir, "engine"), 0o700); err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	start := func(role string) *exec.Cmd {
		cmd := exec.Command(self)
		cmd.Env = append(os.Environ(), crowdRole+"="+role+":"+c.dir)
		cmd.Stderr = os.Stderr
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		return cmd
	}
	var all []*exec.Cmd
	for role, n := range map[string]int{"claim": 50, "fill": 4, "expire": 3, "withdraw": 1, "reap": 3} {
		for range n {
			all = append(all, start(role))
		}
	}
	killed := map[*exec.Cmd]bool{}
	for range 60 {
		time.Sleep(30 * time.Millisecond)
		victim := all[rand.IntN(len(all))]
		if !killed[victim] && victim.Process.Kill() == nil {
			killed[victim] = true
			all = append(all, start([]string{"claim", "fill", "expire", "reap"}[rand.IntN(4)]))
		}
	}
	for _, cmd := range all {
		if err := cmd.Wait(); err != nil && !killed[cmd] {
			t.Error(err)
		}
	}
	ready, err := c.pool().Ready()
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range ready {
		if ok, err := c.pool().Expire(e); !ok || err != nil {
			t.Error(e.Room, ok, err)
		}
	}
	if err := c.reap(true); err != nil {
		t.Fatal(err)
	}
	said, err := os.ReadFile(filepath.Join(c.dir, "said"))
	if err != nil {
		t.Fatal(err)
	}
	used := map[string]int{}
	for line := range strings.Lines(string(said)) {
		word, room, _ := strings.Cut(strings.TrimSpace(line), " ")
		if word != "used" {
			t.Error(line)
		}
		used[room]++
	}
	for room, n := range used {
		if n > 1 {
			t.Errorf("%s was used %d times", room, n)
		}
	}
	if len(used) < 20 {
		t.Errorf("only %d rooms were used", len(used))
	}
	t.Logf("%d rooms were used once, %d processes killed", len(used), len(killed))
	for _, folder := range []string{"engine", "pool/making", "pool/ready", "pool/taken", "pool/claims", "pool/gone"} {
		left, err := os.ReadDir(filepath.Join(c.dir, folder))
		if err != nil || len(left) > 0 {
			t.Errorf("%s: %d left, first %v: %v", folder, len(left), first(left), err)
		}
	}
}

func first(all []fs.DirEntry) string {
	if len(all) == 0 {
		return ""
	}
	return all[0].Name()
}
