package evidence

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	formats "github.com/transparency-dev/formats/note"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
	"golang.org/x/sys/unix"

	"cleanroom/executor/audit/checkpoint"
	"cleanroom/executor/audit/key"
	"cleanroom/executor/audit/log"
	"cleanroom/executor/audit/verify"
)

const origin = "ci.example.com/cleanroom"

func must[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func newKey(t *testing.T) *key.Signer {
	return must(key.Create(filepath.Join(t.TempDir(), "key"), origin))(t)
}

// host has a log of three records, and its checkpoint after each.
type host struct {
	dir    string
	signer *key.Signer
	blocks []checkpoint.Checkpoint
}

func newHost(t *testing.T) *host {
	t.Helper()
	h := &host{dir: filepath.Join(t.TempDir(), "audit"), signer: newKey(t)}
	l := must(log.Init(t.Context(), h.dir, h.signer))(t)
	for i := range 3 {
		a := must(l.Append(t.Context(), func(string) (*key.Signer, error) { return h.signer, nil }, fmt.Appendf(nil, `{"job":%d}`, i)))(t)
		h.blocks = append(h.blocks, a.Checkpoint)
	}
	return h
}

// judge verifies the log against what was gathered.
func (h *host) judge(t *testing.T, g *Gathered) (Result, error) {
	t.Helper()
	r := must(verify.Log(t.Context(), h.dir, verify.Options{First: h.signer.VKey(), Known: g.Known()}))(t)
	return g.Judge(r), r.Err()
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(text), 0o600)); err != nil {
		t.Fatal(err)
	}
}

func same(t *testing.T, what string, got, want any) {
	t.Helper()
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%s: %v, want %v", what, got, want)
	}
}

func TestFolder(t *testing.T) {
	h, dir := newHost(t), t.TempDir()
	stranger := must(checkpoint.Sign("other.example.com/log", tlog.Tree{N: 9}, must(key.Create(filepath.Join(t.TempDir(), "key"), "other.example.com/log"))(t)))(t)
	write(t, filepath.Join(dir, "1.log"), h.blocks[0].Block()+"hello\n")
	write(t, filepath.Join(dir, "2.log"), "hello\n"+h.blocks[1].Block()+h.blocks[1].Block())
	write(t, filepath.Join(dir, "3.log"), h.blocks[1].Block())
	write(t, filepath.Join(dir, "a/4.log"), "hello\n")
	write(t, filepath.Join(dir, "a/5.log"), stranger.Block())
	write(t, filepath.Join(dir, "a/6.log"), "")
	if err := errors.Join(os.Symlink("1.log", filepath.Join(dir, "7.log")), unix.Mkfifo(filepath.Join(dir, "8.log"), 0o600)); err != nil {
		t.Fatal(err)
	}
	g := must(Sources{Dir: dir}.Gather(t.Context()))(t)
	r, err := h.judge(t, g)
	if err != nil {
		t.Fatal(err)
	}
	same(t, "read", g.Read, 6)
	same(t, "agree", r.Agree, 2)
	same(t, "others", r.Others, 1)
	same(t, "wrong", r.Wrong, []string{})
	same(t, "against", r.Against, []string{"6 job logs with 2 checkpoints, the newest of which covers 2 of its 3 records"})
	same(t, "missing", r.Missing, []string{"2 job logs could not be read"})
	same(t, "unread", g.Unread.First, []string{dir + "/7.log: it is no plain file", dir + "/8.log: it is no plain file"})
	same(t, "without", r.Without.Some(2), fmt.Sprintf("%s/a/4.log, %[1]s/a/6.log and 1 more", dir))
}

func TestFoldersThatAreNone(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	write(t, file, "")
	for _, dir := range []string{file, file + "x"} {
		if _, err := (Sources{Dir: dir}).Gather(t.Context()); err == nil {
			t.Errorf("%s is read", dir)
		}
	}
	h := newHost(t)
	if r, err := h.judge(t, must(Sources{}.Gather(t.Context()))(t)); err != nil || len(r.Missing)+len(r.Against) > 0 {
		t.Errorf("nothing was asked for: %v, %+v", err, r)
	}
	if r, err := h.judge(t, must(Sources{Dir: t.TempDir()}.Gather(t.Context()))(t)); err != nil || fmt.Sprint(r.Missing) != "[no job log was read]" {
		t.Errorf("an empty folder: %v, %+v", err, r)
	}
	dir := t.TempDir()
	write(t, filepath.Join(dir, "1.log"), "hello\n")
	if r, err := h.judge(t, must(Sources{Dir: dir}.Gather(t.Context()))(t)); err != nil || len(r.Missing) != 1 || !strings.Contains(r.Missing[0], "prove nothing") {
		t.Errorf("no checkpoint: %v, %+v", err, r)
	}
}

// prepared is how a log of ours begins, up to the block; docker how another
// executor's does.
const (
	prepared = "Running with gitlab-runner 19.4.0 (fc1f1862)\nPreparing the \"custom\" executor\nUsing Custom executor with driver cleanroom 1.0.0...\nRoom cr-1, profile hardened\n" +
		"section_start:1:cleanroom_audit[collapsed=true]\rAudit log: 9 records\n"
	docker = "Running with gitlab-runner 19.4.0 (fc1f1862)\nPreparing the \"docker\" executor\n"
)

// A log in which prepare's checkpoint is one of this log that its keys did not
// sign tells; what a job printed beside prepare's, or without it, does not,
// before it or behind it, however much that is; and where nobody knows who
// printed it, that is said.
func TestMadeAnew(t *testing.T) {
	h := newHost(t)
	forged := must(checkpoint.Sign(origin, tlog.Tree{N: 9}, newKey(t)))(t)
	again := must(checkpoint.Sign(origin, tlog.Tree{N: 8}, newKey(t)))(t)
	stranger := must(checkpoint.Sign("other.example.com/log", tlog.Tree{N: 9}, must(key.Create(filepath.Join(t.TempDir(), "key"), "other.example.com/log"))(t)))(t)
	for name, c := range map[string]struct {
		text                  string
		wrong, others, unsure int
	}{
		"made anew":          {prepared + forged.Block(), 1, 0, 0},
		"beside it":          {prepared + forged.Block() + again.Block(), 1, 1, 0},
		"another host's":     {prepared + stranger.Block() + forged.Block(), 0, 2, 0},
		"another executor's": {docker + forged.Block() + prepared + again.Block(), 0, 2, 0},
		"anybody's":          {forged.Block(), 0, 1, 1},
		"behind ours":        {h.blocks[0].Block() + forged.Block(), 0, 1, 0},
		"before ours":        {forged.Block() + h.blocks[0].Block(), 0, 1, 0}, // FF_USE_FASTZIP="x\n-----BEGIN ..."
		"many before ours":   {strings.Repeat(forged.Block(), 900) + h.blocks[0].Block(), 0, 1, 0},
		"two of anybody's":   {stranger.Block() + forged.Block() + again.Block(), 0, 3, 1},
		"and what is none":   {strings.Replace(forged.Block(), "\n9\n", "\nx\n", 1) + forged.Block(), 0, 1, 1},
	} {
		g := &Gathered{Asked: true}
		if err := g.Log("1.log", strings.NewReader(c.text)); err != nil {
			t.Fatal(err)
		}
		r, err := h.judge(t, g)
		if got := strings.Count(strings.Join(r.Missing, "\n"), "made anew with another key: look at 1.log, line "); err != nil || len(r.Wrong) != c.wrong || r.Others != c.others || got != c.unsure {
			t.Errorf("%s: %v, %+v", name, err, r)
		}
	}
	// The same one, in a log that tells and in one that does not.
	g := &Gathered{Asked: true}
	for name, text := range map[string]string{"1.log": docker + forged.Block(), "2.log": prepared + forged.Block()} {
		if err := g.Log(name, strings.NewReader(text)); err != nil {
			t.Fatal(err)
		}
	}
	if r, err := h.judge(t, g); err != nil || len(r.Wrong) != 1 || !strings.Contains(r.Wrong[0], "in 2.log, line 6, ") {
		t.Errorf("%v, %+v", err, r)
	}
}

func TestWitness(t *testing.T) {
	h := newHost(t)
	private, public, err := note.GenerateKey(rand.Reader, "witness.example.com")
	if err != nil {
		t.Fatal(err)
	}
	signer := must(formats.NewSignerForCosignatureV1(private))(t)
	v := must(formats.NewVerifierForCosignatureV1(must(formats.VKeyToCosignatureV1(public))(t)))(t)
	forged := must(checkpoint.Sign(origin, tlog.Tree{N: 9}, newKey(t)))(t)
	cosigned := func(cp checkpoint.Checkpoint) []byte {
		_, n, err := checkpoint.Open(cp.Note, nil)
		if !errors.Is(err, checkpoint.ErrNotOurs) {
			t.Fatal(err)
		}
		return must(note.Sign(&note.Note{Text: n.Text, Sigs: n.UnverifiedSigs}, signer))(t)
	}
	for _, c := range []struct {
		name           string
		msg            []byte
		against, wrong string
	}{
		{"none", nil, "", ""},
		{"signed", cosigned(h.blocks[1]), "a checkpoint of 2 of its 3 records that the witness https://w signed", ""},
		{"not by it", h.blocks[1].Note, "", "is kept as signed by witness https://w is not"},
		{"junk", []byte("junk"), "", "is kept as signed by witness https://w is not"},
		{"of another log of that name", cosigned(forged), "", "which none of the log's keys signed"},
	} {
		g := &Gathered{}
		g.Witness("https://w", v, c.msg)
		r, err := h.judge(t, g)
		if got := strings.Join(r.Wrong, "\n"); err != nil || strings.Join(r.Against, "\n") != c.against || !strings.Contains(got, c.wrong) || (got != "") != (c.wrong != "") || len(r.Missing) > 0 {
			t.Errorf("%s: %v, %+v", c.name, err, r)
		}
	}
}

// A log that is full of checkpoints, as its job wanted, is named.
func TestManyBlocks(t *testing.T) {
	h := newHost(t)
	g := &Gathered{Asked: true}
	if err := g.Log("1.log", strings.NewReader(strings.Repeat("-----BEGIN CLEANROOM CHECKPOINT-----\n-----END CLEANROOM CHECKPOINT-----\n", 1000)+h.blocks[0].Block())); !errors.Is(err, errMany) || g.Read > 0 {
		t.Errorf("%v, %+v", err, g)
	}
}

// What a server does not give is named, and what it gives counts.
func TestGitLab(t *testing.T) {
	h := newHost(t)
	list := `[{"id":9,"started_at":"2026-01-01T00:00:00Z"},{"id":8,"started_at":"2026-01-01T00:00:00Z","erased_at":"2026-01-02T00:00:00Z"},{"id":7,"started_at":"2026-01-01T00:00:00Z"},{"id":6,"started_at":"2026-01-01T00:00:00Z"}]`
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case strings.HasSuffix(r.URL.Path, "/9/trace"):
			w.WriteHeader(http.StatusForbidden)
		case strings.HasSuffix(r.URL.Path, "/7/trace"):
			io.WriteString(w, h.blocks[2].Block())
		case strings.HasSuffix(r.URL.Path, "/6/trace"):
		case r.URL.Query().Get("page") == "2":
			w.WriteHeader(http.StatusNotFound)
		case strings.HasSuffix(r.URL.Path, "/jobs"):
			w.Header().Set("X-Next-Page", "2")
			io.WriteString(w, list)
		}
	}))
	defer s.Close()
	t.Setenv("GITLAB_TOKEN", "glpat-canary-value")
	g := must(Sources{GitLab: s.URL, Project: "shop/items", Since: time.Hour}.Gather(t.Context()))(t)
	r, err := h.judge(t, g)
	if err != nil {
		t.Fatal(err)
	}
	same(t, "read", g.Read, 2)
	same(t, "agree", r.Agree, 1)
	same(t, "without", r.Without.First, []string{"the log of job 6"})
	if u := g.Unread; u.Total != 2 || !strings.Contains(u.First[0], "the log of job 9: no log: ") || !strings.Contains(u.First[1], "the log of job 8: no log: it was erased at 2026-01-02") {
		t.Errorf("%q", u.First)
	}
	if len(r.Missing) != 2 || !strings.Contains(r.Missing[1], "the jobs could not be gone through to the end: ") || !strings.Contains(r.Missing[1], "404") {
		t.Errorf("%q", r.Missing)
	}
	for _, bad := range []Sources{{GitLab: s.URL}, {GitLab: s.URL, Project: "a", Runner: 1}, {GitLab: "http://gitlab.example.com", Project: "a"}, {GitLab: s.URL, Project: "a", TokenFile: "/none"}} {
		if _, err := bad.Gather(t.Context()); err == nil {
			t.Errorf("%+v", bad)
		}
	}
}

// Nobody's list of names grows without end.
func TestNames(t *testing.T) {
	var n Names
	for i := range 1000 {
		n.add(fmt.Sprint(i))
	}
	if len(n.First) != maxNames || n.Total != 1000 || n.Some(3) != "0, 1, 2 and 997 more" || (Names{}).Some(3) != "" {
		t.Errorf("%+v", n)
	}
}
