package rig

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
)

// Witness is a real witness of logs (integration/witness), which keeps what it
// saw when it goes down.
type Witness struct {
	URL   string
	Key   string // its public key (Ed25519), as a configuration has it
	MLDSA string // that of the other one with which it signs
	Dir   string // what it saw, and its keys

	listen string
	cmd    *exec.Cmd
}

// StartWitness starts one that knows no log yet. Stop removes all of it.
func StartWitness(ctx context.Context) (*Witness, error) {
	address, err := freeAddress("127.0.0.1")
	if err != nil {
		return nil, err
	}
	w := &Witness{listen: address}
	if w.Dir, err = os.MkdirTemp("", "cleanroom-witness-"); err != nil {
		return nil, err
	}
	if err := w.Up(ctx); err != nil {
		return nil, errors.Join(err, w.Stop())
	}
	return w, nil
}

// Up starts it, or anew, with the logs of these public keys.
func (w *Witness) Up(ctx context.Context, logs ...string) error {
	w.Down()
	binary := os.Getenv("WITNESS_SERVER")
	if binary == "" {
		return errors.New("WITNESS_SERVER is not set: run `make test`, which builds a witness")
	}
	args := []string{"--dir", w.Dir, "--listen", w.listen}
	for _, l := range logs {
		args = append(args, "--log", l)
	}
	c := exec.Command(binary, args...)
	says, err := listening(ctx, c, w.Dir)
	if err != nil {
		return err
	}
	w.cmd = c
	if _, err := fmt.Sscanf(says, "url=%s ed25519=%s mldsa=%s", &w.URL, &w.Key, &w.MLDSA); err != nil {
		return fmt.Errorf("the witness says %q: %w", says, err)
	}
	return nil
}

// Down kills it.
func (w *Witness) Down() {
	if w.cmd != nil {
		end(w.cmd)
		w.cmd = nil
	}
}

// Stop ends it and removes its folder; it may be called twice.
func (w *Witness) Stop() error {
	w.Down()
	return os.RemoveAll(w.Dir)
}
