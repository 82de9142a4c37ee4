package store

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"cleanroom/executor/secret"
)

func containsAny(text string, words ...string) bool {
	return slices.ContainsFunc(words, func(w string) bool { return strings.Contains(text, w) })
}

func script(t *testing.T, text string) []string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "rotate")
	write(t, path, "#!/bin/sh\n"+text+"\n", 0o700)
	return []string{path}
}

func TestCommandOutput(t *testing.T) {
	t.Setenv("HUNTER", "not for the command")
	tests := map[string]struct {
		script string
		want   map[string]string
		words  string
	}{
		"text":             {"echo hunter2", map[string]string{"value": "hunter2"}, ""},
		"several lines":    {`printf 'a\nb\n'`, map[string]string{"value": "a\nb\n"}, ""},
		"fields":           {`echo ' {"username": "u", "password": "p"} '`, map[string]string{"username": "u", "password": "p"}, ""},
		"environment":      {"env | grep -v -e ^PWD= -e ^_= -e ^SHLVL= -e ^OLDPWD=", map[string]string{"value": commandPath}, ""},
		"working folder":   {"pwd", map[string]string{"value": "/"}, ""},
		"stdin is empty":   {`wc -c | tr -d ' '`, map[string]string{"value": "0"}, ""},
		"stderr apart":     {"echo hunter2 >&2; echo v", map[string]string{"value": "v"}, ""},
		"nothing":          {"true", nil, "printed no value"},
		"a number in JSON": {`echo '{"port": 1}'`, nil, "object of strings"},
		"broken JSON":      {`echo '{"a": "hunter2"'`, nil, "object of strings"},
		"fails":            {"echo hunter2; echo hunter2 >&2; exit 3", nil, "exit status 3"},
		"leaves a process": {"sleep 600 & echo v", nil, "left a process behind"},
		"too much":         {"yes hunter2 | head -c 3000000", nil, "more than"},
		"binary":           {`printf '\377'`, nil, "base64"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			g := &Generator{Kind: Command, Command: script(t, test.script), Timeout: patience}
			got, err := g.run(t.Context(), "db", nil)
			if test.want != nil {
				if err != nil || !reflect.DeepEqual(got.fields, test.want) {
					t.Errorf("got %q, %v; want %q", got.fields, err, test.want)
				}
				return
			}
			if !errors.Is(err, ErrCommand) || !strings.Contains(err.Error(), test.words) || strings.Contains(err.Error(), "hunter2") || strings.Contains(err.Error(), "\n") {
				t.Errorf("error %v, want %q", err, test.words)
			}
		})
	}
	g := &Generator{Kind: Command, Command: []string{"/nowhere/rotate"}, Timeout: patience}
	if _, err := g.run(t.Context(), "db", nil); !errors.Is(err, os.ErrNotExist) || !errors.Is(err, ErrCommand) {
		t.Errorf("missing program: %v", err)
	}
}

// It gets the value it is to replace, and its first failure changes nothing.
func TestCommandWithOldValue(t *testing.T) {
	s, c := in(t, t.TempDir())
	broken := filepath.Join(t.TempDir(), "broken")
	argv := script(t, "test ! -e "+broken+" || exit 1\nsed 's/.*\"value\":\"\\([a-z]*\\)\".*/\\1x/'")
	g := &Generator{Kind: Command, Command: argv, PassOld: true, Timeout: patience}
	change := rotating(t, g, "24h", time.Hour)
	change.Fields = map[string]string{"value": "first"}
	set(t, s, "db", change)
	for _, want := range []string{"first", "firstx", "firstxx"} {
		if got := fetch(t, s, request("db", "cr-a", nil)); got.Fields["value"] != want {
			t.Errorf("got %q, want %q", got.Fields["value"], want)
		}
		c.pass(24 * time.Hour)
	}
	write(t, broken, "", 0o600)
	if _, err := s.Fetch(t.Context(), request("db", "cr-a", nil)); !errors.Is(err, ErrCommand) || errors.Is(err, secret.ErrRefused) {
		t.Errorf("error %v", err)
	}
	os.Remove(broken)
	if got := fetch(t, s, request("db", "cr-a", nil)); got.Fields["value"] != "firstxxx" || got.Version != "4" {
		t.Errorf("after the failure: version %s", got.Version)
	}
}

// A command that hangs is ended with all that it started.
func TestCommandHangs(t *testing.T) {
	g := &Generator{Kind: Command, Command: script(t, "sleep 600"), Timeout: 50 * time.Millisecond}
	if _, err := g.run(t.Context(), "db", nil); !errors.Is(err, ErrCommand) || !strings.Contains(err.Error(), "did not end within 50ms") {
		t.Errorf("error %v", err)
	}
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := unix.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	// The grandchild keeps the pipe open as long as it lives.
	g = &Generator{Kind: Command, Command: script(t, "(echo here; sleep 600) > "+pipe+" &\nwait"), Timeout: patience}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error, 1)
	go func() { _, err := g.run(ctx, "db", nil); ended <- err }()
	f, err := os.Open(pipe)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := io.ReadFull(f, make([]byte, 5)); err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := <-ended; !errors.Is(err, ErrCommand) || !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	if text, err := io.ReadAll(f); err != nil || len(text) > 0 {
		t.Errorf("%q, %v", text, err)
	}
}

// Each job's value of a command is destroyed here; its source is another
// matter, and the lease says that it does not end by itself.
func TestCommandPerJob(t *testing.T) {
	s, _ := in(t, t.TempDir())
	set(t, s, "key", rotating(t, &Generator{Kind: Command, Command: script(t, "echo hunter2"), Timeout: patience}, "job", 0))
	var leases []secret.Lease
	fetch(t, s, request("key", "cr-a", &leases))
	if len(leases) != 1 || !leases[0].Expires.IsZero() {
		t.Errorf("leases %+v", leases)
	}
	if err := s.Revoke(t.Context(), leases[0]); !errors.Is(err, secret.ErrNotRevocable) {
		t.Errorf("revoked: %v", err)
	}
	if got := states(t, s, "key"); len(got) != 1 || got[0] != Destroyed {
		t.Errorf("states %v", got)
	}
}

func TestTrimLine(t *testing.T) {
	for text, want := range map[string]string{"a\n": "a", "a\r\n": "a", "a": "a", "a\n\n": "a\n\n", "a\nb\n": "a\nb\n", "\n": "", " a \n": " a ", "a\r": "a\r"} {
		if got := TrimLine(text); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}
