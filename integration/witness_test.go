package integration

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"cleanroom/integration/gitlab"
	"cleanroom/integration/gitlab/job"
	"cleanroom/integration/rig"
)

// startWitness starts one for one test.
func startWitness(t *testing.T) *rig.Witness {
	t.Helper()
	w, err := rig.StartWitness(t.Context())
	must(t, err)
	t.Cleanup(func() { must(t, w.Stop()) })
	return w
}

// shownTo is the configuration of a witness.
func shownTo(url, key string) string {
	return fmt.Sprintf("[[audit.witness]]\nurl = %q\npublic_key = %q\n", url, key)
}

// witnessed is a site whose log is shown to witnesses.
type witnessed struct {
	*site
	key string // the log's first
	dir string // the log's
	n   int
}

func showing(t *testing.T, witnesses string) *witnessed {
	t.Helper()
	s, key := audited(t, storeConfig+witnesses)
	return &witnessed{site: s, key: key, dir: filepath.Join(s.runner.DataDir(), "audit", "log")}
}

// grows adds records to the log.
func (s *witnessed) grows() {
	s.t.Helper()
	s.n++
	s.cleanroom("secret", "set", fmt.Sprintf("made-%d", s.n), "--generator", "random", "--length", "32")
}

// good is a job that must go well.
func (s *witnessed) good() string {
	s.t.Helper()
	r := s.run(gitlab.JobSpec{Project: project, Script: []string{"true"}})
	r.is(s.t, job.Success, "", 0)
	return fmt.Sprint(r.ID)
}

// cosigned says by whom a job's proof was cosigned, by what an auditor verifies.
func (s *witnessed) cosigned(id string) (by int) {
	s.t.Helper()
	bundle := filepath.Join(s.t.TempDir(), "job.proof")
	s.cleanroom("audit", "prove", id, "--out", bundle)
	return strings.Count(s.cleanroom("audit", "verify", "--bundle", bundle, "--key", s.key), "cosigned by witness.test/cleanroom")
}

// restore puts a folder back to what it was at the time of its copy.
func restore(t *testing.T, dir, from string) {
	t.Helper()
	must(t, os.RemoveAll(dir))
	must(t, os.CopyFS(dir, os.DirFS(from)))
}

func copied(t *testing.T, dir string) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "copy")
	must(t, os.CopyFS(to, os.DirFS(dir)))
	return to
}

// TestWitness shows the log to a real witness, which learns of it late, is
// away, hangs, and has a second key.
func TestWitness(t *testing.T) {
	w, other := startWitness(t), startWitness(t)
	s := showing(t, shownTo(w.URL, w.Key)+shownTo(other.URL, other.MLDSA))
	must(t, other.Up(t.Context(), s.key))

	first := s.good()
	s.refused("tell its operator the log's key "+s.key+": 404 Not Found", "reap")
	if n := s.cosigned(first); n != 1 {
		t.Errorf("cosigned by %d witnesses, the other one knows the log", n)
	}

	w.Down()
	s.refused("the witness does not answer", "reap")
	// One that hangs: nothing that a job waits for asks it, and it is not in the others' way.
	hung, err := net.Listen("tcp", strings.TrimPrefix(w.URL, "http://"))
	must(t, err)
	var asked atomic.Int32
	go func() {
		for {
			if _, err := hung.Accept(); err != nil {
				return
			}
			asked.Add(1)
		}
	}()
	second := s.good()
	if n := asked.Load(); n != 0 {
		t.Errorf("a job asked the witness %d times", n)
	}
	s.refused("the witness does not answer", "reap")
	if n := s.cosigned(second); n != 1 || asked.Load() == 0 {
		t.Errorf("cosigned by %d witnesses, the other one was there; the one that hangs was asked %d times", n, asked.Load())
	}
	must(t, hung.Close())

	// What it has missed it gets in one.
	must(t, w.Up(t.Context(), s.key))
	s.cleanroom("reap")
	for _, kept := range []string{first, second} {
		if n := s.cosigned(kept); n != 1 { // a proof has one checkpoint
			t.Errorf("job %s: cosigned by %d witnesses", kept, n)
		}
	}
	if kept, err := filepath.Glob(filepath.Join(s.dir, "witness", "*[0-9a-f]")); err != nil || len(kept) != 2 {
		t.Errorf("%q, %v", kept, err)
	}
	has(t, s.cleanroom("audit", "verify", "--key", s.key), "is genuine")
}

// TestWitnessSeesAnotherLog: what no job's log told, a witness does.
func TestWitnessSeesAnotherLog(t *testing.T) {
	w := startWitness(t)
	s := showing(t, shownTo(w.URL, w.Key))
	must(t, w.Up(t.Context(), s.key))
	s.grows()
	s.cleanroom("reap")
	older, sawOlder := copied(t, s.dir), copied(t, w.Dir)
	for range 3 { // growth, with its proof
		s.grows()
		s.cleanroom("reap")
	}
	newer, sawNewer := copied(t, s.dir), copied(t, w.Dir)

	// The witness is behind, as one whose disk was restored; what it saw then the log holds.
	w.Down()
	restore(t, w.Dir, sawOlder)
	must(t, w.Up(t.Context(), s.key))
	s.grows()
	s.cleanroom("reap")

	// It is ahead: the log was rolled back, at first without what was kept of the witness.
	w.Down()
	restore(t, w.Dir, sawNewer)
	must(t, w.Up(t.Context(), s.key))
	restore(t, s.dir, older)
	must(t, os.RemoveAll(filepath.Join(s.dir, "witness")))
	s.refused("it signed a checkpoint of 5 records, and the log has 2", "reap")
	restore(t, filepath.Join(s.dir, "witness"), filepath.Join(newer, "witness"))
	s.refused("it signed a checkpoint of 5 records, and the log has 2", "reap")
	s.refused("WRONG: ", "audit", "verify", "--key", s.key)
	must(t, os.RemoveAll(filepath.Join(s.dir, "witness")))
	for range 3 { // as long as the one that it knows, and then longer
		s.grows()
	}
	s.refused("the witness knows another log of this origin and key", "reap")
	s.grows()
	s.refused("the witness knows another log of this origin and key", "reap")
	restore(t, s.dir, newer)
	s.grows()
	s.cleanroom("reap")

	// A key that the witness was not told of, and then was.
	lines := strings.Split(strings.TrimSpace(s.cleanroom("audit", "rotate-key")), "\n")
	key := lines[len(lines)-1]
	s.cleanroom("reap") // of that checkpoint the old key's signature is
	s.grows()
	s.refused("tell its operator the log's key "+key+": ", "reap")
	w.Down()
	must(t, w.Up(t.Context(), key))
	s.cleanroom("reap")
	has(t, s.cleanroom("audit", "verify", "--key", s.key), "is genuine")
}

// TestWitnessThatIsNotTheOne: a signature counts by its key, not by its name.
func TestWitnessThatIsNotTheOne(t *testing.T) {
	w, stranger := startWitness(t), startWitness(t)
	s := showing(t, shownTo(stranger.URL, w.Key))
	must(t, stranger.Up(t.Context(), s.key))
	s.grows()
	s.refused("the witness's answer is not its signature", "reap")
	if kept, err := filepath.Glob(filepath.Join(s.dir, "witness", "*[0-9a-f]")); err != nil || len(kept) != 0 {
		t.Errorf("kept: %q, %v", kept, err)
	}
	has(t, s.cleanroom("audit", "verify", "--key", s.key), "is genuine")
}
