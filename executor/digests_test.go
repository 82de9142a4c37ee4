package executor

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"cleanroom/config"
	"cleanroom/executor/audit/provenance"
)

// What an upload stores is told of, hashed; of nothing else, and of nothing
// that helps to guess a secret.
func TestAttest(t *testing.T) {
	j, _ := withSecrets(t)
	j.config.Policy.Rules = append(j.config.Policy.Rules, config.Rule{Name: "fixtures", When: "true", Warn: []string{"tests/**"}})
	j.response["artifacts"] = []any{
		map[string]any{"name": "all-$NAME", "paths": []any{"dist", "tests"}},
		map[string]any{"paths": []any{"report.xml", "dist/also.xml"}, "artifact_type": "junit"},
	}
	j.variables["NAME"] = "expanded"
	j.spec()
	const success = "upload_artifacts_on_success"
	var told []Upload
	var answer error
	upload := func(stage string, files heap) error {
		t.Helper()
		script := filepath.Join(t.TempDir(), "script")
		if err := os.WriteFile(script, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		x := j.executor()
		x.Attest = func(_ context.Context, up Upload) ([]byte, error) { told = append(told, up); return nil, answer }
		if err := x.RunStage(t.Context(), script, stage); err != nil {
			t.Fatal(err)
		}
		store := j.engine.stages[len(j.engine.stages)-1].Store
		store.Choose(nil)
		return store.Check(t.Context(), files)
	}
	files := heap{
		"dist/a.whl": strings.Repeat("wheel", 100_000), "dist/also.xml": "", "report.xml": "<xml/>",
		"all-expanded-metadata.json": "the uploader's", "tests/fixture": canary + "-exec",
	}
	if err := upload(success, files); err != nil {
		t.Fatal(err)
	}
	if len(told) != 1 || told[0].Stage != success ||
		!slices.Equal(told[0].Artifacts, []provenance.Artifact{{Type: "artifact", Name: "all-$NAME"}, {Type: "junit"}}) {
		t.Fatalf("%+v", told)
	}
	got := map[string]string{}
	for _, f := range told[0].Files {
		got[f.Path] = fmt.Sprintf("%x %v", f.SHA256, f.Artifacts)
	}
	hash := func(path string) string { return fmt.Sprintf("%x", sha256.Sum256([]byte(files[path]))) }
	want := map[string]string{
		"dist/a.whl": hash("dist/a.whl") + " [0]", "dist/also.xml": hash("dist/also.xml") + " [0 1]",
		"report.xml": hash("report.xml") + " [1]", "tests/fixture": " [0]",
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
	if hidden := told[0].Hide("a " + canary + "-exec b"); hidden != "a [cleanroom: DATABASE_URL] b" {
		t.Error(hidden)
	}
	// Of a cache nobody hears, nor of what the guard refuses.
	if err := upload("archive_cache", files); len(told) != 1 || err != nil {
		t.Errorf("%v, %+v", err, told)
	}
	if err := upload(success, heap{"dist/b": canary + "-exec"}); len(told) != 1 || !errors.Is(err, ErrFound) {
		t.Errorf("%v, %+v", err, told)
	}
	answer = errors.New("not today")
	if err := upload(success, heap{"dist/b": "b"}); len(told) != 2 || !errors.Is(err, answer) || len(told[1].Files) != 1 {
		t.Errorf("%v, %+v", err, told)
	}
}
