package executor

import (
	"bytes"
	"errors"
	"path/filepath"
	"testing"

	"golang.org/x/mod/sumdb/tlog"

	"cleanroom/executor/audit/checkpoint"
	"cleanroom/executor/audit/key"
)

// TestEveryPrepareShowsTheCheckpoint: the log of a job that is refused, or
// whose room cannot be made, bears witness like any other, once.
func TestEveryPrepareShowsTheCheckpoint(t *testing.T) {
	errAway := errors.New("away")
	signer, err := key.Create(filepath.Join(t.TempDir(), "key"), "ci.test/audit")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name   string
		change func(*job, *Executor)
		err    error
		blocks int
	}{
		{"made", func(*job, *Executor) {}, nil, 1},
		{"denied", func(j *job, x *Executor) { x.Config.Images.Allowed = []string{"other"} }, ErrDenied, 1},
		{"secret denied", func(j *job, x *Executor) { x.Call.Variables[SecretsVariable] = "NO_SUCH" }, ErrDenied, 1},
		{"no room", func(j *job, x *Executor) { j.engine.err = errAway }, errAway, 1},
		{"no checkpoint", func(j *job, x *Executor) {
			x.Audit.Checkpoint = func() (checkpoint.Checkpoint, error) { return checkpoint.Checkpoint{}, errAway }
		}, errAway, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			j, _ := withSecrets(t)
			x := j.audited(&kept{})
			asked := 0
			x.Audit.Checkpoint = func() (checkpoint.Checkpoint, error) {
				asked++
				return checkpoint.Sign("ci.test/audit", tlog.Tree{N: 7}, signer)
			}
			c.change(j, x)
			if err := x.PrepareStage(t.Context()); !errors.Is(err, c.err) {
				t.Fatal(err)
			}
			found, _, err := checkpoint.Scan(bytes.NewReader(j.out.Bytes()))
			if err != nil || len(found) != c.blocks || len(found) > 0 && found[0].Err != nil {
				t.Errorf("%d blocks, %v:\n%s", len(found), err, &j.out)
			}
			if asked > 1 {
				t.Errorf("asked %d times", asked)
			}
		})
	}
}
