package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"cleanroom/sandbox/initproto"
)

const canary = "c4n4ry-0f-a-v4lue"

// withFiles is a room that has a tmpfs for files, of which path is the folder.
// owner is whose it is and who init runs as.
func withFiles(t *testing.T, owner int, more ...string) (r *room, path string) {
	t.Helper()
	path = publicDir(t) + "/above/files"
	if err := os.MkdirAll(path, 0o755); err != nil {
		t.Fatal(err)
	}
	mount := fmt.Sprintf("mount -t tmpfs -o nosuid,nodev,noexec,size=1m,nr_inodes=256,mode=0700,uid=%d,gid=%d tmpfs %s", owner, owner, path)
	wrap := []string{"sh", "-c", "'" + mount + ` && exec "$@"'`, "sh", fmt.Sprintf("setpriv --reuid %d --regid %d --clear-groups", owner, owner)}
	return pidOne(t, append(wrap, more...)...), path
}

// publicDir is a folder that every user may use; t.TempDir lies in one that
// only its owner may enter.
func publicDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "cleanroom-init-files-")
	if err == nil {
		err = os.Chmod(dir, 0o777)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func (r *room) bootFiles(path string) (*initproto.Client, func(script string, files ...initproto.File) (result, error)) {
	c := r.boot(initproto.Boot{Role: initproto.Job, Argv: []string{"/bin/sh", "-c"}})
	return c, func(script string, files ...initproto.File) (result, error) {
		var out bytes.Buffer
		s := initproto.Stage{Name: "files", Script: strings.NewReader(script), Output: &out, Grace: initproto.MaxGrace, Env: []string{"D=" + path}}
		if files != nil {
			s.FilesDir, s.Files = path, files
		}
		x, err := c.RunStage(r.t.Context(), s)
		return result{x, out.String()}, err
	}
}

func TestFiles(t *testing.T) {
	for name, uid := range map[string]int{"root": 0, "user": 12345} {
		t.Run(name, func(t *testing.T) {
			r, path := withFiles(t, uid)
			_, run := r.bootFiles(path)
			is := func(want, script string, files ...initproto.File) {
				t.Helper()
				got, err := run("set -e; cd $D; "+script, files...)
				if err != nil || got.Code != 0 || got.out != want {
					t.Fatalf("%v, code %d\nout %q\nwant %q", err, got.Code, got.out, want)
				}
			}
			is("", "ls -A")
			big := strings.Repeat("x", 100<<10)
			is(fmt.Sprintf("400 %d\n600 %[1]d\n700 %[1]d\nv1 %d\n", uid, len(big)), "umask 0; stat -c '%a %u' a .b .; echo $(cat a) $(wc -c <.b)",
				initproto.File{Name: "a", Data: []byte("v1")}, initproto.File{Name: ".b", Mode: 0o600, Data: []byte(big)})
			is("", "ls -A")
			is("a\nv2\n", "ls -A; cat a; echo; umask 777; mkdir -p x/y/z; chmod 0 x/y x; touch -- -rf 'a b'; ln a b; cp a c; chmod 0 a c; ln -s /etc s; mkfifo p; chmod 0 .",
				initproto.File{Name: "a", Data: []byte("v2")})
			is("", "ls -A")
			// What a stage without files leaves is gone before files come.
			is("", "echo mine >a; chmod 500 .")
			is("700 v3\n", "stat -c '%a' .| tr '\\n' ' '; cat a; echo", initproto.File{Name: "a", Data: []byte("v3")})
			is("", "ls -A")
			many := make([]initproto.File, initproto.MaxFiles)
			for i := range many {
				many[i] = initproto.File{Name: fmt.Sprint("f", i), Data: []byte(big[:i])}
			}
			is(fmt.Sprintln(len(many)), "ls -A | wc -l", many...)
			// Depth, as far as there are inodes.
			is("", `for i in {1..400}; do mkdir d 2>/dev/null || break; cd d; done`, many[:1]...)
			is("", "ls -A")
			// Too much is refused, and the folder is empty afterwards.
			_, err := run("true", initproto.File{Name: "a", Data: bytes.Repeat([]byte("x"), 2<<20)})
			if err == nil || !strings.Contains(err.Error(), `file "a": no space left on device: all files are 2097152 bytes, more than the folder`) {
				t.Fatal(err)
			}
			is("", "ls -A")
		})
	}
}

// A job that is root, with the capabilities of a hardened room, lets another
// user into the folder and gives it away; the next stage has it back.
func TestFilesOfAnotherUser(t *testing.T) {
	r, path := withFiles(t, 0, "--bounding-set", "-all,"+hardened, "--inh-caps", "-all", "--no-new-privs")
	_, run := r.bootFiles(path)
	file := initproto.File{Name: "a", Data: []byte(canary)}
	for _, script := range []string{
		"chmod 777 $D; cd $D; " + asOther + "sh -c 'umask 777; mkdir -p x/y || mkdir x; echo mine >b'; chown -R 12345 .; chmod 0 .; echo done",
		"stat -c '%a %u' $D; ls -A $D; " + asOther + "cat $D/a 2>/dev/null || echo done",
		asOther + "ls $D 2>/dev/null; echo done",
	} {
		got, err := run(script, file)
		if err != nil || got.Code != 0 || !strings.HasSuffix("700 0\na\ndone\n", got.out) {
			t.Fatalf("%q: %+v %v", script, got, err)
		}
	}
}

// A descriptor that outlives the stage, here in a process of ENTRYPOINT, reads
// nothing any more, and neither does a hard link.
func TestFilesAreEmptied(t *testing.T) {
	r, path := withFiles(t, 0)
	c := r.boot(initproto.Boot{Role: initproto.Job, Argv: []string{r.script("entry", `#!/bin/bash
( while [ ! -e `+r.dir+`/go ]; do sleep 0.01; done; exec 3<`+path+`/a; touch `+r.dir+`/open
  while [ ! -e `+r.dir+`/look ]; do sleep 0.01; done; cat <&3 >`+r.dir+`/seen; touch `+r.dir+`/done ) </dev/null >/dev/null 2>&1 &
exec "$@"
`)}})
	x, err := c.RunStage(t.Context(), initproto.Stage{FilesDir: path, Files: []initproto.File{{Name: "a", Data: []byte(canary)}},
		Script: strings.NewReader("touch " + r.dir + "/go; while [ ! -e " + r.dir + "/open ]; do sleep 0.01; done")})
	if err != nil || x.Code != 0 {
		t.Fatalf("%+v %v", x, err)
	}
	want(t, stage(t, c, "touch "+r.dir+"/look; while [ ! -e "+r.dir+"/done ]; do sleep 0.01; done; cat "+r.dir+"/seen"), 0, "")
}

// A job that is root can move what is above the folder. What it puts in its
// place is refused: it could be on a disk, or be somebody else's.
func TestFilesElsewhere(t *testing.T) {
	shm := fmt.Sprint("/dev/shm/cleanroom-test-", os.Getpid())
	t.Cleanup(func() { os.RemoveAll(shm) })
	for name, replace := range map[string]string{
		"disk":      "mv $A $M; mkdir -p $D",
		"gone":      "mv $A $M",
		"link":      "mv $A $M; mkdir $A; ln -s /dev/shm $D",
		"file":      "mv $A $M; mkdir $A; touch $D",
		"in memory": "mv $A $M; mkdir -p " + shm + "/files; ln -s " + shm + " $A",
		// These two need CAP_SYS_ADMIN, which no profile has.
		"overmounted": "mount -t tmpfs tmpfs $D",
		"other kind":  "mount -t ramfs ramfs $D",
	} {
		for _, used := range []bool{true, false} {
			if name == "overmounted" && !used {
				continue // who could do that before the first stage has had the folder made
			}
			t.Run(fmt.Sprintf("%s %t", name, used), func(t *testing.T) {
				r, path := withFiles(t, 0)
				_, run := r.bootFiles(path)
				file := initproto.File{Name: "a", Data: []byte(canary)}
				var files []initproto.File
				if used {
					if got, err := run("cat $D/a", file); err != nil || got.out != canary {
						t.Fatal(got, err)
					}
					// Replaced while it is used: what lies in it is gone all the same.
					files = append(files, file)
				}
				above := "set -e; A=${D%/files}; M=${D%/above/files}/moved; "
				if got, err := run(above+replace, files...); err != nil || got.Code != 0 {
					t.Fatal(got, err)
				}
				got, err := run("echo ran", file)
				if x := asExec(t, err); !strings.Contains(x.Text, "folder of files "+path) || got.out != "" {
					t.Fatal(x)
				}
				got, err = run(above + "umount $D 2>/dev/null || true; ls -A $M/files $D 2>/dev/null || true; grep -rs " + canary + " $D " + shm + " || true; rm -rf " + shm)
				if err != nil || got.Code != 0 || strings.Contains(got.out, canary) || strings.Contains(got.out, "\na\n") {
					t.Fatalf("%+v %v", got, err)
				}
			})
		}
	}
}

// However a stage ends, its files are gone before that is told.
func TestFilesAreGoneAfter(t *testing.T) {
	for name, script := range map[string]string{
		"failure": "echo go; exit 3",
		"kill":    "echo go; kill -9 $$",
		"cancel":  "trap '' TERM; echo go; setsid sleep 1000 & while :; do sleep 1; done",
		"loss":    "echo go; sleep 1000",
	} {
		t.Run(name, func(t *testing.T) {
			r, path := withFiles(t, 12345)
			c, run := r.bootFiles(path)
			w, seen := until("go\n")
			ctx := t.Context()
			switch name {
			case "cancel":
				ctx = withCancel(t, seen)
			case "loss":
				go func() { <-seen; c.Close() }()
			}
			s := initproto.Stage{FilesDir: path, Files: []initproto.File{{Name: "a", Data: []byte(canary)}}, Output: w, Grace: 100 * time.Millisecond,
				Script: strings.NewReader("test -s " + path + "/a || exit 9; " + script)}
			x, err := c.RunStage(ctx, s)
			if name == "loss" {
				if err == nil {
					t.Fatal("a result without a driver")
				}
				eventually(t, "the next driver is let in", func() bool {
					c, err = initproto.Redial(t.Context(), r.conn(), r.key)
					return err == nil
				})
			} else if err != nil || x.Code == 9 {
				t.Fatalf("%+v %v", x, err)
			}
			if name == "loss" {
				want(t, stage(t, c, "ls -A "+path), 0, "")
				return
			}
			if got, err := run("ls -A $D"); err != nil || got.out != "" {
				t.Fatal(got, err)
			}
		})
	}
}

// Files that are badly described do not reach init, and if they do, they end
// the connection.
func TestFilesRefused(t *testing.T) {
	r, path := withFiles(t, 0)
	c, _ := r.bootFiles(path)
	for name, try := range map[string]struct {
		dir   string
		files []initproto.File
		says  string
	}{
		"no folder":  {"", []initproto.File{{Name: "a"}}, `folder of files ""`},
		"relative":   {"files", []initproto.File{{Name: "a"}}, "clean absolute path"},
		"two dots":   {path, []initproto.File{{Name: ".."}}, `begin with ".."`},
		"slash":      {path, []initproto.File{{Name: "a/b"}}, "slash"},
		"long":       {path, []initproto.File{{Name: strings.Repeat("x", 256)}}, "longer than 255 bytes"},
		"twice":      {path, []initproto.File{{Name: "a"}, {Name: "a"}}, "twice"},
		"setuid":     {path, []initproto.File{{Name: "a", Mode: os.ModeSetuid | 0o700}}, "permission bits"},
		"too many":   {path, make([]initproto.File, initproto.MaxFiles+1), "at most 100"},
		"not a room": {"/nowhere", []initproto.File{{Name: "a"}}, "no such file or directory"},
	} {
		_, err := c.RunStage(t.Context(), initproto.Stage{FilesDir: try.dir, Files: try.files, Script: strings.NewReader("echo ran"), Output: io.Discard})
		if err == nil || !strings.Contains(err.Error(), try.says) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v, want %q", name, err, try.says)
		}
	}
	want(t, stage(t, c, "ls -A "+path+"; echo still"), 0, "still\n")
}

// A later stage finds nothing of an earlier one's, and no process of that one
// lives to remember it.
func TestNothingIsLeftForTheNextStage(t *testing.T) {
	for name, uid := range map[string]int{"root": 0, "user": 12345} {
		t.Run(name, func(t *testing.T) {
			r, path := withFiles(t, uid)
			c, _ := r.bootFiles(path)
			mark := r.sleepMark()
			// Values in the environment, in a file, in memory alone, and in argv:
			// in processes that left their session and their parents.
			x, err := c.RunStage(t.Context(), initproto.Stage{Env: []string{"CANARY=" + canary}, FilesDir: path,
				Files: []initproto.File{{Name: "canary", Data: []byte(canary)}}, Script: strings.NewReader(`
test "$(cat ` + path + `/canary)" = "$CANARY" || exit 9
( setsid bash -c 'trap "" TERM HUP INT; v=$CANARY; unset CANARY; (setsid env -u CANARY sleep ` + mark + ` &); while :; do sleep 1; done' & ) >/dev/null 2>&1
setsid setsid sh -c 'exec 3<` + path + `/canary; trap "" TERM; while :; do sleep 1; done' ` + canary + ` >/dev/null 2>&1 &
until pgrep -f 'sleep ` + mark + `' >/dev/null; do sleep 0.01; done
`)})
			if err != nil || x.Code != 0 {
				t.Fatalf("%+v %v", x, err)
			}
			if alive(mark) {
				t.Error("a process is left")
			}
			// The search must not find itself.
			search := `c=c4n4ry-; c=${c}0f-a-v4lue; for f in /proc/[0-9]*/environ /proc/[0-9]*/cmdline ` + path + `/* ` + path + `/.[!.]*; do grep -l -a -e "$c" -- "$f" 2>/dev/null; done; ls -A ` + path + "; echo searched"
			want(t, stage(t, c, search), 0, "searched\n")
			// And it can find.
			if got := stage(t, c, search, "PLANTED="+canary); !strings.Contains(got.out, "/environ\n") {
				t.Errorf("the search found nothing that was planted: %+v", got)
			}
		})
	}
}

// A service has its files before its command starts, and keeps them.
func TestServiceFiles(t *testing.T) {
	r, path := withFiles(t, 12345)
	out := publicDir(t)
	c := r.dial()
	replaced, err := c.Boot(t.Context(), initproto.Boot{Role: initproto.Service, FilesDir: path, Files: []initproto.File{{Name: "pw", Data: []byte(canary)}},
		Argv: []string{"sh", "-c", `stat -c '%a %u' ` + path + `/pw >` + out + `/x; cat ` + path + `/pw >>` + out + `/x; mv ` + out + `/x ` + out + `/y; exec sleep 1000`}})
	if err != nil || !replaced {
		t.Fatal(replaced, err)
	}
	eventually(t, "service wrote", func() bool {
		got, _ := os.ReadFile(out + "/y")
		return string(got) == "400 12345\n"+canary
	})
	r = newRoom(t, "").start(nil)
	_, err = r.dial().Boot(t.Context(), initproto.Boot{Role: initproto.Service, FilesDir: r.dir, Files: []initproto.File{{Name: "pw", Data: []byte(canary)}}, Argv: []string{"sleep", "1000"}})
	if err == nil || !strings.Contains(err.Error(), "is not the tmpfs") {
		t.Fatal(err)
	}
	if _, err := os.Stat(r.dir + "/pw"); err == nil {
		t.Error("the file was written to a disk")
	}
	for _, role := range []initproto.Role{initproto.Job, initproto.Helper} {
		if _, err := r.dial().Boot(t.Context(), initproto.Boot{Role: role, FilesDir: path, Files: []initproto.File{{Name: "a"}}}); err == nil || !strings.Contains(err.Error(), "only a service") {
			t.Error(err)
		}
	}
}
