package witness_test

import (
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"filippo.io/torchwood"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"cleanroom/executor/audit/key"
	"cleanroom/executor/audit/log"
	"cleanroom/executor/audit/proof"
	"cleanroom/executor/audit/verify"
	"cleanroom/executor/audit/witness"
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

// server is a witness of one log: it checks what the protocol wants, in the
// order it wants.
type server struct {
	mu     sync.Mutex
	log    note.Verifier
	signer *torchwood.CosignatureSigner
	seen   tlog.Tree
	lie    func(w http.ResponseWriter) bool // answers in its place
	asked  int
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked++
	if s.lie != nil && s.lie(w) {
		return
	}
	body, _ := io.ReadAll(r.Body)
	head, msg, _ := strings.Cut(string(body), "\n\n")
	lines := strings.Split(head, "\n")
	var old int64
	fmt.Sscanf(lines[0], "old %d", &old)
	n, err := note.Open([]byte(msg), note.VerifierList(s.log))
	if r.URL.Path != "/prefix/add-checkpoint" || err != nil {
		http.Error(w, "unknown log", http.StatusForbidden)
		return
	}
	cp, _ := torchwood.ParseCheckpoint(n.Text)
	if old != s.seen.N {
		w.Header().Set("Content-Type", "text/x.tlog.size")
		w.WriteHeader(http.StatusConflict)
		fmt.Fprintf(w, "%d\n", s.seen.N)
		return
	}
	var p tlog.TreeProof
	for _, line := range lines[1:] {
		h, _ := base64.StdEncoding.DecodeString(line)
		p = append(p, tlog.Hash(h))
	}
	if old > 0 && tlog.CheckTree(p, cp.N, cp.Hash, old, s.seen.Hash) != nil || old == 0 && len(p) > 0 {
		http.Error(w, "no consistency", http.StatusUnprocessableEntity)
		return
	}
	s.seen = cp.Tree
	signed, _ := note.Sign(&note.Note{Text: n.Text}, s.signer)
	_, sigs, _ := strings.Cut(string(signed), "\n\n")
	io.WriteString(w, sigs+"— stranger.example.com "+base64.StdEncoding.EncodeToString(make([]byte, 76))+"\n")
}

type fixture struct {
	*log.Log
	source key.Source
	server *server
	witness.Witness
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	signer := must(key.Create(filepath.Join(t.TempDir(), "key"), origin))(t)
	f := &fixture{source: func(string) (*key.Signer, error) { return signer, nil }}
	f.Log = must(log.Init(t.Context(), filepath.Join(t.TempDir(), "audit"), signer))(t)
	_, private, _ := ed25519.GenerateKey(nil)
	cosigner := must(torchwood.NewCosignatureSigner("witness.example.com", private))(t)
	f.server = &server{log: must(key.Public(signer.VKey()))(t), signer: cosigner}
	s := httptest.NewServer(f.server)
	t.Cleanup(s.Close)
	f.Witness = witness.Witness{URL: s.URL + "/prefix/", Public: cosigner.Verifier().String()}
	return f
}

func (f *fixture) grow(t *testing.T, n int) {
	t.Helper()
	for i := range n {
		must(f.Append(t.Context(), f.source, fmt.Appendf(nil, "%d", i)))(t)
	}
}

func TestShow(t *testing.T) {
	f := newFixture(t)
	if err := f.Show(t.Context(), f.Log); err != nil || f.server.asked != 0 {
		t.Fatalf("an empty log: %v", err)
	}
	for _, n := range []int{1, 3, 300} {
		f.grow(t, n)
		for range 2 { // there is nothing new to show the second time
			if err := f.Show(t.Context(), f.Log); err != nil {
				t.Fatal(err)
			}
		}
	}
	if f.server.asked != 3 || f.server.seen.N != 304 {
		t.Errorf("asked %d times, seen %d", f.server.asked, f.server.seen.N)
	}
	kept := must(f.Kept(f.Log))(t)
	v := must(f.Verifier())(t)
	p := must(proof.Verify(must(proof.Make(f.Log, 5, kept))(t), f.Keys().First, v))(t)
	if len(p.Witnesses) != 1 || p.Checkpoint.Size != 304 {
		t.Errorf("%+v", p)
	}
	if strings.Contains(string(kept), "stranger") {
		t.Error("a stranger's signature was kept")
	}
	r := must(verify.Log(t.Context(), f.Store().Dir, verify.Options{Known: []verify.Known{{Name: "witness", Note: kept}}}))(t)
	if r.Err() != nil || len(r.Consistent) != 1 {
		t.Errorf("%+v", r)
	}
}

// A witness that knows more of the log than we remember is asked once more.
func TestForgotten(t *testing.T) {
	f := newFixture(t)
	f.grow(t, 5)
	cp := must(f.Checkpoint())(t)
	f.server.seen = cp.Tree()
	f.grow(t, 5)
	if err := f.Show(t.Context(), f.Log); err != nil || f.server.asked != 2 || f.server.seen.N != 10 {
		t.Errorf("%v, asked %d times", err, f.server.asked)
	}
}

func TestForked(t *testing.T) {
	f := newFixture(t)
	f.grow(t, 5)
	for _, seen := range []tlog.Tree{{N: 9}, {N: 3}, {N: 5}} {
		f.server.seen = seen
		if err := f.Show(t.Context(), f.Log); !errors.Is(err, witness.ErrForked) {
			t.Errorf("%d records: %v", seen.N, err)
		}
	}
	if kept := must(f.Kept(f.Log))(t); kept != nil {
		t.Errorf("kept %q", kept)
	}
	// What we keep ourselves says so, too: of a log that was rolled back.
	before := filepath.Join(t.TempDir(), "before")
	if err := os.CopyFS(before, os.DirFS(f.Store().Dir)); err != nil {
		t.Fatal(err)
	}
	f.server.seen = tlog.Tree{}
	f.grow(t, 5)
	if err := f.Show(t.Context(), f.Log); err != nil {
		t.Fatal(err)
	}
	kept := must(f.Kept(f.Log))(t)
	names := must(filepath.Glob(filepath.Join(f.Store().Dir, "witness", "*[0-9a-f]")))(t)
	if err := os.WriteFile(filepath.Join(before, "witness", filepath.Base(names[0])), kept, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := f.Show(t.Context(), must(log.Open(before))(t)); !errors.Is(err, witness.ErrForked) {
		t.Errorf("rolled back: %v", err)
	}
}

func TestAnswers(t *testing.T) {
	f := newFixture(t)
	f.grow(t, 5)
	answer := func(status int, kind, text string) func(http.ResponseWriter) bool {
		return func(w http.ResponseWriter) bool {
			w.Header().Set("Content-Type", kind)
			w.WriteHeader(status)
			io.WriteString(w, text)
			return true
		}
	}
	sig := "— witness.example.com " + base64.StdEncoding.EncodeToString(make([]byte, 76)) + "\n"
	for name, c := range map[string]struct {
		lie  func(http.ResponseWriter) bool
		want error
	}{
		"nothing":   {answer(200, "text/plain", ""), witness.ErrAnswer},
		"junk":      {answer(200, "text/html", "<html>"), witness.ErrAnswer},
		"another's": {answer(200, "text/plain", sig), witness.ErrAnswer},
		"endless":   {answer(200, "text/plain", strings.Repeat(sig, 5000)), witness.ErrAnswer},
		"unknown":   {answer(404, "text/plain", "unknown\norigin\x1b[2J"), witness.ErrRefused},
		"down":      {answer(503, "text/plain", ""), witness.ErrAway},
		"ill":       {answer(500, "text/plain", ""), witness.ErrAway},
		"odd":       {answer(302, "text/plain", ""), witness.ErrRefused},
		"no size":   {answer(409, "text/x.tlog.size", "-5\n"), witness.ErrAnswer},
		"other sizes": {func(w http.ResponseWriter) bool {
			return answer(409, "text/x.tlog.size", fmt.Sprintln(f.server.asked%3+1))(w)
		}, witness.ErrRefused},
		"no such root": {answer(409, "text/plain", ""), witness.ErrForked},
	} {
		f.server.asked, f.server.lie = 0, c.lie
		err := f.Show(t.Context(), f.Log)
		if !errors.Is(err, c.want) || strings.ContainsAny(err.Error(), "\n\x1b") {
			t.Errorf("%s: %v", name, err)
		}
	}
	f.URL = "http://127.0.0.1:1"
	if err := f.Show(t.Context(), f.Log); !errors.Is(err, witness.ErrAway) {
		t.Error(err)
	}
	f.Public = f.Keys().First + "x"
	if err := f.Show(t.Context(), f.Log); err == nil {
		t.Error("no public key of a witness")
	}
}

// While one process waits for the witness, others do not.
func TestBusy(t *testing.T) {
	f := newFixture(t)
	f.grow(t, 1)
	inside, leave := make(chan struct{}), make(chan struct{})
	f.server.lie = func(http.ResponseWriter) bool { close(inside); <-leave; return false }
	done := make(chan error)
	go func() { done <- f.Show(t.Context(), f.Log) }()
	<-inside
	if err := f.Show(t.Context(), f.Log); !errors.Is(err, witness.ErrBusy) {
		t.Error(err)
	}
	f.grow(t, 1)
	close(leave)
	if err := <-done; err != nil {
		t.Error(err)
	}
}
