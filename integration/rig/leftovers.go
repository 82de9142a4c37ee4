package rig

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// Kinds of things that a job could leave.
const (
	Containers = "containers"
	Volumes    = "volumes"
	Networks   = "networks"
	Mounts     = "mounts"
	Processes  = "processes"
	Files      = "files"
	Interfaces = "interfaces" // those of rooms that the engine does not connect
)

// Scene is what stands on the machine at one moment, by kind. It looks at
// everything there is and not at labels of ours, so that a thing we forgot to
// label is seen too.
type Scene map[string][]string

// Look takes a Scene. Folders are looked into for files.
func (r *Rig) Look(ctx context.Context, folders ...string) (Scene, error) {
	s, err := onEngine(ctx)
	if err != nil {
		return nil, err
	}
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return nil, err
	}
	for _, m := range lines(string(mounts)) {
		s[Mounts] = append(s[Mounts], strings.Join(strings.Fields(m)[:2], " "))
	}
	if s[Processes], err = processes(); err != nil {
		return nil, err
	}
	wires, err := filepath.Glob("/sys/class/net/crv*")
	if err != nil {
		return nil, err
	}
	s[Interfaces] = wires
	for _, folder := range folders {
		err := filepath.WalkDir(folder, func(path string, d os.DirEntry, err error) error {
			if err == nil && path != folder {
				s[Files] = append(s[Files], path)
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return s, nil
}

// onEngine is what an engine has; which one, arguments of the client say.
func onEngine(ctx context.Context, which ...string) (Scene, error) {
	s := Scene{}
	for kind, args := range map[string][]string{
		Containers: {"ps", "--all", "--no-trunc", "--format", "{{.ID}} {{.Names}}"},
		Volumes:    {"volume", "ls", "--format", "{{.Name}}"},
		Networks:   {"network", "ls", "--no-trunc", "--format", "{{.ID}} {{.Name}}"},
	} {
		out, err := docker(ctx, slices.Concat(which, args)...)
		if err != nil {
			return nil, err
		}
		s[kind] = lines(out)
	}
	return s, nil
}

// Since is what is here and was not there before.
func (s Scene) Since(before Scene) Scene {
	left := Scene{}
	for kind, now := range s {
		for _, thing := range now {
			if !slices.Contains(before[kind], thing) {
				left[kind] = append(left[kind], thing)
			}
		}
	}
	return left
}

// Of keeps what names one of the words, and counts the others.
func (s Scene) Of(words ...string) (ours Scene, others int) {
	ours = Scene{}
	for kind, things := range s {
		for _, thing := range things {
			if slices.ContainsFunc(words, func(w string) bool { return strings.Contains(thing, w) }) {
				ours[kind] = append(ours[kind], thing)
			} else {
				others++
			}
		}
	}
	return ours, others
}

// Count of all things.
func (s Scene) Count() int {
	n := 0
	for _, things := range s {
		n += len(things)
	}
	return n
}

func (s Scene) String() string {
	var b strings.Builder
	for kind, things := range s {
		for _, thing := range things {
			fmt.Fprintf(&b, "%s: %s\n", kind, thing)
		}
	}
	return b.String()
}

// processes that are ours: a driver's or an init's, inside rooms too.
func processes() ([]string, error) {
	found, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		return nil, err
	}
	var all []string
	for _, p := range found {
		b, err := os.ReadFile(p)
		if err != nil || len(b) == 0 {
			continue // ended meanwhile, or a kernel thread
		}
		argv0, _, _ := strings.Cut(string(b), "\x00")
		if base := filepath.Base(argv0); base == "cleanroom" || base == "cleanroom-admin" || base == "cleanroom-init" || strings.HasPrefix(argv0, "/.cleanroom/") {
			all = append(all, filepath.Base(filepath.Dir(p))+" "+strings.ReplaceAll(string(b), "\x00", " "))
		}
	}
	return all, nil
}

func lines(s string) []string {
	return strings.FieldsFunc(s, func(r rune) bool { return r == '\n' })
}

// roomLine is how prepare names the room of the pool's that a job has: no label
// tells whose it is.
var roomLine = regexp.MustCompile(`Room (cr-pool-[0-9a-f]+), profile`)

// PoolRooms are the rooms of the pool's that a job had.
func (r *Rig) PoolRooms(ctx context.Context, job int64) (rooms []string, err error) {
	st, err := r.Job(ctx, job)
	if err != nil {
		return nil, err
	}
	for _, m := range roomLine.FindAllStringSubmatch(Text(st.Trace), -1) {
		rooms = append(rooms, m[1])
	}
	return rooms, nil
}

// Find is what one of docker's commands that list finds of a job.
func (r *Rig) Find(ctx context.Context, job int64, list ...string) (found []string, err error) {
	rooms, err := r.PoolRooms(ctx, job)
	if err != nil {
		return nil, err
	}
	filters := []string{fmt.Sprintf("label=cleanroom.job=%d", job)}
	for _, room := range rooms {
		filters = append(filters, "label=cleanroom.room="+room)
	}
	for _, filter := range filters {
		out, err := docker(ctx, append(list, "--quiet", "--filter", filter)...)
		if err != nil {
			return nil, err
		}
		found = append(found, lines(out)...)
	}
	return found, nil
}

// LeftOf counts the containers, volumes and networks of a job, as "0 0 0".
func (r *Rig) LeftOf(ctx context.Context, job int64) (string, error) {
	var counts []string
	for _, list := range [][]string{{"ps", "--all"}, {"volume", "ls"}, {"network", "ls"}} {
		found, err := r.Find(ctx, job, list...)
		if err != nil {
			return "", err
		}
		counts = append(counts, fmt.Sprint(len(found)))
	}
	return strings.Join(counts, " "), nil
}
