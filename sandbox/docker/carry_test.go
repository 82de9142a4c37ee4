package docker

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"cleanroom/sandbox"
)

// TestCarry: files are brought into the folder of caches before a stage's
// script and taken out after it, whoever the room's user is, wherever its init
// is, and in whatever the folder lies.
func TestCarry(t *testing.T) {
	content := make([]byte, 3<<20+1)
	rand.NewChaCha8([32]byte{4}).Read(content)
	for name, test := range map[string]struct {
		transport string
		profile   sandbox.Profile
		tmpfs     bool
	}{
		"socket, hardened, memory": {TransportSocket, sandbox.Hardened, true},
		"exec, strict, disk":       {TransportExec, sandbox.Strict, false},
		"auto, strict, memory":     {TransportAuto, sandbox.Strict, true},
	} {
		t.Run(name, func(t *testing.T) {
			e := testEngine(t, func(o *Options) { o.Transport = test.transport })
			s := testSpec(test.profile, "cleanroom/user")
			s.Cache = sandbox.Volume{Path: "/cache", Tmpfs: test.tmpfs, Size: 8 << 20}
			if log, err := makeRoom(t, e, s); err != nil {
				t.Fatalf("%v\n%s", err, log)
			}
			var made sandbox.Entry
			out, err := carry(t, e, s, "cat /cache/g/p/in >/cache/g/p/out; stat -c '%u %a %Y' /cache/g/p/in", func(ctx context.Context, in sandbox.Inside) (err error) {
				f := sandbox.NewFile{Dir: "/cache", Path: "g/p/in", Modified: time.Unix(1e9, 0), Size: int64(len(content))}
				if made, err = in.Bring(ctx, f, bytes.NewReader(content)); err != nil {
					return err
				}
				broken := errors.New("broken")
				f.Path = "g/p/broken"
				if _, err := in.Bring(ctx, f, iotest.ErrReader(broken)); !errors.Is(err, sandbox.ErrNotBrought) || !errors.Is(err, broken) {
					t.Error(err)
				}
				if f.Size = 64 << 20; test.tmpfs {
					if _, err := in.Bring(ctx, f, bytes.NewReader(make([]byte, f.Size))); !errors.Is(err, sandbox.ErrNotBrought) || !strings.Contains(err.Error(), "no space left") {
						t.Error("a file larger than its folder:", err)
					}
				}
				return nil
			}, func(ctx context.Context, in sandbox.Inside) error {
				files, err := in.Look(ctx, "/cache")
				if err != nil {
					return err
				}
				var got []string
				for _, entry := range files.Entries() {
					got = append(got, entry.Path)
				}
				if want := []string{".", "g", "g/p", "g/p/in", "g/p/out"}; !slices.Equal(got, want) {
					t.Errorf("%q, want %q", got, want)
					return nil
				}
				if in := files.Entries()[3]; in != made {
					t.Errorf("%+v, was made as %+v", in, made)
				}
				var b bytes.Buffer
				if err := files.Copy(ctx, files.Entries()[4], &b); err != nil || !bytes.Equal(b.Bytes(), content) {
					t.Errorf("%v, %d bytes", err, b.Len())
				}
				gone := files.Entries()[4]
				gone.Ino++
				if err := files.Copy(ctx, gone, io.Discard); !errors.Is(err, sandbox.ErrChanged) {
					t.Error(err)
				}
				return files.Copy(ctx, files.Entries()[4], &b) // and the connection lives
			})
			if err != nil || out != "1234 600 1000000000\n" {
				t.Errorf("%q, %v", out, err)
			}
			if out, _ := run(t, e, s, sandbox.Job, "ls /cache 2>&1"); strings.Contains(out, "g\n") {
				t.Errorf("the job sees %s", out)
			}
		})
	}
}

// What is to come after the script comes only if that ended well, and the
// error of whoever comes is the stage's.
func TestCarryOrder(t *testing.T) {
	e := testEngine(t, nil)
	s := testSpec(sandbox.Hardened, "cleanroom/busybox")
	if log, err := makeRoom(t, e, s); err != nil {
		t.Fatalf("%v\n%s", err, log)
	}
	no, came := errors.New("no"), 0
	come := func(context.Context, sandbox.Inside) error { came++; return nil }
	refuse := func(context.Context, sandbox.Inside) error { return no }
	if _, err := carry(t, e, s, "exit 3", nil, come); err != nil || came != 0 {
		t.Error(err, came)
	}
	if out, err := carry(t, e, s, "echo ran", refuse, come); err != no || came != 0 || out != "" {
		t.Error(err, came, out)
	}
	if out, err := carry(t, e, s, "echo ran", come, refuse); err != no || came != 1 || out != "ran\n" {
		t.Error(err, came, out)
	}
	// A folder that is not there: nothing can be brought, nothing is in it.
	if _, err := carry(t, e, s, "true", func(ctx context.Context, in sandbox.Inside) error {
		if _, err := in.Bring(ctx, sandbox.NewFile{Dir: "/nowhere", Path: "f"}, strings.NewReader("")); !errors.Is(err, sandbox.ErrNotBrought) {
			t.Error(err)
		}
		return nil
	}, func(ctx context.Context, in sandbox.Inside) error {
		if files, err := in.Look(ctx, "/nowhere"); err != nil || len(files.Entries()) > 0 {
			t.Error(err)
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
}

func carry(t *testing.T, e *Engine, s sandbox.Spec, script string, before, after func(context.Context, sandbox.Inside) error) (string, error) {
	t.Helper()
	var out bytes.Buffer
	_, err := e.Run(t.Context(), sandbox.Stage{Room: s.Name, Key: s.Key, Name: "carry", Role: sandbox.Helper,
		Script: strings.NewReader(script), Output: &out, Grace: time.Second, Before: before, After: after})
	return out.String(), err
}
