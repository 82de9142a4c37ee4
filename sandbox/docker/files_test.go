package docker

import (
	"bytes"
	"context"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"

	"cleanroom/sandbox"
)

const filesDir = "/run/cleanroom"

// runFiles is run with files.
func runFiles(t *testing.T, e *Engine, s sandbox.Spec, role sandbox.Role, script string, files ...sandbox.File) string {
	t.Helper()
	var out bytes.Buffer
	r, err := e.Run(t.Context(), sandbox.Stage{Room: s.Name, Key: s.Key, Name: "files", Role: role, Files: files,
		Script: strings.NewReader(script), Output: &out, Grace: time.Second})
	if err != nil || r.ExitCode != 0 {
		t.Fatalf("%s: %+v %v\n%s", script, r, err, out.String())
	}
	return out.String()
}

// Whoever a stage runs as has its files, alone, in every kind of room.
func TestFilesOfStages(t *testing.T) {
	for name, c := range map[string]struct {
		profile    sandbox.Profile
		image      string
		entrypoint []string
		transport  string
		uid        string
	}{
		"root":                {sandbox.Hardened, "cleanroom/busybox", nil, TransportAuto, "0"},
		"the image's user":    {sandbox.Hardened, "cleanroom/user", nil, TransportAuto, "1234"},
		"strict":              {sandbox.Strict, "cleanroom/busybox", nil, TransportAuto, "1000"},
		"strict, by exec":     {sandbox.Strict, "cleanroom/busybox", nil, TransportExec, "1000"},
		"an ENTRYPOINT":       {sandbox.Hardened, "cleanroom/busybox", []string{"/bin/busybox", "setpriv", "--nnp"}, TransportExec, "0"},
		"ENTRYPOINT's user":   {sandbox.Hardened, "cleanroom/fastapi", []string{"setpriv", "--reuid", "4321", "--regid", "4321", "--clear-groups"}, TransportAuto, "4321"},
		"compatible, another": {sandbox.Compatible, "cleanroom/fastapi", []string{"setpriv", "--reuid", "4321", "--clear-groups"}, TransportExec, "4321"},
	} {
		t.Run(name, func(t *testing.T) {
			e := testEngine(t, func(o *Options) { o.Transport = c.transport })
			s := testSpec(c.profile, c.image)
			s.Job.FilesDir, s.Job.Entrypoint = filesDir, c.entrypoint
			if log, err := makeRoom(t, e, s); err != nil {
				t.Fatalf("%v\n%s", err, log)
			}
			file := sandbox.File{Name: "password", Data: []byte("first")}
			look := "cd " + filesDir + "; id -u; stat -c '%a %u' . password; ls -A; cat password; echo"
			want := c.uid + "\n700 " + c.uid + "\n400 " + c.uid + "\npassword\nfirst\n"
			if out := runFiles(t, e, s, sandbox.Job, look, file); out != want {
				t.Errorf("got\n%swant\n%s", out, want)
			}
			if out := runFiles(t, e, s, sandbox.Job, "ls -A "+filesDir); out != "" {
				t.Errorf("left: %q", out)
			}
			// The next stage's are its own, and what the job made there is gone.
			runFiles(t, e, s, sandbox.Job, "echo x >"+filesDir+"/mine")
			if out := runFiles(t, e, s, sandbox.Job, "ls "+filesDir, sandbox.File{Name: "b"}); out != "b\n" {
				t.Errorf("%q", out)
			}
			// The helper has no such folder: the mount is the job container's own.
			if out := runFiles(t, e, s, sandbox.Helper, "grep -c ' "+filesDir+" ' /proc/mounts || true"); out != "0\n" {
				t.Errorf("helper: %q", out)
			}
			out := runFiles(t, e, s, sandbox.Job, "grep ' "+filesDir+" ' /proc/mounts")
			for _, option := range []string{"tmpfs ", "nosuid", "nodev", "noexec", "size=1024k", "nr_inodes=256", "mode=700"} {
				if !strings.Contains(out, option) {
					t.Errorf("%s without %s", out, option)
				}
			}
		})
	}
}

// A driver that lost the state folder finds the folder of files by label.
func TestFilesWithoutTheStateFolder(t *testing.T) {
	e := testEngine(t, nil)
	s := testSpec(sandbox.Hardened, "cleanroom/busybox")
	s.Job.FilesDir, s.Job.FilesSize = filesDir, 64<<10
	if log, err := makeRoom(t, e, s); err != nil {
		t.Fatalf("%v\n%s", err, log)
	}
	if err := os.RemoveAll(e.stateDir(s.Name)); err != nil {
		t.Fatal(err)
	}
	if out := runFiles(t, e, s, sandbox.Job, "cat "+filesDir+"/a", sandbox.File{Name: "a", Data: []byte("there")}); out != "there" {
		t.Errorf("%q", out)
	}
	stage := sandbox.Stage{Room: s.Name, Key: s.Key, Name: "files", Role: sandbox.Job, Script: strings.NewReader("true")}
	stage.Files = []sandbox.File{{Name: "a", Data: make([]byte, 65<<10)}}
	if _, err := e.Run(t.Context(), stage); err == nil || !strings.Contains(err.Error(), "more than the folder "+filesDir+" can take") {
		t.Error(err)
	}
	stage.Role = sandbox.Helper
	if _, err := e.Run(t.Context(), stage); err == nil || !strings.Contains(err.Error(), "set its FilesDir") {
		t.Error(err)
	}
}

// A service has its files when its command starts, and as long as it runs.
func TestFilesOfAService(t *testing.T) {
	for _, profile := range []sandbox.Profile{sandbox.Hardened, sandbox.Strict} {
		e := testEngine(t, nil)
		s := testSpec(profile, "cleanroom/busybox")
		service := local("cleanroom/busybox")
		service.Aliases, service.Ports = []string{"server"}, []int{9000}
		service.Entrypoint = []string{"/bin/busybox", "sh", "-c", "grep -q at-boot " + filesDir + "/page && exec busybox httpd -f -p 9000 -h " + filesDir}
		service.FilesDir, service.Files = filesDir, []sandbox.File{{Name: "page", Data: []byte("there at-boot")}}
		s.Services = []sandbox.Container{service}
		if log, err := makeRoom(t, e, s); err != nil {
			t.Fatalf("%s: %v\n%s", profile, err, log)
		}
		for range 2 {
			if out := runFiles(t, e, s, sandbox.Job, "busybox wget -qO- http://server:9000/page"); out != "there at-boot" {
				t.Errorf("%s: %q", profile, out)
			}
		}
	}
}

// A job that replaces the folder has its next stage refused, as its own fault.
func TestFilesNotInTheRoomsFolder(t *testing.T) {
	e := testEngine(t, nil)
	s := testSpec(sandbox.Hardened, "cleanroom/busybox")
	s.Job.FilesDir = "/files/of/stage"
	if log, err := makeRoom(t, e, s); err != nil {
		t.Fatalf("%v\n%s", err, log)
	}
	file := sandbox.File{Name: "a", Data: []byte("v4lue")}
	runFiles(t, e, s, sandbox.Job, "mv /files /moved; mkdir -p /files/of/stage", file)
	_, err := e.Run(t.Context(), sandbox.Stage{Room: s.Name, Key: s.Key, Name: "files", Role: sandbox.Job, Files: []sandbox.File{file}, Script: strings.NewReader("true")})
	if err == nil || !strings.Contains(err.Error(), "stage files cannot start: folder of files /files/of/stage: is not the tmpfs") {
		t.Error(err)
	}
	if out := runFiles(t, e, s, sandbox.Job, "ls -A /moved/of/stage /files/of/stage"); strings.Contains(out, "a\n") {
		t.Errorf("%q", out)
	}
}

func TestCheckFiles(t *testing.T) {
	plans := func(change func(*plan)) plan {
		p := plan{name: "x", role: sandbox.Service, spec: local("image"), mounts: (&Engine{local: true}).tools(sandbox.Spec{})}
		p.mounts = append(p.mounts, volumeMount("builds", "/builds"))
		p.spec.FilesDir = filesDir
		change(&p)
		return p
	}
	dir := func(d string) func(*plan) { return func(p *plan) { p.spec.FilesDir = d } }
	for name, test := range map[string]struct {
		change func(*plan)
		says   string
	}{
		"good":           {func(*plan) {}, ""},
		"none":           {dir(""), ""},
		"files":          {func(p *plan) { p.spec.Files = []sandbox.File{{Name: "a"}} }, ""},
		"largest":        {func(p *plan) { p.spec.FilesSize = sandbox.MaxFilesSize }, ""},
		"beside":         {dir("/buildsome"), ""},
		"too large":      {func(p *plan) { p.spec.FilesSize = sandbox.MaxFilesSize + 1 }, "choose 1 to"},
		"negative":       {func(p *plan) { p.spec.FilesSize = -1 }, "choose 1 to"},
		"no limit":       {func(p *plan) { p.spec.Limits.Memory = 0 }, "memory limit"},
		"no folder":      {func(p *plan) { p.spec.FilesDir, p.spec.Files = "", []sandbox.File{{Name: "a"}} }, "set its FilesDir"},
		"of a job":       {func(p *plan) { p.role, p.spec.Files = sandbox.Job, []sandbox.File{{Name: "a"}} }, "only a service"},
		"relative":       {dir("run"), "absolute path"},
		"root":           {dir("/"), "absolute path"},
		"not clean":      {dir("/run/../x"), "absolute path"},
		"colon":          {dir("/run/a:b"), "absolute path"},
		"in builds":      {dir("/builds/secrets"), "meets /builds"},
		"around init":    {dir("/.cleanroom"), "meets /.cleanroom"},
		"in init's":      {dir("/.cleanroom/run/x"), "meets /.cleanroom"},
		"kernel's":       {dir("/proc/x"), "meets /proc"},
		"shared memory":  {dir("/dev/shm"), "meets /dev"},
		"temporary":      {dir("/tmp"), "meets /tmp"},
		"around a house": {dir("/home"), "meets /home/job"},
	} {
		if err := plans(test.change).checkFiles(); (err == nil) != (test.says == "") || err != nil && !strings.Contains(err.Error(), test.says) {
			t.Errorf("%s: %v, want %q", name, err, test.says)
		}
	}
	var c container.Config
	var h container.HostConfig
	c.Labels, h.Tmpfs = map[string]string{labelFiles: "/of-the-image"}, map[string]string{}
	plans(dir("")).addFiles(&c, &h)
	if len(h.Tmpfs) > 0 || c.Labels[labelFiles] != "" {
		t.Errorf("%v %v", h.Tmpfs, c.Labels)
	}
}

// A room whose files are badly described is not begun.
func TestBadFilesBeginNothing(t *testing.T) {
	e := testEngine(t, nil)
	s := testSpec(sandbox.Hardened, "cleanroom/busybox")
	s.Job.FilesDir = "/builds/x"
	if _, err := makeRoom(t, e, s); err == nil || !strings.Contains(err.Error(), "meets /builds") {
		t.Error(err)
	}
	if found, err := e.find(context.Background(), s.Name); err != nil || len(found.items()) > 0 {
		t.Error(found.items(), err)
	}
}
