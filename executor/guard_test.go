package executor

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"

	"cleanroom/config"
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

type nopCloser struct{}

func (nopCloser) Close() error { return nil }

// storing is a stage of a job that stores files.
func storing(t *testing.T, j *job, stage string, files heap) error {
	t.Helper()
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
	if code := ExitCode(j.executor().Call, ErrFound); code != 55 {
		t.Errorf("a finding ends with %d", code)
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
		for range maxMasks {
			many = s.Mask(minted)
		}
	}
	j.stage("after_script")
	if many == nil {
		t.Error("there is no bound")
	}
	if err := storing(t, j, "archive_cache", heap{"a": minted}); !errors.Is(err, ErrFound) {
		t.Errorf("in a file: %v", err)
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
