package executor

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"cleanroom/executor/audit/record"
	"cleanroom/executor/contract"
	"cleanroom/executor/secret"
	"cleanroom/sandbox"
)

// reapable is an engine without rooms of its own.
func (f *fakeEngine) Rooms(context.Context) ([]sandbox.RoomInfo, error) { return nil, nil }

// TestReap: the journal is enough, without the room's key; and a job that
// may still run is left alone.
func TestReap(t *testing.T) {
	j, ledger := withSecrets(t)
	x := j.executor()
	x.Call.Runner = contract.Runner().String()
	if err := x.PrepareStage(t.Context()); err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	r := &Reaper{Config: j.config, Engine: j.engine, Log: x.Log, Out: &out, Full: full}
	if err := r.Reap(t.Context()); err != nil || leases(t, ledger) != 1 || out.Len() > 0 {
		t.Fatalf("while the runner lives: %v, %d leases, %s", err, leases(t, ledger), &out)
	}
	aged(t, j, func(h *secret.Head) { h.Runner.Start++ }) // another process has its number now
	if err := r.Reap(t.Context()); err != nil || leases(t, ledger) != 0 || !strings.Contains(out.String(), testRoom+": removed 2 things, revoked 2 of 2 leases") {
		t.Errorf("%v, %d leases, %s", err, leases(t, ledger), &out)
	}
	if rooms, err := r.Rooms(t.Context()); err != nil || len(rooms) > 0 {
		t.Errorf("%q, %v", rooms, err)
	}

	j, ledger = withSecrets(t)
	j.spec() // with a runner that is not known
	r.Config = j.config
	aged(t, j, func(h *secret.Head) { h.Deadline = time.Now().Add(-time.Second) })
	if err := r.Reap(t.Context()); err != nil || leases(t, ledger) != 1 { // somebody set the clock: the boot's knows better
		t.Errorf("%v, %d leases", err, leases(t, ledger))
	}
	aged(t, j, func(h *secret.Head) { h.Clock = contract.ClockIn(-time.Second) })
	j.config.Providers = nil // the journal knows how
	if err := r.Reap(t.Context()); err != nil || leases(t, ledger) != 0 {
		t.Errorf("%v, %d leases", err, leases(t, ledger))
	}
}

// aged rewrites the head of the room's journal.
func aged(t *testing.T, j *job, change func(*secret.Head)) {
	t.Helper()
	path := filepath.Join(j.config.DataDir, "leases", testRoom+".jsonl")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	first, rest, _ := strings.Cut(string(text), "\n")
	var h secret.Head
	if err := json.Unmarshal([]byte(first), &h); err != nil {
		t.Fatal(err)
	}
	change(&h)
	b, err := json.Marshal(h)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, append(append(b, '\n'), rest...), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestRevokingFails: loudly, and it can be done later.
func TestRevokingFails(t *testing.T) {
	j, ledger := withSecrets(t)
	j.spec()
	revoke := j.config.Providers[1].Exec.Revoke[0]
	text, _ := os.ReadFile(revoke)
	os.WriteFile(revoke, []byte("#!/bin/sh\necho source is away >&2; exit 1\n"), 0o700)
	x := j.executor()
	if err := x.CleanupStage(t.Context()); err == nil || !strings.Contains(err.Error(), "source is away") || len(j.engine.wiped) != 1 || leases(t, ledger) != 1 ||
		!strings.Contains(j.log.String(), "`cleanroom reap` tries again") {
		t.Errorf("%v, %d wiped, %d leases\n%s", err, len(j.engine.wiped), leases(t, ledger), &j.log)
	}
	os.WriteFile(revoke, text, 0o700)
	var out strings.Builder // the runner lives and the deadline is far: that cleanup began is enough
	if err := (&Reaper{Config: j.config, Engine: j.engine, Log: x.Log, Out: &out, Full: full}).Reap(t.Context()); err != nil || leases(t, ledger) != 0 {
		t.Errorf("%v, %d leases, %s", err, leases(t, ledger), &out)
	}
}

// TestPrepareReaps: the next job's prepare ends what a killed runner left, and
// does not touch what may still run, nor what it could not end a moment ago.
func TestPrepareReaps(t *testing.T) {
	j, ledger := withSecrets(t)
	j.spec()
	next := func(room string, wait bool) {
		t.Helper()
		x := j.executor()
		x.Call.Room = room
		x.Call.Variables[SecretsVariable] = ""
		x.Engine = slowEngine{j.engine, func() {
			for end := time.Now().Add(20 * time.Second); wait && leases(t, ledger) > 0; time.Sleep(time.Millisecond) {
				if time.Now().After(end) {
					t.Error("the prepare of the next job ends nothing")
					return
				}
			}
		}}
		if err := x.PrepareStage(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	next("cr-a1b2c3d4e-4712-0123456789", false)
	if n := leases(t, ledger); n != 1 {
		t.Fatalf("%d leases of a job that may still run", n)
	}
	aged(t, j, func(h *secret.Head) { h.Runner = contract.Runner(); h.Runner.Start++ })
	tried := Ending{Room: testRoom, At: time.Now()}
	if err := tried.keep(j.config.DataDir); err != nil {
		t.Fatal(err)
	}
	next("cr-a1b2c3d4e-4713-0123456789", false)
	if n := leases(t, ledger); n != 1 {
		t.Fatalf("%d leases: it was tried again at once", n)
	}
	old := time.Now().Add(-again - time.Second)
	if err := os.Chtimes(filepath.Join(j.config.DataDir, "ended", testRoom+".jsonl"), old, old); err != nil {
		t.Fatal(err)
	}
	next("cr-a1b2c3d4e-4714-0123456789", true)
	all, err := Endings(j.config.DataDir, testRoom)
	if err != nil || len(all) != 2 || all[1].Why != "its runner is gone" || !all[1].Complete || len(all[1].Leases) != 2 {
		t.Errorf("%+v, %v", all, err)
	}
	unseen(t, j)
}

// slowEngine makes no room before something else has happened.
type slowEngine struct {
	*fakeEngine
	wait func()
}

func (e slowEngine) Make(ctx context.Context, s sandbox.Spec, w io.Writer) error {
	e.wait()
	return e.fakeEngine.Make(ctx, s, w)
}

// TestEvidenceThatIsNotKept: a room whose end nobody could write down stays on
// the books.
func TestEvidenceThatIsNotKept(t *testing.T) {
	j, ledger := withSecrets(t)
	j.spec()
	ended := filepath.Join(j.config.DataDir, "ended")
	if err := os.WriteFile(ended, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	x := j.executor()
	if err := x.CleanupStage(t.Context()); err == nil || !strings.Contains(err.Error(), "evidence of the wipe") || leases(t, ledger) != 0 {
		t.Errorf("%v, %d leases", err, leases(t, ledger))
	}
	if err := os.Remove(ended); err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	r := &Reaper{Config: j.config, Engine: j.engine, Log: x.Log, Out: &out, Full: full}
	if err := r.Reap(t.Context()); err != nil || !strings.Contains(out.String(), testRoom) {
		t.Errorf("%v, %s", err, &out)
	}
	if all, err := Endings(j.config.DataDir, testRoom); err != nil || len(all) != 1 || !all[0].Complete {
		t.Errorf("%+v, %v", all, err)
	}
}

// What waits for the log is appended, or its failure said, with no room there.
func TestReapDrains(t *testing.T) {
	j := newJob(t, "19.3")
	log := &kept{err: errors.New("no space")}
	x := j.audited(log)
	r := &Reaper{Config: j.config, Engine: j.engine, Log: x.Log, Out: io.Discard, Audit: x.Audit}
	n, err := x.Audit.Announce(record.OfSecret, "secret set", false, func(r *record.Record) {
		r.Secret = &record.Change{Name: "npm", Provider: "store", Action: "set"}
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := n.Done(func(r *record.Record) { r.Secret.Version = "2" }); err != nil {
		t.Fatal(err)
	}
	if err := r.Reap(t.Context()); !errors.Is(err, log.err) {
		t.Error(err)
	}
	log.err = nil
	if err := r.Reap(t.Context()); err != nil {
		t.Error(err)
	}
	if one := log.only(t, record.OfSecret); one.Secret.Version != "2" || one.By.UID != os.Getuid() || one.Host.Cleanroom != "1.2.3" {
		t.Errorf("%+v", one)
	}
}
