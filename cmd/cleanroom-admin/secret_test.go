package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// screen is what a terminal shows.
type screen struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(p)
}

func (s *screen) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

// pty gives both ends of a new terminal (pty(7)).
func pty(t *testing.T) (master, slave *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { master.Close() })
	if err := unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	slave, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { slave.Close() })
	return master, slave
}

// What is typed at the prompt is not shown, and the terminal echoes again
// afterwards.
func TestPromptIsSilent(t *testing.T) {
	t.Setenv("CLEANROOM_DATA_DIR", filepath.Join(t.TempDir(), "data"))
	t.Setenv("CLEANROOM_CONFIG", "")
	master, slave := pty(t)
	var shown screen
	go func() {
		b := make([]byte, 1024)
		for {
			n, err := master.Read(b)
			shown.Write(b[:n])
			if err != nil {
				return
			}
		}
	}()
	echo := func() bool {
		mode, err := unix.IoctlGetTermios(int(slave.Fd()), unix.TCGETS)
		if err != nil {
			t.Fatal(err)
		}
		return mode.Lflag&unix.ECHO != 0
	}
	done := make(chan error, 1)
	go func() {
		c := root("/usr/bin/cleanroom")
		c.SetArgs([]string{"secret", "set", "db"})
		c.SetIn(slave)
		c.SetOut(slave)
		c.SetErr(slave)
		done <- c.Execute()
	}()
	for _, prompt := range []string{"value of db (not shown): ", "again: "} {
		for !strings.Contains(shown.String(), prompt) || echo() {
			select {
			case err := <-done:
				t.Fatalf("ended at %q: %v", shown.String(), err)
			case <-time.After(time.Millisecond):
			}
		}
		if _, err := master.WriteString("hunter2\n"); err != nil {
			t.Fatal(err)
		}
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	for !strings.Contains(shown.String(), "version 1 is current") {
		time.Sleep(time.Millisecond)
	}
	if text := shown.String(); strings.Contains(text, "hunter2") || !echo() {
		t.Errorf("echo is %v, the screen shows %q", echo(), text)
	}
}
