package main

import (
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"cleanroom/executor/audit/record"
)

// sign is a program that holds a key: its argument is the file of the seed. It
// fails while there is a file of that name with .away at its end.
func sign() {
	text, err := io.ReadAll(os.Stdin)
	if err == nil {
		_, away := os.Stat(os.Args[1] + ".away")
		if away == nil {
			err = errors.New("the token is not there")
		}
	}
	seed, wrong := os.ReadFile(os.Args[1])
	if err = errors.Join(err, wrong); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Stdout.Write(ed25519.Sign(ed25519.NewKeyFromSeed(seed), text))
}

// faulty is a cleanroom that has fault points.
var faulty = sync.OnceValues(func() (string, error) {
	dir := filepath.Join(programs, "faulty")
	if err := build(dir, version, []string{"-tags", "faults"}, "cleanroom", "cleanroom-admin"); err != nil {
		return "", fmt.Errorf("with fault points: %w", err)
	}
	return filepath.Join(dir, "cleanroom"), nil
})

// host has a folder of data and a configuration.
type host struct {
	t         *testing.T
	bin, data string
	config    string // file
}

func newHost(t *testing.T, config string) *host {
	t.Helper()
	bin, err := faulty()
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("/dev/shm", "cleanroom-cli-test-") // no disk is waited for
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	h := &host{t, bin, filepath.Join(dir, "data"), filepath.Join(dir, "config.toml")}
	if err := os.Mkdir(h.data, 0o700); err != nil {
		t.Fatal(err)
	}
	h.configure(config)
	return h
}

func (h *host) configure(text string) {
	h.t.Helper()
	if err := os.WriteFile(h.config, []byte("[log]\nformat = \"text\"\n"+text), 0o600); err != nil {
		h.t.Fatal(err)
	}
}

// token makes a key behind a command: what the configuration says of it, what
// rotate-key is told of it, and the file without which it signs.
func (h *host) token(name string) (config string, old []string, away string) {
	h.t.Helper()
	program, err := exec.LookPath("sign")
	if err != nil {
		h.t.Fatal(err)
	}
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		h.t.Fatal(err)
	}
	seed := filepath.Join(filepath.Dir(h.config), name)
	if err := os.WriteFile(seed, private.Seed(), 0o600); err != nil {
		h.t.Fatal(err)
	}
	text := base64.StdEncoding.EncodeToString(public)
	return fmt.Sprintf("[audit]\nsign_command = [%q, %q]\npublic_key = %q\n", program, seed, text),
		[]string{"--old-command", program, "--old-command", seed, "--old-public-key", text}, seed + ".away"
}

// called is what a command said.
type called struct {
	out, words string
	err        error
}

func (c called) killed() bool {
	var exit *exec.ExitError
	return errors.As(c.err, &exit) && exit.Sys().(syscall.WaitStatus).Signal() == syscall.SIGKILL
}

// call runs a command, with a value at its standard input, and with a fault.
func (h *host) call(fault string, args ...string) called {
	h.t.Helper()
	c := exec.Command(h.bin, args...)
	c.Env = append(os.Environ(), "FAULTS_AT="+fault, "CLEANROOM_CONFIG="+h.config, "CLEANROOM_DATA_DIR="+h.data, "CLEANROOM_STATE_DIR="+filepath.Join(filepath.Dir(h.data), "state"))
	c.Stdin = strings.NewReader("a value\n")
	var out, words strings.Builder
	c.Stdout, c.Stderr = &out, &words
	err := c.Run()
	return called{out.String(), words.String(), err}
}

// must is a call that has to succeed; its output.
func (h *host) must(args ...string) string {
	h.t.Helper()
	c := h.call("", args...)
	if c.err != nil {
		h.t.Fatalf("%q: %v: %s", args, c.err, c.words)
	}
	return c.out
}

// kill has a command be killed at a point.
func (h *host) kill(point string, args ...string) called {
	h.t.Helper()
	c := h.call(point+"=kill", args...)
	if !c.killed() {
		h.t.Fatalf("%q was not killed at %s: %v: %s", args, point, c.err, c.words)
	}
	return c
}

// records are those of the log, which must be genuine by its first key.
func (h *host) records(key string) (all []record.Record) {
	h.t.Helper()
	if out := h.must("audit", "verify", "--key", strings.TrimSpace(key)); !strings.Contains(out, "is genuine") || strings.Contains(out, "covers") {
		h.t.Error(out)
	}
	for line := range strings.Lines(h.must("audit", "list", "--json")) {
		var one struct{ Record json.RawMessage }
		var r record.Record
		if err := json.Unmarshal([]byte(line), &one); err != nil {
			h.t.Fatal(err)
		}
		if err := json.Unmarshal(one.Record, &r); err != nil {
			h.t.Fatal(err)
		}
		all = append(all, r)
	}
	return all
}

// story is the records in short.
func story(all []record.Record) string {
	var words []string
	for _, r := range all {
		short := string(r.Kind)
		switch {
		case r.Secret != nil:
			short = r.Secret.Action + " " + r.Secret.Name
		case r.Cache != nil:
			short = fmt.Sprint("wipe ", len(r.Cache.Caches))
		}
		if strings.Contains(r.By.Command, "(") {
			short += "?"
		}
		words = append(words, short)
	}
	return strings.Join(words, ", ")
}

// privates are the files that hold a private key.
func (h *host) privates() (names []string) {
	h.t.Helper()
	found, err := filepath.Glob(filepath.Join(h.data, "audit", "*"))
	if err != nil {
		h.t.Fatal(err)
	}
	for _, path := range found {
		if text, _ := os.ReadFile(path); strings.HasPrefix(string(text), "PRIVATE+KEY+") {
			names = append(names, filepath.Base(path))
		}
	}
	return names
}

// files are all below the log's folder, with what is in them.
func (h *host) files() map[string]string {
	h.t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(filepath.Join(h.data, "audit"), func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		all[path] = string(text)
		return err
	})
	if err != nil {
		h.t.Fatal(err)
	}
	return all
}
