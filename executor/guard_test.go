package executor

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"strings"
	"testing"

	"cleanroom/config"
	"cleanroom/executor/secret"
	"cleanroom/sandbox"
)

// heap are files as a room would have them.
type heap map[string]string

func (h heap) Entries() (all []sandbox.Entry) {
	for path, text := range h {
		all = append(all, sandbox.Entry{Path: path, Size: int64(len(text))})
	}
	return all
}

func (h heap) Note() string { return "" }

func (h heap) Open(_ context.Context, e sandbox.Entry) (sandbox.OpenFile, error) {
	return struct {
		*bytes.Reader
		nopCloser
	}{Reader: bytes.NewReader([]byte(h[e.Path]))}, nil
}

func (h heap) Copy(_ context.Context, e sandbox.Entry, w io.Writer) error {
	_, err := io.WriteString(w, h[e.Path])
	return err
}

type nopCloser struct{}

func (nopCloser) Close() error { return nil }

// storing is a stage of a job that stores files.
func storing(t *testing.T, j *job, stage string, files heap) error {
	t.Helper()
	j.engine.during = nil
	s := j.stage(stage)
	if s.Store == nil || s.Role != sandbox.Helper || s.Store.Dir != "/builds/garden/shed" || s.Store.EnvFile != "/builds/garden/shed.tmp/gitlab_runner_env" {
		t.Fatalf("stage %s is not guarded: %+v", stage, s.Store)
	}
	if sets, _ := s.Store.Choose(nil); len(sets) == 0 {
		t.Fatalf("stage %s has nothing to search", stage)
	}
	return s.Store.Check(t.Context(), files)
}

func TestGuard(t *testing.T) {
	j, _ := withSecrets(t)
	j.config.Policy.Rules = append(j.config.Policy.Rules,
		config.Rule{Name: "fixtures", When: "true", Warn: []string{"tests/**"}}, config.Rule{Name: "never", When: "false", Warn: []string{"**"}})
	j.response["variables"] = append(j.response["variables"].([]any), map[string]any{"key": "MASKED", "value": "masked-value-4711", "masked": true})
	j.variables["MASKED"] = "masked-value-4711"
	j.spec()
	for _, test := range []struct {
		files heap
		found string
	}{
		{heap{"a": "nothing", "b/c": ""}, ""},
		{heap{"a": "nothing", "b/c": "key=" + canary + "-exec"}, "b/c, byte 4: secret DATABASE_URL"},
		{heap{"a": "<" + canary + "-file>"}, "a, byte 1: secret API_KEY"},
		{heap{"a": "masked-value-4711"}, "a, byte 0: secret MASKED"},
		{heap{"tests/a/b": canary + "-exec"}, ""},
	} {
		for _, stage := range []string{"upload_artifacts_on_success", "archive_cache"} {
			j.out.Reset()
			err := storing(t, j, stage, test.files)
			switch {
			case test.found == "" && err != nil:
				t.Errorf("%v: %v", test.files, err)
			case test.found != "" && (!errors.Is(err, ErrFound) || !strings.Contains(j.out.String(), "Guard: "+test.found)):
				t.Errorf("%v: %v\n%s", test.files, err, j.out.String())
			}
			if strings.Contains(j.out.String(), canary) || strings.Contains(j.log.String(), canary) {
				t.Errorf("the value is in a log:\n%s%s", j.out.String(), j.log.String())
			}
		}
	}
	if !strings.Contains(j.out.String(), "Warning: tests/a/b, byte 0: secret DATABASE_URL (rule fixtures lets it be stored)") {
		t.Error(j.out.String())
	}
	for _, err := range []error{ErrFound, ErrUnsearched, sandbox.ErrChanged} {
		if code := ExitCode(j.executor().Call, err); code != 55 {
			t.Errorf("%v ends with %d", err, code)
		}
	}
}

// What a job masks is hidden at once, in its later stages, and in files.
func TestMask(t *testing.T) {
	j, _ := withSecrets(t)
	j.spec()
	const minted, added = "minted-while-it-ran", "added-by-a-line"
	var short, many error
	j.engine.during = func(s sandbox.Stage) {
		if err := s.Mask(minted); err != nil {
			t.Error(err)
		}
		short = s.Mask("short")
		s.Output.Write([]byte("now " + minted + "\n::add-mask::" + added + "\nand " + added + "\n"))
	}
	j.stage("build_script")
	if short == nil || !strings.Contains(short.Error(), "8 bytes") {
		t.Errorf("a short value: %v", short)
	}
	j.engine.during = func(s sandbox.Stage) {
		s.Output.Write([]byte("later " + minted + " " + added + "\n"))
		again := s.Mask(minted)
		many = s.Mask(strings.Repeat("many", maxMasked/4))
		s.Output.Write([]byte("::add-mask::" + strings.Repeat("line", 15<<10) + "\n"))
		if again != nil {
			t.Error(again)
		}
	}
	j.stage("after_script")
	if many == nil || !strings.Contains(many.Error(), "256 KiB") {
		t.Errorf("there is no bound: %v", many)
	}
	if err := storing(t, j, "archive_cache", heap{"a": minted}); !errors.Is(err, ErrFound) {
		t.Errorf("in a file: %v", err)
	}
	// What cannot be kept for later stages is said.
	for i := range 4 {
		j.engine.during = func(s sandbox.Stage) {
			s.Output.Write([]byte("::add-mask::" + strings.Repeat(string(rune('a'+i)), 60<<10) + "\n"))
		}
		j.stage("step_more")
	}
	if !strings.Contains(j.out.String(), "Warning: 1 values of add-mask lines were hidden in this stage only") || !strings.Contains(j.log.String(), "not kept for its later stages") {
		t.Error("a mask was lost without a word")
	}
	j.engine.during = func(s sandbox.Stage) {
		if err := s.Mask("of the helper's"); err == nil {
			t.Error("the runner's own stage masked a value")
		}
		s.Output.Write([]byte("::add-mask::not heeded\nhelper says not heeded\n"))
	}
	j.stage("get_sources")
	out := j.out.String()
	for _, want := range []string{"now [cleanroom: cleanroom-mask]\n", "and [cleanroom: add-mask]\n", "later [cleanroom: cleanroom-mask] [cleanroom: add-mask]\n", "helper says not heeded\n"} {
		if !strings.Contains(out, want) {
			t.Errorf("the log does not say %q:\n%s", want, out)
		}
	}
	unseen(t, j)
	if strings.Contains(out, minted) || strings.Contains(out, added) {
		t.Error(out)
	}
}

// A masked variable and the job's token are hidden, whatever else the job has.
func TestMaskedVariables(t *testing.T) {
	j := newJob(t, "19.3")
	j.response["variables"] = append(j.response["variables"].([]any), map[string]any{"key": "MASKED", "value": "masked-value-4711", "masked": true},
		map[string]any{"key": "BLANK", "value": "        ", "masked": true}, map[string]any{"key": "TINY", "value": "abc", "masked": true})
	j.variables["MASKED"], j.variables["BLANK"], j.variables["TINY"] = "masked-value-4711", "        ", "abc"
	j.engine.prints = "see masked-value-4711 and abc, " + j.response["token"].(string) + "\n"
	for _, stage := range []string{"build_script", "get_sources"} {
		j.out.Reset()
		j.stage(stage)
		if got := j.out.String(); got != "see [cleanroom: MASKED] and abc, [cleanroom: CI_JOB_TOKEN]\n" {
			t.Errorf("%s: %q", stage, got)
		}
	}
}

// What is stored besides files' content: the name of the artifact, and what a
// raw one is read through.
func TestGuardOfNames(t *testing.T) {
	j, _ := withSecrets(t)
	j.response["artifacts"] = []any{map[string]any{"name": "$NAME", "paths": []any{"report.json"}, "artifact_format": "raw", "artifact_type": "sast"}}
	j.spec()
	s := j.stage("upload_artifacts_on_success")
	s.Store.Choose([]byte("NAME=build-" + canary + "-exec\n"))
	if err := s.Store.Check(t.Context(), heap{}); !errors.Is(err, ErrFound) || !strings.Contains(j.out.String(), "the name of the sast, byte 6: secret DATABASE_URL") {
		t.Errorf("%v\n%s", err, &j.out)
	}
	s.Store.Choose(nil)
	if err := s.Store.Check(t.Context(), links{"report.json"}); !errors.Is(err, ErrUnsearched) || !strings.Contains(j.out.String(), "report.json: not searched: it is a link") {
		t.Errorf("%v\n%s", err, &j.out)
	}
}

// links are files of which one is a link.
type links struct{ path string }

func (l links) Entries() []sandbox.Entry {
	return []sandbox.Entry{{Path: l.path, Mode: fs.ModeSymlink, Target: "../elsewhere"}}
}
func (links) Note() string { return "" }
func (links) Open(context.Context, sandbox.Entry) (sandbox.OpenFile, error) {
	return nil, errors.New("opened")
}
func (links) Copy(context.Context, sandbox.Entry, io.Writer) error { return errors.New("copied") }

// A value is as long as what of it counts in a log.
func TestShortValues(t *testing.T) {
	for value, refused := range map[string]bool{"pin 42 xy": true, "\t\t\t\t\t\t\t\tab": true, "\x1b]0binary-key": false, "eight-08": false} {
		j, _ := withSecrets(t)
		if err := os.WriteFile(j.config.Providers[0].Files.Dir+"/SHORT", []byte(value), 0o400); err != nil {
			t.Fatal(err)
		}
		j.config.Secrets = append(j.config.Secrets, config.Secret{Name: "SHORT", Provider: "folder", Path: "SHORT", Deliver: []config.Deliver{{As: "file", Variable: "SHORT", File: "short"}}})
		j.config.Policy.Rules[0].Secrets = []string{"SHORT"}
		j.variables[SecretsVariable] = "SHORT"
		err := j.executor().PrepareStage(t.Context())
		if refused != (err != nil) || refused && (!errors.Is(err, secret.ErrRefused) || !strings.Contains(err.Error(), "too few to be hidden")) {
			t.Errorf("%q: %v", value, err)
		}
		if refused {
			continue
		}
		j.engine.prints = "see " + value + "\n"
		if j.out.Reset(); !strings.Contains(func() string { j.stage("build_script"); return j.out.String() }(), "[cleanroom: SHORT]") || strings.Contains(j.out.String(), value[1:]) {
			t.Errorf("%q: %q", value, &j.out)
		}
	}
}

// The fields that a value was made of are hidden too, if they are secret; one
// that is too short refuses the job.
func TestFieldsOfAValue(t *testing.T) {
	for _, test := range []struct {
		fields, value string
		public        []string
		log, refused  string
	}{
		{`"username":"v-user-name","password":"hunt2rseven","host":"db.example.com","spare":"x"`, "pg://{{.username}}:{{.password}}@{{.host}}", nil,
			"[cleanroom: DATABASE_URL] v-user-name [cleanroom: DATABASE_URL] db.example.com", ""},
		{`"username":"v-user-name","password":"hunt2r7","host":"h"`, "pg://{{.username}}:{{.password}}@{{.host}}", nil, "", "the field password has 7 bytes"},
		{`"username":"v-user-name","password":"hunt2rseven","host":"db.example.com","shard":"s1"`, "pg://{{.username}}:{{.password}}@{{.host}}/{{.shard}}", []string{"shard"},
			"[cleanroom: DATABASE_URL] v-user-name [cleanroom: DATABASE_URL] db.example.com", ""},
	} {
		j, _ := withSecrets(t)
		issue := j.config.Providers[1].Exec.Command[0]
		if err := os.WriteFile(issue, []byte("#!/bin/sh\necho '{\"fields\":{"+test.fields+"}}'\n"), 0o700); err != nil {
			t.Fatal(err)
		}
		j.config.Secrets[1].Public, j.config.Secrets[1].Deliver[0].Value = test.public, test.value
		j.variables[SecretsVariable] = "DATABASE_URL"
		err := j.executor().PrepareStage(t.Context())
		if test.refused != "" {
			if !errors.Is(err, secret.ErrRefused) || !strings.Contains(err.Error(), test.refused) || !strings.Contains(err.Error(), "`public`") {
				t.Errorf("%s: %v", test.fields, err)
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		url := "pg://v-user-name:hunt2rseven@db.example.com"
		if len(test.public) > 0 {
			url += "/s1"
		}
		j.engine.prints = url + " v-user-name hunt2rseven db.example.com"
		j.out.Reset()
		if j.stage("build_script"); j.out.String() != test.log {
			t.Errorf("%s: %s", test.fields, &j.out)
		}
	}
}
