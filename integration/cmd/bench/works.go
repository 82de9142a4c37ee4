package main

import (
	"fmt"
	"os"
	"path/filepath"

	"cleanroom/integration/gitlab"
	"cleanroom/integration/gitlab/ciyaml"
)

// Projects of every stand-in.
const (
	sampleProject = "shop/items"
	treeProject   = "bench/tree"
)

// work is a job to measure.
type work struct {
	name, title string
	spec        gitlab.JobSpec
	// noShell tells why the shell executor cannot run it; empty when it can.
	noShell string
	trace   int // bytes that its log must have at least
}

// set is what all lanes run.
type set struct {
	works []work
	tree  string // folder of treeProject
}

var busybox = &gitlab.Image{Name: "cleanroom/busybox"}

func workNames() []string { return []string{"true", "clone", "fastapi", "artifacts", "log"} }

// prepare makes the jobs, smaller ones if it has to be quick.
func prepare(dir string, quick bool) (s set, err error) {
	files, log := 500, 100<<20
	if quick {
		files, log = 50, 4<<20
	}
	s.tree = filepath.Join(dir, "tree")
	size, err := makeTree(s.tree, files)
	if err != nil {
		return s, err
	}
	fastapi, err := sampleJob("test")
	if err != nil {
		return s, err
	}
	names := workNames()
	s.works = []work{
		{name: names[0], title: "`true`, without a repository",
			spec: gitlab.JobSpec{Image: busybox, Script: []string{"true"}}},
		{name: names[1], title: fmt.Sprintf("`true`, after a git clone of %d files, %.1f MB", files, float64(size)/1e6),
			spec: gitlab.JobSpec{Image: busybox, Project: treeProject, Script: []string{"test -f 00/000.txt"}}},
		{name: names[2], title: "The sample's FastAPI tests with their PostgreSQL service, clone, cache, artifacts and report",
			spec: fastapi, noShell: "it has neither images nor services"},
		{name: names[3], title: "A cache of 400 files, 6 MB, that changes each time, and artifacts of 50 files, 4 MB",
			spec: gitlab.JobSpec{Image: busybox, Script: keeps,
				Cache:     []gitlab.Cache{{Key: "bench", Policy: "pull-push", Paths: []string{".cache/"}, When: "on_success"}},
				Artifacts: []gitlab.Artifact{{Name: "out", Paths: []string{"out/"}, When: "on_success", Type: "archive", Format: "zip"}}}},
		{name: names[4], title: fmt.Sprintf("%d MiB of log, in lines of 100 bytes, by the programs that the shell executor has, too", log>>20),
			spec: gitlab.JobSpec{Image: &gitlab.Image{Name: "cleanroom/fastapi"}, Script: []string{fmt.Sprintf("(yes '%s' || true) | head -c %d", logLine, log)}}, trace: log},
	}
	for i := range s.works {
		s.works[i].spec.Name = s.works[i].name
	}
	return s, nil
}

// keeps makes what is cached where nothing was restored, and artifacts: half of
// it text, half of it of the kind that no packing makes smaller.
var keeps = []string{
	"if [ ! -d .cache ]; then mkdir .cache; for i in $(seq 400); do " +
		"{ seq $i 1700; head -c 7500 /dev/urandom; } > .cache/$i; done; fi",
	"date > .cache/stamp",
	"mkdir -p out",
	"for i in $(seq 50); do { seq $i 7000; head -c 40000 /dev/urandom; } > out/$i; done",
}

// logLine is as pytest prints it: 99 bytes, and the end of the line.
const logLine = "tests/test_items.py::test_an_item_is_listed_for_its_owner[postgresql-17] PASSED              [ 42%]"

// sampleJob is a job of the sample's own pipeline.
func sampleJob(name string) (spec gitlab.JobSpec, err error) {
	text, err := os.ReadFile("sample/.gitlab-ci.yml")
	if err != nil {
		return spec, err
	}
	planned, err := ciyaml.Parse(text, ciyaml.Context{Protected: true})
	if err != nil {
		return spec, err
	}
	for _, p := range planned {
		if p.Spec.Name == name {
			p.Spec.Project = sampleProject
			return p.Spec, nil
		}
	}
	return spec, fmt.Errorf("the sample has no job %s", name)
}
