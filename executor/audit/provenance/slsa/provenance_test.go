package slsa

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"cleanroom/executor/audit/provenance"
	"cleanroom/executor/identity"
)

var update = flag.Bool("update", false, "write the golden file anew")

const canary = "tr0ub4dorandthree"

func hide(s string) string { return strings.ReplaceAll(s, canary, "[cleanroom: CANARY]") }

// garden is a job; hidden stands wherever its author could put a text.
func garden(hidden string) provenance.Job {
	const response = "job response (git_info.ref)"
	return provenance.Job{
		Facts: identity.Facts{
			"job_id": {Value: int64(9007199254740993), Source: "job response (id)"}, // more than JSON's numbers can hold
			"sha":    {Value: strings.Repeat("a1", 20), Source: response},
			"ref":    {Value: "feature/<" + hidden + ">", Source: response + ", ID token " + hidden}, "ref_protected": {Value: true, Source: response},
			"job_name": {Value: "build \"größe\" " + hidden, Source: response},
		},
		Repository: "https://gitlab-ci-token:glcbt-job-token@gitlab.example.com:8443/garden/shed.git?" + hidden,
		Images: []provenance.Image{
			{Role: "helper", ID: "sha256:" + strings.Repeat("0b", 32)},
			{Role: "job", Digest: "docker.io/library/golang@sha256:" + strings.Repeat("0c", 32), ID: "sha256:" + strings.Repeat("0d", 32)},
			{Role: "service", Digest: "registry.example.com/" + hidden + "@sha256:" + strings.Repeat("0e", 32)},
		},
		Artifacts: []provenance.Artifact{{Type: "artifact", Name: "shed-$CI_JOB_ID " + hidden}, {Type: "junit"}},
		Stage:     "upload_artifacts_on_success", Profile: "hardened",
		Builder: "https://ci.example.com/cleanroom", Version: "0.5.0",
		Started: time.Date(2026, 10, 1, 8, 0, 0, 999, time.UTC), Finished: time.Date(2026, 10, 1, 8, 3, 7, 0, time.FixedZone("", 7200)),
	}
}

// files have their path for their content.
func files(paths ...string) (all []provenance.File) {
	for _, path := range paths {
		sum := sha256.Sum256([]byte(path))
		all = append(all, provenance.File{Path: path, SHA256: sum[:], Artifacts: []int{0}})
	}
	return all
}

func some() []provenance.File {
	all := files("dist/shed.whl", "dist/100%", "a\xff%", "b\nc", "dist/"+canary)
	all[0].Artifacts = []int{0, 1}
	all[1].Artifacts = nil
	return append(all, provenance.File{Path: "tests/fixture", Artifacts: []int{0}})
}

func statement(t testing.TB, job provenance.Job, files []provenance.File) []byte {
	t.Helper()
	s, err := New(job, files, hide)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func signer(fill byte) (ed25519.PublicKey, Key) {
	private := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{fill}, ed25519.SeedSize))
	return private.Public().(ed25519.PublicKey), Key{private}
}

// The golden file is what a reader of the format goes by.
func TestStatement(t *testing.T) {
	job := garden(canary)
	got := statement(t, job, some())
	for range 20 { // of random order and random spaces
		again := some()
		slices.Reverse(again)
		if !bytes.Equal(got, statement(t, job, again)) {
			t.Fatal("two statements of the same differ")
		}
	}
	for _, secret := range []string{canary, "glcbt", "gitlab-ci-token"} {
		if bytes.Contains(got, []byte(secret)) {
			t.Errorf("%s is in it", secret)
		}
	}
	if withheld := sha256.Sum256([]byte("tests/fixture")); bytes.Contains(got, []byte(hex.EncodeToString(withheld[:]))) {
		t.Error("what was withheld is in it")
	}
	var pretty bytes.Buffer
	if err := json.Indent(&pretty, append(got, '\n'), "", "  "); err != nil {
		t.Fatal(err)
	}
	const golden = "testdata/statement.json"
	if *update {
		if err := os.WriteFile(golden, pretty.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if want, err := os.ReadFile(golden); err != nil || !bytes.Equal(want, pretty.Bytes()) {
		t.Errorf("%v, the statement is\n%s", err, &pretty)
	}
}

func TestRefused(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*provenance.Job)
		files  []provenance.File
		want   error
	}{
		"no file":             {func(*provenance.Job) {}, nil, provenance.ErrNoSubject},
		"only withheld":       {func(*provenance.Job) {}, []provenance.File{{Path: "a"}}, provenance.ErrNoSubject},
		"no builder":          {func(j *provenance.Job) { j.Builder = "" }, files("a"), provenance.ErrJob},
		"builder is no URI":   {func(j *provenance.Job) { j.Builder = "runner 7" }, files("a"), provenance.ErrJob},
		"no repository":       {func(j *provenance.Job) { j.Repository = "" }, files("a"), provenance.ErrJob},
		"odd repository":      {func(j *provenance.Job) { j.Repository = "https://u:" + canary + "@%zz/" }, files("a"), provenance.ErrJob},
		"no commit":           {func(j *provenance.Job) { delete(j.Facts, "sha") }, files("a"), provenance.ErrJob},
		"commit is no hash":   {func(j *provenance.Job) { j.Facts["sha"] = identity.Fact{Value: strings.Repeat("x", 40)} }, files("a"), provenance.ErrJob},
		"no job":              {func(j *provenance.Job) { delete(j.Facts, "job_id") }, files("a"), provenance.ErrJob},
		"image of no digest":  {func(j *provenance.Job) { j.Images[0].ID = "" }, files("a"), provenance.ErrJob},
		"image of a bad one":  {func(j *provenance.Job) { j.Images[0].ID = "sha256:1234" }, files("a"), provenance.ErrJob},
		"more than its bound": {func(j *provenance.Job) { j.Artifacts[0].Name = strings.Repeat("n", provenance.MaxStatement) }, files("a"), provenance.ErrJob},
	} {
		job := garden("")
		test.change(&job)
		_, err := New(job, test.files, hide)
		if !errors.Is(err, test.want) || strings.Contains(err.Error(), canary) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v", name, err)
		}
	}
	job := garden("")
	job.Facts["sha"] = identity.Fact{Value: strings.Repeat("b2", 32)}
	if s := statement(t, job, files("a")); !bytes.Contains(s, []byte(`"gitCommitSha256":"b2b2`)) {
		t.Errorf("%s", s)
	}
}

// From MaxSubjects on the digest is that of what GNU's tools print of the files.
func TestLists(t *testing.T) {
	dir := t.TempDir()
	paths := []string{"new\nline", `back\slash`, "carriage\rreturn", "bad\xffname", "ß", "Z", "a b", "a", "sub/deep/x", "sub-x"}
	for i := range MaxSubjects {
		paths = append(paths, fmt.Sprintf("many/%d", i))
	}
	for _, path := range paths {
		file := filepath.Join(dir, path)
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte(path), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	all := files(paths...)
	other := files("report.xml", "loose")
	other[0].Artifacts, other[1].Artifacts = []int{1}, nil
	s := statement(t, garden(""), append(all, other...))

	cmd := exec.Command("sh", "-c", `find . -type f -printf '%P\0' | LC_ALL=C sort -z | xargs -0 sha256sum`)
	cmd.Dir = dir
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	lines := func(s string) string { return fmt.Sprintf("%x", sha256.Sum256([]byte(s))) }
	want := fmt.Sprintf("files of artifact shed-$CI_JOB_ID  %s %d [artifact shed-$CI_JOB_ID ]; files of junit %s 1 [junit]; files %s 1 []; ",
		lines(string(out)), len(paths), lines(lines("report.xml")+"  report.xml\n"), lines(lines("loose")+"  loose\n"))
	var read struct {
		Subject []struct {
			Name        string
			Digest      struct{ SHA256 string }
			Annotations struct {
				List      string
				Files     int
				Artifacts []string
			}
		}
	}
	if err := json.Unmarshal(s, &read); err != nil {
		t.Fatal(err)
	}
	got := ""
	for _, one := range read.Subject {
		got += fmt.Sprintf("%s %s %d %s; ", one.Name, one.Digest.SHA256, one.Annotations.Files, one.Annotations.Artifacts)
	}
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	// At the bound they are files still; of few with long names there is a list.
	if n := bytes.Count(statement(t, garden(""), all[:MaxSubjects]), []byte(`"list"`)); n != 0 {
		t.Error("a list at the bound")
	}
	var long []string
	for i := range 200 {
		long = append(long, fmt.Sprint(i, strings.Repeat("\xff", 4000)))
	}
	if s := statement(t, garden(""), files(long...)); len(s) > 10_000 {
		t.Errorf("a statement of %d bytes", len(s))
	}
}

func TestEnvelope(t *testing.T) {
	public, private := signer(1)
	other, stranger := signer(2)
	s := statement(t, garden(""), files("a"))
	line, err := Seal(t.Context(), s, public, private)
	if err != nil {
		t.Fatal(err)
	}
	if again, _ := Seal(t.Context(), s, public, private); !bytes.Equal(line, again) || bytes.Count(line, []byte("\n")) != 1 || line[len(line)-1] != '\n' {
		t.Errorf("%s", line)
	}
	// By the letter of DSSE's protocol.md, without its library.
	var e struct {
		Payload    []byte
		Signatures []struct{ Sig []byte }
	}
	if err := json.Unmarshal(line, &e); err != nil || len(e.Signatures) != 1 || !bytes.Equal(e.Payload, s) ||
		!ed25519.Verify(public, fmt.Appendf(nil, "DSSEv1 28 application/vnd.in-toto+json %d %s", len(s), s), e.Signatures[0].Sig) {
		t.Errorf("%v: %s", err, line)
	}
	if got, err := Verify(line, other, public); err != nil || len(got.Subject) != 1 || got.Subject[0].Name != "a" || JobOf(got) != "9007199254740993" {
		t.Errorf("%v, %v", got, err)
	}
	if got := JobOf(nil); got != "" {
		t.Error(got)
	}
	if _, err := Seal(t.Context(), s, public, stranger); !errors.Is(err, ErrSignature) {
		t.Errorf("signed with another key: %v", err)
	}
	if _, err := Seal(t.Context(), s, public, Key{failing{private.Signer}}); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("a signer that fails: %v", err)
	}
	sealed := func(statement string) []byte {
		// Signed all right, but Seal would not give it out.
		return forge(t, private, PayloadType, statement)
	}
	text := string(s)
	change := func(from, to string) string {
		changed := strings.Replace(text, from, to, 1)
		if changed == text {
			t.Fatalf("there is no %s", from)
		}
		return changed
	}
	for name, test := range map[string]struct {
		line []byte
		keys []ed25519.PublicKey
		want error
	}{
		"another key":        {line, []ed25519.PublicKey{other}, ErrSignature},
		"no key":             {line, nil, ErrSignature},
		"a cut key":          {line, []ed25519.PublicKey{public[:31]}, ErrSignature},
		"nothing":            {nil, []ed25519.PublicKey{public}, ErrEnvelope},
		"too long":           {append(bytes.Clone(line), make([]byte, provenance.MaxEnvelope)...), []ed25519.PublicKey{public}, ErrEnvelope},
		"two signatures":     {bytes.Replace(line, []byte(`"signatures":[`), []byte(`"signatures":[{"keyid":"","sig":""},`), 1), []ed25519.PublicKey{public}, ErrEnvelope},
		"another type":       {forge(t, private, "text/plain", text), []ed25519.PublicKey{public}, ErrEnvelope},
		"another predicate":  {sealed(change(PredicateType, "https://slsa.dev/provenance/v2")), []ed25519.PublicKey{public}, ErrEnvelope},
		"another statement":  {sealed(change("in-toto.io/Statement/v1", "in-toto.io/Statement/v2")), []ed25519.PublicKey{public}, ErrEnvelope},
		"no JSON inside":     {sealed("{"), []ed25519.PublicKey{public}, ErrEnvelope},
		"a changed envelope": {flip(line), []ed25519.PublicKey{public}, ErrSignature},
	} {
		if _, err := Verify(test.line, test.keys...); !errors.Is(err, test.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// flip changes a byte of the payload.
func flip(line []byte) []byte {
	changed := bytes.Clone(line)
	at := bytes.Index(changed, []byte(`"payload":"`)) + 100
	changed[at] ^= 'A' ^ 'B'
	if bytes.Equal(changed, line) {
		panic("nothing was changed")
	}
	return changed
}

func BenchmarkNew(b *testing.B) {
	for _, n := range []int{10, MaxSubjects, 100_000} {
		var paths []string
		for i := range n {
			paths = append(paths, fmt.Sprintf("node_modules/package-%d/lib/index.js", i))
		}
		all := files(paths...)
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			b.ReportAllocs()
			size := 0
			for b.Loop() {
				size = len(statement(b, garden(""), all))
			}
			b.ReportMetric(float64(size), "bytes")
		})
	}
}
