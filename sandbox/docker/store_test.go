package docker

import (
	"archive/zip"
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"cleanroom/sandbox"
)

// storing runs a stage of the helper that stores what sets choose of /builds.
func storing(t *testing.T, e *Engine, s sandbox.Spec, script string, store sandbox.Store) (string, error) {
	t.Helper()
	var out bytes.Buffer
	if store.Dir == "" {
		store.Dir = s.Builds.Path
	}
	if store.Choose == nil {
		store.Choose = choose(nil)
	}
	if store.Check == nil {
		store.Check = func(context.Context, sandbox.Files) error { return nil }
	}
	r, err := e.Run(t.Context(), sandbox.Stage{Room: s.Name, Key: s.Key, Name: "store", Role: sandbox.Helper, Store: &store,
		Script: strings.NewReader(script), Output: &out, Grace: time.Second})
	if err == nil && r.ExitCode != 0 {
		t.Fatalf("%+v\n%s", r, out.String())
	}
	return out.String(), err
}

func frozen(t *testing.T, e *Engine, room string) bool {
	t.Helper()
	c, err := e.api.ContainerInspect(t.Context(), containerName(room, sandbox.Job))
	if err != nil {
		t.Fatal(err)
	}
	return c.State.Paused
}

// choose chooses always the same.
func choose(writes []string, sets ...sandbox.FileSet) func([]byte) ([]sandbox.FileSet, []string) {
	return func([]byte) ([]sandbox.FileSet, []string) { return sets, writes }
}

var everything = choose(nil, sandbox.FileSet{Paths: []string{"**"}})

// What ENTRYPOINT left running cannot write between the look and the upload,
// and goes on when the job does.
func TestJobIsFrozenWhileFilesAreStored(t *testing.T) {
	e := testEngine(t, nil)
	s := testSpec(sandbox.Hardened, "cleanroom/busybox")
	s.Job.Entrypoint = []string{"/bin/busybox", "sh", "-c", `(while :; do echo tick >>/builds/ticks; done) & exec "$@"`, "sh"}
	if log, err := makeRoom(t, e, s); err != nil {
		t.Fatalf("%v\n%s", err, log)
	}
	run(t, e, s, sandbox.Job, "until [ -s /builds/ticks ]; do sleep 0.01; done")
	ticks := func(files sandbox.Files) int64 {
		i := slices.IndexFunc(files.Entries(), func(e sandbox.Entry) bool { return e.Path == "ticks" })
		return files.Entries()[i].Size
	}
	var last int64
	for range 2 {
		var size int64
		out, err := storing(t, e, s, "sleep 0.1; wc -c </builds/ticks", sandbox.Store{Choose: everything, Check: func(ctx context.Context, files sandbox.Files) error {
			size = ticks(files)
			if !frozen(t, e, s.Name) {
				t.Error("the job goes on while its files are looked through")
			}
			return nil
		}})
		if err != nil || strings.TrimSpace(out) != fmt.Sprint(size) || size <= last || !frozen(t, e, s.Name) {
			t.Fatalf("%v: %q, looked through %d after %d, frozen: %t", err, out, size, last, frozen(t, e, s.Name))
		}
		last = size
		run(t, e, s, sandbox.Helper, "true")
		if !frozen(t, e, s.Name) {
			t.Error("a stage of the helper let the job go on")
		}
		run(t, e, s, sandbox.Job, fmt.Sprintf("until [ $(wc -c </builds/ticks) -gt %d ]; do sleep 0.01; done", size))
		if frozen(t, e, s.Name) {
			t.Error("frozen, and a stage runs in it")
		}
	}
	// A driver that lost the state folder finds out.
	if _, err := storing(t, e, s, "true", sandbox.Store{}); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(e.stateDir(s.Name)); err != nil {
		t.Fatal(err)
	}
	run(t, e, s, sandbox.Job, "true")
	// So does one that died after it had made its note, and before the engine was asked.
	if err := e.noteFrozen(s.Name, true); err != nil {
		t.Fatal(err)
	}
	run(t, e, s, sandbox.Job, "true")

	job := containerName(s.Name, sandbox.Job)
	for what, do := range map[string]func() error{
		"pause":   func() error { return e.api.ContainerPause(t.Context(), job) },
		"unpause": func() error { return e.api.ContainerUnpause(t.Context(), job) },
	} {
		if what == "unpause" {
			e.api.ContainerPause(t.Context(), job)
		}
		began := time.Now()
		if err := do(); err != nil {
			t.Fatal(what, err)
		}
		t.Logf("%s takes %s", what, time.Since(began).Round(time.Microsecond))
		e.api.ContainerUnpause(t.Context(), job)
	}
	for range 2 { // frozen already is frozen
		if err := e.freeze(t.Context(), s.Name); err != nil {
			t.Fatal(err)
		}
	}
	began := time.Now()
	wiped(t, e, s.Name)
	if d := time.Since(began); d > 8*time.Second { // less than the engine waits before it kills
		t.Errorf("the wipe of a frozen room took %s", d)
	} else {
		t.Logf("the wipe of a frozen room took %s", d)
	}
}

// A job that has ended or whose container is gone cannot write, so its files
// are stored.
func TestStoreWithoutAJob(t *testing.T) {
	e := testEngine(t, nil)
	s := testSpec(sandbox.Hardened, "cleanroom/busybox")
	if log, err := makeRoom(t, e, s); err != nil {
		t.Fatalf("%v\n%s", err, log)
	}
	job := containerName(s.Name, sandbox.Job)
	if err := e.api.ContainerKill(t.Context(), job, "KILL"); err != nil {
		t.Fatal(err)
	}
	if _, err := storing(t, e, s, "true", sandbox.Store{Choose: everything}); err != nil {
		t.Error(err)
	}
	if err := e.removeContainer(t.Context(), job); err != nil {
		t.Fatal(err)
	}
	if _, err := storing(t, e, s, "true", sandbox.Store{Choose: everything}); err != nil {
		t.Error(err)
	}
	if _, err := e.Run(t.Context(), sandbox.Stage{Room: s.Name, Key: s.Key, Role: sandbox.Job, Store: &sandbox.Store{}}); err == nil {
		t.Error("a job stores its own files")
	}
}

// TestStoreReadsItsEnvFile: what the choice depends on is read as the stage's
// shell will read it, or not at all.
func TestStoreReadsItsEnvFile(t *testing.T) {
	e := testEngine(t, nil)
	s := testSpec(sandbox.Hardened, "cleanroom/busybox")
	if log, err := makeRoom(t, e, s); err != nil {
		t.Fatalf("%v\n%s", err, log)
	}
	for _, test := range []struct {
		name, script, env string
		wrong             bool
	}{
		{"no folder", "true", "", false},
		{"no file", "mkdir /builds/p.tmp", "", false},
		{"a file", `printf 'OUT=a\n' >/builds/p.tmp/env`, "OUT=a\n", false},
		{"a link", "cd /builds/p.tmp; mv env other; ln -s other env", "", true},
		{"a folder", "cd /builds/p.tmp; rm env; mkdir env", "", true},
		{"too large", "cd /builds/p.tmp; rmdir env; head -c 5000000 /dev/zero >env", "", true},
	} {
		if _, err := storing(t, e, s, test.script, sandbox.Store{}); err != nil {
			t.Fatal(err)
		}
		seen := "not asked"
		_, err := storing(t, e, s, "true", sandbox.Store{EnvFile: "/builds/p.tmp/env", Choose: func(env []byte) ([]sandbox.FileSet, []string) {
			seen = string(env)
			return nil, nil
		}})
		if test.wrong != errors.Is(err, sandbox.ErrUser) || !test.wrong && (err != nil || seen != test.env) {
			t.Errorf("%s: %q, %v", test.name, seen, err)
		}
	}
}

func TestStoreLooksTwice(t *testing.T) {
	for _, transport := range []string{TransportAuto, TransportExec} {
		e := testEngine(t, func(o *Options) { o.Transport = transport })
		s := testSpec(sandbox.Strict, "cleanroom/busybox")
		if log, err := makeRoom(t, e, s); err != nil {
			t.Fatalf("%v\n%s", err, log)
		}
		run(t, e, s, sandbox.Job, `cd /builds; mkdir sub; echo one >sub/a; echo two >b; ln -s b link; i=0; while [ $i -lt 2000 ]; do i=$((i+1)); echo $i >sub/$i; done; head -c 3000000 /dev/zero >big`)
		began := time.Now()
		read := func(ctx context.Context, files sandbox.Files) error {
			count := 0
			for _, entry := range files.Entries() {
				if !entry.Mode.IsRegular() {
					if _, err := files.Open(ctx, entry); err == nil {
						t.Errorf("%s was opened", entry.Path)
					}
					continue
				}
				f, err := files.Open(ctx, entry)
				if err != nil {
					return err
				}
				got, err := io.ReadAll(io.NewSectionReader(f, 0, f.Size()))
				if err != nil || int64(len(got)) != entry.Size || entry.Path == "b" && string(got) != "two\n" {
					t.Errorf("%s: %v, %d bytes %.10q", entry.Path, err, len(got), got)
				}
				f.Close()
				count++
			}
			if count != 2003 {
				t.Errorf("%d files", count)
			}
			return nil
		}
		if out, err := storing(t, e, s, "echo ran", sandbox.Store{Choose: everything, Check: read}); err != nil || out != "ran\n" {
			t.Error(out, err)
		}
		t.Logf("%s: 2003 files, 3 MB: %s", transport, time.Since(began))
		refused := errors.New("a secret in it")
		if out, err := storing(t, e, s, "echo ran", sandbox.Store{Choose: everything, Check: func(context.Context, sandbox.Files) error { return refused }}); err != refused || out != "" {
			t.Error(out, err)
		}
		for _, try := range []struct{ script, says string }{
			{"echo x >>sub/a", `"sub/a" changed while`},
			{"ln -sf sub link", `"link" changed while`},
			{"touch sub/zz", `"sub/zz" appeared while`},
			{"touch 0", `"0" appeared while`},
			{"rm sub/zz", `"sub/zz" is gone while`},
			{"rm 0", `"0" is gone while`},
		} {
			if _, err := storing(t, e, s, "cd /builds; "+try.script, sandbox.Store{Choose: everything}); !errors.Is(err, sandbox.ErrChanged) || !strings.Contains(err.Error(), try.says) {
				t.Errorf("%s: %v", try.script, err)
			}
		}
		if _, err := storing(t, e, s, "cd /builds; echo x >>b; touch new; mkdir folder; touch .; rm big", sandbox.Store{Choose: choose([]string{"b", "new", "big"}, sandbox.FileSet{Paths: []string{"**"}})}); err != nil {
			t.Error(err)
		}
		// A file that changes between the list and the look is told of by its reader.
		_, err := storing(t, e, s, "true", sandbox.Store{Choose: everything, Check: func(ctx context.Context, files sandbox.Files) error {
			i := slices.IndexFunc(files.Entries(), func(e sandbox.Entry) bool { return e.Path == "b" })
			gone := files.Entries()[i]
			gone.Ino++
			if _, err := files.Open(ctx, gone); err == nil {
				t.Error("opened what is not in the list")
			}
			return nil
		}})
		if err != nil {
			t.Error(err)
		}
	}
}

// The list is the runner's own: whatever its archiver stores is in it, and
// nothing else.
func TestListIsTheRunners(t *testing.T) {
	e := testEngine(t, nil)
	s := testSpec(sandbox.Hardened, "cleanroom/busybox")
	if log, err := makeRoom(t, e, s); err != nil {
		t.Fatalf("%v\n%s", err, log)
	}
	const dir = "/builds/gro[u]p/pro*ject"
	run(t, e, s, sandbox.Helper, `set -e; mkdir -p '`+dir+`' /builds/outside; cd '`+dir+`'; echo x >/builds/outside/o; mkdir -p a/b/c .dot 'we[i]rd' other
echo 1 >a/1.txt; echo 2 >a/b/2.txt; echo 3 >a/b/c/3.log; echo 4 >4.txt; echo 5 >.dot/5; echo 6 >'we[i]rd/6'; echo 7 >other/7.txt
ln -s a link; ln -s ../../outside out; ln -s . a/self; ln -s nowhere broken
git init -q; git -c user.name=a -c user.email=a@b add 4.txt a/b; echo '*.log' >.gitignore; git -C other init -q`)
	archived := 0
	for _, set := range []sandbox.FileSet{
		{Paths: []string{"a"}}, {Paths: []string{"**"}}, {Paths: []string{"."}}, {Paths: []string{dir}}, {Paths: []string{"**/*.txt", "4.txt"}},
		{Paths: []string{"*"}, Exclude: []string{"**/*.txt", "a/b/c"}}, {Paths: []string{"a/"}, Exclude: []string{"a/b/**/*"}}, {Paths: []string{"a"}, Exclude: []string{"a"}},
		{Paths: []string{"link", "link/*", "out/*", "link/b"}}, {Paths: []string{"*/*/*"}}, {Paths: []string{"{a,other}/*.txt"}}, {Paths: []string{"./a/../4.txt", dir + "/a/1.txt"}},
		{Paths: []string{"../outside", "/etc/passwd", "../../outside/o", "x*/../../../outside/*"}}, {Paths: []string{"we[i]rd", `we\[i\]rd/6`}}, {Paths: []string{"[", "broken", "a/self/1.txt"}},
		{Untracked: true}, {Untracked: true, Exclude: []string{"a/**"}}, {Untracked: true, Paths: []string{"a/b"}, Exclude: []string{"../bad", "a/**"}},
	} {
		script := "cd '" + dir + "'; rm -f /tmp/x.zip; gitlab-runner-helper cache-archiver --file /tmp/x.zip"
		for _, p := range set.Paths {
			script += " --path '" + p + "'"
		}
		for _, p := range set.Exclude {
			script += " --exclude '" + p + "'"
		}
		if set.Untracked {
			script += " --untracked"
		}
		script += " >/tmp/log 2>&1 || cat /tmp/log; [ ! -e /tmp/x.zip ] || base64 -w0 /tmp/x.zip"
		var want, got []string
		out, err := storing(t, e, s, script, sandbox.Store{Dir: dir, Choose: choose(nil, set), Check: func(_ context.Context, files sandbox.Files) error {
			for _, entry := range files.Entries() {
				got = append(got, entry.Path)
			}
			if files.Note() != "" {
				t.Error(files.Note())
			}
			return nil
		}})
		if err != nil {
			t.Fatal(err)
		}
		if out != "" {
			raw, err := base64.StdEncoding.DecodeString(out)
			if err != nil {
				t.Fatalf("%+v: %v: %s", set, err, out)
			}
			z, err := zip.NewReader(bytes.NewReader(raw), int64(len(raw)))
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range z.File {
				want = append(want, strings.TrimSuffix(f.Name, "/"))
			}
		}
		slices.Sort(want)
		archived += len(want)
		if !slices.Equal(got, want) {
			t.Errorf("%+v\nwe list      %q\nit archives  %q", set, got, want)
		}
	}
	if archived < 100 {
		t.Errorf("only %d files were archived: this test shows nothing", archived)
	}
}

// A job has a value of its own hidden, wherever its init is and whoever it
// runs as.
func TestMaskInARoom(t *testing.T) {
	for _, transport := range []string{TransportAuto, TransportExec} {
		for _, profile := range []sandbox.Profile{sandbox.Compatible, sandbox.Strict} {
			e := testEngine(t, func(o *Options) { o.Transport = transport })
			s := testSpec(profile, "cleanroom/entrypoint")
			if log, err := makeRoom(t, e, s); err != nil {
				t.Fatalf("%v\n%s", err, log)
			}
			var got bytes.Buffer
			r, err := e.Run(t.Context(), sandbox.Stage{Room: s.Name, Key: s.Key, Name: "mask", Role: sandbox.Job, Output: &got, Grace: time.Second,
				Mask:   func(v string) error { fmt.Fprintf(&got, "<%s>", v); return nil },
				Script: strings.NewReader("echo before; echo v4lue | cleanroom-mask && echo v4lue")})
			if err != nil || r.ExitCode != 0 || got.String() != "before\n<v4lue>v4lue\n" {
				t.Errorf("%s, %s: %v %+v %q", transport, profile, err, r, got.String())
			}
			if out, r := run(t, e, s, sandbox.Job, "cleanroom-mask v4lue"); r.ExitCode != 1 || out != "cleanroom-mask: this stage takes no values to hide\n" {
				t.Errorf("%+v %q", r, out)
			}
		}
	}
}
