package exec

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"cleanroom/config"
	"cleanroom/executor/secret"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// program is a script of the shell.
func program(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "program")
	must(t, os.WriteFile(path, []byte("#!/bin/sh\n"+text+"\n"), 0o700))
	return path
}

// table is the configuration for two scripts; an empty one is none.
func table(t *testing.T, command, revoke string) config.Provider {
	t.Helper()
	p := config.Provider{Name: "own", Timeout: time.Minute, Exec: config.Exec{Command: []string{program(t, command)}}}
	if revoke != "" {
		p.Exec.Revoke = []string{program(t, revoke)}
	}
	return p
}

func open(t *testing.T, p config.Provider) secret.Provider {
	t.Helper()
	provider, err := New(p)
	must(t, err)
	return provider
}

// journal keeps leases and, in order, who did what.
type journal struct{ leases []secret.Lease }

func (j *journal) add(l secret.Lease) error {
	j.leases = append(j.leases, l)
	return nil
}

func request(j *journal) secret.Request {
	return secret.Request{
		Secret: config.Secret{Name: "DB", Path: "db/shop", Parameters: []string{"role=app", "ttl=a=b"}},
		Job:    secret.Job{ID: 4711, Project: "shop/items", Room: "room-7"},
		Until:  time.Date(2030, 1, 2, 3, 4, 5, 6, time.FixedZone("", 3600)), Journal: j.add,
	}
}

func TestNew(t *testing.T) {
	for _, test := range []struct {
		exec config.Exec
		want string
	}{
		{config.Exec{Command: []string{"/bin/x", "a b", ""}, Revoke: []string{"/bin/y"}, Env: []string{"A=b=c", "_B="}}, ""},
		{config.Exec{}, "exec.command: set"},
		{config.Exec{Command: []string{"x"}}, "exec.command"},
		{config.Exec{Command: []string{"/bin/../x"}}, "exec.command"},
		{config.Exec{Command: []string{"/bin/x", "a\x00b"}}, "zero byte"},
		{config.Exec{Command: []string{"/bin/x"}, Revoke: []string{"y"}}, "exec.revoke"},
		{config.Exec{Command: []string{"/bin/x"}, Env: []string{"canary"}}, "exec.env[0]: must be written KEY=VALUE"},
		{config.Exec{Command: []string{"/bin/x"}, Env: []string{"A=1", "B C=canary"}}, "exec.env[1]"},
		{config.Exec{Command: []string{"/bin/x"}, Env: []string{"A=canary\x00"}}, "exec.env[0]"},
		{config.Exec{Command: []string{"/bin/x"}, Env: []string{"CLEANROOM_LEASE=canary"}}, "one of ours"},
		{config.Exec{Command: []string{"/bin/x"}, Env: []string{"A=canary", "A=canary"}}, "set twice"},
	} {
		p, err := New(config.Provider{Name: "own", Exec: test.exec})
		if (err == nil) != (test.want == "") || (p == nil) != (err != nil) ||
			err != nil && (!errors.Is(err, config.ErrConfig) || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "canary")) {
			t.Errorf("%+v: %v", test.exec, err)
		}
	}
}

// What a program finds: these words and no others.
func TestWhatAProgramSees(t *testing.T) {
	t.Setenv("HOST_SECRET", "canary")
	t.Setenv("PATH", os.Getenv("PATH")+":/canary")
	dir := t.TempDir()
	see := fmt.Sprintf(`/usr/bin/env -0 >%[1]s/env-$0; cat >%[1]s/in-$0; pwd >%[1]s/dir-$0; printf '%%s\n' "$@" >%[1]s/args-$0; echo '{"value": "canary-value", "revoke_token": "canary-token"}'`, dir)
	p := table(t, strings.ReplaceAll(see, "$0", "fetch"), strings.ReplaceAll(see, "$0", "revoke"))
	p.Exec.Command = append(p.Exec.Command, "--a b", "$HOME", ";id")
	p.Exec.Env = []string{"HELPER=yes no"}
	j := &journal{}
	got, err := open(t, p).Fetch(t.Context(), request(j))
	if err != nil || !maps.Equal(got.Fields, map[string]string{"value": "canary-value"}) || len(j.leases) != 2 {
		t.Fatalf("%+v %v, %d leases", got, err, len(j.leases))
	}
	label := j.leases[0].ID
	read := func(name string) string {
		b, err := os.ReadFile(filepath.Join(dir, name))
		must(t, err)
		return string(b)
	}
	environ := func(name string) map[string]string {
		env := map[string]string{}
		for line := range strings.SplitSeq(strings.TrimSuffix(read(name), "\x00"), "\x00") {
			key, value, _ := strings.Cut(line, "=")
			env[key] = value
		}
		for _, shells := range []string{"PWD", "OLDPWD", "SHLVL", "_"} { // which the script's own shell adds
			delete(env, shells)
		}
		return env
	}
	want := map[string]string{
		"PATH": searchPath, "HELPER": "yes no", "CLEANROOM_SECRET": "DB", "CLEANROOM_JOB_ID": "4711", "CLEANROOM_PROJECT": "shop/items",
		"CLEANROOM_ROOM": "room-7", "CLEANROOM_LEASE": label,
	}
	if env := environ("env-fetch"); !maps.Equal(env, want) {
		t.Errorf("%v, want %v", env, want)
	}
	const told = `{"secret":"DB","path":"db/shop","parameters":{"role":"app","ttl":"a=b"},"job":{"id":4711,"project":"shop/items","room":"room-7"}`
	if in := read("in-fetch"); in != told+`,"until":"2030-01-02T02:04:05Z","lease":"`+label+`"}`+"\n" {
		t.Errorf("stdin %s", in)
	}
	if args, dir := read("args-fetch"), read("dir-fetch"); args != "--a b\n$HOME\n;id\n" || dir != "/\n" {
		t.Errorf("arguments %q in %q", args, dir)
	}

	// Another process revokes, with what the journal kept.
	for i, want := range []string{"", `,"revoke_token":"canary-token"`} {
		if err := open(t, p).Revoke(t.Context(), j.leases[i]); err != nil {
			t.Fatal(err)
		}
		if in := read("in-revoke"); in != told+`,"lease":"`+label+`"`+want+"}\n" {
			t.Errorf("stdin %s", in)
		}
	}
	if env := environ("env-revoke"); !maps.Equal(env, want) {
		t.Errorf("%v, want %v", env, want)
	}

	p.Exec.Env = []string{"PATH=/opt/bin:/usr/bin:/bin"}
	if _, err := open(t, p).Fetch(t.Context(), request(j)); err != nil || environ("env-fetch")["PATH"] != "/opt/bin:/usr/bin:/bin" {
		t.Error(err)
	}
}

// The label is on disk before the program runs, and its token before anybody
// has the value.
func TestJournal(t *testing.T) {
	ran := filepath.Join(t.TempDir(), "ran")
	p := table(t, "echo >"+ran+`; echo '{"value": "canary-value", "revoke_token": "canary-token", "expires": "2100-01-01T00:00:00Z"}'`, "exit 0")
	j := &journal{}
	r := request(j)
	r.Journal = func(l secret.Lease) error {
		if _, err := os.Stat(ran); errors.Is(err, fs.ErrNotExist) != (len(j.leases) == 0) {
			t.Errorf("lease %d: the program ran: %v", len(j.leases), err)
		}
		return j.add(l)
	}
	_, err := open(t, p).Fetch(t.Context(), r)
	must(t, err)
	if len(j.leases) != 2 || j.leases[0].ID != j.leases[1].ID || len(j.leases[0].ID) < 20 || !j.leases[0].Expires.IsZero() || j.leases[1].Expires.Year() != 2100 {
		t.Fatalf("%+v", j.leases)
	}
	if strings.Contains(string(j.leases[0].Credential), "canary") || !strings.Contains(string(j.leases[1].Credential), "canary-token") || strings.Contains(string(j.leases[1].Credential), "canary-value") {
		t.Errorf("%s, %s", j.leases[0].Credential, j.leases[1].Credential)
	}

	// Two requests are two labels; without exec.revoke there are none.
	_, err = open(t, p).Fetch(t.Context(), request(j))
	if err != nil || j.leases[2].ID == j.leases[0].ID {
		t.Error(err)
	}
	p.Exec.Revoke = nil
	if _, err = open(t, p).Fetch(t.Context(), request(j)); err != nil || len(j.leases) != 4 {
		t.Errorf("%d leases: %v", len(j.leases), err)
	}
	if err := open(t, p).Revoke(t.Context(), j.leases[0]); !errors.Is(err, secret.ErrNotRevocable) {
		t.Error(err)
	}
}

func TestJournalFails(t *testing.T) {
	full := errors.New("no space left")
	dir := t.TempDir()
	p := table(t, "echo >"+dir+`/ran; echo '{"value": "canary-value", "revoke_token": "canary-token"}'`, "cat >"+dir+"/revoked")
	r := request(&journal{})
	r.Journal = func(secret.Lease) error { return full }
	if _, err := open(t, p).Fetch(t.Context(), r); !errors.Is(err, full) {
		t.Error(err)
	}
	if found, _ := os.ReadDir(dir); len(found) != 0 {
		t.Error("a program ran whose label is not written down")
	}

	// When it ran before the disk was full, what it gave is given back at once.
	n := 0
	r.Journal = func(secret.Lease) error {
		if n++; n == 2 {
			return full
		}
		return nil
	}
	got, err := open(t, p).Fetch(t.Context(), r)
	revoked, _ := os.ReadFile(filepath.Join(dir, "revoked"))
	if !errors.Is(err, full) || got.Fields != nil || !strings.Contains(string(revoked), "canary-token") {
		t.Errorf("%v, revoked %q", err, revoked)
	}
}

// However a program fails: one line that says why, and no value.
func TestFailures(t *testing.T) {
	for _, test := range []struct {
		name, script, want string
		refused            bool
	}{
		{"status", "echo 'no such role' >&2; exit 3", "exit status 3: no such role", false},
		{"a no", "echo 'not for you' >&2; exit 77", "exit status 77: not for you", true},
		{"signal", "kill -9 $$", "signal: killed", false},
		{"silent", "exit 1", "(it said nothing on its standard error)", false},
		{"echo of the value", `echo '{"value": "canary-value"}'; echo "got canary-value!" >&2; exit 1`, "got [hidden]!", false},
		{"echo of a field", `echo '{"fields": {"a": ["canary-field"]}}'; echo "got canary-field!" >&2; exit 1`, "got [hidden]!", false},
		{"echo of a number", `echo '{"value": 2222222222}'; echo "got 2222222222!" >&2; exit 1`, "got [hidden]!", false},
		{"echo of no JSON", `echo 'password: canary7 '; echo "got canary7!" >&2; exit 1`, "got[hidden]!", false},
		{"echo of half of it", `printf '{"value": "canary-va'; echo "got canary-va" >&2; exit 1`, "got [hidden]", false},
		{"echo of the environment", `echo "key is $KEY" >&2; exit 1`, "key is [hidden]", false},
		{"lines", `printf 'one\n\033[1mtwo\r\n' >&2; exit 1`, "one [1mtwo", false},
		{"long", `i=0; while [ $i -lt 3000 ]; do echo "line $i of what it says"; i=$((i+1)); done >&2; exit 1`, "line 2999 of what it says", false},
		{"nothing", "exit 0", "printed nothing", false},
		{"no JSON", "echo canary-value", "no JSON object", false},
		{"much", `head -c 2000000 /dev/zero | tr '\0' ' '; echo '{"value": "canary-value"}'`, "more than 1048576 bytes", false},
		{"much that goes on", "exec cat /dev/zero", "more than 1048576 bytes", false},
		{"one long line", `head -c 200000 /dev/zero | tr '\0' x >&2; printf '\nthe end' >&2; exit 1`, "exit status 1: the end", false},
		{"expired", `echo '{"value": "canary-value", "expires": "2001-01-01T00:00:00Z"}'`, "expired at 2001-01-01T00:00:00Z already", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := table(t, test.script, "")
			p.Exec.Env = []string{"KEY=canary-environment", "LANG=C"}
			got, err := open(t, p).Fetch(t.Context(), request(&journal{}))
			if err == nil || got.Fields != nil {
				t.Fatal(got, err)
			}
			text := err.Error()
			if !strings.Contains(text, test.want) || errors.Is(err, secret.ErrRefused) != test.refused || !strings.Contains(text, "provider own: ") {
				t.Errorf("%q, want %q", text, test.want)
			}
			if strings.Contains(text, "canary") || strings.Contains(text, "2222") || strings.ContainsAny(text, "\n\x1b") || len(text) > 800 {
				t.Errorf("%d bytes: %q", len(text), text)
			}
		})
	}
}

func TestNoProgram(t *testing.T) {
	dir := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, "plain"), []byte("#!/bin/sh\n"), 0o600))
	must(t, os.WriteFile(filepath.Join(dir, "open"), []byte("#!/bin/sh\n"), 0o700))
	must(t, os.Chmod(filepath.Join(dir, "open"), 0o707))
	must(t, os.WriteFile(filepath.Join(dir, "odd"), []byte("\x00\x01"), 0o700))
	for name, want := range map[string]string{
		"none": "there is no program", "plain": "is no program", "open": "may be written by others", "odd": "cannot be run", ".": "is no program",
	} {
		p := config.Provider{Name: "own", Exec: config.Exec{Command: []string{filepath.Join(dir, name)}}}
		if _, err := open(t, p).Fetch(t.Context(), request(&journal{})); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	p := table(t, "echo >"+dir+"/ran", "")
	for _, parameter := range []string{"role", "=x", "role=again"} {
		r := request(&journal{})
		r.Secret.Parameters = append(r.Secret.Parameters, parameter)
		if _, err := open(t, p).Fetch(t.Context(), r); !errors.Is(err, secret.ErrRefused) {
			t.Errorf("%s: %v", parameter, err)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "ran")); !errors.Is(err, fs.ErrNotExist) {
		t.Error("the program ran")
	}
}

func TestTimeout(t *testing.T) {
	p := table(t, "exec sleep 1000", "exit 0")
	p.Timeout = 50 * time.Millisecond
	j := &journal{}
	_, err := open(t, p).Fetch(t.Context(), request(j))
	if err == nil || !strings.Contains(err.Error(), "did not end within 50ms and was killed") || errors.Is(err, secret.ErrRefused) || len(j.leases) != 1 {
		t.Errorf("%v, %d leases", err, len(j.leases))
	}
}

// Killing takes the processes that the program started, whether it lives or
// has ended. Each holds a FIFO, whose other end tells when it is gone.
func TestKillsItsProcesses(t *testing.T) {
	for name, script := range map[string]string{"lives": "exec 3>%s; sleep 1000 & echo >&3; wait", "ended": "exec 3>%s; sleep 1000 & echo >&3"} {
		t.Run(name, func(t *testing.T) {
			fifo := filepath.Join(t.TempDir(), "fifo")
			must(t, syscall.Mkfifo(fifo, 0o600))
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			gone := make(chan struct{})
			go func() {
				f, err := os.Open(fifo) // waits for the program
				if err == nil {
					defer f.Close()
					_, err = f.Read(make([]byte, 1)) // there are two processes now
				}
				if name == "lives" {
					cancel()
				}
				if err == nil {
					_, err = io.Copy(io.Discard, f)
				}
				if err != nil {
					t.Error(err)
				}
				close(gone)
			}()
			_, err := open(t, table(t, fmt.Sprintf(script, fifo), "")).Fetch(ctx, request(&journal{}))
			if name == "lives" && !errors.Is(err, context.Canceled) || name == "ended" && !strings.Contains(fmt.Sprint(err), "left a process") {
				t.Fatal(err)
			}
			<-gone
		})
	}
}

func TestRevokeFails(t *testing.T) {
	p := table(t, "exit 0", `echo "cannot revoke canary-token" >&2; exit 2`)
	credential, err := json.Marshal(facts{Secret: "DB", Lease: "label", RevokeToken: "canary-token"})
	must(t, err)
	err = open(t, p).Revoke(t.Context(), secret.Lease{ID: "label", Credential: credential})
	if err == nil || errors.Is(err, secret.ErrNotRevocable) || !strings.Contains(err.Error(), "exit status 2: cannot revoke [hidden]") {
		t.Error(err)
	}
	for _, l := range []secret.Lease{{ID: "label"}, {ID: "label", Credential: []byte("canary")}, {ID: "other", Credential: credential}} {
		if err := open(t, p).Revoke(t.Context(), l); err == nil || strings.Contains(err.Error(), "canary") || !strings.Contains(err.Error(), l.ID) {
			t.Error(err)
		}
	}
	if _, err := open(t, p).Renew(t.Context(), secret.Lease{}, time.Time{}); !errors.Is(err, secret.ErrRefused) {
		t.Error(err)
	}
}
